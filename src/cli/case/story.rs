//! Decides how the receipts of a case are told as one story: who gave custody to whom, at which moment, in which order. Never
//! tells what no receipt says.

use crate::evidence::{Event, Evidence};
use crate::time::Time;

use super::gather::CaseFile;

/// Who can hold a message: a city's system, or the gateway of a city or hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    System(String),
    Gateway(String),
}

/// One event of the story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    pub at: Time,
    /// Place of the message in the case, from 0.
    pub message: usize,
    pub event: Event,
    /// Who gave, or offered; none where nothing changes hands.
    pub from: Option<usize>,
    /// Who took it, refused it, or says so.
    pub to: usize,
    pub step: String,
    pub reasons: Vec<String>,
}

/// Custody of one message at one holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Custody {
    pub message: usize,
    pub holder: usize,
    /// Scenes: the one that gave custody, and the one that ended it; none as long as nothing did.
    pub begin: usize,
    pub end: Option<usize>,
}

/// All that happened, oldest first.
#[derive(Debug, Default)]
pub struct Story {
    pub holders: Vec<Holder>,
    pub scenes: Vec<Scene>,
    pub custodies: Vec<Custody>,
}

/// Tells the story of a case. What merely witnesses a foreign receipt is no event of it.
pub fn tell(case: &CaseFile) -> Story {
    let mut told = Vec::new();
    for (message, one) in case.messages.iter().enumerate() {
        let mut latest = Time::ZERO;
        for checked in one.receipts.iter().filter(|checked| checked.evidence.event != Event::Witnessed) {
            // Two cities have two clocks; what follows from another stands behind it all the same.
            latest = latest.max(checked.evidence.at);
            told.push((latest, message, &checked.evidence));
        }
    }
    told.sort_by_key(|(at, message, _)| (*at, *message));
    let mut story = Story { holders: holders(told.iter().map(|(_, _, evidence)| *evidence)), ..Story::default() };
    for (_, message, evidence) in told {
        story.add(message, evidence);
    }
    story
}

impl Story {
    fn add(&mut self, message: usize, evidence: &Evidence) {
        let place = self.scenes.len();
        let held = self.custodies.iter().rposition(|one| one.message == message && one.end.is_none());
        let holder = held.map(|held| self.custodies[held].holder);
        let issuer = self.place(&gateway(evidence));
        let sender = self.place(&Holder::System(evidence.from.to_string()));
        let recipient = self.place(&recipient(evidence));
        let (from, to) = match evidence.event {
            Event::SubmissionAccepted | Event::SubmissionRejected => (Some(sender), issuer),
            Event::RelayAccepted | Event::RelayRejected => (holder.filter(|holder| *holder != issuer), issuer),
            Event::HandedOver | Event::HandoverFailed => (Some(issuer), recipient),
            _ => (None, issuer),
        };
        let takes = matches!(evidence.event, Event::SubmissionAccepted | Event::RelayAccepted | Event::HandedOver);
        if let Some(held) = held
            && (takes || ends(evidence.event))
        {
            self.custodies[held].end = Some(place);
        }
        if takes && evidence.event != Event::HandedOver {
            self.custodies.push(Custody { message, holder: to, begin: place, end: None });
        }
        self.scenes.push(Scene {
            at: evidence.at,
            message,
            event: evidence.event,
            from,
            to,
            step: evidence.step.as_ref().map(|step| step.as_str().to_owned()).unwrap_or_default(),
            reasons: evidence.reasons.iter().chain(&evidence.token).map(|code| code.as_str().to_owned()).collect(),
        });
    }

    fn place(&self, holder: &Holder) -> usize {
        self.holders.iter().position(|one| one == holder).unwrap_or_default()
    }
}

/// Whether nobody holds the message any more.
fn ends(event: Event) -> bool {
    use Event::{Cancelled, ConsignmentFailed, Expired, HandoverFailed, RelayFailed};
    matches!(event, RelayFailed | ConsignmentFailed | HandoverFailed | Expired | Cancelled)
}

fn gateway(evidence: &Evidence) -> Holder {
    Holder::Gateway(evidence.issuer.to_string())
}

fn recipient(evidence: &Evidence) -> Holder {
    evidence.to.as_ref().map_or_else(|| gateway(evidence), |to| Holder::System(to.to_string()))
}

/// Everybody in the story, from the first sender's systems outward: its city's systems, then gateways as they come in, then
/// the systems of the other cities.
fn holders<'a>(told: impl Iterator<Item = &'a Evidence>) -> Vec<Holder> {
    let (mut near, mut gateways, mut far) = (vec![], vec![], vec![]);
    let mut home = None;
    let add = |list: &mut Vec<Holder>, holder: Holder| {
        if !list.contains(&holder) {
            list.push(holder);
        }
    };
    for evidence in told {
        let home = home.get_or_insert_with(|| evidence.from.city.clone());
        let relevant = matches!(evidence.event, Event::HandedOver | Event::HandoverFailed);
        let to = evidence.to.as_ref().filter(|_| relevant);
        for address in std::iter::once(&evidence.from).chain(to) {
            let side = if address.city == *home { &mut near } else { &mut far };
            add(side, Holder::System(address.to_string()));
        }
        add(&mut gateways, gateway(evidence));
    }
    // A hub stands between the cities.
    gateways.sort_by_key(|holder| match holder {
        Holder::Gateway(name) if home.as_ref().is_some_and(|home| home.as_str() == name) => 0,
        Holder::Gateway(name) if name.starts_with("hub/") => 1,
        _ => 2,
    });
    near.into_iter().chain(gateways).chain(far).collect()
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Holder::System(name) => f.write_str(name),
            Holder::Gateway(name) => write!(f, "[{name}]"),
        }
    }
}

impl Story {
    /// Who gave to whom, gateways in brackets: `450200/window → [450200]`.
    pub fn way(&self, scene: &Scene) -> String {
        let name = |place: usize| self.holders.get(place).map(ToString::to_string).unwrap_or_default();
        match scene.from {
            Some(from) => format!("{} → {}", name(from), name(scene.to)),
            None => name(scene.to),
        }
    }
}
