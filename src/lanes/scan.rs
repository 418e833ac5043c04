//! Decides which rows to read next from the store, so that none is missed and none comes back from the dead. Never reads.

use std::collections::HashSet;

use super::{Queued, Seq};
use crate::planted;
use crate::time::Time;

/// How far the store has been read. Every row before `next` is in memory, or was dropped with a note of its place.
#[derive(Default)]
pub(super) struct Scan {
    next: Seq,
    behind: Behind,
    asked: Option<Asked>,
    not_before: Time,
}

/// What the store may hold from `next` on.
#[derive(Default, PartialEq, Eq)]
enum Behind {
    #[default]
    Nothing,
    Maybe,
}

/// A read under way, and what happened since that its answer may not know.
struct Asked {
    from: Seq,
    /// Rows that were committed: an answer read before that does not show them, whatever it says about the rest.
    heard: Vec<Seq>,
    /// The lowest of those that did not fit into `heard`, or that came from another lane.
    missed: Option<Seq>,
    /// Rows that went away: an answer read before that still shows them.
    gone: HashSet<Seq>,
    /// Rows before `from` are needed first, or `gone` grew too long: the answer is thrown away.
    usable: Usable,
}

#[derive(PartialEq, Eq)]
enum Usable {
    Yes,
    No,
}

impl Scan {
    /// A row was committed that is not in memory.
    pub fn heard(&mut self, seq: Seq, remembered_max: usize) {
        if self.asked.is_some() && planted::is(planted::Bug::LostWakeUp) {
            return;
        }
        self.rewind(seq);
        let Some(asked) = &mut self.asked else { return };
        asked.heard.push(seq);
        if asked.heard.len() > remembered_max {
            asked.missed = asked.heard.drain(..).chain(asked.missed).min();
        }
    }

    /// Rows were committed from this place on, no matter what an answer under way shows.
    pub fn moved(&mut self, seq: Seq) {
        self.rewind(seq);
        if let Some(asked) = &mut self.asked {
            asked.missed = Some(asked.missed.map_or(seq, |missed| missed.min(seq)));
        }
    }

    /// Reads from `seq` again, now or when the read under way is answered.
    pub fn rewind(&mut self, seq: Seq) {
        self.next = self.next.min(seq);
        self.behind = Behind::Maybe;
        if let Some(asked) = &mut self.asked
            && seq < asked.from
        {
            asked.usable = Usable::No;
        }
    }

    /// A row is gone from the store.
    pub fn gone(&mut self, seq: Seq, remembered_max: usize) {
        let Some(asked) = &mut self.asked else { return };
        if seq < asked.from || asked.usable == Usable::No {
            return;
        }
        asked.gone.insert(seq);
        if asked.gone.len() > remembered_max {
            asked.gone = HashSet::new();
            asked.usable = Usable::No;
        }
    }

    pub fn idle_with_more(&self, now: Time) -> bool {
        self.behind == Behind::Maybe && self.asked.is_none() && now >= self.not_before
    }

    /// The row to read from; marks the read as under way.
    pub fn ask(&mut self) -> Seq {
        let (heard, gone) = (Vec::new(), HashSet::new());
        self.asked = Some(Asked { from: self.next, heard, missed: None, gone, usable: Usable::Yes });
        self.next
    }

    /// The row to read from next.
    pub fn next(&self) -> Seq {
        self.next
    }

    /// An answer came; None when all of it is to be thrown away.
    pub fn answered(&mut self, rows: &[Queued]) -> Option<Answer> {
        let asked = self.asked.take()?;
        self.behind = Behind::Maybe;
        let shown = |seq: &Seq| rows.binary_search_by_key(seq, |row| row.seq).is_ok();
        let missed = asked.heard.into_iter().filter(|seq| !shown(seq)).chain(asked.missed).min();
        (asked.usable == Usable::Yes).then_some(Answer { from: asked.from, missed, gone: asked.gone })
    }

    /// All rows before `next` were taken from the answer; `end` is what the store said.
    pub fn advance(&mut self, answer: &Answer, next: Seq, end: End) {
        self.next = next.max(answer.from);
        self.behind = if end == End::Reached { Behind::Nothing } else { Behind::Maybe };
        if let Some(seq) = answer.missed {
            self.rewind(seq);
        }
    }

    pub fn failed(&mut self, again_at: Time) {
        self.asked = None;
        self.behind = Behind::Maybe;
        self.not_before = again_at;
    }

    /// The moment of the next try after a failure, also when it is past.
    pub fn not_before(&self) -> Time {
        self.not_before
    }
}

/// Whether an answer held the last row of the lane.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Reached,
    Ahead,
}

/// A usable answer.
pub(super) struct Answer {
    from: Seq,
    /// The lowest row that was committed while it was being read and that it does not show.
    missed: Option<Seq>,
    gone: HashSet<Seq>,
}

impl Answer {
    /// Whether the row went away while it was being read.
    pub fn is_gone(&self, seq: Seq) -> bool {
        self.gone.contains(&seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A scan that reads from 5 on.
    fn reading() -> Scan {
        let mut scan = Scan { next: 5, ..Scan::default() };
        assert_eq!(scan.ask(), 5);
        scan
    }

    fn asked(scan: &Scan) -> &Asked {
        scan.asked.as_ref().unwrap()
    }

    #[test]
    fn as_many_rows_are_remembered_as_may_be_and_of_more_the_lowest() {
        let mut scan = reading();
        (7..10).for_each(|seq| scan.heard(seq, 3));
        assert_eq!((&asked(&scan).heard[..], asked(&scan).missed), (&[7, 8, 9][..], None));
        scan.heard(6, 3);
        assert_eq!((&asked(&scan).heard[..], asked(&scan).missed), (&[][..], Some(6)));
        scan.heard(8, 3);
        assert_eq!(scan.answered(&[]).unwrap().missed, Some(6));
    }

    #[test]
    fn as_many_rows_that_went_away_are_remembered_as_may_be_and_of_more_the_answer_is_useless() {
        let mut scan = reading();
        [4, 5, 6, 7].into_iter().for_each(|seq| scan.gone(seq, 3));
        assert_eq!((asked(&scan).gone.len(), asked(&scan).usable == Usable::Yes), (3, true), "4 is not read");
        scan.gone(8, 3);
        assert_eq!((asked(&scan).gone.len(), asked(&scan).usable == Usable::Yes), (0, false));
        scan.gone(9, 3);
        assert_eq!(asked(&scan).gone.len(), 0, "nothing is remembered for it");
        assert!(scan.answered(&[]).is_none());
    }

    #[test]
    fn an_answer_is_useless_when_a_row_before_it_is_needed() {
        for (seq, usable) in [(4, false), (5, true), (6, true)] {
            let mut scan = reading();
            scan.rewind(seq);
            assert_eq!(scan.answered(&[]).is_some(), usable, "{seq}");
        }
    }
}
