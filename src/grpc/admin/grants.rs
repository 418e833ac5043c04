//! Decides which grants are told to somebody who asks about an item and a city. Never decides what a grant allows.

use crate::admission::{Grant, Grants, Who};
use crate::message::ItemCode;
use crate::party::Division;
use crate::wire::envelope::{Fault, Faults};
use crate::wire::pb::admin as pb;

/// What grants are asked about; nothing narrows nothing.
#[derive(Debug)]
pub struct About {
    item: Option<ItemCode>,
    city: Option<Division>,
}

/// Reads what is asked about.
pub(super) fn asked(wire: pb::ListGrantsRequest) -> Result<About, Vec<Fault>> {
    let mut faults = Faults::default();
    let item = match wire.item_code.as_str() {
        "" => None,
        text => text.parse().map_err(|_| faults.add("item_code", "must be a service item's code")).ok(),
    };
    let city = match wire.city.as_str() {
        "" => None,
        text => text.parse().map_err(|_| faults.add("city", "must be a division code")).ok(),
    };
    faults.or(Some(About { item, city }))
}

/// The grants that speak of it.
pub(super) fn about(grants: &Grants, about: &About) -> pb::ListGrantsResponse {
    let speaks = grants.0.iter().filter(|grant| grant.speaks_of(about.item.as_ref(), about.city.as_ref()));
    pb::ListGrantsResponse { grants: speaks.map(told).collect() }
}

fn told(grant: &Grant) -> pb::Grant {
    let who = match &grant.who {
        Who::EverySystem => "every-system".to_owned(),
        Who::EveryGateway => "every-gateway".to_owned(),
        Who::One(party) => party.to_string(),
    };
    let items = grant.items.iter().map(ToString::to_string).collect();
    pb::Grant { who, items, divisions: grant.divisions.iter().map(ToString::to_string).collect() }
}
