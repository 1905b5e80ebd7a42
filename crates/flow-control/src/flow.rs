//! One flow rule at work: compares what is counted with its threshold and shapes what passes.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Shares;
use crate::origins::{Counts, Node};
use crate::pacing::{self, Pacing, Place};
use crate::rules::{Basis, Effect, FlowRule, Measure};
use crate::time::Nanos;
use crate::warm_up::WarmUp;
use crate::window::BUCKET;

/// Whose counts a rule looks at.
#[derive(Debug)]
pub(crate) enum Whose {
    /// All entries of the resource.
    All,
    /// Those of one caller.
    Caller(Arc<str>),
    /// Those of each caller whom no rule of the resource names, by himself.
    Other,
}

/// A rule with its state, which outlives a change of other rules.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) rule: FlowRule,
    pub(crate) whose: Whose,
    /// The resource that it yields to.
    pub(crate) related: Option<Arc<Node>>,
    warm: Option<WarmUp>,
    pacing: Pacing,
    share: Arc<Shares>,
}

/// What one rule says.
#[derive(Debug)]
pub(crate) enum Said {
    Pass,
    /// A place in its line.
    Wait(Place),
    /// When to ask again.
    Block(Duration),
}

/// A second's threshold has room again when its oldest tenth goes.
const ONE_BUCKET: Duration = Duration::from_nanos(BUCKET);
/// When places are freed nobody knows; a second is what HTTP can say at least.
const SOON: Duration = Duration::from_secs(1);

impl Flow {
    pub(crate) fn new(rule: &FlowRule, related: Option<Arc<Node>>, share: Arc<Shares>) -> Self {
        let warm = match rule.effect {
            Effect::WarmUp { over, cold_factor } | Effect::WarmUpPace { over, cold_factor, .. } => {
                Some(WarmUp::new(rule.threshold, over, cold_factor))
            }
            Effect::Reject | Effect::Pace { .. } => None,
        };
        let whose = match &*rule.limit_app {
            "default" => Whose::All,
            "other" => Whose::Other,
            _ => Whose::Caller(rule.limit_app.clone()),
        };
        Self { rule: rule.clone(), whose, related, warm, pacing: Pacing::default(), share }
    }

    /// The resource that it names beside its own.
    pub(crate) fn related_to(rule: &FlowRule) -> Option<&Arc<str>> {
        match &rule.basis {
            Basis::Direct => None,
            Basis::Related(other) => Some(other),
        }
    }

    /// Judges `n` entries. `own` are the counts that it measures, with these entries in them; `node` is where they stand.
    pub(crate) fn check(&self, n: u64, own: Counts, node: &Node, now: Nanos) -> Said {
        // Of another resource these entries are no part, but they must fit beside it.
        let counts = match &self.related {
            None => own,
            Some(other) => {
                let there = other.counts(now);
                Counts { second: there.second + n, inside: there.inside + n }
            }
        };
        if self.rule.measure == Measure::Concurrency {
            return if counts.inside as f64 <= self.threshold(now) { Said::Pass } else { Said::Block(SOON) };
        }
        match self.rule.effect {
            Effect::Reject => within(counts.second, self.threshold(now)),
            Effect::WarmUp { .. } => within(counts.second, self.warm_rate(node, now)),
            Effect::Pace { max_wait } => self.place(n, self.rule.threshold, max_wait, now),
            Effect::WarmUpPace { max_wait, .. } => self.place(n, self.warm_rate(node, now), max_wait, now),
        }
    }

    /// Gives a place back that [`Flow::check`] gave.
    pub(crate) fn give_back(&self, place: Place) {
        self.pacing.give_back(place);
    }

    fn threshold(&self, now: Nanos) -> f64 {
        match self.rule.cluster_fallback {
            None => self.rule.threshold,
            Some(fallback) => self.share.of(now).unwrap_or(fallback),
        }
    }

    fn warm_rate(&self, node: &Node, now: Nanos) -> f64 {
        let node = self.related.as_deref().unwrap_or(node);
        self.warm.as_ref().map_or(self.rule.threshold, |warm| warm.rate(now, || node.entered.previous_second(now)))
    }

    fn place(&self, n: u64, rate: f64, max_wait: Duration, now: Nanos) -> Said {
        let Some(cost) = pacing::cost(n, rate) else { return Said::Block(SOON) };
        match self.pacing.take(cost, max_wait, now) {
            Ok(place) => Said::Wait(place),
            Err(too_long_by) => Said::Block(too_long_by.min(SOON * 60)),
        }
    }
}

fn within(second: u64, threshold: f64) -> Said {
    if second as f64 <= threshold { Said::Pass } else { Said::Block(ONE_BUCKET) }
}
