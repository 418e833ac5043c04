//! Decides when the write-ahead log is copied into the database: by a thread beside the ledger, which itself waits only for the
//! little that came meanwhile. What is in the log is durable before and after. Never lets the log grow beyond its bound.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags};

use super::open::connect;
use crate::limits::{WAL_PAGES, WAL_PAGES_MAX};

/// Nothing to copy; the thread copies; it has copied all that was there when it began.
const IDLE: u8 = 0;
const COPYING: u8 = 1;
const COPIED: u8 = 2;

/// The thread beside a writer. It ends when the writer's hook is taken away.
#[derive(Debug)]
pub(super) struct Backfill(Option<JoinHandle<()>>);

impl Backfill {
    /// Sets a thread beside the connection that writes.
    pub fn beside(writer: &mut Connection, path: &Path) -> rusqlite::Result<Backfill> {
        let copier = connect(path, OpenFlags::default())?;
        let (bell, rung) = sync_channel::<()>(1);
        let stage = Arc::new(AtomicU8::new(IDLE));
        let copied = stage.clone();
        let work = move || {
            while rung.recv().is_ok() {
                // One that cannot be made now is made later: the log holds everything.
                let _ = copier.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
                copied.store(COPIED, Ordering::Release);
            }
        };
        let thread = std::thread::Builder::new().name("backfill".to_owned()).spawn(work).ok();
        let alone = thread.is_none();
        // A fault here must not look like a fault of the commit, which is on disk.
        writer.wal_hook(Some(move |log: &mut Wal, pages: std::ffi::c_int| {
            let pages = u32::try_from(pages).unwrap_or(0);
            if pages < WAL_PAGES {
                return Ok(());
            }
            if alone || pages >= WAL_PAGES_MAX || stage.load(Ordering::Acquire) == COPIED {
                // The rest, after which the log begins anew.
                let _ = log.checkpoint();
                let _ = stage.compare_exchange(COPIED, IDLE, Ordering::AcqRel, Ordering::Acquire);
            } else if stage.compare_exchange(IDLE, COPYING, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                let _ = bell.try_send(());
            }
            Ok(())
        }))?;
        Ok(Backfill(thread))
    }

    /// Ends the thread; the connection is the writer's.
    pub fn end(&mut self, writer: &mut Connection) {
        // With its hook goes the way to the thread.
        let _ = writer.wal_hook(None::<fn(&mut Wal, std::ffi::c_int) -> rusqlite::Result<()>>);
        let _ = self.0.take().map(JoinHandle::join);
    }
}
