//! Decides whether a presented chain proves a party: which member's roots may vouch for the name, whether the path
//! holds, whether anything on it is revoked. Never falls back to another member's roots, and never reads a clock.

use std::collections::{BTreeSet, HashMap};
use std::panic::catch_unwind;

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList, RevocationCheckDepth,
    RevocationOptions, RevocationOptionsBuilder, UnknownStatusPolicy, anchor_from_trusted_cert,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::limits::CHAIN_MAX;
use crate::party::{Alliance, Member, Party};
use crate::tls::identity::{self, Identity};
use crate::tls::profile::{self, Ask, Usage};
use crate::tls::refusal::{Refusal, Refused};

/// Whether a member's certificates are accepted without a revocation list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrlPolicy {
    /// Every certificate of a path needs a list that covers it and has not expired.
    Required,
    /// The member publishes none. A list that is given all the same still revokes.
    None,
}

/// What the member's record and its files say about its certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberTrust {
    pub member: Member,
    /// The roots that may vouch for names under this member, and for no other.
    pub roots: Vec<CertificateDer<'static>>,
    /// Authorities below the roots, known beforehand: to check lists they sign, and for peers that leave them out.
    /// They are never where a path may end.
    pub issuers: Vec<CertificateDer<'static>>,
    pub crl: CrlPolicy,
    pub crls: Vec<CertificateRevocationListDer<'static>>,
    /// SHA-256 of the gateway's SubjectPublicKeyInfo, for a member whose authority gives no URI name.
    pub pin: Option<[u8; 32]>,
    /// Days that this member's certificates may be valid.
    pub days_max: u32,
}

/// What is wrong with a member's trust as it was loaded. All faults are told at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustFault {
    #[error("{member}: stands twice among the members")]
    Twice { member: Member },
    #[error("{member}: has neither a root nor a pin")]
    Empty { member: Member },
    #[error("{member}: its pin is also the pin of {other}")]
    PinTwice { member: Member, other: Member },
    #[error("{member}: root {index} is not a certificate of a certificate authority")]
    Root { member: Member, index: usize },
    #[error("{member}: issuer {index} is not a certificate authority signed by one of its roots")]
    Issuer { member: Member, index: usize },
    #[error("{member}: revocation list {index} does not parse")]
    Crl { member: Member, index: usize },
    #[error("{member}: revocation list {index} is signed by none of its authorities")]
    CrlIssuer { member: Member, index: usize },
}

/// All members' roots, lists and pins: one immutable whole, replaced together.
#[derive(Debug)]
pub struct Trust {
    alliance: Alliance,
    members: HashMap<Member, Vouching>,
    pins: HashMap<[u8; 32], Member>,
    /// Known, and refused all the same for now.
    suspended: BTreeSet<Member>,
}

/// One member's side of the trust, ready for webpki.
#[derive(Debug)]
struct Vouching {
    roots: Vec<(TrustAnchor<'static>, CertificateDer<'static>)>,
    issuers: Vec<CertificateDer<'static>>,
    crl: CrlPolicy,
    crls: Vec<CertRevocationList<'static>>,
    days_max: u32,
}

impl Trust {
    /// Checks and compiles what was loaded. On any fault nothing is built, so a caller keeps what it had.
    pub fn build(alliance: Alliance, members: Vec<MemberTrust>) -> Result<Trust, Vec<TrustFault>> {
        let (named, pins) = (HashMap::new(), HashMap::new());
        let mut trust = Trust { alliance, members: named, pins, suspended: BTreeSet::new() };
        let mut faults = Vec::new();
        for given in members {
            trust.admit(given, &mut faults);
        }
        if faults.is_empty() { Ok(trust) } else { Err(faults) }
    }

    /// The same, but for these members: nothing proves a party of one of them.
    pub fn without(self, suspended: BTreeSet<Member>) -> Trust {
        Trust { suspended, ..self }
    }

    fn admit(&mut self, given: MemberTrust, faults: &mut Vec<TrustFault>) {
        let member = given.member.clone();
        if given.roots.is_empty() && given.pin.is_none() {
            faults.push(TrustFault::Empty { member: member.clone() });
        }
        if let Some(pin) = given.pin
            && let Some(other) = self.pins.insert(pin, member.clone())
        {
            faults.push(TrustFault::PinTwice { member: member.clone(), other });
        }
        let vouching = Vouching::compile(given, faults);
        if self.members.insert(member.clone(), vouching).is_some() {
            faults.push(TrustFault::Twice { member });
        }
    }

    /// The alliance whose names count here.
    pub fn alliance(&self) -> &Alliance {
        &self.alliance
    }

    /// Whose certificate this is, if the presented chain (leaf first) proves it at `now` for `usage`. Signatures of the
    /// handshake itself are not part of it.
    pub fn verify(&self, chain: &[CertificateDer<'_>], usage: Usage, now: UnixTime) -> Result<Identity, Refused> {
        let leaf = chain.first().ok_or(Refusal::NoCertificate)?;
        let certificate = identity::parse(leaf)?;
        match identity::uri_name(&certificate)? {
            Some(uri) => {
                let proven = self.verify_named(uri, &certificate, chain, usage, now);
                proven.map_err(|why| Refused::claiming(why, uri))
            }
            None => Ok(self.verify_pinned(&certificate, chain, usage, now)?),
        }
    }

    /// Whose a certificate is by its name or key alone. Proves nothing: for a chain that [`Trust::verify`] has just
    /// proven in a handshake.
    pub fn whose(&self, leaf: &CertificateDer<'_>) -> Result<Identity, Refusal> {
        let certificate = identity::parse(leaf)?;
        let not_after = identity::not_after(&certificate);
        if let Some(uri) = identity::uri_name(&certificate)? {
            return Ok(Identity { party: identity::party(uri, &self.alliance)?, pinned: false, not_after });
        }
        let member = self.pins.get(&identity::key_sha256(&certificate)).ok_or(Refusal::UriNames)?;
        Ok(Identity { party: Party::gateway(self.alliance.clone(), member.clone()), pinned: true, not_after })
    }

    fn verify_named(
        &self,
        uri: &str,
        certificate: &X509Certificate<'_>,
        chain: &[CertificateDer<'_>],
        usage: Usage,
        now: UnixTime,
    ) -> Result<Identity, Refusal> {
        let party = identity::party(uri, &self.alliance)?;
        let vouching = self.vouching(&party.member)?;
        let ask = ask(usage, vouching.days_max, now);
        vouching.verify(chain, &ask, now).map_err(|why| match why {
            Refusal::UnknownCa if self.another_vouches(&party.member, chain, usage, now) => Refusal::IssuerNotForName,
            // webpki does not say whose dates they are.
            Refusal::Expired | Refusal::NotYetValid if profile::dates(certificate, &ask).is_ok() => {
                Refusal::IssuerDates
            }
            why => why,
        })?;
        profile::leaf(certificate, &ask)?;
        Ok(Identity { party, pinned: false, not_after: identity::not_after(certificate) })
    }

    /// What vouches for the names of a member.
    fn vouching(&self, member: &Member) -> Result<&Vouching, Refusal> {
        let known = self.members.get(member).ok_or(Refusal::UnknownMember)?;
        if self.suspended.contains(member) { Err(Refusal::Suspended) } else { Ok(known) }
    }

    /// Whether the chain leads to the root of some other member. Told apart only for the log: both are refused.
    fn another_vouches(&self, own: &Member, chain: &[CertificateDer<'_>], usage: Usage, now: UnixTime) -> bool {
        let others = self.members.iter().filter(|(member, _)| *member != own);
        let anchors: Vec<TrustAnchor<'static>> =
            others.flat_map(|(_, vouching)| vouching.roots.iter().map(|(anchor, _)| anchor.clone())).collect();
        let Some((leaf, rest)) = chain.split_first() else { return false };
        let Ok(leaf) = EndEntityCert::try_from(leaf) else { return false };
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        leaf.verify_for_usage(algorithms, &anchors, rest, now, purpose(usage), None, None).is_ok()
    }

    fn verify_pinned(
        &self,
        certificate: &X509Certificate<'_>,
        chain: &[CertificateDer<'_>],
        usage: Usage,
        now: UnixTime,
    ) -> Result<Identity, Refusal> {
        if chain.len() > CHAIN_MAX {
            return Err(Refusal::ChainTooLong);
        }
        let member = self.pins.get(&identity::key_sha256(certificate)).ok_or(Refusal::UriNames)?;
        let vouching = self.vouching(member)?;
        profile::leaf(certificate, &ask(usage, vouching.days_max, now))?;
        let party = Party::gateway(self.alliance.clone(), member.clone());
        Ok(Identity { party, pinned: true, not_after: identity::not_after(certificate) })
    }
}

impl Vouching {
    fn compile(given: MemberTrust, faults: &mut Vec<TrustFault>) -> Vouching {
        let member = &given.member;
        let mut roots = Vec::new();
        for (index, der) in given.roots.iter().enumerate() {
            match root(der) {
                Some(anchor) => roots.push((anchor, der.clone())),
                None => faults.push(TrustFault::Root { member: member.clone(), index }),
            }
        }
        for (index, der) in given.issuers.iter().enumerate() {
            if !issued_by_any(der, &given.roots) {
                faults.push(TrustFault::Issuer { member: member.clone(), index });
            }
        }
        let authorities: Vec<&CertificateDer<'static>> = given.roots.iter().chain(&given.issuers).collect();
        let mut crls = Vec::new();
        for (index, der) in given.crls.iter().enumerate() {
            match revocations(der, &authorities) {
                Ok(list) => crls.push(list),
                Err(ListFault::Malformed) => faults.push(TrustFault::Crl { member: member.clone(), index }),
                Err(ListFault::Foreign) => faults.push(TrustFault::CrlIssuer { member: member.clone(), index }),
            }
        }
        // webpki asks the first list that covers a certificate, so the newest stands first.
        crls.sort_by_key(|(issued_s, _)| std::cmp::Reverse(*issued_s));
        let crls = crls.into_iter().map(|(_, list)| list).collect();
        Vouching { roots, issuers: given.issuers, crl: given.crl, crls, days_max: given.days_max }
    }

    /// Builds and checks the path to one of this member's roots, then judges everything on it but the leaf.
    fn verify(&self, chain: &[CertificateDer<'_>], ask: &Ask, now: UnixTime) -> Result<(), Refusal> {
        if chain.len() > CHAIN_MAX {
            return Err(Refusal::ChainTooLong);
        }
        let (leaf, presented) = chain.split_first().ok_or(Refusal::NoCertificate)?;
        let leaf = EndEntityCert::try_from(leaf).map_err(Refusal::from)?;
        let between: Vec<CertificateDer<'_>> = presented.iter().chain(&self.issuers).cloned().collect();
        let anchors: Vec<TrustAnchor<'static>> = self.roots.iter().map(|(anchor, _)| anchor.clone()).collect();
        let lists: Vec<&CertRevocationList<'static>> = self.crls.iter().collect();
        let revocation = self.revocation(&lists);
        let (algorithms, purpose) = (webpki::ALL_VERIFICATION_ALGS, purpose(ask.usage));
        let path = leaf.verify_for_usage(algorithms, &anchors, &between, now, purpose, revocation, None)?;
        if self.crl == CrlPolicy::Required && lists.is_empty() {
            return Err(Refusal::CrlMissing);
        }
        if path.intermediate_certificates().count() + 2 > CHAIN_MAX {
            return Err(Refusal::ChainTooLong);
        }
        for certificate in presented {
            profile::issuer(&identity::parse(certificate)?, ask)?;
        }
        for certificate in path.intermediate_certificates() {
            profile::issuer(&identity::parse(&certificate.der())?, ask)?;
        }
        let ends_at = self.roots.iter().find(|(anchor, _)| anchor == path.anchor());
        let (_, root) = ends_at.ok_or(Refusal::UnknownCa)?;
        profile::anchor(&identity::parse(root)?, ask)
    }

    /// How webpki uses the lists; nothing without one, which `verify` then judges by the policy.
    fn revocation<'a>(&self, lists: &'a [&'a CertRevocationList<'a>]) -> Option<RevocationOptions<'a>> {
        let (unknown, expiry) = match self.crl {
            CrlPolicy::Required => (UnknownStatusPolicy::Deny, ExpirationPolicy::Enforce),
            CrlPolicy::None => (UnknownStatusPolicy::Allow, ExpirationPolicy::Ignore),
        };
        let whole_chain = RevocationOptionsBuilder::new(lists).ok()?.with_depth(RevocationCheckDepth::Chain);
        Some(whole_chain.with_status_policy(unknown).with_expiration_policy(expiry).build())
    }
}

fn ask(usage: Usage, days_max: u32, now: UnixTime) -> Ask {
    Ask { usage, days_max, now_s: i64::try_from(now.as_secs()).unwrap_or(i64::MAX) }
}

fn purpose(usage: Usage) -> KeyUsage {
    match usage {
        Usage::Client => KeyUsage::client_auth(),
        Usage::Server => KeyUsage::server_auth(),
    }
}

/// The anchor of a root, if it is an authority's certificate.
fn root(der: &CertificateDer<'static>) -> Option<TrustAnchor<'static>> {
    let certificate = identity::parse(der).ok()?;
    let anchor = anchor_from_trusted_cert(der).ok()?.to_owned();
    profile::is_authority(&certificate).then_some(anchor)
}

fn issued_by_any(der: &CertificateDer<'_>, roots: &[CertificateDer<'static>]) -> bool {
    let Ok(certificate) = identity::parse(der) else { return false };
    let names = certificate.issuer().as_raw();
    let (message, signature) = (certificate.tbs_certificate.as_ref(), &certificate.signature_value.data);
    profile::is_authority(&certificate) && roots.iter().any(|root| signed(root, names, message, signature))
}

enum ListFault {
    Malformed,
    Foreign,
}

/// Parses a revocation list and checks that one of the member's own authorities signed it. A parser that panics on
/// hostile bytes (RUSTSEC-2026-0104) ends as a malformed list.
fn revocations(
    der: &CertificateRevocationListDer<'_>,
    authorities: &[&CertificateDer<'static>],
) -> Result<(i64, CertRevocationList<'static>), ListFault> {
    let parsed = catch_unwind(|| match CertificateRevocationList::from_der(der) {
        Ok(([], list)) => OwnedCertRevocationList::from_der(der).ok().map(|owned| (list, owned)),
        _ => None,
    });
    let (list, owned) = parsed.ok().flatten().ok_or(ListFault::Malformed)?;
    let (names, message) = (list.issuer().as_raw(), list.tbs_cert_list.as_ref());
    if !authorities.iter().any(|authority| signed(authority, names, message, &list.signature_value.data)) {
        return Err(ListFault::Foreign);
    }
    Ok((list.last_update().timestamp(), owned.into()))
}

/// Whether `authority` has the name `issuer` and its key made this signature, with any algorithm we accept.
fn signed(authority: &CertificateDer<'_>, issuer: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let Ok(certificate) = EndEntityCert::try_from(authority) else { return false };
    let named = identity::parse(authority).is_ok_and(|parsed| parsed.subject().as_raw() == issuer);
    let mut algorithms = webpki::ALL_VERIFICATION_ALGS.iter();
    named && algorithms.any(|algorithm| certificate.verify_signature(*algorithm, message, signature).is_ok())
}
