//! The steps of a move, each a compare-and-set on tier, phase and epoch. A step that finds another row than
//! its mover believed changes nothing. `move` keeps the history: at most one fence, settle and open per epoch.

use rusqlite::{Connection, OptionalExtension, params};
use types::{Epoch, LeaseId, Sku, Tier, Timestamp};

use super::fault::Fault;
use super::{read, rows};
use crate::stock::db::move_ruling::{StepRuling, rule_on_step};
use crate::stock::store::{MoveStep, Moved, ProductRow};

/// Takes one step.
///
/// A move in one step (`Switch`, `OpenLease` from db or queue) is written as the fence *and* the open of its
/// new epoch, so that the history reads alike for every move.
pub(super) fn step(tx: &Connection, step: &MoveStep, now: Timestamp) -> Result<Moved, Fault> {
    let product = match step {
        MoveStep::Switch { product, .. }
        | MoveStep::OpenLease { product, .. }
        | MoveStep::Fence { product, .. }
        | MoveStep::Open { product, .. } => Some(product.clone()),
        MoveStep::MarkLoaded { lease } | MoveStep::Settle { lease } | MoveStep::TopUp { lease, .. } => {
            product_of(tx, *lease)?
        }
    };
    let Some(product) = product else { return Ok(Moved::Stale(None)) };
    let Some(row) = read::product(tx, &product)? else { return Ok(Moved::Stale(None)) };
    let done = match (rule_on_step(step, &row), step) {
        (StepRuling::Switch { target, .. }, _) => switch(tx, &product, &row, target, now)?,
        (StepRuling::Lend { epoch, granted, in_one_step }, MoveStep::OpenLease { lease, .. }) => {
            open_lease(tx, &row, *lease, (epoch, granted, in_one_step), now)?
        }
        (StepRuling::MarkLoaded, MoveStep::MarkLoaded { lease }) => mark_loaded(tx, *lease)?,
        (StepRuling::Fence { .. }, MoveStep::Fence { epoch, target, .. }) => fence(tx, &product, *epoch, *target, now)?,
        (StepRuling::Settle { .. }, MoveStep::Settle { lease }) => settle(tx, &row, *lease, now)?,
        (StepRuling::TopUp { units }, MoveStep::TopUp { lease, .. }) => top_up(tx, &product, *lease, units)?,
        (StepRuling::Open { tier }, _) => open(tx, &row, tier, now)?,
        _ => false,
    };
    if !done {
        return Ok(Moved::Stale(Some(row)));
    }
    match read::product(tx, &product)? {
        Some(row) => Ok(Moved::Done(row)),
        None => Err(Fault::broken("a product moved that is not there")),
    }
}

fn product_of(tx: &Connection, lease: LeaseId) -> Result<Option<Sku>, Fault> {
    let mut find = tx.prepare_cached("SELECT product_id FROM lease WHERE lease_id = ?1")?;
    let mut found = find.query([lease.to_string()])?;
    found.next()?.map(|row| rows::parsed(row, "product_id")).transpose()
}

/// `db ↔ queue`.
fn switch(tx: &Connection, product: &Sku, row: &ProductRow, target: Tier, now: Timestamp) -> Result<bool, Fault> {
    let epoch = row.state.epoch;
    let changed = tx
        .prepare_cached(
            "UPDATE stock SET tier = ?3, epoch = epoch + 1 \
             WHERE product_id = ?1 AND epoch = ?2 AND phase = 'active' AND tier <> 'redis'",
        )?
        .execute(params![product.as_str(), rows::int(epoch.get())?, target.as_str()])?;
    if changed == 1 {
        for step in ["fence", "open"] {
            record(tx, product, epoch.next(), step, row.state.tier, target, now)?;
        }
    }
    Ok(changed == 1)
}

/// A new lease of what is free, less what is to be kept; it may be of no unit at all (the next lease fills it).
fn open_lease(
    tx: &Connection,
    row: &ProductRow,
    lease: LeaseId,
    (new_epoch, granted, in_one_step): (Epoch, u64, bool),
    now: Timestamp,
) -> Result<bool, Fault> {
    let product = &row.state.product;
    if product_of(tx, lease)?.is_some() {
        return Ok(false);
    }
    let granted = rows::int(granted)?;
    let changed = tx
        .prepare_cached(
            "UPDATE stock SET free = free - ?3, leased = leased + ?3, tier = 'redis', phase = 'active', target = NULL, \
             epoch = ?4 WHERE product_id = ?1 AND epoch = ?2 AND phase = ?5 AND free >= ?3",
        )?
        .execute(params![
            product.as_str(),
            rows::int(row.state.epoch.get())?,
            granted,
            rows::int(new_epoch.get())?,
            row.state.phase.as_str()
        ])?;
    if changed == 0 {
        return Ok(false);
    }
    tx.prepare_cached(
        "INSERT INTO lease (lease_id, product_id, epoch, granted, consumed, state, loaded, opened_at) \
         VALUES (?1, ?2, ?3, ?4, 0, 'OPEN', 0, ?5)",
    )?
    .execute(params![lease.to_string(), product.as_str(), rows::int(new_epoch.get())?, granted, now.millis()])?;
    if in_one_step {
        record(tx, product, new_epoch, "fence", row.state.tier, Tier::Redis, now)?;
    }
    record(tx, product, new_epoch, "open", row.state.tier, Tier::Redis, now)?;
    Ok(true)
}

fn mark_loaded(tx: &Connection, lease: LeaseId) -> Result<bool, Fault> {
    let changed = tx
        .prepare_cached("UPDATE lease SET loaded = 1 WHERE lease_id = ?1 AND loaded = 0 AND state = 'OPEN'")?
        .execute([lease.to_string()])?;
    Ok(changed == 1)
}

/// `free → leased`, into the open lease. No part of a move: it has no epoch and no line in the history.
fn top_up(tx: &Connection, product: &Sku, lease: LeaseId, units: u64) -> Result<bool, Fault> {
    let units = rows::int(units)?;
    let lent = tx
        .prepare_cached(
            "UPDATE lease SET granted = granted + ?2 WHERE lease_id = ?1 AND state = 'OPEN' AND loaded = 1",
        )?
        .execute(params![lease.to_string(), units])?;
    let taken = tx
        .prepare_cached("UPDATE stock SET free = free - ?2, leased = leased + ?2 WHERE product_id = ?1 AND free >= ?2")?
        .execute(params![product.as_str(), units])?;
    if (lent, taken) == (1, 1) {
        return Ok(true);
    }
    Err(Fault::broken(format!("lease {lease}: a top-up touched {lent} lease and {taken} stock rows")))
}

/// H1. Only from redis: from db and queue a move is one step. The target may be redis again (a new lease).
pub(super) fn fence(tx: &Connection, product: &Sku, epoch: Epoch, target: Tier, now: Timestamp) -> Result<bool, Fault> {
    let changed = tx
        .prepare_cached(
            "UPDATE stock SET phase = 'draining', epoch = epoch + 1, target = ?3 \
             WHERE product_id = ?1 AND epoch = ?2 AND phase = 'active' AND tier = 'redis'",
        )?
        .execute(params![product.as_str(), rows::int(epoch.get())?, target.as_str()])?;
    if changed == 0 {
        return Ok(false);
    }
    tx.prepare_cached("UPDATE lease SET state = 'FENCED' WHERE product_id = ?1 AND state = 'OPEN'")?
        .execute([product.as_str()])?;
    record(tx, product, epoch.next(), "fence", Tier::Redis, target, now)?;
    Ok(true)
}

/// H4. By this database's `consumed`, never by what the lease store counted.
fn settle(tx: &Connection, row: &ProductRow, lease: LeaseId, now: Timestamp) -> Result<bool, Fault> {
    let (id, product) = (lease.to_string(), &row.state.product);
    let rest: Option<i64> = tx
        .prepare_cached(
            "UPDATE lease SET state = 'CLOSED' WHERE lease_id = ?1 AND state = 'FENCED' RETURNING granted - consumed",
        )?
        .query_row([&id], |row| row.get(0))
        .optional()?;
    let Some(rest) = rest else { return Ok(false) };
    let changed = tx
        .prepare_cached(
            "UPDATE stock SET free = free + ?2, leased = leased - ?2 WHERE product_id = ?1 AND leased >= ?2",
        )?
        .execute(params![product.as_str(), rest])?;
    if changed != 1 {
        return Err(Fault::broken(format!("lease {id} had {rest} units left that {product} does not have leased")));
    }
    record(tx, product, row.state.epoch, "settle", row.state.tier, row.state.target.unwrap_or(row.state.tier), now)?;
    Ok(true)
}

/// H5 for db and queue: only when no lease is alive.
fn open(tx: &Connection, row: &ProductRow, target: Tier, now: Timestamp) -> Result<bool, Fault> {
    let (product, epoch) = (&row.state.product, row.state.epoch);
    let changed = tx
        .prepare_cached(
            "UPDATE stock SET tier = target, phase = 'active', target = NULL \
             WHERE product_id = ?1 AND epoch = ?2 AND phase = 'draining' AND target <> 'redis' AND NOT EXISTS \
             (SELECT 1 FROM lease l WHERE l.product_id = stock.product_id AND l.state <> 'CLOSED')",
        )?
        .execute(params![product.as_str(), rows::int(epoch.get())?])?;
    if changed == 1 {
        record(tx, product, epoch, "open", row.state.tier, target, now)?;
    }
    Ok(changed == 1)
}

fn record(
    tx: &Connection,
    product: &Sku,
    epoch: Epoch,
    step: &str,
    from: Tier,
    to: Tier,
    now: Timestamp,
) -> Result<(), Fault> {
    tx.prepare_cached(
        "INSERT INTO move (product_id, epoch, step, from_tier, to_tier, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        product.as_str(),
        rows::int(epoch.get())?,
        step,
        from.as_str(),
        to.as_str(),
        now.millis()
    ])?;
    Ok(())
}
