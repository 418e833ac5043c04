//! Decides what is examined of a gateway and in which order, beside it or inside it: what failed names its cause and its
//! way out, and what depends on it is skipped and says because of what. Never mends anything.

pub mod advice;
mod echo;
mod facts;
mod partners;
mod place;
mod traffic;
mod trust;
mod witness;

pub use self::facts::{Look, Seen, Verdict};
pub use self::partners::{Caller, STAGES, breaks, own_address};
pub use self::trust::lists_end;

use std::collections::BTreeSet;
use std::sync::Arc;

use self::facts::Facts;
use crate::clock::Clock;
use crate::config::Config;
use crate::directory::{Directory, MemberRecord};
use crate::noticeboard::Noticeboard;
use crate::party::Member;
use crate::routing::Index;
use crate::store::Readers;

/// One thing that is examined.
pub struct Check {
    /// Stable; what stands before the dot is its category.
    pub id: &'static str,
    /// Without these it cannot be looked at.
    needs: &'static [&'static str],
    /// A gateway in which this is at fault serves nobody.
    vital: bool,
    look: fn(&Facts<'_>) -> Vec<Look>,
}

const fn check(id: &'static str, needs: &'static [&'static str], look: fn(&Facts<'_>) -> Vec<Look>) -> Check {
    Check { id, needs, vital: false, look }
}

const fn vital(id: &'static str, needs: &'static [&'static str], look: fn(&Facts<'_>) -> Vec<Look>) -> Check {
    Check { id, needs, vital: true, look }
}

/// What is examined without asking anybody else. Each stands after those it needs.
pub static CHECKS: [Check; 26] = [
    check("host.descriptors", &[], place::descriptors),
    vital("host.disk", &[], place::disk),
    vital("store.writable", &["host.disk"], place::writable),
    vital("directory.signed", &[], trust::directory),
    vital("directory.member", &["directory.signed"], trust::member),
    check("directory.age", &["directory.signed"], trust::age),
    check("members.suspended", &["directory.signed"], trust::suspended),
    vital("keys.log", &["directory.member"], trust::log_key),
    vital("keys.sealing", &["directory.member"], trust::sealing_key),
    vital("tls.key", &[], trust::key),
    vital("tls.certificate", &[], trust::certificate),
    vital("tls.identity", &["tls.certificate", "directory.member"], trust::identity),
    vital("tls.expiry", &["tls.certificate"], trust::expiry),
    check("tls.crls", &["directory.signed"], trust::crls),
    vital("store.schema", &[], place::schema),
    vital("store.tree", &["store.schema", "keys.log"], place::tree),
    vital("store.scrub", &["store.schema"], place::scrubbed),
    check("store.wal", &["store.schema"], place::wal),
    check("host.clock", &[], place::clock),
    check("routes.grants", &[], traffic::grants),
    check("routes.tables", &["store.schema", "directory.member"], traffic::tables_compile),
    check("routes.held", &["directory.signed"], traffic::held_back),
    check("lanes.flow", &["store.schema"], traffic::lanes),
    check("lanes.dead", &["store.schema"], traffic::dead),
    check("witness.fork", &["directory.signed"], witness::forks),
    check("witness.cosigned", &["store.schema", "directory.member"], witness::cosigned),
];

/// The check for the running gateway, which only those beside it make.
pub const ANSWERS: &str = "gateway.answers";
/// The check that walks over the whole log, made only when it is asked for.
pub const DEEP: &str = "store.deep";
/// The check for the configuration's file, which comes before all others.
pub const CONFIG: &str = "config.file";

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub check: &'static str,
    pub look: Look,
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Which {
    /// Checks or categories; empty, all.
    pub only: Vec<String>,
    pub skip: Vec<String>,
    /// One partner alone.
    pub partner: Option<Member>,
    /// The whole log is walked over too.
    pub deep: bool,
}

impl Which {
    /// Whether this check is asked for.
    pub fn takes(&self, id: &str) -> bool {
        let named = |names: &[String]| {
            names
                .iter()
                .any(|name| id == name || id.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('.')))
        };
        (self.only.is_empty() || named(&self.only)) && !named(&self.skip)
    }
}

/// Every id that a finding can bear.
pub fn ids() -> impl Iterator<Item = &'static str> {
    std::iter::once(CONFIG).chain(CHECKS.iter().map(|check| check.id)).chain([DEEP, ANSWERS]).chain(STAGES)
}

/// Whether a fault found by this check stops the whole gateway from serving.
pub fn is_vital(id: &str) -> bool {
    CHECKS.iter().any(|check| check.id == id && check.vital)
}

/// Examines the gateway of this configuration from beside it, and its partners. Blocks on the disk for a moment.
pub async fn examine(config: &Config, clock: &Clock, which: &Which) -> Vec<Finding> {
    let facts = Facts::new(config, clock.now());
    let mut findings = local(&facts);
    if which.deep && which.takes(DEEP) {
        findings.extend(place::deep(&facts).into_iter().map(|look| Finding { check: DEEP, look }));
    }
    let caller = facts.directory.get().and_then(|directory| Caller::new(config, directory, clock.clone()));
    let fits = !findings.iter().any(|finding| finding.check.starts_with("tls.") && is_fault(finding));
    if which.takes(ANSWERS) {
        let look = match &caller {
            Some(caller) if fits => caller.own_gateway().await,
            _ => Look { about: None, verdict: Verdict::Skipped("tls.identity"), seen: Seen::default() },
        };
        findings.push(Finding { check: ANSWERS, look });
    }
    if STAGES.iter().any(|stage| which.takes(stage))
        && let (Some(caller), Some(directory), true) = (caller, facts.directory.get(), fits)
    {
        let suspended = facts.board.get().map(Noticeboard::suspended).unwrap_or_default();
        let partners = others(directory, config, which, &suspended);
        let tests = facts.store.get().and_then(|store| store.look(|look| echo::tests(look, config, &partners)).ok());
        findings.extend(caller.partners(partners, tests.as_ref()).await);
    }
    findings.retain(|finding| which.takes(finding.check));
    findings
}

/// Who may dial as the gateway of this configuration; what is in the way otherwise.
pub fn caller(config: &Config, clock: &Clock) -> Result<Caller, Vec<Finding>> {
    let facts = Facts::new(config, clock.now());
    let findings = local(&facts);
    let caller = facts.directory.get().and_then(|directory| Caller::new(config, directory, clock.clone()));
    let in_the_way =
        |finding: &Finding| is_fault(finding) && ["directory.", "tls."].iter().any(|c| finding.check.starts_with(c));
    caller.ok_or_else(|| findings.into_iter().filter(in_the_way).collect())
}

/// Examines the gateway from inside. Blocks on the disk.
pub fn examine_self(config: &Config, clock: &Clock) -> Vec<Finding> {
    local(&Facts::new(config, clock.now()))
}

/// The same each few seconds from inside a gateway that serves by these tables: what is in force is not compiled again.
pub fn examine_own(config: &Config, clock: &Clock, in_force: Arc<Index>) -> Vec<Finding> {
    local(&Facts { in_force: Some(in_force), ..Facts::new(config, clock.now()) })
}

/// Examines the ways to the partners that are asked for from inside a gateway.
pub async fn examine_partners(
    config: &Config,
    board: &Noticeboard,
    readers: &Arc<Readers>,
    clock: &Clock,
    which: &Which,
) -> Vec<Finding> {
    let directory = board.directory();
    let Some(caller) = Caller::new(config, &directory, clock.clone()) else { return vec![] };
    let partners = others(&directory, config, which, &board.suspended());
    let (asked, own) = (partners.clone(), config.clone());
    let tests = readers.seek(move |look| echo::tests(look, &own, &asked)).await;
    caller.partners(partners, tests.ok().as_ref()).await
}

/// The records of the partners that are asked for; nobody calls those that are suspended.
fn others(directory: &Directory, config: &Config, which: &Which, suspended: &BTreeSet<Member>) -> Vec<MemberRecord> {
    let wanted = |record: &&MemberRecord| {
        let asked_for = which.partner.as_ref().is_none_or(|partner| *partner == record.member);
        record.member != config.member && asked_for && !suspended.contains(&record.member)
    };
    directory.entries().map(|entry| &entry.record).filter(wanted).cloned().collect()
}

pub fn is_fault(finding: &Finding) -> bool {
    matches!(finding.look.verdict, Verdict::Fault(_))
}

fn local(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = vec![];
    for check in &CHECKS {
        let failed = |id: &&&'static str| {
            let stops = |finding: &Finding| {
                finding.check == **id && matches!(finding.look.verdict, Verdict::Fault(_) | Verdict::Skipped(_))
            };
            findings.iter().any(stops)
        };
        let looks = match check.needs.iter().find(failed) {
            Some(because) => vec![Look { about: None, verdict: Verdict::Skipped(because), seen: Seen::default() }],
            None => (check.look)(facts),
        };
        findings.extend(looks.into_iter().map(|look| Finding { check: check.id, look }));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_stands_after_those_it_needs() {
        for (place, check) in CHECKS.iter().enumerate() {
            for need in check.needs {
                assert!(CHECKS[..place].iter().any(|before| before.id == *need), "{} needs {need}", check.id);
            }
        }
    }

    #[test]
    fn ids_and_codes_are_unique_and_every_text_stands_in_both_languages() {
        let mut ids: Vec<_> = ids().collect();
        ids.sort_unstable();
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]));
        let mut codes: Vec<_> = advice::ALL.iter().map(|advice| advice.code).collect();
        codes.sort_unstable();
        assert!(codes.windows(2).all(|pair| pair[0] != pair[1]));
        let chinese = |text: &str| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
        for advice in advice::ALL {
            for (en, zh) in [advice.cause, advice.fix] {
                assert!(!en.is_empty() && chinese(zh), "{}", advice.code);
            }
        }
    }

    #[test]
    fn a_category_or_an_id_chooses() {
        let which = Which { only: vec!["tls".to_owned()], skip: vec!["tls.crls".to_owned()], ..Which::default() };
        assert!(
            which.takes("tls.key") && !which.takes("tls.crls") && !which.takes("tlsx") && !which.takes("host.disk")
        );
    }
}
