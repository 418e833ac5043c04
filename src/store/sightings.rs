//! Decides how a witness keeps what it has seen of other logs: for each the newest state that it has cosigned, and for ever
//! the notes that contradict each other. Never judges them.
//!
//! ```text
//! witness/<log>.note               the log's note and our cosignature behind it
//! witness/<log>.behind             a note over fewer leaves than that one, while the log shows no more
//! witness/<log>.<sizes>.fork/      first.note and second.note, which contradict each other, and proof: the hashes of the
//!                                  proof that the log gave from the smaller to the larger, one a line
//! ```
//! In the name of a log a `~` stands for each `/`.

#![allow(clippy::disallowed_methods, reason = "reads and lists its own files")]

use std::fs::DirBuilder;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::keys::{self, KeyFileError};
use crate::tlog::Hash;
use crate::tlog::checkpoint::Checkpoint;

/// The folder of what was seen.
#[derive(Debug, Clone)]
pub struct Sightings {
    folder: PathBuf,
}

/// Two notes of one log that cannot both be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The log's name.
    pub origin: String,
    /// The one that was seen first, cosigned by us.
    pub first: String,
    pub second: String,
    /// What the log gave as proof that the larger grew out of the smaller; empty for two roots at one size.
    pub proof: Vec<Hash>,
}

/// What was seen could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SightingsError {
    #[error("{folder}: {source}")]
    Folder { folder: PathBuf, source: io::Error },
    #[error(transparent)]
    File(#[from] KeyFileError),
}

impl Sightings {
    /// What is kept in the store's folder `data`. Nothing is made before something is kept.
    pub fn in_folder(data: &Path) -> Sightings {
        Sightings { folder: data.join("witness") }
    }

    /// The newest state of a log that was cosigned here.
    ///
    /// # Errors
    /// What the file system says.
    pub fn held(&self, origin: &str) -> Result<Option<String>, SightingsError> {
        read(&self.file(origin, "note"))
    }

    /// Puts a state in the place of the one before. Durable on return; after a crash the one or the other is there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn hold(&self, origin: &str, note: &str) -> Result<(), SightingsError> {
        self.make(&self.folder)?;
        Ok(keys::replace_public(&self.file(origin, "note"), note.as_bytes())?)
    }

    /// The note of a log that shows fewer leaves than it has shown.
    ///
    /// # Errors
    /// What the file system says.
    pub fn behind(&self, origin: &str) -> Result<Option<String>, SightingsError> {
        read(&self.file(origin, "behind"))
    }

    /// Notes down that a log shows fewer leaves, or no longer does.
    ///
    /// # Errors
    /// What the file system says.
    pub fn set_behind(&self, origin: &str, note: Option<&str>) -> Result<(), SightingsError> {
        let path = self.file(origin, "behind");
        match note {
            Some(note) => {
                self.make(&self.folder)?;
                Ok(keys::replace_public(&path, note.as_bytes())?)
            }
            None => match std::fs::remove_file(&path) {
                Err(source) if source.kind() != ErrorKind::NotFound => Err(self.fault(source)),
                _ => Ok(()),
            },
        }
    }

    /// Keeps two notes that contradict each other. Durable on return; nothing here ever takes them away again.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep_fork(&self, fork: &Fork) -> Result<PathBuf, SightingsError> {
        let size = |note: &str| Checkpoint::claimed(note).map_or(0, |claimed| claimed.size);
        let sizes = format!("{}-{}.fork", size(&fork.first), size(&fork.second));
        let folder = self.file(&fork.origin, &sizes);
        self.make(&folder)?;
        let proof: String = fork.proof.iter().map(|hash| format!("{hash}\n")).collect();
        keys::replace_public(&folder.join("first.note"), fork.first.as_bytes())?;
        keys::replace_public(&folder.join("proof"), proof.as_bytes())?;
        // The last: a folder that has it is whole.
        keys::replace_public(&folder.join("second.note"), fork.second.as_bytes())?;
        Ok(folder)
    }

    /// Every log that was seen, with the newest state that was cosigned.
    ///
    /// # Errors
    /// What the file system says.
    pub fn all(&self) -> Result<Vec<(String, String)>, SightingsError> {
        let mut all = Vec::new();
        for name in self.names()? {
            let Some(log) = name.strip_suffix(".note") else { continue };
            if let Some(note) = read(&self.folder.join(&name))? {
                all.push((log.replace('~', "/"), note));
            }
        }
        Ok(all)
    }

    /// The logs that show fewer leaves than they have shown.
    ///
    /// # Errors
    /// What the file system says.
    pub fn all_behind(&self) -> Result<Vec<String>, SightingsError> {
        let names = self.names()?;
        Ok(names.iter().filter_map(|name| Some(name.strip_suffix(".behind")?.replace('~', "/"))).collect())
    }

    /// Every contradiction that was found.
    ///
    /// # Errors
    /// What the file system says.
    pub fn forks(&self) -> Result<Vec<Fork>, SightingsError> {
        let mut forks = Vec::new();
        for name in self.names()? {
            let Some((log, _)) = name.strip_suffix(".fork").and_then(|name| name.rsplit_once('.')) else { continue };
            let folder = self.folder.join(&name);
            let (first, second) = (read(&folder.join("first.note"))?, read(&folder.join("second.note"))?);
            let proof = read(&folder.join("proof"))?.unwrap_or_default();
            let proof = proof.lines().filter_map(Hash::from_base64).collect();
            if let (Some(first), Some(second)) = (first, second) {
                forks.push(Fork { origin: log.replace('~', "/"), first, second, proof });
            }
        }
        Ok(forks)
    }

    fn names(&self) -> Result<Vec<String>, SightingsError> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries.collect::<Result<Vec<_>, _>>().map_err(|source| self.fault(source))?,
            Err(source) if source.kind() == ErrorKind::NotFound => vec![],
            Err(source) => return Err(self.fault(source)),
        };
        let mut names: Vec<_> = entries.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn file(&self, origin: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", origin.replace('/', "~")))
    }

    fn make(&self, folder: &Path) -> Result<(), SightingsError> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|source| self.fault(source))
    }

    fn fault(&self, source: io::Error) -> SightingsError {
        SightingsError::Folder { folder: self.folder.clone(), source }
    }
}

fn read(path: &Path) -> Result<Option<String>, SightingsError> {
    match keys::read_text(path) {
        Ok(text) => Ok(Some(text)),
        Err(KeyFileError::Missing { .. }) => Ok(None),
        Err(fault) => Err(fault.into()),
    }
}
