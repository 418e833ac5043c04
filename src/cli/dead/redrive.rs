//! Decides how a redrive is followed on a terminal: its plan, its progress, what was refused, and how it ended. Never goes on
//! after Ctrl-C, and never says more was done than the gateway said.

use indicatif::ProgressBar;
use serde_json::json;

use super::{Sure, causes, show};
use crate::cli::client::{Chosen, Client, End, Ended, Progress, Refusal, Step, Trouble, Way};
use crate::cli::{Answer, Exit, Failure, Out, consent};
use crate::limits::REDRIVE_PER_S;
use crate::reason::Reason;

/// What has come of a redrive so far.
#[derive(Default)]
struct Tally {
    progress: Progress,
    refused: Vec<Refusal>,
    end: Option<End>,
}

/// Shows the plan, asks, and follows the redrive to its end.
pub async fn run(client: &Client, chosen: &Chosen, way: &Way, sure: &Sure, out: &Out) -> Answer {
    let preview = client.preview_redrive(chosen).await.map_err(|trouble| trouble.shown(out))?;
    let rate = way.rate.unwrap_or(REDRIVE_PER_S.0);
    let causes = causes(client, chosen, out).await?;
    if sure.dry_run || preview.count == 0 || !out.json() {
        let plan = json!({ "dry_run": sure.dry_run, "plan": preview, "rate": rate, "canary": way.canary,
            "seconds": show::seconds(preview.count, rate), "groups": causes });
        out.show(&plan, || show::redriving(&preview, rate, way.canary, &causes, out.lang))?;
    }
    if sure.dry_run {
        return Ok(Exit::Done);
    }
    if preview.count == 0 {
        return Ok(Exit::No);
    }
    if !consent::given(sure.yes, ("redrive these?", "确认重投？"), out)? {
        return Ok(Exit::No);
    }
    let bar = out.bar(preview.count);
    let mut tally = Tally { progress: Progress { count: preview.count, ..Progress::default() }, ..Tally::default() };
    // Heard from here on, whatever is under way; what is dropped then is cancelled.
    let interrupted = tokio::signal::ctrl_c();
    let followed = tokio::select! {
        biased;
        followed = follow(client, chosen, way, &bar, &mut tally, out) => Some(followed),
        _ = interrupted => None,
    };
    bar.finish_and_clear();
    match followed {
        Some(Err(trouble)) => {
            if tally.progress.tried() > 0 {
                told(&tally, "UNKNOWN", out)?;
            }
            Err(trouble.shown(out))
        }
        Some(Ok(())) => ended(&tally, out),
        None => cancelled(&tally, out),
    }
}

async fn follow(
    client: &Client,
    chosen: &Chosen,
    way: &Way,
    bar: &ProgressBar,
    tally: &mut Tally,
    out: &Out,
) -> Result<(), Trouble> {
    let mut redriving = client.redrive(chosen, way).await?;
    while let Some(step) = redriving.next().await? {
        match step {
            Step::Preview(preview) => {
                bar.set_length(preview.count);
                tally.progress.count = preview.count;
            }
            Step::Progress(progress) => {
                if progress.waits_for_canary && !tally.progress.waits_for_canary {
                    let count = progress.redriven;
                    let words = out.lang.tr(
                        format!("{count} are out and must be handed over before the others follow"),
                        format!("已重投 {count} 封，待其全部交接后继续其余"),
                    );
                    bar.suspend(|| out.say(&words));
                }
                bar.set_position(progress.tried());
                tally.progress = progress;
            }
            Step::Refusal(refusal) => {
                bar.suspend(|| out.say(&refused_line(&refusal, out)));
                tally.refused.push(refusal);
            }
            Step::End(end) => {
                tally.progress = end.progress;
                tally.end = Some(end);
            }
        }
    }
    match tally.end {
        Some(_) => Ok(()),
        None => Err(Trouble::unsound("the redrive broke off without its end", "重投未告知结果即中断")),
    }
}

fn refused_line(refusal: &Refusal, out: &Out) -> String {
    let Refusal { from_city, message_id, reason, detail } = refusal;
    let words = show::cause(reason, out.lang).replace('\n', "  ");
    format!("{from_city}/{message_id}: {words}  {detail}").trim_end().to_owned()
}

fn ended(tally: &Tally, out: &Out) -> Answer {
    let Some(end) = &tally.end else { return Ok(Exit::Software) };
    let (name, exit) = match end.outcome {
        Ended::Done if tally.progress.refused == 0 => ("DONE", Exit::Done),
        Ended::Done => ("DONE", Exit::No),
        Ended::CanaryDied => ("CANARY_DIED", Exit::No),
        Ended::CanarySilent => ("CANARY_SILENT", Exit::TempFail),
        Ended::Stopped => ("STOPPED", Exit::TempFail),
    };
    told(tally, name, out)?;
    let canary = &end.canary;
    match end.outcome {
        Ended::Done => {}
        Ended::CanaryDied => {
            out.say(&out.lang.tr(
                format!("{canary} ended without handover; the others were not touched"),
                format!("{canary} 未能交接，其余未动"),
            ));
            out.hint(&format!("see why: tongban dead show {canary}"), &format!("查看原因：tongban dead show {canary}"));
        }
        Ended::CanarySilent => {
            out.say(&out.lang.tr(
                format!("{canary} was not handed over in time; the others were not touched"),
                format!("{canary} 未在时限内交接，其余未动"),
            ));
            out.hint(
                "is the recipient at work? wait longer with --canary-patience",
                "接收方是否在运行？可用 --canary-patience 延长等待",
            );
        }
        Ended::Stopped => {
            let words = show::cause(&end.reason, out.lang).replace('\n', "  ");
            out.say(&out.lang.tr(format!("the gateway stopped: {words}"), format!("网关中止：{words}")));
            let reason = Reason::from_code(&end.reason);
            out.hint(reason.map_or("try again", Reason::hint_en), reason.map_or("请重试", Reason::hint_zh));
        }
    }
    Ok(exit)
}

/// The call is gone, and with it the redrive; a little more may have been done than was told.
fn cancelled(tally: &Tally, out: &Out) -> Answer {
    told(tally, "CANCELLED", out)?;
    out.hint(
        "cancelled; what was not submitted stays as it was: tongban dead list",
        "已取消；未重投的保持原样：tongban dead list",
    );
    Ok(Exit::No)
}

fn told(tally: &Tally, outcome: &str, out: &Out) -> Result<(), Failure> {
    let Progress { redriven, refused, skipped, count, .. } = tally.progress;
    let end = tally.end.as_ref();
    let shown = json!({ "outcome": outcome, "progress": tally.progress, "refused": tally.refused,
        "canary_message_id": end.map(|end| end.canary.as_str()).filter(|id| !id.is_empty()),
        "reason": end.map(|end| end.reason.as_str()).filter(|reason| !reason.is_empty()) });
    let left = count.saturating_sub(tally.progress.tried());
    out.show(&shown, || {
        out.lang.tr(
            format!("{outcome}: of {count} letters {redriven} redriven, {refused} refused, {skipped} passed over, {left} left"),
            format!("{outcome}：共 {count} 封，已重投 {redriven}，拒绝 {refused}，跳过 {skipped}，剩余 {left}"),
        )
    })?;
    Ok(())
}
