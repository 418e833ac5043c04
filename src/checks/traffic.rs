//! Decides whether messages can flow and do: routes, grants, lanes, dead letters. Never looks into a message.

use super::advice;
use super::facts::{Facts, Look};
use crate::limits::{BREAKER_FAILURES, LANE_OLD_MS, LANE_STUCK_MS};
use crate::party::Member;
use crate::routing::Index;
use crate::server::tables;
use crate::store::{LaneLook, LaneName};

/// The tables in force, compiled as a start would.
pub fn tables_compile(facts: &Facts<'_>) -> Vec<Look> {
    let (Some(store), Some(directory)) = (facts.store.get(), facts.directory.get()) else {
        return vec![Look::good("no tables yet")];
    };
    let compiled = tables(facts.config, directory, store).map_err(|error| error.to_string()).and_then(|tables| {
        let version = tables.version;
        let index = Index::compile(&tables);
        let index = index.map_err(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        Ok((version, index.rows()))
    });
    vec![match compiled {
        Ok((version, rows)) => Look::good(format!("version {version}, {rows} rows")),
        Err(why) => Look::fault(&advice::ROUTES_CLASH, why),
    }]
}

/// What partners sent and could not be put in force.
pub fn held_back(facts: &Facts<'_>) -> Vec<Look> {
    let held = facts.board.get().map(crate::noticeboard::Noticeboard::held_back).unwrap_or_default();
    let looks = held.into_iter().map(|((kind, owner), why)| {
        let owner = owner.map_or_else(String::new, |owner| owner.to_string());
        Look::warning(&advice::NOTE_HELD_BACK, format!("{}: {why}", kind.as_str())).about(owner)
    });
    let mut looks: Vec<Look> = looks.collect();
    if looks.is_empty() {
        looks.push(Look::good("none"));
    }
    looks
}

pub fn grants(facts: &Facts<'_>) -> Vec<Look> {
    let (config, count) = (facts.config, facts.config.grants.0.len());
    let city = matches!(config.member, Member::City(_));
    vec![if count == 0 {
        Look::fault(&advice::GRANTS_NONE, "0")
    } else if city && config.systems.is_empty() {
        Look::warning(&advice::SYSTEMS_NONE, format!("{count} grants, 0 systems"))
    } else {
        Look::good(format!("{count} grants, {} systems", config.systems.len()))
    }]
}

/// Every lane: how long its oldest message waits, whether it rests, whether somebody holds it.
pub fn lanes(facts: &Facts<'_>) -> Vec<Look> {
    let Some(store) = facts.store.get() else { return vec![Look::good("no store yet")] };
    let lanes = match store.look(|look| look.lanes()) {
        Ok(lanes) => lanes,
        Err(error) => return vec![Look::fault(&advice::STORE_UNREADABLE, error.to_string())],
    };
    let mut looks: Vec<Look> = lanes.iter().map(|lane| judged(facts, lane).about(&lane.name)).collect();
    if looks.is_empty() {
        looks.push(Look::good("no lane yet"));
    }
    looks
}

fn judged(facts: &Facts<'_>, lane: &LaneLook) -> Look {
    let waits_ms = lane.oldest.map(|oldest| facts.now.since_ms(oldest));
    let seen = match waits_ms {
        Some(ms) => format!("oldest waits {} s, {} failures in a row", ms / 1000, lane.state.failures),
        None => "empty".to_owned(),
    };
    let seen = match &lane.hold {
        Some(hold) => format!("paused since {} by {}: {}; {seen}", hold.since, hold.by, hold.why),
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
        Err(error) => Look::fault(&advice::STORE_UNREADABLE, error.to_string()),
    }]
}
