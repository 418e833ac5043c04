//! Decides whether the certificates of a verified path have the shape this alliance asks for: what webpki accepts and
//! we do not. Never checks a signature, a name or a revocation; those are done when this runs.

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Version};

use crate::limits::{RSA_BITS_MIN, SERIAL_BYTES_MAX};
use crate::tls::refusal::Refusal;

/// What the party does with its certificate in this handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// It calls us: `clientAuth`.
    Client,
    /// We call it: `serverAuth`.
    Server,
}

/// What a certificate is judged against.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    pub usage: Usage,
    /// Days that the certificate may be valid in all.
    pub days_max: u32,
    /// Seconds since 1970.
    pub now_s: i64,
}

/// One row of a table: a claim that must hold, and the reason when it does not.
type Rule = (fn(&X509Certificate<'_>, &Ask) -> bool, Refusal);

/// When a certificate is valid, both ends included (RFC 5280 4.1.2.5).
const DATES: &[Rule] = &[(has_begun, Refusal::NotYetValid), (has_not_ended, Refusal::Expired)];

/// The party's own certificate. The order is the order of reasons: the first that fails is told.
const LEAF: &[Rule] = &[
    (is_version_3, Refusal::Malformed),
    (has_begun, Refusal::NotYetValid),
    (has_not_ended, Refusal::Expired),
    (|c, _| !is_authority(c), Refusal::CaAsLeaf),
    (signs_handshakes_only, Refusal::KeyUsage),
    (serves_its_usage, Refusal::Eku),
    (|c, _| is_strong(c.public_key()), Refusal::WeakKey),
    (is_short_lived, Refusal::ValidityTooLong),
    (has_proper_serial, Refusal::Serial),
];

/// A certificate between the party's own and the root.
const ISSUER: &[Rule] = &[
    (is_version_3, Refusal::Malformed),
    (|c, _| is_authority(c), Refusal::IssuerNotCa),
    (signs_certificates, Refusal::IssuerNotCa),
    (|c, ask| has_begun(c, ask) && has_not_ended(c, ask), Refusal::IssuerDates),
    (|c, _| is_strong(c.public_key()), Refusal::WeakKey),
    (has_proper_serial, Refusal::Serial),
];

/// The root. webpki takes only its name and key; its dates are ours to read.
const ANCHOR: &[Rule] = &[
    (|c, ask| has_begun(c, ask) && has_not_ended(c, ask), Refusal::IssuerDates),
    (|c, _| is_strong(c.public_key()), Refusal::WeakKey),
];

/// Judges the certificate's dates alone.
pub fn dates(certificate: &X509Certificate<'_>, ask: &Ask) -> Result<(), Refusal> {
    judge(DATES, certificate, ask)
}

/// Judges the party's own certificate.
pub fn leaf(certificate: &X509Certificate<'_>, ask: &Ask) -> Result<(), Refusal> {
    judge(LEAF, certificate, ask)
}

/// Judges a certificate authority below the root.
pub fn issuer(certificate: &X509Certificate<'_>, ask: &Ask) -> Result<(), Refusal> {
    judge(ISSUER, certificate, ask)
}

/// Judges the root that a path ends at.
pub fn anchor(certificate: &X509Certificate<'_>, ask: &Ask) -> Result<(), Refusal> {
    judge(ANCHOR, certificate, ask)
}

fn judge(rules: &[Rule], certificate: &X509Certificate<'_>, ask: &Ask) -> Result<(), Refusal> {
    match rules.iter().find(|(holds, _)| !holds(certificate, ask)) {
        Some((_, why)) => Err(*why),
        None => Ok(()),
    }
}

fn is_version_3(certificate: &X509Certificate<'_>, _: &Ask) -> bool {
    certificate.version() == X509Version::V3
}

fn has_begun(certificate: &X509Certificate<'_>, ask: &Ask) -> bool {
    certificate.validity().not_before.timestamp() <= ask.now_s
}

fn has_not_ended(certificate: &X509Certificate<'_>, ask: &Ask) -> bool {
    ask.now_s <= certificate.validity().not_after.timestamp()
}

/// Whether the certificate calls itself an authority, or says it so badly that it might.
pub fn is_authority(certificate: &X509Certificate<'_>) -> bool {
    match certificate.basic_constraints() {
        Ok(Some(constraints)) => constraints.value.ca,
        Ok(None) => false,
        Err(_) => true,
    }
}

fn signs_handshakes_only(certificate: &X509Certificate<'_>, _: &Ask) -> bool {
    let Ok(Some(usage)) = certificate.key_usage() else { return false };
    usage.value.digital_signature() && !usage.value.key_cert_sign() && !usage.value.crl_sign()
}

fn signs_certificates(certificate: &X509Certificate<'_>, _: &Ask) -> bool {
    matches!(certificate.key_usage(), Ok(Some(usage)) if usage.value.key_cert_sign())
}

fn serves_its_usage(certificate: &X509Certificate<'_>, ask: &Ask) -> bool {
    let Ok(Some(usage)) = certificate.extended_key_usage() else { return false };
    let named = match ask.usage {
        Usage::Client => usage.value.client_auth,
        Usage::Server => usage.value.server_auth,
    };
    named && !usage.value.any
}

fn is_short_lived(certificate: &X509Certificate<'_>, ask: &Ask) -> bool {
    const DAY_S: i64 = 24 * 60 * 60;
    let validity = certificate.validity();
    let seconds = validity.not_after.timestamp().saturating_sub(validity.not_before.timestamp());
    (0..=i64::from(ask.days_max) * DAY_S).contains(&seconds)
}

/// RFC 5280 4.1.2.2: a positive number of at most 20 bytes.
fn has_proper_serial(certificate: &X509Certificate<'_>, _: &Ask) -> bool {
    let serial = certificate.raw_serial();
    let positive = serial.first().is_some_and(|first| first & 0x80 == 0) && serial.iter().any(|byte| *byte != 0);
    positive && serial.len() <= SERIAL_BYTES_MAX
}

/// P-256, P-384, Ed25519, or RSA from `RSA_BITS_MIN`.
pub fn is_strong(key: &SubjectPublicKeyInfo<'_>) -> bool {
    let kind = &key.algorithm.algorithm;
    if *kind == OID_SIG_ED25519 {
        return true;
    }
    if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = key.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
        return curve.is_some_and(|curve| curve == OID_EC_P256 || curve == OID_NIST_EC_P384);
    }
    *kind == OID_PKCS1_RSAENCRYPTION
        && matches!(key.parsed(), Ok(PublicKey::RSA(rsa)) if bits(rsa.modulus) >= RSA_BITS_MIN)
}

fn bits(number: &[u8]) -> usize {
    let trimmed = &number[number.iter().take_while(|byte| **byte == 0).count()..];
    trimmed.first().map_or(0, |first| trimmed.len() * 8 - first.leading_zeros() as usize)
}

/// Whether the key of this certificate made the signature, by any scheme that our TLS takes.
pub fn verifies(certificate: &CertificateDer<'_>, message: &[u8], signature: &[u8]) -> bool {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return false };
    let known = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
    known.iter().any(|algorithm| certificate.verify_signature(*algorithm, message, signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::FromDer;

    fn ec(curve: &[u8]) -> Vec<u8> {
        let mut oids = vec![6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, curve.len() as u8];
        oids.extend(curve);
        key(&oids, &[4, 1, 2])
    }

    fn rsa(bits: usize) -> Vec<u8> {
        let bytes = bits.div_ceil(8);
        let top = 1u8 << ((bits - 1) % 8);
        let mut modulus = vec![0; if top == 0x80 { 1 } else { 0 }];
        modulus.push(top);
        modulus.resize(modulus.len() + bytes - 1, 1);
        let mut inner = vec![2, 0x82, (modulus.len() >> 8) as u8, modulus.len() as u8];
        inner.extend(&modulus);
        inner.extend([2, 3, 1, 0, 1]);
        let mut numbers = vec![0x30, 0x82, (inner.len() >> 8) as u8, inner.len() as u8];
        numbers.extend(inner);
        key(&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0], &numbers)
    }

    fn key(algorithm: &[u8], bits: &[u8]) -> Vec<u8> {
        let mut inner = vec![0x30, algorithm.len() as u8];
        inner.extend(algorithm);
        inner.extend([3, 0x82, ((bits.len() + 1) >> 8) as u8, (bits.len() + 1) as u8, 0]);
        inner.extend(bits);
        let mut der = vec![0x30, 0x82, (inner.len() >> 8) as u8, inner.len() as u8];
        der.extend(inner);
        der
    }

    #[test]
    fn a_key_is_strong_by_its_kind_and_size() {
        let rows: [(&str, Vec<u8>, bool); 11] = [
            ("P-256", ec(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]), true),
            ("P-384", ec(&[0x2b, 0x81, 4, 0, 34]), true),
            ("P-521", ec(&[0x2b, 0x81, 4, 0, 35]), false),
            ("P-192", ec(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 1]), false),
            ("secp256k1", ec(&[0x2b, 0x81, 4, 0, 10]), false),
            ("Ed25519", key(&[6, 3, 0x2b, 0x65, 0x70], &[7; 32]), true),
            ("Ed448", key(&[6, 3, 0x2b, 0x65, 0x71], &[7; 57]), false),
            ("RSA 2048", rsa(2048), true),
            ("RSA 4096", rsa(4096), true),
            ("RSA 2047", rsa(2047), false),
            ("RSA 1024", rsa(1024), false),
        ];
        for (name, der, strong) in rows {
            let (rest, parsed) = SubjectPublicKeyInfo::from_der(&der).unwrap();
            assert!(rest.is_empty(), "{name}");
            assert_eq!(is_strong(&parsed), strong, "{name}");
        }
    }
}
