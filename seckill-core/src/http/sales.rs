//! What everybody may read: sales, products, availability. It answers from the tier table and never from SQL.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use http_kit::Problem;
use types::{SaleName, Sku};

use super::App;
use super::answers::cached;
use super::extract::{Named, unknown};
use super::view::{Availability, ProductView, SalePage, SaleView, Sales, sale_state};

/// Pages change when the merchandiser says so; seconds of delay are harmless.
const PAGE_SECONDS: u32 = 5;
/// Live numbers.
const LIVE_SECONDS: u32 = 1;

/// All sales that are not closed. Cacheable for 5 s.
#[utoipa::path(get, path = "/v1/sales", tag = "pages", operation_id = "list_sales",
    responses((status = 200, body = Sales, description = "The sales", headers(("ETag" = String))),
        (status = 304, description = "As the caller has it")))]
pub(super) async fn list(State(app): State<App>, headers: HeaderMap) -> Response {
    let now = app.shared.now();
    let sales = app.shared.table.sales();
    let sales = sales.iter().map(|(name, sale)| SaleView::new(name, sale, now)).collect();
    cached(&headers, &Sales { sales }, PAGE_SECONDS)
}

/// One sale with its products. Cacheable for 5 s.
#[utoipa::path(get, path = "/v1/sales/{sale}", tag = "pages", operation_id = "show_sale", params(("sale" = SaleName, Path)),
    responses((status = 200, body = SalePage, description = "The sale", headers(("ETag" = String))),
        (status = 304, description = "As the caller has it")))]
pub(super) async fn one(
    State(app): State<App>,
    headers: HeaderMap,
    Named(name): Named<SaleName>,
) -> Result<Response, Problem> {
    let now = app.shared.now();
    let sales = app.shared.table.sales();
    let sale = sales.get(&name).ok_or_else(unknown)?;
    let products = sale.products.iter().filter_map(|sku| app.shared.table.get(sku));
    let page = SalePage {
        sale: name,
        state: sale_state(sale.state, sale.opens, sale.closes, now),
        opens: sale.opens,
        closes: sale.closes,
        products: products.map(|slot| ProductView::new(&slot.row(), now)).collect(),
    };
    Ok(cached(&headers, &page, PAGE_SECONDS))
}

/// One product. Cacheable for 5 s.
#[utoipa::path(get, path = "/v1/products/{product}", tag = "pages", operation_id = "show_product",
    params(("product" = Sku, Path)),
    responses((status = 200, body = ProductView, description = "The product", headers(("ETag" = String))),
        (status = 304, description = "As the caller has it")))]
pub(super) async fn product(
    State(app): State<App>,
    headers: HeaderMap,
    Named(product): Named<Sku>,
) -> Result<Response, Problem> {
    let slot = app.shared.table.get(&product).ok_or_else(unknown)?;
    Ok(cached(&headers, &ProductView::new(&slot.row(), app.shared.now()), PAGE_SECONDS))
}

/// Units that can be sold now. Cacheable for 1 s.
#[utoipa::path(get, path = "/v1/products/{product}/availability", tag = "pages",
    params(("product" = Sku, Path)),
    responses((status = 200, body = Availability, description = "The live number", headers(("ETag" = String))),
        (status = 304, description = "As the caller has it")))]
pub(super) async fn availability(
    State(app): State<App>,
    headers: HeaderMap,
    Named(product): Named<Sku>,
) -> Result<Response, Problem> {
    let slot = app.shared.table.get(&product).ok_or_else(unknown)?;
    Ok(cached(&headers, &Availability::new(&slot.row(), app.shared.now()), LIVE_SECONDS))
}
