//! Decides how many connections one party may hold and which live connection must end now. Never reads or writes on
//! one: the task that serves a connection obeys its order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dashmap::DashMap;
use tokio::sync::{Notify, watch};

use crate::party::Party;
use crate::tls::accept::Peer;

/// What the task that serves a connection is told. Orders only rise: a cut is never taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Serve.
    Run,
    /// Say GOAWAY, finish the calls under way, then close.
    Drain,
    /// Close at once.
    Cut,
}

/// The live connections of a server. Clones share one list.
#[derive(Debug, Clone, Default)]
pub struct Connections {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    next: AtomicU64,
    live: DashMap<u64, (Peer, watch::Sender<Order>)>,
    by_party: DashMap<Party, usize>,
    draining: AtomicBool,
    ended: Notify,
}

impl Connections {
    /// Enters a connection, unless its party already has `party_max` open. It leaves when the entry is dropped.
    pub fn enter(&self, peer: Peer, party_max: usize) -> Option<Entered> {
        {
            let mut open = self.shared.by_party.entry(peer.party.clone()).or_default();
            if *open >= party_max {
                return None;
            }
            *open += 1;
        }
        let (sender, orders) = watch::channel(Order::Run);
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        self.shared.live.insert(id, (peer, sender.clone()));
        // Listed first, asked second: whichever of this and `drain` comes last sees the other.
        if self.shared.draining.load(Ordering::SeqCst) {
            raise(&sender, Order::Drain);
        }
        Some(Entered { id, shared: self.shared.clone(), orders })
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.shared.live.len()
    }

    /// Connections of one party open now.
    pub fn open_of(&self, party: &Party) -> usize {
        self.shared.by_party.get(party).map_or(0, |open| *open)
    }

    /// Cuts every live connection whose peer `ends`, and says how many. A connection entered later is not covered:
    /// store what it depends on before this call.
    pub fn close_where(&self, ends: impl Fn(&Peer) -> bool) -> usize {
        self.tell(Order::Cut, ends)
    }

    /// Asks every live connection, and every one that still enters, to finish its calls and close.
    pub fn drain(&self) -> usize {
        self.shared.draining.store(true, Ordering::SeqCst);
        self.tell(Order::Drain, |_| true)
    }

    /// Waits until no connection is open.
    pub async fn all_ended(&self) {
        loop {
            let ended = self.shared.ended.notified();
            if self.shared.live.is_empty() {
                return;
            }
            ended.await;
        }
    }

    fn tell(&self, order: Order, applies: impl Fn(&Peer) -> bool) -> usize {
        let mut told = 0;
        for entry in &self.shared.live {
            let (peer, sender) = entry.value();
            if applies(peer) {
                raise(sender, order);
                told += 1;
            }
        }
        told
    }
}

fn raise(sender: &watch::Sender<Order>, order: Order) {
    sender.send_if_modified(|now| std::mem::replace(now, order.max(*now)) < order);
}

/// One live connection's place in the list.
#[derive(Debug)]
pub struct Entered {
    id: u64,
    shared: Arc<Shared>,
    orders: watch::Receiver<Order>,
}

impl Entered {
    /// Waits until the order is at least `order`.
    pub async fn told(&mut self, order: Order) {
        // The sender lives in the list for as long as this entry does.
        let _ = self.orders.wait_for(|now| *now >= order).await;
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some((_, (peer, _))) = self.shared.live.remove(&self.id) {
            if let Some(mut open) = self.shared.by_party.get_mut(&peer.party) {
                *open -= 1;
            }
            self.shared.by_party.remove_if(&peer.party, |_, open| *open == 0);
        }
        self.shared.ended.notify_waiters();
    }
}
