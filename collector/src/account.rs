//! The books: how many lines ended how. Lines are counted where they are cut, ends where they are decided,
//! so that the two can disagree; they must never be derived from each other.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::classify::FilterReason;
use crate::decode::DeadReason;
use crate::decoder::Fate;

/// How many lines there were and how each ended, since the state folder was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Accounting {
    /// Lines read.
    pub lines: u64,
    /// Lines that became product events.
    pub events: u64,
    /// Good lines that are no product events, by reason.
    pub filtered: BTreeMap<FilterReason, u64>,
    /// Lines that could not be decoded, by reason.
    pub dead: BTreeMap<DeadReason, u64>,
    /// Dead letters whose bytes were dropped to make room for newer ones; they stay counted in `dead`.
    pub dead_letters_dropped: u64,
}

impl Accounting {
    /// Counts one line that was cut from its file.
    pub(crate) fn line(&mut self) {
        self.lines += 1;
    }
    /// Counts how a line ended.
    pub(crate) fn end(&mut self, fate: &Fate) {
        match fate {
            Fate::Event(_) => self.events += 1,
            Fate::Filtered(reason) => *self.filtered.entry(*reason).or_default() += 1,
            Fate::Dead(reason) => *self.dead.entry(*reason).or_default() += 1,
        }
    }
    /// These books and those in one.
    #[must_use]
    pub(crate) fn plus(mut self, other: &Self) -> Self {
        self.lines += other.lines;
        self.events += other.events;
        self.dead_letters_dropped += other.dead_letters_dropped;
        for (reason, count) in &other.filtered {
            *self.filtered.entry(*reason).or_default() += count;
        }
        for (reason, count) in &other.dead {
            *self.dead.entry(*reason).or_default() += count;
        }
        self
    }
    /// All filtered lines.
    pub fn filtered_total(&self) -> u64 {
        self.filtered.values().sum()
    }
    /// All dead letters.
    pub fn dead_total(&self) -> u64 {
        self.dead.values().sum()
    }
    /// Whether every line ended exactly once: `lines = events + filtered + dead`.
    pub fn adds_up(&self) -> bool {
        self.lines == self.events + self.filtered_total() + self.dead_total()
    }
}
