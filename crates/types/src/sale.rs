//! A sale as the merchandiser writes it: products, a window in the sale's own time zone, prices, limits.

use std::collections::BTreeSet;

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use serde::{Deserialize, Serialize};

use crate::{Currency, Invalid, Money, PageId, SaleName, Sku, Tier, Timestamp};

/// Most products in one sale; a plan and its tables stay small enough to push whole.
pub const MAX_PRODUCTS: usize = 100_000;
/// Most units of one product: keeps every sum inside a signed 64-bit column.
pub const MAX_STOCK: u64 = 1_000_000_000;
/// Most units one buyer may hold of one product.
pub const MAX_LIMIT: u32 = 1_000;
/// Most leading zero bits of a proof of work: 16 million hashes, some ten seconds of a telephone.
pub const MAX_PROOF_OF_WORK: u8 = 24;
/// Longest display name in bytes.
pub const MAX_DISPLAY_NAME: usize = 200;

/// One product of a sale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductSpec {
    /// The shop's id.
    pub sku: Sku,
    /// What shoppers read.
    pub name: String,
    /// Price of one unit.
    pub price: Money,
    /// Units for sale.
    pub stock: u64,
    /// Most units one buyer may hold.
    pub limit: u32,
    /// Tier at the opening second, if not `db`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_tier: Option<Tier>,
    /// Pages of this product in the access log; by default the SKU itself.
    pub pages: Vec<PageId>,
}

/// What a purchase of a sale needs beside a buyer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SalePolicy {
    /// A purchase needs a one-time token, which nobody gets before the sale opens: so nobody can prepare his calls.
    pub token_required: bool,
    /// Leading zero bits of the proof of work that a token costs; 0 for none.
    #[schema(maximum = 24)]
    pub proof_of_work: u8,
}

/// A checked sale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaleSpec {
    /// Its name, part of the purchase URL.
    pub name: SaleName,
    /// IANA time zone in which the window was written.
    pub zone: String,
    /// First moment at which purchases are taken.
    pub opens: Timestamp,
    /// First moment at which they are no longer taken.
    pub closes: Timestamp,
    /// What a purchase needs.
    #[serde(default)]
    pub policy: SalePolicy,
    /// What is sold.
    pub products: Vec<ProductSpec>,
}

/// A sale as it is written: local times in its own zone, one currency, prices in minor units.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Sale)]
pub(crate) struct RawSale {
    name: String,
    zone: String,
    opens: String,
    closes: String,
    currency: String,
    #[serde(default)]
    policy: SalePolicy,
    #[serde(rename = "product", default)]
    products: Vec<RawProduct>,
}

/// One product of a sale as it is written.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SaleProduct)]
pub struct RawProduct {
    /// The shop's id.
    pub sku: String,
    /// What shoppers read.
    pub name: String,
    /// Price of one unit, in minor units of the sale's currency.
    pub price: u64,
    /// Units for sale.
    pub stock: u64,
    /// Most units one buyer may hold.
    pub limit: u32,
    /// Tier at the opening second, if not `db`.
    pub initial_tier: Option<String>,
    /// Pages in the access log; by default the SKU itself.
    #[serde(default)]
    pub pages: Vec<String>,
}

impl SaleSpec {
    /// Parses the fields of a `sale.toml` (any serde format). `opens` and `closes` are local times in
    /// `zone` (`2026-11-27T09:00:00`); a local time that a clock change skips or repeats is refused.
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Result<Self, Invalid>, D::Error> {
        RawSale::deserialize(source).map(Self::checked)
    }

    fn checked(raw: RawSale) -> Result<Self, Invalid> {
        let Window { opens, closes } = window(&raw.zone, &raw.opens, &raw.closes)?;
        let currency: Currency = raw.currency.parse()?;
        if raw.products.is_empty() || raw.products.len() > MAX_PRODUCTS {
            let n = raw.products.len();
            return Err(Invalid::new("product", format!("{n} products; a sale has 1 to {MAX_PRODUCTS}")));
        }
        if raw.policy.proof_of_work > MAX_PROOF_OF_WORK {
            let why = format!("proof_of_work is {}; at most {MAX_PROOF_OF_WORK}", raw.policy.proof_of_work);
            return Err(Invalid::new("policy", why));
        }
        if raw.policy.proof_of_work > 0 && !raw.policy.token_required {
            return Err(Invalid::new("policy", "proof_of_work is what a token costs, and token_required is not set"));
        }
        let mut seen = BTreeSet::new();
        let mut pages_seen = BTreeSet::new();
        let mut products = Vec::with_capacity(raw.products.len());
        for (row, p) in raw.products.into_iter().enumerate() {
            let product =
                product(p, currency).map_err(|e| Invalid::new(e.what, format!("product {}: {}", row + 1, e.why)))?;
            if !seen.insert(product.sku.clone()) {
                return Err(Invalid::new("sku", format!("product {}: {} appears twice", row + 1, product.sku)));
            }
            for page in &product.pages {
                if !pages_seen.insert(page.clone()) {
                    return Err(Invalid::new("pages", format!("product {}: page {page} appears twice", row + 1)));
                }
            }
            products.push(product);
        }
        let name = SaleName::new(raw.name)?;
        Ok(Self { name, zone: raw.zone, opens, closes, policy: raw.policy, products })
    }
}

/// When a sale takes purchases: from `opens` until before `closes`, which is later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First moment at which purchases are taken.
    pub opens: Timestamp,
    /// First moment at which they no longer are.
    pub closes: Timestamp,
}

/// A window from its IANA zone and the local times there (`2026-11-27T09:00:00`). Refuses a local time that a clock
/// change skips or repeats, an offset, and an end that is not after the beginning, naming the field.
pub fn window(zone: &str, opens: &str, closes: &str) -> Result<Window, Invalid> {
    let found =
        TimeZone::get(zone).map_err(|e| Invalid::new("zone", format!("{zone:?} is not an IANA time zone: {e}")))?;
    let opens = local("opens", opens, &found)?;
    let closes = local("closes", closes, &found)?;
    if closes <= opens {
        return Err(Invalid::new("closes", format!("{closes} is not after opens {opens}")));
    }
    Ok(Window { opens, closes })
}

/// The local time of `zone` at that moment (`2026-11-27T09:00:00`); `None` for a zone that this machine does not know.
pub fn local_text(at: Timestamp, zone: &str) -> Option<String> {
    let zone = TimeZone::get(zone).ok()?;
    let at = jiff::Timestamp::from_millisecond(at.millis()).ok()?;
    Some(zone.to_datetime(at).to_string())
}

fn local(what: &'static str, text: &str, zone: &TimeZone) -> Result<Timestamp, Invalid> {
    let civil: DateTime = text
        .parse()
        .map_err(|e| Invalid::new(what, format!("{text:?} is not a local time such as 2026-11-27T09:00:00: {e}")))?;
    // Without this check jiff would quietly ignore an offset and take the wall time alone.
    if text.ends_with('Z') || text.parse::<jiff::Timestamp>().is_ok() {
        return Err(Invalid::new(what, format!("{text:?} carries an offset; write the local time of the sale's zone")));
    }
    let times = zone.to_ambiguous_zoned(civil);
    let outside = |e: jiff::Error| Invalid::new(what, format!("{text} is no time of this zone: {e}"));
    if !times.is_ambiguous() {
        let one = times.unambiguous().map_err(outside)?;
        return Ok(Timestamp::from_millis(one.timestamp().as_millisecond()));
    }
    let (earlier, later) = (times.clone().earlier().map_err(outside)?, times.clone().later().map_err(outside)?);
    let name = zone.iana_name().unwrap_or("this zone");
    let why = if matches!(times.offset(), AmbiguousOffset::Gap { .. }) {
        let (before, after) = (earlier.datetime(), later.datetime());
        format!("there is no {text} in {name}: a clock change skips it; write {before} or {after}")
    } else {
        let (first, second) = (earlier.timestamp(), later.timestamp());
        format!(
            "{text} comes twice in {name}, at {first} and at {second}, since the clocks go back; write a time that \
             comes once, or both times in zone UTC"
        )
    };
    Err(Invalid::new(what, why))
}

/// One product as it is written, checked; what is wrong names the field.
pub fn product(raw: RawProduct, currency: Currency) -> Result<ProductSpec, Invalid> {
    let sku = Sku::new(&raw.sku)?;
    if raw.name.trim().is_empty() || raw.name.len() > MAX_DISPLAY_NAME {
        return Err(Invalid::new("name", format!("must have 1 to {MAX_DISPLAY_NAME} bytes")));
    }
    if raw.price == 0 {
        return Err(Invalid::new("price", "is 0; give minor units (cents) above 0"));
    }
    if raw.stock > MAX_STOCK {
        return Err(Invalid::new("stock", format!("{} is above {MAX_STOCK}", raw.stock)));
    }
    if raw.limit == 0 || raw.limit > MAX_LIMIT {
        return Err(Invalid::new("limit", format!("{} is not in 1 to {MAX_LIMIT}", raw.limit)));
    }
    let pages = if raw.pages.is_empty() {
        vec![PageId::new(sku.as_str())?]
    } else {
        raw.pages.into_iter().map(PageId::new).collect::<Result<_, _>>()?
    };
    Ok(ProductSpec {
        name: raw.name,
        price: Money::new(raw.price, currency)?,
        stock: raw.stock,
        limit: raw.limit,
        initial_tier: raw.initial_tier.map(|t| t.parse()).transpose()?,
        pages,
        sku,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sale(opens: &str, closes: &str) -> Result<SaleSpec, Invalid> {
        let json = serde_json::json!({"name": "s", "zone": "Europe/Berlin", "opens": opens, "closes": closes,
            "currency": "EUR", "product": [{"sku": "a", "name": "A", "price": 100, "stock": 5, "limit": 1}]});
        SaleSpec::deserialize(json).expect("the shape is right")
    }

    #[test]
    fn a_window_is_local_to_the_sales_zone() {
        let s = sale("2026-11-27T09:00:00", "2026-11-27T10:00:00").expect("a good sale");
        assert_eq!(s.opens.to_string(), "2026-11-27T08:00:00.000Z");
        assert_eq!(s.products[0].pages[0].as_str(), "a");
    }

    #[test]
    fn a_skipped_or_repeated_local_time_is_refused() {
        let gap = sale("2026-03-29T02:30:00", "2026-03-30T00:00:00").expect_err("the spring gap").to_string();
        assert!(gap.contains("write 2026-03-29T01:30:00 or 2026-03-29T03:30:00"), "{gap}");
        let fold = sale("2026-10-25T01:30:00", "2026-10-25T02:30:00").expect_err("the autumn fold").to_string();
        assert!(fold.contains("at 2026-10-25T00:30:00Z and at 2026-10-25T01:30:00Z"), "{fold}");
        assert!(fold.starts_with("closes"), "{fold}");
        assert!(sale("2026-11-27T10:00:00", "2026-11-27T09:00:00").is_err(), "ends before it starts");
        assert!(sale("2026-11-27T09:00:00Z", "2026-11-27T10:00:00Z").is_err(), "an offset");
    }
}
