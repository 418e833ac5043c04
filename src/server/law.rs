//! Decides what holds when the directory changes while the gateway serves: trust, rules, log keys and partners are made
//! anew as a whole and put in place; when one of them cannot be made, all that held before goes on holding.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::renewal::{Asked, changed, trusted};
use super::{Reception, ServerError, Standing, partners, record_trust, rules, tables};
use crate::admission::Grants;
use crate::config::Config;
use crate::courier::Post;
use crate::directory::Directory;
use crate::directory::notes::{self, News};
use crate::grpc::record::Record;
use crate::grpc::routing::{Board, Wanted};
use crate::intake::{Rules, log_keys};
use crate::party::Member;
use crate::receipt::Checker;
use crate::routing::{Index, Issued, Table};
use crate::store::Readers;
use crate::tls::trust::{MemberTrust, Trust};
use crate::wire::status::Refused;

/// What is put in place at each change.
pub struct Law {
    pub config: Arc<Config>,
    /// The same, for those who ask which one holds.
    pub current: Arc<ArcSwap<Config>>,
    pub standing: Standing,
    pub reception: Reception,
    pub rules: Arc<ArcSwap<Rules>>,
    pub checker: Arc<Mutex<Checker>>,
    pub readers: Arc<Readers>,
    pub post: Post,
    pub routes: Arc<Board>,
    pub record: Record,
}

impl Law {
    /// Follows the noticeboard, and takes up a changed configuration when asked, until `stop`.
    pub async fn follow(mut self, mut asked: mpsc::Receiver<Asked>, stop: CancellationToken) {
        let mut changes = self.standing.board.changes();
        self.adopt_tables().await;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let change = *changes.borrow_and_update();
                    self.follow_board(change).await;
                }
                Some(asked) = asked.recv() => self.renew_for(asked).await,
            }
        }
    }

    async fn follow_board(&mut self, change: u64) {
        let enforced = self.enforce();
        match &enforced {
            Ok(cut) => {
                let version = self.standing.directory.version();
                tracing::info!(version, cut, "the noticeboard has changed");
            }
            Err(error) => tracing::error!(%error, "the new directory cannot be used; the old one goes on holding"),
        }
        self.standing.board.put_in_force(change, enforced.err().map(|error| error.to_string()));
        self.adopt_tables().await;
    }

    /// Puts the tables in force that their owners have signed and a hub has brought, where they are newer. A hub itself
    /// goes by the records alone.
    async fn adopt_tables(&self) {
        if matches!(self.standing.own, Member::Hub(_)) {
            return;
        }
        for carried in self.standing.board.tables() {
            let adopted = match table_in(&carried.note) {
                Ok(table) => self.adopt(table).await,
                Err(why) => Err(why),
            };
            if let Err(why) = adopted {
                let owner = carried.owner.map(|owner| owner.to_string()).unwrap_or_default();
                tracing::error!(owner, why, "a carried routing table is held back; the last good one stays");
            }
        }
    }

    async fn adopt(&self, table: Table) -> Result<(), String> {
        let standing = self.routes.standing(None).await.map_err(|refused| words(&refused))?;
        if standing.set.tables.get(&table.owner).is_some_and(|held| held.version >= table.version) {
            return Ok(());
        }
        let actor = format!("note/{}", table.owner.as_str());
        let wanted = Wanted { tables: vec![table], complete: false };
        self.routes.put(&standing.etag, wanted, actor, "adopt").await.map(drop).map_err(|refused| words(&refused))
    }

    fn enforce(&mut self) -> Result<usize, ServerError> {
        let directory = Arc::new(self.standing.board.directory());
        if directory.member(&self.standing.own).is_none() {
            return Err(ServerError::NotAMember(self.standing.own.clone()));
        }
        let suspended = Arc::new(self.standing.board.suspended());
        let (members, trust) = trusted(&self.config, &directory, &suspended)?;
        let standing = Standing { directory, suspended, ..self.standing.clone() };
        let made = rules(&self.config, &standing, &self.readers)?;
        self.take_up(self.config.clone(), standing, made)?;
        let grants = self.config.grants.clone();
        Ok(self.trust_anew(members, trust, &grants))
    }

    /// Puts the rules in place that were made of this configuration and standing; both hold from then on. On a fault
    /// neither does.
    pub(super) fn take_up(&mut self, config: Arc<Config>, standing: Standing, made: Rules) -> Result<(), ServerError> {
        let before = (std::mem::replace(&mut self.config, config), std::mem::replace(&mut self.standing, standing));
        let placed = self.put_in_place(made);
        match placed {
            Ok(()) => self.current.store(self.config.clone()),
            Err(_) => (self.config, self.standing) = before,
        }
        placed
    }

    /// Lets the new trust judge all that is open: who would not be let in again, or has no grant any more, is cut, and
    /// partners whose authorities or lists have changed are dialled anew. Says how many were cut.
    pub(super) fn trust_anew(&mut self, members: Vec<MemberTrust>, trust: Trust, granted: &Grants) -> usize {
        let changed = changed(&self.standing.members, &members);
        let trust = Arc::new(trust);
        self.standing.members = Arc::new(members);
        self.standing.trust.store(trust.clone());
        let checker = Checker::new(log_keys(&self.standing.directory));
        *self.checker.lock().unwrap_or_else(PoisonError::into_inner) = checker;
        self.post.serve_partners(partners(&self.standing));
        for member in changed {
            self.post.dial_anew(&member);
        }
        let (now, grants) = (self.standing.moment.unix(), &self.config.grants);
        self.reception.connections.close_where(|peer| {
            let lost = granted.name(&peer.party) && !grants.name(&peer.party);
            lost || peer.again(&trust, now).is_err()
        })
    }

    /// Tables that were published while the rules were made have a newer index than they: it must not be lost.
    fn put_in_place(&self, mut made: Rules) -> Result<(), ServerError> {
        loop {
            let held = self.rules.load_full();
            if made.index.version() < held.index.version() {
                made = rules(&self.config, &self.standing, &self.readers)?;
                continue;
            }
            let made_now = Arc::new(made);
            let before = self.rules.compare_and_swap(&held, made_now.clone());
            if Arc::ptr_eq(&before, &held) {
                return Ok(());
            }
            made = rules(&self.config, &self.standing, &self.readers)?;
        }
    }
}

/// What tells whether carried news can stand beside what is in force; it says so only once that is known. What was kept
/// before is in force already.
#[derive(Clone, Default)]
pub struct InForce(Arc<OnceLock<Known>>);

/// Where the tables in force are read, the index that they came to, and the configuration of the moment.
type Known = (Arc<Readers>, Arc<ArcSwap<Rules>>, Arc<ArcSwap<Config>>);

impl InForce {
    /// From now on carried news is compared with these.
    pub fn set(&self, readers: Arc<Readers>, rules: Arc<ArcSwap<Rules>>, config: Arc<ArcSwap<Config>>) {
        let _ = self.0.set((readers, rules, config));
    }

    /// Whether news can stand beside what is in force; that of routing tables only where `tables` are ours to judge. Blocks
    /// on the disk.
    ///
    /// # Errors
    /// Every objection, each naming the rows or members.
    pub fn fits(&self, board: &notes::Board, news: &News, tables: bool) -> Result<(), String> {
        let Some((readers, rules, config)) = self.0.get() else { return Ok(()) };
        match news {
            News::Table { note, .. } if tables => table_fits(note, readers, &rules.load()),
            News::Table { .. } | News::Generation { .. } => Ok(()),
            News::Directory { .. } | News::Record(_) => {
                let mut tried = board.clone();
                tried.take(news.clone());
                members_fit(&tried.directory(), readers, &config.load())
            }
        }
    }
}

/// Whether a directory could be put in force: we are in it, its members' names and keys do not clash, and the stored routing
/// tables stand on it. Revocation lists are not asked: a file that is broken now is no fault of what a member signed.
fn members_fit(directory: &Directory, readers: &Readers, config: &Config) -> Result<(), String> {
    if directory.member(&config.member).is_none() {
        return Err(ServerError::NotAMember(config.member.clone()).to_string());
    }
    let trusts = directory.entries().map(|entry| record_trust(&entry.record));
    let built = Trust::build(config.alliance.clone(), trusts.collect());
    let lines = |faults: Vec<String>| faults.join("; ");
    built.map(drop).map_err(|faults| lines(faults.iter().map(ToString::to_string).collect()))?;
    let compiled = Index::compile(&tables(config, directory, readers).map_err(|error| error.to_string())?);
    compiled.map(drop).map_err(|faults| lines(faults.iter().map(ToString::to_string).collect()))
}

/// Whether a routing table clashes with no other in force.
fn table_fits(note: &str, readers: &Readers, rules: &Rules) -> Result<(), String> {
    let table = table_in(note)?;
    let (version, texts) = readers.look(|look| look.routes(None)).map_err(|error| error.to_string())?;
    let others = texts.iter().filter(|(owner, _)| *owner != table.owner).map(|(_, text)| {
        Issued::from_json(text).map(|issued| Arc::new(issued.table)).map_err(|error| error.to_string())
    });
    let mut tables = others.collect::<Result<Vec<_>, _>>()?;
    tables.push(Arc::new(table));
    let compiled = rules.index.with(version + 1, tables);
    compiled.map(drop).map_err(|objections| objections.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

/// A refusal in words: its reason and every fault.
fn words(refused: &Refused) -> String {
    let faults = refused.faults.iter().map(|fault| format!("{} {}", fault.field, fault.must));
    std::iter::once(refused.reason.en().to_owned()).chain(faults).collect::<Vec<_>>().join("; ")
}

/// The routing table in a signed note: its text is the first line.
fn table_in(note: &str) -> Result<Table, String> {
    let line = note.lines().next().unwrap_or_default();
    Ok(Issued::from_json(&format!("{line}\n")).map_err(|error| error.to_string())?.table)
}
