//! Rules as values: what may be said of a resource, and whether a set of it is sound. A set is checked once, when it
//! comes in ([`RuleSet::check`]); nothing is checked again where requests pass.

mod check;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use check::{Checked, Unsound};

/// Everything that is ruled, of every kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuleSet {
    /// How much may enter.
    pub flow: Vec<FlowRule>,
    /// How much may enter for one value of a parameter: one product, one buyer.
    pub hot_param: Vec<HotParamRule>,
    /// When a dependency is left alone.
    pub breaker: Vec<BreakerRule>,
    /// What the whole process bears.
    pub system: Vec<SystemRule>,
    /// Who may enter at all.
    pub authority: Vec<AuthorityRule>,
}

/// What a flow rule counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Entries in the last second.
    #[default]
    Qps,
    /// Entries that have not ended.
    Concurrency,
}

/// Whose traffic a flow rule measures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The resource's own.
    #[default]
    Direct,
    /// That of another resource: this one yields while that one is busy.
    Related(Arc<str>),
}

/// What happens to an entry of a flow rule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Above the threshold it is refused.
    #[default]
    Reject,
    /// The threshold rises from a third of itself to all of it while traffic lasts.
    WarmUp {
        /// How long that takes.
        #[serde(with = "seconds")]
        over: Duration,
        /// What fraction of the threshold a cold resource takes: 1/`cold_factor`. More than 1.
        #[serde(default = "cold_factor")]
        cold_factor: f64,
    },
    /// Entries are spaced evenly; who would wait longer than this is refused.
    Pace {
        /// The longest wait.
        #[serde(with = "millis")]
        max_wait: Duration,
    },
    /// Evenly spaced, by a rate that rises from cold.
    WarmUpPace {
        /// How long rising takes.
        #[serde(with = "seconds")]
        over: Duration,
        /// As in [`Effect::WarmUp`].
        #[serde(default = "cold_factor")]
        cold_factor: f64,
        /// The longest wait.
        #[serde(with = "millis")]
        max_wait: Duration,
    },
}

const fn cold_factor() -> f64 {
    3.0
}

/// One threshold of one resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowRule {
    /// Its name, which every refusal bears.
    pub id: Arc<str>,
    /// What it rules.
    pub resource: Arc<str>,
    /// Entries a second, or at once.
    pub threshold: f64,
    /// What is counted.
    #[serde(default)]
    pub measure: Measure,
    /// Of which resource.
    #[serde(default)]
    pub basis: Basis,
    /// What happens above it.
    #[serde(default)]
    pub effect: Effect,
    /// Whose entries: `default` (all), `other` (of callers that no rule of this resource names), or a caller's name.
    #[serde(default = "everybody")]
    pub limit_app: Arc<str>,
    /// If the threshold is that of the whole cluster: what to keep to without a share of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_fallback: Option<f64>,
}

fn everybody() -> Arc<str> {
    "default".into()
}

impl FlowRule {
    /// At most `threshold` entries a second, the others refused.
    pub fn qps(id: &str, resource: &str, threshold: f64) -> Self {
        Self {
            id: id.into(),
            resource: resource.into(),
            threshold,
            measure: Measure::Qps,
            basis: Basis::Direct,
            effect: Effect::Reject,
            limit_app: everybody(),
            cluster_fallback: None,
        }
    }

    /// At most `threshold` entries at once, the others refused.
    pub fn concurrency(id: &str, resource: &str, threshold: f64) -> Self {
        Self { measure: Measure::Concurrency, ..Self::qps(id, resource, threshold) }
    }
}

/// A threshold for each value of a parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HotParamRule {
    /// Its name.
    pub id: Arc<str>,
    /// What it rules.
    pub resource: Arc<str>,
    /// Which of the entry's parameters, counted from 0. An entry without it is not ruled.
    pub param: usize,
    /// What is counted.
    #[serde(default)]
    pub measure: Measure,
    /// Entries of one value in `per`, or at once.
    pub threshold: u64,
    /// What one value may take at once beyond the threshold after it was quiet.
    #[serde(default)]
    pub burst: u64,
    /// The time that the threshold is for.
    #[serde(default = "one_second", with = "seconds")]
    pub per: Duration,
    /// If set, entries of a value are spaced evenly and wait at most this long, instead of being refused.
    #[serde(default, with = "optional_millis", skip_serializing_if = "Option::is_none")]
    pub pace: Option<Duration>,
    /// Values with a threshold of their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exceptions: BTreeMap<String, u64>,
    /// At most so many values are remembered; whoever was asked for longest ago is forgotten.
    #[serde(default = "values")]
    pub values: usize,
}

const fn one_second() -> Duration {
    Duration::from_secs(1)
}

/// As many values as Sentinel remembers for a rule by the second.
const fn values() -> usize {
    4_000
}

impl HotParamRule {
    /// At most `threshold` entries a second of each value of parameter `param`.
    pub fn qps(id: &str, resource: &str, param: usize, threshold: u64) -> Self {
        Self {
            id: id.into(),
            resource: resource.into(),
            param,
            measure: Measure::Qps,
            threshold,
            burst: 0,
            per: one_second(),
            pace: None,
            exceptions: BTreeMap::new(),
            values: values(),
        }
    }
}

/// What opens a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trip {
    /// More than this share of the calls took longer than `slower_than`.
    SlowRatio {
        /// A call is slow above this.
        #[serde(with = "millis")]
        slower_than: Duration,
        /// From 0 to 1; at 1 all of them must be slow.
        ratio: f64,
    },
    /// More than this share of the calls failed.
    ErrorRatio {
        /// From 0 to 1.
        ratio: f64,
    },
    /// More calls than this failed.
    ErrorCount {
        /// How many are borne.
        count: u64,
    },
}

/// When a resource is left alone, and how it comes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerRule {
    /// Its name.
    pub id: Arc<str>,
    /// What it rules.
    pub resource: Arc<str>,
    /// What opens it.
    pub trip: Trip,
    /// How long it stays open before one probe is let through.
    #[serde(with = "seconds")]
    pub open_for: Duration,
    /// Fewer calls than this in the interval say nothing.
    #[serde(default = "min_calls")]
    pub min_calls: u64,
    /// Over which time calls are counted.
    #[serde(default = "one_second", with = "seconds")]
    pub interval: Duration,
}

const fn min_calls() -> u64 {
    5
}

/// What all inbound resources together may take. Each field that is set is a limit of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemRule {
    /// Its name.
    pub id: Arc<str>,
    /// Load average of one minute above which only as much may be inside as the fastest answers sustain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_load: Option<f64>,
    /// Share of the processors, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cpu: Option<f64>,
    /// Entries a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_qps: Option<f64>,
    /// Average time of an answer.
    #[serde(default, with = "optional_millis", skip_serializing_if = "Option::is_none")]
    pub max_rt: Option<Duration>,
    /// Entries at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u64>,
}

/// Who may enter a resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityRule {
    /// Its name.
    pub id: Arc<str>,
    /// What it rules.
    pub resource: Arc<str>,
    /// The callers that are named.
    pub callers: Vec<Arc<str>>,
    /// Whether they are the only ones who may enter, or the only ones who may not.
    pub allow: bool,
}

/// Durations in whole or broken seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(it: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(it.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(from)?;
        Duration::try_from_secs_f64(seconds).map_err(|_| D::Error::custom("want seconds, zero or more"))
    }
}

/// Durations in milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(it: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(it.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

/// The same where there may be none.
mod optional_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(it: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match it {
            Some(it) => super::millis::serialize(it, to),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_millis))
    }
}
