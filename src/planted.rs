//! Decides which planted bug is in force, so that the tests can be shown to notice it: at most one, that a test has planted,
//! and only in builds with debug assertions. In a release nothing can be planted, every question here is `false` at compile
//! time, and nothing of a bug is in the program.

/// A bug that some test must catch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Answers are given while the transaction is still open; the next one commits it.
    AnswerBeforeCommit,
    /// Leaves and checkpoint are one transaction, the messages that they speak of another.
    LeafApartFromState,
    /// The same id means the same message, whatever its content.
    DedupByIdAlone,
    /// A lane does not hear of a row that is committed while it reads.
    LostWakeUp,
    /// The outcome of any delivery of a message counts for the one that is under way.
    SettleWithoutAttempt,
    /// The proof of the last leaf of a batch is its neighbour's.
    ProofOffByOne,
    /// A receipt that comes twice is counted twice.
    HandoverTwice,
    /// A revocation list is read once.
    CrlNotReRead,
    /// Two who submit at the same time get each other's receipts.
    NeighboursReceipt,
    /// A start takes the stored right edge as it finds it.
    EdgeNotChecked,
}

impl Bug {
    /// Every bug, and its name.
    pub const ALL: [(Bug, &str); 10] = [
        (Bug::AnswerBeforeCommit, "answer-before-commit"),
        (Bug::LeafApartFromState, "leaf-apart-from-state"),
        (Bug::DedupByIdAlone, "dedup-by-id-alone"),
        (Bug::LostWakeUp, "lost-wake-up"),
        (Bug::SettleWithoutAttempt, "settle-without-attempt"),
        (Bug::ProofOffByOne, "proof-off-by-one"),
        (Bug::HandoverTwice, "handover-twice"),
        (Bug::CrlNotReRead, "crl-not-re-read"),
        (Bug::NeighboursReceipt, "neighbours-receipt"),
        (Bug::EdgeNotChecked, "edge-not-checked"),
    ];
}

/// The bug in force, for as long as the process lives.
#[cfg(debug_assertions)]
static PLANTED: std::sync::OnceLock<Bug> = std::sync::OnceLock::new();

/// Plants the bug of this name, if there is one and none was planted before.
#[cfg(debug_assertions)]
pub fn plant(name: &str) {
    if let Some((bug, _)) = Bug::ALL.into_iter().find(|(_, known)| *known == name) {
        let _ = PLANTED.set(bug);
    }
}

/// Whether this bug is planted.
#[cfg(debug_assertions)]
pub fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(&bug)
}

/// No bug is planted in a release.
#[cfg(not(debug_assertions))]
pub const fn is(_: Bug) -> bool {
    false
}
