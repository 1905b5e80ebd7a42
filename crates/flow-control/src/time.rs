//! Time as the caller tells it: nanoseconds since a start of his choice. It must not run backwards by more than the
//! windows are long; nothing here asks a clock.

use std::time::Duration;

/// A moment: nanoseconds since an arbitrary start that all calls share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Nanos(u64);

impl Nanos {
    /// The start.
    pub const ZERO: Self = Self(0);

    /// So many nanoseconds after the start.
    pub const fn new(nanos: u64) -> Self {
        Self(nanos)
    }

    /// So many milliseconds after the start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000_000)
    }

    /// Nanoseconds since the start.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the start.
    pub const fn millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Whole seconds since the start.
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// How long after `earlier` this is; nothing if it is before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This moment and `by` more; the end of time where that has no number.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}
