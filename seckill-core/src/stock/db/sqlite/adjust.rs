//! Adjustments of a product's total, and the history of every change of it. Each takes effect wholly, with its line
//! in the history, or not at all.

use rusqlite::{Connection, Row, params};
use types::{IdempotencyKey, Sku, Tier, Timestamp};

use super::fault::Fault;
use super::{moves, read, rows};
use crate::stock::adjustment::{Adjusted, Adjustment, AdjustmentRow};
use crate::stock::db::adjust_ruling::{AdjustRuling, rule_on_adjustment, rule_on_repeat};
use crate::stock::store::ProductRow;

/// Adjusts the product, unless its id did so before.
pub(super) fn adjust(tx: &Connection, asked: &Adjustment, now: Timestamp) -> Result<Adjusted, Fault> {
    if let Some(there) = find(tx, &asked.id)? {
        return Ok(rule_on_repeat(there, asked));
    }
    let Some(row) = read::product(tx, &asked.product)? else { return Ok(Adjusted::UnknownProduct) };
    match rule_on_adjustment(asked.delta, &row) {
        AdjustRuling::TooFew { removable } => return Ok(Adjusted::TooFew { removable }),
        AdjustRuling::TooMany { room } => return Ok(Adjusted::TooMany { room }),
        AdjustRuling::Add { units } => add(tx, &asked.product, units)?,
        AdjustRuling::Remove { free, lent, fence } => {
            remove(tx, &row, free, lent)?;
            if fence.is_some() && !moves::fence(tx, &asked.product, row.state.epoch, Tier::Redis, now)? {
                return Err(Fault::broken(format!("{}: an open lease could not be fenced", asked.product)));
            }
        }
    }
    record(tx, &asked.product, Some(asked), now)?;
    let (done, after) = (find(tx, &asked.id)?, read::product(tx, &asked.product)?);
    match (done, after) {
        (Some(row), Some(after)) => Ok(Adjusted::Done { row, product: Some(Box::new(after)) }),
        _ => Err(Fault::broken(format!("{} was adjusted and is not there", asked.product))),
    }
}

/// The adjustment of this id, if it took effect.
pub(super) fn find(tx: &Connection, id: &IdempotencyKey) -> Result<Option<AdjustmentRow>, Fault> {
    let mut find = tx.prepare_cached(
        "SELECT adjustment_id, product_id, delta, total, reason, made_by, at FROM stock_change \
         WHERE adjustment_id = ?1",
    )?;
    let mut found = find.query([id.as_str()])?;
    found.next()?.map(adjustment_row).transpose()
}

fn adjustment_row(row: &Row<'_>) -> Result<AdjustmentRow, Fault> {
    Ok(AdjustmentRow {
        id: rows::parsed(row, "adjustment_id")?,
        product: rows::parsed(row, "product_id")?,
        delta: row.get("delta")?,
        total: rows::count(row, "total")?,
        reason: row.get("reason")?,
        by: row.get("made_by")?,
        at: rows::time(row, "at")?,
    })
}

fn add(tx: &Connection, product: &Sku, units: u64) -> Result<(), Fault> {
    let changed = tx
        .prepare_cached("UPDATE stock SET total = total + ?2, free = free + ?2 WHERE product_id = ?1")?
        .execute(params![product.as_str(), rows::int(units)?])?;
    expect_one(changed, product)
}

fn remove(tx: &Connection, row: &ProductRow, free: u64, lent: u64) -> Result<(), Fault> {
    let product = &row.state.product;
    let changed = tx
        .prepare_cached(
            "UPDATE stock SET total = total - ?2 - ?3, free = free - ?2, leased = leased - ?3 \
             WHERE product_id = ?1 AND free >= ?2 AND leased >= ?3",
        )?
        .execute(params![product.as_str(), rows::int(free)?, rows::int(lent)?])?;
    expect_one(changed, product)?;
    if lent == 0 {
        return Ok(());
    }
    let lease = row.lease.ok_or_else(|| Fault::broken(format!("{product}: no lease to take units from")))?;
    let changed = tx
        .prepare_cached(
            "UPDATE lease SET granted = granted - ?2 \
             WHERE lease_id = ?1 AND state <> 'CLOSED' AND granted - consumed >= ?2",
        )?
        .execute(params![lease.lease.to_string(), rows::int(lent)?])?;
    expect_one(changed, product)
}

/// The conditions of an `UPDATE` repeat what was read in the same transaction: anything but one row is a defect.
fn expect_one(rows: usize, product: &Sku) -> Result<(), Fault> {
    if rows == 1 { Ok(()) } else { Err(Fault::broken(format!("{product}: an adjustment touched {rows} rows"))) }
}

/// Writes the total that the product has now into its history, with its place among the order events. `None`: it was
/// brought by a sale's file.
pub(super) fn record(
    tx: &Connection,
    product: &Sku,
    adjustment: Option<&Adjustment>,
    now: Timestamp,
) -> Result<(), Fault> {
    let written = tx
        .prepare_cached(
            "INSERT INTO stock_change (product_id, cause, delta, total, after_event, at, adjustment_id, reason, made_by) \
             SELECT ?1, ?2, k.total - COALESCE((SELECT c.total FROM stock_change c WHERE c.product_id = ?1 \
             ORDER BY c.seq DESC LIMIT 1), 0), k.total, (SELECT COALESCE(MAX(id), 0) FROM outbox), ?3, ?4, ?5, ?6 \
             FROM stock k WHERE k.product_id = ?1",
        )?
        .execute(params![
            product.as_str(),
            if adjustment.is_some() { "adjustment" } else { "sale" },
            now.millis(),
            adjustment.map(|a| a.id.as_str()),
            adjustment.map(|a| a.reason.as_str()),
            adjustment.map(Adjustment::by),
        ])?;
    expect_one(written, product)
}
