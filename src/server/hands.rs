//! Decides what those who operate a gateway reach of it that lies above the doors: revocation lists of the configuration, and
//! the checks. Never decides who may.

use std::sync::Arc;

use arc_swap::ArcSwap;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::Standing;
use crate::checks::{CHECKS, Finding, STAGES, Seen, Verdict, Which, examine_partners, examine_self, lists_end};
use crate::config::Config;
use crate::courier::Ground;
use crate::grpc::admin::checks::{Advised, Checks, Found, Wanted};
use crate::grpc::admin::members::{Lists, Members};
use crate::keys;
use crate::time::Time;

/// The members as this gateway knows them.
pub(super) fn members(standing: &Standing, current: Arc<ArcSwap<Config>>) -> Members {
    let lists = move |member: &_| {
        let lists = keys::read_crls(&current.load().crls.of(member)).ok()?;
        let issued = lists.iter().filter_map(|der| {
            let (_, list) = CertificateRevocationList::from_der(der).ok()?;
            u64::try_from(list.last_update().timestamp()).ok().map(|seconds| Time::from_ms(seconds * 1000))
        });
        Some(Lists { issued_at: issued.max()?, ends_at: lists_end(&lists) })
    };
    Members {
        own: standing.own.clone(),
        board: standing.board.clone(),
        clock: standing.clock.clone(),
        lists: Arc::new(lists),
    }
}

/// The checks as the running gateway makes them.
pub(super) fn checks(standing: &Standing, ground: &Ground, current: Arc<ArcSwap<Config>>) -> Checks {
    let (board, readers, clock) = (standing.board.clone(), ground.readers.clone(), standing.clock.clone());
    Checks::new(Arc::new(move |wanted: Wanted| {
        let (config, board, readers, clock) = (current.load_full(), board.clone(), readers.clone(), clock.clone());
        Box::pin(async move {
            let which = Which { only: wanted.only, skip: wanted.skip, partner: wanted.partner, deep: false };
            let (own, by) = (config.clone(), clock.clone());
            let own = if CHECKS.iter().any(|check| which.takes(check.id)) {
                tokio::task::spawn_blocking(move || examine_self(&own, &by)).await.unwrap_or_default()
            } else {
                vec![]
            };
            let partners = match STAGES.iter().any(|stage| which.takes(stage)) {
                true => examine_partners(&config, &board, &readers, &clock, &which).await,
                false => vec![],
            };
            let all = own.into_iter().chain(partners);
            all.filter(|finding| which.takes(finding.check)).map(found).collect()
        })
    }))
}

fn found(finding: Finding) -> Found {
    let (verdict, Seen { en, zh }) = (finding.look.verdict.word(), finding.look.seen);
    let (because, advice) = match finding.look.verdict {
        Verdict::Good => (None, None),
        Verdict::Skipped(because) => (Some(because), None),
        Verdict::Warning(advice) | Verdict::Fault(advice) => (None, Some(advice)),
    };
    let advice = advice.map(|advice| Advised { code: advice.code, cause: advice.cause, fix: advice.fix });
    Found { check: finding.check, about: finding.look.about, verdict, seen: (en, zh), because, advice }
}
