//! Decides how a gateway is asked what people did to it, or for a content, which is such an act; and how its answers are read.
//! Never judges it.

use serde::Serialize;

use super::lanes::written;
use super::told::{moment, plain};
use super::{Client, Trouble, timed};
use crate::id::MessageId;
use crate::message::Envelope;
use crate::party::Division;
use crate::time::Time;
use crate::wire::envelope::{parse, time_to_wire};
use crate::wire::pb::admin as pb;

/// Which acts are meant; what is unset or empty matches all.
#[derive(Debug, Clone, Default)]
pub struct WantedActs {
    pub from: Option<Time>,
    /// The first moment after those that are meant.
    pub until: Option<Time>,
    /// How what was done begins.
    pub act: String,
    /// What the name of who acted contains.
    pub actor: String,
}

/// What a person did, or was refused.
#[derive(Debug, Clone, Serialize)]
pub struct ToldAct {
    #[serde(serialize_with = "written")]
    pub time: Option<Time>,
    pub actor: String,
    pub act: String,
    pub object: String,
    /// The reason for which it was refused; empty when it was done.
    pub refused: String,
    pub reason: String,
    /// The digest of what was put in place, in hexadecimal digits; empty when nothing was.
    pub content: String,
    /// The index of its leaf.
    pub leaf: u64,
}

impl Client {
    /// A page of the audit, newest first, and the token of the next; empty when there is none.
    pub async fn audit(
        &self,
        wanted: &WantedActs,
        count: u32,
        token: String,
    ) -> Result<(Vec<ToldAct>, String), Trouble> {
        let request = pb::ListAuditRequest {
            from: wanted.from.map(time_to_wire),
            until: wanted.until.map(time_to_wire),
            act: wanted.act.clone(),
            actor: wanted.actor.clone(),
            page_size: count,
            page_token: token,
        };
        let page = self.answered(self.admin().list_audit(timed(request)).await)?;
        Ok((page.entries.into_iter().map(ToldAct::read).collect(), page.next_page_token))
    }
}

impl Client {
    /// A message with its content, attachments left out, for a reason that goes on record; none when the content is gone.
    /// Without a city, one of our own city's.
    pub async fn content(
        &self,
        from: Option<&Division>,
        id: MessageId,
        reason: &str,
    ) -> Result<Option<Envelope>, Trouble> {
        let from_city = from.map(|city| city.as_str().to_owned()).unwrap_or_default();
        let request = pb::ReadContentRequest { from_city, message_id: id.to_string(), reason: reason.to_owned() };
        let answer = self.answered(self.admin().read_content(timed(request)).await)?;
        if !answer.has_body {
            return Ok(None);
        }
        let unsound = || Trouble::unsound("the message is not what its digests say", "消息与其摘要不符");
        parse(answer.envelope.unwrap_or_default()).map(Some).map_err(|_| unsound())
    }
}

impl ToldAct {
    fn read(entry: pb::AuditEntry) -> ToldAct {
        let digest = entry.content.map(|digest| digest.value).unwrap_or_default();
        ToldAct {
            time: moment(entry.time),
            actor: plain(&entry.actor),
            act: plain(&entry.act),
            object: plain(&entry.object),
            refused: plain(&entry.refused),
            reason: plain(&entry.reason),
            content: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            leaf: entry.leaf_index,
        }
    }
}
