//! Decides how whole gateways live in one simulated network: each is a host that runs what `tongban serve` runs, over its
//! own store on disk, with the clock and the sockets of the simulation.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use tongban::clock::Clock;
use tongban::config::Config;
use tongban::party::Member;
use tongban::server::{self, Openers, ServerError};
use tongban::store::{OpenError, Synchronous};
use turmoil::{Builder, Sim};

use crate::alliance::{Alliance, Client};
use crate::plain::{self, Door};

/// The hosts of gateways, by the folder of their configuration.
pub const LIUZHOU: &str = "450200";
pub const FOSHAN: &str = "440600";
pub const YINCHUAN: &str = "640100";
pub const HUB: &str = "hub-main";
const HOSTS: [&str; 4] = [LIUZHOU, FOSHAN, YINCHUAN, HUB];
/// Those of systems.
pub const WINDOW: (&str, &str) = (LIUZHOU, "window");
pub const APPROVAL: (&str, &str) = (FOSHAN, "approval");
pub const ARCHIVE: (&str, &str) = (YINCHUAN, "archive");
/// Each system with its city's address, which is nobody's: what dials by the records alone reaches nothing.
const CITIES: [((&str, &str), &str); 3] =
    [(WINDOW, "0.0.0.1:443"), (APPROVAL, "0.0.0.2:443"), (ARCHIVE, "0.0.0.4:443")];

/// Virtual time that passes in one step: what the simulation tells apart. A commit takes one step, whatever it takes the
/// disk.
pub const TICK: Duration = Duration::from_millis(10);
/// Messages are under way for this long, unless a test says otherwise.
const LATENCY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(40));
/// A gateway that is told to end has ended by then.
const STOP: Duration = Duration::from_secs(60);
/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(30 * 24 * 3600);

/// A simulated network, and the gateways in it.
pub struct World {
    // Dropped before the folder that its gateways write to.
    pub sim: Sim<'static>,
    pub alliance: Alliance,
    began_ms: u64,
    now_ms: Arc<AtomicU64>,
    stops: HashMap<&'static str, Arc<Mutex<CancellationToken>>>,
    ledgers: Ledgers,
    systems: Vec<String>,
}

impl World {
    /// Liuzhou and Foshan, that speak to each other directly.
    pub fn of_two(seed: u64) -> World {
        World::new(seed, &[LIUZHOU, FOSHAN])
    }

    /// Liuzhou and Foshan, that reach each other through a hub alone.
    pub fn with_hub(seed: u64) -> World {
        World::new(seed, &[LIUZHOU, FOSHAN, HUB])
    }

    /// Liuzhou, Foshan and Yinchuan, that speak to each other directly.
    pub fn of_three(seed: u64) -> World {
        World::new(seed, &[LIUZHOU, FOSHAN, YINCHUAN])
    }

    fn new(seed: u64, hosts: &[&'static str]) -> World {
        let sim = Builder::new()
            .rng_seed(seed)
            .tick_duration(TICK)
            .simulation_duration(FOR_EVER)
            .min_message_latency(LATENCY.0)
            .max_message_latency(LATENCY.1)
            .tcp_capacity(1024)
            .build();
        crate::planted::take_up();
        let began_ms = Clock::default().now().ms();
        let mut world = World {
            sim,
            alliance: alliance(hosts),
            began_ms,
            now_ms: Arc::new(AtomicU64::new(began_ms)),
            stops: HashMap::new(),
            ledgers: Ledgers::default(),
            systems: vec![],
        };
        hosts.iter().for_each(|host| world.gateway(host));
        world
    }

    /// Adds a gateway. It runs from the next step on, and anew each time it is started again.
    fn gateway(&mut self, host: &'static str) {
        let config = Config {
            // No simulated disk loses what it was told.
            synchronous: Synchronous::Normal,
            // Its examination of itself reads real files and dials real addresses.
            check_every_s: (24 * 3600, 24 * 3600),
            ..self.alliance.config(host)
        };
        let own = self.certificate(&format!("{host}/gateway"));
        let openers: Openers = Arc::new(move |partner: &Member| {
            let (own, host) = (own.clone(), host_of(partner));
            Arc::new(move |_| plain::channel(own.clone(), host))
        });
        let (clock, starts) = (Clock::counted(self.now_ms.clone()), self.ledgers.starts.clone());
        let stop = Arc::new(Mutex::new(CancellationToken::new()));
        self.stops.insert(host, stop.clone());
        self.sim.host(host, move || {
            let token = CancellationToken::new();
            *stop.lock().unwrap() = token.clone();
            let serving = serve(config.clone(), clock.clone(), openers.clone(), token, starts.clone());
            // In a task that goes with the runtime when the host crashes, as everything else of the gateway does.
            async move { Ok(tokio::spawn(serving).await??) }
        });
    }

    fn certificate(&self, path: &str) -> CertificateDer<'static> {
        self.alliance.own(path).chain.remove(0)
    }

    /// A host of its own for one of a city's systems, which runs `software` with what calls the city's gateway.
    pub fn system<F>(&mut self, at: (&'static str, &'static str), software: impl FnOnce(Client) -> F + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        let certificate = self.certificate(&format!("{}/systems/{}", at.0, at.1));
        let host = format!("{}-{}-{}", at.0, at.1, self.systems.len());
        self.systems.push(host.clone());
        self.sim.client(host, async move {
            software(Client::over(plain::channel(certificate, at.0))).await;
            Ok(())
        });
    }

    /// The hosts of gateways.
    pub fn gateways(&self) -> Vec<&'static str> {
        HOSTS.into_iter().filter(|host| self.stops.contains_key(host)).collect()
    }

    /// All hosts.
    pub fn hosts(&self) -> Vec<String> {
        self.gateways().into_iter().map(str::to_owned).chain(self.systems.iter().cloned()).collect()
    }

    /// One step of virtual time, and all the real work that it has begun.
    pub fn step(&mut self) {
        let now_ms = self.began_ms + self.sim.elapsed().as_millis() as u64;
        self.now_ms.store(now_ms, Ordering::Relaxed);
        self.sim.step().unwrap();
        self.ledgers.let_work();
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            self.step();
        }
    }

    /// Runs until `state` holds, and says how long that took; fails when it does not within `patience`.
    pub fn until(&mut self, what: &str, patience: Duration, state: impl Fn() -> bool) -> Duration {
        let began = self.sim.elapsed();
        while !state() {
            let waited = self.sim.elapsed() - began;
            assert!(waited < patience, "within {patience:?} this did not come: {what}");
            self.step();
        }
        self.sim.elapsed() - began
    }

    /// A gateway ends as on SIGTERM, and starts again over the same store.
    pub fn restart(&mut self, host: &'static str) {
        self.stop(host);
        self.sim.bounce(host);
    }

    fn stop(&mut self, host: &'static str) {
        self.stops[host].lock().unwrap().cancel();
        let began = self.sim.elapsed();
        while self.sim.is_host_running(host) {
            assert!(self.sim.elapsed() - began < STOP, "{host} does not end");
            self.step();
        }
    }
}

async fn serve(
    config: Config,
    clock: Clock,
    openers: Openers,
    stop: CancellationToken,
    starts: Arc<AtomicUsize>,
) -> Result<(), ServerError> {
    let gateway = loop {
        match server::bind_over(&config, clock.clone(), openers.clone(), Door::open()).await {
            // The ledger of the gateway that was here before is about to end.
            Err(ServerError::Store(OpenError::InUse(_))) => tokio::task::yield_now().await,
            bound => break bound?,
        }
    };
    starts.fetch_add(1, Ordering::Relaxed);
    gateway.run(stop.cancelled_owned()).await
}

fn host_of(member: &Member) -> &'static str {
    let name = member.to_string().replace('/', "-");
    HOSTS.into_iter().find(|host| *host == name).expect("a host")
}

/// An alliance of these gateways. Where there is a hub, everything goes by it.
fn alliance(hosts: &[&'static str]) -> Alliance {
    let alliance = Alliance::new(&[]);
    let dir = alliance.pki();
    let hub = hosts.contains(&HUB);
    if hub {
        let named = ["--name-zh", "枢纽", "--name-en", "Hub", "--endpoint", "0.0.0.3:443", "--dir", &dir];
        alliance.run(&["pki", "add-hub", "main"], &named);
    }
    for ((city, system), address) in CITIES.into_iter().filter(|((city, _), _)| hosts.contains(city)) {
        let relay: &[&str] = if hub { &["--relay", "hub/main"] } else { &[] };
        let named =
            ["--name-zh", "测试", "--name-en", "Test", "--endpoint", address, "--system", system, "--dir", &dir];
        alliance.run(&["pki", "add-city", city], &[&named, relay].concat());
    }
    hosts.iter().for_each(|host| alliance.init(host));
    if hub {
        alliance.route(LIUZHOU, FOSHAN, &["hub/main"]);
        alliance.route(FOSHAN, LIUZHOU, &["hub/main"]);
    }
    alliance
}

/// The threads of all ledgers of this process. Virtual time stands still while they work, as it does for the runtime's own
/// blocking threads; so no deadline is eaten by the disk.
#[derive(Default)]
struct Ledgers {
    /// What the kernel says of each thread.
    threads: Vec<File>,
    starts: Arc<AtomicUsize>,
    seen: usize,
}

impl Ledgers {
    /// Waits until every ledger waits for work, but not for one that hangs.
    fn let_work(&mut self) {
        let starts = self.starts.load(Ordering::Relaxed);
        if starts != self.seen {
            self.seen = starts;
            self.threads = threads("ledger");
        }
        let began = Instant::now();
        while self.threads.iter().any(works) && began.elapsed() < Duration::from_millis(100) {
            std::thread::yield_now();
        }
    }
}

/// What the kernel tells of this process's threads of a name.
fn threads(name: &str) -> Vec<File> {
    let folders = std::fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap().path());
    let named = folders.filter(|folder| {
        // One that has just ended is no longer told of.
        std::fs::read_to_string(folder.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    });
    named.filter_map(|folder| File::open(folder.join("stat")).ok()).collect()
}

/// Whether a thread runs or waits for the disk (proc(5): the third word, after the name in brackets).
fn works(thread: &File) -> bool {
    let mut text = [0; 64];
    let Ok(length) = thread.read_at(&mut text, 0) else { return false };
    let state = text[..length].iter().rposition(|byte| *byte == b')').and_then(|at| text.get(at + 2));
    matches!(state, Some(b'R' | b'D'))
}
