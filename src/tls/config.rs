//! Decides the TLS of both ends: 1.3 only, mutual, HTTP/2 only, no resumption and no early data, each handshake judged
//! by the trust of that moment. Never reads a clock itself: the moment comes from the source given here.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, ServerConfig, SignatureScheme,
};

use crate::party::Party;
use crate::time::Time;
use crate::tls::profile::Usage;
use crate::tls::refusal::{Refusal, Refused};
use crate::tls::trust::Trust;

/// The trust of the moment. Whoever reloads it stores a whole new one; each handshake loads it once.
pub type SharedTrust = Arc<ArcSwap<Trust>>;

/// The one protocol we speak over TLS (RFC 7301, RFC 9113).
pub const ALPN: &[u8] = b"h2";

/// Our own certificate chain (leaf first) and its key.
pub struct Own {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

/// Our certificate of the moment. Whoever renews it stores a new one; each dial loads it once.
pub type SharedOwn = Arc<ArcSwap<Own>>;

impl Clone for Own {
    fn clone(&self) -> Own {
        Own { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// Where verification takes its moment from: the process's clock, or a fixed moment in tests.
#[derive(Clone)]
pub struct Moment(Arc<dyn Fn() -> Time + Send + Sync>);

impl Moment {
    /// A source that asks `now` at each handshake.
    pub fn new(now: impl Fn() -> Time + Send + Sync + 'static) -> Moment {
        Moment(Arc::new(now))
    }

    /// The moment as rustls and webpki count it, in whole seconds.
    pub fn unix(&self) -> UnixTime {
        UnixTime::since_unix_epoch(std::time::Duration::from_millis((self.0)().ms()))
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Moment")
    }
}

impl TimeProvider for Moment {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.unix())
    }
}

/// The TLS of our listening side: it demands a client certificate that `trust` proves for `clientAuth`.
///
/// # Errors
/// When the key does not fit the chain's first certificate, or is of a kind that ring does not know.
pub fn server_config(trust: SharedTrust, own: Own, moment: Moment) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Callers { trust, provider: provider.clone() });
    let builder = ServerConfig::builder_with_details(provider, Arc::new(moment)).with_protocol_versions(&[&TLS13])?;
    let mut config = builder.with_client_cert_verifier(verifier).with_single_cert(own.chain, own.key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would carry an identity that nobody has verified again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// The TLS of our calling side: it demands that the server is exactly `expected`, by URI name or by pin, for
/// `serverAuth`. What the address is called in DNS plays no part.
///
/// # Errors
/// As [`server_config`].
pub fn client_config(
    trust: SharedTrust,
    own: Own,
    moment: Moment,
    expected: Party,
) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Expected { trust, provider: provider.clone(), party: expected });
    let builder = ClientConfig::builder_with_details(provider, Arc::new(moment)).with_protocol_versions(&[&TLS13])?;
    let verified = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = verified.with_client_auth_cert(own.chain, own.key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

/// Judges those who call us.
#[derive(Debug)]
struct Callers {
    trust: SharedTrust,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Callers {
    /// Empty: a caller need not learn who else is a member.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.trust.load().verify(&chain(leaf, rest), Usage::Client, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Judges the one whom we call.
#[derive(Debug)]
struct Expected {
    trust: SharedTrust,
    provider: Arc<CryptoProvider>,
    party: Party,
}

impl ServerCertVerifier for Expected {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = self.trust.load().verify(&chain(leaf, rest), Usage::Server, now)?;
        if found.party == self.party {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Refused::claiming(Refusal::WrongPeer, &found.party.to_string()).into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn chain<'a>(leaf: &CertificateDer<'a>, rest: &[CertificateDer<'a>]) -> Vec<CertificateDer<'a>> {
    std::iter::once(leaf).chain(rest).cloned().collect()
}
