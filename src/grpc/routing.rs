//! Decides who reads, plans, publishes and explains routing tables. Never decides what a table means, and never publishes
//! inside a call's own future: what was handed to the board goes on when the caller has gone.

mod board;
mod shelf;
mod told;

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

pub use self::board::{Board, Wanted};
use self::shelf::Shelf;
use super::peer;
use super::record::Record;
use crate::blobs::aside;
use crate::clock::Clock;
use crate::courier::Ground;
use crate::message::Mode;
use crate::party::{Alliance, Member, Party, Role};
use crate::reason::Reason;
use crate::routing::{self, Entered, Query, Table};
use crate::tls::accept::Peer;
use crate::wire::envelope::{Fault, Faults, address, sent};
use crate::wire::pb::routing as pb;
use crate::wire::pb::routing::routing_service_server::RoutingService;
use crate::wire::status::{Refused, to_status};

/// The routing door.
#[derive(Debug)]
pub struct Routing {
    pub own: Member,
    pub board: Arc<Board>,
    clock: Clock,
    record: Record,
    stop: CancellationToken,
}

/// Lets those in who operate or audit this gateway, before a request of many megabytes is read.
pub fn staff_only(own: Member) -> impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone {
    move |request| {
        let staff = request
            .extensions()
            .get::<Peer>()
            .is_some_and(|peer| peer.party.member == own && matches!(peer.party.role, Role::Ops(_) | Role::Auditor(_)));
        if staff { Ok(request) } else { Err(to_status(&Refused::new(Reason::NotPermitted))) }
    }
}

#[tonic::async_trait]
impl RoutingService for Routing {
    async fn get_tables(
        &self,
        request: Request<pb::GetTablesRequest>,
    ) -> Result<Response<pb::GetTablesResponse>, Status> {
        let version = Some(request.into_inner().version).filter(|version| *version != 0);
        let (standing, texts) = self.board.texts(version).await.map_err(|refused| to_status(&refused))?;
        Ok(Response::new(told::standing(&standing, texts)))
    }

    async fn plan_tables(
        &self,
        request: Request<pb::PlanTablesRequest>,
    ) -> Result<Response<pb::PlanTablesResponse>, Status> {
        self.operator(&request, "route.plan").await?;
        let asked = request.into_inner();
        let planned = match wanted(asked.tables, asked.complete).await {
            Ok(wanted) => self.board.plan(wanted).await,
            Err(refused) => Err(refused),
        };
        let (standing, changes) = planned.map_err(|refused| to_status(&refused))?;
        Ok(Response::new(told::plan(&standing, changes)))
    }

    async fn publish_tables(
        &self,
        request: Request<pb::PublishTablesRequest>,
    ) -> Result<Response<pb::PublishTablesResponse>, Status> {
        let actor = self.operator(&request, "route.publish").await?;
        let asked = request.into_inner();
        let put = match wanted(asked.tables, asked.complete).await {
            Ok(wanted) => self.put(asked.etag, wanted, actor.clone(), "publish").await,
            Err(refused) => Err(refused),
        };
        if let Err(refused) = &put {
            self.record.refused(&actor, "route.publish", "", refused.reason).await;
        }
        let (version, etag) = put.map_err(|refused| to_status(&refused))?;
        Ok(Response::new(pb::PublishTablesResponse { version, etag }))
    }

    async fn rollback_tables(
        &self,
        request: Request<pb::RollbackTablesRequest>,
    ) -> Result<Response<pb::RollbackTablesResponse>, Status> {
        let actor = self.operator(&request, "route.rollback").await?;
        let asked = request.into_inner();
        let put = match self.board.standing(Some(asked.version)).await {
            Ok(earlier) => {
                let tables = earlier.set.tables.into_values().map(Arc::unwrap_or_clone).collect();
                self.put(asked.etag, Wanted { tables, complete: true }, actor.clone(), "rollback").await
            }
            Err(refused) => Err(refused),
        };
        if let Err(refused) = &put {
            self.record.refused(&actor, "route.rollback", "", refused.reason).await;
        }
        let (version, etag) = put.map_err(|refused| to_status(&refused))?;
        Ok(Response::new(pb::RollbackTablesResponse { version, etag }))
    }

    async fn explain_route(
        &self,
        request: Request<pb::ExplainRouteRequest>,
    ) -> Result<Response<pb::ExplainRouteResponse>, Status> {
        let explained = self.explain(request.into_inner());
        explained.map(Response::new).map_err(|faults| to_status(&Refused::faults(faults)))
    }

    type WatchTablesStream = Pin<Box<dyn Stream<Item = Result<pb::WatchTablesResponse, Status>> + Send>>;

    async fn watch_tables(
        &self,
        _: Request<pb::WatchTablesRequest>,
    ) -> Result<Response<Self::WatchTablesStream>, Status> {
        let versions = self.board.versions().await.map_err(|refused| to_status(&refused))?;
        let told = versions.map(|(version, etag)| Ok(pb::WatchTablesResponse { version, etag }));
        let stop = self.stop.clone();
        Ok(Response::new(Box::pin(told.take_until(async move { stop.cancelled().await }))))
    }
}

impl Routing {
    /// The door of the gateway that stands on this ground.
    pub fn new(alliance: Alliance, ground: &Ground, record: Record, stop: CancellationToken) -> Routing {
        let shelf = Shelf::new(ground.readers.clone(), ground.ledger.clone(), ground.clock.clone());
        let board = Arc::new(Board::new(alliance, ground.rules.clone(), shelf, ground.clock.clone()));
        Routing { own: ground.own.clone(), board, clock: ground.clock.clone(), record, stop }
    }

    /// The caller, if it operates this gateway: an auditor only reads.
    async fn operator<T>(&self, request: &Request<T>, act: &'static str) -> Result<Party, Status> {
        let party = peer(request)?.party.clone();
        if party.member == self.own && matches!(party.role, Role::Ops(_)) {
            return Ok(party);
        }
        self.record.refused(&party, act, "", Reason::NotPermitted).await;
        Err(to_status(&Refused::new(Reason::NotPermitted).with_detail("only operators change routing tables")))
    }

    /// Publishes in a task of its own: the caller's deadline must not come between the commit and its being in force.
    async fn put(
        &self,
        etag: String,
        wanted: Wanted,
        actor: Party,
        action: &'static str,
    ) -> Result<(u64, String), Refused> {
        let board = self.board.clone();
        let put = tokio::spawn(async move { board.put(&etag, wanted, actor.to_string(), action).await });
        put.await.unwrap_or_else(|_| Err(Refused::new(Reason::Internal)))
    }

    fn explain(&self, asked: pb::ExplainRouteRequest) -> Result<pb::ExplainRouteResponse, Vec<Fault>> {
        let mut faults = Faults::default();
        let to = asked.to.and_then(|to| address(&mut faults, "to", to));
        let jurisdiction = faults.parse("jurisdiction", &asked.jurisdiction);
        let item = faults.need("item_code", &asked.item_code);
        let step = faults.parse("step", &asked.step);
        let mode = u8::try_from(asked.mode).ok().and_then(Mode::from_number);
        if mode.is_none() && asked.mode != 0 {
            faults.add("mode", "must be a known value of Mode");
        }
        let now = sent(&mut faults, "at", asked.at).map_or_else(|| self.clock.now(), |at| at.time());
        let via: Option<Member> = faults.parse("via", &asked.via);
        let item = faults.or(item)?;
        let query = Query {
            to: to.as_ref(),
            jurisdiction: jurisdiction.as_ref(),
            item: &item,
            step: step.as_ref(),
            mode,
            now,
            entered: via.as_ref().map_or(Entered::Here, |via| Entered::Relayed { via }),
        };
        let index = self.board.index();
        let (notes, decided) = index.explain(&query);
        Ok(told::explanation(&notes, &decided, index.version()))
    }
}

/// Reads the texts of tables, aside.
async fn wanted(texts: Vec<String>, complete: bool) -> Result<Wanted, Refused> {
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let read = stream::iter(texts).map(|text| aside(move || Table::from_toml(&text))).buffered(at_once);
    assembled(read.collect().await, complete)
}

/// Puts together what was read of each text; each fault with the place of its text in the request, its line and column.
fn assembled(read: Vec<Result<Table, Vec<routing::Fault>>>, complete: bool) -> Result<Wanted, Refused> {
    let (mut tables, mut faults) = (Vec::<Table>::new(), Vec::new());
    for (place, read) in read.into_iter().enumerate() {
        let field = format!("tables[{place}]");
        match read {
            Ok(table) if tables.iter().any(|other| other.owner == table.owner) => {
                faults.push(Fault { field, must: format!("{} has two tables", table.owner.as_str()) });
            }
            Ok(table) => tables.push(table),
            Err(all) => {
                faults.extend(all.into_iter().map(|fault| Fault { field: field.clone(), must: fault.to_string() }));
            }
        }
    }
    if faults.is_empty() {
        return Ok(Wanted { tables, complete });
    }
    Err(Refused { faults, ..Refused::new(Reason::InvalidTables) })
}
