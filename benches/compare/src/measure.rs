//! Decides what a window of load says: how many in how long, exact percentiles, and what it cost the processes that were loaded.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

/// What one window came to.
#[derive(Debug, Clone, Default)]
pub struct Window {
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    /// Of the processes that were loaded, for each message.
    pub cpu_us: Option<f64>,
    pub written_bytes: Option<f64>,
    pub syncs: Option<f64>,
    pub rss_bytes: Option<f64>,
}

/// The figures of a window by their names, in one order.
impl Window {
    pub fn fields(&self) -> [(&'static str, Option<f64>); 8] {
        [
            ("per_second", Some(self.per_second)),
            ("p50_us", Some(self.p50_us)),
            ("p99_us", Some(self.p99_us)),
            ("p99.9_us", Some(self.p999_us)),
            ("cpu_us_per_message", self.cpu_us),
            ("written_bytes_per_message", self.written_bytes),
            ("syncs_per_message", self.syncs),
            ("rss_bytes", self.rss_bytes),
        ]
    }

    pub fn json(&self) -> Value {
        self.fields()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// The median of each figure on its own.
    pub fn median(windows: &[Window]) -> Window {
        let of = |part: fn(&Window) -> Option<f64>| median(windows.iter().filter_map(part).collect());
        let known = |part: fn(&Window) -> Option<f64>| of(part).unwrap_or(0.0);
        Window {
            per_second: known(|window| Some(window.per_second)),
            p50_us: known(|window| Some(window.p50_us)),
            p99_us: known(|window| Some(window.p99_us)),
            p999_us: known(|window| Some(window.p999_us)),
            cpu_us: of(|window| window.cpu_us),
            written_bytes: of(|window| window.written_bytes),
            syncs: of(|window| window.syncs),
            rss_bytes: of(|window| window.rss_bytes),
        }
    }
}

/// The one in the middle; none of none.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Times what is answered; what was answered before `measure_from` is not counted.
pub struct Watch {
    from: Instant,
    until: Instant,
    samples: Vec<u32>,
}

impl Watch {
    /// A window of this length, after a fifth of it that is not counted.
    pub fn new(length: Duration) -> Watch {
        let from = Instant::now() + length / 5;
        Watch { from, until: from + length, samples: Vec::with_capacity(1 << 18) }
    }

    pub fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    /// So many that began at `begun` are answered.
    pub fn answered(&mut self, begun: Instant, count: usize) {
        let now = Instant::now();
        if (self.from..self.until).contains(&now) {
            let us = u32::try_from((now - begun).as_micros()).unwrap_or(u32::MAX);
            self.samples.extend(std::iter::repeat_n(us, count));
        }
    }

    /// How many were answered in the window, and what that says.
    pub fn window(mut self) -> (usize, Window) {
        self.samples.sort_unstable();
        let within = |of_thousand: usize| {
            let place = (self.samples.len() * of_thousand).div_ceil(1_000).saturating_sub(1);
            self.samples.get(place).map_or(0.0, |us| f64::from(*us))
        };
        let window = Window {
            per_second: self.samples.len() as f64 / (self.until - self.from).as_secs_f64(),
            p50_us: within(500),
            p99_us: within(990),
            p999_us: within(999),
            ..Window::default()
        };
        (self.samples.len(), window)
    }
}

/// Reads a process and all that it has started, from outside.
pub struct Gauge {
    root: u32,
    before: Reading,
    perf: Option<Child>,
}

#[derive(Default)]
struct Reading {
    cpu_s: f64,
    written_bytes: f64,
    rss_bytes: f64,
}

impl Gauge {
    /// Reads now, and counts syncs from now on where the kernel lets us.
    pub fn begin(root: u32) -> Gauge {
        let pids: Vec<String> = tree(root).iter().map(u32::to_string).collect();
        let mut perf = Command::new("perf");
        perf.args([
            "stat",
            "-x,",
            "-e",
            "syscalls:sys_enter_fsync,syscalls:sys_enter_fdatasync",
            "-p",
            &pids.join(","),
        ]);
        let perf = perf.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().ok();
        Gauge { root, before: reading(root), perf }
    }

    /// Adds to a window of `count` messages what it cost. The costs are of the whole time of loading, the unmeasured fifth too.
    pub fn end(mut self, count: usize, window: &mut Window) {
        let after = reading(self.root);
        let each = |now: f64, then: f64| Some((now - then) / (count.max(1) as f64 * 1.2));
        window.cpu_us = each(after.cpu_s, self.before.cpu_s).map(|seconds| seconds * 1e6);
        window.written_bytes = each(after.written_bytes, self.before.written_bytes);
        window.rss_bytes = Some(after.rss_bytes);
        window.syncs = self.syncs().and_then(|syncs| each(syncs, 0.0));
    }

    fn syncs(&mut self) -> Option<f64> {
        let perf = self.perf.take()?;
        // perf tells its counts when it is interrupted.
        Command::new("kill").args(["-INT", &perf.id().to_string()]).status().ok()?;
        let told = perf.wait_with_output().ok()?;
        let counts = String::from_utf8(told.stderr).ok()?;
        let counts: Vec<f64> = counts.lines().filter_map(|line| line.split(',').next()?.parse().ok()).collect();
        (!counts.is_empty()).then(|| counts.iter().sum())
    }
}

/// A process and its descendants.
fn tree(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let parent = stat(pid).and_then(|fields| fields.get(1)?.parse().ok());
        parent.into_iter().for_each(|parent| children.entry(parent).or_default().push(pid));
    }
    let mut all = vec![root];
    let mut next = 0;
    while next < all.len() {
        all.extend(children.remove(&all[next]).unwrap_or_default());
        next += 1;
    }
    all
}

/// The fields of `/proc/PID/stat` after the name.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

fn reading(root: u32) -> Reading {
    let mut sum = Reading::default();
    for pid in tree(root) {
        let field = |place: usize| stat(pid).and_then(|fields| fields.get(place)?.parse::<f64>().ok()).unwrap_or(0.0);
        sum.cpu_s += (field(11) + field(12)) / 100.0;
        sum.rss_bytes += field(21) * 4_096.0;
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse::<f64>().ok());
        sum.written_bytes += written.unwrap_or(0.0);
    }
    sum
}

/// Waits until `ready`, for a minute at most.
pub async fn until<F: Future<Output = bool>>(what: &str, ready: impl Fn() -> F) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(60);
    while !ready().await {
        anyhow::ensure!(Instant::now() < end, "{what} does not come up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
