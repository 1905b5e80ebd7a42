//! A group of commands worked out in memory: what the transaction has read under its locks, each command decided in
//! order by the shared rules, and what is to be written at the end. It reads and writes no database, and holds no
//! rule of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use types::{BuyerId, IdempotencyKey, LeaseId, Money, OrderId, PaymentId, RequestId, SaleName, Sku, Tier, Timestamp};

use super::command::{Answer, Command};
use super::fault::Fault;
use crate::stock::db::ruling::{self, Holding, LeaseView, PaymentRuling, Ruling, Terms, View};
use crate::stock::payment_store::{PaymentRow, PaymentState};
use crate::stock::store::{
    Attempt, Claim, Decision, Expired, OrderChange, OrderRow, OrderState, Outcome, Payment, PaymentEffect, Verdict,
};

/// Units of a product by where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Units {
    pub(super) free: u64,
    pub(super) leased: u64,
    pub(super) reserved: u64,
    pub(super) sold: u64,
}

/// A lease that is not CLOSED.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lent {
    pub(super) granted: u64,
    pub(super) was_consumed: u64,
    pub(super) consumed: u64,
    pub(super) fenced: bool,
}

/// What is known of one product.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) terms: Terms,
    pub(super) was: Units,
    pub(super) now: Units,
    pub(super) leases: HashMap<LeaseId, Lent>,
}

/// A row of `orders` to be inserted.
#[derive(Debug, Clone)]
pub(super) struct NewOrder {
    pub(super) key: IdempotencyKey,
    pub(super) order: OrderId,
    pub(super) grant: Option<(LeaseId, u64)>,
    pub(super) request: Option<RequestId>,
}

/// A row of `outbox` to be inserted.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) order: OrderId,
    pub(super) kind: OrderState,
    pub(super) at: Timestamp,
    pub(super) request: Option<RequestId>,
}

/// `(buyer, key)`.
pub(super) type KeyOf = (BuyerId, IdempotencyKey);
/// Whose limit on what.
pub(super) type Holder = (BuyerId, SaleName, Sku);

/// The group's view of the database, and what it is to become.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) products: HashMap<Sku, Page>,
    pub(super) decisions: HashMap<KeyOf, Decision>,
    pub(super) held: HashMap<Holder, u64>,
    pub(super) tokens: HashMap<String, KeyOf>,
    pub(super) grants: HashSet<(LeaseId, u64)>,
    pub(super) orders: HashMap<OrderId, OrderRow>,
    pub(super) payments: HashMap<PaymentId, PaymentRow>,
    /// Orders that were due when the locks were not yet held, the longest overdue first.
    pub(super) due: Vec<OrderId>,

    /// What is new, by the order in which the tables sort it: locks are taken in one order by every core.
    pub(super) new_decisions: BTreeSet<KeyOf>,
    pub(super) new_orders: Vec<NewOrder>,
    /// Orders that moved: the state that the database has, and when it was left.
    pub(super) moved_orders: BTreeMap<OrderId, (OrderState, Timestamp)>,
    pub(super) new_held: BTreeSet<Holder>,
    pub(super) new_tokens: BTreeSet<String>,
    pub(super) new_payments: BTreeSet<PaymentId>,
    pub(super) moved_payments: BTreeMap<PaymentId, PaymentState>,
    pub(super) events: Vec<Event>,
    pub(super) relayed: Option<u64>,
}

impl Book {
    /// Does one command. A fault leaves the book in pieces: the whole transaction must be given up.
    pub(super) fn run(&mut self, command: &Command) -> Result<Answer, Fault> {
        Ok(match command {
            Command::Decide { attempts, reserve_for, now } => {
                Answer::Verdicts(attempts.iter().map(|a| self.decide(a, *reserve_for, *now)).collect::<Result<_, _>>()?)
            }
            Command::Conclude { buyer, key, body_hash, product, now } => {
                let key = (buyer.clone(), key.clone());
                let decision = match self.decisions.get(&key) {
                    Some(decision) => decision.clone(),
                    None => {
                        let product = product.clone();
                        self.bind(
                            key,
                            Decision { body_hash: *body_hash, product, outcome: Outcome::Deadline, at: *now },
                        )
                    }
                };
                Answer::Decision(decision)
            }
            Command::Pay { payment, now } => Answer::Effect(self.pay(payment, *now)?),
            Command::Cancel { order, buyer, now } => Answer::Change(self.cancel(*order, buyer, *now)?),
            Command::ShopStep { order, office, now } => {
                let row = self.orders.get(order).cloned();
                let ruling = row.as_ref().and_then(|row| ruling::rule_on_office(*office, row.state));
                Answer::Change(self.give_back(row, ruling, *now)?)
            }
            Command::ExpireDue { max, now } => Answer::Expired(self.expire_due(*max, *now)?),
            Command::Refunded { payment, now } => Answer::Did(self.refunded(*payment, *now)?),
            Command::Relayed { sequence } => {
                self.relayed = self.relayed.max(Some(*sequence));
                Answer::Done
            }
            Command::Step { .. }
            | Command::ApplySale { .. }
            | Command::Adjust { .. }
            | Command::SetSaleState { .. }
            | Command::Administer { .. } => {
                return Err(Fault::broken("a command that needs a transaction of its own"));
            }
        })
    }

    /// Whether the database is to be changed.
    pub(super) fn changes_nothing(&self) -> bool {
        self.new_decisions.is_empty()
            && self.moved_orders.is_empty()
            && self.new_payments.is_empty()
            && self.moved_payments.is_empty()
            && self.relayed.is_none()
    }

    fn decide(&mut self, attempt: &Attempt, reserve_for: Duration, now: Timestamp) -> Result<Verdict, Fault> {
        let key = (attempt.buyer.clone(), attempt.key.clone());
        if let Some(decision) = self.decisions.get(&key) {
            return Ok(ruling::rule_on_decided(decision.clone(), attempt.body_hash));
        }
        let Some(page) = self.products.get(&attempt.product) else { return Ok(Verdict::NotOnSale) };
        if attempt.quantity == 0 {
            return Ok(Verdict::NotOnSale);
        }
        let holder = (attempt.buyer.clone(), page.terms.sale.clone(), attempt.product.clone());
        let view = self.view(attempt, page, &holder);
        let (outcome, amount) = match ruling::rule(attempt.claim, attempt.quantity, attempt.deadline, now, &view) {
            Ruling::Say(verdict) => return Ok(verdict),
            Ruling::Bind(outcome) => (outcome, None),
            Ruling::TakeFree | Ruling::TakeLease => {
                (Outcome::Accepted(attempt.order), Some(self.accept(attempt, holder, reserve_for, now)?))
            }
        };
        let decision = Decision { body_hash: attempt.body_hash, product: attempt.product.clone(), outcome, at: now };
        Ok(Verdict::Decided { decision: self.bind(key, decision), fresh: true, amount })
    }

    fn view(&self, attempt: &Attempt, page: &Page, holder: &Holder) -> View {
        let by_another = |(buyer, key): &KeyOf| *buyer != attempt.buyer || *key != attempt.key;
        View {
            sale: page.terms.state,
            opens: page.terms.opens,
            closes: page.terms.closes,
            held: self.held.get(holder).copied().unwrap_or(0),
            limit: page.terms.limit,
            free: page.now.free,
            // Of the locked row itself: by invariant 1 the sum over its living leases.
            leased: page.now.leased,
            reserved: page.now.reserved,
            lease: match attempt.claim {
                Claim::Grant { lease, seq } => self.lease_view(page, lease, seq),
                Claim::Door | Claim::Queue => LeaseView::Gone,
            },
            token_used: attempt.token.as_ref().and_then(|t| self.tokens.get(t)).is_some_and(by_another),
        }
    }

    fn lease_view(&self, page: &Page, lease: LeaseId, seq: u64) -> LeaseView {
        // No lease store counts so far: such a number is noise, and must not make its whole batch fail.
        if i64::try_from(seq).is_err() {
            return LeaseView::Gone;
        }
        page.leases.get(&lease).map_or(LeaseView::Gone, |lent| LeaseView::Alive {
            granted: lent.granted,
            consumed: lent.consumed,
            fenced: lent.fenced,
            sequence_used: self.grants.contains(&(lease, seq)),
        })
    }

    /// Takes the units and makes the order; answers its amount. The ruling has seen that the units are there.
    fn accept(
        &mut self,
        attempt: &Attempt,
        holder: Holder,
        reserve_for: Duration,
        now: Timestamp,
    ) -> Result<Money, Fault> {
        let page = self.products.get_mut(&attempt.product).ok_or_else(|| Fault::broken("the product is gone"))?;
        let n = u64::from(attempt.quantity);
        let amount = page.terms.price.times(attempt.quantity).map_err(|e| Fault::broken(e.to_string()))?;
        let (tier, grant) = match attempt.claim {
            Claim::Door => (Tier::Db, None),
            Claim::Queue => (Tier::Queue, None),
            Claim::Grant { lease, seq } => (Tier::Redis, Some((lease, seq))),
        };
        let from = match grant {
            None => &mut page.now.free,
            Some((lease, _)) => {
                let lent = page.leases.get_mut(&lease).ok_or_else(|| Fault::broken("no lease to take from"))?;
                lent.consumed += n;
                &mut page.now.leased
            }
        };
        *from = from.checked_sub(n).ok_or_else(|| Fault::broken("units that were seen are not there"))?;
        page.now.reserved += n;
        let row = OrderRow {
            order: attempt.order,
            buyer: attempt.buyer.clone(),
            sale: page.terms.sale.clone(),
            product: attempt.product.clone(),
            quantity: attempt.quantity,
            amount,
            tier,
            state: OrderState::Accepted,
            accepted_at: now,
            expires_at: now.plus(reserve_for),
        };
        if self.orders.insert(attempt.order, row).is_some() {
            return Err(Fault::broken(format!("order {} is another attempt's", attempt.order)));
        }
        self.grants.extend(grant);
        self.hold(holder, n);
        if let Some(token) = &attempt.token
            && !self.tokens.contains_key(token)
        {
            self.tokens.insert(token.clone(), (attempt.buyer.clone(), attempt.key.clone()));
            self.new_tokens.insert(token.clone());
        }
        let request = attempt.request.clone();
        self.new_orders.push(NewOrder {
            key: attempt.key.clone(),
            order: attempt.order,
            grant,
            request: request.clone(),
        });
        self.events.push(Event { order: attempt.order, kind: OrderState::Accepted, at: now, request });
        Ok(amount)
    }

    fn bind(&mut self, key: KeyOf, decision: Decision) -> Decision {
        self.new_decisions.insert(key.clone());
        self.decisions.insert(key, decision.clone());
        decision
    }

    fn hold(&mut self, holder: Holder, n: u64) {
        *self.held.entry(holder.clone()).or_insert(0) += n;
        self.new_held.insert(holder);
    }

    /// The buyer's limit goes back with his units.
    fn unhold(&mut self, order: &OrderRow) -> Result<(), Fault> {
        let holder = (order.buyer.clone(), order.sale.clone(), order.product.clone());
        let n = u64::from(order.quantity);
        let held = self.held.get_mut(&holder).and_then(|held| held.checked_sub(n).map(|left| (held, left)));
        let Some((held, left)) = held else {
            return Err(Fault::broken(format!("order {}: its buyer does not hold its units", order.order)));
        };
        *held = left;
        self.new_held.insert(holder);
        Ok(())
    }

    /// Moves units of the order's product, `from` to `to`.
    fn shift(
        &mut self,
        order: &OrderRow,
        from: fn(&mut Units) -> &mut u64,
        to: fn(&mut Units) -> &mut u64,
    ) -> Result<(), Fault> {
        let n = u64::from(order.quantity);
        let missing = || Fault::broken(format!("order {}: its units are not where they should be", order.order));
        let units = &mut self.products.get_mut(&order.product).ok_or_else(missing)?.now;
        let left = from(units).checked_sub(n).ok_or_else(missing)?;
        *from(units) = left;
        *to(units) += n;
        Ok(())
    }

    /// The order's next state, with its event.
    fn advance(&mut self, order: OrderId, new: OrderState, now: Timestamp) -> Result<(), Fault> {
        let row = self.orders.get_mut(&order).ok_or_else(|| Fault::broken("the order is gone"))?;
        let is_new = self.new_orders.iter().any(|o| o.order == order);
        if !is_new {
            self.moved_orders.entry(order).or_insert((row.state, now)).1 = now;
        }
        row.state = new;
        self.events.push(Event { order, kind: new, at: now, request: None });
        Ok(())
    }

    /// Units and limit of an order whose hold has just ended.
    fn release(&mut self, order: &OrderRow, from: Holding) -> Result<(), Fault> {
        match from {
            Holding::Reserved => self.shift(order, |u| &mut u.reserved, |u| &mut u.free)?,
            Holding::Sold => self.shift(order, |u| &mut u.sold, |u| &mut u.free)?,
        }
        self.unhold(order)
    }

    fn pay(&mut self, payment: &Payment, now: Timestamp) -> Result<PaymentEffect, Fault> {
        if let Some(seen) = self.payments.get(&payment.payment) {
            if seen.order != payment.order {
                tracing::error!(payment = %payment.payment, order = %payment.order, "a payment id was used for two orders");
                return Ok(PaymentEffect::UnknownOrder);
            }
            let stands = seen.state == PaymentState::Paid;
            return Ok(if stands { PaymentEffect::Paid } else { PaymentEffect::RefundDue });
        }
        let Some(order) = self.orders.get(&payment.order).cloned() else { return Ok(PaymentEffect::UnknownOrder) };
        let ruling = ruling::rule_on_payment(order.state, payment.amount == order.amount, self.is_retakable(&order));
        match ruling {
            PaymentRuling::Pay => {
                self.shift(&order, |u| &mut u.reserved, |u| &mut u.sold)?;
                self.advance(order.order, OrderState::Paid, now)?;
            }
            PaymentRuling::PayLate => {
                self.shift(&order, |u| &mut u.free, |u| &mut u.sold)?;
                let holder = (order.buyer.clone(), order.sale.clone(), order.product.clone());
                self.hold(holder, u64::from(order.quantity));
                self.advance(order.order, OrderState::Paid, now)?;
            }
            PaymentRuling::Refund => self.advance(order.order, OrderState::RefundDue, now)?,
            PaymentRuling::RefundAlone => {}
        }
        let stands = matches!(ruling, PaymentRuling::Pay | PaymentRuling::PayLate);
        let row = PaymentRow {
            payment: payment.payment,
            order: order.order,
            amount: payment.amount,
            state: if stands { PaymentState::Paid } else { PaymentState::RefundDue },
            moved_order: ruling != PaymentRuling::RefundAlone,
            at: now,
        };
        self.payments.insert(payment.payment, row);
        self.new_payments.insert(payment.payment);
        Ok(if stands { PaymentEffect::Paid } else { PaymentEffect::RefundDue })
    }

    /// Whether an expired order's units and its buyer's limit could be taken again now. Leased units do not count.
    fn is_retakable(&self, order: &OrderRow) -> bool {
        let Some(page) = self.products.get(&order.product) else { return false };
        let n = u64::from(order.quantity);
        let holder = (order.buyer.clone(), order.sale.clone(), order.product.clone());
        let held = self.held.get(&holder).copied().unwrap_or(0);
        page.now.free >= n && held.saturating_add(n) <= page.terms.limit
    }

    fn cancel(&mut self, order: OrderId, buyer: &BuyerId, now: Timestamp) -> Result<OrderChange, Fault> {
        let row = self.orders.get(&order).filter(|row| row.buyer == *buyer).cloned();
        let ruling = row.as_ref().and_then(|row| ruling::rule_on_cancel(row.state));
        self.give_back(row, ruling, now)
    }

    /// The order's units and limit return, and its money is owed if it was paid.
    fn give_back(
        &mut self,
        row: Option<OrderRow>,
        ruling: Option<(OrderState, Holding)>,
        now: Timestamp,
    ) -> Result<OrderChange, Fault> {
        let Some(row) = row else { return Ok(OrderChange::Unknown) };
        let Some((new, holding)) = ruling else { return Ok(OrderChange::InState(row)) };
        let order = row.order;
        self.advance(order, new, now)?;
        self.release(&row, holding)?;
        if holding == Holding::Sold {
            let paid = |p: &PaymentRow| p.order == order && p.moved_order && p.state == PaymentState::Paid;
            let mut paid = self.payments.iter().filter(|(_, p)| paid(p)).map(|(id, _)| *id);
            let (Some(id), None) = (paid.next(), paid.next()) else {
                return Err(Fault::broken(format!("order {order} was paid by no payment or by several")));
            };
            self.advance_payment(id, PaymentState::RefundDue);
        }
        Ok(OrderChange::Changed(OrderRow { state: new, ..row }))
    }

    fn advance_payment(&mut self, id: PaymentId, new: PaymentState) {
        if let Some(row) = self.payments.get_mut(&id) {
            if !self.new_payments.contains(&id) {
                self.moved_payments.entry(id).or_insert(row.state);
            }
            row.state = new;
        }
    }

    fn expire_due(&mut self, max: usize, now: Timestamp) -> Result<Expired, Fault> {
        let is_due = |row: &&OrderRow| row.state == OrderState::Accepted && row.expires_at <= now;
        let due: Vec<OrderRow> =
            self.due.iter().filter_map(|id| self.orders.get(id)).filter(is_due).take(max).cloned().collect();
        let mut expired = Expired { orders: due.len(), ..Expired::default() };
        for order in due {
            self.advance(order.order, OrderState::Expired, now)?;
            self.release(&order, Holding::Reserved)?;
            expired.products.insert(order.product);
        }
        Ok(expired)
    }

    fn refunded(&mut self, payment: PaymentId, now: Timestamp) -> Result<bool, Fault> {
        let is_due = |row: &PaymentRow| row.state == PaymentState::RefundDue && self.orders.contains_key(&row.order);
        let Some(row) = self.payments.get(&payment).copied().filter(is_due) else { return Ok(false) };
        self.advance_payment(payment, PaymentState::Refunded);
        if row.moved_order {
            if self.orders.get(&row.order).map(|order| order.state) != Some(OrderState::RefundDue) {
                let order = row.order;
                return Err(Fault::broken(format!("payment {payment} was due a refund and its order {order} was not")));
            }
            self.advance(row.order, OrderState::Refunded, now)?;
        }
        Ok(true)
    }
}
