//! Imports: everything is locked, read and judged before anything is written, so that a refusal leaves nothing behind.
//! Scripts are cut into parts, so that none is larger than a packet or slower than a statement's limit.

use std::collections::BTreeSet;

use hashbrown::{HashMap, HashSet};
use types::sale::Window;
use types::{IdempotencyKey, ProductSpec, SaleName, Sku, Timestamp};

use super::fault::Fault;
use super::session::Session;
use super::text::{ROWS, Script};
use super::{adjust, load, rows, sales};
use crate::stock::adjustment::{Adjusted, Adjustment};
use crate::stock::admin_store::SaleDetail;
use crate::stock::db::adjust_ruling::AdjustRuling;
use crate::stock::db::import_rules::{self, Other, SaleHead, There};
use crate::stock::db::sale_rules::Fate;
use crate::stock::db::words;
use crate::stock::import::{CatalogueImport, ImportCounts, Imported, StockImport};
use crate::stock::store::ProductRow;

/// Products written by one script: some 1,500 statements.
const PART: usize = 500;

/// Files and imports are applied one at a time, whichever core does it.
async fn one_at_a_time(session: &mut Session) -> Result<(), Fault> {
    session.say("one at a time", "SELECT value FROM meta WHERE `key` = 'sales' FOR UPDATE").await.map(drop)
}

/// Adds products to a sale and changes those there. Beside the answer: the products of the file as they were in the
/// sale before.
pub(super) async fn catalogue(
    session: &mut Session,
    import: &CatalogueImport,
    now: Timestamp,
) -> Result<(Imported, Vec<ProductSpec>), Fault> {
    one_at_a_time(session).await?;
    let there = there(session, import).await?;
    let mut before = Vec::new();
    let plan = match import_rules::check_catalogue(import, &there) {
        Ok(plan) => plan,
        Err(refused) => return Ok((refused, before)),
    };
    let done = Imported::Done { counts: plan.counts, new_sale: plan.new_sale, repeated: false };
    if import.dry_run {
        return Ok((done, before));
    }
    let mut script = Script::default();
    match &import.window {
        Some((zone, window)) if plan.new_sale => insert_sale(&mut script, &import.sale, zone, *window, now),
        _ => {
            script
                .add("sale", "UPDATE sale SET updated_at = ")
                .time(now)
                .sql(" WHERE name = ")
                .text(import.sale.as_str());
        }
    }
    session.run(&script).await?;
    let written: Vec<_> =
        import.rows.iter().zip(&plan.fates).filter_map(|((_, product), fate)| Some((product, (*fate)?))).collect();
    for part in written.chunks(PART) {
        let mut script = Script::default();
        for (product, fate) in part {
            if let (Fate::Update, Some((row, brought))) = (fate, there.products.get(&product.sku)) {
                before.push(SaleDetail::spec_of(row, *brought));
            }
            sales::write_product(&mut script, &import.sale, product, *fate)?;
            if *fate != Fate::Update {
                adjust::record(&mut script, &product.sku, None, now);
            }
        }
        session.run(&script).await?;
    }
    Ok((done, before))
}

fn insert_sale(script: &mut Script, name: &SaleName, zone: &str, window: Window, now: Timestamp) {
    script.add("sale", "INSERT INTO sale (name, zone, opens, closes, state, updated_at) VALUES (").text(name.as_str());
    script.sql(", ").text(zone).sql(", ").time(window.opens).sql(", ").time(window.closes);
    script.sql(", 'active', ").time(now).sql(")");
}

async fn there(session: &mut Session, import: &CatalogueImport) -> Result<There, Fault> {
    let skus: BTreeSet<Sku> = import.rows.iter().map(|(_, product)| product.sku.clone()).collect();
    let mut there = There::default();
    let mut script = Script::default();
    load::lock(&mut script, &skus);
    script.add("sale", "SELECT zone, opens, closes, state FROM sale WHERE name = ").text(import.sale.as_str());
    script.sql(" FOR UPDATE");
    let found = session.run(&script).await?.row("sale");
    if let Some(row) = found {
        there.sale = Some(SaleHead {
            zone: rows::text(&row, 0)?.to_owned(),
            opens: rows::time(&row, 1)?,
            closes: rows::time(&row, 2)?,
            state: words::sale_state(rows::text(&row, 3)?).map_err(Fault::Broken)?,
        });
    }
    let mut script = Script::default();
    for part in load::chunks(&skus) {
        let sku = |s: &mut Script, sku: &Sku| {
            s.text(sku.as_str());
        };
        script.add("brought", "SELECT product_id, stock FROM product WHERE product_id IN ").list(part.clone(), sku);
    }
    script.add(
        "others",
        "SELECT p.product_id, p.sale, p.currency, p.pages FROM product p JOIN sale s ON s.name = p.sale \
             WHERE s.state <> 'closed'",
    );
    let mut replies = session.run(&script).await?;
    let mut brought: HashMap<Sku, u64> = HashMap::new();
    for row in replies.rows("brought") {
        brought.insert(rows::parsed(&row, 0)?, rows::count(&row, 1)?);
    }
    for row in replies.rows("others") {
        let sku = rows::text(&row, 0)?;
        if !skus.contains(sku) {
            let pages = rows::text(&row, 3)?;
            there.others.push(Other {
                sku: sku.to_owned(),
                here: rows::text(&row, 1)? == import.sale.as_str(),
                currency: rows::parsed(&row, 2)?,
                pages: serde_json::from_str(pages).map_err(|e| Fault::broken(format!("pages of {sku}: {e}")))?,
            });
        }
    }
    for (sku, row) in products(session, &skus).await? {
        let stock = brought.get(&sku).copied().unwrap_or(0);
        there.products.insert(sku, (row, stock));
    }
    Ok(there)
}

async fn products(session: &mut Session, skus: &BTreeSet<Sku>) -> Result<HashMap<Sku, ProductRow>, Fault> {
    let mut script = Script::default();
    for part in load::chunks(skus) {
        script.add("products", rows::PRODUCT).sql("p.product_id IN ").list(part, |s, sku: &Sku| {
            s.text(sku.as_str());
        });
    }
    let mut all = HashMap::new();
    for row in session.run(&script).await?.rows("products") {
        let row = rows::product(&row)?;
        all.insert(row.state.product.clone(), row);
    }
    Ok(all)
}

/// Adjusts many products of a sale, unless the import's id did so before.
pub(super) async fn stock(session: &mut Session, import: &StockImport, now: Timestamp) -> Result<Imported, Fault> {
    one_at_a_time(session).await?;
    let mut script = Script::default();
    script
        .add("earlier", "SELECT sale, file_hash, file_rows, added, removed FROM stock_import WHERE import_id = ")
        .text(import.id.as_str());
    script.add("sale", "SELECT state FROM sale WHERE name = ").text(import.sale.as_str());
    let mut replies = session.run(&script).await?;
    if let Some(row) = replies.row("earlier") {
        let same =
            rows::text(&row, 0)? == import.sale.as_str() && rows::text(&row, 1)? == words::hash_text(import.file);
        let rows = (rows::count(&row, 2)?, rows::count(&row, 3)?, rows::count(&row, 4)?);
        let counts =
            ImportCounts { rows: rows.0, changed: rows.0, added: rows.1, removed: rows.2, ..ImportCounts::default() };
        return Ok(match same {
            true => Imported::Done { counts, new_sale: false, repeated: true },
            false => Imported::OtherFile,
        });
    }
    if replies.row("sale").is_none() {
        return Ok(Imported::UnknownSale);
    }
    let skus: BTreeSet<Sku> = import.rows.iter().map(|row| row.product.clone()).collect();
    let mut script = Script::default();
    load::lock(&mut script, &skus);
    session.run(&script).await?;
    let there = products(session, &skus).await?;
    let broken = |e: types::Invalid| Fault::broken(e.to_string());
    let asked: Vec<Adjustment> =
        import.rows.iter().map(|row| import.adjustment(row).map_err(broken)).collect::<Result<_, _>>()?;
    let used = used(session, &asked).await?;
    let (rulings, counts) = match import_rules::check_stock(import, &there, &used) {
        Ok(plan) => plan,
        Err(refused) => return Ok(refused),
    };
    if !import.dry_run {
        adjust_all(session, &asked, &rulings, now).await?;
        let mut script = Script::default();
        script.add(
            "remember",
            "INSERT INTO stock_import (import_id, sale, file_hash, file_rows, added, removed, at) VALUES (",
        );
        script.text(import.id.as_str()).sql(", ").text(import.sale.as_str());
        script.sql(", ").text(&words::hash_text(import.file)).sql(", ").count(counts.rows)?;
        script.sql(", ").count(counts.added)?.sql(", ").count(counts.removed)?.sql(", ").time(now).sql(")");
        session.run(&script).await?;
    }
    Ok(Imported::Done { counts, new_sale: false, repeated: false })
}

/// The ids of these adjustments that took effect already.
async fn used(session: &mut Session, asked: &[Adjustment]) -> Result<HashSet<IdempotencyKey>, Fault> {
    let mut script = Script::default();
    for part in asked.chunks(ROWS) {
        script.add("used", "SELECT adjustment_id FROM stock_change WHERE adjustment_id IN ").list(part, |s, a| {
            s.text(a.id.as_str());
        });
    }
    session.run(&script).await?.rows("used").map(|row| rows::parsed(&row, 0)).collect()
}

/// What only moves free units goes in few scripts; what takes units from a lease is rare and goes one by one.
async fn adjust_all(
    session: &mut Session,
    asked: &[Adjustment],
    rulings: &[AdjustRuling],
    now: Timestamp,
) -> Result<(), Fault> {
    let all: Vec<_> = asked.iter().zip(rulings).collect();
    for part in all.chunks(PART) {
        let (mut script, mut plain) = (Script::default(), 0);
        for (asked, ruling) in part {
            let free = match ruling {
                AdjustRuling::Add { units } => {
                    script.add("change", "UPDATE stock SET total = total + ").count(*units)?;
                    script.sql(", free = free + ").count(*units)?.sql(" WHERE product_id = ");
                    true
                }
                AdjustRuling::Remove { free, lent: 0, .. } => {
                    script.add("change", "UPDATE stock SET total = total - ").count(*free)?;
                    script.sql(", free = free - ").count(*free)?.sql(" WHERE free >= ").count(*free)?;
                    script.sql(" AND product_id = ");
                    true
                }
                _ => false,
            };
            if free {
                script.text(asked.product.as_str());
                adjust::record(&mut script, &asked.product, Some(asked), now);
                plain += 1;
            } else {
                match adjust::adjust(session, asked, now).await? {
                    Adjusted::Done { product: Some(_), .. } => {}
                    other => return Err(Fault::broken(format!("{}: judged and then {other:?}", asked.product))),
                }
            }
        }
        if plain > 0 {
            let touched = session.run(&script).await?.touched("change");
            if touched != plain {
                return Err(Fault::broken(format!("an import touched {touched} of {plain} products")));
            }
        }
    }
    Ok(())
}
