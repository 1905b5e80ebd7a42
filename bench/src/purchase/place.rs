//! Where a measured core stands: a folder of its own, or fresh databases on real servers that this run started; and
//! how its orders are counted there. It reads SQL and writes nothing but databases of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use bench::child::Providers;
use rusqlite::{Connection, OpenFlags};
use servers::{Kafka, MariaDb, Redis};

/// Milliseconds since the epoch.
pub fn wall_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// Kafka, Redis and MariaDB, gone with this value.
pub struct Real {
    kafka: Kafka,
    redis: Redis,
    mariadb: MariaDb,
}

impl Real {
    /// Starts all three; blocks until each answers.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        let kafkas = folder.join("kafka");
        let (kafka, redis, mariadb) = std::thread::scope(|scope| -> anyhow::Result<_> {
            let kafka = scope.spawn(|| Kafka::start(&kafkas));
            let redis = Redis::start_with(&folder.join("redis"), &["appendonly no"])?;
            let mariadb = MariaDb::start(&folder.join("mariadb"))?;
            let kafka = kafka.join().map_err(|_| anyhow::anyhow!("starting Kafka panicked"))??;
            Ok((kafka, redis, mariadb))
        })?;
        Ok(Self { kafka, redis, mariadb })
    }
    /// A fresh database.
    pub fn database(&self) -> anyhow::Result<String> {
        Ok(self.mariadb.create_database()?)
    }
    /// Statements that the server was sent so far, those of this question excluded.
    pub fn statements(&self) -> anyhow::Result<u64> {
        let row = self.mariadb.run("SHOW GLOBAL STATUS LIKE 'Questions'")?;
        row.split_whitespace().nth(1).and_then(|text| text.parse().ok()).context("MariaDB counts its questions")
    }
    /// Stops MariaDB's answers, not its connections.
    pub fn pause(&self) {
        self.mariadb.pause();
    }
    /// Lets it answer again.
    pub fn resume(&self) {
        self.mariadb.resume();
    }
    /// Calls a second of a script that decrements and remembers a key, by Redis's own generator.
    pub fn evalsha(&self, calls: u64) -> anyhow::Result<f64> {
        const SCRIPT: &str = "if redis.call('HSETNX', KEYS[1], ARGV[1], 1) == 1 then \
                              return redis.call('HINCRBY', KEYS[1], 'left', -1) end return 0";
        let port = self.redis.port().to_string();
        let sha = Command::new("redis-cli").args(["-p", &port, "SCRIPT", "LOAD", SCRIPT]).output()?;
        let sha = String::from_utf8(sha.stdout)?.trim().to_owned();
        let said = Command::new("redis-benchmark")
            .args(["-p", &port, "-n", &calls.to_string(), "-r", "1000000000", "-q", "-c", "64"])
            .args(["EVALSHA", &sha, "1", "bench", "k__rand_int__"])
            .output()?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        self.redis.ask("DEL bench")?;
        let words: Vec<_> = said.split_whitespace().collect();
        let at = words.windows(3).rposition(|w| w[1] == "requests" && w[2] == "per");
        at.and_then(|at| words[at].parse().ok()).context("redis-benchmark said nothing")
    }
}

/// Where a core stands.
pub enum Place<'a> {
    /// SQLite, leases in the process, the embedded log.
    Embedded(PathBuf),
    /// MariaDB, Redis, Kafka.
    Real(&'a Real, PathBuf),
}

/// How the orders there are counted.
pub enum Orders<'a> {
    File(PathBuf),
    Server(&'a Real, String),
}

impl Place<'_> {
    /// For figures.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Embedded(_) => "embedded",
            Self::Real(..) => "real",
        }
    }
    /// The core's own folder.
    pub fn folder(&self) -> &Path {
        match self {
            Self::Embedded(folder) | Self::Real(_, folder) => folder,
        }
    }
    /// Removes an embedded core's folder.
    pub fn forget(&self) {
        if let Self::Embedded(folder) = self {
            let _gone = fs::remove_dir_all(folder);
        }
    }
    /// Fresh databases. Topics stay: an earlier core has decided and committed what lies in them.
    pub fn open(&self) -> anyhow::Result<(Providers, Orders<'_>)> {
        match self {
            Self::Embedded(folder) => Ok((Providers::default(), Orders::File(folder.join("stock.sqlite")))),
            Self::Real(real, _) => {
                real.redis.ask("FLUSHALL")?;
                let url = real.database()?;
                let name = url.rsplit('/').next().unwrap_or_default().to_owned();
                let providers = Providers {
                    mariadb: Some(url),
                    redis: Some(real.redis.port()),
                    kafka: Some(real.kafka.bootstrap()),
                    bare: false,
                };
                Ok((providers, Orders::Server(real, name)))
            }
        }
    }
}

impl Orders<'_> {
    /// Orders that were accepted in these milliseconds since the epoch, the last excluded.
    pub fn between(&self, from: i64, to: i64) -> anyhow::Result<u64> {
        let sql = format!("WHERE accepted_at >= {from} AND accepted_at < {to}");
        match self {
            Self::File(path) => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let db = Connection::open_with_flags(path, flags)?;
                let n: i64 = db.query_row(&format!("SELECT COUNT(*) FROM orders {sql}"), [], |row| row.get(0))?;
                Ok(u64::try_from(n)?)
            }
            Self::Server(real, name) => {
                let said = real.mariadb.run(&format!("SELECT COUNT(*) FROM {name}.orders {sql}"))?;
                ensure!(!said.trim().is_empty(), "MariaDB said nothing");
                Ok(said.trim().parse()?)
            }
        }
    }
}
