//! What an audit found: each invariant with the number of things examined and a bounded list of violations.
//! It never decides what to do about them.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Most violations of one invariant that are kept as text; the rest is only counted, since one defect in a
/// hot path can break a million rows and the first few already name it.
pub const MAX_VIOLATIONS: usize = 20;

/// Why an audit could not be made. None of these says anything about the invariants.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The store could not be opened or read, or its tables are not the ones this auditor knows.
    #[error("cannot read the stock store: {0}")]
    Store(#[from] rusqlite::Error),
    /// The store's server could not be asked, or holds what the auditor does not know.
    #[error("cannot read the stock store: {why}")]
    Server {
        /// What went wrong.
        why: String,
        /// Whether it may go right later.
        retryable: bool,
    },
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of a journal is not a journal entry (and is not the torn end of a killed writer).
    #[error("{path}:{line} is not a journal entry: {why}")]
    Journal {
        /// Which file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What the parser said.
        why: String,
    },
}

impl AuditError {
    /// Whether the same audit may succeed later: the store was busy, or a file not there yet.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Store(e) => matches!(
                e.sqlite_error_code(),
                Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
            ),
            Self::Server { retryable, .. } => *retryable,
            Self::File { .. } => true,
            Self::Journal { .. } => false,
        }
    }
}

/// One invariant of the stock protocol, as far as it was examined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invariant {
    /// Its number in the protocol, 1 to 12.
    pub number: u8,
    /// What it says, in a few words.
    pub title: String,
    /// How many things (rows, products, journal entries) were held against it.
    pub examined: u64,
    /// How many of them broke it.
    pub violated: u64,
    /// The first of these, at most [`MAX_VIOLATIONS`], in words. No buyer is named.
    pub violations: Vec<String>,
    /// Why it was not examined, if it was not (for example: nobody sampled).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_examined: Option<String>,
}

impl Invariant {
    /// Nothing examined yet.
    pub(crate) fn new(number: u8, title: &str) -> Self {
        Self { number, title: title.to_owned(), examined: 0, violated: 0, violations: Vec::new(), not_examined: None }
    }
    /// Counts one thing that was looked at; `why` is only asked if it does not hold.
    pub(crate) fn check(&mut self, holds: bool, why: impl FnOnce() -> String) {
        self.examined += 1;
        if !holds {
            self.break_with(why());
        }
    }
    /// Records a violation of something that is counted elsewhere.
    pub(crate) fn break_with(&mut self, why: String) {
        self.violated += 1;
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(why);
        }
    }
}

/// A whole audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Every invariant, by number.
    pub invariants: Vec<Invariant>,
    /// Units sold or reserved beyond the total, summed over products, at the worst moment of each. Zero, always.
    pub oversold: u64,
    /// Accepted orders in the store, whatever became of them.
    pub orders: u64,
    /// Entries read from journals.
    pub journal_entries: u64,
    /// Half-written last lines of journals whose writer was killed; they are not entries.
    pub journal_torn: u64,
}

impl Report {
    /// Whether every examined invariant holds.
    pub fn holds(&self) -> bool {
        self.invariants.iter().all(|i| i.violated == 0)
    }
    /// One invariant by its number in the protocol.
    pub fn invariant(&self, number: u8) -> Option<&Invariant> {
        self.invariants.iter().find(|i| i.number == number)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for i in &self.invariants {
            let verdict = match (&i.not_examined, i.violated) {
                (_, 1..) => "VIOLATED",
                (Some(_), 0) => "-",
                (None, 0) => "ok",
            };
            writeln!(f, "{verdict:<9} {:>2}. {:<72} examined {}", i.number, i.title, i.examined)?;
            if let Some(why) = &i.not_examined {
                writeln!(f, "              not examined: {why}")?;
            }
            for text in &i.violations {
                writeln!(f, "              {text}")?;
            }
            if i.violated > i.violations.len() as u64 {
                writeln!(f, "              … and {} more", i.violated - i.violations.len() as u64)?;
            }
        }
        write!(
            f,
            "{} orders, {} journal entries, oversold {}: {}",
            self.orders,
            self.journal_entries,
            self.oversold,
            if self.holds() { "all examined invariants hold" } else { "AN INVARIANT IS BROKEN" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_violations_is_bounded_and_the_count_is_not() {
        let mut i = Invariant::new(1, "sums");
        for n in 0..100 {
            i.check(n % 2 == 0, || format!("row {n}"));
        }
        assert_eq!((i.examined, i.violated, i.violations.len()), (100, 50, MAX_VIOLATIONS));
        let report = Report { invariants: vec![i], oversold: 0, orders: 0, journal_entries: 0, journal_torn: 0 };
        assert!(!report.holds());
        let text = report.to_string();
        assert!(text.starts_with("VIOLATED   1. sums"), "{text}");
        assert!(text.contains("… and 30 more"), "{text}");
    }
}
