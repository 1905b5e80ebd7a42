//! What the collector can be told. Values are checked here and nowhere else.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::Invalid;

use crate::classify::{ClassifierOptions, VisitorKey};
use crate::decode::log_format::Format;
use crate::tail::TailOptions;

/// Most entries of `paths` and of `exclude`; a pattern may name many logs.
pub const MAX_PATHS: usize = 1_024;
/// Longest poll interval: heat must show within a second.
pub const MAX_POLL: Duration = Duration::from_secs(10);

/// Where lines come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// From the files in `paths`, which the collector follows itself.
    Files,
    /// From topic `access-log`, into which a shipper (Filebeat) puts them.
    AccessLog,
    /// From both, one's turn after the other's: for logs that stand beside the collector and logs that are
    /// shipped. A log that comes both ways is counted twice.
    Both,
}

/// How product events are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As Arrow columns to `product-events`, which the analyzer reads.
    #[default]
    Arrow,
    /// And each event as a JSON object of its own to `product-events-json`, for Druid and others. At least once: a
    /// reader that must not count twice drops what repeats a source and offset.
    Json,
}

impl Source {
    pub(crate) const fn files(self) -> bool {
        matches!(self, Self::Files | Self::Both)
    }
    pub(crate) const fn access_log(self) -> bool {
        matches!(self, Self::AccessLog | Self::Both)
    }
}

/// The collector's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Where lines come from.
    pub source: Source,
    /// The consumer group that shares the partitions of `access-log`.
    pub group: String,
    /// The logs to follow, each by the name it is written under; rotated files are found beside it. An entry with
    /// `*`, `?`, `[` or `{` is a pattern: `*` and `?` within a name, `**` across folders. New files are found while
    /// it runs. Of a log's rotated files a pattern that names them (`access.log*`) has the older ones read too, with
    /// `from_start`, gzip'd ones included; each once.
    pub paths: Vec<PathBuf>,
    /// Patterns of files that no pattern in `paths` shall find.
    pub exclude: Vec<PathBuf>,
    /// Hear from the system when a log changes instead of waiting for `poll`. Where that does not work (network file
    /// systems, too few watches) the logs are polled by themselves; `false` polls everywhere.
    pub watch: bool,
    /// Read a log, or a partition of `access-log`, that is seen for the first time from its beginning instead of
    /// its end.
    pub from_start: bool,
    /// Folder of the collector's own progress and dead letters; one collector at a time.
    pub state_dir: PathBuf,
    /// Partitions of `product-events`.
    pub partitions: u32,
    /// How product events are written.
    pub encoding: Encoding,
    /// How often, in real time, the logs are looked at when there is nothing to do and changes are not heard.
    #[serde(with = "types::time::duration_text")]
    pub poll: Duration,
    /// The private listener of a collector that runs as a process of its own: health, metrics, books.
    pub listen: SocketAddr,
    /// What the lines look like: `auto` (combined, or the edge's JSON), `combined`, `edge`, or the `log_format` that
    /// stands in Nginx's configuration. A shipper's envelope around a line is always opened.
    pub log_format: String,
    /// Which requests are product events.
    pub classifier: ClassifierOptions,
    /// The secret that visitors are hashed with; needed to start.
    pub visitor_key: VisitorKey,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            source: Source::Files,
            group: "collector".to_owned(),
            paths: Vec::new(),
            exclude: Vec::new(),
            watch: true,
            from_start: false,
            state_dir: PathBuf::from("collector"),
            partitions: 8,
            encoding: Encoding::Arrow,
            poll: Duration::from_millis(50),
            listen: SocketAddr::from(([127, 0, 0, 1], 8083)),
            log_format: "auto".to_owned(),
            classifier: ClassifierOptions::default(),
            visitor_key: VisitorKey::default(),
        }
    }
}

impl Options {
    /// Whether each field is in order; the refusal names the field.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.paths.len() > MAX_PATHS {
            return Err(Invalid::new("paths", format!("has {} logs; at most {MAX_PATHS}", self.paths.len())));
        }
        for (i, path) in self.paths.iter().enumerate() {
            if path.to_str().is_none() || path.file_name().is_none() {
                return Err(Invalid::new("paths", format!("{} is not a file's name in UTF-8", path.display())));
            }
            if self.paths[..i].contains(path) {
                return Err(Invalid::new(
                    "paths",
                    format!("{} stands twice; it would be counted twice", path.display()),
                ));
            }
        }
        if self.exclude.len() > MAX_PATHS {
            return Err(Invalid::new("exclude", format!("has {} patterns; at most {MAX_PATHS}", self.exclude.len())));
        }
        let tail = TailOptions { paths: self.paths.clone(), exclude: self.exclude.clone(), ..TailOptions::default() };
        tail.patterns()?;
        if let Err(why) = eventlog::Group::new(&self.group) {
            return Err(Invalid::new("group", why.why));
        }
        if self.state_dir.as_os_str().is_empty() {
            return Err(Invalid::new("state_dir", "is empty; name a folder for progress and dead letters"));
        }
        if !(1..=eventlog::MAX_PARTITIONS).contains(&self.partitions) {
            return Err(Invalid::new("partitions", format!("must be 1 to {}", eventlog::MAX_PARTITIONS)));
        }
        if self.poll.is_zero() || self.poll > MAX_POLL {
            return Err(Invalid::new("poll", "must be 1ms to 10s"));
        }
        Format::parse(&self.log_format)?;
        self.visitor_key.check()?;
        self.classifier.check()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_defaults_are_in_order_and_each_wrong_field_is_named() {
        let good = Options::default;
        assert_eq!(good().check(), Ok(()));
        let twice = vec![PathBuf::from("a.log"), PathBuf::from("a.log")];
        for (wrong, field) in [
            (Options { paths: twice, ..good() }, "paths"),
            (Options { paths: vec!["/".into()], ..good() }, "paths"),
            (Options { paths: vec!["logs/[a".into()], ..good() }, "paths"),
            (Options { exclude: vec!["{a".into()], ..good() }, "exclude"),
            (Options { group: "a group".into(), ..good() }, "group"),
            (Options { state_dir: "".into(), ..good() }, "state_dir"),
            (Options { partitions: 0, ..good() }, "partitions"),
            (Options { partitions: 5_000, ..good() }, "partitions"),
            (Options { poll: Duration::ZERO, ..good() }, "poll"),
            (Options { log_format: "$request".into(), ..good() }, "log_format"),
            (Options { visitor_key: "short".into(), ..good() }, "visitor_key"),
        ] {
            assert_eq!(wrong.check().unwrap_err().what, field);
        }
    }

    #[test]
    fn options_read_back_what_they_print() {
        let text = serde_json::to_string(&Options::default()).unwrap();
        assert_eq!(serde_json::from_str::<Options>(&text).unwrap(), Options::default());
        assert!(serde_json::from_str::<Options>(r#"{"pahts":[]}"#).is_err());
    }
}
