//! Decides what `tongban receipt` offers: the receipts of one message as a table, or as files that anyone verifies
//! offline. Never writes a receipt that it has not checked.

mod export;
mod order;
pub mod render;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

pub use export::{Files, files_of, trust};
pub use order::in_order;

use super::client::{As, Client, Grade, Trouble, converse};
use super::message::{Which, follow, unended};
use super::out::table;
use super::span::Span;
use super::{Answer, Exit, Failure, Lang, Out, files, verify};
use crate::directory::Directory;
use crate::id::MessageId;
use crate::party::Division;
use crate::receipt::Checked;
use crate::tlog::cosignature::{WitnessKey, cosigners};

/// Show or export the receipts of a message
#[derive(Subcommand)]
pub enum Command {
    /// Show the receipts of a message, oldest first
    Get(Get),
    /// Write the receipts of a message as files that anyone verifies offline, with the keys of the alliance's logs
    Export(Export),
}

#[derive(Args)]
pub struct Get {
    #[command(flatten)]
    who: As,
    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
pub struct Export {
    #[command(flatten)]
    who: As,
    #[command(flatten)]
    which: Which,
    /// The folder, new or with an earlier export of the same message
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Wait first until the message has ended, for a minute or as long as given
    #[arg(long, value_name = "SPAN", num_args = 0..=1, require_equals = true, default_missing_value = "60s")]
    wait: Option<Span>,
    /// Prove the gateway's own receipts under published checkpoints that partners have cosigned
    #[arg(long)]
    sealed: bool,
}

/// Runs one command of the family.
pub fn run(command: &Command, out: &Out) -> Answer {
    match command {
        Command::Get(args) => get(args, out),
        Command::Export(args) => export(args, out),
    }
}

fn get(args: &Get, out: &Out) -> Answer {
    let (_, receipts) = fetch(&args.who, &args.which, (None, Grade::Instant), out)?;
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

fn export(args: &Export, out: &Out) -> Answer {
    let to = &args.out;
    let grade = if args.sealed { Grade::Sealed } else { Grade::Instant };
    let (directory, receipts) = fetch(&args.who, &args.which, (args.wait, grade), out)?;
    let (names, mut all) = files_of("", &receipts)?;
    all.push(("trust".to_owned(), trust(&directory, grade).into_bytes()));
    files::folder(to)?;
    files::keep(to, &all).map_err(|failure| {
        failure.hint("name a folder for this message alone, with --out", "请用 --out 为这条消息单独指定文件夹")
    })?;
    show_export(&names, to, out)?;
    if args.sealed {
        tell_unsealed(&directory, &receipts, out);
    }
    tell_unended(&receipts, out);
    Ok(Exit::Done)
}

fn show_export(names: &[String], to: &Path, out: &Out) -> Result<(), Failure> {
    let verify = format!("tongban verify {0} --trust {0}/trust", to.display());
    let shown = json!({ "dir": to, "receipts": names, "trust": to.join("trust"), "verify": verify });
    out.show(&shown, || names.join("\n"))?;
    let (count, dir) = (names.len(), to.display());
    out.say(&out.lang.tr(
        format!("{count} receipts in {dir}; the .json files only help to read, they prove nothing"),
        format!("{dir} 中有 {count} 份回执；.json 文件仅供阅读，不具证明力"),
    ));
    out.hint(&verify, &verify);
    Ok(())
}

/// Says which receipts nobody has cosigned; they hold as they were issued.
fn tell_unsealed(directory: &Directory, receipts: &[Checked], out: &Out) {
    let own = receipts.iter().map(|checked| (seals(directory, checked), &checked.evidence.issuer));
    let unsealed: Vec<_> = own.filter(|(seals, _)| *seals == 0).map(|(_, issuer)| issuer).collect();
    if unsealed.is_empty() {
        return;
    }
    let (count, all) = (unsealed.len(), receipts.len());
    out.say(&out.lang.tr(
        format!("{count} of {all} receipts carry no cosignature: those of other gateways, and new ones"),
        format!("{all} 份回执中有 {count} 份没有联署：其他网关的回执，或刚签发的回执"),
    ));
    out.hint(
        "each gateway seals its own receipts; a new one is cosigned within a minute or so",
        "各网关只封存自己的回执；新回执约一分钟内会得到联署",
    );
}

/// How many members of the alliance have cosigned a receipt's checkpoint.
fn seals(directory: &Directory, checked: &Checked) -> usize {
    let keys = directory.entries().filter(|entry| entry.record.member != checked.evidence.issuer);
    let witnesses: Vec<_> = keys.flat_map(|entry| entry.record.log_keys.iter().map(WitnessKey::of)).collect();
    cosigners(&checked.receipt.proof.checkpoint_note, &witnesses).map_or(0, |cosigned| cosigned.len())
}

/// Says that more will come, where the receipts show no end.
fn tell_unended(receipts: &[Checked], out: &Out) {
    let state = verify::state(receipts.iter().map(|checked| &checked.evidence));
    if let Some(state) = state.filter(|state| !state.is_final()) {
        out.say(&out.lang.tr(
            format!("the message has not ended ({state}): more receipts will come"),
            format!("消息尚未办结（{state}），还会有后续回执"),
        ));
        out.hint("wait for its end with --wait", "可用 --wait 等到办结");
    }
}

/// The receipts of a message, when it has ended if that is to be awaited, and the directory that checked them.
fn fetch(
    who: &As,
    which: &Which,
    (wait, grade): (Option<Span>, Grade),
    out: &Out,
) -> Result<(Directory, Vec<Checked>), Failure> {
    converse(who, async |client| {
        if let Some(patience) = wait {
            let followed = follow(&client, which.from.as_ref(), which.id, patience).await;
            let told = followed.map_err(|trouble| trouble.shown(out))?;
            if !told.state.is_final() {
                return Err(unended(&told, patience, &client.me.to_string()));
            }
        }
        let found = of_message(&client, which.from.as_ref(), which.id, grade).await;
        let receipts = found.map_err(|trouble| trouble.shown(out))?;
        Ok((client.directory, receipts))
    })
}

/// The receipts of a message in order, every one checked and about this message.
pub async fn of_message(
    client: &Client,
    from: Option<&Division>,
    id: MessageId,
    grade: Grade,
) -> Result<Vec<Checked>, Trouble> {
    let found = client.evidence(from, id, grade).await?;
    let receipts = found.into_iter().map(|receipt| client.check(receipt)).collect::<Result<Vec<_>, _>>()?;
    match receipts.iter().find(|checked| checked.evidence.message_id != id) {
        None => Ok(in_order(receipts)),
        Some(other) => {
            let id = other.evidence.id;
            Err(Trouble::unsound(format!("receipt {id} is about another message"), format!("回执 {id} 属于另一消息")))
        }
    }
}
