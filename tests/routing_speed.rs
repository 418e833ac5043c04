//! Decides how fast the index compiles and resolves. A measurement, not a test of every run:
//! `cargo test --release --test routing_speed -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tongban::message::{Address, ItemCode};
use tongban::party::{Division, Member};
use tongban::routing::*;
use tongban::time::Time;

/// Partners, each with a table of its own, cities of ten provinces.
const PARTNERS: usize = 250;

fn tables(rows: usize) -> Tables {
    let city = |at: usize| format!("{:02}{:02}00", 10 + at / 25, 1 + at % 25);
    let table = |at: usize| {
        let owner: Division = city(at).parse().unwrap();
        let row = |number: usize| {
            // Most rows name one item, as the national directory does; some a beginning, some a district.
            let item = match number % 10 {
                0 => format!("{:06}*", number),
                _ => format!("1144{:05}MB2C{:018}", at, number),
            };
            let division =
                if number.is_multiple_of(3) { format!("{}{:02}", &city(at)[..4], 1 + number % 12) } else { city(at) };
            Row {
                key: RowKey {
                    division: division.parse().unwrap(),
                    item: item.parse().unwrap(),
                    step: number.is_multiple_of(5).then(|| "apply".parse().unwrap()),
                    mode: None,
                },
                validity: Validity::ALWAYS,
                target: Target::Via(vec![Candidate::Direct, Candidate::Pull]),
            }
        };
        Arc::new(Table { owner, version: 1, rows: (0..rows / PARTNERS).map(row).collect() })
    };
    let way = |at: usize| {
        let member = Member::City(city(at).parse().unwrap());
        (member, Way { dialable: true, pulls: false, hubs: vec![] })
    };
    Tables {
        own: Member::City("440600".parse().unwrap()),
        systems: vec![],
        ways: Ways::from_members((0..PARTNERS).map(way)),
        allow: vec![],
        version: 1,
        tables: (0..PARTNERS).map(table).collect(),
    }
}

/// Time that this thread has had of a core: what others do beside it does not count.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// A million keys in random order, half of them open: nanoseconds for one, on one core.
fn resolve_ns(index: &Index, tables: &Tables) -> u128 {
    let mut state = 1_u64;
    let mut below = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let step = "apply".parse().unwrap();
    let asked: Vec<(Option<Address>, Division, ItemCode)> = (0..1_000_000)
        .map(|at| {
            let table = &tables.tables[below(PARTNERS)];
            let row = &table.rows[below(table.rows.len())];
            let item = row.key.item.to_string().replace('*', "-x").parse().unwrap();
            let to = (at % 2 == 0).then(|| Address { city: table.owner.clone(), system: None });
            (to, row.key.division.division().unwrap(), item)
        })
        .collect();
    let begun = cpu();
    let mut found = 0;
    for (to, division, item) in &asked {
        let query = Query {
            to: to.as_ref(),
            jurisdiction: Some(division),
            item,
            step: Some(&step),
            mode: None,
            now: Time::from_ms(1_781_452_800_000),
            entered: Entered::Here,
        };
        found += usize::from(index.resolve(&query).is_ok());
    }
    let taken = cpu() - begun;
    assert_eq!(found, asked.len(), "every key has its row");
    taken.as_nanos() / asked.len() as u128
}

#[test]
#[ignore = "a measurement"]
fn resolving_and_compiling_keep_their_time() {
    for rows in [100_000, 1_000_000] {
        let tables = tables(rows);
        let begun = cpu();
        let index = Index::compile(&tables).unwrap();
        let compiled = cpu() - begun;
        let ns = resolve_ns(&index, &tables);
        println!("{} rows: compiled in {compiled:?}, resolved in {ns} ns each", index.rows());
    }
}
