//! Decides how a gateway is asked about its routing tables and how its answers are read. Never decides what is published.

use serde::Serialize;
use serde_json::{Value, json};

use super::{Client, Trouble, plain_lines, timed};
use crate::limits::TABLES_BYTES_MAX;
use crate::message::{Address, ItemCode, Mode, Step};
use crate::party::{Division, Member};
use crate::time::{SentTime, Time};
use crate::wire::envelope::address_to_wire;
use crate::wire::pb::routing as pb;
use pb::routing_service_client::RoutingServiceClient;

/// A set of tables as the gateway told it.
#[derive(Debug, Clone, Serialize)]
pub struct Tables {
    pub version: u64,
    pub etag: String,
    pub tables: Vec<OneTable>,
}

/// One owner's table.
#[derive(Debug, Clone, Serialize)]
pub struct OneTable {
    pub owner: String,
    pub version: u64,
    pub toml: String,
}

/// What publishing would change.
#[derive(Debug, Clone, Serialize)]
pub struct Planned {
    pub version: u64,
    pub etag: String,
    pub changes: Vec<PlannedChange>,
}

/// A row that is added, removed or changed: its number, days and target before and after.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedChange {
    pub owner: String,
    pub about: String,
    pub before: Option<PlannedRow>,
    pub after: Option<PlannedRow>,
    /// What becomes of a message that the row is about, where that changes.
    pub effect: Option<(Decided, Decided)>,
}

/// A row as it stands in its table.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedRow {
    pub number: u32,
    pub validity: String,
    pub target: String,
}

/// Where a message goes, or why it goes nowhere.
#[derive(Debug, Clone, Serialize)]
pub struct Decided {
    pub recipient: String,
    pub lanes: Vec<String>,
    pub by: String,
    pub reason: String,
    pub token: String,
}

/// A message as far as routing looks at it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub to: Option<Address>,
    pub jurisdiction: Option<Division>,
    pub item: ItemCode,
    pub step: Option<Step>,
    pub mode: Option<Mode>,
    pub at: Option<Time>,
    pub via: Option<Member>,
}

impl Client {
    /// The tables in force, or an earlier version.
    pub async fn tables(&self, version: Option<u64>) -> Result<Tables, Trouble> {
        let request = pb::GetTablesRequest { version: version.unwrap_or(0) };
        let answer = self.answered(self.routing().get_tables(timed(request)).await)?;
        let table = |table: pb::Table| OneTable {
            owner: plain_lines(&table.owner),
            version: table.version,
            toml: plain_lines(&table.toml),
        };
        let tables = answer.tables.into_iter().map(table).collect();
        Ok(Tables { version: answer.version, etag: plain_lines(&answer.etag), tables })
    }

    /// What publishing these texts would change.
    pub async fn plan_tables(&self, tables: Vec<String>, complete: bool) -> Result<Planned, Trouble> {
        let request = pb::PlanTablesRequest { tables, complete };
        let answer = self.answered(self.routing().plan_tables(timed(request)).await)?;
        let changes = answer.changes.into_iter().map(PlannedChange::read).collect();
        Ok(Planned { version: answer.version, etag: plain_lines(&answer.etag), changes })
    }

    /// Publishes: the version that is in force then.
    pub async fn publish_tables(&self, etag: String, tables: Vec<String>, complete: bool) -> Result<u64, Trouble> {
        let request = pb::PublishTablesRequest { etag, tables, complete };
        Ok(self.answered(self.routing().publish_tables(timed(request)).await)?.version)
    }

    /// Puts an earlier version in force again: the new version.
    pub async fn rollback_tables(&self, etag: String, version: u64) -> Result<u64, Trouble> {
        let request = pb::RollbackTablesRequest { etag, version };
        Ok(self.answered(self.routing().rollback_tables(timed(request)).await)?.version)
    }

    /// Where a message would go: the notes in English and Chinese, the decision, and the version of the tables.
    pub async fn explain(&self, asked: &Asked) -> Result<(Vec<(String, String)>, Decided, u64), Trouble> {
        let at = asked.at.map(|at| {
            let at = SentTime::from(at);
            prost_types::Timestamp { seconds: at.seconds(), nanos: at.nanos() as i32 }
        });
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let request = pb::ExplainRouteRequest {
            to: asked.to.as_ref().map(address_to_wire),
            jurisdiction: text(asked.jurisdiction.as_ref().map(Division::as_str)),
            item_code: asked.item.as_str().to_owned(),
            step: text(asked.step.as_ref().map(Step::as_str)),
            mode: asked.mode.map_or(0, |mode| mode as i32),
            at,
            via: asked.via.as_ref().map_or(String::new(), Member::to_string),
        };
        let answer = self.answered(self.routing().explain_route(timed(request)).await)?;
        let notes = answer.notes.iter().map(|note| (plain_lines(&note.en), plain_lines(&note.zh)));
        Ok((notes.collect(), Decided::read(answer.decision.unwrap_or_default()), answer.version))
    }

    fn routing(&self) -> RoutingServiceClient<tonic::transport::Channel> {
        RoutingServiceClient::new(self.channel.clone()).max_decoding_message_size(TABLES_BYTES_MAX)
    }
}

impl PlannedChange {
    fn read(change: pb::Change) -> PlannedChange {
        let row = |row: pb::Row| PlannedRow {
            number: row.number,
            validity: plain_lines(&row.validity),
            target: plain_lines(&row.target),
        };
        let effect = |effect: pb::Effect| {
            let read = |decision: Option<pb::Decision>| Decided::read(decision.unwrap_or_default());
            (read(effect.before), read(effect.after))
        };
        PlannedChange {
            owner: plain_lines(&change.owner),
            about: plain_lines(&change.about),
            before: change.before.map(row),
            after: change.after.map(row),
            effect: change.effect.map(effect),
        }
    }
}

impl Decided {
    fn read(decision: pb::Decision) -> Decided {
        let recipient = decision.recipient.map_or(String::new(), |to| match to.system.is_empty() {
            true => to.city,
            false => format!("{}/{}", to.city, to.system),
        });
        Decided {
            recipient: plain_lines(&recipient),
            lanes: decision.lanes.iter().map(|lane| plain_lines(lane)).collect(),
            by: plain_lines(&decision.by),
            reason: plain_lines(&decision.reason),
            token: plain_lines(&decision.token),
        }
    }

    /// In one line: where it goes, or the reason why nowhere.
    pub fn line(&self) -> String {
        match self.reason.as_str() {
            "" => self.lanes.join(", "),
            reason => format!("{reason} {}", self.token).trim_end().to_owned(),
        }
    }

    /// Whether it goes anywhere.
    pub fn goes(&self) -> bool {
        self.reason.is_empty()
    }

    /// The decision as data.
    pub fn json(&self) -> Value {
        json!(self)
    }
}
