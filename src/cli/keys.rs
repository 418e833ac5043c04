//! Decides what `tongban keys` offers beside a gateway's configuration: which keys and certificates there are, and how each
//! follows another. Never shows a secret, and never takes a key out of use that something under way still needs.

mod list;
mod rotate;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::config::Configured;
use super::{Answer, Out};

#[derive(Subcommand)]
pub enum Command {
    /// Show each key and certificate of a gateway: what it is for, where it lies, until when it holds, whether it is listed
    List(List),
    /// Let a new key follow one of a gateway's
    #[command(subcommand)]
    Rotate(Rotate),
}

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    configured: Configured,
    /// The member's key file [default: member.key beside the certificate, where there is one]
    #[arg(long, value_name = "FILE")]
    member_key: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum Rotate {
    /// Make a new key for the gateway's certificate and a request that an authority signs; nothing in use changes
    Tls(Tls),
    /// Make a new sealing key and put it in use; the old one goes on opening what was sealed for it
    Sealing(Sealing),
    /// Close a stopped gateway's log and go on in a new one, in a new folder
    Log(Log),
}

#[derive(Args)]
pub struct Tls {
    #[command(flatten)]
    configured: Configured,
    /// A development alliance whose authority signs at once: key and certificate in use are replaced, the old ones kept as .old
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
pub struct Sealing {
    #[command(flatten)]
    configured: Configured,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
pub struct Log {
    #[command(flatten)]
    configured: Configured,
    /// The gateway's next folder: a new one, or an empty one
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The member's key file: signs the statement that makes the new log known
    #[arg(long, value_name = "FILE")]
    member_key: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Runs one command of the family.
pub fn run(command: &Command, out: &Out) -> Answer {
    match command {
        Command::List(List { configured, member_key }) => list::run(&configured.read()?, member_key.as_deref(), out),
        Command::Rotate(Rotate::Tls(args)) => rotate::tls(args, out),
        Command::Rotate(Rotate::Sealing(args)) => rotate::sealing(args, out),
        Command::Rotate(Rotate::Log(args)) => rotate::log(args, out),
    }
}
