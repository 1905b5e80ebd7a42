//! Forgetting buyers: an order, its decision and its buyer's counter get another name together.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};
use types::{BuyerId, Timestamp};

use super::fault::Fault;
use super::{SqliteStore, admin, read, rows};
use crate::stock::admin_store::Actor;
use crate::stock::db::admin_change;
use crate::stock::retention_store::{FORGOTTEN, Forgotten, MAX_ORDERS, RetentionStore, Walked, is_nobody, nobody};
use crate::stock::store::StoreError;

/// An order as far as a name is concerned.
struct Named {
    order: String,
    buyer: String,
    key: String,
    sale: String,
    product: String,
    quantity: i64,
    state: String,
}

fn named(row: &Row<'_>) -> Result<Named, Fault> {
    Ok(Named {
        order: row.get(0)?,
        buyer: row.get(1)?,
        key: row.get(2)?,
        sale: row.get(3)?,
        product: row.get(4)?,
        quantity: row.get(5)?,
        state: row.get(6)?,
    })
}

#[async_trait]
impl RetentionStore for SqliteStore {
    async fn forget_buyer(&self, buyer: &BuyerId, by: &Actor, now: Timestamp) -> Result<Forgotten, StoreError> {
        let (buyer, by) = (buyer.clone(), by.clone());
        let work = move |tx: &Connection| {
            let forgotten = forget_buyer(tx, &buyer)?;
            admin::write(tx, &admin_change::erasure(forgotten), &by, now)?;
            Ok(forgotten)
        };
        self.writer.run(MAX_ORDERS, |_| (), work).await
    }

    async fn forget_orders(&self, after: u64, last: u64, before: Timestamp) -> Result<usize, StoreError> {
        self.writer
            .call(move |tx| {
                let mut find = tx.prepare_cached(
                    "SELECT o.order_id, o.buyer, o.key, o.sale, o.product_id, o.quantity, o.state FROM orders o \
                     JOIN sale s ON s.name = o.sale WHERE o.rowid > ?1 AND o.rowid <= ?2 AND o.updated_at < ?3 \
                     AND s.closes < ?3 AND o.state NOT IN ('accepted', 'refund_due') \
                     AND substr(o.buyer, 1, 7) <> 'erased-'",
                )?;
                let found = find.query(params![rows::int(after)?, rows::int(last)?, before.millis()])?;
                let orders = read::collect(found, named)?;
                if !orders.is_empty() {
                    mark(tx)?;
                }
                for order in &orders {
                    rename(tx, order, &nobody())?;
                }
                Ok(orders.len())
            })
            .await
    }

    async fn forget_refusals(
        &self,
        after: Option<Walked>,
        max: usize,
        before: Timestamp,
    ) -> Result<(usize, Option<Walked>), StoreError> {
        self.writer.call(move |tx| forget_refusals(tx, after.as_ref(), max, before)).await
    }

    async fn forget_tokens(&self, max: usize) -> Result<usize, StoreError> {
        self.writer
            .call(move |tx| {
                Ok(tx
                    .prepare_cached(
                        "DELETE FROM used_token WHERE token_id IN (SELECT t.token_id FROM used_token t WHERE NOT EXISTS \
                         (SELECT 1 FROM decision d WHERE d.buyer = t.buyer AND d.key = t.key) LIMIT ?1)",
                    )?
                    .execute([read::limit(max)])?)
            })
            .await
    }

    async fn forget_counters(&self, max: usize, before: Timestamp) -> Result<usize, StoreError> {
        self.writer
            .call(move |tx| {
                Ok(tx
                    .prepare_cached(
                        "DELETE FROM buyer_limit WHERE (buyer, sale, product_id) IN (SELECT l.buyer, l.sale, \
                         l.product_id FROM buyer_limit l JOIN sale s ON s.name = l.sale \
                         WHERE l.held = 0 AND s.closes < ?2 LIMIT ?1)",
                    )?
                    .execute(params![read::limit(max), before.millis()])?)
            })
            .await
    }
}

fn forget_buyer(tx: &Connection, buyer: &BuyerId) -> Result<Forgotten, Fault> {
    if is_nobody(buyer) {
        return Ok(Forgotten::Done { orders: 0, more: false });
    }
    let mut find = tx.prepare_cached(
        "SELECT o.order_id, o.buyer, o.key, o.sale, o.product_id, o.quantity, o.state FROM decision d \
         JOIN orders o ON o.order_id = d.order_id WHERE d.buyer = ?1 \
         ORDER BY o.state IN ('accepted', 'refund_due') DESC LIMIT ?2",
    )?;
    let orders = read::collect(find.query(params![buyer.as_str(), read::limit(MAX_ORDERS)])?, named)?;
    let open = orders.iter().filter(|o| matches!(o.state.as_str(), "accepted" | "refund_due")).count();
    if open > 0 {
        return Ok(Forgotten::OpenOrders(open));
    }
    let name = nobody();
    for order in &orders {
        rename(tx, order, &name)?;
    }
    mark(tx)?;
    tx.prepare_cached("DELETE FROM decision WHERE buyer = ?1 AND outcome <> 'accepted'")?.execute([buyer.as_str()])?;
    tx.prepare_cached("DELETE FROM buyer_limit WHERE buyer = ?1 AND held = 0")?.execute([buyer.as_str()])?;
    Ok(Forgotten::Done { orders: orders.len(), more: orders.len() == MAX_ORDERS })
}

/// Says to the auditor that a decision which a client remembers may be gone.
fn mark(tx: &Connection) -> Result<(), Fault> {
    tx.prepare_cached("INSERT INTO meta (key, value) VALUES (?1, '1') ON CONFLICT DO NOTHING")?.execute([FORGOTTEN])?;
    Ok(())
}

/// The key was the buyer's own word too: the order's id takes its place.
fn rename(tx: &Connection, order: &Named, name: &str) -> Result<(), Fault> {
    let Named { order: id, buyer, key, sale, product, quantity, state } = order;
    let renamed =
        tx.prepare_cached("UPDATE orders SET buyer = ?2, key = ?1 WHERE order_id = ?1")?.execute(params![id, name])?;
    let decided = tx
        .prepare_cached("UPDATE decision SET buyer = ?3, key = ?4 WHERE buyer = ?1 AND key = ?2")?
        .execute(params![buyer, key, name, id])?;
    if (renamed, decided) != (1, 1) {
        return Err(Fault::broken(format!("order {id}: {renamed} orders and {decided} decisions were to be renamed")));
    }
    // What a living order holds is counted for whoever has it.
    let held = if state == "paid" { *quantity } else { 0 };
    if held > 0 {
        tx.prepare_cached(
            "UPDATE buyer_limit SET held = held - ?4 WHERE buyer = ?1 AND sale = ?2 AND product_id = ?3",
        )?
        .execute(params![buyer, sale, product, held])?;
        tx.prepare_cached(
            "INSERT INTO buyer_limit (buyer, sale, product_id, held) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (buyer, sale, product_id) DO UPDATE SET held = held + ?4",
        )?
        .execute(params![name, sale, product, held])?;
    }
    tx.prepare_cached("DELETE FROM buyer_limit WHERE buyer = ?1 AND sale = ?2 AND product_id = ?3 AND held = 0")?
        .execute(params![buyer, sale, product])?;
    Ok(())
}

fn forget_refusals(
    tx: &Connection,
    after: Option<&Walked>,
    max: usize,
    before: Timestamp,
) -> Result<(usize, Option<Walked>), Fault> {
    let (buyer, key) = after.map_or(("", ""), |(buyer, key)| (buyer.as_str(), key.as_str()));
    let mut find = tx.prepare_cached(
        "SELECT buyer, key, outcome <> 'accepted' AND decided_at < ?4 AS old FROM decision \
         WHERE (buyer, key) > (?1, ?2) ORDER BY buyer, key LIMIT ?3",
    )?;
    let found = find.query(params![buyer, key, read::limit(max), before.millis()])?;
    let walked: Vec<(String, String, bool)> = read::collect(found, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let mut forgotten = 0;
    for (buyer, key, old) in &walked {
        if *old {
            forgotten +=
                tx.prepare_cached("DELETE FROM decision WHERE buyer = ?1 AND key = ?2")?.execute([buyer, key])?;
        }
    }
    if forgotten > 0 {
        mark(tx)?;
    }
    let last = walked.last().filter(|_| walked.len() == max).map(|(buyer, key, _)| {
        let broken = |e: types::Invalid| Fault::broken(e.to_string());
        Ok::<_, Fault>((buyer.parse().map_err(broken)?, key.parse().map_err(broken)?))
    });
    Ok((forgotten, last.transpose()?))
}
