//! Decides how `tongban content` takes the content of one message, for a reason that goes on record. Never prints a content.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::client::{As, converse};
use super::receive::keep::Place;
use super::{Answer, Exit, Out};
use crate::id::MessageId;
use crate::party::Division;

/// Look at the content of a message, as an operator; the look and its reason go on record
#[derive(Args)]
pub struct Content {
    #[command(flatten)]
    who: As,
    /// The message's id
    #[arg(value_name = "ID")]
    id: MessageId,
    /// The city that sent it [default: your own]
    #[arg(long, value_name = "CITY")]
    from: Option<Division>,
    /// Why; auditors read it
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The folder in which the message gets a folder of its own
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Keeps the parts in files; exit 1 when the content is gone.
pub fn run(command: &Content, out: &Out) -> Answer {
    let Content { who, id, from, reason, out: dir } = command;
    converse(who, async |client| {
        let found = client.content(from.as_ref(), *id, reason).await.map_err(|trouble| trouble.shown(out))?;
        let kept = found.map(|envelope| Place::below(dir, &envelope)?.keep(&envelope)).transpose()?;
        out.show(&json!({ "message_id": id.to_string(), "has_body": kept.is_some(), "kept": kept }), || match &kept {
            Some(kept) => out.lang.tr(format!("kept in {}", kept.display()), format!("已保存于 {}", kept.display())),
            None => out.lang.tr("the content is gone: retention has taken it", "内容已按保存期限清除").to_owned(),
        })?;
        Ok(if kept.is_some() { Exit::Done } else { Exit::No })
    })
}
