//! The books: how many lines ended how. Lines are counted where they are read, ends where they are decided,
//! so that the two can disagree; they must never be derived from each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::classify::FilterReason;
use crate::decode::DeadReason;

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
    /// Lines that a shipper sent again and that had ended before.
    pub repeats: u64,
    /// Dead letters that were decoded after all, by what became of them; they are no longer in `dead`.
    pub replayed: Replayed,
    /// Dead letters whose bytes were dropped to make room for newer ones; they stay counted in `dead`.
    pub dead_letters_dropped: u64,
    /// Lines whose path each pattern knew, whatever became of them then; `views /product/{id}` and the like.
    pub patterns: BTreeMap<Arc<str>, u64>,
    /// Lines of bots, by the token that gave each away.
    pub bots: BTreeMap<Arc<str>, u64>,
}

/// What dead letters became when they were decoded again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Published as events.
    pub events: u64,
    /// Good lines that are no product events.
    pub filtered: u64,
}

impl Accounting {
    /// Counts one line that was read.
    pub(crate) fn line(&mut self) {
        self.lines += 1;
    }
    pub(crate) fn filtered(&mut self, reason: FilterReason) {
        *self.filtered.entry(reason).or_default() += 1;
    }
    pub(crate) fn dead(&mut self, reason: DeadReason) {
        *self.dead.entry(reason).or_default() += 1;
    }
    /// A dead letter of this reason became something else.
    pub(crate) fn revive(&mut self, reason: DeadReason, event: bool) {
        let dead = self.dead.entry(reason).or_default();
        *dead = dead.saturating_sub(1);
        *(if event { &mut self.replayed.events } else { &mut self.replayed.filtered }) += 1;
    }
    /// These books and those in one.
    #[must_use]
    pub(crate) fn plus(mut self, other: &Self) -> Self {
        self.lines += other.lines;
        self.events += other.events;
        self.repeats += other.repeats;
        self.replayed.events += other.replayed.events;
        self.replayed.filtered += other.replayed.filtered;
        self.dead_letters_dropped += other.dead_letters_dropped;
        for (counts, more) in [(&mut self.patterns, &other.patterns), (&mut self.bots, &other.bots)] {
            for (name, count) in more {
                *counts.entry(Arc::clone(name)).or_default() += count;
            }
        }
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
    /// Lines that ended once in these books: `events + filtered + dead + repeats + replayed`.
    pub fn ended(&self) -> u64 {
        let replayed = self.replayed.events + self.replayed.filtered;
        self.events + self.filtered_total() + self.dead_total() + self.repeats + replayed
    }
    /// Whether every line ended exactly once: `lines = events + filtered + dead + repeats + replayed`.
    pub fn adds_up(&self) -> bool {
        self.lines == self.ended()
    }
}
