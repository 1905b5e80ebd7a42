//! What the writer is asked to do, as data: it may be run again after a deadlock or in another company, and the
//! answer it gave is kept until its transaction is committed.

use std::time::Duration;

use types::{BuyerId, IdempotencyKey, OrderId, PaymentId, SaleName, SaleSpec, Sku, Timestamp};

use crate::stock::adjustment::{Adjusted, Adjustment};
use crate::stock::admin_store::{Act, Acted, Actor};
use crate::stock::payment_store::OrderOffice;
use crate::stock::store::{
    Attempt, BodyHash, Decision, Expired, MoveStep, Moved, OrderChange, Payment, PaymentEffect, SaleApplied, SaleState,
    Verdict,
};

/// One call of the port that writes.
#[derive(Debug)]
pub(super) enum Command {
    /// Purchase attempts.
    Decide { attempts: Vec<Attempt>, reserve_for: Duration, now: Timestamp },
    /// The end of a ticket past its deadline.
    Conclude { buyer: BuyerId, key: IdempotencyKey, body_hash: BodyHash, product: Sku, now: Timestamp },
    /// A payment.
    Pay { payment: Payment, now: Timestamp },
    /// A cancellation by the buyer.
    Cancel { order: OrderId, buyer: BuyerId, now: Timestamp },
    /// The shop's own step with an order.
    ShopStep { order: OrderId, office: OrderOffice, now: Timestamp },
    /// Unpaid orders that are due.
    ExpireDue { max: usize, now: Timestamp },
    /// Money that went back.
    Refunded { payment: PaymentId, now: Timestamp },
    /// The outbox's relay got so far.
    Relayed { sequence: u64 },
    /// A step of a move.
    Step { step: MoveStep, now: Timestamp },
    /// An adjustment of stock.
    Adjust { adjustment: Adjustment, now: Timestamp },
    /// A sale's file.
    ApplySale { sale: Box<SaleSpec>, now: Timestamp },
    /// Pause, resume, close.
    SetSaleState { sale: SaleName, state: SaleState, now: Timestamp },
    /// An act of administration, with its line in the audit log.
    Administer { act: Box<Act>, by: Actor, now: Timestamp },
}

impl Command {
    /// How much of a group it fills.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Decide { attempts, .. } => attempts.len().max(1),
            Self::ExpireDue { max, .. } => (*max).max(1),
            _ => 1,
        }
    }
    /// Whether it has a transaction of its own: rare, and about other rows than a purchase.
    pub(super) const fn is_alone(&self) -> bool {
        matches!(
            self,
            Self::Step { .. }
                | Self::Adjust { .. }
                | Self::ApplySale { .. }
                | Self::SetSaleState { .. }
                | Self::Administer { .. }
        )
    }
}

/// What a [`Command`] came to.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// Of `Decide`.
    Verdicts(Vec<Verdict>),
    /// Of `Conclude`.
    Decision(Decision),
    /// Of `Pay`.
    Effect(PaymentEffect),
    /// Of `Cancel` and `ShopStep`.
    Change(OrderChange),
    /// Of `ExpireDue`.
    Expired(Expired),
    /// Of `Refunded`.
    Did(bool),
    /// Of `Relayed`.
    Done,
    /// Of `Step`.
    Moved(Moved),
    /// Of `Adjust`.
    Adjusted(Adjusted),
    /// Of `ApplySale`.
    Applied(SaleApplied),
    /// Of `SetSaleState`.
    State(Option<SaleState>),
    /// Of `Administer`.
    Acted(Acted),
}
