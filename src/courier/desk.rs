//! Decides where an order for a lane is handed in: at the desk of whoever works the lane. Never carries one out.

use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::{mpsc, oneshot};

use crate::lanes::Seq;
use crate::limits::ORDERS_MAX;
use crate::receipt::Receipt;
use crate::store::LaneName;
use crate::time::Time;

/// What a lane can be told from outside.
#[derive(Debug)]
pub enum Order {
    /// A message's deadline has come.
    Due {
        seq: Seq,
        expires_at: Time,
    },
    /// A message is withdrawn by its sender.
    Cancel {
        seq: Seq,
        reply: oneshot::Sender<Cancelled>,
    },
    /// An operator stops the lane, or lets it go on.
    Hold,
    Resume,
}

/// What became of a withdrawal.
#[derive(Debug)]
pub enum Cancelled {
    /// The message is withdrawn; its receipt says so.
    Done(Box<Receipt>),
    /// It has gone another way: somebody else has it, or it has ended.
    TooLate,
    /// Somebody else may have it, and does not say.
    InDoubt,
}

/// The desks of all lanes that are worked.
#[derive(Clone, Debug, Default)]
pub struct Desk(Arc<DashMap<LaneName, mpsc::Sender<Order>>>);

impl Desk {
    /// Opens the desk of a lane; orders come out of what is returned.
    pub fn open(&self, lane: &LaneName) -> mpsc::Receiver<Order> {
        let (orders, taken) = mpsc::channel(ORDERS_MAX);
        self.0.insert(lane.clone(), orders);
        taken
    }

    /// Closes the desk of a lane that nobody works any more.
    pub fn close(&self, lane: &LaneName) {
        self.0.remove(lane);
    }

    /// Whether somebody works the lane.
    pub fn is_open(&self, lane: &LaneName) -> bool {
        self.0.get(lane).is_some_and(|orders| !orders.is_closed())
    }

    /// Hands an order in; it comes back when nobody works the lane, or too many orders wait there.
    ///
    /// # Errors
    /// The order itself.
    pub fn hand_in(&self, lane: &LaneName, order: Order) -> Result<(), Order> {
        match self.0.get(lane) {
            Some(orders) => orders.try_send(order).map_err(mpsc::error::TrySendError::into_inner),
            None => Err(order),
        }
    }
}
