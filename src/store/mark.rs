//! Decides how the high-water mark is kept: the newest checkpoint that was shown, in a file of its own beside the
//! database, so that a database put back from yesterday is noticed before it signs. Never decides what to do about it.

#![allow(clippy::disallowed_methods, reason = "writes, syncs and renames")]

use std::fs::{File, rename};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::tlog::note::NOTE_BYTES_MAX;

/// The file of the mark.
#[derive(Debug, Clone)]
pub struct Mark {
    path: PathBuf,
}

/// The mark could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the high-water mark {path}: {source}")]
pub struct MarkError {
    pub path: PathBuf,
    pub source: std::io::Error,
}

impl Mark {
    /// The mark that stands in `folder`.
    pub fn in_folder(folder: &Path) -> Mark {
        Mark { path: folder.join("high-water.note") }
    }

    /// The note of the newest checkpoint that was written down; none in a new store.
    pub fn read(&self) -> Result<Option<String>, MarkError> {
        match std::fs::read(&self.path) {
            Ok(bytes) if bytes.len() <= NOTE_BYTES_MAX => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Ok(_) => Err(self.error(ErrorKind::InvalidData.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error(error)),
        }
    }

    /// Puts `note` in the mark's place: written and synced beside it, then renamed over it.
    pub fn write(&self, note: &str) -> Result<(), MarkError> {
        let new = self.path.with_extension("new");
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let steps = || {
            let mut file = File::create(&new)?;
            file.write_all(note.as_bytes())?;
            file.sync_all()?;
            rename(&new, &self.path)?;
            File::open(folder)?.sync_all()
        };
        steps().map_err(|error| self.error(error))
    }

    fn error(&self, source: std::io::Error) -> MarkError {
        MarkError { path: self.path.clone(), source }
    }
}
