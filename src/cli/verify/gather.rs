//! Decides which receipt files a command line means: those it names, and those in the folders it names, in order of their
//! names. Never opens one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::super::{Exit, Failure};
use crate::keys::KeyFileError;

/// The proof files (`NAME.tlog-proof`) that the paths mean. A leaf that lies in a folder without its proof is meant too:
/// what cannot be verified must not pass unseen.
pub fn proofs(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut found = BTreeSet::new();
    for path in paths {
        if path.is_dir() {
            let before = found.len();
            walk(path, &mut found)?;
            if found.len() == before {
                let path = path.display();
                let zh = format!("{path}：其中没有 .tlog-proof 文件");
                return Err(Failure::new(Exit::NoInput, format!("{path}: no .tlog-proof file in it"), zh));
            }
        } else if !path.exists() {
            return Err(KeyFileError::Missing { path: path.clone() }.into());
        } else if extension(path) == Some("tlog-proof") {
            found.insert(path.clone());
        } else {
            return Err(not_a_proof(path));
        }
    }
    Ok(found.into_iter().collect())
}

fn walk(dir: &Path, found: &mut BTreeSet<PathBuf>) -> Result<(), Failure> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        // A link to a folder is not followed: it may lead around in a circle.
        if entry.file_type()?.is_dir() {
            walk(&path, found)?;
        } else if matches!(extension(&path), Some("tlog-proof" | "leaf")) {
            found.insert(path.with_extension("tlog-proof"));
        }
    }
    Ok(())
}

fn extension(path: &Path) -> Option<&str> {
    path.extension().and_then(|extension| extension.to_str())
}

fn not_a_proof(path: &Path) -> Failure {
    let path = path.display();
    Failure::new(Exit::Usage, format!("{path}: not a .tlog-proof file"), format!("{path}：不是 .tlog-proof 文件")).hint(
        "name the .tlog-proof file; its .leaf is found beside it",
        "请指明 .tlog-proof 文件，其 .leaf 文件会在旁边找到",
    )
}
