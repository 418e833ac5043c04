//! Decides whether a carried note is believed only for its owner's own and newest word, whoever carries it. Never touches a
//! disk or a network.

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::json;
use tongban::directory::notes::{Board, Carried, Doubt, Judged, Kind, News};
use tongban::directory::{
    CrlPolicy, Directory, Entry, Generation, MemberRecord, UpdateError, alliance_key_name, log_origin_prefix,
    member_key_name,
};
use tongban::party::{Alliance, Member};
use tongban::time::Time;
use tongban::tlog::note::{NoteError, SigningKey, VerifyingKey};

const NOW: Time = Time::from_ms(1_769_846_400_123);
const MEMBERS: [(&str, u8); 3] = [("450200", 2), ("440600", 3), ("hub/main", 4)];

fn alliance() -> Alliance {
    "alliance.example".parse().unwrap()
}

fn member(text: &str) -> Member {
    text.parse().unwrap()
}

fn alliance_key() -> SigningKey {
    SigningKey::from_seed(&alliance_key_name(&alliance()), &[1; 32]).unwrap()
}

fn member_key(text: &str) -> SigningKey {
    let seed = MEMBERS.iter().find(|(name, _)| *name == text).map_or(99, |(_, seed)| *seed);
    SigningKey::from_seed(&member_key_name(&alliance(), &member(text)), &[seed; 32]).unwrap()
}

fn log_key(text: &str, place: &str, seed: u8) -> VerifyingKey {
    let origin = format!("{}{place}", log_origin_prefix(&alliance(), &member(text)));
    SigningKey::from_seed(&origin, &[seed; 32]).unwrap().verifying_key().clone()
}

/// What every test can do with an alliance of two cities and a hub.
struct World {
    authority: rustls::pki_types::CertificateDer<'static>,
    board: Board,
}

impl World {
    fn new() -> World {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority: rustls::pki_types::CertificateDer<'static> =
            params.self_signed(&KeyPair::generate().unwrap()).unwrap().into();
        let note = directory(MEMBERS.iter().map(|(name, _)| record(&authority, name, 1))).1;
        World { board: Board::new(alliance_key().verifying_key().clone(), note).unwrap(), authority }
    }

    fn record(&self, name: &str, version: u64) -> MemberRecord {
        record(&self.authority, name, version)
    }

    /// A record as its member signs it.
    fn carried_record(&self, name: &str, version: u64) -> Carried {
        carried(Kind::MemberRecord, name, version, self.record(name, version).sign(&member_key(name)).unwrap())
    }

    /// The news of a note that must be believed, taken.
    fn take(&mut self, carried: &Carried) {
        match self.board.judge(carried) {
            Ok(Judged::News(news)) => self.board.take(news),
            other => panic!("{other:?}"),
        }
    }
}

fn record(authority: &rustls::pki_types::CertificateDer<'static>, name: &str, version: u64) -> MemberRecord {
    MemberRecord {
        alliance: alliance(),
        member: member(name),
        version,
        issued_at: NOW,
        name_zh: "名".to_owned(),
        name_en: "Name".to_owned(),
        key_pin: None,
        days_max: 397,
        endpoints: vec![format!("v{version}.example:7501").parse().unwrap()],
        roots: vec![authority.clone()],
        log_keys: vec![log_key(name, "a/1", 9)],
        relays: vec![],
        crl: CrlPolicy::None,
        sealing_key: None,
        unsealed_relay: false,
    }
}

/// A directory with these records, and its note. Its version is one more than their number.
fn directory(records: impl Iterator<Item = MemberRecord>) -> (Directory, String) {
    let empty = Directory::empty(&alliance(), NOW).unwrap();
    let directory = records.fold(empty, |directory, record| {
        let key = member_key(&record.member.to_string());
        let entry = Entry::open(key.verifying_key().clone(), record.sign(&key).unwrap()).unwrap();
        directory.with(entry, NOW).unwrap()
    });
    let note = directory.sign(&alliance_key()).unwrap();
    (directory, note)
}

fn carried(kind: Kind, owner: &str, version: u64, note: String) -> Carried {
    Carried { kind, owner: Some(member(owner)), version, note }
}

fn table_text(owner: &str, version: u64) -> String {
    let json = json!({"kind": "tongban.routing-table.v1", "alliance": "alliance.example", "owner": owner,
        "version": version, "issued_at": NOW.to_string(), "routes": []});
    serde_json_canonicalizer::to_string(&json).unwrap() + "\n"
}

fn table(owner: &str, version: u64) -> Carried {
    let note = member_key(owner).sign_note(&table_text(owner, version)).unwrap();
    carried(Kind::RoutingTable, owner, version, note)
}

fn generation(owner: &str, version: u64, place: &str) -> Generation {
    let last = format!("{}a/1\n7\nAAAA\n\n— x AAAA\n", log_origin_prefix(&alliance(), &member(owner)));
    Generation {
        alliance: alliance(),
        member: member(owner),
        version,
        issued_at: NOW,
        log_key: log_key(owner, place, 10 + version as u8),
        last_checkpoint: Some(last),
    }
}

fn carried_generation(owner: &str, version: u64, place: &str) -> Carried {
    let note = generation(owner, version, place).sign(&member_key(owner)).unwrap();
    carried(Kind::Generation, owner, version, note)
}

#[test]
fn each_kind_of_note_is_believed_once_and_then_known() {
    let mut world = World::new();
    let (_, note) = directory((0..4).map(|i| world.record(MEMBERS[i % 3].0, 1)));
    for note in [
        world.carried_record("450200", 2),
        table("450200", 1),
        carried_generation("hub/main", 1, "a/2"),
        Carried { kind: Kind::Directory, owner: None, version: 5, note },
    ] {
        world.take(&note);
        assert_eq!(world.board.judge(&note), Ok(Judged::Same), "{}", note.kind);
    }
    assert_eq!(world.board.signed().version(), 5);
}

#[test]
fn a_note_that_is_not_its_owners_newest_word_changes_nothing() {
    let mut world = World::new();
    world.take(&table("450200", 5));
    world.take(&world.carried_record("450200", 5));
    let by = |key: &SigningKey, text: &str| key.sign_note(text).unwrap();
    let own = table("450200", 6);
    let named_like = SigningKey::from_seed(member_key("450200").verifying_key().name(), &[77; 32]).unwrap();
    let other_words = by(&member_key("450200"), &table_text("450200", 5).replace("\"routes\":[]", "\"routes\":[1]"));
    let abroad = table_text("450200", 6).replace("alliance.example", "other.example");
    let other_record = MemberRecord { days_max: 30, ..world.record("440600", 1) }.sign(&member_key("440600")).unwrap();
    let other_record = carried(Kind::MemberRecord, "440600", 1, other_record);
    let before: Vec<Carried> = world.board.notes().collect();
    for (what, note, code) in [
        ("nobody's", carried(Kind::RoutingTable, "330100", 1, own.note.clone()), "Stranger"),
        (
            "another member's signature",
            Carried { note: by(&member_key("440600"), &table_text("450200", 6)), ..own.clone() },
            "Forged(Unsigned",
        ),
        (
            "the alliance's signature",
            Carried { note: by(&alliance_key(), &table_text("450200", 6)), ..own.clone() },
            "Forged(Unsigned",
        ),
        (
            "a key of the same name",
            Carried { note: by(&named_like, &table_text("450200", 6)), ..own.clone() },
            "Forged(Unsigned",
        ),
        (
            "altered after signing",
            Carried { note: own.note.replacen("\"version\":6", "\"version\":7", 1), version: 7, ..own.clone() },
            "Forged(Signature",
        ),
        ("no note at all", Carried { note: "x".to_owned(), ..own.clone() }, "Forged(Format"),
        (
            "signed for another owner",
            carried(Kind::RoutingTable, "440600", 6, by(&member_key("440600"), &table_text("450200", 6))),
            "NotYours",
        ),
        ("carried as another's", Carried { owner: Some(member("440600")), ..own.clone() }, "Forged(Unsigned"),
        ("a hub's table", table("hub/main", 1), "NotYours"),
        ("another alliance's", Carried { note: by(&member_key("450200"), &abroad), ..own.clone() }, "Alliance"),
        ("a lower version said", Carried { version: 4, ..own.clone() }, "Version"),
        ("a higher version said", Carried { version: 7, ..own.clone() }, "Version"),
        ("an older table", table("450200", 4), "Older"),
        ("two tables of one version", Carried { version: 5, note: other_words, ..own.clone() }, "TwoOfOneVersion"),
        ("an older record", world.carried_record("450200", 4), "Older"),
        ("another record of the version that the directory lists", other_record, "TwoOfOneVersion"),
        ("a table as a record", Carried { kind: Kind::MemberRecord, ..own.clone() }, "Record"),
        ("a record as a table", Carried { kind: Kind::RoutingTable, ..world.carried_record("450200", 6) }, "Text"),
        ("a record as a generation", Carried { kind: Kind::Generation, ..world.carried_record("450200", 6) }, "Record"),
        ("a directory with an owner", Carried { kind: Kind::Directory, ..own.clone() }, "Owner"),
        ("a table without an owner", Carried { owner: None, ..own.clone() }, "Owner"),
        (
            "a directory signed by a member",
            Carried { kind: Kind::Directory, owner: None, version: 6, note: own.note.clone() },
            "Forged(Unsigned",
        ),
    ] {
        let doubt = world.board.judge(&note).expect_err(what);
        assert!(format!("{doubt:?}").starts_with(code), "{what}: {doubt:?}");
        assert!(!doubt.to_string().is_empty());
    }
    assert_eq!(world.board.notes().collect::<Vec<_>>(), before);
    assert!(matches!(world.board.judge(&own), Ok(Judged::News(News::Table { version: 6, .. }))), "or nothing is said");
}

#[test]
fn another_signature_over_the_same_words_is_no_news() {
    let mut world = World::new();
    let own = table("450200", 1);
    world.take(&own);
    let line = alliance_key().sign_note(&table_text("450200", 1)).unwrap();
    let second = Carried { note: own.note.clone() + line.lines().last().unwrap() + "\n", ..own };
    assert_eq!(world.board.judge(&second), Ok(Judged::Same));
}

#[test]
fn only_what_somebody_must_look_at_raises_an_alarm() {
    for (doubt, alarms) in [
        (Doubt::Older { held: 2, found: 1 }, false),
        (Doubt::Update(UpdateError::Older { held: 2, found: 1 }), false),
        (Doubt::Forged(NoteError::Unsigned), true),
        (Doubt::TwoOfOneVersion { version: 1 }, true),
        (Doubt::Update(UpdateError::TwoOfOneVersion { version: 1 }), true),
        (Doubt::Stranger(member("450200")), true),
    ] {
        assert_eq!(doubt.alarms(), alarms, "{doubt}");
    }
}

#[test]
fn what_members_have_signed_since_holds_until_the_alliance_lists_it() {
    let mut world = World::new();
    world.take(&world.carried_record("450200", 3));
    world.take(&carried_generation("440600", 1, "a/2"));
    let holds = world.board.directory();
    let endpoint = |directory: &Directory| directory.member(&member("450200")).unwrap().endpoints[0].to_string();
    assert_eq!(
        (endpoint(&holds), endpoint(world.board.signed())),
        ("v3.example:7501".into(), "v1.example:7501".into())
    );
    let new_log = log_key("440600", "a/2", 11);
    let (whose, key) = holds.log_key(new_log.name()).unwrap();
    assert_eq!((&whose.member, key), (&member("440600"), &new_log));
    assert!(holds.log_key(log_key("440600", "a/1", 9).name()).is_some(), "receipts of the old log still verify");
    assert!(world.board.signed().log_key(new_log.name()).is_none());
    assert_eq!((holds.version(), holds.text()), (world.board.signed().version(), world.board.signed().text()));
    // The directory catches up, with a record that is newer still.
    let newer = [
        world.record("450200", 4),
        world.record("440600", 1),
        world.record("hub/main", 1),
        world.record("hub/main", 1),
    ];
    let (_, note) = directory(newer.into_iter());
    world.take(&Carried { kind: Kind::Directory, owner: None, version: 5, note });
    assert_eq!(endpoint(&world.board.directory()), "v4.example:7501");
    assert!(world.board.directory().log_key(new_log.name()).is_some(), "the statement holds on");
    let kinds: Vec<Kind> = world.board.notes().map(|note| note.kind).collect();
    assert_eq!(kinds, [Kind::Directory, Kind::Generation], "the older record is gone");
    assert!(matches!(world.board.judge(&world.carried_record("450200", 3)), Err(Doubt::Older { held: 4, found: 3 })));
}

#[test]
fn a_generation_does_not_give_a_known_log_another_key() {
    let world = World::new();
    let statement = Generation { last_checkpoint: None, ..generation("440600", 1, "a/1") };
    let note = statement.sign(&member_key("440600")).unwrap();
    let doubt = world.board.judge(&carried(Kind::Generation, "440600", 1, note));
    assert!(matches!(doubt, Err(Doubt::LogKey { .. })), "{doubt:?}");
}

#[test]
fn a_generation_reads_back_and_names_logs_of_its_own_member_only() {
    let key = member_key("440600");
    let statement = generation("440600", 2, "a/2");
    assert_eq!(Generation::open(&statement.sign(&key).unwrap(), key.verifying_key()), Ok(statement.clone()));
    assert!(!Generation { last_checkpoint: None, ..statement.clone() }.text().unwrap().contains("last_checkpoint"));
    for bad in [
        Generation { log_key: log_key("450200", "a/2", 9), ..statement.clone() },
        Generation { version: 0, ..statement.clone() },
        Generation { last_checkpoint: Some(String::new()), ..statement.clone() },
        Generation { last_checkpoint: generation("450200", 1, "a/1").last_checkpoint, ..statement.clone() },
        Generation { last_checkpoint: Some(statement.log_key.name().to_owned() + "\n"), ..statement.clone() },
        Generation { alliance: "other.example".parse().unwrap(), ..statement.clone() },
    ] {
        assert!(bad.sign(&key).is_err(), "{bad:?}");
    }
}

#[test]
fn a_member_that_left_takes_its_notes_along() {
    let mut world = World::new();
    world.take(&table("440600", 1));
    world.take(&table("450200", 1));
    let stay = [world.record("450200", 1), world.record("hub/main", 1)];
    let again = [world.record("450200", 1), world.record("hub/main", 1)];
    let (_, note) = directory(stay.into_iter().chain(again));
    world.take(&Carried { kind: Kind::Directory, owner: None, version: 5, note });
    let owners: Vec<Option<Member>> = world.board.notes().map(|note| note.owner).collect();
    assert_eq!(owners, [None, Some(member("450200"))]);
    assert_eq!(world.board.judge(&table("440600", 2)), Err(Doubt::Stranger(member("440600"))));
}

#[test]
fn all_notes_read_again_make_the_same_board() {
    let mut world = World::new();
    for note in [table("450200", 3), world.carried_record("440600", 2), carried_generation("450200", 1, "b/1")] {
        world.take(&note);
    }
    let notes: Vec<Carried> = world.board.notes().collect();
    let mut again = Board::new(alliance_key().verifying_key().clone(), notes[0].note.clone()).unwrap();
    for note in &notes[1..] {
        match again.judge(note) {
            Ok(Judged::News(news)) => again.take(news),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(again.notes().collect::<Vec<_>>(), notes);
    assert_eq!(again.directory(), world.board.directory());
}
