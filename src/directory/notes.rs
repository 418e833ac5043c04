//! Decides whether a note that somebody carried here may be believed: whose it is, whether its owner signed it, and whether
//! it is news. Never fetches one, never takes the carrier's word for anything, and never forgets the last good one for a
//! bad one.
//!
//! The carrier names each note by kind, owner and version; all three must be what the signed text says. What a routing
//! table says beyond that is `routing`'s to judge, here it is only known for its owner's own.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::book::{Directory, DirectoryError, Entry, KeyChange, Update, UpdateError, accepts_update_by, changed_keys};
use super::canonical::{self, CanonicalError};
use super::decisions::Decisions;
use super::generation::Generation;
use super::record::{MemberRecord, RecordError, within};
use crate::limits::VERSION_MAX;
use crate::party::{Division, Member};
use crate::tlog::note::{self, NoteError, VerifyingKey};

/// What a routing table says in `kind`.
const TABLE_KIND: &str = "tongban.routing-table.v1";

/// What a carried note is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The list of members, signed by the alliance; it has no owner among the members.
    Directory,
    /// What a member says of itself.
    MemberRecord,
    /// What a city takes, and how it is reached for it.
    RoutingTable,
    /// That a member's log goes on under another key.
    Generation,
}

impl Kind {
    /// All kinds, in the order in which notes are read: what tells the keys comes first.
    pub const ALL: [Kind; 4] = [Kind::Directory, Kind::MemberRecord, Kind::Generation, Kind::RoutingTable];

    /// The kind as it stands in the store and in log lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Directory => "directory",
            Kind::MemberRecord => "member-record",
            Kind::RoutingTable => "routing-table",
            Kind::Generation => "generation",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Text that is no kind of note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be directory, member-record, routing-table or generation")]
pub struct KindError;

impl FromStr for Kind {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Kind, KindError> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(KindError)
    }
}

/// A signed note as somebody carried it here, with what they say it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    pub kind: Kind,
    /// Whose it is; `None` for the alliance's own directory.
    pub owner: Option<Member>,
    pub version: u64,
    /// The C2SP signed note, byte for byte.
    pub note: String,
}

/// What an alliance's members have signed, as far as it has reached us: the newest of each kind and owner.
#[derive(Debug, Clone)]
pub struct Board {
    alliance_key: VerifyingKey,
    directory: Directory,
    directory_note: String,
    held: BTreeMap<(Kind, Member), Held>,
    decisions: Decisions,
}

#[derive(Debug, Clone)]
struct Held {
    version: u64,
    note: String,
    /// The signed text, without signatures: another signature over the same words is no news.
    text: String,
}

/// What follows from a note that may be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// It says what is known already.
    Same,
    /// It takes the place of what was known of its kind and owner.
    News(News),
}

/// A note that may be believed and is news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    Directory {
        directory: Box<Directory>,
        note: String,
    },
    Record(Box<Entry>),
    Generation {
        generation: Box<Generation>,
        note: String,
    },
    /// Known for its owner's own; whether its rows fit beside the others is not asked yet.
    Table {
        owner: Division,
        version: u64,
        note: String,
    },
}

/// Why a note is not believed. In every case what was known stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    #[error("{0} is no member of the alliance")]
    Stranger(Member),
    #[error("a {kind} has {} owner", if *.kind == Kind::Directory { "no" } else { "an" })]
    Owner { kind: Kind },
    #[error("forged: {0}")]
    Forged(NoteError),
    #[error("{0}")]
    Directory(DirectoryError),
    #[error("{0}")]
    Record(RecordError),
    #[error("{0}")]
    Text(CanonicalError),
    #[error("carried as {said}'s, but speaks for {found}")]
    NotYours { said: Member, found: String },
    #[error("of alliance {found}, not {expected}")]
    Alliance { expected: String, found: String },
    #[error("carried as version {said}, but is version {found}")]
    Version { said: u64, found: u64 },
    #[error("version {found} is older than version {held} at hand")]
    Older { held: u64, found: u64 },
    #[error("reads otherwise than the version {version} at hand: its owner signed two")]
    TwoOfOneVersion { version: u64 },
    #[error("log {origin} has another key already")]
    LogKey { origin: String },
    #[error("{0}")]
    Update(UpdateError),
}

impl Doubt {
    /// Whether somebody must look: a carrier that lags behind is no fault, a forged or changed note is.
    pub fn alarms(&self) -> bool {
        !matches!(
            self,
            Doubt::Older { .. } | Doubt::Update(UpdateError::Older { .. } | UpdateError::RecordOlder { .. })
        )
    }
}

/// What every routing table says of itself.
#[derive(Deserialize)]
struct TableHead {
    alliance: String,
    owner: String,
    version: u64,
}

impl Board {
    /// Begins with a signed directory, verified.
    ///
    /// # Errors
    /// See [`Directory::open`].
    pub fn new(alliance_key: VerifyingKey, directory_note: String) -> Result<Board, DirectoryError> {
        let directory = Directory::open(&directory_note, &alliance_key)?;
        Ok(Board { alliance_key, directory, directory_note, held: BTreeMap::new(), decisions: Decisions::default() })
    }

    /// What our own people decided about members.
    pub fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// From now on these decisions hold.
    pub fn decide(&mut self, decisions: Decisions) {
        self.decisions = decisions;
    }

    /// The members that a carried directory knows by another key than the one at hand; none where it is no directory that
    /// the alliance signed.
    pub fn changed_keys(&self, carried: &Carried) -> Vec<KeyChange> {
        let opened = Directory::open(&carried.note, &self.alliance_key);
        opened.map(|found| changed_keys(&self.directory, &found)).unwrap_or_default()
    }

    /// The directory as the alliance signed it.
    pub fn signed(&self) -> &Directory {
        &self.directory
    }

    /// The directory as it holds now: records that members have signed since, and the keys of logs they have opened.
    pub fn directory(&self) -> Directory {
        let mut entries: BTreeMap<Member, Entry> = BTreeMap::new();
        for ((kind, member), held) in &self.held {
            let Some(listed) = self.directory.entry(member) else { continue };
            let entry = entries.entry(member.clone()).or_insert_with(|| listed.clone());
            match kind {
                Kind::MemberRecord => {
                    let newer = Entry::open(listed.member_key.clone(), held.note.clone()).ok();
                    if let Some(newer) = newer.filter(|newer| newer.record.version > entry.record.version) {
                        *entry = newer;
                    }
                }
                Kind::Generation => {
                    let generation = Generation::parse(&held.text).ok();
                    let known = |name: &str| entry.record.log_keys.iter().any(|key| key.name() == name);
                    if let Some(generation) = generation.filter(|generation| !known(generation.log_key.name())) {
                        entry.record.log_keys.push(generation.log_key);
                    }
                }
                Kind::Directory | Kind::RoutingTable => {}
            }
        }
        self.directory.overlaid(entries)
    }

    /// All notes at hand, what tells the keys first: as they are handed on, and read again after a restart.
    pub fn notes(&self) -> impl Iterator<Item = Carried> {
        self.versions().filter_map(|((kind, owner), _)| self.note(kind, owner.as_ref()))
    }

    /// The version of each note at hand, in the order of [`Board::notes`].
    pub fn versions(&self) -> impl Iterator<Item = ((Kind, Option<Member>), u64)> {
        let directory = ((Kind::Directory, None), self.directory.version());
        let held = Kind::ALL.into_iter().flat_map(|kind| self.held.iter().filter(move |((held, _), _)| *held == kind));
        let held = held.map(|((kind, owner), held)| ((*kind, Some(owner.clone())), held.version));
        std::iter::once(directory).chain(held)
    }

    /// The note at hand of this kind and owner.
    pub fn note(&self, kind: Kind, owner: Option<&Member>) -> Option<Carried> {
        let (version, note) = match owner {
            None if kind == Kind::Directory => (self.directory.version(), &self.directory_note),
            None => return None,
            Some(member) => {
                let held = self.held.get(&(kind, member.clone()))?;
                (held.version, &held.note)
            }
        };
        Some(Carried { kind, owner: owner.cloned(), version, note: note.clone() })
    }

    /// Judges a note against what is known.
    ///
    /// # Errors
    /// The first reason not to believe it.
    pub fn judge(&self, carried: &Carried) -> Result<Judged, Doubt> {
        let (kind, note) = (carried.kind, &carried.note);
        let Some(owner) = &carried.owner else { return self.judge_directory(carried) };
        if kind == Kind::Directory {
            return Err(Doubt::Owner { kind });
        }
        let entry = self.directory.entry(owner).ok_or_else(|| Doubt::Stranger(owner.clone()))?;
        let opened = note::open(note, std::slice::from_ref(&entry.member_key)).map_err(Doubt::Forged)?;
        let news = match kind {
            Kind::MemberRecord => {
                let record = MemberRecord::parse(opened.text).map_err(Doubt::Record)?;
                self.check_head(carried, record.alliance.as_str(), &record.member.to_string(), record.version)?;
                News::Record(Box::new(Entry { member_key: entry.member_key.clone(), record, note: note.clone() }))
            }
            Kind::Generation => {
                let generation = Generation::parse(opened.text).map_err(Doubt::Record)?;
                let (alliance, member) = (generation.alliance.as_str(), generation.member.to_string());
                self.check_head(carried, alliance, &member, generation.version)?;
                check_log(&generation, &entry.record)?;
                News::Generation { generation: Box::new(generation), note: note.clone() }
            }
            Kind::RoutingTable | Kind::Directory => self.judge_table(carried, owner, opened.text)?,
        };
        Ok(if self.is_news(carried, owner, opened.text)? { Judged::News(news) } else { Judged::Same })
    }

    /// Puts news in the place of what was known. Notes of members that a new directory no longer lists, or lists with
    /// another key, go.
    pub fn take(&mut self, news: News) {
        let (key, version, note) = match news {
            News::Directory { directory, note } => {
                let stays = |member: &Member| {
                    let [old, new] = [&self.directory, &*directory].map(|d| d.entry(member).map(|e| &e.member_key));
                    old.is_some() && old == new
                };
                self.held.retain(|(_, member), _| stays(member));
                let listed = |member: &Member| directory.member(member).map_or(0, |record| record.version);
                self.held.retain(|(kind, member), held| *kind != Kind::MemberRecord || held.version > listed(member));
                (self.directory, self.directory_note) = (*directory, note);
                return;
            }
            News::Record(entry) => ((Kind::MemberRecord, entry.record.member), entry.record.version, entry.note),
            News::Generation { generation, note } => ((Kind::Generation, generation.member), generation.version, note),
            News::Table { owner, version, note } => ((Kind::RoutingTable, Member::City(owner)), version, note),
        };
        let text = words(&note).to_owned();
        self.held.insert(key, Held { version, note, text });
    }

    fn judge_directory(&self, carried: &Carried) -> Result<Judged, Doubt> {
        if carried.kind != Kind::Directory {
            return Err(Doubt::Owner { kind: carried.kind });
        }
        let directory = Directory::open(&carried.note, &self.alliance_key).map_err(|fault| match fault {
            DirectoryError::Note(fault) => Doubt::Forged(fault),
            other => Doubt::Directory(other),
        })?;
        same_version(carried.version, directory.version())?;
        let believed = |member: &Member, key: &VerifyingKey| self.decisions.believe(member, key);
        match accepts_update_by(&self.directory, &directory, believed).map_err(Doubt::Update)? {
            Update::Same => Ok(Judged::Same),
            Update::Newer => {
                let (directory, note) = (Box::new(directory), carried.note.clone());
                Ok(Judged::News(News::Directory { directory, note }))
            }
        }
    }

    fn judge_table(&self, carried: &Carried, owner: &Member, text: &str) -> Result<News, Doubt> {
        let head: TableHead = canonical::read(text, TABLE_KIND).map_err(Doubt::Text)?;
        self.check_head(carried, &head.alliance, &head.owner, head.version)?;
        match owner {
            Member::City(city) => {
                Ok(News::Table { owner: city.clone(), version: head.version, note: carried.note.clone() })
            }
            // A hub takes nothing, so nothing can be said of what it takes.
            Member::Hub(_) => Err(Doubt::NotYours { said: owner.clone(), found: "a city".to_owned() }),
        }
    }

    fn check_head(&self, carried: &Carried, alliance: &str, owner: &str, version: u64) -> Result<(), Doubt> {
        let expected = self.directory.alliance().as_str();
        if alliance != expected {
            return Err(Doubt::Alliance { expected: expected.to_owned(), found: alliance.to_owned() });
        }
        if let Some(said) = carried.owner.as_ref().filter(|said| said.to_string() != owner) {
            return Err(Doubt::NotYours { said: said.clone(), found: owner.to_owned() });
        }
        if within(version, 1..=VERSION_MAX).is_err() {
            return Err(Doubt::Version { said: carried.version, found: version });
        }
        same_version(carried.version, version)
    }

    /// Whether it is news: newer than what is held, and for a record than what the directory lists.
    fn is_news(&self, carried: &Carried, owner: &Member, text: &str) -> Result<bool, Doubt> {
        let found = carried.version;
        let held = self.held.get(&(carried.kind, owner.clone())).map(|held| (held.version, held.text.as_str()));
        let listed = self.directory.entry(owner).filter(|_| carried.kind == Kind::MemberRecord);
        let listed = listed.map(|entry| (entry.record.version, words(&entry.note)));
        match [held, listed].into_iter().flatten().max_by_key(|(version, _)| *version) {
            Some((held, _)) if found < held => Err(Doubt::Older { held, found }),
            Some((version, known)) if found == version && known != text => Err(Doubt::TwoOfOneVersion { version }),
            Some((version, _)) => Ok(found > version),
            None => Ok(true),
        }
    }
}

/// A log's name stands for one key for ever.
fn check_log(generation: &Generation, listed: &MemberRecord) -> Result<(), Doubt> {
    let key = &generation.log_key;
    let other = listed.log_keys.iter().any(|known| known.name() == key.name() && known != key);
    if other { Err(Doubt::LogKey { origin: key.name().to_owned() }) } else { Ok(()) }
}

fn same_version(said: u64, found: u64) -> Result<(), Doubt> {
    if said == found { Ok(()) } else { Err(Doubt::Version { said, found }) }
}

/// The words of a note that has been opened before: all up to its signatures.
fn words(note: &str) -> &str {
    note.rfind("\n\n").map_or(note, |gap| &note[..=gap])
}
