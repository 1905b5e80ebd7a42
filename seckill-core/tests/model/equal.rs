//! The checker's books against the embedded store: the same steps, drawn by seed, give the same answers and leave the
//! same rows. So what the checker proves of the books holds for the SQL.

use std::num::NonZeroI64;

use futures::executor::block_on;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use types::{
    BuyerId, Epoch, IdempotencyKey, Money, OrderId, PaymentId, ProductSpec, SaleName, SaleSpec, Tier, Timestamp,
};

use super::books::{
    Ask, Books, DEADLINE, End, IN_TIME, KEYS, LATE, LEASES, Money3, Order, PAYMENTS, body, lease_id, sku,
};
use super::mutant::Mutant;
use crate::stock::adjustment::{Adjusted, Adjustment, Reason};
use crate::stock::db::sqlite::inline::InlineStore;
use crate::stock::store::{
    Attempt, Claim, Decision, MoveStep, Moved, OrderChange, OrderState, Payment, ProductRow, StockStore, Verdict,
};

const SEEDS: u64 = 400;
const STEPS: usize = 40;
/// Orders are due after this, which no attempt's `now` reaches.
const DUE_AFTER: Timestamp = Timestamp::from_millis(500_000);

fn buyer(key: u8) -> u8 {
    key % 2
}
fn buyer_id(key: u8) -> BuyerId {
    BuyerId::new(format!("b{}", buyer(key))).expect("an id")
}
fn key_id(key: u8) -> IdempotencyKey {
    IdempotencyKey::new(format!("k{key}")).expect("a key")
}
fn euros(cents: u64) -> Money {
    Money::new(cents, "EUR".parse().expect("a currency")).expect("money")
}

/// What both must say alike of a verdict.
fn said(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Decided { decision: Decision { body_hash, outcome, .. }, fresh, .. } => {
            format!("{outcome:?} {} {fresh}", body_hash.0[0])
        }
        other => format!("{other:?}"),
    }
}

/// What both must have alike of a product.
fn shown(row: &ProductRow) -> String {
    let s = &row.state;
    format!(
        "{} {:?} {:?} {} total {} sellable {} reserved {} free {} sold {} {:?}",
        s.tier, s.phase, s.target, s.epoch, s.total, s.sellable, s.reserved, row.free, row.sold, row.lease
    )
}

const fn order_state(order: Order) -> Option<OrderState> {
    Some(match order {
        Order::None => return None,
        Order::Accepted => OrderState::Accepted,
        Order::Paid => OrderState::Paid,
        Order::Expired => OrderState::Expired,
        Order::Cancelled => OrderState::Cancelled,
        Order::RefundDue => OrderState::RefundDue,
        Order::Refunded => OrderState::Refunded,
    })
}

struct Pair {
    books: Books,
    store: InlineStore,
}

impl Pair {
    fn new(seed: u64, chance: &mut ChaCha8Rng) -> Self {
        let (total, limit) = (chance.random_range(1..=4), chance.random_range(1..=3));
        let store = InlineStore::create(&format!("equal-{seed}"), None);
        let product = ProductSpec {
            sku: sku(),
            name: "It".into(),
            price: euros(100),
            stock: u64::from(total),
            limit: u32::from(limit),
            initial_tier: None,
            pages: Vec::new(),
        };
        let sale = SaleSpec {
            policy: types::SalePolicy::default(),
            name: SaleName::new("s").expect("a name"),
            zone: "Europe/Berlin".into(),
            opens: Timestamp::from_millis(0),
            closes: Timestamp::from_millis(1_000_000),
            products: vec![product],
        };
        block_on(store.apply_sale(sale, Timestamp::from_millis(0))).expect("the sale");
        Self { books: Books::new(total, limit), store }
    }

    fn decide(&mut self, chance: &mut ChaCha8Rng) -> (String, String) {
        let key = chance.random_range(0..KEYS as u8);
        let claim = match chance.random_range(0..4) {
            0 => Claim::Door,
            1 => Claim::Queue,
            _ => Claim::Grant { lease: lease_id(chance.random_range(0..LEASES)), seq: chance.random_range(0..3) },
        };
        let now = if chance.random_bool(0.1) { LATE } else { IN_TIME };
        let ask = Ask { key, buyer: buyer(key), quantity: chance.random_range(1..=2), claim, deadline: DEADLINE, now };
        let attempt = Attempt {
            buyer: buyer_id(key),
            key: key_id(key),
            body_hash: body(ask.quantity),
            product: sku(),
            quantity: u32::from(ask.quantity),
            claim,
            deadline: DEADLINE,
            request: None,
            order: OrderId::from_bits(u128::from(key)),
            token: None,
        };
        let verdict = self.books.decide(&ask, Mutant::None);
        let reserve = DUE_AFTER.since(now);
        let real = block_on(self.store.decide(vec![attempt], reserve, now)).expect("decided").remove(0);
        (said(&verdict), said(&real))
    }

    fn step(&mut self, chance: &mut ChaCha8Rng) -> (String, String) {
        let epoch = Epoch::new(u64::from(self.books.epoch).saturating_sub(u64::from(chance.random_bool(0.15))));
        let target = Tier::ALL[chance.random_range(0..3)];
        let lease = lease_id(chance.random_range(0..LEASES));
        let living = lease_id(self.books.alive().unwrap_or(0));
        let product = sku();
        let step = match chance.random_range(0..10) {
            0 => MoveStep::Switch { product, epoch, target },
            1 | 2 => {
                let next = lease_id((self.books.opened as usize).min(LEASES - 1));
                MoveStep::OpenLease { product, epoch, lease: next, keep: chance.random_range(0..3) }
            }
            3 => MoveStep::MarkLoaded { lease: living },
            4 => MoveStep::Fence { product, epoch, target },
            5 => MoveStep::Settle { lease: living },
            6 => MoveStep::Settle { lease },
            7 => MoveStep::TopUp { lease: living, keep: chance.random_range(0..2) },
            8 => MoveStep::TopUp { lease, keep: chance.random_range(0..2) },
            _ => MoveStep::Open { product, epoch },
        };
        let done = self.books.step(&step, None, Mutant::None);
        let real = block_on(self.store.step(step, IN_TIME)).expect("a step");
        (done.to_string(), matches!(real, Moved::Done(_)).to_string())
    }

    fn money(&mut self, chance: &mut ChaCha8Rng) -> (String, String) {
        let key = chance.random_range(0..KEYS as u8);
        let row = self.books.keys[key as usize];
        if row.order == Order::None {
            return Default::default();
        }
        let payment = chance.random_range(0..PAYMENTS);
        let id = PaymentId::from_bits(u128::from(key) * 10 + payment as u128 + 1);
        match row.payments[payment] {
            Money3::None => {
                let amount = euros(100 * u64::from(row.quantity));
                self.books.pay(key, buyer(key), payment, Mutant::None);
                let stands = self.books.keys[key as usize].payments[payment] == Money3::Paid;
                let real = Payment { payment: id, order: OrderId::from_bits(u128::from(key)), amount };
                let real = block_on(self.store.pay(real, IN_TIME)).expect("paid");
                (if stands { "Paid" } else { "RefundDue" }.to_owned(), format!("{real:?}"))
            }
            Money3::RefundDue => {
                self.books.refunded(key, buyer(key), payment, Mutant::None);
                ("true".into(), block_on(self.store.refunded(id, IN_TIME)).expect("refunded").to_string())
            }
            Money3::Paid | Money3::Refunded => {
                ("false".into(), block_on(self.store.refunded(id, IN_TIME)).expect("asked").to_string())
            }
        }
    }

    fn life(&mut self, chance: &mut ChaCha8Rng) -> (String, String) {
        let key = chance.random_range(0..KEYS as u8);
        if chance.random_bool(0.3) {
            let n = (0..KEYS as u8).filter(|key| self.books.expire(*key, buyer(*key), Mutant::None)).count();
            let real = block_on(self.store.expire_due(DUE_AFTER, 10)).expect("expired");
            return (n.to_string(), real.orders.to_string());
        }
        let done = self.books.cancel(key, buyer(key), Mutant::None);
        let order = OrderId::from_bits(u128::from(key));
        let real = block_on(self.store.cancel(order, &buyer_id(key), IN_TIME)).expect("asked");
        (done.to_string(), matches!(real, OrderChange::Changed(_)).to_string())
    }

    fn adjust(&mut self, step: usize, chance: &mut ChaCha8Rng) -> (String, String) {
        let Some(delta) = NonZeroI64::new(chance.random_range(-3..=2)) else { return Default::default() };
        let asked = Adjustment {
            id: IdempotencyKey::new(format!("a{step}")).expect("a key"),
            product: sku(),
            delta,
            reason: Reason::new("counted").expect("a reason"),
            by: "m".into(),
        };
        let done = self.books.adjust(i8::try_from(delta.get()).expect("a small number"), Mutant::None);
        let real = block_on(self.store.adjust(asked, IN_TIME)).expect("asked");
        (done.to_string(), matches!(real, Adjusted::Done { .. }).to_string())
    }

    fn rows(&self) -> (String, String) {
        let real = block_on(self.store.product(&sku())).expect("read").expect("a product");
        let (mut ours, mut theirs) = (shown(&self.books.row()), shown(&real));
        for key in 0..KEYS as u8 {
            let row = &self.books.keys[key as usize];
            let end = self.books.decision(key).filter(|_| row.end != End::None);
            let real = block_on(self.store.decision(&buyer_id(key), &key_id(key))).expect("read");
            let what = |d: Option<Decision>| d.map(|d| (d.outcome, d.body_hash.0[0]));
            ours += &format!(" | {:?}", what(end));
            theirs += &format!(" | {:?}", what(real));
            let order = OrderId::from_bits(u128::from(key));
            let real = block_on(self.store.order(order, &buyer_id(key))).expect("read");
            ours += &format!(" {:?}", order_state(row.order).map(|s| (s, u32::from(row.quantity))));
            theirs += &format!(" {:?}", real.map(|o| (o.state, o.quantity)));
        }
        (ours, theirs)
    }
}

#[test]
fn the_books_are_the_embedded_store() {
    let mut accepted = 0;
    for seed in 0..SEEDS {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        let mut pair = Pair::new(seed, &mut chance);
        for step in 0..STEPS {
            let kind = chance.random_range(0..10);
            let (ours, theirs) = match kind {
                0..=3 => pair.decide(&mut chance),
                4..=6 => pair.step(&mut chance),
                7 => pair.adjust(step, &mut chance),
                8 => pair.money(&mut chance),
                _ if chance.random_bool(0.2) => {
                    let key = chance.random_range(0..KEYS as u8);
                    pair.books.conclude(key, 1);
                    let (buyer, key) = (buyer_id(key), key_id(key));
                    block_on(pair.store.conclude(&buyer, &key, body(1), &sku(), LATE)).expect("concluded");
                    Default::default()
                }
                _ => pair.life(&mut chance),
            };
            assert_eq!(ours, theirs, "seed {seed}, step {step}, kind {kind}");
            let (ours, theirs) = pair.rows();
            assert_eq!(ours, theirs, "seed {seed}, after step {step}, kind {kind}");
        }
        accepted += pair.books.keys.iter().filter(|k| k.end == End::Accepted).count();
    }
    println!("{SEEDS} seeds of {STEPS} steps, {accepted} orders: the same answers and the same rows");
}
