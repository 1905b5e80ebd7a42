//! The file of a catalogue import: `sku,name,price,currency,stock,limit` and, where wanted, `initial_tier` and `pages`
//! (parted by blanks). Prices are minor units, as in a sale's file.

use hashbrown::HashMap;
use types::sale::{RawProduct, product};
use types::{Currency, PageId, ProductSpec, Sku};

use super::Unreadable;
use super::table::{self, Column, Row, shortened};
use crate::stock::import::RowErrors;

const COLUMNS: [Column; 8] = [
    Column { name: "sku", required: true },
    Column { name: "name", required: true },
    Column { name: "price", required: true },
    Column { name: "currency", required: true },
    Column { name: "stock", required: true },
    Column { name: "limit", required: true },
    Column { name: "initial_tier", required: false },
    Column { name: "pages", required: false },
];
const SKU: usize = 0;
const NAME: usize = 1;
const PRICE: usize = 2;
const CURRENCY: usize = 3;
const STOCK: usize = 4;
const LIMIT: usize = 5;
const TIER: usize = 6;
const PAGES: usize = 7;

/// The file's products with their lines: no SKU and no page twice, one currency.
pub(crate) fn catalogue(text: &[u8]) -> Result<Vec<(u64, ProductSpec)>, Unreadable> {
    let mut errors = RowErrors::default();
    let rows = table::rows(text, &COLUMNS, &mut errors)?;
    let mut products = Vec::with_capacity(rows.len());
    let mut skus: HashMap<Sku, u64> = HashMap::new();
    let mut pages: HashMap<PageId, u64> = HashMap::new();
    let mut first: Option<Currency> = None;
    for row in &rows {
        let Some(product) = parse(row, &mut errors) else { continue };
        let currency = product.price.currency();
        if *first.get_or_insert(currency) != currency {
            let sells = first.map(|c| c.to_string()).unwrap_or_default();
            errors.add(row.line, "currency", format!("{currency} is not {sells} of the rows before; a sale has one"));
        }
        if let Some(line) = skus.insert(product.sku.clone(), row.line) {
            errors.add(row.line, "sku", format!("{} stands in row {line} already", product.sku));
        } else {
            for page in &product.pages {
                if let Some(line) = pages.insert(page.clone(), row.line) {
                    errors.add(row.line, "pages", format!("{page} stands in row {line} already"));
                }
            }
        }
        products.push((row.line, product));
    }
    if errors.is_empty() { Ok(products) } else { Err(Unreadable::Rows(errors.in_order())) }
}

fn parse(row: &Row, errors: &mut RowErrors) -> Option<ProductSpec> {
    let price = price(row, errors);
    let currency = match row.cell(CURRENCY).parse::<Currency>() {
        Ok(currency) => Some(currency),
        Err(_) => {
            let why = format!("{:?} is not an ISO 4217 code such as EUR", shortened(row.cell(CURRENCY)));
            errors.add(row.line, COLUMNS[CURRENCY].name, why);
            None
        }
    };
    let stock = row.number(STOCK, &COLUMNS, "a number of units", errors);
    let limit = row.number(LIMIT, &COLUMNS, "a number of units", errors);
    let tier = Some(row.cell(TIER)).filter(|tier| !tier.is_empty());
    let raw = RawProduct {
        sku: row.cell(SKU).to_owned(),
        name: row.cell(NAME).to_owned(),
        price: price?,
        stock: stock?,
        limit: limit?,
        initial_tier: tier.map(str::to_owned),
        pages: row.cell(PAGES).split_ascii_whitespace().map(str::to_owned).collect(),
    };
    product(raw, currency?)
        .map_err(|e| {
            let column = match e.what {
                "amount" => COLUMNS[PRICE].name,
                "tier" => COLUMNS[TIER].name,
                "page" => COLUMNS[PAGES].name,
                column => column,
            };
            errors.add(row.line, column, e.why);
        })
        .ok()
}

/// Whole minor units; what looks like another way to write money is explained.
fn price(row: &Row, errors: &mut RowErrors) -> Option<u64> {
    let cell = row.cell(PRICE);
    if cell.starts_with('-') {
        errors.add(row.line, COLUMNS[PRICE].name, format!("{:?} is negative; a price is above 0", shortened(cell)));
        return None;
    }
    row.number(PRICE, &COLUMNS, "a whole number of minor units (1990 for 19.90)", errors)
}
