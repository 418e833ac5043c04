//! Decides what `tongban demo` shows: five cities and their hub on this machine, each a process of its own, and cases that travel
//! between them until every receipt is home and verified, though one gateway is killed and one is away meanwhile. Never touches
//! anything outside its own folder, and leaves no process.

mod board;
mod cases;
mod cast;
mod course;
mod diary;
mod drama;
mod judge;
mod office;
mod play;
mod stage;
mod summary;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use self::play::{Played, play};
use self::stage::{Gateways, Stage};
use super::{Answer, Exit, Failure, Out, files, now, receipt, verify};

/// Run five cities and a hub on this machine and let cases travel between them
///
/// Everything is real but the cities' offices: certificates, gateways, stores, logs. Liuzhou (450200) works with Foshan (440600),
/// Xiamen (350200), Zhanjiang (440800), whose gateway fetches, and Yinchuan (640100), which is reached through the hub alone. Cases
/// go through their steps; some are refused, some must be supplemented. Meanwhile Foshan's gateway is killed, and Xiamen's is away
/// for a while. At the end all gateways are stopped, and the run is judged by what the cities' systems wrote down and by the exported
/// receipts alone. Item names come with the mark sourced or unverified, see data/README.md; item codes, case numbers and
/// contents are made up.
#[derive(Args)]
pub struct Demo {
    /// How many cases travel
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=9_999))]
    cases: u32,
    /// A new folder for all that the demo makes [default: one among the temporary files]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// End when all is verified, as this demo always does; for scripts
    #[arg(long)]
    exit: bool,
}

/// Plays the demo and says where its files lie.
pub fn run(args: &Demo, out: &Out) -> Answer {
    let started = Instant::now();
    let _ = args.exit;
    let folder = empty_folder(args.out.clone().unwrap_or_else(default_folder))?;
    let stage = Stage::build(&folder, out)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let played = runtime.block_on(perform(&stage, args.cases as usize, started, out));
    runtime.shutdown_background();
    let played = played.map_err(|failure| left_behind(failure, &folder))?;
    write_receipts(&played, &folder)?;
    let (verdicts, chains) = verify::folder(&folder.join("receipts"), &folder.join("trust"), out)?;
    let mut lines = Vec::new();
    for city in cast::CITIES {
        lines.extend(diary::read(&city.diary(&folder))?);
    }
    let findings = judge::judge(&lines, &verdicts);
    let summary = summary::Summary {
        played: &played,
        verdicts: &verdicts,
        chains: &chains,
        findings: &findings,
        folder: &folder,
    };
    summary.show(started.elapsed(), out)?;
    Ok(summary.answer())
}

/// Raises the stage, plays, and strikes it again, whatever happens in between.
async fn perform(stage: &Stage, cases: usize, started: Instant, out: &Out) -> Result<Played, Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let gateways = stage.raise(out)?;
    let played = tokio::select! {
        played = act(stage, &gateways, cases, started, out) => played,
        _ = interrupt.recv() => Err(interrupted()),
        _ = terminate.recv() => Err(interrupted()),
    };
    let stopped = gateways.stop_all().await;
    let played = played?;
    stopped?;
    Ok(played)
}

async fn act(
    stage: &Stage,
    gateways: &Gateways<'_>,
    cases: usize,
    started: Instant,
    out: &Out,
) -> Result<Played, Failure> {
    let clients = stage.clients()?;
    gateways.ready(clients.iter()).await?;
    stage.publish(out)?;
    let played = play(clients, gateways, cases, started, &stage.folder, out).await?;
    gateways.keep_figures().await?;
    Ok(played)
}

fn interrupted() -> Failure {
    Failure::new(Exit::No, "interrupted; all gateways are stopped", "已中断，所有网关均已停止")
}

fn left_behind(failure: Failure, folder: &Path) -> Failure {
    let folder = folder.display();
    failure.hint(format!("logs and stores of all gateways are in {folder}"), format!("各网关的日志与存储在 {folder}"))
}

fn default_folder() -> PathBuf {
    let stamp: String = now().to_string().chars().filter(char::is_ascii_alphanumeric).collect();
    std::env::temp_dir().join(format!("tongban-demo-{stamp}"))
}

/// The folder, made if need be. One with anything in it is refused: the demo overwrites nothing.
fn empty_folder(folder: PathBuf) -> Result<PathBuf, Failure> {
    files::folder(&folder)?;
    let folder = std::path::absolute(folder)?;
    if std::fs::read_dir(&folder)?.next().is_some() {
        let dir = folder.display();
        let failure =
            Failure::new(Exit::CantCreate, format!("{dir}: the folder is not empty"), format!("{dir}：文件夹不为空"));
        return Err(failure.hint("name a new folder with --out", "请用 --out 指明新文件夹"));
    }
    Ok(folder)
}

/// All receipts of all messages side by side, and beside their folder the keys that verify them.
fn write_receipts(played: &Played, folder: &Path) -> Result<(), Failure> {
    let receipts = folder.join("receipts");
    files::folder(&receipts)?;
    for case in &played.cases {
        for (place, message) in case.messages.iter().enumerate() {
            let (_, all) = receipt::files_of(&format!("{}-", case.name(place)), &message.receipts)?;
            files::keep(&receipts, &all)?;
        }
    }
    files::keep(folder, &[("trust".to_owned(), played.trust.clone().into_bytes())])
}

/// Nothing may take longer without any change.
const STANDSTILL: Duration = Duration::from_secs(30);
