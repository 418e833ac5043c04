//! Runs the program as a person at a terminal would, in a folder of its own, and gateways as child processes that end with
//! the test.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::port::free_address;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A terminal in a fresh folder.
pub struct Terminal {
    pub dir: PathBuf,
}

impl Terminal {
    pub fn new(file: &str, name: &str) -> Terminal {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(file).join(name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Terminal { dir }
    }

    /// The program with the words of a line, ready to run.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tongban"));
        command.args(line.split_whitespace()).current_dir(&self.dir);
        command.env_remove("LC_ALL").env_remove("LC_MESSAGES").env("LANG", "C").stdin(Stdio::null());
        command
    }

    /// Runs a line that must end with `code`; returns stdout and stderr.
    pub fn ends(&self, code: i32, line: &str) -> (String, String) {
        let Output { status, stdout, stderr } = self.command(line).output().unwrap();
        let (out, err) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        assert_eq!(status.code(), Some(code), "{line}\n{out}{err}");
        (out, err)
    }

    /// Runs a line with `--json` that must end with `code`.
    pub fn json(&self, code: i32, line: &str) -> Value {
        let (out, err) = self.ends(code, &format!("{line} --json"));
        serde_json::from_str(&out).unwrap_or_else(|fault| panic!("{line}: {fault}\n{out}{err}"))
    }

    pub fn path(&self, inner: &str) -> PathBuf {
        self.dir.join(inner)
    }
}

/// A gateway, until it is stopped or dropped.
pub struct Gateway {
    child: Child,
}

impl Gateway {
    pub fn start(terminal: &Terminal, data: &str) -> Gateway {
        let log = fs::OpenOptions::new().append(true).create(true).open(terminal.path(&format!("{data}.log"))).unwrap();
        let mut command = terminal.command(&format!("serve --config {data}/tongban.toml"));
        Gateway { child: command.stdout(Stdio::null()).stderr(log).spawn().unwrap() }
    }

    /// Stops it as an operator would; it must end well.
    pub fn stop(mut self) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // One that was stopped has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Liuzhou (450200, system window) and Foshan (440600, system approval), made by the commands of the README, both running.
pub struct Town {
    pub terminal: Terminal,
    pub liuzhou: Option<Gateway>,
    pub foshan: Option<Gateway>,
}

impl Town {
    pub fn new(file: &str, name: &str) -> Town {
        let mut town = Town::asleep(file, name);
        let [liuzhou, foshan] = ["run/450200", "run/440600"].map(|data| Some(Gateway::start(&town.terminal, data)));
        (town.liuzhou, town.foshan) = (liuzhou, foshan);
        town
    }

    /// The same with neither gateway started.
    pub fn asleep(file: &str, name: &str) -> Town {
        let terminal = Terminal::new(file, name);
        let (liuzhou, foshan) = (free_address(), free_address());
        terminal.ends(0, "pki new");
        let add = "--name-zh 柳州 --name-en Liuzhou --system window";
        terminal.ends(0, &format!("pki add-city 450200 {add} --endpoint {liuzhou}"));
        let add = "--name-zh 佛山 --name-en Foshan --system approval";
        terminal.ends(0, &format!("pki add-city 440600 {add} --endpoint {foshan}"));
        terminal.ends(0, "init --pki certs/dev/450200 --data run/450200");
        terminal.ends(0, "init --pki certs/dev/440600 --data run/440600");
        Town { terminal, liuzhou: None, foshan: None }
    }

    pub fn stop(&mut self) {
        [self.liuzhou.take(), self.foshan.take()].into_iter().flatten().for_each(Gateway::stop);
    }
}

/// Copies files from a folder, not below it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
