//! Decides who reads the evidence of a message, and who sees how the log grows. Never judges evidence: a receipt is handed
//! out as it was issued, or proved again under a checkpoint that others have signed too.

mod log;

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{peer, view};
use crate::courier::Ground;
use crate::noticeboard::Noticeboard;
use crate::party::{Member, Party, Role};
use crate::wire::log::{consistency_to_wire, tile_to_wire};
use crate::wire::pb::evidence as pb;
use crate::wire::pb::evidence::evidence_service_server::EvidenceService;
use crate::wire::receipt::to_wire;
use crate::wire::status::to_status;

/// The evidence door.
pub struct Evidence {
    pub ground: Ground,
    /// Who is a member, and by which keys it cosigns.
    pub board: Arc<Noticeboard>,
}

#[tonic::async_trait]
impl EvidenceService for Evidence {
    async fn get_message_evidence(
        &self,
        request: Request<pb::GetMessageEvidenceRequest>,
    ) -> Result<Response<pb::GetMessageEvidenceResponse>, Status> {
        let peer = peer(&request)?;
        let asked = request.into_inner();
        let (own, readers, sealed) = (&self.ground.own, &self.ground.readers, asked.sealed);
        let key = (asked.from_city, asked.message_id);
        let reader = reader(own, &peer.party);
        let looked = view::look(readers, own, &reader, key, move |look, stored| match sealed {
            true => look.sealed_evidence(stored.seq),
            false => look.evidence(stored.seq),
        });
        let (_, (own, received)) = looked.await.map_err(|refused| to_status(&refused))?;
        let mut receipts: Vec<_> = own.into_iter().chain(received).collect();
        // Two logs have two clocks; a reader who wants the chain follows the hashes in the leaves.
        receipts.sort_by_cached_key(|receipt| {
            crate::evidence::Evidence::from_leaf(&receipt.leaf).map(|evidence| (evidence.at, evidence.id)).ok()
        });
        Ok(Response::new(pb::GetMessageEvidenceResponse { receipts: receipts.into_iter().map(to_wire).collect() }))
    }

    async fn get_checkpoint(
        &self,
        request: Request<pb::GetCheckpointRequest>,
    ) -> Result<Response<pb::GetCheckpointResponse>, Status> {
        self.watcher(&peer(&request)?.party)?;
        let pb::GetCheckpointRequest { origin, size } = request.into_inner();
        let checkpoint = self.checkpoint(origin, size).await.map_err(|refused| to_status(&refused))?;
        Ok(Response::new(pb::GetCheckpointResponse { checkpoint }))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<pb::GetConsistencyProofRequest>,
    ) -> Result<Response<pb::GetConsistencyProofResponse>, Status> {
        self.watcher(&peer(&request)?.party)?;
        let pb::GetConsistencyProofRequest { origin, old_size, new_size } = request.into_inner();
        let proof = self.in_log(origin, move |look, log| look.consistency(log, old_size, new_size));
        let proof = proof.await.map_err(|refused| to_status(&refused))?;
        Ok(Response::new(consistency_to_wire(&proof)))
    }

    async fn get_tile(&self, request: Request<pb::GetTileRequest>) -> Result<Response<pb::GetTileResponse>, Status> {
        self.watcher(&peer(&request)?.party)?;
        let pb::GetTileRequest { origin, level, index, width } = request.into_inner();
        let tile = self.in_log(origin, move |look, log| match u8::try_from(level) {
            Ok(level) => look.tile(log, level, index, width.into()),
            Err(_) => Ok(None),
        });
        let tile = tile.await.map_err(|refused| to_status(&refused))?;
        Ok(Response::new(tile_to_wire(&tile)))
    }

    async fn add_cosignature(
        &self,
        request: Request<pb::AddCosignatureRequest>,
    ) -> Result<Response<pb::AddCosignatureResponse>, Status> {
        let witness = self.other_gateway(&peer(&request)?.party)?;
        let pb::AddCosignatureRequest { origin, size, cosignature } = request.into_inner();
        let taken = self.cosigned(&witness, origin, size, cosignature);
        taken.await.map_err(|refused| to_status(&refused))?;
        Ok(Response::new(pb::AddCosignatureResponse {}))
    }
}

/// Of a message an auditor reads the evidence alone, and there as much as those who operate the gateway.
fn reader(own: &Member, party: &Party) -> Party {
    match &party.role {
        Role::Auditor(name) if party.member == *own => Party { role: Role::Ops(name.clone()), ..party.clone() },
        _ => party.clone(),
    }
}
