//! Decides how hashes of a log travel. Never checks a proof.

use super::pb::evidence as pb;
use crate::tlog::Hash;

/// A consistency proof's form on the wire.
pub fn consistency_to_wire(hashes: &[Hash]) -> pb::GetConsistencyProofResponse {
    pb::GetConsistencyProofResponse { hashes: hashes.iter().map(|hash| hash.as_ref().to_vec()).collect() }
}

/// A consistency proof from the wire, unchecked; `None` when one of its hashes has not 32 bytes.
pub fn consistency_from_wire(proof: &pb::GetConsistencyProofResponse) -> Option<Vec<Hash>> {
    proof.hashes.iter().map(|hash| Hash::from_slice(hash)).collect()
}

/// A tile's form on the wire.
pub fn tile_to_wire(hashes: &[Hash]) -> pb::GetTileResponse {
    pb::GetTileResponse { hashes: hashes.iter().flat_map(|hash| *hash.as_bytes()).collect() }
}
