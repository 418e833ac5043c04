//! Decides what becomes of what is sent: whether it arrives, when, how often, and when both ends of a link learn that it
//! is gone. Never looks into a packet.

use tongban::evidence::Code;
use tongban::lanes::{Attempt, Seq, SessionId};
use tongban::message::Envelope;
use tongban::party::Member;
use tongban::reason::Reason;
use tongban::receipt::Receipt;
use tongban::store::{Key, LaneName};

use crate::world::{Happening, Place, World};

pub type LinkId = u64;
/// A call of a person's, which is answered once or never.
pub type CallId = u64;

/// Who a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Gateway(Place),
    Person(Place),
}

/// A session of a lane: the lane's owner at one end, whoever takes its messages at the other.
pub struct Link {
    pub owner: Place,
    pub lane: LaneName,
    /// The lane's name for it, once the lane knows of it.
    pub session: Option<SessionId>,
    pub other: End,
    pub receipts: bool,
    pub open: bool,
    /// Ends that do not know yet that it is gone.
    pub unaware: u8,
}

/// A message on its way.
#[derive(Clone)]
pub struct Parcel {
    pub envelope: Envelope,
    /// The origin's receipt; none for one that its own city's system fetches.
    pub origin: Option<Receipt>,
    pub via: Vec<Member>,
}

/// What is said of a delivery.
#[derive(Clone)]
pub enum Said {
    Taken(Option<Receipt>),
    Refused { code: Code, receipt: Option<Receipt> },
    Later { ms: u64 },
    Throttled { ms: u64 },
}

/// What a submission is answered with.
#[derive(Clone)]
pub enum Answered {
    Taken(Receipt),
    Refused(Reason, Option<Receipt>),
}

/// What became of a withdrawal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalledBack {
    Done,
    TooLate,
    InDoubt,
}

#[derive(Clone)]
pub enum Packet {
    /// From the lane's owner.
    Carry {
        link: LinkId,
        seq: Seq,
        attempt: Attempt,
        parcel: Box<Parcel>,
    },
    Home {
        link: LinkId,
        name: String,
        receipts: Vec<Receipt>,
    },
    /// To the lane's owner.
    Open {
        link: LinkId,
        credits: u32,
    },
    Credits {
        link: LinkId,
        count: u32,
    },
    Outcome {
        link: LinkId,
        seq: Seq,
        attempt: Attempt,
        said: Said,
    },
    HomeTaken {
        link: LinkId,
        name: String,
        taken: bool,
    },
    /// To either.
    Gone {
        link: LinkId,
    },
    /// Whether a member has a message, and what it says of it.
    Ask {
        from: Place,
        life: u32,
        lane: LaneName,
        seq: Seq,
        question: u64,
        key: Key,
    },
    Told {
        life: u32,
        lane: LaneName,
        seq: Seq,
        question: u64,
        receipts: Option<Vec<Receipt>>,
    },
    /// A person's calls and their answers.
    Submit {
        from: Place,
        call: CallId,
        envelope: Box<Envelope>,
    },
    Answer {
        call: CallId,
        answered: Answered,
    },
    Cancel {
        key: Key,
    },
    Cancelled {
        key: Key,
        called_back: CalledBack,
    },
}

/// How a packet may fare.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fare {
    Request,
    /// A request on a session: it may be lost or late, but a session carries nothing twice.
    Carried,
    Answer,
    /// It arrives while its link is open.
    Sure,
}

impl World {
    pub fn send(&mut self, to: End, packet: Packet, fare: Fare) {
        if packet.link().is_some_and(|link| self.links.get(&link).is_none_or(|link| !link.open)) {
            return;
        }
        let lost = match fare {
            Fare::Request | Fare::Carried => self.weather.lose_request,
            Fare::Answer => self.weather.lose_answer,
            Fare::Sure => 0,
        };
        if self.dice.happens(lost) {
            return;
        }
        if matches!(fare, Fare::Request | Fare::Answer) && self.dice.happens(self.weather.duplicate) {
            let again_ms = self.dice.below(3 * self.weather.net_ms);
            self.plan(again_ms, Happening::Arrival { to, packet: packet.clone() });
        }
        let after_ms = 1 + self.dice.below(self.weather.net_ms);
        self.plan(after_ms, Happening::Arrival { to, packet });
    }

    pub fn new_link(&mut self, link: Link) -> LinkId {
        let id = self.links.last_key_value().map_or(1, |(last, _)| last + 1).max(self.oracle.next_link);
        self.oracle.next_link = id + 1;
        self.links.insert(id, link);
        id
    }

    /// A link breaks: nothing more passes, and each end learns of it in its own time.
    pub fn break_link(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.open) else { return };
        link.open = false;
        for end in [End::Gateway(link.owner), link.other] {
            let after_ms = 1 + self.dice.below(2 * self.weather.net_ms);
            self.plan(after_ms, Happening::Arrival { to: end, packet: Packet::Gone { link: id } });
        }
    }

    /// One end has learnt that a link is gone; what it was.
    pub fn forget_link(&mut self, id: LinkId) -> Option<(Place, LaneName, Option<SessionId>)> {
        let link = self.links.get_mut(&id)?;
        link.unaware -= 1;
        let what = (link.owner, link.lane.clone(), link.session);
        if link.unaware == 0 {
            self.links.remove(&id);
        }
        Some(what)
    }

    /// All links of a process that is gone break.
    pub fn break_links_of(&mut self, place: Place) {
        let ends_here = |link: &Link| link.owner == place || link.other == End::Gateway(place);
        let ids: Vec<LinkId> = self.links.iter().filter(|(_, link)| ends_here(link)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.break_link(id));
    }
}

impl Packet {
    /// The link that must be open for the packet to be sent.
    fn link(&self) -> Option<LinkId> {
        match self {
            Packet::Carry { link, .. }
            | Packet::Home { link, .. }
            | Packet::Open { link, .. }
            | Packet::Credits { link, .. }
            | Packet::Outcome { link, .. }
            | Packet::HomeTaken { link, .. } => Some(*link),
            _ => None,
        }
    }
}
