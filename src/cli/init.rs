//! Decides what a new gateway's configuration looks like. Never overwrites one.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{Answer, Exit, Failure, Out};
use crate::directory::Directory;
use crate::keys;
use crate::party::{Division, Member, Name};
use crate::tlog::note::VerifyingKey;

/// Write the configuration of a new gateway
#[derive(Args)]
pub struct Init {
    /// The city's folder of keys and certificates, e.g. certs/dev/450200
    #[arg(long)]
    pki: PathBuf,
    /// The gateway's own folder: configuration and store
    #[arg(long)]
    data: PathBuf,
    /// Where to listen (default: the first address of the city's record)
    #[arg(long)]
    listen: Option<String>,
}

/// Writes `tongban.toml` into the gateway's folder.
pub fn run(command: Init, out: &Out) -> Answer {
    let pki = std::path::absolute(&command.pki)?;
    let alliance = pki.parent().map(Path::to_owned).unwrap_or_default();
    let city = pki.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<Division>().ok());
    let city = city.ok_or_else(|| {
        let en = format!("{}: the folder is not named after a division code", pki.display());
        Failure::new(Exit::Usage, en, format!("{}：文件夹名不是区划代码", pki.display()))
    })?;
    let key = keys::read_text(&alliance.join("alliance.vkey"))?;
    let key = VerifyingKey::parse(key.trim_end())
        .map_err(|fault| Failure::new(Exit::Data, fault, super::text::key_zh(&fault)))?;
    let directory = Directory::open(&keys::read_text(&alliance.join("directory.note"))?, &key)?;
    let record = directory.member(&Member::City(city.clone()));
    let listen = command.listen.or_else(|| Some(record?.endpoints.first()?.to_string())).ok_or_else(|| {
        let en = format!("{}: the record names no address; give --listen", city.as_str());
        Failure::new(Exit::Usage, en, format!("{}：成员记录没有地址，请指定 --listen", city.as_str()))
    })?;
    let systems = systems(&pki)?;
    let text = configuration(&directory, &city, &listen, (&pki, &alliance), &systems);
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
    city: &Division,
    listen: &str,
    (pki, alliance): (&Path, &Path),
    systems: &[Name],
) -> String {
    let quoted = |path: PathBuf| toml::Value::String(path.display().to_string()).to_string();
    let mut text = format!(
        r#"# 本市网关配置 · Configuration of this city's gateway. Paths count from this file's folder.

[gateway]
alliance = "{alliance_name}"
city = "{city}"
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

[log]
key = {log_key}
"#,
        alliance_name = directory.alliance().as_str(),
        city = city.as_str(),
        certificate = quoted(pki.join("gateway.pem")),
        key = quoted(pki.join("gateway.key")),
        crls = quoted(alliance.join("{member}").join("crl.pem")),
        file = quoted(alliance.join("directory.note")),
        alliance_key = quoted(alliance.join("alliance.vkey")),
        log_key = quoted(pki.join("log.key")),
    );
    text += "\n# The city's own systems and the items that each takes; the most precise pattern wins.\n";
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
