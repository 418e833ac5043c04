//! Decides whether what the store keeps in memory, and what it copies beside the ledger, changes anything that it says: a proof
//! from memory is the proof from the disk, and the write-ahead log stays within its bound while the ledger writes on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::Connection;
use tongban::limits::{RECENT_LEAVES_MAX, WAL_PAGES_MAX};
use tongban::receipt::Receipt;
use tongban::store::{self, Commit, NewLeaf, Readers, Synchronous, Writer};
use tongban::tlog::checkpoint::Checkpoint;
use tongban::tlog::leaf_hash;
use tongban::tlog::note::SigningKey;
use tongban::tlog::tree::Tree;

const ORIGIN: &str = "450200.gateway.alliance.example/log/a/1";

/// A store in a folder of its own, and the log that is written to it.
struct Scene {
    writer: Writer,
    readers: Readers,
    tree: Tree,
    folder: PathBuf,
}

impl Scene {
    fn new(name: &str) -> Scene {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Scene::open(std::env::temp_dir().join(format!("tongban-{name}-{}-{count}", std::process::id())))
    }

    fn open(folder: PathBuf) -> Scene {
        let (writer, readers) = store::open(&folder, Synchronous::Full).unwrap();
        let tree = writer.tree().unwrap().0;
        Scene { writer, readers, tree, folder }
    }

    fn again(self) -> Scene {
        let folder = self.folder.clone();
        drop((self.writer, self.readers));
        Scene::open(folder)
    }

    /// Stores leaves of so many bytes each, with what the ledger hands over for memory.
    fn commit(&mut self, leaves: u64, bytes: usize) {
        let first = self.tree.size();
        let leaf = |place: u64| [format!("{place}").into_bytes(), vec![0x6c; bytes]].concat();
        let leaves: Vec<NewLeaf> = (first..first + leaves)
            .map(|place| NewLeaf { hash: leaf_hash(&leaf(place)), message: None, bytes: leaf(place) })
            .collect();
        let appended = self.tree.append(&leaves.iter().map(|leaf| leaf.hash).collect::<Vec<_>>());
        let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: self.tree.size(), root: self.tree.root() };
        let note = checkpoint.sign(&SigningKey::from_seed(ORIGIN, &[7; 32]).unwrap()).unwrap();
        let tiles = appended.tiles.clone();
        let (checkpoint, appended) = (Some((self.tree.clone(), note)), Some(Arc::new(appended)));
        self.writer.commit(&Commit { leaves, tiles, checkpoint, appended, ..Commit::default() }).unwrap();
    }

    fn receipts(&self, places: &[u64]) -> Vec<Receipt> {
        self.readers.look(|look| places.iter().map(|place| look.receipt(*place)).collect()).unwrap()
    }
}

fn log_bytes(folder: &Path) -> u64 {
    std::fs::metadata(folder.join("store.db-wal")).map_or(0, |log| log.len())
}

#[test]
fn a_proof_from_memory_is_the_proof_from_the_disk() {
    let mut scene = Scene::new("recent");
    [1, 2, 300, 1, 40].into_iter().for_each(|leaves| scene.commit(leaves, 20));
    let places: Vec<u64> = (0..scene.tree.size()).collect();
    let (from_memory, by_writer) = (scene.receipts(&places), scene.writer.receipt(1).unwrap());
    // Without the nodes of the tree on disk only memory can prove.
    let hashes = "CREATE TABLE kept AS SELECT idx, hash FROM leaf; UPDATE leaf SET hash = x'00'";
    Connection::open(scene.folder.join("store.db")).unwrap().execute_batch(hashes).unwrap();
    assert!(scene.receipts(&places) == from_memory, "proofs came from memory");
    let back = "UPDATE leaf SET hash = (SELECT hash FROM kept WHERE kept.idx = leaf.idx); DROP TABLE kept";
    Connection::open(scene.folder.join("store.db")).unwrap().execute_batch(back).unwrap();
    let scene = scene.again();
    assert_eq!(scene.writer.proof(1), None, "memory was forgotten");
    assert!(scene.receipts(&places) == from_memory, "the disk says the same");
    assert_eq!((by_writer, scene.writer.receipt(1).unwrap()), (from_memory[1].clone(), from_memory[1].clone()));
    std::fs::remove_dir_all(scene.folder).unwrap();
}

#[test]
fn what_no_longer_fits_into_memory_is_proved_from_the_disk() {
    let mut scene = Scene::new("forgotten");
    scene.commit(10, 1);
    let first = scene.receipts(&[3]);
    scene.commit(RECENT_LEAVES_MAX, 1);
    assert_eq!(scene.writer.proof(3), None);
    assert!(scene.writer.proof(10).is_some());
    assert_eq!(scene.receipts(&[3]), first);
    std::fs::remove_dir_all(scene.folder).unwrap();
}

#[test]
fn the_write_ahead_log_stays_within_its_bound_while_the_ledger_writes_on() {
    let mut scene = Scene::new("backfill");
    let bound = u64::from(WAL_PAGES_MAX) * 4_096;
    // Twice the bound in commits of 16 MiB.
    for _ in 0..(2 * bound) >> 24 {
        scene.commit(16, 1 << 20);
        let log = log_bytes(&scene.folder);
        assert!(log < bound + (20 << 20), "{log} bytes of log");
    }
    let folder = scene.folder.clone();
    drop((scene.writer, scene.readers));
    assert_eq!(log_bytes(&folder), 0, "closed whole");
    assert_eq!(Scene::open(folder.clone()).tree, scene.tree);
    std::fs::remove_dir_all(folder).unwrap();
}
