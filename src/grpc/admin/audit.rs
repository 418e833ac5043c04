//! Decides how the audit is asked for and told, and that nobody looks at a content off the record. Never writes a leaf
//! itself.

use crate::audit::{Act, Deed};
use crate::courier::Ground;
use crate::evidence::Code;
use crate::grpc::record::Record;
use crate::grpc::view;
use crate::limits::{AUDIT_EXAMINED_MAX, AUDIT_PAGE, LOOK_REASON_BYTES_MAX, URI_BYTES_MAX};
use crate::message::visible;
use crate::party::Party;
use crate::reason::Reason;
use crate::store::{ActPlace, ActSift, Error, log_index};
use crate::time::Time;
use crate::wire::envelope::{Fault, Faults, digest_to_wire, join, sent, time_to_wire};
use crate::wire::pb::admin as pb;
use crate::wire::status::Refused;

/// A page of the audit.
pub struct Page {
    sift: ActSift,
    before: Option<ActPlace>,
    count: usize,
}

/// Reads which page is meant.
pub fn asked(wire: pb::ListAuditRequest) -> Result<Page, Vec<Fault>> {
    let mut faults = Faults::default();
    let from = sent(&mut faults, "from", wire.from).map(|at| at.time());
    let until = sent(&mut faults, "until", wire.until).map(|at| at.time());
    for (field, text) in [("act", &wire.act), ("actor", &wire.actor)] {
        if text.len() > URI_BYTES_MAX {
            faults.add(field, format!("must be at most {URI_BYTES_MAX} bytes"));
        }
    }
    let before = match wire.page_token.as_str() {
        "" => None,
        token => {
            let place = place(token);
            if place.is_none() {
                faults.add("page_token", "must be the next_page_token of the page before");
            }
            place
        }
    };
    let (standard, max) = AUDIT_PAGE;
    let count = if wire.page_size == 0 { standard } else { max.min(wire.page_size as usize) };
    faults.or(Some(Page { sift: ActSift { from, until, act: wire.act, actor: wire.actor }, before, count }))
}

fn place(token: &str) -> Option<ActPlace> {
    let (at, leaf) = token.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok().filter(|number| *number <= i64::MAX as u64);
    Some((Time::from_ms(number(at)?), number(leaf)?))
}

/// Reads the page from the log.
pub async fn list(ground: &Ground, page: Page) -> Result<pb::ListAuditResponse, Refused> {
    let Page { sift, before, count } = page;
    let read = ground.readers.seek(move |look| look.acts(&sift, before, count, AUDIT_EXAMINED_MAX)).await;
    let (acts, next) = read.map_err(|error| {
        tracing::error!(%error, "the audit cannot be read");
        Refused::new(Reason::StoreUnavailable)
    })?;
    let next_page_token = next.map(|(at, leaf)| format!("{:x}-{leaf:x}", at.ms())).unwrap_or_default();
    Ok(pb::ListAuditResponse { entries: acts.into_iter().map(entry).collect(), next_page_token })
}

fn entry((leaf, act): (u64, Act)) -> pb::AuditEntry {
    let Act { at, deed, .. } = act;
    pb::AuditEntry {
        leaf_index: log_index(leaf),
        time: Some(time_to_wire(at)),
        actor: deed.actor,
        act: deed.act,
        object: deed.object,
        refused: deed.refused.as_ref().map_or("", Code::as_str).to_owned(),
        reason: deed.why,
        content: deed.content.map(digest_to_wire),
    }
}

/// Shows a message with its content, once it is on record that somebody looks.
pub async fn content(
    ground: &Ground,
    record: &Record,
    party: Party,
    asked: pb::ReadContentRequest,
) -> Result<pb::ReadContentResponse, Refused> {
    let why = asked.reason.trim().to_owned();
    if why.is_empty() || why.len() > LOOK_REASON_BYTES_MAX || !visible(&why) {
        let must = format!("must be 1 to {LOOK_REASON_BYTES_MAX} visible bytes");
        return Err(Refused::faults(vec![Fault { field: "reason".to_owned(), must }]));
    }
    let key = (asked.from_city, asked.message_id);
    let looked = view::look(&ground.readers, &ground.own, &party, key, |_, stored| {
        let has_body = stored.body.is_some();
        let envelope = join(&stored.header, stored.body.clone());
        Ok((has_body, envelope.map_err(|error| Error::Damaged(error.to_string()))?))
    });
    let (view, (has_body, envelope)) = looked.await?;
    let object = format!("{}/{}", view.stored.key.from_city.as_str(), view.stored.key.id);
    let (act, actor) = ("content.read".to_owned(), party.to_string());
    record.done(Deed { act, actor, object, why, ..Deed::default() }).await?;
    Ok(pb::ReadContentResponse { envelope: Some(envelope), has_body })
}
