//! The redis tier without Redis, called "redis (in-process)": leases in this process's memory, one lock per
//! shard of products. Nothing is persisted, so that after a restart it says `NotOwner` and never invents stock.

use std::hash::BuildHasher;

use async_trait::async_trait;
use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};
use rustc_hash::FxBuildHasher;
use types::{BuyerId, IdempotencyKey, LeaseId, Sku};

use super::rules::{self, Grant, GrantRuling, LeaseView, Lent};
use super::{GrantReply, GrantRequest, LeaseLoad, LeaseLook, LeaseStore, LeaseStoreError};

/// Locks: many more than cores, so that two hot products rarely share one.
const SHARDS: usize = 64;

#[derive(Clone)]
struct Lease {
    load: LeaseLoad,
    left: u64,
    next_seq: u64,
    closed: bool,
    // Both bounded by the lease: a grant takes a unit at least, so there are never more than `granted`.
    grants: HashMap<(BuyerId, IdempotencyKey), Grant, FxBuildHasher>,
    held: HashMap<BuyerId, u32, FxBuildHasher>,
}

impl Lease {
    fn new(load: LeaseLoad) -> Self {
        Self {
            left: load.granted,
            load,
            next_seq: 0,
            closed: false,
            grants: HashMap::default(),
            held: HashMap::default(),
        }
    }

    fn lent(&self) -> Lent {
        let units = LeaseLook { granted: self.load.granted, left: self.left };
        Lent { lease: self.load.lease, closed: self.closed, units }
    }

    fn grant(&mut self, request: &GrantRequest) -> GrantReply {
        let name = (request.buyer.clone(), request.key.clone());
        let view = LeaseView {
            lease: self.load.lease,
            epoch: self.load.epoch,
            closed: self.closed,
            opens: self.load.opens,
            closes: self.load.closes,
            limit: self.load.limit,
            left: self.left,
            held: self.held.get(&name.0).copied().unwrap_or(0),
            grant: self.grants.get(&name).copied(),
        };
        match rules::rule(request, Some(&view)) {
            GrantRuling::Say(reply) => reply,
            GrantRuling::Take => {
                let (seq, quantity) = (self.next_seq, request.quantity);
                self.left -= u64::from(quantity);
                self.next_seq += 1;
                self.held.insert(name.0.clone(), view.held + quantity);
                self.grants.insert(name, Grant { body_hash: request.body_hash, seq, quantity });
                GrantReply::Granted { seq, quantity, left: self.left }
            }
        }
    }
}

/// Leases in this process's memory.
pub struct InProcessLeases {
    shards: Vec<Mutex<HashMap<Sku, Lease, FxBuildHasher>>>,
}

impl Default for InProcessLeases {
    fn default() -> Self {
        Self::new()
    }
}

impl InProcessLeases {
    /// Empty.
    pub fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// As a replica has it: a copy that goes its own way.
    #[cfg(test)]
    pub(crate) fn copy(&self) -> Self {
        Self { shards: self.shards.iter().map(|shard| Mutex::new(shard.lock().clone())).collect() }
    }

    /// The lease of a product that lies here, if any.
    #[cfg(test)]
    pub(crate) fn lease_of(&self, product: &Sku) -> Option<LeaseId> {
        self.shard(product).get(product).map(|here| here.load.lease)
    }

    fn shard(&self, product: &Sku) -> MutexGuard<'_, HashMap<Sku, Lease, FxBuildHasher>> {
        let hash = FxBuildHasher.hash_one(product);
        // The upper bits: the lower ones choose the slot inside the shard's own map.
        self.shards[(hash >> 40) as usize % SHARDS].lock()
    }
}

#[async_trait]
impl LeaseStore for InProcessLeases {
    async fn load(&self, lease: LeaseLoad) -> Result<bool, LeaseStoreError> {
        let mut shard = self.shard(&lease.product);
        if !rules::may_load(shard.get(&lease.product).map(|old| old.load.epoch), lease.epoch) {
            return Ok(false);
        }
        shard.insert(lease.product.clone(), Lease::new(lease));
        Ok(true)
    }

    async fn grant(&self, request: GrantRequest) -> Result<GrantReply, LeaseStoreError> {
        let mut shard = self.shard(&request.product);
        Ok(shard.get_mut(&request.product).map_or(GrantReply::NotOwner, |lease| lease.grant(&request)))
    }

    async fn close(&self, product: &Sku, lease: LeaseId) -> Result<bool, LeaseStoreError> {
        let mut shard = self.shard(product);
        Ok(match shard.get_mut(product) {
            Some(here) if here.load.lease == lease => {
                here.closed = true;
                // The shell stays, so that an older epoch is still refused; its grants are of no more use.
                here.grants = HashMap::default();
                here.held = HashMap::default();
                true
            }
            _ => false,
        })
    }

    async fn top_up(&self, product: &Sku, lease: LeaseId, granted: u64) -> Result<bool, LeaseStoreError> {
        let mut shard = self.shard(product);
        let here = shard.get_mut(product);
        let Some(units) = rules::top_up(here.as_deref().map(Lease::lent).as_ref(), lease, granted) else {
            return Ok(false);
        };
        if let Some(here) = here {
            (here.load.granted, here.left) = (units.granted, units.left);
        }
        Ok(true)
    }

    async fn look(&self, product: &Sku, lease: LeaseId) -> Result<Option<LeaseLook>, LeaseStoreError> {
        let shard = self.shard(product);
        let here = shard.get(product).map(Lease::lent);
        Ok(here.filter(|here| here.lease == lease && !here.closed).map(|here| here.units))
    }
}
