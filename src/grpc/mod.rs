//! Decides what a caller may reach over gRPC and in which shape. Never does the work itself: it hands over and waits.

pub mod front;
pub mod serve;
