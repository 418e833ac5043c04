//! Decides how `tongban route` shows, plans, publishes, rolls back and explains the routing tables of a running gateway.
//! Never publishes what it has not shown first, unless it is told to.

mod files;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::{As, Asked, Client, Planned, address, converse};
use super::when::when;
use super::{Answer, Exit, Failure, Out, consent};
use crate::lang::Unfit;
use crate::message::{Address, ItemCode, Mode, Step};
use crate::party::{Division, Member};
use crate::routing::mode_from;
use crate::time::Time;

#[derive(Subcommand)]
pub enum Command {
    /// Show the tables in force, or an earlier version
    Show {
        #[command(flatten)]
        who: As,
        /// The version [default: the one in force]
        #[arg(long, value_name = "N")]
        version: Option<u64>,
        /// Print this owner's table as a file
        #[arg(long, value_name = "CITY")]
        owner: Option<Division>,
    },
    /// Show what publishing these files would change
    Plan {
        #[command(flatten)]
        who: As,
        #[command(flatten)]
        files: Files,
    },
    /// Put these files in force
    Publish {
        #[command(flatten)]
        who: As,
        #[command(flatten)]
        files: Files,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Put an earlier version in force again
    Rollback {
        #[command(flatten)]
        who: As,
        /// The version to return to
        version: u64,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Say where a message would go, and why
    Explain {
        #[command(flatten)]
        who: As,
        #[command(flatten)]
        message: Message,
    },
}

/// The tables that are meant.
#[derive(Args)]
pub struct Files {
    /// Files of routing tables, or folders of them (*.toml)
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Owners without a file lose their tables
    #[arg(long)]
    complete: bool,
}

/// What is asked about.
#[derive(Args)]
pub struct Message {
    /// The service item (事项实施编码)
    #[arg(long)]
    item: ItemCode,
    /// The recipient: a city, or one of its systems [default: left open]
    #[arg(long, value_name = "CITY[/SYSTEM]", value_parser = address)]
    to: Option<Address>,
    /// The competent division (管辖区划)
    #[arg(long, value_name = "DIVISION")]
    jurisdiction: Option<Division>,
    /// The step (环节)
    #[arg(long)]
    step: Option<Step>,
    /// The mode (办理模式): online, proxy or joint
    #[arg(long, value_parser = mode)]
    mode: Option<Mode>,
    /// The moment, e.g. 2026-01-31T08:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = when)]
    at: Option<Time>,
    /// The member whose gateway brings it [default: one of the own systems]
    #[arg(long, value_name = "MEMBER")]
    via: Option<Member>,
}

fn mode(text: &str) -> Result<Mode, Unfit> {
    let must = || Unfit::new("must be online, proxy or joint", "应为 online、proxy 或 joint");
    mode_from(text).ok_or_else(must)
}

/// Runs one command of the family.
pub fn run(command: &Command, out: &Out) -> Answer {
    match command {
        Command::Show { who, version, owner } => converse(who, async |client| {
            let tables = client.tables(*version).await.map_err(|trouble| trouble.shown(out))?;
            show::tables(&tables, owner.as_ref(), out)
        }),
        Command::Plan { who, files } => {
            let texts = files::read(&files.paths)?;
            converse(who, async |client| {
                let planned = client.plan_tables(texts, files.complete).await;
                show::plan(&planned.map_err(|trouble| trouble.shown(out))?, out)?;
                Ok(Exit::Done)
            })
        }
        Command::Publish { who, files, yes } => {
            let texts = files::read(&files.paths)?;
            converse(who, async |client| publish(&client, texts, files.complete, *yes, out).await)
        }
        Command::Rollback { who, version, yes } => {
            converse(who, async |client| rollback(&client, *version, *yes, out).await)
        }
        Command::Explain { who, message } => converse(who, async |client| {
            let explained = client.explain(&message.asked()).await;
            let (notes, decided, version) = explained.map_err(|trouble| trouble.shown(out))?;
            show::explanation(&notes, &decided, version, out)?;
            Ok(if decided.goes() { Exit::Done } else { Exit::No })
        }),
    }
}

async fn publish(client: &Client, texts: Vec<String>, complete: bool, yes: bool, out: &Out) -> Answer {
    let planned = client.plan_tables(texts.clone(), complete).await.map_err(|trouble| trouble.shown(out))?;
    if !agreed(&planned, yes, out)? {
        return Ok(if planned.changes.is_empty() { Exit::Done } else { Exit::No });
    }
    let put = client.publish_tables(planned.etag.clone(), texts, complete).await;
    in_force(put.map_err(|trouble| trouble.shown(out))?, &planned, out)
}

async fn rollback(client: &Client, version: u64, yes: bool, out: &Out) -> Answer {
    let earlier = client.tables(Some(version)).await.map_err(|trouble| trouble.shown(out))?;
    let texts = earlier.tables.into_iter().map(|table| table.toml).collect();
    let planned = client.plan_tables(texts, true).await.map_err(|trouble| trouble.shown(out))?;
    if !agreed(&planned, yes, out)? {
        return Ok(if planned.changes.is_empty() { Exit::Done } else { Exit::No });
    }
    let put = client.rollback_tables(planned.etag.clone(), version).await;
    in_force(put.map_err(|trouble| trouble.shown(out))?, &planned, out)
}

fn in_force(version: u64, planned: &Planned, out: &Out) -> Answer {
    let shown = json!({ "version": version, "was": planned.version, "changes": planned.changes });
    out.show(&shown, || out.lang.tr(format!("version {version} is in force"), format!("第 {version} 版已生效")))?;
    Ok(Exit::Done)
}

/// Whether the plan is to be carried out: shown first, and asked unless `yes`. An empty one is not.
fn agreed(planned: &Planned, yes: bool, out: &Out) -> Result<bool, Failure> {
    if planned.changes.is_empty() {
        show::plan(planned, out)?;
        return Ok(false);
    }
    if !out.json() {
        show::plan(planned, out)?;
    }
    consent::given(yes, ("publish this?", "确认发布？"), out)
}

impl Message {
    fn asked(&self) -> Asked {
        Asked {
            to: self.to.clone(),
            jurisdiction: self.jurisdiction.clone(),
            item: self.item.clone(),
            step: self.step.clone(),
            mode: self.mode,
            at: self.at,
            via: self.via.clone(),
        }
    }
}
