//! Decides how secrets lie on disk: seeds of Ed25519 keys and PEM private keys, readable by their owner alone. Never
//! prints a secret, never overwrites one, and never reads one that others could have read before.

#![allow(clippy::disallowed_methods, reason = "keys come from chance and are written durably here")]

use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use zeroize::{Zeroize, Zeroizing};

use crate::limits::{PUBLIC_FILE_BYTES_MAX, SECRET_FILE_BYTES_MAX};
use crate::planted;

/// How the one line of a seed file begins, and what such a file is called; the 32 bytes follow in base64. A signing key is
/// never taken for a sealing key, though their seeds look alike.
const SIGNING: (&str, &str) = ("tongban-ed25519-seed:", "a tongban-ed25519-seed file");
const SEALING: (&str, &str) = ("tongban-hpke-seed:", "a tongban-hpke-seed file");
const SECRET_MODE: u32 = 0o600;
const PUBLIC_MODE: u32 = 0o644;

/// Why a key file is not read or written. Every variant names the file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("{path}: no such file")]
    Missing { path: PathBuf },
    #[error("{path}: exists already and is not overwritten")]
    Exists { path: PathBuf },
    #[error("{path}: mode {mode:04o} lets others than its owner use the key; run: chmod 600 {path}")]
    Mode { path: PathBuf, mode: u32 },
    #[error("{path}: belongs to user {owner}, not to this process's user {user}")]
    Owner { path: PathBuf, owner: u32, user: u32 },
    #[error("{path}: not a regular file")]
    NotAFile { path: PathBuf },
    #[error("{path}: larger than {max} bytes")]
    TooLarge { path: PathBuf, max: u64 },
    #[error("{path}: not {what}")]
    Malformed { path: PathBuf, what: &'static str },
    #[error("{path}: no {what} in it")]
    Empty { path: PathBuf, what: &'static str },
    #[error("no random numbers from the system: {0}")]
    Chance(String),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// The seed of an Ed25519 key (RFC 8032 §5.1.5) or of a sealing key (RFC 9180 §7.1.3), wiped from memory when dropped; it has no `Debug` on purpose.
pub struct Seed(Zeroizing<[u8; 32]>);

impl Seed {
    /// A new seed from the system's random numbers.
    ///
    /// # Errors
    /// The system has none.
    pub fn generate() -> Result<Seed, KeyFileError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(|fault| KeyFileError::Chance(fault.to_string()))?;
        Ok(Seed(seed))
    }

    /// The 32 secret bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Writes a seed to a file that did not exist. Durable on return; after a crash the file is whole or absent.
///
/// # Errors
/// [`KeyFileError::Exists`] and what the file system says.
pub fn write_seed(path: &Path, seed: &Seed) -> Result<(), KeyFileError> {
    write_line(path, SIGNING.0, seed)
}

/// Writes the seed of a sealing key, as [`write_seed`] does.
///
/// # Errors
/// As [`write_seed`].
pub fn write_sealing_seed(path: &Path, seed: &Seed) -> Result<(), KeyFileError> {
    write_line(path, SEALING.0, seed)
}

fn write_line(path: &Path, prefix: &str, seed: &Seed) -> Result<(), KeyFileError> {
    let mut line = Zeroizing::new(prefix.to_owned());
    // Room for all of it at once: growing would leave a copy behind that nothing wipes.
    line.reserve_exact(64);
    STANDARD.encode_string(seed.bytes(), &mut line);
    line.push('\n');
    write_secret(path, line.as_bytes())
}

/// Reads a seed file that only its owner can read.
///
/// # Errors
/// A file that others can read, or that holds anything but one seed.
pub fn read_seed(path: &Path) -> Result<Seed, KeyFileError> {
    read_line(path, SIGNING)
}

/// Reads the seed file of a sealing key that only its owner can read.
///
/// # Errors
/// As [`read_seed`].
pub fn read_sealing_seed(path: &Path) -> Result<Seed, KeyFileError> {
    read_line(path, SEALING)
}

fn read_line(path: &Path, (prefix, what): (&str, &'static str)) -> Result<Seed, KeyFileError> {
    let bytes = read_secret(path)?;
    let malformed = || KeyFileError::Malformed { path: path.to_owned(), what };
    let line = bytes.strip_prefix(prefix.as_bytes()).ok_or_else(malformed)?;
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    // decode_slice asks for room beyond 32 bytes when the text is too long, so a longer secret is refused, not cut.
    let mut seed = Zeroizing::new([0; 33]);
    let length = STANDARD.decode_slice(line, seed.as_mut_slice()).map_err(|_| malformed())?;
    let exact: &[u8; 32] = seed[..length].try_into().map_err(|_| malformed())?;
    Ok(Seed(Zeroizing::new(*exact)))
}

/// Writes secret bytes, e.g. a PEM private key, to a file with mode 0600 that did not exist. Durable on return.
///
/// # Errors
/// As [`write_seed`].
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), KeyFileError> {
    let io = |source| failed(path, source);
    let unfinished = unfinished(path);
    write_whole(&unfinished, bytes, SECRET_MODE).map_err(io)?;
    // A link, not a rename: a rename would replace a key that came into being meanwhile.
    let linked = std::fs::hard_link(&unfinished, path);
    std::fs::remove_file(&unfinished).map_err(io)?;
    match linked {
        Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => {
            Err(KeyFileError::Exists { path: path.to_owned() })
        }
        other => other.and_then(|()| sync_parent(path)).map_err(io),
    }
}

/// Reads a secret file of at most 64 KiB that only its owner can read.
///
/// # Errors
/// Group or other bits in its mode, another owner than this process or root, or no regular file.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let file = open(path)?;
    let metadata = file.metadata().map_err(|source| failed(path, source))?;
    guarded(path, &metadata)?;
    read_bounded(path, file, SECRET_FILE_BYTES_MAX).map(Zeroizing::new)
}

/// Writes a public file (mode 0644), replacing what was there. Durable on return; a reader sees the old or the new whole.
///
/// # Errors
/// What the file system says.
pub fn replace_public(path: &Path, bytes: &[u8]) -> Result<(), KeyFileError> {
    let unfinished = unfinished(path);
    write_whole(&unfinished, bytes, PUBLIC_MODE)
        .and_then(|()| std::fs::rename(&unfinished, path))
        .and_then(|()| sync_parent(path))
        .map_err(|source| failed(path, source))
}

/// Reads a public file of at most 16 MiB.
///
/// # Errors
/// Missing, too large, or what the file system says.
pub fn read_public(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    read_bounded(path, open(path)?, PUBLIC_FILE_BYTES_MAX)
}

/// Reads a public file as UTF-8 text.
///
/// # Errors
/// As [`read_public`], or bytes that are no UTF-8.
pub fn read_text(path: &Path) -> Result<String, KeyFileError> {
    let malformed = |_| KeyFileError::Malformed { path: path.to_owned(), what: "UTF-8 text" };
    String::from_utf8(read_public(path)?).map_err(malformed)
}

/// Reads the certificates of a PEM file in order; at least one.
///
/// # Errors
/// A file without a certificate or with broken PEM.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, KeyFileError> {
    let certificates: Vec<_> = sections(path, &read_public(path)?)?;
    let empty = certificates.is_empty();
    if empty { Err(KeyFileError::Empty { path: path.to_owned(), what: "certificate" }) } else { Ok(certificates) }
}

/// Reads the revocation lists of a PEM file; there may be none.
///
/// # Errors
/// Broken PEM.
pub fn read_crls(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, KeyFileError> {
    if planted::is(planted::Bug::CrlNotReRead) {
        static READ: Mutex<BTreeMap<PathBuf, Vec<u8>>> = Mutex::new(BTreeMap::new());
        let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
        let first = match read.get(path) {
            Some(first) => first.clone(),
            None => read_public(path)?,
        };
        return sections(path, read.entry(path.to_owned()).or_insert(first));
    }
    sections(path, &read_public(path)?)
}

/// Reads the first private key (PKCS#8, PKCS#1 or SEC1) of a PEM file that only its owner can read.
///
/// # Errors
/// As [`read_secret`], or a file without a private key.
pub fn read_private_key(path: &Path) -> Result<PrivateKeyDer<'static>, KeyFileError> {
    let pem = read_secret(path)?;
    let empty = |_| KeyFileError::Empty { path: path.to_owned(), what: "private key" };
    PrivateKeyDer::from_pem_slice(&pem).map_err(empty)
}

fn sections<T: PemObject>(path: &Path, pem: &[u8]) -> Result<Vec<T>, KeyFileError> {
    let malformed = |_| KeyFileError::Malformed { path: path.to_owned(), what: "PEM" };
    T::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(malformed)
}

fn open(path: &Path) -> Result<File, KeyFileError> {
    File::open(path).map_err(|source| failed(path, source))
}

fn failed(path: &Path, source: io::Error) -> KeyFileError {
    match source.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing { path: path.to_owned() },
        _ => KeyFileError::Io { path: path.to_owned(), source },
    }
}

/// Asks the open file, not the path, so that nobody can put another in its place in between.
fn guarded(path: &Path, metadata: &Metadata) -> Result<(), KeyFileError> {
    let path = path.to_owned();
    if !metadata.is_file() {
        return Err(KeyFileError::NotAFile { path });
    }
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Mode { path, mode });
    }
    // The owner of /proc/self is the user this process acts as; where there is no /proc the mode alone must do.
    match std::fs::metadata("/proc/self").map(|process| process.uid()) {
        Ok(user) if owner != user && owner != 0 => Err(KeyFileError::Owner { path, owner, user }),
        _ => Ok(()),
    }
}

fn read_bounded(path: &Path, file: File, max: u64) -> Result<Vec<u8>, KeyFileError> {
    let expected = file.metadata().map_err(|source| failed(path, source))?.len().min(max);
    // All the room at once, so that a growing buffer leaves no copy of a secret behind.
    let mut bytes = Vec::with_capacity(expected as usize + 1);
    let read = file.take(max + 1).read_to_end(&mut bytes);
    if bytes.len() as u64 > max || read.is_err() {
        bytes.zeroize();
    }
    match read {
        Err(source) => Err(failed(path, source)),
        Ok(length) if length as u64 > max => Err(KeyFileError::TooLarge { path: path.to_owned(), max }),
        Ok(_) => Ok(bytes),
    }
}

/// The file beside `path` under which it is written until it is whole.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}

fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // What is half written is of no use; the first fault is the one to tell.
        let _ = std::fs::remove_file(path);
    }
    written
}

/// Makes the new name durable: a file's own fsync does not reach its directory.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
