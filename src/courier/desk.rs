//! Decides where an order for a lane is handed in: at the desk of whoever works the lane. Never carries one out.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::{mpsc, oneshot};

use crate::lanes::{Seq, Stats};
use crate::limits::{LANE_TELL_MS, ORDERS_MAX};
use crate::receipt::Receipt;
use crate::store::LaneName;
use crate::time::Time;

/// What a lane can be told from outside.
#[derive(Debug)]
pub enum Order {
    /// A message's deadline has come.
    Due { seq: Seq, expires_at: Time },
    /// A message is withdrawn by its sender.
    Cancel { seq: Seq, reply: oneshot::Sender<Cancelled> },
    /// Somebody asks how the lane stands. Whatever was committed for the lane before has been heard by then.
    Tell { reply: oneshot::Sender<Stats> },
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

    /// The lanes that are worked.
    pub fn open_lanes(&self) -> Vec<LaneName> {
        let open = self.0.iter().filter(|desk| !desk.value().is_closed());
        open.map(|desk| desk.key().clone()).collect()
    }

    /// How a lane stands, asked of whoever works it; none when nobody does, or when they do not answer in time.
    pub async fn stats(&self, lane: &LaneName) -> Option<Stats> {
        let (reply, told) = oneshot::channel();
        self.hand_in(lane, Order::Tell { reply }).ok()?;
        tokio::time::timeout(Duration::from_millis(LANE_TELL_MS), told).await.ok()?.ok()
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
