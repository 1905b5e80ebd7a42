//! Subscriptions of the shop's systems: rows of `webhook`, `webhook_parked`, `webhook_dead`. The row of a
//! subscription is locked before what belongs to it.

use async_trait::async_trait;
use sqlx::mysql::MySqlRow;
use types::Timestamp;

use super::fault::Fault;
use super::read::limit;
use super::text::Script;
use super::{MariaStore, rows};
use crate::stock::store::StoreError;
use crate::stock::webhook_store::{
    Dead, MAX_PARKED, MAX_WEBHOOKS, Parked, Progress, WebhookName, WebhookPut, WebhookRow, WebhookSpec, WebhookStore,
    kinds_text, read_kinds,
};

const WEBHOOK: &str = "SELECT w.name, w.url, w.kinds, w.secret, w.generation, w.cursor_at, w.holder, w.held_until, \
     (SELECT COUNT(*) FROM webhook_parked p WHERE p.name = w.name), \
     (SELECT COUNT(*) FROM webhook_dead d WHERE d.name = w.name) FROM webhook w ";

#[async_trait]
impl WebhookStore for MariaStore {
    async fn put_webhook(
        &self,
        spec: WebhookSpec,
        from: Option<u64>,
        now: Timestamp,
    ) -> Result<WebhookPut, StoreError> {
        let kinds = kinds_text(&spec.kinds);
        let mut tx = self.aside.begin().await?;
        let mut script = Script::default();
        script.add("change", "UPDATE webhook SET url = ").text(&spec.url).sql(", kinds = ").text(&kinds);
        script.sql(", secret = ").text(&spec.secret).sql(", generation = generation + 1, updated_at = ").time(now);
        script.sql(" WHERE name = ").text(spec.name.as_str());
        script
            .add("count", "SELECT CAST(COUNT(*) AS SIGNED), (SELECT last FROM outbox_head WHERE one = 1) FROM webhook");
        let mut replies = tx.run(&script).await?;
        if replies.touched("change") > 0 {
            return tx.keep(WebhookPut::Updated).await;
        }
        let row = replies.row("count").ok_or_else(|| Fault::broken("no count of subscriptions"))?;
        if rows::count(&row, 0)? >= MAX_WEBHOOKS as u64 {
            return tx.back(WebhookPut::TooMany).await;
        }
        let newest = rows::count(&row, 1)?;
        let mut script = Script::default();
        script.add(
            "create",
            "INSERT INTO webhook (name, url, kinds, secret, generation, cursor_at, holder, held_until, \
                     created_at, updated_at) VALUES (",
        );
        script.text(spec.name.as_str()).sql(", ").text(&spec.url).sql(", ").text(&kinds);
        script.sql(", ").text(&spec.secret).sql(", 1, ").count(from.unwrap_or(newest).min(newest))?;
        script.sql(", NULL, 0, ").time(now).sql(", ").time(now).sql(")");
        tx.run(&script).await?;
        tx.keep(WebhookPut::Created).await
    }

    async fn remove_webhook(&self, name: &WebhookName) -> Result<bool, StoreError> {
        let mut tx = self.aside.begin().await?;
        let mut script = Script::default();
        script.add("remove", "DELETE FROM webhook WHERE name = ").text(name.as_str());
        script.add("parked", "DELETE FROM webhook_parked WHERE name = ").text(name.as_str());
        script.add("dead", "DELETE FROM webhook_dead WHERE name = ").text(name.as_str());
        let done = tx.run(&script).await?.touched("remove") == 1;
        tx.keep(done).await
    }

    async fn webhooks(&self) -> Result<Vec<WebhookRow>, StoreError> {
        let mut script = Script::default();
        script.add("webhooks", WEBHOOK).sql("ORDER BY w.name");
        let found = self.readers.ask(&script).await?.rows("webhooks");
        Ok(found.map(|row| webhook(&row)).collect::<Result<_, _>>()?)
    }

    async fn claim_webhook(
        &self,
        name: &WebhookName,
        holder: &str,
        free_at: Timestamp,
        until: Timestamp,
    ) -> Result<Option<WebhookRow>, StoreError> {
        let mut tx = self.aside.begin().await?;
        let mut script = Script::default();
        script.add("claim", "UPDATE webhook SET holder = ").text(holder).sql(", held_until = ").time(until);
        script.sql(" WHERE name = ").text(name.as_str()).sql(" AND (holder IS NULL OR holder = ").text(holder);
        script.sql(" OR held_until < ").time(free_at).sql(")");
        script.add("webhook", WEBHOOK).sql("WHERE w.name = ").text(name.as_str());
        let mut replies = tx.run(&script).await?;
        if replies.touched("claim") == 0 {
            return tx.back(None).await;
        }
        tx.keep(replies.row("webhook").map(|row| webhook(&row)).transpose()?).await
    }

    async fn release_webhook(&self, name: &WebhookName, holder: &str) -> Result<(), StoreError> {
        let mut tx = self.aside.begin().await?;
        let mut script = Script::default();
        script.add("release", "UPDATE webhook SET holder = NULL, held_until = 0 WHERE name = ");
        script.text(name.as_str()).sql(" AND holder = ").text(holder);
        tx.run(&script).await?;
        tx.keep(()).await
    }

    async fn parked(&self, name: &WebhookName, max: usize) -> Result<Vec<Parked>, StoreError> {
        let mut script = Script::default();
        script
            .add("parked", "SELECT sequence, order_id, attempts, since, due, reason FROM webhook_parked WHERE name = ");
        script.text(name.as_str()).sql(" ORDER BY sequence LIMIT ").int(limit(max));
        let found = self.readers.ask(&script).await?.rows("parked");
        let read = |row: MySqlRow| -> Result<Parked, Fault> {
            Ok(Parked {
                sequence: rows::count(&row, 0)?,
                order: rows::parsed(&row, 1)?,
                attempts: rows::small_count(&row, 2)?,
                since: rows::time(&row, 3)?,
                due: rows::time(&row, 4)?,
                reason: rows::text(&row, 5)?.to_owned(),
            })
        };
        Ok(found.map(read).collect::<Result<_, _>>()?)
    }

    async fn webhook_progress(
        &self,
        name: &WebhookName,
        holder: &str,
        generation: u64,
        until: Timestamp,
        progress: Progress,
    ) -> Result<bool, StoreError> {
        let mut tx = self.aside.begin().await?;
        let mut script = Script::default();
        script.add("hold", "UPDATE webhook SET cursor_at = ").count(progress.cursor)?;
        script.sql(", held_until = ").time(until).sql(" WHERE name = ").text(name.as_str());
        script.sql(" AND holder = ").text(holder).sql(" AND generation = ").count(generation)?;
        if tx.run(&script).await?.touched("hold") == 0 {
            return tx.back(false).await;
        }
        let script = changes(name, &progress)?;
        if !script.is_empty() {
            tx.run(&script).await?;
        }
        tx.keep(true).await
    }

    async fn dead_letters(&self, name: &WebhookName, after: u64, max: usize) -> Result<Vec<Dead>, StoreError> {
        let mut script = Script::default();
        script.add("dead", "SELECT sequence, order_id, attempts, at, reason FROM webhook_dead WHERE name = ");
        script
            .text(name.as_str())
            .sql(" AND sequence > ")
            .count(after)?
            .sql(" ORDER BY sequence LIMIT ")
            .int(limit(max));
        let found = self.readers.ask(&script).await?.rows("dead");
        let read = |row: MySqlRow| -> Result<Dead, Fault> {
            Ok(Dead {
                sequence: rows::count(&row, 0)?,
                order: rows::parsed(&row, 1)?,
                attempts: rows::small_count(&row, 2)?,
                at: rows::time(&row, 3)?,
                reason: rows::text(&row, 4)?.to_owned(),
            })
        };
        Ok(found.map(read).collect::<Result<_, _>>()?)
    }

    async fn replay_from(&self, name: &WebhookName, from: u64) -> Result<bool, StoreError> {
        let mut tx = self.aside.begin().await?;
        let mut script = Script::default();
        script.add("back", "UPDATE webhook SET generation = generation + 1, cursor_at = ").count(from)?;
        script.sql(" WHERE name = ").text(name.as_str());
        // What is parked above it is sent again from the outbox, in its place.
        script.add("unpark", "DELETE FROM webhook_parked WHERE name = ").text(name.as_str());
        script.sql(" AND sequence > ").count(from)?;
        let done = tx.run(&script).await?.touched("back") == 1;
        tx.keep(done).await
    }

    async fn replay_dead(&self, name: &WebhookName, max: usize, now: Timestamp) -> Result<Option<usize>, StoreError> {
        let mut tx = self.aside.begin().await?;
        let mut script = Script::default();
        script.add("known", "UPDATE webhook SET generation = generation + 1 WHERE name = ").text(name.as_str());
        script.add("parked", "SELECT CAST(COUNT(*) AS SIGNED) FROM webhook_parked WHERE name = ");
        script.text(name.as_str());
        let mut replies = tx.run(&script).await?;
        if replies.touched("known") == 0 {
            return tx.back(None).await;
        }
        let row = replies.row("parked").ok_or_else(|| Fault::broken("no count of parked events"))?;
        let parked = usize::try_from(rows::count(&row, 0)?).unwrap_or(MAX_PARKED);
        let room = MAX_PARKED.saturating_sub(parked).min(max);
        let mut script = Script::default();
        script.add("last", "SELECT MAX(sequence) FROM (SELECT sequence FROM webhook_dead WHERE name = ");
        script.text(name.as_str()).sql(" ORDER BY sequence LIMIT ").int(limit(room)).sql(") d");
        let row = tx.run(&script).await?.row("last");
        let Some(last) = row.map(|row| rows::int_if_any(&row, 0)).transpose()?.flatten() else {
            return tx.keep(Some(0)).await;
        };
        let mut script = Script::default();
        script.add(
            "revive",
            "INSERT IGNORE INTO webhook_parked (name, sequence, order_id, attempts, since, due, reason) \
                     SELECT name, sequence, order_id, 0, ",
        );
        script.time(now).sql(", ").time(now).sql(", reason FROM webhook_dead WHERE name = ");
        script.text(name.as_str()).sql(" AND sequence <= ").int(last);
        script.add("bury no more", "DELETE FROM webhook_dead WHERE name = ").text(name.as_str());
        script.sql(" AND sequence <= ").int(last);
        let moved = tx.run(&script).await?.touched("bury no more");
        tx.keep(Some(usize::try_from(moved).unwrap_or(usize::MAX))).await
    }
}

fn webhook(row: &MySqlRow) -> Result<WebhookRow, Fault> {
    let held = match rows::text_if_any(row, 6)? {
        Some(holder) => Some((holder.to_owned(), rows::time(row, 7)?)),
        None => None,
    };
    Ok(WebhookRow {
        spec: WebhookSpec {
            name: rows::parsed(row, 0)?,
            url: rows::text(row, 1)?.to_owned(),
            kinds: read_kinds(rows::text(row, 2)?).map_err(Fault::Broken)?,
            secret: rows::text(row, 3)?.to_owned(),
        },
        generation: rows::count(row, 4)?,
        cursor: rows::count(row, 5)?,
        held,
        parked: rows::count(row, 8)?,
        dead: rows::count(row, 9)?,
    })
}

/// All of a round but its cursor.
fn changes(name: &WebhookName, progress: &Progress) -> Result<Script, Fault> {
    let mut script = Script::default();
    if !progress.park.is_empty() {
        script
            .add("park", "INSERT INTO webhook_parked (name, sequence, order_id, attempts, since, due, reason) VALUES ");
        script.try_row(&progress.park, |s, parked| {
            s.sql("(").text(name.as_str()).sql(", ").count(parked.sequence)?.sql(", ").id(parked.order);
            s.sql(", ").int(parked.attempts.into()).sql(", ").time(parked.since).sql(", ").time(parked.due);
            s.sql(", ").text(&parked.reason).sql(")");
            Ok(())
        })?;
        script.sql(" ON DUPLICATE KEY UPDATE attempts = VALUES(attempts), due = VALUES(due), reason = VALUES(reason)");
    }
    if !progress.unpark.is_empty() {
        script.add("unpark", "DELETE FROM webhook_parked WHERE name = ").text(name.as_str()).sql(" AND sequence IN (");
        script.try_row(&progress.unpark, |s, sequence| s.count(*sequence).map(|_| ()))?.sql(")");
    }
    if !progress.dead.is_empty() {
        script.add("give up", "INSERT INTO webhook_dead (name, sequence, order_id, attempts, at, reason) VALUES ");
        script.try_row(&progress.dead, |s, dead| {
            s.sql("(").text(name.as_str()).sql(", ").count(dead.sequence)?.sql(", ").id(dead.order);
            s.sql(", ").int(dead.attempts.into()).sql(", ").time(dead.at).sql(", ").text(&dead.reason).sql(")");
            Ok(())
        })?;
        script.sql(" ON DUPLICATE KEY UPDATE attempts = VALUES(attempts), at = VALUES(at), reason = VALUES(reason)");
    }
    Ok(script)
}
