//! Decides in which order a backup of a gateway is taken, so that it is one state of it whatever happens meanwhile: the store
//! first, then what it refers to. Never waits for the gateway, and never makes it wait.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::flat::{CRLS, flat};
use super::manifest::{KIND, LogState, Manifest};
use super::{
    BackupError, CONFIG, IDENTITY, Known, PUBLIC, SECRET, STORE, at, copy_file, empty_place, faults, folder, known,
    sync_folders,
};
use crate::blobs;
use crate::config::Config;
use crate::directory::dashed;
use crate::keys;
use crate::store::{self, CopyError, Examined, Notes, Sightings};
use crate::time::Time;
use crate::tlog::checkpoint::Checkpoint;

/// A backup that was taken.
#[derive(Debug)]
pub struct Taken {
    pub manifest: Manifest,
    /// Bytes of all files together.
    pub bytes: u64,
}

/// Takes a backup of the gateway that `config` describes, running or not, into the folder `to`, which is made, or is empty.
/// Durable on return. Blocks.
///
/// # Errors
/// See [`BackupError`]; what was begun lies in `to` without a manifest, and is no backup.
pub fn take(config: &Config, to: &Path, now: Time) -> Result<Taken, BackupError> {
    empty_place(to)?;
    let (inner, attachments) = (to.join(STORE), to.join(STORE).join("attachments"));
    folder(&inner)?;
    store::copy(&config.data, &inner.join("store.db"))?;
    let examined = store::examine(&inner)?;
    let mut gone = vec![];
    for (digest, _) in &examined.attachments {
        let (from, to) = (config.data.join("attachments"), blobs::place(&attachments, digest));
        match copy_file(&blobs::place(&from, digest), &to, SECRET) {
            Ok(()) => {}
            Err(BackupError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                // Retention may have taken it since the store was copied; else it is lost, and that must be known now.
                let live = store::inspect(&config.data).map_err(CopyError::from)?;
                if live.look(|look| look.is_attached(digest)).map_err(CopyError::from)? {
                    return Err(BackupError::Attachment(hex::encode(digest.0)));
                }
                gone.push(hex::encode(digest.0));
            }
            Err(other) => return Err(other),
        }
    }
    notes(&config.data, &inner)?;
    sightings(&config.data, &inner)?;
    let Known { directory, log, .. } = known(config, &inner)?;
    let flat = flat(config)?;
    for (from, named) in &flat.files {
        copy_file(from, &to.join(named), mode_of(from)?)?;
    }
    for entry in directory.entries() {
        let (member, from) = (&entry.record.member, config.crls.of(&entry.record.member));
        if from.exists() {
            copy_file(&from, &to.join(CRLS.replace("{member}", &dashed(member))), PUBLIC)?;
        }
    }
    folder(&to.join(IDENTITY))?;
    let origin = log.verifying_key().name();
    checkpoint(&examined, &log)?;
    // What is written must read as what held.
    Config::parse(&flat.text, to).map_err(|found| faults(&found))?;
    keys::write_secret(&to.join(CONFIG), flat.text.as_bytes())?;
    sync_folders(to)?;
    let manifest = Manifest {
        kind: KIND.to_owned(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        schema: examined.schema,
        taken_at: now.to_string(),
        alliance: config.alliance.as_str().to_owned(),
        member: config.member.to_string(),
        log: LogState { origin: origin.to_owned(), size: examined.size, root: hex::encode(examined.root) },
        messages: examined.messages,
        waiting: examined.waiting,
        gone,
        files: vec![],
    };
    let manifest = manifest.seal(to)?;
    Ok(Taken { bytes: manifest.files.iter().map(|file| file.bytes).sum(), manifest })
}

/// The newest checkpoint was signed by the log's own key.
pub(super) fn checkpoint(examined: &Examined, log: &crate::tlog::note::SigningKey) -> Result<(), BackupError> {
    let Some(note) = &examined.checkpoint else { return Ok(()) };
    let opened = Checkpoint::open(note, std::slice::from_ref(log.verifying_key()));
    let origin = log.verifying_key().name().to_owned();
    opened.map(drop).map_err(|fault| BackupError::Checkpoint { origin, why: fault.to_string() })
}

/// Copies the kept notes. One that is replaced while they are read is read again in its new place.
fn notes(from: &Path, to: &Path) -> Result<(), BackupError> {
    let mut tries = 3;
    let kept = loop {
        tries -= 1;
        match Notes::in_folder(from)?.all() {
            Ok(kept) => break kept,
            Err(fault) if tries == 0 => return Err(fault.into()),
            Err(_) => {}
        }
    };
    let notes = Notes::in_folder(to)?;
    notes.decide(&Notes::in_folder(from)?.decisions()?)?;
    kept.iter().try_for_each(|note| notes.keep(note)).map_err(BackupError::from)
}

/// Copies what was seen of other logs: a gateway that is restored must not forget a fork.
fn sightings(from: &Path, to: &Path) -> Result<(), BackupError> {
    let (from, to) = (Sightings::in_folder(from), Sightings::in_folder(to));
    for (origin, note) in from.all()? {
        to.hold(&origin, &note)?;
    }
    for fork in from.forks()? {
        to.keep_fork(&fork)?;
    }
    Ok(())
}

/// Who may read a file goes on as it was, but for what others had no business with.
fn mode_of(path: &Path) -> Result<u32, BackupError> {
    let mode = std::fs::metadata(path).map_err(at(path))?.permissions().mode();
    Ok(if mode & 0o077 == 0 { SECRET } else { PUBLIC })
}
