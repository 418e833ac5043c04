//! Decides who carries what: a task for each partner that is dialled, one for each mailbox, and one for each partner from
//! which this gateway fetches; each lane with the pure one that tells it what to do next. Never decides the order or the
//! pause itself.

pub mod attachments;
mod desk;
mod dial;
mod follow;
mod ground;
mod homeward;
mod logbook;
mod mailbox;
mod parcel;
mod pool;
mod post;
mod pull;
mod push;
mod session;
mod witness;

pub use desk::{Cancelled, Desk, Order};
pub use dial::{Dialer, Opener, Pools};
pub use follow::Follower;
pub use ground::Ground;
pub use homeward::{Batch, Homeward};
pub use mailbox::{Delivery, Mailbox, MailboxError, Outcome, Receipts, Step, Taken};
pub use post::{Diallers, Mailboxes, Partner, Post};
pub use pull::Pull;
pub use session::InFlight;
pub use witness::Witness;
