//! SQL providers of the stock store, and the rules they share. Nothing outside names a table.

pub mod metrics;
pub mod move_ruling;
pub mod ruling;
pub mod sqlite;
