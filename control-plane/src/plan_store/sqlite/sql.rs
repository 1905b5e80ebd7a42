//! The SQL of the plan store on SQLite. Runs on the writer thread only.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::de::DeserializeOwned;
use types::{Generation, Sku, Term, Timestamp};

use super::super::text::{self, AuditColumns, json, signed, unsigned};
use super::super::{AuditRow, Change, GenerationRow, Leader, PolicyRow, Saved, Since, StoreError, Target};
use crate::planner::Decision;

pub(super) fn load(connection: &mut Connection) -> Result<Saved, StoreError> {
    // One snapshot: another control plane may be writing.
    let txn = connection.transaction()?;
    let decisions = rows::<Decision>(&txn, "plan", "SELECT product, decision FROM plan")?;
    let mut saved = Saved {
        generation: generation(&txn)?,
        revision: leader(&txn)?.revision,
        decisions: decisions.into_iter().map(|(sku, d)| (sku, text::taken_up(d))).collect(),
        overrides: rows(&txn, "tier_override", "SELECT product, decision FROM tier_override")?,
        frozen: setting(&txn, "frozen")?,
        // An older program's numbers are no reason to refuse the start.
        configured: setting(&txn, "configured").unwrap_or_default(),
        ..Saved::default()
    };
    {
        let mut found = txn.prepare("SELECT kind, name, told FROM pause")?;
        let mut found = found.query([])?;
        while let Some(row) = found.next()? {
            let (kind, name, told): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            saved.paused.insert(Target::parse(&kind, &name)?, text::read("pause", &name, &told)?);
        }
    }
    let newest = txn
        .query_row("SELECT version, policy FROM policy ORDER BY version DESC LIMIT 1", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
        })
        .optional()?;
    if let Some((version, policy)) = newest {
        saved.policy = serde_json::from_str(&policy)
            .map_err(|e| tracing::warn!(version, error = %e, "the stored policy is of another shape; ignored"))
            .ok()
            .map(|policy| (unsigned(version), policy));
    }
    Ok(saved)
}

fn generation(connection: &Connection) -> Result<Generation, StoreError> {
    let found: i64 = connection.query_row("SELECT generation FROM head WHERE only = 1", [], |row| row.get(0))?;
    Ok(Generation::new(unsigned(found)))
}

fn setting<T: DeserializeOwned>(connection: &Connection, name: &str) -> Result<Option<T>, StoreError> {
    let found: Option<String> =
        connection.query_row("SELECT value FROM setting WHERE name = ?1", [name], |row| row.get(0)).optional()?;
    found.map(|value| text::read("setting", name, &value)).transpose()
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
        let (product, value): (String, String) = (row.get(0)?, row.get(1)?);
        let (sku, value) = text::pair(table, &product, &value)?;
        all.insert(sku, value);
    }
    Ok(all)
}

pub(super) fn leader(connection: &Connection) -> Result<Leader, StoreError> {
    let row = connection.query_row(
        "SELECT term, holder, url, beat, renewed_at, revision FROM leader WHERE only = 1",
        [],
        |row| {
            Ok(Leader {
                term: Term::new(unsigned(row.get(0)?)),
                holder: row.get(1)?,
                url: row.get(2)?,
                beat: unsigned(row.get(3)?),
                renewed_at: Timestamp::from_millis(row.get(4)?),
                revision: unsigned(row.get(5)?),
            })
        },
    )?;
    Ok(row)
}

pub(super) fn campaign(
    connection: &Connection,
    me: &str,
    url: &str,
    seen: &Leader,
    now: Timestamp,
) -> Result<Option<Term>, StoreError> {
    let term = seen.term.next();
    let taken = connection.execute(
        "UPDATE leader SET term = ?1, holder = ?2, url = ?3, beat = beat + 1, renewed_at = ?4
         WHERE only = 1 AND term = ?5 AND beat = ?6",
        params![signed(term.get()), me, url, now.millis(), signed(seen.term.get()), signed(seen.beat)],
    )?;
    Ok((taken == 1).then_some(term))
}

pub(super) fn renew(connection: &Connection, term: Term, now: Timestamp) -> Result<bool, StoreError> {
    let kept = connection.execute(
        "UPDATE leader SET beat = beat + 1, renewed_at = ?1 WHERE only = 1 AND term = ?2 AND holder IS NOT NULL",
        params![now.millis(), signed(term.get())],
    )?;
    Ok(kept == 1)
}

pub(super) fn raise_term(connection: &Connection, term: Term, above: Term) -> Result<Option<Term>, StoreError> {
    let raised = term.max(above).next();
    let done = connection.execute(
        "UPDATE leader SET term = ?1, beat = beat + 1 WHERE only = 1 AND term = ?2 AND holder IS NOT NULL",
        params![signed(raised.get()), signed(term.get())],
    )?;
    Ok((done == 1).then_some(raised))
}

pub(super) fn resign(connection: &Connection, term: Term) -> Result<(), StoreError> {
    connection.execute("UPDATE leader SET holder = NULL WHERE only = 1 AND term = ?1", [signed(term.get())])?;
    Ok(())
}

pub(super) fn commit(connection: &mut Connection, term: Term, change: &Change) -> Result<(), StoreError> {
    let txn = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let led = txn.execute(
        "UPDATE leader SET revision = revision + 1 WHERE only = 1 AND term = ?1 AND holder IS NOT NULL",
        [signed(term.get())],
    )?;
    let moved = txn.execute(
        "UPDATE head SET generation = ?1 WHERE only = 1 AND generation = ?2",
        params![signed(change.generation.get()), signed(change.base.get())],
    )?;
    if led != 1 || moved != 1 {
        return Err(StoreError::NotLeader { term: leader(&txn)?.term, generation: generation(&txn)? });
    }
    write_plan(&txn, term, change)?;
    write_orders(&txn, change)?;
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
            signed(row.generation.get()),
        ])?;
    }
    drop(tell);
    txn.commit()?;
    Ok(())
}

fn write_plan(txn: &Transaction<'_>, term: Term, change: &Change) -> Result<(), StoreError> {
    let mut put = txn.prepare_cached("INSERT OR REPLACE INTO plan (product, decision) VALUES (?1, ?2)")?;
    let mut tell =
        txn.prepare_cached("INSERT OR REPLACE INTO delta (product, generation, at, decision) VALUES (?1, ?2, ?3, ?4)")?;
    let new = change.generation != change.base;
    for (sku, decision) in &change.decisions {
        let value = json(decision)?;
        put.execute(params![sku.as_str(), value])?;
        if new {
            tell.execute(params![sku.as_str(), signed(decision.generation.get()), change.at.millis(), value])?;
        }
    }
    let mut drop = txn.prepare_cached("DELETE FROM plan WHERE product = ?1")?;
    for sku in &change.dropped {
        drop.execute(params![sku.as_str()])?;
    }
    if new {
        let products = signed(change.decisions.len() as u64);
        txn.execute(
            "INSERT INTO generation (generation, at, term, products, tiers) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                signed(change.generation.get()),
                change.at.millis(),
                signed(term.get()),
                products,
                json(&change.tiers)?
            ],
        )?;
    }
    Ok(())
}

fn write_orders(txn: &Transaction<'_>, change: &Change) -> Result<(), StoreError> {
    let mut put = txn.prepare_cached("INSERT OR REPLACE INTO tier_override (product, decision) VALUES (?1, ?2)")?;
    for (sku, order) in &change.overrides {
        put.execute(params![sku.as_str(), json(order)?])?;
    }
    let mut drop = txn.prepare_cached("DELETE FROM tier_override WHERE product = ?1")?;
    for sku in &change.overrides_gone {
        drop.execute(params![sku.as_str()])?;
    }
    for (target, told) in &change.paused {
        match told {
            Some(told) => txn.execute(
                "INSERT OR REPLACE INTO pause (kind, name, told) VALUES (?1, ?2, ?3)",
                params![target.kind(), target.name(), json(told)?],
            )?,
            None => {
                txn.execute("DELETE FROM pause WHERE kind = ?1 AND name = ?2", params![target.kind(), target.name()])?
            }
        };
    }
    let mut settings = Vec::new();
    if let Some(frozen) = &change.frozen {
        settings.push(("frozen", frozen.as_ref().map(json).transpose()?));
    }
    if let Some(configured) = &change.configured {
        settings.push(("configured", Some(json(configured)?)));
    }
    for (name, value) in settings {
        match value {
            Some(value) => {
                txn.execute("INSERT OR REPLACE INTO setting (name, value) VALUES (?1, ?2)", params![name, value])?
            }
            None => txn.execute("DELETE FROM setting WHERE name = ?1", [name])?,
        };
    }
    if let Some(new) = &change.policy {
        txn.execute("INSERT INTO policy (at, policy) VALUES (?1, ?2)", params![new.at.millis(), json(&new.policy)?])?;
        let version = txn.last_insert_rowid();
        txn.execute(
            "INSERT INTO policy_note (version, by_whom, why) VALUES (?1, ?2, ?3)",
            params![version, new.by, new.why],
        )?;
    }
    Ok(())
}

fn limited(limit: usize) -> i64 {
    i64::try_from(limit.min(super::super::MAX_ROWS)).unwrap_or(i64::MAX)
}

pub(super) fn audit(connection: &Connection, since: Since, limit: usize) -> Result<Vec<AuditRow>, StoreError> {
    let (filter, bound) = match since {
        Since::Id(id) => ("id > ?1", signed(id)),
        Since::Time(at) => ("at >= ?1", at.millis()),
    };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT id, at, actor, action, product, before_value, after_value, why, generation
         FROM audit WHERE {filter} ORDER BY id LIMIT ?2"
    ))?;
    let mut found = statement.query(params![bound, limited(limit)])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        let columns = AuditColumns {
            id: row.get(0)?,
            at: row.get(1)?,
            actor: row.get(2)?,
            action: row.get(3)?,
            product: row.get(4)?,
            before: row.get(5)?,
            after: row.get(6)?,
            why: row.get(7)?,
            generation: row.get(8)?,
        };
        all.push(columns.row()?);
    }
    Ok(all)
}

pub(super) fn generations(
    connection: &Connection,
    before: Option<Generation>,
    limit: usize,
) -> Result<Vec<GenerationRow>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT generation, at, term, products, tiers FROM generation WHERE generation < ?1
         ORDER BY generation DESC LIMIT ?2",
    )?;
    let bound = before.map_or(i64::MAX, |g| signed(g.get()));
    let mut found = statement.query(params![bound, limited(limit)])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        let tiers: String = row.get(4)?;
        all.push(text::generation_row(row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, &tiers)?);
    }
    Ok(all)
}

pub(super) fn history(
    connection: &Connection,
    product: Option<&Sku>,
    since: Timestamp,
    limit: usize,
) -> Result<Vec<(Sku, Decision)>, StoreError> {
    let filter = if product.is_some() { "product = ?3 AND" } else { "?3 IS NULL AND" };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT product, decision FROM delta WHERE {filter} at >= ?1 ORDER BY generation DESC, product LIMIT ?2"
    ))?;
    let mut found = statement.query(params![since.millis(), limited(limit), product.map(Sku::as_str)])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        let (product, decision): (String, String) = (row.get(0)?, row.get(1)?);
        all.push(text::pair("delta", &product, &decision)?);
    }
    Ok(all)
}

pub(super) fn policies(connection: &Connection, limit: usize) -> Result<Vec<PolicyRow>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT p.version, p.at, n.by_whom, n.why, p.policy FROM policy p LEFT JOIN policy_note n USING (version)
         ORDER BY p.version DESC LIMIT ?1",
    )?;
    let mut found = statement.query([limited(limit)])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        let policy: String = row.get(4)?;
        all.push(text::policy_row(row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, &policy)?);
    }
    Ok(all)
}

pub(super) fn compact(connection: &mut Connection, before: Timestamp) -> Result<u64, StoreError> {
    let txn = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    txn.execute("DELETE FROM delta WHERE at < ?1", [before.millis()])?;
    let gone = txn.execute("DELETE FROM generation WHERE at < ?1", [before.millis()])?;
    txn.commit()?;
    Ok(gone as u64)
}
