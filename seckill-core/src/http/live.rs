//! Live updates: passes and the WebSocket. Whose events are shown comes from the pass alone, and the pass from a
//! token; everything that is wrong with a call is said before the connection is open.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_kit::{Problem, ProblemKind};
use serde::{Deserialize, Serialize};
use types::Timestamp;
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::extract::Shopper;
use super::problems;
use crate::live::message::MAX_FRAME;
use crate::live::{connection, metrics, origin, pass};

/// What one connection may have waiting to be written; it is written at once, so this is one slow write.
const WRITE_BUFFER: usize = 4 * MAX_FRAME;

/// A plain call of what is a WebSocket.
pub(super) const UPGRADE: ProblemKind =
    ProblemKind::new("upgrade-required", "WebSocket only", StatusCode::UPGRADE_REQUIRED);
/// A page of another site.
pub(super) const ORIGIN: ProblemKind =
    ProblemKind::new("foreign-origin", "Pages of this origin may not connect", StatusCode::FORBIDDEN);

/// A new pass.
#[derive(Serialize, ToSchema)]
pub(super) struct PassView {
    pass: String,
    expires_at: Timestamp,
}

/// A pass for one connection of this shopper, good once and for half a minute.
#[utoipa::path(post, path = "/v1/live/passes", tag = "live", security(("bearer" = ["shopper"])),
    responses((status = 201, body = PassView, description = "The pass; it is said once")),
    extensions(("x-problems" = json!(["unavailable"]))))]
pub(super) async fn issue(State(app): State<App>, Shopper(buyer): Shopper) -> Result<Response, Problem> {
    let shared = &app.shared;
    let text = pass::text(shared.ids.secret());
    let digest = pass::digest(&text).ok_or_else(|| Problem::new(ProblemKind::INTERNAL, "no pass was made"))?;
    let expires_at = shared.now().plus(shared.live.options.pass_life);
    app.sql.issue_pass(&digest, &buyer, expires_at).await.map_err(|e| problems::store(&e))?;
    let mut response = (StatusCode::CREATED, Json(PassView { pass: text, expires_at })).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What stands behind the `?`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// From `POST /v1/live/passes`.
    pass: Option<String>,
    /// The cursor of the last message that had one.
    resume_from: Option<u64>,
}

fn refused(why: &'static str, problem: Problem) -> Problem {
    metrics::refused(why);
    problem
}

/// Order events of the pass's buyer over a WebSocket (`docs/LIVE.md`), from behind the cursor `resume_from` or from a
/// snapshot.
#[utoipa::path(get, path = "/v1/live", tag = "live", params(Asked),
    responses((status = 101, description = "A WebSocket")),
    extensions(("x-problems" = json!(["upgrade-required", "foreign-origin", "invalid-field", "unauthenticated",
        "unavailable"]))))]
pub(super) async fn open(
    State(app): State<App>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let (shared, sql) = (app.shared, app.sql);
    let upgrade = upgrade.map_err(|_| {
        let why = "this is a WebSocket (version 13) over HTTP/1.1; get a pass from POST /v1/live/passes";
        refused("no_upgrade", Problem::new(UPGRADE, why))
    })?;
    let origins = headers.get_all(header::ORIGIN).iter().count();
    let one = |name| headers.get(name).map(HeaderValue::as_bytes);
    if origins > 1 || !origin::allowed(one(header::ORIGIN), one(header::HOST), &shared.live.options.origins) {
        return Err(refused("origin", Problem::new(ORIGIN, "connect from a page of the shop")));
    }
    let Query(asked) = asked.map_err(|rejection| {
        let problem = Problem::new(ProblemKind::INVALID_FIELD, rejection.body_text());
        refused("query", problem)
    })?;
    let no_pass = || {
        let why = "the pass is missing, used or too old; get a new one from POST /v1/live/passes";
        refused("pass", Problem::new(ProblemKind::UNAUTHENTICATED, why))
    };
    let busy = || {
        let problem = Problem::new(ProblemKind::OVERLOADED, "this core holds as many connections as it may");
        refused("full", problem.retry_after(5))
    };
    let digest = asked.pass.as_deref().and_then(pass::digest).ok_or_else(no_pass)?;
    if !shared.live.has_room() {
        return Err(busy());
    }
    let buyer = sql.use_pass(&digest, shared.now()).await.map_err(|e| problems::store(&e))?;
    let place = shared.live.take_place(buyer.ok_or_else(no_pass)?, asked.resume_from).ok_or_else(busy)?;
    let live = shared.live.clone();
    Ok(upgrade
        .read_buffer_size(MAX_FRAME)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER)
        .max_frame_size(MAX_FRAME)
        .max_message_size(MAX_FRAME)
        .on_upgrade(move |socket| {
            let serving = connection::serve(socket, shared, sql, place, asked.resume_from);
            live.connections.track_future(serving)
        }))
}
