//! Decides whether one receipt holds, and which part fails when it does not. Never reads the rendering beside it.

use std::path::{Path, PathBuf};

use super::super::{Failure, text};
use super::trust::Trusted;
use crate::keys::{self, KeyFileError};
use crate::receipt::{Checked, Checker, Receipt, ReceiptError};
use crate::tlog::cosignature::{WitnessKey, cosigners};
use crate::tlog::receipt_file::{TlogProof, VerifyError};

/// What was found about one receipt.
#[derive(Debug)]
pub struct Verdict {
    /// Its proof file.
    pub file: PathBuf,
    pub found: Result<Checked, Fault>,
    /// The trusted witnesses that have cosigned its checkpoint, each with the time on its own clock, in seconds since 1970.
    pub cosigned: Vec<(String, u64)>,
}

/// The part of a receipt that fails, and why, in both languages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// A part of [`VerifyError::part`], or `leaf`, `issuer`, `key`, `cosignature`.
    pub part: &'static str,
    pub en: String,
    pub zh: String,
}

/// Verifies one receipt after the other; checkpoints that they share are opened once.
pub struct Bench {
    checker: Checker,
    witnesses: Vec<WitnessKey>,
}

impl Verdict {
    /// Whether the receipt holds.
    pub fn holds(&self) -> bool {
        self.found.is_ok()
    }
}

impl Bench {
    /// Trusts these logs and witnesses and no other.
    pub fn new(trusted: Trusted) -> Bench {
        Bench { checker: Checker::new(trusted.logs), witnesses: trusted.witnesses }
    }

    /// Verifies the receipt in `file` and the leaf beside it. What is missing or badly written fails the receipt; what
    /// cannot be read at all fails the command.
    pub fn judge(&mut self, file: &Path) -> Result<Verdict, Failure> {
        let found = match (read(file)?, read(&file.with_extension("leaf"))?) {
            (Some(proof), Some(leaf)) => self.verify(&proof, leaf),
            (None, _) => Err(Fault::new("proof", "no .tlog-proof beside the .leaf", "旁边没有 .tlog-proof 文件")),
            (_, None) => Err(Fault::new("leaf", "no .leaf beside the .tlog-proof", "旁边没有 .leaf 文件")),
        };
        let (found, cosigned) = match found {
            Ok((checked, cosigned)) => (Ok(checked), cosigned),
            Err(fault) => (Err(fault), vec![]),
        };
        Ok(Verdict { file: file.to_owned(), found, cosigned })
    }

    fn verify(&mut self, proof: &[u8], leaf: Vec<u8>) -> Result<(Checked, Vec<(String, u64)>), Fault> {
        let proof = TlogProof::parse(proof).map_err(|fault| ReceiptError::Proof(VerifyError::from(fault)))?;
        let checked = self.checker.check(Receipt { leaf, proof })?;
        let cosigned = cosigners(&checked.receipt.proof.checkpoint_note, &self.witnesses);
        let cosigned =
            cosigned.map_err(|fault| Fault::new("cosignature", fault.to_string(), text::cosignature_zh(&fault)))?;
        // What a log signs to its own checkpoint is nobody else's word.
        let others = cosigned.into_iter().map(|one| (self.witnesses[one.witness].name().to_owned(), one.at_s));
        Ok((checked.clone(), others.filter(|(name, _)| *name != checked.log_origin).collect()))
    }
}

impl Fault {
    fn new(part: &'static str, en: impl Into<String>, zh: impl Into<String>) -> Fault {
        Fault { part, en: en.into(), zh: zh.into() }
    }
}

impl From<ReceiptError> for Fault {
    fn from(fault: ReceiptError) -> Fault {
        let part = match &fault {
            ReceiptError::Leaf(_) => "leaf",
            ReceiptError::Proof(why) => why.part(),
            ReceiptError::Issuer { .. } => "issuer",
            ReceiptError::Key { .. } => "key",
        };
        Fault::new(part, fault.to_string(), text::receipt_zh(&fault))
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    match keys::read_public(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(KeyFileError::Missing { .. }) => Ok(None),
        Err(fault) => Err(fault.into()),
    }
}
