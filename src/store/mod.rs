//! Decides how the gateway remembers: one method, one transaction, one verb. Never decides what is worth remembering,
//! and nothing outside knows which database stands behind it.
//!
//! There is one [`Writer`], which the ledger owns, and a few [`Readers`] that see what is committed.

mod acts;
mod backfill;
mod copy;
mod dead;
mod inspect;
mod list;
mod open;
mod mark;
mod notes;
mod published;
mod read;
mod recent;
mod retention;
mod scrub;
mod sightings;
mod stats;
mod tested;
mod write;

use std::sync::Arc;

use crate::evidence::Standing;
use crate::id::MessageId;
use crate::message::{Address, Attached, Digest};
use crate::party::{Division, Member, Name};
use crate::receipt::Receipt;
use crate::time::Time;
use crate::tlog::Hash;
use crate::tlog::tree::{Appended, TileRoot, Tree};

pub use acts::{ActPlace, ActSift};
pub use copy::{CopyError, Examined, copy, examine};
pub use dead::{DeadFate, DeadFilter, DeadGroup, DeadLetter};
pub use inspect::{LaneLook, Room, in_use, inspect, probe, room, wal_bytes};
pub use list::{Entry, Listed, Reach, Sift};
pub use mark::{Mark, MarkError};
pub use notes::{Notes, NotesError};
pub use open::{OpenError, Synchronous, open};
pub use published::{Log, NewCosignature, Published, Witnessed};
pub use read::{Readers, Snapshot, log_index};
pub use scrub::{Scrub, Scrubbed};
pub use sightings::{Fork, Sightings, SightingsError};
pub use stats::{Direction, StatsAsk, StatsBy, Sum, Sums};
pub use tested::Tested;
pub use write::Writer;

/// A message's place in this gateway: its lanes deliver in this order.
pub type Seq = u64;

/// What a reader or the writer met.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No space; nothing was changed, and the store goes on.
    #[error("the disk is full")]
    Full,
    /// The disk failed or the outcome is unknown; the store must be opened anew.
    #[error("the store failed: {0}")]
    Failed(String),
    /// A row does not parse: the file was changed from outside.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        use rusqlite::ErrorCode::{DatabaseCorrupt, DiskFull, NotADatabase};
        match error.sqlite_error_code() {
            Some(DiskFull) => Error::Full,
            Some(DatabaseCorrupt | NotADatabase) => Error::Damaged(error.to_string()),
            _ => Error::Failed(error.to_string()),
        }
    }
}

/// The name of a lane: the queue towards a partner's gateway, or the mailbox of one of our own systems.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LaneName {
    Gateway(Member),
    System(Name),
}

impl std::fmt::Display for LaneName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LaneName::Gateway(member) => write!(f, "gateway/{member}"),
            LaneName::System(name) => write!(f, "system/{}", name.as_str()),
        }
    }
}

impl std::str::FromStr for LaneName {
    type Err = Error;

    fn from_str(text: &str) -> Result<LaneName, Error> {
        let damaged = || Error::Damaged(format!("no such lane: {text}"));
        match text.split_once('/') {
            Some(("gateway", member)) => Ok(LaneName::Gateway(member.parse().map_err(|_| damaged())?)),
            Some(("system", name)) => Ok(LaneName::System(name.parse().map_err(|_| damaged())?)),
            _ => Err(damaged()),
        }
    }
}

/// The key of idempotency: the sending city and the id it chose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub from_city: Division,
    pub id: MessageId,
}

/// What a settlement and a duplicate need to know of a message, without its envelope.
#[derive(Clone, Debug)]
pub struct Head {
    pub seq: Seq,
    pub key: Key,
    pub header_digest: Digest,
    pub standing: Standing,
    pub lane: LaneName,
    /// The hub that brought it; none when its city's own gateway or system did.
    pub came_by: Option<Member>,
    pub stored_at: Time,
    pub expires_at: Time,
    /// When it ended.
    pub closed_at: Option<Time>,
    /// Index of the receipt that answered the sender.
    pub first_leaf: u64,
    /// Index of the newest full leaf, of which the next is made, and its bytes as they were read; none of one that is about
    /// to be stored.
    pub base: (u64, Vec<u8>),
    /// Index and hash of the newest leaf.
    pub last: (u64, Digest),
    pub queued: bool,
}

/// A message to be stored.
#[derive(Clone, Debug)]
pub struct NewMessage {
    pub head: Head,
    /// (from.city, to.city, case number), or none.
    pub order_key: Option<String>,
    pub recipient: Address,
    /// Lanes to try after the head's.
    pub others: Vec<LaneName>,
    /// Hubs that carried it here, first to last.
    pub via: Vec<Member>,
    pub attachments: Vec<Attached>,
    /// When somebody must look at it although nothing happens.
    pub due_at: Time,
    /// Leaf hash of the origin's receipt, which stands in `received`.
    pub origin_receipt: Option<Digest>,
    pub header: Vec<u8>,
    pub body: Vec<u8>,
}

/// A leaf to be stored.
#[derive(Clone, Debug)]
pub struct NewLeaf {
    pub hash: Hash,
    pub message: Option<Seq>,
    pub bytes: Vec<u8>,
}

/// A receipt of another log to be stored.
#[derive(Clone, Debug)]
pub struct NewReceived {
    pub message: Seq,
    pub at: Time,
    pub receipt: Receipt,
}

/// Everything that one group commit changes. It is stored whole or not at all.
#[derive(Debug, Default)]
pub struct Commit {
    pub messages: Vec<NewMessage>,
    /// Messages known before whose state, flags or leaves changed.
    pub heads: Vec<Head>,
    pub leaves: Vec<NewLeaf>,
    pub tiles: Vec<TileRoot>,
    /// The tree after the commit and the note that signs it; none when no leaf was added.
    pub checkpoint: Option<(Tree, String)>,
    /// How the tree grew, where its proofs will be wanted soon.
    pub appended: Option<Arc<Appended>>,
    pub received: Vec<NewReceived>,
    /// Queue rows that are settled.
    pub settled: Vec<(LaneName, Seq)>,
    /// Queue rows that wait: deliveries so far, and not before when.
    pub parked: Vec<(LaneName, Seq, u32, Time)>,
    /// Queue rows that go to another lane, each with those to try after it.
    pub moved: Vec<Moved>,
    /// Queue rows that were looked at: when to look again, and how many notices of delay there were.
    pub looked_at: Vec<(LaneName, Seq, Time, u32)>,
    pub lanes: Vec<(LaneName, LaneState)>,
    /// Lanes that somebody pauses, or lets go on.
    pub holds: Vec<(LaneName, Option<Hold>)>,
    /// Receipts that travel to a lane's owner.
    pub outgoing: Vec<Outgoing>,
    /// Those that have arrived there, by the place of their leaf.
    pub sent: Vec<(LaneName, u64)>,
    /// Messages that ended without handover.
    pub dead: Vec<(Seq, Dead)>,
    /// Messages that were handed over after all.
    pub revived: Vec<Seq>,
    /// Dead letters that ops set aside, and why.
    pub discarded: Vec<(Seq, String)>,
    /// Messages that were answered, or replaced, by another.
    pub links: Vec<(Seq, Link, MessageId)>,
    /// Sealed forms of attachments that were made here: message, place, digest and size.
    pub sealed: Vec<(Seq, usize, Attached)>,
    pub signatures: Vec<NewSignature>,
    pub routes: Option<NewRoutes>,
    pub forgotten: Forgotten,
    /// Free text beside a receipt, which is known by its leaf hash.
    pub details: Vec<(Digest, Seq, String)>,
    /// The end of the log before this commit, whose checkpoint is shown to witnesses from now on, and when.
    pub published: Option<(u64, Time)>,
    /// What witnesses have signed.
    pub cosignatures: Vec<NewCosignature>,
}

/// A queue row that goes to another lane.
#[derive(Clone, Debug)]
pub struct Moved {
    pub seq: Seq,
    pub from: LaneName,
    pub to: LaneName,
    pub others: Vec<LaneName>,
}

/// A receipt on its way to a lane's owner: the own leaf at this place, or the foreign receipt that it witnesses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub lane: LaneName,
    pub leaf: u64,
    pub received: Option<Digest>,
}

/// What a lane must not forget over a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneState {
    pub failures: u32,
    pub rest_until: Time,
    /// A session was open when this was written: what was in the lane then may have been sent.
    pub open: bool,
    /// Messages before this place may have been sent without an answer.
    pub sent_below: Seq,
}

/// That somebody paused a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub since: Time,
    /// URI name of who did.
    pub by: String,
    pub why: String,
}

/// How a message came to be a dead letter.
#[derive(Clone, Debug)]
pub struct Dead {
    pub at: Time,
    pub reason: String,
    pub lane: LaneName,
    /// The service item.
    pub item: String,
}

/// What ties one message to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    RepliedBy,
    RedrivenAs,
}

/// A recipient system's own signature over a header digest.
#[derive(Clone, Debug)]
pub struct NewSignature {
    /// Of the `HANDED_OVER` leaf that rests on it.
    pub leaf_hash: Digest,
    pub message: Seq,
    /// The signer's certificate, DER.
    pub certificate: Vec<u8>,
    pub signature: Vec<u8>,
}

/// A new version of the whole set of routing tables.
#[derive(Clone, Debug)]
pub struct NewRoutes {
    pub version: u64,
    pub at: Time,
    pub actor: String,
    pub action: String,
    /// Of the audit.
    pub leaf: u64,
    /// The tables that change: owner and canonical text; none, withdrawn.
    pub tables: Vec<(Division, Option<String>)>,
}

/// One version of the routing tables, for its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteVersion {
    pub version: u64,
    pub at: Time,
    pub actor: String,
    pub action: String,
}

/// What retention takes.
#[derive(Clone, Debug, Default)]
pub struct Forgotten {
    /// Messages whose bodies and free texts go.
    pub bodies: Vec<Seq>,
    /// Messages whose envelopes go; what idempotency and evidence need stays.
    pub envelopes: Vec<Seq>,
    /// Messages whose evidence goes: leaf bytes, foreign receipts, and what is left of the message; leaf hashes stay.
    pub evidence: Vec<Seq>,
    /// Leaves about no message, of acts of people and of what was refused, whose bytes go.
    pub leaves: Vec<u64>,
}

impl Forgotten {
    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        self.bodies.is_empty() && self.envelopes.is_empty() && self.evidence.is_empty() && self.leaves.is_empty()
    }
}

/// How long each kind of thing is kept, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Bodies and free texts, after the message has ended.
    pub bodies_ms: u64,
    /// Envelopes, after the message came.
    pub envelopes_ms: u64,
    /// Evidence, after the message came.
    pub evidence_ms: u64,
    /// Leaves about acts of people.
    pub audit_ms: u64,
    /// Everything about the gateways' own test messages, but the newest of each pair of cities.
    pub tests_ms: u64,
}

impl Default for Retention {
    fn default() -> Retention {
        let (bodies, envelopes, evidence, audit) = crate::limits::RETENTION_DAYS;
        let ms = |days: u64| days * crate::limits::DAY_MS;
        Retention {
            bodies_ms: ms(bodies),
            envelopes_ms: ms(envelopes),
            evidence_ms: ms(evidence),
            audit_ms: ms(audit),
            tests_ms: crate::limits::TESTS_KEPT_MS,
        }
    }
}

/// A queue row that somebody must look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueRow {
    /// With the message's place, where the next look goes on.
    pub lane_id: i64,
    pub lane: LaneName,
    pub seq: Seq,
    pub notices: u32,
    pub stored_at: Time,
    pub expires_at: Time,
}

/// A row of a lane, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRow {
    pub seq: Seq,
    pub order_key: Option<String>,
    pub deliveries: u32,
    pub parked_until: Time,
    pub expires_at: Time,
    /// Another lane can be tried.
    pub alternative: bool,
}

/// A message as it is delivered.
#[derive(Clone, Debug)]
pub struct Stored {
    pub seq: Seq,
    pub key: Key,
    pub standing: Standing,
    pub recipient: Address,
    pub expires_at: Time,
    pub header: Vec<u8>,
    /// None once retention has taken it.
    pub body: Option<Vec<u8>>,
    /// Index of the receipt that answered the sender.
    pub first_leaf: u64,
    /// The origin's receipt, for messages of other cities.
    pub origin_receipt: Option<Receipt>,
    /// Hubs that carried it here, first to last.
    pub via: Vec<Member>,
    pub stored_at: Time,
    pub header_digest: Digest,
    pub lane: LaneName,
    pub order_key: Option<String>,
    pub replied_by: Option<MessageId>,
    pub redriven_as: Option<MessageId>,
}
