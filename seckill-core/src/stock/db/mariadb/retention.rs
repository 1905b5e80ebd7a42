//! Forgetting buyers: an order, its decision and its buyer's counter get another name together, under the lock of
//! the order's product, which every other writer of them takes first too.

use std::collections::BTreeSet;

use async_trait::async_trait;
use sqlx::mysql::MySqlRow;
use types::{BuyerId, Timestamp};

use super::aside::Turn;
use super::fault::Fault;
use super::read::limit;
use super::text::{ROWS, Script};
use super::{MariaStore, admin, rows};
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
    quantity: u64,
    state: String,
}

/// Columns of [`named`].
const NAMED: &str = "SELECT o.order_id, o.buyer, o.`key`, o.sale, o.product_id, o.quantity, o.state FROM ";

fn named(row: &MySqlRow) -> Result<Named, Fault> {
    let text = |column| rows::text(row, column).map(str::to_owned);
    Ok(Named {
        order: text(0)?,
        buyer: text(1)?,
        key: text(2)?,
        sale: text(3)?,
        product: text(4)?,
        quantity: rows::count(row, 5)?,
        state: text(6)?,
    })
}

#[async_trait]
impl RetentionStore for MariaStore {
    async fn forget_buyer(&self, buyer: &BuyerId, by: &Actor, now: Timestamp) -> Result<Forgotten, StoreError> {
        let mut tx = self.aside.begin().await?;
        let forgotten = forget_buyer(&mut tx, buyer).await?;
        admin::write(tx.session(), &admin_change::erasure(forgotten), by, now).await?;
        tx.keep(forgotten).await
    }

    async fn forget_orders(&self, after: u64, last: u64, before: Timestamp) -> Result<usize, StoreError> {
        let mut tx = self.aside.begin().await?;
        let mut script = Script::default();
        script.add("orders", NAMED).sql("orders o JOIN sale s ON s.name = o.sale WHERE o.arrival > ").count(after)?;
        script.sql(" AND o.arrival <= ").count(last)?.sql(" AND o.updated_at < ").time(before);
        script
            .sql(" AND s.closes < ")
            .time(before)
            .sql(" AND o.state NOT IN ('accepted', 'refund_due') AND LEFT(o.buyer, 7) <> 'erased-'");
        let mut orders = locked(&mut tx, &script).await?;
        orders.retain(|o| !matches!(o.state.as_str(), "accepted" | "refund_due"));
        if orders.is_empty() {
            return tx.back(0).await;
        }
        rename(&mut tx, &orders, |_| nobody()).await?;
        tx.keep(orders.len()).await
    }

    async fn forget_refusals(
        &self,
        after: Option<Walked>,
        max: usize,
        before: Timestamp,
    ) -> Result<(usize, Option<Walked>), StoreError> {
        let mut tx = self.aside.begin().await?;
        let mut script = Script::default();
        script.add("walk", "SELECT buyer, `key`, outcome <> 'accepted' AND decided_at < ").time(before);
        script.sql(" FROM decision");
        if let Some((buyer, key)) = &after {
            script.sql(" WHERE buyer > ").text(buyer.as_str()).sql(" OR (buyer = ").text(buyer.as_str());
            script.sql(" AND `key` > ").text(key.as_str()).sql(")");
        }
        script.sql(" ORDER BY buyer, `key` LIMIT ").int(limit(max));
        let walked: Vec<MySqlRow> = tx.run(&script).await?.rows("walk").collect();
        let mut old = Vec::new();
        for row in &walked {
            if rows::flag(row, 2)? {
                old.push((rows::text(row, 0)?.to_owned(), rows::text(row, 1)?.to_owned()));
            }
        }
        let mut forgotten = 0;
        for part in old.chunks(ROWS) {
            let mut script = Script::default();
            mark(&mut script);
            script.add("forget", "DELETE FROM decision WHERE (buyer, `key`) IN ").list(part, |s, (buyer, key)| {
                s.sql("(").text(buyer).sql(", ").text(key).sql(")");
            });
            forgotten += tx.run(&script).await?.touched("forget");
        }
        let last = walked.last().filter(|_| walked.len() == max);
        let last = last.map(|row| Ok::<_, Fault>((rows::parsed(row, 0)?, rows::parsed(row, 1)?))).transpose()?;
        tx.keep((usize::try_from(forgotten).unwrap_or(usize::MAX), last)).await
    }

    async fn forget_tokens(&self, max: usize) -> Result<usize, StoreError> {
        let mut script = Script::default();
        script.add(
            "forget",
            "DELETE FROM used_token WHERE NOT EXISTS (SELECT 1 FROM decision d WHERE d.buyer = used_token.buyer \
             AND d.`key` = used_token.`key`) LIMIT ",
        );
        script.int(limit(max));
        self.forget(&script).await
    }

    async fn forget_counters(&self, max: usize, before: Timestamp) -> Result<usize, StoreError> {
        let mut script = Script::default();
        script
            .add("forget", "DELETE FROM buyer_limit WHERE held = 0 AND sale IN (SELECT name FROM sale WHERE closes < ");
        script.time(before).sql(") LIMIT ").int(limit(max));
        self.forget(&script).await
    }
}

impl MariaStore {
    async fn forget(&self, script: &Script) -> Result<usize, StoreError> {
        let mut tx = self.aside.begin().await?;
        let forgotten = tx.run(script).await?.touched("forget");
        tx.keep(usize::try_from(forgotten).unwrap_or(usize::MAX)).await
    }
}

async fn forget_buyer(tx: &mut Turn<'_>, buyer: &BuyerId) -> Result<Forgotten, Fault> {
    if is_nobody(buyer) {
        return Ok(Forgotten::Done { orders: 0, more: false });
    }
    let mut script = Script::default();
    script.add("orders", NAMED).sql("decision d JOIN orders o ON o.order_id = d.order_id WHERE d.buyer = ");
    script.text(buyer.as_str()).sql(" ORDER BY o.state IN ('accepted', 'refund_due') DESC LIMIT ");
    script.int(limit(MAX_ORDERS));
    let orders = locked(tx, &script).await?;
    let open = orders.iter().filter(|o| matches!(o.state.as_str(), "accepted" | "refund_due")).count();
    if open > 0 {
        return Ok(Forgotten::OpenOrders(open));
    }
    let name = nobody();
    rename(tx, &orders, |_| name.clone()).await?;
    let mut script = Script::default();
    mark(&mut script);
    script.add("refusals", "DELETE FROM decision WHERE buyer = ").text(buyer.as_str());
    script.sql(" AND outcome <> 'accepted'");
    script.add("counters", "DELETE FROM buyer_limit WHERE held = 0 AND buyer = ").text(buyer.as_str());
    tx.run(&script).await?;
    Ok(Forgotten::Done { orders: orders.len(), more: orders.len() == MAX_ORDERS })
}

/// Says to the auditor that a decision which a client remembers may be gone.
fn mark(script: &mut Script) {
    script.add("mark", "INSERT IGNORE INTO meta (`key`, value) VALUES (").text(FORGOTTEN).sql(", '1')");
}

/// The orders that `find` finds, as they are under the locks of their products.
async fn locked(tx: &mut Turn<'_>, find: &Script) -> Result<Vec<Named>, Fault> {
    let found = tx.run(find).await?.rows("orders");
    let found = found.map(|row| named(&row)).collect::<Result<Vec<_>, _>>()?;
    let products: BTreeSet<_> = found.iter().map(|o| o.product.as_str()).collect();
    let mut all = Vec::with_capacity(found.len());
    if found.is_empty() {
        return Ok(all);
    }
    let mut script = Script::default();
    script.add("locks", "SELECT 1 FROM stock FORCE INDEX (PRIMARY) WHERE product_id IN ");
    script
        .list(&products, |s, product| {
            s.text(product);
        })
        .sql(" ORDER BY product_id FOR UPDATE");
    for part in found.chunks(ROWS) {
        script.add("orders", NAMED).sql("orders o WHERE o.order_id IN ");
        script
            .list(part, |s, order| {
                s.text(&order.order);
            })
            .sql(" FOR UPDATE");
    }
    for row in tx.run(&script).await?.rows("orders") {
        all.push(named(&row)?);
    }
    Ok(all)
}

/// The key was the buyer's own word too: the order's id takes its place.
async fn rename(tx: &mut Turn<'_>, orders: &[Named], name: impl Fn(&Named) -> String) -> Result<(), Fault> {
    for part in orders.chunks(ROWS / 4) {
        let mut script = Script::default();
        mark(&mut script);
        for order in part {
            let name = name(order);
            script.add("rename orders", "UPDATE orders SET buyer = ").text(&name).sql(", `key` = ").text(&order.order);
            script.sql(" WHERE order_id = ").text(&order.order);
            script.add("rename decisions", "UPDATE decision SET buyer = ").text(&name).sql(", `key` = ");
            script.text(&order.order).sql(" WHERE buyer = ").text(&order.buyer).sql(" AND `key` = ").text(&order.key);
            let holder = |script: &mut Script| {
                script.sql(" WHERE buyer = ").text(&order.buyer).sql(" AND product_id = ").text(&order.product);
                script.sql(" AND sale = ").text(&order.sale);
            };
            // What a living order holds is counted for whoever has it.
            if order.state == "paid" {
                script.add("give", "UPDATE buyer_limit SET held = held - ").count(order.quantity)?;
                holder(&mut script);
                script.add("take", "INSERT INTO buyer_limit (buyer, sale, product_id, held) VALUES (").text(&name);
                script.sql(", ").text(&order.sale).sql(", ").text(&order.product).sql(", ").count(order.quantity)?;
                script.sql(") ON DUPLICATE KEY UPDATE held = held + VALUES(held)");
            }
            script.add("counters", "DELETE FROM buyer_limit");
            holder(&mut script);
            script.sql(" AND held = 0");
        }
        let replies = tx.run(&script).await?;
        let (renamed, decided) = (replies.touched("rename orders"), replies.touched("rename decisions"));
        if (renamed, decided) != (part.len() as u64, part.len() as u64) {
            return Err(Fault::broken(format!("{renamed} orders and {decided} decisions of {} renamed", part.len())));
        }
    }
    Ok(())
}
