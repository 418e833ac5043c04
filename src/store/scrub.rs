//! Decides whether all that the log stores still says what was signed: leaves against their hashes, hashes against tiles and
//! root. Goes piece by piece, so that nobody waits for it, and never mends.

use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::Error;
use super::read::{Snapshot, checkpoint, first_place, tile_place};
use crate::keys::{self, KeyFileError};
use crate::time::Time;
use crate::tlog::checkpoint::Checkpoint;
use crate::tlog::tree::Tree;
use crate::tlog::{Hash, leaf_hash};

/// A walk over the log that goes on, from its first leaf to where it ended when the walk began.
#[derive(Debug)]
pub struct Scrub {
    first: u64,
    size: u64,
    tree: Tree,
}

impl Scrub {
    /// Leaves that it walks over.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Snapshot<'_> {
    /// Begins a walk.
    pub fn scrub(&self) -> Result<Scrub, Error> {
        Ok(Scrub { first: first_place(self.sql)?, size: self.log()?.0, tree: Tree::empty() })
    }

    /// Walks over the next `count` leaves; whether there are more. At the end the root must be the one that was signed.
    ///
    /// # Errors
    /// [`Error::Damaged`] names what is not what it was.
    pub fn scrub_on(&self, scrub: &mut Scrub, count: u64) -> Result<bool, Error> {
        let from = scrub.tree.size();
        let to = scrub.size.min(from + count);
        let appended = scrub.tree.append(&self.hashes_that_hold(scrub.first, from, to)?);
        let mut statement = self.sql.prepare_cached("SELECT hash FROM tile WHERE level = ? AND idx = ?")?;
        for root in &appended.tiles {
            let place = tile_place(root.level, scrub.first) + root.index;
            let stored = statement.query_row(params![root.level, place], hash).optional()?;
            if stored != Some(root.hash) {
                let (level, index) = (root.level, root.index);
                return Err(Error::Damaged(format!("tile {index} of level {level} is not over its leaves")));
            }
        }
        if to < scrub.size || to == 0 {
            return Ok(to < scrub.size);
        }
        let signed = checkpoint(self.sql, scrub.first + to)?.and_then(|note| Checkpoint::claimed(&note).ok());
        match signed.is_some_and(|signed| signed.size == to && signed.root == scrub.tree.root()) {
            true => Ok(false),
            false => Err(Error::Damaged(format!("the {to} leaves have not the root that was signed"))),
        }
    }

    /// The hashes of these leaves, none missing, each that of its bytes where retention has left them.
    fn hashes_that_hold(&self, first: u64, from: u64, to: u64) -> Result<Vec<Hash>, Error> {
        let mut statement =
            self.sql.prepare_cached("SELECT hash, bytes FROM leaf WHERE idx >= ? AND idx < ? ORDER BY idx")?;
        let mut rows = statement.query([first + from, first + to])?;
        let mut hashes = Vec::with_capacity((to - from) as usize);
        while let Some(row) = rows.next()? {
            let (stored, bytes) = (hash(row)?, row.get::<_, Option<Vec<u8>>>(1)?);
            if bytes.is_some_and(|bytes| leaf_hash(&bytes) != stored) {
                let index = from + hashes.len() as u64;
                return Err(Error::Damaged(format!("leaf {index} is not what its hash says")));
            }
            hashes.push(stored);
        }
        match hashes.len() as u64 == to - from {
            true => Ok(hashes),
            false => Err(Error::Damaged(format!("leaves are missing between {from} and {to}"))),
        }
    }
}

fn hash(row: &Row<'_>) -> rusqlite::Result<Hash> {
    row.get::<_, [u8; 32]>(0).map(Hash::from)
}

/// How the last walk over the whole log ended, in a file beside the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scrubbed {
    at_ms: u64,
    /// Leaves of the log.
    pub leaves: u64,
    /// What is not what it was.
    pub damage: Option<String>,
}

impl Scrubbed {
    pub fn new(at: Time, leaves: u64, damage: Option<String>) -> Scrubbed {
        Scrubbed { at_ms: at.ms(), leaves, damage }
    }

    pub fn at(&self) -> Time {
        Time::from_ms(self.at_ms)
    }

    /// What stands in the folder; none where no walk has ended, or the file says nothing.
    pub fn read(folder: &Path) -> Option<Scrubbed> {
        let text = keys::read_text(&Scrubbed::file(folder)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Puts it in the place of the one before.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, folder: &Path) -> Result<(), KeyFileError> {
        keys::replace_public(&Scrubbed::file(folder), serde_json::json!(self).to_string().as_bytes())
    }

    fn file(folder: &Path) -> PathBuf {
        folder.join("scrubbed.json")
    }
}
