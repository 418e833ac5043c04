//! Decides in which order a change of routing tables comes true: compiled first, then committed by the ledger, then put in
//! force. A crash in between is healed by the next start, which compiles what was committed. Never holds a lock over a
//! wait: of two changes at once the ledger takes one.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::{Stream, stream};
use tokio::sync::watch;

use super::shelf::{Shelf, Standing, Wrote};
use crate::blobs::aside;
use crate::clock::Clock;
use crate::intake::Rules;
use crate::party::{Alliance, Division};
use crate::reason::Reason;
use crate::routing::{Change, Effect, Index, Issued, Objection, Set, Table, plan};
use crate::time::Time;
use crate::wire::envelope::Fault;
use crate::wire::status::Refused;

/// Tables that somebody wants in force.
#[derive(Debug)]
pub struct Wanted {
    pub tables: Vec<Table>,
    /// Owners that are not among them lose theirs.
    pub complete: bool,
}

/// The tables in force, and the one way to change them.
#[derive(Debug)]
pub struct Board {
    alliance: Alliance,
    rules: Arc<ArcSwap<Rules>>,
    shelf: Shelf,
    clock: Clock,
    told: watch::Sender<(u64, String)>,
}

/// A change that was prepared: what to commit, and the index that follows.
struct Prepared {
    changed: BTreeMap<Division, Option<Wrote>>,
    set: Set,
    index: Arc<Index>,
}

impl Board {
    pub fn new(alliance: Alliance, rules: Arc<ArcSwap<Rules>>, shelf: Shelf, clock: Clock) -> Board {
        Board { alliance, rules, shelf, clock, told: watch::channel((0, String::new())).0 }
    }

    /// The index in force.
    pub fn index(&self) -> Arc<Index> {
        self.rules.load().index.clone()
    }

    /// The set of this version, or the newest.
    ///
    /// # Errors
    /// `NO_SUCH_VERSION`, or a store that cannot be read.
    pub async fn standing(&self, version: Option<u64>) -> Result<Standing, Refused> {
        self.shelf.standing(version).await
    }

    /// The set of this version, or the newest, with the canonical text of each table.
    ///
    /// # Errors
    /// As [`Board::standing`].
    pub async fn texts(&self, version: Option<u64>) -> Result<(Standing, Vec<(Division, String)>), Refused> {
        let standing = self.standing(version).await?;
        let texts = self.shelf.texts(standing.version).await?;
        Ok((standing, texts))
    }

    /// What would change.
    ///
    /// # Errors
    /// `INVALID_TABLES` with every objection.
    pub async fn plan(&self, wanted: Wanted) -> Result<(Standing, Vec<(Change, Option<Effect>)>), Refused> {
        let standing = self.standing(None).await?;
        let (old, now) = (self.index(), self.clock.now());
        let (standing, prepared) = self.prepare(standing, wanted).await?;
        let changes = plan(&standing.set, &prepared.set).changes.into_iter().map(|change| {
            let effect = change.effect(&old, &prepared.index, now);
            (change, effect)
        });
        Ok((standing, changes.collect()))
    }

    /// Puts tables in force, provided that the set is still the one of the etag: the version and etag that follow.
    ///
    /// # Errors
    /// `ROUTES_CHANGED`, `INVALID_TABLES`, or a ledger without room.
    pub async fn put(&self, seen: &str, wanted: Wanted, actor: String, action: &str) -> Result<(u64, String), Refused> {
        let standing = self.standing(None).await?;
        if standing.etag != seen {
            return Err(changed(standing.version));
        }
        let (standing, prepared) = self.prepare(standing, wanted).await?;
        if prepared.changed.is_empty() {
            return Ok((standing.version, standing.etag));
        }
        match self.shelf.put(standing.version, prepared.changed, &actor, action).await? {
            Ok(version) => tracing::info!(version, actor, action, "routing tables are in force"),
            Err(newer) => return Err(changed(newer)),
        }
        self.swap(prepared.index);
        // As the store has it, so that nothing is answered that is not kept.
        let kept = self.standing(Some(standing.version + 1)).await?;
        let named = (kept.version, kept.etag);
        self.told.send_modify(|told| *told = told.clone().max(named.clone()));
        Ok(named)
    }

    /// The version in force, then every later one.
    pub async fn versions(&self) -> Result<impl Stream<Item = (u64, String)> + use<>, Refused> {
        let news = self.told.subscribe();
        let first = self.standing(None).await?;
        let first = (first.version, first.etag);
        Ok(stream::unfold((Some(first), 0, news), |(first, last, mut news)| async move {
            if let Some(first) = first {
                let version = first.0;
                return Some((first, (None, version, news)));
            }
            let next = news.wait_for(|(version, _)| *version > last).await.ok()?.clone();
            let version = next.0;
            Some((next, (None, version, news)))
        }))
    }

    /// Prepares a change, aside: with a million rows it takes seconds, and calls of others wait for this thread.
    async fn prepare(&self, standing: Standing, wanted: Wanted) -> Result<(Standing, Prepared), Refused> {
        let (alliance, now, index) = (self.alliance.clone(), self.clock.now(), self.index());
        aside(move || {
            let prepared = Prepared::new(&standing, wanted, (&alliance, now), &index)?;
            Ok((standing, prepared))
        })
        .await
    }

    /// Puts an index in force, unless a later one is.
    fn swap(&self, index: Arc<Index>) {
        self.rules.rcu(|held| match held.index.version() < index.version() {
            true => Arc::new(Rules { index: index.clone(), ..Rules::clone(held) }),
            false => held.clone(),
        });
    }
}

impl Prepared {
    /// What follows when these tables are issued now, where this index is in force.
    fn new(
        standing: &Standing,
        wanted: Wanted,
        (alliance, now): (&Alliance, Time),
        in_force: &Index,
    ) -> Result<Prepared, Refused> {
        let mut set = Set { version: standing.version + 1, tables: standing.set.tables.clone() };
        let mut changed = BTreeMap::new();
        if wanted.complete {
            let stays = |owner: &Division| wanted.tables.iter().any(|table| table.owner == *owner);
            changed.extend(set.tables.keys().filter(|owner| !stays(owner)).map(|owner| (owner.clone(), None)));
            set.tables.retain(|owner, _| stays(owner));
        }
        for mut table in wanted.tables {
            let held = standing.set.tables.get(&table.owner);
            if held.is_some_and(|held| held.rows == table.rows) {
                continue;
            }
            table.version = held.map_or(table.version, |held| table.version.max(held.version + 1));
            let issued = Issued { alliance: alliance.clone(), issued_at: now, table };
            let text =
                issued.to_json().map_err(|fault| Refused::new(Reason::InvalidTables).with_detail(fault.to_string()))?;
            let (owner, table) = (issued.table.owner.clone(), Arc::new(issued.table));
            changed.insert(owner.clone(), Some(Wrote { text, table: table.clone() }));
            set.tables.insert(owner, table);
        }
        let index = in_force.with(set.version, set.tables.values().cloned().collect()).map_err(objected)?;
        Ok(Prepared { changed, set, index: Arc::new(index) })
    }
}

fn changed(version: u64) -> Refused {
    Refused::new(Reason::RoutesChanged).with_detail(format!("version {version} is in force"))
}

fn objected(objections: Vec<Objection>) -> Refused {
    let fault = |objection: &Objection| Fault { field: "tables".to_owned(), must: objection.to_string() };
    Refused { faults: objections.iter().map(fault).collect(), ..Refused::new(Reason::InvalidTables) }
}
