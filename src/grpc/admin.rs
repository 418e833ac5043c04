//! Decides what those who operate a gateway may see and do: people of its own member alone, of whom auditors only read.
//! Never does the work itself, and never shows a message's content.

mod asked;
mod lanes;
pub mod reload;
mod told;

use std::pin::Pin;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::peer;
use crate::courier::Ground;
use crate::limits::{DEAD_GROUPS_MAX, REDRIVE_STEPS_WAITING_MAX};
use crate::party::{Party, Role};
use crate::reason::Reason;
use crate::redrive::{Redrive, Step};
use crate::store::{Error, Seq, Snapshot};
use crate::wire::envelope::join;
use crate::wire::pb::admin as pb;
use crate::wire::pb::admin::admin_service_server::AdminService;
use crate::wire::status::{Refused, to_status};

/// The door of those who operate the gateway.
#[derive(Clone)]
pub struct Admin {
    pub ground: Ground,
    pub redrive: Redrive,
    pub reload: reload::Reload,
}

#[tonic::async_trait]
impl AdminService for Admin {
    type RedriveDeadLettersStream = Pin<Box<dyn Stream<Item = Result<pb::RedriveDeadLettersResponse, Status>> + Send>>;

    async fn list_dead_letter_groups(
        &self,
        request: Request<pb::ListDeadLetterGroupsRequest>,
    ) -> Result<Response<pb::ListDeadLetterGroupsResponse>, Status> {
        self.reader(&request)?;
        let filter = asked::filter(request.into_inner().filter).map_err(faulty)?;
        let own = self.ground.own.to_string();
        let groups = self.look(move |look| look.dead_groups(&filter, &own, DEAD_GROUPS_MAX)).await?;
        Ok(Response::new(pb::ListDeadLetterGroupsResponse { groups: groups.into_iter().map(told::group).collect() }))
    }

    async fn list_dead_letters(
        &self,
        request: Request<pb::ListDeadLettersRequest>,
    ) -> Result<Response<pb::ListDeadLettersResponse>, Status> {
        self.reader(&request)?;
        let page = asked::page(request.into_inner()).map_err(faulty)?;
        let count = page.count;
        // One more than asked for tells whether there is another page.
        let look = move |look: &Snapshot<'_>| look.dead_letters(&page.filter, page.fate, page.after, page.count + 1);
        let mut letters = self.look(look).await?;
        let more = letters.len() > count;
        letters.truncate(count);
        let next_page_token = letters.last().filter(|_| more).map(|last| asked::token(last.seq)).unwrap_or_default();
        let letters = letters.into_iter().map(told::letter).collect();
        Ok(Response::new(pb::ListDeadLettersResponse { letters, next_page_token }))
    }

    async fn get_dead_letter(
        &self,
        request: Request<pb::GetDeadLetterRequest>,
    ) -> Result<Response<pb::GetDeadLetterResponse>, Status> {
        self.reader(&request)?;
        let key = asked::name(&self.ground.own, request.into_inner().name.unwrap_or_default()).map_err(faulty)?;
        let found = self.look(move |look| {
            let Some(letter) = look.dead_letter(&key)? else { return Ok(None) };
            let (header, has_body) = look.header(letter.seq)?.unwrap_or_default();
            let envelope = Some(header).filter(|header| !header.is_empty()).map(|header| join(&header, None));
            let envelope = envelope.transpose().map_err(|error| Error::Damaged(error.to_string()))?;
            let detail = detail(look, letter.seq)?.unwrap_or_default();
            Ok(Some(pb::GetDeadLetterResponse { letter: Some(told::letter(letter)), envelope, detail, has_body }))
        });
        found.await?.map(Response::new).ok_or_else(|| to_status(&Refused::new(Reason::MessageNotFound)))
    }

    async fn redrive_dead_letters(
        &self,
        request: Request<pb::RedriveDeadLettersRequest>,
    ) -> Result<Response<Self::RedriveDeadLettersStream>, Status> {
        let actor = self.operator(&request)?;
        let asked = request.into_inner();
        let preview = asked.preview;
        let (selection, orders) = asked::redrive(&self.ground.own, asked, actor).map_err(faulty)?;
        let (steps, told) = mpsc::channel(REDRIVE_STEPS_WAITING_MAX);
        if preview {
            let plan = self.redrive.plan(selection).await.map_err(|refused| to_status(&refused))?;
            let _ = steps.try_send(Step::Plan(plan));
        } else {
            // The plan is made within the turn: nobody else changes what it found.
            let turn = self.redrive.turn().map_err(|refused| to_status(&refused))?;
            let plan = self.redrive.plan(selection).await.map_err(|refused| to_status(&refused))?;
            tokio::spawn(self.redrive.clone().run(plan, orders, steps, turn));
        }
        let told = ReceiverStream::new(told).map(|step| Ok(told::step(step)));
        Ok(Response::new(Box::pin(told)))
    }

    async fn discard_dead_letters(
        &self,
        request: Request<pb::DiscardDeadLettersRequest>,
    ) -> Result<Response<pb::DiscardDeadLettersResponse>, Status> {
        let actor = self.operator(&request)?;
        let asked = request.into_inner();
        let dry_run = asked.dry_run;
        let (selection, why) = asked::discard(&self.ground.own, asked).map_err(faulty)?;
        let turn = self.redrive.turn().map_err(|refused| to_status(&refused))?;
        let redrive = self.redrive.clone();
        // In a task of its own: the caller's deadline leaves no half of it undone.
        let discarded = tokio::spawn(async move {
            let discarded = redrive.discard(selection, &why, &actor, dry_run).await;
            drop(turn);
            discarded
        });
        let discarded = discarded.await.unwrap_or_else(|_| Err(Refused::new(Reason::Internal)));
        let (discarded, others) = discarded.map_err(|refused| to_status(&refused))?;
        Ok(Response::new(pb::DiscardDeadLettersResponse { discarded, others }))
    }

    async fn list_lanes(
        &self,
        request: Request<pb::ListLanesRequest>,
    ) -> Result<Response<pb::ListLanesResponse>, Status> {
        self.operator(&request)?;
        let lanes = lanes::all(&self.ground).await.map_err(|refused| to_status(&refused))?;
        Ok(Response::new(pb::ListLanesResponse { lanes }))
    }

    async fn pause_lane(
        &self,
        request: Request<pb::PauseLaneRequest>,
    ) -> Result<Response<pb::PauseLaneResponse>, Status> {
        let actor = self.operator(&request)?.to_string();
        let asked = request.into_inner();
        let pause = lanes::asked(&asked.lane, &asked.reason, true, actor).map_err(faulty)?;
        let (changed, lane) = lanes::hold(&self.ground, pause).await.map_err(|refused| to_status(&refused))?;
        Ok(Response::new(pb::PauseLaneResponse { changed, lane: Some(lane) }))
    }

    async fn resume_lane(
        &self,
        request: Request<pb::ResumeLaneRequest>,
    ) -> Result<Response<pb::ResumeLaneResponse>, Status> {
        let actor = self.operator(&request)?.to_string();
        let asked = request.into_inner();
        let pause = lanes::asked(&asked.lane, &asked.reason, false, actor).map_err(faulty)?;
        let (changed, lane) = lanes::hold(&self.ground, pause).await.map_err(|refused| to_status(&refused))?;
        Ok(Response::new(pb::ResumeLaneResponse { changed, lane: Some(lane) }))
    }

    async fn reload(&self, request: Request<pb::ReloadRequest>) -> Result<Response<pb::ReloadResponse>, Status> {
        let actor = self.operator(&request)?;
        let reloaded = reload::run(&self.reload).await.map_err(|refused| to_status(&refused))?;
        tracing::info!(%actor, changed = ?reloaded.changed, "somebody had the configuration read again");
        Ok(Response::new(reloaded))
    }
}

impl Admin {
    /// The caller, if it operates or audits this gateway.
    fn reader<T>(&self, request: &Request<T>) -> Result<Party, Status> {
        let party = peer(request)?.party.clone();
        if party.member == self.ground.own && matches!(party.role, Role::Ops(_) | Role::Auditor(_)) {
            return Ok(party);
        }
        Err(to_status(&Refused::new(Reason::NotPermitted).with_detail("only people of this gateway's own member")))
    }

    /// The caller, if it operates this gateway: an auditor only reads.
    fn operator<T>(&self, request: &Request<T>) -> Result<Party, Status> {
        let party = self.reader(request)?;
        if matches!(party.role, Role::Ops(_)) {
            return Ok(party);
        }
        Err(to_status(&Refused::new(Reason::NotPermitted).with_detail("only operators")))
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Snapshot<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        self.ground.readers.seek(look).await.map_err(|error| {
            tracing::error!(%error, "the dead letters cannot be read");
            to_status(&Refused::new(Reason::StoreUnavailable))
        })
    }
}

/// The newest text beside a receipt about the message.
fn detail(look: &Snapshot<'_>, seq: Seq) -> Result<Option<String>, Error> {
    let (own, received) = look.evidence(seq)?;
    for receipt in own.iter().rev().chain(received.iter().rev()) {
        if let Some(text) = look.detail(receipt.leaf_hash())? {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

fn faulty(faults: Vec<crate::wire::envelope::Fault>) -> Status {
    to_status(&Refused::faults(faults))
}
