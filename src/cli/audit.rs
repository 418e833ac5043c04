//! Decides how `tongban audit` shows what people did to a gateway, or were refused. Never judges it.

use clap::Args;
use serde_json::json;

use super::client::{As, ToldAct, WantedActs, converse};
use super::out::table;
use super::when::when;
use super::{Answer, Exit, Lang, Out};
use crate::limits::AUDIT_PAGE;
use crate::time::Time;

/// List what people did to a gateway or were refused, newest first; for auditors
#[derive(Args)]
pub struct Audit {
    #[command(flatten)]
    who: As,
    /// From this day or moment on, e.g. 2026-01-31 or 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = when)]
    from: Option<Time>,
    /// Before this day or moment
    #[arg(long, value_name = "TIME", value_parser = when)]
    to: Option<Time>,
    /// Only acts that begin like this, e.g. lane. or content.read
    #[arg(long, value_name = "ACT", default_value = "")]
    act: String,
    /// Only by those whose name contains this, e.g. ops/li
    #[arg(long, value_name = "TEXT", default_value = "")]
    actor: String,
    /// End after so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    limit: u64,
}

/// Reads page after page until there are enough.
pub fn run(command: &Audit, out: &Out) -> Answer {
    let (act, actor) = (command.act.clone(), command.actor.clone());
    let wanted = WantedActs { from: command.from, until: command.to, act, actor };
    converse(&command.who, async |client| {
        let (mut acts, mut token) = (Vec::new(), String::new());
        loop {
            let count = (command.limit as usize - acts.len()).min(AUDIT_PAGE.1);
            let page = client.audit(&wanted, count as u32, token).await;
            let (more, next) = page.map_err(|trouble| trouble.shown(out))?;
            acts.extend(more);
            token = next;
            if token.is_empty() || acts.len() >= command.limit as usize {
                break;
            }
        }
        let more = !token.is_empty();
        out.show(&json!({ "acts": acts, "more": more }), || shown(&acts, out.lang))?;
        if more {
            out.hint("there are more: --limit N", "还有更多：--limit N");
        }
        Ok(Exit::Done)
    })
}

fn shown(acts: &[ToldAct], lang: Lang) -> String {
    let head = match lang {
        Lang::En => ["time", "who", "act", "object", "outcome", "reason", "leaf"],
        Lang::Zh => ["时间", "操作人", "操作", "对象", "结果", "理由", "叶"],
    };
    let row = |act: &ToldAct| {
        let outcome = match act.refused.as_str() {
            "" => lang.tr("done", "已执行").to_owned(),
            code => lang.tr(format!("refused: {code}"), format!("被拒绝：{code}")),
        };
        let (time, leaf) = (act.time.map(|at| at.to_string()).unwrap_or_default(), act.leaf.to_string());
        vec![time, act.actor.clone(), act.act.clone(), act.object.clone(), outcome, act.reason.clone(), leaf]
    };
    table(&head, acts.iter().map(row))
}
