//! Decides how `tongban lanes` shows the lanes of a gateway, and which one is paused or goes on. Never touches a message.

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::{As, ToldLane, converse};
use super::out::table;
use super::{Answer, Exit, Lang, Out, now};
use crate::lang::Unfit;
use crate::party::Member;
use crate::store::LaneName;
use crate::time::Time;

#[derive(Subcommand)]
pub enum Command {
    /// Show every lane: what waits, how it goes, who paused it
    List {
        #[command(flatten)]
        who: As,
    },
    /// Let nothing more leave by a lane, until it is resumed; messages are still accepted
    Pause(Pause),
    /// Let a paused lane go on
    Resume(Resume),
}

#[derive(Args)]
pub struct Pause {
    #[command(flatten)]
    who: As,
    /// gateway/MEMBER, system/NAME, or a member alone
    #[arg(value_name = "LANE", value_parser = lane)]
    lane: LaneName,
    /// Why; it is shown to all who look at the lane, and kept in the audit
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Args)]
pub struct Resume {
    #[command(flatten)]
    who: As,
    /// gateway/MEMBER, system/NAME, or a member alone
    #[arg(value_name = "LANE", value_parser = lane)]
    lane: LaneName,
    /// Why; kept in the audit
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Reads a lane's name; a member alone means the lane towards its gateway.
fn lane(text: &str) -> Result<LaneName, Unfit> {
    let member = || text.parse::<Member>().map(LaneName::Gateway).ok();
    let named = text.parse::<LaneName>().ok().or_else(member);
    let must =
        || Unfit::new("must be gateway/MEMBER, system/NAME or a member", "应为 gateway/成员、system/名称 或成员");
    named.ok_or_else(must)
}

/// Runs one command of the family.
pub fn run(command: &Command, out: &Out) -> Answer {
    match command {
        Command::List { who } => converse(who, async |client| {
            let lanes = client.lanes().await.map_err(|trouble| trouble.shown(out))?;
            out.show(&json!({ "lanes": lanes }), || shown(&lanes, now(), out.lang))?;
            Ok(Exit::Done)
        }),
        Command::Pause(Pause { who, lane, reason }) => converse(who, async |client| {
            let (changed, lane) = client.pause(lane, reason).await.map_err(|trouble| trouble.shown(out))?;
            told(changed, &lane, ("is paused", "已暂停"), ("was paused already", "此前已暂停"), out)
        }),
        Command::Resume(Resume { who, lane, reason }) => converse(who, async |client| {
            let (changed, lane) = client.resume(lane, reason).await.map_err(|trouble| trouble.shown(out))?;
            told(changed, &lane, ("goes on", "已恢复"), ("was not paused", "此前未暂停"), out)
        }),
    }
}

/// What was done; exit 1 when it was so before.
fn told(changed: bool, lane: &ToldLane, done: (&str, &str), before: (&str, &str), out: &Out) -> Answer {
    let said = if changed { done } else { before };
    out.show(&json!({ "changed": changed, "lane": lane }), || {
        let (name, waiting) = (&lane.lane, lane.waiting);
        let line = out.lang.tr(
            format!("{name} {}; {waiting} messages wait in it", said.0),
            format!("{name} {}；其中有 {waiting} 条消息等待", said.1),
        );
        [Some(line), pause(lane, out.lang)].into_iter().flatten().collect::<Vec<_>>().join("\n")
    })?;
    Ok(if changed { Exit::Done } else { Exit::No })
}

fn shown(lanes: &[ToldLane], now: Time, lang: Lang) -> String {
    let head = match lang {
        Lang::En => ["lane", "waiting", "out", "oldest", "breaker", "next attempt", "state"],
        Lang::Zh => ["通道", "等待", "在途", "最久等待", "熔断", "下次尝试", "状态"],
    };
    let row = |lane: &ToldLane| {
        vec![
            lane.lane.clone(),
            lane.waiting.to_string(),
            lane.in_flight.to_string(),
            lane.oldest.map(|oldest| age(now.since_ms(oldest))).unwrap_or_default(),
            breaker(lane, lang),
            lane.next_attempt.map(|at| at.to_string()).unwrap_or_default(),
            state(lane, lang),
        ]
    };
    table(&head, lanes.iter().map(row))
}

/// How the breaker stands.
pub fn breaker(lane: &ToldLane, lang: Lang) -> String {
    let word = match lane.breaker.as_str() {
        "CLOSED" => lang.tr("closed", "闭合"),
        "OPEN" => lang.tr("open", "断开"),
        "HALF_OPEN" => lang.tr("half open", "半开"),
        _ => "",
    };
    match lane.failures {
        0 => word.to_owned(),
        failures => lang.tr(format!("{word}, {failures} failures"), format!("{word}，连续失败 {failures} 次")),
    }
}

/// Whether somebody works it, or paused it.
pub fn state(lane: &ToldLane, lang: Lang) -> String {
    match pause(lane, lang) {
        Some(pause) => pause,
        None if !lane.worked => lang.tr("nobody works it", "无人处理").to_owned(),
        None if lane.sessions > 0 => lang.tr("connected", "已连接").to_owned(),
        None => lang.tr("idle", "空闲").to_owned(),
    }
}

fn pause(lane: &ToldLane, lang: Lang) -> Option<String> {
    let pause = lane.paused.as_ref()?;
    let since = pause.since.map(|since| since.to_string()).unwrap_or_default();
    let (by, reason) = (&pause.by, &pause.reason);
    Some(lang.tr(format!("paused since {since} by {by}: {reason}"), format!("自 {since} 由 {by} 暂停：{reason}")))
}

/// A span in its two largest units.
pub fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_alone_means_the_lane_towards_its_gateway() {
        for (text, name) in [
            ("440600", "gateway/440600"),
            ("hub/main", "gateway/hub/main"),
            ("gateway/hub/main", "gateway/hub/main"),
            ("system/window", "system/window"),
        ] {
            assert_eq!(lane(text).map(|lane| lane.to_string()).as_deref(), Ok(name));
        }
        for bad in ["", "window", "gateway/", "lane/440600"] {
            assert!(lane(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_age_is_told_in_its_two_largest_units() {
        let told = [0, 59_999, 60_000, 3_599_000, 3_600_000, 86_399_000, 86_400_000 * 2 + 3_600_000].map(age);
        assert_eq!(told, ["0s", "59s", "1m 0s", "59m 59s", "1h 0m", "23h 59m", "2d 1h"]);
    }
}
