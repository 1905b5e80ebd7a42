//! Creates and changes sales. It gives a product its stock once; it never touches the stock of a product
//! that is there already.

use hashbrown::HashSet;
use rusqlite::{Connection, OptionalExtension, params};
use types::sale::Window;
use types::{PageId, ProductSpec, SaleName, SaleSpec, Sku, Timestamp};

use super::fault::Fault;
use super::{adjust, read, rows};
use crate::stock::db::sale_rules::{self, Fate};
use crate::stock::store::{SaleApplied, SaleState};

/// A refusal (with its text) or a fault.
enum Stop {
    Refused(String),
    Fault(Fault),
}
impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
impl From<rusqlite::Error> for Stop {
    fn from(e: rusqlite::Error) -> Self {
        Self::Fault(e.into())
    }
}

/// Creates the sale or changes its window, names, prices, limits, pages and initial tiers.
///
/// Refused, with nothing changed: a closed sale; a SKU or a page of another unclosed sale; another stock for a
/// product than the one it came with; removing a product that was moved or ordered; a window or a price that
/// the tables do not take. A SKU of a *closed* sale may come back once it is at rest on db or queue: what was
/// left over is replaced by the new stock, what is reserved or sold stays counted.
pub(super) fn apply(tx: &Connection, sale: &SaleSpec, now: Timestamp) -> Result<SaleApplied, Fault> {
    // Everything is checked before anything is written, so that a refusal leaves nothing behind.
    let plan = match check(tx, sale) {
        Ok(plan) => plan,
        Err(Stop::Refused(why)) => return Ok(SaleApplied::Refused(why)),
        Err(Stop::Fault(fault)) => return Err(fault),
    };
    write_sale(tx, &sale.name, &sale.zone, Window { opens: sale.opens, closes: sale.closes }, now)?;
    tx.prepare_cached(
        "INSERT INTO sale_policy (sale, token_required, proof_of_work) VALUES (?1, ?2, ?3) \
         ON CONFLICT (sale) DO UPDATE SET token_required = ?2, proof_of_work = ?3",
    )?
    .execute(params![sale.name.as_str(), sale.policy.token_required, sale.policy.proof_of_work])?;
    for (product, fate) in sale.products.iter().zip(&plan.fates) {
        write_product(tx, &sale.name, product, *fate)?;
        if *fate != Fate::Update {
            adjust::record(tx, &product.sku, None, now)?;
        }
    }
    for gone in &plan.removed {
        tx.prepare_cached("DELETE FROM stock_change WHERE product_id = ?1")?.execute([gone])?;
        tx.prepare_cached("DELETE FROM stock WHERE product_id = ?1")?.execute([gone])?;
        tx.prepare_cached("DELETE FROM product WHERE product_id = ?1")?.execute([gone])?;
    }
    Ok(if plan.exists { SaleApplied::Updated } else { SaleApplied::Created })
}

struct Plan {
    exists: bool,
    fates: Vec<Fate>,
    removed: Vec<String>,
}

fn check(tx: &Connection, sale: &SaleSpec) -> Result<Plan, Stop> {
    let state = state_of(tx, &sale.name)?;
    sale_rules::check_file(sale, state).map_err(Stop::Refused)?;
    let seen: HashSet<&str> = sale.products.iter().map(|product| product.sku.as_str()).collect();
    let mut fates = Vec::with_capacity(sale.products.len());
    for product in &sale.products {
        fates.push(check_product(tx, &sale.name, product)?);
    }
    check_pages(tx, sale)?;
    let removed = check_removed(tx, &sale.name, &seen)?;
    Ok(Plan { exists: state.is_some(), fates, removed })
}

fn check_product(tx: &Connection, sale: &SaleName, product: &ProductSpec) -> Result<Fate, Stop> {
    let there = match read::product(tx, &product.sku)? {
        Some(row) => Some((row, brought(tx, &product.sku)?)),
        None => None,
    };
    let there = there.as_ref().map(|(row, brought)| (row, *brought));
    sale_rules::check_product(sale, product, there).map_err(Stop::Refused)
}

/// Units that a product came with.
pub(super) fn brought(tx: &Connection, sku: &Sku) -> Result<u64, Fault> {
    let mut find = tx.prepare_cached("SELECT stock FROM product WHERE product_id = ?1")?;
    let mut found = find.query([sku.as_str()])?;
    let row = found.next()?.ok_or_else(|| Fault::broken(format!("product {sku} has no row")))?;
    rows::count(row, "stock")
}

fn check_pages(tx: &Connection, sale: &SaleSpec) -> Result<(), Stop> {
    let owners = sale_rules::page_owners(sale).map_err(Stop::Refused)?;
    let mut find = tx.prepare_cached(
        "SELECT p.product_id, p.pages FROM product p JOIN sale s ON s.name = p.sale \
         WHERE s.state <> 'closed' AND s.name <> ?1",
    )?;
    let mut found = find.query([sale.name.as_str()])?;
    while let Some(row) = found.next()? {
        let (other, pages): (String, String) = (row.get(0)?, row.get(1)?);
        let pages: Vec<PageId> =
            serde_json::from_str(&pages).map_err(|e| Fault::broken(format!("pages of {other}: {e}")))?;
        sale_rules::check_pages(&owners, &other, &pages).map_err(Stop::Refused)?;
    }
    Ok(())
}

/// Products that the file no longer has. Rare and by hand, so the search through the orders may be slow.
fn check_removed(tx: &Connection, sale: &SaleName, kept: &HashSet<&str>) -> Result<Vec<String>, Stop> {
    let mut find = tx.prepare_cached("SELECT product_id FROM product WHERE sale = ?1")?;
    let all = find.query_map([sale.as_str()], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let gone: Vec<_> = all.into_iter().filter(|sku| !kept.contains(sku.as_str())).collect();
    for sku in &gone {
        let used: bool = tx.query_row(
            "SELECT k.epoch > 0 OR EXISTS (SELECT 1 FROM orders WHERE product_id = ?1) \
             OR EXISTS (SELECT 1 FROM stock_change WHERE product_id = ?1 AND cause = 'adjustment') FROM stock k \
             WHERE k.product_id = ?1",
            [sku],
            |row| row.get(0),
        )?;
        if used {
            return Err(Stop::Refused(sale_rules::cannot_remove(sku)));
        }
    }
    Ok(gone)
}

/// Makes the sale, or changes its window.
pub(super) fn write_sale(
    tx: &Connection,
    name: &SaleName,
    zone: &str,
    window: Window,
    now: Timestamp,
) -> Result<(), Fault> {
    tx.prepare_cached(
        "INSERT INTO sale (name, zone, opens, closes, state, updated_at) VALUES (?1, ?2, ?3, ?4, 'active', ?5) \
         ON CONFLICT (name) DO UPDATE SET zone = ?2, opens = ?3, closes = ?4, updated_at = ?5",
    )?
    .execute(params![name.as_str(), zone, window.opens.millis(), window.closes.millis(), now.millis()])?;
    Ok(())
}

/// Writes a product, and its stock if it is new to its sale.
pub(super) fn write_product(tx: &Connection, sale: &SaleName, product: &ProductSpec, fate: Fate) -> Result<(), Fault> {
    let pages = serde_json::to_string(&product.pages).map_err(|e| Fault::broken(e.to_string()))?;
    tx.prepare_cached(
        "INSERT INTO product (product_id, sale, name, price, currency, buyer_limit, initial_tier, pages, stock) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (product_id) DO UPDATE SET sale = ?2, name = ?3, \
         price = ?4, currency = ?5, buyer_limit = ?6, initial_tier = ?7, pages = ?8, stock = ?9",
    )?
    .execute(params![
        product.sku.as_str(),
        sale.as_str(),
        product.name,
        rows::int(product.price.minor())?,
        product.price.currency().as_str(),
        product.limit,
        product.initial_tier.map(types::Tier::as_str),
        pages,
        rows::int(product.stock)?,
    ])?;
    let sql = match fate {
        Fate::Update => return Ok(()),
        Fate::Insert => {
            "INSERT INTO stock (product_id, total, free, leased, reserved, sold, tier, phase, epoch, target) \
             VALUES (?1, ?2, ?2, 0, 0, 0, 'db', 'active', 0, NULL)"
        }
        Fate::Return => "UPDATE stock SET total = reserved + sold + ?2, free = ?2 WHERE product_id = ?1",
    };
    tx.prepare_cached(sql)?.execute(params![product.sku.as_str(), rows::int(product.stock)?])?;
    Ok(())
}

/// The state of a sale, if there is one of this name.
pub(super) fn state_of(tx: &Connection, sale: &SaleName) -> Result<Option<SaleState>, Fault> {
    let word: Option<String> = tx
        .prepare_cached("SELECT state FROM sale WHERE name = ?1")?
        .query_row([sale.as_str()], |row| row.get(0))
        .optional()?;
    word.map(|word| rows::sale_state(&word)).transpose()
}

/// Sets the state and answers the state there is then: a closed sale stays closed.
pub(super) fn set_state(
    tx: &Connection,
    sale: &SaleName,
    state: SaleState,
    now: Timestamp,
) -> Result<Option<SaleState>, Fault> {
    tx.prepare_cached("UPDATE sale SET state = ?2, updated_at = ?3 WHERE name = ?1 AND state NOT IN ('closed', ?2)")?
        .execute(params![sale.as_str(), rows::sale_state_text(state), now.millis()])?;
    state_of(tx, sale)
}
