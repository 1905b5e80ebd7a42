//! What a sale's file may and may not change, as pure functions over what the transaction has read. A refusal
//! names the field first.

use hashbrown::{HashMap, HashSet};
use types::sale::MAX_LIMIT;
use types::{PageId, Phase, ProductSpec, SaleName, SaleSpec, Sku, Tier};

use crate::stock::store::{ProductRow, SaleState};

/// A refusal, in words for the person who wrote the file.
pub(super) type Refused = String;

/// What becomes of a product of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is new: product and stock are inserted.
    Insert,
    /// It is in this sale already: all but its stock may change.
    Update,
    /// It comes from a closed sale, at rest: it gets new stock.
    Return,
}

/// The file as a whole, before its products: a closed sale stays closed, the window has a length, and no SKU or
/// page comes twice.
pub(super) fn check_file(sale: &SaleSpec, state: Option<SaleState>) -> Result<(), Refused> {
    if state == Some(SaleState::Closed) {
        return Err(format!("name: sale {} is closed for ever; choose another name", sale.name));
    }
    if sale.closes <= sale.opens {
        return Err(format!("closes: {} is not after opens {}", sale.closes, sale.opens));
    }
    let mut seen = HashSet::new();
    if let Some(twice) = sale.products.iter().find(|product| !seen.insert(product.sku.as_str())) {
        return Err(format!("sku: {} appears twice", twice.sku));
    }
    Ok(())
}

/// One product of the file against the row there is. `brought`: the stock that the row's sale was given.
pub(super) fn check_product(
    sale: &SaleName,
    product: &ProductSpec,
    there: Option<(&ProductRow, u64)>,
) -> Result<Fate, Refused> {
    let sku = &product.sku;
    if product.price.minor() == 0 || product.price.times(MAX_LIMIT).is_err() {
        return Err(format!("price: {sku}: must be above 0 and such that {MAX_LIMIT} units have a price"));
    }
    if product.limit == 0 || product.limit > MAX_LIMIT {
        return Err(format!("limit: {sku}: must be 1 to {MAX_LIMIT}"));
    }
    if product.stock > types::sale::MAX_STOCK {
        return Err(format!("stock: {sku}: must be at most {}", types::sale::MAX_STOCK));
    }
    let Some((row, brought)) = there else { return Ok(Fate::Insert) };
    if row.state.sale == *sale {
        if product.stock != brought {
            return Err(format!(
                "stock: {sku}: came with {brought} units, not {}; a sale's file does not change stock",
                product.stock
            ));
        }
        if product.price.currency() != row.price.currency() {
            return Err(format!(
                "currency: {sku}: sells in {}, not {}; the currency of what is sold does not change",
                row.price.currency(),
                product.price.currency()
            ));
        }
        return Ok(Fate::Update);
    }
    if row.sale_state != SaleState::Closed {
        return Err(format!("sku: {sku} is in sale {}, which is not closed", row.state.sale));
    }
    let at_rest = row.lease.is_none() && row.state.phase == Phase::Active && row.state.tier != Tier::Redis;
    if !at_rest {
        return Err(format!("sku: {sku} is still leaving its closed sale {}; try again soon", row.state.sale));
    }
    Ok(Fate::Return)
}

/// Whose each page of the file is; no page may come twice.
pub(super) fn page_owners(sale: &SaleSpec) -> Result<HashMap<&PageId, &Sku>, Refused> {
    let mut owners = HashMap::new();
    for product in &sale.products {
        for page in &product.pages {
            if owners.insert(page, &product.sku).is_some() {
                return Err(format!("pages: {page} appears twice"));
            }
        }
    }
    Ok(owners)
}

/// A page's heat is one product's: no page may lead to two products of unclosed sales. `pages` are those of
/// `other`, a product of another unclosed sale.
pub(super) fn check_pages(owners: &HashMap<&PageId, &Sku>, other: &str, pages: &[PageId]) -> Result<(), Refused> {
    match pages.iter().find(|page| owners.contains_key(page)) {
        Some(page) => Err(format!("pages: {page} is a page of {other} in another sale")),
        None => Ok(()),
    }
}

/// Why a product that was ordered, moved or adjusted cannot leave its sale.
pub(super) fn cannot_remove(sku: &str) -> Refused {
    format!("product: {sku} was ordered, moved or adjusted and cannot be removed; close the sale instead")
}
