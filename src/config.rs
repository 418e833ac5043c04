//! Decides how a gateway is configured: files, environment and command line laid over each other, every fault of them told
//! at once with its place, before anything binds. Never opens what a setting points at.

pub mod keys;
mod layers;
mod sample;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::admission::{DivisionPattern, Grant, Grants, Who};
use crate::lang::{Zh, io_zh};
use crate::party::{Alliance, Division, Member, Name, Party};
use crate::routing::{DivisionPrefix, ItemPattern, OwnSystem};
use crate::store::Synchronous;
use keys::{KEYS, Key, Need, Plain};
use layers::{Found, Layers, Row, Value};

pub use layers::Origin;
pub use sample::sample;

/// Where a configuration is read from: the main file, those in `conf.d` beside it, the environment
/// (`TONGBAN_SECTION__NAME`), and what a command line sets (`section.name=value`). The later hold before the earlier;
/// rows such as `[[grant]]` add up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    pub file: PathBuf,
    pub sets: Vec<String>,
}

/// A gateway's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    pub source: Source,
    /// Every setting as it holds, for those who want to see.
    pub settings: Vec<Setting>,
    pub alliance: Alliance,
    /// Whose gateway this is: a city's, or an alliance's hub.
    pub member: Member,
    pub listen: SocketAddr,
    /// Where the store, the lock and the high-water mark stand.
    pub data: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Where a member's revocation lists stand.
    pub crls: CrlFiles,
    pub directory: PathBuf,
    /// File of the alliance's public key (a vkey line).
    pub alliance_key: PathBuf,
    /// The hub whose notes are followed; `None` for a gateway that knows its files alone.
    pub follow: Option<Member>,
    pub log_key: PathBuf,
    /// File of the key that opens what came through a hub; a hub has none.
    pub sealing_key: Option<PathBuf>,
    /// Files of sealing keys that the member's record named before: what was sealed for them may still be under way.
    pub former_sealing_keys: Vec<PathBuf>,
    /// Partners and hubs at which this gateway fetches what waits for it.
    pub fetch_from: Vec<Member>,
    /// Own systems to which the receipts of their messages are delivered.
    pub receipt_readers: Vec<Name>,
    /// Divisions that any routing table may claim beside those under its owner's code.
    pub route_allow: Vec<DivisionPrefix>,
    pub synchronous: Synchronous,
    pub systems: Vec<OwnSystem>,
    pub grants: Grants,
    /// Seconds between two examinations that the gateway makes of itself, and of its partners.
    pub check_every_s: (u64, u64),
    /// Seconds between two tests of the way to each partner; 0 for none.
    pub test_every_s: u64,
    /// Seconds between two looks at each partner's log; `None` where this gateway is no witness.
    pub witness_every_s: Option<u64>,
    /// Where monitors ask for figures, on this machine alone; `None` for nowhere.
    pub telemetry: Option<SocketAddr>,
    /// Where monitors of other machines ask, over mutual TLS; `None` for nowhere.
    pub telemetry_tls: Option<SocketAddr>,
    /// Who may ask there; the member's own operators and auditors where nobody is named.
    pub telemetry_readers: Vec<Party>,
}

/// The file of each member's revocation lists: a path in which `{member}` stands for the member's name.
#[derive(Debug, Clone)]
pub struct CrlFiles(PathBuf);

impl CrlFiles {
    /// The file of one member; a hub's name has its slash replaced by a hyphen.
    pub fn of(&self, member: &Member) -> PathBuf {
        let name = member.to_string().replace('/', "-");
        PathBuf::from(self.0.to_string_lossy().replace("{member}", &name))
    }
}

/// A setting that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub key: &'static Key,
    /// `section.name`, or `section[row].name`.
    pub name: String,
    /// As it would stand in a file; `None` where an optional one is not set.
    pub value: Option<String>,
    pub origin: Origin,
}

/// How a setting differs between two configurations; `None` is the default, or a row that does not stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub key: &'static Key,
    pub name: String,
    pub before: Option<String>,
    pub after: Option<String>,
}

/// One fault of a configuration, in English and Chinese.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub origin: Origin,
    pub en: String,
    pub zh: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.en)
    }
}

/// Why a configuration cannot be used: all of its faults.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{}", Fault::lines(.0))]
    Faulty(Vec<Fault>),
}

impl Fault {
    fn lines(faults: &[Fault]) -> String {
        faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n")
    }
}

impl ConfigError {
    /// The same in Chinese.
    pub fn zh(&self) -> String {
        match self {
            ConfigError::Unreadable { path, source } => format!("{}：无法读取（{}）", path.display(), io_zh(source)),
            ConfigError::Faulty(faults) => {
                faults.iter().map(|fault| format!("{}：{}", fault.origin, fault.zh)).collect::<Vec<_>>().join("\n")
            }
        }
    }
}

/// Reads values into words and notes where that fails.
struct Reading<'a> {
    layers: &'a Layers,
    folder: &'a Path,
    faults: Vec<Fault>,
}

impl<'a> Reading<'a> {
    fn fault(&mut self, origin: &Origin, en: impl Into<String>, zh: impl Into<String>) {
        self.faults.push(Fault { origin: origin.clone(), en: en.into(), zh: zh.into() });
    }

    fn found(&self, section: &str, name: &str) -> Option<&'a Found> {
        self.layers.once.get(section)?.values.get(name)
    }

    fn rows(&self, section: &str) -> &'a [Row] {
        self.layers.rows.get(section).map(Vec::as_slice).unwrap_or_default()
    }

    fn parsed<T: FromStr<Err: fmt::Display + Zh>>(&mut self, origin: &Origin, text: &str) -> Option<T> {
        let unfit =
            |error: T::Err| self.fault(origin, format!("{text:?}: {error}"), format!("{text:?} 无效：{}", error.zh()));
        text.parse().map_err(unfit).ok()
    }

    fn word<T: FromStr<Err: fmt::Display + Zh>>(&mut self, found: Option<&Found>) -> Option<T> {
        let found = found?;
        self.parsed(&found.origin, text(found)?)
    }

    fn words<T: FromStr<Err: fmt::Display + Zh>>(&mut self, found: Option<&Found>) -> Vec<T> {
        texts(found).iter().filter_map(|(origin, text)| self.parsed(origin, text)).collect()
    }

    fn path(&self, section: &str, name: &str) -> Option<PathBuf> {
        let written = self.found(section, name).and_then(text);
        let default = || match keys::find(section, name)?.need {
            Need::Default(Plain::Text(path)) => Some(path),
            _ => None,
        };
        written.or_else(default).map(|path| self.folder.join(path))
    }

    fn member(&mut self) -> Option<Member> {
        match (self.found("gateway", "city"), self.found("gateway", "hub")) {
            (Some(city), None) => self.word::<Division>(Some(city)).map(Member::City),
            (None, Some(hub)) => self.word::<Name>(Some(hub)).map(Member::Hub),
            (city, _) => {
                let section = self.layers.once.get("gateway")?;
                let origin = city.map_or(&section.origin, |city| &city.origin);
                let en = "must have either `city` or `hub`, whose gateway this is";
                self.fault(origin, en, "须且只能设置 city 或 hub 之一，说明网关的归属");
                None
            }
        }
    }

    fn synchronous(&mut self) -> Synchronous {
        let found = self.found("store", "synchronous");
        match found.and_then(|found| Some((text(found)?, &found.origin))) {
            None | Some(("full", _)) => Synchronous::Full,
            Some(("normal", _)) => Synchronous::Normal,
            Some((other, origin)) => {
                let en = format!("{other:?}: must be \"full\" or \"normal\"");
                self.fault(origin, en, format!("{other:?} 无效：应为 \"full\" 或 \"normal\""));
                Synchronous::Full
            }
        }
    }

    /// Seconds within a day, no fewer than these.
    fn seconds(&mut self, section: &str, name: &str, least: u64) -> u64 {
        let default = match keys::find(section, name).map(|key| key.need) {
            Some(Need::Default(Plain::Number(seconds))) => seconds,
            _ => 0,
        };
        match self.found(section, name).map(|found| (&found.value, &found.origin)) {
            Some((Value::Number(seconds), _)) if (least..=86_400).contains(seconds) => *seconds,
            Some((Value::Number(other), origin)) => {
                let en = format!("{other}: must be {least} to 86400 seconds");
                self.fault(origin, en, format!("{other} 无效：应为 {least} 至 86400 秒"));
                default
            }
            _ => default,
        }
    }

    /// An address of this machine that nobody reaches from outside.
    fn loopback(&mut self, found: Option<&Found>) -> Option<SocketAddr> {
        let address: SocketAddr = self.word(found)?;
        if !address.ip().is_loopback() {
            let en = format!("{address}: must be a loopback address, such as 127.0.0.1:9464");
            self.fault(&found?.origin, en, format!("{address} 无效：应为本机回环地址，例如 127.0.0.1:9464"));
        }
        Some(address)
    }

    /// The systems, and those of them to which receipts are delivered.
    fn systems(&mut self) -> (Vec<OwnSystem>, Vec<Name>) {
        let (mut systems, mut readers): (Vec<OwnSystem>, _) = (vec![], vec![]);
        for row in self.rows("system") {
            let items: Vec<ItemPattern> = self.words(row.values.get("items"));
            let named = row.values.get("name");
            let (Some(name), Some(named)) = (self.word::<Name>(named), named) else { continue };
            if systems.iter().any(|system| system.name == name) {
                let en = format!("the system {:?} stands twice", name.as_str());
                self.fault(&named.origin, en, format!("系统 {:?} 重复", name.as_str()));
            }
            if row.values.get("receipts").is_some_and(|found| found.value == Value::Flag(true)) {
                readers.push(name.clone());
            }
            systems.push(OwnSystem { name, items });
        }
        (systems, readers)
    }

    fn grants(&mut self) -> Grants {
        let grants = self.rows("grant").iter().filter_map(|row| {
            let who = row.values.get("who");
            let who = match who.and_then(text) {
                Some("every-system") => Some(Who::EverySystem),
                Some("every-gateway") => Some(Who::EveryGateway),
                _ => self.word::<Party>(who).map(Who::One),
            };
            let items = self.words(row.values.get("items"));
            let divisions = self.words::<DivisionPattern>(row.values.get("divisions"));
            Some(Grant { who: who?, items, divisions })
        });
        Grants(grants.collect())
    }
}

fn text(found: &Found) -> Option<&str> {
    match &found.value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn texts(found: Option<&Found>) -> &[(Origin, String)] {
    match found.map(|found| &found.value) {
        Some(Value::Texts(texts)) => texts,
        _ => &[],
    }
}

impl Config {
    /// Reads the configuration of a main file; paths in it count from its own folder.
    ///
    /// # Errors
    /// Every fault, with its place.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        Config::read(&Source { file: path.to_owned(), sets: vec![] })
    }

    /// Reads everything that the source names.
    ///
    /// # Errors
    /// Every fault, with its place.
    pub fn read(source: &Source) -> Result<Config, ConfigError> {
        let mut layers = Layers::default();
        for (path, text) in layers::files(&source.file)? {
            layers.file(&path, &text);
        }
        let variables = std::env::vars_os();
        layers.environment(
            variables.filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?))),
        );
        layers.command_line(&source.sets);
        Config::of_layers(layers, source).map_err(ConfigError::Faulty)
    }

    /// Reads a configuration's text alone; paths in it count from `folder`.
    ///
    /// # Errors
    /// Every fault.
    pub fn parse(text: &str, folder: &Path) -> Result<Config, Vec<Fault>> {
        let file = folder.join("tongban.toml");
        let mut layers = Layers::default();
        layers.file(&file, text);
        Config::of_layers(layers, &Source { file, sets: vec![] })
    }

    fn of_layers(mut layers: Layers, source: &Source) -> Result<Config, Vec<Fault>> {
        layers.complete(&source.file);
        let folder = source.file.parent().unwrap_or(Path::new("."));
        let mut reading = Reading { layers: &layers, folder, faults: layers.faults.clone() };
        let config = reading.config(source);
        let mut faults = reading.faults;
        faults.sort_by(|one, other| one.origin.cmp(&other.origin));
        match config {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(faults),
        }
    }

    /// Where the other differs from this one, by the settings' names.
    pub fn changes(&self, other: &Config) -> Vec<Change> {
        let given = |config: &Config| -> BTreeMap<String, (&'static Key, Option<String>)> {
            let given = config.settings.iter().filter(|setting| setting.origin != Origin::Default);
            given.map(|setting| (setting.name.clone(), (setting.key, setting.value.clone()))).collect()
        };
        let (before, after) = (given(self), given(other));
        let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let changes = names.into_iter().filter_map(|name| {
            let (was, is) = (before.get(name), after.get(name));
            let (key, _) = was.or(is)?;
            let plain = |side: Option<&(&Key, Option<String>)>| {
                side.and_then(|(_, value)| value.clone()).filter(|value| key.default_value().as_ref() != Some(value))
            };
            let (before, after) = (plain(was), plain(is));
            (before != after).then(|| Change { key, name: name.clone(), before, after })
        });
        changes.collect()
    }
}

impl Reading<'_> {
    /// `None` when something that must be there is not, or is no such thing.
    fn config(&mut self, source: &Source) -> Option<Config> {
        let alliance = self.word(self.found("gateway", "alliance"));
        let member = self.member();
        let listen = self.word(self.found("gateway", "listen"));
        let follow = self.word(self.found("directory", "follow"));
        let fetch_from = self.words(self.found("gateway", "fetch_from"));
        let route_allow = self.words(self.found("routing", "allow"));
        let synchronous = self.synchronous();
        let (systems, receipt_readers) = self.systems();
        let grants = self.grants();
        let check_every_s = (self.seconds("checks", "every_s", 1), self.seconds("checks", "partners_every_s", 1));
        let test_every_s = self.seconds("checks", "test_every_s", 0);
        let off = self.found("witness", "on").is_some_and(|found| found.value == Value::Flag(false));
        let witness_every_s = Some(self.seconds("witness", "every_s", 1)).filter(|_| !off);
        let telemetry = self.loopback(self.found("telemetry", "listen"));
        let telemetry_tls = self.word(self.found("telemetry", "tls_listen"));
        let telemetry_readers = self.words(self.found("telemetry", "tls_readers"));
        let former = texts(self.found("sealing", "former"));
        Some(Config {
            source: source.clone(),
            settings: self.settings(),
            alliance: alliance?,
            member: member?,
            listen: listen?,
            data: self.path("gateway", "data")?,
            certificate: self.path("tls", "certificate")?,
            key: self.path("tls", "key")?,
            crls: CrlFiles(self.path("tls", "crls")?),
            directory: self.path("directory", "file")?,
            alliance_key: self.path("directory", "alliance_key")?,
            follow,
            log_key: self.path("log", "key")?,
            sealing_key: self.path("sealing", "key"),
            former_sealing_keys: former.iter().map(|(_, path)| self.folder.join(path)).collect(),
            fetch_from,
            receipt_readers,
            route_allow,
            synchronous,
            systems,
            grants,
            check_every_s,
            test_every_s,
            witness_every_s,
            telemetry,
            telemetry_tls,
            telemetry_readers,
        })
    }

    /// Every setting as it holds, by section.
    fn settings(&self) -> Vec<Setting> {
        let mut settings = vec![];
        for section in keys::SECTIONS {
            let keys = KEYS.iter().filter(|key| key.section == section.name);
            if !section.rows {
                settings.extend(keys.map(|key| setting(key, key.to_string(), self.found(key.section, key.name))));
                continue;
            }
            for (place, row) in self.rows(section.name).iter().enumerate() {
                let label = row.values.get("name").and_then(text).map_or((place + 1).to_string(), str::to_owned);
                settings.extend(keys.clone().map(|key| {
                    setting(key, format!("{}[{label}].{}", key.section, key.name), row.values.get(key.name))
                }));
            }
        }
        settings
    }
}

fn setting(key: &'static Key, name: String, found: Option<&Found>) -> Setting {
    match found {
        Some(found) => Setting { key, name, value: Some(found.value.to_string()), origin: found.origin.clone() },
        None => Setting { key, name, value: key.default_value(), origin: Origin::Default },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[gateway]
alliance = "alliance.example"
city = "450200"
listen = "127.0.0.1:7501"
[tls]
certificate = "gateway.pem"
key = "gateway.key"
crls = "{member}/crl.pem"
[directory]
file = "directory.note"
alliance_key = "alliance.vkey"
[log]
key = "log.key"
[[system]]
name = "window"
items = ["*"]
[[grant]]
who = "every-system"
items = ["*"]
divisions = ["*"]
"#;

    #[test]
    fn paths_count_from_the_file() {
        let config = Config::parse(GOOD, Path::new("/etc/tongban")).unwrap();
        assert_eq!(config.key, Path::new("/etc/tongban/gateway.key"));
        assert_eq!(config.crls.of(&"440600".parse().unwrap()), Path::new("/etc/tongban/440600/crl.pem"));
        assert_eq!(config.synchronous, Synchronous::Full, "the shipped default keeps what it promised");
    }

    #[test]
    fn all_faults_are_told_at_once_with_their_places() {
        let bad = GOOD.replace("450200", "45").replace("127.0.0.1:7501", "nowhere").replace("\"window\"", "\"a b\"");
        let faults = Config::parse(&bad, Path::new(".")).unwrap_err();
        assert_eq!(
            faults.iter().map(|fault| fault.origin.to_string()).collect::<Vec<_>>(),
            ["./tongban.toml:4:8", "./tongban.toml:5:10", "./tongban.toml:16:8"]
        );
    }

    #[test]
    fn a_gateway_is_a_citys_or_a_hubs_and_opens_with_the_keys_it_names() {
        let city = Config::parse(GOOD, Path::new("/etc/tongban")).unwrap();
        assert_eq!((city.member, city.sealing_key), ("450200".parse().unwrap(), None));
        let keys = "[sealing]\nkey = \"sealing.key\"\nformer = [\"old.key\"]\n[[system]]";
        let sealing = Config::parse(&GOOD.replace("[[system]]", keys), Path::new("/etc/tongban")).unwrap();
        assert_eq!(sealing.sealing_key.as_deref(), Some(Path::new("/etc/tongban/sealing.key")));
        assert_eq!(sealing.former_sealing_keys, [Path::new("/etc/tongban/old.key")]);
        let hub = Config::parse(&GOOD.replace("city = \"450200\"", "hub = \"main\""), Path::new(".")).unwrap();
        assert_eq!(hub.member, "hub/main".parse().unwrap());
        for neither in ["", "city = \"450200\"\nhub = \"main\""] {
            assert!(Config::parse(&GOOD.replace("city = \"450200\"", neither), Path::new(".")).is_err(), "{neither}");
        }
    }

    #[test]
    fn monitors_ask_on_this_machine_alone_and_only_where_that_is_configured() {
        assert_eq!(Config::parse(GOOD, Path::new(".")).unwrap().telemetry, None);
        let at = |listen: &str| format!("{GOOD}[telemetry]\nlisten = \"{listen}\"\n");
        let config = Config::parse(&at("[::1]:9464"), Path::new(".")).unwrap();
        assert_eq!(config.telemetry, Some("[::1]:9464".parse().unwrap()));
        for outside in ["0.0.0.0:9464", "[::]:9464", "192.0.2.1:9464", "9464"] {
            let faults = Config::parse(&at(outside), Path::new(".")).unwrap_err();
            assert_eq!(faults.len(), 1, "{outside}: {faults:?}");
        }
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        let faults = Config::parse(&GOOD.replace("listen", "lisen"), Path::new(".")).unwrap_err();
        let said: Vec<String> = faults.iter().map(Fault::to_string).collect();
        assert!(said[0].starts_with("./tongban.toml:2:2: gateway.listen is missing"), "{said:?}");
        assert_eq!(said[1], "./tongban.toml:5:1: there is no setting \"lisen\"; did you mean \"listen\"?");
    }
}
