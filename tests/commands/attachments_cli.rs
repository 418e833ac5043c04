//! Decides whether a person sends and receives a large file with two commands, each of them while a gateway is killed and
//! started again, and whether neither command grows with the file.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::terminal::{Gateway, Terminal, Town};
use sha2::{Digest as _, Sha256};

const SEND: &str = "send --as 450200/window --to 440600/approval --item DEMO-001";
const RECEIVE: &str = "receive --as 440600/approval --wait 30s";
const SIZE: usize = 96 << 20;
const PEAK_MAX: u64 = 64 << 20;

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..bytes / 8).flat_map(|_| next()).collect()
}

/// A command that runs, and the most memory it was seen with.
struct Running {
    child: Child,
    peak: u64,
}

impl Running {
    fn start(terminal: &Terminal, line: &str) -> Running {
        let child = terminal.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Running { child, peak: 0 }
    }

    /// Looks until `state` holds; false when the command ends before.
    fn until(&mut self, state: impl Fn() -> bool) -> bool {
        let began = Instant::now();
        while !state() {
            assert!(began.elapsed() < Duration::from_secs(120));
            self.look();
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    fn look(&mut self) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
        self.peak = self.peak.max(peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10);
    }

    fn end(mut self) -> (ExitStatus, String) {
        self.until(|| false);
        let output = self.child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
        assert!(self.peak > 0 && self.peak < PEAK_MAX, "the command had {} bytes", self.peak);
        (output.status, said)
    }
}

/// Bytes of the largest file below a folder.
fn largest(folder: PathBuf) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => largest(entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    });
    sizes.max().unwrap_or(0)
}

#[test]
fn a_large_file_is_sent_and_received_though_gateways_are_killed() {
    let mut town = Town::new("attachments_cli", "large");
    let content = noise(SIZE);
    fs::write(town.terminal.path("scan.tiff"), &content).unwrap();

    let mut send = Running::start(&town.terminal, &format!("{SEND} --text 见附件 --attach scan.tiff --json"));
    let staging = town.terminal.path("run/450200/store/attachments/staging");
    assert!(send.until(|| largest(staging.clone()) > SIZE as u64 / 3), "it ended before it could be cut");
    drop(town.liuzhou.take());
    town.liuzhou = Some(Gateway::start(&town.terminal, "run/450200"));
    let (status, said) = send.end();
    assert!(status.success(), "{status}: {said}");
    let sent: serde_json::Value = serde_json::from_str(said.lines().next().unwrap())
        .unwrap_or_else(|_| serde_json::from_str(&said[said.find('{').unwrap()..=said.rfind('}').unwrap()]).unwrap());
    let id = sent["message_id"].as_str().unwrap().to_owned();

    let mut receive = Running::start(&town.terminal, &format!("{RECEIVE} --ack --out in"));
    let coming = town.terminal.path("in");
    assert!(receive.until(|| largest(coming.clone()) > SIZE as u64 / 3), "it ended before it could be cut");
    drop(town.foshan.take());
    town.foshan = Some(Gateway::start(&town.terminal, "run/440600"));
    let (status, said) = receive.end();
    assert!(!status.success(), "its mailbox was gone: {said}");

    let received = town.terminal.json(0, &format!("{RECEIVE} --ack --out in"));
    assert_eq!((&received["message_id"], &received["outcome"]), (&id.as_str().into(), &"acknowledged".into()));
    let kept = fs::read(town.terminal.path(&format!("in/{id}/scan.tiff"))).unwrap();
    assert_eq!(Sha256::digest(&kept), Sha256::digest(&content));
    assert_eq!(fs::read_to_string(town.terminal.path(&format!("in/{id}/text.txt"))).unwrap(), "见附件");
    assert_eq!(fs::read_dir(town.terminal.path("in")).unwrap().count(), 1, "nothing half done is left");
    let told = town.terminal.json(0, &format!("message --as 440600/approval --from 450200 {id}"));
    assert_eq!(told["parts"][1]["size"], SIZE as u64);
    town.stop();
}

#[test]
fn what_cannot_be_attached_is_told_before_anything_is_sent() {
    let town = Town::asleep("attachments_cli", "faults");
    let (_, said) = town.terminal.ends(66, &format!("{SEND} --attach missing.pdf"));
    assert!(said.contains("missing.pdf"), "{said}");
    let huge = fs::File::create(town.terminal.path("huge.bin")).unwrap();
    huge.set_len((4 << 30) + 1).unwrap();
    let (_, said) = town.terminal.ends(65, &format!("{SEND} --attach huge.bin"));
    assert!(said.contains("huge.bin") && said.contains("4294967296"), "{said}");
    fs::write(town.terminal.path("a.txt"), "a").unwrap();
    town.terminal.ends(64, &format!("{SEND} --attach a.txt --count 2"));
}

#[test]
fn another_content_under_a_kept_name_is_not_overwritten_and_not_acknowledged() {
    let mut town = Town::new("attachments_cli", "kept");
    fs::write(town.terminal.path("a.pdf"), "the sender's").unwrap();
    let id = "01980000-0000-7000-8000-000000000002";
    town.terminal.json(0, &format!("{SEND} --attach a.pdf --id {id}"));
    fs::create_dir_all(town.terminal.path(&format!("in/{id}"))).unwrap();
    fs::write(town.terminal.path(&format!("in/{id}/a.pdf")), "mine").unwrap();
    let (_, said) = town.terminal.ends(73, &format!("{RECEIVE} --ack --out in"));
    assert!(said.contains("a.pdf"), "{said}");
    assert_eq!(fs::read_to_string(town.terminal.path(&format!("in/{id}/a.pdf"))).unwrap(), "mine");
    let received = town.terminal.json(0, &format!("{RECEIVE} --ack --out elsewhere"));
    assert_eq!((&received["message_id"], &received["outcome"]), (&id.into(), &"acknowledged".into()));
    assert_eq!(fs::read_to_string(town.terminal.path(&format!("elsewhere/{id}/a.pdf"))).unwrap(), "the sender's");
    town.stop();
}
