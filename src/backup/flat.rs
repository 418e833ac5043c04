//! Decides how a configuration of several layers is written as one file whose paths lead into the backup, and which files
//! they were. Never writes a default that nobody set.

use std::path::{Path, PathBuf};

use super::{BackupError, IDENTITY, STORE};
use crate::config::keys::Kind;
use crate::config::{Config, Origin, Setting};

/// One configuration file, and what has to lie where it points.
pub struct Flat {
    pub text: String,
    /// The file as it is named now, and its place in the backup.
    pub files: Vec<(PathBuf, String)>,
}

/// The revocation lists in a backup; `{member}` stands for the member's name.
pub const CRLS: &str = "identity/crls/{member}.pem";

/// Writes down what holds.
pub fn flat(config: &Config) -> Result<Flat, BackupError> {
    let (mut text, mut files) = (String::new(), vec![]);
    let (mut section, base) = (String::new(), config.source.file.parent().unwrap_or(Path::new(".")));
    for setting in &config.settings {
        let Some(value) = value(setting, base, &mut files)? else { continue };
        // A row's own name stands in brackets, so that two rows of one table differ here.
        let of = setting.name.strip_suffix(&format!(".{}", setting.key.name)).unwrap_or_default();
        if of != section {
            let head = setting.key.section;
            text += &if of == head { format!("\n[{head}]\n") } else { format!("\n[[{head}]]\n") };
            section = of.to_owned();
        }
        text += &format!("{} = {value}\n", setting.key.name);
    }
    Ok(Flat { text, files })
}

/// The setting's value in the backup; none where nobody set one.
fn value(setting: &Setting, base: &Path, files: &mut Vec<(PathBuf, String)>) -> Result<Option<String>, BackupError> {
    let quoted = |path: &str| toml::Value::from(path).to_string();
    if setting.name == "gateway.data" {
        return Ok(Some(quoted(STORE)));
    }
    let Some(value) = setting.value.as_ref().filter(|_| setting.origin != Origin::Default) else { return Ok(None) };
    let mut keep = |place: &str, path: &str| {
        let extension = Path::new(path).extension().map_or(String::new(), |e| format!(".{}", e.to_string_lossy()));
        let named = format!("{IDENTITY}/{place}{extension}");
        files.push((base.join(path), named.clone()));
        named
    };
    let place = setting.name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let unread = || BackupError::Config(format!("{}: {value}", setting.name));
    let read = || toml::from_str::<toml::Table>(&format!("value = {value}")).ok()?.remove("value");
    Ok(Some(match setting.key.kind {
        Kind::Path if value.contains("{member}") => quoted(CRLS),
        Kind::Path => {
            let path = read().and_then(|value| value.as_str().map(str::to_owned)).ok_or_else(unread)?;
            quoted(&keep(&place, &path))
        }
        Kind::Paths => {
            let paths = read().and_then(|value| value.as_array().cloned()).ok_or_else(unread)?;
            let kept = (1..).zip(&paths).filter_map(|(number, path)| {
                let path = path.as_str()?;
                Some(toml::Value::from(keep(&format!("{place}-{number}"), path)))
            });
            toml::Value::from(kept.collect::<Vec<_>>()).to_string()
        }
        _ => value.clone(),
    }))
}
