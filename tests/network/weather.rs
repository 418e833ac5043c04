//! Decides which faults a world has, and when: by its seed alone. When the weather is over, nothing is at fault any more.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::dice::Dice;
use crate::world::World;

/// What can happen between two hosts, or to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// Nothing passes, and what was under way is lost.
    Cut,
    /// What one says is lost, what the other says arrives.
    Deaf,
    /// Nothing passes for a while, and then all of it.
    Held,
    /// A gateway dies, and is started again later.
    Killed,
    /// A gateway dies, and its partners are not told.
    Vanished,
    /// A gateway is told to end, and starts again at once.
    Restarted,
    /// The whole network becomes slower, or fast again.
    Slow,
}
use Fault::{Cut, Deaf, Held, Killed, Restarted, Slow, Vanished};

const FAULTS: [Fault; 7] = [Cut, Deaf, Held, Killed, Vanished, Restarted, Slow];

pub struct Weather {
    dice: Dice,
    counts: BTreeMap<Fault, usize>,
}

impl std::fmt::Display for Weather {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.counts)
    }
}

impl Weather {
    pub fn new(seed: u64) -> Weather {
        Weather { dice: Dice::new(seed), counts: BTreeMap::new() }
    }

    /// One fault after the other, for so long in all; and what lasts of them ends with it.
    pub fn blow(mut self, world: &mut World, time: Duration) -> Weather {
        let end = world.sim.elapsed() + time;
        while world.sim.elapsed() < end {
            world.run_for(self.up_to(4_000));
            let fault = FAULTS[self.dice.index(FAULTS.len())];
            *self.counts.entry(fault).or_default() += 1;
            self.happen(fault, world);
        }
        world.sim.set_max_message_latency(Duration::from_millis(40));
        self
    }

    fn happen(&mut self, fault: Fault, world: &mut World) {
        let (a, b) = self.line(world);
        match fault {
            Cut => {
                world.sim.partition(&*a, &*b);
                world.run_for(self.up_to(25_000));
                world.sim.repair(&*a, &*b);
            }
            Deaf => {
                world.sim.partition_oneway(&*a, &*b);
                world.run_for(self.up_to(25_000));
                world.sim.repair_oneway(&*a, &*b);
            }
            Held => {
                world.sim.hold(&*a, &*b);
                world.run_for(self.up_to(25_000));
                world.sim.release(&*a, &*b);
            }
            Killed => {
                let host = self.gateway(world);
                world.sim.crash(host);
                world.run_for(self.up_to(10_000));
                world.sim.bounce(host);
            }
            Vanished => {
                let host = self.gateway(world);
                let others: Vec<String> = world.hosts().into_iter().filter(|other| other != host).collect();
                others.iter().for_each(|other| world.sim.partition(host, &**other));
                world.sim.crash(host);
                others.iter().for_each(|other| world.sim.repair(host, &**other));
                world.run_for(self.up_to(10_000));
                world.sim.bounce(host);
            }
            Restarted => {
                let host = self.gateway(world);
                world.restart(host);
            }
            Slow => {
                let most = Duration::from_millis(50) + self.up_to(1_500);
                world.sim.set_max_message_latency(most);
            }
        }
    }

    fn up_to(&mut self, ms: u64) -> Duration {
        Duration::from_millis(self.dice.below(ms))
    }

    fn gateway(&mut self, world: &World) -> &'static str {
        let all = world.gateways();
        all[self.dice.index(all.len())]
    }

    /// A gateway, and anybody else: most often another gateway.
    fn line(&mut self, world: &World) -> (String, String) {
        let one = self.gateway(world).to_owned();
        let others: Vec<String> = match self.dice.happens(700) {
            true => world.gateways().into_iter().map(str::to_owned).collect(),
            false => world.hosts(),
        };
        let others: Vec<String> = others.into_iter().filter(|other| *other != one).collect();
        let other = others[self.dice.index(others.len())].clone();
        if self.dice.happens(500) { (one, other) } else { (other, one) }
    }
}
