//! Decides when each partner's turn comes: spread over the time between two tests, so that partners are not tested all at
//! once, and soon again where a way was found broken. Never begins a second test beside one under way.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Echo, Standing};
use crate::chance;
use crate::limits::{TEST_AGAIN_S, TEST_FIRST_S, TEST_LOOK_EVERY_MS, TEST_TO_LIVE_MS};
use crate::party::{Division, Member};
use crate::store::LaneName;
use crate::time::Time;

/// When each partner's turn comes; none while its test is under way.
type Turns = BTreeMap<Division, Option<Instant>>;

impl Echo {
    /// Tests every partner about every `every_s` seconds, until `stop`; never when that is 0.
    pub async fn run(self, every_s: u64, stop: CancellationToken) {
        if every_s > 0 {
            let _ = stop.run_until_cancelled(self.go_rounds(Duration::from_secs(every_s))).await;
        }
    }

    async fn go_rounds(&self, every: Duration) {
        let mut looks = interval(Duration::from_millis(TEST_LOOK_EVERY_MS));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut turns, mut under_way) = (Turns::new(), JoinSet::new());
        loop {
            tokio::select! {
                _ = looks.tick() => {
                    for partner in self.due(&mut turns, every) {
                        let echo = self.clone();
                        under_way.spawn(async move { (echo.one(&partner).await, partner) });
                    }
                }
                Some(Ok((standing, partner))) = under_way.join_next(), if !under_way.is_empty() => {
                    let turn = Instant::now() + pause(every, &standing);
                    turns.entry(partner).and_modify(|due| *due = Some(turn));
                }
            }
        }
    }

    /// The partners whose turn has come.
    fn due(&self, turns: &mut Turns, every: Duration) -> Vec<Division> {
        let (partners, now) = (self.partners(), Instant::now());
        turns.retain(|partner, _| partners.contains(partner));
        let mut due = vec![];
        for partner in partners {
            let turn = turns.entry(partner.clone()).or_insert_with(|| Some(now + first(every)));
            if turn.is_none_or(|turn| now < turn) {
                continue;
            }
            if self.tells_nothing(&partner) {
                *turn = Some(now + again(every));
                continue;
            }
            *turn = None;
            due.push(partner);
        }
        due
    }

    /// Whether a test would break where dialling the partner breaks already: there is no other way, and the message would
    /// do nothing but let the lane rest longer for those that come after it.
    fn tells_nothing(&self, partner: &Division) -> bool {
        let straight = LaneName::Gateway(Member::City(partner.clone()));
        self.breaks.of(partner, Time::ZERO).is_some() && self.intake.ways(partner) == [straight]
    }

    async fn one(&self, partner: &Division) -> Standing {
        match self.test(partner, TEST_TO_LIVE_MS).await {
            Ok(pair) => {
                if let Standing::Broken { stage, reason } = &pair.standing {
                    tracing::warn!(partner = partner.as_str(), stage, reason, "a test message did not come home");
                }
                pair.standing
            }
            Err(refused) => {
                let reason = refused.reason.code();
                tracing::info!(partner = partner.as_str(), reason, "a partner could not be tested");
                Standing::Unknown
            }
        }
    }
}

/// How long after the start a partner's first turn comes: gateways that start together do not test together.
fn first(every: Duration) -> Duration {
    spread(again(every) / 2, every.min(Duration::from_secs(TEST_FIRST_S)))
}

/// How long a way is left alone that was found broken.
fn again(every: Duration) -> Duration {
    every.min(Duration::from_secs(TEST_AGAIN_S))
}

/// How long a partner is left alone after a test that ended so.
fn pause(every: Duration, standing: &Standing) -> Duration {
    match standing {
        Standing::Broken { .. } => again(every),
        _ => spread(every * 9 / 10, every * 11 / 10),
    }
}

/// Some time between these two.
fn spread(least: Duration, most: Duration) -> Duration {
    let chance = chance::bytes().map(u64::from_be_bytes).unwrap_or_default();
    let width = most.saturating_sub(least).as_millis().max(1) as u64;
    least + Duration::from_millis(chance % width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_near_what_is_configured_and_a_broken_way_is_tested_sooner() {
        let (every, soon) = (Duration::from_secs(900), Duration::from_secs(TEST_AGAIN_S));
        let broken = Standing::Broken { stage: "tcp", reason: String::new() };
        let paused: Vec<_> = (0..99).map(|_| pause(every, &Standing::Ok { round_trip_ms: 1 }).as_secs()).collect();
        assert!(paused.iter().all(|seconds| (810..990).contains(seconds)), "{paused:?}");
        assert!(paused.iter().any(|seconds| *seconds != paused[0]), "not all at once");
        assert_eq!(pause(every, &broken), soon);
        assert_eq!(pause(Duration::from_secs(5), &broken), Duration::from_secs(5));
        let begun = (0..99).map(|_| first(every)).collect::<Vec<_>>();
        assert!(begun.iter().all(|first| (soon / 2..Duration::from_secs(TEST_FIRST_S)).contains(first)), "{begun:?}");
    }
}
