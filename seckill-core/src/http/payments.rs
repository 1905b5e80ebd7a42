//! Money at the doors: the provider's signed callback, and the shop's own steps with orders and payments. A callback
//! is believed for its signature alone; what it means is settled behind the door, and always answered definitely.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use http_kit::Problem;
use serde::{Deserialize, Serialize};
use types::{Currency, OrderId, PaymentId};
use utoipa::ToSchema;

use super::App;
use super::extract::{Named, Object, object, object_type, unknown};
use super::problems;
use super::staff::{Sellers, Staff};
use super::view::OrderView;
use crate::metrics;
use crate::payment::notice::{MoneyState, Notice, NoticeBody, Settled};
use crate::payment::signature::{self, BadSignature};
use crate::stock::payment_store::{OrderOffice, PaymentState};
use crate::stock::store::{OrderChange, OrderState};

/// Seconds after which a callback that nothing could be done with is to be sent again.
const AGAIN: u64 = 5;

/// A payment as it stands.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PaymentStands {
    payment: PaymentId,
    order: OrderId,
    /// `paid`, `refund_due`, `refunded` or `failed`.
    #[schema(example = "paid")]
    state: &'static str,
}

/// `POST /v1/payments/callback`: 200 with the payment's state, the same for every repeat. Nothing is written where it
/// answers anything else; 404 and 503 ask for a repeat.
#[utoipa::path(post, path = "/v1/payments/callback", tag = "payments", request_body = NoticeBody,
    params(("X-Payment-Signature" = String, Header,
        description = "`t=<seconds>,v1=<hexadecimal HMAC-SHA256 of \"<seconds>.<body>\">`, at most 300 s from now")),
    responses((status = 200, body = PaymentStands, description = "How the payment stands, the same for every repeat")),
    extensions(("x-problems" = json!(["bad-signature", "stale-signature", "unknown-order", "unknown-payment",
        "payment-conflict", "unavailable"]))))]
pub(super) async fn callback(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    let answered = take(&app, &headers, &body).await;
    match answered {
        Ok(stands) => {
            metrics::callback(stands.state);
            (StatusCode::OK, Json(stands)).into_response()
        }
        Err(problem) => {
            metrics::callback(problem.kind().name);
            problem.into_response()
        }
    }
}

async fn take(app: &App, headers: &HeaderMap, body: &[u8]) -> Result<PaymentStands, Problem> {
    let now = app.shared.now();
    let mut signatures = headers.get_all(signature::HEADER).iter();
    let proved = match (signatures.next().and_then(|value| value.to_str().ok()), signatures.next()) {
        (Some(one), None) => app.desk.keys.verify(one, body, now),
        _ => Err(BadSignature::Malformed),
    };
    proved.map_err(|why| {
        let kind = if why == BadSignature::Stale { problems::STALE_SIGNATURE } else { problems::BAD_SIGNATURE };
        Problem::new(kind, why.to_string())
    })?;
    object_type(headers)?;
    let notice = Notice::try_from(object::<NoticeBody>(body)?)?;
    stands(app, notice).await
}

/// Settles a notice, and says how the payment stands.
async fn stands(app: &App, notice: Notice) -> Result<PaymentStands, Problem> {
    let Notice { payment, order, .. } = notice;
    let say = |state| Ok(PaymentStands { payment, order, state });
    match app.desk.settle(&app.shared, notice).await.map_err(|e| problems::store(&e))? {
        Settled::Kept(state) => say(state.as_str()),
        Settled::Failed => say("failed"),
        Settled::UnknownOrder => {
            let why = "no such order, yet: nothing was written; send it again";
            Err(Problem::new(problems::UNKNOWN_ORDER, why).retry_after(AGAIN))
        }
        Settled::UnknownPayment => {
            let why = "no such payment, yet, so that none has gone back: nothing was written; send it again";
            Err(Problem::new(problems::UNKNOWN_PAYMENT, why).retry_after(AGAIN))
        }
        Settled::Conflict(state) => {
            let why =
                format!("it is in the books as {} for another order or amount: use an id of its own", state.as_str());
            Err(Problem::new(problems::PAYMENT_CONFLICT, why).field("payment"))
        }
    }
}

/// A payment that the shop has taken itself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Taken {
    payment: PaymentId,
    amount: u64,
    currency: Currency,
}

/// `POST /v1/orders/{order}/confirm` (administration): the shop has the money. As a callback that says `paid`.
#[utoipa::path(post, path = "/v1/orders/{order}/confirm", tag = "payments",
    params(("order" = OrderId, Path)), request_body = Taken, security(("bearer" = ["merchandiser"])),
    responses((status = 200, body = PaymentStands, description = "How the payment stands, the same for every repeat")),
    extensions(("x-problems" = json!(["not-external", "unknown-order", "payment-conflict", "unavailable"]))))]
pub(super) async fn confirm(
    State(app): State<App>,
    Staff { by, .. }: Staff<Sellers>,
    Named(order): Named<OrderId>,
    Object(taken): Object<Taken>,
) -> Result<Json<PaymentStands>, Problem> {
    if !app.desk.provider.is_external() {
        return Err(Problem::new(problems::NOT_EXTERNAL, "the configured provider says itself what is paid"));
    }
    let Taken { payment, amount, currency } = taken;
    let notice = Notice::try_from(NoticeBody { payment, order, amount, currency, status: MoneyState::Paid })?;
    let stands = stands(&app, notice).await?;
    tracing::info!(%order, %payment, state = stands.state, by = by.subject.as_str(), "payment confirmed");
    Ok(Json(stands))
}

/// `POST /v1/orders/{order}/release` (administration): an unpaid order is cancelled by the shop.
#[utoipa::path(post, path = "/v1/orders/{order}/release", tag = "payments",
    params(("order" = OrderId, Path)), security(("bearer" = ["merchandiser"])),
    responses((status = 200, body = OrderView, description = "The order as it now is")),
    extensions(("x-problems" = json!(["order-state", "unavailable"]))))]
pub(super) async fn release(
    State(app): State<App>,
    Staff { by, .. }: Staff<Sellers>,
    Named(order): Named<OrderId>,
) -> Result<Json<OrderView>, Problem> {
    step(&app, order, OrderOffice::Release, &[OrderState::Cancelled], by.subject.as_str()).await
}

/// `POST /v1/orders/{order}/refund` (administration): a paid order's money goes back, and its units are sold again.
#[utoipa::path(post, path = "/v1/orders/{order}/refund", tag = "payments",
    params(("order" = OrderId, Path)), security(("bearer" = ["merchandiser"])),
    responses((status = 200, body = OrderView, description = "The order as it now is")),
    extensions(("x-problems" = json!(["order-state", "unavailable"]))))]
pub(super) async fn refund(
    State(app): State<App>,
    Staff { by, .. }: Staff<Sellers>,
    Named(order): Named<OrderId>,
) -> Result<Json<OrderView>, Problem> {
    step(&app, order, OrderOffice::Refund, &[OrderState::RefundDue, OrderState::Refunded], by.subject.as_str()).await
}

/// A step; `done` are the states in which a repeat finds it.
async fn step(
    app: &App,
    order: OrderId,
    office: OrderOffice,
    done: &[OrderState],
    by: &str,
) -> Result<Json<OrderView>, Problem> {
    let now = app.shared.now();
    match app.sql.shop_step(order, office, now).await.map_err(|e| problems::store(&e))? {
        OrderChange::Changed(row) => {
            tracing::info!(%order, ?office, by, "the shop's own step with an order");
            app.shared.wake_outbox.notify_one();
            if office == OrderOffice::Refund {
                metrics::payment(PaymentState::RefundDue.as_str());
                app.desk.wake_refunds.notify_one();
            }
            app.shared.units_came_back(&row.product).await;
            Ok(Json(row.into()))
        }
        OrderChange::InState(row) if done.contains(&row.state) => Ok(Json(row.into())),
        OrderChange::InState(row) => Err(problems::wrong_state(row.state)),
        OrderChange::Unknown => Err(unknown()),
    }
}
