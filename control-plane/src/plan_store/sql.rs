//! The SQL of the plan store. Runs on the writer thread only.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use types::{Generation, Sku, Timestamp};

use super::{AuditRow, Change, Saved, Since, StoreError};
use crate::planner::Decision;

/// How long a statement waits for a reader from outside (`sqlite3` on the file) before it fails.
const BUSY: Duration = Duration::from_secs(2);

pub(super) fn prepare(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // A generation that was pushed must survive the machine, not only the process.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.execute_batch(include_str!("schema.sql"))
}

pub(super) fn load(connection: &Connection) -> Result<Saved, StoreError> {
    let mut saved = Saved {
        generation: generation(connection)?,
        decisions: rows(connection, "plan", "SELECT product, decision FROM plan")?,
        overrides: rows(connection, "tier_override", "SELECT product, decision FROM tier_override")?,
        policy: None,
    };
    for decision in saved.decisions.values_mut() {
        let memory = std::mem::take(&mut decision.memory);
        decision.memory = memory.after_restart();
    }
    let mut newest = connection.prepare("SELECT version, policy FROM policy ORDER BY version DESC LIMIT 1")?;
    let mut found = newest.query([])?;
    if let Some(row) = found.next()? {
        let (version, text): (i64, String) = (row.get(0)?, row.get(1)?);
        // A policy of an older version of this program may lack fields or have others: it is replaced by
        // the configured one, not a reason to refuse the start.
        saved.policy = serde_json::from_str(&text)
            .map_err(|e| tracing::warn!(version, error = %e, "the stored policy is of another shape; ignored"))
            .ok();
    }
    Ok(saved)
}

fn generation(connection: &Connection) -> Result<Generation, StoreError> {
    let found: i64 = connection.query_row("SELECT generation FROM head WHERE only = 1", [], |row| row.get(0))?;
    Ok(Generation::new(u64::try_from(found).unwrap_or(0)))
}

fn rows<T: DeserializeOwned>(
    connection: &Connection,
    table: &'static str,
    query: &str,
) -> Result<BTreeMap<Sku, T>, StoreError> {
    let mut statement = connection.prepare(query)?;
    let mut found = statement.query([])?;
    let mut all = BTreeMap::new();
    while let Some(row) = found.next()? {
        let (product, text): (String, String) = (row.get(0)?, row.get(1)?);
        let damaged = |why: String| StoreError::Damaged { table, row: product.clone(), why };
        let sku = Sku::new(&product).map_err(|e| damaged(e.to_string()))?;
        all.insert(sku, serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?);
    }
    Ok(all)
}

pub(super) fn commit(connection: &mut Connection, change: &Change) -> Result<(), StoreError> {
    let txn = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let moved = txn.execute(
        "UPDATE head SET generation = ?1 WHERE only = 1 AND generation = ?2",
        params![signed(change.generation), signed(change.base)],
    )?;
    if moved != 1 {
        return Err(StoreError::NotOwner { expected: change.base, found: generation(&txn)? });
    }
    {
        let mut put = txn.prepare_cached("INSERT OR REPLACE INTO plan (product, decision) VALUES (?1, ?2)")?;
        for (sku, decision) in &change.decisions {
            put.execute(params![sku.as_str(), json::<Decision>(decision)?])?;
        }
        let mut drop = txn.prepare_cached("DELETE FROM plan WHERE product = ?1")?;
        for sku in &change.dropped {
            drop.execute(params![sku.as_str()])?;
        }
        let mut put = txn.prepare_cached("INSERT OR REPLACE INTO tier_override (product, decision) VALUES (?1, ?2)")?;
        for (sku, order) in &change.overrides {
            put.execute(params![sku.as_str(), json(order)?])?;
        }
        let mut drop = txn.prepare_cached("DELETE FROM tier_override WHERE product = ?1")?;
        for sku in &change.overrides_gone {
            drop.execute(params![sku.as_str()])?;
        }
        if let Some((at, policy)) = &change.policy {
            txn.execute("INSERT INTO policy (at, policy) VALUES (?1, ?2)", params![at.millis(), json(policy)?])?;
        }
        let mut tell = txn.prepare_cached(
            "INSERT INTO audit (at, actor, action, product, before_value, after_value, why, generation)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        for row in &change.audit {
            tell.execute(params![
                row.at.millis(),
                row.actor,
                row.action.as_str(),
                row.product.as_ref().map(Sku::as_str),
                row.before.as_ref().map(ToString::to_string),
                row.after.as_ref().map(ToString::to_string),
                row.why,
                signed(row.generation),
            ])?;
        }
    }
    txn.commit()?;
    Ok(())
}

pub(super) fn audit(connection: &Connection, since: Since, limit: usize) -> Result<Vec<AuditRow>, StoreError> {
    let (filter, bound) = match since {
        Since::Id(id) => ("id > ?1", i64::try_from(id).unwrap_or(i64::MAX)),
        Since::Time(at) => ("at >= ?1", at.millis()),
    };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT id, at, actor, action, product, before_value, after_value, why, generation
         FROM audit WHERE {filter} ORDER BY id LIMIT ?2"
    ))?;
    let mut found = statement.query(params![bound, i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        let id: i64 = row.get(0)?;
        let value = |text: Option<String>| {
            text.map(|t| serde_json::from_str(&t)).transpose().map_err(|e| StoreError::Damaged {
                table: "audit",
                row: id.to_string(),
                why: e.to_string(),
            })
        };
        all.push(AuditRow {
            id: u64::try_from(id).unwrap_or(0),
            at: Timestamp::from_millis(row.get(1)?),
            actor: row.get(2)?,
            action: row.get(3)?,
            product: row.get(4)?,
            before: value(row.get(5)?)?,
            after: value(row.get(6)?)?,
            why: row.get(7)?,
            generation: Generation::new(u64::try_from(row.get::<_, i64>(8)?).unwrap_or(0)),
        });
    }
    Ok(all)
}

// SQLite's integers are signed; a generation rises by one and cannot get near the bound.
fn signed(generation: Generation) -> i64 {
    i64::try_from(generation.get()).unwrap_or(i64::MAX)
}

fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Damaged {
        table: "new row",
        row: String::new(),
        why: format!("cannot be written: {e}"),
    })
}
