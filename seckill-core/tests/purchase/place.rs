//! Where a story takes place: one provider of each of the three ports, with a database, keys and topics of its own.
//! Only this file knows which providers there are.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use eventlog::{EventLog, KafkaLog, KafkaLogOptions, SqliteLog, SqliteLogOptions};
use seckill_core::InProcessLeases;
use seckill_core::stock::db::mariadb::{MariaStore, MariaStoreOptions};
use seckill_core::stock::db::sqlite::{SqliteStore, SqliteStoreOptions};
use seckill_core::stock::redis::LeaseStore;
use seckill_core::stock::redis::server::{NodeAddress, RedisLeases, RedisLeasesOptions};
use seckill_core::stock::sql_store::SqlStore;
use tokio::sync::{RwLockReadGuard, RwLockWriteGuard};
use types::{Clock, SystemClock, Timestamp};

use crate::line::{Faults, Line};
use crate::shared;
use crate::till::Till;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stock {
    Sqlite,
    MariaDb,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leases {
    InProcess,
    Redis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    Sqlite,
    Kafka,
}

/// One of the eight combinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    pub stock: Stock,
    pub leases: Leases,
    pub log: Log,
}

impl Kind {
    pub const ALL: [Self; 8] = {
        let mut all = [Self { stock: Stock::Sqlite, leases: Leases::InProcess, log: Log::Sqlite }; 8];
        let mut n = 0;
        while n < 8 {
            if n & 4 != 0 {
                all[n].stock = Stock::MariaDb;
            }
            if n & 2 != 0 {
                all[n].leases = Leases::Redis;
            }
            if n & 1 != 0 {
                all[n].log = Log::Kafka;
            }
            n += 1;
        }
        all
    };
    /// Nothing but files and memory.
    pub fn is_embedded(self) -> bool {
        self == Self::ALL[0]
    }
}

/// The machine's clock, which a story can push forward.
pub struct PushedClock {
    base: SystemClock,
    ahead_ms: std::sync::atomic::AtomicI64,
}

impl PushedClock {
    pub fn push(&self, d: Duration) {
        self.ahead_ms.fetch_add(d.as_millis() as i64, Ordering::SeqCst);
    }
}

impl Clock for PushedClock {
    fn now(&self) -> Timestamp {
        self.base.now().plus(Duration::from_millis(self.ahead_ms.load(Ordering::SeqCst) as u64))
    }
}

/// What a story holds of the servers.
enum Share {
    Nothing,
    WithOthers(#[expect(dead_code, reason = "held")] RwLockReadGuard<'static, ()>),
    Alone(#[expect(dead_code, reason = "held")] RwLockWriteGuard<'static, ()>),
}

pub struct Place {
    pub kind: Kind,
    pub clock: Arc<PushedClock>,
    /// What befalls purchase records.
    pub faults: Arc<Faults>,
    /// What befalls refunds.
    pub till: Arc<Till>,
    pub folder: tempfile::TempDir,
    name: String,
    database: Option<String>,
    sqlite_log: Option<SqliteLog>,
    // What all cores of one process share.
    sqlite: Mutex<Weak<SqliteStore>>,
    in_process: Mutex<Weak<InProcessLeases>>,
    share: Share,
}

impl Place {
    /// A fresh one; other stories go on beside it.
    pub async fn fresh(kind: Kind) -> Self {
        Self::make(kind, Self::with_others(kind).await, SystemClock::new())
    }

    /// A fresh one whose clock begins at this moment.
    pub async fn fresh_at(kind: Kind, origin: Timestamp) -> Self {
        Self::make(kind, Self::with_others(kind).await, SystemClock::starting_at(origin, 1.0))
    }

    async fn with_others(kind: Kind) -> Share {
        if kind.is_embedded() { Share::Nothing } else { Share::WithOthers(shared::UNHARMED.read().await) }
    }

    /// A fresh one whose servers may be killed: no other story uses them meanwhile.
    pub async fn alone(kind: Kind) -> Self {
        Self::make(kind, Share::Alone(shared::UNHARMED.write().await), SystemClock::new())
    }

    fn make(kind: Kind, share: Share, base: SystemClock) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(PushedClock { base, ahead_ms: Default::default() });
        let sqlite_log = (kind.log == Log::Sqlite).then(|| {
            let path = folder.path().join("log.sqlite");
            SqliteLog::open_with_clock(&path, SqliteLogOptions::default(), clock.clone()).unwrap()
        });
        let database = (kind.stock == Stock::MariaDb).then(|| shared::mariadb().create_database().unwrap());
        let name = format!("s{}-{}-", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let (sqlite, in_process) = Default::default();
        Self {
            kind,
            clock,
            faults: Arc::default(),
            till: Arc::default(),
            folder,
            name,
            database,
            sqlite_log,
            sqlite,
            in_process,
            share,
        }
    }

    /// Whether servers may be killed here.
    pub fn is_alone(&self) -> bool {
        matches!(self.share, Share::Alone(_))
    }

    fn sqlite_file(&self) -> std::path::PathBuf {
        self.folder.path().join("stock.sqlite")
    }

    /// The stock, as one more core opens it. A file belongs to one process: its cores share what is open.
    pub async fn store(&self) -> Arc<dyn SqlStore> {
        if let Some(url) = &self.database {
            let options = MariaStoreOptions { url: Some(url.clone()), ..MariaStoreOptions::default() };
            return Arc::new(MariaStore::connect(options).await.expect("the store opens"));
        }
        let mut open = self.sqlite.lock().unwrap();
        let store = open.upgrade().unwrap_or_else(|| {
            Arc::new(SqliteStore::open(&self.sqlite_file(), SqliteStoreOptions::default()).expect("the store opens"))
        });
        *open = Arc::downgrade(&store);
        store
    }

    /// The leases, as one more core sees them.
    pub async fn leases(&self) -> Arc<dyn LeaseStore> {
        if self.kind.leases == Leases::Redis {
            let options = RedisLeasesOptions {
                nodes: vec![NodeAddress::new("127.0.0.1", shared::redis().port())],
                prefix: self.name.clone(),
                ..RedisLeasesOptions::default()
            };
            return Arc::new(RedisLeases::connect(options, self.clock.clone()).await.expect("the leases open"));
        }
        let mut open = self.in_process.lock().unwrap();
        let leases = open.upgrade().unwrap_or_default();
        *open = Arc::downgrade(&leases);
        leases
    }

    /// The process has died, and its memory with it.
    pub fn forget_leases(&self) {
        *self.in_process.lock().unwrap() = Weak::new();
    }

    /// The log, as one more core connects to it.
    pub fn log(&self) -> Arc<dyn EventLog> {
        let log: Arc<dyn EventLog> = match &self.sqlite_log {
            Some(log) => Arc::new(log.clone()),
            None => {
                let options = KafkaLogOptions { bootstrap: vec![shared::kafka().bootstrap()], ..Default::default() };
                Arc::new(KafkaLog::connect(options, self.clock.clone()).expect("the log opens"))
            }
        };
        Arc::new(Line::new(log, self.name.clone(), self.faults.clone()))
    }

    /// What a query for one number answers.
    pub fn count(&self, sql: &str) -> u64 {
        match &self.database {
            Some(url) => {
                let database = url.rsplit('/').next().expect("a name");
                let rows = tokio::task::block_in_place(|| shared::mariadb().run(&format!("USE {database}; {sql}")));
                rows.unwrap().trim().parse().unwrap()
            }
            None => {
                let db = rusqlite::Connection::open(self.sqlite_file()).unwrap();
                db.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap().into()
            }
        }
    }

    /// The stock as the auditor reads it.
    pub fn audited(&self) -> audit::stock::Store {
        match &self.database {
            Some(url) => audit::stock::Store::Server(audit::stock::Server::new(url, None)),
            None => audit::stock::Store::File(self.sqlite_file()),
        }
    }
}
