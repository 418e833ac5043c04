//! Decides what must hold of a keeper that a test drives by hand. Never lets it run by itself.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;

use super::*;
use crate::admission::Grants;
use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::courier::desk::Desk;
use crate::directory::book::Directory;
use crate::intake::Rules;
use crate::ledger::{Core, Ledger};
use crate::party::Member;
use crate::receipt::Checker;
use crate::routing::{Index, Tables, Ways};
use crate::store::{Mark, Retention, Synchronous};
use crate::tlog::note::SigningKey;

/// A keeper over an empty store that runs only as far as a test drives it.
struct Bench {
    keeper: Keeper,
    folder: PathBuf,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Rules of an alliance without members.
fn rules(own: &Member) -> Rules {
    let alliance = "alliance.example".parse().unwrap();
    let directory = Arc::new(Directory::empty(&alliance, Time::from_ms(1)).unwrap());
    let ways = Ways::of(&directory, own);
    let tables = Tables { own: own.clone(), systems: vec![], ways, allow: vec![], version: 0, tables: vec![] };
    let index = Arc::new(Index::compile(&tables).unwrap());
    Rules { own: own.clone(), alliance, directory, index, grants: Grants::default() }
}

fn ground(folder: &Path) -> Ground {
    let (writer, readers) = store::open(folder, Synchronous::Full).unwrap();
    let own: Member = "450200".parse().unwrap();
    let key = SigningKey::from_seed("a.example/log/1/1", &[7; 32]).unwrap();
    let core = Core::open(writer, Mark::in_folder(folder), key, own.clone()).unwrap();
    let clock = Clock::default();
    Ground {
        rules: Arc::new(ArcSwap::from_pointee(rules(&own))),
        own,
        readers: Arc::new(readers),
        ledger: Ledger::start(core, clock.clone()).unwrap().0,
        clock,
        checker: Arc::new(Mutex::new(Checker::new(vec![]))),
        desk: Desk::default(),
        blobs: Blobs::open(folder.join("attachments")).unwrap(),
        retention: Retention::default(),
    }
}

impl Bench {
    async fn new(name: &str) -> Bench {
        let folder = std::env::temp_dir().join(format!("tongban-mailbox-{name}-{}", std::process::id()));
        let opening = open(ground(&folder), LaneName::System("window".parse().unwrap())).1;
        let mut keeper = opening.keeper().await.unwrap();
        keeper.feed(Event::Enqueued { seq: 0 });
        Bench { keeper, folder }
    }

    async fn opened(&mut self, credits: u32) -> (SessionId, mpsc::Receiver<Step>) {
        let (steps, given) = mpsc::channel(16);
        let (reply, mut answer) = oneshot::channel();
        self.keeper.called(Call::Open { steps, receipts: Receipts::Unwanted, reply }).await;
        let session = answer.try_recv().unwrap().unwrap();
        self.keeper.called(Call::Credits { session, count: credits }).await;
        (session, given)
    }

    fn loaded(&mut self, rows: impl IntoIterator<Item = Seq>) {
        let row = |seq| Queued {
            seq,
            case: None,
            deliveries: 0,
            parked_until: Time::ZERO,
            expires_at: Time::from_ms(1 << 46),
            doubt: false,
            alternative: false,
        };
        self.keeper.feed(Event::Loaded { rows: rows.into_iter().map(row).collect(), end: true });
    }
}

fn delivered(given: &mut mpsc::Receiver<Step>) -> Delivery {
    let Ok(Step::Deliver { delivery, .. }) = given.try_recv() else { panic!("a delivery") };
    delivery
}

#[tokio::test]
async fn what_was_meant_for_a_dead_stream_is_held_by_the_next_one() {
    let mut bench = Bench::new("dead").await;
    let dead = bench.opened(2).await;
    let (alive, mut given) = bench.opened(3).await;
    drop(dead);
    bench.loaded([1, 2, 3]);
    for _ in 0..3 {
        let delivery = delivered(&mut given);
        assert_eq!(bench.keeper.held.get(&delivery.seq), Some(&(alive, delivery.attempt)));
    }
}

#[tokio::test]
async fn an_outcome_counts_from_the_stream_that_holds_the_delivery_and_once() {
    let mut bench = Bench::new("outcome").await;
    let (holder, mut given) = bench.opened(1).await;
    let (other, mut others) = bench.opened(0).await;
    bench.loaded([1]);
    let delivery = delivered(&mut given);
    let later = || Outcome::RetryLater { at: Time::from_ms(1 << 46) };
    bench.keeper.outcome(other, delivery, later());
    assert!(matches!(others.try_recv(), Ok(Step::NotHeld { delivery: told }) if told == delivery));
    let old = Delivery { attempt: delivery.attempt + 1, ..delivery };
    bench.keeper.outcome(holder, old, later());
    assert!(matches!(given.try_recv(), Ok(Step::NotHeld { delivery: told }) if told == old));
    bench.keeper.outcome(holder, delivery, later());
    assert!(matches!(given.try_recv(), Ok(Step::Settled { delivery: told, receipt: None }) if told == delivery));
    bench.keeper.outcome(holder, delivery, later());
    assert!(matches!(given.try_recv(), Ok(Step::NotHeld { .. })), "it was given up");
}

#[tokio::test]
async fn what_may_not_go_now_waits_and_is_not_a_word_to_the_stream() {
    let mut bench = Bench::new("not-now").await;
    let (holder, mut given) = bench.opened(2).await;
    bench.loaded([1, 2]);
    let (first, second) = (delivered(&mut given), delivered(&mut given));
    bench.keeper.outcome(holder, first, Outcome::NotNow { at: Time::from_ms(1 << 46) });
    assert!(given.try_recv().is_err());
    assert_eq!(bench.keeper.held.keys().collect::<Vec<_>>(), [&second.seq]);
    bench.keeper.called(Call::Credits { session: holder, count: 1 }).await;
    assert!(given.try_recv().is_err(), "it waits");
}

#[tokio::test]
async fn a_store_that_fails_to_settle_is_asked_again_and_an_end_is_told_once() {
    let mut bench = Bench::new("settle").await;
    let (holder, mut given) = bench.opened(1).await;
    bench.loaded([1]);
    let delivery = delivered(&mut given);
    let taken = Outcome::Final(Taken::Yes, Box::new(Fate::HandedOver { signed: None }));
    bench.keeper.outcome(holder, delivery, taken);
    let fate = LaneFate::Taken { attempt: delivery.attempt };
    bench.keeper.finished(Done::Settled { seq: 1, fate, settlement: None });
    assert!(given.try_recv().is_err(), "nothing is durable yet");
    assert!(bench.keeper.fates.contains_key(&1), "what came with the outcome is still known");
    for _ in 0..2 {
        bench.keeper.finished(Done::Settled { seq: 1, fate, settlement: Some(Settlement::Ended(None)) });
    }
    assert!(matches!(given.try_recv(), Ok(Step::Settled { .. })));
    assert!(given.try_recv().is_err(), "once");
}
