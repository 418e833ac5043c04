//! Decides whether messages can flow and do: routes, grants, lanes, dead letters. Never looks into a message.

use super::advice;
use super::facts::{Facts, Look, Seen};
use crate::limits::{BREAKER_FAILURES, LANE_OLD_MS, LANE_STUCK_MS};
use crate::party::Member;
use crate::routing::Index;
use crate::server::{ServerError, tables};
use crate::store::{LaneLook, LaneName};

/// The tables in force, compiled as a start would; those that this gateway serves by have been.
pub fn tables_compile(facts: &Facts<'_>) -> Vec<Look> {
    let (Some(store), Some(directory)) = (facts.store.get(), facts.directory.get()) else {
        return vec![Look::good(Seen::both("no tables yet", "尚无路由表"))];
    };
    let newest = || Some(store.look(|look| look.route_versions(1)).ok()?.first().map_or(0, |newest| newest.version));
    if let Some(index) = facts.in_force.as_ref().filter(|index| newest() == Some(index.version())) {
        return vec![Look::good(compiled_words(index.version(), index.rows()))];
    }
    let compiled = tables(facts.config, directory, store).map_err(|error| Seen::error(&error)).and_then(|tables| {
        let version = tables.version;
        let index = Index::compile(&tables);
        let index = index.map_err(|all| Seen::error(&ServerError::Routes(all)))?;
        Ok((version, index.rows()))
    });
    vec![match compiled {
        Ok((version, rows)) => Look::good(compiled_words(version, rows)),
        Err(why) => Look::fault(&advice::ROUTES_CLASH, why),
    }]
}

fn compiled_words(version: u64, rows: usize) -> Seen {
    Seen::both(format!("version {version}, {rows} rows"), format!("第 {version} 版，共 {rows} 行"))
}

/// What partners sent and could not be put in force.
pub fn held_back(facts: &Facts<'_>) -> Vec<Look> {
    let held = facts.board.get().map(crate::noticeboard::Noticeboard::held_back).unwrap_or_default();
    let looks = held.into_iter().map(|((kind, owner), why)| {
        let owner = owner.map_or_else(String::new, |owner| owner.to_string());
        let kind = kind.as_str();
        let seen = Seen::both(format!("{kind}: {why}"), format!("{kind}：{why:?}"));
        Look::warning(&advice::NOTE_HELD_BACK, seen).about(owner)
    });
    let mut looks: Vec<Look> = looks.collect();
    if looks.is_empty() {
        looks.push(Look::good(Seen::both("none", "无")));
    }
    looks
}

pub fn grants(facts: &Facts<'_>) -> Vec<Look> {
    let (config, count) = (facts.config, facts.config.grants.0.len());
    let city = matches!(config.member, Member::City(_));
    vec![if count == 0 {
        Look::fault(&advice::GRANTS_NONE, "0")
    } else if city && config.systems.is_empty() {
        Look::warning(
            &advice::SYSTEMS_NONE,
            Seen::both(format!("{count} grants, 0 systems"), format!("授权 {count} 条，系统 0 个")),
        )
    } else {
        let systems = config.systems.len();
        Look::good(Seen::both(
            format!("{count} grants, {systems} systems"),
            format!("授权 {count} 条，系统 {systems} 个"),
        ))
    }]
}

/// Every lane: how long its oldest message waits, whether it rests, whether somebody holds it.
pub fn lanes(facts: &Facts<'_>) -> Vec<Look> {
    let Some(store) = facts.store.get() else { return vec![Look::good(Seen::both("no store yet", "尚无存储"))] };
    let lanes = match store.look(|look| look.lanes()) {
        Ok(lanes) => lanes,
        Err(error) => return vec![Look::fault(&advice::STORE_UNREADABLE, Seen::error(&error))],
    };
    let mut looks: Vec<Look> = lanes.iter().map(|lane| judged(facts, lane).about(&lane.name)).collect();
    if looks.is_empty() {
        looks.push(Look::good(Seen::both("no lane yet", "尚无通道")));
    }
    looks
}

fn judged(facts: &Facts<'_>, lane: &LaneLook) -> Look {
    let waits_ms = lane.oldest.map(|oldest| facts.now.since_ms(oldest));
    let seen = match waits_ms {
        Some(ms) => {
            let (s, failures) = (ms / 1000, lane.state.failures);
            let en = format!("oldest waits {s} s, {failures} failures in a row");
            Seen::both(en, format!("最早的消息已等 {s} 秒，连续失败 {failures} 次"))
        }
        None => Seen::both("empty", "空"),
    };
    let seen = match &lane.hold {
        Some(hold) => {
            let (since, by, why) = (hold.since, &hold.by, &hold.why);
            Seen::both(
                format!("paused since {since} by {by}: {why}; {}", seen.en),
                format!("{since} 起由 {by} 暂停：{why}；{}", seen.zh),
            )
        }
        None => seen,
    };
    let waits_ms = waits_ms.unwrap_or(0);
    if lane.hold.is_some() {
        // Somebody wants it so; but nobody wants it forgotten.
        let forgotten = waits_ms >= LANE_STUCK_MS;
        if forgotten { Look::fault(&advice::LANE_HELD, seen) } else { Look::warning(&advice::LANE_HELD, seen) }
    } else if waits_ms >= LANE_STUCK_MS {
        Look::fault(&advice::LANE_OLD, seen)
    } else if lane.state.failures >= BREAKER_FAILURES && waits_ms > 0 {
        let rests = matches!(lane.name, LaneName::Gateway(_));
        if rests { Look::fault(&advice::LANE_RESTS, seen) } else { Look::warning(&advice::LANE_RESTS, seen) }
    } else if waits_ms >= LANE_OLD_MS {
        Look::warning(&advice::LANE_OLD, seen)
    } else {
        Look::good(seen)
    }
}

pub fn dead(facts: &Facts<'_>) -> Vec<Look> {
    let Some(store) = facts.store.get() else { return vec![Look::good("0")] };
    vec![match store.look(|look| look.dead_waiting()) {
        Ok(0) => Look::good("0"),
        Ok(count) => Look::warning(&advice::DEAD_LETTERS, count.to_string()),
        Err(error) => Look::fault(&advice::STORE_UNREADABLE, Seen::error(&error)),
    }]
}
