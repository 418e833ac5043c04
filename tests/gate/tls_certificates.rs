//! Claims of the certificate matrix: each kind of bad certificate is refused for its own reason, seen by a real call
//! and in the gate's counters. A refused client certificate shows only at the first call: in TLS 1.3 connecting still
//! succeeds.

use std::sync::Arc;

use crate::gate::{Running, check, share, start, until};
use crate::pki::{self, ALLIANCE, AWAY, Ca, HOME, Issued, ed25519, gateway, key, member, today, trusted};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose as Eku, IsCa, KeyPair,
    KeyUsagePurpose as Ku, PKCS_ECDSA_P384_SHA384, SanType, SerialNumber, SubjectPublicKeyInfo, date_time_ymd,
};
use rustls::ClientConfig;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tongban::tls::config::{SharedTrust, client_config};
use tongban::tls::dial::Dialler;
use tongban::tls::trust::{CrlPolicy, MemberTrust, Trust, TrustFault};

/// Divisions of members with something particular about their record.
const PINNED: &str = "440301";
const NO_LIST: &str = "440302";
const OLD_LIST: &str = "440303";
const LISTLESS: &str = "440304";
const OLD_ROOT: &str = "440305";
const LONG: &str = "440306";
const TWO_LISTS: &str = "440307";

/// All authorities of the tests.
struct World {
    home: Ca,
    away: Ca,
    middle: Ca,
    unknown: Ca,
    no_list: Ca,
    old_list: Ca,
    listless: Ca,
    old_root: Ca,
    long: Ca,
    two_lists: Ca,
    pinned: Issued,
    nameless_root: Ca,
}

impl World {
    fn new() -> World {
        let away = Ca::root("away root");
        let middle = away.below("away issuer");
        let nameless_root = Ca::root("a root without names");
        World {
            home: Ca::root("home root"),
            middle,
            away,
            unknown: Ca::root("unknown root"),
            no_list: Ca::root("root without a list"),
            old_list: Ca::root("root with an old list"),
            listless: Ca::root("root that needs no list"),
            old_root: Ca::root_with("old root", |p| p.not_after = date_time_ymd(2026, 5, 1)),
            long: Ca::root("root with long certificates"),
            two_lists: Ca::root("root with two lists"),
            pinned: nameless_root.issue_with(&[], |_| {}),
            nameless_root,
        }
    }

    fn members(&self) -> Vec<MemberTrust> {
        let away = MemberTrust {
            issuers: vec![self.middle.der()],
            crls: vec![self.away.crl(&[666]), self.middle.crl(&[667])],
            ..trusted(AWAY, &self.away)
        };
        let pinned = MemberTrust {
            member: member(PINNED),
            roots: Vec::new(),
            crls: Vec::new(),
            pin: Some(self.pinned.pin()),
            ..trusted(PINNED, &self.home)
        };
        let no_list = MemberTrust { crls: Vec::new(), ..trusted(NO_LIST, &self.no_list) };
        let old_list =
            MemberTrust { crls: vec![self.old_list.crl_between(&[], 3, 5)], ..trusted(OLD_LIST, &self.old_list) };
        let listless = MemberTrust { crl: CrlPolicy::None, crls: Vec::new(), ..trusted(LISTLESS, &self.listless) };
        let long = MemberTrust { days_max: 800, ..trusted(LONG, &self.long) };
        let two_lists = MemberTrust {
            crls: vec![self.two_lists.crl_between(&[], 3, 5), self.two_lists.crl_between(&[668], 5, 12)],
            ..trusted(TWO_LISTS, &self.two_lists)
        };
        let old_root = trusted(OLD_ROOT, &self.old_root);
        vec![trusted(HOME, &self.home), away, pinned, no_list, old_list, listless, old_root, long, two_lists]
    }
}

/// A row: what the certificate is, how it is made, and the code of its refusal, or none.
type Row = (&'static str, fn(&World) -> Issued, Option<&'static str>);

fn away_with(world: &World, change: fn(&mut CertificateParams)) -> Issued {
    world.away.issue_with(&[&gateway(AWAY)], change)
}

const ROWS: &[Row] = &[
    ("a gateway as it should be", |w| w.away.issue(&gateway(AWAY)), None),
    ("a system", |w| w.away.issue(&format!("spiffe://{ALLIANCE}/city/{AWAY}/system/approval")), None),
    ("Ed25519", |w| keyed(w, ed25519()), None),
    ("P-384", |w| keyed(w, KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap()), None),
    ("through an issuer", |w| w.middle.issue(&gateway(AWAY)).with(&w.middle), None),
    ("through an issuer that it leaves out", |w| w.middle.issue(&gateway(AWAY)), None),
    ("with its root", |w| w.away.issue(&gateway(AWAY)).with(&w.away), None),
    ("no name, key pinned", |w| w.pinned.clone(), None),
    ("a DNS name beside the URI", |w| away_with(w, |p| p.subject_alt_names.push(dns("a.example"))), None),
    ("member that needs no list", |w| w.listless.issue(&gateway(LISTLESS)), None),
    ("800 days where the record allows them", |w| w.long.issue_with(&[&gateway(LONG)], lasting_800_days), None),
    (
        "398 days",
        |w| away_with(w, |p| (p.not_before, p.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2027, 2, 3))),
        None,
    ),
    // Who it is.
    ("unknown authority", |w| w.unknown.issue(&gateway(AWAY)), Some("unknown_ca")),
    ("another city's name by a member's own authority", |w| w.away.issue(&gateway(HOME)), Some("issuer_not_for_name")),
    (
        "our own name by a partner's issuer",
        |w| w.middle.issue(&gateway(HOME)).with(&w.middle),
        Some("issuer_not_for_name"),
    ),
    ("a name below a partner's by our own authority", |w| w.home.issue(&gateway(AWAY)), Some("issuer_not_for_name")),
    ("two URI names", |w| w.away.issue_with(&[&gateway(AWAY), &gateway(HOME)], |_| {}), Some("uri_names")),
    ("the same URI name twice", |w| w.away.issue_with(&[&gateway(AWAY), &gateway(AWAY)], |_| {}), Some("uri_names")),
    ("no name at all, not pinned", |w| w.away.issue_with(&[], |_| {}), Some("uri_names")),
    (
        "a DNS name only",
        |w| w.away.issue_with(&[], |p| p.subject_alt_names = vec![dns("a.example")]),
        Some("uri_names"),
    ),
    ("the common name is a party's", |w| w.away.issue_with(&[], called_like_a_party), Some("uri_names")),
    ("a pinned key with a name", |w| pinned_with(w, &[&gateway(PINNED)], |_| {}), Some("unknown_ca")),
    ("pinned, expired", |w| pinned_with(w, &[], |p| p.not_after = date_time_ymd(2026, 5, 31)), Some("expired")),
    (
        "pinned, not yet valid",
        |w| pinned_with(w, &[], |p| p.not_before = date_time_ymd(2026, 6, 2)),
        Some("not_yet_valid"),
    ),
    (
        "pinned, 400 days",
        |w| pinned_with(w, &[], |p| p.not_after = date_time_ymd(2027, 2, 5)),
        Some("validity_too_long"),
    ),
    ("pinned, no EKU", |w| pinned_with(w, &[], |p| p.extended_key_usages.clear()), Some("eku")),
    ("pinned, keyCertSign", |w| pinned_with(w, &[], |p| p.key_usages.push(Ku::KeyCertSign)), Some("key_usage")),
    ("pinned, an authority", |w| pinned_with(w, &[], an_authority), Some("ca_as_leaf")),
    ("another alliance", |w| w.away.issue("spiffe://other.example/city/440300/gateway"), Some("foreign_alliance")),
    ("a city nobody knows", |w| w.away.issue(&gateway("999999")), Some("unknown_member")),
    ("a wider code of the same city", |w| w.away.issue(&gateway("440300000000")), Some("unknown_member")),
    ("a name with a query", |w| w.away.issue(&format!("{}?a", gateway(AWAY))), Some("malformed_name")),
    ("a name with a fragment", |w| w.away.issue(&format!("{}#a", gateway(AWAY))), Some("malformed_name")),
    ("a name with a percent", |w| w.away.issue(&gateway("44030%30")), Some("malformed_name")),
    ("a name in upper case", |w| w.away.issue("spiffe://Alliance.example/city/440300/gateway"), Some("malformed_name")),
    ("a name with a port", |w| w.away.issue("spiffe://alliance.example:1/city/440300/gateway"), Some("malformed_name")),
    ("a name with a NUL", |w| w.away.issue("spiffe://alliance.example/city/440300/gateway\0"), Some("malformed_name")),
    ("a name with a pattern", |w| w.away.issue(&gateway("*")), Some("malformed_name")),
    ("a name with dots", |w| w.away.issue(&gateway("440300/..")), Some("malformed_name")),
    (
        "a name of another scheme",
        |w| w.away.issue("https://alliance.example/city/440300/gateway"),
        Some("malformed_name"),
    ),
    ("an empty name", |w| w.away.issue(""), Some("malformed_name")),
    (
        "a name that is not ASCII",
        |w| w.away.issue_with(&[], |p| names(p, b"\x30\x05\x86\x03\xff\xfe\xfd")),
        Some("malformed_name"),
    ),
    (
        "a list of names that does not parse",
        |w| w.away.issue_with(&[], |p| names(p, b"\x30\x82")),
        Some("malformed_certificate"),
    ),
    ("two lists of names", |w| away_with(w, |p| names(p, b"\x30\x03\x82\x01a")), Some("malformed_certificate")),
    // When.
    ("expired", |w| away_with(w, |p| p.not_after = date_time_ymd(2026, 5, 31)), Some("expired")),
    ("not yet valid", |w| away_with(w, |p| p.not_before = date_time_ymd(2026, 6, 2)), Some("not_yet_valid")),
    ("400 days", |w| away_with(w, |p| p.not_after = date_time_ymd(2027, 2, 5)), Some("validity_too_long")),
    ("expired root", |w| w.old_root.issue(&gateway(OLD_ROOT)), Some("issuer_dates")),
    ("expired issuer", |w| through(w, |p| p.not_after = date_time_ymd(2026, 5, 1)), Some("issuer_dates")),
    // Revocation.
    ("revoked", |w| away_with(w, |p| p.serial_number = Some(SerialNumber::from(666))), Some("revoked")),
    (
        "revoked by its issuer's list",
        |w| w.middle.issue_with(&[&gateway(AWAY)], |p| p.serial_number = Some(SerialNumber::from(667))),
        Some("revoked"),
    ),
    ("covered by the newer of two lists", |w| w.two_lists.issue(&gateway(TWO_LISTS)), None),
    (
        "revoked by the newer of two lists",
        |w| w.two_lists.issue_with(&[&gateway(TWO_LISTS)], |p| p.serial_number = Some(SerialNumber::from(668))),
        Some("revoked"),
    ),
    ("missing list", |w| w.no_list.issue(&gateway(NO_LIST)), Some("crl_missing")),
    ("missing list of one issuer", |w| unlisted_issuer(w), Some("crl_missing")),
    ("expired list", |w| w.old_list.issue(&gateway(OLD_LIST)), Some("crl_expired")),
    // What for.
    ("no EKU", |w| away_with(w, |p| p.extended_key_usages.clear()), Some("eku")),
    ("EKU for servers", |w| away_with(w, |p| p.extended_key_usages = vec![Eku::ServerAuth]), Some("eku")),
    ("EKU any", |w| away_with(w, |p| p.extended_key_usages = vec![Eku::Any]), Some("eku")),
    (
        "EKU for clients, and any",
        |w| away_with(w, |p| p.extended_key_usages = vec![Eku::ClientAuth, Eku::Any]),
        Some("eku"),
    ),
    ("EKU for code", |w| away_with(w, |p| p.extended_key_usages = vec![Eku::CodeSigning]), Some("eku")),
    ("an authority as a party", |w| away_with(w, an_authority), Some("ca_as_leaf")),
    ("keyCertSign", |w| away_with(w, |p| p.key_usages.push(Ku::KeyCertSign)), Some("key_usage")),
    ("cRLSign", |w| away_with(w, |p| p.key_usages.push(Ku::CrlSign)), Some("key_usage")),
    ("no key usage", |w| away_with(w, |p| p.key_usages.clear()), Some("key_usage")),
    ("key agreement only", |w| away_with(w, |p| p.key_usages = vec![Ku::KeyAgreement]), Some("key_usage")),
    ("a critical extension nobody knows", |w| away_with(w, odd_extension), Some("constraint")),
    ("RSA of 1024 bits", |w| w.away.issue_for(&gateway(AWAY), &rsa_1024()), Some("weak_key")),
    (
        "serial number zero",
        |w| away_with(w, |p| p.serial_number = Some(SerialNumber::from_slice(&[0]))),
        Some("serial"),
    ),
    (
        "serial number of 21 bytes",
        |w| away_with(w, |p| p.serial_number = Some(SerialNumber::from_slice(&[1; 21]))),
        Some("serial"),
    ),
    // The chain.
    ("too deep a chain", |w| too_deep(w), Some("chain_too_long")),
    (
        "too many certificates presented",
        |w| w.away.issue(&gateway(AWAY)).with(&w.away).with(&w.away).with(&w.away),
        Some("chain_too_long"),
    ),
    ("an issuer that is no authority", |w| through(w, |p| p.is_ca = IsCa::ExplicitNoCa), Some("issuer_not_ca")),
    (
        "an issuer that may not sign certificates",
        |w| through(w, |p| p.key_usages = vec![Ku::CrlSign]),
        Some("issuer_not_ca"),
    ),
    ("an issuer with URI constraints", |w| through(w, constrained), Some("constraint")),
    (
        "a stranger beside a good chain",
        |w| beside(w.away.issue(&gateway(AWAY)), w.unknown.issue(&gateway(AWAY))),
        Some("issuer_not_ca"),
    ),
];

#[tokio::test]
async fn every_certificate_is_accepted_or_refused_for_its_own_reason() {
    let world = World::new();
    let trust = share(world.members());
    let server = start(trust.clone(), world.home.issue(&gateway(HOME)).own()).await;
    let mut wrong = Vec::new();
    for (what, make, expected) in ROWS {
        let seen = call(&server, &trust, &world, &make(&world)).await;
        if seen.as_deref() != *expected {
            wrong.push(format!("{what}: expected {expected:?}, saw {seen:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), ROWS.len(), wrong.join("\n"));
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_refused() {
    let world = World::new();
    let trust = share(world.members());
    let server = start(trust.clone(), world.home.issue(&gateway(HOME)).own()).await;
    let nobody = Issued { chain: Vec::new(), key: Arc::new(key()) };
    assert_eq!(call(&server, &trust, &world, &nobody).await.as_deref(), Some("no_certificate"));
}

#[tokio::test]
async fn a_certificate_without_its_private_key_is_refused() {
    let world = World::new();
    let trust = share(world.members());
    let server = start(trust.clone(), world.home.issue(&gateway(HOME)).own()).await;
    let stolen = Issued { key: Arc::new(key()), ..world.away.issue(&gateway(AWAY)) };
    assert_eq!(call(&server, &trust, &world, &stolen).await.as_deref(), Some("bad_signature"));
}

#[test]
fn trust_with_any_fault_is_not_built_and_all_faults_are_told() {
    let world = World::new();
    let stranger = MemberTrust { crls: vec![world.unknown.crl(&[])], ..trusted(AWAY, &world.away) };
    let broken = MemberTrust { crls: vec![b"\x30\x03\x02\x01\x01".to_vec().into()], ..trusted(LONG, &world.long) };
    let leaf_root =
        MemberTrust { roots: vec![world.home.issue(&gateway(HOME)).chain[0].clone()], ..trusted(HOME, &world.home) };
    let empty = MemberTrust { roots: Vec::new(), crls: Vec::new(), ..trusted(NO_LIST, &world.no_list) };
    let foreign_issuer = MemberTrust { issuers: vec![world.middle.der()], ..trusted(OLD_LIST, &world.old_list) };
    let pin =
        |text| MemberTrust { roots: Vec::new(), crls: Vec::new(), pin: Some([7; 32]), ..trusted(text, &world.home) };
    let hub = MemberTrust { ..trusted("hub/main", &world.listless) };
    let members =
        vec![stranger, broken, leaf_root, empty, foreign_issuer, pin(PINNED), pin(OLD_ROOT), hub.clone(), hub];
    let faults = Trust::build(pki::alliance(), members).unwrap_err();
    let expected = [
        TrustFault::CrlIssuer { member: member(AWAY), index: 0 },
        TrustFault::Crl { member: member(LONG), index: 0 },
        TrustFault::Root { member: member(HOME), index: 0 },
        TrustFault::CrlIssuer { member: member(HOME), index: 0 },
        TrustFault::Empty { member: member(NO_LIST) },
        TrustFault::Issuer { member: member(OLD_LIST), index: 0 },
        TrustFault::PinTwice { member: member(OLD_ROOT), other: member(PINNED) },
        TrustFault::Twice { member: member("hub/main") },
    ];
    assert_eq!(faults, expected);
}

#[test]
fn a_list_of_any_bytes_is_a_fault_and_never_a_panic() {
    let world = World::new();
    let good = world.away.crl(&[1, 2, 3]);
    for at in 0..good.len() {
        for byte in [0, 0x7f, 0x80, 0xff] {
            let mut bytes = good.to_vec();
            if bytes[at] == byte {
                continue;
            }
            bytes[at] = byte;
            let broken = MemberTrust { crls: vec![bytes.into()], ..trusted(AWAY, &world.away) };
            assert!(Trust::build(pki::alliance(), vec![broken]).is_err(), "byte {at} set to {byte}");
        }
        let cut = MemberTrust { crls: vec![good[..at].to_vec().into()], ..trusted(AWAY, &world.away) };
        assert!(Trust::build(pki::alliance(), vec![cut]).is_err(), "cut at {at}");
    }
}

/// One real call with this certificate, whatever its key: the code of the refusal that the gate counted, or none when
/// the call was answered.
async fn call(server: &Running, trust: &SharedTrust, world: &World, caller: &Issued) -> Option<String> {
    let before = server.counters().refusals();
    let expected = gateway(HOME).parse().unwrap();
    let ours = world.home.issue(&gateway(HOME)).own();
    let mut config = ClientConfig::clone(&client_config(trust.clone(), ours, today(), expected).unwrap());
    let key = any_supported_type(&caller.private()).unwrap();
    let shown = SingleCertAndKey::from(CertifiedKey::new(caller.chain.clone(), key));
    config.client_auth_cert_resolver = Arc::new(shown);
    let endpoint = format!("https://{}", server.address).parse().unwrap();
    if check(Dialler::new(Arc::new(config)).channel(endpoint)).await.is_ok() {
        assert_eq!(server.counters().refusals(), before, "answered, yet counted as refused");
        return None;
    }
    let more = |code: &str| before.iter().find(|(other, _)| *other == code).map_or(0, |(_, count)| *count);
    let grown = || server.counters().refusals().into_iter().find(|(code, count)| *count > more(code));
    until("the refusal is counted", || grown().is_some()).await;
    grown().map(|(code, _)| code.to_owned())
}

fn keyed(world: &World, key: KeyPair) -> Issued {
    world.away.issue_key(Arc::new(key), &[&gateway(AWAY)], |_| {})
}

fn pinned_with(world: &World, uris: &[&str], change: fn(&mut CertificateParams)) -> Issued {
    world.nameless_root.issue_key(world.pinned.key.clone(), uris, change)
}

/// A good certificate through a changed issuer, of a member that needs no revocation list.
fn through(world: &World, change: fn(&mut CertificateParams)) -> Issued {
    let issuer = world.listless.below_with("an odd issuer", change);
    issuer.issue(&gateway(LISTLESS)).with(&issuer)
}

fn unlisted_issuer(world: &World) -> Issued {
    let issuer = world.away.below("an issuer without a list");
    issuer.issue(&gateway(AWAY)).with(&issuer)
}

fn too_deep(world: &World) -> Issued {
    let upper = world.listless.below("upper issuer");
    let lower = upper.below("lower issuer");
    lower.issue(&gateway(LISTLESS)).with(&lower).with(&upper)
}

fn beside(mut good: Issued, stranger: Issued) -> Issued {
    good.chain.extend(stranger.chain);
    good
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn lasting_800_days(params: &mut CertificateParams) {
    (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2028, 3, 11));
}

fn called_like_a_party(params: &mut CertificateParams) {
    params.distinguished_name.push(DnType::CommonName, gateway(AWAY));
}

fn an_authority(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
}

fn odd_extension(params: &mut CertificateParams) {
    let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
    extension.set_criticality(true);
    params.custom_extensions.push(extension);
}

/// A subjectAltName (2.5.29.17) with this content.
fn names(params: &mut CertificateParams, content: &[u8]) {
    params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 17], content.to_vec()));
}

/// nameConstraints (2.5.29.30) that permit URIs of one host only.
fn constrained(params: &mut CertificateParams) {
    let host = ALLIANCE.as_bytes();
    let length = host.len() as u8;
    let mut content = vec![0x30, length + 6, 0xa0, length + 4, 0x30, length + 2, 0x86, length];
    content.extend(host);
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], content);
    extension.set_criticality(true);
    params.custom_extensions.push(extension);
}

/// SubjectPublicKeyInfo of an RSA key of 1024 bits.
fn rsa_1024() -> SubjectPublicKeyInfo {
    let mut der = vec![0x30, 0x81, 0x9f, 0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    der.extend([3, 0x81, 0x8d, 0, 0x30, 0x81, 0x89, 2, 0x81, 0x81, 0]);
    der.extend([0xc5; 128]);
    der.extend([2, 3, 1, 0, 1]);
    SubjectPublicKeyInfo::from_der(&der).unwrap()
}
