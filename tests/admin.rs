//! Shows what those who operate a gateway can do with it while it runs: pause lanes and let them go on, over restarts, and
//! that all who ask are told so.

#[path = "support/alliance.rs"]
mod alliance;
#[path = "support/process.rs"]
mod process;

use std::time::Duration;

use alliance::{Alliance, City, Client, Gateway, Mailbox, envelope, reason};
use process::{let_work, until};
use rusqlite::{Connection, OpenFlags};
use tongban::checks::{Verdict, examine_self};
use tongban::clock::Clock;
use tongban::grpc::health::{Said, ask};
use tongban::wire::pb::admin as pba;
use tongban::wire::pb::admin::admin_service_client::AdminServiceClient;
use tongban::wire::pb::exchange as pb;
use tongban::wire::pb::exchange::receive_response::Response as Step;
use tonic::Code;
use tonic::transport::Channel;

const A: &str = "450200";
const B: &str = "440600";
/// It cannot be dialled, and fetches at A.
const C: &str = "640100";
const TO_B: &str = "gateway/440600";

type Admin = AdminServiceClient<Channel>;

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
        for (add, city, name) in [("add-ops", A, "li"), ("add-auditor", A, "shen"), ("add-ops", B, "huang")] {
            alliance.run(&["pki", add, city, name], &["--dir", &alliance.pki()]);
        }
        let path = alliance.config_path(A);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}\n[checks]\nevery_s = 1\npartners_every_s = 1\n")).unwrap();
        let a = alliance.start(A).await;
        let (window, li) = (alliance.client(A, "window"), admin(&alliance, "450200/ops/li"));
        World { alliance, a, window, li }
    }

    /// A stops and starts again.
    async fn again(self) -> World {
        let World { alliance, a, .. } = self;
        a.stop().await;
        let a = alliance.start(A).await;
        let (window, li) = (alliance.client(A, "window"), admin(&alliance, "450200/ops/li"));
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

    /// Messages that the store of this city holds.
    fn held_by(&self, city: &str) -> u64 {
        let path = self.alliance.config(city).data.join("store.db");
        let sql = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        sql.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap()
    }
}

fn admin(alliance: &Alliance, certificate: &str) -> Admin {
    AdminServiceClient::new(alliance.client_of(certificate, A).channel)
}

/// Takes so many messages and acknowledges them: their ids, once all is settled.
async fn take(mailbox: &mut Mailbox, count: usize) -> Vec<String> {
    let (mut ids, mut settled) = (vec![], 0);
    while settled < count {
        match mailbox.next().await.unwrap() {
            Step::Delivery(delivery) => {
                let Some(pb::delivery::Content::Message(message)) = delivery.content else { panic!("a message") };
                ids.push(message.envelope.unwrap().message_id);
                mailbox.acknowledge(&delivery.delivery_id).await;
            }
            Step::Settled(_) => settled += 1,
            other => panic!("neither a message nor an end: {other:?}"),
        }
    }
    ids
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
    assert_eq!((lane.waiting, lane.in_flight, world.held_by(B)), (3, 0, 1), "accepted, and kept here");
    assert!(lane.oldest.is_some() && lane.worked);

    let world = world.again().await;
    sent.extend(world.send((B, ""), 1).await);
    let_work(Duration::from_millis(300)).await;
    let lane = world.lane(TO_B).await;
    assert_eq!((lane.pause, lane.waiting, world.held_by(B)), (Some(pause), 4, 1), "the next life knows it");

    let resumed = world.resume(TO_B).await;
    assert!(resumed.changed && resumed.lane.unwrap().pause.is_none());
    let mut taken = take(&mut approval, 4).await;
    (taken.sort(), sent.sort());
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
    assert_eq!(world.held_by(C), 1);
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
    until("some have gone", async || world.held_by(B) > 20).await;
    let lane = world.pause(TO_B).await.lane.unwrap();
    let gone = world.held_by(B);
    sending.await.unwrap();
    let_work(Duration::from_millis(300)).await;
    let (after, most) = (world.held_by(B), gone + u64::from(lane.in_flight));
    assert!(after <= most && after < count, "{gone} were there, {} were out, {after} came", lane.in_flight);
    world.resume(TO_B).await;
    until("all have gone", async || world.held_by(B) == count).await;
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
    assert!(lane.look.seen.contains("/ops/li: 对方迁移机房"), "{}", lane.look.seen);
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
    assert_eq!((told.changed, told.at_next_start, told.faults), (vec!["grant".into()], vec!["checks".into()], vec![]));
    std::fs::write(&path, format!("{text}\n[[grant]]\nwho = 1\nitms = []\n")).unwrap();
    let told = reload().await;
    assert!(told.changed.is_empty() && !told.faults.is_empty(), "{told:?}");
    let place = format!("{}:", path.display());
    assert!(told.faults.iter().all(|fault| fault.starts_with(&place)), "each says where: {:?}", told.faults);
    std::fs::write(&path, &text).unwrap();
    assert_eq!(reload().await.changed, ["grant"], "the grant held until now");
}
