//! Decides whether secret files are written for their owner alone and refused when others could read them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use tongban::keys::{self, KeyFileError, Seed};

fn fresh(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("directory_keys").join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_seed_reads_back_and_belongs_to_its_owner_alone() {
    let path = fresh("seed").join("member.key");
    let seed = Seed::generate().unwrap();
    keys::write_seed(&path, &seed).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(keys::read_seed(&path).unwrap().bytes(), seed.bytes());
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("tongban-ed25519-seed:") && text.ends_with('\n') && text.lines().count() == 1);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing unfinished stays behind");
}

#[test]
fn two_seeds_differ() {
    assert_ne!(Seed::generate().unwrap().bytes(), Seed::generate().unwrap().bytes());
}

#[test]
fn a_seed_is_never_overwritten() {
    let path = fresh("twice").join("member.key");
    let first = Seed::generate().unwrap();
    keys::write_seed(&path, &first).unwrap();
    let again = keys::write_seed(&path, &Seed::generate().unwrap());
    assert!(matches!(again, Err(KeyFileError::Exists { .. })));
    assert_eq!(keys::read_seed(&path).unwrap().bytes(), first.bytes());
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_key_that_others_can_use_is_refused_with_the_way_out() {
    let path = fresh("modes").join("member.key");
    keys::write_seed(&path, &Seed::generate().unwrap()).unwrap();
    for bits in [0o644, 0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666] {
        fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
        let fault = keys::read_seed(&path).err().map(|fault| fault.to_string()).unwrap_or_default();
        assert!(fault.contains("member.key") && fault.contains("chmod 600"), "{bits:o}: {fault}");
        assert!(keys::read_private_key(&path).is_err());
    }
    for bits in [0o600, 0o400] {
        fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
        assert!(keys::read_seed(&path).is_ok(), "{bits:o}");
    }
}

#[test]
fn a_file_that_is_no_seed_is_refused() {
    let dir = fresh("malformed");
    let whole = "tongban-ed25519-seed:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for (row, text) in [
        ("empty", String::new()),
        ("no prefix", whole.replace("tongban-ed25519-seed:", "")),
        ("short", "tongban-ed25519-seed:AAAA\n".to_owned()),
        ("33 bytes", "tongban-ed25519-seed:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n".to_owned()),
        ("long", format!("tongban-ed25519-seed:{}\n", "AAAA".repeat(40))),
        ("two lines", format!("{whole}\n{whole}\n")),
        ("loose base64", whole.replace("AAA=", "AAB=")),
        ("carriage return", format!("{whole}\r\n")),
    ] {
        let path = dir.join(row);
        keys::write_secret(&path, text.as_bytes()).unwrap();
        assert!(matches!(keys::read_seed(&path), Err(KeyFileError::Malformed { .. })), "{row}");
    }
    let path = dir.join("whole");
    keys::write_secret(&path, format!("{whole}\n").as_bytes()).unwrap();
    assert_eq!(keys::read_seed(&path).unwrap().bytes(), &[0; 32]);
}

#[test]
fn a_file_that_is_missing_too_large_or_no_file_is_named() {
    let dir = fresh("files");
    assert!(matches!(keys::read_seed(&dir.join("none")), Err(KeyFileError::Missing { .. })));
    assert!(matches!(keys::read_secret(&dir), Err(KeyFileError::NotAFile { .. })));
    keys::write_secret(&dir.join("large"), &vec![b'x'; (64 << 10) + 1]).unwrap();
    assert!(matches!(keys::read_secret(&dir.join("large")), Err(KeyFileError::TooLarge { .. })));
    keys::replace_public(&dir.join("latin1"), b"\xe9").unwrap();
    assert!(matches!(keys::read_text(&dir.join("latin1")), Err(KeyFileError::Malformed { .. })));
}

#[test]
fn a_public_file_is_replaced_whole() {
    let path = fresh("public").join("directory.note");
    keys::replace_public(&path, b"one").unwrap();
    keys::replace_public(&path, b"two").unwrap();
    assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path) & 0o7133), (b"two".as_slice(), 0));
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn pem_files_read_as_what_they_hold() {
    let dir = fresh("pem");
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    keys::write_secret(&dir.join("a.key"), key.serialize_pem().as_bytes()).unwrap();
    keys::replace_public(&dir.join("a.pem"), certificate.pem().repeat(2).as_bytes()).unwrap();
    assert_eq!(keys::read_private_key(&dir.join("a.key")).unwrap().secret_der(), key.serialized_der());
    assert_eq!(keys::read_certificates(&dir.join("a.pem")).unwrap(), vec![certificate.der().clone(); 2]);
    assert!(keys::read_crls(&dir.join("a.pem")).unwrap().is_empty());
    assert!(matches!(keys::read_certificates(&dir.join("a.key")), Err(KeyFileError::Empty { .. })));
    keys::replace_public(&dir.join("cut.pem"), &certificate.pem().as_bytes()[..100]).unwrap();
    assert!(keys::read_certificates(&dir.join("cut.pem")).is_err());
}
