//! Decides which faults a world has, and how strong each is. Each world draws its own set (swarm testing: A. Groce et al.,
//! ISSTA 2012): a fault that hides another is absent in half of all worlds.

use crate::dice::Dice;

/// The faults of one world. Rates are per thousand of whatever the fault can befall.
#[derive(Clone, Debug, Default)]
pub struct Weather {
    pub lose_request: u64,
    pub lose_answer: u64,
    pub duplicate: u64,
    /// Milliseconds that a packet takes at most: what is sent later can arrive sooner.
    pub net_ms: u64,
    /// Milliseconds that the store takes at most, for each read and each commit.
    pub store_ms: u64,
    pub break_link: u64,
    pub refuse_dial: u64,
    /// Crashes at any step.
    pub crash: u64,
    /// Crashes of a commit: after it was signed, and after it was stored.
    pub crash_signed: u64,
    pub crash_stored: u64,
    /// Commits that are stored and reported as failed.
    pub ambiguous: u64,
    pub disk_full: u64,
    /// A restart finds the tree's edge damaged.
    pub damage: u64,
    pub down_ms: u64,
    pub clock: u64,
    pub refuse: u64,
    pub later: u64,
    pub silent: u64,
    pub throttle: u64,
    pub conflict: u64,
    pub resubmit: u64,
    pub cancel: u64,
    pub expire: u64,
    pub hold: u64,
    pub close_ways: u64,
}

impl Weather {
    /// Each fault is absent in every second world, and up to its strongest in the others.
    pub fn draw(dice: &mut Dice) -> Weather {
        let mut up_to = |strongest: u64| if dice.happens(500) { 0 } else { 1 + dice.below(strongest) };
        Weather {
            lose_request: up_to(200),
            lose_answer: up_to(200),
            duplicate: up_to(200),
            net_ms: 1 + up_to(8_000),
            store_ms: 1 + up_to(600),
            break_link: up_to(12),
            refuse_dial: up_to(600),
            crash: up_to(8),
            crash_signed: up_to(40),
            crash_stored: up_to(40),
            ambiguous: up_to(30),
            disk_full: up_to(80),
            damage: up_to(300),
            down_ms: 1 + up_to(40_000),
            clock: up_to(6),
            refuse: up_to(60),
            later: up_to(200),
            silent: up_to(250),
            throttle: up_to(60),
            conflict: up_to(150),
            resubmit: up_to(400),
            cancel: up_to(150),
            expire: up_to(500),
            hold: up_to(6),
            close_ways: up_to(6),
        }
    }

    /// No faults: everything arrives, and soon.
    pub fn calm() -> Weather {
        Weather { net_ms: 30, store_ms: 3, down_ms: 1, ..Weather::default() }
    }
}
