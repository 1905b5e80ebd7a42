//! The edges' call for admission credits. It reads what is being asked for again, so that credits follow sales within
//! a few milliseconds; it decides nothing about stock.

use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use futures::StreamExt;
use http_kit::{Caller, Problem, ProblemKind};
use serde::Deserialize;
use tokio::time::Instant;
use types::{EdgeId, Role, Tier};
use utoipa::IntoParams;

use super::App;
use super::extract::Params;
use crate::credits::{self, CreditsAnswer, MAX_CORES, MAX_EDGES, Shares};
use crate::metrics;
use crate::stock::queue::backlog;

/// What was asked for within this time is read again: by then every edge has had its answer to the last purchase.
const BUSY: Duration = Duration::from_secs(1);
/// Most products that one call reads again; the others are read twice a second anyway.
const REREAD: usize = 256;
/// Reads at once: enough to hide a database's round trips, few enough to leave it to purchases.
const AT_ONCE: usize = 8;

/// An edge. Asked for before what it asks: from nobody else is a query looked at.
pub(super) struct ByEdge;

impl<S: Send + Sync> FromRequestParts<S> for ByEdge {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Caller::from_request_parts(parts, state).await?.require(&[Role::Edge]).map(|_| Self)
    }
}

/// Who asks.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asking {
    /// The edge's name: each edge its own.
    #[param(value_type = String, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._~-]+$")]
    edge: EdgeId,
    /// Among how many cores the edge divides: those that it reaches.
    #[serde(default = "one")]
    #[param(minimum = 1, maximum = 100)]
    cores: u64,
    /// The `version` of the last answer that the edge has taken.
    have: Option<String>,
}

const fn one() -> u64 {
    1
}

/// How many purchase calls the edge may let through, asked for every 250 ms. Credits of an edge that gets no answer
/// end after a second.
#[utoipa::path(get, path = "/internal/edge/credits", tag = "edge", operation_id = "edge_credits", params(Asking),
    security(("bearer" = ["edge"])),
    responses((status = 200, body = CreditsAnswer, description = "Credits of every product, or what has changed")),
    extensions(("x-problems" = json!(["overloaded"]))))]
pub(super) async fn credits(
    State(app): State<App>,
    _: ByEdge,
    Params(asking): Params<Asking>,
) -> Result<Json<CreditsAnswer>, Problem> {
    if asking.cores == 0 || asking.cores > MAX_CORES {
        let why = format!("{} is not in 1 to {MAX_CORES}", asking.cores);
        return Err(Problem::new(ProblemKind::INVALID_FIELD, why).field("cores"));
    }
    let shared = &app.shared;
    let Some(edges) = shared.edges.asks(&asking.edge, Instant::now()) else {
        let why = format!("{MAX_EDGES} edges ask already; give each a name that it keeps");
        return Err(Problem::new(ProblemKind::OVERLOADED, why).retry_after(1));
    };
    let busy = shared.table.asked_within(BUSY).into_iter().take(REREAD);
    let reads = futures::stream::iter(busy).map(async |slot| shared.table.reread(&slot).await);
    let failed = reads.buffer_unordered(AT_ONCE).filter(|read| futures::future::ready(read.is_err())).count().await;
    if failed > 0 {
        // Their rows are older; the age below says how old.
        metrics::retry("credits");
    }
    let (now, age) = (shared.now(), shared.table.staleness());
    let shares = Shares { edges, cores: asking.cores };
    let entries = shared.table.slots().into_iter().map(|slot| {
        let row = slot.row();
        let product = &row.state.product;
        let undecided = shared.backlog.waiting(product) + shared.granted.waiting(product);
        let queue = row.state.tier == Tier::Queue;
        let rate = shared.queue_rate.get();
        let room = queue.then(|| backlog::bound(row.state.sellable, shared.options.deadline, rate));
        credits::entry(&row, undecided, room, shares, now)
    });
    let answer = shared.edges.answer(&asking.edge, asking.have.as_deref(), &shared.core, now, age, entries.collect());
    metrics::edges(shared.edges.len());
    Ok(Json(answer))
}
