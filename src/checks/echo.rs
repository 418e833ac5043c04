//! Decides what the newest test messages say of the way to a partner: whether one reached its gateway, and whether its last
//! receipt came home. Never sends one.

use std::collections::BTreeMap;

use super::advice;
use super::facts::{Look, Seen, Verdict};
use crate::config::Config;
use crate::directory::MemberRecord;
use crate::echo::{RECEIPT, Standing, settled};
use crate::limits::TESTS_SEEN;
use crate::party::{Division, Member};
use crate::store::{Error, Snapshot, Tested};
use crate::time::Time;

/// The newest test messages to each partner.
#[derive(Debug, Default)]
pub struct Tests(BTreeMap<Division, Vec<Tested>>);

impl Tests {
    /// Those to one partner, newest first.
    pub fn of(&self, partner: &Division) -> &[Tested] {
        self.0.get(partner).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Reads what became of the newest test messages to these members.
pub fn tests(look: &Snapshot<'_>, config: &Config, partners: &[MemberRecord]) -> Result<Tests, Error> {
    let Member::City(own) = &config.member else { return Ok(Tests::default()) };
    let mut tests = Tests::default();
    for partner in partners {
        if let Member::City(city) = &partner.member {
            tests.0.insert(city.clone(), look.tests(own, city, TESTS_SEEN)?);
        }
    }
    Ok(tests)
}

/// The two stages by the newest test that has ended; skipped where dialling the partner is at fault already, or the store
/// cannot be read.
pub fn looks(tests: Option<&[Tested]>, broken: Option<&'static str>, now: Time) -> [Look; 2] {
    let skipped = |because| Look { about: None, verdict: Verdict::Skipped(because), seen: Seen::default() };
    if let Some(stage) = broken {
        return [skipped(stage), skipped(stage)];
    }
    let Some(tests) = tests else { return [skipped("store.schema"), skipped("store.schema")] };
    let (standing, tested) = settled(tests, now);
    let when = tested.map_or(String::new(), |tested| tested.stored_at.to_string());
    match (standing, tested) {
        (Standing::Ok { round_trip_ms }, _) => {
            let there_and_back = Seen::both(
                format!("{when}: {round_trip_ms} ms there and back"),
                format!("{when}：往返 {round_trip_ms} 毫秒"),
            );
            [Look::good(when), Look::good(there_and_back)]
        }
        (Standing::Broken { stage: RECEIPT, reason }, _) => {
            let why = seen(&when, &reason);
            [Look::good(when), Look::fault(&advice::PARTNER_NO_RECEIPT, why)]
        }
        (Standing::Broken { reason, .. }, _) => {
            [Look::fault(&advice::PARTNER_NO_ECHO, seen(&when, &reason)), skipped("partner.echo")]
        }
        (_, None) => both(Seen::both("not tested yet", "尚未测试")),
        (_, Some(_)) => both(Seen::both("its release knows no tests", "对方版本不支持测试")),
    }
}

fn both(seen: Seen) -> [Look; 2] {
    [Look::good(seen.clone()), Look::good(seen)]
}

fn seen(when: &str, reason: &str) -> String {
    if reason.is_empty() { when.to_owned() } else { format!("{when}: {reason}") }
}
