//! Decides what a caller may reach over gRPC and in which shape. Never does the work itself: it hands over and waits.

pub mod directory;
pub mod evidence;
pub mod exchange;
pub mod front;
mod receive;
pub mod serve;
mod view;

use tonic::{Request, Status};

use crate::reason::Reason;
use crate::tls::accept::Peer;
use crate::wire::status::{Refused, to_status};

/// Who calls; the accept loop puts it beside every request.
fn peer<T>(request: &Request<T>) -> Result<Peer, Status> {
    let peer = request.extensions().get::<Peer>().cloned();
    peer.ok_or_else(|| to_status(&Refused::new(Reason::Internal).with_detail("a call without a peer")))
}
