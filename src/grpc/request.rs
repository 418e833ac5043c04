//! Decides how a request waits for its reply: submitted like any message, then told the reply, which is handed over before
//! it is answered. Never takes a reply for a caller that has gone: until it is claimed it lies in the caller's mailbox.
//!
//! A caller that goes after that moment asks again: the same request gets the same reply, and its same receipt.

use std::time::Duration;

use tokio::sync::watch as bell;
use tokio::time::{Instant, sleep_until};

use super::exchange::Exchange;
use super::front::Deadline;
use super::watch::Bell;
use crate::evidence::{Event, Evidence, State};
use crate::ledger::Bells;
use crate::limits::{REQUEST_MARGIN_MS, REQUEST_MS_MAX};
use crate::party::{Division, Member, Name, Party, Role};
use crate::reason::Reason;
use crate::receipt::Receipt;
use crate::store::{Error, Key, LaneName, Seq, Snapshot, Stored};
use crate::wire::envelope::{join, outline};
use crate::wire::pb::exchange as pb;
use crate::wire::receipt::to_wire;
use crate::wire::status::Refused;

/// Submits a message and waits for its reply until the call's deadline.
///
/// # Errors
/// As `Submit`; `NOT_PERMITTED` to all but systems of the own city; `TOO_MANY_WAITERS`; `DEADLINE_EXCEEDED`,
/// `SHUTTING_DOWN` and `REPLY_GONE` with the request's receipt.
pub async fn request(
    door: &Exchange,
    party: &Party,
    deadline: Option<Deadline>,
    asked: pb::RequestRequest,
) -> Result<pb::RequestResponse, Refused> {
    let (Role::System(system), Member::City(city)) = (&party.role, &party.member) else {
        return Err(Refused::new(Reason::NotPermitted).with_detail("only systems send requests"));
    };
    let _place = door.waiters.wait(party)?;
    let until = until(deadline);
    let message_id = asked.envelope.as_ref().map(|envelope| envelope.message_id.clone()).unwrap_or_default();
    // The bell hangs before the request is there: no reply can come unheard.
    let bell = message_id.parse().ok().map(|id| Awaited::hang(door, Key { from_city: city.clone(), id }));
    let submission = pb::SubmitRequest { envelope: asked.envelope, ..Default::default() };
    let receipt = door.submit_one(party, submission).await?;
    // What does not parse was refused just now.
    let Some(mut bell) = bell else { return Err(Refused::new(Reason::Internal)) };
    let awaited = reply(door, system, city, &mut bell, until).await;
    let (reply, reply_receipt) = awaited.map_err(|refused| Refused { receipt: Some(receipt.clone()), ..refused })?;
    Ok(pb::RequestResponse {
        receipt: Some(to_wire(receipt)),
        reply: Some(reply),
        reply_receipt: Some(to_wire(reply_receipt)),
    })
}

/// When the answer must be given: before the caller stops listening.
fn until(deadline: Option<Deadline>) -> Instant {
    let now = Instant::now();
    let deadline = deadline.map_or(now + Duration::from_millis(REQUEST_MS_MAX), |deadline| deadline.0);
    let left = deadline.saturating_duration_since(now);
    deadline - (left / 4).min(Duration::from_millis(REQUEST_MARGIN_MS))
}

/// What is known of a reply.
enum Reply {
    /// It waits, or is out: the message, to be claimed.
    Waits(Box<Stored>),
    /// It was handed over to the caller.
    HandedOver(Receipt),
    /// It will not come this way.
    Gone,
}

async fn reply(
    door: &Exchange,
    system: &Name,
    city: &Division,
    bell: &mut Awaited,
    until: Instant,
) -> Result<(pb::Message, Receipt), Refused> {
    let seq = in_time(door, until, arrived(door, bell)).await??;
    let lane = LaneName::System(system.clone());
    let mailbox = door.mailboxes.get(&lane).map(|mailbox| mailbox.clone());
    // Hung before the reply is looked at, like the other.
    let mut changes = Bell::hang(door.ground.ledger.bells(), seq);
    loop {
        let (city, system) = (city.clone(), system.clone());
        let named = system.clone();
        let found = door.ground.readers.seek(move |look| standing(look, seq, &city, &named)).await;
        match found.map_err(|error| unavailable(&error))? {
            Reply::Gone => return Err(Refused::new(Reason::ReplyGone)),
            Reply::HandedOver(receipt) => return Ok((content(door, seq).await?, receipt)),
            Reply::Waits(stored) => {
                let outline = outline(&stored.header).map_err(|_| Refused::new(Reason::Internal))?;
                let now = door.ground.clock.now();
                if !door.ground.rules.load().lets_have(&system, &stored, &outline, now) {
                    return Err(Refused::new(Reason::NotPermitted).with_detail("no rule in force gives you the reply"));
                }
                let Some(mailbox) = &mailbox else { return Err(Refused::new(Reason::ReplyGone)) };
                // From here on the reply is the caller's, whether its time is over or not.
                if let Some(receipt) = mailbox.claim(seq, stored.expires_at).await {
                    return Ok((content(door, seq).await?, receipt));
                }
            }
        }
        // A receiving stream has it, or its fate is being written.
        let _ = in_time(door, until, changes.rings.changed()).await?;
    }
}

/// Waits for something as long as the call may.
async fn in_time<T>(door: &Exchange, until: Instant, awaited: impl Future<Output = T>) -> Result<T, Refused> {
    tokio::select! {
        biased;
        came = awaited => Ok(came),
        () = sleep_until(until) => {
            Err(Refused::new(Reason::DeadlineExceeded).with_detail("the request is accepted, its reply comes by the mailbox"))
        }
        () = door.stop.cancelled() => Err(Refused::new(Reason::ShuttingDown)),
    }
}

/// Waits for the place of the reply, which may have come before.
async fn arrived(door: &Exchange, bell: &mut Awaited) -> Result<Seq, Refused> {
    let key = bell.request.clone();
    let known = door.ground.readers.seek(move |look| replied(look, &key)).await;
    if let Some(seq) = known.map_err(|error| unavailable(&error))? {
        return Ok(seq);
    }
    let rung = bell.rings.wait_for(Option::is_some).await.ok().and_then(|seq| *seq);
    rung.ok_or_else(|| Refused::new(Reason::ShuttingDown))
}

fn replied(look: &Snapshot<'_>, request: &Key) -> Result<Option<Seq>, Error> {
    let Some(head) = look.head(request)? else { return Ok(None) };
    let Some(stored) = look.message(head.seq)? else { return Ok(None) };
    let Some(id) = stored.replied_by else { return Ok(None) };
    Ok(look.head(&Key { from_city: stored.recipient.city, id })?.map(|reply| reply.seq))
}

fn standing(look: &Snapshot<'_>, seq: Seq, city: &Division, system: &Name) -> Result<Reply, Error> {
    let Some(stored) = look.message(seq)? else { return Ok(Reply::Gone) };
    if stored.recipient.city != *city || stored.recipient.system.as_ref() != Some(system) || stored.body.is_none() {
        return Ok(Reply::Gone);
    }
    if !stored.standing.state.is_final() {
        return Ok(Reply::Waits(Box::new(stored)));
    }
    let Some(head) = look.head(&stored.key)?.filter(|head| head.standing.state == State::Confirmed) else {
        return Ok(Reply::Gone);
    };
    let newest = Evidence::from_leaf(&head.base.1).map_err(|error| Error::Damaged(error.to_string()))?;
    match newest.event {
        Event::HandedOver => Ok(Reply::HandedOver(look.receipt(head.base.0)?)),
        _ => Ok(Reply::Gone),
    }
}

/// The reply as it is handed over.
async fn content(door: &Exchange, seq: Seq) -> Result<pb::Message, Refused> {
    let (mut stored, origin) = door.ground.message(seq).await.map_err(|error| unavailable(&error))?;
    let body = stored.body.take().ok_or_else(|| Refused::new(Reason::ReplyGone))?;
    let envelope = join(&stored.header, Some(body)).map_err(|_| Refused::new(Reason::Internal))?;
    let via = stored.via.iter().map(Member::to_string).collect();
    Ok(pb::Message { envelope: Some(envelope), origin_receipt: Some(to_wire(origin)), via })
}

fn unavailable(error: &Error) -> Refused {
    tracing::error!(%error, "the store cannot be read");
    Refused::new(Reason::StoreUnavailable)
}

/// The bell of a reply, taken down when nobody waits any more.
struct Awaited {
    rings: bell::Receiver<Option<Seq>>,
    bells: Bells,
    request: Key,
}

impl Awaited {
    fn hang(door: &Exchange, request: Key) -> Awaited {
        let bells = door.ground.ledger.bells().clone();
        Awaited { rings: bells.reply(&request), bells, request }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        // Our own end still counts as a listener until it is gone.
        let (_, silent) = bell::channel(None);
        drop(std::mem::replace(&mut self.rings, silent));
        self.bells.stop_waiting(&self.request);
    }
}
