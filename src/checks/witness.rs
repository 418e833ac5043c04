//! Decides whether the logs of the alliance are of one piece, as far as this gateway has seen, and whether others have seen
//! its own. Never clears a fork: people settle it.

use super::advice;
use super::facts::{Facts, Look, Seen};
use crate::limits::COSIGNED_WITHIN_MS;
use crate::store::{Fork, Sightings, SightingsError};
use crate::tlog::checkpoint::Checkpoint;

/// Forks that were ever found, and logs that have lost leaves.
pub fn forks(facts: &Facts<'_>) -> Vec<Look> {
    let sightings = Sightings::in_folder(&facts.config.data);
    let seen = || -> Result<_, SightingsError> { Ok((sightings.all()?, sightings.all_behind()?, sightings.forks()?)) };
    let (all, behind, forks) = match seen() {
        Ok(seen) => seen,
        Err(error) => return vec![Look::fault(&advice::SIGHTINGS_UNREADABLE, error.to_string())],
    };
    let forked = forks.iter().map(|fork| {
        let Fork { origin, first, second, .. } = fork;
        let size = |note: &str| Checkpoint::claimed(note).map_or(0, |claimed| claimed.size);
        let (one, other) = (size(first), size(second));
        let seen = Seen::both(format!("{one} and {other} leaves"), format!("{one} 与 {other} 个叶子"));
        let seen = seen.at(origin);
        Look::fault(&advice::LOG_FORKED, seen).about(keeper(facts, origin))
    });
    let shrunk =
        behind.iter().map(|origin| Look::fault(&advice::LOG_SHRUNK, origin.as_str()).about(keeper(facts, origin)));
    let looks: Vec<_> = forked.chain(shrunk).collect();
    let good = || Seen::both(format!("{} logs seen", all.len()), format!("已查看 {} 个日志", all.len()));
    if looks.is_empty() { vec![Look::good(good())] } else { looks }
}

/// Whose log it is; its own name where the directory does not know it.
fn keeper(facts: &Facts<'_>, origin: &str) -> String {
    let entries = facts.directory.get().into_iter().flat_map(|directory| directory.entries());
    let mut records = entries.map(|entry| &entry.record);
    let keeper = records.find(|record| record.log_keys.iter().any(|key| key.name() == origin));
    keeper.map_or_else(|| origin.to_owned(), |record| record.member.to_string())
}

/// Whether partners cosign what this gateway publishes.
pub fn cosigned(facts: &Facts<'_>) -> Vec<Look> {
    let others = facts.directory.get().map_or(0, |directory| directory.entries().count().saturating_sub(1));
    let none = || Seen::both("no witness yet", "尚无见证方");
    let Some(store) = facts.store.get().filter(|_| others > 0) else { return vec![Look::good(none())] };
    vec![match store.look(|look| look.witnessed()) {
        Err(error) => Look::fault(&advice::STORE_UNREADABLE, error.to_string()),
        Ok(witnessed) => {
            let (cosigned, published) = (witnessed.cosigned, witnessed.published);
            let (en, zh) = (
                format!("{cosigned} of {published} published leaves"),
                format!("已公布 {published} 个叶子，其中 {cosigned} 个已有联署"),
            );
            match witnessed.waits_since {
                Some(since) if facts.now.since_ms(since) > COSIGNED_WITHIN_MS => {
                    let seen = Seen::both(format!("{en}, nothing since {since}"), format!("{zh}，自 {since} 起再无"));
                    Look::warning(&advice::COSIGNATURES_NONE, seen)
                }
                _ => Look::good(Seen::both(en, zh)),
            }
        }
    }]
}
