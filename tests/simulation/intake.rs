//! Decides what a gateway does with what arrives: the same questions in the same order as the product's intake, asked of
//! its own pure rules (admission, routing), and the verdict handed to the ledger.

use tongban::admission::{self, Grant, Grants, Ration, Who};
use tongban::evidence::{Event as Told, Evidence};
use tongban::lanes::Event;
use tongban::ledger::{Answer, Entry, Incoming, Issuer, Route, Take, Trouble, Witness};
use tongban::limits::TIME_TO_LIVE_MS;
use tongban::message::{Digest, Envelope};
use tongban::party::{Member, Role};
use tongban::reason::Reason;
use tongban::receipt::{Checked, Receipt};
use tongban::routing::{Destination, Entered, Index, Query};
use tongban::store::{self, LaneName, Stored};
use tongban::time::Time;
use tongban::wire::envelope::split;

use crate::gateway::{Reply, Todo};
use crate::map::SYSTEM;
use crate::rare::Rare;
use crate::traffic::{Answered, End, Fare, Link, LinkId, Packet, Parcel, Said};
use crate::world::{Place, World};

/// Deliveries that a fetching gateway takes at once.
const FETCH_CREDITS: u32 = 4;

/// Who brings a message.
#[derive(Clone, Copy)]
enum Bringer {
    System,
    Gateway(Place),
}

impl World {
    pub fn arrives_at_gateway(&mut self, place: Place, packet: Packet) {
        if let Packet::Gone { link } = packet {
            return self.link_gone(place, link);
        }
        if self.gateways[place].process.is_none() {
            if let Packet::Open { link, .. } | Packet::Carry { link, .. } = packet {
                self.break_link(link);
            }
            return;
        }
        match packet {
            Packet::Carry { link, seq, attempt, parcel } => {
                let Some(owner) = self.links.get(&link).map(|link| link.owner) else { return };
                let Parcel { envelope, origin, via } = *parcel;
                match self.bring(place, Bringer::Gateway(owner), envelope, origin, via) {
                    Ok(entry) => self.post(place, entry, Reply::Carried { link, seq, attempt }),
                    Err(Reason::ClockAhead) => self.send_outcome(link, seq, attempt, Said::Later { ms: 2_000 }),
                    Err(reason) => self.fail(format!("an honest gateway is refused: {reason:?}")),
                }
            }
            Packet::Home { link, name, receipts } => self.witness(place, link, name, receipts),
            Packet::Open { link, credits } => {
                let Some(lane) = self.links.get(&link).map(|link| link.lane.clone()) else { return };
                self.open_session(place, &lane, link, credits);
            }
            Packet::Credits { link, count } => {
                let Some((lane, session)) = self.session_of(place, link) else { return };
                self.feed(place, &lane, Event::Credits { session, count });
            }
            Packet::Outcome { link, seq, attempt, said } => {
                let Some((lane, session)) = self.session_of(place, link) else { return };
                self.outcome(place, &lane, session, seq, attempt, said);
            }
            Packet::HomeTaken { link, name, taken } => {
                let Some((lane, session)) = self.session_of(place, link) else { return };
                self.home_taken(place, &lane, Some(session), &name, taken);
            }
            Packet::Ask { from, life, lane, seq, question, key } => {
                let Some(process) = self.process(place) else { return };
                let look = |look: &store::Snapshot<'_>| {
                    look.head(&key)?.map(|head| Ok(look.evidence(head.seq)?.0)).transpose()
                };
                let receipts = process.readers.look(look).expect("the evidence is read");
                receipts.iter().flatten().for_each(|receipt| self.show(receipt));
                let told = Packet::Told { life, lane, seq, question, receipts };
                self.send(End::Gateway(from), told, Fare::Answer);
            }
            Packet::Told { life, lane, seq, question, receipts } if self.gateways[place].life == life => {
                self.told(place, &lane, seq, question, Ok(receipts));
            }
            Packet::Submit { from, call, envelope } => {
                match self.bring(place, Bringer::System, *envelope, None, vec![]) {
                    Ok(entry) => self.post(place, entry, Reply::Person { place: from, call }),
                    Err(reason) => {
                        let answered = Answered::Refused(reason, None);
                        self.send(End::Person(from), Packet::Answer { call, answered }, Fare::Answer);
                    }
                }
            }
            Packet::Cancel { key } => self.cancel(place, key),
            Packet::Told { .. } | Packet::Gone { .. } | Packet::Answer { .. } | Packet::Cancelled { .. } => {}
        }
    }

    /// The lane and the session that a link is, in the present life of its owner.
    fn session_of(&mut self, place: Place, id: LinkId) -> Option<(LaneName, u64)> {
        let link = self.links.get(&id)?;
        let (lane, session) = (link.lane.clone(), link.session?);
        self.carrier(place, &lane)?.goes_by(session, id).then_some((lane, session))
    }

    fn link_gone(&mut self, place: Place, id: LinkId) {
        let Some((owner, lane, session)) = self.forget_link(id) else { return };
        if owner == place {
            if let Some(session) = session {
                self.session_gone(place, &lane, session, id);
            }
        } else if let Some(process) = self.process(place)
            && process.fetching.get(&owner) == Some(&Some(id))
        {
            process.fetching.insert(owner, None);
            self.fetch_later(place, owner);
        }
    }

    fn fetch_later(&mut self, place: Place, from: Place) {
        let after_ms = 500 + self.dice.below(10 * self.weather.net_ms);
        self.plan_inside(place, after_ms, Todo::Fetch { from });
    }

    /// A gateway that cannot be dialled opens its mailbox at another.
    pub fn fetch(&mut self, place: Place, from: Place) {
        let refused = self.gateways[from].process.is_none() || self.dice.happens(self.weather.refuse_dial);
        let member = self.gateways[place].member.clone();
        let Some(process) = self.process(place) else { return };
        if process.fetching.get(&from).is_some_and(Option::is_some) {
            return;
        }
        if refused {
            return self.fetch_later(place, from);
        }
        let (lane, other) = (LaneName::Gateway(member), End::Gateway(place));
        let link =
            self.new_link(Link { owner: from, lane, session: None, other, receipts: true, open: true, unaware: 2 });
        if let Some(process) = self.process(place) {
            process.fetching.insert(from, Some(link));
        }
        self.send(End::Gateway(from), Packet::Open { link, credits: FETCH_CREDITS }, Fare::Sure);
    }

    fn bring(
        &mut self,
        place: Place,
        bringer: Bringer,
        envelope: Envelope,
        origin: Option<Receipt>,
        via: Vec<Member>,
    ) -> Result<Entry, Reason> {
        let now = self.now(place);
        let (own, index) = (self.gateways[place].member.clone(), self.index_of(place));
        let party = match bringer {
            Bringer::System => self.map.party(place, Role::System(SYSTEM.parse().unwrap())),
            Bringer::Gateway(from) => self.map.party(from, Role::Gateway),
        };
        if matches!(bringer, Bringer::System) && !admission::speaks_for(&party, &own, &envelope) {
            return Err(Reason::NotPermitted);
        }
        let header_digest = envelope.header_digest();
        let origin = match (bringer, origin) {
            (Bringer::System, _) => None,
            (Bringer::Gateway(_), origin) => Some(self.origin(place, origin, &envelope, header_digest)?),
        };
        let other = match bringer {
            Bringer::Gateway(_) => Some(&envelope.from.city),
            Bringer::System => envelope.to.as_ref().map(|to| &to.city),
        };
        if !grants().allow(&party, &envelope.item_code, other) {
            return Err(Reason::NotPermitted);
        }
        let told = origin.as_ref().map(|told| &told.evidence);
        let verdict = admission::in_window(&envelope, now);
        let verdict = verdict.and_then(|()| self::verdict(&index, &party.member, &envelope, told, now));
        let (header, body) = split(&envelope);
        let rations = &mut self.process(place).ok_or(Reason::StoreUnavailable)?.rations;
        let rejections: Ration = rations.entry(party.member).or_default().clone();
        if let (Some(origin), Some(process)) = (&origin, self.process(place)) {
            let key = store::Key { from_city: origin.evidence.from.city.clone(), id: envelope.id };
            if process.readers.look(|look| look.head(&key)).expect("the head is read").is_some() {
                self.tally.hit(Rare::CarriedTwice);
            }
        }
        let take = Take { envelope, header_digest, header, body, origin, via, verdict, token: None, rejections };
        Ok(Entry::Take(Box::new(take)))
    }

    /// The origin's receipt, which must hold and speak of this message.
    fn origin(
        &mut self,
        place: Place,
        origin: Option<Receipt>,
        envelope: &Envelope,
        digest: Digest,
    ) -> Result<Checked, Reason> {
        let origin = origin.ok_or(Reason::OriginReceiptMissing)?;
        let process = self.process(place).ok_or(Reason::StoreUnavailable)?;
        let checked = process.checker.check(origin).map_err(|_| Reason::OriginReceiptInvalid)?;
        let evidence = &checked.evidence;
        let means = evidence.event == Told::SubmissionAccepted
            && evidence.issuer == Member::City(envelope.from.city.clone())
            && evidence.message_id == envelope.id
            && evidence.header_digest == digest;
        if means { Ok(checked) } else { Err(Reason::OriginReceiptForeign) }
    }

    fn witness(&mut self, place: Place, link: LinkId, name: String, receipts: Vec<Receipt>) {
        let mut incoming = Vec::with_capacity(receipts.len());
        for receipt in receipts {
            let Some(process) = self.process(place) else { return };
            let leaf_hash = receipt.leaf_hash();
            let known = process.readers.look(|look| look.received(leaf_hash)).is_ok();
            let checked = process.checker.check(receipt);
            if known {
                self.tally.hit(Rare::ReceiptsTwice);
            }
            let checked = match checked {
                Ok(checked) => checked,
                Err(error) => return self.fail(format!("an honest receipt on its way home does not hold: {error}")),
            };
            let issuer = match checked.evidence.issuer {
                Member::Hub(_) => Issuer::MayRelay,
                Member::City(_) => Issuer::Other,
            };
            incoming.push(Incoming { checked, text: None, issuer });
        }
        self.post(place, Entry::Witness(Box::new(Witness { receipts: incoming })), Reply::Homed { link, name });
    }

    pub fn homed(&mut self, link: LinkId, name: String, answer: Result<Answer, Trouble>) {
        let taken = match answer {
            Ok(Answer::Witnessed(each)) => {
                if let Some(refusal) = each.into_iter().find_map(Result::err) {
                    self.fail(format!("an honest receipt is not witnessed: {refusal}"));
                }
                true
            }
            _ => false,
        };
        let Some(owner) = self.links.get(&link).map(|link| link.owner) else { return };
        self.send(End::Gateway(owner), Packet::HomeTaken { link, name, taken }, Fare::Sure);
        let pulls = self.map.pulls.map(End::Gateway);
        if self.links.get(&link).is_some_and(|link| Some(link.other) == pulls) {
            self.send(End::Gateway(owner), Packet::Credits { link, count: 1 }, Fare::Sure);
        }
    }
}

/// Every member of these worlds may exchange everything with every other.
fn grants() -> Grants {
    let all = |who| Grant { who, items: vec!["*".parse().unwrap()], divisions: vec!["*".parse().unwrap()] };
    Grants(vec![all(Who::EverySystem), all(Who::EveryGateway)])
}

/// Where the rules send a message, or why they refuse it.
fn verdict(
    index: &Index,
    bringer: &Member,
    envelope: &Envelope,
    origin: Option<&Evidence>,
    now: Time,
) -> Result<Route, Reason> {
    let expires_at = match origin.and_then(|origin| origin.expires_at) {
        Some(expires_at) => expires_at,
        None => envelope.expires_at.map_or(now.plus_ms(TIME_TO_LIVE_MS), |expires_at| expires_at.time()),
    };
    if expires_at <= now {
        return Err(Reason::MessageExpired);
    }
    let query = Query {
        to: envelope.to.as_ref().or(origin.and_then(|origin| origin.to.as_ref())),
        jurisdiction: envelope.jurisdiction.as_ref(),
        item: &envelope.item_code,
        step: envelope.step.as_ref(),
        mode: envelope.mode,
        now,
        entered: if origin.is_some() { Entered::Relayed { via: bringer } } else { Entered::Here },
    };
    let resolved = index.resolve(&query).map_err(|refusal| refusal.reason)?;
    let mut lanes = resolved.lanes.iter().map(lane);
    let lane = lanes.next().ok_or(Reason::NoRoute)?;
    let others = lanes.collect();
    Ok(Route { recipient: resolved.recipient, lane, others, table_version: resolved.version, expires_at })
}

/// Whether the rules in force would put a stored message into this lane.
pub fn leads_to(
    index: &Index,
    wanted: &LaneName,
    stored: &Stored,
    envelope: &Envelope,
    own: &Member,
    now: Time,
) -> bool {
    let brought_by = stored.via.last().cloned().unwrap_or(Member::City(stored.key.from_city.clone()));
    let query = Query {
        to: Some(&stored.recipient),
        jurisdiction: envelope.jurisdiction.as_ref(),
        item: &envelope.item_code,
        step: envelope.step.as_ref(),
        mode: envelope.mode,
        now,
        entered: if brought_by == *own { Entered::Here } else { Entered::Relayed { via: &brought_by } },
    };
    index.resolve(&query).is_ok_and(|resolved| resolved.lanes.iter().any(|to| lane(to) == *wanted))
}

fn lane(destination: &Destination) -> LaneName {
    match destination {
        Destination::System(name) => LaneName::System(name.clone()),
        Destination::Gateway(member) => LaneName::Gateway(member.clone()),
    }
}
