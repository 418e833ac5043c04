//! Decides how the files of a development alliance lie in its directory, and in which order they come to be. Never leaves
//! a city half made under its own name: it is made beside and moved into place.

#![allow(clippy::disallowed_methods, reason = "writes, syncs and renames")]

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::issue::Authority;
use super::issued::Issued;
use crate::cli::{Exit, Failure, now};
use crate::directory::{CrlPolicy, Directory, Endpoint, Entry, MemberRecord, SealingKey};
use crate::directory::{alliance_key_name, dashed, log_origin_prefix, member_key_name};
use crate::keys::{self, KeyFileError, Seed};
use crate::lang::io_zh;
use crate::limits::CERTIFICATE_DAYS_MAX;
use crate::party::{Alliance, Member, Name, Party, Role};
use crate::seal::OpeningKey;
use crate::tlog::note::{SigningKey, VerifyingKey};

/// Names under which every development gateway answers ordinary gRPC clients on its own machine.
const LOCAL_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Instance and generation of a new city's first log.
const FIRST_LOG: &str = "a/1";

/// A development alliance on disk, with its key in hand. Holds a lock, so that two commands do not sign two directories
/// of one version.
pub struct Bureau {
    dir: PathBuf,
    key: SigningKey,
    directory: Directory,
    _lock: File,
}

/// What a new city or hub is to be.
pub struct Plan {
    pub member: Member,
    pub name_zh: String,
    pub name_en: String,
    pub endpoints: Vec<Endpoint>,
    pub systems: Vec<Name>,
    pub ops: Vec<Name>,
    pub relays: Vec<Member>,
    pub unsealed_relay: bool,
}

impl Bureau {
    /// Makes the alliance's key and its first, empty directory.
    pub fn found(dir: &Path, alliance: &Alliance) -> Result<Bureau, Failure> {
        make_dir(dir)?;
        let lock = lock(dir)?;
        let seed = Seed::generate()?;
        let key = SigningKey::from_seed(&alliance_key_name(alliance), seed.bytes()).map_err(unnamed)?;
        let directory = Directory::empty(alliance, now())?;
        let note = directory.sign(&key)?;
        // First of all what keeps everything that follows out of a repository.
        let ignored = dir.join(".gitignore");
        if !ignored.exists() {
            keys::replace_public(&ignored, b"*\n")?;
        }
        keys::write_seed(&dir.join("alliance.key"), &seed)?;
        keys::replace_public(&dir.join("alliance.vkey"), line(key.verifying_key()).as_bytes())?;
        keys::replace_public(&dir.join("directory.note"), note.as_bytes())?;
        Ok(Bureau { dir: dir.to_owned(), key, directory, _lock: lock })
    }

    /// Opens the alliance that lies in `dir`.
    pub fn open(dir: &Path) -> Result<Bureau, Failure> {
        let vkey_path = dir.join("alliance.vkey");
        let vkey = read_vkey(&vkey_path).map_err(|failure| begin_with_new(failure, dir))?;
        let lock = lock(dir)?;
        let key_path = dir.join("alliance.key");
        let seed = keys::read_seed(&key_path)?;
        let key = SigningKey::from_seed(vkey.name(), seed.bytes()).map_err(unnamed)?;
        if *key.verifying_key() != vkey {
            let (a, b) = (key_path.display(), vkey_path.display());
            return Err(Failure::new(Exit::Data, format!("{a} is not the key of {b}"), format!("{a} 不是 {b} 的密钥")));
        }
        let note = dir.join("directory.note");
        let directory = Directory::open(&keys::read_text(&note)?, &vkey);
        let directory = directory.map_err(|fault| Failure::from(fault).at(note.display()))?;
        Ok(Bureau { dir: dir.to_owned(), key, directory, _lock: lock })
    }

    /// The alliance's public key.
    pub fn key(&self) -> &VerifyingKey {
        self.key.verifying_key()
    }

    /// The directory as it now stands.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Where the files of `member` lie: `450200`, or `hub-<name>`.
    pub fn place(&self, member: &Member) -> PathBuf {
        self.dir.join(dashed(member))
    }

    /// Makes a city or a hub with all its keys and certificates and signs the directory that lists it.
    pub fn add(&mut self, plan: &Plan) -> Result<PathBuf, Failure> {
        let place = self.place(&plan.member);
        if place.exists() {
            return Err(KeyFileError::Exists { path: place }.into());
        }
        // Left behind by a command that was cut off; nothing in it was ever in the directory.
        let unfinished = self.dir.join(format!(".{}.new", dashed(&plan.member)));
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        make_dir(&unfinished)?;
        let entry = self.fill(&unfinished, plan)?;
        fs::rename(&unfinished, &place)?;
        File::open(&self.dir)?.sync_all()?;
        // Cut off here, the city is whole but not listed; `directory add` lists it.
        self.directory = self.directory.with(entry, now())?;
        let note = self.directory.sign(&self.key)?;
        keys::replace_public(&self.dir.join("directory.note"), note.as_bytes())?;
        Ok(place)
    }

    /// Makes a key and a certificate for one more party of a city; returns the two paths.
    pub fn enrol(&self, member: &Member, role: Role) -> Result<[PathBuf; 2], Failure> {
        let place = self.place(member);
        let authority = Authority::open(&place).map_err(|failure| add_city_first(failure, member))?;
        issue(
            &authority,
            &place,
            &Party { alliance: self.directory.alliance().clone(), member: member.clone(), role },
            &[],
        )
    }

    /// Makes a new key and certificate for a party (`system/NAME`, `ops/NAME`, `auditor/NAME`, `gateway`) that has one, and
    /// keeps the old ones beside them as `.old`; returns the two new paths.
    pub fn renew(&self, member: &Member, role: Role) -> Result<[PathBuf; 2], Failure> {
        let place = self.place(member);
        let authority = Authority::open(&place).map_err(|failure| add_city_first(failure, member))?;
        let (_, key, chain) = files(&place, &role)?;
        for path in [&key, &chain] {
            let mut old = path.clone().into_os_string();
            old.push(".old");
            fs::rename(path, old).map_err(|fault| Failure::from(fault).at(path.display()))?;
        }
        let hosts = match (&role, self.directory.member(member)) {
            (Role::Gateway, Some(record)) => hosts(&record.endpoints),
            _ => vec![],
        };
        issue(
            &authority,
            &place,
            &Party { alliance: self.directory.alliance().clone(), member: member.clone(), role },
            &hosts,
        )
    }

    /// Revokes the certificates of a party (`system/NAME`, `ops/NAME`, `auditor/NAME`, `gateway`) and signs the next
    /// revocation list: how many were revoked now, or `None` if the party never had one.
    pub fn revoke(&self, member: &Member, party: &str) -> Result<Option<usize>, Failure> {
        let place = self.place(member);
        let authority = Authority::open(&place).map_err(|failure| add_city_first(failure, member))?;
        let mut issued = Issued::read(&place)?;
        let count = issued.revoke(party, now());
        if count.is_some_and(|count| count > 0) {
            next_list(&authority, &mut issued, &place)?;
        }
        Ok(count)
    }

    /// Signs the city's revocation list anew, due again after 30 days; returns its number.
    pub fn renew_list(&self, member: &Member) -> Result<u64, Failure> {
        let place = self.place(member);
        let authority = Authority::open(&place).map_err(|failure| add_city_first(failure, member))?;
        let mut issued = Issued::read(&place)?;
        next_list(&authority, &mut issued, &place)?;
        Ok(issued.crl_number)
    }

    fn fill(&self, place: &Path, plan: &Plan) -> Result<Entry, Failure> {
        let (alliance, member) = (self.directory.alliance(), &plan.member);
        let (authority, authority_key) = Authority::new(alliance, member, now())?;
        keys::write_secret(&place.join("ca.key"), authority_key.as_bytes())?;
        keys::replace_public(&place.join("ca.pem"), authority.pem().as_bytes())?;
        next_list(&authority, &mut Issued::default(), place)?;
        issue(&authority, place, &Party::gateway(alliance.clone(), member.clone()), &hosts(&plan.endpoints))?;
        let systems = plan.systems.iter().cloned().map(Role::System);
        for role in systems.chain(plan.ops.iter().cloned().map(Role::Ops)) {
            issue(&authority, place, &Party { alliance: alliance.clone(), member: member.clone(), role }, &[])?;
        }
        let log_key = write_key(place, "log", &format!("{}{FIRST_LOG}", log_origin_prefix(alliance, member)))?;
        let member_key = write_key(place, "member", &member_key_name(alliance, member))?;
        let sealing_key = if matches!(member, Member::City(_)) { Some(write_sealing_key(place)?) } else { None };
        let record = MemberRecord { sealing_key, ..record(alliance, plan, &authority, log_key.verifying_key()) };
        let note = record.sign(&member_key)?;
        keys::replace_public(&place.join("record.note"), note.as_bytes())?;
        Ok(Entry::open(member_key.verifying_key().clone(), note)?)
    }
}

/// Reads the one vkey line of a file.
pub fn read_vkey(path: &Path) -> Result<VerifyingKey, Failure> {
    let text = keys::read_text(path)?;
    let key = VerifyingKey::parse(text.strip_suffix('\n').unwrap_or(&text));
    key.map_err(|fault| unnamed(fault).at(path.display()))
}

/// A key as its file holds it.
fn line(key: &VerifyingKey) -> String {
    format!("{key}\n")
}

fn record(alliance: &Alliance, plan: &Plan, authority: &Authority, log_key: &VerifyingKey) -> MemberRecord {
    MemberRecord {
        alliance: alliance.clone(),
        member: plan.member.clone(),
        version: 1,
        issued_at: now(),
        name_zh: plan.name_zh.clone(),
        name_en: plan.name_en.clone(),
        key_pin: None,
        days_max: CERTIFICATE_DAYS_MAX,
        endpoints: plan.endpoints.clone(),
        roots: vec![authority.certificate().clone()],
        log_keys: vec![log_key.clone()],
        relays: plan.relays.clone(),
        crl: CrlPolicy::Required,
        sealing_key: None,
        unsealed_relay: plan.unsealed_relay,
    }
}

/// The names under which ordinary gRPC clients know a gateway.
fn hosts(endpoints: &[Endpoint]) -> Vec<String> {
    LOCAL_HOSTS.into_iter().chain(endpoints.iter().map(Endpoint::host)).map(str::to_owned).collect()
}

/// How a party is listed, and where its key and its chain lie.
fn files(place: &Path, role: &Role) -> Result<(String, PathBuf, PathBuf), Failure> {
    Ok(match role {
        Role::Gateway => ("gateway".to_owned(), place.join("gateway.key"), place.join("gateway.pem")),
        Role::System(name) => filed(place, "system", "systems", name)?,
        Role::Ops(name) => filed(place, "ops", "ops", name)?,
        Role::Auditor(name) => filed(place, "auditor", "auditors", name)?,
    })
}

/// Issues, lists and writes: listed before the files, so that what was handed out can always be revoked.
fn issue(authority: &Authority, place: &Path, party: &Party, hosts: &[String]) -> Result<[PathBuf; 2], Failure> {
    let (listed, key, chain) = files(place, &party.role)?;
    if key.exists() {
        return Err(KeyFileError::Exists { path: key }.into());
    }
    let issuance = authority.issue(party, hosts, now())?;
    let mut issued = Issued::read(place)?;
    issued.add(&listed, issuance.serial, now());
    issued.write(place)?;
    keys::write_secret(&key, issuance.key.as_bytes())?;
    keys::replace_public(&chain, issuance.chain.as_bytes())?;
    Ok([key, chain])
}

/// Signs the next revocation list. `issued.json` goes first: cut off after it, the list after this one carries all along.
fn next_list(authority: &Authority, issued: &mut Issued, place: &Path) -> Result<(), Failure> {
    issued.crl_number += 1;
    issued.write(place)?;
    let list = authority.revocation_list(issued, now())?;
    Ok(keys::replace_public(&place.join("crl.pem"), list.as_bytes())?)
}

fn filed(place: &Path, role: &str, folder: &str, name: &Name) -> Result<(String, PathBuf, PathBuf), Failure> {
    let folder = place.join(folder);
    make_dir(&folder)?;
    let name = name.as_str();
    Ok((format!("{role}/{name}"), folder.join(format!("{name}.key")), folder.join(format!("{name}.pem"))))
}

fn write_key(place: &Path, stem: &str, name: &str) -> Result<SigningKey, Failure> {
    let seed = Seed::generate()?;
    let key = SigningKey::from_seed(name, seed.bytes()).map_err(unnamed)?;
    keys::write_seed(&place.join(format!("{stem}.key")), &seed)?;
    keys::replace_public(&place.join(format!("{stem}.vkey")), line(key.verifying_key()).as_bytes())?;
    Ok(key)
}

/// The key with which a city's gateway opens what came through a hub; a hub opens nothing.
fn write_sealing_key(place: &Path) -> Result<SealingKey, Failure> {
    let seed = Seed::generate()?;
    keys::write_sealing_seed(&place.join("sealing.key"), &seed)?;
    let public = *OpeningKey::from_seed(seed.bytes()).public();
    keys::replace_public(&place.join("sealing.pub"), format!("{public}\n").as_bytes())?;
    Ok(public)
}

fn make_dir(dir: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(dir);
    made.map_err(|fault| {
        let dir = dir.display();
        Failure::new(Exit::CantCreate, format!("{dir}: {fault}"), format!("{dir}：无法建立目录：{}", io_zh(&fault)))
    })
}

fn lock(dir: &Path) -> Result<File, Failure> {
    let file = File::create(dir.join(".lock"))?;
    file.lock()?;
    Ok(file)
}

fn unnamed(fault: crate::tlog::note::KeyError) -> Failure {
    let zh = crate::cli::text::key_zh(&fault);
    Failure::new(Exit::Data, fault, zh)
}

fn begin_with_new(failure: Failure, dir: &Path) -> Failure {
    let new = format!("tongban pki new --dir {}", dir.display());
    failure.hint(format!("begin with: {new}"), format!("请先执行：{new}"))
}

fn add_city_first(failure: Failure, member: &Member) -> Failure {
    let add = match member {
        Member::City(city) => format!("tongban pki add-city {} …", city.as_str()),
        Member::Hub(name) => format!("tongban pki add-hub {} …", name.as_str()),
    };
    failure.hint(format!("make the member first: {add}"), format!("请先建立该成员：{add}"))
}
