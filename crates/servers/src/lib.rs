//! Real servers as children of this process: each with a directory and ports of its own, on loopback only,
//! gone with its value or with this process. For tests and `demo --real`; it never touches a server that it
//! did not start.
//!
//! Every call blocks until its condition holds (a start: until the server answers). From async code call it
//! where blocking a thread is harmless (`spawn_blocking`, a multi-threaded test).

mod control;
mod edge;
mod error;
mod filebeat;
mod kafka;
mod mariadb;
mod nginx;
mod page;
mod place;
mod port;
mod process;
mod program;
mod redis;
mod redis_cluster;

pub use edge::{Edge, EdgeCore, EdgeOptions};
pub use error::ServerError;
pub use filebeat::Filebeat;
pub use kafka::{Kafka, Secured};
pub use mariadb::MariaDb;
pub use nginx::Nginx;
pub use port::Port;
pub use program::{Launch, Program};
pub use redis::Redis;
pub use redis_cluster::RedisCluster;
