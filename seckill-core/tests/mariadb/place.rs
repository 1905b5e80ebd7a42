//! Fresh databases on one real MariaDB that the tests of a binary share; it ends with the last of them.

use std::sync::{Arc, Mutex, Weak};

use futures::TryStreamExt;
use seckill_core::stock::db::mariadb::{MariaStore, MariaStoreOptions};
use seckill_core::stock::sql_store::SqlStore;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Row};
use testkit::servers::MariaDb;

use crate::store_suite::Place;

/// A server and its directory.
pub struct Server {
    pub db: MariaDb,
    _folder: tempfile::TempDir,
}

impl Server {
    /// One of its own, for a test that kills or pauses it.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = MariaDb::start(folder.path()).unwrap();
        Self { db, _folder: folder }
    }
    /// The one that most tests share.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap();
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }
}

/// A database of its own.
pub struct Database {
    pub url: String,
    connection: Mutex<Option<MySqlConnection>>,
    _server: Option<Arc<Server>>,
}

impl Database {
    pub fn fresh() -> Arc<Self> {
        let server = Server::shared();
        let url = server.db.create_database().unwrap();
        Arc::new(Self { url, connection: Mutex::new(None), _server: Some(server) })
    }
    /// One of a server that the test keeps itself.
    pub fn at(url: String) -> Arc<Self> {
        Arc::new(Self { url, connection: Mutex::new(None), _server: None })
    }
    pub fn options(&self) -> MariaStoreOptions {
        MariaStoreOptions { url: Some(self.url.clone()), ..MariaStoreOptions::default() }
    }
    /// What the auditor, who shares no code with the store, says of it at rest.
    pub fn audit(&self) -> audit::Report {
        let store = audit::stock::Store::Server(audit::stock::Server::new(&self.url, None));
        let options = audit::stock::Options::at_rest(crate::store_suite::NOW.millis());
        audit::stock::audit_store(&store, &[], &options, None).unwrap()
    }
    pub async fn connect(&self) -> Arc<dyn SqlStore> {
        Arc::new(MariaStore::connect(self.options()).await.unwrap())
    }
    /// Runs SQL on a connection that is kept, and answers its rows, columns parted by blanks.
    pub async fn sql(&self, sql: &str) -> sqlx::Result<Vec<String>> {
        let kept = self.connection.lock().unwrap().take();
        let mut db = match kept {
            Some(db) => db,
            None => self.url.parse::<MySqlConnectOptions>()?.connect().await?,
        };
        let rows: Vec<MySqlRow> = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch(&mut db).try_collect().await?;
        *self.connection.lock().unwrap() = Some(db);
        let text = |row: &MySqlRow, i: usize| row.try_get_unchecked::<Option<String>, _>(i).unwrap();
        let line = |row: MySqlRow| {
            let cells = (0..row.columns().len()).map(|i| text(&row, i).unwrap_or_else(|| "NULL".into()));
            debug_assert!(row.columns().iter().all(|c| !c.name().is_empty()));
            cells.collect::<Vec<_>>().join(" ")
        };
        Ok(rows.into_iter().map(line).collect())
    }
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(work))
}

impl Place for Database {
    fn open(&self) -> Arc<dyn SqlStore> {
        wait(self.connect())
    }
    fn rows(&self, sql: &str) -> Vec<String> {
        wait(self.sql(sql)).unwrap()
    }
}
