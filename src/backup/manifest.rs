//! Decides what a backup says of itself, and whether it is still what it said. Never names a person, a message or a case: it
//! holds paths, sizes and digests alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{BackupError, SECRET, at};
use crate::keys;
use crate::limits::MANIFEST_BYTES_MAX;

/// What stands in `kind`; another form of backup has another.
pub const KIND: &str = "tongban.backup.v1";
/// The manifest's own file.
pub const FILE: &str = "manifest.json";

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub kind: String,
    /// Version of the program that took it.
    pub program: String,
    /// Schema of the store.
    pub schema: u32,
    /// When it was taken, e.g. 2026-01-31T08:00:00.000Z.
    pub taken_at: String,
    pub alliance: String,
    pub member: String,
    pub log: LogState,
    /// Messages, and those of them that wait in a lane.
    pub messages: u64,
    pub waiting: u64,
    /// Attachments that retention took while the backup was taken, 64 hexadecimal digits each.
    pub gone: Vec<String>,
    pub files: Vec<Listed>,
}

/// How far the log had come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogState {
    /// Its name.
    pub origin: String,
    /// Its leaves.
    pub size: u64,
    /// The root over them, 64 hexadecimal digits.
    pub root: String,
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// From the backup's folder, parted by `/`.
    pub path: String,
    pub bytes: u64,
    /// 64 hexadecimal digits.
    pub sha256: String,
    /// In octal digits, e.g. `0600`.
    pub mode: String,
}

impl Manifest {
    /// Lists what lies in `folder`, read back from there, and writes the manifest there: with it the backup is whole.
    pub(super) fn seal(self, folder: &Path) -> Result<Manifest, BackupError> {
        let files = walk(folder)?.into_keys().map(|path| list(folder, path)).collect::<Result<_, _>>()?;
        let manifest = Manifest { files, ..self };
        let text = serde_json::to_string_pretty(&manifest).map_err(|fault| BackupError::Manifest(fault.to_string()))?;
        keys::write_secret(&folder.join(FILE), text.as_bytes())?;
        Ok(manifest)
    }

    /// Reads the manifest in `folder` and holds every file against it.
    ///
    /// # Errors
    /// The first file that is missing, not listed, changed, or open to others.
    pub fn check(folder: &Path) -> Result<Manifest, BackupError> {
        let manifest = read(folder)?;
        let mut found = walk(folder)?;
        for listed in &manifest.files {
            let Some(mode) = found.remove(&listed.path) else { return Err(BackupError::Missing(listed.path.clone())) };
            if listed.mode()? == SECRET && mode & 0o077 != 0 {
                return Err(BackupError::Mode { path: listed.path.clone(), mode });
            }
            let is = list(folder, listed.path.clone())?;
            let what = match () {
                () if is.bytes != listed.bytes => format!("{} bytes, not {}", is.bytes, listed.bytes),
                () if is.sha256 != listed.sha256 => "other bytes".to_owned(),
                () => continue,
            };
            return Err(BackupError::Differs { path: listed.path.clone(), what });
        }
        match found.into_keys().next() {
            Some(path) => Err(BackupError::Unlisted(path)),
            None => Ok(manifest),
        }
    }
}

impl Listed {
    /// The mode as a number.
    pub(super) fn mode(&self) -> Result<u32, BackupError> {
        let mode = u32::from_str_radix(&self.mode, 8).ok().filter(|mode| *mode <= 0o777);
        mode.ok_or_else(|| BackupError::Manifest(format!("{}: no mode: {:?}", self.path, self.mode)))
    }
}

fn read(folder: &Path) -> Result<Manifest, BackupError> {
    let path = folder.join(FILE);
    let file = File::open(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => BackupError::NoManifest(folder.to_owned()),
        _ => at(&path)(error),
    })?;
    let mut text = String::new();
    let read = file.take(MANIFEST_BYTES_MAX + 1).read_to_string(&mut text).map_err(at(&path))?;
    if read as u64 > MANIFEST_BYTES_MAX {
        return Err(BackupError::Manifest(format!("more than {MANIFEST_BYTES_MAX} bytes")));
    }
    let unread = |fault: serde_json::Error| BackupError::Manifest(fault.to_string());
    // The form is asked first: another one need not read as this one.
    let value: serde_json::Value = serde_json::from_str(&text).map_err(unread)?;
    match value.get("kind").and_then(serde_json::Value::as_str) {
        Some(KIND) => serde_json::from_value(value).map_err(unread),
        other => Err(BackupError::Form(other.unwrap_or_default().to_owned())),
    }
}

/// Every file below a folder but the manifest, with its mode. Only what [`Manifest::check`] finds here is ever copied, so a
/// path of the manifest leads nowhere else.
fn walk(folder: &Path) -> Result<BTreeMap<String, u32>, BackupError> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![String::new()]);
    while let Some(inner) = folders.pop() {
        let path = folder.join(&inner);
        for entry in std::fs::read_dir(&path).map_err(at(&path))? {
            let entry = entry.map_err(at(&path))?;
            let name = format!("{inner}{}", entry.file_name().to_string_lossy());
            let metadata = entry.metadata().map_err(at(&entry.path()))?;
            if metadata.is_dir() {
                folders.push(format!("{name}/"));
            } else if metadata.is_file() {
                files.insert(name, metadata.permissions().mode() & 0o7777);
            } else {
                return Err(BackupError::Unlisted(name));
            }
        }
    }
    files.remove(FILE);
    Ok(files)
}

fn list(folder: &Path, path: String) -> Result<Listed, BackupError> {
    let place = folder.join(&path);
    let mut file = File::open(&place).map_err(at(&place))?;
    let mode = file.metadata().map_err(at(&place))?.permissions().mode() & 0o777;
    let (mut sum, mut bytes, mut buffer) = (Sha256::new(), 0, zeroize::Zeroizing::new(vec![0; 64 << 10]));
    loop {
        match file.read(&mut buffer).map_err(at(&place))? {
            0 => break,
            read => {
                sum.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
    Ok(Listed { path, bytes, sha256: hex::encode(sum.finalize()), mode: format!("{mode:04o}") })
}
