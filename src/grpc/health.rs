//! Decides who learns what about this gateway's health (grpc.health.v1): whether it serves is said to every identity, the
//! state of a partner or of an own system to those it concerns alone. Asks other gateways the same way, and never finds out
//! itself how this one is.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::peer;
use crate::clock::Clock;
use crate::party::{Member, Party, Role};

/// The answer's metadata in which a gateway says what its clock shows, in milliseconds of Unix time.
pub const OUR_TIME: &str = "tongban-time-ms";

/// What is known by the name of each service: whether it serves.
type Services = BTreeMap<String, bool>;

/// The health service, and what it says.
#[derive(Clone)]
pub struct Health {
    own: Member,
    clock: Clock,
    services: Arc<watch::Sender<Services>>,
    /// From then on nothing serves, whatever is found.
    drains: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl Health {
    /// Says that these services serve, and the gateway as a whole (the empty name).
    pub fn new(
        own: Member,
        clock: Clock,
        services: impl IntoIterator<Item = String>,
        stop: CancellationToken,
    ) -> Health {
        let all = services.into_iter().chain([String::new()]).map(|name| (name, true));
        Health { own, clock, services: Arc::new(watch::Sender::new(all.collect())), drains: Arc::default(), stop }
    }

    /// Says how the gateway as a whole is, and how each named partner and system is. Who watches learns of changes alone.
    pub fn say(&self, whole: bool, named: impl IntoIterator<Item = (String, bool)>) {
        let named: Services = named.into_iter().collect();
        self.services.send_if_modified(|services| {
            if self.drains.load(Ordering::SeqCst) {
                return false;
            }
            let before = services.clone();
            services.iter_mut().filter(|(name, _)| !is_about_one(name)).for_each(|(_, serves)| *serves = whole);
            services.retain(|name, _| !is_about_one(name) || named.contains_key(name));
            services.extend(named);
            *services != before
        });
    }

    /// Says that no new work should come here, before the connections are asked to go.
    pub fn draining(&self) {
        self.services.send_modify(|services| {
            self.drains.store(true, Ordering::SeqCst);
            services.values_mut().for_each(|serves| *serves = false);
        });
    }

    /// Whether this caller may ask for this name.
    fn concerns(&self, party: &Party, name: &str) -> bool {
        let staff = party.member == self.own && matches!(party.role, Role::Ops(_) | Role::Auditor(_) | Role::Gateway);
        match name.split_once('/') {
            None => true,
            Some(("partner", member)) => staff || party.member.to_string() == member,
            Some(("system", system)) => {
                staff
                    || (party.member == self.own
                        && matches!(&party.role, Role::System(name) if name.as_str() == system))
            }
            Some(_) => false,
        }
    }
}

/// Whether the name is that of one partner or system.
fn is_about_one(name: &str) -> bool {
    name.contains('/')
}

fn status(services: &Services, name: &str) -> Option<ServingStatus> {
    services.get(name).map(|serves| if *serves { ServingStatus::Serving } else { ServingStatus::NotServing })
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status as i32 }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let party = peer(&request)?.party.clone();
        let name = request.into_inner().service;
        let known = status(&self.services.borrow(), &name).filter(|_| self.concerns(&party, &name));
        // The protocol asks for NOT_FOUND where a service is not known.
        let status = known.ok_or_else(|| Status::not_found("unknown service"))?;
        let mut response = Response::new(answer(status));
        if let Ok(now) = self.clock.now().ms().to_string().parse() {
            response.metadata_mut().insert(OUR_TIME, now);
        }
        Ok(response)
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let party = peer(&request)?.party.clone();
        let name = request.into_inner().service;
        let concerns = self.concerns(&party, &name);
        let (services, stop) = (self.services.subscribe(), self.stop.clone());
        let look = move |services: &Services| {
            status(services, &name).filter(|_| concerns).unwrap_or(ServingStatus::ServiceUnknown)
        };
        let first = (services, stop, None);
        let stream = futures_util::stream::unfold(first, move |(mut services, stop, said)| {
            let look = look.clone();
            async move {
                loop {
                    let now = look(&services.borrow_and_update());
                    if said != Some(now) {
                        return Some((Ok(answer(now)), (services, stop, Some(now))));
                    }
                    tokio::select! {
                        changed = services.changed() => changed.ok()?,
                        // Whoever watches has been told that it drains.
                        () = stop.cancelled() => {
                            let last = look(&services.borrow_and_update());
                            return if said == Some(last) { None } else { Some((Ok(answer(last)), (services, stop, Some(last)))) };
                        }
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

/// What a gateway said of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    Serving,
    NotServing,
    Unknown,
}

impl From<ServingStatus> for Said {
    fn from(status: ServingStatus) -> Said {
        match status {
            ServingStatus::Serving => Said::Serving,
            ServingStatus::NotServing => Said::NotServing,
            ServingStatus::Unknown | ServingStatus::ServiceUnknown => Said::Unknown,
        }
    }
}

/// Asks a gateway; with what it says comes what its clock shows, in milliseconds of Unix time, if it tells.
///
/// # Errors
/// What the gateway or the connection answers instead.
pub async fn ask(gateway: Channel, service: &str) -> Result<(Said, Option<u64>), Status> {
    let request = HealthCheckRequest { service: service.to_owned() };
    match HealthClient::new(gateway).check(request).await {
        Ok(answer) => {
            let theirs = answer.metadata().get(OUR_TIME).and_then(|ms| ms.to_str().ok()?.parse().ok());
            Ok((answer.get_ref().status().into(), theirs))
        }
        Err(status) if status.code() == Code::NotFound => Ok((Said::Unknown, None)),
        Err(status) => Err(status),
    }
}

/// Asks a gateway to say each change.
///
/// # Errors
/// As [`ask`].
pub async fn follow(gateway: Channel, service: &str) -> Result<impl Stream<Item = Result<Said, Status>>, Status> {
    let request = HealthCheckRequest { service: service.to_owned() };
    let answers = HealthClient::new(gateway).watch(request).await?.into_inner();
    Ok(answers.map(|answer| answer.map(|answer| answer.status().into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Health {
        let own = "450200".parse().unwrap();
        Health::new(own, Clock::default(), ["a.B".to_owned()], CancellationToken::new())
    }

    fn party(uri: &str) -> Party {
        format!("spiffe://alliance.example/{uri}").parse().unwrap()
    }

    #[test]
    fn a_partner_learns_of_itself_and_staff_of_all() {
        let health = health();
        let rows = [
            ("city/440600/gateway", "partner/440600", true),
            ("city/440600/gateway", "partner/640100", false),
            ("city/440600/system/approval", "partner/440600", true),
            ("city/450200/system/window", "partner/440600", false),
            ("city/450200/ops/chen", "partner/440600", true),
            ("city/450200/system/window", "system/window", true),
            ("city/450200/system/window", "system/archive", false),
            ("city/440600/system/window", "system/window", false),
            ("city/440600/gateway", "", true),
            ("city/450200/ops/chen", "other/thing", false),
        ];
        for (who, name, may) in rows {
            assert_eq!(health.concerns(&party(who), name), may, "{who} {name}");
        }
    }

    #[test]
    fn what_is_no_longer_named_is_no_longer_known() {
        let health = health();
        health.say(true, [("partner/440600".to_owned(), false)]);
        let at = |name: &str| status(&health.services.borrow(), name);
        assert_eq!(at("partner/440600"), Some(ServingStatus::NotServing));
        assert_eq!((at(""), at("a.B")), (Some(ServingStatus::Serving), Some(ServingStatus::Serving)));
        health.say(false, []);
        assert_eq!(at("partner/440600"), None);
        assert_eq!((at(""), at("a.B")), (Some(ServingStatus::NotServing), Some(ServingStatus::NotServing)));
    }

    #[test]
    fn whatever_is_found_a_gateway_that_drains_does_not_serve() {
        let health = health();
        health.draining();
        health.say(true, [("partner/440600".to_owned(), true)]);
        assert_eq!(status(&health.services.borrow(), ""), Some(ServingStatus::NotServing));
    }
}
