//! What the SQL listener allows, and what it is given. No limit may be switched off: a query from a
//! dashboard must never starve the analysis beside it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::{Clock, Invalid};

#[cfg(feature = "sql")]
use crate::history::History;

/// Longest time a query may be given: beyond it a dashboard has long given up, and the thread is wasted.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Most queries at once that may be configured: each has a thread with its own stack.
const MOST_CONCURRENT: usize = 256;

/// Limits of one query and of all together; each refusal names the limit that it met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SqlLimits {
    /// Longest query text, in bytes.
    pub query_bytes: usize,
    /// Most rows in one answer.
    pub rows: usize,
    /// Largest answer, in bytes; it is held in memory so that an error can still change the status.
    pub result_bytes: usize,
    /// Most memory that one query's operators may hold, in bytes. Nothing spills to disk.
    pub memory_bytes: usize,
    /// Longest time of one query, waiting included. `context.timeout` may only shorten it.
    #[serde(with = "types::time::duration_text")]
    pub timeout: Duration,
    /// Queries that run at once.
    pub concurrent: usize,
    /// Queries that may wait for one of those; the next is refused.
    pub waiting: usize,
}

impl Default for SqlLimits {
    fn default() -> Self {
        Self {
            query_bytes: 64 * 1024,
            rows: 100_000,
            result_bytes: 32 * 1024 * 1024,
            memory_bytes: 256 * 1024 * 1024,
            timeout: Duration::from_secs(30),
            concurrent: 4,
            // A dashboard of some twenty panels asks for all of them at once.
            waiting: 32,
        }
    }
}

impl SqlLimits {
    /// Refuses limits that nothing could pass or that would not limit; the text names the field.
    pub fn check(&self) -> Result<(), Invalid> {
        let positive = |what, value: usize| {
            if value == 0 { Err(Invalid::new(what, "is 0; give at least 1")) } else { Ok(()) }
        };
        positive("sql.query_bytes", self.query_bytes)?;
        positive("sql.rows", self.rows)?;
        positive("sql.result_bytes", self.result_bytes)?;
        positive("sql.memory_bytes", self.memory_bytes)?;
        positive("sql.concurrent", self.concurrent)?;
        if self.concurrent > MOST_CONCURRENT {
            return Err(Invalid::new("sql.concurrent", format!("is {}; at most {MOST_CONCURRENT}", self.concurrent)));
        }
        // The semaphore counts both together.
        if self.waiting > 100_000 {
            return Err(Invalid::new("sql.waiting", format!("is {}; at most 100000", self.waiting)));
        }
        if self.timeout.is_zero() || self.timeout > LONGEST_TIMEOUT {
            return Err(Invalid::new("sql.timeout", "must be more than 0 and at most 15m"));
        }
        Ok(())
    }
}

/// What the router is given besides the tables.
#[derive(Clone)]
pub struct SqlOptions {
    /// The limits.
    pub limits: SqlLimits,
    /// What `CURRENT_TIMESTAMP` answers; `SystemClock` in production.
    pub clock: Arc<dyn Clock>,
    /// `host:port` that errors name, as Druid's do; null in the answer if absent.
    pub host: Option<String>,
    /// Seconds that are on disk, shown with the live ones as one table.
    #[cfg(feature = "sql")]
    pub history: Option<Arc<History>>,
}

impl SqlOptions {
    /// Default limits with this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            limits: SqlLimits::default(),
            clock,
            host: None,
            #[cfg(feature = "sql")]
            history: None,
        }
    }
}

impl std::fmt::Debug for SqlOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlOptions").field("limits", &self.limits).field("host", &self.host).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_do_not_limit_are_refused_by_name() {
        assert_eq!(SqlLimits::default().check(), Ok(()));
        type Spoil = fn(&mut SqlLimits);
        let cases: [(&str, Spoil); 4] = [
            ("sql.rows", |l| l.rows = 0),
            ("sql.concurrent", |l| l.concurrent = 100_000),
            ("sql.timeout", |l| l.timeout = Duration::ZERO),
            ("sql.waiting", |l| l.waiting = usize::MAX),
        ];
        for (field, spoil) in cases {
            let mut limits = SqlLimits::default();
            spoil(&mut limits);
            assert_eq!(limits.check().map_err(|e| e.what), Err(field));
        }
    }
}
