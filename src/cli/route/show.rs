//! Decides how tables, plans and explanations look on a terminal. Never asks a gateway anything.

use std::io;

use serde_json::json;

use super::super::client::{Decided, Planned, PlannedChange, PlannedRow, Tables};
use super::super::out::table;
use super::super::{Answer, Exit, Failure, Lang, Out};
use crate::party::Division;

/// A set of tables, or one table of it as a file.
pub fn tables(tables: &Tables, owner: Option<&Division>, out: &Out) -> Answer {
    if let Some(owner) = owner {
        let Some(found) = tables.tables.iter().find(|table| table.owner == owner.as_str()) else {
            let owner = owner.as_str();
            return Err(Failure::new(Exit::No, format!("{owner} has no table"), format!("{owner} 没有路由表")));
        };
        out.show(found, || found.toml.clone())?;
        return Ok(Exit::Done);
    }
    out.show(tables, || {
        let head = match out.lang {
            Lang::En => ["owner", "version", "rows"],
            Lang::Zh => ["所有者", "版本", "条目"],
        };
        let rows = tables.tables.iter().map(|one| {
            let count = one.toml.matches("[[route]]").count();
            vec![one.owner.clone(), one.version.to_string(), count.to_string()]
        });
        let (version, etag) = (tables.version, &tables.etag);
        let line = out.lang.tr(format!("version {version}, etag {etag}"), format!("第 {version} 版，etag {etag}"));
        format!("{line}\n{}", table(&head, rows))
    })?;
    Ok(Exit::Done)
}

/// What would change, row by row.
pub fn plan(planned: &Planned, out: &Out) -> io::Result<()> {
    out.show(planned, || {
        let version = planned.version;
        if planned.changes.is_empty() {
            let (en, zh) = (format!("nothing changes against version {version}"), format!("与第 {version} 版相同"));
            return out.lang.tr(en, zh);
        }
        let head = match out.lang {
            Lang::En => ["owner", "row", "about", "before", "after", "a message goes"],
            Lang::Zh => ["所有者", "条目", "内容", "原为", "改为", "消息去向"],
        };
        let count = planned.changes.len();
        let (en, zh) =
            (format!("{count} rows change against version {version}"), format!("相对第 {version} 版有 {count} 条变更"));
        format!("{}\n{}", out.lang.tr(en, zh), table(&head, planned.changes.iter().map(row)))
    })
}

fn row(change: &PlannedChange) -> Vec<String> {
    let number = match (&change.before, &change.after) {
        (None, Some(after)) => format!("+{}", after.number),
        (Some(before), None) => format!("-{}", before.number),
        (Some(before), Some(after)) if before.number == after.number => format!("~{}", after.number),
        (Some(before), Some(after)) => format!("~{}→{}", before.number, after.number),
        (None, None) => String::new(),
    };
    let cell = |row: &Option<PlannedRow>| {
        row.as_ref().map_or(String::new(), |row| format!("{} {}", row.target, row.validity).trim_end().to_owned())
    };
    let effect = change.effect.as_ref();
    let effect = effect.map_or(String::new(), |(before, after)| format!("{} → {}", before.line(), after.line()));
    vec![change.owner.clone(), number, change.about.clone(), cell(&change.before), cell(&change.after), effect]
}

/// How a decision came about; the last line is the decision.
pub fn explanation(notes: &[(String, String)], decided: &Decided, version: u64, out: &Out) -> io::Result<()> {
    let note = |(en, zh): &(String, String)| out.lang.tr(en, zh).clone();
    let shown = json!({ "version": version, "decision": decided.json(),
        "notes": notes.iter().map(note).collect::<Vec<_>>() });
    out.show(&shown, || {
        let version = out.lang.tr(format!("tables of version {version}"), format!("路由表第 {version} 版"));
        std::iter::once(version).chain(notes.iter().map(note)).collect::<Vec<_>>().join("\n")
    })
}
