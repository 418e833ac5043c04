//! Decides when the write-ahead log is copied into the database: as it grows, in steps that the disk takes beside the commits,
//! by a thread beside the ledger, which itself copies only the last of it, and at the end. What is in the log is durable
//! before and after. Never lets the log grow beyond its bound, and never copies once a sync or a commit has failed.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags, ffi};

use super::open::connect;
use crate::limits::{WAL_PAGES, WAL_PAGES_MAX, WAL_PAGES_STEP};

/// Little to copy; the thread copies; the log is long and little of it is left to copy; nothing is copied any more;
/// nor stored, since what was copied may not have reached the disk.
const IDLE: u8 = 0;
const COPYING: u8 = 1;
const COPIED: u8 = 2;
const OVER: u8 = 3;
const LOST: u8 = 4;

/// The thread beside a writer. It ends when the writer's hook is taken away.
#[derive(Debug)]
pub(super) struct Backfill {
    thread: Option<JoinHandle<()>>,
    stage: Arc<AtomicU8>,
    _database: Arc<File>,
}

impl Backfill {
    /// Sets a thread beside the connection that writes. The file is the database's own, open until the last connection has
    /// closed: with any descriptor of a file its locks of the whole process go.
    pub fn beside(writer: &mut Connection, path: &Path, database: Arc<File>) -> rusqlite::Result<Backfill> {
        let copier = connect(path, OpenFlags::default())?;
        let (bell, rung) = sync_channel::<()>(1);
        let stage = Arc::new(AtomicU8::new(IDLE));
        // Pages of the log as the last commit left it, and as the last copying did.
        let (written, copied) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (seen, log, done, file) = (stage.clone(), written.clone(), copied.clone(), database.clone());
        let work = move || {
            while rung.recv().is_ok() && seen.load(Ordering::Acquire) == COPYING {
                let pages = copy(&copier);
                // SQLite itself syncs the database only when all is copied, and the ledger would wait for all of it.
                if file.sync_data().is_err() {
                    return seen.store(LOST, Ordering::Release);
                }
                let log = log.load(Ordering::Acquire);
                let ripe = log >= WAL_PAGES && log.saturating_sub(pages) <= WAL_PAGES_STEP;
                // Where a reader still needs what is there, the next step is as far away as after any other.
                let before = done.load(Ordering::Acquire);
                done.store(if pages > before { pages } else { log }, Ordering::Release);
                let next = if ripe { COPIED } else { IDLE };
                let _ = seen.compare_exchange(COPYING, next, Ordering::AcqRel, Ordering::Acquire);
            }
        };
        let thread = std::thread::Builder::new().name("backfill".to_owned()).spawn(work).ok();
        let (alone, told) = (thread.is_none(), stage.clone());
        // A fault here must not look like a fault of the commit, which is on disk; the next commit hears of it.
        writer.wal_hook(Some(move |log: &mut Wal, pages: std::ffi::c_int| {
            let pages = u32::try_from(pages).unwrap_or(0);
            written.store(pages, Ordering::Release);
            let rest = match told.load(Ordering::Acquire) {
                OVER | LOST => return Ok(()),
                COPIED => true,
                _ => pages >= if alone { WAL_PAGES } else { WAL_PAGES_MAX },
            };
            if rest {
                // After it the log begins anew.
                if log.checkpoint().is_err_and(|fault| is_of_a_sync(&fault)) {
                    told.store(LOST, Ordering::Release);
                }
                let _ = told.compare_exchange(COPIED, IDLE, Ordering::AcqRel, Ordering::Acquire);
            } else if pages.checked_sub(copied.load(Ordering::Acquire)).unwrap_or(pages) >= WAL_PAGES_STEP
                && told.compare_exchange(IDLE, COPYING, Ordering::AcqRel, Ordering::Acquire).is_ok()
            {
                let _ = bell.try_send(());
            }
            Ok(())
        }))?;
        Ok(Backfill { thread, stage, _database: database })
    }

    /// Whether something that was copied may not have reached the disk. The log holds all of it, for the next opening.
    pub fn has_failed(&self) -> bool {
        self.stage.load(Ordering::Acquire) == LOST
    }

    /// A commit has failed, and what the disk holds of it is unknown: after a sync that failed, pages may count as written that
    /// are not. From now on the log stays as it is, for the next opening to read; closing the writer copies nothing either.
    pub fn give_up(&self, writer: &Connection) {
        self.stage.fetch_max(OVER, Ordering::AcqRel);
        // It only sets a flag of the connection.
        let _ = writer.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    }

    /// Ends the thread, and copies what is left, so that the next start reads little of it; the connection is the writer's.
    /// Should a reader close last, the log stays as a file; nothing depends on that.
    pub fn end(&mut self, writer: &mut Connection) {
        // With its hook goes the way to the thread.
        let _ = writer.wal_hook(None::<fn(&mut Wal, std::ffi::c_int) -> rusqlite::Result<()>>);
        let _ = self.thread.take().map(JoinHandle::join);
        match self.stage.load(Ordering::Acquire) {
            OVER | LOST => self.give_up(writer),
            _ => drop(copy(writer)),
        }
    }
}

/// Whether a sync has failed, so that what was copied before may be lost as well. Whatever else a disk refuses, a full one
/// above all, is not copied and stays in the log.
fn is_of_a_sync(fault: &rusqlite::Error) -> bool {
    fault.sqlite_error().is_some_and(|fault| fault.extended_code == ffi::SQLITE_IOERR_FSYNC)
}

/// Copies what no reader needs in the log: how many of its pages are copied now. What cannot be copied now is copied later:
/// the log holds everything.
fn copy(connection: &Connection) -> u32 {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(2)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sync_that_fails_loses_what_was_copied() {
        let fault = |code| is_of_a_sync(&rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        assert!(fault(ffi::SQLITE_IOERR_FSYNC));
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_BUSY, ffi::SQLITE_IOERR, ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_LOCKED]
        {
            assert!(!fault(code), "{code}");
        }
    }
}
