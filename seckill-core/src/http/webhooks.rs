//! Administration of webhooks: who is told of which order events, how far each is, what each refused. It shows a
//! secret's name and never a secret.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use http_kit::{Problem, ProblemKind};
use serde::{Deserialize, Serialize};
use types::order_event::OrderEventKind;
use types::{OrderId, Role, Timestamp};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::extract::{Named, Object, Params, page_length, unknown};
use super::problems;
use super::staff::{Open, Staff};
use crate::stock::webhook_store::{ALL_KINDS, Dead, MAX_PARKED, WebhookName, WebhookPut, WebhookRow, WebhookSpec};
use crate::webhooks::send::check_url;

/// Sees them: an address tells something of the shop's inside.
pub(super) struct Keepers;
impl Open for Keepers {
    const TO: &'static [Role] = &[Role::Operator, Role::Admin];
}
/// Says where orders are sent: buyers go with them.
pub(super) struct Makers;
impl Open for Makers {
    const TO: &'static [Role] = &[Role::Admin];
}
/// Dead letters in one answer.
const MAX_DEAD: usize = 500;

/// The body of a change.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookWish {
    /// Where events go: `http://…`.
    url: String,
    /// Which; all of them if none is named.
    #[serde(default)]
    kinds: Vec<OrderEventKind>,
    /// The name that the secret's file has in the configuration (`core.webhooks.secret_files`).
    secret: String,
    /// Of a new subscription: events above this number, 0 for all; without it those that come from now on.
    #[serde(default)]
    from: Option<u64>,
}

/// A subscription as it stands.
#[derive(Serialize, ToSchema)]
pub(super) struct WebhookView {
    name: String,
    url: String,
    kinds: Vec<OrderEventKind>,
    /// The secret's name.
    secret: String,
    /// Every event up to this number was delivered, waits for another try, or is dead.
    cursor: u64,
    /// Events above it.
    behind: u64,
    /// Events that wait for another try.
    waiting: u64,
    /// Events that were given up.
    dead: u64,
    /// The core that delivers.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_by: Option<String>,
}

/// All subscriptions.
#[derive(Serialize, ToSchema)]
pub(super) struct Webhooks {
    webhooks: Vec<WebhookView>,
}

impl WebhookView {
    fn new(row: WebhookRow, newest: u64) -> Self {
        Self {
            name: row.spec.name.to_string(),
            url: row.spec.url,
            kinds: row.spec.kinds,
            secret: row.spec.secret,
            cursor: row.cursor,
            behind: newest.saturating_sub(row.cursor),
            waiting: row.parked,
            dead: row.dead,
            held_by: row.held.map(|(holder, _)| holder),
        }
    }
}

async fn views(app: &App) -> Result<Vec<WebhookView>, Problem> {
    let rows = app.sql.webhooks().await.map_err(|e| problems::store(&e))?;
    let newest = app.sql.newest_step().await.map_err(|e| problems::store(&e))?;
    Ok(rows.into_iter().map(|row| WebhookView::new(row, newest)).collect())
}

async fn view(app: &App, name: &WebhookName) -> Result<WebhookView, Problem> {
    views(app).await?.into_iter().find(|view| view.name == name.as_str()).ok_or_else(unknown)
}

/// All webhooks and how far each is.
#[utoipa::path(get, path = "/v1/webhooks", tag = "webhooks", operation_id = "list_webhooks",
    security(("bearer" = ["operator"])), responses((status = 200, body = Webhooks, description = "All webhooks")),
    extensions(("x-problems" = json!(["unavailable"]))))]
pub(super) async fn list(State(app): State<App>, _staff: Staff<Keepers>) -> Result<Json<Webhooks>, Problem> {
    Ok(Json(Webhooks { webhooks: views(&app).await? }))
}

/// One webhook.
#[utoipa::path(get, path = "/v1/webhooks/{webhook}", tag = "webhooks", operation_id = "show_webhook",
    params(("webhook" = String, Path, pattern = "^[a-z0-9-]{1,32}$")), security(("bearer" = ["operator"])),
    responses((status = 200, body = WebhookView, description = "The webhook")),
    extensions(("x-problems" = json!(["unavailable"]))))]
pub(super) async fn show(
    State(app): State<App>,
    _staff: Staff<Keepers>,
    Named(name): Named<WebhookName>,
) -> Result<Json<WebhookView>, Problem> {
    Ok(Json(view(&app, &name).await?))
}

/// Makes a webhook, or changes where it sends, what, and with which secret; its progress stays.
#[utoipa::path(put, path = "/v1/webhooks/{webhook}", tag = "webhooks", operation_id = "put_webhook",
    params(("webhook" = String, Path, pattern = "^[a-z0-9-]{1,32}$")), request_body = WebhookWish,
    security(("bearer" = ["admin"])),
    responses((status = 201, body = WebhookView, description = "It is new"),
        (status = 200, body = WebhookView, description = "It is changed")),
    extensions(("x-problems" = json!(["too-many-webhooks", "unavailable"]))))]
pub(super) async fn put(
    State(app): State<App>,
    staff: Staff<Makers>,
    Named(name): Named<WebhookName>,
    Object(wish): Object<WebhookWish>,
) -> Result<Response, Problem> {
    let by = staff.by.subject;
    let invalid = |field: &str, why: String| Problem::new(ProblemKind::INVALID_FIELD, why).field(field);
    let options = &app.shared.options.webhooks;
    check_url(&wish.url, options.networks).map_err(|why| invalid("url", why))?;
    if !options.secret_files.contains_key(&wish.secret) {
        return Err(invalid("secret", "the configuration has no such name in core.webhooks.secret_files".into()));
    }
    let wanted = |kind: &OrderEventKind| wish.kinds.is_empty() || wish.kinds.contains(kind);
    let kinds = ALL_KINDS.into_iter().filter(wanted).collect();
    let spec = WebhookSpec { name: name.clone(), url: wish.url, kinds, secret: wish.secret };
    let put = app.sql.put_webhook(spec, wish.from, app.shared.now()).await.map_err(|e| problems::store(&e))?;
    let status = match put {
        WebhookPut::Created => StatusCode::CREATED,
        WebhookPut::Updated => StatusCode::OK,
        WebhookPut::TooMany => {
            return Err(Problem::new(problems::TOO_MANY_WEBHOOKS, "remove one that is not needed any more"));
        }
    };
    tracing::info!(webhook = %name, by = %by, created = status == StatusCode::CREATED, "webhook changed");
    Ok((status, Json(view(&app, &name).await?)).into_response())
}

/// Removes a webhook with its progress and its dead letters.
#[utoipa::path(delete, path = "/v1/webhooks/{webhook}", tag = "webhooks", operation_id = "remove_webhook",
    params(("webhook" = String, Path, pattern = "^[a-z0-9-]{1,32}$")), security(("bearer" = ["admin"])),
    responses((status = 204, description = "It is gone")),
    extensions(("x-problems" = json!(["unavailable"]))))]
pub(super) async fn remove(
    State(app): State<App>,
    staff: Staff<Makers>,
    Named(name): Named<WebhookName>,
) -> Result<StatusCode, Problem> {
    let by = staff.by.subject;
    if !app.sql.remove_webhook(&name).await.map_err(|e| problems::store(&e))? {
        return Err(unknown());
    }
    tracing::info!(webhook = %name, by = %by, "webhook removed");
    Ok(StatusCode::NO_CONTENT)
}

/// `?after=&limit=`.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    /// The last number of the page before.
    #[serde(default)]
    after: u64,
    /// Dead letters in the answer.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
}

/// An event that was given up.
#[derive(Serialize, ToSchema)]
pub(super) struct DeadLetter {
    sequence: u64,
    order: OrderId,
    /// Tries that counted.
    attempts: u32,
    /// When it was given up.
    at: Timestamp,
    /// What came of the last try.
    reason: String,
}

impl From<Dead> for DeadLetter {
    fn from(dead: Dead) -> Self {
        let Dead { sequence, order, attempts, at, reason } = dead;
        Self { sequence, order, attempts, at, reason }
    }
}

/// Events that were given up, in order.
#[derive(Serialize, ToSchema)]
pub(super) struct DeadLetters {
    dead_letters: Vec<DeadLetter>,
}

/// What a webhook's receiver refused until it was given up.
#[utoipa::path(get, path = "/v1/webhooks/{webhook}/dead-letters", tag = "webhooks",
    operation_id = "webhook_dead_letters", params(("webhook" = String, Path, pattern = "^[a-z0-9-]{1,32}$"), After),
    security(("bearer" = ["operator"])),
    responses((status = 200, body = DeadLetters, description = "A page of dead letters")),
    extensions(("x-problems" = json!(["malformed", "invalid-field", "unavailable"]))))]
pub(super) async fn dead_letters(
    State(app): State<App>,
    _staff: Staff<Keepers>,
    Named(name): Named<WebhookName>,
    Params(page): Params<After>,
) -> Result<Json<DeadLetters>, Problem> {
    let length = page_length(page.limit, MAX_DEAD)?;
    let dead = app.sql.dead_letters(&name, page.after, length).await.map_err(|e| problems::store(&e))?;
    Ok(Json(DeadLetters { dead_letters: dead.into_iter().map(DeadLetter::from).collect() }))
}

/// What to send again: `{"from": 17}` or `{"dead_letters": true}`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Again {
    /// Every event above this number, as if it had never been sent.
    #[serde(default)]
    from: Option<u64>,
    /// The dead letters, the oldest first, at most 1000 at once.
    #[serde(default)]
    dead_letters: bool,
}

/// What will be sent again.
#[derive(Serialize, ToSchema)]
pub(super) struct Replay {
    /// Dead letters that wait for another try now.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letters: Option<usize>,
    webhook: WebhookView,
}

/// Sends events again, from a number on or the dead letters. A receiver knows them by their numbers.
#[utoipa::path(post, path = "/v1/webhooks/{webhook}/replay", tag = "webhooks", operation_id = "replay_webhook",
    params(("webhook" = String, Path, pattern = "^[a-z0-9-]{1,32}$")), request_body = Again,
    security(("bearer" = ["operator"])), responses((status = 200, body = Replay, description = "It will be sent again")),
    extensions(("x-problems" = json!(["unavailable"]))))]
pub(super) async fn replay(
    State(app): State<App>,
    staff: Staff<Keepers>,
    Named(name): Named<WebhookName>,
    Object(again): Object<Again>,
) -> Result<Json<Replay>, Problem> {
    let by = staff.by.subject;
    let moved = match (again.from, again.dead_letters) {
        (Some(from), false) => {
            let newest = app.sql.newest_step().await.map_err(|e| problems::store(&e))?;
            if from > newest {
                let why = format!("{from} is not here yet: the newest step is {newest}");
                return Err(Problem::new(ProblemKind::INVALID_FIELD, why).field("from"));
            }
            app.sql.replay_from(&name, from).await.map_err(|e| problems::store(&e))?.then_some(None)
        }
        (None, true) => {
            let moved = app.sql.replay_dead(&name, MAX_PARKED, app.shared.now()).await;
            moved.map_err(|e| problems::store(&e))?.map(Some)
        }
        _ => return Err(Problem::new(ProblemKind::INVALID_FIELD, "say either `from` or `dead_letters`: true")),
    };
    let dead_letters = moved.ok_or_else(unknown)?;
    tracing::info!(webhook = %name, by = %by, from = again.from, dead_letters, "webhook sends again");
    Ok(Json(Replay { dead_letters, webhook: view(&app, &name).await? }))
}
