//! `seckill demo --real`: the servers that production uses, started as children with directories and ports
//! of their own under the demo's data directory, and gone with it.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use servers::{Filebeat, Kafka, MariaDb, Redis};

use crate::config::Config;

/// What ships the log; the same file that a shop installs.
const FILEBEAT: &str = include_str!("../../../../filebeat/filebeat.yml");

/// Whether this program can speak to all of them.
const BUILT: bool = cfg!(all(feature = "kafka", feature = "redis", feature = "mysql"));

/// The running servers. Dropping it stops them.
pub struct RealServers {
    dir: PathBuf,
    kafka: Kafka,
    redis: Redis,
    mariadb: MariaDb,
    database: String,
    filebeat: Option<Filebeat>,
}

impl RealServers {
    /// Starts Kafka, Redis and MariaDB under `dir`; blocks until each answers.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        ensure!(BUILT, "--real needs a program that was built with the features kafka, redis and mysql");
        // Kafka takes the longest, so it starts beside the others.
        let (kafka, redis, mariadb) = std::thread::scope(|scope| -> anyhow::Result<_> {
            let kafka = scope.spawn(|| Kafka::start(&dir.join("kafka")));
            let redis = Redis::start(&dir.join("redis"))?;
            let mariadb = MariaDb::start(&dir.join("mariadb"))?;
            let kafka = kafka.join().map_err(|_| anyhow::anyhow!("starting Kafka panicked"))??;
            Ok((kafka, redis, mariadb))
        })?;
        let database = mariadb.create_database()?;
        Ok(Self { dir: dir.to_owned(), kafka, redis, mariadb, database, filebeat: None })
    }

    /// Points the configuration at them.
    #[cfg(all(feature = "kafka", feature = "redis", feature = "mysql"))]
    pub fn configure(&self, config: &mut Config) {
        use crate::config::{EventLogProvider, LeasesProvider, StockProvider};
        use crate::wire::RedisNode;
        config.event_log.provider = EventLogProvider::Kafka;
        config.event_log.kafka.bootstrap = vec![self.kafka.bootstrap()];
        config.stock.provider = StockProvider::Mariadb;
        config.stock.mariadb.url = Some(self.database.clone());
        config.leases.provider = LeasesProvider::Redis;
        config.leases.redis.nodes = vec![RedisNode::new("127.0.0.1", self.redis.port())];
        config.collector.source = collector::Source::AccessLog;
    }
    #[cfg(not(all(feature = "kafka", feature = "redis", feature = "mysql")))]
    pub fn configure(&self, _: &mut Config) {}

    /// Starts Filebeat on `log`; the topic `access-log` must exist.
    pub fn ship(&mut self, log: &Path) -> anyhow::Result<()> {
        let (log, bootstrap) = (log.display().to_string(), self.kafka.bootstrap());
        let config = Filebeat::fill(FILEBEAT, &[("ACCESS_LOG", &log), ("KAFKA_BOOTSTRAP", &bootstrap)])?;
        self.filebeat = Some(Filebeat::start(&self.dir.join("filebeat"), &config)?);
        Ok(())
    }

    /// What runs where, for the reader of the demo's output.
    pub fn addresses(&self) -> Vec<String> {
        vec![
            format!("kafka           {}", self.kafka.bootstrap()),
            format!("redis           {}", self.redis.url()),
            format!("mariadb         {}", self.mariadb.url()),
        ]
    }
}
