//! Decides what rows of routing tables cost: publishing them while a stream submits, the stream meanwhile, finding the way among
//! them, memory and start. One request holds 16 MiB of tables: a million rows go in several, owner by owner.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::{Place, WINDOWS, sizes, tell_stream, windows};
use crate::calls::Calls;
use crate::city::{City, LOADS, REST, member};
use crate::curve::Bound::AtMost;
use crate::curve::{Column, Curve, column, short};
use crate::measure::{Window, median};
use crate::peers::free_port;

const COLUMNS: [Column; 16] = [
    column(PUBLISH, "ms, all rows").logarithmic().required(&[(1e5, AtMost(1_000.0)), (1e6, AtMost(8_000.0))]),
    column("longest request of it", "ms").logarithmic(),
    column("publish at rest", "ms, all rows").logarithmic(),
    column("publish at rest, processor", "µs a row"),
    column("stream meanwhile", "per s"),
    column("stream meanwhile, p99", "ms"),
    column(super::STREAM, "per s"),
    column(super::STREAM_CPU, "µs a message"),
    column(super::STREAM_P50, "ms"),
    column(super::STREAM_P99, "ms"),
    column("resolve, no gateway around", "ns"),
    column("memory at most while publishing", "MiB").logarithmic(),
    column("start", "ms").logarithmic(),
    column("start, processor", "ms").logarithmic(),
    column("memory after the start", "MiB").logarithmic(),
    column("at rest, processor", "% of a core"),
];
const PUBLISH: &str = "publish under traffic";

/// Cities whose tables they are.
const OWNERS: usize = 20;
/// Bytes of tables in one request.
const REQUEST_BYTES: usize = 14 << 20;
/// No set is published so often under traffic.
const LAST_TIME: usize = 799;
/// How long the stream submits while tables are published, and how often they are.
const TRAFFIC: Duration = Duration::from_secs(10);
const EVERY: Duration = Duration::from_secs(1);

pub fn measure(place: &Place, last: usize, pure: Option<&Path>) -> Result<Curve> {
    let title = "Cost as routing tables grow, published while a stream submits";
    let mut curve = Curve::new("routes", title, "rows of all tables", &COLUMNS);
    place.program.run(&place.folder, &["pki", "new", "--dir", "certs"])?;
    let own = ["--system", LOADS, "--ops", "li"];
    let mut city = City::found(place.program, &place.folder, "450200", &own)?;
    let nobody = format!("127.0.0.1:{}", free_port()?);
    for owner in 0..OWNERS {
        member(place.program, &place.folder, &code(owner), &nobody, &[])?;
    }
    let resolved = match pure.context("no --pure").and_then(resolved) {
        Ok(resolved) => resolved,
        Err(why) => {
            curve.skip(format!("resolve, no gateway around: {why:#}"));
            vec![]
        }
    };
    city.start()?;
    let mut etag = Calls::connect(&city, "ops/li")?.tables()?;
    for size in sizes(1_000, &[1], last as u64) {
        curve.begin(size as f64);
        etag = match published(&mut curve, &city, size, etag) {
            Ok(etag) => etag,
            Err(why) => {
                curve.skip(format!("{} rows: {why:#}", short(size as f64)));
                return Ok(curve);
            }
        };
        tell_stream(&mut curve, &windows(&city, &line(&[]), WINDOWS)?);
        let found = resolved.iter().find(|(rows, _)| *rows == size);
        found.into_iter().for_each(|(_, ns)| curve.tell("resolve, no gateway around", *ns));
        city.stop()?;
        curve.tell("start", city.start()?);
        curve.tell("start, processor", city.cpu_s() * 1e3);
        let (rss, cpu) = city.idle(REST);
        curve.tell("memory after the start", rss);
        curve.tell("at rest, processor", cpu);
        curve.write(place.out, place.machine)?;
    }
    Ok(curve)
}

/// Publishes so many rows under traffic, and once more without; the etag of the last set.
fn published(curve: &mut Curve, city: &City, size: u64, etag: String) -> Result<String> {
    city.forget_peak()?;
    let etag = under_traffic(curve, city, size, etag)?;
    curve.tell("memory at most while publishing", city.rss_peak_mib());
    let cpu = city.cpu_s();
    let (etag, times) = publish(city, etag, requests(size as usize, LAST_TIME))?;
    curve.tell("publish at rest", times.iter().sum());
    curve.tell("publish at rest, processor", (city.cpu_s() - cpu) * 1e6 / size as f64);
    Ok(etag)
}

/// One request after the other: the last etag, and the milliseconds of each.
fn publish(city: &City, mut etag: String, requests: Vec<Vec<String>>) -> Result<(String, Vec<f64>)> {
    let ops = Calls::connect(city, "ops/li")?;
    let mut times = vec![];
    for tables in requests {
        let put = ops.publish(&etag, tables)?;
        etag = put.answer;
        times.push(put.took.as_secs_f64() * 1e3);
    }
    Ok((etag, times))
}

/// Publishes again and again while a stream submits; the etag of the last set.
fn under_traffic(curve: &mut Curve, city: &City, size: u64, mut etag: String) -> Result<String> {
    let time = format!("{}s", TRAFFIC.as_secs());
    let line = line(&["--time", &time]);
    let (etag, meanwhile, all, longest) =
        std::thread::scope(|scope| -> Result<(String, Window, Vec<f64>, Vec<f64>)> {
            let stream = scope.spawn(|| city.load(&line));
            let (mut all, mut longest) = (vec![], vec![]);
            while all.is_empty() || !stream.is_finished() {
                let (requests, begun) = (requests(size as usize, all.len()), Instant::now());
                let (now, times) = publish(city, etag, requests)?;
                etag = now;
                all.push(times.iter().sum());
                longest.push(times.iter().copied().fold(0.0, f64::max));
                std::thread::sleep(EVERY.saturating_sub(begun.elapsed()));
            }
            let meanwhile = stream.join().map_err(|_| anyhow!("the stream broke off"))??;
            Ok((etag, meanwhile, all, longest))
        })?;
    curve.tell(PUBLISH, median(all).context("nothing was published")?);
    curve.tell("longest request of it", median(longest).context("nothing was published")?);
    curve.tell("stream meanwhile", meanwhile.per_second);
    curve.tell("stream meanwhile, p99", meanwhile.p99_us / 1e3);
    Ok(etag)
}

/// A stream to all owners in turn, of an item that each of their tables names.
fn line<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut line = vec!["stream", "--item", ITEM];
    for owner in CODES {
        line.extend(["--to", owner]);
    }
    line.extend(more);
    line
}

/// The item of the first row of each table.
const ITEM: &str = "1144000000MB2C000000000000000000";
const CODES: [&str; OWNERS] = [
    "110100", "120100", "130100", "140100", "150100", "210100", "220100", "230100", "310100", "320100", "330100",
    "340100", "350100", "360100", "370100", "410100", "420100", "430100", "440100", "460100",
];

fn code(owner: usize) -> String {
    CODES[owner].to_owned()
}

/// All tables of so many rows, in requests that the gateway takes. Each time they differ a little, or nothing would be published.
fn requests(rows: usize, time: usize) -> Vec<Vec<String>> {
    let mut requests: Vec<Vec<String>> = vec![];
    let mut room = 0;
    for owner in CODES {
        let table = table(owner, (rows / OWNERS).max(1), time);
        if table.len() > room {
            requests.push(vec![]);
            room = REQUEST_BYTES;
        }
        room = room.saturating_sub(table.len());
        requests.last_mut().into_iter().for_each(|request| request.push(table.clone()));
    }
    requests
}

/// Most rows name one item, as the national directory does; some a beginning, some a district.
fn table(owner: &str, rows: usize, time: usize) -> String {
    let mut text = format!("owner = \"{owner}\"\n");
    for number in 0..rows {
        let item = match number % 10 {
            0 if number > 0 => format!("{number:06}*"),
            _ => format!("1144000000MB2C{number:018}"),
        };
        let division =
            if number % 3 == 2 { format!("{}{:02}", &owner[..4], 1 + number % 12) } else { owner.to_owned() };
        text += &format!("[[route]]\ndivision = \"{division}\"\nitem = \"{item}\"\nvia = [\"direct\"]\n");
        if number + 1 == rows {
            text += &format!("valid_until = 2{:03}-12-31\n", 100 + time % (LAST_TIME + 1));
        }
    }
    text
}

/// What the bench of the pure parts says of resolving: rows, and nanoseconds.
fn resolved(pure: &Path) -> Result<Vec<(u64, f64)>> {
    let told = Command::new(pure).args(["--bench", "routing"]).output().with_context(|| pure.display().to_string())?;
    ensure!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let lines = String::from_utf8(told.stdout)?;
    Ok(lines.lines().filter_map(resolved_line).collect())
}

/// `routing: resolve, 100 k routes     988.0 ns   …`
fn resolved_line(line: &str) -> Option<(u64, f64)> {
    let mut words = line.strip_prefix("routing: resolve, ")?.split_whitespace();
    let (count, scale) = (words.next()?.parse::<u64>().ok()?, words.next()?);
    let rows = count * if scale == "M" { 1_000_000 } else { 1_000 };
    Some((rows, words.nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_asked_for_once_in_requests_that_are_taken() {
        for (rows, at_least) in [(1_000, 1), (1_000_000, 4)] {
            let requests = requests(rows, 0);
            assert!(requests.len() >= at_least, "{} requests of {rows} rows", requests.len());
            assert!(requests.iter().all(|tables| tables.iter().map(String::len).sum::<usize>() < 16 << 20));
            let all: usize = requests.iter().flatten().map(|table| table.matches("[[route]]").count()).sum();
            assert_eq!(all, rows);
        }
        assert_ne!(requests(1_000, 0), requests(1_000, 1));
    }

    #[test]
    fn the_first_row_names_the_item_of_the_stream() {
        assert!(table("110100", 1, 0).contains(ITEM));
    }

    #[test]
    fn what_the_bench_says_is_read() {
        let line = format!("{:<52} {:>14.1} ns {:>14.0} per s", "routing: resolve, 100 k routes", 988.0, 1e6);
        assert_eq!(resolved_line(&line), Some((100_000, 988.0)));
        assert_eq!(resolved_line("routing: compile 1 M routes   5 ns"), None);
    }
}
