//! `GET /v1/events`: what changes, as it changes (SSE). A reader that falls behind is told how much it missed; it must
//! never slow the plan down.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use http_kit::{Caller, Problem, ProblemKind};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::{ApiState, READERS, Refusal};
use crate::view::{PlanView, TierMove};

/// Between two signs of life on a quiet stream: below the patience of common proxies.
const ALIVE: Duration = Duration::from_secs(15);

/// Events: `plan` (a new generation, freeze, pause or policy), `move` (a tier was decided), `missed` (how many moves a
/// slow reader did not get). The first event is the plan as it is.
#[utoipa::path(get, path = "/v1/events", tag = "plan", operation_id = "events",
    security(("bearer" = ["viewer", "merchandiser", "operator"])),
    responses((status = 200, content_type = "text/event-stream", body = String, description = "Without end")),
    extensions(("x-problems" = json!(["overloaded"]))))]
pub(super) async fn stream(
    caller: Caller,
    State(state): State<ApiState>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    caller.require(READERS)?;
    let place =
        state.streams.clone().try_acquire_owned().map_err(|_| {
            Problem::new(ProblemKind::OVERLOADED, "too many readers of the event stream").retry_after(10)
        })?;
    let mut view = state.view.clone();
    let first = plan_event(&view.borrow_and_update().clone());
    let reader = Reader {
        ready: VecDeque::from([first]),
        view,
        moves: state.moves.subscribe(),
        stop: state.shutdown.clone(),
        _place: place,
    };
    let events = futures::stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok(event), reader))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)))
}

struct Reader {
    ready: VecDeque<Event>,
    view: watch::Receiver<Arc<PlanView>>,
    moves: broadcast::Receiver<TierMove>,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.ready.pop_front() {
            return Some(event);
        }
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            moved = self.moves.recv() => match moved {
                Ok(moved) => Some(Event::default().event("move").data(json!(moved).to_string())),
                Err(RecvError::Lagged(missed)) => {
                    Some(Event::default().event("missed").data(json!({ "moves": missed }).to_string()))
                }
                Err(RecvError::Closed) => None,
            },
            changed = self.view.changed() => {
                changed.ok()?;
                let view = self.view.borrow_and_update().clone();
                Some(plan_event(&view))
            }
        }
    }
}

fn plan_event(view: &PlanView) -> Event {
    let tiers: serde_json::Map<_, _> =
        types::Tier::ALL.iter().map(|t| (t.to_string(), json!(view.decisions.on(*t)))).collect();
    let body = json!({
        "generation": view.generation,
        "term": view.term,
        "leads": view.term.is_some(),
        "at": view.at,
        "tiers": tiers,
        "overrides": view.overrides.len(),
        "paused": view.paused.len(),
        "frozen": view.frozen.is_some(),
        "policy_version": view.policy_version,
    });
    Event::default().event("plan").id(view.generation.to_string()).data(body.to_string())
}
