//! Decides where random bytes come from, for ids, salts and jitter. The one place beside key files that asks the system.

#![allow(clippy::disallowed_methods, reason = "the one place that asks for chance")]

/// Random bytes from the operating system.
///
/// # Errors
/// The system has none to give; nothing that needs them may go on.
pub fn bytes<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
