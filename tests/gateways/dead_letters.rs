//! Shows what becomes of dead letters in the hands of those who operate a gateway: they are counted by cause, redriven at a
//! pace with canaries first, cancelled half way, or set aside; and that none is ever lost or redriven twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::alliance::{Alliance, Client, Gateway, PATIENCE, envelope, part, reason};
use crate::process::until;
use futures_util::StreamExt;
use rusqlite::{Connection, OpenFlags};
use tongban::admission::Grants;
use tongban::audit::Act;
use tongban::blobs::{Blobs, Bounds, Chunks, Owner, Sums, Want};
use tongban::clock::Clock;
use tongban::courier::attachments::{Ask, download, upload};
use tongban::time::Time;
use tongban::wire::pb::admin as pba;
use tongban::wire::pb::admin::admin_service_client::AdminServiceClient;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;
use tonic::transport::Channel;

const A: &str = "450200";
const B: &str = "440600";
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

type Admin = AdminServiceClient<Channel>;
type Step = pba::redrive_dead_letters_response::Step;

/// Two cities, of which A runs; its people are li (ops) and shen (auditor).
struct World {
    alliance: Alliance,
    clock: Clock,
    a: Gateway,
    window: Client,
    li: Admin,
}

impl World {
    async fn new() -> World {
        let alliance = Alliance::new(&[(A, &["window"]), (B, &["approval"])]);
        for (add, city, name) in [("add-ops", A, "li"), ("add-auditor", A, "shen"), ("add-ops", B, "huang")] {
            alliance.run(&["pki", add, city, name], &["--dir", &alliance.pki()]);
        }
        let clock = Clock::default();
        let a = alliance.start_by(&alliance.config(A), clock.clone()).await;
        let (window, li) = (alliance.client(A, "window"), admin(&alliance, "450200/ops/li", A));
        World { alliance, clock, a, window, li }
    }

    async fn partner(&self) -> Gateway {
        self.alliance.start_by(&self.alliance.config(B), self.clock.clone()).await
    }

    /// Submits messages while the partner is away, and lets their time pass: their ids.
    async fn letters(&self, count: usize, case: Option<&str>) -> Vec<String> {
        let envelopes = (0..count).map(|place| {
            let content = format!("letter {place:06}");
            let case_no = case.unwrap_or_default().to_owned();
            pb::Envelope { parts: vec![part("a.txt", content.as_bytes())], case_no, ..plain() }
        });
        let envelopes: Vec<_> = envelopes.collect();
        let ids = envelopes.iter().map(|envelope| envelope.message_id.clone()).collect();
        // Of one case the order of acceptance counts.
        let at_once = if case.is_some() { 1 } else { 64 };
        let submitted = futures_util::stream::iter(envelopes)
            .map(|envelope| async { self.window.submit(envelope).await.unwrap() })
            .buffered(at_once);
        assert_eq!(submitted.count().await, count);
        self.expire(count).await;
        ids
    }

    async fn expire(&self, count: usize) {
        let before = self.waiting().await;
        self.clock.advance(7 * DAY_MS + 1_000);
        until("the messages expire", async || self.waiting().await == before + count as u64).await;
    }

    /// How many letters wait.
    async fn waiting(&self) -> u64 {
        groups(&self.li).await.iter().map(|group| group.count).sum()
    }

    /// Time passes five times as fast until the guard is dropped.
    fn fast(&self) -> Fast {
        let clock = self.clock.clone();
        Fast(tokio::spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_millis(10));
            loop {
                beat.tick().await;
                clock.advance(40);
            }
        }))
    }

    /// The gateway's store, seen from beside.
    fn sql(&self) -> Connection {
        store(&self.alliance, A)
    }

    fn number(&self, sql: &str) -> u64 {
        self.sql().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Of each original: its fate, and whether a message that replaces it was accepted. A letter that is off the pile and
    /// has no replacement is lost.
    fn lost(&self) -> Vec<String> {
        let sql = self.sql();
        let mut lost = sql
            .prepare(
                "SELECT hex(m.message_id), coalesce(d.fate, 9), m.redriven_as IS NOT NULL AND EXISTS (SELECT 1 FROM \
                 message r WHERE r.message_id = m.redriven_as AND r.from_city = m.from_city) \
                 FROM message m LEFT JOIN dead d USING (seq) WHERE m.state IN (5, 6, 7)",
            )
            .unwrap();
        let rows =
            lost.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u8>(1)?, row.get::<_, bool>(2)?)));
        let told = rows.unwrap().map(|row| row.unwrap());
        let whole =
            |(_, fate, replaced): &(String, u8, bool)| matches!((fate, replaced), (0, false) | (1, true) | (2, false));
        told.filter(|row| !whole(row)).map(|row| format!("{row:?}")).collect()
    }
}

struct Fast(tokio::task::JoinHandle<()>);

impl Drop for Fast {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A system that does the same with all that it is given.
struct Desk(tokio::task::JoinHandle<()>);

impl Desk {
    async fn open(
        alliance: &Alliance,
        outcome: fn() -> pb::outcome::Outcome,
    ) -> (Desk, tokio::sync::mpsc::UnboundedReceiver<pb::Message>) {
        let client = alliance.client(B, "approval");
        let mut mailbox = client.receive(256).await;
        let (seen, all) = tokio::sync::mpsc::unbounded_channel();
        let desk = tokio::spawn(async move {
            while let Ok(Some(step)) = mailbox.down.message().await {
                let Some(pb::receive_response::Response::Delivery(mut delivery)) = step.response else { continue };
                let Some(pb::delivery::Content::Message(message)) = delivery.content.take() else { continue };
                seen.send(message).unwrap();
                mailbox.give(&delivery.delivery_id, outcome()).await;
                mailbox.say(pb::receive_request::Request::Credits(pb::GrantCredits { count: 1 })).await;
            }
        });
        (Desk(desk), all)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A city's store, seen from beside.
fn store(alliance: &Alliance, city: &str) -> Connection {
    let path = alliance.config(city).data.join("store.db");
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

/// How often the audit says that this person did this at a city's gateway.
fn on_record(alliance: &Alliance, city: &str, who: &str, act: &str) -> u64 {
    let store = store(alliance, city);
    let mut leaves = store.prepare("SELECT bytes FROM leaf WHERE substr(bytes, 1, 2) = x'0102'").unwrap();
    let leaves = leaves.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let acts = leaves.map(|leaf| Act::from_leaf(&leaf.unwrap()).unwrap().deed);
    acts.filter(|deed| deed.actor.ends_with(who) && deed.act == act && deed.refused.is_none()).count() as u64
}

fn taken() -> pb::outcome::Outcome {
    pb::outcome::Outcome::Acknowledge(pb::Acknowledge::default())
}

fn refused() -> pb::outcome::Outcome {
    pb::outcome::Outcome::Refuse(pb::Refuse {
        code: "NO_FORM".into(), text: "缺少申请表".into(), ..Default::default()
    })
}

fn plain() -> pb::Envelope {
    envelope((A, "window"), (B, "approval"))
}

fn admin(alliance: &Alliance, certificate: &str, at: &str) -> Admin {
    AdminServiceClient::new(alliance.client_of(certificate, at).channel)
}

async fn groups(admin: &Admin) -> Vec<pba::DeadLetterGroup> {
    let asked = pba::ListDeadLetterGroupsRequest::default();
    admin.clone().list_dead_letter_groups(asked).await.unwrap().into_inner().groups
}

async fn letter(admin: &Admin, from: &str, id: &str) -> Result<pba::GetDeadLetterResponse, tonic::Status> {
    let name = Some(pba::DeadLetterName { from_city: from.to_owned(), message_id: id.to_owned() });
    Ok(admin.clone().get_dead_letter(pba::GetDeadLetterRequest { name }).await?.into_inner())
}

fn all() -> Option<pba::DeadLetterSelection> {
    use pba::dead_letter_selection::Selection;
    Some(pba::DeadLetterSelection { selection: Some(Selection::Filter(pba::DeadLetterFilter::default())) })
}

fn named<'a>(from: &str, ids: impl IntoIterator<Item = &'a String>) -> Option<pba::DeadLetterSelection> {
    use pba::dead_letter_selection::Selection;
    let name = |id: &String| pba::DeadLetterName { from_city: from.to_owned(), message_id: id.clone() };
    let names = pba::DeadLetterNames { names: ids.into_iter().map(name).collect() };
    Some(pba::DeadLetterSelection { selection: Some(Selection::Names(names)) })
}

async fn preview(admin: &Admin, selection: Option<pba::DeadLetterSelection>) -> pba::RedrivePreview {
    let asked = pba::RedriveDeadLettersRequest { selection, preview: true, ..Default::default() };
    let (preview, rest) = run(admin, asked).await.unwrap();
    assert!(rest.is_empty(), "a preview only tells: {rest:?}");
    preview
}

/// The preview and the steps after it, to the end.
async fn run(
    admin: &Admin,
    asked: pba::RedriveDeadLettersRequest,
) -> Result<(pba::RedrivePreview, Vec<Step>), tonic::Status> {
    let mut stream = admin.clone().redrive_dead_letters(asked).await?.into_inner();
    let mut steps = vec![];
    while let Some(told) = tokio::time::timeout(PATIENCE * 4, stream.message()).await.expect("a step in time")? {
        steps.push(told.step.unwrap());
    }
    match steps.remove(0) {
        Step::Preview(preview) => Ok((preview, steps)),
        other => panic!("not a preview: {other:?}"),
    }
}

fn end(steps: &[Step]) -> (pba::RedriveOutcome, pba::RedriveProgress, String) {
    match steps.last() {
        Some(Step::End(end)) => (end.outcome(), end.progress.unwrap(), end.canary_message_id.clone()),
        other => panic!("not an end: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_redriven_at_their_pace_and_none_is_lost_or_sent_twice() {
    const COUNT: usize = 1_284;
    let world = World::new().await;
    let ids = world.letters(COUNT, None).await;
    let found = groups(&world.li).await;
    assert_eq!(found.len(), 1, "{found:?}");
    let group = &found[0];
    assert_eq!((group.reason.as_str(), group.lane.as_str()), ("MESSAGE_EXPIRED", "gateway/440600"));
    assert_eq!((group.count, group.own, group.item_code.as_str()), (1_284, 1_284, "11440100007482575H3440118009000"));

    let told = preview(&world.li, all()).await;
    assert_eq!((told.count, told.bytes, told.obstacles.len()), (1_284, 1_284 * 13, 0));
    assert_eq!(world.waiting().await, 1_284, "a preview changes nothing");
    let acts = || on_record(&world.alliance, A, "/ops/li", "dead.redrive");
    assert_eq!(acts(), 0, "and is no act");

    let b = world.partner().await;
    let (desk, mut seen) = Desk::open(&world.alliance, taken).await;
    let fast = world.fast();
    let began = world.clock.now();
    let asked = pba::RedriveDeadLettersRequest { selection: all(), canary: 10, rate: 50, ..Default::default() };
    let (_, steps) = run(&world.li, asked).await.unwrap();
    let took = world.clock.now().since_ms(began);
    let (outcome, progress, _) = end(&steps);
    assert_eq!((outcome, progress.redriven, progress.refused), (pba::RedriveOutcome::Done, 1_284, 0));
    assert!(steps.iter().any(|step| matches!(step, Step::Progress(p) if p.waits_for_canary && p.redriven == 10)));
    assert!(took >= 1_273 * 20, "{COUNT} messages at 50 per second in {took} ms");
    println!("{COUNT} letters in {took} ms of the gateway's clock");
    assert_eq!(acts(), 1, "who did it is on record");
    until("all are handed over", async || world.number("SELECT count(*) FROM message WHERE state = 4") == COUNT as u64)
        .await;
    drop(fast);

    let mut times: Vec<Time> = vec![];
    let mut bodies = BTreeMap::new();
    while let Ok(message) = seen.try_recv() {
        let envelope = message.envelope.unwrap();
        let created = tongban::wire::envelope::parse(envelope.clone()).unwrap().created_at.time();
        times.push(created);
        assert!(
            bodies.insert(envelope.redrive_of, (envelope.message_id, envelope.parts)).is_none(),
            "handed over twice"
        );
    }
    assert_eq!(bodies.keys().collect::<BTreeSet<_>>(), ids.iter().collect());
    times.sort();
    let fastest = times.windows(101).map(|some| some[100].since_ms(some[0])).min().unwrap();
    assert!(fastest >= 1_800, "100 messages at 50 per second within {fastest} ms");
    for (place, id) in ids.iter().enumerate() {
        let (anew, parts) = &bodies[id];
        assert_eq!(parts, &vec![part("a.txt", format!("letter {place:06}").as_bytes())], "salts and all");
        assert_eq!(&world.window.message("", id).await.unwrap().redriven_as, anew);
    }
    assert_eq!(world.lost(), Vec::<String>::new());
    assert_eq!(world.waiting().await, 0);

    let newest = world.number("SELECT max(seq) FROM message");
    let again = pba::RedriveDeadLettersRequest { selection: named("", &ids[..100]), ..Default::default() };
    let (told, steps) = run(&world.li, again).await.unwrap();
    assert_eq!((told.count, told.obstacles[0].kind(), told.obstacles[0].count), (0, pba::ObstacleKind::Redriven, 100));
    assert_eq!(end(&steps).1.redriven, 0);
    assert_eq!(world.number("SELECT max(seq) FROM message"), newest, "nothing is redriven twice");
    drop(desk);
    b.stop().await;
    world.a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_pace_is_kept_however_fast_the_gateway_could_go() {
    let world = World::new().await;
    world.letters(12, None).await;
    let fast = world.fast();
    let began = world.clock.now();
    let asked = pba::RedriveDeadLettersRequest { selection: all(), rate: 2, ..Default::default() };
    assert_eq!(end(&run(&world.li, asked).await.unwrap().1).1.redriven, 12);
    let took = world.clock.now().since_ms(began);
    drop(fast);
    // Without a pace a dozen are a matter of milliseconds.
    assert!(took >= 11 * 500, "12 messages at 2 per second in {took} ms");
    world.a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_redrive_stops_and_loses_nothing() {
    let world = World::new().await;
    world.letters(200, None).await;
    let fast = world.fast();
    let asked = pba::RedriveDeadLettersRequest { selection: all(), ..Default::default() };
    let mut stream = world.li.clone().redrive_dead_letters(asked.clone()).await.unwrap().into_inner();
    let busy = world.li.clone().redrive_dead_letters(asked).await.unwrap_err();
    assert_eq!(reason(&busy), "BUSY");
    while let Some(told) = stream.message().await.unwrap() {
        if matches!(told.step, Some(Step::Progress(progress)) if progress.redriven >= 20) {
            break;
        }
    }
    drop(stream);
    let free = pba::DiscardDeadLettersRequest { selection: all(), reason: "x".into(), dry_run: true };
    until("the redrive has stopped", async || world.li.clone().discard_dead_letters(free.clone()).await.is_ok()).await;
    let waiting = world.waiting().await;
    assert!((1..=180).contains(&waiting), "{waiting} of 200 wait");
    let later = world.clock.now().plus_ms(5_000);
    until("five seconds pass", async || world.clock.now() >= later).await;
    drop(fast);
    assert_eq!(world.waiting().await, waiting, "nothing is submitted after a cancel");
    assert_eq!(world.number("SELECT count(*) FROM message WHERE state = 1"), 200 - waiting);
    assert_eq!(world.lost(), Vec::<String>::new());
    world.a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn canaries_that_die_or_are_silent_stop_a_redrive() {
    let world = World::new().await;
    world.letters(40, None).await;
    let asked = |seconds| pba::RedriveDeadLettersRequest {
        selection: all(),
        canary: 3,
        canary_patience: Some(prost_types::Duration { seconds, nanos: 0 }),
        rate: 1_000,
        ..Default::default()
    };
    let fast = world.fast();
    let (_, steps) = run(&world.li, asked(5)).await.unwrap();
    let (outcome, progress, silent) = end(&steps);
    assert_eq!((outcome, progress.redriven), (pba::RedriveOutcome::CanarySilent, 3), "the partner is away");
    assert_eq!(world.waiting().await, 37);
    drop(fast);

    let b = world.partner().await;
    let (desk, mut seen) = Desk::open(&world.alliance, refused).await;
    let fast = world.fast();
    world.window.until("", &silent, pbe::State::Rejected).await;
    let (_, steps) = run(&world.li, asked(600)).await.unwrap();
    let (outcome, progress, died) = end(&steps);
    assert_eq!((outcome, progress.redriven), (pba::RedriveOutcome::CanaryDied, 3));
    drop(fast);
    assert_eq!(world.window.message("", &died).await.unwrap().state(), pbe::State::Rejected);
    assert!(std::iter::from_fn(|| seen.try_recv().ok()).count() <= 6);
    until("the canaries are letters themselves", async || world.waiting().await == 34 + 6).await;
    let shown = letter(&world.li, "", &died).await.unwrap();
    assert_eq!((shown.detail.as_str(), shown.has_body), ("缺少申请表", true));
    let (found, anew) = (shown.letter.unwrap(), shown.envelope.unwrap());
    assert_eq!((found.reason.as_str(), found.state()), ("RECIPIENT_REFUSED", pbe::State::Rejected));
    assert!(anew.parts.iter().all(|part| part.content.is_none()), "never a body");
    assert_eq!(world.window.message("", &anew.redrive_of).await.unwrap().redriven_as, died);
    assert_eq!(world.lost(), Vec::<String>::new());
    drop(desk);
    b.stop().await;
    world.a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_keeps_its_order_and_is_redriven_once_the_grants_allow_it() {
    let World { alliance, clock, a, window, li } = World::new().await;
    let world = World { alliance, clock, a, window, li };
    let ids = world.letters(30, Some("GX-2026-1")).await;
    let World { alliance, clock, a, .. } = world;
    a.stop().await;
    let mut config = alliance.config(A);
    config.grants = Grants::default();
    let a = alliance.start_by(&config, clock.clone()).await;
    let li = admin(&alliance, "450200/ops/li", A);
    let told = preview(&li, all()).await;
    let obstacle = &told.obstacles[0];
    assert_eq!((told.count, obstacle.kind(), obstacle.count), (0, pba::ObstacleKind::Refused, 30));
    assert_eq!((obstacle.reason.as_str(), obstacle.examples.len()), ("NOT_PERMITTED", 10));
    let asked = pba::RedriveDeadLettersRequest { selection: all(), rate: 1_000, ..Default::default() };
    assert_eq!(end(&run(&li, asked.clone()).await.unwrap().1).1.redriven, 0);
    a.stop().await;

    let a = alliance.start_by(&alliance.config(A), clock.clone()).await;
    let li = admin(&alliance, "450200/ops/li", A);
    let b = alliance.start_by(&alliance.config(B), clock.clone()).await;
    let (desk, mut seen) = Desk::open(&alliance, taken).await;
    assert_eq!(end(&run(&li, asked).await.unwrap().1).1.redriven, 30);
    for id in &ids {
        let next = tokio::time::timeout(PATIENCE, seen.recv()).await.expect("a message").unwrap().envelope.unwrap();
        assert_eq!((&next.redrive_of, next.case_no.as_str()), (id, "GX-2026-1"));
    }
    drop(desk);
    b.stop().await;
    a.stop().await;
}

/// Uploads an attachment as the window would: what names it, and the part that refers to it.
async fn attached(world: &World, bytes: usize) -> (Want, pb::Part) {
    let (path, salt) = (world.alliance.folder.join("scan.tiff"), [9; 16]);
    std::fs::write(&path, (0..bytes).map(|place| (place % 251) as u8).collect::<Vec<_>>()).unwrap();
    let open = move |offset| Chunks::of_file(std::fs::File::open(path.clone())?, offset);
    let (mut sums, mut chunks) = (Sums::new(Some(&salt)), open(0).unwrap().unwrap());
    while let Some(chunk) = chunks.next_chunk().unwrap() {
        sums.update(&chunk);
    }
    let (plain, salted) = sums.finish();
    let want = Want { digest: plain, size: bytes as u64, salt: Some(salt) };
    upload(&world.window.channel, &want, open, |_| {}).await.unwrap();
    let digest = |bytes: [u8; 32]| Some(pb::Digest { algorithm: "sha256".to_owned(), value: bytes.to_vec() });
    let content = pb::part::Content::Attachment(pb::Attachment { digest: digest(plain.0) });
    let part = pb::Part {
        name: "scan.tiff".to_owned(),
        media_type: "image/tiff".to_owned(),
        size: want.size,
        salt: salt.to_vec(),
        digest: digest(salted.0),
        content: Some(content),
    };
    (want, part)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_with_an_attachment_is_redriven_with_it_as_long_as_its_content_is_kept() {
    let world = World::new().await;
    let submit = async || {
        let (want, part) = attached(&world, 300_000).await;
        let sent = pb::Envelope { parts: vec![part.clone()], ..plain() };
        world.window.submit(sent.clone()).await.unwrap();
        (sent.message_id, want, part)
    };
    let ((first, want, part), (second, ..)) = (submit().await, submit().await);
    world.expire(2).await;
    let told = preview(&world.li, all()).await;
    assert_eq!((told.count, told.bytes), (2, 600_000));

    // No upload waits any more: the letter itself keeps what it refers to.
    let asked = |id| pba::RedriveDeadLettersRequest { selection: named("", [id]), ..Default::default() };
    let (outcome, progress, _) = end(&run(&world.li, asked(&first)).await.unwrap().1);
    assert_eq!((outcome, progress.redriven), (pba::RedriveOutcome::Done, 1));
    let anew = world.window.message("", &first).await.unwrap().redriven_as;
    let refers = "SELECT count(*) FROM attachment a JOIN message m USING (seq) WHERE m.redriven_as IS NULL";
    assert_eq!(world.number(refers), 2, "of the replacement and of the letter that still waits");

    let b = world.partner().await;
    let (desk, mut seen) = Desk::open(&world.alliance, taken).await;
    let arrives = async { seen.recv().await.unwrap().envelope.unwrap() };
    let delivered = tokio::time::timeout(PATIENCE, arrives).await.expect("it arrives");
    assert_eq!((&delivered.redrive_of, &delivered.message_id, &delivered.parts[0]), (&first, &anew, &part));
    let own = Blobs::open_with(world.alliance.folder.join("desk"), Bounds { reserve_bytes: 0, ..Bounds::default() });
    let ask = Ask { from_city: A.parse().unwrap(), message: anew.parse().unwrap(), digest: want.digest };
    let (own, owner, approval) = (own.unwrap(), Owner::identity("desk"), world.alliance.client(B, "approval"));
    let got = download(&approval.channel, &ask, &own, &owner, want, |_| {}).await.unwrap();
    assert_eq!(got.salted.0.to_vec(), part.digest.clone().unwrap().value, "byte for byte");

    // Once retention has taken the content of the other one, it is told so and stays.
    world.clock.advance(31 * DAY_MS);
    until("its content is gone", async || !letter(&world.li, "", &second).await.unwrap().has_body).await;
    let told = preview(&world.li, all()).await;
    assert_eq!((told.count, told.obstacles[0].kind(), told.obstacles[0].count), (0, pba::ObstacleKind::BodyGone, 1));
    assert_eq!(end(&run(&world.li, asked(&second)).await.unwrap().1).1.redriven, 0);
    assert_eq!(world.lost(), Vec::<String>::new());
    drop(desk);
    b.stop().await;
    world.a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_of_another_city_is_shown_with_its_origin_and_redriven_only_there() {
    let world = World::new().await;
    let b = world.partner().await;
    let (desk, _seen) = Desk::open(&world.alliance, refused).await;
    let sent = plain();
    world.window.submit(sent.clone()).await.unwrap();
    world.window.until("", &sent.message_id, pbe::State::Rejected).await;
    let huang = admin(&world.alliance, "440600/ops/huang", B);
    let found = groups(&huang).await;
    assert_eq!((found[0].count, found[0].own, found[0].lane.as_str()), (1, 0, "system/approval"));
    let told = preview(&huang, all()).await;
    assert_eq!((told.count, told.obstacles[0].kind()), (0, pba::ObstacleKind::Elsewhere));
    assert_eq!(told.obstacles[0].examples[0].from_city, A);
    let asked = pba::RedriveDeadLettersRequest { selection: named(A, [&sent.message_id]), ..Default::default() };
    assert_eq!(end(&run(&huang, asked).await.unwrap().1).1.redriven, 0);

    let discard = |reason: &str, dry_run| {
        let (selection, reason) = (named(A, [&sent.message_id]), reason.to_owned());
        let mut admin = huang.clone();
        async move { admin.discard_dead_letters(pba::DiscardDeadLettersRequest { selection, reason, dry_run }).await }
    };
    let refused = discard(" ", false).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_ENVELOPE");
    for (dry_run, discarded, others, acts) in [(true, 1, 0, 0), (false, 1, 0, 1), (false, 0, 1, 1)] {
        let told = discard("办件已在窗口办结", dry_run).await.unwrap().into_inner();
        assert_eq!((told.discarded, told.others), (discarded, others));
        assert_eq!(
            on_record(&world.alliance, B, "/ops/huang", "dead.discard"),
            acts,
            "each letter once, and no dry run"
        );
    }
    let shown = letter(&huang, A, &sent.message_id).await.unwrap().letter.unwrap();
    assert_eq!((shown.fate(), shown.discard_reason.as_str()), (pba::DeadLetterFate::Discarded, "办件已在窗口办结"));
    assert_eq!(groups(&huang).await.len(), 0);
    // At its origin it waits all the same, and goes on its way again.
    assert_eq!(preview(&world.li, all()).await.count, 1);
    drop(desk);
    b.stop().await;
    world.a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_people_of_the_own_member_see_letters_and_only_operators_act() {
    let world = World::new().await;
    let ids = world.letters(7, None).await;
    for (who, reads, acts) in [
        ("450200/ops/li", true, true),
        ("450200/auditor/shen", true, false),
        ("440600/ops/huang", false, false),
        ("450200/systems/window", false, false),
        ("440600/gateway", false, false),
    ] {
        let who_path = who.replace("auditor/", "auditors/");
        let admin = admin(&world.alliance, &who_path, A);
        let said =
            |answer: Result<(), tonic::Status>| answer.map_or_else(|status| reason(&status), |()| "OK".to_owned());
        let is = |allowed| if allowed { "OK" } else { "NOT_PERMITTED" };
        let groups = admin.clone().list_dead_letter_groups(pba::ListDeadLetterGroupsRequest::default()).await;
        assert_eq!(said(groups.map(drop)), is(reads), "{who}");
        let list = admin.clone().list_dead_letters(pba::ListDeadLettersRequest::default()).await;
        assert_eq!(said(list.map(drop)), is(reads), "{who}");
        assert_eq!(said(letter(&admin, "", &ids[0]).await.map(drop)), is(reads), "{who}");
        let asked = pba::RedriveDeadLettersRequest { selection: all(), preview: true, ..Default::default() };
        assert_eq!(said(run(&admin, asked).await.map(drop)), is(acts), "{who}");
        let asked = pba::DiscardDeadLettersRequest { selection: all(), reason: "x".into(), dry_run: true };
        assert_eq!(said(admin.clone().discard_dead_letters(asked).await.map(drop)), is(acts), "{who}");
    }
    let (mut pages, mut page_token) = (vec![], String::new());
    loop {
        let asked = pba::ListDeadLettersRequest { page_size: 3, page_token, ..Default::default() };
        let page = world.li.clone().list_dead_letters(asked).await.unwrap().into_inner();
        pages.push(page.letters.len());
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(pages, [3, 3, 1]);
    world.a.stop().await;
}
