//! Decides what the message is that replaces a dead letter: the same but for its name, its times and the letter that it
//! names. The name follows from the letter's, so that the same letter never becomes two messages.

use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{End, Fared, Halt, Orders, Redrive, Step};
use crate::id::MessageId;
use crate::limits::{REDRIVE_TRIES_MAX, RETRY_AFTER_MS};
use crate::message::Envelope;
use crate::reason::{Reason, Retry};
use crate::store::{self, DeadFate, Seq, Stored};
use crate::time::Time;
use crate::wire::envelope::kept;
use crate::wire::status::Refused;

impl Redrive {
    /// Submits one letter anew, again and again while there is no room for it.
    pub(super) async fn insist(&self, seq: Seq, orders: &Orders, steps: &mpsc::Sender<Step>) -> Result<Fared, Halt> {
        let clock = &self.ground.clock;
        for tries in 1.. {
            match self.try_one(seq, orders).await {
                // An attachment that is gone stays gone.
                Ok(Fared::Refused(_, refused))
                    if refused.reason.retry() == Retry::Later && refused.reason != Reason::AttachmentMissing =>
                {
                    if tries >= REDRIVE_TRIES_MAX {
                        return Err(Halt::End(End::Stopped(refused.reason)));
                    }
                }
                Ok(fared) => return Ok(fared),
                Err(error) => {
                    tracing::error!(%error, seq, "a dead letter cannot be read");
                    return Err(Halt::End(End::Stopped(Reason::StoreUnavailable)));
                }
            }
            self.wait(steps, clock.until(clock.now().plus_ms(RETRY_AFTER_MS))).await?;
        }
        Ok(Fared::Skipped)
    }

    async fn try_one(&self, seq: Seq, orders: &Orders) -> Result<Fared, store::Error> {
        let read = self.ground.readers.seek(move |look| {
            let Some(stored) = look.message(seq)? else { return Ok(None) };
            Ok(look.dead_letter(&stored.key)?.map(|letter| (stored, letter.fate)))
        });
        // It may have been revived, redriven or set aside since the plan was made.
        let Some((stored, DeadFate::Waits)) = read.await? else { return Ok(Fared::Skipped) };
        let key = stored.key.clone();
        let Some(envelope) = replacement(stored, orders, self.ground.clock.now()) else {
            return Ok(Fared::Refused(key, Refused::new(Reason::ContentGone)));
        };
        let id = envelope.id;
        Ok(match self.intake.resubmit(envelope).await {
            Ok(_) => Fared::Accepted(id),
            Err(refused) => Fared::Refused(key, refused),
        })
    }
}

/// The message that replaces a letter; none when the letter's content is gone.
fn replacement(stored: Stored, orders: &Orders, now: Time) -> Option<Envelope> {
    let former = kept(&stored.header, stored.body?, stored.header_digest).ok()?;
    let given = former.expires_at.map(|expires_at| expires_at.time().since_ms(former.created_at.time()));
    let to_live = orders.time_to_live_ms.or(given);
    Some(Envelope {
        id: name(former.id),
        redrive_of: Some(former.id),
        created_at: now.into(),
        expires_at: to_live.map(|ms| now.plus_ms(ms).into()),
        ..former
    })
}

/// The name of the message that replaces a letter of the own city: a UUIDv8 (RFC 9562 §5.8) from its SHA-256. The
/// replacement of a replacement has another name again.
pub fn name(letter: MessageId) -> MessageId {
    let sum: [u8; 32] = Sha256::new().chain_update("tongban.redrive").chain_update(letter.bytes()).finalize().into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&sum[..16]);
    MessageId::from_bytes(*uuid::Builder::from_custom_bytes(bytes).as_uuid().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_always_replaced_under_the_same_name_and_no_two_under_one() {
        let letter = MessageId::from_bytes([7; 16]);
        let first = name(letter);
        assert_eq!(name(letter), first);
        assert_ne!(first, letter);
        assert_ne!(name(first), first);
        assert_ne!(name(MessageId::from_bytes([8; 16])), first);
        assert_eq!(first.to_string().as_bytes()[14], b'8', "{first}");
    }
}
