//! Decides when a gateway examines itself and its partners, and what its health says of it. Never mends what it finds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::checks::advice::{LANE_HELD, MEMBER_SUSPENDED};
use crate::checks::{Finding, Verdict, Which, breaks, examine_own, examine_partners, is_fault, is_vital};
use crate::clock::Clock;
use crate::config::Config;
use crate::echo::Breaks;
use crate::grpc::health::Health;
use crate::intake::Rules;
use crate::limits::CHECK_MS_MAX;
use crate::noticeboard::Noticeboard;
use crate::store::{LaneName, Readers};
use crate::telemetry::Verdicts;

/// Looks after one gateway from inside.
pub struct Watchman {
    /// The configuration of the moment.
    pub config: Arc<ArcSwap<Config>>,
    pub board: Arc<Noticeboard>,
    pub clock: Clock,
    pub verdicts: Verdicts,
    pub health: Health,
    /// The routing tables in force are among them.
    pub rules: Arc<ArcSwap<Rules>>,
    /// Where the newest test messages are found.
    pub readers: Arc<Readers>,
    /// Where it is told at which stage the way to a partner breaks.
    pub breaks: Breaks,
}

/// What the newest rounds found.
#[derive(Default)]
struct Found {
    own: Vec<Finding>,
    /// The gateway's own round did not come to its end in time.
    hangs: bool,
    partners: Vec<Finding>,
}

impl Watchman {
    /// Goes its rounds until `stop`, and tells the health service after each. Partners that are slow to answer never hold up
    /// what the gateway says of itself.
    pub async fn watch(self, stop: CancellationToken) {
        let found = Mutex::new(Found::default());
        let rounds = futures_util::future::join(self.watch_own(&found), self.watch_partners(&found));
        let _ = stop.run_until_cancelled(rounds).await;
    }

    async fn watch_own(&self, found: &Mutex<Found>) {
        let mut due = every(self.config.load().check_every_s.0);
        loop {
            due.tick().await;
            let (config, clock) = (self.config.load_full(), self.clock.clone());
            let in_force = self.rules.load().index.clone();
            let mut round = tokio::task::spawn_blocking(move || examine_own(&config, &clock, in_force));
            let in_time = tokio::time::timeout(Duration::from_millis(CHECK_MS_MAX), &mut round).await;
            if in_time.is_err() {
                // A disk that hangs answers no question: that is an answer too.
                tracing::error!("the gateway's examination of itself hangs");
                self.say(found, |found| found.hangs = true);
            }
            let now = match in_time {
                Ok(now) => now,
                Err(_) => round.await,
            };
            self.say(found, |found| {
                found.hangs = now.is_err();
                if let Ok(now) = now {
                    tell(&found.own, &now);
                    found.own = now;
                }
            });
        }
    }

    async fn watch_partners(&self, found: &Mutex<Found>) {
        let mut due = every(self.config.load().check_every_s.1);
        loop {
            due.tick().await;
            let (config, began) = (self.config.load_full(), self.clock.now());
            let which = Which::default();
            let now = examine_partners(&config, &self.board, &self.readers, &self.clock, &which).await;
            self.breaks.say(breaks(&now), began);
            self.say(found, |found| {
                tell(&found.partners, &now);
                found.partners = now;
            });
        }
    }

    /// Takes up what was found, and says how things stand now.
    fn say(&self, found: &Mutex<Found>, change: impl FnOnce(&mut Found)) {
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut found);
        let all = || found.own.iter().chain(&found.partners);
        self.verdicts.say(all().map(|finding| (finding.check, finding.look.verdict.word())));
        let sound = !found.own.iter().any(|finding| is_vital(finding.check) && is_fault(finding));
        self.health.say(sound && !found.hangs, named(&self.config.load(), all()));
    }
}

fn every(seconds: u64) -> tokio::time::Interval {
    let mut interval = interval(Duration::from_secs(seconds));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// How each partner and each own system is: at fault when one finding about it is. A system for which nothing ever came has
/// no lane to find fault with, and is well.
fn named<'a>(config: &Config, findings: impl Iterator<Item = &'a Finding>) -> BTreeMap<String, bool> {
    let systems = config.systems.iter().map(|system| (LaneName::System(system.name.clone()).to_string(), true));
    let mut named: BTreeMap<String, bool> = systems.collect();
    for finding in findings {
        let Some(about) = &finding.look.about else { continue };
        let name = match (finding.check, about.strip_prefix("gateway/")) {
            ("lanes.flow", Some(member)) => format!("partner/{member}"),
            ("lanes.flow", None) => about.clone(),
            (check, _) if check.starts_with("partner.") || ["tls.crls", "witness.fork"].contains(&check) => {
                format!("partner/{about}")
            }
            ("members.suspended", _) => format!("partner/{about}"),
            _ => continue,
        };
        // What somebody paused or suspended serves nobody: whoever asks by its name is told so.
        let held = [LANE_HELD.code, MEMBER_SUSPENDED.code];
        let paused = matches!(&finding.look.verdict, Verdict::Warning(advice) if held.contains(&advice.code));
        *named.entry(name).or_insert(true) &= !is_fault(finding) && !paused;
    }
    named
}

/// Tells what has come to be wrong, and what no longer is.
fn tell(before: &[Finding], now: &[Finding]) {
    let at_fault = |all: &[Finding], one: &Finding| {
        all.iter().any(|other| other.check == one.check && other.look.about == one.look.about && is_fault(other))
    };
    for finding in now {
        let about = finding.look.about.as_deref().unwrap_or_default();
        match &finding.look.verdict {
            Verdict::Fault(advice) if !at_fault(before, finding) => {
                let (seen, fix) = (&finding.look.seen.en, advice.fix.0);
                tracing::error!(check = finding.check, about, code = advice.code, seen, fix, "{}", advice.cause.0);
            }
            Verdict::Good | Verdict::Warning(_) if at_fault(before, finding) => {
                tracing::info!(check = finding.check, about, "no longer at fault");
            }
            _ => {}
        }
    }
}
