//! Decides what a new gateway's configuration looks like. Never overwrites one.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{Answer, Exit, Failure, Out};
use crate::directory::Directory;
use crate::keys;
use crate::party::{Member, Name};
use crate::tlog::note::VerifyingKey;

/// Write the configuration of a new gateway
#[derive(Args)]
pub struct Init {
    /// The member's folder of keys and certificates, e.g. certs/dev/450200 or certs/dev/hub-main
    #[arg(long)]
    pki: PathBuf,
    /// The gateway's own folder: configuration and store
    #[arg(long)]
    data: PathBuf,
    /// Where to listen (default: the first address of the member's record)
    #[arg(long)]
    listen: Option<String>,
}

/// Writes `tongban.toml` into the gateway's folder.
pub fn run(command: Init, out: &Out) -> Answer {
    let pki = std::path::absolute(&command.pki)?;
    let alliance = pki.parent().map(Path::to_owned).unwrap_or_default();
    let member = pki.file_name().and_then(|name| member(name.to_str()?)).ok_or_else(|| {
        let en = format!("{}: the folder is named after no member (a division code, or hub-NAME)", pki.display());
        Failure::new(Exit::Usage, en, format!("{}：文件夹名不是成员名（区划代码或 hub-NAME）", pki.display()))
    })?;
    let key = keys::read_text(&alliance.join("alliance.vkey"))?;
    let key = VerifyingKey::parse(key.trim_end())
        .map_err(|fault| Failure::new(Exit::Data, fault, super::text::key_zh(&fault)))?;
    let directory = Directory::open(&keys::read_text(&alliance.join("directory.note"))?, &key)?;
    let record = directory.member(&member);
    let listen = command.listen.or_else(|| Some(record?.endpoints.first()?.to_string())).ok_or_else(|| {
        let en = format!("{member}: the record names no address; give --listen");
        Failure::new(Exit::Usage, en, format!("{member}：成员记录没有地址，请指定 --listen"))
    })?;
    let systems = systems(&pki)?;
    let text = configuration(&directory, &member, &listen, (&pki, &alliance), &systems);
    std::fs::create_dir_all(&command.data)?;
    let path = command.data.join("tongban.toml");
    if path.exists() {
        let en = format!("{}: exists already and is not overwritten", path.display());
        return Err(Failure::new(Exit::CantCreate, en, format!("{}：已存在，不会覆盖", path.display())));
    }
    keys::replace_public(&path, text.as_bytes())?;
    let shown = path.display().to_string();
    let next = format!("tongban serve --config {shown}");
    out.show(&json!({ "config": shown, "listen": listen, "next": next }), || {
        out.lang.tr(format!("{shown}\nnext: {next}"), format!("{shown}\n下一步：{next}"))
    })?;
    Ok(Exit::Done)
}

/// The member after whom a folder is named.
fn member(folder: &str) -> Option<Member> {
    match folder.strip_prefix("hub-") {
        Some(name) => name.parse().ok().map(Member::Hub),
        None => folder.parse().ok().map(Member::City),
    }
}

/// The systems that have certificates.
fn systems(pki: &Path) -> Result<Vec<Name>, Failure> {
    let folder = pki.join("systems");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>()?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => vec![],
        Err(error) => return Err(error.into()),
    };
    let names = entries.iter().filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".pem")?.parse().ok());
    let mut names: Vec<Name> = names.collect();
    names.sort();
    Ok(names)
}

fn configuration(
    directory: &Directory,
    member: &Member,
    listen: &str,
    (pki, alliance): (&Path, &Path),
    systems: &[Name],
) -> String {
    let quoted = |path: PathBuf| toml::Value::String(path.display().to_string()).to_string();
    let (role, name) = match member {
        Member::City(city) => ("city", city.as_str()),
        Member::Hub(hub) => ("hub", hub.as_str()),
    };
    let mut text = format!(
        r#"# 网关配置 · Configuration of this gateway. Paths count from this file's folder.

[gateway]
alliance = "{alliance_name}"
{role} = "{name}"
listen = "{listen}"
data = "store"

[tls]
certificate = {certificate}
key = {key}
# Revocation lists, a file per member; {{member}} stands for the member's name.
crls = {crls}

[directory]
file = {file}
alliance_key = {alliance_key}
{follow}
[log]
key = {log_key}
"#,
        alliance_name = directory.alliance().as_str(),
        certificate = quoted(pki.join("gateway.pem")),
        key = quoted(pki.join("gateway.key")),
        crls = quoted(alliance.join("{member}").join("crl.pem")),
        file = quoted(alliance.join("directory.note")),
        alliance_key = quoted(alliance.join("alliance.vkey")),
        follow = follow(directory, member),
        log_key = quoted(pki.join("log.key")),
    );
    let sealing = pki.join("sealing.key");
    if sealing.exists() {
        text += "\n# Opens what came through a hub. When the record names a new key, the old one stands in `former` for a while.\n";
        text += &format!("[sealing]\nkey = {}\n", quoted(sealing));
    }
    text += TELEMETRY;
    text += &match member {
        Member::City(_) => city_rules(systems),
        Member::Hub(_) => HUB_RULES.to_owned(),
    };
    text
}

/// The setting for the hub that carries directory and tables: the first relay of the record that can be dialled.
fn follow(directory: &Directory, member: &Member) -> String {
    let relays = directory.member(member).map(|record| record.relays.as_slice()).unwrap_or_default();
    let hub = relays.iter().find(|relay| directory.member(relay).is_some_and(|record| !record.pulls()));
    hub.map_or(String::new(), |hub| {
        format!("# The hub that carries newer directories and the partners' tables.\nfollow = \"{hub}\"\n")
    })
}

/// What a city's gateway hands on and allows.
fn city_rules(systems: &[Name]) -> String {
    let mut text =
        "\n# The city's own systems and the items that each takes; the most precise pattern wins.\n".to_owned();
    for system in systems {
        text += &format!("[[system]]\nname = \"{}\"\nitems = [\"*\"]\n\n", system.as_str());
    }
    text += r#"# What is allowed; what no grant allows is refused. These are wide: narrow them to the agreements in force.
[[grant]]
who = "every-system"        # or one identity: "spiffe://…/system/<name>"
items = ["*"]               # an item code, the beginning of one followed by '*', or '*'
divisions = ["*"]           # recipient cities: a division code, "45*", or "*"

[[grant]]
who = "every-gateway"
items = ["*"]
divisions = ["*"]           # sending cities
"#;
    text
}

/// Off until somebody wants it: two gateways of one machine cannot share an address.
const TELEMETRY: &str = r#"
# Figures for a monitor (GET /metrics), on this machine alone.
# [telemetry]
# listen = "127.0.0.1:9464"
"#;

/// What a hub allows; it has no systems.
const HUB_RULES: &str = r#"
# Who may send what through this hub; what no grant allows is refused. This is wide: narrow it to the agreements in force.
[[grant]]
who = "every-gateway"       # or one identity: "spiffe://…/city/<division>/gateway"
items = ["*"]               # an item code, the beginning of one followed by '*', or '*'
divisions = ["*"]           # sending cities: a division code, "45*", or "*"
"#;
