//! Decides in which pieces bytes are read, and what their digests are. Never holds more than one piece.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::limits::{CHUNK_BYTES_MAX, SALT_BYTES};
use crate::message::Digest;

/// Bytes in pieces of 256 KiB; the last may be shorter.
#[derive(Debug)]
pub struct Chunks<R = File>(R);

impl Chunks<File> {
    /// A file's bytes from `offset` on; none when it is shorter.
    ///
    /// # Errors
    /// What the file system says.
    pub fn of_file(mut file: File, offset: u64) -> io::Result<Option<Chunks<File>>> {
        if file.metadata()?.len() < offset {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(offset))?;
        Ok(Some(Chunks(file)))
    }
}

impl<R: Read> Chunks<R> {
    /// The next piece; none at the end.
    ///
    /// # Errors
    /// What the reader says.
    pub fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        let mut piece = vec![0; CHUNK_BYTES_MAX];
        let mut filled = 0;
        while filled < piece.len() {
            match self.0.read(&mut piece[filled..]) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        piece.truncate(filled);
        Ok(Some(Bytes::from(piece)).filter(|piece| !piece.is_empty()))
    }
}

/// Both digests of an attachment in one pass.
#[derive(Clone, Debug)]
pub struct Sums {
    plain: Sha256,
    salted: Option<Sha256>,
}

impl Sums {
    /// Digests of bytes yet to come, for a part with this salt.
    pub fn new(salt: Option<&[u8; SALT_BYTES]>) -> Sums {
        Sums { plain: Sha256::new(), salted: salt.map(Sha256::new_with_prefix) }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.plain.update(bytes);
        if let Some(salted) = &mut self.salted {
            salted.update(bytes);
        }
    }

    /// SHA-256 of the bytes, and of the salt and the bytes; without a salt twice the first.
    pub fn finish(self) -> (Digest, Digest) {
        let plain = Digest(self.plain.finalize().into());
        (plain, self.salted.map_or(plain, |salted| Digest(salted.finalize().into())))
    }
}
