//! Decides how `tongban partner` shows the ways to the partners, and which one is tested now. Never tests one itself: the
//! gateway does.

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::{As, ToldTest, converse};
use super::out::table;
use super::{Answer, Exit, Lang, Out};
use crate::party::Division;

#[derive(Subcommand)]
pub enum Command {
    /// Send a test message to a partner's gateway and wait until its last receipt is home: exit code 0 or 1
    Test(Test),
    /// Show how the way to each partner stands
    List {
        #[command(flatten)]
        who: As,
    },
}

#[derive(Args)]
pub struct Test {
    #[command(flatten)]
    who: As,
    /// The partner's division code
    #[arg(value_name = "CODE")]
    partner: Division,
}

/// Runs one command of the family.
pub fn run(command: &Command, out: &Out) -> Answer {
    match command {
        Command::Test(Test { who, partner }) => converse(who, async |client| {
            let test = client.test_partner(partner).await.map_err(|trouble| trouble.shown(out))?;
            out.show(&json!(test), || line(&test, out.lang))?;
            if test.status == "BROKEN" {
                let check = format!("`tongban check --partner {}`", test.partner);
                let (en, zh) = (" shows each stage and the way out", " 逐段检查并给出处理办法");
                out.hint(&(check.clone() + en), &(check + zh));
            }
            Ok(if test.status == "OK" { Exit::Done } else { Exit::No })
        }),
        Command::List { who } => converse(who, async |client| {
            let tests = client.partner_tests().await.map_err(|trouble| trouble.shown(out))?;
            out.show(&json!({ "partners": tests }), || shown(&tests, out.lang))?;
            Ok(Exit::Done)
        }),
    }
}

fn line(test: &ToldTest, lang: Lang) -> String {
    let (partner, status) = (&test.partner, status(test, lang));
    match (test.round_trip_ms, broke(test).as_str()) {
        (Some(ms), _) => lang
            .tr(format!("{partner}: {status}, {ms} ms there and back"), format!("{partner}：{status}，往返 {ms} 毫秒")),
        (None, "") => lang.tr(format!("{partner}: {status}"), format!("{partner}：{status}")),
        (None, broke) => lang.tr(format!("{partner}: {status} at {broke}"), format!("{partner}：{status}于 {broke}")),
    }
}

fn shown(tests: &[ToldTest], lang: Lang) -> String {
    let head = match lang {
        Lang::En => ["partner", "status", "when", "there and back", "breaks at"],
        Lang::Zh => ["伙伴", "状态", "时间", "往返", "中断处"],
    };
    let row = |test: &ToldTest| {
        vec![
            test.partner.clone(),
            status(test, lang).to_owned(),
            test.time.map(|time| time.to_string()).unwrap_or_default(),
            test.round_trip_ms.map(|ms| format!("{ms} ms")).unwrap_or_default(),
            broke(test),
        ]
    };
    table(&head, tests.iter().map(row))
}

/// The stage at which the way breaks, and the reason where a receipt gives one.
fn broke(test: &ToldTest) -> String {
    match test.reason.as_str() {
        "" => test.broken_at.clone(),
        reason => format!("{} ({reason})", test.broken_at),
    }
}

fn status(test: &ToldTest, lang: Lang) -> &str {
    match test.status.as_str() {
        "OK" => lang.tr("ok", "正常"),
        "BROKEN" => lang.tr("broken", "中断"),
        "PENDING" => lang.tr("under way", "测试中"),
        "UNKNOWN" => lang.tr("unknown", "未知"),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_the_way_stands_in_both_languages() {
        let told = |status: &str, round_trip_ms, broken_at: &str, reason: &str| ToldTest {
            partner: "440600".to_owned(),
            status: status.to_owned(),
            time: None,
            round_trip_ms,
            broken_at: broken_at.to_owned(),
            reason: reason.to_owned(),
            message_id: String::new(),
        };
        for (test, en, zh) in [
            (told("OK", Some(12), "", ""), "440600: ok, 12 ms there and back", "440600：正常，往返 12 毫秒"),
            (told("PENDING", None, "", ""), "440600: under way", "440600：测试中"),
            (told("BROKEN", None, "tcp", ""), "440600: broken at tcp", "440600：中断于 tcp"),
            (
                told("BROKEN", None, "echo", "MESSAGE_EXPIRED"),
                "440600: broken at echo (MESSAGE_EXPIRED)",
                "440600：中断于 echo (MESSAGE_EXPIRED)",
            ),
        ] {
            assert_eq!((line(&test, Lang::En).as_str(), line(&test, Lang::Zh).as_str()), (en, zh));
        }
    }
}
