//! Events in, exact rolling heat reports and SQL out.
//!
//! An event's way: [`source`] (decode, drop repeats) → [`watermark`] (is it late?) → [`pane`] (count, cap
//! per visitor) → [`window`] and [`rank`] (thresholds) → [`publish`] (reports), all put together without
//! I/O in [`analysis`]; [`service`] moves bytes. [`top`] is the same engine without a service.

pub mod analysis;
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
pub mod source;
pub mod sql;
pub mod tables;
pub mod top;
pub mod visitors;
pub mod watermark;
pub mod window;

pub use live::{HeatSnapshot, TopPage};
pub use options::Options;
pub use service::{Analyzer, AnalyzerError, Handle};
