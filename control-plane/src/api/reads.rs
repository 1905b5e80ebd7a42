//! What can be read: the plan with its reasons and numbers, the cores, the audit log.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http_kit::{Caller, Problem};
use serde::Serialize;
use types::plan::Reason;
use types::{Generation, Phase, Sku, Tier, Timestamp};

use super::{ApiState, READERS, Refusal, field, no_product};
use crate::plan_store::Since;
use crate::planner::{Decision, Evidence};
use crate::reconcile::{Applied, Enforcement, Trouble};

/// Rows in one answer unless the caller says otherwise.
const PAGE: usize = 1_000;
/// Most rows in one answer.
const MAX_PAGE: usize = 10_000;
/// Longest query string that is read.
const MAX_QUERY: usize = 2_048;

/// Known query parameters, each at most once; anything else is refused by its name.
pub(super) fn parameters(query: Option<&str>, known: &[&str]) -> Result<Vec<(String, String)>, Problem> {
    let query = query.unwrap_or_default();
    if query.len() > MAX_QUERY {
        return Err(field("query", format!("is longer than {MAX_QUERY} bytes")));
    }
    let mut all: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !known.contains(&name) {
            let shown: String = name.chars().take(64).collect();
            return Err(field(&shown, format!("unknown parameter; known are: {}", known.join(", "))));
        }
        if all.iter().any(|(n, _)| n == name) {
            return Err(field(name, "given twice"));
        }
        all.push((name.to_owned(), percent_decoded(value).ok_or_else(|| field(name, "is not URL-encoded text"))?));
    }
    Ok(all)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16).and_then(|d| u8::try_from(d).ok());
                digit(rest.next())? * 16 + digit(rest.next())?
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn get<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

fn limit(parameters: &[(String, String)]) -> Result<usize, Problem> {
    match get(parameters, "limit").map(str::parse::<usize>) {
        None => Ok(PAGE),
        Some(Ok(n)) if (1..=MAX_PAGE).contains(&n) => Ok(n),
        Some(_) => Err(field("limit", format!("is not a number from 1 to {MAX_PAGE}"))),
    }
}

#[derive(Serialize)]
struct PlanBody<'a> {
    generation: Generation,
    at: Timestamp,
    products: Vec<Planned<'a>>,
    /// The last product of this page, if there are more: the next `?after=`.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a Sku>,
}

#[derive(Serialize)]
struct Planned<'a> {
    product: &'a Sku,
    tier: Tier,
    #[serde(flatten)]
    reason: &'a Reason,
    since: Timestamp,
    generation: Generation,
    enforced: Enforcement,
    evidence: &'a Evidence,
}

pub(super) async fn plan(
    caller: Caller,
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    caller.require(READERS)?;
    let given = parameters(query.as_deref(), &["product", "after", "limit"])?;
    let limit = limit(&given)?;
    let (view, cores, now) = (state.view.borrow().clone(), state.cores(), state.clock.now());
    if let Some(text) = get(&given, "product") {
        let (product, decision) =
            Sku::new(text).ok().and_then(|sku| view.decisions.get_key_value(&sku)).ok_or_else(|| no_product(text))?;
        let said = Applied::new(&cores, Some(product), now, state.core_silence);
        let products = vec![shown(product, decision, &said)];
        let body = PlanBody { generation: view.generation, at: view.at, products, next: None };
        return Ok(Json(body).into_response());
    }
    let after = match get(&given, "after") {
        None => None,
        Some(text) => Some(Sku::new(text).map_err(|e| field("after", e.to_string()))?),
    };
    let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
    let said = Applied::new(&cores, None, now, state.core_silence);
    let mut rows = view.decisions.range::<Sku, _>((from, std::ops::Bound::Unbounded));
    let products: Vec<_> = rows.by_ref().take(limit).map(|(p, d)| shown(p, d, &said)).collect();
    let next = rows.next().and(products.last()).map(|last| last.product);
    Ok(Json(PlanBody { generation: view.generation, at: view.at, products, next }).into_response())
}

fn shown<'a>(product: &'a Sku, d: &'a Decision, said: &Applied<'_>) -> Planned<'a> {
    Planned {
        product,
        tier: d.tier,
        reason: &d.reason,
        since: d.since,
        generation: d.generation,
        enforced: said.enforcement(product, d),
        evidence: &d.evidence,
    }
}

#[derive(Serialize)]
struct CoreBody {
    base_url: String,
    core: Option<String>,
    /// Heard lately.
    fresh: bool,
    heard_at: Option<Timestamp>,
    /// The generation that it says it holds.
    generation: Option<Generation>,
    /// The newest of ours that it has acknowledged.
    acknowledged: Option<Generation>,
    redis_capacity: Option<u64>,
    products: usize,
    draining: usize,
    trouble: Option<Trouble>,
}

pub(super) async fn cores(caller: Caller, State(state): State<ApiState>) -> Result<Response, Refusal> {
    caller.require(READERS)?;
    let now = state.clock.now();
    let generation = state.view.borrow().generation;
    let cores: Vec<_> = state
        .cores()
        .into_iter()
        .map(|view| {
            let seen = view.seen.state.as_deref();
            CoreBody {
                core: seen.map(|s| s.core.to_string()),
                fresh: view.seen.fresh(now, state.core_silence),
                heard_at: seen.map(|_| view.seen.at),
                generation: seen.map(|s| s.generation),
                acknowledged: view.acknowledged,
                redis_capacity: seen.map(|s| s.redis_capacity),
                products: seen.map_or(0, |s| s.products.len()),
                draining: seen.map_or(0, |s| s.products.iter().filter(|p| p.phase == Phase::Draining).count()),
                trouble: view.trouble,
                base_url: view.base_url,
            }
        })
        .collect();
    Ok(Json(serde_json::json!({ "generation": generation, "cores": cores })).into_response())
}

pub(super) async fn audit(
    caller: Caller,
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    caller.require(READERS)?;
    let given = parameters(query.as_deref(), &["since", "limit"])?;
    let limit = limit(&given)?;
    let since = match get(&given, "since") {
        None => Since::Id(0),
        Some(text) => text
            .parse()
            .map(Since::Id)
            .or_else(|_| text.parse().map(Since::Time))
            .map_err(|_| field("since", "is neither the id of a row nor an RFC 3339 time"))?,
    };
    let rows = state.store.audit(since, limit).await?;
    let next = rows.last().map(|row| row.id);
    Ok(Json(serde_json::json!({ "rows": rows, "next": next })).into_response())
}
