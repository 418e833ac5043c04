//! Decides whether these worlds would notice what they are there for: each bug is planted in turn, and must be caught.

use tongban::planted::Bug;

use crate::planted;

/// Worlds in which a planted bug must be caught.
const WORLDS_MAX: u64 = 400;

#[test]
fn every_planted_bug_is_caught() {
    // That one has no place in these worlds: tests/gateways/reload.rs catches it.
    let bugs = Bug::ALL.into_iter().filter(|(bug, _)| *bug != Bug::CrlNotReRead);
    for (_, name) in bugs {
        let worlds = [("SIMULATION_WORLDS", WORLDS_MAX.to_string())];
        let told = planted::fails(name, "in_no_world_is_a_message_lost_doubled_or_overtaken", &worlds);
        let caught = told.lines().find(|line| line.starts_with("seed ")).unwrap_or_else(|| panic!("{name}: {told}"));
        println!("planted {name}: {caught}");
    }
}
