//! Decides how `tongban stats` shows how messages fared: a table, JSON or CSV. Never counts a message itself.

use clap::Args;
use serde_json::json;

use super::client::{As, By, ToldSum, converse};
use super::out::table;
use super::when::when;
use super::{Answer, Exit, Failure, Lang, Out, now};
use crate::limits::DAY_MS;
use crate::time::Time;

/// Count the messages of a range of time and how they fared, as their receipts tell
#[derive(Args)]
pub struct Stats {
    #[command(flatten)]
    who: As,
    /// Messages accepted from this day or moment on, e.g. 2026-01-31 [default: 30 days before --to]
    #[arg(long, value_name = "TIME", value_parser = when)]
    from: Option<Time>,
    /// Messages accepted before this day or moment [default: now]
    #[arg(long, value_name = "TIME", value_parser = when)]
    to: Option<Time>,
    /// By what they are counted
    #[arg(long, value_enum, default_value = "partner")]
    by: By,
    /// Print comma-separated values
    #[arg(long)]
    csv: bool,
}

/// The numbers of a row, by their names in CSV.
const NUMBERS: [&str; 10] =
    ["accepted", "handed_over", "rejected", "failed", "expired", "cancelled", "open", "late", "bytes", "handover_ms"];

/// Days that are counted when nobody says from when on.
const DAYS: u64 = 30;

/// Counts and shows.
pub fn run(command: &Stats, out: &Out) -> Answer {
    if command.csv && out.json() {
        return Err(Failure::new(Exit::Usage, "--csv or --json, not both", "--csv 与 --json 不能同时使用"));
    }
    let until = command.to.unwrap_or_else(now);
    let from = command.from.unwrap_or(until.minus_ms(DAYS * DAY_MS));
    converse(&command.who, async |client| {
        let sums = client.stats(from, until, command.by).await.map_err(|trouble| trouble.shown(out))?;
        if command.csv {
            out.print(&csv(&sums))?;
            return Ok(Exit::Done);
        }
        let value = json!({ "from": from.to_string(), "to": until.to_string(), "by": command.by, "rows": sums });
        out.show(&value, || shown(&sums, (from, until), command.by, out.lang))?;
        Ok(Exit::Done)
    })
}

fn numbers(sum: &ToldSum) -> [u64; 10] {
    let ToldSum { accepted, handed_over, rejected, failed, expired, cancelled, open, late, bytes, handover_ms, .. } =
        sum;
    [accepted, handed_over, rejected, failed, expired, cancelled, open, late, bytes, handover_ms].map(|number| *number)
}

/// RFC 4180, but for line ends.
fn csv(sums: &[ToldSum]) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let row = |sum: &ToldSum| {
        let numbers = numbers(sum).map(|number| number.to_string()).join(",");
        format!("{},{},{numbers}\n", sum.direction.to_lowercase(), quoted(&sum.key))
    };
    let head = format!("direction,key,{}\n", NUMBERS.join(","));
    std::iter::once(head).chain(sums.iter().map(row)).collect()
}

fn shown(sums: &[ToldSum], (from, until): (Time, Time), by: By, lang: Lang) -> String {
    let total: u64 = sums.iter().map(|sum| sum.accepted).sum();
    let line = lang.tr(
        format!("{total} messages accepted from {from} to {until}, and how they fare now"),
        format!("{from} 至 {until} 受理消息 {total} 条，截至目前的情况"),
    );
    if sums.is_empty() {
        return line;
    }
    let key = match by {
        By::Partner => lang.tr("partner", "对方城市"),
        By::Item => lang.tr("item", "事项"),
        By::Mode => lang.tr("mode", "方式"),
        By::Step => lang.tr("step", "环节"),
    };
    let (way, mean) = (lang.tr("way", "方向"), lang.tr("mean time", "平均用时"));
    let names = match lang {
        Lang::En => ["accepted", "handed over", "rejected", "failed", "expired", "cancelled", "open", "late", "bytes"],
        Lang::Zh => ["受理", "已交接", "被拒", "失败", "过期", "撤回", "未结", "迟到", "字节"],
    };
    let head: Vec<&str> = [way, key].into_iter().chain(names).chain([mean]).collect();
    let row = |sum: &ToldSum| {
        let seconds = match sum.handed_over {
            0 => String::new(),
            count => format!("{:.1} s", sum.handover_ms as f64 / count as f64 / 1000.0),
        };
        let cells = [direction(&sum.direction, lang).to_owned(), sum.key.clone()];
        let numbers = numbers(sum).into_iter().take(9).map(|number| number.to_string());
        cells.into_iter().chain(numbers).chain([seconds]).collect()
    };
    format!("{line}\n{}", table(&head, sums.iter().map(row)))
}

fn direction(direction: &str, lang: Lang) -> &str {
    match direction {
        "SENT" => lang.tr("sent", "发出"),
        "RECEIVED" => lang.tr("received", "收到"),
        "CARRIED" => lang.tr("carried", "转递"),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_parted_by_commas_and_no_key_breaks_out_of_its_cell() {
        let sum = ToldSum { direction: "SENT".to_owned(), key: "a,\"b".to_owned(), accepted: 3, ..ToldSum::default() };
        let text = csv(&[sum]);
        assert!(text.starts_with("direction,key,accepted,handed_over,"));
        assert_eq!(text.lines().nth(1), Some("sent,\"a,\"\"b\",3,0,0,0,0,0,0,0,0,0"));
    }
}
