//! Decides how a store is copied while a gateway serves from it, and whether such a copy is whole: SQLite's own words, the
//! tree under its checkpoint, every leaf under its hash, every message under its first receipt. Never changes what it reads.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};

use super::inspect::inspect;
use super::open::{OpenError, newest_schema};
use super::{Error, read};
use crate::evidence::Evidence;
use crate::limits::COPY_STEP;
use crate::message::Digest;
use crate::party::Division;
use crate::tlog::checkpoint::Checkpoint;

/// Why a store was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] Error),
}

/// What a copy holds, as far as it can be judged without any key.
#[derive(Clone, Debug)]
pub struct Examined {
    pub schema: u32,
    /// Leaves of the log that went on when the copy was made, its root, and the note that signs it; none for an empty log.
    pub size: u64,
    pub root: [u8; 32],
    pub checkpoint: Option<String>,
    /// Messages, each with a first receipt about its own header.
    pub messages: u64,
    /// Messages that wait in a lane.
    pub waiting: u64,
    /// Every attachment that a message refers to, and its size.
    pub attachments: Vec<(Digest, u64)>,
    /// The newest version of the routing tables, and each owner's canonical text.
    pub routes: (u64, Vec<(Division, String)>),
}

/// Copies the store in the folder `from`, as it is now, to the file `to`, which must not exist: one state of it, whatever is
/// committed meanwhile, in small steps with rests between. Durable on return.
///
/// # Errors
/// No store there, or one of another schema; a disk that is full.
pub fn copy(from: &Path, to: &Path) -> Result<(), CopyError> {
    let store = inspect(from)?;
    // Made by us first, so that it is nobody else's to read from its first byte on.
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    made.map_err(|source| OpenError::Io { what: "cannot make", path: to.to_owned(), source })?;
    let copied = store.look(|look| {
        // From the first read on this connection sees one state: the copy never begins anew.
        look.log()?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut target = Connection::open_with_flags(to, flags)?;
        let (pages, rest_ms) = COPY_STEP;
        Backup::new(look.sql, &mut target)?.run_to_completion(pages, Duration::from_millis(rest_ms), None)?;
        target.close().map_err(|(_, error)| error.into())
    });
    Ok(copied?)
}

/// Examines the copy in the folder `folder` without writing there, not even a lock.
///
/// # Errors
/// [`Error::Damaged`] names the first thing that is not as it was written; a schema that this build does not know.
pub fn examine(folder: &Path) -> Result<Examined, CopyError> {
    let path = folder.join("store.db");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let failed = |error| OpenError::Sql(path.clone(), error);
    let sql = Connection::open_with_flags(immutable(&path), flags).map_err(failed)?;
    let newest = "SELECT coalesce(max(version), 0) FROM migration";
    let schema: u32 = sql.query_row(newest, [], |row| row.get(0)).map_err(failed)?;
    let known = newest_schema();
    if schema > known {
        return Err(OpenError::Newer { found: schema, known }.into());
    }
    // An older copy has no place for a second log yet; a gateway of this build has to run on it once.
    if schema < known {
        return Err(OpenError::Older { found: schema, known }.into());
    }
    let told: String = sql.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if told != "ok" {
        return Err(Error::Damaged(told).into());
    }
    Ok(judge(&sql, schema)?)
}

fn judge(sql: &Connection, schema: u32) -> Result<Examined, Error> {
    let (tree, checkpoint) = read::tree(sql)?;
    let claimed = checkpoint.as_deref().map(Checkpoint::claimed).transpose();
    let claimed = claimed.map_err(|error| Error::Damaged(format!("the newest checkpoint: {error}")))?;
    let signed = match &claimed {
        Some(claimed) => (claimed.size, claimed.root) == (tree.size(), tree.root()),
        None => tree.size() == 0,
    };
    if !signed || read::root_at(sql, tree.size())? != tree.root() {
        return Err(Error::Damaged("the tree does not lead to its own checkpoint".to_owned()));
    }
    read::rehash(sql, 0)?;
    let look = super::Snapshot { sql, recent: &super::recent::Recent::default() };
    Ok(Examined {
        schema,
        size: tree.size(),
        root: tree.root().into(),
        checkpoint,
        messages: messages(sql)?,
        waiting: look.waiting()?.values().sum(),
        attachments: look.attachments()?,
        routes: look.routes(None)?,
    })
}

/// Counts the messages; the first receipt of each is about its own header.
fn messages(sql: &Connection) -> Result<u64, Error> {
    let mut statement = sql.prepare(
        "SELECT m.seq, m.header_digest, l.bytes FROM message m LEFT JOIN leaf l ON l.idx = m.first_leaf ORDER BY m.seq",
    )?;
    let (mut rows, mut count) = (statement.query([])?, 0);
    while let Some(row) = rows.next()? {
        let (seq, digest, leaf): (u64, [u8; 32], Option<Vec<u8>>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let evidence = leaf.and_then(|leaf| Evidence::from_leaf(&leaf).ok());
        if evidence.is_none_or(|evidence| evidence.header_digest != Digest(digest)) {
            return Err(Error::Damaged(format!("message {seq} has no receipt of its own")));
        }
        count += 1;
    }
    Ok(count)
}

/// The name by which SQLite opens a file that nobody changes, with no lock and no log beside it.
fn immutable(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    let encode = |byte: &u8| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
    let name: String = std::os::unix::ffi::OsStrExt::as_bytes(absolute.as_os_str()).iter().map(encode).collect();
    format!("file:{name}?immutable=1")
}
