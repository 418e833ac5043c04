//! Decides which certificates of a development city stand and which are revoked: a small list beside its authority. Never
//! forgets a serial number it has listed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cli::{Exit, Failure};
use crate::keys;
use crate::time::Time;

/// All that a development authority has issued, as `issued.json` keeps it.
#[derive(Serialize, Deserialize, Default)]
pub struct Issued {
    /// The number of the last revocation list; counts up with each.
    pub crl_number: u64,
    /// In the order of issue.
    pub certificates: Vec<Listed>,
}

/// One certificate.
#[derive(Serialize, Deserialize)]
pub struct Listed {
    /// `gateway`, `system/<name>`, `ops/<name>` or `auditor/<name>`.
    pub party: String,
    /// Hexadecimal.
    pub serial: String,
    /// Milliseconds since 1970.
    pub issued_at_ms: u64,
    /// Milliseconds since 1970; absent while the certificate stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at_ms: Option<u64>,
}

impl Issued {
    /// Reads the list of the city whose files lie in `city`.
    pub fn read(city: &Path) -> Result<Issued, Failure> {
        let path = place(city);
        let bad = |why: serde_json::Error| {
            Failure::new(Exit::Data, format!("{}: {why}", path.display()), format!("{}：{why}", path.display()))
        };
        serde_json::from_slice(&keys::read_public(&path)?).map_err(bad)
    }

    /// Writes the list, durably.
    pub fn write(&self, city: &Path) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(self).map_err(std::io::Error::from)?;
        Ok(keys::replace_public(&place(city), format!("{text}\n").as_bytes())?)
    }

    /// Lists a new certificate.
    pub fn add(&mut self, party: &str, serial: String, now: Time) {
        let (party, issued_at_ms) = (party.to_owned(), now.ms());
        self.certificates.push(Listed { party, serial, issued_at_ms, revoked_at_ms: None });
    }

    /// Revokes every standing certificate of `party`: how many, or `None` if it never had one.
    pub fn revoke(&mut self, party: &str, now: Time) -> Option<usize> {
        let mut known = self.certificates.iter_mut().filter(|listed| listed.party == party).peekable();
        known.peek()?;
        let standing = known.filter(|listed| listed.revoked_at_ms.is_none());
        Some(standing.map(|listed| listed.revoked_at_ms = Some(now.ms())).count())
    }

    /// Serial numbers of revoked certificates, with the moment.
    pub fn revoked(&self) -> impl Iterator<Item = (Vec<u8>, Time)> {
        self.certificates.iter().filter_map(|listed| {
            let at = Time::from_ms(listed.revoked_at_ms?);
            Some((hex::decode(&listed.serial).ok()?, at))
        })
    }
}

fn place(city: &Path) -> PathBuf {
    city.join("issued.json")
}
