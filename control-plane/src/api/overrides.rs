//! `/v1/overrides`: an operator's tier for a product, or for up to a thousand at once, with an end and a reason.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_kit::{Caller, Problem, ProblemKind};
use serde::Serialize;
use types::{Generation, Sku, Tier, Timestamp};
use utoipa::ToSchema;

use super::{ApiState, READERS, Refusal, WRITERS, body, etag, no_product, waits};
use crate::brain::{Expects, Order, Ordered, OverrideOrder};
use crate::planner::Override;
use crate::reconcile::{Applied, Enforcement};

/// An override as it is shown.
#[derive(Serialize, ToSchema)]
#[schema(as = Override)]
pub(super) struct Shown {
    product: Sku,
    tier: Tier,
    reason: String,
    by: String,
    at: Timestamp,
    until: Timestamp,
    generation: Generation,
    /// Only where it was waited for: whether every core that sells it does so on this tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<bool>,
}

impl Shown {
    fn new(product: &Sku, order: &Override) -> Self {
        Self {
            product: product.clone(),
            tier: order.tier,
            reason: order.why.clone(),
            by: order.by.clone(),
            at: order.at,
            until: order.until,
            generation: order.generation,
            applied: None,
        }
    }
}

/// Overrides in force.
#[derive(Serialize, ToSchema)]
pub(super) struct Overrides {
    generation: Generation,
    overrides: Vec<Shown>,
}

/// What is ordered. `ttl`: 10 s to 24 h, as a text with a unit or whole seconds.
#[derive(ToSchema)]
#[schema(as = OverrideOrder)]
#[expect(dead_code, reason = "stands for the body in the document; it is read by hand")]
pub(super) struct OrderSchema {
    tier: Tier,
    #[schema(value_type = String, examples("5m"))]
    ttl: String,
    #[schema(min_length = 3, max_length = 500)]
    reason: String,
}

/// One order of a batch.
#[derive(ToSchema)]
#[schema(as = BatchedOverride)]
#[expect(dead_code, reason = "stands for the body in the document; it is read by hand")]
pub(super) struct BatchedSchema {
    product: Sku,
    tier: Tier,
    #[schema(value_type = String, examples("5m"))]
    ttl: String,
    #[schema(min_length = 3, max_length = 500)]
    reason: String,
}

/// Up to 1,000 orders, of which all are done or none.
#[derive(ToSchema)]
#[schema(as = OverrideBatch)]
#[expect(dead_code, reason = "stands for the body in the document; it is read by hand")]
pub(super) struct BatchSchema {
    #[schema(min_items = 1, max_items = 1000)]
    overrides: Vec<BatchedSchema>,
}

/// Overrides in force.
#[utoipa::path(get, path = "/v1/overrides", tag = "overrides", operation_id = "overrides",
    security(("bearer" = ["viewer", "merchandiser", "operator"])),
    responses((status = 200, body = Overrides, description = "All of them")))]
pub(super) async fn list(caller: Caller, State(state): State<ApiState>) -> Result<Json<Overrides>, Refusal> {
    caller.require(READERS)?;
    let (view, now) = (state.view.borrow().clone(), state.clock.now());
    let overrides = view.overrides.iter().filter(|(_, o)| o.holds(now)).map(|(sku, o)| Shown::new(sku, o)).collect();
    Ok(Json(Overrides { generation: view.generation, overrides }))
}

/// A product's override, with its version as `ETag`.
#[utoipa::path(get, path = "/v1/overrides/{product}", tag = "overrides", operation_id = "override",
    params(("product" = Sku, Path), ("If-None-Match" = Option<String>, Header)),
    security(("bearer" = ["viewer", "merchandiser", "operator"])),
    responses((status = 200, body = Shown, description = "In force"), (status = 304, description = "Unchanged")))]
pub(super) async fn get(
    caller: Caller,
    State(state): State<ApiState>,
    Path(product): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    caller.require(READERS)?;
    let product = Sku::new(&product).map_err(|_| no_product(&product))?;
    let (view, now) = (state.view.borrow().clone(), state.clock.now());
    let none = || Problem::new(ProblemKind::NOT_FOUND, format!("{product} has no override"));
    let order = view.overrides.get(&product).filter(|o| o.holds(now)).ok_or_else(none)?;
    let tag = [(header::ETAG, etag::print(order.generation))];
    if etag::is_known(&headers, order.generation) {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    Ok((tag, Json(Shown::new(&product, order))).into_response())
}

/// Sets a product's tier until an end. `wait=applied` waits up to 5 s until every core that sells it has moved.
#[utoipa::path(put, path = "/v1/overrides/{product}", tag = "overrides", operation_id = "set_override",
    params(("product" = Sku, Path), ("wait" = Option<String>, Query, description = "`applied`"),
        ("If-Match" = Option<String>, Header), ("If-None-Match" = Option<String>, Header, description = "`*`")),
    request_body = OrderSchema, security(("bearer" = ["operator"])),
    responses((status = 200, body = Shown, description = "Replaced"), (status = 201, body = Shown, description = "New")),
    extensions(("x-problems" = json!(["version-conflict", "too-many-overrides", "standby", "unavailable"]))))]
pub(super) async fn put(
    caller: Caller,
    State(state): State<ApiState>,
    Path(product): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let by = caller.require(WRITERS)?.subject.to_string();
    let wait = waits(query.as_deref())?;
    let expects = etag::expects(&headers)?;
    let order = body::order(&headers, &body)?;
    let product = Sku::new(&product).map_err(|_| no_product(&product))?;
    let order = OverrideOrder { product, tier: order.tier, ttl: order.ttl, why: order.reason, expects };
    let (product, order, created) = set(&state, vec![order], by).await?.pop().ok_or_else(undone)?;
    let mut shown = Shown::new(&product, &order);
    if wait {
        shown.applied = Some(state.until(|state| is_applied(state, &product, order.generation)).await);
    }
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, [(header::ETAG, etag::print(order.generation))], Json(shown)).into_response())
}

/// Sets up to 1,000 overrides in one generation: all, or none.
#[utoipa::path(post, path = "/v1/overrides:batch", tag = "overrides", operation_id = "set_overrides",
    params(("wait" = Option<String>, Query, description = "`applied`")),
    request_body = BatchSchema, security(("bearer" = ["operator"])),
    responses((status = 200, body = Overrides, description = "All are in force")),
    extensions(("x-problems" = json!(["not-found", "too-many-overrides", "standby", "unavailable"]))))]
pub(super) async fn batch(
    caller: Caller,
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Overrides>, Refusal> {
    let by = caller.require(WRITERS)?.subject.to_string();
    let wait = waits(query.as_deref())?;
    let orders = body::batch(&headers, &body)?.into_iter().map(|(product, order)| OverrideOrder {
        product,
        tier: order.tier,
        ttl: order.ttl,
        why: order.reason,
        expects: Expects::Anything,
    });
    let set = set(&state, orders.collect(), by).await?;
    let generation = set.first().map(|(_, order, _)| order.generation).ok_or_else(undone)?;
    let mut overrides: Vec<_> = set.iter().map(|(product, order, _)| Shown::new(product, order)).collect();
    if wait {
        let all = |state: &ApiState| set.iter().all(|(product, ..)| is_applied(state, product, generation));
        state.until(all).await;
        for shown in &mut overrides {
            shown.applied = Some(is_applied(&state, &shown.product, generation));
        }
    }
    Ok(Json(Overrides { generation, overrides }))
}

/// What was taken back, and the generation that says so.
#[derive(Serialize, ToSchema)]
pub(super) struct TakenBack {
    product: Sku,
    generation: Generation,
}

/// Takes a product's override back: heat decides again.
#[utoipa::path(delete, path = "/v1/overrides/{product}", tag = "overrides", operation_id = "remove_override",
    params(("product" = Sku, Path), ("If-Match" = Option<String>, Header)), security(("bearer" = ["operator"])),
    responses((status = 200, body = TakenBack, description = "Taken back")),
    extensions(("x-problems" = json!(["malformed", "version-conflict", "standby", "unavailable"]))))]
pub(super) async fn delete(
    caller: Caller,
    State(state): State<ApiState>,
    Path(product): Path<String>,
    headers: HeaderMap,
) -> Result<Json<TakenBack>, Refusal> {
    let by = caller.require(WRITERS)?.subject.to_string();
    let expects = etag::expects(&headers)?;
    let product = Sku::new(&product).map_err(|_| no_product(&product))?;
    match state.order(Order::Remove { product: product.clone(), by, expects }).await? {
        Ordered::Done { generation, .. } => Ok(Json(TakenBack { product, generation })),
        _ => Err(undone().into()),
    }
}

async fn set(state: &ApiState, orders: Vec<OverrideOrder>, by: String) -> Result<Vec<(Sku, Override, bool)>, Refusal> {
    match state.order(Order::Set { orders, by }).await? {
        Ordered::Set { orders } => Ok(orders),
        _ => Err(undone().into()),
    }
}

fn undone() -> Problem {
    Problem::new(ProblemKind::INTERNAL, "an order was answered with what was not asked for")
}

/// Whether every core that sells the product enforces this generation or a newer one.
fn is_applied(state: &ApiState, product: &Sku, generation: Generation) -> bool {
    let view = state.view.borrow().clone();
    view.generation >= generation
        && view.decisions.get(product).is_some_and(|decision| {
            let cores = state.cores();
            let said = Applied::new(&cores, Some(product), state.clock.now(), state.core_silence);
            said.enforcement(product, decision) == Enforcement::Applied
        })
}
