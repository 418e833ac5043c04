//! Decides what a log's state looks like as text (C2SP tlog-checkpoint) and whether the log itself signed it. Never
//! decides whether that state may be signed: keeping a log from forking is its owner's affair.

use super::Hash;
use super::note::{self, NoteError, SigningKey, VerifyingKey};
use super::tree::LEAVES_MAX;

/// A log's state: which log, how many leaves, which root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name; equal, byte for byte, to the name of the key that signs for it.
    pub origin: String,
    /// Number of leaves, at most 2^63 − 1.
    pub size: u64,
    /// The Merkle tree hash of these leaves (RFC 6962 §2.1).
    pub root: Hash,
}

/// Why a checkpoint is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not the three lines origin, size, root; extension lines are refused.
    #[error("the checkpoint has not exactly three lines: origin, size and root")]
    Lines,
    /// The first line cannot be a key's name.
    #[error("the checkpoint's origin is not a key name")]
    Origin,
    /// The second line is not a decimal number without leading zeros up to 2^63 − 1.
    #[error("the checkpoint's size is not a plain decimal number up to 2^63 - 1")]
    Size,
    /// The third line is not the canonical base64 of 32 bytes.
    #[error("the checkpoint's root is not the base64 form of a hash")]
    Root,
    /// No key given is named like the origin.
    #[error("no known key is named like the log {0:?}")]
    UnknownLog(String),
    /// Keys signed, but none of them is named like the origin.
    #[error("the log {0:?} did not sign its checkpoint")]
    Unsigned(String),
    /// The note around it is refused.
    #[error(transparent)]
    Note(#[from] NoteError),
}

impl Checkpoint {
    /// The text to sign: three lines, each with its newline.
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, self.root)
    }

    /// Reads what [`Checkpoint::to_text`] writes, and nothing else.
    ///
    /// # Errors
    /// One of the first four of [`CheckpointError`].
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let lines: Vec<&str> = text.split('\n').collect();
        let [origin, size, root, ""] = lines[..] else { return Err(CheckpointError::Lines) };
        if !note::is_name(origin) {
            return Err(CheckpointError::Origin);
        }
        let size = parse_decimal(size).ok_or(CheckpointError::Size)?;
        let root = Hash::from_base64(root).ok_or(CheckpointError::Root)?;
        Ok(Self { origin: origin.to_owned(), size, root })
    }

    /// Signs the checkpoint as a note.
    ///
    /// # Errors
    /// A key not named like the origin, or a size or origin that [`Checkpoint::open`] would refuse.
    pub fn sign(&self, key: &SigningKey) -> Result<String, CheckpointError> {
        if key.verifying_key().name() != self.origin {
            return Err(CheckpointError::Unsigned(self.origin.clone()));
        }
        if self.size > LEAVES_MAX {
            return Err(CheckpointError::Size);
        }
        Ok(key.sign_note(&self.to_text())?)
    }

    /// Opens a checkpoint that one of the keys signed, a key whose name equals the origin byte for byte.
    ///
    /// Other keys' signatures are checked where the key is given, and never replace the log's own.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn open(note: &str, keys: &[VerifyingKey]) -> Result<Self, CheckpointError> {
        let checkpoint = Self::claimed(note)?;
        if !keys.iter().any(|key| key.name() == checkpoint.origin) {
            return Err(CheckpointError::UnknownLog(checkpoint.origin));
        }
        let opened = note::open(note, keys)?;
        if !opened.verified.iter().any(|place| keys[*place].name() == checkpoint.origin) {
            return Err(CheckpointError::Unsigned(checkpoint.origin));
        }
        Ok(checkpoint)
    }

    /// Reads what a note claims **without checking any signature**: to choose a key or to explain a refusal, only.
    ///
    /// # Errors
    /// A note or text that is not written as it must be.
    pub fn claimed(note: &str) -> Result<Self, CheckpointError> {
        let (text, _) = note::split(note)?;
        Self::parse(text)
    }
}

/// Reads an ASCII decimal without sign or leading zeros, at most 2^63 − 1.
pub(super) fn parse_decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|number| plain && *number <= LEAVES_MAX)
}
