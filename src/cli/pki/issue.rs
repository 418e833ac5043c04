//! Decides what a certificate of the development alliance says: its names, its purposes, its days. Never decides who gets
//! one, and is no model for a real authority: the key lies in a file beside the certificate.

#![allow(clippy::disallowed_methods, reason = "serial numbers come from chance")]

use std::net::IpAddr;
use std::ops::Add;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, RevocationReason, RevokedCertParams,
    SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::issued::Issued;
use crate::cli::{Exit, Failure};
use crate::keys;
use crate::limits::DAY_MS;
use crate::party::{Alliance, Member, Party, Role};
use crate::time::Time;

/// Days that a development certificate is valid: one less than the most a verifier takes.
const LEAF_DAYS: u64 = 397;
/// Days that a development authority is valid: ten years, so that it outlives what it signs.
const AUTHORITY_DAYS: u64 = 3_652;
/// Days until the next revocation list is due.
const CRL_DAYS: u64 = 30;
/// Milliseconds by which validity begins in the past, for clocks that run behind: one hour.
const BACKDATED_MS: u64 = 60 * 60 * 1000;
/// Bytes of a serial number: 126 bits of chance in a positive number (RFC 5280 §4.1.2.2 allows 20 bytes).
const SERIAL_BYTES: usize = 16;

/// A city's development certificate authority, ready to sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// Makes a key for `party` and a request that any authority signs (PKCS #10), both PEM; who the party is stands in the URI
/// name alone.
pub fn request(party: &Party) -> Result<(Zeroizing<String>, String), Failure> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, party.alliance.as_str());
    params.distinguished_name.push(DnType::CommonName, common_name(party));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = purposes(&party.role);
    params.subject_alt_names = names(party, &[])?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(unmade)?;
    let request = params.serialize_request(&key).and_then(|request| request.pem()).map_err(unmade)?;
    Ok((Zeroizing::new(key.serialize_pem()), request))
}

/// A key with its certificate, both PEM.
pub struct Issuance {
    /// PKCS#8.
    pub key: Zeroizing<String>,
    /// The certificate, then its authority's.
    pub chain: String,
    /// As in the certificate, hexadecimal.
    pub serial: String,
}

impl Authority {
    /// Makes a new authority for `member`; its key is returned as PKCS#8 PEM for the caller to keep.
    pub fn new(alliance: &Alliance, member: &Member, now: Time) -> Result<(Authority, Zeroizing<String>), Failure> {
        let mut params = params(&format!("{member} development CA"), alliance, now, AUTHORITY_DAYS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(unmade)?;
        let key_pem = Zeroizing::new(key.serialize_pem());
        let certificate = params.self_signed(&key).map_err(unmade)?;
        let pem = certificate.pem();
        let authority = Authority { issuer: Issuer::new(params, key), certificate: certificate.into(), pem };
        Ok((authority, key_pem))
    }

    /// Opens the authority whose `ca.key` and `ca.pem` lie in `city`.
    pub fn open(city: &Path) -> Result<Authority, Failure> {
        let path = city.join("ca.key");
        let secret = keys::read_private_key(&path)?;
        let key = KeyPair::try_from(secret.secret_der()).map_err(|why| unmade(why).at(path.display()))?;
        let mut certificates = keys::read_certificates(&city.join("ca.pem"))?;
        let certificate = certificates.swap_remove(0);
        let pem = keys::read_text(&city.join("ca.pem"))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(unmade)?;
        Ok(Authority { issuer, certificate, pem })
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The authority's certificate as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Makes a key and a certificate for `party`. `hosts` are DNS names and addresses for ordinary gRPC clients; who the
    /// party is stands in the URI name alone.
    pub fn issue(&self, party: &Party, hosts: &[String], now: Time) -> Result<Issuance, Failure> {
        let mut params = params(&common_name(party), &party.alliance, now, LEAF_DAYS)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = purposes(&party.role);
        params.subject_alt_names = names(party, hosts)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(unmade)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(unmade)?;
        let serial = params.serial_number.map(|serial| hex::encode(serial.to_bytes())).unwrap_or_default();
        Ok(Issuance { key: Zeroizing::new(key.serialize_pem()), chain: certificate.pem() + &self.pem, serial })
    }

    /// Signs the revocation list of what was issued, as PEM.
    pub fn revocation_list(&self, issued: &Issued, now: Time) -> Result<String, Failure> {
        let list = CertificateRevocationListParams {
            this_update: moment(date_time_ymd(1970, 1, 1), now),
            next_update: moment(date_time_ymd(1970, 1, 1), now.plus_ms(CRL_DAYS * DAY_MS)),
            crl_number: SerialNumber::from(issued.crl_number),
            issuing_distribution_point: None,
            revoked_certs: issued.revoked().map(|(serial, at_ms)| revoked(&serial, at_ms)).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).and_then(|list| list.pem()).map_err(unmade)
    }
}

fn params(name: &str, alliance: &Alliance, now: Time, days: u64) -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, alliance.as_str());
    params.distinguished_name.push(DnType::CommonName, name);
    let from = now.minus_ms(BACKDATED_MS);
    params.not_before = moment(date_time_ymd(1970, 1, 1), from);
    params.not_after = moment(date_time_ymd(1970, 1, 1), from.plus_ms(days * DAY_MS));
    params.serial_number = Some(SerialNumber::from(serial()?));
    Ok(params)
}

/// X.500 common names end at 64 characters (RFC 5280 appendix A); a longer one would be refused by strict readers.
fn common_name(party: &Party) -> String {
    let role = match &party.role {
        Role::Gateway => "gateway".to_owned(),
        Role::System(name) => format!("system/{}", name.as_str()),
        Role::Ops(name) => format!("ops/{}", name.as_str()),
        Role::Auditor(name) => format!("auditor/{}", name.as_str()),
    };
    format!("{} {role}", party.member)
}

fn purposes(role: &Role) -> Vec<ExtendedKeyUsagePurpose> {
    match role {
        Role::Gateway => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        Role::System(_) | Role::Ops(_) | Role::Auditor(_) => vec![ExtendedKeyUsagePurpose::ClientAuth],
    }
}

fn names(party: &Party, hosts: &[String]) -> Result<Vec<SanType>, Failure> {
    let mut names = vec![SanType::URI(party.to_string().try_into().map_err(unmade)?)];
    for host in hosts {
        let name = match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(host.as_str().try_into().map_err(unmade)?),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn revoked(serial: &[u8], at: Time) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: SerialNumber::from_slice(serial),
        revocation_time: moment(date_time_ymd(1970, 1, 1), at),
        reason_code: Some(RevocationReason::CessationOfOperation),
        invalidity_date: None,
    }
}

/// rcgen's own moment, counted from the one moment of it that can be made here: 1970.
fn moment<T: Add<Duration, Output = T>>(epoch: T, time: Time) -> T {
    epoch + Duration::from_millis(time.ms())
}

/// A positive number of full length: the top bit clear, the one below it set.
fn serial() -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![0; SERIAL_BYTES];
    getrandom::fill(&mut bytes).map_err(|fault| {
        Failure::new(Exit::Io, format!("no random numbers: {fault}"), format!("没有随机数：{fault}"))
    })?;
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(bytes)
}

fn unmade(fault: rcgen::Error) -> Failure {
    Failure::new(Exit::Software, format!("cannot make the certificate: {fault}"), format!("无法制作证书：{fault}"))
}
