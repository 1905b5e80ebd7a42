//! The service: Options → ControlPlane → handle → run(shutdown). It builds the parts and joins them; it
//! decides nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use eventlog::{EventLog, EventLogError};
use http_kit::{Listening, SharedAuthenticator};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use types::{Clock, Invalid};

use crate::api::{self, ApiState};
use crate::brain::{Brain, Command, Ways};
use crate::elect::{Election, Leadership};
use crate::observe::heat_reports::{self, ShardReport};
use crate::options::Options;
use crate::plan_store::{PlanStore, StoreError};
use crate::reconcile::{self, CoreClient, CoreToken, CoreView, HttpCore, LinkParts, Renew};
use crate::view::{PlanView, TierMove};

/// Orders that may wait for the plan's owner; more is a script gone wild and gets 503.
const COMMANDS: usize = 64;
/// Reports that may wait; beyond it the reader waits, which the log bears.
const REPORTS: usize = 16;
/// Wishes of reconcilers that may wait.
const RENEWS: usize = 64;
/// Moves kept for a slow listener; a slower one is told how many it missed.
const MOVES: usize = 1_024;
/// Longest time for calls in flight at shutdown.
const DRAIN: Duration = Duration::from_secs(6);

/// Why the service could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option is wrong.
    #[error("control plane: {0}")]
    Options(#[from] Invalid),
    /// The plan store failed for good.
    #[error("control plane: {0}")]
    Store(#[from] StoreError),
    /// Heat reports cannot be read for a reason that does not pass.
    #[error("control plane: heat reports: {0}")]
    EventLog(#[from] EventLogError),
    /// The listener failed.
    #[error("control plane: {0}")]
    Listen(#[from] std::io::Error),
    /// A part of the service ended although nobody asked it to.
    #[error("control plane: {0} ended unexpectedly")]
    Ended(&'static str),
}

impl Error {
    /// Whether starting again may help without changing anything.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Store(e) => e.retryable(),
            Self::EventLog(e) => e.retryable(),
            Self::Options(_) | Self::Listen(_) | Self::Ended(_) => false,
        }
    }
}

/// What others may see of a running control plane. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    address: SocketAddr,
    view: watch::Receiver<Arc<PlanView>>,
    moves: broadcast::Sender<TierMove>,
    cores: Arc<[watch::Receiver<CoreView>]>,
}

impl Handle {
    /// Where the ops REST listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
    /// The plan in force, and a way to be told of the next one.
    pub fn plan(&self) -> watch::Receiver<Arc<PlanView>> {
        self.view.clone()
    }
    /// Moves from now on. A listener that falls 1,024 behind is told how many it missed.
    pub fn moves(&self) -> broadcast::Receiver<TierMove> {
        self.moves.subscribe()
    }
    /// What is known of each configured core, in the order of the configuration.
    pub fn cores(&self) -> Vec<CoreView> {
        self.cores.iter().map(|core| core.borrow().clone()).collect()
    }
    /// Whether this control plane leads: plans, stores and pushes.
    pub fn leads(&self) -> bool {
        self.view.borrow().term.is_some()
    }
    /// Ready: it leads, and every configured core has acknowledged a plan of ours; or it stands by for one that leads.
    pub fn is_ready(&self) -> bool {
        let view = self.view.borrow();
        match view.term {
            Some(_) => self.cores.iter().all(|core| core.borrow().acknowledged.is_some()),
            None => view.leader.is_some(),
        }
    }
}

/// The control plane, built and bound, not yet running.
pub struct ControlPlane {
    options: Options,
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    listening: Listening,
    router: Router,
    brain: Brain,
    links: Vec<LinkParts>,
    reports: mpsc::Sender<ShardReport>,
    election: Election,
    handle: Handle,
    http_shutdown: CancellationToken,
}

impl ControlPlane {
    /// Binds the listener and prepares the cores' clients; starts nothing. `extra` (metrics, health) is served beside
    /// the ops REST and must not repeat its paths.
    pub async fn new(
        options: Options,
        store: Arc<dyn PlanStore>,
        log: Arc<dyn EventLog>,
        clock: Arc<dyn Clock>,
        authenticator: SharedAuthenticator,
        core_token: CoreToken,
        extra: Router,
    ) -> Result<Self, Error> {
        options.check()?;
        let clients = options
            .cores
            .iter()
            .map(|base| Ok(Arc::new(HttpCore::new(base, core_token.clone())?) as Arc<dyn CoreClient>))
            .collect::<Result<Vec<_>, Invalid>>()?;
        Self::with_clients(options, store, clients, log, clock, authenticator, extra).await
    }

    /// As [`ControlPlane::new`] with other clients, one for each of `options.cores`.
    pub async fn with_clients(
        options: Options,
        store: Arc<dyn PlanStore>,
        clients: Vec<Arc<dyn CoreClient>>,
        log: Arc<dyn EventLog>,
        clock: Arc<dyn Clock>,
        authenticator: SharedAuthenticator,
        extra: Router,
    ) -> Result<Self, Error> {
        options.check()?;
        let listening = http_kit::bind(options.listen).await?;
        let (commands, commands_in) = mpsc::channel::<Command>(COMMANDS);
        let (reports, reports_in) = mpsc::channel(REPORTS);
        let (renew, renews_in) = mpsc::channel::<Renew>(RENEWS);
        let (view, view_out) = watch::channel(Arc::new(PlanView::default()));
        let (moves, _) = broadcast::channel(MOVES);
        let (changed, cores_changed) = watch::channel(0);
        let mut links = Vec::with_capacity(clients.len());
        let mut cores = Vec::with_capacity(clients.len());
        for (n, client) in clients.into_iter().enumerate() {
            let base_url = options.cores[n].clone();
            let (core, core_out) = watch::channel(CoreView { base_url, ..CoreView::default() });
            cores.push(core_out);
            links.push(LinkParts {
                client,
                clock: clock.clone(),
                plan: view_out.clone(),
                renew: renew.clone(),
                view: core,
                changed: changed.clone(),
                period: options.tick,
                seed: options.seed.wrapping_add(n as u64),
            });
        }
        let (leadership, elected) = watch::channel(Leadership::Unknown);
        // One wish is as good as many: the next look at the core repeats it.
        let (raise, raise_in) = mpsc::channel(1);
        let at = format!("http://{}", listening.address());
        let election = Election {
            store: store.clone(),
            clock: clock.clone(),
            me: options.instance.clone(),
            url: if options.advertise.is_empty() { at } else { options.advertise.clone() },
            raise: raise_in,
            out: leadership,
        };
        let ways = Ways {
            commands: commands_in,
            reports: reports_in,
            renews: renews_in,
            leadership: elected,
            raise,
            cores: cores.clone(),
            view,
            moves: moves.clone(),
        };
        let brain = Brain::new(
            clock.clone(),
            options.policy.clone(),
            options.tick,
            store.clone(),
            options.record.clone(),
            ways,
        );
        let cores: Arc<[_]> = cores.into();
        let http_shutdown = CancellationToken::new();
        let state = ApiState {
            commands,
            view: view_out.clone(),
            cores: cores.clone(),
            cores_changed,
            store,
            clock: clock.clone(),
            core_silence: options.policy.core_silence,
            shutdown: http_shutdown.clone(),
            moves: moves.clone(),
            streams: Arc::new(tokio::sync::Semaphore::new(api::MAX_STREAMS)),
        };
        let handle = Handle { address: listening.address(), view: view_out, moves, cores };
        let router = api::router(state, authenticator, extra);
        Ok(Self { options, log, clock, listening, router, brain, links, reports, election, handle, http_shutdown })
    }

    /// What others may see.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until `shutdown`: first no new calls are taken and those in flight are finished, then planning
    /// and pushing end. Cores keep the last plan.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let inner = CancellationToken::new();
        tracing::info!(address = %self.handle.address, cores = self.options.cores.len(),
            instance = self.options.instance, "control plane runs");
        let mut parts: JoinSet<Result<&'static str, Error>> = JoinSet::new();
        let stop = inner.clone();
        let brain = self.brain;
        parts.spawn(async move { Ok(brain.run(stop).await.map(|()| "the planner")?) });
        let stop = inner.clone();
        let election = self.election;
        parts.spawn(async move {
            election.run(stop).await;
            Ok("the election")
        });
        let stop = inner.clone();
        let (log, clock, reports) = (self.log, self.clock, self.reports);
        let me = self.options.instance.clone();
        parts.spawn(async move { Ok(heat_reports::run(log, clock, &me, reports, stop).await.map(|()| "the reader")?) });
        for link in self.links {
            let stop = inner.clone();
            parts.spawn(async move {
                reconcile::run(link, stop).await;
                Ok("a reconciler")
            });
        }
        let stop_http = self.http_shutdown.clone();
        let (listening, router) = (self.listening, self.router);
        let mut http = tokio::spawn(listening.serve(router, async move { stop_http.cancelled().await }));

        let ended = tokio::select! {
            () = shutdown.cancelled() => None,
            part = parts.join_next() => Some(part),
            served = &mut http => {
                inner.cancel();
                while parts.join_next().await.is_some() {}
                return match served {
                    Ok(Err(e)) => Err(e.into()),
                    Ok(Ok(())) | Err(_) => Err(Error::Ended("the listener")),
                };
            }
        };
        self.http_shutdown.cancel();
        if tokio::time::timeout(DRAIN, &mut http).await.is_err() {
            tracing::warn!("calls in flight were cut off at shutdown");
            http.abort();
        }
        inner.cancel();
        let mut first = match ended {
            None => Ok(()),
            Some(Some(Ok(Ok(part)))) => Err(Error::Ended(part)),
            Some(Some(Ok(Err(e)))) => Err(e),
            Some(Some(Err(_)) | None) => Err(Error::Ended("a part (it panicked)")),
        };
        while let Some(part) = parts.join_next().await {
            first = first.and(match part {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(e)) => Err(e),
                Err(_) => Err(Error::Ended("a part (it panicked)")),
            });
        }
        tracing::info!("control plane ended");
        first
    }
}
