//! Standings as reports: what changed since the last one, all of it from time to time, and each final
//! window. It numbers reports and remembers what readers know; sending them is not its job.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use types::{HeatEntry, HeatReport, PageId, Temperature, Thresholds, Timestamp};

use crate::engine::{Counters, FinalWindow, Ranking};
use crate::live::{HeatSnapshot, TopPage};
use crate::window::Standing;

/// Most pages in a provisional report: at about 200 bytes each 2 MB, four times a second at worst. The
/// hottest of each window are kept.
pub const MAX_ENTRIES: u64 = 10_000;
/// Most pages in a final window's hot set: 1 % of 5 million active pages, 8 MB at the longest page ids.
pub const MAX_HOT: usize = 50_000;

#[derive(Debug)]
struct Known {
    entry: HeatEntry,
    since: Timestamp,
}

/// Makes reports.
#[derive(Debug)]
pub struct Reporter {
    sequence: u64,
    every: Duration,
    last_snapshot: Option<Timestamp>,
    known: BTreeMap<PageId, Known>,
    thresholds: Thresholds,
}

fn temperature(count: u32, lines: &Standing) -> Temperature {
    if count == 0 || count < lines.warm {
        Temperature::Cold
    } else if count >= lines.hot {
        Temperature::Hot
    } else {
        Temperature::Warm
    }
}

// What a reader acts on. Slope and attempts follow from counts; they also change by the mere passing of
// a fraction of a second, which is no news.
fn says_the_same(a: &HeatEntry, b: &HeatEntry) -> bool {
    (a.count5, a.count60, a.visitors, a.now5, a.now60) == (b.count5, b.count60, b.visitors, b.now5, b.now60)
}

impl Reporter {
    /// A reporter whose first report is numbered `sequence`; a full snapshot at least `every`.
    pub const fn new(sequence: u64, every: Duration) -> Self {
        Self {
            sequence,
            every,
            last_snapshot: None,
            known: BTreeMap::new(),
            thresholds: Thresholds { hot60: 0, warm60: 0, hot5: 0, warm5: 0 },
        }
    }

    /// The number of the next report.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The next report is numbered above this.
    pub fn go_on_above(&mut self, sequence: u64) {
        self.sequence = self.sequence.max(sequence);
    }

    fn number(&mut self) -> u64 {
        let sequence = self.sequence;
        self.sequence += 1;
        sequence
    }

    /// A report was not published: the next must say everything again.
    pub fn forget_readers(&mut self) {
        self.last_snapshot = None;
    }

    /// Pages with temperature and since when, for a checkpoint.
    pub fn since(&self) -> Vec<(PageId, Temperature, Timestamp)> {
        self.known.iter().map(|(page, k)| (page.clone(), k.entry.now60, k.since)).collect()
    }

    /// Takes up from a checkpoint since when pages have their temperature. The next report is a snapshot.
    pub fn restore_since(&mut self, since: Vec<(PageId, Temperature, Timestamp)>) {
        for (page, now60, since) in since {
            let entry = HeatEntry {
                page: page.clone(),
                count5: 0,
                count60: 0,
                visitors: 0,
                slope: 0.0,
                attempts_per_s: 0.0,
                now5: Temperature::Cold,
                now60,
            };
            self.known.entry(page).or_insert(Known { entry, since });
        }
    }

    /// The provisional report at event time `now`, and the snapshot for readers in this process. `counts` answers a
    /// page's counts in the short and the long window; `place` is what is final, and what was counted.
    pub fn provisional(
        &mut self,
        ranking: &Ranking,
        counts: impl Fn(&str) -> Option<(u32, u32)>,
        place: (Option<Timestamp>, Counters),
        now: Timestamp,
        made_at: Timestamp,
    ) -> (HeatReport, HeatSnapshot) {
        // A clock that was set back makes a snapshot now rather than none for long.
        let fresh = |last: Timestamp| last <= made_at && made_at.since(last) < self.every;
        let many = self.known.len() as u64 > 4 * MAX_ENTRIES;
        let snapshot = many || !self.last_snapshot.is_some_and(fresh);
        let mut last = std::mem::take(&mut self.known);
        let mut entries = Vec::new();
        let mut top = Vec::with_capacity(ranking.pages.len());
        for ranked in &ranking.pages {
            let page = ranked.page.clone();
            let entry = HeatEntry {
                page: page.clone(),
                count5: ranked.count5.into(),
                count60: ranked.count60.into(),
                visitors: ranked.visitors,
                slope: ranked.slope,
                attempts_per_s: ranked.attempts_per_s,
                now5: temperature(ranked.count5, &ranking.burst),
                now60: temperature(ranked.count60, &ranking.standing),
            };
            let before = last.remove(&page);
            let since = before.as_ref().filter(|b| b.entry.now60 == entry.now60).map_or(now, |b| b.since);
            top.push(top_page(&entry, since, ranking.standing.total));
            if snapshot || !before.is_some_and(|b| says_the_same(&b.entry, &entry)) {
                entries.push(entry.clone());
            }
            self.known.insert(page, Known { entry, since });
        }
        if !snapshot {
            self.cooled(counts, last, now, &mut entries);
            entries.sort_by(|a, b| b.count60.cmp(&a.count60).then_with(|| a.page.cmp(&b.page)));
        }
        if snapshot {
            self.last_snapshot = Some(made_at);
        }
        let (long, short) = (&ranking.standing, &ranking.burst);
        self.thresholds = Thresholds {
            hot60: long.hot.into(),
            warm60: long.warm.into(),
            hot5: short.hot.into(),
            warm5: short.warm.into(),
        };
        let report = HeatReport {
            window_end: now,
            is_final: false,
            sequence: self.number(),
            snapshot,
            active: ranking.standing.active,
            k: ranking.standing.k,
            thresholds: self.thresholds,
            total: ranking.standing.total,
            entries,
            hot: Vec::new(),
            made_at,
        };
        let shown = HeatSnapshot {
            window_end: now,
            made_at,
            final_to: place.0,
            active: report.active,
            k: report.k,
            thresholds: self.thresholds,
            total: report.total,
            events_per_s: ranking.events_per_s,
            top: Arc::from(top),
            cut: ranking.cut,
            counters: place.1,
        };
        (report, shown)
    }

    // Pages that readers know and that are neither hot nor warm now: their counts are told until the
    // next snapshot lets them go, because a planner demotes by the counts of pages that have cooled.
    fn cooled(
        &mut self,
        counts: impl Fn(&str) -> Option<(u32, u32)>,
        last: BTreeMap<PageId, Known>,
        now: Timestamp,
        entries: &mut Vec<HeatEntry>,
    ) {
        for (page, before) in last {
            let (count5, count60) = counts(page.as_str()).unwrap_or_default();
            let entry = HeatEntry {
                count5: count5.into(),
                count60: count60.into(),
                slope: 0.0,
                attempts_per_s: 0.0,
                now5: Temperature::Cold,
                now60: Temperature::Cold,
                ..before.entry.clone()
            };
            let since = if before.entry.now60 == Temperature::Cold { before.since } else { now };
            if !says_the_same(&before.entry, &entry) {
                entries.push(entry.clone());
            }
            self.known.insert(page, Known { entry, since });
        }
    }

    /// The report of a final window: its lines and its whole hot set. It carries no entries, because it is
    /// older than what the last provisional report said of them.
    pub fn settled(&mut self, window: FinalWindow, made_at: Timestamp) -> (HeatReport, usize) {
        let FinalWindow { end, standing, mut hot } = window;
        let cut = hot.len().saturating_sub(MAX_HOT);
        hot.truncate(MAX_HOT);
        let report = HeatReport {
            window_end: end,
            is_final: true,
            sequence: self.number(),
            snapshot: false,
            active: standing.active,
            k: standing.k,
            thresholds: Thresholds { hot60: standing.hot.into(), warm60: standing.warm.into(), ..self.thresholds },
            total: standing.total,
            entries: Vec::new(),
            hot,
            made_at,
        };
        (report, cut)
    }
}

fn top_page(entry: &HeatEntry, since: Timestamp, total: u64) -> TopPage {
    TopPage {
        page: entry.page.shared(),
        count: entry.count60,
        count5: entry.count5,
        share: if total == 0 { 0.0 } else { entry.count60 as f64 / total as f64 },
        temperature: entry.now60,
        temperature5: entry.now5,
        since,
        visitors: entry.visitors,
        slope: entry.slope,
        attempts_per_s: entry.attempts_per_s,
    }
}
