//! Decides what a load's times say: how many in how long, and the latencies of all of them. Every latency is kept, four bytes
//! each, so that percentiles are exact. Never averages one.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// When a load ends, and what it came to so far.
pub struct Stopwatch {
    started: Instant,
    until: Limit,
    begun: u64,
    /// Microseconds of each that was answered.
    samples: Vec<u32>,
    refused: u64,
    last: Instant,
}

/// How long a load lasts.
#[derive(Debug, Clone, Copy)]
pub enum Limit {
    For(Duration),
    Count(u64),
}

/// What a load came to.
pub struct Run {
    pub seconds: f64,
    /// Microseconds, ascending.
    samples: Vec<u32>,
    pub refused: u64,
}

impl Stopwatch {
    /// Starts now.
    pub fn start(until: Limit) -> Stopwatch {
        let started = Instant::now();
        Stopwatch { started, until, begun: 0, samples: Vec::with_capacity(1 << 16), refused: 0, last: started }
    }

    /// Another that starts with it, for what is measured beside.
    pub fn beside(&self) -> Stopwatch {
        Stopwatch { started: self.started, ..Stopwatch::start(self.until) }
    }

    /// Whether one more is to begin; it counts as begun then.
    pub fn begins(&mut self) -> bool {
        let begins = match self.until {
            Limit::For(time) => self.started.elapsed() < time,
            Limit::Count(count) => self.begun < count,
        };
        self.begun += u64::from(begins);
        begins
    }

    /// The same, by the time that was spent at work instead of the time that went by.
    pub fn begins_after(&self, busy: Duration) -> bool {
        match self.until {
            Limit::For(time) => busy < time,
            Limit::Count(count) => (self.samples.len() as u64) < count,
        }
    }

    /// One that began at `begun` has its answer.
    pub fn answered(&mut self, begun: Instant) {
        self.last = Instant::now();
        self.samples.push(u32::try_from((self.last - begun).as_micros()).unwrap_or(u32::MAX));
    }

    /// One was refused.
    pub fn refused(&mut self) {
        self.refused += 1;
        self.last = Instant::now();
    }

    /// What it came to. It ended with the last answer.
    pub fn stop(self) -> Run {
        let took = self.last - self.started;
        self.stop_after(took)
    }

    /// The same, where only this much of the time was spent at work.
    pub fn stop_after(mut self, busy: Duration) -> Run {
        self.samples.sort_unstable();
        Run { seconds: busy.as_secs_f64().max(f64::EPSILON), samples: self.samples, refused: self.refused }
    }
}

impl Run {
    /// How many were answered.
    pub fn count(&self) -> u64 {
        self.samples.len() as u64
    }

    pub fn per_second(&self) -> f64 {
        self.count() as f64 / self.seconds
    }

    /// The least time within which so many of a thousand were answered; 0 when none was.
    pub fn within_us(&self, of_thousand: usize) -> u32 {
        let place = (self.samples.len() * of_thousand).div_ceil(1_000).saturating_sub(1);
        self.samples.get(place).copied().unwrap_or(0)
    }

    pub fn json(&self) -> Value {
        let [p50, p99, p999, max] = [500, 990, 999, 1_000].map(|share| self.within_us(share));
        json!({
            "count": self.count(),
            "refused": self.refused,
            "seconds": self.seconds,
            "per_second": self.per_second(),
            "latency_us": { "p50": p50, "p99": p99, "p99.9": p999, "max": max },
            "histogram": self.doublings().map(|(below, count)| json!({ "below_us": below, "count": count })).collect::<Vec<_>>(),
        })
    }

    /// How many took less than each power of two of microseconds, and not less than half of it.
    pub fn doublings(&self) -> impl Iterator<Item = (u64, usize)> {
        let mut rest = self.samples.as_slice();
        (0..=32u32).filter_map(move |power| {
            let below = 1u64 << power;
            let (those, others) = rest.split_at(rest.partition_point(|us| u64::from(*us) < below));
            rest = others;
            (!those.is_empty()).then_some((below, those.len()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(samples: Vec<u32>) -> Run {
        Run { seconds: 2.0, samples, refused: 0 }
    }

    #[test]
    fn a_percentile_is_the_least_time_within_which_that_share_was_answered() {
        let hundred = run((1..=100).collect());
        assert_eq!([500, 990, 999, 1_000].map(|share| hundred.within_us(share)), [50, 99, 100, 100]);
        assert_eq!(hundred.per_second(), 50.0);
        assert_eq!((run(vec![7]).within_us(1), run(vec![]).within_us(500)), (7, 0));
    }

    #[test]
    fn every_sample_stands_in_one_doubling() {
        let all = run(vec![0, 1, 2, 3, 4, 1_023, 1_024, u32::MAX]);
        let told: Vec<_> = all.doublings().collect();
        assert_eq!(told, [(1, 1), (2, 1), (4, 2), (8, 1), (1_024, 1), (2_048, 1), (1 << 32, 1)]);
    }

    #[test]
    fn a_load_of_a_count_begins_no_more_than_that() {
        let mut watch = Stopwatch::start(Limit::Count(2));
        assert_eq!([(); 3].map(|()| watch.begins()), [true, true, false]);
        watch.answered(Instant::now());
        watch.refused();
        let run = watch.stop();
        assert_eq!((run.count(), run.refused), (1, 1));
        assert!(!Stopwatch::start(Limit::For(Duration::ZERO)).begins());
    }
}
