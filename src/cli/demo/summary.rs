//! Decides how the demo tells what happened: each case with its item's evidence mark, how fast, what the receipts proved,
//! and where everything lies. Never calls a run good in which one receipt failed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::client::mode_name;
use super::super::out::table;
use super::super::verify::{self, Chain, Link, Verdict};
use super::super::{Exit, Failure, Lang, Out};
use super::cases::{Case, Message};
use super::judge::Findings;
use super::play::Played;

/// Cases that have their own row.
const ROWS_MAX: usize = 100;

/// All that a run of the demo came to.
pub struct Summary<'a> {
    pub played: &'a Played,
    pub verdicts: &'a [Verdict],
    pub chains: &'a [Chain],
    pub findings: &'a Findings,
    pub folder: &'a Path,
}

impl Summary<'_> {
    /// Done only if every message has ended, every receipt holds, every message's chain is whole, and the judge found nothing.
    pub fn answer(&self) -> Exit {
        let messages: Vec<_> = self.messages().map(|(_, _, message)| message).collect();
        let complete = messages.iter().all(|message| message.ended()) && self.chains.len() == messages.len();
        if complete && self.findings.clean() { verify::answer(self.verdicts, self.chains, false) } else { Exit::No }
    }

    /// Shows the run, as tables or as JSON.
    pub fn show(&self, took: Duration, out: &Out) -> Result<(), Failure> {
        out.show(&self.json(took), || format!("{}\n{}", self.cases(out.lang), self.lines(took, out.lang).join("\n")))?;
        let folder = self.folder.display();
        let again = format!("tongban verify {folder}/receipts --trust {folder}/trust");
        out.hint(&format!("verify again with: {again}"), &format!("可再次验证：{again}"));
        Ok(())
    }

    /// Every message with its case and its place there.
    fn messages(&self) -> impl Iterator<Item = (&Case, usize, &Message)> {
        let cases = self.played.cases.iter();
        cases.flat_map(|case| (0..).zip(&case.messages).map(move |(place, message)| (case, place, message)))
    }

    fn cases(&self, lang: Lang) -> String {
        let head = match lang {
            Lang::En => ["case", "from", "to", "mode", "item", "item name is", "ended with", "messages", "receipts"],
            Lang::Zh => ["办件", "受理地", "办理地", "模式", "事项", "事项名称依据", "结束于", "消息", "回执"],
        };
        let row = |case: &Case| {
            let mode = case.item.mode.map(mode_name).unwrap_or_default().to_owned();
            let item = format!("{} {}", case.item.code, case.item.name);
            let receipts: usize = case.messages.iter().map(|message| message.receipts.len()).sum();
            let end = case.messages.last().map(|last| {
                let state = last.state.map(|state| state.to_string()).unwrap_or_default();
                let ended = if last.reasons.is_empty() { state } else { format!("{state} {}", last.reasons.join(" ")) };
                format!("{} {ended}", last.act.step)
            });
            let [from, to] = [case.applicant, case.competent].map(|city| lang.tr(city.en, city.zh).to_owned());
            let (messages, receipts) = (case.messages.len().to_string(), receipts.to_string());
            vec![
                case.no(),
                from,
                to,
                mode,
                item,
                case.item.evidence.clone(),
                end.unwrap_or_default(),
                messages,
                receipts,
            ]
        };
        let cases = &self.played.cases;
        if cases.len() > ROWS_MAX { String::new() } else { table(&head, cases.iter().map(row)) }
    }

    fn lines(&self, took: Duration, lang: Lang) -> Vec<String> {
        let (first, ended) = (self.played.first_receipt.as_secs_f64(), self.played.ended.as_secs_f64());
        let (took, folder) = (took.as_secs_f64(), self.folder.display());
        let page = self.played.page.display();
        let (held, failed) = verify::counts(self.verdicts);
        let (lost, doubled) = (self.findings.lost.len(), self.findings.doubled.len());
        let wrong = self.findings.disagreed.len() + self.findings.unsent.len() + self.findings.unreceipted.len();
        let whole = self.chains.iter().filter(|chain| chain.link == Link::Whole).count();
        let (states, marks) = (list(&self.states()), list(&self.marks()));
        match lang {
            Lang::En => vec![
                format!("first receipt {first:.2} s after start; all messages ended after {ended:.2} s: {states}"),
                format!("with all gateways stopped: {held} receipts verified, {failed} failed, {whole} chains whole"),
                format!("by what the systems wrote down: {lost} lost, {doubled} doubled, {wrong} otherwise wrong"),
                format!("item names: {marks} (data/README.md); codes DEMO-nnn, numbers and contents are made up"),
                format!("the file of the first case, to open in a browser: {page}"),
                format!("all done after {took:.2} s; everything lies in {folder}"),
            ],
            Lang::Zh => vec![
                format!("启动后 {first:.2} 秒得到第一份回执，{ended:.2} 秒全部办结：{states}"),
                format!("所有网关停止后离线验证：{held} 份回执通过，{failed} 份不通过，{whole} 条证据链完整"),
                format!("按各业务系统自己的记录：丢失 {lost}，重复 {doubled}，其他不符 {wrong}"),
                format!("事项名称：{marks}（见 data/README.md）；编码 DEMO-nnn、编号与内容均为虚构"),
                format!("第一件办件的案卷（用浏览器打开）：{page}"),
                format!("共用 {took:.2} 秒；全部文件在 {folder}"),
            ],
        }
    }

    fn states(&self) -> BTreeMap<String, usize> {
        count(self.messages().filter_map(|(_, _, message)| message.state).map(|state| state.to_string()))
    }

    /// Evidence marks of the cases' items.
    fn marks(&self) -> BTreeMap<String, usize> {
        count(self.played.cases.iter().map(|case| case.item.evidence.clone()))
    }

    fn json(&self, took: Duration) -> Value {
        let message = |(case, place, message): (&Case, usize, &Message)| {
            let (from, to) = case.way(place);
            json!({ "case_no": case.no(), "message_id": message.id.to_string(), "step": message.act.step,
                "from": from.address(), "to": to.address(), "item_code": case.item.code, "item_name": case.item.name,
                "item_evidence": case.item.evidence, "state": message.state.map(|state| state.as_str()),
                "reasons": message.reasons, "receipts": message.receipts.len() })
        };
        let (verified, failed) = verify::counts(self.verdicts);
        json!({
            "dir": self.folder,
            "case_file": self.played.page,
            "first_receipt_ms": self.played.first_receipt.as_millis() as u64,
            "all_ended_ms": self.played.ended.as_millis() as u64,
            "took_ms": took.as_millis() as u64,
            "cases": self.played.cases.len(),
            "states": self.states(),
            "item_evidence": self.marks(),
            "receipts": { "verified": verified, "failed": failed },
            "judge": self.findings,
            "chains_whole": self.chains.iter().filter(|chain| chain.link == Link::Whole).count(),
            "messages": self.messages().map(message).collect::<Vec<_>>(),
        })
    }
}

fn count(words: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    words.fold(BTreeMap::new(), |mut counts, word| {
        *counts.entry(word).or_default() += 1;
        counts
    })
}

fn list(counts: &BTreeMap<String, usize>) -> String {
    counts.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
}
