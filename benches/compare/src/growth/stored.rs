//! Decides what is looked at while a store fills with messages that nobody takes: what one more costs, what it costs to read, what
//! lies in memory and on disk, and how long a start takes. One filling gives the whole curve.

use anyhow::{Context, Result};

use super::{Place, WINDOW, WINDOWS, each, sizes, tell_stream, windows};
use crate::calls::{Calls, Summary};
use crate::city::{City, LOADS, REST};
use crate::curve::Bound::{AtMost, ShareOfFirst};
use crate::curve::{Column, Curve, column, short};

const COLUMNS: [Column; 22] = [
    column(super::STREAM, "per s").required(&[(10e6, ShareOfFirst(0.9))]),
    column(super::STREAM_CPU, "µs a message"),
    column(super::STREAM_P50, "ms"),
    column(super::STREAM_P99, "ms"),
    column("written", "bytes a message"),
    column("filling up to here, processor", "µs a message"),
    column("unary calls", "per s"),
    column("unary calls, processor", "µs a message"),
    column("receipts of an old message", "ms"),
    column("receipts, processor", "µs a call"),
    column("newest page of 100", "ms"),
    column("newest page, processor", "µs a call"),
    column("page that finds nothing", "ms"),
    column("consistency proof", "ms"),
    column("consistency proof, processor", "µs a call"),
    column("all checks", "ms"),
    column("memory, all queued", "MiB").required(&[(1e6, AtMost(200.0))]),
    column("database", "bytes a message"),
    column("start", "ms").required(&[(1e6, AtMost(2_000.0))]),
    column("start, processor", "ms"),
    column("memory after the start", "MiB"),
    column("at rest, processor", "% of a core"),
];

/// Mailboxes, and messages after which the next one is filled: below what one lane takes.
const BOXES: u64 = 8;
const BOX: u64 = 1_500_000;
/// Messages between two signs of life.
const PIECE: u64 = 250_000;
/// Unary calls that are measured, and calls of each kind that read.
const CALLS: u64 = 5_000;
const READS: usize = 200;
const SLOW_READS: usize = 5;

pub fn measure(place: &Place, last: u64) -> Result<Curve> {
    let mut curve = Curve::new("stored", "Cost as messages are stored that nobody takes", "messages stored", &COLUMNS);
    place.program.run(&place.folder, &["pki", "new", "--dir", "certs"])?;
    let boxes: Vec<String> = (0..BOXES).map(|at| format!("box{at}")).collect();
    let mut more: Vec<&str> = boxes.iter().flat_map(|name| ["--system", name.as_str()]).collect();
    more.extend(["--system", LOADS, "--ops", "li"]);
    let mut store = Store { city: City::found(place.program, &place.folder, "450200", &more)?, stored: 0, old: vec![] };
    let start = store.city.start()?;
    curve.fact("start with an empty store, schema made", start, "ms");
    let (rss, cpu) = store.city.idle(REST);
    curve.fact("memory at rest, empty store", rss, "MiB");
    curve.fact("processor at rest, empty store", cpu, "% of one core");
    let sizes = sizes(10_000, &[1, 3], last);
    for (at, size) in sizes.iter().enumerate() {
        let room = sizes.get(at + 1).map_or(u64::MAX, |next| next.saturating_sub(size + CALLS));
        let filled = store.fill(*size)?;
        curve.begin(*size as f64);
        filled.into_iter().for_each(|cpu_us| curve.tell("filling up to here, processor", cpu_us));
        store.write(&mut curve, (room / WINDOW).min(WINDOWS))?;
        store.read(&mut curve)?;
        store.start_again(&mut curve)?;
        curve.write(place.out, place.machine)?;
    }
    Ok(curve)
}

struct Store<'a> {
    city: City<'a>,
    stored: u64,
    /// Ids that were stored among the first.
    old: Vec<Summary>,
}

impl Store<'_> {
    /// Where the next messages go.
    fn mailbox(&self) -> String {
        format!("450200/box{}", (self.stored / BOX).min(BOXES - 1))
    }

    /// Fills up to this size: the gateway's microseconds for each message on the way.
    fn fill(&mut self, size: u64) -> Result<Option<f64>> {
        let (from, cpu) = (self.stored, self.city.cpu_s());
        while self.stored < size {
            let count = PIECE.min(size - self.stored).min(BOX - self.stored % BOX);
            let (to, count_text) = (self.mailbox(), count.to_string());
            let window = self.city.load(&["stream", "--to", &to, "--count", &count_text])?;
            self.stored += count;
            if size - from > PIECE {
                println!("  … {} stored, {:.0} per s", short(self.stored as f64), window.per_second);
            }
        }
        let filled = self.stored - from;
        Ok((filled > 0).then(|| (self.city.cpu_s() - cpu) * 1e6 / filled as f64))
    }

    /// What one more costs.
    fn write(&mut self, curve: &mut Curve, count: u64) -> Result<()> {
        let to = self.mailbox();
        let window = windows(&self.city, &["stream", "--to", &to], count)?;
        tell_stream(curve, &window);
        window.written_bytes.into_iter().for_each(|bytes| curve.tell("written", bytes));
        let window = self.city.load(&["submit", "--to", &to, "--count", &CALLS.to_string()])?;
        curve.tell("unary calls", window.per_second);
        window.cpu_us.into_iter().for_each(|cpu_us| curve.tell("unary calls, processor", cpu_us));
        self.stored += count.max(1) * WINDOW + CALLS;
        curve.tell("memory, all queued", self.city.rss_mib());
        Ok(())
    }

    /// What it costs to read.
    fn read(&mut self, curve: &mut Curve) -> Result<()> {
        let calls = Calls::connect(&self.city, &format!("systems/{LOADS}"))?;
        let newest = calls.list("", 1)?.answer;
        if self.old.is_empty() {
            self.old = calls.list("", READS as u32)?.answer;
        }
        let id = |at: usize| self.old[at % self.old.len()].id.as_str();
        let (ms, cpu_us) = each(&self.city, READS, |at| Ok(calls.evidence(id(at))?.took))?;
        curve.tell("receipts of an old message", ms);
        curve.tell("receipts, processor", cpu_us);
        let (ms, cpu_us) = each(&self.city, READS, |_| Ok(calls.list("", 100)?.took))?;
        curve.tell("newest page of 100", ms);
        curve.tell("newest page, processor", cpu_us);
        // Nothing went there: the gateway looks at as many messages as it does for one page.
        let (ms, _) = each(&self.city, SLOW_READS, |_| Ok(calls.list("440600", 100)?.took))?;
        curve.tell("page that finds nothing", ms);
        let size = calls.evidence(&newest.first().context("no message is listed")?.id)?.answer;
        let old = |at: usize| (size * (1 + at as u64) / (READS as u64 + 1)).max(1);
        let (ms, cpu_us) = each(&self.city, READS, |at| Ok(calls.consistency(old(at), size)?.took))?;
        curve.tell("consistency proof", ms);
        curve.tell("consistency proof, processor", cpu_us);
        let calls = Calls::connect(&self.city, "ops/li")?;
        let (ms, _) = each(&self.city, SLOW_READS, |_| Ok(calls.checks()?.took))?;
        curve.tell("all checks", ms);
        Ok(())
    }

    fn start_again(&mut self, curve: &mut Curve) -> Result<()> {
        self.city.stop()?;
        // The write-ahead log is copied now.
        curve.tell("database", self.city.database_bytes()? / self.stored as f64);
        curve.tell("start", self.city.start()?);
        curve.tell("start, processor", self.city.cpu_s() * 1e3);
        let (rss, cpu) = self.city.idle(REST);
        curve.tell("memory after the start", rss);
        curve.tell("at rest, processor", cpu);
        Ok(())
    }
}
