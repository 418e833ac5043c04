//! Makes the authorities, certificates and revocation lists that the tests of TLS need, as of one fixed day.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ED25519, RevokedCertParams, SanType,
    SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use tongban::limits::CERTIFICATE_DAYS_MAX;
use tongban::party::{Alliance, Member};
use tongban::time::Time;
use tongban::tls::config::{Moment, Own};
use tongban::tls::trust::{CrlPolicy, MemberTrust};

/// 2026-06-01T00:00:00Z: the day on which all tests take place.
pub const TODAY_MS: u64 = 1_780_272_000_000;
pub const ALLIANCE: &str = "alliance.example";
/// The city whose gateway listens.
pub const HOME: &str = "450200";
/// A partner.
pub const AWAY: &str = "440300";

pub fn today() -> Moment {
    Moment::new(|| Time::from_ms(TODAY_MS))
}

pub fn alliance() -> Alliance {
    ALLIANCE.parse().unwrap()
}

pub fn member(text: &str) -> Member {
    text.parse().unwrap()
}

pub fn gateway(division: &str) -> String {
    format!("spiffe://{ALLIANCE}/city/{division}/gateway")
}

/// A certificate authority.
pub struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    pub fn root(name: &str) -> Ca {
        Ca::root_with(name, |_| {})
    }

    pub fn root_with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Ca {
        let mut params = authority(name);
        change(&mut params);
        Ca { issuer: CertifiedIssuer::self_signed(params, key()).unwrap() }
    }

    pub fn below(&self, name: &str) -> Ca {
        self.below_with(name, |_| {})
    }

    pub fn below_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Ca {
        let mut params = authority(name);
        params.serial_number = Some(SerialNumber::from(77));
        change(&mut params);
        Ca { issuer: CertifiedIssuer::signed_by(params, key(), &self.issuer).unwrap() }
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// A certificate as a party's own should be, for this URI name.
    pub fn issue(&self, uri: &str) -> Issued {
        self.issue_with(&[uri], |_| {})
    }

    pub fn issue_with(&self, uris: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        self.issue_key(Arc::new(key()), uris, change)
    }

    pub fn issue_key(&self, key: Arc<KeyPair>, uris: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = leaf(uris);
        change(&mut params);
        let certificate = params.signed_by(&*key, &*self.issuer).unwrap();
        Issued { chain: vec![certificate.der().clone()], key }
    }

    /// A certificate for a public key whose private half nobody here has.
    pub fn issue_for(&self, uri: &str, public: &impl rcgen::PublicKeyData) -> Issued {
        let certificate = leaf(&[uri]).signed_by(public, &*self.issuer).unwrap();
        Issued { chain: vec![certificate.der().clone()], key: Arc::new(key()) }
    }

    /// A list valid today, with these serial numbers.
    pub fn crl(&self, revoked: &[u64]) -> CertificateRevocationListDer<'static> {
        self.crl_between(revoked, 3, 12)
    }

    /// A list of 2026 that is issued in one month and expires in another.
    pub fn crl_between(&self, revoked: &[u64], from: u8, until: u8) -> CertificateRevocationListDer<'static> {
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 3, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, from, 1),
            next_update: date_time_ymd(2026, until, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().der().clone()
    }
}

/// A certificate with its chain and key.
#[derive(Clone)]
pub struct Issued {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: Arc<KeyPair>,
}

impl Issued {
    pub fn with(mut self, authority: &Ca) -> Issued {
        self.chain.push(authority.der());
        self
    }

    pub fn own(&self) -> Own {
        Own { chain: self.chain.clone(), key: self.private() }
    }

    pub fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }

    /// SHA-256 of the public key, as a member's record pins it.
    pub fn pin(&self) -> [u8; 32] {
        let certificate = tongban::tls::identity::parse(&self.chain[0]).unwrap();
        tongban::tls::identity::key_sha256(&certificate)
    }
}

/// A member with one root and an empty list.
pub fn trusted(text: &str, root: &Ca) -> MemberTrust {
    MemberTrust {
        member: member(text),
        roots: vec![root.der()],
        issuers: Vec::new(),
        crl: CrlPolicy::Required,
        crls: vec![root.crl(&[])],
        pin: None,
        days_max: CERTIFICATE_DAYS_MAX,
    }
}

pub fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

pub fn ed25519() -> KeyPair {
    KeyPair::generate_for(&PKCS_ED25519).unwrap()
}

pub fn leaf(uris: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("a party");
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2026, 12, 31);
    params.serial_number = Some(SerialNumber::from(4711));
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2035, 1, 1);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}
