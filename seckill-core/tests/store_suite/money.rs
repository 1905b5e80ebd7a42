//! Every order of things around money: seeded walks in which a provider takes the right and the wrong, tells it late,
//! early, twice and out of order, gives back by itself, and the core crashes between any two steps. Whatever it knows
//! of money is settled by the callback's own code. After each step the books are whole; in the end they are equal to
//! the provider's, to the cent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::seq::IndexedRandom as _;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use seckill_core::payment::notice::{MoneyState, Notice, Settled, settle};
use seckill_core::stock::payment_store::{OrderOffice, PaymentRow, PaymentState};
use seckill_core::stock::store::{OrderChange, OrderState};

use super::*;

const BUYERS: usize = 4;
const ORDERS: usize = 12;
const MOST_PAYMENTS: usize = 20;

/// A payment as its provider has it.
#[derive(Debug, Clone, Copy)]
struct Taken {
    order: usize,
    amount: Money,
    /// Whether the money is with the shop.
    here: bool,
    /// Whether we have ever said that we know of it.
    known: bool,
}

/// The provider, which forgets nothing.
#[derive(Debug, Default)]
struct Provider {
    taken: BTreeMap<PaymentId, Taken>,
    /// What it goes on telling until it has a definite answer; copies are the line's.
    untold: Vec<Notice>,
}

fn dollars(cents: u64) -> Money {
    Money::new(cents, "USD".parse().unwrap()).unwrap()
}

impl Provider {
    fn take(&mut self, random: &mut ChaCha8Rng) {
        if self.taken.len() >= MOST_PAYMENTS {
            return;
        }
        let (payment, order) = (payment_id(self.taken.len()), random.random_range(0..ORDERS));
        let right = PRICE * quantity(order);
        let amount = match random.random_range(0..10) {
            0 => euros(right + 1),
            1 => dollars(right),
            _ => euros(right),
        };
        let paid = random.random_bool(0.9);
        self.taken.insert(payment, Taken { order, amount, here: paid, known: false });
        let status = if paid { MoneyState::Paid } else { MoneyState::Failed };
        self.tell(payment, status, random.random_range(1..=3));
    }
    fn tell(&mut self, payment: PaymentId, status: MoneyState, times: usize) {
        let Taken { order, amount, .. } = self.taken[&payment];
        let notice = Notice { payment, order: order_id(order), amount, status };
        self.untold.extend(std::iter::repeat_n(notice, times));
    }
    /// It gives money back by itself; only what it knows to be told, as a real one would.
    fn give_back(&mut self, random: &mut ChaCha8Rng) {
        let here: Vec<_> = self.taken.iter().filter(|(_, t)| t.here && t.known).map(|(id, _)| *id).collect();
        if let Some(payment) = here.choose(random) {
            self.refund(*payment);
            self.tell(*payment, MoneyState::Refunded, random.random_range(1..=2));
        }
    }
    /// Asked for a refund; asking twice is harmless.
    fn refund(&mut self, payment: PaymentId) {
        if let Some(taken) = self.taken.get_mut(&payment) {
            taken.here = false;
        }
    }
}

fn quantity(order: usize) -> u64 {
    1 + (order % 2) as u64
}

/// One notice on its way. `lost`: the core's answer does not arrive, so that it will be told again.
async fn deliver(shop: &Shop, provider: &mut Provider, at: usize, lost: bool, now: Timestamp, context: &str) -> String {
    let notice = provider.untold[at];
    let before = shop.store.any_order(notice.order).await.unwrap().map(|row| row.state);
    let settled = settle(&*shop.store, notice, now).await.unwrap();
    let taken = provider.taken.get_mut(&notice.payment).unwrap();
    let kept = shop.store.payment(notice.payment).await.unwrap();
    match settled {
        Settled::Kept(state) => {
            let row = kept.unwrap_or_else(|| panic!("{context}: {notice:?} is said to be kept and is not"));
            assert_eq!((row.order, row.amount, row.state), (notice.order, notice.amount, state), "{context}");
            if notice.status == MoneyState::Refunded {
                assert_eq!(state, PaymentState::Refunded, "{context}: money that has gone back pays nothing");
            }
        }
        Settled::Failed => assert_eq!((kept, notice.status), (None, MoneyState::Failed), "{context}"),
        Settled::UnknownOrder | Settled::UnknownPayment => {
            assert_eq!(kept, None, "{context}");
            let order = shop.store.any_order(notice.order).await.unwrap();
            assert!(order.is_none() || settled == Settled::UnknownPayment, "{context}: {notice:?} was refused");
            return format!("{:?} {before:?} {settled:?}", notice.status);
        }
        Settled::Conflict(_) => panic!("{context}: the provider used no id twice: {notice:?}"),
    }
    if !lost {
        taken.known = true;
        provider.untold.swap_remove(at);
    }
    format!("{:?} {before:?} {settled:?}", notice.status)
}

/// The worker of refunds, which may die before it has noted what it did.
async fn refund_what_is_due(shop: &Shop, provider: &mut Provider, dies: bool, now: Timestamp) {
    for row in all_due(shop).await {
        provider.refund(row.payment);
        if dies {
            return;
        }
        assert!(shop.store.refunded(row.payment, now).await.unwrap());
    }
}

/// Page by page.
async fn all_due(shop: &Shop) -> Vec<PaymentRow> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = shop.store.refunds_due(after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.at, last.payment));
        assert!(page.iter().all(|row| row.state == PaymentState::RefundDue));
        all.extend(page);
    }
    assert!(all.is_sorted_by(|a, b| (a.at, a.payment.to_string()) < (b.at, b.payment.to_string())), "{all:?}");
    all
}

/// Nothing that we said we know is missing, and no money is in two places.
async fn no_payment_is_dropped(shop: &Shop, provider: &Provider, context: &str) {
    for (payment, taken) in &provider.taken {
        let row = shop.store.payment(*payment).await.unwrap();
        if taken.known && taken.here {
            assert!(row.is_some(), "{context}: {payment} was dropped");
        }
        if let Some(row) = row {
            assert_eq!((row.order, row.amount), (order_id(taken.order), taken.amount), "{context}");
            assert!(row.state != PaymentState::Refunded || !taken.here, "{context}: {payment} never went back");
            if row.state == PaymentState::Paid && !taken.here {
                let told = provider.untold.iter().any(|n| n.payment == *payment && n.status == MoneyState::Refunded);
                assert!(told, "{context}: {payment} pays an order and has gone back");
            }
        }
    }
}

/// What all walks together must have met: a notice, the order's state before it, how it was settled.
pub const MUST_BE_MET: [&str; 12] = [
    "Paid None UnknownOrder",
    "Paid Some(Accepted) Kept(Paid)",
    "Paid Some(Accepted) Kept(RefundDue)",
    "Paid Some(Paid) Kept(Paid)",
    "Paid Some(Paid) Kept(RefundDue)",
    "Paid Some(Expired) Kept(Paid)",
    "Paid Some(Expired) Kept(RefundDue)",
    "Paid Some(Cancelled) Kept(RefundDue)",
    "Paid Some(Refunded) Kept(Refunded)",
    "Failed Some(Accepted) Failed",
    "Refunded Some(Paid) Kept(Refunded)",
    "Refunded Some(RefundDue) Kept(Refunded)",
];

/// One walk of `steps` steps; what it met. The place must be new.
pub async fn walk(place: Arc<dyn Place>, seed: u64, steps: usize) -> BTreeSet<String> {
    println!("SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut shop = Shop::selling(place, random.random_range(2..=8), 4).await;
    let (mut provider, mut now, mut met) = (Provider::default(), NOW, BTreeSet::new());
    for i in 0..steps {
        let context = format!("SEED={seed} step {i}");
        let k = random.random_range(0..ORDERS);
        match random.random_range(0..100) {
            0..18 => {
                let deadline = now.plus(Duration::from_secs(9));
                let (buyer, quantity) = (buyer(k % BUYERS), quantity(k) as u32);
                shop.decide_at(Attempt { buyer, quantity, deadline, ..attempt(k) }, now).await;
            }
            18..34 => provider.take(&mut random),
            34..66 if !provider.untold.is_empty() => {
                let (at, lost) = (random.random_range(0..provider.untold.len()), random.random_bool(0.2));
                met.insert(deliver(&shop, &mut provider, at, lost, now, &context).await);
            }
            66..71 => drop(shop.store.cancel(order_id(k), &buyer(k % BUYERS), now).await.unwrap()),
            71..77 => {
                let office = if random.random_bool(0.7) { OrderOffice::Refund } else { OrderOffice::Release };
                let before = shop.store.any_order(order_id(k)).await.unwrap().map(|row| row.state);
                let after = shop.store.shop_step(order_id(k), office, now).await.unwrap();
                let (from, to) = match office {
                    OrderOffice::Refund => (OrderState::Paid, OrderState::RefundDue),
                    OrderOffice::Release => (OrderState::Accepted, OrderState::Cancelled),
                };
                match after {
                    OrderChange::Changed(row) => assert_eq!((before, row.state), (Some(from), to), "{context}"),
                    OrderChange::InState(row) => assert!(row.state != from && before == Some(row.state), "{context}"),
                    OrderChange::Unknown => assert_eq!(before, None, "{context}"),
                }
            }
            77..84 => {
                now = now.plus(Duration::from_secs(random.random_range(1..60)));
                shop.store.expire_due(now, 100).await.unwrap();
            }
            84..90 => refund_what_is_due(&shop, &mut provider, random.random_bool(0.4), now).await,
            90..94 => provider.give_back(&mut random),
            94..97 => shop = shop.restart(),
            _ => {}
        }
        shop.check();
        no_payment_is_dropped(&shop, &provider, &context).await;
    }
    settle_the_rest(&shop, &mut provider, now, seed).await;
    met
}

/// Everything is told, everything owed goes back: then the books are the provider's.
async fn settle_the_rest(shop: &Shop, provider: &mut Provider, now: Timestamp, seed: u64) {
    let context = format!("SEED={seed} at rest");
    // What is told of an order that never was stays untold, and a failed payment has no money to go back.
    for _ in 0..3 {
        for at in (0..provider.untold.len()).rev() {
            let _met = deliver(shop, provider, at, false, now, &context).await;
        }
    }
    refund_what_is_due(shop, provider, false, now).await;
    shop.check();
    no_payment_is_dropped(shop, provider, &context).await;
    assert!(all_due(shop).await.is_empty());
    for notice in &provider.untold {
        assert!(shop.store.any_order(notice.order).await.unwrap().is_none(), "{context}: {notice:?} is not settled");
    }
    let (mut here, mut paid) = (0, 0);
    for (payment, _) in provider.taken.iter().filter(|(_, taken)| taken.here) {
        let row = shop.store.payment(*payment).await.unwrap();
        match row {
            Some(row) => {
                assert_eq!(row.state, PaymentState::Paid, "{context}: {payment}");
                here += row.amount.minor();
            }
            // Still being told: its order may yet come.
            None => assert!(provider.untold.iter().any(|n| n.payment == *payment), "{context}: {payment} was dropped"),
        }
    }
    for k in 0..ORDERS {
        if let Some(row) = shop.store.any_order(order_id(k)).await.unwrap() {
            assert!(row.state != OrderState::RefundDue, "{context}: {k}");
            paid += if row.state == OrderState::Paid { row.amount.minor() } else { 0 };
        }
    }
    assert_eq!(here, paid, "{context}: the money that is here is what the paid orders cost");
}
