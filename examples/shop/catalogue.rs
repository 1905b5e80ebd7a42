//! The shop's own catalogue, and what it puts on sale of it. Importing it again changes what has changed in it, and
//! nothing else.

use anyhow::Context;

/// The sale's name on the platform.
pub const SALE: &str = "shop-rush";

/// When it sells, by the clocks of its zone.
pub const WINDOW: [(&str, &str); 3] =
    [("zone", "Europe/Berlin"), ("opens", "2026-01-01T00:00:00"), ("closes", "2036-01-01T00:00:00")];

/// The catalogue in the columns that the platform imports: prices are whole cents of one currency.
pub fn as_import(csv: &str) -> anyhow::Result<Vec<u8>> {
    let mut import = csv::Writer::from_writer(Vec::new());
    import.write_record(["sku", "name", "price", "currency", "stock", "limit"])?;
    for row in csv::Reader::from_reader(csv.as_bytes()).deserialize() {
        let (sku, name, cents, stock, per_buyer): (String, String, u64, u64, u32) = row.context("the catalogue")?;
        let (cents, stock, per_buyer) = (cents.to_string(), stock.to_string(), per_buyer.to_string());
        import.write_record([&sku, &name, &cents, "EUR", &stock, &per_buyer])?;
    }
    Ok(import.into_inner()?)
}
