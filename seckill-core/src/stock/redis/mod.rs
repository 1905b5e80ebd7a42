//! Port: the lease store, where units lent by SQL are granted at memory speed. What it says is permission
//! to ask, never stock. A missing lease fails closed.

pub mod in_process;
pub(crate) mod path;
pub mod rules;
#[cfg(feature = "redis")]
pub mod server;

use std::time::Duration;

use async_trait::async_trait;
use types::{BuyerId, Epoch, IdempotencyKey, LeaseId, Sku, Timestamp};

use crate::stock::store::BodyHash;

pub use in_process::InProcessLeases;
#[cfg(feature = "redis")]
pub use server::{RedisLeases, RedisLeasesOptions};

/// A lease as it is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseLoad {
    /// The product.
    pub product: Sku,
    /// The lease.
    pub lease: LeaseId,
    /// The product's epoch.
    pub epoch: Epoch,
    /// Units lent.
    pub granted: u64,
    /// Most units per buyer.
    pub limit: u32,
    /// Sale window.
    pub opens: Timestamp,
    /// End of the sale window.
    pub closes: Timestamp,
}

/// A purchase attempt that asks for a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRequest {
    /// The product.
    pub product: Sku,
    /// The lease that the core believes open, with its epoch.
    pub lease: LeaseId,
    /// The epoch that the core believes.
    pub epoch: Epoch,
    /// Whose.
    pub buyer: BuyerId,
    /// The attempt's key.
    pub key: IdempotencyKey,
    /// What was asked for.
    pub body_hash: BodyHash,
    /// How many units.
    pub quantity: u32,
    /// The caller's clock.
    pub now: Timestamp,
}

/// The script's status, separate from the remaining count: "remaining 0" is not "sold out".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantReply {
    /// Granted, now or by the same request before: the same seq and quantity.
    Granted {
        /// The grant's number within the lease.
        seq: u64,
        /// Units granted.
        quantity: u32,
        /// Units left in the lease afterwards.
        left: u64,
    },
    /// The key was granted with another body (422).
    OtherBody,
    /// Fewer units left than asked for.
    Short {
        /// Units left.
        left: u64,
    },
    /// The buyer has as many grants in this lease as he may.
    Limit,
    /// The lease is closed here.
    Closed,
    /// No such lease here, or another lease or epoch: this store is not the owner. Fails closed.
    NotOwner,
    /// Outside the sale's window.
    OutsideWindow,
}

/// What a lease store has of an open lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseLook {
    /// Units that it was ever lent here: as it was loaded, or raised since.
    pub granted: u64,
    /// Units that it can still grant.
    pub left: u64,
}

/// What the lease store could not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseStoreError {
    /// As many calls are under way as may be; nothing was done.
    #[error("the lease store already has {0} calls under way")]
    Full(u32),
    /// No answer in time. A grant may have been made: the same call again gets the same one.
    #[error("the lease store did not answer within {0:?}")]
    Late(Duration),
    /// Not to be reached, or not able to answer now. A grant may have been made, as above.
    #[error("the lease store is unavailable: {0}")]
    Away(String),
    /// The store refuses, and will until an operator mends something; nothing was done.
    #[error("the lease store refuses: {0}")]
    Refused(String),
}

impl LeaseStoreError {
    /// Whether the same call may succeed later.
    pub fn retryable(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
    /// Its label in metrics, from a closed set.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Full(_) => "full",
            Self::Late(_) => "late",
            Self::Away(_) => "away",
            Self::Refused(_) => "refused",
        }
    }
}

/// The lease store.
#[async_trait]
pub trait LeaseStore: Send + Sync + 'static {
    /// Loads a lease. An older or equal epoch than what is loaded is refused (`false`).
    async fn load(&self, lease: LeaseLoad) -> Result<bool, LeaseStoreError>;
    /// Asks for a grant: atomic, idempotent per `(lease, buyer, key)`.
    async fn grant(&self, request: GrantRequest) -> Result<GrantReply, LeaseStoreError>;
    /// H2: marks the lease closed; `false` if it is not here.
    async fn close(&self, product: &Sku, lease: LeaseId) -> Result<bool, LeaseStoreError>;
    /// The Redis half of a top-up: raises the units lent to `granted`, as SQL says, if that is more than they are here.
    /// A repeat changes nothing. `false`, and nothing is done, if the lease is absent, closed or another one: a top-up
    /// never brings a lease to where it is not.
    async fn top_up(&self, product: &Sku, lease: LeaseId, granted: u64) -> Result<bool, LeaseStoreError>;
    /// What is here of the lease; `None` if it is not here or closed.
    async fn look(&self, product: &Sku, lease: LeaseId) -> Result<Option<LeaseLook>, LeaseStoreError>;
    /// Units left in the lease; `None` if it is not here or closed.
    async fn left(&self, product: &Sku, lease: LeaseId) -> Result<Option<u64>, LeaseStoreError> {
        Ok(self.look(product, lease).await?.map(|look| look.left))
    }
}
