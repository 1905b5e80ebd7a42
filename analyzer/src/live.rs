//! What readers see of the running analysis: the newest snapshot and the sealed seconds of the last
//! quarter of an hour. The engine's task writes, anyone reads; a reader never makes the engine wait
//! longer than the exchange of a pointer.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use types::{EventKind, Temperature, Thresholds, Timestamp};

use crate::engine::Counters;
use crate::intern::PageTable;
use crate::pane::{Counting, Pane};
use crate::tables::{HeatRow, LiveTables, TopRow};

/// Seconds of event time that live tables keep: a quarter of an hour, the longest look-back of a dashboard.
pub const KEPT_SECONDS: i64 = 900;
/// Most rows that live tables keep (about 300 MB); beyond it the oldest seconds go first.
pub const KEPT_ROWS: usize = 5_000_000;

/// One page of a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct TopPage {
    /// The page as it stands in the path.
    #[serde(rename = "product")]
    #[schema(value_type = types::PageId)]
    pub page: Arc<str>,
    /// Weighted count in the window.
    pub count: u64,
    /// Weighted count in the last 5 s.
    pub count5: u64,
    /// Its share of all weighted counts in the window, 0 to 1.
    pub share: f64,
    /// By the window.
    pub temperature: Temperature,
    /// By the last 5 s.
    pub temperature5: Temperature,
    /// Event time since which it has this temperature.
    pub since: Timestamp,
    /// Distinct visitors in the last minute (estimate beyond 16).
    pub visitors: u64,
    /// Change of the weighted rate, events/s per second.
    pub slope: f64,
    /// Purchase attempts per second, over the last 5 s.
    pub attempts_per_s: f64,
}

/// The analysis at one tick.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeatSnapshot {
    /// Present in event time: the exclusive end of the provisional windows. The epoch before the first event.
    pub window_end: Timestamp,
    /// When it was made, by the clock.
    pub made_at: Timestamp,
    /// End of the last window that is final.
    pub final_to: Option<Timestamp>,
    /// Pages with at least one event in the window.
    pub active: u64,
    /// `⌈0.01 · active⌉`.
    pub k: u64,
    /// Counts from which a page is hot or warm.
    pub thresholds: Thresholds,
    /// Sum of all weighted counts in the window.
    pub total: u64,
    /// Counted events per second of event time, over the last 5 s.
    pub events_per_s: f64,
    /// Pages that are hot or warm, by count descending, then page; bounded.
    pub top: Arc<[TopPage]>,
    /// Hot and warm pages that the bound left out.
    pub cut: u64,
    /// Counters since the beginning.
    #[serde(skip)]
    pub counters: Counters,
}

impl Default for HeatSnapshot {
    fn default() -> Self {
        Self {
            window_end: Timestamp::default(),
            made_at: Timestamp::default(),
            final_to: None,
            active: 0,
            k: 0,
            thresholds: Thresholds::default(),
            total: 0,
            events_per_s: 0.0,
            top: Arc::from([]),
            cut: 0,
            counters: Counters::default(),
        }
    }
}

/// The rows of a closed pane as queries see them, by page, then kind; with the distinct visitors of each row.
pub(crate) fn rows_of(pane: &Pane, visitors: &[[u32; 3]], pages: &PageTable, counting: &Counting) -> Vec<HeatRow> {
    let mut order: Vec<(&types::PageId, &crate::pane::Row, &[u32; 3])> =
        pane.rows().iter().zip(visitors).map(|(row, visitors)| (pages.name(row.id), row, visitors)).collect();
    order.sort_unstable_by(|a, b| a.0.cmp(b.0));
    let time = Timestamp::from_seconds(pane.second);
    let mut rows = Vec::with_capacity(order.len());
    for (page, row, visitors) in order {
        for (at, kind) in EventKind::ALL.into_iter().enumerate().filter(|(at, _)| row.events[*at] > 0) {
            rows.push(HeatRow {
                time,
                page: page.shared(),
                kind,
                events: row.events[at].into(),
                weighted: u64::from(row.events[at]) * u64::from(counting.weights[at]),
                visitors: visitors[at].into(),
            });
        }
    }
    rows
}

#[derive(Debug, Default)]
struct Kept {
    seconds: BTreeMap<i64, Arc<[HeatRow]>>,
    rows: usize,
}

/// The published state.
#[derive(Debug)]
pub struct LiveHeat {
    kept: RwLock<Kept>,
    snapshot: ArcSwap<HeatSnapshot>,
    changes: watch::Sender<Arc<HeatSnapshot>>,
    // Streams of snapshots end with this: a listener that closes waits for its answers.
    closing: CancellationToken,
}

impl Default for LiveHeat {
    fn default() -> Self {
        let empty = Arc::new(HeatSnapshot::default());
        Self {
            kept: RwLock::default(),
            snapshot: ArcSwap::new(Arc::clone(&empty)),
            changes: watch::Sender::new(empty),
            closing: CancellationToken::new(),
        }
    }
}

impl LiveHeat {
    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<HeatSnapshot> {
        self.snapshot.load_full()
    }
    /// Snapshots as they come; a slow reader sees the newest.
    pub fn subscribe(&self) -> watch::Receiver<Arc<HeatSnapshot>> {
        self.changes.subscribe()
    }
    /// Readers that follow have to end.
    pub fn close(&self) {
        self.closing.cancel();
    }
    /// Resolves when readers have to end.
    pub fn closing(&self) -> WaitForCancellationFutureOwned {
        self.closing.clone().cancelled_owned()
    }
    /// A new snapshot replaces the last.
    pub(crate) fn publish(&self, snapshot: HeatSnapshot) {
        let snapshot = Arc::new(snapshot);
        self.snapshot.store(Arc::clone(&snapshot));
        self.changes.send_replace(snapshot);
    }
    /// Rows of a final second join, by page, then kind; a shard that came later may add to a second.
    pub(crate) fn join(&self, second: i64, mut rows: Vec<HeatRow>) {
        let mut kept = self.kept.write();
        if let Some(known) = kept.seconds.remove(&second) {
            kept.rows -= known.len();
            rows.extend_from_slice(&known);
            rows.sort_by(|a, b| a.page.cmp(&b.page).then(a.kind.cmp(&b.kind)));
        }
        kept.rows += rows.len();
        kept.seconds.insert(second, rows.into());
        let newest = kept.seconds.last_key_value().map_or(second, |(newest, _)| *newest);
        while let Some((oldest, rows)) = kept.seconds.first_key_value()
            && (*oldest <= newest - KEPT_SECONDS || kept.rows > KEPT_ROWS)
        {
            let gone = rows.len();
            kept.seconds.pop_first();
            kept.rows -= gone;
        }
    }
    /// Rows that are kept.
    pub fn rows(&self) -> usize {
        self.kept.read().rows
    }
    fn seconds(&self, from: i64, to: i64) -> Vec<Arc<[HeatRow]>> {
        if from >= to {
            return Vec::new();
        }
        self.kept.read().seconds.range(from..to).map(|(_, rows)| Arc::clone(rows)).collect()
    }
    /// A page's weighted events in the sealed seconds of the last minute, for pages that no snapshot lists.
    pub fn settled_count(&self, page: &str) -> u64 {
        let end = self.snapshot().window_end.second() + 1;
        let mut count = 0;
        for rows in self.seconds(end - 60, end) {
            let from = rows.partition_point(|row| *row.page < *page);
            count += rows[from..].iter().take_while(|row| &*row.page == page).map(|row| row.weighted).sum::<u64>();
        }
        count
    }
}

impl LiveTables for LiveHeat {
    fn product_heat(&self, from: Option<Timestamp>, to: Option<Timestamp>) -> Vec<HeatRow> {
        // A second belongs to `[from, to)` by its beginning.
        let ceiling = |t: Timestamp| t.millis().div_euclid(1000) + i64::from(t.millis().rem_euclid(1000) > 0);
        let seconds = self.seconds(from.map_or(i64::MIN, ceiling), to.map_or(i64::MAX, ceiling));
        let mut all = Vec::with_capacity(seconds.iter().map(|rows| rows.len()).sum());
        for rows in seconds {
            all.extend_from_slice(&rows);
        }
        all
    }

    fn newest_second(&self) -> Option<i64> {
        self.kept.read().seconds.keys().next_back().copied()
    }

    fn top_products(&self) -> Vec<TopRow> {
        let snapshot = self.snapshot();
        snapshot
            .top
            .iter()
            .filter(|page| page.temperature != Temperature::Cold)
            .zip(1..)
            .map(|(page, rank)| TopRow {
                rank,
                page: Arc::clone(&page.page),
                count: page.count,
                share: page.share,
                threshold: snapshot.thresholds.hot60,
                temperature: page.temperature,
                since: page.since,
                window_end: snapshot.window_end,
            })
            .collect()
    }
}
