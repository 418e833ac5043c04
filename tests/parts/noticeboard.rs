//! Decides whether believed notes outlive a restart, and whether what clashes waits without harm. Runs on a folder of its
//! own.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use tongban::directory::notes::{Board, Carried, Doubt, Kind, News};
use tongban::directory::{
    CrlPolicy, Directory, Entry, MemberRecord, alliance_key_name, log_origin_prefix, member_key_name,
};
use tongban::noticeboard::{Fits, Noticeboard, OfferError, Offered, Reader};
use tongban::party::{Alliance, Member};
use tongban::store::Notes;
use tongban::time::Time;
use tongban::tlog::note::SigningKey;

const NOW: Time = Time::from_ms(1_769_846_400_123);
const MEMBERS: [&str; 3] = ["450200", "440600", "hub/main"];

fn alliance() -> Alliance {
    "alliance.example".parse().unwrap()
}

fn alliance_key() -> SigningKey {
    SigningKey::from_seed(&alliance_key_name(&alliance()), &[1; 32]).unwrap()
}

fn member_key(name: &str) -> SigningKey {
    SigningKey::from_seed(&member_key_name(&alliance(), &name.parse().unwrap()), &[2; 32]).unwrap()
}

/// A directory of the three members, entered `more` times over: its version is 4 + `more`.
fn directory(more: usize) -> Carried {
    let entry = |name: &str| {
        let log = format!("{}a/1", log_origin_prefix(&alliance(), &name.parse().unwrap()));
        let record = MemberRecord {
            alliance: alliance(),
            member: name.parse().unwrap(),
            version: 1,
            issued_at: NOW,
            name_zh: "名".to_owned(),
            name_en: "Name".to_owned(),
            key_pin: Some([7; 32]),
            days_max: 397,
            endpoints: vec![],
            roots: vec![],
            log_keys: vec![SigningKey::from_seed(&log, &[9; 32]).unwrap().verifying_key().clone()],
            relays: vec![],
            crl: CrlPolicy::None,
            sealing_key: None,
            unsealed_relay: false,
        };
        let key = member_key(name);
        Entry::open(key.verifying_key().clone(), record.sign(&key).unwrap()).unwrap()
    };
    let names = MEMBERS.into_iter().chain(std::iter::repeat_n("450200", more));
    let empty = Directory::empty(&alliance(), NOW).unwrap();
    let directory = names.fold(empty, |directory, name| directory.with(entry(name), NOW).unwrap());
    let (version, note) = (directory.version(), directory.sign(&alliance_key()).unwrap());
    Carried { kind: Kind::Directory, owner: None, version, note }
}

fn table(owner: &str, version: u64, claims: &str) -> Carried {
    let text = json!({"kind": "tongban.routing-table.v1", "alliance": "alliance.example", "owner": owner,
        "version": version, "issued_at": NOW.to_string(), "routes": [claims]});
    let text = serde_json_canonicalizer::to_string(&text).unwrap() + "\n";
    let note = member_key(owner).sign_note(&text).unwrap();
    Carried { kind: Kind::RoutingTable, owner: Some(owner.parse().unwrap()), version, note }
}

/// Stands in for the compiled index: no two tables may claim the same.
fn no_two_claim_one() -> Fits {
    fn claim(note: &str) -> String {
        let text: serde_json::Value = serde_json::from_str(note.lines().next().unwrap()).unwrap();
        text["routes"][0].as_str().unwrap().to_owned()
    }
    Box::new(|board: &Board, news: &News| {
        let News::Table { owner, note, .. } = news else { return Ok(()) };
        let own = Member::City(owner.clone());
        let mut others = board.notes().filter(|other| other.kind == Kind::RoutingTable);
        match others.find(|other| other.owner.as_ref() != Some(&own) && claim(&other.note) == claim(note)) {
            Some(other) => Err(format!("{} row 1 and {own} row 1 both claim it", other.owner.unwrap())),
            None => Ok(()),
        }
    })
}

fn fresh(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("noticeboard").join(name);
    let _ = fs::remove_dir_all(&folder);
    folder
}

fn open(folder: &std::path::Path, directory: &Carried) -> Noticeboard {
    let (key, notes) = (alliance_key().verifying_key().clone(), Notes::in_folder(folder).unwrap());
    Noticeboard::open(key, directory.note.clone(), notes, no_two_claim_one()).unwrap()
}

fn all(board: &Noticeboard) -> Vec<Carried> {
    let mut reader = Reader::default();
    std::iter::from_fn(|| reader.next(board)).collect()
}

#[test]
fn what_was_believed_is_there_after_a_restart() {
    let folder = fresh("restart");
    let board = open(&folder, &directory(0));
    for note in [table("450200", 1, "a"), table("440600", 1, "b"), directory(2), table("450200", 2, "a")] {
        assert_eq!(board.offer(&note).unwrap(), Offered::Taken);
        assert_eq!(board.offer(&note).unwrap(), Offered::Same);
    }
    let before = all(&board);
    assert_eq!(before.len(), 3);
    drop(board);
    // The configured directory is the old one: the kept one is newer and holds.
    assert_eq!(all(&open(&folder, &directory(0))), before);
    // And a configured one that is newer still.
    let board = open(&folder, &directory(3));
    assert_eq!(board.note(&(Kind::Directory, None)).unwrap().version, 7);
    assert_eq!(board.tables().len(), 2);
    let files = fs::read_dir(folder.join("notes")).unwrap().count();
    assert_eq!(files, 3, "one file a kind and owner");
}

#[test]
fn a_note_changed_on_disk_is_left_out_and_the_rest_stands() {
    let folder = fresh("changed");
    let board = open(&folder, &directory(0));
    board.offer(&table("450200", 1, "a")).unwrap();
    board.offer(&table("440600", 1, "b")).unwrap();
    drop(board);
    let path = folder.join("notes/routing-table.450200.1.note");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"a\"", "\"c\"", 1)).unwrap();
    fs::write(folder.join("notes/README"), "not one of ours").unwrap();
    let board = open(&folder, &directory(0));
    let owners: Vec<_> = board.tables().into_iter().filter_map(|table| table.owner).collect();
    assert_eq!(owners, ["440600".parse().unwrap()]);
    assert_eq!(board.offer(&table("450200", 1, "a")).unwrap(), Offered::Taken, "its owner's word heals it");
}

#[test]
fn a_crash_between_keeping_the_new_and_removing_the_old_leaves_the_new() {
    let folder = fresh("crash");
    let board = open(&folder, &directory(0));
    board.offer(&table("450200", 9, "a")).unwrap();
    let nine = fs::read(folder.join("notes/routing-table.450200.9.note")).unwrap();
    board.offer(&table("450200", 10, "a")).unwrap();
    drop(board);
    fs::write(folder.join("notes/routing-table.450200.9.note"), nine).unwrap();
    assert_eq!(open(&folder, &directory(0)).tables()[0].version, 10);
}

#[test]
fn a_table_that_clashes_waits_and_the_last_good_one_stays() {
    let folder = fresh("clash");
    let board = open(&folder, &directory(0));
    board.offer(&table("450200", 1, "a")).unwrap();
    board.offer(&table("440600", 1, "b")).unwrap();
    let clash = table("440600", 2, "a");
    let Offered::HeldBack(why) = board.offer(&clash).unwrap() else { panic!("held back") };
    assert!(why.contains("450200 row 1") && why.contains("440600 row 1"), "both rows are named: {why}");
    let place = (Kind::RoutingTable, clash.owner);
    assert_eq!(board.note(&place).unwrap().version, 1);
    assert_eq!(board.held_back(), [(place.clone(), why)]);
    assert!(!folder.join("notes/routing-table.440600.2.note").exists());
    // The other owner gives the row up: what waited takes its place by itself.
    let mut changes = board.changes();
    board.offer(&table("450200", 2, "c")).unwrap();
    assert_eq!(board.note(&place).unwrap().version, 2);
    assert!(board.held_back().is_empty() && changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert!(matches!(board.offer(&table("440600", 1, "b")), Err(OfferError::Doubt(Doubt::Older { .. }))));
    assert!(!changes.has_changed().unwrap(), "what changes nothing is no change");
}

#[test]
fn a_disk_that_does_not_take_a_note_leaves_what_was_known() {
    let folder = fresh("disk");
    let board = open(&folder, &directory(0));
    board.offer(&table("450200", 1, "a")).unwrap();
    fs::rename(folder.join("notes"), folder.join("away")).unwrap();
    let new = table("450200", 2, "a");
    assert!(matches!(board.offer(&new), Err(OfferError::Kept(_))));
    assert_eq!(board.tables()[0].version, 1, "nothing is shown that is not kept");
    fs::rename(folder.join("away"), folder.join("notes")).unwrap();
    assert_eq!(board.offer(&new).unwrap(), Offered::Taken);
}

#[test]
fn a_reader_is_told_each_note_once_and_then_what_changes() {
    let board = open(&fresh("reader"), &directory(0));
    board.offer(&table("450200", 1, "a")).unwrap();
    let mut reader = Reader::default();
    let kinds: Vec<Kind> = std::iter::from_fn(|| reader.next(&board)).map(|note| note.kind).collect();
    assert_eq!(kinds, [Kind::Directory, Kind::RoutingTable]);
    board.offer(&table("440600", 1, "b")).unwrap();
    board.offer(&table("440600", 2, "b")).unwrap();
    assert_eq!(reader.next(&board), Some(table("440600", 2, "b")));
    assert_eq!(reader.next(&board), None);
}
