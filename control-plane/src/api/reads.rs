//! What can be read: the plan with its reasons and numbers, its generations, why a product is where it is, the cores,
//! the leader, the audit log.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use http_kit::{Caller, Problem};
use serde::Serialize;
use tokio::sync::oneshot;
use types::plan::Reason;
use types::{Generation, Phase, Sku, Term, Tier, Timestamp};
use utoipa::ToSchema;

use super::{ApiState, READERS, Refusal, busy, field, no_product};
use crate::brain::{Command, KEPT};
use crate::plan_store::{AuditRow, Freeze, GenerationRow, Since};
use crate::planner::explain::because;
use crate::planner::{Decision, Evidence};
use crate::policy::Policy;
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

pub(super) fn limit(parameters: &[(String, String)], usual: usize) -> Result<usize, Problem> {
    match get(parameters, "limit").map(str::parse::<usize>) {
        None => Ok(usual),
        Some(Ok(n)) if (1..=MAX_PAGE).contains(&n) => Ok(n),
        Some(_) => Err(field("limit", format!("is not a number from 1 to {MAX_PAGE}"))),
    }
}

/// A page of the plan.
#[derive(Serialize, ToSchema)]
pub(super) struct Plan {
    generation: Generation,
    at: Timestamp,
    /// Automatic moves are stopped.
    frozen: bool,
    products: Vec<Planned>,
    /// The last product of this page, if there are more: the next `?after=`.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Sku>,
}

/// A product's decided tier.
#[derive(Serialize, ToSchema)]
pub(super) struct Planned {
    product: Sku,
    tier: Tier,
    #[serde(flatten)]
    reason: Reason,
    /// Since when it has this tier for this reason.
    since: Timestamp,
    /// In which its tier or override last changed.
    generation: Generation,
    enforced: Enforcement,
    /// It takes no new purchases.
    paused: bool,
    evidence: Evidence,
}

/// The plan in force, by SKU, or one product of it.
#[utoipa::path(get, path = "/v1/plan", tag = "plan", operation_id = "plan",
    params(("product" = Option<Sku>, Query), ("after" = Option<Sku>, Query), ("limit" = Option<u64>, Query)),
    security(("bearer" = ["viewer", "merchandiser", "operator"])),
    responses((status = 200, body = Plan, description = "A page of it")),
    extensions(("x-problems" = json!(["invalid-field", "not-found"]))))]
pub(super) async fn plan(
    caller: Caller,
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Plan>, Refusal> {
    caller.require(READERS)?;
    let given = parameters(query.as_deref(), &["product", "after", "limit"])?;
    let limit = limit(&given, PAGE)?;
    let (view, cores, now) = (state.view.borrow().clone(), state.cores(), state.clock.now());
    let stopped = paused_products(&state);
    let page = |products, next| Plan {
        generation: view.generation,
        at: view.at,
        frozen: view.frozen.is_some(),
        products,
        next,
    };
    if let Some(text) = get(&given, "product") {
        let (product, decision) =
            Sku::new(text).ok().and_then(|sku| view.decisions.get_key_value(&sku)).ok_or_else(|| no_product(text))?;
        let said = Applied::new(&cores, Some(product), now, state.core_silence);
        return Ok(Json(page(vec![shown(product, decision, &said, &stopped)], None)));
    }
    let after = match get(&given, "after") {
        None => None,
        Some(text) => Some(Sku::new(text).map_err(|e| field("after", e.to_string()))?),
    };
    let said = Applied::new(&cores, None, now, state.core_silence);
    let mut rows = view.decisions.after(after.as_ref());
    let products: Vec<_> = rows.by_ref().take(limit).map(|(p, d)| shown(p, d, &said, &stopped)).collect();
    let next = rows.next().and(products.last()).map(|last| last.product.clone());
    Ok(Json(page(products, next)))
}

/// Products that are paused, by themselves or with their sale.
fn paused_products(state: &ApiState) -> BTreeSet<Sku> {
    let view = state.view.borrow().clone();
    if view.pauses.is_empty() {
        return BTreeSet::new();
    }
    let cores = state.cores();
    let sold = cores.iter().filter_map(|core| core.seen.state.as_ref()).flat_map(|s| &s.products);
    sold.filter(|p| view.pauses.stops(&p.sale, &p.product)).map(|p| p.product.clone()).collect()
}

fn shown(product: &Sku, d: &Decision, said: &Applied<'_>, stopped: &BTreeSet<Sku>) -> Planned {
    Planned {
        product: product.clone(),
        tier: d.tier,
        reason: d.reason.clone(),
        since: d.since,
        generation: d.generation,
        enforced: said.enforcement(product, d),
        paused: stopped.contains(product),
        evidence: d.evidence,
    }
}

/// Generations, newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Generations {
    generations: Vec<GenerationRow>,
    /// The next `?before=`, if this page is full.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Generation>,
}

/// Generations of the last hour, newest first, with what they carried.
#[utoipa::path(get, path = "/v1/plan/generations", tag = "plan", operation_id = "generations",
    params(("before" = Option<Generation>, Query), ("limit" = Option<u64>, Query)),
    security(("bearer" = ["viewer", "merchandiser", "operator"])),
    responses((status = 200, body = Generations, description = "A page of them")),
    extensions(("x-problems" = json!(["invalid-field", "unavailable"]))))]
pub(super) async fn generations(
    caller: Caller,
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Generations>, Refusal> {
    caller.require(READERS)?;
    let given = parameters(query.as_deref(), &["before", "limit"])?;
    let limit = limit(&given, PAGE)?;
    let before = match get(&given, "before").map(str::parse) {
        None => None,
        Some(Ok(n)) => Some(Generation::new(n)),
        Some(Err(_)) => return Err(field("before", "is not a generation").into()),
    };
    let generations = state.store.generations(before, limit).await?;
    let next = generations.last().filter(|_| generations.len() == limit).map(|last| last.generation);
    Ok(Json(Generations { generations, next }))
}

/// One decision with the numbers behind it.
#[derive(Serialize, ToSchema)]
pub(super) struct Told {
    tier: Tier,
    #[serde(flatten)]
    reason: Reason,
    since: Timestamp,
    generation: Generation,
    /// The same in words.
    because: String,
    evidence: Evidence,
}

impl Told {
    fn new(decision: Decision, policy: &Policy) -> Self {
        Self {
            because: because(&decision, policy),
            tier: decision.tier,
            reason: decision.reason,
            since: decision.since,
            generation: decision.generation,
            evidence: decision.evidence,
        }
    }
}

/// Why a product is where it is.
#[derive(Serialize, ToSchema)]
pub(super) struct Why {
    product: Sku,
    /// The decision in force, if it is planned.
    now: Option<Told>,
    enforced: Enforcement,
    paused: bool,
    /// Automatic moves are stopped, by whom and why.
    frozen: Option<Freeze>,
    /// Decisions of the last hour, oldest first: each change of tier or reason.
    decisions: Vec<Told>,
}

/// Why a product is where it is: every decision of the last hour with the numbers behind it.
#[utoipa::path(get, path = "/v1/why/{product}", tag = "plan", operation_id = "why", params(("product" = Sku, Path)),
    security(("bearer" = ["viewer", "merchandiser", "operator"])),
    responses((status = 200, body = Why, description = "With the numbers")),
    extensions(("x-problems" = json!(["unavailable"]))))]
pub(super) async fn why(
    caller: Caller,
    State(state): State<ApiState>,
    Path(product): Path<String>,
) -> Result<Json<Why>, Refusal> {
    caller.require(READERS)?;
    let product = Sku::new(&product).map_err(|_| no_product(&product))?;
    let (answer, answered) = oneshot::channel();
    state.send(Command::Why(product.clone(), answer))?;
    let mut told = answered.await.map_err(|_| busy())?;
    let (view, now, cores) = (state.view.borrow().clone(), state.clock.now(), state.cores());
    if told.is_empty() {
        // A stand-by decides nothing by itself, and tells what the leader stored.
        let stored = state.store.history(Some(&product), now.minus(KEPT), MAX_PAGE).await?;
        told = stored.into_iter().rev().map(|(_, decision)| decision).collect();
    }
    let present = view.decisions.get(&product);
    if present.is_none() && told.is_empty() {
        return Err(no_product(product.as_str()).into());
    }
    let said = Applied::new(&cores, Some(&product), now, state.core_silence);
    let enforced = present.map_or(Enforcement::Unknown, |decision| said.enforcement(&product, decision));
    Ok(Json(Why {
        now: present.map(|decision| Told::new(decision.clone(), &view.policy)),
        enforced,
        paused: paused_products(&state).contains(&product),
        frozen: view.frozen.clone(),
        decisions: told.into_iter().map(|decision| Told::new(decision, &view.policy)).collect(),
        product,
    }))
}

/// A configured core.
#[derive(Serialize, ToSchema)]
pub(super) struct CoreBody {
    base_url: String,
    core: Option<String>,
    /// Heard lately.
    fresh: bool,
    heard_at: Option<Timestamp>,
    /// The generation that it says it holds.
    generation: Option<Generation>,
    /// The newest leader that it has heard of.
    term: Option<Term>,
    /// The newest of ours that it has acknowledged.
    acknowledged: Option<Generation>,
    redis_capacity: Option<u64>,
    products: usize,
    draining: usize,
    trouble: Option<Trouble>,
}

/// The cores and the plan's generation.
#[derive(Serialize, ToSchema)]
pub(super) struct Cores {
    generation: Generation,
    cores: Vec<CoreBody>,
}

/// The configured cores: what each holds, and its last trouble.
#[utoipa::path(get, path = "/v1/cores", tag = "plan", operation_id = "cores",
    security(("bearer" = ["viewer", "merchandiser", "operator"])),
    responses((status = 200, body = Cores, description = "All of them")))]
pub(super) async fn cores(caller: Caller, State(state): State<ApiState>) -> Result<Json<Cores>, Refusal> {
    caller.require(READERS)?;
    let now = state.clock.now();
    let generation = state.view.borrow().generation;
    let cores = state.cores().into_iter().map(|view| {
        let seen = view.seen.state.as_deref();
        CoreBody {
            core: seen.map(|s| s.core.to_string()),
            fresh: view.seen.fresh(now, state.core_silence),
            heard_at: seen.map(|_| view.seen.at),
            generation: seen.map(|s| s.generation),
            term: seen.map(|s| s.term),
            acknowledged: view.acknowledged,
            redis_capacity: seen.map(|s| s.redis_capacity),
            products: seen.map_or(0, |s| s.products.len()),
            draining: seen.map_or(0, |s| s.products.iter().filter(|p| p.phase == Phase::Draining).count()),
            trouble: view.trouble,
            base_url: view.base_url,
        }
    });
    Ok(Json(Cores { generation, cores: cores.collect() }))
}

/// Who leads.
#[derive(Serialize, ToSchema)]
pub(super) struct LeaderView {
    /// Whether the control plane that answers leads.
    leads: bool,
    term: Term,
    holder: Option<String>,
    url: String,
    renewed_at: Timestamp,
}

/// Which control plane leads.
#[utoipa::path(get, path = "/v1/leader", tag = "plan", operation_id = "leader",
    security(("bearer" = ["viewer", "merchandiser", "operator"])),
    responses((status = 200, body = LeaderView, description = "By the lease row")),
    extensions(("x-problems" = json!(["unavailable"]))))]
pub(super) async fn leader(caller: Caller, State(state): State<ApiState>) -> Result<Json<LeaderView>, Refusal> {
    caller.require(READERS)?;
    let row = state.store.leader().await?;
    Ok(Json(LeaderView {
        leads: state.view.borrow().term == Some(row.term),
        term: row.term,
        holder: row.holder,
        url: row.url,
        renewed_at: row.renewed_at,
    }))
}

/// A page of the audit log.
#[derive(Serialize, ToSchema)]
pub(super) struct Audit {
    rows: Vec<AuditRow>,
    /// The next `?since=`.
    next: Option<u64>,
}

/// Who did what, with what was before and after, and why; oldest first. `since`: a row's id, or a time.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", operation_id = "audit",
    params(("since" = Option<String>, Query), ("limit" = Option<u64>, Query)),
    security(("bearer" = ["viewer", "merchandiser", "operator"])),
    responses((status = 200, body = Audit, description = "A page of it")),
    extensions(("x-problems" = json!(["invalid-field", "unavailable"]))))]
pub(super) async fn audit(
    caller: Caller,
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Audit>, Refusal> {
    caller.require(READERS)?;
    let given = parameters(query.as_deref(), &["since", "limit"])?;
    let limit = limit(&given, PAGE)?;
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
    Ok(Json(Audit { rows, next }))
}
