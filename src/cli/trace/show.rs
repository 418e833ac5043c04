//! Decides how the way of a message looks on a terminal: one line for each step, in the order in which it is walked. Never asks
//! a gateway anything.

use super::super::Lang;
use super::super::client::{ToldFinding, ToldGrant, ToldLane, ToldMember};
use super::super::lanes::{age, breaker, state};
use super::super::members::states;
use super::super::out::table;
use super::{Candidate, Route, Way};
use crate::time::Time;

/// The whole way.
pub fn way(way: &Way, now: Time, lang: Lang) -> String {
    let mut rows = vec![
        row(lang.tr("recipient", "接收城市"), way.member.as_ref().is_some_and(in_force), lang, member(way, lang)),
        row(lang.tr("grants", "授权"), !way.grants.is_empty(), lang, grants(&way.grants, lang)),
    ];
    let goes = way.route.as_ref().is_none_or(|route| route.decision.goes());
    rows.push(row(lang.tr("route", "路由"), goes && !way.candidates.is_empty(), lang, route(way.route.as_ref(), lang)));
    for (place, candidate) in way.candidates.iter().enumerate() {
        rows.extend(steps(place + 1, candidate, now, lang));
    }
    if let Some(case) = &way.case {
        let line = |one: &super::Waiting| {
            let stored = one.stored_at.as_deref().unwrap_or_default();
            format!("{} {} {} {stored}", one.message_id, one.step, one.state)
        };
        let none = || lang.tr("nothing of it is under way", "没有在途消息").to_owned();
        let lines: Vec<String> = case.iter().map(line).collect();
        let told = if lines.is_empty() { none() } else { lines.join("\n") };
        rows.push(row(lang.tr("case", "办件"), true, lang, told));
    }
    let head = [lang.tr("step", "步骤"), lang.tr("open", "通畅"), lang.tr("what is there", "现状")];
    let verdict = match way.open {
        true => lang.tr(format!("the way to {} is open", way.to), format!("发往 {} 的通路畅通", way.to)),
        false => lang.tr(format!("something stands in the way to {}", way.to), format!("发往 {} 的通路受阻", way.to)),
    };
    format!("{}\n{verdict}", table(&head, rows))
}

fn row(step: &str, open: bool, lang: Lang, what: String) -> Vec<String> {
    let open = if open { lang.tr("yes", "是") } else { lang.tr("NO", "否") };
    vec![step.to_owned(), open.to_owned(), what]
}

fn in_force(member: &ToldMember) -> bool {
    member.suspended.is_none()
}

fn member(way: &Way, lang: Lang) -> String {
    match &way.member {
        None => lang.tr("no member of the alliance", "不是联盟成员").to_owned(),
        Some(member) => {
            let head = format!("{} {} {}", member.member, member.name_zh, member.name_en);
            std::iter::once(head).chain(states(member, lang)).collect::<Vec<_>>().join("\n")
        }
    }
}

fn grants(grants: &[ToldGrant], lang: Lang) -> String {
    let one = |grant: &ToldGrant| format!("{}: {} × {}", grant.who, grant.items.join(" "), grant.divisions.join(" "));
    match grants.is_empty() {
        true => lang.tr("no grant covers this item and city", "没有授权涵盖该事项与城市").to_owned(),
        false => grants.iter().map(one).collect::<Vec<_>>().join("\n"),
    }
}

fn route(route: Option<&Route>, lang: Lang) -> String {
    let Some(Route { version, decision }) = route else {
        return lang.tr("no item named: by the member record", "未指明事项：按成员记录").to_owned();
    };
    let by = if decision.by.is_empty() { String::new() } else { format!(" ({})", decision.by) };
    let line = decision.line();
    lang.tr(format!("{line}{by}, tables of version {version}"), format!("{line}{by}，路由表第 {version} 版"))
}

/// The lane of a candidate, then its partner's stages up to the one that fails.
fn steps(place: usize, candidate: &Candidate, now: Time, lang: Lang) -> Vec<Vec<String>> {
    let name = format!("{place} {}", candidate.lane);
    let flows =
        candidate.state.as_ref().is_none_or(|lane| lane.paused.is_none() && lane.breaker != "OPEN" && lane.worked);
    let mut rows = vec![row(&name, flows, lang, lane(candidate.state.as_ref(), now, lang))];
    if let Some(member) = candidate.member.as_ref().filter(|member| !in_force(member)) {
        rows.push(row(lang.tr("  partner", "  伙伴"), false, lang, states(member, lang).join("\n")));
    }
    if !candidate.stages.is_empty() {
        let well = candidate.stages.iter().all(|stage| stage.verdict != "FAULT" && stage.verdict != "SKIPPED");
        rows.push(row(lang.tr("  partner", "  伙伴"), well, lang, stages(&candidate.stages, lang)));
    }
    rows
}

fn lane(lane: Option<&ToldLane>, now: Time, lang: Lang) -> String {
    let Some(lane) = lane else { return lang.tr("nothing was ever put in it", "从未有消息").to_owned() };
    let oldest = lane.oldest.map(|oldest| age(now.since_ms(oldest)));
    let waits = match oldest {
        Some(oldest) => lang.tr(
            format!("{} wait, the oldest for {oldest}", lane.waiting),
            format!("等待 {} 条，最久 {oldest}", lane.waiting),
        ),
        None => lang.tr("nothing waits", "无等待消息").to_owned(),
    };
    let breaker = match breaker(lane, lang) {
        none if none.is_empty() => none,
        breaker => lang.tr(format!("; breaker {breaker}"), format!("；熔断{breaker}")),
    };
    format!("{waits}{breaker}; {}", state(lane, lang))
}

/// How far the partner is reached: `name → tcp → tls ✗`, and then what is wrong and what to do.
fn stages(stages: &[ToldFinding], lang: Lang) -> String {
    let failed = stages.iter().position(|stage| stage.verdict == "FAULT");
    let word = |stage: &ToldFinding| stage.check.trim_start_matches("partner.").to_owned();
    let passed: Vec<String> = stages.iter().take(failed.map_or(stages.len(), |at| at + 1)).map(word).collect();
    let chain = passed.join(" → ");
    match failed.map(|at| &stages[at]) {
        None => format!("{chain} ✓"),
        Some(fault) => {
            let (cause, fix) = (lang.tr(&fault.cause_en, &fault.cause_zh), lang.tr(&fault.fix_en, &fault.fix_zh));
            let (to_do, seen) = (lang.tr("to do", "处理"), lang.tr(&fault.seen, &fault.seen_zh));
            format!("{chain} ✗\n{cause} ({seen})\n{to_do}: {fix}")
        }
    }
}
