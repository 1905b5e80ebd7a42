//! Real servers for these tests, and leases that lie in them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use seckill_core::stock::redis::server::{NodeAddress, RedisLeases, RedisLeasesOptions};
use testkit::servers::{Redis, RedisCluster};
use types::SystemClock;

/// Longest wait for a condition; a busy machine is no failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// One Redis. The protocol wants it without a memory of its own; some tests give it one.
pub struct Place {
    _folder: tempfile::TempDir,
    pub redis: Redis,
}

impl Place {
    pub fn start(lines: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut all = vec!["appendonly no"];
        all.extend(lines);
        let redis = Redis::start_with(&folder.path().join("redis"), &all).unwrap();
        Self { _folder: folder, redis }
    }
    pub fn options(&self) -> RedisLeasesOptions {
        options(vec![NodeAddress::new("127.0.0.1", self.redis.port())])
    }
    pub async fn leases(&self) -> RedisLeases {
        open(self.options()).await
    }
}

/// A Redis Cluster of three.
pub struct Cluster {
    _folder: tempfile::TempDir,
    pub cluster: RedisCluster,
}

impl Cluster {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cluster = RedisCluster::start(folder.path()).unwrap();
        Self { _folder: folder, cluster }
    }
    /// Only one node is named: it knows the others.
    pub fn options(&self) -> RedisLeasesOptions {
        let first = NodeAddress::new("127.0.0.1", self.cluster.nodes()[0].port());
        RedisLeasesOptions { cluster: true, ..options(vec![first]) }
    }
    pub async fn leases(&self) -> RedisLeases {
        open(self.options()).await
    }
}

/// A second for an answer: these tests share two processors with everything else.
pub fn options(nodes: Vec<NodeAddress>) -> RedisLeasesOptions {
    RedisLeasesOptions { nodes, answer_within: Duration::from_secs(1), ..RedisLeasesOptions::default() }
}

pub async fn open(options: RedisLeasesOptions) -> RedisLeases {
    RedisLeases::connect(options, Arc::new(SystemClock::new())).await.unwrap()
}

/// Waits for a condition.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the connections are up again.
pub async fn until_ready(leases: &RedisLeases) {
    until("the leases are ready", || leases.ready().is_ok()).await;
}
