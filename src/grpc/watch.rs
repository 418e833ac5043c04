//! Decides how the history of a message is told: in the order in which it became known here, once, and on and on until the
//! message has ended. Never changes the order: what was told stands before what is told later, over reconnects too.
//!
//! The stream ends when the state is final and all that is known has been told. A state other than `CONFIRMED` may still
//! be overtaken by a late handover: whoever must know asks again.

use tokio::sync::{mpsc, watch as bell};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::exchange::Exchange;
use super::view;
use super::waiters::Place;
use crate::evidence::{Event, Standing, State};
use crate::ledger::Bells;
use crate::party::Party;
use crate::reason::Reason;
use crate::store::{Entry, Seq, Snapshot};
use crate::wire::envelope::{Faults, time_to_wire};
use crate::wire::pb::exchange as pb;
use crate::wire::status::{Refused, to_status};

type Answers = mpsc::Sender<Result<pb::WatchMessageResponse, Status>>;

/// Tells the history of one message that `party` may see, from the entry after `after` on.
///
/// # Errors
/// As `GetMessage`; `INVALID_ENVELOPE` when `after` names no entry, `TOO_MANY_WAITERS`.
pub async fn watch(
    door: &Exchange,
    party: &Party,
    asked: pb::WatchMessageRequest,
) -> Result<impl Stream<Item = Result<pb::WatchMessageResponse, Status>> + use<>, Refused> {
    let place = door.waiters.wait(party)?;
    let key = (asked.from_city, asked.message_id);
    let (view, history) =
        view::look(&door.ground.readers, &door.own, party, key, |look, stored| look.history(stored.seq)).await?;
    let told = position(&history, &asked.after)?;
    let (answers, stream) = mpsc::channel(2);
    let (door, seq) = (door.clone(), view.stored.seq);
    tokio::spawn(async move {
        let stop = door.stop.clone();
        let ended = tokio::select! {
            ended = follow(&door, seq, told, place, &answers) => ended,
            () = answers.closed() => return,
            () = stop.cancelled() => Err(Refused::new(Reason::ShuttingDown)),
        };
        if let Err(refused) = ended {
            let _ = answers.try_send(Err(to_status(&refused)));
        }
    });
    Ok(ReceiverStream::new(stream))
}

/// How many entries the caller has.
fn position(history: &[Entry], after: &str) -> Result<usize, Refused> {
    if after.is_empty() {
        return Ok(0);
    }
    let place = history.iter().position(|entry| entry.evidence.id.to_string() == after);
    place.map(|place| place + 1).ok_or_else(|| {
        let mut faults = Faults::default();
        faults.add("after", "must be the receipt_id of an entry of this message's history");
        Refused::faults(faults.or::<()>(None).err().unwrap_or_default())
    })
}

async fn follow(door: &Exchange, seq: Seq, mut told: usize, _place: Place, answers: &Answers) -> Result<(), Refused> {
    // The bell hangs before the history is read: what comes in between rings it.
    let mut bell = Bell::hang(door.ground.ledger.bells(), seq);
    loop {
        let read = door.ground.readers.seek(move |look| known(look, seq)).await;
        let read = read.map_err(|error| {
            tracing::error!(%error, "the store cannot be read");
            Refused::new(Reason::StoreUnavailable)
        })?;
        // Retention has taken all of it.
        let Some((history, now)) = read else { return Ok(()) };
        let stood = standings(&history, now);
        for (entry, standing) in history.iter().zip(stood).skip(told) {
            let answer = pb::WatchMessageResponse {
                entry: Some(entry_to_wire(entry)),
                state: standing.state as i32,
                in_doubt: standing.in_doubt,
                late: standing.late,
            };
            if answers.send(Ok(answer)).await.is_err() {
                return Ok(());
            }
        }
        told = told.max(history.len());
        if now.state.is_final() || bell.rings.changed().await.is_err() {
            return Ok(());
        }
    }
}

fn known(look: &Snapshot<'_>, seq: Seq) -> Result<Option<(Vec<Entry>, Standing)>, crate::store::Error> {
    let Some(stored) = look.message(seq)? else { return Ok(None) };
    Ok(Some((look.history(seq)?, stored.standing)))
}

/// Where the message stood after each entry. From the last that tells something on it stands where the store says. A
/// partner's refusal that more followed was not the end: another candidate was tried.
fn standings(history: &[Entry], now: Standing) -> Vec<Standing> {
    let tells = |entry: &Entry| entry.evidence.event != Event::Witnessed;
    let last = history.iter().rposition(tells).unwrap_or(0);
    let mut at = Standing::from(State::Accepted);
    let mut stood = Vec::with_capacity(history.len());
    for (place, entry) in history.iter().enumerate() {
        let evidence = &entry.evidence;
        let next = history[place + 1..].iter().find(|entry| tells(entry)).map(|entry| entry.evidence.event);
        let noted = evidence.event == Event::RelayRejected && next.is_some_and(|next| next != Event::HandedOver);
        at.in_doubt |= evidence.reasons.contains(&Reason::InDoubt.into()) && !at.state.is_final();
        at = at.after(evidence.event).filter(|_| !noted).unwrap_or(at);
        if place >= last {
            at = now;
        }
        stood.push(at);
    }
    stood
}

/// One entry of a history.
pub fn entry_to_wire(entry: &Entry) -> pb::HistoryEntry {
    let evidence = &entry.evidence;
    pb::HistoryEntry {
        event: evidence.event as i32,
        time: Some(time_to_wire(evidence.at)),
        issuer: evidence.issuer.to_string(),
        receipt_id: evidence.id.to_string(),
        reasons: evidence.reasons.iter().chain(&evidence.token).map(|code| code.as_str().to_owned()).collect(),
        detail: entry.text.clone().unwrap_or_default(),
        next_attempt_at: evidence.next_attempt_at.map(time_to_wire),
    }
}

/// A message's bell, taken down when nobody listens any more.
pub struct Bell {
    pub rings: bell::Receiver<u64>,
    bells: Bells,
    message: Seq,
}

impl Bell {
    pub fn hang(bells: &Bells, message: Seq) -> Bell {
        Bell { rings: bells.watch(message), bells: bells.clone(), message }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        // Our own end still counts as a listener until it is gone.
        let (_, silent) = bell::channel(0);
        drop(std::mem::replace(&mut self.rings, silent));
        self.bells.unwatch(self.message);
    }
}
