//! Decides how a sender's withdrawal is answered: found among its own messages, handed in where the message waits, and told
//! as it came out. Whether it is in time is the lane's to say, and only the ledger makes it true.

use tokio::sync::oneshot;

use crate::courier::{Cancelled, Ground, Order};
use crate::evidence::{Evidence, State};
use crate::id::MessageId;
use crate::party::{Member, Party, Role};
use crate::reason::Reason;
use crate::receipt::Receipt;
use crate::store::{Error, Key, LaneName, Seq};
use crate::wire::envelope::Faults;
use crate::wire::status::Refused;

/// Where a message stands that is to be withdrawn.
enum Found {
    /// It waits in this lane.
    Waits { seq: Seq, lane: LaneName },
    /// It was withdrawn before.
    Cancelled(Box<Receipt>),
    /// The next hop or the recipient's mailbox has it, or it has ended.
    Taken,
}

/// Withdraws the message with this id that `party` sent: its `CANCELLED` receipt, the same however often it is asked.
///
/// # Errors
/// `INVALID_ENVELOPE` (the id does not parse), `MESSAGE_NOT_FOUND` (unknown, or not sent by the caller), `ALREADY_TAKEN`,
/// `CANCEL_IN_DOUBT`, `STORE_UNAVAILABLE`.
pub async fn cancel(ground: &Ground, party: &Party, message_id: &str) -> Result<Receipt, Refused> {
    let mut faults = Faults::default();
    let id = faults.need("message_id", message_id);
    let id: MessageId = faults.or(id).map_err(Refused::faults)?;
    // It may go to another lane while it is asked about in one, and wait there: that is seen to once.
    for again in [true, false] {
        let (seq, lane) = match find(ground, party, id).await? {
            Found::Cancelled(receipt) => return Ok(*receipt),
            Found::Taken => return Err(Refused::new(Reason::AlreadyTaken)),
            Found::Waits { seq, lane } => (seq, lane),
        };
        match ask(ground, &lane, seq).await {
            Some(Cancelled::Done(receipt)) => return Ok(*receipt),
            Some(Cancelled::TooLate) if again => {}
            Some(Cancelled::TooLate) => return Err(Refused::new(Reason::AlreadyTaken)),
            Some(Cancelled::InDoubt) | None if again && has_moved(ground, party, id, &lane).await? => {}
            Some(Cancelled::InDoubt) | None => break,
        }
    }
    Err(Refused::new(Reason::CancelInDoubt))
}

async fn ask(ground: &Ground, lane: &LaneName, seq: Seq) -> Option<Cancelled> {
    let (reply, answer) = oneshot::channel();
    ground.desk.hand_in(lane, Order::Cancel { seq, reply }).ok()?;
    answer.await.ok()
}

/// Whether the message waits elsewhere than in `lane`, or has ended.
async fn has_moved(ground: &Ground, party: &Party, id: MessageId, lane: &LaneName) -> Result<bool, Refused> {
    Ok(match find(ground, party, id).await? {
        Found::Waits { lane: now, .. } => now != *lane,
        Found::Cancelled(_) | Found::Taken => true,
    })
}

async fn find(ground: &Ground, party: &Party, id: MessageId) -> Result<Found, Refused> {
    let hidden = || Refused::new(Reason::MessageNotFound);
    let (Role::System(system), Member::City(city)) = (&party.role, &party.member) else { return Err(hidden()) };
    if party.member != ground.own {
        return Err(hidden());
    }
    let (system, key) = (system.clone(), Key { from_city: city.clone(), id });
    let found = ground.readers.seek(move |look| {
        let Some(head) = look.head(&key)? else { return Ok(None) };
        let newest = Evidence::from_leaf(&head.base.1).map_err(|error| Error::Damaged(error.to_string()))?;
        if newest.from.system.as_ref() != Some(&system) {
            return Ok(None);
        }
        Ok(Some(match head.lane {
            // No full leaf follows the one that withdraws a message; a handover that is heard of later wins over it.
            _ if head.standing.state == State::Cancelled => Found::Cancelled(Box::new(look.receipt(head.base.0)?)),
            LaneName::Gateway(_) if head.queued => Found::Waits { seq: head.seq, lane: head.lane },
            LaneName::Gateway(_) | LaneName::System(_) => Found::Taken,
        }))
    });
    let found = found.await.map_err(|error| {
        tracing::error!(%error, "the store cannot be read");
        Refused::new(Reason::StoreUnavailable)
    })?;
    found.ok_or_else(hidden)
}
