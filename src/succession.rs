//! Decides how the first leaf of a log that follows another is written (docs/receipts.md §3.5): which log it closes, and how
//! far that one had come. Never says why the log was left.

use crate::id::ReceiptId;
use crate::limits::LOG_ORIGIN_BYTES_MAX;
use crate::message::Digest;
use crate::party::Member;
use crate::time::Time;

/// The log that is left, as far as it was known to who left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Its name, e.g. `450200.gateway.alliance.example/log/a/1`.
    pub origin: String,
    /// Its leaves, as far as they are known here; it may have had more, which were lost.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
}

/// The first leaf of the log that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succession {
    pub id: ReceiptId,
    /// By the gateway's own clock.
    pub at: Time,
    /// The gateway whose logs both are.
    pub issuer: Member,
    /// The C2SP key id of the new log's key.
    pub key_id: u32,
    pub closed: Closed,
}

/// Bytes that are not such a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the leaf that closes a log")]
pub struct NoSuccession;

/// The kind of the leaf: its second byte.
pub const KIND: u8 = 3;
/// First bytes: encoding version 1, and the kind.
const PROLOGUE: [u8; 2] = [1, KIND];
/// The digest algorithm's number in a leaf.
const SHA256: u8 = 1;
/// The number of fields; each one's tag is its place, from 1.
const FIELDS: usize = 7;

impl Succession {
    /// The leaf's bytes: `01 03`, then each field that is not empty as tag, one length byte and value, in ascending order.
    pub fn to_leaf(&self) -> Vec<u8> {
        let (at, size) = (self.at.ms().to_be_bytes(), self.closed.size.to_be_bytes());
        let issuer = self.issuer.to_string();
        let root = [[SHA256].as_slice(), &self.closed.root.0].concat();
        let fields: [&[u8]; FIELDS] = [
            self.id.bytes(),
            &at[self.at.ms().leading_zeros() as usize / 8..],
            issuer.as_bytes(),
            &self.key_id.to_be_bytes(),
            self.closed.origin.as_bytes(),
            &size[self.closed.size.leading_zeros() as usize / 8..],
            &root,
        ];
        let mut leaf = PROLOGUE.to_vec();
        for (tag, value) in (1..).zip(fields).filter(|(_, value)| !value.is_empty()) {
            leaf.extend_from_slice(&[tag, value.len() as u8]);
            leaf.extend_from_slice(value);
        }
        leaf
    }

    /// Reads a leaf that [`Succession::to_leaf`] wrote; any other spelling is refused.
    ///
    /// # Errors
    /// Another kind of leaf, or one that a gateway of another version wrote.
    pub fn from_leaf(leaf: &[u8]) -> Result<Succession, NoSuccession> {
        let mut rest = leaf.strip_prefix(&PROLOGUE).ok_or(NoSuccession)?;
        let mut fields = [[].as_slice(); FIELDS];
        while let [tag, length, behind @ ..] = rest {
            let (value, behind) = behind.split_at_checked(usize::from(*length)).ok_or(NoSuccession)?;
            let place = usize::from(*tag).checked_sub(1).filter(|place| *place < FIELDS).ok_or(NoSuccession)?;
            (fields[place], rest) = (value, behind);
        }
        let [id, at, issuer, key_id, origin, size, root] = fields;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| NoSuccession);
        let root = root.strip_prefix(&[SHA256]).and_then(|root| root.try_into().ok()).ok_or(NoSuccession)?;
        let succession = Succession {
            id: ReceiptId::from_bytes(id.try_into().map_err(|_| NoSuccession)?),
            at: Time::from_ms(number(at)),
            issuer: text(issuer)?.parse().map_err(|_| NoSuccession)?,
            key_id: u32::from_be_bytes(key_id.try_into().map_err(|_| NoSuccession)?),
            closed: Closed { origin: text(origin)?, size: number(size), root: Digest(root) },
        };
        // Order, repetition and over-long numbers all show here: there is one spelling.
        let whole = origin.len() <= LOG_ORIGIN_BYTES_MAX && succession.to_leaf() == leaf;
        if whole { Ok(succession) } else { Err(NoSuccession) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn succession(size: u64) -> Succession {
        Succession {
            id: ReceiptId::from_bytes([7; 16]),
            at: Time::from_ms(0x0102),
            issuer: "450200".parse().unwrap(),
            key_id: 9,
            closed: Closed {
                origin: "450200.gateway.alliance.example/log/a/1".to_owned(),
                size,
                root: Digest([5; 32]),
            },
        }
    }

    #[test]
    fn a_succession_reads_back_as_it_was_written_and_nothing_else_does() {
        for size in [0, 1, 255, 256, 1 << 40] {
            let leaf = succession(size).to_leaf();
            assert_eq!(leaf[..4], [1, 3, 1, 16]);
            assert_eq!(Succession::from_leaf(&leaf), Ok(succession(size)));
            for end in 0..leaf.len() {
                assert_eq!(Succession::from_leaf(&leaf[..end]), Err(NoSuccession), "cut at {end}");
            }
            for more in [&[8, 1, 0][..], &[7, 1, 0], &[1, 1, 0], &[0]] {
                assert_eq!(Succession::from_leaf(&[&leaf[..], more].concat()), Err(NoSuccession), "{more:?}");
            }
            assert_eq!(Succession::from_leaf(&[&[1, 2], &leaf[2..]].concat()), Err(NoSuccession), "another kind");
        }
        let zeroed = Succession::from_leaf(&[&succession(0).to_leaf()[..20], &[2, 3, 0, 1, 2]].concat());
        assert_eq!(zeroed, Err(NoSuccession), "a number with a leading zero");
    }
}
