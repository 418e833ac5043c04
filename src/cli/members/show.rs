//! Decides how members look on a terminal. Never asks a gateway anything.

use super::super::Lang;
use super::super::client::{ToldHeldBack, ToldMember, ToldSuspension};
use super::super::out::table;
use crate::limits::DAY_MS;
use crate::time::Time;

/// All members in one table.
pub fn list(members: &[ToldMember], version: u64, now: Time, lang: Lang) -> String {
    let head = match lang {
        Lang::En => ["member", "name", "state", "record", "reached at", "revocation list", "known by"],
        Lang::Zh => ["成员", "名称", "状态", "记录", "地址", "吊销列表", "依据"],
    };
    let row = |member: &ToldMember| {
        vec![
            member.member.clone(),
            format!("{} {}", member.name_zh, member.name_en),
            states(member, lang).join("\n"),
            member.version.to_string(),
            reached(member, lang),
            crl(member, now, lang),
            source(&member.source, lang).to_owned(),
        ]
    };
    let title = lang.tr(format!("directory version {version}"), format!("名录第 {version} 版"));
    format!("{title}\n{}", table(&head, members.iter().map(row)))
}

/// All that is known of a member.
pub fn one(member: &ToldMember, now: Time, lang: Lang) -> String {
    let mut rows = vec![
        (lang.tr("member", "成员"), member.member.clone()),
        (lang.tr("name", "名称"), format!("{} {}", member.name_zh, member.name_en)),
        (lang.tr("state", "状态"), states(member, lang).join("\n")),
        (lang.tr("record", "成员记录"), record(member, lang)),
        (lang.tr("known by", "依据"), source(&member.source, lang).to_owned()),
        (lang.tr("reached at", "地址"), reached(member, lang)),
        (lang.tr("member key", "成员密钥"), member.fingerprint.clone()),
        (lang.tr("authorities (SHA-256)", "证书机构（SHA-256）"), member.authorities.join("\n")),
        (lang.tr("revocation list", "吊销列表"), crl(member, now, lang)),
    ];
    rows.extend(member.logs.iter().map(|log| (lang.tr("log", "日志"), format!("{}\n{}", log.origin, log.fingerprint))));
    if !member.relays.is_empty() {
        rows.push((lang.tr("may relay for it", "可为其中继"), member.relays.join(", ")));
    }
    let head = [lang.tr("what", "项目"), lang.tr("value", "内容")];
    table(&head, rows.into_iter().map(|(what, value)| vec![what.to_owned(), value]))
}

/// Who suspended a member, and why.
pub fn suspension(suspension: &ToldSuspension, lang: Lang) -> String {
    let since = suspension.since.map(|since| since.to_string()).unwrap_or_default();
    let (by, reason) = (&suspension.by, &suspension.reason);
    lang.tr(format!("suspended here since {since} by {by}: {reason}"), format!("自 {since} 由 {by} 暂停：{reason}"))
}

/// Both fingerprints of a changed key, one above the other.
pub fn key_change(member: &ToldMember, key: &ToldHeldBack, lang: Lang) -> String {
    let (name, version) = (&member.member, key.version);
    let (held, found) = (&key.held_fingerprint, &key.found_fingerprint);
    lang.tr(
        format!("{name}: version {version} of the directory brings another member key\n  old key: {held}\n  new key: {found}"),
        format!("{name}：名录第 {version} 版带来新的成员密钥\n  旧密钥：{held}\n  新密钥：{found}"),
    )
}

/// How it stands, a line for each thing.
pub fn states(member: &ToldMember, lang: Lang) -> Vec<String> {
    let held = |held: &ToldHeldBack| match held.found_fingerprint.as_str() {
        "" => lang
            .tr(format!("held back: {}: {}", held.kind, held.reason), format!("搁置：{}：{}", held.kind, held.reason)),
        found => lang.tr(
            format!("held back: another key, {} in the place of {}", found, held.held_fingerprint),
            format!("搁置：成员密钥由 {} 变为 {}", held.held_fingerprint, found),
        ),
    };
    let in_force = match (&member.suspended, member.own) {
        (Some(told), _) => suspension(told, lang),
        (None, true) => lang.tr("in force, ourselves", "有效（本单位）").to_owned(),
        (None, false) => lang.tr("in force", "有效").to_owned(),
    };
    std::iter::once(in_force).chain(member.held_back.iter().map(held)).collect()
}

fn record(member: &ToldMember, lang: Lang) -> String {
    let (version, at) = (member.version, member.issued_at.map(|at| at.to_string()).unwrap_or_default());
    lang.tr(format!("version {version} of {at}"), format!("第 {version} 版，{at}"))
}

fn reached(member: &ToldMember, lang: Lang) -> String {
    match member.endpoints.is_empty() {
        true => lang.tr("fetches", "自行取件").to_owned(),
        false => member.endpoints.join("\n"),
    }
}

/// The policy, and how old the list is.
fn crl(member: &ToldMember, now: Time, lang: Lang) -> String {
    let policy = match member.crl_required {
        true => lang.tr("required", "必需"),
        false => lang.tr("none", "无"),
    };
    let (Some(issued), Some(ends)) = (member.crl_issued_at, member.crl_ends_at) else {
        return match member.crl_required {
            true => lang.tr("required, and missing: the member is refused", "必需，但缺失：该成员被拒绝").to_owned(),
            false => policy.to_owned(),
        };
    };
    let hours = now.since_ms(issued) / (60 * 60 * 1000);
    if ends < now {
        return lang.tr(format!("{policy}, expired on {ends}"), format!("{policy}，已于 {ends} 过期"));
    }
    let left = ends.since_ms(now) / DAY_MS;
    lang.tr(
        format!("{policy}, {hours} h old, {left} days left"),
        format!("{policy}，已签发 {hours} 小时，剩余 {left} 天"),
    )
}

fn source(source: &str, lang: Lang) -> &str {
    match source {
        "DIRECTORY" => lang.tr("directory", "名录"),
        "NOTE" => lang.tr("its own newer note", "其自行签署的新记录"),
        "APPROVED" => lang.tr("key approved here", "本网关采信的密钥"),
        other => other,
    }
}
