//! Decides who sees a message: a system its own, a partner gateway those between the two cities, a hub those that it
//! carried, the city's own ops all. To everybody else it looks like one that does not exist.

use std::sync::Arc;

use crate::message::Address;
use crate::party::{Division, Member, Party, Role};
use crate::reason::Reason;
use crate::store::{Error, Key, Readers, Snapshot, Stored};
use crate::wire::envelope::{Faults, join};
use crate::wire::pb::exchange as pb;
use crate::wire::status::Refused;

/// A message as a caller sees it.
pub struct View {
    pub stored: Stored,
    /// The envelope without content.
    pub envelope: pb::Envelope,
}

/// Looks a message up for `party` and lets `more` look on in the same snapshot.
pub async fn look<T: Send + 'static>(
    readers: &Arc<Readers>,
    own: &Member,
    party: &Party,
    (from_city, message_id): (String, String),
    more: impl FnOnce(&Snapshot<'_>, &Stored) -> Result<T, crate::store::Error> + Send + 'static,
) -> Result<(View, T), Refused> {
    let mut faults = Faults::default();
    let asked = faults.parse("from_city", &from_city);
    let id = faults.need("message_id", &message_id);
    let id = faults.or(id).map_err(Refused::faults)?;
    let from_city = match (asked, &party.member) {
        (Some(city), _) => city,
        (None, Member::City(city)) => city.clone(),
        (None, Member::Hub(_)) => return Err(Refused::new(Reason::MessageNotFound)),
    };
    let key = Key { from_city, id };
    let (own, party) = (own.clone(), party.clone());
    // Who may not see it is told so before anything more is read: neither words nor time tell what exists.
    let found = readers.seek(move |look| {
        let Some(head) = look.head(&key)? else { return Ok(None) };
        let Some(stored) = look.message(head.seq)? else { return Ok(None) };
        let envelope = join(&stored.header, None).map_err(|error| Error::Damaged(error.to_string()))?;
        let from_system = envelope.from.as_ref().map_or("", |from| from.system.as_str());
        if !sees(&party, &own, (&stored.key.from_city, from_system), &stored.recipient, &stored.via) {
            return Ok(None);
        }
        let more = more(look, &stored)?;
        Ok(Some((View { stored, envelope }, more)))
    });
    let found = found.await.map_err(|error| {
        tracing::error!(%error, "the store cannot be read");
        Refused::new(Reason::StoreUnavailable)
    })?;
    found.ok_or_else(|| Refused::new(Reason::MessageNotFound))
}

/// Whether `party` may see a message from a city's system to a recipient, which came by these hubs.
pub fn sees(party: &Party, own: &Member, from: (&Division, &str), recipient: &Address, via: &[Member]) -> bool {
    match (&party.role, &party.member) {
        (Role::System(name), Member::City(city)) if party.member == *own => {
            let sent = from == (city, name.as_str());
            let received = recipient.city == *city && recipient.system.as_ref() == Some(name);
            sent || received
        }
        (Role::Gateway, Member::City(city)) => from.0 == city || recipient.city == *city,
        // It must learn whether what it carried arrived: told that nobody knows it, it would say that it did not.
        (Role::Gateway, hub @ Member::Hub(_)) => via.contains(hub),
        (Role::Ops(_), member) => member == own,
        _ => false,
    }
}

/// Whether there may be messages that `party` sees at the gateway of `own` at all.
pub fn may_see(party: &Party, own: &Member) -> bool {
    match party.role {
        Role::Gateway => true,
        Role::System(_) | Role::Ops(_) => party.member == *own,
        Role::Auditor(_) => false,
    }
}
