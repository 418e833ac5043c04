//! Decides whether the compiled index answers as a plain filter and sort over all rows does, on 10,000 random sets of
//! tables with 20 messages each, and whether it refuses just those sets in which two rows claim one key on one day.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::oracle::{self, Asked, OracleRow, Told, World, clashes, rows_of};
use tongban::message::{Address, Mode};
use tongban::party::Member;
use tongban::routing::*;
use tongban::time::Time;

/// SplitMix64: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn maybe<'a>(&mut self, of: &[&'a str]) -> Option<&'a str> {
        (self.below(2) == 0).then(|| self.one(of))
    }
}

const OWN: &str = "440600";
const OWNERS: [&str; 5] = [OWN, "450200", "450300", "440700", "350200"];
const DIVISIONS: [&str; 22] = [
    "*",
    "44",
    "440000",
    "4406",
    "440600",
    "440605",
    "440605001",
    "440605001000",
    "440605001002",
    "44060",
    "4407",
    "440700",
    "440703",
    "45",
    "450000",
    "4502",
    "450200",
    "450205",
    "450300000000",
    "4503",
    "350200",
    "3502",
];
const JURISDICTIONS: [&str; 14] = [
    "440600",
    "440605",
    "440605001",
    "440605001002",
    "440605001000",
    "440604",
    "440703",
    "440700",
    "450200",
    "450205",
    "450205003",
    "450300",
    "350203",
    "110101",
];
const PATTERNS: [&str; 12] =
    ["*", "1*", "11*", "1144*", "1144-7*", "1144-7", "1144", "11", "2250", "2*", "1144-7.a", "9*"];
const ITEMS: [&str; 10] = ["1144-7", "1144-7.a", "1144", "11", "1", "12", "2250", "225", "9", "3"];
const STEPS: [&str; 3] = ["apply", "accept", "finish"];
const MODES: [&str; 3] = ["online", "proxy", "joint"];
const DAYS: [&str; 8] =
    ["2025-12-31", "2026-01-01", "2026-01-02", "2026-02-28", "2026-03-01", "2026-06-30", "2024-02-29", "2026-12-31"];
const SYSTEMS: [&str; 3] = ["window", "social", "permit"];

fn random_row(random: &mut Random, owner: &str) -> String {
    let mut row =
        format!("\n[[route]]\ndivision = \"{}\"\nitem = \"{}\"\n", random.one(&DIVISIONS), random.one(&PATTERNS));
    random.maybe(&STEPS).iter().for_each(|step| row += &format!("step = \"{step}\"\n"));
    random.maybe(&MODES).iter().for_each(|mode| row += &format!("mode = \"{mode}\"\n"));
    let (from, until) = (random.maybe(&DAYS), random.maybe(&DAYS));
    let until = until.filter(|until| from.is_none_or(|from| from <= *until));
    from.iter().for_each(|day| row += &format!("valid_from = {day}\n"));
    until.iter().for_each(|day| row += &format!("valid_until = {day}\n"));
    row += &match (random.below(4), owner == OWN) {
        (0, _) => format!("refuse = \"CODE_{}\"\n", random.below(3)),
        (_, true) => format!("system = \"{}\"\n", random.one(&SYSTEMS)),
        (_, false) => {
            let mut ways: Vec<&str> = vec![];
            for _ in 0..=random.below(3) {
                let way = random.one(&["direct", "pull", "hub/main", "hub/north", "hub/nowhere"]);
                if !ways.contains(&way) {
                    ways.push(way);
                }
            }
            format!("via = {ways:?}\n")
        }
    };
    row
}

/// The texts of one random set of tables, without the rows that clash; and whether there were any.
fn random_set(random: &mut Random) -> Vec<String> {
    let mut texts = vec![];
    for owner in OWNERS.iter().filter(|_| true) {
        if random.below(3) == 0 {
            continue;
        }
        let rows = (0..random.below(14)).map(|_| random_row(random, owner)).collect::<String>();
        texts.push(format!("owner = \"{owner}\"\n{rows}"));
    }
    texts
}

fn without_clashes(texts: &[String]) -> Vec<String> {
    let mut kept: Vec<OracleRow> = vec![];
    let mut clean = vec![];
    for text in texts {
        let (_, rows) = rows_of(text);
        let mut sections = text.split("[[route]]");
        let mut out = sections.next().unwrap().to_owned();
        for (row, section) in rows.into_iter().zip(sections) {
            kept.push(row);
            if clashes(&kept).is_empty() {
                out += &format!("[[route]]{section}");
            } else {
                kept.pop();
            }
        }
        clean.push(out);
    }
    clean
}

fn partners() -> BTreeMap<String, (bool, Vec<String>)> {
    let hubs = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    [
        ("450200".to_owned(), (true, hubs(&["main", "north"]))),
        ("450300".to_owned(), (false, hubs(&["north"]))),
        ("440700".to_owned(), (true, hubs(&[]))),
    ]
    .into()
}

fn systems() -> Vec<(String, Vec<String>)> {
    let system = |name: &str, items: &[&str]| (name.to_owned(), items.iter().map(|i| (*i).to_owned()).collect());
    vec![system("window", &["2*", "9*"]), system("social", &["1144*", "2250"]), system("permit", &["1144-7"])]
}

fn tables(texts: &[String], version: u64) -> Tables {
    let ways = partners().into_iter().map(|(city, (dialable, hubs))| {
        let hubs = hubs.iter().map(|hub| hub.parse().unwrap()).collect();
        (Member::City(city.parse().unwrap()), Way { dialable, pulls: !dialable, hubs })
    });
    let own_systems = systems().into_iter().map(|(name, items)| OwnSystem {
        name: name.parse().unwrap(),
        items: items.iter().map(|item| item.parse().unwrap()).collect(),
    });
    Tables {
        own: Member::City(OWN.parse().unwrap()),
        systems: own_systems.collect(),
        ways: Ways::from_members(ways),
        allow: vec!["*".parse().unwrap()],
        version,
        tables: texts.iter().map(|text| Arc::new(Table::from_toml(text).unwrap())).collect(),
    }
}

fn random_question(random: &mut Random) -> Asked {
    let text = |word: &str| word.to_owned();
    let city = match random.below(5) {
        0 | 1 => None,
        2 => Some(text(OWN)),
        _ => Some(text(random.one(&[OWN, "450200", "450300", "440700", "350200", "110100"]))),
    };
    let system =
        city.as_ref().filter(|_| random.below(4) == 0).map(|_| text(["window", "permit", "nobody"][random.below(3)]));
    let day = oracle::day_number(random.one(&DAYS)) + random.below(3) as i64 - 1;
    // Midnight in China, a millisecond before it, or some time of the day.
    let within = [-1, 0, 86_399_999, 86_400_000, random.below(86_400_000) as i64][random.below(5)];
    Asked {
        city,
        system,
        jurisdiction: (random.below(4) != 0).then(|| text(random.one(&JURISDICTIONS))),
        item: text(random.one(&ITEMS)),
        step: random.maybe(&STEPS).or((random.below(9) == 0).then_some("other")).map(text),
        mode: random.maybe(&MODES).map(text),
        now_ms: (day * 86_400_000 - 8 * 3_600_000 + within) as u64,
        relayed: random.below(4) == 0,
    }
}

/// Both answers of the index, in the oracle's words; explain's are checked against resolve's.
fn answer(index: &Index, asked: &Asked) -> Told {
    let to = asked.city.as_ref().map(|city| Address {
        city: city.parse().unwrap(),
        system: asked.system.as_ref().map(|system| system.parse().unwrap()),
    });
    let jurisdiction = asked.jurisdiction.as_ref().map(|division| division.parse().unwrap());
    let step = asked.step.as_ref().map(|step| step.parse().unwrap());
    let via = Member::City("450200".parse().unwrap());
    let query = Query {
        to: to.as_ref(),
        jurisdiction: jurisdiction.as_ref(),
        item: &asked.item.parse().unwrap(),
        step: step.as_ref(),
        mode: asked.mode.as_ref().map(|mode| match mode.as_str() {
            "online" => Mode::Online,
            "proxy" => Mode::Proxy,
            _ => Mode::Joint,
        }),
        now: Time::from_ms(asked.now_ms),
        entered: if asked.relayed { Entered::Relayed { via: &via } } else { Entered::Here },
    };
    let decided = index.resolve(&query);
    let (notes, explained) = index.explain(&query);
    assert_eq!(decided, explained, "explain decides as resolve does");
    let last = notes.last().unwrap().to_string();
    let told = match decided {
        Ok(resolved) => Told {
            outcome: Ok((resolved.recipient.to_string(), resolved.lanes.iter().map(Destination::to_string).collect())),
            by: Some(resolved.row.to_string()),
        },
        Err(refusal) => {
            let token = refusal.token.map_or(String::new(), |token| format!(" {}", token.as_str()));
            Told {
                outcome: Err(format!("{}{token}", refusal.reason.code())),
                by: refusal.row.map(|row| row.to_string()),
            }
        }
    };
    match (&told.by, &told.outcome) {
        (Some(row), _) => assert!(last.contains(row.as_str()), "the last note names {row}: {last}"),
        (None, Err(reason)) => assert!(last.contains(reason.as_str()), "the last note says {reason}: {last}"),
        (None, Ok(_)) => panic!("taken by nothing: {last}"),
    }
    told
}

/// How many sets to try: so many, or what ROUTING_SETS says.
fn sets(usual: u64) -> u64 {
    std::env::var("ROUTING_SETS").map_or(usual, |number| number.parse().unwrap())
}

#[test]
fn resolve_equals_a_filter_and_a_sort_over_all_rows() {
    let mut random = Random(20_260_101);
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let sets = sets(10_000);
    for round in 0..sets {
        let texts = without_clashes(&random_set(&mut random));
        let index = Index::compile(&tables(&texts, round)).unwrap();
        let read: Vec<(String, Vec<OracleRow>)> = texts.iter().map(|text| rows_of(text)).collect();
        let world = World {
            own: OWN.to_owned(),
            systems: systems(),
            partners: partners(),
            owners: read.iter().map(|(owner, _)| owner.clone()).collect(),
            rows: read.into_iter().flat_map(|(_, rows)| rows).collect(),
        };
        for _ in 0..20 {
            let asked = random_question(&mut random);
            let (told, expected) = (answer(&index, &asked), world.resolve(&asked));
            assert_eq!(told, expected, "round {round}: {asked:?}\n{}", texts.join("\n"));
            let kind = expected.by.as_deref().map_or("nothing", |by| by.split(' ').next().unwrap());
            let how = expected.outcome.err().unwrap_or_default();
            *seen.entry(format!("{kind} {}", how.split(' ').next().unwrap())).or_default() += 1;
        }
    }
    // An agreement about nothing would prove nothing: each way a message can end was seen often.
    let ends = [
        "row ",
        "row ROUTE_REFUSED",
        "row NO_ROUTE",
        "record ",
        "configuration ",
        "system ",
        "nothing NO_ROUTE",
        "nothing NO_MATCHING_ITEM",
        "nothing NO_SUCH_SYSTEM",
    ];
    for end in ends {
        assert!(seen.get(end).is_some_and(|count| *count > sets / 20), "{end:?} in {seen:?}");
    }
}

/// The row that an objection names last.
fn second(objection: &Objection) -> String {
    match objection {
        Objection::Clash { second, .. } => second.to_string(),
        other => panic!("{other}"),
    }
}

#[test]
fn just_the_sets_with_a_clash_are_refused_and_both_rows_are_named() {
    let mut random = Random(7);
    let (mut refused, mut accepted) = (0, 0);
    let sets = sets(3_000);
    for round in 0..sets {
        let texts = random_set(&mut random);
        let rows: Vec<OracleRow> = texts.iter().flat_map(|text| rows_of(text).1).collect();
        let name = |at: usize| format!("row {} of {}", rows[at].number, rows[at].owner);
        let pairs: BTreeSet<BTreeSet<String>> =
            clashes(&rows).into_iter().map(|(a, b)| [name(a), name(b)].into()).collect();
        match Index::compile(&tables(&texts, round)) {
            Ok(_) => {
                assert!(pairs.is_empty(), "accepted with {pairs:?}\n{}", texts.join("\n"));
                accepted += 1;
            }
            Err(objections) => {
                assert!(!objections.is_empty());
                // A row that holds while an earlier one does is named, against one of those.
                let later = clashes(&rows).into_iter().map(|(a, b)| {
                    let from = |at: usize| (oracle::days(&rows[at]).0, at);
                    name(if from(a) > from(b) { a } else { b })
                });
                let named: BTreeSet<String> = objections.iter().map(second).collect();
                assert_eq!(named, later.collect::<BTreeSet<_>>(), "{}", texts.join("\n"));
                for objection in objections {
                    let Objection::Clash { first, second, .. } = &objection else { panic!("{objection}") };
                    let pair: BTreeSet<String> = [first.to_string(), second.to_string()].into();
                    assert!(pairs.contains(&pair), "{objection} is none\n{}", texts.join("\n"));
                }
                refused += 1;
            }
        }
    }
    assert!(refused > sets / 10 && accepted > sets / 10, "{refused} refused, {accepted} accepted");
}
