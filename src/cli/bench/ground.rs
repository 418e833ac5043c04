//! Decides on what a gateway is measured that nobody has set up: a city of its own in a temporary folder, made by the commands
//! that a person would type, and a gateway as a child process with the shipped defaults. Leaves neither behind.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::super::{Exit, Failure, Out, files, now};
use super::gauge::Gauge;
use crate::keys;

/// The city, its system that sends, the one whose mailbox only fills, and the one that works.
pub const CITY: &str = "450200";
pub const SENDER: &str = "window";
pub const SILENT: &str = "archive";
pub const WORKER: &str = "desk";

/// A gateway of our own.
pub struct Ground {
    folder: PathBuf,
    gateway: Child,
    serves: SocketAddr,
    shows: SocketAddr,
}

impl Ground {
    /// Makes the city and starts its gateway.
    pub fn build(out: &Out) -> Result<Ground, Failure> {
        let stamp: String = now().to_string().chars().filter(char::is_ascii_alphanumeric).collect();
        let folder = std::env::temp_dir().join(format!("tongban-bench-{stamp}-{}", std::process::id()));
        files::folder(&folder)?;
        // Both ports are held until both are known, so that they differ.
        let ports = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let [serves, shows] = [ports[0].local_addr()?, ports[1].local_addr()?];
        drop(ports);
        let program = std::env::current_exe()?;
        let endpoint = serves.to_string();
        let city = [
            &["pki", "add-city", CITY, "--dir", "certs", "--name-zh", "柳州", "--name-en", "Liuzhou"][..],
            &["--endpoint", &endpoint, "--system", SENDER, "--system", SILENT, "--system", WORKER],
        ];
        let made = run(&program, &folder, &["pki", "new", "--dir", "certs"], out)
            .and_then(|()| run(&program, &folder, &city.concat(), out))
            .and_then(|()| run(&program, &folder, &["init", "--pki", "certs/450200", "--data", CITY], out))
            .and_then(|()| deliver_receipts(&folder.join(CITY).join("tongban.toml")))
            .and_then(|()| start(&program, &folder, shows));
        match made {
            Ok(gateway) => Ok(Ground { folder, gateway, serves, shows }),
            Err(failure) => {
                remove(&folder);
                Err(failure)
            }
        }
    }

    /// Where the keys and certificates are.
    pub fn certs(&self) -> PathBuf {
        self.folder.join("certs")
    }

    /// Where the gateway is dialled.
    pub fn gateway(&self) -> String {
        self.serves.to_string()
    }

    pub fn gauge(&self) -> Gauge {
        Gauge { pid: Some(self.gateway.id()), metrics: Some(self.shows) }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.gateway.id()).ok().and_then(Pid::from_raw) {
            // One that has ended already need not be asked.
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.gateway.wait();
        remove(&self.folder);
    }
}

/// What cannot be removed lies among the temporary files.
fn remove(folder: &Path) {
    let _ = std::fs::remove_dir_all(folder);
}

fn run(program: &Path, folder: &Path, line: &[&str], out: &Out) -> Result<(), Failure> {
    out.say(&format!("$ tongban {}", line.join(" ")));
    let ended = Command::new(program).args(line).current_dir(folder).output()?;
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

fn start(program: &Path, folder: &Path, shows: SocketAddr) -> Result<Child, Failure> {
    let log = std::fs::OpenOptions::new().append(true).create(true).open(folder.join("gateway.log"))?;
    let mut command = Command::new(program);
    command.args(["serve", "--config", "450200/tongban.toml", "--set", &format!("telemetry.listen={shows}")]);
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Ok(command.spawn()?)
}
