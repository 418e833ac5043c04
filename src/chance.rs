//! Decides where random bytes come from, for ids, salts and jitter. The one place beside key files that asks the system.

/// Random bytes from the operating system.
///
/// # Errors
/// The system has none to give; nothing that needs them may go on.
pub fn bytes<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
