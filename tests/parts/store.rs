//! What every store must do, whichever database stands behind it: a commit is whole or absent, lanes keep their order,
//! and a receipt reads back byte for byte as it was shown first.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::Connection;
use tongban::evidence::{Standing, State};
use tongban::id::MessageId;
use tongban::message::{Address, Attached, Digest};
use tongban::party::Member;
use tongban::receipt::Receipt;
use tongban::store::{
    self, Commit, DueRow, Error, Forgotten, Head, Hold, Key, LaneName, LaneState, Moved, NewLeaf, NewMessage,
    NewReceived, Outgoing, QueueRow, Readers, Seq, Snapshot, Synchronous, Writer,
};
use tongban::time::Time;
use tongban::tlog::checkpoint::Checkpoint;
use tongban::tlog::leaf_hash;
use tongban::tlog::note::SigningKey;
use tongban::tlog::receipt_file::TlogProof;
use tongban::tlog::tree::Tree;

const ORIGIN: &str = "450200.gateway.alliance.example/log/a/1";

fn key() -> SigningKey {
    SigningKey::from_seed(ORIGIN, &[7; 32]).unwrap()
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Folder(std::env::temp_dir().join(format!("tongban-store-{}-{count}", std::process::id())))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An open store and the log that is written to it.
struct Scene {
    writer: Writer,
    readers: Readers,
    tree: Tree,
    folder: Folder,
}

impl Scene {
    fn new() -> Scene {
        Scene::open(Folder::new())
    }

    fn open(folder: Folder) -> Scene {
        let (writer, readers) = store::open(folder.path(), Synchronous::Full).unwrap();
        let tree = writer.tree().unwrap().0;
        Scene { writer, readers, tree, folder }
    }

    /// Closes the store and opens it again, as after a stop.
    fn again(self) -> Scene {
        let Scene { writer, readers, folder, .. } = self;
        drop((writer, readers));
        Scene::open(folder)
    }

    /// Leaves signed under one checkpoint, and the receipts that would be shown.
    fn signed(&self, leaves: Vec<(Option<Seq>, Vec<u8>)>) -> (Commit, Vec<Receipt>) {
        let mut tree = self.tree.clone();
        let hashes: Vec<_> = leaves.iter().map(|(_, bytes)| leaf_hash(bytes)).collect();
        let appended = tree.append(&hashes);
        let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: tree.size(), root: tree.root() };
        let checkpoint_note = checkpoint.sign(&key()).unwrap();
        let receipts = (appended.first_index..).zip(appended.paths()).zip(&leaves).map(|((index, path), (_, leaf))| {
            let proof = TlogProof { extra: None, index, path, checkpoint_note: checkpoint_note.clone() };
            Receipt { leaf: leaf.clone(), proof }
        });
        let receipts = receipts.collect();
        let leaves = leaves.into_iter().zip(hashes);
        let leaves = leaves.map(|((message, bytes), hash)| NewLeaf { hash, message, bytes }).collect();
        let commit =
            Commit { leaves, tiles: appended.tiles, checkpoint: Some((tree, checkpoint_note)), ..Commit::default() };
        (commit, receipts)
    }

    fn store(&mut self, commit: &Commit) -> Result<(), Error> {
        self.writer.commit(commit)?;
        if let Some((tree, _)) = &commit.checkpoint {
            self.tree = tree.clone();
        }
        Ok(())
    }

    /// A commit that adds messages, each with one leaf of its own.
    fn accepting(&self, messages: &[(Seq, LaneName)]) -> Commit {
        let leaves = messages.iter().map(|(seq, _)| (Some(*seq), format!("leaf of {seq}").into_bytes())).collect();
        let (commit, _) = self.signed(leaves);
        let places = (self.tree.size()..).zip(&commit.leaves).zip(messages);
        let messages = places.map(|((leaf, new), (seq, lane))| message(*seq, lane.clone(), leaf, new)).collect();
        Commit { messages, ..commit }
    }

    fn accept(&mut self, messages: &[(Seq, LaneName)]) {
        let commit = self.accepting(messages);
        self.store(&commit).unwrap();
    }

    fn look<T>(&self, look: impl FnOnce(&Snapshot<'_>) -> Result<T, Error>) -> T {
        self.readers.look(look).unwrap()
    }

    fn queue(&self, lane: &LaneName) -> Vec<Seq> {
        self.look(|look| look.queue(lane, 0, 1_000)).iter().map(|row| row.seq).collect()
    }

    /// Everything that a reader can see.
    fn seen(&self) -> String {
        let lanes = self.look(|look| look.busy_lanes());
        let queues: Vec<_> = lanes.iter().map(|lane| (lane, self.look(|look| look.queue(lane, 0, 1_000)))).collect();
        let outboxes: Vec<_> = [gateway(), third()].map(|lane| self.look(|look| look.outbox(&lane, None, 99))).into();
        let messages: Vec<_> = (0..20).map(|seq| self.look(|look| look.message(seq))).collect();
        let evidence: Vec<_> = (0..20).map(|seq| self.look(|look| look.evidence(seq))).collect();
        format!("{queues:?} {outboxes:?} {messages:?} {evidence:?} {:?}", self.writer.tree().unwrap())
    }

    fn tamper(&self, sql: &str) {
        Connection::open(self.folder.path().join("store.db")).unwrap().execute_batch(sql).unwrap();
    }
}

fn foshan() -> Member {
    "440600".parse().unwrap()
}

/// Another partner's lane.
fn third() -> LaneName {
    LaneName::Gateway("640100".parse().unwrap())
}

/// An own leaf on its way.
fn outgoing(lane: LaneName, leaf: u64) -> Outgoing {
    Outgoing { lane, leaf, received: None }
}

fn system(name: &str) -> LaneName {
    LaneName::System(name.parse().unwrap())
}

fn gateway() -> LaneName {
    LaneName::Gateway(foshan())
}

fn key_of(seq: Seq, city: &str) -> Key {
    Key { from_city: city.parse().unwrap(), id: MessageId::from_bytes([seq as u8; 16]) }
}

fn message(seq: Seq, lane: LaneName, leaf: u64, new: &NewLeaf) -> NewMessage {
    NewMessage {
        head: Head {
            seq,
            key: key_of(seq, "450200"),
            header_digest: Digest([seq as u8; 32]),
            standing: State::Accepted.into(),
            lane,
            came_by: None,
            stored_at: Time::from_ms(1_000 + seq),
            expires_at: Time::from_ms(9_000 + seq),
            closed_at: None,
            first_leaf: leaf,
            base: (leaf, new.bytes.clone()),
            last: (leaf, Digest(new.hash.into())),
            queued: true,
        },
        order_key: (!seq.is_multiple_of(2)).then(|| format!("450200>440600/{seq}")),
        recipient: Address { city: "440600".parse().unwrap(), system: Some("approval".parse().unwrap()) },
        others: vec![],
        via: vec![],
        attachments: vec![],
        due_at: Time::from_ms(5_000 + seq),
        origin_receipt: None,
        header: format!("header {seq}").into_bytes(),
        body: format!("body {seq}").into_bytes(),
    }
}

fn received(message: Seq, at: u64, word: &str) -> NewReceived {
    let tree = &mut Tree::empty();
    let leaf = word.as_bytes().to_vec();
    let path = tree.append(&[leaf_hash(&leaf), leaf_hash(b"other")]).paths()[0].clone();
    let checkpoint_note = Checkpoint { origin: ORIGIN.to_owned(), size: 2, root: tree.root() }.sign(&key()).unwrap();
    let proof = TlogProof { extra: None, index: 0, path, checkpoint_note };
    NewReceived { message, at: Time::from_ms(at), receipt: Receipt { leaf, proof } }
}

#[test]
fn a_commit_reads_back_as_it_was_written_after_a_restart_too() {
    let mut scene = Scene::new();
    let commit = scene.accepting(&[(1, system("archive")), (2, gateway())]);
    let origin = received(1, 5, "the origin's");
    let mut commit = Commit {
        details: vec![(origin.receipt.leaf_hash(), 1, "材料不全".to_owned())],
        outgoing: vec![outgoing(gateway(), 0), outgoing(third(), 1)],
        received: vec![origin.clone()],
        ..commit
    };
    commit.messages[0].origin_receipt = Some(origin.receipt.leaf_hash());
    commit.messages[1].recipient.system = None;
    scene.store(&commit).unwrap();
    let scene = scene.again();
    let stored = scene.look(|look| look.message(1)).unwrap();
    assert_eq!((stored.seq, &stored.key, stored.standing.state), (1, &key_of(1, "450200"), State::Accepted));
    assert_eq!((stored.standing, stored.first_leaf), (State::Accepted.into(), 0));
    assert_eq!((stored.header, stored.body), (b"header 1".to_vec(), Some(b"body 1".to_vec())));
    assert_eq!((stored.recipient, stored.expires_at), (commit.messages[0].recipient.clone(), Time::from_ms(9_001)));
    assert_eq!(stored.origin_receipt, Some(origin.receipt.clone()));
    let second = scene.look(|look| look.message(2)).unwrap();
    assert_eq!((second.recipient.system, second.origin_receipt), (None, None));
    let head = scene.look(|look| look.head(&key_of(2, "450200"))).unwrap();
    assert_eq!(format!("{head:?}"), format!("{:?}", commit.messages[1].head));
    assert_eq!(format!("{:?}", scene.writer.head_at(2).unwrap()), format!("{:?}", Some(head)));
    assert_eq!(scene.look(|look| look.detail(origin.receipt.leaf_hash())).as_deref(), Some("材料不全"));
    assert_eq!(scene.look(|look| look.outbox(&third(), None, 9)), [(1, None)]);
    assert_eq!((scene.writer.last_seq().unwrap(), scene.tree.size()), (2, 2));
    assert!(scene.writer.has_received(origin.receipt.leaf_hash()).unwrap());
    assert!(!scene.writer.has_received(Digest([0; 32])).unwrap());
    assert!(scene.look(|look| look.message(3)).is_none());
}

#[test]
fn a_message_is_known_by_its_city_and_its_id_together() {
    let mut scene = Scene::new();
    let mut commit = scene.accepting(&[(1, gateway()), (2, gateway())]);
    commit.messages[1].head.key = key_of(1, "640100");
    scene.store(&commit).unwrap();
    let seq = |city| scene.look(|look| look.head(&key_of(1, city))).map(|head| head.seq);
    assert_eq!((seq("450200"), seq("640100"), seq("440600")), (Some(1), Some(2), None));
}

type Spoil = fn(&mut Commit);

/// Ways in which a commit breaks after much of it was written.
const BREAKS: &[(&str, Spoil)] = &[
    ("a message known before", |c| c.messages[1].head.key = key_of(1, "450200")),
    ("a place that is taken", |c| c.messages[1].head.seq = 1),
    ("the same receipt twice", |c| c.received = vec![received(1, 5, "one"), received(1, 6, "one")]),
    ("a leaf that travels twice", |c| c.outgoing = vec![outgoing(third(), 1), outgoing(third(), 1)]),
    ("a tile that is there", |c| c.tiles.extend([c.tiles[0]])),
];

#[test]
fn a_commit_that_fails_leaves_nothing_behind() {
    for (what, spoil) in BREAKS {
        let mut scene = Scene::new();
        scene.accept(&[(1, gateway())]);
        // Enough leaves that a tile is complete.
        let filler = (0..300_u32).map(|n| (None, n.to_be_bytes().to_vec())).collect();
        let (mut commit, _) = scene.signed(filler);
        let accepting = scene.accepting(&[(2, system("archive")), (3, system("window"))]);
        commit.messages = accepting.messages;
        commit.heads = vec![Head { standing: State::Confirmed.into(), ..scene.writer.head_at(1).unwrap().unwrap() }];
        commit.settled = vec![(gateway(), 1)];
        commit.details = vec![(Digest([1; 32]), 1, "text".to_owned())];
        commit.received = vec![received(1, 5, "one")];
        spoil(&mut commit);
        let before = scene.seen();
        assert!(matches!(scene.store(&commit), Err(Error::Failed(_))), "{what}");
        assert_eq!(scene.seen(), before, "{what}");
        let scene = scene.again();
        assert_eq!(scene.seen(), before, "{what}, after a restart");
        assert_eq!(scene.look(|look| look.detail(Digest([1; 32]))), None, "{what}");
        assert!(!scene.writer.has_received(received(1, 5, "one").receipt.leaf_hash()).unwrap(), "{what}");
    }
}

/// What a commit that failed left on the disk is unknown: whoever closes the store then copies nothing.
#[test]
fn after_a_commit_that_failed_the_log_stays_as_it_is() {
    for failed in [false, true] {
        let mut scene = Scene::new();
        scene.accept(&[(1, gateway())]);
        if failed {
            let (_, spoil) = BREAKS[0];
            let mut failing = scene.accepting(&[(2, system("archive")), (3, system("window"))]);
            spoil(&mut failing);
            scene.store(&failing).unwrap_err();
        }
        let seen = scene.seen();
        let Scene { writer, readers, folder, .. } = scene;
        let [database, log] = ["store.db", "store.db-wal"].map(|name| folder.path().join(name));
        let before = std::fs::read(&database).unwrap();
        // The writer closes last: nobody else could copy.
        drop(readers);
        drop(writer);
        assert_eq!((std::fs::read(&database).unwrap() == before, log.exists()), (failed, failed), "failed: {failed}");
        assert_eq!(Scene::open(folder).seen(), seen, "failed: {failed}");
    }
}

#[test]
fn a_lane_of_a_commit_that_failed_is_made_anew() {
    let mut scene = Scene::new();
    scene.accept(&[(1, gateway())]);
    let (_, spoil) = BREAKS[0];
    let mut failing = scene.accepting(&[(2, system("archive")), (3, system("window"))]);
    spoil(&mut failing);
    scene.store(&failing).unwrap_err();
    // Their numbers go to other lanes now; a writer that remembered them would mix the queues.
    scene.accept(&[(2, system("window")), (3, system("archive")), (4, gateway())]);
    assert_eq!(scene.queue(&system("window")), [2]);
    assert_eq!(scene.queue(&system("archive")), [3]);
    assert_eq!(scene.queue(&gateway()), [1, 4]);
    let lanes = scene.look(|look| look.busy_lanes());
    assert_eq!(lanes.len(), 3, "{lanes:?}");
}

#[test]
fn accepting_twice_changes_nothing() {
    let mut scene = Scene::new();
    scene.accept(&[(1, gateway())]);
    let before = scene.seen();
    let mut again = scene.accepting(&[(2, gateway())]);
    again.messages[0].head.key = key_of(1, "450200");
    scene.store(&again).unwrap_err();
    assert_eq!(scene.seen(), before);
}

#[test]
fn what_is_done_already_is_done_without_a_fault() {
    let mut scene = Scene::new();
    scene.accept(&[(1, gateway()), (2, gateway())]);
    let text = |text: &str| vec![(Digest([1; 32]), 1, text.to_owned())];
    let commit = Commit {
        settled: vec![(gateway(), 1)],
        outgoing: vec![outgoing(gateway(), 0)],
        details: text("first"),
        ..Commit::default()
    };
    scene.store(&commit).unwrap();
    let commit = Commit { sent: vec![(gateway(), 0)], ..Commit::default() };
    scene.store(&commit).unwrap();
    let before = scene.seen();
    let again = Commit {
        settled: vec![(gateway(), 1), (gateway(), 99), (system("nobody"), 1), (system("nobody"), 2)],
        parked: vec![(gateway(), 1, 3, Time::from_ms(7)), (system("nobody"), 2, 3, Time::from_ms(7))],
        sent: vec![(gateway(), 0), (gateway(), 1), (third(), 0)],
        details: text("second"),
        ..Commit::default()
    };
    scene.store(&again).unwrap();
    assert_eq!(scene.seen(), before);
    assert_eq!(scene.look(|look| look.detail(Digest([1; 32]))).as_deref(), Some("first"));
    scene.store(&Commit::default()).unwrap();
    assert_eq!(scene.seen(), before);
}

#[test]
fn a_lane_is_read_in_the_order_of_its_messages_from_any_place() {
    let mut scene = Scene::new();
    let lane = |seq: Seq| if seq.is_multiple_of(3) { system("archive") } else { gateway() };
    for batch in [1..=5, 6..=6, 7..=20_u64] {
        scene.accept(&batch.map(|seq| (seq, lane(seq))).collect::<Vec<_>>());
    }
    let scene = scene.again();
    let rows = |from, count| -> Vec<QueueRow> { scene.look(|look| look.queue(&gateway(), from, count)) };
    let seqs = |from, count| -> Vec<Seq> { rows(from, count).iter().map(|row| row.seq).collect() };
    assert_eq!(seqs(0, 5), [1, 2, 4, 5, 7]);
    assert_eq!(seqs(5, 3), [5, 7, 8]);
    assert_eq!(seqs(6, 3), [7, 8, 10], "from a place that the lane has not");
    assert_eq!(seqs(21, 9), [0; 0]);
    assert_eq!(seqs(0, 0), [0; 0]);
    assert_eq!(scene.queue(&system("archive")), [3, 6, 9, 12, 15, 18]);
    assert_eq!(scene.queue(&system("nobody")), [0; 0]);
    let first = QueueRow {
        seq: 1,
        order_key: Some("450200>440600/1".to_owned()),
        deliveries: 0,
        parked_until: Time::ZERO,
        expires_at: Time::from_ms(9_001),
        alternative: false,
    };
    assert_eq!(rows(0, 1), [first]);
    assert_eq!(rows(2, 1)[0].order_key, None);
}

#[test]
fn parking_and_settling_touch_one_row() {
    let mut scene = Scene::new();
    scene.accept(&[(1, gateway()), (2, gateway()), (3, system("archive"))]);
    // The same place in another lane is another row.
    let park = Commit {
        parked: vec![(gateway(), 2, 4, Time::from_ms(77)), (gateway(), 3, 9, Time::from_ms(99))],
        ..Commit::default()
    };
    scene.store(&park).unwrap();
    let rows = scene.look(|look| look.queue(&gateway(), 0, 9));
    let seen: Vec<_> = rows.iter().map(|row| (row.seq, row.deliveries, row.parked_until.ms())).collect();
    assert_eq!(seen, [(1, 0, 0), (2, 4, 77)]);
    assert_eq!(scene.look(|look| look.queue(&system("archive"), 0, 9))[0].deliveries, 0);
    scene.store(&Commit { settled: vec![(gateway(), 2), (gateway(), 3)], ..Commit::default() }).unwrap();
    assert_eq!((scene.queue(&gateway()), scene.queue(&system("archive"))), (vec![1], vec![3]));
    let head = |scene: &Scene, seq| scene.writer.head_at(seq).unwrap().unwrap().queued;
    assert_eq!((head(&scene, 1), head(&scene, 2), head(&scene, 3)), (true, false, true));
    assert!(scene.look(|look| look.message(2)).is_some(), "settled, not forgotten");
}

#[test]
fn a_head_that_changed_reads_back_changed_and_the_others_do_not() {
    let mut scene = Scene::new();
    scene.accept(&[(1, gateway()), (2, gateway())]);
    let (mut commit, _) = scene.signed(vec![(Some(1), b"relayed".to_vec())]);
    let last = (2, Digest(leaf_hash(b"relayed").into()));
    let standing = Standing { state: State::Relayed, in_doubt: true, late: true, turned_back: true };
    let changed = Head { standing, base: (2, b"relayed".to_vec()), last, ..scene.writer.head_at(1).unwrap().unwrap() };
    commit.heads = vec![changed.clone()];
    let other = format!("{:?}", scene.writer.head_at(2).unwrap());
    scene.store(&commit).unwrap();
    assert_eq!(format!("{:?}", scene.writer.head_at(1).unwrap()), format!("{:?}", Some(changed)));
    assert_eq!(format!("{:?}", scene.writer.head_at(2).unwrap()), other);
    let stored = scene.look(|look| look.message(1)).unwrap();
    assert_eq!((stored.standing, stored.first_leaf), (standing, 0));
}

#[test]
fn receipts_on_their_way_are_read_oldest_first_and_go_one_by_one() {
    let mut scene = Scene::new();
    scene.accept(&(1..=9).map(|seq| (seq, system("archive"))).collect::<Vec<_>>());
    let leaves = [5, 1, 3, 7].map(|leaf| outgoing(gateway(), leaf));
    let outgoing = leaves.into_iter().chain([outgoing(third(), 3)]).collect();
    scene.store(&Commit { outgoing, ..Commit::default() }).unwrap();
    let outbox = |scene: &Scene, after, count| -> Vec<u64> {
        scene.look(|look| look.outbox(&gateway(), after, count)).into_iter().map(|(leaf, _)| leaf).collect()
    };
    assert_eq!(outbox(&scene, None, 9), [1, 3, 5, 7]);
    assert_eq!(outbox(&scene, None, 2), [1, 3]);
    assert_eq!(outbox(&scene, Some(3), 9), [5, 7]);
    scene.store(&Commit { sent: vec![(gateway(), 3), (gateway(), 1)], ..Commit::default() }).unwrap();
    assert_eq!(outbox(&scene, None, 9), [5, 7]);
    assert_eq!(scene.look(|look| look.outbox(&third(), None, 9)), [(3, None)], "another's stays");
}

#[test]
fn a_lane_is_busy_while_it_holds_a_message_or_a_receipt() {
    let mut scene = Scene::new();
    assert_eq!(scene.look(|look| look.busy_lanes()), []);
    let commit = Commit { outgoing: vec![outgoing(third(), 0)], ..scene.accepting(&[(1, gateway())]) };
    scene.store(&commit).unwrap();
    let busy = |scene: &Scene| -> Vec<String> {
        let mut lanes: Vec<_> = scene.look(|look| look.busy_lanes()).iter().map(ToString::to_string).collect();
        lanes.sort();
        lanes
    };
    assert_eq!(busy(&scene), ["gateway/440600", "gateway/640100"]);
    scene.store(&Commit { settled: vec![(gateway(), 1)], ..Commit::default() }).unwrap();
    assert_eq!(busy(&scene), ["gateway/640100"]);
    scene.store(&Commit { sent: vec![(third(), 0)], ..Commit::default() }).unwrap();
    assert_eq!(busy(&scene), [""; 0]);
}

#[test]
fn the_evidence_of_a_message_is_its_own_leaves_and_what_came_about_it_in_order() {
    let mut scene = Scene::new();
    scene.accept(&[(1, gateway()), (2, gateway())]);
    let leaves = [(Some(1), "b"), (None, "nobody's"), (Some(2), "c"), (Some(1), "a")];
    let (commit, shown) = scene.signed(leaves.map(|(seq, word)| (seq, word.as_bytes().to_vec())).into());
    let (late, early, other) = (received(1, 9, "late"), received(1, 8, "early"), received(2, 7, "another's"));
    let came = vec![late.clone(), early.clone(), other];
    scene.store(&Commit { received: came, ..commit }).unwrap();
    let (own, others) = scene.look(|look| look.evidence(1));
    let words: Vec<_> = own.iter().map(|receipt| String::from_utf8_lossy(&receipt.leaf).into_owned()).collect();
    assert_eq!(words, ["leaf of 1", "b", "a"]);
    assert_eq!((&own[1], &own[2]), (&shown[0], &shown[3]));
    assert_eq!(others, [early.receipt, late.receipt]);
    assert_eq!(scene.look(|look| look.evidence(99)), (vec![], vec![]));
}

#[test]
fn a_snapshot_sees_one_moment() {
    let mut scene = Scene::new();
    scene.accept(&[(1, gateway())]);
    let commit = scene.accepting(&[(2, gateway())]);
    let Scene { writer, readers, .. } = &mut scene;
    let seen = readers.look(|look| {
        let before = look.queue(&gateway(), 0, 9)?.len();
        writer.commit(&commit)?;
        Ok((before, look.queue(&gateway(), 0, 9)?.len(), look.message(2)?.is_some()))
    });
    assert_eq!(seen.unwrap(), (1, 1, false));
    assert_eq!(scene.queue(&gateway()), [1, 2]);
}

#[test]
fn a_receipt_reads_back_byte_for_byte_as_it_was_shown_first() {
    let mut scene = Scene::new();
    let mut shown: Vec<Receipt> = vec![];
    // The log passes 1, 255, 256, 257 and 70,000 leaves in batches of many sizes, and 65,536 in the middle of one.
    let ends = [1, 2, 4, 254, 255, 256, 257, 258, 511, 512, 513, 1_000, 4_096, 8_191, 30_000, 65_535, 65_538, 70_000];
    for end in ends {
        let leaves = (scene.tree.size()..end).map(|n| (None, format!("leaf {n}").into_bytes())).collect();
        let (commit, receipts) = scene.signed(leaves);
        scene.store(&commit).unwrap();
        let step = (receipts.len() / 40).max(1);
        shown.extend(receipts.iter().step_by(step).chain(receipts.last()).cloned());
        assert_eq!(scene.writer.root_at(end).unwrap(), scene.tree.root(), "the root at {end}");
        if end <= 513 || end == 70_000 {
            for receipt in &shown {
                assert_eq!(&scene.writer.receipt(receipt.proof.index).unwrap(), receipt, "at {end}");
            }
        }
    }
    assert!(shown.len() > 300, "{}", shown.len());
    let scene = scene.again();
    for receipt in &shown {
        assert_eq!(&scene.look(|look| look.receipt(receipt.proof.index)), receipt);
    }
    for size in ends {
        let note = &shown.iter().find(|receipt| receipt.proof.index == size - 1).unwrap().proof.checkpoint_note;
        assert_eq!(scene.writer.root_at(size).unwrap(), Checkpoint::claimed(note).unwrap().root, "the root at {size}");
    }
    assert_eq!(scene.tree, scene.writer.tree().unwrap().0);
    scene.writer.rehash(0).unwrap();
}

#[test]
fn what_was_changed_from_outside_is_damage_and_never_an_answer() {
    type Read = fn(&Scene) -> Result<(), Error>;
    let changes: &[(&str, &str, Read)] = &[
        ("a leaf's bytes", "UPDATE leaf SET bytes = x'00' WHERE idx = 1", |s| s.writer.rehash(0)),
        ("a leaf's hash", "UPDATE leaf SET hash = zeroblob(32) WHERE idx = 1", |s| s.writer.rehash(0)),
        ("a leaf that is gone", "DELETE FROM leaf WHERE idx = 1", |s| s.writer.receipt(1).map(drop)),
        ("a checkpoint that is gone", "DELETE FROM checkpoint", |s| s.writer.receipt(1).map(drop)),
        ("a hash that is gone", "DELETE FROM leaf WHERE idx = 0", |s| s.writer.receipt(1).map(drop)),
        ("an edge of another size", "UPDATE tree SET edge = x''", |s| s.writer.tree().map(drop)),
        ("a state that is none", "UPDATE message SET state = 99", |s| s.writer.head_at(1).map(drop)),
        ("a city that is none", "UPDATE message SET from_city = 'x'", |s| s.writer.head_at(1).map(drop)),
        ("a lane that is none", "UPDATE lane SET name = 'x'", |s| s.writer.head_at(1).map(drop)),
        ("an origin that is gone", "UPDATE message SET origin_receipt = zeroblob(32)", |s| {
            s.readers.look(|look| look.message(1)).map(drop)
        }),
    ];
    for (what, sql, read) in changes {
        let mut scene = Scene::new();
        scene.accept(&[(1, gateway()), (2, gateway()), (3, gateway())]);
        read(&scene).expect(what);
        scene.tamper(sql);
        assert!(matches!(read(&scene), Err(Error::Damaged(_))), "{what}: {:?}", read(&scene));
    }
}

#[test]
fn what_a_lane_must_not_forget_reads_back_after_a_restart() {
    let mut scene = Scene::new();
    let unknown = LaneState { failures: 0, rest_until: Time::ZERO, open: false, sent_below: 0 };
    assert_eq!(scene.look(|look| look.lane_state(&gateway())), unknown, "of a lane that nobody has named");
    scene.accept(&[(1, gateway())]);
    assert_eq!(scene.look(|look| look.lane_state(&gateway())), unknown, "of a new lane");
    let rests = LaneState { failures: 7, rest_until: Time::from_ms(99), open: true, sent_below: 12 };
    let other = LaneState { failures: 1, ..unknown };
    // A lane may be written of before it holds anything; the last word of a commit counts.
    let lanes = vec![(gateway(), other), (gateway(), rests), (system("archive"), other)];
    let hold = |why: &str| Some(Hold { since: Time::from_ms(5), by: "li".to_owned(), why: why.to_owned() });
    let holds = vec![(gateway(), hold("first")), (system("archive"), hold("x")), (system("archive"), None)];
    scene.store(&Commit { lanes, holds, ..Commit::default() }).unwrap();
    // A lane that rests otherwise is paused all the same.
    scene.store(&Commit { lanes: vec![(gateway(), rests)], ..Commit::default() }).unwrap();
    let scene = scene.again();
    assert_eq!(scene.look(|look| look.hold(&gateway())), hold("first"));
    assert_eq!(scene.look(|look| look.hold(&system("archive"))), None);
    assert_eq!(scene.look(|look| look.hold(&third())), None);
    assert_eq!(scene.look(|look| look.lane_state(&gateway())), rests);
    assert_eq!(scene.writer.lane_state(&system("archive")).unwrap(), other);
    assert_eq!(scene.look(|look| look.lane_state(&third())), unknown);
    assert_eq!(scene.queue(&gateway()), [1]);
}

#[test]
fn what_is_due_is_read_page_by_page_and_the_next_moment_with_it() {
    let mut scene = Scene::new();
    let lane = |seq: Seq| if seq.is_multiple_of(3) { system("archive") } else { gateway() };
    scene.accept(&(1..=9).map(|seq| (seq, lane(seq))).collect::<Vec<_>>());
    let pages = |scene: &Scene, now, count| {
        let (mut all, mut after) = (vec![], None);
        loop {
            let (rows, next) = scene.look(|look| look.due(Time::from_ms(now), after, count));
            assert!(rows.len() <= count);
            let Some(last) = rows.last() else { return (all, next.map(Time::ms)) };
            after = Some((last.lane_id, last.seq));
            all.extend(rows.into_iter().map(|row| (row.lane, row.seq)));
        }
    };
    let rows = |seqs: &[Seq]| seqs.iter().map(|seq| (lane(*seq), *seq)).collect::<Vec<_>>();
    for count in [1, 2, 3, 99] {
        assert_eq!(pages(&scene, 5_000, count), (vec![], Some(5_001)), "{count} a page");
        assert_eq!(pages(&scene, 5_006, count), (rows(&[1, 2, 4, 5, 3, 6]), Some(5_007)), "{count} a page");
        assert_eq!(pages(&scene, 9_999, count), (rows(&[1, 2, 4, 5, 7, 8, 3, 6, 9]), None), "{count} a page");
    }
    let looked_at = vec![(gateway(), 1, Time::from_ms(7_777), 1), (gateway(), 3, Time::from_ms(1), 9)];
    scene.store(&Commit { looked_at, settled: vec![(gateway(), 2)], ..Commit::default() }).unwrap();
    let scene = scene.again();
    assert_eq!(pages(&scene, 5_004, 2), (rows(&[4, 3]), Some(5_005)));
    let (due, _) = scene.look(|look| look.due(Time::from_ms(8_000), None, 1));
    let first = DueRow {
        lane_id: due[0].lane_id,
        lane: gateway(),
        seq: 1,
        notices: 1,
        stored_at: Time::from_ms(1_001),
        expires_at: Time::from_ms(9_001),
    };
    assert_eq!(due, [first]);
    assert_eq!(scene.writer.notices(&gateway(), 1).unwrap(), Some(1));
    assert_eq!(scene.writer.notices(&system("archive"), 3).unwrap(), Some(0));
    assert_eq!(scene.writer.notices(&gateway(), 2).unwrap(), None);
}

#[test]
fn a_row_that_changes_its_lane_is_a_new_row_there_and_keeps_when_it_is_due() {
    let mut scene = Scene::new();
    let mut commit = scene.accepting(&[(1, gateway()), (2, gateway()), (3, gateway())]);
    for message in &mut commit.messages {
        message.others = vec![third(), system("archive")];
        message.order_key = Some("one".to_owned());
    }
    scene.store(&commit).unwrap();
    let both = vec![third(), system("archive")];
    let all = vec![(2, both.clone()), (3, both)];
    assert_eq!(scene.writer.case_rows(&gateway(), 2).unwrap(), all, "from the place on");
    let parked = vec![(gateway(), 2, 4, Time::from_ms(77))];
    let looked_at = vec![(gateway(), 2, Time::from_ms(8_000), 1)];
    let moved = vec![Moved { seq: 2, from: gateway(), to: third(), others: vec![system("archive")] }];
    scene.store(&Commit { parked, looked_at, moved, ..Commit::default() }).unwrap();
    let scene = scene.again();
    let row = scene.look(|look| look.queue(&third(), 0, 9)).remove(0);
    assert_eq!((row.seq, row.deliveries, row.parked_until, row.alternative), (2, 0, Time::ZERO, true));
    assert_eq!((scene.queue(&gateway()), scene.writer.notices(&third(), 2).unwrap()), (vec![1, 3], Some(1)));
    let head = scene.writer.head_at(2).unwrap().unwrap();
    assert_eq!((head.lane, head.queued), (third(), true));
    assert_eq!(scene.writer.lane_of_case("one").unwrap(), Some(gateway()), "of the newest that waits");
    assert_eq!(scene.writer.case_rows(&third(), 2).unwrap(), [(2, vec![system("archive")])]);
    let waiting = scene.writer.waiting().unwrap();
    assert_eq!((waiting.get(&gateway()), waiting.get(&third())), (Some(&2), Some(&1)));
}

#[test]
fn blobs_are_named_as_long_as_a_body_is_kept_in_either_form() {
    let mut scene = Scene::new();
    let attached = |n: u8| Attached { digest: Digest([n; 32]), size: n.into() };
    let mut commit = scene.accepting(&[(1, gateway()), (2, gateway())]);
    commit.messages[0].attachments = vec![attached(1), attached(2)];
    commit.messages[1].attachments = vec![attached(1)];
    scene.store(&commit).unwrap();
    scene.store(&Commit { sealed: vec![(1, 1, attached(9))], ..Commit::default() }).unwrap();
    let named = |scene: &Scene| [1, 2, 9].map(|n| scene.look(|look| look.is_attached(&Digest([n; 32]))));
    assert_eq!(named(&scene), [true; 3]);
    assert_eq!(scene.look(|look| look.sealed_forms(1)), [(1, attached(9))]);
    let size = |seq, n| scene.look(|look| look.attached(seq, &Digest([n; 32])));
    assert_eq!([size(1, 2), size(1, 9), size(2, 9)], [Some(2), Some(9), None]);
    for (forgotten, left) in [
        (Forgotten { bodies: vec![1], ..Forgotten::default() }, [true, false, false]),
        (Forgotten { evidence: vec![2], ..Forgotten::default() }, [false; 3]),
    ] {
        scene.store(&Commit { forgotten, ..Commit::default() }).unwrap();
        assert_eq!(named(&scene), left);
    }
}
