//! Decides how messages fared, as their receipts tell, and adds that up. Never counts by anything but leaves: what stands in no
//! receipt did not happen.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, params};

use super::read::Snapshot;
use super::{Error, Seq};
use crate::evidence::{Event, Evidence, Standing, State};
use crate::message::ItemCode;
use crate::party::Member;
use crate::time::Time;

/// By what messages are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsBy {
    Partner,
    Item,
    Mode,
    Step,
}

/// Which way a message went, as this gateway sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From a system of this city.
    Sent,
    /// From another city to this one.
    Received,
    /// Between two other cities, through this hub.
    Carried,
}

/// What is counted.
#[derive(Clone, Debug)]
pub struct StatsAsk {
    /// Messages accepted here from this moment on, and before the other.
    pub from: Time,
    pub until: Time,
    pub by: StatsBy,
    /// Only messages from this place on.
    pub place: Seq,
    /// Messages that are looked at, and rows that are made, at most.
    pub examined: usize,
    pub rows: usize,
}

/// Messages that have a key in common, by how they fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub accepted: u64,
    pub handed_over: u64,
    pub rejected: u64,
    pub failed: u64,
    pub expired: u64,
    pub cancelled: u64,
    pub open: u64,
    /// Of those handed over: after an earlier word that they had failed or expired.
    pub late: u64,
    /// Bytes of all parts.
    pub bytes: u64,
    /// Milliseconds from acceptance to handover, of all together.
    pub handover_ms: u64,
}

/// Sums by direction and key.
pub type Sums = BTreeMap<(Direction, String), Sum>;

impl Snapshot<'_> {
    /// The sums of a page of messages, and the place where the next one goes on, none when there is nothing behind.
    pub fn stats(&self, own: &Member, ask: &StatsAsk) -> Result<(Sums, Option<Seq>), Error> {
        let mut statement =
            self.sql.prepare_cached("SELECT seq, stored_at FROM message WHERE seq >= ? ORDER BY seq LIMIT ?")?;
        let first = self.first_stored_at(ask.from)?.max(ask.place);
        let mut rows = statement.query(params![first, ask.examined as u64 + 1])?;
        let (mut sums, mut examined) = (Sums::new(), 0);
        while let Some(row) = rows.next()? {
            let (seq, stored_at): (Seq, u64) = (row.get(0)?, row.get(1)?);
            if Time::from_ms(stored_at) >= ask.until {
                break;
            }
            if examined == ask.examined {
                return Ok((sums, Some(seq)));
            }
            examined += 1;
            let course = self.course(seq)?;
            let Some(key) = course.first().and_then(|first| key(own, ask.by, first)) else { continue };
            if sums.len() == ask.rows && !sums.contains_key(&key) {
                return Ok((sums, Some(seq)));
            }
            sums.entry(key).or_default().add(&course);
        }
        Ok((sums, None))
    }

    /// The place of the first message stored at this moment or later. Places follow the log's time, which only a clock that
    /// was put back over a restart turns back.
    fn first_stored_at(&self, at: Time) -> Result<Seq, Error> {
        let mut statement =
            self.sql.prepare_cached("SELECT seq, stored_at FROM message WHERE seq >= ? ORDER BY seq LIMIT 1")?;
        let (mut low, mut high) = (0, self.last_seq()? + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Seq>(0)?, row.get::<_, u64>(1)?));
            match statement.query_row([middle], row).optional()? {
                Some((seq, stored_at)) if stored_at < at.ms() => low = seq + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// What our log says of a message, in its order; where a leaf witnesses a foreign receipt, what that one says.
    pub(super) fn course(&self, seq: Seq) -> Result<Vec<Evidence>, Error> {
        let mut statement =
            self.sql.prepare_cached("SELECT bytes FROM leaf WHERE message = ? AND bytes NOT NULL ORDER BY idx")?;
        let mut foreign = self.sql.prepare_cached("SELECT leaf FROM received WHERE leaf_hash = ?")?;
        let read = |leaf: &[u8]| Evidence::from_leaf(leaf).map_err(|error| Error::Damaged(error.to_string()));
        let leaves = statement.query_map([seq], |row| row.get(0))?.collect::<Result<Vec<Vec<u8>>, _>>()?;
        let mut course = Vec::with_capacity(leaves.len());
        for leaf in leaves {
            let own = read(&leaf)?;
            match own.witnessed.as_ref().filter(|_| own.event == Event::Witnessed) {
                None => course.push(own),
                Some(witnessed) => {
                    let leaf = foreign.query_row([witnessed.leaf_hash.0], |row| row.get::<_, Vec<u8>>(0)).optional()?;
                    course.extend(leaf.map(|leaf| read(&leaf)).transpose()?);
                }
            }
        }
        Ok(course)
    }
}

/// Under what a message is counted; none when it is no message of people.
fn key(own: &Member, by: StatsBy, first: &Evidence) -> Option<(Direction, String)> {
    if first.item_code.as_ref().is_some_and(ItemCode::is_test) {
        return None;
    }
    let item = first.item_code.as_ref().map_or("", |item| item.as_str());
    let (from, to) = (&first.from.city, first.to.as_ref().map(|to| &to.city));
    let is_own = |city| Member::City(Clone::clone(city)) == *own;
    let to_text = to.map_or("", |to| to.as_str());
    let (direction, partner) = match (is_own(from), to.is_some_and(is_own)) {
        (true, _) => (Direction::Sent, to_text.to_owned()),
        (false, true) => (Direction::Received, from.as_str().to_owned()),
        (false, false) => (Direction::Carried, format!("{}>{to_text}", from.as_str())),
    };
    let key = match by {
        StatsBy::Partner => partner,
        StatsBy::Item => item.to_owned(),
        StatsBy::Mode => first.mode.map_or("", mode_name).to_owned(),
        StatsBy::Step => first.step.as_ref().map_or("", |step| step.as_str()).to_owned(),
    };
    Some((direction, key))
}

fn mode_name(mode: crate::message::Mode) -> &'static str {
    match mode {
        crate::message::Mode::Online => "online",
        crate::message::Mode::Proxy => "proxy",
        crate::message::Mode::Joint => "joint",
    }
}

/// How a message fared: the state that its receipts lead to, whether a handover came late, and when it was.
fn fared(course: &[Evidence]) -> (State, bool, Option<Time>) {
    let (mut at, mut handed_over) = (Standing::from(State::Accepted), None);
    for evidence in course {
        at = at.told(evidence.event);
        if evidence.event == Event::HandedOver && at.state == State::Confirmed {
            handed_over = handed_over.or(evidence.instants.acknowledged).or(Some(evidence.at));
        }
    }
    (at.state, at.late, handed_over)
}

impl Sum {
    fn add(&mut self, course: &[Evidence]) {
        let Some(first) = course.first() else { return };
        let (state, late, handed_over) = fared(course);
        self.accepted += 1;
        self.late += u64::from(late);
        self.bytes = self.bytes.saturating_add(first.total_size);
        let accepted = first.instants.accepted.unwrap_or(first.at);
        self.handover_ms += handed_over.map_or(0, |at| at.since_ms(accepted));
        *match state {
            State::Accepted | State::Relayed | State::Consigned => &mut self.open,
            State::Confirmed => &mut self.handed_over,
            State::Rejected => &mut self.rejected,
            State::Failed => &mut self.failed,
            State::Expired => &mut self.expired,
            State::Cancelled => &mut self.cancelled,
        } += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Instants;
    use crate::id::{MessageId, ReceiptId};
    use crate::message::{Address, Digest, TEST_ITEM};

    fn evidence(event: Event, at: u64) -> Evidence {
        let address = |city: &str| Address { city: city.parse().unwrap(), system: None };
        Evidence {
            id: ReceiptId::from_bytes([7; 16]),
            event,
            reasons: vec![],
            token: None,
            at: Time::from_ms(at),
            clock_uncertainty_ms: 0,
            issuer: "450200".parse().unwrap(),
            key_id: 1,
            agreement: None,
            table_version: 0,
            from: address("450200"),
            to: Some(address("440600")),
            message_id: MessageId::from_bytes([1; 16]),
            in_reply_to: None,
            case_no: None,
            item_code: Some("A".parse().unwrap()),
            step: Some("accept".parse().unwrap()),
            header_digest: Digest([0; 32]),
            parts: 1,
            total_size: 5,
            instants: Instants::default(),
            expires_at: None,
            attempts: 0,
            last_status: 0,
            asserted_by: None,
            previous: None,
            witnessed: None,
            mode: Some(crate::message::Mode::Joint),
            next_attempt_at: None,
            extensions: vec![],
        }
    }

    #[test]
    fn receipts_lead_to_the_state_that_the_ledger_keeps() {
        use Event::{
            Cancelled, Consigned, Delayed, Expired, HandedOver, HandoverFailed, RelayAccepted, RelayFailed,
            RelayRejected, SubmissionAccepted,
        };
        let rows: [(&[Event], State, bool); 13] = [
            (&[SubmissionAccepted], State::Accepted, false),
            (&[SubmissionAccepted, Delayed, RelayAccepted], State::Relayed, false),
            (&[SubmissionAccepted, RelayAccepted, Consigned, HandedOver], State::Confirmed, false),
            (&[SubmissionAccepted, RelayAccepted, HandoverFailed], State::Rejected, false),
            (&[SubmissionAccepted, RelayRejected], State::Rejected, false),
            (&[SubmissionAccepted, RelayRejected, HandedOver], State::Confirmed, true),
            (&[SubmissionAccepted, RelayRejected, RelayAccepted, HandedOver], State::Confirmed, false),
            (&[SubmissionAccepted, RelayRejected, Expired], State::Expired, false),
            (&[SubmissionAccepted, RelayRejected, Delayed], State::Accepted, false),
            (&[SubmissionAccepted, RelayFailed, HandedOver], State::Confirmed, true),
            (&[SubmissionAccepted, Expired, HandedOver, HandedOver], State::Confirmed, true),
            (&[SubmissionAccepted, Expired, RelayAccepted], State::Expired, false),
            (&[SubmissionAccepted, Cancelled], State::Cancelled, false),
        ];
        for (events, state, late) in rows {
            let course: Vec<_> = events.iter().zip(10..).map(|(event, at)| evidence(*event, at)).collect();
            let (told, was_late, handed_over) = fared(&course);
            assert_eq!((told, was_late, handed_over.is_some()), (state, late, state == State::Confirmed), "{events:?}");
        }
    }

    #[test]
    fn a_message_is_counted_once_under_its_key_and_test_messages_never() {
        let own: Member = "450200".parse().unwrap();
        let first = evidence(Event::SubmissionAccepted, 10);
        for (by, key_of) in
            [(StatsBy::Partner, "440600"), (StatsBy::Item, "A"), (StatsBy::Mode, "joint"), (StatsBy::Step, "accept")]
        {
            assert_eq!(key(&own, by, &first), Some((Direction::Sent, key_of.to_owned())));
        }
        let partner = |own: &str, first: &Evidence| key(&own.parse().unwrap(), StatsBy::Partner, first);
        assert_eq!(partner("440600", &first), Some((Direction::Received, "450200".to_owned())));
        assert_eq!(partner("hub/main", &first), Some((Direction::Carried, "450200>440600".to_owned())));
        let test = Evidence { item_code: TEST_ITEM.parse().ok(), ..first.clone() };
        assert!(test.item_code.is_some());
        assert_eq!(key(&own, StatsBy::Partner, &test), None);
        let mut sum = Sum::default();
        sum.add(&[first, evidence(Event::HandedOver, 25)]);
        let expected = Sum { accepted: 1, handed_over: 1, bytes: 5, handover_ms: 15, ..Sum::default() };
        assert_eq!(sum, expected);
    }
}
