//! Decides how a set of routing tables is read from the store and named, and hands a change to the ledger. Keeps for a while
//! what it has read: a large set is published in many requests, and to read and parse all of it would take most of each.

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
use crate::store::{Error, Readers, Snapshot};
use crate::time::Time;
use crate::wire::status::Refused;

/// A set of tables as it is kept.
#[derive(Clone, Debug)]
pub struct Standing {
    pub version: u64,
    /// Names version and content.
    pub etag: String,
    pub set: Set,
}

/// A table as it was read.
#[derive(Clone, Debug)]
struct Parsed {
    /// Version of the set since which it stands.
    since: u64,
    /// Of its text.
    digest: [u8; 32],
    table: Arc<Table>,
}

impl Parsed {
    fn new(since: u64, text: &str, table: Arc<Table>) -> Parsed {
        Parsed { since, digest: Sha256::digest(text).into(), table }
    }
}

/// A table that is to be kept: its canonical text, and what was written there.
#[derive(Debug)]
pub struct Wrote {
    pub text: String,
    pub table: Arc<Table>,
}

/// A set's tables by their owners.
type Tables = BTreeMap<Division, Parsed>;

/// What is held, and the moment at which it goes.
type Held = Mutex<Option<(Arc<Tables>, Time)>>;

/// Where the sets are kept.
#[derive(Debug)]
pub struct Shelf {
    readers: Arc<Readers>,
    ledger: Ledger,
    kept: Kept,
}

impl Shelf {
    pub fn new(readers: Arc<Readers>, ledger: Ledger, clock: Clock) -> Shelf {
        Shelf { readers, ledger, kept: Kept::new(clock) }
    }

    /// The set of this version, or the newest. Only tables that are not kept are read.
    ///
    /// # Errors
    /// `NO_SUCH_VERSION`, or a store that cannot be read.
    pub async fn standing(&self, version: Option<u64>) -> Result<Standing, Refused> {
        let kept = self.kept.tables();
        let (version, found) = self
            .read(version, move |look, owner, since| match kept.get(owner).filter(|kept| kept.since == since) {
                Some(kept) => Ok(Found::Kept(kept.clone())),
                None => Ok(Found::Text(since, look.route_text(owner, since)?)),
            })
            .await?;
        let parse = move || found.into_iter().map(|(owner, found)| Ok((owner, found.parse()?))).collect();
        let parsed: Result<Tables, TableError> = aside(parse).await;
        let tables = parsed.map_err(|fault| {
            tracing::error!(%fault, version, "a stored routing table does not read");
            Refused::new(Reason::StoreUnavailable)
        })?;
        let etag = etag(version, &tables);
        let set = tables.iter().map(|(owner, parsed)| (owner.clone(), parsed.table.clone())).collect();
        self.kept.keep(Arc::new(tables));
        Ok(Standing { version, etag, set: Set { version, tables: set } })
    }

    /// The canonical text of each table of this version, ordered by their owners.
    ///
    /// # Errors
    /// As [`Shelf::standing`].
    pub async fn texts(&self, version: u64) -> Result<Vec<(Division, String)>, Refused> {
        Ok(self.read(Some(version), |look, owner, since| look.route_text(owner, since)).await?.1)
    }

    /// Commits a change: the new version, or the one that was there first. Its tables are kept as they are, and not read again.
    ///
    /// # Errors
    /// The ledger has no room, or has stopped.
    pub async fn put(
        &self,
        expected_version: u64,
        changed: BTreeMap<Division, Option<Wrote>>,
        actor: &str,
        action: &str,
    ) -> Result<Result<u64, u64>, Refused> {
        let digested = move || {
            let since = expected_version + 1;
            let parsed = |wrote: &Wrote| Parsed::new(since, &wrote.text, wrote.table.clone());
            let of = |(owner, wrote): (&Division, &Option<Wrote>)| Some((owner.clone(), parsed(wrote.as_ref()?)));
            let parsed: Tables = changed.iter().filter_map(of).collect();
            let texts = changed.into_iter().map(|(owner, wrote)| (owner, wrote.map(|wrote| wrote.text)));
            (parsed, texts.collect())
        };
        let (parsed, tables) = aside(digested).await;
        let change = RouteChange { expected_version, tables, actor: actor.to_owned(), action: action.to_owned() };
        match self.ledger.try_enter(Entry::Routes(Box::new(change))).await {
            Ok(Answer::Routes(put)) => {
                if put.is_ok() {
                    let mut tables = Tables::clone(&self.kept.tables());
                    tables.extend(parsed);
                    self.kept.keep(Arc::new(tables));
                }
                Ok(put)
            }
            Ok(_) => Err(Refused::new(Reason::Internal)),
            Err(trouble) => Err(trouble.into()),
        }
    }

    /// Reads something of each table of this version, or of the newest: by its owner, and the version since which it stands.
    async fn read<T: Send + 'static>(
        &self,
        version: Option<u64>,
        each: impl Fn(&Snapshot<'_>, &Division, u64) -> Result<T, Error> + Send + 'static,
    ) -> Result<(u64, Vec<(Division, T)>), Refused> {
        let found = self.readers.seek(move |look| {
            let (newest, mut tables) = look.route_tables(None)?;
            match version {
                Some(version) if version > newest => return Ok(None),
                Some(version) if version < newest => tables = look.route_tables(Some(version))?.1,
                _ => {}
            }
            let read = tables.into_iter().map(|(owner, since)| each(look, &owner, since).map(|found| (owner, found)));
            Ok(Some((version.unwrap_or(newest), read.collect::<Result<_, Error>>()?)))
        });
        let found = found.await.map_err(|fault| {
            tracing::error!(%fault, "routing tables cannot be read");
            Refused::new(Reason::StoreUnavailable)
        });
        found?.ok_or_else(|| Refused::new(Reason::NoSuchVersion))
    }
}

/// A table that stands: as it is kept, or its text and the version since which it stands.
enum Found {
    Kept(Parsed),
    Text(u64, String),
}

impl Found {
    fn parse(self) -> Result<Parsed, TableError> {
        match self {
            Found::Kept(parsed) => Ok(parsed),
            Found::Text(since, text) => {
                let table = Arc::new(Issued::from_json(&text)?.table);
                Ok(Parsed::new(since, &text, table))
            }
        }
    }
}

/// The tables that were asked for last, until nobody has asked for a while.
#[derive(Debug)]
struct Kept {
    clock: Clock,
    held: Arc<Held>,
}

impl Kept {
    fn new(clock: Clock) -> Kept {
        Kept { clock, held: Arc::default() }
    }

    fn tables(&self) -> Arc<Tables> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().map(|(tables, _)| tables.clone()).unwrap_or_default()
    }

    fn keep(&self, tables: Arc<Tables>) {
        let until = self.clock.now().plus_ms(PARSED_TABLES_KEPT_MS);
        let before = self.held.lock().unwrap_or_else(PoisonError::into_inner).replace((tables, until));
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

/// The version and the first 64 bits of the digest of all texts' digests.
fn etag(version: u64, tables: &Tables) -> String {
    let mut all = Sha256::new();
    tables.values().for_each(|table| all.update(table.digest));
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
            kept.keep(Arc::new(Tables::from([(owner.clone(), Parsed { since: 1, digest: [0; 32], table })])));
        };
        keep();
        clock.advance(PARSED_TABLES_KEPT_MS / 2);
        keep();
        clock.advance(PARSED_TABLES_KEPT_MS * 3 / 4);
        // On one thread: whoever was woken by the clock has its turn before this goes on.
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
        assert_eq!(kept.tables().len(), 1, "asked for again meanwhile");
        clock.advance(PARSED_TABLES_KEPT_MS / 2);
        let gone = async {
            while !kept.tables().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("it is dropped");
        keep();
        assert_eq!(kept.tables().len(), 1, "and kept anew");
    }
}
