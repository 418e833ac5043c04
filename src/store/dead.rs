//! Decides how dead letters are read: counted by cause, page by page in the order in which they came to be messages, or one
//! by its name. Never reads a body, and never changes a letter's fate.

use rusqlite::{OptionalExtension, Row, params};

use super::read::{Snapshot, address, parsed, standing};
use super::{Error, Key, LaneName, Seq};
use crate::evidence::Standing;
use crate::id::MessageId;
use crate::message::Address;
use crate::party::Division;
use crate::time::Time;

/// What became of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadFate {
    Waits = 0,
    Redriven = 1,
    Discarded = 2,
}

/// Narrows dead letters down; what is none narrows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadFilter {
    pub reason: Option<String>,
    pub lane: Option<LaneName>,
    pub item: Option<String>,
    pub from_city: Option<Division>,
}

/// Dead letters that wait and have one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadGroup {
    pub reason: String,
    pub lane: LaneName,
    pub item: String,
    pub count: u64,
    /// How many of them the own city sent.
    pub own: u64,
    pub oldest: Time,
    pub newest: Time,
}

/// A message that ended without handover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub seq: Seq,
    pub key: Key,
    pub standing: Standing,
    pub at: Time,
    pub reason: String,
    pub lane: LaneName,
    pub item: String,
    pub fate: DeadFate,
    /// Why it was set aside; empty for others.
    pub why: String,
    pub recipient: Address,
    pub redriven_as: Option<MessageId>,
}

const LETTER: &str = "SELECT d.seq, m.from_city, m.message_id, m.state, m.flags, d.at, d.reason, l.name, d.item, d.fate, \
     d.why, m.to_city, m.to_system, m.redriven_as FROM dead d JOIN message m USING (seq) JOIN lane l ON l.id = d.lane";

const FITS: &str = "(?1 IS NULL OR d.reason = ?1) AND (?2 IS NULL OR l.name = ?2) AND (?3 IS NULL OR d.item = ?3) \
     AND (?4 IS NULL OR m.from_city = ?4)";

impl Snapshot<'_> {
    /// The dead letters that wait, by cause, the most frequent first, at most `count` causes; `own` is the own city.
    pub fn dead_groups(&self, filter: &DeadFilter, own: &str, count: usize) -> Result<Vec<DeadGroup>, Error> {
        let mut statement = self.sql.prepare_cached(&format!(
            "SELECT d.reason, l.name, d.item, count(*), sum(m.from_city = ?5), min(d.at), max(d.at) \
             FROM dead d JOIN message m USING (seq) JOIN lane l ON l.id = d.lane WHERE d.fate = 0 AND {FITS} \
             GROUP BY d.reason, d.lane, d.item ORDER BY count(*) DESC, d.reason, l.name, d.item LIMIT ?6",
        ))?;
        let lane = filter.lane.as_ref().map(ToString::to_string);
        let city = filter.from_city.as_ref().map(Division::as_str);
        let mut rows = statement.query(params![filter.reason, lane, filter.item, city, own, count as u64])?;
        let mut groups = vec![];
        while let Some(row) = rows.next()? {
            groups.push(DeadGroup {
                reason: row.get(0)?,
                lane: row.get::<_, String>(1)?.parse()?,
                item: row.get(2)?,
                count: row.get(3)?,
                own: row.get(4)?,
                oldest: Time::from_ms(row.get(5)?),
                newest: Time::from_ms(row.get(6)?),
            });
        }
        Ok(groups)
    }

    /// At most `count` dead letters with this fate behind the place `after`, in order.
    pub fn dead_letters(
        &self,
        filter: &DeadFilter,
        fate: DeadFate,
        after: Seq,
        count: usize,
    ) -> Result<Vec<DeadLetter>, Error> {
        // In the order of places, whatever the filter: all pages together are one pass over the table.
        let mut statement = self.sql.prepare_cached(&format!(
            "{LETTER} WHERE d.seq > ?5 AND +d.fate = ?6 AND {FITS} ORDER BY d.seq LIMIT ?7"
        ))?;
        let lane = filter.lane.as_ref().map(ToString::to_string);
        let city = filter.from_city.as_ref().map(Division::as_str);
        let mut rows =
            statement.query(params![filter.reason, lane, filter.item, city, after, fate as u8, count as u64])?;
        let mut letters = vec![];
        while let Some(row) = rows.next()? {
            letters.push(letter(row)?);
        }
        Ok(letters)
    }

    /// The dead letter with this key.
    pub fn dead_letter(&self, key: &Key) -> Result<Option<DeadLetter>, Error> {
        let mut statement = self.sql.prepare_cached(&format!("{LETTER} WHERE m.from_city = ? AND m.message_id = ?"))?;
        let mut rows = statement.query(params![key.from_city.as_str(), key.id.bytes()])?;
        rows.next()?.map(letter).transpose()
    }

    /// The header of the message in this place, empty once retention has taken it, and whether its body is kept.
    pub fn header(&self, seq: Seq) -> Result<Option<(Vec<u8>, bool)>, Error> {
        let mut statement = self.sql.prepare_cached("SELECT header, body IS NOT NULL FROM message WHERE seq = ?")?;
        Ok(statement.query_row([seq], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
    }
}

fn letter(row: &Row<'_>) -> Result<DeadLetter, Error> {
    let fate: u8 = row.get(9)?;
    let fates = [DeadFate::Waits, DeadFate::Redriven, DeadFate::Discarded];
    let fate = fates.into_iter().find(|known| *known as u8 == fate);
    Ok(DeadLetter {
        seq: row.get(0)?,
        key: Key { from_city: parsed(row.get(1)?)?, id: MessageId::from_bytes(row.get(2)?) },
        standing: standing(row.get(3)?, row.get(4)?)?,
        at: Time::from_ms(row.get(5)?),
        reason: row.get(6)?,
        lane: row.get::<_, String>(7)?.parse()?,
        item: row.get(8)?,
        fate: fate.ok_or_else(|| Error::Damaged("no such fate of a dead letter".to_owned()))?,
        why: row.get(10)?,
        recipient: address(row.get(11)?, row.get(12)?)?,
        redriven_as: row.get::<_, Option<[u8; 16]>>(13)?.map(MessageId::from_bytes),
    })
}
