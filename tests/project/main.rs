//! What the project says of itself: its documents, its protos, what it is built of, and the order of its sources.

mod docs;
mod errors;
mod proto;
mod reliability;
mod supply_chain;
mod tidy;
