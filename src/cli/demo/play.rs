//! Decides the course of the demo once all gateways serve: the cities' systems work, and every message is watched until it has
//! ended. Never ends before its receipts are home, and never waits for ever.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream;
use tokio::sync::mpsc;

use super::super::client::{Client, Grade, Told, Trouble};
use super::super::{Exit, Failure, Out, case, receipt};
use super::board::{Board, Place, Screen};
use super::cases::Case;
use super::cast::{CITIES, City};
use super::diary::{Diary, Did};
use super::office::{Office, passes};
use super::stage::Gateways;
use super::{STANDSTILL, drama};
use crate::evidence::State;

/// Messages asked for at once and in one round of one city, and the shortest pause between two rounds. Messages end in about the
/// order in which they were sent, so asking for all of them each time would only keep the gateways from their work.
const ASK_AT_ONCE: usize = 32;
const ASKED_MAX: usize = 64;
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// The demo, played.
pub struct Played {
    pub cases: Vec<Case>,
    /// From the program's start to the first receipt in hand.
    pub first_receipt: Duration,
    /// … to the last message's end.
    pub ended: Duration,
    /// The trust file.
    pub trust: String,
    /// The page of the first case's file.
    pub page: PathBuf,
}

/// The demo, being played.
struct Play<'a> {
    offices: Vec<Office<'a>>,
    board: &'a RefCell<Board>,
    screen: &'a Screen,
    gateways: &'a Gateways<'a>,
}

/// Plays `count` cases to their end, then fetches all receipts.
pub async fn play(
    clients: Vec<Client>,
    gateways: &Gateways<'_>,
    count: usize,
    started: Instant,
    folder: &Path,
    out: &Out,
) -> Result<Played, Failure> {
    let board = Board::new(count, started)?;
    let (messages, _) = board.count();
    let (board, screen) = (RefCell::new(board), Screen::new(messages, out));
    let (mut offices, mut posted) = (vec![], vec![]);
    for (city, client) in CITIES.into_iter().zip(clients) {
        let (office, places) = Office::new(city, client, Diary::open(&city.diary(folder))?, &board, messages);
        offices.push(office);
        posted.push(places);
    }
    let play = Play { offices, board: &board, screen: &screen, gateways };
    play.run(posted).await?;
    let ended = started.elapsed();
    screen.close(&board.borrow());
    gateways.ready(play.offices.iter().map(|office| &office.client)).await?;
    play.fetch().await?;
    let (no, city) = play.board.borrow().cases.first().map(|case| (case.no(), case.applicant)).ok_or_else(no_case)?;
    let applicant = &play.office(city)?.client;
    let page = case::export(applicant, &no.parse().map_err(|_| no_case())?, &folder.join(format!("case-{no}"))).await?;
    let trust = receipt::trust(&applicant.directory, Grade::Instant);
    let first_receipt = board.borrow().first_receipt.unwrap_or(ended);
    let cases = std::mem::take(&mut board.borrow_mut().cases);
    Ok(Played { cases, first_receipt, ended, trust, page })
}

impl Play<'_> {
    /// Every case starts, all offices work, some gateways fall, until everything has ended.
    async fn run(&self, posted: Vec<mpsc::Receiver<Place>>) -> Result<(), Failure> {
        let starts: Vec<_> = (0..self.board.borrow().cases.len()).map(|case| Place { case, act: 0 }).collect();
        for start in starts {
            let sender = self.board.borrow().sender(start);
            self.office(sender)?.send_later(start)?;
        }
        let work = try_join_all(self.offices.iter().map(Office::receive));
        let post = try_join_all(self.offices.iter().zip(posted).map(|(office, posted)| office.send(posted)));
        let course =
            async { tokio::try_join!(self.watch(), drama::play(self.board, self.gateways, self.screen)).map(|_| ()) };
        tokio::select! {
            ended = course => ended,
            failed = work => failed.map(|_| ()),
            failed = post => failed.map(|_| ()),
        }
    }

    fn office(&self, city: &City) -> Result<&Office<'_>, Failure> {
        let found = self.offices.iter().find(|office| office.city == city);
        found.ok_or_else(|| Failure::new(Exit::Software, "a city of the demo has no office", "演示城市没有业务系统"))
    }

    /// Asks the senders' gateways where each message is until all have ended and every outcome is written down.
    async fn watch(&self) -> Result<(), Failure> {
        loop {
            let (all, ended) = self.board.borrow().count();
            if all == ended && self.offices.iter().all(Office::is_done) {
                return Ok(());
            }
            if self.board.borrow().changed.elapsed() > STANDSTILL {
                let (en, zh) = ("nothing has changed for half a minute", "半分钟内没有任何变化");
                return Err(Failure::new(Exit::TempFail, en, zh));
            }
            self.gateways.still_running()?;
            let begun = Instant::now();
            let mut told = stream::iter(self.under_way()).map(|place| self.ask(place)).buffer_unordered(ASK_AT_ONCE);
            while let Some((place, told)) = told.next().await {
                match told {
                    Ok(told) => self.learn(place, &told)?,
                    Err(trouble) if passes(&trouble) => {}
                    Err(trouble) => return Err(trouble.into()),
                }
            }
            self.screen.draw(&self.board.borrow());
            // Whoever watches takes a third of the time at most.
            tokio::time::sleep(LOOK_EVERY.max(begun.elapsed() * 2)).await;
        }
    }

    /// Of each city the first messages that have not ended.
    fn under_way(&self) -> Vec<Place> {
        let board = self.board.borrow();
        let open = |city: &City| {
            let all = places(&board.cases).filter(|place| board.sender(*place) == city);
            all.filter(|place| board.message(*place).state.is_some_and(|state| !state.is_final()))
                .take(ASKED_MAX)
                .collect::<Vec<_>>()
        };
        CITIES.iter().flat_map(|city| open(city)).collect()
    }

    async fn ask(&self, place: Place) -> (Place, Result<Told, Trouble>) {
        let (city, id) = (self.board.borrow().sender(place), self.board.borrow().message(place).id);
        match self.office(city) {
            Ok(office) => (place, office.client.message(None, id).await),
            Err(_) => (place, Err(Trouble::unsound("a city without an office", "城市没有业务系统"))),
        }
    }

    /// What a sender was told; of the end it writes.
    fn learn(&self, place: Place, told: &Told) -> Result<(), Failure> {
        if self.board.borrow_mut().learn(place, told) {
            let (city, id) = (self.board.borrow().sender(place), self.board.borrow().message(place).id);
            let did = match told.state {
                State::Confirmed => Did::ToldConfirmed,
                State::Rejected => Did::ToldRejected,
                _ => Did::ToldOther,
            };
            self.office(city)?.diary.note(did, id)?;
        }
        Ok(())
    }

    /// Fetches the receipts of every message from its sender's gateway, each checked.
    async fn fetch(&self) -> Result<(), Failure> {
        let all: Vec<Place> = places(&self.board.borrow().cases).collect();
        let fetch = async |place: Place| {
            let (city, id) = (self.board.borrow().sender(place), self.board.borrow().message(place).id);
            let receipts = receipt::of_message(&self.office(city)?.client, None, id, Grade::Instant).await?;
            Ok::<_, Failure>((place, receipts))
        };
        let mut fetched = stream::iter(all).map(fetch).buffer_unordered(ASK_AT_ONCE);
        while let Some(fetched) = fetched.next().await {
            let (place, receipts) = fetched?;
            self.board.borrow_mut().cases[place.case].messages[place.act].receipts = receipts;
        }
        Ok(())
    }
}

fn no_case() -> Failure {
    Failure::new(Exit::Software, "the demo has no case", "演示没有办件")
}

/// All messages, in the order of their cases.
fn places(cases: &[Case]) -> impl Iterator<Item = Place> {
    cases.iter().enumerate().flat_map(|(case, found)| (0..found.messages.len()).map(move |act| Place { case, act }))
}
