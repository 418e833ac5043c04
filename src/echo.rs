//! Decides when a test message goes to which partner, and how the way there and back stands, as the receipts in the store
//! tell. Never holds anything that the store does not: a restart forgets nothing.

mod rounds;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use crate::courier::Ground;
use crate::evidence::State;
use crate::id::MessageId;
use crate::intake::Intake;
use crate::limits::TESTS_SEEN;
use crate::party::{Division, Member};
use crate::reason::Reason;
use crate::store::{self, LaneName, Snapshot, Tested};
use crate::time::Time;
use crate::wire::status::Refused;

/// The stage of a way at which a test message breaks that the partner's gateway does not take over.
pub const ECHO: &str = "echo";
/// The stage at which one breaks whose last receipt does not come home.
pub const RECEIPT: &str = "receipt";

/// How the way from this city to a partner and back stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Never tried, or the partner is of a release that knows no tests.
    Unknown,
    /// A test is under way.
    Pending,
    /// The last receipt of the newest test came home, so many milliseconds after the message was taken into custody.
    Ok { round_trip_ms: u64 },
    /// It did not: where the way breaks, and the reason that a receipt gives, if one does.
    Broken { stage: &'static str, reason: String },
}

impl Standing {
    /// The standing in one word.
    pub fn word(&self) -> &'static str {
        match self {
            Standing::Unknown => "unknown",
            Standing::Pending => "pending",
            Standing::Ok { .. } => "ok",
            Standing::Broken { .. } => "broken",
        }
    }
}

/// A partner, and how the way to it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub partner: Division,
    pub standing: Standing,
    /// When the test began, or since when a stage before it is at fault.
    pub at: Option<Time>,
    pub test: Option<MessageId>,
}

/// At which stage the way to each member breaks when it is dialled, and since when.
#[derive(Clone, Debug, Default)]
pub struct Breaks(Arc<ArcSwap<Found>>);

/// What the newest examination found, and when it began: what came after that may have come to pass behind its back.
#[derive(Debug, Default)]
struct Found {
    at: Time,
    broken: BTreeMap<Member, (&'static str, Time)>,
}

impl Breaks {
    /// Replaces what was found before; what was broken there already is so since then.
    pub fn say(&self, broken: impl IntoIterator<Item = (Member, &'static str)>, at: Time) {
        let before = self.0.load();
        let since = |(member, stage): (Member, &'static str)| {
            let same = before.broken.get(&member).filter(|(was, _)| *was == stage);
            let since = same.map_or(at, |(_, since)| *since);
            (member, (stage, since))
        };
        self.0.store(Arc::new(Found { at, broken: broken.into_iter().map(since).collect() }));
    }

    /// Where the way to this partner breaks and since when, if that was seen after this moment.
    fn of(&self, partner: &Division, after: Time) -> Option<(&'static str, Time)> {
        let found = self.0.load();
        found.broken.get(&Member::City(partner.clone())).copied().filter(|_| found.at > after)
    }
}

/// Tests the ways to all partners.
#[derive(Clone)]
pub struct Echo {
    intake: Arc<Intake>,
    ground: Ground,
    breaks: Breaks,
    /// One test begins at a time, so that each partner has one under way at most.
    turn: Arc<Semaphore>,
}

impl Echo {
    pub fn new(intake: Arc<Intake>, ground: Ground, breaks: Breaks) -> Echo {
        Echo { intake, ground, breaks, turn: Arc::new(Semaphore::new(1)) }
    }

    /// The other cities of the alliance, to each of which there is a way to be tested. A hub has none: it sends nothing of
    /// its own.
    pub fn partners(&self) -> Vec<Division> {
        let Member::City(own) = &self.ground.own else { return vec![] };
        let rules = self.ground.rules.load();
        let city = |member: &Member| match member {
            Member::City(city) if city != own => Some(city.clone()),
            _ => None,
        };
        rules.directory.entries().filter_map(|entry| city(&entry.record.member)).collect()
    }

    /// How the way to each partner stands.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn pairs(&self) -> Result<Vec<Pair>, Refused> {
        let echo = self.clone();
        let pairs = self.ground.readers.seek(move |look| {
            let tested = echo.tested(look)?.into_iter();
            Ok(tested.map(|(partner, tests)| echo.pair(partner, &tests)).collect())
        });
        pairs.await.map_err(unreadable)
    }

    /// How the way to each partner stands by the newest test that has ended.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn settled(&self, look: &Snapshot<'_>) -> Result<Vec<(Division, Standing)>, store::Error> {
        let now = self.ground.clock.now();
        Ok(self.tested(look)?.into_iter().map(|(partner, tests)| (partner, settled(&tests, now).0)).collect())
    }

    fn tested(&self, look: &Snapshot<'_>) -> Result<Vec<(Division, Vec<Tested>)>, store::Error> {
        let Member::City(own) = &self.ground.own else { return Ok(vec![]) };
        let tested = self.partners().into_iter().map(|partner| {
            let tests = look.tests(own, &partner, TESTS_SEEN)?;
            Ok((partner, tests))
        });
        tested.collect()
    }

    /// Begins a test of the way to a partner, unless one is under way, and waits for its end, so long at most: how the way
    /// stands then.
    ///
    /// # Errors
    /// There is no such partner, no way to it, or no room for a message.
    pub async fn test(&self, partner: &Division, wait_ms: u64) -> Result<Pair, Refused> {
        let until = self.ground.clock.now().plus_ms(wait_ms);
        if !self.partners().contains(partner) {
            return Err(Refused::new(Reason::NoRoute).with_detail("no such partner"));
        }
        let (echo, to) = (self.clone(), partner.clone());
        // In a task of its own: the turn is kept until the message is known, though the caller goes away.
        let begun = tokio::spawn(async move { echo.begin(&to).await });
        let tested = begun.await.unwrap_or_else(|_| Err(Refused::new(Reason::Internal)))?;
        self.end_of(partner, tested, until).await
    }

    /// The test that is under way, begun just now where there was none.
    async fn begin(&self, partner: &Division) -> Result<Tested, Refused> {
        let _turn = self.turn.acquire().await.map_err(|_| Refused::new(Reason::ShuttingDown))?;
        let newest = self.newest(partner).await?;
        if let Some(tested) = newest.filter(|tested| is_under_way(tested, self.ground.clock.now())) {
            return Ok(tested);
        }
        self.intake.test(partner).await?;
        self.newest(partner).await?.ok_or_else(|| Refused::new(Reason::Internal))
    }

    async fn end_of(&self, partner: &Division, mut tested: Tested, until: Time) -> Result<Pair, Refused> {
        let (clock, bells) = (&self.ground.clock, self.ground.ledger.bells());
        let until = until.min(tested.expires_at);
        let mut bell = bells.watch(tested.seq);
        let ended = loop {
            // Hung up before the look: an end meanwhile is seen by the one or the other.
            bell.mark_unchanged();
            match self.newest(partner).await {
                Ok(Some(newest)) => tested = newest,
                Ok(None) => break Err(Refused::new(Reason::Internal)),
                Err(refused) => break Err(refused),
            }
            let now = clock.now();
            if !is_under_way(&tested, now) || now >= until {
                break Ok(self.pair(partner.clone(), std::slice::from_ref(&tested)));
            }
            tokio::select! {
                rung = bell.changed() => if rung.is_err() {
                    break Err(Refused::new(Reason::ShuttingDown));
                },
                () = clock.until(until) => {}
            }
        };
        drop(bell);
        bells.unwatch(tested.seq);
        ended
    }

    async fn newest(&self, partner: &Division) -> Result<Option<Tested>, Refused> {
        let (own, partner) = (self.own()?, partner.clone());
        let tests = self.ground.readers.seek(move |look| look.tests(&own, &partner, 1)).await;
        Ok(tests.map_err(unreadable)?.into_iter().next())
    }

    fn own(&self) -> Result<Division, Refused> {
        match &self.ground.own {
            Member::City(own) => Ok(own.clone()),
            Member::Hub(_) => Err(Refused::new(Reason::NotPermitted).with_detail("a hub tests no way")),
        }
    }

    /// How a way stands by its tests, newest first, and by what was found when its partner was dialled.
    fn pair(&self, partner: Division, tests: &[Tested]) -> Pair {
        let (newest, standing) = (tests.first(), newest(tests, self.ground.clock.now()));
        let pair = |standing, at| Pair { partner: partner.clone(), standing, at, test: newest.map(|tested| tested.id) };
        let straight = newest.is_some_and(|tested| tested.lane == LaneName::Gateway(Member::City(partner.clone())));
        let ended_at = newest.and_then(|tested| tested.closed_at).unwrap_or_default();
        match (standing, self.breaks.of(&partner, ended_at)) {
            // It says no more than that nothing came of it: where it breaks shows when the partner is dialled.
            (Standing::Broken { stage: ECHO, reason }, _) if straight => {
                let stage = self.breaks.of(&partner, Time::ZERO).map_or(ECHO, |(stage, _)| stage);
                pair(Standing::Broken { stage, reason }, newest.map(|tested| tested.stored_at))
            }
            // It has broken since.
            (Standing::Ok { .. }, Some((stage, since))) if straight => {
                pair(Standing::Broken { stage, reason: String::new() }, Some(since))
            }
            (standing, _) => pair(standing, newest.map(|tested| tested.stored_at)),
        }
    }
}

/// How the way stands by its newest test; they come newest first.
pub fn newest(tests: &[Tested], now: Time) -> Standing {
    match tests.first() {
        None => Standing::Unknown,
        Some(tested) if is_under_way(tested, now) => Standing::Pending,
        Some(tested) => ended(tested),
    }
}

/// How the way stands by the newest test that has ended: one under way says nothing yet.
pub fn settled(tests: &[Tested], now: Time) -> (Standing, Option<&Tested>) {
    let over = tests.iter().find(|tested| !is_under_way(tested, now));
    (over.map_or(Standing::Unknown, ended), over)
}

fn is_under_way(tested: &Tested, now: Time) -> bool {
    !tested.state.is_final() && now < tested.expires_at
}

fn ended(tested: &Tested) -> Standing {
    let reason = tested.reason.as_ref().map_or("", |code| code.as_str()).to_owned();
    // Their rules know no such item: it is of a release before there were tests.
    let unknown = [Reason::NoMatchingItem.code(), Reason::RouteRefused.code()];
    match tested.state {
        State::Confirmed => {
            let came_home = tested.closed_at.unwrap_or(tested.stored_at);
            Standing::Ok { round_trip_ms: came_home.since_ms(tested.stored_at) }
        }
        State::Rejected | State::Failed if unknown.contains(&reason.as_str()) => Standing::Unknown,
        _ => Standing::Broken { stage: if tested.taken { RECEIPT } else { ECHO }, reason },
    }
}

fn unreadable(error: store::Error) -> Refused {
    tracing::error!(%error, "the tests cannot be read");
    Refused::new(Reason::StoreUnavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tested(state: State, taken: bool, reason: &str) -> Tested {
        let at = Time::from_ms;
        Tested {
            seq: 1,
            id: MessageId::from_bytes([1; 16]),
            state,
            lane: LaneName::Gateway("440600".parse().unwrap()),
            stored_at: at(1_000),
            expires_at: at(9_000),
            closed_at: state.is_final().then_some(at(1_250)),
            taken,
            reason: reason.parse().ok(),
        }
    }

    #[test]
    fn a_way_stands_as_its_newest_test_ended() {
        let (early, late) = (Time::from_ms(2_000), Time::from_ms(9_000));
        let broken = |stage, reason: &str| Standing::Broken { stage, reason: reason.to_owned() };
        let rows = [
            (tested(State::Accepted, false, ""), early, Standing::Pending),
            (tested(State::Relayed, true, ""), early, Standing::Pending),
            (tested(State::Confirmed, true, "OUT_OF_ORDER"), early, Standing::Ok { round_trip_ms: 250 }),
            (tested(State::Accepted, false, ""), late, broken(ECHO, "")),
            (tested(State::Expired, false, "MESSAGE_EXPIRED"), late, broken(ECHO, "MESSAGE_EXPIRED")),
            (tested(State::Rejected, false, "RELAY_NOT_ALLOWED"), early, broken(ECHO, "RELAY_NOT_ALLOWED")),
            (tested(State::Rejected, false, "NO_MATCHING_ITEM"), early, Standing::Unknown),
            // A hub took it over, and nobody behind it.
            (tested(State::Relayed, false, ""), late, broken(ECHO, "")),
            (tested(State::Relayed, true, ""), late, broken(RECEIPT, "")),
        ];
        for (tested, now, standing) in rows {
            assert_eq!(newest(std::slice::from_ref(&tested), now), standing, "{tested:?}");
        }
        assert_eq!(newest(&[], early), Standing::Unknown);
    }

    #[test]
    fn one_under_way_does_not_hide_how_the_one_before_ended() {
        let tests = [tested(State::Accepted, false, ""), tested(State::Expired, false, "")];
        let (standing, over) = settled(&tests, Time::from_ms(2_000));
        assert_eq!((standing.word(), over.map(|tested| tested.state)), ("broken", Some(State::Expired)));
        assert_eq!(settled(&tests[..1], Time::from_ms(2_000)).0, Standing::Unknown);
    }

    #[test]
    fn what_is_broken_is_so_since_it_was_found_first() {
        let (breaks, partner) = (Breaks::default(), "440600".parse::<Division>().unwrap());
        let say = |stage: Option<&'static str>, at: u64| {
            breaks.say(stage.map(|stage| (Member::City(partner.clone()), stage)), Time::from_ms(at));
            breaks.of(&partner, Time::from_ms(at - 1)).map(|(stage, since)| (stage, since.ms()))
        };
        assert_eq!(say(Some("tcp"), 1), Some(("tcp", 1)));
        assert_eq!(say(Some("tcp"), 2), Some(("tcp", 1)));
        assert_eq!(say(Some("tls"), 3), Some(("tls", 3)));
        assert_eq!(say(None, 4), None);
        assert_eq!(say(Some("tls"), 5), Some(("tls", 5)));
        assert_eq!(breaks.of(&partner, Time::from_ms(5)), None, "what was seen before says nothing of what came after");
    }
}
