//! Decides what `tongban version` prints: name and version, or what the program is made of. Never asks the network whether
//! there is a newer one.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Exit, Failure, Out};

/// The files that say what this build was made of.
const LOCK: &str = include_str!("../../Cargo.lock");
const MANIFEST: &str = include_str!("../../Cargo.toml");
const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Print the version
#[derive(clap::Args)]
pub struct Version {
    /// Print what the program is made of: a CycloneDX 1.5 document (JSON)
    #[arg(long)]
    sbom: bool,
}

/// Prints name and version, or the components.
pub fn run(command: &Version, out: &Out) -> Answer {
    if command.sbom {
        let parts =
            components(LOCK, MANIFEST).map_err(|fault| Failure::new(Exit::Software, fault, "组成清单不可读"))?;
        out.print(&format!("{:#}\n", document(&parts)))?;
    } else {
        out.show(&json!({ "name": NAME, "version": VERSION }), || format!("{NAME} {VERSION}"))?;
    }
    Ok(Exit::Done)
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Package>,
}

/// A package of the lockfile.
#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    checksum: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

impl Package {
    fn purl(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version)
    }
}

/// What of the manifest decides: the lockfile does not tell what only tests use.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Manifest {
    dependencies: BTreeMap<String, toml::Value>,
    build_dependencies: BTreeMap<String, toml::Value>,
}

impl Manifest {
    /// The packages behind the names: a dependency may be called otherwise here.
    fn packages(&self) -> BTreeSet<&str> {
        let named = self.dependencies.iter().chain(&self.build_dependencies);
        named.map(|(name, value)| value.get("package").and_then(toml::Value::as_str).unwrap_or(name)).collect()
    }
}

/// A component: its package, and the packages it uses.
type Component = (Package, Vec<String>);

/// Everything that the program is built of, by name and version, without what only its tests use.
fn components(lock: &str, manifest: &str) -> Result<Vec<Component>, toml::de::Error> {
    let (lock, manifest): (Lock, Manifest) = (toml::from_str(lock)?, toml::from_str(manifest)?);
    let direct = manifest.packages();
    // A dependency reads `name`, or `name version` where the lockfile holds two of that name.
    let is = |package: &Package, words: &str| match words.split_once(' ') {
        Some((name, version)) => package.name == name && package.version == version,
        None => package.name == words,
    };
    let used = |package: &Package| -> Vec<usize> {
        let own = package.name == NAME;
        let kept = |words: &&String| !own || words.split(' ').next().is_some_and(|name| direct.contains(name));
        let wanted = package.dependencies.iter().filter(kept);
        wanted.filter_map(|words| lock.package.iter().position(|package| is(package, words))).collect()
    };
    let mut reached = BTreeSet::new();
    let mut open: Vec<usize> = lock.package.iter().position(|package| package.name == NAME).into_iter().collect();
    while let Some(place) = open.pop() {
        if reached.insert(place) {
            open.extend(used(&lock.package[place]));
        }
    }
    let uses: BTreeMap<usize, Vec<String>> = reached
        .iter()
        .map(|place| (*place, used(&lock.package[*place]).iter().map(|used| lock.package[*used].purl()).collect()))
        .collect();
    let packages = lock.package.into_iter().enumerate();
    Ok(packages.filter_map(|(place, package)| Some((package, uses.get(&place)?.clone()))).collect())
}

/// The document, without a date or a serial number: the same build says the same.
fn document(components: &[Component]) -> Value {
    let described = |package: &Package| {
        let hashes = package.checksum.iter().map(|sha256| json!({ "alg": "SHA-256", "content": sha256 }));
        json!({
            "type": if package.name == NAME { "application" } else { "library" },
            "bom-ref": package.purl(),
            "name": package.name,
            "version": package.version,
            "purl": package.purl(),
            "hashes": hashes.collect::<Vec<_>>(),
        })
    };
    let (own, others): (Vec<_>, Vec<_>) = components.iter().partition(|(package, _)| package.name == NAME);
    let depends = |(package, uses): &Component| json!({ "ref": package.purl(), "dependsOn": uses });
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": own.first().map(|(package, _)| described(package)) },
        "components": others.iter().map(|(package, _)| described(package)).collect::<Vec<_>>(),
        "dependencies": components.iter().map(depends).collect::<Vec<_>>(),
    })
}
