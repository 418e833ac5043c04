//! Decides how many messages go over one stream and how their answers are told. Never sends one twice: what had no answer
//! when the stream ended is listed, and may be sent again with the same id.

use std::collections::HashMap;
use std::time::Instant;

use serde_json::json;

use super::super::client::{Client, Refused, Trouble};
use super::super::{Answer, Exit, Failure, Out};
use super::draft::{self, Draft};
use super::{accepted_json, accepted_table};
use crate::id::MessageId;
use crate::limits::STREAM_OPEN_MAX;
use crate::message::Digest;
use crate::receipt::{Checked, Receipt};

/// Messages that wait for their answer at once: half of what a gateway takes, so that it never waits for us.
const OPEN_MAX: usize = STREAM_OPEN_MAX / 2;

/// What became of the messages of one stream.
#[derive(Default)]
struct Tally {
    accepted: Vec<Checked>,
    refused: Vec<(String, Refused)>,
    /// Sent, and not answered yet.
    open: HashMap<String, (MessageId, Digest)>,
    /// Why the stream ended before all was answered.
    broken: Option<Trouble>,
}

/// Submits `count` messages of one draft and tells what became of each.
pub async fn submit(client: &Client, draft: &Draft, count: u64, out: &Out) -> Answer {
    draft::check(&draft.envelope(&client.me, draft::new_id()?)?)?;
    let bar = out.bar(count);
    let started = Instant::now();
    let tally = pour(client, draft, count, || bar.inc(1)).await;
    bar.finish_and_clear();
    let tally = tally?;
    show(&tally, out)?;
    let (took, accepted) = (started.elapsed().as_secs_f64(), tally.accepted.len());
    let (refused, open) = (tally.refused.len(), tally.open.len());
    let rate = accepted as f64 / took;
    out.say(&out.lang.tr(
        format!(
            "{accepted} accepted, {refused} refused, {open} without an answer in {took:.2} s ({rate:.0} per second)"
        ),
        format!("受理 {accepted} 条，拒绝 {refused} 条，未答 {open} 条，用时 {took:.2} 秒（每秒 {rate:.0} 条）"),
    ));
    ending(tally, count)
}

async fn pour(client: &Client, draft: &Draft, count: u64, mut answered: impl FnMut()) -> Result<Tally, Failure> {
    let (pipe, mut answers) = client.pipe().await?;
    let mut pipe = Some(pipe);
    let mut tally = Tally::default();
    let mut sent = 0;
    loop {
        let room = async {
            match &pipe {
                Some(pipe) if tally.open.len() < OPEN_MAX => pipe.ready().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = answers.next(client) => match answer {
                Ok(Some((id, answer))) => match tally.take(client, id, answer) {
                    Ok(()) => answered(),
                    Err(trouble) => return Ok(Tally { broken: Some(trouble), ..tally }),
                },
                Ok(None) => return Ok(tally),
                Err(trouble) => return Ok(Tally { broken: Some(trouble), ..tally }),
            },
            ready = room => {
                if ready && sent < count {
                    let envelope = draft.envelope(&client.me, draft::new_id()?)?;
                    tally.open.insert(envelope.id.to_string(), (envelope.id, envelope.header_digest()));
                    sent += u64::from(pipe.as_ref().is_some_and(|pipe| pipe.send(&envelope)));
                } else {
                    // Nothing more to say: the gateway answers what is open and closes.
                    pipe = None;
                }
            }
        }
    }
}

impl Tally {
    /// Takes an answer; a message whose receipt does not hold stays without one.
    fn take(&mut self, client: &Client, id: String, answer: Result<Receipt, Refused>) -> Result<(), Trouble> {
        let Some((message, digest)) = self.open.get(&id).copied() else {
            return Err(Trouble::unsound("an answer to a message that was not sent", "应答的消息并未发送"));
        };
        match answer {
            Ok(receipt) => self.accepted.push(client.accepted(Some(receipt), message, digest)?),
            Err(refused) => self.refused.push((id.clone(), refused)),
        }
        self.open.remove(&id);
        Ok(())
    }
}

fn show(tally: &Tally, out: &Out) -> Result<(), Failure> {
    let open: Vec<&String> = tally.open.keys().collect();
    let refused = |(id, refused): &(String, Refused)| json!({ "message_id": id, "refused": refused.json() });
    let shown = json!({
        "accepted": tally.accepted.iter().map(accepted_json).collect::<Vec<_>>(),
        "refused": tally.refused.iter().map(refused).collect::<Vec<_>>(),
        "unanswered": open,
    });
    if out.json() || !tally.accepted.is_empty() {
        out.show(&shown, || accepted_table(&tally.accepted.iter().collect::<Vec<_>>(), out.lang))?;
    }
    for (id, refused) in &tally.refused {
        let words = refused.words();
        out.say(&out.lang.tr(format!("{id}: {}", words.en), format!("{id}：{}", words.zh)));
    }
    for id in open {
        out.say(&out.lang.tr(format!("{id}: no answer"), format!("{id}：未答")));
    }
    Ok(())
}

/// A stream that ended too early first, then the refusal that is hardest to mend.
fn ending(tally: Tally, count: u64) -> Answer {
    if let Some(trouble) = tally.broken {
        return Err(trouble.into());
    }
    let answered = tally.accepted.len() + tally.refused.len();
    if (answered as u64) < count {
        let en = format!("the gateway closed the stream after {answered} of {count}");
        return Err(Failure::new(Exit::TempFail, en, format!("网关在答复 {answered}/{count} 条之后关闭了流")));
    }
    let exits: Vec<Exit> = tally.refused.iter().map(|(_, refused)| refused.exit()).collect();
    let lasting = exits.iter().copied().find(|exit| *exit != Exit::TempFail);
    Ok(lasting.or(exits.first().copied()).unwrap_or(Exit::Done))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;
    use crate::wire::status;

    fn tally(reasons: &[Reason]) -> Tally {
        let refused = |reason: &Reason| Refused {
            answered: status::from_wire(&status::to_wire(&status::Refused::new(*reason))),
            on_record: None,
        };
        Tally { refused: reasons.iter().map(|reason| (String::new(), refused(reason))).collect(), ..Tally::default() }
    }

    #[test]
    fn the_refusal_that_is_hardest_to_mend_decides_the_exit() {
        assert_eq!(ending(tally(&[]), 0).unwrap(), Exit::Done);
        assert_eq!(ending(tally(&[Reason::Busy]), 1).unwrap(), Exit::TempFail);
        assert_eq!(ending(tally(&[Reason::Busy, Reason::NoRoute, Reason::Busy]), 3).unwrap(), Exit::No);
    }

    #[test]
    fn a_stream_that_ended_before_all_was_answered_is_no_success() {
        assert_eq!(ending(tally(&[Reason::NoRoute]), 2).unwrap_err().exit, Exit::TempFail);
        let broken = Some(Trouble::unsound("a", "b"));
        assert_eq!(ending(Tally { broken, ..tally(&[]) }, 0).unwrap_err().exit, Exit::Data);
    }
}
