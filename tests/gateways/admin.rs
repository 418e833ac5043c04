//! Shows what those who operate a gateway can do with it while it runs: pause lanes and let them go on, over restarts, and
//! that all who ask are told so.

use std::time::Duration;

use crate::alliance::{self, Alliance, City, Client, Gateway, envelope, part, reason};
use crate::process::{let_work, until};
use crate::staff::{self, Admin, admin, audit, auditor, held_by, ops, page, take};
use rusqlite::Connection;
use tongban::checks::{Verdict, examine_self};
use tongban::clock::Clock;
use tongban::grpc::health::{Said, ask};
use tongban::limits::HOUR_MS;
use tongban::wire::pb::admin as pba;
use tongban::wire::pb::admin::admin_service_client::AdminServiceClient;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;
use tongban::wire::pb::routing as pbr;
use tongban::wire::pb::routing::routing_service_client::RoutingServiceClient;
use tonic::Code;

const A: &str = "450200";
const B: &str = "440600";
/// It cannot be dialled, and fetches at A.
const C: &str = "640100";
const TO_B: &str = "gateway/440600";

/// Three cities, of which A runs; its people are li (ops) and shen (auditor).
struct World {
    alliance: Alliance,
    a: Gateway,
    window: Client,
    li: Admin,
}

impl World {
    async fn new() -> World {
        let city = |code, systems| City { code, systems, ..Default::default() };
        let c = City { pulls: true, fetches: &[A], ..city(C, &["desk"]) };
        let alliance = Alliance::of(&[], &[city(A, &["window", "archive"]), city(B, &["approval"]), c]);
        staff::hire(&alliance);
        alliance.run(&["pki", "add-ops", B, "huang"], &["--dir", &alliance.pki()]);
        let path = alliance.config_path(A);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}\n[checks]\nevery_s = 1\npartners_every_s = 1\n")).unwrap();
        let a = alliance.start(A).await;
        let (window, li) = (alliance.client(A, "window"), ops(&alliance));
        World { alliance, a, window, li }
    }

    /// A stops and starts again.
    async fn again(self) -> World {
        let World { alliance, a, .. } = self;
        a.stop().await;
        let a = alliance.start(A).await;
        let (window, li) = (alliance.client(A, "window"), ops(&alliance));
        World { alliance, a, window, li }
    }

    async fn pause(&self, lane: &str) -> pba::PauseLaneResponse {
        let request = pba::PauseLaneRequest { lane: lane.to_owned(), reason: "对方迁移机房".to_owned() };
        self.li.clone().pause_lane(request).await.unwrap().into_inner()
    }

    async fn resume(&self, lane: &str) -> pba::ResumeLaneResponse {
        let request = pba::ResumeLaneRequest { lane: lane.to_owned(), reason: String::new() };
        self.li.clone().resume_lane(request).await.unwrap().into_inner()
    }

    async fn lane(&self, name: &str) -> pba::Lane {
        let lanes = self.li.clone().list_lanes(pba::ListLanesRequest {}).await.unwrap().into_inner().lanes;
        lanes.into_iter().find(|lane| lane.name == name).unwrap_or_else(|| panic!("no lane {name}"))
    }

    /// Submits so many messages to this city: their ids.
    async fn send(&self, to: (&str, &str), count: usize) -> Vec<String> {
        let mut ids = vec![];
        for _ in 0..count {
            let sent = envelope((A, "window"), to);
            ids.push(sent.message_id.clone());
            self.window.submit(sent).await.unwrap();
        }
        ids
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_lane_pushes_nothing_until_it_is_resumed_over_a_restart_too() {
    let world = World::new().await;
    let _b = world.alliance.start(B).await;
    let mut approval = world.alliance.client(B, "approval").receive(64).await;
    let before = world.send((B, ""), 1).await;
    assert_eq!(take(&mut approval, 1).await, before);

    let paused = world.pause(TO_B).await;
    assert!(paused.changed);
    let pause = paused.lane.unwrap().pause.unwrap();
    assert!(pause.by.ends_with("/city/450200/ops/li") && pause.since.is_some(), "{pause:?}");
    let mut sent = world.send((B, ""), 3).await;
    let_work(Duration::from_millis(300)).await;
    let lane = world.lane(TO_B).await;
    assert_eq!((lane.waiting, lane.in_flight, held_by(&world.alliance, B)), (3, 0, 1), "accepted, and kept here");
    assert!(lane.oldest.is_some() && lane.worked);

    let world = world.again().await;
    sent.extend(world.send((B, ""), 1).await);
    let_work(Duration::from_millis(300)).await;
    let lane = world.lane(TO_B).await;
    assert_eq!((lane.pause, lane.waiting, held_by(&world.alliance, B)), (Some(pause), 4, 1), "the next life knows it");

    let resumed = world.resume(TO_B).await;
    assert!(resumed.changed && resumed.lane.unwrap().pause.is_none());
    let mut taken = take(&mut approval, 4).await;
    taken.sort();
    sent.sort();
    assert_eq!(taken, sent);
    until("the lane is empty", async || world.lane(TO_B).await.waiting == 0).await;
    let world = world.again().await;
    assert_eq!(world.lane(TO_B).await.pause, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_fetches_gets_nothing_from_a_paused_lane() {
    let world = World::new().await;
    let _c = world.alliance.start(C).await;
    let mut desk = world.alliance.client(C, "desk").receive(8).await;
    let mut archive = world.alliance.client(A, "archive").receive(8).await;
    let first = world.send((C, ""), 1).await;
    assert_eq!(take(&mut desk, 1).await, first);
    let first = world.send((A, "archive"), 1).await;
    assert_eq!(take(&mut archive, 1).await, first);

    for lane in ["gateway/640100", "system/archive"] {
        assert!(world.pause(lane).await.changed);
    }
    let (away, here) = (world.send((C, ""), 2).await, world.send((A, "archive"), 2).await);
    let_work(Duration::from_millis(300)).await;
    for lane in ["gateway/640100", "system/archive"] {
        let lane = world.lane(lane).await;
        assert_eq!((lane.waiting, lane.in_flight), (2, 0), "{lane:?}");
    }
    assert_eq!(held_by(&world.alliance, C), 1);
    for lane in ["gateway/640100", "system/archive"] {
        assert!(world.resume(lane).await.changed);
    }
    let mut taken = [take(&mut desk, 2).await, take(&mut archive, 2).await];
    taken.iter_mut().for_each(|ids| ids.sort());
    assert_eq!(taken, [away, here].map(|mut ids| (ids.sort(), ids).1));
}

#[tokio::test(flavor = "multi_thread")]
async fn once_the_answer_is_there_nothing_more_leaves_than_was_out() {
    let world = World::new().await;
    let _b = world.alliance.start(B).await;
    let count = 400;
    let window = world.window.clone();
    let sending = tokio::spawn(async move {
        for _ in 0..count {
            window.submit(envelope((A, "window"), (B, ""))).await.unwrap();
        }
    });
    until("some have gone", async || held_by(&world.alliance, B) > 20).await;
    let lane = world.pause(TO_B).await.lane.unwrap();
    let gone = held_by(&world.alliance, B);
    sending.await.unwrap();
    let_work(Duration::from_millis(300)).await;
    let (after, most) = (held_by(&world.alliance, B), gone + u64::from(lane.in_flight));
    assert!(after <= most && after < count, "{gone} were there, {} were out, {after} came", lane.in_flight);
    world.resume(TO_B).await;
    until("all have gone", async || held_by(&world.alliance, B) == count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_is_let_go_on_takes_receipts_home_at_once_too() {
    let alliance = Alliance::new(&[(A, &["window"]), (B, &["approval"])]);
    alliance.run(&["pki", "add-ops", B, "huang"], &["--dir", &alliance.pki()]);
    let (a, b) = (alliance.start(A).await, alliance.start(B).await);
    let (window, approval) = (alliance.client(A, "window"), alliance.client(B, "approval"));
    let sent = envelope((A, "window"), (B, "approval"));
    window.submit(sent.clone()).await.unwrap();
    window.until("", &sent.message_id, pbe::State::Consigned).await;
    a.stop().await;
    assert_eq!(take(&mut approval.receive(1).await, 1).await, std::slice::from_ref(&sent.message_id));
    b.stop().await;
    // Its receipt has not gone home, and A was away for so long that the lane rests for half an hour.
    let database = Connection::open(alliance.config(B).data.join("store.db")).unwrap();
    let rest = Clock::default().now().plus_ms(HOUR_MS / 2).ms();
    let long = "UPDATE lane SET failures = 9, rest_until = ? WHERE name = 'gateway/450200'";
    assert_eq!(database.execute(long, [rest]), Ok(1));
    drop(database);
    let (_a, _b) = (alliance.start(A).await, alliance.start(B).await);
    let window = alliance.client(A, "window");
    let_work(Duration::from_millis(300)).await;
    assert_ne!(window.message("", &sent.message_id).await.unwrap().state(), pbe::State::Confirmed, "it rests");
    let mut huang = AdminServiceClient::new(alliance.client_of("440600/ops/huang", B).channel);
    let lane = "gateway/450200".to_owned();
    let pause = pba::PauseLaneRequest { lane: lane.clone(), reason: "对方已恢复".to_owned() };
    huang.pause_lane(pause).await.unwrap();
    huang.resume_lane(pba::ResumeLaneRequest { lane, reason: String::new() }).await.unwrap();
    window.until("", &sent.message_id, pbe::State::Confirmed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_a_lanes_own_has_a_reason_and_is_not_made_twice() {
    let world = World::new().await;
    let first = world.pause(TO_B).await.lane.unwrap().pause;
    let request = pba::PauseLaneRequest { lane: TO_B.to_owned(), reason: "another".to_owned() };
    let again = world.li.clone().pause_lane(request).await.unwrap().into_inner();
    assert_eq!((again.changed, again.lane.unwrap().pause), (false, first), "the first reason stands");
    assert!(world.resume(TO_B).await.changed);
    assert!(!world.resume(TO_B).await.changed);
    for (lane, why) in [
        ("", "x"),
        ("gateway/350200", "no member"),
        ("system/nobody", "no system"),
        ("440600", "no lane's name"),
        (TO_B, ""),
        (TO_B, "  "),
        (TO_B, "a\u{1b}[2J"),
        (TO_B, &"长".repeat(86)),
    ] {
        let request = pba::PauseLaneRequest { lane: lane.to_owned(), reason: why.to_owned() };
        let refused = world.li.clone().pause_lane(request).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::InvalidArgument, "INVALID_ENVELOPE"),
            "{lane} {why}"
        );
    }
    assert_eq!(world.lane(TO_B).await.pause, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_and_health_say_who_paused_a_lane_and_why() {
    let world = World::new().await;
    let _b = world.alliance.start(B).await;
    let li = world.alliance.client_of("450200/ops/li", A);
    let says = async |name: &str| ask(li.channel.clone(), name).await.unwrap().0;
    until("the partner is known to serve", async || says("partner/440600").await == Said::Serving).await;
    world.pause(TO_B).await;
    until("who asks for the partner is told", async || says("partner/440600").await == Said::NotServing).await;
    assert_eq!(says("").await, Said::Serving, "the gateway itself serves");
    let found = examine_self(&world.alliance.config(A), &Clock::default());
    let lane = found.iter().find(|one| one.check == "lanes.flow" && one.look.about.as_deref() == Some(TO_B)).unwrap();
    assert!(matches!(&lane.look.verdict, Verdict::Warning(advice) if advice.code == "lane_held"));
    assert!(lane.look.seen.en.contains("/ops/li: 对方迁移机房"), "{:?}", lane.look.seen);
    world.resume(TO_B).await;
    until("it serves again", async || says("partner/440600").await == Said::Serving).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_up_all_and_says_what_or_nothing_and_says_why() {
    let world = World::new().await;
    let reload = async || world.li.clone().reload(pba::ReloadRequest {}).await.unwrap().into_inner();
    assert_eq!(reload().await, pba::ReloadResponse::default(), "nothing has changed");
    let path = world.alliance.config_path(A);
    let text = std::fs::read_to_string(&path).unwrap();
    let grant = "\n[[grant]]\nwho = \"every-system\"\nitems = [\"9*\"]\ndivisions = [\"*\"]\n";
    std::fs::write(&path, text.replace("\nevery_s = 1\n", "\nevery_s = 7\n") + grant).unwrap();
    let told = reload().await;
    assert_eq!(
        (told.changed, told.at_next_start, told.faults),
        (vec!["grant".into()], vec!["checks.every_s".into()], vec![])
    );
    std::fs::write(&path, format!("{text}\n[[grant]]\nwho = 1\nitms = []\n")).unwrap();
    let told = reload().await;
    assert!(told.changed.is_empty() && !told.faults.is_empty(), "{told:?}");
    let place = format!("{}:", path.display());
    assert!(told.faults.iter().all(|fault| fault.starts_with(&place)), "each says where: {:?}", told.faults);
    std::fs::write(&path, &text).unwrap();
    assert_eq!(reload().await.changed, ["grant"], "the grant held until now");
    world.a.renewal.renew().await.unwrap();
    let last = audit(&world.alliance).await.pop().unwrap();
    assert_eq!(last[..2], ["SIGHUP", "gateway.reload"], "a signal says no name");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_act_done_or_refused_stands_in_the_audit() {
    let world = World::new().await;
    let [mut shen, mut huang] = ["450200/auditors/shen", "440600/ops/huang"].map(|who| admin(&world.alliance, who));
    let pause = |lane: &str| pba::PauseLaneRequest { lane: lane.to_owned(), reason: "planted words".to_owned() };
    let id = world.send((B, ""), 1).await.remove(0);
    world.pause(TO_B).await;
    world.pause(TO_B).await;
    assert_eq!(reason(&shen.pause_lane(pause(TO_B)).await.unwrap_err()), "NOT_PERMITTED");
    assert_eq!(reason(&huang.pause_lane(pause(TO_B)).await.unwrap_err()), "NOT_PERMITTED");
    assert_eq!(reason(&huang.reload(pba::ReloadRequest {}).await.unwrap_err()), "NOT_PERMITTED");
    world.resume(TO_B).await;
    world.li.clone().pause_lane(pause("gateway/350200")).await.unwrap_err();
    world.li.clone().pause_lane(pause("nonsense")).await.unwrap_err();
    world.li.clone().reload(pba::ReloadRequest {}).await.unwrap();
    let path = world.alliance.config_path(A);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}x")).unwrap();
    world.li.clone().reload(pba::ReloadRequest {}).await.unwrap();
    std::fs::write(&path, &text).unwrap();
    let names =
        pba::DeadLetterNames { names: vec![pba::DeadLetterName { from_city: A.to_owned(), message_id: id.clone() }] };
    let selection =
        Some(pba::DeadLetterSelection { selection: Some(pba::dead_letter_selection::Selection::Names(names)) });
    let discard = pba::DiscardDeadLettersRequest { selection, reason: "x".to_owned(), dry_run: false };
    shen.discard_dead_letters(discard).await.unwrap_err();
    let mut routing = RoutingServiceClient::new(world.alliance.client_of("450200/auditors/shen", A).channel);
    routing.publish_tables(pbr::PublishTablesRequest::default()).await.unwrap_err();

    let why = "对方迁移机房";
    let expected = [
        ["li", "lane.pause", TO_B, "", why],
        ["shen", "lane.pause", TO_B, "NOT_PERMITTED", ""],
        ["huang", "lane.pause", "", "NOT_PERMITTED", ""],
        ["huang", "gateway.reload", "", "NOT_PERMITTED", ""],
        ["li", "lane.resume", TO_B, "", ""],
        ["li", "lane.pause", "gateway/350200", "INVALID_ENVELOPE", ""],
        ["li", "lane.pause", "", "INVALID_ENVELOPE", ""],
        ["li", "gateway.reload", "", "", ""],
        ["li", "gateway.reload", "", "NOT_TAKEN_UP", ""],
        ["shen", "dead.discard", "", "NOT_PERMITTED", ""],
        ["shen", "route.publish", "", "NOT_PERMITTED", ""],
    ];
    until("all is on record", async || audit(&world.alliance).await.len() == expected.len()).await;
    assert_eq!(audit(&world.alliance).await, expected.map(|row| row.map(str::to_owned)));
    let world = world.again().await;
    assert_eq!(audit(&world.alliance).await.len(), expected.len(), "the log keeps it");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_refused_again_and_again_does_not_fill_the_log() {
    let world = World::new().await;
    let mut huang = admin(&world.alliance, "440600/ops/huang");
    for _ in 0..100 {
        huang.reload(pba::ReloadRequest {}).await.unwrap_err();
    }
    let mut shen = auditor(&world.alliance);
    shen.reload(pba::ReloadRequest {}).await.unwrap_err();
    let by = async |who: &str| audit(&world.alliance).await.iter().filter(|row| row[0] == who).count();
    until("another's refusal is on record all the same", async || by("shen").await == 1).await;
    let of_huang = by("huang").await;
    // The minute may have changed once meanwhile.
    assert!([10, 20].contains(&of_huang), "{of_huang}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_is_read_page_by_page_and_narrowed() {
    let world = World::new().await;
    for _ in 0..6 {
        world.pause(TO_B).await;
        world.resume(TO_B).await;
    }
    let whole = page(&world.alliance, pba::ListAuditRequest::default()).await;
    assert_eq!((whole.entries.len(), whole.next_page_token.as_str()), (12, ""));
    assert!(whole.entries.is_sorted_by_key(|entry| std::cmp::Reverse(entry.leaf_index)), "newest first");
    let paged = async |request: pba::ListAuditRequest| {
        let (mut all, mut page_token) = (vec![], String::new());
        loop {
            let page =
                page(&world.alliance, pba::ListAuditRequest { page_size: 5, page_token, ..request.clone() }).await;
            assert!(page.entries.len() <= 5);
            all.extend(page.entries);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return all;
            }
        }
    };
    let any = pba::ListAuditRequest::default;
    assert_eq!(paged(any()).await, whole.entries);
    let those = |keep: &dyn Fn(&pba::AuditEntry) -> bool| {
        whole.entries.iter().filter(|entry| keep(entry)).cloned().collect::<Vec<_>>()
    };
    let resumed = pba::ListAuditRequest { act: "lane.r".to_owned(), ..any() };
    assert_eq!(paged(resumed).await, those(&|entry| entry.act == "lane.resume"));
    for (actor, count) in [("ops/li", 12), ("ops/wu", 0)] {
        assert_eq!(paged(pba::ListAuditRequest { actor: actor.to_owned(), ..any() }).await.len(), count);
    }
    let (newest, oldest) = (whole.entries[3].time, whole.entries[8].time);
    let key = |time: &Option<prost_types::Timestamp>| time.map(|time| (time.seconds, time.nanos));
    let between = pba::ListAuditRequest { from: oldest, until: newest, ..any() };
    let inside = |entry: &pba::AuditEntry| key(&entry.time) >= key(&oldest) && key(&entry.time) < key(&newest);
    assert_eq!(paged(between).await, those(&inside));
    let token = pba::ListAuditRequest { page_token: "x".to_owned(), ..any() };
    let refused = auditor(&world.alliance).list_audit(token).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_ENVELOPE");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_looks_at_a_content_off_the_record() {
    let world = World::new().await;
    let content = b"planted content";
    let sent = pb::Envelope { parts: vec![part("form.json", content)], ..envelope((A, "window"), (B, "")) };
    let id = sent.message_id.clone();
    world.window.submit(sent).await.unwrap();
    let look = async |message_id: &str, why: &str| {
        let (from_city, message_id, reason) = (String::new(), message_id.to_owned(), why.to_owned());
        world.li.clone().read_content(pba::ReadContentRequest { from_city, message_id, reason }).await
    };
    let shown = look(&id, "核对投诉 2026-118").await.unwrap().into_inner();
    let inline = shown.envelope.unwrap().parts.remove(0).content;
    assert!(shown.has_body && matches!(inline, Some(pb::part::Content::Inline(bytes)) if bytes == content[..]));
    let unknown = alliance::new_id();
    for (id, why, refusal) in [(&id, " ", "INVALID_ENVELOPE"), (&unknown, "x", "MESSAGE_NOT_FOUND")] {
        assert_eq!(reason(&look(id, why).await.unwrap_err()), refusal);
    }
    let expected = [
        ["li", "content.read", &format!("{A}/{id}"), "", "核对投诉 2026-118"],
        ["li", "content.read", &format!("{A}/{id}"), "INVALID_ENVELOPE", ""],
        ["li", "content.read", &format!("{A}/{unknown}"), "MESSAGE_NOT_FOUND", ""],
    ];
    until("all is on record", async || audit(&world.alliance).await.len() == expected.len()).await;
    assert_eq!(audit(&world.alliance).await, expected.map(|row| row.map(str::to_owned)));
}
