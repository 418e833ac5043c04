//! Decides how `tongban members` shows the members that a running gateway knows, hands it a signed note, lets it believe a
//! changed key, and suspends a member or ends that. Never judges a note itself, and never approves a key unseen.

mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

pub use self::show::states;

use super::client::{As, Client, ToldMember, converse};
use super::{Answer, Exit, Failure, Out, consent, now};
use crate::directory::notes::{Carried, Kind};
use crate::directory::{Directory, Generation, MemberRecord, same_fingerprint};
use crate::keys;
use crate::party::Member;

#[derive(Subcommand)]
pub enum Command {
    /// Show every member: whether it is in force, suspended or held back, and how it is known
    List {
        #[command(flatten)]
        who: As,
    },
    /// Show all that is known of one member
    Show {
        #[command(flatten)]
        who: As,
        /// A division code or hub/NAME
        member: Member,
    },
    /// Hand in a signed member record, directory or generation statement; it is in force at once, or refused
    Add {
        #[command(flatten)]
        who: As,
        /// The signed note
        #[arg(value_name = "FILE")]
        note: PathBuf,
    },
    /// Believe a member's changed key, by the fingerprint that its people told by another way
    Approve(Approve),
    /// Exchange nothing with a member until it is resumed; messages to it wait
    Suspend(Suspend),
    /// End a member's suspension
    Resume(Resume),
}

#[derive(Args)]
pub struct Approve {
    #[command(flatten)]
    who: As,
    /// A division code or hub/NAME
    member: Member,
    /// The whole fingerprint of the new key, e.g. "04a1 … 9f3c"
    #[arg(long, value_name = "FINGERPRINT")]
    fingerprint: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
pub struct Suspend {
    #[command(flatten)]
    who: As,
    /// A division code or hub/NAME
    member: Member,
    /// Why; it is shown to all who look at the member, and kept in the audit
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Args)]
pub struct Resume {
    #[command(flatten)]
    who: As,
    /// A division code or hub/NAME
    member: Member,
    /// Why; kept in the audit
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Runs one command of the family.
pub fn run(command: &Command, out: &Out) -> Answer {
    match command {
        Command::List { who } => converse(who, async |client| {
            let (members, version) = client.members(None).await.map_err(|trouble| trouble.shown(out))?;
            let shown = json!({ "directory_version": version, "members": members });
            out.show(&shown, || show::list(&members, version, now(), out.lang))?;
            Ok(Exit::Done)
        }),
        Command::Show { who, member } => converse(who, async |client| {
            let member = one(&client, member, out).await?;
            out.show(&member, || show::one(&member, now(), out.lang))?;
            Ok(Exit::Done)
        }),
        Command::Add { who, note } => {
            let carried = read(note)?;
            converse(who, async |client| add(&client, &carried, out).await)
        }
        Command::Approve(command) => converse(&command.who, async |client| approve(&client, command, out).await),
        Command::Suspend(Suspend { who, member, reason }) => converse(who, async |client| {
            let (changed, member) = client.suspend(member, reason).await.map_err(|trouble| trouble.shown(out))?;
            told(changed, &member, ("is suspended", "已暂停"), ("was suspended already", "此前已暂停"), out)
        }),
        Command::Resume(Resume { who, member, reason }) => converse(who, async |client| {
            let (changed, member) = client.resume_member(member, reason).await.map_err(|trouble| trouble.shown(out))?;
            told(changed, &member, ("is resumed", "已恢复"), ("was not suspended", "此前未暂停"), out)
        }),
    }
}

async fn one(client: &Client, member: &Member, out: &Out) -> Result<ToldMember, Failure> {
    let (members, _) = client.members(Some(member)).await.map_err(|trouble| trouble.shown(out))?;
    let nobody = || Failure::new(Exit::No, format!("there is no member {member}"), format!("没有成员 {member}"));
    members.into_iter().next().ok_or_else(nobody)
}

/// What was done; exit 1 when it was so before.
fn told(changed: bool, member: &ToldMember, done: (&str, &str), before: (&str, &str), out: &Out) -> Answer {
    let said = if changed { done } else { before };
    out.show(&json!({ "changed": changed, "member": member }), || {
        let line = out.lang.tr(format!("{} {}", member.member, said.0), format!("{} {}", member.member, said.1));
        let suspended = member.suspended.as_ref().map(|suspension| show::suspension(suspension, out.lang));
        [Some(line), suspended].into_iter().flatten().collect::<Vec<_>>().join("\n")
    })?;
    Ok(if changed { Exit::Done } else { Exit::No })
}

/// A note with whose it is and which version, as its own text says; the gateway compares that with the signatures.
fn read(path: &std::path::Path) -> Result<Carried, Failure> {
    let note = keys::read_text(path)?;
    let signed = note.rfind("\n\n").map_or(note.as_str(), |gap| &note[..=gap]);
    let kind =
        serde_json::from_str(signed).ok().and_then(|text: serde_json::Value| Some(text["kind"].as_str()?.to_owned()));
    let (kind, owner, version) = match kind.as_deref() {
        Some("tongban.directory.v1") => {
            let directory = Directory::parse(signed).map_err(|fault| Failure::from(fault).at(path.display()))?;
            (Kind::Directory, None, directory.version())
        }
        Some("tongban.member-record.v1") => {
            let record = MemberRecord::parse(signed).map_err(|fault| Failure::from(fault).at(path.display()))?;
            (Kind::MemberRecord, Some(record.member), record.version)
        }
        Some("tongban.generation.v1") => {
            let generation = Generation::parse(signed).map_err(|fault| Failure::from(fault).at(path.display()))?;
            (Kind::Generation, Some(generation.member), generation.version)
        }
        _ => {
            let (en, zh) = (
                "no signed member record, directory or generation statement",
                "不是已签名的成员记录、名录或日志换代声明",
            );
            return Err(Failure::new(Exit::Data, en, zh).at(path.display()));
        }
    };
    Ok(Carried { kind, owner, version, note })
}

async fn add(client: &Client, carried: &Carried, out: &Out) -> Answer {
    let news = client.publish(carried).await.map_err(|trouble| trouble.shown(out))?;
    let (kind, version) = (carried.kind, carried.version);
    let owner = carried.owner.as_ref().map(Member::to_string);
    let shown = json!({ "kind": kind.as_str(), "owner": owner, "version": version, "news": news });
    out.show(&shown, || {
        let whose = owner.clone().unwrap_or_else(|| out.lang.tr("the alliance", "联盟").to_owned());
        match news {
            true => out.lang.tr(
                format!("{kind} of {whose}, version {version}: in force"),
                format!("{whose} 的 {kind} 第 {version} 版：已生效"),
            ),
            false => out.lang.tr(
                format!("{kind} of {whose}, version {version}: was in force already"),
                format!("{whose} 的 {kind} 第 {version} 版：此前已生效"),
            ),
        }
    })?;
    Ok(Exit::Done)
}

/// Shows both fingerprints before anything is believed.
async fn approve(client: &Client, command: &Approve, out: &Out) -> Answer {
    let member = one(client, &command.member, out).await?;
    let key = member.held_back.iter().find(|held| !held.found_fingerprint.is_empty());
    let Some(key) = key else {
        let (en, zh) = ("no changed key of it is held back", "没有被搁置的新密钥");
        return Err(Failure::new(Exit::No, en, zh).at(&member.member));
    };
    if !out.json() {
        out.say(&show::key_change(&member, key, out.lang));
    }
    if !same_fingerprint(&key.found_fingerprint, &command.fingerprint) {
        let (en, zh) = ("--fingerprint is not the new key's", "--fingerprint 与新密钥的指纹不符");
        let failure = Failure::new(Exit::Data, en, zh);
        return Err(failure.hint(
            "ask the member's own people for the fingerprint by another way; if it still differs, believe nothing",
            "请通过其他途径向该成员的人员核实指纹；如仍不一致，切勿采信",
        ));
    }
    let question = ("believe this key from now on?", "确认今后采信该密钥？");
    if !consent::given(command.yes, question, out)? {
        return Ok(Exit::No);
    }
    let approved = client.approve(&command.member, &command.fingerprint).await.map_err(|trouble| trouble.shown(out))?;
    out.show(&approved, || match approved.in_force {
        true => out.lang.tr(
            format!("{} is known by its new key, record version {}", member.member, approved.member.version),
            format!("{} 的新密钥已生效，成员记录第 {} 版", member.member, approved.member.version),
        ),
        false => out.lang.tr(
            format!("approved; the directory still waits: {}", approved.waits_for),
            format!("已采信；名录仍在等待：{}", approved.waits_for),
        ),
    })?;
    Ok(if approved.in_force { Exit::Done } else { Exit::No })
}
