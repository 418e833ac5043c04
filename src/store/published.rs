//! Decides which checkpoints are shown to witnesses, for how long, and how a leaf is proved again under one that they have
//! signed. A published checkpoint is one that a commit before had stored: nothing is signed here.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::read::{Hashes, Snapshot, checkpoint, first_place, log_index};
use super::{Commit, Error, Seq};
use crate::limits::{GENERATION_PLACES, HOUR_MS, PUBLISHED_WHOLE_MAX, RETENTION_DAYS, SEALS_COMPARED, SIGNATURES_MAX};
use crate::receipt::Receipt;
use crate::time::Time;
use crate::tlog::Hash;
use crate::tlog::checkpoint::Checkpoint;
use crate::tlog::consistency::consistency_path;
use crate::tlog::cosignature::with_lines;
use crate::tlog::proof::{inclusion_path, tile};
use crate::tlog::receipt_file::TlogProof;

/// A checkpoint that was shown to witnesses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Where the log ended then, counted over all logs of this gateway.
    pub place: u64,
    pub at: Time,
    /// The note as it was signed, with the cosignatures there are behind it.
    pub note: String,
    /// How many there are.
    pub cosignatures: u64,
}

/// How far a log is witnessed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Witnessed {
    /// Leaves under the newest published checkpoint.
    pub published: u64,
    /// Leaves under the newest one that a witness has signed.
    pub cosigned: u64,
    /// When the first one behind that was published; none when the newest is cosigned.
    pub waits_since: Option<Time>,
}

/// A witness's line under a published checkpoint.
#[derive(Clone, Debug)]
pub struct NewCosignature {
    pub place: u64,
    /// The witness's name and key id.
    pub signer: String,
    pub line: String,
}

/// One of this gateway's logs: that of its generation, or one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The place of its first leaf.
    first: u64,
    size: u64,
}

impl Snapshot<'_> {
    /// The log of this name; the one that goes on where no name is given. None that has no leaf yet.
    pub fn log_named(&self, origin: &str) -> Result<Option<Log>, Error> {
        let newest = first_place(self.sql)?;
        let firsts = (0..=newest / GENERATION_PLACES).rev().map(|generation| generation * GENERATION_PLACES);
        for first in firsts {
            let mut statement = self.sql.prepare_cached(
                "SELECT size, note FROM checkpoint WHERE size > ?1 AND size <= ?1 + ?2 ORDER BY size DESC LIMIT 1",
            )?;
            let row = |row: &Row<'_>| Ok((row.get::<_, u64>(0)?, row.get::<_, String>(1)?));
            let found = statement.query_row([first, GENERATION_PLACES], row).optional()?;
            let named = |note: &str| Checkpoint::claimed(note).is_ok_and(|claimed| claimed.origin == origin);
            match found {
                Some((end, note)) if origin.is_empty() || named(&note) => {
                    return Ok(Some(Log { first, size: end - first }));
                }
                None if origin.is_empty() => return Ok(None),
                _ => {}
            }
        }
        Ok(None)
    }

    /// The published checkpoint of this size, or the newest.
    pub fn published(&self, log: Log, size: Option<u64>) -> Result<Option<Published>, Error> {
        let (least, most) = match size {
            Some(size) => (log.first.saturating_add(size), log.first.saturating_add(size)),
            None => (log.first + 1, log.first + GENERATION_PLACES),
        };
        let mut statement = self.sql.prepare_cached(
            "SELECT place, at FROM published WHERE place >= ? AND place <= ? ORDER BY place DESC LIMIT 1",
        )?;
        let row = |row: &Row<'_>| Ok((row.get(0)?, Time::from_ms(row.get(1)?)));
        let found: Option<(u64, Time)> = statement.query_row([least, most], row).optional()?;
        found.map(|(place, at)| self.shown(place, at)).transpose()
    }

    fn shown(&self, place: u64, at: Time) -> Result<Published, Error> {
        let note = checkpoint(self.sql, place)?;
        let note = note.ok_or_else(|| Error::Damaged(format!("the published checkpoint {place} is missing")))?;
        let lines = cosignatures(self.sql, place)?;
        let cosignatures = lines.len() as u64;
        Ok(Published { place, at, note: with_lines(&note, lines.iter().map(String::as_str)), cosignatures })
    }

    /// How far the log that goes on is witnessed.
    pub fn witnessed(&self) -> Result<Witnessed, Error> {
        let first = first_place(self.sql)?;
        let newest = |table: &str| -> Result<u64, Error> {
            let sql = format!("SELECT coalesce(max(place), ?1) - ?1 FROM {table} WHERE place > ?1");
            Ok(self.sql.prepare_cached(&sql)?.query_row([first], |row| row.get(0))?)
        };
        let (published, cosigned) = (newest("published")?, newest("cosignature")?);
        let mut statement =
            self.sql.prepare_cached("SELECT at FROM published WHERE place > ? ORDER BY place LIMIT 1")?;
        let waits: Option<u64> = statement.query_row([first + cosigned], |row| row.get(0)).optional()?;
        Ok(Witnessed { published, cosigned, waits_since: waits.map(Time::from_ms) })
    }

    /// The proof that the log of `new` leaves grew out of the one of `old`; none where it has not so many.
    pub fn consistency(&self, log: Log, old: u64, new: u64) -> Result<Option<Vec<Hash>>, Error> {
        if old > new || new > log.size {
            return Ok(None);
        }
        let path = consistency_path(old, new, &Hashes { sql: self.sql, first: log.first });
        path.map(Some).map_err(|error| Error::Damaged(error.to_string()))
    }

    /// The hashes of a tile; none where the log has not so many.
    pub fn tile(&self, log: Log, level: u8, index: u64, width: u64) -> Result<Option<Vec<Hash>>, Error> {
        let hashes = tile(level, index, width, log.size, &Hashes { sql: self.sql, first: log.first });
        hashes.map_err(|error| Error::Damaged(error.to_string()))
    }

    /// Our own receipts about a message as [`Snapshot::evidence`] gives them, each proved under a cosigned checkpoint where
    /// there is one, and those received.
    pub fn sealed_evidence(&self, seq: Seq) -> Result<(Vec<Receipt>, Vec<Receipt>), Error> {
        let (_, received) = self.evidence(seq)?;
        let mut statement = self.sql.prepare_cached("SELECT idx FROM leaf WHERE message = ? ORDER BY idx")?;
        let own = statement.query_map([seq], |row| row.get(0))?.collect::<Result<Vec<u64>, _>>()?;
        Ok((own.into_iter().map(|leaf| self.sealed(leaf)).collect::<Result<_, _>>()?, received))
    }

    /// The receipt with this leaf, proved under the published checkpoint behind it that most witnesses have signed, of the
    /// first few that any has; as it was first shown where there is none.
    pub fn sealed(&self, leaf: u64) -> Result<Receipt, Error> {
        let instant = self.receipt(leaf)?;
        let (index, first) = (log_index(leaf), leaf - log_index(leaf));
        let mut statement = self.sql.prepare_cached(
            "SELECT place, count(*) FROM cosignature WHERE place > ? AND place <= ? GROUP BY place ORDER BY place LIMIT ?",
        )?;
        let row = |row: &Row<'_>| Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?));
        let rows = statement.query_map([leaf, first + GENERATION_PLACES, SEALS_COMPARED], row)?;
        let cosigned = rows.collect::<Result<Vec<_>, _>>()?;
        // Of equals the first: it is nearest to the event.
        let best = cosigned.into_iter().rev().max_by_key(|(_, witnesses)| *witnesses);
        let Some((place, _)) = best else { return Ok(instant) };
        let Published { note, .. } = self.shown(place, Time::ZERO)?;
        let path = inclusion_path(index, place - first, &Hashes { sql: self.sql, first });
        let path = path.map_err(|error| Error::Damaged(error.to_string()))?;
        let proof = TlogProof { extra: None, index, path, checkpoint_note: note };
        Ok(Receipt { leaf: instant.leaf, proof })
    }
}

fn cosignatures(sql: &Connection, place: u64) -> Result<Vec<String>, Error> {
    let mut statement = sql.prepare_cached("SELECT line FROM cosignature WHERE place = ? ORDER BY signer")?;
    Ok(statement.query_map([place], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Writes what is published and cosigned. A witness that has signed a checkpoint does not sign it again: its first word, with
/// the earliest time, stands.
pub(super) fn write(sql: &Transaction<'_>, commit: &Commit) -> Result<(), Error> {
    if let Some((place, at)) = commit.published {
        let new = sql.prepare_cached("INSERT OR IGNORE INTO published (place, at) VALUES (?, ?)")?;
        let new = { new }.execute(params![place, at.ms()])?;
        if new > 0 {
            thin_out(sql)?;
            let (_, _, evidence_days, _) = RETENTION_DAYS;
            forget_oldest(sql, at.minus_ms(evidence_days * 24 * HOUR_MS))?;
        }
    }
    let mut insert = sql.prepare_cached(
        "INSERT OR IGNORE INTO cosignature (place, signer, line) SELECT ?1, ?2, ?3 \
         WHERE EXISTS (SELECT 1 FROM published WHERE place = ?1) \
         AND (SELECT count(*) FROM cosignature WHERE place = ?1) < ?4",
    )?;
    for NewCosignature { place, signer, line } in &commit.cosignatures {
        insert.execute(params![place, signer, line, SIGNATURES_MAX as u64 - 1])?;
    }
    Ok(())
}

/// Beyond the newest ones that are all kept, one stays of each hour: that which more witnesses have signed, else the
/// earlier. One row leaves the whole ones with each that joins them.
fn thin_out(sql: &Connection) -> Result<(), Error> {
    let row = |row: &Row<'_>| Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?));
    let at = "SELECT place, at FROM published ORDER BY place DESC LIMIT 2 OFFSET ?";
    let mut statement = sql.prepare_cached(at)?;
    let rows = statement.query_map([PUBLISHED_WHOLE_MAX], row)?.collect::<Result<Vec<_>, _>>()?;
    let [(later, later_at), (earlier, earlier_at)] = rows[..] else { return Ok(()) };
    if later_at / HOUR_MS == earlier_at / HOUR_MS {
        let signed = |place| cosignatures(sql, place).map(|lines| lines.len());
        unpublish(sql, if signed(later)? > signed(earlier)? { earlier } else { later })?;
    }
    Ok(())
}

fn forget_oldest(sql: &Connection, before: Time) -> Result<(), Error> {
    let mut oldest = sql.prepare_cached("SELECT place FROM published ORDER BY place LIMIT 1")?;
    let mut old = sql.prepare_cached("SELECT 1 FROM published WHERE place = ? AND at < ?")?;
    match oldest.query_row([], |row| row.get::<_, u64>(0)).optional()? {
        Some(place) if old.exists(params![place, before.ms()])? => unpublish(sql, place),
        _ => Ok(()),
    }
}

fn unpublish(sql: &Connection, place: u64) -> Result<(), Error> {
    sql.prepare_cached("DELETE FROM cosignature WHERE place = ?")?.execute([place])?;
    sql.prepare_cached("DELETE FROM published WHERE place = ?")?.execute([place])?;
    Ok(())
}
