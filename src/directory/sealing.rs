//! Decides how a member's public sealing key is written and by which short name it is called. Never seals or opens
//! anything; that is `seal`'s to do.

use std::fmt;
use std::str::FromStr;

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use super::record::{Fault, MemberRecord};

/// How the text of a sealing key begins: the KEM by name, so that a key of another kind is never taken for this one.
const PREFIX: &str = "hpke-x25519:";

/// The public key to which bodies for a member are sealed on a hub route: an X25519 key for DHKEM(X25519, HKDF-SHA256)
/// (RFC 9180 §7.1), written `hpke-x25519:` and its 32 bytes in base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SealingKey([u8; 32]);

impl SealingKey {
    /// The key with these bytes (RFC 9180 §7.1.1, `SerializePublicKey`).
    pub const fn from_bytes(bytes: [u8; 32]) -> SealingKey {
        SealingKey(bytes)
    }

    /// The 32 bytes of the key.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The short name under which sealed bytes say which key opens them.
    pub fn id(&self) -> SealingKeyId {
        let mut id = [0; 8];
        id.copy_from_slice(&Sha256::digest(self.0)[..8]);
        SealingKeyId(id)
    }
}

impl fmt::Display for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SealingKey {
    type Err = Fault;

    fn from_str(text: &str) -> Result<SealingKey, Fault> {
        let encoded = text.strip_prefix(PREFIX).ok_or(Fault::SealingKey)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| Fault::SealingKey)?;
        Ok(SealingKey(bytes.try_into().map_err(|_| Fault::SealingKey)?))
    }
}

/// The first 8 bytes of SHA-256 over a sealing key's 32 bytes. It tells a member's keys apart and authenticates nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SealingKeyId(pub [u8; 8]);

impl fmt::Display for SealingKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SealingKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// In which form a part list and its bodies may travel through a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubForm {
    /// Sealed with the recipient's key.
    Sealed(SealingKey),
    /// As they are: the recipient names no key, and both members let hubs see bodies.
    Open,
}

/// How what `from` sends to `to` travels through a hub: sealed wherever the recipient names a key; `None` when it may not
/// travel through one at all.
pub fn hub_form(from: &MemberRecord, to: &MemberRecord) -> Option<HubForm> {
    match to.sealing_key {
        Some(key) => Some(HubForm::Sealed(key)),
        None => may_go_open(from, to).then_some(HubForm::Open),
    }
}

/// Whether a hub may be shown a body on its way between these two: both must say so. What the hub, and the gateway behind
/// it, ask of a message that is not sealed.
pub fn may_go_open(from: &MemberRecord, to: &MemberRecord) -> bool {
    from.unsealed_relay && to.unsealed_relay
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealing_key_reads_back_as_it_was_written() {
        let text = "hpke-x25519:CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";
        let key: SealingKey = text.parse().unwrap();
        assert_eq!((key, key.to_string().as_str()), (SealingKey::from_bytes([9; 32]), text));
        assert_eq!(key.id().to_string(), hex::encode(&Sha256::digest([9; 32])[..8]));
    }

    #[test]
    fn a_text_that_is_no_sealing_key_is_refused() {
        let good = SealingKey::from_bytes([9; 32]).to_string();
        for text in [
            "",
            "hpke-x25519:",
            &good[..good.len() - 1],
            &good.replace("hpke-", ""),
            &good.replace("QkJCQk=", "QkJCQl="),
            &good.replacen("CQkJ", "", 1),
            &good.replacen("CQkJ", "CQkJCQkJ", 1),
            &good.replacen(":C", ": C", 1),
            &format!("{good}\n"),
        ] {
            assert_eq!(text.parse::<SealingKey>(), Err(Fault::SealingKey), "{text:?}");
        }
    }
}
