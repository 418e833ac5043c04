//! Decides how a gateway's keys and certificates are shown, each with what the checks say of it. Never shows a secret, and
//! never judges a key itself.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::super::out::table;
use super::super::{Answer, Exit, Lang, Out, now};
use crate::checks::{Finding, Verdict, examine_self};
use crate::clock::Clock;
use crate::config::Config;
use crate::directory::{Directory, Entry, fingerprint, member_key_name};
use crate::keys::{self, KeyFileError};
use crate::limits::DAY_MS;
use crate::noticeboard::Noticeboard;
use crate::seal::OpeningKey;
use crate::server::own_log;
use crate::store::Notes;
use crate::time::Time;
use crate::tlog::note::{SigningKey, VerifyingKey};
use crate::tls::identity;

/// One key or certificate.
#[derive(Debug, Default, Serialize)]
struct Row {
    /// tls-certificate, tls-key, log, sealing, sealing-former, member or alliance.
    purpose: &'static str,
    algorithm: String,
    /// SHA-256 of a certificate or its key; for others what people compare.
    fingerprint: String,
    file: String,
    /// Octal; none where there is no file.
    mode: Option<String>,
    valid_until: Option<String>,
    days_left: Option<u64>,
    /// Whether the member record in force knows it; none where no record speaks of such a key.
    listed: Option<bool>,
    /// What is wrong with it, in the words of the check.
    fault: Option<(String, String)>,
}

/// Shows them; exit 1 when something is wrong with one.
pub fn run(config: &Config, member_key: Option<&Path>, out: &Out) -> Answer {
    let findings = examine_self(config, &Clock::default());
    let directory = directory(config);
    let entry = directory.as_ref().and_then(|directory| directory.entry(&config.member));
    let mut rows = tls(config, &findings, now());
    rows.push(log(config, entry, &findings));
    rows.extend(sealing(config, entry, &findings));
    rows.extend(member(config, entry, member_key));
    rows.push(alliance(config));
    let well = rows.iter().all(|row| row.fault.is_none());
    out.show(&rows, || shown(&rows, out.lang))?;
    Ok(if well { Exit::Done } else { Exit::No })
}

/// The directory as the gateway would know it at a start; none where it cannot.
fn directory(config: &Config) -> Option<Directory> {
    let key = VerifyingKey::parse(keys::read_text(&config.alliance_key).ok()?.trim_end()).ok()?;
    let (note, notes) = (keys::read_text(&config.directory).ok()?, Notes::in_folder(&config.data).ok()?);
    Some(Noticeboard::open(key, note, notes, Box::new(|_, _| Ok(()))).ok()?.directory())
}

fn row(purpose: &'static str, file: &Path, findings: &[Finding], checks: &[&str]) -> Row {
    let at_fault = |finding: &&Finding| checks.contains(&finding.check);
    let fault = findings.iter().filter(at_fault).find_map(|finding| match finding.look.verdict {
        Verdict::Fault(advice) => Some((advice.cause.0.to_owned(), advice.cause.1.to_owned())),
        _ => None,
    });
    let mode = std::fs::metadata(file).ok().map(|data| format!("{:04o}", data.permissions().mode() & 0o7777));
    Row { purpose, file: file.display().to_string(), mode, fault, ..Row::default() }
}

fn tls(config: &Config, findings: &[Finding], now: Time) -> Vec<Row> {
    let checks = ["tls.certificate", "tls.identity", "tls.expiry"];
    let certificate = row("tls-certificate", &config.certificate, findings, &checks);
    let key = row("tls-key", &config.key, findings, &["tls.key"]);
    let chain = keys::read_certificates(&config.certificate).unwrap_or_default();
    let Some(Ok(leaf)) = chain.first().map(|leaf| identity::parse(leaf)) else { return vec![certificate, key] };
    let ends = identity::not_after(&leaf);
    let vouched = findings.iter().find(|finding| finding.check == "tls.identity");
    let listed = vouched.map(|finding| finding.look.verdict == Verdict::Good);
    let algorithm = algorithm(leaf.public_key());
    let print = |digest: &[u8]| hex::encode(digest);
    vec![
        Row {
            algorithm: algorithm.clone(),
            fingerprint: chain.first().map(|der| print(&Sha256::digest(der))).unwrap_or_default(),
            valid_until: Some(ends.to_string()),
            days_left: Some(ends.since_ms(now) / DAY_MS),
            listed,
            ..certificate
        },
        Row { algorithm, fingerprint: print(&identity::key_sha256(&leaf)), ..key },
    ]
}

fn algorithm(key: &SubjectPublicKeyInfo<'_>) -> String {
    match key.parsed() {
        Ok(PublicKey::EC(point)) => format!("ECDSA P-{}", point.key_size()),
        Ok(PublicKey::RSA(rsa)) => format!("RSA {}", rsa.key_size()),
        _ if key.algorithm.algorithm.to_id_string() == ED25519_OID => "Ed25519".to_owned(),
        _ => key.algorithm.algorithm.to_id_string(),
    }
}

/// RFC 8410 §3.
const ED25519_OID: &str = "1.3.101.112";

fn log(config: &Config, entry: Option<&Entry>, findings: &[Finding]) -> Row {
    let row = row("log", &config.log_key, findings, &["keys.log"]);
    let signing = keys::read_seed(&config.log_key).ok().zip(entry);
    let log = signing.and_then(|(seed, entry)| own_log(&entry.record, &seed));
    let print = log.as_ref().map(|log| format!("{} {}", log.verifying_key().name(), fingerprint(log.verifying_key())));
    Row {
        algorithm: "Ed25519".to_owned(),
        fingerprint: print.unwrap_or_default(),
        listed: entry.map(|_| log.is_some()),
        ..row
    }
}

/// The key in use first, then the former ones.
fn sealing(config: &Config, entry: Option<&Entry>, findings: &[Finding]) -> Vec<Row> {
    let named = entry.and_then(|entry| entry.record.sealing_key);
    let one = |purpose: &'static str, path: &Path, checks: &[&str]| {
        let row = row(purpose, path, findings, checks);
        let (public, unread) = match OpeningKey::read(path) {
            Ok(key) => (Some(*key.public()), None),
            Err(fault) => (None, Some(unread(&fault))),
        };
        Row {
            algorithm: "X25519 (HPKE)".to_owned(),
            fingerprint: public.map(|public| public.id().to_string()).unwrap_or_default(),
            listed: Some(named.is_some() && named == public),
            fault: row.fault.clone().or(unread),
            ..row
        }
    };
    let used = config.sealing_key.iter().map(|path| one("sealing", path, &["keys.sealing"]));
    used.chain(config.former_sealing_keys.iter().map(|path| one("sealing-former", path, &[]))).collect()
}

/// The member's key, where it is at hand: it need not be.
fn member(config: &Config, entry: Option<&Entry>, named: Option<&Path>) -> Option<Row> {
    let beside = config.certificate.with_file_name("member.key");
    let path = named.map(Path::to_owned).or(Some(beside).filter(|path| path.exists()))?;
    let row = row("member", &path, &[], &[]);
    let read = keys::read_seed(&path)
        .map(|seed| SigningKey::from_seed(&member_key_name(&config.alliance, &config.member), seed.bytes()).ok());
    let (key, fault) = match read {
        Ok(key) => (key, None),
        Err(fault) => (None, Some(unread(&fault))),
    };
    let known = entry.zip(key.as_ref()).map(|(entry, key)| entry.member_key == *key.verifying_key());
    let print = key.map(|key| fingerprint(key.verifying_key())).unwrap_or_default();
    Some(Row { algorithm: "Ed25519".to_owned(), fingerprint: print, listed: known, fault, ..row })
}

/// The alliance's public key: what all trust begins with.
fn alliance(config: &Config) -> Row {
    let row = row("alliance", &config.alliance_key, &[], &[]);
    let text = keys::read_text(&config.alliance_key);
    let key = text.as_ref().ok().and_then(|text| VerifyingKey::parse(text.trim_end()).ok());
    let print = key.as_ref().map(fingerprint).unwrap_or_default();
    let fault = match (&text, &key) {
        (Err(fault), _) => Some(unread(fault)),
        (Ok(_), None) => Some(("not a vkey line".to_owned(), "不是 vkey 行".to_owned())),
        (Ok(_), Some(_)) => None,
    };
    Row { algorithm: "Ed25519".to_owned(), fingerprint: print, fault, ..row }
}

fn unread(fault: &KeyFileError) -> (String, String) {
    (fault.to_string(), super::super::text::key_file_zh(fault))
}

fn shown(rows: &[Row], lang: Lang) -> String {
    let head = match lang {
        Lang::En => ["for", "algorithm", "fingerprint", "file", "mode", "valid until", "listed"],
        Lang::Zh => ["用途", "算法", "指纹", "文件", "权限", "有效期至", "已登记"],
    };
    let line = |row: &Row| {
        let until = match (&row.valid_until, row.days_left) {
            (Some(until), Some(days)) => {
                lang.tr(format!("{until}\n{days} days left"), format!("{until}\n剩余 {days} 天"))
            }
            _ => "–".to_owned(),
        };
        let listed = match row.listed {
            Some(true) => lang.tr("yes", "是"),
            Some(false) => lang.tr("NO", "否"),
            None => "–",
        };
        let mode = row.mode.clone().unwrap_or_else(|| lang.tr("missing", "缺失").to_owned());
        let (algorithm, print, file) = (row.algorithm.clone(), row.fingerprint.clone(), row.file.clone());
        vec![purpose(row.purpose, lang).to_owned(), algorithm, print, file, mode, until, listed.to_owned()]
    };
    let faults = rows.iter().filter_map(|row| {
        let (en, zh) = row.fault.as_ref()?;
        Some(lang.tr(format!("{}: {en}", purpose(row.purpose, lang)), format!("{}：{zh}", purpose(row.purpose, lang))))
    });
    std::iter::once(table(&head, rows.iter().map(line))).chain(faults).collect::<Vec<_>>().join("\n")
}

fn purpose(purpose: &'static str, lang: Lang) -> &'static str {
    match purpose {
        "tls-certificate" => lang.tr("TLS certificate", "TLS 证书"),
        "tls-key" => lang.tr("TLS key", "TLS 私钥"),
        "log" => lang.tr("log of receipts", "回执日志"),
        "sealing" => lang.tr("sealing", "加封"),
        "sealing-former" => lang.tr("sealing, former", "旧加封密钥"),
        "member" => lang.tr("member", "成员"),
        _ => lang.tr("alliance (public)", "联盟（公钥）"),
    }
}
