//! Decides how an attachment of any size is sealed and opened in pieces, with constant memory. Never holds more than one
//! chunk, and never takes a stream for whole before its last chunk has been opened.
//!
//! The form: the encapsulated key (32 bytes), then the chunks in order. Each chunk is 256 KiB of plaintext, the last one
//! what remains (empty only for an empty attachment), encrypted and followed by its tag of 16 bytes. Chunk *n* takes
//! HPKE's sequence number *n*; its AAD is the one byte 0, or 1 for the last chunk. A chunk that is missing, moved or
//! appended therefore does not open, nor does a stream that ends early.

use hpke::aead::{AeadTag, ChaCha20Poly1305};
use hpke::inout::InOutBuf;
use hpke::{Deserializable, Serializable};

use super::{
    Context, ENCAPSULATED_BYTES, OpenError, OpeningKey, Receiving, SealError, Sending, TAG_BYTES, What, receiving,
    sending,
};
use crate::directory::SealingKey;
use crate::limits::SEAL_CHUNK_BYTES;

/// The AAD of a chunk that others follow, and of the last one.
const AAD: [[u8; 1]; 2] = [[0], [1]];
/// Bytes of a full chunk with its tag.
const SEALED_CHUNK_BYTES: usize = SEAL_CHUNK_BYTES + TAG_BYTES;

/// Bytes of an attachment once sealed; `None` beyond 2⁶⁴ − 1.
pub const fn sealed_size(plain: u64) -> Option<u64> {
    let chunks = plain.div_ceil(SEAL_CHUNK_BYTES as u64);
    let chunks = if chunks == 0 { 1 } else { chunks };
    // At most 2⁴⁶ chunks: their tags fit.
    plain.checked_add(chunks * TAG_BYTES as u64 + ENCAPSULATED_BYTES as u64)
}

/// Bytes of an attachment before it was sealed; `None` for a size that no sealed attachment has.
pub const fn plain_size(sealed: u64) -> Option<u64> {
    let Some(chunks_size) = sealed.checked_sub(ENCAPSULATED_BYTES as u64) else { return None };
    let tags = chunks_size.div_ceil(SEALED_CHUNK_BYTES as u64) * TAG_BYTES as u64;
    let Some(plain) = chunks_size.checked_sub(tags) else { return None };
    match sealed_size(plain) {
        Some(again) if again == sealed => Some(plain),
        _ => None,
    }
}

/// Seals one attachment, piece by piece. What it puts out is kept once by the caller, so that a resumed transfer finds the
/// same bytes; sealed again with other chance it would be another stream.
pub struct StreamSealer {
    context: Sending,
    /// The chunk that is being gathered; whether it is the last one shows only later.
    pending: Vec<u8>,
}

impl StreamSealer {
    /// Begins to seal the attachment at `position` among the parts, from 0; puts the encapsulated key out. `chance` is as
    /// for [`super::seal`].
    ///
    /// # Errors
    /// A key that was made to be weak.
    pub fn begin(
        to: &SealingKey,
        context: &Context,
        position: u32,
        chance: [u8; 32],
        out: &mut Vec<u8>,
    ) -> Result<StreamSealer, SealError> {
        let (encapsulated, context) = sending(to, &context.info(What::Attachment(position)), chance)?;
        out.extend_from_slice(&encapsulated);
        Ok(StreamSealer { context, pending: Vec::new() })
    }

    /// Takes the next bytes of the attachment and puts out the chunks that they fill.
    ///
    /// # Errors
    /// More chunks than HPKE counts.
    pub fn write(&mut self, mut plain: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        while !plain.is_empty() {
            if self.pending.len() == SEAL_CHUNK_BYTES {
                self.put_out(false, out)?;
            }
            take(&mut self.pending, &mut plain, SEAL_CHUNK_BYTES);
        }
        Ok(())
    }

    /// Puts out the last chunk.
    ///
    /// # Errors
    /// As [`StreamSealer::write`].
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), SealError> {
        self.put_out(true, out)
    }

    fn put_out(&mut self, last: bool, out: &mut Vec<u8>) -> Result<(), SealError> {
        let chunk = InOutBuf::from(self.pending.as_mut_slice());
        let tag = self.context.seal_inout_detached(chunk, &AAD[usize::from(last)]).map_err(|_| SealError::TooLarge)?;
        out.append(&mut self.pending);
        out.extend_from_slice(&tag.to_bytes());
        Ok(())
    }
}

/// Opens one sealed attachment, piece by piece. What it puts out is the sender's, chunk by chunk in order; that it is all
/// of it, only [`StreamOpener::finish`] says.
pub struct StreamOpener<'a> {
    key: &'a OpeningKey,
    info: Vec<u8>,
    /// `None` until the encapsulated key is there, and again once a chunk did not open.
    context: Option<Receiving>,
    broken: bool,
    pending: Vec<u8>,
}

impl<'a> StreamOpener<'a> {
    /// Begins to open the attachment at `position` among the parts with the key that its message names
    /// ([`super::opening_key`]).
    pub fn begin(key: &'a OpeningKey, context: &Context, position: u32) -> StreamOpener<'a> {
        let info = context.info(What::Attachment(position));
        StreamOpener { key, info, context: None, broken: false, pending: Vec::new() }
    }

    /// Takes the next bytes of the sealed form and puts out the plaintext of the chunks that are complete.
    ///
    /// # Errors
    /// A chunk that does not open; after it none does.
    pub fn write(&mut self, mut sealed: &[u8], out: &mut Vec<u8>) -> Result<(), OpenError> {
        while !sealed.is_empty() {
            if self.broken {
                return Err(OpenError::Damaged);
            }
            if self.context.is_none() {
                take(&mut self.pending, &mut sealed, ENCAPSULATED_BYTES);
                self.begin_when_ready()?;
                continue;
            }
            if self.pending.len() == SEALED_CHUNK_BYTES {
                self.put_out(false, out)?;
            }
            take(&mut self.pending, &mut sealed, SEALED_CHUNK_BYTES);
        }
        Ok(())
    }

    /// Opens the last chunk and puts it out: only now is the attachment whole.
    ///
    /// # Errors
    /// A stream that was cut, or a last chunk that does not open.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), OpenError> {
        self.put_out(true, out)
    }

    fn begin_when_ready(&mut self) -> Result<(), OpenError> {
        if self.pending.len() < ENCAPSULATED_BYTES {
            return Ok(());
        }
        let begun = receiving(self.key, &self.info, &self.pending);
        self.broken = begun.is_err();
        self.context = Some(begun?);
        self.pending.clear();
        Ok(())
    }

    fn put_out(&mut self, last: bool, out: &mut Vec<u8>) -> Result<(), OpenError> {
        let opened = self.open_pending(last);
        match opened {
            Some(()) => out.append(&mut self.pending),
            None => self.broken = true,
        }
        opened.ok_or(OpenError::Damaged)
    }

    /// Opens what is pending where it lies.
    fn open_pending(&mut self, last: bool) -> Option<()> {
        let context = self.context.as_mut().filter(|_| !self.broken)?;
        let length = self.pending.len().checked_sub(TAG_BYTES)?;
        let tag = AeadTag::<ChaCha20Poly1305>::from_bytes(&self.pending[length..]).ok()?;
        self.pending.truncate(length);
        let chunk = InOutBuf::from(self.pending.as_mut_slice());
        context.open_inout_detached(chunk, &AAD[usize::from(last)], &tag).ok()
    }
}

/// Moves bytes from the front of `from` until `into` holds `full`.
fn take(into: &mut Vec<u8>, from: &mut &[u8], full: usize) {
    let (now, later) = from.split_at(from.len().min(full - into.len()));
    into.extend_from_slice(now);
    *from = later;
}
