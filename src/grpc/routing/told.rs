//! Decides how tables, plans and explanations stand on the wire. Never decides anything about them.

use super::shelf::Standing;
use crate::party::Division;
use crate::routing::{Change, Destination, Effect, Note, Refusal, Resolved};
use crate::wire::envelope::address_to_wire;
use crate::wire::pb::routing as pb;

pub fn standing(standing: &Standing, texts: Vec<(Division, String)>) -> pb::GetTablesResponse {
    let table = |(owner, text): (Division, String)| {
        let (version, toml) = match standing.set.tables.get(&owner) {
            Some(table) => (table.version, table.to_toml()),
            None => (0, String::new()),
        };
        pb::Table { owner: owner.as_str().to_owned(), version, toml, text }
    };
    let tables = texts.into_iter().map(table).collect();
    pb::GetTablesResponse { version: standing.version, etag: standing.etag.clone(), tables }
}

pub fn plan(standing: &Standing, changes: Vec<(Change, Option<Effect>)>) -> pb::PlanTablesResponse {
    pb::PlanTablesResponse {
        etag: standing.etag.clone(),
        version: standing.version,
        changes: changes.into_iter().map(change).collect(),
    }
}

fn change((change, effect): (Change, Option<Effect>)) -> pb::Change {
    let about = change.row().map_or(String::new(), |row| row.key.to_string());
    let row = |(number, row): (u32, crate::routing::Row)| pb::Row {
        number,
        validity: row.validity.to_string(),
        target: row.target.to_string(),
    };
    let effect = effect
        .map(|effect| pb::Effect { before: Some(decision(&effect.before)), after: Some(decision(&effect.after)) });
    let owner = change.owner.as_str().to_owned();
    pb::Change { owner, about, before: change.before.map(row), after: change.after.map(row), effect }
}

pub fn explanation(notes: &[Note], decided: &Result<Resolved, Refusal>, version: u64) -> pb::ExplainRouteResponse {
    let note = |note: &Note| pb::Note { en: note.to_string(), zh: note.zh() };
    let decision = Some(decision(decided));
    pb::ExplainRouteResponse { notes: notes.iter().map(note).collect(), decision, version }
}

fn decision(decided: &Result<Resolved, Refusal>) -> pb::Decision {
    match decided {
        Ok(resolved) => pb::Decision {
            recipient: Some(address_to_wire(&resolved.recipient)),
            lanes: resolved.lanes.iter().map(Destination::to_string).collect(),
            by: resolved.row.to_string(),
            ..pb::Decision::default()
        },
        Err(refusal) => pb::Decision {
            by: refusal.row.as_ref().map_or(String::new(), ToString::to_string),
            reason: refusal.reason.code().to_owned(),
            token: refusal.token.as_ref().map_or(String::new(), |token| token.as_str().to_owned()),
            ..pb::Decision::default()
        },
    }
}
