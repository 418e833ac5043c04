//! Decides how one group commit becomes one transaction: all of it or nothing, on disk before the call returns. Never
//! decides what stands in it.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, OptionalExtension, ToSql, Transaction, TransactionBehavior, params};

use super::backfill::Backfill;
use super::published;
use super::read::{self, flags, lane_id};
use super::recent::Recent;
use super::retention;
use super::{Commit, Error, Head, Hold, Key, LaneName, LaneState, Link, NewMessage, Seq};
use crate::limits::{GENERATION_PLACES, ROWS_PER_INSERT};
use crate::message::{Attached, Digest};
use crate::planted;
use crate::receipt::Receipt;
use crate::time::Time;
use crate::tlog::Hash;
use crate::tlog::receipt_file::TlogProof;
use crate::tlog::tree::Tree;

/// The one writer of a store.
#[derive(Debug)]
pub struct Writer {
    connection: Connection,
    backfill: Backfill,
    lanes: HashMap<LaneName, i64>,
    recent: Arc<Recent>,
    /// Held as long as the store is open.
    _lock: File,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.backfill.end(&mut self.connection);
    }
}

impl Writer {
    pub(super) fn new(connection: Connection, backfill: Backfill, lock: File, recent: Arc<Recent>) -> Writer {
        Writer { connection, backfill, lanes: HashMap::new(), recent, _lock: lock }
    }

    /// The tree as it was committed last, and the note that signs it. A tree that is not of all leaves is an error: an
    /// empty or an older one would fit its own checkpoint and sign the leaves that follow anew.
    pub fn tree(&self) -> Result<(Tree, Option<String>), Error> {
        read::tree(&self.connection)
    }

    /// The place of the first leaf of the log that goes on; places count on over all logs of this gateway.
    pub fn first_place(&self) -> Result<u64, Error> {
        read::first_place(&self.connection)
    }

    /// Leaves the log as it stands, for good, and begins the next, empty one. What waited may have been sent since this
    /// store was copied, so every lane's session counts as open. What a partner took, and whose end is not known here,
    /// waits again: the partner may have told the end since, and tells it once more to who hands the message over again.
    pub fn begin_next_log(&mut self) -> Result<(), Error> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute("UPDATE tree SET first = first + ?, size = 0, edge = x''", [GENERATION_PLACES])?;
        transaction.execute("UPDATE lane SET open = 1", [])?;
        transaction.execute(
            "INSERT INTO queue (lane, seq, deliveries, parked_until, due_at) \
             SELECT m.lane, m.seq, 0, 0, m.expires_at FROM message m JOIN lane l ON l.id = m.lane \
             WHERE m.closed_at IS NULL AND m.header <> x'' AND l.name LIKE 'gateway/%' \
             AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.lane = m.lane AND q.seq = m.seq)",
            [],
        )?;
        Ok(transaction.commit()?)
    }

    /// The root that the stored hashes give for the log of `size` leaves, computed anew.
    pub fn root_at(&self, size: u64) -> Result<Hash, Error> {
        read::root_at(&self.connection, size)
    }

    /// Re-hashes the stored bytes of the log's leaves from index `first` on; one whose hash differs is an error.
    pub fn rehash(&self, first: u64) -> Result<(), Error> {
        read::rehash(&self.connection, self.first_place()? + first)
    }

    /// The newest leaf whose bytes retention has not taken; none in a log without one.
    pub fn newest_leaf(&self) -> Result<Option<Vec<u8>>, Error> {
        let newest = "SELECT bytes FROM leaf WHERE bytes IS NOT NULL ORDER BY idx DESC LIMIT 1";
        Ok(self.connection.query_row(newest, [], |row| row.get(0)).optional()?)
    }

    /// The newest message's place; 0 when there is none.
    pub fn last_seq(&self) -> Result<Seq, Error> {
        Ok(self.connection.query_row("SELECT coalesce(max(seq), 0) FROM message", [], |r| r.get(0))?)
    }

    /// The head of the message with this key.
    pub fn head(&self, key: &Key) -> Result<Option<Head>, Error> {
        read::head(&self.connection, key)
    }

    /// The head of the message in this place.
    pub fn head_at(&self, seq: Seq) -> Result<Option<Head>, Error> {
        read::head_at(&self.connection, seq)
    }

    /// Our leaves about a message after the one at `first`, in order, without those that travel.
    pub fn told_after(&self, message: Seq, first: u64) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT idx, bytes FROM leaf WHERE message = ? AND idx > ? AND bytes IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM outbox WHERE lane IN (SELECT id FROM lane) AND leaf = idx) ORDER BY idx",
        )?;
        let rows = statement.query_map([message, first], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The leaf of the stored receipt of another log with this leaf hash.
    pub fn received_leaf(&self, leaf_hash: Digest) -> Result<Option<Vec<u8>>, Error> {
        let mut statement = self.connection.prepare_cached("SELECT leaf FROM received WHERE leaf_hash = ?")?;
        Ok(statement.query_row([leaf_hash.0], |row| row.get(0)).optional()?)
    }

    /// Whether the receipt of another log with this leaf hash is stored.
    pub fn has_received(&self, leaf_hash: Digest) -> Result<bool, Error> {
        let mut statement = self.connection.prepare_cached("SELECT 1 FROM received WHERE leaf_hash = ?")?;
        Ok(statement.exists([leaf_hash.0])?)
    }

    /// The rows of a lane from `seq` on that share its order key, `seq` itself among them, each with the lanes to try
    /// after this one.
    pub fn case_rows(&self, lane: &LaneName, seq: Seq) -> Result<Vec<(Seq, Vec<LaneName>)>, Error> {
        read::case_rows(&self.connection, lane, seq)
    }

    /// The lane in which a message with this order key waits.
    pub fn lane_of_case(&self, order_key: &str) -> Result<Option<LaneName>, Error> {
        read::lane_of_case(&self.connection, order_key)
    }

    /// The origin's receipt of the newest message of a case that another gateway brought.
    pub fn newest_origin(&self, order_key: &str) -> Result<Option<Receipt>, Error> {
        read::newest_origin(&self.connection, order_key)
    }

    /// Messages that wait in each lane.
    pub fn waiting(&self) -> Result<HashMap<LaneName, u64>, Error> {
        read::waiting(&self.connection)
    }

    /// What a lane must not forget.
    pub fn lane_state(&self, lane: &LaneName) -> Result<LaneState, Error> {
        read::lane_state(&self.connection, lane)
    }

    /// Who paused a lane; none when nobody did.
    pub fn hold(&self, lane: &LaneName) -> Result<Option<Hold>, Error> {
        read::hold(&self.connection, lane)
    }

    /// The notices of delay about a queue row so far; none when there is no such row.
    pub fn notices(&self, lane: &LaneName, seq: Seq) -> Result<Option<u32>, Error> {
        read::notices(&self.connection, lane, seq)
    }

    /// Whether this message is a dead letter that was neither redriven nor set aside.
    pub fn waits_for_ops(&self, seq: Seq) -> Result<bool, Error> {
        Ok(self.connection.prepare_cached("SELECT 1 FROM dead WHERE seq = ? AND fate = 0")?.exists([seq])?)
    }

    /// The newest version of the routing tables; 0 when none was published.
    pub fn routes_version(&self) -> Result<u64, Error> {
        Ok(self.connection.query_row("SELECT coalesce(max(version), 0) FROM route_set", [], |r| r.get(0))?)
    }

    /// Bytes that the store's disk has left for us.
    pub fn free_bytes(&self) -> Result<u64, Error> {
        let path = self.connection.path().map(std::path::Path::new).and_then(std::path::Path::parent);
        let left =
            rustix::fs::statvfs(path.unwrap_or(std::path::Path::new("."))).map_err(|e| Error::Failed(e.to_string()))?;
        Ok(left.f_bavail.saturating_mul(left.f_frsize))
    }

    /// What proves this leaf, where its commit is one of the newest.
    pub fn proof(&self, leaf: u64) -> Option<TlogProof> {
        self.recent.proof(leaf)
    }

    /// The receipt with this leaf, byte for byte as it was shown first.
    pub fn receipt(&self, leaf: u64) -> Result<Receipt, Error> {
        read::receipt(&self.connection, &self.recent, leaf)
    }

    /// One reading transaction until it is dropped: without it every single look takes locks of its own.
    pub fn reading(&self) -> Result<Option<Transaction<'_>>, Error> {
        // A planted bug leaves the writing one open.
        Ok(self.connection.is_autocommit().then(|| self.connection.unchecked_transaction()).transpose()?)
    }

    /// Stores `commit` whole. On return it is on disk: the write-ahead log is synced. On [`Error::Full`] nothing has
    /// changed; after any other error what is stored is unknown until the store is opened anew.
    pub fn commit(&mut self, commit: &Commit) -> Result<(), Error> {
        let stored = self.store(commit);
        if stored.as_ref().is_err_and(|error| !matches!(error, Error::Full)) {
            self.backfill.give_up(&self.connection);
        }
        stored
    }

    fn store(&mut self, commit: &Commit) -> Result<(), Error> {
        if self.backfill.has_failed() {
            return Err(Error::Failed("what was copied into the database may not have reached the disk".to_owned()));
        }
        if planted::is(planted::Bug::AnswerBeforeCommit) && !self.connection.is_autocommit() {
            self.connection.execute_batch("COMMIT")?;
        }
        let mut transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut lanes = Lanes { known: &mut self.lanes, created: vec![] };
        let written = write(&transaction, &mut lanes, commit);
        let created = lanes.created;
        if planted::is(planted::Bug::AnswerBeforeCommit) {
            transaction.set_drop_behavior(rusqlite::DropBehavior::Ignore);
            return written.map(drop);
        }
        match written.and_then(|log| Ok(transaction.commit().map(|()| log)?)) {
            Ok(log) => {
                if let (Some(appended), Some((_, note))) = (&commit.appended, &commit.checkpoint) {
                    self.recent.keep(log, appended.clone(), note.clone());
                }
                Ok(())
            }
            Err(error) => {
                // The rows of these lanes went with the transaction.
                self.lanes.retain(|name, _| !created.contains(name));
                Err(error)
            }
        }
    }
}

/// The lanes' row numbers, and those that this transaction added.
struct Lanes<'a> {
    known: &'a mut HashMap<LaneName, i64>,
    created: Vec<LaneName>,
}

impl Lanes<'_> {
    fn id(&mut self, connection: &Connection, name: &LaneName) -> Result<i64, Error> {
        if let Some(id) = self.known.get(name) {
            return Ok(*id);
        }
        let id = match lane_id(connection, name)? {
            Some(id) => id,
            None => {
                connection.execute("INSERT INTO lane (name, open) VALUES (?, 0)", [name.to_string()])?;
                self.created.push(name.clone());
                connection.last_insert_rowid()
            }
        };
        self.known.insert(name.clone(), id);
        Ok(id)
    }
}

/// The parameters of a statement, in their order.
struct Parameters<'a, 'b> {
    statement: &'a mut CachedStatement<'b>,
    put: usize,
}

impl Parameters<'_, '_> {
    fn put(&mut self, value: impl ToSql) -> Result<&mut Self, rusqlite::Error> {
        self.put += 1;
        self.statement.raw_bind_parameter(self.put, value)?;
        Ok(self)
    }
}

/// Inserts rows into `table (column, column …)`, many with one statement: to begin and end one costs as much as a row.
/// A row that is refused fails the whole commit, so that no statement has to keep what it would take back alone.
fn insert<R>(
    sql: &Connection,
    columns: &str,
    rows: &[R],
    bind: impl Fn(&R, &mut Parameters<'_, '_>) -> Result<(), rusqlite::Error>,
) -> Result<(), rusqlite::Error> {
    let row = vec!["?"; columns.split(',').count()].join(", ");
    let (many, few) = rows.as_chunks::<ROWS_PER_INSERT>();
    for (rows, together) in [(many.as_flattened(), ROWS_PER_INSERT), (few, 1)] {
        if rows.is_empty() {
            continue;
        }
        let values = vec![format!("({row})"); together].join(", ");
        let mut statement = sql.prepare_cached(&format!("INSERT OR FAIL INTO {columns} VALUES {values}"))?;
        for rows in rows.chunks(together) {
            let mut parameters = Parameters { statement: &mut statement, put: 0 };
            rows.iter().try_for_each(|row| bind(row, &mut parameters))?;
            statement.raw_execute()?;
        }
    }
    Ok(())
}

/// Writes all of it; the place of the first leaf of the log, where the log grew.
fn write(sql: &Transaction<'_>, lanes: &mut Lanes<'_>, commit: &Commit) -> Result<u64, Error> {
    let log = write_log(sql, commit)?;
    if planted::is(planted::Bug::LeafApartFromState) {
        sql.execute_batch("COMMIT")?;
        // A crash just here, now and then.
        if commit.checkpoint.as_ref().is_some_and(|(tree, _)| tree.size() % 16 == 0) {
            return Err(Error::Failed("planted: the process ends between the two".to_owned()));
        }
        sql.execute_batch("BEGIN IMMEDIATE")?;
    }
    write_messages(sql, lanes, &commit.messages)?;
    write_heads(sql, &commit.heads)?;
    write_received(sql, commit)?;
    write_queue(sql, lanes, commit)?;
    write_outbox(sql, lanes, commit)?;
    write_lanes(sql, lanes, commit)?;
    write_links(sql, lanes, commit)?;
    write_shared(sql, commit)?;
    published::write(sql, commit)?;
    retention::forget(sql, &commit.forgotten)?;
    Ok(log)
}

fn write_log(sql: &Transaction<'_>, commit: &Commit) -> Result<u64, Error> {
    let Some((tree, note)) = &commit.checkpoint else { return Ok(0) };
    let edge = tree.edge().iter().flat_map(|hash| hash.as_ref().to_vec()).collect::<Vec<u8>>();
    let mut update = sql.prepare_cached("UPDATE tree SET size = ?, edge = ? RETURNING first")?;
    let log: u64 = update.query_row(params![tree.size(), edge], |row| row.get(0))?;
    let first = log + tree.size() - commit.leaves.len() as u64;
    let leaves: Vec<_> = (first..).zip(&commit.leaves).collect();
    insert(sql, "leaf (idx, hash, message, bytes)", &leaves, |(index, leaf), row| {
        row.put(index)?.put(leaf.hash.as_ref())?.put(leaf.message)?.put(&leaf.bytes)?;
        Ok(())
    })?;
    let mut insert = sql.prepare_cached("INSERT INTO tile (level, idx, hash) VALUES (?, ?, ?)")?;
    for tile in &commit.tiles {
        let place = read::tile_place(tile.level, log) + tile.index;
        insert.execute(params![tile.level, place, tile.hash.as_ref()])?;
    }
    let mut insert = sql.prepare_cached("INSERT INTO checkpoint (size, note) VALUES (?, ?)")?;
    insert.execute(params![log + tree.size(), note])?;
    Ok(log)
}

fn write_messages(sql: &Transaction<'_>, lanes: &mut Lanes<'_>, messages: &[NewMessage]) -> Result<(), Error> {
    let ids = messages.iter().map(|message| Ok((lanes.id(sql, &message.head.lane)?, message)));
    let rows = ids.collect::<Result<Vec<_>, Error>>()?;
    let columns = "message (seq, from_city, message_id, header_digest, state, flags, lane, order_key, first_leaf, \
         base_leaf, last_leaf, to_city, to_system, stored_at, expires_at, origin_receipt, via, closed_at, header, body)";
    insert(sql, columns, &rows, |(lane, message), row| {
        let head = &message.head;
        row.put(head.seq)?.put(head.key.from_city.as_str())?.put(head.key.id.bytes())?.put(head.header_digest.0)?;
        row.put(head.standing.state as u8)?.put(flags(head.standing))?.put(lane)?;
        row.put(&message.order_key)?.put(head.first_leaf)?.put(head.base.0)?.put(head.last.0)?;
        let system = message.recipient.system.as_ref().map(|system| system.as_str());
        row.put(message.recipient.city.as_str())?.put(system)?;
        row.put(head.stored_at.ms())?.put(head.expires_at.ms())?;
        row.put(message.origin_receipt.map(|leaf_hash| leaf_hash.0))?.put(listed(&message.via))?;
        row.put(head.closed_at.map(Time::ms))?.put(&message.header)?.put(&message.body)?;
        Ok(())
    })?;
    let queued: Vec<_> = rows.into_iter().filter(|(_, message)| message.head.queued).collect();
    insert(sql, "queue (lane, seq, deliveries, parked_until, due_at, others)", &queued, |(lane, message), row| {
        row.put(lane)?.put(message.head.seq)?.put(0)?.put(0)?;
        row.put(message.due_at.ms())?.put(listed(&message.others))?;
        Ok(())
    })?;
    for message in messages {
        let attachments = (0..).zip(message.attachments.iter().copied());
        write_attachments(sql, message.head.seq, attachments, Form::AsSent)?;
    }
    Ok(())
}

fn write_heads(sql: &Transaction<'_>, heads: &[Head]) -> Result<(), Error> {
    let mut update = sql.prepare_cached(
        "UPDATE message SET state = ?, flags = ?, base_leaf = ?, last_leaf = ?, closed_at = ? WHERE seq = ?",
    )?;
    for head in heads {
        let closed_at = head.closed_at.map(Time::ms);
        update.execute(params![
            head.standing.state as u8,
            flags(head.standing),
            head.base.0,
            head.last.0,
            closed_at,
            head.seq
        ])?;
    }
    Ok(())
}

fn write_received(sql: &Transaction<'_>, commit: &Commit) -> Result<(), Error> {
    let mut insert =
        sql.prepare_cached("INSERT INTO received (leaf_hash, message, at, leaf, proof) VALUES (?, ?, ?, ?, ?)")?;
    for received in &commit.received {
        let proof = received.receipt.proof.to_text();
        insert.execute(params![
            received.receipt.leaf_hash().0,
            received.message,
            received.at.ms(),
            received.receipt.leaf,
            proof
        ])?;
    }
    let mut insert = sql.prepare_cached("INSERT OR IGNORE INTO detail (leaf_hash, message, text) VALUES (?, ?, ?)")?;
    for (leaf_hash, message, text) in &commit.details {
        insert.execute(params![leaf_hash.0, message, text])?;
    }
    Ok(())
}

fn write_queue(sql: &Transaction<'_>, lanes: &mut Lanes<'_>, commit: &Commit) -> Result<(), Error> {
    let mut update =
        sql.prepare_cached("UPDATE queue SET deliveries = ?, parked_until = ? WHERE lane = ? AND seq = ?")?;
    for (lane, seq, deliveries, until) in &commit.parked {
        update.execute(params![deliveries, until.ms(), lanes.id(sql, lane)?, seq])?;
    }
    let mut update = sql.prepare_cached("UPDATE queue SET due_at = ?, notices = ? WHERE lane = ? AND seq = ?")?;
    for (lane, seq, due_at, notices) in &commit.looked_at {
        update.execute(params![due_at.ms(), notices, lanes.id(sql, lane)?, seq])?;
    }
    let mut update = sql.prepare_cached(
        "UPDATE queue SET lane = ?, others = ?, deliveries = 0, parked_until = 0 WHERE lane = ? AND seq = ?",
    )?;
    let mut follow = sql.prepare_cached("UPDATE message SET lane = ? WHERE seq = ?")?;
    for moved in &commit.moved {
        let (from, to) = (lanes.id(sql, &moved.from)?, lanes.id(sql, &moved.to)?);
        update.execute(params![to, listed(&moved.others), from, moved.seq])?;
        follow.execute(params![to, moved.seq])?;
    }
    // Last: a row that changed its lane in this commit may have ended in the new one.
    let mut delete = sql.prepare_cached("DELETE FROM queue WHERE lane = ? AND seq = ?")?;
    for (lane, seq) in &commit.settled {
        delete.execute(params![lanes.id(sql, lane)?, seq])?;
    }
    Ok(())
}

/// Whose bytes an attachment row counts: those that came with the message, or those that were sealed here.
#[derive(Clone, Copy)]
enum Form {
    AsSent = 0,
    Sealed = 1,
}

fn write_attachments(
    sql: &Transaction<'_>,
    message: Seq,
    attachments: impl Iterator<Item = (usize, Attached)>,
    form: Form,
) -> Result<(), Error> {
    let insert = "INSERT OR REPLACE INTO attachment (digest, seq, place, sealed, size) VALUES (?, ?, ?, ?, ?)";
    for (place, attached) in attachments {
        sql.prepare_cached(insert)?.execute(params![
            attached.digest.0,
            message,
            place as u64,
            form as u8,
            attached.size
        ])?;
    }
    Ok(())
}

/// Names, parted by commas.
fn listed<T: ToString>(names: &[T]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn write_outbox(sql: &Transaction<'_>, lanes: &mut Lanes<'_>, commit: &Commit) -> Result<(), Error> {
    let ids = commit.outgoing.iter().map(|outgoing| Ok((lanes.id(sql, &outgoing.lane)?, outgoing)));
    let outgoing = ids.collect::<Result<Vec<_>, Error>>()?;
    insert(sql, "outbox (lane, leaf, received)", &outgoing, |(lane, outgoing), row| {
        row.put(lane)?.put(outgoing.leaf)?.put(outgoing.received.map(|leaf_hash| leaf_hash.0))?;
        Ok(())
    })?;
    let mut delete = sql.prepare_cached("DELETE FROM outbox WHERE lane = ? AND leaf = ?")?;
    for (lane, leaf) in &commit.sent {
        delete.execute(params![lanes.id(sql, lane)?, leaf])?;
    }
    Ok(())
}

fn write_lanes(sql: &Transaction<'_>, lanes: &mut Lanes<'_>, commit: &Commit) -> Result<(), Error> {
    let mut update =
        sql.prepare_cached("UPDATE lane SET failures = ?, rest_until = ?, open = ?, sent_below = ? WHERE id = ?")?;
    for (lane, state) in &commit.lanes {
        let id = lanes.id(sql, lane)?;
        update.execute(params![state.failures, state.rest_until.ms(), state.open, state.sent_below, id])?;
    }
    let mut update =
        sql.prepare_cached("UPDATE lane SET held = ?, held_at = ?, held_by = ?, held_why = ? WHERE id = ?")?;
    for (lane, hold) in &commit.holds {
        let (held, id) = (hold.is_some(), lanes.id(sql, lane)?);
        let Hold { since, by, why } = hold.clone().unwrap_or(Hold { since: Time::ZERO, by: "".into(), why: "".into() });
        update.execute(params![held, since.ms(), by, why, id])?;
    }
    Ok(())
}

fn write_links(sql: &Transaction<'_>, lanes: &mut Lanes<'_>, commit: &Commit) -> Result<(), Error> {
    let mut insert = sql.prepare_cached(
        "INSERT OR IGNORE INTO dead (seq, at, reason, lane, item, fate, why) VALUES (?, ?, ?, ?, ?, 0, '')",
    )?;
    for (seq, dead) in &commit.dead {
        insert.execute(params![seq, dead.at.ms(), dead.reason, lanes.id(sql, &dead.lane)?, dead.item])?;
    }
    let mut delete = sql.prepare_cached("DELETE FROM dead WHERE seq = ?")?;
    for seq in &commit.revived {
        delete.execute([seq])?;
    }
    for (seq, why) in &commit.discarded {
        sql.prepare_cached("UPDATE dead SET fate = 2, why = ? WHERE seq = ? AND fate = 0")?
            .execute(params![why, seq])?;
    }
    for (seq, link, id) in &commit.links {
        let update = match link {
            Link::RepliedBy => "UPDATE message SET replied_by = ?1 WHERE seq = ?2 AND replied_by IS NULL",
            Link::RedrivenAs => "UPDATE message SET redriven_as = ?1 WHERE seq = ?2",
        };
        sql.prepare_cached(update)?.execute(params![id.bytes(), seq])?;
        if *link == Link::RedrivenAs {
            sql.prepare_cached("UPDATE dead SET fate = 1 WHERE seq = ?")?.execute([seq])?;
        }
    }
    for (seq, place, sealed) in &commit.sealed {
        write_attachments(sql, *seq, std::iter::once((*place, *sealed)), Form::Sealed)?;
    }
    let mut insert = sql.prepare_cached(
        "INSERT OR IGNORE INTO signature (leaf_hash, message, certificate, signature) VALUES (?, ?, ?, ?)",
    )?;
    for signed in &commit.signatures {
        insert.execute(params![signed.leaf_hash.0, signed.message, signed.certificate, signed.signature])?;
    }
    Ok(())
}

fn write_shared(sql: &Transaction<'_>, commit: &Commit) -> Result<(), Error> {
    if let Some(routes) = &commit.routes {
        sql.prepare_cached("INSERT INTO route_set (version, at, actor, action, leaf) VALUES (?, ?, ?, ?, ?)")?
            .execute(params![routes.version, routes.at.ms(), routes.actor, routes.action, routes.leaf])?;
        let mut insert = sql.prepare_cached("INSERT INTO route_table (owner, version, text) VALUES (?, ?, ?)")?;
        for (owner, text) in &routes.tables {
            insert.execute(params![owner.as_str(), routes.version, text])?;
        }
    }
    Ok(())
}
