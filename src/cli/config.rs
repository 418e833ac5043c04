//! Decides which configuration a command reads, and how `tongban config` shows what holds and why. Never changes a file.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::out::table;
use super::{Answer, Exit, Lang, Out};
use crate::config::keys::{Effect, Key};
use crate::config::{Change, Config, ConfigError, Fault, Origin, Setting, Source, sample};

/// Where a command's configuration comes from.
#[derive(Args, Clone)]
pub struct Configured {
    /// The main configuration file; those in conf.d beside it, and TONGBAN_SECTION__NAME, hold before it
    #[arg(long, default_value = "tongban.toml")]
    config: PathBuf,
    /// One setting, before all else; as often as wanted
    #[arg(long, value_name = "SECTION.NAME=VALUE")]
    set: Vec<String>,
}

impl Configured {
    /// Reads everything that was named.
    ///
    /// # Errors
    /// Every fault, with its place.
    pub fn read(&self) -> Result<Config, ConfigError> {
        Config::read(&Source { file: self.config.clone(), sets: self.set.clone() })
    }

    /// The main file.
    pub fn file(&self) -> &Path {
        &self.config
    }
}

/// Check, show and compare configurations
#[derive(Subcommand)]
pub enum Command {
    /// Read a configuration and name every fault, with file, line and column
    Check(Configured),
    /// Show every setting as it holds
    Show(Show),
    /// Show where another configuration differs, and when such a change takes effect; exit code 1 if it does
    Diff(Diff),
    /// Print a configuration file with every setting, its default and its meaning
    Sample,
}

/// What to show.
#[derive(Args)]
pub struct Show {
    #[command(flatten)]
    configured: Configured,
    /// Say where each value stands: file, environment, command line or default
    #[arg(long)]
    origin: bool,
}

/// What to compare.
#[derive(Args)]
pub struct Diff {
    #[command(flatten)]
    configured: Configured,
    /// The other main configuration file
    other: PathBuf,
}

/// Reads and shows.
pub fn run(command: &Command, out: &Out) -> Answer {
    match command {
        Command::Check(configured) => check(configured, out),
        Command::Show(args) => show(args, out),
        Command::Diff(args) => diff(args, out),
        Command::Sample => {
            out.print(&sample())?;
            Ok(Exit::Done)
        }
    }
}

fn check(configured: &Configured, out: &Out) -> Answer {
    let faults = match configured.read() {
        Ok(_) => vec![],
        Err(ConfigError::Faulty(faults)) => faults,
        Err(unreadable) => return Err(unreadable.into()),
    };
    let file = configured.file().display();
    out.show(&json!({ "faults": faults.iter().map(fault_json).collect::<Vec<_>>() }), || match faults.len() {
        0 => out.lang.tr(format!("{file}: no fault"), format!("{file}：没有错误")),
        _ => faults.iter().map(|fault| fault_line(fault, out.lang)).collect::<Vec<_>>().join("\n"),
    })?;
    Ok(if faults.is_empty() { Exit::Done } else { Exit::Config })
}

fn fault_line(fault: &Fault, lang: Lang) -> String {
    lang.tr(fault.to_string(), format!("{}：{}", fault.origin, fault.zh))
}

fn fault_json(fault: &Fault) -> Value {
    let mut told = json!({ "origin": fault.origin.to_string(), "en": fault.en, "zh": fault.zh });
    if let Origin::File { path, line, column } = &fault.origin {
        told["file"] = json!(**path);
        told["line"] = json!(line);
        told["column"] = json!(column);
    }
    told
}

fn show(args: &Show, out: &Out) -> Answer {
    let config = args.configured.read()?;
    let lang = out.lang;
    let told = |setting: &Setting| {
        json!({ "name": setting.name, "value": setting.value, "origin": setting.origin.to_string(),
            "takes_effect": effect_id(setting.key), "en": setting.key.en, "zh": setting.key.zh })
    };
    let head = [lang.tr("setting", "设置"), lang.tr("value", "值"), lang.tr("from", "来自")];
    let width = if args.origin { 3 } else { 2 };
    let row = |setting: &Setting| {
        let value = setting.value.clone().unwrap_or("-".to_owned());
        let mut row = vec![setting.name.clone(), value, origin(&setting.origin, lang)];
        row.truncate(width);
        row
    };
    out.show(&config.settings.iter().map(told).collect::<Vec<_>>(), || {
        table(&head[..width], config.settings.iter().map(row))
    })?;
    Ok(Exit::Done)
}

fn origin(origin: &Origin, lang: Lang) -> String {
    match origin {
        Origin::Default => lang.tr("default", "默认").to_owned(),
        other => other.to_string(),
    }
}

fn diff(args: &Diff, out: &Out) -> Answer {
    let ours = args.configured.read()?;
    let other = Config::load(&args.other)?;
    let (changes, lang) = (ours.changes(&other), out.lang);
    let told = |change: &Change| {
        json!({ "name": change.name, "before": change.before, "after": change.after,
            "takes_effect": effect_id(change.key) })
    };
    let files = [args.configured.file(), &args.other].map(|path| path.display().to_string());
    let head = [lang.tr("setting", "设置"), &files[0], &files[1], lang.tr("takes effect", "生效")];
    let row = |change: &Change| {
        let side = |side: &Option<String>| side.clone().unwrap_or("-".to_owned());
        vec![change.name.clone(), side(&change.before), side(&change.after), effect(change.key, lang).to_owned()]
    };
    out.show(&changes.iter().map(told).collect::<Vec<_>>(), || match changes.is_empty() {
        true => lang.tr("no difference", "没有差异").to_owned(),
        false => table(&head, changes.iter().map(row)),
    })?;
    Ok(if changes.is_empty() { Exit::Done } else { Exit::No })
}

fn effect(key: &Key, lang: Lang) -> &'static str {
    match key.effect {
        Effect::Live => lang.tr("on reload", "重载后"),
        Effect::NextStart => lang.tr("at the next start", "下次启动"),
        Effect::Restart => lang.tr("takes a restart", "须重启"),
    }
}

fn effect_id(key: &Key) -> &'static str {
    match key.effect {
        Effect::Live => "reload",
        Effect::NextStart => "next_start",
        Effect::Restart => "restart",
    }
}
