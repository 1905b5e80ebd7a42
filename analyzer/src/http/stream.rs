//! Heat as it changes, pushed as server-sent events: a whole snapshot first and every ten seconds, between them what is
//! different. A reader that is slow is not waited for: it gets the newest state, and what changed since what it got.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::{self, Stream};
use http_kit::{Problem, ProblemKind};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::WaitForCancellationFutureOwned;
use types::PageId;
use utoipa::ToSchema;

use super::{Lines, Shared, TopAnswer, TopQuery};
use crate::live::{HeatSnapshot, TopPage};

/// Streams at once: each is a few hundred pages of memory and four events a second. Beyond it 503.
pub(super) const MAX_STREAMS: usize = 256;
/// Events from one whole snapshot to the next: ten seconds of ticks.
const SNAPSHOT_EVERY: u32 = 40;
/// Silence after which a comment shows that the connection lives; proxies give up after a minute.
const ALIVE: Duration = Duration::from_secs(15);

/// What changed since the event before.
#[derive(Debug, Serialize, ToSchema)]
struct HeatDelta {
    #[serde(flatten)]
    lines: Lines,
    /// Pages that are new in the list or have other counts.
    changed: Vec<TopPage>,
    /// Pages that are not in the list any more.
    #[schema(value_type = Vec<PageId>)]
    gone: Vec<Arc<str>>,
}

struct Follower {
    snapshots: watch::Receiver<Arc<HeatSnapshot>>,
    closing: std::pin::Pin<Box<WaitForCancellationFutureOwned>>,
    limit: usize,
    known: HashMap<Arc<str>, TopPage>,
    sent: u32,
    _permit: OwnedSemaphorePermit,
}

/// The pages that are hot or warm, as they change. Event `snapshot` holds what `/v1/top` answers: first, and again every
/// ten seconds. Event `delta`, with each tick between them, holds the lines, the pages that changed and those that left;
/// the last value of a page wins. The event's id is the time at which it was made.
#[utoipa::path(get, path = "/v1/heat/stream", tag = "heat", params(TopQuery),
    security(("bearer" = ["viewer", "merchandiser", "operator", "admin"])),
    responses((status = 200, description = "Server-sent events, until either side closes",
        content((TopAnswer = "text/event-stream"), (HeatDelta = "text/event-stream")))))]
pub(super) async fn stream(
    State(shared): State<Shared>,
    Query(query): Query<TopQuery>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let limit = query.limit()?;
    let permit = Arc::clone(&shared.streams).try_acquire_owned().map_err(|_| {
        Problem::new(ProblemKind::OVERLOADED, format!("{MAX_STREAMS} streams are open; poll /v1/top instead"))
            .retry_after(10)
    })?;
    let mut snapshots = shared.live.subscribe();
    // The state as it is now is the first event.
    snapshots.mark_changed();
    let closing = Box::pin(shared.live.closing());
    let follower = Follower { snapshots, closing, limit, known: HashMap::new(), sent: 0, _permit: permit };
    let events = stream::unfold(follower, |mut follower| async move {
        tokio::select! {
            () = &mut follower.closing => return None,
            changed = follower.snapshots.changed() => changed.ok()?,
        }
        let event = follower.next();
        Some((Ok(event), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)))
}

impl Follower {
    fn next(&mut self) -> Event {
        let heat = Arc::clone(&self.snapshots.borrow_and_update());
        let whole = self.sent.is_multiple_of(SNAPSHOT_EVERY);
        self.sent = self.sent.wrapping_add(1);
        let event = Event::default().id(heat.made_at.millis().to_string());
        let mut before = std::mem::take(&mut self.known);
        let mut changed = Vec::new();
        for page in heat.top.iter().take(self.limit) {
            if before.remove(&page.page).is_none_or(|old| old != *page) {
                changed.push(page.clone());
            }
            self.known.insert(Arc::clone(&page.page), page.clone());
        }
        let told = if whole {
            event.event("snapshot").json_data(TopAnswer::of(&heat, self.limit))
        } else {
            let mut gone: Vec<Arc<str>> = before.into_keys().collect();
            gone.sort_unstable();
            event.event("delta").json_data(HeatDelta { lines: Lines::of(&heat), changed, gone })
        };
        // Numbers and page ids are always JSON; if not, a comment says nothing wrong.
        told.unwrap_or_else(|_| Event::default().comment("not shown"))
    }
}
