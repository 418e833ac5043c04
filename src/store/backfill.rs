//! Decides when the write-ahead log is copied into the database: by a thread beside the ledger, which itself waits only for the
//! little that came meanwhile, and at the end. What is in the log is durable before and after. Never lets the log grow beyond
//! its bound, and never copies once a commit has failed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags};

use super::open::connect;
use crate::limits::{WAL_PAGES, WAL_PAGES_MAX};

/// Nothing to copy; the thread copies; it has copied all that was there when it began; nothing is copied any more.
const IDLE: u8 = 0;
const COPYING: u8 = 1;
const COPIED: u8 = 2;
const OVER: u8 = 3;

/// The thread beside a writer. It ends when the writer's hook is taken away.
#[derive(Debug)]
pub(super) struct Backfill {
    thread: Option<JoinHandle<()>>,
    stage: Arc<AtomicU8>,
}

impl Backfill {
    /// Sets a thread beside the connection that writes.
    pub fn beside(writer: &mut Connection, path: &Path) -> rusqlite::Result<Backfill> {
        let copier = connect(path, OpenFlags::default())?;
        let (bell, rung) = sync_channel::<()>(1);
        let stage = Arc::new(AtomicU8::new(IDLE));
        let seen = stage.clone();
        let work = move || {
            while rung.recv().is_ok() && seen.load(Ordering::Acquire) == COPYING {
                copy(&copier);
                let _ = seen.compare_exchange(COPYING, COPIED, Ordering::AcqRel, Ordering::Acquire);
            }
        };
        let thread = std::thread::Builder::new().name("backfill".to_owned()).spawn(work).ok();
        let alone = thread.is_none();
        let told = stage.clone();
        // A fault here must not look like a fault of the commit, which is on disk.
        writer.wal_hook(Some(move |log: &mut Wal, pages: std::ffi::c_int| {
            let pages = u32::try_from(pages).unwrap_or(0);
            if pages < WAL_PAGES || told.load(Ordering::Acquire) == OVER {
                return Ok(());
            }
            if alone || pages >= WAL_PAGES_MAX || told.load(Ordering::Acquire) == COPIED {
                // The rest, after which the log begins anew.
                let _ = log.checkpoint();
                let _ = told.compare_exchange(COPIED, IDLE, Ordering::AcqRel, Ordering::Acquire);
            } else if told.compare_exchange(IDLE, COPYING, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                let _ = bell.try_send(());
            }
            Ok(())
        }))?;
        Ok(Backfill { thread, stage })
    }

    /// A commit has failed, and what the disk holds of it is unknown: after a sync that failed, pages may count as written that
    /// are not. From now on the log stays as it is, for the next opening to read; closing the writer copies nothing either.
    pub fn give_up(&self, writer: &Connection) {
        self.stage.store(OVER, Ordering::Release);
        // It only sets a flag of the connection.
        let _ = writer.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    }

    /// Ends the thread, and copies what is left, so that the next start reads little of it; the connection is the writer's.
    /// Should a reader close last, the log stays as a file; nothing depends on that.
    pub fn end(&mut self, writer: &mut Connection) {
        // With its hook goes the way to the thread.
        let _ = writer.wal_hook(None::<fn(&mut Wal, std::ffi::c_int) -> rusqlite::Result<()>>);
        let _ = self.thread.take().map(JoinHandle::join);
        if self.stage.load(Ordering::Acquire) != OVER {
            copy(writer);
        }
    }
}

/// Copies what no reader needs in the log. What cannot be copied now is copied later: the log holds everything.
fn copy(connection: &Connection) {
    let _ = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
}
