//! Who is connected, and the window of events, under one lock: so an event is either in what a new connection is
//! told of the past or in its queue, never in neither and never in both. The lock is held for no wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::{BuyerId, OrderEvent};

use super::metrics;
use super::options::LiveOptions;
use super::window::{Since, Taken, Window};
use crate::stock::live_store::Told;

/// Events kept for those who come back: half a minute of a thousand a second, some 15 MB.
pub(crate) const WINDOW: usize = 32_768;
/// Events that may wait for one connection. A buyer has a few orders; who is this far behind does not read.
pub(crate) const QUEUE: usize = 64;
/// Events that are replayed; whoever has missed more gets a snapshot, which is shorter.
const REPLAYED: usize = 256;
/// Snapshots that are read from SQL at once, so that a crowd that comes back does not push purchases aside.
const SNAPSHOTS: usize = 8;
/// Longest wait for connections to say good-bye at shutdown.
const GOOD_BYE: Duration = Duration::from_secs(2);

/// Why the hub ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dismissed {
    /// It does not read what is sent.
    Slow,
    /// The same buyer has opened too many newer ones.
    Replaced,
    /// The order of events has begun anew: the database is another.
    Reset,
}

impl Dismissed {
    const fn code(self) -> u8 {
        match self {
            Self::Slow => 1,
            Self::Replaced => 2,
            Self::Reset => 3,
        }
    }
}

struct Seat {
    number: u64,
    queue: mpsc::Sender<Arc<OrderEvent>>,
    why: Arc<AtomicU8>,
}

impl Seat {
    /// Ends the connection: dropping the queue's only sender wakes it.
    fn dismiss(self, why: Dismissed) {
        self.why.store(why.code(), Ordering::Release);
    }
}

struct Inner {
    /// `None` until the feed has begun.
    window: Option<Window>,
    seats: HashMap<BuyerId, Vec<Seat>, FxBuildHasher>,
    taken: usize,
    next: u64,
}

impl Inner {
    fn leave(&mut self, buyer: &BuyerId, number: u64) {
        let Some(his) = self.seats.get_mut(buyer) else { return };
        if let Some(at) = his.iter().position(|seat| seat.number == number) {
            his.remove(at);
            self.taken -= 1;
        }
        if his.is_empty() {
            self.seats.remove(buyer);
        }
    }

    fn dispatch(&mut self, events: &[Arc<OrderEvent>]) {
        let mut pushed = 0;
        for event in events {
            let Some(his) = self.seats.get_mut(&event.buyer) else { continue };
            let mut at = 0;
            while at < his.len() {
                match his[at].queue.try_send(event.clone()) {
                    Ok(()) => pushed += 1,
                    Err(mpsc::error::TrySendError::Full(_)) => {
                        his.remove(at).dismiss(Dismissed::Slow);
                        self.taken -= 1;
                        continue;
                    }
                    // It is just leaving.
                    Err(mpsc::error::TrySendError::Closed(_)) => {}
                }
                at += 1;
            }
            if his.is_empty() {
                self.seats.remove(&event.buyer);
            }
        }
        metrics::pushed(pushed);
    }
}

/// What a new connection begins with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Past {
    /// These events, exactly.
    Events(Vec<Arc<OrderEvent>>),
    /// It is newer than what has arrived here: SQL says whether there ever was such an event.
    Ahead,
    /// He had no cursor.
    Unknown,
    /// It is too old.
    TooOld,
}

/// A place in the hub; dropping it gives it back.
pub(crate) struct Place {
    live: Arc<Live>,
    pub(crate) buyer: BuyerId,
    number: u64,
    why: Arc<AtomicU8>,
    /// His events from now on.
    pub(crate) queue: mpsc::Receiver<Arc<OrderEvent>>,
    /// What he is told first.
    pub(crate) past: Past,
}

impl Place {
    /// Why the queue has ended.
    pub(crate) fn dismissed(&self) -> Dismissed {
        match self.why.load(Ordering::Acquire) {
            2 => Dismissed::Replaced,
            3 => Dismissed::Reset,
            _ => Dismissed::Slow,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.live.inner.lock();
        inner.leave(&self.buyer, self.number);
        metrics::connections(inner.taken);
    }
}

/// The hub of one core.
pub(crate) struct Live {
    pub(crate) options: LiveOptions,
    inner: Mutex<Inner>,
    /// Cancelled when the core goes: connections say good-bye.
    pub(crate) closing: CancellationToken,
    pub(crate) connections: TaskTracker,
    pub(crate) snapshots: Semaphore,
}

impl Live {
    pub(crate) fn new(options: LiveOptions) -> Self {
        Self {
            options,
            inner: Mutex::new(Inner { window: None, seats: HashMap::default(), taken: 0, next: 0 }),
            closing: CancellationToken::new(),
            connections: TaskTracker::new(),
            snapshots: Semaphore::new(SNAPSHOTS),
        }
    }

    /// Whether one more connection would be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.inner.lock().taken < self.options.max_connections && !self.closing.is_cancelled()
    }

    /// How many are open.
    pub(crate) fn open(&self) -> usize {
        self.inner.lock().taken
    }

    /// Takes a place for a buyer who has seen everything up to `cursor`; `None` if all are taken.
    pub(crate) fn take_place(self: &Arc<Self>, buyer: BuyerId, cursor: Option<u64>) -> Option<Place> {
        let mut inner = self.inner.lock();
        if inner.taken >= self.options.max_connections {
            return None;
        }
        let past = match (cursor, &inner.window) {
            (None, _) => Past::Unknown,
            // Nothing is known here yet, so any cursor is ahead of it.
            (Some(_), None) => Past::Ahead,
            (Some(cursor), Some(window)) => match window.since(&buyer, cursor, REPLAYED) {
                Since::Exact(events) => Past::Events(events),
                Since::TooOld => Past::TooOld,
                Since::Ahead => Past::Ahead,
            },
        };
        let (send, queue) = mpsc::channel(QUEUE);
        let why = Arc::new(AtomicU8::new(0));
        inner.next += 1;
        let number = inner.next;
        let his = inner.seats.entry(buyer.clone()).or_default();
        // The oldest goes, not the newest: it may be the dead half of a connection that was cut.
        let oldest = (his.len() >= self.options.per_buyer).then(|| his.remove(0));
        his.push(Seat { number, queue: send, why: why.clone() });
        match oldest {
            Some(seat) => seat.dismiss(Dismissed::Replaced),
            None => inner.taken += 1,
        }
        metrics::connections(inner.taken);
        drop(inner);
        Some(Place { live: self.clone(), buyer, number, why, queue, past })
    }

    /// The last sequence up to which nothing is missing here; events up to it are in the queues. 0 before the feed
    /// has begun.
    pub(crate) fn head(&self) -> u64 {
        self.inner.lock().window.as_ref().map_or(0, Window::head)
    }

    /// The sequence behind which the window begins.
    pub(crate) fn floor(&self) -> u64 {
        self.inner.lock().window.as_ref().map_or(0, Window::floor)
    }

    /// Whether events wait for one that is missing.
    pub(crate) fn has_gap(&self) -> bool {
        self.inner.lock().window.as_ref().is_some_and(Window::has_gap)
    }

    /// Begins behind `after`. Whoever is connected already comes back with his cursor if this is another history.
    pub(crate) fn begin(&self, after: u64) {
        let mut inner = self.inner.lock();
        if inner.window.replace(Window::new(after, WINDOW)).is_some() {
            for (_, his) in inner.seats.drain() {
                for seat in his {
                    seat.dismiss(Dismissed::Reset);
                }
            }
            inner.taken = 0;
        }
    }

    /// Events that the log brought; answers those that were new, in their order.
    pub(crate) fn arrived(&self, events: Vec<OrderEvent>) -> Vec<Arc<OrderEvent>> {
        let mut inner = self.inner.lock();
        let mut new = Vec::new();
        let Some(window) = &mut inner.window else { return new };
        for event in events {
            match window.take(event, &mut new) {
                Taken::Next | Taken::Early | Taken::Repeat => {}
            }
        }
        inner.dispatch(&new);
        new
    }

    /// What SQL says of everything behind [`Self::head`]; answers what was new, or `None` for another history.
    pub(crate) fn filled(&self, told: Told) -> Option<Vec<Arc<OrderEvent>>> {
        let mut inner = self.inner.lock();
        let mut new = Vec::new();
        if !inner.window.as_mut()?.fill(told, &mut new) {
            return None;
        }
        inner.dispatch(&new);
        Some(new)
    }

    /// Says good-bye to all and waits for them, for a short while.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.connections.close();
        let open = self.connections.len();
        if tokio::time::timeout(GOOD_BYE, self.connections.wait()).await.is_err() {
            tracing::warn!(open, left = self.connections.len(), "live connections were cut off");
        }
    }
}
