//! Decides what belongs to a case: all its messages that the caller may see, oldest first, with header, receipts and, where
//! they are asked for with a reason, contents. Never takes a receipt that does not hold.

use crate::cli::client::{Client, Filter, Grade, Summary, Told, Trouble, address};
use crate::cli::receipt::of_message;
use crate::cli::{Exit, Failure, now};
use crate::directory::Directory;
use crate::limits::{CASE_BODIES_BYTES_MAX, CASE_MESSAGES_MAX, PAGE_MESSAGES};
use crate::message::{CaseNo, Envelope};
use crate::party::Member;
use crate::receipt::Checked;
use crate::time::Time;

/// 卷宗, all that is known of one case at one gateway.
pub struct CaseFile {
    pub case_no: CaseNo,
    pub made_at: Time,
    /// For whom its gateway told it.
    pub seen_by: String,
    /// Oldest first.
    pub messages: Vec<Carried>,
    pub directory: Directory,
    /// Contents were asked for.
    pub with_bodies: bool,
}

/// One message of a case.
pub struct Carried {
    pub told: Told,
    /// As it was sent; none when retention has taken it.
    pub header: Option<Envelope>,
    /// In order, each of them checked.
    pub receipts: Vec<Checked>,
    /// With its contents, where they were asked for and are still kept.
    pub body: Option<Envelope>,
}

impl Carried {
    /// Whether the header is, byte for byte, the one that all receipts speak of; none without header or receipts.
    pub fn header_holds(&self) -> Option<bool> {
        let digest = self.header.as_ref()?.header_digest();
        let mut of_receipts = self.receipts.iter().map(|checked| checked.evidence.header_digest).peekable();
        of_receipts.peek()?;
        Some(of_receipts.all(|found| found == digest))
    }
}

impl CaseFile {
    /// Everybody who issued a receipt or is a party, in the directory's order.
    pub fn members(&self) -> Vec<Member> {
        let evidence = || self.messages.iter().flat_map(|one| &one.receipts).map(|checked| &checked.evidence);
        let named = |member: &Member| {
            evidence().any(|evidence| {
                let city = |city: &crate::party::Division| *member == Member::City(city.clone());
                evidence.issuer == *member
                    || city(&evidence.from.city)
                    || evidence.to.as_ref().is_some_and(|to| city(&to.city))
            })
        };
        self.directory.entries().map(|entry| entry.record.member.clone()).filter(named).collect()
    }
}

/// Asks the gateway for all of a case. With a reason also for the contents: each look at one goes on record there.
pub async fn gather(client: &Client, case_no: &CaseNo, reason: Option<&str>) -> Result<CaseFile, Failure> {
    let mut messages = Vec::new();
    let mut bytes = 0;
    for summary in listed(client, case_no).await?.iter().rev() {
        let mut carried = carried(client, summary).await?;
        if let Some(reason) = reason {
            bytes += summary.total_size;
            if bytes > CASE_BODIES_BYTES_MAX {
                return Err(too_large());
            }
            let (from, id) = key(summary)?;
            carried.body = client.content(Some(&from.city), id, reason).await?;
        }
        messages.push(carried);
    }
    Ok(CaseFile {
        case_no: case_no.clone(),
        made_at: now(),
        seen_by: client.me.to_string(),
        messages,
        directory: client.directory.clone(),
        with_bodies: reason.is_some(),
    })
}

/// The case's messages, newest first.
async fn listed(client: &Client, case_no: &CaseNo) -> Result<Vec<Summary>, Failure> {
    let filter = Filter { case_no: case_no.as_str().to_owned(), ..Filter::default() };
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let (page, next) = client.list(&filter, PAGE_MESSAGES.1 as u32, token).await?;
        found.extend(page);
        if found.len() > CASE_MESSAGES_MAX {
            let en = format!("the case has more than {CASE_MESSAGES_MAX} messages");
            return Err(Failure::new(Exit::Data, en, format!("该办件的消息超过 {CASE_MESSAGES_MAX} 条")));
        }
        if next.is_empty() {
            break;
        }
        token = next;
    }
    if found.is_empty() { Err(nothing(client, case_no)) } else { Ok(found) }
}

fn nothing(client: &Client, case_no: &CaseNo) -> Failure {
    let (me, case_no) = (&client.me, case_no.as_str());
    let en = format!("{me} sees no message of case {case_no} at this gateway");
    Failure::new(Exit::No, en, format!("在本网关，{me} 看不到办件 {case_no} 的任何消息")).hint(
        "a system sees its own messages, an operator (--as CITY/ops/NAME) all; the number must be written as it was sent",
        "业务系统只能看到自己的消息，运维人员（--as 城市/ops/姓名）可看到全部；编号须与发送时完全一致",
    )
}

async fn carried(client: &Client, summary: &Summary) -> Result<Carried, Failure> {
    let (from, id) = key(summary)?;
    let (mut told, header) = client.header(&from.city, id).await?;
    if header.is_none() {
        // What the gateway's list still knows, where the envelope is gone.
        (told.id, told.from) = (summary.id.clone(), summary.from.clone());
    }
    let receipts = of_message(client, Some(&from.city), id, Grade::Instant).await?;
    Ok(Carried { told, header, receipts, body: None })
}

fn key(summary: &Summary) -> Result<(crate::message::Address, crate::id::MessageId), Trouble> {
    let unsound = || Trouble::unsound("a message in the list has no readable name", "列表中有消息的名称无法读取");
    let from = address(&summary.from).map_err(|_| unsound())?;
    Ok((from, summary.id.parse().map_err(|_| unsound())?))
}

fn too_large() -> Failure {
    let mib = CASE_BODIES_BYTES_MAX >> 20;
    let failure =
        Failure::new(Exit::Data, format!("the contents are more than {mib} MiB"), format!("内容超过 {mib} MiB"));
    failure.hint(
        "export without --with-bodies and take the contents one by one: tongban content",
        "请不带 --with-bodies 导出，再用 tongban content 逐条取出内容",
    )
}
