//! Decides how a gateway is configured: one TOML file, every fault of it told at once with line and column, before
//! anything binds. Never opens what the file points at.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use toml::Spanned;

use crate::admission::{DivisionPattern, Grant, Grants, Who};
use crate::limits::CHECK_EVERY_S;
use crate::party::{Alliance, Division, Member, Name, Party};
use crate::routing::{DivisionPrefix, ItemPattern, OwnSystem};
use crate::store::Synchronous;

/// A gateway's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from; empty for one that was not.
    pub file: PathBuf,
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
    /// Where monitors ask for figures, on this machine alone; `None` for nowhere.
    pub telemetry: Option<SocketAddr>,
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

/// One fault of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub line: usize,
    pub column: usize,
    pub what: String,
}

/// Why a configuration cannot be used: all of its faults.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{}", Listing(.path, .faults))]
    Faulty { path: PathBuf, faults: Vec<Fault> },
}

struct Listing<'a>(&'a Path, &'a [Fault]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, fault) in self.1.iter().enumerate() {
            let newline = if place == 0 { "" } else { "\n" };
            write!(f, "{newline}{}:{}:{}: {}", self.0.display(), fault.line, fault.column, fault.what)?;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    gateway: Gateway,
    tls: Tls,
    directory: DirectoryFiles,
    log: Log,
    #[serde(default)]
    sealing: Sealing,
    #[serde(default)]
    routing: Routing,
    #[serde(default)]
    store: Store,
    #[serde(default)]
    checks: Checks,
    #[serde(default)]
    telemetry: Telemetry,
    #[serde(default)]
    system: Vec<System>,
    #[serde(default)]
    grant: Vec<WrittenGrant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Gateway {
    alliance: Spanned<String>,
    city: Option<Spanned<String>>,
    hub: Option<Spanned<String>>,
    #[serde(default)]
    fetch_from: Vec<Spanned<String>>,
    listen: Spanned<String>,
    #[serde(default = "data")]
    data: PathBuf,
}

fn data() -> PathBuf {
    PathBuf::from("data")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    crls: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DirectoryFiles {
    file: PathBuf,
    alliance_key: PathBuf,
    follow: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    key: PathBuf,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Sealing {
    key: Option<PathBuf>,
    #[serde(default)]
    former: Vec<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Store {
    synchronous: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Checks {
    every_s: Option<Spanned<u64>>,
    partners_every_s: Option<Spanned<u64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Telemetry {
    listen: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct System {
    name: Spanned<String>,
    items: Vec<Spanned<String>>,
    #[serde(default)]
    receipts: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Routing {
    #[serde(default)]
    allow: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGrant {
    who: Spanned<String>,
    items: Vec<Spanned<String>>,
    divisions: Vec<Spanned<String>>,
}

/// Reads texts into words and notes where that fails.
struct Reading<'a> {
    text: &'a str,
    folder: &'a Path,
    faults: Vec<Fault>,
}

impl Reading<'_> {
    fn fault(&mut self, at: usize, what: impl fmt::Display) {
        let before = &self.text[..self.text.floor_char_boundary(at)];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        self.faults.push(Fault { line, column, what: what.to_string() });
    }

    fn word<T: FromStr<Err: fmt::Display>>(&mut self, text: &Spanned<String>) -> Option<T> {
        let parsed = text.as_ref().parse();
        parsed.map_err(|error| self.fault(text.span().start, format!("{:?}: {error}", text.as_ref()))).ok()
    }

    fn words<T: FromStr<Err: fmt::Display>>(&mut self, texts: &[Spanned<String>]) -> Vec<T> {
        texts.iter().filter_map(|text| self.word(text)).collect()
    }

    /// Paths count from the file's own folder.
    fn path(&self, path: PathBuf) -> PathBuf {
        self.folder.join(path)
    }

    fn member(&mut self, gateway: &Gateway) -> Option<Member> {
        match (&gateway.city, &gateway.hub) {
            (Some(city), None) => self.word::<Division>(city).map(Member::City),
            (None, Some(hub)) => self.word::<Name>(hub).map(Member::Hub),
            _ => {
                self.fault(gateway.alliance.span().start, "must have either `city` or `hub`, whose gateway this is");
                None
            }
        }
    }

    fn synchronous(&mut self, text: Option<Spanned<String>>) -> Synchronous {
        match text.as_ref().map(|text| (text.as_ref().as_str(), text.span().start)) {
            None | Some(("full", _)) => Synchronous::Full,
            Some(("normal", _)) => Synchronous::Normal,
            Some((other, at)) => {
                self.fault(at, format!("{other:?}: must be \"full\" or \"normal\""));
                Synchronous::Full
            }
        }
    }

    /// Seconds within a day.
    fn seconds(&mut self, written: Option<Spanned<u64>>, default: u64) -> u64 {
        match written.map(|seconds| (*seconds.as_ref(), seconds.span().start)) {
            None => default,
            Some((seconds @ 1..=86_400, _)) => seconds,
            Some((other, at)) => {
                self.fault(at, format!("{other}: must be 1 to 86400 seconds"));
                default
            }
        }
    }

    /// An address of this machine that nobody reaches from outside.
    fn loopback(&mut self, written: Option<Spanned<String>>) -> Option<SocketAddr> {
        let written = written?;
        let address: SocketAddr = self.word(&written)?;
        if !address.ip().is_loopback() {
            let what = format!("{address}: must be a loopback address, such as 127.0.0.1:9464");
            self.fault(written.span().start, what);
        }
        Some(address)
    }

    fn systems(&mut self, written: Vec<System>) -> Vec<OwnSystem> {
        let mut named: BTreeMap<Name, ()> = BTreeMap::new();
        let mut systems = Vec::new();
        for system in written {
            let at = system.name.span().start;
            let items: Vec<ItemPattern> = self.words(&system.items);
            let Some(name) = self.word::<Name>(&system.name) else { continue };
            if named.insert(name.clone(), ()).is_some() {
                self.fault(at, format!("the system {:?} stands twice", name.as_str()));
            }
            systems.push(OwnSystem { name, items });
        }
        systems
    }

    fn grants(&mut self, written: Vec<WrittenGrant>) -> Grants {
        let grants = written.into_iter().filter_map(|grant| {
            let who = match grant.who.as_ref().as_str() {
                "every-system" => Some(Who::EverySystem),
                "every-gateway" => Some(Who::EveryGateway),
                _ => self.word::<Party>(&grant.who).map(Who::One),
            };
            let items = self.words(&grant.items);
            let divisions = self.words::<DivisionPattern>(&grant.divisions);
            Some(Grant { who: who?, items, divisions })
        });
        Grants(grants.collect())
    }
}

impl Config {
    /// Reads the configuration in `path`; paths in it count from its own folder.
    ///
    /// # Errors
    /// Every fault, with its line and column.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        match Config::parse(&text, folder) {
            Ok(config) => Ok(Config { file: path.to_owned(), ..config }),
            Err(faults) => Err(ConfigError::Faulty { path: path.to_owned(), faults }),
        }
    }

    /// Reads a configuration's text; paths in it count from `folder`.
    ///
    /// # Errors
    /// Every fault.
    pub fn parse(text: &str, folder: &Path) -> Result<Config, Vec<Fault>> {
        let mut reading = Reading { text, folder, faults: vec![] };
        let written: Written = match toml::from_str(text) {
            Ok(written) => written,
            Err(error) => {
                reading.fault(error.span().map_or(0, |span| span.start), error.message());
                return Err(reading.faults);
            }
        };
        let alliance = reading.word(&written.gateway.alliance);
        let member = reading.member(&written.gateway);
        let listen = reading.word(&written.gateway.listen);
        let follow = written.directory.follow.as_ref().and_then(|hub| reading.word::<Member>(hub));
        let synchronous = reading.synchronous(written.store.synchronous);
        let fetch_from = reading.words(&written.gateway.fetch_from);
        let route_allow = reading.words(&written.routing.allow);
        let readers = written.system.iter().filter(|system| system.receipts).map(|system| system.name.clone());
        let receipt_readers = reading.words(&readers.collect::<Vec<_>>());
        let systems = reading.systems(written.system);
        let grants = reading.grants(written.grant);
        let check_every_s = (
            reading.seconds(written.checks.every_s, CHECK_EVERY_S.0),
            reading.seconds(written.checks.partners_every_s, CHECK_EVERY_S.1),
        );
        let telemetry = reading.loopback(written.telemetry.listen);
        let (Some(alliance), Some(member), Some(listen), true) = (alliance, member, listen, reading.faults.is_empty())
        else {
            return Err(reading.faults);
        };
        Ok(Config {
            file: PathBuf::new(),
            alliance,
            member,
            listen,
            data: reading.path(written.gateway.data),
            certificate: reading.path(written.tls.certificate),
            key: reading.path(written.tls.key),
            crls: CrlFiles(reading.path(written.tls.crls)),
            directory: reading.path(written.directory.file),
            alliance_key: reading.path(written.directory.alliance_key),
            follow,
            log_key: reading.path(written.log.key),
            sealing_key: written.sealing.key.map(|path| reading.path(path)),
            former_sealing_keys: written.sealing.former.into_iter().map(|path| reading.path(path)).collect(),
            fetch_from,
            receipt_readers,
            route_allow,
            synchronous,
            systems,
            grants,
            check_every_s,
            telemetry,
        })
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
            faults.iter().map(|fault| (fault.line, fault.column)).collect::<Vec<_>>(),
            [(4, 8), (5, 10), (16, 8)]
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
        assert_eq!(faults[0].line, 5);
        assert!(faults[0].what.contains("lisen"), "{}", faults[0].what);
    }
}
