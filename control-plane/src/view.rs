//! What the control plane lets others see: the current plan as one immutable snapshot, and moves as they
//! happen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::plan::Reason;
use types::{Generation, Sku, Tier, Timestamp};

use crate::planner::{Decision, Override};

/// The plan in force. Everything in it is on disk.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PlanView {
    /// Rises when some product's tier or override changes.
    pub generation: Generation,
    /// Every planned product.
    pub decisions: BTreeMap<Sku, Decision>,
    /// Overrides in force.
    pub overrides: BTreeMap<Sku, Override>,
    /// When it was decided.
    pub at: Timestamp,
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
