//! Shows what those who operate a gateway can decide about members while it runs: suspend one and resume it, hand in what a
//! member signed, and believe a changed key by its whole fingerprint; over restarts, and on record.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::alliance::{Alliance, City, Client, envelope, reason};
use crate::process::{let_work, until};
use crate::staff::{self, audit, auditor, held_by, ops, take};
use tongban::checks::Which;
use tongban::clock::Clock;
use tongban::directory::notes::{Carried, Kind};
use tongban::directory::{Directory, Entry, MemberRecord, alliance_key_name, fingerprint, member_key_name};
use tongban::keys;
use tongban::party::Member;
use tongban::tlog::note::SigningKey;
use tongban::wire::notes::pieces;
use tongban::wire::pb::admin as pba;
use tongban::wire::pb::admin::admin_service_client::AdminServiceClient;
use tongban::wire::pb::directory as pbd;
use tongban::wire::pb::directory::directory_service_client::DirectoryServiceClient;
use tongban::wire::pb::evidence as pbe;
use tonic::Status;

const A: &str = "450200";
const B: &str = "440600";
const HUB: &str = "hub/main";

/// Cities of which A has an operator and an auditor.
fn alliance_of(hubs: &[&str], cities: &[City]) -> Alliance {
    let alliance = Alliance::of(hubs, cities);
    staff::hire(&alliance);
    alliance
}

fn city(code: &'static str, systems: &'static [&'static str]) -> City<'static> {
    City { code, systems, ..Default::default() }
}

fn two() -> Alliance {
    alliance_of(&[], &[city(A, &["window"]), city(B, &["approval"])])
}

async fn suspend(alliance: &Alliance, member: &str) -> Result<pba::SuspendMemberResponse, Status> {
    let request = pba::SuspendMemberRequest { member: member.to_owned(), reason: "核查证书泄露".to_owned() };
    ops(alliance).suspend_member(request).await.map(tonic::Response::into_inner)
}

async fn resume(alliance: &Alliance, member: &str) -> pba::ResumeMemberResponse {
    let request = pba::ResumeMemberRequest { member: member.to_owned(), reason: String::new() };
    ops(alliance).resume_member(request).await.unwrap().into_inner()
}

async fn member(alliance: &Alliance, member: &str) -> pba::Member {
    let request = pba::ListMembersRequest { member: member.to_owned(), ..Default::default() };
    auditor(alliance).list_members(request).await.unwrap().into_inner().members.remove(0)
}

async fn publish(alliance: &Alliance, note: &Carried) -> Result<bool, Status> {
    let steps = pieces(note).into_iter().map(|piece| pbd::PublishNoteRequest { piece: Some(piece) });
    let mut door = DirectoryServiceClient::new(alliance.client_of("450200/ops/li", A).channel);
    Ok(door.publish_note(tokio_stream::iter(steps.collect::<Vec<_>>())).await?.into_inner().news)
}

async fn approve(
    alliance: &Alliance,
    member: &str,
    fingerprint: &str,
) -> Result<pba::ApproveMemberKeyResponse, Status> {
    let request = pba::ApproveMemberKeyRequest { member: member.to_owned(), fingerprint: fingerprint.to_owned() };
    ops(alliance).approve_member_key(request).await.map(tonic::Response::into_inner)
}

async fn send(client: &Client, from: (&str, &str), to: &str) -> String {
    let sent = envelope(from, (to, ""));
    client.submit(sent.clone()).await.unwrap();
    sent.message_id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_member_exchanges_nothing_until_it_is_resumed_over_a_restart_too() {
    let alliance = two();
    let (a, b) = (alliance.start(A).await, alliance.start(B).await);
    let (window, approval) = (alliance.client(A, "window"), alliance.client(B, "approval"));
    let mut desk = approval.receive(64).await;
    let first = send(&window, (A, "window"), B).await;
    assert_eq!(take(&mut desk, 1).await, [first]);
    let mut live = DirectoryServiceClient::new(alliance.client_of("440600/gateway", A).channel);
    let mut notes = live.watch_notes(pbd::WatchNotesRequest {}).await.unwrap().into_inner();

    let suspended = suspend(&alliance, B).await.unwrap();
    let began = Instant::now();
    let suspension = suspended.member.unwrap().suspension.unwrap();
    assert!(suspended.changed && suspension.by.ends_with("/450200/ops/li") && suspension.reason == "核查证书泄露");
    let ended = async { while let Ok(Some(_)) = notes.message().await {} };
    tokio::time::timeout(Duration::from_secs(5), ended).await.expect("live connections end");
    assert!(began.elapsed() < Duration::from_secs(5));
    let stranger = DirectoryServiceClient::new(alliance.client_of("440600/gateway", A).channel);
    let refused = stranger.clone().get_directory(pbd::GetDirectoryRequest {}).await.unwrap_err();
    assert!(refused.details().is_empty(), "no gateway answers: {refused:?}");
    until("the gate counts it", async || a.counters.refused("suspended") > 0).await;

    let mut out = vec![send(&window, (A, "window"), B).await, send(&window, (A, "window"), B).await];
    let back = send(&approval, (B, "approval"), A).await;
    let_work(Duration::from_millis(1_500)).await;
    assert_eq!((held_by(&alliance, A), held_by(&alliance, B)), (3, 2), "nothing came and nothing went");
    assert!(!suspend(&alliance, B).await.unwrap().changed);

    a.stop().await;
    let a = alliance.start(A).await;
    assert!(member(&alliance, B).await.suspension.is_some());
    let_work(Duration::from_millis(1_500)).await;
    assert_eq!((held_by(&alliance, A), held_by(&alliance, B)), (3, 2), "nor after a restart");
    let lanes = ops(&alliance).list_lanes(pba::ListLanesRequest {}).await.unwrap().into_inner().lanes;
    let lane = lanes.into_iter().find(|lane| lane.name == "gateway/440600").unwrap();
    assert_eq!((lane.waiting, lane.worked), (2, false));

    let resumed = resume(&alliance, B).await;
    assert!(resumed.changed && resumed.member.unwrap().suspension.is_none());
    let mut came = take(&mut desk, 2).await;
    came.sort();
    out.sort();
    assert_eq!(came, out, "what waited goes, once");
    alliance.client(A, "window").until("", &out[1], pbe::State::Confirmed).await;
    assert_eq!(take(&mut alliance.client(A, "window").receive(8).await, 1).await, [back]);
    let row = |act: &str, refused: &str, why: &str| ["li", act, B, refused, why].map(str::to_owned);
    let acts = [
        row("member.suspend", "", "核查证书泄露"),
        row("member.suspend", "", "核查证书泄露"),
        row("member.resume", "", ""),
    ];
    assert_eq!(audit(&alliance).await, acts);
    drop(desk);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_fetches_nothing_from_a_suspended_member() {
    let c = City { pulls: true, fetches: &[A], ..city("640100", &["desk"]) };
    let alliance = Alliance::of(&[], &[city(A, &["window"]), c]);
    for at in [A, "640100"] {
        alliance.run(&["pki", "add-ops", at, "li"], &["--dir", &alliance.pki()]);
    }
    let (a, c) = (alliance.start(A).await, alliance.start("640100").await);
    let mut desk = alliance.client("640100", "desk").receive(8).await;
    let window = alliance.client(A, "window");
    let first = send(&window, (A, "window"), "640100").await;
    assert_eq!(take(&mut desk, 1).await, [first]);
    let mut ops = AdminServiceClient::new(alliance.client_of("640100/ops/li", "640100").channel);
    let asked = pba::SuspendMemberRequest { member: A.to_owned(), reason: "核查".to_owned() };
    ops.suspend_member(asked).await.unwrap();
    let waits = send(&window, (A, "window"), "640100").await;
    let_work(Duration::from_millis(1_500)).await;
    assert_eq!(held_by(&alliance, "640100"), 1, "the stream that was open has ended");
    ops.resume_member(pba::ResumeMemberRequest { member: A.to_owned(), reason: String::new() }).await.unwrap();
    assert_eq!(take(&mut desk, 1).await, [waits]);
    drop(desk);
    a.stop().await;
    c.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hub_carries_of_a_suspended_member_waits_at_the_hub() {
    let relayed = |code, systems| City { relays: &[HUB], ..city(code, systems) };
    let alliance = alliance_of(&["main"], &[relayed(A, &["window"]), relayed(B, &["approval"])]);
    alliance.route(B, A, &[HUB]);
    alliance.route(A, B, &[HUB]);
    let clock = Clock::default();
    let mut gateways = vec![];
    for at in [A, B, "hub-main"] {
        gateways.push(alliance.start_by(&alliance.config(at), clock.clone()).await);
    }
    suspend(&alliance, B).await.unwrap();
    let (window, approval) = (alliance.client(A, "window"), alliance.client(B, "approval"));
    let back = send(&approval, (B, "approval"), A).await;
    let out = send(&window, (A, "window"), B).await;
    approval.until("", &back, pbe::State::Relayed).await;
    let_work(Duration::from_millis(1_500)).await;
    assert_eq!((held_by(&alliance, A), held_by(&alliance, B)), (1, 1), "neither way, though the hub is not suspended");
    assert_eq!(window.message("", &out).await.unwrap().state(), pbe::State::Accepted);
    resume(&alliance, B).await;
    // What may not go is asked about again after a minute.
    clock.advance(61_000);
    assert_eq!(take(&mut approval.receive(8).await, 1).await, [out]);
    assert_eq!(take(&mut window.receive(8).await, 1).await, [back]);
    for gateway in gateways {
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_decide_and_what_cannot_be_decided_is_refused_and_on_record() {
    let alliance = two();
    let _a = alliance.start(A).await;
    let asked = |member: &str, reason: &str| pba::SuspendMemberRequest { member: member.into(), reason: reason.into() };
    for (what, member, why) in [
        ("no member", "350200", "x"),
        ("no name of a member", "nobody", "x"),
        ("the own member", A, "x"),
        ("without a reason", B, " "),
        ("a reason too long", B, &"因".repeat(100)),
    ] {
        let refused = ops(&alliance).suspend_member(asked(member, why)).await.unwrap_err();
        assert_eq!(reason(&refused), "INVALID_ENVELOPE", "{what}");
    }
    let refused = auditor(&alliance).suspend_member(asked(B, "x")).await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_PERMITTED");
    assert_eq!(reason(&approve(&alliance, B, "0000").await.unwrap_err()), "INVALID_ENVELOPE", "nothing is held back");
    assert!(member(&alliance, B).await.suspension.is_none());
    let acts: Vec<_> =
        audit(&alliance).await.into_iter().map(|[who, act, object, refused, _]| [who, act, object, refused]).collect();
    let row = |who: &str, act: &str, object: &str, refused: &str| [who, act, object, refused].map(str::to_owned);
    let faulty = |object: &str| row("li", "member.suspend", object, "INVALID_ENVELOPE");
    let mut expected = vec![faulty("350200"), faulty(""), faulty(A), faulty(B), faulty(B)];
    expected.push(row("shen", "member.suspend", B, "NOT_PERMITTED"));
    expected.push(row("li", "member.approve-key", B, "INVALID_ENVELOPE"));
    assert_eq!(acts, expected);
}

/// A key of B's.
fn key_of_b(alliance: &Alliance, seed: Option<u8>) -> SigningKey {
    let name = member_key_name(alliance.directory().alliance(), &B.parse().unwrap());
    let seed = match seed {
        Some(seed) => [seed; 32],
        None => *keys::read_seed(&pki(alliance).join(B).join("member.key")).unwrap().bytes(),
    };
    SigningKey::from_seed(&name, &seed).unwrap()
}

fn pki(alliance: &Alliance) -> PathBuf {
    alliance.folder.join("pki")
}

/// A directory that lists B's next record, signed by these keys, of which the first is B's from then on.
fn rekeyed(alliance: &Alliance, held: &Directory, keys_of_b: &[SigningKey]) -> (Directory, Carried) {
    let entry = held.entry(&B.parse().unwrap()).unwrap();
    let record = MemberRecord { version: entry.record.version + 1, ..entry.record.clone() };
    let mut note = record.sign(&keys_of_b[0]).unwrap();
    for other in &keys_of_b[1..] {
        note += record.sign(other).unwrap().rsplit_once("\n\n").unwrap().1;
    }
    let entry = Entry::open(keys_of_b[0].verifying_key().clone(), note).unwrap();
    let next = held.with(entry, Clock::default().now()).unwrap();
    let seed = keys::read_seed(&pki(alliance).join("alliance.key")).unwrap();
    let key = SigningKey::from_seed(&alliance_key_name(held.alliance()), seed.bytes()).unwrap();
    let note = next.sign(&key).unwrap();
    let carried = Carried { kind: Kind::Directory, owner: None, version: next.version(), note };
    (next, carried)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_key_is_held_back_until_its_whole_fingerprint_is_approved_over_a_restart_too() {
    let alliance = two();
    let a = alliance.start(A).await;
    let (old, new) = (key_of_b(&alliance, None), key_of_b(&alliance, Some(9)));
    let [old_print, new_print] = [&old, &new].map(|key| fingerprint(key.verifying_key()));
    let (next, carried) = rekeyed(&alliance, &alliance.directory(), &[new]);
    assert_eq!(reason(&publish(&alliance, &carried).await.unwrap_err()), "NOTE_REFUSED");
    let held = member(&alliance, B).await;
    assert_eq!((held.version, held.key_fingerprint.as_str()), (1, old_print.as_str()), "the last good one holds");
    let [waits] = &held.held_back[..] else { panic!("{held:?}") };
    assert_eq!((&waits.held_fingerprint, &waits.found_fingerprint), (&old_print, &new_print));

    for wrong in [&new_print[..19], old_print.as_str(), "0000", &format!("{new_print} 0000")] {
        assert_eq!(reason(&approve(&alliance, B, wrong).await.unwrap_err()), "INVALID_ENVELOPE", "{wrong}");
    }
    assert_eq!(member(&alliance, B).await.version, 1);
    let approved = approve(&alliance, B, &new_print.replace(' ', "").to_uppercase()).await.unwrap();
    assert!(approved.in_force, "{approved:?}");
    let known = approved.member.unwrap();
    assert_eq!((known.version, known.key_fingerprint, known.held_back.len()), (2, new_print.clone(), 0));
    assert_eq!(known.source, pba::MemberSource::Approved as i32);
    let acts = audit(&alliance).await;
    let last = acts.last().unwrap();
    assert_eq!([&last[1], &last[2], &last[3]], ["member.approve-key", B, ""]);
    assert_eq!(acts.iter().filter(|act| act[3] == "INVALID_ENVELOPE").count(), 4, "{acts:?}");

    a.stop().await;
    let a = alliance.start(A).await;
    let known = member(&alliance, B).await;
    assert_eq!(
        (known.version, &known.key_fingerprint),
        (2, &new_print),
        "though the configured directory is the old one"
    );
    // The next change is another matter.
    let (_, third) = rekeyed(&alliance, &next, &[key_of_b(&alliance, Some(10))]);
    assert_eq!(reason(&publish(&alliance, &third).await.unwrap_err()), "NOTE_REFUSED");
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_key_whose_record_the_old_one_signed_too_is_believed_at_once_and_over_restarts() {
    let alliance = two();
    let a = alliance.start(A).await;
    let keys = || [key_of_b(&alliance, None), key_of_b(&alliance, Some(9)), key_of_b(&alliance, Some(10))];
    let [first, second, _] = keys();
    let (next, carried) = rekeyed(&alliance, &alliance.directory(), &[second, first]);
    assert!(publish(&alliance, &carried).await.unwrap());
    let [_, second, third] = keys();
    let print = fingerprint(third.verifying_key());
    let (_, carried) = rekeyed(&alliance, &next, &[third, second]);
    assert!(publish(&alliance, &carried).await.unwrap());
    assert_eq!(member(&alliance, B).await.key_fingerprint, print);
    a.stop().await;
    // The configured directory knows the first key, which never signed for the third.
    let a = alliance.start(A).await;
    assert_eq!(member(&alliance, B).await.key_fingerprint, print);
    a.stop().await;
}

/// B's next record with a pin, signed by B.
fn pinned(alliance: &Alliance, member: &str, key: &SigningKey) -> Carried {
    let directory = alliance.directory();
    let record = directory.member(&member.parse().unwrap()).unwrap();
    let record = MemberRecord { version: record.version + 1, key_pin: Some([7; 32]), ..record.clone() };
    let owner: Option<Member> = Some(member.parse().unwrap());
    Carried { kind: Kind::MemberRecord, owner, version: record.version, note: record.sign(key).unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_in_force_once_it_is_handed_in_or_held_back_whole() {
    let third = "640100";
    let alliance = alliance_of(&[], &[city(A, &["window"]), city(B, &["approval"]), city(third, &["desk"])]);
    let _a = alliance.start(A).await;
    assert!(publish(&alliance, &pinned(&alliance, B, &key_of_b(&alliance, None))).await.unwrap());
    let known = member(&alliance, B).await;
    assert_eq!((known.version, known.source), (2, pba::MemberSource::Note as i32));
    assert!(!publish(&alliance, &pinned(&alliance, B, &key_of_b(&alliance, None))).await.unwrap(), "known");
    let forged = publish(&alliance, &pinned(&alliance, B, &key_of_b(&alliance, Some(9)))).await.unwrap_err();
    assert_eq!(reason(&forged), "NOTE_REFUSED");
    // Another member with the same key cannot be told from it.
    let seed = keys::read_seed(&pki(&alliance).join(third).join("member.key")).unwrap();
    let name = member_key_name(alliance.directory().alliance(), &third.parse().unwrap());
    let clash = pinned(&alliance, third, &SigningKey::from_seed(&name, seed.bytes()).unwrap());
    assert_eq!(reason(&publish(&alliance, &clash).await.unwrap_err()), "NOTE_REFUSED");
    let held = member(&alliance, third).await;
    assert_eq!((held.version, held.held_back.len()), (1, 1), "{held:?}");
    assert!(held.held_back[0].reason.contains(B), "it names the other: {held:?}");
    // What holds goes on being put in force.
    assert!(suspend(&alliance, B).await.unwrap().changed);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_grants_and_findings_are_told_whole_and_page_by_page() {
    let alliance = two();
    let a = alliance.start(A).await;
    let ask = |token: String| pba::ListMembersRequest { page_size: 1, page_token: token, ..Default::default() };
    let one = auditor(&alliance).list_members(ask(String::new())).await.unwrap().into_inner();
    let two = auditor(&alliance).list_members(ask(one.next_page_token.clone())).await.unwrap().into_inner();
    assert_eq!((one.next_page_token.as_str(), two.next_page_token.as_str()), (B, ""));
    let (foshan, own) = (&one.members[0], &two.members[0]);
    assert_eq!((foshan.member.as_str(), own.member.as_str(), foshan.own, own.own), (B, A, false, true));
    let record = alliance.directory();
    let record = record.member(&B.parse().unwrap()).unwrap();
    assert_eq!(foshan.endpoints, [record.endpoints[0].to_string()]);
    assert_eq!((foshan.authorities.len(), foshan.authorities[0].len()), (1, 64));
    assert_eq!(foshan.logs[0].fingerprint, fingerprint(&record.log_keys[0]));
    let seconds = |time: Option<prost_types::Timestamp>| time.unwrap().seconds;
    assert!(foshan.crl_required && seconds(foshan.crl_ends_at) - seconds(foshan.crl_issued_at) > 86_400);

    let grants = |item: &str| pba::ListGrantsRequest { item_code: item.to_owned(), city: B.to_owned() };
    let found = auditor(&alliance).list_grants(grants("1")).await.unwrap().into_inner().grants;
    assert!(found.iter().any(|grant| grant.who == "every-system" && grant.items == ["*"]), "{found:?}");
    assert_eq!(reason(&ops(&alliance).list_grants(grants(&"x".repeat(200))).await.unwrap_err()), "INVALID_ENVELOPE");

    // B does not run: the way breaks off, and says where.
    let asked = pba::RunChecksRequest { only: vec!["partner".to_owned()], partner: B.to_owned(), ..Default::default() };
    let findings = auditor(&alliance).run_checks(asked).await.unwrap().into_inner().findings;
    let fault = findings.iter().find(|finding| finding.verdict() == pba::CheckVerdict::Fault).unwrap();
    assert_eq!((fault.check.as_str(), fault.about.as_str()), ("partner.tcp", B));
    assert!(!fault.code.is_empty() && !fault.fix_en.is_empty() && !fault.fix_zh.is_empty());
    let asked = pba::RunChecksRequest { skip: vec!["partner".to_owned()], ..Default::default() };
    let findings = ops(&alliance).run_checks(asked).await.unwrap().into_inner().findings;
    let takes = Which { skip: vec!["partner".to_owned()], ..Which::default() };
    assert!(findings.len() > 15 && findings.iter().all(|finding| takes.takes(&finding.check)));
    suspend(&alliance, B).await.unwrap();
    until("the checks tell of it", async || {
        let asked = pba::RunChecksRequest { only: vec!["members".to_owned()], ..Default::default() };
        let findings = ops(&alliance).run_checks(asked).await.unwrap().into_inner().findings;
        findings.iter().any(|finding| finding.code == "member_suspended" && finding.about == B)
    })
    .await;
    a.stop().await;
}
