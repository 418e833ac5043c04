//! Decides which command runs and with which exit code it ends. Never does a command's work: each family has its file.

mod audit;
mod backup;
mod bench;
mod case;
mod check;
mod client;
mod config;
mod consent;
mod content;
mod dead;
mod demo;
mod directory;
mod files;
mod health;
pub mod help;
mod init;
mod keys;
mod lanes;
mod log;
mod members;
mod message;
mod out;
mod partner;
mod pki;
mod receipt;
mod receive;
mod reload;
mod route;
mod send;
mod serve;
mod span;
mod stats;
mod trace;
mod verify;
mod version;
mod when;
mod witness;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use crate::lang::Lang;
pub use out::Out;

use crate::clock::Clock;
use crate::directory::{DirectoryError, RecordError};
use crate::keys::KeyFileError;
use crate::lang as text;
use crate::time::Time;

/// Tongban (通办): a message gateway between cities, with a signed receipt for every outcome.
#[derive(Parser)]
#[command(name = "tongban", version)]
struct Cli {
    /// Print data as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Language of the words (default: from LANG)
    #[arg(long, global = true, value_enum)]
    lang: Option<Lang>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make keys and certificates of a development alliance
    #[command(subcommand)]
    Pki(pki::Command),
    /// Make, sign, show and verify member records and the directory
    #[command(subcommand)]
    Directory(directory::Command),
    Init(init::Init),
    Serve(serve::Serve),
    Check(check::Check),
    Health(health::Health),
    #[command(subcommand)]
    Config(config::Command),
    Send(Box<send::Send>),
    Receive(Box<receive::Receive>),
    Message(Box<message::Message>),
    /// List, follow and withdraw messages
    #[command(subcommand)]
    Messages(Box<message::acts::Act>),
    #[command(subcommand)]
    Receipt(receipt::Command),
    /// Show, plan, publish, roll back and explain routing tables
    #[command(subcommand)]
    Route(route::Command),
    /// Show, redrive and discard dead letters
    #[command(subcommand)]
    Dead(Box<dead::Command>),
    /// Show and rotate a gateway's keys
    #[command(subcommand)]
    Keys(Box<keys::Command>),
    /// List, pause and resume lanes
    #[command(subcommand)]
    Lanes(Box<lanes::Command>),
    /// Test the way to a partner, and show how each stands
    #[command(subcommand)]
    Partner(Box<partner::Command>),
    /// Show members, hand in signed notes, approve changed keys, suspend and resume
    #[command(subcommand)]
    Members(Box<members::Command>),
    Trace(Box<trace::Trace>),
    Reload(Box<reload::Reload>),
    Audit(Box<audit::Audit>),
    Stats(Box<stats::Stats>),
    Content(Box<content::Content>),
    /// Show one case, or export the file of it that a court or a reviewing body is given
    #[command(subcommand)]
    Case(Box<case::Command>),
    Verify(verify::Verify),
    #[command(subcommand)]
    Witness(witness::Command),
    Demo(demo::Demo),
    Bench(Box<bench::Bench>),
    Backup(backup::Backup),
    Restore(backup::Restore),
    Version(version::Version),
}

/// How a command ends: 0 and 1 are answers, the others say who can mend it (BSD `sysexits.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or nothing to do.
    Done = 0,
    /// The answer is no.
    No = 1,
    /// What a Nagios plugin says of a fault.
    Critical = 2,
    /// The command line is wrong.
    Usage = 64,
    /// What was read is wrong.
    Data = 65,
    /// A file to read is missing.
    NoInput = 66,
    /// A service does not answer.
    Unavailable = 69,
    /// A fault of this program.
    Software = 70,
    /// A file cannot be made.
    CantCreate = 73,
    /// Reading or writing failed.
    Io = 74,
    /// It may work later.
    TempFail = 75,
    /// Rights or modes are wrong.
    NoPermission = 77,
    /// The configuration is wrong.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// A command that did not come to its end: what to tell, in both languages, and how to exit.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    words: Option<(anyhow::Error, String)>,
    hint: Option<(String, String)>,
}

impl Failure {
    /// A failure told in English and in Chinese.
    pub fn new(exit: Exit, en: impl std::fmt::Display, zh: impl Into<String>) -> Failure {
        Failure { exit, words: Some((anyhow::Error::msg(en.to_string()), zh.into())), hint: None }
    }

    /// The way out, in English and in Chinese.
    pub fn hint(self, en: impl Into<String>, zh: impl Into<String>) -> Failure {
        Failure { hint: Some((en.into(), zh.into())), ..self }
    }

    /// What the command was at when it failed, put before what failed.
    pub fn at(self, object: impl std::fmt::Display) -> Failure {
        let words = self.words.map(|(en, zh)| (anyhow::anyhow!("{object}: {en}"), format!("{object}：{zh}")));
        Failure { words, ..self }
    }
}

impl From<KeyFileError> for Failure {
    fn from(fault: KeyFileError) -> Failure {
        let exit = match &fault {
            KeyFileError::Missing { .. } => Exit::NoInput,
            KeyFileError::Exists { .. } => Exit::CantCreate,
            KeyFileError::Mode { .. } | KeyFileError::Owner { .. } => Exit::NoPermission,
            KeyFileError::NotAFile { .. } | KeyFileError::TooLarge { .. } => Exit::Data,
            KeyFileError::Malformed { .. } | KeyFileError::Empty { .. } => Exit::Data,
            KeyFileError::Chance(_) | KeyFileError::Io { .. } => Exit::Io,
        };
        let hint = match &fault {
            KeyFileError::Mode { path, .. } => {
                Some((format!("chmod 600 {}", path.display()), format!("chmod 600 {}", path.display())))
            }
            _ => None,
        };
        Failure { hint, ..Failure::new(exit, &fault, text::key_file_zh(&fault)) }
    }
}

impl From<DirectoryError> for Failure {
    fn from(fault: DirectoryError) -> Failure {
        Failure::new(Exit::Data, &fault, text::directory_zh(&fault))
    }
}

impl From<RecordError> for Failure {
    fn from(fault: RecordError) -> Failure {
        Failure::new(Exit::Data, &fault, text::record_zh(&fault))
    }
}

/// Output that failed. A reader that has seen enough and closed the pipe is no failure.
impl From<io::Error> for Failure {
    fn from(fault: io::Error) -> Failure {
        if fault.kind() == io::ErrorKind::BrokenPipe {
            return Failure { exit: Exit::Done, words: None, hint: None };
        }
        let zh = format!("读写失败：{}", text::io_zh(&fault));
        Failure::new(Exit::Io, fault, zh)
    }
}

/// How a command answers.
pub type Answer = Result<Exit, Failure>;

/// Reads the command line, runs the command and says how it ended.
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let lang = Lang::of_arguments(&arguments);
    let read = command(lang).try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match read {
        Ok(cli) => cli,
        Err(fault) => return misread(&fault, lang).into(),
    };
    let out = Out::new(cli.json, cli.lang.unwrap_or_else(Lang::of_environment));
    let answer = match cli.command {
        Command::Pki(command) => pki::run(command, &out),
        Command::Directory(command) => directory::run(command, &out),
        Command::Init(command) => init::run(command, &out),
        Command::Serve(command) => serve::run(command, &out),
        Command::Check(command) => check::run(&command, &out),
        Command::Health(command) => health::run(&command, &out),
        Command::Config(command) => config::run(&command, &out),
        Command::Send(command) => send::run(&command, &out),
        Command::Receive(command) => receive::run(&command, &out),
        Command::Message(command) => message::run(&command, &out),
        Command::Messages(command) => message::acts::run(&command, &out),
        Command::Receipt(command) => receipt::run(&command, &out),
        Command::Route(command) => route::run(&command, &out),
        Command::Dead(command) => dead::run(&command, &out),
        Command::Lanes(command) => lanes::run(&command, &out),
        Command::Partner(command) => partner::run(&command, &out),
        Command::Keys(command) => keys::run(&command, &out),
        Command::Members(command) => members::run(&command, &out),
        Command::Trace(command) => trace::run(&command, &out),
        Command::Reload(command) => reload::run(&command, &out),
        Command::Audit(command) => audit::run(&command, &out),
        Command::Stats(command) => stats::run(&command, &out),
        Command::Content(command) => content::run(&command, &out),
        Command::Case(command) => case::run(&command, &out),
        Command::Verify(command) => verify::run(&command, &out),
        Command::Witness(command) => witness::run(&command, &out),
        Command::Demo(command) => demo::run(&command, &out),
        Command::Bench(command) => bench::run(&command, &out),
        Command::Backup(command) => backup::take_one(&command, &out),
        Command::Restore(command) => backup::restore_one(&command, &out),
        Command::Version(command) => version::run(&command, &out),
    };
    answer.unwrap_or_else(|failure| tell(failure, &out)).into()
}

/// The whole command line, as its help speaks in this language.
pub fn command(lang: Lang) -> clap::Command {
    match lang {
        Lang::En => Cli::command(),
        Lang::Zh => help::in_chinese(Cli::command()),
    }
}

/// The present moment, for what a command dates.
pub fn now() -> Time {
    Clock::default().now()
}

/// Help and version go to stdout and are no fault; what is one exits with 64 instead of clap's 2.
fn misread(fault: &clap::Error, lang: Lang) -> Exit {
    // There is nobody left to tell when this fails.
    let _ = match lang {
        Lang::En => fault.print(),
        Lang::Zh if fault.use_stderr() => write!(io::stderr(), "{}", help::told(fault)),
        Lang::Zh => write!(io::stdout(), "{}", help::told(fault)),
    };
    if fault.use_stderr() { Exit::Usage } else { Exit::Done }
}

fn tell(failure: Failure, out: &Out) -> Exit {
    if let Some((en, zh)) = failure.words {
        out.say(&out.lang.tr(format!("error: {en:#}"), format!("错误：{zh}")));
    }
    if let Some((en, zh)) = failure.hint {
        out.hint(&en, &zh);
    }
    failure.exit
}
