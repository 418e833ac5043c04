//! Decides what of a gateway is shown to a monitor, and where. Never shows anything that leaves this machine by itself, but to
//! whom the gateway knows by certificate.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Reception, ServerError, Standing};
use crate::checks::lists_end;
use crate::clock::Clock;
use crate::config::{Config, CrlFiles};
use crate::courier::Ground;
use crate::directory::CrlPolicy;
use crate::echo::Echo;
use crate::keys;
use crate::limits::MONITORS_AT_ONCE_MAX;
use crate::noticeboard::Noticeboard;
use crate::telemetry::{Sources, Telemetry};
use crate::time::Time;
use crate::tls::accept::{Bounds, Counters};
use tokio::net::TcpListener;

/// How many monitors from elsewhere at once.
pub(super) fn bounds() -> Bounds {
    let connections_max = MONITORS_AT_ONCE_MAX;
    Bounds { connections_max, handshakes_max: connections_max, ..Bounds::default() }
}

/// Binds a listener that monitors ask, if one is configured.
pub(super) async fn listener(address: Option<SocketAddr>) -> Result<Option<TcpListener>, ServerError> {
    let Some(address) = address else { return Ok(None) };
    let bound = TcpListener::bind(address).await;
    bound.map(Some).map_err(|source| ServerError::Bind { address, source })
}

/// Where the figures come from.
pub(super) fn telemetry(
    config: &Config,
    standing: &Standing,
    ground: &Ground,
    reception: &Reception,
    (gate, echo): (Arc<Counters>, Echo),
) -> Telemetry {
    let (board, crls) = (standing.board.clone(), config.crls.clone());
    let clock: Clock = ground.clock.clone();
    Telemetry::new(Sources {
        started_at: clock.now(),
        clock,
        tally: reception.tally.clone(),
        gate,
        connections: reception.connections.clone(),
        ledger: ground.ledger.counts().clone(),
        verdicts: reception.verdicts.clone(),
        certificate: standing.certificate.clone(),
        readers: ground.readers.clone(),
        data: config.data.clone(),
        echo,
        crl_ends: Box::new(move || crl_ends(&board, &crls)),
    })
}

/// When the revocation lists of each member end that must have some; a list that is missing has ended long ago.
fn crl_ends(board: &Noticeboard, crls: &CrlFiles) -> Vec<(String, Time)> {
    let directory = board.directory();
    let required = directory.entries().map(|entry| &entry.record).filter(|record| record.crl == CrlPolicy::Required);
    let end = |member| keys::read_crls(&crls.of(member)).ok().and_then(|lists| lists_end(&lists)).unwrap_or(Time::ZERO);
    required.map(|record| (record.member.to_string(), end(&record.member))).collect()
}
