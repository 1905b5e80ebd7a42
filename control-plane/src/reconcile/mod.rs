//! Brings every core to the newest plan: pushes by signal and by period until the core acknowledges, and
//! reads the cores' states. Pushes may be lost, repeated, delayed or reordered; all of that ends in the
//! newest plan. It never decides a tier.

pub mod http_core;
pub mod link;
mod run;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use types::plan::{CoreState, PlanAnswer, PlanPush, ProductState};
use types::{Generation, Phase, Sku, Timestamp};

use crate::observe::CoreSeen;
use crate::planner::Decision;

pub use http_core::{CoreToken, HttpCore};
pub use link::{Link, Next, Renew};
pub(crate) use run::{LinkParts, run};

/// Why a core gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// No answer: refused, reset, timed out.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// The core does not accept our token.
    #[error("the core refuses our token (status {0}); both sides need the same one")]
    Unauthorized(u16),
    /// An answer with another status.
    #[error("status {status}: {text}")]
    Status {
        /// The status.
        status: u16,
        /// The beginning of the body.
        text: String,
    },
    /// The push was refused, and another one would be too.
    #[error("the core refuses the plan: {0}")]
    Refused(String),
    /// An answer that is not what was asked for.
    #[error("the answer cannot be read: {0}")]
    Malformed(String),
}

impl CoreError {
    /// Whether the same call may succeed later. A core may be replaced by a newer one at any time, so
    /// nothing is given up for good.
    pub const fn retryable(&self) -> bool {
        true
    }
    /// A closed set of names for labels.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Unauthorized(_) => "unauthorized",
            Self::Status { .. } => "status",
            Self::Refused(_) => "refused",
            Self::Malformed(_) => "malformed",
        }
    }
}

/// Port: one core, as the reconciler talks to it.
///
/// Promise asked for: none about delivery. A push may have had its effect although an error is returned.
#[async_trait]
pub trait CoreClient: Send + Sync + 'static {
    /// Hands over a plan or a delta.
    async fn push(&self, push: PlanPush) -> Result<PlanAnswer, CoreError>;
    /// Asks for everything that the planner needs.
    async fn state(&self) -> Result<CoreState, CoreError>;
}

/// What is known of one configured core; written by its reconciler only.
#[derive(Debug, Clone, Default)]
pub struct CoreView {
    /// Where it is.
    pub base_url: String,
    /// Its last state.
    pub seen: CoreSeen,
    /// The newest of our generations that it has acknowledged since our start and its own.
    pub acknowledged: Option<Generation>,
    /// The last failure, until the next success.
    pub trouble: Option<Trouble>,
}

/// The last failure of a core.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Trouble {
    /// What happened.
    pub error: String,
    /// When.
    pub at: Timestamp,
    /// How many in a row.
    pub failures: u32,
}

/// How far one product's decision is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Enforcement {
    /// Every core that sells it and was heard lately sells it on the planned tier.
    Applied,
    /// Not yet: the push is under way or the product drains.
    Pending,
    /// No core that sells it was heard lately.
    Unknown,
}

/// What the cores that were heard lately say about products, made for many look-ups.
pub struct Applied<'a> {
    cores: Vec<(Generation, HashMap<&'a Sku, &'a ProductState>)>,
}

impl<'a> Applied<'a> {
    /// From the cores' last words; `only`: for one product alone.
    pub fn new(cores: &'a [CoreView], only: Option<&Sku>, now: Timestamp, silence: Duration) -> Self {
        let heard = cores.iter().filter(|c| c.seen.fresh(now, silence)).filter_map(|c| c.seen.state.as_ref());
        let sold = |products: &'a [ProductState]| {
            products.iter().filter(|p| only.is_none_or(|o| *o == p.product)).map(|p| (&p.product, p)).collect()
        };
        Self { cores: heard.map(|state| (state.generation, sold(&state.products))).collect() }
    }

    /// Compares a decision with it. "Enforced" means the core's tier and phase, not the push.
    pub fn enforcement(&self, product: &Sku, decision: &Decision) -> Enforcement {
        let mut all = Enforcement::Unknown;
        for (generation, products) in &self.cores {
            let Some(seen) = products.get(product) else { continue };
            if seen.tier != decision.tier || seen.phase != Phase::Active || *generation < decision.generation {
                return Enforcement::Pending;
            }
            all = Enforcement::Applied;
        }
        all
    }
}
