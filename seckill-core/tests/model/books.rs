//! The stock database of one product in a few bytes: what a transaction reads is handed to the production rules,
//! what they rule is written down. It holds no rule of its own; `equal.rs` shows that SQLite writes the same.

use std::num::NonZeroI64;
use std::sync::OnceLock;

use types::plan::ProductState;
use types::{Epoch, LeaseId, Money, OrderId, Phase, SaleName, Sku, Tier, Timestamp};

use super::mutant::Mutant;
use crate::stock::db::adjust_ruling::{AdjustRuling, rule_on_adjustment};
use crate::stock::db::move_ruling::{StepRuling, rule_on_step};
use crate::stock::db::ruling::{
    Holding, LeaseView, PaymentRuling, Ruling, View, rule, rule_on_cancel, rule_on_decided, rule_on_payment,
};
use crate::stock::store::{
    BodyHash, Claim, Decision, LeaseRow, MoveStep, OrderState, Outcome, ProductRow, SaleState, Verdict,
};

/// Most keys (attempts by name), buyers, leases and payments of an order in one run.
pub const KEYS: usize = 3;
pub const BUYERS: usize = 2;
pub const LEASES: usize = 5;
pub const PAYMENTS: usize = 2;

/// Moments on the model's clock, in milliseconds: a ticket's deadline and the skew, and three moments around them.
pub const DEADLINE: Timestamp = Timestamp::from_millis(1_000);
pub const SKEW_MS: i64 = 1_000;
pub const IN_TIME: Timestamp = Timestamp::from_millis(500);
pub const LATE: Timestamp = Timestamp::from_millis(1_500);
pub const DUE: Timestamp = Timestamp::from_millis(2_501);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LeaseState {
    #[default]
    None,
    Open,
    Fenced,
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Lease {
    pub granted: u8,
    pub consumed: u8,
    pub state: LeaseState,
    pub loaded: bool,
    /// Grant numbers that became orders, one bit each.
    pub used: u8,
    pub epoch: u8,
}

impl Lease {
    pub const fn alive(&self) -> bool {
        matches!(self.state, LeaseState::Open | LeaseState::Fenced)
    }
    pub const fn rest(&self) -> u8 {
        self.granted.saturating_sub(self.consumed)
    }
}

/// How a key was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum End {
    #[default]
    None,
    Accepted,
    SoldOut,
    AllReserved,
    Limit,
    Deadline,
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Order {
    #[default]
    None,
    Accepted,
    Paid,
    Expired,
    Cancelled,
    RefundDue,
    Refunded,
}

impl Order {
    pub const fn lives(self) -> bool {
        matches!(self, Self::Accepted | Self::Paid)
    }
    const fn state(self) -> Option<OrderState> {
        Some(match self {
            Self::None => return None,
            Self::Accepted => OrderState::Accepted,
            Self::Paid => OrderState::Paid,
            Self::Expired => OrderState::Expired,
            Self::Cancelled => OrderState::Cancelled,
            Self::RefundDue => OrderState::RefundDue,
            Self::Refunded => OrderState::Refunded,
        })
    }
    const fn of(state: OrderState) -> Self {
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

/// A row of `payment`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Money3 {
    #[default]
    None,
    Paid,
    RefundDue,
    Refunded,
}

/// One key: its decision, its order, the payments of its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Key {
    pub end: End,
    /// What the decision was made for: the quantity stands for the body.
    pub body: u8,
    pub order: Order,
    pub quantity: u8,
    /// Units of further orders under the same key: only a broken protocol has any.
    pub extra: u8,
    pub payments: [Money3; PAYMENTS],
    /// Which payment moved the order, plus one.
    pub moved_by: u8,
    /// Payments that left no row: only a broken protocol has any.
    pub dropped: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Books {
    pub total: u8,
    pub free: u8,
    pub leased: u8,
    pub reserved: u8,
    pub sold: u8,
    pub tier: Tier,
    pub draining: bool,
    pub target: Option<Tier>,
    pub epoch: u8,
    pub leases: [Lease; LEASES],
    pub opened: u8,
    pub keys: [Key; KEYS],
    pub held: [u8; BUYERS],
    pub limit: u8,
    /// The window is past.
    pub over: bool,
}

/// An attempt as a transaction sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    pub key: u8,
    pub buyer: u8,
    pub quantity: u8,
    pub claim: Claim,
    pub deadline: Timestamp,
    pub now: Timestamp,
}

struct Names {
    row: ProductRow,
}

/// Names that every row has; made once.
fn names() -> &'static Names {
    static NAMES: OnceLock<Names> = OnceLock::new();
    NAMES.get_or_init(|| Names {
        row: ProductRow {
            state: ProductState {
                product: sku(),
                sale: SaleName::new("s").expect("a name"),
                pages: Vec::new(),
                tier: Tier::Db,
                phase: Phase::Active,
                target: None,
                epoch: Epoch::new(0),
                sellable: 0,
                reserved: 0,
                total: 0,
                opens: Timestamp::from_millis(0),
                closes: CLOSES,
                initial_tier: None,
            },
            sale_state: SaleState::Active,
            policy: types::SalePolicy::default(),
            name: String::new(),
            price: Money::new(100, "EUR".parse().expect("a currency")).expect("money"),
            limit: 1,
            free: 0,
            sold: 0,
            told: 0,
            lease: None,
        },
    })
}

pub fn sku() -> Sku {
    static SKU: OnceLock<Sku> = OnceLock::new();
    SKU.get_or_init(|| Sku::new("lamp").expect("a sku")).clone()
}
const CLOSES: Timestamp = Timestamp::from_millis(1_000_000);
pub const fn lease_id(index: usize) -> LeaseId {
    LeaseId::from_bits(index as u128 + 1)
}
pub fn lease_index(lease: LeaseId) -> usize {
    (0..LEASES).find(|l| lease_id(*l) == lease).expect("a lease of the model")
}
pub const fn body(quantity: u8) -> BodyHash {
    BodyHash([quantity; 32])
}
const fn order_id(key: u8) -> OrderId {
    OrderId::from_bits(key as u128)
}

impl Books {
    pub fn new(total: u8, limit: u8) -> Self {
        Self {
            total,
            free: total,
            leased: 0,
            reserved: 0,
            sold: 0,
            tier: Tier::Db,
            draining: false,
            target: None,
            epoch: 0,
            leases: [Lease::default(); LEASES],
            opened: 0,
            keys: [Key::default(); KEYS],
            held: [0; BUYERS],
            limit,
            over: false,
        }
    }

    pub fn alive(&self) -> Option<usize> {
        (0..self.opened as usize).find(|l| self.leases[*l].alive())
    }
    pub fn lent(&self) -> u8 {
        self.leases.iter().filter(|l| l.alive()).map(Lease::rest).sum()
    }
    fn closes(&self) -> Timestamp {
        if self.over { Timestamp::from_millis(1) } else { CLOSES }
    }

    /// The product as a core reads it.
    pub fn row(&self) -> ProductRow {
        let mut row = names().row.clone();
        row.state.tier = self.tier;
        row.state.phase = if self.draining { Phase::Draining } else { Phase::Active };
        row.state.target = self.target;
        row.state.epoch = Epoch::new(u64::from(self.epoch));
        row.state.sellable = u64::from(self.free + self.lent());
        row.state.reserved = u64::from(self.reserved);
        row.state.total = u64::from(self.total);
        row.state.closes = self.closes();
        row.limit = u32::from(self.limit);
        row.free = u64::from(self.free);
        row.sold = u64::from(self.sold);
        row.lease = self.alive().map(|l| self.lease_row(l));
        row
    }

    pub fn lease_row(&self, l: usize) -> LeaseRow {
        let lease = &self.leases[l];
        LeaseRow {
            lease: lease_id(l),
            epoch: Epoch::new(u64::from(lease.epoch)),
            granted: u64::from(lease.granted),
            consumed: u64::from(lease.consumed),
            fenced: lease.state == LeaseState::Fenced,
            loaded: lease.loaded,
        }
    }

    /// What the transaction reads for an undecided attempt.
    pub fn view(&self, ask: &Ask, m: Mutant) -> View {
        View {
            sale: SaleState::Active,
            opens: Timestamp::from_millis(0),
            closes: self.closes(),
            held: u64::from(self.held[ask.buyer as usize]),
            limit: u64::from(self.limit),
            free: u64::from(self.free),
            leased: u64::from(self.lent()),
            reserved: u64::from(self.reserved),
            lease: match ask.claim {
                Claim::Grant { lease, seq } => self.lease_view(lease_index(lease), seq, m),
                Claim::Door | Claim::Queue => LeaseView::Gone,
            },
            token_used: false,
        }
    }

    fn lease_view(&self, l: usize, seq: u64, m: Mutant) -> LeaseView {
        let lease = &self.leases[l];
        if !lease.alive() && m != Mutant::ClosedLeaseStillGrants {
            return LeaseView::Gone;
        }
        let unguarded = matches!(m, Mutant::NoConsumedGuard | Mutant::NoGuardAndNoUnique);
        LeaseView::Alive {
            granted: if unguarded { 255 } else { u64::from(lease.granted) },
            consumed: u64::from(lease.consumed),
            fenced: lease.state == LeaseState::Fenced && m != Mutant::ShortageOfAFencedLeaseIsAnAlarm,
            sequence_used: lease.used & (1 << seq) != 0
                && !matches!(m, Mutant::SequenceNotUnique | Mutant::NoGuardAndNoUnique),
        }
    }

    /// One attempt in one transaction.
    pub fn decide(&mut self, ask: &Ask, m: Mutant) -> Verdict {
        if let Some(decision) = self.decision(ask.key) {
            return rule_on_decided(decision, body(ask.quantity));
        }
        let view = self.view(ask, m);
        self.act(ask, &view, m)
    }

    /// What follows the reading: rules, then writes.
    pub fn act(&mut self, ask: &Ask, view: &View, m: Mutant) -> Verdict {
        let quantity = u32::from(ask.quantity);
        let ruling = match rule(ask.claim, quantity, ask.deadline, ask.now, view) {
            // A mutant's ruling in place of the real one.
            Ruling::Say(Verdict::Resubmit(_)) if m == Mutant::FencedGrantIsRefused && ask.claim != Claim::Door => {
                Ruling::Bind(Outcome::SoldOut)
            }
            ruling => ruling,
        };
        let outcome = match ruling {
            Ruling::Say(verdict) => return verdict,
            Ruling::Bind(outcome) => outcome,
            Ruling::TakeFree => {
                let Some(free) = self.free.checked_sub(ask.quantity) else { return Verdict::NotOnSale };
                self.free = free;
                self.accept(ask)
            }
            Ruling::TakeLease => {
                let Claim::Grant { lease, seq } = ask.claim else { unreachable!("a lease was named") };
                let lease = &mut self.leases[lease_index(lease)];
                lease.consumed += ask.quantity;
                lease.used |= 1 << seq;
                self.leased = self.leased.saturating_sub(ask.quantity);
                self.accept(ask)
            }
        };
        Verdict::Decided { decision: self.insert(ask.key, ask.quantity, outcome, ask.now), fresh: true, amount: None }
    }

    fn accept(&mut self, ask: &Ask) -> Outcome {
        self.reserved += ask.quantity;
        self.held[ask.buyer as usize] += ask.quantity;
        let key = &mut self.keys[ask.key as usize];
        if key.order == Order::None {
            (key.order, key.quantity) = (Order::Accepted, ask.quantity);
        } else {
            key.extra += ask.quantity;
        }
        Outcome::Accepted(order_id(ask.key))
    }

    fn insert(&mut self, key: u8, quantity: u8, outcome: Outcome, at: Timestamp) -> Decision {
        let end = match outcome {
            Outcome::Accepted(_) => End::Accepted,
            Outcome::SoldOut => End::SoldOut,
            Outcome::AllReserved => End::AllReserved,
            Outcome::Limit => End::Limit,
            Outcome::Deadline => End::Deadline,
            Outcome::Closed => End::Closed,
        };
        let row = &mut self.keys[key as usize];
        (row.end, row.body) = (end, quantity);
        Decision { body_hash: body(quantity), product: sku(), outcome, at }
    }

    pub fn decision(&self, key: u8) -> Option<Decision> {
        let row = &self.keys[key as usize];
        let outcome = match row.end {
            End::None => return None,
            End::Accepted => Outcome::Accepted(order_id(key)),
            End::SoldOut => Outcome::SoldOut,
            End::AllReserved => Outcome::AllReserved,
            End::Limit => Outcome::Limit,
            End::Deadline => Outcome::Deadline,
            End::Closed => Outcome::Closed,
        };
        Some(Decision { body_hash: body(row.body), product: sku(), outcome, at: IN_TIME })
    }

    /// The end of a ticket past its deadline: what there is, or a new `deadline`.
    pub fn conclude(&mut self, key: u8, quantity: u8) {
        if self.decision(key).is_none() {
            self.insert(key, quantity, Outcome::Deadline, DUE);
        }
    }

    /// One step of a move. Whether it took effect. `in_redis`: what the lease store counts, for a mutant.
    pub fn step(&mut self, step: &MoveStep, in_redis: Option<u8>, m: Mutant) -> bool {
        let row = match step {
            MoveStep::MarkLoaded { lease } | MoveStep::Settle { lease } | MoveStep::TopUp { lease, .. } => {
                let l = lease_index(*lease);
                // `product()` shows the living lease; a step that names another one finds nothing.
                let named = self.leases[l].alive().then(|| self.lease_row(l));
                ProductRow { lease: named, ..self.row() }
            }
            _ => self.row(),
        };
        match rule_on_step(step, &row) {
            StepRuling::Stale => {
                if let (Mutant::SettleTwice, MoveStep::Settle { lease }) = (m, step) {
                    let rest = self.leases[lease_index(*lease)].rest();
                    self.free += rest;
                    return rest > 0;
                }
                return false;
            }
            StepRuling::Switch { epoch, target } => {
                (self.tier, self.epoch) = (target, epoch.get() as u8);
            }
            StepRuling::Lend { epoch, granted, .. } => {
                let MoveStep::OpenLease { lease, .. } = step else { unreachable!("only this step lends") };
                let l = lease_index(*lease);
                if self.leases[l].state != LeaseState::None {
                    return false;
                }
                let granted = granted as u8;
                self.epoch = epoch.get() as u8;
                self.leases[l] = Lease { granted, state: LeaseState::Open, epoch: self.epoch, ..Lease::default() };
                self.opened = self.opened.max(l as u8 + 1);
                self.free -= granted;
                self.leased += granted;
                (self.tier, self.draining, self.target) = (Tier::Redis, false, None);
            }
            StepRuling::MarkLoaded => {
                let MoveStep::MarkLoaded { lease } = step else { unreachable!("only this step marks") };
                self.leases[lease_index(*lease)].loaded = true;
            }
            StepRuling::Fence { epoch } => {
                let MoveStep::Fence { target, .. } = step else { unreachable!("only this step fences") };
                for lease in self.leases.iter_mut().filter(|l| l.state == LeaseState::Open) {
                    lease.state = LeaseState::Fenced;
                }
                (self.draining, self.target, self.epoch) = (true, Some(*target), epoch.get() as u8);
            }
            StepRuling::Settle { back } => {
                let MoveStep::Settle { lease } = step else { unreachable!("only this step settles") };
                let back = match (m, in_redis) {
                    (Mutant::SettleByRedisCount, Some(left)) => left,
                    _ => back as u8,
                };
                self.leases[lease_index(*lease)].state = LeaseState::Closed;
                self.free += back;
                self.leased = self.leased.saturating_sub(back);
            }
            StepRuling::TopUp { units } => {
                let MoveStep::TopUp { lease, .. } = step else { unreachable!("only this step tops up") };
                self.leases[lease_index(*lease)].granted += units as u8;
                self.free -= units as u8;
                self.leased += units as u8;
            }
            StepRuling::Open { tier } => {
                (self.tier, self.draining, self.target) = (tier, false, None);
            }
        }
        true
    }

    /// Adjusts the total. Whether it took effect.
    pub fn adjust(&mut self, delta: i8, m: Mutant) -> bool {
        let Some(delta) = NonZeroI64::new(delta.into()) else { return false };
        let mut row = self.row();
        if m == Mutant::RemovalOfReservedUnits {
            row.free += row.state.reserved;
        }
        match rule_on_adjustment(delta, &row) {
            AdjustRuling::TooFew { .. } | AdjustRuling::TooMany { .. } => return false,
            AdjustRuling::Add { units } => {
                self.total += units as u8;
                self.free += units as u8;
            }
            AdjustRuling::Remove { free, lent, fence } => {
                self.total = self.total.saturating_sub((free + lent) as u8);
                self.free = self.free.saturating_sub(free as u8);
                if let Some(l) = self.alive().filter(|_| lent > 0) {
                    self.leased -= lent as u8;
                    if m != Mutant::RemovalLeavesTheLeaseItsUnits {
                        self.leases[l].granted -= lent as u8;
                    }
                    if let Some(epoch) = fence.filter(|_| m != Mutant::RemovalDoesNotFence) {
                        self.leases[l].state = LeaseState::Fenced;
                        (self.draining, self.target, self.epoch) = (true, Some(Tier::Redis), epoch.get() as u8);
                    }
                }
            }
        }
        true
    }

    fn release(&mut self, key: u8, buyer: u8, from: Holding, m: Mutant) {
        let quantity = self.keys[key as usize].quantity;
        self.free += quantity;
        match from {
            Holding::Reserved => self.reserved = self.reserved.saturating_sub(quantity),
            Holding::Sold => self.sold = self.sold.saturating_sub(quantity),
        }
        if m != Mutant::LimitIsNotGivenBack {
            let held = &mut self.held[buyer as usize];
            *held = held.saturating_sub(quantity);
        }
    }

    /// Expires an order that is due. Whether it did.
    pub fn expire(&mut self, key: u8, buyer: u8, m: Mutant) -> bool {
        let order = self.keys[key as usize].order;
        let blind = m == Mutant::ReleaseWithoutCas && matches!(order, Order::Paid | Order::Expired);
        if order != Order::Accepted && !blind {
            return false;
        }
        self.keys[key as usize].order = Order::Expired;
        self.release(key, buyer, if order == Order::Paid { Holding::Sold } else { Holding::Reserved }, m);
        true
    }

    /// Cancels an order. Whether it did.
    pub fn cancel(&mut self, key: u8, buyer: u8, m: Mutant) -> bool {
        let Some(state) = self.keys[key as usize].order.state() else { return false };
        let Some((new, from)) = rule_on_cancel(state) else { return false };
        let row = &mut self.keys[key as usize];
        row.order = Order::of(new);
        if from == Holding::Sold {
            row.payments[row.moved_by as usize - 1] = Money3::RefundDue;
            if m == Mutant::RefundMovesUnits {
                // Units and limit stay with the order until the money has gone back.
                return true;
            }
        }
        self.release(key, buyer, from, m);
        true
    }

    /// Applies a payment that this order has not seen.
    pub fn pay(&mut self, key: u8, buyer: u8, payment: usize, m: Mutant) {
        let Some(state) = self.keys[key as usize].order.state() else { return };
        let quantity = self.keys[key as usize].quantity;
        let room = self.held[buyer as usize] + quantity <= self.limit || m == Mutant::LatePaymentTakesNoLimit;
        let units = self.free >= quantity || m == Mutant::LatePaymentTakesNoUnit;
        let retakable = state == OrderState::Expired && units && room;
        let ruling = rule_on_payment(state, true, retakable);
        match ruling {
            PaymentRuling::Pay => {
                self.reserved = self.reserved.saturating_sub(quantity);
                self.sold += quantity;
            }
            PaymentRuling::PayLate => {
                if m != Mutant::LatePaymentTakesNoUnit {
                    self.free -= quantity;
                }
                self.sold += quantity;
                if m != Mutant::LatePaymentTakesNoLimit {
                    self.held[buyer as usize] += quantity;
                }
            }
            PaymentRuling::Refund | PaymentRuling::RefundAlone => {}
        }
        let row = &mut self.keys[key as usize];
        row.order = match ruling {
            PaymentRuling::Pay | PaymentRuling::PayLate => Order::Paid,
            PaymentRuling::Refund => Order::RefundDue,
            PaymentRuling::RefundAlone => {
                if m == Mutant::SecondPaymentIsDropped {
                    row.dropped += 1;
                    return;
                }
                row.order
            }
        };
        let stands = matches!(ruling, PaymentRuling::Pay | PaymentRuling::PayLate);
        row.payments[payment] = if stands { Money3::Paid } else { Money3::RefundDue };
        if ruling != PaymentRuling::RefundAlone {
            row.moved_by = payment as u8 + 1;
        }
    }

    /// The money of a payment has gone back.
    pub fn refunded(&mut self, key: u8, buyer: u8, payment: usize, m: Mutant) {
        let row = &mut self.keys[key as usize];
        row.payments[payment] = Money3::Refunded;
        if row.moved_by as usize != payment + 1 {
            return;
        }
        let was_paid = row.order == Order::RefundDue;
        row.order = Order::Refunded;
        if m == Mutant::RefundMovesUnits && was_paid {
            self.release(key, buyer, Holding::Sold, m);
        }
    }
}
