//! Decides how `tongban trace` follows the way that a message to a city would take, step by step, as the running gateway sees
//! it: member, grants, route, and each candidate with its lane and its partner. Never sends anything.

mod show;

use clap::Args;
use serde::Serialize;

use super::client::{
    As, Asked, Client, Decided, Filter, ToldFinding, ToldGrant, ToldLane, ToldMember, Trouble, address, converse,
};
use super::{Answer, Exit, Out, now};
use crate::evidence::State;
use crate::limits::TRACE_CASE_MESSAGES_MAX;
use crate::message::{Address, ItemCode};
use crate::party::Member;

/// Say where a message to a city would go now, and in which state each step of the way is
#[derive(Args)]
pub struct Trace {
    #[command(flatten)]
    who: As,
    /// The recipient: a city, or one of its systems
    #[arg(long, value_name = "CITY[/SYSTEM]", value_parser = address)]
    to: Address,
    /// The service item (事项实施编码); without it the member record alone says which ways there are
    #[arg(long)]
    item: Option<ItemCode>,
    /// Also show the messages of this case (办件编号) that are under way to the city
    #[arg(long, value_name = "CASE")]
    case: Option<String>,
}

/// The way as it was found.
#[derive(Debug, Serialize)]
pub struct Way {
    pub to: String,
    /// None where the city is no member.
    pub member: Option<ToldMember>,
    pub grants: Vec<ToldGrant>,
    /// What the tables say; none where no item was named.
    pub route: Option<Route>,
    /// In the order in which they are tried.
    pub candidates: Vec<Candidate>,
    pub case: Option<Vec<Waiting>>,
    /// Nothing is known to stand in the way.
    pub open: bool,
}

/// What the routing tables decided.
#[derive(Debug, Serialize)]
pub struct Route {
    pub version: u64,
    pub decision: Decided,
}

/// One candidate: the lane, and how far its partner is reached.
#[derive(Debug, Serialize)]
pub struct Candidate {
    pub lane: String,
    /// None where nothing was ever put in it.
    pub state: Option<ToldLane>,
    /// The partner's stages; empty for an own system.
    pub stages: Vec<ToldFinding>,
    /// Its member; none for an own system.
    pub member: Option<ToldMember>,
    pub open: bool,
}

/// A message of the case that has not ended.
#[derive(Debug, Serialize)]
pub struct Waiting {
    pub message_id: String,
    pub step: String,
    pub state: String,
    pub stored_at: Option<String>,
    pub expires_at: Option<String>,
}

/// Follows the way; exit 1 when something stands in it.
pub fn run(command: &Trace, out: &Out) -> Answer {
    converse(&command.who, async |client| {
        let way = follow(&client, command).await.map_err(|trouble| trouble.shown(out))?;
        out.show(&way, || show::way(&way, now(), out.lang))?;
        Ok(if way.open { Exit::Done } else { Exit::No })
    })
}

async fn follow(client: &Client, command: &Trace) -> Result<Way, Trouble> {
    let city = Member::City(command.to.city.clone());
    let (members, _) = client.members(None).await?;
    let member = members.iter().find(|member| member.member == city.to_string()).cloned();
    let grants = client.grants(command.item.as_ref(), &command.to.city).await?;
    let route = match &command.item {
        Some(item) => Some(decided(client, command, item.clone()).await?),
        None => None,
    };
    let lanes = match &route {
        Some(route) => route.decision.lanes.clone(),
        None => member.as_ref().map(by_record).unwrap_or_default(),
    };
    let all = client.lanes().await?;
    let mut candidates = vec![];
    for lane in lanes {
        candidates.push(candidate(client, lane, &all, &members).await?);
    }
    let case = match &command.case {
        Some(case) => Some(under_way(client, command, case).await?),
        None => None,
    };
    let refused = route.as_ref().is_some_and(|route| !route.decision.goes());
    let suspended = member.as_ref().is_some_and(|member| member.suspended.is_some());
    // The first candidate alone is tried as long as its breaker lets messages through.
    let open = !refused && !suspended && !grants.is_empty() && candidates.first().is_some_and(|first| first.open);
    Ok(Way { to: command.to.to_string(), member, grants, route, candidates, case, open })
}

async fn decided(client: &Client, command: &Trace, item: ItemCode) -> Result<Route, Trouble> {
    let to = Some(command.to.clone());
    let asked = Asked { to, item, jurisdiction: None, step: None, mode: None, at: None, via: None };
    let (_, decision, version) = client.explain(&asked).await?;
    Ok(Route { version, decision })
}

/// The ways that a member record knows: to its gateway, or by the hubs that may relay for it.
fn by_record(member: &ToldMember) -> Vec<String> {
    let hubs = member.relays.iter().map(|hub| format!("gateway/{hub}"));
    std::iter::once(format!("gateway/{}", member.member)).chain(hubs).collect()
}

async fn candidate(
    client: &Client,
    way: String,
    lanes: &[ToldLane],
    members: &[ToldMember],
) -> Result<Candidate, Trouble> {
    let lane = match way.strip_prefix("system ") {
        Some(system) => format!("system/{system}"),
        None => format!("gateway/{}", way.trim_start_matches("gateway/")),
    };
    let state = lanes.iter().find(|told| told.lane == lane).cloned();
    let partner = lane.strip_prefix("gateway/").and_then(|name| name.parse::<Member>().ok());
    let member = partner.as_ref().and_then(|partner| members.iter().find(|m| m.member == partner.to_string()));
    let suspended = member.is_some_and(|member| member.suspended.is_some());
    let stages = match &partner {
        Some(partner) if !suspended => client.checks(&["partner".to_owned()], &[], Some(partner)).await?,
        _ => vec![],
    };
    let flows = state.as_ref().is_none_or(|lane| lane.paused.is_none() && lane.breaker != "OPEN" && lane.worked);
    let reached = stages.iter().all(|stage| stage.verdict != "FAULT" && stage.verdict != "SKIPPED");
    Ok(Candidate { lane, state, stages, member: member.cloned(), open: flows && reached && !suspended })
}

/// The case's messages to the city that have not ended, oldest first.
async fn under_way(client: &Client, command: &Trace, case: &str) -> Result<Vec<Waiting>, Trouble> {
    let states = State::ALL.iter().copied().filter(|state| !state.is_final()).collect();
    let filter = Filter { states, to: Some(command.to.city.clone()), case_no: case.to_owned(), ..Filter::default() };
    let (mut found, mut token) = (vec![], String::new());
    loop {
        let (page, next) = client.list(&filter, TRACE_CASE_MESSAGES_MAX as u32, token).await?;
        found.extend(page);
        token = next;
        if token.is_empty() || found.len() >= TRACE_CASE_MESSAGES_MAX {
            break;
        }
    }
    let waiting = found.into_iter().rev().map(|message| Waiting {
        message_id: message.id,
        step: message.step,
        state: message.state.as_str().to_owned(),
        stored_at: message.stored_at.map(|at| at.to_string()),
        expires_at: message.expires_at.map(|at| at.to_string()),
    });
    Ok(waiting.collect())
}
