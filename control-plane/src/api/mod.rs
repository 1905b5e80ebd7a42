//! The ops REST: what people may ask and order. It checks and translates; the plan's owner decides.

mod body;
mod etag;
mod overrides;
mod reads;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http_kit::{Limits, Problem, ProblemKind, SharedAuthenticator, authenticate, harden};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use types::{Clock, Role};

use crate::brain::Command;
use crate::metrics as names;
use crate::plan_store::{PlanStore, StoreError};
use crate::reconcile::CoreView;
use crate::view::PlanView;

/// Who may read.
const READERS: &[Role] = &[Role::Viewer, Role::Merchandiser, Role::Operator, Role::Admin];
/// Who may order.
const WRITERS: &[Role] = &[Role::Operator, Role::Admin];

/// The caller's version is not the present one.
const CONFLICT: ProblemKind = ProblemKind::new("version-conflict", "Changed by somebody else", StatusCode::CONFLICT);
/// [`crate::brain::MAX_OVERRIDES`] are in force.
const TOO_MANY: ProblemKind =
    ProblemKind::new("too-many-overrides", "Too many overrides", StatusCode::TOO_MANY_REQUESTS);

/// What the handlers use. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ApiState {
    pub commands: mpsc::Sender<Command>,
    pub view: watch::Receiver<Arc<PlanView>>,
    pub cores: Arc<[watch::Receiver<CoreView>]>,
    pub cores_changed: watch::Receiver<u64>,
    pub store: PlanStore,
    pub clock: Arc<dyn Clock>,
    /// A core not heard for this long does not count as enforcing anything.
    pub core_silence: Duration,
    pub shutdown: CancellationToken,
}

impl ApiState {
    fn cores(&self) -> Vec<CoreView> {
        self.cores.iter().map(|core| core.borrow().clone()).collect()
    }
}

/// The whole listener: our routes and `extra` (metrics, health), authenticated and hardened.
pub(crate) fn router(state: ApiState, authenticator: SharedAuthenticator, extra: Router) -> Router {
    let ours = Router::new()
        .route("/v1/overrides", get(overrides::list))
        .route("/v1/overrides/{product}", get(overrides::get).put(overrides::put).delete(overrides::delete))
        .route("/v1/plan", get(reads::plan))
        .route("/v1/cores", get(reads::cores))
        .route("/v1/audit", get(reads::audit))
        .with_state(state);
    let all = ours.merge(extra).layer(middleware::from_fn_with_state(authenticator, authenticate));
    harden(all, Limits { concurrent: CONCURRENT, ..Limits::default() }).layer(middleware::from_fn(count_refusals))
}

/// People and their dashboards; waiting calls hold a place for up to 5 s.
const CONCURRENT: usize = 1_000;

async fn count_refusals(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        let label = match status.as_u16() {
            400 => "400",
            401 => "401",
            403 => "403",
            404 => "404",
            405 => "405",
            409 => "409",
            413 => "413",
            415 => "415",
            422 => "422",
            429 => "429",
            503 => "503",
            other if other < 500 => "4xx",
            _ => "5xx",
        };
        metrics::counter!(names::REFUSED, "status" => label).increment(1);
    }
    response
}

/// A refusal on its way to the caller.
#[derive(Debug)]
struct Refusal(Problem);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}
impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}
impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = %error, "a call of the ops REST failed in the plan store");
        Self(Problem::new(ProblemKind::UNAVAILABLE, "the plan store failed; nothing was changed").retry_after(1))
    }
}

fn busy() -> Problem {
    Problem::new(ProblemKind::OVERLOADED, "too many orders at once, or shutting down; try again").retry_after(1)
}

fn field(path: &str, detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::INVALID_FIELD, detail).field(path)
}

fn no_product(text: &str) -> Problem {
    // What was sent may be long or odd; only what could be a product is repeated.
    let named = types::Sku::new(text).map_or_else(|_| "of that name".to_owned(), |sku| sku.to_string());
    Problem::new(ProblemKind::NOT_FOUND, format!("no core sells a product {named}"))
}
