//! Decides whether a witness's tools are what RFC 6962 and C2SP say: consistency proofs against an independent
//! implementation for every pair of small sizes, tiles against the tree, cosignatures against lines that another one made.

use std::convert::Infallible;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use sha2::Sha256;
use tongban::tlog::checkpoint::Checkpoint;
use tongban::tlog::consistency::{ConsistencyError, consistency_path, verify_consistency};
use tongban::tlog::cosignature::{
    CosignatureError, Cosigned, WitnessKey, bare, cosign, cosigners, signer, text, with_lines,
};
use tongban::tlog::note::{KeyError, SigningKey, VerifyingKey, open};
use tongban::tlog::proof::{HashSource, RebuildError, tile};
use tongban::tlog::tree::{LEAVES_MAX, Tree, root_of};
use tongban::tlog::{Hash, leaf_hash};

/// A log in memory, as a gateway stores it.
#[derive(Default)]
struct Stored {
    levels: Vec<Vec<Hash>>,
    roots: Vec<Hash>,
}

impl Stored {
    fn of(size: u64) -> Stored {
        let (mut tree, mut stored) = (Tree::empty(), Stored { levels: vec![vec![]; 9], roots: vec![tree_root()] });
        for index in 0..size {
            let hash = leaf_hash(&leaf(index));
            stored.levels[0].push(hash);
            for root in tree.append(&[hash]).tiles {
                stored.levels[usize::from(root.level)].push(root.hash);
            }
            stored.roots.push(tree.root());
        }
        stored
    }

    fn root(&self, size: u64) -> &Hash {
        &self.roots[size as usize]
    }
}

impl HashSource for Stored {
    type Error = Infallible;

    fn hashes(&self, level: u8, first: u64, count: u64) -> Result<Vec<Hash>, Infallible> {
        assert!((1..=256).contains(&count), "1 to 256 hashes are read at once");
        Ok(self.levels[usize::from(level)][first as usize..(first + count) as usize].to_vec())
    }
}

fn tree_root() -> Hash {
    Tree::empty().root()
}

fn leaf(index: u64) -> Vec<u8> {
    format!("leaf {index}").into_bytes()
}

fn joined(path: &[Hash]) -> Vec<u8> {
    path.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

#[test]
fn an_independent_implementation_makes_the_same_consistency_proofs() {
    const LARGEST: u64 = 300;
    let ours = Stored::of(LARGEST);
    let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    for new in 1..=LARGEST {
        theirs.push(leaf(new - 1));
        for old in 1..new {
            let path = consistency_path(old, new, &ours).unwrap();
            assert_eq!(joined(&path), theirs.prove_consistency((new - old) as usize).as_bytes(), "{old} to {new}");
            assert_eq!(
                verify_consistency((old, ours.root(old)), (new, ours.root(new)), &path),
                Ok(()),
                "{old} to {new}"
            );
        }
    }
}

#[test]
fn a_proof_over_many_tiles_holds() {
    let log = Stored::of(70_000);
    for (old, new) in
        [(1, 70_000), (255, 70_000), (256, 70_000), (257, 69_999), (65_535, 65_536), (65_536, 70_000), (69_999, 70_000)]
    {
        let path = consistency_path(old, new, &log).unwrap();
        assert_eq!(verify_consistency((old, log.root(old)), (new, log.root(new)), &path), Ok(()), "{old} to {new}");
    }
}

#[test]
fn no_other_proof_holds() {
    let (log, other) = (Stored::of(70), leaf_hash(b"another"));
    for new in 1..=70 {
        for old in 1..new {
            let (from, to) = ((old, log.root(old)), (new, log.root(new)));
            let path = consistency_path(old, new, &log).unwrap();
            for place in 0..path.len() {
                let mut changed = path.clone();
                changed[place] = other;
                assert!(verify_consistency(from, to, &changed).is_err(), "{old} to {new}, hash {place} changed");
                changed.remove(place);
                assert!(verify_consistency(from, to, &changed).is_err(), "{old} to {new}, hash {place} left out");
                let twice = [&path[..place], &[path[place]], &path[place..]].concat();
                assert!(verify_consistency(from, to, &twice).is_err(), "{old} to {new}, hash {place} twice");
            }
            let longer = [path.as_slice(), &[other]].concat();
            assert!(verify_consistency(from, to, &longer).is_err(), "{old} to {new}, one more");
            // A complete old tree is where the proof begins, so another root there leads to another new one.
            let named = if old.is_power_of_two() { ConsistencyError::New(new) } else { ConsistencyError::Old(old) };
            assert_eq!(verify_consistency((old, &other), to, &path), Err(named), "{old} to {new}");
            assert_eq!(
                verify_consistency(from, (new, &other), &path),
                Err(ConsistencyError::New(new)),
                "{old} to {new}"
            );
        }
    }
}

#[test]
fn equal_and_empty_logs_need_no_proof_and_take_none() {
    let (log, other) = (Stored::of(9), leaf_hash(b"another"));
    assert_eq!(consistency_path(0, 9, &log).unwrap(), []);
    assert_eq!(consistency_path(9, 9, &log).unwrap(), []);
    assert_eq!(verify_consistency((0, log.root(0)), (9, log.root(9)), &[]), Ok(()));
    assert_eq!(verify_consistency((9, log.root(9)), (9, log.root(9)), &[]), Ok(()));
    assert_eq!(verify_consistency((9, log.root(9)), (9, &other), &[]), Err(ConsistencyError::Old(9)));
    assert_eq!(verify_consistency((0, &other), (9, log.root(9)), &[]), Err(ConsistencyError::Old(0)));
    assert_eq!(verify_consistency((9, log.root(9)), (9, log.root(9)), &[other]), Err(ConsistencyError::Length(1)));
    let sizes = Err(ConsistencyError::Sizes { old: 9, new: 8 });
    assert_eq!(verify_consistency((9, log.root(9)), (8, log.root(8)), &[]), sizes);
    assert_eq!(verify_consistency((3, log.root(3)), (9, log.root(9)), &[]), Err(ConsistencyError::Length(0)));
}

#[test]
fn no_log_is_larger_than_the_largest() {
    let log = Stored::of(1);
    assert_eq!(consistency_path(LEAVES_MAX, LEAVES_MAX, &log).unwrap(), []);
    let larger = consistency_path(LEAVES_MAX + 1, LEAVES_MAX + 1, &log).unwrap_err();
    assert_eq!(larger.to_string(), RebuildError::<Infallible>::Size(LEAVES_MAX + 1).to_string());
    let smaller = consistency_path(2, 1, &log).unwrap_err();
    assert_eq!(smaller.to_string(), RebuildError::<Infallible>::Index { index: 2, size: 1 }.to_string());
}

#[test]
fn tiles_are_those_that_a_size_calls_for() {
    let log = Stored::of(70_000);
    // The example of C2SP tlog-tiles: 273 full tiles and one of 112, one of 256 and one of 17, and one of 1.
    for (level, index, width) in [(0, 0, 256), (0, 272, 256), (0, 273, 112), (1, 0, 256), (1, 1, 17), (2, 0, 1)] {
        let hashes = tile(level, index, width, 70_000, &log).unwrap().unwrap();
        assert_eq!(hashes.len() as u64, width, "{level}/{index}");
        let above = tile(level + 1, 0, 1, 70_000, &log).unwrap();
        if (index, width) == (0, 256) {
            assert_eq!(root_of(&hashes), above.unwrap()[0], "a full tile's root is an entry of the level above");
        }
    }
    for (level, index, width) in [
        (0, 273, 113),
        (0, 274, 1),
        (1, 1, 18),
        (2, 0, 2),
        (3, 0, 1),
        (0, 0, 0),
        (0, 0, 257),
        (0, u64::MAX, 1),
        (9, 0, 1),
    ] {
        assert_eq!(tile(level, index, width, 70_000, &log).unwrap(), None, "{level}/{index} of {width}");
    }
}

/// A log whose key has the seed 07…07, and a witness whose key has the seed 09…09.
const LOG: &str = "450200.gateway.alliance.example/log/a/1";
const WITNESS: &str = "440600.gateway.alliance.example/log/a/1";
const TEXT: &str = "450200.gateway.alliance.example/log/a/1\n3\nd+7kGJdt2XdTwcczYrg5j6Kiz5tP8P3+izDNlSCWFLc=\n";
/// What github.com/transparency-dev/formats v0.1.1 (Go) made of them: the key as a cosigner's, and its line at that second.
const WITNESS_VKEY: &str =
    "440600.gateway.alliance.example/log/a/1+b3fdd240+BP0XJDhaoMdbZPt4zWAvodmR/ev3axPFjtcC6sg16fYY";
const AT_S: u64 = 0x6b0d_0004;
const LINE: &str = "— 440600.gateway.alliance.example/log/a/1 \
    s/3SQAAAAABrDQAEXnVjaaSzRmvt8UqeCIRSbWjtT0ykta0ECx0mOq90Xvumf+v7YQC7T5NtScoUqf4xOi44lthfW2ggpdlr5emlDw==";
/// And the checkpoint as the log signed it.
const SIGNED: &str = "— 450200.gateway.alliance.example/log/a/1 \
    NnNOeXE1jmdEpwjjpdyxRGE3D+wXa2yQlBt5rwponbqCHZf+dqz6EDpewMbjj5pNxD2vnFHPZ3ZHIwbSSCxTRinO5Qg=";

fn log_key() -> SigningKey {
    SigningKey::from_seed(LOG, &[7; 32]).unwrap()
}

fn witness_key() -> SigningKey {
    SigningKey::from_seed(WITNESS, &[9; 32]).unwrap()
}

fn witnesses() -> [WitnessKey; 1] {
    [WitnessKey::of(witness_key().verifying_key())]
}

#[test]
fn a_cosignature_is_byte_for_byte_that_of_another_implementation() {
    assert_eq!(cosign(TEXT, &witness_key(), AT_S).unwrap(), LINE);
    let [witness] = witnesses();
    assert_eq!(witness.to_string(), WITNESS_VKEY);
    assert_eq!(WitnessKey::parse(WITNESS_VKEY), Ok(witness.clone()));
    assert_eq!((witness.name(), witness.id()), (WITNESS, 0xb3fd_d240));
    let note = format!("{TEXT}\n{SIGNED}\n{LINE}\n");
    assert_eq!(cosigners(&note, &[witness]), Ok(vec![Cosigned { witness: 0, at_s: AT_S }]));
    // Who knows the log alone reads the same note, and the log's word in it is what the log signed.
    let log = log_key();
    assert_eq!(Checkpoint::open(&note, &[log.verifying_key().clone()]).unwrap().size, 3);
    assert_eq!(bare(&note, log.verifying_key()).unwrap(), format!("{TEXT}\n{SIGNED}\n"));
    assert_eq!(with_lines(&format!("{TEXT}\n{SIGNED}\n"), [LINE]), note);
}

#[test]
fn the_published_example_reads_and_its_witness_is_a_stranger() {
    // The example of C2SP tlog-cosignature; it names no public key.
    let note = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
        — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        — witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";
    assert_eq!(cosigners(note, &witnesses()), Ok(vec![]));
    assert_eq!(Checkpoint::claimed(note).unwrap().size, 20_852_163);
}

#[test]
fn a_cosignature_holds_for_its_checkpoint_its_time_and_its_witness_alone() {
    let unfit = CosignatureError::Signature { name: WITNESS.to_owned(), id: 0xb3fd_d240 };
    let judged = |text: &str, line: &str| cosigners(&format!("{text}\n{SIGNED}\n{line}\n"), &witnesses());
    assert_eq!(judged(&TEXT.replace("\n3\n", "\n4\n"), LINE), Err(unfit.clone()), "another size");
    assert_eq!(judged(TEXT, &LINE.replace("AABrDQAE", "AABrDQAF")), Err(unfit.clone()), "a second later");
    assert_eq!(judged(TEXT, &LINE.replace("lDw==", "lDg==")), Err(unfit), "another signature");
    assert_eq!(judged(TEXT, &LINE.replace("s/3SQAAAAABr", "s/3SQIAAAABr")), Err(CosignatureError::Line), "beyond 2^63");
    assert_eq!(judged(TEXT, &LINE.replace("s/3SQ", "s/3SR")), Ok(vec![]), "of a key that nobody knows");
    let twice = CosignatureError::Duplicate { name: WITNESS.to_owned(), id: 0xb3fd_d240 };
    assert_eq!(judged(TEXT, &format!("{LINE}\n{LINE}")), Err(twice));
    // What the witness signed as a log is no cosignature, and the other way round, though it is the same key.
    let as_log = witness_key().sign_note(TEXT).unwrap();
    assert_eq!(cosigners(&as_log, &witnesses()), Ok(vec![]));
    let cosigned = format!("{TEXT}\n{LINE}\n");
    assert!(open(&cosigned, &[witness_key().verifying_key().clone()]).is_err());
    let plain = VerifyingKey::parse(WITNESS_VKEY);
    assert_eq!(plain, Err(KeyError::Type(4)));
    assert_eq!(WitnessKey::parse(&witness_key().verifying_key().to_string()), Err(KeyError::Type(1)));
}

#[test]
fn nothing_but_a_checkpoint_is_cosigned() {
    for text in ["", "hello\n", "a b\n3\nd+7kGJdt2XdTwcczYrg5j6Kiz5tP8P3+izDNlSCWFLc=\n", &TEXT[..TEXT.len() - 1]] {
        assert!(cosign(text, &witness_key(), AT_S).is_err(), "{text:?}");
    }
    assert!(cosign(TEXT, &witness_key(), u64::MAX).is_err());
}

#[test]
fn a_cosignatures_time_reaches_to_the_last_second_that_can_be_written() {
    let line = cosign(TEXT, &witness_key(), LEAVES_MAX).unwrap();
    assert_eq!(
        cosigners(&format!("{TEXT}\n{SIGNED}\n{line}\n"), &witnesses()),
        Ok(vec![Cosigned { witness: 0, at_s: LEAVES_MAX }])
    );
    assert!(cosign(TEXT, &witness_key(), LEAVES_MAX + 1).is_err());
}

#[test]
fn a_line_says_who_signed_and_a_note_what_was_signed() {
    assert_eq!(signer(LINE), Some((WITNESS.to_owned(), 0xb3fd_d240)));
    assert_eq!((signer("hello"), signer("")), (None, None));
    let note = format!("{TEXT}\n{SIGNED}\n");
    assert_eq!((text(&note), text(TEXT).is_err()), (Ok(TEXT), true));
    let [witness] = witnesses();
    assert_eq!(format!("{witness:?}"), format!("WitnessKey({WITNESS_VKEY})"));
}

#[test]
fn a_bare_note_holds_what_the_logs_own_key_signed_and_no_other_of_its_name() {
    let other = SigningKey::from_seed(LOG, &[8; 32]).unwrap().sign_note(TEXT).unwrap();
    let foreign = other.lines().last().unwrap();
    let note = format!("{TEXT}\n{foreign}\n{SIGNED}\n");
    assert_eq!(bare(&note, log_key().verifying_key()).unwrap(), format!("{TEXT}\n{SIGNED}\n"));
}
