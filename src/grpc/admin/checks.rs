//! Decides how an examination that somebody asked for is told, and that one is made at a time. Never examines anything:
//! whoever holds the checks does.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use crate::limits::{CHECK_NAME_BYTES_MAX, CHECK_NAMES_MAX};
use crate::party::Member;
use crate::reason::Reason;
use crate::wire::envelope::{Fault, Faults};
use crate::wire::pb::admin as pb;
use crate::wire::status::Refused;

/// What is to be examined.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Checks or categories; empty, all.
    pub only: Vec<String>,
    pub skip: Vec<String>,
    /// One partner alone.
    pub partner: Option<Member>,
}

/// What a check found.
#[derive(Debug, Clone)]
pub struct Found {
    pub check: &'static str,
    pub about: Option<String>,
    /// good, warning, fault or skipped.
    pub verdict: &'static str,
    /// The evidence, in English and Chinese.
    pub seen: (String, String),
    /// The failed check because of which it was skipped.
    pub because: Option<&'static str>,
    pub advice: Option<Advised>,
}

/// What is wrong and what to do about it, in English and Chinese.
#[derive(Debug, Clone)]
pub struct Advised {
    pub code: &'static str,
    pub cause: (&'static str, &'static str),
    pub fix: (&'static str, &'static str),
}

/// Examines the gateway and its partners.
pub type Examine = Arc<dyn Fn(Wanted) -> BoxFuture<'static, Vec<Found>> + Send + Sync>;

/// The checks, for those who ask from afar.
#[derive(Clone)]
pub struct Checks {
    examine: Examine,
    turn: Arc<Semaphore>,
}

impl Checks {
    pub fn new(examine: Examine) -> Checks {
        Checks { examine, turn: Arc::new(Semaphore::new(1)) }
    }

    /// Examines, to the end even when the caller goes away.
    pub(super) async fn run(&self, wanted: Wanted) -> Result<pb::RunChecksResponse, Refused> {
        let turn = self.turn.clone().try_acquire_owned();
        let turn = turn.map_err(|_| Refused::new(Reason::Busy).with_detail("another examination is under way"))?;
        let examined = (self.examine)(wanted);
        let findings = tokio::spawn(async move {
            let findings = examined.await;
            drop(turn);
            findings
        });
        let findings = findings.await.map_err(|_| Refused::new(Reason::Internal))?;
        Ok(pb::RunChecksResponse { findings: findings.into_iter().map(told).collect() })
    }
}

/// Reads what is to be examined.
pub(super) fn asked(wire: pb::RunChecksRequest) -> Result<Wanted, Vec<Fault>> {
    let mut faults = Faults::default();
    for (field, names) in [("only", &wire.only), ("skip", &wire.skip)] {
        if names.len() > CHECK_NAMES_MAX || names.iter().any(|name| name.len() > CHECK_NAME_BYTES_MAX) {
            faults.add(field, format!("must be at most {CHECK_NAMES_MAX} names of {CHECK_NAME_BYTES_MAX} bytes"));
        }
    }
    let partner = match wire.partner.as_str() {
        "" => None,
        text => text.parse().map_err(|_| faults.add("partner", "must be a division code or hub/NAME")).ok(),
    };
    faults.or(Some(Wanted { only: wire.only, skip: wire.skip, partner }))
}

fn told(found: Found) -> pb::CheckFinding {
    let verdict = match found.verdict {
        "good" => pb::CheckVerdict::Good,
        "warning" => pb::CheckVerdict::Warning,
        "fault" => pb::CheckVerdict::Fault,
        _ => pb::CheckVerdict::Skipped,
    };
    let (code, cause, fix) = found.advice.map_or(("", ("", ""), ("", "")), |a| (a.code, a.cause, a.fix));
    pb::CheckFinding {
        check: found.check.to_owned(),
        about: found.about.unwrap_or_default(),
        verdict: verdict as i32,
        seen: found.seen.0,
        seen_zh: found.seen.1,
        skipped_because: found.because.unwrap_or_default().to_owned(),
        code: code.to_owned(),
        cause_en: cause.0.to_owned(),
        cause_zh: cause.1.to_owned(),
        fix_en: fix.0.to_owned(),
        fix_zh: fix.1.to_owned(),
    }
}
