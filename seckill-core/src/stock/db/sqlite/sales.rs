//! Creates and changes sales. It gives a product its stock once; it never touches the stock of a product
//! that is there already.

use hashbrown::{HashMap, HashSet};
use rusqlite::{Connection, OptionalExtension, params};
use types::sale::MAX_LIMIT;
use types::{PageId, ProductSpec, SaleName, SaleSpec, Sku, Timestamp};

use super::fault::Fault;
use super::{read, rows};
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
fn refuse<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Refused(why.into()))
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
    tx.prepare_cached(
        "INSERT INTO sale (name, zone, opens, closes, state, updated_at) VALUES (?1, ?2, ?3, ?4, 'active', ?5) \
         ON CONFLICT (name) DO UPDATE SET zone = ?2, opens = ?3, closes = ?4, updated_at = ?5",
    )?
    .execute(params![sale.name.as_str(), sale.zone, sale.opens.millis(), sale.closes.millis(), now.millis()])?;
    for (product, fate) in sale.products.iter().zip(&plan.fates) {
        write_product(tx, &sale.name, product, *fate)?;
    }
    for gone in &plan.removed {
        tx.prepare_cached("DELETE FROM stock WHERE product_id = ?1")?.execute([gone])?;
        tx.prepare_cached("DELETE FROM product WHERE product_id = ?1")?.execute([gone])?;
    }
    Ok(if plan.exists { SaleApplied::Updated } else { SaleApplied::Created })
}

/// What becomes of a product of the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is new: product and stock are inserted.
    Insert,
    /// It is in this sale already: all but its stock may change.
    Update,
    /// It comes from a closed sale, at rest: it gets new stock.
    Return,
}

struct Plan {
    exists: bool,
    fates: Vec<Fate>,
    removed: Vec<String>,
}

fn check(tx: &Connection, sale: &SaleSpec) -> Result<Plan, Stop> {
    let state = state_of(tx, &sale.name)?;
    if state == Some(SaleState::Closed) {
        return refuse(format!("name: sale {} is closed for ever; choose another name", sale.name));
    }
    if sale.closes <= sale.opens {
        return refuse(format!("closes: {} is not after opens {}", sale.closes, sale.opens));
    }
    let mut seen = HashSet::new();
    let mut fates = Vec::with_capacity(sale.products.len());
    for product in &sale.products {
        if !seen.insert(product.sku.as_str()) {
            return refuse(format!("sku: {} appears twice", product.sku));
        }
        fates.push(check_product(tx, &sale.name, product)?);
    }
    check_pages(tx, sale)?;
    let removed = check_removed(tx, &sale.name, &seen)?;
    Ok(Plan { exists: state.is_some(), fates, removed })
}

fn check_product(tx: &Connection, sale: &SaleName, product: &ProductSpec) -> Result<Fate, Stop> {
    let sku = &product.sku;
    if product.price.minor() == 0 || product.price.times(MAX_LIMIT).is_err() {
        return refuse(format!("price: {sku}: must be above 0 and such that {MAX_LIMIT} units have a price"));
    }
    if product.limit == 0 || product.limit > MAX_LIMIT {
        return refuse(format!("limit: {sku}: must be 1 to {MAX_LIMIT}"));
    }
    if product.stock > types::sale::MAX_STOCK {
        return refuse(format!("stock: {sku}: must be at most {}", types::sale::MAX_STOCK));
    }
    let Some(row) = read::product(tx, sku)? else { return Ok(Fate::Insert) };
    if row.state.sale == *sale {
        let brought: i64 =
            tx.query_row("SELECT stock FROM product WHERE product_id = ?1", [sku.as_str()], |row| row.get(0))?;
        if rows::int(product.stock)? != brought {
            return refuse(format!(
                "stock: {sku}: came with {brought} units, not {}; a sale's file does not change stock",
                product.stock
            ));
        }
        return Ok(Fate::Update);
    }
    if row.sale_state != SaleState::Closed {
        return refuse(format!("sku: {sku} is in sale {}, which is not closed", row.state.sale));
    }
    let at_rest =
        row.lease.is_none() && row.state.phase == types::Phase::Active && row.state.tier != types::Tier::Redis;
    if !at_rest {
        return refuse(format!("sku: {sku} is still leaving its closed sale {}; try again soon", row.state.sale));
    }
    Ok(Fate::Return)
}

/// A page's heat is one product's: no page may lead to two products of unclosed sales.
fn check_pages(tx: &Connection, sale: &SaleSpec) -> Result<(), Stop> {
    let mut owners: HashMap<&PageId, &Sku> = HashMap::new();
    for product in &sale.products {
        for page in &product.pages {
            if owners.insert(page, &product.sku).is_some() {
                return refuse(format!("pages: {page} appears twice"));
            }
        }
    }
    let mut find = tx.prepare_cached(
        "SELECT p.product_id, p.pages FROM product p JOIN sale s ON s.name = p.sale \
         WHERE s.state <> 'closed' AND s.name <> ?1",
    )?;
    let mut found = find.query([sale.name.as_str()])?;
    while let Some(row) = found.next()? {
        let (other, pages): (String, String) = (row.get(0)?, row.get(1)?);
        let pages: Vec<PageId> =
            serde_json::from_str(&pages).map_err(|e| Fault::broken(format!("pages of {other}: {e}")))?;
        if let Some(page) = pages.iter().find(|page| owners.contains_key(page)) {
            return refuse(format!("pages: {page} is a page of {other} in another sale"));
        }
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
            "SELECT k.epoch > 0 OR EXISTS (SELECT 1 FROM orders WHERE product_id = ?1) FROM stock k \
             WHERE k.product_id = ?1",
            [sku],
            |row| row.get(0),
        )?;
        if used {
            return refuse(format!(
                "product: {sku} was ordered or moved and cannot be removed; close the sale instead"
            ));
        }
    }
    Ok(gone)
}

fn write_product(tx: &Connection, sale: &SaleName, product: &ProductSpec, fate: Fate) -> Result<(), Fault> {
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

fn state_of(tx: &Connection, sale: &SaleName) -> Result<Option<SaleState>, Fault> {
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
