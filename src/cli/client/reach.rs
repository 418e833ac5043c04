//! Decides which files and which address stand for a system on the command line: those of a development alliance's
//! folder, or those named one by one. Reads them all before anything is dialled, and never writes one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use clap::Args;
use tonic::transport::Uri;

use super::super::directory::public_key;
use super::super::span::Span;
use super::super::{Exit, Failure, now};
use crate::directory::{CrlPolicy, Directory, Endpoint, MemberRecord};
use crate::keys::{self, KeyFileError};
use crate::lang::{Unfit, Zh};
use crate::message::Address;
use crate::party::{Member, Name, NameError, Party, Role};
use crate::tls::config::{Moment, Own, client_config};
use crate::tls::dial::Dialler;
use crate::tls::trust::{self, MemberTrust, Trust};

/// Who speaks, and where.
#[derive(Args)]
pub struct As {
    /// Who you are: a city and one of its systems; to operate or audit its gateway CITY/ops/NAME or CITY/auditor/NAME
    #[arg(long = "as", value_name = "CITY/SYSTEM", value_parser = speaker)]
    me: Me,
    /// The development alliance, which holds all of the files below
    #[arg(long, default_value = "certs/dev", help_heading = "Connection")]
    dir: PathBuf,
    /// Where the city's gateway is dialled [default: the first address of its member record]
    #[arg(long, value_name = "HOST:PORT", help_heading = "Connection")]
    gateway: Option<Endpoint>,
    /// Your certificate chain [default: DIR/CITY/systems/SYSTEM.pem, …/ops/NAME.pem, …/auditors/NAME.pem]
    #[arg(long, help_heading = "Connection")]
    cert: Option<PathBuf>,
    /// Your private key [default: beside the certificate, .key]
    #[arg(long, help_heading = "Connection")]
    key: Option<PathBuf>,
    /// The alliance's signed directory [default: DIR/directory.note]
    #[arg(long, help_heading = "Connection")]
    directory: Option<PathBuf>,
    /// The alliance's public key, a file or a vkey line [default: alliance.vkey beside the directory]
    #[arg(long, value_name = "VKEY", help_heading = "Connection")]
    alliance_key: Option<String>,
    /// The city's revocation list [default: DIR/CITY/crl.pem]
    #[arg(long, help_heading = "Connection")]
    crl: Option<PathBuf>,
    /// Wait so long for a gateway that does not listen yet
    #[arg(long, value_name = "SPAN", default_value_t = PATIENCE, help_heading = "Connection")]
    patience: Span,
}

/// How long a gateway that was just started may take until it listens.
const PATIENCE: Span = Span::from_ms(3_000);

/// A system of a city, or a person who works with its gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Me {
    /// Of a person, the city alone.
    address: Address,
    name: Name,
    role: Role,
}

/// All that a client needs, read and checked.
pub struct Reach {
    pub me: Address,
    pub directory: Directory,
    pub dialler: Dialler,
    /// Where the gateway is dialled.
    pub gateway: Uri,
    pub patience: Duration,
}

impl As {
    /// The same as `--as ME --dir DIR`.
    pub fn of(me: &Address, dir: &Path) -> Option<As> {
        let name = me.system.clone()?;
        let me = Me { address: me.clone(), role: Role::System(name.clone()), name };
        let (dir, patience) = (dir.to_owned(), PATIENCE);
        Some(As {
            me,
            dir,
            gateway: None,
            cert: None,
            key: None,
            directory: None,
            alliance_key: None,
            crl: None,
            patience,
        })
    }

    /// The same with `--gateway`.
    pub fn at(self, gateway: Endpoint) -> As {
        As { gateway: Some(gateway), ..self }
    }

    /// Reads the files and prepares the connection.
    pub fn reach(&self) -> Result<Reach, Failure> {
        let directory = self.read_directory()?;
        let city = &self.me.address.city;
        let member = Member::City(city.clone());
        let record = directory.member(&member).ok_or_else(|| {
            let (en, zh) = (format!("{member} is not in the directory"), format!("目录中没有成员 {member}"));
            Failure::new(Exit::Data, en, zh)
        })?;
        let gateway = match (&self.gateway, record.endpoints.first()) {
            (Some(given), _) => given.to_string(),
            (None, Some(first)) => first.to_string(),
            (None, None) => return Err(nowhere(&member)),
        };
        let trust = self.trust(&directory, record)?;
        let own = self.own(&directory, &trust)?;
        let expected = Party::gateway(directory.alliance().clone(), member);
        let trust = Arc::new(ArcSwap::from_pointee(trust));
        let config = client_config(trust, own, Moment::new(now), expected).map_err(|fault| {
            let (en, zh) = (format!("certificate and key: {fault}"), format!("证书与私钥：{fault}"));
            Failure::new(Exit::Data, en, zh)
        })?;
        let address = format!("https://{gateway}").parse().map_err(|_| {
            Failure::new(Exit::Usage, format!("{gateway} is no address"), format!("{gateway} 不是地址"))
        })?;
        Ok(Reach {
            me: self.me.address.clone(),
            directory,
            dialler: Dialler::new(config),
            gateway: address,
            patience: self.patience.into(),
        })
    }

    fn read_directory(&self) -> Result<Directory, Failure> {
        let path = self.directory.clone().unwrap_or_else(|| self.dir.join("directory.note"));
        let beside = path.with_file_name("alliance.vkey").display().to_string();
        let key = public_key(self.alliance_key.as_deref().unwrap_or(&beside)).map_err(|failure| {
            failure.hint(
                "name the folder with --dir, or the key with --alliance-key",
                "请用 --dir 指明目录，或用 --alliance-key 指明公钥",
            )
        })?;
        let directory = Directory::open(&keys::read_text(&path)?, &key);
        directory.map_err(|fault| Failure::from(fault).at(path.display()))
    }

    /// Whom the directory knows. Only the own city's gateway is spoken with; the others are known so that one of them at
    /// the wrong address is told by its name.
    fn trust(&self, directory: &Directory, record: &MemberRecord) -> Result<Trust, Failure> {
        let path = self.crl.clone().unwrap_or_else(|| self.city_folder().join("crl.pem"));
        let crls = match keys::read_crls(&path) {
            Err(KeyFileError::Missing { .. }) if record.crl == CrlPolicy::None => vec![],
            other => other?,
        };
        let own = MemberTrust {
            crl: match record.crl {
                CrlPolicy::Required => trust::CrlPolicy::Required,
                CrlPolicy::None => trust::CrlPolicy::None,
            },
            crls,
            ..known(record)
        };
        let others = directory.entries().map(|entry| &entry.record).filter(|other| other.member != record.member);
        let members = std::iter::once(own).chain(others.map(known)).collect();
        Trust::build(directory.alliance().clone(), members).map_err(|faults| {
            let all: Vec<String> = faults.iter().map(ToString::to_string).collect();
            Failure::new(Exit::Data, all.join("\n"), format!("{}：{}", path.display(), all.join("\n")))
        })
    }

    /// The certificate and its key, provided that they are this system's and still valid: a gateway that refuses them
    /// says so in its own log only.
    fn own(&self, directory: &Directory, trust: &Trust) -> Result<Own, Failure> {
        let name = self.me.name.as_str();
        let path =
            self.cert.clone().unwrap_or_else(|| self.city_folder().join(self.me.folder()).join(format!("{name}.pem")));
        let key = self.key.clone().unwrap_or_else(|| path.with_extension("key"));
        let chain = keys::read_certificates(&path).map_err(|fault| self.missing_system(fault))?;
        let own = Own { chain, key: keys::read_private_key(&key)? };
        let party = Party {
            alliance: directory.alliance().clone(),
            member: Member::City(self.me.address.city.clone()),
            role: self.me.role.clone(),
        };
        let leaf = own.chain.first().and_then(|leaf| trust.whose(leaf).ok());
        match leaf {
            Some(identity) if identity.party == party && identity.not_after < now() => {
                let (path, end) = (path.display(), identity.not_after);
                Err(Failure::new(Exit::Data, format!("{path}: expired on {end}"), format!("{path}：已于 {end} 过期")))
            }
            Some(identity) if identity.party == party => Ok(own),
            other => {
                let found = other.map_or_else(|| "nobody of this alliance".to_owned(), |other| other.party.to_string());
                let path = path.display();
                let zh = format!("{path}：证书名为 {found}，而非 {party}");
                Err(Failure::new(Exit::Data, format!("{path}: is for {found}, not {party}"), zh))
            }
        }
    }

    fn missing_system(&self, fault: KeyFileError) -> Failure {
        let missing = matches!(fault, KeyFileError::Missing { .. }) && self.cert.is_none();
        let failure = Failure::from(fault);
        if !missing {
            return failure;
        }
        let (city, name) = (self.me.address.city.as_str(), self.me.name.as_str());
        let add = format!("tongban pki {} {city} {name} --dir {}", self.me.command(), self.dir.display());
        failure.hint(format!("make it with: {add}"), format!("可用此命令制作：{add}"))
    }

    fn city_folder(&self) -> PathBuf {
        self.dir.join(self.me.address.city.as_str())
    }
}

/// A member as its record shows it, without revocation lists.
fn known(record: &MemberRecord) -> MemberTrust {
    MemberTrust {
        member: record.member.clone(),
        roots: record.roots.clone(),
        issuers: vec![],
        crl: trust::CrlPolicy::None,
        crls: vec![],
        pin: record.key_pin,
        days_max: record.days_max,
    }
}

fn nowhere(member: &Member) -> Failure {
    let (en, zh) = (format!("{member} has no address in its record"), format!("{member} 的成员记录没有地址"));
    Failure::new(Exit::Usage, en, zh).hint("name it with --gateway HOST:PORT", "请用 --gateway HOST:PORT 指明地址")
}

impl Me {
    /// Where the development alliance keeps such certificates.
    fn folder(&self) -> &'static str {
        match self.role {
            Role::Ops(_) => "ops",
            Role::Auditor(_) => "auditors",
            Role::System(_) | Role::Gateway => "systems",
        }
    }

    /// What makes such a certificate.
    fn command(&self) -> &'static str {
        match self.role {
            Role::Ops(_) => "add-ops",
            Role::Auditor(_) => "add-auditor",
            Role::System(_) | Role::Gateway => "add-system",
        }
    }
}

/// Reads `CITY/SYSTEM`, `CITY/ops/NAME` or `CITY/auditor/NAME`.
fn speaker(given: &str) -> Result<Me, Unfit> {
    let person = |city: &str, name: &str, role: fn(Name) -> Role| {
        let name: Name = name.parse().map_err(named)?;
        Ok(Me { address: address(city)?, role: role(name.clone()), name })
    };
    match given.split('/').collect::<Vec<_>>()[..] {
        [city, "ops", name] => person(city, name, Role::Ops),
        [city, "auditor", name] => person(city, name, Role::Auditor),
        _ => {
            let address = address(given)?;
            let must = || Unfit::new("CITY/SYSTEM, e.g. 450200/window", "应为 城市/系统，例如 450200/window");
            let name = address.system.clone().ok_or_else(must)?;
            Ok(Me { address, role: Role::System(name.clone()), name })
        }
    }
}

/// Reads `CITY` or `CITY/SYSTEM`.
pub fn address(given: &str) -> Result<Address, Unfit> {
    let (city, system) = match given.split_once('/') {
        Some((city, system)) => (city, Some(system)),
        None => (given, None),
    };
    let city = city.parse().map_err(named)?;
    let system = system.map(str::parse).transpose().map_err(named)?;
    Ok(Address { city, system })
}

fn named(fault: NameError) -> Unfit {
    Unfit::new(fault.to_string(), fault.zh())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_a_city_and_a_name() {
        let me = speaker("450200/window").unwrap();
        let person = speaker("450200/ops/li.wei").unwrap();
        assert_eq!((person.folder(), person.address.to_string().as_str()), ("ops", "450200"));
        assert_eq!((me.address.to_string(), me.name.as_str()), ("450200/window".to_owned(), "window"));
        for bad in ["450200", "450200/", "/window", "4502/window", "450200/a/b", "450200/.."] {
            assert!(speaker(bad).is_err(), "{bad}");
        }
        assert_eq!(address("440600").unwrap().to_string(), "440600");
    }
}
