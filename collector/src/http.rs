//! The private listener of a collector that is a process of its own. It shows the books and where the collector
//! stands; it must never show a line's bytes.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http_kit::{Limits, Problem, ProblemKind, harden};
use serde::Serialize;

use crate::account::Accounting;
use crate::handle::Handle;
use crate::source::PartitionStatus;
use crate::store::DeadLetter;
use crate::tail::FileStatus;

/// Most dead letters shown: with [`crate::redact::MAX_SHOWN`] each, some 100 KB.
const SHOWN: u32 = 100;

/// `GET /v1/accounting`.
#[derive(Debug, Serialize)]
struct Books {
    #[serde(flatten)]
    books: Accounting,
    /// Lines that ended; equal to `lines`.
    ended: u64,
    /// Whether each line ended exactly once.
    balanced: bool,
    files: Vec<FileStatus>,
    partitions: Vec<PartitionStatus>,
}

pub(crate) fn router(handle: Handle, telemetry: Router) -> Router {
    let own = Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/v1/accounting", get(accounting))
        .route("/v1/dead-letters", get(dead_letters))
        .with_state(handle);
    harden(own.merge(telemetry), Limits::default())
}

/// Ready: the books balance and every log can be read. One that waits for its log to be there is ready.
async fn ready(State(handle): State<Handle>) -> Response {
    let refuse = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response();
    if !handle.is_running() {
        return refuse("the collector has ended".to_owned());
    }
    if !handle.accounting().adds_up() {
        return refuse("the books do not add up; this is a defect".to_owned());
    }
    match handle.files().into_iter().find_map(|file| file.trouble) {
        Some(_) => refuse("a log cannot be read; /v1/accounting says which".to_owned()),
        None => "ready\n".into_response(),
    }
}

/// The newest dead letters, redacted.
async fn dead_letters(State(handle): State<Handle>) -> Result<Json<Vec<DeadLetter>>, Problem> {
    handle.dead_letters(SHOWN).await.map(Json).map_err(|error| {
        tracing::warn!(%error, "dead letters cannot be read");
        Problem::new(ProblemKind::UNAVAILABLE, "the collector's store cannot be read at present")
    })
}

async fn accounting(State(handle): State<Handle>) -> Json<Books> {
    let books = handle.accounting();
    Json(Books {
        ended: books.ended(),
        balanced: books.adds_up(),
        books,
        files: handle.files(),
        partitions: handle.partitions(),
    })
}
