//! What a demo run ends with: one table for people, one verdict for the exit status. It only shows what it is
//! given.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::legs::Leg;
use super::stats::{Histogram, Stats};

/// Everything a run has to show. The binary fills it from the services' handles, the auditor and the recount.
#[derive(Debug, Clone, Serialize)]
pub struct DemoReport {
    /// Draws the run's traffic.
    pub seed: u64,
    /// How many times faster than the clock on the wall event time ran.
    pub speed: f64,
    /// Event time that passed.
    pub lasted: Duration,
    /// Lines written to the access log.
    pub lines_written: u64,
    /// Lines the collector read, and what became of them: `event`, then reasons of filters and dead letters.
    pub lines_read: u64,
    /// …
    pub line_fates: BTreeMap<String, u64>,
    /// Moves of products by reason.
    pub moves: BTreeMap<String, u64>,
    /// How long each leg of the loop took, in real time.
    pub legs: BTreeMap<Leg, Histogram>,
    /// The shoppers' side.
    pub shoppers: Stats,
    /// Final windows against their recount.
    pub heat: audit::heat::Comparison,
    /// The auditor.
    pub audit: audit::Report,
}

impl DemoReport {
    /// What is wrong, in words; empty if the run may end with status 0.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let mut fail = |failed: bool, text: &str| {
            if failed {
                failures.push(text.to_owned());
            }
        };
        fail(!self.audit.holds(), "an invariant is broken");
        fail(self.audit.oversold > 0, "units were oversold");
        fail(self.heat.compared == 0, "no final window was compared with its recount");
        fail(self.heat.different > 0, "a hot set differs from its recount");
        fail(self.heat.missing > 0, "a final window was never reported");
        fail(self.shoppers.retries_unequal > 0, "a repeated purchase got another answer");
        fail(self.shoppers.tickets_without_end > 0, "a ticket had no end in time");
        let accounted: u64 = self.line_fates.values().sum();
        fail(accounted != self.lines_read, "lines were read that ended as nothing");
        failures
    }
    /// Whether the run may end with status 0.
    pub fn holds(&self) -> bool {
        self.failures().is_empty()
    }
}

fn list<K: fmt::Display, V: fmt::Display>(map: &BTreeMap<K, V>) -> String {
    if map.is_empty() {
        return "none".to_owned();
    }
    map.iter().map(|(k, v)| format!("{k} {v}")).collect::<Vec<_>>().join(", ")
}

fn ms(d: Duration) -> String {
    format!("{:.1} ms", d.as_secs_f64() * 1_000.0)
}

impl fmt::Display for DemoReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = &self.shoppers;
        let all = s.all_answers();
        writeln!(
            f,
            "demo of {:.0} s (event time, speed {}), seed {}",
            self.lasted.as_secs_f64(),
            self.speed,
            self.seed
        )?;
        writeln!(
            f,
            "  log        {} lines written, {} read: {}",
            self.lines_written,
            self.lines_read,
            list(&self.line_fates)
        )?;
        writeln!(
            f,
            "  hot sets   {} final windows recounted from the raw lines, {} differ, {} missing",
            self.heat.compared, self.heat.different, self.heat.missing
        )?;
        self.heat.differences.iter().try_for_each(|text| writeln!(f, "             {text}"))?;
        writeln!(f, "  moves      {}", list(&self.moves))?;
        writeln!(f, "  shoppers   {} came, {} turned away; {} purchase calls", s.sessions, s.shed, s.attempts)?;
        writeln!(f, "  orders     {} accepted by tier: {}", s.orders(), list(&s.orders_by_tier))?;
        writeln!(
            f,
            "             {} paid, {} left unpaid, {} cancelled, {} payments failed",
            s.paid, s.abandoned, s.cancelled, s.payments_failed
        )?;
        writeln!(f, "  ends       {}", list(&s.ends))?;
        writeln!(f, "  refusals   {}", list(&s.refusals))?;
        writeln!(
            f,
            "  repeats    {} with the same key got the same answer, {} another",
            s.retries_equal, s.retries_unequal
        )?;
        if s.resumed > 0 {
            writeln!(f, "  resumed    {} tickets of a killed run, {} came to an end", s.resumed, s.resumed_ended)?;
        }
        writeln!(
            f,
            "  latency    purchase call p50 {}, p99 {}; to the end p50 {}, p99 {}; {} calls without an answer",
            ms(all.quantile(0.5)),
            ms(all.quantile(0.99)),
            ms(s.to_the_end.quantile(0.5)),
            ms(s.to_the_end.quantile(0.99)),
            s.unanswered
        )?;
        for (name, h) in &s.answers {
            writeln!(
                f,
                "             {name:<22} {:>7} calls  p50 {:>10}  p99 {:>10}",
                h.count(),
                ms(h.quantile(0.5)),
                ms(h.quantile(0.99))
            )?;
        }
        for (at, (leg, h)) in self.legs.iter().enumerate() {
            let title = if at == 0 { "legs" } else { "" };
            writeln!(
                f,
                "  {title:<10} {leg:<30} {:>7} seen   p50 {:>10}  p99 {:>10}",
                h.count(),
                ms(h.quantile(0.5)),
                ms(h.quantile(0.99))
            )?;
        }
        writeln!(f, "  oversold   {}", self.audit.oversold)?;
        writeln!(f, "{}", self.audit)?;
        let failures = self.failures();
        if failures.is_empty() {
            return write!(f, "PASSED");
        }
        write!(f, "FAILED: {}", failures.join("; "))
    }
}
