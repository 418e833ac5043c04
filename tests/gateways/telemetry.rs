//! What a monitor is shown is what happened; its labels are words of ours, whatever callers say; and no monitor stands in
//! another's way.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::alliance::{Alliance, Client, PATIENCE, envelope, free_address, open_store, part, reason};
use crate::exposition::{self, Page};
use crate::process::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tongban::clock::Clock;
use tongban::config::Config;
use tongban::ledger::{Core, Entry, Pause};
use tongban::limits::{SCRAPE_MS, SCRAPES_AT_ONCE_MAX};
use tongban::store::{LaneName, LaneState, Mark};
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;

const LIUZHOU: (&str, &str) = ("450200", "window");
const FOSHAN: (&str, &str) = ("440600", "approval");
const EXCHANGE: &str = "tongban.exchange.v1.ExchangeService";
const TOWARDS_FOSHAN: [(&str, &str); 1] = [("lane", "gateway/440600")];

fn two_cities() -> Alliance {
    Alliance::new(&[(LIUZHOU.0, &[LIUZHOU.1]), (FOSHAN.0, &[FOSHAN.1])])
}

/// The city's configuration, with a listener for monitors.
fn monitored(alliance: &Alliance, city: &str) -> (Config, SocketAddr) {
    let address = free_address().parse().unwrap();
    let mut config = alliance.config(city);
    config.telemetry = Some(address);
    (config, address)
}

/// What is answered to these bytes.
async fn answered(address: SocketAddr, request: &str) -> String {
    let exchange = async {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // Who is refused early may see a reset behind the answer.
        let _ = socket.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    };
    timeout(PATIENCE, exchange).await.expect("an answer in time")
}

async fn text(address: SocketAddr) -> String {
    let answer = answered(address, "GET /metrics HTTP/1.1\r\nhost: monitor\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
    body.to_owned()
}

async fn scrape(address: SocketAddr) -> Page {
    exposition::read(&text(address).await).unwrap_or_else(|fault| panic!("{fault}"))
}

/// Scrapes until a page is as described.
async fn scraped(address: SocketAddr, what: &str, is: impl Fn(&Page) -> bool) -> Page {
    let mut page = Page::default();
    until(what, async || {
        page = scrape(address).await;
        is(&page)
    })
    .await;
    page
}

fn evidence(page: &Page, event: &str) -> f64 {
    page.sum("tongban_evidence_total", &[("event", event)])
}

fn calls(page: &Page, method: &str, status: &str) -> f64 {
    let labels = [("rpc_service", EXCHANGE), ("rpc_method", method), ("rpc_grpc_status_code", status)];
    page.get("rpc_server_call_duration_seconds_count", &labels).unwrap_or(0.0)
}

/// Five messages go over and are handed over; one finds no way, one has faults, and somebody knocks who speaks no TLS.
async fn traffic(alliance: &Alliance) -> (Client, Client) {
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    let approval = alliance.client(FOSHAN.0, FOSHAN.1);
    let mut mailbox = approval.receive(8).await;
    for _ in 0..5 {
        let sent = envelope(LIUZHOU, FOSHAN);
        window.submit(sent.clone()).await.unwrap();
        let (delivery, _) = mailbox.delivery().await;
        mailbox.acknowledge(&delivery.delivery_id).await;
        mailbox.settled().await;
        window.until("", &sent.message_id, pbe::State::Confirmed).await;
    }
    let nowhere = window.submit(envelope(LIUZHOU, ("990000", "nobody"))).await.unwrap_err();
    assert_eq!(reason(&nowhere), "NO_ROUTE");
    let faulty = window.submit(pb::Envelope::default()).await.unwrap_err();
    assert_eq!(reason(&faulty), "INVALID_ENVELOPE");
    let listen = alliance.config(LIUZHOU.0).listen;
    answered(listen, "GET / HTTP/1.1\r\n\r\n").await;
    (window, approval)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_are_what_happened() {
    let alliance = two_cities();
    let ((liuzhou, at_liuzhou), (foshan, at_foshan)) =
        (monitored(&alliance, LIUZHOU.0), monitored(&alliance, FOSHAN.0));
    let (sender, recipient) = (alliance.start_with(&liuzhou).await, alliance.start_with(&foshan).await);
    let first = scrape(at_liuzhou).await;
    assert_eq!(first.get("tongban_evidence_total", &[("event", "SUBMISSION_ACCEPTED"), ("reason", "")]), Some(0.0));
    assert_eq!(first.get("tongban_log_leaves", &[]), Some(0.0));
    let _clients = traffic(&alliance).await;

    let page = scraped(at_liuzhou, "all is counted", |page| evidence(page, "WITNESSED") == 15.0).await;
    let rejected = [("event", "SUBMISSION_REJECTED"), ("reason", "NO_ROUTE")];
    assert_eq!(evidence(&page, "SUBMISSION_ACCEPTED"), 5.0);
    assert_eq!(page.get("tongban_evidence_total", &rejected), Some(1.0));
    assert_eq!(page.get("tongban_refusals_total", &[("reason", "NO_ROUTE")]), Some(1.0));
    assert_eq!(page.get("tongban_refusals_total", &[("reason", "INVALID_ENVELOPE")]), Some(1.0));
    assert_eq!(
        (calls(&page, "Submit", "0"), calls(&page, "Submit", "9"), calls(&page, "Submit", "3")),
        (5.0, 1.0, 1.0)
    );
    assert_eq!(page.sum("tongban_connections_refused_total", &[]), 1.0);
    assert!(page.get("tongban_connections_open", &[]).unwrap() >= 1.0);
    let (entries, commits) =
        (page.get("tongban_ledger_commit_entries_sum", &[]), page.get("tongban_ledger_commit_entries_count", &[]));
    assert_eq!(commits, page.get("tongban_ledger_commit_duration_seconds_count", &[]));
    assert!(entries >= commits && commits >= Some(6.0), "{entries:?} in {commits:?}");
    let ends = tongban::keys::read_certificates(&liuzhou.certificate).unwrap();
    let ends = tongban::tls::identity::not_after(&tongban::tls::identity::parse(&ends[0]).unwrap());
    assert_eq!(page.get("tongban_certificate_not_after_seconds", &[]), Some((ends.ms() / 1000) as f64));
    assert_eq!(page.get("tongban_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
    assert_eq!(page.get("tongban_dead_letters_waiting", &[]), Some(0.0));

    // What is read from the disk may be a second old.
    let all = page.sum("tongban_evidence_total", &[]);
    let page =
        scraped(at_liuzhou, "the log is looked at", |page| page.get("tongban_log_leaves", &[]) == Some(all)).await;
    assert_eq!(page.get("tongban_lane_waiting", &TOWARDS_FOSHAN), Some(0.0));
    assert_eq!(page.get("tongban_lane_oldest_age_seconds", &TOWARDS_FOSHAN), Some(0.0));
    let good = [("check", "tls.identity"), ("verdict", "good")];
    scraped(at_liuzhou, "it examined itself", |page| page.get("tongban_check_findings", &good) == Some(1.0)).await;
    let page = scrape(at_foshan).await;
    for event in ["RELAY_ACCEPTED", "CONSIGNED", "HANDED_OVER"] {
        assert_eq!(evidence(&page, event), 5.0, "{event}");
    }
    sender.stop().await;
    recipient.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_stands_still_is_seen() {
    let alliance = two_cities();
    let (config, address) = monitored(&alliance, LIUZHOU.0);
    let (writer, _) = open_store(&config);
    let mut core =
        Core::open(writer, Mark::in_folder(&config.data), alliance.log_key(LIUZHOU.0), config.member.clone()).unwrap();
    let (clock, now) = (Clock::default(), Clock::default().now());
    let state = LaneState { failures: 7, rest_until: now.plus_ms(3_600_000), open: false, sent_below: 0 };
    let lane: LaneName = "gateway/440600".parse().unwrap();
    let (why, actor) = ("a test".to_owned(), "li".to_owned());
    let pause = Entry::Hold(Box::new(Pause { lane: lane.clone(), held: true, why, actor }));
    core.apply(now, vec![Entry::Lane { lane, state }, pause]).unwrap();
    core.write_mark(now);
    drop(core);

    let gateway = alliance.start_by(&config, clock.clone()).await;
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    for _ in 0..3 {
        window.submit(envelope(LIUZHOU, FOSHAN)).await.unwrap();
    }
    let waits = |page: &Page| page.get("tongban_lane_waiting", &TOWARDS_FOSHAN) == Some(3.0);
    let page = scraped(address, "three wait", waits).await;
    assert!(page.get("tongban_lane_oldest_age_seconds", &TOWARDS_FOSHAN).unwrap() < 60.0);
    assert_eq!(page.get("tongban_lane_failures", &TOWARDS_FOSHAN), Some(7.0));
    assert_eq!(page.get("tongban_lane_breaker_open", &TOWARDS_FOSHAN), Some(1.0));
    assert_eq!(page.get("tongban_lane_held", &TOWARDS_FOSHAN), Some(1.0));
    clock.advance(1_800_000);
    let age = scrape(address).await.get("tongban_lane_oldest_age_seconds", &TOWARDS_FOSHAN).unwrap();
    assert!((1_800.0..1_900.0).contains(&age), "{age}");
    gateway.stop().await;
}

/// A call by any path at all.
async fn call(client: &Client, path: &str) {
    let mut grpc = tonic::client::Grpc::new(client.channel.clone());
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<pb::GetMessageRequest, pb::GetMessageResponse>::default();
    let request = tonic::Request::new(pb::GetMessageRequest::default());
    let _ = grpc.unary(request, path.parse().unwrap(), codec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_caller_makes_a_label_and_nothing_of_a_person_is_shown() {
    let alliance = two_cities();
    let (config, address) = monitored(&alliance, LIUZHOU.0);
    let gateway = alliance.start_with(&config).await;
    let window = alliance.client(LIUZHOU.0, LIUZHOU.1);
    call(&window, "/first.Unknown/Call").await;
    let before = scrape(address).await.samples.len();
    for count in 0..200 {
        call(&window, &format!("/evil{count}.Service/Method{count}")).await;
        call(&window, &format!("/{EXCHANGE}/Nope{count}")).await;
        call(&window, &format!("/{EXCHANGE}/Submit%22%0Aevil_total%20{count}")).await;
    }
    let page = scrape(address).await;
    let other = [("rpc_service", "_OTHER"), ("rpc_method", "_OTHER"), ("rpc_grpc_status_code", "12")];
    assert_eq!(page.get("rpc_server_call_duration_seconds_count", &other), Some(601.0));
    // A first examination may have come between; nothing that grows with the callers has.
    let added = page.samples.len() - before;
    assert!(added < 100, "{added} figures more");

    let mut sent = envelope(LIUZHOU, FOSHAN);
    let planted = ["450203199001011234", "张三丰", "13812345678", "CASE-4711-SECRET"];
    sent.attributes =
        [("applicant".to_owned(), planted[1].to_owned()), ("phone".to_owned(), planted[2].to_owned())].into();
    sent.case_no = planted[3].to_owned();
    sent.parts = vec![part("450203199001011234.json", planted[0].as_bytes())];
    window.submit(sent.clone()).await.unwrap();
    let mut refused = sent.clone();
    refused.to.as_mut().unwrap().system = planted[3].to_owned();
    let _ = window.submit(refused).await;
    let text = text(address).await;
    assert!(text.contains("SUBMISSION_ACCEPTED"));
    for secret in planted.iter().copied().chain([sent.message_id.as_str(), sent.item_code.as_str(), "evil", "Nope"]) {
        assert!(!text.contains(secret), "{secret} is shown");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_that_hangs_stands_in_nobodys_way() {
    let alliance = two_cities();
    let (config, address) = monitored(&alliance, LIUZHOU.0);
    let gateway = alliance.start_with(&config).await;
    let mut hanging = vec![];
    for _ in 1..SCRAPES_AT_ONCE_MAX {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(b"GET /metrics HT").await.unwrap();
        hanging.push(socket);
    }
    let begun = Instant::now();
    scrape(address).await;
    assert!(begun.elapsed() < Duration::from_millis(SCRAPE_MS) / 2, "{:?}", begun.elapsed());
    // When all places are taken, the next one waits for the deadline of those before, and no longer.
    hanging.push(TcpStream::connect(address).await.unwrap());
    scrape(address).await;
    let waited = begun.elapsed();
    assert!(waited < 2 * Duration::from_millis(SCRAPE_MS), "{waited:?}");
    for socket in &mut hanging {
        let end = timeout(PATIENCE, socket.read_to_end(&mut vec![])).await;
        assert!(end.is_ok(), "the connection is ended");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_get_metrics_is_answered() {
    let alliance = two_cities();
    let (config, address) = monitored(&alliance, LIUZHOU.0);
    let gateway = alliance.start_with(&config).await;
    let long = format!("GET /metrics HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(64 << 10));
    let rows = [
        ("GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n", "200"),
        ("GET /metrics HTTP/1.0\r\n\r\n", "200"),
        ("GET /metrics?x=1 HTTP/1.1\r\nhost: a\r\n\r\n", "200"),
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", "404"),
        ("GET /metrics/ HTTP/1.1\r\nhost: a\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", "405"),
        ("HEAD /metrics HTTP/1.1\r\nhost: a\r\n\r\n", "405"),
        ("DELETE / HTTP/1.1\r\nhost: a\r\n\r\n", "404"),
        ("\x01\x02\x03\r\n\r\n", "400"),
        (long.as_str(), "431"),
    ];
    for (request, status) in rows {
        let answer = answered(address, request).await;
        let said = answer.split(' ').nth(1);
        // A reset may overtake the answer to a request that is too long; then there is none at all.
        let cut = answer.is_empty() && status == "431";
        assert!(said == Some(status) || cut, "{:?}: {answer:.60}", &request[..request.len().min(40)]);
    }
    gateway.stop().await;
    assert!(TcpStream::connect(address).await.is_err(), "the listener goes with the gateway");
}

/// The words in a text that look like names of figures.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let name = |word: &&str| ["tongban_", "rpc_server_"].iter().any(|start| word.starts_with(start));
    words.filter(name).map(str::to_owned).collect()
}

/// Names that no figure has.
fn unknown(text: &str, page: &Page) -> Vec<String> {
    let (known, families) = (page.names(), &page.families);
    names(text).into_iter().filter(|name| !known.contains(name) && !families.contains_key(name)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_dashboard_and_page_name_what_is_shown() {
    let alliance = two_cities();
    let ((liuzhou, address), foshan) = (monitored(&alliance, LIUZHOU.0), alliance.config(FOSHAN.0));
    let (sender, recipient) = (alliance.start_with(&liuzhou).await, alliance.start_with(&foshan).await);
    let _clients = traffic(&alliance).await;
    let is_whole =
        |page: &Page| page.sum("tongban_check_findings", &[]) > 0.0 && page.sum("tongban_lane_failures", &[]) >= 0.0;
    let page = scraped(address, "it has examined itself", is_whole).await;
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let (rules, dashboard, docs) =
        (read("deploy/prometheus/alerts.yml"), read("deploy/grafana/tongban.json"), read("docs/telemetry.md"));
    assert_eq!(unknown("rate(tongban_no_such_total[5m])", &page), ["tongban_no_such_total"], "the check can fail");
    for (what, text) in [("rules", &rules), ("dashboard", &dashboard), ("docs", &docs)] {
        assert!(names(text).len() > 8, "{what}");
        assert_eq!(unknown(text, &page), Vec::<String>::new(), "{what}");
    }
    let panels: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    assert!(panels["panels"].as_array().unwrap().len() > 10);
    let documented = names(&docs);
    for (family, kind) in &page.families {
        let name = if kind == "counter" { format!("{family}_total") } else { family.clone() };
        assert!(documented.contains(&name), "{name} stands on no page");
    }
    promtool(&classic(&text(address).await, &page));
    sender.stop().await;
    recipient.stop().await;
}

/// The page in the older text format, which is all that promtool reads: there a counter's family bears the name of its
/// figure.
fn classic(text: &str, page: &Page) -> String {
    let counters = page.families.iter().filter(|(_, kind)| *kind == "counter").map(|(family, _)| family);
    counters.fold(text.to_owned(), |text, family| {
        let renamed = |text: String, word: &str| {
            text.replace(&format!("# {word} {family} "), &format!("# {word} {family}_total "))
        };
        renamed(renamed(text, "HELP"), "TYPE")
    })
}

/// Prometheus' own judge, where there is one.
fn promtool(page: &str) {
    let tool = std::env::var("PROMTOOL").unwrap_or_else(|_| "promtool".to_owned());
    let run = |arguments: &[&str], input: Stdio| {
        let mut command = Command::new(&tool);
        command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(input);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    };
    let Ok(rules) = run(&["check", "rules", "deploy/prometheus/alerts.yml"], Stdio::null()) else {
        println!("SKIPPED: promtool is not installed; rules and figures were not shown to it");
        return;
    };
    let rules = rules.wait_with_output().unwrap();
    assert!(rules.status.success(), "{}", String::from_utf8_lossy(&rules.stderr));
    let mut figures = run(&["check", "metrics"], Stdio::piped()).unwrap();
    std::io::Write::write_all(&mut figures.stdin.take().unwrap(), page.as_bytes()).unwrap();
    let figures = figures.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&figures.stderr) + String::from_utf8_lossy(&figures.stdout);
    assert!(figures.status.success(), "{said}");
}

#[test]
fn the_reader_of_pages_reports_what_is_wrong() {
    let good = "# HELP a b.\n# TYPE a counter\na_total{k=\"v\\\"\\n\"} 1\n# EOF\n";
    assert_eq!(exposition::read(good).unwrap().get("a_total", &[("k", "v\"\n")]), Some(1.0));
    let histogram = "# HELP h b.\n# TYPE h histogram\nh_sum 1.0\nh_count 2\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 2\n# EOF\n";
    exposition::read(histogram).unwrap();
    let bad = [
        good.replace("# EOF\n", ""),
        good.replace("a_total{", "a{"),
        good.replace("} 1", "} one"),
        good.replace("} 1", "} -1"),
        good.replace("} 1", "}1"),
        good.replace("\\n\"", "\\x\""),
        good.replace("v\\\"\\n\"}", "v}"),
        good.replace("k=", "K="),
        good.replace("# TYPE a counter\n", ""),
        good.replace("# HELP a b.\n", ""),
        good.replace("# EOF", "a_total{k=\"v\\\"\\n\"} 2\n# EOF"),
        good.replace("# EOF", "# HELP a b.\n# TYPE a counter\n# EOF"),
        histogram.replace("+Inf\"} 2", "+Inf\"} 0"),
        histogram.replace("h_count 2", "h_count 3"),
        histogram.replace("+Inf", "2.0"),
    ];
    for page in bad {
        assert!(exposition::read(&page).is_err(), "{page}");
    }
}

/// The page as whoever has this certificate is shown it over mutual TLS, or where that ended.
async fn shown_elsewhere(alliance: &Alliance, certificate: &str, address: SocketAddr) -> Result<String, String> {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let (dialler, _) = alliance.dialler_with(alliance.own(certificate), LIUZHOU.0);
    let asked = async {
        let tls =
            dialler.dial(format!("https://{address}").parse().unwrap()).await.map_err(|e| format!("dial: {e:?}"))?;
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await;
        let (mut sender, connection) = handshake.map_err(|e| format!("preface: {e:?}"))?;
        tokio::spawn(connection);
        let request = http::Request::get(format!("https://{address}/metrics")).body(String::new()).unwrap();
        let response = sender.send_request(request).await.map_err(|e| format!("request: {e:?}"))?;
        assert_eq!(response.status(), 200);
        let (mut body, mut text) = (response.into_body(), String::new());
        while let Some(frame) =
            std::future::poll_fn(|cx| http_body::Body::poll_frame(std::pin::Pin::new(&mut body), cx)).await
        {
            let frame = frame.map_err(|e| format!("body: {e:?}"))?;
            text += std::str::from_utf8(&frame.into_data().unwrap_or_default()).unwrap();
        }
        Ok(text)
    };
    timeout(PATIENCE, asked).await.expect("an answer in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_leave_the_machine_only_for_those_who_may_read_them() {
    let alliance = two_cities();
    for (add, city, name) in
        [("add-ops", "450200", "li"), ("add-auditor", "450200", "wu"), ("add-ops", "440600", "huang")]
    {
        alliance.run(&["pki", add, city, name], &["--dir", &alliance.pki()]);
    }
    let all = [
        "450200/ops/li",
        "450200/auditors/wu",
        "450200/systems/window",
        "450200/gateway",
        "440600/gateway",
        "440600/ops/huang",
    ];
    let address = free_address().parse().unwrap();
    let mut config = alliance.config(LIUZHOU.0);
    config.telemetry_tls = Some(address);
    let named = vec!["spiffe://alliance.example/city/440600/ops/huang".parse().unwrap()];
    for (readers, may) in [(vec![], &all[..2]), (named, &all[5..])] {
        config.telemetry_readers = readers;
        let gateway = alliance.start_with(&config).await;
        for certificate in all {
            let shown = shown_elsewhere(&alliance, certificate, address).await;
            assert_eq!(shown.is_ok(), may.contains(&certificate), "{certificate}: {shown:?}");
            if let Ok(text) = shown {
                let page = exposition::read(&text).unwrap_or_else(|fault| panic!("{fault}"));
                assert_eq!(page.get("tongban_store_readable", &[]), Some(1.0));
            }
        }
        assert_eq!(gateway.counters.refused("no_monitor"), (all.len() - may.len()) as u64);
        let plain = answered(address, "GET /metrics HTTP/1.1\r\nhost: monitor\r\n\r\n").await;
        assert!(!plain.contains("tongban_"), "without a certificate there is nothing: {plain}");
        gateway.stop().await;
    }
}
