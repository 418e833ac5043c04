//! Decides the forms in which findings are shown. Never decides what is wrong.

use serde::Serialize;

use super::super::Lang;
use super::super::out::table as rows_as_table;
use super::{advised, count};
use crate::checks::{Finding, Verdict};

fn mark(verdict: &Verdict, lang: Lang) -> &'static str {
    match verdict {
        Verdict::Good => lang.tr("ok", "正常"),
        Verdict::Warning(_) => lang.tr("warning", "注意"),
        Verdict::Fault(_) => lang.tr("FAULT", "故障"),
        Verdict::Skipped(_) => lang.tr("skipped", "跳过"),
    }
}

/// The check and whom it is about.
fn name(finding: &Finding) -> String {
    match &finding.look.about {
        Some(about) => format!("{} {about}", finding.check),
        None => finding.check.to_owned(),
    }
}

fn seen(finding: &Finding, lang: Lang) -> &str {
    let seen = &finding.look.seen;
    lang.tr(&seen.en, &seen.zh)
}

fn because(id: &str, lang: Lang) -> String {
    lang.tr(format!("because of {id}"), format!("因 {id}"))
}

/// For people: a table of all, then each thing that is wrong with its cause and the way out.
pub fn table(findings: &[Finding], lang: Lang) -> String {
    let head = [lang.tr("check", "检查项"), lang.tr("verdict", "结果"), lang.tr("seen", "所见")];
    let rows = findings.iter().map(|finding| {
        let seen = match finding.look.verdict {
            Verdict::Skipped(id) => because(id, lang),
            _ => seen(finding, lang).to_owned(),
        };
        vec![name(finding), mark(&finding.look.verdict, lang).to_owned(), seen]
    });
    let mut text = rows_as_table(&head, rows);
    text.push('\n');
    for finding in findings {
        let Some(advice) = advised(finding) else { continue };
        let (cause, fix) = (lang.tr(advice.cause.0, advice.cause.1), lang.tr(advice.fix.0, advice.fix.1));
        let (what, to_do) = (mark(&finding.look.verdict, lang), lang.tr("to do", "处理"));
        text += &format!("\n{what} {} · {cause}\n  {}\n  {to_do}: {fix}\n", name(finding), seen(finding, lang));
    }
    let (faults, warnings) = count(findings);
    let checks = findings.len();
    text += &lang.tr(
        format!("\n{checks} findings: {faults} faults, {warnings} warnings\n"),
        format!("\n共 {checks} 项：故障 {faults}，注意 {warnings}\n"),
    );
    text
}

/// A line for each thing that is wrong; nothing when all is well.
pub fn short(findings: &[Finding], lang: Lang) -> String {
    let wrong = findings.iter().filter_map(|finding| advised(finding).map(|advice| (finding, advice)));
    let line = |(finding, advice): (&Finding, &crate::checks::advice::Advice)| {
        let (mark, cause) = (mark(&finding.look.verdict, lang), lang.tr(advice.cause.0, advice.cause.1));
        format!("{mark} {} {}: {cause} ({})\n", name(finding), advice.code, seen(finding, lang))
    };
    wrong.map(line).collect()
}

#[derive(Serialize)]
struct Shown<'a> {
    check: &'a str,
    category: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<&'a str>,
    verdict: &'static str,
    seen: &'a str,
    seen_zh: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped_because: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<Advised>,
}

#[derive(Serialize)]
struct Advised {
    code: &'static str,
    cause: Both,
    fix: Both,
}

#[derive(Serialize)]
struct Both {
    en: &'static str,
    zh: &'static str,
}

pub fn json(findings: &[Finding]) -> serde_json::Result<String> {
    let shown = findings.iter().map(|finding| Shown {
        check: finding.check,
        category: finding.check.split('.').next().unwrap_or_default(),
        about: finding.look.about.as_deref(),
        verdict: word(&finding.look.verdict),
        seen: &finding.look.seen.en,
        seen_zh: &finding.look.seen.zh,
        skipped_because: match finding.look.verdict {
            Verdict::Skipped(id) => Some(id),
            _ => None,
        },
        advice: advised(finding).map(|advice| Advised {
            code: advice.code,
            cause: Both { en: advice.cause.0, zh: advice.cause.1 },
            fix: Both { en: advice.fix.0, zh: advice.fix.1 },
        }),
    });
    Ok(format!("{}\n", serde_json::to_string_pretty(&shown.collect::<Vec<_>>())?))
}

/// The verdict for machines, the same in every language.
fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "ok",
        Verdict::Warning(_) => "warning",
        Verdict::Fault(_) => "fault",
        Verdict::Skipped(_) => "skipped",
    }
}

/// JUnit XML, a test case for each finding: what build servers read.
pub fn junit(findings: &[Finding], lang: Lang) -> String {
    let (faults, _) = count(findings);
    let skipped = findings.iter().filter(|finding| matches!(finding.look.verdict, Verdict::Skipped(_))).count();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"tongban check\" tests=\"{}\" failures=\"{faults}\" skipped=\"{skipped}\">\n",
        findings.len()
    );
    for finding in findings {
        let category = finding.check.split('.').next().unwrap_or_default();
        text += &format!("  <testcase classname=\"{category}\" name=\"{}\"", escaped(&name(finding)));
        text += &match finding.look.verdict {
            Verdict::Good => "/>\n".to_owned(),
            Verdict::Skipped(id) => format!("><skipped message=\"{}\"/></testcase>\n", escaped(&because(id, lang))),
            Verdict::Warning(advice) => {
                let cause = escaped(lang.tr(advice.cause.0, advice.cause.1));
                format!("><system-out>{cause}: {}</system-out></testcase>\n", escaped(seen(finding, lang)))
            }
            Verdict::Fault(advice) => {
                let cause = escaped(lang.tr(advice.cause.0, advice.cause.1));
                let body = format!("{}\n{}", seen(finding, lang), lang.tr(advice.fix.0, advice.fix.1));
                format!(
                    "><failure type=\"{}\" message=\"{cause}\">{}</failure></testcase>\n",
                    advice.code,
                    escaped(&body)
                )
            }
        };
    }
    text + "</testsuite>\n"
}

/// Text as XML 1.0 can hold it.
fn escaped(text: &str) -> String {
    let one = |c: char| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        c if c.is_control() && c != '\n' && c != '\t' => ' '.to_string(),
        c => c.to_string(),
    };
    text.chars().map(one).collect()
}

/// The line of a Nagios plugin, and the faults below it (Monitoring Plugins development guidelines).
pub fn nagios(findings: &[Finding], lang: Lang) -> String {
    let (faults, warnings) = count(findings);
    let state = match (faults, warnings) {
        (0, 0) => "OK",
        (0, _) => "WARNING",
        (_, _) => "CRITICAL",
    };
    let checks = findings.len();
    let line = format!(
        "TONGBAN {state} - {faults} faults, {warnings} warnings of {checks} | faults={faults} warnings={warnings}\n"
    );
    // What follows the bar is performance data.
    line + &short(findings, lang).replace('|', "/")
}

/// Prometheus text exposition: 1 for what is at fault, 0.5 for a warning, 0 for what is well.
pub fn prom(findings: &[Finding]) -> String {
    let mut text = "# HELP tongban_check_fault Whether a check found a fault (1), a warning (0.5) or neither (0).\n\
                    # TYPE tongban_check_fault gauge\n"
        .to_owned();
    let label = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    for finding in findings {
        let value = match finding.look.verdict {
            Verdict::Good => "0",
            Verdict::Warning(_) => "0.5",
            Verdict::Fault(_) => "1",
            Verdict::Skipped(_) => continue,
        };
        let (check, about) = (finding.check, finding.look.about.as_deref().unwrap_or_default());
        text += &format!("tongban_check_fault{{check=\"{}\",about=\"{}\"}} {value}\n", label(check), label(about));
    }
    text
}
