//! Whole gateways behind real TLS, most of them in this process: what a partner, a hub, an operator and a thief meet.

#[path = "../support/alliance.rs"]
mod alliance;
#[path = "../support/bench.rs"]
mod bench;
#[path = "../support/exposition.rs"]
mod exposition;
#[path = "../support/forge.rs"]
mod forge;
#[path = "../support/mount.rs"]
mod mount;
#[path = "../../fuzz/parsers.rs"]
mod parsers;
#[path = "../support/pki.rs"]
mod pki;
#[path = "../support/planted.rs"]
mod planted;
#[path = "../support/port.rs"]
mod port;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/staff.rs"]
mod staff;
#[path = "../support/terminal.rs"]
mod terminal;
#[path = "../support/wire_cut.rs"]
mod wire_cut;
#[path = "../support/wording.rs"]
mod wording;

mod admin;
mod attachments_door;
mod away;
mod bug_classes;
mod checks;
mod dead_letters;
mod doors_messages;
mod doors_request;
mod health;
mod health_lines;
mod hostile_gateway;
mod hostile_input;
mod hostile_partner;
mod hostile_receive;
mod hub_blind;
mod hub_lies;
mod hub_relay;
mod ledger;
mod ledger_roads;
mod log_lines;
mod members;
mod notes_follow;
mod origin_receipts;
mod partner_test;
mod pool;
mod pull_evidence;
mod pull_order;
mod reflection;
mod refusal_log;
mod reload;
mod restore;
mod revoked;
mod rights;
mod routing_live;
mod scrub;
mod spine;
mod stats;
mod telemetry;
mod trace_context;
mod witness;
