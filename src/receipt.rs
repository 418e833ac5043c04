//! Decides whether a receipt holds: that its leaf is evidence, that its proof leads to a checkpoint, and that the log it
//! names belongs to the member that speaks. Never fetches a key and never trusts what a receipt says about itself.

use crate::evidence::{Evidence, LeafError};
use crate::message::Digest;
use crate::party::Member;
use crate::tlog::leaf_hash;
use crate::tlog::note::VerifyingKey;
use crate::tlog::receipt_file::{TlogProof, Verifier, VerifyError};

/// 回执, a receipt: one leaf of a member's log and what proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub leaf: Vec<u8>,
    pub proof: TlogProof,
}

impl Receipt {
    /// The hash of the leaf in its log (RFC 6962 §2.1).
    pub fn leaf_hash(&self) -> Digest {
        Digest(leaf_hash(&self.leaf).into())
    }
}

/// Who keeps a log, and the key it signs with.
#[derive(Clone, Debug)]
pub struct LogKey {
    pub member: Member,
    pub key: VerifyingKey,
}

/// Why a receipt does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    #[error("leaf: {0}")]
    Leaf(#[from] LeafError),
    #[error("{part}: {0}", part = .0.part())]
    Proof(VerifyError),
    #[error("issuer: the leaf speaks for {said}, the log belongs to {keeper}")]
    Issuer { said: Member, keeper: Member },
    #[error("key: the leaf names key {said:08x}, which is not the key of {origin}")]
    Key { said: u32, origin: String },
}

/// A receipt that holds, with what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub receipt: Receipt,
    pub evidence: Evidence,
    /// The log's name.
    pub log_origin: String,
    /// The tree size that its checkpoint signed.
    pub tree_size: u64,
}

/// Checks receipts against the logs of the alliance, and each checkpoint that they share only once.
#[derive(Debug)]
pub struct Checker {
    logs: Vec<LogKey>,
    verifier: Verifier,
}

impl Checker {
    /// A checker that trusts these logs and no other.
    pub fn new(logs: Vec<LogKey>) -> Checker {
        let verifier = Verifier::new(logs.iter().map(|log| log.key.clone()).collect());
        Checker { logs, verifier }
    }

    /// Checks one receipt and says what it says.
    ///
    /// # Errors
    /// The part that fails, see [`ReceiptError`].
    pub fn check(&mut self, receipt: Receipt) -> Result<Checked, ReceiptError> {
        let evidence = Evidence::from_leaf(&receipt.leaf)?;
        let verified = self.verifier.verify_proof(&receipt.proof, &receipt.leaf).map_err(ReceiptError::Proof)?;
        let keeper = self.logs.iter().find(|log| log.key.name() == verified.origin && log.key.id() == evidence.key_id);
        match keeper {
            None => Err(ReceiptError::Key { said: evidence.key_id, origin: verified.origin }),
            Some(log) if log.member != evidence.issuer => {
                Err(ReceiptError::Issuer { said: evidence.issuer, keeper: log.member.clone() })
            }
            Some(_) => Ok(Checked { receipt, evidence, log_origin: verified.origin, tree_size: verified.size }),
        }
    }
}
