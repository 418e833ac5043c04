//! Decides how the gateways' own test messages are found again: under an order key of their own, that of a pair of cities and
//! no case. Never judges what became of one.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::read::{Snapshot, state};
use super::{Error, LaneName, Seq};
use crate::evidence::{Code, Event, State};
use crate::id::MessageId;
use crate::party::{Division, Member};
use crate::time::Time;

/// A test message, as far as the receipts here tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tested {
    pub seq: Seq,
    pub id: MessageId,
    pub state: State,
    /// Where it went: straight to its recipient, or to a hub.
    pub lane: LaneName,
    pub stored_at: Time,
    pub expires_at: Time,
    /// When its end became known here.
    pub closed_at: Option<Time>,
    /// Whether the recipient's own gateway says that it took it over.
    pub taken: bool,
    /// The last reason that a receipt gives.
    pub reason: Option<Code>,
}

impl Snapshot<'_> {
    /// The test messages from one city to another, newest first, at most `count` of them.
    pub fn tests(&self, from: &Division, to: &Division, count: usize) -> Result<Vec<Tested>, Error> {
        let mut statement = self.sql.prepare_cached(
            "SELECT seq, message_id, state, l.name, stored_at, expires_at, closed_at \
             FROM message m JOIN lane l ON l.id = m.lane WHERE order_key = ? ORDER BY seq DESC LIMIT ?",
        )?;
        let row = |row: &Row<'_>| {
            let (seq, id) = (row.get::<_, Seq>(0)?, MessageId::from_bytes(row.get(1)?));
            let number: u8 = row.get(2)?;
            let times = (Time::from_ms(row.get(4)?), Time::from_ms(row.get(5)?), row.get::<_, Option<u64>>(6)?);
            Ok((seq, id, number, row.get::<_, String>(3)?, times))
        };
        let rows = statement.query_map(params![test_key(from, to), count as u64], row)?;
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let recipient = Member::City(to.clone());
        let tested = rows.into_iter().map(|(seq, id, number, lane, (stored_at, expires_at, closed_at))| {
            let course = self.course(seq)?;
            let taken = course.iter().any(|told| told.event == Event::RelayAccepted && told.issuer == recipient);
            let reason = course.iter().rev().find_map(|told| told.reasons.first().cloned());
            let (state, lane, closed_at) = (state(number)?, lane.parse()?, closed_at.map(Time::from_ms));
            Ok(Tested { seq, id, state, lane, stored_at, expires_at, closed_at, taken, reason })
        });
        tested.collect()
    }

    /// The pairs of cities, `from>to`, between which there are messages with an order: one look for each pair, by leaps
    /// through their index, however many messages there are.
    pub(super) fn pairs(&self) -> Result<Vec<String>, Error> {
        let mut next =
            self.sql.prepare_cached("SELECT order_key FROM message WHERE order_key >= ? ORDER BY order_key LIMIT 1")?;
        let (mut pairs, mut from) = (Vec::new(), String::new());
        while let Some(found) = next.query_row([&from], |row| row.get::<_, String>(0)).optional()? {
            let Some((pair, _)) = found.split_once('/') else {
                return Err(Error::Damaged(format!("the order key {found:?}")));
            };
            pairs.push(pair.to_owned());
            // Of all that follow the pair, a zero is the least that is no slash.
            from = format!("{pair}0");
        }
        Ok(pairs)
    }

    /// Test messages that came before this moment and wait no longer, at most `count` of them. The newest of each pair of
    /// cities stays: what it came to is still asked for.
    pub(super) fn tests_before(&self, before: Time, count: usize) -> Result<Vec<Seq>, Error> {
        let mut old = Vec::new();
        for pair in self.pairs()? {
            old.extend(old_tests(self.sql, &format!("{pair}/"), before, count - old.len())?);
        }
        Ok(old)
    }
}

/// The order key of the tests from one city to another: that of a case without a number, which no case has.
fn test_key(from: &Division, to: &Division) -> String {
    format!("{}>{}/", from.as_str(), to.as_str())
}

fn old_tests(sql: &Connection, key: &str, before: Time, count: usize) -> Result<Vec<Seq>, Error> {
    let mut statement = sql.prepare_cached(
        "SELECT seq FROM message m WHERE order_key = ?1 AND stored_at <= ?2 \
         AND seq < (SELECT max(seq) FROM message WHERE order_key = ?1) \
         AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.lane = m.lane AND q.seq = m.seq) ORDER BY seq LIMIT ?3",
    )?;
    let rows = statement.query_map(params![key, before.ms(), count as u64], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
