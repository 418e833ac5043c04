//! Decides how what a gateway's own people decided about members is written down: who is suspended here, and which changed
//! member keys are believed. Never leaves this gateway: no other member is bound by it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::fingerprint;
use crate::party::{Member, NameError};
use crate::time::Time;
use crate::tlog::note::VerifyingKey;

/// Everything that was decided here about members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Members with which nothing is exchanged until somebody resumes them.
    pub suspended: BTreeMap<Member, Suspension>,
    /// The changed key under which a member is known since.
    pub keys: BTreeMap<Member, Believed>,
}

/// That somebody suspended a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// Milliseconds of Unix time.
    pub since_ms: u64,
    /// URI name of who did.
    pub by: String,
    /// Why.
    pub why: String,
}

/// A changed member key that is believed here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Believed {
    /// The new key's fingerprint.
    pub fingerprint: String,
    /// URI name of who approved it; none where the old key signed the record as well.
    pub by: Option<String>,
}

impl Suspension {
    /// Since when.
    pub fn since(&self) -> Time {
        Time::from_ms(self.since_ms)
    }
}

/// Text that holds no decisions.
#[derive(Debug, thiserror::Error)]
pub enum DecisionsError {
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Member(#[from] NameError),
}

/// As it stands in the file.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(default)]
    suspended: BTreeMap<String, Suspension>,
    #[serde(default)]
    keys: BTreeMap<String, Believed>,
}

impl Decisions {
    /// The members that are suspended.
    pub fn suspended(&self) -> BTreeSet<Member> {
        self.suspended.keys().cloned().collect()
    }

    /// Whether this key is believed to be the member's although the directory at hand knows another.
    pub fn believe(&self, member: &Member, key: &VerifyingKey) -> bool {
        self.keys.get(member).is_some_and(|believed| believed.fingerprint == fingerprint(key))
    }

    /// Writes them as JSON.
    ///
    /// # Errors
    /// None that is known; the text is of strings and numbers alone.
    pub fn to_json(&self) -> Result<String, DecisionsError> {
        fn named<T: Clone>(map: &BTreeMap<Member, T>) -> BTreeMap<String, T> {
            map.iter().map(|(member, value)| (member.to_string(), value.clone())).collect()
        }
        let written = Written { suspended: named(&self.suspended), keys: named(&self.keys) };
        Ok(serde_json::to_string_pretty(&written)? + "\n")
    }

    /// Reads what [`Decisions::to_json`] wrote.
    ///
    /// # Errors
    /// Other JSON, or a name that is no member's.
    pub fn from_json(text: &str) -> Result<Decisions, DecisionsError> {
        fn parsed<T>(map: BTreeMap<String, T>) -> Result<BTreeMap<Member, T>, NameError> {
            map.into_iter().map(|(name, value)| Ok((name.parse()?, value))).collect()
        }
        let Written { suspended, keys } = serde_json::from_str(text)?;
        Ok(Decisions { suspended: parsed(suspended)?, keys: parsed(keys)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_read_back_as_they_were_written_and_nothing_else_does() {
        let since_ms = 1_769_846_400_123;
        let suspension = Suspension { since_ms, by: "spiffe://a.example/…".to_owned(), why: "核查".to_owned() };
        let believed = Believed { fingerprint: "a1b2 c3d4".to_owned(), by: None };
        let decisions = Decisions {
            suspended: [("440600".parse().unwrap(), suspension)].into(),
            keys: [("hub/main".parse().unwrap(), believed)].into(),
        };
        for decisions in [decisions, Decisions::default()] {
            assert_eq!(Decisions::from_json(&decisions.to_json().unwrap()).unwrap(), decisions);
        }
        assert_eq!(Decisions::from_json("{}").unwrap(), Decisions::default());
        for bad in ["", "7", r#"{"suspended":{"nobody":{"since_ms":1,"by":"","why":""}}}"#, r#"{"keys":{"440600":1}}"#]
        {
            assert!(Decisions::from_json(bad).is_err(), "{bad}");
        }
    }
}
