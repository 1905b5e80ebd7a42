//! What live updates read and keep: events behind a sequence, a buyer's standing, passes. Reads see one moment each.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};
use types::{BuyerId, OrderEvent, Timestamp};

use super::fault::Fault;
use super::{SqliteStore, read, rows};
use crate::stock::live_store::{LiveStore, PassDigest, Standing, Told};
use crate::stock::store::StoreError;

/// The last id that the outbox has given out; rows may be gone, ids do not come back.
fn head(db: &Connection) -> Result<u64, Fault> {
    let mut find = db.prepare_cached("SELECT seq AS head FROM sqlite_sequence WHERE name = 'outbox'")?;
    Ok(find.query_row([], |row| Ok(rows::count(row, "head"))).optional()?.transpose()?.unwrap_or(0))
}

pub(super) fn told(db: &Connection, after: u64, max: usize) -> Result<Told, Fault> {
    let moment = db.unchecked_transaction()?;
    let head = head(&moment)?;
    let events = read::events(&moment, after.min(i64::MAX.unsigned_abs()), max)?;
    Ok(Told { through: through(head, &events, max), events })
}

fn through(head: u64, events: &[OrderEvent], max: usize) -> u64 {
    match events.last() {
        Some(last) if events.len() >= max => last.sequence,
        _ => head,
    }
}

pub(super) fn standing(db: &Connection, buyer: &BuyerId, max: usize) -> Result<Standing, Fault> {
    let moment = db.unchecked_transaction()?;
    Ok(Standing { through: head(&moment)?, orders: read::orders(&moment, buyer, max)? })
}

pub(super) fn issue(tx: &Connection, pass: &PassDigest, buyer: &BuyerId, until: Timestamp) -> Result<(), Fault> {
    tx.prepare_cached("INSERT INTO live_pass (digest, buyer, until) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
        .execute(params![pass.as_str(), buyer.as_str(), until.millis()])?;
    Ok(())
}

pub(super) fn take(tx: &Connection, pass: &PassDigest, now: Timestamp) -> Result<Option<BuyerId>, Fault> {
    let mut delete = tx.prepare_cached("DELETE FROM live_pass WHERE digest = ?1 RETURNING buyer, until")?;
    let mut found = delete.query([pass.as_str()])?;
    let Some(row) = found.next()? else { return Ok(None) };
    let (buyer, until) = (rows::parsed(row, "buyer")?, rows::time(row, "until")?);
    Ok((now < until).then_some(buyer))
}

pub(super) fn forget(tx: &Connection, now: Timestamp, max: usize) -> Result<usize, Fault> {
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    let mut delete = tx.prepare_cached(
        "DELETE FROM live_pass WHERE digest IN (SELECT digest FROM live_pass WHERE until <= ?1 LIMIT ?2)",
    )?;
    Ok(delete.execute(params![now.millis(), max])?)
}

#[async_trait]
impl LiveStore for SqliteStore {
    async fn told(&self, after: u64, max: usize) -> Result<Told, StoreError> {
        self.readers.call(move |db| told(db, after, max)).await
    }
    async fn standing(&self, buyer: &BuyerId, max: usize) -> Result<Standing, StoreError> {
        let buyer = buyer.clone();
        self.readers.call(move |db| standing(db, &buyer, max)).await
    }
    async fn issue_pass(&self, pass: &PassDigest, buyer: &BuyerId, until: Timestamp) -> Result<(), StoreError> {
        let (pass, buyer) = (pass.clone(), buyer.clone());
        self.writer.call(move |tx| issue(tx, &pass, &buyer, until)).await
    }
    async fn use_pass(&self, pass: &PassDigest, now: Timestamp) -> Result<Option<BuyerId>, StoreError> {
        let pass = pass.clone();
        self.writer.call(move |tx| take(tx, &pass, now)).await
    }
    async fn forget_passes(&self, now: Timestamp, max: usize) -> Result<usize, StoreError> {
        self.writer.call(move |tx| forget(tx, now, max)).await
    }
}
