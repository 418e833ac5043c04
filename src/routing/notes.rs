//! Decides what an explanation says, in Chinese and English. Never decides anything about a message.

use std::fmt;

use super::pattern::Day;
use super::table::Candidate;
use super::{Destination, Refusal, RowRef};
use crate::message::Address;
use crate::party::Division;

/// One thing that was looked at on the way to a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The day in China on which rows must hold.
    Day(Day),
    /// The recipient is named.
    Addressed(Address),
    /// The recipient is open; whoever claims the jurisdiction takes it.
    Open(Option<Division>),
    /// The city has no table: its member record says how it is reached.
    NoTable(Division),
    /// Rows stand under this division prefix; empty for `*`.
    Division(String),
    /// The row would cover the message, but begins later.
    NotYet(RowRef),
    /// The row would cover the message, but has ended.
    Over(RowRef),
    /// The row covers the message, but belongs to another than the city that was named.
    Elsewhere(RowRef),
    /// No row of the own table: the configuration's lists of items.
    Configuration,
    /// A way of the row is closed by the member records.
    Closed(Candidate),
    /// A gateway that is no hub relays nothing.
    MustEndHere,
    /// The decision: the row that was taken, and where the message may go.
    Taken { row: RowRef, lanes: Vec<Destination> },
    /// The decision: nowhere.
    Refused(Refusal),
}

/// Who wants to know: nobody, or a list.
pub(super) trait Notes {
    fn note(&mut self, note: impl FnOnce() -> Note);
}

impl Notes for () {
    fn note(&mut self, _: impl FnOnce() -> Note) {}
}

impl Notes for Vec<Note> {
    fn note(&mut self, note: impl FnOnce() -> Note) {
        self.push(note());
    }
}

fn listed(lanes: &[Destination]) -> String {
    let lanes: Vec<String> = lanes.iter().map(Destination::to_string).collect();
    lanes.join(", ")
}

fn prefix(digits: &str) -> &str {
    if digits.is_empty() { "*" } else { digits }
}

/// In English.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Day(day) => write!(f, "rows must hold on {day} (UTC+8)"),
            Note::Addressed(to) => write!(f, "addressed to {to}"),
            Note::Open(Some(division)) => write!(f, "recipient open: whoever claims {}", division.as_str()),
            Note::Open(None) => f.write_str("recipient open, and no jurisdiction given"),
            Note::NoTable(city) => write!(f, "{} has no table: its member record decides", city.as_str()),
            Note::Division(digits) => write!(f, "rows under division {}", prefix(digits)),
            Note::NotYet(row) => write!(f, "{row} begins later"),
            Note::Over(row) => write!(f, "{row} has ended"),
            Note::Elsewhere(row) => write!(f, "{row} is not of the city addressed"),
            Note::Configuration => f.write_str("no row of the own table: the systems' items in the configuration"),
            Note::Closed(way) => write!(f, "{way} is closed by the member records"),
            Note::MustEndHere => f.write_str("came from another gateway and must end here: a city relays nothing"),
            Note::Taken { row, lanes } => write!(f, "taken: {row} -> {}", listed(lanes)),
            Note::Refused(Refusal { reason, token, row }) => {
                write!(f, "refused: {}", reason.code())?;
                token.iter().try_for_each(|token| write!(f, " {}", token.as_str()))?;
                row.iter().try_for_each(|row| write!(f, " by {row}"))
            }
        }
    }
}

impl Note {
    /// In Chinese.
    pub fn zh(&self) -> String {
        match self {
            Note::Day(day) => format!("按 {day}（北京时间）有效的条目"),
            Note::Addressed(to) => format!("指定接收方 {to}"),
            Note::Open(Some(division)) => format!("未指定接收方：按管辖区划 {} 查找", division.as_str()),
            Note::Open(None) => "未指定接收方，也未给出管辖区划".to_owned(),
            Note::NoTable(city) => format!("{} 没有路由表：按成员记录处理", city.as_str()),
            Note::Division(digits) => format!("查看区划 {} 下的条目", prefix(digits)),
            Note::NotYet(row) => format!("{}尚未生效", row.zh()),
            Note::Over(row) => format!("{}已失效", row.zh()),
            Note::Elsewhere(row) => format!("{}不属于所指定的城市", row.zh()),
            Note::Configuration => "本市路由表无匹配条目：按配置中各系统的事项分派".to_owned(),
            Note::Closed(way) => format!("按成员记录，{way} 不可用"),
            Note::MustEndHere => "来自其他网关，须止于本市：城市网关不转发".to_owned(),
            Note::Taken { row, lanes } => format!("采用：{} -> {}", row.zh(), listed(lanes)),
            Note::Refused(Refusal { reason, token, row }) => {
                let token = token.as_ref().map_or(String::new(), |token| format!(" {}", token.as_str()));
                let row = row.as_ref().map_or(String::new(), |row| format!("（{}）", row.zh()));
                format!("拒绝：{}{token}{row}", reason.code())
            }
        }
    }
}

impl RowRef {
    /// In Chinese.
    pub fn zh(&self) -> String {
        match self {
            RowRef::Row { owner, number } => format!("{} 第 {number} 条", owner.as_str()),
            RowRef::Record(member) => format!("{member} 的成员记录"),
            RowRef::Configured(name) => format!("配置中的系统 {}", name.as_str()),
            RowRef::Named(name) => format!("发送方指定的系统 {}", name.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    #[test]
    fn every_note_is_told_in_both_languages() {
        let city = |code: &str| code.parse::<Division>().unwrap();
        let row = || RowRef::Row { owner: city("450200"), number: 7 };
        let to = Address { city: city("440600"), system: Some("window".parse().unwrap()) };
        let lanes =
            vec![Destination::Gateway("450200".parse().unwrap()), Destination::System("window".parse().unwrap())];
        let refused = Refusal { reason: Reason::RouteRefused, token: Some("GONE".parse().unwrap()), row: Some(row()) };
        let told = [
            (
                Note::Day(Day::new(2026, 6, 15).unwrap()),
                "rows must hold on 2026-06-15 (UTC+8)",
                "按 2026-06-15（北京时间）有效的条目",
            ),
            (Note::Addressed(to), "addressed to 440600/window", "指定接收方 440600/window"),
            (
                Note::Open(Some(city("450205"))),
                "recipient open: whoever claims 450205",
                "未指定接收方：按管辖区划 450205 查找",
            ),
            (Note::Open(None), "recipient open, and no jurisdiction given", "未指定接收方，也未给出管辖区划"),
            (
                Note::NoTable(city("450300")),
                "450300 has no table: its member record decides",
                "450300 没有路由表：按成员记录处理",
            ),
            (Note::Division("4502".to_owned()), "rows under division 4502", "查看区划 4502 下的条目"),
            (Note::Division(String::new()), "rows under division *", "查看区划 * 下的条目"),
            (Note::NotYet(row()), "row 7 of 450200 begins later", "450200 第 7 条尚未生效"),
            (
                Note::Over(RowRef::Record("450200".parse().unwrap())),
                "record of 450200 has ended",
                "450200 的成员记录已失效",
            ),
            (
                Note::Elsewhere(RowRef::Configured("window".parse().unwrap())),
                "configuration of system window is not of the city addressed",
                "配置中的系统 window不属于所指定的城市",
            ),
            (
                Note::Configuration,
                "no row of the own table: the systems' items in the configuration",
                "本市路由表无匹配条目：按配置中各系统的事项分派",
            ),
            (
                Note::Closed("hub/main".parse().unwrap()),
                "hub/main is closed by the member records",
                "按成员记录，hub/main 不可用",
            ),
            (
                Note::MustEndHere,
                "came from another gateway and must end here: a city relays nothing",
                "来自其他网关，须止于本市：城市网关不转发",
            ),
            (
                Note::Taken { row: RowRef::Named("window".parse().unwrap()), lanes },
                "taken: system window as named by the sender -> 450200, system window",
                "采用：发送方指定的系统 window -> 450200, system window",
            ),
            (
                Note::Refused(refused),
                "refused: ROUTE_REFUSED GONE by row 7 of 450200",
                "拒绝：ROUTE_REFUSED GONE（450200 第 7 条）",
            ),
        ];
        for (note, en, zh) in told {
            assert_eq!((note.to_string().as_str(), note.zh().as_str()), (en, zh));
        }
    }
}
