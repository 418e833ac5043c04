//! Decides how others fare beside a partner that never answers while much waits for it: two cities and their gateways, three
//! times over, loaded in turns, so that whatever else the machine does falls on all alike. Only the pair that is loaded runs.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::super::out::table;
use super::super::{Answer, Exit, Failure, Lang, Out};
use super::gauge::Gauge;
use super::ground::{self, Ground, Partners};
use super::loads::{self, Walked};
use super::measure::{Limit, Run, Stopwatch};
use super::{Bench, Target, mould, moulds};
use crate::limits::STREAM_OPEN_MAX;

/// Rounds, in each of which every pair is loaded once.
const ROUNDS: usize = 5;
/// Messages on the way at once, unless told: enough to keep gateways at work, too few to make each other wait for long.
const USUAL_AT_ONCE: u32 = 16;
/// A dial that takes so long on the machine itself is not taken.
const NOT_TAKEN: Duration = Duration::from_millis(500);
/// Connections after which a partner that takes none has to take none.
const FILLED_BY: usize = 512;

/// Partners that never answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    /// There is none.
    None,
    /// Connections are taken, and not a word is said.
    Mute,
    /// Not even connections are taken: what is sent to it gets lost.
    Lost,
}

/// A partner that never answers. It lives as long as this.
struct Hole {
    /// Never asked for a connection.
    listener: TcpListener,
    waiting: Vec<TcpStream>,
}

/// Two cities, and what was measured between them.
struct Pair {
    silence: Silence,
    target: Target,
    ground: Ground,
    _hole: Option<Hole>,
    windows: Vec<Walked>,
}

/// Measures as the command line says.
pub fn run(args: &Bench, out: &Out) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pairs = runtime.block_on(async {
        tokio::select! {
            pairs = measured(args, out) => pairs,
            _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::No, "interrupted", "已中断")),
        }
    })?;
    out.show(&json(args, &pairs), || text(args, &pairs, out.lang))?;
    let refused = pairs.iter().flat_map(|pair| &pair.windows).any(|window| window.accepted.refused > 0);
    Ok(if refused { Exit::No } else { Exit::Done })
}

async fn measured(args: &Bench, out: &Out) -> Result<Vec<Pair>, Failure> {
    let mut pairs = vec![];
    for silence in [Silence::None, Silence::Mute, Silence::Lost] {
        out.say(silence.name(out.lang));
        let pair = Pair::build(silence, args, out).await?;
        pair.ground.rest();
        pairs.push(pair);
    }
    for round in 1..=ROUNDS {
        out.say(&out.lang.tr(format!("round {round} of {ROUNDS}"), format!("第 {round} 轮，共 {ROUNDS} 轮")));
        for pair in &mut pairs {
            pair.ground.go_on();
            let window = pair.window(args).await?;
            pair.windows.push(window);
            pair.ground.rest();
        }
    }
    Ok(pairs)
}

impl Hole {
    async fn new(silence: Silence) -> Result<Option<Hole>, Failure> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        match silence {
            Silence::None => Ok(None),
            // Room for a thousand that wait.
            Silence::Mute => {
                let listener = tokio::net::TcpListener::bind(any).await?.into_std()?;
                Ok(Some(Hole { listener, waiting: vec![] }))
            }
            Silence::Lost => {
                let mut hole = Hole { listener: TcpListener::bind(any)?, waiting: vec![] };
                hole.fill().await?;
                Ok(Some(hole))
            }
        }
    }

    /// Takes the room of those who might wait, until nobody is let in any more.
    async fn fill(&mut self) -> Result<(), Failure> {
        let address = self.listener.local_addr()?;
        for _ in 0..FILLED_BY {
            match tokio::time::timeout(NOT_TAKEN, TcpStream::connect(address)).await {
                Ok(taken) => self.waiting.push(taken?),
                Err(_) => return Ok(()),
            }
        }
        Err(Failure::new(Exit::Software, "this system takes every connection", "本系统接受一切连接"))
    }
}

impl Pair {
    /// Makes the cities, and lets as many messages as wanted wait for the partner that never answers.
    async fn build(silence: Silence, args: &Bench, out: &Out) -> Result<Pair, Failure> {
        let hole = Hole::new(silence).await?;
        let address = hole.as_ref().map(|hole| hole.listener.local_addr()).transpose()?;
        let ground = Ground::build(Partners::Two(address), out)?;
        ground.serves().await;
        let target = Target::of_partners(&ground)?;
        if hole.is_some() {
            let (me, moulds) = (target.client(&target.me)?, moulds(args, &target)?);
            let watch = Stopwatch::start(Limit::Count(args.queued));
            let queued = loads::stream(&me, &moulds, STREAM_OPEN_MAX / 2, watch).await?;
            if queued.count() < args.queued {
                let words = (format!("only {} were taken", queued.count()), format!("仅接收 {} 条", queued.count()));
                return Err(Failure::new(Exit::Software, words.0, words.1));
            }
        }
        Ok(Pair { silence, target, ground, _hole: hole, windows: vec![] })
    }

    /// The others: messages to a partner that answers. Before it is measured, it runs for a fifth of the time.
    async fn window(&self, args: &Bench) -> Result<Walked, Failure> {
        let at_once = args.in_flight.unwrap_or(USUAL_AT_ONCE) as usize;
        let walk = async |limit| {
            let (me, worker) = (self.target.client(&self.target.me)?, self.target.client(&self.target.worker)?);
            let mould = mould(args, &self.target.me, &self.target.worker)?;
            loads::end_to_end((&me, &worker), &mould, at_once, Stopwatch::start(limit)).await
        };
        if let Some(count) = args.count {
            return walk(Limit::Count(count)).await;
        }
        walk(Limit::For(Duration::from(args.time) / 5)).await?;
        walk(Limit::For(args.time.into())).await
    }

    /// The median over all rounds of what a window says.
    fn median(&self, of: impl Fn(&Walked) -> f64) -> f64 {
        median(self.windows.iter().map(of).collect())
    }

    /// The median of how many times as much it is as beside no such partner, each within its round.
    fn against(&self, other: &Pair, of: impl Fn(&Walked) -> f64) -> f64 {
        let rounds = self.windows.iter().zip(&other.windows);
        median(rounds.map(|(own, other)| of(own) / of(other)).collect())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Target {
    /// The sender's messages go to the partner that answers, or to the one that does not.
    fn of_partners(ground: &Ground) -> Result<Target, Failure> {
        Ok(Target {
            me: Target::named(ground::CITY, ground::SENDER)?,
            silent: vec![Target::named(ground::HOLE, ground::WORKER)?],
            worker: Target::named(ground::PARTNER, ground::WORKER)?,
            dir: ground.certs(),
            gateway: None,
            gauge: Gauge::default(),
        })
    }
}

impl Silence {
    fn name(self, lang: Lang) -> &'static str {
        match self {
            Silence::None => lang.tr("no such partner", "无此类伙伴"),
            Silence::Mute => lang.tr("takes connections, says nothing", "接受连接，一言不发"),
            Silence::Lost => lang.tr("takes no connections", "不接受连接"),
        }
    }

    const fn key(self) -> &'static str {
        match self {
            Silence::None => "none",
            Silence::Mute => "mute",
            Silence::Lost => "lost",
        }
    }
}

/// What is told of both: from submission until the receipt of acceptance, and until that of the handover, is there.
type Way = fn(&Walked) -> &Run;
const WAYS: [(&str, Way); 2] = [("submit", |walked| &walked.accepted), ("handed_over", |walked| &walked.handed_over)];

fn within(way: Way, of_thousand: usize) -> impl Fn(&Walked) -> f64 {
    move |walked| f64::from(way(walked).within_us(of_thousand))
}

fn json(args: &Bench, pairs: &[Pair]) -> Value {
    let of = |pair: &Pair, (name, way): (&str, Way)| {
        let told = json!({
            "p50_us": pair.median(within(way, 500)),
            "p99_us": pair.median(within(way, 990)),
            "p50_against_none": pair.against(&pairs[0], within(way, 500)),
            "p99_against_none": pair.against(&pairs[0], within(way, 990)),
            "windows": pair.windows.iter().map(|window| way(window).json()).collect::<Vec<_>>(),
        });
        (name.to_owned(), told)
    };
    let one = |pair: &Pair| {
        let ways: serde_json::Map<String, Value> = WAYS.into_iter().map(|way| of(pair, way)).collect();
        json!({ "partner": pair.silence.key(), "others": ways })
    };
    let in_flight = args.in_flight.unwrap_or(USUAL_AT_ONCE);
    json!({
        "size": args.size,
        "in_flight": in_flight,
        "queued": args.queued,
        "rounds": ROUNDS,
        "partners": pairs.iter().map(one).collect::<Vec<_>>(),
    })
}

fn text(args: &Bench, pairs: &[Pair], lang: Lang) -> String {
    let head = match lang {
        Lang::En => ["partner that never answers", "others", "p50 ms", "p99 ms", "p50 ×", "p99 ×"],
        Lang::Zh => ["从不应答的伙伴", "其他消息", "p50 毫秒", "p99 毫秒", "p50 ×", "p99 ×"],
    };
    let names = [lang.tr("accepted", "被接收"), lang.tr("handed over", "已交付")];
    let mut rows = vec![];
    for pair in pairs {
        for ((_, way), name) in WAYS.into_iter().zip(names) {
            let ms = |of_thousand| format!("{:.2}", pair.median(within(way, of_thousand)) / 1_000.0);
            let times = |of_thousand| format!("{:.2}", pair.against(&pairs[0], within(way, of_thousand)));
            let words = [pair.silence.name(lang), name].map(str::to_owned);
            rows.push(words.into_iter().chain([ms(500), ms(990), times(500), times(990)]).collect());
        }
    }
    let (queued, rounds) = (args.queued, ROUNDS);
    let note = lang.tr(
        format!(
            "{queued} messages wait for that partner; the others go to one that answers, from submission until the receipt is in \
             hand. Medians of {rounds} rounds; × is the median of what each round has against its own without such a partner."
        ),
        format!(
            "有 {queued} 条消息等待该伙伴；其他消息发往正常应答的伙伴，自提交起至收到回执。各数取 {rounds} 轮的中位数；× 为每一轮与同轮\
             无此类伙伴之比的中位数。"
        ),
    );
    format!("{}\n{note}\n", table(&head, rows))
}
