//! One core as a service: made from options and ports, started by `run`, drained on shutdown. Nothing starts in
//! the constructor but the binding of its listeners.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use eventlog::{EventLog, EventLogError, Retention, Topic, TopicSpec};
use http_kit::{Listening, SharedAuthenticator, bind};
use tokio::sync::{Notify, Semaphore, broadcast};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use types::plan::ProductState;
use types::{Clock, Generation, Invalid};

use crate::challenge::{Challenge, ProofOfWork};
use crate::credits::Edges;
use crate::handover::MoveDone;
use crate::heard::Heard;
use crate::http::{self, App};
use crate::ids::Ids;
use crate::live::{self, Live};
use crate::meters::Meters;
use crate::mover::Mover;
use crate::options::Options;
use crate::payment::desk::PaymentDesk;
use crate::payment::{Payments, refunds};
use crate::plan_client::PlanClient;
use crate::recent::Recent;
use crate::shared::{Pulse, Shared, Topics};
use crate::stock::queue::backlog::{Backlog, Rate};
use crate::stock::queue::record::Source;
use crate::stock::queue::{consumer, others, resubmit};
use crate::stock::redis::LeaseStore;
use crate::stock::sql_store::SqlStore;
use crate::stock::store::{StockStore, StoreError};
use crate::ticket::TicketSecret;
use crate::tier_table::TierTable;
use crate::wake::Wake;
use crate::webhooks::Webhooks;
use crate::{expiry, metrics, outbox, retention};

/// How often the whole tier table is read again: half of the second that the protocol allows.
const REFRESH_EVERY: Duration = Duration::from_millis(500);
/// Requests that may wait for moves to end at once.
const MAX_HANDOVER_WAITERS: usize = 10_000;
/// Moves that a slow reader of the broadcast may be behind.
const MOVES_KEPT: usize = 1_024;
/// Longest time for requests in flight at shutdown; a client that reads slower is cut off.
const DRAIN: Duration = Duration::from_secs(10);
/// How long records of purchase topics are kept: far beyond any deadline.
const KEEP_PURCHASES: Duration = Duration::from_secs(24 * 3600);
/// How long order events and dead letters are kept, for systems that were away.
const KEEP_EVENTS: Duration = Duration::from_secs(7 * 24 * 3600);

/// Why a core does not start or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// An option is wrong.
    #[error("option {0}")]
    Option(#[from] Invalid),
    /// The stock store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The event log failed.
    #[error(transparent)]
    Log(#[from] EventLogError),
    /// A listener or the data directory.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A task ended by a defect.
    #[error("a part of the core stopped: {0}")]
    Stopped(String),
}

impl CoreError {
    /// Whether starting again may help.
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Option(_) => false,
            Self::Store(error) => error.retryable(),
            Self::Log(error) => error.retryable(),
            Self::Io(_) | Self::Stopped(_) => true,
        }
    }
}

/// One core, ready to run.
pub struct SeckillCore {
    shared: Arc<Shared>,
    app: App,
    authenticator: SharedAuthenticator,
    extra_private: Router,
    public: Listening,
    private: Listening,
    admin: Listening,
}

/// A view of a running core. Cheap to clone.
#[derive(Clone)]
pub struct CoreHandle {
    shared: Arc<Shared>,
    plan: Arc<PlanClient>,
    public: SocketAddr,
    private: SocketAddr,
    admin: SocketAddr,
}

impl CoreHandle {
    /// Where shoppers' calls are served.
    pub const fn public(&self) -> SocketAddr {
        self.public
    }
    /// Where plans are pushed and health is asked.
    pub const fn private(&self) -> SocketAddr {
        self.private
    }
    /// Where sales are administered.
    pub const fn admin(&self) -> SocketAddr {
        self.admin
    }
    /// Every product as this core sees it now, in the order of their SKUs.
    pub fn products(&self) -> Vec<ProductState> {
        self.shared.table.rows().iter().map(|row| row.state.clone()).collect()
    }
    /// The generation of the plan that is held; 0 for none.
    pub fn generation(&self) -> Generation {
        self.plan.generation()
    }
    /// Attempts that are queued and not decided yet.
    pub fn backlog(&self) -> u64 {
        self.shared.backlog.len()
    }
    /// Connections of live updates that are open.
    pub fn live_connections(&self) -> usize {
        self.shared.live.open()
    }
    /// Moves from now on; a reader that falls behind by more than 1,024 misses the oldest.
    pub fn moves(&self) -> broadcast::Receiver<MoveDone> {
        self.shared.moves.subscribe()
    }
}

async fn create(log: &dyn EventLog, topic: &Topic, partitions: u32, retention: Retention) -> Result<(), EventLogError> {
    log.ensure_topic(&TopicSpec { topic: topic.clone(), partitions, retention }).await
}

/// A topic that others write too keeps the number of partitions that it has.
async fn create_if_missing(
    log: &dyn EventLog,
    topic: &Topic,
    partitions: u32,
    retention: Retention,
) -> Result<(), EventLogError> {
    match create(log, topic, partitions, retention).await {
        Err(EventLogError::Partitions { .. }) => Ok(()),
        other => other,
    }
}

/// The ports that a core stands on.
pub(crate) struct Ports {
    pub(crate) store: Arc<dyn StockStore>,
    pub(crate) leases: Arc<dyn LeaseStore>,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Creates what topics are missing, reads the products, and makes what all parts of a core share.
pub(crate) async fn share(options: Options, ports: Ports, secret: TicketSecret, ids: Ids) -> Result<Shared, CoreError> {
    let Ports { store, leases, log, clock } = ports;
    let topics = Topics::new()?;
    let purchases = Retention::Time(KEEP_PURCHASES);
    create(&*log, &topics.grants, options.partitions, purchases).await?;
    create(&*log, &topics.queue, options.partitions, purchases).await?;
    let events = Retention::Time(KEEP_EVENTS);
    create_if_missing(&*log, &topics.order_events, options.partitions, events).await?;
    create_if_missing(&*log, &topics.product_state, 1, Retention::Compacted).await?;
    create_if_missing(&*log, &topics.dead_letters, 1, events).await?;
    Ok(Shared {
        core: options.core_id()?,
        incarnation: ids.incarnation(),
        table: TierTable::open(store.clone()).await?,
        live: Arc::new(Live::new(options.live.clone())),
        pauses: arc_swap::ArcSwap::default(),
        options,
        store,
        leases,
        log,
        clock,
        topics,
        meters: Meters::new(),
        recent: Recent::new(),
        heard: Heard::default(),
        backlog: Backlog::default(),
        granted: Backlog::default(),
        edges: Edges::new(ids.incarnation()),
        queue_rate: Rate::new(),
        grants_rate: Rate::new(),
        secret,
        ids,
        handover_waiters: Semaphore::new(MAX_HANDOVER_WAITERS),
        condemned: parking_lot::Mutex::default(),
        resubmissions: resubmit::Resubmissions::default(),
        wake_mover: Wake::default(),
        wake_outbox: Notify::new(),
        moves: broadcast::channel(MOVES_KEPT).0,
        grants_pulse: Pulse::new(),
        queue_pulse: Pulse::new(),
    })
}

/// Starts what decides and moves: consumers, resubmission, expiry, the tier table's refresh, the mover.
pub(crate) fn spawn_workers(
    working: &mut JoinSet<Result<(), CoreError>>,
    shared: &Arc<Shared>,
    mover: Arc<Mover>,
    stop: &CancellationToken,
) {
    for source in [Source::Grants, Source::Queue] {
        let (shared, stop) = (shared.clone(), stop.clone());
        working.spawn(async move { Ok(consumer::run(&shared, source, stop).await?) });
    }
    spawn(working, shared, stop, |shared, stop| async move { resubmit::run(&shared, stop).await });
    spawn(working, shared, stop, |shared, stop| async move { others::run(&shared, stop).await });
    spawn(working, shared, stop, |shared, stop| async move { expiry::run(&shared, stop).await });
    spawn(working, shared, stop, |shared, stop| async move { keep_fresh(&shared, stop).await });
    spawn(working, shared, stop, |_, stop| mover.run(stop));
}

/// Starts the relay of order events, which ends last.
pub(crate) fn spawn_relay(
    relaying: &mut JoinSet<Result<(), CoreError>>,
    shared: &Arc<Shared>,
    stop: &CancellationToken,
) {
    spawn(relaying, shared, stop, |shared, stop| async move { outbox::run(&shared, stop).await });
}

impl SeckillCore {
    /// Checks the options, creates what topics are missing, reads products and plan, binds the listeners.
    #[expect(clippy::too_many_arguments, reason = "each is a port of its own; the binary's wiring names them once")]
    pub async fn new(
        options: Options,
        sql: Arc<dyn SqlStore>,
        leases: Arc<dyn LeaseStore>,
        log: Arc<dyn EventLog>,
        clock: Arc<dyn Clock>,
        authenticator: SharedAuthenticator,
        ticket_secret: TicketSecret,
        extra_private: Router,
    ) -> Result<Self, CoreError> {
        options.check()?;
        let plan = Arc::new(PlanClient::open(&options.data_dir)?);
        let public = bind(options.public).await?;
        let private = bind(options.private).await?;
        let admin = bind(options.admin).await?;
        let ports = Ports { store: sql.clone(), leases, log, clock };
        let shared = Arc::new(share(options, ports, ticket_secret, Ids::from_entropy()).await?);
        // What was paused before a restart is paused after it.
        shared.pauses.store(Arc::new(plan.pauses()));
        let mover = Arc::new(Mover::new(shared.clone(), plan.clone()));
        let desk = Arc::new(PaymentDesk::new(Payments::nobody(), sql.clone()));
        let challenge = Arc::new(ProofOfWork::new(shared.secret.clone()));
        let app = App { shared: shared.clone(), sql, plan, mover, desk, challenge };
        Ok(Self { shared, app, authenticator, extra_private, public, private, admin })
    }

    /// Takes money by this provider. Without it the shop takes its money itself, and no callback is believed.
    #[must_use]
    pub fn with_payments(mut self, payments: Payments) -> Self {
        self.app.desk = Arc::new(PaymentDesk::new(payments, self.app.sql.clone()));
        self
    }

    /// Asks for this before it gives out a purchase token. Without it, for the proof of work of the sale's policy.
    #[must_use]
    pub fn with_challenge(mut self, challenge: Arc<dyn Challenge>) -> Self {
        self.app.challenge = challenge;
        self
    }

    /// A view of this core.
    pub fn handle(&self) -> CoreHandle {
        CoreHandle {
            shared: self.shared.clone(),
            plan: self.app.plan.clone(),
            public: self.public.address(),
            private: self.private.address(),
            admin: self.admin.address(),
        }
    }

    /// Serves until `shutdown`; then finishes what is in flight, stops the consumers, relays the outbox.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), CoreError> {
        metrics::describe();
        let Self { shared, app, authenticator, extra_private, public, private, admin } = self;
        // Three stages: listeners first, so that nothing new comes; then what decides; the outbox last.
        let listeners = CancellationToken::new();
        let workers = CancellationToken::new();
        let relay = CancellationToken::new();

        app.desk.provider.calls_back_at(&format!("http://{}{}", reachable(public.address()), http::CALLBACK));
        let mut serving = JoinSet::new();
        let stop = |token: &CancellationToken| token.clone().cancelled_owned();
        serving.spawn(public.serve(http::public(app.clone(), authenticator.clone()), stop(&listeners)));
        serving.spawn(admin.serve(http::admin(app.clone(), authenticator.clone()), stop(&listeners)));
        // Health is answered until the end.
        serving.spawn(private.serve(http::private(app.clone(), authenticator, extra_private), stop(&workers)));

        let mut working: JoinSet<Result<(), CoreError>> = JoinSet::new();
        spawn_workers(&mut working, &shared, app.mover.clone(), &workers);
        let holder = format!("{} {:x}", shared.core, shared.incarnation);
        let options = &shared.options;
        let webhooks =
            Webhooks::new(app.sql.clone(), shared.clock.clone(), options.webhooks.clone(), options.skew, holder);
        let webhooks = webhooks.map_err(|e| CoreError::Stopped(format!("webhooks: {e}")))?;
        spawn(&mut working, &shared, &workers, |_, stop| webhooks.run(stop));
        let sql = app.sql.clone();
        spawn(
            &mut working,
            &shared,
            &workers,
            |shared, stop| async move { live::feed::run(&shared, &*sql, stop).await },
        );
        let sql = app.sql.clone();
        spawn(&mut working, &shared, &workers, |shared, stop| retention::run(shared, sql, stop));
        let desk = app.desk.clone();
        spawn(&mut working, &shared, &workers, |shared, stop| async move { refunds::run(&desk, &shared, stop).await });

        let mut relaying: JoinSet<Result<(), CoreError>> = JoinSet::new();
        spawn_relay(&mut relaying, &shared, &relay);
        tracing::info!(core = %shared.core, "the core runs");

        // Until shutdown nothing ends by itself; what does is a defect and takes the core down, cleanly.
        let mut failed = tokio::select! {
            () = shutdown.cancelled() => None,
            Some(ended) = serving.join_next() => Some(failure("a listener", ended.map(|r| r.map_err(CoreError::from)))),
            Some(ended) = working.join_next() => Some(failure("a worker", ended)),
            Some(ended) = relaying.join_next() => Some(failure("the outbox relay", ended)),
        };

        listeners.cancel();
        shared.live.close().await;
        // All but the private listener.
        let drained =
            tokio::time::timeout(DRAIN, async { while serving.len() > 1 && serving.join_next().await.is_some() {} });
        if drained.await.is_err() {
            tracing::warn!("requests in flight were cut off");
        }
        workers.cancel();
        while let Some(ended) = working.join_next().await {
            if let Err(error) = flatten(ended) {
                failed.get_or_insert(error);
            }
        }
        relay.cancel();
        while let Some(ended) = relaying.join_next().await {
            if let Err(error) = flatten(ended) {
                failed.get_or_insert(error);
            }
        }
        serving.shutdown().await;
        tracing::info!(core = %shared.core, "the core has stopped");
        failed.map_or(Ok(()), Err)
    }
}

/// The address at which this very machine reaches a listener.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

fn spawn<F, W>(set: &mut JoinSet<Result<(), CoreError>>, shared: &Arc<Shared>, stop: &CancellationToken, work: W)
where
    W: FnOnce(Arc<Shared>, CancellationToken) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let work = work(shared.clone(), stop.clone());
    set.spawn(async move {
        work.await;
        Ok(())
    });
}

fn flatten(ended: Result<Result<(), CoreError>, tokio::task::JoinError>) -> Result<(), CoreError> {
    ended.map_err(|e| CoreError::Stopped(e.to_string())).and_then(|r| r)
}

fn failure(what: &str, ended: Result<Result<(), CoreError>, tokio::task::JoinError>) -> CoreError {
    match flatten(ended) {
        Ok(()) => CoreError::Stopped(format!("{what} ended")),
        Err(error) => error,
    }
}

/// Reads the tier table again and again, and forgets queued attempts past their deadline.
async fn keep_fresh(shared: &Shared, stop: CancellationToken) {
    while !stop.is_cancelled() {
        tokio::select! {
            biased;
            () = tokio::time::sleep(REFRESH_EVERY) => {}
            () = stop.cancelled() => return,
        }
        if let Err(error) = shared.table.refresh().await {
            tracing::warn!(%error, "the tier table is not fresh");
            metrics::retry("tier_table");
        }
        shared.backlog.forget_before(shared.now());
        shared.granted.forget_before(shared.now());
        metrics::backlog(shared.backlog.len());
    }
}
