//! Gateways as processes that are killed, cut, or deceived by their disk or their clock.

#[path = "../support/alliance.rs"]
mod alliance;
#[path = "../support/book.rs"]
mod book;
#[path = "../support/port.rs"]
mod port;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/strace.rs"]
mod strace;

mod attachments;
mod clock_jumps;
mod crash_points;
mod damage;
mod durability;
mod witness_kills;
