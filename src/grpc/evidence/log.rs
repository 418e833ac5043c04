//! Decides who sees the log's checkpoints, proofs and tiles, and whose cosignatures stand beside a checkpoint. Never shows a
//! leaf, and never takes a witness's word that it cannot check.

use tonic::Status;

use super::Evidence;
use crate::grpc::directory::may_read;
use crate::ledger::Entry;
use crate::limits::{CLOCK_AHEAD_MS_MAX, COSIGNATURE_BYTES_MAX};
use crate::party::{Member, Party, Role};
use crate::reason::Reason;
use crate::store::{Error, Log, NewCosignature, Snapshot};
use crate::tlog::cosignature::{WitnessKey, cosigner, signer, text};
use crate::wire::status::{Refused, to_status};

impl Evidence {
    /// Gateways of the alliance see how the log grows, and so do our own people and systems.
    pub(super) fn watcher(&self, party: &Party) -> Result<(), Status> {
        if may_read(&self.ground.own, party) {
            return Ok(());
        }
        Err(to_status(&Refused::new(Reason::NotPermitted).with_detail("the log is for members")))
    }

    /// A member whose gateway calls and which is not us: nobody witnesses its own log.
    pub(super) fn other_gateway(&self, party: &Party) -> Result<Member, Status> {
        match &party.role {
            Role::Gateway if party.member != self.ground.own => Ok(party.member.clone()),
            _ => Err(to_status(&Refused::new(Reason::NotPermitted).with_detail("witnesses are other gateways"))),
        }
    }

    /// The published checkpoint of this size, or the newest; empty when none was published yet.
    pub(super) async fn checkpoint(&self, origin: String, size: u64) -> Result<String, Refused> {
        let asked = Some(size).filter(|size| *size > 0);
        let any = origin.is_empty() && asked.is_none();
        let found = self.in_log(origin, move |look, log| look.published(log, asked)).await;
        match found {
            Ok(published) => Ok(published.note),
            Err(refused) if any && refused.reason == Reason::NotInLog => Ok(String::new()),
            Err(refused) => Err(refused),
        }
    }

    /// Looks at one of our logs.
    pub(super) async fn in_log<T: Send + 'static>(
        &self,
        origin: String,
        look: impl FnOnce(&Snapshot<'_>, Log) -> Result<Option<T>, Error> + Send + 'static,
    ) -> Result<T, Refused> {
        let found = self.ground.readers.seek(move |snapshot| match snapshot.log_named(&origin)? {
            Some(log) => look(snapshot, log),
            None => Ok(None),
        });
        let found = found.await.map_err(|error| {
            tracing::error!(%error, "the log cannot be read");
            Refused::new(Reason::StoreUnavailable)
        })?;
        found.ok_or_else(|| Refused::new(Reason::NotInLog))
    }

    /// Takes a cosignature by one of the witness's log keys, as the directory lists them.
    pub(super) async fn cosigned(
        &self,
        witness: &Member,
        origin: String,
        size: u64,
        line: String,
    ) -> Result<(), Refused> {
        let refused = |why: &str| Refused::new(Reason::CosignatureRefused).with_detail(why);
        let (name, id) = match signer(&line) {
            Some(signer) if line.len() <= COSIGNATURE_BYTES_MAX => signer,
            _ => return Err(refused("not a signature line")),
        };
        let directory = self.board.directory();
        let keys = directory.member(witness).map(|record| record.log_keys.as_slice()).unwrap_or_default();
        let key = keys.iter().map(WitnessKey::of).find(|key| key.name() == name && key.id() == id);
        let key = key.ok_or_else(|| refused("the member's record lists no such log key"))?;
        let published = self.in_log(origin, move |look, log| look.published(log, Some(size))).await?;
        let text = text(&published.note).map_err(|error| refused(&error.to_string()))?;
        let cosigned = cosigner(text, &line, &[key]).map_err(|error| refused(&error.to_string()))?;
        let ahead_ms = cosigned.at_s.saturating_mul(1000).saturating_sub(self.ground.clock.now().ms());
        if ahead_ms > CLOCK_AHEAD_MS_MAX {
            return Err(refused("it lies ahead of the clock"));
        }
        let (place, signer) = (published.place, format!("{name}+{id:08x}"));
        let entry = Entry::Cosign(Box::new(NewCosignature { place, signer, line }));
        self.ground.ledger.enter(entry).await.map(drop).map_err(Refused::from)
    }
}
