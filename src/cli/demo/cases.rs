//! Decides which cases the demo sends: real item names with their evidence marks, and made-up codes, numbers, people and
//! contents. Never presents one as official.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::json;

use super::super::send::draft::{self, Content, Draft};
use super::super::{Exit, Failure};
use super::cast::City;
use super::course::{self, Act, Side};
use crate::cli::client::address;
use crate::evidence::State;
use crate::id::MessageId;
use crate::message::{Address, Envelope, Mode, TextError};
use crate::receipt::Checked;

/// Item names with source and evidence mark; data/README.md says what the marks mean.
const ITEMS: &str = include_str!("../../../data/items.csv");

/// The applicant of every case: nobody. The id is the example of GB 11643, and stands in contents alone, as all that is personal
/// must.
const APPLICANT: [(&str, &str); 3] =
    [("姓名", "张三"), ("公民身份号码", "11010519491231002X"), ("手机", "13800138000")];

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

/// One case of the demo with all of its messages.
#[derive(Debug)]
pub struct Case {
    /// From 1.
    pub number: usize,
    pub item: Item,
    pub applicant: &'static City,
    pub competent: &'static City,
    /// In the order of its course.
    pub messages: Vec<Message>,
}

/// One message of a case.
#[derive(Debug)]
pub struct Message {
    pub act: Act,
    pub id: MessageId,
    /// Whether its recipient has taken it.
    pub taken: bool,
    /// As its sender's gateway tells it; none until it is accepted.
    pub state: Option<State>,
    /// Reasons of its end, if it ended badly.
    pub reasons: Vec<String>,
    /// All receipts about it, in order, when it has ended.
    pub receipts: Vec<Checked>,
}

impl Message {
    /// Whether it has ended.
    pub fn ended(&self) -> bool {
        self.state.is_some_and(State::is_final)
    }
}

impl Case {
    /// The case of that number, of which nothing was sent yet.
    pub fn new(number: usize, item: Item) -> Result<Case, Failure> {
        let (applicant, competent) = course::cities(number);
        let message = |act| {
            Ok(Message { act, id: draft::new_id()?, taken: false, state: None, reasons: vec![], receipts: vec![] })
        };
        let messages = course::course(number, item.mode).into_iter().map(message).collect::<Result<_, Failure>>()?;
        Ok(Case { number, item, applicant, competent, messages })
    }

    /// `DEMO-0001`
    pub fn no(&self) -> String {
        format!("DEMO-{:04}", self.number)
    }

    /// `DEMO-0001-2-accept`, of the second message.
    pub fn name(&self, place: usize) -> String {
        format!("{}-{}-{}", self.no(), place + 1, self.messages[place].act.step)
    }

    /// From which city a message of it goes to which.
    pub fn way(&self, place: usize) -> (&'static City, &'static City) {
        match self.messages[place].act.by {
            Side::Applicant => (self.applicant, self.competent),
            Side::Competent => (self.competent, self.applicant),
        }
    }

    /// A message of it, written now; each call writes another, so whoever sends again keeps the first.
    pub fn envelope(&self, place: usize, me: &Address) -> Result<Envelope, Failure> {
        let message = &self.messages[place];
        self.draft(place)?.envelope(me, message.id)
    }

    fn draft(&self, place: usize) -> Result<Draft, Failure> {
        let (item, act) = (&self.item, &self.messages[place].act);
        let (_, to) = self.way(place);
        let applicant: BTreeMap<&str, &str> = APPLICANT.into();
        let form = json!({ "事项": item.name, "事项编码": item.code, "办件编号": self.no(), "环节": act.step,
            "申请人": applicant, "说明": "演示数据：人员、编码、编号与内容均为虚构" });
        let content = Content::new(act.part, "application/json", Bytes::from(form.to_string())).map_err(unfit)?;
        Ok(Draft {
            traceparent: None,
            to: address(&to.address()).ok(),
            jurisdiction: None,
            item_code: item.code.parse().map_err(unfit)?,
            case_no: Some(self.no().parse().map_err(unfit)?),
            step: Some(act.step.parse().map_err(unfit)?),
            mode: item.mode,
            in_reply_to: place.checked_sub(1).map(|before| self.messages[before].id),
            contents: vec![content],
            attachments: vec![],
            attributes: [("item-evidence".to_owned(), item.evidence.clone())].into(),
            expires_in_ms: None,
        })
    }
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
    fn every_message_of_every_case_is_well_formed() {
        let me = address("450200/window").unwrap();
        for (item, number) in items(101).into_iter().zip(1..) {
            let case = Case::new(number, item).unwrap();
            for place in 0..case.messages.len() {
                let envelope = case.envelope(place, &me).unwrap();
                assert_eq!(crate::cli::client::form(&envelope), Ok(()), "{case:?}");
            }
        }
    }

    #[test]
    fn the_applicants_id_would_pass_for_a_real_one() {
        let [_, (_, id), _] = APPLICANT;
        let sum: u32 = id
            .bytes()
            .zip([7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2])
            .map(|(digit, weight)| u32::from(digit - b'0') * weight)
            .sum();
        assert_eq!(id.chars().last(), "10X98765432".chars().nth(sum as usize % 11));
    }
}
