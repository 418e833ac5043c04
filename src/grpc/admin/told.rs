//! Decides in which words dead letters, and what is done with them, are told. Never leaves out where a letter came from.

use crate::redrive::{End, Kind, Plan, Progress, Step};
use crate::store::{DeadFate, DeadGroup, DeadLetter, Key};
use crate::wire::envelope::{address_to_wire, time_to_wire};
use crate::wire::pb::admin as pb;

pub fn group(group: DeadGroup) -> pb::DeadLetterGroup {
    pb::DeadLetterGroup {
        reason: group.reason,
        lane: group.lane.to_string(),
        item_code: group.item,
        count: group.count,
        own: group.own,
        oldest: Some(time_to_wire(group.oldest)),
        newest: Some(time_to_wire(group.newest)),
    }
}

pub fn letter(letter: DeadLetter) -> pb::DeadLetter {
    let fate = match letter.fate {
        DeadFate::Waits => pb::DeadLetterFate::Waiting,
        DeadFate::Redriven => pb::DeadLetterFate::Redriven,
        DeadFate::Discarded => pb::DeadLetterFate::Discarded,
    };
    pb::DeadLetter {
        from_city: letter.key.from_city.as_str().to_owned(),
        message_id: letter.key.id.to_string(),
        state: letter.standing.state as i32,
        in_doubt: letter.standing.in_doubt,
        recipient: Some(address_to_wire(&letter.recipient)),
        item_code: letter.item,
        time: Some(time_to_wire(letter.at)),
        reason: letter.reason,
        lane: letter.lane.to_string(),
        fate: fate as i32,
        discard_reason: letter.why,
        redriven_as: letter.redriven_as.map(|id| id.to_string()).unwrap_or_default(),
    }
}

fn name(key: &Key) -> pb::DeadLetterName {
    pb::DeadLetterName { from_city: key.from_city.as_str().to_owned(), message_id: key.id.to_string() }
}

/// A step of a redrive.
pub fn step(step: Step) -> pb::RedriveDeadLettersResponse {
    use pb::redrive_dead_letters_response::Step as Wire;
    let step = match step {
        Step::Plan(plan) => Wire::Preview(preview(&plan)),
        Step::Progress(counts) => Wire::Progress(progress(counts)),
        Step::Refusal(key, refused) => Wire::Refusal(pb::RedriveRefusal {
            name: Some(name(&key)),
            reason: refused.reason.code().to_owned(),
            detail: refused.detail,
        }),
        Step::End(end, counts) => Wire::End(ended(end, counts)),
    };
    pb::RedriveDeadLettersResponse { step: Some(step) }
}

fn preview(plan: &Plan) -> pb::RedrivePreview {
    let obstacles = plan.obstacles.iter().map(|(kind, obstacle)| {
        let (kind, reason) = match kind {
            Kind::Elsewhere => (pb::ObstacleKind::Elsewhere, ""),
            Kind::BodyGone => (pb::ObstacleKind::BodyGone, ""),
            Kind::Redriven => (pb::ObstacleKind::Redriven, ""),
            Kind::Discarded => (pb::ObstacleKind::Discarded, ""),
            Kind::Unknown => (pb::ObstacleKind::Unknown, ""),
            Kind::Refused(reason) => (pb::ObstacleKind::Refused, reason.code()),
        };
        let examples = obstacle.examples.iter().map(name).collect();
        pb::RedriveObstacle { kind: kind as i32, reason: reason.to_owned(), count: obstacle.count, examples }
    });
    pb::RedrivePreview { count: plan.letters.len() as u64, bytes: plan.bytes, obstacles: obstacles.collect() }
}

fn progress(counts: Progress) -> pb::RedriveProgress {
    let Progress { redriven, refused, skipped, count, waits_for_canary } = counts;
    pb::RedriveProgress { redriven, refused, skipped, count, waits_for_canary }
}

fn ended(end: End, counts: Progress) -> pb::RedriveEnd {
    let (outcome, canary, reason) = match end {
        End::Done => (pb::RedriveOutcome::Done, None, ""),
        End::CanaryDied(id) => (pb::RedriveOutcome::CanaryDied, Some(id), ""),
        End::CanarySilent(id) => (pb::RedriveOutcome::CanarySilent, Some(id), ""),
        End::Stopped(reason) => (pb::RedriveOutcome::Stopped, None, reason.code()),
    };
    pb::RedriveEnd {
        outcome: outcome as i32,
        progress: Some(progress(counts)),
        canary_message_id: canary.map(|id| id.to_string()).unwrap_or_default(),
        reason: reason.to_owned(),
    }
}
