//! Decides how the notes that a gateway has come to believe are kept: each in a file of its own in the store's folder,
//! replaced whole. Never believes them when they are read again: their signatures are asked anew.

#![allow(clippy::disallowed_methods, reason = "reads and lists its own files")]

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::directory::notes::{Carried, Kind};
use crate::directory::{Decisions, DecisionsError, dashed};
use crate::keys::{self, KeyFileError};
use crate::party::Member;

/// The folder of kept notes.
#[derive(Debug, Clone)]
pub struct Notes {
    folder: PathBuf,
}

/// Notes could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum NotesError {
    #[error("{folder}: {source}")]
    Folder { folder: PathBuf, source: std::io::Error },
    #[error(transparent)]
    File(#[from] KeyFileError),
    #[error("{path}: {source}")]
    Decisions { path: PathBuf, source: DecisionsError },
}

/// The file of what our own people decided about members, beside the notes.
const DECISIONS: &str = "decisions.json";

impl Notes {
    /// The notes kept in the store's folder `data`; the folder for them is made when it is missing.
    ///
    /// # Errors
    /// What the file system says.
    pub fn in_folder(data: &Path) -> Result<Notes, NotesError> {
        let folder = data.join("notes");
        match DirBuilder::new().recursive(true).mode(0o700).create(&folder) {
            Ok(()) => Ok(Notes { folder }),
            Err(source) => Err(NotesError::Folder { folder, source }),
        }
    }

    /// Puts a note in the place of the one of its kind and owner. Durable on return; after a crash the one or the other is
    /// there, whole.
    ///
    /// # Errors
    /// What the file system says; the older one is still there.
    pub fn keep(&self, note: &Carried) -> Result<(), NotesError> {
        let owner = note.owner.as_ref().map_or_else(|| "alliance".to_owned(), dashed);
        let path = self.folder.join(format!("{}.{owner}.{}.note", note.kind, note.version));
        keys::replace_public(&path, note.note.as_bytes())?;
        for (older, _) in self.files()?.into_iter().filter(|(other, named)| *other != path && named.of_one_kind(note)) {
            // Left behind, it is read again and found older: nothing but a file too many.
            let _ = std::fs::remove_file(older);
        }
        Ok(())
    }

    /// Everything that was kept, what tells the keys first, older versions before newer ones.
    ///
    /// # Errors
    /// What the file system says. A file of another name is let lie.
    pub fn all(&self) -> Result<Vec<Carried>, NotesError> {
        let mut notes = Vec::new();
        for (path, named) in self.files()? {
            notes.push(Carried { note: keys::read_text(&path)?, ..named });
        }
        let place = |note: &Carried| Kind::ALL.into_iter().position(|kind| kind == note.kind);
        notes.sort_by_key(|note| (place(note), note.owner.clone(), note.version));
        Ok(notes)
    }

    /// What our own people decided about members; nothing where no file says so.
    ///
    /// # Errors
    /// A file that cannot be read: what was decided must not be forgotten.
    pub fn decisions(&self) -> Result<Decisions, NotesError> {
        let path = self.folder.join(DECISIONS);
        match keys::read_text(&path) {
            Err(KeyFileError::Missing { .. }) => Ok(Decisions::default()),
            Err(fault) => Err(fault.into()),
            Ok(text) => Decisions::from_json(&text).map_err(|source| NotesError::Decisions { path, source }),
        }
    }

    /// Keeps what was decided, in the place of what was decided before. Durable on return; after a crash the one or the other
    /// is there, whole.
    ///
    /// # Errors
    /// What the file system says; the older ones are still there.
    pub fn decide(&self, decisions: &Decisions) -> Result<(), NotesError> {
        let path = self.folder.join(DECISIONS);
        let text = decisions.to_json().map_err(|source| NotesError::Decisions { path: path.clone(), source })?;
        Ok(keys::replace_public(&path, text.as_bytes())?)
    }

    /// The files of notes, with what their names say.
    fn files(&self) -> Result<Vec<(PathBuf, Carried)>, NotesError> {
        let fault = |source| NotesError::Folder { folder: self.folder.clone(), source };
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries.collect::<Result<Vec<_>, _>>().map_err(fault)?,
            Err(source) if source.kind() == ErrorKind::NotFound => vec![],
            Err(source) => return Err(fault(source)),
        };
        let named = |path: PathBuf| {
            let named = named(path.file_name()?.to_str()?)?;
            Some((path, named))
        };
        Ok(entries.into_iter().filter_map(|entry| named(entry.path())).collect())
    }
}

impl Carried {
    fn of_one_kind(&self, other: &Carried) -> bool {
        (self.kind, &self.owner) == (other.kind, &other.owner)
    }
}

/// What a file's name says: `<kind>.<owner>.<version>.note`. A hub's name may have dots of its own.
fn named(file: &str) -> Option<Carried> {
    let (kind, rest) = file.strip_suffix(".note")?.split_once('.')?;
    let (owner, version) = rest.rsplit_once('.')?;
    let owner = match owner.strip_prefix("hub-") {
        _ if owner == "alliance" => None,
        Some(hub) => Some(Member::Hub(hub.parse().ok()?)),
        None => Some(Member::City(owner.parse().ok()?)),
    };
    Some(Carried { kind: kind.parse().ok()?, owner, version: version.parse().ok()?, note: String::new() })
}
