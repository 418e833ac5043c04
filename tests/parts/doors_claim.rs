//! Decides whether a lane gives a claimed row to its owner once, wherever it stands, and leaves what is not there for it.

use crate::desk::Desk;
use tongban::lanes::{Effect, Event, Fate, Policy, Seq};
use tongban::time::Time;

const NEVER: Time = Time::from_ms(u64::MAX);

fn claim(desk: &mut Desk, seq: Seq) -> Vec<Effect> {
    desk.on(Event::Claim { seq, expires_at: NEVER })
}

fn claimed(seq: Seq) -> Vec<Effect> {
    vec![Effect::Settle { seq, deliveries: 1, fate: Fate::Claimed }]
}

#[test]
fn what_waits_is_claimed_wherever_it_stands_and_is_not_delivered_any_more() {
    let rows = [(1, "a"), (2, "a"), (3, "b")];
    for seq in [1, 2, 3, 9] {
        let mut desk = Desk::mailbox(&rows, 0);
        assert_eq!(claim(&mut desk, seq), claimed(seq), "{seq}: first, behind, ready, or not read");
        assert_eq!(claim(&mut desk, seq), [], "whose fate is being written is not claimed again");
        assert_eq!(desk.on(Event::Settled { seq }), []);
        let left: Vec<Seq> = [1, 2, 3].into_iter().filter(|other| *other != seq).collect();
        let mut order = desk.drain(1, 8);
        order.sort_unstable();
        assert_eq!(order, left, "{seq} is gone, the others are not");
    }
}

#[test]
fn a_claim_of_the_first_holds_its_case_until_it_is_written() {
    let mut desk = Desk::mailbox(&[(1, "a"), (2, "a")], 0);
    claim(&mut desk, 1);
    assert_eq!(desk.credits(1, 2), [] as [Seq; 0]);
    let effects = desk.on(Event::Settled { seq: 1 });
    assert!(matches!(effects[..], [Effect::Deliver { seq: 2, .. }]), "{effects:?}");
}

#[test]
fn what_is_out_over_or_held_is_not_claimed_and_nobody_claims_from_a_partner() {
    let kept = |seq| [Effect::Kept { seq }];
    let mut out = Desk::mailbox(&[(1, "a")], 1);
    assert_eq!(claim(&mut out, 1), kept(1), "a stream has it");
    let mut over = Desk::mailbox(&[(1, "a")], 0);
    let now = over.now;
    assert_eq!(over.on(Event::Claim { seq: 1, expires_at: now }), kept(1), "it is of no more use");
    let mut held = Desk::mailbox(&[(1, "a")], 0);
    held.on(Event::Held);
    assert_eq!(claim(&mut held, 1), kept(1), "nothing leaves a lane that is held");
    held.on(Event::Resumed);
    assert_eq!(claim(&mut held, 1), claimed(1));
    let mut full = Desk::with(Policy { loaded_max: 1, parked_max: 0, ..Policy::mailbox() }, &[(1, "a")], 0).0;
    assert_eq!(claim(&mut full, 5), kept(5), "no room for one that is not in memory");
    let mut push = Desk::push(&[(1, "a")], 0);
    assert_eq!(claim(&mut push, 1), kept(1), "a partner takes what it is sent");
}
