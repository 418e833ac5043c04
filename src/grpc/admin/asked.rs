//! Decides what a request about dead letters means, naming every faulty field at once. Never looks anything up.

use std::str::FromStr;

use crate::limits::{
    CANARIES_MAX, CANARY_PATIENCE_MS, CASE_NO_BYTES_MAX, DEAD_NAMED_MAX, DEAD_PAGE, DISCARD_REASON_BYTES_MAX,
    REDRIVE_PER_S, REDRIVEN_TO_LIVE_MS_MAX,
};
use crate::message::visible;
use crate::party::{Member, Party};
use crate::redrive::{Orders, Selection};
use crate::store::{DeadFate, DeadFilter, Key, LaneName, Seq};
use crate::wire::envelope::{Fault, Faults};
use crate::wire::pb::admin as pb;

/// A page of dead letters.
pub struct Page {
    pub filter: DeadFilter,
    pub fate: DeadFate,
    pub after: Seq,
    pub count: usize,
}

/// Reads a filter.
pub fn filter(wire: Option<pb::DeadLetterFilter>) -> Result<DeadFilter, Vec<Fault>> {
    let mut faults = Faults::default();
    let filter = filter_in(&mut faults, "filter", wire.unwrap_or_default());
    faults.or(Some(filter))
}

fn filter_in(faults: &mut Faults, field: &str, wire: pb::DeadLetterFilter) -> DeadFilter {
    let mut text = |name: &str, text: String| {
        if text.len() > CASE_NO_BYTES_MAX {
            faults.add(format!("{field}.{name}"), format!("must be at most {CASE_NO_BYTES_MAX} bytes"));
        }
        Some(text).filter(|text| !text.is_empty())
    };
    let (reason, item) = (text("reason", wire.reason), text("item_code", wire.item_code));
    let lane = Some(wire.lane).filter(|lane| !lane.is_empty()).and_then(|lane| {
        let parsed = LaneName::from_str(&lane);
        parsed.map_err(|_| faults.add(format!("{field}.lane"), "must be gateway/MEMBER or system/NAME")).ok()
    });
    let from_city = faults.parse(format_args!("{field}.from_city"), &wire.from_city);
    DeadFilter { reason, lane, item, from_city }
}

/// Reads what page is meant.
pub fn page(wire: pb::ListDeadLettersRequest) -> Result<Page, Vec<Fault>> {
    let mut faults = Faults::default();
    let fate = match pb::DeadLetterFate::try_from(wire.fate) {
        Ok(pb::DeadLetterFate::Unspecified | pb::DeadLetterFate::Waiting) => DeadFate::Waits,
        Ok(pb::DeadLetterFate::Redriven) => DeadFate::Redriven,
        Ok(pb::DeadLetterFate::Discarded) => DeadFate::Discarded,
        Err(_) => {
            faults.add("fate", "must be a known value of DeadLetterFate");
            DeadFate::Waits
        }
    };
    let filter = filter_in(&mut faults, "filter", wire.filter.unwrap_or_default());
    let after = match wire.page_token.as_str() {
        "" => Some(0),
        token => u64::from_str_radix(token, 16).ok().filter(|after| *after <= i64::MAX as u64),
    };
    if after.is_none() {
        faults.add("page_token", "must be the next_page_token of the page before");
    }
    let (standard, max) = DEAD_PAGE;
    let count = if wire.page_size == 0 { standard } else { max.min(wire.page_size as usize) };
    faults.or(after.map(|after| Page { filter, fate, after, count }))
}

/// What asks for the page after the letter in this place.
pub fn token(last: Seq) -> String {
    format!("{last:x}")
}

/// Reads the name of a letter; without a city it is one of our own.
pub fn name(own: &Member, wire: pb::DeadLetterName) -> Result<Key, Vec<Fault>> {
    let mut faults = Faults::default();
    let key = name_in(&mut faults, "name", own, wire);
    faults.or(key)
}

/// The name of a message; none where it does not parse.
pub fn key(own: &Member, from_city: &str, message_id: &str) -> Option<Key> {
    let wire = pb::DeadLetterName { from_city: from_city.to_owned(), message_id: message_id.to_owned() };
    name(own, wire).ok()
}

fn name_in(faults: &mut Faults, field: &str, own: &Member, wire: pb::DeadLetterName) -> Option<Key> {
    let id = faults.need(format_args!("{field}.message_id"), &wire.message_id);
    let field = format!("{field}.from_city");
    let from_city = match own {
        Member::City(city) if wire.from_city.is_empty() => Some(city.clone()),
        _ => faults.need(&field, &wire.from_city),
    };
    Some(Key { from_city: from_city?, id: id? })
}

fn selection(faults: &mut Faults, own: &Member, wire: Option<pb::DeadLetterSelection>) -> Option<Selection> {
    use pb::dead_letter_selection::Selection as Wire;
    match wire.and_then(|wire| wire.selection) {
        Some(Wire::Filter(filter)) => Some(Selection::Fitting(filter_in(faults, "selection.filter", filter))),
        Some(Wire::Names(names)) if (1..=DEAD_NAMED_MAX).contains(&names.names.len()) => {
            let names = names
                .names
                .into_iter()
                .enumerate()
                .filter_map(|(place, name)| name_in(faults, &format!("selection.names.names[{place}]"), own, name));
            Some(Selection::Named(names.collect()))
        }
        Some(Wire::Names(_)) => {
            faults.add("selection.names.names", format!("must be 1 to {DEAD_NAMED_MAX} names"));
            None
        }
        None => {
            faults.add("selection", "is obligatory; an empty filter means all that wait");
            None
        }
    }
}

/// Reads what is to be redriven, and how.
pub fn redrive(
    own: &Member,
    wire: pb::RedriveDeadLettersRequest,
    actor: Party,
) -> Result<(Selection, Orders), Vec<Fault>> {
    let mut faults = Faults::default();
    let selection = selection(&mut faults, own, wire.selection);
    let (rate, rate_max) = REDRIVE_PER_S;
    if wire.rate > rate_max {
        faults.add("rate", format!("must be at most {rate_max} messages per second"));
    }
    if wire.canary as usize > CANARIES_MAX {
        faults.add("canary", format!("must be at most {CANARIES_MAX}"));
    }
    let (patience, patience_max) = CANARY_PATIENCE_MS;
    let orders = Orders {
        rate: if wire.rate == 0 { rate } else { wire.rate },
        canary: wire.canary as usize,
        patience_ms: span(&mut faults, "canary_patience", wire.canary_patience, patience_max).unwrap_or(patience),
        time_to_live_ms: span(&mut faults, "time_to_live", wire.time_to_live, REDRIVEN_TO_LIVE_MS_MAX),
        actor,
    };
    faults.or(selection.map(|selection| (selection, orders)))
}

/// Reads a span of whole milliseconds.
fn span(faults: &mut Faults, field: &str, wire: Option<prost_types::Duration>, max_ms: u64) -> Option<u64> {
    let wire = wire?;
    let ms = u64::try_from(wire.seconds).ok().and_then(|seconds| seconds.checked_mul(1000));
    let ms = ms.and_then(|ms| ms.checked_add(u64::try_from(wire.nanos).ok()? / 1_000_000));
    let fits = ms.filter(|ms| (1..=max_ms).contains(ms));
    if fits.is_none() {
        faults.add(field, format!("must be 1 ms to {} s", max_ms / 1000));
    }
    fits
}

/// Reads what is to be set aside, and why.
pub fn discard(own: &Member, wire: pb::DiscardDeadLettersRequest) -> Result<(Selection, String), Vec<Fault>> {
    let mut faults = Faults::default();
    let selection = selection(&mut faults, own, wire.selection);
    let why = wire.reason.trim().to_owned();
    if why.is_empty() || why.len() > DISCARD_REASON_BYTES_MAX || !visible(&why) {
        faults.add("reason", format!("must be 1 to {DISCARD_REASON_BYTES_MAX} visible bytes"));
    }
    faults.or(selection.map(|selection| (selection, why)))
}
