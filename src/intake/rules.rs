//! Decides what the rules in force say: who may carry whose messages, which bodies must be sealed, and whether a message
//! that waits may still go. Replaced whole when configuration, tables or directory change.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::lane;
use crate::admission::Grants;
use crate::directory::SealingKey;
use crate::directory::book::Directory;
use crate::limits::RELAYS_ON_THE_WAY_MAX;
use crate::party::{Alliance, Division, Member, Name, Party, Role};
use crate::reason::Reason;
use crate::routing::{Entered, Index, Query};
use crate::store::{LaneName, Stored};
use crate::time::Time;
use crate::wire::envelope::Outline;
use crate::wire::status::Refused;

/// The rules in force.
#[derive(Clone, Debug)]
pub struct Rules {
    pub own: Member,
    pub alliance: Alliance,
    pub directory: Arc<Directory>,
    pub index: Arc<Index>,
    pub grants: Grants,
    /// Members with which our own people exchange nothing for now.
    pub suspended: BTreeSet<Member>,
}

impl Rules {
    /// Whether `carrier` may bring messages of the city `from`: its own gateway, or a member that its record lets relay.
    /// The way so far must end with the carrier, name only such members, and be short enough.
    /// A hub takes nothing that it may not carry on itself.
    pub(super) fn may_carry(&self, carrier: &Member, from: &Division, via: &[Member]) -> Result<(), Refused> {
        let origin = Member::City(from.clone());
        if let Some(suspended) = via.iter().chain([carrier, &origin]).find(|member| self.suspended.contains(member)) {
            return Err(Refused::new(Reason::MemberSuspended).with_detail(suspended.to_string()));
        }
        if *carrier == Member::City(from.clone()) {
            if !via.is_empty() {
                let detail = "a city's own messages pass no hub first";
                return Err(Refused::new(Reason::NotPermitted).with_detail(detail));
            }
        } else if via.last() != Some(carrier) {
            let detail = "envelope.from is neither the certificate's identity nor relayed by it";
            return Err(Refused::new(Reason::NotPermitted).with_detail(detail));
        }
        if via.len() > RELAYS_ON_THE_WAY_MAX || via.contains(&self.own) {
            return Err(Refused::new(Reason::RelayLoop));
        }
        let ourselves = Some(&self.own).filter(|own| matches!(own, Member::Hub(_)));
        match via.iter().chain(ourselves).find(|hub| !self.may_relay(from, hub)) {
            Some(hub) => Err(Refused::new(Reason::RelayNotAllowed).with_detail(hub.to_string())),
            None => Ok(()),
        }
    }

    /// Whether the city's member record lets this member relay for it.
    pub fn may_relay(&self, city: &Division, relay: &Member) -> bool {
        self.directory.member(&Member::City(city.clone())).is_some_and(|record| record.relays.contains(relay))
    }

    /// Whether both cities let hubs see their bodies.
    pub fn unsealed_relay(&self, from: &Division, to: &Division) -> bool {
        let allows = |city: &Division| {
            self.directory.member(&Member::City(city.clone())).is_some_and(|record| record.unsealed_relay)
        };
        allows(from) && allows(to)
    }

    /// The key to which bodies for a member are sealed.
    pub fn sealing_key(&self, member: &Member) -> Option<SealingKey> {
        self.directory.member(member).and_then(|record| record.sealing_key)
    }

    /// Whether a message that waits for a partner may go there now: the tables still send it that way, and the partner is
    /// still a member; neither the partner nor the recipient is suspended.
    pub fn lets_go(&self, stored: &Stored, outline: &Outline, partner: &Member, now: Time) -> bool {
        let recipient = Member::City(stored.recipient.city.clone());
        let suspended = [partner, &recipient].into_iter().any(|member| self.suspended.contains(member));
        !suspended && self.leads_to(&LaneName::Gateway(partner.clone()), stored, outline, now)
    }

    /// Whether a message may be handed to, or read by, one of our own systems now: a grant covers it, and the own table does
    /// not refuse it. A table that names another system for new messages takes away none that has its recipient.
    pub fn lets_have(&self, system: &Name, stored: &Stored, outline: &Outline, now: Time) -> bool {
        let party =
            Party { alliance: self.alliance.clone(), member: self.own.clone(), role: Role::System(system.clone()) };
        self.grants.allow(&party, &outline.item_code, Some(&stored.key.from_city))
            && self.leads_to(&LaneName::System(system.clone()), stored, outline, now)
    }

    /// Whether the tables in force would put the message, with the recipient that it has, into this lane.
    fn leads_to(&self, wanted: &LaneName, stored: &Stored, outline: &Outline, now: Time) -> bool {
        let brought_by = stored.via.last().cloned().unwrap_or(Member::City(stored.key.from_city.clone()));
        let entered = match brought_by == self.own {
            true => Entered::Here,
            false => Entered::Relayed { via: &brought_by },
        };
        let query = Query {
            to: Some(&stored.recipient),
            jurisdiction: outline.jurisdiction.as_ref(),
            item: &outline.item_code,
            step: outline.step.as_ref(),
            mode: outline.mode,
            now,
            entered,
        };
        let resolved = self.index.resolve(&query);
        resolved.is_ok_and(|resolved| resolved.lanes.iter().any(|to| lane(to) == *wanted))
    }
}
