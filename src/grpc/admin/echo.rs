//! Decides how a test of the way to a partner is asked for and told. Never decides how the way stands.

use crate::audit::Deed;
use crate::echo::{Echo, Pair, Standing};
use crate::grpc::record::Record;
use crate::limits::TEST_WAIT_MS;
use crate::party::{Division, Party};
use crate::wire::envelope::{Faults, time_to_wire};
use crate::wire::pb::admin as pb;
use crate::wire::status::Refused;

/// What a test is called in the audit.
pub const TEST: &str = "partner.test";

/// A partner's code as the audit says it; empty where it is none.
pub fn named(partner: &str) -> String {
    partner.parse::<Division>().map(|partner| partner.as_str().to_owned()).unwrap_or_default()
}

/// Tests the way to a partner, on record, and waits for the end as long as a call may.
pub async fn test(
    echo: &Echo,
    record: &Record,
    asked: pb::TestPartnerRequest,
    actor: Party,
) -> Result<pb::TestPartnerResponse, Refused> {
    let mut faults = Faults::default();
    let partner: Option<Division> = faults.need("partner", &asked.partner);
    if partner.as_ref().is_some_and(|partner| !echo.partners().contains(partner)) {
        faults.add("partner", "must be another city of the alliance");
    }
    let partner = faults.or(partner).map_err(Refused::faults)?;
    let (act, actor, object) = (TEST.to_owned(), actor.to_string(), partner.as_str().to_owned());
    record.done(Deed { act, actor, object, ..Deed::default() }).await?;
    let pair = echo.test(&partner, TEST_WAIT_MS).await?;
    Ok(pb::TestPartnerResponse { test: Some(told(pair)) })
}

/// How the way to each partner stands.
pub async fn list(echo: &Echo) -> Result<pb::ListPartnerTestsResponse, Refused> {
    let pairs = echo.pairs().await?;
    Ok(pb::ListPartnerTestsResponse { tests: pairs.into_iter().map(told).collect() })
}

fn told(pair: Pair) -> pb::PartnerTest {
    let status = match &pair.standing {
        Standing::Unknown => pb::PartnerTestStatus::Unknown,
        Standing::Pending => pb::PartnerTestStatus::Pending,
        Standing::Ok { .. } => pb::PartnerTestStatus::Ok,
        Standing::Broken { .. } => pb::PartnerTestStatus::Broken,
    };
    let (round_trip_ms, broken_at, reason) = match pair.standing {
        Standing::Ok { round_trip_ms } => (round_trip_ms, "", String::new()),
        Standing::Broken { stage, reason } => (0, stage, reason),
        Standing::Unknown | Standing::Pending => (0, "", String::new()),
    };
    pb::PartnerTest {
        partner: pair.partner.as_str().to_owned(),
        status: status as i32,
        time: pair.at.map(time_to_wire),
        round_trip_ms,
        broken_at: broken_at.to_owned(),
        reason,
        message_id: pair.test.map(|id| id.to_string()).unwrap_or_default(),
    }
}
