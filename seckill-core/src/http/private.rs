//! The private listener: plans pushed by the control plane, the core's state, health.

use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use http_kit::{Caller, Problem, ProblemKind};
use serde::Serialize;
use types::Role;
use types::plan::{CoreState, MAX_PUSH_ENTRIES, PlanAnswer, PlanPush};

use super::App;
use super::extract::Object;
use super::problems;
use crate::plan_client::PlanError;

/// Without a sign of life for this long a part counts as not running.
const ALIVE: Duration = Duration::from_secs(5);

/// The control plane. Asked for before a body, which may have megabytes: from nobody else is one read.
pub(super) struct Planner;

impl<S: Send + Sync> FromRequestParts<S> for Planner {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Caller::from_request_parts(parts, state).await?.require(&[Role::Control]).map(|_| Self)
    }
}

/// Takes a plan, whole or as a delta; an older one is answered, not applied.
#[utoipa::path(post, path = "/internal/plan", tag = "plan", request_body = PlanPush,
    security(("bearer" = ["control"])), responses((status = 200, body = PlanAnswer, description = "Taken or not")),
    extensions(("x-problems" = json!(["unavailable"]))))]
pub(super) async fn plan(
    State(app): State<App>,
    _: Planner,
    Object(push): Object<PlanPush>,
) -> Result<Json<PlanAnswer>, Problem> {
    if push.entries.len() > MAX_PUSH_ENTRIES {
        let why = format!("{} entries; at most {MAX_PUSH_ENTRIES} in one push", push.entries.len());
        return Err(Problem::new(ProblemKind::INVALID_FIELD, why).field("entries"));
    }
    match app.plan.push(&app.shared, push).await {
        Ok(answer) => Ok(Json(answer)),
        Err(PlanError::Store(error)) => Err(problems::store(&error)),
        Err(error @ PlanError::Disk { .. }) => {
            tracing::error!(%error, "a plan was not kept");
            Err(Problem::new(ProblemKind::UNAVAILABLE, "the plan could not be written; push again").retry_after(1))
        }
    }
}

/// What the planner needs to know of this core.
#[utoipa::path(get, path = "/internal/state", tag = "plan", operation_id = "core_state",
    security(("bearer" = ["control", "viewer", "operator"])),
    responses((status = 200, body = CoreState, description = "Its products as they are")))]
pub(super) async fn state(State(app): State<App>, caller: Caller) -> Result<Json<CoreState>, Problem> {
    caller.require(&[Role::Control, Role::Viewer, Role::Operator])?;
    Ok(Json(app.plan.state(&app.shared)))
}

/// A process's health.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Health {
    status: &'static str,
}

/// The process serves.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = Health, description = "Alive")))]
pub(super) async fn alive() -> Json<Health> {
    Json(Health { status: "alive" })
}

/// It can take purchases: the store was read lately and both consumers poll.
#[utoipa::path(get, path = "/readyz", tag = "health", responses((status = 200, body = Health, description = "Ready")),
    extensions(("x-problems" = json!(["not-ready"]))))]
pub(super) async fn ready(State(app): State<App>) -> Result<Json<Health>, Problem> {
    let shared = &app.shared;
    let parts = [
        ("stock store", shared.table.staleness() <= ALIVE),
        ("consumer of purchase-grants", shared.grants_pulse.alive(ALIVE)),
        ("consumer of purchase-queue", shared.queue_pulse.alive(ALIVE)),
    ];
    let missing: Vec<_> = parts.iter().filter(|(_, up)| !up).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(Json(Health { status: "ready" }));
    }
    Err(Problem::new(problems::NOT_READY, format!("not running: {}", missing.join(", "))).retry_after(1))
}
