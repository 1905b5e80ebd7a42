//! The routes of the analyzer: the current top, one page's heat, a stream of both, and SQL. All of it reads snapshots; who
//! may read is decided here, once for all routes.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_kit::openapi::{About, documented};
use http_kit::{Caller, Limits, Problem, ProblemKind, SharedAuthenticator};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use types::{PageId, Role, Temperature, Thresholds, Timestamp};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::live::{HeatSnapshot, LiveHeat, TopPage};
use crate::sql::SqlLimits;

mod stream;

/// Who may read heat.
const READERS: [Role; 4] = [Role::Viewer, Role::Merchandiser, Role::Operator, Role::Admin];
/// Pages of `GET /v1/top` if nothing is asked for.
const DEFAULT_LIMIT: usize = 100;
/// Most pages of `GET /v1/top`: what a report holds at most.
const MAX_LIMIT: usize = crate::publish::MAX_ENTRIES as usize;
/// A JSON string of a query needs at most six bytes for one, and there are parameters.
const BODY_PER_QUERY_BYTE: usize = 8;
/// What an answer may take beyond the query itself.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Lets readers in.
#[derive(Clone)]
pub(crate) struct Guard {
    open: bool,
    authenticator: SharedAuthenticator,
}

impl Guard {
    /// `open`: everybody may read (on loopback, which the options check).
    pub(crate) fn new(open: bool, authenticator: SharedAuthenticator) -> Self {
        Self { open, authenticator }
    }
}

const ABOUT: About = About {
    title: "analyzer",
    description: "What is hot now, as it is asked for and as it changes. SQL is answered beside it, as Druid does.",
    problems: &[],
};

/// The routes of heat.
fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(top)).routes(routes!(page_heat)).routes(routes!(stream::stream))
}

/// All routes, with limits around them.
pub(crate) fn router(live: Arc<LiveHeat>, sql: Router, guard: Guard, extra: Router, limits: &SqlLimits) -> Router {
    let guard = middleware::from_fn_with_state(guard, admit);
    let (heat, _) = documented(routes().route_layer(guard.clone()), &ABOUT);
    let sql = if sql.has_routes() { sql.route_layer(guard) } else { sql };
    let limits = Limits {
        body: limits.query_bytes * BODY_PER_QUERY_BYTE,
        time: limits.timeout + ANSWER_TIME,
        ..Limits::default()
    };
    let shared = Shared { live, streams: Arc::new(Semaphore::new(stream::MAX_STREAMS)) };
    http_kit::harden(heat.with_state(shared).merge(sql).merge(extra), limits)
}

/// What the routes read.
#[derive(Debug, Clone)]
struct Shared {
    live: Arc<LiveHeat>,
    streams: Arc<Semaphore>,
}

// Druid's clients send Basic: the password is the token, the user name is not looked at.
fn token(headers: &HeaderMap) -> Option<String> {
    if let Some(bearer) = http_kit::bearer(headers) {
        return Some(bearer.to_owned());
    }
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(one), None) = (all.next(), all.next()) else { return None };
    let (scheme, pair) = one.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64_STANDARD.decode(pair.trim()).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

async fn admit(State(guard): State<Guard>, request: Request, next: Next) -> Result<Response, Problem> {
    // Load balancers ask for health without a token, as they do of Druid.
    if guard.open || request.uri().path() == "/status/health" {
        return Ok(next.run(request).await);
    }
    let unknown = |why: &str| Problem::new(ProblemKind::UNAUTHENTICATED, why);
    let headers = request.headers();
    let identity = match token(headers) {
        Some(token) => guard.authenticator.verify(&token)?,
        None if headers.contains_key(header::AUTHORIZATION) => {
            return Err(unknown("send the header Authorization: Bearer <token>, or Basic with the token as password"));
        }
        None => http_kit::auth::session(&*guard.authenticator, request.method(), headers)?.ok_or_else(|| {
            unknown("send the header Authorization: Bearer <token>, or Basic with the token as password")
        })?,
    };
    Caller(identity).require(&READERS)?;
    Ok(next.run(request).await)
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TopQuery {
    /// Most pages that are listed; 100 if it is not given.
    #[param(minimum = 1, maximum = 10_000)]
    limit: Option<usize>,
}

impl TopQuery {
    fn limit(&self) -> Result<usize, Problem> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if (1..=MAX_LIMIT).contains(&limit) {
            return Ok(limit);
        }
        let why = format!("{limit} is not 1 to {MAX_LIMIT}");
        Err(Problem::new(ProblemKind::INVALID_FIELD, why).field("limit"))
    }
}

/// The window as it stands.
#[derive(Debug, Serialize, ToSchema)]
struct TopAnswer {
    #[serde(flatten)]
    lines: Lines,
    /// Hot or warm pages that are not listed below.
    more: u64,
    /// By count descending, then page.
    top: Vec<TopPage>,
}

/// Where the lines are drawn.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct Lines {
    /// Exclusive end of the window, in event time; 1970 before the first event.
    window_end: Timestamp,
    /// When it was made, by the analyzer's clock.
    made_at: Timestamp,
    /// End of the last window that is final.
    final_to: Option<Timestamp>,
    /// Pages with at least one event in the window.
    active: u64,
    /// A hundredth of them, rounded up.
    k: u64,
    /// Counts from which a page is hot or warm.
    thresholds: Thresholds,
    /// Sum of all weighted counts in the window.
    total: u64,
    /// Counted events per second of event time, over the last 5 s.
    events_per_s: f64,
}

impl Lines {
    fn of(heat: &HeatSnapshot) -> Self {
        Self {
            window_end: heat.window_end,
            made_at: heat.made_at,
            final_to: heat.final_to,
            active: heat.active,
            k: heat.k,
            thresholds: heat.thresholds,
            total: heat.total,
            events_per_s: heat.events_per_s,
        }
    }
}

impl TopAnswer {
    fn of(heat: &HeatSnapshot, limit: usize) -> Self {
        Self {
            lines: Lines::of(heat),
            more: heat.top.len().saturating_sub(limit) as u64 + heat.cut,
            top: heat.top.iter().take(limit).cloned().collect(),
        }
    }
}

/// The pages that are hot or warm now, hottest first, with the lines of the window.
#[utoipa::path(get, path = "/v1/top", tag = "heat", params(TopQuery),
    security(("bearer" = ["viewer", "merchandiser", "operator", "admin"])),
    responses((status = 200, body = TopAnswer, description = "The window as it stands, a quarter of a second old at most")))]
async fn top(State(shared): State<Shared>, Query(query): Query<TopQuery>) -> Result<Json<TopAnswer>, Problem> {
    Ok(Json(TopAnswer::of(&shared.live.snapshot(), query.limit()?)))
}

/// One page's heat.
#[derive(Debug, Serialize, ToSchema)]
struct PageHeat {
    /// Exclusive end of the window, in event time.
    window_end: Timestamp,
    /// Counts from which a page is hot or warm.
    thresholds: Thresholds,
    /// Place in the window's top, from 1; null if the page is not hot or warm.
    rank: Option<usize>,
    #[serde(flatten)]
    heat: TopPage,
}

/// One page's heat; of a page that is neither hot nor warm its count by the seconds that are final.
#[utoipa::path(get, path = "/v1/products/{id}/heat", tag = "heat", params(("id" = PageId, Path)),
    security(("bearer" = ["viewer", "merchandiser", "operator", "admin"])),
    responses((status = 200, body = PageHeat, description = "Known or not: a page without events has a count of 0")))]
async fn page_heat(State(shared): State<Shared>, Path(id): Path<String>) -> Result<Json<PageHeat>, Problem> {
    let page = PageId::new(&id)?;
    let snapshot = shared.live.snapshot();
    let listed = snapshot.top.iter().position(|p| *p.page == *page.as_str());
    let heat = match listed {
        Some(at) => snapshot.top[at].clone(),
        // Neither hot nor warm: its count by the seconds that are final, about two seconds behind.
        None => {
            let count = shared.live.settled_count(page.as_str());
            TopPage {
                page: page.shared(),
                count,
                count5: 0,
                share: if snapshot.total == 0 { 0.0 } else { count as f64 / snapshot.total as f64 },
                temperature: Temperature::Cold,
                temperature5: Temperature::Cold,
                since: snapshot.window_end,
                visitors: 0,
                slope: 0.0,
                attempts_per_s: 0.0,
            }
        }
    };
    let rank = listed.map(|at| at + 1);
    Ok(Json(PageHeat { window_end: snapshot.window_end, thresholds: snapshot.thresholds, rank, heat }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use testkit::openapi::{is_checked_in, operations, routes};

    #[test]
    fn the_document_is_checked_in_and_names_every_route_and_no_other() {
        let (router, document) = http_kit::openapi::documented(super::routes(), &super::ABOUT);
        assert_eq!(routes(&format!("{router:?}")), operations(&document));
        is_checked_in(&document, &Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi/analyzer.json"));
    }
}
