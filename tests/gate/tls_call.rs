//! Claims of a whole call: our dialler, our gate, a health service behind it.

use crate::gate::{channel, check, share, start};
use crate::pki::{AWAY, Ca, HOME, gateway, trusted};

#[tokio::test]
async fn a_partner_gateway_calls_and_is_answered() {
    let (home, away) = (Ca::root("home root"), Ca::root("away root"));
    let trust = share(vec![trusted(HOME, &home), trusted(AWAY, &away)]);
    let server = start(trust.clone(), home.issue(&gateway(HOME)).own()).await;
    let partner = away.issue(&gateway(AWAY));
    check(channel(trust, partner.own(), HOME, server.address)).await.unwrap();
    assert_eq!(server.counters().accepted(), 1);
    assert_eq!(server.counters().refusals(), []);
}
