//! Provider of the plan store on MariaDB or MySQL: what several control planes on several machines share. Every write
//! holds the leader's row, so that writes come one after the other and the fence is one comparison.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlRow};
use sqlx::{ConnectOptions, MySql, MySqlConnection, MySqlPool, QueryBuilder, Row};
use types::{Generation, Invalid, Sku, Term, Timestamp};

use super::text::{self, AuditColumns, json, signed, unsigned};
use super::{
    AuditRow, Change, GenerationRow, Leader, MAX_ROWS, PlanStore, PolicyRow, Saved, Since, StoreError, Target,
};
use crate::planner::Decision;

/// Connections: one writes, the others answer readers of the audit log and of history.
const CONNECTIONS: u32 = 4;
/// Longest wait for a connection. Below the lease's time, so that a leader whose database is away knows it.
const CONNECT: Duration = Duration::from_secs(2);
/// Rows in one statement: some 700 KB of decisions, below any server's `max_allowed_packet`.
const ROWS: usize = 1_000;

/// Where the database is. Either `url`, or host, port, user and database.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MariaPlansOptions {
    /// `mysql://user@host:port/database`, in place of the next four; never shown, as it may hold a password.
    #[serde(skip_serializing)]
    pub url: Option<String>,
    /// Name or address of the server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The account; it needs all rights on the one database, and none beside.
    pub user: String,
    /// The database; it must exist, and be the control planes' own (the core's is another).
    pub database: String,
    /// A file that holds the password (a line end is cut off). None: no password.
    pub password_file: Option<PathBuf>,
}

impl Default for MariaPlansOptions {
    fn default() -> Self {
        Self {
            url: None,
            host: "127.0.0.1".into(),
            port: 3306,
            user: "seckill".into(),
            database: "seckill_control".into(),
            password_file: None,
        }
    }
}

impl fmt::Debug for MariaPlansOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MariaPlansOptions")
            .field("url", &self.url.as_ref().map(|_| "***"))
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("database", &self.database)
            .field("password_file", &self.password_file)
            .finish()
    }
}

impl MariaPlansOptions {
    /// Refuses what cannot work, naming the field.
    pub fn check(&self) -> Result<(), Invalid> {
        match &self.url {
            // The parser's own words may quote the URL, and a password with it.
            Some(url) if MySqlConnectOptions::from_str(url).is_err() => {
                Err(Invalid::new("plan_store.mariadb.url", "is not mysql://user@host:port/database"))
            }
            None if self.host.is_empty() => Err(Invalid::new("plan_store.mariadb.host", "is empty")),
            None if self.database.is_empty() => Err(Invalid::new("plan_store.mariadb.database", "is empty")),
            _ => Ok(()),
        }
    }

    fn server(&self) -> Result<MySqlConnectOptions, StoreError> {
        let unusable = |why: String| StoreError::Unusable { place: "plan_store.mariadb".to_owned(), why };
        let mut server = match &self.url {
            Some(url) => MySqlConnectOptions::from_str(url).map_err(|_| unusable("the URL does not parse".into()))?,
            None => MySqlConnectOptions::new()
                .host(&self.host)
                .port(self.port)
                .username(&self.user)
                .database(&self.database),
        };
        if let Some(file) = &self.password_file {
            let text = std::fs::read_to_string(file)
                .map_err(|e| unusable(format!("password_file {}: {e}", file.display())))?;
            server = server.password(text.trim_end_matches(['\r', '\n']));
        }
        Ok(server.charset("utf8mb4").disable_statement_logging())
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        // Whatever it is, the plan in force stays and the same is tried again: a server comes back, a lock is freed, a
        // replica is promoted.
        Self::Unavailable(error.to_string())
    }
}

/// The store on a server.
#[derive(Debug, Clone)]
pub struct MariaPlans {
    pool: MySqlPool,
}

impl MariaPlans {
    /// Connects and brings the tables to this program's version.
    pub async fn connect(options: &MariaPlansOptions) -> Result<Self, StoreError> {
        let unusable = |why: String| StoreError::Unusable { place: "plan_store.mariadb".to_owned(), why };
        options.check().map_err(|e| unusable(e.to_string()))?;
        let pool = MySqlPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(CONNECT)
            .connect_with(options.server()?)
            .await?;
        sqlx::migrate!("src/plan_store/mariadb/migrations")
            .run(&pool)
            .await
            .map_err(|e| unusable(format!("its tables cannot be brought to this version: {e}")))?;
        Ok(Self { pool })
    }
}

async fn leader(connection: &mut MySqlConnection, lock: bool) -> Result<Leader, StoreError> {
    let query = if lock {
        "SELECT term, holder, url, beat, renewed_at, revision FROM leader WHERE only_row = 1 FOR UPDATE"
    } else {
        "SELECT term, holder, url, beat, renewed_at, revision FROM leader WHERE only_row = 1"
    };
    let row = sqlx::query(query).fetch_one(connection).await?;
    Ok(Leader {
        term: Term::new(unsigned(row.try_get(0)?)),
        holder: row.try_get(1)?,
        url: row.try_get(2)?,
        beat: unsigned(row.try_get(3)?),
        renewed_at: Timestamp::from_millis(row.try_get(4)?),
        revision: unsigned(row.try_get(5)?),
    })
}

async fn generation(connection: &mut MySqlConnection) -> Result<Generation, StoreError> {
    let row = sqlx::query("SELECT generation FROM head WHERE only_row = 1").fetch_one(connection).await?;
    Ok(Generation::new(unsigned(row.try_get(0)?)))
}

fn limited(limit: usize) -> i64 {
    signed(limit.min(MAX_ROWS) as u64)
}

fn texts(row: &MySqlRow) -> Result<(String, String), StoreError> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}

#[async_trait]
impl PlanStore for MariaPlans {
    async fn load(&self) -> Result<Saved, StoreError> {
        // One snapshot (REPEATABLE READ): another control plane may be writing.
        let mut txn = self.pool.begin().await?;
        let mut saved = Saved {
            generation: generation(&mut txn).await?,
            revision: leader(&mut txn, false).await?.revision,
            ..Saved::default()
        };
        for row in sqlx::query("SELECT product, decision FROM plan").fetch_all(&mut *txn).await? {
            let (product, value) = texts(&row)?;
            let (sku, decision) = text::pair("plan", &product, &value)?;
            saved.decisions.insert(sku, text::taken_up(decision));
        }
        for row in sqlx::query("SELECT product, decision FROM tier_override").fetch_all(&mut *txn).await? {
            let (product, value) = texts(&row)?;
            let (sku, order) = text::pair("tier_override", &product, &value)?;
            saved.overrides.insert(sku, order);
        }
        for row in sqlx::query("SELECT kind, name, told FROM pause").fetch_all(&mut *txn).await? {
            let ((kind, name), told) = (texts(&row)?, row.try_get::<String, _>(2)?);
            saved.paused.insert(Target::parse(&kind, &name)?, text::read("pause", &name, &told)?);
        }
        for row in sqlx::query("SELECT name, value FROM setting").fetch_all(&mut *txn).await? {
            let (name, value) = texts(&row)?;
            match name.as_str() {
                "frozen" => saved.frozen = Some(text::read("setting", &name, &value)?),
                // An older program's numbers are no reason to refuse the start.
                "configured" => saved.configured = serde_json::from_str(&value).ok(),
                _ => {}
            }
        }
        let newest = sqlx::query("SELECT version, policy FROM policy ORDER BY version DESC LIMIT 1");
        if let Some(row) = newest.fetch_optional(&mut *txn).await? {
            let (version, policy): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
            saved.policy = serde_json::from_str(&policy)
                .map_err(|e| tracing::warn!(version, error = %e, "the stored policy is of another shape; ignored"))
                .ok()
                .map(|policy| (unsigned(version), policy));
        }
        txn.rollback().await?;
        Ok(saved)
    }

    async fn leader(&self) -> Result<Leader, StoreError> {
        let mut connection = self.pool.acquire().await?;
        leader(&mut connection, false).await
    }

    async fn campaign(&self, me: &str, url: &str, seen: &Leader, now: Timestamp) -> Result<Option<Term>, StoreError> {
        let term = seen.term.next();
        let taken = sqlx::query(
            "UPDATE leader SET term = ?, holder = ?, url = ?, beat = beat + 1, renewed_at = ? \
             WHERE only_row = 1 AND term = ? AND beat = ?",
        )
        .bind(signed(term.get()))
        .bind(me)
        .bind(url)
        .bind(now.millis())
        .bind(signed(seen.term.get()))
        .bind(signed(seen.beat))
        .execute(&self.pool)
        .await?;
        Ok((taken.rows_affected() == 1).then_some(term))
    }

    async fn renew(&self, term: Term, now: Timestamp) -> Result<bool, StoreError> {
        let kept = sqlx::query(
            "UPDATE leader SET beat = beat + 1, renewed_at = ? \
             WHERE only_row = 1 AND term = ? AND holder IS NOT NULL",
        )
        .bind(now.millis())
        .bind(signed(term.get()))
        .execute(&self.pool)
        .await?;
        Ok(kept.rows_affected() == 1)
    }

    async fn raise_term(&self, term: Term, above: Term) -> Result<Option<Term>, StoreError> {
        let raised = term.max(above).next();
        let done = sqlx::query(
            "UPDATE leader SET term = ?, beat = beat + 1 WHERE only_row = 1 AND term = ? AND holder IS NOT NULL",
        )
        .bind(signed(raised.get()))
        .bind(signed(term.get()))
        .execute(&self.pool)
        .await?;
        Ok((done.rows_affected() == 1).then_some(raised))
    }

    async fn resign(&self, term: Term) -> Result<(), StoreError> {
        sqlx::query("UPDATE leader SET holder = NULL WHERE only_row = 1 AND term = ?")
            .bind(signed(term.get()))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn commit(&self, term: Term, change: Change) -> Result<(), StoreError> {
        let mut txn = self.pool.begin().await?;
        let there = leader(&mut txn, true).await?;
        let head = generation(&mut txn).await?;
        // A generation is compared and set under the leader's row; it cannot go back.
        if there.term != term || there.holder.is_none() || head != change.base || change.generation < head {
            txn.rollback().await?;
            return Err(StoreError::NotLeader { term: there.term, generation: head });
        }
        sqlx::query("UPDATE leader SET revision = revision + 1 WHERE only_row = 1").execute(&mut *txn).await?;
        sqlx::query("UPDATE head SET generation = ? WHERE only_row = 1")
            .bind(signed(change.generation.get()))
            .execute(&mut *txn)
            .await?;
        write_plan(&mut txn, term, &change).await?;
        write_orders(&mut txn, &change).await?;
        for part in change.audit.chunks(ROWS) {
            let mut tell = QueryBuilder::<MySql>::new(
                "INSERT INTO audit (at, actor, action, product, before_value, after_value, why, generation) ",
            );
            tell.push_values(part, |mut row, new| {
                row.push_bind(new.at.millis())
                    .push_bind(&new.actor)
                    .push_bind(new.action.as_str())
                    .push_bind(new.product.as_ref().map(Sku::as_str))
                    .push_bind(new.before.as_ref().map(ToString::to_string))
                    .push_bind(new.after.as_ref().map(ToString::to_string))
                    .push_bind(&new.why)
                    .push_bind(signed(new.generation.get()));
            });
            tell.build().persistent(false).execute(&mut *txn).await?;
        }
        txn.commit().await?;
        Ok(())
    }

    async fn audit(&self, since: Since, limit: usize) -> Result<Vec<AuditRow>, StoreError> {
        const COLUMNS: &str = "SELECT id, at, actor, action, product, before_value, after_value, why, generation \
                               FROM audit WHERE ";
        let mut ask = QueryBuilder::<MySql>::new(COLUMNS);
        match since {
            Since::Id(id) => ask.push("id > ").push_bind(signed(id)),
            Since::Time(at) => ask.push("at >= ").push_bind(at.millis()),
        };
        ask.push(" ORDER BY id LIMIT ").push_bind(limited(limit));
        let rows = ask.build().fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                AuditColumns {
                    id: row.try_get(0)?,
                    at: row.try_get(1)?,
                    actor: row.try_get(2)?,
                    action: row.try_get(3)?,
                    product: row.try_get(4)?,
                    before: row.try_get(5)?,
                    after: row.try_get(6)?,
                    why: row.try_get(7)?,
                    generation: row.try_get(8)?,
                }
                .row()
            })
            .collect()
    }

    async fn generations(&self, before: Option<Generation>, limit: usize) -> Result<Vec<GenerationRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT generation, at, term, products, tiers FROM generation WHERE generation < ? \
             ORDER BY generation DESC LIMIT ?",
        )
        .bind(before.map_or(i64::MAX, |g| signed(g.get())))
        .bind(limited(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let tiers: String = row.try_get(4)?;
                text::generation_row(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, &tiers)
            })
            .collect()
    }

    async fn history(
        &self,
        product: Option<&Sku>,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<(Sku, Decision)>, StoreError> {
        let mut ask = QueryBuilder::<MySql>::new("SELECT product, decision FROM delta WHERE at >= ");
        ask.push_bind(since.millis());
        if let Some(product) = product {
            ask.push(" AND product = ").push_bind(product.as_str());
        }
        ask.push(" ORDER BY generation DESC, product LIMIT ").push_bind(limited(limit));
        let rows = ask.build().fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                let (product, decision) = texts(row)?;
                text::pair("delta", &product, &decision)
            })
            .collect()
    }

    async fn policies(&self, limit: usize) -> Result<Vec<PolicyRow>, StoreError> {
        let rows = sqlx::query("SELECT version, at, by_whom, why, policy FROM policy ORDER BY version DESC LIMIT ?")
            .bind(limited(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                let policy: String = row.try_get(4)?;
                text::policy_row(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, &policy)
            })
            .collect()
    }

    async fn compact(&self, before: Timestamp) -> Result<u64, StoreError> {
        sqlx::query("DELETE FROM delta WHERE at < ?").bind(before.millis()).execute(&self.pool).await?;
        let gone = sqlx::query("DELETE FROM generation WHERE at < ?").bind(before.millis());
        Ok(gone.execute(&self.pool).await?.rows_affected())
    }
}

async fn write_plan(txn: &mut MySqlConnection, term: Term, change: &Change) -> Result<(), StoreError> {
    let new = change.generation != change.base;
    for part in change.decisions.chunks(ROWS) {
        let rows = part.iter().map(|(sku, d)| Ok((sku, d, json(d)?))).collect::<Result<Vec<_>, StoreError>>()?;
        let mut put = QueryBuilder::<MySql>::new("INSERT INTO plan (product, decision) ");
        put.push_values(&rows, |mut row, (sku, _, value)| {
            row.push_bind(sku.as_str()).push_bind(value);
        });
        put.push(" ON DUPLICATE KEY UPDATE decision = VALUES(decision)");
        put.build().persistent(false).execute(&mut *txn).await?;
        if new {
            let mut tell = QueryBuilder::<MySql>::new("INSERT INTO delta (product, generation, at, decision) ");
            tell.push_values(&rows, |mut row, (sku, decision, value)| {
                row.push_bind(sku.as_str())
                    .push_bind(signed(decision.generation.get()))
                    .push_bind(change.at.millis())
                    .push_bind(value);
            });
            tell.push(" ON DUPLICATE KEY UPDATE at = VALUES(at), decision = VALUES(decision)");
            tell.build().persistent(false).execute(&mut *txn).await?;
        }
    }
    remove(txn, "DELETE FROM plan WHERE product IN (", &change.dropped).await?;
    if new {
        sqlx::query("INSERT INTO generation (generation, at, term, products, tiers) VALUES (?, ?, ?, ?, ?)")
            .bind(signed(change.generation.get()))
            .bind(change.at.millis())
            .bind(signed(term.get()))
            .bind(signed(change.decisions.len() as u64))
            .bind(json(&change.tiers)?)
            .execute(&mut *txn)
            .await?;
    }
    Ok(())
}

async fn remove(txn: &mut MySqlConnection, sql: &'static str, products: &[Sku]) -> Result<(), StoreError> {
    for part in products.chunks(ROWS) {
        let mut ask = QueryBuilder::<MySql>::new(sql);
        let mut list = ask.separated(", ");
        for product in part {
            list.push_bind(product.as_str());
        }
        ask.push(")");
        ask.build().persistent(false).execute(&mut *txn).await?;
    }
    Ok(())
}

async fn write_orders(txn: &mut MySqlConnection, change: &Change) -> Result<(), StoreError> {
    for part in change.overrides.chunks(ROWS) {
        let rows = part.iter().map(|(sku, o)| Ok((sku, json(o)?))).collect::<Result<Vec<_>, StoreError>>()?;
        let mut put = QueryBuilder::<MySql>::new("INSERT INTO tier_override (product, decision) ");
        put.push_values(&rows, |mut row, (sku, value)| {
            row.push_bind(sku.as_str()).push_bind(value);
        });
        put.push(" ON DUPLICATE KEY UPDATE decision = VALUES(decision)");
        put.build().persistent(false).execute(&mut *txn).await?;
    }
    remove(txn, "DELETE FROM tier_override WHERE product IN (", &change.overrides_gone).await?;
    for (target, told) in &change.paused {
        let done = match told {
            Some(told) => sqlx::query("REPLACE INTO pause (kind, name, told) VALUES (?, ?, ?)")
                .bind(target.kind())
                .bind(target.name())
                .bind(json(told)?),
            None => {
                sqlx::query("DELETE FROM pause WHERE kind = ? AND name = ?").bind(target.kind()).bind(target.name())
            }
        };
        done.execute(&mut *txn).await?;
    }
    let mut settings = Vec::new();
    if let Some(frozen) = &change.frozen {
        settings.push(("frozen", frozen.as_ref().map(json).transpose()?));
    }
    if let Some(configured) = &change.configured {
        settings.push(("configured", Some(json(configured)?)));
    }
    for (name, value) in settings {
        let done = match value {
            Some(value) => sqlx::query("REPLACE INTO setting (name, value) VALUES (?, ?)").bind(name).bind(value),
            None => sqlx::query("DELETE FROM setting WHERE name = ?").bind(name),
        };
        done.execute(&mut *txn).await?;
    }
    if let Some(new) = &change.policy {
        sqlx::query("INSERT INTO policy (at, by_whom, why, policy) VALUES (?, ?, ?, ?)")
            .bind(new.at.millis())
            .bind(&new.by)
            .bind(&new.why)
            .bind(json(&new.policy)?)
            .execute(&mut *txn)
            .await?;
    }
    Ok(())
}
