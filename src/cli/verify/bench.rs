//! Decides whether one receipt holds, and which part fails when it does not. Never reads the rendering beside it.

use std::path::{Path, PathBuf};

use super::super::{Failure, text};
use crate::keys::{self, KeyFileError};
use crate::receipt::{Checked, Checker, LogKey, Receipt, ReceiptError};
use crate::tlog::receipt_file::{TlogProof, VerifyError};

/// What was found about one receipt.
#[derive(Debug)]
pub struct Verdict {
    /// Its proof file.
    pub file: PathBuf,
    pub found: Result<Checked, Fault>,
}

/// The part of a receipt that fails, and why, in both languages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// A part of [`VerifyError::part`], or `leaf`, `issuer`, `key`.
    pub part: &'static str,
    pub en: String,
    pub zh: String,
}

/// Verifies one receipt after the other; checkpoints that they share are opened once.
pub struct Bench {
    checker: Checker,
}

impl Verdict {
    /// Whether the receipt holds.
    pub fn holds(&self) -> bool {
        self.found.is_ok()
    }
}

impl Bench {
    /// Trusts these logs and no other.
    pub fn new(logs: Vec<LogKey>) -> Bench {
        Bench { checker: Checker::new(logs) }
    }

    /// Verifies the receipt in `file` and the leaf beside it. What is missing or badly written fails the receipt; what
    /// cannot be read at all fails the command.
    pub fn judge(&mut self, file: &Path) -> Result<Verdict, Failure> {
        let found = match (read(file)?, read(&file.with_extension("leaf"))?) {
            (Some(proof), Some(leaf)) => self.verify(&proof, leaf),
            (None, _) => Err(Fault::new("proof", "no .tlog-proof beside the .leaf", "旁边没有 .tlog-proof 文件")),
            (_, None) => Err(Fault::new("leaf", "no .leaf beside the .tlog-proof", "旁边没有 .leaf 文件")),
        };
        Ok(Verdict { file: file.to_owned(), found })
    }

    fn verify(&mut self, proof: &[u8], leaf: Vec<u8>) -> Result<Checked, Fault> {
        let proof = TlogProof::parse(proof).map_err(|fault| ReceiptError::Proof(VerifyError::from(fault)))?;
        Ok(self.checker.check(Receipt { leaf, proof })?)
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
