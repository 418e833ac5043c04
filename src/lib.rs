//! Tongban (通办): a message gateway between cities, one floor above the other.
//!
//! A module uses what stands on its own floor or below it, never what stands above; `tests/project/tidy.rs` holds the floors as
//! data and fails on an import that looks up. Read from the bottom: each floor needs only the ones before it.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods))]

// 0 WORDS: domain types whose constructors parse.
pub mod limits;
pub mod short;
pub mod party;
pub mod reason;
pub mod time;
pub mod id;
pub mod message;
pub mod marks;
pub mod evidence;
pub mod audit;
pub mod succession;
pub mod planted;

// 1 THOUGHT: pure decisions, no clock, no disk, no chance.
pub mod tlog;
pub mod receipt;
pub mod directory;
pub mod routing;
pub mod admission;
pub mod lanes;

// 2 SENSES: the outside, one owner each.
pub mod clock;
pub mod chance;
pub mod keys;
pub mod store;
pub mod wire;
pub mod tls;
pub mod seal;
pub mod blobs;

// 3 WORK: the only loops.
pub mod ledger;
pub mod noticeboard;
pub mod intake;
pub mod courier;
pub mod janitor;
pub mod redrive;
pub mod echo;

// 4 DOORS: what callers reach.
pub mod grpc;
pub mod telemetry;

// 5 ROOF: what puts it all together, and the person at the terminal.
pub mod lang;
pub mod config;
pub mod backup;
pub mod server;
pub mod checks;
pub mod cli;
