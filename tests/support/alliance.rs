//! Makes a development alliance in a folder of its own and runs its gateways in this process, behind real TLS.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::port;
use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tongban::clock::Clock;
use tongban::config::Config;
use tongban::directory::{self, Directory, MemberRecord, alliance_key_name};
use tongban::intake::log_keys;
use tongban::keys;
use tongban::ledger::{Answer, Core, Entry, RouteChange};
use tongban::party::{Member, Party};
use tongban::receipt::{Checked, Checker};
use tongban::routing::{Issued, Table};
use tongban::server::{self, ServerError};
use tongban::store::{self, Mark, OpenError, Readers, Synchronous, Writer};
use tongban::tlog::note::{SigningKey, VerifyingKey};
use tongban::tls::accept::Counters;
use tongban::tls::config::{Moment, Own, client_config};
use tongban::tls::dial::Dialler;
use tongban::tls::trust::{CrlPolicy, MemberTrust, Trust};
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::evidence::evidence_service_client::EvidenceServiceClient;
use tongban::wire::pb::exchange as pb;
use tongban::wire::pb::exchange::exchange_service_client::ExchangeServiceClient;
use tonic::transport::{Channel, Uri};

/// How long a test waits for a state before it fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A city as its record describes it, and where its gateway fetches.
#[derive(Clone, Copy, Default)]
pub struct City<'a> {
    pub code: &'a str,
    pub systems: &'a [&'a str],
    /// Hubs that may carry for it, `hub/NAME`.
    pub relays: &'a [&'a str],
    /// It cannot be dialled.
    pub pulls: bool,
    pub fetches: &'a [&'a str],
    pub unsealed_relay: bool,
}

/// An alliance of development cities.
pub struct Alliance {
    pub folder: PathBuf,
}

impl Drop for Alliance {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

impl Alliance {
    /// Cities with their systems, e.g. `("450200", &["window"])`, each with a free address.
    pub fn new(cities: &[(&str, &[&str])]) -> Alliance {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tongban-{}-{count}", std::process::id()));
        // A process that was killed may have left it, and its number may come again.
        let _ = std::fs::remove_dir_all(&folder);
        let alliance = Alliance { folder };
        alliance.run(&["pki", "new"], &["--dir", &alliance.pki()]);
        for (city, systems) in cities {
            alliance.add_city(city, systems, &free_address());
        }
        for (city, _) in cities {
            alliance.init(city);
        }
        alliance
    }

    /// An alliance of hubs and of cities that differ in how they are reached.
    pub fn of(hubs: &[&str], cities: &[City]) -> Alliance {
        let alliance = Alliance::new(&[]);
        for hub in hubs {
            let (dir, endpoint) = (alliance.pki(), free_address());
            let named = ["--name-zh", "枢纽", "--name-en", "Hub", "--endpoint", &endpoint, "--dir", &dir];
            alliance.run(&["pki", "add-hub", hub], &named);
        }
        for city in cities {
            alliance.add(city);
        }
        // Each configuration names what the finished directory knows.
        hubs.iter().for_each(|hub| alliance.init(&format!("hub-{hub}")));
        for city in cities {
            alliance.init_at(city.code, &free_address());
            alliance.fetch_from(city.code, city.fetches);
        }
        alliance
    }

    fn add(&self, city: &City) {
        let mut arguments = vec!["--dir".to_owned(), self.pki(), "--name-zh".into(), "测试".into()];
        arguments.extend(["--name-en".into(), "Test".into()]);
        match city.pulls {
            true => arguments.push("--pulls".into()),
            false => arguments.extend(["--endpoint".into(), free_address()]),
        }
        arguments.extend(city.systems.iter().flat_map(|system| ["--system".to_owned(), (*system).to_owned()]));
        arguments.extend(city.relays.iter().flat_map(|relay| ["--relay".to_owned(), (*relay).to_owned()]));
        arguments.extend(city.unsealed_relay.then(|| "--unsealed-relay".to_owned()));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.run(&["pki", "add-city", city.code], &arguments);
    }

    /// Writes a configuration; a gateway that cannot be dialled listens for its own systems at `listen`.
    fn init_at(&self, city: &str, listen: &str) {
        let pulls = self.directory().member(&city.parse().unwrap()).unwrap().pulls();
        let (pki, data) = (self.folder.join("pki").join(city), self.folder.join(city));
        let (pki, data) = (pki.display().to_string(), data.display().to_string());
        let mut arguments = vec!["--pki", &pki, "--data", &data];
        arguments.extend(pulls.then_some(["--listen", listen]).into_iter().flatten());
        self.run(&["init"], &arguments);
    }

    /// Changes a member's record, signed by the member and listed by the alliance.
    pub fn change_record(&self, member: &str, change: impl FnOnce(&mut MemberRecord)) {
        let (directory, pki) = (self.directory(), self.folder.join("pki"));
        let key =
            |file: PathBuf, name: &str| SigningKey::from_seed(name, keys::read_seed(&file).unwrap().bytes()).unwrap();
        let member: Member = member.parse().unwrap();
        let entry = directory.entry(&member).unwrap();
        let mut record = entry.record.clone();
        record.version += 1;
        change(&mut record);
        let member_key =
            key(pki.join(member.to_string().replace('/', "-")).join("member.key"), entry.member_key.name());
        let entry = directory::Entry::open(entry.member_key.clone(), record.sign(&member_key).unwrap()).unwrap();
        let alliance_key = key(pki.join("alliance.key"), &alliance_key_name(directory.alliance()));
        let changed = directory.with(entry, Clock::default().now()).unwrap();
        std::fs::write(pki.join("directory.note"), changed.sign(&alliance_key).unwrap()).unwrap();
    }

    /// Lets a city's gateway fetch from these members.
    pub fn fetch_from(&self, city: &str, members: &[&str]) {
        if !members.is_empty() {
            let path = self.config_path(city);
            let text = std::fs::read_to_string(&path).unwrap();
            let setting = format!("[gateway]\nfetch_from = {members:?}\n");
            std::fs::write(&path, text.replacen("[gateway]\n", &setting, 1)).unwrap();
        }
    }

    /// Puts a routing table of `owner` in place at a gateway that does not run: everything goes by these ways.
    pub fn route(&self, city: &str, owner: &str, ways: &[&str]) {
        let row = format!("[[route]]\ndivision = {owner:?}\nitem = \"*\"\nvia = {ways:?}\n");
        let table = Table::from_toml(&format!("owner = {owner:?}\n{row}")).unwrap();
        let (issued_at, alliance) = (Clock::default().now(), self.directory().alliance().clone());
        let text = Issued { alliance, issued_at, table }.to_json().unwrap();
        let (config, key) = (self.config(city), self.log_key(city));
        let (writer, _) = open_store(&config);
        let expected_version = writer.routes_version().unwrap();
        let mut core = Core::open(writer, Mark::in_folder(&config.data), key, config.member.clone()).unwrap();
        let change = RouteChange {
            expected_version,
            tables: vec![(owner.parse().unwrap(), Some(text))],
            actor: "a test".to_owned(),
            action: "publish".to_owned(),
        };
        let (answers, _) = core.apply(issued_at, vec![Entry::Routes(Box::new(change))]).unwrap();
        assert!(matches!(answers[..], [Answer::Routes(Ok(_))]), "{answers:?}");
        core.write_mark(issued_at);
    }

    /// The key of a member's log.
    pub fn log_key(&self, member: &str) -> SigningKey {
        let name = self.directory().member(&member.parse().unwrap()).unwrap().log_keys[0].name().to_owned();
        let folder = member.replace('/', "-");
        let seed = keys::read_seed(&self.folder.join("pki").join(folder).join("log.key")).unwrap();
        SigningKey::from_seed(&name, seed.bytes()).unwrap()
    }

    pub fn pki(&self) -> String {
        self.folder.join("pki").display().to_string()
    }

    pub fn add_city(&self, city: &str, systems: &[&str], endpoint: &str) {
        let mut arguments = vec!["--dir".to_owned(), self.pki(), "--name-zh".into(), "测试".into()];
        arguments.extend(["--name-en".into(), "Test".into(), "--endpoint".into(), endpoint.to_owned()]);
        arguments.extend(systems.iter().flat_map(|system| ["--system".to_owned(), (*system).to_owned()]));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.run(&["pki", "add-city", city], &arguments);
    }

    pub fn init(&self, city: &str) {
        let (pki, data) = (self.folder.join("pki").join(city), self.folder.join(city));
        self.run(&["init"], &["--pki", &pki.display().to_string(), "--data", &data.display().to_string()]);
    }

    /// Runs the command line.
    pub fn run(&self, command: &[&str], arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_tongban")).args(command).args(arguments).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn config_path(&self, city: &str) -> PathBuf {
        self.folder.join(city).join("tongban.toml")
    }

    pub fn config(&self, city: &str) -> Config {
        Config::load(&self.config_path(city)).unwrap()
    }

    /// Runs a city's gateway in this process.
    pub async fn start(&self, city: &str) -> Gateway {
        self.start_with(&self.config(city)).await
    }

    /// A child process that another test starts holds every lock with us until it runs its own program: a store that was
    /// closed a moment ago may look open.
    pub async fn start_with(&self, config: &Config) -> Gateway {
        self.start_by(config, Clock::default()).await
    }

    /// Runs a gateway by a clock that can be put ahead.
    pub async fn start_by(&self, config: &Config, clock: Clock) -> Gateway {
        let began = Instant::now();
        let gateway = loop {
            match server::bind_by(config, clock.clone()).await {
                Err(ServerError::Store(OpenError::InUse(_))) if began.elapsed() < PATIENCE => {
                    tokio::task::yield_now().await;
                }
                bound => break bound.unwrap_or_else(|error| panic!("{error}")),
            }
        };
        let (counters, renewal) = (gateway.counters(), gateway.renewal());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move { gateway.run(async move { stopped.cancelled().await }).await.unwrap() });
        Gateway { stop, task, counters, renewal }
    }

    pub fn directory(&self) -> Directory {
        let key = keys::read_text(&self.folder.join("pki/alliance.vkey")).unwrap();
        let key = VerifyingKey::parse(key.trim_end()).unwrap();
        Directory::open(&keys::read_text(&self.folder.join("pki/directory.note")).unwrap(), &key).unwrap()
    }

    pub fn checker(&self) -> Checker {
        Checker::new(log_keys(&self.directory()))
    }

    /// A client with the certificate `CITY/PATH.{pem,key}` that calls the gateway of `to`.
    pub fn client_of(&self, certificate: &str, to: &str) -> Client {
        self.client_with(self.own(certificate), to)
    }

    /// The certificate `CITY/PATH.{pem,key}` and its key.
    pub fn own(&self, certificate: &str) -> Own {
        let folder = self.folder.join("pki");
        Own {
            chain: keys::read_certificates(&folder.join(format!("{certificate}.pem"))).unwrap(),
            key: keys::read_private_key(&folder.join(format!("{certificate}.key"))).unwrap(),
        }
    }

    pub fn client_with(&self, own: Own, to: &str) -> Client {
        let (dialler, address) = self.dialler_with(own, to);
        Client::over(dialler.channel(address))
    }

    /// A dialler with this certificate for the gateway of `to`, and that gateway's address.
    pub fn dialler_with(&self, own: Own, to: &str) -> (Dialler, Uri) {
        let directory = self.directory();
        let record = directory.member(&to.parse().unwrap()).unwrap();
        let expected = Party::gateway(directory.alliance().clone(), record.member.clone());
        let tls = client_config(self.trust(&directory), own, Moment::new(|| Clock::default().now()), expected).unwrap();
        let address = match record.endpoints.first() {
            Some(endpoint) => endpoint.to_string(),
            None => self.config(to).listen.to_string(),
        };
        (Dialler::new(tls), format!("https://{address}").parse().unwrap())
    }

    /// A client with the certificate of a city's system, at its own gateway.
    pub fn client(&self, city: &str, system: &str) -> Client {
        self.client_of(&format!("{city}/systems/{system}"), city)
    }

    pub fn trust(&self, directory: &Directory) -> Arc<ArcSwap<Trust>> {
        let members = directory.entries().map(|entry| MemberTrust {
            member: entry.record.member.clone(),
            roots: entry.record.roots.clone(),
            issuers: vec![],
            crl: CrlPolicy::None,
            crls: vec![],
            pin: entry.record.key_pin,
            days_max: entry.record.days_max,
        });
        let trust = Trust::build(directory.alliance().clone(), members.collect()).unwrap();
        Arc::new(ArcSwap::from_pointee(trust))
    }
}

/// A gateway in this process.
pub struct Gateway {
    stop: CancellationToken,
    task: JoinHandle<()>,
    pub counters: Arc<Counters>,
    pub renewal: server::Renewal,
}

impl Gateway {
    pub async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("the gateway drains").unwrap();
    }
}

/// A party's calls.
#[derive(Clone)]
pub struct Client {
    pub exchange: ExchangeServiceClient<Channel>,
    pub evidence: EvidenceServiceClient<Channel>,
    pub channel: Channel,
}

impl Client {
    pub fn over(channel: Channel) -> Client {
        Client {
            exchange: ExchangeServiceClient::new(channel.clone()).max_decoding_message_size(8 << 20),
            evidence: EvidenceServiceClient::new(channel.clone()),
            channel,
        }
    }

    pub async fn submit(&self, envelope: pb::Envelope) -> Result<pbe::Receipt, tonic::Status> {
        let request = pb::SubmitRequest { envelope: Some(envelope), origin_receipt: None, via: vec![] };
        let answer = self.exchange.clone().submit(request).await?;
        Ok(answer.into_inner().receipt.expect("a receipt"))
    }

    pub async fn message(&self, from: &str, id: &str) -> Result<pb::GetMessageResponse, tonic::Status> {
        let request = pb::GetMessageRequest { from_city: from.to_owned(), message_id: id.to_owned() };
        Ok(self.exchange.clone().get_message(request).await?.into_inner())
    }

    /// Waits until the message is in `state`, and returns it.
    pub async fn until(&self, from: &str, id: &str, state: pbe::State) -> pb::GetMessageResponse {
        let reached = async {
            loop {
                let message = self.message(from, id).await.unwrap();
                if message.state() == state {
                    return message;
                }
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, reached).await;
        match waited {
            Ok(message) => message,
            Err(_) => panic!("{id} is not {state:?}: {:?}", self.message(from, id).await),
        }
    }

    pub async fn evidence(&self, from: &str, id: &str) -> Vec<pbe::Receipt> {
        let request =
            pbe::GetMessageEvidenceRequest { from_city: from.to_owned(), message_id: id.to_owned(), sealed: false };
        self.evidence.clone().get_message_evidence(request).await.unwrap().into_inner().receipts
    }

    /// Opens the mailbox.
    pub async fn receive(&self, credits: u32) -> Mailbox {
        self.try_receive(credits).await.unwrap()
    }

    /// The same at a gateway that may be gone.
    pub async fn try_receive(&self, credits: u32) -> Result<Mailbox, tonic::Status> {
        use pb::receive_request::Request;
        let (up, stream) = tokio::sync::mpsc::channel(64);
        let open = Request::Open(pb::OpenMailbox { credits, receipts: false });
        up.send(pb::ReceiveRequest { request: Some(open) }).await.unwrap();
        let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
        let down = self.exchange.clone().receive(stream).await?.into_inner();
        Ok(Mailbox { up, down })
    }
}

/// An open mailbox.
pub struct Mailbox {
    pub up: tokio::sync::mpsc::Sender<pb::ReceiveRequest>,
    pub down: tonic::Streaming<pb::ReceiveResponse>,
}

impl Mailbox {
    pub async fn next(&mut self) -> Result<pb::receive_response::Response, tonic::Status> {
        let step = tokio::time::timeout(PATIENCE, self.down.message()).await.expect("a step in time")?;
        Ok(step.expect("the stream goes on").response.expect("a step"))
    }

    pub async fn delivery(&mut self) -> (pb::Delivery, pb::Message) {
        match self.next().await.unwrap() {
            pb::receive_response::Response::Delivery(mut delivery) => {
                let Some(pb::delivery::Content::Message(message)) = delivery.content.take() else {
                    panic!("a message")
                };
                (delivery, message)
            }
            other => panic!("no delivery: {other:?}"),
        }
    }

    pub async fn settled(&mut self) -> pb::Settled {
        match self.next().await.unwrap() {
            pb::receive_response::Response::Settled(settled) => settled,
            other => panic!("not settled: {other:?}"),
        }
    }

    pub async fn say(&self, request: pb::receive_request::Request) {
        self.up.send(pb::ReceiveRequest { request: Some(request) }).await.unwrap();
    }

    pub async fn give(&self, delivery_id: &str, outcome: pb::outcome::Outcome) {
        let outcome = pb::Outcome { delivery_id: delivery_id.to_owned(), outcome: Some(outcome) };
        self.say(pb::receive_request::Request::Outcome(outcome)).await;
    }

    pub async fn acknowledge(&self, delivery_id: &str) {
        self.give(delivery_id, pb::outcome::Outcome::Acknowledge(pb::Acknowledge::default())).await;
    }
}

/// Opens the store of a gateway that has stopped.
pub fn open_store(config: &Config) -> (Writer, Readers) {
    let began = Instant::now();
    loop {
        match store::open(&config.data, Synchronous::Full) {
            Err(OpenError::InUse(_)) if began.elapsed() < PATIENCE => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

/// A new message id.
pub fn new_id() -> String {
    let chance = tongban::chance::bytes().unwrap();
    tongban::id::MessageId::new_v7(Clock::default().now(), chance).to_string()
}

/// A good envelope with one small part.
pub fn envelope(from: (&str, &str), to: (&str, &str)) -> pb::Envelope {
    let address = |(city, system): (&str, &str)| pb::Address { city: city.to_owned(), system: system.to_owned() };
    pb::Envelope {
        message_id: new_id(),
        from: Some(address(from)),
        to: Some(address(to)),
        item_code: "11440100007482575H3440118009000".to_owned(),
        parts: vec![part("form.json", b"{\"name\":\"x\"}")],
        created_at: Some(tongban::wire::envelope::time_to_wire(Clock::default().now())),
        ..Default::default()
    }
}

pub fn part(name: &str, content: &[u8]) -> pb::Part {
    let salt = [7; 16];
    let digest = Sha256::new().chain_update(salt).chain_update(content).finalize();
    pb::Part {
        name: name.to_owned(),
        media_type: "application/json".to_owned(),
        size: content.len() as u64,
        salt: salt.to_vec(),
        digest: Some(pb::Digest { algorithm: "sha256".to_owned(), value: digest.to_vec() }),
        content: Some(pb::part::Content::Inline(content.to_vec().into())),
    }
}

/// Checks a receipt from the wire.
pub fn check(checker: &mut Checker, receipt: pbe::Receipt) -> Checked {
    let receipt = tongban::wire::receipt::from_wire(receipt).expect("a well-formed receipt");
    checker.check(receipt).expect("the receipt holds")
}

/// The reason in a status.
pub fn reason(status: &tonic::Status) -> String {
    tongban::wire::status::from_status(status).reason.unwrap_or_else(|| format!("none: {status:?}"))
}

/// An address of this machine that is free now.
pub fn free_address() -> String {
    port::free_address().to_string()
}

/// Whether a path exists below the alliance's folder.
pub fn exists(path: &Path) -> bool {
    path.exists()
}
