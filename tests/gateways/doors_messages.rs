//! Decides whether a sender can withdraw, watch and list its messages, over real gateways: each answer once, in order, and
//! nothing to those who may not see.

use std::collections::HashSet;

use crate::alliance::{self, Alliance, Client, PATIENCE, check, envelope, reason};
use tongban::evidence::Event;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;

const WINDOW: (&str, &str) = ("450200", "window");
const ARCHIVE: (&str, &str) = ("450200", "archive");
const APPROVAL: (&str, &str) = ("440600", "approval");

fn two_cities() -> Alliance {
    Alliance::new(&[("450200", &["window", "archive"]), ("440600", &["approval"])])
}

async fn cancel(client: &Client, id: &str) -> Result<pbe::Receipt, tonic::Status> {
    let request = pb::CancelMessageRequest { message_id: id.to_owned() };
    Ok(client.exchange.clone().cancel_message(request).await?.into_inner().receipt.expect("a receipt"))
}

async fn watch(
    client: &Client,
    id: &str,
    after: &str,
) -> Result<tonic::Streaming<pb::WatchMessageResponse>, tonic::Status> {
    let from_city = "450200".to_owned();
    let request = pb::WatchMessageRequest { from_city, message_id: id.to_owned(), after: after.to_owned() };
    Ok(client.exchange.clone().watch_message(request).await?.into_inner())
}

/// The next entry, none at the end of the stream.
async fn next(stream: &mut tonic::Streaming<pb::WatchMessageResponse>) -> Option<pb::WatchMessageResponse> {
    tokio::time::timeout(PATIENCE, stream.message()).await.expect("an entry in time").unwrap()
}

async fn rest(stream: &mut tonic::Streaming<pb::WatchMessageResponse>) -> Vec<pb::WatchMessageResponse> {
    let mut entries = vec![];
    while let Some(entry) = next(stream).await {
        entries.push(entry);
    }
    entries
}

fn ids(entries: &[pb::WatchMessageResponse]) -> Vec<String> {
    entries.iter().map(|told| told.entry.as_ref().unwrap().receipt_id.clone()).collect()
}

async fn page(client: &Client, filter: &pb::MessageFilter, size: u32, token: &str) -> pb::ListMessagesResponse {
    let request =
        pb::ListMessagesRequest { filter: Some(filter.clone()), page_size: size, page_token: token.to_owned() };
    client.exchange.clone().list_messages(request).await.unwrap().into_inner()
}

async fn listed(client: &Client, filter: pb::MessageFilter) -> Vec<String> {
    let page = page(client, &filter, 0, "").await;
    assert!(page.next_page_token.is_empty());
    page.messages.into_iter().map(|message| message.message_id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_partner_does_not_have_is_withdrawn_once_and_never_delivered() {
    let alliance = two_cities();
    let _liuzhou = alliance.start("450200").await;
    let (window, archive) = (alliance.client(WINDOW.0, WINDOW.1), alliance.client(ARCHIVE.0, ARCHIVE.1));
    let (withdrawn, other) = (envelope(WINDOW, APPROVAL), envelope(WINDOW, APPROVAL));
    window.submit(withdrawn.clone()).await.unwrap();
    window.submit(other.clone()).await.unwrap();
    let id = &withdrawn.message_id;
    let foreign = cancel(&archive, id).await.unwrap_err();
    assert_eq!(reason(&foreign), "MESSAGE_NOT_FOUND", "another system's message is not there");
    assert_eq!(reason(&cancel(&window, &alliance::new_id()).await.unwrap_err()), "MESSAGE_NOT_FOUND");
    let gateway = alliance.client_of("440600/gateway", "450200");
    assert_eq!(reason(&cancel(&gateway, id).await.unwrap_err()), "MESSAGE_NOT_FOUND");
    assert_eq!(reason(&cancel(&window, "x").await.unwrap_err()), "INVALID_ENVELOPE");

    let receipt = cancel(&window, id).await.unwrap();
    let checked = check(&mut alliance.checker(), receipt.clone());
    assert_eq!((checked.evidence.event, checked.evidence.message_id.to_string()), (Event::Cancelled, id.clone()));
    assert_eq!(window.message("", id).await.unwrap().state(), pbe::State::Cancelled);
    assert_eq!(cancel(&window, id).await.unwrap(), receipt, "byte for byte");

    let _foshan = alliance.start("440600").await;
    let approval = alliance.client(APPROVAL.0, APPROVAL.1);
    let mut mailbox = approval.receive(8).await;
    let (delivery, message) = mailbox.delivery().await;
    assert_eq!(message.envelope.unwrap().message_id, other.message_id, "the first to be sent is not sent");
    mailbox.acknowledge(&delivery.delivery_id).await;
    mailbox.settled().await;
    window.until("", &other.message_id, pbe::State::Confirmed).await;
    let unknown = approval.message("450200", id).await.unwrap_err();
    assert_eq!(reason(&unknown), "MESSAGE_NOT_FOUND", "the partner has never seen it");
    assert_eq!(reason(&cancel(&window, &other.message_id).await.unwrap_err()), "ALREADY_TAKEN");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_a_mailbox_of_the_same_city_is_taken_already() {
    let alliance = two_cities();
    let _liuzhou = alliance.start("450200").await;
    let window = alliance.client(WINDOW.0, WINDOW.1);
    let sent = envelope(WINDOW, ARCHIVE);
    window.submit(sent.clone()).await.unwrap();
    assert_eq!(reason(&cancel(&window, &sent.message_id).await.unwrap_err()), "ALREADY_TAKEN");
    assert_eq!(window.message("", &sent.message_id).await.unwrap().state(), pbe::State::Consigned);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_told_as_it_grows_and_goes_on_after_any_entry() {
    let alliance = two_cities();
    let (_liuzhou, _foshan) = (alliance.start("450200").await, alliance.start("440600").await);
    let (window, approval) = (alliance.client(WINDOW.0, WINDOW.1), alliance.client(APPROVAL.0, APPROVAL.1));
    let sent = envelope(WINDOW, APPROVAL);
    let id = &sent.message_id;
    window.submit(sent.clone()).await.unwrap();
    let mut early = watch(&window, id, "").await.unwrap();
    let mut entries = vec![next(&mut early).await.unwrap()];
    assert_eq!(entries[0].entry.as_ref().unwrap().event(), pbe::Event::SubmissionAccepted);
    assert_eq!(entries[0].state(), pbe::State::Accepted);
    let mut mailbox = approval.receive(1).await;
    let (delivery, _) = mailbox.delivery().await;
    let mut theirs = watch(&approval, id, "").await.unwrap();
    mailbox.acknowledge(&delivery.delivery_id).await;
    entries.extend(rest(&mut early).await);
    let last = entries.last().unwrap();
    assert_eq!(last.state(), pbe::State::Confirmed, "the stream ends with the message");
    assert!(entries.windows(2).all(|two| two[0].state <= two[1].state), "a message never goes back");

    let whole: Vec<_> = window.message("", id).await.unwrap().history;
    let known: Vec<_> = whole.iter().map(|entry| entry.receipt_id.clone()).collect();
    assert_eq!(ids(&entries), known[..entries.len()], "the order in which it became known");
    for (place, after) in known.iter().enumerate().take(entries.len()) {
        let again = rest(&mut watch(&window, id, after).await.unwrap()).await;
        assert_eq!(ids(&again), known[place + 1..], "after {place}");
    }
    let told = rest(&mut theirs).await;
    let events: Vec<_> = told.iter().map(|told| told.entry.as_ref().unwrap().event()).collect();
    use pbe::Event::{Consigned, HandedOver, RelayAccepted, SubmissionAccepted};
    assert_eq!(events, [SubmissionAccepted, RelayAccepted, Consigned, HandedOver], "the recipient's side");
    let states: Vec<_> = told.iter().map(pb::WatchMessageResponse::state).collect();
    use pbe::State;
    assert_eq!(states, [State::Accepted, State::Relayed, State::Consigned, State::Confirmed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witnessed_receipt_stands_right_before_the_leaf_that_says_it_came() {
    let alliance = two_cities();
    let (_liuzhou, _foshan) = (alliance.start("450200").await, alliance.start("440600").await);
    let (window, approval) = (alliance.client(WINDOW.0, WINDOW.1), alliance.client(APPROVAL.0, APPROVAL.1));
    let sent = envelope(WINDOW, APPROVAL);
    window.submit(sent.clone()).await.unwrap();
    let mut mailbox = approval.receive(1).await;
    let (delivery, _) = mailbox.delivery().await;
    mailbox.acknowledge(&delivery.delivery_id).await;
    let message = window.until("", &sent.message_id, pbe::State::Confirmed).await;
    for (place, entry) in message.history.iter().enumerate() {
        let own = entry.issuer == "450200";
        assert_eq!(own, place % 2 == 0, "{place}: {entry:?}");
        assert_eq!(entry.event() == pbe::Event::Witnessed, own && place > 0, "{place}: {entry:?}");
    }
    assert_eq!(message.history.len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_is_refused_to_strangers_with_unknown_places_and_beyond_its_bound() {
    let alliance = two_cities();
    let liuzhou = alliance.start("450200").await;
    let (window, archive) = (alliance.client(WINDOW.0, WINDOW.1), alliance.client(ARCHIVE.0, ARCHIVE.1));
    let sent = envelope(WINDOW, APPROVAL);
    let id = &sent.message_id;
    window.submit(sent.clone()).await.unwrap();
    assert_eq!(reason(&watch(&archive, id, "").await.unwrap_err()), "MESSAGE_NOT_FOUND");
    let unknown = tongban::wire::status::from_status(&watch(&window, id, "01J").await.unwrap_err());
    assert_eq!(unknown.reason.as_deref(), Some("INVALID_ENVELOPE"));
    assert_eq!(unknown.faults[0].field, "after");
    let mut held = vec![];
    for _ in 0..64 {
        held.push(watch(&window, id, "").await.unwrap());
    }
    assert_eq!(reason(&watch(&window, id, "").await.unwrap_err()), "TOO_MANY_WAITERS");
    assert_eq!(
        reason(&watch(&archive, id, "").await.unwrap_err()),
        "MESSAGE_NOT_FOUND",
        "others have their own places"
    );
    let mut last = held.pop().unwrap();
    drop(held);
    let freed = async {
        while watch(&window, id, "").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, freed).await.expect("places come back");
    next(&mut last).await.unwrap();
    let (ended, ()) = tokio::join!(last.message(), liuzhou.stop());
    assert_eq!(reason(&ended.unwrap_err()), "SHUTTING_DOWN");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_repeat_and_leave_out_nothing_while_others_arrive() {
    let alliance = two_cities();
    let _liuzhou = alliance.start("450200").await;
    let window = alliance.client(WINDOW.0, WINDOW.1);
    let mut before = vec![];
    for _ in 0..23 {
        let sent = envelope(WINDOW, APPROVAL);
        window.submit(sent.clone()).await.unwrap();
        before.push(sent.message_id);
    }
    let filter = pb::MessageFilter::default();
    let (mut token, mut seen, mut pages) = (String::new(), vec![], 0);
    loop {
        let page = page(&window, &filter, 5, &token).await;
        assert!(page.messages.len() <= 5);
        seen.extend(page.messages.into_iter().map(|message| message.message_id));
        window.submit(envelope(WINDOW, APPROVAL)).await.unwrap();
        pages += 1;
        if page.next_page_token.is_empty() {
            break;
        }
        token = page.next_page_token;
    }
    before.reverse();
    assert_eq!((seen, pages), (before, 5), "newest first, all that were there, each once");
    let other = pb::MessageFilter { case_no: "B-1".into(), ..Default::default() };
    for (filter, token) in [(other, token.as_str()), (filter, "bm9uc2Vuc2U")] {
        let request = pb::ListMessagesRequest { filter: Some(filter), page_size: 5, page_token: token.to_owned() };
        let refused = window.exchange.clone().list_messages(request).await.unwrap_err();
        let refused = tongban::wire::status::from_status(&refused);
        assert_eq!(refused.faults.iter().map(|fault| fault.field.as_str()).collect::<Vec<_>>(), ["page_token"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_lists_what_it_may_look_up_and_the_filter_takes_its_part() {
    let alliance = two_cities();
    let _liuzhou = alliance.start("450200").await;
    let (window, archive) = (alliance.client(WINDOW.0, WINDOW.1), alliance.client(ARCHIVE.0, ARCHIVE.1));
    let partner = alliance.client_of("440600/gateway", "450200");
    let mut out = envelope(WINDOW, APPROVAL);
    (out.case_no, out.step) = ("B-1".into(), "apply".into());
    let mut inside = envelope(WINDOW, ARCHIVE);
    (inside.case_no, inside.item_code) = ("AB-1".into(), "X-1".into());
    let mut theirs = envelope(ARCHIVE, APPROVAL);
    theirs.case_no = "B-1".into();
    for (client, message) in [(&window, &out), (&window, &inside), (&archive, &theirs)] {
        client.submit(message.clone()).await.unwrap();
    }
    let [out_id, inside_id, theirs_id] = [&out, &inside, &theirs].map(|message| message.message_id.clone());
    let all = pb::MessageFilter::default;
    assert_eq!(listed(&window, all()).await, [inside_id.clone(), out_id.clone()]);
    assert_eq!(listed(&archive, all()).await, [theirs_id.clone(), inside_id.clone()]);
    assert_eq!(listed(&partner, all()).await, [theirs_id.clone(), out_id.clone()]);

    let stored_at = page(&window, &all(), 1, "").await.messages[0].stored_at;
    let cases = [
        ("states", pb::MessageFilter { states: vec![pbe::State::Consigned as i32], ..all() }, vec![&inside_id]),
        ("from", pb::MessageFilter { from_city: "440600".into(), ..all() }, vec![]),
        ("to", pb::MessageFilter { to_city: "440600".into(), ..all() }, vec![&out_id]),
        ("item", pb::MessageFilter { item_code: "X-1".into(), ..all() }, vec![&inside_id]),
        ("case", pb::MessageFilter { case_no: "B-1".into(), ..all() }, vec![&out_id]),
        ("since", pb::MessageFilter { stored_from: stored_at, ..all() }, vec![&inside_id]),
        ("until", pb::MessageFilter { stored_before: stored_at, ..all() }, vec![&out_id]),
    ];
    for (name, filter, expected) in cases {
        assert_eq!(listed(&window, filter).await.iter().collect::<Vec<_>>(), expected, "{name}");
    }
    let one = &page(&window, &pb::MessageFilter { to_city: "440600".into(), ..all() }, 1, "").await.messages[0];
    assert_eq!((one.case_no.as_str(), one.step.as_str(), one.parts, one.total_size), ("B-1", "apply", 1, 12));
    assert_eq!((one.from.clone(), one.to.clone()), (out.from, out.to));

    let bad = pb::MessageFilter {
        states: vec![99],
        from_city: "x".into(),
        to_city: "y".into(),
        item_code: "!".into(),
        ..all()
    };
    let request = pb::ListMessagesRequest { filter: Some(bad), ..Default::default() };
    let refused =
        tongban::wire::status::from_status(&window.exchange.clone().list_messages(request).await.unwrap_err());
    let fields: HashSet<_> = refused.faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, HashSet::from(["filter.states[0]", "filter.from_city", "filter.to_city", "filter.item_code"]));
}
