//! What the members of the group tell each other, so that all draw the same lines: how far each partition has come,
//! its histogram at each window's end, and the lines that were drawn. It keeps what was said; it sends nothing.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use types::Timestamp;

use crate::rank::{Counts, Fixed};
use crate::window::Standing;

/// Lines that are remembered, at 60 bytes each: 18 hours of windows. A shard that another member kept, and that comes
/// back further behind than this, waits until nobody remembers more than it does.
const MAX_LINES: usize = 1 << 16;
/// Window ends for which histograms are remembered, a few KB for each partition; as far as shards may run ahead.
const MAX_ENDS: usize = 1024;

/// How far a partition has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Which.
    pub partition: u32,
    /// Its newest event time.
    pub newest: Option<Timestamp>,
    /// Whether it holds nobody back.
    pub idle: bool,
    /// The second of its first event, while nothing of it is final.
    pub first: Option<i64>,
    /// It had nothing in windows that end here or before.
    pub from: Option<i64>,
}

/// A partition's histogram of one window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Which partition.
    pub partition: u32,
    /// Counts with the pages that have them, by count.
    pub counts: Vec<(u32, u32)>,
    /// Sum of all counts.
    pub total: u64,
}

/// What one member says at once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Note {
    /// Who.
    pub member: String,
    /// Its partitions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<Status>,
    /// Window ends with the lines that were drawn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<(i64, Standing)>,
    /// Histograms by window end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<(i64, Part)>,
    /// Histograms of the provisional windows, the long and the short one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub live: Vec<(Part, Part)>,
}

impl Note {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.status.is_empty() && self.lines.is_empty() && self.parts.is_empty() && self.live.is_empty()
    }
}

/// A histogram with the sum of its counts.
#[derive(Debug, Clone)]
pub struct Piece {
    counts: Fixed,
    total: u64,
}

impl Piece {
    fn of(part: &Part) -> Option<Self> {
        Some(Self { counts: Fixed::new(&part.counts)?, total: part.total })
    }
    /// As lines are drawn over it.
    pub fn as_counts(&self) -> (&dyn Counts, u64) {
        (&self.counts, self.total)
    }
}

/// What all have said.
#[derive(Debug, Default)]
pub struct Board {
    status: HashMap<u32, Status>,
    parts: BTreeMap<i64, HashMap<u32, Piece>>,
    lines: BTreeMap<i64, Standing>,
    live: HashMap<u32, (Piece, Piece)>,
}

impl Board {
    /// Takes a note of another member.
    pub fn heard(&mut self, note: &Note) {
        for status in &note.status {
            self.status.insert(status.partition, *status);
        }
        for (end, line) in &note.lines {
            self.draw(*end, *line);
        }
        let newest = self.lines.keys().next_back().copied();
        for (end, part) in &note.parts {
            if newest.is_none_or(|newest| *end > newest - MAX_ENDS as i64)
                && let Some(piece) = Piece::of(part)
            {
                self.parts.entry(*end).or_default().insert(part.partition, piece);
            }
        }
        while self.parts.len() > MAX_ENDS {
            self.parts.pop_first();
        }
        for (long, short) in &note.live {
            if let (Some(wide), Some(narrow)) = (Piece::of(long), Piece::of(short)) {
                self.live.insert(long.partition, (wide, narrow));
            }
        }
    }

    /// The lines of the window that ends here were drawn.
    pub fn draw(&mut self, end: i64, line: Standing) {
        self.lines.insert(end, line);
        while self.lines.len() > MAX_LINES {
            self.lines.pop_first();
        }
    }
    /// The lines of the window that ends here, if they were drawn.
    pub fn line(&self, end: i64) -> Option<Standing> {
        self.lines.get(&end).copied()
    }
    /// The end of the newest window whose lines were drawn.
    pub fn drawn_to(&self) -> Option<i64> {
        self.lines.keys().next_back().copied()
    }
    /// Nobody needs histograms of windows that end here or before.
    pub fn done_to(&mut self, end: i64) {
        while self.parts.first_key_value().is_some_and(|(oldest, _)| *oldest <= end) {
            self.parts.pop_first();
        }
    }
    /// What was last said of a partition.
    pub fn status(&self, partition: u32) -> Option<&Status> {
        self.status.get(&partition)
    }
    /// The histogram of a partition at a window's end: `None` if it is not known yet, and with nothing in it if the
    /// partition began later.
    pub fn part(&self, end: i64, partition: u32) -> Option<Option<&Piece>> {
        if let Some(piece) = self.parts.get(&end).and_then(|parts| parts.get(&partition)) {
            return Some(Some(piece));
        }
        self.status.get(&partition)?.from.is_some_and(|from| end <= from).then_some(None)
    }
    /// The provisional histograms of a partition, as they were last said.
    pub fn live(&self, partition: u32) -> Option<&(Piece, Piece)> {
        self.live.get(&partition)
    }
}
