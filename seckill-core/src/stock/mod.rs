//! Stock: the SQL store that alone owns it, the lease store that lends it, the queue that orders it.

pub mod adjustment;
pub mod admin_store;
pub mod db;
pub mod import;
pub mod live_store;
pub mod order_feed;
pub mod payment_store;
pub(crate) mod queue;
pub mod redis;
pub mod retention_store;
pub mod sql_store;
pub mod store;
pub mod webhook_store;
