//! Decides how one city's gateway is made, started, loaded and read from outside: by the commands that a person would type, with the
//! shipped defaults. Never measures two at once.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::gateway::Program;
use crate::measure::Window;
use crate::peers::free_port;

/// The system that loads a city's gateway.
pub const LOADS: &str = "window";
/// How long a gateway that does nothing is watched, after it came to rest.
pub const REST: Duration = Duration::from_secs(5);
const TO_REST: Duration = Duration::from_secs(2);

/// One city's gateway on this machine: its folder, and its process while it runs.
pub struct City<'a> {
    pub program: &'a Program,
    /// Of the alliance: certificates in `certs`.
    pub folder: PathBuf,
    pub code: String,
    pub endpoint: String,
    /// The gateway's own folder below the alliance's.
    data: String,
    shows: String,
    gateway: Option<Child>,
}

impl Drop for City<'_> {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

impl<'a> City<'a> {
    /// A member of the alliance in `folder`, which has one, and what its gateway starts with.
    pub fn found(program: &'a Program, folder: &Path, code: &str, more: &[&str]) -> Result<City<'a>> {
        let endpoint = format!("127.0.0.1:{}", free_port()?);
        member(program, folder, code, &endpoint, more)?;
        let city = City {
            program,
            folder: folder.to_owned(),
            code: code.to_owned(),
            endpoint,
            data: code.to_owned(),
            shows: format!("127.0.0.1:{}", free_port()?),
            gateway: None,
        };
        city.init()?;
        Ok(city)
    }

    fn init(&self) -> Result<()> {
        let pki = format!("certs/{}", self.code);
        self.program.run(&self.folder, &["init", "--pki", &pki, "--data", &self.data]).map(drop)
    }

    /// The same city with an empty store, in a folder of that name.
    pub fn anew(&mut self, data: &str) -> Result<()> {
        self.stop()?;
        self.data = data.to_owned();
        self.init()
    }

    pub fn config(&self) -> String {
        format!("{}/tongban.toml", self.data)
    }

    /// Starts it: milliseconds until it serves.
    pub fn start(&mut self) -> Result<f64> {
        let begun = Instant::now();
        let mut command = Command::new(&self.program.0);
        command.args(["serve", "--config", &self.config(), "--lang", "en"]).current_dir(&self.folder);
        command.args(["--set", &format!("telemetry.listen={}", self.shows)]);
        let mut gateway = command.env("TONGBAN_LOG", "error").stderr(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let mut lines = BufReader::new(gateway.stderr.take().context("no words")?).lines();
        let serves = lines.any(|line| line.is_ok_and(|line| line.contains("serves on")));
        let took = begun.elapsed().as_secs_f64() * 1e3;
        ensure!(serves, "the gateway does not serve");
        std::thread::spawn(move || lines.for_each(drop));
        self.gateway = Some(gateway);
        Ok(took)
    }

    pub fn stop(&mut self) -> Result<()> {
        let Some(mut gateway) = self.gateway.take() else { return Ok(()) };
        Command::new("kill").args(["-TERM", &gateway.id().to_string()]).status()?;
        gateway.wait()?;
        Ok(())
    }

    /// How `tongban bench` is told to load it.
    pub fn loading(&self) -> Vec<String> {
        let (who, pid) = (format!("{}/{LOADS}", self.code), self.pid().to_string());
        let line =
            ["--as", &who, "--dir", "certs", "--gateway", &self.endpoint, "--pid", &pid, "--metrics", &self.shows];
        line.map(str::to_owned).to_vec()
    }

    /// One load of `tongban bench`.
    pub fn load(&self, line: &[&str]) -> Result<Window> {
        let loading = self.loading();
        let all: Vec<&str> = loading.iter().map(String::as_str).chain(line.iter().copied()).collect();
        let windows = self.program.bench(&self.folder, &all)?;
        Ok(windows.into_iter().next().context("no window")?.1)
    }

    pub fn pid(&self) -> u32 {
        self.gateway.as_ref().map_or(0, Child::id)
    }

    /// A size of its process: `VmRSS` now, `VmHWM` at most since [`City::forget_peak`].
    fn status_mib(&self, name: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let kib = status.lines().find_map(|line| {
            line.strip_prefix(name)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.parse::<f64>().ok()
        });
        kib.unwrap_or(f64::NAN) / 1_024.0
    }

    pub fn rss_mib(&self) -> f64 {
        self.status_mib("VmRSS")
    }

    pub fn rss_peak_mib(&self) -> f64 {
        self.status_mib("VmHWM")
    }

    /// Counts the peak from now on.
    pub fn forget_peak(&self) -> Result<()> {
        Ok(std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5")?)
    }

    pub fn cpu_s(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let fields: Vec<f64> = stat
            .rsplit_once(')')
            .map_or(vec![], |(_, rest)| rest.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect());
        fields.get(11..13).map_or(0.0, |ticks| ticks.iter().sum::<f64>() / 100.0)
    }

    /// At rest, watched for so long: MiB of memory, and the share of one core in percent.
    pub fn idle(&self, watched: Duration) -> (f64, f64) {
        std::thread::sleep(TO_REST);
        let (rss, cpu) = (self.rss_mib(), self.cpu_s());
        std::thread::sleep(watched);
        (rss, (self.cpu_s() - cpu) / watched.as_secs_f64() * 100.0)
    }

    /// Bytes of the store's database as it lies there, without its write-ahead log.
    pub fn database_bytes(&self) -> Result<f64> {
        let path = self.folder.join(&self.data).join("store/store.db");
        Ok(std::fs::metadata(&path).with_context(|| path.display().to_string())?.len() as f64)
    }
}

/// Lists a city in the alliance's directory.
pub fn member(program: &Program, folder: &Path, code: &str, endpoint: &str, more: &[&str]) -> Result<()> {
    let line =
        ["pki", "add-city", code, "--dir", "certs", "--name-zh", "城", "--name-en", "City", "--endpoint", endpoint];
    program.run(folder, &[&line[..], more].concat()).map(drop)
}
