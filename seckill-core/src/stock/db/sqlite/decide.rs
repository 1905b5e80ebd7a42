//! Decides purchase attempts inside the writer's transaction: reads what the rules ask for, then writes
//! decision, limit, order and outbox together, and counts the units in the transaction's ledger. It never holds a
//! rule of its own.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use types::{BuyerId, IdempotencyKey, LeaseId, Money, Sku, Tier, Timestamp};

use super::fault::Fault;
use super::ledger::{Ledger, Page};
use super::{orders, read, rows};
use crate::stock::db::ruling::{self, LeaseView, Ruling, Terms, View};
use crate::stock::store::{Attempt, BodyHash, Claim, Decision, OrderState, Outcome, Verdict};

/// Decides attempts in order, each on its own merits. An attempt for an unknown product, or for no unit at
/// all, is `NotOnSale` and binds nothing. Units are only counted in the ledger: whoever has it settles it before
/// anything else looks at them.
pub(super) fn decide(
    tx: &Connection,
    ledger: &mut Ledger,
    attempts: &[Attempt],
    reserve_for: Duration,
    now: Timestamp,
) -> Result<Vec<Verdict>, Fault> {
    let desk = Desk { tx, now, expires_at: now.plus(reserve_for) };
    attempts.iter().map(|attempt| desk.decide(ledger, attempt)).collect()
}

/// As [`decide`], and settles.
#[cfg(test)]
pub(super) fn decide_and_settle(
    tx: &Connection,
    attempts: &[Attempt],
    reserve_for: Duration,
    now: Timestamp,
) -> Result<Vec<Verdict>, Fault> {
    let mut ledger = Ledger::default();
    let verdicts = decide(tx, &mut ledger, attempts, reserve_for, now)?;
    ledger.settle(tx)?;
    Ok(verdicts)
}

/// The end of a ticket past its deadline: the decision there is, or a new `deadline`.
pub(super) fn conclude(
    tx: &Connection,
    buyer: &BuyerId,
    key: &IdempotencyKey,
    body_hash: BodyHash,
    product: &Sku,
    now: Timestamp,
) -> Result<Decision, Fault> {
    if let Some(decision) = read::decision(tx, buyer, key)? {
        return Ok(decision);
    }
    let decision = Decision { body_hash, product: product.clone(), outcome: Outcome::Deadline, at: now };
    if insert_decision(tx, buyer, key, &decision)? {
        return Ok(decision);
    }
    Err(Fault::broken("a decision came within a transaction"))
}

struct Desk<'a> {
    tx: &'a Connection,
    now: Timestamp,
    expires_at: Timestamp,
}

impl Desk<'_> {
    /// Rules first and inserts the decision first of all that is written: where there is one already, that one is
    /// the answer and nothing has changed. What binds nothing is said only after a look for one.
    fn decide(&self, ledger: &mut Ledger, attempt: &Attempt) -> Result<Verdict, Fault> {
        let page = ledger.page(self.tx, &attempt.product)?.filter(|_| attempt.quantity > 0);
        let Some(page) = page else { return self.decided_or(attempt, Verdict::NotOnSale) };
        let view = self.view(attempt, page)?;
        let ruling = ruling::rule(attempt.claim, attempt.quantity, attempt.deadline, self.now, &view);
        let outcome = match ruling {
            Ruling::Say(verdict) => return self.decided_or(attempt, verdict),
            Ruling::Bind(outcome) => outcome,
            Ruling::TakeFree | Ruling::TakeLease => Outcome::Accepted(attempt.order),
        };
        let decision =
            Decision { body_hash: attempt.body_hash, product: attempt.product.clone(), outcome, at: self.now };
        if !insert_decision(self.tx, &attempt.buyer, &attempt.key, &decision)? {
            return self.decided_or(attempt, Verdict::NotOnSale);
        }
        let n = u64::from(attempt.quantity);
        match (ruling, attempt.claim) {
            (Ruling::TakeFree, _) => page.take_free(n)?,
            (Ruling::TakeLease, Claim::Grant { lease, .. }) => page.take_lease(lease, n)?,
            (Ruling::TakeLease, _) => return Err(Fault::broken("no lease to take from")),
            _ => return Ok(Verdict::Decided { decision, fresh: true, amount: None }),
        }
        let amount = Some(self.accept(attempt, &page.terms)?);
        Ok(Verdict::Decided { decision, fresh: true, amount })
    }

    /// A key that was decided keeps its answer; else this.
    fn decided_or(&self, attempt: &Attempt, verdict: Verdict) -> Result<Verdict, Fault> {
        let decision = read::decision(self.tx, &attempt.buyer, &attempt.key)?;
        Ok(decision.map_or(verdict, |decision| ruling::rule_on_decided(decision, attempt.body_hash)))
    }

    fn view(&self, attempt: &Attempt, page: &Page) -> Result<View, Fault> {
        let terms = &page.terms;
        Ok(View {
            sale: terms.state,
            opens: terms.opens,
            closes: terms.closes,
            held: held(self.tx, attempt, terms)?,
            limit: terms.limit,
            free: page.free,
            leased: page.leased(),
            reserved: page.reserved,
            lease: match attempt.claim {
                Claim::Grant { lease, seq } => lease_view(self.tx, page, lease, seq)?,
                Claim::Door | Claim::Queue => LeaseView::Gone,
            },
            token_used: token_used(self.tx, attempt)?,
        })
    }

    /// Everything of an accepted attempt but its units, which are taken, and its decision; answers its amount.
    fn accept(&self, attempt: &Attempt, terms: &Terms) -> Result<Money, Fault> {
        let amount = terms.price.times(attempt.quantity).map_err(|e| Fault::broken(e.to_string()))?;
        let (tier, lease, seq) = match attempt.claim {
            Claim::Door => (Tier::Db, None, None),
            Claim::Queue => (Tier::Queue, None, None),
            Claim::Grant { lease, seq } => (Tier::Redis, Some(lease.to_string()), Some(rows::int(seq)?)),
        };
        let order = attempt.order.to_string();
        self.tx
            .prepare_cached(
                "INSERT INTO orders (order_id, buyer, key, sale, product_id, quantity, amount, currency, tier, state, \
                 lease_id, seq, request_id, accepted_at, expires_at, updated_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'accepted', ?10, ?11, ?12, ?13, ?14, ?13)",
            )?
            .execute(params![
                order,
                attempt.buyer.as_str(),
                attempt.key.as_str(),
                terms.sale.as_str(),
                attempt.product.as_str(),
                attempt.quantity,
                rows::int(amount.minor())?,
                amount.currency().as_str(),
                tier.as_str(),
                lease,
                seq,
                attempt.request.as_ref().map(types::RequestId::as_str),
                self.now.millis(),
                self.expires_at.millis(),
            ])?;
        orders::hold(self.tx, &attempt.buyer, &terms.sale, &attempt.product, attempt.quantity)?;
        if let Some(token) = &attempt.token {
            self.tx
                .prepare_cached(
                    "INSERT INTO used_token (token_id, buyer, key) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                )?
                .execute(params![token, attempt.buyer.as_str(), attempt.key.as_str()])?;
        }
        orders::tell(self.tx, &order, OrderState::Accepted, attempt.request.as_ref(), self.now)?;
        Ok(amount)
    }
}

fn held(tx: &Connection, attempt: &Attempt, terms: &Terms) -> Result<u64, Fault> {
    let mut find =
        tx.prepare_cached("SELECT held FROM buyer_limit WHERE buyer = ?1 AND sale = ?2 AND product_id = ?3")?;
    let mut found = find.query(params![attempt.buyer.as_str(), terms.sale.as_str(), attempt.product.as_str()])?;
    found.next()?.map_or(Ok(0), |row| rows::count(row, "held"))
}

fn lease_view(tx: &Connection, page: &Page, lease: LeaseId, seq: u64) -> Result<LeaseView, Fault> {
    // No lease store counts so far: such a number is noise, and must not make its whole batch fail.
    let Ok(seq) = i64::try_from(seq) else { return Ok(LeaseView::Gone) };
    let Some(lent) = page.lease(lease) else { return Ok(LeaseView::Gone) };
    let sequence_used = tx
        .prepare_cached("SELECT 1 FROM orders WHERE lease_id = ?1 AND seq = ?2")?
        .exists(params![lease.to_string(), seq])?;
    Ok(LeaseView::Alive { granted: lent.granted, consumed: lent.consumed, fenced: lent.fenced, sequence_used })
}

fn token_used(tx: &Connection, attempt: &Attempt) -> Result<bool, Fault> {
    let Some(token) = &attempt.token else { return Ok(false) };
    let user: Option<(String, String)> = tx
        .prepare_cached("SELECT buyer, key FROM used_token WHERE token_id = ?1")?
        .query_row([token], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(user.is_some_and(|(buyer, key)| buyer != attempt.buyer.as_str() || key != attempt.key.as_str()))
}

/// Whether it was inserted: `false` if the key has a decision already.
fn insert_decision(tx: &Connection, buyer: &BuyerId, key: &IdempotencyKey, decision: &Decision) -> Result<bool, Fault> {
    let order = match decision.outcome {
        Outcome::Accepted(order) => Some(order.to_string()),
        _ => None,
    };
    let inserted = tx
        .prepare_cached(
            "INSERT INTO decision (buyer, key, body_hash, product_id, outcome, order_id, decided_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (buyer, key) DO NOTHING",
        )?
        .execute(params![
            buyer.as_str(),
            key.as_str(),
            rows::hash_text(decision.body_hash),
            decision.product.as_str(),
            rows::outcome_text(decision.outcome),
            order,
            decision.at.millis(),
        ])?;
    Ok(inserted == 1)
}
