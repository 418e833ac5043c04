//! Decides what `tongban bench` does: loads a running gateway as systems and partners do, or one of its own making, and tells
//! how fast, how late and at what cost. Never judges: what a gateway should reach stands in `docs/performance.md`.

mod alone;
mod beside;
mod gauge;
mod ground;
mod loads;
mod measure;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use self::gauge::{Cost, Gauge};
use self::ground::{Ground, Partners};
use self::measure::{Limit, Run, Stopwatch};
use super::client::{As, Client, Mould, address, noise};
use super::out::table;
use super::send::draft::{Content, Draft, check, new_id};
use super::span::Span;
use super::{Answer, Exit, Failure, Lang, Out};
use crate::chance;
use crate::directory::Endpoint;
use crate::limits::{COMMIT_ENTRIES_MAX, INLINE_BYTES_MAX, STREAM_OPEN_MAX, WAITERS_PER_IDENTITY_MAX};
use crate::message::{Address, ItemCode};

/// Load a gateway and show how fast it answers
///
/// With --self a city is made in a temporary folder and its gateway started for the time of the measurement; everything is
/// as shipped: certificates, durable before the answer, receipts. Otherwise a running gateway is loaded as one of its city's
/// systems, with messages of an item of their own (BENCH-1). The recipient must be a system that is there for this: receive, request
/// and end-to-end speak as that system too, and take everything that is in its mailbox.
#[derive(Args)]
pub struct Bench {
    /// What to load with; more than one are measured one after the other [default: submit, stream, end-to-end]
    #[arg(value_enum)]
    loads: Vec<Load>,
    /// Measure a gateway that is made and started for this alone
    #[arg(long = "self", conflicts_with_all = ["me", "to", "dir", "gateway", "pid", "metrics"])]
    itself: bool,
    /// Measure how others fare beside a partner that never answers: one that takes connections and says nothing, and one that
    /// takes none, in turns with two cities that have no such partner
    #[arg(long, requires = "itself", conflicts_with = "loads")]
    silent_partner: bool,
    /// Messages that wait for that partner
    #[arg(long, value_name = "N", default_value_t = 10_000, requires = "silent_partner", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    queued: u64,
    /// Who sends: a city and one of its systems
    #[arg(long = "as", value_name = "CITY/SYSTEM", value_parser = address, required_unless_present = "itself", requires = "to")]
    me: Option<Address>,
    /// Who receives: a city, or one of its systems; given more than once, submit and stream send to each in turn
    #[arg(long, value_name = "CITY[/SYSTEM]", value_parser = address)]
    to: Vec<Address>,
    /// The development alliance, which holds keys and certificates
    #[arg(long, default_value = "certs/dev")]
    dir: PathBuf,
    /// Where the gateway is dialled [default: the first address of its member record]
    #[arg(long, value_name = "HOST:PORT")]
    gateway: Option<Endpoint>,
    /// The gateway's process on this machine, to read what it costs
    #[arg(long)]
    pid: Option<u32>,
    /// Where the gateway shows its figures, to read its commits
    #[arg(long, value_name = "HOST:PORT")]
    metrics: Option<SocketAddr>,
    /// Service item of the messages
    #[arg(long, value_name = "CODE", default_value = "BENCH-1")]
    item: ItemCode,
    /// Bytes of each message's content
    #[arg(long, value_name = "BYTES", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(..=INLINE_BYTES_MAX as i64))]
    size: u32,
    /// Messages under way at once [default: 256 calls, 1024 on a stream, 64 requests, 16 beside a silent partner]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    in_flight: Option<u32>,
    /// How long each load lasts; before it, it runs unmeasured for a fifth of that
    #[arg(long, value_name = "SPAN", default_value = "5s")]
    time: Span,
    /// Measure so many messages instead, without running before
    #[arg(long, value_name = "N", conflicts_with = "time", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    count: Option<u64>,
}

/// Ways to load a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Load {
    /// One call for each message, until its receipt is in hand
    Submit,
    /// Many messages over one stream, until each one's receipt is in hand
    Stream,
    /// Taking what waits in the mailbox, from delivery until the outcome is durable
    Receive,
    /// A call that waits for the reply, which the recipient gives at once
    Request,
    /// From submission until the sender has the receipt of the handover; it must be a system that gets receipts delivered
    EndToEnd,
    /// No gateway: appending to a file of the temporary folder, a sync for each
    Disk,
    /// No gateway: its store alone, with the rows of as many messages in each commit
    Store,
}

/// What is loaded, and by whom.
struct Target {
    me: Address,
    /// Of messages that nobody takes, in turn.
    silent: Vec<Address>,
    /// Of messages that somebody takes.
    worker: Address,
    dir: PathBuf,
    gateway: Option<Endpoint>,
    gauge: Gauge,
}

/// One load and what it came to.
struct Measured {
    load: Load,
    at_once: usize,
    run: Run,
    /// What it cost the gateway, where there is one.
    cost: Option<Cost>,
}

/// Measures as the command line says.
pub fn run(args: &Bench, out: &Out) -> Answer {
    if args.silent_partner {
        return beside::run(args, out);
    }
    let ground = if args.itself { Some(Ground::build(Partners::None, out)?) } else { None };
    let target = Target::of(args, ground.as_ref())?;
    // One thread, as lean as a load can be: what it takes, the gateway cannot have.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let measured = runtime.block_on(async {
        tokio::select! {
            measured = measure_all(args, &target, out) => measured,
            _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::No, "interrupted", "已中断")),
        }
    });
    drop((runtime, ground));
    let measured = measured?;
    out.show(&json(args, &measured), || text(&measured, out.lang))?;
    Ok(if measured.iter().all(|measured| measured.run.refused == 0) { Exit::Done } else { Exit::No })
}

impl Target {
    fn of(args: &Bench, ground: Option<&Ground>) -> Result<Target, Failure> {
        let Some(ground) = ground else {
            let absent =
                || Failure::new(Exit::Usage, "name --as and --to, or --self", "请指明 --as 与 --to，或 --self");
            let (me, worker) = args.me.clone().zip(args.to.first().cloned()).ok_or_else(absent)?;
            let gauge = Gauge { pid: args.pid, metrics: args.metrics };
            let (dir, gateway) = (args.dir.clone(), args.gateway.clone());
            return Ok(Target { me, silent: args.to.clone(), worker, dir, gateway, gauge });
        };
        Ok(Target {
            me: Target::named(ground::CITY, ground::SENDER)?,
            silent: vec![Target::named(ground::CITY, ground::SILENT)?],
            worker: Target::named(ground::CITY, ground::WORKER)?,
            dir: ground.certs(),
            gateway: ground.gateway().parse().ok(),
            gauge: ground.gauge(),
        })
    }

    fn named(city: &str, system: &str) -> Result<Address, Failure> {
        address(&format!("{city}/{system}")).map_err(|why| Failure::new(Exit::Software, &why, why.zh.clone()))
    }

    /// A connection of its own for one of the two.
    fn client(&self, who: &Address) -> Result<Client, Failure> {
        let nobody = || Failure::new(Exit::Usage, format!("{who} is no system"), format!("{who} 不是系统"));
        let who = As::of(who, &self.dir).ok_or_else(nobody)?;
        let who = match &self.gateway {
            Some(gateway) => who.at(gateway.clone()),
            None => who,
        };
        Ok(Client::new(who.reach()?))
    }
}

async fn measure_all(args: &Bench, target: &Target, out: &Out) -> Result<Vec<Measured>, Failure> {
    let usual = [Load::Submit, Load::Stream, Load::EndToEnd];
    let loads = if args.loads.is_empty() { &usual[..] } else { &args.loads };
    let mut measured = Vec::with_capacity(loads.len());
    target.gauge.awaited().await;
    for load in loads {
        out.say(&out.lang.tr(format!("measuring {}", load.name()), format!("正在测量 {}", load.name())));
        measured.push(measure(*load, args, target).await?);
    }
    Ok(measured)
}

async fn measure(load: Load, args: &Bench, target: &Target) -> Result<Measured, Failure> {
    let at_once = args.in_flight.map_or(load.usual_at_once(), |at_once| at_once as usize).min(load.at_once_max());
    let limit = args.count.map_or(Limit::For(args.time.into()), Limit::Count);
    if matches!(load, Load::Disk | Load::Store) {
        let run = run_once(load, args, target, at_once, limit).await?;
        return Ok(Measured { load, at_once, run, cost: None });
    }
    if matches!(load, Load::Request | Load::EndToEnd) {
        // What lies in the mailboxes would have to be taken first, within the measured time.
        for who in [&target.me, &target.worker] {
            loads::receive(&target.client(who)?, Stopwatch::start(limit)).await?;
        }
    }
    if args.count.is_none() && load != Load::Receive {
        run_once(load, args, target, at_once, Limit::For(Duration::from(args.time) / 5)).await?;
    }
    if load == Load::Receive {
        let (me, mould) = (target.client(&target.me)?, mould(args, &target.me, &target.worker)?);
        let count = Limit::Count(args.count.unwrap_or(TO_RECEIVE));
        loads::stream(&me, &[mould], STREAM_OPEN_MAX / 2, Stopwatch::start(count)).await?;
    }
    let before = target.gauge.read().await;
    let run = run_once(load, args, target, at_once, limit).await?;
    let cost = target.gauge.read().await.since(&before, run.count(), run.seconds);
    Ok(Measured { load, at_once, run, cost: Some(cost) })
}

/// Messages that are put into a mailbox to be taken from it.
const TO_RECEIVE: u64 = 20_000;

async fn run_once(load: Load, args: &Bench, target: &Target, at_once: usize, limit: Limit) -> Result<Run, Failure> {
    let me = target.client(&target.me)?;
    match load {
        Load::Disk => alone::disk(args.size as usize, limit),
        Load::Store => alone::store(args.size as usize, at_once, limit),
        Load::Submit => {
            let moulds = moulds(args, target)?;
            let connections = at_once.div_ceil(loads::CALLS_PER_CONNECTION);
            let clients = (0..connections).map(|_| target.client(&target.me)).collect::<Result<Vec<_>, _>>()?;
            loads::submit(&clients, &moulds, at_once, Stopwatch::start(limit)).await
        }
        Load::Stream => {
            let moulds = moulds(args, target)?;
            loads::stream(&me, &moulds, at_once, Stopwatch::start(limit)).await
        }
        Load::Receive => loads::receive(&target.client(&target.worker)?, Stopwatch::start(limit)).await,
        Load::Request => {
            let worker = target.client(&target.worker)?;
            let moulds = (mould(args, &target.me, &target.worker)?, mould(args, &target.worker, &target.me)?);
            loads::request((&me, &worker), (&moulds.0, &moulds.1), at_once, Stopwatch::start(limit)).await
        }
        Load::EndToEnd => {
            let (worker, mould) = (target.client(&target.worker)?, mould(args, &target.me, &target.worker)?);
            Ok(loads::end_to_end((&me, &worker), &mould, at_once, Stopwatch::start(limit)).await?.handed_over)
        }
    }
}

/// A mould for each of those who take nothing.
fn moulds(args: &Bench, target: &Target) -> Result<Vec<Mould>, Failure> {
    target.silent.iter().map(|to| mould(args, &target.me, to)).collect()
}

/// The message that all others are like.
fn mould(args: &Bench, from: &Address, to: &Address) -> Result<Mould, Failure> {
    let chance = chance::bytes().map_err(std::io::Error::other)?;
    let content = Content::new("load.bin", "application/octet-stream", noise(chance, args.size as usize));
    let content = content.map_err(|why| Failure::new(Exit::Software, why, "内容不合规定"))?;
    let draft = Draft {
        to: Some(to.clone()),
        jurisdiction: None,
        item_code: args.item.clone(),
        case_no: None,
        step: None,
        mode: None,
        in_reply_to: None,
        contents: vec![content],
        attachments: vec![],
        attributes: std::collections::BTreeMap::new(),
        expires_in_ms: None,
        traceparent: None,
    };
    let envelope = draft.envelope(from, new_id()?)?;
    check(&envelope)?;
    Ok(Mould::new(envelope))
}

impl Load {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn usual_at_once(self) -> usize {
        match self {
            Load::Disk => 1,
            Load::Submit => 256,
            Load::Store => COMMIT_ENTRIES_MAX / 2,
            Load::Stream | Load::EndToEnd | Load::Receive => STREAM_OPEN_MAX,
            Load::Request => WAITERS_PER_IDENTITY_MAX,
        }
    }

    /// What a gateway takes.
    fn at_once_max(self) -> usize {
        match self {
            Load::Disk => 1,
            Load::Submit | Load::EndToEnd => usize::MAX,
            Load::Store => COMMIT_ENTRIES_MAX,
            Load::Stream | Load::Receive => STREAM_OPEN_MAX,
            Load::Request => WAITERS_PER_IDENTITY_MAX,
        }
    }
}

fn json(args: &Bench, measured: &[Measured]) -> Value {
    let one = |measured: &Measured| {
        json!({
            "load": measured.load.name(),
            "in_flight": measured.at_once,
            "run": measured.run.json(),
            "gateway": measured.cost.as_ref().map(Cost::json),
        })
    };
    json!({ "size": args.size, "loads": measured.iter().map(one).collect::<Vec<_>>() })
}

fn text(measured: &[Measured], lang: Lang) -> String {
    let head = match lang {
        Lang::En => [
            "load",
            "at once",
            "per second",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "max ms",
            "CPU µs",
            "RSS MiB",
            "B written",
            "commits",
        ],
        Lang::Zh => [
            "负载",
            "并发",
            "每秒",
            "p50 毫秒",
            "p99 毫秒",
            "p99.9 毫秒",
            "最大 毫秒",
            "CPU 微秒",
            "内存 MiB",
            "写盘字节",
            "提交",
        ],
    };
    let rows = table(&head, measured.iter().map(row));
    let note = lang.tr(
        "CPU, bytes written and commits are the gateway's, for each message; a commit is one sync of the write-ahead log.",
        "CPU、写盘字节与提交均为网关每条消息的开销；一次提交即预写日志的一次落盘。",
    );
    let histograms: Vec<String> = measured.iter().map(|measured| histogram(measured, lang)).collect();
    format!("{rows}\n{note}\n\n{}", histograms.join("\n"))
}

fn row(measured: &Measured) -> Vec<String> {
    let Measured { load, at_once, run, cost } = measured;
    let ms = |of_thousand| format!("{:.2}", f64::from(run.within_us(of_thousand)) / 1_000.0);
    let known = |value: Option<f64>, digits| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"));
    let cost = |part: fn(&Cost) -> Option<f64>| cost.as_ref().and_then(part);
    let mib = |cost: &Cost| cost.rss_bytes.map(|bytes| bytes as f64 / f64::from(1 << 20));
    vec![
        load.name(),
        at_once.to_string(),
        format!("{:.0}", run.per_second()),
        ms(500),
        ms(990),
        ms(999),
        ms(1_000),
        known(cost(|cost| cost.cpu_us), 1),
        known(cost(mib), 1),
        known(cost(|cost| cost.written_bytes), 0),
        known(cost(|cost| cost.commits), 4),
    ]
}

/// How the latencies are spread: a bar for each doubling.
fn histogram(measured: &Measured, lang: Lang) -> String {
    let total = measured.run.count().max(1) as f64;
    let mut lines = vec![format!("{} {}", lang.tr("latency of", "延迟分布："), measured.load.name())];
    for (below_us, count) in measured.run.doublings() {
        let share = count as f64 / total;
        let bar = "█".repeat((share * 50.0).round() as usize);
        lines.push(format!("  < {:>9.2} ms {:>6.2} % {bar}", below_us as f64 / 1_000.0, share * 100.0));
    }
    if measured.run.refused > 0 {
        lines.push(
            lang.tr(format!("  {} were refused", measured.run.refused), format!("  {} 条被拒绝", measured.run.refused)),
        );
    }
    lines.join("\n") + "\n"
}
