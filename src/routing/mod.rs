//! Decides where a message goes: to one of the city's own systems, or to a member's gateway. Pure: the tables come in,
//! a destination or a reason goes out. Never looks a member up elsewhere and never sends anything.
//!
//! Each partner has a table of its own that says what it takes and by which ways; the own city's table shares items among
//! the city's systems. A partner without a table takes what is addressed to it, by its member record. All tables together
//! compile into one [`Index`], replaced whole.
//!
//! Precedence, over all rows that cover a message on the day: the longest division (village before town, district, city,
//! province, `*`), then the item (exact, then the longest prefix, then any), then a row that names the step before one
//! that does not, then a row that names the mode. What is alike in all four is a clash and refused before it is published.

mod compile;
mod document;
mod hash;
mod index;
mod notes;
mod pattern;
mod plan;
mod table;
mod text;
mod ways;

pub use compile::{Objection, Tables};
pub use document::{Issued, RowFault, TableError};
pub use index::Index;
pub use notes::Note;
pub use pattern::{Day, DayError, DivisionPrefix, DivisionPrefixError, ItemPattern, PatternError};
pub use plan::{Change, Effect, Plan, Set, plan};
pub use table::{Candidate, CandidateError, Row, RowKey, Table, Target, Validity, mode_from, mode_text};
pub use text::Fault;
pub use ways::{Way, Ways};

use std::fmt;
use std::sync::Arc;

use crate::evidence::Code;
use crate::message::{Address, ItemCode, Mode, Step};
use crate::party::{Division, Member, Name};
use crate::reason::Reason;
use crate::time::Time;

/// One of the city's own systems and the items it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnSystem {
    pub name: Name,
    pub items: Vec<ItemPattern>,
}

/// What routing asks of a message.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The recipient, if the sender or the origin has named one.
    pub to: Option<&'a Address>,
    pub jurisdiction: Option<&'a Division>,
    pub item: &'a ItemCode,
    pub step: Option<&'a Step>,
    pub mode: Option<Mode>,
    pub now: Time,
    pub entered: Entered<'a>,
}

/// Where the message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered<'a> {
    /// From one of our own systems.
    Here,
    /// From another member's gateway: at a city it must end here, at a hub it must not go back.
    Relayed { via: &'a Member },
}

/// Where a message goes next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// Into the mailbox of one of our own systems.
    System(Name),
    /// To the gateway of a member.
    Gateway(Member),
}

/// `system window`, `450200` or `hub/main`.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::System(name) => write!(f, "system {}", name.as_str()),
            Destination::Gateway(member) => member.fmt(f),
        }
    }
}

/// A resolved message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The city, and at our own city the system.
    pub recipient: Address,
    /// Where it may go, best first; never empty.
    pub lanes: Arc<[Destination]>,
    /// What said so.
    pub row: RowRef,
    /// Version of the set of tables that said so.
    pub version: u64,
}

/// What decided over a message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowRef {
    /// A row of a table, counted from 1 in the order of the table.
    Row { owner: Division, number: u32 },
    /// The member record of a partner that has no table.
    Record(Member),
    /// One of the own systems by its list of items in the configuration.
    Configured(Name),
    /// One of the own systems, by the sender's own word.
    Named(Name),
}

impl fmt::Display for RowRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowRef::Row { owner, number } => write!(f, "row {number} of {}", owner.as_str()),
            RowRef::Record(member) => write!(f, "record of {member}"),
            RowRef::Configured(name) => write!(f, "configuration of system {}", name.as_str()),
            RowRef::Named(name) => write!(f, "system {} as named by the sender", name.as_str()),
        }
    }
}

/// Why a message goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    /// The table owner's own code, where a row refuses.
    pub token: Option<Code>,
    /// The row that refuses, or whose ways are all closed.
    pub row: Option<RowRef>,
}

impl Refusal {
    fn plain(reason: Reason) -> Refusal {
        Refusal { reason, token: None, row: None }
    }
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Reason {
        refusal.reason
    }
}
