//! Decides the reasons for which a connection is refused, and the one short code of each for logs and counters. Never
//! carries a certificate's content further than one cleaned line.

use std::fmt;
use std::sync::Arc;

use rustls::{CertificateError, PeerIncompatible};

use crate::limits::LOGGED_NAME_CHARS_MAX;

/// Why a peer was refused. One variant per reason, so that a log line and a counter name exactly one fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    #[error("the peer presented no certificate")]
    NoCertificate,
    #[error("the certificate or one in its chain does not parse")]
    Malformed,
    #[error("the chain leads to none of the roots we know")]
    UnknownCa,
    #[error("the chain leads to a root that may not vouch for this name")]
    IssuerNotForName,
    #[error("a signature in the chain or of the handshake does not verify")]
    BadSignature,
    #[error("the certificate has expired")]
    Expired,
    #[error("the certificate is not valid yet")]
    NotYetValid,
    #[error("a certificate authority in the chain is outside its own validity")]
    IssuerDates,
    #[error("the certificate is revoked")]
    Revoked,
    #[error("no revocation list covers a certificate of the chain")]
    CrlMissing,
    #[error("the revocation list has expired")]
    CrlExpired,
    #[error("the revocation list cannot be used")]
    CrlUnusable,
    #[error("the extended key usage does not fit, is missing or is anyExtendedKeyUsage")]
    Eku,
    #[error("the key usage lacks digitalSignature or allows signing of certificates or revocation lists")]
    KeyUsage,
    #[error("a certificate authority's certificate is used as a party's own")]
    CaAsLeaf,
    #[error("a certificate in the chain may not issue certificates")]
    IssuerNotCa,
    #[error("a key in the chain is none of P-256, P-384, Ed25519 and RSA from 2048 bits")]
    WeakKey,
    #[error("the certificate is valid for more days than its member may use")]
    ValidityTooLong,
    #[error("the serial number is not 1 to 20 bytes of a positive number")]
    Serial,
    #[error("the chain has too many certificates")]
    ChainTooLong,
    #[error("the chain breaks a constraint of its issuer or has a critical extension that we do not know")]
    Constraint,
    #[error("the certificate has more than one URI name, or none and no member has its key pinned")]
    UriNames,
    #[error("the URI name is none of an alliance's forms")]
    MalformedName,
    #[error("the URI name belongs to another alliance")]
    ForeignAlliance,
    #[error("the URI name's member is not in the directory")]
    UnknownMember,
    #[error("our own people have suspended the peer's member")]
    Suspended,
    #[error("the server is another party than the one that was dialled")]
    WrongPeer,
    #[error("the peer did not agree on HTTP/2 (ALPN h2)")]
    Alpn,
    #[error("the peer does not speak TLS 1.3")]
    TlsVersion,
    #[error("the handshake took too long")]
    HandshakeTimeout,
    #[error("the peer went away during the handshake")]
    Closed,
    #[error("the handshake failed for another reason")]
    Handshake,
    #[error("too many handshakes are under way from this address")]
    SourceCrowded,
    #[error("this party has too many connections open")]
    PartyCrowded,
}

impl Refusal {
    /// The stable short code, snake case, for logs and as the counter's label.
    pub fn code(self) -> &'static str {
        match self {
            Refusal::NoCertificate => "no_certificate",
            Refusal::Malformed => "malformed_certificate",
            Refusal::UnknownCa => "unknown_ca",
            Refusal::IssuerNotForName => "issuer_not_for_name",
            Refusal::BadSignature => "bad_signature",
            Refusal::Expired => "expired",
            Refusal::NotYetValid => "not_yet_valid",
            Refusal::IssuerDates => "issuer_dates",
            Refusal::Revoked => "revoked",
            Refusal::CrlMissing => "crl_missing",
            Refusal::CrlExpired => "crl_expired",
            Refusal::CrlUnusable => "crl_unusable",
            Refusal::Eku => "eku",
            Refusal::KeyUsage => "key_usage",
            Refusal::CaAsLeaf => "ca_as_leaf",
            Refusal::IssuerNotCa => "issuer_not_ca",
            Refusal::WeakKey => "weak_key",
            Refusal::ValidityTooLong => "validity_too_long",
            Refusal::Serial => "serial",
            Refusal::ChainTooLong => "chain_too_long",
            Refusal::Constraint => "constraint",
            Refusal::UriNames => "uri_names",
            Refusal::MalformedName => "malformed_name",
            Refusal::ForeignAlliance => "foreign_alliance",
            Refusal::UnknownMember => "unknown_member",
            Refusal::Suspended => "suspended",
            Refusal::WrongPeer => "wrong_peer",
            Refusal::Alpn => "alpn",
            Refusal::TlsVersion => "tls_version",
            Refusal::HandshakeTimeout => "handshake_timeout",
            Refusal::Closed => "closed",
            Refusal::Handshake => "handshake",
            Refusal::SourceCrowded => "source_crowded",
            Refusal::PartyCrowded => "party_crowded",
        }
    }
}

/// What webpki says of a path, in our words. A fault that it names only in general is `Malformed`.
impl From<webpki::Error> for Refusal {
    fn from(error: webpki::Error) -> Refusal {
        use webpki::Error as E;
        match error {
            E::CertExpired { .. } => Refusal::Expired,
            E::CertNotValidYet { .. } => Refusal::NotYetValid,
            E::CertRevoked => Refusal::Revoked,
            E::UnknownRevocationStatus => Refusal::CrlMissing,
            E::CrlExpired { .. } => Refusal::CrlExpired,
            E::UnknownIssuer => Refusal::UnknownCa,
            E::CaUsedAsEndEntity => Refusal::CaAsLeaf,
            E::EndEntityUsedAsCa => Refusal::IssuerNotCa,
            E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => Refusal::Eku,
            E::InvalidSerialNumber => Refusal::Serial,
            E::InvalidSignatureForPublicKey | E::SignatureAlgorithmMismatch => Refusal::BadSignature,
            E::UnsupportedSignatureAlgorithmContext(_) | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
                Refusal::WeakKey
            }
            E::MaximumPathDepthExceeded => Refusal::ChainTooLong,
            E::NameConstraintViolation
            | E::PathLenConstraintViolated
            | E::UnsupportedCriticalExtension
            | E::MalformedNameConstraint => Refusal::Constraint,
            E::InvalidCrlSignatureForPublicKey
            | E::InvalidCrlNumber
            | E::IssuerNotCrlSigner
            | E::UnsupportedCrlIssuingDistributionPoint
            | E::UnsupportedCrlSignatureAlgorithmContext(_)
            | E::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => Refusal::CrlUnusable,
            _ => Refusal::Malformed,
        }
    }
}

/// A refusal together with the URI name the certificate claimed, as far as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub why: Refusal,
    /// The claimed name, cleaned for one log line; nobody has confirmed it.
    pub name: Option<String>,
}

impl Refused {
    /// Remembers the name that a certificate claimed, without anything that could break a log line or a terminal.
    pub fn claiming(why: Refusal, name: &str) -> Refused {
        let clean = |c: char| if c.is_ascii_graphic() { c } else { '?' };
        Refused { why, name: Some(name.chars().take(LOGGED_NAME_CHARS_MAX).map(clean).collect()) }
    }

    /// The reason inside a failed handshake's error: ours if one of our verifiers gave it, else what rustls says.
    pub fn from_handshake(error: &std::io::Error) -> Refused {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (inner, error.kind()) {
            (Some(rustls), _) => Refused::from(rustls),
            (None, std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset) => Refusal::Closed.into(),
            (None, _) => Refusal::Handshake.into(),
        }
    }
}

impl From<Refusal> for Refused {
    fn from(why: Refusal) -> Refused {
        Refused { why, name: None }
    }
}

impl From<&rustls::Error> for Refused {
    fn from(error: &rustls::Error) -> Refused {
        use rustls::Error as E;
        match error {
            E::InvalidCertificate(CertificateError::Other(other)) => {
                other.0.downcast_ref::<Refused>().cloned().unwrap_or(Refusal::Handshake.into())
            }
            E::InvalidCertificate(CertificateError::BadSignature) => Refusal::BadSignature.into(),
            E::InvalidCertificate(_) => Refusal::Malformed.into(),
            E::NoCertificatesPresented => Refusal::NoCertificate.into(),
            E::NoApplicationProtocol => Refusal::Alpn.into(),
            E::PeerIncompatible(
                PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => Refusal::TlsVersion.into(),
            _ => Refusal::Handshake.into(),
        }
    }
}

impl From<Refused> for rustls::Error {
    fn from(refused: Refused) -> rustls::Error {
        let other = rustls::OtherError(Arc::new(refused));
        rustls::Error::InvalidCertificate(CertificateError::Other(other))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} ({name})", self.why),
            None => self.why.fmt(f),
        }
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_name_is_one_clean_line_of_bounded_length() {
        let name = Refused::claiming(Refusal::MalformedName, "spiffe://a\n\r\x1b[31m \u{202e}é\0x").name;
        assert_eq!(name.as_deref(), Some("spiffe://a???[31m????x"));
        let long = Refused::claiming(Refusal::MalformedName, &"a".repeat(1 << 20)).name;
        assert_eq!(long.map(|name| name.len()), Some(LOGGED_NAME_CHARS_MAX));
    }

    #[test]
    fn a_refusal_survives_its_way_through_rustls_and_io() {
        let refused = Refused::claiming(Refusal::Revoked, "spiffe://alliance.example/city/450200/gateway");
        let error = std::io::Error::other(rustls::Error::from(refused.clone()));
        assert_eq!(Refused::from_handshake(&error), refused);
    }
}
