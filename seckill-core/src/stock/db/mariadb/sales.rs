//! Creates and changes sales. It gives a product its stock once; it never touches the stock of a product that is
//! there already.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use types::{PageId, ProductSpec, SaleName, SaleSpec, Sku, Timestamp};

use super::adjust;
use super::fault::Fault;
use super::rows;
use super::session::Session;
use super::text::Script;
use crate::stock::db::sale_rules::{self, Fate};
use crate::stock::db::words;
use crate::stock::store::{ProductRow, SaleApplied, SaleState};

/// What was read of the sale, the file's products and all others.
#[derive(Default)]
struct There {
    state: Option<SaleState>,
    products: HashMap<Sku, (ProductRow, u64)>,
    /// Products of this sale that the file no longer has: whether each was ordered or moved.
    gone: Vec<(String, bool)>,
    /// Pages of the products of other unclosed sales.
    pages: Vec<(String, Vec<PageId>)>,
}

struct Plan {
    fates: Vec<Fate>,
    removed: Vec<String>,
}

/// Creates the sale or changes its window, names, prices, limits, pages and initial tiers, in a transaction that
/// has begun. Refused, with nothing changed, as [`sale_rules`] says.
pub(super) async fn apply(session: &mut Session, sale: &SaleSpec, now: Timestamp) -> Result<SaleApplied, Fault> {
    let there = read(session, sale).await?;
    // Everything is checked before anything is written, so that a refusal leaves nothing behind.
    let plan = match check(sale, &there) {
        Ok(plan) => plan,
        Err(why) => return Ok(SaleApplied::Refused(why)),
    };
    let mut script = Script::default();
    script.add("sale", "INSERT INTO sale (name, zone, opens, closes, state, updated_at) VALUES (");
    script.text(sale.name.as_str()).sql(", ").text(&sale.zone).sql(", ").time(sale.opens).sql(", ").time(sale.closes);
    script.sql(", 'active', ").time(now).sql(
        ") ON DUPLICATE KEY UPDATE zone = VALUES(zone), opens = VALUES(opens), closes = VALUES(closes), \
         updated_at = VALUES(updated_at)",
    );
    script.add("policy", "INSERT INTO sale_policy (sale, token_required, proof_of_work) VALUES (");
    script.text(sale.name.as_str()).sql(", ").int(sale.policy.token_required.into());
    script.sql(", ").int(sale.policy.proof_of_work.into()).sql(
        ") ON DUPLICATE KEY UPDATE token_required = VALUES(token_required), proof_of_work = VALUES(proof_of_work)",
    );
    for (product, fate) in sale.products.iter().zip(&plan.fates) {
        write_product(&mut script, &sale.name, product, *fate)?;
        if *fate != Fate::Update {
            adjust::record(&mut script, &product.sku, None, now);
        }
    }
    for gone in &plan.removed {
        script.add("remove", "DELETE FROM stock_change WHERE product_id = ").text(gone);
        script.add("remove", "DELETE FROM stock WHERE product_id = ").text(gone);
        script.add("remove", "DELETE FROM product WHERE product_id = ").text(gone);
    }
    session.run(&script).await?;
    Ok(if there.state.is_some() { SaleApplied::Updated } else { SaleApplied::Created })
}

/// Locks and reads. `meta.sales` first, so that one file is applied at a time: what it must not share with another
/// sale (pages, SKUs) may not be there yet, and what is not there cannot be locked.
async fn read(session: &mut Session, sale: &SaleSpec) -> Result<There, Fault> {
    let mut there = There::default();
    let mut script = Script::default();
    script.add("one at a time", "SELECT value FROM meta WHERE `key` = 'sales' FOR UPDATE");
    script.add("in sale", "SELECT product_id FROM product WHERE sale = ").text(sale.name.as_str());
    let mut skus: BTreeSet<String> = sale.products.iter().map(|p| p.sku.as_str().to_owned()).collect();
    let mut gone = Vec::new();
    for row in session.run(&script).await?.rows("in sale") {
        let sku = rows::text(&row, 0)?.to_owned();
        if skus.insert(sku.clone()) {
            gone.push(sku);
        }
    }

    let mut script = Script::default();
    let list = |script: &mut Script| {
        script.list(&skus, |s, sku| {
            s.text(sku);
        });
    };
    if !skus.is_empty() {
        script.add("locks", "SELECT 1 FROM product FORCE INDEX (PRIMARY) WHERE product_id IN ");
        list(&mut script);
        script.sql(" ORDER BY product_id FOR UPDATE");
    }
    script.add("state", "SELECT state FROM sale WHERE name = ").text(sale.name.as_str()).sql(" FOR UPDATE");
    if !skus.is_empty() {
        script.add("locks", "SELECT 1 FROM stock FORCE INDEX (PRIMARY) WHERE product_id IN ");
        list(&mut script);
        script.sql(" ORDER BY product_id FOR UPDATE");
        script.add("products", rows::PRODUCT).sql("p.product_id IN ");
        list(&mut script);
        script.add("brought", "SELECT product_id, stock FROM product WHERE product_id IN ");
        list(&mut script);
    }
    if !gone.is_empty() {
        // Rare and by hand, so the search through the orders may be slow.
        script
            .add(
                "gone",
                "SELECT k.product_id, k.epoch > 0 OR EXISTS (SELECT 1 FROM orders o WHERE o.product_id = k.product_id) \
                 OR EXISTS (SELECT 1 FROM stock_change c WHERE c.product_id = k.product_id AND c.cause = 'adjustment') \
                 FROM stock k WHERE k.product_id IN ",
            )
            .list(&gone, |s, sku| {
                s.text(sku);
            });
    }
    script
        .add(
            "pages",
            "SELECT p.product_id, p.pages FROM product p JOIN sale s ON s.name = p.sale \
             WHERE s.state <> 'closed' AND s.name <> ",
        )
        .text(sale.name.as_str());
    let mut replies = session.run(&script).await?;
    if let Some(row) = replies.row("state") {
        there.state = Some(words::sale_state(rows::text(&row, 0)?).map_err(Fault::Broken)?);
    }
    let mut brought: HashMap<Sku, u64> = HashMap::new();
    for row in replies.rows("brought") {
        brought.insert(rows::parsed(&row, 0)?, rows::count(&row, 1)?);
    }
    for row in replies.rows("products") {
        let product = rows::product(&row)?;
        let stock = brought.get(&product.state.product).copied().unwrap_or(0);
        there.products.insert(product.state.product.clone(), (product, stock));
    }
    for row in replies.rows("gone") {
        there.gone.push((rows::text(&row, 0)?.to_owned(), rows::flag(&row, 1)?));
    }
    for row in replies.rows("pages") {
        let other = rows::text(&row, 0)?;
        let pages =
            serde_json::from_str(rows::text(&row, 1)?).map_err(|e| Fault::broken(format!("pages of {other}: {e}")))?;
        there.pages.push((other.to_owned(), pages));
    }
    Ok(there)
}

fn check(sale: &SaleSpec, there: &There) -> Result<Plan, sale_rules::Refused> {
    sale_rules::check_file(sale, there.state)?;
    let mut fates = Vec::with_capacity(sale.products.len());
    for product in &sale.products {
        let row = there.products.get(&product.sku).map(|(row, brought)| (row, *brought));
        fates.push(sale_rules::check_product(&sale.name, product, row)?);
    }
    let owners = sale_rules::page_owners(sale)?;
    for (other, pages) in &there.pages {
        sale_rules::check_pages(&owners, other, pages)?;
    }
    if let Some((sku, _)) = there.gone.iter().find(|(_, used)| *used) {
        return Err(sale_rules::cannot_remove(sku));
    }
    Ok(Plan { fates, removed: there.gone.iter().map(|(sku, _)| sku.clone()).collect() })
}

/// Writes a product, and its stock if it is new to its sale.
pub(super) fn write_product(
    script: &mut Script,
    sale: &SaleName,
    product: &ProductSpec,
    fate: Fate,
) -> Result<(), Fault> {
    let pages = serde_json::to_string(&product.pages).map_err(|e| Fault::broken(e.to_string()))?;
    script.add(
        "product",
        "INSERT INTO product (product_id, sale, name, price, currency, buyer_limit, initial_tier, pages, stock) VALUES (",
    );
    script.text(product.sku.as_str()).sql(", ").text(sale.as_str()).sql(", ").text(&product.name);
    script.sql(", ").count(product.price.minor())?.sql(", ").text(product.price.currency().as_str());
    script.sql(", ").int(product.limit.into()).sql(", ").text_if_any(product.initial_tier.map(types::Tier::as_str));
    script.sql(", ").text(&pages).sql(", ").count(product.stock)?.sql(
        ") ON DUPLICATE KEY UPDATE sale = VALUES(sale), name = VALUES(name), price = VALUES(price), \
         currency = VALUES(currency), buyer_limit = VALUES(buyer_limit), initial_tier = VALUES(initial_tier), \
         pages = VALUES(pages), stock = VALUES(stock)",
    );
    match fate {
        Fate::Update => {}
        Fate::Insert => {
            script.add(
                "stock",
                "INSERT INTO stock (product_id, total, free, leased, reserved, sold, tier, phase, epoch, target) VALUES (",
            );
            script.text(product.sku.as_str()).sql(", ").count(product.stock)?.sql(", ").count(product.stock)?;
            script.sql(", 0, 0, 0, 'db', 'active', 0, NULL)");
        }
        Fate::Return => {
            script.add("stock", "UPDATE stock SET total = reserved + sold + ").count(product.stock)?;
            script.sql(", free = ").count(product.stock)?.sql(" WHERE product_id = ").text(product.sku.as_str());
        }
    }
    Ok(())
}

/// Sets the state and answers the state there is then: a closed sale stays closed.
pub(super) async fn set_state(
    session: &mut Session,
    sale: &SaleName,
    state: SaleState,
    now: Timestamp,
) -> Result<Option<SaleState>, Fault> {
    let mut script = Script::default();
    script.add("set", "UPDATE sale SET updated_at = ").time(now);
    script.sql(", state = ").text(words::sale_state_text(state)).sql(" WHERE name = ").text(sale.as_str());
    script.sql(" AND state NOT IN ('closed', ").text(words::sale_state_text(state)).sql(")");
    script.add("state", "SELECT state FROM sale WHERE name = ").text(sale.as_str());
    let row = session.run(&script).await?.row("state");
    row.map(|row| words::sale_state(rows::text(&row, 0)?).map_err(Fault::Broken)).transpose()
}
