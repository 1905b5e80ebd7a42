//! Shoppers: they ask, ask again when no answer comes, wait on tickets, pay once or twice, cancel, and note in a
//! journal what they were told.

use std::sync::Arc;
use std::time::Duration;

use audit::journal::{Entry, Told};
use tokio::time::sleep;
use types::{BuyerId, IdempotencyKey, Money, OrderId, PaymentId, Sku};

use super::fate::Fate;
use super::world::{Core, World};
use crate::admission::Refusal;
use crate::purchase::{Ask, PurchaseOutcome, TicketState, purchase, read_ticket};
use crate::stock::store::{OrderChange, Payment, PaymentEffect};

/// How often a shopper asks under one key before he gives up.
const TRIES: usize = 8;

struct Shopper {
    world: Arc<World>,
    fate: Fate,
    buyer: BuyerId,
}

/// One shopper's whole visit.
pub async fn shop(world: Arc<World>, n: u64) {
    let fate = world.fate(10_000 + n);
    // Some share an account, so that limits and keys meet.
    let buyer = BuyerId::new(format!("buyer-{}", if fate.coin(300) { n / 2 } else { n })).expect("an id");
    let shopper = Arc::new(Shopper { world, fate, buyer });
    for visit in 0..shopper.fate.within(1..4) {
        shopper.pause(0, 1_500).await;
        let key = IdempotencyKey::new(format!("k{visit}")).expect("a key");
        let product =
            shopper.world.products[shopper.fate.within(0..shopper.world.products.len() as u64) as usize].clone();
        let quantity = u32::try_from(shopper.fate.within(1..3)).expect("small");
        if shopper.fate.coin(150) {
            // The same call twice at once, perhaps at two cores; sometimes for another quantity.
            let other = if shopper.fate.coin(500) { quantity } else { quantity + 1 };
            tokio::join!(shopper.buy(&key, &product, quantity), shopper.buy(&key, &product, other));
        } else {
            shopper.buy(&key, &product, quantity).await;
        }
    }
}

impl Shopper {
    async fn pause(&self, from: u64, to: u64) {
        sleep(Duration::from_millis(self.fate.within(from..to))).await;
    }

    fn note(&self, told: Told, asked: (&IdempotencyKey, &Sku, u32), sent: i64, more: impl FnOnce(&mut Entry)) {
        let (key, product, quantity) = asked;
        let mut entry = Entry {
            t: self.world.now(),
            sent: Some(sent),
            buyer: self.buyer.as_str().to_owned(),
            key: key.as_str().to_owned(),
            product: product.as_str().to_owned(),
            quantity: u64::from(quantity),
            status: 0,
            outcome: told,
            order: None,
            ticket_deadline: None,
            bound: false,
        };
        more(&mut entry);
        self.world.say(|| {
            format!(
                "{} {} {} × {}: {:?} (asked at {})",
                entry.buyer,
                entry.key,
                entry.quantity,
                entry.product,
                entry.outcome,
                sent - super::world::START.millis()
            )
        });
        self.world.journal.lock().push(entry);
    }

    /// Buys under one key, until there is an end or patience is.
    async fn buy(&self, key: &IdempotencyKey, product: &Sku, quantity: u32) {
        let asked = (key, product, quantity);
        for _ in 0..TRIES {
            let Some(core) = self.world.some_core(&self.fate) else {
                self.pause(20, 100).await;
                continue;
            };
            let ask = Ask {
                buyer: self.buyer.clone(),
                key: key.clone(),
                sale: self.world.sale.clone(),
                product: product.clone(),
                quantity,
                request: None,
                token: None,
                wait: self.fate.coin(300).then(|| Duration::from_millis(1_500)),
            };
            let sent = self.world.now();
            let answer = self.ask(&core, ask).await;
            match answer {
                None => self.note(Told::Error, asked, sent, |_| {}),
                Some(PurchaseOutcome::Accepted(order)) => {
                    self.note(Told::Accepted, asked, sent, |e| e.order = Some(order.to_string()));
                    return self.after(order, quantity).await;
                }
                Some(PurchaseOutcome::Bought(row)) => {
                    self.note(Told::Accepted, asked, sent, |e| e.order = Some(row.order.to_string()));
                    return self.after(row.order, quantity).await;
                }
                Some(PurchaseOutcome::Queued { ticket, deadline, .. }) => {
                    self.note(Told::Queued, asked, sent, |e| e.ticket_deadline = Some(deadline.millis()));
                    return self.wait(&ticket, deadline.millis(), asked).await;
                }
                Some(PurchaseOutcome::Refused(refusal)) => {
                    self.note(told(refusal), asked, sent, |_| {});
                    if matches!(refusal, Refusal::Ended | Refusal::OtherBody) || self.fate.coin(300) {
                        return;
                    }
                }
            }
            self.pause(10, 250).await;
        }
    }

    /// One call. `None`: the core died, or the client has hung up.
    async fn ask(&self, core: &Core, ask: Ask) -> Option<PurchaseOutcome> {
        let patience = Duration::from_millis(if self.fate.strikes(50) { 5 } else { 6_000 });
        tokio::select! {
            biased;
            () = core.dead.cancelled() => None,
            outcome = purchase(&core.shared, ask) => Some(outcome),
            () = sleep(patience) => None,
        }
    }

    /// Reads a ticket, at whatever core, until its end.
    async fn wait(&self, ticket: &str, deadline: i64, asked: (&IdempotencyKey, &Sku, u32)) {
        loop {
            self.pause(30, 500).await;
            let Some(core) = self.world.some_core(&self.fate) else { continue };
            let sent = self.world.now();
            let read = tokio::select! {
                biased;
                () = core.dead.cancelled() => continue,
                read = read_ticket(&core.shared, &self.buyer, ticket) => read,
            };
            match read {
                None => return self.world.break_with("7: a ticket does not open for its owner".into()),
                Some(Err(_)) => {}
                Some(Ok(TicketState::Pending { .. })) => {
                    self.note(Told::Queued, asked, sent, |e| {
                        (e.ticket_deadline, e.bound) = (Some(deadline), true);
                    });
                }
                Some(Ok(TicketState::Ended(PurchaseOutcome::Accepted(order)))) => {
                    self.note(Told::Accepted, asked, sent, |e| (e.order, e.bound) = (Some(order.to_string()), true));
                    return self.after(order, asked.2).await;
                }
                Some(Ok(TicketState::Ended(PurchaseOutcome::Refused(refusal)))) => {
                    // That the key is bound to another body says nothing of the decision.
                    let bound = refusal != Refusal::OtherBody;
                    self.note(told(refusal), asked, sent, |e| e.bound = bound);
                    if self.fate.coin(700) {
                        return;
                    }
                    // Another look must say the same for ever; the journal tells.
                    if self.fate.coin(500) {
                        return;
                    }
                }
                Some(Ok(TicketState::Ended(PurchaseOutcome::Queued { .. } | PurchaseOutcome::Bought(_)))) => {
                    return self.world.break_with("7: a ticket ended in a ticket".into());
                }
            }
        }
    }

    /// What becomes of an accepted order.
    async fn after(&self, order: OrderId, quantity: u32) {
        let bits = u128::from(self.fate.within(1..u64::MAX)) << 32;
        match self.fate.within(0..10) {
            0..=6 if self.world.weather.steady => self.cancel(order).await,
            0..=3 => self.pay(order, quantity, bits).await,
            4 => {
                self.pay(order, quantity, bits).await;
                self.pay(order, quantity, bits + 1).await;
            }
            // About when it expires.
            5 | 6 => {
                self.pause(1_200, 2_600).await;
                self.pay(order, quantity, bits).await;
            }
            7 => self.cancel(order).await,
            8 => {
                self.pay(order, quantity, bits).await;
                self.cancel(order).await;
            }
            _ => {}
        }
    }

    /// Money arrives; the provider repeats its call until it is taken, and sometimes after that.
    async fn pay(&self, order: OrderId, quantity: u32, bits: u128) {
        let amount = Money::new(100 * u64::from(quantity), "EUR".parse().expect("a currency")).expect("money");
        let payment = Payment { payment: PaymentId::from_bits(bits), order, amount };
        let mut again = self.fate.coin(200);
        loop {
            let Some(core) = self.world.some_core(&self.fate) else {
                self.pause(20, 100).await;
                continue;
            };
            let now = core.shared.now();
            let effect = tokio::select! {
                biased;
                () = core.dead.cancelled() => None,
                effect = core.shared.store.pay(payment.clone(), now) => effect.ok(),
            };
            self.world.say(|| format!("payment for {order}: {effect:?}"));
            match effect {
                Some(PaymentEffect::UnknownOrder) => {
                    return self.world.break_with(format!("4: the accepted order {order} is unknown"));
                }
                Some(effect) if !std::mem::take(&mut again) => {
                    if effect == PaymentEffect::RefundDue && self.fate.coin(500) {
                        let now = core.shared.now();
                        tokio::select! {
                            biased;
                            () = core.dead.cancelled() => {}
                            _done = core.shared.store.refunded(payment.payment, now) => {}
                        }
                    }
                    return;
                }
                _ => self.pause(20, 200).await,
            }
            if core.dead.is_cancelled() {
                self.pause(20, 100).await;
            }
        }
    }

    async fn cancel(&self, order: OrderId) {
        for _ in 0..TRIES {
            let Some(core) = self.world.some_core(&self.fate) else {
                self.pause(20, 100).await;
                continue;
            };
            let now = core.shared.now();
            let change = tokio::select! {
                biased;
                () = core.dead.cancelled() => None,
                change = core.shared.store.cancel(order, &self.buyer, now) => change.ok(),
            };
            match change {
                Some(OrderChange::Unknown) => {
                    return self.world.break_with(format!("4: the accepted order {order} is unknown to its buyer"));
                }
                Some(_) => return,
                None => self.pause(20, 200).await,
            }
        }
    }
}

const fn told(refusal: Refusal) -> Told {
    match refusal {
        Refusal::SoldOut => Told::SoldOut,
        Refusal::AllReserved => Told::AllReserved,
        Refusal::Limit => Told::Limit,
        _ => Told::Refused,
    }
}
