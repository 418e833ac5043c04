//! Decides what a gateway shows of itself to a monitor: which figures, under which names. Every label is a word of ours, a
//! member or an own system; never a caller's input, a message's content or anything of a person.

mod looks;
mod page;
pub mod remote;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use self::looks::{Looks, Seen};
use crate::clock::Clock;
use crate::echo::Echo;
use crate::grpc::tally::Tally;
use crate::ledger::Counts;
use crate::limits::BREAKER_FAILURES;
use crate::store::{LaneLook, Readers};
use crate::time::Time;
use crate::tls::accept::Counters;
use crate::tls::config::SharedOwn;
use crate::tls::connections::Connections;

pub use self::page::serve;

/// How many findings each check has by verdict, as the newest examination left them.
#[derive(Clone, Debug, Default)]
pub struct Verdicts(Arc<ArcSwap<BTreeMap<(&'static str, &'static str), u64>>>);

impl Verdicts {
    /// Replaces what was found before: a check's id and its verdict, one for each finding.
    pub fn say(&self, findings: impl IntoIterator<Item = (&'static str, &'static str)>) {
        let mut counts = BTreeMap::new();
        for finding in findings {
            *counts.entry(finding).or_insert(0) += 1;
        }
        self.0.store(Arc::new(counts));
    }
}

/// Where a gateway's figures come from: each is counted by its owner.
pub struct Sources {
    pub clock: Clock,
    pub started_at: Time,
    pub tally: Tally,
    pub gate: Arc<Counters>,
    pub connections: Connections,
    pub ledger: Counts,
    pub verdicts: Verdicts,
    /// The certificate that is shown to callers and partners.
    pub certificate: SharedOwn,
    pub readers: Arc<Readers>,
    /// The folder that the store stands in.
    pub data: PathBuf,
    pub echo: Echo,
    /// When the revocation lists of each member that publishes some end. Reads files.
    pub crl_ends: Box<dyn Fn() -> Vec<(String, Time)> + Send + Sync>,
}

/// A gateway's figures, ready to be shown.
pub struct Telemetry {
    sources: Arc<Sources>,
    looks: Looks,
}

impl Telemetry {
    pub fn new(sources: Sources) -> Telemetry {
        Telemetry { sources: Arc::new(sources), looks: Looks::default() }
    }

    /// All figures of this moment, as OpenMetrics text (OpenMetrics 1.0). None when it cannot be written.
    pub async fn text(&self) -> Option<String> {
        let seen = self.looks.at(self.sources.clone()).await;
        let (sources, mut page) = (&self.sources, Registry::default());
        counted(sources, &mut page);
        gauges(sources, &mut page);
        store(&seen, sources.clock.now(), &mut page);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &page).ok()?;
        Some(text)
    }
}

/// What grows only.
fn counted(sources: &Sources, page: &mut Registry) {
    let Sources { tally, ledger, gate, .. } = sources;
    page.register(
        "rpc_server_call_duration_seconds",
        "Calls by service, method and gRPC status, and how long they took",
        tally.durations.clone(),
    );
    page.register("tongban_refusals", "Calls answered with a reason of the catalogue", tally.refusals.clone());
    page.register("tongban_evidence", "Leaves of the log about messages, by event and reason", ledger.evidence.clone());
    page.register("tongban_ledger_commit_duration_seconds", "Time of a commit", ledger.commit_seconds.clone());
    page.register("tongban_ledger_commit_entries", "Entries made true by a commit", ledger.commit_entries.clone());
    page.register("tongban_connections_accepted", "Handshakes that ended well", ConstCounter::new(gate.accepted()));
    let refused = Family::<[(&'static str, &'static str); 1], Counter>::default();
    for (reason, count) in gate.refusals() {
        refused.get_or_create(&[("reason", reason)]).inc_by(count);
    }
    page.register("tongban_connections_refused", "Connections refused or cut off by us, by reason", refused);
}

/// What goes up and down, and costs nothing to know.
fn gauges(sources: &Sources, page: &mut Registry) {
    let version = family([([("version", env!("CARGO_PKG_VERSION"))], 1)]);
    page.register("tongban_build_info", "The program's version", version);
    gauge(page, "tongban_start_time_seconds", "When the gateway started", seconds(sources.started_at));
    gauge(page, "tongban_connections_open", "Connections open now", sources.connections.open() as i64);
    let ends = sources.certificate.load().chain.first().and_then(|leaf| {
        let leaf = crate::tls::identity::parse(leaf).ok()?;
        Some(crate::tls::identity::not_after(&leaf))
    });
    let ends = ends.unwrap_or(Time::ZERO);
    gauge(page, "tongban_certificate_not_after_seconds", "When the gateway's certificate ends", seconds(ends));
    let verdicts = sources.verdicts.0.load();
    let findings =
        verdicts.iter().map(|((check, verdict), count)| ([("check", *check), ("verdict", *verdict)], *count as i64));
    page.register(
        "tongban_check_findings",
        "What the newest examination found, by check and verdict",
        family(findings),
    );
}

/// What was read from the disk a moment ago.
fn store(seen: &Seen, now: Time, page: &mut Registry) {
    gauge(page, "tongban_store_readable", "Whether the store could be read", i64::from(seen.store.is_some()));
    gauge(page, "tongban_store_wal_bytes", "The write-ahead log's size", seen.wal_bytes as i64);
    if let Some(free) = seen.free_bytes {
        let free = i64::try_from(free).unwrap_or(i64::MAX);
        gauge(page, "tongban_store_free_bytes", "Room left on the store's disk", free);
    }
    let crls = seen.crl_ends.iter().map(|(member, ends)| ([("member", member.clone())], seconds(*ends)));
    page.register("tongban_crl_next_update_seconds", "When a member's revocation lists end", family(crls));
    if let Some(forks) = seen.forks {
        gauge(page, "tongban_witness_forks", "Logs of others seen to contradict themselves", forks as i64);
    }
    let Some(store) = &seen.store else { return };
    gauge(page, "tongban_log_leaves", "Leaves in the log", store.leaves as i64);
    let published = store.witnessed.published as i64;
    gauge(page, "tongban_log_published_leaves", "Leaves under the newest published checkpoint", published);
    let cosigned = store.witnessed.cosigned as i64;
    gauge(
        page,
        "tongban_log_cosigned_leaves",
        "Leaves under the newest checkpoint that a partner has cosigned",
        cosigned,
    );
    gauge(page, "tongban_dead_letters_waiting", "Dead letters that wait for somebody", store.dead as i64);
    let tests = store.tests.iter();
    let tests = tests.map(|(partner, status)| ([("partner", partner.clone()), ("status", (*status).to_owned())], 1));
    page.register("tongban_partner_test", "How the newest test of the way to a partner ended", family(tests));
    let of = |value: &dyn Fn(&LaneLook) -> i64| {
        family(store.lanes.iter().map(|lane| ([("lane", lane.name.to_string())], value(lane))))
    };
    let age = |lane: &LaneLook| lane.oldest.map_or(0, |oldest| (now.since_ms(oldest) / 1000) as i64);
    page.register("tongban_lane_oldest_age_seconds", "How long a lane's oldest message has waited", of(&age));
    let waiting = |lane: &LaneLook| store.waiting.get(&lane.name).map_or(0, |count| *count as i64);
    page.register("tongban_lane_waiting", "Messages that wait in a lane", of(&waiting));
    let failures = |lane: &LaneLook| i64::from(lane.state.failures);
    page.register("tongban_lane_failures", "Failures of a lane's partner in a row", of(&failures));
    let open = |lane: &LaneLook| i64::from(lane.state.failures >= BREAKER_FAILURES);
    page.register("tongban_lane_breaker_open", "Whether a lane's breaker is open", of(&open));
    let held = |lane: &LaneLook| i64::from(lane.hold.is_some());
    page.register("tongban_lane_held", "Whether somebody holds a lane", of(&held));
}

fn gauge(page: &mut Registry, name: &str, help: &str, value: i64) {
    page.register(name, help, ConstGauge::new(value));
}

fn seconds(time: Time) -> i64 {
    (time.ms() / 1000) as i64
}

fn family<L>(values: impl IntoIterator<Item = (L, i64)>) -> Family<L, Gauge<i64, AtomicI64>>
where
    L: Clone + std::hash::Hash + Eq,
{
    let family = Family::<L, Gauge<i64, AtomicI64>>::default();
    for (labels, value) in values {
        family.get_or_create(&labels).set(value);
    }
    family
}
