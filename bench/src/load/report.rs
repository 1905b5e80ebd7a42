//! What a run came to: counts, latencies in histograms, and how well the generator itself kept its schedule.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Longest time that is told apart, in µs.
const LONGEST: u64 = 120_000_000;
/// Kinds of answers that are counted one by one; what comes beyond is counted as `other`.
const MAX_KINDS: usize = 64;

/// Latencies, in microseconds with three digits.
#[derive(Debug, Clone)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds are legal"))
    }
}

impl Latency {
    pub(super) fn record(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_micros()).unwrap_or(LONGEST));
    }
    fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }
    /// How many.
    pub fn count(&self) -> u64 {
        self.0.len()
    }
    /// The time within which this share (0 to 1) was answered, in milliseconds.
    pub fn at(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1000.0
    }
    /// p50, p99, p99.9 and the longest, in milliseconds.
    pub fn json(&self) -> Value {
        let max = self.0.max() as f64 / 1000.0;
        json!({"count": self.count(), "p50": self.at(0.5), "p99": self.at(0.99), "p999": self.at(0.999), "max": max})
    }
}

/// A run's counts and latencies.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Seconds in which new attempts were made.
    pub seconds: f64,
    /// Arrivals that the schedule held.
    pub arrivals: u64,
    /// Of these, those that found too many waiting and were not sent.
    pub not_offered: u64,
    /// Of the arrivals, repeats of an earlier key.
    pub duplicates: u64,
    /// Requests sent: attempts, retries and looks at tickets.
    pub requests: u64,
    /// Tries after a 429, 503, 408 or no answer.
    pub retries: u64,
    /// Attempts given up while another try might have helped.
    pub given_up: u64,
    /// Tickets received.
    pub tickets: u64,
    /// Of these, those that were read to their end.
    pub tickets_ended: u64,
    /// Answers that said accepted, directly or by a ticket; a duplicate's says so again.
    pub accepted: u64,
    /// Answers by HTTP status (0: none came) and problem type or ticket state.
    pub answers: Vec<(u16, String, u64)>,
    /// From the intended moment to the answer of a purchase call, whatever it says.
    pub answered: Latency,
    /// The same of 201 and 202 alone.
    pub admitted: Latency,
    /// The same of refusals.
    pub refused: Latency,
    /// From an attempt's intended moment until its ticket's end was read.
    pub ended: Latency,
    /// How late a request was sent: timers (up to 1 ms), and waiting for a free connection.
    pub late: Latency,
}

impl Report {
    pub(super) fn answer(&mut self, status: u16, name: &str) {
        let room = self.answers.len() < MAX_KINDS;
        let known = |name: &str| self.answers.iter().position(|(s, n, _)| *s == status && n == name);
        match known(name).or_else(|| if room { None } else { known("other") }) {
            Some(at) => self.answers[at].2 += 1,
            None if room => self.answers.push((status, name.to_owned(), 1)),
            // At most one for each status beyond the bound.
            None => self.answers.push((status, "other".to_owned(), 1)),
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.seconds = self.seconds.max(other.seconds);
        self.arrivals += other.arrivals;
        self.not_offered += other.not_offered;
        self.duplicates += other.duplicates;
        self.requests += other.requests;
        self.retries += other.retries;
        self.given_up += other.given_up;
        self.tickets += other.tickets;
        self.tickets_ended += other.tickets_ended;
        self.accepted += other.accepted;
        for (status, name, count) in other.answers {
            match self.answers.iter_mut().find(|(s, n, _)| *s == status && *n == name) {
                Some((_, _, sum)) => *sum += count,
                None => self.answers.push((status, name, count)),
            }
        }
        self.answers.sort();
        self.answered.add(&other.answered);
        self.admitted.add(&other.admitted);
        self.refused.add(&other.refused);
        self.ended.add(&other.ended);
        self.late.add(&other.late);
    }

    /// Answers with this status.
    pub fn with_status(&self, status: u16) -> u64 {
        self.answers.iter().filter(|(s, _, _)| *s == status).map(|(_, _, count)| count).sum()
    }

    /// Purchase calls sent and answered, a second of the time in which attempts were made.
    pub fn rate(&self) -> f64 {
        (self.arrivals - self.not_offered) as f64 / self.seconds
    }

    /// Everything, latencies in milliseconds.
    pub fn json(&self) -> Value {
        let answers: Vec<_> =
            self.answers.iter().map(|(s, n, c)| json!({"status": s, "name": n, "count": c})).collect();
        json!({
            "seconds": self.seconds, "arrivals": self.arrivals, "not_offered": self.not_offered,
            "rate": self.rate(), "duplicates": self.duplicates, "requests": self.requests, "retries": self.retries,
            "given_up": self.given_up, "tickets": self.tickets, "tickets_ended": self.tickets_ended,
            "accepted": self.accepted, "answers": answers, "answered_ms": self.answered.json(),
            "admitted_ms": self.admitted.json(), "refused_ms": self.refused.json(), "ended_ms": self.ended.json(),
            "late_ms": self.late.json(),
        })
    }
}
