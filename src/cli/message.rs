//! Decides how `tongban message` shows where a message is: its state, what happened to it, and what it carries. Never
//! proves anything: that is what receipts are for.

pub mod acts;

use std::time::{Duration, Instant};

use clap::Args;

use super::client::{As, Client, Told, ToldEvent, ToldPart, Trouble, converse};
use super::out::table;
use super::span::Span;
use super::{Answer, Exit, Failure, Lang, Out};
use crate::evidence::State;
use crate::id::MessageId;
use crate::marks::Mark;
use crate::party::Division;

/// How often a message that is followed is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Show where a message is and what happened to it
#[derive(Args)]
pub struct Message {
    #[command(flatten)]
    who: As,
    /// The message's id
    #[arg(value_name = "ID")]
    id: MessageId,
    /// The city that sent it [default: your own]
    #[arg(long, value_name = "CITY")]
    from: Option<Division>,
}

/// One message.
#[derive(Args)]
pub struct Which {
    /// The message's id
    #[arg(value_name = "ID")]
    pub id: MessageId,
    /// The city that sent it [default: your own]
    #[arg(long, value_name = "CITY")]
    pub from: Option<Division>,
}

/// Asks the gateway for the message and shows its answer.
pub fn run(args: &Message, out: &Out) -> Answer {
    converse(&args.who, async |client| {
        let asked = client.message(args.from.as_ref(), args.id).await;
        let told = asked.map_err(|trouble| trouble.shown(out))?;
        out.show(&told.json(), || {
            let lang = out.lang;
            let sections = [state_line(&told, lang), facts(&told, lang), timeline(&told, lang), parts(&told, lang)];
            sections.into_iter().filter(|section| !section.is_empty()).collect::<Vec<_>>().join("\n")
        })?;
        Ok(Exit::Done)
    })
}

/// Asks for a message until it has ended or patience has.
pub async fn follow(client: &Client, from: Option<&Division>, id: MessageId, patience: Span) -> Result<Told, Trouble> {
    let until = Instant::now() + Duration::from(patience);
    loop {
        let told = client.message(from, id).await?;
        if told.state.is_final() || Instant::now() >= until {
            return Ok(told);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A message that has not ended while it was followed.
pub fn unended(told: &Told, patience: Span, me: &str) -> Failure {
    let en = format!("still {} after {patience}; it goes on", told.state);
    let zh = format!("{patience} 后仍为 {}，消息继续办理", told.state);
    let look = format!("tongban message --as {me} {}", told.id);
    Failure::new(Exit::TempFail, en, zh).hint(format!("look again with: {look}"), format!("稍后查看：{look}"))
}

/// The state of a message in one line.
pub fn state_line(told: &Told, lang: Lang) -> String {
    let mut line = format!("{}  {}", told.id, lang.tr(told.state.as_str(), state_zh(told.state)));
    if told.in_doubt {
        line += lang.tr("  in doubt: an attempt may have arrived", "  存疑：某次尝试可能已到达");
    }
    if told.late {
        line += lang.tr("  late: handed over after it was given up", "  迟到：放弃之后才交接");
    }
    line
}

/// What happened, oldest first.
pub fn timeline(told: &Told, lang: Lang) -> String {
    let head = match lang {
        Lang::En => ["time", "event", "issuer", "reasons", "detail", "receipt"],
        Lang::Zh => ["时间", "事件", "签发者", "原因", "说明", "回执"],
    };
    let row = |event: &ToldEvent| {
        let at = event.at.map(|at| at.to_string()).unwrap_or_default();
        let (issuer, detail, receipt) = (event.issuer.clone(), event.detail.clone(), event.receipt_id.clone());
        vec![at, event.event.clone(), issuer, event.reasons.join("\n"), detail, receipt]
    };
    table(&head, told.history.iter().map(row))
}

/// What the sender said of it, where it said something.
fn facts(told: &Told, lang: Lang) -> String {
    let time = |at: Option<crate::time::Time>| at.map(|at| at.to_string()).unwrap_or_default();
    let facts = [
        (lang.tr("from", "发送方"), told.from.clone()),
        (lang.tr("to", "接收方"), told.to.clone()),
        (lang.tr("item", "事项"), told.item_code.clone()),
        (lang.tr("case", "办件编号"), told.case_no.clone()),
        (lang.tr("step", "环节"), told.step.clone()),
        (lang.tr("mode", "模式"), told.mode.to_owned()),
        (lang.tr("in reply to", "答复"), told.in_reply_to.clone()),
        (lang.tr("written", "撰写时间"), time(told.created_at)),
        (lang.tr("expires", "截止时间"), time(told.expires_at)),
    ];
    let said = facts.into_iter().filter(|(_, value)| !value.is_empty());
    let said = said.map(|(name, value)| format!("  {name}: {value}"));
    let doubts = told.doubts().into_iter().map(|doubt| format!("  {}", doubt_line(&doubt, lang)));
    said.chain(doubts).collect::<Vec<_>>().join("\n")
}

/// A field that looks doubtful, and why.
pub fn doubt_line((field, mark): &(String, Mark), lang: Lang) -> String {
    let (en, zh) = mark.words();
    lang.tr(format!("doubtful: {field}: {en}"), format!("存疑：{field}：{zh}"))
}

fn parts(told: &Told, lang: Lang) -> String {
    if told.parts.is_empty() {
        return String::new();
    }
    let head = match lang {
        Lang::En => ["part", "media type", "bytes"],
        Lang::Zh => ["附件", "媒体类型", "字节"],
    };
    let row = |part: &ToldPart| vec![part.name.clone(), part.media_type.clone(), part.size.to_string()];
    table(&head, told.parts.iter().map(row))
}

/// A state in Chinese, its published name beside it.
pub fn state_zh(state: State) -> &'static str {
    match state {
        State::Accepted => "ACCEPTED 已受理",
        State::Relayed => "RELAYED 已转接",
        State::Consigned => "CONSIGNED 已送达信箱",
        State::Confirmed => "CONFIRMED 已交接",
        State::Rejected => "REJECTED 已拒收",
        State::Failed => "FAILED 未能送达",
        State::Expired => "EXPIRED 已过期",
        State::Cancelled => "CANCELLED 已撤回",
    }
}
