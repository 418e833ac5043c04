//! Decides how a gateway is asked how the ways to its partners stand, and to test one, and how its answers are read. Never
//! decides what a test came to.

use serde::Serialize;

use super::lanes::written;
use super::told::{moment, plain};
use super::{Client, Trouble, timed};
use crate::party::Division;
use crate::time::Time;
use crate::wire::pb::admin as pb;

/// How the way to a partner stands, as its gateway tells of it.
#[derive(Debug, Clone, Serialize)]
pub struct ToldTest {
    pub partner: String,
    /// UNKNOWN, PENDING, OK or BROKEN.
    pub status: String,
    #[serde(serialize_with = "written")]
    pub time: Option<Time>,
    pub round_trip_ms: Option<u64>,
    /// The stage at which the way breaks; empty unless BROKEN.
    pub broken_at: String,
    pub reason: String,
    pub message_id: String,
}

impl Client {
    /// Tests the way to a partner and waits for the end, as long as the gateway does.
    pub async fn test_partner(&self, partner: &Division) -> Result<ToldTest, Trouble> {
        let request = pb::TestPartnerRequest { partner: partner.as_str().to_owned() };
        let answer = self.answered(self.admin().test_partner(timed(request)).await)?;
        Ok(ToldTest::read(answer.test.unwrap_or_default()))
    }

    /// How the way to each partner stands.
    pub async fn partner_tests(&self) -> Result<Vec<ToldTest>, Trouble> {
        let request = pb::ListPartnerTestsRequest {};
        let answer = self.answered(self.admin().list_partner_tests(timed(request)).await)?;
        Ok(answer.tests.into_iter().map(ToldTest::read).collect())
    }
}

impl ToldTest {
    fn read(test: pb::PartnerTest) -> ToldTest {
        let status = test.status();
        ToldTest {
            partner: plain(&test.partner),
            status: status.as_str_name().trim_start_matches("PARTNER_TEST_STATUS_").to_owned(),
            time: moment(test.time),
            round_trip_ms: (status == pb::PartnerTestStatus::Ok).then_some(test.round_trip_ms),
            broken_at: plain(&test.broken_at),
            reason: plain(&test.reason),
            message_id: plain(&test.message_id),
        }
    }
}
