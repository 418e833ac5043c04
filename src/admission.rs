//! Decides who may send what, and how much: grants, the window of times, and rates. Pure: time is an argument. Never
//! knows a connection and never looks a message up.

use std::sync::{Arc, Mutex, PoisonError};

use crate::limits::{CLOCK_AHEAD_MS_MAX, ID_WINDOW_MS, REJECTION_LEAVES_PER_S};
use crate::message::{Envelope, ItemCode};
use crate::party::{Division, Member, Party, Role};
use crate::reason::Reason;
use crate::routing::ItemPattern;
use crate::time::Time;

/// What a grant's identity covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// All of the city's own systems.
    EverySystem,
    /// All partner gateways.
    EveryGateway,
    /// One identity, by its exact URI name.
    One(Party),
}

/// Divisions that a grant covers: all (`*`), or those under a code: `45` covers 450200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DivisionPattern(String);

/// Text that is no such pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a division code, its beginning followed by '*', or '*'")]
pub struct DivisionPatternError;

impl std::str::FromStr for DivisionPattern {
    type Err = DivisionPatternError;

    fn from_str(text: &str) -> Result<DivisionPattern, DivisionPatternError> {
        let digits = text.strip_suffix('*').unwrap_or(text);
        let good = (!text.is_empty()) && digits.len() <= 12 && digits.bytes().all(|b| b.is_ascii_digit());
        if good { Ok(DivisionPattern(text.to_owned())) } else { Err(DivisionPatternError) }
    }
}

impl std::fmt::Display for DivisionPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl DivisionPattern {
    fn covers(&self, division: &Division) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => division.as_str().starts_with(prefix),
            None => division.as_str() == self.0,
        }
    }
}

/// One line of what is allowed; what no line allows is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub who: Who,
    pub items: Vec<ItemPattern>,
    /// The other city: the recipient's for our own systems, the sender's for partner gateways.
    pub divisions: Vec<DivisionPattern>,
}

impl Grant {
    /// Whether it says anything of this item and this city; of all where they are left open.
    pub fn speaks_of(&self, item: Option<&ItemCode>, other: Option<&Division>) -> bool {
        let covers = |pattern: &DivisionPattern| other.is_none_or(|other| pattern.covers(other));
        self.items.iter().any(|items| item.is_none_or(|item| items.covers(item))) && self.divisions.iter().any(covers)
    }
}

/// All grants of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(pub Vec<Grant>);

impl Grants {
    /// Whether `party` may exchange `item` with the city `other`; `None` is a recipient left open.
    pub fn allow(&self, party: &Party, item: &ItemCode, other: Option<&Division>) -> bool {
        self.0.iter().any(|grant| grant.who.is(party) && grant.speaks_of(Some(item), other))
    }

    /// Whether `party` may exchange anything at all.
    pub fn name(&self, party: &Party) -> bool {
        self.0.iter().any(|grant| grant.who.is(party))
    }
}

impl Who {
    fn is(&self, party: &Party) -> bool {
        match (self, &party.role) {
            (Who::EverySystem, Role::System(_)) | (Who::EveryGateway, Role::Gateway) => true,
            (Who::One(one), _) => one == party,
            _ => false,
        }
    }
}

/// Whether the sender named in the envelope is who speaks to the gateway of the city `own`: one of that city's systems
/// under its own name, or a gateway for its own city. Another city's system has a gateway of its own: here nobody could
/// give it its city's receipt.
pub fn speaks_for(party: &Party, own: &Member, envelope: &Envelope) -> bool {
    let its_city = party.member == Member::City(envelope.from.city.clone());
    match &party.role {
        Role::System(name) => its_city && party.member == *own && envelope.from.system.as_ref() == Some(name),
        Role::Gateway => its_city,
        Role::Ops(_) | Role::Auditor(_) => false,
    }
}

/// Whether a message's times lie in the window for which ids are remembered.
///
/// # Errors
/// `CLOCK_AHEAD` or `ID_TOO_OLD`.
pub fn in_window(envelope: &Envelope, now: Time) -> Result<(), Reason> {
    let created = envelope.created_at.time();
    if created > now.plus_ms(CLOCK_AHEAD_MS_MAX) {
        Err(Reason::ClockAhead)
    } else if now.since_ms(created) > ID_WINDOW_MS {
        Err(Reason::IdTooOld)
    } else {
        Ok(())
    }
}

/// A rate: so many at once, and so many per second on average (GCRA).
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// When the bucket will be empty again.
    empty_at: Time,
}

impl Bucket {
    /// Takes one of `per_s` tokens a second, at most `per_s` of them at once; tells whether there was one.
    pub fn take(&mut self, now: Time, per_s: u32) -> bool {
        let interval_ms = 1000 / u64::from(per_s.max(1));
        let empty_at = self.empty_at.max(now).plus_ms(interval_ms);
        let fits = empty_at.since_ms(now) <= 1000;
        if fits {
            self.empty_at = empty_at;
        }
        fits
    }
}

/// One identity's ration of rejection leaves, shared by all that it has under way. A leaf is for ever: whoever is refused
/// may not fill the log with it.
#[derive(Clone, Debug, Default)]
pub struct Ration(Arc<Mutex<Bucket>>);

impl Ration {
    /// Takes one leaf, if there is one left.
    pub fn take(&self, now: Time) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(now, REJECTION_LEAVES_PER_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_rate_and_no_more() {
        let mut bucket = Bucket::default();
        let taken = |bucket: &mut Bucket, ms| (0..100).filter(|_| bucket.take(Time::from_ms(ms), 10)).count();
        assert_eq!(taken(&mut bucket, 5_000), 10);
        assert_eq!(taken(&mut bucket, 5_500), 5);
        assert_eq!(taken(&mut bucket, 60_000), 10);
    }

    #[test]
    fn identities_never_match_by_pattern() {
        let party = |uri: &str| uri.parse::<Party>().unwrap();
        let one = party("spiffe://a.example/city/450200/system/win");
        let grant =
            Grant { who: Who::One(one.clone()), items: vec![ItemPattern::Any], divisions: vec!["*".parse().unwrap()] };
        let grants = Grants(vec![grant]);
        let item = "1".parse().unwrap();
        assert!(grants.allow(&one, &item, None));
        assert!(!grants.allow(&party("spiffe://a.example/city/450200/system/win2"), &item, None));
        assert!(!grants.allow(&party("spiffe://a.example/city/450200/system/Win"), &item, None));
        assert!(!grants.allow(&party("spiffe://a.example/city/450200/gateway"), &item, None));
        assert!(!Grants::default().allow(&one, &item, None), "deny by default");
    }

    #[test]
    fn a_division_pattern_covers_what_lies_under_it() {
        let covers =
            |pattern: &str, code: &str| pattern.parse::<DivisionPattern>().unwrap().covers(&code.parse().unwrap());
        assert!(covers("*", "450200") && covers("45*", "450200") && covers("450200", "450200"));
        assert!(!covers("44*", "450200") && !covers("450201", "450200"));
        assert!("".parse::<DivisionPattern>().is_err() && "45x*".parse::<DivisionPattern>().is_err());
    }
}
