//! Decides which ways to a member the member records leave open: dialling it, waiting for it to fetch, or a hub that both
//! sides let carry. Never looks at tables: what a table prefers is the index's affair.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Destination;
use super::table::Candidate;
use crate::directory::{Directory, MemberRecord};
use crate::party::{Division, Member, Name};

/// What the member records allow towards each member, seen from one of them.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    members: BTreeMap<Member, Way>,
}

/// What the records allow towards one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Its record names an endpoint.
    pub dialable: bool,
    /// Its record names none: it fetches.
    pub pulls: bool,
    /// Hubs that may carry between both, each dialable itself, in the order of our own record.
    pub hubs: Vec<Name>,
}

impl Ways {
    /// Reads the ways out of the directory for its member `own`. A hub carries where both records list it in `relays`;
    /// for a hub itself, the other record's word is enough, and without it there is no way to that city at all.
    pub fn of(directory: &Directory, own: &Member) -> Ways {
        let mine = directory.member(own);
        let others = directory.entries().map(|entry| &entry.record).filter(|record| record.member != *own);
        let carries = |other: &MemberRecord| match (own, &other.member) {
            (Member::Hub(_), Member::City(_)) => other.relays.contains(own),
            _ => true,
        };
        let members = others.map(|other| {
            if !carries(other) {
                return (other.member.clone(), Way::default());
            }
            let way = Way { dialable: !other.pulls(), pulls: other.pulls(), hubs: hubs(directory, mine, own, other) };
            (other.member.clone(), way)
        });
        Ways { members: members.collect() }
    }

    /// The ways that are given, member by member.
    pub fn from_members(members: impl IntoIterator<Item = (Member, Way)>) -> Ways {
        Ways { members: members.into_iter().collect() }
    }

    /// What the records allow towards a member; `None` for one that is not in the directory.
    pub fn to(&self, member: &Member) -> Option<&Way> {
        self.members.get(member)
    }

    /// All members but our own.
    pub fn members(&self) -> impl Iterator<Item = (&Member, &Way)> {
        self.members.iter()
    }

    /// Where a candidate way towards a city leads, if it is open.
    pub(super) fn open(&self, city: &Division, candidate: &Candidate) -> Option<Destination> {
        let member = Member::City(city.clone());
        let way = self.to(&member)?;
        match candidate {
            Candidate::Direct => way.dialable.then_some(Destination::Gateway(member)),
            Candidate::Pull => way.pulls.then_some(Destination::Gateway(member)),
            Candidate::Hub(name) => way.hubs.contains(name).then(|| Destination::Gateway(Member::Hub(name.clone()))),
        }
    }

    /// Where a message for a city goes by the records alone: directly or fetched, then by each hub.
    pub(super) fn by_record(&self, city: &Division) -> Arc<[Destination]> {
        let way = self.to(&Member::City(city.clone()));
        let hubs = way.into_iter().flat_map(|way| way.hubs.iter().cloned().map(Candidate::Hub));
        let candidates = [Candidate::Direct, Candidate::Pull].into_iter().chain(hubs);
        candidates.filter_map(|candidate| self.open(city, &candidate)).collect()
    }
}

fn hubs(directory: &Directory, mine: Option<&MemberRecord>, own: &Member, other: &MemberRecord) -> Vec<Name> {
    let allowed = |hub: &Member| other.relays.contains(hub) && hub != own && directory.member(hub).is_some();
    let listed: Vec<&Member> = match own {
        Member::City(_) => mine.map_or(vec![], |mine| mine.relays.iter().collect()),
        Member::Hub(_) => other.relays.iter().collect(),
    };
    let carries = |hub: &Member| match hub {
        Member::Hub(name) if allowed(hub) => Some(name.clone()),
        _ => None,
    };
    let dialable = |hub: &&Member| directory.member(hub).is_some_and(|record| !record.pulls());
    listed.into_iter().filter(dialable).filter_map(carries).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{CrlPolicy, Entry};
    use crate::time::Time;
    use crate::tlog::note::SigningKey;

    /// A member's entry: dialable, or fetching; relayed for by these.
    fn entry(member: &str, dialable: bool, relays: &[&str]) -> (Member, Entry) {
        let endpoints = if dialable { vec!["gateway.example:7501".parse().unwrap()] } else { vec![] };
        let record = MemberRecord {
            alliance: "alliance.example".parse().unwrap(),
            member: member.parse().unwrap(),
            version: 1,
            issued_at: Time::ZERO,
            name_zh: String::new(),
            name_en: String::new(),
            key_pin: None,
            days_max: 397,
            endpoints,
            roots: vec![],
            log_keys: vec![],
            relays: relays.iter().map(|relay| relay.parse().unwrap()).collect(),
            crl: CrlPolicy::None,
            sealing_key: None,
            unsealed_relay: false,
        };
        let member_key = SigningKey::from_seed("member", &[1; 32]).unwrap().verifying_key().clone();
        (record.member.clone(), Entry { member_key, record, note: String::new() })
    }

    fn way(ways: &Ways, member: &str) -> Option<Way> {
        ways.to(&member.parse().unwrap()).cloned()
    }

    fn open(dialable: bool, pulls: bool, hubs: &[&str]) -> Option<Way> {
        Some(Way { dialable, pulls, hubs: hubs.iter().map(|hub| hub.parse().unwrap()).collect() })
    }

    #[test]
    fn what_both_records_allow_is_open_seen_from_a_city_and_from_a_hub() {
        let members = [
            entry("450200", true, &["hub/north", "hub/gone", "hub/away", "hub/main"]),
            entry("440600", false, &["hub/main", "hub/away", "hub/gone", "hub/north"]),
            entry("450300", true, &[]),
            entry("hub/main", true, &[]),
            entry("hub/north", true, &[]),
            entry("hub/away", false, &[]),
        ];
        let directory =
            Directory::empty(&"alliance.example".parse().unwrap(), Time::from_ms(1)).unwrap().overlaid(members);
        let city = Ways::of(&directory, &"450200".parse().unwrap());
        assert_eq!(way(&city, "440600"), open(false, true, &["north", "main"]), "in the order of its own record");
        assert_eq!(way(&city, "450300"), open(true, false, &[]));
        assert_eq!((way(&city, "hub/main"), way(&city, "hub/away")), (open(true, false, &[]), open(false, true, &[])));
        assert_eq!((way(&city, "450200"), way(&city, "350200")), (None, None), "itself, and whom nobody knows");
        let hub = Ways::of(&directory, &"hub/main".parse().unwrap());
        assert_eq!(way(&hub, "440600"), open(false, true, &["north"]), "not by itself");
        assert_eq!(way(&hub, "450300"), open(false, false, &[]), "which does not let it carry");
        assert_eq!(way(&hub, "hub/north"), open(true, false, &[]));
        let stranger = Ways::of(&directory, &"350200".parse().unwrap());
        assert_eq!(way(&stranger, "440600"), open(false, true, &[]), "without a record of its own");
    }
}
