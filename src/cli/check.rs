//! Decides how `tongban check` shows what is wrong with a gateway and what to do: for people, and for the tools that watch.
//! Never examines anything itself.

mod forms;

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use super::config::Configured;
use super::span::Span;
use super::{Answer, Exit, Failure, Out};
use crate::checks::advice::{self, Advice};
use crate::checks::{CONFIG, Finding, Look, Seen, Verdict, Which, examine, ids};
use crate::clock::Clock;
use crate::party::Member;

/// Examine a gateway, its machine and the ways to its partners: what is wrong, and the way out
#[derive(Args)]
pub struct Check {
    #[command(flatten)]
    configured: Configured,
    /// These checks or categories alone, e.g. tls or store.tree
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    only: Vec<String>,
    /// Not these
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    skip: Vec<String>,
    /// This partner alone
    #[arg(long, value_name = "MEMBER")]
    partner: Option<Member>,
    /// Also walk over the whole log: every leaf, tile and root
    #[arg(long)]
    deep: bool,
    /// How it is shown
    #[arg(long, value_enum, default_value_t = Form::Table)]
    output: Form,
    /// Examine again until nothing is at fault, for so long at most
    #[arg(long, value_name = "SPAN", conflicts_with = "watch")]
    wait: Option<Span>,
    /// Examine again every so often, until interrupted
    #[arg(long, value_name = "SPAN", num_args = 0..=1, default_missing_value = "5s")]
    watch: Option<Span>,
    /// List the checks
    #[arg(long)]
    list: bool,
}

/// How findings are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people: every check, and under it what to do
    Table,
    /// A line for each thing that is wrong
    Short,
    Json,
    /// JUnit XML
    Junit,
    /// A Nagios plugin's line and exit code
    Nagios,
    /// Prometheus text exposition
    Prom,
}

/// Between two examinations of `--wait`.
const PAUSE: Duration = Duration::from_millis(500);

/// Examines, shows, and answers 1 when something is at fault.
pub fn run(command: &Check, out: &Out) -> Answer {
    if command.list {
        let ids: Vec<&str> = ids().collect();
        out.show(&ids, || ids.join("\n"))?;
        return Ok(Exit::Done);
    }
    let which = which(command)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let begun = Instant::now();
        loop {
            let findings = findings(command, &which).await;
            let faults = findings.iter().any(|finding| matches!(finding.look.verdict, Verdict::Fault(_)));
            let over = match (&command.wait, &command.watch) {
                (Some(wait), _) => !faults || begun.elapsed() >= Duration::from(*wait),
                (None, Some(_)) => false,
                (None, None) => true,
            };
            if over || command.watch.is_some() {
                show(command, &findings, out)?;
            }
            if over {
                return Ok(exit(command, &findings));
            }
            let pause = command.watch.map_or(PAUSE, Duration::from);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = tokio::signal::ctrl_c() => return Ok(exit(command, &findings)),
            }
        }
    })
}

fn which(command: &Check) -> Result<Which, Failure> {
    for name in command.only.iter().chain(&command.skip) {
        let known = ids().any(|id| id == name || id.split('.').next() == Some(name));
        if !known {
            let (en, zh) = (format!("there is no check {name:?}"), format!("没有名为 {name:?} 的检查"));
            let failure = Failure::new(Exit::Usage, en, zh);
            return Err(failure.hint("`tongban check --list` names them all", "tongban check --list 列出全部检查"));
        }
    }
    Ok(Which {
        only: command.only.clone(),
        skip: command.skip.clone(),
        partner: command.partner.clone(),
        deep: command.deep,
    })
}

/// The findings; of a configuration that cannot be read, its faults alone.
async fn findings(command: &Check, which: &Which) -> Vec<Finding> {
    let at_fault = |seen: Seen| Finding { check: CONFIG, look: Look::fault(&advice::CONFIG, seen) };
    match command.configured.read() {
        Ok(config) => {
            let read = Look::good(command.configured.file().display().to_string());
            let mut findings = vec![Finding { check: CONFIG, look: read }];
            findings.retain(|finding| which.takes(finding.check));
            findings.extend(examine(&config, &Clock::default(), which).await);
            findings
        }
        Err(fault) => {
            let (en, zh) = (fault.to_string(), fault.zh());
            en.lines().zip(zh.lines()).map(|(en, zh)| at_fault(Seen::both(en, zh))).collect()
        }
    }
}

fn show(command: &Check, findings: &[Finding], out: &Out) -> Result<(), Failure> {
    let text = match command.output {
        Form::Table if out.json() => forms::json(findings).map_err(std::io::Error::from)?,
        Form::Table => forms::table(findings, out.lang),
        Form::Short => forms::short(findings, out.lang),
        Form::Json => forms::json(findings).map_err(std::io::Error::from)?,
        Form::Junit => forms::junit(findings, out.lang),
        Form::Nagios => forms::nagios(findings, out.lang),
        Form::Prom => forms::prom(findings),
    };
    Ok(out.print(&text)?)
}

/// 0 nothing is at fault, 1 something is; a Nagios plugin says 1 for a warning and 2 for a fault.
fn exit(command: &Check, findings: &[Finding]) -> Exit {
    let (faults, warnings) = count(findings);
    match (command.output, faults, warnings) {
        (Form::Nagios, 0, 1..) => Exit::No,
        (Form::Nagios, 1.., _) => Exit::Critical,
        (_, 0, _) => Exit::Done,
        (_, _, _) => Exit::No,
    }
}

/// Faults and warnings.
fn count(findings: &[Finding]) -> (usize, usize) {
    let faults = findings.iter().filter(|finding| matches!(finding.look.verdict, Verdict::Fault(_))).count();
    let warnings = findings.iter().filter(|finding| matches!(finding.look.verdict, Verdict::Warning(_))).count();
    (faults, warnings)
}

/// What a finding advises.
fn advised(finding: &Finding) -> Option<&'static Advice> {
    match finding.look.verdict {
        Verdict::Fault(advice) | Verdict::Warning(advice) => Some(advice),
        Verdict::Good | Verdict::Skipped(_) => None,
    }
}
