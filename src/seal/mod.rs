//! Decides how a part list and bodies are sealed for the one gateway that may read them, and how that gateway opens them:
//! HPKE (RFC 9180). Never decides what is sealed or whether it must be, and never trusts what opens: part digests still do.
//!
//! The suite is DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305, mode base, without an AAD for a part list.
//! HPKE's `info` binds what is sealed to its message and its reader. It is version byte 1 and then each of these as a
//! 4-byte big-endian length and its bytes:
//!
//! 1. `tongban.seal.v1`
//! 2. the alliance's name
//! 3. the recipient member, as `450200` or `hub/<name>`
//! 4. `sha256`
//! 5. the 32 bytes of the message's header digest (docs/receipts.md §2)
//! 6. `parts`, or `attachment`
//! 7. for an attachment only: its position among the parts, 4 bytes big-endian
//!
//! Mode base says nothing about who sealed: that is the origin's receipt's to say, whose digests cover the plaintext.

mod stream;

use std::convert::Infallible;
use std::path::Path;

use hpke::aead::{AeadCtxR, AeadCtxS, ChaCha20Poly1305};
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use zeroize::Zeroizing;

use crate::directory::{SealingKey, SealingKeyId};
use crate::keys::{self, KeyFileError};
use crate::message::Digest;
use crate::party::{Alliance, Member};

pub use stream::{StreamOpener, StreamSealer, plain_size, sealed_size};

/// What stands first in `info`, so that nothing sealed for another purpose opens as a body.
const NAME: &str = "tongban.seal.v1";
/// The suite by name, as it stands beside sealed bytes on the wire.
pub const ALGORITHM: &str = "hpke-x25519-hkdf-sha256-chacha20poly1305";
/// Bytes of an encapsulated key (RFC 9180 §7.1, `Nenc`).
pub const ENCAPSULATED_BYTES: usize = 32;
/// Bytes of an authentication tag (RFC 8439 §2.8), which every sealed piece is longer than its plaintext.
pub const TAG_BYTES: usize = 16;

type Sending = AeadCtxS<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>;
type Receiving = AeadCtxR<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>;

/// To which message and which reader sealed bytes belong. Both sides must have the same, or nothing opens.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub alliance: &'a Alliance,
    /// Whose gateway opens it; never the hub on the way.
    pub recipient: &'a Member,
    /// The digest of the sender's fields; it covers the part list's digest.
    pub header_digest: Digest,
}

impl Context<'_> {
    fn info(&self, what: What) -> Vec<u8> {
        let mut info = vec![1];
        let mut field = |bytes: &[u8]| {
            info.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            info.extend_from_slice(bytes);
        };
        field(NAME.as_bytes());
        field(self.alliance.as_str().as_bytes());
        field(self.recipient.to_string().as_bytes());
        field(Digest::ALGORITHM.as_bytes());
        field(&self.header_digest.0);
        match what {
            What::Parts => field(b"parts"),
            What::Attachment(position) => {
                field(b"attachment");
                field(&position.to_be_bytes());
            }
        }
        info
    }
}

/// Which piece of a message is sealed.
#[derive(Debug, Clone, Copy)]
enum What {
    /// The part list with all inline bodies.
    Parts,
    /// The attachment at this position among the parts, from 0.
    Attachment(u32),
}

/// A sealed part list with its bodies, as the hub carries it.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Which of the recipient's keys opens it.
    pub key_id: SealingKeyId,
    /// HPKE's encapsulated key.
    pub encapsulated: [u8; ENCAPSULATED_BYTES],
    /// The plaintext, encrypted, and its tag of [`TAG_BYTES`].
    pub ciphertext: Vec<u8>,
}

/// Sealed bytes show their key and length.
impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed({} bytes for {})", self.ciphertext.len(), self.key_id)
    }
}

/// Why nothing could be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// X25519 gives nothing secret with this key (RFC 9180 §7.1.4): the member's record holds a key made to be weak.
    #[error("sealing key {0} makes no secret")]
    Key(SealingKeyId),
    #[error("more than the cipher takes")]
    TooLarge,
}

/// Why sealed bytes were not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The sender's directory names a key that is not, or no longer, at hand here.
    #[error("sealed for key {0}, which is not at hand")]
    WrongKey(SealingKeyId),
    /// Altered, cut, lengthened, put in another order, or sealed for another message or another member: the cipher
    /// cannot tell which.
    #[error("the seal does not hold: altered, cut, or made for another message or member")]
    Damaged,
}

/// The secret key with which a gateway opens what was sealed for it; wiped from memory when dropped, and without `Debug`
/// on purpose.
pub struct OpeningKey {
    secret: <X25519HkdfSha256 as Kem>::PrivateKey,
    public: SealingKey,
}

impl OpeningKey {
    /// The key that a seed of 32 random bytes stands for (RFC 9180 §7.1.3, `DeriveKeyPair`).
    pub fn from_seed(seed: &[u8; 32]) -> OpeningKey {
        let (secret, public) = X25519HkdfSha256::derive_keypair(seed);
        OpeningKey { secret, public: SealingKey::from_bytes(public.to_bytes().into()) }
    }

    /// Reads the key from its seed file (`tongban-hpke-seed:` and 32 bytes in base64).
    ///
    /// # Errors
    /// As [`keys::read_sealing_seed`].
    pub fn read(path: &Path) -> Result<OpeningKey, KeyFileError> {
        Ok(OpeningKey::from_seed(keys::read_sealing_seed(path)?.bytes()))
    }

    /// The public half, which the member's record names.
    pub fn public(&self) -> &SealingKey {
        &self.public
    }
}

/// Seals a part list with its bodies for the recipient in `context`. `chance` is 32 fresh random bytes for each call: with
/// the same ones the same bytes come out.
///
/// # Errors
/// A key that was made to be weak.
pub fn seal(to: &SealingKey, context: &Context, plaintext: &[u8], chance: [u8; 32]) -> Result<Sealed, SealError> {
    let (encapsulated, mut sending) = sending(to, &context.info(What::Parts), chance)?;
    let ciphertext = sending.seal(plaintext, &[]).map_err(|_| SealError::TooLarge)?;
    Ok(Sealed { key_id: to.id(), encapsulated, ciphertext })
}

/// Opens a sealed part list with the one of `keys` it names: the present key, and former ones for what is still under
/// way.
///
/// # Errors
/// A key that is not among `keys`, or a seal that does not hold.
pub fn open(keys: &[OpeningKey], context: &Context, sealed: &Sealed) -> Result<Vec<u8>, OpenError> {
    let key = opening_key(keys, sealed.key_id)?;
    let mut receiving = receiving(key, &context.info(What::Parts), &sealed.encapsulated)?;
    receiving.open(&sealed.ciphertext, &[]).map_err(|_| OpenError::Damaged)
}

/// The one of `keys` with this short name.
///
/// # Errors
/// None has it.
pub fn opening_key(keys: &[OpeningKey], id: SealingKeyId) -> Result<&OpeningKey, OpenError> {
    keys.iter().find(|key| key.public.id() == id).ok_or(OpenError::WrongKey(id))
}

fn sending(to: &SealingKey, info: &[u8], chance: [u8; 32]) -> Result<([u8; ENCAPSULATED_BYTES], Sending), SealError> {
    let weak = |_| SealError::Key(to.id());
    let public = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(to.bytes()).map_err(weak)?;
    let mut chance = Given { bytes: Zeroizing::new(chance), used: 0 };
    let (encapsulated, context): (<X25519HkdfSha256 as Kem>::EncappedKey, Sending) =
        hpke::setup_sender_with_rng(&OpModeS::Base, &public, info, &mut chance).map_err(weak)?;
    Ok((encapsulated.to_bytes().into(), context))
}

fn receiving(key: &OpeningKey, info: &[u8], encapsulated: &[u8]) -> Result<Receiving, OpenError> {
    let damaged = |_| OpenError::Damaged;
    let encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(encapsulated).map_err(damaged)?;
    hpke::setup_receiver(&OpModeR::Base, &key.secret, &encapsulated, info).map_err(damaged)
}

/// Hands out the random bytes that the caller gave, once: HPKE makes its one ephemeral key of them.
struct Given {
    bytes: Zeroizing<[u8; 32]>,
    used: usize,
}

impl TryRng for Given {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        let left = &self.bytes[self.used..];
        // The same bytes must never serve twice, and RFC 9180 §4.1 asks for one ephemeral key only.
        assert!(into.len() <= left.len(), "an ephemeral X25519 key takes 32 random bytes");
        into.copy_from_slice(&left[..into.len()]);
        self.used += into.len();
        Ok(())
    }
}

impl TryCryptoRng for Given {}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9180 appendix A.2.1: this suite in mode base, its first two encryptions.
    #[test]
    fn the_vectors_of_rfc_9180_are_met() {
        let bytes = |text: &str| hex::decode(text).unwrap();
        let seed = |text: &str| <[u8; 32]>::try_from(bytes(text)).unwrap();
        let info = bytes("4f6465206f6e2061204772656369616e2055726e");
        let key = OpeningKey::from_seed(&seed("1ac01f181fdf9f352797655161c58b75c656a6cc2716dcb66372da835542e1df"));
        assert_eq!(hex::encode(key.public.bytes()), "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a");
        let ephemeral = seed("909a9b35d3dc4713a5e72a4da274b55d3d3821a37e5d099e74a647db583a904b");
        let (encapsulated, mut sending) = sending(&key.public, &info, ephemeral).unwrap();
        assert_eq!(hex::encode(encapsulated), "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a");
        let mut receiving = receiving(&key, &info, &encapsulated).unwrap();
        for (count, ciphertext) in [
            "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28",
            "6b53c051e4199c518de79594e1c4ab18b96f081549d45ce015be002090bb119e85285337cc95ba5f59992dc98c",
        ]
        .into_iter()
        .enumerate()
        {
            let aad = format!("Count-{count}");
            let sealed = sending.seal(b"Beauty is truth, truth beauty", aad.as_bytes()).unwrap();
            assert_eq!(hex::encode(&sealed), ciphertext);
            assert_eq!(receiving.open(&sealed, aad.as_bytes()).unwrap(), b"Beauty is truth, truth beauty");
        }
    }
}
