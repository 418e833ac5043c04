//! Decides which statistics may be asked for, and how they are told. Never counts itself.

use crate::courier::Ground;
use crate::limits::{STATS_EXAMINED_MAX, STATS_RANGE_MS_MAX, STATS_ROWS_MAX};
use crate::reason::Reason;
use crate::store::{Direction, StatsAsk, StatsBy, Sum};
use crate::time::Time;
use crate::wire::envelope::{Fault, Faults, sent};
use crate::wire::pb::admin as pb;
use crate::wire::status::Refused;

/// Reads what is to be counted.
pub fn asked(wire: &pb::GetStatsRequest) -> Result<StatsAsk, Vec<Fault>> {
    let mut faults = Faults::default();
    let mut moment = |field: &str, wire: Option<prost_types::Timestamp>| {
        if wire.is_none() {
            faults.add(field, "is obligatory");
        }
        sent(&mut faults, field, wire).map_or(Time::ZERO, |at| at.time())
    };
    let (from, until) = (moment("from", wire.from), moment("until", wire.until));
    if faults.is_empty() && (from >= until || until.since_ms(from) > STATS_RANGE_MS_MAX) {
        faults.add(
            "until",
            format!("must be after `from`, by {} days at most", STATS_RANGE_MS_MAX / crate::limits::DAY_MS),
        );
    }
    let by = match pb::StatsBy::try_from(wire.by) {
        Ok(pb::StatsBy::Unspecified | pb::StatsBy::Partner) => Some(StatsBy::Partner),
        Ok(pb::StatsBy::Item) => Some(StatsBy::Item),
        Ok(pb::StatsBy::Mode) => Some(StatsBy::Mode),
        Ok(pb::StatsBy::Step) => Some(StatsBy::Step),
        Err(_) => {
            faults.add("by", "must be a known value of StatsBy");
            None
        }
    };
    let place = match wire.page_token.as_str() {
        "" => Some(0),
        token => u64::from_str_radix(token, 16).ok().filter(|place| *place <= i64::MAX as u64),
    };
    if place.is_none() {
        faults.add("page_token", "must be the next_page_token of the page before");
    }
    let (examined, rows) = (STATS_EXAMINED_MAX, STATS_ROWS_MAX);
    let ask = by.zip(place).map(|(by, place)| StatsAsk { from, until, by, place, examined, rows });
    faults.or(ask)
}

/// Counts a page.
pub async fn count(ground: &Ground, ask: StatsAsk) -> Result<pb::GetStatsResponse, Refused> {
    let own = ground.own.clone();
    let counted = ground.readers.seek(move |look| look.stats(&own, &ask)).await;
    let (sums, next) = counted.map_err(|error| {
        tracing::error!(%error, "the receipts cannot be counted");
        Refused::new(Reason::StoreUnavailable)
    })?;
    let next_page_token = next.map(|place| format!("{place:x}")).unwrap_or_default();
    Ok(pb::GetStatsResponse { rows: sums.into_iter().map(|(key, sum)| row(key, sum)).collect(), next_page_token })
}

fn row((direction, key): (Direction, String), sum: Sum) -> pb::StatsRow {
    let direction = match direction {
        Direction::Sent => pb::Direction::Sent,
        Direction::Received => pb::Direction::Received,
        Direction::Carried => pb::Direction::Carried,
    };
    let Sum { accepted, handed_over, rejected, failed, expired, cancelled, open, late, bytes, handover_ms } = sum;
    pb::StatsRow {
        direction: direction as i32,
        key,
        accepted,
        handed_over,
        rejected,
        failed,
        expired,
        cancelled,
        open,
        late,
        bytes,
        handover_ms,
    }
}
