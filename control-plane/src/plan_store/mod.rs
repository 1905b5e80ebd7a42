//! Port: the durable memory of the control planes of one installation, in SQL: the leader, generations with their
//! deltas, the plan, overrides, pauses, policy versions, the audit log. A generation is stored before anybody hears of
//! it, and only the leader stores. Providers: [`sqlite`], [`mariadb`]; both pass the same contract suite.

pub mod audit;
#[cfg(feature = "mysql")]
pub mod mariadb;
pub mod sqlite;
mod text;

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use types::plan::Pauses;
use types::{Generation, SaleName, Sku, Term, Tier, Timestamp};

pub use audit::{Action, AuditRow, NewAuditRow, Since};

use crate::planner::{Decision, Override};
use crate::policy::Policy;

/// Most rows of any answer.
pub const MAX_ROWS: usize = 10_000;

/// What the store could not do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database does not answer, is busy or has no room; the same call may succeed later.
    #[error("plan store: {0}")]
    Unavailable(String),
    /// It cannot be used as it is: a place that is none, settings that cannot work, a newer or foreign schema.
    #[error("plan store {place}: {why}")]
    Unusable {
        /// Where.
        place: String,
        /// Why, and what would help.
        why: String,
    },
    /// A row does not hold what this program writes.
    #[error("plan store: row {row} of {table} is damaged: {why}")]
    Damaged {
        /// The table.
        table: &'static str,
        /// Its key.
        row: String,
        /// What is wrong.
        why: String,
    },
    /// Another control plane leads, or wrote a generation: this one must load again before it writes.
    #[error("plan store: not the leader any more (term {term}, generation {generation})")]
    NotLeader {
        /// The term that holds.
        term: Term,
        /// The generation that is there.
        generation: Generation,
    },
    /// The writer has ended.
    #[error("plan store: closed")]
    Closed,
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub const fn retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::NotLeader { .. })
    }
}

/// Who leads, as the lease row says. No clock is compared between machines: a stand-by takes over when `beat` has
/// stood still for long enough by its own clock.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leader {
    /// Rises with every take-over; the fence of every write.
    pub term: Term,
    /// Who holds it; nobody after an orderly end.
    pub holder: Option<String>,
    /// Where its ops REST answers.
    pub url: String,
    /// Rises with every renewal.
    pub beat: u64,
    /// When it was renewed, by the holder's clock; used only to see at a start that nobody can be there any more.
    pub renewed_at: Timestamp,
    /// Rises with every change that was stored.
    pub revision: u64,
}

/// A standing order that stops automatic moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Freeze {
    /// Who.
    pub by: String,
    /// Why.
    pub why: String,
    /// Since when.
    pub at: Timestamp,
}

/// A sale or a product, as what is paused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Every product of a sale.
    Sale(SaleName),
    /// One product.
    Product(Sku),
}

impl Target {
    /// `sale` or `product`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Sale(_) => "sale",
            Self::Product(_) => "product",
        }
    }
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Sale(sale) => sale.as_str(),
            Self::Product(product) => product.as_str(),
        }
    }
    fn parse(kind: &str, name: &str) -> Result<Self, StoreError> {
        let damaged = |why: String| StoreError::Damaged { table: "pause", row: name.to_owned(), why };
        match kind {
            "sale" => SaleName::new(name).map(Self::Sale).map_err(|e| damaged(e.to_string())),
            "product" => Sku::new(name).map(Self::Product).map_err(|e| damaged(e.to_string())),
            other => Err(damaged(format!("{other:?} cannot be paused"))),
        }
    }
}

/// The pauses as cores are told.
pub fn pauses_of(paused: &BTreeMap<Target, Freeze>) -> Pauses {
    let mut all = Pauses::default();
    for target in paused.keys() {
        match target {
            Target::Sale(sale) => all.sales.insert(sale.clone()),
            Target::Product(product) => all.products.insert(product.clone()),
        };
    }
    all
}

/// Everything that a leader begins with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Saved {
    /// The last generation that may have been pushed.
    pub generation: Generation,
    /// The plan.
    pub decisions: BTreeMap<Sku, Decision>,
    /// Overrides, ended ones included.
    pub overrides: BTreeMap<Sku, Override>,
    /// What is paused, by whom and why.
    pub paused: BTreeMap<Target, Freeze>,
    /// Automatic moves are stopped.
    pub frozen: Option<Freeze>,
    /// The newest policy with its version; `None` if it is of a shape that this program does not know.
    pub policy: Option<(u64, Policy)>,
    /// The policy that the configuration asked for last; it changes the policy only when it changes itself.
    pub configured: Option<Policy>,
    /// The store's revision when this was read.
    pub revision: u64,
}

/// A new version of the policy.
#[derive(Debug, Clone, PartialEq)]
pub struct NewPolicy {
    /// When.
    pub at: Timestamp,
    /// Who: a token's subject, or `config`.
    pub by: String,
    /// Why.
    pub why: String,
    /// The numbers.
    pub policy: Policy,
}

/// A version of the policy.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct PolicyRow {
    /// Its number.
    pub version: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// Why.
    pub why: String,
    /// The numbers, as they were written.
    pub policy: serde_json::Value,
}

/// One generation with what it changed.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct GenerationRow {
    /// Its number.
    pub generation: Generation,
    /// When it was decided.
    pub at: Timestamp,
    /// Under which leader.
    pub term: Term,
    /// Products that it carries.
    pub products: u64,
    /// Products on each tier after it: db, redis, queue.
    pub tiers: [u64; Tier::ALL.len()],
}

/// One atomic step of the plan.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// When it was decided.
    pub at: Timestamp,
    /// The generation on which this step was decided; anything else in the store refuses it.
    pub base: Generation,
    /// The generation after it; equal to `base` if nothing that is pushed changes.
    pub generation: Generation,
    /// Decisions to be written; those of a new generation are also kept as its delta.
    pub decisions: Vec<(Sku, Decision)>,
    /// Products that are planned no more.
    pub dropped: Vec<Sku>,
    /// Overrides that are new or changed.
    pub overrides: Vec<(Sku, Override)>,
    /// Overrides that are over.
    pub overrides_gone: Vec<Sku>,
    /// What is paused from now on, and what no longer is.
    pub paused: Vec<(Target, Option<Freeze>)>,
    /// Whether automatic moves are stopped, if that changes.
    pub frozen: Option<Option<Freeze>>,
    /// A new version of the policy.
    pub policy: Option<NewPolicy>,
    /// What the configuration asks for, if that changes.
    pub configured: Option<Policy>,
    /// Products on each tier after it.
    pub tiers: [u64; Tier::ALL.len()],
    /// What is told about it.
    pub audit: Vec<NewAuditRow>,
}

/// Port: the store.
///
/// Promise: [`PlanStore::commit`] is atomic and durable when it answers; it changes nothing unless `term` is the term
/// of the lease row and `change.base` the stored generation; a generation and a term never go back; audit rows are
/// never changed and their ids rise in the order of their commits.
#[async_trait]
pub trait PlanStore: Send + Sync + 'static {
    /// Reads everything.
    async fn load(&self) -> Result<Saved, StoreError>;
    /// Reads the lease row.
    async fn leader(&self) -> Result<Leader, StoreError>;
    /// Takes the lease if it is still as `seen`; answers the new term, or `None` if somebody was faster.
    async fn campaign(&self, me: &str, url: &str, seen: &Leader, now: Timestamp) -> Result<Option<Term>, StoreError>;
    /// Keeps the lease; `false` if it is another's by now.
    async fn renew(&self, term: Term, now: Timestamp) -> Result<bool, StoreError>;
    /// Raises the leader's own term above `above` (a core has heard of a newer one than the store knows, after a loss
    /// of the store); `None` if the lease is another's by now.
    async fn raise_term(&self, term: Term, above: Term) -> Result<Option<Term>, StoreError>;
    /// Gives the lease back, so that the next one need not wait.
    async fn resign(&self, term: Term) -> Result<(), StoreError>;
    /// Makes one step durable, wholly or not at all.
    async fn commit(&self, term: Term, change: Change) -> Result<(), StoreError>;
    /// Audit rows after `since`, oldest first, at most `limit`.
    async fn audit(&self, since: Since, limit: usize) -> Result<Vec<AuditRow>, StoreError>;
    /// Generations below `before`, newest first, at most `limit`.
    async fn generations(&self, before: Option<Generation>, limit: usize) -> Result<Vec<GenerationRow>, StoreError>;
    /// Decisions that generations since `since` carry, of one product or of all, newest first, at most `limit`.
    async fn history(
        &self,
        product: Option<&Sku>,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<(Sku, Decision)>, StoreError>;
    /// Versions of the policy, newest first, at most `limit`.
    async fn policies(&self, limit: usize) -> Result<Vec<PolicyRow>, StoreError>;
    /// Forgets deltas of generations decided before `before`; answers how many. The plan itself stays whole.
    async fn compact(&self, before: Timestamp) -> Result<u64, StoreError>;
}
