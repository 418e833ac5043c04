//! Decides which party a certificate names: its single URI name, or the hash of its public key. Never reads a common
//! name, a DNS name, an address or a header, and confirms nothing: whether an issuer may give the name is decided in
//! `trust`.

use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::party::{Alliance, Party};
use crate::time::Time;
use crate::tls::refusal::Refusal;

/// Who a verified certificate stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub party: Party,
    /// The certificate had no URI name; its public key is pinned in a member's record.
    pub pinned: bool,
    /// The certificate's last moment.
    pub not_after: Time,
}

/// Reads a certificate, refusing bytes after its end.
pub fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Refusal> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(Refusal::Malformed),
    }
}

/// The certificate's only URI name, or `None` if it has no URI name at all. Two are refused, and so is a list of names
/// with an entry that does not parse: it might hide a second one (SPIFFE X509-SVID 2).
pub fn uri_name<'a>(certificate: &'a X509Certificate<'_>) -> Result<Option<&'a str>, Refusal> {
    let Some(names) = certificate.subject_alternative_name().map_err(|_| Refusal::Malformed)? else {
        return Ok(None);
    };
    let mut found = None;
    for name in &names.value.general_names {
        match name {
            GeneralName::URI(_) if found.is_some() => return Err(Refusal::UriNames),
            GeneralName::URI(uri) => found = Some(*uri),
            GeneralName::Invalid(..) => return Err(Refusal::MalformedName),
            _ => {}
        }
    }
    Ok(found)
}

/// The party that a URI name stands for, if it is one of `alliance`.
pub fn party(uri: &str, alliance: &Alliance) -> Result<Party, Refusal> {
    let domain = uri.strip_prefix("spiffe://").and_then(|rest| rest.split('/').next());
    match domain.map(str::parse::<Alliance>) {
        Some(Ok(ours)) if ours == *alliance => uri.parse().map_err(|_| Refusal::MalformedName),
        Some(Ok(_)) => Err(Refusal::ForeignAlliance),
        _ => Err(Refusal::MalformedName),
    }
}

/// SHA-256 of the DER SubjectPublicKeyInfo: what a member's record pins.
pub fn key_sha256(certificate: &X509Certificate<'_>) -> [u8; 32] {
    Sha256::digest(certificate.public_key().raw).into()
}

/// The last moment at which the certificate is valid.
pub fn not_after(certificate: &X509Certificate<'_>) -> Time {
    let seconds = certificate.validity().not_after.timestamp().max(0) as u64;
    Time::from_ms(seconds.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_name_is_ours_foreign_or_malformed() {
        let ours: Alliance = "alliance.example".parse().unwrap();
        let refusal = |uri: &str| party(uri, &ours).err();
        assert_eq!(refusal("spiffe://alliance.example/city/450200/gateway"), None);
        assert_eq!(refusal("spiffe://other.example/city/450200/gateway"), Some(Refusal::ForeignAlliance));
        assert_eq!(refusal("spiffe://other.example/ns/a/sa/b"), Some(Refusal::ForeignAlliance));
        assert_eq!(refusal("spiffe://Alliance.example/city/450200/gateway"), Some(Refusal::MalformedName));
        assert_eq!(refusal("spiffe://alliance.example:1/city/450200/gateway"), Some(Refusal::MalformedName));
        assert_eq!(refusal("https://alliance.example/city/450200/gateway"), Some(Refusal::MalformedName));
        assert_eq!(refusal("spiffe://alliance.example/city/450200/gateway?x"), Some(Refusal::MalformedName));
        assert_eq!(refusal(""), Some(Refusal::MalformedName));
    }
}
