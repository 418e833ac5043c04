//! Decides how messages are listed, newest first, and in which order the history of one is told. Never decides who may see
//! what: whoever asks says so, message by message.

use std::collections::BTreeMap;

use rusqlite::{Row, params_from_iter, types::Value};

use super::read::{Snapshot, address, parsed, standing, state};
use super::{Error, Key, Seq};
use crate::evidence::{Event, Evidence, Standing, State};
use crate::id::MessageId;
use crate::message::{Address, CaseNo, Digest};
use crate::party::Division;
use crate::time::Time;
use crate::tlog::leaf_hash;

/// One receipt about a message, without its proof.
#[derive(Clone, Debug)]
pub struct Entry {
    pub evidence: Evidence,
    /// The free text beside it, as long as it is kept.
    pub text: Option<String>,
}

/// What the rows of a list have in common, as far as the store's own columns say it; what is unset matches all.
#[derive(Clone, Debug, Default)]
pub struct Sift {
    /// Any of them; none, any at all.
    pub states: Vec<State>,
    pub from_city: Option<Division>,
    pub to_city: Option<Division>,
    /// Of this case, between whichever cities.
    pub case_no: Option<CaseNo>,
    pub stored_from: Option<Time>,
    pub stored_before: Option<Time>,
}

/// How far one call goes.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// Only messages before this place; none, from the newest on.
    pub before: Option<Seq>,
    /// Messages that are returned at most.
    pub count: usize,
    /// Messages that are looked at, at most.
    pub examined: usize,
}

/// A message in a list.
#[derive(Clone, Debug)]
pub struct Listed {
    pub seq: Seq,
    pub key: Key,
    pub standing: Standing,
    pub recipient: Address,
    pub stored_at: Time,
    pub expires_at: Time,
    /// The envelope without content; empty once retention has taken it.
    pub header: Vec<u8>,
}

impl Snapshot<'_> {
    /// Everything that is known about a message in the order in which it became known here, which no later entry changes:
    /// the origin's receipt, then our own leaves by their place, each foreign receipt right before the `WITNESSED` leaf
    /// that says it came.
    pub fn history(&self, seq: Seq) -> Result<Vec<Entry>, Error> {
        let mut statement =
            self.sql.prepare_cached("SELECT leaf FROM received WHERE message = ? ORDER BY at, leaf_hash")?;
        let leaves = statement.query_map([seq], |row| row.get(0))?.collect::<Result<Vec<Vec<u8>>, _>>()?;
        let mut foreign: BTreeMap<[u8; 32], Entry> = BTreeMap::new();
        for leaf in leaves {
            foreign.insert(leaf_hash(&leaf).into(), self.entry(&leaf)?);
        }
        let mut statement =
            self.sql.prepare_cached("SELECT bytes FROM leaf WHERE message = ? AND bytes NOT NULL ORDER BY idx")?;
        let leaves = statement.query_map([seq], |row| row.get(0))?.collect::<Result<Vec<Vec<u8>>, _>>()?;
        let mut told = Vec::with_capacity(leaves.len() + foreign.len());
        for leaf in leaves {
            let own = self.entry(&leaf)?;
            let witnessed = own.evidence.witnessed.as_ref().filter(|_| own.evidence.event == Event::Witnessed);
            told.extend(witnessed.and_then(|witnessed| foreign.remove(&witnessed.leaf_hash.0)));
            told.push(own);
        }
        // What no leaf of ours witnesses came with the message itself.
        Ok(foreign.into_values().chain(told).collect())
    }

    fn entry(&self, leaf: &[u8]) -> Result<Entry, Error> {
        let evidence = Evidence::from_leaf(leaf).map_err(|error| Error::Damaged(error.to_string()))?;
        Ok(Entry { evidence, text: self.detail(Digest(leaf_hash(leaf).into()))? })
    }

    /// Messages, newest first, of which `see` makes something; and the place before which the next call goes on, none when
    /// there is nothing behind.
    pub fn list<T>(
        &self,
        sift: &Sift,
        reach: Reach,
        mut see: impl FnMut(Listed) -> Result<Option<T>, Error>,
    ) -> Result<(Vec<T>, Option<Seq>), Error> {
        let keys = sift.case_no.as_ref().map(|case_no| self.case_keys(case_no)).transpose()?;
        let of_case = keys.as_ref().map(|keys| format!("order_key IN ({}) AND", vec!["?"; keys.len()].join(",")));
        let mut statement = self.sql.prepare(&format!(
            "SELECT seq, from_city, message_id, state, flags, to_city, to_system, stored_at, expires_at, header \
             FROM message WHERE {} seq < ? ORDER BY seq DESC LIMIT ?",
            of_case.unwrap_or_default()
        ))?;
        // One more than may be looked at: it tells whether there is anything behind.
        let bounds = [reach.before.unwrap_or(i64::MAX as u64) as i64, reach.examined as i64 + 1].map(Value::from);
        let keys = keys.unwrap_or_default().into_iter().map(Value::from);
        let mut rows = statement.query(params_from_iter(keys.chain(bounds)))?;
        let (mut seen, mut examined, mut last) = (Vec::new(), 0, None);
        while let Some(row) = rows.next()? {
            if examined == reach.examined || seen.len() == reach.count {
                return Ok((seen, last));
            }
            examined += 1;
            last = Some(row.get(0)?);
            if sift.lets_through(row)? {
                seen.extend(see(listed(row)?)?);
            }
        }
        Ok((seen, None))
    }

    /// The order keys (`from>to/case number`) that a case has between any two cities.
    fn case_keys(&self, case_no: &CaseNo) -> Result<Vec<String>, Error> {
        Ok(self.pairs()?.into_iter().map(|pair| format!("{pair}/{}", case_no.as_str())).collect())
    }
}

impl Sift {
    fn lets_through(&self, row: &Row<'_>) -> Result<bool, Error> {
        let is = |wanted: &Option<Division>, column: usize| -> Result<bool, Error> {
            let Some(wanted) = wanted else { return Ok(true) };
            Ok(row.get_ref(column)?.as_str().is_ok_and(|city| city == wanted.as_str()))
        };
        let stored_at = Time::from_ms(row.get(7)?);
        if self.stored_from.is_some_and(|from| stored_at < from)
            || self.stored_before.is_some_and(|end| stored_at >= end)
        {
            return Ok(false);
        }
        if !is(&self.from_city, 1)? || !is(&self.to_city, 5)? {
            return Ok(false);
        }
        Ok(self.states.is_empty() || self.states.contains(&state(row.get(3)?)?))
    }
}

fn listed(row: &Row<'_>) -> Result<Listed, Error> {
    Ok(Listed {
        seq: row.get(0)?,
        key: Key { from_city: parsed(row.get(1)?)?, id: MessageId::from_bytes(row.get(2)?) },
        standing: standing(row.get(3)?, row.get(4)?)?,
        recipient: address(row.get(5)?, row.get(6)?)?,
        stored_at: Time::from_ms(row.get(7)?),
        expires_at: Time::from_ms(row.get(8)?),
        header: row.get(9)?,
    })
}
