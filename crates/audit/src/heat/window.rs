//! One window's answer, and the comparison of two lists of them. Says what differs; decides nothing.

use std::collections::HashMap;

use serde::de::Error;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize};

use super::raw::days;

/// Most differences that are kept as text.
pub const MAX_DIFFERENCES: usize = 20;

/// A window `[end − w, end)` and what was hot in it. As JSON it is a line of `seckill top --raw --json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Exclusive end, in whole seconds since the epoch.
    pub window_end: i64,
    /// Pages with at least one counted event.
    pub active: u64,
    /// How many pages the share of hot ones asks for.
    pub k: u64,
    /// The count from which a page is hot, the floor included; 0 if nothing is active.
    pub threshold: u64,
    /// Hot pages with their counts, by count descending, then page.
    pub hot: Vec<(String, u64)>,
}

#[derive(Serialize, Deserialize)]
struct Hot {
    product: String,
    count: u64,
}

impl Serialize for Window {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let hot: Vec<Hot> = self.hot.iter().map(|(p, count)| Hot { product: p.clone(), count: *count }).collect();
        let mut out = serializer.serialize_struct("Window", 5)?;
        out.serialize_field("window_end", &second_text(self.window_end))?;
        out.serialize_field("active", &self.active)?;
        out.serialize_field("k", &self.k)?;
        out.serialize_field("threshold", &self.threshold)?;
        out.serialize_field("hot", &hot)?;
        out.end()
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Line {
            window_end: String,
            active: u64,
            k: u64,
            threshold: u64,
            hot: Vec<Hot>,
        }
        let line = Line::deserialize(deserializer)?;
        let window_end = super::raw::iso_second(&line.window_end)
            .ok_or_else(|| D::Error::custom(format!("window_end {:?} is not a time", line.window_end)))?;
        let hot = line.hot.into_iter().map(|h| (h.product, h.count)).collect();
        Ok(Self { window_end, active: line.active, k: line.k, threshold: line.threshold, hot })
    }
}

/// `2026-11-11T00:01:00Z`.
pub(crate) fn second_text(second: i64) -> String {
    let (day, of_day) = (second.div_euclid(86_400), second.rem_euclid(86_400));
    // Never later than the year sought: years before 1970 are at least 365 days long, those after at most 366.
    let mut year = 1970 + day.div_euclid(if day < 0 { 365 } else { 366 });
    while days(year + 1, 1, 1) <= day {
        year += 1;
    }
    let month = (1..=12).rev().find(|m| days(year, *m, 1) <= day).unwrap_or(1);
    let of_month = day - days(year, month, 1) + 1;
    format!("{year:04}-{month:02}-{of_month:02}T{:02}:{:02}:{:02}Z", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// How reported windows compare with recounted ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Reported windows that were compared.
    pub compared: u64,
    /// Of these, how many differ.
    pub different: u64,
    /// The first differences, at most [`MAX_DIFFERENCES`], in words.
    pub differences: Vec<String>,
    /// Recounted windows between the first and the last reported one that were never reported.
    pub missing: u64,
    /// Recounted windows before the first reported one: of an earlier run on the same log, or else missing too.
    pub before_first: u64,
}

impl Comparison {
    /// Whether something was compared and nothing differs or is missing in between.
    pub fn holds(&self) -> bool {
        self.compared > 0 && self.different == 0 && self.missing == 0
    }
    fn differ(&mut self, text: String) {
        self.different += 1;
        if self.differences.len() < MAX_DIFFERENCES {
            self.differences.push(text);
        }
    }
}

/// Compares each reported final window with its recount. A window may be reported more than once (at least
/// once is the promise); each report must be right. A window outside the recount must be empty. The windows
/// after the last reported one are not missing: they were not final yet.
pub fn compare(recounted: impl Iterator<Item = Window>, reported: &[Window]) -> Comparison {
    let mut result = Comparison::default();
    let mut by_end: HashMap<i64, Vec<&Window>> = HashMap::new();
    for window in reported {
        by_end.entry(window.window_end).or_default().push(window);
    }
    let (Some(first), Some(last)) = (by_end.keys().min().copied(), by_end.keys().max().copied()) else {
        return result;
    };
    for right in recounted {
        let said = by_end.remove(&right.window_end);
        if said.is_none() {
            result.before_first += u64::from(right.window_end < first);
            result.missing += u64::from((first..last).contains(&right.window_end));
        }
        for window in said.unwrap_or_default() {
            result.compared += 1;
            if *window != right {
                result.differ(explain(&right, window));
            }
        }
    }
    for window in by_end.into_values().flatten() {
        result.compared += 1;
        if window.active > 0 || !window.hot.is_empty() {
            result.differ(format!(
                "{}: holds no event, {} pages reported",
                second_text(window.window_end),
                window.active
            ));
        }
    }
    result
}

fn explain(right: &Window, said: &Window) -> String {
    let mut text = format!(
        "{}: active {} (reported {}), k {} ({}), threshold {} ({}), hot {} ({})",
        second_text(right.window_end),
        right.active,
        said.active,
        right.k,
        said.k,
        right.threshold,
        said.threshold,
        right.hot.len(),
        said.hot.len()
    );
    if let Some((page, count)) = right.hot.iter().find(|h| !said.hot.contains(h)) {
        text.push_str(&format!("; not reported: {page} with {count}"));
    }
    if let Some((page, count)) = said.hot.iter().find(|h| !right.hot.contains(h)) {
        text.push_str(&format!("; wrongly reported: {page} with {count}"));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn window(end: i64, count: u64) -> Window {
        Window { window_end: end, active: 1, k: 1, threshold: count, hot: vec![("a".to_owned(), count)] }
    }

    #[test]
    fn a_wrong_count_a_missing_and_an_invented_window_are_all_seen() {
        let right = || (1..=5).map(|end| window(end, 7));
        let good: Vec<Window> = right().take(4).collect();
        assert!(compare(right(), &good).holds(), "the last one is not final yet");

        let mut wrong = good.clone();
        wrong[1].hot[0].1 = 6;
        assert_eq!(compare(right(), &wrong).different, 1);
        let mut late = good.clone();
        late.remove(1);
        assert_eq!(compare(right(), &late).missing, 1);
        assert_eq!(compare(right(), &late[1..]).before_first, 2);
        let mut invented = good;
        invented.push(window(99, 1));
        assert!(!compare(right(), &invented).holds());
        assert!(!compare(right(), &[]).holds(), "nothing compared proves nothing");
    }

    #[test]
    fn the_last_second_of_a_year_before_the_epoch_is_in_that_year() {
        assert_eq!(second_text(-662_688_001), "1948-12-31T23:59:59Z");
    }

    proptest! {
        #[test]
        fn a_time_reads_back_what_it_prints(second in -2_000_000_000i64..250_000_000_000) {
            let text = second_text(second);
            prop_assert_eq!(super::super::raw::iso_second(&text), Some(second));
        }
    }
}
