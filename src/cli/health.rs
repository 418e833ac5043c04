//! Decides how `tongban health` tells in one line whether a gateway serves. Never examines it: the gateway says so itself.

use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use serde_json::json;

use super::config::Configured;
use super::{Answer, Exit, Failure, Out};
use crate::checks::{Seen, caller, own_address};
use crate::clock::Clock;
use crate::grpc::health::{Said, ask, follow};
use crate::limits::DIAL_MS;

/// Ask a gateway whether it serves: one line, exit code 0 or 1
#[derive(Args)]
pub struct Health {
    #[command(flatten)]
    configured: Configured,
    /// The service, partner/CODE or system/NAME [default: the gateway as a whole]
    #[arg(long, default_value = "")]
    service: String,
    /// Say each change, until interrupted
    #[arg(long)]
    watch: bool,
}

/// Asks, and answers 1 when it does not serve.
pub fn run(command: &Health, out: &Out) -> Answer {
    let config = command.configured.read()?;
    let clock = Clock::default();
    let caller = caller(&config, &clock).map_err(|findings| {
        let seen = |of: fn(&Seen) -> &str, between| {
            findings.iter().map(|finding| of(&finding.look.seen)).collect::<Vec<_>>().join(between)
        };
        Failure::new(Exit::Config, seen(|seen| &seen.en, "; "), seen(|seen| &seen.zh, "；"))
            .hint("`tongban check` says more", "tongban check 有更多说明")
    })?;
    let (Some(dialler), Some(address)) = (caller.dialler(&config.member), own_address(&config)) else {
        let (en, zh) = ("certificate or key cannot be used", "证书或私钥无法使用");
        return Err(Failure::new(Exit::Config, en, zh));
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (gateway, patience) = (dialler.channel(address), Duration::from_millis(DIAL_MS));
        if !command.watch {
            let answer = tokio::time::timeout(patience, ask(gateway, &command.service)).await;
            return tell(command, out, answer.ok().map(|answer| answer.map(|(said, _)| said)));
        }
        let mut changes = match tokio::time::timeout(patience, follow(gateway, &command.service)).await {
            Ok(Ok(changes)) => Box::pin(changes),
            Ok(Err(status)) => return tell(command, out, Some(Err(status))),
            Err(_) => return tell(command, out, None),
        };
        let mut last = Exit::No;
        loop {
            tokio::select! {
                said = changes.next() => match said {
                    Some(Ok(said)) => last = tell(command, out, Some(Ok(said)))?,
                    Some(Err(status)) => return tell(command, out, Some(Err(status))),
                    None => return Ok(last),
                },
                _ = tokio::signal::ctrl_c() => return Ok(last),
            }
        }
    })
}

/// The line and the exit code for an answer; none came in time without one.
fn tell(command: &Health, out: &Out, answer: Option<Result<Said, tonic::Status>>) -> Answer {
    let (status, words) = match &answer {
        Some(Ok(Said::Serving)) => ("SERVING", out.lang.tr("serves", "正常服务")),
        Some(Ok(Said::NotServing)) => ("NOT_SERVING", out.lang.tr("does not serve", "暂不服务")),
        Some(Ok(Said::Unknown)) => ("SERVICE_UNKNOWN", out.lang.tr("is not known", "未知")),
        Some(Err(_)) | None => ("UNREACHABLE", out.lang.tr("does not answer", "没有应答")),
    };
    let name = if command.service.is_empty() { "tongban" } else { &command.service };
    let line = format!("{status} {name} {words}\n");
    let shown = json!({ "service": command.service, "status": status });
    out.print(&if out.json() { format!("{shown}\n") } else { line })?;
    if let Some(Err(status)) = &answer {
        let why = crate::tls::dial::DialError::among(status).map_or(status.message().to_owned(), ToString::to_string);
        out.say(&why);
    }
    Ok(if status == "SERVING" { Exit::Done } else { Exit::No })
}
