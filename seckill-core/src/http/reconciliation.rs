//! Reconciliation: our orders of a sale as CSV, and the differences between the shop's own book and ours. Both are
//! streamed; an answer that broke off is cut off, never ended. Nothing is changed.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use http_kit::{Problem, ProblemKind};
use serde::Deserialize;
use tokio::sync::{Semaphore, SemaphorePermit};
use types::SaleName;
use types::order_event::OrderEventKind;
use utoipa::IntoParams;

use super::App;
use super::extract::Params;
use super::order_feed::sees_buyers;
use super::problems;
use super::staff::{Readers, Staff};
use crate::reconcile::{Book, Difference};
use crate::stock::sql_store::SqlStore;
use crate::stock::store::OrderRow;

/// Places that one read spans: at most so many orders are in memory.
const SPAN: u64 = 5_000;
/// Largest book that is taken, some 700,000 orders; a larger one is compared sale by sale.
const MAX_BOOK: usize = 48 * 1024 * 1024;
/// Books that are compared at once in this process: each may fill the memory of the largest one.
static BOOKS: Semaphore = Semaphore::const_new(2);

/// `?sale=`.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct OfSale {
    /// Which sale's orders.
    sale: SaleName,
}

/// Our orders of one sale, read span by span.
struct Ours {
    sql: Arc<dyn SqlStore>,
    sale: SaleName,
    after: u64,
    last: u64,
}

impl Ours {
    async fn of(app: &App, sale: SaleName) -> Result<Self, Problem> {
        let last = app.sql.last_arrival().await.map_err(|e| problems::store(&e))?;
        Ok(Self { sql: app.sql.clone(), sale, after: 0, last })
    }

    /// The next ones; `None` at the end.
    async fn next(&mut self) -> Result<Option<Vec<OrderRow>>, std::io::Error> {
        if self.after >= self.last {
            return Ok(None);
        }
        let to = self.last.min(self.after + SPAN);
        let rows = self.sql.arrived(&self.sale, self.after, to).await.map_err(|error| {
            tracing::warn!(%error, "a reconciliation was cut off");
            std::io::Error::other("the store failed")
        })?;
        self.after = to;
        Ok(Some(rows))
    }
}

fn csv_of<const N: usize>(rows: impl IntoIterator<Item = [String; N]>) -> Result<Bytes, std::io::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.write_record(&row)?;
    }
    writer.into_inner().map(Bytes::from).map_err(|e| std::io::Error::other(e.to_string()))
}

fn answer(stream: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static) -> Response {
    ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], Body::from_stream(stream)).into_response()
}

/// All orders of a sale as CSV, in the order in which they were accepted; whose they are only for callers to whom
/// personal data is open.
#[utoipa::path(get, path = "/v1/reconciliation.csv", tag = "orders", operation_id = "orders_csv", params(OfSale),
    security(("bearer" = ["viewer", "merchandiser", "operator"])),
    responses((status = 200, body = String, content_type = "text/csv", description = "A line for each order")),
    extensions(("x-problems" = json!(["malformed", "invalid-field", "unavailable"]))))]
pub(super) async fn orders(
    State(app): State<App>,
    staff: Staff<Readers>,
    Params(of): Params<OfSale>,
) -> Result<Response, Problem> {
    const HEADER: [&str; 9] =
        ["order", "state", "amount", "currency", "sale", "product", "quantity", "accepted_at", "buyer"];
    let with_buyer = sees_buyers(&staff.by);
    let ours = Ours::of(&app, of.sale).await?;
    let row = move |o: OrderRow| {
        [
            o.order.to_string(),
            OrderEventKind::from(o.state).as_str().to_owned(),
            o.amount.minor().to_string(),
            o.amount.currency().to_string(),
            o.sale.to_string(),
            o.product.to_string(),
            o.quantity.to_string(),
            o.accepted_at.to_string(),
            if with_buyer { o.buyer.to_string() } else { String::new() },
        ]
    };
    Ok(answer(futures::stream::try_unfold((ours, true), move |(mut ours, first)| async move {
        if first {
            return Ok(Some((csv_of([HEADER.map(str::to_owned)])?, (ours, false))));
        }
        let Some(rows) = ours.next().await? else { return Ok(None) };
        Ok(Some((csv_of(rows.into_iter().map(row))?, (ours, false))))
    })))
}

/// A comparison under way.
struct Comparison {
    ours: Ours,
    /// `None` once what only the shop has was told.
    book: Option<Book>,
    first: bool,
    _turn: SemaphorePermit<'static>,
}

fn lines(differences: impl IntoIterator<Item = Difference>) -> Result<Bytes, std::io::Error> {
    csv_of(differences.into_iter().map(|d| [d.order.to_string(), d.what.to_owned(), d.ours, d.theirs]))
}

impl Comparison {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, std::io::Error> {
        if std::mem::take(&mut self.first) {
            return Ok(Some((csv_of([["order", "difference", "ours", "theirs"].map(str::to_owned)])?, self)));
        }
        let Some(mut book) = self.book.take() else { return Ok(None) };
        let Some(rows) = self.ours.next().await? else { return Ok(Some((lines(book.rest())?, self))) };
        let found: Vec<_> = rows.iter().flat_map(|row| book.compare(row)).collect();
        self.book = Some(book);
        Ok(Some((lines(found)?, self)))
    }
}

/// The differences between the shop's book (a CSV with the columns `order`, `state`, `amount`, `currency`) and ours, as
/// CSV: `missing-here`, `missing-there`, `state`, `amount`. Only its header line means that they are equal.
#[utoipa::path(post, path = "/v1/reconciliation", tag = "orders", operation_id = "reconcile", params(OfSale),
    request_body(content = String, content_type = "text/csv", description = "The shop's book"),
    security(("bearer" = ["viewer", "merchandiser", "operator"])),
    responses((status = 200, body = String, content_type = "text/csv", description = "A line for each difference")),
    extensions(("x-problems" = json!(["malformed", "invalid-field", "unavailable"]))))]
pub(super) async fn compare(
    State(app): State<App>,
    _staff: Staff<Readers>,
    Params(of): Params<OfSale>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    let essence = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !essence.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/csv") {
        return Err(Problem::new(ProblemKind::MEDIA_TYPE, "send the book as text/csv"));
    }
    let turn = BOOKS.try_acquire().map_err(|_| {
        Problem::new(ProblemKind::OVERLOADED, "other books are being compared; try again").retry_after(5)
    })?;
    let too_large = |_| Problem::new(ProblemKind::TOO_LARGE, format!("a book may have {MAX_BOOK} bytes"));
    let text = axum::body::to_bytes(request.into_body(), MAX_BOOK).await.map_err(too_large)?;
    let book = tokio::task::spawn_blocking(move || Book::read(&*text)).await;
    let book = book.map_err(|_| Problem::new(ProblemKind::INTERNAL, "the book could not be read"))?;
    let book = book.map_err(|errors| Problem::new(ProblemKind::INVALID_FIELD, errors.join("; ")))?;
    let ours = Ours::of(&app, of.sale).await?;
    let comparison = Comparison { ours, book: Some(book), first: true, _turn: turn };
    Ok(answer(futures::stream::try_unfold(comparison, Comparison::next)))
}
