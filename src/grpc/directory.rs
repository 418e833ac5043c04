//! Decides who reads the directory and the notes, and who brings them. Never vouches for one: its signatures do.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::admin::members::enforced;
use super::peer;
use super::record::Record;
use crate::audit::Deed;
use crate::directory::notes::{Carried, Kind};
use crate::limits::{NOTE_PIECES_WAITING_MAX, NOTE_READERS_MAX};
use crate::noticeboard::{Noticeboard, OfferError, Offered, Reader};
use crate::party::{Member, Party, Role};
use crate::reason::Reason;
use crate::wire::notes::{Gathering, PieceError, Told, answer, pieces};
use crate::wire::pb::directory as pb;
use crate::wire::pb::directory::directory_service_server::DirectoryService;
use crate::wire::status::{Refused, to_status};

/// The directory door: signed notes as their owners issued them.
#[derive(Clone)]
pub struct Directory {
    own: Member,
    board: Arc<Noticeboard>,
    readers: Arc<Semaphore>,
    record: Record,
    stop: CancellationToken,
}

/// What publishing a note is called in the audit.
const PUBLISH: &str = "note.publish";

type Answers = mpsc::Sender<Result<pb::WatchNotesResponse, Status>>;

#[tonic::async_trait]
impl DirectoryService for Directory {
    type WatchNotesStream = Pin<Box<dyn Stream<Item = Result<pb::WatchNotesResponse, Status>> + Send>>;

    async fn get_directory(
        &self,
        request: Request<pb::GetDirectoryRequest>,
    ) -> Result<Response<pb::GetDirectoryResponse>, Status> {
        self.reader(&request)?;
        let directory_note = self.board.note(&(Kind::Directory, None)).map(|carried| carried.note).unwrap_or_default();
        Ok(Response::new(pb::GetDirectoryResponse { directory_note }))
    }

    async fn watch_notes(
        &self,
        request: Request<pb::WatchNotesRequest>,
    ) -> Result<Response<Self::WatchNotesStream>, Status> {
        self.reader(&request)?;
        let Ok(place) = self.readers.clone().try_acquire_owned() else {
            return Err(to_status(&Refused::new(Reason::Busy).with_detail("as many readers of notes as allowed")));
        };
        let (answers, stream) = mpsc::channel(NOTE_PIECES_WAITING_MAX);
        let (board, stop) = (self.board.clone(), self.stop.clone());
        tokio::spawn(async move {
            let stopped = stop.run_until_cancelled(tell(&board, &answers)).await.is_none();
            if stopped {
                let _ = answers.send(Err(to_status(&Refused::new(Reason::ShuttingDown)))).await;
            }
            drop(place);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn publish_note(
        &self,
        request: Request<Streaming<pb::PublishNoteRequest>>,
    ) -> Result<Response<pb::PublishNoteResponse>, Status> {
        let peer = peer(&request)?;
        let mut steps = request.into_inner();
        let mut gathering = Gathering::default();
        let protocol =
            |fault: PieceError| to_status(&Refused::new(Reason::StreamProtocol).with_detail(fault.to_string()));
        let note = loop {
            let step = steps.message().await?.ok_or_else(|| protocol(PieceError::Cut))?;
            let gathered = gathering.add(step.piece.unwrap_or_default()).map_err(protocol)?;
            // Before all of it has come: nobody fills our memory with a note that they may not bring.
            if !may_bring(
                &self.own,
                &peer.party,
                gathering.owner().or(gathered.as_ref().and_then(|n| n.owner.as_ref())),
            ) {
                self.record.refused(&peer.party, PUBLISH, "", Reason::NotPermitted).await;
                return Err(to_status(&Refused::new(Reason::NotPermitted).with_detail("another member's note")));
            }
            if let Some(note) = gathered {
                break note;
            }
        };
        let object = format!("{} {}", note.kind, crate::noticeboard::owner(&note));
        let taken = self.take(note).await;
        // What gateways bring is no act of a person.
        if matches!(peer.party.role, Role::Ops(_)) {
            let refused = taken.as_ref().err().map(|refused| refused.reason.into());
            let (act, actor) = (PUBLISH.to_owned(), peer.party.to_string());
            let recorded = self.record.done(Deed { act, actor, object, refused, ..Deed::default() }).await;
            recorded.map_err(|refused| to_status(&refused))?;
            if let Ok(true) = taken {
                // People go by the answer: what they handed in is in force then.
                enforced(&self.board).await.map_err(|refused| to_status(&refused))?;
            }
        }
        let news = taken.map_err(|refused| to_status(&refused))?;
        Ok(Response::new(pb::PublishNoteResponse { news }))
    }
}

impl Directory {
    fn reader<T>(&self, request: &Request<T>) -> Result<(), Status> {
        if may_read(&self.own, &peer(request)?.party) {
            return Ok(());
        }
        Err(to_status(&Refused::new(Reason::NotPermitted).with_detail("notes are for gateways")))
    }

    /// The door of the gateway of `own`.
    pub fn new(own: Member, board: Arc<Noticeboard>, record: Record, stop: CancellationToken) -> Directory {
        Directory { own, board, readers: Arc::new(Semaphore::new(NOTE_READERS_MAX)), record, stop }
    }

    async fn take(&self, note: Carried) -> Result<bool, Refused> {
        let (board, kind, owner) = (self.board.clone(), note.kind, crate::noticeboard::owner(&note));
        // The disk blocks, and a caller that goes away does not stop what was begun.
        let offered = tokio::task::spawn_blocking(move || board.offer(&note)).await;
        let offered = offered.map_err(|fault| Refused::new(Reason::Internal).with_detail(fault.to_string()))?;
        match offered {
            Ok(Offered::Same) => Ok(false),
            Ok(Offered::Taken) => {
                tracing::info!(%kind, owner, "a note was published");
                Ok(true)
            }
            Ok(Offered::HeldBack(why)) => Err(Refused::new(Reason::NoteRefused).with_detail(why)),
            Err(OfferError::Doubt(doubt)) => {
                let older = !doubt.alarms();
                let reason = if older { Reason::NoteOlder } else { Reason::NoteRefused };
                Err(Refused::new(reason).with_detail(doubt.to_string()))
            }
            Err(OfferError::Kept(fault)) => {
                tracing::error!(%fault, "a note cannot be kept");
                Err(Refused::new(Reason::StoreUnavailable))
            }
        }
    }
}

/// Gateways read, and everybody at their own gateway.
pub(super) fn may_read(own: &Member, party: &Party) -> bool {
    party.role == Role::Gateway || party.member == *own
}

/// A member's gateway brings that member's notes; those who operate this gateway bring any. What it says is asked of its
/// signature in either case.
fn may_bring(own: &Member, party: &Party, owner: Option<&Member>) -> bool {
    match &party.role {
        Role::Gateway => owner == Some(&party.member),
        Role::Ops(_) => party.member == *own,
        Role::System(_) | Role::Auditor(_) => false,
    }
}

/// Tells a reader everything, and then what changes, until the reader goes away.
async fn tell(board: &Noticeboard, answers: &Answers) {
    let (mut reader, mut changes) = (Reader::default(), board.changes());
    loop {
        // Seen before the notes are read: a change meanwhile is read now or waited for no longer.
        changes.mark_unchanged();
        while let Some(note) = reader.next(board) {
            for piece in pieces(&note) {
                if answers.send(Ok(answer(Told::Piece(piece)))).await.is_err() {
                    return;
                }
            }
        }
        if answers.send(Ok(answer(Told::CaughtUp))).await.is_err() {
            return;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = answers.closed() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_from_their_owners_gateway_or_from_our_own_people() {
        let party = |text: &str| format!("spiffe://alliance.example/{text}").parse::<Party>().unwrap();
        let hub: Member = "hub/main".parse().unwrap();
        for (who, owner, reads, brings) in [
            ("city/450200/gateway", Some("450200"), true, true),
            ("city/450200/gateway", Some("440600"), true, false),
            ("city/450200/gateway", None, true, false),
            ("hub/other", Some("450200"), true, false),
            ("hub/main/ops/li", Some("450200"), true, true),
            ("hub/main/ops/li", None, true, true),
            ("hub/main/auditor/li", Some("hub/main"), true, false),
            ("city/450200/ops/li", Some("450200"), false, false),
            ("city/450200/system/window", Some("450200"), false, false),
        ] {
            let owner = owner.map(|owner| owner.parse::<Member>().unwrap());
            assert_eq!(may_read(&hub, &party(who)), reads, "{who}");
            assert_eq!(may_bring(&hub, &party(who), owner.as_ref()), brings, "{who} {owner:?}");
        }
    }
}
