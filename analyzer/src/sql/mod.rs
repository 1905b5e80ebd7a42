//! Druid's SQL over the live tables: `POST /druid/v2/sql` answered by DataFusion on a thread of the
//! query's own. It reads snapshots only; it must never write, and never wait for or delay the engine.
//!
//! A request's way: `http` → `request` → `engine` (admission, limits, cancel) → `statement`
//! (parse, read-only gate, `spelling` on the tree) → `functions`, `tables` → `stop` → `answer` (row formats).

#[cfg(feature = "sql")]
mod answer;
#[cfg(feature = "sql")]
mod catalog;
#[cfg(feature = "sql")]
mod cell;
#[cfg(feature = "sql")]
mod engine;
#[cfg(feature = "sql")]
mod error;
#[cfg(feature = "sql")]
mod functions;
#[cfg(feature = "sql")]
mod http;
pub mod metrics;
mod options;
#[cfg(feature = "sql")]
mod output;
#[cfg(feature = "sql")]
mod period;
#[cfg(feature = "sql")]
mod request;
#[cfg(feature = "sql")]
mod spelling;
#[cfg(feature = "sql")]
mod statement;
#[cfg(feature = "sql")]
mod stop;
#[cfg(feature = "sql")]
mod tables;
#[cfg(feature = "sql")]
mod types;

#[cfg(feature = "sql")]
pub use error::SqlError;
#[cfg(feature = "sql")]
pub use http::router;
pub use options::{SqlLimits, SqlOptions};
