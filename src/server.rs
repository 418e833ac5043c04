//! Decides how a gateway comes up and goes down: parse, build, bind, serve, drain. Everything that can be wrong is found
//! before the first connection is taken.

mod hands;
mod law;
mod renewal;
mod seen;
mod watchman;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::Uri;

use self::law::{InForce, Law};
use self::renewal::trusted;
pub use self::renewal::{NotRenewed, Renewal, Renewed};
use self::watchman::Watchman;
use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::config::Config;
use crate::courier::{Desk, Diallers, Follower, Ground, Opener, Partner, Pools, Post, Pull, Witness};
use crate::directory::{CrlPolicy, Directory, DirectoryError, Endpoint, MemberRecord};
use crate::echo::{Breaks, Echo};
use crate::grpc::front::Calls;
use crate::grpc::record::Record;
use crate::grpc::reflection::Reflection;
use crate::grpc::routing::Routing;
use crate::grpc::serve::{Lifetime, Serving, serve};
use crate::grpc::tally::Tally;
use crate::grpc::waiters::Waiters;
use crate::grpc::{self, attachments::Attachments, exchange::Exchange};
use crate::grpc::{Doors, admin::Admin, directory::Directory as DirectoryDoor, evidence::Evidence, health::Health};
use crate::intake::{Intake, Rules, log_keys};
use crate::janitor;
use crate::keys::{self, KeyFileError, Seed};
use crate::lang::{Unfit, Zh};
use crate::ledger::{Core, Ledger, StartError};
use crate::noticeboard::{BoardError, Noticeboard};
use crate::party::{Member, Party};
use crate::receipt::Checker;
use crate::redrive::Redrive;
use crate::routing::{Index, Issued, Objection, Tables, Ways};
use crate::seal::OpeningKey;
use crate::store::{self, Mark, Notes, OpenError, Readers, Retention, Sightings};
use crate::telemetry::remote::{self, Monitors};
use crate::telemetry::{self, Verdicts};
use crate::tlog::note::{KeyError, SigningKey, VerifyingKey};
use crate::tls::accept::{Bounds, Counters, Gate, Listener};
use crate::tls::config::{Moment, Own, SharedOwn, SharedTrust, client_config, server_config};
use crate::tls::connections::Connections;
use crate::tls::dial::Dialler;
use crate::tls::trust::{self, MemberTrust, Trust, TrustFault};

/// Why a gateway does not come up, or had to go down.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error("the alliance key: {0}")]
    AllianceKey(KeyError),
    #[error("the directory: {0}")]
    Directory(#[from] DirectoryError),
    #[error("the directory is for {found}, the configuration for {configured}")]
    OtherAlliance { found: String, configured: String },
    #[error("the directory has no member {0}")]
    NotAMember(Member),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Trust(Vec<TrustFault>),
    #[error("the gateway's certificate and key: {0}")]
    Certificate(Unfit),
    #[error("the log key is not among the log keys of {0}'s record")]
    LogKey(Member),
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error("the ledger does not start: {0}")]
    Ledger(#[from] StartError),
    #[error("[directory] follow names {0}, which is no member with an address, or this gateway itself")]
    NoHub(Member),
    #[error("the kept notes: {0}")]
    Notes(#[from] BoardError),
    #[error("the attachments: {0}")]
    Blobs(std::io::Error),
    #[error("the routing tables: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Routes(Vec<Objection>),
    #[error("the stored routing table of {owner}: {why}")]
    Table { owner: String, why: String },
    #[error("{address}: {source}")]
    Bind { address: SocketAddr, source: std::io::Error },
    #[error("{0}")]
    Thread(std::io::Error),
    #[error("the store failed while serving: {0}")]
    StoreFailed(String),
}

/// A gateway that is bound and ready to serve.
pub struct Gateway<L = TcpListener> {
    listener: L,
    serving: Serving,
    routes: Routes,
    health: Health,
    ledger: Ledger,
    tasks: TaskTracker,
    stop: CancellationToken,
    counters: Arc<Counters>,
    renewal: Renewal,
}

/// How callers are received: the TLS of the moment, who is here, and what is counted of them and seen of us.
#[derive(Clone)]
struct Reception {
    tls: Arc<ArcSwap<rustls::ServerConfig>>,
    connections: Connections,
    tally: Tally,
    verdicts: Verdicts,
}

/// What a gateway is known by and whom it knows.
#[derive(Clone)]
struct Standing {
    own: Member,
    directory: Arc<Directory>,
    board: Arc<Noticeboard>,
    in_force: InForce,
    /// Members with which nothing is exchanged.
    suspended: Arc<BTreeSet<Member>>,
    members: Arc<Vec<MemberTrust>>,
    trust: SharedTrust,
    certificate: SharedOwn,
    moment: Moment,
    clock: Clock,
    /// What is known of the partners' addresses.
    pools: Pools,
    openers: Openers,
}

/// Makes what opens channels to a partner's gateway.
pub type Openers = Arc<dyn Fn(&Member) -> Opener + Send + Sync>;

/// Builds the gateway that `config` describes and binds it. Nothing is served yet.
///
/// # Errors
/// See [`ServerError`]; nothing stays bound then.
pub async fn bind(config: &Config) -> Result<Gateway, ServerError> {
    bind_by(config, Clock::default()).await
}

/// [`bind`], by a clock that can be put ahead.
///
/// # Errors
/// As [`bind`].
pub async fn bind_by(config: &Config, clock: Clock) -> Result<Gateway, ServerError> {
    gateway(config, standing(config, clock)?, TcpListener::bind(config.listen)).await
}

/// [`bind_by`], over another network than this machine's: partners are reached by `openers`, and callers come in by what
/// `listening` brings.
///
/// # Errors
/// As [`bind`].
pub async fn bind_over<L: Listener>(
    config: &Config,
    clock: Clock,
    openers: Openers,
    listening: impl Future<Output = std::io::Result<L>>,
) -> Result<Gateway<L>, ServerError> {
    gateway(config, Standing { openers, ..standing(config, clock)? }, listening).await
}

async fn gateway<L: Listener>(
    config: &Config,
    standing: Standing,
    listening: impl Future<Output = std::io::Result<L>>,
) -> Result<Gateway<L>, ServerError> {
    let own_party = Party::gateway(config.alliance.clone(), standing.own.clone());
    let certificate = standing.certificate.load_full();
    let tls = server_config(standing.trust.clone(), Own::clone(&certificate), standing.moment.clone());
    let tls = tls.map_err(|error| ServerError::Certificate(unusable(&error)))?;
    check_own_certificate(&certificate.chain, &standing.trust.load(), &standing.moment, &own_party)?;
    let reception = Reception {
        tls: Arc::new(ArcSwap::new(tls)),
        connections: Connections::default(),
        tally: Tally::default(),
        verdicts: Verdicts::default(),
    };
    let (renewal, asked) = Renewal::new();

    let ground = ground(config, &standing)?;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let (doors, law) = doors(config, &standing, &ground, &reception, &renewal, &stop, &tasks)?;
    tasks.spawn(law.follow(asked, stop.clone()));
    let (health, echo) = (doors.health.clone(), doors.admin.echo.clone());
    let routes = doors.open();

    let bind_error = |source| ServerError::Bind { address: config.listen, source };
    let listener = listening.await.map_err(bind_error)?;
    let counters = Arc::new(Counters::default());
    let [here, elsewhere] = [seen::listener(config.telemetry).await?, seen::listener(config.telemetry_tls).await?];
    let telemetry = Arc::new(seen::telemetry(config, &standing, &ground, &reception, (counters.clone(), echo)));
    if let Some(listener) = here {
        tasks.spawn(telemetry::serve(listener, telemetry.clone(), stop.clone()));
    }
    if let Some(listener) = elsewhere {
        let gate = gate(&standing, &reception, counters.clone(), seen::bounds());
        let monitors = Monitors { own: standing.own.clone(), named: config.telemetry_readers.clone() };
        tasks.spawn(remote::serve(listener, Arc::new(gate), monitors, telemetry, stop.clone()));
    }
    let serving = serving(&standing, reception, counters.clone());
    let ledger = ground.ledger.clone();
    Ok(Gateway { listener, serving, routes, health, ledger, tasks, stop, counters, renewal })
}

/// What couriers and doors stand on: store, ledger, rules, attachments.
fn ground(config: &Config, standing: &Standing) -> Result<Ground, ServerError> {
    let (writer, readers) = store::open(&config.data, config.synchronous)?;
    let core = Core::open(writer, Mark::in_folder(&config.data), log_key(config, standing)?, standing.own.clone())?;
    let core = core.with_receipt_readers(config.receipt_readers.iter().cloned().collect());
    let ledger = Ledger::start(core, standing.clock.clone()).map_err(ServerError::Thread)?;
    let checker = Arc::new(Mutex::new(Checker::new(log_keys(&standing.directory))));
    let readers = Arc::new(readers);
    let rules = Arc::new(ArcSwap::from_pointee(rules(config, standing, &readers)?));
    let blobs = Blobs::open(config.data.join("attachments")).map_err(ServerError::Blobs)?;
    Ok(Ground {
        own: standing.own.clone(),
        readers,
        ledger,
        clock: standing.clock.clone(),
        checker,
        desk: Desk::default(),
        blobs,
        rules,
        retention: Retention::default(),
    })
}

/// Sets all to work that works beside the doors; gives the doors, and the law that follows what changes.
fn doors(
    config: &Config,
    standing: &Standing,
    ground: &Ground,
    reception: &Reception,
    renewal: &Renewal,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<(Doors, Law), ServerError> {
    let intake = Arc::new(Intake {
        rules: ground.rules.clone(),
        checker: ground.checker.clone(),
        ledger: ground.ledger.clone(),
        clock: ground.clock.clone(),
        blobs: ground.blobs.clone(),
        opening_keys: Arc::new(opening_keys(config)?),
        rejections: DashMap::new(),
    });
    let mut post = Post::new(ground.clone(), diallers(standing), stop.clone(), tasks.clone());
    post.serve_systems(config.systems.iter().map(|system| system.name.clone()));
    post.serve_partners(partners(standing));
    fetch(config, standing, &intake, stop, tasks)?;
    tasks.spawn(janitor::run(ground.clone(), config.data.clone(), stop.clone()));
    let (mailboxes, attachments) = (post.mailboxes(), Attachments::new(ground.blobs.clone()));
    let exchange = Exchange {
        own: config.member.clone(),
        intake,
        ground: ground.clone(),
        mailboxes,
        attachments,
        waiters: Waiters::default(),
        stop: stop.clone(),
    };
    let evidence = Evidence { ground: ground.clone(), board: standing.board.clone() };
    if let Some(witness) = witness(config, standing, ground)? {
        let stop = stop.clone();
        tasks.spawn(async move { witness.watch(stop).await });
    }
    if let Some(follower) = follower(config, standing, ground)? {
        let stop = stop.clone();
        tasks.spawn(async move { follower.follow(stop).await });
    }
    let record = Record::new(ground);
    let routing = Routing::new(config.alliance.clone(), ground, record.clone(), stop.clone());
    let current = Arc::new(ArcSwap::from_pointee(config.clone()));
    standing.in_force.set(ground.readers.clone(), ground.rules.clone(), current.clone());
    let law = Law {
        config: current.load_full(),
        current: current.clone(),
        standing: standing.clone(),
        reception: reception.clone(),
        rules: ground.rules.clone(),
        checker: ground.checker.clone(),
        readers: ground.readers.clone(),
        post,
        routes: routing.board.clone(),
        record: record.clone(),
    };
    let directory = DirectoryDoor::new(config.member.clone(), standing.board.clone(), record.clone(), stop.clone());
    let redrive = Redrive::new(exchange.intake.clone(), ground.clone(), stop.clone());
    let (members, checks) = (hands::members(standing, current.clone()), hands::checks(standing, ground, current));
    let (echo, health) = watch((standing, ground, reception), &exchange.intake, &law.current, stop, tasks);
    let admin = Admin { ground: ground.clone(), redrive, reload: renewal.for_admin(), record, echo, members, checks };
    let reflection = Reflection::new(stop.clone());
    Ok((Doors { exchange, evidence, directory, routing, admin, health, reflection }, law))
}

/// Sets those to work that look after the ways to the partners and the gateway itself.
fn watch(
    (standing, ground, reception): (&Standing, &Ground, &Reception),
    intake: &Arc<Intake>,
    config: &Arc<ArcSwap<Config>>,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> (Echo, Health) {
    let breaks = Breaks::default();
    let echo = Echo::new(intake.clone(), ground.clone(), breaks.clone());
    tasks.spawn(echo.clone().run(config.load().test_every_s, stop.clone()));
    let names = grpc::SERVICES.map(str::to_owned);
    let health = Health::new(standing.own.clone(), ground.clock.clone(), names, stop.clone());
    let watchman = Watchman {
        config: config.clone(),
        board: standing.board.clone(),
        clock: ground.clock.clone(),
        verdicts: reception.verdicts.clone(),
        health: health.clone(),
        rules: ground.rules.clone(),
        readers: ground.readers.clone(),
        breaks,
    };
    tasks.spawn(watchman.watch(stop.clone()));
    (echo, health)
}

/// What stands behind a listener that demands the certificate of a member.
fn gate(standing: &Standing, reception: &Reception, counters: Arc<Counters>, bounds: Bounds) -> Gate {
    let (config, trust, moment) = (reception.tls.clone(), standing.trust.clone(), standing.moment.clone());
    Gate { config, trust, moment, bounds, counters }
}

/// How connections are taken and served.
fn serving(standing: &Standing, reception: Reception, counters: Arc<Counters>) -> Serving {
    let gate = gate(standing, &reception, counters, Bounds::default());
    Serving {
        gate: Arc::new(gate),
        connections: reception.connections,
        calls: Arc::new(Calls::new(grpc::STREAMING).with_long(grpc::LONG.0, Duration::from_millis(grpc::LONG.1))),
        lifetime: Lifetime::default(),
        tally: reception.tally,
    }
}

impl Gateway {
    /// Where the gateway listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl<L: Listener + 'static> Gateway<L> {
    /// What makes the running gateway read its configuration again.
    pub fn renewal(&self) -> Renewal {
        self.renewal.clone()
    }

    /// Refusals at the gate, by reason.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Serves until `stop`, then drains: no new calls, those under way end, then the couriers stop and the ledger
    /// writes its mark.
    ///
    /// # Errors
    /// The store failed: what was answered is safe, nothing more can be promised, and the process must start anew.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ServerError> {
        let Gateway { listener, serving, routes, health, ledger, tasks, stop: stopping, .. } = self;
        let failed = ledger.clone();
        let served = async {
            let end = stopping.clone();
            serve(listener, serving, routes, async move { end.cancelled().await }).await;
        };
        tokio::pin!(served);
        let failure = tokio::select! {
            () = stop => None,
            cause = failed.failed() => Some(cause),
            () = &mut served => None,
        };
        health.draining();
        stopping.cancel();
        if failure.is_none() {
            served.await;
        }
        tasks.close();
        if tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await.is_err() {
            tracing::warn!("some tasks did not end in time");
        }
        let ended = ledger.ended();
        drop((ledger, failed));
        match failure {
            Some(cause) => Err(ServerError::StoreFailed(cause)),
            None => {
                // Calls that were cut may hold it for a moment longer.
                if tokio::time::timeout(Duration::from_secs(5), ended).await.is_err() {
                    tracing::warn!("the ledger is still held; the mark is written at the next start");
                }
                Ok(())
            }
        }
    }
}

fn standing(config: &Config, clock: Clock) -> Result<Standing, ServerError> {
    let alliance_key = keys::read_text(&config.alliance_key)?;
    let alliance_key = VerifyingKey::parse(alliance_key.trim_end()).map_err(ServerError::AllianceKey)?;
    let notes = Notes::in_folder(&config.data).map_err(BoardError::from)?;
    // A hub carries every genuine note; what a city's tables may say is routing's to ask.
    let (in_force, hub) = (InForce::default(), matches!(config.member, Member::Hub(_)));
    let asked = in_force.clone();
    let fits = Box::new(move |board: &_, news: &_| asked.fits(board, news, !hub));
    let board = Noticeboard::open(alliance_key, keys::read_text(&config.directory)?, notes, fits)?;
    let directory = board.directory();
    if *directory.alliance() != config.alliance {
        let (found, configured) = (directory.alliance().as_str().to_owned(), config.alliance.as_str().to_owned());
        return Err(ServerError::OtherAlliance { found, configured });
    }
    let own = config.member.clone();
    if directory.member(&own).is_none() {
        return Err(ServerError::NotAMember(own));
    }
    let suspended = board.suspended();
    let (members, trust) = trusted(config, &directory, &suspended)?;
    let trust = Arc::new(ArcSwap::from_pointee(trust));
    let certificate = Arc::new(ArcSwap::from_pointee(own_certificate(config)?));
    let moment = Moment::new({
        let clock = clock.clone();
        move || clock.now()
    });
    let openers = over_tls(config, trust.clone(), certificate.clone(), moment.clone())?;
    Ok(Standing {
        own,
        directory: Arc::new(directory),
        board: Arc::new(board),
        in_force,
        suspended: Arc::new(suspended),
        members: Arc::new(members),
        trust,
        certificate,
        moment,
        clock,
        pools: Pools::default(),
        openers,
    })
}

/// Whom the directory's members are trusted to name.
pub(crate) fn trust_of(config: &Config, directory: &Directory) -> Result<Trust, ServerError> {
    trusted(config, directory, &BTreeSet::new()).map(|(_, trust)| trust)
}

fn member_trusts(config: &Config, directory: &Directory) -> Result<Vec<MemberTrust>, ServerError> {
    directory.entries().map(|entry| member_trust(config, entry)).collect()
}

/// What a member's record and its revocation lists say. A list that is missing stops that member only, at its handshake.
pub(crate) fn member_trust(config: &Config, entry: &crate::directory::Entry) -> Result<MemberTrust, ServerError> {
    let record = &entry.record;
    let crls = match keys::read_crls(&config.crls.of(&record.member)) {
        Ok(crls) => crls,
        Err(KeyFileError::Missing { path }) => {
            if record.crl == CrlPolicy::Required {
                tracing::warn!(member = %record.member, path = %path.display(), "no revocation list: the member is refused");
            }
            vec![]
        }
        Err(error) => return Err(error.into()),
    };
    Ok(MemberTrust { crls, ..record_trust(record) })
}

/// What a member's record says of its certificates, without revocation lists.
fn record_trust(record: &MemberRecord) -> MemberTrust {
    MemberTrust {
        member: record.member.clone(),
        roots: record.roots.clone(),
        issuers: vec![],
        crl: match record.crl {
            CrlPolicy::Required => trust::CrlPolicy::Required,
            CrlPolicy::None => trust::CrlPolicy::None,
        },
        crls: vec![],
        pin: record.key_pin,
        days_max: record.days_max,
    }
}

fn own_certificate(config: &Config) -> Result<Own, ServerError> {
    Ok(Own { chain: keys::read_certificates(&config.certificate)?, key: keys::read_private_key(&config.key)? })
}

/// A gateway with another's certificate would be refused by every partner: better to say so at the start.
fn check_own_certificate(
    chain: &[CertificateDer<'static>],
    trust: &Trust,
    moment: &Moment,
    own_party: &Party,
) -> Result<(), ServerError> {
    match trust.verify(chain, crate::tls::profile::Usage::Server, moment.unix()) {
        Ok(identity) if identity.party == *own_party => Ok(()),
        Ok(identity) => {
            let (en, zh) = (
                format!("it is for {}, not {own_party}", identity.party),
                format!("证书名为 {}，而非 {own_party}", identity.party),
            );
            Err(ServerError::Certificate(Unfit::new(en, zh)))
        }
        Err(refused) => Err(ServerError::Certificate(Unfit::new(refused.to_string(), refused.zh()))),
    }
}

/// What rustls cannot use together.
fn unusable(error: &rustls::Error) -> Unfit {
    Unfit::new(error.to_string(), format!("不能一起使用：{:?}", error.to_string()))
}

/// The log's signing key: its name is that of the same public key in our own record.
fn log_key(config: &Config, standing: &Standing) -> Result<SigningKey, ServerError> {
    let seed = keys::read_seed(&config.log_key)?;
    let record =
        standing.directory.member(&standing.own).ok_or_else(|| ServerError::NotAMember(standing.own.clone()))?;
    own_log(record, &seed).ok_or_else(|| ServerError::LogKey(standing.own.clone()))
}

/// The log of this record whose key has this seed; none when no key of the record is its public half.
pub(crate) fn own_log(record: &MemberRecord, seed: &Seed) -> Option<SigningKey> {
    record.log_keys.iter().find_map(|key| {
        let signing = SigningKey::from_seed(key.name(), seed.bytes()).ok()?;
        (signing.verifying_key() == key).then_some(signing)
    })
}

/// Opens channels by TLS over TCP. A channel expects its member's gateway, whatever the address.
fn over_tls(
    config: &Config,
    trust: SharedTrust,
    certificate: SharedOwn,
    moment: Moment,
) -> Result<Openers, ServerError> {
    let (alliance, listen) = (config.alliance.clone(), config.listen.ip());
    let tls = move |member: &Member| {
        let expected = Party::gateway(alliance.clone(), member.clone());
        client_config(trust.clone(), Own::clone(&certificate.load()), moment.clone(), expected)
    };
    // Once now, so that a key that does not fit is told at the start; one that takes its place is tried before it does.
    let unfit = tls(&config.member).map_err(|error| ServerError::Certificate(unusable(&error)))?;
    Ok(Arc::new(move |member: &Member| {
        let (tls, member, unfit) = (tls.clone(), member.clone(), unfit.clone());
        let dialler = Dialler::by(move || tls(&member).unwrap_or_else(|_| unfit.clone())).to_partners(listen);
        Arc::new(move |address| dialler.channel(address))
    }))
}

/// What makes a dialer for a partner.
fn diallers(standing: &Standing) -> Diallers {
    let standing = standing.clone();
    Box::new(move |partner: &Partner| {
        let address = |endpoint: &Endpoint| format!("https://{endpoint}").parse::<Uri>().ok();
        let addresses = partner.endpoints.iter().filter_map(address).collect();
        let opener = (standing.openers)(&partner.member);
        standing.pools.dialer(&partner.member, addresses, opener, standing.clock.clone())
    })
}

/// All members but ourselves and those that are suspended, as partners.
fn partners(standing: &Standing) -> Vec<Partner> {
    let served = |record: &&MemberRecord| record.member != standing.own && !standing.suspended.contains(&record.member);
    let others = standing.directory.entries().map(|entry| &entry.record).filter(served);
    let partner =
        |record: &MemberRecord| Partner { member: record.member.clone(), endpoints: record.endpoints.clone() };
    others.map(partner).collect()
}

/// Fetches from each partner that the configuration names.
fn fetch(
    config: &Config,
    standing: &Standing,
    intake: &Arc<Intake>,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<(), ServerError> {
    let dialler = diallers(standing);
    for member in &config.fetch_from {
        let record = standing.directory.member(member).ok_or_else(|| ServerError::NotAMember(member.clone()))?;
        let partner = Partner { member: member.clone(), endpoints: record.endpoints.clone() };
        let pull = Pull {
            intake: intake.clone(),
            partner: Party::gateway(config.alliance.clone(), member.clone()),
            dialer: dialler(&partner),
            board: standing.board.clone(),
        };
        tasks.spawn(pull.run(stop.clone()));
    }
    Ok(())
}

/// What keeps this gateway up with its hub, if it has one.
fn follower(config: &Config, standing: &Standing, ground: &Ground) -> Result<Option<Follower>, ServerError> {
    let Some(hub) = &config.follow else { return Ok(None) };
    let record = standing.directory.member(hub).filter(|record| *hub != standing.own && !record.pulls());
    let record = record.ok_or_else(|| ServerError::NoHub(hub.clone()))?;
    let partner = Partner { member: hub.clone(), endpoints: record.endpoints.clone() };
    let dialer = diallers(standing)(&partner);
    let (own, clock) = (standing.own.clone(), ground.clock.clone());
    Ok(Some(Follower { own, hub: hub.clone(), dialer, board: standing.board.clone(), clock }))
}

/// What looks at the partners' logs, unless the configuration says that nobody does.
fn witness(config: &Config, standing: &Standing, ground: &Ground) -> Result<Option<Witness>, ServerError> {
    let Some(every_s) = config.witness_every_s else { return Ok(None) };
    Ok(Some(Witness {
        own: standing.own.clone(),
        key: log_key(config, standing)?,
        every: Duration::from_secs(every_s),
        board: standing.board.clone(),
        clock: ground.clock.clone(),
        dialer: diallers(standing),
        sightings: Sightings::in_folder(&config.data),
    }))
}

/// The keys that open what was sealed for us, newest first.
fn opening_keys(config: &Config) -> Result<Vec<OpeningKey>, ServerError> {
    let files = config.sealing_key.iter().chain(&config.former_sealing_keys);
    Ok(files.map(|path| OpeningKey::read(path)).collect::<Result<_, _>>()?)
}

fn rules(config: &Config, standing: &Standing, readers: &Readers) -> Result<Rules, ServerError> {
    let tables = tables(config, &standing.directory, readers)?;
    let index = Index::compile(&tables).map_err(ServerError::Routes)?;
    Ok(Rules {
        own: standing.own.clone(),
        alliance: config.alliance.clone(),
        directory: standing.directory.clone(),
        index: Arc::new(index),
        grants: config.grants.clone(),
        suspended: BTreeSet::clone(&standing.suspended),
    })
}

/// The stored routing tables and all they rest on.
pub(crate) fn tables(config: &Config, directory: &Directory, readers: &Readers) -> Result<Tables, ServerError> {
    let (version, texts) =
        readers.look(|look| look.routes(None)).map_err(|e| ServerError::StoreFailed(e.to_string()))?;
    let tables = texts.iter().map(|(owner, text)| {
        let issued = Issued::from_json(text);
        issued
            .map(|issued| Arc::new(issued.table))
            .map_err(|error| ServerError::Table { owner: owner.as_str().to_owned(), why: error.to_string() })
    });
    Ok(Tables {
        own: config.member.clone(),
        systems: config.systems.clone(),
        ways: Ways::of(directory, &config.member),
        allow: config.route_allow.clone(),
        version,
        tables: tables.collect::<Result<_, _>>()?,
    })
}
