//! A whole core over real HTTP for tests: SQLite in a temporary folder, the event log in memory, tokens that
//! say who calls. It can be killed and started again on what it left.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventlog::{EventLog, MemoryLog};
use reqwest::{Method, RequestBuilder, StatusCode};
use seckill_core::stock::db::sqlite::{SqliteStore, SqliteStoreOptions};
use seckill_core::stock::redis::LeaseStore;
use seckill_core::stock::store::{ProductRow, StockStore};
use seckill_core::{
    CallbackKeys, CoreHandle, ExternalProvider, InProcessLeases, Options, PaymentProviderKind, Payments, SeckillCore,
    SimulatedPaymentOptions, SimulatedProvider, TicketSecret,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use types::plan::{PlanAnswer, PlanEntry, PlanPush, Reason};
use types::{
    AuthError, Authenticator, BuyerId, Clock, Generation, Identity, Nonce, Role, Sku, SystemClock, Tier, Timestamp,
};

pub const SALE: &str = "friday";

/// Tokens of the form `role:subject`.
pub struct PlainTokens;

impl Authenticator for PlainTokens {
    fn verify(&self, bearer: &str) -> Result<Identity, AuthError> {
        let (role, subject) = bearer.split_once(':').ok_or(AuthError::Invalid)?;
        if role == "old" {
            return Err(AuthError::Expired);
        }
        let role: Role = role.parse().map_err(|_| AuthError::Invalid)?;
        let subject = BuyerId::new(subject).map_err(|_| AuthError::Invalid)?;
        Ok(Identity { subject, roles: BTreeSet::from([role]) })
    }
}

/// The machine's clock, which a test can push forward.
pub struct PushedClock {
    base: SystemClock,
    ahead_ms: std::sync::atomic::AtomicI64,
}

impl PushedClock {
    pub fn push(&self, d: Duration) {
        self.ahead_ms.fetch_add(d.as_millis() as i64, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Clock for PushedClock {
    fn now(&self) -> Timestamp {
        let ahead = self.ahead_ms.load(std::sync::atomic::Ordering::SeqCst);
        self.base.now().plus(Duration::from_millis(ahead as u64))
    }
}

pub struct Shop {
    pub folder: tempfile::TempDir,
    pub log: Arc<MemoryLog>,
    pub clock: Arc<PushedClock>,
    pub options: Options,
    pub store: Arc<SqliteStore>,
    pub handle: CoreHandle,
    pub http: reqwest::Client,
    pub generation: u64,
    /// A lease store that outlives the core; else each of its lives has its own.
    leases: Option<Arc<dyn LeaseStore>>,
    running: JoinHandle<Result<(), seckill_core::CoreError>>,
    stop: CancellationToken,
}

/// The key that callbacks are signed with.
pub fn callback_keys() -> CallbackKeys {
    CallbackKeys::new([7u8; 32], None).unwrap()
}

pub fn payments(options: &Options, clock: Arc<dyn Clock>) -> Payments {
    match options.payment_provider {
        PaymentProviderKind::External => Payments::new(ExternalProvider, callback_keys()),
        PaymentProviderKind::Simulated => {
            let provider = SimulatedProvider::new(options.payment, options.seed, clock, callback_keys());
            Payments::new(provider, callback_keys())
        }
    }
}

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

pub fn options(folder: &Path) -> Options {
    Options {
        public: any_port(),
        private: any_port(),
        admin: any_port(),
        data_dir: folder.join("core"),
        payment: SimulatedPaymentOptions { fail_per_mille: 0, slow_per_mille: 0, ..Default::default() },
        ..Options::default()
    }
}

async fn start(
    folder: &Path,
    options: &Options,
    log: Arc<MemoryLog>,
    clock: Arc<PushedClock>,
    leases: Option<Arc<dyn LeaseStore>>,
) -> (Arc<SqliteStore>, CoreHandle, JoinHandle<Result<(), seckill_core::CoreError>>, CancellationToken) {
    let store =
        SqliteStore::open(&folder.join("stock.sqlite"), SqliteStoreOptions::default()).expect("the store opens");
    let store = Arc::new(store);
    let core = SeckillCore::new(
        options.clone(),
        store.clone(),
        leases.unwrap_or_else(|| Arc::new(InProcessLeases::new())),
        log,
        clock.clone(),
        Arc::new(PlainTokens),
        TicketSecret::new([9u8; 32]).unwrap(),
        axum::Router::new(),
    )
    .await
    .expect("the core opens")
    .with_payments(payments(options, clock));
    let (handle, stop) = (core.handle(), CancellationToken::new());
    let running = tokio::spawn(core.run(stop.clone()));
    (store, handle, running, stop)
}

impl Shop {
    pub async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    pub async fn open_with(change: impl FnOnce(&mut Options)) -> Self {
        Self::open_on(None, change).await
    }

    pub async fn open_on(leases: Option<Arc<dyn LeaseStore>>, change: impl FnOnce(&mut Options)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = Arc::new(MemoryLog::new());
        let clock = Arc::new(PushedClock { base: SystemClock::new(), ahead_ms: Default::default() });
        let mut options = options(folder.path());
        change(&mut options);
        let (store, handle, running, stop) =
            start(folder.path(), &options, log.clone(), clock.clone(), leases.clone()).await;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
        let shop = Self { folder, log, clock, options, store, handle, http, generation: 0, leases, running, stop };
        shop.ready().await;
        shop
    }

    pub async fn ready(&self) {
        until("the core is ready", async || {
            let answer = self.http.get(format!("http://{}/readyz", self.handle.private())).send().await;
            answer.is_ok_and(|a| a.status() == StatusCode::OK)
        })
        .await;
    }

    /// Ends the core without warning and starts it again on the same database and log.
    pub async fn kill_and_restart(&mut self) {
        self.running.abort();
        let _aborted = (&mut self.running).await;
        self.restart().await;
    }

    /// Shuts the core down in good order.
    pub async fn stop(&mut self) -> Result<(), seckill_core::CoreError> {
        self.stop.cancel();
        (&mut self.running).await.expect("the core does not panic")
    }

    pub async fn restart(&mut self) {
        let (log, clock, leases) = (self.log.clone(), self.clock.clone(), self.leases.clone());
        let started = start(self.folder.path(), &self.options, log, clock, leases).await;
        (self.store, self.handle, self.running, self.stop) = started;
        self.ready().await;
    }

    pub fn public(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.handle.public()))
    }
    pub fn admin(&self, method: Method, path: &str) -> RequestBuilder {
        let call = self.http.request(method, format!("http://{}{path}", self.handle.admin()));
        call.bearer_auth("merchandiser:mia")
    }
    pub fn private(&self, method: Method, path: &str) -> RequestBuilder {
        let call = self.http.request(method, format!("http://{}{path}", self.handle.private()));
        call.bearer_auth("control:plane")
    }

    /// Opens a sale from an hour ago to tomorrow, with these products, stocks and limits.
    pub async fn sell(&self, products: &[(&str, u64, u32)]) {
        let answer = self.admin(Method::PUT, &format!("/v1/sales/{SALE}")).json(&self.sale(products)).send().await;
        let answer = answer.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{status} {text}");
    }

    pub fn sale(&self, products: &[(&str, u64, u32)]) -> Value {
        let hour = Duration::from_secs(3600);
        let now = self.clock.now();
        let local = |t: Timestamp| t.to_second_string().trim_end_matches('Z').to_owned();
        let products: Vec<_> = products
            .iter()
            .map(|(sku, stock, limit)| json!({"sku": sku, "name": sku, "price": 1990, "stock": stock, "limit": limit}))
            .collect();
        json!({"name": SALE, "zone": "UTC", "opens": local(now.minus(hour)), "closes": local(now.plus(hour * 24)),
            "currency": "EUR", "product": products})
    }

    pub fn buy(&self, buyer: &str, product: &str, key: &str, quantity: u32) -> RequestBuilder {
        self.public(Method::POST, &format!("/v1/sales/{SALE}/products/{product}/purchases"))
            .bearer_auth(format!("shopper:{buyer}"))
            .header("Idempotency-Key", key)
            .json(&json!({"quantity": quantity}))
    }

    pub fn get(&self, buyer: &str, path: &str) -> RequestBuilder {
        self.public(Method::GET, path).bearer_auth(format!("shopper:{buyer}"))
    }
    pub fn post(&self, buyer: &str, path: &str) -> RequestBuilder {
        self.public(Method::POST, path).bearer_auth(format!("shopper:{buyer}"))
    }

    /// Sales, products and units as the database has them, as text.
    pub fn store_text(&self) -> String {
        let db = rusqlite::Connection::open(self.folder.path().join("stock.sqlite")).unwrap();
        let mut find = db
            .prepare(
                "SELECT p.*, k.total, k.free, s.opens, s.closes, s.state FROM product p \
                 JOIN stock k USING (product_id) JOIN sale s ON s.name = p.sale ORDER BY 1",
            )
            .unwrap();
        let columns = find.column_count();
        let rows = find.query_map([], |row| {
            let cells = (0..columns).map(|c| row.get::<_, rusqlite::types::Value>(c));
            Ok(format!("{:?}", cells.collect::<Result<Vec<_>, _>>()?))
        });
        rows.unwrap().map(Result::unwrap).collect::<Vec<_>>().join("\n")
    }

    pub async fn row(&self, product: &str) -> ProductRow {
        self.store.product(&Sku::new(product).unwrap()).await.unwrap().expect("it is sold")
    }

    /// Pushes a whole plan and waits until each product sells on its tier.
    pub async fn plan(&mut self, tiers: &[(&str, Tier)]) {
        self.push(tiers).await;
        for (product, tier) in tiers {
            self.sells_on(product, *tier).await;
        }
    }

    pub async fn push(&mut self, tiers: &[(&str, Tier)]) -> PlanAnswer {
        self.generation += 1;
        let entry =
            |(p, tier): &(&str, Tier)| PlanEntry { product: Sku::new(p).unwrap(), tier: *tier, reason: Reason::Hot };
        let push = PlanPush {
            term: types::Term::default(),
            core: None,
            pauses: types::plan::Pauses::default(),
            generation: Generation::new(self.generation),
            nonce: Nonce::new(1),
            base: None,
            entries: tiers.iter().map(entry).collect(),
        };
        let answer = self.private(Method::POST, "/internal/plan").json(&push).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    pub async fn sells_on(&self, product: &str, tier: Tier) {
        until(&format!("{product} sells on {tier}"), async || {
            let row = self.row(product).await;
            row.state.phase == types::Phase::Active
                && row.state.tier == tier
                && (tier != Tier::Redis || row.lease.is_some_and(|l| l.loaded && !l.fenced))
        })
        .await;
    }

    /// Follows a ticket to its end: `accepted` with the order's id, or the reason of its refusal.
    pub async fn follow(&self, buyer: &str, ticket: &str) -> Result<String, String> {
        let started = Instant::now();
        loop {
            let answer = self.get(buyer, &format!("/v1/tickets/{ticket}")).send().await;
            if let Ok(answer) = answer {
                let (status, body) = (answer.status(), answer.text().await.unwrap_or_default());
                if status == StatusCode::OK {
                    let body: Value = serde_json::from_str(&body).unwrap();
                    match body["state"].as_str() {
                        Some("accepted") => return Ok(body["order"]["order"].as_str().unwrap().to_owned()),
                        Some("refused") => return Err(body["reason"].as_str().unwrap().to_owned()),
                        _ => {}
                    }
                } else {
                    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
                }
            }
            assert!(started.elapsed() < Duration::from_secs(60), "the ticket has no end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Polls a condition, for a generous time.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A problem's type, and its status.
pub async fn problem(call: RequestBuilder) -> (u16, String) {
    let answer = call.send().await.unwrap();
    let status = answer.status().as_u16();
    let kind = answer.headers().get("content-type").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    let text = answer.text().await.unwrap();
    assert_eq!(kind, "application/problem+json", "{status} {text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["status"], status);
    (status, body["type"].as_str().unwrap().trim_start_matches("/problems/").to_owned())
}

/// Waits until every event of the outbox was relayed.
pub async fn outbox_is_empty(shop: &Shop) {
    until("the outbox is relayed", async || shop.store.outbox(1).await.unwrap().is_empty()).await;
}

/// Every record of a topic, oldest first within its partition.
pub async fn records(log: &MemoryLog, topic: &str) -> Vec<eventlog::Record> {
    use eventlog::{Group, Polled, Start, Subscription, Topic};
    let group = Group::new(format!("reader-{}", rand::random::<u64>())).unwrap();
    let topics = vec![Topic::new(topic).unwrap()];
    let mut consumer = log.subscribe(Subscription { group, topics, start: Start::Earliest }).await.unwrap();
    let mut all = Vec::new();
    loop {
        match consumer.poll(1000, Duration::from_millis(200)).await.unwrap() {
            Polled::Records(records) => all.extend(records),
            Polled::Idle => return all,
            Polled::Assigned(_) | Polled::Revoked(_) => {}
        }
    }
}
