//! Decides how a command speaks with its city's gateway as one of the city's systems, and what the gateway's answers mean
//! once they are checked. Never believes a receipt that it has not checked, and never tries a call twice.

mod acts;
mod carry;
mod headers;
mod inbox;
mod lanes;
mod letters;
mod line;
mod load;
mod members;
mod messages;
mod partners;
mod pipe;
mod reach;
mod routes;
mod stats;
mod told;
mod trouble;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

pub use acts::{ToldAct, WantedActs};
pub use inbox::{Delivered, Inbox, News, Outcome};
pub use lanes::{Reloaded, ToldLane};
pub use letters::{
    Chosen, End, Ended, Fate, Group, Letter, Obstacle, Opened, Preview, Progress, Refusal, Sieve, Step, Way,
};
pub use load::{Hand, Laid, Mould, Stamp, Tray, noise};
pub use members::{ToldFinding, ToldGrant, ToldHeldBack, ToldMember, ToldSuspension};
pub use messages::{Filter, Summary};
pub use partners::ToldTest;
pub use pipe::{Answers, Pipe};
pub use reach::{As, Reach, address};
pub use routes::{Asked, Decided, Planned, PlannedChange, PlannedRow, Tables};
pub use stats::{By, ToldSum};
pub use told::{Told, ToldEvent, ToldPart, mode_name, plain};
pub use trouble::{Refused, Trouble, Words};

use super::Failure;
use crate::directory::Directory;
use crate::evidence::Event;
use crate::id::MessageId;
use crate::intake::log_keys;
use crate::limits::{CALL_MS_MAX, ENCODE_BYTES_MAX};
use crate::message::{Address, Digest, Envelope};
use crate::party::{Division, Member};
use crate::receipt::{Checked, Checker, Receipt};
use crate::wire::envelope::{Fault, parse, to_wire};
use crate::wire::pb::admin::admin_service_client::AdminServiceClient;
use crate::wire::pb::evidence::GetMessageEvidenceRequest;
use crate::wire::pb::evidence::evidence_service_client::EvidenceServiceClient;
use crate::wire::pb::exchange as pb;
use crate::wire::{receipt, status};
use pb::exchange_service_client::ExchangeServiceClient;

/// Under which checkpoint a receipt is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grade {
    /// That of its own commit, as it was first issued.
    Instant,
    /// A published one that witnesses have cosigned, where the gateway that is asked has one.
    Sealed,
}

/// Seconds that a unary call may take beyond what the gateway allows itself: the way there and back.
const CALL_GRACE_S: u64 = 5;

/// A way to one gateway, as one system.
pub struct Client {
    /// Who speaks.
    pub me: Address,
    /// Whom the alliance knows; its log keys check every receipt.
    pub directory: Directory,
    gateway: String,
    channel: Channel,
    checker: Mutex<Checker>,
}

impl Client {
    /// A client for what `reach` names; it connects with the first call. Only within a runtime.
    pub fn new(reach: Reach) -> Client {
        let checker = Mutex::new(Checker::new(log_keys(&reach.directory)));
        let Reach { me, directory, dialler, gateway, patience } = reach;
        let address = gateway.authority().map(ToString::to_string).unwrap_or_default();
        Client { me, directory, gateway: address, channel: line::channel(dialler, gateway, patience), checker }
    }

    /// Submits a message: the checked receipt of its acceptance. Sending the same again is safe.
    pub async fn submit(&self, envelope: &Envelope) -> Result<Checked, Trouble> {
        let request = pb::SubmitRequest { envelope: Some(whole(envelope)), origin_receipt: None, via: vec![] };
        let answer = self.exchange().submit(timed(request)).await;
        let receipt = self.answered(answer)?.receipt.and_then(receipt::from_wire);
        self.accepted(receipt, envelope.id, envelope.header_digest())
    }

    /// Opens a stream for many messages.
    pub async fn pipe(&self) -> Result<(Pipe, Answers), Trouble> {
        let (pipe, requests) = pipe::Pipe::new();
        let answers = self.exchange().submit_stream(ReceiverStream::new(requests)).await;
        Ok((pipe, Answers::new(self.answered(answers)?)))
    }

    /// Opens the system's mailbox for `credits` deliveries.
    pub async fn receive(&self, credits: u32) -> Result<Inbox<'_>, Trouble> {
        let (up, steps) = inbox::opening(credits);
        let down = self.exchange().receive(ReceiverStream::new(steps)).await;
        Ok(Inbox::new(self, up, self.answered(down)?))
    }

    /// Where a message is. Without a city, one of our own city's.
    pub async fn message(&self, from: Option<&Division>, id: MessageId) -> Result<Told, Trouble> {
        let from_city = from.map(|city| city.as_str().to_owned()).unwrap_or_default();
        let request = pb::GetMessageRequest { from_city, message_id: id.to_string() };
        let answer = self.exchange().get_message(timed(request)).await;
        Told::read(self.answered(answer)?)
    }

    /// The receipts of a message as the gateway holds them, unchecked, oldest first.
    pub async fn evidence(
        &self,
        from: Option<&Division>,
        id: MessageId,
        grade: Grade,
    ) -> Result<Vec<Receipt>, Trouble> {
        let from_city = from.map(|city| city.as_str().to_owned()).unwrap_or_default();
        let sealed = grade == Grade::Sealed;
        let request = GetMessageEvidenceRequest { from_city, message_id: id.to_string(), sealed };
        let mut client = EvidenceServiceClient::new(self.channel.clone()).max_decoding_message_size(ENCODE_BYTES_MAX);
        let answer = client.get_message_evidence(timed(request)).await;
        let receipts = self.answered(answer)?.receipts;
        let receipts: Option<Vec<_>> = receipts.into_iter().map(receipt::from_wire).collect();
        let malformed = ("a proof holds a hash that has not 32 bytes", "证明中有长度不是 32 字节的哈希");
        receipts.ok_or_else(|| Trouble::unsound(malformed.0, malformed.1))
    }

    /// Whether the gateway says that it serves.
    pub async fn is_healthy(&self) -> bool {
        let request = timed(HealthCheckRequest { service: String::new() });
        let answer = HealthClient::new(self.channel.clone()).check(request).await;
        answer.is_ok_and(|answer| answer.into_inner().status == ServingStatus::Serving as i32)
    }

    /// Checks a receipt against the logs of the alliance.
    pub fn check(&self, receipt: Receipt) -> Result<Checked, Trouble> {
        let mut checker = self.checker.lock().unwrap_or_else(PoisonError::into_inner);
        checker.check(receipt).map_err(|fault| Trouble::receipt(&fault))
    }

    /// Checks that a receipt is our own gateway's word that it accepted this very message.
    pub fn accepted(&self, receipt: Option<Receipt>, id: MessageId, digest: Digest) -> Result<Checked, Trouble> {
        let checked = self.own_receipt(receipt)?;
        let evidence = &checked.evidence;
        let meant = evidence.message_id == id && evidence.from == self.me && evidence.header_digest == digest;
        if meant && evidence.event == Event::SubmissionAccepted {
            return Ok(checked);
        }
        Err(Trouble::unsound("the receipt speaks of another message", "回执所述的不是这条消息"))
    }

    /// Checks a receipt that our own gateway must have issued.
    fn own_receipt(&self, receipt: Option<Receipt>) -> Result<Checked, Trouble> {
        let missing = || Trouble::unsound("the answer carries no receipt that reads", "应答中没有可读的回执");
        let checked = self.check(receipt.ok_or_else(missing)?)?;
        if checked.evidence.issuer == Member::City(self.me.city.clone()) {
            return Ok(checked);
        }
        Err(Trouble::unsound("the receipt is not this gateway's own", "回执不是本网关签发的"))
    }

    /// A refusal inside a stream.
    fn refused(&self, answered: status::Answered) -> Refused {
        let on_record = answered.receipt.clone().and_then(|receipt| self.check(receipt).ok());
        Refused { answered, on_record }
    }

    fn answered<T>(&self, answer: Result<Response<T>, Status>) -> Result<T, Trouble> {
        answer.map(Response::into_inner).map_err(|status| self.broken(&status))
    }

    /// A call or stream that ended otherwise than well.
    fn broken(&self, status: &Status) -> Trouble {
        match Trouble::of_connection(&self.gateway, status) {
            Some(trouble) => trouble,
            None => Trouble::Refused(Box::new(self.refused(status::from_status(status)))),
        }
    }

    fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone()).max_decoding_message_size(ENCODE_BYTES_MAX)
    }

    fn exchange(&self) -> ExchangeServiceClient<Channel> {
        ExchangeServiceClient::new(self.channel.clone()).max_decoding_message_size(ENCODE_BYTES_MAX)
    }
}

/// Whether a gateway would take this envelope's form: the same rules, told before anything is sent.
pub fn form(envelope: &Envelope) -> Result<(), Vec<Fault>> {
    parse(whole(envelope)).map(|_| ())
}

/// The envelope on the wire, contents in their parts.
fn whole(envelope: &Envelope) -> pb::Envelope {
    let mut wire = to_wire(envelope);
    for (part, sent) in wire.parts.iter_mut().zip(&envelope.parts) {
        if let crate::message::Content::Inline(bytes) = &sent.content {
            part.content = Some(pb::part::Content::Inline(bytes.clone()));
        }
    }
    wire
}

/// Foreign text of several lines as a terminal may show it.
fn plain_lines(text: &str) -> String {
    text.split('\n').map(told::plain).collect::<Vec<_>>().join("\n")
}

/// A unary call with the longest deadline that a gateway grants.
fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_millis(CALL_MS_MAX) + Duration::from_secs(CALL_GRACE_S));
    request
}

/// Runs a command's conversation with the gateway that `who` names to its end.
pub fn converse<T>(who: &As, talk: impl AsyncFnOnce(Client) -> Result<T, Failure>) -> Result<T, Failure> {
    let reach = who.reach()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(async { talk(Client::new(reach)).await });
    // A connection may still wait for a peer that is gone; nothing of it matters any more.
    runtime.shutdown_background();
    ended
}
