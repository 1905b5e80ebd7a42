//! What the control plane lets others see: the current plan as one immutable snapshot, and moves as they
//! happen.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use types::plan::{Pauses, Reason};
use types::{Generation, Sku, Term, Tier, Timestamp};

use crate::plan_store::{Freeze, Target};
use crate::planner::{Decisions, Override};
use crate::policy::Policy;

/// The plan in force. Everything in it is in the store, but for the numbers behind decisions that did not change.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PlanView {
    /// Under which term we lead; `None`: another control plane leads, and this is what it stored.
    pub term: Option<Term>,
    /// Who leads and where, while it is not us.
    pub leader: Option<(String, String)>,
    /// Rises when something that is pushed changes.
    pub generation: Generation,
    /// Every planned product.
    pub decisions: Decisions,
    /// Overrides in force.
    pub overrides: Arc<BTreeMap<Sku, Override>>,
    /// What is paused, by whom and why.
    pub paused: Arc<BTreeMap<Target, Freeze>>,
    /// The same as cores are told.
    pub pauses: Arc<Pauses>,
    /// Automatic moves are stopped.
    pub frozen: Option<Freeze>,
    /// The planner's numbers and their version.
    pub policy: Arc<Policy>,
    /// See `policy`.
    pub policy_version: u64,
    /// Which products the last generations carried.
    pub changes: Changes,
    /// When it was decided.
    pub at: Timestamp,
}

/// Generations of which the products are remembered: a core that is further behind gets what it lacks by a look at
/// every product.
const REMEMBERED: usize = 64;

/// What the last generations carried, so that a delta costs what it carries and not the plan.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// Everything after this generation is in `steps`.
    floor: Generation,
    steps: Arc<Vec<(Generation, Arc<[Sku]>)>>,
}

impl Changes {
    /// Nothing is known of what came before `floor`.
    pub fn since(floor: Generation) -> Self {
        Self { floor, steps: Arc::default() }
    }
    /// With one more step, which leads to `generation`.
    #[must_use]
    pub fn with(&self, generation: Generation, products: Arc<[Sku]>) -> Self {
        let mut steps = Vec::clone(&self.steps);
        let mut floor = self.floor;
        if steps.len() == REMEMBERED {
            floor = steps.remove(0).0;
        }
        steps.push((generation, products));
        Self { floor, steps: Arc::new(steps) }
    }
    /// Products that may differ from what a holder of `base` has; `None`: not known any more. A product may come
    /// twice.
    pub fn after(&self, base: Generation) -> Option<impl Iterator<Item = &Sku>> {
        let from = self.steps.partition_point(|(generation, _)| *generation <= base);
        (base >= self.floor).then(|| self.steps[from..].iter().flat_map(|(_, products)| products.iter()))
    }
}

/// A product's planned tier has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierMove {
    /// Which product.
    pub product: Sku,
    /// Its tier until now.
    pub from: Tier,
    /// Its tier from now on.
    pub to: Tier,
    /// Why.
    #[serde(flatten)]
    pub reason: Reason,
    /// The generation that carries it.
    pub generation: Generation,
    /// When it was decided.
    pub at: Timestamp,
}
