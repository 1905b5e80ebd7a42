//! The ops REST: what people may ask and order. It checks and translates; the plan's owner decides.

mod body;
mod etag;
mod events;
mod overrides;
mod policy;
mod reads;
mod stops;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http_kit::openapi::{About, documented};
use http_kit::{Limits, Problem, ProblemKind, SharedAuthenticator, authenticate, harden};
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use types::{Clock, Generation, Role};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::brain::{Command, Order, Ordered, Refused};
use crate::metrics as names;
use crate::plan_store::{PlanStore, StoreError};
use crate::reconcile::CoreView;
use crate::view::{PlanView, TierMove};

/// Who may read.
const READERS: &[Role] = &[Role::Viewer, Role::Merchandiser, Role::Operator, Role::Admin];
/// Who may order.
const WRITERS: &[Role] = &[Role::Operator, Role::Admin];

/// The caller's version is not the present one.
const CONFLICT: ProblemKind = ProblemKind::new("version-conflict", "Changed by somebody else", StatusCode::CONFLICT);
/// [`crate::brain::MAX_OVERRIDES`] are in force.
const TOO_MANY: ProblemKind =
    ProblemKind::new("too-many-overrides", "Too many overrides", StatusCode::TOO_MANY_REQUESTS);

/// Another control plane leads: ask there.
const STANDBY: ProblemKind =
    ProblemKind::new("standby", "Another control plane leads", StatusCode::SERVICE_UNAVAILABLE);

/// What this listener's document is called and which refusals it names beyond the common ones.
const ABOUT: About = About {
    title: "control plane",
    description: "Plans with their reasons, overrides, pauses, policy and the audit log, for operators.",
    problems: &[CONFLICT, TOO_MANY, STANDBY],
};

/// What the handlers use. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ApiState {
    pub commands: mpsc::Sender<Command>,
    pub view: watch::Receiver<Arc<PlanView>>,
    pub cores: Arc<[watch::Receiver<CoreView>]>,
    pub cores_changed: watch::Receiver<u64>,
    pub store: Arc<dyn PlanStore>,
    pub clock: Arc<dyn Clock>,
    /// A core not heard for this long does not count as enforcing anything.
    pub core_silence: Duration,
    pub shutdown: CancellationToken,
    pub moves: broadcast::Sender<TierMove>,
    /// Places for readers of the event stream.
    pub streams: Arc<Semaphore>,
}

impl ApiState {
    fn cores(&self) -> Vec<CoreView> {
        self.cores.iter().map(|core| core.borrow().clone()).collect()
    }

    /// Gives an order and waits for what comes of it.
    async fn order(&self, order: Order) -> Result<Ordered, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Order(order, answer))?;
        match answered.await.map_err(|_| busy())?? {
            Ordered::Refused(why) => Err(refused(why).into()),
            done => Ok(done),
        }
    }

    fn send(&self, command: Command) -> Result<(), Problem> {
        self.commands.try_send(command).map_err(|_| busy())
    }

    /// Waits, for a bounded time, until this holds of what the cores say.
    async fn until(&self, holds: impl Fn(&Self) -> bool) -> bool {
        let mut changed = self.cores_changed.clone();
        let waiting = async {
            while !holds(self) {
                if changed.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::select! {
            done = waiting => done,
            () = tokio::time::sleep(LONGEST_WAIT) => false,
            () = self.shutdown.cancelled() => false,
        }
    }

    /// Whether every core that was heard lately holds this generation or a newer one.
    fn all_hold(&self, generation: Generation) -> bool {
        let now = self.clock.now();
        let cores = self.cores();
        let mut heard = cores.iter().filter(|core| core.seen.fresh(now, self.core_silence)).peekable();
        heard.peek().is_some()
            && heard.all(|core| core.seen.state.as_ref().is_some_and(|state| state.generation >= generation))
    }
}

/// Longest wait for enforcement; a caller that wants to know later asks `GET /v1/plan`.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Most readers of the event stream: dashboards and scripts of one operations team.
pub(crate) const MAX_STREAMS: usize = 200;
/// Largest body of one order: far above the longest reason.
const ORDER_BODY: usize = 64 * 1024;
/// Largest body of all: a full batch with the longest reasons.
const BATCH_BODY: usize = 4 * 1024 * 1024;

/// `?wait=applied`, or nothing.
fn waits(query: Option<&str>) -> Result<bool, Problem> {
    match reads::parameters(query, &["wait"])?.first().map(|(_, value)| value.as_str()) {
        None => Ok(false),
        Some("applied") => Ok(true),
        Some(_) => Err(field("wait", "the only thing to wait for is: applied")),
    }
}

fn routes() -> OpenApiRouter<ApiState> {
    let small = OpenApiRouter::new()
        .routes(routes!(overrides::list))
        .routes(routes!(overrides::get, overrides::put, overrides::delete))
        .routes(routes!(reads::plan))
        .routes(routes!(reads::generations))
        .routes(routes!(reads::why))
        .routes(routes!(reads::cores))
        .routes(routes!(reads::leader))
        .routes(routes!(reads::audit))
        .routes(routes!(policy::get, policy::put))
        .routes(routes!(policy::versions))
        .routes(routes!(stops::frozen, stops::freeze, stops::thaw))
        .routes(routes!(stops::paused))
        .routes(routes!(stops::pause_sale, stops::resume_sale))
        .routes(routes!(stops::pause_product, stops::resume_product))
        .routes(routes!(events::stream))
        .layer(axum::extract::DefaultBodyLimit::max(ORDER_BODY));
    small.merge(OpenApiRouter::new().routes(routes!(overrides::batch)))
}

/// The whole listener: our routes and `extra` (metrics, health), authenticated and hardened.
pub(crate) fn router(state: ApiState, authenticator: SharedAuthenticator, extra: Router) -> Router {
    let (ours, _) = documented(routes(), &ABOUT);
    let all = ours.with_state(state).merge(extra).layer(middleware::from_fn_with_state(authenticator, authenticate));
    let limits = Limits { concurrent: CONCURRENT, body: BATCH_BODY, ..Limits::default() };
    harden(all, limits).layer(middleware::from_fn(count_refusals))
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

fn refused(why: Refused) -> Problem {
    match why {
        Refused::UnknownProduct(product) => no_product(product.as_str()),
        Refused::UnknownSale(sale) => Problem::new(ProblemKind::NOT_FOUND, format!("no core sells a sale {sale}")),
        Refused::NoOverride(product) => Problem::new(ProblemKind::NOT_FOUND, format!("{product} has no override")),
        Refused::Conflict(product, Some(present)) => Problem::new(
            CONFLICT,
            format!("the override of {product} has the version {}; read it again", etag::print(present)),
        ),
        Refused::Conflict(product, None) => Problem::new(CONFLICT, format!("{product} has no override (any more)")),
        Refused::PolicyConflict(version) => {
            Problem::new(CONFLICT, format!("the policy has the version {}; read it again", etag::print_policy(version)))
        }
        Refused::TooMany(what, most) => {
            Problem::new(TOO_MANY, format!("{most} {what} are in force; take some back first")).retry_after(10)
        }
        Refused::Standby(leader) => {
            let (detail, leader) = match leader {
                Some((name, url)) => (format!("{name} leads; ask there: {url}"), url),
                None => ("no control plane leads at the moment; try again".to_owned(), String::new()),
            };
            Problem::new(STANDBY, detail).with("leader", leader).retry_after(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use testkit::openapi::{is_checked_in, operations, routes};

    use super::*;

    #[test]
    fn the_document_is_checked_in_and_names_every_route_and_no_other() {
        let (router, document) = documented(super::routes(), &ABOUT);
        assert_eq!(routes(&format!("{router:?}")), operations(&document), "router and document differ");
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi");
        is_checked_in(&document, &docs.join("control-plane.json"));
    }
}
