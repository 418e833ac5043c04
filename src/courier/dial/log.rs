//! Decides how a witness asks a partner about its log: all of one look over one line. Never judges an answer.

use tonic::transport::Channel;

use super::{Dialer, LineError, Try, broke, in_time};
use crate::limits::ATTEMPT_MS;
use crate::reason::Reason;
use crate::tlog::Hash;
use crate::wire::pb::evidence as pb;
use crate::wire::pb::evidence::evidence_service_client::EvidenceServiceClient;
use crate::wire::{log, status};

/// A line to a partner's log.
pub struct LogLine {
    client: EvidenceServiceClient<Channel>,
    attempt: Try,
}

impl Dialer {
    /// The newest checkpoint that the partner has published, as it came, and the line for more questions; an empty note
    /// when it has published none.
    pub async fn log(&self) -> Result<(LogLine, String), LineError> {
        let newest = |channel: Channel| async move {
            let mut client = EvidenceServiceClient::new(channel);
            let asked = pb::GetCheckpointRequest::default();
            let answer = in_time(ATTEMPT_MS, client.get_checkpoint(asked)).await?;
            Ok((client, answer.into_inner().checkpoint))
        };
        let ((client, note), _, mut attempt) = self.reach(newest).await?;
        attempt.held();
        Ok((LogLine { client, attempt }, note))
    }
}

impl LogLine {
    /// The proof that a log has grown from one size to another, unchecked; none when the partner says that its log has not
    /// so many leaves, or hands out what is no hash.
    pub async fn consistency(&mut self, origin: &str, old: u64, new: u64) -> Result<Option<Vec<Hash>>, LineError> {
        let asked = pb::GetConsistencyProofRequest { origin: origin.to_owned(), old_size: old, new_size: new };
        match in_time(ATTEMPT_MS, self.client.get_consistency_proof(asked)).await {
            Ok(answer) => Ok(log::consistency_from_wire(answer.get_ref())),
            Err(LineError::Refused(why))
                if status::from_status(&why).reason.as_deref() == Some(Reason::NotInLog.code()) =>
            {
                Ok(None)
            }
            Err(error) => Err(self.told(error)),
        }
    }

    /// Hands our cosignature in.
    pub async fn hand_in(&mut self, origin: &str, size: u64, line: &str) -> Result<(), LineError> {
        let (origin, cosignature) = (origin.to_owned(), line.to_owned());
        let asked = pb::AddCosignatureRequest { origin, size, cosignature };
        let answer = in_time(ATTEMPT_MS, self.client.add_cosignature(asked)).await;
        answer.map(drop).map_err(|error| self.told(error))
    }

    fn told(&self, error: LineError) -> LineError {
        if matches!(&error, LineError::Refused(status) if broke(status)) {
            self.attempt.failed();
        }
        error
    }
}
