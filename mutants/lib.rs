//! The pure floors of the gateway and their tests as one small crate, so that a change to a line of them is built and tried
//! in seconds. Nothing is written twice: every module and every test is the gateway's own file. A feature is what one of
//! the judged modules needs, and its tests.

#![allow(dead_code, unused_imports)]

#[path = "../src/limits.rs"]
pub mod limits;
#[path = "../src/short.rs"]
pub mod short;
#[path = "../src/planted.rs"]
pub mod planted;
#[path = "../src/time.rs"]
pub mod time;

#[cfg(feature = "lanes")]
#[path = "../src/lanes/mod.rs"]
pub mod lanes;

#[cfg(feature = "tlog")]
#[path = "../src/tlog/mod.rs"]
pub mod tlog;

#[cfg(feature = "evidence")]
#[path = "../src/evidence.rs"]
pub mod evidence;
#[cfg(feature = "evidence")]
#[path = "../src/id.rs"]
pub mod id;
#[cfg(feature = "evidence")]
#[path = "../src/message.rs"]
pub mod message;
#[cfg(feature = "evidence")]
#[path = "../src/party.rs"]
pub mod party;
#[cfg(feature = "evidence")]
#[path = "../src/reason.rs"]
pub mod reason;

#[cfg(feature = "routing")]
#[path = "../src/directory/mod.rs"]
pub mod directory;
#[cfg(feature = "routing")]
#[path = "../src/routing/mod.rs"]
pub mod routing;

#[cfg(feature = "admission")]
#[path = "../src/admission.rs"]
pub mod admission;

// The tests say `tongban::`, as from outside.
#[cfg(test)]
extern crate self as tongban;

#[cfg(test)]
#[path = "../tests/support"]
mod support {
    #[cfg(feature = "lanes")]
    pub mod desk;
    #[cfg(feature = "tlog")]
    pub mod receipts;
    #[cfg(feature = "routing")]
    pub mod routing_oracle;
}
#[cfg(all(test, feature = "lanes"))]
use support::desk;
#[cfg(all(test, feature = "tlog"))]
use support::receipts;
#[cfg(all(test, feature = "routing"))]
use support::routing_oracle as oracle;

#[cfg(test)]
#[path = "../tests/parts"]
mod whole {
    #[cfg(feature = "lanes")]
    mod doors_claim;
    #[cfg(feature = "lanes")]
    mod lanes_ends;
    #[cfg(feature = "lanes")]
    mod lanes_memory;
    #[cfg(feature = "lanes")]
    mod lanes_rules;
    #[cfg(feature = "lanes")]
    mod lanes_world;

    #[cfg(feature = "tlog")]
    mod tlog_note;
    #[cfg(feature = "tlog")]
    mod tlog_receipt;
    #[cfg(feature = "tlog")]
    mod tlog_tree;
    #[cfg(feature = "tlog")]
    mod tlog_witness;

    #[cfg(feature = "evidence")]
    mod evidence_states;
    #[cfg(feature = "evidence")]
    mod vectors;

    #[cfg(feature = "routing")]
    mod routing_oracle;
    #[cfg(feature = "routing")]
    mod routing_rules;

    #[cfg(feature = "admission")]
    mod admission_rules;
}
