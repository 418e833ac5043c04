//! Decides who is at the other end of a wire, before one byte of a call is read: certificates, their issuers, their
//! names, and the deadlines of a connection's first moments. Never decides what a known party may do: that is
//! admission's work.

pub mod refusal;

pub mod identity;
pub mod profile;

pub mod trust;

pub mod config;

pub mod accept;
pub mod connections;
pub mod gather;
pub mod guard;

pub mod dial;
