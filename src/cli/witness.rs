//! Decides how `tongban witness` shows what this gateway has seen of the logs of others: how far each had come, and the notes
//! of those that contradict themselves. Works beside the gateway, on its files alone, and never clears anything.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::config::Configured;
use super::out::table;
use super::{Answer, Exit, Failure, Lang, Out};
use crate::config::Config;
use crate::directory::Directory;
use crate::keys;
use crate::noticeboard::Noticeboard;
use crate::store::{Fork, Notes, Sightings, SightingsError};
use crate::time::Time;
use crate::tlog::checkpoint::Checkpoint;
use crate::tlog::consistency::verify_consistency;
use crate::tlog::cosignature::{WitnessKey, cosigners};
use crate::tlog::note::VerifyingKey;

/// Show what this gateway has seen of the logs of others
#[derive(Subcommand)]
pub enum Command {
    /// List every log that was seen: how far it had come, when, and whether it is of one piece
    List {
        #[command(flatten)]
        configured: Configured,
    },
    /// Print the notes of logs that contradict themselves, and whether they prove it; of one log also the newest one seen
    Show(Show),
}

#[derive(Args)]
pub struct Show {
    #[command(flatten)]
    configured: Configured,
    /// The log's name, or its beginning, e.g. a city's division code
    #[arg(value_name = "LOG", default_value = "")]
    log: String,
}

/// Runs one command of the family; 1 when a log contradicts itself.
pub fn run(command: &Command, out: &Out) -> Answer {
    match command {
        Command::List { configured } => list(&read(configured)?, out),
        Command::Show(show) => print(&read(&show.configured)?, &show.log, out),
    }
}

/// What was seen, and by which keys it is judged.
struct Seen {
    keys: Vec<VerifyingKey>,
    logs: Vec<(String, String)>,
    behind: Vec<String>,
    forks: Vec<Fork>,
}

fn read(configured: &Configured) -> Result<Seen, Failure> {
    let config = configured.read().map_err(|fault| Failure::new(Exit::Config, &fault, fault.zh()))?;
    let directory = directory(&config)?;
    let keys = directory.entries().flat_map(|entry| entry.record.log_keys.clone()).collect();
    let sightings = Sightings::in_folder(&config.data);
    let seen = || -> Result<_, SightingsError> { Ok((sightings.all()?, sightings.all_behind()?, sightings.forks()?)) };
    let (logs, behind, forks) = seen().map_err(unread)?;
    Ok(Seen { keys, logs, behind, forks })
}

/// The directory with what was carried since.
fn directory(config: &Config) -> Result<Directory, Failure> {
    let key = keys::read_text(&config.alliance_key)?;
    let key = VerifyingKey::parse(key.trim_end()).map_err(unread)?;
    let notes = Notes::in_folder(&config.data).map_err(unread)?;
    let text = keys::read_text(&config.directory)?;
    let board = Noticeboard::open(key, text, notes, Box::new(|_, _| Ok(()))).map_err(unread)?;
    Ok(board.directory())
}

fn unread(fault: impl std::fmt::Display) -> Failure {
    let zh = format!("无法读取：{fault}");
    Failure::new(Exit::Data, fault, zh)
}

fn list(seen: &Seen, out: &Out) -> Answer {
    let rows: Vec<_> = seen.logs.iter().map(|(origin, note)| (origin, note, state(seen, origin))).collect();
    let shown: Vec<_> = rows.iter().map(|(origin, note, state)| log_json(seen, origin, note, state)).collect();
    out.show(&shown, || {
        let head = match out.lang {
            Lang::En => ["log", "leaves", "cosigned at", "state"],
            Lang::Zh => ["日志", "叶子数", "联署时间", "状态"],
        };
        let row = |(origin, note, state): &(&String, &String, &'static str)| {
            let size = Checkpoint::claimed(note).map(|claimed| claimed.size.to_string()).unwrap_or_default();
            let word = match *state {
                "forked" => out.lang.tr("FORKED", "已分叉"),
                "shrunk" => out.lang.tr("SHRUNK", "叶子减少"),
                _ => out.lang.tr("of one piece", "一致"),
            };
            vec![(*origin).clone(), size, cosigned_at(seen, note), word.to_owned()]
        };
        table(&head, rows.iter().map(row))
    })?;
    tell(seen, out);
    Ok(if seen.forks.is_empty() { Exit::Done } else { Exit::No })
}

fn state(seen: &Seen, origin: &str) -> &'static str {
    if seen.forks.iter().any(|fork| fork.origin == origin) {
        return "forked";
    }
    if seen.behind.iter().any(|behind| behind == origin) { "shrunk" } else { "whole" }
}

/// When we cosigned it, by our own line in it.
fn cosigned_at(seen: &Seen, note: &str) -> String {
    let witnesses: Vec<_> = seen.keys.iter().map(WitnessKey::of).collect();
    let newest = cosigners(note, &witnesses).ok().and_then(|all| all.into_iter().map(|one| one.at_s).max());
    newest.map(|at_s| Time::from_ms(at_s.saturating_mul(1000)).to_string()).unwrap_or_default()
}

fn log_json(seen: &Seen, origin: &str, note: &str, state: &str) -> Value {
    let size = Checkpoint::claimed(note).map(|claimed| claimed.size).ok();
    json!({ "log": origin, "leaves": size, "cosigned_at": cosigned_at(seen, note), "state": state, "note": note })
}

/// Says what is wrong, and what proves it.
fn tell(seen: &Seen, out: &Out) {
    if seen.forks.is_empty() {
        return;
    }
    let count = seen.forks.len();
    out.say(&out.lang.tr(format!("{count} logs contradict themselves"), format!("有 {count} 个日志自相矛盾")));
    out.hint("`tongban witness show` prints the notes that prove it", "tongban witness show 会打印作为证据的文书");
}

fn print(seen: &Seen, log: &str, out: &Out) -> Answer {
    let forks: Vec<_> = seen.forks.iter().filter(|fork| fork.origin.starts_with(log)).collect();
    let held: Vec<_> = seen.logs.iter().filter(|(origin, _)| !log.is_empty() && origin.starts_with(log)).collect();
    let shown = json!({
        "forks": forks.iter().map(|fork| fork_json(seen, fork)).collect::<Vec<_>>(),
        "seen": held.iter().map(|(origin, note)| log_json(seen, origin, note, state(seen, origin))).collect::<Vec<_>>(),
    });
    out.show(&shown, || {
        let newest = held.iter().map(|(_, note)| note.clone());
        let notes = forks.iter().map(|fork| {
            let verdict = judged(seen, fork);
            let proof: String = fork.proof.iter().map(|hash| format!("{hash}\n")).collect();
            let words = out.lang.tr(verdict.0, verdict.1);
            format!("{}: {words}\n\n{}\n{}\n{proof}", fork.origin, fork.first, fork.second)
        });
        newest.chain(notes).collect::<Vec<_>>().join("\n")
    })?;
    Ok(if forks.is_empty() { Exit::Done } else { Exit::No })
}

fn fork_json(seen: &Seen, fork: &Fork) -> Value {
    let proof: Vec<_> = fork.proof.iter().map(ToString::to_string).collect();
    json!({ "log": fork.origin, "verdict": judged(seen, fork).0, "first": fork.first, "second": fork.second, "proof": proof })
}

/// What the two notes prove, judged anew.
fn judged(seen: &Seen, fork: &Fork) -> (&'static str, &'static str) {
    let open = |note: &str| Checkpoint::open(note, &seen.keys).ok().filter(|one| one.origin == fork.origin);
    let (Some(first), Some(second)) = (open(&fork.first), open(&fork.second)) else {
        return (
            "one of the two notes is not signed by a key that the directory lists",
            "其中一份文书的签名密钥不在名录中",
        );
    };
    if first.size == second.size && first.root != second.root {
        return (
            "PROVED: both are signed by the log, two roots at one size",
            "已证实：两份均由该日志签署，同一大小有两个根哈希",
        );
    }
    let (older, newer) = if first.size <= second.size { (&first, &second) } else { (&second, &first) };
    match verify_consistency((older.size, &older.root), (newer.size, &newer.root), &fork.proof) {
        Err(_) => (
            "both are signed by the log, and what it gave as proof does not lead from the one to the other",
            "两份均由该日志签署，而其给出的证明不能由前者导出后者",
        ),
        Ok(()) => ("the two notes do not contradict each other", "两份文书并不矛盾"),
    }
}
