//! Writes what a book has become, in one round trip, and checks that every statement touched what it should. Units
//! move by conditional updates: the locks make them succeed, and if they did not, nothing would be sold.
//!
//! The events come last: their numbers are handed out under the lock of `outbox_head`, which every core waits for,
//! and which is held until the commit. So numbers have no gaps and become visible in their order.

use std::collections::BTreeMap;

use types::{LeaseId, OrderId, PaymentId, RequestId, Sku};

use super::book::{Book, NewOrder};
use super::fault::{DECISIONS, Fault, PAYMENTS, TOKENS};
use super::session::Session;
use super::text::{ROWS, Script};
use crate::stock::db::words;
use crate::stock::payment_store::PaymentState;
use crate::stock::store::{OrderState, Outcome};

/// What a statement of the script must touch, by its label.
type Expected = Vec<(&'static str, u64)>;

/// The writer's own mark: the number of the transaction that is about to be committed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark<'a> {
    pub(super) writer: &'a str,
    pub(super) number: i64,
}

impl Mark<'_> {
    /// Writes it, as part of the transaction that it stands for.
    pub(super) fn write(self, script: &mut Script) {
        script.add("mark", "UPDATE writer_mark SET last = ").int(self.number).sql(" WHERE writer = ").text(self.writer);
    }
}

/// Writes the book's changes.
pub(super) async fn flush(session: &mut Session, book: &Book, mark: Mark<'_>) -> Result<(), Fault> {
    let mut script = Script::default();
    let mut expected = Expected::new();
    insert_decisions(&mut script, &mut expected, book)?;
    insert_orders(&mut script, &mut expected, book)?;
    move_orders(&mut script, &mut expected, book)?;
    write_limits(&mut script, book)?;
    insert_tokens(&mut script, &mut expected, book)?;
    write_payments(&mut script, &mut expected, book)?;
    take_from_leases(&mut script, &mut expected, book)?;
    move_units(&mut script, &mut expected, book)?;
    write_relayed(&mut script, book)?;
    mark.write(&mut script);
    expected.push(("mark", 1));
    insert_events(&mut script, &mut expected, book)?;
    let replies = session.run(&script).await?;
    for (label, rows) in expected {
        let touched = replies.touched(label);
        if touched != rows {
            return Err(Fault::broken(format!("{label}: {touched} rows where {rows} were expected")));
        }
    }
    Ok(())
}

fn expect(expected: &mut Expected, label: &'static str, rows: usize) {
    expected.push((label, rows as u64));
}

fn insert_decisions(script: &mut Script, expected: &mut Expected, book: &Book) -> Result<(), Fault> {
    let keys: Vec<_> = book.new_decisions.iter().collect();
    for part in keys.chunks(ROWS) {
        script.add(
            DECISIONS,
            "INSERT INTO decision (buyer, `key`, body_hash, product_id, outcome, order_id, decided_at) VALUES ",
        );
        script.try_row(part, |s, key| {
            let decision = book.decisions.get(*key).ok_or_else(|| Fault::broken("a decision is gone"))?;
            s.sql("(").text(key.0.as_str()).sql(", ").text(key.1.as_str());
            s.sql(", ").text(&words::hash_text(decision.body_hash)).sql(", ").text(decision.product.as_str());
            s.sql(", ").text(words::outcome_text(decision.outcome)).sql(", ");
            match decision.outcome {
                Outcome::Accepted(order) => s.id(order),
                _ => s.sql("NULL"),
            };
            s.sql(", ").time(decision.at).sql(")");
            Ok(())
        })?;
    }
    expect(expected, DECISIONS, keys.len());
    Ok(())
}

fn insert_orders(script: &mut Script, expected: &mut Expected, book: &Book) -> Result<(), Fault> {
    const INSERT: &str = "INSERT INTO orders (order_id, buyer, `key`, sale, product_id, quantity, amount, currency, tier, \
                          state, lease_id, seq, request_id, accepted_at, expires_at, updated_at) VALUES ";
    for part in book.new_orders.chunks(ROWS) {
        script.add("insert orders", INSERT);
        script.try_row(part, |s, new| insert_order(s, book, new))?;
    }
    expect(expected, "insert orders", book.new_orders.len());
    Ok(())
}

fn insert_order(s: &mut Script, book: &Book, new: &NewOrder) -> Result<(), Fault> {
    let row = book.orders.get(&new.order).ok_or_else(|| Fault::broken("a new order is gone"))?;
    s.sql("(").id(new.order).sql(", ").text(row.buyer.as_str()).sql(", ").text(new.key.as_str());
    s.sql(", ").text(row.sale.as_str()).sql(", ").text(row.product.as_str()).sql(", ").int(row.quantity.into());
    s.sql(", ").count(row.amount.minor())?.sql(", ").text(row.amount.currency().as_str());
    s.sql(", ").text(row.tier.as_str()).sql(", ").text(words::order_state_text(row.state)).sql(", ");
    match new.grant {
        Some((lease, seq)) => s.id(lease).sql(", ").count(seq)?,
        None => s.sql("NULL, NULL"),
    };
    s.sql(", ").text_if_any(new.request.as_ref().map(RequestId::as_str));
    s.sql(", ").time(row.accepted_at).sql(", ").time(row.expires_at).sql(", ").time(row.accepted_at).sql(")");
    Ok(())
}

/// Compare-and-set, all orders of one step in one statement. They share the time of the latest of them.
fn move_orders(script: &mut Script, expected: &mut Expected, book: &Book) -> Result<(), Fault> {
    let mut steps: BTreeMap<(&str, &str), Vec<(OrderId, types::Timestamp)>> = BTreeMap::new();
    for (id, (old, at)) in &book.moved_orders {
        let new = book.orders.get(id).map_or(OrderState::Accepted, |row| row.state);
        steps.entry((words::order_state_text(*old), words::order_state_text(new))).or_default().push((*id, *at));
    }
    for ((old, new), orders) in &steps {
        for part in orders.chunks(ROWS) {
            let latest = part.iter().map(|(_, at)| *at).max().unwrap_or(types::Timestamp::from_millis(0));
            script.add("move orders", "UPDATE orders SET state = ").text(new).sql(", updated_at = ").time(latest);
            script.sql(" WHERE state = ").text(old).sql(" AND order_id IN ").list(part, |s, (id, _)| {
                s.id(id);
            });
        }
    }
    expect(expected, "move orders", book.moved_orders.len());
    Ok(())
}

/// The amount that is held, not a difference: only the holder of the product's lock writes it.
fn write_limits(script: &mut Script, book: &Book) -> Result<(), Fault> {
    let holders: Vec<_> = book.new_held.iter().collect();
    for part in holders.chunks(ROWS) {
        script.add("limits", "INSERT INTO buyer_limit (buyer, sale, product_id, held) VALUES ");
        script.try_row(part, |s, holder| {
            let held = book.held.get(*holder).copied().unwrap_or(0);
            let (buyer, sale, product) = holder;
            s.sql("(").text(buyer.as_str()).sql(", ").text(sale.as_str()).sql(", ").text(product.as_str());
            s.sql(", ").count(held)?.sql(")");
            Ok(())
        })?;
        script.sql(" ON DUPLICATE KEY UPDATE held = VALUES(held)");
    }
    Ok(())
}

fn insert_tokens(script: &mut Script, expected: &mut Expected, book: &Book) -> Result<(), Fault> {
    let tokens: Vec<_> = book.new_tokens.iter().collect();
    for part in tokens.chunks(ROWS) {
        script.add(TOKENS, "INSERT INTO used_token (token_id, buyer, `key`) VALUES ");
        script.try_row(part, |s, token| {
            let (buyer, key) = book.tokens.get(*token).ok_or_else(|| Fault::broken("a token is gone"))?;
            s.sql("(").text(token).sql(", ").text(buyer.as_str()).sql(", ").text(key.as_str()).sql(")");
            Ok(())
        })?;
    }
    expect(expected, TOKENS, tokens.len());
    Ok(())
}

fn write_payments(script: &mut Script, expected: &mut Expected, book: &Book) -> Result<(), Fault> {
    const INSERT: &str = "INSERT INTO payment (payment_id, order_id, amount, currency, state, moved_order, at) VALUES ";
    let new: Vec<_> = book.new_payments.iter().collect();
    for part in new.chunks(ROWS) {
        script.add(PAYMENTS, INSERT);
        script.try_row(part, |s, id| {
            let row = book.payments.get(*id).ok_or_else(|| Fault::broken("a payment is gone"))?;
            s.sql("(").id(id).sql(", ").id(row.order).sql(", ").count(row.amount.minor())?;
            s.sql(", ").text(row.amount.currency().as_str()).sql(", ").text(row.state.as_str());
            s.sql(", ").int(row.moved_order.into()).sql(", ").time(row.at).sql(")");
            Ok(())
        })?;
    }
    expect(expected, PAYMENTS, new.len());
    let mut steps: BTreeMap<(PaymentState, PaymentState), Vec<PaymentId>> = BTreeMap::new();
    for (id, old) in &book.moved_payments {
        let now = book.payments.get(id).map_or(*old, |row| row.state);
        steps.entry((*old, now)).or_default().push(*id);
    }
    for ((old, new), payments) in &steps {
        for part in payments.chunks(ROWS) {
            script.add("move payments", "UPDATE payment SET state = ").text(new.as_str());
            script.sql(" WHERE state = ").text(old.as_str()).sql(" AND payment_id IN ").list(part, |s, id| {
                s.id(id);
            });
        }
    }
    expect(expected, "move payments", book.moved_payments.len());
    Ok(())
}

fn take_from_leases(script: &mut Script, expected: &mut Expected, book: &Book) -> Result<(), Fault> {
    let leases = book.products.values().flat_map(|page| &page.leases);
    let taken: BTreeMap<LeaseId, u64> = leases
        .filter(|(_, lent)| lent.consumed != lent.was_consumed)
        .map(|(id, lent)| (*id, lent.consumed - lent.was_consumed))
        .collect();
    let taken: Vec<_> = taken.into_iter().collect();
    for part in taken.chunks(ROWS) {
        script.add("take from leases", "UPDATE (");
        for (i, (lease, n)) in part.iter().enumerate() {
            script.sql(if i == 0 { "SELECT " } else { " UNION ALL SELECT " });
            script.id(lease).sql(" AS lease_id, ").count(*n)?.sql(" AS n");
        }
        script.sql(
            ") d STRAIGHT_JOIN lease l FORCE INDEX (PRIMARY) ON l.lease_id = d.lease_id SET l.consumed = l.consumed + d.n \
             WHERE l.state <> 'CLOSED' AND l.consumed + d.n <= l.granted",
        );
    }
    expect(expected, "take from leases", taken.len());
    Ok(())
}

fn move_units(script: &mut Script, expected: &mut Expected, book: &Book) -> Result<(), Fault> {
    let changed: BTreeMap<&Sku, _> = book.products.iter().filter(|(_, page)| page.was != page.now).collect();
    let changed: Vec<_> = changed.into_iter().collect();
    for part in changed.chunks(ROWS) {
        script.add("move units", "UPDATE (");
        for (i, (product, page)) in part.iter().enumerate() {
            script.sql(if i == 0 { "SELECT " } else { " UNION ALL SELECT " }).text(product.as_str());
            let (was, now) = (page.was, page.now);
            script.sql(" AS product_id, ").int(difference(was.free, now.free)?);
            script.sql(" AS free, ").int(difference(was.leased, now.leased)?);
            script.sql(" AS leased, ").int(difference(was.reserved, now.reserved)?);
            script.sql(" AS reserved, ").int(difference(was.sold, now.sold)?).sql(" AS sold");
        }
        script.sql(
            ") d STRAIGHT_JOIN stock k FORCE INDEX (PRIMARY) ON k.product_id = d.product_id \
             SET k.free = k.free + d.free, k.leased = k.leased + d.leased, k.reserved = k.reserved + d.reserved, \
             k.sold = k.sold + d.sold WHERE k.free + d.free >= 0 AND k.leased + d.leased >= 0 \
             AND k.reserved + d.reserved >= 0 AND k.sold + d.sold >= 0",
        );
    }
    expect(expected, "move units", changed.len());
    Ok(())
}

fn difference(was: u64, now: u64) -> Result<i64, Fault> {
    let signed = |n: u64| i64::try_from(n).map_err(|_| Fault::broken(format!("{n} does not fit a column")));
    Ok(signed(now)? - signed(was)?)
}

/// The relay's position moves on, never back and never beyond the last event.
fn write_relayed(script: &mut Script, book: &Book) -> Result<(), Fault> {
    if let Some(sequence) = book.relayed {
        let reached = i64::try_from(sequence).unwrap_or(i64::MAX);
        script
            .add("relayed", "UPDATE meta SET value = GREATEST(CAST(value AS SIGNED), LEAST(")
            .int(reached)
            .sql(", (SELECT last FROM outbox_head WHERE one = 1))) WHERE `key` = 'outbox_relayed'");
    }
    Ok(())
}

fn insert_events(script: &mut Script, expected: &mut Expected, book: &Book) -> Result<(), Fault> {
    if book.events.is_empty() {
        return Ok(());
    }
    script
        .add("outbox head", "UPDATE outbox_head SET last = LAST_INSERT_ID(last) + ")
        .count(book.events.len() as u64)?
        .sql(" WHERE one = 1");
    expect(expected, "outbox head", 1);
    let mut number = 0;
    for part in book.events.chunks(ROWS) {
        script.add("insert events", "INSERT INTO outbox (id, order_id, kind, at, request_id) VALUES ").row(
            part,
            |s, e| {
                number += 1;
                s.sql("(LAST_INSERT_ID() + ").int(number).sql(", ").id(e.order);
                s.sql(", ").text(words::order_state_text(e.kind)).sql(", ").time(e.at);
                s.sql(", ").text_if_any(e.request.as_ref().map(RequestId::as_str)).sql(")");
            },
        );
    }
    expect(expected, "insert events", book.events.len());
    Ok(())
}
