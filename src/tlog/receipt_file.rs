//! Decides how a receipt is written as a file (C2SP tlog-proof) and whether it proves its leaf, offline, against a list
//! of trusted log keys. Never reads the leaf's meaning, and never believes the extra data, which nobody signs.

use std::collections::VecDeque;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::checkpoint::{Checkpoint, CheckpointError, parse_decimal};
use super::note::{NoteError, VerifyingKey};
use super::proof::{ProofError, verify_inclusion};
use super::{Hash, leaf_hash};

pub use crate::limits::{CHECKPOINTS_CACHED_MAX, PROOF_BYTES_MAX};

/// The first line of every receipt file.
const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// A receipt without its leaf: where the leaf stands, and what proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// Data beside the proof that nothing authenticates. Our own receipts have none; empty data is written as none.
    pub extra: Option<Vec<u8>>,
    /// Index of the leaf, counted from 0.
    pub index: u64,
    /// Inclusion path, from the leaf's sibling up to the root's child (RFC 6962 §2.1.1).
    pub path: Vec<Hash>,
    /// The signed checkpoint, byte for byte.
    pub checkpoint_note: String,
}

/// Where a file departs from the format; `line` counts from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not what a tlog-proof has there")]
pub struct FormatError {
    pub line: usize,
}

impl TlogProof {
    /// The file's text. What it holds in fields is written as it is; [`TlogProof::parse`] refuses what must not be.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        if let Some(extra) = self.extra.as_ref().filter(|extra| !extra.is_empty()) {
            text += &format!("extra {}\n", STANDARD.encode(extra));
        }
        text += &format!("index {}\n", self.index);
        for hash in &self.path {
            text += &format!("{hash}\n");
        }
        text + "\n" + &self.checkpoint_note
    }

    /// Reads a file up to its checkpoint, which stays as it is: opening it is [`verify`]'s affair.
    ///
    /// # Errors
    /// The first line that is not in the one spelling the format has; line 1 also for a file above [`PROOF_BYTES_MAX`].
    pub fn parse(file: &[u8]) -> Result<Self, FormatError> {
        if file.len() > PROOF_BYTES_MAX {
            return Err(FormatError { line: 1 });
        }
        let text =
            std::str::from_utf8(file).map_err(|error| FormatError { line: line_at(file, error.valid_up_to()) })?;
        let end = FormatError { line: line_at(file, file.len().saturating_sub(1)) };
        let (head, checkpoint_note) = text.split_once("\n\n").ok_or(end)?;
        let mut lines = head.split('\n').zip(1..).peekable();
        lines.next_if(|(line, _)| *line == HEADER).ok_or(FormatError { line: 1 })?;
        let extra = match lines.next_if(|(line, _)| line.starts_with("extra ")) {
            Some((line, number)) => Some(parse_extra(line).ok_or(FormatError { line: number })?),
            None => None,
        };
        let (line, number) = lines.next().ok_or(end)?;
        let index = line.strip_prefix("index ").and_then(parse_decimal).ok_or(FormatError { line: number })?;
        let hashes = lines.map(|(line, number)| Hash::from_base64(line).ok_or(FormatError { line: number }));
        let path = hashes.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { extra, index, path, checkpoint_note: checkpoint_note.to_owned() })
    }

    /// Lines in front of the checkpoint.
    fn head_lines(&self) -> usize {
        usize::from(self.extra.is_some()) + self.path.len() + 3
    }
}

fn parse_extra(line: &str) -> Option<Vec<u8>> {
    STANDARD.decode(line.strip_prefix("extra ")?).ok().filter(|extra| !extra.is_empty())
}

/// The line, from 1, in which a byte of a file stands.
fn line_at(file: &[u8], offset: usize) -> usize {
    file[..offset].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// What a receipt proves: that this leaf stands in this log, which was in this state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The log's name.
    pub origin: String,
    /// Number of leaves in the log at the checkpoint.
    pub size: u64,
    /// The root that the log signed.
    pub root: Hash,
    /// Index of the leaf.
    pub index: u64,
    /// Hash of the leaf.
    pub leaf: Hash,
}

/// Which part of a receipt fails. [`VerifyError::part`] gives the part as a word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Not written as it must be; `line` counts from 1 in the file.
    #[error("line {line} is not what a tlog-proof has there")]
    Format { line: usize },
    /// The log signed a smaller tree.
    #[error("index {index} lies outside the log of {size} leaves that was signed")]
    Index { index: u64, size: u64 },
    /// The path is too long or too short.
    #[error("the proof has {found} hashes where index and size call for {expected}")]
    Proof { expected: usize, found: usize },
    /// The size is unreadable, or was changed after signing: neither the signature nor index and proof fit it.
    #[error("the tree size is not the one that was signed")]
    Size,
    /// The root was changed after signing: it is neither the signed one nor the one that leaf and proof lead to.
    #[error("the root is neither the signed one nor the one that leaf and proof lead to")]
    Root,
    /// The signed root is another than leaf and proof lead to. Which of them was changed cannot be told.
    #[error("leaf and proof do not lead to the signed root: the leaf, its index or a proof hash was changed")]
    LeafOrProof,
    /// No trusted key is named like the log.
    #[error("no trusted key is named like the log {0:?}")]
    Origin(String),
    /// The log's signature is missing or does not fit the checkpoint.
    #[error("the checkpoint is not signed by the log: {0}")]
    Signature(CheckpointError),
}

impl VerifyError {
    /// The part at fault: `format`, `index`, `proof`, `size`, `root`, `leaf or proof`, `origin` or `signature`.
    pub fn part(&self) -> &'static str {
        match self {
            Self::Format { .. } => "format",
            Self::Index { .. } => "index",
            Self::Proof { .. } => "proof",
            Self::Size => "size",
            Self::Root => "root",
            Self::LeafOrProof => "leaf or proof",
            Self::Origin(_) => "origin",
            Self::Signature(_) => "signature",
        }
    }
}

impl From<FormatError> for VerifyError {
    fn from(FormatError { line }: FormatError) -> Self {
        Self::Format { line }
    }
}

/// Checks one receipt file against the raw bytes of its leaf and the keys of the logs that are trusted.
///
/// # Errors
/// The part that fails, see [`VerifyError`].
pub fn verify(file: &[u8], leaf: &[u8], trusted: &[VerifyingKey]) -> Result<Verified, VerifyError> {
    let proof = TlogProof::parse(file)?;
    let checkpoint = Checkpoint::open(&proof.checkpoint_note, trusted).map_err(|error| blame(&proof, leaf, error))?;
    prove(&proof, leaf, checkpoint)
}

/// Checks many receipts, and each checkpoint that they share only once.
#[derive(Debug)]
pub struct Verifier {
    trusted: Vec<VerifyingKey>,
    opened: VecDeque<(String, Checkpoint)>,
}

impl Verifier {
    /// Starts with the keys of the logs that are trusted and nothing remembered.
    pub fn new(trusted: Vec<VerifyingKey>) -> Self {
        Self { trusted, opened: VecDeque::new() }
    }

    /// Checks one receipt file; answers exactly as [`verify`] does.
    ///
    /// # Errors
    /// The part that fails, see [`VerifyError`].
    pub fn verify(&mut self, file: &[u8], leaf: &[u8]) -> Result<Verified, VerifyError> {
        self.verify_proof(&TlogProof::parse(file)?, leaf)
    }

    /// Checks one receipt that did not come as a file. Lines in errors are those the file would have.
    ///
    /// # Errors
    /// The part that fails, see [`VerifyError`].
    pub fn verify_proof(&mut self, proof: &TlogProof, leaf: &[u8]) -> Result<Verified, VerifyError> {
        let checkpoint = self.open(&proof.checkpoint_note).map_err(|error| blame(proof, leaf, error))?;
        prove(proof, leaf, checkpoint)
    }

    /// Opens a checkpoint, newest remembered first. Only what verified is remembered; the oldest is forgotten.
    fn open(&mut self, note: &str) -> Result<Checkpoint, CheckpointError> {
        if let Some((_, checkpoint)) = self.opened.iter().find(|(opened, _)| opened == note) {
            return Ok(checkpoint.clone());
        }
        let checkpoint = Checkpoint::open(note, &self.trusted)?;
        self.opened.truncate(CHECKPOINTS_CACHED_MAX - 1);
        self.opened.push_front((note.to_owned(), checkpoint.clone()));
        Ok(checkpoint)
    }
}

/// Proves the leaf under a checkpoint that the log signed.
fn prove(proof: &TlogProof, leaf: &[u8], signed: Checkpoint) -> Result<Verified, VerifyError> {
    let (leaf, index) = (leaf_hash(leaf), proof.index);
    let Checkpoint { origin, size, root } = signed;
    match verify_inclusion(&leaf, index, size, &proof.path, &root) {
        Ok(()) => Ok(Verified { origin, size, root, index, leaf }),
        Err(ProofError::Index { index, size }) => Err(VerifyError::Index { index, size }),
        Err(ProofError::PathLength { expected, found }) => Err(VerifyError::Proof { expected, found }),
        Err(ProofError::Root) => Err(VerifyError::LeafOrProof),
    }
}

/// Names the part that made a checkpoint unacceptable. A checkpoint that was changed after signing is told apart from a
/// changed signature by whether the leaf still proves under what it claims.
fn blame(proof: &TlogProof, leaf: &[u8], error: CheckpointError) -> VerifyError {
    let line = |line: usize| VerifyError::Format { line: proof.head_lines() + line };
    match error {
        CheckpointError::Origin => line(1),
        CheckpointError::Size => VerifyError::Size,
        CheckpointError::Root => line(3),
        CheckpointError::Lines => line(4),
        CheckpointError::Note(NoteError::Format { line: number }) => line(number),
        CheckpointError::Note(NoteError::Size | NoteError::Count) => line(1),
        CheckpointError::UnknownLog(origin) => VerifyError::Origin(origin),
        CheckpointError::Note(NoteError::Signature { ref name, .. }) => match claim(proof, leaf, name) {
            Some(ProofError::Index { .. } | ProofError::PathLength { .. }) => VerifyError::Size,
            Some(ProofError::Root) => VerifyError::Root,
            None => VerifyError::Signature(error),
        },
        CheckpointError::Note(NoteError::Duplicate { .. } | NoteError::Unsigned) | CheckpointError::Unsigned(_) => {
            VerifyError::Signature(error)
        }
    }
}

/// Why the leaf does not prove under the checkpoint that a log named like the failing key claims, if it does not.
fn claim(proof: &TlogProof, leaf: &[u8], signer: &str) -> Option<ProofError> {
    let claimed = Checkpoint::claimed(&proof.checkpoint_note).ok().filter(|claimed| claimed.origin == signer)?;
    verify_inclusion(&leaf_hash(leaf), proof.index, claimed.size, &proof.path, &claimed.root).err()
}
