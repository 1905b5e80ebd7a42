//! What an import may do, as pure functions over what its transaction has read. Every row is judged before anything is
//! written, so that whoever sent the file learns of all that is wrong with it at once.

use hashbrown::{HashMap, HashSet};
use types::sale::{MAX_PRODUCTS, MAX_STOCK};
use types::{Currency, IdempotencyKey, PageId, Sku, Timestamp};

use super::adjust_ruling::{AdjustRuling, rule_on_adjustment};
use super::sale_rules::{self, Fate};
use crate::stock::admin_store::SaleDetail;
use crate::stock::import::{CatalogueImport, ImportCounts, Imported, RowErrors, StockImport};
use crate::stock::store::{ProductRow, SaleState};

/// The sale of an import as it is.
#[derive(Debug, Clone)]
pub(super) struct SaleHead {
    pub(super) zone: String,
    pub(super) opens: Timestamp,
    pub(super) closes: Timestamp,
    pub(super) state: SaleState,
}

/// A product of an unclosed sale that is not in the file.
#[derive(Debug, Clone)]
pub(super) struct Other {
    pub(super) sku: String,
    /// Whether it is in the import's sale.
    pub(super) here: bool,
    pub(super) currency: Currency,
    pub(super) pages: Vec<PageId>,
}

/// What was read for a catalogue import.
#[derive(Debug, Default)]
pub(super) struct There {
    pub(super) sale: Option<SaleHead>,
    /// Products of the file's SKUs, each with the stock that it came with.
    pub(super) products: HashMap<Sku, (ProductRow, u64)>,
    pub(super) others: Vec<Other>,
}

/// What is to be written.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) new_sale: bool,
    /// Of each row; `None`: it is so already.
    pub(super) fates: Vec<Option<Fate>>,
    pub(super) counts: ImportCounts,
}

/// Judges a catalogue import: the plan, or the refusal.
pub(super) fn check_catalogue(import: &CatalogueImport, there: &There) -> Result<Plan, Imported> {
    check_sale(import, there.sale.as_ref()).map_err(Imported::Refused)?;
    let here = there.others.iter().filter(|other| other.here).count();
    if here + import.rows.len() > MAX_PRODUCTS {
        return Err(Imported::Refused(format!("product: a sale has at most {MAX_PRODUCTS}; {here} are there already")));
    }
    let mut errors = RowErrors::default();
    let mut counts = ImportCounts { rows: import.rows.len() as u64, ..ImportCounts::default() };
    let mut fates = Vec::with_capacity(import.rows.len());
    let currency = there.others.iter().find(|other| other.here).map(|other| other.currency);
    let mut pages: HashMap<&PageId, u64> = HashMap::new();
    for (row, product) in &import.rows {
        pages.extend(product.pages.iter().map(|page| (page, *row)));
        let known = there.products.get(&product.sku).map(|(known, brought)| (known, *brought));
        match sale_rules::check_product(&import.sale, product, known) {
            Ok(_) if currency.is_some_and(|c| c != product.price.currency()) => {
                let sells = currency.map(|c| c.to_string()).unwrap_or_default();
                errors.add(*row, "currency", format!("the sale sells in {sells}, not {}", product.price.currency()));
            }
            Ok(fate) => {
                let same = fate == Fate::Update
                    && known.is_some_and(|(known, brought)| SaleDetail::spec_of(known, brought) == *product);
                match fate {
                    _ if same => counts.unchanged += 1,
                    Fate::Insert => counts.created += 1,
                    Fate::Return => counts.returned += 1,
                    Fate::Update => counts.changed += 1,
                }
                if matches!(fate, Fate::Insert | Fate::Return) {
                    counts.added += product.stock;
                }
                fates.push((!same).then_some(fate));
            }
            Err(why) => {
                let (column, why) = why.split_once(": ").unwrap_or(("", why.as_str()));
                errors.add(*row, column, why);
            }
        }
    }
    for other in &there.others {
        for page in &other.pages {
            if let Some(row) = pages.get(page) {
                errors.add(*row, "pages", format!("{page} is a page of {}", other.sku));
            }
        }
    }
    if !errors.is_empty() {
        return Err(Imported::Rows(errors.in_order()));
    }
    Ok(Plan { new_sale: there.sale.is_none(), fates, counts })
}

fn check_sale(import: &CatalogueImport, there: Option<&SaleHead>) -> Result<(), String> {
    let name = &import.sale;
    match (there, &import.window) {
        (None, None) => Err(format!("opens: there is no sale {name}; give zone, opens and closes to make it")),
        (None, Some(_)) => Ok(()),
        (Some(sale), _) if sale.state == SaleState::Closed => {
            Err(format!("name: sale {name} is closed for ever; choose another name"))
        }
        (Some(sale), Some((zone, window)))
            if *zone != sale.zone || window.opens != sale.opens || window.closes != sale.closes =>
        {
            Err(format!(
                "opens: {name} is there, in {} from {} to {}; an import does not change its window, its file does",
                sale.zone, sale.opens, sale.closes
            ))
        }
        (Some(_), _) => Ok(()),
    }
}

/// What each row of a stock import does.
pub(super) type StockPlan = (Vec<AdjustRuling>, ImportCounts);

/// Judges a stock import over the rows of its products and the ids of adjustments that are used already.
pub(super) fn check_stock(
    import: &StockImport,
    products: &HashMap<Sku, ProductRow>,
    used: &HashSet<IdempotencyKey>,
) -> Result<StockPlan, Imported> {
    let mut errors = RowErrors::default();
    let mut counts = ImportCounts { rows: import.rows.len() as u64, ..ImportCounts::default() };
    let mut rulings = Vec::with_capacity(import.rows.len());
    for row in &import.rows {
        let Some(product) = products.get(&row.product).filter(|product| product.state.sale == import.sale) else {
            errors.add(row.row, "sku", format!("{} is not in sale {}", row.product, import.sale));
            continue;
        };
        if import.adjustment(row).is_ok_and(|adjustment| used.contains(&adjustment.id)) {
            errors.add(row.row, "sku", format!("{} was adjusted under the name of this import", row.product));
            continue;
        }
        let ruling = rule_on_adjustment(row.delta, product);
        match ruling {
            AdjustRuling::TooFew { removable } => {
                errors.add(row.row, "delta", format!("all but {removable} units are sold or reserved"));
            }
            AdjustRuling::TooMany { room } => {
                errors.add(row.row, "delta", format!("at most {room} units can be added, to {MAX_STOCK}"));
            }
            AdjustRuling::Add { units } => counts.added += units,
            AdjustRuling::Remove { free, lent, .. } => counts.removed += free + lent,
        }
        counts.changed += 1;
        rulings.push(ruling);
    }
    if errors.is_empty() { Ok((rulings, counts)) } else { Err(Imported::Rows(errors)) }
}
