//! Decides what a generation statement says: that a member's log goes on under another key and name. Never opens a log and
//! never asks whether the statement is news.

use serde::{Deserialize, Serialize};

use super::canonical;
use super::record::{Fault, RecordError, at, log_key, moment, within};
use super::{log_origin_prefix, member_key_name};
use crate::limits::VERSION_MAX;
use crate::party::{Alliance, Member};
use crate::time::Time;
use crate::tlog::note::{self, SigningKey, VerifyingKey};

/// What stands in `kind`, so that no other text signed by a member's key reads as a statement.
const KIND: &str = "tongban.generation.v1";

/// A member's word that its evidence goes on in a new log: after a restore, a change of key or a retirement. Partners
/// believe receipts of the new log from then on; the member's next record lists its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// The alliance this statement is for.
    pub alliance: Alliance,
    /// The member that speaks.
    pub member: Member,
    /// Counts up with every statement of this member; 1 … 2⁵³ − 1.
    pub version: u64,
    /// When the member wrote it.
    pub issued_at: Time,
    /// The new log's key; its name is the new log's origin.
    pub log_key: VerifyingKey,
    /// The last checkpoint of the log before, a signed note, byte for byte; none for a log that follows no other.
    pub last_checkpoint: Option<String>,
}

impl Generation {
    /// Opens a signed statement with the member's key.
    ///
    /// # Errors
    /// A note the key did not sign, a key that is not named after the member, or a text [`Generation::parse`] refuses.
    pub fn open(signed: &str, member_key: &VerifyingKey) -> Result<Generation, RecordError> {
        let opened = note::open(signed, std::slice::from_ref(member_key))?;
        let generation = Generation::parse(opened.text)?;
        generation.check_key(member_key)?;
        Ok(generation)
    }

    /// Reads the text of a statement, strictly, without asking who signed it.
    ///
    /// # Errors
    /// A text that is not canonical, or a field out of its bounds, by name.
    pub fn parse(text: &str) -> Result<Generation, RecordError> {
        let written: Written = canonical::read(text, KIND)?;
        let alliance: Alliance = at("alliance", written.alliance.parse())?;
        let member: Member = at("member", written.member.parse())?;
        let prefix = log_origin_prefix(&alliance, &member);
        let log_key = at("log_key", log_key(&written.log_key, &prefix))?;
        let last = written.last_checkpoint;
        at("last_checkpoint", last.as_deref().map_or(Ok(()), |last| precedes(last, log_key.name(), &prefix)))?;
        Ok(Generation {
            version: at("version", within(written.version, 1..=VERSION_MAX))?,
            issued_at: at("issued_at", moment(&written.issued_at))?,
            last_checkpoint: last,
            log_key,
            alliance,
            member,
        })
    }

    /// The canonical text that is signed.
    ///
    /// # Errors
    /// Fields that [`Generation::parse`] would refuse.
    pub fn text(&self) -> Result<String, RecordError> {
        let text = canonical::write(&Written {
            kind: KIND.to_owned(),
            alliance: self.alliance.as_str().to_owned(),
            member: self.member.to_string(),
            version: self.version,
            issued_at: self.issued_at.to_string(),
            log_key: self.log_key.to_string(),
            last_checkpoint: self.last_checkpoint.clone(),
        })?;
        Generation::parse(&text)?;
        Ok(text)
    }

    /// Signs the statement.
    ///
    /// # Errors
    /// A key not named after the member, or fields that would be refused on reading.
    pub fn sign(&self, member_key: &SigningKey) -> Result<String, RecordError> {
        self.check_key(member_key.verifying_key())?;
        Ok(member_key.sign_note(&self.text()?)?)
    }

    fn check_key(&self, key: &VerifyingKey) -> Result<(), RecordError> {
        let expected = member_key_name(&self.alliance, &self.member);
        let found = key.name().to_owned();
        if expected == found { Ok(()) } else { Err(RecordError::KeyName { expected, found }) }
    }
}

/// Whether a checkpoint is of another log of the same member. Its signature is left to those who know the old key.
fn precedes(checkpoint: &str, origin: &str, prefix: &str) -> Result<(), Fault> {
    let found = checkpoint.lines().next().unwrap_or_default();
    let own = found.starts_with(prefix) && found != origin;
    if own { Ok(()) } else { Err(Fault::Origin { prefix: prefix.to_owned(), found: found.chars().take(80).collect() }) }
}

/// A statement as its text spells it.
#[derive(Serialize, Deserialize)]
struct Written {
    kind: String,
    alliance: String,
    member: String,
    version: u64,
    issued_at: String,
    log_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_checkpoint: Option<String>,
}
