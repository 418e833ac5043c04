//! Decides how a gateway is asked about the members that it knows, told to suspend one or to believe a changed key, handed a
//! signed note, or asked to examine itself; and how its answers are read. Never judges a note: the gateway does.

use serde::Serialize;

use super::lanes::written;
use super::told::{moment, plain};
use super::{Client, Trouble, timed};
use crate::directory::notes::Carried;
use crate::limits::ENCODE_BYTES_MAX;
use crate::message::ItemCode;
use crate::party::{Division, Member};
use crate::time::Time;
use crate::wire::notes::pieces;
use crate::wire::pb::admin as pb;
use crate::wire::pb::directory as pbd;
use crate::wire::pb::directory::directory_service_client::DirectoryServiceClient;

/// A member as its gateway's neighbour knows it.
#[derive(Debug, Clone, Serialize)]
pub struct ToldMember {
    pub member: String,
    pub own: bool,
    pub name_zh: String,
    pub name_en: String,
    pub version: u64,
    #[serde(serialize_with = "written")]
    pub issued_at: Option<Time>,
    /// Empty when it fetches.
    pub endpoints: Vec<String>,
    pub fingerprint: String,
    /// SHA-256 of each authority's certificate.
    pub authorities: Vec<String>,
    pub logs: Vec<ToldLog>,
    pub crl_required: bool,
    #[serde(serialize_with = "written")]
    pub crl_issued_at: Option<Time>,
    #[serde(serialize_with = "written")]
    pub crl_ends_at: Option<Time>,
    /// DIRECTORY, NOTE or APPROVED.
    pub source: String,
    pub suspended: Option<ToldSuspension>,
    pub held_back: Vec<ToldHeldBack>,
    pub relays: Vec<String>,
}

/// The key of a member's log.
#[derive(Debug, Clone, Serialize)]
pub struct ToldLog {
    pub origin: String,
    pub fingerprint: String,
}

/// Who suspended a member.
#[derive(Debug, Clone, Serialize)]
pub struct ToldSuspension {
    #[serde(serialize_with = "written")]
    pub since: Option<Time>,
    pub by: String,
    pub reason: String,
}

/// What a member signed and is not in force.
#[derive(Debug, Clone, Serialize)]
pub struct ToldHeldBack {
    pub kind: String,
    pub reason: String,
    /// Empty unless it is the member's key that has changed.
    pub held_fingerprint: String,
    pub found_fingerprint: String,
    pub version: u64,
}

/// What somebody may exchange.
#[derive(Debug, Clone, Serialize)]
pub struct ToldGrant {
    pub who: String,
    pub items: Vec<String>,
    pub divisions: Vec<String>,
}

/// What a check found.
#[derive(Debug, Clone, Serialize)]
pub struct ToldFinding {
    pub check: String,
    pub about: String,
    /// GOOD, WARNING, FAULT or SKIPPED.
    pub verdict: String,
    pub seen: String,
    pub seen_zh: String,
    pub skipped_because: String,
    pub code: String,
    pub cause_en: String,
    pub cause_zh: String,
    pub fix_en: String,
    pub fix_zh: String,
}

/// What came of an approval.
#[derive(Debug, Clone, Serialize)]
pub struct Approved {
    pub in_force: bool,
    pub waits_for: String,
    pub member: ToldMember,
}

impl Client {
    /// The members, or one of them, and the version of the directory in force.
    pub async fn members(&self, one: Option<&Member>) -> Result<(Vec<ToldMember>, u64), Trouble> {
        let (mut members, mut page_token) = (vec![], String::new());
        loop {
            let member = one.map(Member::to_string).unwrap_or_default();
            let request = pb::ListMembersRequest { member, page_size: 0, page_token };
            let answer = self.answered(self.admin().list_members(timed(request)).await)?;
            members.extend(answer.members.into_iter().map(ToldMember::read));
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok((members, answer.directory_version));
            }
        }
    }

    /// Suspends a member: whether it was not before, and how it stands.
    pub async fn suspend(&self, member: &Member, reason: &str) -> Result<(bool, ToldMember), Trouble> {
        let request = pb::SuspendMemberRequest { member: member.to_string(), reason: reason.to_owned() };
        let answer = self.answered(self.admin().suspend_member(timed(request)).await)?;
        Ok((answer.changed, ToldMember::read(answer.member.unwrap_or_default())))
    }

    /// Ends a member's suspension: whether there was one, and how it stands.
    pub async fn resume_member(&self, member: &Member, reason: &str) -> Result<(bool, ToldMember), Trouble> {
        let request = pb::ResumeMemberRequest { member: member.to_string(), reason: reason.to_owned() };
        let answer = self.answered(self.admin().resume_member(timed(request)).await)?;
        Ok((answer.changed, ToldMember::read(answer.member.unwrap_or_default())))
    }

    /// Approves a member's changed key.
    pub async fn approve(&self, member: &Member, fingerprint: &str) -> Result<Approved, Trouble> {
        let request = pb::ApproveMemberKeyRequest { member: member.to_string(), fingerprint: fingerprint.to_owned() };
        let answer = self.answered(self.admin().approve_member_key(timed(request)).await)?;
        let member = ToldMember::read(answer.member.unwrap_or_default());
        Ok(Approved { in_force: answer.in_force, waits_for: plain(&answer.waits_for), member })
    }

    /// Hands a signed note in: whether it was news. It is in force then.
    pub async fn publish(&self, note: &Carried) -> Result<bool, Trouble> {
        let steps = pieces(note).into_iter().map(|piece| pbd::PublishNoteRequest { piece: Some(piece) });
        let steps: Vec<_> = steps.collect();
        let mut client = DirectoryServiceClient::new(self.channel.clone()).max_decoding_message_size(ENCODE_BYTES_MAX);
        let answer = client.publish_note(timed(tokio_stream::iter(steps))).await;
        Ok(self.answered(answer)?.news)
    }

    /// The grants that speak of an item and a city.
    pub async fn grants(&self, item: Option<&ItemCode>, city: &Division) -> Result<Vec<ToldGrant>, Trouble> {
        let item_code = item.map(|item| item.as_str().to_owned()).unwrap_or_default();
        let request = pb::ListGrantsRequest { item_code, city: city.as_str().to_owned() };
        let answer = self.answered(self.admin().list_grants(timed(request)).await)?;
        let all = |texts: Vec<String>| texts.iter().map(|text| plain(text)).collect();
        let read = |grant: pb::Grant| ToldGrant {
            who: plain(&grant.who),
            items: all(grant.items),
            divisions: all(grant.divisions),
        };
        Ok(answer.grants.into_iter().map(read).collect())
    }

    /// What the gateway finds when it examines itself and its partners now.
    pub async fn checks(
        &self,
        only: &[String],
        skip: &[String],
        partner: Option<&Member>,
    ) -> Result<Vec<ToldFinding>, Trouble> {
        let partner = partner.map(Member::to_string).unwrap_or_default();
        let request = pb::RunChecksRequest { only: only.to_vec(), skip: skip.to_vec(), partner };
        let answer = self.answered(self.admin().run_checks(timed(request)).await)?;
        Ok(answer.findings.into_iter().map(ToldFinding::read).collect())
    }
}

impl ToldMember {
    fn read(member: pb::Member) -> ToldMember {
        let all = |texts: Vec<String>| texts.iter().map(|text| plain(text)).collect();
        let source = member.source().as_str_name().trim_start_matches("MEMBER_SOURCE_").to_owned();
        let log = |log: pb::MemberLog| ToldLog { origin: plain(&log.origin), fingerprint: plain(&log.fingerprint) };
        let suspended = member.suspension.map(|suspension| ToldSuspension {
            since: moment(suspension.since),
            by: plain(&suspension.by),
            reason: plain(&suspension.reason),
        });
        let held_back = |held: pb::MemberHeldBack| ToldHeldBack {
            kind: plain(&held.kind),
            reason: plain(&held.reason),
            held_fingerprint: plain(&held.held_fingerprint),
            found_fingerprint: plain(&held.found_fingerprint),
            version: held.version,
        };
        ToldMember {
            member: plain(&member.member),
            own: member.own,
            name_zh: plain(&member.name_zh),
            name_en: plain(&member.name_en),
            version: member.version,
            issued_at: moment(member.issued_at),
            endpoints: all(member.endpoints),
            fingerprint: plain(&member.key_fingerprint),
            authorities: all(member.authorities),
            logs: member.logs.into_iter().map(log).collect(),
            crl_required: member.crl_required,
            crl_issued_at: moment(member.crl_issued_at),
            crl_ends_at: moment(member.crl_ends_at),
            source,
            suspended,
            held_back: member.held_back.into_iter().map(held_back).collect(),
            relays: all(member.relays),
        }
    }
}

impl ToldFinding {
    fn read(finding: pb::CheckFinding) -> ToldFinding {
        let verdict = finding.verdict().as_str_name().trim_start_matches("CHECK_VERDICT_").to_owned();
        ToldFinding {
            check: plain(&finding.check),
            about: plain(&finding.about),
            verdict,
            seen: plain(&finding.seen),
            seen_zh: plain(&finding.seen_zh),
            skipped_because: plain(&finding.skipped_because),
            code: plain(&finding.code),
            cause_en: plain(&finding.cause_en),
            cause_zh: plain(&finding.cause_zh),
            fix_en: plain(&finding.fix_en),
            fix_zh: plain(&finding.fix_zh),
        }
    }
}
