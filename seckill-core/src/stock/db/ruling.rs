//! The rules by which a purchase attempt and a payment are decided, as pure functions over what one
//! transaction has read. They read and write nothing; the SQL that follows is conditional all the same.

use types::{Money, SaleName, Timestamp};

use crate::stock::payment_store::OrderOffice;
use crate::stock::store::{BodyHash, Claim, Decision, OrderState, Outcome, Resubmit, SaleState, Verdict};

/// What a sale and its product say, the same for every attempt on the product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The sale that the product is in.
    pub sale: SaleName,
    /// The sale's state beside its window.
    pub state: SaleState,
    /// First moment at which the door takes purchases.
    pub opens: Timestamp,
    /// First moment at which it no longer does.
    pub closes: Timestamp,
    /// Price of one unit.
    pub price: Money,
    /// Most units that one buyer may hold.
    pub limit: u64,
}

/// What the transaction knows of an undecided attempt. Units are of the attempt's product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The sale's state beside its window.
    pub sale: SaleState,
    /// First moment at which the door takes purchases.
    pub opens: Timestamp,
    /// First moment at which it no longer does.
    pub closes: Timestamp,
    /// Units that this buyer holds of the product in this sale.
    pub held: u64,
    /// Most units that he may hold.
    pub limit: u64,
    /// Units nobody has.
    pub free: u64,
    /// `granted − consumed` over leases that are not CLOSED.
    pub leased: u64,
    /// Units of unpaid orders.
    pub reserved: u64,
    /// For [`Claim::Grant`]: the lease it names.
    pub lease: LeaseView,
    /// Whether the attempt's purchase token was used up by another `(buyer, key)`.
    pub token_used: bool,
}

/// What the transaction knows of a grant's lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseView {
    /// CLOSED, unknown, or of another product: nothing can be taken from it.
    Gone,
    /// OPEN or FENCED.
    Alive {
        /// Units lent.
        granted: u64,
        /// Units that became orders.
        consumed: u64,
        /// FENCED: an adjustment may have taken units that its store had granted.
        fenced: bool,
        /// Whether the grant's `(lease, seq)` is another order's already.
        sequence_used: bool,
    },
}

/// What is to be done with an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// Take the units from `free` and accept.
    TakeFree,
    /// Take the units from the lease and accept.
    TakeLease,
    /// Refuse for ever: insert this decision (never `Accepted`).
    Bind(Outcome),
    /// Say this and change nothing.
    Say(Verdict),
}

/// What an attempt whose key was decided is told: the first decision is the answer, for the same body only.
pub fn rule_on_decided(decision: Decision, body_hash: BodyHash) -> Verdict {
    if decision.body_hash == body_hash {
        Verdict::Decided { decision, fresh: false, amount: None }
    } else {
        Verdict::OtherBody
    }
}

/// Rules on an attempt that has no decision yet.
///
/// - Past its deadline nothing is accepted, by whatever claim: the end is `deadline`.
/// - The window and the pause bind the door only. What was taken at the door in time is decided later, until
///   the sale is closed for ever.
/// - Over the limit is an end for every claim: waiting does not make it right.
/// - "Sold out" only when nothing is sellable *and* nothing reserved. If some units are left but fewer than
///   were asked for, the answer is "all reserved": a smaller quantity, or a later attempt, may succeed.
/// - A short `free` decides nothing while units are leased that would do: the attempt is submitted again.
/// - A FENCED lease still honours its grants, as far as an adjustment has left it the units; CLOSED refuses them all
///   (its rest went back to `free`). Only an OPEN lease that lacks units contradicts its store.
pub fn rule(claim: Claim, quantity: u32, deadline: Timestamp, now: Timestamp, view: &View) -> Ruling {
    let wanted = u64::from(quantity);
    if now > deadline {
        return Ruling::Bind(Outcome::Deadline);
    }
    if claim == Claim::Door {
        if view.sale != SaleState::Active || now < view.opens || now >= view.closes {
            return Ruling::Say(Verdict::NotOnSale);
        }
    } else if view.sale == SaleState::Closed {
        return Ruling::Bind(Outcome::Closed);
    }
    if view.token_used {
        return Ruling::Say(Verdict::TokenUsed);
    }
    if view.held.saturating_add(wanted) > view.limit {
        return Ruling::Bind(Outcome::Limit);
    }
    match claim {
        Claim::Grant { .. } => rule_on_grant(wanted, view.lease),
        Claim::Door | Claim::Queue => rule_on_free(claim, wanted, view),
    }
}

fn rule_on_free(claim: Claim, wanted: u64, view: &View) -> Ruling {
    if view.free >= wanted {
        return Ruling::TakeFree;
    }
    let sellable = view.free.saturating_add(view.leased);
    if sellable >= wanted {
        return Ruling::Say(Verdict::Resubmit(Resubmit::UnitsLeased));
    }
    let sold_out = sellable == 0 && view.reserved == 0;
    match (claim, sold_out) {
        (Claim::Door, true) => Ruling::Say(Verdict::SoldOutAtDoor),
        (Claim::Door, false) => Ruling::Say(Verdict::AllReservedAtDoor),
        (_, true) => Ruling::Bind(Outcome::SoldOut),
        (_, false) => Ruling::Bind(Outcome::AllReserved),
    }
}

const fn rule_on_grant(wanted: u64, lease: LeaseView) -> Ruling {
    match lease {
        LeaseView::Gone => Ruling::Say(Verdict::Resubmit(Resubmit::LeaseClosed)),
        LeaseView::Alive { sequence_used: true, .. } => Ruling::Say(Verdict::Resubmit(Resubmit::SequenceUsed)),
        LeaseView::Alive { granted, consumed, fenced, .. } if consumed.saturating_add(wanted) > granted => {
            Ruling::Say(Verdict::Resubmit(if fenced { Resubmit::LeaseClosed } else { Resubmit::OverGranted }))
        }
        LeaseView::Alive { .. } => Ruling::TakeLease,
    }
}

/// What is to be done with a payment that has not been seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentRuling {
    /// `accepted → paid`: `reserved → sold`.
    Pay,
    /// `expired → paid`: units and limit are taken again, `free → sold`.
    PayLate,
    /// The order becomes `refund_due`; it holds no units.
    Refund,
    /// The order stays as it is; the payment is refunded by its own row.
    RefundAlone,
}

/// Rules on a payment. `amount_fits`: amount and currency are the order's. `retakable`: `free` has the units
/// and the buyer's limit has room (asked only of an expired order; leased units do not count).
pub const fn rule_on_payment(state: OrderState, amount_fits: bool, retakable: bool) -> PaymentRuling {
    if !amount_fits {
        return PaymentRuling::RefundAlone;
    }
    match state {
        OrderState::Accepted => PaymentRuling::Pay,
        OrderState::Expired if retakable => PaymentRuling::PayLate,
        OrderState::Expired | OrderState::Cancelled => PaymentRuling::Refund,
        OrderState::Paid | OrderState::RefundDue | OrderState::Refunded => PaymentRuling::RefundAlone,
    }
}

/// Where an order's units are while it holds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// Unpaid.
    Reserved,
    /// Paid.
    Sold,
}

/// What its buyer's cancellation makes of an order, and from where its units return; `None`: nothing, it holds none.
pub const fn rule_on_cancel(state: OrderState) -> Option<(OrderState, Holding)> {
    match state {
        OrderState::Accepted => Some((OrderState::Cancelled, Holding::Reserved)),
        OrderState::Paid => Some((OrderState::RefundDue, Holding::Sold)),
        OrderState::Expired | OrderState::Cancelled | OrderState::RefundDue | OrderState::Refunded => None,
    }
}

/// What the shop's own step makes of an order, and from where its units return; `None`: nothing.
pub const fn rule_on_office(office: OrderOffice, state: OrderState) -> Option<(OrderState, Holding)> {
    match (office, state) {
        (OrderOffice::Release, OrderState::Accepted) | (OrderOffice::Refund, OrderState::Paid) => rule_on_cancel(state),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open_view() -> View {
        View {
            sale: SaleState::Active,
            opens: Timestamp::from_millis(0),
            closes: Timestamp::from_millis(1_000),
            held: 0,
            limit: 10,
            free: 5,
            leased: 0,
            reserved: 0,
            lease: LeaseView::Gone,
            token_used: false,
        }
    }
    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn the_window_binds_the_door_and_not_what_was_taken_in_time() {
        let view = open_view();
        for now in [-1, 1_000] {
            assert_eq!(rule(Claim::Door, 1, at(5_000), at(now), &view), Ruling::Say(Verdict::NotOnSale), "at {now}");
            assert_eq!(rule(Claim::Queue, 1, at(5_000), at(now), &view), Ruling::TakeFree, "at {now}");
        }
        let paused = View { sale: SaleState::Paused, ..view };
        assert_eq!(rule(Claim::Door, 1, at(5_000), at(1), &paused), Ruling::Say(Verdict::NotOnSale));
        assert_eq!(rule(Claim::Queue, 1, at(5_000), at(1), &paused), Ruling::TakeFree);
        let closed = View { sale: SaleState::Closed, ..view };
        assert_eq!(rule(Claim::Door, 1, at(5_000), at(1), &closed), Ruling::Say(Verdict::NotOnSale));
        assert_eq!(rule(Claim::Queue, 1, at(5_000), at(1), &closed), Ruling::Bind(Outcome::Closed));
    }

    #[test]
    fn the_last_moment_of_the_deadline_still_counts() {
        let view = open_view();
        assert_eq!(rule(Claim::Door, 1, at(10), at(10), &view), Ruling::TakeFree);
        assert_eq!(rule(Claim::Door, 1, at(10), at(11), &view), Ruling::Bind(Outcome::Deadline));
    }

    proptest! {
        /// Nobody is refused for want of units while they could be had, and nobody is accepted without them.
        #[test]
        fn a_refusal_for_want_of_units_is_never_a_lie(
            wanted in 1u32..6, free in 0u64..6, leased in 0u64..6, reserved in 0u64..3, held in 0u64..6,
            limit in 1u64..6, queue in any::<bool>(),
        ) {
            let view = View { free, leased, reserved, held, limit, ..open_view() };
            let claim = if queue { Claim::Queue } else { Claim::Door };
            let n = u64::from(wanted);
            match rule(claim, wanted, at(10), at(1), &view) {
                Ruling::TakeFree => prop_assert!(free >= n && held + n <= limit),
                Ruling::TakeLease => prop_assert!(false, "no lease was named"),
                Ruling::Bind(Outcome::Limit) => prop_assert!(held + n > limit),
                Ruling::Bind(Outcome::SoldOut) | Ruling::Say(Verdict::SoldOutAtDoor) => {
                    prop_assert!(free + leased == 0 && reserved == 0);
                }
                Ruling::Bind(Outcome::AllReserved) | Ruling::Say(Verdict::AllReservedAtDoor) => {
                    prop_assert!(free + leased < n && (reserved > 0 || free + leased > 0));
                }
                Ruling::Say(Verdict::Resubmit(Resubmit::UnitsLeased)) => prop_assert!(free < n && free + leased >= n),
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
