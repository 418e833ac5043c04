//! Decides which files of routing tables are meant, and tells every fault of all of them before a gateway is asked.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::{Exit, Failure};
use crate::keys::{self, KeyFileError};
use crate::routing::Table;

/// Reads the tables, folders in the order of their files' names.
pub fn read(paths: &[PathBuf]) -> Result<Vec<String>, Failure> {
    let (mut texts, mut faults) = (Vec::new(), Vec::new());
    for path in paths.iter().map(|path| expanded(path)).collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
        let text = keys::read_text(&path)?;
        if let Err(all) = Table::from_toml(&text) {
            faults.extend(all.into_iter().map(|fault| format!("{}:{fault}", path.display())));
        }
        texts.push(text);
    }
    if faults.is_empty() {
        return Ok(texts);
    }
    let faults = faults.join("\n");
    Err(Failure::new(Exit::Data, format!("the tables have faults\n{faults}"), format!("路由表有误\n{faults}")))
}

fn expanded(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |source| KeyFileError::Io { path: path.to_owned(), source };
    let entries = fs::read_dir(path).map_err(unreadable)?.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    Ok(files)
}
