//! Administration's list of orders in order of change: what a shop's own system reads to miss nothing. It changes
//! nothing, and shows buyers only to whom personal data is open.

use axum::Json;
use axum::extract::State;
use http_kit::{Problem, ProblemKind};
use serde::{Deserialize, Serialize};
use types::order_event::OrderEventKind;
use types::{BuyerId, Role, SaleName, Timestamp};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::extract::{Params, page_length};
use super::problems;
use super::staff::{Readers, Staff};
use super::view::OrderView;
use crate::stock::admin_store::Actor;
use crate::stock::order_feed::OrderStep;

/// Whoever may also read whose they are: a viewer reads everything but personal data.
const PERSONAL: [Role; 2] = [Role::Operator, Role::Admin];
/// Most steps in one answer, some 300 kB.
const MAX_STEPS: usize = 1_000;
/// Steps that one call looks at, where a filter leaves most of them out: some tens of milliseconds of one reader.
const MAX_LOOKED_AT: usize = 20_000;

/// `?since=&limit=&sale=&state=`.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    /// `next` of the answer before; 0 for all.
    #[serde(default)]
    since: u64,
    /// Steps in the answer.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Only orders of this sale.
    sale: Option<SaleName>,
    /// Only steps that led to this state.
    state: Option<OrderEventKind>,
}

/// An order, for the shop.
#[derive(Serialize, ToSchema)]
pub(super) struct ShopOrder {
    #[serde(flatten)]
    order: OrderView,
    /// Only for callers to whom personal data is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    buyer: Option<BuyerId>,
}

/// One step of an order.
#[derive(Serialize, ToSchema)]
pub(super) struct StepView {
    sequence: u64,
    #[schema(value_type = OrderEventKind)]
    state: &'static str,
    at: Timestamp,
    /// As it is now.
    order: ShopOrder,
}

/// Steps in their order, and from where to go on.
#[derive(Serialize, ToSchema)]
pub(super) struct Steps {
    steps: Vec<StepView>,
    /// The next call's `since`.
    next: u64,
    /// Whether there was more to look at: call again at once.
    more: bool,
}

/// Whether buyers are shown to this caller.
pub(super) fn sees_buyers(staff: &Actor) -> bool {
    PERSONAL.iter().any(|role| staff.roles.contains(role))
}

impl StepView {
    fn new(step: OrderStep, with_buyer: bool) -> Self {
        let OrderStep { sequence, state, at, order, .. } = step;
        let buyer = with_buyer.then(|| order.buyer.clone());
        let state = OrderEventKind::from(state).as_str();
        Self { sequence, state, at, order: ShopOrder { order: order.into(), buyer } }
    }
}

/// Every step of every order, in order: a step is never shown before all with lower numbers can be, whatever order
/// their transactions were committed in. So `next` is where to go on, and nothing is missed.
#[utoipa::path(get, path = "/v1/orders", tag = "orders", operation_id = "order_steps", params(Since),
    security(("bearer" = ["viewer", "merchandiser", "operator"])),
    responses((status = 200, body = Steps, description = "Steps, and from where to go on")),
    extensions(("x-problems" = json!(["malformed", "invalid-field", "unavailable"]))))]
pub(super) async fn since(
    State(app): State<App>,
    staff: Staff<Readers>,
    Params(asked): Params<Since>,
) -> Result<Json<Steps>, Problem> {
    let with_buyer = sees_buyers(&staff.by);
    let length = page_length(asked.limit, MAX_STEPS)?;
    let newest = app.sql.newest_step().await.map_err(|e| problems::store(&e))?;
    if asked.since > newest {
        let why = format!("{} is not here yet: the newest step is {newest}", asked.since);
        return Err(Problem::new(ProblemKind::INVALID_FIELD, why).field("since"));
    }
    let wanted = |step: &OrderStep| {
        asked.sale.as_ref().is_none_or(|sale| *sale == step.order.sale)
            && asked.state.is_none_or(|state| state == OrderEventKind::from(step.state))
    };
    let (mut steps, mut next, mut looked_at) = (Vec::new(), asked.since, 0);
    loop {
        let batch = app.sql.steps(next, MAX_STEPS).await.map_err(|e| problems::store(&e))?;
        let whole = batch.len() == MAX_STEPS;
        looked_at += batch.len();
        for step in batch {
            if steps.len() == length {
                return Ok(Json(Steps { steps, next, more: true }));
            }
            next = step.sequence;
            if wanted(&step) {
                steps.push(StepView::new(step, with_buyer));
            }
        }
        if !whole || looked_at >= MAX_LOOKED_AT {
            return Ok(Json(Steps { steps, next, more: whole }));
        }
    }
}
