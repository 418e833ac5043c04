//! Decides how a witness says that it has seen a log grow consistently up to a checkpoint, and when: C2SP
//! tlog-cosignature, Ed25519 (`cosignature/v1`, type 0x04). Never decides whether it may be said: that takes a proof.
//!
//! A member cosigns with the key of its own log, under the log's name. The two uses cannot be mistaken for each other: a
//! checkpoint's signed text begins with the log's name, a cosignature's with a line that no log may be named like, and the
//! key ids differ by their type byte. So the member record that lists the log's key names the witness too.

use std::fmt;

use super::checkpoint::{Checkpoint, CheckpointError};
use super::note::{self, KeyError, NoteError, SigningKey, VerifyingKey};
use crate::limits::{LEAVES_MAX, SIGNATURES_MAX};

/// The signature type of timestamped Ed25519 cosignatures.
const COSIGNATURE: u8 = 0x04;
/// Bytes of the timestamp in front of the signature.
const TIMESTAMP_BYTES: usize = 8;

/// A witness's public key by name, as a vkey line of type 0x04 states it.
#[derive(Clone, PartialEq, Eq)]
pub struct WitnessKey {
    id: u32,
    key: VerifyingKey,
}

impl WitnessKey {
    /// Reads a vkey line of type 0x04, without a newline.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn parse(vkey: &str) -> Result<WitnessKey, KeyError> {
        let (name, found, key) = note::vkey_parts(vkey, COSIGNATURE)?;
        let key = WitnessKey::of(&VerifyingKey::new(name, &key)?);
        if key.id == found { Ok(key) } else { Err(KeyError::Id { expected: key.id, found }) }
    }

    /// The witness that cosigns with the key of this log, under the log's name.
    pub fn of(log: &VerifyingKey) -> WitnessKey {
        WitnessKey { id: note::key_id(log.name(), COSIGNATURE, log.public_key()), key: log.clone() }
    }

    /// The witness's name; for a member, its log's origin.
    pub fn name(&self) -> &str {
        self.key.name()
    }

    /// The key id: the first four bytes of SHA-256(name ‖ 0x0A ‖ 0x04 ‖ key).
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The raw public key.
    pub fn public_key(&self) -> &[u8; 32] {
        self.key.public_key()
    }
}

/// Prints the vkey line, without a newline.
impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&note::vkey(self.name(), self.id, COSIGNATURE, self.public_key()))
    }
}

impl fmt::Debug for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WitnessKey({self})")
    }
}

/// Why a cosignature is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CosignatureError {
    /// Not one signature line with a timestamp up to 2^63 − 1 and 64 bytes behind it.
    #[error("not the line of a timestamped cosignature")]
    Line,
    /// None of the keys given is the one that the line names.
    #[error("{name} ({id:08x}) is no known witness")]
    Unknown { name: String, id: u32 },
    /// The signature is not over this checkpoint and time.
    #[error("the cosignature of {name} ({id:08x}) does not fit the checkpoint and its time")]
    Signature { name: String, id: u32 },
    /// One witness signs twice.
    #[error("{name} ({id:08x}) cosigns twice")]
    Duplicate { name: String, id: u32 },
    /// The note around it is refused.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// A cosignature that holds: which of the keys given made it, and when by its own clock, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cosigned {
    pub witness: usize,
    pub at_s: u64,
}

/// Cosigns a checkpoint's text with the key of the witness's own log: one signature line, without a newline.
///
/// It says that at this time, in seconds since 1970, this is the largest state of that log that the witness has seen, and
/// that every smaller one it has seen was its beginning.
///
/// # Errors
/// A text that is no checkpoint, or a time beyond 2^63 − 1.
pub fn cosign(text: &str, key: &SigningKey, at_s: u64) -> Result<String, CheckpointError> {
    Checkpoint::parse(text)?;
    if at_s > LEAVES_MAX {
        return Err(CheckpointError::Size);
    }
    let witness = WitnessKey::of(key.verifying_key());
    let signature = [at_s.to_be_bytes().as_slice(), &key.sign_bytes(&message(text, at_s))].concat();
    Ok(note::signature_line(witness.name(), witness.id, &signature))
}

/// The cosignatures of a note that known witnesses made. Lines of others are passed over; one of a known witness must hold.
///
/// # Errors
/// See [`CosignatureError`].
pub fn cosigners(note: &str, witnesses: &[WitnessKey]) -> Result<Vec<Cosigned>, CosignatureError> {
    let (text, block) = note::split(note)?;
    let mut cosigned: Vec<Cosigned> = Vec::new();
    for line in block.lines() {
        match cosigner(text, line, witnesses) {
            Ok(one) if cosigned.iter().any(|other| other.witness == one.witness) => {
                let witness = &witnesses[one.witness];
                return Err(CosignatureError::Duplicate { name: witness.name().to_owned(), id: witness.id });
            }
            Ok(one) => cosigned.push(one),
            Err(CosignatureError::Unknown { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(cosigned)
}

/// Checks one cosignature line over a checkpoint's text.
///
/// # Errors
/// See [`CosignatureError`].
pub fn cosigner(text: &str, line: &str, witnesses: &[WitnessKey]) -> Result<Cosigned, CosignatureError> {
    let (name, id, bytes) = note::parse_signature(line).ok_or(CosignatureError::Line)?;
    let known = witnesses.iter().position(|witness| witness.name() == name && witness.id == id);
    let name = name.to_owned();
    let Some(witness) = known else { return Err(CosignatureError::Unknown { name, id }) };
    let Some((at, signature)) = bytes.split_first_chunk::<TIMESTAMP_BYTES>() else {
        return Err(CosignatureError::Line);
    };
    let at_s = u64::from_be_bytes(*at);
    if at_s > LEAVES_MAX {
        return Err(CosignatureError::Line);
    }
    match witnesses[witness].key.verifies(&message(text, at_s), signature) {
        true => Ok(Cosigned { witness, at_s }),
        false => Err(CosignatureError::Signature { name, id }),
    }
}

/// Who signed a line, as it says itself: the key's name and id. `None` where it is no signature line.
pub fn signer(line: &str) -> Option<(String, u32)> {
    note::parse_signature(line).map(|(name, id, _)| (name.to_owned(), id))
}

/// The note with these signature lines added, as many as a reader must take.
pub fn with_lines<'a>(note: &str, lines: impl IntoIterator<Item = &'a str>) -> String {
    let taken = note::split(note).map_or(SIGNATURES_MAX, |(_, block)| block.lines().count());
    let mut whole = note.to_owned();
    for line in lines.into_iter().take(SIGNATURES_MAX.saturating_sub(taken)) {
        whole.push_str(line);
        whole.push('\n');
    }
    whole
}

/// The note with the signature lines of this log's key alone: as the log itself signed it.
///
/// # Errors
/// Not written as a note.
pub fn bare(note: &str, log: &VerifyingKey) -> Result<String, NoteError> {
    let (text, block) = note::split(note)?;
    let own =
        |line: &&str| note::parse_signature(line).is_some_and(|(name, id, _)| name == log.name() && id == log.id());
    let lines: String = block.lines().filter(own).map(|line| format!("{line}\n")).collect();
    if lines.is_empty() { Err(NoteError::Unsigned) } else { Ok(format!("{text}\n{lines}")) }
}

/// The text of a note, which is what its signatures are over.
///
/// # Errors
/// Not written as a note.
pub fn text(note: &str) -> Result<&str, NoteError> {
    note::split(note).map(|(text, _)| text)
}

/// What a cosignature signs: two lines, and the checkpoint's text behind them.
fn message(text: &str, at_s: u64) -> String {
    format!("cosignature/v1\ntime {at_s}\n{text}")
}
