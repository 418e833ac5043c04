//! Decides what a routing table says: rows of patterns with a target each, of one owner. Never says which row a message
//! takes; that is the index's affair, over all tables at once.

use std::fmt;
use std::str::FromStr;

use super::pattern::{Day, DivisionPrefix, ItemPattern};
use crate::evidence::Code;
use crate::limits::NAME_BYTES_MAX;
use crate::message::{Mode, Step};
use crate::party::{Division, Name};

/// What one partner takes, or how the own city's items are shared among its systems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The city whose table it is.
    pub owner: Division,
    /// Counts up with every change by its owner; 1 … 2⁵³ − 1.
    pub version: u64,
    pub rows: Vec<Row>,
}

/// One line of a table: what it is about, when it holds, and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: RowKey,
    pub validity: Validity,
    pub target: Target,
}

/// What a row is about. Two rows with one key may not both hold on the same day.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    pub division: DivisionPrefix,
    pub item: ItemPattern,
    /// `None` for every step, one left open included.
    pub step: Option<Step>,
    /// `None` for every mode, one left open included.
    pub mode: Option<Mode>,
}

/// The days on which a row exists, both ends included, in China standard time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Validity {
    pub from: Option<Day>,
    pub until: Option<Day>,
}

impl Validity {
    /// From ever to ever.
    pub const ALWAYS: Validity = Validity { from: None, until: None };
}

/// What follows when a row is taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The owner takes it, by the first of these ways that is open.
    Via(Vec<Candidate>),
    /// The owner does not take it, and says why.
    Refuse(Code),
    /// One of the own city's systems takes it.
    System(Name),
}

/// A way to the owner of a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Candidate {
    /// Its gateway is dialled.
    Direct,
    /// A hub carries it on.
    Hub(Name),
    /// Its gateway fetches.
    Pull,
}

/// Text that is no way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be direct, pull or hub/<name>, the name with at most {NAME_BYTES_MAX} letters, digits, '.', '_' and '-'")]
pub struct CandidateError;

impl FromStr for Candidate {
    type Err = CandidateError;

    fn from_str(text: &str) -> Result<Candidate, CandidateError> {
        match text {
            "direct" => Ok(Candidate::Direct),
            "pull" => Ok(Candidate::Pull),
            _ => {
                let name = text.strip_prefix("hub/").and_then(|name| name.parse().ok());
                name.map(Candidate::Hub).ok_or(CandidateError)
            }
        }
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Candidate::Direct => f.write_str("direct"),
            Candidate::Pull => f.write_str("pull"),
            Candidate::Hub(name) => write!(f, "hub/{}", name.as_str()),
        }
    }
}

/// How a mode is written in a table.
pub fn mode_text(mode: Mode) -> &'static str {
    match mode {
        Mode::Online => "online",
        Mode::Proxy => "proxy",
        Mode::Joint => "joint",
    }
}

/// The mode that is written so.
pub fn mode_from(text: &str) -> Option<Mode> {
    [Mode::Online, Mode::Proxy, Mode::Joint].into_iter().find(|mode| mode_text(*mode) == text)
}

/// What a row is about, in one line: `4406 1144* step=apply mode=online`.
impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.division, self.item)?;
        self.step.as_ref().map_or(Ok(()), |step| write!(f, " step={}", step.as_str()))?;
        self.mode.map_or(Ok(()), |mode| write!(f, " mode={}", mode_text(mode)))
    }
}

/// `2026-01-01..2026-12-31`, either end left out when it is open; nothing for always.
impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Validity::ALWAYS {
            return Ok(());
        }
        self.from.map_or(Ok(()), |from| from.fmt(f))?;
        f.write_str("..")?;
        self.until.map_or(Ok(()), |until| until.fmt(f))
    }
}

/// `direct, hub/alliance`, `refuse ITEM_SUSPENDED` or `system window`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Via(ways) => {
                let ways: Vec<String> = ways.iter().map(Candidate::to_string).collect();
                f.write_str(&ways.join(", "))
            }
            Target::Refuse(code) => write!(f, "refuse {}", code.as_str()),
            Target::System(name) => write!(f, "system {}", name.as_str()),
        }
    }
}
