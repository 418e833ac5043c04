//! Decides which lanes are worked: a courier for each partner that is dialled, a keeper for each partner that fetches and
//! for each own system. Follows the directory: who joins is served, who leaves is not.

use std::collections::HashMap;
use std::sync::Arc;

use dashmap::DashMap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::dial::Dialer;
use super::ground::Ground;
use super::mailbox::{self, Mailbox};
use super::push;
use crate::directory::Endpoint;
use crate::party::{Member, Name};
use crate::store::LaneName;

/// Makes what dials a partner.
pub type Diallers = Box<dyn Fn(&Partner) -> Dialer + Send + Sync>;
/// The open mailboxes, by lane.
pub type Mailboxes = Arc<DashMap<LaneName, Mailbox>>;

/// A partner as the directory knows it.
pub struct Partner {
    pub member: Member,
    /// Where it is dialled; empty when it fetches.
    pub endpoints: Vec<Endpoint>,
}

/// The work on all lanes.
pub struct Post {
    ground: Ground,
    /// Makes what dials a partner, with the identity that it must show.
    dialer: Diallers,
    mailboxes: Mailboxes,
    working: HashMap<Member, (Vec<Endpoint>, CancellationToken)>,
    systems: HashMap<Name, CancellationToken>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Post {
    pub fn new(ground: Ground, dialer: Diallers, stop: CancellationToken, tasks: TaskTracker) -> Post {
        Post {
            ground,
            dialer,
            mailboxes: Mailboxes::default(),
            working: HashMap::new(),
            systems: HashMap::new(),
            stop,
            tasks,
        }
    }

    /// The mailboxes that are open now; more may open.
    pub fn mailboxes(&self) -> Mailboxes {
        self.mailboxes.clone()
    }

    /// Keeps a mailbox for each of these own systems, and for no others any more.
    pub fn serve_systems(&mut self, systems: impl IntoIterator<Item = Name>) {
        let mut left = std::mem::take(&mut self.systems);
        for name in systems {
            let stop = left.remove(&name).unwrap_or_else(|| {
                let stop = self.stop.child_token();
                self.keep(LaneName::System(name.clone()), stop.clone());
                stop
            });
            self.systems.insert(name, stop);
        }
        for (name, stop) in left {
            self.close(LaneName::System(name), &stop);
        }
    }

    /// Ends what is open with this partner and dials it anew: whom it may be has changed.
    pub fn dial_anew(&mut self, member: &Member) {
        let Some((endpoints, _)) = self.working.get(member).filter(|(endpoints, _)| !endpoints.is_empty()) else {
            return;
        };
        let partner = Partner { member: member.clone(), endpoints: endpoints.clone() };
        self.end(member);
        self.begin(partner);
    }

    /// Serves these partners, and no others any more. Who has new endpoints is dialled there from now on.
    pub fn serve_partners(&mut self, partners: Vec<Partner>) {
        let left: Vec<Member> =
            self.working.keys().filter(|member| partners.iter().all(|p| p.member != **member)).cloned().collect();
        for member in left {
            self.end(&member);
        }
        for partner in partners {
            let changed = self.working.get(&partner.member).is_none_or(|(known, _)| *known != partner.endpoints);
            if changed {
                self.end(&partner.member);
                self.begin(partner);
            }
        }
    }

    fn begin(&mut self, partner: Partner) {
        let stop = self.stop.child_token();
        match partner.endpoints.is_empty() {
            true => self.keep(LaneName::Gateway(partner.member.clone()), stop.clone()),
            false => {
                let dialer = (self.dialer)(&partner);
                self.tasks.spawn(push::run(self.ground.clone(), partner.member.clone(), dialer, stop.clone()));
            }
        }
        self.working.insert(partner.member, (partner.endpoints, stop));
    }

    fn keep(&self, lane: LaneName, stop: CancellationToken) {
        let (mailbox, opening) = mailbox::open(self.ground.clone(), lane.clone());
        self.mailboxes.insert(lane, mailbox);
        self.tasks.spawn(opening.run(stop));
    }

    fn end(&mut self, member: &Member) {
        let Some((_, stop)) = self.working.remove(member) else { return };
        self.close(LaneName::Gateway(member.clone()), &stop);
    }

    fn close(&self, lane: LaneName, stop: &CancellationToken) {
        stop.cancel();
        self.mailboxes.remove(&lane);
        self.ground.desk.close(&lane);
    }
}
