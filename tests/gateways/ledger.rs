//! The ledger without its thread: what one commit makes true, that it is answered once and the same for ever, and that a
//! store which does not fit what was shown is never signed on.

use std::collections::HashMap;
use std::path::Path;

use crate::alliance::{envelope, part};
use crate::bench::*;
use rusqlite::Connection;
use tongban::admission::Ration;
use tongban::evidence::{Event, State};
use tongban::ledger::{Answer, Core, Entry, Fate, Pause, StartError, WitnessRefusal};
use tongban::limits::{HOUR_MS, PUBLISHED_WHOLE_MAX};
use tongban::message::Digest;
use tongban::reason::Reason;
use tongban::receipt::{Checked, Receipt};
use tongban::store::{self, Mark, NewCosignature, Synchronous};
use tongban::tlog::note::{SigningKey, VerifyingKey};
use tongban::tlog::receipt_file::verify;
use tongban::wire::envelope::parse;
use tongban::wire::pb::exchange as pb;
use tongban::wire::receipt;

// One commit.

#[test]
fn one_commit_makes_everything_true_that_it_was_asked() {
    let mut bench = Bench::new();
    let (inside, outside) = (envelope(WINDOW, ARCHIVE), envelope(WINDOW, APPROVAL));
    let (first, _) = bench.accepted(&inside);
    let (second, _) = bench.accepted(&outside);
    let before = bench.size();
    let mut partner = theirs();
    let later = [envelope(WINDOW, ARCHIVE), envelope(WINDOW, APPROVAL), envelope(APPROVAL, ARCHIVE)];
    let until = NOW.plus_ms(5_000);
    let answers = bench.apply(vec![
        take(later[0].clone()),
        settle(mailbox("archive"), first, HANDED_OVER),
        witness(vec![partner.honest(Event::RelayAccepted, &outside), partner.honest(Event::Consigned, &outside)]),
        take(later[1].clone()),
        Entry::Park { lane: line(), seq: second, deliveries: 3, until },
        take_theirs(later[2].clone()),
        taking(envelope(WINDOW, ARCHIVE), Err(Reason::NoRoute), None, Ration::default()),
        Entry::Sent { lane: line(), leaves: vec![] },
    ]);
    let [a, b, c, d, e, f, g, h] = <[Answer; 8]>::try_from(answers).unwrap();
    let receipts = [taken(a).unwrap(), settled(b).unwrap(), taken(d).unwrap(), taken(f).unwrap()];
    let refusal = taken(g).unwrap_err();
    assert_eq!(refusal.reason, Reason::NoRoute);
    let notes = receipts.iter().chain(&refusal.receipt).map(|receipt| &receipt.proof.checkpoint_note);
    let notes: Vec<_> = notes.collect();
    assert_eq!(notes.len(), 5);
    assert!(notes.iter().all(|note| *note == notes[0]), "one checkpoint for all");
    let events = receipts.iter().map(|receipt| says(receipt).event).collect::<Vec<_>>();
    assert_eq!(events, [Event::SubmissionAccepted, Event::HandedOver, Event::SubmissionAccepted, Event::RelayAccepted]);
    assert_eq!(says(&refusal.receipt.unwrap()).event, Event::SubmissionRejected);
    assert_eq!(witnessed(c), [Ok(()), Ok(())]);
    assert!(matches!((e, h), (Answer::Done, Answer::Done)));
    // Accepted and consigned, handed over, two witnessed, accepted, relayed and consigned, rejected.
    assert_eq!(bench.size() - before, 9);
    assert_eq!((bench.state(first), bench.state(second)), (State::Confirmed, State::Consigned));
    assert_eq!(bench.queue(&mailbox("archive")), [3, 5]);
    assert_eq!(bench.queue(&line()), [2, 4]);
    let row = bench.readers.look(|look| look.queue(&line(), 0, 1)).unwrap().remove(0);
    assert_eq!((row.seq, row.deliveries, row.parked_until), (second, 3, until));
}

#[test]
fn accepting_twice_changes_nothing_in_one_commit_or_in_many_or_after_a_restart() {
    let mut bench = Bench::new();
    let sent = envelope(WINDOW, ARCHIVE);
    let answers = bench.apply((0..64).map(|_| take(sent.clone())).collect());
    let receipts: Vec<_> = answers.into_iter().map(|answer| taken(answer).unwrap()).collect();
    assert!(receipts.iter().all(|receipt| *receipt == receipts[0]));
    bench.apply((0..300).map(|_| take(envelope(WINDOW, APPROVAL))).collect());
    let (size, queue) = (bench.size(), bench.queue(&mailbox("archive")));
    assert_eq!(queue, [1]);
    let again =
        |bench: &mut Bench, verdict| taken(bench.one(taking(sent.clone(), verdict, None, Ration::default()))).unwrap();
    assert_eq!(again(&mut bench, Ok(route(&sent))), receipts[0], "later");
    assert_eq!(again(&mut bench, Err(Reason::MessageExpired)), receipts[0], "whatever the rules say now");
    bench.one(settle(mailbox("archive"), 1, HANDED_OVER));
    assert_eq!(again(&mut bench, Ok(route(&sent))), receipts[0], "after its end");
    let mut bench = bench.restart(|_| {}).unwrap();
    assert_eq!(again(&mut bench, Ok(route(&sent))), receipts[0], "after a restart");
    assert_eq!((bench.size(), bench.queue(&mailbox("archive"))), (size + 1, vec![]));
}

#[test]
fn a_conflict_within_one_commit_leaves_the_first_untouched() {
    let mut bench = Bench::new();
    let sent = envelope(WINDOW, ARCHIVE);
    let mut answers = bench.apply(vec![
        take(sent.clone()),
        take(other_content(&sent)),
        take(sent.clone()),
        take(other_content(&sent)),
    ]);
    let conflicts: Vec<_> = [answers.remove(3), answers.remove(1)].map(|answer| taken(answer).unwrap_err()).into();
    let receipts: Vec<_> = answers.into_iter().map(|answer| taken(answer).unwrap()).collect();
    assert_eq!(receipts[0], receipts[1]);
    let last = bench.own(1).pop().unwrap();
    assert_eq!(last.evidence.event, Event::Consigned);
    for conflict in conflicts {
        assert_eq!(conflict.reason, Reason::IdempotencyConflict);
        let evidence = says(&conflict.receipt.unwrap());
        assert_eq!(evidence.header_digest, parse(other_content(&sent)).unwrap().header_digest());
        assert_eq!(evidence.previous, Some(last.receipt.leaf_hash()), "it follows the first's newest leaf");
    }
    assert_eq!(bench.events(1), [Event::SubmissionAccepted, Event::Consigned]);
    assert_eq!(bench.queue(&mailbox("archive")), [1]);
}

#[test]
fn the_same_id_of_two_cities_is_two_messages_in_one_commit_and_in_two() {
    for commits in [1, 2] {
        let mut bench = Bench::new();
        let ours = envelope(WINDOW, ARCHIVE);
        let same = pb::Envelope { message_id: ours.message_id.clone(), ..envelope(APPROVAL, ARCHIVE) };
        let entries = vec![take(ours.clone()), take_theirs(same.clone())];
        let answers = match commits {
            1 => bench.apply(entries),
            _ => entries.into_iter().map(|entry| bench.one(entry)).collect(),
        };
        let digests: Vec<_> = answers.into_iter().map(|answer| says(&taken(answer).unwrap()).header_digest).collect();
        let own = |envelope: &pb::Envelope| parse(envelope.clone()).unwrap().header_digest();
        assert_eq!(digests, [own(&ours), own(&same)], "in {commits}");
        assert_eq!(bench.queue(&mailbox("archive")), [1, 2], "in {commits}");
    }
}

#[test]
fn every_receipt_of_a_large_commit_is_its_own_messages() {
    let mut bench = Bench::new();
    let numbered = |n: u32| pb::Envelope { parts: vec![part("n", &n.to_be_bytes())], ..envelope(WINDOW, ARCHIVE) };
    let sent: Vec<_> = (0..1_000).map(numbered).collect();
    let answers = bench.apply(sent.iter().cloned().map(take).collect());
    let mut checker = checker();
    for (place, (envelope, answer)) in (0..).zip(sent.into_iter().zip(answers)) {
        let checked = checker.check(taken(answer).unwrap()).unwrap();
        let own = parse(envelope).unwrap();
        assert_eq!((checked.evidence.message_id, checked.evidence.header_digest), (own.id, own.header_digest()));
        assert_eq!(checked.receipt.proof.index, 2 * place, "accepted and consigned, in the order of entry");
    }
}

#[test]
fn settling_twice_writes_one_leaf() {
    let mut bench = Bench::new();
    let (seq, _) = bench.accepted(&envelope(WINDOW, ARCHIVE));
    let archive = mailbox("archive");
    let refused = Fate::Refused { code: "NO".parse().unwrap(), text: String::new() };
    let answers = bench.apply(vec![
        settle(archive.clone(), seq, HANDED_OVER),
        settle(archive.clone(), seq, HANDED_OVER),
        settle(archive.clone(), seq, refused.clone()),
    ]);
    let leaves: Vec<_> = answers.into_iter().map(|answer| settled(answer).is_some()).collect();
    assert_eq!(leaves, [true, false, false]);
    let size = bench.size();
    assert!(settled(bench.one(settle(archive.clone(), seq, Fate::Exhausted))).is_none());
    let mut bench = bench.restart(|_| {}).unwrap();
    assert!(settled(bench.one(settle(archive, seq, refused))).is_none());
    assert_eq!((bench.size(), bench.state(seq)), (size, State::Confirmed));
    assert_eq!(bench.events(seq), [Event::SubmissionAccepted, Event::Consigned, Event::HandedOver]);
}

#[test]
fn a_lane_settles_its_own_messages_only() {
    let mut bench = Bench::new();
    let (seq, _) = bench.accepted(&envelope(WINDOW, ARCHIVE));
    let size = bench.size();
    for (lane, seq) in [(mailbox("window"), seq), (line(), seq), (mailbox("archive"), seq + 1), (mailbox("archive"), 0)]
    {
        assert!(settled(bench.one(settle(lane.clone(), seq, HANDED_OVER))).is_none(), "{lane} {seq}");
        bench.one(Entry::Park { lane, seq, deliveries: 9, until: NOW });
    }
    assert_eq!((bench.size(), bench.queue(&mailbox("archive"))), (size, vec![1]));
    assert_eq!(bench.events(seq), [Event::SubmissionAccepted, Event::Consigned]);
}

/// Each leaf of a message follows the one before it.
fn is_a_chain(own: &[Checked], origin: Option<Digest>) {
    let mut previous = origin;
    for checked in own {
        assert_eq!(checked.evidence.previous, previous, "{}", checked.evidence.event);
        previous = Some(checked.receipt.leaf_hash());
    }
}

#[test]
fn the_leaves_of_a_message_are_a_chain_however_commits_fall() {
    let (inside, outside, foreign) =
        (envelope(WINDOW, ARCHIVE), envelope(WINDOW, APPROVAL), envelope(APPROVAL, ARCHIVE));
    let mut partner = theirs();
    let origin = partner.honest(Event::SubmissionAccepted, &foreign);
    let origin_hash = checked(origin.clone()).receipt.leaf_hash();
    let home = [Event::RelayAccepted, Event::Consigned, Event::HandedOver].map(|event| partner.honest(event, &outside));
    let entries = || {
        let [relay, consigned, handed_over] = home.clone();
        vec![
            take(inside.clone()),
            take(outside.clone()),
            taking(foreign.clone(), Ok(route(&foreign)), Some(checked(origin.clone())), Ration::default()),
            settle(mailbox("archive"), 1, HANDED_OVER),
            settle(line(), 2, Fate::Relayed(checked(relay))),
            witness(vec![consigned]),
            settle(mailbox("archive"), 3, Fate::Refused { code: "NO".parse().unwrap(), text: "材料不全".to_owned() }),
            witness(vec![handed_over]),
        ]
    };
    for size in [1, 2, 3, 8] {
        let mut bench = Bench::new();
        let mut left = entries().into_iter().peekable();
        while left.peek().is_some() {
            bench.apply(left.by_ref().take(size).collect());
        }
        let kinds = [
            vec![Event::SubmissionAccepted, Event::Consigned, Event::HandedOver],
            vec![Event::SubmissionAccepted, Event::Witnessed, Event::Witnessed, Event::Witnessed],
            vec![Event::RelayAccepted, Event::Consigned, Event::HandoverFailed],
        ];
        for (seq, (kinds, origin)) in (1..).zip(kinds.iter().zip([None, None, Some(origin_hash)])) {
            let own = bench.own(seq);
            is_a_chain(&own, origin);
            assert_eq!(&bench.events(seq), kinds, "message {seq}, {size} in a commit");
        }
        assert_eq!([1, 2, 3].map(|seq| bench.state(seq)), [State::Confirmed, State::Confirmed, State::Rejected]);
        // What we say of the partner's message travels home, what it said of ours does not come back.
        let outbox = bench.readers.look(|look| look.outbox(&line(), None, 99)).unwrap();
        let travelling: Vec<_> = outbox
            .iter()
            .map(|(leaf, _)| says(&bench.readers.look(|look| look.receipt(*leaf)).unwrap()).event)
            .collect();
        assert_eq!(travelling, [Event::Consigned, Event::HandoverFailed], "{size} in a commit");
    }
}

#[test]
fn a_receipt_is_witnessed_once_in_one_commit_or_in_many() {
    let mut bench = Bench::new();
    let sent = envelope(WINDOW, APPROVAL);
    let mut partner = theirs();
    let relayed = partner.honest(Event::RelayAccepted, &sent);
    let answers = bench.apply(vec![take(sent.clone()), witness(vec![relayed.clone(), relayed.clone()])]);
    assert_eq!(witnessed(answers.into_iter().last().unwrap()), [Ok(()), Ok(())]);
    assert_eq!(witnessed(bench.one(witness(vec![relayed.clone()]))), [Ok(())]);
    let mut bench = bench.restart(|_| {}).unwrap();
    assert_eq!(witnessed(bench.one(witness(vec![relayed.clone()]))), [Ok(())]);
    // The answer to an attempt brings it once more.
    assert!(settled(bench.one(settle(line(), 1, Fate::Relayed(checked(relayed))))).is_none());
    assert_eq!(bench.events(1), [Event::SubmissionAccepted, Event::Witnessed]);
    assert_eq!((bench.queue(&line()), bench.state(1)), (vec![], State::Relayed));
}

#[test]
fn what_is_not_ours_to_witness_leaves_no_leaf() {
    let mut bench = Bench::new();
    let sent = envelope(WINDOW, APPROVAL);
    let foreign = envelope(APPROVAL, ARCHIVE);
    bench.apply(vec![take(sent.clone()), take_theirs(foreign.clone())]);
    let size = bench.size();
    let mut partner = theirs();
    let ours = bench.own(2).remove(0);
    let rows = [
        (partner.honest(Event::HandedOver, &envelope(WINDOW, APPROVAL)), WitnessRefusal::UnknownMessage),
        (partner.honest(Event::HandedOver, &other_content(&sent)), WitnessRefusal::OtherDigest),
        (partner.honest(Event::HandedOver, &foreign), WitnessRefusal::Issuer),
        (receipt::to_wire(ours.receipt), WitnessRefusal::Issuer),
        (partner.honest(Event::Cancelled, &sent), WitnessRefusal::Event),
        (partner.honest(Event::SubmissionRejected, &sent), WitnessRefusal::Event),
    ];
    let (receipts, expected): (Vec<_>, Vec<_>) = rows.into_iter().map(|(receipt, why)| (receipt, Err(why))).unzip();
    assert_eq!(witnessed(bench.one(witness(receipts))), expected);
    assert_eq!((bench.size(), bench.state(1)), (size, State::Accepted));
}

#[test]
fn a_refusal_without_a_ration_leaves_no_leaf_and_binds_nothing() {
    let mut bench = Bench::new();
    let ration = Ration::default();
    let refuse = |envelope| taking(envelope, Err(Reason::NoRoute), None, ration.clone());
    let answers = bench.apply((0..15).map(|_| refuse(envelope(WINDOW, ARCHIVE))).collect());
    let leaves = answers.into_iter().filter(|answer| matches!(answer, Answer::Taken(Err(r)) if r.receipt.is_some()));
    assert_eq!((leaves.count(), bench.size()), (10, 10));
    let sent = envelope(WINDOW, ARCHIVE);
    let refusal = taken(bench.one(refuse(sent.clone()))).unwrap_err();
    assert!((refusal.reason, refusal.receipt.is_some()) == (Reason::NoRoute, false));
    let (seq, _) = bench.accepted(&sent);
    assert_eq!(bench.events(seq), [Event::SubmissionAccepted, Event::Consigned]);
}

#[test]
fn a_commit_without_a_leaf_signs_nothing() {
    let mut bench = Bench::new();
    bench.accepted(&envelope(WINDOW, ARCHIVE));
    let count = |bench: &Bench| -> u64 {
        let sql = Connection::open(bench.folder.join("store.db")).unwrap();
        sql.query_row("SELECT count(*) FROM checkpoint", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count(&bench), 1);
    bench.apply(vec![settle(line(), 1, HANDED_OVER), witness(vec![]), Entry::Sent { lane: line(), leaves: vec![7] }]);
    bench.apply(vec![]);
    assert_eq!((count(&bench), bench.size()), (1, 2));
}

#[test]
fn the_logs_time_never_runs_backwards() {
    let mut bench = Bench::new();
    let mut times = vec![];
    for ms in [0, 5_000, 4_999, 1, 5_001, 3_000] {
        let at = NOW.plus_ms(ms);
        let answers = bench.core.apply(at, vec![take(envelope(WINDOW, ARCHIVE))]).unwrap().0;
        times.extend(answers.into_iter().map(|answer| says(&taken(answer).unwrap()).at.since_ms(NOW)));
    }
    assert_eq!(times, [0, 5_000, 5_000, 5_000, 5_001, 5_001]);
}

#[test]
fn the_logs_time_goes_on_over_a_restart_with_the_clock_put_back() {
    let pause = |why: &str| {
        let (lane, actor) = (line(), "li".to_owned());
        Entry::Hold(Box::new(Pause { lane, held: true, why: why.to_owned(), actor }))
    };
    let at = NOW.plus_ms(3_600_000);
    for last in [take(envelope(WINDOW, ARCHIVE)), pause("an act is a leaf too")] {
        let mut bench = Bench::new();
        bench.core.apply(at, vec![last]).unwrap();
        let mut bench = bench.restart(|_| {}).unwrap();
        let answer = bench.core.apply(NOW, vec![take(envelope(WINDOW, ARCHIVE))]).unwrap().0.pop().unwrap();
        assert_eq!(says(&taken(answer).unwrap()).at, at);
    }
}

// Starting.

/// Puts the database back as it was when it was copied.
struct Copy(HashMap<String, Vec<u8>>);

impl Copy {
    fn of(folder: &Path) -> Copy {
        let files = ["store.db", "store.db-wal", "store.db-shm"];
        let read = |name: &&str| Some(((*name).to_owned(), std::fs::read(folder.join(name)).ok()?));
        Copy(files.iter().filter_map(read).collect())
    }

    fn put_back(&self, folder: &Path) {
        for name in ["store.db", "store.db-wal", "store.db-shm"] {
            let _ = std::fs::remove_file(folder.join(name));
        }
        for (name, bytes) in &self.0 {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }
}

fn fails(bench: Bench, between: impl FnOnce(&Path)) -> StartError {
    bench.restart(between).err().expect("it does not start")
}

#[test]
fn a_store_from_yesterday_is_not_signed_on() {
    let mut bench = Bench::new();
    bench.accepted(&envelope(WINDOW, ARCHIVE));
    let mut yesterday = None;
    let mut bench = bench.restart(|folder| yesterday = Some(Copy::of(folder))).unwrap();
    let yesterday = yesterday.unwrap();
    bench.accepted(&envelope(WINDOW, ARCHIVE));
    let error = fails(bench, |folder| yesterday.put_back(folder));
    assert!(matches!(error, StartError::Behind { stored: 2, shown: 4 }), "{error}");
}

#[test]
fn a_store_that_went_another_way_is_not_signed_on() {
    let mut bench = Bench::new();
    bench.accepted(&envelope(WINDOW, ARCHIVE));
    let mut kept = None;
    let mut bench = bench.restart(|folder| kept = Some(Copy::of(folder))).unwrap();
    bench.accepted(&envelope(WINDOW, ARCHIVE));
    let mut shown = vec![];
    // Yesterday's store without its mark starts; that it went on shows when the mark comes back.
    let mut bench = bench
        .restart(|folder| {
            let mark = folder.join("high-water.note");
            shown = std::fs::read(&mark).unwrap();
            std::fs::remove_file(mark).unwrap();
            kept.unwrap().put_back(folder);
        })
        .unwrap();
    for _ in 0..3 {
        bench.accepted(&envelope(WINDOW, ARCHIVE));
    }
    let error = fails(bench, |folder| std::fs::write(folder.join("high-water.note"), shown).unwrap());
    assert!(matches!(error, StartError::Forked { size: 4 }), "{error}");
}

#[test]
fn a_store_that_lost_its_mark_or_is_ahead_of_it_starts() {
    let mut bench = Bench::new();
    bench.accepted(&envelope(WINDOW, ARCHIVE));
    let mut old = vec![];
    let mut bench = bench.restart(|folder| old = std::fs::read(folder.join("high-water.note")).unwrap()).unwrap();
    bench.accepted(&envelope(WINDOW, ARCHIVE));
    let bench = bench.restart(|folder| std::fs::write(folder.join("high-water.note"), old).unwrap()).unwrap();
    let bench = bench.restart(|folder| std::fs::remove_file(folder.join("high-water.note")).unwrap()).unwrap();
    assert_eq!(bench.size(), 4);
}

#[test]
fn a_log_that_was_changed_is_not_signed_on() {
    let sql = |text: &'static str| {
        move |folder: &Path| Connection::open(folder.join("store.db")).unwrap().execute_batch(text).unwrap()
    };
    let rows: [(&str, &'static str); 12] = [
        ("a hash of the right edge", "UPDATE tree SET edge = zeroblob(length(edge))"),
        ("an edge that is gone", "UPDATE tree SET edge = x''"),
        ("a size", "UPDATE tree SET size = size - 1"),
        ("a size and an edge", "UPDATE tree SET size = 512, edge = zeroblob(32)"),
        ("an empty log", "UPDATE tree SET size = 0, edge = x''"),
        (
            "a shorter log",
            "UPDATE tree SET size = 256, edge = (SELECT hash FROM tile); DELETE FROM checkpoint WHERE size > 256",
        ),
        ("the newest checkpoint", "DELETE FROM checkpoint WHERE size = (SELECT max(size) FROM checkpoint)"),
        ("its signature", "UPDATE checkpoint SET note = substr(note, 1, length(note) - 8) || 'AAAAAA=' || char(10)"),
        ("a hash of the newest leaf", "UPDATE leaf SET hash = zeroblob(32) WHERE idx = (SELECT max(idx) FROM leaf)"),
        ("the newest leaf's bytes", "UPDATE leaf SET bytes = x'00' WHERE idx = (SELECT max(idx) FROM leaf)"),
        ("the newest leaf", "DELETE FROM leaf WHERE idx = (SELECT max(idx) FROM leaf)"),
        ("a tile's root", "UPDATE tile SET hash = zeroblob(32)"),
    ];
    for (what, change) in rows {
        let mut bench = Bench::new();
        for count in [128, 22] {
            bench.apply((0..count).map(|_| take(envelope(WINDOW, ARCHIVE))).collect());
        }
        assert_eq!(bench.size(), 300, "one full tile, which is the whole edge of the first commit");
        // Without a mark: the store alone must tell.
        let started = bench.restart(|folder| {
            std::fs::remove_file(folder.join("high-water.note")).unwrap();
            sql(change)(folder);
        });
        let Err(error) = started else { panic!("{what}: it starts") };
        let damaged = |error: &store::Error| matches!(error, store::Error::Damaged(_));
        let known = matches!(&error, StartError::Edge { .. }) || matches!(&error, StartError::Store(e) if damaged(e));
        assert!(known, "{what}: {error}");
    }
}

#[test]
fn a_mark_that_does_not_read_is_not_taken_for_none() {
    for text in ["", "what", "450200.gateway.alliance.example/log/a/1\n2\n"] {
        let mut bench = Bench::new();
        bench.accepted(&envelope(WINDOW, ARCHIVE));
        let error = fails(bench, |folder| std::fs::write(folder.join("high-water.note"), text).unwrap());
        assert!(matches!(error, StartError::Edge { .. }), "{text:?}: {error}");
    }
}

#[test]
fn a_log_is_signed_on_by_its_own_key_alone() {
    let mut bench = Bench::new();
    bench.accepted(&envelope(WINDOW, ARCHIVE));
    let folder = std::mem::take(&mut bench.folder);
    drop(bench);
    let start = |name: &str, seed: u8| {
        let (writer, _) = store::open(&folder, Synchronous::Full).unwrap();
        let key = SigningKey::from_seed(name, &[seed; 32]).unwrap();
        Core::open(writer, Mark::in_folder(&folder), key, own()).map(drop)
    };
    assert!(matches!(start("450200.gateway.alliance.example/log/a/2", 7), Err(StartError::OtherLog { .. })));
    assert!(matches!(start(ORIGIN, 8), Err(StartError::Edge { .. })));
    start(ORIGIN, 7).expect("its own");
    std::fs::remove_dir_all(&folder).unwrap();
}

// Files.

/// The two files of a receipt.
struct Files {
    leaf: Vec<u8>,
    proof: Vec<u8>,
}

/// Twenty receipts of a ledger that has met all kinds of events, in commits of several sizes.
fn exported() -> Vec<Files> {
    let mut bench = Bench::new();
    let mut partner = theirs();
    let mut receipts = vec![];
    for round in 0..4_u64 {
        let (inside, outside, foreign) =
            (envelope(WINDOW, ARCHIVE), envelope(WINDOW, APPROVAL), envelope(APPROVAL, ARCHIVE));
        let first = 3 * round + 1 + (0..round).map(|r| 7 * r * r).sum::<u64>();
        let home = witness(vec![partner.honest(Event::RelayAccepted, &outside)]);
        let mut entries = vec![take(inside), take(outside), take_theirs(foreign)];
        entries.extend((0..7 * round * round).map(|_| take(envelope(WINDOW, ARCHIVE))));
        entries.extend([home, settle(mailbox("archive"), first, HANDED_OVER)]);
        entries.push(taking(envelope(WINDOW, ARCHIVE), Err(Reason::NoRoute), None, Ration::default()));
        let answers = bench.apply(entries);
        let refusal = taken(answers.into_iter().last().unwrap()).unwrap_err();
        receipts.extend(refusal.receipt);
        receipts.extend((first..first + 3).flat_map(|seq| bench.own(seq)).map(|checked| checked.receipt).step_by(2));
    }
    assert!(receipts.len() >= 20, "{}", receipts.len());
    let files = |receipt: Receipt| Files { proof: receipt.proof.to_text().into_bytes(), leaf: receipt.leaf };
    receipts.into_iter().take(20).map(files).collect()
}

#[test]
fn an_exported_receipt_with_any_byte_changed_is_rejected_and_the_part_named() {
    let trusted: Vec<VerifyingKey> = vec![key().verifying_key().clone()];
    let (mut positions, mut parts) = (0, HashMap::new());
    for Files { leaf, proof } in exported() {
        let verified = verify(&proof, &leaf, &trusted).expect("as exported");
        assert_eq!(verified.origin, ORIGIN);
        for at in 0..leaf.len() {
            let mut changed = leaf.clone();
            changed[at] ^= 1 << (at % 8);
            let error = verify(&proof, &changed, &trusted).expect_err("a changed leaf");
            assert_eq!(error.part(), "leaf or proof", "byte {at} of the leaf");
        }
        for at in 0..proof.len() {
            let mut changed = proof.clone();
            changed[at] ^= 1 << (at % 8);
            let Err(error) = verify(&changed, &leaf, &trusted) else { panic!("byte {at} of the proof") };
            *parts.entry(error.part()).or_insert(0) += 1;
        }
        positions += leaf.len() + proof.len();
    }
    assert!(positions > 10_000, "{positions}");
    let known = ["format", "index", "proof", "size", "root", "leaf or proof", "origin", "signature"];
    assert!(parts.keys().all(|part| known.contains(part)), "{parts:?}");
    assert!(parts.len() >= 6, "the parts are told apart: {parts:?}");
}

// What witnesses are shown.

#[test]
fn only_what_an_earlier_commit_has_stored_is_published() {
    let mut bench = Bench::new();
    let published = |bench: &Bench| {
        let found = |look: &store::Snapshot<'_>| match look.log_named("")? {
            Some(log) => look.published(log, None),
            None => Ok(None),
        };
        bench.readers.look(found).unwrap()
    };
    bench.one(Entry::Publish);
    assert_eq!(published(&bench), None, "an empty log has nothing to show");
    let (_, first) = bench.accepted(&envelope(WINDOW, ARCHIVE));
    let second = bench.apply(vec![take(envelope(WINDOW, ARCHIVE)), Entry::Publish]);
    let shown = published(&bench).unwrap();
    assert_eq!(shown.note, first.proof.checkpoint_note, "the one before, as it was signed then");
    bench.one(Entry::Publish);
    let [taken_second, _] = <[Answer; 2]>::try_from(second).unwrap();
    assert_eq!(published(&bench).unwrap().note, taken(taken_second).unwrap().proof.checkpoint_note);
    // A restart signs nothing either.
    let shown = published(&bench);
    let mut bench = bench.restart(|_| {}).unwrap();
    bench.one(Entry::Publish);
    assert_eq!(published(&bench), shown);
}

#[test]
fn of_what_was_published_one_in_an_hour_stays_and_rather_a_cosigned_one() {
    let bench = Bench::new();
    let folder = bench.folder.join("published");
    let (mut writer, readers) = store::open(&folder, Synchronous::Normal).unwrap();
    // A row of every ten minutes, from an hour's beginning on; 60 of them lie beyond those that are all kept.
    let all = PUBLISHED_WHOLE_MAX + 60;
    for place in 1..=all {
        let at = NOW.minus_ms(NOW.ms() % HOUR_MS).plus_ms(place * HOUR_MS / 6);
        let line = NewCosignature { place: 8, signer: "w+1".to_owned(), line: format!("at {place}") };
        let unpublished = NewCosignature { place: all + 1, ..line.clone() };
        let cosignatures = if [8, 20].contains(&place) { vec![line, unpublished] } else { vec![] };
        writer.commit(&store::Commit { published: Some((place, at)), cosignatures, ..Default::default() }).unwrap();
    }
    drop((writer, readers));
    let sql = Connection::open(folder.join("store.db")).unwrap();
    let rows = |query: &str| -> Vec<u64> {
        let mut statement = sql.prepare(query).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    let kept = rows("SELECT place FROM published WHERE place <= 60 ORDER BY place");
    assert_eq!(kept, [1, 8, 12, 18, 24, 30, 36, 42, 48, 54, 60]);
    assert_eq!(rows("SELECT count(*) FROM published WHERE place > 60"), [PUBLISHED_WHOLE_MAX]);
    assert_eq!(rows("SELECT place FROM cosignature"), [8], "once, and of nothing that is not published");
    let line: String = sql.query_row("SELECT line FROM cosignature", [], |row| row.get(0)).unwrap();
    assert_eq!(line, "at 8", "a witness's first word stands");
}
