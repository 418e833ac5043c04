//! Decides how members are shown to those who operate the gateway, and when a decision about one counts: once it is on
//! record, on disk and in force. Never vouches for a member: its signatures and our own people do.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::super::record::Record;
use crate::audit::Deed;
use crate::clock::Clock;
use crate::directory::notes::Kind;
use crate::directory::{CrlPolicy, Decisions, Directory, Entry, Suspension, fingerprint, same_fingerprint};
use crate::intake::Rules;
use crate::limits::{ENFORCE_MS_MAX, FINGERPRINT_BYTES_MAX, MEMBERS_PAGE, PAUSE_REASON_BYTES_MAX};
use crate::message::visible;
use crate::noticeboard::{ApproveError, HeldKey, Noticeboard, Offered};
use crate::party::{Member, Party};
use crate::reason::Reason;
use crate::store::NotesError;
use crate::time::Time;
use crate::wire::envelope::{Fault, Faults, time_to_wire};
use crate::wire::pb::admin as pb;
use crate::wire::status::Refused;

/// When a member's newest revocation list was issued, and when its lists end.
#[derive(Debug, Clone, Copy)]
pub struct Lists {
    pub issued_at: Time,
    pub ends_at: Option<Time>,
}

/// Reads a member's revocation lists; none where there are none. Blocks on the disk.
pub type ReadLists = Arc<dyn Fn(&Member) -> Option<Lists> + Send + Sync>;

/// The members as this gateway knows them.
#[derive(Clone)]
pub struct Members {
    pub own: Member,
    pub board: Arc<Noticeboard>,
    pub clock: Clock,
    pub lists: ReadLists,
}

/// A decision about a member that somebody asks for.
#[derive(Debug)]
pub struct Asked {
    member: Member,
    what: What,
    why: String,
}

/// What is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Suspend,
    Resume,
}

/// Which members are asked for.
#[derive(Debug)]
pub struct Page {
    one: Option<Member>,
    after: Option<Member>,
    count: usize,
}

/// What decisions about members are called in the audit.
pub const SUSPEND: &str = "member.suspend";
pub const RESUME: &str = "member.resume";
pub const APPROVE: &str = "member.approve-key";

impl Members {
    /// A page of the members in force.
    pub(super) async fn list(&self, rules: Arc<Rules>, page: Page) -> Result<pb::ListMembersResponse, Refused> {
        let members = self.clone();
        let listed = tokio::task::spawn_blocking(move || {
            let (directory, known) = (&rules.directory, members.known());
            let wanted = |entry: &&Entry| {
                let member = &entry.record.member;
                page.one.as_ref().is_none_or(|one| one == member)
                    && page.after.as_ref().is_none_or(|after| member > after)
            };
            // One more than asked for tells whether there is another page.
            let mut entries: Vec<&Entry> = directory.entries().filter(wanted).take(page.count + 1).collect();
            let more = entries.len() > page.count;
            entries.truncate(page.count);
            let last = entries.last().filter(|_| more).map(|last| last.record.member.to_string());
            pb::ListMembersResponse {
                members: entries.into_iter().map(|entry| members.told(entry, &known)).collect(),
                next_page_token: last.unwrap_or_default(),
                directory_version: directory.version(),
            }
        });
        listed.await.map_err(|_| Refused::new(Reason::Internal))
    }

    /// Suspends a member, or ends its suspension: whether that changed anything, and how it stands once it is in force. To
    /// the end, even when the caller goes away.
    pub(super) async fn decide(
        &self,
        asked: Asked,
        (record, actor): (Record, Party),
        rules: impl Fn() -> Arc<Rules> + Send + 'static,
    ) -> Result<(bool, pb::Member), Refused> {
        let Asked { member, what, why } = asked;
        self.known_member(&rules().directory, &member)?;
        let (members, by, since_ms) = (self.clone(), actor.to_string(), self.clock.now().ms());
        let act = match what {
            What::Suspend => SUSPEND,
            What::Resume => RESUME,
        };
        let deed = deed(act, &by, &member, why.clone());
        let decided = tokio::spawn(async move {
            // On record before it holds: what cannot be told later is not done.
            record.done(deed).await?;
            let (board, of, suspension) = (members.board.clone(), member.clone(), Suspension { since_ms, by, why });
            let decided = tokio::task::spawn_blocking(move || match what {
                What::Suspend => board.suspend(&of, suspension),
                What::Resume => board.resume(&of),
            });
            let changed = decided.await.map_err(|_| Refused::new(Reason::Internal))?.map_err(kept)?;
            members.enforced().await?;
            tracing::warn!(%member, act, changed, "somebody suspended a member or ended its suspension");
            Ok((changed, members.one(&rules(), &member).await?))
        });
        decided.await.unwrap_or_else(|_| Err(Refused::new(Reason::Internal)))
    }

    /// Approves a member's changed key.
    pub(super) async fn approve(
        &self,
        (member, whole_fingerprint): (Member, String),
        (record, actor): (Record, Party),
        rules: impl Fn() -> Arc<Rules> + Send + 'static,
    ) -> Result<pb::ApproveMemberKeyResponse, Refused> {
        let members = self.clone();
        let decided = tokio::spawn(async move {
            let (board, of, by) = (members.board.clone(), member.clone(), actor.to_string());
            let is_held = board
                .held_keys()
                .iter()
                .any(|key| key.member == member && same_fingerprint(&key.found, &whole_fingerprint));
            if is_held {
                record.done(deed(APPROVE, &by, &member, whole_fingerprint.clone())).await?;
            }
            let approved = tokio::task::spawn_blocking(move || board.approve(&of, &whole_fingerprint, by)).await;
            let offered = approved.map_err(|_| Refused::new(Reason::Internal))?.map_err(not_approved)?;
            let waits_for = match offered {
                Ok(Offered::Taken | Offered::Same) => members.enforced().await.map(|()| String::new())?,
                Ok(Offered::HeldBack(why)) => why,
                Err(fault) => fault.to_string(),
            };
            tracing::warn!(%member, waits_for, "somebody approved a member's changed key");
            let (in_force, told) = (waits_for.is_empty(), members.one(&rules(), &member).await?);
            Ok(pb::ApproveMemberKeyResponse { in_force, waits_for, member: Some(told) })
        });
        decided.await.unwrap_or_else(|_| Err(Refused::new(Reason::Internal)))
    }

    /// Waits until what stands on the board is in force.
    async fn enforced(&self) -> Result<(), Refused> {
        enforced(&self.board).await
    }

    fn known_member(&self, directory: &Directory, member: &Member) -> Result<(), Refused> {
        let must = match directory.member(member) {
            None => "must be a member of the directory",
            Some(_) if *member == self.own => "must not be this gateway's own member",
            Some(_) => return Ok(()),
        };
        Err(Refused::faults(vec![Fault { field: "member".to_owned(), must: must.to_owned() }]))
    }

    async fn one(&self, rules: &Arc<Rules>, member: &Member) -> Result<pb::Member, Refused> {
        let page = Page { one: Some(member.clone()), after: None, count: 1 };
        let mut listed = self.list(rules.clone(), page).await?.members;
        listed.pop().ok_or_else(|| Refused::new(Reason::Internal).with_detail("the member has left meanwhile"))
    }

    fn known(&self) -> Known {
        let held_back = self.board.held_back().into_iter();
        Known {
            decisions: self.board.decisions(),
            keys: self.board.held_keys(),
            held_back: held_back.map(|((kind, owner), why)| (kind, owner, why)).collect(),
        }
    }

    fn told(&self, entry: &Entry, known: &Known) -> pb::Member {
        let (record, lists) = (&entry.record, (self.lists)(&entry.record.member));
        let suspension = known.decisions.suspended.get(&record.member).map(|suspension| pb::MemberSuspension {
            since: Some(time_to_wire(suspension.since())),
            by: suspension.by.clone(),
            reason: suspension.why.clone(),
        });
        let log = |key: &crate::tlog::note::VerifyingKey| pb::MemberLog {
            origin: key.name().to_owned(),
            fingerprint: fingerprint(key),
        };
        pb::Member {
            member: record.member.to_string(),
            name_zh: record.name_zh.clone(),
            name_en: record.name_en.clone(),
            version: record.version,
            issued_at: Some(time_to_wire(record.issued_at)),
            endpoints: record.endpoints.iter().map(ToString::to_string).collect(),
            key_fingerprint: fingerprint(&entry.member_key),
            authorities: record.roots.iter().map(|root| hex::encode(Sha256::digest(root))).collect(),
            logs: record.log_keys.iter().map(log).collect(),
            crl_required: record.crl == CrlPolicy::Required,
            crl_issued_at: lists.map(|lists| time_to_wire(lists.issued_at)),
            crl_ends_at: lists.and_then(|lists| lists.ends_at).map(time_to_wire),
            source: self.source(entry, known) as i32,
            suspension,
            held_back: known.held_back(&record.member),
            relays: record.relays.iter().map(ToString::to_string).collect(),
            own: record.member == self.own,
        }
    }

    fn source(&self, entry: &Entry, known: &Known) -> pb::MemberSource {
        let member = &entry.record.member;
        let believed = known.decisions.keys.get(member).filter(|key| key.fingerprint == fingerprint(&entry.member_key));
        if believed.is_some_and(|key| key.by.is_some()) {
            return pb::MemberSource::Approved;
        }
        let note = self.board.note(&(Kind::MemberRecord, Some(member.clone())));
        match note.is_some_and(|note| note.version == entry.record.version) {
            true => pb::MemberSource::Note,
            false => pb::MemberSource::Directory,
        }
    }
}

/// What was decided here, and what waits.
struct Known {
    decisions: Decisions,
    keys: Vec<HeldKey>,
    held_back: Vec<(Kind, Option<Member>, String)>,
}

impl Known {
    /// What of this member is held back: notes of its own, and a directory that brings it another key.
    fn held_back(&self, member: &Member) -> Vec<pb::MemberHeldBack> {
        let own = self.held_back.iter().filter(|(_, owner, _)| owner.as_ref() == Some(member));
        let note = |(kind, _, why): &(Kind, _, String)| pb::MemberHeldBack {
            kind: kind.as_str().to_owned(),
            reason: why.clone(),
            ..Default::default()
        };
        let keys = self.keys.iter().filter(|key| key.member == *member).map(|key| pb::MemberHeldBack {
            kind: Kind::Directory.as_str().to_owned(),
            held_fingerprint: key.held.clone(),
            found_fingerprint: key.found.clone(),
            version: key.version,
            ..Default::default()
        });
        own.map(note).chain(keys).collect()
    }
}

/// Waits until what stands on the board is in force.
///
/// # Errors
/// It cannot be put in force, and what held before holds; or nobody did in time.
pub async fn enforced(board: &Noticeboard) -> Result<(), Refused> {
    match tokio::time::timeout(Duration::from_millis(ENFORCE_MS_MAX), board.enforced()).await {
        Ok(None) => Ok(()),
        Ok(Some(fault)) => Err(Refused::new(Reason::NoteRefused).with_detail(fault)),
        Err(_) => Err(Refused::new(Reason::Busy).with_detail("it is kept, and not in force yet")),
    }
}

/// Reads which page is meant.
pub(super) fn page(wire: pb::ListMembersRequest) -> Result<Page, Vec<Fault>> {
    let mut faults = Faults::default();
    let mut member = |field: &str, text: &str| match text {
        "" => None,
        text => text.parse().map_err(|_| faults.add(field, "must be a division code or hub/NAME")).ok(),
    };
    let (one, after) = (member("member", &wire.member), member("page_token", &wire.page_token));
    let (standard, max) = MEMBERS_PAGE;
    let count = if wire.page_size == 0 { standard } else { max.min(wire.page_size as usize) };
    faults.or(Some(Page { one, after, count }))
}

/// Reads whom a decision is about, and why; nobody is suspended without a reason.
pub(super) fn asked(member: &str, why: &str, what: What) -> Result<Asked, Vec<Fault>> {
    let mut faults = Faults::default();
    let parsed = member.parse().map_err(|_| faults.add("member", "must be a division code or hub/NAME")).ok();
    let why = why.trim().to_owned();
    if (what == What::Suspend && why.is_empty()) || why.len() > PAUSE_REASON_BYTES_MAX || !visible(&why) {
        faults.add("reason", format!("must be 1 to {PAUSE_REASON_BYTES_MAX} visible bytes"));
    }
    faults.or(parsed.map(|member| Asked { member, what, why }))
}

/// Reads whose key is approved, and which.
pub(super) fn approval(wire: pb::ApproveMemberKeyRequest) -> Result<(Member, String), Vec<Fault>> {
    let mut faults = Faults::default();
    let parsed = wire.member.parse().map_err(|_| faults.add("member", "must be a division code or hub/NAME")).ok();
    if wire.fingerprint.is_empty() || wire.fingerprint.len() > FINGERPRINT_BYTES_MAX || !visible(&wire.fingerprint) {
        faults.add("fingerprint", "must be the whole fingerprint of the new key");
    }
    faults.or(parsed.map(|member: Member| (member, wire.fingerprint)))
}

/// A member's name as the audit says it; empty where it is none.
pub(super) fn named(member: &str) -> String {
    member.parse::<Member>().map(|member| member.to_string()).unwrap_or_default()
}

fn deed(act: &str, actor: &str, member: &Member, why: String) -> Deed {
    Deed { act: act.to_owned(), actor: actor.to_owned(), object: member.to_string(), why, ..Deed::default() }
}

fn kept(fault: NotesError) -> Refused {
    tracing::error!(%fault, "a decision about a member cannot be kept");
    Refused::new(Reason::StoreUnavailable)
}

fn not_approved(error: ApproveError) -> Refused {
    let (field, must) = match error {
        ApproveError::NothingHeld(_) => ("member", "must have a changed key that is held back"),
        ApproveError::Fingerprint => ("fingerprint", "must be the whole fingerprint of the new key"),
        ApproveError::Kept(fault) => return kept(fault),
    };
    Refused::faults(vec![Fault { field: field.to_owned(), must: must.to_owned() }])
}
