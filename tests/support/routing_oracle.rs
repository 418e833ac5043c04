//! Decides what routing must answer, the slow and plain way: reads the raw text of the tables by itself, keeps the rows
//! that cover a message on the day, and sorts them by the published precedence. Shares no code with `routing`.

use std::collections::BTreeMap;

/// A row as its text has it.
#[derive(Clone, Debug)]
pub struct OracleRow {
    pub owner: String,
    pub number: usize,
    pub fields: BTreeMap<String, String>,
}

/// A message as the oracle sees it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub city: Option<String>,
    pub system: Option<String>,
    pub jurisdiction: Option<String>,
    pub item: String,
    pub step: Option<String>,
    pub mode: Option<String>,
    /// Milliseconds since 1970.
    pub now_ms: u64,
    pub relayed: bool,
}

/// What comes out: the recipient and the lanes, or a reason, and what said so.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub outcome: Result<(String, Vec<String>), String>,
    pub by: Option<String>,
}

/// What a gateway of the city `own` knows beside the tables.
pub struct World {
    pub own: String,
    /// Name and item patterns.
    pub systems: Vec<(String, Vec<String>)>,
    /// City → whether it can be dialled, and the hubs that may carry to it.
    pub partners: BTreeMap<String, (bool, Vec<String>)>,
    pub owners: Vec<String>,
    pub rows: Vec<OracleRow>,
}

/// Reads the rows of one table's text: a line a field, a section a row.
pub fn rows_of(text: &str) -> (String, Vec<OracleRow>) {
    let mut sections = text.split("[[route]]");
    let field = |line: &str| {
        let (key, value) = line.split_once('=')?;
        Some((key.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
    };
    let head: BTreeMap<_, _> = sections.next().unwrap().lines().filter_map(field).collect();
    let owner = head["owner"].clone();
    let rows = sections.enumerate().map(|(at, section)| OracleRow {
        owner: owner.clone(),
        number: at + 1,
        fields: section.lines().filter_map(field).collect(),
    });
    let rows = rows.collect();
    (owner, rows)
}

/// A code without the zeros of the levels it leaves open: 440600 → 4406, 440605001000 → 440605001.
pub fn trimmed(code: &str) -> &str {
    let mut code = code;
    for (whole, kept) in [(12, 9), (9, 6), (6, 4), (4, 2)] {
        let level = code.get(kept..).unwrap_or("");
        if code.len() == whole && level.chars().all(|c| c == '0') {
            code = &code[..kept];
        }
    }
    code
}

/// Days since 1970-01-01 of `2026-01-31`, by counting.
pub fn day_number(date: &str) -> i64 {
    let numbers: Vec<i64> = date.split('-').map(|part| part.parse().unwrap()).collect();
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let years: i64 = (1970..numbers[0]).map(|year| if leap(year) { 366 } else { 365 }).sum();
    let lengths = [31, if leap(numbers[0]) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let months: i64 = lengths[..numbers[1] as usize - 1].iter().sum();
    years + months + numbers[2] - 1
}

/// The first and the last day of a row.
pub fn days(row: &OracleRow) -> (i64, i64) {
    let day = |key: &str| row.fields.get(key).map(|date| day_number(date));
    (day("valid_from").unwrap_or(i64::MIN), day("valid_until").unwrap_or(i64::MAX))
}

/// What a row is about: division, item, step, mode.
pub fn key(row: &OracleRow) -> (String, String, Option<String>, Option<String>) {
    let division = match row.fields["division"].as_str() {
        "*" => "",
        code => trimmed(code),
    };
    let field = |name: &str| row.fields.get(name).cloned();
    (division.to_owned(), row.fields["item"].clone(), field("step"), field("mode"))
}

/// All pairs of rows that claim one key on one day.
pub fn clashes(rows: &[OracleRow]) -> Vec<(usize, usize)> {
    let mut pairs = vec![];
    for a in 0..rows.len() {
        for b in a + 1..rows.len() {
            let ((from, until), (other_from, other_until)) = (days(&rows[a]), days(&rows[b]));
            if key(&rows[a]) == key(&rows[b]) && from <= other_until && other_from <= until {
                pairs.push((a, b));
            }
        }
    }
    pairs
}

fn item_covers(pattern: &str, item: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => item.starts_with(beginning),
        None => item == pattern,
    }
}

/// Larger is more precise: exact, then by length of the beginning.
fn item_rank(pattern: &str) -> usize {
    if pattern.ends_with('*') { pattern.len() } else { 1000 }
}

impl World {
    pub fn resolve(&self, asked: &Asked) -> Told {
        let nobody = |reason: &str| Told { outcome: Err(reason.to_owned()), by: None };
        let own = self.own.as_str();
        match asked.city.as_deref() {
            Some(city) if city == own => self.at_home(asked),
            Some(_) if asked.relayed => nobody("NO_ROUTE"),
            Some(city) if self.owners.iter().any(|owner| owner == city) => {
                match self.best(asked, &self.division_under(asked, city), Some(city)) {
                    Some(row) => self.follow(row, asked.system.as_deref()),
                    None => nobody("NO_MATCHING_ITEM"),
                }
            }
            Some(city) => {
                let Some((dialled, hubs)) = self.partners.get(city) else { return nobody("NO_ROUTE") };
                // Dialled or fetched, the lane is the partner's own.
                let _ = dialled;
                let mut lanes = vec![city.to_owned()];
                lanes.extend(hubs.iter().map(|hub| format!("hub/{hub}")));
                let recipient = match &asked.system {
                    Some(system) => format!("{city}/{system}"),
                    None => city.to_owned(),
                };
                Told { outcome: Ok((recipient, lanes)), by: Some(format!("record of {city}")) }
            }
            None => {
                let Some(jurisdiction) = asked.jurisdiction.as_deref() else { return nobody("NO_MATCHING_ITEM") };
                match self.best(asked, jurisdiction, None) {
                    Some(row) if asked.relayed && row.owner != own => nobody("NO_ROUTE"),
                    Some(row) => self.follow(row, None),
                    None if jurisdiction.starts_with(trimmed(own)) => self.configured(asked),
                    None => nobody("NO_MATCHING_ITEM"),
                }
            }
        }
    }

    fn at_home(&self, asked: &Asked) -> Told {
        let own = &self.own;
        let system = |name: &str| (format!("{own}/{name}"), vec![format!("system {name}")]);
        let row = self.best(asked, &self.division_under(asked, own), Some(own));
        match &asked.system {
            Some(name) if !self.systems.iter().any(|(known, _)| known == name) => {
                Told { outcome: Err("NO_SUCH_SYSTEM".to_owned()), by: None }
            }
            Some(name) => match row {
                Some(row) if row.fields.contains_key("refuse") => self.follow(row, None),
                _ => {
                    let by = format!("system {name} as named by the sender");
                    Told { outcome: Ok(system(name)), by: Some(by) }
                }
            },
            None => match row {
                Some(row) => self.follow(row, None),
                None => self.configured(asked),
            },
        }
    }

    fn configured(&self, asked: &Asked) -> Told {
        let mut best: Option<(usize, &str)> = None;
        for (name, patterns) in &self.systems {
            for pattern in patterns.iter().filter(|pattern| item_covers(pattern, &asked.item)) {
                if best.is_none_or(|(rank, _)| item_rank(pattern) >= rank) {
                    best = Some((item_rank(pattern), name));
                }
            }
        }
        match best {
            Some((_, name)) => {
                let outcome = Ok((format!("{}/{name}", self.own), vec![format!("system {name}")]));
                Told { outcome, by: Some(format!("configuration of system {name}")) }
            }
            None => Told { outcome: Err("NO_MATCHING_ITEM".to_owned()), by: None },
        }
    }

    fn division_under(&self, asked: &Asked, city: &str) -> String {
        let inside = asked.jurisdiction.as_ref().filter(|division| division.starts_with(trimmed(city)));
        inside.cloned().unwrap_or_else(|| city.to_owned())
    }

    fn best(&self, asked: &Asked, division: &str, owner: Option<&str>) -> Option<&OracleRow> {
        let today = (asked.now_ms as i64 + 8 * 3_600_000).div_euclid(86_400_000);
        let given = |field: &str, value: &Option<String>, row: &OracleRow| match row.fields.get(field) {
            None => true,
            Some(wanted) => value.as_ref() == Some(wanted),
        };
        let mut covering: Vec<&OracleRow> = self
            .rows
            .iter()
            .filter(|row| owner.is_none_or(|owner| row.owner == owner))
            .filter(|row| division.starts_with(&key(row).0))
            .filter(|row| item_covers(&row.fields["item"], &asked.item))
            .filter(|row| given("step", &asked.step, row) && given("mode", &asked.mode, row))
            .filter(|row| days(row).0 <= today && today <= days(row).1)
            .collect();
        covering.sort_by_key(|row| {
            let (division, item, step, mode) = key(row);
            std::cmp::Reverse((division.len(), item_rank(&item), step.is_some(), mode.is_some()))
        });
        covering.first().copied()
    }

    fn follow(&self, row: &OracleRow, system: Option<&str>) -> Told {
        let by = Some(format!("row {} of {}", row.number, row.owner));
        if let Some(code) = row.fields.get("refuse") {
            return Told { outcome: Err(format!("ROUTE_REFUSED {code}")), by };
        }
        if let Some(name) = row.fields.get("system") {
            return Told { outcome: Ok((format!("{}/{name}", row.owner), vec![format!("system {name}")])), by };
        }
        let listed = row.fields["via"].trim_matches(['[', ']']);
        let mut lanes: Vec<String> = vec![];
        for way in listed.split(',').map(|way| way.trim().trim_matches('"')) {
            let partner = self.partners.get(&row.owner);
            let lane = match (way, partner) {
                ("direct", Some((true, _))) | ("pull", Some((false, _))) => Some(row.owner.clone()),
                (way, Some((_, hubs))) => hubs.iter().map(|hub| format!("hub/{hub}")).find(|hub| hub == way),
                _ => None,
            };
            lanes.extend(lane.filter(|lane| !lanes.contains(lane)));
        }
        if lanes.is_empty() {
            return Told { outcome: Err("NO_ROUTE".to_owned()), by };
        }
        let recipient = match system {
            Some(system) => format!("{}/{system}", row.owner),
            None => row.owner.clone(),
        };
        Told { outcome: Ok((recipient, lanes)), by }
    }
}
