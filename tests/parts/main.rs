//! The parts of a gateway, each by itself: the pure floors, the store and the files. No network, no process.

#[path = "../support/desk.rs"]
mod desk;
#[path = "../support/routing_oracle.rs"]
mod oracle;
#[path = "../../fuzz/parsers.rs"]
mod parsers;
#[path = "../support/receipts.rs"]
mod receipts;

mod admission_rules;
mod blobs_uploads;
mod corpus;
mod directory_carried;
mod directory_keys;
mod directory_notes;
mod doors_claim;
mod evidence_states;
mod lanes_ends;
mod lanes_memory;
mod lanes_rules;
mod lanes_world;
mod noticeboard;
mod routing_oracle;
mod routing_rules;
mod seal_format;
mod store;
mod store_memory;
mod tlog_go;
mod tlog_note;
mod tlog_receipt;
mod tlog_tree;
mod tlog_witness;
mod vectors;
