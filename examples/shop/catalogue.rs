//! The shop's own catalogue, and what it puts on sale of it.

use anyhow::Context;
use serde_json::{Value, json};

/// The sale's name on the platform.
pub const SALE: &str = "shop-rush";

/// The catalogue as a sale of the platform: prices are whole cents, times are local ones of the sale's zone.
pub fn as_sale(csv: &str) -> anyhow::Result<Value> {
    let mut products = Vec::new();
    for row in csv::Reader::from_reader(csv.as_bytes()).deserialize() {
        let (sku, name, cents, stock, per_buyer): (String, String, u64, u64, u32) = row.context("the catalogue")?;
        products.push(json!({"sku": sku, "name": name, "price": cents, "stock": stock, "limit": per_buyer}));
    }
    Ok(json!({
        "name": SALE,
        "zone": "Europe/Berlin",
        "opens": "2026-01-01T00:00:00",
        "closes": "2036-01-01T00:00:00",
        "currency": "EUR",
        "product": products,
    }))
}
