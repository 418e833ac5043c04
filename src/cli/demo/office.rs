//! Decides how a city's system of the demo works: it sends what its side of a case has to say, takes what comes, refuses where
//! the course says so, and writes everything down. A gateway that is away is waited for. Never leaves a delivery without an
//! outcome, and never sends a second message in place of one whose answer was lost: it sends the same again.

use std::cell::RefCell;
use std::convert::Infallible;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::super::client::{Client, Delivered, Inbox, News, Outcome, Trouble};
use super::super::{Exit, Failure};
use super::board::{Board, Place};
use super::cast::City;
use super::course;
use super::diary::{Diary, Did};
use crate::evidence::{Code, State};
use crate::id::MessageId;
use crate::party::Division;

/// Deliveries that a system has on its desk at once, and submissions without an answer.
const CREDITS: u32 = 64;
const SUBMITS: usize = 32;
/// Before a gateway that is away is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// A city's system at work.
pub struct Office<'a> {
    pub city: &'static City,
    pub client: Client,
    pub diary: Diary,
    pub board: &'a RefCell<Board>,
    /// What it has to send.
    post: mpsc::Sender<Place>,
    /// Deliveries without a durable outcome.
    desk: RefCell<Vec<Open>>,
}

/// A delivery that was given its outcome.
struct Open {
    delivery: String,
    id: MessageId,
    from: Division,
}

impl<'a> Office<'a> {
    /// An office that has not begun; it has at most `messages` to send.
    pub fn new(
        city: &'static City,
        client: Client,
        diary: Diary,
        board: &'a RefCell<Board>,
        messages: usize,
    ) -> (Office<'a>, mpsc::Receiver<Place>) {
        let (post, posted) = mpsc::channel(messages);
        (Office { city, client, diary, board, post, desk: RefCell::default() }, posted)
    }

    /// Whether every outcome that was given is written down as durable.
    pub fn is_done(&self) -> bool {
        self.desk.borrow().is_empty()
    }

    /// Takes what comes, for as long as the demo plays.
    pub async fn receive(&self) -> Result<Infallible, Failure> {
        loop {
            let ended = match self.client.receive(CREDITS).await {
                Ok(mut inbox) => self.session(&mut inbox).await?,
                Err(trouble) => Some(trouble),
            };
            endure(ended).await?;
            self.look_up().await?;
        }
    }

    /// One mailbox until it breaks: why, if anything was said.
    async fn session(&self, inbox: &mut Inbox<'_>) -> Result<Option<Trouble>, Failure> {
        loop {
            let news = match inbox.next().await {
                Ok(Some(news)) => news,
                Ok(None) => return Ok(None),
                Err(trouble) => return Ok(Some(trouble)),
            };
            match news {
                News::Delivered(delivered) => self.take(inbox, *delivered).await?,
                News::Settled { delivery, .. } => {
                    if let Some(open) = self.clear(&delivery) {
                        self.diary.note(self.outcome(open.id).1, open.id)?;
                    }
                    inbox.grant(1).await;
                }
                News::Withdrawn { delivery } => {
                    self.clear(&delivery);
                    inbox.grant(1).await;
                }
                News::Refused { refused, .. } => return Err(Trouble::Refused(refused).into()),
            }
        }
    }

    /// Takes one delivery: the first time, what follows is put into the post.
    async fn take(&self, inbox: &Inbox<'_>, delivered: Delivered) -> Result<(), Failure> {
        let id = delivered.envelope.id;
        self.diary.note(Did::Received, id)?;
        let taken = self.board.borrow_mut().taken(id);
        if let Some(next) = taken.and_then(|place| self.says_next(place)) {
            self.send_later(next)?;
        }
        inbox.give(&delivered.delivery, &self.outcome(id).0).await;
        let open = Open { delivery: delivered.delivery, id, from: delivered.envelope.from.city };
        self.desk.borrow_mut().push(open);
        Ok(())
    }

    /// The message that follows, where it is this city's to send.
    fn says_next(&self, place: Place) -> Option<Place> {
        let board = self.board.borrow();
        board.next(place).filter(|next| board.sender(*next) == self.city)
    }

    /// Takes a delivery off the desk.
    fn clear(&self, delivery: &str) -> Option<Open> {
        let mut desk = self.desk.borrow_mut();
        let place = desk.iter().position(|open| open.delivery == delivery)?;
        Some(desk.swap_remove(place))
    }

    /// What a message gets, and what is written down once that is durable: a function of the message alone.
    fn outcome(&self, id: MessageId) -> (Outcome, Did) {
        let board = self.board.borrow();
        let refused = board.place(id).is_some_and(|at| course::is_refused(board.cases[at.case].number));
        match "MATERIALS_INCOMPLETE".parse::<Code>() {
            Ok(code) if refused => {
                let text = "缺少材料，请补正后重新提交（演示）".to_owned();
                (Outcome::Refuse { code, text }, Did::Refused)
            }
            _ => (Outcome::Acknowledge, Did::Acknowledged),
        }
    }

    /// After a break: asks for each open delivery whether its outcome was made durable. What was not comes again.
    async fn look_up(&self) -> Result<(), Failure> {
        let left = std::mem::take(&mut *self.desk.borrow_mut());
        for open in left {
            let told = loop {
                match self.client.message(Some(&open.from), open.id).await {
                    Ok(told) => break told,
                    Err(trouble) => endure(Some(trouble)).await?,
                }
            };
            match told.state {
                State::Confirmed => self.diary.note(Did::Acknowledged, open.id)?,
                State::Rejected => self.diary.note(Did::Refused, open.id)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Puts a message into the post.
    pub fn send_later(&self, place: Place) -> Result<(), Failure> {
        let full = |_| Failure::new(Exit::Software, "the post of the demo is full", "演示的发件箱已满");
        self.post.try_send(place).map_err(full)
    }

    /// Sends what is put into the post, for as long as the demo plays.
    pub async fn send(&self, posted: mpsc::Receiver<Place>) -> Result<(), Failure> {
        ReceiverStream::new(posted).map(Ok).try_for_each_concurrent(SUBMITS, |place| self.send_from(place)).await
    }

    /// Sends a message, and what the same side says after it.
    async fn send_from(&self, mut place: Place) -> Result<(), Failure> {
        loop {
            let envelope = self.board.borrow().cases[place.case].envelope(place.act, &self.client.me)?;
            self.diary.note(Did::Sent, envelope.id)?;
            while let Err(trouble) = self.client.submit(&envelope).await {
                endure(Some(trouble)).await?;
            }
            self.board.borrow_mut().accepted(place);
            match self.says_next(place) {
                Some(next) => place = next,
                None => return Ok(()),
            }
        }
    }
}

/// Waits a little where waiting helps.
///
/// # Errors
/// What does not pass by itself.
async fn endure(trouble: Option<Trouble>) -> Result<(), Failure> {
    match trouble.filter(|trouble| !passes(trouble)) {
        Some(trouble) => Err(trouble.into()),
        None => {
            tokio::time::sleep(AGAIN).await;
            Ok(())
        }
    }
}

/// Whether trouble passes by itself, as that of a gateway that is away.
pub fn passes(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Unreachable { .. } => true,
        Trouble::Refused(refused) => matches!(refused.exit(), Exit::TempFail | Exit::Unavailable),
        Trouble::Unsound(_) => false,
    }
}
