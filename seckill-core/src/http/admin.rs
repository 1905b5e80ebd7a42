//! Administration of sales: apply, pause, resume, close, list. A sale is closed only when no unit of it is lent,
//! so that nothing stays leased behind a closed door.

use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use http_kit::{Caller, Problem, ProblemKind};
use types::{Phase, Role, SaleName, SaleSpec};

use super::App;
use super::extract::{Named, json_problem, object_type, unknown};
use super::problems;
use super::view::{AdminSale, AdminSales, SaleStateView, StockView, stored_state};
use crate::stock::store::{SaleApplied, SaleState};

const READERS: [Role; 4] = [Role::Viewer, Role::Merchandiser, Role::Operator, Role::Admin];
const SELLERS: [Role; 2] = [Role::Merchandiser, Role::Admin];
const STOPPERS: [Role; 3] = [Role::Merchandiser, Role::Operator, Role::Admin];
/// Longest time that a close waits for leases to come home: a move takes 100 to 200 ms.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Every sale that is not closed, with its stock.
#[utoipa::path(get, path = "/v1/sales", tag = "sales", operation_id = "list_sales",
    security(("bearer" = ["viewer", "merchandiser", "operator"])),
    responses((status = 200, body = AdminSales, description = "The sales")),
    extensions(("x-problems" = json!(["unavailable"]))))]
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Result<Json<AdminSales>, Problem> {
    caller.require(&READERS)?;
    app.shared.table.refresh().await.map_err(|e| problems::store(&e))?;
    let sales = app.shared.table.sales();
    let sales = sales.iter().map(|(name, sale)| AdminSale {
        sale: name.clone(),
        state: stored_state(sale.state),
        opens: sale.opens,
        closes: sale.closes,
        products: sale
            .products
            .iter()
            .filter_map(|sku| app.shared.table.get(sku))
            .map(|slot| StockView::from(&*slot.row()))
            .collect(),
    });
    Ok(Json(AdminSales { sales: sales.collect() }))
}

/// Creates a sale, or changes what may still be changed of it.
#[utoipa::path(put, path = "/v1/sales/{sale}", tag = "sales", operation_id = "apply_sale",
    params(("sale" = SaleName, Path)),
    request_body = SaleSpec, security(("bearer" = ["merchandiser"])),
    responses((status = 201, body = SaleStateView, description = "Created"),
        (status = 200, body = SaleStateView, description = "Changed")),
    extensions(("x-problems" = json!(["unavailable"]))))]
pub(super) async fn apply(
    State(app): State<App>,
    caller: Caller,
    Named(name): Named<SaleName>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let actor = caller.require(&SELLERS)?;
    object_type(&headers)?;
    let mut parser = serde_json::Deserializer::from_slice(&body);
    let spec = SaleSpec::deserialize(&mut parser).map_err(|e| json_problem(&e))??;
    parser.end().map_err(|e| json_problem(&e))?;
    if spec.name != name {
        let why = format!("{} is not the sale of this path, {name}", spec.name);
        return Err(Problem::new(ProblemKind::INVALID_FIELD, why).field("name"));
    }
    let products = spec.products.len();
    let applied = app.shared.store.apply_sale(spec, app.shared.now()).await.map_err(|e| problems::store(&e))?;
    let status = match applied {
        SaleApplied::Created => StatusCode::CREATED,
        SaleApplied::Updated => StatusCode::OK,
        SaleApplied::Refused(why) => return Err(Problem::new(ProblemKind::INVALID_FIELD, why)),
    };
    tracing::info!(sale = %name, products, actor = %actor.subject, created = status == StatusCode::CREATED, "sale applied");
    app.shared.table.refresh().await.map_err(|e| problems::store(&e))?;
    let state = app.shared.table.sales().get(&name).map_or(SaleState::Active, |sale| sale.state);
    Ok((status, Json(SaleStateView { sale: name, state: stored_state(state) })).into_response())
}

async fn set(app: &App, sale: &SaleName, state: SaleState, actor: &str) -> Result<Json<SaleStateView>, Problem> {
    let now = app.shared.now();
    let is = app.shared.store.set_sale_state(sale, state, now).await.map_err(|e| problems::store(&e))?;
    let is = is.ok_or_else(unknown)?;
    tracing::info!(%sale, wanted = stored_state(state), is = stored_state(is), actor, "sale state");
    app.shared.table.refresh().await.map_err(|e| problems::store(&e))?;
    if is != state {
        return Err(Problem::new(problems::SALE_STATE, format!("the sale is {}", stored_state(is))));
    }
    Ok(Json(SaleStateView { sale: sale.clone(), state: stored_state(is) }))
}

/// Takes no more purchases until it is resumed.
#[utoipa::path(post, path = "/v1/sales/{sale}/pause", tag = "sales", operation_id = "pause_sale",
    params(("sale" = SaleName, Path)), security(("bearer" = ["merchandiser", "operator"])),
    responses((status = 200, body = SaleStateView, description = "Paused")),
    extensions(("x-problems" = json!(["sale-state", "unavailable"]))))]
pub(super) async fn pause(
    State(app): State<App>,
    caller: Caller,
    Named(sale): Named<SaleName>,
) -> Result<Json<SaleStateView>, Problem> {
    let actor = caller.require(&STOPPERS)?;
    set(&app, &sale, SaleState::Paused, actor.subject.as_str()).await
}

/// Takes purchases again.
#[utoipa::path(post, path = "/v1/sales/{sale}/resume", tag = "sales", operation_id = "resume_sale",
    params(("sale" = SaleName, Path)), security(("bearer" = ["merchandiser", "operator"])),
    responses((status = 200, body = SaleStateView, description = "Active")),
    extensions(("x-problems" = json!(["sale-state", "unavailable"]))))]
pub(super) async fn resume(
    State(app): State<App>,
    caller: Caller,
    Named(sale): Named<SaleName>,
) -> Result<Json<SaleStateView>, Problem> {
    let actor = caller.require(&STOPPERS)?;
    set(&app, &sale, SaleState::Active, actor.subject.as_str()).await
}

/// Ends a sale for good, when no unit of it is lent any more.
#[utoipa::path(post, path = "/v1/sales/{sale}/close", tag = "sales", operation_id = "close_sale",
    params(("sale" = SaleName, Path)), security(("bearer" = ["merchandiser"])),
    responses((status = 200, body = SaleStateView, description = "Closed")),
    extensions(("x-problems" = json!(["sale-state", "closing", "unavailable"]))))]
pub(super) async fn close(
    State(app): State<App>,
    caller: Caller,
    Named(sale): Named<SaleName>,
) -> Result<Json<SaleStateView>, Problem> {
    let actor = caller.require(&SELLERS)?;
    let closed = close_at_rest(&app, &sale, actor.subject.as_str()).await;
    app.mover.closing(&sale, false);
    closed
}

/// Stops new purchases, brings every lease home, then closes.
async fn close_at_rest(app: &App, sale: &SaleName, actor: &str) -> Result<Json<SaleStateView>, Problem> {
    if app.shared.table.sales().contains_key(sale) {
        let _paused = set(app, sale, SaleState::Paused, actor).await?;
        app.mover.closing(sale, true);
        let started = Instant::now();
        while !nothing_lent(app, sale) {
            if started.elapsed() > CLOSE_WAIT {
                let why = "purchases are paused, but units are still lent; call again";
                return Err(Problem::new(problems::CLOSING, why).retry_after(2));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    set(app, sale, SaleState::Closed, actor).await
}

fn nothing_lent(app: &App, sale: &SaleName) -> bool {
    let sales = app.shared.table.sales();
    let Some(sale) = sales.get(sale) else { return true };
    sale.products.iter().filter_map(|sku| app.shared.table.get(sku)).all(|slot| {
        let row = slot.row();
        row.lease.is_none() && row.state.phase == Phase::Active
    })
}
