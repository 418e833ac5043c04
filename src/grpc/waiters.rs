//! Decides how many calls of one identity may wait for a message at once. Never knows what they wait for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits::WAITERS_PER_IDENTITY_MAX;
use crate::party::Party;
use crate::reason::Reason;
use crate::wire::status::Refused;

/// The calls that wait, by identity.
#[derive(Clone, Debug, Default)]
pub struct Waiters(Arc<Mutex<HashMap<Party, usize>>>);

/// The place of one call that waits; it is free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    waiters: Waiters,
    party: Party,
}

impl Waiters {
    /// A place for one more call of `party`.
    ///
    /// # Errors
    /// `TOO_MANY_WAITERS`.
    pub fn wait(&self, party: &Party) -> Result<Place, Refused> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.entry(party.clone()).or_default();
        if *count >= WAITERS_PER_IDENTITY_MAX {
            let detail = format!("at most {WAITERS_PER_IDENTITY_MAX} calls of one identity wait at once");
            return Err(Refused::new(Reason::TooManyWaiters).with_detail(detail));
        }
        *count += 1;
        Ok(Place { waiters: self.clone(), party: party.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.waiters.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&self.party) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.party);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_identity_has_its_own_places_and_gets_them_back() {
        let waiters = Waiters::default();
        let party = |name: &str| format!("spiffe://test/city/450200/system/{name}").parse::<Party>().unwrap();
        let held: Vec<_> = (0..WAITERS_PER_IDENTITY_MAX).map(|_| waiters.wait(&party("a")).unwrap()).collect();
        assert_eq!(waiters.wait(&party("a")).unwrap_err().reason, Reason::TooManyWaiters);
        assert!(waiters.wait(&party("b")).is_ok());
        drop(held);
        assert!(waiters.wait(&party("a")).is_ok());
        assert!(waiters.0.lock().unwrap().is_empty(), "nobody who has gone is remembered");
    }
}
