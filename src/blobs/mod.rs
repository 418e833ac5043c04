//! Decides how attachments lie on disk: uploads that are not whole yet or not claimed, each under its uploader, and
//! blobs, each under the SHA-256 of its bytes. Never decides who may see one, and never deletes what is referred to.
//!
//! ```text
//! staging/<owner>/<upload>         the bytes so far; grows, survives a restart
//! staging/<owner>/<upload>.whole   written when all are there, durable and verified: the salted digest
//! blobs/<2 digits>/<64 digits>     a second name of such a file: what messages refer to
//! ```
//!
//! The order protects: bytes synced → `.whole` → a claim pins the digest and gives the file its second name → the ledger
//! commits the reference → the pin goes → the upload's own names go. [`Blobs::sweep`] marks a digest, and only then asks
//! whether anything refers to it; a pin and a mark exclude each other.

#![allow(clippy::disallowed_methods, reason = "writes, syncs, links and renames")]

mod claim;
mod hold;
mod read;
mod staging;
mod sweep;

use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

pub use claim::{Claim, Need, Unclaimed};
pub use hold::Pin;
pub use read::{Chunks, Sums};
pub use staging::{Upload, UploadError};
pub use sweep::{SweepError, Swept};

use crate::limits::{
    ATTACHMENT_BYTES_MAX, SALT_BYTES, SEALED_ATTACHMENT_BYTES_MAX, STAGED_BYTES_MAX, STAGED_MAX, UPLOAD_RESERVE_BYTES,
    UPLOADS_OPEN_MAX,
};
use crate::message::Digest;
use crate::party::Member;

/// What one gateway lets attachments take of its disk.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of one attachment, and of one in sealed form.
    pub attachment_bytes_max: (u64, u64),
    /// Bytes that one owner may have staged, those announced by open uploads counted in full.
    pub staged_bytes_max: u64,
    /// Uploads that one owner may have staged.
    pub staged_max: usize,
    /// Uploads that one owner may have open at once.
    pub open_max: usize,
    /// Bytes of the disk that stay free for the ledger.
    pub reserve_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            attachment_bytes_max: (ATTACHMENT_BYTES_MAX, SEALED_ATTACHMENT_BYTES_MAX),
            staged_bytes_max: STAGED_BYTES_MAX,
            staged_max: STAGED_MAX,
            open_max: UPLOADS_OPEN_MAX,
            reserve_bytes: UPLOAD_RESERVE_BYTES,
        }
    }
}

/// Whose upload it is. Nobody sees another's, and nobody learns that another, or the store, has the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner(String);

impl Owner {
    /// The identity with this URI name.
    pub fn identity(uri: &str) -> Owner {
        Owner(hex::encode(Sha256::digest(uri)))
    }

    /// The gateway itself, fetching from this member.
    pub fn partner(member: &Member) -> Owner {
        Owner::identity(&format!("partner/{member}"))
    }
}

/// What an upload will be: the SHA-256 of its bytes as transferred, their number, and the salt of the part that will refer
/// to it (none for sealed bytes). Each salt is an upload of its own, so that two messages never get in each other's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Want {
    pub digest: Digest,
    pub size: u64,
    pub salt: Option<[u8; SALT_BYTES]>,
}

impl Want {
    fn name(&self) -> String {
        let sum = Sha256::new().chain_update(self.digest.0).chain_update(self.size.to_be_bytes());
        hex::encode(sum.chain_update(self.salt.as_ref().map_or(&[][..], |salt| salt)).finalize())
    }
}

/// An upload that is whole: durable and verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staged {
    pub want: Want,
    /// SHA-256(salt ‖ bytes), the digest that stands in the part; without a salt that of the bytes.
    pub salted: Digest,
}

/// The store of attachments. All its calls block on the disk.
#[derive(Clone, Debug)]
pub struct Blobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    bounds: Bounds,
    holds: hold::Holds,
    open: Mutex<Uploads>,
}

type Uploads = HashMap<(Owner, String), staging::Open>;

impl Blobs {
    /// Opens the store in `folder`, with the standard bounds.
    ///
    /// # Errors
    /// As [`Blobs::open_with`].
    pub fn open(folder: PathBuf) -> io::Result<Blobs> {
        Blobs::open_with(folder, Bounds::default())
    }

    /// Opens the store in `folder`, creating what is not there. Uploads survive for their owners to go on; what a crash
    /// left half written beside them goes. One process at a time: the ledger's lock sees to that.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open_with(folder: PathBuf, bounds: Bounds) -> io::Result<Blobs> {
        make(&folder)?;
        for inner in ["blobs", "staging"] {
            make(&folder.join(inner))?;
        }
        // All at once, so that a new blob needs no new folder and one sync.
        for first in 0..=255u8 {
            make(&folder.join("blobs").join(hex::encode([first])))?;
        }
        sync(&folder.join("blobs"))?;
        sync(&folder)?;
        if let Some(parent) = folder.parent() {
            sync(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
        }
        let inner = Inner { folder, bounds, holds: hold::Holds::default(), open: Mutex::default() };
        inner.clear_leftovers()?;
        Ok(Blobs(Arc::new(inner)))
    }

    /// Takes the bytes of a blob from `offset` on; none when there is no such blob, or it is shorter. What is open can be
    /// read to its end, whatever a sweep takes meanwhile.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read(&self, digest: &Digest, offset: u64) -> io::Result<Option<Chunks<File>>> {
        match File::open(self.0.blob(digest)) {
            Ok(file) => Chunks::of_file(file, offset),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Inner {
    fn blob(&self, digest: &Digest) -> PathBuf {
        place(&self.folder, digest)
    }

    fn staging(&self) -> PathBuf {
        self.folder.join("staging")
    }

    fn of_owner(&self, owner: &Owner) -> PathBuf {
        self.staging().join(&owner.0)
    }

    fn opened(&self) -> MutexGuard<'_, Uploads> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the blob with this digest lies in the store of attachments in `folder`.
pub fn place(folder: &Path, digest: &Digest) -> PathBuf {
    let name = hex::encode(digest.0);
    folder.join("blobs").join(&name[..2]).join(name)
}

/// Does what blocks on the disk on a thread of its own: the bridge for those who must not block.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // Nobody aborts it: what it met is met here.
        Err(ended) => std::panic::resume_unwind(ended.into_panic()),
    }
}

fn make(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        other => other,
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes a file that may be gone already.
fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The entries of a folder that have text for a name; none when it is not there.
fn entries(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let listed = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        listed => listed?,
    };
    let mut found = vec![];
    for entry in listed {
        let entry = entry?;
        found.extend(entry.file_name().into_string().ok().map(|name| (name, entry.path())));
    }
    Ok(found)
}
