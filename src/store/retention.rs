//! Decides what has been kept long enough, and takes it. What is looked for is found by indexes, or at the beginning: the
//! hourly look at a store of many millions reads what it takes. Never decides how long anything is kept.

use rusqlite::{Transaction, params};

use super::{Error, Forgotten, Retention, Seq, Snapshot};
use crate::audit;
use crate::evidence;
use crate::time::Time;

const BODIES: &str = "SELECT seq FROM message WHERE closed_at <= ? AND body IS NOT NULL LIMIT ?";
const ENVELOPES: &str =
    "SELECT seq FROM message WHERE stored_at <= ? AND header <> x'' AND closed_at IS NOT NULL LIMIT ?";
const LEAVES: &str = "SELECT idx FROM leaf WHERE message IS NULL AND bytes IS NOT NULL AND substr(bytes, 2, 1) = ? \
     AND substr(bytes, 5, 6) <= ? LIMIT ?";

impl Snapshot<'_> {
    /// What has been kept long enough, at most `count` of each kind.
    pub fn forgettable(&self, now: Time, ages: &Retention, count: usize) -> Result<Forgotten, Error> {
        let seqs = |sql: &str, before: Time| -> Result<Vec<Seq>, Error> {
            let mut statement = self.sql.prepare_cached(sql)?;
            let rows = statement.query_map(params![before.ms(), count as u64], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        let alone = |kind: u8, before: Time| -> Result<Vec<u64>, Error> {
            // A leaf begins with its version, its kind and its id, and that with the milliseconds (RFC 9562 §5.7).
            let mut statement = self.sql.prepare_cached(LEAVES)?;
            let (kind, before) = ([kind], before.ms().to_be_bytes());
            let rows = statement.query_map(params![kind, &before[2..], count as u64], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        let mut evidence = self.oldest_ended(now.minus_ms(ages.evidence_ms), count)?;
        let tests = self.tests_before(now.minus_ms(ages.tests_ms), count - evidence.len())?;
        evidence.extend(tests.iter().filter(|seq| !evidence.contains(seq)).copied().collect::<Vec<_>>());
        Ok(Forgotten {
            bodies: seqs(BODIES, now.minus_ms(ages.bodies_ms))?,
            envelopes: seqs(ENVELOPES, now.minus_ms(ages.envelopes_ms))?,
            evidence,
            leaves: [
                alone(audit::KIND, now.minus_ms(ages.audit_ms))?,
                alone(evidence::KIND, now.minus_ms(ages.evidence_ms))?,
            ]
            .concat()
            .into_iter()
            .take(count)
            .collect(),
        })
    }

    /// Messages that came by then and have ended, oldest first, at most `count`. Places and moments rise together, so the
    /// first that came later ends the look. The newest message stays: the places of messages count on from it.
    fn oldest_ended(&self, before: Time, count: usize) -> Result<Vec<Seq>, Error> {
        let mut statement = self.sql.prepare_cached(
            "SELECT seq, stored_at, closed_at IS NOT NULL FROM message \
             WHERE seq < (SELECT max(seq) FROM message) ORDER BY seq",
        )?;
        let (mut rows, mut found) = (statement.query([])?, vec![]);
        while found.len() < count
            && let Some(row) = rows.next()?
            && Time::from_ms(row.get(1)?) <= before
        {
            if row.get(2)? {
                found.push(row.get(0)?);
            }
        }
        Ok(found)
    }
}

/// Takes what retention takes. Leaf hashes, tiles and checkpoints stay: the tree keeps verifying.
pub(super) fn forget(sql: &Transaction<'_>, forgotten: &Forgotten) -> Result<(), Error> {
    for seq in &forgotten.bodies {
        sql.prepare_cached("UPDATE message SET body = NULL WHERE seq = ?")?.execute([seq])?;
        sql.prepare_cached("DELETE FROM detail WHERE message = ?")?.execute([seq])?;
        sql.prepare_cached("DELETE FROM attachment WHERE seq = ?")?.execute([seq])?;
    }
    for seq in &forgotten.envelopes {
        sql.prepare_cached("UPDATE message SET header = x'', body = NULL WHERE seq = ?")?.execute([seq])?;
        sql.prepare_cached("DELETE FROM dead WHERE seq = ?")?.execute([seq])?;
    }
    for seq in &forgotten.evidence {
        sql.prepare_cached("UPDATE leaf SET bytes = NULL, message = NULL WHERE message = ?")?.execute([seq])?;
        for table in ["received", "detail", "signature"] {
            sql.prepare_cached(&format!("DELETE FROM {table} WHERE message = ?"))?.execute([seq])?;
        }
        for table in ["attachment", "dead", "message"] {
            sql.prepare_cached(&format!("DELETE FROM {table} WHERE seq = ?"))?.execute([seq])?;
        }
    }
    if !forgotten.evidence.is_empty() {
        // A receipt that is no more cannot travel.
        let gone = "DELETE FROM outbox WHERE EXISTS (SELECT 1 FROM leaf WHERE idx = outbox.leaf AND bytes IS NULL)";
        sql.execute(gone, [])?;
    }
    for leaf in &forgotten.leaves {
        sql.prepare_cached("UPDATE leaf SET bytes = NULL WHERE idx = ?")?.execute([leaf])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Synchronous, open};

    #[test]
    fn what_is_looked_for_is_found_by_an_index() {
        let folder = std::env::temp_dir().join(format!("tongban-retention-{}", std::process::id()));
        drop(open(&folder, Synchronous::Full).unwrap());
        let sql = rusqlite::Connection::open(folder.join("store.db")).unwrap();
        for (asked, index) in [(BODIES, "message_body"), (ENVELOPES, "message_envelope"), (LEAVES, "leaf_alone")] {
            let mut plan = sql.prepare(&format!("EXPLAIN QUERY PLAN {asked}")).unwrap();
            let values = vec![0_i64; plan.parameter_count()];
            let steps = plan.query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
            let steps: Vec<String> = steps.map(Result::unwrap).collect();
            assert!(steps.iter().all(|step| step.contains(&format!("INDEX {index} "))), "{steps:?}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
