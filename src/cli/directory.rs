//! Decides what `tongban directory` offers: member records and the alliance's directory, made, signed, shown and verified
//! from plain files. Never touches the network, so that both keys can stay on a machine without one.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::out::table;
use super::pki::read_vkey;
use super::{Answer, Exit, Failure, Out, now, text};
use crate::directory::{
    CrlPolicy, Directory, DirectoryError, Endpoint, Entry, Fault, MemberRecord, SealingKey, UpdateError,
    accepts_update_by, alliance_key_name, fingerprint, member_key_name, same_fingerprint,
};
use crate::keys::{self, Seed};
use crate::limits::CERTIFICATE_DAYS_MAX;
use crate::party::{Alliance, Member};
use crate::seal::OpeningKey;
use crate::tlog::note::{SigningKey, VerifyingKey};

#[derive(Subcommand)]
pub enum Command {
    /// Make and sign a member record from files
    Record(Box<Record>),
    /// Make the key with which a gateway opens what came through a hub; show its public half for the record
    SealingKey {
        /// Where the secret half goes
        #[arg(long, default_value = "sealing.key")]
        out: PathBuf,
    },
    /// Put a member's record into the directory: signed with --key, else as a draft for `directory sign`
    Add(Add),
    /// Take a member out of the directory: signed with --key, else as a draft for `directory sign`
    Remove(Remove),
    /// Sign a draft of the directory with the alliance's key
    Sign {
        /// The draft
        draft: PathBuf,
        /// The alliance's key file
        #[arg(long)]
        key: PathBuf,
        /// Where the signed directory goes
        #[arg(long, default_value = "directory.note")]
        out: PathBuf,
    },
    /// Show who is in the directory
    Show(Opened),
    /// Say whether the directory and every record in it are signed as they must be
    Verify(Opened),
}

#[derive(Args)]
pub struct Opened {
    /// The directory
    #[arg(default_value = "certs/dev/directory.note")]
    directory: PathBuf,
    /// The alliance's public key: a file or a vkey line [default: alliance.vkey beside the directory]
    #[arg(long, value_name = "VKEY")]
    key: Option<String>,
}

#[derive(Args)]
pub struct Record {
    /// The alliance the record is for
    #[arg(long)]
    alliance: Alliance,
    /// A division code or hub/NAME
    #[arg(long)]
    member: Member,
    /// Counts up with every record of this member
    #[arg(long)]
    version: u64,
    /// The member's name in Chinese
    #[arg(long)]
    name_zh: String,
    /// The member's name in English
    #[arg(long)]
    name_en: String,
    /// The member's key file
    #[arg(long)]
    member_key: PathBuf,
    /// The member's former key file, which signs too: gateways then believe the changed key at once
    #[arg(long, value_name = "FILE")]
    former_key: Option<PathBuf>,
    /// A PEM file with the authorities that vouch for the member's names
    #[arg(long, required_unless_present = "key_pin")]
    roots: Option<PathBuf>,
    /// A log's public key, a file or a vkey line; may be given more than once
    #[arg(long = "log-key", value_name = "VKEY")]
    log_keys: Vec<String>,
    /// Where the gateway is dialled; may be given more than once
    #[arg(long = "endpoint", value_name = "HOST:PORT", required_unless_present = "pulls")]
    endpoints: Vec<Endpoint>,
    /// The gateway cannot be dialled: it fetches its messages
    #[arg(long, conflicts_with = "endpoints")]
    pulls: bool,
    /// SHA-256 of the gateway's public key (SubjectPublicKeyInfo), 64 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    key_pin: Option<String>,
    /// Days that a certificate of the member may be valid
    #[arg(long, default_value_t = CERTIFICATE_DAYS_MAX)]
    days_max: u32,
    /// A member that may relay for this one; may be given more than once
    #[arg(long = "relay", value_name = "MEMBER")]
    relays: Vec<Member>,
    /// The member's public sealing key, as text or a file that holds it
    #[arg(long, value_name = "KEY")]
    sealing_key: Option<String>,
    /// Hubs may see this member's bodies: one goes unsealed if the other member allows it too
    #[arg(long)]
    unsealed_relay: bool,
    /// The member's certificates are accepted without a revocation list
    #[arg(long)]
    no_crl: bool,
    /// Where the signed record goes
    #[arg(long, default_value = "record.note")]
    out: PathBuf,
}

#[derive(Args)]
pub struct Remove {
    /// The directory
    directory: PathBuf,
    /// Who leaves: a division code or hub/NAME
    member: Member,
    #[command(flatten)]
    sign: Sign,
}

/// How the next directory is signed.
#[derive(Args)]
pub struct Sign {
    /// The alliance's key file: sign at once, in place
    #[arg(long, conflicts_with = "draft")]
    key: Option<PathBuf>,
    /// Where the unsigned draft goes
    #[arg(long, required_unless_present = "key")]
    draft: Option<PathBuf>,
    /// The alliance's public key: a file or a vkey line [default: alliance.vkey beside the directory]
    #[arg(long, value_name = "VKEY")]
    alliance_key: Option<String>,
}

#[derive(Args)]
pub struct Add {
    /// The directory
    directory: PathBuf,
    /// The member's signed record
    record: PathBuf,
    /// The member's public key: a file or a vkey line
    #[arg(long, value_name = "VKEY")]
    member_key: String,
    /// The whole fingerprint of a changed member key, as its people told it by another way
    #[arg(long, value_name = "FINGERPRINT")]
    fingerprint: Option<String>,
    #[command(flatten)]
    sign: Sign,
}

/// Runs one command of the family.
pub fn run(command: Command, out: &Out) -> Answer {
    match command {
        Command::Record(args) => record(*args, out),
        Command::SealingKey { out: to } => new_sealing_key(&to, out),
        Command::Add(args) => add(&args, out),
        Command::Remove(args) => remove(&args, out),
        Command::Sign { draft, key, out: to } => sign(&draft, &key, &to, out),
        Command::Show(args) => show(&args, out),
        Command::Verify(args) => verify(&args, out),
    }
}

fn record(args: Record, out: &Out) -> Answer {
    let roots = args.roots.as_deref().map(keys::read_certificates).transpose()?.unwrap_or_default();
    let record = MemberRecord {
        version: args.version,
        issued_at: now(),
        key_pin: args.key_pin.as_deref().map(pin).transpose()?,
        days_max: args.days_max,
        endpoints: args.endpoints,
        roots,
        log_keys: args.log_keys.iter().map(|key| public_key(key)).collect::<Result<_, _>>()?,
        relays: args.relays,
        crl: if args.no_crl { CrlPolicy::None } else { CrlPolicy::Required },
        sealing_key: args.sealing_key.as_deref().map(sealing_key).transpose()?,
        unsealed_relay: args.unsealed_relay,
        name_zh: args.name_zh,
        name_en: args.name_en,
        alliance: args.alliance,
        member: args.member,
    };
    let name = member_key_name(&record.alliance, &record.member);
    let key = signing_key(&args.member_key, &name)?;
    let mut note = record.sign(&key)?;
    if let Some(former) = &args.former_key {
        // The same words: only the line of its signature is added.
        let signed = record.sign(&signing_key(former, &name)?)?;
        note += signed.rsplit_once("\n\n").map_or("", |(_, signature)| signature);
    }
    keys::replace_public(&args.out, note.as_bytes())?;
    let fingerprint = fingerprint(key.verifying_key());
    let shown =
        json!({ "record": args.out, "member_key": key.verifying_key().to_string(), "fingerprint": fingerprint });
    out.show(&shown, || {
        let (path, member) = (args.out.display(), &record.member);
        out.lang.tr(
            format!("signed the record of {member} into {path}\nmember key: {fingerprint}"),
            format!("已签署 {member} 的成员记录：{path}\n成员密钥指纹：{fingerprint}"),
        )
    })?;
    Ok(Exit::Done)
}

fn add(args: &Add, out: &Out) -> Answer {
    let held = open(&args.directory, args.sign.alliance_key.as_deref())?;
    let entry = Entry::open(public_key(&args.member_key)?, keys::read_text(&args.record)?);
    let entry = entry.map_err(|fault| Failure::from(fault).at(args.record.display()))?;
    let (member, key) = (entry.record.member.clone(), fingerprint(&entry.member_key));
    let next = held.with(entry, now())?;
    let compared =
        |key: &VerifyingKey| args.fingerprint.as_ref().is_some_and(|f| same_fingerprint(f, &fingerprint(key)));
    let believed = |of: &Member, key: &VerifyingKey| *of == member && compared(key);
    if let Err(fault) = accepts_update_by(&held, &next, believed) {
        return Err(refused(&fault));
    }
    let to = write_next(&next, &args.directory, &args.sign)?;
    let shown =
        json!({ "member": member.to_string(), "member_key_fingerprint": key, "version": next.version(), "file": to });
    out.show(&shown, || {
        let (version, to) = (next.version(), to.display());
        out.lang.tr(
            format!("{member} is in version {version}: {to}\nmember key: {key}"),
            format!("{member} 已列入第 {version} 版：{to}\n成员密钥指纹：{key}"),
        )
    })?;
    Ok(Exit::Done)
}

/// Takes a member out of the directory.
fn remove(args: &Remove, out: &Out) -> Answer {
    let held = open(&args.directory, args.sign.alliance_key.as_deref())?;
    let next = held.without(&args.member, now())?;
    let to = write_next(&next, &args.directory, &args.sign)?;
    let member = args.member.to_string();
    out.show(&json!({ "member": member, "version": next.version(), "file": to }), || {
        let (version, to) = (next.version(), to.display());
        out.lang.tr(
            format!("{member} is no longer in version {version}: {to}"),
            format!("{member} 已不在第 {version} 版中：{to}"),
        )
    })?;
    Ok(Exit::Done)
}

/// Writes the next directory: signed and in place, or as a draft.
fn write_next(next: &Directory, directory: &Path, sign: &Sign) -> Result<PathBuf, Failure> {
    let (to, signed) = match (&sign.key, &sign.draft) {
        (Some(path), _) => {
            let note = next.sign(&signing_key(path, &alliance_key_name(next.alliance()))?)?;
            // A seed file carries no name: what another alliance's key signed would read as a directory of nobody.
            check_signed(&note, directory, sign)?;
            (directory, note)
        }
        (None, Some(draft)) => (draft.as_path(), next.text().to_owned()),
        (None, None) => return Err(Failure::new(Exit::Usage, "neither --key nor --draft", "缺少 --key 或 --draft")),
    };
    keys::replace_public(to, signed.as_bytes())?;
    Ok(to.to_owned())
}

fn check_signed(note: &str, directory: &Path, sign: &Sign) -> Result<(), Failure> {
    let alliance_key = alliance_key(directory, sign.alliance_key.as_deref())?;
    Directory::open(note, &alliance_key)
        .map(|_| ())
        .map_err(|_| Failure::new(Exit::Data, "--key is not the alliance's key", "--key 不是该联盟的密钥"))
}

fn sign(draft: &Path, key: &Path, to: &Path, out: &Out) -> Answer {
    let directory = Directory::parse(&keys::read_text(draft)?);
    let directory = directory.map_err(|fault| Failure::from(fault).at(draft.display()))?;
    let key = signing_key(key, &alliance_key_name(directory.alliance()))?;
    keys::replace_public(to, directory.sign(&key)?.as_bytes())?;
    let (version, fingerprint) = (directory.version(), fingerprint(key.verifying_key()));
    out.show(&json!({ "file": to, "version": version, "fingerprint": fingerprint }), || {
        let to = to.display();
        out.lang.tr(
            format!("signed version {version} into {to}\nalliance key: {fingerprint}"),
            format!("已签署第 {version} 版：{to}\n联盟密钥指纹：{fingerprint}"),
        )
    })?;
    Ok(Exit::Done)
}

fn show(args: &Opened, out: &Out) -> Answer {
    let key = alliance_key(&args.directory, args.key.as_deref())?;
    let directory = open(&args.directory, args.key.as_deref())?;
    let members: Vec<_> = directory.entries().map(entry_json).collect();
    let shown = json!({ "alliance": directory.alliance().as_str(), "version": directory.version(),
        "issued_at": directory.issued_at().to_string(), "alliance_key": key.to_string(),
        "fingerprint": fingerprint(&key), "members": members });
    out.show(&shown, || {
        let head = match out.lang {
            text::Lang::En => ["member", "name", "version", "endpoints", "logs", "fingerprint of the member key"],
            text::Lang::Zh => ["成员", "名称", "版本", "地址", "日志", "成员密钥指纹"],
        };
        let (name, version, moment) = (directory.alliance().as_str(), directory.version(), directory.issued_at());
        let title = out.lang.tr(
            format!("{name}, version {version} of {moment}\nalliance key: {}", fingerprint(&key)),
            format!("{name}，第 {version} 版，{moment}\n联盟密钥指纹：{}", fingerprint(&key)),
        );
        format!("{title}\n{}", table(&head, directory.entries().map(|entry| row(entry, out))))
    })?;
    Ok(Exit::Done)
}

fn row(entry: &Entry, out: &Out) -> Vec<String> {
    let record = &entry.record;
    let endpoints: Vec<String> = record.endpoints.iter().map(Endpoint::to_string).collect();
    let endpoints = if record.pulls() { out.lang.tr("pulls", "主动拉取").to_owned() } else { endpoints.join("\n") };
    let logs: Vec<&str> = record.log_keys.iter().map(VerifyingKey::name).collect();
    let name = format!("{} {}", record.name_zh, record.name_en);
    let version = record.version.to_string();
    vec![record.member.to_string(), name, version, endpoints, logs.join("\n"), fingerprint(&entry.member_key)]
}

fn entry_json(entry: &Entry) -> serde_json::Value {
    let record = &entry.record;
    let keys: Vec<String> = record.log_keys.iter().map(VerifyingKey::to_string).collect();
    let endpoints: Vec<String> = record.endpoints.iter().map(Endpoint::to_string).collect();
    let relays: Vec<String> = record.relays.iter().map(Member::to_string).collect();
    json!({
        "member": record.member.to_string(),
        "name_zh": record.name_zh,
        "name_en": record.name_en,
        "version": record.version,
        "issued_at": record.issued_at.to_string(),
        "endpoints": endpoints,
        "pulls": record.pulls(),
        "log_keys": keys,
        "relays": relays,
        "sealing_key": record.sealing_key.map(|key| key.to_string()),
        "unsealed_relay": record.unsealed_relay,
        "roots": record.roots.len(),
        "key_pin": record.key_pin.map(hex::encode),
        "days_max": record.days_max,
        "crl": record.crl,
        "member_key": entry.member_key.to_string(),
        "fingerprint": fingerprint(&entry.member_key),
    })
}

/// A file that is missing is a fault of the command; a directory that does not hold is its answer.
fn verify(args: &Opened, out: &Out) -> Answer {
    let key = alliance_key(&args.directory, args.key.as_deref())?;
    let directory = Directory::open(&keys::read_text(&args.directory)?, &key);
    let shown = match &directory {
        Ok(directory) => json!({ "holds": true, "version": directory.version(), "members": directory.entries().count(),
            "fingerprint": fingerprint(&key) }),
        Err(fault) => json!({ "holds": false, "fault": fault.to_string(), "fingerprint": fingerprint(&key) }),
    };
    out.show(&shown, || verdict(&directory, args, &key, out))?;
    Ok(if directory.is_ok() { Exit::Done } else { Exit::No })
}

fn verdict(directory: &Result<Directory, DirectoryError>, args: &Opened, key: &VerifyingKey, out: &Out) -> String {
    let (path, print) = (args.directory.display(), fingerprint(key));
    match directory {
        Ok(directory) => {
            let (version, count) = (directory.version(), directory.entries().count());
            out.lang.tr(
                format!("{path} holds: version {version}, {count} member(s)\nalliance key: {print}"),
                format!("{path} 有效：第 {version} 版，{count} 个成员\n联盟密钥指纹：{print}"),
            )
        }
        Err(fault) => out.lang.tr(
            format!("{path} does not hold: {fault}\nalliance key: {print}"),
            format!("{path} 无效：{}\n联盟密钥指纹：{print}", text::directory_zh(fault)),
        ),
    }
}

fn open(path: &Path, key: Option<&str>) -> Result<Directory, Failure> {
    let directory = Directory::open(&keys::read_text(path)?, &alliance_key(path, key)?);
    directory.map_err(|fault| Failure::from(fault).at(path.display()))
}

fn alliance_key(directory: &Path, given: Option<&str>) -> Result<VerifyingKey, Failure> {
    match given {
        Some(key) => public_key(key),
        None => read_vkey(&directory.with_file_name("alliance.vkey"))
            .map_err(|failure| failure.hint("name the alliance's key with --key", "请用 --key 指明联盟公钥")),
    }
}

/// A vkey line, or the file that holds one.
pub(super) fn public_key(given: &str) -> Result<VerifyingKey, Failure> {
    match VerifyingKey::parse(given) {
        Ok(key) => Ok(key),
        Err(_) => read_vkey(Path::new(given)),
    }
}

/// The text of a public sealing key, or the file that holds it.
fn sealing_key(given: &str) -> Result<SealingKey, Failure> {
    let text = if given.contains(':') { given.to_owned() } else { keys::read_text(Path::new(given))? };
    let unread = |fault: Fault| Failure::new(Exit::Data, format!("{given}: {fault}"), text::fault_zh(&fault));
    text.trim_end().parse().map_err(unread)
}

fn new_sealing_key(path: &Path, out: &Out) -> Answer {
    let seed = Seed::generate()?;
    keys::write_sealing_seed(path, &seed)?;
    let public = *OpeningKey::from_seed(seed.bytes()).public();
    out.show(&json!({ "key": path, "sealing_key": public.to_string(), "id": public.id().to_string() }), || {
        let path = path.display();
        out.lang.tr(format!("made {path}\nits public half: {public}"), format!("已制作 {path}\n公钥：{public}"))
    })?;
    Ok(Exit::Done)
}

fn signing_key(path: &Path, name: &str) -> Result<SigningKey, Failure> {
    let seed = keys::read_seed(path)?;
    SigningKey::from_seed(name, seed.bytes()).map_err(|fault| Failure::new(Exit::Data, fault, text::key_zh(&fault)))
}

fn pin(digits: &str) -> Result<[u8; 32], Failure> {
    let mut pin = [0; 32];
    let bad = |_| Failure::new(Exit::Usage, "--key-pin has 64 hexadecimal digits", "--key-pin 为 64 位十六进制数字");
    hex::decode_to_slice(digits, &mut pin).map_err(bad)?;
    Ok(pin)
}

fn refused(fault: &UpdateError) -> Failure {
    Failure::new(Exit::Data, fault, text::update_zh(fault))
}
