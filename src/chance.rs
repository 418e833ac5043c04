//! Decides where random bytes come from, for ids, salts and jitter. The one place beside key files that asks the system.

#![allow(clippy::disallowed_methods, reason = "the one place that asks for chance")]

use std::cell::Cell;

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

/// Where the bytes of receipt ids come from: the operating system, or for a run that must repeat itself a seed.
#[derive(Debug, Default)]
pub struct Chance {
    /// The seed, and how often it was asked.
    seeded: Option<Cell<(u64, u64)>>,
}

impl Chance {
    /// Bytes that follow from `seed` alone. Whoever knows it knows them: never for a gateway that serves.
    pub fn seeded(seed: u64) -> Chance {
        Chance { seeded: Some(Cell::new((seed, 0))) }
    }

    /// The next bytes.
    ///
    /// # Errors
    /// As [`bytes`].
    pub fn draw(&self) -> Result<[u8; 10], getrandom::Error> {
        let Some(seeded) = &self.seeded else { return bytes() };
        let (seed, asked) = seeded.get();
        seeded.set((seed, asked + 1));
        let drawn = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(asked.to_be_bytes()).finalize();
        let mut bytes = [0; 10];
        bytes.copy_from_slice(&drawn[..10]);
        Ok(bytes)
    }
}
