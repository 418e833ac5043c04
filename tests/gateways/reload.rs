//! A running gateway reads its configuration again: the new state whole, or the old one and why; whoever is no longer let in
//! is gone at once, and nobody else notices.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::alliance::{self, Alliance, Client, Gateway, Mailbox, envelope, reason};
use crate::planted;
use crate::process;
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;

const A: &str = "450200";
const B: &str = "440600";
const WINDOW: (&str, &str) = (A, "window");
const ARCHIVE: (&str, &str) = (A, "archive");
const APPROVAL: (&str, &str) = (B, "approval");
/// Within which a right that was withdrawn ends what is open.
const AT_ONCE: Duration = Duration::from_secs(5);

fn alliance() -> Alliance {
    Alliance::new(&[(A, &["window", "archive"]), (B, &["approval"])])
}

fn configuration(alliance: &Alliance) -> (PathBuf, String) {
    let path = alliance.config_path(A);
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}

fn faults(renewed: Result<tongban::server::Renewed, tongban::server::NotRenewed>) -> String {
    renewed.expect_err("it is not taken up").to_string()
}

/// Waits until the stream has ended.
async fn ends(mut mailbox: Mailbox) -> Duration {
    let begun = Instant::now();
    let ended = async { while let Ok(Some(_)) = mailbox.down.message().await {} };
    assert!(tokio::time::timeout(alliance::PATIENCE, ended).await.is_ok(), "the stream ends");
    begun.elapsed()
}

async fn works(window: &Client, to: (&'static str, &'static str)) {
    window.submit(envelope(WINDOW, to)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_renewals_under_load_drop_no_call_and_a_broken_one_changes_nothing() {
    let alliance = alliance();
    let _foshan = alliance.start(B).await;
    let gateway = alliance.start(A).await;
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = |client: Client| {
        let (stop, calls) = (stop.clone(), calls.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                client.submit(envelope(WINDOW, APPROVAL)).await.unwrap();
                calls.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let callers: Vec<_> = (0..4).map(|_| load(alliance.client(A, "window"))).collect();
    let mut listening = alliance.client(A, "archive").receive(4).await;
    let (path, text) = configuration(&alliance);
    let lines = text.lines().count();
    let mut refused = 0;
    for round in 0..200 {
        let grant = format!("{text}\n[[grant]]\nwho = \"every-system\"\nitems = [\"{round}*\"]\ndivisions = [\"*\"]\n");
        let broken = round % 10 == 9;
        std::fs::write(&path, if broken { grant.replace("divisions = [\"*\"]\n", "divisons = 1\n") } else { grant })
            .unwrap();
        match gateway.renewal.renew().await {
            Ok(renewed) => assert!(!broken && renewed.cut == 0, "{round}: {renewed:?}"),
            Err(faults) => {
                assert!(broken, "{round}: {faults}");
                let place = format!("{}:", path.display());
                let at = faults.to_string();
                let line: usize = at.strip_prefix(&place).unwrap().split(':').next().unwrap().parse().unwrap();
                assert!(line > 1 && line <= lines + 5 && at.contains("divisons"), "it says where: {at}");
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 20);
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    let calls = calls.load(Ordering::Relaxed);
    assert!(calls > 200, "there was load: {calls}");
    // The stream that was open all the time still delivers.
    works(&alliance.client(A, "window"), ARCHIVE).await;
    listening.delivery().await;
    println!("200 renewals, 20 of them broken, and {calls} calls: none failed");
}

/// What is broken, how, and what the fault must name.
type Broken = (&'static str, fn(&Alliance), &'static str);

const BROKEN: &[Broken] = &[
    ("a setting that takes a restart", |a| change(a, "listen = \"127.0.0.1", "listen = \"127.0.0.2"), "gateway.listen"),
    ("another log key", |a| change(a, "log.key", "member.key"), "log.key"),
    ("rubbish for a certificate", |a| spoil(a, "450200/gateway.pem"), "gateway.pem"),
    ("rubbish for a private key", |a| spoil(a, "450200/gateway.key"), "gateway.key"),
    ("another's private key", |a| copy(a, "440600/gateway.key", "450200/gateway.key"), "certificate and key"),
    ("another's certificate", others, "it is for"),
    ("another's revocation list", |a| copy(a, "450200/crl.pem", "440600/crl.pem"), "440600"),
    ("rubbish for a directory", |a| spoil(a, "directory.note"), "directory.note"),
    ("a grant for nobody", |a| change(a, "\"every-gateway\"", "\"every-body\""), "every-body"),
];

fn change(alliance: &Alliance, from: &str, to: &str) {
    let (path, text) = configuration(alliance);
    assert!(text.contains(from), "{from}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

fn spoil(alliance: &Alliance, path: &str) {
    std::fs::write(alliance.folder.join("pki").join(path), "rubbish").unwrap();
}

fn copy(alliance: &Alliance, from: &str, to: &str) {
    let pki = alliance.folder.join("pki");
    std::fs::copy(pki.join(from), pki.join(to)).unwrap();
}

fn others(alliance: &Alliance) {
    copy(alliance, "440600/gateway.pem", "450200/gateway.pem");
    copy(alliance, "440600/gateway.key", "450200/gateway.key");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_broken_the_old_state_stays_and_the_fault_is_named() {
    let alliance = alliance();
    let gateway = alliance.start(A).await;
    let kept = alliance.folder.join("pki.kept");
    let (path, text) = configuration(&alliance);
    let copied = |from: &PathBuf, to: &PathBuf| {
        let _ = std::fs::remove_dir_all(to);
        assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    };
    let pki = alliance.folder.join("pki");
    copied(&pki, &kept);
    let window = alliance.client(A, "window");
    for (what, breaks, named) in BROKEN {
        breaks(&alliance);
        let said = faults(gateway.renewal.renew().await);
        assert!(said.contains(named), "{what}: {said}");
        works(&window, ARCHIVE).await;
        copied(&kept, &pki);
        std::fs::write(&path, &text).unwrap();
        works(&alliance.client(A, "window"), ARCHIVE).await;
    }
    assert_eq!(gateway.renewal.renew().await.unwrap(), tongban::server::Renewed::default());
}

/// Listens as a system, lets `withdraw` happen and the gateway read it, and sees the stream end at once.
async fn is_gone(alliance: &Alliance, gateway: &Gateway, system: &str, withdraw: impl FnOnce()) -> Client {
    let client = alliance.client(A, system);
    let mailbox = client.receive(4).await;
    withdraw();
    let renewed = gateway.renewal.renew().await.unwrap();
    assert_eq!(renewed.cut, 1, "its connection alone");
    let took = ends(mailbox).await;
    assert!(took < AT_ONCE, "{took:?}");
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_revoked_ends_its_streams_at_once_and_no_others() {
    planted::take_up();
    let alliance = alliance();
    let gateway = alliance.start(A).await;
    let window = alliance.client(A, "window");
    works(&window, ARCHIVE).await;
    let revoke = || drop(alliance.run(&["pki", "revoke", A, "system/archive"], &["--dir", &alliance.pki()]));
    let archive = is_gone(&alliance, &gateway, "archive", revoke).await;
    assert!(archive.submit(envelope(ARCHIVE, WINDOW)).await.is_err(), "it is not let in again");
    works(&window, ARCHIVE).await;
}

/// The test of this test: a gateway that does not read the list again is noticed.
#[cfg(debug_assertions)]
#[test]
fn a_revocation_list_that_is_not_read_again_is_noticed() {
    let told = planted::fails(
        "crl-not-re-read",
        "reload::a_certificate_that_is_revoked_ends_its_streams_at_once_and_no_others",
        &[],
    );
    assert!(told.contains("its connection alone"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_without_a_grant_any_more_ends_at_once() {
    let alliance = alliance();
    let gateway = alliance.start(A).await;
    let window = alliance.client(A, "window");
    works(&window, ARCHIVE).await;
    let one = "\"spiffe://alliance.example/city/450200/system/window\"";
    let withdraw = || change(&alliance, "\"every-system\"", one);
    let archive = is_gone(&alliance, &gateway, "archive", withdraw).await;
    let refused = archive.submit(envelope(ARCHIVE, WINDOW)).await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_PERMITTED");
    works(&window, ARCHIVE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_whose_certificate_is_revoked_gets_nothing_more_over_the_open_line() {
    let alliance = alliance();
    let gateway = alliance.start(A).await;
    let _foshan = alliance.start(B).await;
    let window = alliance.client(A, "window");
    let sent = envelope(WINDOW, APPROVAL);
    window.submit(sent.clone()).await.unwrap();
    window.until("", &sent.message_id, pbe::State::Consigned).await;
    alliance.run(&["pki", "revoke", B, "gateway"], &["--dir", &alliance.pki()]);
    gateway.renewal.renew().await.unwrap();
    let waits = envelope(WINDOW, APPROVAL);
    window.submit(waits.clone()).await.unwrap();
    // What comes after it on another way is there, and it still waits.
    let mut archive = alliance.client(A, "archive").receive(4).await;
    works(&window, ARCHIVE).await;
    archive.delivery().await;
    process::until("the lane has failed to open", async || {
        let state = window.message("", &waits.message_id).await.unwrap().state();
        assert_eq!(state, pbe::State::Accepted);
        let sql = rusqlite::Connection::open(alliance.config(A).data.join("store.db")).unwrap();
        sql.query_row("SELECT max(failures) FROM lane", [], |row| row.get::<_, u32>(0)).unwrap() > 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_shown_and_used_from_the_next_connection_on() {
    let alliance = alliance();
    let gateway = alliance.start(A).await;
    let window = alliance.client(A, "window");
    works(&window, ARCHIVE).await;
    let serial = async || {
        let (dialler, address) = alliance.dialler_with(alliance.own("450200/systems/window"), A);
        let stream = dialler.dial(address).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let before = serial().await;
    alliance.run(&["pki", "renew", A, "gateway"], &["--dir", &alliance.pki()]);
    assert_eq!(serial().await, before, "not before it is told");
    gateway.renewal.renew().await.unwrap();
    assert_ne!(serial().await, before);
    works(&window, ARCHIVE).await;
    // The partner, which starts now, is dialled with the new one.
    std::fs::remove_file(alliance.folder.join("pki/450200/gateway.key.old")).unwrap();
    let _foshan = alliance.start(B).await;
    let sent = envelope(WINDOW, APPROVAL);
    window.submit(sent.clone()).await.unwrap();
    window.until("", &sent.message_id, pbe::State::Consigned).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_that_is_added_has_a_mailbox_and_one_that_is_taken_away_has_none() {
    let alliance = alliance();
    let gateway = alliance.start(A).await;
    alliance.run(&["pki", "add-system", A, "desk"], &["--dir", &alliance.pki()]);
    let (path, text) = configuration(&alliance);
    let added = text.replacen("[[grant]]", "[[system]]\nname = \"desk\"\nitems = [\"desk*\"]\n\n[[grant]]", 1);
    std::fs::write(&path, added).unwrap();
    gateway.renewal.renew().await.unwrap();
    let mut desk = alliance.client(A, "desk").receive(4).await;
    works(&alliance.client(A, "window"), (A, "desk")).await;
    let (delivery, _) = desk.delivery().await;
    desk.acknowledge(&delivery.delivery_id).await;
    let _: pb::Settled = desk.settled().await;
    std::fs::write(&path, &text).unwrap();
    gateway.renewal.renew().await.unwrap();
    let refused = alliance.client(A, "window").submit(envelope(WINDOW, (A, "desk"))).await.unwrap_err();
    assert_eq!(reason(&refused), "NO_SUCH_SYSTEM");
}
