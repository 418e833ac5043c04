//! Decides what partners cost that do not answer: each has a table of routes, a lane and messages that wait in it. Half of them take
//! connections and never say a word, half cannot be dialled.

use std::time::Duration;

use anyhow::Result;

use super::{Place, WINDOWS, sizes, tell_stream, windows};
use crate::calls::Calls;
use crate::city::{City, LOADS, member};
use crate::curve::{Column, Curve, column};
use crate::gateway::silent;
use crate::peers::free_port;

const COLUMNS: [Column; 11] = [
    column(super::STREAM, "per s"),
    column(super::STREAM_CPU, "µs a message"),
    column(super::STREAM_P50, "ms"),
    column(super::STREAM_P99, "ms"),
    column("to an own system, processor", "µs a message"),
    column("to an own system, p99", "ms"),
    column("start", "ms"),
    column("memory at rest", "MiB"),
    column("at rest, nothing waits, processor", "% of a core"),
    column("memory, 50 k wait", "MiB"),
    column("at rest, 50 k wait, processor", "% of a core"),
];

/// How long a gateway at rest is watched: partners are examined every thirty seconds.
const ROUND: Duration = Duration::from_secs(30);
/// Rows of each partner's table, before the one that all messages take.
const ROWS: usize = 10;

pub fn measure(place: &Place, last: usize) -> Result<Curve> {
    let title = "Cost as partners join, none of which answers";
    let mut curve = Curve::new("partners", title, "partners", &COLUMNS);
    place.program.run(&place.folder, &["pki", "new", "--dir", "certs"])?;
    let own = ["--system", LOADS, "--system", "archive", "--ops", "li"];
    let mut city = City::found(place.program, &place.folder, "450200", &own)?;
    let (mute, nobody) = (silent()?, free_port()?);
    let mut partners: Vec<String> = vec![];
    for size in sizes(1, &[1], last as u64) {
        println!("  … the directory grows to {size} partners");
        while partners.len() < size as usize {
            let port = if partners.len() % 2 == 0 { nobody } else { mute };
            let code = code(partners.len());
            member(place.program, &place.folder, &code, &format!("127.0.0.1:{port}"), &[])?;
            partners.push(code);
        }
        city.anew(&format!("with-{size}"))?;
        curve.begin(size as f64);
        curve.tell("start", city.start()?);
        let ops = Calls::connect(&city, "ops/li")?;
        let etag = ops.tables()?;
        ops.publish(&etag, partners.iter().map(|code| table(code)).collect())?;
        at_size(&mut curve, &city, &partners)?;
        city.stop()?;
        curve.write(place.out, place.machine)?;
    }
    Ok(curve)
}

fn at_size(curve: &mut Curve, city: &City, partners: &[String]) -> Result<()> {
    let (rss, cpu) = city.idle(ROUND);
    curve.tell("memory at rest", rss);
    curve.tell("at rest, nothing waits, processor", cpu);
    let to = partners.iter().flat_map(|code| ["--to", code.as_str()]);
    let line: Vec<&str> = std::iter::once("stream").chain(to).collect();
    tell_stream(curve, &windows(city, &line, WINDOWS)?);
    let beside = windows(city, &["stream", "--to", "450200/archive"], WINDOWS)?;
    beside.cpu_us.into_iter().for_each(|cpu_us| curve.tell("to an own system, processor", cpu_us));
    curve.tell("to an own system, p99", beside.p99_us / 1e3);
    let (rss, cpu) = city.idle(ROUND);
    curve.tell("memory, 50 k wait", rss);
    curve.tell("at rest, 50 k wait, processor", cpu);
    Ok(())
}

/// Cities of provinces 11 to 35, none of them the own.
fn code(at: usize) -> String {
    format!("{:02}{:02}00", 11 + at / 40, 1 + at % 40)
}

fn table(code: &str) -> String {
    let row = |item: &str| format!("[[route]]\ndivision = \"{code}\"\nitem = \"{item}\"\nvia = [\"direct\"]\n");
    let rows: String = (0..ROWS).map(|number| row(&format!("1144{code}{number:03}"))).collect();
    format!("owner = \"{code}\"\n{rows}{}", row("*"))
}
