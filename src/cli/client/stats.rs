//! Decides how a gateway is asked how messages fared, and how the pages of its answer add up. Never counts a message itself.

use std::collections::BTreeMap;

use serde::Serialize;

use super::told::plain;
use super::{Client, Trouble, timed};
use crate::time::Time;
use crate::wire::envelope::time_to_wire;
use crate::wire::pb::admin as pb;

/// By what messages are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum By {
    Partner,
    Item,
    Mode,
    Step,
}

/// Messages that have a key and a direction in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ToldSum {
    /// SENT, RECEIVED or CARRIED.
    pub direction: String,
    pub key: String,
    pub accepted: u64,
    pub handed_over: u64,
    pub rejected: u64,
    pub failed: u64,
    pub expired: u64,
    pub cancelled: u64,
    pub open: u64,
    pub late: u64,
    pub bytes: u64,
    /// From acceptance to handover, of all together.
    pub handover_ms: u64,
}

impl Client {
    /// How messages fared that were accepted in a range of time: every page, added up.
    pub async fn stats(&self, from: Time, until: Time, by: By) -> Result<Vec<ToldSum>, Trouble> {
        let by = match by {
            By::Partner => pb::StatsBy::Partner,
            By::Item => pb::StatsBy::Item,
            By::Mode => pb::StatsBy::Mode,
            By::Step => pb::StatsBy::Step,
        };
        let (mut sums, mut page_token) = (BTreeMap::<(i32, String), ToldSum>::new(), String::new());
        loop {
            let (from, until) = (Some(time_to_wire(from)), Some(time_to_wire(until)));
            let request = pb::GetStatsRequest { from, until, by: by as i32, page_token };
            let page = self.answered(self.admin().get_stats(timed(request)).await)?;
            for row in page.rows {
                sums.entry((row.direction, row.key.clone())).or_insert_with(|| ToldSum::named(&row)).add(&row);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(sums.into_values().collect());
            }
        }
    }
}

impl ToldSum {
    fn named(row: &pb::StatsRow) -> ToldSum {
        let direction = row.direction().as_str_name().trim_start_matches("DIRECTION_").to_owned();
        ToldSum { direction, key: plain(&row.key), ..ToldSum::default() }
    }

    fn add(&mut self, row: &pb::StatsRow) {
        let pairs = [
            (&mut self.accepted, row.accepted),
            (&mut self.handed_over, row.handed_over),
            (&mut self.rejected, row.rejected),
            (&mut self.failed, row.failed),
            (&mut self.expired, row.expired),
            (&mut self.cancelled, row.cancelled),
            (&mut self.open, row.open),
            (&mut self.late, row.late),
            (&mut self.bytes, row.bytes),
            (&mut self.handover_ms, row.handover_ms),
        ];
        pairs.into_iter().for_each(|(sum, more)| *sum = sum.saturating_add(more));
    }
}
