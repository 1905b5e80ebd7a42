//! The routes of a Druid router that its SQL clients use. It reads requests and writes answers; what a
//! query means is the engine's.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde_json::json;

use super::answer::Answer;
use super::catalog::DATASOURCES;
use super::engine::Engine;
use super::error::SqlError;
use super::metrics;
use super::options::SqlOptions;
use super::request::SqlRequest;
use crate::tables::LiveTables;

/// Carries the id under which a query can be cancelled and found in the log.
const QUERY_ID: HeaderName = HeaderName::from_static("x-druid-sql-query-id");
/// Says that the header that was asked for is there (very old Druids ignored the wish).
const HEADER_INCLUDED: HeaderName = HeaderName::from_static("x-druid-sql-header-included");
/// A body is the query as JSON (at worst six bytes for one) with its parameters.
const BODY_PER_QUERY: usize = 8;

type SharedEngine = Arc<Engine>;

/// The routes, over these snapshots. The listener brings authentication, its own limits (its time limit
/// must be longer than `options.limits.timeout`, its body limit 8 times `query_bytes`). Starts nothing:
/// each query has a thread of its own while it runs.
pub fn router(tables: Arc<dyn LiveTables>, options: SqlOptions) -> Router {
    let engine =
        Engine::new(&tables, options).expect("the tables' names and columns are constants that DataFusion accepts");
    Router::new()
        .route("/druid/v2/sql", post(query))
        .route("/druid/v2/sql/", post(query))
        .route("/druid/v2/sql/{id}", delete(cancel))
        .route("/druid/v2/datasources", get(|| async { Json(DATASOURCES) }))
        .route("/druid/v2/datasources/", get(|| async { Json(DATASOURCES) }))
        .route("/status", get(status))
        .route("/status/health", get(|| async { Json(true) }))
        .with_state(Arc::new(engine))
}

async fn status() -> Json<serde_json::Value> {
    Json(json!({ "version": env!("CARGO_PKG_VERSION"), "modules": [], "memory": {} }))
}

async fn cancel(State(engine): State<SharedEngine>, Path(id): Path<String>) -> StatusCode {
    if engine.cancel(&id) { StatusCode::ACCEPTED } else { StatusCode::NOT_FOUND }
}

async fn query(State(engine): State<SharedEngine>, request: Request) -> Response {
    let clock = &engine.options().clock;
    let started = clock.now();
    let mut id = fresh_id();
    let result = match read(&engine, request).await {
        Ok(request) => {
            if let Some(given) = &request.id {
                id.clone_from(given);
            }
            engine.run(&id, request).await
        }
        Err(error) => Err(error),
    };
    let took = clock.now().since(started);
    let outcome = result.as_ref().map_or_else(SqlError::label, |_| "ok");
    ::metrics::counter!(metrics::QUERIES, "outcome" => outcome).increment(1);
    ::metrics::histogram!(metrics::SECONDS).record(took.as_secs_f64());
    let mut response = match result {
        Ok(answer) => {
            let (rows, bytes) = (answer.rows, answer.body.len());
            tracing::debug!(query_id = id, rows, bytes, ?took, "SQL query answered");
            ::metrics::counter!(metrics::ROWS).increment(rows as u64);
            respond(answer)
        }
        Err(error) => {
            match &error {
                SqlError::Internal(detail) => tracing::error!(query_id = id, detail, ?took, "SQL query failed"),
                other => tracing::info!(query_id = id, outcome = other.label(), ?took, "SQL query refused"),
            }
            error.into_answer(engine.options().host.as_deref())
        }
    };
    // Checked when it was read, so it is always a header's value.
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(QUERY_ID, value);
    }
    response
}

async fn read(engine: &Engine, request: Request) -> Result<SqlRequest, SqlError> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let most = engine.options().limits.query_bytes.saturating_mul(BODY_PER_QUERY);
    let body = axum::body::to_bytes(request.into_body(), most)
        .await
        .map_err(|_| SqlError::Limit(format!("The request is not complete or larger than {most} bytes")))?;
    SqlRequest::read(content_type.as_deref(), &body)
}

fn respond(answer: Answer) -> Response {
    let included = answer.header_included;
    let mut response = ([(header::CONTENT_TYPE, answer.content_type)], answer.body).into_response();
    if included {
        response.headers_mut().insert(HEADER_INCLUDED, HeaderValue::from_static("yes"));
    }
    response
}

// Unique within and across processes, in a UUID's shape; not secret, so it needs no cryptographic randomness.
fn fresh_id() -> String {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (process, next) = (*PROCESS, NEXT.fetch_add(1, Ordering::Relaxed));
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        process >> 32,
        (process >> 16) & 0xffff,
        process & 0xffff,
        (next >> 48) & 0xffff,
        next & 0xffff_ffff_ffff
    )
}
