//! Decides which tables may stand side by side, and turns them into the index: every row of one key in one place, ordered
//! by its days. Never resolves a message.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use super::hash::{Key, Places, Spread};
use super::index::{Compiled, Entry, FOR_EVER, Held, Index, Node, Outcome, Owner, Says, Slot};
use super::pattern::{DivisionPrefix, ItemPattern};
use super::table::{Candidate, Row, RowKey, Table, Target, Validity};
use super::ways::Ways;
use super::{Destination, OwnSystem, RowRef};
use crate::limits::{OBJECTIONS_MAX, ROWS_MAX};
use crate::message::Step;
use crate::party::{Division, Member, Name};

/// Everything that routing looks at, before it is compiled.
#[derive(Clone, Debug)]
pub struct Tables {
    /// Whose gateway it is; a hub goes by the ways alone.
    pub own: Member,
    /// The own systems with the items that the configuration gives them, for what no row of the own table says.
    pub systems: Vec<OwnSystem>,
    /// What the member records allow.
    pub ways: Ways,
    /// Divisions that any table may claim beside those under its owner's code.
    pub allow: Vec<DivisionPrefix>,
    /// Version of the whole set; 0 for member records and own systems alone.
    pub version: u64,
    pub tables: Vec<Arc<Table>>,
}

/// Why tables may not be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objection {
    /// Two rows say something of the same division, item, step and mode on the same day.
    Clash { first: RowRef, second: RowRef, key: RowKey },
    /// A row claims what does not lie under its owner's code.
    Outside { row: RowRef, division: DivisionPrefix },
    /// Only the own city's table names systems.
    SystemElsewhere { row: RowRef },
    /// The own city's table needs no way to itself.
    WayAtHome { row: RowRef },
    /// The own city has no such system.
    NoSuchSystem { row: RowRef, system: Name },
    /// One owner, two tables.
    TwoTables { owner: Division },
    /// More rows than an index holds.
    TooMany { rows: usize },
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Objection::Clash { first, second, key } => write!(f, "{first} and {second} both claim {key}"),
            Objection::Outside { row, division } => {
                write!(f, "{row} claims {division}, which does not lie under its owner's code")
            }
            Objection::SystemElsewhere { row } => write!(f, "{row} names a system; only the own city's table may"),
            Objection::WayAtHome { row } => write!(f, "{row} names ways; the own city's table names systems"),
            Objection::NoSuchSystem { row, system } => {
                write!(f, "{row} names the system {}, which is not configured", system.as_str())
            }
            Objection::TwoTables { owner } => write!(f, "{} has two tables", owner.as_str()),
            Objection::TooMany { rows } => write!(f, "{rows} rows, over {ROWS_MAX}"),
        }
    }
}

impl Index {
    /// Compiles the tables, or says what stands against them: at most a hundred objections. The one of two clashing rows
    /// that holds from an earlier day is named first.
    ///
    /// # Errors
    /// See [`Objection`].
    pub fn compile(tables: &Tables) -> Result<Index, Vec<Objection>> {
        let rows = tables.tables.iter().map(|table| table.rows.len()).sum();
        if rows > ROWS_MAX {
            return Err(vec![Objection::TooMany { rows }]);
        }
        let mut build = Build::new(tables, rows);
        for table in &tables.tables {
            build.table(tables, table);
        }
        build.order(tables);
        if !build.objections.is_empty() {
            build.objections.truncate(OBJECTIONS_MAX);
            return Err(build.objections);
        }
        build.records(tables);
        Ok(build.index)
    }
}

struct Build<'a> {
    index: Index,
    /// Entries by their order, until they are spread.
    entry_places: Places,
    /// The slot of each compiled row.
    slot_of: Vec<u32>,
    /// What rows of the table at hand have said.
    outcomes: HashMap<&'a Target, u32>,
    objections: Vec<Objection>,
}

impl<'a> Build<'a> {
    fn new(tables: &Tables, rows: usize) -> Build<'a> {
        let index = Index {
            ground: Tables {
                own: tables.own.clone(),
                systems: tables.systems.clone(),
                ways: tables.ways.clone(),
                allow: tables.allow.clone(),
                version: tables.version,
                tables: vec![],
            },
            key: Key::fresh(),
            owners: Vec::with_capacity(tables.tables.len()),
            owner_places: Places::for_keys(tables.tables.len()),
            records: BTreeMap::new(),
            lengths: 0,
            nodes: Vec::new(),
            node_places: Places::for_keys(rows),
            entries: Vec::with_capacity(rows),
            entry_spread: Spread::of(&[]).0,
            steps: Vec::new(),
            step_places: Places::for_keys(rows),
            slots: Vec::with_capacity(rows),
            slot_places: Places::for_keys(rows),
            rows: Vec::with_capacity(rows),
            outcomes: Vec::new(),
        };
        let entry_places = Places::for_keys(rows);
        Build { index, entry_places, slot_of: Vec::with_capacity(rows), outcomes: HashMap::new(), objections: vec![] }
    }

    fn table(&mut self, tables: &Tables, table: &'a Table) {
        self.outcomes.clear();
        let place = self.index.owners.len() as u32;
        let reach = DivisionPrefix::from(&table.owner);
        let at_home = tables.own == Member::City(table.owner.clone());
        match self.index.owner(&table.owner) {
            Some(_) => self.objections.push(Objection::TwoTables { owner: table.owner.clone() }),
            None => {
                let hash = self.index.key.text(0, table.owner.as_bytes());
                self.index.owner_places.insert(hash, place as usize);
            }
        }
        self.index.owners.push(Owner { division: table.owner.clone(), at_home });
        for (at, row) in table.rows.iter().enumerate() {
            let number = at as u32 + 1;
            let named = || RowRef::Row { owner: table.owner.clone(), number };
            if self.objections.len() < OBJECTIONS_MAX {
                self.objections.extend(objection(tables, &reach, at_home, row, named));
            }
            self.row(tables, place, number, row);
        }
    }

    fn row(&mut self, tables: &Tables, owner: u32, number: u32, row: &'a Row) {
        let node = self.node(&row.key.division);
        let entry = self.entry(node, &row.key.item);
        let slot = self.slot(entry, &row.key);
        let outcome = self.outcome(tables, owner, &row.target);
        let Validity { from, until } = row.validity;
        let (from, until) = (from.map_or(0, |day| day.number()), until.map_or(FOR_EVER, |day| day.number()));
        self.index.rows.push(Compiled { number, from, until, outcome });
        self.slot_of.push(slot);
    }

    fn node(&mut self, division: &DivisionPrefix) -> u32 {
        let index = &mut self.index;
        let (length, number) = index_code(division.digits());
        if let Some(place) = index.node(length, number) {
            return place as u32;
        }
        index.lengths |= 1 << length;
        index.nodes.push(Node { length, number, prefixes: 0, exact: false, any: None });
        index.node_places.insert(index.key.numbers(length.into(), number), index.nodes.len() - 1);
        index.nodes.len() as u32 - 1
    }

    fn entry(&mut self, node: u32, item: &ItemPattern) -> u32 {
        let index = &mut self.index;
        let place = index.entries.len() as u32;
        let (exact, text) = match item {
            ItemPattern::Any => {
                let any = &mut index.nodes[node as usize].any;
                if any.is_none() {
                    index.entries.push(Entry::new(node, false, &[]));
                }
                return *any.get_or_insert(place);
            }
            ItemPattern::Prefix(prefix) => (false, prefix.as_bytes()),
            ItemPattern::Exact(item) => (true, item.as_bytes()),
        };
        let hash = index.entry_hash(node, exact, text);
        if let Some(place) = self.entry_places.find(hash, |place| index.entries[place].is(node, exact, text)) {
            return place as u32;
        }
        let at = &mut index.nodes[node as usize];
        if exact {
            at.exact = true;
        } else {
            at.prefixes |= 1 << text.len();
        }
        index.entries.push(Entry::new(node, exact, text));
        self.entry_places.insert(hash, place as usize);
        place
    }

    fn slot(&mut self, entry: u32, key: &RowKey) -> u32 {
        let step = key.step.as_ref().map_or(0, |step| self.step(step));
        let mode = key.mode.map_or(0, |mode| mode as u8);
        let index = &mut self.index;
        // The one without step and mode stands with its pattern already: most rows have neither.
        let is_plain = step == 0 && mode == 0;
        let known = match &index.entries[entry as usize].rows {
            Held::Slots { plain, .. } if is_plain => *plain,
            _ => index.slot(entry, step, mode).map(|place| place as u32),
        };
        if let Some(place) = known {
            return place;
        }
        let place = index.slots.len() as u32;
        index.slots.push(Slot { entry, step, mode, rows: (0, 0) });
        if !is_plain {
            index.slot_places.insert(index.slot_hash(entry, step, mode), place as usize);
        }
        if let Held::Slots { shapes, plain } = &mut index.entries[entry as usize].rows {
            *shapes |= 1 << (2 * u8::from(step != 0) + u8::from(mode != 0));
            if is_plain {
                *plain = Some(place);
            }
        }
        place
    }

    /// Steps are numbered from 1; 0 is any.
    fn step(&mut self, step: &Step) -> u32 {
        let index = &mut self.index;
        let known = index.step(step);
        if known != 0 {
            return known;
        }
        let hash = index.key.text(0, step.as_bytes());
        index.step_places.insert(hash, index.steps.len());
        index.steps.push(step.clone());
        index.steps.len() as u32
    }

    fn outcome(&mut self, tables: &Tables, owner: u32, target: &'a Target) -> u32 {
        if let Some(place) = self.outcomes.get(target) {
            return *place;
        }
        let city = &self.index.owners[owner as usize].division;
        let says = match target {
            Target::Refuse(code) => Says::Refuse(code.clone()),
            Target::System(name) => Says::System(name.clone(), [Destination::System(name.clone())].into()),
            Target::Via(ways) => {
                let open = |way: &Candidate| tables.ways.open(city, way);
                let closed = ways.iter().filter(|way| open(way).is_none()).cloned().collect();
                let mut lanes: Vec<Destination> = Vec::new();
                for lane in ways.iter().filter_map(open) {
                    if !lanes.contains(&lane) {
                        lanes.push(lane);
                    }
                }
                Says::Via { lanes: lanes.into(), closed }
            }
        };
        self.index.outcomes.push(Outcome { owner, says });
        let place = self.index.outcomes.len() as u32 - 1;
        self.outcomes.insert(target, place);
        place
    }

    /// Orders the rows of each slot by their days, and notes those that hold on the same one.
    fn order(&mut self, tables: &Tables) {
        let (rows, slot_of) = (&self.index.rows, &self.slot_of);
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        order.sort_unstable_by_key(|row| (slot_of[*row as usize], rows[*row as usize].from, *row));
        let (mut slot, mut latest) = (u32::MAX, 0_u32);
        for (at, row) in order.iter().enumerate() {
            let of = slot_of[*row as usize];
            let held_until = rows[latest as usize].until;
            if of != slot {
                self.index.slots[of as usize].rows.0 = at as u32;
                (slot, latest) = (of, *row);
            } else {
                if rows[*row as usize].from <= held_until && self.objections.len() < OBJECTIONS_MAX {
                    let clash = clash(tables, &self.index, latest, *row);
                    self.objections.extend(clash);
                }
                if rows[*row as usize].until > held_until {
                    latest = *row;
                }
            }
            self.index.slots[of as usize].rows.1 += 1;
        }
        self.index.rows = order.iter().map(|row| rows[*row as usize]).collect();
        self.inline();
        self.index.spread();
        self.index.tighten();
    }

    /// Puts the only row of an item pattern beside it.
    fn inline(&mut self) {
        let index = &mut self.index;
        let mut slots_of = vec![0_u32; index.entries.len()];
        index.slots.iter().for_each(|slot| slots_of[slot.entry as usize] += 1);
        for slot in index.slots.iter().filter(|slot| slot.rows.1 == 1 && slots_of[slot.entry as usize] == 1) {
            if let Some(only) = Held::only(slot, &index.rows[slot.rows.0 as usize]) {
                index.entries[slot.entry as usize].rows = only;
            }
        }
    }

    /// Partners without a table, by their records; and every city a hub may carry to.
    fn records(&mut self, tables: &Tables) {
        for (member, _) in tables.ways.members() {
            if let Member::City(city) = member {
                self.index.records.insert(city.clone(), tables.ways.by_record(city));
            }
        }
    }
}

/// Digits of a division and their number.
fn index_code(digits: &str) -> (u8, u64) {
    let number = digits.bytes().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    (digits.len() as u8, number)
}

fn objection(
    tables: &Tables,
    reach: &DivisionPrefix,
    at_home: bool,
    row: &Row,
    named: impl Fn() -> RowRef,
) -> Option<Objection> {
    let division = &row.key.division;
    if !reach.contains(division) && !tables.allow.iter().any(|allowed| allowed.contains(division)) {
        return Some(Objection::Outside { row: named(), division: division.clone() });
    }
    match &row.target {
        Target::System(_) if !at_home => Some(Objection::SystemElsewhere { row: named() }),
        Target::System(system) if !tables.systems.iter().any(|own| own.name == *system) => {
            Some(Objection::NoSuchSystem { row: named(), system: system.clone() })
        }
        Target::Via(_) if at_home => Some(Objection::WayAtHome { row: named() }),
        _ => None,
    }
}

fn clash(tables: &Tables, index: &Index, first: u32, second: u32) -> Option<Objection> {
    let named = |row: u32| index.named(&index.rows[row as usize]);
    let row = &index.rows[second as usize];
    let key = &tables.tables.get(index.outcome(row).owner as usize)?.rows.get(row.number as usize - 1)?.key;
    Some(Objection::Clash { first: named(first), second: named(second), key: key.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_row_of_an_item_pattern_stands_beside_it() {
        let row = |item: &str, step: &str| {
            format!("[[route]]\ndivision = \"4502\"\nitem = \"{item}\"\n{step}via = [\"direct\"]\n")
        };
        let (plain, step) = ("", "step = \"apply\"\n");
        let rows = [row("1", plain), row("2", step), row("3", plain), row("3", step)].concat();
        let tables = Tables {
            own: "440600".parse().unwrap(),
            systems: vec![],
            ways: Ways::default(),
            allow: vec![],
            version: 1,
            tables: vec![Arc::new(Table::from_toml(&format!("owner = \"450200\"\n{rows}")).unwrap())],
        };
        let entries = Index::compile(&tables).unwrap().entries;
        let beside = |item| {
            let of = entries.iter().find(|entry| entry.is(0, true, item));
            of.map(|entry| matches!(entry.rows, Held::Only { .. }))
        };
        assert_eq!([b"1", b"2", b"3"].map(|item| beside(item)), [Some(true), Some(true), Some(false)]);
    }
}
