//! Whether a set of rules is sound. Says everything that is wrong at once, each with its place; a set that passed is
//! never questioned again.

use std::collections::HashSet;
use std::time::Duration;

use super::{Basis, BreakerRule, Effect, FlowRule, HotParamRule, Measure, RuleSet, SystemRule, Trip};

/// Rules of one set. Each is looked at only with its own resource, so this bounds memory and the time of a change.
pub const MOST_RULES: usize = 10_000;
/// Rules of one kind on one resource: each entry looks at every one of them.
pub const MOST_OF_RESOURCE: usize = 64;
/// Values that one hot-parameter rule may remember, about 100 bytes each.
pub const MOST_VALUES: usize = 1_000_000;
/// Parameters of an entry.
pub const MOST_PARAMS: usize = 8;
/// The longest time that a rule may speak of.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The longest that an entry may be told to wait.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Longest name of a rule, a resource or a caller.
pub const LONGEST_NAME: usize = 128;

/// A set of rules in which nothing is wrong.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checked(RuleSet);

impl Checked {
    /// The rules.
    pub fn rules(&self) -> &RuleSet {
        &self.0
    }
}

/// What is wrong with a set of rules: each fault with its place, for example `flow[3].threshold`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(|(place, what)| format!("{place}: {what}")).collect::<Vec<_>>().join("; "))]
pub struct Unsound(pub Vec<(String, String)>);

impl RuleSet {
    /// Checks everything that serde cannot.
    ///
    /// # Errors
    /// All faults, each with its place.
    pub fn check(self) -> Result<Checked, Unsound> {
        let mut faults = Faults::default();
        let all =
            self.flow.len() + self.hot_param.len() + self.breaker.len() + self.system.len() + self.authority.len();
        if all > MOST_RULES {
            faults.add("rules", format!("{all} of them, at most {MOST_RULES}"));
            return Err(Unsound(faults.0));
        }
        let mut ids = HashSet::new();
        for (place, id, resource) in self.named() {
            faults.name(&format!("{place}.id"), id);
            if let Some(resource) = resource {
                faults.name(&format!("{place}.resource"), resource);
            }
            if !ids.insert(id) {
                faults.add(&format!("{place}.id"), format!("`{id}` is another rule's name already"));
            }
        }
        for (i, rule) in self.flow.iter().enumerate() {
            flow(&mut faults, &format!("flow[{i}]"), rule);
        }
        for (i, rule) in self.hot_param.iter().enumerate() {
            hot_param(&mut faults, &format!("hot_param[{i}]"), rule);
        }
        for (i, rule) in self.breaker.iter().enumerate() {
            breaker(&mut faults, &format!("breaker[{i}]"), rule);
        }
        for (i, rule) in self.system.iter().enumerate() {
            system(&mut faults, &format!("system[{i}]"), rule);
        }
        let mut ruled = HashSet::new();
        for (i, rule) in self.authority.iter().enumerate() {
            let place = format!("authority[{i}]");
            if !ruled.insert(&rule.resource) {
                faults.add(&place, format!("`{}` has another authority rule: name all callers in one", rule.resource));
            }
            if rule.callers.is_empty() {
                faults.add(&format!("{place}.callers"), "names nobody".into());
            }
        }
        self.crowded(&mut faults);
        if faults.0.is_empty() { Ok(Checked(self)) } else { Err(Unsound(faults.0)) }
    }

    /// Place, name and resource of every rule.
    fn named(&self) -> impl Iterator<Item = (String, &str, Option<&str>)> {
        let flow = self.flow.iter().enumerate().map(|(i, r)| (format!("flow[{i}]"), &*r.id, Some(&*r.resource)));
        let hot = self.hot_param.iter().enumerate();
        let hot = hot.map(|(i, r)| (format!("hot_param[{i}]"), &*r.id, Some(&*r.resource)));
        let breaker = self.breaker.iter().enumerate();
        let breaker = breaker.map(|(i, r)| (format!("breaker[{i}]"), &*r.id, Some(&*r.resource)));
        let system = self.system.iter().enumerate().map(|(i, r)| (format!("system[{i}]"), &*r.id, None));
        let authority = self.authority.iter().enumerate();
        let authority = authority.map(|(i, r)| (format!("authority[{i}]"), &*r.id, Some(&*r.resource)));
        flow.chain(hot).chain(breaker).chain(system).chain(authority)
    }

    fn crowded(&self, faults: &mut Faults) {
        let kinds: [(&str, Vec<&str>); 3] = [
            ("flow", self.flow.iter().map(|r| &*r.resource).collect()),
            ("hot_param", self.hot_param.iter().map(|r| &*r.resource).collect()),
            ("breaker", self.breaker.iter().map(|r| &*r.resource).collect()),
        ];
        for (kind, resources) in kinds {
            let mut counts = std::collections::HashMap::new();
            for resource in resources {
                *counts.entry(resource).or_insert(0_usize) += 1;
            }
            for (resource, n) in counts.into_iter().filter(|(_, n)| *n > MOST_OF_RESOURCE) {
                faults.add(kind, format!("`{resource}` has {n} of these rules, at most {MOST_OF_RESOURCE}"));
            }
        }
    }
}

#[derive(Default)]
struct Faults(Vec<(String, String)>);

impl Faults {
    fn add(&mut self, place: &str, what: String) {
        self.0.push((place.to_owned(), what));
    }

    fn name(&mut self, place: &str, name: &str) {
        if name.is_empty() || name.len() > LONGEST_NAME {
            self.add(place, format!("want 1 to {LONGEST_NAME} bytes, not {}", name.len()));
        }
    }

    fn number(&mut self, place: &str, it: f64, above: f64, up_to: f64) {
        if !(it >= above && it <= up_to) {
            self.add(place, format!("want {above} to {up_to}, not {it}"));
        }
    }

    fn time(&mut self, place: &str, it: Duration, least: Duration, most: Duration) {
        if it < least || it > most {
            self.add(place, format!("want {least:?} to {most:?}, not {it:?}"));
        }
    }
}

/// No threshold is above this: it is beyond what a machine can count, and keeps sums exact.
const MOST: f64 = 1e12;

fn flow(faults: &mut Faults, place: &str, rule: &FlowRule) {
    faults.number(&format!("{place}.threshold"), rule.threshold, 0.0, MOST);
    faults.name(&format!("{place}.limit_app"), &rule.limit_app);
    if let Basis::Related(other) = &rule.basis {
        faults.name(&format!("{place}.basis.related"), other);
        if *other == rule.resource {
            faults.add(&format!("{place}.basis.related"), "names the resource itself: that is `direct`".into());
        }
    }
    if rule.measure == Measure::Concurrency && rule.effect != Effect::Reject {
        faults.add(&format!("{place}.effect"), "a rule by concurrency can only reject".into());
    }
    let (over, cold, wait) = match rule.effect {
        Effect::Reject => (None, None, None),
        Effect::WarmUp { over, cold_factor } => (Some(over), Some(cold_factor), None),
        Effect::Pace { max_wait } => (None, None, Some(max_wait)),
        Effect::WarmUpPace { over, cold_factor, max_wait } => (Some(over), Some(cold_factor), Some(max_wait)),
    };
    if let Some(over) = over {
        faults.time(&format!("{place}.effect.over"), over, Duration::from_secs(1), LONGEST);
    }
    if let Some(cold) = cold {
        faults.number(&format!("{place}.effect.cold_factor"), cold, 1.1, 1000.0);
    }
    if let Some(wait) = wait {
        faults.time(&format!("{place}.effect.max_wait"), wait, Duration::ZERO, LONGEST_WAIT);
    }
    if let Some(fallback) = rule.cluster_fallback {
        faults.number(&format!("{place}.cluster_fallback"), fallback, 0.0, MOST);
        if rule.effect != Effect::Reject {
            faults.add(&format!("{place}.effect"), "a rule of the cluster can only reject".into());
        }
        if fallback > rule.threshold {
            faults.add(&format!("{place}.cluster_fallback"), "is above the threshold of the whole cluster".into());
        }
    }
}

fn hot_param(faults: &mut Faults, place: &str, rule: &HotParamRule) {
    if rule.param >= MOST_PARAMS {
        faults.add(&format!("{place}.param"), format!("want 0 to {}, not {}", MOST_PARAMS - 1, rule.param));
    }
    if rule.values == 0 || rule.values > MOST_VALUES {
        faults.add(&format!("{place}.values"), format!("want 1 to {MOST_VALUES}, not {}", rule.values));
    }
    if rule.exceptions.len() > rule.values {
        faults.add(&format!("{place}.exceptions"), "are more than the values that are remembered".into());
    }
    if rule.threshold > MOST as u64 || rule.burst > MOST as u64 || rule.exceptions.values().any(|n| *n > MOST as u64) {
        faults.add(&format!("{place}.threshold"), format!("want at most {MOST}"));
    }
    faults.time(&format!("{place}.per"), rule.per, Duration::from_secs(1), LONGEST);
    if let Some(wait) = rule.pace {
        faults.time(&format!("{place}.pace"), wait, Duration::ZERO, LONGEST_WAIT);
    }
    if rule.measure == Measure::Concurrency && (rule.pace.is_some() || rule.burst > 0) {
        faults.add(&format!("{place}.measure"), "a rule by concurrency has neither burst nor pace".into());
    }
}

fn breaker(faults: &mut Faults, place: &str, rule: &BreakerRule) {
    match rule.trip {
        Trip::SlowRatio { slower_than, ratio } => {
            faults.time(&format!("{place}.trip.slower_than"), slower_than, Duration::from_millis(1), LONGEST_WAIT);
            faults.number(&format!("{place}.trip.ratio"), ratio, 0.0, 1.0);
        }
        Trip::ErrorRatio { ratio } => faults.number(&format!("{place}.trip.ratio"), ratio, 0.0, 1.0),
        Trip::ErrorCount { .. } => {}
    }
    faults.time(&format!("{place}.open_for"), rule.open_for, Duration::from_millis(100), LONGEST);
    faults.time(&format!("{place}.interval"), rule.interval, Duration::from_millis(100), LONGEST);
    if rule.min_calls == 0 {
        faults.add(&format!("{place}.min_calls"), "want 1 or more".into());
    }
}

fn system(faults: &mut Faults, place: &str, rule: &SystemRule) {
    if let Some(load) = rule.max_load {
        faults.number(&format!("{place}.max_load"), load, 0.0, 100_000.0);
    }
    if let Some(cpu) = rule.max_cpu {
        faults.number(&format!("{place}.max_cpu"), cpu, 0.0, 1.0);
    }
    if let Some(qps) = rule.max_qps {
        faults.number(&format!("{place}.max_qps"), qps, 0.0, MOST);
    }
    if let Some(rt) = rule.max_rt {
        faults.time(&format!("{place}.max_rt"), rt, Duration::from_millis(1), LONGEST_WAIT);
    }
    let limits = [rule.max_load.is_some(), rule.max_cpu.is_some(), rule.max_qps.is_some(), rule.max_rt.is_some()];
    if limits == [false; 4] && rule.max_concurrency.is_none() {
        faults.add(place, "limits nothing: set max_load, max_cpu, max_qps, max_rt or max_concurrency".into());
    }
}
