//! Decides how `tongban message` lists, follows and withdraws messages. Never says that one is withdrawn before its receipt
//! holds, and never repeats an entry of a history over a broken connection.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{Which, state_zh};
use crate::cli::client::{As, Client, Filter, Summary, ToldEvent, Trouble, converse};
use crate::cli::out::table;
use crate::cli::span::Span;
use crate::cli::{Answer, Exit, Failure, Lang, Out, now};
use crate::evidence::State;
use crate::id::MessageId;
use crate::limits::PAGE_MESSAGES;
use crate::message::{CaseNo, ItemCode};
use crate::party::Division;

/// The pause before a broken stream is taken up again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often in a row a stream is taken up without a word on it.
const AGAIN_MAX: u32 = 30;

#[derive(Subcommand)]
pub enum Act {
    /// List messages, newest first
    List(List),
    /// Follow a message to its end, entry by entry
    Watch {
        #[command(flatten)]
        who: As,
        #[command(flatten)]
        which: Which,
        /// Go on after the entry with this receipt
        #[arg(long, value_name = "RECEIPT", default_value = "")]
        after: String,
    },
    /// Withdraw a message before the next hop has it
    Cancel {
        #[command(flatten)]
        who: As,
        /// The message's id
        #[arg(value_name = "ID")]
        id: MessageId,
    },
}

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    who: As,
    /// Only messages in this state; may be given more than once
    #[arg(long = "state", value_enum, value_name = "STATE")]
    states: Vec<Stand>,
    /// Only messages of this city
    #[arg(long, value_name = "CITY")]
    from: Option<Division>,
    /// Only messages to this city
    #[arg(long, value_name = "CITY")]
    to: Option<Division>,
    /// Only messages of this service item
    #[arg(long, value_name = "CODE")]
    item: Option<ItemCode>,
    /// Only messages of this case
    #[arg(long, value_name = "NO")]
    case: Option<CaseNo>,
    /// Only messages that the gateway has taken for so long at most, e.g. 2h
    #[arg(long, value_name = "SPAN")]
    since: Option<Span>,
    /// End after so many messages
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    limit: u64,
}

/// A state by its name on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Stand {
    Accepted,
    Relayed,
    Consigned,
    Confirmed,
    Rejected,
    Failed,
    Expired,
    Cancelled,
}

/// Does what the command line says.
pub fn run(act: &Act, out: &Out) -> Answer {
    match act {
        Act::List(args) => list(args, out),
        Act::Watch { who, which, after } => converse(who, async |client| watch(&client, which, after, out).await),
        Act::Cancel { who, id } => converse(who, async |client| cancel(&client, *id, out).await),
    }
}

fn list(args: &List, out: &Out) -> Answer {
    let filter = Filter {
        states: args.states.iter().map(|stand| stand.state()).collect(),
        from: args.from.clone(),
        to: args.to.clone(),
        item_code: args.item.as_ref().map(|item| item.as_str().to_owned()).unwrap_or_default(),
        case_no: args.case.as_ref().map(|case| case.as_str().to_owned()).unwrap_or_default(),
        since: args.since.map(|since| now().minus_ms(since.ms())),
    };
    converse(&args.who, async |client| {
        let (mut messages, mut token) = (Vec::new(), String::new());
        loop {
            let wanted = (args.limit as usize - messages.len()).min(PAGE_MESSAGES.1);
            let page = client.list(&filter, wanted as u32, token).await.map_err(|trouble| trouble.shown(out))?;
            messages.extend(page.0);
            token = page.1;
            if token.is_empty() || messages.len() >= args.limit as usize {
                break;
            }
        }
        let more = !token.is_empty();
        let value = json!({ "messages": messages.iter().map(json_of).collect::<Vec<_>>(), "more": more });
        out.show(&value, || listed(&messages, out.lang))?;
        if more {
            out.hint("there may be more: --limit N", "可能还有更多：--limit N");
        }
        Ok(Exit::Done)
    })
}

fn listed(messages: &[Summary], lang: Lang) -> String {
    let head = match lang {
        Lang::En => ["taken", "message", "from", "to", "item", "case", "state"],
        Lang::Zh => ["受理时间", "消息", "发送方", "接收方", "事项", "办件编号", "状态"],
    };
    let row = |one: &Summary| {
        let at = one.stored_at.map(|at| at.to_string()).unwrap_or_default();
        let mut state = lang.tr(one.state.as_str(), state_zh(one.state)).to_owned();
        if one.in_doubt {
            state += lang.tr(" in doubt", " 存疑");
        }
        if one.late {
            state += lang.tr(" late", " 迟到");
        }
        vec![at, one.id.clone(), one.from.clone(), one.to.clone(), one.item_code.clone(), one.case_no.clone(), state]
    };
    table(&head, messages.iter().map(row))
}

fn json_of(one: &Summary) -> Value {
    json!({
        "message_id": one.id,
        "from": one.from,
        "to": one.to,
        "item_code": one.item_code,
        "case_no": one.case_no,
        "step": one.step,
        "state": one.state.as_str(),
        "in_doubt": one.in_doubt,
        "late": one.late,
        "stored_at": one.stored_at.map(|at| at.to_string()),
        "expires_at": one.expires_at.map(|at| at.to_string()),
        "parts": one.parts,
        "total_size": one.total_size,
    })
}

async fn watch(client: &Client, which: &Which, after: &str, out: &Out) -> Answer {
    let (mut after, mut silent, mut last) = (after.to_owned(), 0, None);
    loop {
        let ended = told(client, which, &mut after, &mut last, &mut silent, out).await?;
        match ended {
            None => break,
            Some(trouble) if passes(&trouble) && silent < AGAIN_MAX => {
                silent += 1;
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            Some(trouble) => return Err(trouble.shown(out)),
        }
    }
    // Nothing new to tell: the message has ended before, and says how when it is looked up.
    let state = match last {
        Some(state) => state,
        None => client.message(which.from.as_ref(), which.id).await.map_err(|trouble| trouble.shown(out))?.state,
    };
    Ok(if state == State::Confirmed { Exit::Done } else { Exit::No })
}

/// Prints what one stream tells; none when it came to its end.
async fn told(
    client: &Client,
    which: &Which,
    after: &mut String,
    last: &mut Option<State>,
    silent: &mut u32,
    out: &Out,
) -> Result<Option<Trouble>, Failure> {
    let mut stream = match client.watch(which.from.as_ref(), which.id, after).await {
        Ok(stream) => stream,
        Err(trouble) => return Ok(Some(trouble)),
    };
    loop {
        match stream.next().await {
            Ok(Some((event, state))) => {
                out.print(&format!("{}\n", line(&event, state, out)))?;
                (*after, *last, *silent) = (event.receipt_id, Some(state), 0);
            }
            Ok(None) => return Ok(None),
            Err(trouble) => return Ok(Some(trouble)),
        }
    }
}

/// Whether the stream may be taken up again.
fn passes(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Unreachable { .. } => true,
        Trouble::Refused(refused) => refused.exit() == Exit::TempFail,
        Trouble::Unsound(_) => false,
    }
}

fn line(event: &ToldEvent, state: State, out: &Out) -> String {
    if out.json() {
        let mut value = event.json();
        value["state"] = state.as_str().into();
        return value.to_string();
    }
    let at = event.at.map(|at| at.to_string()).unwrap_or_default();
    let state = out.lang.tr(state.as_str(), state_zh(state));
    let more = event.reasons.iter().chain(Some(&event.detail).filter(|detail| !detail.is_empty()));
    let more: String = more.map(|more| format!("  {more}")).collect();
    format!("{at}  {}  {}  {}  → {state}{more}", event.event, event.issuer, event.receipt_id)
}

async fn cancel(client: &Client, id: MessageId, out: &Out) -> Answer {
    let withdrawn = client.cancel(id).await.map_err(|trouble| trouble.shown(out))?;
    let (evidence, log) = (&withdrawn.evidence, &withdrawn.log_origin);
    let index = withdrawn.receipt.proof.index;
    let value = json!({
        "message_id": id.to_string(),
        "event": evidence.event.as_str(),
        "receipt_id": evidence.id.to_string(),
        "log": log,
        "index": index,
        "time": evidence.at.to_string(),
    });
    out.show(&value, || {
        let words = out.lang.tr("withdrawn", "已撤回");
        format!("{id}  {words}  {}  {} ({log} {index})", evidence.at, evidence.id)
    })?;
    Ok(Exit::Done)
}

impl Stand {
    fn state(self) -> State {
        match self {
            Stand::Accepted => State::Accepted,
            Stand::Relayed => State::Relayed,
            Stand::Consigned => State::Consigned,
            Stand::Confirmed => State::Confirmed,
            Stand::Rejected => State::Rejected,
            Stand::Failed => State::Failed,
            Stand::Expired => State::Expired,
            Stand::Cancelled => State::Cancelled,
        }
    }
}
