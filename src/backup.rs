//! Decides what a backup of a gateway is made of, and what must hold of one before anything is made of it. A backup is a
//! folder that mirrors the one it restores to, and a manifest that lists it. Never signs anything with an old log's key.
//!
//! ```text
//! manifest.json          every file with its size, SHA-256 and mode; written last
//! tongban.toml           what held, in one file: layers, environment and command line together
//! identity/              certificate, keys, directory, revocation lists
//! store/store.db         one state of the store
//! store/notes/           what members have signed
//! store/witness/         what was seen of other logs
//! store/attachments/     the blobs that messages refer to
//! ```

#![allow(clippy::disallowed_methods, reason = "copies, syncs and lists")]

mod flat;
mod manifest;
mod restore;
mod take;

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

pub use manifest::{Listed, LogState, Manifest};
pub use restore::{Order, Restored, restore};
pub use take::{Taken, take};

use crate::config::{Config, Fault};
use crate::directory::{Directory, RecordError};
use crate::keys::{self, KeyFileError};
use crate::lang::{Zh, io_zh};
use crate::ledger::StartError;
use crate::noticeboard::{BoardError, Noticeboard, OfferError};
use crate::party::Member;
use crate::server::own_log;
use crate::store::{CopyError, Notes, NotesError, OpenError, SightingsError};
use crate::tlog::note::{SigningKey, VerifyingKey};

/// The configuration's file, in a backup and where it is restored.
const CONFIG: &str = "tongban.toml";
/// The store's folder, the same.
const STORE: &str = "store";
/// The folder of certificates, keys and directory, the same.
const IDENTITY: &str = "identity";
/// Modes of files and folders that only their owner may see, and of others.
const SECRET: u32 = 0o600;
const PUBLIC: u32 = 0o644;
const FOLDER: u32 = 0o700;

/// Why a backup is not taken, or not restored. Nothing that was there before has changed then.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{0}: there is something in it already")]
    NotEmpty(PathBuf),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error("the store: {0}")]
    Store(#[from] CopyError),
    #[error("the kept notes: {0}")]
    Notes(#[from] NotesError),
    #[error("what was seen of other logs: {0}")]
    Sightings(#[from] SightingsError),
    #[error("the directory: {0}")]
    Board(#[from] BoardError),
    #[error("the configuration: {0}")]
    Config(String),
    #[error("{0}: no whole backup: manifest.json is missing")]
    NoManifest(PathBuf),
    #[error("manifest.json: {0}")]
    Manifest(String),
    #[error("manifest.json is of form {0:?}, this build reads {expected:?}", expected = manifest::KIND)]
    Form(String),
    #[error("{0}: listed in the manifest, and not there")]
    Missing(String),
    #[error("{0}: there, and not listed in the manifest")]
    Unlisted(String),
    #[error("{path}: not as the manifest lists it: {what}")]
    Differs { path: String, what: String },
    #[error("{path}: mode {mode:04o} lets others than its owner read it; run: chmod 600 {path}")]
    Mode { path: String, mode: u32 },
    #[error("attachment {0}: a message refers to it, and it is not there")]
    Attachment(String),
    #[error("the log key is not among the log keys of {0}'s record")]
    LogKey(Member),
    #[error("the newest checkpoint is not of the log {origin}: {why}")]
    Checkpoint { origin: String, why: String },
    #[error("{origin}: its key or name is taken already; the next free generation is {next}")]
    Generation { origin: String, next: u64 },
    #[error("not the key by which the alliance knows {0}")]
    MemberKey(Member),
    #[error("the statement of the new log: {0}")]
    Statement(#[from] RecordError),
    #[error("the statement of the new log was not believed: {0}")]
    Offer(#[from] OfferError),
    #[error("the restored store: {0}")]
    Open(#[from] OpenError),
    #[error("the restored log: {0}")]
    Start(#[from] StartError),
    #[error("the restored log: {0}")]
    Ledger(#[from] crate::store::Error),
}

impl BackupError {
    /// The same in Chinese.
    pub fn zh(&self) -> String {
        use BackupError as E;
        match self {
            E::NotEmpty(path) => format!("{}：其中已有内容", path.display()),
            E::Io { path, source } => format!("{}：{}", path.display(), io_zh(source)),
            E::Key(fault) => format!("密钥文件：{}", fault.zh()),
            E::Store(fault) => format!("存储：{}", fault.zh()),
            E::Notes(fault) => format!("已保存的文书：{}", fault.zh()),
            E::Sightings(fault) => format!("对其他日志的见证记录：{fault}"),
            E::Board(fault) => format!("名录：{}", fault.zh()),
            E::Config(fault) => format!("配置：{fault:?}"),
            E::NoManifest(path) => format!("{}：不是完整的备份，缺少 manifest.json", path.display()),
            E::Manifest(fault) => format!("manifest.json：{fault:?}"),
            E::Form(form) => format!("manifest.json 的格式为 {form:?}，本版本只读 {:?}", manifest::KIND),
            E::Missing(path) => format!("{path}：清单列有，实际缺失"),
            E::Unlisted(path) => format!("{path}：实际存在，清单未列"),
            E::Differs { path, what } => format!("{path}：与清单不符：{what:?}"),
            E::Mode { path, mode } => format!("{path}：权限 {mode:04o} 使他人可读，请执行 chmod 600 {path}"),
            E::Attachment(digest) => format!("附件 {digest}：有消息引用，但文件缺失"),
            E::LogKey(member) => format!("日志密钥不在 {member} 的成员记录中"),
            E::Checkpoint { origin, why } => format!("最新检查点不属于日志 {origin}：{why:?}"),
            E::Generation { origin, next } => format!("{origin}：名称或密钥已被占用，下一个可用代次为 {next}"),
            E::MemberKey(member) => format!("不是联盟所登记的 {member} 的成员密钥"),
            E::Statement(fault) => format!("新日志声明：{}", fault.zh()),
            E::Offer(fault) => format!("新日志声明未被采信：{:?}", fault.to_string()),
            E::Open(fault) => format!("恢复后的存储：{}", fault.zh()),
            E::Start(fault) => format!("恢复后的日志：{}", fault.zh()),
            E::Ledger(fault) => format!("恢复后的日志：{}", fault.zh()),
        }
    }
}

/// What a gateway is known by: the directory as it holds with what was kept, and its log's key.
struct Known {
    board: Noticeboard,
    directory: Directory,
    log: SigningKey,
}

/// Reads the identity that a configuration names, beside the notes that are kept in `store`.
fn known(config: &Config, store: &Path) -> Result<Known, BackupError> {
    let text = keys::read_text(&config.alliance_key)?;
    let key = VerifyingKey::parse(text.trim_end()).map_err(|fault| BackupError::Config(fault.to_string()))?;
    let notes = Notes::in_folder(store)?;
    let board = Noticeboard::open(key, keys::read_text(&config.directory)?, notes, Box::new(|_, _| Ok(())))?;
    let directory = board.directory();
    let seed = keys::read_seed(&config.log_key)?;
    let record = directory.member(&config.member);
    let log = record.and_then(|record| own_log(record, &seed));
    let log = log.ok_or_else(|| BackupError::LogKey(config.member.clone()))?;
    Ok(Known { board, directory, log })
}

fn faults(faults: &[Fault]) -> BackupError {
    BackupError::Config(faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n"))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Io { path, source }
}

/// Makes a folder that nobody but its owner enters; one that is there must be empty.
fn empty_place(path: &Path) -> Result<(), BackupError> {
    if unused(path)? {
        return Ok(());
    }
    folder(path)
}

/// Whether there is an empty folder; neither a folder nor nothing is something already.
fn unused(path: &Path) -> Result<bool, BackupError> {
    match std::fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            None => Ok(true),
            Some(_) => Err(BackupError::NotEmpty(path.to_owned())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(at(path)(source)),
    }
}

fn folder(path: &Path) -> Result<(), BackupError> {
    DirBuilder::new().recursive(true).mode(FOLDER).create(path).map_err(at(path))
}

/// Copies a file to a place where there is none, with this mode. Durable on return, but for the name.
fn copy_file(from: &Path, to: &Path, mode: u32) -> Result<(), BackupError> {
    if let Some(parent) = to.parent() {
        folder(parent)?;
    }
    let mut source = File::open(from).map_err(at(from))?;
    let target = OpenOptions::new().write(true).create_new(true).mode(SECRET).open(to);
    let mut target = target.map_err(at(to))?;
    // Keys pass through here too.
    let mut buffer = Zeroizing::new(vec![0; 64 << 10]);
    loop {
        let read = source.read(&mut buffer).map_err(at(from))?;
        if read == 0 {
            break;
        }
        target.write_all(&buffer[..read]).map_err(at(to))?;
    }
    target.set_permissions(Permissions::from_mode(mode)).and_then(|()| target.sync_all()).map_err(at(to))
}

/// Makes all names below a folder durable.
fn sync_folders(path: &Path) -> Result<(), BackupError> {
    for entry in std::fs::read_dir(path).map_err(at(path))? {
        let entry = entry.map_err(at(path))?;
        if entry.file_type().map_err(at(path))?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    File::open(path).and_then(|folder| folder.sync_all()).map_err(at(path))
}
