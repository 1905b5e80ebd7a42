//! Stock: the SQL store that alone owns it, the lease store that lends it, the queue that orders it.

pub mod adjustment;
pub mod db;
pub(crate) mod queue;
pub mod redis;
pub mod store;
