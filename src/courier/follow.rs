//! Decides how a gateway keeps up with what its hub carries: it watches, offers each note to its own board, and hands its
//! own member's notes in. Never believes the hub: a note that its owner did not sign changes nothing here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::dial::{Dialer, LineError};
use crate::clock::Clock;
use crate::directory::notes::{Carried, Doubt, Kind};
use crate::limits::{FOLLOW_PAUSE_MS, NOTES_STALE_MS};
use crate::noticeboard::{Noticeboard, OfferError, Offered, owner};
use crate::party::Member;
use crate::time::Time;
use crate::wire::notes::{Gathering, PieceError, Told};

/// A gateway's ear at its hub.
pub struct Follower {
    pub own: Member,
    pub hub: Member,
    pub dialer: Dialer,
    pub board: Arc<Noticeboard>,
    pub clock: Clock,
}

/// Why a watch ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Line(#[from] LineError),
    #[error("{0}")]
    Pieces(#[from] PieceError),
    #[error("the hub closed the stream")]
    Closed,
    #[error("{0}")]
    Broken(String),
}

/// What the hub has of our own, by kind: the version it told or took.
type Theirs = HashMap<Kind, u64>;

impl Follower {
    /// Follows until `stop`, while the hub is not suspended.
    pub async fn follow(self, stop: CancellationToken) {
        let following = self.board.while_exchanging(&self.hub, || self.keep_up());
        stop.run_until_cancelled(following).await;
    }

    /// Follows for ever. What is known holds however long the hub is silent; that it may be stale is told once for each
    /// silence.
    async fn keep_up(&self) {
        let (mut heard, mut warned, mut pause_ms) = (self.clock.now(), false, *FOLLOW_PAUSE_MS.start());
        loop {
            let before = heard;
            let ended = self.watch(&mut heard).await;
            if heard != before {
                (warned, pause_ms) = (false, *FOLLOW_PAUSE_MS.start());
            }
            let why = match ended {
                Ok(()) => "the hub closed the stream".to_owned(),
                Err(ended) => ended.to_string(),
            };
            tracing::info!(hub = %self.hub, why, "the watch for notes ended");
            let silent_ms = self.clock.now().ms().saturating_sub(heard.ms());
            if silent_ms >= NOTES_STALE_MS && !warned {
                warned = true;
                tracing::warn!(hub = %self.hub, silent_ms, "no word from the hub: directory and tables may be stale, and hold");
            }
            let pause = Duration::from_millis(jittered(pause_ms));
            pause_ms = (pause_ms * 2).min(*FOLLOW_PAUSE_MS.end());
            tokio::time::sleep(pause).await;
        }
    }

    /// Watches once, until the stream ends. `heard` is when the hub last spoke.
    async fn watch(&self, heard: &mut Time) -> Result<(), Ended> {
        let mut notes = self.dialer.watch_notes().await?;
        let (mut gathering, mut theirs, mut caught_up) = (Gathering::default(), Theirs::new(), false);
        let mut changes = self.board.changes();
        loop {
            let told = tokio::select! {
                told = notes.next() => told,
                // Our own people brought something: the hub is told, unless it is still telling us.
                changed = changes.changed(), if caught_up => {
                    changed.map_err(|_| Ended::Closed)?;
                    self.hand_in(&mut theirs).await?;
                    continue;
                }
            };
            *heard = self.clock.now();
            match told.map_err(Ended::Broken)? {
                None => return Ok(()),
                Some(Told::Piece(piece)) => {
                    if let Some(note) = gathering.add(piece)? {
                        self.offer(note, &mut theirs).await;
                    }
                }
                Some(Told::CaughtUp) => {
                    caught_up = true;
                    changes.mark_unchanged();
                    self.hand_in(&mut theirs).await?;
                }
            }
        }
    }

    async fn offer(&self, note: Carried, theirs: &mut Theirs) {
        let (kind, whose, version) = (note.kind, owner(&note), note.version);
        let ours = note.owner.as_ref() == Some(&self.own);
        let before = self.board.held_back();
        let board = self.board.clone();
        let offered = tokio::task::spawn_blocking(move || board.offer(&note)).await;
        // Only what we did sign ourselves says how far the hub is.
        if ours && matches!(&offered, Ok(Ok(_) | Err(OfferError::Doubt(Doubt::Older { .. })))) {
            theirs.insert(kind, version);
        }
        match offered {
            Ok(Ok(Offered::Taken)) => tracing::info!(%kind, owner = whose, version, "a note was taken from the hub"),
            Ok(Ok(Offered::Same)) => {}
            // Told once: the same note comes again with every new watch.
            Ok(Ok(Offered::HeldBack(why))) => {
                if !before.iter().any(|(_, known)| *known == why) {
                    tracing::error!(%kind, owner = whose, version, why, "a note is held back; the last good one stays");
                }
            }
            Ok(Err(OfferError::Doubt(doubt))) if doubt.alarms() => {
                tracing::error!(%kind, owner = whose, version, %doubt, hub = %self.hub, "a carried note is not believed");
            }
            Ok(Err(OfferError::Doubt(doubt))) => tracing::debug!(%kind, owner = whose, %doubt, "the hub lags behind"),
            Ok(Err(OfferError::Kept(fault))) => tracing::error!(%fault, "a note cannot be kept"),
            Err(fault) => tracing::error!(%fault, "a note was not judged"),
        }
    }

    /// Hands in what the hub does not have of our own.
    async fn hand_in(&self, theirs: &mut Theirs) -> Result<(), Ended> {
        for ((kind, whose), version) in self.board.versions() {
            if whose.as_ref() != Some(&self.own) || theirs.get(&kind).is_some_and(|known| *known >= version) {
                continue;
            }
            let Some(note) = self.board.note(&(kind, whose)) else { continue };
            match self.dialer.publish_note(&note).await {
                Ok(()) => tracing::info!(%kind, version, hub = %self.hub, "handed in an own note"),
                Err(LineError::Refused(status)) => {
                    tracing::error!(%kind, version, hub = %self.hub, why = status.message(), "the hub refused an own note");
                }
                Err(other) => return Err(other.into()),
            }
            theirs.insert(kind, version);
        }
        Ok(())
    }
}

/// Between half and all of it, so that gateways that lost their hub together do not come back together.
fn jittered(pause_ms: u64) -> u64 {
    let chance = crate::chance::bytes().map_or(0, u64::from_le_bytes);
    pause_ms / 2 + chance % (pause_ms / 2 + 1)
}
