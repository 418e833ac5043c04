//! Decides what `tongban receipt` offers: the receipts of one message as a table, or as files that anyone verifies
//! offline. Never writes a receipt that it has not checked.

mod export;
mod order;
pub mod render;

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

pub use export::{export, trust};
pub use order::in_order;

use super::client::{As, Trouble, converse};
use super::message::Which;
use super::out::table;
use super::{Answer, Exit, Failure, Lang, Out};
use crate::directory::Directory;
use crate::receipt::Checked;

/// Show or export the receipts of a message
#[derive(Subcommand)]
pub enum Command {
    /// Show the receipts of a message, oldest first
    Get {
        #[command(flatten)]
        who: Box<As>,
        #[command(flatten)]
        which: Which,
    },
    /// Write the receipts of a message as files that anyone verifies offline, with the keys of the alliance's logs
    Export {
        #[command(flatten)]
        who: Box<As>,
        #[command(flatten)]
        which: Which,
        /// The folder, new or with an earlier export of the same message
        #[arg(long)]
        out: PathBuf,
    },
}

/// Runs one command of the family.
pub fn run(command: &Command, out: &Out) -> Answer {
    match command {
        Command::Get { who, which } => get(who, which, out),
        Command::Export { who, which, out: to } => {
            let (directory, receipts) = fetch(who, which, out)?;
            let written = export(&receipts, &directory, to)?;
            show_export(&written, to, out)?;
            Ok(Exit::Done)
        }
    }
}

fn get(who: &As, which: &Which, out: &Out) -> Answer {
    let (_, receipts) = fetch(who, which, out)?;
    out.show(&receipts.iter().map(render::receipt).collect::<Vec<_>>(), || {
        let head = match out.lang {
            Lang::En => ["time", "event", "issuer", "log", "index", "receipt"],
            Lang::Zh => ["时间", "事件", "签发者", "日志", "序号", "回执"],
        };
        table(&head, receipts.iter().map(row))
    })?;
    Ok(Exit::Done)
}

fn row(checked: &Checked) -> Vec<String> {
    let Checked { evidence, log_origin, receipt, .. } = checked;
    let event = match &evidence.witnessed {
        Some(witnessed) => format!("{} ({})", evidence.event, witnessed.issuer),
        None => evidence.event.to_string(),
    };
    let (at, issuer, id) = (evidence.at.to_string(), evidence.issuer.to_string(), evidence.id.to_string());
    vec![at, event, issuer, log_origin.clone(), receipt.proof.index.to_string(), id]
}

/// The receipts of a message, every one checked, and the directory that they were checked with.
fn fetch(who: &As, which: &Which, out: &Out) -> Result<(Directory, Vec<Checked>), Failure> {
    converse(who, async |client| {
        let found = client.evidence(which.from.as_ref(), which.id).await.map_err(|trouble| trouble.shown(out))?;
        let checked = found.into_iter().map(|receipt| client.check(receipt)).collect::<Result<Vec<_>, Trouble>>()?;
        about_one(&checked, which)?;
        Ok((client.directory, in_order(checked)))
    })
}

/// Whether all receipts speak of the message that was asked for.
fn about_one(receipts: &[Checked], which: &Which) -> Result<(), Trouble> {
    match receipts.iter().find(|checked| checked.evidence.message_id != which.id) {
        None => Ok(()),
        Some(other) => {
            let id = other.evidence.id;
            Err(Trouble::unsound(format!("receipt {id} is about another message"), format!("回执 {id} 属于另一消息")))
        }
    }
}

fn show_export(written: &[String], to: &std::path::Path, out: &Out) -> Result<(), Failure> {
    let verify = format!("tongban verify {0} --trust {0}/trust", to.display());
    out.show(&json!({ "dir": to, "receipts": written, "trust": to.join("trust"), "verify": verify }), || {
        written.join("\n")
    })?;
    let (count, dir) = (written.len(), to.display());
    out.say(&out.lang.tr(
        format!("{count} receipts in {dir}; the .json files only help to read, they prove nothing"),
        format!("{dir} 中有 {count} 份回执；.json 文件仅供阅读，不具证明力"),
    ));
    out.hint(&verify, &verify);
    Ok(())
}
