//! Decides how acts of people are read back from the log, newest first. Never decides who may read them.

use rusqlite::params;

use super::Error;
use super::read::Snapshot;
use crate::audit::{Act, KIND};
use crate::time::Time;

/// Which acts are meant; what is unset or empty matches all.
#[derive(Clone, Debug, Default)]
pub struct ActSift {
    pub from: Option<Time>,
    /// The first moment after those that are meant.
    pub until: Option<Time>,
    /// How what was done begins, e.g. `lane.`.
    pub act: String,
    /// What the URI name of who acted contains.
    pub actor: String,
}

/// The place of an act in the order of the list: its moment and its leaf.
pub type ActPlace = (Time, u64);

/// Acts, each with its leaf, and the place where the next call goes on; none when there is nothing behind.
pub type ActPage = (Vec<(u64, Act)>, Option<ActPlace>);

impl Snapshot<'_> {
    /// At most `count` acts before a place, newest first. Looks at no more than `examined` of them.
    pub fn acts(
        &self,
        sift: &ActSift,
        before: Option<ActPlace>,
        count: usize,
        examined: usize,
    ) -> Result<ActPage, Error> {
        // A leaf begins with its version, its kind and its id, and that with the milliseconds (RFC 9562 §5.7).
        let mut statement = self.sql.prepare_cached(
            "SELECT idx, bytes FROM leaf WHERE message IS NULL AND bytes IS NOT NULL AND substr(bytes, 2, 1) = ?1 \
             AND substr(bytes, 5, 6) >= ?2 AND substr(bytes, 5, 6) <= ?3 AND (substr(bytes, 5, 6), idx) < (?3, ?4) \
             ORDER BY substr(bytes, 5, 6) DESC, idx DESC LIMIT ?5",
        )?;
        let moment = |at: Time| at.ms().to_be_bytes();
        let end = (sift.until.unwrap_or(Time::from_ms(u64::MAX)), 0);
        let (last_at, last_leaf) = before.map_or(end, |before| before.min(end));
        let (from, last_at) = (moment(sift.from.unwrap_or(Time::ZERO)), moment(last_at));
        let asked = params![[KIND], &from[2..], &last_at[2..], last_leaf, examined as u64 + 1];
        let mut rows = statement.query(asked)?;
        let (mut acts, mut seen, mut place) = (Vec::new(), 0, None);
        while let Some(row) = rows.next()? {
            if seen == examined || acts.len() == count {
                return Ok((acts, place));
            }
            let (leaf, bytes): (u64, Vec<u8>) = (row.get(0)?, row.get(1)?);
            let act = Act::from_leaf(&bytes).map_err(|error| Error::Damaged(format!("leaf {leaf}: {error}")))?;
            (seen, place) = (seen + 1, Some((act.at, leaf)));
            if act.deed.act.starts_with(&sift.act) && act.deed.actor.contains(&sift.actor) {
                acts.push((leaf, act));
            }
        }
        Ok((acts, None))
    }
}
