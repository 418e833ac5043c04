//! Decides how the gateway remembers: one method, one transaction, one verb. Never decides what is worth remembering,
//! and nothing outside knows which database stands behind it.
//!
//! There is one [`Writer`], which the ledger owns, and a few [`Readers`] that see what is committed.

mod open;
mod mark;
mod notes;
mod read;
mod write;

use crate::evidence::State;
use crate::id::MessageId;
use crate::message::{Address, Digest};
use crate::party::{Division, Member, Name};
use crate::receipt::Receipt;
use crate::time::Time;
use crate::tlog::Hash;
use crate::tlog::tree::{TileRoot, Tree};

pub use mark::{Mark, MarkError};
pub use notes::{Notes, NotesError};
pub use open::{OpenError, Synchronous, open};
pub use read::{Readers, Snapshot};
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
    pub state: State,
    pub in_doubt: bool,
    pub late: bool,
    pub lane: LaneName,
    /// Index of the receipt that answered the sender.
    pub first_leaf: u64,
    /// The newest full leaf, of which the next is made.
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
    pub stored_at: Time,
    pub expires_at: Time,
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
    pub received: Vec<NewReceived>,
    /// Queue rows that are settled.
    pub settled: Vec<(LaneName, Seq)>,
    /// Queue rows that wait: deliveries so far, and not before when.
    pub parked: Vec<(LaneName, Seq, u32, Time)>,
    /// Own leaves that travel to a partner.
    pub outgoing: Vec<(Member, u64)>,
    /// Own leaves that have arrived there.
    pub sent: Vec<(Member, u64)>,
    /// Free text beside a receipt, which is known by its leaf hash.
    pub details: Vec<(Digest, Seq, String)>,
}

/// A row of a lane, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRow {
    pub seq: Seq,
    pub order_key: Option<String>,
    pub deliveries: u32,
    pub parked_until: Time,
    pub expires_at: Time,
}

/// A message as it is delivered.
#[derive(Clone, Debug)]
pub struct Stored {
    pub seq: Seq,
    pub key: Key,
    pub state: State,
    pub in_doubt: bool,
    pub late: bool,
    pub recipient: Address,
    pub expires_at: Time,
    pub header: Vec<u8>,
    /// None once retention has taken it.
    pub body: Option<Vec<u8>>,
    /// Index of the receipt that answered the sender.
    pub first_leaf: u64,
    /// The origin's receipt, for messages of other cities.
    pub origin_receipt: Option<Receipt>,
}
