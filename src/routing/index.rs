//! Decides where each message goes, by the compiled tables: the rows that cover it in the published order, the first that
//! holds on the day. Never changes; another index takes its place.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::hash::{Key, Places, Spread};
use super::notes::{Note, Notes};
use super::pattern::{Day, reach};
use super::{Destination, Entered, Objection, Query, Refusal, Resolved, RowRef, Table, Tables};
use crate::evidence::Code;
use crate::limits::ITEM_CODE_BYTES_MAX;
use crate::message::{Address, Step};
use crate::party::{Division, Member, Name};
use crate::reason::Reason;

/// All tables, compiled. A division's node knows which item patterns stand under it, an item's entry which steps and
/// modes, and a slot holds the rows of one key, ordered by their days.
#[derive(Clone, Debug)]
pub struct Index {
    /// What it was compiled from, without the tables.
    pub(super) ground: Tables,
    pub(super) key: Key,
    pub(super) owners: Vec<Owner>,
    pub(super) owner_places: Places,
    /// Where each city's messages go by its member record.
    pub(super) records: BTreeMap<Division, Arc<[Destination]>>,
    /// Which lengths of division prefixes occur, a bit each.
    pub(super) lengths: u16,
    pub(super) nodes: Vec<Node>,
    pub(super) node_places: Places,
    pub(super) entries: Vec<Entry>,
    pub(super) entry_spread: Spread,
    /// Steps that rows name; their numbers count from 1, 0 is any.
    pub(super) steps: Vec<Step>,
    pub(super) step_places: Places,
    pub(super) slots: Vec<Slot>,
    pub(super) slot_places: Places,
    /// Slot by slot, those of one slot by their days.
    pub(super) rows: Vec<Compiled>,
    pub(super) outcomes: Vec<Outcome>,
}

#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub division: Division,
    pub at_home: bool,
}

/// A division prefix.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub length: u8,
    pub number: u64,
    /// Which lengths of item prefixes occur under it, a bit each.
    pub prefixes: u64,
    pub exact: bool,
    pub any: Option<u32>,
}

/// An item pattern under a division prefix, in one line of the processor's cache. Most have one row: that row stands right
/// here.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(super) struct Entry {
    node: u32,
    text: [u8; ITEM_CODE_BYTES_MAX],
    length: u8,
    exact: bool,
    pub rows: Held,
}

/// What an item pattern holds.
#[derive(Clone, Debug)]
pub(super) enum Held {
    /// Slots: which of (step and mode, step, mode, neither) occur, a bit each: 2 × step + mode; and the last of these.
    Slots { shapes: u8, plain: Option<u32> },
    /// One row, for one step and mode, in as few bytes as serve most.
    Only { mode: u8, step: u16, from: u16, until: u16, number: u32, outcome: u32 },
}

impl Entry {
    pub fn new(node: u32, exact: bool, text: &[u8]) -> Entry {
        let mut held = [0; ITEM_CODE_BYTES_MAX];
        held[..text.len()].copy_from_slice(text);
        let rows = Held::Slots { shapes: 0, plain: None };
        Entry { node, exact, length: text.len() as u8, text: held, rows }
    }

    fn text(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }

    /// Whether it is this pattern under this node.
    pub fn is(&self, node: u32, exact: bool, text: &[u8]) -> bool {
        self.node == node && self.exact == exact && self.text() == text
    }
}

impl Held {
    /// The only row of a slot, unless its step or its days have too large numbers: after the year 2149.
    pub fn only(slot: &Slot, row: &Compiled) -> Option<Held> {
        let until = match row.until {
            FOR_EVER => u16::MAX,
            until => u16::try_from(until).ok().filter(|day| *day < u16::MAX)?,
        };
        let (step, from) = (slot.step.try_into().ok()?, row.from.try_into().ok()?);
        Some(Held::Only { mode: slot.mode, step, from, until, number: row.number, outcome: row.outcome })
    }
}

/// A step and a mode, or any, under an item pattern.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub entry: u32,
    pub step: u32,
    pub mode: u8,
    /// First place among the rows, and how many.
    pub rows: (u32, u32),
}

/// The last day of a row without one.
pub(super) const FOR_EVER: u32 = u32::MAX;

/// A row as it is looked up: its days as numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compiled {
    pub number: u32,
    pub from: u32,
    pub until: u32,
    pub outcome: u32,
}

/// What rows of one owner say.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub owner: u32,
    pub says: Says,
}

#[derive(Clone, Debug)]
pub(super) enum Says {
    Via { lanes: Arc<[Destination]>, closed: Vec<super::Candidate> },
    Refuse(Code),
    System(Name, Arc<[Destination]>),
}

/// The item's place in the order: what is looked up under one division.
#[derive(Clone, Copy)]
pub(super) struct Sought<'a> {
    query: &'a Query<'a>,
    division: &'a Division,
    owner: Option<u32>,
    day: u32,
}

impl Index {
    /// Version of the set of tables; 0 for member records and own systems alone.
    pub fn version(&self) -> u64 {
        self.ground.version
    }

    /// The index of other tables on the same ground: the same systems, ways and allowances.
    ///
    /// # Errors
    /// See [`Objection`].
    pub fn with(&self, version: u64, tables: Vec<Arc<Table>>) -> Result<Index, Vec<Objection>> {
        Index::compile(&Tables { version, tables, ..self.ground.clone() })
    }

    /// Rows in all tables.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Resolves one message.
    ///
    /// # Errors
    /// `NO_MATCHING_ITEM` when nobody takes it, `ROUTE_REFUSED` when the table of its recipient says so,
    /// `NO_SUCH_SYSTEM` when the own city has no such system, `NO_ROUTE` when the recipient cannot be reached from here.
    pub fn resolve(&self, query: &Query<'_>) -> Result<Resolved, Refusal> {
        self.decide(query, &mut ())
    }

    /// Resolves one message and says how: what was looked at, and in the last note which row it took, or why it goes
    /// nowhere.
    pub fn explain(&self, query: &Query<'_>) -> (Vec<Note>, Result<Resolved, Refusal>) {
        let mut notes = Vec::new();
        let decided = self.decide(query, &mut notes);
        notes.push(match &decided {
            Ok(resolved) => Note::Taken { row: resolved.row.clone(), lanes: resolved.lanes.to_vec() },
            Err(refusal) => Note::Refused(refusal.clone()),
        });
        (notes, decided)
    }

    fn decide(&self, query: &Query<'_>, notes: &mut impl Notes) -> Result<Resolved, Refusal> {
        notes.note(|| Note::Day(Day::of(query.now)));
        let own = match (&self.ground.own, query.to) {
            (Member::Hub(_), Some(to)) => return self.carry(query, to, notes),
            (Member::Hub(_), None) => return Err(Refusal::plain(Reason::NoMatchingItem)),
            (Member::City(own), _) => own,
        };
        match query.to {
            Some(to) => notes.note(|| Note::Addressed(to.clone())),
            None => notes.note(|| Note::Open(query.jurisdiction.cloned())),
        }
        match query.to {
            Some(to) if to.city == *own => self.at_home(own, query, to, notes),
            Some(to) => self.to_partner(query, to, notes),
            None => self.open(own, query, notes),
        }
    }

    /// A recipient that the sender left open: whoever claims its jurisdiction.
    fn open(&self, own: &Division, query: &Query<'_>, notes: &mut impl Notes) -> Result<Resolved, Refusal> {
        let nobody = Refusal::plain(Reason::NoMatchingItem);
        let Some(division) = query.jurisdiction else { return Err(nobody) };
        let sought = Sought { query, division, owner: None, day: Day::of(query.now).number() };
        if let Some(row) = self.find(&sought, notes) {
            let owner = &self.owners[self.outcome(&row).owner as usize];
            return match query.entered {
                Entered::Relayed { .. } if !owner.at_home => Err(self.must_end_here(notes)),
                _ => self.follow(&row, &owner.division, None, notes),
            };
        }
        if division.as_bytes().starts_with(reach(own)) { self.configured(own, query, notes) } else { Err(nobody) }
    }

    /// A recipient in the own city: its table, then the configuration's lists.
    fn at_home(
        &self,
        own: &Division,
        query: &Query<'_>,
        to: &Address,
        notes: &mut impl Notes,
    ) -> Result<Resolved, Refusal> {
        if query.item.is_test() {
            // It is for the gateway itself: no table and no system has a say.
            return Ok(self.own_gateway(own));
        }
        let unknown = |name: &Name| !self.ground.systems.iter().any(|system| system.name == *name);
        if to.system.as_ref().is_some_and(unknown) {
            return Err(Refusal::plain(Reason::NoSuchSystem));
        }
        let row = self.owner(own).and_then(|owner| self.find(&self.under(query, own, owner), notes));
        match (row, &to.system) {
            (Some(row), None) => self.follow(&row, own, None, notes),
            (Some(row), Some(_)) if matches!(self.outcome(&row).says, Says::Refuse(_)) => {
                self.follow(&row, own, None, notes)
            }
            (_, Some(name)) => Ok(self.own_system(own, name, RowRef::Named(name.clone()))),
            (None, None) => self.configured(own, query, notes),
        }
    }

    fn to_partner(&self, query: &Query<'_>, to: &Address, notes: &mut impl Notes) -> Result<Resolved, Refusal> {
        if let Entered::Relayed { .. } = query.entered {
            return Err(self.must_end_here(notes));
        }
        let owner = self.owner(&to.city);
        if query.item.is_test() {
            return match owner.and_then(|owner| self.way_of_all(owner, query)) {
                Some(row) => self.follow(&row, &to.city, None, notes),
                None => self.by_record(to, |_| true),
            };
        }
        match owner {
            Some(owner) => match self.find(&self.under(query, &to.city, owner), notes) {
                Some(row) => self.follow(&row, &to.city, to.system.as_ref(), notes),
                None => Err(Refusal::plain(Reason::NoMatchingItem)),
            },
            None => {
                notes.note(|| Note::NoTable(to.city.clone()));
                self.by_record(to, |_| true)
            }
        }
    }

    /// The row of a table that shows a test message the way: the first that holds on the day and names an open one. A test
    /// is rare, so the rows are looked through.
    fn way_of_all(&self, owner: u32, query: &Query<'_>) -> Option<Compiled> {
        let day = Day::of(query.now).number();
        let shows = |row: &&Compiled| {
            let outcome = self.outcome(row);
            let open = matches!(&outcome.says, Says::Via { lanes, .. } if !lanes.is_empty());
            outcome.owner == owner && open && (row.from..=row.until).contains(&day)
        };
        self.rows.iter().filter(shows).min_by_key(|row| row.number).copied()
    }

    /// A hub chooses no city: it carries to the one that is named, never back to where the message came from.
    fn carry(&self, query: &Query<'_>, to: &Address, notes: &mut impl Notes) -> Result<Resolved, Refusal> {
        notes.note(|| Note::Addressed(to.clone()));
        match query.entered {
            Entered::Relayed { via } => self.by_record(to, |lane| *lane != Destination::Gateway(via.clone())),
            Entered::Here => Err(Refusal::plain(Reason::NoRoute)),
        }
    }

    fn by_record(&self, to: &Address, allowed: impl Fn(&Destination) -> bool) -> Result<Resolved, Refusal> {
        let row = RowRef::Record(Member::City(to.city.clone()));
        let lanes = self.records.get(&to.city).map(|lanes| match lanes.iter().all(&allowed) {
            true => lanes.clone(),
            false => lanes.iter().filter(|lane| allowed(lane)).cloned().collect(),
        });
        match lanes.filter(|lanes| !lanes.is_empty()) {
            Some(lanes) => Ok(Resolved { recipient: to.clone(), lanes, row, version: self.ground.version }),
            None => Err(Refusal::plain(Reason::NoRoute)),
        }
    }

    /// What a row that was found says.
    fn follow(
        &self,
        row: &Compiled,
        city: &Division,
        system: Option<&Name>,
        notes: &mut impl Notes,
    ) -> Result<Resolved, Refusal> {
        let named = self.named(row);
        match &self.outcome(row).says {
            Says::Refuse(code) => {
                Err(Refusal { reason: Reason::RouteRefused, token: Some(code.clone()), row: Some(named) })
            }
            Says::System(name, lanes) => {
                let recipient = Address { city: city.clone(), system: Some(name.clone()) };
                Ok(Resolved { recipient, lanes: lanes.clone(), row: named, version: self.ground.version })
            }
            Says::Via { lanes, closed } => {
                closed.iter().for_each(|way| notes.note(|| Note::Closed(way.clone())));
                if lanes.is_empty() {
                    return Err(Refusal { reason: Reason::NoRoute, token: None, row: Some(named) });
                }
                let recipient = Address { city: city.clone(), system: system.cloned() };
                Ok(Resolved { recipient, lanes: lanes.clone(), row: named, version: self.ground.version })
            }
        }
    }

    /// The own system whose list of items in the configuration is the most precise.
    fn configured(&self, own: &Division, query: &Query<'_>, notes: &mut impl Notes) -> Result<Resolved, Refusal> {
        notes.note(|| Note::Configuration);
        let takers = self.ground.systems.iter().flat_map(|system| {
            let covering = system.items.iter().filter(|pattern| pattern.covers(query.item));
            covering.map(move |pattern| (pattern.precision(), system))
        });
        match takers.max_by_key(|(precision, _)| *precision) {
            Some((_, system)) => Ok(self.own_system(own, &system.name, RowRef::Configured(system.name.clone()))),
            None => Err(Refusal::plain(Reason::NoMatchingItem)),
        }
    }

    fn own_system(&self, own: &Division, name: &Name, row: RowRef) -> Resolved {
        let recipient = Address { city: own.clone(), system: Some(name.clone()) };
        Resolved { recipient, lanes: [Destination::System(name.clone())].into(), row, version: self.ground.version }
    }

    /// The gateway itself, where a message ends that is for no system.
    fn own_gateway(&self, own: &Division) -> Resolved {
        let member = Member::City(own.clone());
        let lanes = [Destination::Gateway(member.clone())].into();
        let recipient = Address { city: own.clone(), system: None };
        Resolved { recipient, lanes, row: RowRef::Record(member), version: self.ground.version }
    }

    fn must_end_here(&self, notes: &mut impl Notes) -> Refusal {
        notes.note(|| Note::MustEndHere);
        Refusal::plain(Reason::NoRoute)
    }

    pub(super) fn named(&self, row: &Compiled) -> RowRef {
        let owner = &self.owners[self.outcome(row).owner as usize];
        RowRef::Row { owner: owner.division.clone(), number: row.number }
    }

    pub(super) fn outcome(&self, row: &Compiled) -> &Outcome {
        &self.outcomes[row.outcome as usize]
    }

    /// The jurisdiction where it lies under the city, else the city itself, and only this owner's rows.
    fn under<'a>(&self, query: &'a Query<'a>, city: &'a Division, owner: u32) -> Sought<'a> {
        let jurisdiction = query.jurisdiction.filter(|division| division.as_bytes().starts_with(reach(city)));
        let division = jurisdiction.unwrap_or(city);
        Sought { query, division, owner: Some(owner), day: Day::of(query.now).number() }
    }
}

// The search, in the published order.
impl Index {
    fn find(&self, sought: &Sought<'_>, notes: &mut impl Notes) -> Option<Compiled> {
        let mut digits = sought.division.as_bytes();
        let mut number = digits.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
        let step = sought.query.step.map_or(0, |step| self.step(step));
        let mode = sought.query.mode.map_or(0, |mode| mode as u8);
        loop {
            let length = digits.len() as u8;
            if self.lengths & (1 << length) != 0
                && let Some(node) = self.node(length, number)
            {
                let prefix = digits;
                notes.note(|| Note::Division(String::from_utf8_lossy(prefix).into_owned()));
                if let Some(row) = self.under_node(node as u32, sought, (step, mode), notes) {
                    return Some(row);
                }
            }
            digits = &digits[..digits.len().checked_sub(1)?];
            number /= 10;
        }
    }

    fn under_node(
        &self,
        place: u32,
        sought: &Sought<'_>,
        given: (u32, u8),
        notes: &mut impl Notes,
    ) -> Option<Compiled> {
        let node = &self.nodes[place as usize];
        let item = sought.query.item.as_bytes();
        if node.exact
            && let Some(entry) = self.entry(place, true, item)
            && let Some(row) = self.under_entry(entry, sought, given, notes)
        {
            return Some(row);
        }
        let mut lengths = node.prefixes & ((2 << item.len()) - 1);
        while lengths != 0 {
            let length = lengths.ilog2();
            lengths ^= 1 << length;
            if let Some(entry) = self.entry(place, false, &item[..length as usize])
                && let Some(row) = self.under_entry(entry, sought, given, notes)
            {
                return Some(row);
            }
        }
        node.any.and_then(|entry| self.under_entry(entry as usize, sought, given, notes))
    }

    fn under_entry(
        &self,
        place: usize,
        sought: &Sought<'_>,
        (step, mode): (u32, u8),
        notes: &mut impl Notes,
    ) -> Option<Compiled> {
        let (shapes, plain) = match &self.entries[place].rows {
            Held::Slots { shapes, plain } => (*shapes, *plain),
            Held::Only { mode: of_mode, step: of_step, from, until, number, outcome } => {
                if (*of_step != 0 && u32::from(*of_step) != step) || (*of_mode != 0 && *of_mode != mode) {
                    return None;
                }
                let until = if *until == u16::MAX { FOR_EVER } else { (*until).into() };
                let row = Compiled { number: *number, from: (*from).into(), until, outcome: *outcome };
                return self.judged(row, sought, notes);
            }
        };
        for (shape, step, mode) in [(3, step, mode), (2, step, 0), (1, 0, mode)] {
            let asked = (shape & 2 == 0 || step != 0) && (shape & 1 == 0 || mode != 0);
            if shapes & (1 << shape) != 0
                && asked
                && let Some(slot) = self.slot(place as u32, step, mode)
                && let Some(row) = self.holding(slot, sought, notes)
            {
                return Some(row);
            }
        }
        plain.and_then(|slot| self.holding(slot as usize, sought, notes))
    }

    /// The row of a slot that holds on the day: at most one does, and it is the last that begins by then.
    fn holding(&self, slot: usize, sought: &Sought<'_>, notes: &mut impl Notes) -> Option<Compiled> {
        let (first, count) = self.slots[slot].rows;
        let rows = &self.rows[first as usize..(first + count) as usize];
        let begun = rows.partition_point(|row| row.from <= sought.day);
        self.judged(rows[begun.saturating_sub(1)], sought, notes)
    }

    /// The row, if it holds on the day and is the sought owner's.
    fn judged(&self, row: Compiled, sought: &Sought<'_>, notes: &mut impl Notes) -> Option<Compiled> {
        if sought.day < row.from {
            notes.note(|| Note::NotYet(self.named(&row)));
        } else if row.until < sought.day {
            notes.note(|| Note::Over(self.named(&row)));
        } else if sought.owner.is_some_and(|owner| owner != self.outcome(&row).owner) {
            notes.note(|| Note::Elsewhere(self.named(&row)));
        } else {
            return Some(row);
        }
        None
    }

    /// The place of the owner whose table it is.
    pub(super) fn owner(&self, division: &Division) -> Option<u32> {
        let hash = self.key.text(0, division.as_bytes());
        self.owner_places.find(hash, |place| self.owners[place].division == *division).map(|place| place as u32)
    }

    /// The number of a step, from 1; 0 for one that no row names.
    pub(super) fn step(&self, step: &Step) -> u32 {
        let hash = self.key.text(0, step.as_bytes());
        self.step_places.find(hash, |place| self.steps[place] == *step).map_or(0, |place| place as u32 + 1)
    }

    /// Puts the entries where their hashes lead, so that a message is resolved with one look into a large memory.
    pub(super) fn spread(&mut self) {
        let hashes = self.entries.iter().map(|entry| self.entry_hash(entry.node, entry.exact, entry.text()));
        let (spread, places) = Spread::of(&hashes.collect::<Vec<_>>());
        let mut entries = vec![Entry::new(u32::MAX, false, &[]); spread.len()];
        for (entry, place) in self.entries.drain(..).zip(&places) {
            entries[*place as usize] = entry;
        }
        self.slots.iter_mut().for_each(|slot| slot.entry = places[slot.entry as usize]);
        for any in self.nodes.iter_mut().filter_map(|node| node.any.as_mut()) {
            *any = places[*any as usize];
        }
        (self.entry_spread, self.entries) = (spread, entries);
    }

    /// Makes the places of what is few as small as they can be, so that they stay in the processor's cache. A slot without
    /// step and mode is found by its entry.
    pub(super) fn tighten(&mut self) {
        let key = self.key;
        let nodes = self.nodes.iter().map(|node| key.numbers(node.length.into(), node.number));
        let steps = self.steps.iter().map(|step| key.text(0, step.as_bytes()));
        let narrow = self.slots.iter().enumerate().filter(|(_, slot)| slot.step != 0 || slot.mode != 0);
        let slots = narrow.map(|(place, slot)| (self.slot_hash(slot.entry, slot.step, slot.mode), place));
        let slots: Vec<_> = slots.collect();
        let numbered =
            |hashes: Vec<u64>| hashes.into_iter().enumerate().map(|(at, hash)| (hash, at)).collect::<Vec<_>>();
        let (nodes, steps) = (numbered(nodes.collect()), numbered(steps.collect()));
        (self.node_places, self.step_places) = (Places::just(&nodes), Places::just(&steps));
        self.slot_places = Places::just(&slots);
    }

    pub(super) fn node(&self, length: u8, number: u64) -> Option<usize> {
        let hash = self.key.numbers(length.into(), number);
        self.node_places.find(hash, |place| self.nodes[place].number == number && self.nodes[place].length == length)
    }

    fn entry(&self, node: u32, exact: bool, text: &[u8]) -> Option<usize> {
        self.entry_spread.find(self.entry_hash(node, exact, text), |place| self.entries[place].is(node, exact, text))
    }

    pub(super) fn entry_hash(&self, node: u32, exact: bool, text: &[u8]) -> u64 {
        self.key.text(u64::from(node) << 1 | u64::from(exact), text)
    }

    pub(super) fn slot(&self, entry: u32, step: u32, mode: u8) -> Option<usize> {
        self.slot_places.find(self.slot_hash(entry, step, mode), |place| {
            let slot = &self.slots[place];
            slot.entry == entry && slot.step == step && slot.mode == mode
        })
    }

    pub(super) fn slot_hash(&self, entry: u32, step: u32, mode: u8) -> u64 {
        self.key.numbers(entry.into(), u64::from(step) << 8 | u64::from(mode))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::Ways;
    use super::*;

    #[test]
    fn an_item_pattern_and_its_only_row_are_one_line_of_the_cache() {
        assert_eq!(size_of::<Entry>(), 64);
    }

    #[test]
    fn a_row_stands_beside_its_pattern_unless_its_numbers_are_too_large() {
        let held = |step, from, until| {
            let slot = Slot { entry: 0, step, mode: 0, rows: (0, 1) };
            Held::only(&slot, &Compiled { number: 7, from, until, outcome: 9 }).is_some()
        };
        for (step, from, until) in [(0, 0, FOR_EVER), (65_535, 65_535, 65_534), (1, 20_000, 65_534)] {
            assert!(held(step, from, until), "{step} {from} {until}");
        }
        for (step, from, until) in [(65_536, 0, FOR_EVER), (0, 65_536, FOR_EVER), (0, 0, 65_535), (0, 0, FOR_EVER - 1)]
        {
            assert!(!held(step, from, until), "{step} {from} {until}");
        }
    }

    #[test]
    fn what_differs_in_anything_has_another_hash() {
        let tables = Tables {
            own: "440600".parse().unwrap(),
            systems: vec![],
            ways: Ways::default(),
            allow: vec![],
            version: 1,
            tables: vec![],
        };
        let index = Index::compile(&tables).unwrap();
        let texts = [&b""[..], b"1", b"2", b"12345678", b"123456789"];
        let entries = (0..64).flat_map(|node| [false, true].map(|exact| (node, exact)));
        let entries = entries.flat_map(|(node, exact)| texts.map(|text| index.entry_hash(node, exact, text)));
        assert_eq!(entries.collect::<BTreeSet<u64>>().len(), 64 * 2 * texts.len());
        let slots =
            (0..64).flat_map(|entry| (0..600).flat_map(move |step| (0..4).map(move |mode| (entry, step, mode))));
        let slots = slots.map(|(entry, step, mode)| index.slot_hash(entry, step, mode));
        assert_eq!(slots.collect::<BTreeSet<u64>>().len(), 64 * 600 * 4);
    }
}
