//! The steps of a move, each a compare-and-set on tier, phase and epoch under the product's lock. A step that finds
//! another row than its mover believed changes nothing. `move` keeps the history, as on the embedded store.

use std::collections::BTreeSet;

use types::{Epoch, LeaseId, Sku, Tier, Timestamp};

use super::fault::Fault;
use super::session::{Session, product_where};
use super::text::Script;
use super::{load, rows};
use crate::stock::db::move_ruling::{StepRuling, rule_on_step};
use crate::stock::store::{MoveStep, Moved, ProductRow};

/// Takes one step, in a transaction that has begun.
///
/// A move in one step (`Switch`, `OpenLease` from db or queue) is written as the fence *and* the open of its
/// new epoch, so that the history reads alike for every move.
pub(super) async fn step(session: &mut Session, step: &MoveStep, now: Timestamp) -> Result<Moved, Fault> {
    let product = match step {
        MoveStep::Switch { product, .. }
        | MoveStep::OpenLease { product, .. }
        | MoveStep::Fence { product, .. }
        | MoveStep::Open { product, .. } => product.clone(),
        MoveStep::MarkLoaded { lease } | MoveStep::Settle { lease } | MoveStep::TopUp { lease, .. } => {
            match product_of(session, *lease).await? {
                Some(product) => product,
                None => return Ok(Moved::Stale(None)),
            }
        }
    };
    let mut script = Script::default();
    load::lock(&mut script, &BTreeSet::from([product.clone()]));
    product_where(&mut script, "product", &product);
    let Some(row) = session.run(&script).await?.row("product") else { return Ok(Moved::Stale(None)) };
    let row = rows::product(&row)?;
    let done = match (rule_on_step(step, &row), step) {
        (StepRuling::Switch { epoch, target }, _) => switch(session, &row, epoch, target, now).await?,
        (StepRuling::Lend { epoch, granted, in_one_step }, MoveStep::OpenLease { lease, .. }) => {
            open_lease(session, &row, *lease, (epoch, granted, in_one_step), now).await?
        }
        (StepRuling::MarkLoaded, MoveStep::MarkLoaded { lease }) => mark_loaded(session, *lease).await?,
        (StepRuling::Fence { epoch }, MoveStep::Fence { target, .. }) => {
            fence(session, &row, epoch, *target, now).await?
        }
        (StepRuling::Settle { back }, MoveStep::Settle { lease }) => settle(session, &row, *lease, back, now).await?,
        (StepRuling::TopUp { units }, MoveStep::TopUp { lease, .. }) => {
            top_up(session, &product, *lease, units).await?
        }
        (StepRuling::Open { tier }, _) => open(session, &row, tier, now).await?,
        _ => false,
    };
    if !done {
        return Ok(Moved::Stale(Some(row)));
    }
    let mut script = Script::default();
    product_where(&mut script, "product", &product);
    let row = session.run(&script).await?.row("product");
    let row = row.ok_or_else(|| Fault::broken("a product moved that is not there"))?;
    Ok(Moved::Done(rows::product(&row)?))
}

async fn product_of(session: &mut Session, lease: LeaseId) -> Result<Option<Sku>, Fault> {
    let mut script = Script::default();
    script.add("lease", "SELECT product_id FROM lease WHERE lease_id = ").id(lease);
    session.run(&script).await?.row("lease").map(|row| rows::parsed(&row, 0)).transpose()
}

/// Runs the script; whether its `change` touched its one row.
async fn changes(session: &mut Session, script: &Script) -> Result<bool, Fault> {
    Ok(session.run(script).await?.touched("change") == 1)
}

async fn switch(
    session: &mut Session,
    row: &ProductRow,
    epoch: Epoch,
    target: Tier,
    now: Timestamp,
) -> Result<bool, Fault> {
    let mut script = Script::default();
    script.add("change", "UPDATE stock SET tier = ").text(target.as_str()).sql(", epoch = epoch + 1 WHERE ");
    of_product(&mut script, row)?.sql(" AND phase = 'active' AND tier <> 'redis'");
    if !changes(session, &script).await? {
        return Ok(false);
    }
    let mut history = Script::default();
    for step in ["fence", "open"] {
        record(&mut history, row, epoch, step, target, now)?;
    }
    session.run(&history).await?;
    Ok(true)
}

async fn open_lease(
    session: &mut Session,
    row: &ProductRow,
    lease: LeaseId,
    (epoch, granted, in_one_step): (Epoch, u64, bool),
    now: Timestamp,
) -> Result<bool, Fault> {
    if product_of(session, lease).await?.is_some() {
        return Ok(false);
    }
    let mut script = Script::default();
    script.add("change", "UPDATE stock SET free = free - ").count(granted)?;
    script.sql(", leased = leased + ").count(granted)?;
    script.sql(", tier = 'redis', phase = 'active', target = NULL, epoch = ").count(epoch.get())?;
    script.sql(" WHERE ");
    of_product(&mut script, row)?.sql(" AND phase = ").text(row.state.phase.as_str());
    script.sql(" AND free >= ").count(granted)?;
    if !changes(session, &script).await? {
        return Ok(false);
    }
    let mut history = Script::default();
    history
        .add(
            "insert lease",
            "INSERT INTO lease (lease_id, product_id, epoch, granted, consumed, state, loaded, opened_at) VALUES (",
        )
        .id(lease)
        .sql(", ")
        .text(row.state.product.as_str())
        .sql(", ")
        .count(epoch.get())?
        .sql(", ")
        .count(granted)?
        .sql(", 0, 'OPEN', 0, ")
        .time(now)
        .sql(")");
    if in_one_step {
        record(&mut history, row, epoch, "fence", Tier::Redis, now)?;
    }
    record(&mut history, row, epoch, "open", Tier::Redis, now)?;
    session.run(&history).await?;
    Ok(true)
}

async fn mark_loaded(session: &mut Session, lease: LeaseId) -> Result<bool, Fault> {
    let mut script = Script::default();
    script.add("change", "UPDATE lease SET loaded = 1 WHERE loaded = 0 AND state = 'OPEN' AND lease_id = ").id(lease);
    changes(session, &script).await
}

/// `free → leased`, into the open lease. No part of a move: it has no epoch and no line in the history.
async fn top_up(session: &mut Session, product: &Sku, lease: LeaseId, units: u64) -> Result<bool, Fault> {
    let mut script = Script::default();
    script.add("lend", "UPDATE lease SET granted = granted + ").count(units)?;
    script.sql(" WHERE state = 'OPEN' AND loaded = 1 AND lease_id = ").id(lease);
    script.add("take", "UPDATE stock SET free = free - ").count(units)?.sql(", leased = leased + ").count(units)?;
    script.sql(" WHERE free >= ").count(units)?.sql(" AND product_id = ").text(product.as_str());
    let replies = session.run(&script).await?;
    match (replies.touched("lend"), replies.touched("take")) {
        (1, 1) => Ok(true),
        (lent, taken) => {
            Err(Fault::broken(format!("lease {lease}: a top-up touched {lent} lease and {taken} stock rows")))
        }
    }
}

/// H1. Only from redis: from db and queue a move is one step. The target may be redis again (a new lease).
pub(super) async fn fence(
    session: &mut Session,
    row: &ProductRow,
    epoch: Epoch,
    target: Tier,
    now: Timestamp,
) -> Result<bool, Fault> {
    let mut script = Script::default();
    script.add("change", "UPDATE stock SET phase = 'draining', epoch = epoch + 1, target = ").text(target.as_str());
    script.sql(" WHERE ");
    of_product(&mut script, row)?.sql(" AND phase = 'active' AND tier = 'redis'");
    if !changes(session, &script).await? {
        return Ok(false);
    }
    let mut rest = Script::default();
    rest.add("fence lease", "UPDATE lease SET state = 'FENCED' WHERE state = 'OPEN' AND alive = ")
        .text(row.state.product.as_str());
    record(&mut rest, row, epoch, "fence", target, now)?;
    session.run(&rest).await?;
    Ok(true)
}

/// H4. By this database's `consumed`, never by what the lease store counted.
async fn settle(
    session: &mut Session,
    row: &ProductRow,
    lease: LeaseId,
    rest: u64,
    now: Timestamp,
) -> Result<bool, Fault> {
    let mut script = Script::default();
    script.add("change", "UPDATE lease SET state = 'CLOSED' WHERE state = 'FENCED' AND lease_id = ").id(lease);
    script.sql(" AND granted - consumed = ").count(rest)?;
    if !changes(session, &script).await? {
        return Ok(false);
    }
    let mut give = Script::default();
    give.add("change", "UPDATE stock SET free = free + ").count(rest)?.sql(", leased = leased - ").count(rest)?;
    give.sql(" WHERE leased >= ").count(rest)?.sql(" AND product_id = ").text(row.state.product.as_str());
    record(&mut give, row, row.state.epoch, "settle", row.state.target.unwrap_or(row.state.tier), now)?;
    if !changes(session, &give).await? {
        return Err(Fault::broken(format!(
            "lease {lease} had {rest} units left that its product does not have leased"
        )));
    }
    Ok(true)
}

/// H5 for db and queue: only when no lease is alive.
async fn open(session: &mut Session, row: &ProductRow, tier: Tier, now: Timestamp) -> Result<bool, Fault> {
    let mut script = Script::default();
    // MariaDB assigns from left to right: the tier takes the target before the target is cleared.
    script.add("change", "UPDATE stock SET tier = target, phase = 'active', target = NULL WHERE ");
    of_product(&mut script, row)?.sql(
        " AND phase = 'draining' AND target <> 'redis' AND NOT EXISTS (SELECT 1 FROM lease l WHERE l.alive = stock.product_id)",
    );
    if !changes(session, &script).await? {
        return Ok(false);
    }
    let mut history = Script::default();
    record(&mut history, row, row.state.epoch, "open", tier, now)?;
    session.run(&history).await?;
    Ok(true)
}

fn of_product<'a>(script: &'a mut Script, row: &ProductRow) -> Result<&'a mut Script, Fault> {
    script.sql("product_id = ").text(row.state.product.as_str()).sql(" AND epoch = ").count(row.state.epoch.get())
}

fn record(
    script: &mut Script,
    row: &ProductRow,
    epoch: Epoch,
    step: &'static str,
    to: Tier,
    now: Timestamp,
) -> Result<(), Fault> {
    script.add("history", "INSERT INTO move (product_id, epoch, step, from_tier, to_tier, at) VALUES (");
    script.text(row.state.product.as_str()).sql(", ").count(epoch.get())?.sql(", ").text(step);
    script.sql(", ").text(row.state.tier.as_str()).sql(", ").text(to.as_str()).sql(", ").time(now).sql(")");
    Ok(())
}
