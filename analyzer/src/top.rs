//! `seckill top`: the rolling top 1 % of any log, without servers. Events go in one after the other,
//! final windows come out through a callback; memory is bounded by the window and the lateness.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::{EventKind, HotPage, Invalid, Timestamp, VisitorHash};

use crate::engine::{Counters, Engine, FinalWindow, MAX_WEIGHT, MAX_WINDOW_SECONDS, Pushed, Rules};

/// Greatest lateness: an hour, for the memory of the panes that stay open.
pub const MAX_LATENESS: Duration = Duration::from_secs(3600);

/// How a log is looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TopOptions {
    /// Length of the window, whole seconds up to an hour.
    #[serde(with = "types::time::duration_text")]
    pub window: Duration,
    /// A window ends at each multiple of this, whole seconds.
    #[serde(with = "types::time::duration_text")]
    pub slide: Duration,
    /// How far behind the newest event an event may stand in the log; later ones are dropped and counted.
    #[serde(with = "types::time::duration_text")]
    pub lateness: Duration,
    /// Weight of view, cart, attempt.
    pub weights: [u32; 3],
    /// Most events of one visitor on one page in one second; 0 = no cap.
    pub visitor_cap: u8,
    /// Floor of hot, in thousandths of a weighted event per second.
    pub hot_floor_milli: u32,
    /// Most pages known at once.
    pub max_pages: usize,
}

impl Default for TopOptions {
    /// As the service counts: weights 1, 3, 5, two events per visitor, page and second, floor 0.2/s.
    fn default() -> Self {
        Self { weights: [1, 3, 5], visitor_cap: 2, hot_floor_milli: 200, ..Self::raw() }
    }
}

impl TopOptions {
    /// `--raw`: every event counts once, no floor, no cap.
    pub const fn raw() -> Self {
        Self {
            window: Duration::from_secs(60),
            slide: Duration::from_secs(1),
            lateness: Duration::from_secs(60),
            weights: [1, 1, 1],
            visitor_cap: 0,
            hot_floor_milli: 0,
            max_pages: 20_000_000,
        }
    }

    /// Refuses what cannot be counted, naming the field.
    pub fn check(&self) -> Result<(), Invalid> {
        let longest = Duration::from_secs(MAX_WINDOW_SECONDS.into());
        let whole = |d: Duration| d.subsec_nanos() == 0 && !d.is_zero() && d <= longest;
        if !whole(self.window) {
            return Err(Invalid::new(
                "window",
                format!("{:?} is not 1 to {MAX_WINDOW_SECONDS} whole seconds", self.window),
            ));
        }
        if !whole(self.slide) {
            return Err(Invalid::new(
                "slide",
                format!("{:?} is not 1 to {MAX_WINDOW_SECONDS} whole seconds", self.slide),
            ));
        }
        if self.lateness > MAX_LATENESS {
            return Err(Invalid::new("lateness", format!("{:?} is more than {MAX_LATENESS:?}", self.lateness)));
        }
        if self.weights.iter().any(|w| *w > MAX_WEIGHT) {
            return Err(Invalid::new("weights", format!("a weight is 0 to {MAX_WEIGHT}")));
        }
        if self.max_pages == 0 {
            return Err(Invalid::new("max_pages", "is 0; at least one page must fit"));
        }
        Ok(())
    }
}

/// The rolling top of a stream of events.
#[derive(Debug)]
pub struct Top {
    engine: Engine,
    lateness: Duration,
    window: i64,
    // Newest time of an event; newest second of one that counts.
    newest: Timestamp,
    counted: Option<i64>,
    bad_pages: u64,
}

impl Top {
    /// Starts with nothing; refuses options that cannot be counted.
    pub fn new(options: &TopOptions) -> Result<Self, Invalid> {
        options.check()?;
        let seconds = |d: Duration| u32::try_from(d.as_secs()).unwrap_or(MAX_WINDOW_SECONDS);
        let rules = Rules {
            window: seconds(options.window),
            slide: seconds(options.slide),
            weights: options.weights,
            cap: options.visitor_cap,
            hot_floor_milli: options.hot_floor_milli,
            warm_floor_milli: 0,
            max_pages: options.max_pages,
            // The pane of the newest event and, at the other end, the one the lateness cuts through.
            spread: seconds(options.lateness) + 2,
            live: false,
        };
        Ok(Self {
            window: rules.window.into(),
            engine: Engine::new(rules),
            lateness: options.lateness,
            newest: Timestamp::from_millis(i64::MIN),
            counted: None,
            bad_pages: 0,
        })
    }

    /// Counts one event; windows that become final by it are yielded first, in order.
    #[inline]
    pub fn push(
        &mut self,
        page: &str,
        kind: EventKind,
        visitor: VisitorHash,
        at: Timestamp,
        yields: impl FnMut(FinalWindow),
    ) -> Pushed {
        if at > self.newest {
            let later = at.second() > self.newest.second();
            self.newest = at;
            let watermark = at.minus(self.lateness);
            self.engine.close(watermark.second());
            if later && self.counted.is_some() {
                self.engine.seal(watermark, yields);
            }
        }
        let pushed = self.engine.push(page, kind, visitor.0, at);
        match pushed {
            Pushed::Counted => self.counted = self.counted.max(Some(at.second())),
            Pushed::BadPage => self.bad_pages += 1,
            _ => {}
        }
        pushed
    }

    /// The log has ended: yields every window up to the last that still holds an event.
    pub fn finish(mut self, mut yields: impl FnMut(FinalWindow)) -> TopEnd {
        if let Some(newest) = self.counted {
            let last = Timestamp::from_seconds(newest.saturating_add(self.window));
            self.engine.seal(last, &mut yields);
        }
        self.end()
    }

    /// Counters so far.
    pub fn end(&self) -> TopEnd {
        let counters = self.engine.counters();
        TopEnd { late: counters.late, bad_pages: self.bad_pages, counters }
    }
}

/// What came of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopEnd {
    /// Events dropped because they came later than the lateness allows.
    pub late: u64,
    /// Events whose page is no page id.
    pub bad_pages: u64,
    /// The engine's counters.
    pub counters: Counters,
}

/// One line of `seckill top --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopLine {
    /// Exclusive end of the window, whole seconds in UTC.
    pub window_end: String,
    /// Pages with at least one event.
    pub active: u64,
    /// `⌈0.01 · active⌉`.
    pub k: u64,
    /// The largest count that at least `k` pages reach; 0 with nothing active.
    pub threshold: u64,
    /// The hot pages, by count descending, then page.
    pub hot: Vec<HotPage>,
}

impl From<FinalWindow> for TopLine {
    fn from(window: FinalWindow) -> Self {
        Self {
            window_end: window.end.to_second_string(),
            active: window.standing.active,
            k: window.standing.k,
            threshold: window.standing.threshold.into(),
            hot: window.hot,
        }
    }
}

impl TopLine {
    /// The line as it is printed, without a line end.
    pub fn render(&self) -> String {
        serde_json::to_string(self).expect("numbers and page ids are always JSON")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn lines(events: &[(&str, i64)], options: &TopOptions) -> (Vec<String>, TopEnd) {
        let mut top = Top::new(options).unwrap();
        let mut lines = Vec::new();
        for (page, ms) in events {
            let at = Timestamp::from_millis(*ms);
            top.push(page, EventKind::View, VisitorHash(0), at, |w| lines.push(TopLine::from(w).render()));
        }
        let end = top.finish(|w| lines.push(TopLine::from(w).render()));
        (lines, end)
    }

    #[test]
    fn a_line_has_these_fields_in_this_order() {
        let start = "2026-11-11T00:00:00Z".parse::<Timestamp>().unwrap().millis();
        let events: Vec<_> = (0..7).map(|_| ("42", start + 10)).chain([("7", start + 20)]).collect();
        let (lines, _) = lines(&events, &TopOptions::raw());
        assert_eq!(lines.len(), 60);
        insta::assert_snapshot!(lines[0], @r#"{"window_end":"2026-11-11T00:00:01Z","active":2,"k":1,"threshold":7,"hot":[{"product":"42","count":7}]}"#);
        insta::assert_snapshot!(lines[59], @r#"{"window_end":"2026-11-11T00:01:00Z","active":2,"k":1,"threshold":7,"hot":[{"product":"42","count":7}]}"#);
    }

    #[test]
    fn a_gap_longer_than_the_window_has_one_empty_line_a_second() {
        let (lines, _) = lines(&[("a", 0), ("b", 100_000)], &TopOptions::raw());
        assert_eq!(lines.len(), 160, "from the end of second 0 to the last window that holds second 100");
        insta::assert_snapshot!(lines[60], @r#"{"window_end":"1970-01-01T00:01:01Z","active":0,"k":0,"threshold":0,"hot":[]}"#);
        assert!(lines[99].contains("\"active\":0") && lines[100].contains("\"product\":\"b\""));
    }

    #[test]
    fn lines_out_of_order_count_within_the_lateness_and_later_ones_are_named() {
        let options = TopOptions { lateness: Duration::from_secs(5), ..TopOptions::raw() };
        let (lines, end) = lines(&[("a", 10_000), ("b", 16_000), ("c", 11_500), ("d", 10_900), ("e", 9_000)], &options);
        assert_eq!(end.late, 2, "d and e stand in panes that ended at or before 11.000");
        assert!(lines[0].contains("00:00:11Z") && lines[1].contains("\"active\":2"));
        assert_eq!(lines.len(), 66);
    }

    #[test]
    fn an_empty_log_has_no_lines_and_odd_options_are_refused_by_name() {
        assert_eq!(lines(&[], &TopOptions::raw()).0, Vec::<String>::new());
        for (options, field) in [
            (TopOptions { window: Duration::from_millis(1500), ..TopOptions::raw() }, "window"),
            (TopOptions { slide: Duration::ZERO, ..TopOptions::raw() }, "slide"),
            (TopOptions { lateness: Duration::from_secs(86_400), ..TopOptions::raw() }, "lateness"),
            (TopOptions { weights: [1, 3, 5000], ..TopOptions::raw() }, "weights"),
        ] {
            assert_eq!(Top::new(&options).unwrap_err().what, field);
        }
    }

    #[test]
    fn windows_slide_at_multiples_of_the_slide() {
        let options = TopOptions { slide: Duration::from_secs(30), ..TopOptions::raw() };
        let (lines, _) = lines(&[("a", 5_000), ("a", 40_000)], &options);
        let ends: Vec<_> = lines.iter().map(|l| l[15..35].to_owned()).collect();
        assert_eq!(ends, ["1970-01-01T00:00:30Z", "1970-01-01T00:01:00Z", "1970-01-01T00:01:30Z"]);
    }
}
