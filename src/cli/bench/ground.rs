//! Decides on what a gateway is measured that nobody has set up: a city of its own in a temporary folder, and a partner where
//! one is wanted, made by the commands that a person would type, and their gateways as child processes with the shipped
//! defaults. Leaves nothing behind.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;

use super::super::{Exit, Failure, Out, files, now};
use super::gauge::Gauge;
use crate::keys;

/// The city, its system that sends, the one whose mailbox only fills, and the one that works.
pub const CITY: &str = "450200";
pub const SENDER: &str = "window";
pub const SILENT: &str = "archive";
pub const WORKER: &str = "desk";
/// A partner whose gateway runs too, and one that nobody hears of. Both have a system that works.
pub const PARTNER: &str = "440600";
pub const HOLE: &str = "640100";
/// How often it is looked whether gateways serve, and for how long.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const START: Duration = Duration::from_secs(20);

/// Who is in the directory beside the city.
#[derive(Debug, Clone, Copy)]
pub enum Partners {
    None,
    /// The partner, and at this address, if there is one, the other.
    Two(Option<SocketAddr>),
}

/// Gateways of our own: the city's, and the partner's if there is one.
pub struct Ground {
    folder: PathBuf,
    gateways: Vec<Child>,
    serve: Vec<SocketAddr>,
    shows: SocketAddr,
}

impl Ground {
    /// Makes the cities and starts their gateways.
    pub fn build(partners: Partners, out: &Out) -> Result<Ground, Failure> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (count, stamp) = (COUNT.fetch_add(1, Ordering::Relaxed), now().to_string());
        let stamp: String = stamp.chars().filter(char::is_ascii_alphanumeric).collect();
        let folder = std::env::temp_dir().join(format!("tongban-bench-{stamp}-{}-{count}", std::process::id()));
        files::folder(&folder)?;
        // All ports are held until all are known, so that they differ.
        let ports = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
        let ports = ports.into_iter().collect::<Result<Vec<_>, _>>()?;
        let addresses = ports.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
        drop(ports);
        let (serve, shows) = match partners {
            Partners::None => (vec![addresses[0]], addresses[2]),
            Partners::Two(_) => (addresses[..2].to_vec(), addresses[2]),
        };
        let mut ground = Ground { folder, gateways: vec![], serve, shows };
        ground.fill(partners, out)?;
        Ok(ground)
    }

    fn fill(&mut self, partners: Partners, out: &Out) -> Result<(), Failure> {
        let program = std::env::current_exe()?;
        let run = |line: &str| run(&program, &self.folder, line, out);
        run("pki new --dir certs")?;
        let city = |code: &str, names: &str, endpoint: &SocketAddr, systems: &[&str]| {
            let systems: String = systems.iter().map(|system| format!(" --system {system}")).collect();
            run(&format!("pki add-city {code} --dir certs {names} --endpoint {endpoint}{systems}"))
        };
        city(CITY, "--name-zh 柳州 --name-en Liuzhou", &self.serve[0], &[SENDER, SILENT, WORKER])?;
        let mut codes = vec![CITY];
        if let Some(endpoint) = self.serve.get(1) {
            city(PARTNER, "--name-zh 佛山 --name-en Foshan", endpoint, &[WORKER])?;
            codes.push(PARTNER);
        }
        if let Partners::Two(Some(endpoint)) = &partners {
            city(HOLE, "--name-zh 银川 --name-en Yinchuan", endpoint, &[WORKER])?;
        }
        for code in &codes {
            run(&format!("init --pki certs/{code} --data {code}"))?;
        }
        deliver_receipts(&self.folder.join(CITY).join("tongban.toml"))?;
        for code in codes {
            // One page of figures is enough: the city's.
            let shows = (code == CITY).then_some(self.shows);
            self.gateways.push(start(&program, &self.folder, code, shows)?);
        }
        Ok(())
    }

    /// Waits until all gateways serve, those that ever do.
    pub async fn serves(&self) {
        let served = async {
            for address in &self.serve {
                while TcpStream::connect(address).await.is_err() {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        };
        // Whoever is sent to one that does not is told so.
        let _ = tokio::time::timeout(START, served).await;
    }

    /// Stops all gateways where they are, until they go on.
    pub fn rest(&self) {
        self.signal(Signal::STOP);
    }

    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        for gateway in &self.gateways {
            if let Some(pid) = i32::try_from(gateway.id()).ok().and_then(Pid::from_raw) {
                // One that has ended already need not be asked.
                let _ = kill_process(pid, signal);
            }
        }
    }

    /// Where the keys and certificates are.
    pub fn certs(&self) -> PathBuf {
        self.folder.join("certs")
    }

    /// Where the city's gateway is dialled.
    pub fn gateway(&self) -> String {
        self.serve[0].to_string()
    }

    /// Of the city's gateway.
    pub fn gauge(&self) -> Gauge {
        Gauge { pid: self.gateways.first().map(Child::id), metrics: Some(self.shows) }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        self.gateways.iter_mut().for_each(|gateway| drop(gateway.wait()));
        // What cannot be removed lies among the temporary files.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn run(program: &Path, folder: &Path, line: &str, out: &Out) -> Result<(), Failure> {
    out.say(&format!("$ tongban {line}"));
    let ended = Command::new(program).args(line.split(' ')).current_dir(folder).output()?;
    if ended.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&ended.stderr);
    Err(Failure::new(Exit::Software, words.trim_end(), words.trim_end()))
}

/// The system that sends gets the receipts of its messages.
fn deliver_receipts(config: &Path) -> Result<(), Failure> {
    let text = std::fs::read_to_string(config)?;
    let row = format!("name = \"{SENDER}\"\n");
    Ok(keys::replace_public(config, text.replace(&row, &format!("{row}receipts = true\n")).as_bytes())?)
}

fn start(program: &Path, folder: &Path, code: &str, shows: Option<SocketAddr>) -> Result<Child, Failure> {
    let log = folder.join(format!("{code}.log"));
    let log = std::fs::OpenOptions::new().append(true).create(true).open(log)?;
    let mut command = Command::new(program);
    command.args(["serve", "--config", &format!("{code}/tongban.toml")]);
    command.args(shows.into_iter().flat_map(|shows| ["--set".to_owned(), format!("telemetry.listen={shows}")]));
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Ok(command.spawn()?)
}
