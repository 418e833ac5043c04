//! Decides how a reload that somebody asked for is told. Never reads a configuration: whoever holds it does.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::limits::{RELOAD_FAULT_BYTES_MAX, RELOAD_FAULTS_MAX};
use crate::party::Party;
use crate::reason::Reason;
use crate::wire::pb::admin as pb;
use crate::wire::status::Refused;

/// What a reload is called in the audit.
pub const RELOAD: &str = "gateway.reload";

/// What a reload put in place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// What has changed and holds now.
    pub changed: Vec<String>,
    /// Settings that have changed and take effect at the next start alone.
    pub at_next_start: Vec<String>,
    /// Connections that were cut.
    pub cut: usize,
}

/// Reads the configuration again for somebody, and puts that on record; every fault when nothing was taken up.
pub type Reload = Arc<dyn Fn(Party) -> BoxFuture<'static, Result<Reloaded, Vec<String>>> + Send + Sync>;

/// Reads it again, to the end even when the caller goes away.
pub async fn run(reload: &Reload, actor: Party) -> Result<pb::ReloadResponse, Refused> {
    let reloaded = tokio::spawn(reload(actor)).await.map_err(|_| Refused::new(Reason::Internal))?;
    Ok(match reloaded {
        Ok(Reloaded { changed, at_next_start, cut }) => {
            pb::ReloadResponse { changed, at_next_start, cut: cut as u64, faults: vec![] }
        }
        Err(faults) => pb::ReloadResponse {
            faults: faults.into_iter().take(RELOAD_FAULTS_MAX).map(cut_short).collect(),
            ..Default::default()
        },
    })
}

fn cut_short(mut fault: String) -> String {
    fault.truncate(fault.floor_char_boundary(RELOAD_FAULT_BYTES_MAX));
    fault
}
