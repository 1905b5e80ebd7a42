//! Imports: everything is read and judged before anything is written, so that a refusal leaves nothing behind.

use hashbrown::{HashMap, HashSet};
use rusqlite::{Connection, OptionalExtension, params};
use types::{ProductSpec, SaleName, Timestamp};

use super::fault::Fault;
use super::{adjust, read, rows, sales};
use crate::stock::adjustment::Adjusted;
use crate::stock::admin_store::SaleDetail;
use crate::stock::db::import_rules::{self, Other, SaleHead, There};
use crate::stock::db::sale_rules::Fate;
use crate::stock::db::words;
use crate::stock::import::{CatalogueImport, ImportCounts, Imported, StockImport};

/// Adds products to a sale and changes those there. Beside the answer: the products of the file as they were in the
/// sale before.
pub(super) fn catalogue(
    tx: &Connection,
    import: &CatalogueImport,
    now: Timestamp,
) -> Result<(Imported, Vec<ProductSpec>), Fault> {
    let there = there(tx, import)?;
    let mut before = Vec::new();
    let plan = match import_rules::check_catalogue(import, &there) {
        Ok(plan) => plan,
        Err(refused) => return Ok((refused, before)),
    };
    let done = Imported::Done { counts: plan.counts, new_sale: plan.new_sale, repeated: false };
    if import.dry_run {
        return Ok((done, before));
    }
    if let (true, Some((zone, window))) = (plan.new_sale, &import.window) {
        sales::write_sale(tx, &import.sale, zone, *window, now)?;
    } else {
        touch(tx, &import.sale, now)?;
    }
    for ((_, product), fate) in import.rows.iter().zip(&plan.fates) {
        let Some(fate) = *fate else { continue };
        if let (Fate::Update, Some((row, brought))) = (fate, there.products.get(&product.sku)) {
            before.push(SaleDetail::spec_of(row, *brought));
        }
        sales::write_product(tx, &import.sale, product, fate)?;
        if fate != Fate::Update {
            adjust::record(tx, &product.sku, None, now)?;
        }
    }
    Ok((done, before))
}

fn touch(tx: &Connection, sale: &SaleName, now: Timestamp) -> Result<(), Fault> {
    tx.prepare_cached("UPDATE sale SET updated_at = ?2 WHERE name = ?1")?
        .execute(params![sale.as_str(), now.millis()])?;
    Ok(())
}

fn there(tx: &Connection, import: &CatalogueImport) -> Result<There, Fault> {
    let head = tx
        .prepare_cached("SELECT zone, opens, closes, state FROM sale WHERE name = ?1")?
        .query_row([import.sale.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, String>(3)?)))
        .optional()?;
    let mut there = There::default();
    if let Some((zone, opens, closes, state)) = head {
        let time = Timestamp::from_millis;
        there.sale =
            Some(SaleHead { zone, opens: time(opens), closes: time(closes), state: rows::sale_state(&state)? });
    }
    let mut file = HashSet::new();
    for (_, product) in &import.rows {
        file.insert(product.sku.as_str());
        if let Some(row) = read::product(tx, &product.sku)? {
            there.products.insert(product.sku.clone(), (row, sales::brought(tx, &product.sku)?));
        }
    }
    let mut find = tx.prepare_cached(
        "SELECT p.product_id, p.sale = ?1 AS here, p.currency, p.pages FROM product p JOIN sale s ON s.name = p.sale \
         WHERE s.state <> 'closed'",
    )?;
    let mut found = find.query([import.sale.as_str()])?;
    while let Some(row) = found.next()? {
        let sku: String = row.get("product_id")?;
        if !file.contains(sku.as_str()) {
            let pages: String = row.get("pages")?;
            let pages = serde_json::from_str(&pages).map_err(|e| Fault::broken(format!("pages of {sku}: {e}")))?;
            let currency = rows::parsed(row, "currency")?;
            there.others.push(Other { sku, here: row.get("here")?, currency, pages });
        }
    }
    Ok(there)
}

/// Adjusts many products of a sale, unless the import's id did so before.
pub(super) fn stock(tx: &Connection, import: &StockImport, now: Timestamp) -> Result<Imported, Fault> {
    if let Some((sale, file, counts)) = earlier(tx, import)? {
        let same = sale == import.sale.as_str() && file == words::hash_text(import.file);
        return Ok(match same {
            true => Imported::Done { counts, new_sale: false, repeated: true },
            false => Imported::OtherFile,
        });
    }
    if sales::state_of(tx, &import.sale)?.is_none() {
        return Ok(Imported::UnknownSale);
    }
    let (mut products, mut used, mut adjustments) = (HashMap::new(), HashSet::new(), Vec::new());
    for row in &import.rows {
        let adjustment = import.adjustment(row).map_err(|e| Fault::broken(e.to_string()))?;
        if let Some(product) = read::product(tx, &row.product)? {
            products.insert(row.product.clone(), product);
        }
        if adjust::find(tx, &adjustment.id)?.is_some() {
            used.insert(adjustment.id.clone());
        }
        adjustments.push(adjustment);
    }
    let counts = match import_rules::check_stock(import, &products, &used) {
        Ok((_, counts)) => counts,
        Err(refused) => return Ok(refused),
    };
    if !import.dry_run {
        for adjustment in &adjustments {
            match adjust::adjust(tx, adjustment, now)? {
                Adjusted::Done { product: Some(_), .. } => {}
                other => return Err(Fault::broken(format!("{}: judged and then {other:?}", adjustment.product))),
            }
        }
        remember(tx, import, counts, now)?;
    }
    Ok(Imported::Done { counts, new_sale: false, repeated: false })
}

fn earlier(tx: &Connection, import: &StockImport) -> Result<Option<(String, String, ImportCounts)>, Fault> {
    let mut find =
        tx.prepare_cached("SELECT sale, file_hash, file_rows, added, removed FROM stock_import WHERE import_id = ?1")?;
    let mut found = find.query([import.id.as_str()])?;
    let Some(row) = found.next()? else { return Ok(None) };
    let rows = rows::count(row, "file_rows")?;
    let (added, removed) = (rows::count(row, "added")?, rows::count(row, "removed")?);
    let counts = ImportCounts { rows, changed: rows, added, removed, ..ImportCounts::default() };
    Ok(Some((row.get("sale")?, row.get("file_hash")?, counts)))
}

fn remember(tx: &Connection, import: &StockImport, counts: ImportCounts, now: Timestamp) -> Result<(), Fault> {
    tx.prepare_cached(
        "INSERT INTO stock_import (import_id, sale, file_hash, file_rows, added, removed, at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        import.id.as_str(),
        import.sale.as_str(),
        words::hash_text(import.file),
        rows::int(counts.rows)?,
        rows::int(counts.added)?,
        rows::int(counts.removed)?,
        now.millis(),
    ])?;
    Ok(())
}
