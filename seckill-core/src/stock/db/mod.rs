//! SQL providers of the stock store, and the rules they share. Nothing outside names a table.

pub mod adjust_ruling;
mod admin_change;
mod import_rules;
#[cfg(feature = "mysql")]
pub mod mariadb;
pub mod metrics;
pub mod move_ruling;
pub mod ruling;
mod sale_rules;
pub mod sqlite;
mod words;
