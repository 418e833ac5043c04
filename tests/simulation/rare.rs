//! Decides which rare states a run must have reached: a world that never comes there proves nothing about it.

macro_rules! rare_events {
    ($($name:ident = $text:literal,)*) => {
        /// What happens rarely, and must have happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Rare { $($name,)* }

        impl Rare {
            pub const ALL: &[(Rare, &str)] = &[$((Rare::$name, $text),)*];
        }
    };
}

rare_events! {
    CrashSigned = "crash between sign and commit",
    CrashStored = "answers lost after commit",
    Ambiguous = "committed and reported as failed",
    DiskFull = "signed, then no room on the disk",
    SizeSignedTwice = "a size signed again after its first root was thrown away",
    FirstReceiptAgain = "resubmission answered by the first receipt",
    TwiceInOneCommit = "a message twice in one commit",
    Conflict = "other content under a known id refused",
    CarriedTwice = "a message carried twice and taken once",
    LateHandover = "late handover wins over failure or expiry",
    WholeCase = "failover of a whole case",
    Relayed = "carried by the hub",
    FoundInDoubt = "in doubt, asked, found",
    HasNot = "in doubt, asked, not there",
    EndedInDoubt = "in doubt, asked in vain",
    RestartInDoubt = "restart with a session open",
    Redelivered = "redelivered after its lease or session ended",
    Exhausted = "delivered as often as allowed",
    Later = "told to come later, and its case waits",
    Throttled = "throttled by the partner",
    CancelWon = "cancelled before custody",
    CancelLost = "cancel lost against custody",
    Expired = "expired before it left",
    Delayed = "told to be delayed",
    StaleOutcome = "an outcome for a delivery that is over",
    ReceiptsTwice = "receipts sent twice and witnessed once",
    ClockBack = "the clock behind the log",
    ClockBackOverRestart = "a restart with the clock behind the log",
    HalfOpen = "one message let through to a partner that failed",
    EdgeRefused = "a damaged right edge refused",
    WaysClosed = "the rules closed while a message waited",
    MemoryFull = "a lane with its memory full",
}

/// How often each was reached.
#[derive(Clone)]
pub struct Tally(Vec<u64>);

impl Default for Tally {
    fn default() -> Tally {
        Tally(vec![0; Rare::ALL.len()])
    }
}

impl Tally {
    pub fn hit(&mut self, rare: Rare) {
        self.0[rare as usize] += 1;
    }

    pub fn add(&mut self, other: &Tally) {
        self.0.iter_mut().zip(&other.0).for_each(|(sum, more)| *sum += more);
    }

    /// The table, and the names of what was never reached.
    pub fn table(&self) -> (String, Vec<&'static str>) {
        let rows = Rare::ALL.iter().zip(&self.0);
        let lines: Vec<String> = rows.clone().map(|((_, text), count)| format!("{count:>10}  {text}")).collect();
        (lines.join("\n"), rows.filter(|(_, count)| **count == 0).map(|((_, text), _)| *text).collect())
    }
}
