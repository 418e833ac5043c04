//! Runs `tongban serve` as a process of its own: started as an operator starts it, ended by SIGTERM or killed.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;

use crate::alliance::{Alliance, PATIENCE};

/// An alliance whose gateways have addresses that nobody else takes while they are down: each test process has an
/// address of the loopback network to itself, so neither another test nor the source port of a dial can stand there.
pub fn alliance(cities: &[(&str, &[&str])]) -> Alliance {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let pid = std::process::id();
    let [_, high, middle, low] = pid.to_be_bytes();
    let port = || 7500 + COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("tongban-process-{pid}-{}", port()));
    let alliance = Alliance { folder };
    alliance.run(&["pki", "new"], &["--dir", &alliance.pki()]);
    for (city, systems) in cities {
        alliance.add_city(city, systems, &format!("127.{}.{middle}.{low}:{}", 64 + high % 64, port()));
    }
    for (city, _) in cities {
        alliance.init(city);
    }
    alliance
}

/// A gateway's process. Dropping it kills it.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Process {
    /// Starts a city's gateway and waits until it takes connections.
    pub async fn start(alliance: &Alliance, city: &str) -> Process {
        Process::start_under(alliance, city, &[]).await
    }

    /// The same, under a command that runs the one given behind its own words.
    pub async fn start_under(alliance: &Alliance, city: &str, wrapper: &[String]) -> Process {
        let mut process = Process::spawn(alliance, city, wrapper);
        let address = alliance.config(city).listen;
        until("the gateway takes connections", async || {
            if let Some(status) = process.child.try_wait().unwrap() {
                panic!("the gateway of {city} ended with {status}: {}", process.said());
            }
            takes_connections(address).await
        })
        .await;
        process
    }

    /// Starts a city's gateway that is expected to end by itself.
    pub fn spawn(alliance: &Alliance, city: &str, wrapper: &[String]) -> Process {
        let log = alliance.folder.join(city).join("stderr.log");
        let stderr = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let config = alliance.config_path(city).display().to_string();
        let own = [env!("CARGO_BIN_EXE_tongban"), "--lang", "en", "serve", "--config", &config].map(str::to_owned);
        let words: Vec<String> = wrapper.iter().cloned().chain(own).collect();
        let child = Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()).stderr(stderr).spawn().unwrap();
        Process { child, log }
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, now; returns when the process is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether the process has ended by now.
    pub fn is_gone(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Whether SIGKILL has ended it.
    pub fn was_killed(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some_and(|status| status.signal() == Some(Signal::KILL.as_raw()))
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGSTOP: alive, and does nothing. Returns when each of its threads has stopped.
    pub async fn pause(&self) {
        self.signal(Signal::STOP);
        let threads = format!("/proc/{}/task", self.child.id());
        let stopped = |thread: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
        };
        until("the process pauses", async || std::fs::read_dir(&threads).unwrap().all(stopped)).await;
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Bytes of memory that the process has, and had at most (`VmRSS`, `VmHWM`).
    pub fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        (kilobytes("VmRSS:") << 10, kilobytes("VmHWM:") << 10)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the process has ended; how, and after how long.
    pub async fn ended(&mut self) -> (ExitStatus, Duration) {
        let asked = Instant::now();
        let mut status = None;
        until("the process ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        (status.unwrap(), asked.elapsed())
    }

    /// SIGTERM, and the end that an operator expects.
    pub async fn stop(mut self) {
        self.terminate();
        let (status, _) = self.ended().await;
        assert!(status.success(), "{status}: {}", self.said());
    }

    /// The end of all that gateways of this city have written to stderr.
    pub fn said(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// How long something took, each time.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Once more, from `begun` until now.
    pub fn since(&mut self, begun: Instant) {
        self.0.push(begun.elapsed());
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let within = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).saturating_sub(1)];
        let [p50, p99, max] = [50, 99, 100].map(within);
        write!(f, "p50 {p50:.2?}, p99 {p99:.2?}, max {max:.2?} of {}", sorted.len())
    }
}

/// How a gateway refused to start.
#[derive(Debug)]
pub struct Refusal {
    pub code: Option<i32>,
    pub said: String,
    pub took: Duration,
}

/// Starts a city's gateway that must not come up, and says how it ended.
pub async fn refused(alliance: &Alliance, city: &str) -> Refusal {
    let _ = std::fs::remove_file(alliance.folder.join(city).join("stderr.log"));
    let mut process = Process::spawn(alliance, city, &[]);
    let (status, took) = process.ended().await;
    Refusal { code: status.code(), said: process.said(), took }
}

/// Bytes that have come to the sockets of this address and were not read.
pub fn unread(address: SocketAddr) -> u64 {
    let SocketAddr::V4(v4) = address else { panic!("an IPv4 address") };
    let own = format!("{:08X}:{:04X}", u32::from_le_bytes(v4.ip().octets()), v4.port());
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let unread = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let queues = (fields.next()? == own).then(|| fields.nth(2))??;
        u64::from_str_radix(queues.split_once(':')?.1, 16).ok()
    };
    sockets.lines().filter_map(unread).sum()
}

pub async fn takes_connections(address: SocketAddr) -> bool {
    TcpStream::connect(address).await.is_ok()
}

/// Looks every two milliseconds until `state` is reached, within the patience of tests.
pub async fn until(what: &str, mut state: impl AsyncFnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(2));
    let reached = async {
        while !state().await {
            looks.tick().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, reached).await.is_ok(), "in {PATIENCE:?} not reached: {what}");
}

/// Lets the others work for `time`: shorter than any timer could, so that a kill falls at any moment of theirs.
pub async fn let_work(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        tokio::task::yield_now().await;
    }
}
