//! Decides who reads the evidence of a message. Never judges it: a receipt is handed out as it was issued.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{peer, view};
use crate::party::{Member, Party, Role};
use crate::store::Readers;
use crate::wire::pb::evidence::evidence_service_server::EvidenceService;
use crate::wire::pb::evidence::{GetMessageEvidenceRequest, GetMessageEvidenceResponse};
use crate::wire::receipt::to_wire;
use crate::wire::status::to_status;

/// The evidence door.
#[derive(Debug)]
pub struct Evidence {
    pub own: Member,
    pub readers: Arc<Readers>,
}

#[tonic::async_trait]
impl EvidenceService for Evidence {
    async fn get_message_evidence(
        &self,
        request: Request<GetMessageEvidenceRequest>,
    ) -> Result<Response<GetMessageEvidenceResponse>, Status> {
        let peer = peer(&request)?;
        let asked = request.into_inner();
        let key = (asked.from_city, asked.message_id);
        let reader = reader(&self.own, &peer.party);
        let looked = view::look(&self.readers, &self.own, &reader, key, |look, stored| look.evidence(stored.seq));
        let (_, (own, received)) = looked.await.map_err(|refused| to_status(&refused))?;
        let mut receipts: Vec<_> = own.into_iter().chain(received).collect();
        // Two logs have two clocks; a reader who wants the chain follows the hashes in the leaves.
        receipts.sort_by_cached_key(|receipt| {
            crate::evidence::Evidence::from_leaf(&receipt.leaf).map(|evidence| (evidence.at, evidence.id)).ok()
        });
        Ok(Response::new(GetMessageEvidenceResponse { receipts: receipts.into_iter().map(to_wire).collect() }))
    }
}

/// Of a message an auditor reads the evidence alone, and there as much as those who operate the gateway.
fn reader(own: &Member, party: &Party) -> Party {
    match &party.role {
        Role::Auditor(name) if party.member == *own => Party { role: Role::Ops(name.clone()), ..party.clone() },
        _ => party.clone(),
    }
}
