//! Decides how one case is shown and handed over: as tables at the terminal, or as a file with everything that proves it.
//! Never puts a content into it without a reason that goes on record.

mod archive;
mod drawing;
mod files;
mod gather;
mod guide;
mod page;
mod story;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use self::gather::{CaseFile, gather};
use self::story::{Scene, tell};
use super::client::{As, Client, converse};
use super::message::state_zh;
use super::out::table;
use super::receipt::Files;
use super::{Answer, Exit, Failure, Lang, Out, files as disk};
use crate::message::CaseNo;

#[derive(Subcommand)]
pub enum Command {
    /// Show the messages of a case and what happened to them
    Show(Show),
    /// Write the file of a case: headers, receipts, proofs, keys, certificates, a page to read and print, how to verify
    Export(Export),
}

#[derive(Args)]
pub struct Show {
    #[command(flatten)]
    who: As,
    /// The case number, as it was sent
    #[arg(value_name = "CASE")]
    case_no: CaseNo,
}

#[derive(Args)]
pub struct Export {
    #[command(flatten)]
    who: As,
    /// The case number, as it was sent
    #[arg(value_name = "CASE")]
    case_no: CaseNo,
    /// The archive [default: case-CASE.tar]
    #[arg(long, value_name = "FILE", conflicts_with = "folder")]
    out: Option<PathBuf>,
    /// Write the files into this folder in place of an archive
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Put the contents in too; only an operator may, and each look goes on record with its reason
    #[arg(long, requires = "reason")]
    with_bodies: bool,
    /// Why the contents are needed; auditors read it
    #[arg(long, value_name = "TEXT", requires = "with_bodies")]
    reason: Option<String>,
}

/// Runs one command of the family.
pub fn run(command: &Command, out: &Out) -> Answer {
    match command {
        Command::Show(args) => show(args, out),
        Command::Export(args) => export_as(args, out),
    }
}

fn show(args: &Show, out: &Out) -> Answer {
    let case = converse(&args.who, async |client| gather(&client, &args.case_no, None).await)?;
    out.show(&json_of(&case), || format!("{}\n{}", messages(&case, out.lang), events(&case, out.lang)))?;
    Ok(Exit::Done)
}

fn export_as(args: &Export, out: &Out) -> Answer {
    let reason = args.reason.as_deref();
    let case = converse(&args.who, async |client| gather(&client, &args.case_no, reason).await)?;
    let to = match (&args.folder, &args.out) {
        (Some(folder), _) => write_folder(&case, folder)?,
        (None, Some(file)) => write_archive(&case, file)?,
        (None, None) => write_archive(&case, Path::new(&format!("{}.tar", files::top(&case.case_no))))?,
    };
    let receipts: usize = case.messages.iter().map(|one| one.receipts.len()).sum();
    let value = json!({ "case_no": case.case_no.as_str(), "file": to, "messages": case.messages.len(),
        "receipts": receipts, "with_bodies": case.with_bodies });
    out.show(&value, || to.display().to_string())?;
    let count = case.messages.len();
    out.say(&out.lang.tr(
        format!("{count} messages, {receipts} receipts; every receipt was verified on the way in"),
        format!("{count} 条消息，{receipts} 份回执；写入前已逐份验证"),
    ));
    out.hint(
        "read index.html first; VERIFY.txt says how anyone verifies it",
        "请先看 index.html；VERIFY.txt 说明如何验证",
    );
    Ok(Exit::Done)
}

/// Writes a case as `client` sees it into a folder; the page to open. For a demo's end.
pub(super) async fn export(client: &Client, case_no: &CaseNo, folder: &Path) -> Result<PathBuf, Failure> {
    let case = gather(client, case_no, None).await?;
    Ok(write_folder(&case, folder)?.join("index.html"))
}

fn write_folder(case: &CaseFile, folder: &Path) -> Result<PathBuf, Failure> {
    for (path, bytes) in files::of(case)? {
        let (inner, name) = path.rsplit_once('/').unwrap_or(("", &path));
        disk::folder(&folder.join(inner))?;
        disk::keep(&folder.join(inner), &[(name.to_owned(), bytes)])?;
    }
    Ok(folder.to_owned())
}

fn write_archive(case: &CaseFile, file: &Path) -> Result<PathBuf, Failure> {
    let top = files::top(&case.case_no);
    let files: Files = files::of(case)?.into_iter().map(|(path, bytes)| (format!("{top}/{path}"), bytes)).collect();
    let packed = archive::tar(&files, case.made_at)
        .map_err(|why| Failure::new(Exit::Software, &why, format!("无法写入归档：{why}")))?;
    let (Some(name), folder) = (file.file_name(), file.parent().unwrap_or(Path::new(""))) else {
        return Err(Failure::new(Exit::Usage, "--out names no file", "--out 没有指明文件"));
    };
    disk::keep(folder, &[(name.to_string_lossy().into_owned(), packed)])?;
    Ok(file.to_owned())
}

fn messages(case: &CaseFile, lang: Lang) -> String {
    let head = match lang {
        Lang::En => ["", "message", "from", "to", "item", "step", "state", "receipts"],
        Lang::Zh => ["", "消息", "发送方", "接收方", "事项", "环节", "状态", "回执"],
    };
    let rows = case.messages.iter().zip(1..).map(|(one, number): (_, usize)| {
        let (told, state) = (&one.told, lang.tr(one.told.state.as_str(), state_zh(one.told.state)).to_owned());
        let receipts = one.receipts.len().to_string();
        let said = [&told.id, &told.from, &told.to, &told.item_code, &told.step].map(Clone::clone);
        [number.to_string()].into_iter().chain(said).chain([state, receipts]).collect()
    });
    table(&head, rows)
}

fn events(case: &CaseFile, lang: Lang) -> String {
    let head = match lang {
        Lang::En => ["time", "message", "event", "what happened", "reasons"],
        Lang::Zh => ["时间", "消息", "事件", "经过", "原因"],
    };
    let story = tell(case);
    let row = |scene: &Scene| {
        let (zh, en) = page::event_words(scene.event);
        let words = lang.tr(en, zh);
        let number = (scene.message + 1).to_string();
        let what = format!("{}: {words}", story.way(scene));
        vec![scene.at.to_string(), number, scene.event.to_string(), what, scene.reasons.join(" ")]
    };
    table(&head, story.scenes.iter().map(row))
}

fn json_of(case: &CaseFile) -> Value {
    let story = tell(case);
    let event = |scene: &Scene| {
        json!({ "time": scene.at.to_string(), "message": scene.message + 1, "event": scene.event.as_str(),
            "way": story.way(scene), "step": scene.step, "reasons": scene.reasons })
    };
    json!({
        "case_no": case.case_no.as_str(),
        "messages": case.messages.iter().map(|one| one.told.json()).collect::<Vec<_>>(),
        "events": story.scenes.iter().map(event).collect::<Vec<_>>(),
    })
}
