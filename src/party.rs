//! Decides what a name of a city, a hub, a system or a person at work looks like, and how it stands in a certificate.
//! Never looks anybody up and trusts nobody: that a name is well formed says nothing about who uses it.

use std::fmt;
use std::str::FromStr;

use crate::limits::{ALLIANCE_BYTES_MAX, DIVISION_DIGITS, NAME_BYTES_MAX, URI_BYTES_MAX};
use crate::short::Short;

/// A name that does not parse, with what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a division code has 6 to 12 digits (GB/T 2260)")]
    Division,
    #[error("a name has 1 to 32 of the letters, digits, '.', '_' and '-', and is not '.' or '..'")]
    Name,
    #[error("an alliance is a lower-case DNS name of at most 64 bytes")]
    Alliance,
    #[error("a member is a division code or hub/<name>")]
    Member,
    #[error(
        "a party is spiffe://<alliance>/city/<division>/{{gateway|system/<name>|ops/<name>|auditor/<name>}} or spiffe://<alliance>/hub/<name>[/{{ops|auditor}}/<name>]"
    )]
    Party,
}

/// 行政区划代码, a division code after GB/T 2260: 6 digits for a district, city (`xxxx00`) or province (`xx0000`), up to
/// 12 down to the village.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Division(Short<{ *DIVISION_DIGITS.end() }>);

impl Division {
    /// The code as text, digits only.
    pub fn as_str(&self) -> &str {
        self.0.as_ref()
    }

    /// The digits of the code.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl FromStr for Division {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Division, NameError> {
        let digits = DIVISION_DIGITS.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        Short::try_from(text).ok().filter(|_| digits).map(Division).ok_or(NameError::Division)
    }
}

/// A short name of a system, a hub or a person at work: `[A-Za-z0-9._-]{1,32}`, compared byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Short<NAME_BYTES_MAX>);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_ref()
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        let letters = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        let good = letters && !text.is_empty() && text != "." && text != "..";
        Short::try_from(text).ok().filter(|_| good).map(Name).ok_or(NameError::Name)
    }
}

/// The alliance's name, which is the SPIFFE trust domain of all its certificates: a lower-case DNS name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alliance(String);

impl Alliance {
    /// The trust domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Alliance {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Alliance, NameError> {
        let label = |l: &str| {
            !l.is_empty()
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        let good = text.len() <= ALLIANCE_BYTES_MAX && text.split('.').all(label);
        if good { Ok(Alliance(text.to_owned())) } else { Err(NameError::Alliance) }
    }
}

/// A member of the alliance: a city, or a hub that relays for cities. Written `450200` or `hub/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Member {
    City(Division),
    Hub(Name),
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Member::City(division) => f.write_str(division.as_str()),
            Member::Hub(name) => write!(f, "hub/{}", name.as_str()),
        }
    }
}

impl FromStr for Member {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Member, NameError> {
        match text.strip_prefix("hub/") {
            Some(name) => Ok(Member::Hub(name.parse().map_err(|_| NameError::Member)?)),
            None => Ok(Member::City(text.parse().map_err(|_| NameError::Member)?)),
        }
    }
}

/// What a party does at its member.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The member's gateway (for a hub: the hub itself).
    Gateway,
    /// One of a city's own systems.
    System(Name),
    /// A person who operates the member's gateway.
    Ops(Name),
    /// A person who reads evidence and audit at the member's gateway.
    Auditor(Name),
}

/// Who speaks: the single URI name of a certificate, e.g. `spiffe://alliance.example/city/450200/system/approval`.
/// Source: SPIFFE X509-SVID, narrowed to the forms of this alliance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Party {
    pub alliance: Alliance,
    pub member: Member,
    pub role: Role,
}

impl Party {
    /// The gateway of `member`.
    pub fn gateway(alliance: Alliance, member: Member) -> Party {
        Party { alliance, member, role: Role::Gateway }
    }

    /// The system's name, if the party is one.
    pub fn system(&self) -> Option<&Name> {
        match &self.role {
            Role::System(name) => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = |f: &mut fmt::Formatter<'_>| match &self.member {
            Member::City(d) => write!(f, "spiffe://{}/city/{}", self.alliance.0, d.as_str()),
            Member::Hub(n) => write!(f, "spiffe://{}/hub/{}", self.alliance.0, n.as_str()),
        };
        base(f)?;
        match (&self.member, &self.role) {
            (Member::City(_), Role::Gateway) => f.write_str("/gateway"),
            (Member::Hub(_), Role::Gateway) => Ok(()),
            (_, Role::System(n)) => write!(f, "/system/{}", n.as_str()),
            (_, Role::Ops(n)) => write!(f, "/ops/{}", n.as_str()),
            (_, Role::Auditor(n)) => write!(f, "/auditor/{}", n.as_str()),
        }
    }
}

impl FromStr for Party {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Party, NameError> {
        if text.len() > URI_BYTES_MAX {
            return Err(NameError::Party);
        }
        let path = text.strip_prefix("spiffe://").ok_or(NameError::Party)?;
        let segments: Vec<&str> = path.split('/').collect();
        let (alliance, rest) = segments.split_first().ok_or(NameError::Party)?;
        let (member, role) = match rest {
            ["city", division, role @ ..] => (Member::City(division.parse()?), city_role(role)?),
            ["hub", name, role @ ..] => (Member::Hub(name.parse()?), hub_role(role)?),
            _ => return Err(NameError::Party),
        };
        Ok(Party { alliance: alliance.parse()?, member, role })
    }
}

fn city_role(segments: &[&str]) -> Result<Role, NameError> {
    match segments {
        ["gateway"] => Ok(Role::Gateway),
        ["system", name] => Ok(Role::System(name.parse()?)),
        _ => person(segments),
    }
}

fn hub_role(segments: &[&str]) -> Result<Role, NameError> {
    if segments.is_empty() { Ok(Role::Gateway) } else { person(segments) }
}

fn person(segments: &[&str]) -> Result<Role, NameError> {
    match segments {
        ["ops", name] => Ok(Role::Ops(name.parse()?)),
        ["auditor", name] => Ok(Role::Auditor(name.parse()?)),
        _ => Err(NameError::Party),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_party_reads_back_as_it_was_written() {
        for uri in [
            "spiffe://alliance.example/city/450200/gateway",
            "spiffe://alliance.example/city/450200/system/one-window",
            "spiffe://alliance.example/city/450200123456/ops/li.wei",
            "spiffe://alliance.example/city/450200/auditor/a",
            "spiffe://alliance.example/hub/main",
            "spiffe://alliance.example/hub/main/ops/x",
        ] {
            assert_eq!(uri.parse::<Party>().map(|p| p.to_string()).as_deref(), Ok(uri));
        }
    }

    #[test]
    fn a_name_that_only_looks_right_is_refused() {
        for uri in [
            "",
            "spiffe://",
            "http://alliance.example/city/450200/gateway",
            "SPIFFE://alliance.example/city/450200/gateway",
            "spiffe://Alliance.example/city/450200/gateway",
            "spiffe://alliance.example:443/city/450200/gateway",
            "spiffe://user@alliance.example/city/450200/gateway",
            "spiffe://alliance.example/city/450200/gateway/",
            "spiffe://alliance.example//city/450200/gateway",
            "spiffe://alliance.example/city/450200",
            "spiffe://alliance.example/city/4502/gateway",
            "spiffe://alliance.example/city/45020*/gateway",
            "spiffe://alliance.example/city/４５０２００/gateway",
            "spiffe://alliance.example/city/450200/system/..",
            "spiffe://alliance.example/city/450200/system/a%2fb",
            "spiffe://alliance.example/city/450200/system/a?x",
            "spiffe://alliance.example/city/450200/system/a#x",
            "spiffe://alliance.example/city/450200/root/a",
            "spiffe://alliance.example/hub/main/system/a",
            "spiffe://alliance.example/hub/main/gateway",
        ] {
            assert!(uri.parse::<Party>().is_err(), "{uri}");
        }
    }
}
