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
use crate::observe::heat_reports::{self, ShardReport};
use crate::options::Options;
use crate::plan_store::{Action, Change, NewAuditRow, PlanStore, StoreError};
use crate::policy::Policy;
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
    /// Ready: every configured core has acknowledged a plan of ours.
    pub fn is_ready(&self) -> bool {
        self.cores.iter().all(|core| core.borrow().acknowledged.is_some())
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
    handle: Handle,
    http_shutdown: CancellationToken,
}

impl ControlPlane {
    /// Opens the plan store, binds the listener and prepares the cores' clients; starts nothing. `extra`
    /// (metrics, health) is served beside the ops REST and must not repeat its paths.
    pub async fn new(
        options: Options,
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
        Self::with_clients(options, clients, log, clock, authenticator, extra).await
    }

    /// As [`ControlPlane::new`] with other clients, one for each of `options.cores`.
    pub async fn with_clients(
        options: Options,
        clients: Vec<Arc<dyn CoreClient>>,
        log: Arc<dyn EventLog>,
        clock: Arc<dyn Clock>,
        authenticator: SharedAuthenticator,
        extra: Router,
    ) -> Result<Self, Error> {
        options.check()?;
        let (store, plan) = open(&options, clock.as_ref()).await?;
        let listening = http_kit::bind(options.listen).await?;
        let (commands, commands_in) = mpsc::channel::<Command>(COMMANDS);
        let (reports, reports_in) = mpsc::channel(REPORTS);
        let (renew, renews_in) = mpsc::channel::<Renew>(RENEWS);
        let (view, view_out) = watch::channel(plan.clone());
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
        let ways = Ways {
            commands: commands_in,
            reports: reports_in,
            renews: renews_in,
            cores: cores.clone(),
            view,
            moves: moves.clone(),
        };
        let brain = Brain::new(clock.clone(), options.policy.clone(), options.tick, store.clone(), plan, ways);
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
        };
        let handle = Handle { address: listening.address(), view: view_out, moves, cores };
        let router = api::router(state, authenticator, extra);
        Ok(Self { options, log, clock, listening, router, brain, links, reports, handle, http_shutdown })
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
            generation = %self.handle.view.borrow().generation, "control plane runs");
        let mut parts: JoinSet<Result<&'static str, Error>> = JoinSet::new();
        let stop = inner.clone();
        let brain = self.brain;
        parts.spawn(async move { Ok(brain.run(stop).await.map(|()| "the planner")?) });
        let stop = inner.clone();
        let (log, clock, reports) = (self.log, self.clock, self.reports);
        parts.spawn(async move { Ok(heat_reports::run(log, clock, reports, stop).await.map(|()| "the reader")?) });
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

/// Opens the store and notes a policy that differs from the last one.
async fn open(options: &Options, clock: &dyn Clock) -> Result<(PlanStore, Arc<PlanView>), Error> {
    let data_dir = options.data_dir.clone();
    let (store, saved) = tokio::task::spawn_blocking(move || PlanStore::open(&data_dir))
        .await
        .map_err(|_| Error::Ended("opening the plan store"))??;
    if saved.policy.as_ref() != Some(&options.policy) {
        note_policy(&store, &saved.policy, options, saved.generation, clock).await?;
    }
    let plan = PlanView {
        generation: saved.generation,
        decisions: saved.decisions,
        overrides: saved.overrides,
        at: clock.now(),
    };
    Ok((store, Arc::new(plan)))
}

async fn note_policy(
    store: &PlanStore,
    before: &Option<Policy>,
    options: &Options,
    generation: types::Generation,
    clock: &dyn Clock,
) -> Result<(), StoreError> {
    let now = clock.now();
    let row = NewAuditRow {
        at: now,
        actor: "config".to_owned(),
        action: Action::Policy,
        product: None,
        before: before.as_ref().map(|p| serde_json::json!(p)),
        after: Some(serde_json::json!(options.policy)),
        why: "the configuration at start".to_owned(),
        generation,
    };
    let policy = Some((now, options.policy.clone()));
    store.commit(Change { base: generation, generation, policy, audit: vec![row], ..Change::default() }).await
}
