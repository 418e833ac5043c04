//! Decides what holds when the directory changes while the gateway serves: trust, rules, log keys and partners are made
//! anew as a whole and put in place; when one of them cannot be made, all that held before goes on holding.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use super::{ServerError, Standing, partners, rules, trust_of};
use crate::config::Config;
use crate::courier::Post;
use crate::intake::{Rules, log_keys};
use crate::receipt::Checker;
use crate::store::Readers;

/// What is put in place at each change.
pub struct Law {
    pub config: Arc<Config>,
    pub standing: Standing,
    pub rules: Arc<ArcSwap<Rules>>,
    pub checker: Arc<Mutex<Checker>>,
    pub readers: Arc<Readers>,
    pub post: Post,
}

impl Law {
    /// Follows the noticeboard until `stop`.
    pub async fn follow(mut self, stop: CancellationToken) {
        let mut changes = self.standing.board.changes();
        while let Some(Ok(())) = stop.run_until_cancelled(changes.changed()).await {
            changes.borrow_and_update();
            match self.enforce() {
                Ok(()) => tracing::info!(version = self.standing.directory.version(), "the directory has changed"),
                Err(error) => tracing::error!(%error, "the new directory cannot be used; the old one goes on holding"),
            }
        }
    }

    fn enforce(&mut self) -> Result<(), ServerError> {
        let directory = Arc::new(self.standing.board.directory());
        if directory.member(&self.standing.own).is_none() {
            return Err(ServerError::NotAMember(self.standing.own.clone()));
        }
        let trust = trust_of(&self.config, &directory)?;
        let standing = Standing { directory: directory.clone(), ..self.standing.clone() };
        let made = rules(&self.config, &standing, &self.readers)?;
        self.standing = standing;
        self.put_in_place(made)?;
        self.standing.trust.store(Arc::new(trust));
        *self.checker.lock().unwrap_or_else(PoisonError::into_inner) = Checker::new(log_keys(&directory));
        self.post.serve_partners(partners(&self.standing));
        Ok(())
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
