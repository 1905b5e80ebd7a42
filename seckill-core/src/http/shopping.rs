//! The purchase call and its tickets. Who buys comes from the token, what it costs from the store; the body says
//! only how many.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_kit::{Problem, ProblemKind};
use serde::Deserialize;
use tracing::Instrument as _;
use types::sale::MAX_LIMIT;
use types::{BuyerId, OrderId, SaleName, Sku};

use super::App;
use super::extract::{IdempotencyKeyHeader, Key, Named2, Object, PreferWait, Request, Shopper, Wait, unknown};
use super::problems;
use super::view::{OrderView, Pending, TicketView};
use crate::admission::{self, Refusal};
use crate::challenge::MAX_ANSWER;
use crate::purchase::{self, Ask, PurchaseOutcome, TicketState};
use crate::stock::store::OrderRow;

/// For the edge, which hides it: nothing at all is left, so that it may say so to others for a moment.
const NOTHING_LEFT: HeaderName = HeaderName::from_static("x-nothing-left");

/// A purchase. Anything that is not here is refused.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Purchase)]
pub(super) struct Body {
    #[schema(minimum = 1, maximum = 1000)]
    quantity: u32,
    /// From `POST …/token`, where the sale asks for one.
    #[serde(default)]
    #[schema(max_length = 80)]
    token: Option<String>,
}

/// Buys. The same key has the same answer for ever; a refusal at the door (409 `all-reserved`, 410, 425, 429, 503)
/// binds nothing. 202 is a ticket, whose end its `Location` tells; `Prefer: wait=N` waits for that end.
#[utoipa::path(post, path = "/v1/sales/{sale}/products/{product}/purchases", tag = "purchase",
    params(("sale" = SaleName, Path), ("product" = Sku, Path), IdempotencyKeyHeader, PreferWait),
    request_body = Body, security(("bearer" = ["shopper"])),
    responses((status = 201, body = OrderView, description = "The order; it is committed", headers(("Location" = String))),
        (status = 202, body = Pending, description = "On its way, with a ticket",
            headers(("Location" = String), ("Retry-After" = u64)))),
    extensions(("x-problems" = json!(["sold-out", "all-reserved", "limit", "deadline", "sale-ended", "not-open",
        "paused", "key-reused", "token-required", "token-invalid", "token-used", "backlog", "draining", "unavailable"]))))]
pub(super) async fn purchase(
    State(app): State<App>,
    Shopper(buyer): Shopper,
    Named2(sale, product): Named2<SaleName, Sku>,
    Key(key): Key,
    Wait(wait): Wait,
    Request(request): Request,
    Object(body): Object<Body>,
) -> Result<Response, Problem> {
    if body.quantity == 0 || body.quantity > MAX_LIMIT {
        let why = format!("{} is not in 1 to {MAX_LIMIT}", body.quantity);
        return Err(Problem::new(ProblemKind::INVALID_FIELD, why).field("quantity"));
    }
    let span =
        tracing::debug_span!("purchase", request = request.as_ref().map_or("", |r| r.as_str()), product = %product);
    let ask = Ask {
        buyer: buyer.clone(),
        key,
        sale,
        product: product.clone(),
        quantity: body.quantity,
        request,
        token: body.token,
        wait,
    };
    async {
        let outcome = purchase::purchase(&app.shared, ask).await;
        tracing::debug!(outcome = outcome_name(&outcome), "answered");
        match outcome {
            PurchaseOutcome::Bought(row) => created(*row),
            PurchaseOutcome::Accepted(order) => accepted(&app, &buyer, order).await,
            PurchaseOutcome::Queued { ticket, position, estimate, deadline } => {
                let pending = Pending {
                    state: "pending",
                    position,
                    estimate_ms: u64::try_from(estimate.as_millis()).unwrap_or(u64::MAX),
                    deadline,
                    ticket: ticket.clone(),
                };
                let mut response = (StatusCode::ACCEPTED, Json(pending)).into_response();
                let headers = response.headers_mut();
                headers.insert(header::RETRY_AFTER, HeaderValue::from(problems::seconds(estimate)));
                headers.insert(header::LOCATION, location(&format!("/v1/tickets/{ticket}"))?);
                Ok(response)
            }
            PurchaseOutcome::Refused(refusal) => {
                let mut response = problems::refusal(refusal).into_response();
                if let Some(hint) = purchase::nothing_left(&app.shared, &product, refusal).await {
                    response.headers_mut().insert(NOTHING_LEFT, HeaderValue::from_static(hint));
                }
                Ok(response)
            }
        }
    }
    .instrument(span)
    .await
}

const fn outcome_name(outcome: &PurchaseOutcome) -> &'static str {
    match outcome {
        PurchaseOutcome::Bought(_) | PurchaseOutcome::Accepted(_) => "accepted",
        PurchaseOutcome::Queued { .. } => "queued",
        PurchaseOutcome::Refused(refusal) => refusal.as_str(),
    }
}

fn location(path: &str) -> Result<HeaderValue, Problem> {
    HeaderValue::from_str(path).map_err(|_| Problem::new(ProblemKind::INTERNAL, "the location could not be written"))
}

async fn order_of(app: &App, buyer: &BuyerId, order: OrderId) -> Result<OrderRow, Problem> {
    let row = app.shared.store.order(order, buyer).await.map_err(|e| problems::store(&e))?;
    row.ok_or_else(|| {
        // A decision names an order that is not there: never seen, and never to be hidden.
        tracing::error!(%order, "a decision names an order that does not exist");
        crate::metrics::alarm("order_missing");
        Problem::new(ProblemKind::INTERNAL, "the request id leads to the log")
    })
}

/// 201, also for a repeat: the same key has the same answer for ever; the order shows its present state.
async fn accepted(app: &App, buyer: &BuyerId, order: OrderId) -> Result<Response, Problem> {
    created(order_of(app, buyer, order).await?)
}

fn created(row: OrderRow) -> Result<Response, Problem> {
    let order = row.order;
    let mut response = (StatusCode::CREATED, Json(OrderView::from(row))).into_response();
    response.headers_mut().insert(header::LOCATION, location(&format!("/v1/orders/{order}"))?);
    Ok(response)
}

/// What was solved for a token, where the sale asks for that.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TokenWish)]
pub(super) struct Wish {
    /// The solution of the challenge that a call without it was answered with.
    #[serde(default)]
    #[schema(max_length = 2048)]
    answer: Option<String>,
}

/// A new purchase token.
#[derive(serde::Serialize, utoipa::ToSchema)]
pub(super) struct TokenView {
    token: String,
    expires_at: types::Timestamp,
}

/// A one-time token for a purchase of this product by this shopper, not before the sale is open. Where the sale's
/// policy asks for work first, the refusal `challenge-required` says which, and a second call brings the answer.
#[utoipa::path(post, path = "/v1/sales/{sale}/products/{product}/token", tag = "purchase",
    params(("sale" = SaleName, Path), ("product" = Sku, Path)),
    request_body = Wish, security(("bearer" = ["shopper"])),
    responses((status = 201, body = TokenView, description = "The token; it is good once and for a short time")),
    extensions(("x-problems" = json!(["sale-ended", "not-open", "paused", "challenge-required"]))))]
pub(super) async fn token(
    State(app): State<App>,
    Shopper(buyer): Shopper,
    Named2(sale, product): Named2<SaleName, Sku>,
    Object(wish): Object<Wish>,
) -> Result<Response, Problem> {
    let shared = &app.shared;
    let (now, slot) = (shared.now(), shared.table.get(&product));
    let row = slot.map(|slot| slot.row()).filter(|row| row.state.sale == sale);
    let row = row.ok_or_else(|| problems::refusal(Refusal::Unknown))?;
    admission::admit(&row, now).map_err(problems::refusal)?;
    if let Some(challenge) = app.challenge.pose(&row, &buyer, now) {
        let answer = wish.answer.as_deref().filter(|answer| answer.len() <= MAX_ANSWER);
        if !answer.is_some_and(|answer| app.challenge.solved(&row, &buyer, answer, now)) {
            let why =
                if wish.answer.is_some() { "this does not solve it, or too late" } else { "solve it and call again" };
            return Err(Problem::new(problems::CHALLENGE, why).with("challenge", challenge));
        }
    }
    let expires_at = now.plus(shared.options.token_life);
    let token = shared.secret.purchase_token(shared.ids.bytes(), &buyer, &sale, &product, expires_at);
    let mut response = (StatusCode::CREATED, Json(TokenView { token, expires_at })).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What became of a purchase that was answered with 202; another's ticket is not found.
#[utoipa::path(get, path = "/v1/tickets/{ticket}", tag = "purchase", params(("ticket" = String, Path)),
    security(("bearer" = ["shopper"])),
    responses((status = 200, body = TicketView, description = "Pending, accepted or refused",
        headers(("Retry-After" = u64, description = "While pending")))),
    extensions(("x-problems" = json!(["unavailable"]))))]
pub(super) async fn ticket(
    State(app): State<App>,
    Shopper(buyer): Shopper,
    path: Result<axum::extract::Path<String>, axum::extract::rejection::PathRejection>,
) -> Result<Response, Problem> {
    let text = path.map_err(|_| unknown())?.0;
    let state = purchase::read_ticket(&app.shared, &buyer, &text).await.ok_or_else(unknown)?;
    match state.map_err(|e| problems::store(&e))? {
        TicketState::Pending { deadline } => {
            let mut response = Json(TicketView::Pending { deadline }).into_response();
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(1u64));
            Ok(response)
        }
        TicketState::Ended(PurchaseOutcome::Accepted(order)) => {
            let order = order_of(&app, &buyer, order).await?;
            Ok(Json(TicketView::Accepted { order: order.into() }).into_response())
        }
        TicketState::Ended(PurchaseOutcome::Refused(refusal)) => {
            Ok(Json(TicketView::Refused { reason: refusal.as_str() }).into_response())
        }
        // A ticket's end is read from a decision, which is none of these.
        TicketState::Ended(PurchaseOutcome::Queued { .. } | PurchaseOutcome::Bought(_)) => Err(unknown()),
    }
}
