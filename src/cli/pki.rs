//! Decides what `tongban pki` offers: keys and certificates of a development alliance, all in one directory. Never meant
//! for production, where each city has its own authority and keys stay where they were made (see certs/README.md).

mod bureau;
mod issue;
mod issued;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

pub use bureau::read_vkey;
pub use issue::request as signing_request;

use self::bureau::{Bureau, Plan};
use super::{Answer, Exit, Failure, Out};
use crate::directory::{Endpoint, fingerprint};
use crate::lang::{Unfit, Zh};
use crate::party::{Alliance, Division, Member, Name, Role};

#[derive(Subcommand)]
pub enum Command {
    /// Make the alliance's key and an empty directory
    New {
        #[command(flatten)]
        at: At,
        /// The alliance's name: the SPIFFE trust domain of all its certificates
        #[arg(long, default_value = "alliance.example")]
        alliance: Alliance,
    },
    /// Make a city: its authority, gateway, systems, log key, member key and record, and list it in the directory
    AddCity(AddCity),
    /// Make a hub: its authority, gateway, log key, member key and record, and list it in the directory
    AddHub(AddHub),
    /// Make a key and a certificate for one more system of a city
    AddSystem(AddSystem),
    /// Make a key and a certificate for a person who operates a member's gateway
    AddOps(AddPerson),
    /// Make a key and a certificate for a person who reads evidence at a member's gateway
    AddAuditor(AddPerson),
    /// Make a new key and certificate for a party; the old ones stay beside them as .old until they are revoked
    Renew {
        /// The city's division code, or hub/NAME
        member: Member,
        /// gateway, system/NAME, ops/NAME or auditor/NAME
        #[arg(value_parser = role)]
        party: Role,
        #[command(flatten)]
        at: At,
    },
    /// Revoke a party's certificates and sign the next revocation list
    Revoke {
        /// The city's division code, or hub/NAME
        member: Member,
        /// gateway, system/NAME, ops/NAME or auditor/NAME
        party: String,
        #[command(flatten)]
        at: At,
    },
    /// Sign a member's revocation list anew: it is due again after 30 days
    RenewCrl {
        /// The city's division code, or hub/NAME
        member: Member,
        #[command(flatten)]
        at: At,
    },
}

#[derive(Args)]
pub struct At {
    /// Where the development alliance lies
    #[arg(long, default_value = "certs/dev")]
    dir: PathBuf,
}

#[derive(Args)]
pub struct AddCity {
    /// Division code (GB/T 2260), 6 to 12 digits
    city: Division,
    #[command(flatten)]
    at: At,
    /// The city's name in Chinese
    #[arg(long)]
    name_zh: String,
    /// The city's name in English
    #[arg(long)]
    name_en: String,
    /// Where its gateway is dialled, HOST:PORT; may be given more than once
    #[arg(long = "endpoint", value_name = "HOST:PORT", required_unless_present = "pulls")]
    endpoints: Vec<Endpoint>,
    /// The gateway cannot be dialled: it fetches its messages
    #[arg(long, conflicts_with = "endpoints")]
    pulls: bool,
    /// A system of the city; may be given more than once
    #[arg(long = "system", value_name = "NAME")]
    systems: Vec<Name>,
    /// A hub that may relay for the city, hub/NAME; may be given more than once
    #[arg(long = "relay", value_name = "HUB")]
    relays: Vec<Member>,
    /// Hubs may see bodies: one goes unsealed if the other city allows it too
    #[arg(long)]
    unsealed_relay: bool,
    /// A person who operates the gateway; may be given more than once
    #[arg(long = "ops", value_name = "NAME")]
    ops: Vec<Name>,
}

#[derive(Args)]
pub struct AddHub {
    /// The hub's name; as a member it is hub/NAME
    name: Name,
    #[command(flatten)]
    at: At,
    /// The hub's name in Chinese
    #[arg(long)]
    name_zh: String,
    /// The hub's name in English
    #[arg(long)]
    name_en: String,
    /// Where it is dialled, HOST:PORT; may be given more than once
    #[arg(long = "endpoint", value_name = "HOST:PORT", required = true)]
    endpoints: Vec<Endpoint>,
    /// A person who operates the hub; may be given more than once
    #[arg(long = "ops", value_name = "NAME")]
    ops: Vec<Name>,
}

#[derive(Args)]
pub struct AddSystem {
    /// The city's division code
    city: Division,
    /// The name of the system
    name: Name,
    #[command(flatten)]
    at: At,
}

#[derive(Args)]
pub struct AddPerson {
    /// The city's division code, or hub/NAME
    member: Member,
    /// The name of the person
    name: Name,
    #[command(flatten)]
    at: At,
}

/// Runs one command of the family.
pub fn run(command: Command, out: &Out) -> Answer {
    match command {
        Command::New { at, alliance } => new(&at.dir, &alliance, out),
        Command::AddCity(args) => add_city(args, out),
        Command::AddHub(args) => add_hub(args, out),
        Command::AddSystem(args) => enrol(&args.at.dir, &Member::City(args.city), Role::System(args.name), out),
        Command::AddOps(args) => enrol(&args.at.dir, &args.member, Role::Ops(args.name), out),
        Command::AddAuditor(args) => enrol(&args.at.dir, &args.member, Role::Auditor(args.name), out),
        Command::Renew { member, party, at } => shown(renewed(&at.dir, &member, party)?, out),
        Command::RenewCrl { member, at } => renew_crl(&at.dir, member, out),
        Command::Revoke { member, party, at } => revoke(&at.dir, member, &party, out),
    }
}

/// Makes a new key and certificate for a party of a development alliance: their files.
pub fn renewed(dir: &Path, member: &Member, role: Role) -> Result<[PathBuf; 2], Failure> {
    Bureau::open(dir)?.renew(member, role)
}

fn new(dir: &Path, alliance: &Alliance, out: &Out) -> Answer {
    let bureau = Bureau::found(dir, alliance)?;
    let fingerprint = fingerprint(bureau.key());
    let shown = json!({ "alliance": alliance.as_str(), "dir": dir, "alliance_key": bureau.key().to_string(),
        "fingerprint": fingerprint, "directory_version": bureau.directory().version() });
    out.show(&shown, || {
        let (name, dir) = (alliance.as_str(), dir.display());
        out.lang.tr(
            format!("made the development alliance {name} in {dir}\nalliance key: {fingerprint}"),
            format!("已在 {dir} 建立开发用联盟 {name}\n联盟密钥指纹：{fingerprint}"),
        )
    })?;
    let next = format!(
        "tongban pki add-city 450200 --dir {} --name-zh 柳州 --name-en Liuzhou --endpoint 127.0.0.1:7501",
        dir.display()
    );
    out.hint(&next, &next);
    Ok(Exit::Done)
}

fn add_city(args: AddCity, out: &Out) -> Answer {
    let plan = Plan {
        member: Member::City(args.city),
        name_zh: args.name_zh,
        name_en: args.name_en,
        endpoints: args.endpoints,
        systems: args.systems,
        ops: args.ops,
        relays: args.relays,
        unsealed_relay: args.unsealed_relay,
    };
    add(&args.at.dir, &plan, out)
}

fn add_hub(args: AddHub, out: &Out) -> Answer {
    let plan = Plan {
        member: Member::Hub(args.name),
        name_zh: args.name_zh,
        name_en: args.name_en,
        endpoints: args.endpoints,
        systems: vec![],
        ops: args.ops,
        relays: vec![],
        unsealed_relay: false,
    };
    add(&args.at.dir, &plan, out)
}

fn add(dir: &Path, plan: &Plan, out: &Out) -> Answer {
    let mut bureau = Bureau::open(dir)?;
    let member = &plan.member;
    let place = bureau.add(plan)?;
    let version = bureau.directory().version();
    let key = bureau.directory().entry(member).map(|entry| fingerprint(&entry.member_key)).unwrap_or_default();
    let shown = json!({ "member": member.to_string(), "dir": place, "member_key_fingerprint": key,
        "directory_version": version });
    out.show(&shown, || {
        let (zh, en, place) = (&plan.name_zh, &plan.name_en, place.display());
        out.lang.tr(
            format!("made {member} {en} in {place}\nmember key: {key}\nthe directory is now version {version}"),
            format!("已在 {place} 建立 {member} {zh}\n成员密钥指纹：{key}\n目录现为第 {version} 版"),
        )
    })?;
    Ok(Exit::Done)
}

fn enrol(dir: &Path, member: &Member, role: Role, out: &Out) -> Answer {
    shown(Bureau::open(dir)?.enrol(member, role)?, out)
}

fn shown([key, certificate]: [PathBuf; 2], out: &Out) -> Answer {
    out.show(&json!({ "key": key, "certificate": certificate }), || {
        let (key, certificate) = (key.display(), certificate.display());
        out.lang.tr(format!("made {key} and {certificate}"), format!("已制作 {key} 和 {certificate}"))
    })?;
    Ok(Exit::Done)
}

/// Reads `gateway`, `system/NAME`, `ops/NAME` or `auditor/NAME`.
fn role(given: &str) -> Result<Role, Unfit> {
    let name = |name: &str| name.parse::<Name>().map_err(|fault| Unfit::new(fault.to_string(), fault.zh()));
    match given.split_once('/') {
        None if given == "gateway" => Ok(Role::Gateway),
        Some(("system", system)) => Ok(Role::System(name(system)?)),
        Some(("ops", person)) => Ok(Role::Ops(name(person)?)),
        Some(("auditor", person)) => Ok(Role::Auditor(name(person)?)),
        _ => Err(Unfit::new(
            "gateway, system/NAME, ops/NAME or auditor/NAME",
            "应为 gateway、system/名称、ops/名称 或 auditor/名称",
        )),
    }
}

fn revoke(dir: &Path, member: Member, party: &str, out: &Out) -> Answer {
    let Some(count) = Bureau::open(dir)?.revoke(&member, party)? else {
        return Err(Failure::new(
            Exit::Data,
            format!("{member} never issued a certificate to {party}"),
            format!("{member} 从未向 {party} 签发证书"),
        )
        .hint(
            "parties are written gateway, system/NAME, ops/NAME, auditor/NAME",
            "写法：gateway、system/NAME、ops/NAME、auditor/NAME",
        ));
    };
    out.show(&json!({ "member": member.to_string(), "party": party, "revoked": count }), || {
        out.lang.tr(
            format!("revoked {count} of {party} at {member}"),
            format!("已吊销 {member} 的 {party} 证书 {count} 张"),
        )
    })?;
    Ok(Exit::Done)
}

fn renew_crl(dir: &Path, member: Member, out: &Out) -> Answer {
    let number = Bureau::open(dir)?.renew_list(&member)?;
    out.show(&json!({ "member": member.to_string(), "crl_number": number }), || {
        out.lang.tr(
            format!("signed revocation list {number} of {member}"),
            format!("已签署 {member} 的第 {number} 份吊销列表"),
        )
    })?;
    Ok(Exit::Done)
}
