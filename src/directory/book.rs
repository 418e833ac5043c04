//! Decides who is a member of the alliance and by which key: the directory, and which directory may follow which. Never
//! fetches one, and never judges what a member says of itself beyond its own names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::canonical::{self, CanonicalError};
use super::record::{Fault, MemberRecord, RecordError, moment, within};
use super::{alliance_key_name, fingerprint};
use crate::limits::{MEMBERS_MAX, VERSION_MAX};
use crate::party::{Alliance, Member};
use crate::time::Time;
use crate::tlog::note::{self, KeyError, NoteError, SigningKey, VerifyingKey};

/// What stands in `kind`, so that no other text signed by the alliance's key reads as a directory.
const KIND: &str = "tongban.directory.v1";

/// The versioned list of an alliance's members, every record of it verified with its member's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    alliance: Alliance,
    version: u64,
    issued_at: Time,
    entries: BTreeMap<Member, Entry>,
    /// Log origin → the member whose it is, and the place among its log keys.
    logs: BTreeMap<String, (Member, usize)>,
    text: String,
}

/// One member of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key by which the alliance knows the member.
    pub member_key: VerifyingKey,
    /// What the member says of itself.
    pub record: MemberRecord,
    /// The signed note in which it says so, byte for byte.
    pub note: String,
}

/// Why a directory is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    #[error(transparent)]
    Note(#[from] NoteError),
    #[error(transparent)]
    Text(#[from] CanonicalError),
    #[error("the key is named {found}, but this alliance's key is named {expected}")]
    KeyName { expected: String, found: String },
    #[error("field {field}: {fault}")]
    Field { field: &'static str, fault: Fault },
    #[error("there is no member {0}")]
    NoMember(Member),
    #[error("more than {max} members")]
    TooMany { max: usize },
    #[error("members[{place}]: the member key is refused: {why}")]
    MemberKey { place: usize, why: KeyError },
    #[error("members[{place}], key {key}: the record is refused: {why}")]
    Record { place: usize, key: String, why: RecordError },
    #[error("members[{place}]: the record is for alliance {found}, not {expected}")]
    Alliance { place: usize, expected: String, found: String },
    #[error("member {member} is listed twice")]
    Twice { member: Member },
}

impl Entry {
    /// Joins a signed record to the key that must have signed it.
    ///
    /// # Errors
    /// See [`MemberRecord::open`].
    pub fn open(member_key: VerifyingKey, note: String) -> Result<Entry, RecordError> {
        let record = MemberRecord::open(&note, &member_key)?;
        Ok(Entry { member_key, record, note })
    }
}

impl Directory {
    /// Opens a signed directory with the alliance's key, and every record in it with its own member's key.
    ///
    /// # Errors
    /// The first fault found, with the place of the member it concerns.
    pub fn open(signed: &str, alliance_key: &VerifyingKey) -> Result<Directory, DirectoryError> {
        let opened = note::open(signed, std::slice::from_ref(alliance_key))?;
        let directory = Directory::parse(opened.text)?;
        directory.check_key(alliance_key)?;
        Ok(directory)
    }

    /// Reads the text of a directory, strictly, and verifies every record; who signed the whole is not asked.
    ///
    /// # Errors
    /// As [`Directory::open`], but for the alliance's signature.
    pub fn parse(text: &str) -> Result<Directory, DirectoryError> {
        let written: Written = canonical::read(text, KIND)?;
        let at = |field| move |fault: Fault| DirectoryError::Field { field, fault };
        if written.members.len() > MEMBERS_MAX {
            return Err(DirectoryError::TooMany { max: MEMBERS_MAX });
        }
        let mut directory = Directory {
            alliance: written.alliance.parse().map_err(|name| at("alliance")(Fault::Name(name)))?,
            version: within(written.version, 1..=VERSION_MAX).map_err(at("version"))?,
            issued_at: moment(&written.issued_at).map_err(at("issued_at"))?,
            entries: BTreeMap::new(),
            logs: BTreeMap::new(),
            text: text.to_owned(),
        };
        for (place, member) in written.members.into_iter().enumerate() {
            directory.take(place, member)?;
        }
        Ok(directory)
    }

    /// The first directory of an alliance: version 1, without members.
    ///
    /// # Errors
    /// None for an alliance and a moment that exist; the text is checked like any other.
    pub fn empty(alliance: &Alliance, issued_at: Time) -> Result<Directory, DirectoryError> {
        written(alliance, 1, issued_at, std::iter::empty())
    }

    /// The directory that follows this one: version + 1, with `entry` added or in the place of the member's older one.
    /// Whether it *may* follow is [`accepts_update`]'s to say.
    ///
    /// # Errors
    /// An entry of another alliance, or a directory that is full.
    pub fn with(&self, entry: Entry, issued_at: Time) -> Result<Directory, DirectoryError> {
        let mut entries = self.entries.clone();
        entries.insert(entry.record.member.clone(), entry);
        written(&self.alliance, self.version + 1, issued_at, entries.values())
    }

    /// The directory that follows this one, without a member. Receipts of its logs go on verifying by earlier versions.
    ///
    /// # Errors
    /// No such member.
    pub fn without(&self, member: &Member, issued_at: Time) -> Result<Directory, DirectoryError> {
        let mut entries = self.entries.clone();
        entries.remove(member).ok_or_else(|| DirectoryError::NoMember(member.clone()))?;
        written(&self.alliance, self.version + 1, issued_at, entries.values())
    }

    /// This directory with some members' entries in the place of those it lists: what holds until the alliance lists it
    /// itself. Version and text stay what the alliance signed.
    pub fn overlaid(&self, entries: impl IntoIterator<Item = (Member, Entry)>) -> Directory {
        let mut overlaid = self.clone();
        for (member, entry) in entries {
            overlaid.logs.retain(|_, (owner, _)| *owner != member);
            overlaid.enter(member, entry);
        }
        overlaid
    }

    /// Signs the directory.
    ///
    /// # Errors
    /// A key not named after this alliance, or a text too large for a note.
    pub fn sign(&self, alliance_key: &SigningKey) -> Result<String, DirectoryError> {
        self.check_key(alliance_key.verifying_key())?;
        Ok(alliance_key.sign_note(&self.text)?)
    }

    /// The alliance whose members these are.
    pub fn alliance(&self) -> &Alliance {
        &self.alliance
    }

    /// Counts up with every change, from 1.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// When the alliance wrote it.
    pub fn issued_at(&self) -> Time {
        self.issued_at
    }

    /// The canonical text under the signature, with its newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The record of a member.
    pub fn member(&self, member: &Member) -> Option<&MemberRecord> {
        self.entries.get(member).map(|entry| &entry.record)
    }

    /// A member with its key and its signed note.
    pub fn entry(&self, member: &Member) -> Option<&Entry> {
        self.entries.get(member)
    }

    /// All members, cities by division code first, then hubs by name.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The key of a log by its origin, e.g. `450200.gateway.alliance.example/log/a/1`, and whose log it is.
    pub fn log_key(&self, origin: &str) -> Option<(&MemberRecord, &VerifyingKey)> {
        let (member, place) = self.logs.get(origin)?;
        let record = self.member(member)?;
        Some((record, record.log_keys.get(*place)?))
    }

    fn take(&mut self, place: usize, written: WrittenMember) -> Result<(), DirectoryError> {
        let key = VerifyingKey::parse(&written.member_key);
        let key = key.map_err(|why| DirectoryError::MemberKey { place, why })?;
        let name = key.name().to_owned();
        let entry = Entry::open(key, written.record);
        let entry = entry.map_err(|why| DirectoryError::Record { place, key: name, why })?;
        if entry.record.alliance != self.alliance {
            let (expected, found) = (self.alliance.as_str().to_owned(), entry.record.alliance.as_str().to_owned());
            return Err(DirectoryError::Alliance { place, expected, found });
        }
        let member = entry.record.member.clone();
        if self.entries.contains_key(&member) {
            return Err(DirectoryError::Twice { member });
        }
        self.enter(member, entry);
        Ok(())
    }

    fn enter(&mut self, member: Member, entry: Entry) {
        for (at, key) in entry.record.log_keys.iter().enumerate() {
            self.logs.insert(key.name().to_owned(), (member.clone(), at));
        }
        self.entries.insert(member, entry);
    }

    fn check_key(&self, key: &VerifyingKey) -> Result<(), DirectoryError> {
        let expected = alliance_key_name(&self.alliance);
        let found = key.name().to_owned();
        if expected == found { Ok(()) } else { Err(DirectoryError::KeyName { expected, found }) }
    }
}

/// Why a directory does not take the place of the one at hand. In every case the one at hand stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    #[error("the directory is of alliance {found}, not {held}")]
    Alliance { held: String, found: String },
    #[error("version {found} is older than version {held} at hand")]
    Older { held: u64, found: u64 },
    #[error("version {version} reads otherwise than the version {version} at hand: the alliance signed two")]
    TwoOfOneVersion { version: u64 },
    #[error("member {member}: record version {found} is older than version {held} at hand")]
    RecordOlder { member: Member, held: u64, found: u64 },
    #[error("member {member}: record version {version} reads otherwise than the one at hand: the member signed two")]
    RecordTwoOfOneVersion { member: Member, version: u64 },
    #[error("member {member} has another key: {found} in the place of {held} (fingerprints)")]
    KeyChanged { member: Member, held: String, found: String },
}

/// What follows when a directory is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// It is the one at hand, byte for byte.
    Same,
    /// It takes the place of the one at hand.
    Newer,
}

/// That a directory knows a member by another key than the one at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    pub member: Member,
    pub held: VerifyingKey,
    pub found: VerifyingKey,
    /// The key at hand signed the new record as well: the member itself says that it goes on under another.
    pub by_old_key: bool,
}

/// The members that stay, and whose key `new` changes.
pub fn changed_keys(held: &Directory, new: &Directory) -> Vec<KeyChange> {
    let stays = held.entries.iter().filter_map(|(member, old)| Some((member, old, new.entries.get(member)?)));
    let changed = stays.filter(|(_, old, next)| old.member_key != next.member_key);
    let change = |(member, old, next): (&Member, &Entry, &Entry)| KeyChange {
        member: member.clone(),
        held: old.member_key.clone(),
        found: next.member_key.clone(),
        by_old_key: note::open(&next.note, std::slice::from_ref(&old.member_key)).is_ok(),
    };
    changed.map(change).collect()
}

/// Whether `new` may take the place of `held`. A member that left may be missing from `new`; a member that stayed never
/// goes back to an older record, and keeps its key unless that key signed the new record too.
///
/// # Errors
/// The first reason against it.
pub fn accepts_update(held: &Directory, new: &Directory) -> Result<Update, UpdateError> {
    accepts_update_by(held, new, |_, _| false)
}

/// The same where `believed` may say of a member that another key is its own: people have compared fingerprints.
///
/// # Errors
/// The first reason against it.
pub fn accepts_update_by(
    held: &Directory,
    new: &Directory,
    believed: impl Fn(&Member, &VerifyingKey) -> bool,
) -> Result<Update, UpdateError> {
    if held.alliance != new.alliance {
        let (held, found) = (held.alliance.as_str().to_owned(), new.alliance.as_str().to_owned());
        return Err(UpdateError::Alliance { held, found });
    }
    if held.text == new.text {
        return Ok(Update::Same);
    }
    if new.version < held.version {
        return Err(UpdateError::Older { held: held.version, found: new.version });
    }
    if new.version == held.version {
        return Err(UpdateError::TwoOfOneVersion { version: new.version });
    }
    let doubtful = |change: &KeyChange| !change.by_old_key && !believed(&change.member, &change.found);
    if let Some(KeyChange { member, held, found, .. }) = changed_keys(held, new).into_iter().find(doubtful) {
        let (held, found) = (fingerprint(&held), fingerprint(&found));
        return Err(UpdateError::KeyChanged { member, held, found });
    }
    for (member, entry) in &held.entries {
        if let Some(next) = new.entries.get(member) {
            accepts_entry(entry, next)?;
        }
    }
    Ok(Update::Newer)
}

fn accepts_entry(held: &Entry, new: &Entry) -> Result<(), UpdateError> {
    let member = held.record.member.clone();
    let (old, found) = (held.record.version, new.record.version);
    if found < old {
        return Err(UpdateError::RecordOlder { member, held: old, found });
    }
    // The record's content is compared, not its note: a second signature line changes nothing that was said.
    if found == old && held.record != new.record {
        return Err(UpdateError::RecordTwoOfOneVersion { member, version: old });
    }
    Ok(())
}

/// A directory as its text spells it.
#[derive(Serialize, Deserialize)]
struct Written {
    kind: String,
    alliance: String,
    version: u64,
    issued_at: String,
    members: Vec<WrittenMember>,
}

#[derive(Serialize, Deserialize)]
struct WrittenMember {
    member_key: String,
    record: String,
}

fn written<'a>(
    alliance: &Alliance,
    version: u64,
    issued_at: Time,
    entries: impl Iterator<Item = &'a Entry>,
) -> Result<Directory, DirectoryError> {
    let member = |entry: &Entry| WrittenMember { member_key: entry.member_key.to_string(), record: entry.note.clone() };
    let text = canonical::write(&Written {
        kind: KIND.to_owned(),
        alliance: alliance.as_str().to_owned(),
        version,
        issued_at: issued_at.to_string(),
        members: entries.map(member).collect(),
    })?;
    Directory::parse(&text)
}
