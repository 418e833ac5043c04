//! Decides what people did, or were refused, goes on record in the audit, and how often a refusal does: nobody fills the log
//! by being refused. Never decides to refuse.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::audit::Deed;
use crate::clock::Clock;
use crate::courier::Ground;
use crate::ledger::{Entry, Ledger};
use crate::limits::AUDIT_REFUSED_PER_MINUTE;
use crate::party::{Member, Party, Role};
use crate::reason::Reason;
use crate::time::Time;
use crate::wire::status::Refused;

/// The way of the doors to the audit.
#[derive(Clone, Debug)]
pub struct Record {
    own: Member,
    ledger: Ledger,
    clock: Clock,
    refusals: Arc<Mutex<Refusals>>,
}

impl Record {
    /// The record of the gateway that stands on this ground.
    pub fn new(ground: &Ground) -> Record {
        let (own, ledger, clock) = (ground.own.clone(), ground.ledger.clone(), ground.clock.clone());
        Record { own, ledger, clock, refusals: Arc::default() }
    }

    /// Puts on record that somebody was refused; on return it is, as far as the ration and the ledger have room. Of whoever
    /// is no person of this gateway's member not even the object is kept: what strangers say does not enter the log.
    pub async fn refused(&self, party: &Party, act: &'static str, object: &str, reason: Reason) {
        if !self.refusals.lock().unwrap_or_else(PoisonError::into_inner).take(self.clock.now(), party) {
            return;
        }
        let ours = party.member == self.own && matches!(party.role, Role::Ops(_) | Role::Auditor(_));
        let object = if ours { object.to_owned() } else { String::new() };
        let (act, actor, refused) = (act.to_owned(), party.to_string(), Some(reason.into()));
        if self.done(Deed { act, actor, object, refused, ..Deed::default() }).await.is_err() {
            tracing::warn!(%party, reason = reason.code(), "a refusal could not be put on record");
        }
    }

    /// Puts on record what somebody does; on return it is.
    ///
    /// # Errors
    /// The ledger has no room, or has stopped: whatever depends on it must not be done.
    pub async fn done(&self, deed: Deed) -> Result<(), Refused> {
        Ok(self.ledger.try_enter(Entry::Deed(Box::new(deed))).await.map(drop)?)
    }
}

/// Refusals on record in the minute that runs: of each identity, and of each member.
#[derive(Debug, Default)]
struct Refusals {
    minute: u64,
    of_identity: HashMap<Party, u32>,
    of_member: HashMap<Member, u32>,
}

impl Refusals {
    fn take(&mut self, now: Time, party: &Party) -> bool {
        let (minute, (identity_max, member_max)) = (now.ms() / 60_000, AUDIT_REFUSED_PER_MINUTE);
        if minute != self.minute {
            *self = Refusals { minute, ..Refusals::default() };
        }
        let of_member = self.of_member.entry(party.member.clone()).or_default();
        if *of_member >= member_max {
            return false;
        }
        // Only behind the member's bound: so many identities at most are remembered.
        let of_identity = self.of_identity.entry(party.clone()).or_default();
        if *of_identity >= identity_max {
            return false;
        }
        *of_member += 1;
        *of_identity += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_an_identity_nor_a_member_fills_the_log_by_being_refused() {
        let party = |name: &str| format!("spiffe://a.example/city/{name}").parse::<Party>().unwrap();
        let (mut refusals, at) = (Refusals::default(), Time::from_ms(1_000_000 * 60_000));
        let mut taken = |at: Time, name: &str| (0..99).filter(|_| refusals.take(at, &party(name))).count() as u32;
        let (identity, member) = AUDIT_REFUSED_PER_MINUTE;
        assert_eq!([taken(at, "440600/ops/a"), taken(at.plus_ms(59_999), "440600/ops/a")], [identity, 0]);
        let others: u32 = (0..99).map(|count| taken(at, &format!("440600/ops/x{count}"))).sum();
        assert_eq!(others, member - identity, "nor do all of a member together");
        assert_eq!(taken(at, "450200/ops/li"), identity, "which takes nothing from the others");
        assert_eq!(taken(at.plus_ms(60_000), "440600/ops/a"), identity);
    }
}
