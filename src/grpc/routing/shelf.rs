//! Decides how a set of routing tables is read from the store and named, and hands a change to the ledger. Keeps for a while
//! what it has parsed: a large set is published in many requests, and parsing would take most of each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::blobs::aside;
use crate::clock::Clock;
use crate::ledger::{Answer, Entry, Ledger, RouteChange};
use crate::limits::PARSED_TABLES_KEPT_MS;
use crate::party::Division;
use crate::reason::Reason;
use crate::routing::{Issued, Set, Table, TableError};
use crate::store::Readers;
use crate::time::Time;
use crate::wire::status::Refused;

/// A set of tables as it is kept.
#[derive(Clone, Debug)]
pub struct Standing {
    pub version: u64,
    /// Names version and content.
    pub etag: String,
    pub set: Set,
    /// The canonical text of each table.
    pub texts: BTreeMap<Division, String>,
}

/// Tables, each with the digest of the text that says so.
type Parsed = BTreeMap<Division, ([u8; 32], Arc<Table>)>;

/// What is held, and the moment at which it goes.
type Held = Mutex<Option<(Arc<Parsed>, Time)>>;

/// Where the sets are kept.
#[derive(Debug)]
pub struct Shelf {
    readers: Arc<Readers>,
    ledger: Ledger,
    parsed: Kept,
}

impl Shelf {
    pub fn new(readers: Arc<Readers>, ledger: Ledger, clock: Clock) -> Shelf {
        Shelf { readers, ledger, parsed: Kept::new(clock) }
    }

    /// The set of this version, or the newest.
    ///
    /// # Errors
    /// `NO_SUCH_VERSION`, or a store that cannot be read.
    pub async fn standing(&self, version: Option<u64>) -> Result<Standing, Refused> {
        let (version, texts) = self.read(version).await?;
        let known = self.parsed.known();
        let (texts, parsed) = aside(move || {
            let parsed = parse(&texts, &known);
            (texts, parsed)
        })
        .await;
        let parsed = parsed.map_err(|fault| {
            tracing::error!(%fault, version, "a stored routing table does not read");
            Refused::new(Reason::StoreUnavailable)
        })?;
        let etag = etag(version, parsed.values().map(|(digest, _)| digest));
        let tables = parsed.iter().map(|(owner, (_, table))| (owner.clone(), table.clone())).collect();
        self.parsed.keep(Arc::new(parsed));
        Ok(Standing { version, etag, set: Set { version, tables }, texts: texts.into_iter().collect() })
    }

    /// Version and etag of the set of this version, or the newest, without reading what its tables say.
    ///
    /// # Errors
    /// As [`Shelf::standing`].
    pub async fn name(&self, version: Option<u64>) -> Result<(u64, String), Refused> {
        let (version, texts) = self.read(version).await?;
        let digests = aside(move || texts.iter().map(|(_, text)| digest(text)).collect::<Vec<_>>()).await;
        Ok((version, etag(version, digests.iter())))
    }

    /// Commits a change: the new version, or the one that was there first.
    ///
    /// # Errors
    /// The ledger has no room, or has stopped.
    pub async fn put(
        &self,
        expected_version: u64,
        tables: Vec<(Division, Option<String>)>,
        actor: &str,
        action: &str,
    ) -> Result<Result<u64, u64>, Refused> {
        let change = RouteChange { expected_version, tables, actor: actor.to_owned(), action: action.to_owned() };
        match self.ledger.try_enter(Entry::Routes(Box::new(change))).await {
            Ok(Answer::Routes(put)) => Ok(put),
            Ok(_) => Err(Refused::new(Reason::Internal)),
            Err(trouble) => Err(trouble.into()),
        }
    }

    /// The texts of this version, or the newest, ordered by their owners.
    async fn read(&self, version: Option<u64>) -> Result<(u64, Vec<(Division, String)>), Refused> {
        let found = self.readers.seek(move |look| {
            let (newest, texts) = look.routes(None)?;
            match version {
                Some(version) if version > newest => Ok(None),
                Some(version) if version < newest => look.routes(Some(version)).map(Some),
                _ => Ok(Some((newest, texts))),
            }
        });
        let found = found.await.map_err(|fault| {
            tracing::error!(%fault, "routing tables cannot be read");
            Refused::new(Reason::StoreUnavailable)
        });
        found?.ok_or_else(|| Refused::new(Reason::NoSuchVersion))
    }
}

/// What was parsed last, until nobody has asked for a while.
#[derive(Debug)]
struct Kept {
    clock: Clock,
    held: Arc<Held>,
}

impl Kept {
    fn new(clock: Clock) -> Kept {
        Kept { clock, held: Arc::default() }
    }

    fn known(&self) -> Arc<Parsed> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().map(|(parsed, _)| parsed.clone()).unwrap_or_default()
    }

    fn keep(&self, parsed: Arc<Parsed>) {
        let until = self.clock.now().plus_ms(PARSED_TABLES_KEPT_MS);
        let before = self.held.lock().unwrap_or_else(PoisonError::into_inner).replace((parsed, until));
        // Where something was held, somebody waits already to drop it.
        if before.is_none() {
            tokio::spawn(dropped(self.clock.clone(), self.held.clone(), until));
        }
    }
}

/// Drops what is held when its moment has come, which may be put off meanwhile.
async fn dropped(clock: Clock, held: Arc<Held>, mut until: Time) {
    loop {
        clock.until(until).await;
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        match &*held {
            Some((_, later)) if *later > until => until = *later,
            _ => return *held = None,
        }
    }
}

/// Parses what is not known by its digest.
fn parse(texts: &[(Division, String)], known: &Parsed) -> Result<Parsed, TableError> {
    let one = |(owner, text): &(Division, String)| {
        let digest = digest(text);
        let table = match known.get(owner).filter(|(known, _)| *known == digest) {
            Some((_, table)) => table.clone(),
            None => Arc::new(Issued::from_json(text)?.table),
        };
        Ok((owner.clone(), (digest, table)))
    };
    texts.iter().map(one).collect()
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// The version and the first 64 bits of the digest of all texts' digests.
fn etag<'a>(version: u64, digests: impl Iterator<Item = &'a [u8; 32]>) -> String {
    let mut all = Sha256::new();
    digests.for_each(|digest| all.update(digest));
    format!("{version}-{}", hex::encode(&all.finalize()[..8]))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_was_parsed_goes_when_nobody_has_asked_for_a_while() {
        let (clock, owner) = (Clock::default(), "450200".parse::<Division>().unwrap());
        let kept = Kept::new(clock.clone());
        let keep = || {
            let table = Arc::new(Table { owner: owner.clone(), version: 1, rows: vec![] });
            kept.keep(Arc::new(Parsed::from([(owner.clone(), ([0; 32], table))])));
        };
        keep();
        clock.advance(PARSED_TABLES_KEPT_MS / 2);
        keep();
        clock.advance(PARSED_TABLES_KEPT_MS * 3 / 4);
        // On one thread: whoever was woken by the clock has its turn before this goes on.
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
        assert_eq!(kept.known().len(), 1, "asked for again meanwhile");
        clock.advance(PARSED_TABLES_KEPT_MS / 2);
        let gone = async {
            while !kept.known().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("it is dropped");
        keep();
        assert_eq!(kept.known().len(), 1, "and kept anew");
    }
}
