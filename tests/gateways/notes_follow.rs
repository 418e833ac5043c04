//! Decides whether notes that a hub carries reach the other cities with their owners' signatures alone, through real
//! gateways, and whether a hub that lies changes nothing.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use crate::alliance::{self, Alliance, PATIENCE, free_address};
use arc_swap::ArcSwap;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tongban::clock::Clock;
use tongban::directory::member_key_name;
use tongban::directory::notes::{Carried, Kind};
use tongban::grpc::front::Calls;
use tongban::grpc::serve::{Lifetime, Serving, serve};
use tongban::grpc::tally::Tally;
use tongban::keys;
use tongban::party::Member;
use tongban::tlog::note::SigningKey;
use tongban::tls::accept::{Bounds, Counters, Gate};
use tongban::tls::config::{Moment, server_config};
use tongban::tls::connections::Connections;
use tongban::wire::notes::{Gathering, Told, answer, pieces, told};
use tongban::wire::pb::directory as pb;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use pb::directory_service_client::DirectoryServiceClient;
use pb::directory_service_server::{DirectoryService, DirectoryServiceServer};

type Client = DirectoryServiceClient<Channel>;

/// Two cities that follow a hub, none of them running yet.
fn world() -> Alliance {
    let alliance = Alliance::new(&[("450200", &[]), ("440600", &[])]);
    let (pki, hub) = (alliance.pki(), free_address());
    let words = ["--dir", &pki, "--name-zh", "枢纽", "--name-en", "Hub", "--endpoint", &hub, "--ops", "li"];
    alliance.run(&["pki", "add-hub", "main"], &words);
    for city in ["450200", "440600"] {
        alliance.run(&["pki", "add-ops", city, "li"], &["--dir", &pki]);
    }
    alliance.init("hub-main");
    alliance
}

async fn start(alliance: &Alliance, city: &str) -> alliance::Gateway {
    let mut config = alliance.config(city);
    config.follow = Some("hub/main".parse().unwrap());
    alliance.start_with(&config).await
}

fn client(alliance: &Alliance, certificate: &str, to: &str) -> Client {
    DirectoryServiceClient::new(alliance.client_of(certificate, to).channel)
}

fn signed(alliance: &Alliance, signer: &str, text: &str) -> String {
    let folder = signer.replace('/', "-");
    let seed = keys::read_seed(&alliance.folder.join("pki").join(folder).join("member.key")).unwrap();
    let name = member_key_name(alliance.directory().alliance(), &signer.parse().unwrap());
    SigningKey::from_seed(&name, seed.bytes()).unwrap().sign_note(text).unwrap()
}

fn table_text(owner: &str, version: u64) -> String {
    let json = json!({"kind": "tongban.routing-table.v1", "alliance": "alliance.example", "owner": owner,
        "version": version, "issued_at": "2026-01-31T08:00:00.123Z", "routes": []});
    serde_json_canonicalizer::to_string(&json).unwrap() + "\n"
}

/// A table of `owner`, signed by `signer`.
fn table(alliance: &Alliance, owner: &str, version: u64, signer: &str) -> Carried {
    let note = signed(alliance, signer, &table_text(owner, version));
    Carried { kind: Kind::RoutingTable, owner: Some(owner.parse().unwrap()), version, note }
}

async fn publish(client: &Client, note: &Carried) -> Result<bool, Status> {
    let steps: Vec<_> = pieces(note).into_iter().map(|piece| pb::PublishNoteRequest { piece: Some(piece) }).collect();
    Ok(client.clone().publish_note(tokio_stream::iter(steps)).await?.into_inner().news)
}

/// Reads notes until one is of this kind, owner and version; all that were read, in order.
async fn notes_until(client: &Client, kind: Kind, owner: Option<&str>, version: u64) -> Vec<Carried> {
    let owner: Option<Member> = owner.map(|owner| owner.parse().unwrap());
    let mut stream = client.clone().watch_notes(pb::WatchNotesRequest {}).await.unwrap().into_inner();
    let (mut gathering, mut notes) = (Gathering::default(), vec![]);
    let found = timeout(PATIENCE, async {
        while let Some(answer) = stream.next().await {
            if let Some(Told::Piece(piece)) = told(answer.unwrap())
                && let Some(note) = gathering.add(piece).unwrap()
            {
                notes.push(note);
                let last: &Carried = notes.last().unwrap();
                if (last.kind, &last.owner, last.version) == (kind, &owner, version) {
                    return;
                }
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("{kind} of {owner:?}, version {version}, among {notes:?}"));
    notes
}

fn reason(status: &Status) -> &'static str {
    let known = ["NOTE_OLDER", "NOTE_REFUSED", "NOT_PERMITTED", "STREAM_PROTOCOL"];
    let details = String::from_utf8_lossy(status.details()).into_owned();
    known.into_iter().find(|reason| details.contains(reason)).unwrap_or("?")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_citys_word_reaches_the_other_city_through_the_hub_and_outlives_it() {
    let alliance = world();
    let hub = alliance.start("hub-main").await;
    let (liuzhou, foshan) = (start(&alliance, "450200").await, start(&alliance, "440600").await);
    let at_liuzhou = client(&alliance, "450200/ops/li", "450200");
    let at_foshan = client(&alliance, "440600/ops/li", "440600");
    let at_hub = client(&alliance, "hub-main/ops/li", "hub/main");

    // Brought by Foshan's people to their own gateway; from there to the hub; from there to Liuzhou.
    let first = table(&alliance, "440600", 1, "440600");
    assert!(publish(&at_foshan, &first).await.unwrap());
    let notes = notes_until(&at_liuzhou, Kind::RoutingTable, Some("440600"), 1).await;
    assert_eq!(notes.last(), Some(&first), "byte for byte");
    assert!(!publish(&at_foshan, &first).await.unwrap(), "the same again is no news");

    // A new directory is brought to the hub by the hub's own people.
    alliance.add_city("640100", &[], &free_address());
    let note = keys::read_text(&alliance.folder.join("pki/directory.note")).unwrap();
    let version = alliance.directory().version();
    let directory = Carried { kind: Kind::Directory, owner: None, version, note: note.clone() };
    assert!(publish(&at_hub, &directory).await.unwrap());
    notes_until(&at_liuzhou, Kind::Directory, None, version).await;
    let got = at_liuzhou.clone().get_directory(pb::GetDirectoryRequest {}).await.unwrap().into_inner();
    assert_eq!(got.directory_note, note);

    // The hub is gone and Liuzhou starts anew: what it knew holds.
    hub.stop().await;
    liuzhou.stop().await;
    let liuzhou = start(&alliance, "450200").await;
    let at_liuzhou = client(&alliance, "450200/ops/li", "450200");
    notes_until(&at_liuzhou, Kind::RoutingTable, Some("440600"), 1).await;
    // Foshan says more meanwhile, and the hub hears of it once it is back.
    publish(&at_foshan, &table(&alliance, "440600", 2, "440600")).await.unwrap();
    let hub = alliance.start("hub-main").await;
    notes_until(&at_liuzhou, Kind::RoutingTable, Some("440600"), 2).await;
    for gateway in [hub, liuzhou, foshan] {
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_takes_only_what_its_bringer_may_bring_and_its_owner_signed() {
    let alliance = world();
    let hub = alliance.start("hub-main").await;
    let (own, foshan) =
        (client(&alliance, "hub-main/ops/li", "hub/main"), client(&alliance, "440600/gateway", "hub/main"));
    publish(&foshan, &table(&alliance, "440600", 5, "440600")).await.unwrap();
    let good = table(&alliance, "440600", 6, "440600");
    let other_text = table_text("440600", 5).replace("[]", "[1]");
    for (what, client, note, expected) in [
        ("another member's table", &foshan, table(&alliance, "450200", 1, "450200"), "NOT_PERMITTED"),
        (
            "the directory, by a city",
            &foshan,
            Carried { kind: Kind::Directory, owner: None, ..good.clone() },
            "NOT_PERMITTED",
        ),
        ("an older version", &foshan, table(&alliance, "440600", 4, "440600"), "NOTE_OLDER"),
        (
            "two of one version",
            &foshan,
            Carried { version: 5, note: signed(&alliance, "440600", &other_text), ..good.clone() },
            "NOTE_REFUSED",
        ),
        ("another's signature", &foshan, table(&alliance, "440600", 6, "450200"), "NOTE_REFUSED"),
        ("a forgery, by the hub's people", &own, table(&alliance, "440600", 6, "hub/main"), "NOTE_REFUSED"),
        ("another version than it says", &own, Carried { version: 7, ..good.clone() }, "NOTE_REFUSED"),
        ("a stranger's", &own, Carried { owner: Some("330100".parse().unwrap()), ..good.clone() }, "NOTE_REFUSED"),
    ] {
        let refused = publish(client, &note).await.expect_err(what);
        assert_eq!(reason(&refused), expected, "{what}: {refused}");
    }
    let cut = pb::NotePiece { last: false, ..pieces(&good).remove(0) };
    let steps = tokio_stream::iter([pb::PublishNoteRequest { piece: Some(cut) }]);
    assert_eq!(reason(&foshan.clone().publish_note(steps).await.unwrap_err()), "STREAM_PROTOCOL");
    let versions: Vec<u64> =
        notes_until(&own, Kind::RoutingTable, Some("440600"), 5).await.iter().map(|note| note.version).collect();
    assert_eq!(versions.len(), 2, "the directory and the one table");
    assert!(publish(&own, &good).await.unwrap(), "or all of the above says nothing");
    hub.stop().await;
}

/// A hub in the wrong hands: tells what it likes, and remembers what is handed in.
#[derive(Clone)]
struct Liar {
    tells: Vec<Carried>,
    handed_in: Arc<Mutex<Vec<Carried>>>,
}

#[tonic::async_trait]
impl DirectoryService for Liar {
    type WatchNotesStream = Pin<Box<dyn Stream<Item = Result<pb::WatchNotesResponse, Status>> + Send>>;

    async fn get_directory(
        &self,
        _: Request<pb::GetDirectoryRequest>,
    ) -> Result<Response<pb::GetDirectoryResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn watch_notes(&self, _: Request<pb::WatchNotesRequest>) -> Result<Response<Self::WatchNotesStream>, Status> {
        let (down, stream) = mpsc::channel(4);
        let tells = self.tells.clone();
        tokio::spawn(async move {
            for piece in tells.iter().flat_map(pieces) {
                let _ = down.send(Ok(answer(Told::Piece(piece)))).await;
            }
            let _ = down.send(Ok(answer(Told::CaughtUp))).await;
            down.closed().await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn publish_note(
        &self,
        request: Request<Streaming<pb::PublishNoteRequest>>,
    ) -> Result<Response<pb::PublishNoteResponse>, Status> {
        let (mut steps, mut gathering) = (request.into_inner(), Gathering::default());
        while let Some(step) = steps.message().await? {
            if let Some(note) = gathering.add(step.piece.unwrap()).unwrap() {
                self.handed_in.lock().unwrap().push(note);
            }
        }
        Ok(Response::new(pb::PublishNoteResponse { news: true }))
    }
}

/// Serves the liar at the hub's address with the hub's certificate, until the test ends.
async fn pretend(alliance: &Alliance, liar: Liar) {
    let directory = alliance.directory();
    let (trust, moment) = (alliance.trust(&directory), Moment::new(|| Clock::default().now()));
    let config = server_config(trust.clone(), alliance.own("hub-main/gateway"), moment.clone()).unwrap();
    let config = Arc::new(ArcSwap::new(config));
    let gate = Gate { config, trust, moment, bounds: Bounds::default(), counters: Arc::new(Counters::default()) };
    let serving = Serving {
        gate: Arc::new(gate),
        connections: Connections::default(),
        calls: Arc::new(Calls::new(tongban::grpc::STREAMING)),
        lifetime: Lifetime::default(),
        tally: Tally::default(),
    };
    let record = directory.member(&"hub/main".parse().unwrap()).unwrap();
    let listener = TcpListener::bind(record.endpoints[0].to_string()).await.unwrap();
    tokio::spawn(serve(listener, serving, Routes::new(DirectoryServiceServer::new(liar)), std::future::pending()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_hub_changes_nothing() {
    let alliance = world();
    let (good, newest) = (table(&alliance, "440600", 2, "440600"), table(&alliance, "440600", 3, "440600"));
    let own_key = alliance.folder.join("pki/hub-main/member.key");
    let seed = keys::read_seed(&own_key).unwrap();
    let forged_key = SigningKey::from_seed("directory.alliance.example", seed.bytes()).unwrap();
    let forged = alliance.directory().sign(&forged_key).unwrap();
    let tells = vec![
        good.clone(),
        Carried { kind: Kind::Directory, owner: None, version: 99, note: forged },
        table(&alliance, "440600", 9, "hub/main"),
        table(&alliance, "440600", 1, "440600"),
        Carried { owner: Some("450200".parse().unwrap()), ..newest.clone() },
        Carried { version: 8, ..newest.clone() },
        Carried { note: good.note.replacen("\"version\":2", "\"version\":9", 1), version: 9, ..good.clone() },
        newest.clone(),
    ];
    let handed_in = Arc::new(Mutex::new(vec![]));
    pretend(&alliance, Liar { tells, handed_in: handed_in.clone() }).await;
    let liuzhou = start(&alliance, "450200").await;
    let at_liuzhou = client(&alliance, "450200/ops/li", "450200");
    // The last thing it tells is true; once that is here, all before it was judged.
    notes_until(&at_liuzhou, Kind::RoutingTable, Some("440600"), 3).await;
    let own = table(&alliance, "450200", 1, "450200");
    publish(&at_liuzhou, &own).await.unwrap();
    let mut held = notes_until(&at_liuzhou, Kind::RoutingTable, Some("440600"), 3).await;
    held.extend(notes_until(&at_liuzhou, Kind::RoutingTable, Some("450200"), 1).await);
    let known = |note: &Carried| note == &own || note == &newest || note.kind == Kind::Directory;
    assert!(held.iter().all(known), "{held:?}");
    assert!(held.iter().filter(|note| note.kind == Kind::Directory).all(|note| note.version == 4));
    let told = async {
        while handed_in.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, told).await.expect("the own table is handed in");
    assert_eq!(*handed_in.lock().unwrap(), [own], "its own, and nobody else's");
    liuzhou.stop().await;
}
