//! Adjustments of a product's total, and the history of every change of it, under the product's lock: each takes
//! effect wholly, with its line in the history, or not at all.

use std::collections::BTreeSet;

use sqlx::mysql::MySqlRow;
use types::{IdempotencyKey, Sku, Tier, Timestamp};

use super::fault::{CHANGES, Fault};
use super::session::{Session, product_where};
use super::text::Script;
use super::{load, moves, rows};
use crate::stock::adjustment::{Adjusted, Adjustment, AdjustmentRow};
use crate::stock::db::adjust_ruling::{AdjustRuling, rule_on_adjustment, rule_on_repeat};
use crate::stock::store::ProductRow;

/// Adjusts the product, unless its id did so before, in a transaction that has begun.
pub(super) async fn adjust(session: &mut Session, asked: &Adjustment, now: Timestamp) -> Result<Adjusted, Fault> {
    // The product's lock first. Another product's adjustment under the same id has another lock: the unique key
    // decides between the two, and the loser runs again and finds the winner's row.
    let mut script = Script::default();
    load::lock(&mut script, &BTreeSet::from([asked.product.clone()]));
    find(&mut script, &asked.id);
    product_where(&mut script, "product", &asked.product);
    let mut replies = session.run(&script).await?;
    if let Some(there) = replies.row("adjustment") {
        return Ok(rule_on_repeat(adjustment_row(&there)?, asked));
    }
    let Some(row) = replies.row("product") else { return Ok(Adjusted::UnknownProduct) };
    let row = rows::product(&row)?;
    let mut script = Script::default();
    match rule_on_adjustment(asked.delta, &row) {
        AdjustRuling::TooFew { removable } => return Ok(Adjusted::TooFew { removable }),
        AdjustRuling::TooMany { room } => return Ok(Adjusted::TooMany { room }),
        AdjustRuling::Add { units } => {
            script.add("change", "UPDATE stock SET total = total + ").count(units)?;
            script.sql(", free = free + ").count(units)?.sql(" WHERE product_id = ").text(asked.product.as_str());
            change(session, &script, &asked.product).await?;
        }
        AdjustRuling::Remove { free, lent, fence } => {
            remove(session, &row, free, lent).await?;
            if let Some(epoch) = fence
                && !moves::fence(session, &row, epoch, Tier::Redis, now).await?
            {
                return Err(Fault::broken(format!("{}: an open lease could not be fenced", asked.product)));
            }
        }
    }
    let mut script = Script::default();
    record(&mut script, &asked.product, Some(asked), now);
    find(&mut script, &asked.id);
    product_where(&mut script, "product", &asked.product);
    let mut replies = session.run(&script).await?;
    match (replies.row("adjustment"), replies.row("product")) {
        (Some(row), Some(after)) => {
            let product = Some(Box::new(rows::product(&after)?));
            Ok(Adjusted::Done { row: adjustment_row(&row)?, product })
        }
        _ => Err(Fault::broken(format!("{} was adjusted and is not there", asked.product))),
    }
}

fn find(script: &mut Script, id: &IdempotencyKey) {
    script
        .add(
            "adjustment",
            "SELECT adjustment_id, product_id, delta, total, reason, made_by, at FROM stock_change \
             WHERE adjustment_id = ",
        )
        .text(id.as_str());
}

fn adjustment_row(row: &MySqlRow) -> Result<AdjustmentRow, Fault> {
    Ok(AdjustmentRow {
        id: rows::parsed(row, 0)?,
        product: rows::parsed(row, 1)?,
        delta: rows::int(row, 2)?,
        total: rows::count(row, 3)?,
        reason: rows::text(row, 4)?.to_owned(),
        by: rows::text(row, 5)?.to_owned(),
        at: rows::time(row, 6)?,
    })
}

async fn remove(session: &mut Session, row: &ProductRow, free: u64, lent: u64) -> Result<(), Fault> {
    let product = &row.state.product;
    let mut script = Script::default();
    script.add("change", "UPDATE stock SET total = total - ").count(free)?.sql(" - ").count(lent)?;
    script.sql(", free = free - ").count(free)?.sql(", leased = leased - ").count(lent)?;
    script.sql(" WHERE free >= ").count(free)?.sql(" AND leased >= ").count(lent)?;
    script.sql(" AND product_id = ").text(product.as_str());
    change(session, &script, product).await?;
    if lent == 0 {
        return Ok(());
    }
    let lease = row.lease.ok_or_else(|| Fault::broken(format!("{product}: no lease to take units from")))?;
    let mut script = Script::default();
    script.add("change", "UPDATE lease SET granted = granted - ").count(lent)?;
    script.sql(" WHERE state <> 'CLOSED' AND granted - consumed >= ").count(lent)?;
    script.sql(" AND lease_id = ").id(lease.lease);
    change(session, &script, product).await
}

/// The conditions of an `UPDATE` repeat what was read under the lock: anything but one row is a defect.
async fn change(session: &mut Session, script: &Script, product: &Sku) -> Result<(), Fault> {
    match session.run(script).await?.touched("change") {
        1 => Ok(()),
        n => Err(Fault::broken(format!("{product}: an adjustment touched {n} rows"))),
    }
}

/// Writes the total that the product has now into its history, with its place among the order events: those of this
/// product wait for its lock, so every one there is was committed, and the next will be numbered higher. `None`: it
/// was brought by a sale's file.
pub(super) fn record(script: &mut Script, product: &Sku, adjustment: Option<&Adjustment>, now: Timestamp) {
    script.add(
        CHANGES,
        "INSERT INTO stock_change (product_id, cause, delta, total, after_event, at, adjustment_id, reason, made_by) \
         SELECT k.product_id, ",
    );
    script.text(if adjustment.is_some() { "adjustment" } else { "sale" });
    script.sql(
        ", k.total - COALESCE((SELECT c.total FROM stock_change c WHERE c.product_id = k.product_id \
         ORDER BY c.seq DESC LIMIT 1), 0), k.total, (SELECT last FROM outbox_head WHERE one = 1), ",
    );
    script.time(now).sql(", ").text_if_any(adjustment.map(|a| a.id.as_str()));
    script.sql(", ").text_if_any(adjustment.map(|a| a.reason.as_str()));
    script.sql(", ").text_if_any(adjustment.map(Adjustment::by));
    script.sql(" FROM stock k WHERE k.product_id = ").text(product.as_str());
}
