//! Decides whether a message is taken into custody: who speaks, for whom, with which proof, and where it would go. Asks
//! the pure rules, hands the verdict to the ledger, and answers with a receipt or a typed refusal.

use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use dashmap::DashMap;

use crate::admission::{self, Grants, Ration};
use crate::clock::Clock;
use crate::directory::book::Directory;
use crate::evidence::{Event, Evidence};
use crate::ledger::{Answer, Entry, Ledger, Route, Take, Trouble};
use crate::limits::TIME_TO_LIVE_MS;
use crate::message::{Digest, Envelope};
use crate::party::{Member, Party, Role};
use crate::reason::Reason;
use crate::receipt::{Checked, Checker, LogKey, Receipt};
use crate::routing::{Destination, Entered, Index, Query};
use crate::store::LaneName;
use crate::wire::envelope::split;
use crate::wire::status::Refused;

/// The rules in force, replaced whole when configuration, tables or directory change.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Whose gateway it is.
    pub own: Member,
    pub index: Arc<Index>,
    pub grants: Grants,
}

/// The one way in for messages, whichever door they come through.
#[derive(Debug)]
pub struct Intake {
    rules: Arc<ArcSwap<Rules>>,
    checker: Arc<Mutex<Checker>>,
    ledger: Ledger,
    clock: Clock,
    rejections: DashMap<Party, Ration>,
}

/// The keys of all logs in the directory.
pub fn log_keys(directory: &Directory) -> Vec<LogKey> {
    let keys = directory.entries().flat_map(|entry| {
        entry.record.log_keys.iter().map(|key| LogKey { member: entry.record.member.clone(), key: key.clone() })
    });
    keys.collect()
}

impl Intake {
    pub fn new(rules: Arc<ArcSwap<Rules>>, checker: Arc<Mutex<Checker>>, ledger: Ledger, clock: Clock) -> Intake {
        Intake { rules, checker, ledger, clock, rejections: DashMap::new() }
    }

    /// Takes a message into custody. On return it is durable, and the receipt says so; or it is refused and nothing of
    /// it is kept. The same message again gets the same receipt.
    pub async fn submit(&self, party: &Party, envelope: Envelope, origin: Option<Receipt>) -> Result<Receipt, Refused> {
        let rules = self.rules.load();
        if !admission::speaks_for(party, &rules.own, &envelope) {
            return Err(
                Refused::new(Reason::NotPermitted).with_detail("envelope.from is not the certificate's identity")
            );
        }
        let header_digest = envelope.header_digest();
        let origin = match party.role {
            Role::Gateway => Some(self.origin(origin, &envelope, header_digest)?),
            _ => None,
        };
        let now = self.clock.now();
        admission::in_window(&envelope, now).map_err(Refused::new)?;
        let other = match party.role {
            Role::Gateway => Some(&envelope.from.city),
            _ => envelope.to.as_ref().map(|to| &to.city),
        };
        if !rules.grants.allow(party, &envelope.item_code, other) {
            return Err(Refused::new(Reason::NotPermitted).with_detail("no grant covers this item and city"));
        }
        let verdict = verdict(&rules.index, party, &envelope, origin.as_ref().map(|origin| &origin.evidence), now);
        let (header, body) = split(&envelope);
        let rejections = self.rejections_of(party);
        let take = Take { envelope, header_digest, header, body, origin, verdict, rejections };
        match self.ledger.try_enter(Entry::Take(Box::new(take))).await {
            Ok(Answer::Taken(Ok(receipt))) => Ok(receipt),
            Ok(Answer::Taken(Err(refusal))) => {
                tracing::info!(party = %party, reason = refusal.reason.code(), "message refused");
                Err(Refused { receipt: refusal.receipt, ..Refused::new(refusal.reason) })
            }
            Ok(_) => Err(Refused::new(Reason::Internal)),
            Err(trouble) => Err(trouble.into()),
        }
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

    fn rejections_of(&self, party: &Party) -> Ration {
        match self.rejections.get(party) {
            Some(ration) => ration.clone(),
            None => self.rejections.entry(party.clone()).or_default().clone(),
        }
    }
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

/// Where the rules send the message, or why they refuse it. For a relayed message the origin's word on expiry stands.
fn verdict(
    index: &Index,
    party: &Party,
    envelope: &Envelope,
    origin: Option<&Evidence>,
    now: crate::time::Time,
) -> Result<Route, Reason> {
    let expires_at = match origin.and_then(|origin| origin.expires_at) {
        Some(expires_at) => expires_at,
        None => envelope.expires_at.map_or(now.plus_ms(TIME_TO_LIVE_MS), |expires_at| expires_at.time()),
    };
    if expires_at <= now {
        return Err(Reason::MessageExpired);
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
    let resolved = index.resolve(&query)?;
    let lane = match resolved.lanes.first().ok_or(Reason::NoRoute)? {
        Destination::System(name) => LaneName::System(name.clone()),
        Destination::Gateway(member) => LaneName::Gateway(member.clone()),
    };
    Ok(Route { recipient: resolved.recipient, lane, table_version: resolved.version, expires_at })
}
