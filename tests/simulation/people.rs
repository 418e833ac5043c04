//! Decides what the cities' own systems do: they submit, submit again when they hear nothing, call back, and take what is
//! delivered once in effect. They believe no receipt that they have not checked.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use tongban::evidence::Event as Told;
use tongban::id::MessageId;
use tongban::message::Envelope;
use tongban::reason::Reason;
use tongban::receipt::Receipt;
use tongban::store::{Key, LaneName};
use tongban::wire::envelope::{parse, time_to_wire};
use tongban::wire::pb::exchange as pb;

use crate::dice::Dice;
use crate::map::{Map, SYSTEM};
use crate::oracle::Sent;
use crate::rare::Rare;
use crate::traffic::{Answered, CallId, CalledBack, End, Fare, Link, LinkId, Packet, Parcel, Said};
use crate::world::{Happening, Place, World};

/// One city's system, and the person at it.
pub struct Person {
    /// Messages that it still wants to send.
    wishes: u64,
    called: CallId,
    calls: BTreeMap<CallId, Call>,
    link: Option<LinkId>,
}

/// A submission without an answer.
struct Call {
    key: Key,
    envelope: Envelope,
    /// It is another message under the id of one that was accepted.
    altered: bool,
}

/// What a person does.
pub enum Word {
    Submit,
    Repeat { call: CallId },
    Visit,
}

impl Person {
    pub fn new(dice: &mut Dice, map: &Map, _place: Place) -> Person {
        Person { wishes: (24 + dice.below(40)) / map.cities() as u64, called: 0, calls: BTreeMap::new(), link: None }
    }

    pub fn is_at_rest(&self) -> bool {
        self.calls.is_empty()
    }

    pub fn unrest(&self) -> String {
        format!("{} calls, link {:?}", self.calls.len(), self.link)
    }
}

impl World {
    pub fn begin_person(&mut self, place: Place) {
        self.plan(5, Happening::Deed { place, word: Word::Visit });
        self.plan(5, Happening::Deed { place, word: Word::Submit });
    }

    pub fn deed(&mut self, place: Place, word: Word) {
        match word {
            Word::Submit => self.submit(place),
            Word::Repeat { call } => self.call(place, call),
            Word::Visit => self.visit(place),
        }
    }

    fn submit(&mut self, place: Place) {
        if self.calm || self.people[place].wishes == 0 {
            return;
        }
        self.people[place].wishes -= 1;
        let (envelope, sent) = self.compose(place);
        let key = Key { from_city: envelope.from.city.clone(), id: envelope.id };
        self.oracle.sends(key.clone(), sent);
        self.new_call(place, Call { key, envelope, altered: false });
        let after_ms = self.dice.below(4_000);
        self.plan(after_ms, Happening::Deed { place, word: Word::Submit });
    }

    fn compose(&mut self, place: Place) -> (Envelope, Sent) {
        let to = self.dice.index(self.map.cities());
        let case = self.dice.happens(700).then(|| format!("CASE-{}", self.dice.below(3)));
        let now = self.true_time();
        let lives_ms = 2_000 + self.dice.below(60_000);
        let expires = self.dice.happens(self.weather.expire).then(|| now.plus_ms(lives_ms));
        let mut chance = [0; 10];
        chance.copy_from_slice(&[self.dice.next().to_be_bytes(), self.dice.next().to_be_bytes()].concat()[..10]);
        let address =
            |place: Place| Some(pb::Address { city: self.map.members[place].to_string(), system: SYSTEM.to_owned() });
        let wire = pb::Envelope {
            message_id: MessageId::new_v7(now, chance).to_string(),
            from: address(place),
            to: address(to),
            item_code: "11440100007482575H3440118009000".to_owned(),
            case_no: case.clone().unwrap_or_default(),
            parts: vec![part(&chance)],
            created_at: Some(time_to_wire(now)),
            expires_at: expires.map(time_to_wire),
            ..Default::default()
        };
        let envelope = parse(wire).expect("a good envelope");
        let digest = envelope.header_digest();
        (envelope, Sent { from: place, to, case, digest, accepted: None, called_back: None, effects: vec![] })
    }

    fn new_call(&mut self, place: Place, call: Call) {
        let person = &mut self.people[place];
        person.called += 1;
        let name = person.called;
        person.calls.insert(name, call);
        self.call(place, name);
    }

    /// Says it, and again after a while when no answer has come.
    fn call(&mut self, place: Place, call: CallId) {
        let Some(open) = self.people[place].calls.get(&call) else { return };
        let envelope = Box::new(open.envelope.clone());
        self.send(End::Gateway(place), Packet::Submit { from: place, call, envelope }, Fare::Request);
        let after_ms = 1_000 + self.dice.below(9_000);
        self.plan(after_ms, Happening::Deed { place, word: Word::Repeat { call } });
    }

    pub fn arrives_at_person(&mut self, place: Place, packet: Packet) {
        match packet {
            Packet::Answer { call, answered } => self.answer(place, call, answered),
            Packet::Cancelled { key, called_back } => {
                if let Some(sent) = self.oracle.sent.get_mut(&key)
                    && called_back == CalledBack::Done
                {
                    sent.called_back = Some(called_back);
                }
            }
            Packet::Carry { link, seq, attempt, parcel } => {
                if let Some(said) = self.take_delivery(place, *parcel) {
                    self.send(End::Gateway(place), Packet::Outcome { link, seq, attempt, said }, Fare::Answer);
                }
                self.send(End::Gateway(place), Packet::Credits { link, count: 1 }, Fare::Sure);
            }
            Packet::Home { link, name, receipts } => {
                receipts.into_iter().for_each(|receipt| self.check(place, receipt));
                self.send(End::Gateway(place), Packet::HomeTaken { link, name, taken: true }, Fare::Sure);
                self.send(End::Gateway(place), Packet::Credits { link, count: 1 }, Fare::Sure);
            }
            Packet::Gone { link } => {
                self.forget_link(link);
                if self.people[place].link == Some(link) {
                    self.people[place].link = None;
                    let after_ms = self.dice.below(8 * self.weather.net_ms);
                    self.plan(after_ms, Happening::Deed { place, word: Word::Visit });
                }
            }
            _ => {}
        }
    }

    /// A system opens its mailbox.
    fn visit(&mut self, place: Place) {
        if self.people[place].link.is_some() {
            return;
        }
        let (lane, other) = (LaneName::System(SYSTEM.parse().unwrap()), End::Person(place));
        let receipts = self.map.receipts_wanted;
        let link = self.new_link(Link { owner: place, lane, session: None, other, receipts, open: true, unaware: 2 });
        self.people[place].link = Some(link);
        let credits = 1 + self.dice.below(4) as u32;
        self.send(End::Gateway(place), Packet::Open { link, credits }, Fare::Sure);
    }

    /// A delivery: its effect comes about once, whatever comes after; then a word, or none.
    fn take_delivery(&mut self, place: Place, parcel: Parcel) -> Option<Said> {
        let key = Key { from_city: parcel.envelope.from.city.clone(), id: parcel.envelope.id };
        let Some(sent) = self.oracle.sent.get(&key) else {
            self.fail(format!("a message {} that nobody sent is delivered", key.id));
            return None;
        };
        if sent.to != place || sent.digest != parcel.envelope.header_digest() {
            self.fail(format!("the message {} is delivered to another, or as another", key.id));
            return None;
        }
        if sent.effects.is_empty() {
            if self.dice.happens(self.weather.refuse) {
                return Some(Said::Refused { code: "OTHER_OFFICE".parse().unwrap(), receipt: None });
            }
            if self.dice.happens(self.weather.later) {
                return Some(Said::Later { ms: self.dice.below(8_000) });
            }
            if self.dice.happens(self.weather.throttle) {
                return Some(Said::Later { ms: 0 });
            }
            self.oracle.takes_effect(&key);
        }
        (!self.dice.happens(self.weather.silent)).then_some(Said::Taken(None))
    }

    fn answer(&mut self, place: Place, call: CallId, answered: Answered) {
        let Some(open) = self.people[place].calls.get(&call) else { return };
        let (key, altered) = (open.key.clone(), open.altered);
        match answered {
            Answered::Taken(receipt) => self.accepted(place, call, &key, receipt),
            // Not now: it is said again. A gateway whose clock is behind refuses also what it knows.
            Answered::Refused(
                Reason::StoreFull | Reason::StoreUnavailable | Reason::Busy | Reason::LaneFull | Reason::ClockAhead,
                _,
            ) => {}
            Answered::Refused(Reason::IdempotencyConflict, _) if altered => {
                self.tally.hit(Rare::Conflict);
                self.people[place].calls.remove(&call);
            }
            Answered::Refused(reason, receipt) => {
                let known = self.oracle.sent.get(&key).is_some_and(|sent| sent.accepted.is_some());
                if known || reason == Reason::IdempotencyConflict {
                    self.fail(format!("{} is refused, {reason:?}, although it was accepted", key.id));
                }
                receipt.into_iter().for_each(|receipt| self.check(place, receipt));
                self.people[place].calls.remove(&call);
            }
        }
    }

    fn check(&mut self, place: Place, receipt: Receipt) {
        if let Err(error) = self.checker.check(receipt) {
            self.fail(format!("a receipt shown to the system of {} does not hold: {error}", self.map.members[place]));
        }
    }

    /// A receipt: it holds, speaks of this very message, and is the one that was given first.
    fn accepted(&mut self, place: Place, call: CallId, key: &Key, receipt: Receipt) {
        let Some(open) = self.people[place].calls.remove(&call) else { return };
        let evidence = match self.checker.check(receipt.clone()) {
            Ok(checked) => checked.evidence,
            Err(error) => return self.fail(format!("the receipt of {} does not hold: {error}", key.id)),
        };
        let digest = open.envelope.header_digest();
        if evidence.event != Told::SubmissionAccepted
            || evidence.message_id != key.id
            || evidence.header_digest != digest
        {
            return self.fail(format!("the answer to {} is a receipt of {}", key.id, evidence.message_id));
        }
        let Some(sent) = self.oracle.sent.get_mut(key) else { return };
        match &sent.accepted {
            None => sent.accepted = Some(receipt),
            Some(first) if *first == receipt => self.tally.hit(Rare::FirstReceiptAgain),
            Some(_) => return self.fail(format!("{} has two first receipts", key.id)),
        }
        self.follow_up(place, key.clone(), open.envelope);
    }

    /// What a system may do with a message that it knows to be accepted.
    fn follow_up(&mut self, place: Place, key: Key, envelope: Envelope) {
        if self.dice.happens(self.weather.resubmit) {
            self.new_call(place, Call { key: key.clone(), envelope: envelope.clone(), altered: false });
        }
        if self.dice.happens(self.weather.conflict) {
            let mut altered = envelope;
            altered.item_code = "11440100007482575H3440118009999".parse().unwrap();
            self.new_call(place, Call { key: key.clone(), envelope: altered, altered: true });
        }
        if self.dice.happens(self.weather.cancel) {
            self.send(End::Gateway(place), Packet::Cancel { key }, Fare::Request);
        }
    }
}

fn part(content: &[u8]) -> pb::Part {
    let salt = [7; 16];
    let digest = Sha256::new().chain_update(salt).chain_update(content).finalize();
    pb::Part {
        name: "form.json".to_owned(),
        media_type: "application/json".to_owned(),
        size: content.len() as u64,
        salt: salt.to_vec(),
        digest: Some(pb::Digest { algorithm: "sha256".to_owned(), value: digest.to_vec() }),
        content: Some(pb::part::Content::Inline(content.to_vec().into())),
    }
}
