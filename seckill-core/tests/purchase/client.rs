//! Buyers: they call whichever core is there, try again where the answer says so, follow tickets to their end, and
//! write every answer down for the auditor. They know nothing of tiers, moves or crashes.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use audit::journal::{Entry, Told};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};
use types::Clock;

use crate::place::PushedClock;
use crate::shop::SALE;

/// Longest time until a purchase has an end, with every retry and every server's restart in it.
const PATIENCE: Duration = Duration::from_secs(150);
/// Pause before a call is made again.
const PAUSE: Duration = Duration::from_millis(20);

/// What buyers were told, in memory until the auditor wants it.
pub struct Journal {
    clock: Arc<PushedClock>,
    entries: Mutex<Vec<Entry>>,
}

impl Journal {
    pub fn new(clock: Arc<PushedClock>) -> Self {
        Self { clock, entries: Mutex::default() }
    }
    fn now(&self) -> i64 {
        self.clock.now().millis()
    }
    fn note(&self, entry: Entry) {
        self.entries.lock().unwrap().push(entry);
    }
    pub fn len(&self) -> usize {
        self.entries.lock().unwrap().len()
    }
    pub fn write(&self, path: &Path) {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
        for entry in self.entries.lock().unwrap().iter() {
            serde_json::to_writer(&mut file, entry).unwrap();
            file.write_all(b"\n").unwrap();
        }
        file.flush().unwrap();
    }
}

/// What a buyer wants.
#[derive(Debug, Clone)]
pub struct Wish {
    pub sale: String,
    pub buyer: String,
    pub product: String,
    pub key: String,
    pub quantity: u32,
    /// Whether he would rather wait than get a ticket.
    pub wait: bool,
    /// The core that he calls first.
    pub core: usize,
}

impl Wish {
    /// One unit, under the key `k`.
    pub fn one(buyer: impl Into<String>, product: &str) -> Self {
        let (buyer, product) = (buyer.into(), product.to_owned());
        Self { sale: SALE.into(), buyer, product, key: "k".into(), quantity: 1, wait: false, core: 0 }
    }
    pub fn key(self, key: impl Into<String>) -> Self {
        Self { key: key.into(), ..self }
    }
    pub fn waiting(self, wait: bool) -> Self {
        Self { wait, ..self }
    }
    pub fn at(self, core: usize) -> Self {
        Self { core, ..self }
    }
}

/// How a purchase ended: with the order's id, or the reason of the refusal, as tickets spell it.
pub type End = Result<String, String>;

/// All buyers of a shop. Cheap to clone.
#[derive(Clone)]
pub struct Clients {
    http: reqwest::Client,
    cores: Arc<Mutex<Vec<Option<SocketAddr>>>>,
    pub journal: Arc<Journal>,
}

/// One answer, read.
struct Said {
    status: StatusCode,
    body: Value,
}

impl Clients {
    pub fn new(http: reqwest::Client, cores: usize, journal: Arc<Journal>) -> Self {
        Self { http, cores: Arc::new(Mutex::new(vec![None; cores])), journal }
    }
    /// Where a core is now.
    pub fn found(&self, core: usize, address: Option<SocketAddr>) {
        self.cores.lock().unwrap()[core] = address;
    }
    /// The address of this core, or of another one if it is away.
    fn address(&self, core: usize) -> Option<SocketAddr> {
        let cores = self.cores.lock().unwrap();
        (0..cores.len()).find_map(|step| cores[(core + step) % cores.len()])
    }

    async fn send(&self, wish: &Wish, turn: usize, call: impl Fn(String) -> RequestBuilder) -> Option<Said> {
        let address = self.address(wish.core + turn)?;
        // A core that is killed cuts its connections; the key makes a retry safe.
        let answer = call(format!("http://{address}")).bearer_auth(format!("shopper:{}", wish.buyer)).send().await;
        let answer = answer.ok()?;
        let status = answer.status();
        let text = answer.text().await.ok()?;
        Some(Said { status, body: serde_json::from_str(&text).ok()? })
    }

    fn note(&self, wish: &Wish, sent: i64, said: Option<&Said>, outcome: Told, bound: bool) {
        let body = said.map(|s| &s.body);
        let text = |v: &Value| v.as_str().map(str::to_owned);
        let order = body.and_then(|b| text(&b["order"]).or_else(|| text(&b["order"]["order"])));
        let deadline = body.and_then(|b| text(&b["deadline"])).map(|t| t.parse::<types::Timestamp>().unwrap().millis());
        self.journal.note(Entry {
            t: self.journal.now(),
            sent: Some(sent),
            buyer: wish.buyer.clone(),
            key: wish.key.clone(),
            product: wish.product.clone(),
            quantity: wish.quantity.into(),
            status: said.map_or(0, |s| s.status.as_u16()),
            outcome,
            order: order.filter(|_| outcome == Told::Accepted),
            ticket_deadline: deadline.filter(|_| outcome == Told::Queued),
            bound,
        });
    }

    /// Buys until a definite end.
    pub async fn buy(&self, wish: Wish) -> End {
        let started = Instant::now();
        for turn in 0.. {
            assert!(started.elapsed() < PATIENCE, "no end after {turn} tries: {wish:?}");
            let sent = self.journal.now();
            let said = self.send(&wish, turn, |core| {
                let path = format!("{core}/v1/sales/{}/products/{}/purchases", wish.sale, wish.product);
                let call = self.http.post(path).header("Idempotency-Key", &wish.key);
                let call = if wish.wait { call.header("Prefer", "wait=5") } else { call };
                call.json(&json!({"quantity": wish.quantity}))
            });
            let Some(said) = said.await else {
                self.note(&wish, sent, None, Told::Error, false);
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let kind = said.body["type"].as_str().unwrap_or_default().trim_start_matches("/problems/");
            let reason = kind.replace('-', "_");
            let outcome = match said.status {
                StatusCode::CREATED => Told::Accepted,
                StatusCode::ACCEPTED => Told::Queued,
                _ => told(&reason),
            };
            self.note(&wish, sent, Some(&said), outcome, false);
            match said.status {
                StatusCode::CREATED => return Ok(said.body["order"].as_str().unwrap().to_owned()),
                StatusCode::ACCEPTED => return self.follow(&wish, said.body["ticket"].as_str().unwrap()).await,
                StatusCode::GONE | StatusCode::CONFLICT => return Err(reason),
                StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => tokio::time::sleep(PAUSE).await,
                other => panic!("{other}: {} for {wish:?}", said.body),
            }
        }
        unreachable!("tries are not bounded by their number")
    }

    /// Follows a ticket to its end.
    pub async fn follow(&self, wish: &Wish, ticket: &str) -> End {
        let started = Instant::now();
        for turn in 0.. {
            assert!(started.elapsed() < PATIENCE, "a ticket has no end: {wish:?}");
            let sent = self.journal.now();
            // Any core can read it.
            let said = self.send(wish, turn, |core| self.http.get(format!("{core}/v1/tickets/{ticket}"))).await;
            if let Some(said) = said {
                let state = said.body["state"].as_str().unwrap_or_default();
                match (said.status, state) {
                    (StatusCode::OK, "accepted") => {
                        self.note(wish, sent, Some(&said), Told::Accepted, true);
                        return Ok(said.body["order"]["order"].as_str().unwrap().to_owned());
                    }
                    (StatusCode::OK, "refused") => {
                        let reason = said.body["reason"].as_str().unwrap().to_owned();
                        self.note(wish, sent, Some(&said), told(&reason), true);
                        return Err(reason);
                    }
                    (StatusCode::OK, "pending") => self.note(wish, sent, Some(&said), Told::Queued, true),
                    (StatusCode::SERVICE_UNAVAILABLE, _) => {}
                    other => panic!("{other:?}: {} for {wish:?}", said.body),
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        unreachable!("tries are not bounded by their number")
    }

    /// All these wishes at once; what each came to.
    pub async fn all(&self, wishes: Vec<Wish>) -> Vec<(Wish, End)> {
        let mut calls = tokio::task::JoinSet::new();
        for wish in wishes {
            let clients = self.clone();
            calls.spawn(async move { (wish.clone(), clients.buy(wish).await) });
        }
        calls.join_all().await
    }
}

fn told(reason: &str) -> Told {
    match reason {
        "sold_out" => Told::SoldOut,
        "all_reserved" => Told::AllReserved,
        "limit" => Told::Limit,
        _ => Told::Refused,
    }
}

/// The orders that were told of, each once, with their buyer; fails if one key was told of two orders.
pub fn orders(ends: &[(Wish, End)]) -> BTreeMap<String, String> {
    let mut by_key: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    let mut orders = BTreeMap::new();
    for (wish, end) in ends {
        let Ok(order) = end else { continue };
        let first = *by_key.entry((&wish.buyer, &wish.key)).or_insert(order);
        assert_eq!(first, order, "one key, one order: {wish:?}");
        orders.insert(order.clone(), wish.buyer.clone());
    }
    orders
}
