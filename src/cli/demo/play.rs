//! Decides the course of the demo once both gateways serve: Liuzhou sends, both offices work, and every message is watched
//! until it has ended. Never ends before its receipts are home, and never waits for ever.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::super::client::{Client, Refused, Told, Trouble};
use super::super::send::draft;
use super::super::{Exit, Failure, Out, receipt};
use super::cases::{self, Case};
use super::diary::{Diary, Did};
use super::stage::{FOSHAN, LIUZHOU};
use super::{STANDSTILL, office};
use crate::evidence::State;
use crate::id::MessageId;
use crate::limits::STREAM_OPEN_MAX;
use crate::message::Envelope;
use crate::receipt::Receipt;

/// Messages asked for at once and in one round, and the shortest pause between two rounds. Messages end in about the order in which
/// they were sent, so asking for all of them each time would only keep the gateways from their work.
const ASK_AT_ONCE: usize = 32;
const ASKED_MAX: usize = 128;
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Messages without an answer at once.
const OPEN_MAX: usize = STREAM_OPEN_MAX / 2;

/// The states that the live table shows.
const SHOWN: [State; 5] = [State::Accepted, State::Relayed, State::Consigned, State::Confirmed, State::Rejected];

/// The demo, being played.
pub struct Play {
    window: Client,
    approval: Client,
    window_diary: Diary,
    approval_diary: Diary,
    started: Instant,
    board: RefCell<Board>,
    bars: Vec<ProgressBar>,
}

/// The demo, played.
pub struct Played {
    pub cases: Vec<Case>,
    /// From the program's start to the first receipt in hand.
    pub first_receipt: Duration,
    /// … to the last message's end.
    pub ended: Duration,
    /// The trust file.
    pub trust: String,
}

/// What is known so far.
struct Board {
    cases: Vec<Case>,
    /// A reply that must still come.
    replies_due: usize,
    first_receipt: Option<Duration>,
    changed: Instant,
}

/// A message to be asked for, by its place on the board.
struct Asked {
    place: usize,
    id: MessageId,
    reply: bool,
}

impl Play {
    /// Sets up `count` cases between the two clients' gateways.
    pub fn new(
        (window, approval): (Client, Client),
        count: usize,
        started: Instant,
        folder: &Path,
        out: &Out,
    ) -> Result<Play, Failure> {
        let items = cases::items(count).into_iter().zip(1..);
        let cases = items.map(|(item, number)| Ok(Case::new(number, item, draft::new_id()?)));
        let cases = cases.collect::<Result<Vec<_>, Failure>>()?;
        let replies_due = cases.iter().filter(|case| office::replies_to(case.number)).count();
        let board = Board { cases, replies_due, first_receipt: None, changed: Instant::now() };
        let (window_diary, approval_diary) =
            (Diary::open(&LIUZHOU.diary(folder))?, Diary::open(&FOSHAN.diary(folder))?);
        let (board, bars) = (RefCell::new(board), bars(count + replies_due, out));
        Ok(Play { window, approval, window_diary, approval_diary, started, board, bars })
    }

    /// Plays to the end, then fetches all receipts.
    pub async fn run(self) -> Result<Played, Failure> {
        tokio::select! {
            sent_and_ended = async { tokio::try_join!(self.send(), self.watch()) } => { sent_and_ended?; }
            failed = self.foshan() => { failed?; }
            failed = self.liuzhou() => { failed?; }
        }
        let ended = self.started.elapsed();
        self.write_ends()?;
        self.bars.iter().for_each(ProgressBar::abandon);
        self.fetch().await?;
        let board = self.board.into_inner();
        let trust = receipt::trust(&self.window.directory);
        Ok(Played { cases: board.cases, first_receipt: board.first_receipt.unwrap_or(ended), ended, trust })
    }

    /// Submits every case over one stream.
    async fn send(&self) -> Result<(), Failure> {
        let envelopes = self.envelopes()?;
        let places: HashMap<String, usize> = envelopes.iter().map(|sent| sent.id.to_string()).zip(0..).collect();
        let (pipe, mut answers) = self.window.pipe().await?;
        let mut pipe = Some(pipe);
        let mut sent = 0;
        for answered in 0..=envelopes.len() {
            while let (Some(open), true) = (&pipe, sent < answered + OPEN_MAX) {
                let goes = match envelopes.get(sent) {
                    Some(envelope) => {
                        let ready = open.ready().await;
                        if ready {
                            self.window_diary.note(Did::Sent, envelope.id)?;
                        }
                        ready && open.send(envelope)
                    }
                    None => false,
                };
                sent += usize::from(goes);
                pipe = pipe.filter(|_| goes);
            }
            let Some((id, answer)) = answers.next(&self.window).await? else {
                let closed = || Failure::new(Exit::Unavailable, "the gateway closed the stream", "网关关闭了流");
                return if answered == envelopes.len() { Ok(()) } else { Err(closed()) };
            };
            let unknown = || Trouble::unsound("an answer to a message that was not sent", "应答的消息并未发送");
            let place = *places.get(&id).ok_or_else(unknown)?;
            self.answered(place, answer, &envelopes[place])?;
        }
        Ok(())
    }

    fn envelopes(&self) -> Result<Vec<Envelope>, Failure> {
        let board = self.board.borrow();
        let envelope = |case: &Case| cases::request(case.number, &case.item)?.envelope(&self.window.me, case.id);
        board.cases.iter().map(envelope).collect()
    }

    fn answered(&self, place: usize, answer: Result<Receipt, Refused>, sent: &Envelope) -> Result<(), Failure> {
        let receipt = answer.map_err(|refused| Trouble::Refused(Box::new(refused)))?;
        self.window.accepted(Some(receipt), sent.id, sent.header_digest())?;
        let mut board = self.board.borrow_mut();
        board.first_receipt.get_or_insert(self.started.elapsed());
        board.cases[place].state.get_or_insert(State::Accepted);
        board.changed = Instant::now();
        Ok(())
    }

    async fn foshan(&self) -> Result<(), Failure> {
        let settled = async |envelope: &Envelope| match office::replies_to(office::number_of(envelope)) {
            true => self.reply(envelope).await,
            false => Ok(()),
        };
        let decide = |envelope: &Envelope| office::foshan(office::number_of(envelope));
        office::work(&self.approval, &self.approval_diary, decide, settled).await.map(|never| match never {})
    }

    /// Foshan's own message about a case, back to Liuzhou.
    async fn reply(&self, to: &Envelope) -> Result<(), Failure> {
        let number = office::number_of(to);
        let found = self.board.borrow().cases.iter().find(|case| case.id == to.id).map(|case| case.item.clone());
        let Some(item) = found else { return Ok(()) };
        let envelope = cases::reply(number, &item, to.id)?.envelope(&self.approval.me, draft::new_id()?)?;
        self.approval_diary.note(Did::Sent, envelope.id)?;
        self.approval.submit(&envelope).await?;
        let mut board = self.board.borrow_mut();
        let case = Case { reply: true, state: Some(State::Accepted), ..Case::new(number, item, envelope.id) };
        board.cases.push(case);
        board.replies_due = board.replies_due.saturating_sub(1);
        Ok(())
    }

    async fn liuzhou(&self) -> Result<(), Failure> {
        let acknowledge = |_: &Envelope| super::super::client::Outcome::Acknowledge;
        office::work(&self.window, &self.window_diary, acknowledge, async |_| Ok(())).await.map(|never| match never {})
    }

    /// Asks the senders' gateways where each message is until all have ended.
    async fn watch(&self) -> Result<(), Failure> {
        while !self.board.borrow().all_ended() {
            if self.board.borrow().changed.elapsed() > STANDSTILL {
                return Err(Failure::new(
                    Exit::TempFail,
                    "nothing has changed for half a minute",
                    "半分钟内没有任何变化",
                ));
            }
            let begun = Instant::now();
            let asked = self.board.borrow().under_way();
            let mut told = stream::iter(asked).map(|asked| self.ask(asked)).buffer_unordered(ASK_AT_ONCE);
            while let Some(told) = told.next().await {
                let (place, told) = told?;
                self.board.borrow_mut().learn(place, &told);
            }
            self.board.borrow().draw(&self.bars);
            // Whoever watches takes a third of the time at most.
            tokio::time::sleep(LOOK_EVERY.max(begun.elapsed() * 2)).await;
        }
        Ok(())
    }

    async fn ask(&self, Asked { place, id, reply }: Asked) -> Result<(usize, Told), Trouble> {
        Ok((place, self.sender(reply).message(None, id).await?))
    }

    /// Writes into each sender's diary what its gateway told about the end.
    fn write_ends(&self) -> Result<(), Failure> {
        for case in &self.board.borrow().cases {
            let told = match case.state {
                Some(State::Confirmed) => Did::ToldConfirmed,
                Some(State::Rejected) => Did::ToldRejected,
                _ => Did::ToldOther,
            };
            let diary = if case.reply { &self.approval_diary } else { &self.window_diary };
            diary.note(told, case.id)?;
        }
        Ok(())
    }

    /// Fetches the receipts of every message from its sender's gateway, each checked.
    async fn fetch(&self) -> Result<(), Failure> {
        let asked = self.board.borrow().asked(|_| true);
        let fetch = async |Asked { place, id, reply }| {
            let receipts = receipt::of_message(self.sender(reply), None, id).await?;
            Ok::<_, Trouble>((place, receipts))
        };
        let mut fetched = stream::iter(asked).map(fetch).buffer_unordered(ASK_AT_ONCE);
        while let Some(fetched) = fetched.next().await {
            let (place, receipts) = fetched?;
            self.board.borrow_mut().cases[place].receipts = receipts;
        }
        Ok(())
    }

    fn sender(&self, reply: bool) -> &Client {
        if reply { &self.approval } else { &self.window }
    }
}

impl Board {
    fn all_ended(&self) -> bool {
        self.replies_due == 0 && self.cases.iter().all(Case::ended)
    }

    /// The first of the accepted messages that have not ended.
    fn under_way(&self) -> Vec<Asked> {
        let mut asked = self.asked(|case| case.state.is_some() && !case.ended());
        asked.truncate(ASKED_MAX);
        asked
    }

    fn asked(&self, wanted: impl Fn(&Case) -> bool) -> Vec<Asked> {
        let cases = (0..).zip(&self.cases).filter(|(_, case)| wanted(case));
        cases.map(|(place, case)| Asked { place, id: case.id, reply: case.reply }).collect()
    }

    fn learn(&mut self, place: usize, told: &Told) {
        let case = &mut self.cases[place];
        if case.state != Some(told.state) {
            case.state = Some(told.state);
            case.reasons = told.history.iter().flat_map(|event| event.reasons.clone()).collect();
            self.changed = Instant::now();
        }
    }

    fn draw(&self, bars: &[ProgressBar]) {
        for (bar, state) in bars.iter().zip(SHOWN) {
            bar.set_position(self.cases.iter().filter(|case| case.state == Some(state)).count() as u64);
        }
    }
}

/// The live table: a line for each state; nothing is drawn where nobody looks.
fn bars(count: usize, out: &Out) -> Vec<ProgressBar> {
    let all = MultiProgress::new();
    let style = ProgressStyle::with_template("  {prefix:22} {bar:40} {pos:>4}/{len}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = |state: State| {
        let name = out.lang.tr(state.as_str(), super::super::message::state_zh(state));
        let bar = ProgressBar::new(count as u64).with_style(style.clone()).with_prefix(name);
        all.add(bar)
    };
    SHOWN.into_iter().map(bar).collect()
}
