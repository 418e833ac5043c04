//! Decides when a gateway examines itself and its partners, and what its health says of it. Never mends what it finds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::checks::{Finding, Verdict, examine_partners, examine_self, is_fault, is_vital};
use crate::clock::Clock;
use crate::config::Config;
use crate::grpc::health::Health;
use crate::noticeboard::Noticeboard;
use crate::telemetry::Verdicts;

/// Looks after one gateway from inside.
pub struct Watchman {
    pub config: Arc<Config>,
    pub board: Arc<Noticeboard>,
    pub clock: Clock,
    pub verdicts: Verdicts,
}

impl Watchman {
    /// Goes its rounds until `stop`, and tells the health service after each.
    pub async fn watch(self, health: Health, stop: CancellationToken) {
        let (own_s, partners_s) = self.config.check_every_s;
        let (mut own, mut partners) = (every(own_s), every(partners_s));
        let (mut found, mut away) = (vec![], vec![]);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = own.tick() => found = self.own(found).await,
                _ = partners.tick() => {
                    let directory = self.board.directory();
                    let round = examine_partners(&self.config, &directory, &self.clock);
                    let Some(now) = stop.run_until_cancelled(round).await else { return };
                    tell(&away, &now);
                    away = now;
                }
            }
            if !stop.is_cancelled() {
                let all = found.iter().chain(&away);
                self.verdicts.say(all.map(|finding| (finding.check, finding.look.verdict.word())));
                let whole = !found.iter().any(|finding| is_vital(finding.check) && is_fault(finding));
                health.say(whole, named(found.iter().chain(&away)));
            }
        }
    }

    async fn own(&self, before: Vec<Finding>) -> Vec<Finding> {
        let (config, clock) = (self.config.clone(), self.clock.clone());
        let examined = tokio::task::spawn_blocking(move || examine_self(&config, &clock)).await;
        let Ok(now) = examined else { return before };
        tell(&before, &now);
        now
    }
}

fn every(seconds: u64) -> tokio::time::Interval {
    let mut interval = interval(Duration::from_secs(seconds));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// How each partner and each own system is: at fault when one finding about it is.
fn named<'a>(findings: impl Iterator<Item = &'a Finding>) -> BTreeMap<String, bool> {
    let mut named = BTreeMap::new();
    for finding in findings {
        let Some(about) = &finding.look.about else { continue };
        let name = match (finding.check, about.strip_prefix("gateway/")) {
            ("lanes.flow", Some(member)) => format!("partner/{member}"),
            ("lanes.flow", None) => about.clone(),
            (check, _) if check.starts_with("partner.") || check == "tls.crls" => format!("partner/{about}"),
            _ => continue,
        };
        *named.entry(name).or_insert(true) &= !is_fault(finding);
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
                let (seen, fix) = (&finding.look.seen, advice.fix.0);
                tracing::error!(check = finding.check, about, code = advice.code, seen, fix, "{}", advice.cause.0);
            }
            Verdict::Good | Verdict::Warning(_) if at_fault(before, finding) => {
                tracing::info!(check = finding.check, about, "no longer at fault");
            }
            _ => {}
        }
    }
}
