//! What `seckill top` writes: one JSON line or CSV rows a window, or a table of one window. It decides nothing.

use std::collections::VecDeque;
use std::io::{self, Write};

use analyzer::engine::FinalWindow;
use analyzer::top::TopLine;
use types::HotPage;

use super::Seen;

/// Rows of the table.
const ROWS: usize = 20;
/// Width of the longest bar in the table.
const BAR: u64 = 24;
/// Points of a sparkline: about as many as tell a rise from a peak.
const POINTS: usize = 20;
const SPARKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Table,
    Json,
    Csv,
}

pub(super) fn csv_head(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "window_end,active,k,threshold,rank,product,count")
}

/// A row for each hot page; one without a page if nothing is hot. A page id may hold commas and quotes.
pub(super) fn csv(out: &mut impl Write, window: &FinalWindow) -> io::Result<()> {
    let standing = &window.standing;
    let end = window.end.to_second_string();
    let lead = format!("{end},{},{},{}", standing.active, standing.k, standing.threshold);
    if window.hot.is_empty() {
        return writeln!(out, "{lead},,,");
    }
    for (rank, hot) in window.hot.iter().enumerate() {
        let page = hot.page.as_str();
        if page.contains([',', '"']) {
            writeln!(out, "{lead},{},\"{}\",{}", rank + 1, page.replace('"', "\"\""), hot.count)?;
        } else {
            writeln!(out, "{lead},{},{page},{}", rank + 1, hot.count)?;
        }
    }
    Ok(())
}

pub(super) fn json(out: &mut impl Write, window: FinalWindow) -> io::Result<()> {
    writeln!(out, "{}", TopLine::from(window).render())
}

/// The hot pages of some windows before the last one, for its sparklines.
#[derive(Debug)]
pub(super) struct History {
    every: i64,
    points: VecDeque<Vec<HotPage>>,
}

impl History {
    /// Over the length of a window, which slides by so much.
    pub fn new(window: i64, slide: i64) -> Self {
        let steps = (window / slide.max(1)).max(1);
        let every = (steps as usize).div_ceil(POINTS) as i64 * slide.max(1);
        Self { every: every.max(1), points: VecDeque::new() }
    }
    pub fn saw(&mut self, window: &FinalWindow) {
        if window.end.second().rem_euclid(self.every) != 0 {
            return;
        }
        if self.points.len() == POINTS {
            self.points.pop_front();
        }
        self.points.push_back(window.hot.clone());
    }
    /// A page's way to its count now: a space where it was not hot.
    fn spark(&self, page: &HotPage) -> String {
        let at = |hot: &Vec<HotPage>| hot.iter().find(|p| p.page == page.page).map_or(0, |p| p.count);
        let counts: Vec<u64> = self.points.iter().map(at).chain([page.count]).collect();
        let most = counts.iter().copied().max().unwrap_or(1).max(1);
        let of = |count: u64| match count {
            0 => ' ',
            count => SPARKS[usize::try_from((count * 7).div_ceil(most)).unwrap_or(7).min(7)],
        };
        counts.into_iter().map(of).collect()
    }
}

/// A window as a table; `terminal`: the reader can show what is bold.
pub(super) fn table(
    out: &mut impl Write,
    window: &FinalWindow,
    history: &History,
    seen: &Seen,
    terminal: bool,
) -> io::Result<()> {
    let (bold, plain) = if terminal { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
    let standing = &window.standing;
    writeln!(
        out,
        "{bold}window ending {}{plain}: {} active pages, k {}, threshold {}, {} hot",
        window.end.to_second_string(),
        standing.active,
        standing.k,
        standing.threshold,
        window.hot.len()
    )?;
    let most = window.hot.first().map_or(1, |p| p.count.max(1));
    for (rank, page) in window.hot.iter().take(ROWS).enumerate() {
        let bar = "█".repeat(usize::try_from((page.count * BAR).div_ceil(most)).unwrap_or_default());
        let spark = history.spark(page);
        writeln!(out, "{:>4}  {:<32} {:>9}  {spark:<21}  {bar}", rank + 1, page.page.as_str(), page.count)?;
    }
    if window.hot.len() > ROWS {
        writeln!(out, "      … and {} more (--json or --csv shows all)", window.hot.len() - ROWS)?;
    }
    writeln!(
        out,
        "lines {} = events {} + filtered {} + undecodable {}",
        seen.lines, seen.events, seen.filtered, seen.dead
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use analyzer::window::Standing;
    use types::{PageId, Timestamp};

    use super::*;

    fn window(end: i64, hot: &[(&str, u64)]) -> FinalWindow {
        let hot = hot.iter().map(|(page, count)| HotPage { page: PageId::new(page).unwrap(), count: *count }).collect();
        let standing = Standing { active: 200, k: 2, threshold: 3, ..Standing::default() };
        FinalWindow { end: Timestamp::from_seconds(end), standing, hot }
    }

    #[test]
    fn the_table_shows_counts_their_way_and_their_share_of_the_highest() {
        // `a` is hot all the minute and rises; `b` is hot from its half on.
        let mut history = History::new(60, 1);
        for end in 1..=60 {
            let both = [("a", end as u64 * 2), ("b", 30)];
            history.saw(&window(end, if end < 30 { &both[..1] } else { &both }));
        }
        let mut text = Vec::new();
        let seen = Seen { lines: 10, events: 7, filtered: 2, dead: 1 };
        table(&mut text, &window(61, &[("a", 120), ("b", 30)]), &history, &seen, false).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "window ending 1970-01-01T00:01:01Z: 200 active pages, k 2, threshold 3, 2 hot");
        assert!(lines[1].starts_with("   1  a ") && lines[1].ends_with(&"█".repeat(24)), "{}", lines[1]);
        assert!(lines[1].contains("▂▂▃▃▃▄▄▄▅▅▅▆▆▆▇▇▇███"), "{}", lines[1]);
        let way = format!(" 30  {}{}", " ".repeat(9), "█".repeat(12));
        assert!(lines[2].contains(&way) && lines[2].ends_with("  ██████"), "{}", lines[2]);
        assert_eq!(lines[3], "lines 10 = events 7 + filtered 2 + undecodable 1");
        assert!(!text.contains('\u{1b}'), "no colours where nobody sees them");
    }

    #[test]
    fn csv_has_a_row_a_page_and_quotes_what_would_break_it() {
        let mut text = Vec::new();
        csv_head(&mut text).unwrap();
        csv(&mut text, &window(60, &[("a,\"b", 5), ("c", 3)])).unwrap();
        csv(&mut text, &window(61, &[])).unwrap();
        let want = "window_end,active,k,threshold,rank,product,count\n\
            1970-01-01T00:01:00Z,200,2,3,1,\"a,\"\"b\",5\n\
            1970-01-01T00:01:00Z,200,2,3,2,c,3\n\
            1970-01-01T00:01:01Z,200,2,3,,,\n";
        assert_eq!(String::from_utf8(text).unwrap(), want);
    }
}
