//! The analyzer as a service: reads product events, publishes heat reports, keeps checkpoints, answers
//! readers. It moves bytes and decides nothing about heat. Nothing starts before `run`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use eventlog::{EventLog, EventLogError, Group, Retention, Topic, TopicSpec};
use http_kit::{Listening, SharedAuthenticator};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use types::{Clock, Invalid, topics};

use crate::live::{HeatSnapshot, LiveHeat};
use crate::options::Options;
use crate::orders::{Orders, Tables};
use crate::tables::LiveTables;

mod queries;
mod worker;

use queries::Keeper;
use worker::Worker;

/// How long heat reports are kept: a day, so that an auditor can compare a long run's windows afterwards.
const REPORTS_KEPT: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// Why the analyzer ended or did not start.
#[derive(Debug, thiserror::Error)]
pub enum AnalyzerError {
    /// An option is refused.
    #[error("option {0}")]
    Option(#[from] Invalid),
    /// The event log.
    #[error(transparent)]
    Log(#[from] EventLogError),
    /// The listener, or the directory of history.
    #[error("HTTP or history: {0}")]
    Http(#[from] std::io::Error),
}

impl AnalyzerError {
    /// Whether starting it again may help without anybody's doing.
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Option(_) => false,
            Self::Log(error) => error.retryable(),
            Self::Http(_) => true,
        }
    }
}

/// The analyzer, ready to run.
pub struct Analyzer {
    listening: Listening,
    router: Router,
    worker: Worker,
    handle: Handle,
    // Where orders are read for SQL, and as whom.
    orders: (Arc<dyn EventLog>, Group),
    // Who writes what is over to disk.
    keeper: Keeper,
}

/// What others in this process may see of it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    live: Arc<LiveHeat>,
    orders: Arc<Orders>,
    address: SocketAddr,
}

impl Handle {
    /// The newest snapshot; an empty one before the first event.
    pub fn snapshot(&self) -> Arc<HeatSnapshot> {
        self.live.snapshot()
    }
    /// Snapshots as they come; a slow reader sees the newest.
    pub fn subscribe(&self) -> watch::Receiver<Arc<HeatSnapshot>> {
        self.live.subscribe()
    }
    /// Where REST and SQL listen.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
    /// The live tables.
    pub fn tables(&self) -> Arc<dyn LiveTables> {
        Arc::new(Tables { heat: Arc::clone(&self.live), orders: Arc::clone(&self.orders) })
    }
}

/// A name that no other analyzer has: when it was made, by which process, and which of that process's it is.
fn member(clock: &dyn Clock) -> String {
    static MADE: AtomicU64 = AtomicU64::new(0);
    format!("{:x}-{:x}-{:x}", clock.now().millis(), std::process::id(), MADE.fetch_add(1, Ordering::Relaxed))
}

impl Analyzer {
    /// Checks the options, makes the topic of reports and binds the
    /// listener. `extra` routes are served beside its own, without authentication (metrics).
    pub async fn new(
        options: Options,
        log: Arc<dyn EventLog>,
        clock: Arc<dyn Clock>,
        authenticator: SharedAuthenticator,
        extra: Router,
    ) -> Result<Self, AnalyzerError> {
        options.check()?;
        let reports = Topic::new(topics::HEAT_REPORTS)?;
        log.ensure_topic(&TopicSpec {
            topic: reports.clone(),
            partitions: 1,
            retention: Retention::Time(REPORTS_KEPT),
        })
        .await?;
        let listening = http_kit::bind(options.listen).await?;
        let live = Arc::new(LiveHeat::default());
        let handle = Handle { live: Arc::clone(&live), orders: Arc::default(), address: listening.address() };
        let orders = (Arc::clone(&log), Group::new(format!("{}-orders", options.group))?);
        let (sql, keeper) = queries::open(&options, &clock, &handle)?;
        let guard = crate::http::Guard::new(options.open, authenticator);
        let router = crate::http::router(Arc::clone(&live), sql, guard, extra, &options.sql);
        let group = Group::new(&options.group)?;
        let (events, board) = (Topic::new(topics::PRODUCT_EVENTS)?, Topic::new(topics::ANALYZER_BOARD)?);
        let member = member(&*clock);
        let worker = Worker { options, log, clock, live, member, events, reports, board, group };
        Ok(Self { listening, router, worker, handle, orders, keeper })
    }

    /// For others in this process.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until `shutdown`, then publishes what is final, keeps a checkpoint, commits and returns.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), AnalyzerError> {
        // If one half ends, for whatever reason, the other must not go on alone.
        let stop = shutdown.child_token();
        let live = Arc::clone(&self.handle.live);
        let serve = async {
            let served = self.listening.serve(self.router, stop.clone().cancelled_owned()).await;
            stop.cancel();
            served
        };
        let work = async {
            let worked = self.worker.run(&stop).await;
            live.close();
            stop.cancel();
            worked
        };
        // Its last write comes after the worker's last second.
        let sealed = CancellationToken::new();
        let work = async {
            let worked = work.await;
            sealed.cancel();
            worked
        };
        let keep = self.keeper.run(self.handle.tables(), sealed.clone());
        let (log, group) = self.orders;
        let count = crate::orders::follow(Arc::clone(&self.handle.orders), log, group, stop.clone());
        let (served, worked, (), ()) = tokio::join!(serve, work, keep, count);
        worked?;
        Ok(served?)
    }
}
