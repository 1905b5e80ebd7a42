//! Events in, exact rolling heat reports and SQL out.

pub mod sql;
pub mod tables;
