//! Decides how what is committed is read back, a receipt byte for byte as it was shown. Never sees what is not
//! committed and never writes.

use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::recent::Recent;
use super::{DueRow, Error, Head, Hold, Key, LaneName, LaneState, QueueRow, RouteVersion, Seq, Stored};
use crate::evidence::{Standing, State};
use crate::id::MessageId;
use crate::limits::GENERATION_PLACES;
use crate::message::{Address, Attached, Digest};
use crate::party::Division;
use crate::receipt::Receipt;
use crate::time::Time;
use crate::tlog::proof::{HashSource, inclusion_path};
use crate::tlog::receipt_file::TlogProof;
use crate::tlog::tree::{TILE_BITS, Tree};
use crate::tlog::{Hash, leaf_hash};

/// The store's readers, a few connections beside the writer.
#[derive(Debug)]
pub struct Readers {
    connections: Vec<Mutex<Connection>>,
    next: AtomicUsize,
    recent: Arc<Recent>,
    /// Closed after the connections: see [`super::backfill::Backfill`].
    _database: Option<Arc<File>>,
}

impl Readers {
    pub(super) fn new(connections: Vec<Connection>, recent: Arc<Recent>, database: Option<Arc<File>>) -> Readers {
        let connections = connections.into_iter().map(Mutex::new).collect();
        Readers { connections, next: AtomicUsize::new(0), recent, _database: database }
    }

    /// Runs `look` on what is committed now, where blocking is allowed.
    pub async fn seek<T: Send + 'static>(
        self: &Arc<Self>,
        look: impl FnOnce(&Snapshot<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let readers = Arc::clone(self);
        let sought = tokio::task::spawn_blocking(move || readers.look(look)).await;
        sought.unwrap_or_else(|error| Err(Error::Failed(error.to_string())))
    }

    /// Runs `look` on what is committed now. It reads the disk: call it where blocking is allowed.
    pub fn look<T>(&self, look: impl FnOnce(&Snapshot<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        let connection = self.connections[turn].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let transaction = connection.unchecked_transaction()?;
        look(&Snapshot { sql: &transaction, recent: &self.recent })
    }
}

/// One consistent view of the store.
#[derive(Debug)]
pub struct Snapshot<'a> {
    pub(super) sql: &'a Connection,
    pub(super) recent: &'a Recent,
}

impl Snapshot<'_> {
    /// The head of the message with this key.
    pub fn head(&self, key: &Key) -> Result<Option<Head>, Error> {
        head(self.sql, key)
    }

    /// The names of all lanes that hold something: messages or receipts.
    pub fn busy_lanes(&self) -> Result<Vec<LaneName>, Error> {
        let mut statement = self.sql.prepare_cached(
            "SELECT name FROM lane WHERE EXISTS (SELECT 1 FROM queue WHERE lane = id) \
             OR EXISTS (SELECT 1 FROM outbox WHERE lane = id)",
        )?;
        let names = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
        names.iter().map(|name| name.parse()).collect()
    }

    /// At most `count` rows of a lane from the place `from` on, in order.
    pub fn queue(&self, lane: &LaneName, from: Seq, count: usize) -> Result<Vec<QueueRow>, Error> {
        let Some(lane) = lane_id(self.sql, lane)? else { return Ok(vec![]) };
        let mut statement = self.sql.prepare_cached(
            "SELECT q.seq, m.order_key, q.deliveries, q.parked_until, m.expires_at, q.others <> '' \
             FROM queue q JOIN message m USING (seq) \
             WHERE q.lane = ? AND q.seq >= ? ORDER BY q.seq LIMIT ?",
        )?;
        let row = |row: &Row<'_>| {
            Ok(QueueRow {
                seq: row.get(0)?,
                order_key: row.get(1)?,
                deliveries: row.get(2)?,
                parked_until: Time::from_ms(row.get(3)?),
                expires_at: Time::from_ms(row.get(4)?),
                alternative: row.get(5)?,
            })
        };
        Ok(statement.query_map(params![lane, from, count as u64], row)?.collect::<Result<_, _>>()?)
    }

    /// The message in this place, with its body.
    pub fn message(&self, seq: Seq) -> Result<Option<Stored>, Error> {
        let mut statement = self.sql.prepare_cached(
            "SELECT from_city, message_id, state, flags, to_city, to_system, expires_at, first_leaf, origin_receipt, \
             header, body, via, stored_at, header_digest, l.name, order_key, replied_by, redriven_as \
             FROM message m JOIN lane l ON l.id = m.lane WHERE seq = ?",
        )?;
        let mut rows = statement.query([seq])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let origin: Option<[u8; 32]> = row.get(8)?;
        Ok(Some(Stored {
            seq,
            key: Key { from_city: parsed(row.get(0)?)?, id: MessageId::from_bytes(row.get(1)?) },
            standing: standing(row.get(2)?, row.get(3)?)?,
            recipient: address(row.get(4)?, row.get(5)?)?,
            expires_at: Time::from_ms(row.get(6)?),
            first_leaf: row.get(7)?,
            origin_receipt: origin.map(|leaf_hash| self.received(Digest(leaf_hash))).transpose()?,
            header: row.get(9)?,
            body: row.get(10)?,
            via: unlisted(&row.get::<_, String>(11)?)?,
            stored_at: Time::from_ms(row.get(12)?),
            header_digest: Digest(row.get(13)?),
            lane: row.get::<_, String>(14)?.parse()?,
            order_key: row.get(15)?,
            replied_by: row.get::<_, Option<[u8; 16]>>(16)?.map(MessageId::from_bytes),
            redriven_as: row.get::<_, Option<[u8; 16]>>(17)?.map(MessageId::from_bytes),
        }))
    }

    /// The receipt with this leaf of our own log.
    pub fn receipt(&self, leaf: u64) -> Result<Receipt, Error> {
        receipt(self.sql, self.recent, leaf)
    }

    /// A stored receipt of another log.
    pub fn received(&self, leaf_hash: Digest) -> Result<Receipt, Error> {
        let mut statement = self.sql.prepare_cached("SELECT leaf, proof FROM received WHERE leaf_hash = ?")?;
        let row = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, String>(1)?));
        let row = statement.query_row([leaf_hash.0], row).optional()?;
        let (leaf, proof) =
            row.ok_or_else(|| Error::Damaged(format!("the received receipt {leaf_hash} is missing")))?;
        foreign(leaf, &proof)
    }

    /// All receipts about a message: our own in the order of our log, and those received in the order they came.
    pub fn evidence(&self, seq: Seq) -> Result<(Vec<Receipt>, Vec<Receipt>), Error> {
        let mut statement = self.sql.prepare_cached("SELECT idx FROM leaf WHERE message = ? ORDER BY idx")?;
        let own = statement.query_map([seq], |row| row.get(0))?.collect::<Result<Vec<u64>, _>>()?;
        let own = own.into_iter().map(|leaf| self.receipt(leaf)).collect::<Result<_, _>>()?;
        let mut statement =
            self.sql.prepare_cached("SELECT leaf, proof FROM received WHERE message = ? ORDER BY at, leaf_hash")?;
        let row = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, String>(1)?));
        let rows = statement.query_map([seq], row)?.collect::<Result<Vec<_>, _>>()?;
        let received = rows.into_iter().map(|(leaf, proof)| foreign(leaf, &proof)).collect::<Result<_, _>>()?;
        Ok((own, received))
    }

    /// The free text beside a receipt, as long as it is kept.
    pub fn detail(&self, leaf_hash: Digest) -> Result<Option<String>, Error> {
        let mut statement = self.sql.prepare_cached("SELECT text FROM detail WHERE leaf_hash = ?")?;
        Ok(statement.query_row([leaf_hash.0], |row| row.get(0)).optional()?)
    }

    /// At most `count` receipts that still travel to the lane's owner, oldest first: the place of the leaf, and the foreign
    /// receipt where one is passed on.
    pub fn outbox(
        &self,
        lane: &LaneName,
        after: Option<u64>,
        count: usize,
    ) -> Result<Vec<(u64, Option<Digest>)>, Error> {
        let Some(lane) = lane_id(self.sql, lane)? else { return Ok(vec![]) };
        let first = after.map_or(0, |leaf| leaf + 1);
        let mut statement = self
            .sql
            .prepare_cached("SELECT leaf, received FROM outbox WHERE lane = ? AND leaf >= ? ORDER BY leaf LIMIT ?")?;
        let row = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, Option<[u8; 32]>>(1)?.map(Digest)));
        Ok(statement.query_map(params![lane, first, count as u64], row)?.collect::<Result<_, _>>()?)
    }

    /// At most `count` queue rows whose moment has come, after a lane and place, and the earliest moment of all others.
    pub fn due(
        &self,
        now: Time,
        after: Option<(i64, Seq)>,
        count: usize,
    ) -> Result<(Vec<DueRow>, Option<Time>), Error> {
        let (lane, seq) = after.unwrap_or((-1, 0));
        let mut statement = self.sql.prepare_cached(
            "SELECT q.lane, l.name, q.seq, q.notices, m.stored_at, m.expires_at FROM queue q \
             JOIN lane l ON l.id = q.lane JOIN message m USING (seq) \
             WHERE q.due_at <= ?1 AND (q.lane, q.seq) > (?2, ?3) ORDER BY q.lane, q.seq LIMIT ?4",
        )?;
        let row = |row: &Row<'_>| {
            let times = (Time::from_ms(row.get(4)?), Time::from_ms(row.get(5)?));
            Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get(3)?, times))
        };
        let rows = statement.query_map(params![now.ms(), lane, seq, count as u64], row)?;
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let parsed = rows.into_iter().map(|(lane_id, lane, seq, notices, (stored_at, expires_at))| {
            Ok(DueRow { lane_id, lane: lane.parse()?, seq, notices, stored_at, expires_at })
        });
        let mut statement = self.sql.prepare_cached("SELECT min(due_at) FROM queue WHERE due_at > ?")?;
        let next: Option<u64> = statement.query_row([now.ms()], |row| row.get(0))?;
        Ok((parsed.collect::<Result<_, Error>>()?, next.map(Time::from_ms)))
    }

    /// What a lane must not forget.
    pub fn lane_state(&self, lane: &LaneName) -> Result<LaneState, Error> {
        lane_state(self.sql, lane)
    }

    /// Who paused a lane; none when nobody did.
    pub fn hold(&self, lane: &LaneName) -> Result<Option<Hold>, Error> {
        hold(self.sql, lane)
    }

    /// The newest message's place; 0 when there is none.
    pub fn last_seq(&self) -> Result<Seq, Error> {
        Ok(self.sql.query_row("SELECT coalesce(max(seq), 0) FROM message", [], |r| r.get(0))?)
    }

    /// How the message of the same case before this one ended; none when there was none, or it has not.
    pub fn previous_outcome(&self, order_key: &str, seq: Seq) -> Result<Option<State>, Error> {
        let mut statement = self
            .sql
            .prepare_cached("SELECT state FROM message WHERE order_key = ? AND seq < ? ORDER BY seq DESC LIMIT 1")?;
        let number: Option<u8> = statement.query_row(params![order_key, seq], |row| row.get(0)).optional()?;
        Ok(number.map(state).transpose()?.filter(|state| state.is_final()))
    }

    /// Whether a message refers to these bytes.
    pub fn is_attached(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(self.sql.prepare_cached("SELECT 1 FROM attachment WHERE digest = ? LIMIT 1")?.exists([digest.0])?)
    }

    /// Every attachment that a message refers to, in whichever form, and its size.
    pub fn attachments(&self) -> Result<Vec<(Digest, u64)>, Error> {
        let mut statement = self.sql.prepare("SELECT digest, max(size) FROM attachment GROUP BY digest")?;
        let rows = statement.query_map([], |row| Ok((Digest(row.get(0)?), row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The size of an attachment that this message refers to, in whichever form.
    pub fn attached(&self, seq: Seq, digest: &Digest) -> Result<Option<u64>, Error> {
        let mut statement =
            self.sql.prepare_cached("SELECT size FROM attachment WHERE digest = ? AND seq = ? LIMIT 1")?;
        Ok(statement.query_row(params![digest.0, seq], |row| row.get(0)).optional()?)
    }

    /// The sealed forms of a message's attachments that were made here, by place.
    pub fn sealed_forms(&self, seq: Seq) -> Result<Vec<(usize, Attached)>, Error> {
        let mut statement = self
            .sql
            .prepare_cached("SELECT place, digest, size FROM attachment WHERE seq = ? AND sealed = 1 ORDER BY place")?;
        let row = |row: &Row<'_>| {
            Ok((row.get::<_, u64>(0)? as usize, Attached { digest: Digest(row.get(1)?), size: row.get(2)? }))
        };
        Ok(statement.query_map([seq], row)?.collect::<Result<_, _>>()?)
    }

    /// The set of routing tables in this version, or the newest: its number, and each owner's canonical text.
    pub fn routes(&self, version: Option<u64>) -> Result<(u64, Vec<(Division, String)>), Error> {
        let (version, tables) = self.route_tables(version)?;
        let text = |(owner, since)| self.route_text(&owner, since).map(|text| (owner, text));
        Ok((version, tables.into_iter().map(text).collect::<Result<_, Error>>()?))
    }

    /// The set of routing tables in this version, or the newest: its number, and each owner with the version of the set
    /// since which its table stands. Both together name one text for ever.
    pub fn route_tables(&self, version: Option<u64>) -> Result<(u64, Vec<(Division, u64)>), Error> {
        let newest: u64 =
            self.sql.query_row("SELECT coalesce(max(version), 0) FROM route_set", [], |row| row.get(0))?;
        let version = version.unwrap_or(newest);
        let mut statement = self.sql.prepare_cached(
            "SELECT owner, version FROM route_table t WHERE version = (SELECT max(version) FROM route_table \
             WHERE owner = t.owner AND version <= ?) AND text IS NOT NULL ORDER BY owner",
        )?;
        let rows = statement.query_map([version], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let tables = rows.into_iter().map(|(owner, since)| Ok((parsed(owner)?, since)));
        Ok((version, tables.collect::<Result<_, Error>>()?))
    }

    /// The canonical text of an owner's table that stands since this version of the set.
    pub fn route_text(&self, owner: &Division, since: u64) -> Result<String, Error> {
        let mut statement = self.sql.prepare_cached("SELECT text FROM route_table WHERE owner = ? AND version = ?")?;
        Ok(statement.query_row(params![owner.as_str(), since], |row| row.get(0))?)
    }

    /// The versions of the routing tables, newest first, at most `count` of them.
    pub fn route_versions(&self, count: usize) -> Result<Vec<RouteVersion>, Error> {
        let mut statement = self
            .sql
            .prepare_cached("SELECT version, at, actor, action FROM route_set ORDER BY version DESC LIMIT ?")?;
        let row = |row: &Row<'_>| {
            let at = Time::from_ms(row.get(1)?);
            Ok(RouteVersion { version: row.get(0)?, at, actor: row.get(2)?, action: row.get(3)? })
        };
        Ok(statement.query_map([count as u64], row)?.collect::<Result<_, _>>()?)
    }
}

pub(super) fn lane_id(sql: &Connection, name: &LaneName) -> Result<Option<i64>, Error> {
    let mut statement = sql.prepare_cached("SELECT id FROM lane WHERE name = ?")?;
    Ok(statement.query_row([name.to_string()], |row| row.get(0)).optional()?)
}

pub(super) fn lane_state(sql: &Connection, lane: &LaneName) -> Result<LaneState, Error> {
    let mut statement = sql.prepare_cached("SELECT failures, rest_until, open, sent_below FROM lane WHERE name = ?")?;
    let row = |row: &Row<'_>| {
        Ok(LaneState {
            failures: row.get(0)?,
            rest_until: Time::from_ms(row.get(1)?),
            open: row.get(2)?,
            sent_below: row.get(3)?,
        })
    };
    let unknown = LaneState { failures: 0, rest_until: Time::ZERO, open: false, sent_below: 0 };
    Ok(statement.query_row([lane.to_string()], row).optional()?.unwrap_or(unknown))
}

pub(super) fn hold(sql: &Connection, lane: &LaneName) -> Result<Option<Hold>, Error> {
    let mut statement =
        sql.prepare_cached("SELECT held_at, held_by, held_why FROM lane WHERE name = ? AND held = 1")?;
    let row = |row: &Row<'_>| Ok(Hold { since: Time::from_ms(row.get(0)?), by: row.get(1)?, why: row.get(2)? });
    Ok(statement.query_row([lane.to_string()], row).optional()?)
}

pub(super) fn case_rows(sql: &Connection, lane: &LaneName, seq: Seq) -> Result<Vec<(Seq, Vec<LaneName>)>, Error> {
    let Some(lane) = lane_id(sql, lane)? else { return Ok(vec![]) };
    let order_key: Option<String> = sql
        .prepare_cached("SELECT order_key FROM message WHERE seq = ?")?
        .query_row([seq], |row| row.get(0))
        .optional()?
        .flatten();
    let row = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, String>(1)?));
    let rows = match order_key {
        None => sql
            .prepare_cached("SELECT seq, others FROM queue WHERE lane = ? AND seq = ?")?
            .query_map(params![lane, seq], row)?
            .collect::<Result<Vec<_>, _>>()?,
        Some(key) => sql
            .prepare_cached(
                "SELECT q.seq, q.others FROM message m JOIN queue q ON q.lane = ? AND q.seq = m.seq \
                 WHERE m.order_key = ? AND m.seq >= ? ORDER BY m.seq",
            )?
            .query_map(params![lane, key, seq], row)?
            .collect::<Result<Vec<_>, _>>()?,
    };
    rows.into_iter().map(|(seq, others)| Ok((seq, unlisted(&others)?))).collect()
}

pub(super) fn lane_of_case(sql: &Connection, order_key: &str) -> Result<Option<LaneName>, Error> {
    let mut statement = sql.prepare_cached(
        "SELECT l.name FROM message m JOIN queue q ON q.lane = m.lane AND q.seq = m.seq JOIN lane l ON l.id = m.lane \
         WHERE m.order_key = ? ORDER BY m.seq DESC LIMIT 1",
    )?;
    let name: Option<String> = statement.query_row([order_key], |row| row.get(0)).optional()?;
    name.map(|name| name.parse()).transpose()
}

/// The origin's receipt of the newest message of a case that another gateway brought.
pub(super) fn newest_origin(sql: &Connection, order_key: &str) -> Result<Option<Receipt>, Error> {
    let mut statement = sql.prepare_cached(
        "SELECT r.leaf, r.proof FROM message m JOIN received r ON r.leaf_hash = m.origin_receipt \
         WHERE m.order_key = ? ORDER BY m.seq DESC LIMIT 1",
    )?;
    let row = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, String>(1)?));
    let row = statement.query_row([order_key], row).optional()?;
    row.map(|(leaf, proof)| foreign(leaf, &proof)).transpose()
}

pub(super) fn waiting(sql: &Connection) -> Result<std::collections::HashMap<LaneName, u64>, Error> {
    let mut statement =
        sql.prepare_cached("SELECT l.name, count(*) FROM queue q JOIN lane l ON l.id = q.lane GROUP BY q.lane")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    rows.into_iter().map(|(name, count)| Ok((name.parse()?, count))).collect()
}

pub(super) fn notices(sql: &Connection, lane: &LaneName, seq: Seq) -> Result<Option<u32>, Error> {
    let Some(lane) = lane_id(sql, lane)? else { return Ok(None) };
    let mut statement = sql.prepare_cached("SELECT notices FROM queue WHERE lane = ? AND seq = ?")?;
    Ok(statement.query_row(params![lane, seq], |row| row.get(0)).optional()?)
}

/// Names that were parted by commas.
fn unlisted<T: std::str::FromStr>(names: &str) -> Result<Vec<T>, Error> {
    names.split(',').filter(|name| !name.is_empty()).map(|name| parsed(name.to_owned())).collect()
}

pub(super) fn head(sql: &Connection, key: &Key) -> Result<Option<Head>, Error> {
    // By the key's index alone: most are not there.
    let mut statement = sql.prepare_cached("SELECT seq FROM message WHERE from_city = ? AND message_id = ?")?;
    let seq = statement.query_row(params![key.from_city.as_str(), key.id.bytes()], |row| row.get(0)).optional()?;
    seq.map_or(Ok(None), |seq| head_at(sql, seq))
}

pub(super) fn head_at(sql: &Connection, seq: Seq) -> Result<Option<Head>, Error> {
    let mut statement = sql.prepare_cached(
        "SELECT m.seq, m.from_city, m.message_id, m.header_digest, m.state, m.flags, l.name, m.first_leaf, \
         m.base_leaf, b.bytes, m.last_leaf, e.hash, \
         EXISTS (SELECT 1 FROM queue q WHERE q.lane = m.lane AND q.seq = m.seq), \
         m.via, m.closed_at, m.stored_at, m.expires_at \
         FROM message m JOIN lane l ON l.id = m.lane JOIN leaf b ON b.idx = m.base_leaf JOIN leaf e ON e.idx = m.last_leaf \
         WHERE m.seq = ?",
    )?;
    let mut rows = statement.query([seq])?;
    rows.next()?.map(head_row).transpose()
}

fn head_row(row: &Row<'_>) -> Result<Head, Error> {
    Ok(Head {
        seq: row.get(0)?,
        key: Key { from_city: parsed(row.get(1)?)?, id: MessageId::from_bytes(row.get(2)?) },
        header_digest: Digest(row.get(3)?),
        standing: standing(row.get(4)?, row.get(5)?)?,
        lane: row.get::<_, String>(6)?.parse()?,
        first_leaf: row.get(7)?,
        base: (row.get(8)?, row.get(9)?),
        last: (row.get(10)?, Digest(row.get(11)?)),
        queued: row.get(12)?,
        came_by: unlisted(&row.get::<_, String>(13)?)?.pop(),
        closed_at: row.get::<_, Option<u64>>(14)?.map(Time::from_ms),
        stored_at: Time::from_ms(row.get(15)?),
        expires_at: Time::from_ms(row.get(16)?),
    })
}

pub(super) fn parsed<T: std::str::FromStr>(text: String) -> Result<T, Error> {
    text.parse().map_err(|_| Error::Damaged(format!("{text:?} does not parse")))
}

pub(super) fn state(number: u8) -> Result<State, Error> {
    State::from_number(number).ok_or_else(|| Error::Damaged(format!("no state {number}")))
}

/// A standing from its two columns; `flags` is its inverse.
pub(super) fn standing(number: u8, flags: u8) -> Result<Standing, Error> {
    let is = |bit: u8| flags & bit != 0;
    Ok(Standing { state: state(number)?, in_doubt: is(1), late: is(2), turned_back: is(4) })
}

pub(super) fn flags(standing: Standing) -> u8 {
    let bits = [standing.in_doubt, standing.late, standing.turned_back];
    bits.iter().rev().fold(0, |flags, bit| flags << 1 | u8::from(*bit))
}

pub(super) fn address(city: String, system: Option<String>) -> Result<Address, Error> {
    Ok(Address { city: parsed(city)?, system: system.map(parsed).transpose()? })
}

fn foreign(leaf: Vec<u8>, proof: &str) -> Result<Receipt, Error> {
    let proof = TlogProof::parse(proof.as_bytes()).map_err(|error| Error::Damaged(error.to_string()))?;
    Ok(Receipt { leaf, proof })
}

/// The note that signs the log that ends before this place.
pub(super) fn checkpoint(sql: &Connection, end: u64) -> Result<Option<String>, Error> {
    let mut statement = sql.prepare_cached("SELECT note FROM checkpoint WHERE size = ?")?;
    Ok(statement.query_row([end], |row| row.get(0)).optional()?)
}

/// A leaf's index in its own log: its place in the store without the generations before.
pub fn log_index(place: u64) -> u64 {
    place % GENERATION_PLACES
}

/// The place of the first leaf of the log that goes on.
pub(super) fn first_place(sql: &Connection) -> Result<u64, Error> {
    Ok(sql.prepare_cached("SELECT first FROM tree")?.query_row([], |row| row.get(0))?)
}

/// The tree of the log that goes on and the note that signs it, see [`super::Writer::tree`].
pub(super) fn tree(sql: &Connection) -> Result<(Tree, Option<String>), Error> {
    let row = |r: &Row<'_>| Ok((r.get::<_, u64>(0)?, r.get::<_, Vec<u8>>(1)?, r.get::<_, u64>(2)?));
    let (size, edge, first) = sql.query_row("SELECT size, edge, first FROM tree", [], row)?;
    let leaves = "SELECT coalesce(max(idx) + 1 - ?1, 0) FROM leaf WHERE idx >= ?1";
    let leaves: u64 = sql.query_row(leaves, [first], |r| r.get(0))?;
    if leaves != size {
        return Err(Error::Damaged(format!("the tree is of {size} leaves, the log of {leaves}")));
    }
    let edge = edge.chunks(32).filter_map(Hash::from_slice).collect();
    let tree = Tree::from_edge(size, edge).map_err(|error| Error::Damaged(error.to_string()))?;
    Ok((tree, if size == 0 { None } else { checkpoint(sql, first + size)? }))
}

/// The root that the stored hashes give for the log of `size` leaves, computed anew.
pub(super) fn root_at(sql: &Connection, size: u64) -> Result<Hash, Error> {
    let first = first_place(sql)?;
    crate::tlog::proof::root_at(size, &Hashes { sql, first }).map_err(|error| Error::Damaged(error.to_string()))
}

/// The receipt with this leaf under the checkpoint of its own commit: the first that covers it.
pub(super) fn receipt(sql: &Connection, recent: &Recent, leaf: u64) -> Result<Receipt, Error> {
    let missing = || Error::Damaged(format!("leaf {leaf} or its checkpoint is missing"));
    let mut statement = sql.prepare_cached("SELECT bytes FROM leaf WHERE idx = ?")?;
    let bytes: Option<Option<Vec<u8>>> = statement.query_row([leaf], |row| row.get(0)).optional()?;
    let bytes = bytes.flatten().ok_or_else(missing)?;
    if let Some(proof) = recent.proof(leaf) {
        return Ok(Receipt { leaf: bytes, proof });
    }
    let mut statement = sql.prepare_cached("SELECT size, note FROM checkpoint WHERE size > ? ORDER BY size LIMIT 1")?;
    let signed = statement.query_row([leaf], |row| Ok((row.get::<_, u64>(0)?, row.get(1)?))).optional()?;
    let (end, checkpoint_note) = signed.ok_or_else(missing)?;
    let index = log_index(leaf);
    let first = leaf - index;
    let path = inclusion_path(index, end - first, &Hashes { sql, first });
    let path = path.map_err(|error| Error::Damaged(error.to_string()))?;
    Ok(Receipt { leaf: bytes, proof: TlogProof { extra: None, index, path, checkpoint_note } })
}

/// Compares the stored bytes of the leaves from `first` on with their stored hashes.
pub(super) fn rehash(sql: &Connection, first: u64) -> Result<(), Error> {
    let mut statement = sql.prepare_cached("SELECT idx, hash, bytes FROM leaf WHERE idx >= ? AND bytes NOT NULL")?;
    let mut rows = statement.query([first])?;
    while let Some(row) = rows.next()? {
        let (index, hash, bytes): (u64, [u8; 32], Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if leaf_hash(&bytes) != Hash::from(hash) {
            return Err(Error::Damaged(format!("leaf {index} is not what its hash says")));
        }
    }
    Ok(())
}

/// The stored hashes of one log, for proofs.
pub(super) struct Hashes<'a> {
    pub sql: &'a Connection,
    /// The place of its first leaf.
    pub first: u64,
}

impl HashSource for Hashes<'_> {
    type Error = rusqlite::Error;

    fn hashes(&self, level: u8, first: u64, count: u64) -> Result<Vec<Hash>, rusqlite::Error> {
        let first = first + tile_place(level, self.first);
        let hash = |row: &Row<'_>| row.get::<_, [u8; 32]>(0).map(Hash::from);
        if level == 0 {
            let mut statement =
                self.sql.prepare_cached("SELECT hash FROM leaf WHERE idx >= ? AND idx < ? ORDER BY idx")?;
            return statement.query_map([first, first + count], hash)?.collect();
        }
        let mut statement =
            self.sql.prepare_cached("SELECT hash FROM tile WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx")?;
        statement.query_map(params![level, first, first + count], hash)?.collect()
    }
}

/// Where the tiles of a log begin on a level, when its first leaf stands at `first`.
pub(super) fn tile_place(level: u8, first: u64) -> u64 {
    first.checked_shr(u32::from(level) * TILE_BITS).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_is_written_and_read_alike_and_no_two_are_written_alike() {
        let bits = [false, true];
        let mut written = std::collections::HashSet::new();
        for (in_doubt, late, turned_back) in
            bits.iter().flat_map(|a| bits.iter().flat_map(|b| bits.map(|c| (*a, *b, c))))
        {
            let stands = Standing { state: State::Rejected, in_doubt, late, turned_back };
            assert_eq!(standing(State::Rejected as u8, flags(stands)).unwrap(), stands);
            assert!(written.insert(flags(stands)));
        }
        // As stores have them that were written before the third came.
        let late = Standing { late: true, ..State::Confirmed.into() };
        assert_eq!((standing(4, 2).unwrap(), flags(late)), (late, 2));
        assert!(standing(9, 0).is_err());
    }
}
