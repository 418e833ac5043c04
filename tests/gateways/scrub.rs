//! What a walk over the whole log notices: every leaf, every tile, the root; in pieces, and under a log that grows.

use crate::alliance::envelope;
use crate::bench::{APPROVAL, Bench, WINDOW, take};
use rusqlite::Connection;
use tongban::store::{Error, Readers};

/// A log of this many leaves, two of each message.
fn log_of(leaves: u64) -> Bench {
    let mut bench = Bench::new();
    while bench.size() < leaves {
        bench.apply((0..100).map(|_| take(envelope(WINDOW, APPROVAL))).collect());
    }
    bench
}

/// Walks in pieces of this many leaves: how many pieces, or what is damaged.
fn walk(readers: &Readers, piece: u64) -> Result<u32, String> {
    let mut scrub = readers.look(|look| look.scrub()).unwrap();
    for pieces in 1.. {
        match readers.look(|look| look.scrub_on(&mut scrub, piece)) {
            Ok(true) => {}
            Ok(false) => return Ok(pieces),
            Err(Error::Damaged(what)) => return Err(what),
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("a walk ends")
}

#[test]
fn a_sound_log_is_walked_over_in_pieces_of_any_size() {
    let empty = Bench::new();
    assert_eq!(walk(&empty.readers, 100), Ok(1));
    let bench = log_of(600);
    let size = bench.size();
    for piece in [1, 100, 256, 257, size, size + 1] {
        assert_eq!(walk(&bench.readers, piece), Ok(size.div_ceil(piece) as u32), "pieces of {piece}");
    }
}

#[test]
fn a_log_that_grows_meanwhile_is_walked_over_to_where_it_ended() {
    let mut bench = log_of(600);
    let mut scrub = bench.readers.look(|look| look.scrub()).unwrap();
    assert!(bench.readers.look(|look| look.scrub_on(&mut scrub, 300)).unwrap());
    bench.apply(vec![take(envelope(WINDOW, APPROVAL))]);
    assert!(!bench.readers.look(|look| look.scrub_on(&mut scrub, 10_000)).unwrap());
}

/// Each kind of row, one bit changed or one row gone.
const DAMAGE: [(&str, &str); 6] = [
    (
        "UPDATE leaf SET bytes = CAST(x'00' || substr(bytes, 2) AS BLOB) WHERE idx = 123",
        "leaf 123 is not what its hash says",
    ),
    ("UPDATE leaf SET bytes = NULL, hash = zeroblob(32) WHERE idx = 7", "tile 0 of level 1 is not over its leaves"),
    ("UPDATE leaf SET bytes = NULL, hash = zeroblob(32) WHERE idx = 599", "leaves have not the root that was signed"),
    ("UPDATE tile SET hash = zeroblob(32) WHERE idx = 1", "tile 1 of level 1 is not over its leaves"),
    ("DELETE FROM tile WHERE idx = 0", "tile 0 of level 1 is not over its leaves"),
    ("DELETE FROM leaf WHERE idx = 300", "leaves are missing"),
];

#[test]
fn whatever_changes_in_the_log_is_found_and_named() {
    let mut bench = log_of(600);
    assert_eq!(bench.size(), 600, "the damage below is meant for so many");
    let store = bench.folder.join("store.db");
    for (damage, named) in DAMAGE {
        let sql = Connection::open(&store).unwrap();
        sql.execute_batch("CREATE TEMP TABLE l AS SELECT * FROM leaf; CREATE TEMP TABLE t AS SELECT * FROM tile;")
            .unwrap();
        sql.execute_batch(damage).unwrap();
        for piece in [100, 10_000] {
            let found = walk(&bench.readers, piece).expect_err(damage);
            assert!(found.contains(named), "{damage}: {found}");
        }
        sql.execute_batch(
            "DELETE FROM leaf; INSERT INTO leaf SELECT * FROM l; DELETE FROM tile; INSERT INTO tile SELECT * FROM t;",
        )
        .unwrap();
        assert_eq!(walk(&bench.readers, 256), Ok(3), "mended after {damage}");
    }
    bench.apply(vec![]);
}
