//! Whole cores over real HTTP at a place: one or several, each of which can be killed and started again on what it
//! left. A story ends with [`Shop::close`], where the auditor judges.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventlog::EventLog;
use reqwest::{Method, RequestBuilder, StatusCode};
use seckill_core::stock::sql_store::SqlStore;
use seckill_core::stock::store::ProductRow;
use seckill_core::{CoreError, CoreHandle, Options, SeckillCore, SimulatedPaymentOptions, TicketSecret};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use types::plan::{PlanAnswer, PlanEntry, PlanPush, Reason};
use types::{AuthError, Authenticator, BuyerId, Clock, Generation, Identity, Nonce, Phase, Role, Sku, Tier, Timestamp};

use crate::client::{Clients, Journal};
use crate::place::{Kind, Place};
use crate::till;

pub const SALE: &str = "friday";
/// Longest wait for a condition; a busy machine is no failure.
const PATIENCE: Duration = Duration::from_secs(90);

/// Tokens of the form `role:subject`.
pub struct PlainTokens;

impl Authenticator for PlainTokens {
    fn verify(&self, bearer: &str) -> Result<Identity, AuthError> {
        let (role, subject) = bearer.split_once(':').ok_or(AuthError::Invalid)?;
        let role: Role = role.parse().map_err(|_| AuthError::Invalid)?;
        let subject = BuyerId::new(subject).map_err(|_| AuthError::Invalid)?;
        Ok(Identity { subject, roles: BTreeSet::from([role]) })
    }
}

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// One core.
pub struct Core {
    options: Options,
    pub store: Arc<dyn SqlStore>,
    pub handle: CoreHandle,
    http: reqwest::Client,
    running: Option<JoinHandle<Result<(), CoreError>>>,
    stop: CancellationToken,
}

impl Core {
    async fn start(place: &Place, options: Options, http: reqwest::Client) -> Self {
        let store = place.store().await;
        let core = SeckillCore::new(
            options.clone(),
            store.clone(),
            place.leases().await,
            place.log(),
            place.clock.clone(),
            Arc::new(PlainTokens),
            TicketSecret::new([9u8; 32]).unwrap(),
            axum::Router::new(),
        )
        .await
        .expect("the core opens")
        .with_payments(till::payments(&options, place.clock.clone(), place.till.clone()));
        let (handle, stop) = (core.handle(), CancellationToken::new());
        let running = Some(tokio::spawn(core.run(stop.clone())));
        let core = Self { options, store, handle, http, running, stop };
        core.ready().await;
        core
    }

    pub async fn ready(&self) {
        until("the core is ready", async || {
            let answer = self.http.get(format!("http://{}/readyz", self.handle.private())).send().await;
            answer.is_ok_and(|a| a.status() == StatusCode::OK)
        })
        .await;
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
    pub async fn order(&self, buyer: &str, order: &str) -> Value {
        let answer = self.get(buyer, &format!("/v1/orders/{order}")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "order {order} of {buyer}");
        answer.json().await.unwrap()
    }
    /// A product as the database has it; waits where that is away.
    pub async fn row(&self, product: &str) -> ProductRow {
        let (sku, started) = (Sku::new(product).unwrap(), Instant::now());
        loop {
            match self.store.product(&sku).await {
                Ok(row) => return row.expect("it is sold"),
                Err(error) => assert!(error.retryable() && started.elapsed() < PATIENCE, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    async fn push(&self, push: &PlanPush) -> PlanAnswer {
        let answer = self.private(Method::POST, "/internal/plan").json(push).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    }
}

/// A whole plan that wants these tiers.
fn whole_plan(generation: u64, tiers: &[(&str, Tier)]) -> PlanPush {
    let entry =
        |(p, tier): &(&str, Tier)| PlanEntry { product: Sku::new(p).unwrap(), tier: *tier, reason: Reason::Hot };
    PlanPush {
        term: types::Term::default(),
        core: None,
        pauses: types::plan::Pauses::default(),
        generation: Generation::new(generation),
        nonce: Nonce::new(1),
        base: None,
        entries: tiers.iter().map(entry).collect(),
    }
}

pub struct Shop {
    pub place: Place,
    pub cores: Vec<Core>,
    /// Buyers, who write down what they are told. They find the cores wherever these are by now.
    pub clients: Clients,
    pub generation: u64,
}

/// Most stories need one core only: the first.
impl Deref for Shop {
    type Target = Core;
    fn deref(&self) -> &Core {
        &self.cores[0]
    }
}

impl Shop {
    pub async fn open(kind: Kind) -> Self {
        Self::open_with(kind, |_| {}).await
    }
    pub async fn open_with(kind: Kind, change: impl Fn(&mut Options)) -> Self {
        Self::open_at(Place::fresh(kind).await, 1, change).await
    }
    /// Two cores on the same stock, leases and log.
    pub async fn open_two(kind: Kind) -> Self {
        Self::open_at(Place::fresh(kind).await, 2, |_| {}).await
    }
    pub async fn open_at(place: Place, cores: usize, change: impl Fn(&mut Options)) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
        let journal = Arc::new(Journal::new(place.clock.clone()));
        let clients = Clients::new(http.clone(), cores, journal);
        let mut shop = Self { cores: Vec::new(), clients, generation: 0, place };
        for n in 0..cores {
            let mut options = Options {
                core: format!("core-{}", n + 1),
                public: any_port(),
                private: any_port(),
                admin: any_port(),
                data_dir: shop.place.folder.path().join(format!("core-{}", n + 1)),
                partitions: 2,
                payment: SimulatedPaymentOptions { fail_per_mille: 0, slow_per_mille: 0, ..Default::default() },
                ..Options::default()
            };
            change(&mut options);
            let core = Core::start(&shop.place, options, http.clone()).await;
            shop.clients.found(n, Some(core.handle.public()));
            shop.cores.push(core);
        }
        shop
    }

    /// Ends a core without warning.
    pub async fn kill(&mut self, n: usize) {
        self.clients.found(n, None);
        if let Some(running) = self.cores[n].running.take() {
            running.abort();
            let _aborted = running.await;
        }
        if self.cores.iter().all(|core| core.running.is_none()) {
            self.place.forget_leases();
        }
    }
    /// Starts a core again on what it left.
    pub async fn start(&mut self, n: usize) {
        let options = self.cores[n].options.clone();
        let core = Core::start(&self.place, options, self.cores[n].http.clone()).await;
        self.clients.found(n, Some(core.handle.public()));
        self.cores[n] = core;
    }
    pub async fn kill_and_restart(&mut self) {
        self.kill(0).await;
        self.start(0).await;
    }
    /// Shuts all cores down in good order.
    pub async fn stop(&mut self) {
        for core in &mut self.cores {
            core.stop.cancel();
            if let Some(running) = core.running.take() {
                let ended = running.await.expect("the core does not panic");
                assert_eq!(ended.map_err(|e| e.to_string()), Ok(()));
            }
        }
        self.place.forget_leases();
    }

    /// Opens a sale from an hour ago to tomorrow, with these products, stocks and limits.
    pub async fn sell(&self, products: &[(&str, u64, u32)]) {
        self.sell_as(SALE, products).await;
    }
    pub async fn sell_as(&self, sale: &str, products: &[(&str, u64, u32)]) {
        let body = self.sale(sale, products);
        let answer = self.admin(Method::PUT, &format!("/v1/sales/{sale}")).json(&body).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{status} {text}");
        for core in &self.cores {
            until("every core knows the sale", async || {
                let known = core.handle.products();
                products.iter().all(|(sku, ..)| known.iter().any(|p| p.product.as_str() == *sku))
            })
            .await;
        }
    }
    pub fn sale(&self, name: &str, products: &[(&str, u64, u32)]) -> Value {
        let hour = Duration::from_secs(3600);
        let now = self.place.clock.now();
        let local = |t: Timestamp| t.to_second_string().trim_end_matches('Z').to_owned();
        let products: Vec<_> = products
            .iter()
            .map(|(sku, stock, limit)| json!({"sku": sku, "name": sku, "price": 1990, "stock": stock, "limit": limit}))
            .collect();
        json!({"name": name, "zone": "UTC", "opens": local(now.minus(hour)), "closes": local(now.plus(hour * 24)),
            "currency": "EUR", "product": products})
    }

    /// Pushes a whole plan to every core and waits until each product sells on its tier.
    pub async fn plan(&mut self, tiers: &[(&str, Tier)]) {
        self.push(tiers).await;
        for (product, tier) in tiers {
            self.sells_on(product, *tier).await;
        }
    }
    /// Pushes a whole plan to every core that runs.
    pub async fn push(&mut self, tiers: &[(&str, Tier)]) {
        self.generation += 1;
        self.push_as(self.generation, tiers).await;
    }
    /// The same, for who counts the generations himself.
    pub async fn push_as(&self, generation: u64, tiers: &[(&str, Tier)]) {
        for core in self.cores.iter().filter(|core| core.running.is_some()) {
            let answer = core.push(&whole_plan(generation, tiers)).await;
            assert!(matches!(answer, PlanAnswer::Ack { .. }), "{answer:?}");
        }
    }
    pub async fn sells_on(&self, product: &str, tier: Tier) {
        let sells = |phase, on, lease: Option<(bool, bool)>| {
            phase == Phase::Active && on == tier && (tier != Tier::Redis || lease == Some((true, false)))
        };
        until(&format!("{product} sells on {tier}"), async || {
            let row = self.cores.iter().find(|c| c.running.is_some()).expect("a core runs").row(product).await;
            sells(row.state.phase, row.state.tier, row.lease.map(|l| (l.loaded, l.fenced)))
        })
        .await;
        // Each core learns it in its own time.
        for core in self.cores.iter().filter(|core| core.running.is_some()) {
            until(&format!("every core knows that {product} sells on {tier}"), async || {
                let known = core.handle.products().into_iter().find(|p| p.product.as_str() == product);
                known.is_some_and(|p| p.tier == tier && p.phase == Phase::Active)
            })
            .await;
        }
    }

    /// Changes of tier so far, by the database's own history.
    pub fn moves_made(&self) -> u64 {
        self.place.count("SELECT COUNT(*) FROM move WHERE step = 'open' AND from_tier <> to_tier")
    }
    /// A log as a program beside the core uses it.
    pub fn log(&self) -> Arc<dyn EventLog> {
        self.place.log()
    }

    /// The end of a story: all comes to rest, the cores stop in good order, and the auditor, who shares no code with
    /// them, finds nothing.
    pub async fn close(mut self) -> audit::Report {
        self.rest().await;
        self.stop().await;
        let report = self.audit();
        assert!(report.holds(), "{:?}: {report}", self.place.kind);
        report
    }
    /// Waits until nothing is queued, nothing due, every event told.
    pub async fn rest(&self) {
        for core in self.cores.iter().filter(|core| core.running.is_some()) {
            until("everything queued is decided", async || core.handle.backlog() == 0).await;
        }
        until("every order event is told", async || self.store.outbox(1).await.is_ok_and(|e| e.is_empty())).await;
        let (started, mut report) = (Instant::now(), self.audit());
        while !report.holds() {
            assert!(started.elapsed() < PATIENCE, "{:?} does not come to rest: {report}", self.place.kind);
            tokio::time::sleep(Duration::from_millis(100)).await;
            report = self.audit();
        }
    }
    /// What the auditor says of stock and journals, traffic having ended.
    pub fn audit(&self) -> audit::Report {
        let journal = self.place.folder.path().join("journal.jsonl");
        self.clients.journal.write(&journal);
        let options = audit::stock::Options::at_rest(self.place.clock.now().millis());
        tokio::task::block_in_place(|| {
            audit::stock::audit_store(&self.place.audited(), &[journal], &options, None).unwrap()
        })
    }
}

/// Polls a condition, for a generous time.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A problem's status and type.
pub async fn problem(call: RequestBuilder) -> (u16, String) {
    let (status, kind, _) = problem_with_wait(call).await;
    (status, kind)
}

/// A problem's status and type, and when to come again, in seconds.
pub async fn problem_with_wait(call: RequestBuilder) -> (u16, String, Option<u64>) {
    let answer = call.send().await.unwrap();
    let status = answer.status().as_u16();
    let header = |name| answer.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
    let (kind, wait) = (header("content-type").unwrap_or_default(), header("retry-after"));
    let text = answer.text().await.unwrap();
    assert_eq!(kind, "application/problem+json", "{status} {text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["status"], status);
    let kind = body["type"].as_str().unwrap().trim_start_matches("/problems/").to_owned();
    (status, kind, wait.map(|s| s.parse().unwrap()))
}

/// Every record of a topic, oldest first within its partition; waits until there are as many as are `expected`.
pub async fn records(log: &dyn EventLog, topic: &str, expected: usize) -> Vec<eventlog::Record> {
    use eventlog::{Group, Polled, Start, Subscription, Topic};
    let group = Group::new(format!("reader-{}", rand::random::<u64>())).unwrap();
    let topics = vec![Topic::new(topic).unwrap()];
    let mut consumer = log.subscribe(Subscription { group, topics, start: Start::Earliest }).await.unwrap();
    let (mut all, started) = (Vec::new(), Instant::now());
    loop {
        match consumer.poll(1000, Duration::from_millis(200)).await.unwrap() {
            Polled::Records(records) => all.extend(records),
            Polled::Idle if all.len() >= expected => return all,
            Polled::Idle => assert!(started.elapsed() < PATIENCE, "{} of {expected} in {topic}", all.len()),
            Polled::Assigned(_) | Polled::Revoked(_) => {}
        }
    }
}
