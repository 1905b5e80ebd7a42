//! What the audit log says of an act: what there was, what there is now, and how it ended, as pure functions over
//! what the act's transaction has read. It decides nothing and writes nothing.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use types::{ProductSpec, SaleName, SaleSpec, Sku};

use super::words::sale_state_text;
use crate::stock::adjustment::{Adjusted, Adjustment};
use crate::stock::admin_store::{Act, ActEnd, Acted, Action, Actor, SaleDetail};
use crate::stock::import::{Imported, StockImport};
use crate::stock::retention_store::Forgotten;
use crate::stock::store::{SaleApplied, SaleState};

/// Bytes of changed products that one line holds; how many more there were is said. A line crosses the wire in one
/// statement, and a merchandiser reads it.
const MAX_PRODUCTS_TEXT: usize = 200 * 1024;

/// Products whose units a line of a stock import names.
const MAX_DELTAS: usize = 2_000;

/// A line before it has a number and a time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub(super) action: Action,
    pub(super) sale: Option<SaleName>,
    pub(super) product: Option<Sku>,
    pub(super) end: ActEnd,
    /// JSON text.
    pub(super) detail: String,
}

/// The line of an erasure. It names nobody.
pub(super) fn erasure(forgotten: Forgotten) -> Line {
    let (end, detail) = match forgotten {
        Forgotten::Done { orders: 0, .. } => (ActEnd::Unchanged, json!({})),
        Forgotten::Done { orders, .. } => (ActEnd::Done, json!({"after": {"orders": orders}})),
        Forgotten::OpenOrders(open) => (ActEnd::Refused, json!({"why": format!("{open} open orders")})),
    };
    Line { action: Action::EraseBuyer, sale: None, product: None, end, detail: detail.to_string() }
}

/// The roles as the log keeps them.
pub(super) fn roles_text(by: &Actor) -> String {
    by.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(",")
}

/// Why a sale cannot be made under a name that another bears.
pub(super) fn name_is_taken(name: &SaleName) -> String {
    format!("name: there is a sale {name} already; choose another name")
}

/// What was read before the act, as far as the log wants to know it.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// The sale of `Apply`, `Clone`.
    pub(super) sale: Option<SaleDetail>,
    /// The state of the sale of `SetState`.
    pub(super) state: Option<SaleState>,
    /// The products that `ImportCatalogue` changed.
    pub(super) specs: Vec<ProductSpec>,
}

/// The line of an act.
pub(super) fn line(act: &Act, before: &Before, acted: &Acted) -> Line {
    match (act, acted) {
        (Act::Apply(sale), Acted::Sale(applied)) => of_sale(Action::Apply, None, sale, before, applied),
        (Act::Clone { from, sale }, Acted::Sale(applied)) => of_sale(Action::Clone, Some(from), sale, before, applied),
        (Act::SetState { sale, state, action }, Acted::State(is)) => of_state(*action, sale, *state, before.state, *is),
        (Act::Adjust(asked), Acted::Adjusted(adjusted)) => of_adjustment(asked, adjusted),
        (Act::ImportCatalogue(asked), Acted::Imported(imported)) => {
            let new: Vec<_> = asked.rows.iter().map(|(_, product)| product.clone()).collect();
            // Rows that changed nothing are in neither.
            let (was, is) = product_differences(&before.specs, &new);
            of_import(Action::ImportCatalogue, &asked.sale, imported, json!(was), json!({"products": is}))
        }
        (Act::ImportStock(asked), Acted::Imported(imported)) => {
            let after = json!({"import": asked.id.as_str(), "deltas": deltas(asked)});
            of_import(Action::ImportStock, &asked.sale, imported, Value::Null, after)
        }
        // An answer of another kind is refused before it comes here; the log says so all the same.
        (act, _) => Line {
            action: action_of(act),
            sale: None,
            product: None,
            end: ActEnd::Refused,
            detail: json!({"why": "the store answered something else"}).to_string(),
        },
    }
}

const fn action_of(act: &Act) -> Action {
    match act {
        Act::Apply(_) => Action::Apply,
        Act::Clone { .. } => Action::Clone,
        Act::SetState { action, .. } => *action,
        Act::Adjust(_) => Action::Adjust,
        Act::ImportCatalogue(_) => Action::ImportCatalogue,
        Act::ImportStock(_) => Action::ImportStock,
    }
}

fn detail(before: Value, after: Value, why: Option<&str>) -> String {
    let mut all = Map::new();
    for (name, value) in [("before", before), ("after", after), ("why", why.map_or(Value::Null, Value::from))] {
        if !value.is_null() {
            all.insert(name.to_owned(), value);
        }
    }
    Value::Object(all).to_string()
}

fn of_sale(action: Action, from: Option<&SaleName>, sale: &SaleSpec, before: &Before, applied: &SaleApplied) -> Line {
    let (end, detail) = match applied {
        SaleApplied::Refused(why) => (ActEnd::Refused, detail(Value::Null, Value::Null, Some(why))),
        SaleApplied::Created | SaleApplied::Updated => {
            let old = before.sale.as_ref().map(SaleDetail::spec);
            let (was, mut is) = differences(old.as_ref(), sale);
            let end = if was.is_null() && is.is_null() { ActEnd::Unchanged } else { ActEnd::Done };
            if let (Some(from), Value::Object(fields)) = (from, &mut is) {
                fields.insert("from".into(), from.as_str().into());
            }
            (end, detail(was, is, None))
        }
    };
    Line { action, sale: Some(sale.name.clone()), product: None, end, detail }
}

/// The fields and products in which two files of a sale differ, of each: null twice if they are the same.
pub(super) fn differences(old: Option<&SaleSpec>, new: &SaleSpec) -> (Value, Value) {
    let (mut was, mut is) = (Map::new(), Map::new());
    let mut field = |name: &str, old: Option<String>, new: String| {
        if old.as_ref() != Some(&new) {
            is.insert(name.to_owned(), new.into());
            if let Some(old) = old {
                was.insert(name.to_owned(), old.into());
            }
        }
    };
    field("zone", old.map(|o| o.zone.clone()), new.zone.clone());
    field("opens", old.map(|o| o.opens.to_string()), new.opens.to_string());
    field("closes", old.map(|o| o.closes.to_string()), new.closes.to_string());
    let policy = old.map(|o| o.policy).unwrap_or_default();
    if policy != new.policy {
        is.insert("policy".into(), json!(new.policy));
        if old.is_some() {
            was.insert("policy".into(), json!(policy));
        }
    }
    let before = old.map(|o| o.products.as_slice()).unwrap_or_default();
    let (gone, come) = product_differences(before, &new.products);
    if !gone.is_empty() {
        was.insert("products".into(), gone.into());
    }
    if !come.is_empty() {
        is.insert("products".into(), come.into());
    }
    let value = |fields: Map<String, Value>| if fields.is_empty() { Value::Null } else { Value::Object(fields) };
    (value(was), value(is))
}

/// The products that differ, as they were and as they are, by SKU; beyond [`MAX_PRODUCTS_TEXT`] only how many more.
fn product_differences(old: &[ProductSpec], new: &[ProductSpec]) -> (Map<String, Value>, Map<String, Value>) {
    let mut both: BTreeMap<&Sku, (Option<&ProductSpec>, Option<&ProductSpec>)> = BTreeMap::new();
    for product in old {
        both.entry(&product.sku).or_default().0 = Some(product);
    }
    for product in new {
        both.entry(&product.sku).or_default().1 = Some(product);
    }
    let (mut was, mut is, mut bytes, mut left_out) = (Map::new(), Map::new(), 0, 0_u64);
    for (sku, pair) in both {
        if pair.0 == pair.1 {
            continue;
        }
        if bytes > MAX_PRODUCTS_TEXT {
            left_out += 1;
            continue;
        }
        for (product, side) in [(pair.0, &mut was), (pair.1, &mut is)] {
            if let Some(product) = product {
                let value = product_value(product);
                bytes += value.to_string().len();
                side.insert(sku.as_str().to_owned(), value);
            }
        }
    }
    if left_out > 0 {
        // `*` is no SKU.
        is.insert("*".into(), json!(format!("{left_out} more products changed")));
    }
    (was, is)
}

fn product_value(product: &ProductSpec) -> Value {
    let pages: Vec<_> = product.pages.iter().map(types::PageId::as_str).collect();
    json!({
        "name": product.name, "price": product.price.minor(), "currency": product.price.currency(),
        "stock": product.stock, "limit": product.limit, "initial_tier": product.initial_tier, "pages": pages,
    })
}

fn of_state(action: Action, sale: &SaleName, wanted: SaleState, was: Option<SaleState>, is: Option<SaleState>) -> Line {
    let word = |state: Option<SaleState>| state.map_or(Value::Null, |s| json!({"state": sale_state_text(s)}));
    let (end, why) = match is {
        None => (ActEnd::Refused, Some("there is no such sale".to_owned())),
        Some(is) if is != wanted => (ActEnd::Refused, Some(format!("the sale is {}", sale_state_text(is)))),
        Some(_) if was == is => (ActEnd::Unchanged, None),
        Some(_) => (ActEnd::Done, None),
    };
    let detail = detail(word(was), word(is), why.as_deref());
    Line { action, sale: Some(sale.clone()), product: None, end, detail }
}

fn of_adjustment(asked: &Adjustment, adjusted: &Adjusted) -> Line {
    let wish = json!({"adjustment": asked.id, "delta": asked.delta.get(), "reason": asked.reason.as_str()});
    let with = |total: u64| {
        let mut wish = wish.clone();
        wish["total"] = total.into();
        wish
    };
    let refused = |why: String| (ActEnd::Refused, json!({"asked": wish, "why": why}).to_string());
    let mut sale = None;
    let (end, detail) = match adjusted {
        Adjusted::Done { row, product: Some(after) } => {
            sale = Some(after.state.sale.clone());
            let before = i64::try_from(row.total).unwrap_or(i64::MAX).saturating_sub(row.delta);
            (ActEnd::Done, detail(json!({"total": before}), with(row.total), None))
        }
        Adjusted::Done { row, product: None } => (ActEnd::Unchanged, detail(Value::Null, with(row.total), None)),
        Adjusted::OtherBody => refused("the id belongs to another adjustment".into()),
        Adjusted::TooFew { removable } => refused(format!("at most {removable} units can be removed")),
        Adjusted::TooMany { room } => refused(format!("at most {room} units can be added")),
        Adjusted::UnknownProduct => refused("there is no such product".into()),
    };
    Line { action: Action::Adjust, sale, product: Some(asked.product.clone()), end, detail }
}

/// Units by SKU, as far as a line has room; each stands in the history of its product too.
fn deltas(asked: &StockImport) -> Map<String, Value> {
    let mut all = Map::new();
    for row in asked.rows.iter().take(MAX_DELTAS) {
        all.insert(row.product.as_str().to_owned(), row.delta.get().into());
    }
    let left_out = asked.rows.len().saturating_sub(MAX_DELTAS);
    if left_out > 0 {
        all.insert("*".into(), json!(format!("{left_out} more products")));
    }
    all
}

fn of_import(action: Action, sale: &SaleName, imported: &Imported, was: Value, mut is: Value) -> Line {
    let refused = |why: String| (ActEnd::Refused, json!({"why": why}).to_string());
    let (end, detail) = match imported {
        Imported::Done { repeated: true, .. } => (ActEnd::Unchanged, json!({}).to_string()),
        Imported::Done { counts, new_sale, .. } => {
            is["counts"] = json!({
                "rows": counts.rows, "created": counts.created, "returned": counts.returned,
                "changed": counts.changed, "unchanged": counts.unchanged, "added": counts.added,
                "removed": counts.removed, "new_sale": new_sale,
            });
            let before =
                if was.as_object().is_some_and(|m| !m.is_empty()) { json!({"products": was}) } else { Value::Null };
            let end = if counts.unchanged == counts.rows { ActEnd::Unchanged } else { ActEnd::Done };
            (end, detail(before, is, None))
        }
        Imported::Rows(errors) => {
            let first = errors.first.first();
            let first = first.map(|e| format!("row {} {}: {}", e.row, e.column, e.why)).unwrap_or_default();
            refused(format!("{} rows are wrong, the first: {first}", errors.count()))
        }
        Imported::Refused(why) => refused(why.clone()),
        Imported::OtherFile => refused("the id belongs to another file".into()),
        Imported::UnknownSale => refused("there is no such sale".into()),
    };
    Line { action, sale: Some(sale.clone()), product: None, end, detail }
}
