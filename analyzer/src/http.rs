//! The routes of the analyzer: the current top, one page's heat, and SQL. All of it reads snapshots; who
//! may read is decided here, once for all routes.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_kit::{Caller, Limits, Problem, ProblemKind, SharedAuthenticator};
use serde::{Deserialize, Serialize};
use types::{PageId, Role, Temperature, Thresholds, Timestamp};

use crate::live::{LiveHeat, TopPage};
use crate::sql::SqlLimits;

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

/// All routes, with limits around them.
pub(crate) fn router(live: Arc<LiveHeat>, sql: Router, guard: Guard, extra: Router, limits: &SqlLimits) -> Router {
    let heat = Router::new()
        .route("/v1/top", get(top))
        .route("/v1/products/{id}/heat", get(page_heat))
        .with_state(live)
        .merge(sql)
        .layer(middleware::from_fn_with_state(guard, admit));
    let limits = Limits {
        body: limits.query_bytes * BODY_PER_QUERY_BYTE,
        time: limits.timeout + ANSWER_TIME,
        ..Limits::default()
    };
    http_kit::harden(heat.merge(extra), limits)
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TopQuery {
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
struct TopAnswer {
    window_end: Timestamp,
    made_at: Timestamp,
    final_to: Option<Timestamp>,
    active: u64,
    k: u64,
    thresholds: Thresholds,
    total: u64,
    events_per_s: f64,
    /// Hot or warm pages that are not listed below.
    more: u64,
    top: Vec<TopPage>,
}

async fn top(State(live): State<Arc<LiveHeat>>, Query(query): Query<TopQuery>) -> Result<Json<TopAnswer>, Problem> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        let why = format!("{limit} is not 1 to {MAX_LIMIT}");
        return Err(Problem::new(ProblemKind::INVALID_FIELD, why).field("limit"));
    }
    let heat = live.snapshot();
    Ok(Json(TopAnswer {
        window_end: heat.window_end,
        made_at: heat.made_at,
        final_to: heat.final_to,
        active: heat.active,
        k: heat.k,
        thresholds: heat.thresholds,
        total: heat.total,
        events_per_s: heat.events_per_s,
        more: heat.top.len().saturating_sub(limit) as u64 + heat.cut,
        top: heat.top.iter().take(limit).cloned().collect(),
    }))
}

#[derive(Debug, Serialize)]
struct PageHeat {
    window_end: Timestamp,
    thresholds: Thresholds,
    /// Place in the window's top, from 1; null if the page is not hot or warm.
    rank: Option<usize>,
    #[serde(flatten)]
    heat: TopPage,
}

async fn page_heat(State(live): State<Arc<LiveHeat>>, Path(id): Path<String>) -> Result<Json<PageHeat>, Problem> {
    let page = PageId::new(&id)?;
    let snapshot = live.snapshot();
    let listed = snapshot.top.iter().position(|p| *p.page == *page.as_str());
    let heat = match listed {
        Some(at) => snapshot.top[at].clone(),
        // Neither hot nor warm: its count by the seconds that are final, about two seconds behind.
        None => {
            let count = live.settled_count(page.as_str());
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
