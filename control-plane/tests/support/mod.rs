//! A running control plane with a small core behind real HTTP, for whole-service tests.
#![allow(clippy::unwrap_used, dead_code, missing_docs)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use control_plane::{ControlPlane, CoreToken, Error, Handle, Options};
use eventlog::{EventLog, MemoryLog, NewRecord, Retention, Topic, TopicSpec};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use types::plan::{CoreState, NackReason, PlanAnswer, PlanPush, ProductState};
use types::{
    AuthError, Authenticator, BuyerId, Clock, CoreId, Epoch, Generation, HeatEntry, HeatReport, Identity, ManualClock,
    PageId, Phase, Role, SaleName, Sku, Temperature, Thresholds, Tier, Timestamp,
};

pub const CORE_TOKEN: &str = "between-us";

pub fn start() -> Timestamp {
    Timestamp::from_seconds(1_800_000_000)
}

pub fn product(name: &str) -> ProductState {
    ProductState {
        product: Sku::new(name).unwrap(),
        sale: SaleName::new("autumn").unwrap(),
        pages: vec![PageId::new(name).unwrap()],
        tier: Tier::Db,
        phase: Phase::Active,
        target: None,
        epoch: Epoch::new(1),
        sellable: 100,
        reserved: 0,
        total: 100,
        opens: start(),
        closes: start().plus(Duration::from_secs(100_000)),
        initial_tier: None,
    }
}

/// A core that takes plans as the protocol says and moves at once.
#[derive(Debug)]
pub struct SmallCore {
    pub state: CoreState,
    pub pushes: Vec<PlanPush>,
    /// Every generation that it held.
    pub taken: Vec<Generation>,
    pub pauses: types::plan::Pauses,
    pub refused: u32,
}

pub type SharedCore = Arc<Mutex<SmallCore>>;

impl SmallCore {
    pub fn selling(products: Vec<ProductState>) -> SharedCore {
        let state = CoreState {
            core: CoreId::new("core-1").unwrap(),
            incarnation: 1,
            generation: Generation::new(0),
            term: types::Term::default(),
            redis_capacity: 1_000,
            products,
        };
        Arc::new(Mutex::new(Self {
            state,
            pushes: Vec::new(),
            taken: Vec::new(),
            pauses: Default::default(),
            refused: 0,
        }))
    }
    pub fn tier(&self, name: &str) -> Tier {
        self.state.products.iter().find(|p| p.product.as_str() == name).unwrap().tier
    }
    fn answer(&mut self, push: PlanPush) -> PlanAnswer {
        let nonce = push.nonce;
        self.pushes.push(push.clone());
        if push.term < self.state.term {
            let why = NackReason::OldLeader { term: self.state.term };
            return PlanAnswer::Nack { generation: self.state.generation, nonce, why };
        }
        self.state.term = push.term;
        if push.generation == self.state.generation {
            return PlanAnswer::Ack { generation: push.generation, nonce, state: self.state.clone() };
        }
        let nack = |why| PlanAnswer::Nack { generation: self.state.generation, nonce, why };
        if push.generation < self.state.generation {
            return nack(NackReason::StaleGeneration);
        }
        if push.base.is_some_and(|base| base != self.state.generation) {
            return nack(NackReason::UnknownBase);
        }
        for entry in &push.entries {
            if !self.state.products.iter().any(|p| p.product == entry.product) {
                return nack(NackReason::UnknownProduct { product: entry.product.clone() });
            }
        }
        for entry in push.entries {
            let product = self.state.products.iter_mut().find(|p| p.product == entry.product).unwrap();
            if product.tier != entry.tier {
                product.tier = entry.tier;
                product.epoch = product.epoch.next();
            }
        }
        self.state.generation = push.generation;
        self.taken.push(push.generation);
        self.pauses = push.pauses;
        PlanAnswer::Ack { generation: push.generation, nonce, state: self.state.clone() }
    }
}

/// Serves the core's private listener; answers its address.
pub async fn serve(core: SharedCore) -> SocketAddr {
    fn allowed(headers: &HeaderMap) -> Result<(), StatusCode> {
        let given = headers.get("authorization").and_then(|v| v.to_str().ok());
        (given == Some(&format!("Bearer {CORE_TOKEN}"))).then_some(()).ok_or(StatusCode::UNAUTHORIZED)
    }
    async fn plan(
        State(core): State<SharedCore>,
        headers: HeaderMap,
        Json(push): Json<PlanPush>,
    ) -> Result<Json<PlanAnswer>, StatusCode> {
        allowed(&headers).inspect_err(|_| core.lock().refused += 1)?;
        Ok(Json(core.lock().answer(push)))
    }
    async fn state(State(core): State<SharedCore>, headers: HeaderMap) -> Result<Json<CoreState>, StatusCode> {
        allowed(&headers).inspect_err(|_| core.lock().refused += 1)?;
        Ok(Json(core.lock().state.clone()))
    }
    let router =
        Router::new().route("/internal/plan", post(plan)).route("/internal/state", get(state)).with_state(core);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

/// Knows `viewer-token`, `operator-token` and so on; `old-token` has expired.
pub struct Tokens;
impl Authenticator for Tokens {
    fn verify(&self, bearer: &str) -> Result<Identity, AuthError> {
        if bearer == "old-token" {
            return Err(AuthError::Expired);
        }
        let role: Role =
            bearer.strip_suffix("-token").ok_or(AuthError::Invalid)?.parse().map_err(|_| AuthError::Invalid)?;
        Ok(Identity { subject: BuyerId::new(format!("ada-the-{role}")).unwrap(), roles: BTreeSet::from([role]) })
    }
}

pub fn heat(sequence: u64, at: Timestamp, snapshot: bool, entries: Vec<HeatEntry>) -> HeatReport {
    HeatReport {
        window_end: at,
        is_final: false,
        sequence,
        snapshot,
        active: 1000,
        k: 10,
        thresholds: Thresholds { hot60: 600, warm60: 120, hot5: 100, warm5: 20 },
        total: 10_000,
        entries,
        hot: Vec::new(),
        made_at: at,
    }
}

pub fn entry(page: &str, count5: u64, count60: u64, attempts_per_s: f64) -> HeatEntry {
    HeatEntry {
        page: PageId::new(page).unwrap(),
        count5,
        count60,
        visitors: 50,
        slope: 0.0,
        attempts_per_s,
        now5: Temperature::Hot,
        now60: Temperature::Hot,
    }
}

pub struct House {
    pub log: MemoryLog,
    pub clock: Arc<ManualClock>,
    pub core: SharedCore,
    pub handle: Handle,
    pub options: Options,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), Error>>,
    sequence: u64,
}

impl House {
    /// A control plane on `data_dir` and one core that sells `products`.
    pub async fn build(data_dir: &std::path::Path, core: SharedCore, clock: Arc<ManualClock>) -> Self {
        let address = serve(core.clone()).await;
        let options = Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            data_dir: data_dir.to_owned(),
            cores: vec![format!("http://{address}")],
            tick: Duration::from_millis(20),
            ..Options::default()
        };
        let log = MemoryLog::new();
        let topic = Topic::new(types::topics::HEAT_REPORTS).unwrap();
        let spec = TopicSpec { topic, partitions: 2, retention: Retention::Time(Duration::from_secs(600)) };
        log.ensure_topic(&spec).await.unwrap();
        let token = CoreToken::new(CORE_TOKEN).unwrap();
        let store = control_plane::SqlitePlans::open(data_dir).unwrap();
        let service = ControlPlane::new(
            options.clone(),
            Arc::new(store),
            Arc::new(log.clone()),
            clock.clone(),
            Arc::new(Tokens),
            token,
            Router::new().route("/healthz", get(|| async { "ok" })),
        )
        .await
        .unwrap();
        let handle = service.handle();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(service.run(shutdown.clone()));
        Self { log, clock, core, handle, options, shutdown, running, sequence: 0 }
    }

    /// Writes a heat report as the analyzer would.
    pub async fn report(&mut self, entries: Vec<HeatEntry>) {
        self.sequence += 1;
        let report = heat(self.sequence, self.clock.now(), self.sequence == 1, entries);
        let value = types::codec::encode(&report).unwrap();
        let record = NewRecord::keyed("0", value, self.clock.now());
        self.log.append(&Topic::new(types::topics::HEAT_REPORTS).unwrap(), vec![record]).await.unwrap();
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.handle.address())
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }
}

/// Polls until `done`; the bound is generous, for a loaded machine.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("did not happen within 30 s: {what}");
}
