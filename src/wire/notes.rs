//! Decides how a note travels: in pieces that fit an ordinary request, put together again on the other side. Never asks
//! whether it may be believed.

use super::pb::directory as pb;
use crate::directory::notes::{Carried, Kind};
use crate::limits::NOTE_PIECE_BYTES_MAX;
use crate::party::Member;
use crate::tlog::note::NOTE_BYTES_MAX;

/// Why pieces make no note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PieceError {
    #[error("a piece without a kind, or with an owner that is no member")]
    Head,
    #[error("a piece of another note before this one was complete")]
    Mixed,
    #[error("a note of more than {NOTE_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the pieces ended before the note did")]
    Cut,
}

/// The pieces of a note, in order; at least one.
pub fn pieces(note: &Carried) -> Vec<pb::NotePiece> {
    let mut pieces = Vec::new();
    let mut rest = note.note.as_str();
    loop {
        let (text, later) = rest.split_at(rest.floor_char_boundary(NOTE_PIECE_BYTES_MAX));
        pieces.push(pb::NotePiece {
            kind: to_wire(note.kind).into(),
            owner: note.owner.as_ref().map(ToString::to_string).unwrap_or_default(),
            version: note.version,
            text: text.to_owned(),
            last: later.is_empty(),
        });
        rest = later;
        if rest.is_empty() {
            return pieces;
        }
    }
}

/// A note that is being put together.
#[derive(Debug, Default)]
pub struct Gathering(Option<Carried>);

impl Gathering {
    /// Whose the note is that is being put together.
    pub fn owner(&self) -> Option<&Member> {
        self.0.as_ref()?.owner.as_ref()
    }

    /// Adds the next piece; the note once it is complete.
    ///
    /// # Errors
    /// A piece that does not continue the note; nothing of it is kept then.
    pub fn add(&mut self, piece: pb::NotePiece) -> Result<Option<Carried>, PieceError> {
        let (kind, last) = (from_wire(piece.kind()).ok_or(PieceError::Head)?, piece.last);
        let owner = Some(&piece.owner).filter(|owner| !owner.is_empty());
        let owner = owner.map(|owner| owner.parse().map_err(|_| PieceError::Head)).transpose()?;
        let begun = self.0.take();
        let mut note =
            begun.unwrap_or(Carried { kind, owner: owner.clone(), version: piece.version, note: String::new() });
        if (note.kind, &note.owner, note.version) != (kind, &owner, piece.version) {
            return Err(PieceError::Mixed);
        }
        if note.note.len() + piece.text.len() > NOTE_BYTES_MAX {
            return Err(PieceError::TooLarge);
        }
        note.note.push_str(&piece.text);
        if last {
            return Ok(Some(note));
        }
        self.0 = Some(note);
        Ok(None)
    }
}

/// What a watched answer tells.
#[derive(Debug)]
pub enum Told {
    Piece(pb::NotePiece),
    CaughtUp,
}

/// Reads a watched answer; one that tells nothing is one of a later version of the service.
pub fn told(answer: pb::WatchNotesResponse) -> Option<Told> {
    match answer.told? {
        pb::watch_notes_response::Told::Piece(piece) => Some(Told::Piece(piece)),
        pb::watch_notes_response::Told::CaughtUp(_) => Some(Told::CaughtUp),
    }
}

/// A watched answer.
pub fn answer(told: Told) -> pb::WatchNotesResponse {
    let told = match told {
        Told::Piece(piece) => pb::watch_notes_response::Told::Piece(piece),
        Told::CaughtUp => pb::watch_notes_response::Told::CaughtUp(pb::CaughtUp {}),
    };
    pb::WatchNotesResponse { told: Some(told) }
}

fn to_wire(kind: Kind) -> pb::NoteKind {
    match kind {
        Kind::Directory => pb::NoteKind::Directory,
        Kind::MemberRecord => pb::NoteKind::MemberRecord,
        Kind::RoutingTable => pb::NoteKind::RoutingTable,
        Kind::Generation => pb::NoteKind::Generation,
    }
}

fn from_wire(kind: pb::NoteKind) -> Option<Kind> {
    Kind::ALL.into_iter().find(|known| to_wire(*known) == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(length: usize) -> Carried {
        let owner = Some("450200".parse().unwrap());
        Carried { kind: Kind::RoutingTable, owner, version: 7, note: "桂".repeat(length / 3) }
    }

    #[test]
    fn a_note_of_any_size_comes_together_again() {
        for length in [0, 3, NOTE_PIECE_BYTES_MAX - 1, NOTE_PIECE_BYTES_MAX * 3 + 30, NOTE_BYTES_MAX - 2] {
            let note = note(length);
            let pieces = pieces(&note);
            assert!(pieces.iter().all(|piece| piece.text.len() <= NOTE_PIECE_BYTES_MAX));
            let (last, before) = pieces.split_last().unwrap();
            let mut gathering = Gathering::default();
            assert!(before.iter().all(|piece| gathering.add(piece.clone()) == Ok(None)), "{length}");
            assert_eq!(gathering.add(last.clone()), Ok(Some(note)), "{length}");
        }
    }

    #[test]
    fn pieces_that_do_not_belong_together_make_no_note() {
        let good = pieces(&note(100_000));
        for (fault, piece, error) in [
            ("another version", pb::NotePiece { version: 8, ..good[1].clone() }, PieceError::Mixed),
            ("another owner", pb::NotePiece { owner: "440600".to_owned(), ..good[1].clone() }, PieceError::Mixed),
            ("no owner", pb::NotePiece { owner: String::new(), ..good[1].clone() }, PieceError::Mixed),
            ("another kind", pb::NotePiece { kind: 1, ..good[1].clone() }, PieceError::Mixed),
            ("no kind", pb::NotePiece { kind: 0, ..good[1].clone() }, PieceError::Head),
            ("a kind of tomorrow", pb::NotePiece { kind: 99, ..good[1].clone() }, PieceError::Head),
            ("an owner that is none", pb::NotePiece { owner: "4502".to_owned(), ..good[1].clone() }, PieceError::Head),
        ] {
            let mut gathering = Gathering::default();
            gathering.add(good[0].clone()).unwrap();
            assert_eq!(gathering.add(piece), Err(error), "{fault}");
        }
        let mut gathering = Gathering::default();
        let endless = pb::NotePiece { text: "x".repeat(NOTE_BYTES_MAX / 2), ..good[0].clone() };
        assert_eq!(gathering.add(endless.clone()), Ok(None));
        assert_eq!(gathering.add(endless.clone()), Ok(None));
        assert_eq!(gathering.add(endless), Err(PieceError::TooLarge));
    }
}
