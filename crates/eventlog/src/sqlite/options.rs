//! What can be set of the embedded log. The defaults are right for one machine; nothing here weakens
//! durability.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::Invalid;

/// Settings of [`super::SqliteLog`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SqliteLogOptions {
    /// Appends that wait for the writer, in MiB of records; more wait in their callers. 1 to 4096.
    pub queue_mib: u32,
    /// Connections that read at the same time, 1 to 64.
    pub readers: u32,
    /// Pages of the write-ahead log after which the writer moves them into the file; 4 KiB each, 100 to
    /// 1,000,000. More means fewer pauses and a larger file to read through after a crash.
    pub checkpoint_pages: u32,
    /// How often old records are looked for, 10 ms to 1 day.
    #[serde(with = "types::time::duration_text")]
    pub clean_every: Duration,
    /// Most records removed or compacted in one cleaning, 10 to 100,000: it bounds how long appends wait for it.
    pub clean_records: u32,
    /// How long a tombstone is kept, so that every reader can see it before the key is forgotten.
    #[serde(with = "types::time::duration_text")]
    pub keep_tombstones: Duration,
}

impl Default for SqliteLogOptions {
    fn default() -> Self {
        Self {
            queue_mib: 64,
            readers: 4,
            checkpoint_pages: 4_000,
            clean_every: Duration::from_secs(30),
            clean_records: 2_000,
            keep_tombstones: Duration::from_secs(86_400),
        }
    }
}

impl SqliteLogOptions {
    /// Says which field is out of its range.
    pub fn check(&self) -> Result<(), Invalid> {
        let within = |what: &'static str, value: u32, low: u32, high: u32| {
            let right = (low..=high).contains(&value);
            right.then_some(()).ok_or_else(|| Invalid::new(what, format!("{value} is not {low} to {high}")))
        };
        within("queue_mib", self.queue_mib, 1, 4096)?;
        within("readers", self.readers, 1, 64)?;
        within("checkpoint_pages", self.checkpoint_pages, 100, 1_000_000)?;
        within("clean_records", self.clean_records, 10, 100_000)?;
        let every = self.clean_every;
        if every < Duration::from_millis(10) || every > Duration::from_secs(86_400) {
            return Err(Invalid::new("clean_every", format!("{every:?} is not 10 ms to 1 day")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_their_ranges_and_an_unknown_name_is_refused() {
        let defaults = SqliteLogOptions::default();
        assert_eq!(defaults.check(), Ok(()));
        let parse = serde_json::from_str::<SqliteLogOptions>;
        assert_eq!(parse("{}").ok(), Some(defaults.clone()));
        let changed = SqliteLogOptions { clean_every: Duration::from_secs(60), readers: 2, ..defaults };
        assert_eq!(parse(r#"{"clean_every": "1m", "readers": 2}"#).ok(), Some(changed));
        assert!(parse(r#"{"synchronous": "off"}"#).is_err());
        let pause = SqliteLogOptions { clean_every: Duration::ZERO, ..SqliteLogOptions::default() };
        assert_eq!(pause.check().map_err(|e| e.what), Err("clean_every"));
    }
}
