//! Decides how an act of a person is written as a leaf (docs/receipts.md §3.4): who did what to which thing, when and why, or
//! why it was refused, as the gateway saw it. Never holds a body or a message's content.

use crate::evidence::Code;
use crate::id::ReceiptId;
use crate::limits::LEAF_BYTES_MAX;
use crate::message::Digest;
use crate::party::Member;
use crate::time::Time;

/// What a person did, or was refused, before it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deed {
    /// URI name of who acted; at most 255 bytes, cut when longer.
    pub actor: String,
    /// What was done, e.g. `route.publish`; at most 32 bytes.
    pub act: String,
    /// To what: a version, a message, a lane; at most 128 bytes.
    pub object: String,
    /// Digest of what was put in place, if anything was.
    pub content: Option<Digest>,
    /// The reason for which it was refused; none when it was done.
    pub refused: Option<Code>,
    /// Why, in the words of who acted; as much of it as the leaf has room for, at most 255 bytes.
    pub why: String,
}

/// One act of a person at work, as the log tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    pub id: ReceiptId,
    /// By the gateway's own clock.
    pub at: Time,
    /// The gateway that tells.
    pub issuer: Member,
    /// The C2SP key id of its log key.
    pub key_id: u32,
    pub deed: Deed,
}

/// An act that does not fit a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an act's leaf would be longer than {LEAF_BYTES_MAX} bytes")]
pub struct ActError;

/// Bytes that are not the leaf of an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the leaf of an act")]
pub struct NoAct;

/// The kind of an act's leaf: its second byte.
pub const KIND: u8 = 2;
/// First bytes of an act's leaf: encoding version 1, and the kind.
const PROLOGUE: [u8; 2] = [1, KIND];
/// The digest algorithm's number in a leaf.
const SHA256: u8 = 1;
/// The number of fields; each one's tag is its place, from 1.
const FIELDS: usize = 10;

impl Act {
    /// The leaf's bytes: `01 02`, then each field that is not empty as tag, one length byte and value, in ascending order.
    ///
    /// # Errors
    /// Texts so long that they pass the bound of a leaf together.
    pub fn to_leaf(&self) -> Result<Vec<u8>, ActError> {
        let (at, deed) = (self.at.ms().to_be_bytes(), &self.deed);
        let content = deed.content.map_or(vec![], |digest| [[SHA256].as_slice(), &digest.0].concat());
        let issuer = self.issuer.to_string();
        let fields: [&[u8]; FIELDS - 1] = [
            self.id.bytes(),
            &at[self.at.ms().leading_zeros() as usize / 8..],
            issuer.as_bytes(),
            &self.key_id.to_be_bytes(),
            cut(&deed.actor, 255),
            cut(&deed.act, 32),
            cut(&deed.object, 128),
            &content,
            deed.refused.as_ref().map_or("", Code::as_str).as_bytes(),
        ];
        let mut leaf = PROLOGUE.to_vec();
        (1..).zip(fields).for_each(|(tag, value)| put(&mut leaf, tag, value));
        let room = LEAF_BYTES_MAX.saturating_sub(leaf.len() + 2).min(255);
        put(&mut leaf, FIELDS as u8, cut(&deed.why, room));
        if leaf.len() > LEAF_BYTES_MAX { Err(ActError) } else { Ok(leaf) }
    }

    /// Reads a leaf that [`Act::to_leaf`] wrote.
    ///
    /// # Errors
    /// Another kind of leaf, or one that a gateway of another version wrote.
    pub fn from_leaf(leaf: &[u8]) -> Result<Act, NoAct> {
        let mut rest = leaf.strip_prefix(&PROLOGUE).ok_or(NoAct)?;
        let (mut fields, mut newest) = ([[].as_slice(); FIELDS], 0);
        while let [tag, length, behind @ ..] = rest {
            let (value, behind) = behind.split_at_checked(usize::from(*length)).ok_or(NoAct)?;
            let place = usize::from(*tag).checked_sub(1).filter(|place| *place < FIELDS).ok_or(NoAct)?;
            if *tag <= newest || value.is_empty() {
                return Err(NoAct);
            }
            (fields[place], newest, rest) = (value, *tag, behind);
        }
        let [id, at, issuer, key_id, actor, act, object, content, refused, why] = fields;
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| NoAct);
        if !rest.is_empty() || at.len() > 8 {
            return Err(NoAct);
        }
        let content = match content {
            [] => None,
            [SHA256, digest @ ..] => Some(Digest(digest.try_into().map_err(|_| NoAct)?)),
            _ => return Err(NoAct),
        };
        let refused = Some(text(refused)?).filter(|code| !code.is_empty());
        Ok(Act {
            id: ReceiptId::from_bytes(id.try_into().map_err(|_| NoAct)?),
            at: Time::from_ms(at.iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte))),
            issuer: text(issuer)?.parse().map_err(|_| NoAct)?,
            key_id: u32::from_be_bytes(key_id.try_into().map_err(|_| NoAct)?),
            deed: Deed {
                actor: text(actor)?,
                act: text(act)?,
                object: text(object)?,
                content,
                refused: refused.map(|code| code.parse()).transpose().map_err(|_| NoAct)?,
                why: text(why)?,
            },
        })
    }
}

/// Writes a field that is not empty.
fn put(leaf: &mut Vec<u8>, tag: u8, value: &[u8]) {
    if !value.is_empty() {
        leaf.extend_from_slice(&[tag, value.len() as u8]);
        leaf.extend_from_slice(value);
    }
}

/// The beginning of a text, cut between characters.
fn cut(text: &str, max: usize) -> &[u8] {
    &text.as_bytes()[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act() -> Act {
        Act {
            id: ReceiptId::from_bytes([7; 16]),
            at: Time::from_ms(0x0102),
            issuer: "450200".parse().unwrap(),
            key_id: 9,
            deed: Deed {
                actor: "a".to_owned(),
                act: "route.publish".to_owned(),
                object: "3".to_owned(),
                content: Some(Digest([5; 32])),
                ..Deed::default()
            },
        }
    }

    #[test]
    fn an_act_is_written_field_by_field_and_always_fits() {
        let leaf = act().to_leaf().unwrap();
        assert_eq!(&leaf[..4], [1, 2, 1, 16]);
        assert_eq!(&leaf[20..24], [2, 2, 1, 2]);
        assert_eq!(leaf[leaf.len() - 35..leaf.len() - 32], [8, 33, 1]);
        let long = Deed {
            actor: "长".repeat(200),
            act: "x".repeat(99),
            object: "y".repeat(999),
            content: Some(Digest([5; 32])),
            refused: "A".repeat(32).parse().ok(),
            why: "因".repeat(999),
        };
        let leaf = Act { deed: long, ..act() }.to_leaf().unwrap();
        assert!((LEAF_BYTES_MAX - 3..=LEAF_BYTES_MAX).contains(&leaf.len()), "{}", leaf.len());
        assert!(Act::from_leaf(&leaf).unwrap().deed.why.starts_with("因"), "there is room for a reason");
    }

    #[test]
    fn an_act_reads_back_as_it_was_written_and_nothing_else_does() {
        let refused = Deed { refused: "NOT_PERMITTED".parse().ok(), why: "核对".to_owned(), ..act().deed };
        for act in [act(), Act { deed: refused, ..act() }, Act { deed: Deed::default(), at: Time::ZERO, ..act() }] {
            let leaf = act.to_leaf().unwrap();
            assert_eq!(Act::from_leaf(&leaf), Ok(act));
            for end in 0..leaf.len() {
                // A leaf that ends between two fields lacks only what may be left out.
                if let Ok(short) = Act::from_leaf(&leaf[..end]) {
                    assert_eq!(short.to_leaf().unwrap(), leaf[..end]);
                }
            }
            assert_eq!(Act::from_leaf(&[&leaf[..], &[11, 1, 0]].concat()), Err(NoAct), "an unknown field");
            assert_eq!(Act::from_leaf(&[&leaf[..], &[1, 1, 0]].concat()), Err(NoAct), "out of order");
            assert_eq!(Act::from_leaf(&[&[1, 1], &leaf[2..]].concat()), Err(NoAct), "another kind");
        }
    }
}
