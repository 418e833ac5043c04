//! Decides what `tongban send` does: a message made from the command line, submitted, its receipt checked, and its way
//! followed if asked. Never says that a message is accepted before the receipt holds.

pub mod attach;
pub mod draft;
mod many;

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use self::draft::Draft;
use super::client::{As, Client, Told, converse};
use super::out::table;
use super::receive::{keep, show::Shown};
use super::span::Span;
use super::{Answer, Exit, Lang, Out, message};
use crate::evidence::State;
use crate::id::MessageId;
use crate::marks;
use crate::message::Envelope;
use crate::receipt::Checked;

/// Submit a message to the city's own gateway
#[derive(Args)]
pub struct Send {
    #[command(flatten)]
    who: As,
    #[command(flatten)]
    draft: draft::Written,
    /// The message's id, a UUID [default: a new one]; used for a second message it is refused as a conflict
    #[arg(long, value_name = "UUID")]
    id: Option<MessageId>,
    /// Send so many messages, each with its own id, over one stream
    #[arg(long, value_name = "N", conflicts_with_all = ["id", "wait", "attach", "wait_reply"], value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Follow the message to its end, for a minute or as long as given
    #[arg(long, value_name = "SPAN", num_args = 0..=1, require_equals = true, default_missing_value = "60s")]
    wait: Option<Span>,
    /// Wait for the reply, for a minute or as long as given, 5m at most; it is handed over with the answer
    #[arg(long, value_name = "SPAN", num_args = 0..=1, require_equals = true, default_missing_value = "60s",
        conflicts_with = "wait")]
    wait_reply: Option<Span>,
    /// Keep the parts of the reply in a folder of its own below this one
    #[arg(long, value_name = "DIR", requires = "wait_reply")]
    out: Option<PathBuf>,
}

/// Submits what the command line says.
pub fn run(args: &Send, out: &Out) -> Answer {
    let draft = Draft::read(&args.draft)?;
    converse(&args.who, async |client| match args.count {
        Some(count) => many::submit(&client, &draft, count, out).await,
        None => one(&client, &draft, args, out).await,
    })
}

async fn one(client: &Client, draft: &Draft, args: &Send, out: &Out) -> Answer {
    let id = args.id.map_or_else(draft::new_id, Ok)?;
    let envelope = draft.envelope(&client.me, id)?;
    draft::check(&envelope)?;
    say_doubts(&envelope, out);
    attach::bring(client, &draft.attachments, &envelope, out).await?;
    if let Some(patience) = args.wait_reply {
        return replied(client, &envelope, patience, args, out).await;
    }
    let accepted = client.submit(&envelope).await.map_err(|trouble| trouble.shown(out))?;
    let Some(patience) = args.wait else {
        out.show(&accepted_json(&accepted), || accepted_table(&[&accepted], out.lang))?;
        return Ok(Exit::Done);
    };
    if !out.json() {
        out.print(&format!("{}\n", accepted_table(&[&accepted], out.lang)))?;
    }
    let told = message::follow(client, None, id, patience).await.map_err(|trouble| trouble.shown(out))?;
    let mut shown = accepted_json(&accepted);
    shown["message"] = told.json();
    out.show(&shown, || message::timeline(&told, out.lang))?;
    verdict(&told, patience, &client.me.to_string(), out)
}

/// Tells the sender what looks doubtful while it can still be put right.
fn say_doubts(envelope: &Envelope, out: &Out) {
    let step = envelope.step.as_ref().map_or("", |step| step.as_str());
    let case_no = envelope.case_no.as_ref().map_or("", |case_no| case_no.as_str());
    let names = envelope.parts.iter().map(|part| part.name.as_str());
    for doubt in marks::of_header((envelope.item_code.as_str(), step, case_no), names) {
        out.say(&message::doubt_line(&doubt, out.lang));
    }
}

/// Sends the message as a request, and shows its receipt and its reply. What is handed over is ours: it is kept first.
async fn replied(client: &Client, envelope: &Envelope, patience: Span, args: &Send, out: &Out) -> Answer {
    let answer = client.request(envelope, patience.into()).await.map_err(|trouble| trouble.shown(out))?;
    let kept = match &args.out {
        None => None,
        Some(dir) => {
            let place = keep::Place::below(dir, &answer.reply.envelope)?;
            place.fetch(client, &answer.reply.envelope, out).await?;
            Some(place.keep(&answer.reply.envelope)?)
        }
    };
    let mut reply = Shown::new(&answer.reply, kept);
    reply.outcome = Some("acknowledged");
    if out.json() {
        let mut shown = accepted_json(&answer.accepted);
        shown["reply"] = reply.json(Some(&answer.handed_over));
        out.show(&shown, String::new)?;
    } else {
        out.print(&format!("{}\n", accepted_table(&[&answer.accepted], out.lang)))?;
        reply.print(Some(&answer.handed_over), out)?;
    }
    Ok(Exit::Done)
}

fn verdict(told: &Told, patience: Span, me: &str, out: &Out) -> Answer {
    if !told.state.is_final() {
        return Err(message::unended(told, patience, me));
    }
    out.say(&message::state_line(told, out.lang));
    Ok(if told.state == State::Confirmed { Exit::Done } else { Exit::No })
}

/// What a receipt of acceptance says, as data.
fn accepted_json(accepted: &Checked) -> Value {
    let evidence = &accepted.evidence;
    json!({
        "message_id": evidence.message_id.to_string(),
        "event": evidence.event.as_str(),
        "to": evidence.to.as_ref().map(ToString::to_string),
        "receipt_id": evidence.id.to_string(),
        "log": accepted.log_origin,
        "index": accepted.receipt.proof.index,
        "time": evidence.at.to_string(),
        "header_digest": evidence.header_digest.to_string(),
        "expires_at": evidence.expires_at.map(|at| at.to_string()),
    })
}

fn accepted_table(accepted: &[&Checked], lang: Lang) -> String {
    let head = match lang {
        Lang::En => ["message", "event", "log", "index", "time"],
        Lang::Zh => ["消息", "事件", "日志", "序号", "时间"],
    };
    let row = |accepted: &&Checked| {
        let evidence = &accepted.evidence;
        let (id, event, at) = (evidence.message_id.to_string(), evidence.event.to_string(), evidence.at.to_string());
        vec![id, event, accepted.log_origin.clone(), accepted.receipt.proof.index.to_string(), at]
    };
    table(&head, accepted.iter().map(row))
}
