//! Decides what the checks know while they look: each fact is found once, by the check that is named for it, and those
//! that need it see it afterwards. Never holds on to anything between two examinations.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use super::advice::{self, Advice};
use crate::config::Config;
use crate::directory::{Directory, MemberRecord};
use crate::keys::KeyFileError;
use crate::lang::Zh;
use crate::noticeboard::Noticeboard;
use crate::routing::Index;
use crate::store::Readers;
use crate::time::Time;
use crate::tlog::note::SigningKey;

/// What is known of the gateway that is examined.
pub struct Facts<'a> {
    pub config: &'a Config,
    pub now: Time,
    /// The routing tables in force, where the gateway examines itself while it runs.
    pub in_force: Option<Arc<Index>>,
    pub board: OnceCell<Noticeboard>,
    pub directory: OnceCell<Directory>,
    pub chain: OnceCell<Vec<CertificateDer<'static>>>,
    pub log_key: OnceCell<SigningKey>,
    pub store: OnceCell<Readers>,
}

impl<'a> Facts<'a> {
    pub fn new(config: &'a Config, now: Time) -> Facts<'a> {
        Facts {
            config,
            now,
            in_force: None,
            board: OnceCell::new(),
            directory: OnceCell::new(),
            chain: OnceCell::new(),
            log_key: OnceCell::new(),
            store: OnceCell::new(),
        }
    }

    /// This gateway's own record.
    pub fn record(&self) -> Option<&MemberRecord> {
        self.directory.get()?.member(&self.config.member)
    }
}

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// It works, and will not for ever.
    Warning(&'static Advice),
    Fault(&'static Advice),
    /// It could not be looked at because this check before it failed.
    Skipped(&'static str),
}

impl Verdict {
    /// The verdict in one word.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Good => "good",
            Verdict::Warning(_) => "warning",
            Verdict::Fault(_) => "fault",
            Verdict::Skipped(_) => "skipped",
        }
    }
}

/// What a check saw of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// A partner or lane; none for what there is once.
    pub about: Option<String>,
    pub verdict: Verdict,
    pub seen: Seen,
}

/// The evidence, in English and in Chinese: a path or a number is the same in both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub en: String,
    pub zh: String,
}

impl Seen {
    /// Words, in both languages.
    pub fn both(en: impl Into<String>, zh: impl Into<String>) -> Seen {
        Seen { en: en.into(), zh: zh.into() }
    }

    /// What an error says.
    pub fn error(error: &(impl ToString + Zh)) -> Seen {
        Seen { en: error.to_string(), zh: error.zh() }
    }

    /// The same of a thing that is named before it.
    pub fn at(self, thing: &str) -> Seen {
        Seen { en: format!("{thing}: {}", self.en), zh: format!("{thing}：{}", self.zh) }
    }
}

/// What is no word of a language.
impl From<String> for Seen {
    fn from(same: String) -> Seen {
        Seen { en: same.clone(), zh: same }
    }
}

impl From<&str> for Seen {
    fn from(same: &str) -> Seen {
        same.to_owned().into()
    }
}

impl Look {
    pub fn good(seen: impl Into<Seen>) -> Look {
        Look { about: None, verdict: Verdict::Good, seen: seen.into() }
    }

    pub fn warning(advice: &'static Advice, seen: impl Into<Seen>) -> Look {
        Look { about: None, verdict: Verdict::Warning(advice), seen: seen.into() }
    }

    pub fn fault(advice: &'static Advice, seen: impl Into<Seen>) -> Look {
        Look { about: None, verdict: Verdict::Fault(advice), seen: seen.into() }
    }

    pub fn about(self, about: impl ToString) -> Look {
        Look { about: Some(about.to_string()), ..self }
    }
}

/// What is wrong with a secret's file.
pub fn secret_fault(fault: &KeyFileError) -> Look {
    let advice = match fault {
        KeyFileError::Missing { .. } => &advice::KEY_MISSING,
        KeyFileError::Mode { .. } => &advice::KEY_OPEN,
        _ => &advice::KEY_UNREADABLE,
    };
    Look::fault(advice, Seen::error(fault))
}

/// What is wrong with a public file, in other words where it is missing.
pub fn public_fault(advice: &'static Advice, fault: &KeyFileError) -> Look {
    let missing = matches!(fault, KeyFileError::Missing { .. });
    Look::fault(if missing { &advice::KEY_MISSING } else { advice }, Seen::error(fault))
}

pub fn shown(path: &Path) -> String {
    path.display().to_string()
}
