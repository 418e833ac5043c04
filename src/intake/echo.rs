//! Decides what a test message between gateways looks like, and sends one on this gateway's own behalf. It walks the road of
//! all messages and ends at the recipient's gateway: no system sends one, and none is handed one.

use std::collections::BTreeMap;

use super::{Intake, enter, verdict};
use crate::admission::Ration;
use crate::chance;
use crate::id::MessageId;
use crate::ledger::{Answer, Take};
use crate::limits::TEST_TO_LIVE_MS;
use crate::message::{Address, Envelope, TEST_ITEM};
use crate::party::{Division, Member, Party, Role};
use crate::reason::Reason;
use crate::receipt::Receipt;
use crate::store::LaneName;
use crate::time::Time;
use crate::wire::envelope::split;
use crate::wire::status::Refused;

impl Intake {
    /// Takes a test message to another city into custody. On return it is durable, as every message is.
    pub async fn test(&self, to: &Division) -> Result<Receipt, Refused> {
        let (rules, now) = (self.rules.load_full(), self.clock.now());
        let Member::City(own) = &rules.own else { return Err(Refused::new(Reason::NotPermitted)) };
        let envelope = envelope(own, to, now).ok_or_else(|| Refused::new(Reason::Internal))?;
        let sender = Party::gateway(rules.alliance.clone(), rules.own.clone());
        let verdict = verdict(&rules, &sender, &envelope, None, now).map_err(|(reason, _)| Refused::new(reason))?;
        let (header, body) = split(&envelope);
        let take = Take {
            header_digest: envelope.header_digest(),
            envelope,
            header,
            body,
            origin: None,
            via: vec![],
            verdict: Ok(verdict),
            token: None,
            rejections: Ration::default(),
        };
        match enter(&self.ledger, Box::new(take), None).await? {
            Answer::Taken(Ok(receipt)) => Ok(receipt),
            Answer::Taken(Err(refusal)) => Err(Refused::new(refusal.reason)),
            _ => Err(Refused::new(Reason::Internal)),
        }
    }

    /// The lanes that a test message to this city may take, in order; none when there is no way to it.
    pub fn ways(&self, to: &Division) -> Vec<LaneName> {
        let (rules, now) = (self.rules.load_full(), self.clock.now());
        let Member::City(own) = &rules.own else { return vec![] };
        let sender = Party::gateway(rules.alliance.clone(), rules.own.clone());
        let route = envelope(own, to, now).and_then(|envelope| verdict(&rules, &sender, &envelope, None, now).ok());
        route.map_or(vec![], |route| [vec![route.lane], route.others].concat())
    }
}

/// An empty message from one gateway to another, soon of no use.
fn envelope(from: &Division, to: &Division, now: Time) -> Option<Envelope> {
    let gateway = |city: &Division| Address { city: city.clone(), system: None };
    Some(Envelope {
        id: MessageId::new_v7(now, chance::bytes().ok()?),
        from: gateway(from),
        to: Some(gateway(to)),
        jurisdiction: None,
        redrive_of: None,
        item_code: TEST_ITEM.parse().ok()?,
        case_no: None,
        step: None,
        mode: None,
        in_reply_to: None,
        parts: vec![],
        sealed: None,
        attributes: BTreeMap::new(),
        created_at: now.into(),
        expires_at: Some(now.plus_ms(TEST_TO_LIVE_MS).into()),
        traceparent: None,
    })
}

/// Whether a message that bears the item of tests is one: from a gateway to a gateway, and empty. Whose it may be is asked as
/// of every message.
pub(super) fn is_test_of(party: &Party, envelope: &Envelope) -> bool {
    let to_a_gateway = envelope.to.as_ref().is_some_and(|to| to.system.is_none());
    let alone = envelope.in_reply_to.is_none() && envelope.redrive_of.is_none() && envelope.attributes.is_empty();
    party.role == Role::Gateway && envelope.from.system.is_none() && to_a_gateway && envelope.part_count() == 0 && alone
}
