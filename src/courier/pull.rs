//! Decides how a gateway that cannot be dialled gets what waits for it: it opens its mailbox at a partner or a hub, takes
//! each message through the same intake as one that is pushed, and answers with its receipt.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::attachments::{self, Ask};
use super::dial::{Dialer, Fetching, Up, broke};
use crate::blobs::{Owner, Want};
use crate::intake::{Incoming, Intake};
use crate::lanes::{Backoff, Policy, Rest};
use crate::limits::{BACKOFF_MS, FETCH_CREDITS, LEASE_MS, PARTNER_BEHIND_MS};
use crate::message::{Content, Envelope};
use crate::noticeboard::Noticeboard;
use crate::party::Party;
use crate::reason::{Reason, Retry};
use crate::wire::exchange::{self, Arrival, Fetched, Said};
use crate::wire::status::Refused;

/// A gateway that fetches from one partner.
#[derive(Clone)]
pub struct Pull {
    pub intake: Arc<Intake>,
    /// The partner's gateway, as which its messages count.
    pub partner: Party,
    pub dialer: Dialer,
    /// Where it stands whether the partner is suspended.
    pub board: Arc<Noticeboard>,
}

impl Pull {
    /// Fetches until `stop`, while the partner is not suspended.
    pub async fn run(self, stop: CancellationToken) {
        let fetching = self.board.while_exchanging(&self.partner.member, || self.fetch());
        stop.run_until_cancelled(fetching).await;
    }

    /// Fetches for ever, with the pauses of a lane between failures.
    async fn fetch(&self) {
        let seed = crate::chance::bytes().map(u64::from_be_bytes).unwrap_or_default();
        let mut backoff = Backoff::new(&Policy::push(), seed, Rest::default());
        loop {
            match self.dialer.fetch(FETCH_CREDITS).await {
                Ok(fetching) => {
                    tracing::info!(partner = %self.partner.member, "fetching");
                    let heard = self.serve(fetching).await;
                    if heard > 0 {
                        backoff.succeed();
                    }
                }
                Err(error) => tracing::warn!(partner = %self.partner.member, %error, "nothing can be fetched"),
            }
            backoff.fail(self.intake.clock.now());
            self.intake.clock.until(backoff.until()).await;
        }
    }

    /// Serves one stream to its end; how many deliveries came.
    async fn serve(&self, fetching: Fetching) -> u64 {
        let Fetching { up, mut down, channel, mut attempt } = fetching;
        let ends = CancellationToken::new();
        let _guard = ends.clone().drop_guard();
        let mut heard = 0;
        loop {
            match down.message().await {
                Ok(Some(response)) => {
                    heard += 1;
                    attempt.held();
                    let (pull, up, channel) = (self.clone(), up.clone(), channel.clone());
                    let work = async move { pull.take(exchange::arrival(response), &up, &channel).await };
                    // The credits bound how many of these there are.
                    tokio::spawn(ends.clone().run_until_cancelled_owned(work));
                }
                Ok(None) => {
                    attempt.ended(true);
                    return heard;
                }
                Err(status) => {
                    attempt.ended(broke(&status));
                    tracing::info!(partner = %self.partner.member, why = status.message(), "fetching ended");
                    return heard;
                }
            }
        }
    }

    async fn take(&self, arrival: Arrival, up: &mpsc::Sender<Up>, channel: &Channel) {
        let (delivery_id, said) = match arrival {
            Arrival::Message { delivery_id, fetched: Ok(fetched) } => {
                let said = self.message(*fetched, &delivery_id, up, channel).await;
                (delivery_id, said)
            }
            Arrival::Message { delivery_id, fetched: Err(faults) } => (delivery_id, refusal(Refused::faults(faults))),
            Arrival::Receipts { delivery_id, receipts } => match self.intake.witness(receipts).await {
                Ok(refused) => (delivery_id, Said::ReceiptsTaken { refused }),
                Err(_) => (delivery_id, Said::Later { at: self.intake.clock.now().plus_ms(PARTNER_BEHIND_MS) }),
            },
            Arrival::Other => return,
        };
        let _ = up.send(exchange::outcome(delivery_id, said)).await;
        let _ = up.send(exchange::one_more()).await;
    }

    async fn message(&self, fetched: Fetched, delivery_id: &str, up: &mpsc::Sender<Up>, channel: &Channel) -> Said {
        let Fetched { envelope, origin, via } = fetched;
        let uploads = Owner::partner(&self.partner.member);
        if let Err(why) = self.download(&envelope, &uploads, delivery_id, up, channel).await {
            tracing::warn!(partner = %self.partner.member, id = %envelope.id, why, "attachments did not come");
            return Said::Later { at: self.intake.clock.now().plus_ms(*BACKOFF_MS.start()) };
        }
        let uploads = Some(uploads);
        match self.intake.submit(&self.partner, Incoming { envelope, origin, via, uploads }).await {
            Ok(receipt) => Said::Taken(receipt),
            Err(refused) => {
                let behind = matches!(refused.reason, Reason::OriginReceiptInvalid | Reason::ClockAhead);
                match refused.reason.retry() {
                    Retry::Never if !behind => refusal(refused),
                    _ => Said::Later { at: self.intake.clock.now().plus_ms(PARTNER_BEHIND_MS) },
                }
            }
        }
    }

    /// Attachments are here, and durable, before the message is taken.
    async fn download(
        &self,
        envelope: &Envelope,
        owner: &Owner,
        delivery_id: &str,
        up: &mpsc::Sender<Up>,
        channel: &Channel,
    ) -> Result<(), String> {
        let salts = envelope.parts.iter().filter(|part| matches!(part.content, Content::Attachment(_)));
        let mut salts = salts.map(|part| part.salt);
        for attached in envelope.attachments() {
            let ask = Ask { from_city: envelope.from.city.clone(), message: envelope.id, digest: attached.digest };
            let want = Want { digest: attached.digest, size: attached.size, salt: salts.next() };
            let more_time = |_| {
                let until = self.intake.clock.now().plus_ms(LEASE_MS);
                drop(up.try_send(exchange::extend(delivery_id, until)));
            };
            let came = attachments::download(channel, &ask, &self.intake.blobs, owner, want, more_time).await;
            came.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

fn refusal(refused: Refused) -> Said {
    Said::Refused { code: refused.reason.code().to_owned(), text: String::new(), receipt: refused.receipt }
}
