//! Druid's SQL over the live tables: `POST /druid/v2/sql` answered by DataFusion on a thread of the
//! query's own. It reads snapshots only; it must never write, and never wait for or delay the engine.
//!
//! A request's way: `http` → `request` → `engine` (admission, limits, cancel) → `statement`
//! (parse, read-only gate, `spelling` on the tree) → `functions`, `tables` → `stop` → `answer` (row formats).

mod answer;
mod catalog;
mod cell;
mod engine;
mod error;
mod functions;
mod http;
pub mod metrics;
mod options;
mod output;
mod period;
mod request;
mod spelling;
mod statement;
mod stop;
mod tables;
mod types;

pub use error::SqlError;
pub use http::router;
pub use options::{SqlLimits, SqlOptions};
