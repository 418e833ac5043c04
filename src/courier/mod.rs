//! Decides who carries what: one task for each partner that is dialled and one for each mailbox, each with the pure lane
//! that tells it what to do next. Never decides the order or the pause itself.

pub mod attachments;
mod dial;
mod ground;
mod mailbox;
mod push;
mod session;

pub use dial::Dialer;
pub use ground::Ground;
pub use mailbox::{Delivery, Mailbox, MailboxError, Outcome, Settlement, Step};

use crate::party::{Member, Name};
use std::collections::HashMap;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The city's own mailboxes, by system.
pub type Mailboxes = HashMap<Name, Mailbox>;

/// Starts the tasks: a courier for each partner, a keeper for each own system.
pub fn start(
    ground: &Ground,
    partners: Vec<(Member, Dialer)>,
    systems: Vec<Name>,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Mailboxes {
    for (member, dialer) in partners {
        tasks.spawn(push::Push::new(ground.clone(), member, dialer).run(stop.clone()));
    }
    let mailboxes = systems.into_iter().map(|name| {
        let (mailbox, keeper) = mailbox::open(ground.clone(), name.clone());
        tasks.spawn(keeper.run(stop.clone()));
        (name, mailbox)
    });
    mailboxes.collect()
}
