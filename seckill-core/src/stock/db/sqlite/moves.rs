//! The steps of a move, each a compare-and-set on tier, phase and epoch. A step that finds another row than
//! its mover believed changes nothing. `move` keeps the history: at most one fence, settle and open per epoch.

use rusqlite::{Connection, OptionalExtension, params};
use types::{Epoch, LeaseId, Phase, Sku, Tier, Timestamp};

use super::fault::Fault;
use super::{read, rows};
use crate::stock::store::{MoveStep, Moved, ProductRow};

/// Takes one step.
///
/// A move in one step (`Switch`, `OpenLease` from db or queue) is written as the fence *and* the open of its
/// new epoch, so that the history reads alike for every move.
pub(super) fn step(tx: &Connection, step: &MoveStep, now: Timestamp) -> Result<Moved, Fault> {
    let (product, done) = match step {
        MoveStep::Switch { product, epoch, target } => {
            (Some(product.clone()), switch(tx, product, *epoch, *target, now)?)
        }
        MoveStep::OpenLease { product, epoch, lease, keep } => {
            (Some(product.clone()), open_lease(tx, product, *epoch, *lease, *keep, now)?)
        }
        MoveStep::MarkLoaded { lease } => (product_of(tx, *lease)?, mark_loaded(tx, *lease)?),
        MoveStep::Fence { product, epoch, target } => {
            (Some(product.clone()), fence(tx, product, *epoch, *target, now)?)
        }
        MoveStep::Settle { lease } => (product_of(tx, *lease)?, settle(tx, *lease, now)?),
        MoveStep::Open { product, epoch } => (Some(product.clone()), open(tx, product, *epoch, now)?),
    };
    let row = match product {
        Some(product) => read::product(tx, &product)?,
        None => None,
    };
    match (done, row) {
        (true, Some(row)) => Ok(Moved::Done(row)),
        (true, None) => Err(Fault::broken("a product moved that is not there")),
        (false, row) => Ok(Moved::Stale(row)),
    }
}

fn product_of(tx: &Connection, lease: LeaseId) -> Result<Option<Sku>, Fault> {
    let mut find = tx.prepare_cached("SELECT product_id FROM lease WHERE lease_id = ?1")?;
    let mut found = find.query([lease.to_string()])?;
    found.next()?.map(|row| rows::parsed(row, "product_id")).transpose()
}

/// `db ↔ queue`. Also stale: a target of redis, or the tier it is on.
fn switch(tx: &Connection, product: &Sku, epoch: Epoch, target: Tier, now: Timestamp) -> Result<bool, Fault> {
    let Some(row) = read::product(tx, product)? else { return Ok(false) };
    if target == Tier::Redis || !sells_from_free(&row, epoch) || row.state.tier == target {
        return Ok(false);
    }
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

fn sells_from_free(row: &ProductRow, epoch: Epoch) -> bool {
    row.state.phase == Phase::Active && row.state.epoch == epoch && row.state.tier != Tier::Redis
}

/// A new lease of what is free, less `keep`; it may be of no unit at all (a top-up or the next lease fills it).
fn open_lease(
    tx: &Connection,
    product: &Sku,
    epoch: Epoch,
    lease: LeaseId,
    keep: u64,
    now: Timestamp,
) -> Result<bool, Fault> {
    let Some(row) = read::product(tx, product)? else { return Ok(false) };
    let draining_here =
        row.state.phase == Phase::Draining && row.state.target == Some(Tier::Redis) && row.state.epoch == epoch;
    if !(draining_here || sells_from_free(&row, epoch)) || row.lease.is_some() || product_of(tx, lease)?.is_some() {
        return Ok(false);
    }
    let new_epoch = if draining_here { epoch } else { epoch.next() };
    let granted = rows::int(row.free.saturating_sub(keep))?;
    let changed = tx
        .prepare_cached(
            "UPDATE stock SET free = free - ?3, leased = leased + ?3, tier = 'redis', phase = 'active', target = NULL, \
             epoch = ?4 WHERE product_id = ?1 AND epoch = ?2 AND phase = ?5 AND free >= ?3",
        )?
        .execute(params![
            product.as_str(),
            rows::int(epoch.get())?,
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
    if !draining_here {
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

/// H1. Only from redis: from db and queue a move is one step. The target may be redis again (a new lease).
fn fence(tx: &Connection, product: &Sku, epoch: Epoch, target: Tier, now: Timestamp) -> Result<bool, Fault> {
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
fn settle(tx: &Connection, lease: LeaseId, now: Timestamp) -> Result<bool, Fault> {
    let id = lease.to_string();
    let rest: Option<i64> = tx
        .prepare_cached(
            "UPDATE lease SET state = 'CLOSED' WHERE lease_id = ?1 AND state = 'FENCED' RETURNING granted - consumed",
        )?
        .query_row([&id], |row| row.get(0))
        .optional()?;
    let Some(rest) = rest else { return Ok(false) };
    let product = product_of(tx, lease)?.ok_or_else(|| Fault::broken(format!("lease {id} has no product")))?;
    let changed = tx
        .prepare_cached(
            "UPDATE stock SET free = free + ?2, leased = leased - ?2 WHERE product_id = ?1 AND leased >= ?2",
        )?
        .execute(params![product.as_str(), rest])?;
    if changed != 1 {
        return Err(Fault::broken(format!("lease {id} had {rest} units left that {product} does not have leased")));
    }
    let row = read::product(tx, &product)?.ok_or_else(|| Fault::broken(format!("lease {id} has no product")))?;
    record(tx, &product, row.state.epoch, "settle", row.state.tier, row.state.target.unwrap_or(row.state.tier), now)?;
    Ok(true)
}

/// H5 for db and queue: only when no lease is alive.
fn open(tx: &Connection, product: &Sku, epoch: Epoch, now: Timestamp) -> Result<bool, Fault> {
    let Some(row) = read::product(tx, product)? else { return Ok(false) };
    let Some(target) = row.state.target else { return Ok(false) };
    if target == Tier::Redis || row.lease.is_some() {
        return Ok(false);
    }
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
