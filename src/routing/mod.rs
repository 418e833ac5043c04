//! Decides where a message goes: to one of the city's own systems, or to a member's gateway. Pure: the tables come in,
//! a destination or a reason goes out. Never looks a member up elsewhere and never sends anything.
//!
//! So far the only tables are the member records and the city's own list of systems (version 0): a sender names the
//! recipient city, and a message that leaves it open matches nothing.

use std::collections::BTreeSet;

use crate::message::{Address, Envelope, ItemCode};
use crate::party::{Division, Member, Name};
use crate::reason::Reason;

/// Which items something takes or may be sent: all of them (`*`), those that begin alike (`1145*`), or exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemPattern {
    Any,
    Prefix(String),
    Exact(ItemCode),
}

/// Text that is no item pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an item code, the beginning of one followed by '*', or '*'")]
pub struct PatternError;

impl std::str::FromStr for ItemPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<ItemPattern, PatternError> {
        match text.strip_suffix('*') {
            Some("") => Ok(ItemPattern::Any),
            Some(prefix) => {
                prefix.parse::<ItemCode>().map_err(|_| PatternError)?;
                Ok(ItemPattern::Prefix(prefix.to_owned()))
            }
            None => Ok(ItemPattern::Exact(text.parse().map_err(|_| PatternError)?)),
        }
    }
}

impl ItemPattern {
    /// Whether the pattern covers this item.
    pub fn covers(&self, item: &ItemCode) -> bool {
        match self {
            ItemPattern::Any => true,
            ItemPattern::Prefix(prefix) => item.as_str().starts_with(prefix),
            ItemPattern::Exact(exact) => exact == item,
        }
    }

    /// How much the pattern says: exact before prefix, the longer prefix before the shorter, any last.
    fn precision(&self) -> usize {
        match self {
            ItemPattern::Any => 0,
            ItemPattern::Prefix(prefix) => prefix.len(),
            ItemPattern::Exact(_) => usize::MAX,
        }
    }
}

/// One of the city's own systems and the items it takes.
#[derive(Clone, Debug)]
pub struct OwnSystem {
    pub name: Name,
    pub items: Vec<ItemPattern>,
}

/// Everything that routing looks at, replaced whole when it changes.
#[derive(Clone, Debug)]
pub struct Tables {
    pub own: Member,
    pub systems: Vec<OwnSystem>,
    /// Cities whose gateways can be reached.
    pub cities: BTreeSet<Division>,
    /// Version of the tables; 0 for member records and own systems alone.
    pub version: u64,
}

/// Where a message goes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Into the mailbox of one of our own systems.
    System(Name),
    /// To the gateway of a member.
    Gateway(Member),
}

/// A resolved message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub recipient: Address,
    pub destination: Destination,
}

/// Where the message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// From one of our own systems.
    Here,
    /// From another member's gateway: it must end here.
    Relayed,
}

impl Tables {
    /// Resolves one message.
    ///
    /// # Errors
    /// `NO_MATCHING_ITEM` when nobody takes it, `NO_SUCH_SYSTEM` when the city has no such system, `NO_ROUTE` when the
    /// city cannot be reached from here.
    pub fn resolve(&self, envelope: &Envelope, entered: Entered) -> Result<Resolved, Reason> {
        let to = envelope.to.as_ref().ok_or(Reason::NoMatchingItem)?;
        if Member::City(to.city.clone()) == self.own {
            let name = self.own_system(to, &envelope.item_code)?;
            let recipient = Address { city: to.city.clone(), system: Some(name.clone()) };
            return Ok(Resolved { recipient, destination: Destination::System(name) });
        }
        if entered == Entered::Relayed || !self.cities.contains(&to.city) {
            return Err(Reason::NoRoute);
        }
        Ok(Resolved { recipient: to.clone(), destination: Destination::Gateway(Member::City(to.city.clone())) })
    }

    fn own_system(&self, to: &Address, item: &ItemCode) -> Result<Name, Reason> {
        match &to.system {
            Some(name) => {
                let known = self.systems.iter().any(|system| system.name == *name);
                if known { Ok(name.clone()) } else { Err(Reason::NoSuchSystem) }
            }
            None => {
                let takers = self.systems.iter().flat_map(|system| {
                    system.items.iter().filter(|pattern| pattern.covers(item)).map(move |pattern| (pattern, system))
                });
                let best = takers.max_by_key(|(pattern, _)| pattern.precision());
                best.map(|(_, system)| system.name.clone()).ok_or(Reason::NoMatchingItem)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{SentTime, Time};

    fn tables() -> Tables {
        let system = |name: &str, items: &[&str]| OwnSystem {
            name: name.parse().unwrap(),
            items: items.iter().map(|item| item.parse().unwrap()).collect(),
        };
        Tables {
            own: "440600".parse().unwrap(),
            systems: vec![system("general", &["*"]), system("social", &["1144*"]), system("permit", &["1144-7"])],
            cities: ["450200".parse().unwrap()].into(),
            version: 0,
        }
    }

    fn envelope(to: Option<(&str, Option<&str>)>, item: &str) -> Envelope {
        let address = |(city, system): (&str, Option<&str>)| Address {
            city: city.parse().unwrap(),
            system: system.map(|system| system.parse().unwrap()),
        };
        Envelope {
            id: crate::id::MessageId::from_bytes([7; 16]),
            from: address(("450200", Some("window"))),
            to: to.map(address),
            jurisdiction: None,
            redrive_of: None,
            item_code: item.parse().unwrap(),
            case_no: None,
            step: None,
            mode: None,
            in_reply_to: None,
            parts: vec![],
            sealed: None,
            attributes: Default::default(),
            created_at: SentTime::from(Time::from_ms(1)),
            expires_at: None,
            traceparent: None,
        }
    }

    #[test]
    fn the_most_precise_pattern_takes_an_item() {
        for (item, system) in [("1144-7", "permit"), ("1144-8", "social"), ("2250", "general")] {
            let resolved = tables().resolve(&envelope(Some(("440600", None)), item), Entered::Relayed).unwrap();
            assert_eq!(resolved.destination, Destination::System(system.parse().unwrap()), "{item}");
        }
    }

    #[test]
    fn each_way_to_nowhere_has_its_own_reason() {
        let resolve = |to, entered| tables().resolve(&envelope(to, "1"), entered).unwrap_err();
        assert_eq!(resolve(None, Entered::Here), Reason::NoMatchingItem);
        assert_eq!(resolve(Some(("440600", Some("nobody"))), Entered::Here), Reason::NoSuchSystem);
        assert_eq!(resolve(Some(("350200", None)), Entered::Here), Reason::NoRoute);
        assert_eq!(
            resolve(Some(("450200", None)), Entered::Relayed),
            Reason::NoRoute,
            "a gateway that is no hub relays nothing"
        );
    }
}
