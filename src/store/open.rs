//! Decides whether a store may be opened: by one process, in a form this build knows, unchanged since it was written.
//! Never repairs anything.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use sha2::{Digest as _, Sha256};

use super::backfill::Backfill;
use super::read::Readers;
use super::recent::Recent;
use super::write::Writer;
use crate::limits::{READERS, STATEMENTS_KEPT, WAL_PAGES, WAL_PAGES_MAX};

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("another process uses the store in {0}")]
    InUse(PathBuf),
    #[error("the store has schema {found}, this build knows {known}: use a newer build")]
    Newer { found: u32, known: u32 },
    #[error("the store has schema {found}, this build makes it {known} when a gateway starts on it")]
    Older { found: u32, known: u32 },
    #[error("migration {0} of the store is not the one this build knows")]
    Checksum(u32),
    #[error("SQLite {0} can lose commits; 3.51.3 or newer is needed")]
    Sqlite(&'static str),
    #[error("{what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the store in {0}: {1}")]
    Sql(PathBuf, rusqlite::Error),
}

/// When SQLite syncs. Only `Full` keeps what was answered through a power cut; `Normal` exists so that the durability
/// test can show that it would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Synchronous {
    #[default]
    Full,
    Normal,
}

/// The schema, oldest first; a migration never changes once released.
const MIGRATIONS: &[(u32, &str)] = &[
    (1, include_str!("migrations/0001_spine.sql")),
    (2, include_str!("migrations/0002_roads.sql")),
    (3, include_str!("migrations/0003_upkeep.sql")),
    (4, include_str!("migrations/0004_hands.sql")),
    (5, include_str!("migrations/0005_generations.sql")),
    (6, include_str!("migrations/0006_witnesses.sql")),
    (7, include_str!("migrations/0007_route_texts.sql")),
    (8, include_str!("migrations/0008_retention.sql")),
];

/// Opens the store in `folder`, creating it when it is not there, and brings its schema up to date. A crash inside a
/// migration leaves the schema before it.
///
/// # Errors
/// See [`OpenError`]; nothing is changed then.
pub fn open(folder: &Path, synchronous: Synchronous) -> Result<(Writer, Readers), OpenError> {
    if rusqlite::version_number() < 3_051_003 {
        return Err(OpenError::Sqlite(rusqlite::version()));
    }
    let io = |what, path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { what, path, source }
    };
    std::fs::create_dir_all(folder).map_err(io("cannot create", folder))?;
    let lock = lock(folder)?;
    let path = folder.join("store.db");
    let sql = |error| OpenError::Sql(path.clone(), error);
    let mut connection = connect(&path, OpenFlags::default()).map_err(sql)?;
    let mode = match synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", mode).map_err(sql)?;
    migrate(&mut connection, &path)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("cannot sync", folder))?;
    let reader = || connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX);
    let readers = (0..READERS).map(|_| reader()).collect::<Result<Vec<_>, _>>().map_err(sql)?;
    let database = Arc::new(File::open(&path).map_err(io("cannot open", &path))?);
    let backfill = Backfill::beside(&mut connection, &path, database.clone()).map_err(sql)?;
    let recent = Arc::new(Recent::default());
    Ok((Writer::new(connection, backfill, lock, recent.clone()), Readers::new(readers, recent, Some(database))))
}

/// Holds `lock` in the folder until the file is dropped: two processes on one log would sign two roots for one size.
fn lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| OpenError::Io { what: "cannot open", path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(folder.to_owned())),
        Err(TryLockError::Error(source)) => Err(OpenError::Io { what: "cannot lock", path, source }),
    }
}

pub(super) fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    // A plan is made once, whatever values are bound later. Without this SQLite, built with STAT4, plans a statement anew each
    // time that another value is bound: that was half of the ledger's work.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    if flags.contains(OpenFlags::SQLITE_OPEN_READ_WRITE) {
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "foreign_keys", false)?;
        connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
        // The file is not cut and grown anew each time that it begins anew: its size would be synced too.
        connection.pragma_update(None, "journal_size_limit", WAL_PAGES_MAX * 4_096)?;
    }
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

/// The schema that this build works with.
pub(super) fn newest_schema() -> u32 {
    MIGRATIONS.last().map_or(0, |(version, _)| *version)
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let sql = |error| OpenError::Sql(path.to_owned(), error);
    let table = "CREATE TABLE IF NOT EXISTS migration (version INTEGER PRIMARY KEY, checksum BLOB NOT NULL)";
    connection.execute_batch(table).map_err(sql)?;
    let found: Option<u32> =
        connection.query_row("SELECT max(version) FROM migration", [], |r| r.get(0)).map_err(sql)?;
    let (found, known) = (found.unwrap_or(0), newest_schema());
    if found > known {
        return Err(OpenError::Newer { found, known });
    }
    for (version, text) in MIGRATIONS {
        let checksum: [u8; 32] = Sha256::digest(text).into();
        if *version <= found {
            let stored =
                connection.query_row("SELECT checksum FROM migration WHERE version = ?", [version], |r| r.get(0));
            let stored: Vec<u8> = stored.map_err(sql)?;
            if stored != checksum {
                return Err(OpenError::Checksum(*version));
            }
            continue;
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
        transaction.execute_batch(text).map_err(sql)?;
        transaction.execute("INSERT INTO migration VALUES (?, ?)", (version, checksum)).map_err(sql)?;
        transaction.commit().map_err(sql)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_opening_of_the_same_store_is_refused() {
        let folder = std::env::temp_dir().join(format!("tongban-open-{}", std::process::id()));
        let first = open(&folder, Synchronous::Full).unwrap();
        assert!(matches!(open(&folder, Synchronous::Full), Err(OpenError::InUse(_))));
        drop(first);
        assert!(open(&folder, Synchronous::Full).is_ok());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_store_of_the_release_before_is_brought_up_to_date() {
        let folder = std::env::temp_dir().join(format!("tongban-upgrade-{}", std::process::id()));
        drop(open(&folder, Synchronous::Full).unwrap());
        let sql = || Connection::open(folder.join("store.db")).unwrap();
        let newest = newest_schema();
        let before = "ALTER TABLE lane DROP COLUMN held_at; ALTER TABLE lane DROP COLUMN held_by; \
             ALTER TABLE lane DROP COLUMN held_why; DELETE FROM migration WHERE version >= 4; \
             ALTER TABLE tree DROP COLUMN first; DROP TABLE published; DROP TABLE cosignature; DROP TABLE route_table; \
             DROP INDEX message_body; DROP INDEX message_envelope; \
             CREATE TABLE route_table (owner TEXT, version INTEGER, text TEXT, PRIMARY KEY (owner, version)) WITHOUT ROWID; \
             INSERT INTO route_table VALUES ('440600', 3, '{}')";
        sql().execute_batch(before).unwrap();
        drop(open(&folder, Synchronous::Full).unwrap());
        let columns = "SELECT count(*) FROM pragma_table_info('lane') WHERE name LIKE 'held_%'";
        assert_eq!(sql().query_row(columns, [], |row| row.get(0)), Ok(3));
        assert_eq!(sql().query_row("SELECT max(version) FROM migration", [], |row| row.get(0)), Ok(newest));
        // Only a table that is not ordered by its keys has a rowid.
        let table = "SELECT rowid, owner, version, text FROM route_table";
        let found = sql().query_row(table, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)));
        assert_eq!(found, Ok((1, "440600".to_owned(), 3, "{}".to_owned())));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_newer_or_changed_schema_is_refused() {
        let folder = std::env::temp_dir().join(format!("tongban-schema-{}", std::process::id()));
        drop(open(&folder, Synchronous::Full).unwrap());
        let tamper = |sql: &str| Connection::open(folder.join("store.db")).unwrap().execute_batch(sql).unwrap();
        tamper("INSERT INTO migration VALUES (99, x'00')");
        assert!(
            matches!(open(&folder, Synchronous::Full), Err(OpenError::Newer { found: 99, known }) if known == newest_schema())
        );
        tamper("DELETE FROM migration WHERE version = 99; UPDATE migration SET checksum = x'00'");
        assert!(matches!(open(&folder, Synchronous::Full), Err(OpenError::Checksum(1))));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
