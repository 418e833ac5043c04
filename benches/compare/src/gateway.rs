//! Decides how the gateway is measured: by its own `tongban bench`, fresh for each run, and as one that has grown: started,
//! filled, stopped, started again, with a partner that never answers.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::city::{City, LOADS, REST, member};
use crate::measure::{Window, median};

/// The program that is measured.
pub struct Program(pub PathBuf);

impl Program {
    /// Runs a command in `folder` to its end.
    pub fn run(&self, folder: &Path, line: &[&str]) -> Result<Vec<u8>> {
        let ended = Command::new(&self.0).args(line).current_dir(folder).output()?;
        let said = [&ended.stderr[..], &ended.stdout].concat();
        ensure!(ended.status.success(), "tongban {}: {}", line.join(" "), String::from_utf8_lossy(&said));
        Ok(ended.stdout)
    }

    /// `tongban bench`: each load's name with its window.
    pub fn bench(&self, folder: &Path, line: &[&str]) -> Result<Vec<(String, Window)>> {
        let told = self.run(folder, &[&["--json", "bench"], line].concat())?;
        let told: Value = serde_json::from_slice(&told)?;
        let loads = told["loads"].as_array().context("no loads")?;
        Ok(loads.iter().map(|load| (load["load"].as_str().unwrap_or_default().to_owned(), window(load))).collect())
    }
}

fn window(load: &Value) -> Window {
    let (run, cost) = (&load["run"], &load["gateway"]);
    let us = |name: &str| run["latency_us"][name].as_f64().unwrap_or(0.0);
    Window {
        per_second: run["per_second"].as_f64().unwrap_or(0.0),
        p50_us: us("p50"),
        p99_us: us("p99"),
        p999_us: us("p99.9"),
        cpu_us: cost["cpu_us_per_message"].as_f64(),
        written_bytes: cost["written_bytes_per_message"].as_f64(),
        syncs: cost["commits_per_message"].as_f64(),
        rss_bytes: cost["rss_bytes"].as_f64(),
    }
}

/// The figure of what a message takes of the disk.
pub const STORED: &str = "store, for each message";
/// Windows of which the median counts where two loads of one gateway are compared.
const SAMPLES: usize = 3;

/// A gateway that grows, and what it was seen at.
pub struct Grown<'a> {
    city: City<'a>,
    pub figures: Vec<(&'static str, f64, &'static str)>,
}

impl<'a> Grown<'a> {
    /// Makes the city, and a partner that takes connections and never answers.
    pub fn build(program: &'a Program, folder: &Path, silent: u16) -> Result<Grown<'a>> {
        program.run(folder, &["pki", "new", "--dir", "certs"])?;
        let city =
            City::found(program, folder, "450200", &["--system", LOADS, "--system", "archive", "--system", "desk"])?;
        member(program, folder, "440600", &format!("127.0.0.1:{silent}"), &["--system", "desk"])?;
        Ok(Grown { city, figures: vec![] })
    }

    /// Bytes of the store as a backup has it: whole, and without a write-ahead log.
    fn store_bytes(&self, name: &str) -> Result<f64> {
        let City { program, folder, .. } = &self.city;
        program.run(folder, &["backup", "--config", &self.city.config(), "--to", name])?;
        let mut bytes = 0;
        let mut folders = vec![folder.join(name)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)?.flatten() {
                let kind = entry.metadata()?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if entry.file_name() == "store.db" {
                    bytes = kind.len();
                }
            }
        }
        std::fs::remove_dir_all(self.city.folder.join(name))?;
        ensure!(bytes > 0, "the backup holds no store.db");
        Ok(bytes as f64)
    }

    fn tell(&mut self, what: &'static str, value: f64, unit: &'static str) {
        println!("  {what:<58} {value:>12.2} {unit}");
        self.figures.push((what, value, unit));
    }

    /// Lets it grow to `queued` messages, and tells what changes.
    pub fn grow(&mut self, queued: u64) -> Result<()> {
        let started = self.city.start()?;
        self.tell("start with an empty store", started, "ms");
        let (rss, cpu) = self.city.idle(REST);
        self.tell("RSS idle", rss, "MiB");
        self.tell("CPU idle", cpu, "% of one core");
        let archive = ["stream", "--to", "450200/archive"];
        let timed = [&archive[..], &["--time", "3s"]].concat();
        let rate = |grown: &Self| -> Result<f64> {
            let windows = (0..SAMPLES).map(|_| Ok(grown.city.load(&timed)?.per_second)).collect::<Result<Vec<_>>>()?;
            median(windows).context("no window")
        };
        let fresh = rate(self)?;
        self.tell("accepted while the store is young", fresh, "per s");
        let young = self.store_bytes("young")?;
        self.city.load(&[&archive[..], &["--count", &queued.to_string()]].concat())?;
        let rss = self.city.rss_mib();
        self.tell("RSS with all queued", rss, "MiB");
        let each = (self.store_bytes("full")? - young) / queued as f64;
        self.tell(STORED, each, "bytes");
        let grown = rate(self)?;
        self.tell("accepted on top of all queued", grown, "per s");
        self.tell("accept rate, all queued against young", grown / fresh, "");
        self.city.stop()?;
        let ready = self.city.start()?;
        self.tell("start with all queued", ready, "ms");
        // A mailbox of its own: what the loads before have left comes near to all that one may hold.
        self.silent_partner(&["stream", "--to", "450200/desk"])
    }

    /// What a partner that never answers costs the others.
    fn silent_partner(&mut self, others: &[&str]) -> Result<()> {
        let steady = [others, &["--in-flight", "64", "--time", "3s"]].concat();
        let p99 = |grown: &Self| -> Result<f64> {
            let windows = (0..SAMPLES).map(|_| Ok(grown.city.load(&steady)?.p99_us)).collect::<Result<Vec<_>>>()?;
            median(windows).context("no window")
        };
        let before = p99(self)?;
        self.city.load(&["stream", "--to", "440600", "--count", "10000"])?;
        let beside = p99(self)?;
        self.tell("others' p99 beside a silent partner with 10 k queued", beside / before, "× before");
        self.city.stop()
    }
}

/// Takes connections and never says a word.
pub fn silent() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        let mut held = vec![];
        listener.incoming().for_each(|connection| held.push(connection));
    });
    Ok(port)
}
