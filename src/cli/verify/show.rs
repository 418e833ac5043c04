//! Decides how verdicts are shown: a row for each receipt and each message, all of them as JSON. Never hides a failure,
//! however many receipts hold.

use serde_json::{Value, json};

use super::super::out::table;
use super::super::receipt::render;
use super::super::{Failure, Lang, Out, text};
use super::{Chain, Link, Verdict};
use crate::time::Time;

/// Rows up to which receipts that hold have their own row.
const ROWS_MAX: usize = 1_000;

/// Shows the verdicts and says the sum of them.
pub fn show(verdicts: &[Verdict], chains: &[Chain], out: &Out) -> Result<(), Failure> {
    let (held, failed) = counts(verdicts);
    let shown = || {
        json!({ "verified": held, "failed": failed, "receipts": verdicts.iter().map(verdict_json).collect::<Vec<_>>(),
            "messages": chains.iter().map(chain_json).collect::<Vec<_>>() })
    };
    // The data of a hundred thousand receipts is made only for those who ask for it.
    let shown = if out.json() { shown() } else { Value::Null };
    out.show(&shown, || format!("{}\n{}", receipts(verdicts, out.lang), messages(chains, out.lang)))?;
    out.say(
        &out.lang.tr(
            format!("{held} receipts verified, {failed} failed"),
            format!("{held} 份回执验证通过，{failed} 份不通过"),
        ),
    );
    Ok(())
}

/// Says how many receipts witnesses have cosigned, and since when they are known to others than their issuers.
pub fn tell_cosigned(verdicts: &[Verdict], out: &Out) {
    let held: Vec<_> = verdicts.iter().filter(|verdict| verdict.holds()).collect();
    let sealed = held.iter().filter(|verdict| !verdict.cosigned.is_empty()).count();
    let (all, without) = (held.len(), held.len() - sealed);
    out.say(&out.lang.tr(
        format!(
            "{sealed} of {all} are cosigned by trusted witnesses; of {without} the time is their issuer's word alone"
        ),
        format!("{all} 份中有 {sealed} 份经可信见证方联署；其余 {without} 份的时间仅为签发者自述"),
    ));
}

/// How many hold and how many fail.
pub fn counts(verdicts: &[Verdict]) -> (usize, usize) {
    let held = verdicts.iter().filter(|verdict| verdict.holds()).count();
    (held, verdicts.len() - held)
}

fn receipts(verdicts: &[Verdict], lang: Lang) -> String {
    let head = match lang {
        Lang::En => ["verdict", "file", "event", "message", "time", "cosigned by"],
        Lang::Zh => ["结论", "文件", "事件", "消息", "时间", "联署方"],
    };
    let few = verdicts.len() <= ROWS_MAX;
    let shown: Vec<_> = verdicts.iter().filter(|verdict| few || !verdict.holds()).collect();
    if shown.is_empty() { String::new() } else { table(&head, shown.into_iter().map(|verdict| row(verdict, lang))) }
}

fn row(verdict: &Verdict, lang: Lang) -> Vec<String> {
    let file = verdict.file.display().to_string();
    match &verdict.found {
        Ok(checked) => {
            let evidence = &checked.evidence;
            let (event, id, time) =
                (evidence.event.to_string(), evidence.message_id.to_string(), evidence.at.to_string());
            let cosigned = verdict.cosigned.iter().map(|(name, at_s)| format!("{name} {}", at(*at_s)));
            vec!["OK".to_owned(), file, event, id, time, cosigned.collect::<Vec<_>>().join("\n")]
        }
        Err(fault) => {
            let part = lang.tr(fault.part, text::part_zh(fault.part));
            let why = lang.tr(&fault.en, &fault.zh);
            let mut row = vec![format!("FAILED: {part}"), format!("{file}\n{why}")];
            row.resize(6, String::new());
            row
        }
    }
}

fn messages(chains: &[Chain], lang: Lang) -> String {
    let head = match lang {
        Lang::En => ["message", "from", "receipts", "chain", "state"],
        Lang::Zh => ["消息", "发送方", "回执", "证据链", "状态"],
    };
    let few = chains.len() <= ROWS_MAX;
    let shown: Vec<_> = chains.iter().filter(|chain| few || chain.link != Link::Whole).collect();
    let row = |chain: &Chain| {
        let state = chain.state.map(|state| state.to_string()).unwrap_or_default();
        vec![chain.id.to_string(), chain.from.to_string(), chain.receipts.to_string(), link(chain, lang), state]
    };
    if shown.is_empty() { String::new() } else { table(&head, shown.into_iter().map(row)) }
}

fn link(chain: &Chain, lang: Lang) -> String {
    match &chain.link {
        Link::Whole => lang.tr("whole", "完整").to_owned(),
        Link::Gap(after) => {
            lang.tr(format!("GAP: the receipt before {after} is missing"), format!("缺失：{after} 之前的回执不在其中"))
        }
        Link::Fork(at) => lang.tr(
            format!("FORK: {at} contradicts another receipt of its issuer"),
            format!("分叉：{at} 与同一签发者的另一回执矛盾"),
        ),
    }
}

fn verdict_json(verdict: &Verdict) -> Value {
    match &verdict.found {
        Ok(checked) => {
            let cosigned = verdict.cosigned.iter().map(|(name, at_s)| json!({ "witness": name, "at": at(*at_s) }));
            let cosigned: Vec<_> = cosigned.collect();
            json!({ "file": verdict.file, "holds": true, "receipt": render::receipt(checked), "cosigned": cosigned })
        }
        Err(fault) => json!({ "file": verdict.file, "holds": false, "part": fault.part, "fault": fault.en }),
    }
}

/// A witness's time.
fn at(at_s: u64) -> String {
    Time::from_ms(at_s.saturating_mul(1000)).to_string()
}

fn chain_json(chain: &Chain) -> Value {
    let (link, at) = match &chain.link {
        Link::Whole => ("whole", None),
        Link::Gap(at) => ("gap", Some(at)),
        Link::Fork(at) => ("fork", Some(at)),
    };
    json!({ "message_id": chain.id.to_string(), "from": chain.from.to_string(), "receipts": chain.receipts,
        "chain": link, "at": at, "state": chain.state.map(|state| state.as_str()) })
}
