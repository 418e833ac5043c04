//! Uploads into the attachment store: they go on where they were broken off, show nothing of others, keep their bounds,
//! and become blobs only for a message of their own owner.

use std::convert::Infallible;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest as _, Sha256};
use tongban::blobs::{Blobs, Bounds, Need, Owner, Unclaimed, UploadError, Want};
use tongban::limits::{ATTACHMENT_SYNC_BYTES, CHUNK_BYTES_MAX, STAGED_MS};
use tongban::message::{Digest, part_digest};
use tongban::time::Time;

const SALT: [u8; 16] = [7; 16];

struct Store {
    blobs: Blobs,
    folder: PathBuf,
    bounds: Bounds,
}

impl Deref for Store {
    type Target = Blobs;
    fn deref(&self) -> &Blobs {
        &self.blobs
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Store {
    fn new() -> Store {
        Store::with(Bounds::default())
    }

    fn with(bounds: Bounds) -> Store {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tongban-uploads-{}-{number}", std::process::id()));
        let bounds =
            Bounds { reserve_bytes: bounds.reserve_bytes.saturating_sub(Bounds::default().reserve_bytes), ..bounds };
        Store { blobs: Blobs::open_with(folder.clone(), bounds).unwrap(), folder, bounds }
    }

    /// What a new process finds.
    fn reopen(&mut self) {
        self.blobs = Blobs::open_with(self.folder.clone(), self.bounds).unwrap();
    }

    fn files(&self) -> Vec<PathBuf> {
        walk(&self.folder).into_iter().filter(|path| path.is_file()).collect()
    }

    fn stage(&self, owner: &Owner, content: &[u8]) -> Want {
        let want = want(content);
        let mut upload = self.begin(owner, want).unwrap();
        upload.write(&content[upload.offset() as usize..]).unwrap();
        upload.finish().unwrap();
        want
    }

    fn bytes(&self, digest: &Digest, offset: u64) -> Option<Vec<u8>> {
        let mut chunks = self.read(digest, offset).unwrap()?;
        let mut all = vec![];
        while let Some(chunk) = chunks.next_chunk().unwrap() {
            assert!(chunk.len() <= CHUNK_BYTES_MAX);
            all.extend_from_slice(&chunk);
        }
        Some(all)
    }

    fn now(&self) -> Time {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Time::from_ms(now.as_millis() as u64)
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let inner = |path: PathBuf| if path.is_dir() { [walk(&path), vec![path]].concat() } else { vec![path] };
    std::fs::read_dir(folder).unwrap().flat_map(|entry| inner(entry.unwrap().path())).collect()
}

fn sha256(content: &[u8]) -> Digest {
    Digest(Sha256::digest(content).into())
}

fn want(content: &[u8]) -> Want {
    Want { digest: sha256(content), size: content.len() as u64, salt: Some(SALT) }
}

fn need(content: &[u8]) -> Need {
    Need { want: want(content), salted: Some(part_digest(&SALT, content)) }
}

fn alice() -> Owner {
    Owner::identity("spiffe://tongban.test/450100/alice")
}

fn bob() -> Owner {
    Owner::identity("spiffe://tongban.test/450100/bob")
}

fn noise(bytes: usize, mut seed: u64) -> Vec<u8> {
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as u8
    };
    (0..bytes).map(|_| next()).collect()
}

#[test]
fn an_upload_goes_on_at_every_place_where_it_was_broken_off() {
    let content = noise(3 * ATTACHMENT_SYNC_BYTES as usize + 4321, 9);
    for restarts in [false, true] {
        let mut store = Store::new();
        let (mut at, mut piece, mut beginnings) = (0, 1, 0);
        while at < content.len() {
            let mut upload = store.begin(&alice(), want(&content)).unwrap();
            assert_eq!(upload.offset(), at as u64);
            assert_eq!(upload.durable(), at as u64, "what is found is synced before it is relied on");
            let end = content.len().min(at + piece);
            upload.write(&content[at..end]).unwrap();
            assert!(upload.offset() - upload.durable() < ATTACHMENT_SYNC_BYTES);
            (at, piece, beginnings) = (end, piece * 5, beginnings + 1);
            drop(upload);
            if restarts {
                store.reopen();
            }
        }
        assert!(beginnings > 10, "{beginnings}");
        assert!(store.staged(&alice(), &want(&content)).unwrap().is_none(), "whole only when finished");
        let staged = store.begin(&alice(), want(&content)).unwrap().finish().unwrap();
        assert_eq!(staged.salted, part_digest(&SALT, &content));
        store.reopen();
        assert_eq!(store.staged(&alice(), &want(&content)).unwrap(), Some(staged));
        assert_eq!(store.begin(&alice(), want(&content)).unwrap().offset(), content.len() as u64);
        store.claim(&alice(), &[need(&content)]).unwrap().settle();
        for offset in [0, 1, CHUNK_BYTES_MAX, content.len() - 1, content.len()] {
            assert!(store.bytes(&sha256(&content), offset as u64).unwrap() == content[offset..], "from {offset}");
        }
        assert!(store.bytes(&sha256(&content), content.len() as u64 + 1).is_none());
    }
}

#[test]
fn an_empty_attachment_is_one() {
    let store = Store::new();
    store.stage(&alice(), b"");
    store.claim(&alice(), &[need(b"")]).unwrap().settle();
    assert_eq!(store.bytes(&sha256(b""), 0).unwrap(), b"");
}

#[test]
fn bytes_that_are_not_what_was_announced_are_thrown_away() {
    let store = Store::new();
    let mut upload = store.begin(&alice(), want(b"right")).unwrap();
    upload.write(b"wrong").unwrap();
    assert!(matches!(upload.finish(), Err(UploadError::DigestMismatch)));
    assert!(store.files().is_empty(), "{:?}", store.files());
    let upload = store.begin(&alice(), want(b"right")).unwrap();
    assert_eq!(upload.offset(), 0);
}

#[test]
fn too_few_and_too_many_bytes_are_refused_and_cost_nothing_that_was_right() {
    let store = Store::new();
    let mut upload = store.begin(&alice(), want(b"12345")).unwrap();
    upload.write(b"123").unwrap();
    assert!(matches!(upload.write(b"456"), Err(UploadError::Length { have: 6, size: 5 })));
    assert!(matches!(upload.finish(), Err(UploadError::Length { have: 3, size: 5 })));
    let mut upload = store.begin(&alice(), want(b"12345")).unwrap();
    assert_eq!(upload.offset(), 3);
    upload.write(b"45").unwrap();
    upload.finish().unwrap();
}

#[test]
fn who_begins_later_takes_over_and_the_earlier_changes_nothing_more() {
    let store = Store::new();
    let mut first = store.begin(&alice(), want(b"12345")).unwrap();
    first.write(b"12").unwrap();
    let mut second = store.begin(&alice(), want(b"12345")).unwrap();
    assert_eq!(second.offset(), 2);
    assert!(matches!(first.write(b"9"), Err(UploadError::Superseded)));
    assert!(matches!(first.finish(), Err(UploadError::Superseded)));
    let third = store.begin(&alice(), want(b"12345")).unwrap();
    assert!(matches!(second.write(b"3"), Err(UploadError::Superseded)), "the first one's end gave nothing free");
    drop(second);
    let mut third = third;
    third.write(b"345").unwrap();
    third.finish().unwrap();
    assert!(store.staged(&alice(), &want(b"12345")).unwrap().is_some());
}

#[test]
fn taking_over_in_a_crowd_leaves_one_whole_upload() {
    let store = Store::new();
    let content = noise(200_000, 5);
    let whole = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..6u64 {
            let (store, content, whole) = (&store, &content, &whole);
            scope.spawn(move || {
                for round in 0..40 {
                    let Ok(mut upload) = store.begin(&alice(), want(content)) else { continue };
                    let from = upload.offset() as usize;
                    // Half of them bring wrong bytes: whoever finishes with them throws all away.
                    let bytes = if (thread + round) % 2 == 0 { content.clone() } else { vec![0; content.len()] };
                    let pieces = bytes[from..].chunks(30_000).try_for_each(|piece| upload.write(piece));
                    if pieces.and_then(|()| upload.finish()).is_ok() {
                        whole.fetch_add(1, Ordering::SeqCst);
                        let claim = store.claim(&alice(), &[need(content)]);
                        match claim {
                            Ok(claim) => claim.settle(),
                            Err(Unclaimed::Missing(0)) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            });
        }
    });
    assert!(whole.load(Ordering::SeqCst) > 0);
    assert!(store.bytes(&sha256(&content), 0).unwrap() == content, "the blob has the bytes of its name");
    store.stage(&alice(), &content);
    store.claim(&alice(), &[need(&content)]).unwrap().settle();
}

#[test]
fn bounds_hold_for_each_owner_alone() {
    let bounds =
        Bounds { attachment_bytes_max: (8, 9), staged_bytes_max: 10, staged_max: 4, open_max: 2, ..Bounds::default() };
    let store = Store::with(bounds);
    assert!(matches!(store.begin(&alice(), want(b"123456789")), Err(UploadError::TooLarge(8))));
    let sealed = Want { salt: None, ..want(b"1234567890") };
    assert!(matches!(store.begin(&alice(), sealed), Err(UploadError::TooLarge(9))));

    let first = store.begin(&alice(), want(b"1")).unwrap();
    let second = store.begin(&alice(), want(b"2")).unwrap();
    assert!(matches!(store.begin(&alice(), want(b"3")), Err(UploadError::TooMany("uploads open"))));
    let again = store.begin(&alice(), want(b"2")).unwrap();
    drop(store.begin(&bob(), want(b"3")).unwrap());
    drop((first, second, again));

    let announced = store.begin(&alice(), want(b"12345678")).unwrap();
    assert!(
        matches!(store.begin(&alice(), want(b"abc")), Err(UploadError::TooMany("bytes staged"))),
        "announced counts"
    );
    drop(announced);
    drop(store.begin(&alice(), want(b"4")).unwrap());
    assert!(matches!(store.begin(&alice(), want(b"abc")), Err(UploadError::TooMany("uploads staged"))));

    let store = Store::with(bounds);
    store.stage(&alice(), b"12345678");
    assert!(matches!(store.begin(&alice(), want(b"abc")), Err(UploadError::TooMany("bytes staged"))), "staged counts");
    store.claim(&alice(), &[need(b"12345678")]).unwrap().settle();
    store.stage(&alice(), b"abc");
}

#[test]
fn the_disk_keeps_its_reserve() {
    let store = Store::with(Bounds { reserve_bytes: u64::MAX, ..Bounds::default() });
    assert!(matches!(store.begin(&alice(), want(b"1")), Err(UploadError::Full)));
    assert!(store.files().is_empty());
}

#[test]
fn a_digest_is_no_capability() {
    let store = Store::new();
    store.stage(&alice(), b"secret");
    let missing = |owner: &Owner, need: Need| matches!(store.claim(owner, &[need]), Err(Unclaimed::Missing(0)));
    for claimed in [false, true] {
        if claimed {
            store.claim(&alice(), &[need(b"secret")]).unwrap().settle();
        }
        assert!(missing(&bob(), need(b"secret")), "claimed by its owner: {claimed}");
        assert!(store.staged(&bob(), &want(b"secret")).unwrap().is_none());
        let upload = store.begin(&bob(), want(b"secret")).unwrap();
        assert_eq!(upload.offset(), 0, "nobody is told that the bytes are there");
    }
    assert!(missing(&alice(), need(b"secret")), "and an upload serves one message");
}

#[test]
fn a_claim_wants_exactly_what_was_uploaded() {
    let store = Store::new();
    let mut half = store.begin(&alice(), want(b"half of it")).unwrap();
    half.write(b"half").unwrap();
    let good = need(b"content");
    store.stage(&alice(), b"content");
    let faults = [
        ("digest", Need { want: Want { digest: sha256(b"other"), ..good.want }, ..good }),
        ("size", Need { want: Want { size: 8, ..good.want }, ..good }),
        ("salt", Need { want: Want { salt: Some([8; 16]), ..good.want }, ..good }),
        ("no salt", Need { want: Want { salt: None, ..good.want }, ..good }),
        ("salted digest", Need { salted: Some(good.want.digest), ..good }),
        ("not whole", need(b"half of it")),
    ];
    for (what, fault) in faults {
        let refused = store.claim(&alice(), &[good, fault]);
        assert!(matches!(refused, Err(Unclaimed::Missing(1))), "{what}");
    }
    store.claim(&alice(), &[good, good]).unwrap().settle();
}

#[test]
fn a_claim_that_the_ledger_did_not_answer_can_be_made_again() {
    let mut store = Store::new();
    store.stage(&alice(), b"content");
    let (one, other) = (store.claim(&alice(), &[need(b"content")]), store.claim(&alice(), &[need(b"content")]));
    drop((one.unwrap(), other.unwrap()));
    store.reopen();
    let claim = store.claim(&alice(), &[need(b"content")]).unwrap();
    assert_eq!(claim.pins().iter().map(|pin| pin.digest()).collect::<Vec<_>>(), [sha256(b"content")]);
    claim.settle();
    assert_eq!(store.files().len(), 1, "one blob and nothing beside it");
}

#[test]
fn one_content_under_two_salts_is_two_uploads_and_one_blob() {
    let store = Store::new();
    store.stage(&alice(), b"content");
    let plain = Want { salt: None, ..want(b"content") };
    let mut upload = store.begin(&alice(), plain).unwrap();
    assert_eq!(upload.offset(), 0);
    upload.write(b"content").unwrap();
    assert_eq!(upload.finish().unwrap().salted, plain.digest);
    store.claim(&alice(), &[need(b"content"), Need { want: plain, salted: None }]).unwrap().settle();
    assert_eq!(store.files().len(), 1);
}

#[test]
fn uploads_that_nobody_touches_go_after_their_time_and_no_other() {
    let store = Store::new();
    store.stage(&alice(), b"whole");
    drop(store.begin(&bob(), want(b"begun")).unwrap());
    let open = store.begin(&bob(), want(b"open")).unwrap();
    let now = store.now();
    assert_eq!(store.sweep_staging(now.plus_ms(STAGED_MS - 5_000)).unwrap().files, 0);
    assert_eq!(store.sweep_staging(now.plus_ms(STAGED_MS + 5_000)).unwrap().files, 2);
    assert!(store.staged(&alice(), &want(b"whole")).unwrap().is_none());
    drop(open);
    assert_eq!(store.sweep_staging(now.plus_ms(STAGED_MS + 5_000)).unwrap().files, 1);
    assert!(walk(&store.folder.join("staging")).is_empty(), "nothing, and no owner's folder");
    store.stage(&alice(), b"whole");
}

#[test]
fn a_blob_goes_when_nothing_refers_to_it_and_its_grace_is_over() {
    let store = Store::new();
    store.stage(&alice(), b"content");
    store.claim(&alice(), &[need(b"content")]).unwrap().settle();
    let now = store.now();
    let sweep = |at: Time, referenced| store.sweep(at, 60_000, |_| Ok::<_, Infallible>(referenced)).unwrap().files;
    assert_eq!(sweep(now.plus_ms(50_000), false), 0, "too young");
    assert_eq!(sweep(now.plus_ms(70_000), true), 0, "referred to");
    let failed = store.sweep(now.plus_ms(70_000), 60_000, |_| Err("the store does not answer"));
    assert!(failed.is_err(), "no answer is no permission");
    let mut reading = store.read(&sha256(b"content"), 3).unwrap().unwrap();
    assert_eq!(sweep(now.plus_ms(70_000), false), 1);
    assert!(store.read(&sha256(b"content"), 0).unwrap().is_none());
    assert_eq!(reading.next_chunk().unwrap().unwrap(), "tent", "who reads reads on");
}

#[test]
fn a_claim_of_a_blob_that_is_there_begins_its_grace_anew() {
    let store = Store::new();
    let claim = |owner: &Owner| {
        store.stage(owner, b"content");
        drop(store.claim(owner, &[need(b"content")]).unwrap());
        store.now()
    };
    let first = claim(&alice());
    while store.now() < first.plus_ms(100) {
        std::thread::yield_now();
    }
    let sweep = |at: Time| store.sweep(at, 60_000, |_| Ok::<_, Infallible>(false)).unwrap().files;
    let second = claim(&bob());
    assert_eq!(sweep(first.plus_ms(60_050)), 0, "the first claim's grace is over, the second's is not");
    assert_eq!(sweep(second.plus_ms(60_050)), 1);
}

#[test]
fn files_are_for_their_owner_alone_and_named_by_digests() {
    let store = Store::new();
    store.stage(&alice(), b"content");
    drop(store.claim(&alice(), &[need(b"content")]).unwrap());
    let digits = |name: &str| name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    for path in walk(&store.folder) {
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        let name = path.file_name().unwrap().to_str().unwrap().trim_end_matches(".whole");
        assert!(digits(name) || ["blobs", "staging"].contains(&name), "{name}");
    }
    assert_eq!(store.folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn what_a_crash_left_half_written_is_gone_after_opening() {
    let mut store = Store::new();
    store.stage(&alice(), b"content");
    let word = store.files().into_iter().find(|path| path.extension().is_some()).unwrap();
    std::fs::write(word.with_extension("whole.new"), "half a wo").unwrap();
    std::fs::write(word.with_file_name(format!("{}.whole", "ab".repeat(32))), "a word about nothing").unwrap();
    // A word that does not read says nothing: the bytes are hashed again.
    std::fs::write(&word, "no digest").unwrap();
    store.reopen();
    assert_eq!(store.files().len(), 2);
    assert!(store.staged(&alice(), &want(b"content")).unwrap().is_none());
    let staged = store.begin(&alice(), want(b"content")).unwrap().finish().unwrap();
    assert_eq!(staged.salted, part_digest(&SALT, b"content"));
}
