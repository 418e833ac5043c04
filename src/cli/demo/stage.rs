//! Decides how the demo's cities and their hub come to be: by the commands that a person would type, each shown, and gateways as
//! child processes of this very program. Never leaves a child running.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Child;

use super::super::client::{As, Client, address};
use super::super::{Exit, Failure, Out, files};
use super::cast::{CITIES, City, HUB, HUB_FOLDER, LIUZHOU, Way};

/// How long the gateways may take until they serve, one until it has stopped, and one until it shows its figures.
const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(10);
const SHOW: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A folder in which all gateways are ready to be started.
pub struct Stage {
    program: PathBuf,
    /// Where all of it lies.
    pub folder: PathBuf,
    /// By each gateway's folder, where it serves and where it shows its figures.
    addresses: BTreeMap<&'static str, (SocketAddr, SocketAddr)>,
    lang: &'static str,
}

/// The gateways that run, by their folders.
pub struct Gateways<'a> {
    stage: &'a Stage,
    running: RefCell<BTreeMap<&'static str, Child>>,
}

impl Stage {
    /// Makes the alliance, its members and their configurations.
    pub fn build(folder: &Path, out: &Out) -> Result<Stage, Failure> {
        let folders = || CITIES.iter().map(|city| city.code).chain([HUB_FOLDER]);
        // All ports are held until all are known, so that they differ.
        let ports = folders().map(|_| Ok((free_port()?, free_port()?))).collect::<Result<Vec<_>, Failure>>()?;
        let addresses = folders()
            .zip(&ports)
            .map(|(folder, (serves, shows))| Ok((folder, (serves.local_addr()?, shows.local_addr()?))));
        let addresses = addresses.collect::<Result<_, Failure>>()?;
        drop(ports);
        let (program, lang) = (std::env::current_exe()?, out.lang.tr("en", "zh"));
        let stage = Stage { program, folder: folder.to_owned(), addresses, lang };
        stage.tongban(&["pki", "new", "--dir", "certs"], out)?;
        let hub = stage.serves(HUB_FOLDER)?.to_string();
        let names = ["--name-zh", "联盟枢纽", "--name-en", "Hub"];
        stage.tongban(&[&["pki", "add-hub", HUB, "--dir", "certs", "--endpoint", &hub], &names[..]].concat(), out)?;
        for city in CITIES {
            stage.add(city, out)?;
        }
        for member in folders() {
            let (pki, listen) = (format!("certs/{member}"), stage.serves(member)?.to_string());
            stage.tongban(&["init", "--pki", &pki, "--data", member, "--listen", &listen], out)?;
        }
        Ok(stage)
    }

    fn add(&self, city: &City, out: &Out) -> Result<(), Failure> {
        let (endpoint, hub) = (self.serves(city.code)?.to_string(), format!("hub/{HUB}"));
        let mut line = vec!["pki", "add-city", city.code, "--dir", "certs", "--name-zh", city.zh, "--name-en", city.en];
        line.extend(["--system", city.system]);
        line.extend(match city.way {
            Way::Dialled => vec!["--endpoint", &endpoint],
            Way::Fetches => vec!["--pulls"],
            Way::ThroughHub => vec!["--pulls", "--relay", &hub, "--ops", OPERATOR],
        });
        if *city == LIUZHOU {
            line.extend(["--relay", &hub, "--ops", OPERATOR]);
        }
        self.tongban(&line, out)
    }

    /// Starts all gateways; their logs go to `gateway.log` in each one's folder.
    pub fn raise(&self, out: &Out) -> Result<Gateways<'_>, Failure> {
        let gateways = Gateways { stage: self, running: RefCell::default() };
        for folder in self.addresses.keys() {
            out.say(&format!("$ tongban {} &", self.serving(folder)?.join(" ")));
            gateways.start(folder)?;
        }
        Ok(gateways)
    }

    /// The words after `tongban` that run a gateway.
    fn serving(&self, folder: &str) -> Result<Vec<String>, Failure> {
        let (_, shows) = self.addresses(folder)?;
        let mut line = vec!["serve".to_owned(), "--config".to_owned(), format!("{folder}/tongban.toml")];
        line.extend(["--set".to_owned(), format!("telemetry.listen={shows}")]);
        let fetches = CITIES.iter().find(|city| city.code == folder).and_then(|city| match city.way {
            Way::Dialled => None,
            Way::Fetches => Some(LIUZHOU.code.to_owned()),
            Way::ThroughHub => Some(format!("hub/{HUB}")),
        });
        line.extend(fetches.into_iter().flat_map(|from| ["--set".to_owned(), format!("gateway.fetch_from={from}")]));
        Ok(line)
    }

    /// A client of each city's system, in the order of the cities.
    pub fn clients(&self) -> Result<Vec<Client>, Failure> {
        CITIES.iter().map(|city| self.client(city)).collect()
    }

    fn client(&self, city: &City) -> Result<Client, Failure> {
        let me = address(&city.address()).ok();
        let who = me.and_then(|me| As::of(&me, &self.folder.join("certs")));
        let endpoint = self.serves(city.code)?.to_string().parse().ok();
        let missing = || Failure::new(Exit::Software, "a city of the demo has no name", "演示城市没有名称");
        Ok(Client::new(who.zip(endpoint).map(|(who, endpoint)| who.at(endpoint)).ok_or_else(missing)?.reach()?))
    }

    /// Lets Liuzhou and those whom it reaches in no other way speak through the hub, in both directions: receipts travel back
    /// the way their message came.
    pub fn publish(&self, out: &Out) -> Result<(), Failure> {
        for city in CITIES.iter().filter(|city| city.way == Way::ThroughHub) {
            for (at, owner) in [(&LIUZHOU, *city), (*city, &LIUZHOU)] {
                let (at, code) = (at.code, owner.code);
                let table = format!(
                    "owner = \"{code}\"\n[[route]]\ndivision = \"{code}\"\nitem = \"*\"\nvia = [\"hub/{HUB}\"]\n"
                );
                let name = format!("routes-{code}.toml");
                files::keep(&self.folder.join(at), &[(name.clone(), table.into_bytes())])?;
                let (who, file) = (format!("{at}/ops/{OPERATOR}"), format!("{at}/{name}"));
                let gateway = self.serves(at)?.to_string();
                let line = ["route", "publish", "--as", &who, "--dir", "certs", "--gateway", &gateway, "--yes", &file];
                self.tongban(&line, out)?;
            }
        }
        Ok(())
    }

    fn serves(&self, folder: &str) -> Result<SocketAddr, Failure> {
        Ok(self.addresses(folder)?.0)
    }

    fn addresses(&self, folder: &str) -> Result<(SocketAddr, SocketAddr), Failure> {
        let unknown = || Failure::new(Exit::Software, format!("no gateway {folder}"), format!("没有网关 {folder}"));
        self.addresses.get(folder).copied().ok_or_else(unknown)
    }

    /// Runs one command as a person would, in the demo's folder.
    fn tongban(&self, line: &[&str], out: &Out) -> Result<(), Failure> {
        out.say(&format!("$ tongban {}", line.join(" ")));
        let mut command = Command::new(&self.program);
        let ended = command.args(line).args(["--lang", self.lang]).current_dir(&self.folder).output()?;
        if ended.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&ended.stderr);
        Err(Failure::new(Exit::Software, words.trim_end(), words.trim_end()))
    }
}

impl Gateways<'_> {
    /// Starts one on what it left.
    pub fn start(&self, folder: &'static str) -> Result<(), Failure> {
        let log = self.stage.folder.join(folder).join("gateway.log");
        let log = std::fs::OpenOptions::new().append(true).create(true).open(log)?;
        let mut command = tokio::process::Command::new(&self.stage.program);
        command.args(self.stage.serving(folder)?).args(["--lang", self.stage.lang]);
        command.current_dir(&self.stage.folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.kill_on_drop(true).spawn()?;
        self.running.borrow_mut().insert(folder, child);
        Ok(())
    }

    /// Waits until all serve.
    pub async fn ready<'c>(&self, clients: impl Iterator<Item = &'c Client> + Clone) -> Result<(), Failure> {
        let until = Instant::now() + START;
        loop {
            self.still_running()?;
            if self.all_serve(clients.clone()).await {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(Failure::new(Exit::Unavailable, "the gateways do not come up", "网关未能启动"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn all_serve<'c>(&self, clients: impl Iterator<Item = &'c Client>) -> bool {
        for (serves, _) in self.stage.addresses.values() {
            if TcpStream::connect(serves).await.is_err() {
                return false;
            }
        }
        for client in clients {
            if !client.is_healthy().await {
                return false;
            }
        }
        true
    }

    /// Says which gateway has ended by itself.
    pub fn still_running(&self) -> Result<(), Failure> {
        for (folder, child) in self.running.borrow_mut().iter_mut() {
            if let Some(status) = child.try_wait()? {
                let en = format!("the gateway {folder} has ended: {status}");
                return Err(Failure::new(Exit::Software, en, format!("网关 {folder} 已退出：{status}")));
            }
        }
        Ok(())
    }

    /// SIGKILL; returns when it is gone.
    pub async fn kill(&self, folder: &str) -> Result<(), Failure> {
        let child = self.running.borrow_mut().remove(folder);
        if let Some(mut child) = child {
            child.kill().await?;
        }
        Ok(())
    }

    /// Asks one to stop and waits for it; one that does not is killed, which is a failure.
    pub async fn stop(&self, folder: &str) -> Result<(), Failure> {
        let Some(mut child) = self.running.borrow_mut().remove(folder) else { return Ok(()) };
        ask_to_stop(&child);
        let ended = tokio::time::timeout(STOP, child.wait()).await;
        if ended.is_ok_and(|status| status.is_ok_and(|status| status.success())) {
            return Ok(());
        }
        child.kill().await?;
        let en = format!("the gateway {folder} did not stop as asked");
        Err(Failure::new(Exit::Software, en, format!("网关 {folder} 未按要求停止")))
    }

    /// Stops all; the first that did not is told when all are gone.
    pub async fn stop_all(&self) -> Result<(), Failure> {
        self.running.borrow().values().for_each(ask_to_stop);
        let folders: Vec<_> = self.running.borrow().keys().copied().collect();
        let mut stopped = Ok(());
        for folder in folders {
            stopped = stopped.and(self.stop(folder).await);
        }
        stopped
    }

    /// Keeps what each gateway shows to a monitor, in `metrics`.
    pub async fn keep_figures(&self) -> Result<(), Failure> {
        let folder = self.stage.folder.join("metrics");
        files::folder(&folder)?;
        for (name, (_, shows)) in &self.stage.addresses {
            let late = || Failure::new(Exit::TempFail, format!("{name} shows no figures"), format!("{name} 没有指标"));
            let page = tokio::time::timeout(SHOW, figures(*shows)).await.map_err(|_| late())??;
            files::keep(&folder, &[(format!("{name}.txt"), page)])?;
        }
        Ok(())
    }
}

fn ask_to_stop(child: &Child) {
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
        // One that has ended already need not be asked.
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// The answer to `GET /metrics`, head and all.
async fn figures(shows: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut monitor = TcpStream::connect(shows).await?;
    monitor.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
    let mut page = Vec::new();
    monitor.read_to_end(&mut page).await?;
    Ok(page)
}

/// A port of this machine on which nobody listens; another process may still take it before the gateway does.
fn free_port() -> Result<TcpListener, Failure> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?)
}

/// Who operates the gateways whose routes are published.
const OPERATOR: &str = "demo";
