//! Decides how a receipt travels: the leaf, its index, its path and the checkpoint note. Never checks one.

use bytes::Bytes;

use super::pb;
use crate::receipt::Receipt;
use crate::tlog::Hash;
use crate::tlog::receipt_file::TlogProof;

/// The receipt's form on the wire.
pub fn to_wire(receipt: Receipt) -> pb::evidence::Receipt {
    let TlogProof { extra: _, index, path, checkpoint_note } = receipt.proof;
    // One piece of memory for all hashes of the path, of which each takes its part.
    let hashes = Bytes::from(path.iter().map(|hash| *hash.as_bytes()).collect::<Vec<_>>().into_flattened());
    pb::evidence::Receipt {
        leaf: receipt.leaf,
        leaf_index: index,
        inclusion_path: (0..path.len()).map(|place| hashes.slice(place * 32..(place + 1) * 32)).collect(),
        checkpoint: checkpoint_note,
    }
}

/// A receipt from the wire, unchecked; `None` when a hash of its path has not 32 bytes.
pub fn from_wire(receipt: pb::evidence::Receipt) -> Option<Receipt> {
    let path = receipt.inclusion_path.iter().map(|hash| Hash::from_slice(hash)).collect::<Option<_>>()?;
    let proof = TlogProof { extra: None, index: receipt.leaf_index, path, checkpoint_note: receipt.checkpoint };
    Some(Receipt { leaf: receipt.leaf, proof })
}

/// The receipts of an answer about one message; one that cannot be read is left out.
pub fn receipts_from_wire(answer: pb::evidence::GetMessageEvidenceResponse) -> Vec<Receipt> {
    answer.receipts.into_iter().filter_map(from_wire).collect()
}
