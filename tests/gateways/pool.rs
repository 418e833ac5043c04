//! Shows that a partner with two addresses is reached by the second while the first is dead or silent, that the first is
//! then left alone for its time, and that it returns.

use crate::alliance::{Alliance, Client, Gateway, envelope, free_address};
use crate::process::until;
use crate::wire_cut::Line;
use rusqlite::{Connection, OpenFlags};
use tongban::clock::Clock;
use tongban::config::Config;
use tongban::limits::{ADDRESS_OUT_MS, ATTEMPT_MS, BACKOFF_MS};
use tongban::wire::pb::evidence as pbe;
use tongban::wire::pb::exchange as pb;

const A: &str = "450200";
const B: &str = "440600";
/// After this long an address that failed once is tried again.
const OUT_MS: u64 = 2 * *ADDRESS_OUT_MS.start();

/// Two gateways, and two lines from the first to the second: its addresses, in the order of its record.
struct Roads {
    alliance: Alliance,
    clock: Clock,
    gateways: Vec<Gateway>,
    first: Line,
    second: Line,
    /// Calls of the gateway's own round at its start, by each line.
    examined: (u32, u32),
    window: Client,
    /// Beside the lines.
    archive: Client,
}

impl Roads {
    async fn new(prepare: impl Fn(&Line), examined: (u32, u32)) -> Roads {
        let alliance = Alliance::new(&[(A, &["window"]), (B, &["archive"])]);
        let listens = alliance.config(B).listen.to_string();
        let (one, two) = (free_address(), free_address());
        let endpoints = [&one, &two].map(|address| address.parse().unwrap());
        alliance.change_record(B, |record| record.endpoints = endpoints.to_vec());
        let (first, second) = (Line::open(one, listens.clone()).await, Line::open(two, listens.clone()).await);
        prepare(&first);
        let clock = Clock::default();
        let mut gateways = vec![];
        for city in [B, A] {
            let config = Config { check_every_s: (3600, 3600), ..alliance.config(city) };
            gateways.push(alliance.start_by(&config, clock.clone()).await);
        }
        // Both gateways look after their partners once when they start, which is not what is counted here.
        until("the first gateway has looked at the second", async || {
            first.calls() >= examined.0 && second.calls() >= examined.1
        })
        .await;
        let window = alliance.client(A, "window");
        let (dialler, _) = alliance.dialler_with(alliance.own(&format!("{B}/systems/archive")), B);
        let archive = Client::over(dialler.channel(format!("https://{listens}").parse().unwrap()));
        Roads { alliance, clock, gateways, first, second, examined, window, archive }
    }

    async fn submit(&self) -> String {
        let message = envelope((A, "window"), (B, "archive"));
        self.window.submit(message.clone()).await.unwrap();
        message.message_id
    }

    async fn passes(&self) -> pb::GetMessageResponse {
        let id = self.submit().await;
        self.window.until(A, &id, pbe::State::Consigned).await
    }

    /// Failures of the lane in a row, as the store has them.
    fn failures(&self) -> u32 {
        let store = self.alliance.config(A).data.join("store.db");
        let sql = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let row = |row: &rusqlite::Row<'_>| row.get(0);
        sql.query_row("SELECT failures FROM lane WHERE name = 'gateway/440600'", [], row).unwrap()
    }

    /// Ends the connection of the lane by the second line.
    fn break_second(&self) {
        self.second.cut();
        self.second.mend();
    }

    async fn stop(self) {
        drop((self.window, self.archive));
        for gateway in self.gateways {
            gateway.stop().await;
        }
    }
}

fn calls(roads: &Roads) -> (u32, u32) {
    (roads.first.calls() - roads.examined.0, roads.second.calls() - roads.examined.1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_first_address_costs_no_attempt_is_left_alone_for_its_time_and_returns() {
    let roads = Roads::new(Line::cut, (1, 2)).await;
    roads.passes().await;
    assert_eq!((calls(&roads), roads.failures()), ((1, 1), 0), "the second was dialled in the same breath");

    // The connection breaks within the time out: the first is not touched.
    roads.clock.advance(*ADDRESS_OUT_MS.start() / 2);
    roads.break_second();
    roads.passes().await;
    assert_eq!(calls(&roads), (1, 2));

    // Its time is over, and it is still dead: one trial, and on to the second.
    roads.clock.advance(OUT_MS);
    roads.break_second();
    roads.passes().await;
    assert_eq!(calls(&roads), (2, 3));

    // It is alive again, but nothing is known of that until its second time out, twice as long, is over.
    roads.first.mend();
    roads.clock.advance(2 * OUT_MS);
    roads.second.cut();
    roads.passes().await;
    assert_eq!(calls(&roads), (3, 3), "the first has returned, and is preferred");
    roads.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_falls_silent_under_way_costs_one_attempt() {
    let roads = Roads::new(|_| {}, (2, 0)).await;
    roads.passes().await;
    assert_eq!(calls(&roads), (1, 0), "a healthy first address is kept");

    roads.first.mute();
    let id = roads.submit().await;
    until("the message has been taken, unheard", async || roads.archive.message(A, &id).await.is_ok()).await;
    roads.clock.advance(ATTEMPT_MS + 1);
    until("the attempt has failed", async || roads.failures() == 1).await;
    // The lane rests for its first pause, shorter than the address is out.
    roads.clock.advance(2 * *BACKOFF_MS.start());
    until("the message has been answered", async || roads.failures() == 0).await;
    roads.window.until(A, &id, pbe::State::Consigned).await;
    assert_eq!(calls(&roads), (1, 1), "by the second, without another try of the first");

    roads.first.mend();
    roads.clock.advance(OUT_MS);
    roads.second.cut();
    roads.passes().await;
    assert_eq!(calls(&roads), (2, 1), "the first has returned");
    roads.stop().await;
}
