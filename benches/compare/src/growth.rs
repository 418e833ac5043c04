//! Decides what is measured while the work grows: stored messages, partners, routes, attachments; each on a gateway of its own, as
//! shipped, one after the other. Processor time stands beside every rate: it tells the curve on a machine that does other work too.

mod attachment;
mod build;
mod partners;
mod routes;
mod stored;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::city::City;
use crate::curve::Curve;
use crate::gateway::Program;
use crate::measure::{Window, median};

/// What a gateway costs as its work grows
#[derive(Args)]
pub struct Grow {
    /// What grows [default: all, in this order]
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Messages that are stored at last
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(10_000..=12_000_000))]
    stored: u64,
    /// Partners at last
    #[arg(long, default_value_t = 500)]
    partners: usize,
    /// Routes at last
    #[arg(long, default_value_t = 1_000_000)]
    routes: usize,
    /// MiB of the last attachment
    #[arg(long, default_value_t = 1_024)]
    attachment: u64,
    /// The gateway's bench of its pure parts, which resolves routes without a gateway around
    #[arg(long)]
    pure: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Messages that nobody takes
    Stored,
    /// Partners that do not answer, each with a table and a lane
    Partners,
    /// Rows of routing tables, published under traffic
    Routes,
    /// An attachment from upload to download, through two gateways
    Attachment,
    /// Nothing: how large the program is, of how many packages, how long it takes to build
    Build,
}

/// Where everything lies.
struct Place<'a> {
    program: &'a Program,
    /// For gateways, and gone afterwards.
    folder: PathBuf,
    /// For results.
    out: &'a Path,
    machine: &'a str,
}

/// Measures as the command line says, below `all`.
pub fn run(grow: &Grow, program: &Program, all: &Path, out: &Path, machine: &str) -> Result<()> {
    println!("{machine}");
    let parts = if grow.parts.is_empty() { Part::value_variants() } else { &grow.parts };
    let mut told = vec![];
    for part in parts {
        let folder = all.join(format!("{part:?}").to_lowercase());
        std::fs::create_dir_all(&folder)?;
        let place = Place { program, folder, out, machine };
        let curve = match part {
            Part::Stored => stored::measure(&place, grow.stored),
            Part::Partners => partners::measure(&place, grow.partners),
            Part::Routes => routes::measure(&place, grow.routes, grow.pure.as_deref()),
            Part::Attachment => attachment::measure(&place, grow.attachment),
            Part::Build => build::measure(&place),
        }?;
        curve.write(out, machine)?;
        std::fs::remove_dir_all(&place.folder)?;
        told.push(curve);
    }
    told.iter().for_each(|curve| println!("\n{}", curve.text()));
    let files = told.iter().map(|curve| format!("{}/growth-{}.{{txt,json,svg}}", out.display(), curve.name));
    println!("written: {}", files.collect::<Vec<_>>().join(", "));
    Ok(())
}

/// Messages in each window, and windows of which the medians count.
const WINDOW: u64 = 10_000;
const WINDOWS: u64 = 5;

/// So many windows of one load.
fn windows(city: &City, line: &[&str], count: u64) -> Result<Window> {
    let count_of_each = WINDOW.to_string();
    let line = [line, &["--count", &count_of_each]].concat();
    let all = (0..count.max(1)).map(|_| city.load(&line)).collect::<Result<Vec<_>>>()?;
    Ok(Window::median(&all))
}

/// The sizes at which is measured: 1, 3, 10, 30 … of `first`, or every tenth only, and the last.
fn sizes(first: u64, steps: &[u64], last: u64) -> Vec<u64> {
    let scales = std::iter::successors(Some(first), |scale| scale.checked_mul(10));
    let all = scales.take_while(|scale| *scale <= last).flat_map(|scale| steps.iter().map(move |step| step * scale));
    let mut all: Vec<u64> = all.filter(|size| *size < last).collect();
    all.push(last);
    all
}

/// The median of so many times, in milliseconds, and the processor time of the gateway for each, in microseconds.
fn each(city: &City, count: usize, mut call: impl FnMut(usize) -> Result<Duration>) -> Result<(f64, f64)> {
    let cpu = city.cpu_s();
    let times = (0..count).map(|at| Ok(call(at)?.as_secs_f64() * 1e3)).collect::<Result<Vec<_>>>()?;
    let cpu_us = (city.cpu_s() - cpu) * 1e6 / count as f64;
    Ok((median(times).context("no call")?, cpu_us))
}

/// What a stream of submissions came to, under the names that all curves have for it.
fn tell_stream(curve: &mut Curve, window: &Window) {
    curve.tell(STREAM, window.per_second);
    window.cpu_us.into_iter().for_each(|cpu_us| curve.tell(STREAM_CPU, cpu_us));
    curve.tell(STREAM_P50, window.p50_us / 1e3);
    curve.tell(STREAM_P99, window.p99_us / 1e3);
}

const STREAM: &str = "stream";
const STREAM_CPU: &str = "stream, processor";
const STREAM_P50: &str = "stream, p50";
const STREAM_P99: &str = "stream, p99";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_end_with_the_last() {
        assert_eq!(sizes(10_000, &[1, 3], 1_000_000), [10_000, 30_000, 100_000, 300_000, 1_000_000]);
        assert_eq!(sizes(10_000, &[1, 3], 200_000), [10_000, 30_000, 100_000, 200_000]);
        assert_eq!(sizes(1, &[1], 500), [1, 10, 100, 500]);
        assert_eq!(sizes(1_000, &[1], 100), [100]);
    }
}
