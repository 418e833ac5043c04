//! Decides how the exchange's calls are answered: parse, hand over, wait, answer. A handler never commits inside its own
//! future: the server drops it at the deadline, and what was handed over goes on.

use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::future::{BoxFuture, Either};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::attachments::Attachments;
use super::front::Deadline;
use super::waiters::Waiters;
use super::{cancel, list, peer, receive, request, view, watch};
use crate::courier::{Ground, Mailboxes};
use crate::intake::{Incoming, Intake, Submitted};
use crate::limits::{BATCH_ID_BYTES_MAX, RECEIPT_BATCH_MAX, STREAM_OPEN_MAX};
use crate::party::{Member, Party, Role};
use crate::reason::Reason;
use crate::store::{Entry, LaneName};
use crate::wire::envelope::{address_to_wire, parse, time_to_wire};
use crate::wire::exchange::{receipts_of, refused_receipts, via};
use crate::wire::pb::exchange as pb;
use crate::wire::receipt;
use crate::wire::status::{Refused, to_status, to_wire, unreadable};
use pb::exchange_service_server::ExchangeService;
use pb::submit_stream_request::Request as Step;
use pb::submit_stream_response::Response as StepAnswer;

/// The exchange door.
#[derive(Clone)]
pub struct Exchange {
    pub own: Member,
    pub intake: Arc<Intake>,
    pub ground: Ground,
    pub mailboxes: Mailboxes,
    pub attachments: Attachments,
    pub waiters: Waiters,
    pub stop: CancellationToken,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ExchangeService for Exchange {
    type SubmitStreamStream = Answers<pb::SubmitStreamResponse>;
    type ReceiveStream = Answers<pb::ReceiveResponse>;
    type WatchMessageStream = Answers<pb::WatchMessageResponse>;
    type UploadAttachmentStream = Answers<pb::UploadAttachmentResponse>;
    type DownloadAttachmentStream = Answers<pb::DownloadAttachmentResponse>;

    async fn submit(&self, request: Request<pb::SubmitRequest>) -> Result<Response<pb::SubmitResponse>, Status> {
        let peer = peer(&request)?;
        let submitted = self.submit_one(&peer.party, request.into_inner()).await;
        let receipt = submitted.map_err(|refused| to_status(&refused))?;
        Ok(Response::new(pb::SubmitResponse { receipt: Some(receipt::to_wire(receipt)) }))
    }

    async fn submit_stream(
        &self,
        request: Request<Streaming<pb::SubmitStreamRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        let peer = peer(&request)?;
        let (answers, stream) = mpsc::channel(STREAM_OPEN_MAX);
        tokio::spawn(self.clone().answer_all(peer.party.clone(), request.into_inner(), answers));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn receive(
        &self,
        request: Request<Streaming<pb::ReceiveRequest>>,
    ) -> Result<Response<Self::ReceiveStream>, Status> {
        let peer = peer(&request)?;
        // Other cities have systems of the same names.
        let lane = match &peer.party.role {
            Role::System(name) if peer.party.member == self.own => Some(LaneName::System(name.clone())),
            Role::Gateway => Some(LaneName::Gateway(peer.party.member.clone())),
            _ => None,
        };
        let mailbox = lane.and_then(|lane| self.mailboxes.get(&lane).map(|mailbox| mailbox.clone()));
        let Some(mailbox) = mailbox else {
            let refused = Refused::new(Reason::NotPermitted).with_detail("this identity has no mailbox here");
            return Err(to_status(&refused));
        };
        let stream = receive::serve(self.ground.clone(), peer, mailbox, request.into_inner(), self.stop.clone());
        Ok(Response::new(Box::pin(stream)))
    }

    async fn request(&self, call: Request<pb::RequestRequest>) -> Result<Response<pb::RequestResponse>, Status> {
        let peer = peer(&call)?;
        let deadline = call.extensions().get::<Deadline>().copied();
        let answered = request::request(self, &peer.party, deadline, call.into_inner()).await;
        Ok(Response::new(answered.map_err(|refused| to_status(&refused))?))
    }

    async fn list_messages(
        &self,
        request: Request<pb::ListMessagesRequest>,
    ) -> Result<Response<pb::ListMessagesResponse>, Status> {
        let peer = peer(&request)?;
        let page = list::list(self, &peer.party, request.into_inner()).await;
        Ok(Response::new(page.map_err(|refused| to_status(&refused))?))
    }

    async fn watch_message(
        &self,
        request: Request<pb::WatchMessageRequest>,
    ) -> Result<Response<Self::WatchMessageStream>, Status> {
        let peer = peer(&request)?;
        let entries = watch::watch(self, &peer.party, request.into_inner()).await;
        Ok(Response::new(Box::pin(entries.map_err(|refused| to_status(&refused))?)))
    }

    async fn cancel_message(
        &self,
        request: Request<pb::CancelMessageRequest>,
    ) -> Result<Response<pb::CancelMessageResponse>, Status> {
        let peer = peer(&request)?;
        let cancelled = cancel::cancel(&self.ground, &peer.party, &request.get_ref().message_id).await;
        let receipt = cancelled.map_err(|refused| to_status(&refused))?;
        Ok(Response::new(pb::CancelMessageResponse { receipt: Some(receipt::to_wire(receipt)) }))
    }

    async fn upload_attachment(
        &self,
        request: Request<Streaming<pb::UploadAttachmentRequest>>,
    ) -> Result<Response<Self::UploadAttachmentStream>, Status> {
        let peer = peer(&request)?;
        let answers = self.attachments.upload(&peer.party, &self.own, request.into_inner(), self.stop.clone());
        Ok(Response::new(Box::pin(answers.map_err(|refused| to_status(&refused))?)))
    }

    async fn download_attachment(
        &self,
        request: Request<pb::DownloadAttachmentRequest>,
    ) -> Result<Response<Self::DownloadAttachmentStream>, Status> {
        let peer = peer(&request)?;
        let pieces = self.attachments.download(self, &peer.party, request.into_inner()).await;
        Ok(Response::new(Box::pin(pieces.map_err(|refused| to_status(&refused))?)))
    }

    async fn get_message(
        &self,
        request: Request<pb::GetMessageRequest>,
    ) -> Result<Response<pb::GetMessageResponse>, Status> {
        let peer = peer(&request)?;
        let asked = request.into_inner();
        let key = (asked.from_city, asked.message_id);
        let looked =
            view::look(&self.ground.readers, &self.own, &peer.party, key, |look, stored| look.history(stored.seq));
        let (view, history) = looked.await.map_err(|refused| to_status(&refused))?;
        Ok(Response::new(message(view, &history)))
    }
}

impl Exchange {
    /// Takes one message into custody; it is read and judged within this call.
    pub(super) fn submit_one<'a>(
        &'a self,
        party: &'a Party,
        request: pb::SubmitRequest,
    ) -> impl Future<Output = Submitted> + use<'a> {
        match incoming(request) {
            Ok(incoming) => Either::Left(self.intake.submit(party, incoming)),
            Err(refused) => Either::Right(ready(Err(refused))),
        }
    }

    /// Answers the steps of one stream as they become true, at most `STREAM_OPEN_MAX` at once.
    async fn answer_all(
        self,
        party: Party,
        mut steps: Streaming<pb::SubmitStreamRequest>,
        answers: mpsc::Sender<Result<pb::SubmitStreamResponse, Status>>,
    ) {
        let mut open = FuturesUnordered::new();
        let (mut ended, mut broken) = (false, None);
        while !ended || !open.is_empty() {
            // Not left to the branches below: while answers and steps never cease, the last of them has no turn.
            if !ended && self.stop.is_cancelled() {
                (ended, broken) = (true, Some(to_status(&Refused::new(Reason::ShuttingDown))));
                continue;
            }
            tokio::select! {
                biased;
                Some(answer) = open.next(), if !open.is_empty() => {
                    if answers.send(Ok(answer)).await.is_err() {
                        return;
                    }
                }
                step = steps.message(), if !ended && open.len() < STREAM_OPEN_MAX => match step {
                    Ok(Some(step)) => open.push(self.answer(&party, step)),
                    Ok(None) => ended = true,
                    // The caller is gone, or sent what does not decode: where the next step begins is lost, and what
                    // was handed over is answered first.
                    Err(status) => (ended, broken) = (true, Some(status)),
                },
                () = self.stop.cancelled(), if !ended => {}
            }
        }
        if let Some(status) = broken {
            let _ = answers.send(Err(unreadable(&status).map_or(status, |refused| to_status(&refused)))).await;
        }
    }

    fn answer<'a>(
        &'a self,
        party: &'a Party,
        step: pb::SubmitStreamRequest,
    ) -> BoxFuture<'a, pb::SubmitStreamResponse> {
        match step.request {
            Some(Step::Submit(submit)) => {
                let (id, from_city) = named(submit.envelope.as_ref());
                let submitted = self.submit_one(party, submit).map(move |submitted| {
                    let response = match submitted {
                        Ok(receipt) => StepAnswer::Receipt(receipt::to_wire(receipt)),
                        Err(refused) => StepAnswer::Status(to_wire(&refused)),
                    };
                    pb::SubmitStreamResponse { id: short(id), response: Some(response), from_city: short(from_city) }
                });
                submitted.boxed()
            }
            Some(Step::Receipts(batch)) => {
                let id = short(batch.batch_id.clone());
                let witnessed = self.witness(party, batch).map(|witnessed| {
                    let response = match witnessed {
                        Ok(accepted) => StepAnswer::Receipts(accepted),
                        Err(refused) => StepAnswer::Status(to_wire(&refused)),
                    };
                    pb::SubmitStreamResponse { id, response: Some(response), from_city: String::new() }
                });
                witnessed.boxed()
            }
            None => {
                let refused = Refused::new(Reason::StreamProtocol).with_detail("a step without a request");
                let response = Some(StepAnswer::Status(to_wire(&refused)));
                ready(pb::SubmitStreamResponse { response, ..Default::default() }).boxed()
            }
        }
    }

    /// Takes receipts that came home. Each is checked on its own: one that does not hold never holds up the others.
    async fn witness(&self, party: &Party, batch: pb::ReceiptBatch) -> Result<pb::ReceiptBatchAccepted, Refused> {
        if party.role != Role::Gateway {
            return Err(Refused::new(Reason::NotPermitted).with_detail("only gateways bring receipts"));
        }
        if batch.receipts.len() > RECEIPT_BATCH_MAX || batch.batch_id.len() > BATCH_ID_BYTES_MAX {
            let detail = format!("at most {RECEIPT_BATCH_MAX} receipts, and {BATCH_ID_BYTES_MAX} bytes of batch_id");
            return Err(Refused::new(Reason::MessageTooLarge).with_detail(detail));
        }
        let refused = self.intake.witness(receipts_of(batch)).await?;
        Ok(pb::ReceiptBatchAccepted { refused: refused_receipts(refused) })
    }
}

fn incoming(request: pb::SubmitRequest) -> Result<Incoming, Refused> {
    let envelope = request.envelope.unwrap_or_default();
    let envelope = parse(envelope).map_err(Refused::faults)?;
    let origin = match request.origin_receipt.map(receipt::from_wire) {
        None => None,
        Some(Some(origin)) => Some(origin),
        Some(None) => {
            return Err(Refused::new(Reason::OriginReceiptInvalid).with_detail("proof: a hash has not 32 bytes"));
        }
    };
    let via = via(&request.via).map_err(Refused::faults)?;
    Ok(Incoming { envelope, origin, via, uploads: None })
}

/// The id and the sending city that a request names, whether they parse or not.
fn named(envelope: Option<&pb::Envelope>) -> (String, String) {
    let city = envelope.and_then(|envelope| envelope.from.as_ref()).map(|from| from.city.clone());
    (envelope.map(|envelope| envelope.message_id.clone()).unwrap_or_default(), city.unwrap_or_default())
}

/// An id that the caller chose, bounded before it is sent back.
pub(super) fn short(mut id: String) -> String {
    id.truncate(id.floor_char_boundary(BATCH_ID_BYTES_MAX));
    id
}

fn message(view: view::View, history: &[Entry]) -> pb::GetMessageResponse {
    let stored = &view.stored;
    pb::GetMessageResponse {
        recipient: Some(address_to_wire(&stored.recipient)),
        state: stored.standing.state as i32,
        in_doubt: stored.standing.in_doubt,
        late: stored.standing.late,
        expires_at: Some(time_to_wire(stored.expires_at)),
        history: history.iter().map(watch::entry_to_wire).collect(),
        replied_by: stored.replied_by.map(|id| id.to_string()).unwrap_or_default(),
        redriven_as: stored.redriven_as.map(|id| id.to_string()).unwrap_or_default(),
        envelope: Some(view.envelope),
    }
}
