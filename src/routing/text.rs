//! Decides how a table stands in a file that people keep: TOML, one file for each owner, every fault of it told at once
//! with line and column. Never opens the file, and never judges what other tables say.

use std::fmt;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::pattern::{Day, DivisionPrefix, ItemPattern};
use super::table::{Candidate, Row, RowKey, Table, Target, Validity, mode_from, mode_text};
use crate::evidence::Code;
use crate::limits::{CANDIDATES_MAX, ROWS_MAX, TABLE_FAULTS_MAX, VERSION_MAX};
use crate::party::Division;

/// One fault of a table's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub line: usize,
    /// Counted in characters, from 1.
    pub column: usize,
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.what)
    }
}

const TABLE_KEYS: [&str; 3] = ["owner", "version", "route"];
const ROW_KEYS: [&str; 9] =
    ["division", "item", "step", "mode", "valid_from", "valid_until", "via", "refuse", "system"];

impl Table {
    /// Reads a table's file. Without a `version` it is 1: whoever publishes counts on.
    ///
    /// # Errors
    /// Every fault, in the order of the text; at most a hundred.
    pub fn from_toml(text: &str) -> Result<Table, Vec<Fault>> {
        let mut reading = Reading { faults: vec![] };
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            reading.fault(error.span().map_or(0, |span| span.start), error.message());
        }
        let table = reading.table(&document);
        match (table, reading.faults.is_empty()) {
            (Some(table), true) => Ok(table),
            _ => Err(placed(text, reading.faults)),
        }
    }

    /// The table as a file, in the order of its rows.
    pub fn to_toml(&self) -> String {
        let mut text = format!("owner = \"{}\"\nversion = {}\n", self.owner.as_str(), self.version);
        for row in &self.rows {
            text.push_str("\n[[route]]\n");
            let mut line = |key: &str, value: String| text.push_str(&format!("{key} = {value}\n"));
            let quoted = |word: &dyn fmt::Display| format!("\"{word}\"");
            line("division", quoted(&row.key.division));
            line("item", quoted(&row.key.item));
            row.key.step.iter().for_each(|step| line("step", quoted(&step.as_str())));
            row.key.mode.iter().for_each(|mode| line("mode", quoted(&mode_text(*mode))));
            row.validity.from.iter().for_each(|day| line("valid_from", day.to_string()));
            row.validity.until.iter().for_each(|day| line("valid_until", day.to_string()));
            match &row.target {
                Target::Via(ways) => {
                    let ways: Vec<String> = ways.iter().map(|way| quoted(way)).collect();
                    line("via", format!("[{}]", ways.join(", ")));
                }
                Target::Refuse(code) => line("refuse", quoted(&code.as_str())),
                Target::System(name) => line("system", quoted(&name.as_str())),
            }
        }
        text
    }
}

/// Turns places in the text into lines and columns, in the text's order.
fn placed(text: &str, mut faults: Vec<(usize, String)>) -> Vec<Fault> {
    faults.sort_by_key(|(at, _)| *at);
    let (mut line, mut edge) = (1, 0);
    let place = |(at, what): (usize, String)| {
        let at = text.floor_char_boundary(at);
        line += text[edge..at].matches('\n').count();
        edge = at;
        let column = text[..at].chars().rev().take_while(|c| *c != '\n').count() + 1;
        Fault { line, column, what }
    };
    faults.into_iter().map(place).collect()
}

/// Reads values into words and notes where that fails: the place in bytes, and what.
struct Reading {
    faults: Vec<(usize, String)>,
}

impl Reading {
    fn fault(&mut self, at: usize, what: impl fmt::Display) {
        if self.faults.len() < TABLE_FAULTS_MAX {
            self.faults.push((at, what.to_string()));
        }
    }

    fn table(&mut self, document: &Spanned<DeTable<'_>>) -> Option<Table> {
        let top = document.get_ref();
        self.known(top, &TABLE_KEYS);
        let owner = self.wanted::<Division>(top, "owner", 0);
        let version = match top.get("version") {
            None => Some(1),
            Some(version) => self.version(version),
        };
        let rows = match top.get("route") {
            None => Some(vec![]),
            Some(rows) => self.rows(rows),
        };
        Some(Table { owner: owner?, version: version?, rows: rows? })
    }

    fn version(&mut self, value: &Spanned<DeValue<'_>>) -> Option<u64> {
        let number = value.get_ref().as_integer().filter(|number| number.radix() == 10);
        let version = number.and_then(|number| number.as_str().parse().ok());
        let version = version.filter(|version| (1..=VERSION_MAX).contains(version));
        if version.is_none() {
            self.fault(value.span().start, format!("version: must be a whole number from 1 to {VERSION_MAX}"));
        }
        version
    }

    fn rows(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Vec<Row>> {
        let at = value.span().start;
        let Some(rows) = value.get_ref().as_array() else {
            self.fault(at, "route: rows are written as [[route]]");
            return None;
        };
        if rows.len() > ROWS_MAX {
            self.fault(at, format!("route: more than {ROWS_MAX} rows"));
            return None;
        }
        let rows = rows.iter().filter_map(|row| match row.get_ref().as_table() {
            Some(table) => self.row(table, row.span().start),
            None => {
                self.fault(row.span().start, "route: rows are written as [[route]]");
                None
            }
        });
        Some(rows.collect())
    }

    fn row(&mut self, row: &DeTable<'_>, at: usize) -> Option<Row> {
        self.known(row, &ROW_KEYS);
        let division = self.wanted::<DivisionPrefix>(row, "division", at);
        let item = self.wanted::<ItemPattern>(row, "item", at);
        let step = self.optional(row, "step");
        let mode = self.mode(row);
        let validity = self.validity(row);
        let target = self.target(row, at);
        Some(Row {
            key: RowKey { division: division?, item: item?, step: step?, mode: mode? },
            validity: validity?,
            target: target?,
        })
    }

    fn known(&mut self, table: &DeTable<'_>, keys: &[&str]) {
        for (key, _) in table.iter().filter(|(key, _)| !keys.contains(&key.get_ref().as_ref())) {
            let what = format!("unknown key {:?}, expected one of {}", key.get_ref(), keys.join(", "));
            self.fault(key.span().start, what);
        }
    }

    /// A text of some form that must be there.
    fn wanted<T: FromStr<Err: fmt::Display>>(&mut self, table: &DeTable<'_>, key: &str, at: usize) -> Option<T> {
        match table.get(key) {
            Some(value) => self.word(key, value),
            None => {
                self.fault(at, format!("{key} is missing"));
                None
            }
        }
    }

    /// A text of some form that may be there; the outer `None` stands for a fault.
    fn optional<T: FromStr<Err: fmt::Display>>(&mut self, table: &DeTable<'_>, key: &str) -> Option<Option<T>> {
        match table.get(key) {
            Some(value) => self.word(key, value).map(Some),
            None => Some(None),
        }
    }

    fn word<T: FromStr<Err: fmt::Display>>(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<T> {
        let at = value.span().start;
        let Some(text) = value.get_ref().as_str() else {
            self.fault(at, format!("{key}: must be a text in quotes"));
            return None;
        };
        text.parse().map_err(|error| self.fault(at, format!("{key}: {text:?}: {error}"))).ok()
    }

    fn mode(&mut self, row: &DeTable<'_>) -> Option<Option<crate::message::Mode>> {
        let Some(value) = row.get("mode") else { return Some(None) };
        let mode = value.get_ref().as_str().and_then(mode_from);
        if mode.is_none() {
            self.fault(value.span().start, "mode: must be \"online\", \"proxy\" or \"joint\"");
        }
        mode.map(Some)
    }

    fn validity(&mut self, row: &DeTable<'_>) -> Option<Validity> {
        let from = self.day(row, "valid_from");
        let until = self.day(row, "valid_until");
        let validity = Validity { from: from?, until: until? };
        if validity.until.zip(validity.from).is_some_and(|(until, from)| until < from) {
            let at = row.get("valid_until").map_or(0, |value| value.span().start);
            self.fault(at, "valid_until: lies before valid_from");
            return None;
        }
        Some(validity)
    }

    fn day(&mut self, row: &DeTable<'_>, key: &str) -> Option<Option<Day>> {
        let Some(value) = row.get(key) else { return Some(None) };
        let moment = value.get_ref().as_datetime();
        let date = moment.filter(|moment| moment.time.is_none() && moment.offset.is_none()).and_then(|m| m.date);
        let day = date.and_then(|date| Day::new(date.year as i16, date.month as i8, date.day as i8).ok());
        if day.is_none() {
            self.fault(value.span().start, format!("{key}: {}, without quotes", super::pattern::DayError));
        }
        day.map(Some)
    }

    fn target(&mut self, row: &DeTable<'_>, at: usize) -> Option<Target> {
        let given: Vec<&str> = ["via", "refuse", "system"].into_iter().filter(|key| row.contains_key(*key)).collect();
        match given[..] {
            ["via"] => self.ways(row.get("via")?).map(Target::Via),
            ["refuse"] => self.wanted::<Code>(row, "refuse", at).map(Target::Refuse),
            ["system"] => self.wanted(row, "system", at).map(Target::System),
            [] => {
                self.fault(at, "one of via, refuse and system is missing");
                None
            }
            [_, second, ..] => {
                let at = row.get_key_value(second).map_or(at, |(key, _)| key.span().start);
                self.fault(at, format!("{}: only one of them may stand", given.join(", ")));
                None
            }
            [_] => None,
        }
    }

    fn ways(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Vec<Candidate>> {
        let at = value.span().start;
        let Some(array) = value.get_ref().as_array().filter(|ways| (1..=CANDIDATES_MAX).contains(&ways.len())) else {
            self.fault(at, format!("via: must be a list of 1 to {CANDIDATES_MAX} ways"));
            return None;
        };
        let mut ways: Vec<Candidate> = Vec::with_capacity(array.len());
        for value in array.iter() {
            let way = self.word("via", value)?;
            if ways.contains(&way) {
                self.fault(value.span().start, format!("via: {way} stands twice"));
                return None;
            }
            ways.push(way);
        }
        Some(ways)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"owner = "440600"

[[route]]
division = "440600"
item = "1144*"
step = "apply"
mode = "online"
valid_from = 2026-01-01
valid_until = 2026-12-31
via = ["direct", "hub/alliance", "pull"]

[[route]]
division = "440605"
item = "1144-7"
refuse = "ITEM_SUSPENDED"

[[route]]
division = "4406"
item = "*"
system = "window"
"#;

    #[test]
    fn a_table_reads_back_as_it_was_written() {
        let table = Table::from_toml(GOOD).unwrap();
        assert_eq!(table.rows.len(), 3);
        assert_eq!(table.rows[0].key.to_string(), "4406 1144* step=apply mode=online");
        assert_eq!(table.rows[0].validity.to_string(), "2026-01-01..2026-12-31");
        assert_eq!(Table::from_toml(&table.to_toml()), Ok(table));
    }

    #[test]
    fn all_faults_are_told_at_once_with_their_places() {
        let bad = GOOD
            .replace("\"440605\"", "\"4406x\"")
            .replace("step =", "stepp =")
            .replace("\"online\"", "\"by post\"")
            .replace("2026-12-31", "2025-12-31")
            .replace("ITEM_SUSPENDED", "suspended")
            .replace("system =", "via = [\"direct\"]\nsystem =");
        let faults = Table::from_toml(&bad).unwrap_err();
        let places: Vec<(usize, usize)> = faults.iter().map(|fault| (fault.line, fault.column)).collect();
        assert_eq!(places, [(6, 1), (7, 8), (9, 15), (13, 12), (15, 10), (21, 1)], "{faults:#?}");
    }

    #[test]
    fn each_fault_is_named() {
        let row = |lines: &str| format!("owner = \"440600\"\n[[route]]\n{lines}\n");
        let keyed = |lines: &str| row(&format!("division = \"4406\"\nitem = \"*\"\n{lines}"));
        for (text, what) in [
            ("".to_owned(), "owner is missing"),
            ("owner = \"44\"".to_owned(), "owner: \"44\""),
            ("owner = 440600".to_owned(), "must be a text"),
            ("owner = \"440600\"\nversion = 0".to_owned(), "version"),
            ("owner = \"440600\"\nroute = 1".to_owned(), "[[route]]"),
            ("owner = \"440600\"\nroute = [1]".to_owned(), "[[route]]"),
            ("owner = \"440600\"\nowner = \"440600\"".to_owned(), "duplicate"),
            ("owner = ".to_owned(), "quot"),
            (row("item = \"*\"\nvia = [\"pull\"]"), "division is missing"),
            (row("division = \"4406\"\nvia = [\"pull\"]"), "item is missing"),
            (keyed(""), "one of via, refuse and system"),
            (keyed("via = []"), "list of 1"),
            (keyed("via = [\"direct\", \"direct\"]"), "twice"),
            (keyed("via = [\"hub/\"]"), "must be direct"),
            (keyed("refuse = \"A\"\nsystem = \"b\""), "only one"),
            (keyed("via = [\"pull\"]\nvalid_from = \"2026-01-01\""), "without quotes"),
            (keyed("via = [\"pull\"]\nvalid_from = 2026-01-01T00:00:00"), "without quotes"),
            (keyed("via = [\"pull\"]\nvalid_from = 1969-12-31"), "1970"),
            (keyed("via = [\"pull\"]\nstep = \"Apply\""), "step"),
        ] {
            let faults = Table::from_toml(&text).unwrap_err();
            assert!(faults.iter().any(|fault| fault.what.contains(what)), "{text}: {faults:?}");
        }
    }
}
