//! Decides when what waits must be looked at although nothing happens: senders are told of delays, deadlines are handed in
//! at the lane's desk, the log's checkpoint is published, the log is walked over, and what is older than its retention goes. Never decides how a message ends.

mod retention;
mod scrub;

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use crate::courier::{Ground, Order};
use crate::ledger::{Entry, Fate, Notice, Settle};
use crate::limits::{DUE_AT_ONCE_MAX, DUE_LOOK_EVERY_MS, PUBLISH_EVERY_MS, SWEEP_EVERY_MS};
use crate::store::{self, DueRow};
use crate::time::Time;

/// Works until `stop` on the store in `data`.
pub async fn run(ground: Ground, data: PathBuf, stop: CancellationToken) {
    stop.run_until_cancelled(async {
        tokio::join!(
            look_after_queues(&ground),
            retention::keep(&ground),
            publish(&ground),
            scrub::keep(&ground, &data)
        )
    })
    .await;
}

/// Shows witnesses how far the log has come, if it has: every few seconds, and at once after a start, however often the
/// gateway is started.
async fn publish(ground: &Ground) {
    let mut shown = None;
    loop {
        let size = ground.readers.seek(|look| Ok(look.log()?.0)).await.ok();
        if size.is_some() && size != shown && ground.ledger.enter(Entry::Publish).await.is_ok() {
            shown = size;
        }
        ground.clock.until(ground.clock.now().plus_ms(PUBLISH_EVERY_MS)).await;
    }
}

/// Looks when the earliest moment has come, and no more often than each second.
async fn look_after_queues(ground: &Ground) {
    let mut bell = ground.ledger.bells().due();
    loop {
        let began = ground.clock.now();
        let next = match look(ground, began).await {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(%error, "the queues cannot be looked through");
                Some(began)
            }
        };
        let soonest = began.plus_ms(DUE_LOOK_EVERY_MS);
        ground.clock.until(soonest).await;
        let next = next.unwrap_or(began.plus_ms(SWEEP_EVERY_MS)).max(soonest);
        tokio::select! {
            () = ground.clock.until(next) => {}
            () = rung(ground, &mut bell, next) => {}
        }
    }
}

/// Waits for a bell that names an earlier moment, and for that moment.
async fn rung(ground: &Ground, bell: &mut tokio::sync::watch::Receiver<Time>, before: Time) {
    loop {
        let due_at = *bell.borrow_and_update();
        if due_at != Time::ZERO && due_at < before {
            return ground.clock.until(due_at).await;
        }
        if bell.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Looks at all rows whose moment has come; the earliest moment of the others.
async fn look(ground: &Ground, now: Time) -> Result<Option<Time>, store::Error> {
    ground.ledger.bells().looked();
    let (mut after, mut expired) = (None, false);
    loop {
        let (rows, next) = ground.readers.seek(move |look| look.due(now, after, DUE_AT_ONCE_MAX)).await?;
        let Some(last) = rows.last() else { return Ok(if expired { Some(now) } else { next }) };
        after = Some((last.lane_id, last.seq));
        for row in rows {
            // One that has expired stays due until its lane has ended it: it is handed in at each look.
            expired |= row.expires_at <= now;
            attend(ground, row, now).await;
        }
    }
}

async fn attend(ground: &Ground, row: DueRow, now: Time) {
    if row.expires_at > now {
        // When the lane tries next is told as far as its rest is known.
        let lane = row.lane.clone();
        let rest = ground.readers.seek(move |look| look.lane_state(&lane)).await;
        let next_attempt_at = rest.ok().map(|state| state.rest_until).filter(|until| *until > now);
        let notice = Notice { lane: row.lane, seq: row.seq, next_attempt_at };
        return drop(ground.ledger.enter(Entry::Notice(notice)).await);
    }
    let order = Order::Due { seq: row.seq, expires_at: row.expires_at };
    if ground.desk.hand_in(&row.lane, order).is_err() && !ground.desk.is_open(&row.lane) {
        end_alone(ground, row).await;
    }
}

/// Nobody works this lane any more: its partner has left, or its system.
async fn end_alone(ground: &Ground, row: DueRow) {
    let lane = row.lane.clone();
    let Ok(state) = ground.readers.seek(move |look| look.lane_state(&lane)).await else { return };
    let fate = if state.open || row.seq < state.sent_below { Fate::InDoubt } else { Fate::Expired };
    ground.settle(Box::new(Settle { lane: row.lane, seq: row.seq, attempts: 0, fate })).await;
}
