//! A witness in another language, written from the documents alone, follows a gateway's log while the gateway is killed again
//! and again under load: it never sees the log contradict itself, and it does see it when an older copy is put in its place.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::alliance::{Alliance, Client, envelope};
use crate::process::{self, Process, let_work};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tongban::tlog::cosignature::{WitnessKey, cosigners};
use tongban::tlog::note::VerifyingKey;

const CITY: (&str, &str) = ("450200", "window");
/// Kills, unless TONGBAN_KILLS says another number.
const KILLS: usize = 8;
const WRITERS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(30);
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python");

fn kills() -> usize {
    std::env::var("TONGBAN_KILLS").map_or(KILLS, |kills| kills.parse().unwrap())
}

/// The witness's process, and what it says.
struct Witness {
    child: Child,
    said: mpsc::UnboundedReceiver<String>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

impl Witness {
    /// None where the machine has not what it needs.
    fn start(alliance: &Alliance) -> Option<Witness> {
        let python = python()?;
        let stubs = alliance.folder.join("stubs");
        std::fs::create_dir_all(&stubs).unwrap();
        let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
        let made = Command::new(&python)
            .args(["-m", "grpc_tools.protoc", "-I", proto, "tongban/evidence/v1/evidence.proto"])
            .arg(format!("--python_out={}", stubs.display()))
            .arg(format!("--grpc_python_out={}", stubs.display()))
            .status();
        assert!(made.unwrap().success());
        let city = PathBuf::from(alliance.pki()).join(CITY.0);
        let system = city.join("systems");
        let mut child = Command::new(python)
            .arg(format!("{PYTHON}/witness.py"))
            .args([city.join("ca.pem"), system.join("window.pem"), system.join("window.key")])
            .arg(alliance.config(CITY.0).listen.to_string())
            .arg(city.join("log.vkey"))
            .env("PYTHONPATH", &stubs)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (says, said) = mpsc::unbounded_channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| says.send(line)));
        Some(Witness { child, said })
    }

    /// The size that it sees next, beyond `before`; a fork fails the test.
    async fn sees(&mut self, before: u64) -> u64 {
        loop {
            let line = timeout(PATIENCE, self.said.recv()).await.expect("the witness sees more").unwrap();
            let words: Vec<_> = line.split(' ').collect();
            assert_eq!(words[0], "SEEN", "{line}");
            let size = words[1].parse().unwrap();
            if size > before {
                return size;
            }
        }
    }

    /// Ends it, and gives what it says last.
    async fn ends(mut self) -> (i32, Vec<String>) {
        drop(self.child.stdin.take());
        self.left().await
    }

    async fn left(&mut self) -> (i32, Vec<String>) {
        let mut lines = vec![];
        while let Some(line) = timeout(PATIENCE, self.said.recv()).await.expect("the witness ends") {
            lines.push(line);
        }
        (self.child.wait().unwrap().code().unwrap(), lines)
    }
}

/// A Python that has the packages of the witness.
fn python() -> Option<PathBuf> {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/examples/python/venv/bin/python");
    let given = std::env::var_os("TONGBAN_PYTHON").map(PathBuf::from);
    let able = |python: &PathBuf| {
        let imports = ["-c", "import grpc, grpc_tools, cryptography"];
        Command::new(python).args(imports).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let found = given.into_iter().chain([made, "python3".into()]).find(able);
    if found.is_none() {
        println!("SKIPPED: the witness in Python: grpcio, grpcio-tools or cryptography is not installed");
    }
    found
}

/// Submits until the gateway is gone.
async fn write(client: Client, answers: mpsc::UnboundedSender<()>) {
    while client.submit(envelope(CITY, CITY)).await.is_ok() {
        let _ = answers.send(());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_independent_witness_follows_the_log_through_kills_and_finds_a_planted_fork() {
    let alliance = process::alliance(&[(CITY.0, &[CITY.1])]);
    let Some(mut witness) = Witness::start(&alliance) else { return };
    let (begun, mut seen, mut answered) = (Instant::now(), 0, 0);
    let data = alliance.config(CITY.0).data;
    let copy = data.with_extension("copy");
    let mut gateway = Process::start(&alliance, CITY.0).await;
    for kill in 0..kills() {
        let client = alliance.client(CITY.0, CITY.1);
        let (answers, mut heard) = mpsc::unbounded_channel();
        let writers: Vec<_> = (0..WRITERS).map(|_| tokio::spawn(write(client.clone(), answers.clone()))).collect();
        for _ in 0..=kill % 7 {
            heard.recv().await.unwrap();
            answered += 1;
        }
        let_work(Duration::from_micros(300 * (kill % 23) as u64)).await;
        gateway.kill();
        for writer in writers {
            writer.await.unwrap();
        }
        if kill == kills() / 2 {
            copy_folder(&data, &copy);
        }
        gateway = Process::start(&alliance, CITY.0).await;
        // What was committed before the kill is published by the start that follows, and the witness finds it grown.
        seen = witness.sees(seen).await;
    }
    println!("{} kills in {:.1?}: {answered} answers, the witness saw {seen} leaves", kills(), begun.elapsed());
    let (code, lines) = witness.ends().await;
    assert_eq!(code, 0, "{lines:?}");
    println!("{}", lines.last().unwrap());
    cosigned_by_a_stranger(&lines);

    // The same gateway, put back from the copy that was taken half way: what it signs now it has signed otherwise before.
    let mut witness = Witness::start(&alliance).unwrap();
    assert_eq!(witness.sees(0).await, seen);
    gateway.kill();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&copy, &data).unwrap();
    let began = Instant::now();
    let _copied = Process::start(&alliance, CITY.0).await;
    let (code, lines) = witness.left().await;
    assert_eq!((code, lines[0].split(' ').next()), (2, Some("FORK")), "{lines:?}");
    println!("the copy was found out after {:.1?}", began.elapsed());
}

/// What the witness cosigned in its language holds in ours.
fn cosigned_by_a_stranger(lines: &[String]) {
    let place = lines.iter().position(|line| line.starts_with("COSIGNED ")).unwrap();
    let words: Vec<_> = lines[place].split(' ').collect();
    let key: [u8; 32] = STANDARD.decode(words[1]).unwrap().try_into().unwrap();
    let witness = WitnessKey::of(&VerifyingKey::new("witness.example/w1", &key).unwrap());
    let note = format!("{}\n\n{}\n", words[2..].join("\n"), lines[place + 1]);
    assert_eq!(cosigners(&note, &[witness]).unwrap().len(), 1, "{note}");
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}
