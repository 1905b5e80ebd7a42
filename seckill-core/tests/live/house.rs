//! Cores that share one store and one log, and shoppers that hold WebSockets to them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventlog::MemoryLog;
use futures::{SinkExt, StreamExt};
use reqwest::{Method, StatusCode};
use seckill_core::stock::db::sqlite::{SqliteStore, SqliteStoreOptions};
use seckill_core::{CoreError, CoreHandle, InProcessLeases, LiveOptions, Options, SeckillCore, TicketSecret};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;
use types::{Clock, SystemClock};

use crate::shop::{PlainTokens, SALE, options};

/// Patience of everything here: a busy machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Life {
    pub handle: CoreHandle,
    running: JoinHandle<Result<(), CoreError>>,
    stop: CancellationToken,
}

pub struct House {
    pub folder: tempfile::TempDir,
    pub store: Arc<SqliteStore>,
    pub log: Arc<MemoryLog>,
    pub clock: Arc<SystemClock>,
    pub http: reqwest::Client,
    pub live: LiveOptions,
    pub cores: Vec<Life>,
}

fn open_store(folder: &Path) -> Arc<SqliteStore> {
    Arc::new(SqliteStore::open(&folder.join("stock.sqlite"), SqliteStoreOptions::default()).unwrap())
}

impl House {
    pub async fn open(cores: usize) -> Self {
        Self::open_with(cores, |_| {}).await
    }

    pub async fn open_with(cores: usize, change: impl FnOnce(&mut LiveOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut live = LiveOptions::default();
        change(&mut live);
        let mut house = Self {
            store: open_store(folder.path()),
            log: Arc::new(MemoryLog::new()),
            clock: Arc::new(SystemClock::new()),
            http: reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap(),
            folder,
            live,
            cores: Vec::new(),
        };
        for n in 0..cores {
            let life = house.life(n).await;
            house.cores.push(life);
        }
        house
    }

    async fn life(&self, n: usize) -> Life {
        let own = self.folder.path().join(format!("core-{n}"));
        let core = SeckillCore::new(
            Options { core: format!("core-{n}"), live: self.live.clone(), ..options(&own) },
            self.store.clone(),
            Arc::new(InProcessLeases::new()),
            self.log.clone(),
            self.clock.clone(),
            Arc::new(PlainTokens),
            TicketSecret::new([9u8; 32]).unwrap(),
            axum::Router::new(),
        )
        .await
        .unwrap();
        let (handle, stop) = (core.handle(), CancellationToken::new());
        let running = tokio::spawn(core.run(stop.clone()));
        let life = Life { handle, running, stop };
        let ready = format!("http://{}/readyz", life.handle.private());
        let begun = Instant::now();
        while !self.http.get(&ready).send().await.is_ok_and(|a| a.status() == StatusCode::OK) {
            assert!(begun.elapsed() < PATIENCE, "the core is not ready");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        life
    }

    /// Ends a core without warning. (Its connections' tasks are the process's own, so they are cut by its token.)
    pub async fn kill_and_restart(&mut self, n: usize) {
        let dead = &mut self.cores[n];
        dead.running.abort();
        let _aborted = (&mut dead.running).await;
        self.cores[n] = self.life(n).await;
    }

    /// Shuts a core down in good order and starts it again.
    pub async fn restart(&mut self, n: usize) {
        self.stop(n).await;
        self.cores[n] = self.life(n).await;
    }

    pub async fn stop(&mut self, n: usize) {
        self.cores[n].stop.cancel();
        (&mut self.cores[n].running).await.unwrap().unwrap();
    }

    pub async fn sell(&self, stock: u64) {
        let now = self.clock.now();
        let local = |t: types::Timestamp| t.to_second_string().trim_end_matches('Z').to_owned();
        let (opens, closes) = (now.minus(Duration::from_secs(60)), now.plus(Duration::from_secs(7_200)));
        let sale = json!({"name": SALE, "zone": "UTC", "opens": local(opens), "closes": local(closes),
            "currency": "EUR",
            "product": [{"sku": "lamp", "name": "Lamp", "price": 100, "stock": stock, "limit": 1_000}]});
        let url = format!("http://{}/v1/sales/{SALE}", self.cores[0].handle.admin());
        let answer = self.http.put(url).bearer_auth("merchandiser:mia").json(&sale).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        // The other cores learn of it by themselves.
        for n in 0..self.cores.len() {
            let url = format!("http://{}/v1/products/lamp/availability", self.cores[n].handle.public());
            let begun = Instant::now();
            while self.http.get(&url).send().await.unwrap().status() != StatusCode::OK {
                assert!(begun.elapsed() < PATIENCE, "core {n} does not sell");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    pub async fn call(&self, n: usize, method: Method, path: &str, buyer: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("http://{}{path}", self.cores[n].handle.public());
        let mut call = self.http.request(method, url).bearer_auth(format!("shopper:{buyer}"));
        if let Some(body) = body {
            call = call.header("Idempotency-Key", format!("{:x}", rand::random::<u128>())).json(&body);
        }
        let answer = call.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
    }

    /// Buys one at this core; the order's id.
    pub async fn buy(&self, n: usize, buyer: &str) -> String {
        let path = format!("/v1/sales/{SALE}/products/lamp/purchases");
        let (status, body) = self.call(n, Method::POST, &path, buyer, Some(json!({"quantity": 1}))).await;
        assert_eq!(status, 201, "{body}");
        body["order"].as_str().unwrap().to_owned()
    }

    pub async fn cancel(&self, n: usize, buyer: &str, order: &str) {
        let (status, body) = self.call(n, Method::POST, &format!("/v1/orders/{order}/cancel"), buyer, None).await;
        assert_eq!(status, 200, "{body}");
    }

    pub async fn pass(&self, n: usize, buyer: &str) -> String {
        let (status, body) = self.call(n, Method::POST, "/v1/live/passes", buyer, None).await;
        assert_eq!(status, 201, "{body}");
        body["pass"].as_str().unwrap().to_owned()
    }

    /// Live connections that this core holds, by its handle.
    pub fn open_connections(&self, n: usize) -> usize {
        self.cores[n].handle.live_connections()
    }

    /// A WebSocket of this buyer to this core.
    pub async fn connect(&self, n: usize, buyer: &str, cursor: Option<u64>) -> Socket {
        let pass = self.pass(n, buyer).await;
        self.connect_with(n, &pass, cursor, None).await.expect("the connection is taken")
    }

    /// With this pass and origin; the status of a refusal.
    pub async fn connect_with(
        &self,
        n: usize,
        pass: &str,
        cursor: Option<u64>,
        origin: Option<&str>,
    ) -> Result<Socket, u16> {
        let resume = cursor.map(|c| format!("&resume_from={c}")).unwrap_or_default();
        self.dial(n, &format!("?pass={pass}{resume}"), origin).await
    }

    pub async fn dial(&self, n: usize, query: &str, origin: Option<&str>) -> Result<Socket, u16> {
        let url = format!("ws://{}/v1/live{query}", self.cores[n].handle.public());
        let mut request = url.into_client_request().unwrap();
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse().unwrap());
        }
        match tokio_tungstenite::connect_async(request).await {
            Ok((socket, _)) => Ok(Socket { socket, cursor: None }),
            Err(tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(other) => panic!("{other}"),
        }
    }
}

/// A client's end of a connection.
pub struct Socket {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Of the last message that had one.
    pub cursor: Option<u64>,
}

/// What a client sees next.
#[derive(Debug, PartialEq)]
pub enum Seen {
    Message(Value),
    Closed(Option<(u16, String)>),
}

impl Socket {
    pub async fn send(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// The next message of ours (pings are answered on the way), or the end.
    pub async fn next(&mut self) -> Seen {
        let frame = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => {
                        assert!(text.len() <= 4096, "a long frame");
                        return Seen::Message(serde_json::from_str(&text).unwrap());
                    }
                    Some(Ok(Message::Close(frame))) => {
                        return Seen::Closed(frame.map(|f| (f.code.into(), f.reason.to_string())));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Seen::Closed(None),
                }
            }
        };
        let seen = tokio::time::timeout(PATIENCE, frame).await.expect("something is said");
        if let Seen::Message(said) = &seen
            && let Some(cursor) = said["cursor"].as_u64()
        {
            assert!(self.cursor.is_none_or(|before| before <= cursor), "a cursor never goes back");
            self.cursor = Some(cursor);
        }
        seen
    }

    /// The next message of this type; others but beats are wrong.
    pub async fn expect(&mut self, kind: &str) -> Value {
        loop {
            match self.next().await {
                Seen::Message(said) if said["type"] == kind => return said,
                Seen::Message(said) if said["type"] == "beat" => {}
                other => panic!("{other:?} instead of {kind}"),
            }
        }
    }

    /// An order's step.
    pub async fn step(&mut self) -> (String, String) {
        let said = self.expect("order").await;
        (said["order"].as_str().unwrap().to_owned(), said["state"].as_str().unwrap().to_owned())
    }

    /// Close code of the end; what is said before it is passed over.
    pub async fn end(&mut self) -> Option<u16> {
        loop {
            if let Seen::Closed(why) = self.next().await {
                return why.map(|(code, _)| code);
            }
        }
    }
}
