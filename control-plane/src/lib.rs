//! Heat in, a plan with reasons out; overrides, audit log, push until acknowledged. A report's way reads
//! `observe` → `planner` → `plan_store` → `reconcile` → `api`; `brain` is the one owner that walks it.
//! It never touches stock or orders: it only says which path a product should sell on.

pub mod api;
mod brain;
mod desk;
mod elect;
#[cfg(test)]
mod fixtures;
pub mod metrics;
pub mod observe;
mod options;
pub mod plan_store;
pub mod planner;
mod policy;
pub mod reconcile;
pub mod record;
mod service;
mod view;

pub use options::{MAX_CORES, Options};
pub use plan_store::PlanStore;
#[cfg(feature = "mysql")]
pub use plan_store::mariadb::{MariaPlans, MariaPlansOptions};
pub use plan_store::sqlite::SqlitePlans;
pub use policy::Policy;
pub use reconcile::CoreToken;
pub use service::{ControlPlane, Error, Handle};
pub use view::{PlanView, TierMove};
