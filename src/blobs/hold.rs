//! Decides who holds a digest: any number of pins, or one sweep's mark, never both. Never touches the disk.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Inner;
use crate::message::Digest;

#[derive(Debug)]
enum Hold {
    Pinned(usize),
    Marked,
}

/// The digests that are held.
#[derive(Debug, Default)]
pub(super) struct Holds {
    held: Mutex<HashMap<Digest, Hold>>,
    unmarked: Condvar,
}

impl Holds {
    fn held(&self) -> MutexGuard<'_, HashMap<Digest, Hold>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while a sweep has its mark on the digest: that is one question to the store and one deletion.
    fn pin(&self, digest: Digest) {
        let marked = |held: &mut HashMap<Digest, Hold>| matches!(held.get(&digest), Some(Hold::Marked));
        let mut held = self.unmarked.wait_while(self.held(), marked).unwrap_or_else(PoisonError::into_inner);
        match held.entry(digest).or_insert(Hold::Pinned(0)) {
            Hold::Pinned(count) => *count += 1,
            Hold::Marked => {}
        }
    }

    fn unpin(&self, digest: &Digest) {
        let mut held = self.held();
        if let Some(Hold::Pinned(count)) = held.get_mut(digest) {
            *count -= 1;
            if *count == 0 {
                held.remove(digest);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.held().is_empty()
    }

    /// Marks a digest that nobody holds.
    pub(super) fn mark(&self, digest: Digest) -> Option<Mark<'_>> {
        let mut held = self.held();
        if held.contains_key(&digest) {
            return None;
        }
        held.insert(digest, Hold::Marked);
        Some(Mark { holds: self, digest })
    }
}

/// As long as it lives nobody pins the digest.
#[derive(Debug)]
pub(super) struct Mark<'a> {
    holds: &'a Holds,
    digest: Digest,
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        self.holds.held().remove(&self.digest);
        self.holds.unmarked.notify_all();
    }
}

/// As long as it lives no sweep takes the blob.
#[derive(Debug)]
pub struct Pin {
    inner: Arc<Inner>,
    digest: Digest,
}

impl Pin {
    pub(super) fn new(inner: Arc<Inner>, digest: Digest) -> Pin {
        inner.holds.pin(digest);
        Pin { inner, digest }
    }

    /// The blob that is held.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.inner.holds.unpin(&self.digest);
    }
}
