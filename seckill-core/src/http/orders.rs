//! A shopper's own orders: list, show, cancel, pay. Whose they are is checked by the store, in its `WHERE`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_kit::{Problem, ProblemKind};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;
use types::{BuyerId, OrderId, Timestamp};
use utoipa::IntoParams;

use super::App;
use super::extract::{Named, Params, PreferWait, Shopper, Wait, page_length, unknown};
use super::problems;
use super::view::{OrderView, Orders, PaymentView};
use crate::payment::desk::Started;
use crate::payment::notice::Settled;
use crate::stock::order_feed::PageEnd;
use crate::stock::payment_store::PaymentState;
use crate::stock::store::{OrderChange, OrderRow, OrderState};

/// Orders in one answer, newest first.
const MAX_ORDERS: usize = 100;

/// `?cursor=&limit=`.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// `next` of the page before; without it the list begins with the newest order.
    cursor: Option<String>,
    /// Orders in the page.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
}

/// The cursor says where a page ended, so that orders which come meanwhile move nothing. It is no secret: whose
/// orders are shown is the token's to say.
fn cursor(end: PageEnd) -> String {
    format!("{:x}-{}", end.accepted_at.millis(), end.order)
}

fn read_cursor(text: &str) -> Option<PageEnd> {
    let (at, order) = text.split_once('-')?;
    let at = i64::from_str_radix(at, 16).ok().filter(|ms| *ms >= 0)?;
    Some(PageEnd { accepted_at: Timestamp::from_millis(at), order: order.parse().ok()? })
}

/// The caller's orders, newest first, at most 100 in a page.
#[utoipa::path(get, path = "/v1/orders", tag = "orders", operation_id = "list_orders", params(Page),
    security(("bearer" = ["shopper"])), responses((status = 200, body = Orders, description = "A page of orders")),
    extensions(("x-problems" = json!(["malformed", "invalid-field", "unavailable"]))))]
pub(super) async fn list(
    State(app): State<App>,
    Shopper(buyer): Shopper,
    Params(page): Params<Page>,
) -> Result<Json<Orders>, Problem> {
    let length = page_length(page.limit, MAX_ORDERS)?;
    let bad =
        || Problem::new(ProblemKind::MALFORMED, "not a cursor that this list gave: begin without one").field("cursor");
    let after = page.cursor.map(|text| read_cursor(&text).ok_or_else(bad)).transpose()?;
    // One more than asked for says whether there is more.
    let mut rows = app.sql.orders_page(&buyer, after, length + 1).await.map_err(|e| problems::store(&e))?;
    let more = rows.len() > length;
    rows.truncate(length);
    let last = rows.last().filter(|_| more).map(|row| PageEnd { accepted_at: row.accepted_at, order: row.order });
    Ok(Json(Orders { orders: rows.into_iter().map(OrderView::from).collect(), next: last.map(cursor) }))
}

async fn find(app: &App, order: OrderId, buyer: &BuyerId) -> Result<OrderRow, Problem> {
    let row = app.shared.store.order(order, buyer).await.map_err(|e| problems::store(&e))?;
    row.ok_or_else(unknown)
}

/// One of the caller's orders; another's is not found.
#[utoipa::path(get, path = "/v1/orders/{order}", tag = "orders", operation_id = "show_order",
    params(("order" = OrderId, Path)), security(("bearer" = ["shopper"])),
    responses((status = 200, body = OrderView, description = "The order")),
    extensions(("x-problems" = json!(["unavailable"]))))]
pub(super) async fn one(
    State(app): State<App>,
    Shopper(buyer): Shopper,
    Named(order): Named<OrderId>,
) -> Result<Json<OrderView>, Problem> {
    Ok(Json(find(&app, order, &buyer).await?.into()))
}

/// Gives up an order: an unpaid one frees its units, a paid one is to be refunded. A repeat has its answer again.
#[utoipa::path(post, path = "/v1/orders/{order}/cancel", tag = "orders",
    params(("order" = OrderId, Path)), security(("bearer" = ["shopper"])),
    responses((status = 200, body = OrderView, description = "The order as it now is")),
    extensions(("x-problems" = json!(["order-state", "unavailable"]))))]
pub(super) async fn cancel(
    State(app): State<App>,
    Shopper(buyer): Shopper,
    Named(order): Named<OrderId>,
) -> Result<Json<OrderView>, Problem> {
    match app.shared.store.cancel(order, &buyer, app.shared.now()).await.map_err(|e| problems::store(&e))? {
        OrderChange::Changed(row) => {
            app.shared.wake_outbox.notify_one();
            app.shared.units_came_back(&row.product).await;
            Ok(Json(row.into()))
        }
        // A repeat has its answer again.
        OrderChange::InState(row)
            if matches!(row.state, OrderState::Cancelled | OrderState::RefundDue | OrderState::Refunded) =>
        {
            Ok(Json(row.into()))
        }
        OrderChange::InState(row) => Err(problems::wrong_state(row.state)),
        OrderChange::Unknown => Err(unknown()),
    }
}

/// Longest time between two looks of a call that waits: the callback may have gone to another core.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How a waited-for payment ended.
enum End {
    Paid(OrderRow),
    Refunded,
    Failed,
    /// Not yet.
    Unknown,
}

/// Waits for the end of a payment: told by this core's own desk, or seen in the order.
async fn ended(
    app: &App,
    order: OrderId,
    buyer: &BuyerId,
    mut told: watch::Receiver<Option<Settled>>,
    wait: Duration,
) -> Result<End, Problem> {
    let until = Instant::now() + wait;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let settled = tokio::time::timeout(left.min(LOOK_EVERY), told.wait_for(Option::is_some));
        // Without a sender there is nothing to wait for, and the next look is the last.
        let settled = settled.await.map(|told| told.ok().and_then(|settled| *settled));
        match settled {
            Ok(Some(Settled::Failed)) => return Ok(End::Failed),
            Ok(Some(Settled::Kept(PaymentState::RefundDue | PaymentState::Refunded))) => return Ok(End::Refunded),
            _ => {}
        }
        let row = find(app, order, buyer).await?;
        match row.state {
            OrderState::Paid => return Ok(End::Paid(row)),
            OrderState::RefundDue | OrderState::Refunded => return Ok(End::Refunded),
            // Told, or never to be told: nothing more will be seen here.
            _ if settled.is_ok() || left.is_zero() => return Ok(End::Unknown),
            OrderState::Accepted | OrderState::Expired | OrderState::Cancelled => {}
        }
    }
}

/// Starts a payment at the provider; with `Prefer: wait=N` its end is waited for.
#[utoipa::path(post, path = "/v1/orders/{order}/pay", tag = "orders",
    params(("order" = OrderId, Path), PreferWait), security(("bearer" = ["shopper"])),
    responses((status = 200, body = OrderView, description = "Paid"),
        (status = 202, body = PaymentView, description = "Started; the order shows its end",
            headers(("Location" = String), ("Retry-After" = u64)))),
    extensions(("x-problems" = json!(["order-state", "payment-failed", "refund-due", "unavailable"]))))]
pub(super) async fn pay(
    State(app): State<App>,
    Shopper(buyer): Shopper,
    Named(order): Named<OrderId>,
    Wait(wait): Wait,
) -> Result<Response, Problem> {
    let row = find(&app, order, &buyer).await?;
    let (amount, expires_at) = (row.amount, row.expires_at);
    let (payment, state) = match app.desk.start(&app.shared, &row).await {
        Started::UnderWay(payment, told) => {
            if let Some(wait) = wait {
                match ended(&app, order, &buyer, told, wait).await? {
                    End::Paid(row) => return Ok(Json(OrderView::from(row)).into_response()),
                    End::Refunded => {
                        return Err(Problem::new(
                            problems::REFUND_DUE,
                            "it did not fit the order any more, or its amount was wrong: the money goes back",
                        ));
                    }
                    End::Failed => {
                        return Err(Problem::new(problems::PAYMENT_FAILED, "try again or pay in another way"));
                    }
                    End::Unknown => {}
                }
            }
            (Some(payment), "started")
        }
        Started::ByTheShop => (None, "external"),
        // Paid already: the same answer as to whoever waited for it.
        Started::InState(OrderState::Paid) => return Ok(Json(OrderView::from(row)).into_response()),
        Started::InState(state) => return Err(problems::wrong_state(state)),
        Started::Unavailable => {
            let why = "the payment provider takes nothing now; try again";
            return Err(Problem::new(ProblemKind::UNAVAILABLE, why).retry_after(2));
        }
    };
    let view = PaymentView { payment, order, state, amount, expires_at };
    let mut response = (StatusCode::ACCEPTED, Json(view)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from(1u64));
    if let Ok(path) = HeaderValue::from_str(&format!("/v1/orders/{order}")) {
        headers.insert(header::LOCATION, path);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_nonsense_is_none() {
        let end = PageEnd { accepted_at: Timestamp::from_millis(1_795_000_000_123), order: OrderId::from_bits(77) };
        assert_eq!(read_cursor(&cursor(end)), Some(end));
        for bad in ["", "-", "1-", "-1-0", "x-00", "1-00", "ffffffffffffffffffff-00000000000000000000000000000001"] {
            assert_eq!(read_cursor(bad), None, "{bad:?}");
        }
    }
}
