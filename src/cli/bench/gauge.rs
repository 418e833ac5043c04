//! Decides what a load costs the gateway: processor time, memory, bytes and commits, read from outside. What cannot be read is
//! left out, never guessed.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where a gateway can be read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gauge {
    /// Its process on this machine.
    pub pid: Option<u32>,
    /// Where it shows its figures.
    pub metrics: Option<SocketAddr>,
}

/// What was read at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading {
    cpu_s: Option<f64>,
    rss_bytes: Option<u64>,
    rss_most_bytes: Option<u64>,
    /// Bytes that the process caused to be written to the disk.
    written_bytes: Option<u64>,
    commits: Option<f64>,
}

/// What changed between two readings, for each of so many messages.
pub struct Cost {
    pub cpu_us: Option<f64>,
    /// Of one processor.
    pub cpu_share: Option<f64>,
    pub rss_bytes: Option<u64>,
    pub rss_most_bytes: Option<u64>,
    pub written_bytes: Option<f64>,
    /// One sync of the write-ahead log each.
    pub commits: Option<f64>,
}

/// Clock ticks per second of `/proc` (`USER_HZ`), the same on every Linux that we serve.
const TICKS_PER_S: f64 = 100.0;
/// How long a gateway may take to show its figures, one that was just started until it shows any, and how often that is tried.
const SHOW: Duration = Duration::from_secs(5);
const START: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Gauge {
    /// Waits until the gateway shows its figures, if it is to show any: one that was only just started does not yet.
    pub async fn awaited(&self) {
        let Some(address) = self.metrics else { return };
        let shown = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        // One that never shows any is measured without.
        let _ = tokio::time::timeout(START, shown).await;
    }

    /// Reads what can be read now.
    pub async fn read(&self) -> Reading {
        let of_process = |file: &str| {
            let pid = self.pid?.to_string();
            std::fs::read_to_string(Path::new("/proc").join(pid).join(file)).ok()
        };
        let (stat, status, io) = (of_process("stat"), of_process("status"), of_process("io"));
        let kib = |name: &str| number_after(status.as_deref()?, name).map(|kib| kib as u64 * 1_024);
        Reading {
            cpu_s: stat.as_deref().and_then(cpu_s),
            rss_bytes: kib("VmRSS:"),
            rss_most_bytes: kib("VmHWM:"),
            written_bytes: io.and_then(|io| number_after(&io, "write_bytes:")).map(|bytes| bytes as u64),
            commits: match self.metrics {
                Some(address) => commits(address).await,
                None => None,
            },
        }
    }
}

impl Reading {
    /// What it cost to come here from an earlier reading.
    pub fn since(&self, earlier: &Reading, messages: u64, seconds: f64) -> Cost {
        let each = |now: Option<f64>, then: Option<f64>| Some((now? - then?) / messages.max(1) as f64);
        let written = |reading: &Reading| reading.written_bytes.map(|bytes| bytes as f64);
        let cpu_s = self.cpu_s.zip(earlier.cpu_s).map(|(now, then)| now - then);
        Cost {
            cpu_us: each(self.cpu_s, earlier.cpu_s).map(|seconds| seconds * 1e6),
            cpu_share: cpu_s.map(|cpu_s| cpu_s / seconds),
            rss_bytes: self.rss_bytes,
            rss_most_bytes: self.rss_most_bytes,
            written_bytes: each(written(self), written(earlier)),
            commits: each(self.commits, earlier.commits),
        }
    }
}

impl Cost {
    pub fn json(&self) -> Value {
        json!({
            "cpu_us_per_message": self.cpu_us,
            "cpu_share": self.cpu_share,
            "rss_bytes": self.rss_bytes,
            "rss_most_bytes": self.rss_most_bytes,
            "written_bytes_per_message": self.written_bytes,
            "commits_per_message": self.commits,
        })
    }
}

/// User and system time of `/proc/PID/stat`: the 14th and 15th field, the second of which may itself hold spaces.
fn cpu_s(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11).map(|field| field.parse::<f64>().ok());
    Some((fields.next()?? + fields.next()??) / TICKS_PER_S)
}

/// The number that follows a word at the beginning of a line.
fn number_after(text: &str, word: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(word))?;
    rest.split_whitespace().next()?.parse().ok()
}

async fn commits(address: SocketAddr) -> Option<f64> {
    let page = async {
        let mut monitor = TcpStream::connect(address).await?;
        monitor.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut page = String::new();
        monitor.read_to_string(&mut page).await.map(|_| page)
    };
    number_after(&tokio::time::timeout(SHOW, page).await.ok()?.ok()?, "tongban_ledger_commit_entries_count")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_process_with_a_strange_name_is_read() {
        let stat = "7 (a) b c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 123 456";
        assert_eq!(cpu_s(stat), Some(3.0));
        assert_eq!(cpu_s("nonsense"), None);
    }

    #[test]
    fn a_cost_is_told_per_message_and_what_was_not_read_is_left_out() {
        let then = Reading { cpu_s: Some(1.0), written_bytes: Some(1_000), ..Reading::default() };
        let now = Reading { cpu_s: Some(2.0), written_bytes: Some(5_000), rss_bytes: Some(9), ..Reading::default() };
        let cost = now.since(&then, 4, 2.0);
        assert_eq!((cost.cpu_us, cost.cpu_share, cost.written_bytes), (Some(250_000.0), Some(0.5), Some(1_000.0)));
        assert_eq!((cost.rss_bytes, cost.commits), (Some(9), None));
    }

    #[test]
    fn a_number_is_found_by_the_word_before_it() {
        assert_eq!(number_after("VmHWM:\t 12 kB\nVmRSS:\t  34 kB\n", "VmRSS:"), Some(34.0));
        assert_eq!(number_after("x 1\n", "y"), None);
    }
}
