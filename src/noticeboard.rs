//! Decides what becomes of a note that somebody brings: judged, kept on disk, and only then shown to others. Never believes
//! the bringer, and never lets a bad note take the place of the last good one.

mod members;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::directory::notes::{Board, Carried, Doubt, Judged, Kind, News};
use crate::directory::{Directory, DirectoryError, UpdateError};
use crate::party::Member;
use crate::store::{Notes, NotesError};
use crate::tlog::note::VerifyingKey;

pub use self::members::{ApproveError, HeldKey, InForce};

/// Whose note, of which kind; `None` for the alliance's directory.
pub type Place = (Kind, Option<Member>);

/// Asks whether news can stand beside what is known: for a routing table, whether its rows lie under its owner's code and
/// clash with no other table's; the answer against it names both rows. A hub asks nothing: it only carries.
pub type Fits = Box<dyn Fn(&Board, &News) -> Result<(), String> + Send + Sync>;

/// The notes of an alliance as they stand here, shared by those who bring, read and follow them.
pub struct Noticeboard {
    state: Mutex<State>,
    notes: Notes,
    fits: Fits,
    changes: watch::Sender<u64>,
    in_force: watch::Sender<InForce>,
}

struct State {
    board: Board,
    /// The newest directory that waits because it knows a member by another key.
    changes_key: Option<Carried>,
    /// Genuine, but in the way of another: tried again after every change.
    held_back: BTreeMap<Place, (Carried, String)>,
}

/// What became of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offered {
    /// Its words were known.
    Same,
    /// It took the place of what was known.
    Taken,
    /// It is its owner's word but cannot stand beside the others; the last good one stays.
    HeldBack(String),
}

/// Why a note was not taken.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    #[error(transparent)]
    Doubt(#[from] Doubt),
    #[error(transparent)]
    Kept(#[from] NotesError),
}

/// Why there is no board.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Notes(#[from] NotesError),
}

impl Noticeboard {
    /// Begins with the directory of the configuration and what was kept before, each judged anew: a kept directory that is
    /// newer than the configured one holds. What no longer stands up is told and left out.
    ///
    /// # Errors
    /// A configured directory that the alliance did not sign, or kept notes that cannot be read.
    pub fn open(
        alliance_key: VerifyingKey,
        directory_note: String,
        notes: Notes,
        fits: Fits,
    ) -> Result<Noticeboard, BoardError> {
        let mut board = Board::new(alliance_key, directory_note)?;
        board.decide(notes.decisions()?);
        let mut state = State { board, changes_key: None, held_back: BTreeMap::new() };
        for kept in notes.all()? {
            let (kind, owner) = (kept.kind, owner(&kept));
            match state.place(&kept, &fits, |_| Ok(())) {
                Ok(Offered::HeldBack(why)) => tracing::error!(%kind, owner, why, "a kept note is held back"),
                Err(OfferError::Doubt(doubt)) if doubt.alarms() => {
                    tracing::error!(%kind, owner, %doubt, "a kept note is not believed");
                }
                _ => {}
            }
        }
        let (changes, in_force) = (watch::Sender::new(0), watch::Sender::new(InForce::default()));
        Ok(Noticeboard { state: Mutex::new(state), notes, fits, changes, in_force })
    }

    /// Takes a note if it may be believed, is news, and fits. Durable on return. Blocks on the disk.
    ///
    /// # Errors
    /// A reason not to believe it, or a disk that does not take it; what was known stays.
    pub fn offer(&self, carried: &Carried) -> Result<Offered, OfferError> {
        self.offer_in(&mut self.state(), carried)
    }

    fn offer_in(&self, state: &mut State, carried: &Carried) -> Result<Offered, OfferError> {
        let offered = self.place(state, carried)?;
        if offered == Offered::Taken {
            self.place_held_back(state);
            self.changes.send_modify(|change| *change += 1);
        }
        Ok(offered)
    }

    /// Places a note. Keys that its owner changed by the old key's word are written down first: a later start must follow
    /// without the notes between.
    fn place(&self, state: &mut State, carried: &Carried) -> Result<Offered, OfferError> {
        let decided = state.decided_with(carried);
        state.place(carried, &self.fits, |note| {
            if let Some(decisions) = &decided {
                self.notes.decide(decisions)?;
            }
            self.notes.keep(note)
        })
    }

    /// Counts up with every change; a receiver sees the newest number only.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The directory as it holds now, with what members have signed since.
    pub fn directory(&self) -> Directory {
        self.state().board.directory()
    }

    /// The version of each note at hand, in the order in which they are told.
    pub fn versions(&self) -> Vec<(Place, u64)> {
        self.state().board.versions().collect()
    }

    /// One note.
    pub fn note(&self, place: &Place) -> Option<Carried> {
        self.state().board.note(place.0, place.1.as_ref())
    }

    /// The routing tables at hand, as their owners signed them.
    pub fn tables(&self) -> Vec<Carried> {
        let state = self.state();
        let tables = state.board.versions().filter(|((kind, _), _)| *kind == Kind::RoutingTable);
        tables.filter_map(|((kind, owner), _)| state.board.note(kind, owner.as_ref())).collect()
    }

    /// Notes that are held back, each with the reason.
    pub fn held_back(&self) -> Vec<(Place, String)> {
        self.state().held_back.iter().map(|(place, (_, why))| (place.clone(), why.clone())).collect()
    }

    /// A change may have cleared the way for what was held back, and what it clears for more.
    fn place_held_back(&self, state: &mut State) {
        loop {
            let waiting: Vec<Carried> = state.held_back.values().map(|(carried, _)| carried.clone()).collect();
            let placed = waiting.iter().filter(|carried| matches!(self.place(state, carried), Ok(Offered::Taken)));
            if placed.count() == 0 {
                return;
            }
        }
    }

    /// The state is whole between any two steps of [`State::place`], so a thread that died holding it spoilt nothing.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn place(
        &mut self,
        carried: &Carried,
        fits: &Fits,
        keep: impl FnOnce(&Carried) -> Result<(), NotesError>,
    ) -> Result<Offered, OfferError> {
        let place = (carried.kind, carried.owner.clone());
        let news = match self.board.judge(carried) {
            Ok(Judged::News(news)) => news,
            Ok(Judged::Same) => return Ok(Offered::Same),
            Err(doubt) => {
                // Something newer came, or its owner left: it waits for nothing any more.
                if self.held_back.get(&place).is_some_and(|(held, _)| held == carried) {
                    self.held_back.remove(&place);
                }
                if matches!(doubt, Doubt::Update(UpdateError::KeyChanged { .. })) {
                    self.wait_for_approval(carried);
                }
                return Err(doubt.into());
            }
        };
        if let Err(why) = fits(&self.board, &news) {
            self.held_back.insert(place, (carried.clone(), why.clone()));
            return Ok(Offered::HeldBack(why));
        }
        let decided = self.decided_with(carried);
        keep(carried)?;
        self.board.take(news);
        if let Some(decisions) = decided {
            self.board.decide(decisions);
        }
        self.held_back.remove(&place);
        Ok(Offered::Taken)
    }
}

/// What a reader has been told, and what it has not.
#[derive(Debug, Default)]
pub struct Reader(HashMap<Place, u64>);

impl Reader {
    /// The next note that this reader has not been told in its newest version.
    pub fn next(&mut self, board: &Noticeboard) -> Option<Carried> {
        let versions = board.versions();
        let (place, _) = versions.into_iter().find(|(place, version)| self.0.get(place) != Some(version))?;
        let note = board.note(&place)?;
        self.0.insert(place, note.version);
        Some(note)
    }
}

/// Whose a note is said to be, for a log line.
pub fn owner(carried: &Carried) -> String {
    carried.owner.as_ref().map_or_else(|| "the alliance".to_owned(), Member::to_string)
}
