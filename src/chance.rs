//! Decides where random bytes come from, for ids, salts and jitter. The one place beside key files that asks the system.

#![allow(clippy::disallowed_methods, reason = "the one place that asks for chance")]

use std::cell::{Cell, RefCell};

use sha2::{Digest as _, Sha256};

/// Random bytes from the operating system.
///
/// # Errors
/// The system has none to give; nothing that needs them may go on.
pub fn bytes<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// Bytes of one id that chance gives.
const ID_BYTES: usize = 10;
/// Ids whose bytes are asked for together: asking the system costs more than all else of an id.
const IDS_TOGETHER: usize = 64;

/// Where the bytes of receipt ids come from: the operating system, or for a run that must repeat itself a seed.
#[derive(Debug, Default)]
pub struct Chance {
    /// The seed, and how often it was asked.
    seeded: Option<Cell<(u64, u64)>>,
    /// What the system gave and no id has taken.
    drawn: RefCell<Vec<[u8; ID_BYTES]>>,
}

impl Chance {
    /// Bytes that follow from `seed` alone. Whoever knows it knows them: never for a gateway that serves.
    pub fn seeded(seed: u64) -> Chance {
        Chance { seeded: Some(Cell::new((seed, 0))), ..Chance::default() }
    }

    /// The next bytes.
    ///
    /// # Errors
    /// As [`bytes`].
    pub fn draw(&self) -> Result<[u8; ID_BYTES], getrandom::Error> {
        let Some(seeded) = &self.seeded else { return self.of_the_system() };
        let (seed, asked) = seeded.get();
        seeded.set((seed, asked + 1));
        let drawn = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(asked.to_be_bytes()).finalize();
        let mut bytes = [0; ID_BYTES];
        bytes.copy_from_slice(&drawn[..ID_BYTES]);
        Ok(bytes)
    }

    fn of_the_system(&self) -> Result<[u8; ID_BYTES], getrandom::Error> {
        let mut drawn = self.drawn.borrow_mut();
        loop {
            if let Some(bytes) = drawn.pop() {
                return Ok(bytes);
            }
            drawn.extend_from_slice(bytes::<{ ID_BYTES * IDS_TOGETHER }>()?.as_chunks().0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_are_drawn_twice() {
        let chance = Chance::default();
        let drawn: std::collections::HashSet<_> = (0..5 * IDS_TOGETHER).map(|_| chance.draw().unwrap()).collect();
        assert_eq!(drawn.len(), 5 * IDS_TOGETHER);
        assert!(!drawn.contains(&[0; ID_BYTES]));
    }
}
