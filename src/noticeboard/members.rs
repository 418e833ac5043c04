//! Decides what our own people may decide about members: that nothing is exchanged with one for a while, and that a changed
//! key is a member's own. Kept on disk before it holds. Never decides anything by itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use super::{Noticeboard, OfferError, Offered, State};
use crate::directory::notes::{Carried, Kind};
use crate::directory::{Believed, Decisions, KeyChange, Suspension, fingerprint, same_fingerprint};
use crate::party::Member;
use crate::store::NotesError;

/// The newest change that somebody tried to put in force, and why it could not be; what held before holds then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InForce {
    pub change: u64,
    pub fault: Option<String>,
}

/// A member's changed key that nobody has approved yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldKey {
    pub member: Member,
    /// The version of the directory that waits for it.
    pub version: u64,
    /// Fingerprint of the key at hand.
    pub held: String,
    /// Fingerprint of the new key.
    pub found: String,
}

/// Why a changed key is not approved.
#[derive(Debug, thiserror::Error)]
pub enum ApproveError {
    #[error("no changed key of {0} is held back")]
    NothingHeld(Member),
    #[error("the key that is held back has another fingerprint")]
    Fingerprint,
    #[error(transparent)]
    Kept(#[from] NotesError),
}

impl Noticeboard {
    /// What was decided here about members.
    pub fn decisions(&self) -> Decisions {
        self.state().board.decisions().clone()
    }

    /// The members with which nothing is exchanged now.
    pub fn suspended(&self) -> BTreeSet<Member> {
        self.state().board.decisions().suspended()
    }

    /// Suspends a member; whether it was not before. Durable on return. Blocks on the disk.
    ///
    /// # Errors
    /// A disk that does not take it; nothing has changed then.
    pub fn suspend(&self, member: &Member, suspension: Suspension) -> Result<bool, NotesError> {
        self.decide(|decisions| match decisions.suspended.contains_key(member) {
            true => false,
            false => decisions.suspended.insert(member.clone(), suspension).is_none(),
        })
    }

    /// Ends a member's suspension; whether there was one. Durable on return. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Noticeboard::suspend`].
    pub fn resume(&self, member: &Member) -> Result<bool, NotesError> {
        self.decide(|decisions| decisions.suspended.remove(member).is_some())
    }

    /// Changed keys that wait for somebody's approval.
    pub fn held_keys(&self) -> Vec<HeldKey> {
        self.state().held_keys()
    }

    /// Believes that a changed key that is held back is the member's own, and offers the directory again that brings it: what
    /// became of it. It may still wait for another member's key. Durable on return. Blocks on the disk.
    ///
    /// # Errors
    /// No such key is held back, or a disk that does not take it; nothing has changed then.
    pub fn approve(
        &self,
        member: &Member,
        whole_fingerprint: &str,
        by: String,
    ) -> Result<Result<Offered, OfferError>, ApproveError> {
        let state = &mut self.state();
        let keys = state.held_keys();
        let key = keys.iter().find(|key| key.member == *member);
        let key = key.ok_or_else(|| ApproveError::NothingHeld(member.clone()))?;
        if !same_fingerprint(&key.found, whole_fingerprint) {
            return Err(ApproveError::Fingerprint);
        }
        let carried = state.changes_key.clone().ok_or_else(|| ApproveError::NothingHeld(member.clone()))?;
        let mut decisions = state.board.decisions().clone();
        decisions.keys.insert(member.clone(), Believed { fingerprint: key.found.clone(), by: Some(by) });
        self.notes.decide(&decisions)?;
        state.board.decide(decisions);
        Ok(self.offer_in(state, &carried))
    }

    /// Says how far what stands here is in force; whoever puts it there does.
    pub fn put_in_force(&self, change: u64, fault: Option<String>) {
        self.in_force.send_replace(InForce { change, fault });
    }

    /// Waits until all that stands here now was put in force, or could not be: why not then. Never ends where nobody puts
    /// anything in force.
    pub async fn enforced(&self) -> Option<String> {
        let change = *self.changes.borrow();
        let mut in_force = self.in_force.subscribe();
        let reached = in_force.wait_for(|now| now.change >= change).await;
        reached.ok().and_then(|now| now.fault.clone())
    }

    /// Runs work with a member while it is not suspended: ends it when it is, and begins it anew when it no longer is.
    pub async fn while_exchanging<F: Future<Output = ()>>(self: &Arc<Self>, member: &Member, work: impl Fn() -> F) {
        loop {
            self.until(member, false).await;
            tokio::select! {
                () = self.until(member, true) => {}
                () = work() => return,
            }
        }
    }

    /// Waits until the member is suspended, or is not.
    async fn until(&self, member: &Member, suspended: bool) {
        let mut changes: watch::Receiver<u64> = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            if self.state().board.decisions().suspended.contains_key(member) == suspended {
                return;
            }
            // The sender lives as long as this board.
            let _ = changes.changed().await;
        }
    }

    fn decide(&self, decide: impl FnOnce(&mut Decisions) -> bool) -> Result<bool, NotesError> {
        let mut state = self.state();
        let mut decisions = state.board.decisions().clone();
        let changed = decide(&mut decisions);
        if changed {
            self.notes.decide(&decisions)?;
            state.board.decide(decisions);
            self.changes.send_modify(|change| *change += 1);
        }
        Ok(changed)
    }
}

impl State {
    /// The newest directory waits until its changed keys are approved.
    pub(super) fn wait_for_approval(&mut self, carried: &Carried) {
        if self.changes_key.as_ref().is_none_or(|waits| waits.version < carried.version) {
            self.changes_key = Some(carried.clone());
        }
    }

    fn held_keys(&self) -> Vec<HeldKey> {
        let newer = |waits: &&Carried| waits.version > self.board.signed().version();
        let Some(waits) = self.changes_key.as_ref().filter(newer) else { return vec![] };
        let decisions = self.board.decisions();
        let open = |change: &KeyChange| !change.by_old_key && !decisions.believe(&change.member, &change.found);
        let key = |change: KeyChange| HeldKey {
            version: waits.version,
            held: fingerprint(&change.held),
            found: fingerprint(&change.found),
            member: change.member,
        };
        self.board.changed_keys(waits).into_iter().filter(open).map(key).collect()
    }

    /// The decisions as they are once a directory is taken that changes keys by the old keys' word; none where it does not.
    pub(super) fn decided_with(&self, carried: &Carried) -> Option<Decisions> {
        if carried.kind != Kind::Directory {
            return None;
        }
        let mut decisions = self.board.decisions().clone();
        let by_old_key = self.board.changed_keys(carried).into_iter().filter(|change| change.by_old_key);
        for change in by_old_key {
            let believed = Believed { fingerprint: fingerprint(&change.found), by: None };
            decisions.keys.insert(change.member, believed);
        }
        (decisions != *self.board.decisions()).then_some(decisions)
    }
}
