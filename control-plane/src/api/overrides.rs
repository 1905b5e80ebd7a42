//! `GET/PUT/DELETE /v1/overrides`: an operator's tier for a product, with an end and a reason.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_kit::{Caller, Problem, ProblemKind};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use types::{Generation, Sku, Tier, Timestamp};

use super::{ApiState, CONFLICT, READERS, Refusal, TOO_MANY, WRITERS, body, busy, etag, no_product, reads};
use crate::brain::{Command, Ordered, OverrideOrder};
use crate::planner::Override;
use crate::reconcile::{Applied, Enforcement};

/// Longest wait for enforcement; a caller that wants to know later asks `GET /v1/plan`.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// An override as it is shown.
#[derive(Serialize)]
struct Shown<'a> {
    product: &'a Sku,
    tier: Tier,
    reason: &'a str,
    by: &'a str,
    at: Timestamp,
    until: Timestamp,
    generation: Generation,
    /// Only where it was waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<bool>,
}

impl<'a> Shown<'a> {
    fn new(product: &'a Sku, order: &'a Override) -> Self {
        Self {
            product,
            tier: order.tier,
            reason: &order.why,
            by: &order.by,
            at: order.at,
            until: order.until,
            generation: order.generation,
            applied: None,
        }
    }
}

pub(super) async fn list(caller: Caller, State(state): State<ApiState>) -> Result<Response, Refusal> {
    caller.require(READERS)?;
    let (view, now) = (state.view.borrow().clone(), state.clock.now());
    let all: Vec<_> = view.overrides.iter().filter(|(_, o)| o.holds(now)).map(|(sku, o)| Shown::new(sku, o)).collect();
    Ok(Json(serde_json::json!({ "generation": view.generation, "overrides": all })).into_response())
}

pub(super) async fn get(
    caller: Caller,
    State(state): State<ApiState>,
    Path(product): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    caller.require(READERS)?;
    let product = Sku::new(&product).map_err(|_| no_product(&product))?;
    let (view, now) = (state.view.borrow().clone(), state.clock.now());
    let order = view.overrides.get(&product).filter(|o| o.holds(now)).ok_or_else(|| none_there(&product))?;
    let tag = [(header::ETAG, etag::print(order.generation))];
    if etag::is_known(&headers, order.generation) {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    Ok((tag, Json(Shown::new(&product, order))).into_response())
}

pub(super) async fn put(
    caller: Caller,
    State(state): State<ApiState>,
    Path(product): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let by = caller.require(WRITERS)?.subject.to_string();
    let wait = reads::parameters(query.as_deref(), &["wait"])?;
    let wait = match wait.first().map(|(_, value)| value.as_str()) {
        None => false,
        Some("applied") => true,
        Some(_) => return Err(super::field("wait", "the only thing to wait for is: applied").into()),
    };
    let expects = etag::expects(&headers)?;
    let order = body::parse(&headers, &body)?;
    let product = Sku::new(&product).map_err(|_| no_product(&product))?;
    let (answer, answered) = oneshot::channel();
    let order =
        OverrideOrder { product: product.clone(), tier: order.tier, ttl: order.ttl, why: order.reason, by, expects };
    send(&state, Command::Set(order, answer))?;
    let (order, created) = match answered.await.map_err(|_| busy())?? {
        Ordered::Done { order: Some(order), created, .. } => (order, created),
        other => return Err(refused(&product, other).into()),
    };
    let mut shown = Shown::new(&product, &order);
    if wait {
        shown.applied = Some(applied(&state, &product, order.generation).await);
    }
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, [(header::ETAG, etag::print(order.generation))], Json(shown)).into_response())
}

pub(super) async fn delete(
    caller: Caller,
    State(state): State<ApiState>,
    Path(product): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let by = caller.require(WRITERS)?.subject.to_string();
    let expects = etag::expects(&headers)?;
    let product = Sku::new(&product).map_err(|_| no_product(&product))?;
    let (answer, answered) = oneshot::channel();
    send(&state, Command::Remove { product: product.clone(), by, expects, answer })?;
    match answered.await.map_err(|_| busy())?? {
        Ordered::Done { generation, .. } => {
            Ok(Json(serde_json::json!({ "product": product, "generation": generation })).into_response())
        }
        other => Err(refused(&product, other).into()),
    }
}

fn send(state: &ApiState, command: Command) -> Result<(), Problem> {
    state.commands.try_send(command).map_err(|e| match e {
        mpsc::error::TrySendError::Full(_) | mpsc::error::TrySendError::Closed(_) => busy(),
    })
}

fn none_there(product: &Sku) -> Problem {
    Problem::new(ProblemKind::NOT_FOUND, format!("{product} has no override"))
}

fn refused(product: &Sku, outcome: Ordered) -> Problem {
    match outcome {
        Ordered::UnknownProduct => no_product(product.as_str()),
        Ordered::NoOverride => none_there(product),
        Ordered::Conflict(Some(present)) => Problem::new(
            CONFLICT,
            format!("the override of {product} has the version {}; read it again", etag::print(present)),
        ),
        Ordered::Conflict(None) => Problem::new(CONFLICT, format!("{product} has no override (any more)")),
        Ordered::TooMany => Problem::new(TOO_MANY, "take some back before setting new ones").retry_after(10),
        Ordered::Done { .. } => Problem::new(ProblemKind::INTERNAL, "an order was done without an override"),
    }
}

/// Waits, for a bounded time, until every core that sells the product enforces this generation or a newer one.
async fn applied(state: &ApiState, product: &Sku, generation: Generation) -> bool {
    let mut changed = state.cores_changed.clone();
    let enforced = || {
        let view = state.view.borrow().clone();
        view.generation >= generation
            && view.decisions.get(product).is_some_and(|decision| {
                let cores = state.cores();
                let said = Applied::new(&cores, Some(product), state.clock.now(), state.core_silence);
                said.enforcement(product, decision) == Enforcement::Applied
            })
    };
    let waiting = async {
        while !enforced() {
            if changed.changed().await.is_err() {
                return false;
            }
        }
        true
    };
    tokio::select! {
        done = waiting => done,
        () = tokio::time::sleep(LONGEST_WAIT) => false,
        () = state.shutdown.cancelled() => false,
    }
}
