//! Decides how an upload grows: where it goes on after a break, who may write it, when it is whole. Never shows one
//! owner what another has, and never keeps bytes that are not what was announced.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::read::Sums;
use super::{Blobs, Inner, Owner, Staged, Uploads, Want, entries, make, remove, sync};
use crate::limits::{ATTACHMENT_SYNC_BYTES, CHUNK_BYTES_MAX};
use crate::message::Digest;

/// Why an upload does not begin, or does not go on. What was durable stays for a later try, except after
/// [`UploadError::DigestMismatch`].
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("an attachment has at most {0} bytes")]
    TooLarge(u64),
    #[error("this identity has {0} at once at most")]
    TooMany(&'static str),
    #[error("the disk has no room for it")]
    Full,
    #[error("another call goes on with this upload")]
    Superseded,
    #[error("it has {have} bytes, {size} were announced")]
    Length { have: u64, size: u64 },
    #[error("the bytes do not have the digest that was announced")]
    DigestMismatch,
    #[error("the attachment store: {0}")]
    Io(io::Error),
}

impl From<io::Error> for UploadError {
    fn from(error: io::Error) -> UploadError {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => UploadError::Full,
            _ => UploadError::Io(error),
        }
    }
}

/// An upload that somebody has open, as the others see it.
#[derive(Debug)]
pub(super) struct Open {
    turn: Arc<Turn>,
    size: u64,
}

/// Whose turn it is to write: the newest beginning's.
#[derive(Debug, Default)]
struct Turn {
    number: AtomicU64,
    /// Held over each write, so that one who took over finds nothing under way.
    writing: Mutex<()>,
}

/// One beginning's place among the open uploads.
#[derive(Debug)]
struct Seat {
    inner: Arc<Inner>,
    place: (Owner, String),
    turn: Arc<Turn>,
    number: u64,
}

impl Seat {
    fn current(&self) -> bool {
        self.turn.number.load(Ordering::SeqCst) == self.number
    }

    fn take_turn(&self) -> Result<MutexGuard<'_, ()>, UploadError> {
        let writing = self.turn.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.current() { Ok(writing) } else { Err(UploadError::Superseded) }
    }

    fn path(&self) -> PathBuf {
        self.inner.of_owner(&self.place.0).join(&self.place.1)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.inner.opened();
        if self.current() {
            open.remove(&self.place);
        }
    }
}

/// An upload that is being written. Dropping it keeps what is there.
#[derive(Debug)]
pub struct Upload {
    seat: Seat,
    want: Want,
    file: File,
    sums: Sums,
    offset: u64,
    durable: u64,
    whole: Option<Staged>,
}

impl Blobs {
    /// Begins an upload, or goes on with it where it was broken off: [`Upload::offset`] says where. Who has it open is
    /// superseded. The bytes that are there are read once, for their digest.
    ///
    /// # Errors
    /// See [`UploadError`].
    pub fn begin(&self, owner: &Owner, want: Want) -> Result<Upload, UploadError> {
        let inner = &self.0;
        let (plain, sealed) = inner.bounds.attachment_bytes_max;
        let max = if want.salt.is_some() { plain } else { sealed };
        if want.size > max {
            return Err(UploadError::TooLarge(max));
        }
        let place = (owner.clone(), want.name());
        let seat = inner.enter(place, want.size)?;
        let file = {
            // Not before the one who wrote until now has ended: it may be throwing its file away.
            let _writing = seat.take_turn()?;
            OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(seat.path())?
        };
        let sums = Sums::new(want.salt.as_ref());
        let mut upload = Upload { seat, want, file, sums, offset: 0, durable: 0, whole: None };
        upload.recover()?;
        Ok(upload)
    }

    /// The owner's upload, if it is whole.
    ///
    /// # Errors
    /// What the file system says.
    pub fn staged(&self, owner: &Owner, want: &Want) -> io::Result<Option<Staged>> {
        self.0.staged(owner, want)
    }

    /// Lets an upload go that a message has claimed. One that is open stays.
    ///
    /// # Errors
    /// What the file system says.
    pub fn forget(&self, owner: &Owner, want: &Want) -> io::Result<()> {
        let place = (owner.clone(), want.name());
        let open = self.0.opened();
        if open.contains_key(&place) { Ok(()) } else { self.0.discard(&place) }
    }
}

impl Inner {
    /// Registers a writer. The bounds are counted under the same lock, so that nobody slips past.
    fn enter(self: &Arc<Inner>, place: (Owner, String), size: u64) -> Result<Seat, UploadError> {
        let mut open = self.opened();
        self.room(&open, &place, size)?;
        make(&self.of_owner(&place.0))?;
        let entry = open.entry(place.clone()).or_insert_with(|| Open { turn: Arc::default(), size });
        let number = entry.turn.number.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(Seat { inner: self.clone(), turn: entry.turn.clone(), number, place })
    }

    fn room(&self, open: &Uploads, place: &(Owner, String), size: u64) -> Result<(), UploadError> {
        let others = || open.iter().filter(|(other, _)| other.0 == place.0 && *other != place);
        if others().count() >= self.bounds.open_max {
            return Err(UploadError::TooMany("uploads open"));
        }
        let announced: u64 = others().map(|(_, other)| other.size).sum();
        let (mut staged, mut count, mut own) = (announced, 0, 0);
        for (name, path) in entries(&self.of_owner(&place.0))? {
            let length = || std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            if name == place.1 {
                own = length();
            } else if !name.contains('.') {
                count += 1;
                let counted = open.contains_key(&(place.0.clone(), name));
                staged += if counted { 0 } else { length() };
            }
        }
        if count >= self.bounds.staged_max {
            return Err(UploadError::TooMany("uploads staged"));
        }
        if staged.saturating_add(size) > self.bounds.staged_bytes_max {
            return Err(UploadError::TooMany("bytes staged"));
        }
        self.disk_has(size.saturating_sub(own))
    }

    fn disk_has(&self, more: u64) -> Result<(), UploadError> {
        let disk = rustix::fs::statvfs(&self.folder).map_err(io::Error::from)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < self.bounds.reserve_bytes.saturating_add(more) { Err(UploadError::Full) } else { Ok(()) }
    }

    pub(super) fn staged(&self, owner: &Owner, want: &Want) -> io::Result<Option<Staged>> {
        let path = self.of_owner(owner).join(want.name());
        let (length, line) = match (std::fs::metadata(&path), std::fs::read(with(&path, WHOLE))) {
            (Ok(metadata), Ok(line)) => (metadata.len(), line),
            (Err(error), _) | (_, Err(error)) if error.kind() == ErrorKind::NotFound => return Ok(None),
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        let mut salted = Digest([0; 32]);
        let reads = hex::decode_to_slice(&line, &mut salted.0).is_ok();
        Ok((reads && length == want.size).then_some(Staged { want: *want, salted }))
    }

    /// Removes an upload; the caller has seen to it that nobody writes it.
    pub(super) fn discard(&self, (owner, name): &(Owner, String)) -> io::Result<()> {
        let folder = self.of_owner(owner);
        let path = folder.join(name);
        // First what says that it is whole: a crash in between leaves bytes, never a word about none.
        remove(&with(&path, WHOLE))?;
        remove(&path)
    }

    /// What a crash left beside the uploads: words half written, and words about uploads that are gone.
    pub(super) fn clear_leftovers(&self) -> io::Result<()> {
        for (_, folder) in entries(&self.staging())? {
            for (name, path) in entries(&folder)? {
                let stray = name.strip_suffix(WHOLE).is_some_and(|upload| !folder.join(upload).exists());
                if name.ends_with(UNFINISHED) || stray {
                    remove(&path)?;
                }
            }
        }
        Ok(())
    }
}

/// The ending of the word that an upload is whole, and of that word before it is.
const WHOLE: &str = ".whole";
const UNFINISHED: &str = ".new";

fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

impl Upload {
    /// Bytes taken so far: where the next go.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes that survive a power cut.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Takes the next bytes; syncs every few MiB.
    ///
    /// # Errors
    /// [`UploadError::Length`] beyond the announced size, [`UploadError::Superseded`], a full disk, and what the file
    /// system says; after an error nothing more is taken.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        let have = self.offset.saturating_add(bytes.len() as u64);
        if have > self.want.size {
            return Err(UploadError::Length { have, size: self.want.size });
        }
        let _writing = self.seat.take_turn()?;
        self.file.write_all_at(bytes, self.offset)?;
        self.sums.update(bytes);
        self.offset = have;
        if self.offset - self.durable >= ATTACHMENT_SYNC_BYTES {
            self.seat.inner.disk_has(0)?;
            self.file.sync_data()?;
            if self.durable == 0 {
                sync(&self.seat.inner.of_owner(&self.seat.place.0))?;
                sync(&self.seat.inner.staging())?;
            }
            self.durable = self.offset;
        }
        Ok(())
    }

    /// Ends the upload: all is synced, the digest is checked, and the word that it is whole is durable.
    ///
    /// # Errors
    /// [`UploadError::Length`] when bytes are missing; [`UploadError::DigestMismatch`], and the upload is gone; others as
    /// [`Upload::write`].
    pub fn finish(self) -> Result<Staged, UploadError> {
        let _writing = self.seat.take_turn()?;
        if let Some(staged) = self.whole {
            return Ok(staged);
        }
        if self.offset != self.want.size {
            return Err(UploadError::Length { have: self.offset, size: self.want.size });
        }
        let (plain, salted) = self.sums.clone().finish();
        if plain != self.want.digest {
            self.seat.inner.discard(&self.seat.place)?;
            return Err(UploadError::DigestMismatch);
        }
        self.file.sync_all()?;
        let path = self.seat.path();
        let unfinished = with(&path, UNFINISHED);
        let mut word = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?;
        word.write_all(hex::encode(salted.0).as_bytes())?;
        word.sync_all()?;
        std::fs::rename(&unfinished, with(&path, WHOLE))?;
        sync(&self.seat.inner.of_owner(&self.seat.place.0))?;
        sync(&self.seat.inner.staging())?;
        Ok(Staged { want: self.want, salted })
    }

    /// Finds out what is there: whole already, or so many bytes, hashed and synced before anybody relies on them.
    fn recover(&mut self) -> Result<(), UploadError> {
        self.whole = self.seat.inner.staged(&self.seat.place.0, &self.want)?;
        if self.whole.is_some() {
            (self.offset, self.durable) = (self.want.size, self.want.size);
            return Ok(());
        }
        let mut piece = vec![0; CHUNK_BYTES_MAX];
        loop {
            if !self.seat.current() {
                return Err(UploadError::Superseded);
            }
            match self.file.read(&mut piece) {
                Ok(0) => break,
                Ok(more) => {
                    self.sums.update(&piece[..more]);
                    self.offset += more as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.offset > 0 {
            self.file.sync_all()?;
            self.durable = self.offset;
        }
        Ok(())
    }
}
