//! Decides what the two offices of the demo do with what reaches them: Foshan acknowledges most cases, refuses every
//! seventh and replies to the first; Liuzhou takes the reply. Never leaves a delivery without an outcome.

use std::convert::Infallible;

use super::super::client::{Client, Delivered, Inbox, News, Outcome, Trouble};
use super::super::{Exit, Failure};
use super::diary::{self, Diary, Did};
use crate::evidence::Code;
use crate::message::Envelope;

/// Deliveries that an office has on its desk at once.
const CREDITS: u32 = 64;
/// Of so many cases one is refused.
const REFUSED_EVERY: usize = 7;
/// The first case that is refused.
const REFUSED_FIRST: usize = 3;

/// What Foshan does with a case.
pub fn foshan(number: usize) -> Outcome {
    let code = "MATERIALS_INCOMPLETE".parse::<Code>();
    match code {
        Ok(code) if number % REFUSED_EVERY == REFUSED_FIRST => {
            Outcome::Refuse { code, text: "缺少材料，请补正后重新提交（演示）".to_owned() }
        }
        _ => Outcome::Acknowledge,
    }
}

/// Whether Foshan answers a case with a message of its own.
pub fn replies_to(number: usize) -> bool {
    number == 1
}

/// The number of the case that an envelope is about; zero when it is none of the demo's.
pub fn number_of(envelope: &Envelope) -> usize {
    let case_no = envelope.case_no.as_ref().map(|case| case.as_str()).unwrap_or_default();
    case_no.strip_prefix("DEMO-").and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// Works through a mailbox for as long as the demo plays: each delivery gets what `decide` says, and `settled` is told of
/// it once that is durable. What `decide` says follows from the message alone; the diary is told before and after.
pub async fn work(
    client: &Client,
    diary: &Diary,
    decide: impl Fn(&Envelope) -> Outcome,
    settled: impl AsyncFn(&Envelope) -> Result<(), Failure>,
) -> Result<Infallible, Failure> {
    let mut inbox = client.receive(CREDITS).await?;
    let mut desk: Vec<Delivered> = Vec::new();
    loop {
        match next(&mut inbox).await? {
            News::Delivered(delivered) => {
                diary.note(Did::Received, delivered.envelope.id)?;
                inbox.give(&delivered.delivery, &decide(&delivered.envelope)).await;
                desk.push(*delivered);
            }
            News::Settled { delivery, .. } => {
                if let Some(place) = desk.iter().position(|delivered| delivered.delivery == delivery) {
                    let envelope = desk.swap_remove(place).envelope;
                    if let Some(did) = diary::outcome(&decide(&envelope)) {
                        diary.note(did, envelope.id)?;
                    }
                    settled(&envelope).await?;
                }
                inbox.grant(1).await;
            }
            News::Withdrawn { delivery } => {
                desk.retain(|delivered| delivered.delivery != delivery);
                inbox.grant(1).await;
            }
            News::Refused { refused, .. } => return Err(Trouble::Refused(refused).into()),
        }
    }
}

async fn next(inbox: &mut Inbox<'_>) -> Result<News, Failure> {
    let closed = || Failure::new(Exit::Unavailable, "the gateway closed a mailbox", "网关关闭了信箱");
    inbox.next().await?.ok_or_else(closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foshan_refuses_some_and_never_the_one_it_replies_to() {
        let refused: Vec<_> = (1..=20).filter(|number| matches!(foshan(*number), Outcome::Refuse { .. })).collect();
        assert_eq!(refused, [3, 10, 17]);
        assert!((1..=20).filter(|number| replies_to(*number)).all(|number| !refused.contains(&number)));
    }
}
