//! Decides whether sealing keeps its published form (docs/sealing.md): the vectors that tests/python/seal.py made from that
//! page, and every way in which sealed bytes can be altered, moved, cut or lengthened. Never makes a vector itself.

use std::process::Command;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tongban::directory::{SealingKey, SealingKeyId};
use tongban::limits::{ATTACHMENT_BYTES_MAX, SEAL_CHUNK_BYTES, SEALED_ATTACHMENT_BYTES_MAX};
use tongban::message::Digest;
use tongban::party::{Alliance, Member};
use tongban::seal::{
    Context, ENCAPSULATED_BYTES, OpenError, OpeningKey, SealError, Sealed, StreamOpener, StreamSealer, TAG_BYTES, open,
    plain_size, seal, sealed_size,
};

/// One message for one reader.
struct Setting {
    alliance: Alliance,
    recipient: Member,
    header_digest: Digest,
    key: OpeningKey,
}

impl Setting {
    fn new() -> Setting {
        let key = OpeningKey::from_seed(&[1; 32]);
        let (alliance, recipient) = ("alliance.example".parse().unwrap(), "450200".parse().unwrap());
        Setting { alliance, recipient, header_digest: Digest([7; 32]), key }
    }

    fn context(&self) -> Context<'_> {
        Context { alliance: &self.alliance, recipient: &self.recipient, header_digest: self.header_digest }
    }

    fn seal(&self, plain: &[u8]) -> Sealed {
        seal(self.key.public(), &self.context(), plain, [2; 32]).unwrap()
    }

    fn open(&self, sealed: &Sealed) -> Result<Vec<u8>, OpenError> {
        open(std::slice::from_ref(&self.key), &self.context(), sealed)
    }

    fn stream(&self, position: u32, plain: &[u8], step: usize) -> Vec<u8> {
        stream(self.key.public(), &self.context(), position, [2; 32], plain, step)
    }

    fn unstream(&self, position: u32, sealed: &[u8], step: usize) -> Result<Vec<u8>, OpenError> {
        let (mut opener, mut out) = (StreamOpener::begin(&self.key, &self.context(), position), vec![]);
        sealed.chunks(step).try_for_each(|piece| opener.write(piece, &mut out))?;
        opener.finish(&mut out).map(|()| out)
    }
}

fn stream(to: &SealingKey, context: &Context, at: u32, chance: [u8; 32], plain: &[u8], step: usize) -> Vec<u8> {
    let mut out = vec![];
    let mut sealer = StreamSealer::begin(to, context, at, chance, &mut out).unwrap();
    plain.chunks(step).for_each(|piece| sealer.write(piece, &mut out).unwrap());
    sealer.finish(&mut out).unwrap();
    out
}

/// As `plain` in tests/python/seal.py: no two chunks are alike.
fn plain(size: usize) -> Vec<u8> {
    (0..size).map(|i| ((i + i / 251) % 256) as u8).collect()
}

fn vectors(kind: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../data/vectors/seal.json")).unwrap();
    all[kind].as_array().unwrap().clone()
}

fn bytes<const N: usize>(of: &Value, name: &str) -> [u8; N] {
    hex::decode(of[name].as_str().unwrap()).unwrap().try_into().unwrap()
}

fn setting(of: &Value) -> Setting {
    Setting {
        alliance: of["alliance"].as_str().unwrap().parse().unwrap(),
        recipient: of["recipient"].as_str().unwrap().parse().unwrap(),
        header_digest: Digest(bytes(of, "header_digest")),
        key: OpeningKey::from_seed(&bytes(of, "seed")),
    }
}

#[test]
fn part_lists_are_sealed_as_the_published_vectors_say() {
    let all = vectors("parts");
    assert!(all.len() >= 4);
    for vector in &all {
        let setting = setting(vector);
        let plain = plain(vector["size"].as_u64().unwrap() as usize);
        let sealed = seal(setting.key.public(), &setting.context(), &plain, bytes(vector, "chance")).unwrap();
        assert_eq!(setting.key.public(), &SealingKey::from_bytes(bytes(vector, "public")));
        assert_eq!(sealed.key_id, SealingKeyId(bytes(vector, "key_id")));
        assert_eq!(sealed.encapsulated, bytes::<32>(vector, "encapsulated"));
        assert_eq!(hex::encode(&sealed.ciphertext), vector["ciphertext"].as_str().unwrap());
        assert_eq!(setting.open(&sealed), Ok(plain));
    }
}

#[test]
fn attachments_are_sealed_as_the_published_vectors_say() {
    let all = vectors("attachments");
    assert!(all.len() >= 7);
    for vector in &all {
        let setting = setting(vector);
        let (size, position) = (vector["size"].as_u64().unwrap(), vector["position"].as_u64().unwrap() as u32);
        let plain = plain(size as usize);
        let (to, context) = (setting.key.public(), setting.context());
        let sealed = stream(to, &context, position, bytes(vector, "chance"), &plain, 100_000);
        assert_eq!(hex::encode(&sealed[..48]), vector["begins"].as_str().unwrap(), "{size}");
        assert_eq!(hex::encode(Sha256::digest(&sealed)), vector["sealed_sha256"].as_str().unwrap(), "{size}");
        assert_eq!((sealed_size(size), plain_size(sealed.len() as u64)), (Some(sealed.len() as u64), Some(size)));
        assert_eq!(vector["sealed_size"], sealed.len());
        assert!(setting.unstream(position, &sealed, 65_536) == Ok(plain), "{size}");
    }
}

/// Python makes the vectors again where it can.
#[test]
fn the_vectors_are_what_the_program_in_python_makes() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/seal.py");
    match Command::new("python3").args([script, "--check"]).output() {
        Err(fault) => println!("SKIPPED: the vectors of sealing in Python: {fault}"),
        Ok(ran) if ran.status.code() == Some(77) => print!("{}", String::from_utf8_lossy(&ran.stdout)),
        Ok(ran) => assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr)),
    }
}

#[test]
fn a_part_list_altered_in_any_byte_does_not_open() {
    let setting = Setting::new();
    let sealed = setting.seal(b"a name, a salt and a body");
    assert_eq!(sealed.ciphertext.len(), 25 + TAG_BYTES);
    for place in 0..sealed.ciphertext.len() {
        let mut bad = sealed.clone();
        bad.ciphertext[place] ^= 1;
        assert_eq!(setting.open(&bad), Err(OpenError::Damaged), "byte {place} of the ciphertext");
    }
    // Every bit: X25519 itself ignores the topmost (RFC 7748 §5), HPKE does not.
    for place in 0..8 * ENCAPSULATED_BYTES {
        let mut bad = sealed.clone();
        bad.encapsulated[place / 8] ^= 1 << (place % 8);
        assert_eq!(setting.open(&bad), Err(OpenError::Damaged), "bit {place} of the encapsulated key");
    }
    for place in 0..8 {
        let mut bad = sealed.clone();
        bad.key_id.0[place] ^= 1;
        assert_eq!(setting.open(&bad), Err(OpenError::WrongKey(bad.key_id)), "byte {place} of the key id");
    }
    for kept in 0..sealed.ciphertext.len() {
        let bad = Sealed { ciphertext: sealed.ciphertext[..kept].to_vec(), ..sealed.clone() };
        assert_eq!(setting.open(&bad), Err(OpenError::Damaged), "cut to {kept}");
    }
    let longer = Sealed { ciphertext: [&sealed.ciphertext[..], b"\0"].concat(), ..sealed.clone() };
    assert_eq!(setting.open(&longer), Err(OpenError::Damaged));
    assert!(setting.open(&sealed).is_ok(), "or all of the above says nothing");
}

#[test]
fn what_was_sealed_opens_for_its_own_message_and_member_only() {
    let setting = Setting::new();
    let (sealed, attachment) = (setting.seal(b"body"), setting.stream(3, b"body", 4));
    let own = || Setting::new();
    for (elsewhere, other) in [
        ("another alliance", Setting { alliance: "other.example".parse().unwrap(), ..own() }),
        ("another member", Setting { recipient: "440300".parse().unwrap(), ..own() }),
        ("a division below", Setting { recipient: "450200001".parse().unwrap(), ..own() }),
        ("the hub", Setting { recipient: "hub/main".parse().unwrap(), ..own() }),
        ("another message", Setting { header_digest: Digest([8; 32]), ..own() }),
        ("another key behind the same name", Setting { key: OpeningKey::from_seed(&[3; 32]), ..own() }),
    ] {
        let renamed = Sealed { key_id: other.key.public().id(), ..sealed.clone() };
        assert_eq!(other.open(&renamed), Err(OpenError::Damaged), "{elsewhere}");
        assert_eq!(other.unstream(3, &attachment, 9), Err(OpenError::Damaged), "{elsewhere}");
    }
    assert_eq!(setting.unstream(2, &attachment, 9), Err(OpenError::Damaged), "another place in the message");
    let as_parts = Sealed {
        key_id: setting.key.public().id(),
        encapsulated: attachment[..32].try_into().unwrap(),
        ciphertext: attachment[32..].to_vec(),
    };
    assert_eq!(setting.open(&as_parts), Err(OpenError::Damaged), "an attachment as a part list");
    let as_attachment = [&sealed.encapsulated[..], &sealed.ciphertext].concat();
    assert_eq!(setting.unstream(0, &as_attachment, 9), Err(OpenError::Damaged), "a part list as an attachment");
    assert!(setting.open(&sealed).is_ok() && setting.unstream(3, &attachment, 9).is_ok());
}

#[test]
fn a_former_key_opens_what_is_still_under_way() {
    let setting = Setting::new();
    let sealed = setting.seal(b"body");
    let keys = [OpeningKey::from_seed(&[9; 32]), OpeningKey::from_seed(&[1; 32])];
    assert_eq!(open(&keys, &setting.context(), &sealed).unwrap(), b"body");
    assert_eq!(open(&keys[..1], &setting.context(), &sealed), Err(OpenError::WrongKey(sealed.key_id)));
}

#[test]
fn a_key_made_to_be_weak_seals_nothing() {
    let setting = Setting::new();
    // Points of small order (RFC 7748 §7): with them every secret is zero.
    for bytes in [[0; 32], [&[1][..], &[0; 31]].concat().try_into().unwrap()] {
        let weak = SealingKey::from_bytes(bytes);
        assert_eq!(seal(&weak, &setting.context(), b"body", [2; 32]), Err(SealError::Key(weak.id())));
        let sealer = StreamSealer::begin(&weak, &setting.context(), 0, [2; 32], &mut vec![]);
        assert_eq!(sealer.err(), Some(SealError::Key(weak.id())));
    }
    let mut zero = setting.seal(b"body");
    zero.encapsulated = [0; 32];
    assert_eq!(setting.open(&zero), Err(OpenError::Damaged));
}

#[test]
fn the_same_plaintext_never_seals_alike_with_other_chance() {
    let setting = Setting::new();
    let other = seal(setting.key.public(), &setting.context(), b"body", [3; 32]).unwrap();
    let sealed = setting.seal(b"body");
    assert!(other.encapsulated != sealed.encapsulated && other.ciphertext != sealed.ciphertext);
    assert_eq!(setting.open(&other).unwrap(), b"body");
}

#[test]
fn an_attachment_comes_back_whatever_the_pieces_were() {
    let setting = Setting::new();
    for size in [0, 1, SEAL_CHUNK_BYTES - 1, SEAL_CHUNK_BYTES, SEAL_CHUNK_BYTES + 1, 40 * SEAL_CHUNK_BYTES + 5] {
        let plain = plain(size);
        let whole = setting.stream(0, &plain, usize::MAX);
        for step in [61, 16_384, SEAL_CHUNK_BYTES, SEAL_CHUNK_BYTES + 16, usize::MAX] {
            assert!(setting.stream(0, &plain, step) == whole, "{size} sealed in pieces of {step}");
            assert!(setting.unstream(0, &whole, step).as_ref() == Ok(&plain), "{size} opened in pieces of {step}");
        }
    }
}

/// The chunks of a sealed attachment, each with its tag.
fn chunks(sealed: &[u8]) -> Vec<&[u8]> {
    sealed[ENCAPSULATED_BYTES..].chunks(SEAL_CHUNK_BYTES + TAG_BYTES).collect()
}

#[test]
fn an_attachment_cut_lengthened_or_put_in_another_order_does_not_open() {
    let setting = Setting::new();
    let plain = plain(3 * SEAL_CHUNK_BYTES);
    let sealed = setting.stream(0, &plain, usize::MAX);
    let (head, parts) = (&sealed[..ENCAPSULATED_BYTES], chunks(&sealed));
    let [a, b, c] = parts[..] else { panic!("three chunks") };
    let other = setting.stream(1, &plain, usize::MAX);
    let (last_of_other, full) = (chunks(&other)[2], SEAL_CHUNK_BYTES + TAG_BYTES);
    let mut flipped = sealed.clone();
    flipped[ENCAPSULATED_BYTES + full] ^= 1;
    let mut tag = sealed.clone();
    *tag.last_mut().unwrap() ^= 1;
    for (fault, bad) in [
        ("nothing", vec![]),
        ("the head alone", head.to_vec()),
        ("a cut head", head[..31].to_vec()),
        ("a tag without its bytes", [head, &a[..15]].concat()),
        ("without its last chunk", [head, a, b].concat()),
        ("without its first chunk", [head, b, c].concat()),
        ("without a middle chunk", [head, a, c].concat()),
        ("two chunks changed about", [head, b, a, c].concat()),
        ("a chunk twice", [head, a, a, b, c].concat()),
        ("the last chunk twice", [head, a, b, c, c].concat()),
        ("a byte more", [head, a, b, c, b"\0"].concat()),
        ("a byte less", sealed[..sealed.len() - 1].to_vec()),
        ("a last chunk of another place", [head, a, b, last_of_other].concat()),
        ("a bit of a middle chunk", flipped),
        ("a bit of the last tag", tag),
        ("cut within a chunk", sealed[..sealed.len() - full / 2].to_vec()),
    ] {
        for step in [1_000, usize::MAX] {
            assert_eq!(setting.unstream(0, &bad, step).err(), Some(OpenError::Damaged), "{fault}");
        }
    }
    assert!(setting.unstream(0, &sealed, 1_000) == Ok(plain));
}

#[test]
fn a_stream_that_broke_stays_broken_and_gave_only_what_was_genuine() {
    let setting = Setting::new();
    let plain = plain(3 * SEAL_CHUNK_BYTES);
    let sealed = setting.stream(0, &plain, usize::MAX);
    let mut bad = sealed.clone();
    bad[ENCAPSULATED_BYTES + SEAL_CHUNK_BYTES + TAG_BYTES + 5] ^= 1;
    let (mut opener, mut out) = (StreamOpener::begin(&setting.key, &setting.context(), 0), vec![]);
    assert_eq!(opener.write(&bad, &mut out), Err(OpenError::Damaged));
    assert!(out == plain[..SEAL_CHUNK_BYTES], "the first chunk and nothing of the second");
    assert_eq!(opener.write(&sealed[ENCAPSULATED_BYTES..], &mut out), Err(OpenError::Damaged));
    assert_eq!(opener.finish(&mut out), Err(OpenError::Damaged));
    assert_eq!(out.len(), SEAL_CHUNK_BYTES);
}

#[test]
fn sizes_are_known_before_anything_is_sealed() {
    let (chunk, most) = (SEAL_CHUNK_BYTES as u64, u64::MAX);
    for (plain, sealed) in [
        (0, Some(48)),
        (1, Some(49)),
        (chunk, Some(chunk + 48)),
        (chunk + 1, Some(chunk + 65)),
        (1 << 30, Some((1 << 30) + 32 + 4096 * 16)),
        (most, None),
    ] {
        assert_eq!(sealed_size(plain), sealed, "{plain}");
        assert_eq!(sealed.and_then(plain_size), sealed.map(|_| plain), "{plain}");
    }
    assert!(sealed_size(ATTACHMENT_BYTES_MAX).unwrap() <= SEALED_ATTACHMENT_BYTES_MAX);
    for impossible in [0, 31, 32, 47, chunk + 49, chunk + 64] {
        assert_eq!(plain_size(impossible), None, "{impossible}");
    }
    assert!(plain_size(most).is_none_or(|plain| sealed_size(plain) == Some(most)));
}
