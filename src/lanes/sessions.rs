//! Decides which session gets the next delivery. Never knows what is delivered.

use std::collections::{HashMap, VecDeque};

use super::SessionId;
use crate::limits;

/// The open sessions, taking turns while they have credits.
#[derive(Default)]
pub(super) struct Sessions {
    open: HashMap<SessionId, Session>,
    /// Each session with credits stands here once; one that ran dry out of turn is passed over when its turn comes.
    turns: VecDeque<SessionId>,
    credits: u64,
}

#[derive(Default)]
struct Session {
    credits: u32,
    in_turn: Turn,
    answered: Answered,
    receipts: bool,
}

#[derive(Default, PartialEq, Eq)]
enum Turn {
    #[default]
    Out,
    In,
}

/// Whether anything ever came back on a session: a connection that opens and dies unused is a failure, one that served
/// and was closed while nothing was out is not.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Answered {
    #[default]
    Never,
    Once,
}

impl Sessions {
    pub fn open(&mut self, session: SessionId, receipts: bool) {
        self.open.entry(session).or_default().receipts = receipts;
    }

    /// None when the session was not open.
    pub fn close(&mut self, session: SessionId) -> Option<Answered> {
        let closed = self.open.remove(&session)?;
        self.credits -= u64::from(closed.credits);
        self.turns.retain(|other| *other != session);
        Some(closed.answered)
    }

    pub fn grant(&mut self, session: SessionId, count: u32) {
        let Some(holder) = self.open.get_mut(&session) else { return };
        let granted = count.min(limits::CREDITS_MAX.saturating_sub(holder.credits));
        holder.credits += granted;
        self.credits += u64::from(granted);
        if holder.credits > 0 && holder.in_turn == Turn::Out {
            holder.in_turn = Turn::In;
            self.turns.push_back(session);
        }
    }

    /// Whether the session is open.
    pub fn answered(&mut self, session: SessionId) -> bool {
        self.open.get_mut(&session).map(|holder| holder.answered = Answered::Once).is_some()
    }

    /// Spends a credit of `favourite` if it has one, else of the session whose turn it is.
    pub fn spend(&mut self, favourite: Option<SessionId>) -> Option<SessionId> {
        if self.credits == 0 {
            return None;
        }
        self.credits -= 1;
        if let Some(holder) = favourite.and_then(|session| self.open.get_mut(&session))
            && holder.credits > 0
        {
            holder.credits -= 1;
            return favourite;
        }
        self.take_turn()
    }

    /// Spends a credit of a session that takes receipts: the one of them whose turn comes first.
    pub fn spend_for_receipts(&mut self) -> Option<SessionId> {
        let takes =
            |session: &&SessionId| self.open.get(session).is_some_and(|holder| holder.receipts && holder.credits > 0);
        let session = *self.turns.iter().find(takes)?;
        self.spend(Some(session))
    }

    fn take_turn(&mut self) -> Option<SessionId> {
        while let Some(session) = self.turns.pop_front() {
            let Some(holder) = self.open.get_mut(&session) else { continue };
            if holder.credits > 1 {
                self.turns.push_back(session);
            } else {
                holder.in_turn = Turn::Out;
            }
            if holder.credits > 0 {
                holder.credits -= 1;
                return Some(session);
            }
        }
        None
    }

    pub fn count(&self) -> usize {
        self.open.len()
    }

    pub fn credits(&self) -> u64 {
        self.credits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(credits: &[(SessionId, u32)]) -> Sessions {
        let mut sessions = Sessions::default();
        for (session, count) in credits {
            sessions.open(*session, session % 2 == 0);
            sessions.grant(*session, *count);
        }
        sessions
    }

    fn drain(sessions: &mut Sessions, favourite: Option<SessionId>) -> Vec<SessionId> {
        std::iter::from_fn(|| sessions.spend(favourite)).collect()
    }

    #[test]
    fn sessions_take_turns_until_their_credits_are_spent() {
        assert_eq!(drain(&mut with(&[(1, 3), (2, 1), (3, 2)]), None), [1, 2, 3, 1, 3, 1]);
    }

    #[test]
    fn a_favourite_is_served_first_and_loses_its_turn_when_dry() {
        let mut sessions = with(&[(1, 2), (2, 2)]);
        assert_eq!(drain(&mut sessions, Some(2)), [2, 2, 1, 1]);
        sessions.grant(2, 1);
        assert_eq!(drain(&mut sessions, None), [2]);
    }

    #[test]
    fn a_session_without_credits_has_no_turn_until_it_gets_one() {
        let mut sessions = with(&[(1, 0), (2, 1)]);
        sessions.grant(1, 1);
        assert_eq!(drain(&mut sessions, None), [2, 1]);
        let mut sessions = with(&[(1, 1), (2, 2)]);
        assert_eq!((sessions.spend(None), sessions.spend(None)), (Some(1), Some(2)));
        sessions.grant(1, 1);
        assert_eq!(drain(&mut sessions, None), [2, 1], "its turn came when its credit was spent");
    }

    #[test]
    fn a_closed_or_unknown_session_gets_nothing() {
        let mut sessions = with(&[(1, 2), (2, 1)]);
        assert!(sessions.close(1) == Some(Answered::Never) && sessions.close(1).is_none());
        sessions.grant(1, 5);
        assert_eq!((sessions.credits(), sessions.count()), (1, 1));
        assert_eq!(drain(&mut sessions, Some(1)), [2]);
    }

    #[test]
    fn opening_twice_keeps_what_was_granted_and_credits_have_a_bound() {
        let mut sessions = with(&[(1, 2)]);
        sessions.open(1, false);
        assert_eq!(sessions.credits(), 2);
        sessions.grant(1, u32::MAX);
        assert_eq!(sessions.credits(), u64::from(limits::CREDITS_MAX));
    }

    #[test]
    fn receipts_go_only_to_sessions_that_take_them_and_cost_a_credit() {
        let mut sessions = with(&[(1, 2), (2, 1), (3, 1), (4, 1)]);
        let given: Vec<SessionId> = std::iter::from_fn(|| sessions.spend_for_receipts()).collect();
        assert_eq!((given, sessions.credits()), (vec![2, 4], 3));
        assert_eq!(drain(&mut sessions, None), [1, 3, 1]);
    }
}
