//! Decides what those who operate a gateway may see and do: people of its own member alone, of whom auditors only read.
//! Never does the work itself, and never shows a message's content.

mod asked;
mod audit;
pub mod checks;
mod echo;
mod grants;
mod lanes;
pub mod members;
pub mod reload;
mod stats;
mod told;

use std::pin::Pin;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::peer;
use super::record::Record;
use crate::courier::Ground;
use crate::echo::Echo;
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
    pub record: Record,
    pub reload: reload::Reload,
    pub echo: Echo,
    pub members: members::Members,
    pub checks: checks::Checks,
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
        let redrive = async |asked: pb::RedriveDeadLettersRequest, actor| {
            let preview = asked.preview;
            let (selection, orders) = asked::redrive(&self.ground.own, asked, actor).map_err(Refused::faults)?;
            let (steps, told) = mpsc::channel(REDRIVE_STEPS_WAITING_MAX);
            if preview {
                let _ = steps.try_send(Step::Plan(self.redrive.plan(selection).await?));
            } else {
                // The plan is made within the turn: nobody else changes what it found.
                let turn = self.redrive.turn()?;
                let plan = self.redrive.plan(selection).await?;
                tokio::spawn(self.redrive.clone().run(plan, orders, steps, turn));
            }
            let told = ReceiverStream::new(told).map(|step| Ok(told::step(step)));
            Ok(Box::pin(told) as Self::RedriveDeadLettersStream)
        };
        self.acts(request, ("dead.redrive", String::new()), redrive).await
    }

    async fn discard_dead_letters(
        &self,
        request: Request<pb::DiscardDeadLettersRequest>,
    ) -> Result<Response<pb::DiscardDeadLettersResponse>, Status> {
        let discard = async |asked: pb::DiscardDeadLettersRequest, actor| {
            let dry_run = asked.dry_run;
            let (selection, why) = asked::discard(&self.ground.own, asked).map_err(Refused::faults)?;
            let (turn, redrive) = (self.redrive.turn()?, self.redrive.clone());
            // In a task of its own: the caller's deadline leaves no half of it undone.
            let discarded = tokio::spawn(async move {
                let discarded = redrive.discard(selection, &why, &actor, dry_run).await;
                drop(turn);
                discarded
            });
            let (discarded, others) = discarded.await.unwrap_or_else(|_| Err(Refused::new(Reason::Internal)))?;
            Ok(pb::DiscardDeadLettersResponse { discarded, others })
        };
        self.acts(request, ("dead.discard", String::new()), discard).await
    }

    async fn list_lanes(
        &self,
        request: Request<pb::ListLanesRequest>,
    ) -> Result<Response<pb::ListLanesResponse>, Status> {
        self.operator(&peer(&request)?.party).map_err(|refused| to_status(&refused))?;
        let lanes = lanes::all(&self.ground).await.map_err(|refused| to_status(&refused))?;
        Ok(Response::new(pb::ListLanesResponse { lanes }))
    }

    async fn pause_lane(
        &self,
        request: Request<pb::PauseLaneRequest>,
    ) -> Result<Response<pb::PauseLaneResponse>, Status> {
        let object = lanes::named(&request.get_ref().lane);
        let pause = async |asked: pb::PauseLaneRequest, actor: Party| {
            let pause = lanes::asked(&asked.lane, &asked.reason, true, &actor).map_err(Refused::faults)?;
            let (changed, lane) = lanes::hold(&self.ground, pause).await?;
            Ok(pb::PauseLaneResponse { changed, lane: Some(lane) })
        };
        self.acts(request, ("lane.pause", object), pause).await
    }

    async fn resume_lane(
        &self,
        request: Request<pb::ResumeLaneRequest>,
    ) -> Result<Response<pb::ResumeLaneResponse>, Status> {
        let object = lanes::named(&request.get_ref().lane);
        let resume = async |asked: pb::ResumeLaneRequest, actor: Party| {
            let pause = lanes::asked(&asked.lane, &asked.reason, false, &actor).map_err(Refused::faults)?;
            let (changed, lane) = lanes::hold(&self.ground, pause).await?;
            Ok(pb::ResumeLaneResponse { changed, lane: Some(lane) })
        };
        self.acts(request, ("lane.resume", object), resume).await
    }

    async fn reload(&self, request: Request<pb::ReloadRequest>) -> Result<Response<pb::ReloadResponse>, Status> {
        let reload = async |_, actor: Party| reload::run(&self.reload, actor).await;
        self.acts(request, (reload::RELOAD, String::new()), reload).await
    }

    async fn test_partner(
        &self,
        request: Request<pb::TestPartnerRequest>,
    ) -> Result<Response<pb::TestPartnerResponse>, Status> {
        let object = echo::named(&request.get_ref().partner);
        let test = async |asked, actor| echo::test(&self.echo, &self.record, asked, actor).await;
        self.acts(request, (echo::TEST, object), test).await
    }

    async fn list_partner_tests(
        &self,
        request: Request<pb::ListPartnerTestsRequest>,
    ) -> Result<Response<pb::ListPartnerTestsResponse>, Status> {
        self.operator(&peer(&request)?.party).map_err(|refused| to_status(&refused))?;
        echo::list(&self.echo).await.map(Response::new).map_err(|refused| to_status(&refused))
    }

    async fn get_stats(&self, request: Request<pb::GetStatsRequest>) -> Result<Response<pb::GetStatsResponse>, Status> {
        self.operator(&peer(&request)?.party).map_err(|refused| to_status(&refused))?;
        let ask = stats::asked(request.get_ref()).map_err(faulty)?;
        stats::count(&self.ground, ask).await.map(Response::new).map_err(|refused| to_status(&refused))
    }

    async fn list_audit(
        &self,
        request: Request<pb::ListAuditRequest>,
    ) -> Result<Response<pb::ListAuditResponse>, Status> {
        let party = self.reader(&request)?;
        if !matches!(party.role, Role::Auditor(_)) {
            return Err(to_status(&Refused::new(Reason::NotPermitted).with_detail("only auditors")));
        }
        let page = audit::asked(request.into_inner()).map_err(faulty)?;
        audit::list(&self.ground, page).await.map(Response::new).map_err(|refused| to_status(&refused))
    }

    async fn read_content(
        &self,
        request: Request<pb::ReadContentRequest>,
    ) -> Result<Response<pb::ReadContentResponse>, Status> {
        let key = asked::key(&self.ground.own, &request.get_ref().from_city, &request.get_ref().message_id);
        let object = key.map(|key| format!("{}/{}", key.from_city.as_str(), key.id)).unwrap_or_default();
        let read = async |asked, actor| audit::content(&self.ground, &self.record, actor, asked).await;
        self.acts(request, ("content.read", object), read).await
    }

    async fn list_members(
        &self,
        request: Request<pb::ListMembersRequest>,
    ) -> Result<Response<pb::ListMembersResponse>, Status> {
        self.reader(&request)?;
        let page = members::page(request.into_inner()).map_err(faulty)?;
        let listed = self.members.list(self.ground.rules.load_full(), page).await;
        listed.map(Response::new).map_err(|refused| to_status(&refused))
    }

    async fn suspend_member(
        &self,
        request: Request<pb::SuspendMemberRequest>,
    ) -> Result<Response<pb::SuspendMemberResponse>, Status> {
        let object = members::named(&request.get_ref().member);
        let suspend = async |asked: pb::SuspendMemberRequest, actor: Party| {
            let asked =
                members::asked(&asked.member, &asked.reason, members::What::Suspend).map_err(Refused::faults)?;
            let who = (self.record.clone(), actor);
            let (changed, member) = self.members.decide(asked, who, self.rules()).await?;
            Ok(pb::SuspendMemberResponse { changed, member: Some(member) })
        };
        self.acts(request, (members::SUSPEND, object), suspend).await
    }

    async fn resume_member(
        &self,
        request: Request<pb::ResumeMemberRequest>,
    ) -> Result<Response<pb::ResumeMemberResponse>, Status> {
        let object = members::named(&request.get_ref().member);
        let resume = async |asked: pb::ResumeMemberRequest, actor: Party| {
            let asked = members::asked(&asked.member, &asked.reason, members::What::Resume).map_err(Refused::faults)?;
            let who = (self.record.clone(), actor);
            let (changed, member) = self.members.decide(asked, who, self.rules()).await?;
            Ok(pb::ResumeMemberResponse { changed, member: Some(member) })
        };
        self.acts(request, (members::RESUME, object), resume).await
    }

    async fn approve_member_key(
        &self,
        request: Request<pb::ApproveMemberKeyRequest>,
    ) -> Result<Response<pb::ApproveMemberKeyResponse>, Status> {
        let object = members::named(&request.get_ref().member);
        let approve = async |asked: pb::ApproveMemberKeyRequest, actor: Party| {
            let asked = members::approval(asked).map_err(Refused::faults)?;
            self.members.approve(asked, (self.record.clone(), actor), self.rules()).await
        };
        self.acts(request, (members::APPROVE, object), approve).await
    }

    async fn list_grants(
        &self,
        request: Request<pb::ListGrantsRequest>,
    ) -> Result<Response<pb::ListGrantsResponse>, Status> {
        self.reader(&request)?;
        let about = grants::asked(request.into_inner()).map_err(faulty)?;
        Ok(Response::new(grants::about(&self.ground.rules.load().grants, &about)))
    }

    async fn run_checks(
        &self,
        request: Request<pb::RunChecksRequest>,
    ) -> Result<Response<pb::RunChecksResponse>, Status> {
        self.reader(&request)?;
        let wanted = checks::asked(request.into_inner()).map_err(faulty)?;
        self.checks.run(wanted).await.map(Response::new).map_err(|refused| to_status(&refused))
    }
}

impl Admin {
    /// What tells the rules of the moment.
    fn rules(&self) -> impl Fn() -> std::sync::Arc<crate::intake::Rules> + Send + 'static {
        let rules = self.ground.rules.clone();
        move || rules.load_full()
    }

    /// The caller, if it operates or audits this gateway.
    fn reader<T>(&self, request: &Request<T>) -> Result<Party, Status> {
        let party = peer(request)?.party.clone();
        self.own_people(&party).map_err(|refused| to_status(&refused))?;
        Ok(party)
    }

    fn own_people(&self, party: &Party) -> Result<(), Refused> {
        if party.member == self.ground.own && matches!(party.role, Role::Ops(_) | Role::Auditor(_)) {
            return Ok(());
        }
        Err(Refused::new(Reason::NotPermitted).with_detail("only people of this gateway's own member"))
    }

    /// Whether somebody operates this gateway: an auditor only reads.
    fn operator(&self, party: &Party) -> Result<(), Refused> {
        self.own_people(party)?;
        if matches!(party.role, Role::Ops(_)) {
            return Ok(());
        }
        Err(Refused::new(Reason::NotPermitted).with_detail("only operators"))
    }

    /// Lets an operator do something. Whoever is refused, and for whatever reason, goes on record.
    async fn acts<T, R, F>(
        &self,
        request: Request<T>,
        (act, object): (&'static str, String),
        work: impl FnOnce(T, Party) -> F + Send,
    ) -> Result<Response<R>, Status>
    where
        T: Send,
        F: Future<Output = Result<R, Refused>> + Send,
    {
        let party = peer(&request)?.party.clone();
        let done = match self.operator(&party) {
            Ok(()) => work(request.into_inner(), party.clone()).await,
            Err(refused) => Err(refused),
        };
        if let Err(refused) = &done {
            self.record.refused(&party, act, &object, refused.reason).await;
        }
        done.map(Response::new).map_err(|refused| to_status(&refused))
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
