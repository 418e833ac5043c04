//! The ledger without its thread, over a real store: what one commit makes true, and that a receipt is the same bytes for
//! ever.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use tongban::admission::Ration;
use tongban::evidence::{Event, Evidence};
use tongban::id::MessageId;
use tongban::ledger::{Answer, Core, Entry, Fate, Route, Settle, Take};
use tongban::message::{Address, Envelope};
use tongban::party::Member;
use tongban::reason::Reason;
use tongban::receipt::{Checker, LogKey, Receipt};
use tongban::store::{LaneName, Mark, Readers, Synchronous, open};
use tongban::time::{SentTime, Time};
use tongban::tlog::note::SigningKey;

const ORIGIN: &str = "450200.gateway.alliance.example/log/a/1";
const NOW: Time = Time::from_ms(1_800_000_000_000);

struct Desk {
    core: Core,
    readers: Readers,
    folder: PathBuf,
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn key() -> SigningKey {
    SigningKey::from_seed(ORIGIN, &[7; 32]).unwrap()
}

fn own() -> Member {
    "450200".parse().unwrap()
}

fn desk() -> Desk {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("tongban-ledger-{}-{count}", std::process::id()));
    let (writer, readers) = open(&folder, Synchronous::Full).unwrap();
    let core = Core::open(writer, Mark::in_folder(&folder), key(), own()).unwrap();
    Desk { core, readers, folder }
}

impl Desk {
    fn apply(&mut self, now: Time, entries: Vec<Entry>) -> Vec<Answer> {
        self.core.apply(now, entries).unwrap().0
    }

    fn rebuilt(&self, leaf: u64) -> Receipt {
        self.readers.look(|look| look.receipt(leaf)).unwrap()
    }
}

fn envelope(number: u64, item: &str) -> Envelope {
    let address =
        |city: &str, system: &str| Address { city: city.parse().unwrap(), system: Some(system.parse().unwrap()) };
    let mut id = [0; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    Envelope {
        id: MessageId::from_bytes(id),
        from: address("450200", "window"),
        to: Some(address("440600", "approval")),
        jurisdiction: None,
        redrive_of: None,
        item_code: item.parse().unwrap(),
        case_no: None,
        step: None,
        mode: None,
        in_reply_to: None,
        parts: vec![],
        attributes: Default::default(),
        created_at: SentTime::from(NOW),
        expires_at: None,
        traceparent: None,
    }
}

fn lane() -> LaneName {
    LaneName::Gateway("440600".parse().unwrap())
}

fn take(envelope: Envelope, verdict: Result<(), Reason>) -> Entry {
    let recipient = envelope.to.clone().unwrap();
    let route = Route { recipient, lane: lane(), table_version: 0, expires_at: NOW.plus_ms(1000) };
    Entry::Take(Box::new(Take {
        header_digest: envelope.header_digest(),
        envelope,
        header: vec![1],
        body: vec![],
        origin: None,
        verdict: verdict.map(|()| route),
        rejections: Ration::default(),
    }))
}

fn receipt(answer: &Answer) -> Receipt {
    match answer {
        Answer::Taken(Ok(receipt)) => receipt.clone(),
        other => panic!("{other:?}"),
    }
}

fn evidence(receipt: &Receipt) -> Evidence {
    let keys = vec![LogKey { member: own(), key: key().verifying_key().clone() }];
    Checker::new(keys).check(receipt.clone()).unwrap().evidence
}

#[test]
fn a_receipt_is_rebuilt_byte_for_byte_whatever_the_batches_were() {
    let mut desk = desk();
    let mut shown = vec![];
    // Around the borders of a tile of 256 leaves, one by one and in bulk, past two levels of tiles.
    let batches = [1, 1, 2, 251, 1, 1, 1, 254, 256, 257, 1000, 1].into_iter().chain([1024; 64]);
    for size in batches {
        let first = shown.len() as u64;
        let entries = (0..size).map(|n| take(envelope(first + n, "A"), Ok(()))).collect();
        shown.extend(desk.apply(NOW, entries).iter().map(receipt));
    }
    assert!(shown.len() > 65_536 + 256, "{}", shown.len());
    for leaf in (0..shown.len()).filter(|leaf| *leaf < 3_000 || leaf % 997 == 0 || *leaf > 65_000) {
        assert_eq!(desk.rebuilt(leaf as u64), shown[leaf], "leaf {leaf}");
    }
    evidence(shown.last().unwrap());
}

#[test]
fn the_same_message_twice_in_one_commit_is_stored_once_and_a_conflict_beside_it_is_told() {
    let mut desk = desk();
    let same = || take(envelope(1, "A"), Ok(()));
    let mut answers = desk.apply(NOW, vec![same(), same(), take(envelope(1, "B"), Ok(())), same()]);
    let first = receipt(&answers[0]);
    assert_eq!((receipt(&answers[1]), receipt(&answers[3])), (first.clone(), first.clone()));
    let Answer::Taken(Err(conflict)) = answers.remove(2) else { panic!("a conflict") };
    assert_eq!(conflict.reason, Reason::IdempotencyConflict);
    let refused = evidence(conflict.receipt.as_ref().unwrap());
    assert_eq!(refused.event, Event::SubmissionRejected);
    assert_eq!(refused.previous, Some(first.leaf_hash()), "it follows what stands under this id");
    let later = desk.apply(NOW, vec![take(envelope(1, "A"), Err(Reason::NoRoute))]);
    assert_eq!(receipt(&later[0]), first, "what the rules say now does not change what was accepted");
}

#[test]
fn a_refusal_does_not_bind_the_id() {
    let mut desk = desk();
    let refused = desk.apply(NOW, vec![take(envelope(1, "A"), Err(Reason::NoMatchingItem))]);
    assert!(matches!(&refused[0], Answer::Taken(Err(refusal)) if refusal.reason == Reason::NoMatchingItem));
    receipt(&desk.apply(NOW, vec![take(envelope(1, "A"), Ok(()))])[0]);
}

#[test]
fn a_fate_is_written_once_and_only_by_its_own_lane() {
    let mut desk = desk();
    desk.apply(NOW, vec![take(envelope(1, "A"), Ok(()))]);
    let fate = || Fate::RelayFailed { reason: Reason::NotPermitted.into(), status: 7, text: "no".to_owned() };
    let settle = |lane, seq| Entry::Settle(Box::new(Settle { lane, seq, attempts: 3, fate: fate() }));
    let other = LaneName::System("window".parse().unwrap());
    let answers = desk.apply(NOW, vec![settle(other, 1), settle(lane(), 9), settle(lane(), 1), settle(lane(), 1)]);
    let written: Vec<_> = answers.iter().map(|answer| matches!(answer, Answer::Settled(Some(_)))).collect();
    assert_eq!(written, [false, false, true, false]);
    let failed = evidence(&desk.rebuilt(1));
    assert_eq!((failed.event, failed.attempts, failed.last_status), (Event::RelayFailed, 3, 7));
    assert_eq!(failed.previous, Some(desk.rebuilt(0).leaf_hash()));
    assert!(desk.readers.look(|look| look.queue(&lane(), 0, 9)).unwrap().is_empty());
}

#[test]
fn the_time_in_the_log_never_runs_backwards() {
    let mut desk = desk();
    desk.apply(NOW, vec![take(envelope(1, "A"), Ok(()))]);
    desk.apply(NOW.minus_ms(5_000), vec![take(envelope(2, "A"), Ok(()))]);
    desk.apply(NOW.plus_ms(1), vec![take(envelope(3, "A"), Ok(()))]);
    let times: Vec<_> = (0..3).map(|leaf| evidence(&desk.rebuilt(leaf)).at).collect();
    assert_eq!(times, [NOW, NOW, NOW.plus_ms(1)]);
}

#[test]
fn another_key_cannot_go_on_with_a_log() {
    let mut desk = desk();
    desk.apply(NOW, vec![take(envelope(1, "A"), Ok(()))]);
    let (writer, _readers) = reopened(&mut desk);
    let stranger = SigningKey::from_seed(ORIGIN, &[8; 32]).unwrap();
    assert!(Core::open(writer, Mark::in_folder(&desk.folder), stranger, own()).is_err());
}

/// Opens the desk's store anew; the desk itself gets another in its place.
fn reopened(desk: &mut Desk) -> (tongban::store::Writer, Readers) {
    let other = open(&desk.folder.join("other"), Synchronous::Full).unwrap();
    desk.core = Core::open(other.0, Mark::in_folder(&desk.folder.join("other")), key(), own()).unwrap();
    open(&desk.folder, Synchronous::Full).unwrap()
}
