//! What happens now, for people and metrics: read beside the entries, never in their way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use crate::breaker::Stand;
use crate::entry::Kind;
use crate::resource::State;
use crate::time::Nanos;

/// One resource.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LiveResource {
    /// Its name.
    pub resource: Arc<str>,
    /// Entries of the last second.
    pub qps: u64,
    /// Entries that have not ended.
    pub inside: u64,
    /// Average time of the answers of the last second, in milliseconds; none if none ended.
    pub average_ms: Option<f64>,
    /// Since the start.
    pub totals: Totals,
    /// Breakers, by the name of their rule.
    pub breakers: BTreeMap<Arc<str>, Stand>,
    /// Values that hot-parameter rules remember, by the name of the rule.
    pub values: BTreeMap<Arc<str>, usize>,
}

/// Counts since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Entries that were let in.
    pub passed: u64,
    /// Of these, ended as failures.
    pub failed: u64,
    /// Refused, by the kind of rule.
    pub blocked: BTreeMap<&'static str, u64>,
}

pub(crate) fn resource(state: &State, now: Nanos) -> LiveResource {
    let node = &state.node;
    let counts = node.counts(now);
    let rules = state.rules.load();
    let blocked = Kind::ALL.iter().zip(&state.blocked).map(|(kind, n)| (kind.word(), n.load(Ordering::Relaxed)));
    LiveResource {
        resource: state.name.clone(),
        qps: counts.second,
        inside: counts.inside,
        average_ms: node.average(now).as_ref().map(Duration::as_secs_f64).map(|s| s * 1000.0),
        totals: Totals {
            passed: node.ended_total.load(Ordering::Relaxed) + counts.inside,
            failed: node.failed_total.load(Ordering::Relaxed),
            blocked: blocked.filter(|(_, n)| *n > 0).collect(),
        },
        breakers: rules.breakers.iter().map(|breaker| (breaker.rule.id.clone(), breaker.stand())).collect(),
        values: rules.hot.iter().map(|hot| (hot.rule.id.clone(), hot.len())).collect(),
    }
}
