//! Decides how dead letters, and what is about to be done with them, look on a terminal. Never asks a gateway anything.

use std::io;

use indicatif::{HumanBytes, HumanDuration};
use serde_json::json;

use crate::cli::client::{Fate, Group, Letter, Obstacle, Opened, Preview, ToldPart};
use crate::cli::message::state_zh;
use crate::cli::out::table;
use crate::cli::{Lang, Out};
use crate::reason::Reason;

/// The dead letters by cause.
pub fn groups(groups: &[Group], lang: Lang) -> String {
    let total: u64 = groups.iter().map(|group| group.count).sum();
    let line = lang.tr(format!("{total} dead letters wait"), format!("{total} 封死信待处理"));
    if groups.is_empty() {
        return line;
    }
    let head = match lang {
        Lang::En => ["letters", "own", "cause", "towards", "item", "oldest", "newest"],
        Lang::Zh => ["死信", "本市", "原因", "去向", "事项", "最早", "最近"],
    };
    let row = |group: &Group| {
        let (cause, lane, item) = (cause(&group.cause, lang), group.lane.clone(), group.item_code.clone());
        vec![
            group.count.to_string(),
            group.own.to_string(),
            cause,
            lane,
            item,
            group.oldest.clone(),
            group.newest.clone(),
        ]
    };
    format!("{line}\n{}", table(&head, groups.iter().map(row)))
}

/// A reason's code and its words.
pub fn cause(code: &str, lang: Lang) -> String {
    match Reason::from_code(code) {
        Some(reason) => format!("{code}\n{}", lang.tr(reason.en(), reason.zh())),
        None => code.to_owned(),
    }
}

/// The letters one by one.
pub fn letters(letters: &[Letter], lang: Lang) -> String {
    let head = match lang {
        Lang::En => ["ended", "message", "from", "to", "item", "state", "cause", "towards", "fate"],
        Lang::Zh => ["结束时间", "消息", "发送城市", "接收方", "事项", "状态", "原因", "去向", "处置"],
    };
    let row = |letter: &Letter| {
        vec![
            letter.time.clone(),
            letter.message_id.clone(),
            letter.from_city.clone(),
            letter.to.clone(),
            letter.item_code.clone(),
            state(letter, lang),
            letter.cause.clone(),
            letter.lane.clone(),
            fate(letter, lang),
        ]
    };
    table(&head, letters.iter().map(row))
}

fn state(letter: &Letter, lang: Lang) -> String {
    let state = lang.tr(letter.state.as_str(), state_zh(letter.state)).to_owned();
    if letter.in_doubt { state + lang.tr(" in doubt", " 存疑") } else { state }
}

fn fate(letter: &Letter, lang: Lang) -> String {
    match letter.fate {
        Fate::Waiting => lang.tr("waits", "待处理").to_owned(),
        Fate::Redriven => {
            let id = &letter.redriven_as;
            lang.tr(format!("redriven as {id}"), format!("已重投为 {id}"))
        }
        Fate::Discarded => {
            let why = &letter.discard_reason;
            lang.tr(format!("set aside: {why}"), format!("已搁置：{why}"))
        }
    }
}

/// One letter.
pub fn letter(opened: &Opened, out: &Out) -> io::Result<()> {
    let mut value = json!(opened.letter);
    let part = |part: &ToldPart| json!({ "name": part.name, "media_type": part.media_type, "size": part.size });
    let parts: Vec<_> = opened.parts.iter().map(part).collect();
    let more = json!({ "sender": opened.sender, "case_no": opened.case_no, "step": opened.step,
        "detail": opened.detail, "has_body": opened.has_body, "parts": parts });
    if let (Some(value), serde_json::Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
    out.show(&value, || {
        let (letter, lang) = (&opened.letter, out.lang);
        let sender = if opened.sender.is_empty() { &letter.from_city } else { &opened.sender };
        let content = match opened.has_body {
            true => lang.tr("kept", "仍保存"),
            false => lang.tr("gone: it cannot be redriven", "已清除，无法重投"),
        };
        let facts = [
            (lang.tr("fate", "处置"), fate(letter, lang)),
            (lang.tr("ended", "结束时间"), letter.time.clone()),
            (lang.tr("cause", "原因"), cause(&letter.cause, lang).replace('\n', "  ")),
            (lang.tr("detail", "说明"), opened.detail.clone()),
            (lang.tr("from", "发送方"), sender.clone()),
            (lang.tr("to", "接收方"), letter.to.clone()),
            (lang.tr("towards", "去向"), letter.lane.clone()),
            (lang.tr("item", "事项"), letter.item_code.clone()),
            (lang.tr("case", "办件编号"), opened.case_no.clone()),
            (lang.tr("step", "环节"), opened.step.clone()),
            (lang.tr("content", "内容"), content.to_owned()),
        ];
        let facts = facts.into_iter().filter(|(_, value)| !value.is_empty());
        let lines = facts.map(|(name, value)| format!("  {name}: {value}"));
        let first = format!("{}  {}", letter.message_id, state(letter, lang));
        let parts = opened.parts.iter().map(|part| format!("  {} {} {}", part.name, part.media_type, part.size));
        std::iter::once(first).chain(lines).chain(parts).collect::<Vec<_>>().join("\n")
    })
}

/// What a redrive is about to do.
pub fn redriving(preview: &Preview, rate: u32, canary: u32, causes: &[Group], lang: Lang) -> String {
    let count = preview.count;
    let (bytes, takes) = (HumanBytes(preview.bytes), seconds(count, rate));
    let takes = HumanDuration(std::time::Duration::from_secs(takes));
    let mut lines = vec![lang.tr(
        format!("{count} letters ({bytes}) can be redriven, in about {takes} at {rate} per second"),
        format!("可重投 {count} 封死信（{bytes}），每秒 {rate} 封，约需 {takes}"),
    )];
    if canary > 0 {
        lines.push(lang.tr(
            format!("the first {canary} must be handed over before the others follow"),
            format!("前 {canary} 封全部交接后才继续其余"),
        ));
    }
    lines.extend(preview.obstacles.iter().map(|obstacle| obstacle_line(obstacle, lang)));
    lines.extend((!causes.is_empty()).then(|| groups(causes, lang)));
    lines.join("\n")
}

/// How long so many take at this rate.
pub fn seconds(count: u64, rate: u32) -> u64 {
    count.div_ceil(u64::from(rate.max(1)))
}

fn obstacle_line(obstacle: &Obstacle, lang: Lang) -> String {
    let why = match obstacle.kind.as_str() {
        "ELSEWHERE" => {
            lang.tr("another city sent them: only its gateway redrives them", "由其他城市发送，只能在其网关重投")
        }
        "BODY_GONE" => lang.tr("their content is gone", "内容已清除"),
        "REDRIVEN" => lang.tr("redriven before", "此前已重投"),
        "DISCARDED" => lang.tr("set aside before", "此前已搁置"),
        "UNKNOWN" => lang.tr("no such dead letter", "没有该死信"),
        "REFUSED" => lang.tr("refused by the rules in force", "现行规则不予受理"),
        other => other,
    };
    let (count, reason) = (obstacle.count, &obstacle.reason);
    let examples = obstacle.examples.iter().take(3).map(|(from, id)| format!("{from}/{id}"));
    let examples = examples.collect::<Vec<_>>().join(", ");
    let why = format!("{why} {reason}");
    let why = why.trim_end();
    lang.tr(format!("{count} cannot: {why} ({examples})"), format!("{count} 封不能：{why}（{examples}）"))
}

/// What a discard is about to do.
pub fn discarding(count: u64, others: u64, causes: &[Group], lang: Lang) -> String {
    let mut lines = vec![lang.tr(format!("{count} letters would be set aside"), format!("将搁置 {count} 封死信"))];
    lines.extend(
        (others > 0)
            .then(|| lang.tr(format!("{others} do not wait, or never did"), format!("{others} 封已不在待处理之列"))),
    );
    lines.extend((!causes.is_empty()).then(|| groups(causes, lang)));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_redrive_takes_is_rounded_up() {
        assert_eq!([seconds(0, 50), seconds(1, 50), seconds(1_284, 50), seconds(100, 50)], [0, 1, 26, 2]);
    }
}
