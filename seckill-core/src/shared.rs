//! What every part of one running core holds in common: the ports and the few pieces of memory. It has no
//! behaviour of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use eventlog::{EventLog, EventLogError, NewRecord, Position, Topic};
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, broadcast};
use tokio::time::Instant;
use types::plan::Pauses;
use types::{Clock, CoreId, Invalid, LeaseId, Sku, Timestamp, topics};

use crate::credits::Edges;
use crate::handover::MoveDone;
use crate::heard::Heard;
use crate::ids::Ids;
use crate::live::Live;
use crate::meters::Meters;
use crate::options::Options;
use crate::recent::Recent;
use crate::stock::queue::backlog::{Backlog, Rate};
use crate::stock::queue::resubmit::Resubmissions;
use crate::stock::redis::LeaseStore;
use crate::stock::store::StockStore;
use crate::ticket::TicketSecret;
use crate::tier_table::TierTable;
use crate::wake::Wake;

/// Longest wait of a purchase call for its record's acknowledgement: a log that takes longer is away, and the shopper
/// is told to ask again while his call and his deadline still have time.
const APPEND_WITHIN: Duration = Duration::from_secs(4);

/// The topics that a core writes or reads.
pub(crate) struct Topics {
    pub(crate) grants: Topic,
    pub(crate) queue: Topic,
    pub(crate) order_events: Topic,
    pub(crate) product_state: Topic,
    pub(crate) dead_letters: Topic,
}

impl Topics {
    pub(crate) fn new() -> Result<Self, Invalid> {
        Ok(Self {
            grants: Topic::new(topics::PURCHASE_GRANTS)?,
            queue: Topic::new(topics::PURCHASE_QUEUE)?,
            order_events: Topic::new(topics::ORDER_EVENTS)?,
            product_state: Topic::new(topics::PRODUCT_STATE)?,
            dead_letters: Topic::new(topics::DEAD_LETTERS)?,
        })
    }
}

/// When a task last showed that it lives, in milliseconds of real time since the start; −1 before the first time.
pub(crate) struct Pulse(AtomicI64, Instant);

impl Pulse {
    pub(crate) fn new() -> Self {
        Self(AtomicI64::new(-1), Instant::now())
    }
    pub(crate) fn beat(&self) {
        self.0.store(i64::try_from(self.1.elapsed().as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
    /// Whether it has beaten within `limit`.
    pub(crate) fn alive(&self, limit: Duration) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        u64::try_from(last).is_ok_and(|ms| self.1.elapsed() <= Duration::from_millis(ms) + limit)
    }
}

pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) core: CoreId,
    pub(crate) incarnation: u64,
    pub(crate) store: Arc<dyn StockStore>,
    pub(crate) leases: Arc<dyn LeaseStore>,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) topics: Topics,
    pub(crate) table: TierTable,
    pub(crate) meters: Meters,
    pub(crate) recent: Recent,
    /// How far this core has heard of all cores' orders.
    pub(crate) heard: Heard,
    pub(crate) backlog: Backlog,
    /// Attempts that were granted from a lease and are not decided yet: edges get so many credits less.
    pub(crate) granted: Backlog,
    /// The edges that ask for credits.
    pub(crate) edges: Edges,
    pub(crate) queue_rate: Rate,
    pub(crate) grants_rate: Rate,
    pub(crate) secret: TicketSecret,
    pub(crate) ids: Ids,
    /// Requests that wait for a move to end.
    pub(crate) handover_waiters: Semaphore,
    /// Leases that an alarm has condemned; the mover fences them. At most one per product.
    pub(crate) condemned: Mutex<HashMap<Sku, LeaseId>>,
    /// Attempts that must be submitted again and found no path yet.
    pub(crate) resubmissions: Resubmissions,
    pub(crate) wake_mover: Wake,
    pub(crate) wake_outbox: Notify,
    pub(crate) live: Arc<Live>,
    /// What the plan pauses: looked at by each purchase, replaced by each push.
    pub(crate) pauses: ArcSwap<Pauses>,
    pub(crate) moves: broadcast::Sender<MoveDone>,
    pub(crate) grants_pulse: Pulse,
    pub(crate) queue_pulse: Pulse,
}

impl Shared {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Waits until `d` has passed on this core's clock.
    pub(crate) async fn sleep(&self, d: Duration) {
        tokio::time::sleep(self.clock.real(d)).await;
    }

    /// Appends a purchase's record while its shopper waits: fails rather than wait for a log that is away. The record
    /// may lie there all the same, as after any failed append. Answers where it lies, if the log has said so.
    pub(crate) async fn append_purchase(
        &self,
        topic: &Topic,
        record: NewRecord,
    ) -> Result<Option<Position>, EventLogError> {
        let appended = tokio::time::timeout(APPEND_WITHIN, self.log.append(topic, vec![record])).await;
        let late = |_| EventLogError::Unavailable(format!("no acknowledgement within {APPEND_WITHIN:?}"));
        Ok(appended.map_err(late)??.first().copied())
    }

    /// Units of a product went back to `free`: its row is read again, and an open lease is topped up at once. Without
    /// this both happen within half a second.
    pub(crate) async fn units_came_back(&self, product: &Sku) {
        let Some(slot) = self.table.get(product) else { return };
        if let Err(error) = self.table.reread_now(&slot).await {
            tracing::warn!(%error, %product, "a product was not read again");
        }
        self.wake_mover.product(product);
    }

    /// Appends one record.
    pub(crate) async fn append(&self, topic: &Topic, record: NewRecord) -> Result<(), EventLogError> {
        self.log.append(topic, vec![record]).await.map(drop)
    }
}
