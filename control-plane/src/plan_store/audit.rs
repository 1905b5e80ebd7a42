//! The rows of the audit log: who, what, before, after, why, when.

use serde::Serialize;
use serde_json::Value;
use types::{Generation, Sku, Timestamp};

/// What was done. A closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// An operator set or replaced an override.
    OverrideSet,
    /// An operator took an override back.
    OverrideRemoved,
    /// An override reached its end.
    OverrideEnded,
    /// The planner moved a product.
    Move,
    /// The policy changed.
    Policy,
    /// Generations were raised above what a core holds.
    GenerationRaised,
    /// An operator stopped automatic moves.
    Frozen,
    /// An operator let them go on.
    Thawed,
    /// An operator stopped new purchases of a sale or a product.
    Paused,
    /// An operator let them go on.
    Resumed,
    /// Another control plane took over, or this one started.
    Led,
}

impl Action {
    /// As stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OverrideSet => "override_set",
            Self::OverrideRemoved => "override_removed",
            Self::OverrideEnded => "override_ended",
            Self::Move => "move",
            Self::Policy => "policy",
            Self::GenerationRaised => "generation_raised",
            Self::Frozen => "frozen",
            Self::Thawed => "thawed",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Led => "led",
        }
    }
}

/// A row to be appended.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAuditRow {
    /// When.
    pub at: Timestamp,
    /// Who: a token's subject, `planner`, `reconciler` or `config`.
    pub actor: String,
    /// What.
    pub action: Action,
    /// On which product, if on one.
    pub product: Option<Sku>,
    /// What was before.
    pub before: Option<Value>,
    /// What is now.
    pub after: Option<Value>,
    /// Why.
    pub why: String,
    /// The generation that carries it.
    pub generation: Generation,
}

/// A row as read back.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct AuditRow {
    /// Rises with each row; a cursor.
    pub id: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// On which product.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// What was before.
    pub before: Option<Value>,
    /// What is now.
    pub after: Option<Value>,
    /// Why.
    pub why: String,
    /// The generation that carries it.
    pub generation: Generation,
}

/// Where a reader goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// After the row with this id.
    Id(u64),
    /// At this moment and after it.
    Time(Timestamp),
}
