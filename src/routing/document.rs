//! Decides how a table stands in a text that is stored, compared and signed: canonical JSON (RFC 8785), one spelling for
//! one content. Never asks who signed it.

use serde::{Deserialize, Serialize};

use super::pattern::{Day, DayError, DivisionPrefixError, PatternError};
use super::table::{Candidate, CandidateError, Row, RowKey, Table, Target, Validity, mode_from, mode_text};
use crate::directory::canonical::{self, CanonicalError};
use crate::directory::record::{Fault, moment, within};
use crate::evidence::CodeError;
use crate::limits::{CANDIDATES_MAX, ROWS_MAX, VERSION_MAX};
use crate::message::TextError;
use crate::party::{Alliance, NameError};
use crate::time::Time;

/// What stands in `kind`, so that no other text signed by an owner's key reads as a table.
const KIND: &str = "tongban.routing-table.v1";

/// A table as its owner issues it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The alliance this table is for; a table does not travel to another.
    pub alliance: Alliance,
    pub issued_at: Time,
    pub table: Table,
}

/// Why a text is no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    #[error(transparent)]
    Text(#[from] CanonicalError),
    #[error("field {field}: {fault}")]
    Field { field: &'static str, fault: Fault },
    #[error("row {row}: {fault}")]
    Row { row: usize, fault: RowFault },
}

/// What is wrong with one row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowFault {
    #[error("division {0}")]
    Division(#[from] DivisionPrefixError),
    #[error("item {0}")]
    Item(#[from] PatternError),
    #[error("step {0}")]
    Step(#[from] TextError),
    #[error("mode must be online, proxy or joint")]
    Mode,
    #[error("{0}")]
    Day(#[from] DayError),
    #[error("valid_until lies before valid_from")]
    Backwards,
    #[error("via {0}")]
    Way(#[from] CandidateError),
    #[error("via must have 1 to {CANDIDATES_MAX} ways, each once")]
    Ways,
    #[error("refuse {0}")]
    Code(#[from] CodeError),
    #[error("system: {0}")]
    System(#[from] NameError),
    #[error("exactly one of via, refuse and system must stand")]
    Target,
    #[error("not in its one spelling")]
    Spelling,
}

impl Issued {
    /// Reads the canonical text of a table, strictly.
    ///
    /// # Errors
    /// A text that is not canonical, or the first field or row that is faulty.
    pub fn from_json(text: &str) -> Result<Issued, TableError> {
        // What is written again as it stands is canonical, and needs no second look.
        let read = serde_json::from_str(text).ok().and_then(|written| Issued::read(written).ok());
        match read.filter(|issued| issued.to_json().as_deref() == Ok(text)) {
            Some(issued) => Ok(issued),
            None => Issued::read(canonical::read(text, KIND)?),
        }
    }

    fn read(written: Written) -> Result<Issued, TableError> {
        let at = |field| move |fault: Fault| TableError::Field { field, fault };
        if written.routes.len() > ROWS_MAX {
            return Err(at("routes")(Fault::TooMany { max: ROWS_MAX }));
        }
        let row = |(place, route): (usize, WrittenRow)| {
            let read = Row::try_from(&route).and_then(|row| {
                // One content, one spelling: a division with filling zeros would read back otherwise.
                if WrittenRow::from(&row) == route { Ok(row) } else { Err(RowFault::Spelling) }
            });
            read.map_err(|fault| TableError::Row { row: place + 1, fault })
        };
        Ok(Issued {
            alliance: written.alliance.parse().map_err(|name| at("alliance")(Fault::Name(name)))?,
            issued_at: moment(&written.issued_at).map_err(at("issued_at"))?,
            table: Table {
                owner: written.owner.parse().map_err(|name| at("owner")(Fault::Name(name)))?,
                version: within(written.version, 1..=VERSION_MAX).map_err(at("version"))?,
                rows: written.routes.into_iter().enumerate().map(row).collect::<Result<_, _>>()?,
            },
        })
    }

    /// The canonical text, with its newline.
    ///
    /// # Errors
    /// A version beyond what JSON carries.
    pub fn to_json(&self) -> Result<String, TableError> {
        let version = within(self.table.version, 1..=VERSION_MAX);
        let written = Written {
            alliance: self.alliance.as_str().to_owned(),
            issued_at: self.issued_at.to_string(),
            kind: KIND.to_owned(),
            owner: self.table.owner.as_str().to_owned(),
            routes: self.table.rows.iter().map(WrittenRow::from).collect(),
            version: version.map_err(|fault| TableError::Field { field: "version", fault })?,
        };
        Ok(canonical::write_ordered(&written)?)
    }
}

/// A table as its text spells it: the fields in the order of their names, as canonical JSON has them.
#[derive(Serialize, Deserialize)]
struct Written {
    alliance: String,
    issued_at: String,
    kind: String,
    owner: String,
    routes: Vec<WrittenRow>,
    version: u64,
}

/// One row of it, in the same order.
#[derive(Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields)]
struct WrittenRow {
    division: String,
    item: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refuse: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    valid_from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    valid_until: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    via: Option<Vec<String>>,
}

impl TryFrom<&WrittenRow> for Row {
    type Error = RowFault;

    fn try_from(written: &WrittenRow) -> Result<Row, RowFault> {
        let day = |text: &Option<String>| text.as_deref().map(str::parse::<Day>).transpose();
        let mode = |text: &str| mode_from(text).ok_or(RowFault::Mode);
        let key = RowKey {
            division: written.division.parse()?,
            item: written.item.parse()?,
            step: written.step.as_deref().map(str::parse).transpose()?,
            mode: written.mode.as_deref().map(mode).transpose()?,
        };
        let validity = Validity { from: day(&written.valid_from)?, until: day(&written.valid_until)? };
        if validity.until.zip(validity.from).is_some_and(|(until, from)| until < from) {
            return Err(RowFault::Backwards);
        }
        let target = match (&written.via, &written.refuse, &written.system) {
            (Some(ways), None, None) => Target::Via(read_ways(ways)?),
            (None, Some(code), None) => Target::Refuse(code.parse()?),
            (None, None, Some(name)) => Target::System(name.parse()?),
            _ => return Err(RowFault::Target),
        };
        Ok(Row { key, validity, target })
    }
}

fn read_ways(written: &[String]) -> Result<Vec<Candidate>, RowFault> {
    let ways = written.iter().map(|way| way.parse()).collect::<Result<Vec<Candidate>, _>>()?;
    let distinct = ways.iter().enumerate().all(|(place, way)| !ways[..place].contains(way));
    if distinct && (1..=CANDIDATES_MAX).contains(&ways.len()) { Ok(ways) } else { Err(RowFault::Ways) }
}

impl From<&Row> for WrittenRow {
    fn from(row: &Row) -> WrittenRow {
        let mut written = WrittenRow {
            division: row.key.division.to_string(),
            item: row.key.item.to_string(),
            step: row.key.step.as_ref().map(|step| step.as_str().to_owned()),
            mode: row.key.mode.map(|mode| mode_text(mode).to_owned()),
            valid_from: row.validity.from.map(|day| day.to_string()),
            valid_until: row.validity.until.map(|day| day.to_string()),
            ..WrittenRow::default()
        };
        match &row.target {
            Target::Via(ways) => written.via = Some(ways.iter().map(Candidate::to_string).collect()),
            Target::Refuse(code) => written.refuse = Some(code.as_str().to_owned()),
            Target::System(name) => written.system = Some(name.as_str().to_owned()),
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued() -> Issued {
        let table = "owner = \"440600\"\n[[route]]\ndivision = \"440600\"\nitem = \"1144*\"\nmode = \"joint\"\n\
                     valid_from = 2026-01-01\nvia = [\"direct\", \"hub/main\"]\n";
        Issued {
            alliance: "alliance.example".parse().unwrap(),
            issued_at: Time::from_ms(1_769_846_400_123),
            table: Table::from_toml(table).unwrap(),
        }
    }

    #[test]
    fn a_table_has_one_text() {
        let text = issued().to_json().unwrap();
        assert_eq!(
            text,
            "{\"alliance\":\"alliance.example\",\"issued_at\":\"2026-01-31T08:00:00.123Z\",\
             \"kind\":\"tongban.routing-table.v1\",\"owner\":\"440600\",\"routes\":[{\"division\":\"4406\",\
             \"item\":\"1144*\",\"mode\":\"joint\",\"valid_from\":\"2026-01-01\",\"via\":[\"direct\",\"hub/main\"]}],\
             \"version\":1}\n"
        );
        assert_eq!(Issued::from_json(&text), Ok(issued()));
    }

    #[test]
    fn every_kind_of_row_is_read_back_as_it_was_written() {
        let head = "owner = \"440600\"\nversion = 3\n";
        let rows = [
            "division = \"440605\"\nitem = \"9\"\nstep = \"apply\"\nvalid_until = 2026-12-31\nrefuse = \"GONE\"",
            "division = \"*\"\nitem = \"*\"\nvalid_from = 2026-01-01\nvalid_until = 2026-01-01\nsystem = \"permit\"",
            "division = \"44\"\nitem = \"1*\"\nmode = \"proxy\"\nvia = [\"pull\"]",
        ];
        let toml: String = rows.iter().map(|row| format!("\n[[route]]\n{row}\n")).collect();
        let issued = Issued { table: Table::from_toml(&format!("{head}{toml}")).unwrap(), ..issued() };
        let text = issued.to_json().unwrap();
        assert_eq!(Issued::from_json(&text), Ok(issued.clone()));
        assert_eq!(issued.table.to_toml().replace("\"4406\"", "\"440600\""), format!("{head}{toml}"));
        let backwards = text.replacen("\"valid_from\":\"2026-01-01\"", "\"valid_from\":\"2026-01-02\"", 1);
        let fault = Issued::from_json(&backwards).unwrap_err();
        assert_eq!(fault, TableError::Row { row: 2, fault: RowFault::Backwards });
        let targets: Vec<String> = issued.table.rows.iter().map(|row| row.target.to_string()).collect();
        assert_eq!(targets, ["refuse GONE", "system permit", "pull"]);
    }

    #[test]
    fn what_is_spelt_another_way_is_refused() {
        let text = issued().to_json().unwrap();
        for (from, to) in [
            ("\"4406\"", "\"440600\""),
            ("\"joint\"", "\"Joint\""),
            ("\"2026-01-01\"", "\"2026-1-1\""),
            ("\"version\":1", "\"version\":0"),
            ("\"version\":1", "\"version\":1.0"),
            ("\"direct\",", "\"hub/main\","),
            ("routing-table", "member-record"),
            (",\"via\"", ",\"extra\":1,\"via\""),
        ] {
            let bad = text.replacen(from, to, 1);
            assert_ne!(bad, text);
            assert!(Issued::from_json(&bad).is_err(), "{bad}");
        }
    }
}
