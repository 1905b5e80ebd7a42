//! What the control plane and a core say to each other: plans pushed, states answered.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{CoreId, Epoch, Generation, Nonce, PageId, Phase, SaleName, Sku, Term, Tier, Timestamp};

/// Most entries in one push; a larger plan is sent in several deltas.
pub const MAX_PUSH_ENTRIES: usize = 100_000;

/// Most sales and products that are paused at once: each push carries them all.
pub const MAX_PAUSES: usize = 1_000;

/// Why a product has its tier. A closed set: it is also a metric label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// Neither hot nor warm.
    Cold,
    /// Warm.
    Warm,
    /// Hot and contended.
    Hot,
    /// Hot, but the redis path carries it easily.
    HotUncontended,
    /// Was warmer, has been below the demotion band long enough.
    Cooled,
    /// An operator decided.
    Override {
        /// Who.
        by: String,
        /// Until when.
        until: Timestamp,
        /// Why.
        why: String,
    },
    /// The sale's `initial_tier`, before and shortly after its opening.
    SaleStart,
    /// The sale fixes the tier.
    Pinned,
    /// Nothing is sellable; a move would serve nobody.
    SoldOut,
    /// A move is due but the last one is too recent.
    DwellHeld,
    /// A move is due but this tick's budget of moves is spent.
    BudgetHeld,
    /// A move is due but no core is ready to make it.
    CoreNotReady,
    /// No heat report for too long; the last tier is kept.
    Stale {
        /// Age of the last report in milliseconds.
        age_ms: u64,
    },
}

impl Reason {
    /// The name alone, for labels and tables.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Cold => "Cold",
            Self::Warm => "Warm",
            Self::Hot => "Hot",
            Self::HotUncontended => "HotUncontended",
            Self::Cooled => "Cooled",
            Self::Override { .. } => "Override",
            Self::SaleStart => "SaleStart",
            Self::Pinned => "Pinned",
            Self::SoldOut => "SoldOut",
            Self::DwellHeld => "DwellHeld",
            Self::BudgetHeld => "BudgetHeld",
            Self::CoreNotReady => "CoreNotReady",
            Self::Stale { .. } => "Stale",
        }
    }
}

/// One product's decided tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlanEntry {
    /// Which product.
    pub product: Sku,
    /// Its tier.
    pub tier: Tier,
    /// Why.
    #[serde(flatten)]
    pub reason: Reason,
}

/// What takes no new purchases at present. Every push carries it whole: a pause must not wait for a base.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pauses {
    /// Every product of these sales.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub sales: BTreeSet<SaleName>,
    /// These products.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub products: BTreeSet<Sku>,
}

impl Pauses {
    /// Nothing is paused.
    pub fn is_empty(&self) -> bool {
        self.sales.is_empty() && self.products.is_empty()
    }
    /// How many sales and products.
    pub fn len(&self) -> usize {
        self.sales.len() + self.products.len()
    }
    /// Whether this product of this sale takes no new purchases.
    pub fn stops(&self, sale: &SaleName, product: &Sku) -> bool {
        !self.is_empty() && (self.sales.contains(sale) || self.products.contains(product))
    }
}

/// `POST /internal/plan`: a plan, whole or as a delta against `base`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanPush {
    /// The leader that pushes; a core refuses one older than it has heard of. 0: one that knows no terms.
    #[serde(default)]
    pub term: Term,
    /// For whom it is meant; another core refuses it. Absent: for whoever reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core: Option<CoreId>,
    /// The plan's number; a core ignores anything not newer than what it has.
    pub generation: Generation,
    /// Tells two pushes of one generation apart.
    pub nonce: Nonce,
    /// `None`: the whole plan. `Some(g)`: only what changed since generation `g`, which the core must hold.
    pub base: Option<Generation>,
    /// The decisions.
    pub entries: Vec<PlanEntry>,
    /// What is paused, whole.
    #[serde(default, skip_serializing_if = "Pauses::is_empty")]
    pub pauses: Pauses,
}

/// A core's answer to a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum PlanAnswer {
    /// Taken as the core's plan (also said for a repeat of the plan it has). Moves follow; `state` shows how far they are.
    Ack {
        /// The generation the core now holds.
        generation: Generation,
        /// The push that is answered.
        nonce: Nonce,
        /// The core's products as they are now.
        state: CoreState,
    },
    /// Not taken; the core keeps its last good plan.
    Nack {
        /// The generation the core holds.
        generation: Generation,
        /// The push that is answered.
        nonce: Nonce,
        /// Why.
        why: NackReason,
    },
}

/// Why a push was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum NackReason {
    /// Older than what the core holds.
    StaleGeneration,
    /// A delta whose base the core does not hold: send the whole plan.
    UnknownBase,
    /// A product that the core does not sell.
    UnknownProduct {
        /// The first such product.
        product: Sku,
    },
    /// From a leader that another one has followed.
    OldLeader {
        /// The newest term that the core has heard of.
        term: Term,
    },
    /// Meant for another core.
    WrongCore {
        /// Who answers.
        core: CoreId,
    },
}

/// `GET /internal/state`: everything the planner needs from one core.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CoreState {
    /// Which core.
    pub core: CoreId,
    /// Changes with every start of the core's process.
    pub incarnation: u64,
    /// The generation it holds; 0 for none.
    pub generation: Generation,
    /// The newest leader that it has taken a plan from.
    #[serde(default)]
    pub term: Term,
    /// Purchases per second that its redis path was measured to carry.
    pub redis_capacity: u64,
    /// Every product of sales that are not closed.
    pub products: Vec<ProductState>,
}

/// One product as a core sees it; also the value in the compacted topic `product-state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProductState {
    /// Which product.
    pub product: Sku,
    /// Its sale.
    pub sale: SaleName,
    /// Pages whose heat is this product's.
    pub pages: Vec<PageId>,
    /// The path on which it sells.
    pub tier: Tier,
    /// Selling, or between fence and open.
    pub phase: Phase,
    /// Where a draining product is going.
    pub target: Option<Tier>,
    /// Number of its moves.
    pub epoch: Epoch,
    /// `free + Σ(granted − consumed)` over leases not CLOSED.
    pub sellable: u64,
    /// Units reserved by unpaid orders.
    pub reserved: u64,
    /// Units for sale in all.
    pub total: u64,
    /// Opening of its sale.
    pub opens: Timestamp,
    /// Close of its sale.
    pub closes: Timestamp,
    /// The sale's wish for the opening second.
    pub initial_tier: Option<Tier>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_reads_back_what_it_writes() {
        let push = PlanPush {
            term: Term::new(3),
            core: Some(CoreId::new("core-1").expect("a core")),
            generation: Generation::new(7),
            nonce: Nonce::new(1),
            base: Some(Generation::new(6)),
            entries: vec![
                PlanEntry { product: Sku::new("a").expect("a sku"), tier: Tier::Queue, reason: Reason::Hot },
                PlanEntry {
                    product: Sku::new("b").expect("a sku"),
                    tier: Tier::Db,
                    reason: Reason::Stale { age_ms: 12_000 },
                },
            ],
            pauses: Pauses { sales: BTreeSet::from([SaleName::new("autumn").expect("a sale")]), ..Pauses::default() },
        };
        let text = serde_json::to_string(&push).expect("it serialises");
        insta::assert_snapshot!(text, @r#"{"term":3,"core":"core-1","generation":7,"nonce":1,"base":6,"entries":[{"product":"a","tier":"queue","reason":"hot"},{"product":"b","tier":"db","reason":"stale","age_ms":12000}],"pauses":{"sales":["autumn"]}}"#);
        assert_eq!(serde_json::from_str::<PlanPush>(&text).expect("it parses"), push);
    }
}
