//! Tongban (通办): a message gateway between cities, one floor above the other.
//!
//! A module uses what stands on its own floor or below it, never what stands above; `tests/tidy.rs` holds the floors as
//! data and fails on an import that looks up. Read from the bottom: each floor needs only the ones before it.

// 0 WORDS: domain types whose constructors parse.
pub mod limits;
pub mod party;
pub mod time;

// 1 THOUGHT: pure decisions, no clock, no disk, no chance.
pub mod tlog;

// 2 SENSES: disk, keys, wires.
pub mod tls;

// 4 DOORS: what callers reach.
pub mod grpc;
