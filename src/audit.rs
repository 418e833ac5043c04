//! Decides how an act of a person is written as a leaf (docs/receipts.md §3.4): who did what to which thing, when, as the
//! gateway saw it. Never holds a body or a message's content.

use crate::id::ReceiptId;
use crate::limits::LEAF_BYTES_MAX;
use crate::message::Digest;
use crate::party::Member;
use crate::time::Time;

/// One act of a person at work, e.g. that new routing tables were published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    pub id: ReceiptId,
    /// By the gateway's own clock.
    pub at: Time,
    /// The gateway that tells.
    pub issuer: Member,
    /// The C2SP key id of its log key.
    pub key_id: u32,
    /// URI name of who acted; at most 255 bytes, cut when longer.
    pub actor: String,
    /// What was done, e.g. `route.publish`; at most 32 bytes.
    pub act: String,
    /// To what: a version, a message, a lane; at most 128 bytes.
    pub object: String,
    /// Digest of what was put in place, if anything was.
    pub content: Option<Digest>,
}

/// An act that does not fit a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an act's leaf would be longer than {LEAF_BYTES_MAX} bytes")]
pub struct ActError;

/// The kind of an act's leaf: its second byte.
pub const KIND: u8 = 2;
/// First bytes of an act's leaf: encoding version 1, and the kind.
const PROLOGUE: [u8; 2] = [1, KIND];
/// The digest algorithm's number in a leaf.
const SHA256: u8 = 1;

impl Act {
    /// The leaf's bytes: `01 02`, then each field that is not empty as tag, one length byte and value, in ascending order.
    ///
    /// # Errors
    /// Texts so long that they pass the bound of a leaf together.
    pub fn to_leaf(&self) -> Result<Vec<u8>, ActError> {
        let at = self.at.ms().to_be_bytes();
        let content = self.content.map_or(vec![], |digest| [[SHA256].as_slice(), &digest.0].concat());
        let issuer = self.issuer.to_string();
        let fields: [&[u8]; 8] = [
            self.id.bytes(),
            &at[self.at.ms().leading_zeros() as usize / 8..],
            issuer.as_bytes(),
            &self.key_id.to_be_bytes(),
            cut(&self.actor, 255),
            cut(&self.act, 32),
            cut(&self.object, 128),
            &content,
        ];
        let mut leaf = PROLOGUE.to_vec();
        for (tag, value) in (1..).zip(fields).filter(|(_, value)| !value.is_empty()) {
            leaf.extend_from_slice(&[tag, value.len() as u8]);
            leaf.extend_from_slice(value);
        }
        if leaf.len() > LEAF_BYTES_MAX { Err(ActError) } else { Ok(leaf) }
    }
}

/// The beginning of a text, cut between characters.
fn cut(text: &str, max: usize) -> &[u8] {
    &text.as_bytes()[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_is_written_field_by_field_and_always_fits() {
        let act = Act {
            id: ReceiptId::from_bytes([7; 16]),
            at: Time::from_ms(0x0102),
            issuer: "450200".parse().unwrap(),
            key_id: 9,
            actor: "a".to_owned(),
            act: "route.publish".to_owned(),
            object: "3".to_owned(),
            content: Some(Digest([5; 32])),
        };
        let leaf = act.to_leaf().unwrap();
        assert_eq!(&leaf[..4], [1, 2, 1, 16]);
        assert_eq!(&leaf[20..24], [2, 2, 1, 2]);
        assert_eq!(leaf[leaf.len() - 35..leaf.len() - 32], [8, 33, 1]);
        let long = Act { actor: "长".repeat(200), act: "x".repeat(99), object: "y".repeat(999), ..act };
        assert!(long.to_leaf().unwrap().len() <= LEAF_BYTES_MAX);
    }
}
