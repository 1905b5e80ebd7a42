//! Administration of sales: apply, clone, pause, resume, close, list, show. Each act is the store's, with its line in
//! the audit log. A sale is closed only when no unit of it is lent, so that nothing stays leased behind a closed door.

use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use http_kit::{Problem, ProblemKind};
use types::{Phase, SaleName, SaleSpec};

use super::App;
use super::extract::{Named, json_problem, object_type, unknown};
use super::problems;
use super::staff::{Readers, Sellers, Staff, Stoppers};
use super::view::{AdminSale, AdminSales, SaleDetailView, SaleStateView, StockView, stored_state};
use crate::metrics;
use crate::stock::admin_store::{Act, Acted, Action, Actor};
use crate::stock::store::{SaleApplied, SaleState, StoreError};

/// Longest time that a close waits for leases to come home: a move takes 100 to 200 ms.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Every sale that is not closed, with its stock.
#[utoipa::path(get, path = "/v1/sales", tag = "sales", operation_id = "list_sales",
    security(("bearer" = ["viewer", "merchandiser", "operator"])),
    responses((status = 200, body = AdminSales, description = "The sales")),
    extensions(("x-problems" = json!(["unavailable"]))))]
pub(super) async fn list(State(app): State<App>, _: Staff<Readers>) -> Result<Json<AdminSales>, Problem> {
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

/// One sale with all that can be changed of it, also a closed one.
#[utoipa::path(get, path = "/v1/sales/{sale}", tag = "sales", operation_id = "show_sale",
    params(("sale" = SaleName, Path)), security(("bearer" = ["viewer", "merchandiser", "operator"])),
    responses((status = 200, body = SaleDetailView, description = "The sale")),
    extensions(("x-problems" = json!(["unavailable"]))))]
pub(super) async fn show(
    State(app): State<App>,
    _: Staff<Readers>,
    Named(name): Named<SaleName>,
) -> Result<Json<SaleDetailView>, Problem> {
    let sale = app.sql.sale(&name).await.map_err(|e| problems::store(&e))?;
    Ok(Json(SaleDetailView::from(sale.ok_or_else(unknown)?)))
}

/// Does what a sale's file says, by `apply` or `clone`.
pub(super) async fn make(app: &App, act: Act, by: Actor, name: SaleName) -> Result<Response, Problem> {
    let action = if matches!(act, Act::Clone { .. }) { Action::Clone } else { Action::Apply };
    let subject = by.subject.clone();
    let acted = app.sql.administer(act, by, app.shared.now()).await.map_err(|e| problems::store(&e))?;
    let Acted::Sale(applied) = acted else { return Err(answered_otherwise(&acted)) };
    let status = match applied {
        SaleApplied::Created => StatusCode::CREATED,
        SaleApplied::Updated => StatusCode::OK,
        SaleApplied::Refused(why) => {
            metrics::administered(action.as_str(), "refused");
            return Err(refused(why));
        }
    };
    metrics::administered(action.as_str(), "done");
    tracing::info!(sale = %name, action = action.as_str(), actor = %subject, created = status == StatusCode::CREATED,
        "sale applied");
    app.shared.table.refresh().await.map_err(|e| problems::store(&e))?;
    let state = app.shared.table.sales().get(&name).map_or(SaleState::Active, |sale| sale.state);
    Ok((status, Json(SaleStateView { sale: name, state: stored_state(state) })).into_response())
}

/// A refusal of the store names the field first: `price: lamp: …`.
pub(super) fn refused(why: String) -> Problem {
    let field = why.split_once(": ").map(|(field, _)| field.to_owned());
    let problem = Problem::new(ProblemKind::INVALID_FIELD, why);
    match field {
        Some(field) => problem.field(field),
        None => problem,
    }
}

/// A store that answers another act than the one asked for: a defect.
pub(super) fn answered_otherwise(acted: &Acted) -> Problem {
    problems::store(&StoreError::Corrupt(format!("the store answered {acted:?}")))
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
    Staff { by, .. }: Staff<Sellers>,
    Named(name): Named<SaleName>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    object_type(&headers)?;
    let mut parser = serde_json::Deserializer::from_slice(&body);
    let spec = SaleSpec::deserialize(&mut parser).map_err(|e| json_problem(&e))??;
    parser.end().map_err(|e| json_problem(&e))?;
    if spec.name != name {
        let why = format!("{} is not the sale of this path, {name}", spec.name);
        return Err(Problem::new(ProblemKind::INVALID_FIELD, why).field("name"));
    }
    make(&app, Act::Apply(Box::new(spec)), by, name).await
}

async fn set(
    app: &App,
    sale: &SaleName,
    state: SaleState,
    action: Action,
    by: Actor,
) -> Result<Json<SaleStateView>, Problem> {
    let (now, actor) = (app.shared.now(), by.subject.clone());
    let act = Act::SetState { sale: sale.clone(), state, action };
    let acted = app.sql.administer(act, by, now).await.map_err(|e| problems::store(&e))?;
    let Acted::State(is) = acted else { return Err(answered_otherwise(&acted)) };
    let done = is == Some(state);
    metrics::administered(action.as_str(), if done { "done" } else { "refused" });
    let is = is.ok_or_else(unknown)?;
    tracing::info!(%sale, wanted = stored_state(state), is = stored_state(is), %actor, "sale state");
    app.shared.table.refresh().await.map_err(|e| problems::store(&e))?;
    if !done {
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
    Staff { by, .. }: Staff<Stoppers>,
    Named(sale): Named<SaleName>,
) -> Result<Json<SaleStateView>, Problem> {
    set(&app, &sale, SaleState::Paused, Action::Pause, by).await
}

/// Takes purchases again.
#[utoipa::path(post, path = "/v1/sales/{sale}/resume", tag = "sales", operation_id = "resume_sale",
    params(("sale" = SaleName, Path)), security(("bearer" = ["merchandiser", "operator"])),
    responses((status = 200, body = SaleStateView, description = "Active")),
    extensions(("x-problems" = json!(["sale-state", "unavailable"]))))]
pub(super) async fn resume(
    State(app): State<App>,
    Staff { by, .. }: Staff<Stoppers>,
    Named(sale): Named<SaleName>,
) -> Result<Json<SaleStateView>, Problem> {
    set(&app, &sale, SaleState::Active, Action::Resume, by).await
}

/// Ends a sale for good, when no unit of it is lent any more.
#[utoipa::path(post, path = "/v1/sales/{sale}/close", tag = "sales", operation_id = "close_sale",
    params(("sale" = SaleName, Path)), security(("bearer" = ["merchandiser"])),
    responses((status = 200, body = SaleStateView, description = "Closed")),
    extensions(("x-problems" = json!(["sale-state", "closing", "unavailable"]))))]
pub(super) async fn close(
    State(app): State<App>,
    Staff { by, .. }: Staff<Sellers>,
    Named(sale): Named<SaleName>,
) -> Result<Json<SaleStateView>, Problem> {
    let closed = close_at_rest(&app, &sale, by).await;
    app.mover.closing(&sale, false);
    closed
}

/// Stops new purchases, brings every lease home, then closes.
async fn close_at_rest(app: &App, sale: &SaleName, by: Actor) -> Result<Json<SaleStateView>, Problem> {
    if app.shared.table.sales().contains_key(sale) {
        let _paused = set(app, sale, SaleState::Paused, Action::Close, by.clone()).await?;
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
    set(app, sale, SaleState::Closed, Action::Close, by).await
}

fn nothing_lent(app: &App, sale: &SaleName) -> bool {
    let sales = app.shared.table.sales();
    let Some(sale) = sales.get(sale) else { return true };
    sale.products.iter().filter_map(|sku| app.shared.table.get(sku)).all(|slot| {
        let row = slot.row();
        row.lease.is_none() && row.state.phase == Phase::Active
    })
}
