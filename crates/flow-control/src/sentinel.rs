//! Rules as Sentinel's dashboard and data sources write them, read into ours. What has no counterpart here is refused by
//! its name, never dropped: `docs/sentinel-compatibility.md` lists what is the same, differs and is absent.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::rules::{
    AuthorityRule, Basis, BreakerRule, Effect, FlowRule, HotParamRule, Measure, RuleSet, SystemRule, Trip,
};

/// A document of Sentinel's: for each kind an array as its data sources hold them.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    flow: Vec<Flow>,
    param_flow: Vec<ParamFlow>,
    degrade: Vec<Degrade>,
    system: Vec<System>,
    authority: Vec<Authority>,
}

/// What cannot be taken, with its place.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// It is no such document.
    #[error("not a document of Sentinel rules: {0}")]
    Json(#[from] serde_json::Error),
    /// A rule asks for what is not there.
    #[error("{place}: {what}")]
    Absent {
        /// For example `flow[2].strategy`.
        place: String,
        /// What it asks for.
        what: String,
    },
}

/// Reads `{"flow": […], "paramFlow": […], "degrade": […], "system": […], "authority": […]}`.
///
/// # Errors
/// No such document, or a rule that asks for what is absent here. Whether thresholds make sense says [`RuleSet::check`].
pub fn read(json: &str) -> Result<RuleSet, Unread> {
    let document: Document = serde_json::from_str(json)?;
    let mut rules = RuleSet::default();
    for (i, rule) in document.flow.into_iter().enumerate() {
        rules.flow.push(flow(&format!("flow[{i}]"), i, rule)?);
    }
    for (i, rule) in document.param_flow.into_iter().enumerate() {
        rules.hot_param.push(param_flow(&format!("paramFlow[{i}]"), i, rule)?);
    }
    for (i, rule) in document.degrade.into_iter().enumerate() {
        rules.breaker.push(degrade(&format!("degrade[{i}]"), i, rule)?);
    }
    for (i, rule) in document.system.into_iter().enumerate() {
        rules.system.push(system(i, rule));
    }
    for (i, rule) in document.authority.into_iter().enumerate() {
        rules.authority.push(authority(&format!("authority[{i}]"), i, rule)?);
    }
    Ok(rules)
}

/// What the dashboard writes beside the rule itself, and what needs no answer here.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Beside {
    id: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Flow {
    resource: String,
    #[serde(default = "default_app")]
    limit_app: String,
    #[serde(default = "one")]
    grade: u8,
    count: f64,
    #[serde(default)]
    strategy: u8,
    #[serde(default)]
    ref_resource: Option<String>,
    #[serde(default)]
    control_behavior: u8,
    #[serde(default)]
    warm_up_period_sec: Option<u64>,
    #[serde(default)]
    max_queueing_time_ms: Option<u64>,
    #[serde(default)]
    cluster_mode: bool,
    #[serde(flatten)]
    beside: Beside,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ParamFlow {
    resource: String,
    #[serde(default = "one")]
    grade: u8,
    param_idx: i64,
    count: f64,
    #[serde(default)]
    control_behavior: u8,
    #[serde(default)]
    max_queueing_time_ms: u64,
    #[serde(default)]
    burst_count: u64,
    #[serde(default = "one_u64")]
    duration_in_sec: u64,
    #[serde(default)]
    param_flow_item_list: Vec<Item>,
    #[serde(default)]
    cluster_mode: bool,
    #[serde(flatten)]
    beside: Beside,
}

#[derive(Debug, Deserialize)]
struct Item {
    object: String,
    count: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Degrade {
    resource: String,
    #[serde(default)]
    grade: u8,
    count: f64,
    time_window: u64,
    #[serde(default = "five")]
    min_request_amount: u64,
    #[serde(default = "whole")]
    slow_ratio_threshold: f64,
    #[serde(default = "thousand")]
    stat_interval_ms: u64,
    #[serde(flatten)]
    beside: Beside,
}

/// A value below zero means "not set" there.
#[derive(Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct System {
    highest_system_load: f64,
    highest_cpu_usage: f64,
    qps: f64,
    avg_rt: i64,
    max_thread: i64,
    #[serde(flatten)]
    beside: Beside,
}

impl Default for System {
    fn default() -> Self {
        let unset = -1.0;
        Self {
            highest_system_load: unset,
            highest_cpu_usage: unset,
            qps: unset,
            avg_rt: -1,
            max_thread: -1,
            beside: Beside::default(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authority {
    resource: String,
    limit_app: String,
    #[serde(default)]
    strategy: u8,
    #[serde(flatten)]
    beside: Beside,
}

fn default_app() -> String {
    "default".into()
}
const fn one() -> u8 {
    1
}
const fn one_u64() -> u64 {
    1
}
const fn five() -> u64 {
    5
}
const fn whole() -> f64 {
    1.0
}
const fn thousand() -> u64 {
    1000
}

/// Sentinel's own rules have no names: the dashboard's number, else their place.
fn name(kind: &str, beside: &Beside, i: usize) -> Arc<str> {
    match beside.id {
        Some(id) => format!("sentinel-{kind}-{id}").into(),
        None => format!("sentinel-{kind}-at-{i}").into(),
    }
}

fn absent<T>(place: &str, field: &str, what: impl Into<String>) -> Result<T, Unread> {
    Err(Unread::Absent { place: format!("{place}.{field}"), what: what.into() })
}

fn measure(place: &str, grade: u8) -> Result<Measure, Unread> {
    match grade {
        0 => Ok(Measure::Concurrency),
        1 => Ok(Measure::Qps),
        other => absent(place, "grade", format!("{other} is neither 0 (threads) nor 1 (QPS)")),
    }
}

fn flow(place: &str, i: usize, rule: Flow) -> Result<FlowRule, Unread> {
    let basis = match (rule.strategy, rule.ref_resource) {
        (0, _) => Basis::Direct,
        (1, Some(other)) => Basis::Related(other.into()),
        (1, None) => return absent(place, "refResource", "is missing, which strategy 1 (relate) yields to"),
        (2, _) => {
            return absent(
                place,
                "strategy",
                "2 (chain) is absent: there are no call trees here, name resources apart",
            );
        }
        (other, _) => return absent(place, "strategy", format!("{other} is none of Sentinel's")),
    };
    if rule.cluster_mode {
        return absent(
            place,
            "clusterMode",
            "is absent in this form: give the rule a `cluster_fallback` in our own form",
        );
    }
    let over = Duration::from_secs(rule.warm_up_period_sec.unwrap_or(10));
    let max_wait = Duration::from_millis(rule.max_queueing_time_ms.unwrap_or(500));
    let cold_factor = 3.0;
    let measure = measure(place, rule.grade)?;
    let effect = match (measure, rule.control_behavior) {
        // By threads Sentinel ignores the behaviour.
        (Measure::Concurrency, _) | (_, 0) => Effect::Reject,
        (_, 1) => Effect::WarmUp { over, cold_factor },
        (_, 2) => Effect::Pace { max_wait },
        (_, 3) => Effect::WarmUpPace { over, cold_factor, max_wait },
        (_, other) => return absent(place, "controlBehavior", format!("{other} is none of Sentinel's")),
    };
    Ok(FlowRule {
        id: name("flow", &rule.beside, i),
        resource: rule.resource.into(),
        threshold: rule.count,
        measure,
        basis,
        effect,
        limit_app: rule.limit_app.into(),
        cluster_fallback: None,
    })
}

fn param_flow(place: &str, i: usize, rule: ParamFlow) -> Result<HotParamRule, Unread> {
    let Ok(param) = usize::try_from(rule.param_idx) else {
        return absent(place, "paramIdx", "below 0 (from the end) is absent: parameters have fixed places here");
    };
    if rule.cluster_mode {
        return absent(place, "clusterMode", "is absent for parameters");
    }
    let measure = measure(place, rule.grade)?;
    let pace = match (measure, rule.control_behavior) {
        (Measure::Concurrency, _) | (_, 0) => None,
        (_, 2) => Some(Duration::from_millis(rule.max_queueing_time_ms)),
        (_, other) => return absent(place, "controlBehavior", format!("{other} is none of Sentinel's for parameters")),
    };
    Ok(HotParamRule {
        id: name("param", &rule.beside, i),
        resource: rule.resource.into(),
        param,
        measure,
        threshold: rule.count as u64,
        burst: if measure == Measure::Qps { rule.burst_count } else { 0 },
        per: Duration::from_secs(rule.duration_in_sec),
        pace,
        exceptions: rule.param_flow_item_list.into_iter().map(|item| (item.object, item.count)).collect(),
        // As there: 4,000 for each second of the duration, 200,000 at most.
        values: usize::try_from(rule.duration_in_sec.saturating_mul(4_000).clamp(1, 200_000)).unwrap_or(200_000),
    })
}

fn degrade(place: &str, i: usize, rule: Degrade) -> Result<BreakerRule, Unread> {
    let trip = match rule.grade {
        0 => {
            Trip::SlowRatio { slower_than: Duration::from_millis(rule.count as u64), ratio: rule.slow_ratio_threshold }
        }
        1 => Trip::ErrorRatio { ratio: rule.count },
        2 => Trip::ErrorCount { count: rule.count as u64 },
        other => return absent(place, "grade", format!("{other} is none of Sentinel's")),
    };
    Ok(BreakerRule {
        id: name("degrade", &rule.beside, i),
        resource: rule.resource.into(),
        trip,
        open_for: Duration::from_secs(rule.time_window),
        min_calls: rule.min_request_amount,
        interval: Duration::from_millis(rule.stat_interval_ms),
    })
}

fn system(i: usize, rule: System) -> SystemRule {
    let set = |it: f64| (it >= 0.0).then_some(it);
    SystemRule {
        id: name("system", &rule.beside, i),
        max_load: set(rule.highest_system_load),
        max_cpu: set(rule.highest_cpu_usage),
        max_qps: set(rule.qps),
        max_rt: u64::try_from(rule.avg_rt).ok().map(Duration::from_millis),
        max_concurrency: u64::try_from(rule.max_thread).ok(),
    }
}

fn authority(place: &str, i: usize, rule: Authority) -> Result<AuthorityRule, Unread> {
    let allow = match rule.strategy {
        0 => true,
        1 => false,
        other => return absent(place, "strategy", format!("{other} is neither 0 (white) nor 1 (black)")),
    };
    Ok(AuthorityRule {
        id: name("authority", &rule.beside, i),
        resource: rule.resource.into(),
        callers: rule.limit_app.split(',').map(|caller| caller.trim().into()).collect(),
        allow,
    })
}
