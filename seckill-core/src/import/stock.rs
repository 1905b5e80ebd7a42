//! The file of a stock import: `sku,delta,reason`.

use std::num::NonZeroI64;

use hashbrown::HashMap;
use types::Sku;

use super::Unreadable;
use super::table::{self, Column};
use crate::stock::adjustment::Reason;
use crate::stock::import::{RowErrors, StockRow};

const COLUMNS: [Column; 3] = [
    Column { name: "sku", required: true },
    Column { name: "delta", required: true },
    Column { name: "reason", required: true },
];
const SKU: usize = 0;
const DELTA: usize = 1;
const REASON: usize = 2;

/// The file's adjustments; no SKU twice.
pub(crate) fn stock(text: &[u8]) -> Result<Vec<StockRow>, Unreadable> {
    let mut errors = RowErrors::default();
    let rows = table::rows(text, &COLUMNS, &mut errors)?;
    let mut adjustments = Vec::with_capacity(rows.len());
    let mut skus: HashMap<Sku, u64> = HashMap::new();
    for row in &rows {
        let product = Sku::new(row.cell(SKU)).map_err(|e| errors.add(row.line, COLUMNS[SKU].name, e.why)).ok();
        let delta: Option<NonZeroI64> = row.number(DELTA, &COLUMNS, "a number of units, below or above 0", &mut errors);
        let reason = Reason::new(row.cell(REASON)).map_err(|e| errors.add(row.line, COLUMNS[REASON].name, e.why)).ok();
        let (Some(product), Some(delta), Some(reason)) = (product, delta, reason) else { continue };
        if let Some(line) = skus.insert(product.clone(), row.line) {
            errors.add(row.line, COLUMNS[SKU].name, format!("{product} stands in row {line} already"));
        }
        adjustments.push(StockRow { row: row.line, product, delta, reason });
    }
    if errors.is_empty() { Ok(adjustments) } else { Err(Unreadable::Rows(errors.in_order())) }
}
