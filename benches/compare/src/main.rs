//! Decides what is compared: in one run, on one machine, one after the other, each durable before its answer and over mutual TLS,
//! again and again, and the medians of it. Never compares figures of different runs or machines. `growth` measures the gateway alone.

mod calls;
mod city;
mod curve;
mod diagram;
mod echo;
mod gateway;
mod growth;
mod measure;
mod peers;
mod report;
mod tls;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use clap::{Parser, Subcommand};
use serde_json::json;

use crate::gateway::{Grown, Program, silent};
use crate::measure::{Gauge, Window, median};
use crate::peers::Peer;
use crate::report::{Ratio, Row};

/// Measure a gateway beside what else carries messages
#[derive(Parser)]
struct Compare {
    #[command(subcommand)]
    inner: Option<Inner>,
    /// The gateway's program
    #[arg(long, default_value = "target/release/tongban", global = true)]
    tongban: PathBuf,
    /// NATS' server
    #[arg(long, default_value = "nats-server")]
    nats: PathBuf,
    /// Runs, of which the medians are told
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Seconds of each window
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Bytes of each message
    #[arg(long, default_value_t = 1_024)]
    size: usize,
    /// Messages that a gateway grows to
    #[arg(long, default_value_t = 200_000)]
    queued: u64,
    /// Where the results go
    #[arg(long, default_value = "target/compare", global = true)]
    out: PathBuf,
}

#[derive(Subcommand)]
enum Inner {
    Grow(growth::Grow),
    /// The echo; started by the comparison itself
    #[command(hide = true)]
    Echo {
        folder: PathBuf,
        port: u16,
    },
}

/// Messages without an answer at once, on a stream and in calls.
const OPEN: usize = 1_024;
const CALLS: usize = 256;
/// RabbitMQ's best of so many windows counts in each run: its first ones are slow.
const RABBIT_WINDOWS: usize = 3;

/// What is measured, in order; the names stand in the table.
const NAMES: [(&str, &str); 12] = [
    ("disk: append + fdatasync", "one at a time, temporary folder"),
    ("SQLite alone", "our schema and rows, WAL, synchronous=FULL, as many messages in a commit as the gateway had"),
    ("echo, unary, 1 at once", "tonic, mutual TLS 1.3, nothing stored"),
    ("echo, unary, 256 at once", "tonic, mutual TLS 1.3, three connections, nothing stored"),
    ("echo, stream", "tonic, mutual TLS 1.3, 1024 open, nothing stored"),
    (
        "RabbitMQ quorum queue",
        "confirms, persistent, mutual TLS 1.3, 1024 unconfirmed, one node, best of three windows",
    ),
    ("NATS JetStream", "file storage, sync_interval: always, mutual TLS 1.3, 1024 unacknowledged, one node"),
    ("PostgreSQL, batched insert", "synchronous_commit on, 256 rows a statement, 4 connections, no TLS"),
    ("gateway, submit, 1 at once", "as shipped: mutual TLS 1.3, synchronous=FULL, receipt in hand"),
    ("gateway, submit, 256 at once", "as shipped, three connections"),
    ("gateway, stream", "as shipped, 1024 open"),
    ("gateway, end to end", "as shipped, 1024 on the way, until the receipt of the handover is in the sender's hand"),
];

type Found = Result<Vec<Window>, String>;

fn main() -> Result<()> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let compare = Compare::parse();
    if let Some(Inner::Echo { folder, port }) = &compare.inner {
        return tokio::runtime::Runtime::new()?.block_on(echo::serve(folder, *port));
    }
    std::fs::create_dir_all(&compare.out)?;
    let all = std::env::temp_dir().join(format!("tongban-compare-{}", std::process::id()));
    std::fs::create_dir_all(&all)?;
    // Others than us may have to read it.
    std::process::Command::new("chmod").arg("755").arg(&all).status()?;
    let told = run(&compare, &all);
    let _ = std::fs::remove_dir_all(&all);
    told
}

fn run(compare: &Compare, all: &Path) -> Result<()> {
    let program = Program(std::path::absolute(&compare.tongban)?);
    if let Some(Inner::Grow(grow)) = &compare.inner {
        return growth::run(grow, &program, all, &compare.out, &machine());
    }
    // One thread for every load: what it takes, the loaded cannot have.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(compared(compare, &program, all))
}

async fn compared(compare: &Compare, program: &Program, all: &Path) -> Result<()> {
    tls::certificates(all)?;
    let mut found: Vec<Found> = NAMES.iter().map(|_| Ok(vec![])).collect();
    let length = Duration::from_secs(compare.seconds);
    let bytes = noise(compare.size);
    let (echo, rabbit, nats, postgres) = (
        peers::echo(all).await,
        peers::rabbit(all).await,
        peers::nats(all, &compare.nats).await,
        peers::postgres(all).await,
    );
    for run in 1..=compare.runs {
        println!("run {run} of {}", compare.runs);
        gateway_run(compare, program, all, &mut found);
        let echoed = [(2, 1), (3, CALLS)];
        for (place, at_once) in echoed {
            let load = async |peer: &Peer| echo::unary(all, peer.port, &bytes, at_once, length).await;
            keep(&mut found, place, windows(&echo, 1, load).await);
        }
        let load = async |peer: &Peer| echo::stream(all, peer.port, &bytes, OPEN, length).await;
        keep(&mut found, 4, windows(&echo, 1, load).await);
        let load = async |peer: &Peer| peers::rabbit_load(all, peer.port, &bytes, OPEN, length).await;
        keep(&mut found, 5, windows(&rabbit, RABBIT_WINDOWS, load).await);
        let load = async |peer: &Peer| peers::nats_load(all, peer.port, &bytes, OPEN, length).await;
        keep(&mut found, 6, windows(&nats, 1, load).await);
        let load = async |peer: &Peer| peers::postgres_load(peer.port, &bytes, length).await;
        keep(&mut found, 7, windows(&postgres, 1, load).await);
    }
    drop((echo, rabbit, nats, postgres));
    println!("a gateway that grows to {} queued messages", compare.queued);
    let folder = peers::folder(all, "grown")?;
    let mut grown = Grown::build(program, &folder, silent()?)?;
    if let Err(why) = grown.grow(compare.queued) {
        println!("  SKIPPED: {why:#}");
    }
    tell(compare, found, &grown.figures)
}

/// The gateway's own loads, and its disk and store alone beside them.
fn gateway_run(compare: &Compare, program: &Program, all: &Path, found: &mut [Found]) {
    let (time, size) = (format!("{}s", compare.seconds), compare.size.to_string());
    let bench = |line: &[&str]| {
        let usual = ["--self", "--time", &time, "--size", &size];
        program.bench(all, &[&usual[..], line].concat()).map_err(|why| format!("{why:#}"))
    };
    let place = |load: &str| match load {
        "disk" => 0,
        "store" => 1,
        "submit" => 9,
        "stream" => 10,
        _ => 11,
    };
    let mut keep_all = |windows: Result<Vec<(String, Window)>, String>, at: Option<usize>| match windows {
        Ok(windows) => {
            windows.into_iter().for_each(|(load, window)| keep(found, at.unwrap_or(place(&load)), Ok(window)))
        }
        Err(why) => keep(found, at.unwrap_or(10), Err(why)),
    };
    keep_all(bench(&["disk"]), None);
    keep_all(bench(&["submit", "--in-flight", "1"]), Some(8));
    keep_all(bench(&["end-to-end"]), None);
    let streamed = bench(&["submit", "stream"]);
    let commits = streamed.as_ref().ok().and_then(|all| all.iter().find(|(load, _)| load == "stream")?.1.syncs);
    keep_all(streamed, None);
    let at_once = commits.map_or(512.0, |commits| (1.0 / commits).clamp(1.0, 1_024.0));
    keep_all(bench(&["store", "--in-flight", &format!("{at_once:.0}")]), None);
}

/// The best of so many windows on a peer, and what it cost.
async fn windows(
    peer: &Result<Peer>,
    count: usize,
    load: impl AsyncFn(&Peer) -> Result<(usize, Window)>,
) -> Result<Window, String> {
    let peer = peer.as_ref().map_err(|why| format!("{why:#}"))?;
    let mut best = Window::default();
    for _ in 0..count {
        let gauge = Gauge::begin(peer.pid());
        let (answered, mut window) = load(peer).await.map_err(|why| format!("{why:#}"))?;
        gauge.end(answered, &mut window);
        if window.per_second > best.per_second {
            best = window;
        }
    }
    Ok(best)
}

fn keep(found: &mut [Found], place: usize, window: Result<Window, String>) {
    match (&mut found[place], window) {
        (Ok(windows), Ok(window)) => {
            println!("  {:<34} {:>10.0} per s", NAMES[place].0, window.per_second);
            windows.push(window);
        }
        (held, Err(why)) => {
            println!("  {:<34} SKIPPED: {why}", NAMES[place].0);
            *held = Err(why);
        }
        (Err(_), _) => {}
    }
}

fn tell(compare: &Compare, found: Vec<Found>, figures: &[(&'static str, f64, &'static str)]) -> Result<()> {
    let row = |((name, settings), found): (&(&str, &str), Found)| Row {
        name: (*name).to_owned(),
        settings: (*settings).to_owned(),
        found: match found {
            Ok(windows) if windows.is_empty() => Err("nothing was measured".to_owned()),
            Ok(windows) => Ok((Window::median(&windows), windows)),
            Err(why) => Err(why),
        },
    };
    let rows: Vec<Row> = NAMES.iter().zip(found).map(row).collect();
    let ratios = ratios(&rows, figures);
    let machine = machine();
    let settings = json!({
        "machine": machine, "runs": compare.runs, "seconds": compare.seconds, "size": compare.size, "queued": compare.queued,
    });
    println!("\n{machine}; medians of {} runs of {} s, {} bytes\n", compare.runs, compare.seconds, compare.size);
    let end_to_end = rows.last().and_then(|row| row.found.as_ref().ok()).map(|(window, _)| window);
    let stored = figures.iter().find(|(what, ..)| *what == gateway::STORED).map(|(_, value, _)| *value);
    let text = format!("{}\n{}", report::text(&rows, &ratios), report::nation(end_to_end, stored));
    println!("{text}");
    let skipped = rows.iter().filter(|row| row.found.is_err()).count();
    let unmeasured = ratios.iter().filter(|ratio| ratio.measured.is_none()).count();
    println!("{skipped} of {} SKIPPED, {unmeasured} of {} ratios not measured", rows.len(), ratios.len());
    std::fs::write(compare.out.join("compare.txt"), text)?;
    let all = report::json(&rows, &ratios, figures, &settings);
    std::fs::write(compare.out.join("compare.json"), serde_json::to_string_pretty(&all)?)?;
    let subtitle = format!("{machine}; median of {} runs, the line shows the least and the most", compare.runs);
    std::fs::write(compare.out.join("compare.svg"), report::svg(&rows, &subtitle))?;
    println!("written: {}/compare.{{txt,json,svg}}", compare.out.display());
    Ok(())
}

/// The ratios that matter, each within its run, and their medians.
fn ratios(rows: &[Row], figures: &[(&'static str, f64, &'static str)]) -> Vec<Ratio> {
    let runs = |place: usize| rows[place].found.as_ref().ok().map(|(_, runs)| runs.as_slice()).unwrap_or_default();
    let rate = |ours: usize, theirs: usize| {
        let each = runs(ours).iter().zip(runs(theirs)).map(|(ours, theirs)| ours.per_second / theirs.per_second);
        median(each.collect())
    };
    let beyond = runs(8).iter().zip(runs(0)).map(|(ours, disk)| (ours.p50_us - disk.p50_us) / 1e3).collect();
    let seen = |what: &str| figures.iter().find(|(name, ..)| *name == what).map(|(_, value, _)| *value);
    let more = |what, measured, required, goal| Ratio { what, measured, required, goal, more: true, unit: "" };
    let less = |what, measured, required, goal, unit| Ratio { what, measured, required, goal, more: false, unit };
    vec![
        more("stream against RabbitMQ quorum queue with confirms", rate(10, 5), 2.5, 4.0),
        more("stream against SQLite alone", rate(10, 1), 0.5, 0.8),
        more("unary, 256 at once, against the bare echo", rate(9, 3), 0.5, 0.8),
        less("p50 of unary, 1 at once, beyond one fsync", median(beyond), 1.0, 0.5, "ms"),
        more("end to end against stream", rate(11, 10), 0.25, 0.4),
        less(
            "others' p99 beside a silent partner with 10 k queued",
            seen("others' p99 beside a silent partner with 10 k queued"),
            1.2,
            1.05,
            "× before",
        ),
        less("RSS idle", seen("RSS idle"), 40.0, 25.0, "MiB"),
        less("RSS with all queued", seen("RSS with all queued"), 200.0, 120.0, "MiB"),
        less("start with all queued", seen("start with all queued"), 2_000.0, 500.0, "ms"),
        more("accept rate, all queued against young", seen("accept rate, all queued against young"), 0.9, 1.0),
    ]
}

/// Bytes that no compression makes fewer.
fn noise(size: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        // xorshift64 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..size).map(|_| next()).collect::<Vec<u8>>().into()
}

fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}
