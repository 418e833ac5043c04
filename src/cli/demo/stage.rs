//! Decides how the demo's two cities come to be: by the commands that a person would type, each shown, and two gateways as
//! child processes of this very program. Never leaves a child running.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

use super::super::client::{As, Client, address};
use super::super::{Exit, Failure, Out};

/// A city of the demo.
pub struct City {
    pub code: &'static str,
    pub zh: &'static str,
    pub en: &'static str,
    pub system: &'static str,
}

/// Sends the cases.
pub const LIUZHOU: City = City { code: "450200", zh: "柳州", en: "Liuzhou", system: "window" };
/// Decides them.
pub const FOSHAN: City = City { code: "440600", zh: "佛山", en: "Foshan", system: "approval" };

impl City {
    /// What its system writes down, below the demo's folder.
    pub fn diary(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}-{}.jsonl", self.code, self.system))
    }
}

/// How long a gateway may take until it serves, and until it has stopped.
const START: Duration = Duration::from_secs(10);
const STOP: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A folder in which two gateways are ready to be started.
pub struct Stage {
    program: PathBuf,
    /// Where all of it lies.
    pub folder: PathBuf,
}

/// The two gateways, running.
pub struct Gateways {
    running: Vec<(&'static City, Child)>,
}

impl Stage {
    /// Makes the alliance, the cities and their configurations.
    pub fn build(folder: &Path, out: &Out) -> Result<Stage, Failure> {
        let stage = Stage { program: std::env::current_exe()?, folder: folder.to_owned() };
        stage.tongban(&["pki", "new", "--dir", "certs"], out)?;
        // Both ports are held until both are known, so that they differ.
        let ports = [free_port()?, free_port()?];
        for (city, port) in [&LIUZHOU, &FOSHAN].into_iter().zip(&ports) {
            let endpoint = port.local_addr()?.to_string();
            let names = ["--name-zh", city.zh, "--name-en", city.en, "--system", city.system];
            let mut line = vec!["pki", "add-city", city.code, "--dir", "certs", "--endpoint", &endpoint];
            line.extend(names);
            stage.tongban(&line, out)?;
        }
        drop(ports);
        for city in [&LIUZHOU, &FOSHAN] {
            stage.tongban(&["init", "--pki", &format!("certs/{}", city.code), "--data", city.code], out)?;
        }
        Ok(stage)
    }

    /// Starts both gateways; their logs go to `gateway.log` in each city's folder.
    pub fn raise(&self) -> Result<Gateways, Failure> {
        let mut running = Vec::new();
        for city in [&LIUZHOU, &FOSHAN] {
            let folder = self.folder.join(city.code);
            let log = std::fs::OpenOptions::new().append(true).create(true).open(folder.join("gateway.log"))?;
            let mut command = tokio::process::Command::new(&self.program);
            command.arg("serve").arg("--config").arg(folder.join("tongban.toml"));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
            running.push((city, command.spawn()?));
        }
        Ok(Gateways { running })
    }

    /// Waits until both gateways serve; returns a client of Liuzhou's window and one of Foshan's approval.
    pub async fn ready(&self, gateways: &mut Gateways) -> Result<(Client, Client), Failure> {
        let clients = (self.client(&LIUZHOU)?, self.client(&FOSHAN)?);
        let until = Instant::now() + START;
        while !(clients.0.is_healthy().await && clients.1.is_healthy().await) {
            gateways.still_running()?;
            if Instant::now() > until {
                return Err(Failure::new(Exit::Unavailable, "the gateways do not come up", "网关未能启动"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(clients)
    }

    fn client(&self, city: &City) -> Result<Client, Failure> {
        let me = address(&format!("{}/{}", city.code, city.system)).ok();
        let who = me.and_then(|me| As::of(&me, &self.folder.join("certs")));
        let missing = || Failure::new(Exit::Software, "a city of the demo has no name", "演示城市没有名称");
        Ok(Client::new(who.ok_or_else(missing)?.reach()?))
    }

    /// Runs one command as a person would, in the demo's folder.
    fn tongban(&self, line: &[&str], out: &Out) -> Result<(), Failure> {
        out.say(&format!("$ tongban {}", line.join(" ")));
        let lang = out.lang.tr("en", "zh");
        let ended = Command::new(&self.program).args(line).args(["--lang", lang]).current_dir(&self.folder).output()?;
        if ended.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&ended.stderr);
        Err(Failure::new(Exit::Software, words.trim_end(), words.trim_end()))
    }
}

impl Gateways {
    /// Says which gateway has ended by itself.
    fn still_running(&mut self) -> Result<(), Failure> {
        for (city, child) in &mut self.running {
            if let Some(status) = child.try_wait()? {
                let en = format!("the gateway of {} has ended: {status}", city.en);
                return Err(Failure::new(Exit::Software, en, format!("{}的网关已退出：{status}", city.zh)));
            }
        }
        Ok(())
    }

    /// Asks both gateways to stop and waits for them; one that does not is killed, which is a failure.
    pub async fn stop(self) -> Result<(), Failure> {
        for (_, child) in &self.running {
            if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
                // One that has ended already need not be asked.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        let mut late = Vec::new();
        for (city, mut child) in self.running {
            let ended = tokio::time::timeout(STOP, child.wait()).await;
            if !ended.is_ok_and(|status| status.is_ok_and(|status| status.success())) {
                child.kill().await?;
                late.push(city);
            }
        }
        match late.first() {
            None => Ok(()),
            Some(city) => {
                let en = format!("the gateway of {} did not stop as asked", city.en);
                Err(Failure::new(Exit::Software, en, format!("{}的网关未按要求停止", city.zh)))
            }
        }
    }
}

/// A port of this machine on which nobody listens; another process may still take it before the gateway does.
fn free_port() -> Result<TcpListener, Failure> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?)
}
