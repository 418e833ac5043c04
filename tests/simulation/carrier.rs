//! Decides nothing of its own: carries out what the product's lanes ask for, as the couriers and mailboxes do, each effect
//! in its own time. Checks at each step that a lane keeps to its bounds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tongban::courier::{Batch, Homeward};
use tongban::evidence::Event as Told;
use tongban::lanes::{
    Answer, AtDeadline, Attempt, Breaker, Effect, Event, Fate as LaneFate, Lane, Outcome, Policy, Queued, Reach, Rest,
    Seq, SessionId,
};
use tongban::ledger::{self, Entry, Fate, Settle};
use tongban::limits::{RECEIPT_BATCH_MAX, WINDOW};
use tongban::party::Member;
use tongban::receipt::{Checked, Receipt};
use tongban::store::{self, Key, LaneName, LaneState};
use tongban::time::Time;
use tongban::wire::envelope;

use crate::dice::Dice;
use crate::gateway::{Reply, Todo};
use crate::intake::leads_to;
use crate::rare::Rare;
use crate::traffic::{CalledBack, End, Fare, Link, LinkId, Packet, Parcel, Said};
use crate::world::{Place, World};

/// Milliseconds after which a question about a message in doubt counts as unanswered.
const ASK_MS: u64 = 10_000;

/// How the lanes of a world behave, drawn small so that bounds are reached.
pub struct Manners {
    loaded_max: usize,
    parked_max: usize,
    attempt_ms: u64,
    backoff_ms_max: u64,
    deliveries_max: u32,
    breaker_failures: u32,
}

impl Manners {
    pub fn draw(dice: &mut Dice) -> Manners {
        Manners {
            loaded_max: 2 + dice.index(12),
            parked_max: 1 + dice.index(6),
            attempt_ms: 2_000 + dice.below(12_000),
            backoff_ms_max: 2_000 + dice.below(40_000),
            deliveries_max: 2 + dice.below(9) as u32,
            breaker_failures: 2 + dice.below(4) as u32,
        }
    }

    fn policy(&self, lane: &LaneName, reach: Reach) -> Policy {
        let (deliveries_max, at_deadline) = match (reach, lane) {
            (Reach::Dial, _) => (None, AtDeadline::Ask),
            (Reach::Wait, LaneName::System(_)) => (Some(self.deliveries_max), AtDeadline::Expire),
            (Reach::Wait, LaneName::Gateway(_)) => (Some(self.deliveries_max), AtDeadline::Wait { ms: 20_000 }),
        };
        Policy {
            reach,
            loaded_max: self.loaded_max,
            parked_max: self.parked_max,
            attempt_ms: self.attempt_ms,
            attempt_total_ms_max: 4 * self.attempt_ms,
            backoff_ms: 500..=self.backoff_ms_max,
            deliveries_max,
            at_deadline,
            breaker_failures: self.breaker_failures,
            breaker_ms: 5_000,
        }
    }
}

/// One lane and what its worker knows.
pub struct Carrier {
    pub lane: Lane,
    pub policy: Policy,
    pub links: BTreeMap<SessionId, LinkId>,
    pub homeward: Homeward,
    /// Deliveries under way, as the lane was told.
    out: BTreeMap<Attempt, (Seq, SessionId)>,
    wake: Option<Time>,
    wakes: u64,
    state: LaneState,
    doubt_below: Seq,
    sessions: SessionId,
    dialing: bool,
    /// What came with an outcome, until it is settled.
    fates: BTreeMap<Seq, Fate>,
    /// Messages about which the lane wants to know whether the partner has them.
    wondered: BTreeSet<Seq>,
    /// The question that is open about a message.
    asking: BTreeMap<Seq, u64>,
    asked: u64,
    cancels: BTreeMap<Seq, Vec<Key>>,
    /// The link that carries a batch of receipts.
    home_by: Option<LinkId>,
}

impl Carrier {
    /// Whether an earlier life may have sent this message.
    pub fn doubts(&self, seq: Seq) -> bool {
        seq < self.doubt_below
    }

    /// Whether an event is the outcome of a delivery or of a question that is over, which must change nothing.
    fn takes_in(&mut self, event: &Event) -> bool {
        match *event {
            Event::Attempted { seq, attempt, session, .. } => self.out.remove(&attempt) != Some((seq, session)),
            Event::Asked { seq, .. } => !self.wondered.remove(&seq),
            Event::Settled { seq } => {
                self.wondered.remove(&seq);
                false
            }
            _ => false,
        }
    }

    /// The link that a session goes by, in this life.
    pub fn goes_by(&self, session: SessionId, link: LinkId) -> bool {
        self.links.get(&session) == Some(&link)
    }
}

impl World {
    /// All lanes of a gateway that starts, as their earlier lives left them.
    pub fn open_lanes(&mut self, place: Place) {
        for name in self.lanes_of(place) {
            let reach = match &name {
                LaneName::Gateway(member) if self.map.dials(self.map.place(member)) => Reach::Dial,
                _ => Reach::Wait,
            };
            let (policy, seed) = (self.manners.policy(&name, reach), self.dice.next());
            let Some(process) = self.process(place) else { return };
            let look = |look: &store::Snapshot<'_>| {
                Ok((look.lane_state(&name)?, look.hold(&name)?.is_some(), look.last_seq()?))
            };
            let (mut state, held, last_seq) = process.readers.look(look).expect("the lane's state is read");
            if state.open {
                state.sent_below = last_seq + 1;
            }
            let rest = Rest { failures: state.failures, until: state.rest_until, held };
            let carrier = Carrier {
                lane: Lane::new(policy.clone(), seed, rest),
                policy,
                links: BTreeMap::new(),
                homeward: Homeward::new(name.clone()),
                out: BTreeMap::new(),
                wake: None,
                wakes: 0,
                doubt_below: state.sent_below,
                state,
                sessions: 0,
                dialing: false,
                fates: BTreeMap::new(),
                wondered: BTreeSet::new(),
                asking: BTreeMap::new(),
                asked: 0,
                cancels: BTreeMap::new(),
                home_by: None,
            };
            process.carriers.insert(name.clone(), carrier);
            self.feed(place, &name, Event::Enqueued { seq: 0 });
            self.send_home(place, &name);
        }
    }

    /// Tells the lane, and carries out what it asks for. What that brings about at once is told when all of it is done.
    pub fn feed(&mut self, place: Place, name: &LaneName, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let now = self.now(place);
            let Some(carrier) = self.carrier(place, name) else { return };
            let (stale, before) = (carrier.takes_in(&event), carrier.lane.stats(now).ignored);
            let effects = carrier.lane.handle(now, event);
            let ignored = carrier.lane.stats(now).ignored - before;
            if stale {
                self.tally.hit(Rare::StaleOutcome);
            }
            if stale != (ignored == 1) {
                let what = if stale { "over counts" } else { "due does not count" };
                self.fail(format!("{name}: an outcome that is {what}"));
            }
            for effect in effects {
                self.carry_out(place, name, effect, &mut events);
            }
            self.check_lane(place, name);
        }
    }

    fn check_lane(&mut self, place: Place, name: &LaneName) {
        let now = self.now(place);
        let Some(carrier) = self.carrier(place, name) else { return };
        let (stats, policy) = (carrier.lane.stats(now), &carrier.policy);
        let bounded = stats.loaded <= policy.loaded_max + policy.parked_max;
        let out = carrier.out.len();
        let (full, half_open) = (stats.loaded >= policy.loaded_max, stats.breaker == Breaker::HalfOpen && out == 1);
        if full {
            self.tally.hit(Rare::MemoryFull);
        }
        if half_open {
            self.tally.hit(Rare::HalfOpen);
        }
        if !bounded || stats.in_flight != out {
            self.fail(format!("{name}: {out} out, but {stats:?}"));
        }
    }

    fn carry_out(&mut self, place: Place, name: &LaneName, effect: Effect, events: &mut VecDeque<Event>) {
        match effect {
            Effect::Load { from, count } => self.load(place, name, from, count),
            Effect::Dial => self.dial(place, name),
            Effect::Deliver { session, seq, attempt, count, .. } => {
                if count > 1 {
                    self.tally.hit(Rare::Redelivered);
                }
                let Some(carrier) = self.carrier(place, name) else { return };
                carrier.state.sent_below = carrier.state.sent_below.max(seq + 1);
                carrier.out.insert(attempt, (seq, session));
                self.plan_stored(place, Todo::Send { lane: name.clone(), session, seq, attempt });
            }
            Effect::Withdraw { session, seq: _, attempt } => {
                let Some(carrier) = self.carrier(place, name) else { return };
                carrier.out.remove(&attempt);
                match (carrier.policy.reach, carrier.links.get(&session).copied()) {
                    (Reach::Dial, _) => events.push_back(Event::Credits { session, count: 1 }),
                    // Whoever is told that its lease has ended takes another.
                    (_, Some(link)) => self.send(End::Gateway(place), Packet::Credits { link, count: 1 }, Fare::Sure),
                    (_, None) => {}
                }
            }
            Effect::Ask { seq } => self.ask(place, name, seq),
            Effect::Settle { seq, deliveries, fate } => self.settle(place, name, seq, deliveries, fate),
            Effect::Park { seq, deliveries, until } => {
                self.post(place, Entry::Park { lane: name.clone(), seq, deliveries, until }, Reply::Nobody);
            }
            Effect::Kept { seq } => self.answer_cancels(place, name, seq, CalledBack::InDoubt),
            Effect::Rest(rest) => {
                let Some(carrier) = self.carrier(place, name) else { return };
                carrier.state = LaneState { failures: rest.failures, rest_until: rest.until, ..carrier.state };
                self.post_state(place, name);
            }
            Effect::Wake { at } => {
                let Some(carrier) = self.carrier(place, name) else { return };
                carrier.wake = Some(at);
                self.arm(place, name);
            }
            Effect::Receipts { session } => self.give_receipts(place, name, session),
        }
    }

    fn load(&mut self, place: Place, name: &LaneName, from: Seq, count: usize) {
        let failed = !self.calm && self.dice.happens(self.weather.disk_full / 4);
        let Some(process) = self.process(place) else { return };
        let doubt_below = process.carriers[name].doubt_below;
        let rows = process.readers.look(|look| look.queue(name, from, count)).expect("the lane is read");
        let end = rows.len() < count;
        let row = |row: store::QueueRow| Queued {
            seq: row.seq,
            case: row.order_key.map(Into::into),
            deliveries: row.deliveries,
            parked_until: row.parked_until,
            expires_at: row.expires_at,
            doubt: row.seq < doubt_below,
            alternative: row.alternative,
        };
        let rows = (!failed).then(|| (rows.into_iter().map(row).collect(), end));
        self.plan_stored(place, Todo::Loaded { lane: name.clone(), rows });
    }

    /// The one timer of a lane.
    pub fn arm(&mut self, place: Place, name: &LaneName) {
        let Some(carrier) = self.carrier(place, name) else { return };
        let Some(at) = carrier.wake else { return };
        carrier.wakes += 1;
        let wake = carrier.wakes;
        self.plan_at(place, at, Todo::Wake { lane: name.clone(), name: wake });
    }

    pub fn wake(&mut self, place: Place, name: &LaneName, wake: u64) {
        let now = self.now(place);
        let Some(carrier) = self.carrier(place, name) else { return };
        let Some(at) = carrier.wake.filter(|_| carrier.wakes == wake) else { return };
        if at > now {
            return self.arm(place, name);
        }
        carrier.wake = None;
        self.feed(place, name, Event::Tick);
    }

    fn post_state(&mut self, place: Place, name: &LaneName) {
        let Some(carrier) = self.carrier(place, name) else { return };
        let state = carrier.state;
        self.post(place, Entry::Lane { lane: name.clone(), state }, Reply::Nobody);
    }
}

/// Sessions.
impl World {
    fn partner(&self, name: &LaneName) -> Option<Place> {
        match name {
            LaneName::Gateway(member) => Some(self.map.place(member)),
            LaneName::System(_) => None,
        }
    }

    fn dial(&mut self, place: Place, name: &LaneName) {
        let after_ms = 1 + self.dice.below(2 * self.weather.net_ms);
        let Some(carrier) = self.carrier(place, name) else { return };
        if !std::mem::replace(&mut carrier.dialing, true) {
            self.plan_inside(place, after_ms, Todo::Dialed { lane: name.clone() });
        }
    }

    pub fn dialed(&mut self, place: Place, name: &LaneName) {
        let Some(partner) = self.partner(name) else { return };
        if self.gateways[partner].process.is_none() || self.dice.happens(self.weather.refuse_dial) {
            return self.dial_failed(place, name);
        }
        let (lane, other) = (name.clone(), End::Gateway(partner));
        let link = Link { owner: place, lane, session: None, other, receipts: false, open: true, unaware: 2 };
        let link = self.new_link(link);
        self.open_session(place, name, link, WINDOW as u32);
    }

    fn dial_failed(&mut self, place: Place, name: &LaneName) {
        let Some(carrier) = self.carrier(place, name) else { return };
        carrier.dialing = false;
        self.feed(place, name, Event::DialFailed);
        self.send_home(place, name);
    }

    /// Nothing may go out before it is written that something may have.
    pub fn open_session(&mut self, place: Place, name: &LaneName, link: LinkId, credits: u32) {
        let Some(carrier) = self.carrier(place, name) else { return };
        if carrier.state.open {
            return self.opened(place, name, link, credits, true);
        }
        let state = LaneState { open: true, ..carrier.state };
        let reply = Reply::Opened { lane: name.clone(), link, credits };
        self.post(place, Entry::Lane { lane: name.clone(), state }, reply);
    }

    pub fn opened(&mut self, place: Place, name: &LaneName, id: LinkId, credits: u32, written: bool) {
        let Some(carrier) = self.carrier(place, name) else { return };
        carrier.state.open |= written;
        let dials = carrier.policy.reach == Reach::Dial;
        if !written || self.links.get(&id).is_none_or(|link| !link.open) {
            self.break_link(id);
            if dials {
                self.dial_failed(place, name);
            }
            return;
        }
        let Some(carrier) = self.carrier(place, name) else { return };
        carrier.dialing = false;
        carrier.sessions += 1;
        let session = carrier.sessions;
        carrier.links.insert(session, id);
        let Some(link) = self.links.get_mut(&id) else { return };
        link.session = Some(session);
        let receipts = link.receipts;
        self.feed(place, name, Event::Opened { session, receipts });
        self.feed(place, name, Event::Credits { session, count: credits });
        self.send_home(place, name);
    }

    /// The lane's end of a link learns that it is gone.
    pub fn session_gone(&mut self, place: Place, name: &LaneName, session: SessionId, link: LinkId) {
        let Some(carrier) = self.carrier(place, name) else { return };
        if !carrier.goes_by(session, link) {
            return;
        }
        carrier.links.remove(&session);
        carrier.out.retain(|_, (_, holder)| *holder != session);
        if carrier.home_by == Some(link) {
            carrier.home_by = None;
            carrier.homeward.lost();
        }
        if carrier.links.is_empty() {
            carrier.state.open = false;
            self.post_state(place, name);
        }
        self.feed(place, name, Event::Closed { session });
        self.send_home(place, name);
    }

    /// A message is read and goes out, if the rules still let it.
    pub fn send_message(&mut self, place: Place, name: &LaneName, session: SessionId, seq: Seq, attempt: Attempt) {
        let now = self.now(place);
        let own = self.gateways[place].member.clone();
        let Some(process) = self.process(place) else { return };
        let look = |look: &store::Snapshot<'_>| {
            let Some(mut stored) = look.message(seq)? else { return Ok(None) };
            let origin = match stored.origin_receipt.take() {
                Some(receipt) => receipt,
                None => look.receipt(stored.first_leaf)?,
            };
            Ok(Some((stored, origin)))
        };
        let Some((stored, origin)) = process.readers.look(look).expect("the message is read") else {
            return self.fail(format!("{name}: the message {seq} is not there"));
        };
        let Some(link) = process.carriers.get(name).and_then(|carrier| carrier.links.get(&session)).copied() else {
            return;
        };
        let body = stored.body.clone().expect("its content is kept");
        let envelope =
            envelope::kept(&stored.header, body, stored.header_digest).expect("a stored envelope reads back");
        if !leads_to(&self.index_of(place), name, &stored, &envelope, &own, now) {
            self.tally.hit(Rare::WaysClosed);
            let outcome = Outcome::NotNow { at: now.plus_ms(3_000) };
            return self.attempted(place, name, session, seq, attempt, outcome);
        }
        let mut via = stored.via;
        if let Member::Hub(_) = own {
            self.tally.hit(Rare::Relayed);
            via.push(own);
        }
        self.show(&origin);
        let parcel = Box::new(Parcel { envelope, origin: Some(origin), via });
        let Some(other) = self.links.get(&link).map(|link| link.other) else { return };
        self.send(other, Packet::Carry { link, seq, attempt, parcel }, Fare::Carried);
    }

    fn attempted(
        &mut self,
        place: Place,
        name: &LaneName,
        session: SessionId,
        seq: Seq,
        attempt: Attempt,
        outcome: Outcome,
    ) {
        self.feed(place, name, Event::Attempted { seq, attempt, session, outcome });
        let Some(carrier) = self.carrier(place, name) else { return };
        // Of a mailbox, what was not given costs its owner nothing.
        if carrier.policy.reach == Reach::Dial || matches!(outcome, Outcome::NotNow { .. }) {
            self.feed(place, name, Event::Credits { session, count: 1 });
        }
    }

    /// What the other end says of a delivery.
    pub fn outcome(
        &mut self,
        place: Place,
        name: &LaneName,
        session: SessionId,
        seq: Seq,
        attempt: Attempt,
        said: Said,
    ) {
        let now = self.now(place);
        let Some(carrier) = self.carrier(place, name) else { return };
        if carrier.out.get(&attempt) != Some(&(seq, session)) {
            // The lane must know by itself that this is over.
            let outcome = Outcome::RetryLater { at: now.plus_ms(60_000) };
            return self.feed(place, name, Event::Attempted { seq, attempt, session, outcome });
        }
        let (outcome, fate) = match said {
            Said::Later { ms } => {
                self.tally.hit(Rare::Later);
                (Outcome::RetryLater { at: now.plus_ms(ms) }, None)
            }
            Said::Throttled { ms } => {
                self.tally.hit(Rare::Throttled);
                (Outcome::Throttled { at: now.plus_ms(ms) }, None)
            }
            Said::Taken(None) => (Outcome::Taken, Some(Fate::HandedOver { signed: None })),
            Said::Taken(Some(receipt)) => match self.heard(place, name, seq, receipt, Told::RelayAccepted) {
                Some(checked) => (Outcome::Taken, Some(Fate::Relayed(checked))),
                None => (Outcome::NoAnswer, None),
            },
            Said::Refused { code, receipt } => {
                let receipt = receipt.and_then(|receipt| self.heard(place, name, seq, receipt, Told::RelayRejected));
                let text = String::new();
                let fate = match (receipt, name) {
                    (Some(receipt), _) => Fate::RelayRefused { receipt, text },
                    (None, LaneName::System(_)) => Fate::Refused { code, text },
                    (None, LaneName::Gateway(_)) => Fate::RelayFailed { reason: code, status: 9, text },
                };
                (Outcome::Refused, Some(fate))
            }
        };
        let Some(carrier) = self.carrier(place, name) else { return };
        carrier.fates.extend(fate.map(|fate| (seq, fate)));
        self.attempted(place, name, session, seq, attempt, outcome);
    }

    /// A partner's receipt, if it holds and speaks of this message.
    fn heard(&mut self, place: Place, name: &LaneName, seq: Seq, receipt: Receipt, event: Told) -> Option<Checked> {
        let LaneName::Gateway(partner) = name else { return None };
        let process = self.process(place)?;
        let stored = process.readers.look(|look| look.message(seq)).expect("the message is read")?;
        let checked = match process.checker.check(receipt) {
            Ok(checked) => checked,
            Err(error) => {
                self.fail(format!("{name}: an honest partner's receipt does not hold: {error}"));
                return None;
            }
        };
        let evidence = &checked.evidence;
        let means = evidence.event == event
            && evidence.issuer == *partner
            && evidence.message_id == stored.key.id
            && evidence.header_digest == stored.header_digest;
        if !means && event == Told::RelayAccepted {
            self.fail(format!("{name}: the answer about {seq} is the receipt of {}", evidence.message_id));
        }
        means.then_some(checked)
    }
}

/// Ends.
impl World {
    fn settle(&mut self, place: Place, name: &LaneName, seq: Seq, attempts: u32, lane_fate: LaneFate) {
        let Some(carrier) = self.carrier(place, name) else { return };
        let fate = match lane_fate {
            LaneFate::Taken { .. } | LaneFate::Refused { .. } | LaneFate::Found => carrier.fates.get(&seq).cloned(),
            LaneFate::Exhausted => Some(Fate::Exhausted),
            LaneFate::Expired => Some(Fate::Expired),
            LaneFate::InDoubt => Some(Fate::InDoubt),
            LaneFate::Cancelled => Some(Fate::Cancelled),
            LaneFate::Diverted => Some(Fate::Diverted),
            LaneFate::Claimed => Some(Fate::HandedOver { signed: None }),
        };
        match lane_fate {
            LaneFate::Exhausted => self.tally.hit(Rare::Exhausted),
            LaneFate::Expired => self.tally.hit(Rare::Expired),
            LaneFate::InDoubt => self.tally.hit(Rare::EndedInDoubt),
            _ => {}
        }
        let Some(fate) = fate else { return self.fail(format!("{name}: {seq} ends as {lane_fate:?} without a cause")) };
        let settle = Settle { lane: name.clone(), seq, attempts, fate };
        let reply = Reply::Settled { lane: name.clone(), seq, fate: lane_fate };
        self.post(place, Entry::Settle(Box::new(settle)), reply);
    }

    pub fn settled(
        &mut self,
        place: Place,
        name: &LaneName,
        seq: Seq,
        fate: LaneFate,
        answer: Result<ledger::Answer, ledger::Trouble>,
    ) {
        match answer {
            Ok(ledger::Answer::Settled(receipt)) => {
                let Some(carrier) = self.carrier(place, name) else { return };
                carrier.fates.remove(&seq);
                self.feed(place, name, Event::Settled { seq });
                // Without a receipt another's word has ended it before.
                let withdrawn = fate == LaneFate::Cancelled && receipt.is_some();
                let called_back = if withdrawn { CalledBack::Done } else { CalledBack::TooLate };
                self.answer_cancels(place, name, seq, called_back);
            }
            Ok(ledger::Answer::Moved(messages)) => {
                if messages.len() > 1 {
                    self.tally.hit(Rare::WholeCase);
                }
                for seq in messages {
                    let Some(carrier) = self.carrier(place, name) else { return };
                    carrier.fates.remove(&seq);
                    self.answer_cancels(place, name, seq, CalledBack::InDoubt);
                    self.feed(place, name, Event::Settled { seq });
                }
            }
            _ => self.feed(place, name, Event::SettleFailed { seq }),
        }
    }

    fn ask(&mut self, place: Place, name: &LaneName, seq: Seq) {
        let Some(process) = self.process(place) else { return };
        let stored = process.readers.look(|look| look.message(seq)).expect("the message is read");
        let Some(stored) = stored else { return self.fail(format!("{name}: the message {seq} is not there")) };
        let Some(carrier) = process.carriers.get_mut(name) else { return };
        carrier.wondered.insert(seq);
        carrier.asked += 1;
        let question = carrier.asked;
        carrier.asking.insert(seq, question);
        self.plan_inside(place, ASK_MS, Todo::AskEnds { lane: name.clone(), seq, question });
        let Some(partner) = self.partner(name) else { return };
        let (life, lane) = (self.gateways[place].life, name.clone());
        let ask = Packet::Ask { from: place, life, lane, seq, question, key: stored.key };
        self.send(End::Gateway(partner), ask, Fare::Request);
    }

    /// What the partner says of a message in doubt; an error when it says nothing.
    pub fn told(
        &mut self,
        place: Place,
        name: &LaneName,
        seq: Seq,
        question: u64,
        told: Result<Option<Vec<Receipt>>, ()>,
    ) {
        let Some(carrier) = self.carrier(place, name) else { return };
        if carrier.asking.get(&seq) != Some(&question) {
            return;
        }
        carrier.asking.remove(&seq);
        let (answer, fate) = match told {
            Err(()) => (Answer::Silent, None),
            Ok(None) => (Answer::HasNot, None),
            Ok(Some(receipts)) => match self.fate_in(place, name, seq, receipts) {
                Some(fate) => (Answer::Has, Some(fate)),
                None => (Answer::Silent, None),
            },
        };
        match answer {
            Answer::Has => self.tally.hit(Rare::FoundInDoubt),
            Answer::HasNot => self.tally.hit(Rare::HasNot),
            Answer::Silent => {}
        }
        let Some(carrier) = self.carrier(place, name) else { return };
        carrier.fates.extend(fate.map(|fate| (seq, fate)));
        self.feed(place, name, Event::Asked { seq, answer });
        if answer == Answer::Silent {
            self.answer_cancels(place, name, seq, CalledBack::InDoubt);
        }
    }

    fn fate_in(&mut self, place: Place, name: &LaneName, seq: Seq, receipts: Vec<Receipt>) -> Option<Fate> {
        let mut fates = receipts.into_iter().filter_map(|receipt| {
            let event = tongban::evidence::Evidence::from_leaf(&receipt.leaf).ok()?.event;
            let checked = self.heard(place, name, seq, receipt, event)?;
            match event {
                Told::RelayAccepted => Some(Fate::Relayed(checked)),
                Told::RelayRejected => Some(Fate::RelayRefused { receipt: checked, text: String::new() }),
                _ => None,
            }
        });
        fates.next()
    }

    /// Somebody calls a message back.
    pub fn cancel(&mut self, place: Place, key: Key) {
        let Some(process) = self.process(place) else { return };
        let head = process.readers.look(|look| look.head(&key)).expect("the message is read");
        let head = head.filter(|head| head.queued && !head.standing.state.is_final());
        let Some(head) = head else { return self.called_back(place, key, CalledBack::TooLate) };
        let Some(carrier) = process.carriers.get_mut(&head.lane) else { return };
        carrier.cancels.entry(head.seq).or_default().push(key);
        let doubt = carrier.doubts(head.seq);
        self.feed(place, &head.lane, Event::Cancel { seq: head.seq, doubt });
    }

    fn answer_cancels(&mut self, place: Place, name: &LaneName, seq: Seq, called_back: CalledBack) {
        let Some(carrier) = self.carrier(place, name) else { return };
        for key in carrier.cancels.remove(&seq).into_iter().flatten() {
            self.called_back(place, key, called_back);
        }
    }

    fn called_back(&mut self, place: Place, key: Key, called_back: CalledBack) {
        match called_back {
            CalledBack::Done => self.tally.hit(Rare::CancelWon),
            CalledBack::TooLate => self.tally.hit(Rare::CancelLost),
            CalledBack::InDoubt => {}
        }
        self.send(End::Person(place), Packet::Cancelled { key, called_back }, Fare::Answer);
    }
}

/// Receipts on their way home.
impl World {
    pub fn send_home(&mut self, place: Place, name: &LaneName) {
        let now = self.now(place);
        let Some(process) = self.process(place) else { return };
        let Some(carrier) = process.carriers.get_mut(name) else { return };
        if carrier.homeward.begin_reading(now) {
            let look = |look: &store::Snapshot<'_>| {
                let rows = look.outbox(name, None, RECEIPT_BATCH_MAX)?;
                let receipt = |(leaf, received): &(u64, Option<_>)| match received {
                    Some(leaf_hash) => Ok((look.received(*leaf_hash)?, None)),
                    None => Ok((look.receipt(*leaf)?, None)),
                };
                let receipts = rows.iter().map(receipt).collect::<Result<_, store::Error>>()?;
                Ok(Batch { leaves: rows.into_iter().map(|(leaf, _)| leaf).collect(), receipts })
            };
            let batch = process.readers.look(look).expect("receipts are read");
            self.plan_stored(place, Todo::Home { lane: name.clone(), batch });
        } else if carrier.homeward.is_ready() {
            self.carry_home(place, name);
        }
        if let Some(until) = self.carrier(place, name).and_then(|carrier| carrier.homeward.paused_until())
            && until > now
        {
            self.plan_at(place, until, Todo::SendHome { lane: name.clone() });
        }
    }

    pub fn receipts_read(&mut self, place: Place, name: &LaneName, batch: Batch) {
        let now = self.now(place);
        let Some(carrier) = self.carrier(place, name) else { return };
        match carrier.homeward.read(Ok(batch), now) {
            true => self.carry_home(place, name),
            false => self.send_home(place, name),
        }
    }

    fn carry_home(&mut self, place: Place, name: &LaneName) {
        let now = self.now(place);
        let Some(carrier) = self.carrier(place, name) else { return };
        if carrier.policy.reach == Reach::Wait {
            return self.feed(place, name, Event::Receipts);
        }
        let Some(session) = carrier.links.keys().next().copied() else {
            // Receipts alone are reason enough to dial, with the lane's own pauses between failures.
            return match carrier.lane.stats(now).backoff_until {
                None => self.dial(place, name),
                Some(until) => self.plan_at(place, until, Todo::SendHome { lane: name.clone() }),
            };
        };
        self.give_receipts(place, name, session);
    }

    fn give_receipts(&mut self, place: Place, lane: &LaneName, session: SessionId) {
        let Some(carrier) = self.carrier(place, lane) else { return };
        let Some(link) = carrier.links.get(&session).copied() else { return };
        let Some((name, told)) = carrier.homeward.send() else { return };
        carrier.home_by = Some(link);
        let receipts: Vec<Receipt> = told.into_iter().map(|(receipt, _)| receipt).collect();
        receipts.iter().for_each(|receipt| self.show(receipt));
        let Some(other) = self.links.get(&link).map(|link| link.other) else { return };
        self.send(other, Packet::Home { link, name, receipts }, Fare::Sure);
    }

    /// The other end has stored a batch of receipts, or could not.
    pub fn home_taken(&mut self, place: Place, lane: &LaneName, session: Option<SessionId>, name: &str, taken: bool) {
        let now = self.now(place);
        let Some(carrier) = self.carrier(place, lane) else { return };
        if !carrier.homeward.is_out(name) {
            return;
        }
        carrier.home_by = None;
        if !taken {
            carrier.homeward.not_taken(now);
            return self.send_home(place, lane);
        }
        let Some(leaves) = carrier.homeward.arrived(name) else { return };
        if let Some(session) = session.filter(|_| carrier.policy.reach == Reach::Dial) {
            self.feed(place, lane, Event::Alive { session });
        }
        self.post(place, Entry::Sent { lane: lane.clone(), leaves }, Reply::Arrived { lane: lane.clone() });
    }

    pub fn arrival_written(&mut self, place: Place, lane: &LaneName, written: bool) {
        let now = self.now(place);
        let Some(carrier) = self.carrier(place, lane) else { return };
        carrier.homeward.closed(written, now);
        self.send_home(place, lane);
    }
}
