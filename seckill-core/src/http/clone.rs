//! A sale after the pattern of another: the same products, prices and limits under a new name, in a new window. What
//! the new sale may hold is the store's to say, as for any sale's file.

use axum::extract::State;
use axum::response::Response;
use http_kit::{Problem, ProblemKind};
use serde::Deserialize;
use types::sale::{Window, window};
use types::{Invalid, PageId, SaleName, SaleSpec, Sku};

use super::App;
use super::admin::make;
use super::extract::{Named, Object, unknown};
use super::problems;
use super::staff::{Sellers, Staff};
use super::view::SaleStateView;
use crate::stock::admin_store::{Act, SaleDetail};
use crate::stock::store::SaleState;

/// The body of the call.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CloneWish)]
pub(super) struct Wish {
    /// The new sale's name.
    name: String,
    /// Its window, as local times of `zone`, which is the old sale's if it is not given.
    opens: String,
    closes: String,
    zone: Option<String>,
    /// Put behind every SKU: needed while the old sale is not closed, as a SKU is in one unclosed sale at most.
    sku_suffix: Option<String>,
}

/// Makes a new sale after the pattern of this one: names, prices, limits, and the stock that each product came with.
#[utoipa::path(post, path = "/v1/sales/{sale}/clone", tag = "sales", operation_id = "clone_sale",
    params(("sale" = SaleName, Path)), request_body = Wish, security(("bearer" = ["merchandiser"])),
    responses((status = 201, body = SaleStateView, description = "Created")),
    extensions(("x-problems" = json!(["sale-state", "unavailable"]))))]
pub(super) async fn clone(
    State(app): State<App>,
    Staff { by, .. }: Staff<Sellers>,
    Named(from): Named<SaleName>,
    Object(wish): Object<Wish>,
) -> Result<Response, Problem> {
    let pattern = app.sql.sale(&from).await.map_err(|e| problems::store(&e))?.ok_or_else(unknown)?;
    let sale = after_pattern(&pattern, wish)?;
    let name = sale.name.clone();
    make(&app, Act::Clone { from, sale: Box::new(sale) }, by, name).await
}

fn after_pattern(pattern: &SaleDetail, wish: Wish) -> Result<SaleSpec, Problem> {
    let invalid = |field: &str, why: String| Problem::new(ProblemKind::INVALID_FIELD, why).field(field);
    let name = SaleName::new(&wish.name).map_err(|e| invalid("name", e.to_string()))?;
    let zone = wish.zone.unwrap_or_else(|| pattern.zone.clone());
    let Window { opens, closes } = window(&zone, &wish.opens, &wish.closes)?;
    let suffix = wish.sku_suffix.unwrap_or_default();
    if suffix.is_empty() && pattern.state != SaleState::Closed {
        let why = format!("{} is not closed and keeps its SKUs; say what to put behind those of {name}", pattern.name);
        return Err(invalid("sku_suffix", why));
    }
    if pattern.products.is_empty() {
        let why = format!("every product of {} has gone on to a later sale; clone that one", pattern.name);
        return Err(Problem::new(problems::SALE_STATE, why));
    }
    let mut products = pattern.spec().products;
    if !suffix.is_empty() {
        for product in &mut products {
            let renamed: Result<(Sku, PageId), Invalid> =
                Sku::new(format!("{}{suffix}", product.sku)).and_then(|sku| Ok((sku.clone(), PageId::new(sku)?)));
            let (sku, page) = renamed.map_err(|e| invalid("sku_suffix", format!("{}: {e}", product.sku)))?;
            // A page leads to one product: the old one keeps its own.
            (product.sku, product.pages) = (sku, vec![page]);
        }
    }
    Ok(SaleSpec { name, zone, opens, closes, policy: pattern.spec().policy, products })
}
