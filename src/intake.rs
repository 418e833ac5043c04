//! Decides whether a message is taken into custody: who speaks, for whom, with which proof, and where it would go. Asks
//! the pure rules, hands the verdict to the ledger, and answers with a receipt or a typed refusal.

mod attachments;
mod echo;
mod opening;
mod resubmit;
mod rules;

use std::future::ready;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use futures_util::future::Either;

use crate::admission::{self, Ration};
use crate::blobs::{Blobs, Claim, Owner, aside};
use crate::clock::Clock;
use crate::directory::book::Directory;
use crate::evidence::{Code, Event, Evidence};
use crate::ledger::{self, Answer, Entry, Issuer, Ledger, Route, Take, Trouble, Witness};
use crate::limits::TIME_TO_LIVE_MS;
use crate::message::{Digest, Envelope, ItemCode};
use crate::party::{Division, Member, Party, Role};
use crate::reason::Reason;
use crate::receipt::{Checked, Checker, LogKey, Receipt};
use crate::routing::{Destination, Entered, Query};
use crate::seal::OpeningKey;
use crate::store::LaneName;
use crate::time::Time;
use crate::wire::envelope::split;
use crate::wire::status::Refused;

pub use rules::Rules;

/// The one way in for messages, whichever door they come through.
pub struct Intake {
    pub rules: Arc<ArcSwap<Rules>>,
    pub checker: Arc<Mutex<Checker>>,
    pub ledger: Ledger,
    pub clock: Clock,
    pub blobs: Blobs,
    /// What opens sealed contents for this gateway, newest first.
    pub opening_keys: Arc<Vec<OpeningKey>>,
    pub rejections: DashMap<Party, Ration>,
}

/// A message as it comes in.
#[derive(Debug)]
pub struct Incoming {
    pub envelope: Envelope,
    /// From a gateway: the receipt of the origin.
    pub origin: Option<Receipt>,
    /// From a gateway: the hubs that carried it so far.
    pub via: Vec<Member>,
    /// Whose uploads its attachments are, if not of who brings it.
    pub uploads: Option<Owner>,
}

/// The receipt of a message that was taken into custody, or why it was not.
pub type Submitted = Result<Receipt, Refused>;

/// Where the attachments of a message are before it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Uploaded by whoever brings it.
    Uploads,
    /// Among the blobs: another message of the same sender refers to them.
    Kept,
}

/// The keys of all logs in the directory.
pub fn log_keys(directory: &Directory) -> Vec<LogKey> {
    let keys = directory.entries().flat_map(|entry| {
        entry.record.log_keys.iter().map(|key| LogKey { member: entry.record.member.clone(), key: key.clone() })
    });
    keys.collect()
}

impl Intake {
    /// Takes a message into custody. Once the future ends it is durable, and the receipt says so; or it is refused and
    /// nothing of it is kept. The same message again gets the same receipt.
    ///
    /// It is judged within this call, so that what waits for the ledger is small: thousands wait at once.
    pub fn submit<'a>(&'a self, party: &'a Party, incoming: Incoming) -> impl Future<Output = Submitted> + use<'a> {
        self.bring(party, incoming, Source::Uploads)
    }

    fn bring<'a>(
        &'a self,
        party: &'a Party,
        incoming: Incoming,
        source: Source,
    ) -> impl Future<Output = Submitted> + use<'a> {
        let uploads = incoming.uploads.clone();
        match self.judge(party, incoming) {
            Ok(take) => Either::Left(self.hand_over(party, take, (source, uploads))),
            Err(refused) => Either::Right(ready(Err(refused))),
        }
    }

    /// What the rules say of a message. Where it has contents elsewhere, they are still to be fetched.
    fn judge(&self, party: &Party, incoming: Incoming) -> Result<Box<Take>, Refused> {
        let rules = self.rules.load();
        let Incoming { envelope, origin, via, uploads: _ } = incoming;
        self.may_bring(&rules, party, &envelope, &via)?;
        let header_digest = envelope.header_digest();
        let origin = match party.role {
            Role::Gateway => Some(self.origin(origin, &envelope, header_digest)?),
            _ => None,
        };
        let now = self.clock.now();
        self.is_granted(&rules, party, &envelope, now)?;
        let told = origin.as_ref().map(|origin| &origin.evidence);
        // It counts for a message that is new: what the ledger knows has its receipt, whatever clocks and rules say now.
        let (verdict, token) = match verdict(&rules, party, &envelope, told, now) {
            Ok(route) => (Ok(route), None),
            Err((reason, token)) => (Err(reason), token),
        };
        let rejections = self.rejections_of(party);
        // How it is kept shows once all of it is here.
        let (header, body) = (vec![], vec![]);
        Ok(Box::new(Take { envelope, header_digest, header, body, origin, via, verdict, token, rejections }))
    }

    /// Fetches what the message has elsewhere, and lets the ledger take it.
    async fn hand_over(&self, party: &Party, mut take: Box<Take>, from: (Source, Option<Owner>)) -> Submitted {
        let elsewhere = !take.envelope.attachments().is_empty() || take.envelope.sealed.is_some();
        let (mut claim, mut withheld) = (None, None);
        if elsewhere && take.verdict.is_ok() {
            match Box::pin(self.with_contents(take.envelope.clone(), take.header_digest, from, party)).await {
                Ok(contents) => (take.envelope, claim) = contents,
                // The message may be known, its uploads have become its own and its key may be gone: the ledger looks first.
                Err(refused) if matches!(refused.reason, Reason::AttachmentMissing | Reason::SealInvalid) => {
                    take.verdict = Err(refused.reason);
                    withheld = Some(Box::new(refused));
                }
                Err(refused) => return Err(refused),
            }
        }
        (take.header, take.body) = split(&take.envelope);
        let (id, trace) = (take.envelope.id, take.envelope.trace().map(str::to_owned));
        match enter(&self.ledger, take, claim).await {
            Ok(Answer::Taken(Ok(receipt))) => {
                tracing::debug!(party = %party, %id, trace, "message accepted");
                Ok(receipt)
            }
            Ok(Answer::Taken(Err(refusal))) => {
                if let Some(refused) = withheld.filter(|refused| refused.reason == refusal.reason) {
                    return Err(*refused);
                }
                tracing::info!(party = %party, %id, trace, reason = refusal.reason.code(), "message refused");
                Err(Refused { receipt: refusal.receipt, ..Refused::new(refusal.reason) })
            }
            Ok(_) => Err(Refused::new(Reason::Internal)),
            Err(trouble) => Err(trouble.into()),
        }
    }

    /// Whether a grant in force covers the message. A gateway's test of the way is no city's business and needs none: so it
    /// is rationed.
    fn is_granted(&self, rules: &Rules, party: &Party, envelope: &Envelope, now: Time) -> Result<(), Refused> {
        if envelope.item_code.is_test() {
            let left = self.rejections_of(party).take(now);
            return left.then_some(()).ok_or_else(|| Refused::new(Reason::Busy).with_detail("too many test messages"));
        }
        let other = match party.role {
            Role::Gateway => Some(&envelope.from.city),
            _ => envelope.to.as_ref().map(|to| &to.city),
        };
        if rules.grants.allow(party, &envelope.item_code, other) {
            return Ok(());
        }
        Err(Refused::new(Reason::NotPermitted).with_detail("no grant covers this item and city"))
    }

    /// Whether this party may bring this message, by this way.
    fn may_bring(&self, rules: &Rules, party: &Party, envelope: &Envelope, via: &[Member]) -> Result<(), Refused> {
        if envelope.item_code.is_test() && !echo::is_test_of(party, envelope) {
            return Err(Refused::new(Reason::ItemReserved));
        }
        if party.role != Role::Gateway {
            if !via.is_empty() || envelope.sealed.is_some() {
                return Err(Refused::new(Reason::NotPermitted).with_detail("only gateways relay and seal"));
            }
            if !admission::speaks_for(party, &rules.own, envelope) {
                let detail = "envelope.from is not the certificate's identity";
                return Err(Refused::new(Reason::NotPermitted).with_detail(detail));
            }
            return Ok(());
        }
        rules.may_carry(&party.member, &envelope.from.city, via)?;
        let relayed = !via.is_empty() || matches!(rules.own, Member::Hub(_));
        let to = envelope.to.as_ref().map(|to| &to.city);
        let unsealed = envelope.sealed.is_none() && envelope.part_count() > 0;
        if relayed && unsealed && !to.is_some_and(|to| rules.unsealed_relay(&envelope.from.city, to)) {
            return Err(Refused::new(Reason::UnsealedRelay));
        }
        Ok(())
    }

    /// Checks the origin's receipt against its log and against this message: before custody, so that nobody can carry a
    /// message that its city never accepted.
    fn origin(&self, origin: Option<Receipt>, envelope: &Envelope, digest: Digest) -> Result<Checked, Refused> {
        let origin = origin.ok_or_else(|| Refused::new(Reason::OriginReceiptMissing))?;
        let checked = self.checker.lock().unwrap_or_else(std::sync::PoisonError::into_inner).check(origin);
        let checked =
            checked.map_err(|error| Refused::new(Reason::OriginReceiptInvalid).with_detail(error.to_string()))?;
        match foreign(&checked.evidence, envelope, digest) {
            None => Ok(checked),
            Some(part) => Err(Refused::new(Reason::OriginReceiptForeign).with_detail(part)),
        }
    }

    /// Claims the attachments, and at the recipient opens what is sealed. What is claimed stays until the ledger has
    /// answered.
    async fn with_contents(
        &self,
        envelope: Envelope,
        header_digest: Digest,
        (source, uploads): (Source, Option<Owner>),
        party: &Party,
    ) -> Result<(Envelope, Option<Claim>), Refused> {
        let rules = self.rules.load_full();
        let claim = match source {
            Source::Uploads => {
                let owner = uploads.unwrap_or_else(|| Owner::identity(&party.to_string()));
                attachments::claim(&self.blobs, &owner, &envelope).await?
            }
            Source::Kept => attachments::keep(&self.blobs, &envelope).await?,
        };
        if envelope.sealed.is_none() || matches!(rules.own, Member::Hub(_)) {
            return Ok((envelope, Some(claim)));
        }
        let (blobs, keys) = (self.blobs.clone(), self.opening_keys.clone());
        let (alliance, own) = (rules.alliance.clone(), rules.own.clone());
        let opened = aside(move || opening::open(envelope, header_digest, &alliance, &own, &keys, &blobs)).await;
        let (envelope, opened) = opened?;
        // The sealed form was only needed to be opened.
        aside(move || claim.settle()).await;
        Ok((envelope, Some(opened)))
    }

    /// Whether the grants in force let `party` exchange `item` with the city `other`.
    pub fn allows(&self, party: &Party, item: &ItemCode, other: Option<&Division>) -> bool {
        self.rules.load().grants.allow(party, item, other)
    }

    /// Takes receipts that came home, each with the text beside it; none stands for one that cannot be read. Each is checked
    /// on its own: one that does not hold never holds up the others. On return those that hold are durable; the others come
    /// back by position, with the reason.
    pub async fn witness(
        &self,
        receipts: Vec<(Option<Receipt>, Option<String>)>,
    ) -> Result<Vec<(u32, Refused)>, Trouble> {
        let rules = self.rules.load_full();
        let (mut refused, mut positions, mut held) = (Vec::new(), Vec::new(), Vec::new());
        for (position, (receipt, text)) in (0..).zip(receipts) {
            match self.hold(receipt) {
                Ok(checked) => {
                    let relays = rules.may_relay(&checked.evidence.from.city, &checked.evidence.issuer);
                    let issuer = if relays { Issuer::MayRelay } else { Issuer::Other };
                    positions.push(position);
                    held.push(ledger::Incoming { checked, text, issuer });
                }
                Err(why) => refused.push((position, Refused::new(Reason::OriginReceiptInvalid).with_detail(why))),
            }
        }
        let answer = self.ledger.try_enter(Entry::Witness(Box::new(Witness { receipts: held }))).await?;
        let Answer::Witnessed(each) = answer else { return Err(Trouble::Stopped) };
        refused.extend(positions.into_iter().zip(each).filter_map(|(position, each)| {
            let why = each.err()?.to_string();
            Some((position, Refused::new(Reason::OriginReceiptForeign).with_detail(why)))
        }));
        Ok(refused)
    }

    fn hold(&self, receipt: Option<Receipt>) -> Result<Checked, String> {
        let receipt = receipt.ok_or("proof: a hash has not 32 bytes")?;
        let mut checker = self.checker.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        checker.check(receipt).map_err(|error| error.to_string())
    }

    fn rejections_of(&self, party: &Party) -> Ration {
        match self.rejections.get(party) {
            Some(ration) => ration.clone(),
            None => self.rejections.entry(party.clone()).or_default().clone(),
        }
    }
}

/// Hands a message to the ledger. What it claimed is held until the ledger has answered, also when the caller no longer
/// waits for it: a commit that is on its way refers to it.
async fn enter(ledger: &Ledger, take: Box<Take>, claim: Option<Claim>) -> Result<Answer, Trouble> {
    let entry = Entry::Take(take);
    let Some(claim) = claim else { return ledger.try_enter(entry).await };
    let ledger = ledger.clone();
    let held = tokio::spawn(async move {
        let answer = ledger.try_enter(entry).await;
        if matches!(answer, Ok(Answer::Taken(Ok(_)))) {
            aside(move || claim.settle()).await;
        }
        answer
    });
    held.await.unwrap_or(Err(Trouble::Stopped))
}

impl From<Trouble> for Refused {
    fn from(trouble: Trouble) -> Refused {
        Refused::new(match trouble {
            Trouble::Busy => Reason::Busy,
            Trouble::Full => Reason::StoreFull,
            Trouble::Stopped => Reason::StoreUnavailable,
        })
    }
}

/// The part in which an origin receipt speaks of something else than this message.
fn foreign(evidence: &Evidence, envelope: &Envelope, digest: Digest) -> Option<&'static str> {
    let to_city = envelope.to.as_ref().map(|to| &to.city);
    let parts = [
        (evidence.event == Event::SubmissionAccepted, "event"),
        (evidence.issuer == Member::City(envelope.from.city.clone()), "issuer"),
        (evidence.message_id == envelope.id, "message id"),
        (evidence.from == envelope.from, "sender"),
        (evidence.header_digest == digest, "header digest"),
        (to_city.is_none() || evidence.to.as_ref().map(|to| &to.city) == to_city, "recipient"),
    ];
    parts.iter().find(|(same, _)| !same).map(|(_, part)| *part)
}

/// Where the rules send a new message, or why they refuse it. For a relayed message the origin's word on expiry stands.
fn verdict(
    rules: &Rules,
    party: &Party,
    envelope: &Envelope,
    origin: Option<&Evidence>,
    now: Time,
) -> Result<Route, (Reason, Option<Code>)> {
    admission::in_window(envelope, now).map_err(|reason| (reason, None))?;
    let expires_at = match origin.and_then(|origin| origin.expires_at) {
        Some(expires_at) => expires_at,
        None => envelope.expires_at.map_or(now.plus_ms(TIME_TO_LIVE_MS), |expires_at| expires_at.time()),
    };
    if expires_at <= now {
        return Err((Reason::MessageExpired, None));
    }
    let entered = match origin {
        Some(_) => Entered::Relayed { via: &party.member },
        None => Entered::Here,
    };
    let query = Query {
        // Where the sender left the recipient open, the origin's tables have chosen the city.
        to: envelope.to.as_ref().or(origin.and_then(|origin| origin.to.as_ref())),
        jurisdiction: envelope.jurisdiction.as_ref(),
        item: &envelope.item_code,
        step: envelope.step.as_ref(),
        mode: envelope.mode,
        now,
        entered,
    };
    let resolved = rules.index.resolve(&query).map_err(|refusal| (refusal.reason, refusal.token))?;
    let mut lanes = resolved.lanes.iter().map(lane);
    let lane = lanes.next().ok_or((Reason::NoRoute, None))?;
    let others = lanes.collect();
    Ok(Route { recipient: resolved.recipient, lane, others, table_version: resolved.version, expires_at })
}

/// The lane towards a destination.
pub fn lane(destination: &Destination) -> LaneName {
    match destination {
        Destination::System(name) => LaneName::System(name.clone()),
        Destination::Gateway(member) => LaneName::Gateway(member.clone()),
    }
}
