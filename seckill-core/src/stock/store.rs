//! Port: the store that owns all stock, orders and decisions. Every method is one transaction (possibly
//! shared with its neighbours by group commit) and is durable when it returns. It never trusts a caller's
//! view of stock: each change is conditional in SQL.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use types::order_event::OrderEventKind;
use types::plan::ProductState;
use types::{
    BuyerId, Epoch, IdempotencyKey, LeaseId, Money, OrderEvent, OrderId, PaymentId, RequestId, SaleName, SalePolicy,
    SaleSpec, Sku, Tier, Timestamp,
};

use crate::stock::adjustment::{Adjusted, Adjustment};

/// SHA-256 over what the buyer asked for, in hexadecimal: the same key with another body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BodyHash(pub [u8; 32]);

/// By what right an attempt asks for units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// From `free`, at the door of the db path: a refusal for want of units binds nothing.
    Door,
    /// From `free`, by the queue's consumer: a refusal is the end of a ticket and binds.
    Queue,
    /// From a lease, by the grants' consumer.
    Grant {
        /// The lease.
        lease: LeaseId,
        /// The grant's number within it.
        seq: u64,
    },
}

/// One purchase attempt as the store sees it. Price, limit and window come from the store's own tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Whose.
    pub buyer: BuyerId,
    /// The buyer's name for it.
    pub key: IdempotencyKey,
    /// What was asked for.
    pub body_hash: BodyHash,
    /// Of which product.
    pub product: Sku,
    /// How many units (1 or more).
    pub quantity: u32,
    /// By what right.
    pub claim: Claim,
    /// After this nothing is accepted any more: it is decided `deadline`.
    pub deadline: Timestamp,
    /// The HTTP request it came with.
    pub request: Option<RequestId>,
    /// The order's id if it is accepted.
    pub order: OrderId,
    /// A purchase token to be used up by it, if one was asked for.
    pub token: Option<String>,
}

/// How an attempt ended, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Committed as this order.
    Accepted(OrderId),
    /// Nothing sellable and nothing reserved.
    SoldOut,
    /// Nothing sellable, but unpaid orders may give units back.
    AllReserved,
    /// The buyer holds as many as he may.
    Limit,
    /// Not decided before its deadline.
    Deadline,
    /// The sale was closed before it was decided.
    Closed,
}

/// A row of `decision`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What was asked for.
    pub body_hash: BodyHash,
    /// Of which product.
    pub product: Sku,
    /// The end.
    pub outcome: Outcome,
    /// When it was decided.
    pub at: Timestamp,
}

/// What [`StockStore::decide`] says of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Decided, now (`fresh`) or earlier.
    Decided {
        /// The decision.
        decision: Decision,
        /// Whether this call made it.
        fresh: bool,
        /// What the order costs that this call made: the price is the store's, read in the same transaction.
        amount: Option<Money>,
    },
    /// The key is bound to another body (422). Nothing changed.
    OtherBody,
    /// The token was used with another key (409). Nothing changed.
    TokenUsed,
    /// `Door` only: nothing sellable and nothing reserved. Binds nothing.
    SoldOutAtDoor,
    /// `Door` only: nothing sellable, something reserved. Binds nothing.
    AllReservedAtDoor,
    /// Not decided: `free` is short while units are leased (tier redis or draining), or the lease is CLOSED.
    /// Submit again through the current path with the same key and deadline.
    Resubmit(Resubmit),
    /// The product is not in any sale that takes purchases now.
    NotOnSale,
}

/// Why an attempt must be submitted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resubmit {
    /// `free` is short, but leased units make the product sellable.
    UnitsLeased,
    /// The grant's lease is CLOSED, or FENCED and has lost the units to an adjustment.
    LeaseClosed,
    /// The grant's `(lease, seq)` was used by another key: alarm, fence the lease.
    SequenceUsed,
    /// The grant goes beyond `granted` of an open lease: alarm, fence the lease.
    OverGranted,
}

/// A step of a move (compare-and-set). `Stale` answers mean: somebody else was there first; reread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MoveStep {
    /// `db ↔ queue`: tier = target, epoch + 1, in one step.
    Switch {
        /// Which product.
        product: Sku,
        /// The epoch that the mover saw.
        epoch: Epoch,
        /// `db` or `queue`.
        target: Tier,
    },
    /// `db | queue → redis`: `free` less `keep` into a new lease (not loaded), epoch + 1. Also H5 for redis
    /// when `Draining` towards redis (then the epoch stays).
    OpenLease {
        /// Which product.
        product: Sku,
        /// The epoch that the mover saw.
        epoch: Epoch,
        /// The new lease.
        lease: LeaseId,
        /// Units to leave in `free` for attempts that are queued already.
        keep: u64,
    },
    /// CAS `loaded = 1`: whoever wins may load the key; nobody loads it twice.
    MarkLoaded {
        /// The lease.
        lease: LeaseId,
    },
    /// H1: `phase = draining`, epoch + 1, target; the open lease becomes FENCED.
    Fence {
        /// Which product.
        product: Sku,
        /// The epoch that the mover saw.
        epoch: Epoch,
        /// Where it goes (redis: to a new lease).
        target: Tier,
    },
    /// H4: CAS FENCED → CLOSED, `free += granted − consumed`.
    Settle {
        /// The lease.
        lease: LeaseId,
    },
    /// H5 for db and queue: `tier = target`, active; only when no lease is alive.
    Open {
        /// Which product.
        product: Sku,
        /// The epoch of the fence.
        epoch: Epoch,
    },
    /// `free` less `keep` goes into this lease too: `granted` rises by as much. Only while the product is active on
    /// redis, the lease OPEN and loaded, and something is there to lend; else `Stale`. In the answer
    /// `row.lease.granted` is the new grand total, to which the lease store is then raised (by max, so that doing
    /// it again, late or in another order is harmless). The epoch stays.
    TopUp {
        /// The lease.
        lease: LeaseId,
        /// Units to leave in `free`.
        keep: u64,
    },
}

/// Whether a step took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// It did; the product now.
    Done(ProductRow),
    /// It did not, because the row is not as the mover believed; the product as it is, if it exists.
    Stale(Option<ProductRow>),
}

/// A lease as SQL knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseRow {
    /// Its id.
    pub lease: LeaseId,
    /// The product's epoch when it opened.
    pub epoch: Epoch,
    /// Units lent.
    pub granted: u64,
    /// Units that became orders.
    pub consumed: u64,
    /// FENCED (else OPEN); CLOSED ones are not shown.
    pub fenced: bool,
    /// Whether somebody has loaded it into the lease store.
    pub loaded: bool,
}

/// State of a sale beside its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaleState {
    /// Sells within its window.
    Active,
    /// Refuses new purchases for now.
    Paused,
    /// Over for ever.
    Closed,
}

/// A product with its sale, stock and living lease, read in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductRow {
    /// What the planner sees of it (tier, phase, epoch, sellable, window…).
    pub state: ProductState,
    /// Its sale's state.
    pub sale_state: SaleState,
    /// What a purchase in its sale needs.
    pub policy: SalePolicy,
    /// What shoppers read.
    pub name: String,
    /// Price of one unit.
    pub price: Money,
    /// Most units one buyer may hold.
    pub limit: u32,
    /// Units nobody has.
    pub free: u64,
    /// Units sold.
    pub sold: u64,
    /// The last number that the outbox had given out when this was read: every order in these figures is told of by
    /// an event up to it.
    pub told: u64,
    /// The lease that is not CLOSED, if there is one.
    pub lease: Option<LeaseRow>,
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OrderState {
    /// Reserved, unpaid.
    Accepted,
    /// Paid.
    Paid,
    /// Not paid in time.
    Expired,
    /// Cancelled by its buyer.
    Cancelled,
    /// Money is to be returned.
    RefundDue,
    /// Money was returned.
    Refunded,
}

/// A row of `orders`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRow {
    /// Its id.
    pub order: OrderId,
    /// Whose.
    pub buyer: BuyerId,
    /// In which sale.
    pub sale: SaleName,
    /// Which product.
    pub product: Sku,
    /// How many.
    pub quantity: u32,
    /// For how much.
    pub amount: Money,
    /// The path that accepted it.
    pub tier: Tier,
    /// Where it stands.
    pub state: OrderState,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When it expires if unpaid.
    pub expires_at: Timestamp,
}

/// Money that a provider says has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// The provider's id: the same payment is applied once.
    pub payment: PaymentId,
    /// For which order.
    pub order: OrderId,
    /// How much.
    pub amount: Money,
}

/// What a payment did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentEffect {
    /// The order is paid (now, or by this same payment before).
    Paid,
    /// The payment stands, the units are gone or the amount is wrong or the order was paid already: refund due.
    RefundDue,
    /// No such order: nothing was recorded; the provider must try again or give the money back.
    UnknownOrder,
}

/// What a change of an order by its owner or by time did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderChange {
    /// It did it now.
    Changed(OrderRow),
    /// The order is in another state than the change starts from.
    InState(OrderRow),
    /// There is no such order for this buyer.
    Unknown,
}

/// Unpaid orders that were released.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expired {
    /// How many.
    pub orders: usize,
    /// Of which products, each once.
    pub products: BTreeSet<Sku>,
}

/// What applying a sale did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SaleApplied {
    /// Created.
    Created,
    /// Changed, or nothing to change.
    Updated,
    /// Refused; the text says which field and why.
    Refused(String),
}

/// What the store could not do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The writer's bounded queue is full: answer 503 with `Retry-After`.
    #[error("the stock store is overloaded; retry")]
    Overloaded,
    /// The database failed; whether the transaction was committed is unknown: read back by `(buyer, key)`.
    #[error("the stock store is unavailable: {0}")]
    Unavailable(String),
    /// The data contradicts the schema: a defect, never retried.
    #[error("the stock store holds what it must not: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub const fn retryable(&self) -> bool {
        matches!(self, Self::Overloaded | Self::Unavailable(_))
    }
}

/// The store. `now` is always the caller's clock, so that one clock rules a process. What people ask for goes through
/// [`AdminStore`](crate::stock::admin_store::AdminStore), which keeps the audit log: `adjust`, `apply_sale` and
/// `set_sale_state` here leave no line in it.
#[async_trait]
pub trait StockStore: Send + Sync + 'static {
    /// Decides attempts, in order, each on its own merits, in one transaction: one bad one never fails its
    /// neighbours. Calls of many callers are grouped. `reserve_for` is how long an accepted order may stay unpaid.
    /// A product that nobody sells, or a quantity of 0, is `NotOnSale`. `Corrupt` means that one attempt contradicts
    /// the data (an order id that another attempt has) and nothing of this call was done: ask again one by one.
    async fn decide(
        &self,
        attempts: Vec<Attempt>,
        reserve_for: Duration,
        now: Timestamp,
    ) -> Result<Vec<Verdict>, StoreError>;
    /// The end of a ticket that is past its deadline plus skew: inserts `deadline` unless decided already.
    async fn conclude(
        &self,
        buyer: &BuyerId,
        key: &IdempotencyKey,
        body_hash: BodyHash,
        product: &Sku,
        now: Timestamp,
    ) -> Result<Decision, StoreError>;
    /// One step of a move.
    async fn step(&self, step: MoveStep, now: Timestamp) -> Result<Moved, StoreError>;
    /// Adds units to a product's total, or removes them: wholly or not at all, in one transaction, in any tier and
    /// phase, also of a closed sale. Never below what is sold and reserved. The same id with the same product,
    /// number and reason is answered by what stands in the books; a refusal binds nothing.
    ///
    /// Added units are in `free`. Removed ones leave `free` first, then the unconsumed rest of the living lease:
    /// `granted` falls, and if the lease was OPEN it is FENCED in the same transaction, the product draining
    /// towards redis (a new lease) at its next epoch, to be brought on like any half-done move. Grants of a fenced
    /// lease that have lost their units are [`Resubmit::LeaseClosed`].
    async fn adjust(&self, adjustment: Adjustment, now: Timestamp) -> Result<Adjusted, StoreError>;

    /// Applies a payment, once. A repeat is answered by its own row: `Paid` while the money stands, `RefundDue` once
    /// it is owed or returned. An id that was used for another order is `UnknownOrder`: an id names one payment.
    async fn pay(&self, payment: Payment, now: Timestamp) -> Result<PaymentEffect, StoreError>;
    /// Cancels an accepted order of this buyer; units and limit return. A paid one becomes `refund_due`.
    async fn cancel(&self, order: OrderId, buyer: &BuyerId, now: Timestamp) -> Result<OrderChange, StoreError>;
    /// Expires up to `max` accepted orders that are due, the longest overdue first; units and limits return.
    async fn expire_due(&self, now: Timestamp, max: usize) -> Result<Expired, StoreError>;
    /// `refund_due → refunded` of an order or of a payment that moved no order: the money has gone back.
    /// `false`: no such refund is due (a repeat says so too).
    async fn refunded(&self, payment: PaymentId, now: Timestamp) -> Result<bool, StoreError>;

    /// Creates a sale or changes window, names, prices, limits; stock of existing products is not touched, and a
    /// spec that gives one another stock than it came with is refused.
    async fn apply_sale(&self, sale: SaleSpec, now: Timestamp) -> Result<SaleApplied, StoreError>;
    /// Pauses, resumes or closes a sale. `None`: no such sale.
    async fn set_sale_state(
        &self,
        sale: &SaleName,
        state: SaleState,
        now: Timestamp,
    ) -> Result<Option<SaleState>, StoreError>;

    /// The decision of `(buyer, key)`, if there is one.
    async fn decision(&self, buyer: &BuyerId, key: &IdempotencyKey) -> Result<Option<Decision>, StoreError>;
    /// An order of this buyer.
    async fn order(&self, order: OrderId, buyer: &BuyerId) -> Result<Option<OrderRow>, StoreError>;
    /// This buyer's orders, newest first, at most `max`.
    async fn orders(&self, buyer: &BuyerId, max: usize) -> Result<Vec<OrderRow>, StoreError>;
    /// Every product of sales that are not closed, and those of closed ones that are not at rest yet (a lease lives
    /// or a move is half done), so that somebody finishes them.
    async fn products(&self) -> Result<Vec<ProductRow>, StoreError>;
    /// One product.
    async fn product(&self, product: &Sku) -> Result<Option<ProductRow>, StoreError>;
    /// Outbox events not yet relayed, oldest first.
    async fn outbox(&self, max: usize) -> Result<Vec<OrderEvent>, StoreError>;
    /// Everything up to and including `sequence` was appended to the event log.
    async fn outbox_relayed(&self, sequence: u64) -> Result<(), StoreError>;
}

impl From<OrderState> for OrderEventKind {
    fn from(state: OrderState) -> Self {
        match state {
            OrderState::Accepted => Self::Accepted,
            OrderState::Paid => Self::Paid,
            OrderState::Expired => Self::Expired,
            OrderState::Cancelled => Self::Cancelled,
            OrderState::RefundDue => Self::RefundDue,
            OrderState::Refunded => Self::Refunded,
        }
    }
}
