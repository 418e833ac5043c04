//! Decides what is known of a demo that plays: where each message is and what each gateway is at; and draws it. On a terminal the
//! table is drawn in place, elsewhere a line every few seconds. Never asks anybody.

use std::cell::Cell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::super::client::Told;
use super::super::{Failure, Lang, Out};
use super::cases::{self, Case, Message};
use super::cast::{CITIES, City};
use crate::evidence::State;
use crate::id::MessageId;

/// Between two lines where nobody watches a terminal.
const LINE_EVERY: Duration = Duration::from_secs(3);

/// What is known so far.
pub struct Board {
    pub cases: Vec<Case>,
    places: HashMap<MessageId, Place>,
    /// From the program's start to the first receipt in hand.
    pub first_receipt: Option<Duration>,
    /// When something last changed.
    pub changed: Instant,
    started: Instant,
    gateways: HashMap<&'static str, Standing>,
}

/// A message, by its case's place and its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub case: usize,
    pub act: usize,
}

/// What a gateway is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Serves,
    /// SIGKILL took it.
    Killed,
    /// It was asked to stop, and did.
    Away,
}

impl Board {
    /// Sets up `count` cases; nothing is sent yet.
    pub fn new(count: usize, started: Instant) -> Result<Board, Failure> {
        let items = cases::items(count).into_iter().zip(1..);
        let cases = items.map(|(item, number)| Case::new(number, item)).collect::<Result<Vec<_>, _>>()?;
        let mut places = HashMap::new();
        for (case, found) in cases.iter().enumerate() {
            places.extend(found.messages.iter().enumerate().map(|(act, message)| (message.id, Place { case, act })));
        }
        let (changed, gateways) = (Instant::now(), HashMap::new());
        Ok(Board { cases, places, first_receipt: None, changed, started, gateways })
    }

    /// How many messages there are, and how many of them have ended.
    pub fn count(&self) -> (usize, usize) {
        (self.places.len(), self.messages().filter(|message| message.ended()).count())
    }

    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.cases.iter().flat_map(|case| &case.messages)
    }

    pub fn message(&self, at: Place) -> &Message {
        &self.cases[at.case].messages[at.act]
    }

    /// Where a message stands; `None` for one that is not of this demo.
    pub fn place(&self, id: MessageId) -> Option<Place> {
        self.places.get(&id).copied()
    }

    pub fn sender(&self, at: Place) -> &'static City {
        self.cases[at.case].way(at.act).0
    }

    /// The message that follows in its case.
    pub fn next(&self, at: Place) -> Option<Place> {
        let next = Place { act: at.act + 1, ..at };
        (next.act < self.cases[at.case].messages.len()).then_some(next)
    }

    /// A system has taken a message; where it stands, the first time.
    pub fn taken(&mut self, id: MessageId) -> Option<Place> {
        let place = self.place(id)?;
        let message = &mut self.cases[place.case].messages[place.act];
        (!std::mem::replace(&mut message.taken, true)).then_some(place)
    }

    /// A gateway has given its receipt.
    pub fn accepted(&mut self, at: Place) {
        self.first_receipt.get_or_insert(self.started.elapsed());
        self.cases[at.case].messages[at.act].state.get_or_insert(State::Accepted);
        self.changed = Instant::now();
    }

    /// The sender's gateway has told; whether the message's end is news.
    pub fn learn(&mut self, at: Place, told: &Told) -> bool {
        let message = &mut self.cases[at.case].messages[at.act];
        if message.state == Some(told.state) {
            return false;
        }
        message.state = Some(told.state);
        message.reasons = told.history.iter().flat_map(|event| event.reasons.clone()).collect();
        self.changed = Instant::now();
        told.state.is_final()
    }

    pub fn stands(&mut self, gateway: &'static str, standing: Standing) {
        self.gateways.insert(gateway, standing);
        self.changed = Instant::now();
    }

    /// A city's row: what its gateway is at, what it sent, and how that stands.
    fn row(&self, city: &City, lang: Lang) -> String {
        let standing = self.gateways.get(city.code).copied().unwrap_or(Standing::Serves);
        let [mut under_way, mut confirmed, mut rejected] = [0; 3];
        let sent = self.cases.iter().flat_map(|case| (0..case.messages.len()).map(move |act| (case, act)));
        for (case, act) in sent.filter(|(case, act)| case.way(*act).0 == city) {
            match case.messages[act].state {
                None => {}
                Some(State::Confirmed) => confirmed += 1,
                Some(state) if state.is_final() => rejected += 1,
                Some(_) => under_way += 1,
            }
        }
        let words = standing.words(lang);
        match lang {
            Lang::En => format!(
                "{} {:10} {words:24} {under_way:>5} under way {confirmed:>5} confirmed {rejected:>4} refused",
                city.code, city.en
            ),
            Lang::Zh => format!(
                "{} {} {words:\u{3000}<10} 在途 {under_way:>5}  确认 {confirmed:>5}  退回 {rejected:>4}",
                city.code, city.zh
            ),
        }
    }
}

impl Standing {
    fn words(self, lang: Lang) -> &'static str {
        match self {
            Standing::Serves => lang.tr("serves", "正常服务"),
            Standing::Killed => lang.tr("KILLED (SIGKILL)", "已被强制终止"),
            Standing::Away => lang.tr("AWAY", "离线"),
        }
    }
}

/// Where the board is drawn.
pub struct Screen {
    all: MultiProgress,
    cities: Vec<ProgressBar>,
    whole: ProgressBar,
    lined: Cell<Instant>,
    lang: Lang,
}

impl Screen {
    pub fn new(messages: usize, out: &Out) -> Screen {
        let all = MultiProgress::new();
        let style = |template| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let row = || all.add(ProgressBar::new(1).with_style(style("  {msg}")));
        let cities = CITIES.iter().map(|_| row()).collect();
        let whole = ProgressBar::new(messages as u64).with_style(style("  {bar:60} {pos:>5}/{len} {elapsed}"));
        Screen { whole: all.add(whole), cities, lined: Cell::new(Instant::now()), lang: out.lang, all }
    }

    /// Draws what is known now.
    pub fn draw(&self, board: &Board) {
        let (all, ended) = board.count();
        if !self.all.is_hidden() {
            for (bar, city) in self.cities.iter().zip(CITIES) {
                bar.set_message(board.row(city, self.lang));
            }
            self.whole.set_position(ended as u64);
        } else if self.lined.get().elapsed() >= LINE_EVERY {
            self.lined.set(Instant::now());
            let took = board.started.elapsed().as_secs();
            self.tell(
                &format!("{took} s: {ended} of {all} messages have ended"),
                &format!("{took} 秒：共 {all} 条消息，已办结 {ended} 条"),
            );
        }
    }

    /// Says a line above the table.
    pub fn tell(&self, en: &str, zh: &str) {
        let line = self.lang.tr(en, zh);
        // Nobody listening is no fault.
        if self.all.is_hidden() {
            eprintln!("{line}");
        } else {
            let _ = self.all.println(line);
        }
    }

    /// Leaves the last picture standing.
    pub fn close(&self, board: &Board) {
        self.draw(board);
        self.cities.iter().chain([&self.whole]).for_each(ProgressBar::abandon);
    }
}
