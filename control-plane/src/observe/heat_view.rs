//! The newest heat of every reported page, bounded. Fed with reports in the order of their log; it must
//! never let an old report overwrite a newer one.

use std::collections::BTreeMap;
use std::time::Duration;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use types::{HeatEntry, HeatReport, PageId, Thresholds, Timestamp};

/// Most pages remembered: 1 % hot and 10 % warm of ten million active pages. Beyond it new pages are
/// left out (and counted) until a snapshot makes room.
pub const MAX_PAGES: usize = 1_100_000;
/// Most analyzer shards remembered: the most partitions a topic may have.
pub const MAX_SHARDS: usize = 1024;
/// A shard that is silent for so long while others speak has been taken over by them: what it said last is forgotten.
/// Longer than from one snapshot to the next.
pub const SILENT: Duration = Duration::from_secs(15);

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportFate {
    /// It is the newest of its shard and is what the view now says.
    Taken,
    /// Taken, but reports before it are missing; the next snapshot mends the view.
    TakenAfterGap,
    /// Already known or overtaken (delivery is at least once); ignored.
    Old,
    /// The shard is one too many; ignored.
    TooManyShards,
}

/// Heat of all pages of one product.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PagesHeat {
    /// Weighted events in the last 5 s, summed over the pages.
    pub count5: u64,
    /// Weighted events in the last 60 s, summed over the pages.
    pub count60: u64,
    /// Distinct visitors of the page that has most (a sum would count one visitor twice).
    pub visitors: u64,
    /// Purchase attempts per second over the last 5 s, summed.
    pub attempts_per_s: f64,
    /// Whether silence about a page means that it is cold: some report was a snapshot.
    pub known: bool,
}

#[derive(Debug, Default)]
struct Shard {
    sequence: u64,
    made_at: Timestamp,
    // It has sent a snapshot.
    complete: bool,
    pages: HashMap<PageId, HeatEntry, FxBuildHasher>,
}

/// The newest word of every analyzer shard.
#[derive(Debug)]
pub struct HeatView {
    // A few at most, asked one after the other for each page.
    shards: BTreeMap<Vec<u8>, Shard>,
    thresholds: Thresholds,
    window_end: Timestamp,
    revision: u64,
    fresh_at: Timestamp,
    pages: usize,
    left_out: u64,
    /// Some shard has sent a snapshot: silence about a page means that it is cold.
    complete: bool,
}

impl HeatView {
    /// An empty view; its age counts from `now`, so that a service that has just started is not stale.
    pub fn new(now: Timestamp) -> Self {
        Self {
            shards: BTreeMap::new(),
            thresholds: Thresholds::default(),
            window_end: Timestamp::default(),
            revision: 0,
            fresh_at: now,
            pages: 0,
            left_out: 0,
            complete: false,
        }
    }

    /// Takes one report of the shard named by its record's key. `received` is our own time: a report is
    /// as fresh as the older of its making and its arrival, so that a replayed backlog is not news.
    pub fn apply(&mut self, key: &[u8], report: HeatReport, received: Timestamp) -> ReportFate {
        if !self.shards.contains_key(key) && self.shards.len() >= MAX_SHARDS {
            return ReportFate::TooManyShards;
        }
        let first = !self.shards.contains_key(key);
        let shard = self.shards.entry(key.to_vec()).or_default();
        // A restarted analyzer counts from the start again; its clock tells it from a repeat.
        let repeat = report.sequence <= shard.sequence && report.made_at <= shard.made_at;
        if !first && repeat {
            return ReportFate::Old;
        }
        let gap = !first && !report.snapshot && report.sequence != shard.sequence.saturating_add(1);
        shard.sequence = report.sequence;
        shard.made_at = report.made_at;
        if report.snapshot {
            self.pages -= shard.pages.len();
            shard.pages.clear();
            shard.complete = true;
        }
        self.forget_others(key, &report);
        self.complete = self.shards.values().any(|shard| shard.complete);
        let Some(shard) = self.shards.get_mut(key) else { return ReportFate::Old };
        for entry in report.entries {
            if let Some(known) = shard.pages.get_mut(&entry.page) {
                *known = entry;
            } else if self.pages < MAX_PAGES {
                shard.pages.insert(entry.page.clone(), entry);
                self.pages += 1;
            } else {
                self.left_out += 1;
            }
        }
        // A final report settles a window of the past: it says that the analyzer lives, and nothing about now.
        // Counting it would make two looks of one.
        if !report.is_final {
            self.thresholds = report.thresholds;
            self.window_end = self.window_end.max(report.window_end);
            self.revision += 1;
        }
        self.fresh_at = self.fresh_at.max(received.min(report.made_at));
        if gap { ReportFate::TakenAfterGap } else { ReportFate::Taken }
    }

    // A page is one shard's; when partitions have moved between analyzers, the last to name it has it. Shards that have
    // fallen silent have been taken over whole.
    fn forget_others(&mut self, key: &[u8], report: &HeatReport) {
        for (_, other) in self.shards.iter_mut().filter(|(other, _)| other.as_slice() != key) {
            let before = other.pages.len();
            if other.made_at.plus(SILENT) < report.made_at {
                other.pages.clear();
                other.complete = false;
            } else if before > 0 {
                for entry in &report.entries {
                    other.pages.remove(&entry.page);
                }
            }
            self.pages -= before - other.pages.len();
        }
    }

    /// The heat of a product with these pages.
    pub fn of(&self, pages: &[PageId]) -> PagesHeat {
        let mut sum = PagesHeat { known: self.complete, ..PagesHeat::default() };
        for shard in self.shards.values() {
            for entry in pages.iter().filter_map(|p| shard.pages.get(p)) {
                sum.count5 = sum.count5.saturating_add(entry.count5);
                sum.count60 = sum.count60.saturating_add(entry.count60);
                sum.visitors = sum.visitors.max(entry.visitors);
                if entry.attempts_per_s.is_finite() && entry.attempts_per_s > 0.0 {
                    sum.attempts_per_s += entry.attempts_per_s;
                }
                sum.known = true;
            }
        }
        sum
    }

    /// Effective thresholds of the newest report.
    pub const fn thresholds(&self) -> Thresholds {
        self.thresholds
    }
    /// Rises with every provisional report taken: tells two looks at one report from two reports.
    pub const fn revision(&self) -> u64 {
        self.revision
    }
    /// When the newest report was made or, if that is older, received.
    pub const fn fresh_at(&self) -> Timestamp {
        self.fresh_at
    }
    /// End of the newest reported window, in event time.
    pub const fn window_end(&self) -> Timestamp {
        self.window_end
    }
    /// Pages remembered.
    pub const fn pages(&self) -> usize {
        self.pages
    }
    /// Entries left out so far because of [`MAX_PAGES`].
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fixtures::{entry, report, seconds};

    #[test]
    fn deltas_add_up_and_a_snapshot_forgets_the_rest() {
        let mut view = HeatView::new(seconds(0));
        let page = |name: &str| vec![PageId::new(name).unwrap()];
        let mut snapshot = report(1, seconds(1), vec![entry("a", 50, 100, 9, 0.0), entry("b", 1, 2, 1, 0.0)]);
        snapshot.snapshot = true;
        assert_eq!(view.apply(b"0", snapshot, seconds(1)), ReportFate::Taken);
        assert_eq!(
            view.apply(b"0", report(2, seconds(2), vec![entry("b", 70, 70, 8, 3.0)]), seconds(2)),
            ReportFate::Taken
        );
        assert_eq!(view.of(&page("a")).count60, 100);
        assert_eq!(view.of(&page("b")).count5, 70);
        let mut snapshot = report(3, seconds(3), vec![entry("b", 71, 71, 8, 3.0)]);
        snapshot.snapshot = true;
        view.apply(b"0", snapshot, seconds(3));
        assert_eq!(view.of(&page("a")), PagesHeat { known: true, ..PagesHeat::default() });
        assert_eq!(view.pages(), 1);
    }

    #[test]
    fn repeats_are_ignored_gaps_are_named_and_a_restarted_analyzer_is_believed() {
        let mut view = HeatView::new(seconds(0));
        view.apply(b"0", report(7, seconds(1), vec![entry("a", 5, 5, 5, 0.0)]), seconds(1));
        assert_eq!(
            view.apply(b"0", report(7, seconds(1), vec![entry("a", 9, 9, 9, 0.0)]), seconds(2)),
            ReportFate::Old
        );
        assert_eq!(view.revision(), 1, "a repeat is not news");
        assert_eq!(view.apply(b"0", report(9, seconds(2), vec![]), seconds(2)), ReportFate::TakenAfterGap);
        let mut again = report(1, seconds(3), vec![]);
        again.snapshot = true;
        assert_eq!(view.apply(b"0", again, seconds(3)), ReportFate::Taken);
    }

    #[test]
    fn a_final_report_is_a_sign_of_life_and_no_second_look() {
        let mut view = HeatView::new(seconds(0));
        view.apply(b"0", report(1, seconds(1), vec![entry("a", 5, 5, 5, 0.0)]), seconds(1));
        let mut settled = report(2, seconds(2), vec![]);
        (settled.is_final, settled.thresholds) = (true, Thresholds::default());
        assert_eq!(view.apply(b"0", settled, seconds(2)), ReportFate::Taken);
        assert_eq!((view.revision(), view.fresh_at()), (1, seconds(2)));
        assert_eq!(view.thresholds(), crate::fixtures::THRESHOLDS);
        assert_eq!(
            view.apply(b"0", report(3, seconds(3), vec![]), seconds(3)),
            ReportFate::Taken,
            "its number is counted, so there is no gap"
        );
    }

    #[test]
    fn an_old_report_that_arrives_now_is_not_fresh() {
        let mut view = HeatView::new(seconds(100));
        view.apply(b"0", report(1, seconds(40), vec![]), seconds(150));
        assert_eq!(view.fresh_at(), seconds(100));
        view.apply(b"0", report(2, seconds(149), vec![]), seconds(150));
        assert_eq!(view.fresh_at(), seconds(149));
    }

    #[test]
    fn a_page_that_moved_to_another_analyzer_is_not_counted_twice_and_who_fell_silent_is_forgotten() {
        let mut view = HeatView::new(seconds(0));
        let page = |name: &str| vec![PageId::new(name).unwrap()];
        let all = vec![entry("a", 5, 50, 5, 0.0), entry("b", 6, 60, 6, 0.0)];
        view.apply(b"0", report(1, seconds(1), all), seconds(1));
        view.apply(b"4", report(9, seconds(2), vec![entry("b", 7, 70, 7, 0.0)]), seconds(2));
        assert_eq!((view.of(&page("a")).count60, view.of(&page("b")).count60), (50, 70));
        assert_eq!(view.pages(), 2);
        view.apply(b"4", report(10, seconds(17), vec![]), seconds(17));
        assert_eq!((view.of(&page("a")).count60, view.of(&page("b")).count60), (0, 70), "shard 0 is gone");
        assert_eq!(view.pages(), 1);
    }

    #[test]
    fn shards_do_not_forget_for_each_other_and_their_number_is_bounded() {
        let mut view = HeatView::new(seconds(0));
        view.apply(b"0", report(1, seconds(1), vec![entry("a", 5, 5, 5, 0.0)]), seconds(1));
        let mut other = report(1, seconds(1), vec![entry("b", 6, 6, 6, 0.0)]);
        other.snapshot = true;
        view.apply(b"1", other, seconds(1));
        assert_eq!(view.of(&[PageId::new("a").unwrap(), PageId::new("b").unwrap()]).count5, 11);
        for n in 0..MAX_SHARDS {
            view.apply(format!("s{n}").as_bytes(), report(1, seconds(1), vec![]), seconds(1));
        }
        assert_eq!(view.apply(b"one more", report(1, seconds(1), vec![]), seconds(1)), ReportFate::TooManyShards);
    }
}
