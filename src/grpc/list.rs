//! Decides which messages are on a page and where the next one begins. A page begins before a place in the gateway, and
//! places are given once and ascending: what arrives meanwhile is on no page twice, and nothing is left out.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::exchange::Exchange;
use super::view::{may_see, sees};
use crate::evidence::State;
use crate::limits::{LIST_EXAMINED_MAX, PAGE_MESSAGES};
use crate::message::{ItemCode, TEST_ITEM};
use crate::party::Party;
use crate::reason::Reason;
use crate::store::{Error, Listed, Reach, Seq, Sift};
use crate::wire::envelope::{Faults, address_to_wire, join, sent, time_to_wire};
use crate::wire::pb::exchange as pb;
use crate::wire::status::Refused;

/// The form of a page token; another form is another number.
const TOKEN_VERSION: u8 = 1;
/// Bytes of what tells one filter from another.
pub const MARK_BYTES: usize = 8;

/// What is asked of each message.
struct Wanted {
    sift: Sift,
    item_code: Option<ItemCode>,
}

/// One page of the messages that `party` may see.
///
/// # Errors
/// `NOT_PERMITTED` to who sees no message here; `INVALID_ENVELOPE` naming every faulty field of the filter, and the token where it is no token of this filter;
/// `STORE_UNAVAILABLE`.
pub async fn list(
    door: &Exchange,
    party: &Party,
    asked: pb::ListMessagesRequest,
) -> Result<pb::ListMessagesResponse, Refused> {
    if !may_see(party, &door.own) {
        return Err(Refused::new(Reason::NotPermitted).with_detail("this identity sees no messages here"));
    }
    let filter = asked.filter.unwrap_or_default();
    let mark = mark(&filter);
    let mut faults = Faults::default();
    let wanted = wanted(&mut faults, filter);
    let before = (!asked.page_token.is_empty()).then(|| place(&asked.page_token, mark));
    if before == Some(None) {
        faults.add("page_token", "must be the next_page_token of a page with the same filter");
    }
    let wanted = faults.or(wanted).map_err(Refused::faults)?;
    let count = match asked.page_size as usize {
        0 => PAGE_MESSAGES.0,
        count => count.min(PAGE_MESSAGES.1),
    };
    let reach = Reach { before: before.flatten(), count, examined: LIST_EXAMINED_MAX };
    let (own, party) = (door.own.clone(), party.clone());
    let page = door.ground.readers.seek(move |look| {
        look.list(&wanted.sift, reach, |listed| {
            let envelope = join(&listed.header, None).map_err(|error| Error::Damaged(error.to_string()))?;
            let from_system = envelope.from.as_ref().map_or("", |from| from.system.as_str());
            // A hub lists nothing: what it carried it asks about one by one.
            let seen = sees(&party, &own, (&listed.key.from_city, from_system), &listed.recipient, &[]);
            Ok((seen && wanted.is(&envelope)).then(|| summary(listed, envelope)))
        })
    });
    let (messages, next) = page.await.map_err(|error| {
        tracing::error!(%error, "the store cannot be read");
        Refused::new(Reason::StoreUnavailable)
    })?;
    let next_page_token = next.map(|seq| token(seq, mark)).unwrap_or_default();
    Ok(pb::ListMessagesResponse { messages, next_page_token })
}

impl Wanted {
    /// The gateways' own test messages are shown to whoever asks for them alone.
    fn is(&self, envelope: &pb::Envelope) -> bool {
        match &self.item_code {
            Some(item) => item.as_str() == envelope.item_code,
            None => envelope.item_code != TEST_ITEM,
        }
    }
}

fn wanted(faults: &mut Faults, filter: pb::MessageFilter) -> Option<Wanted> {
    let mut states = Vec::with_capacity(filter.states.len());
    for (place, number) in filter.states.iter().enumerate() {
        match u8::try_from(*number).ok().and_then(State::from_number) {
            Some(state) => states.push(state),
            None => faults.add(format!("filter.states[{place}]"), "must be a known state"),
        }
    }
    let from_city = faults.parse("filter.from_city", &filter.from_city);
    let to_city = faults.parse("filter.to_city", &filter.to_city);
    let item_code = faults.parse("filter.item_code", &filter.item_code);
    let case_no = faults.parse("filter.case_no", &filter.case_no);
    let stored_from = sent(faults, "filter.stored_from", filter.stored_from).map(|at| at.time());
    let stored_before = sent(faults, "filter.stored_before", filter.stored_before).map(|at| at.time());
    let sift = Sift { states, from_city, to_city, case_no, stored_from, stored_before };
    Some(Wanted { sift, item_code })
}

/// Tells one filter from another; no secret.
pub fn mark(filter: &pb::MessageFilter) -> [u8; MARK_BYTES] {
    let mut mark = [0; MARK_BYTES];
    mark.copy_from_slice(&Sha256::digest(filter.encode_to_vec())[..MARK_BYTES]);
    mark
}

fn token(before: Seq, mark: [u8; MARK_BYTES]) -> String {
    let bytes: Vec<u8> = [TOKEN_VERSION].into_iter().chain(before.to_be_bytes()).chain(mark).collect();
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The place that a token names; none when it is no token of this filter.
pub fn place(token: &str, mark: [u8; MARK_BYTES]) -> Option<Seq> {
    let bytes: [u8; 9 + MARK_BYTES] = URL_SAFE_NO_PAD.decode(token).ok()?.try_into().ok()?;
    let (head, told) = bytes.split_at(9);
    let (version, place) = head.split_first()?;
    let place = Seq::from_be_bytes(place.try_into().ok()?);
    // No place lies beyond what the store can hold.
    (*version == TOKEN_VERSION && told == mark && place <= i64::MAX as u64).then_some(place)
}

fn summary(listed: Listed, envelope: pb::Envelope) -> pb::MessageSummary {
    let (parts, total_size) = match &envelope.sealed {
        Some(sealed) => (sealed.parts, sealed.total_size),
        None => (envelope.parts.len() as u32, envelope.parts.iter().map(|part| part.size).sum()),
    };
    pb::MessageSummary {
        message_id: listed.key.id.to_string(),
        // Of an envelope that retention has taken, the sending city is all that is left.
        from: envelope
            .from
            .or_else(|| Some(pb::Address { city: listed.key.from_city.as_str().to_owned(), ..Default::default() })),
        to: Some(address_to_wire(&listed.recipient)),
        item_code: envelope.item_code,
        case_no: envelope.case_no,
        step: envelope.step,
        state: listed.standing.state as i32,
        in_doubt: listed.standing.in_doubt,
        late: listed.standing.late,
        stored_at: Some(time_to_wire(listed.stored_at)),
        expires_at: Some(time_to_wire(listed.expires_at)),
        parts,
        total_size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_for_its_own_filter_alone() {
        let (all, some) =
            (pb::MessageFilter::default(), pb::MessageFilter { case_no: "B-1".into(), ..Default::default() });
        let made = token(77, mark(&all));
        assert_eq!(place(&made, mark(&all)), Some(77));
        assert_eq!(place(&made, mark(&some)), None);
        let far = token(u64::MAX, mark(&all));
        for bad in ["", "x", &made[1..], &format!("{made}A"), &made.replace('A', "B"), &far] {
            assert_eq!(place(bad, mark(&all)), None, "{bad}");
        }
    }
}
