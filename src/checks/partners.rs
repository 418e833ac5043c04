//! Decides how far the way to each partner goes, stage by stage: name, connection, handshake, HTTP/2, answer, clock, and what
//! test messages told of the rest. Never sends a message and never tries twice.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt;
use futures_util::stream;
use tonic::transport::Uri;

use super::advice::{self, Advice};
use super::echo::{self, Tests};
use super::facts::{Look, Seen, Verdict};
use super::{Finding, is_fault};
use crate::clock::Clock;
use crate::config::Config;
use crate::directory::{Directory, MemberRecord};
use crate::grpc::health::{self, Said};
use crate::keys;
use crate::limits::{DIAL_MS, PARTNER_CLOCK_MS_MAX, PARTNERS_AT_ONCE_MAX};
use crate::party::{Member, Party};
use crate::server::trust_of;
use crate::store;
use crate::tls::config::{Moment, Own, SharedTrust, client_config};
use crate::tls::dial::{DialError, Dialler};

/// The stages of the way to a partner and back, in order. Those before the last two are known by dialling it.
pub const STAGES: [&str; 8] = [
    "partner.name",
    "partner.tcp",
    "partner.tls",
    "partner.alpn",
    "partner.health",
    "partner.clock",
    "partner.echo",
    "partner.receipt",
];
/// How many of them dialling shows.
const DIALLED: usize = STAGES.len() - 2;

/// Who dials.
pub struct Caller {
    config: Config,
    trust: SharedTrust,
    clock: Clock,
}

impl Caller {
    /// The gateway of this configuration; none when its own identity does not stand up.
    pub fn new(config: &Config, directory: &Directory, clock: Clock) -> Option<Caller> {
        let trust = trust_of(config, directory).ok()?;
        Some(Caller { config: config.clone(), trust: Arc::new(ArcSwap::from_pointee(trust)), clock })
    }

    /// What dials the gateway of this member as ours does; none when our certificate or key cannot be used.
    pub fn dialler(&self, member: &Member) -> Option<Dialler> {
        let chain = keys::read_certificates(&self.config.certificate).ok()?;
        let own = Own { chain, key: keys::read_private_key(&self.config.key).ok()? };
        let clock = self.clock.clone();
        let expected = Party::gateway(self.config.alliance.clone(), member.clone());
        let tls = client_config(self.trust.clone(), own, Moment::new(move || clock.now()), expected).ok()?;
        Some(Dialler::new(tls).to_partners(self.config.listen.ip()))
    }

    /// Whether the gateway of this configuration itself answers at its address.
    pub async fn own_gateway(&self) -> Look {
        if !store::in_use(&self.config.data) {
            return Look::fault(&advice::GATEWAY_SILENT, self.config.data.display().to_string());
        }
        let listen = self.config.listen;
        let (Some(dialler), Some(address)) = (self.dialler(&self.config.member), own_address(&self.config)) else {
            return Look::fault(&advice::GATEWAY_DEAF, listen.to_string());
        };
        if let Err(error) = dialler.dial(Uri::clone(&address)).await {
            return Look::fault(&advice::GATEWAY_DEAF, Seen::error(&error));
        }
        match self.ask(&dialler, address).await {
            Asked::Serving(_) => Look::good(listen.to_string()),
            Asked::NotServing => Look::fault(&advice::GATEWAY_NOT_SERVING, listen.to_string()),
            Asked::Refused(why) => Look::fault(&advice::GATEWAY_DEAF, foreign(why)),
            Asked::Silent => Look::fault(
                &advice::GATEWAY_DEAF,
                Seen::both(format!("{listen}: silent"), format!("{listen}：没有应答")),
            ),
        }
    }

    /// The way to each of these members, and what became of the newest test messages; none when that cannot be read.
    pub(super) async fn partners(&self, records: Vec<MemberRecord>, tests: Option<&Tests>) -> Vec<Finding> {
        let each = stream::iter(records).map(|record| async move {
            let mut found = self.partner(&record).await;
            let broken = found.iter().find(|finding| is_fault(finding)).map(|finding| finding.check);
            if let (Member::City(_), Member::City(partner)) = (&self.config.member, &record.member) {
                let looks = echo::looks(tests.map(|tests| tests.of(partner)), broken, self.clock.now());
                let stages = STAGES[DIALLED..].iter().zip(looks);
                found.extend(stages.map(|(check, look)| Finding { check, look: look.about(&record.member) }));
            }
            found
        });
        each.buffered(PARTNERS_AT_ONCE_MAX).collect::<Vec<_>>().await.concat()
    }

    async fn partner(&self, record: &MemberRecord) -> Vec<Finding> {
        let member = &record.member;
        if record.pulls() {
            let seen = Seen::both("it cannot be dialled: it fetches here", "无法连接：由其前来取回");
            return findings(member, seen, DIALLED, None);
        }
        let mut worst = vec![];
        for endpoint in &record.endpoints {
            let found = self.address(member, &endpoint.to_string()).await;
            if !found.iter().any(is_fault) {
                return found;
            }
            worst = found;
        }
        worst
    }

    async fn address(&self, member: &Member, endpoint: &str) -> Vec<Finding> {
        let address: Option<Uri> = format!("https://{endpoint}").parse().ok();
        let (Some(dialler), Some(address)) = (self.dialler(member), address) else {
            return findings(member, endpoint, 0, Some((&advice::PARTNER_NAME, endpoint.into())));
        };
        if let Err(error) = dialler.dial(address.clone()).await {
            let (passed, advice): (usize, &'static Advice) = match &error {
                DialError::Address(_) | DialError::Resolve { .. } | DialError::Astray { .. } => {
                    (0, &advice::PARTNER_NAME)
                }
                DialError::Tcp { .. } => (1, &advice::PARTNER_TCP),
                DialError::Tls { .. } => (2, &advice::PARTNER_TLS),
                DialError::Alpn { .. } => (3, &advice::PARTNER_ALPN),
            };
            return findings(member, endpoint, passed, Some((advice, Seen::error(&error))));
        }
        let asked_at = self.clock.now();
        match self.ask(&dialler, address).await {
            Asked::Silent => findings(member, endpoint, 4, Some((&advice::PARTNER_SILENT, endpoint.into()))),
            Asked::Refused(why) => findings(member, endpoint, 4, Some((&advice::PARTNER_REFUSES, foreign(why)))),
            Asked::NotServing => findings(member, endpoint, 4, Some((&advice::PARTNER_NOT_SERVING, endpoint.into()))),
            Asked::Serving(theirs) => {
                let mut found = findings(member, endpoint, DIALLED, None);
                if let (Some(theirs), Some(last)) = (theirs, found.last_mut()) {
                    // Theirs lies between our question and its answer.
                    let (early, late) =
                        (asked_at.ms().saturating_sub(theirs), theirs.saturating_sub(self.clock.now().ms()));
                    let apart = early.max(late);
                    last.look.seen = Seen::both(format!("{apart} ms apart"), format!("相差 {apart} 毫秒"));
                    if apart > PARTNER_CLOCK_MS_MAX {
                        last.look.verdict = Verdict::Warning(&advice::PARTNER_CLOCK);
                    }
                }
                found
            }
        }
    }

    async fn ask(&self, dialler: &Dialler, address: Uri) -> Asked {
        let asked = health::ask(dialler.channel(address), "");
        match tokio::time::timeout(Duration::from_millis(DIAL_MS), asked).await {
            Err(_) => Asked::Silent,
            Ok(Err(status)) => Asked::Refused(format!("{}: {}", status.code(), status.message())),
            Ok(Ok((Said::Serving, theirs))) => Asked::Serving(theirs),
            Ok(Ok(_)) => Asked::NotServing,
        }
    }
}

/// Words of another gateway.
fn foreign(words: String) -> Seen {
    Seen::both(words.clone(), format!("{words:?}"))
}

/// At which stage the way to each member breaks that does when it is dialled.
pub fn breaks(findings: &[Finding]) -> Vec<(Member, &'static str)> {
    let broken = findings.iter().filter(|finding| STAGES[..DIALLED].contains(&finding.check) && is_fault(finding));
    let named = broken.filter_map(|finding| {
        let stage = finding.check.strip_prefix("partner.")?;
        Some((finding.look.about.as_deref()?.parse().ok()?, stage))
    });
    named.collect()
}

/// Where a gateway is dialled by those on its own machine.
pub fn own_address(config: &Config) -> Option<Uri> {
    let mut listen = config.listen;
    if listen.ip().is_unspecified() {
        listen.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    format!("https://{listen}").parse().ok()
}

/// What a gateway answered when asked for its health.
enum Asked {
    /// And what its clock shows, in milliseconds of Unix time, if it says so.
    Serving(Option<u64>),
    NotServing,
    Refused(String),
    Silent,
}

/// A finding for each stage: those passed, the one that failed if one did, and those that could not be tried.
fn findings(
    member: &Member,
    seen: impl Into<Seen>,
    passed: usize,
    failed: Option<(&'static Advice, Seen)>,
) -> Vec<Finding> {
    let seen = seen.into();
    let stage = |(place, check): (usize, &'static str)| {
        let look = match &failed {
            Some((advice, why)) if place == passed => Look::fault(advice, why.clone()),
            Some(_) if place > passed => {
                Look { about: None, verdict: Verdict::Skipped(STAGES[passed]), seen: Seen::default() }
            }
            _ => Look::good(seen.clone()),
        };
        Finding { check, look: look.about(member) }
    };
    STAGES.into_iter().take(DIALLED).enumerate().map(stage).collect()
}
