//! All listeners in one process, each on a port of its own, with tokens that say who calls.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use analyzer::Analyzer;
use axum::Router;
use collector::Collector;
use control_plane::{ControlPlane, CoreToken, SqlitePlans};
use eventlog::{EventLog, MemoryLog};
use identity::{IdentityOptions, Issuer, IssuerOptions, Login, LoginOptions, LoginSecret, Sessions};
use reqwest::Method;
use seckill_core::stock::db::sqlite::{SqliteStore, SqliteStoreOptions};
use seckill_core::{CallbackKeys, InProcessLeases, Payments, SeckillCore, SimulatedProvider, TicketSecret};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use types::{AuthError, Authenticator, BuyerId, Clock, Identity, Role, SystemClock};

use crate::table::At;

/// Whose the orders are.
pub const OWNER: &str = "anna";
/// Everybody but nobody.
pub const CALLERS: &[(Role, &str)] = &[
    (Role::Shopper, OWNER),
    (Role::Shopper, "ben"),
    (Role::Viewer, "vera"),
    (Role::Merchandiser, "mia"),
    (Role::Operator, "olga"),
    (Role::Admin, "adam"),
    (Role::Core, "core-1"),
    (Role::Edge, "edge-1"),
    (Role::Control, "control-plane"),
];
const SALE: &str = "friday";

/// What an answer means for authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// The caller's authority was not the matter.
    Served,
    WhoAreYou,
    NotAllowed,
    NotFound,
    Unsigned,
}

/// Tokens of the form `role:subject`.
struct PlainTokens;

impl Authenticator for PlainTokens {
    fn verify(&self, bearer: &str) -> Result<Identity, AuthError> {
        let (role, subject) = bearer.split_once(':').ok_or(AuthError::Invalid)?;
        let role: Role = role.parse().map_err(|_| AuthError::Invalid)?;
        let subject = BuyerId::new(subject).map_err(|_| AuthError::Invalid)?;
        Ok(Identity { subject, roles: BTreeSet::from([role]) })
    }
}

pub struct House {
    http: reqwest::Client,
    at: Vec<(At, SocketAddr)>,
    ticket: String,
    orders: Vec<String>,
    running: JoinSet<()>,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// A login whose issuer is not there: its routes are, and that is what is tried.
fn login(clock: &Arc<dyn Clock>) -> Router {
    let issuer = IssuerOptions {
        issuer: "http://127.0.0.1:9".to_owned(),
        audience: "seckill".to_owned(),
        everybody: BTreeSet::from([Role::Viewer]),
        ..IssuerOptions::default()
    };
    let name = Some(issuer.issuer.clone());
    let options = LoginOptions { issuer: name, client_id: "dash".to_owned(), ..LoginOptions::default() };
    let whole = IdentityOptions { issuers: vec![issuer.clone()], login: LoginOptions::default() };
    whole.check().unwrap();
    let issuer = Arc::new(Issuer::new(issuer, clock.clone()).unwrap());
    let sessions = Sessions::new(LoginSecret::new([3u8; 32]).unwrap(), Duration::from_secs(60), clock.clone());
    Arc::new(Login::new(options, None, issuer, Arc::new(sessions))).router()
}

impl House {
    pub async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new());
        let tokens: Arc<dyn Authenticator> = Arc::new(PlainTokens);
        let store = SqliteStore::open(&folder.path().join("stock.sqlite"), SqliteStoreOptions::default()).unwrap();
        let options = seckill_core::Options {
            public: any_port(),
            private: any_port(),
            admin: any_port(),
            data_dir: folder.path().join("core"),
            ..seckill_core::Options::default()
        };
        let keys = CallbackKeys::new([7u8; 32], None).unwrap();
        let provider = SimulatedProvider::new(options.payment, options.seed, clock.clone(), keys.clone());
        let core = SeckillCore::new(
            options,
            Arc::new(store),
            Arc::new(InProcessLeases::new()),
            log.clone(),
            clock.clone(),
            tokens.clone(),
            TicketSecret::new([9u8; 32]).unwrap(),
            Router::new(),
        )
        .await
        .unwrap()
        .with_payments(Payments::new(provider, keys));
        let control = ControlPlane::new(
            control_plane::Options {
                listen: any_port(),
                data_dir: folder.path().join("control-plane"),
                cores: vec![format!("http://{}", core.handle().private())],
                ..control_plane::Options::default()
            },
            Arc::new(SqlitePlans::open(&folder.path().join("control-plane")).unwrap()),
            log.clone(),
            clock.clone(),
            tokens.clone(),
            // Its pushes are refused: the plan of this test is the test's.
            CoreToken::new("viewer:control-plane".to_owned()).unwrap(),
            login(&clock),
        )
        .await
        .unwrap();
        let analyzer = Analyzer::new(
            analyzer::Options {
                listen: any_port(),
                state_dir: folder.path().join("analyzer"),
                open: false,
                ..analyzer::Options::default()
            },
            log.clone(),
            clock.clone(),
            tokens,
            login(&clock),
        )
        .await
        .unwrap();
        let state_dir = folder.path().join("collector");
        std::fs::create_dir_all(&state_dir).unwrap();
        let options =
            collector::Options { state_dir, visitor_key: "k".repeat(32).into(), ..collector::Options::default() };
        let mut collector = Collector::new(options, log, clock).await.unwrap();
        let collected = collector.listen(any_port(), Router::new()).await.unwrap();
        let handle = core.handle();
        let at = vec![
            (At::CorePublic, handle.public()),
            (At::CoreAdmin, handle.admin()),
            (At::CorePrivate, handle.private()),
            (At::Control, control.handle().address()),
            (At::Analyzer, analyzer.handle().address()),
            (At::Collector, collected),
        ];
        let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
        let token = || stop.clone();
        let (a, b, c, d) = (token(), token(), token(), token());
        running.spawn(async move { core.run(a).await.unwrap() });
        running.spawn(async move { control.run(b).await.unwrap() });
        running.spawn(async move { analyzer.run(c).await.unwrap() });
        running.spawn(async move { collector.run(d).await.unwrap() });
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let mut house = Self { http, at, ticket: String::new(), orders: Vec::new(), running, stop, _folder: folder };
        house.ready().await;
        house.sell().await;
        house
    }

    async fn ready(&self) {
        let begun = Instant::now();
        while self.call(At::CorePrivate, "get", "/readyz", None).await.1 != 200 {
            assert!(begun.elapsed() < Duration::from_secs(60), "the core is not ready");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A sale, and of the owner an order for each thing that he may do, and a ticket.
    async fn sell(&mut self) {
        let now = SystemClock::new().now();
        let local = |t: types::Timestamp| t.to_second_string().trim_end_matches('Z').to_owned();
        let hour = Duration::from_secs(3600);
        let sale = json!({"name": SALE, "zone": "UTC", "opens": local(now.minus(hour)),
            "closes": local(now.plus(hour)), "currency": "EUR", "product": [
                {"sku": "lamp", "name": "Lamp", "price": 100, "stock": 1_000, "limit": 100}]});
        let (status, body) =
            self.send(At::CoreAdmin, "put", &format!("/v1/sales/{SALE}"), "merchandiser:mia", &sale).await;
        assert_eq!(status, 201, "{body}");
        let path = format!("/v1/sales/{SALE}/products/lamp/purchases");
        for _ in 0..3 {
            let (status, body) =
                self.send(At::CorePublic, "post", &path, &format!("shopper:{OWNER}"), &json!({"quantity": 1})).await;
            assert_eq!(status, 201, "{body}");
            self.orders.push(body["order"].as_str().unwrap().to_owned());
        }
        // A ticket comes from another tier.
        let plan = json!({"generation": 1, "nonce": 1, "base": null,
            "entries": [{"product": "lamp", "tier": "queue", "reason": "hot"}]});
        let begun = Instant::now();
        loop {
            let (status, body) = self.send(At::CorePrivate, "post", "/internal/plan", "control:plane", &plan).await;
            assert_eq!(status, 200, "{body}");
            let (status, body) =
                self.send(At::CorePublic, "post", &path, &format!("shopper:{OWNER}"), &json!({"quantity": 1})).await;
            if status == 202 {
                self.ticket = body["ticket"].as_str().unwrap().to_owned();
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{status} {body}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn url(&self, at: At, path: &str) -> String {
        let address = self.at.iter().find(|(its, _)| *its == at).unwrap().1;
        format!("http://{address}{path}")
    }

    async fn send(&self, at: At, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let method: Method = method.to_uppercase().parse().unwrap();
        let call = self.http.request(method, self.url(at, path)).bearer_auth(token).json(body);
        let key = format!("{:x}", rand::random::<u128>());
        let answer = call.header("Idempotency-Key", key).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
    }

    /// What is said to a caller of this route, and the status.
    pub async fn call(&self, at: At, method: &str, path: &str, caller: Option<(Role, &str)>) -> (Said, u16) {
        let order = match path.rsplit('/').next() {
            Some("pay") => self.orders.get(1),
            Some("cancel") => self.orders.get(2),
            _ => self.orders.first(),
        };
        let path = path
            .replace("{sale}", SALE)
            .replace("{product}", "lamp")
            .replace("{id}", "lamp")
            .replace("{ticket}", &self.ticket)
            .replace("{order}", order.map_or("", String::as_str))
            .replace("{buyer}", "nobody")
            .replace("{webhook}", "shop");
        let verb: Method = method.to_uppercase().parse().unwrap();
        let mut call = self.http.request(verb, self.url(at, &path)).header("Idempotency-Key", "k");
        if method == "post" || method == "put" {
            // Nothing that any of them takes: who may not call must not even learn that.
            call = call.json(&json!({"nothing": "of this"}));
        }
        if path == "/auth/logout" {
            call = call.header("origin", self.url(at, ""));
        }
        if let Some((role, subject)) = caller {
            call = call.bearer_auth(format!("{role}:{subject}"));
        }
        let answer = call.send().await.unwrap();
        let status = answer.status().as_u16();
        // A stream of events has no end to wait for.
        let endless = answer.headers().get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let text = if endless { String::new() } else { answer.text().await.unwrap() };
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        let said = match (status, problem["type"].as_str().unwrap_or_default()) {
            (401, "/problems/bad-signature") => Said::Unsigned,
            (401, "/problems/unauthenticated") => Said::WhoAreYou,
            (403, "/problems/forbidden") => Said::NotAllowed,
            (401, _) => panic!("{method} {path}: {text}"),
            // Of an owner's thing; elsewhere a thing that is not there was looked for, which only who may does.
            (404, _) if at == At::CorePublic => Said::NotFound,
            (500.., _) if status != 502 && status != 503 => panic!("{method} {path}: {status} {text}"),
            _ => Said::Served,
        };
        (said, status)
    }

    pub async fn close(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.running.join_next().await {
            ended.unwrap();
        }
    }
}
