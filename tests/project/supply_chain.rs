//! Decides whether what the gateway is built of may be used: no version that an advisory names, no version below its floor,
//! nothing twice that must be one, nothing from elsewhere; and whether the program says itself what it is made of. Reads
//! `Cargo.lock` and the dated copy of the advisories; asks no network. `cargo deny` holds licences and sources (deny.toml).

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use semver::{Version, VersionReq};
use serde_json::Value;

/// Lowest versions, each with what the ones before it lack.
const FLOORS: [(&str, &str, &str); 11] = [
    ("bytes", "1.11.1", "RUSTSEC-2026-0007"),
    ("h2", "0.4.20", "refused streams count, and a second content-length is refused"),
    ("hyper", "1.12.0", "bounds of HTTP/2"),
    ("libsqlite3-sys", "0.37.0", "SQLite 3.51.3, which does not lose commits when the write-ahead log is reset"),
    ("ring", "0.17.12", "RUSTSEC-2025-0009"),
    ("rustls", "0.23.46", "RUSTSEC-2024-0399 and later"),
    ("rustls-webpki", "0.103.13", "RUSTSEC-2026-0104: lists that panic"),
    ("time", "0.3.47", "RUSTSEC-2026-0009"),
    ("tokio", "1.44.2", "RUSTSEC-2025-0023"),
    ("tonic", "0.14.9", "bounds of HTTP/2"),
    ("tracing-subscriber", "0.3.20", "RUSTSEC-2025-0055: escapes in logs"),
];
/// Two of one of these in one process would be two of what must be one.
const ONCE: [&str; 4] = ["bytes", "h2", "libsqlite3-sys", "rustls"];
/// Packages in the lockfile at most, those of the tests included.
const PACKAGES_MAX: usize = 310;
/// Advisories that do not hold here, each with why. One that no package meets any more must go.
const ALLOWED: [(&str, &str); 0] = [];
/// Days after which the copy of the advisories is called old, and after which a release is not made with it.
const OLD_DAYS: i64 = 30;
const TOO_OLD_DAYS: i64 = 60;

/// A package of the lockfile.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Package {
    name: String,
    version: Version,
    source: Option<String>,
}

fn packages(lock: &str) -> Vec<Package> {
    let lock: toml::Value = toml::from_str(lock).unwrap();
    let text = |package: &toml::Value, key: &str| Some(package.get(key)?.as_str()?.to_owned());
    let package = |package: &toml::Value| Package {
        name: text(package, "name").unwrap(),
        version: text(package, "version").unwrap().parse().unwrap(),
        source: text(package, "source"),
    };
    lock["package"].as_array().unwrap().iter().map(package).collect()
}

/// One advisory of the copy.
#[derive(Debug)]
struct Advisory {
    id: String,
    package: String,
    kind: String,
    /// What has not the fault.
    free: Vec<VersionReq>,
    title: String,
}

impl Advisory {
    fn names(&self, package: &Package) -> bool {
        package.name == self.package && !self.free.iter().any(|free| free.matches(&package.version))
    }

    /// Unmaintained crates and notices are told; what can harm fails.
    fn harms(&self) -> bool {
        ["vulnerability", "unsound"].contains(&self.kind.as_str())
    }
}

/// The day of the copy, and its advisories.
fn advisories(copy: &str) -> (jiff::civil::Date, Vec<Advisory>) {
    let mut lines = copy.lines();
    let day = lines.next().unwrap().split([' ', ',']).find_map(|word| word.parse().ok()).expect("the day of the copy");
    let free = |requirements: &str| {
        requirements.split(';').filter(|one| !one.is_empty()).map(|one| one.parse().unwrap()).collect()
    };
    let advisory = |line: &str| {
        let [id, package, kind, patched, unaffected, title] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("six columns: {line}")
        };
        let mut all: Vec<VersionReq> = free(patched);
        all.extend::<Vec<VersionReq>>(free(unaffected));
        let [id, package, kind, title] = [id, package, kind, title].map(str::to_owned);
        Advisory { id, package, kind, free: all, title }
    };
    (day, lines.skip(1).map(advisory).collect())
}

/// What is wrong with a tree, a line each.
fn faults(packages: &[Package], advisories: &[Advisory]) -> Vec<String> {
    let mut faults = vec![];
    let allowed = |id: &str| ALLOWED.iter().any(|(allowed, _)| *allowed == id);
    for advisory in advisories.iter().filter(|advisory| advisory.harms() && !allowed(&advisory.id)) {
        let named = packages.iter().filter(|package| advisory.names(package));
        faults.extend(named.map(|p| format!("{} {}: {}, {}", p.name, p.version, advisory.id, advisory.title)));
    }
    for (name, floor, why) in FLOORS {
        let floor: Version = floor.parse().unwrap();
        let below = packages.iter().filter(|package| package.name == name && package.version < floor);
        faults.extend(below.map(|p| format!("{name} {} is below {floor}: {why}", p.version)));
    }
    for name in ONCE {
        let count = packages.iter().filter(|package| package.name == name).count();
        faults.extend((count != 1).then(|| format!("{name} stands there {count} times")));
    }
    // One registry for all, and no folder or repository; a lockfile that names none is no lockfile of ours.
    let registry = packages.iter().find_map(|package| package.source.clone()).unwrap_or_default();
    let foreign = packages.iter().filter(|package| !package.name.starts_with("tongban"));
    let foreign = foreign.filter(|p| !registry.starts_with("registry+") || p.source.as_deref() != Some(&*registry));
    faults.extend(foreign.map(|p| format!("{} comes from {:?}", p.name, p.source)));
    faults.extend((packages.len() > PACKAGES_MAX).then(|| format!("{} packages", packages.len())));
    faults
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn nothing_that_is_built_in_has_a_known_fault() {
    let (day, advisories) = advisories(&read("data/advisories.tsv"));
    let packages = packages(&read("Cargo.lock"));
    let found = faults(&packages, &advisories);
    assert!(found.is_empty(), "{}", found.join("\n"));
    for (id, why) in ALLOWED {
        let advisory = advisories.iter().find(|advisory| advisory.id == id);
        let met = advisory.is_some_and(|advisory| packages.iter().any(|package| advisory.names(package)));
        assert!(met, "{id} is allowed ({why}), and nothing meets it any more");
    }
    let told = advisories.iter().filter(|advisory| !advisory.harms());
    for advisory in told.filter(|advisory| packages.iter().any(|package| advisory.names(package))) {
        println!("note: {} {}: {}, {}", advisory.package, advisory.kind, advisory.id, advisory.title);
    }
    println!("{} packages against {} advisories of {day}", packages.len(), advisories.len());
}

/// A test must not fail by the calendar: an old copy is told, and only who makes a release (`TONGBAN_RELEASE`) is stopped by it.
#[test]
fn the_copy_of_the_advisories_says_how_old_it_is() {
    let (day, advisories) = advisories(&read("data/advisories.tsv"));
    assert!(advisories.len() > 1_000, "{} advisories", advisories.len());
    let copied = format!("{day}T00:00:00Z").parse::<jiff::Timestamp>().unwrap().as_second();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let days = (now - copied) / 86_400;
    if days > OLD_DAYS {
        println!("warning: the copy of the advisories is {days} days old; data/README.md says how it is made anew");
    }
    let release = std::env::var_os("TONGBAN_RELEASE").is_some();
    assert!(!release || days <= TOO_OLD_DAYS, "a release needs a newer copy than one of {days} days");
}

#[test]
fn reports_each_kind_of_fault() {
    let (_, advisories) = advisories(&read("data/advisories.tsv"));
    let whole = packages(&read("Cargo.lock"));
    let set = |name: &str, version: &str| {
        let mut packages = whole.clone();
        packages.iter_mut().filter(|package| package.name == name).for_each(|p| p.version = version.parse().unwrap());
        packages
    };
    let mut twice = whole.clone();
    twice.extend(whole.iter().find(|package| package.name == "rustls").cloned());
    let mut foreign = whole.clone();
    foreign.iter_mut().find(|p| p.name == "hex").unwrap().source = Some("git+https://example.org/hex".to_owned());
    let rows = [
        (set("h2", "0.4.1"), "h2 0.4.1: RUSTSEC-2024-0332"),
        (set("tokio", "1.44.0"), "tokio 1.44.0: RUSTSEC-2025-0023"),
        (set("tonic", "0.14.8"), "tonic 0.14.8 is below 0.14.9"),
        (twice, "rustls stands there 2 times"),
        (foreign, "hex comes from"),
        (whole.iter().chain(&whole).cloned().collect(), "packages"),
    ];
    for (packages, expected) in rows {
        let found = faults(&packages, &advisories);
        assert!(found.iter().any(|fault| fault.contains(expected)), "{expected}: {found:?}");
    }
    // What is patched on a branch of its own is not named.
    assert!(!faults(&set("h2", "0.3.26"), &advisories).iter().any(|fault| fault.contains("RUSTSEC-2024-0332")));
}

#[test]
fn no_code_of_ours_is_unsafe() {
    let manifest: toml::Value = toml::from_str(&read("Cargo.toml")).unwrap();
    assert_eq!(manifest["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
}

/// The components are the lockfile's packages without those that only tests use. What Cargo itself builds for this
/// machine must be among them, and what only tests use must not.
#[test]
fn the_program_says_what_it_is_made_of() {
    let shown = Command::new(env!("CARGO_BIN_EXE_tongban")).args(["version", "--sbom"]).output().unwrap();
    let document: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((&document["bomFormat"], &document["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let named = |component: &Value| {
        assert_eq!(component["hashes"].as_array().unwrap().len(), 1, "{component}");
        format!("{} {}", component["name"].as_str().unwrap(), component["version"].as_str().unwrap())
    };
    let components: BTreeSet<String> = document["components"].as_array().unwrap().iter().map(named).collect();
    let lock: BTreeSet<String> =
        packages(&read("Cargo.lock")).iter().map(|package| format!("{} {}", package.name, package.version)).collect();
    assert!(components.is_subset(&lock), "nothing that the lockfile does not name");
    let (built, tests) = (tree("normal,build"), tree("normal,build,dev"));
    assert!(built.len() > 100, "{} packages are built", built.len());
    assert_eq!(built.difference(&components).collect::<Vec<_>>(), Vec::<&String>::new(), "what is built is named");
    let only_tests: BTreeSet<_> = tests.difference(&built).collect();
    assert!(only_tests.iter().any(|package| package.starts_with("proptest ")), "{only_tests:?}");
    assert!(!components.iter().any(|package| package.starts_with("proptest ")), "what only tests use is not named");
    println!("{} components of {} packages in the lockfile", components.len(), lock.len());
}

/// What Cargo says that it builds here, without the program itself.
fn tree(edges: &str) -> BTreeSet<String> {
    let words = ["tree", "--locked", "--offline", "--prefix", "none", "--format", "{p}", "-e", edges];
    let output = Command::new(env!("CARGO")).args(words).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let package = |line: &str| {
        let mut words = line.split(' ');
        let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
        (name != "tongban").then(|| format!("{name} {version}"))
    };
    text.lines().filter_map(package).collect()
}
