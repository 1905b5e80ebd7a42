//! What stops: `freeze` stops automatic moves, `pause` new purchases of a sale or a product, at every core. Payments of
//! what was bought go on, and resuming loses nothing, for only the door was shut.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use http_kit::{Caller, Problem, ProblemKind};
use serde::Serialize;
use types::{Generation, SaleName, Sku, Timestamp};
use utoipa::ToSchema;

use super::{ApiState, READERS, Refusal, WRITERS, body, no_product, reads, waits};
use crate::brain::{Order, Ordered};
use crate::plan_store::{Freeze, Target};

/// Why, for those who read the audit log.
#[derive(ToSchema)]
#[schema(as = Reason)]
#[expect(dead_code, reason = "stands for the body in the document; it is read by hand")]
pub(super) struct ReasonSchema {
    #[schema(min_length = 3, max_length = 500)]
    reason: String,
}

/// Whether automatic moves are stopped, by whom and why.
#[derive(Serialize, ToSchema)]
pub(super) struct Frozen {
    frozen: Option<Freeze>,
}

/// Whether automatic moves are stopped.
#[utoipa::path(get, path = "/v1/freeze", tag = "stops", operation_id = "frozen",
    security(("bearer" = ["viewer", "merchandiser", "operator"])),
    responses((status = 200, body = Frozen, description = "By whom and why")))]
pub(super) async fn frozen(caller: Caller, State(state): State<ApiState>) -> Result<Json<Frozen>, Refusal> {
    caller.require(READERS)?;
    Ok(Json(Frozen { frozen: state.view.borrow().frozen.clone() }))
}

/// Stops automatic moves. Overrides and sale starts still work.
#[utoipa::path(put, path = "/v1/freeze", tag = "stops", operation_id = "freeze", request_body = ReasonSchema,
    security(("bearer" = ["operator"])), responses((status = 200, body = Frozen, description = "Frozen")),
    extensions(("x-problems" = json!(["standby", "unavailable"]))))]
pub(super) async fn freeze(
    caller: Caller,
    State(state): State<ApiState>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Frozen>, Refusal> {
    let by = caller.require(WRITERS)?.subject.to_string();
    let why = body::reason(&headers, &body)?;
    state.order(Order::Freeze { freeze: true, by, why }).await?;
    Ok(Json(Frozen { frozen: state.view.borrow().frozen.clone() }))
}

/// Lets automatic moves go on.
#[utoipa::path(delete, path = "/v1/freeze", tag = "stops", operation_id = "thaw",
    params(("reason" = Option<String>, Query)), security(("bearer" = ["operator"])),
    responses((status = 200, body = Frozen, description = "Not frozen")),
    extensions(("x-problems" = json!(["invalid-field", "standby", "unavailable"]))))]
pub(super) async fn thaw(
    caller: Caller,
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Frozen>, Refusal> {
    let by = caller.require(WRITERS)?.subject.to_string();
    let (_, why) = ending(query.as_deref())?;
    state.order(Order::Freeze { freeze: false, by, why }).await?;
    Ok(Json(Frozen { frozen: state.view.borrow().frozen.clone() }))
}

/// A sale or a product that takes no new purchases.
#[derive(Serialize, ToSchema)]
pub(super) struct PausedOne {
    /// `sale` or `product`.
    kind: &'static str,
    name: String,
    by: String,
    why: String,
    at: Timestamp,
}

/// Everything that is paused.
#[derive(Serialize, ToSchema)]
pub(super) struct Paused {
    generation: Generation,
    paused: Vec<PausedOne>,
}

/// What is paused.
#[utoipa::path(get, path = "/v1/pauses", tag = "stops", operation_id = "pauses",
    security(("bearer" = ["viewer", "merchandiser", "operator"])),
    responses((status = 200, body = Paused, description = "Sales and products, by whom and why")))]
pub(super) async fn paused(caller: Caller, State(state): State<ApiState>) -> Result<Json<Paused>, Refusal> {
    caller.require(READERS)?;
    let view = state.view.borrow().clone();
    let paused = view.paused.iter().map(|(target, told)| PausedOne {
        kind: target.kind(),
        name: target.name().to_owned(),
        by: told.by.clone(),
        why: told.why.clone(),
        at: told.at,
    });
    Ok(Json(Paused { generation: view.generation, paused: paused.collect() }))
}

/// What came of it.
#[derive(Serialize, ToSchema)]
pub(super) struct PauseState {
    kind: &'static str,
    name: String,
    paused: bool,
    /// The generation that carries it, or carried it before.
    generation: Generation,
    /// Only where it was waited for: whether every core that was heard lately refuses (or takes) purchases.
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<bool>,
}

/// Stops new purchases of a sale at every core. `wait=applied` waits up to 5 s until every core has heard.
#[utoipa::path(put, path = "/v1/sales/{sale}/pause", tag = "stops", operation_id = "pause_sale",
    params(("sale" = String, Path), ("wait" = Option<String>, Query, description = "`applied`")),
    request_body = ReasonSchema, security(("bearer" = ["operator"])),
    responses((status = 200, body = PauseState, description = "Paused")),
    extensions(("x-problems" = json!(["too-many-overrides", "standby", "unavailable"]))))]
pub(super) async fn pause_sale(
    caller: Caller,
    State(state): State<ApiState>,
    Path(sale): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<PauseState>, Refusal> {
    let by = caller.require(WRITERS)?.subject.to_string();
    let wait = waits(query.as_deref())?;
    let why = body::reason(&headers, &body)?;
    let target = Target::Sale(sale_of(&sale)?);
    stop(&state, target, true, by, why, wait).await
}

/// Takes purchases of a sale again.
#[utoipa::path(delete, path = "/v1/sales/{sale}/pause", tag = "stops", operation_id = "resume_sale",
    params(("sale" = String, Path), ("reason" = Option<String>, Query),
        ("wait" = Option<String>, Query, description = "`applied`")), security(("bearer" = ["operator"])),
    responses((status = 200, body = PauseState, description = "Not paused")),
    extensions(("x-problems" = json!(["invalid-field", "standby", "unavailable"]))))]
pub(super) async fn resume_sale(
    caller: Caller,
    State(state): State<ApiState>,
    Path(sale): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<PauseState>, Refusal> {
    let by = caller.require(WRITERS)?.subject.to_string();
    let (wait, why) = ending(query.as_deref())?;
    let target = Target::Sale(sale_of(&sale)?);
    stop(&state, target, false, by, why, wait).await
}

/// Stops new purchases of one product at every core. `wait=applied` waits up to 5 s until every core has heard.
#[utoipa::path(put, path = "/v1/products/{product}/pause", tag = "stops", operation_id = "pause_product",
    params(("product" = Sku, Path), ("wait" = Option<String>, Query, description = "`applied`")),
    request_body = ReasonSchema, security(("bearer" = ["operator"])),
    responses((status = 200, body = PauseState, description = "Paused")),
    extensions(("x-problems" = json!(["too-many-overrides", "standby", "unavailable"]))))]
pub(super) async fn pause_product(
    caller: Caller,
    State(state): State<ApiState>,
    Path(product): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<PauseState>, Refusal> {
    let by = caller.require(WRITERS)?.subject.to_string();
    let wait = waits(query.as_deref())?;
    let why = body::reason(&headers, &body)?;
    let target = Target::Product(Sku::new(&product).map_err(|_| no_product(&product))?);
    stop(&state, target, true, by, why, wait).await
}

/// Takes purchases of a product again.
#[utoipa::path(delete, path = "/v1/products/{product}/pause", tag = "stops", operation_id = "resume_product",
    params(("product" = Sku, Path), ("reason" = Option<String>, Query),
        ("wait" = Option<String>, Query, description = "`applied`")), security(("bearer" = ["operator"])),
    responses((status = 200, body = PauseState, description = "Not paused")),
    extensions(("x-problems" = json!(["invalid-field", "standby", "unavailable"]))))]
pub(super) async fn resume_product(
    caller: Caller,
    State(state): State<ApiState>,
    Path(product): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<PauseState>, Refusal> {
    let by = caller.require(WRITERS)?.subject.to_string();
    let (wait, why) = ending(query.as_deref())?;
    let target = Target::Product(Sku::new(&product).map_err(|_| no_product(&product))?);
    stop(&state, target, false, by, why, wait).await
}

fn sale_of(text: &str) -> Result<SaleName, Problem> {
    let unknown = |_| Problem::new(ProblemKind::NOT_FOUND, "no core sells a sale of that name");
    SaleName::new(text).map_err(unknown)
}

/// `?reason=…&wait=applied` of what ends a stop.
fn ending(query: Option<&str>) -> Result<(bool, String), Problem> {
    let given = reads::parameters(query, &["reason", "wait"])?;
    let of = |name: &str| given.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    let wait = match of("wait") {
        None => false,
        Some("applied") => true,
        Some(_) => return Err(super::field("wait", "the only thing to wait for is: applied")),
    };
    let why = of("reason").map(|text| body::reason_text(text, "reason")).transpose()?;
    Ok((wait, why.unwrap_or_else(|| "taken back".to_owned())))
}

async fn stop(
    state: &ApiState,
    target: Target,
    pause: bool,
    by: String,
    why: String,
    wait: bool,
) -> Result<Json<PauseState>, Refusal> {
    let (kind, name) = (target.kind(), target.name().to_owned());
    let Ordered::Done { generation, .. } = state.order(Order::Pause { target, pause, by, why }).await? else {
        return Err(Problem::new(ProblemKind::INTERNAL, "a pause was answered with what was not asked for").into());
    };
    let applied = if wait { Some(state.until(|state| state.all_hold(generation)).await) } else { None };
    Ok(Json(PauseState { kind, name, paused: pause, generation, applied }))
}
