//! Decides who signed a text: C2SP signed-note with Ed25519 keys (type 0x01). Never reads a note loosely, never prints a
//! secret, and never says anything about what the text means.

use std::collections::HashSet;
use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer};
use sha2::{Digest, Sha256};

pub use crate::limits::{NOTE_BYTES_MAX, SIGNATURES_MAX};

/// The signature type of plain Ed25519 notes.
const ED25519: u8 = 0x01;

/// Bytes of the key id in front of every signature.
const KEY_ID_BYTES: usize = 4;

/// How a signature line begins: an em dash and a space.
pub(super) const SIGNATURE_PREFIX: &str = "— ";

/// A public key by name, as a vkey line `name+keyid+base64` states it.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey {
    name: String,
    id: u32,
    key: ed25519_dalek::VerifyingKey,
}

/// Why a vkey line or a key name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Empty, or with a space, a plus sign or a control character.
    #[error("the key name is empty or holds a space, a plus sign or a control character")]
    Name,
    /// Not `name+keyid+base64` with eight lower-case hexadecimal digits and canonical base64.
    #[error("the key is not written as name+keyid+base64")]
    Format,
    /// A signature type other than Ed25519.
    #[error("the key is of signature type {0:#04x}, not Ed25519 (0x01)")]
    Type(u8),
    /// No point of the curve, not its canonical spelling, or of small order.
    #[error("the key is not a usable Ed25519 public key")]
    Point,
    /// The key id is not the one that name and key give.
    #[error("the key id {found:08x} is not the {expected:08x} that name and key give")]
    Id { expected: u32, found: u32 },
}

impl VerifyingKey {
    /// Reads a vkey line, without a newline.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn parse(vkey: &str) -> Result<Self, KeyError> {
        let (name, found, key) = vkey_parts(vkey, ED25519)?;
        let key = Self::new(name, &key)?;
        if key.id == found { Ok(key) } else { Err(KeyError::Id { expected: key.id, found }) }
    }

    /// Names a raw public key of 32 bytes (RFC 8032).
    ///
    /// # Errors
    /// A name no key may have, or bytes that are no usable key.
    pub fn new(name: &str, public_key: &[u8; 32]) -> Result<Self, KeyError> {
        let key = usable(name, public_key)?;
        Ok(Self { name: name.to_owned(), id: key_id(name, ED25519, public_key), key })
    }

    /// The key's name; for a log key, the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key id: the first four bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ key), written as eight hexadecimal digits.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The raw public key.
    pub fn public_key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Whether these are the key's signature over the text, strictly (RFC 8032, no cofactor leniency).
    pub(super) fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        let signature = Signature::from_slice(signature);
        signature.is_ok_and(|signature| self.key.verify_strict(text.as_bytes(), &signature).is_ok())
    }
}

/// Prints the vkey line, without a newline.
impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&vkey(&self.name, self.id, ED25519, self.key.as_bytes()))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({self})")
    }
}

/// A key pair that signs notes. Its secret is wiped when dropped and never printed.
pub struct SigningKey {
    secret: ed25519_dalek::SigningKey,
    public: VerifyingKey,
}

impl SigningKey {
    /// Makes the key pair of a 32-byte seed (RFC 8032 §5.1.5). The caller wipes its own copy of the seed.
    ///
    /// # Errors
    /// A name no key may have.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let secret = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = VerifyingKey::new(name, secret.verifying_key().as_bytes())?;
        Ok(Self { secret, public })
    }

    /// The public half.
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.public
    }

    /// Signs a text and returns the whole note: text, empty line, one signature line.
    ///
    /// # Errors
    /// A text that [`open`] would refuse: without a final newline, with control characters, or too large.
    pub fn sign_note(&self, text: &str) -> Result<String, NoteError> {
        if !text.ends_with('\n') {
            return Err(NoteError::Format { line: text.lines().count() });
        }
        let line = signature_line(&self.public.name, self.public.id, &self.sign_bytes(text));
        let note = format!("{text}\n{line}\n");
        check_characters(&note)?;
        Ok(note)
    }

    /// The bare signature over a text.
    pub(super) fn sign_bytes(&self, text: &str) -> [u8; 64] {
        self.secret.sign(text.as_bytes()).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public)
    }
}

/// Why a note is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Larger than [`NOTE_BYTES_MAX`].
    #[error("the note is larger than {NOTE_BYTES_MAX} bytes")]
    Size,
    /// More lines of signatures than [`SIGNATURES_MAX`].
    #[error("the note has more than {SIGNATURES_MAX} signatures")]
    Count,
    /// Not written as a signed note; `line` counts from 1.
    #[error("line {line} is not what a signed note has there")]
    Format { line: usize },
    /// Two signatures by one key.
    #[error("{name} ({id:08x}) signs twice")]
    Duplicate { name: String, id: u32 },
    /// A known key's signature is not over this text.
    #[error("the signature of {name} ({id:08x}) does not fit the text")]
    Signature { name: String, id: u32 },
    /// None of the known keys signed.
    #[error("no known key signed the note")]
    Unsigned,
}

/// A note whose signatures by known keys all hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// The signed text, final newline included.
    pub text: &'a str,
    /// Which keys signed it, as indexes into the list given, in the order of the note; never empty.
    pub verified: Vec<usize>,
}

/// Opens a note with the known keys. Signatures by others are ignored, provided they are well-formed.
///
/// Stricter than C2SP in three ways: all Unicode control characters are refused, not only those below U+0020; a key that
/// signs twice is refused; and one failing signature of a known key refuses the whole note.
///
/// # Errors
/// See [`NoteError`].
pub fn open<'a>(note: &'a str, keys: &[VerifyingKey]) -> Result<Opened<'a>, NoteError> {
    let (text, block) = split(note)?;
    let first_line = text.matches('\n').count() + 2;
    let mut seen = HashSet::new();
    let mut verified = Vec::new();
    for (line, written) in (first_line..).zip(block.split_terminator('\n')) {
        let (name, id, signature) = parse_signature(written).ok_or(NoteError::Format { line })?;
        if !seen.insert((name, id)) {
            return Err(NoteError::Duplicate { name: name.to_owned(), id });
        }
        if seen.len() > SIGNATURES_MAX {
            return Err(NoteError::Count);
        }
        let Some(place) = keys.iter().position(|key| key.name == name && key.id == id) else { continue };
        if !keys[place].verifies(text, &signature) {
            return Err(NoteError::Signature { name: name.to_owned(), id });
        }
        verified.push(place);
    }
    if verified.is_empty() { Err(NoteError::Unsigned) } else { Ok(Opened { text, verified }) }
}

/// Parts a note at its last empty line into the text and the signature lines. Checks size, characters and newlines, and
/// no signature.
pub(super) fn split(note: &str) -> Result<(&str, &str), NoteError> {
    check_characters(note)?;
    let last_line = NoteError::Format { line: note.lines().count().max(1) };
    let Some(gap) = note.rfind("\n\n") else { return Err(last_line) };
    let (text, block) = (&note[..=gap], &note[gap + 2..]);
    if block.is_empty() || !block.ends_with('\n') { Err(last_line) } else { Ok((text, block)) }
}

/// Whether a key may be called so: not empty, no spaces, no plus sign, no control characters.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

/// Bounds the size and refuses every control character but the newline.
fn check_characters(note: &str) -> Result<(), NoteError> {
    if note.len() > NOTE_BYTES_MAX {
        return Err(NoteError::Size);
    }
    match note.split('\n').position(|line| line.chars().any(char::is_control)) {
        Some(line) => Err(NoteError::Format { line: line + 1 }),
        None => Ok(()),
    }
}

/// Writes `— name base64(id ‖ signature)`, without a newline.
pub(super) fn signature_line(name: &str, id: u32, signature: &[u8]) -> String {
    let encoded = STANDARD.encode([&id.to_be_bytes(), signature].concat());
    format!("{SIGNATURE_PREFIX}{name} {encoded}")
}

/// Reads what [`signature_line`] writes.
pub(super) fn parse_signature(line: &str) -> Option<(&str, u32, Vec<u8>)> {
    let (name, encoded) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
    let bytes = STANDARD.decode(encoded).ok()?;
    let (id, signature) = bytes.split_first_chunk::<KEY_ID_BYTES>()?;
    if !is_name(name) || signature.is_empty() {
        return None;
    }
    Some((name, u32::from_be_bytes(*id), signature.to_vec()))
}

/// The key id: the first four bytes of SHA-256(name ‖ 0x0A ‖ type ‖ key).
pub(super) fn key_id(name: &str, kind: u8, public_key: &[u8; 32]) -> u32 {
    let digest = Sha256::new().chain_update(name).chain_update([b'\n', kind]).chain_update(public_key).finalize();
    digest.iter().take(KEY_ID_BYTES).fold(0, |id, byte| id << 8 | u32::from(*byte))
}

/// Writes the vkey line of an Ed25519 key of this signature type, without a newline.
pub(super) fn vkey(name: &str, id: u32, kind: u8, public_key: &[u8; 32]) -> String {
    format!("{name}+{id:08x}+{}", STANDARD.encode([&[kind], public_key.as_slice()].concat()))
}

/// Reads what [`vkey`] writes: name, key id as written, and public key.
pub(super) fn vkey_parts(vkey: &str, kind: u8) -> Result<(&str, u32, [u8; 32]), KeyError> {
    let mut parts = vkey.splitn(3, '+');
    let (Some(name), Some(id), Some(encoded)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(KeyError::Format);
    };
    let found = u32::from_str_radix(id, 16).ok().filter(|value| format!("{value:08x}") == id);
    let found = found.ok_or(KeyError::Format)?;
    let bytes = STANDARD.decode(encoded).map_err(|_| KeyError::Format)?;
    match bytes.split_first() {
        Some((found_kind, key)) if *found_kind == kind => {
            Ok((name, found, key.try_into().map_err(|_| KeyError::Format)?))
        }
        Some((&other, _)) => Err(KeyError::Type(other)),
        None => Err(KeyError::Format),
    }
}

/// The key, if a key may be called so and these bytes are one: canonical and not of small order.
fn usable(name: &str, public_key: &[u8; 32]) -> Result<ed25519_dalek::VerifyingKey, KeyError> {
    if !is_name(name) {
        return Err(KeyError::Name);
    }
    let key = ed25519_dalek::VerifyingKey::from_bytes(public_key).map_err(|_| KeyError::Point)?;
    if key.is_weak() || key.to_edwards().compress().as_bytes() != public_key {
        return Err(KeyError::Point);
    }
    Ok(key)
}
