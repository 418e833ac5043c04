//! Decides what each load is: how many are under way at once, when one begins and when it has its answer. Never verifies within
//! the measured time more than a sample of the receipts, and never counts what was refused.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use super::super::client::{Answers, Client, Hand, Laid, Mould, Pipe, Stamp, Tray, Trouble};
use super::super::{Failure, now};
use super::measure::{Run, Stopwatch};
use crate::chance;
use crate::evidence::{Event, Evidence};
use crate::id::MessageId;

/// One receipt of so many is checked.
const CHECKED_OF: u64 = 256;
/// Connections carry so many unary calls at once: fewer than a gateway allows.
pub const CALLS_PER_CONNECTION: usize = 100;
/// A mailbox that is silent for so long is empty.
const SILENCE: Duration = Duration::from_millis(500);
/// Outcomes for which credits are given back together.
const CREDITS_AT_ONCE: u32 = 32;
/// How long a request waits for its reply.
const PATIENCE: Duration = Duration::from_secs(30);

/// A message of its own.
fn stamp() -> Result<Stamp, Failure> {
    let at = now();
    let chance = chance::bytes().map_err(std::io::Error::other)?;
    Ok(Stamp { id: MessageId::new_v7(at, chance), at })
}

/// A refusal is counted; anything else ends the load.
fn refused(trouble: Trouble, watch: &RefCell<Stopwatch>) -> Result<(), Failure> {
    match trouble {
        Trouble::Refused(_) => {
            watch.borrow_mut().refused();
            Ok(())
        }
        other => Err(other.into()),
    }
}

/// Unary submissions, so many at once, cast in each mould in turn.
pub async fn submit(clients: &[Client], moulds: &[Mould], at_once: usize, watch: Stopwatch) -> Result<Run, Failure> {
    let (watch, answers) = (RefCell::new(watch), Cell::new(0u64));
    let turns = RefCell::new(moulds.iter().cycle());
    let caller = async |client: &Client| -> Result<(), Failure> {
        while watch.borrow_mut().begins() {
            let Some(mould) = turns.borrow_mut().next() else { return Ok(()) };
            let (stamp, begun) = (stamp()?, Instant::now());
            match client.submit_cast(mould, stamp).await {
                Ok(receipt) => {
                    watch.borrow_mut().answered(begun);
                    answers.set(answers.get() + 1);
                    if let Some(receipt) = receipt.filter(|_| answers.get() % CHECKED_OF == 1) {
                        client.accepts(mould, stamp, receipt)?;
                    }
                }
                Err(trouble) => refused(trouble, &watch)?,
            }
        }
        Ok(())
    };
    try_join_all(clients.iter().cycle().take(at_once).map(caller)).await?;
    Ok(watch.into_inner().stop())
}

/// Requests, so many at once; `worker` answers each of them.
pub async fn request(
    (asker, worker): (&Client, &Client),
    (mould, reply): (&Mould, &Mould),
    at_once: usize,
    watch: Stopwatch,
) -> Result<Run, Failure> {
    let watch = RefCell::new(watch);
    let caller = async |()| -> Result<(), Failure> {
        while watch.borrow_mut().begins() {
            let begun = Instant::now();
            match asker.request_cast(mould, stamp()?, PATIENCE).await {
                Ok(()) => watch.borrow_mut().answered(begun),
                Err(trouble) => refused(trouble, &watch)?,
            }
        }
        Ok(())
    };
    let asked = try_join_all((0..at_once).map(|_| caller(())));
    tokio::select! {
        asked = asked => drop(asked?),
        worked = answer(worker, reply) => worked?,
    }
    Ok(watch.into_inner().stop())
}

/// Answers every message with a reply, and takes it.
async fn answer(worker: &Client, reply: &Mould) -> Result<(), Failure> {
    let (hand, mut tray) = worker.tray(CREDITS).await?;
    let (pipe, mut answers) = worker.pipe().await?;
    let mut owed = 0;
    loop {
        tokio::select! {
            laid = tray.next() => match laid? {
                Some(Laid::Message { delivery, id }) => {
                    if pipe.ready().await {
                        pipe.send_reply(reply, stamp()?, &id);
                    }
                    hand.take(delivery).await;
                }
                Some(_) => give_back(&hand, &mut owed).await,
                None => return Ok(()),
            },
            answer = answers.next(worker) => if answer?.is_none() { return Ok(()) },
        }
    }
}

/// Deliveries that are under way at once.
const CREDITS: u32 = 1_024;

async fn give_back(hand: &Hand, owed: &mut u32) {
    *owed += 1;
    if *owed == CREDITS_AT_ONCE {
        hand.grant(std::mem::take(owed)).await;
    }
}

/// Messages over one stream, so many without an answer at once, cast in each mould in turn.
pub async fn stream(client: &Client, moulds: &[Mould], at_once: usize, mut watch: Stopwatch) -> Result<Run, Failure> {
    let (pipe, mut answers) = client.pipe().await?;
    let (mut pipe, mut turns) = (Some(pipe), moulds.iter().cycle());
    let mut open: HashMap<String, (&Mould, Stamp, Instant)> = HashMap::with_capacity(at_once);
    let mut taken = 0u64;
    loop {
        tokio::select! {
            biased;
            ready = room(pipe.as_ref(), open.len() < at_once) => {
                let sent = pipe.as_ref().filter(|_| ready && watch.begins());
                let Some((sent, mould)) = sent.zip(turns.next()) else {
                    pipe = None;
                    continue;
                };
                let stamp = stamp()?;
                open.insert(stamp.id.to_string(), (mould, stamp, Instant::now()));
                sent.send_cast(mould, stamp);
            }
            answer = answers.next(client) => {
                let Some((id, answer)) = answer? else { return Ok(watch.stop()) };
                let Some((mould, stamp, begun)) = open.remove(&id) else { continue };
                match answer {
                    Ok(receipt) => {
                        watch.answered(begun);
                        taken += 1;
                        if taken % CHECKED_OF == 1 {
                            client.accepts(mould, stamp, receipt)?;
                        }
                    }
                    Err(_) => watch.refused(),
                }
            }
        }
    }
}

/// Room for one more message on a stream that is still wanted; false when the stream has ended.
async fn room(pipe: Option<&Pipe>, wanted: bool) -> bool {
    match pipe.filter(|_| wanted) {
        Some(pipe) => pipe.ready().await,
        None => std::future::pending().await,
    }
}

/// Takes what waits in the mailbox until it is silent; from its delivery until the outcome is durable.
pub async fn receive(worker: &Client, mut watch: Stopwatch) -> Result<Run, Failure> {
    let (hand, mut tray) = worker.tray(CREDITS).await?;
    let mut open: HashMap<String, Instant> = HashMap::new();
    let mut owed = 0;
    while let Ok(laid) = tokio::time::timeout(SILENCE, tray.next()).await {
        match laid? {
            Some(Laid::Message { delivery, .. } | Laid::Receipts { delivery, .. }) => {
                open.insert(delivery.clone(), Instant::now());
                hand.take(delivery).await;
            }
            Some(Laid::Settled { delivery }) => {
                open.remove(&delivery).into_iter().for_each(|begun| watch.answered(begun));
                give_back(&hand, &mut owed).await;
            }
            Some(Laid::Other) => give_back(&hand, &mut owed).await,
            None => break,
        }
    }
    Ok(watch.stop())
}

/// The whole way, from submission: until the sender has the receipt of acceptance, and until it has that of the handover.
pub struct Walked {
    pub accepted: Run,
    pub handed_over: Run,
}

/// The whole way: a message is sent, accepted, delivered and taken, and its sender has the receipt of the handover.
pub async fn end_to_end(
    (sender, worker): (&Client, &Client),
    mould: &Mould,
    at_once: usize,
    watch: Stopwatch,
) -> Result<Walked, Failure> {
    let (pipe, answers) = sender.pipe().await?;
    let (home, receipts) = sender.tray(CREDITS).await?;
    let accepted = RefCell::new(watch.beside());
    let (open, unanswered) = Default::default();
    let way = Way { mould, at_once, watch: RefCell::new(watch), open, accepted, unanswered };
    let taken = take_all(worker);
    let walked = way.walk((pipe, answers), (home, receipts), sender);
    tokio::select! {
        walked = walked => walked?,
        taken = taken => taken?,
    }
    Ok(Walked { accepted: way.accepted.into_inner().stop(), handed_over: way.watch.into_inner().stop() })
}

/// Takes everything, for ever.
async fn take_all(worker: &Client) -> Result<(), Failure> {
    let (hand, mut tray) = worker.tray(CREDITS).await?;
    let mut owed = 0;
    while let Some(laid) = tray.next().await? {
        match laid {
            Laid::Message { delivery, .. } | Laid::Receipts { delivery, .. } => hand.take(delivery).await,
            Laid::Settled { .. } | Laid::Other => give_back(&hand, &mut owed).await,
        }
    }
    Ok(())
}

/// Messages on the whole way, by their ids.
struct Way<'a> {
    mould: &'a Mould,
    at_once: usize,
    watch: RefCell<Stopwatch>,
    open: RefCell<HashMap<MessageId, Instant>>,
    /// Of the first answers; those that have none yet, by their ids as they are sent.
    accepted: RefCell<Stopwatch>,
    unanswered: RefCell<HashMap<String, Instant>>,
}

impl Way<'_> {
    async fn walk(
        &self,
        (pipe, mut answers): (Pipe, Answers),
        (home, mut receipts): (Hand, Tray<'_>),
        sender: &Client,
    ) -> Result<(), Failure> {
        let (mut owed, mut all_sent) = (0, false);
        while !(all_sent && self.open.borrow().is_empty() && self.unanswered.borrow().is_empty()) {
            let wanted = !all_sent && self.open.borrow().len() < self.at_once;
            tokio::select! {
                biased;
                ready = room(Some(&pipe), wanted) => {
                    if !ready || !self.watch.borrow_mut().begins() {
                        all_sent = true;
                        continue;
                    }
                    let stamp = stamp()?;
                    let begun = Instant::now();
                    self.open.borrow_mut().insert(stamp.id, begun);
                    self.unanswered.borrow_mut().insert(stamp.id.to_string(), begun);
                    pipe.send_cast(self.mould, stamp);
                }
                answer = answers.next(sender) => match answer? {
                    Some((id, Ok(_))) => {
                        let begun = self.unanswered.borrow_mut().remove(&id);
                        begun.into_iter().for_each(|begun| self.accepted.borrow_mut().answered(begun));
                    }
                    Some((id, Err(_))) => self.refused(&id),
                    None => return Ok(()),
                },
                laid = receipts.next() => match laid? {
                    Some(Laid::Receipts { delivery, receipts }) => {
                        receipts.iter().for_each(|receipt| self.home(&receipt.leaf));
                        home.take(delivery).await;
                    }
                    Some(Laid::Message { delivery, .. }) => home.take(delivery).await,
                    Some(_) => give_back(&home, &mut owed).await,
                    None => return Ok(()),
                },
            }
        }
        Ok(())
    }

    fn refused(&self, id: &str) {
        if self.unanswered.borrow_mut().remove(id).is_some() {
            self.accepted.borrow_mut().refused();
        }
        if id.parse().is_ok_and(|id: MessageId| self.open.borrow_mut().remove(&id).is_some()) {
            self.watch.borrow_mut().refused();
        }
    }

    /// A receipt has come home; only that of the handover ends the way.
    fn home(&self, leaf: &[u8]) {
        let handed_over = Evidence::from_leaf(leaf).ok().filter(|evidence| evidence.event == Event::HandedOver);
        let begun = handed_over.and_then(|evidence| self.open.borrow_mut().remove(&evidence.message_id));
        begun.into_iter().for_each(|begun| self.watch.borrow_mut().answered(begun));
    }
}
