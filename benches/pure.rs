//! Decides how fast the pure parts are: routing, the log, evidence, envelopes, lanes, and verifying receipts offline. A line for
//! each; `cargo bench --bench pure`, with a word behind `--` only the lines that hold it.
//!
//! A timer of our own, forty lines, instead of a framework: what is measured needs no statistics beyond the best of several
//! rounds on the thread's own processor time, and a framework is a hundred crates.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use rustix::time::{ClockId, clock_gettime};
use tongban::evidence::Evidence;
use tongban::lanes::{Effect, Event, Lane, Outcome, Policy, Queued, Rest};
use tongban::message::{Address, ItemCode, part_digest};
use tongban::party::{Division, Member};
use tongban::receipt::{Checker, LogKey, Receipt};
use tongban::routing::*;
use tongban::time::Time;
use tongban::tlog::checkpoint::Checkpoint;
use tongban::tlog::leaf_hash;
use tongban::tlog::note::SigningKey;
use tongban::tlog::receipt_file::TlogProof;
use tongban::tlog::tree::Tree;
use tongban::wire::envelope::parse;
use tongban::wire::pb::exchange as pb;

/// Rounds of which the best counts, and how long one lasts at least.
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(200);

/// Time that this thread has had of a core: what others do beside it does not count.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Which lines are wanted, and where they go.
struct Bench {
    wanted: Option<String>,
}

impl Bench {
    fn wants(&self, name: &str) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| name.contains(wanted.as_str()))
    }

    /// Times `work`, which does `count` of what is told, over and over.
    fn line(&self, name: &str, count: usize, mut work: impl FnMut()) {
        if !self.wants(name) {
            return;
        }
        work();
        let mut best = f64::MAX;
        for _ in 0..ROUNDS {
            let (begun, mut times) = (cpu(), 0);
            while cpu() - begun < ROUND {
                work();
                times += 1;
            }
            best = best.min((cpu() - begun).as_nanos() as f64 / f64::from(times) / count as f64);
        }
        self.tell(name, best);
    }

    fn tell(&self, name: &str, ns: f64) {
        println!("{name:<52} {ns:>14.1} ns {:>14.0} per s", 1e9 / ns);
    }
}

fn main() {
    // What cargo says to every bench.
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with("--"));
    let bench = Bench { wanted };
    log(&bench);
    evidence(&bench);
    envelopes(&bench);
    lanes(&bench);
    verifying(&bench);
    for (rows, compiled, resolved) in [
        (1_000, "routing: compile 1 k routes", "routing: resolve, 1 k routes"),
        (10_000, "routing: compile 10 k routes", "routing: resolve, 10 k routes"),
        (100_000, "routing: compile 100 k routes", "routing: resolve, 100 k routes"),
        (1_000_000, "routing: compile 1 M routes", "routing: resolve, 1 M routes"),
    ] {
        routing(&bench, rows, (compiled, resolved));
    }
}

fn log(bench: &Bench) {
    let leaves: Vec<_> = (0..1_024_u32).map(|number| leaf_hash(&number.to_be_bytes())).collect();
    let mut old = Tree::empty();
    (0..1_000).for_each(|_| drop(old.append(&leaves)));
    let append = |tree: &Tree, batch| drop(black_box(tree.clone().append(batch)));
    bench.line("log: append 1 leaf to 1 M, with its path", 1, || append(&old, &leaves[..1]));
    bench.line("log: append 1 of 1,024 leaves to 1 M, with its path", 1_024, || append(&old, &leaves));
    let key = key();
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: old.size(), root: old.root() };
    bench.line("log: sign a checkpoint", 1, || drop(black_box(checkpoint.sign(&key))));
}

const ORIGIN: &str = "450200.gateway.alliance.example/log/a/1";
const LEAF: &[u8] = include_bytes!("../tests/data/tlog/100-42.leaf");

fn key() -> SigningKey {
    SigningKey::from_seed(ORIGIN, &[7; 32]).expect("a key")
}

/// The evidence of a receipt that a gateway wrote.
fn sample() -> Evidence {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/receipts/confirmed");
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("receipts").flatten().map(|entry| entry.path()).collect();
    files.sort();
    let leaf = files.iter().find(|path| path.extension().is_some_and(|kind| kind == "leaf")).expect("a leaf");
    Evidence::from_leaf(&std::fs::read(leaf).expect("readable")).expect("evidence")
}

fn evidence(bench: &Bench) {
    let evidence = sample();
    let leaf = evidence.to_leaf().expect("a leaf");
    bench.line("evidence: encode", 1, || drop(black_box(evidence.to_leaf())));
    bench.line("evidence: decode", 1, || drop(black_box(Evidence::from_leaf(&leaf))));
    bench.line("evidence: hash a leaf", 1, || {
        black_box(leaf_hash(LEAF));
    });
}

fn envelopes(bench: &Bench) {
    let (salt, content) = ([9; 16], vec![0x5a; 1_024]);
    let digest = pb::Digest { algorithm: "sha256".to_owned(), value: part_digest(&salt, &content).0.to_vec() };
    let part = pb::Part {
        name: "form.pdf".to_owned(),
        media_type: "application/pdf".to_owned(),
        size: content.len() as u64,
        salt: salt.to_vec(),
        digest: Some(digest),
        content: Some(pb::part::Content::Inline(content.into())),
    };
    let address = |city: &str, system: &str| Some(pb::Address { city: city.to_owned(), system: system.to_owned() });
    let envelope = pb::Envelope {
        message_id: "0197d2a0-5b1c-7cc3-98c4-dc0c0c07398f".to_owned(),
        from: address("450200", "window"),
        to: address("440600", "approval"),
        item_code: "DEMO-001".to_owned(),
        parts: vec![part],
        created_at: Some(prost_types::Timestamp { seconds: 1_780_000_000, nanos: 0 }),
        ..Default::default()
    };
    let bytes = envelope.encode_to_vec();
    bench.line("envelope: decode 1 KiB", 1, || drop(black_box(pb::Envelope::decode(bytes.as_slice()))));
    bench.line("envelope: decode 1 KiB, parse, compare digests", 1, || {
        drop(black_box(parse(pb::Envelope::decode(bytes.as_slice()).expect("an envelope"))));
    });
    let parsed = parse(envelope).expect("an envelope");
    bench.line("envelope: header digest", 1, || {
        black_box(parsed.header_digest());
    });
}

/// A mailbox that fills, delivers, and is told of every outcome: the events of one message.
fn lanes(bench: &Bench) {
    const MESSAGES: u64 = 10_000;
    let now = Time::from_ms(1_000_000);
    bench.line("lanes: one message from arrival to its end", MESSAGES as usize, || {
        let mut lane = Lane::new(Policy::mailbox(), 0, Rest::default());
        lane.handle(now, Event::Opened { session: 1, receipts: false });
        lane.handle(now, Event::Credits { session: 1, count: 1_024 });
        let mut todo = VecDeque::from(lane.handle(now, Event::Enqueued { seq: 1 }));
        while let Some(effect) = todo.pop_front() {
            match effect {
                Effect::Load { from, count } => {
                    let end = (from + count as u64).min(MESSAGES + 1);
                    let rows = (from.max(1)..end).map(row).collect();
                    todo.extend(lane.handle(now, Event::Loaded { rows, end: end > MESSAGES }));
                }
                Effect::Deliver { seq, attempt, session, .. } => {
                    let outcome = Outcome::Taken;
                    todo.extend(lane.handle(now, Event::Attempted { seq, attempt, session, outcome }));
                    todo.extend(lane.handle(now, Event::Settled { seq }));
                    todo.extend(lane.handle(now, Event::Credits { session, count: 1 }));
                }
                _ => {}
            }
        }
        black_box(lane);
    });
}

fn row(seq: u64) -> Queued {
    let expires_at = Time::from_ms(u64::MAX);
    Queued { seq, case: None, deliveries: 0, parked_until: Time::ZERO, expires_at, doubt: false, alternative: false }
}

fn verifying(bench: &Bench) {
    let key = key();
    let log = LogKey { member: Member::City("450200".parse().expect("a city")), key: key.verifying_key().clone() };
    let evidence = Evidence { issuer: log.member.clone(), key_id: key.verifying_key().id(), ..sample() };
    let leaf = evidence.to_leaf().expect("a leaf");
    let shared = receipts(&key, &leaf, 1_024, 8);
    let own = receipts(&key, &leaf, 1, 4_096);
    let check = |receipts: &[Receipt]| {
        let mut checker = Checker::new(vec![log.clone()]);
        receipts.iter().for_each(|receipt| drop(black_box(checker.check(receipt.clone()).expect("it holds"))));
    };
    bench.line("verify offline, checkpoints shared by 1,024", shared.len(), || check(&shared));
    bench.line("verify offline, each with a checkpoint of its own", own.len(), || check(&own));
}

/// Receipts of so many commits, each of so many leaves.
fn receipts(key: &SigningKey, leaf: &[u8], leaves: usize, commits: usize) -> Vec<Receipt> {
    let mut tree = Tree::empty();
    let hashes = vec![leaf_hash(leaf); leaves];
    let mut receipts = Vec::with_capacity(leaves * commits);
    for _ in 0..commits {
        let appended = tree.append(&hashes);
        let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: tree.size(), root: tree.root() };
        let note = checkpoint.sign(key).expect("a note");
        receipts.extend((appended.first_index..).zip(appended.paths()).map(|(index, path)| {
            let proof = TlogProof { extra: None, index, path, checkpoint_note: note.clone() };
            Receipt { leaf: leaf.to_vec(), proof }
        }));
    }
    receipts
}

/// Partners, each with a table of its own, cities of ten provinces.
const PARTNERS: usize = 250;

fn tables(rows: usize) -> Tables {
    let city = |at: usize| format!("{:02}{:02}00", 10 + at / 25, 1 + at % 25);
    let table = |at: usize| {
        let owner: Division = city(at).parse().expect("a city");
        let row = |number: usize| {
            // Most rows name one item, as the national directory does; some a beginning, some a district.
            let item = match number % 10 {
                0 => format!("{number:06}*"),
                _ => format!("1144{at:05}MB2C{number:018}"),
            };
            let division =
                if number.is_multiple_of(3) { format!("{}{:02}", &city(at)[..4], 1 + number % 12) } else { city(at) };
            Row {
                key: RowKey {
                    division: division.parse().expect("a division"),
                    item: item.parse().expect("an item"),
                    step: number.is_multiple_of(5).then(|| "apply".parse().expect("a step")),
                    mode: None,
                },
                validity: Validity::ALWAYS,
                target: Target::Via(vec![Candidate::Direct, Candidate::Pull]),
            }
        };
        Arc::new(Table { owner, version: 1, rows: (0..rows / PARTNERS).map(row).collect() })
    };
    let way = |at: usize| {
        let member = Member::City(city(at).parse().expect("a city"));
        (member, Way { dialable: true, pulls: false, hubs: vec![] })
    };
    Tables {
        own: Member::City("440600".parse().expect("a city")),
        systems: vec![],
        ways: Ways::from_members((0..PARTNERS).map(way)),
        allow: vec![],
        version: 1,
        tables: (0..PARTNERS).map(table).collect(),
    }
}

/// A million keys in random order, half of them open.
fn routing(bench: &Bench, rows: usize, (compiled, resolved): (&str, &str)) {
    if !bench.wants(compiled) && !bench.wants(resolved) {
        return;
    }
    let tables = tables(rows);
    let begun = cpu();
    let index = Index::compile(&tables).expect("no two rows clash");
    if bench.wants(compiled) {
        bench.tell(compiled, (cpu() - begun).as_nanos() as f64);
    }
    let asked = questions(&tables);
    let step = "apply".parse().expect("a step");
    bench.line(resolved, asked.len(), || {
        let found = asked.iter().filter(|(to, division, item)| {
            let query = Query {
                to: to.as_ref(),
                jurisdiction: Some(division),
                item,
                step: Some(&step),
                mode: None,
                now: Time::from_ms(1_781_452_800_000),
                entered: Entered::Here,
            };
            index.resolve(&query).is_ok()
        });
        assert_eq!(found.count(), asked.len(), "every key has its row");
    });
}

fn questions(tables: &Tables) -> Vec<(Option<Address>, Division, ItemCode)> {
    let mut state = 1_u64;
    let mut below = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let question = |at| {
        let table = &tables.tables[below(PARTNERS)];
        let row = &table.rows[below(table.rows.len())];
        let item = row.key.item.to_string().replace('*', "-x").parse().expect("an item");
        let to = (at % 2 == 0).then(|| Address { city: table.owner.clone(), system: None });
        (to, row.key.division.division().expect("a division"), item)
    };
    (0..1_000_000).map(question).collect()
}
