//! Decides what happens next: one agenda in virtual time, in which everything that anybody does takes its time. Every
//! chance comes from the world's one seed. Knows no rule of the product; the oracle does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tongban::party::Member;
use tongban::receipt::{Checker, Receipt};
use tongban::routing::Index;
use tongban::store::LaneName;
use tongban::time::Time;

use crate::carrier::{Carrier, Manners};
use crate::dice::Dice;
use crate::gateway::{Process, Todo};
use crate::map::{self, Map};
use crate::oracle::Oracle;
use crate::people::{Person, Word};
use crate::rare::{Rare, Tally};
use crate::traffic::{End, Link, LinkId, Packet};
use crate::weather::Weather;

/// A member of the alliance, by its place in the world. The hub, where there is one, is the last.
pub type Place = usize;

/// When worlds begin, in milliseconds since 1970.
const BEGINNING_MS: u64 = 1_780_272_000_000;
/// Milliseconds of calm in which everything must have ended, and steps, which only an endless loop can use up.
const CALM_MS_MAX: u64 = 6 * 60 * 60 * 1_000;
const CALM_STEPS_MAX: u64 = 200_000;

/// What can happen.
pub enum Happening {
    /// Something in a gateway's memory, which dies with the process.
    Inside { place: Place, life: u32, todo: Todo },
    /// A packet arrives.
    Arrival { to: End, packet: Packet },
    /// A person does something.
    Deed { place: Place, word: Word },
    /// A gateway's process starts.
    Start { place: Place },
}

/// One member's gateway: what a crash leaves, and the process while it runs.
pub struct Gateway {
    pub member: Member,
    pub folder: PathBuf,
    pub index: Arc<Index>,
    /// The same without any way to another member.
    pub closed: Arc<Index>,
    pub ways_closed: bool,
    /// Milliseconds by which its clock is wrong.
    pub clock_off_ms: i64,
    pub life: u32,
    pub process: Option<Process>,
}

pub struct World {
    pub seed: u64,
    pub dice: Dice,
    pub weather: Weather,
    pub manners: Manners,
    pub map: Map,
    pub gateways: Vec<Gateway>,
    pub people: Vec<Person>,
    pub links: BTreeMap<LinkId, Link>,
    pub oracle: Oracle,
    /// What people check receipts with.
    pub checker: Checker,
    pub tally: Tally,
    pub calm: bool,
    pub steps: u64,
    /// Milliseconds since the beginning.
    ms: u64,
    agenda: BTreeMap<(u64, u64), Happening>,
    entered: u64,
    trace: Sha256,
    violation: Option<String>,
}

/// What a world came to.
pub struct Report {
    pub steps: u64,
    pub tally: Tally,
    /// The hash of everything that happened, in its order.
    pub trace: [u8; 32],
}

impl Drop for World {
    fn drop(&mut self) {
        self.gateways.iter_mut().for_each(|gateway| gateway.process = None);
        let _ = std::fs::remove_dir_all(&self.map.folder);
        // The last world takes the ground with it: with others on it, this fails.
        let _ = std::fs::remove_dir(map::ground());
    }
}

impl World {
    pub fn new(seed: u64, folder: PathBuf) -> World {
        let mut dice = Dice::new(seed);
        let weather = Weather::draw(&mut dice);
        let map = Map::draw(&mut dice, folder);
        let manners = Manners::draw(&mut dice);
        let gateways = (0..map.members.len()).map(|place| map::gateway(&map, place)).collect();
        let people = (0..map.cities()).map(|place| Person::new(&mut dice, &map, place)).collect();
        World {
            seed,
            dice,
            weather,
            manners,
            gateways,
            people,
            links: BTreeMap::new(),
            oracle: Oracle::default(),
            checker: map.checker(),
            map,
            tally: Tally::default(),
            calm: false,
            steps: 0,
            ms: 0,
            agenda: BTreeMap::new(),
            entered: 0,
            trace: Sha256::new(),
            violation: None,
        }
    }

    /// Lives through all faults and the calm after them.
    ///
    /// # Errors
    /// What must never happen, and did.
    pub fn run(mut self, steps: u64) -> Result<Report, String> {
        (0..self.gateways.len()).for_each(|place| self.plan(0, Happening::Start { place }));
        (0..self.people.len()).for_each(|place| self.begin_person(place));
        while self.steps < steps && self.violation.is_none() && self.step() {
            self.strike();
        }
        self.calm_down();
        let (begun_ms, begun) = (self.ms, self.steps);
        loop {
            let late = self.ms > begun_ms + CALM_MS_MAX || self.steps > begun + CALM_STEPS_MAX;
            // Looking costs a little: not at every step.
            let looks = self.steps.is_multiple_of(16) || late || self.agenda.is_empty();
            if self.violation.is_some() || (looks && self.is_at_rest()) {
                break;
            }
            if late || !self.step() {
                let unrest = self.unrest();
                self.fail(format!("not everything ends in the calm: {unrest}"));
            }
        }
        if self.violation.is_none() {
            self.judge();
        }
        match self.violation.take() {
            Some(violation) => Err(violation),
            None => Ok(Report {
                steps: self.steps,
                tally: self.tally.clone(),
                trace: std::mem::take(&mut self.trace).finalize().into(),
            }),
        }
    }

    /// The first thing that must never happen.
    pub fn fail(&mut self, what: String) {
        if self.violation.is_none() {
            self.violation = Some(format!("step {}, {} ms: {what}", self.steps, self.ms));
        }
    }

    /// The time by a member's own clock.
    pub fn now(&self, place: Place) -> Time {
        Time::from_ms((BEGINNING_MS + self.ms).saturating_add_signed(self.gateways[place].clock_off_ms))
    }

    /// The true time.
    pub fn true_time(&self) -> Time {
        Time::from_ms(BEGINNING_MS + self.ms)
    }

    pub fn plan(&mut self, after_ms: u64, happening: Happening) {
        self.entered += 1;
        self.agenda.insert((self.ms + after_ms, self.entered), happening);
    }

    /// Plans something in the present life of a gateway's process.
    pub fn plan_inside(&mut self, place: Place, after_ms: u64, todo: Todo) {
        let life = self.gateways[place].life;
        self.plan(after_ms, Happening::Inside { place, life, todo });
    }

    /// The same at a moment of the gateway's own clock.
    pub fn plan_at(&mut self, place: Place, at: Time, todo: Todo) {
        let after_ms = at.since_ms(self.now(place));
        self.plan_inside(place, after_ms, todo);
    }

    /// Something that the store does, in the time that it takes.
    pub fn plan_stored(&mut self, place: Place, todo: Todo) {
        let after_ms = self.dice.below(self.weather.store_ms);
        self.plan_inside(place, after_ms, todo);
    }

    pub fn process(&mut self, place: Place) -> Option<&mut Process> {
        self.gateways[place].process.as_mut()
    }

    pub fn carrier(&mut self, place: Place, lane: &LaneName) -> Option<&mut Carrier> {
        self.process(place)?.carriers.get_mut(lane)
    }

    /// Writes into the trace what must come out alike when the same seed runs again.
    pub fn note(&mut self, what: &[u8]) {
        self.trace.update(what);
    }

    /// A gateway shows a receipt to somebody.
    pub fn show(&mut self, receipt: &Receipt) {
        self.trace.update(&receipt.leaf);
        if let Err(violation) = self.oracle.shown(receipt, &mut self.tally) {
            self.fail(violation);
        }
    }

    /// The next thing on the agenda happens; whether there was one.
    fn step(&mut self) -> bool {
        let Some(((ms, entered), happening)) = self.agenda.pop_first() else { return false };
        self.ms = ms;
        self.steps += 1;
        self.note(&ms.to_be_bytes());
        self.note(&entered.to_be_bytes());
        match happening {
            Happening::Start { place } => self.start(place),
            Happening::Inside { place, life, todo } if self.gateways[place].life == life => self.inside(place, todo),
            Happening::Inside { .. } => {}
            Happening::Deed { place, word } => self.deed(place, word),
            Happening::Arrival { to: End::Gateway(place), packet } => self.arrives_at_gateway(place, packet),
            Happening::Arrival { to: End::Person(place), packet } => self.arrives_at_person(place, packet),
        }
        true
    }

    /// What may go wrong at any step.
    fn strike(&mut self) {
        let place = self.dice.index(self.gateways.len());
        if self.dice.happens(self.weather.crash) {
            self.crash(place);
        }
        if self.dice.happens(self.weather.break_link) && !self.links.is_empty() {
            let link = self.links.keys().nth(self.dice.index(self.links.len())).copied();
            link.into_iter().for_each(|link| self.break_link(link));
        }
        if self.dice.happens(self.weather.clock) {
            let off_ms = match self.dice.below(5) {
                0 => 3_600_000,
                1 => -3_600_000,
                2 => 0,
                _ => self.gateways[place].clock_off_ms - 2_000,
            };
            self.set_clock(place, off_ms);
        }
        if self.dice.happens(self.weather.hold) {
            let held = self.dice.happens(500);
            self.hold_some_lane(place, held);
        }
        if self.dice.happens(self.weather.close_ways) {
            self.gateways[place].ways_closed = !self.gateways[place].ways_closed;
        }
    }

    fn set_clock(&mut self, place: Place, off_ms: i64) {
        let before = std::mem::replace(&mut self.gateways[place].clock_off_ms, off_ms);
        if off_ms < before && self.gateways[place].process.is_some() {
            self.tally.hit(Rare::ClockBack);
        }
        self.rearm(place);
    }

    /// The faults stop: clocks are right, everybody runs, nobody is held back.
    fn calm_down(&mut self) {
        self.calm = true;
        self.weather = Weather::calm();
        for place in 0..self.gateways.len() {
            self.gateways[place].ways_closed = false;
            self.set_clock(place, 0);
            if self.gateways[place].process.is_none() {
                self.plan(0, Happening::Start { place });
            } else {
                self.resume_lanes(place);
            }
        }
    }

    fn is_at_rest(&mut self) -> bool {
        self.people.iter().all(Person::is_at_rest)
            && (0..self.gateways.len()).all(|place| self.gateway_is_at_rest(place))
    }

    fn unrest(&mut self) -> String {
        let people = self.people.iter().map(Person::unrest).collect::<Vec<_>>().join("; ");
        let gateways = (0..self.gateways.len()).map(|place| self.gateway_unrest(place)).collect::<Vec<_>>().join("; ");
        format!("people: {people}; gateways: {gateways}")
    }
}
