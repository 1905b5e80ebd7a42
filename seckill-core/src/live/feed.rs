//! Brings the events of all orders to this core, to those who are connected and to what it knows of decided keys: the newest from SQL at the start, then from the topic
//! `order-events`, all partitions of it; what the log does not bring in time is read from SQL. It commits no
//! progress: the log is only how a core hears soon.

use std::sync::Arc;
use std::time::Duration;

use eventlog::{Consumer, EventLogError, Group, Polled, Start, Subscription};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::order_event::OrderEventKind;
use types::{OrderEvent, Timestamp, codec};

use super::hub::{Live, WINDOW};
use super::metrics;
use crate::metrics::retry;
use crate::purchase::body_hash;
use crate::shared::Shared;
use crate::stock::live_store::LiveStore;
use crate::stock::store::{Decision, Outcome};

/// Records in one poll.
const BATCH: usize = 1_000;
/// Longest wait of one poll: also how soon a gap is noticed.
const POLL: Duration = Duration::from_millis(50);
/// How long an event is waited for before SQL is asked: other partitions and other cores' relays take some
/// milliseconds, a relay that died in the middle is followed by another within 100.
const GAP: Duration = Duration::from_millis(150);
/// How often SQL is asked for its end when the log has brought nothing new: the newest event could be the one that
/// was lost. One small read a second and core.
const QUIET: Duration = Duration::from_secs(1);
/// Events in one read from SQL.
const READ: usize = 2_000;
/// How far back the window begins: a restarted core knows the last seconds.
const BACK: u64 = (WINDOW / 2) as u64;
/// Accepted keys from before the window that are recalled at the start: 100 reads.
const RECALLED: u64 = 200_000;
/// Clients that a crash cut off have tried again within this time.
const TRIED_AGAIN_WITHIN: Duration = Duration::from_secs(60);
/// Pause before a failed port is asked again.
const BACK_OFF: Duration = Duration::from_millis(200);
/// How often passes whose time is over are forgotten, and how many at once.
const FORGET_EVERY: Duration = Duration::from_secs(10);
const FORGET: usize = 10_000;

/// Runs until `stop`.
pub(crate) async fn run(shared: &Shared, store: &dyn LiveStore, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match begin(shared, store).await {
            Ok(()) => break,
            Err(error) => {
                tracing::warn!(error, "live updates wait for the store");
                retry("live");
                pause(&stop).await;
            }
        }
    }
    tokio::join!(recall(shared, store, &stop), go_on(shared, store, &stop));
}

/// Follows the log, and SQL where the log is away.
async fn go_on(shared: &Shared, store: &dyn LiveStore, stop: &CancellationToken) {
    let live = &shared.live;
    let mut feed = Feed { shared, live, store, last_new: Instant::now(), gap_since: None, last_forget: Instant::now() };
    while !stop.is_cancelled() {
        match subscribe(shared).await {
            Ok(mut consumer) => {
                if let Err(error) = feed.follow(consumer.as_mut(), stop).await {
                    tracing::warn!(%error, "live updates subscribe again");
                    retry("live");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "live updates come from the store alone");
                retry("live");
            }
        }
        // While the log is away SQL is enough, at a slower pace.
        feed.look().await;
        pause(stop).await;
    }
}

async fn pause(stop: &CancellationToken) {
    tokio::select! {
        biased;
        () = tokio::time::sleep(BACK_OFF) => {}
        () = stop.cancelled() => {}
    }
}

/// The window begins some way before the end.
async fn begin(shared: &Shared, store: &dyn LiveStore) -> Result<(), String> {
    let end = store.told(u64::MAX, 1).await.map_err(|e| e.to_string())?.through;
    let after = end.saturating_sub(BACK);
    shared.live.begin(after);
    while shared.live.head() < end {
        let told = store.told(shared.live.head(), READ).await.map_err(|e| e.to_string())?;
        match shared.live.filled(told) {
            Some(new) => learn(shared, &new),
            None => return Err("the outbox has become shorter".to_owned()),
        }
    }
    shared.heard.set(shared.live.head());
    Ok(())
}

/// Takes note of the keys that were accepted, whichever core accepted them.
fn learn(shared: &Shared, new: &[Arc<OrderEvent>]) {
    for event in new {
        let Some(key) = event.key.as_ref().filter(|_| event.kind == OrderEventKind::Accepted) else { continue };
        shared.recent.learn(&event.buyer, key, || Decision {
            body_hash: body_hash(&event.sale, &event.product, event.quantity),
            product: event.product.clone(),
            outcome: Outcome::Accepted(event.order),
            at: event.at,
        });
    }
}

/// Reads the keys that were accepted before the window begins, so that a retry of one is looked for in SQL and no
/// stranger is. Until it is done everybody is looked for.
async fn recall(shared: &Shared, store: &dyn LiveStore, stop: &CancellationToken) {
    let until = shared.live.floor();
    let mut at = until.saturating_sub(RECALLED);
    let from_the_first = at == 0;
    let mut oldest = None;
    while at < until && !stop.is_cancelled() {
        match store.told(at, READ).await {
            Ok(told) => {
                for event in told.events.iter().take_while(|event| event.sequence <= until) {
                    oldest.get_or_insert(event.at);
                    if let (Some(key), OrderEventKind::Accepted) = (&event.key, event.kind) {
                        shared.recent.recall(&event.buyer, key);
                    }
                }
                at = told.through.max(at + 1);
            }
            Err(error) => {
                tracing::debug!(%error, "accepted keys are not recalled");
                retry("live");
                return;
            }
        }
    }
    let far_enough = oldest.is_none_or(|oldest: Timestamp| shared.now().since(oldest) >= TRIED_AGAIN_WITHIN);
    if from_the_first || far_enough {
        shared.recent.recalled();
    }
}

/// A group of its own for each start of each core: every core sees every partition.
async fn subscribe(shared: &Shared) -> Result<Box<dyn Consumer>, EventLogError> {
    let group = Group::new(format!("live-{}-{:x}", shared.core, shared.incarnation))
        .map_err(|e| EventLogError::Refused(e.to_string()))?;
    let topics = vec![shared.topics.order_events.clone()];
    shared.log.subscribe(Subscription { group, topics, start: Start::Latest }).await
}

struct Feed<'a> {
    shared: &'a Shared,
    live: &'a Live,
    store: &'a dyn LiveStore,
    /// When something new came last, or SQL said that there is nothing.
    last_new: Instant,
    gap_since: Option<Instant>,
    last_forget: Instant,
}

impl Feed<'_> {
    async fn follow(&mut self, consumer: &mut dyn Consumer, stop: &CancellationToken) -> Result<(), EventLogError> {
        while !stop.is_cancelled() {
            match consumer.poll(BATCH, POLL).await? {
                Polled::Records(records) => {
                    let events = records.iter().filter_map(|record| read(record.value.as_deref())).collect();
                    let new = self.live.arrived(events);
                    self.observe(&new);
                }
                // Whatever came before the partitions were ours is in SQL.
                Polled::Assigned(_) => self.fill("assigned").await,
                Polled::Revoked(_) | Polled::Idle => {}
            }
            self.look().await;
        }
        Ok(())
    }

    /// Asks SQL when something is missing, or might be.
    async fn look(&mut self) {
        if !self.live.has_gap() {
            self.gap_since = None;
            if self.last_new.elapsed() >= QUIET {
                self.fill("quiet").await;
            }
        } else if self.gap_since.get_or_insert_with(Instant::now).elapsed() >= GAP {
            self.fill("gap").await;
            self.gap_since = None;
        }
        if self.last_forget.elapsed() >= FORGET_EVERY {
            self.last_forget = Instant::now();
            if let Err(error) = self.store.forget_passes(self.shared.now(), FORGET).await {
                tracing::debug!(%error, "old passes stay a while");
                retry("live");
            }
        }
    }

    async fn fill(&mut self, why: &'static str) {
        loop {
            match self.store.told(self.live.head(), READ).await {
                Ok(told) => {
                    let full = told.events.len() >= READ;
                    let end = told.through;
                    let Some(new) = self.live.filled(told) else {
                        tracing::error!(end, head = self.live.head(), "the outbox is another than it was");
                        crate::metrics::alarm("outbox_shorter");
                        self.live.begin(end);
                        self.shared.heard.set(end);
                        self.last_new = Instant::now();
                        return;
                    };
                    metrics::filled(why, new.len() as u64);
                    self.observe(&new);
                    self.last_new = Instant::now();
                    if !full {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, why, "live updates wait for the store");
                    retry("live");
                    return;
                }
            }
        }
    }

    /// Takes note of what is new; only then of how far it has heard.
    fn observe(&mut self, new: &[Arc<OrderEvent>]) {
        learn(self.shared, new);
        self.shared.heard.set(self.live.head());
        if !new.is_empty() {
            self.last_new = Instant::now();
        }
        let now = self.shared.now();
        for event in new {
            metrics::lag(now.since(event.at));
        }
    }
}

/// An event, unless the record is not one of ours: then it is counted, and SQL fills the gap.
fn read(value: Option<&[u8]>) -> Option<OrderEvent> {
    let event = value.and_then(|bytes| codec::decode(bytes).ok());
    if event.is_none() {
        metrics::unreadable();
    }
    event
}
