//! Decides how a backup becomes a gateway again: verified before anything is written, in an empty place, under a new log that
//! closes the old one with its first leaf. Never signs with the old log's key, and does not even put it in place: whoever
//! has that key and an older tree could sign two roots for one size.

use std::path::{Path, PathBuf};

use super::manifest::Manifest;
use super::take::checkpoint;
use super::{
    BackupError, CONFIG, Known, STORE, at, copy_file, empty_place, faults, folder, known, sync_folders, unused,
};
use crate::config::Config;
use crate::directory::notes::{Carried, Kind};
use crate::directory::{Generation, MemberRecord, log_origin_prefix, member_key_name};
use crate::keys::{self, Seed};
use crate::ledger::{Answer, Core, Entry};
use crate::message::Digest;
use crate::receipt::Receipt;
use crate::routing::Issued;
use crate::store::{self, Examined, Mark, Notes, Synchronous};
use crate::succession::Closed;
use crate::time::Time;
use crate::tlog::note::{SigningKey, VerifyingKey};

/// What is to be restored, and where to.
#[derive(Clone, Debug)]
pub struct Order {
    /// The backup's folder.
    pub from: PathBuf,
    /// The new gateway's folder; it is made, or is empty.
    pub to: PathBuf,
    /// File of the member's key, which signs the statement that makes the new log known; without it the member's next record
    /// has to list the new log's key.
    pub member_key: Option<PathBuf>,
    /// The new log's generation, where the next free one is known to be taken: this backup was restored before.
    pub generation: Option<u64>,
    /// Verify and say what would be done; write nothing.
    pub dry_run: bool,
}

/// What was restored, or would be.
#[derive(Debug)]
pub struct Restored {
    pub manifest: Manifest,
    /// The new log's name.
    pub origin: String,
    /// Its key; none on a dry run.
    pub log_key: Option<VerifyingKey>,
    /// The receipt of its first leaf, which closes the old log; none on a dry run.
    pub closing: Option<Receipt>,
    /// Version of the statement that makes the new log known; none without the member's key.
    pub statement: Option<u64>,
    /// Logs before the old one that the member's record does not list: their receipts stop verifying.
    pub unlisted: Vec<String>,
}

/// The folder in which the restored gateway tells how its log began.
const SUCCESSION: &str = "succession";

/// Restores a backup: identity, store and log, under a new generation. Durable on return; the configuration is written last, so
/// that nothing starts on a half. Blocks.
///
/// # Errors
/// See [`BackupError`]. Whatever the backup itself is at fault for is found before the first write.
pub fn restore(order: &Order, now: Time) -> Result<Restored, BackupError> {
    let manifest = Manifest::check(&order.from)?;
    let backed_up = config(&order.from)?;
    let examined = examine(&order.from, &manifest)?;
    let before = known(&backed_up, &order.from.join(STORE))?;
    checkpoint(&examined, &before.log)?;
    let next = Next::of(&backed_up, &before, &examined, order)?;
    let member_key = order.member_key.as_ref().map(|path| member_key(&backed_up, &before, path)).transpose()?;
    let mut restored = Restored {
        manifest,
        origin: next.origin.clone(),
        log_key: None,
        closing: None,
        statement: None,
        unlisted: unlisted(&before, &backed_up),
    };
    if order.dry_run {
        unused(&order.to)?;
        restored.statement = member_key.map(|_| next.statement);
        return Ok(restored);
    }
    place(order, &restored.manifest, &backed_up)?;
    let log = new_log(&order.to.join(relative(&backed_up.log_key, &order.from)), &next.origin)?;
    let log_key = log.verifying_key().clone();
    restored.closing = Some(begin(&order.to, &backed_up, log, next.closed.clone(), now)?);
    restored.log_key = Some(log_key.clone());
    if let Some(key) = member_key {
        state(order, &backed_up, &next, log_key, &key, now)?;
        restored.statement = Some(next.statement);
    }
    tell(&order.to, &restored, before.log.verifying_key())?;
    sync_folders(&order.to)?;
    let text = keys::read_public(&order.from.join(CONFIG))?;
    keys::write_secret(&order.to.join(CONFIG), &text)?;
    Ok(restored)
}

/// The configuration in a backup; all that it points at lies in there.
fn config(from: &Path) -> Result<Config, BackupError> {
    let text = keys::read_text(&from.join(CONFIG))?;
    Config::parse(&text, from).map_err(|found| faults(&found))
}

/// The store in a backup is whole, is what the manifest says, and has all that its messages refer to.
fn examine(from: &Path, manifest: &Manifest) -> Result<Examined, BackupError> {
    let inner = from.join(STORE);
    let examined = store::examine(&inner)?;
    if (examined.size, hex::encode(examined.root)) != (manifest.log.size, manifest.log.root.clone()) {
        return Err(BackupError::Manifest("the store holds another log".to_owned()));
    }
    for (digest, bytes) in &examined.attachments {
        let (name, blob) = (hex::encode(digest.0), crate::blobs::place(Path::new("store/attachments"), digest));
        let listed = manifest.files.iter().find(|file| Path::new(&file.path) == blob);
        let there = listed.is_some_and(|file| file.sha256 == name && file.bytes == *bytes);
        if !there && !manifest.gone.contains(&name) {
            return Err(BackupError::Attachment(name));
        }
    }
    for (owner, text) in &examined.routes.1 {
        let read = Issued::from_json(text).map(drop);
        read.map_err(|fault| BackupError::Manifest(format!("the routing table of {}: {fault}", owner.as_str())))?;
    }
    Ok(examined)
}

/// The log that follows.
struct Next {
    origin: String,
    closed: Closed,
    /// The old log's newest checkpoint, as far as the backup knows.
    last_checkpoint: Option<String>,
    /// Version of the statement about it.
    statement: u64,
}

impl Next {
    fn of(config: &Config, before: &Known, examined: &Examined, order: &Order) -> Result<Next, BackupError> {
        let old = before.log.verifying_key().name();
        let (instance, _) = old.rsplit_once('/').unwrap_or((old, ""));
        let record = before.directory.member(&config.member);
        let keys = record.map(|record| record.log_keys.as_slice()).unwrap_or_default();
        let newest = keys.iter().filter_map(|key| generation(key.name(), instance)).max().unwrap_or(0);
        let (next, number) = (newest + 1, order.generation.unwrap_or(newest + 1));
        let origin = format!("{instance}/{number}");
        if number < next {
            return Err(BackupError::Generation { origin, next });
        }
        let place = (Kind::Generation, Some(config.member.clone()));
        let stated = before.board.note(&place).map_or(0, |note| note.version);
        let closed = Closed { origin: old.to_owned(), size: examined.size, root: Digest(examined.root) };
        let last_checkpoint = examined.checkpoint.clone();
        Ok(Next { origin, closed, last_checkpoint, statement: number.max(stated + 1) })
    }
}

/// The generation of a log of this instance; none for another's.
fn generation(origin: &str, instance: &str) -> Option<u64> {
    origin.strip_prefix(instance)?.strip_prefix('/')?.parse().ok()
}

/// Logs that only the statement before this one made known: its successor takes its place.
fn unlisted(before: &Known, config: &Config) -> Vec<String> {
    let prefix = log_origin_prefix(&config.alliance, &config.member);
    let place = (Kind::MemberRecord, Some(config.member.clone()));
    let held = before.board.note(&place);
    let entry = before.directory.entry(&config.member);
    let note = held.map(|held| held.note).or_else(|| entry.map(|entry| entry.note.clone()));
    let record = entry.zip(note).and_then(|(entry, note)| MemberRecord::open(&note, &entry.member_key).ok());
    let listed = |key: &&VerifyingKey| record.as_ref().is_none_or(|record| record.log_keys.contains(key));
    let now = entry.map(|entry| entry.record.log_keys.as_slice()).unwrap_or_default();
    let lost = now.iter().filter(|key| !listed(key)).map(|key| key.name().to_owned());
    lost.filter(|name| name.starts_with(&prefix)).collect()
}

fn member_key(config: &Config, before: &Known, path: &Path) -> Result<SigningKey, BackupError> {
    let wrong = || BackupError::MemberKey(config.member.clone());
    let seed = keys::read_seed(path)?;
    let key = SigningKey::from_seed(&member_key_name(&config.alliance, &config.member), seed.bytes());
    let key = key.map_err(|_| wrong())?;
    let known = before.directory.entry(&config.member).is_some_and(|entry| entry.member_key == *key.verifying_key());
    if known { Ok(key) } else { Err(wrong()) }
}

/// Where a file of the backup lies in it.
fn relative(path: &Path, from: &Path) -> PathBuf {
    path.strip_prefix(from).unwrap_or(path).to_owned()
}

/// Puts every file in place but the old log's key, and the configuration, which comes last.
fn place(order: &Order, manifest: &Manifest, config: &Config) -> Result<(), BackupError> {
    empty_place(&order.to)?;
    let old_key = relative(&config.log_key, &order.from);
    let stays = |path: &str| Path::new(path) == old_key || path == CONFIG;
    for file in manifest.files.iter().filter(|file| !stays(&file.path)) {
        copy_file(&order.from.join(&file.path), &order.to.join(&file.path), file.mode()?)?;
    }
    sync_folders(&order.to)
}

fn new_log(path: &Path, origin: &str) -> Result<SigningKey, BackupError> {
    let seed = Seed::generate()?;
    keys::write_seed(path, &seed)?;
    let unnamed = |fault: crate::tlog::note::KeyError| BackupError::Config(format!("{origin}: {fault}"));
    SigningKey::from_seed(origin, seed.bytes()).map_err(unnamed)
}

/// Begins the new log in the restored store: its first leaf closes the old one.
fn begin(to: &Path, config: &Config, log: SigningKey, closed: Closed, now: Time) -> Result<Receipt, BackupError> {
    let data = to.join(STORE);
    let (mut writer, _) = store::open(&data, Synchronous::Full)?;
    writer.begin_next_log()?;
    let mut core = Core::open(writer, Mark::in_folder(&data), log, config.member.clone())?;
    let (answers, _) = core.apply(now, vec![Entry::Succeed(Box::new(closed))])?;
    core.write_mark(now);
    match answers.into_iter().next() {
        Some(Answer::Settled(Some(receipt))) => Ok(receipt),
        _ => Err(crate::store::Error::Failed("the closing leaf has no receipt".to_owned()).into()),
    }
}

/// Signs that the log goes on, and keeps that among the notes of the restored gateway.
fn state(
    order: &Order,
    config: &Config,
    next: &Next,
    log_key: VerifyingKey,
    member_key: &SigningKey,
    now: Time,
) -> Result<(), BackupError> {
    let statement = Generation {
        alliance: config.alliance.clone(),
        member: config.member.clone(),
        version: next.statement,
        issued_at: now,
        log_key,
        last_checkpoint: next.last_checkpoint.clone(),
    };
    let note = statement.sign(member_key)?;
    let (kind, owner) = (Kind::Generation, Some(config.member.clone()));
    let carried = Carried { kind, owner, version: next.statement, note };
    // Judged and kept by the board that the restored gateway will have.
    let text = keys::read_text(&order.to.join(relative(&config.alliance_key, &order.from)))?;
    let key = VerifyingKey::parse(text.trim_end()).map_err(|fault| BackupError::Config(fault.to_string()))?;
    let directory = keys::read_text(&order.to.join(relative(&config.directory, &order.from)))?;
    let notes = Notes::in_folder(&order.to.join(STORE))?;
    let board = crate::noticeboard::Noticeboard::open(key, directory, notes, Box::new(|_, _| Ok(())))?;
    board.offer(&carried)?;
    let told = order.to.join(SUCCESSION);
    folder(&told)?;
    Ok(keys::replace_public(&told.join("generation.note"), carried.note.as_bytes())?)
}

/// Writes down how the log began, for whoever asks later: the closing leaf, its proof, and the keys of both logs.
fn tell(to: &Path, restored: &Restored, old: &VerifyingKey) -> Result<(), BackupError> {
    let told = to.join(SUCCESSION);
    folder(&told)?;
    let (Some(closing), Some(new)) = (&restored.closing, &restored.log_key) else { return Ok(()) };
    let put = |name: &str, bytes: &[u8]| keys::replace_public(&told.join(name), bytes);
    put("closing.leaf", &closing.leaf)?;
    put("closing.tlog-proof", closing.proof.to_text().as_bytes())?;
    put("trust", format!("{old}\n{new}\n").as_bytes())?;
    std::fs::File::open(&told).and_then(|folder| folder.sync_all()).map_err(at(&told))
}
