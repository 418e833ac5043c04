//! Decides whether a gateway's identity and its knowledge of others are sound: keys, certificate, directory, revocation
//! lists. Never shows a secret.

use rustls::pki_types::CertificateRevocationListDer;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::advice;
use super::facts::{Facts, Look, Seen, public_fault, secret_fault, shown};
use crate::directory::{CrlPolicy, Entry};
use crate::keys::{self, KeyFileError};
use crate::limits::{CERTIFICATE_URGENT_DAYS, CERTIFICATE_WARN_DAYS, CRL_WARN_DAYS, DAY_MS, DIRECTORY_STALE_DAYS};
use crate::noticeboard::Noticeboard;
use crate::party::Party;
use crate::seal::OpeningKey;
use crate::server::{ServerError, member_trust};
use crate::store::Notes;
use crate::time::Time;
use crate::tlog::note::{SigningKey, VerifyingKey};
use crate::tls::config::{Moment, Own, server_config};
use crate::tls::profile::Usage;
use crate::tls::refusal::Refusal;
use crate::tls::trust::Trust;

/// The directory as the alliance signed it, with what was carried since.
pub fn directory(facts: &Facts<'_>) -> Vec<Look> {
    let config = facts.config;
    let unreadable = |seen: Seen| vec![Look::fault(&advice::DIRECTORY_UNREADABLE, seen)];
    let key = match keys::read_text(&config.alliance_key) {
        Ok(text) => VerifyingKey::parse(text.trim_end()),
        Err(fault) => return vec![public_fault(&advice::DIRECTORY_UNREADABLE, &fault)],
    };
    let key = match key {
        Ok(key) => key,
        Err(error) => return unreadable(Seen::error(&error).at(&shown(&config.alliance_key))),
    };
    let text = match keys::read_text(&config.directory) {
        Ok(text) => text,
        Err(fault) => return vec![public_fault(&advice::DIRECTORY_UNREADABLE, &fault)],
    };
    let notes = Notes::in_folder(&config.data).map_err(|error| Seen::error(&error));
    let board = notes.and_then(|notes| {
        Noticeboard::open(key, text, notes, Box::new(|_, _| Ok(()))).map_err(|error| Seen::error(&error))
    });
    let board = match board {
        Ok(board) => board,
        Err(seen) => return unreadable(seen.at(&shown(&config.directory))),
    };
    let directory = board.directory();
    if *directory.alliance() != config.alliance {
        let (found, configured) = (directory.alliance().as_str(), config.alliance.as_str());
        let seen = Seen::both(format!("{found}, configured {configured}"), format!("{found}，配置为 {configured}"));
        return vec![Look::fault(&advice::DIRECTORY_OTHER, seen)];
    }
    let (version, members) = (directory.version(), directory.entries().count());
    let seen =
        Seen::both(format!("version {version}, {members} members"), format!("第 {version} 版，成员 {members} 个"));
    let (_, _) = (facts.directory.set(directory), facts.board.set(board));
    vec![Look::good(seen)]
}

pub fn age(facts: &Facts<'_>) -> Vec<Look> {
    let issued_at = facts.directory.get().map_or(Time::ZERO, |directory| directory.issued_at());
    let days = facts.now.since_ms(issued_at) / DAY_MS;
    let seen = Seen::both(format!("signed {issued_at}, {days} days ago"), format!("{issued_at} 签署，已 {days} 天"));
    vec![if days > DIRECTORY_STALE_DAYS { Look::warning(&advice::DIRECTORY_STALE, seen) } else { Look::good(seen) }]
}

/// Members with which our own people exchange nothing for now.
pub fn suspended(facts: &Facts<'_>) -> Vec<Look> {
    let decisions = facts.board.get().map(Noticeboard::decisions).unwrap_or_default();
    let look = |(member, suspension): (&crate::party::Member, &crate::directory::Suspension)| {
        let (since, by, why) = (suspension.since(), &suspension.by, &suspension.why);
        let seen = Seen::both(format!("since {since} by {by}: {why}"), format!("自 {since} 起，由 {by}：{why}"));
        Look::warning(&advice::MEMBER_SUSPENDED, seen).about(member)
    };
    let looks: Vec<Look> = decisions.suspended.iter().map(look).collect();
    if looks.is_empty() { vec![Look::good(Seen::both("none", "无"))] } else { looks }
}

pub fn member(facts: &Facts<'_>) -> Vec<Look> {
    let member = facts.config.member.to_string();
    vec![match facts.record() {
        Some(record) => {
            let version = record.version;
            Look::good(Seen::both(
                format!("{member}, record version {version}"),
                format!("{member}，成员记录第 {version} 版"),
            ))
        }
        None => Look::fault(&advice::NOT_A_MEMBER, member),
    }]
}

/// The secret key of the certificate.
pub fn key(facts: &Facts<'_>) -> Vec<Look> {
    vec![match keys::read_private_key(&facts.config.key) {
        Ok(_) => Look::good(shown(&facts.config.key)),
        Err(fault) => secret_fault(&fault),
    }]
}

/// The certificate, and whether the key is its own.
pub fn certificate(facts: &Facts<'_>) -> Vec<Look> {
    let config = facts.config;
    let chain = match keys::read_certificates(&config.certificate) {
        Ok(chain) => chain,
        Err(fault) => return vec![public_fault(&advice::CERTIFICATE_UNREADABLE, &fault)],
    };
    let _ = facts.chain.set(chain.clone());
    let Ok(key) = keys::read_private_key(&config.key) else { return vec![Look::good(shown(&config.certificate))] };
    let Some(nobody) = Trust::build(config.alliance.clone(), vec![]).ok() else { return vec![] };
    let nobody = std::sync::Arc::new(arc_swap::ArcSwap::from_pointee(nobody));
    let moment = facts.now;
    vec![match server_config(nobody, Own { chain, key }, Moment::new(move || moment)) {
        Ok(_) => Look::good(shown(&config.certificate)),
        Err(error) => {
            let path = shown(&config.certificate);
            let seen = Seen::both(format!("{path}: {error}"), format!("{path}：{:?}", error.to_string()));
            Look::fault(&advice::CERTIFICATE_OTHER_KEY, seen)
        }
    }]
}

/// Whether partners will take the certificate: the name, the chain, the purposes, the dates.
pub fn identity(facts: &Facts<'_>) -> Vec<Look> {
    let (Some(chain), Some(entry)) = (facts.chain.get(), own_entry(facts)) else { return vec![] };
    let party = Party::gateway(facts.config.alliance.clone(), facts.config.member.clone());
    // What a revocation list lacks is its own check's to say.
    let vouching = member_trust(facts.config, entry).map(|trust| crate::tls::trust::MemberTrust {
        crl: crate::tls::trust::CrlPolicy::None,
        crls: vec![],
        ..trust
    });
    let trust = vouching.ok().and_then(|member| Trust::build(facts.config.alliance.clone(), vec![member]).ok());
    let Some(trust) = trust else {
        let seen = Seen::both("the record's roots cannot be used", "成员记录中的根证书不可用");
        return vec![Look::fault(&advice::CERTIFICATE_REFUSED, seen)];
    };
    let now = rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_millis(facts.now.ms()));
    for usage in [Usage::Server, Usage::Client] {
        match trust.verify(chain, usage, now) {
            // The dates are the next check's to judge.
            Ok(_) => {}
            Err(refused) if refused.why == Refusal::Expired => {}
            Err(refused) => {
                let seen = Seen::error(&refused).at(&format!("{usage:?}"));
                return vec![Look::fault(&advice::CERTIFICATE_REFUSED, seen)];
            }
        }
    }
    match chain.first().map(|leaf| trust.whose(leaf)) {
        Some(Ok(identity)) if identity.party == party => vec![Look::good(party.to_string())],
        Some(Ok(identity)) => {
            let other = identity.party;
            let seen = Seen::both(format!("it is for {other}, not {party}"), format!("证书名为 {other}，而非 {party}"));
            vec![Look::fault(&advice::CERTIFICATE_REFUSED, seen)]
        }
        Some(Err(refusal)) => vec![Look::fault(&advice::CERTIFICATE_REFUSED, Seen::error(&refusal))],
        None => vec![],
    }
}

pub fn expiry(facts: &Facts<'_>) -> Vec<Look> {
    let leaf = facts.chain.get().and_then(|chain| chain.first());
    let Some(Ok(parsed)) = leaf.map(|leaf| crate::tls::identity::parse(leaf)) else { return vec![] };
    let ends = crate::tls::identity::not_after(&parsed);
    if ends < facts.now {
        return vec![Look::fault(
            &advice::CERTIFICATE_EXPIRED,
            Seen::both(format!("ended {ends}"), format!("已于 {ends} 到期")),
        )];
    }
    let days = ends.since_ms(facts.now) / DAY_MS;
    let Some(step) = CERTIFICATE_WARN_DAYS.into_iter().filter(|step| days <= *step).min() else {
        return vec![Look::good(Seen::both(
            format!("{days} days left, until {ends}"),
            format!("剩 {days} 天，至 {ends}"),
        ))];
    };
    let seen = Seen::both(
        format!("{days} days left, in the last {step}, until {ends}"),
        format!("剩 {days} 天，进入最后 {step} 天，至 {ends}"),
    );
    let urgent = step <= CERTIFICATE_URGENT_DAYS;
    vec![Look::warning(if urgent { &advice::CERTIFICATE_ENDS_SOON } else { &advice::CERTIFICATE_ENDS }, seen)]
}

/// Each member's revocation lists.
pub fn crls(facts: &Facts<'_>) -> Vec<Look> {
    let Some(directory) = facts.directory.get() else { return vec![] };
    let required = directory.entries().filter(|entry| entry.record.crl == CrlPolicy::Required);
    let looks = required.map(|entry| crl(facts, entry).about(&entry.record.member));
    let mut looks: Vec<Look> = looks.collect();
    if looks.is_empty() {
        looks.push(Look::good(Seen::both("no member publishes one", "没有成员发布")));
    }
    looks
}

fn crl(facts: &Facts<'_>, entry: &Entry) -> Look {
    let path = facts.config.crls.of(&entry.record.member);
    let lists = match keys::read_crls(&path) {
        Ok(lists) if lists.is_empty() => return Look::fault(&advice::CRL_MISSING, shown(&path)),
        Ok(lists) => lists,
        Err(KeyFileError::Missing { path }) => return Look::fault(&advice::CRL_MISSING, shown(&path)),
        Err(fault) => return Look::fault(&advice::CRL_UNUSABLE, Seen::error(&fault)),
    };
    let trusted = member_trust(facts.config, entry).and_then(|member| {
        let built = Trust::build(facts.config.alliance.clone(), vec![member]);
        built.map_err(ServerError::Trust)
    });
    if let Err(why) = trusted {
        return Look::fault(&advice::CRL_UNUSABLE, Seen::error(&why).at(&shown(&path)));
    }
    let Some(ends) = lists_end(&lists) else { return Look::fault(&advice::CRL_UNUSABLE, shown(&path)) };
    let file = shown(&path);
    let seen = Seen::both(format!("{file}: until {ends}"), format!("{file}：至 {ends}"));
    match ends.since_ms(facts.now) / DAY_MS {
        _ if ends < facts.now => Look::fault(&advice::CRL_EXPIRED, seen),
        days if days < CRL_WARN_DAYS => Look::warning(&advice::CRL_ENDS, seen),
        _ => Look::good(seen),
    }
}

/// When the newest of these revocation lists ends.
pub fn lists_end(lists: &[CertificateRevocationListDer<'_>]) -> Option<Time> {
    let ends = lists.iter().filter_map(|der| {
        let (_, list) = CertificateRevocationList::from_der(der).ok()?;
        Some(Time::from_ms(u64::try_from(list.next_update()?.timestamp()).ok()? * 1000))
    });
    ends.max()
}

/// The key that signs the log, and whether the record names it.
pub fn log_key(facts: &Facts<'_>) -> Vec<Look> {
    let seed = match keys::read_seed(&facts.config.log_key) {
        Ok(seed) => seed,
        Err(fault) => return vec![secret_fault(&fault)],
    };
    let named = facts.record().map(|record| record.log_keys.as_slice()).unwrap_or_default();
    for key in named {
        if let Ok(signing) = SigningKey::from_seed(key.name(), seed.bytes())
            && signing.verifying_key() == key
        {
            let seen = key.name().to_owned();
            let _ = facts.log_key.set(signing);
            return vec![Look::good(seen)];
        }
    }
    vec![Look::fault(&advice::LOG_KEY_UNLISTED, shown(&facts.config.log_key))]
}

/// The key that opens what came by a hub, and whether the record names it.
pub fn sealing_key(facts: &Facts<'_>) -> Vec<Look> {
    let wanted = facts.record().and_then(|record| record.sealing_key.as_ref());
    vec![match (&facts.config.sealing_key, wanted) {
        (None, None) => Look::good(Seen::both("none", "无")),
        (None, Some(_)) => Look::warning(&advice::SEALING_KEY_ABSENT, facts.config.member.to_string()),
        (Some(path), wanted) => match OpeningKey::read(path) {
            Err(fault) => secret_fault(&fault),
            Ok(key) if wanted == Some(key.public()) => Look::good(shown(path)),
            // The key is being rotated: what is sealed meanwhile opens.
            Ok(_) if wanted.is_some_and(|wanted| is_former(facts, wanted)) => {
                Look::warning(&advice::SEALING_KEY_NOT_PUBLISHED, shown(path))
            }
            Ok(_) => Look::fault(&advice::SEALING_KEY_UNLISTED, shown(path)),
        },
    }]
}

/// Whether this is the public half of a former sealing key that is at hand.
fn is_former(facts: &Facts<'_>, wanted: &crate::directory::SealingKey) -> bool {
    facts.config.former_sealing_keys.iter().any(|path| OpeningKey::read(path).is_ok_and(|key| key.public() == wanted))
}

fn own_entry<'a>(facts: &'a Facts<'_>) -> Option<&'a Entry> {
    facts.directory.get()?.entry(&facts.config.member)
}
