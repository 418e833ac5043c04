//! Decides what a new set of tables would change: which rows, and what follows from them for a message that a changed row
//! is about. Never publishes anything.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::index::Index;
use super::pattern::{Day, ItemPattern};
use super::table::{Row, RowKey, Table};
use super::{Entered, Query, Refusal, Resolved};
use crate::limits::DAY_MS;
use crate::message::{Address, ItemCode};
use crate::party::Division;
use crate::time::Time;

/// All tables of one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Counts up with every publication; 0 before the first.
    pub version: u64,
    pub tables: BTreeMap<Division, Arc<Table>>,
}

/// What changes from one set to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// By owner, then what is removed or changed in the order of the old table, then what is added.
    pub changes: Vec<Change>,
}

/// A row that was added, removed or changed, with its number in its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub owner: Division,
    pub before: Option<(u32, Row)>,
    pub after: Option<(u32, Row)>,
}

/// What becomes of a message that a changed row is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    pub before: Result<Resolved, Refusal>,
    pub after: Result<Resolved, Refusal>,
}

/// The difference between two sets. Rows that only stand elsewhere in their table are no change.
pub fn plan(old: &Set, new: &Set) -> Plan {
    let owners: BTreeSet<&Division> = old.tables.keys().chain(new.tables.keys()).collect();
    let mut changes = Vec::new();
    for owner in owners {
        let rows = |set: &Set| set.tables.get(owner).cloned();
        let (before, after) = (rows(old), rows(new));
        let same = before.as_ref().zip(after.as_ref()).is_some_and(|(before, after)| before.rows == after.rows);
        if !same {
            let rows = |table: Option<Arc<Table>>| table.map_or(vec![], |table| numbered(&table));
            diff(owner, rows(before), rows(after), &mut changes);
        }
    }
    Plan { changes }
}

fn numbered(table: &Table) -> Vec<(u32, Row)> {
    table.rows.iter().enumerate().map(|(at, row)| (at as u32 + 1, row.clone())).collect()
}

/// Pairs rows of one key and validity, then what is left of one key alone.
fn diff(owner: &Division, before: Vec<(u32, Row)>, after: Vec<(u32, Row)>, changes: &mut Vec<Change>) {
    let mut left: HashMap<RowKey, Vec<(u32, Row)>> = HashMap::new();
    after.into_iter().for_each(|(number, row)| left.entry(row.key.clone()).or_default().push((number, row)));
    let mut unpaired = Vec::new();
    for (number, row) in before {
        let candidates = left.get_mut(&row.key);
        let twin = candidates.and_then(|rows| {
            let place = rows.iter().position(|(_, other)| other.validity == row.validity)?;
            Some(rows.swap_remove(place))
        });
        match twin {
            Some((_, other)) if other == row => {}
            twin => unpaired.push(((number, row), twin)),
        }
    }
    for ((number, row), twin) in unpaired {
        let after = twin.or_else(|| left.get_mut(&row.key).and_then(Vec::pop));
        changes.push(Change { owner: owner.clone(), before: Some((number, row)), after });
    }
    let mut added: Vec<(u32, Row)> = left.into_values().flatten().collect();
    added.sort_by_key(|(number, _)| *number);
    changes.extend(added.into_iter().map(|row| Change { owner: owner.clone(), before: None, after: Some(row) }));
}

impl Change {
    /// The row as it will stand, or the one that goes.
    pub fn row(&self) -> Option<&Row> {
        self.after.as_ref().or(self.before.as_ref()).map(|(_, row)| row)
    }

    /// What becomes of a message to the owner that the row is about, under both indexes: now, or on the first day of a row
    /// that begins later. `None` where nothing becomes of it differently.
    pub fn effect(&self, old: &Index, new: &Index, now: Time) -> Option<Effect> {
        let row = self.row()?;
        let from = row.validity.from.filter(|from| *from > Day::of(now));
        let at = from.map_or(now, |from| Time::from_ms(u64::from(from.number()) * DAY_MS));
        let to = Address { city: self.owner.clone(), system: None };
        let item: ItemCode = match &row.key.item {
            ItemPattern::Exact(item) => item.clone(),
            ItemPattern::Prefix(prefix) => prefix.parse().ok()?,
            ItemPattern::Any => "-".parse().ok()?,
        };
        let division = row.key.division.division();
        let query = Query {
            to: Some(&to),
            jurisdiction: division.as_ref(),
            item: &item,
            step: row.key.step.as_ref(),
            mode: row.key.mode,
            now: at,
            entered: Entered::Here,
        };
        let (before, after) = (old.resolve(&query), new.resolve(&query));
        let same = outcome(&before) == outcome(&after);
        (!same).then_some(Effect { before, after })
    }
}

/// What a message's sender would notice: not which row or version said so.
fn outcome(decided: &Result<Resolved, Refusal>) -> impl PartialEq + use<'_> {
    match decided {
        Ok(resolved) => (Some((&resolved.recipient, &resolved.lanes)), None),
        Err(refusal) => (None, Some((refusal.reason, &refusal.token))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(rows: &str) -> Set {
        let table = Table::from_toml(&format!("owner = \"440600\"\n{rows}")).unwrap();
        Set { version: 1, tables: [(table.owner.clone(), Arc::new(table))].into() }
    }

    fn row(item: &str, rest: &str) -> String {
        format!("[[route]]\ndivision = \"4406\"\nitem = \"{item}\"\n{rest}\n")
    }

    #[test]
    fn rows_are_compared_by_what_they_are_about() {
        let (a, b, c) = (row("1", "via = [\"direct\"]"), row("2", "via = [\"pull\"]"), row("3", "refuse = \"X\""));
        let numbers = |old: &str, new: &str| -> Vec<(Option<u32>, Option<u32>)> {
            let changes = plan(&set(old), &set(new)).changes;
            changes.iter().map(|c| (c.before.as_ref().map(|b| b.0), c.after.as_ref().map(|a| a.0))).collect()
        };
        assert_eq!(numbers(&format!("{a}{b}"), &format!("{b}{a}")), [], "a row that only moved");
        assert_eq!(numbers(&format!("{a}{b}"), &format!("{c}{b}")), [(Some(1), None), (None, Some(1))]);
        let changed = b.replace("pull", "direct");
        assert_eq!(numbers(&format!("{a}{b}"), &format!("{a}{changed}")), [(Some(2), Some(2))]);
        let dated = format!("{a}valid_from = 2027-01-01\n");
        assert_eq!(numbers(&a, &dated), [(Some(1), Some(1))], "other days are a change");
        let removed = plan(&set(&a), &Set::default()).changes;
        assert!(matches!(&removed[..], [Change { before: Some((1, _)), after: None, .. }]));
    }
}
