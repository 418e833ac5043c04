//! Decides the certificates and the TLS of the peers: one authority, one certificate for all, TLS 1.3, both sides shown. The
//! gateway has its own; both are ECDSA P-256 over ring.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Writes `ca.pem`, `peer.pem` and `peer.key`.
pub fn certificates(folder: &Path) -> Result<()> {
    let mut authority = CertificateParams::new(vec![])?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Authority and peer need names that differ: an Erlang server takes a certificate whose issuer is its subject for a root.
    authority.distinguished_name.push(DnType::CommonName, "compare authority");
    let authority_key = KeyPair::generate()?;
    std::fs::write(folder.join("ca.pem"), authority.self_signed(&authority_key)?.pem())?;
    let key = KeyPair::generate()?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut peer = CertificateParams::new(names)?;
    peer.distinguished_name.push(DnType::CommonName, "compare peer");
    peer.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    peer.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let peer = peer.signed_by(&key, &Issuer::new(authority, authority_key))?;
    std::fs::write(folder.join("peer.pem"), peer.pem())?;
    std::fs::write(folder.join("peer.key"), key.serialize_pem())?;
    Ok(())
}

fn own(folder: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    Ok((
        vec![CertificateDer::from_pem_file(folder.join("peer.pem"))?],
        PrivateKeyDer::from_pem_file(folder.join("peer.key"))?,
    ))
}

fn roots(folder: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.pem"))?)?;
    Ok(roots)
}

/// What a client of any peer speaks.
pub fn client(folder: &Path, alpn: &[&[u8]]) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
    let (chain, key) = own(folder)?;
    let mut config = builder.with_root_certificates(roots(folder)?).with_client_auth_cert(chain, key)?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// What the echo serves with.
pub fn server(folder: &Path) -> Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let callers = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(folder)?), provider.clone()).build()?;
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
    let (chain, key) = own(folder)?;
    let mut config = builder.with_client_cert_verifier(callers).with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
