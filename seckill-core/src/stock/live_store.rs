//! Port: what live updates ask of the store beside the event log: the events behind a sequence, where a buyer stands
//! at one moment, and passes that are good once. It moves no stock and no order.

use async_trait::async_trait;
use types::{BuyerId, OrderEvent, Timestamp};

use crate::stock::store::{OrderRow, StoreError};

/// Order events read back from the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Every event after the one that was asked for, up to and including this sequence, is in `events`; one that is
    /// not will never be. Sequences are given out in the order of commits, so nothing appears behind it later.
    pub through: u64,
    /// The events, oldest first.
    pub events: Vec<OrderEvent>,
}

/// A buyer's orders at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The last event of the outbox at that moment: the orders show every event up to it and none behind it.
    pub through: u64,
    /// His newest orders, newest first.
    pub orders: Vec<OrderRow>,
}

/// SHA-256 of a pass in lower-case hexadecimal: who reads the table cannot use what he finds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PassDigest(String);

impl PassDigest {
    /// The digest of these 32 bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes.iter().map(|b| format!("{b:02x}")).collect())
    }
    /// As it stands in the table.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The part of the store that live updates stand on.
#[async_trait]
pub trait LiveStore: Send + Sync + 'static {
    /// Up to `max` events behind the sequence `after`, relayed or not, oldest first. With `after` at or beyond the
    /// end, `through` is the end.
    async fn told(&self, after: u64, max: usize) -> Result<Told, StoreError>;
    /// This buyer's newest orders, at most `max`, and the last event at that very moment.
    async fn standing(&self, buyer: &BuyerId, max: usize) -> Result<Standing, StoreError>;

    /// Keeps a new pass of this buyer, good until `until`. The same digest again changes nothing.
    async fn issue_pass(&self, pass: &PassDigest, buyer: &BuyerId, until: Timestamp) -> Result<(), StoreError>;
    /// Takes a pass out of use: whose it was, if it is there and `now` is before its end. Of any number of calls for
    /// one pass, on whatever cores, at most one is told a buyer.
    async fn use_pass(&self, pass: &PassDigest, now: Timestamp) -> Result<Option<BuyerId>, StoreError>;
    /// Forgets up to `max` passes whose end is past. Answers how many.
    async fn forget_passes(&self, now: Timestamp, max: usize) -> Result<usize, StoreError>;
}
