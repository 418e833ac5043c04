//! Decides how a case reads on paper: one page without script or anything from elsewhere, Chinese beside English. Never lets
//! a word that came over the wire be anything but text.

use super::drawing::drawings;
use super::gather::{Carried, CaseFile};
use super::story::tell;
use crate::cli::client::plain;
use crate::evidence::Event;
use crate::message::Envelope;
use crate::receipt::Checked;

const STYLE: &str = include_str!("page.css");

/// `index.html`.
pub fn page(case: &CaseFile) -> String {
    let story = tell(case);
    let no = escaped(case.case_no.as_str());
    let receipts: usize = case.messages.iter().map(|one| one.receipts.len()).sum();
    let facts = [
        ("办件编号", "Case number", case.case_no.as_str().to_owned()),
        ("消息", "Messages", case.messages.len().to_string()),
        ("回执（导出时已逐份验证）", "Receipts (each verified when this was made)", receipts.to_string()),
        ("导出时间", "Made at", case.made_at.to_string()),
        ("查询身份", "As seen by", case.seen_by.clone()),
        (
            "联盟与目录版本",
            "Alliance and directory version",
            format!("{} {}", case.directory.alliance().as_str(), case.directory.version()),
        ),
        ("内容", "Contents", if case.with_bodies { "bodies/" } else { "不在其中 not in it" }.to_owned()),
    ];
    let members = case.members();
    let names = members.iter().filter_map(|member| case.directory.member(member)).map(|record| {
        let keys = record.log_keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        vec![record.member.to_string(), record.name_zh.clone(), record.name_en.clone(), keys]
    });
    let parties = table(&["成员 Member", "名称", "Name", "日志公钥 Log keys"], names);
    let messages: String = case.messages.iter().zip(1..).map(|(one, number)| message(number, one)).collect();
    format!(
        "<!doctype html>\n<html lang=\"zh\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>办件卷宗 Case file {no}</title>\n<style>\n{STYLE}</style></head><body>\n\
         <h1>办件卷宗 <span lang=\"en\">Case file</span> {no}</h1>\n{}\
         <p>本页仅供阅读，不具证明力；证据是 receipts/ 中的 .leaf 与 .tlog-proof 文件，验证方法见 VERIFY.txt。时间均为签发网关自己的时钟所示（UTC）。</p>\n\
         <p lang=\"en\">This page only helps to read and proves nothing; the evidence is in receipts/, VERIFY.txt says how to verify \
         it. Times are those of the issuing gateways' own clocks (UTC).</p>\n\
         <h2>经过 <span lang=\"en\">What happened</span></h2>\n\
         <p>竖条表示由谁保管，箭头表示交接，叉表示拒绝或未成，圆点表示进入信箱或仍在尝试；方括号内为网关。\
         <span lang=\"en\">A bar: who holds custody. An arrow: custody is given. A cross: refused or failed. A dot: in the mailbox, or \
         still trying. Gateways in brackets.</span></p>\n{}\n\
         <h2>成员与公钥 <span lang=\"en\">Members and keys</span></h2>\n{parties}\n{messages}</body></html>\n",
        facts_table(facts.into_iter()),
        drawings(&story)
    )
}

fn message(number: usize, one: &Carried) -> String {
    let told = &one.told;
    let holds = match one.header_holds() {
        Some(true) => "是 yes",
        Some(false) => "否 NO",
        None => "消息头已按保存期限清除 the header is gone",
    };
    let time = |at: Option<crate::time::Time>| at.map(|at| at.to_string()).unwrap_or_default();
    let end = [(told.in_doubt, "存疑 in doubt"), (told.late, "迟到 late")];
    let marks: String = end.iter().filter(|(is, _)| *is).map(|(_, word)| format!(" {word}")).collect();
    let facts = [
        ("消息", "Message", told.id.clone()),
        ("发送方", "From", told.from.clone()),
        ("接收方", "To", told.to.clone()),
        ("事项", "Item", told.item_code.clone()),
        ("环节", "Step", told.step.clone()),
        ("模式", "Mode", told.mode.to_owned()),
        ("答复", "In reply to", told.in_reply_to.clone()),
        ("撰写时间", "Written", time(told.created_at)),
        ("截止时间", "Expires", time(told.expires_at)),
        ("状态", "State", format!("{}{marks}", crate::cli::message::state_zh(told.state))),
        ("消息头与全部回执一致", "Header agrees with all receipts", holds.to_owned()),
    ];
    let parts = told.parts.iter().map(|part| vec![part.name.clone(), part.media_type.clone(), part.size.to_string()]);
    let attributes = one.header.iter().flat_map(|header: &Envelope| &header.attributes);
    let attributes = attributes.map(|(key, value)| vec![key.clone(), value.clone()]);
    let details = told.history.iter().filter(|event| !event.detail.is_empty());
    let details = details.map(|event| vec![event.receipt_id.clone(), event.detail.clone()]);
    format!(
        "<section><h2>#{number} {}</h2>\n{}{}{}{}{}</section>\n",
        escaped(&told.step),
        facts_table(facts.into_iter().filter(|(_, _, value)| !value.is_empty())),
        table(&["附件 Part", "类型 Media type", "字节 Bytes"], parts),
        table(&["属性 Attribute", "值 Value"], attributes),
        table(
            &["时间 Time", "事件 Event", "签发者 Issuer", "原因 Reasons", "日志 Log", "序号 Index", "回执 Receipt"],
            one.receipts.iter().map(receipt)
        ),
        table(&["回执 Receipt", "说明 Words beside it"], details),
    )
}

fn receipt(checked: &Checked) -> Vec<String> {
    let evidence = &checked.evidence;
    let (zh, _) = event_words(evidence.event);
    let reasons =
        evidence.reasons.iter().chain(&evidence.token).map(|code| code.as_str()).collect::<Vec<_>>().join(" ");
    let index = checked.receipt.proof.index.to_string();
    let (at, event) = (evidence.at.to_string(), format!("{} {zh}", evidence.event));
    vec![at, event, evidence.issuer.to_string(), reasons, checked.log_origin.clone(), index, evidence.id.to_string()]
}

/// What an event says, in Chinese and English.
pub fn event_words(event: Event) -> (&'static str, &'static str) {
    match event {
        Event::SubmissionAccepted => ("已受理", "accepted"),
        Event::SubmissionRejected => ("提交被拒绝", "submission refused"),
        Event::RelayAccepted => ("下一网关已接收", "taken over"),
        Event::RelayRejected => ("下一网关拒收", "relay refused"),
        Event::RelayFailed => ("未能送达下一网关", "relay failed"),
        Event::Consigned => ("进入接收方信箱", "in the mailbox"),
        Event::ConsignmentFailed => ("未能进入信箱", "not put into the mailbox"),
        Event::HandedOver => ("已交接", "handed over"),
        Event::HandoverFailed => ("接收方拒收", "handover refused"),
        Event::Expired => ("已过期", "expired"),
        Event::Cancelled => ("已撤回", "withdrawn"),
        Event::Delayed => ("延迟，仍在尝试", "delayed, still trying"),
        Event::Witnessed => ("收到他方回执", "receipt of another log seen"),
    }
}

/// Foreign text as text: no markup, nothing that a reader does not see.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in plain(text).chars() {
        match letter {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            other => safe.push(other),
        }
    }
    safe
}

/// Rows of named values; the names are ours, the values anybody's.
fn facts_table(facts: impl Iterator<Item = (&'static str, &'static str, String)>) -> String {
    let row = |(zh, en, value): (&str, &str, String)| {
        format!("<tr><th>{zh} <span lang=\"en\">{en}</span></th><td>{}</td></tr>\n", escaped(&value))
    };
    format!("<table class=\"f\">\n{}</table>\n", facts.map(row).collect::<String>())
}

/// A table; nothing when it has no rows. The head is ours, the cells anybody's.
fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let cells = |row: Vec<String>| row.iter().map(|cell| format!("<td>{}</td>", escaped(cell))).collect::<String>();
    let rows: String = rows.map(|row| format!("<tr>{}</tr>\n", cells(row))).collect();
    if rows.is_empty() {
        return String::new();
    }
    let head: String = head.iter().map(|name| format!("<th>{name}</th>")).collect();
    format!("<table>\n<tr>{head}</tr>\n{rows}</table>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_text() {
        assert_eq!(
            escaped("<script>alert('a&\"b')</script>"),
            "&lt;script&gt;alert(&#39;a&amp;&quot;b&#39;)&lt;/script&gt;"
        );
        assert_eq!(escaped("a\u{202e}b"), "a?b");
        let row = vec!["<b>".to_owned()];
        assert!(table(&["x"], std::iter::once(row)).contains("<td>&lt;b&gt;</td>"));
    }
}
