//! Subscriptions of the shop's systems: rows of `webhook`, `webhook_parked`, `webhook_dead`.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};
use types::Timestamp;

use super::fault::Fault;
use super::{SqliteStore, read, rows};
use crate::stock::store::StoreError;
use crate::stock::webhook_store::{
    Dead, MAX_PARKED, MAX_WEBHOOKS, Parked, Progress, WebhookName, WebhookPut, WebhookRow, WebhookSpec, WebhookStore,
    kinds_text, read_kinds,
};

macro_rules! select {
    () => {
        "SELECT w.name, w.url, w.kinds, w.secret, w.generation, w.cursor_at, w.holder, w.held_until, \
         (SELECT COUNT(*) FROM webhook_parked p WHERE p.name = w.name) AS parked, \
         (SELECT COUNT(*) FROM webhook_dead d WHERE d.name = w.name) AS dead FROM webhook w "
    };
}

#[async_trait]
impl WebhookStore for SqliteStore {
    async fn put_webhook(
        &self,
        spec: WebhookSpec,
        from: Option<u64>,
        now: Timestamp,
    ) -> Result<WebhookPut, StoreError> {
        self.writer.call(move |tx| put(tx, &spec, from, now)).await
    }

    async fn remove_webhook(&self, name: &WebhookName) -> Result<bool, StoreError> {
        let name = name.clone();
        self.writer
            .call(move |tx| {
                tx.prepare_cached("DELETE FROM webhook_parked WHERE name = ?1")?.execute([name.as_str()])?;
                tx.prepare_cached("DELETE FROM webhook_dead WHERE name = ?1")?.execute([name.as_str()])?;
                Ok(tx.prepare_cached("DELETE FROM webhook WHERE name = ?1")?.execute([name.as_str()])? == 1)
            })
            .await
    }

    async fn webhooks(&self) -> Result<Vec<WebhookRow>, StoreError> {
        self.readers
            .call(|db| read::collect(db.prepare_cached(concat!(select!(), "ORDER BY w.name"))?.query([])?, webhook))
            .await
    }

    async fn claim_webhook(
        &self,
        name: &WebhookName,
        holder: &str,
        free_at: Timestamp,
        until: Timestamp,
    ) -> Result<Option<WebhookRow>, StoreError> {
        let (name, holder) = (name.clone(), holder.to_owned());
        self.writer
            .call(move |tx| {
                let taken = tx
                    .prepare_cached(
                        "UPDATE webhook SET holder = ?2, held_until = ?4 \
                         WHERE name = ?1 AND (holder IS NULL OR holder = ?2 OR held_until < ?3)",
                    )?
                    .execute(params![name.as_str(), holder, free_at.millis(), until.millis()])?;
                if taken == 0 { Ok(None) } else { one(tx, &name) }
            })
            .await
    }

    async fn release_webhook(&self, name: &WebhookName, holder: &str) -> Result<(), StoreError> {
        let (name, holder) = (name.clone(), holder.to_owned());
        self.writer
            .call(move |tx| {
                tx.prepare_cached("UPDATE webhook SET holder = NULL, held_until = 0 WHERE name = ?1 AND holder = ?2")?
                    .execute(params![name.as_str(), holder])?;
                Ok(())
            })
            .await
    }

    async fn parked(&self, name: &WebhookName, max: usize) -> Result<Vec<Parked>, StoreError> {
        let name = name.clone();
        self.readers
            .call(move |db| {
                let mut find = db.prepare_cached(
                    "SELECT sequence, order_id, attempts, since, due, reason FROM webhook_parked \
                     WHERE name = ?1 ORDER BY sequence LIMIT ?2",
                )?;
                read::collect(find.query(params![name.as_str(), read::limit(max)])?, |row| {
                    Ok(Parked {
                        sequence: rows::count(row, "sequence")?,
                        order: rows::parsed(row, "order_id")?,
                        attempts: rows::small_count(row, "attempts")?,
                        since: rows::time(row, "since")?,
                        due: rows::time(row, "due")?,
                        reason: row.get("reason")?,
                    })
                })
            })
            .await
    }

    async fn webhook_progress(
        &self,
        name: &WebhookName,
        holder: &str,
        generation: u64,
        until: Timestamp,
        progress: Progress,
    ) -> Result<bool, StoreError> {
        let (name, holder) = (name.clone(), holder.to_owned());
        self.writer.call(move |tx| write(tx, &name, &holder, generation, until, &progress)).await
    }

    async fn dead_letters(&self, name: &WebhookName, after: u64, max: usize) -> Result<Vec<Dead>, StoreError> {
        let name = name.clone();
        self.readers
            .call(move |db| {
                let mut find = db.prepare_cached(
                    "SELECT sequence, order_id, attempts, at, reason FROM webhook_dead \
                     WHERE name = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3",
                )?;
                read::collect(find.query(params![name.as_str(), rows::int(after)?, read::limit(max)])?, |row| {
                    Ok(Dead {
                        sequence: rows::count(row, "sequence")?,
                        order: rows::parsed(row, "order_id")?,
                        attempts: rows::small_count(row, "attempts")?,
                        at: rows::time(row, "at")?,
                        reason: row.get("reason")?,
                    })
                })
            })
            .await
    }

    async fn replay_from(&self, name: &WebhookName, from: u64) -> Result<bool, StoreError> {
        let name = name.clone();
        self.writer
            .call(move |tx| {
                // What is parked above it is sent again from the outbox, in its place.
                tx.prepare_cached("DELETE FROM webhook_parked WHERE name = ?1 AND sequence > ?2")?
                    .execute(params![name.as_str(), rows::int(from)?])?;
                let changed = tx
                    .prepare_cached("UPDATE webhook SET cursor_at = ?2, generation = generation + 1 WHERE name = ?1")?
                    .execute(params![name.as_str(), rows::int(from)?])?;
                Ok(changed == 1)
            })
            .await
    }

    async fn replay_dead(&self, name: &WebhookName, max: usize, now: Timestamp) -> Result<Option<usize>, StoreError> {
        let name = name.clone();
        self.writer.call(move |tx| replay_dead(tx, &name, max, now)).await
    }
}

fn one(db: &Connection, name: &WebhookName) -> Result<Option<WebhookRow>, Fault> {
    let mut find = db.prepare_cached(concat!(select!(), "WHERE w.name = ?1"))?;
    let mut found = find.query([name.as_str()])?;
    found.next()?.map(webhook).transpose()
}

fn webhook(row: &Row<'_>) -> Result<WebhookRow, Fault> {
    let kinds: String = row.get("kinds")?;
    let holder: Option<String> = row.get("holder")?;
    Ok(WebhookRow {
        spec: WebhookSpec {
            name: rows::parsed(row, "name")?,
            url: row.get("url")?,
            kinds: read_kinds(&kinds).map_err(Fault::Broken)?,
            secret: row.get("secret")?,
        },
        generation: rows::count(row, "generation")?,
        cursor: rows::count(row, "cursor_at")?,
        held: holder.map(|holder| Ok::<_, Fault>((holder, rows::time(row, "held_until")?))).transpose()?,
        parked: rows::count(row, "parked")?,
        dead: rows::count(row, "dead")?,
    })
}

fn put(tx: &Connection, spec: &WebhookSpec, from: Option<u64>, now: Timestamp) -> Result<WebhookPut, Fault> {
    let (name, kinds) = (spec.name.as_str(), kinds_text(&spec.kinds));
    let changed = tx
        .prepare_cached(
            "UPDATE webhook SET url = ?2, kinds = ?3, secret = ?4, generation = generation + 1, updated_at = ?5 \
             WHERE name = ?1",
        )?
        .execute(params![name, spec.url, kinds, spec.secret, now.millis()])?;
    if changed == 1 {
        return Ok(WebhookPut::Updated);
    }
    let there: i64 = tx.prepare_cached("SELECT COUNT(*) FROM webhook")?.query_row([], |row| row.get(0))?;
    if usize::try_from(there).unwrap_or(usize::MAX) >= MAX_WEBHOOKS {
        return Ok(WebhookPut::TooMany);
    }
    let newest: i64 = tx.prepare_cached("SELECT COALESCE(MAX(id), 0) FROM outbox")?.query_row([], |row| row.get(0))?;
    let cursor = from.map_or(Ok(newest), |from| rows::int(from).map(|from| from.min(newest)))?;
    tx.prepare_cached(
        "INSERT INTO webhook (name, url, kinds, secret, generation, cursor_at, holder, held_until, created_at, updated_at) \
         VALUES (?1, ?2, ?3, ?4, 1, ?5, NULL, 0, ?6, ?6)",
    )?
    .execute(params![name, spec.url, kinds, spec.secret, cursor, now.millis()])?;
    Ok(WebhookPut::Created)
}

fn write(
    tx: &Connection,
    name: &WebhookName,
    holder: &str,
    generation: u64,
    until: Timestamp,
    progress: &Progress,
) -> Result<bool, Fault> {
    let name = name.as_str();
    let ours = tx
        .prepare_cached(
            "UPDATE webhook SET cursor_at = ?4, held_until = ?5 WHERE name = ?1 AND holder = ?2 AND generation = ?3",
        )?
        .execute(params![name, holder, rows::int(generation)?, rows::int(progress.cursor)?, until.millis()])?;
    if ours == 0 {
        return Ok(false);
    }
    for parked in &progress.park {
        tx.prepare_cached(
            "INSERT INTO webhook_parked (name, sequence, order_id, attempts, since, due, reason) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (name, sequence) \
             DO UPDATE SET attempts = ?4, due = ?6, reason = ?7",
        )?
        .execute(params![
            name,
            rows::int(parked.sequence)?,
            parked.order.to_string(),
            parked.attempts,
            parked.since.millis(),
            parked.due.millis(),
            parked.reason
        ])?;
    }
    for sequence in &progress.unpark {
        tx.prepare_cached("DELETE FROM webhook_parked WHERE name = ?1 AND sequence = ?2")?
            .execute(params![name, rows::int(*sequence)?])?;
    }
    for dead in &progress.dead {
        tx.prepare_cached(
            "INSERT INTO webhook_dead (name, sequence, order_id, attempts, at, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
             ON CONFLICT (name, sequence) DO UPDATE SET attempts = ?4, at = ?5, reason = ?6",
        )?
        .execute(params![
            name,
            rows::int(dead.sequence)?,
            dead.order.to_string(),
            dead.attempts,
            dead.at.millis(),
            dead.reason
        ])?;
    }
    Ok(true)
}

fn replay_dead(tx: &Connection, name: &WebhookName, max: usize, now: Timestamp) -> Result<Option<usize>, Fault> {
    let name = name.as_str();
    let known = tx.prepare_cached("UPDATE webhook SET generation = generation + 1 WHERE name = ?1")?.execute([name])?;
    if known == 0 {
        return Ok(None);
    }
    let parked: i64 = tx
        .prepare_cached("SELECT COUNT(*) FROM webhook_parked WHERE name = ?1")?
        .query_row([name], |row| row.get(0))?;
    let room = MAX_PARKED.saturating_sub(usize::try_from(parked).unwrap_or(MAX_PARKED)).min(max);
    let last: Option<i64> = tx
        .prepare_cached(
            "SELECT MAX(sequence) FROM (SELECT sequence FROM webhook_dead WHERE name = ?1 ORDER BY sequence LIMIT ?2)",
        )?
        .query_row(params![name, read::limit(room)], |row| row.get(0))
        .optional()?
        .flatten();
    let Some(last) = last else { return Ok(Some(0)) };
    tx.prepare_cached(
        "INSERT INTO webhook_parked (name, sequence, order_id, attempts, since, due, reason) \
         SELECT name, sequence, order_id, 0, ?3, ?3, reason FROM webhook_dead WHERE name = ?1 AND sequence <= ?2 \
         ON CONFLICT DO NOTHING",
    )?
    .execute(params![name, last, now.millis()])?;
    let moved = tx
        .prepare_cached("DELETE FROM webhook_dead WHERE name = ?1 AND sequence <= ?2")?
        .execute(params![name, last])?;
    Ok(Some(moved))
}
