//! A bar on standard error while long files are read, if somebody looks. It never writes where output goes.

use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::input::Bytes;

/// Files that are shorter together are read before a bar could be read.
const LONG: u64 = 64 * 1024 * 1024;
/// Between two looks of the bar.
const EVERY: Duration = Duration::from_millis(200);
/// Lines between two looks at the time.
const LINES: u64 = 4096;
/// Width of the bar.
const WIDTH: u64 = 32;

/// The bar.
pub(super) struct Progress {
    total: u64,
    bytes: Bytes,
    begun: Instant,
    shown: Option<Instant>,
    shows: bool,
}

impl Progress {
    pub fn new(files: &[PathBuf], bytes: &Bytes) -> Self {
        let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |m| m.len());
        let total = files.iter().filter(|path| *path != Path::new("-")).map(size).sum();
        let shows = total >= LONG && stderr().is_terminal();
        Self { total, bytes: Arc::clone(bytes), begun: Instant::now(), shown: None, shows }
    }

    /// So many lines are read.
    #[inline]
    pub fn at(&mut self, lines: u64) {
        if self.shows && lines.is_multiple_of(LINES) && self.shown.is_none_or(|shown| shown.elapsed() >= EVERY) {
            self.shown = Some(Instant::now());
            let line = bar(self.bytes.load(Ordering::Relaxed), self.total, lines, self.begun.elapsed());
            // A bar that cannot be shown is no reason to stop.
            let _shown = write!(stderr(), "\r{line}\u{1b}[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _cleared = write!(stderr(), "\r\u{1b}[K");
        }
    }
}

fn bar(read: u64, total: u64, lines: u64, time: Duration) -> String {
    let read = read.min(total);
    let full = (read * WIDTH).checked_div(total).unwrap_or(WIDTH);
    let seconds = time.as_secs_f64().max(0.001);
    let left = if read == 0 { 0.0 } else { seconds * (total - read) as f64 / read as f64 };
    format!(
        "{}{} {:>3} %  {:.1} of {:.1} GB  {:.2} M lines/s  {left:.0} s left",
        "━".repeat(full as usize),
        "─".repeat((WIDTH - full) as usize),
        (read * 100).checked_div(total).unwrap_or(100),
        read as f64 / 1e9,
        total as f64 / 1e9,
        lines as f64 / seconds / 1e6
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_how_far_how_fast_and_how_long_still() {
        let half = bar(5_000_000_000, 10_000_000_000, 20_000_000, Duration::from_secs(20));
        let bars = format!("{}{}", "━".repeat(16), "─".repeat(16));
        assert_eq!(half, format!("{bars}  50 %  5.0 of 10.0 GB  1.00 M lines/s  20 s left"));
        assert!(bar(0, 1, 0, Duration::ZERO).contains("  0 %"));
    }
}
