//! Decides purchase attempts inside the writer's transaction: reads what the rules ask for, then writes
//! decision, units, limit, order and outbox together. It never holds a rule of its own.

use std::time::Duration;

use hashbrown::HashMap;
use rusqlite::{Connection, OptionalExtension, params};
use types::{BuyerId, IdempotencyKey, LeaseId, Money, Sku, Tier, Timestamp};

use super::fault::Fault;
use super::{orders, read, rows};
use crate::stock::db::ruling::{self, LeaseView, Ruling, Terms, View};
use crate::stock::store::{Attempt, BodyHash, Claim, Decision, OrderState, Outcome, Verdict};

/// Decides attempts in order, each on its own merits. An attempt for an unknown product, or for no unit at
/// all, is `NotOnSale` and binds nothing.
pub(super) fn decide(
    tx: &Connection,
    attempts: &[Attempt],
    reserve_for: Duration,
    now: Timestamp,
) -> Result<Vec<Verdict>, Fault> {
    let mut desk = Desk { tx, now, expires_at: now.plus(reserve_for), terms: HashMap::new() };
    attempts.iter().map(|attempt| desk.decide(attempt)).collect()
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
    insert_decision(
        tx,
        buyer,
        key,
        Decision { body_hash, product: product.clone(), outcome: Outcome::Deadline, at: now },
    )
}

struct Desk<'a> {
    tx: &'a Connection,
    now: Timestamp,
    expires_at: Timestamp,
    terms: HashMap<Sku, Option<Terms>>,
}

impl Desk<'_> {
    fn decide(&mut self, attempt: &Attempt) -> Result<Verdict, Fault> {
        if let Some(decision) = read::decision(self.tx, &attempt.buyer, &attempt.key)? {
            return Ok(ruling::rule_on_decided(decision, attempt.body_hash));
        }
        if !self.terms.contains_key(&attempt.product) {
            let terms = read_terms(self.tx, &attempt.product)?;
            self.terms.insert(attempt.product.clone(), terms);
        }
        let Some(Some(terms)) = self.terms.get(&attempt.product) else { return Ok(Verdict::NotOnSale) };
        if attempt.quantity == 0 {
            return Ok(Verdict::NotOnSale);
        }
        let view = self.view(attempt, terms)?;
        let accepted = Outcome::Accepted(attempt.order);
        let (outcome, amount) = match ruling::rule(attempt.claim, attempt.quantity, attempt.deadline, self.now, &view) {
            Ruling::Say(verdict) => return Ok(verdict),
            Ruling::Bind(outcome) => (outcome, None),
            Ruling::TakeFree => {
                take_free(self.tx, attempt)?;
                (accepted, Some(self.accept(attempt, terms)?))
            }
            Ruling::TakeLease => {
                take_lease(self.tx, attempt)?;
                (accepted, Some(self.accept(attempt, terms)?))
            }
        };
        let decision =
            Decision { body_hash: attempt.body_hash, product: attempt.product.clone(), outcome, at: self.now };
        insert_decision(self.tx, &attempt.buyer, &attempt.key, decision).map(|decision| Verdict::Decided {
            decision,
            fresh: true,
            amount,
        })
    }

    fn view(&self, attempt: &Attempt, terms: &Terms) -> Result<View, Fault> {
        let mut find = self.tx.prepare_cached(
            "SELECT free, reserved, \
             (SELECT COALESCE(SUM(granted - consumed), 0) FROM lease WHERE product_id = ?1 AND state <> 'CLOSED') \
             AS leased, \
             COALESCE((SELECT held FROM buyer_limit WHERE buyer = ?2 AND sale = ?3 AND product_id = ?1), 0) AS held \
             FROM stock WHERE product_id = ?1",
        )?;
        let product = attempt.product.as_str();
        let mut found = find.query(params![product, attempt.buyer.as_str(), terms.sale.as_str()])?;
        let row = found.next()?.ok_or_else(|| Fault::broken(format!("product {product} has no stock row")))?;
        Ok(View {
            sale: terms.state,
            opens: terms.opens,
            closes: terms.closes,
            held: rows::count(row, "held")?,
            limit: terms.limit,
            free: rows::count(row, "free")?,
            leased: rows::count(row, "leased")?,
            reserved: rows::count(row, "reserved")?,
            lease: match attempt.claim {
                Claim::Grant { lease, seq } => lease_view(self.tx, &attempt.product, lease, seq)?,
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

fn read_terms(tx: &Connection, product: &Sku) -> Result<Option<Terms>, Fault> {
    let mut find = tx.prepare_cached(
        "SELECT p.sale, p.price, p.currency, p.buyer_limit, s.opens, s.closes, s.state \
         FROM product p JOIN sale s ON s.name = p.sale WHERE p.product_id = ?1",
    )?;
    let mut found = find.query([product.as_str()])?;
    let Some(row) = found.next()? else { return Ok(None) };
    let state: String = row.get("state")?;
    Ok(Some(Terms {
        sale: rows::parsed(row, "sale")?,
        state: rows::sale_state(&state)?,
        opens: rows::time(row, "opens")?,
        closes: rows::time(row, "closes")?,
        price: rows::money(row, "price", "currency")?,
        limit: rows::count(row, "buyer_limit")?,
    }))
}

fn lease_view(tx: &Connection, product: &Sku, lease: LeaseId, seq: u64) -> Result<LeaseView, Fault> {
    // No lease store counts so far: such a number is noise, and must not make its whole batch fail.
    let Ok(seq) = i64::try_from(seq) else { return Ok(LeaseView::Gone) };
    let mut find = tx.prepare_cached(
        "SELECT granted, consumed, state = 'FENCED' AS fenced, \
         EXISTS (SELECT 1 FROM orders o WHERE o.lease_id = lease.lease_id AND o.seq = ?3) AS sequence_used \
         FROM lease WHERE lease_id = ?1 AND product_id = ?2 AND state <> 'CLOSED'",
    )?;
    let mut found = find.query(params![lease.to_string(), product.as_str(), seq])?;
    let Some(row) = found.next()? else { return Ok(LeaseView::Gone) };
    Ok(LeaseView::Alive {
        granted: rows::count(row, "granted")?,
        consumed: rows::count(row, "consumed")?,
        fenced: row.get("fenced")?,
        sequence_used: row.get("sequence_used")?,
    })
}

fn token_used(tx: &Connection, attempt: &Attempt) -> Result<bool, Fault> {
    let Some(token) = &attempt.token else { return Ok(false) };
    let user: Option<(String, String)> = tx
        .prepare_cached("SELECT buyer, key FROM used_token WHERE token_id = ?1")?
        .query_row([token], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(user.is_some_and(|(buyer, key)| buyer != attempt.buyer.as_str() || key != attempt.key.as_str()))
}

fn take_free(tx: &Connection, attempt: &Attempt) -> Result<(), Fault> {
    let taken = tx
        .prepare_cached(
            "UPDATE stock SET free = free - ?2, reserved = reserved + ?2 WHERE product_id = ?1 AND free >= ?2",
        )?
        .execute(params![attempt.product.as_str(), attempt.quantity])?;
    expect_one(taken, "units of free")
}

fn take_lease(tx: &Connection, attempt: &Attempt) -> Result<(), Fault> {
    let Claim::Grant { lease, .. } = attempt.claim else { return Err(Fault::broken("no lease to take from")) };
    let taken = tx
        .prepare_cached(
            "UPDATE lease SET consumed = consumed + ?2 \
             WHERE lease_id = ?1 AND state <> 'CLOSED' AND consumed + ?2 <= granted",
        )?
        .execute(params![lease.to_string(), attempt.quantity])?;
    expect_one(taken, "units of the lease")?;
    let moved = tx
        .prepare_cached(
            "UPDATE stock SET leased = leased - ?2, reserved = reserved + ?2 WHERE product_id = ?1 AND leased >= ?2",
        )?
        .execute(params![attempt.product.as_str(), attempt.quantity])?;
    expect_one(moved, "leased units")
}

/// The conditions of an `UPDATE` repeat what was read in the same transaction: anything but one row is a defect.
fn expect_one(rows: usize, what: &str) -> Result<(), Fault> {
    if rows == 1 { Ok(()) } else { Err(Fault::broken(format!("{what}: {rows} rows where one was seen"))) }
}

fn insert_decision(
    tx: &Connection,
    buyer: &BuyerId,
    key: &IdempotencyKey,
    decision: Decision,
) -> Result<Decision, Fault> {
    let order = match decision.outcome {
        Outcome::Accepted(order) => Some(order.to_string()),
        _ => None,
    };
    tx.prepare_cached(
        "INSERT INTO decision (buyer, key, body_hash, product_id, outcome, order_id, decided_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
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
    Ok(decision)
}
