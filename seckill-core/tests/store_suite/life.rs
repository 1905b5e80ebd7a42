//! Every order of things: seeded walks through purchases, moves, payments, expiry, cancellation and refunds,
//! each step compared with a small model written from the document, and every invariant asked after it.

use std::collections::BTreeMap;
use std::num::NonZeroI64;
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use seckill_core::stock::adjustment::Adjusted;
use seckill_core::stock::store::{
    Attempt, MoveStep, Moved, OrderChange, OrderState, Outcome, PaymentEffect, Resubmit, Verdict,
};
use types::{Epoch, LeaseId, Phase, Tier};

use super::*;

const BUYERS: usize = 3;
const LIMIT: u64 = 2;
const KEYS: usize = 14;
const PAYMENTS: usize = 8;

#[derive(Debug, Clone, Copy)]
struct Lease {
    id: LeaseId,
    granted: u64,
    consumed: u64,
    fenced: bool,
    loaded: bool,
}

#[derive(Debug, Clone, Copy)]
struct Order {
    buyer: usize,
    n: u64,
    state: OrderState,
    at: Timestamp,
}

/// What should be. `payments`: id → (order, money still stands, moved its order, refunded).
#[derive(Debug, Default)]
struct Model {
    free: u64,
    lease: Option<Lease>,
    leases: usize,
    used: Vec<(LeaseId, u64)>,
    tier: Option<Tier>,
    target: Option<Tier>,
    epoch: u64,
    decided: BTreeMap<usize, Outcome>,
    orders: BTreeMap<usize, Order>,
    payments: BTreeMap<usize, (usize, bool, bool, bool)>,
    adjustments: BTreeMap<usize, (i64, u64)>,
}

impl Model {
    fn sum(&self, wanted: impl Fn(&Order) -> bool) -> u64 {
        self.orders.values().filter(|o| wanted(o)).map(|o| o.n).sum()
    }
    fn held(&self, buyer: usize) -> u64 {
        self.sum(|o| o.buyer == buyer && matches!(o.state, OrderState::Accepted | OrderState::Paid))
    }
    fn reserved(&self) -> u64 {
        self.sum(|o| o.state == OrderState::Accepted)
    }
    fn leased(&self) -> u64 {
        self.lease.map_or(0, |l| l.granted - l.consumed)
    }
    fn draining(&self) -> bool {
        self.target.is_some()
    }

    fn bind(&mut self, k: usize, outcome: Outcome) -> Verdict2 {
        self.decided.insert(k, outcome);
        Verdict2::Decided(outcome, true)
    }
    fn accept(&mut self, k: usize, a: &Attempt, at: Timestamp) -> Verdict2 {
        let order = Order { buyer: k % BUYERS, n: u64::from(a.quantity), state: OrderState::Accepted, at };
        self.orders.insert(k, order);
        self.bind(k, Outcome::Accepted(a.order))
    }

    fn decide(&mut self, k: usize, a: &Attempt, at: Timestamp) -> Verdict2 {
        let n = u64::from(a.quantity);
        if let Some(outcome) = self.decided.get(&k) {
            return Verdict2::Decided(*outcome, false);
        }
        if at > a.deadline {
            return self.bind(k, Outcome::Deadline);
        }
        if self.held(k % BUYERS) + n > LIMIT {
            return self.bind(k, Outcome::Limit);
        }
        if let Claim::Grant { lease, seq } = a.claim {
            let Some(living) = self.lease.as_mut().filter(|l| l.id == lease) else {
                return Verdict2::Again(Resubmit::LeaseClosed);
            };
            if self.used.contains(&(lease, seq)) {
                return Verdict2::Again(Resubmit::SequenceUsed);
            }
            if living.consumed + n > living.granted {
                let why = if living.fenced { Resubmit::LeaseClosed } else { Resubmit::OverGranted };
                return Verdict2::Again(why);
            }
            living.consumed += n;
            self.used.push((lease, seq));
            return self.accept(k, a, at);
        }
        if self.free >= n {
            self.free -= n;
            return self.accept(k, a, at);
        }
        let sellable = self.free + self.leased();
        if sellable >= n {
            return Verdict2::Again(Resubmit::UnitsLeased);
        }
        match (a.claim == Claim::Queue, sellable == 0 && self.reserved() == 0) {
            (true, true) => self.bind(k, Outcome::SoldOut),
            (true, false) => self.bind(k, Outcome::AllReserved),
            (false, true) => Verdict2::SoldOut,
            (false, false) => Verdict2::AllReserved,
        }
    }

    fn pay(&mut self, p: usize, k: usize, right: bool) -> PaymentEffect {
        let effect = |stands| if stands { PaymentEffect::Paid } else { PaymentEffect::RefundDue };
        if let Some((of, stands, ..)) = self.payments.get(&p) {
            return if *of == k { effect(*stands) } else { PaymentEffect::UnknownOrder };
        }
        let Some(Order { buyer, n, state, .. }) = self.orders.get(&k).copied() else {
            return PaymentEffect::UnknownOrder;
        };
        let room = self.held(buyer) + n <= LIMIT;
        let (new, moved) = match state {
            _ if !right => (state, false),
            OrderState::Accepted => (OrderState::Paid, true),
            OrderState::Expired if self.free >= n && room => {
                self.free -= n;
                (OrderState::Paid, true)
            }
            OrderState::Expired | OrderState::Cancelled => (OrderState::RefundDue, true),
            other => (other, false),
        };
        let stands = moved && new == OrderState::Paid;
        self.orders.entry(k).and_modify(|o| o.state = new);
        self.payments.insert(p, (k, stands, moved, false));
        effect(stands)
    }

    fn cancel(&mut self, k: usize) -> bool {
        let Some(order) = self.orders.get_mut(&k) else { return false };
        let new = match order.state {
            OrderState::Accepted => OrderState::Cancelled,
            OrderState::Paid => OrderState::RefundDue,
            _ => return false,
        };
        order.state = new;
        self.free += order.n;
        if new == OrderState::RefundDue {
            for (of, stands, moved, _) in self.payments.values_mut() {
                if *of == k && *moved {
                    *stands = false;
                }
            }
        }
        true
    }

    fn refunded(&mut self, p: usize) -> bool {
        let Some((of, false, moved, refunded @ false)) = self.payments.get_mut(&p) else { return false };
        *refunded = true;
        if *moved {
            let of = *of;
            self.orders.entry(of).and_modify(|o| o.state = OrderState::Refunded);
        }
        true
    }

    fn expire(&mut self, now: Timestamp) -> usize {
        let mut n = 0;
        for order in self.orders.values_mut() {
            if order.state == OrderState::Accepted && order.at.plus(RESERVE) <= now {
                order.state = OrderState::Expired;
                self.free += order.n;
                n += 1;
            }
        }
        n
    }

    fn step(&mut self, step: &MoveStep) -> bool {
        let redis = self.tier == Some(Tier::Redis);
        match step {
            MoveStep::Switch { epoch, target, .. } => {
                let does = epoch.get() == self.epoch
                    && !self.draining()
                    && !redis
                    && *target != Tier::Redis
                    && self.tier != Some(*target);
                if does {
                    (self.tier, self.epoch) = (Some(*target), self.epoch + 1);
                }
                does
            }
            MoveStep::OpenLease { epoch, lease, keep, .. } => {
                let here = self.target == Some(Tier::Redis);
                let does = epoch.get() == self.epoch && self.lease.is_none() && (here || (!self.draining() && !redis));
                if does {
                    let granted = self.free.saturating_sub(*keep);
                    self.free -= granted;
                    self.lease = Some(Lease { id: *lease, granted, consumed: 0, fenced: false, loaded: false });
                    self.epoch += u64::from(!here);
                    (self.tier, self.target) = (Some(Tier::Redis), None);
                }
                does
            }
            MoveStep::Fence { epoch, target, .. } => {
                let does = epoch.get() == self.epoch && !self.draining() && redis;
                if let (true, Some(lease)) = (does, self.lease.as_mut()) {
                    lease.fenced = true;
                    (self.target, self.epoch) = (Some(*target), self.epoch + 1);
                }
                does
            }
            MoveStep::Settle { lease } => {
                let does = self.lease.is_some_and(|l| l.id == *lease && l.fenced);
                if does {
                    self.free += self.leased();
                    self.lease = None;
                }
                does
            }
            MoveStep::Open { epoch, .. } => {
                let does = epoch.get() == self.epoch
                    && self.lease.is_none()
                    && matches!(self.target, Some(Tier::Db | Tier::Queue));
                if does {
                    self.tier = self.target.take();
                }
                does
            }
            MoveStep::MarkLoaded { lease } => {
                let open = self.lease.as_mut().filter(|l| l.id == *lease && !l.fenced && !l.loaded);
                open.map(|l| l.loaded = true).is_some()
            }
            MoveStep::TopUp { lease, keep } => {
                let units = self.free.saturating_sub(*keep);
                let open = self.lease.as_mut().filter(|l| l.id == *lease && !l.fenced && l.loaded && units > 0);
                let does = open.map(|l| l.granted += units).is_some();
                self.free -= if does { units } else { 0 };
                does
            }
        }
    }
}

/// How an adjustment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Adjusts {
    Done { total: u64, fresh: bool },
    OtherBody,
    TooFew { removable: u64 },
}

impl Model {
    /// Asked by id, so that a walk repeats some, with another number now and then.
    fn adjust(&mut self, id: usize, delta: i64) -> Adjusts {
        if let Some((there, total)) = self.adjustments.get(&id).copied() {
            return if there == delta { Adjusts::Done { total, fresh: false } } else { Adjusts::OtherBody };
        }
        let removable = self.free + self.leased();
        let units = delta.unsigned_abs();
        if delta > 0 {
            self.free += units;
        } else if units > removable {
            return Adjusts::TooFew { removable };
        } else {
            let free = units.min(self.free);
            self.free -= free;
            if let (lent @ 1.., Some(lease)) = (units - free, self.lease.as_mut()) {
                lease.granted -= lent;
                if !lease.fenced {
                    lease.fenced = true;
                    (self.target, self.epoch) = (Some(Tier::Redis), self.epoch + 1);
                }
            }
        }
        let total = self.free + self.leased() + self.reserved() + self.sum(|o| o.state == OrderState::Paid);
        self.adjustments.insert(id, (delta, total));
        Adjusts::Done { total, fresh: true }
    }
}

impl From<Adjusted> for Adjusts {
    fn from(adjusted: Adjusted) -> Self {
        match adjusted {
            Adjusted::Done { row, product } => {
                if let Some(product) = &product {
                    assert_eq!(product.state.total, row.total);
                }
                Self::Done { total: row.total, fresh: product.is_some() }
            }
            Adjusted::OtherBody => Self::OtherBody,
            Adjusted::TooFew { removable } => Self::TooFew { removable },
            other => panic!("{other:?}"),
        }
    }
}

/// A verdict without what the model does not know.
#[derive(Debug, PartialEq, Eq)]
enum Verdict2 {
    Decided(Outcome, bool),
    Again(Resubmit),
    SoldOut,
    AllReserved,
    Other,
}
impl From<&Verdict> for Verdict2 {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Decided { decision, fresh, .. } => Self::Decided(decision.outcome, *fresh),
            Verdict::Resubmit(why) => Self::Again(*why),
            Verdict::SoldOutAtDoor => Self::SoldOut,
            Verdict::AllReservedAtDoor => Self::AllReserved,
            _ => Self::Other,
        }
    }
}

/// One walk of `steps` steps. The place must be new.
pub async fn walk(place: Arc<dyn Place>, seed: u64, steps: usize) {
    println!("SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let total = random.random_range(1..=5);
    let mut shop = Shop::selling(place, total, LIMIT as u32).await;
    let mut model = Model { free: total, tier: Some(Tier::Db), ..Model::default() };
    let mut now = NOW;
    let mut seq = 0u64;
    for i in 0..steps {
        let context = format!("SEED={seed} step {i}");
        let k = random.random_range(0..KEYS);
        match random.random_range(0..100) {
            0..40 => {
                let lease = model.lease.map_or(lease_id(random.random_range(0..=model.leases)), |l| l.id);
                let claim = match random.random_range(0..4) {
                    0 => Claim::Door,
                    1 => Claim::Queue,
                    _ => {
                        seq += u64::from(random.random_bool(0.8));
                        Claim::Grant { lease, seq }
                    }
                };
                let deadline = NOW.plus(Duration::from_secs(60 * (k as u64 % 4 + 1)));
                let quantity = 1 + (k / BUYERS % 2) as u32;
                let a = Attempt { buyer: buyer(k % BUYERS), quantity, claim, deadline, ..attempt(k) };
                let verdict = shop.decide_at(a.clone(), now).await;
                assert_eq!(Verdict2::from(&verdict), model.decide(k, &a, now), "{context}: {a:?}");
            }
            40..58 => {
                let (p, right) = (random.random_range(0..PAYMENTS), random.random_bool(0.9));
                let n = model.orders.get(&k).map_or(1, |o| o.n);
                let amount = euros(PRICE * n + u64::from(!right));
                let payment = Payment { payment: payment_id(p), order: order_id(k), amount };
                assert_eq!(shop.store.pay(payment, now).await.unwrap(), model.pay(p, k, right), "{context}: pay");
            }
            58..66 => {
                let changed = shop.store.cancel(order_id(k), &buyer(k % BUYERS), now).await.unwrap();
                assert_eq!(matches!(changed, OrderChange::Changed(_)), model.cancel(k), "{context}: cancel");
            }
            66..71 => {
                let p = random.random_range(0..PAYMENTS);
                assert_eq!(shop.store.refunded(payment_id(p), now).await.unwrap(), model.refunded(p), "{context}");
            }
            71..76 => {
                now = now.plus(Duration::from_secs(random.random_range(1..90)));
                assert_eq!(
                    shop.store.expire_due(now, 100).await.unwrap().orders,
                    model.expire(now),
                    "{context}: expire"
                );
            }
            76..83 => {
                let (id, delta) = (random.random_range(0..i / 2 + 1), random.random_range(-4..=2i64));
                let Some(delta) = NonZeroI64::new(delta) else { continue };
                let adjusted = shop.store.adjust(adjustment(id, delta.get()), now).await.unwrap();
                assert_eq!(Adjusts::from(adjusted), model.adjust(id, delta.get()), "{context}: {id} {delta} {model:?}");
            }
            83..98 => {
                let epoch = Epoch::new(model.epoch - u64::from(model.epoch > 0 && random.random_bool(0.1)));
                let target = Tier::ALL[random.random_range(0..3)];
                let product = sku("a");
                let here = model.lease.map_or(lease_id(model.leases), |l| l.id);
                let step = match random.random_range(0..8) {
                    0 => MoveStep::Switch { product, epoch, target },
                    1 => {
                        model.leases += 1;
                        let keep = random.random_range(0..3);
                        MoveStep::OpenLease { product, epoch, lease: lease_id(model.leases), keep }
                    }
                    2 => MoveStep::Fence { product, epoch, target },
                    3 | 4 => MoveStep::Settle { lease: here },
                    5 => MoveStep::MarkLoaded { lease: here },
                    6 => MoveStep::TopUp { lease: here, keep: random.random_range(0..2) },
                    _ => MoveStep::Open { product, epoch },
                };
                let moved = shop.store.step(step.clone(), now).await.unwrap();
                assert_eq!(matches!(moved, Moved::Done(_)), model.step(&step), "{context}: {step:?} {model:?}");
            }
            _ => shop = shop.restart(),
        }
        let row = shop.product().await;
        let lent = row.lease.map(|l| (l.granted, l.consumed, l.fenced, l.loaded));
        assert_eq!(lent, model.lease.map(|l| (l.granted, l.consumed, l.fenced, l.loaded)), "{context}");
        assert_eq!(
            (row.free, row.state.sellable, row.state.reserved, row.sold, row.state.epoch.get()),
            (
                model.free,
                model.free + model.leased(),
                model.reserved(),
                model.sum(|o| o.state == OrderState::Paid),
                model.epoch
            ),
            "{context}"
        );
        assert_eq!(
            (Some(row.state.tier), row.state.phase == Phase::Draining),
            (model.tier, model.draining()),
            "{context}"
        );
        shop.check();
    }
    for (k, order) in &model.orders {
        let row = shop.store.order(order_id(*k), &buyer(order.buyer)).await.unwrap().expect("an order exists for ever");
        assert_eq!(row.state, order.state, "SEED={seed} order {k}");
    }
}
