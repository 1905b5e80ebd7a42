//! Events in, exact rolling heat reports and SQL out.
//!
//! An event's way: [`shard`] (decode, drop repeats, is it late?) → [`engine`]: [`pane`] (count, cap per visitor), [`window`]
//! and [`rank`] (thresholds) → [`publish`] (reports). [`analysis`] puts the shards of one process and what other processes
//! say on the [`board`] together, without I/O; [`service`] moves bytes. [`top`] is the same engine without a service.

pub mod analysis;
pub mod board;
pub mod checkpoint;
pub mod engine;
pub mod history;
mod http;
pub mod intern;
pub mod live;
pub mod metrics;
pub mod options;
pub mod orders;
pub mod pane;
pub mod publish;
pub mod rank;
pub mod service;
pub mod shard;
pub mod sql;
pub mod tables;
pub mod top;
pub mod visitors;
pub mod window;

pub use live::{HeatSnapshot, TopPage};
pub use options::Options;
pub use service::{Analyzer, AnalyzerError, Handle};
