//! Decides what can be seen of a store beside the process that serves from it: schema, log, lanes, room. Never takes the
//! lock for long, never changes a row, and never waits for the writer.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use rusqlite::{OpenFlags, OptionalExtension};

use super::open::{OpenError, connect, newest_schema};
use super::read::{Readers, Snapshot, hold, lane_state};
use super::{Error, Hold, LaneName, LaneState};
use crate::time::Time;

/// Room on the disk that a store stands on.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Bytes that this process may still write.
    pub free: u64,
    pub read_only: bool,
}

/// What a lane looks like from outside.
#[derive(Clone, Debug)]
pub struct LaneLook {
    pub name: LaneName,
    pub state: LaneState,
    /// Who paused it; none when nobody did.
    pub hold: Option<Hold>,
    /// When the message that waits longest was stored; none when nothing waits.
    pub oldest: Option<Time>,
}

/// Opens the store in `folder` for reading alone, beside a gateway that may be using it.
///
/// # Errors
/// No store there, one of another schema, or one that cannot be read.
pub fn inspect(folder: &Path) -> Result<Readers, OpenError> {
    let path = folder.join("store.db");
    let sql = |error| OpenError::Sql(path.clone(), error);
    // Not opened by hand: to close any descriptor of the file would drop the locks of a gateway in this very process.
    if let Err(source) = std::fs::metadata(&path) {
        return Err(OpenError::Io { what: "cannot open", path, source });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = connect(&path, flags).map_err(sql)?;
    let found: Option<u32> =
        connection.query_row("SELECT max(version) FROM migration", [], |row| row.get(0)).map_err(sql)?;
    let (found, known) = (found.unwrap_or(0), newest_schema());
    if found > known {
        return Err(OpenError::Newer { found, known });
    }
    if found < known {
        return Err(OpenError::Older { found, known });
    }
    Ok(Readers::new(vec![connection], Arc::default(), None))
}

/// Writes a small file beside the store, syncs it and takes it away again: what a commit needs of the disk.
///
/// # Errors
/// What the disk says.
pub fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".probe.{}", std::process::id()));
    let written = OpenOptions::new().create(true).truncate(true).write(true).open(&path).and_then(|mut file| {
        file.write_all(&[0; 4096])?;
        file.sync_all()
    });
    let removed = std::fs::remove_file(&path);
    written.and(removed)
}

/// The room on the disk of this folder.
///
/// # Errors
/// What the disk says.
pub fn room(folder: &Path) -> io::Result<Room> {
    let disk = rustix::fs::statvfs(folder)?;
    let read_only = disk.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
    Ok(Room { free: disk.f_bavail.saturating_mul(disk.f_frsize), read_only })
}

/// Whether a process serves from the store in this folder.
pub fn in_use(folder: &Path) -> bool {
    let lock = OpenOptions::new().write(true).open(folder.join("lock"));
    lock.is_ok_and(|file| matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
}

/// Bytes of the store's write-ahead log; none where there is none.
pub fn wal_bytes(folder: &Path) -> u64 {
    std::fs::metadata(folder.join("store.db-wal")).map_or(0, |wal| wal.len())
}

impl Snapshot<'_> {
    /// Every lane that holds messages, rests, or is held.
    pub fn lanes(&self) -> Result<Vec<LaneLook>, Error> {
        let mut statement = self.sql.prepare_cached(
            "SELECT name, (SELECT m.stored_at FROM message m WHERE m.seq = \
             (SELECT min(q.seq) FROM queue q WHERE q.lane = l.id)) FROM lane l ORDER BY name",
        )?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<u64>>(1)?)))?;
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let look = |(name, oldest): (String, Option<u64>)| {
            let name: LaneName = name.parse()?;
            Ok(LaneLook {
                state: lane_state(self.sql, &name)?,
                hold: hold(self.sql, &name)?,
                name,
                oldest: oldest.map(Time::from_ms),
            })
        };
        rows.into_iter().map(look).collect()
    }

    /// Messages that wait in each lane. Reads a row of each: not for every moment.
    pub fn waiting(&self) -> Result<HashMap<LaneName, u64>, Error> {
        super::read::waiting(self.sql)
    }

    /// Leaves of the log, and the newest checkpoint's note.
    pub fn log(&self) -> Result<(u64, Option<String>), Error> {
        let size = self.sql.query_row("SELECT size FROM tree", [], |row| row.get(0))?;
        let note = self.sql.query_row("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1", [], |row| row.get(0));
        Ok((size, note.optional()?))
    }

    /// When the newest message was stored.
    pub fn newest_message_at(&self) -> Result<Option<Time>, Error> {
        let at = self.sql.query_row("SELECT stored_at FROM message ORDER BY seq DESC LIMIT 1", [], |row| row.get(0));
        Ok(at.optional()?.map(Time::from_ms))
    }

    /// Dead letters that wait for somebody.
    pub fn dead_waiting(&self) -> Result<u64, Error> {
        Ok(self.sql.query_row("SELECT count(*) FROM dead WHERE fate = 0", [], |row| row.get(0))?)
    }
}
