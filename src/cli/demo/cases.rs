//! Decides which cases the demo sends: real item names with their evidence marks, and made-up codes, numbers and contents.
//! Never presents one as official.

use bytes::Bytes;
use serde_json::json;

use super::super::send::draft::{Content, Draft};
use super::super::{Exit, Failure};
use super::stage::{FOSHAN, LIUZHOU};
use crate::cli::client::address;
use crate::evidence::State;
use crate::id::MessageId;
use crate::message::{Mode, TextError};
use crate::receipt::Checked;

/// Item names with source and evidence mark; data/README.md says what the marks mean.
const ITEMS: &str = include_str!("../../../data/items.csv");

/// A service item of the catalogue.
#[derive(Debug, Clone)]
pub struct Item {
    /// Made up from the row's number: the catalogue has no codes.
    pub code: String,
    pub name: String,
    pub mode: Option<Mode>,
    /// `sourced` or `unverified`.
    pub evidence: String,
}

/// One message of the demo.
#[derive(Debug)]
pub struct Case {
    /// From 1.
    pub number: usize,
    pub item: Item,
    pub id: MessageId,
    /// Foshan's answer to the case, not the case itself.
    pub reply: bool,
    /// As its sender's gateway tells it; none until it is accepted.
    pub state: Option<State>,
    /// Reasons of its end, if it ended badly.
    pub reasons: Vec<String>,
    /// All receipts about it, in order, when it has ended.
    pub receipts: Vec<Checked>,
}

impl Case {
    /// A case that was not sent yet.
    pub fn new(number: usize, item: Item, id: MessageId) -> Case {
        Case { number, item, id, reply: false, state: None, reasons: vec![], receipts: vec![] }
    }

    /// `DEMO-0001`, and `DEMO-0001-REPLY` for its answer.
    pub fn name(&self) -> String {
        format!("{}{}", case_no(self.number), if self.reply { "-REPLY" } else { "" })
    }

    /// Whether it has ended.
    pub fn ended(&self) -> bool {
        self.state.is_some_and(State::is_final)
    }
}

/// The case number of the demo's nth case.
pub fn case_no(number: usize) -> String {
    format!("DEMO-{number:04}")
}

/// What Liuzhou sends.
pub fn request(number: usize, item: &Item) -> Result<Draft, Failure> {
    let to = format!("{}/{}", FOSHAN.code, FOSHAN.system);
    draft(number, item, &to, "apply", "申请表.json", None)
}

/// What Foshan answers.
pub fn reply(number: usize, item: &Item, to: MessageId) -> Result<Draft, Failure> {
    let window = format!("{}/{}", LIUZHOU.code, LIUZHOU.system);
    draft(number, item, &window, "accept", "受理通知.json", Some(to))
}

fn draft(
    number: usize,
    item: &Item,
    to: &str,
    step: &str,
    part: &str,
    in_reply_to: Option<MessageId>,
) -> Result<Draft, Failure> {
    let form = json!({ "事项": item.name, "事项编码": item.code, "办件编号": case_no(number), "申请人": "演示申请人",
        "说明": "演示数据：编码、编号与内容均为虚构" });
    let content = Content::new(part, "application/json", Bytes::from(form.to_string())).map_err(unfit)?;
    Ok(Draft {
        to: address(to).ok(),
        jurisdiction: None,
        item_code: item.code.parse().map_err(unfit)?,
        case_no: Some(case_no(number).parse().map_err(unfit)?),
        step: Some(step.parse().map_err(unfit)?),
        mode: item.mode,
        in_reply_to,
        contents: vec![content],
        attachments: vec![],
        attributes: [("item-evidence".to_owned(), item.evidence.clone())].into(),
        expires_in_ms: None,
    })
}

fn unfit(why: TextError) -> Failure {
    Failure::new(Exit::Software, format!("a case of the demo: {why}"), format!("演示办件不合规定：{why}"))
}

/// `count` items, spread over the whole catalogue and begun anew when it is used up.
pub fn items(count: usize) -> Vec<Item> {
    let all = catalogue();
    let spread = |place: usize| if count < all.len() { place * all.len() / count } else { place % all.len().max(1) };
    (0..count).filter_map(|place| all.get(spread(place)).cloned()).collect()
}

fn catalogue() -> Vec<Item> {
    let mut rows = ITEMS.lines().map(fields);
    let head = rows.next().unwrap_or_default();
    let column = |name: &str| head.iter().position(|column| column == name).unwrap_or(usize::MAX);
    let (name, mode, evidence) = (column("name"), column("mode"), column("evidence"));
    let item = |(number, row): (usize, Vec<String>)| {
        let at = |column: usize| row.get(column).cloned();
        let code = format!("DEMO-{number:03}");
        Some(Item { code, name: at(name)?, mode: mode_of(&at(mode)?), evidence: at(evidence)? })
    };
    (1..).zip(rows).filter_map(item).collect()
}

fn mode_of(text: &str) -> Option<Mode> {
    match text {
        "全程网办" => Some(Mode::Online),
        "异地代收代办" => Some(Mode::Proxy),
        "多地联办" => Some(Mode::Joint),
        _ => None,
    }
}

/// The fields of one line of CSV (RFC 4180); a field never spans lines here.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (vec![], String::new(), false);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                field.push('"');
                letters.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_catalogue_is_an_item() {
        let all = catalogue();
        assert_eq!(all.len(), ITEMS.lines().count() - 1);
        for item in &all {
            assert!(item.mode.is_some(), "{item:?}");
            assert!(["sourced", "unverified"].contains(&item.evidence.as_str()), "{item:?}");
            assert!(!item.name.is_empty() && !item.name.contains('"'), "{item:?}");
        }
        assert_eq!((all[0].code.as_str(), all[100].code.as_str()), ("DEMO-001", "DEMO-101"));
    }

    #[test]
    fn cases_are_spread_over_the_catalogue() {
        let names = |count| items(count).into_iter().map(|item| item.name).collect::<std::collections::BTreeSet<_>>();
        assert_eq!((names(1).len(), names(20).len(), names(101).len(), names(500).len()), (1, 20, 101, 101));
        assert_eq!(items(500).len(), 500);
        let modes: std::collections::BTreeSet<_> = items(20).into_iter().map(|item| item.mode).collect();
        assert_eq!(modes.len(), 3, "all three modes");
    }

    #[test]
    fn a_line_of_csv_is_cut_at_commas_outside_quotes() {
        assert_eq!(fields(r#"a,"b, ""c""",,d"#), ["a", r#"b, "c""#, "", "d"]);
    }

    #[test]
    fn every_case_is_well_formed() {
        let me = address("450200/window").unwrap();
        for (item, number) in items(101).iter().zip(1..) {
            let id = MessageId::from_bytes([9; 16]);
            for draft in [request(number, item).unwrap(), reply(number, item, id).unwrap()] {
                assert_eq!(crate::cli::client::form(&draft.envelope(&me, id).unwrap()), Ok(()), "{item:?}");
            }
        }
    }
}
