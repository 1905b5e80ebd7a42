//! `/v1/policy`: the planner's numbers, with their versions. A change can be tried before it is made.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_kit::{Caller, Problem, ProblemKind};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::oneshot;
use types::plan::Reason;
use types::{Sku, Tier};
use utoipa::ToSchema;

use super::{ApiState, READERS, Refusal, WRITERS, body, busy, etag, field, reads};
use crate::brain::{Command, Order, Ordered};
use crate::plan_store::PolicyRow;
use crate::policy::Policy;

/// Most moves that a dry run shows; a policy that moves more is clear enough.
const SHOWN: usize = 1_000;
/// Versions in one answer unless the caller says otherwise: policies are few.
const VERSIONS: usize = 100;

/// The policy in force.
#[derive(Serialize, ToSchema)]
pub(super) struct PolicyView {
    version: u64,
    policy: Policy,
}

/// A policy to be set, every number of it, and why.
#[derive(ToSchema)]
#[schema(as = PolicyOrder)]
#[expect(dead_code, reason = "stands for the body in the document; it is read by hand")]
pub(super) struct PolicySchema {
    policy: Policy,
    #[schema(min_length = 3, max_length = 500)]
    reason: String,
}

/// A number that differs.
#[derive(Serialize, ToSchema)]
pub(super) struct Difference {
    field: String,
    from: Value,
    to: Value,
}

/// A move that another policy would make now.
#[derive(Serialize, ToSchema)]
pub(super) struct Moved {
    product: Sku,
    from: Tier,
    to: Tier,
    #[serde(flatten)]
    reason: Reason,
}

/// What another policy would change. Nothing was changed.
#[derive(Serialize, ToSchema)]
pub(super) struct DryRun {
    dry_run: bool,
    /// The version in force.
    version: u64,
    differs: Vec<Difference>,
    /// Moves of the next tick, at most 1,000.
    would_move: Vec<Moved>,
}

/// The policy in force, with its version as `ETag`.
#[utoipa::path(get, path = "/v1/policy", tag = "policy", operation_id = "policy",
    params(("If-None-Match" = Option<String>, Header)), security(("bearer" = ["viewer", "merchandiser", "operator"])),
    responses((status = 200, body = PolicyView, description = "In force"), (status = 304, description = "Unchanged")))]
pub(super) async fn get(
    caller: Caller,
    State(state): State<ApiState>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    caller.require(READERS)?;
    let view = state.view.borrow().clone();
    let tag = [(header::ETAG, etag::print_policy(view.policy_version))];
    if etag::knows_policy(&headers, view.policy_version) {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    let body = PolicyView { version: view.policy_version, policy: (*view.policy).clone() };
    Ok((tag, Json(body)).into_response())
}

/// Sets the policy. With `dry_run=true` nothing is changed: the answer says what differs and which products would move.
#[utoipa::path(put, path = "/v1/policy", tag = "policy", operation_id = "set_policy",
    params(("dry_run" = Option<bool>, Query), ("If-Match" = Option<String>, Header)),
    request_body = PolicySchema, security(("bearer" = ["operator"])),
    responses((status = 200, body = PolicyView, description = "In force; of a dry run `DryRun`")),
    extensions(("x-problems" = json!(["version-conflict", "standby", "unavailable"]))))]
pub(super) async fn put(
    caller: Caller,
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let by = caller.require(WRITERS)?.subject.to_string();
    let given = reads::parameters(query.as_deref(), &["dry_run"])?;
    let dry_run = match given.first().map(|(_, value)| value.as_str()) {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(field("dry_run", "is neither true nor false").into()),
    };
    let versions = etag::policy_versions(&headers)?;
    let (policy, why) = body::policy(&headers, &body)?;
    if dry_run {
        return dry(&state, policy).await;
    }
    let order = Order::SetPolicy { policy: Box::new(policy.clone()), by, why, versions };
    let Ordered::PolicySet { version } = state.order(order).await? else {
        return Err(Problem::new(ProblemKind::INTERNAL, "a policy was answered with what was not asked for").into());
    };
    Ok(([(header::ETAG, etag::print_policy(version))], Json(PolicyView { version, policy })).into_response())
}

async fn dry(state: &ApiState, policy: Policy) -> Result<Response, Refusal> {
    let view = state.view.borrow().clone();
    let differs = differences(&view.policy, &policy);
    let (answer, answered) = oneshot::channel();
    state.send(Command::Try(Box::new(policy), SHOWN, answer))?;
    let moves = answered.await.map_err(|_| busy())?;
    let would_move =
        moves.into_iter().map(|m| Moved { product: m.product, from: m.from, to: m.to, reason: m.reason }).collect();
    Ok(Json(DryRun { dry_run: true, version: view.policy_version, differs, would_move }).into_response())
}

fn differences(from: &Policy, to: &Policy) -> Vec<Difference> {
    let (Ok(Value::Object(from)), Ok(Value::Object(to))) = (serde_json::to_value(from), serde_json::to_value(to))
    else {
        return Vec::new();
    };
    let differs = |(name, from): (String, Value)| {
        let to = to.get(&name)?;
        (from != *to).then(|| Difference { field: name, from, to: to.clone() })
    };
    from.into_iter().filter_map(differs).collect()
}

/// Versions of the policy.
#[derive(Serialize, ToSchema)]
pub(super) struct Versions {
    versions: Vec<PolicyRow>,
}

/// Versions of the policy, newest first: who, when, why.
#[utoipa::path(get, path = "/v1/policy/versions", tag = "policy", operation_id = "policy_versions",
    params(("limit" = Option<u64>, Query)), security(("bearer" = ["viewer", "merchandiser", "operator"])),
    responses((status = 200, body = Versions, description = "Newest first")),
    extensions(("x-problems" = json!(["invalid-field", "unavailable"]))))]
pub(super) async fn versions(
    caller: Caller,
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Versions>, Refusal> {
    caller.require(READERS)?;
    let given = reads::parameters(query.as_deref(), &["limit"])?;
    Ok(Json(Versions { versions: state.store.policies(reads::limit(&given, VERSIONS)?).await? }))
}
