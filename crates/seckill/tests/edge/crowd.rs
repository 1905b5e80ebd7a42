//! Many shoppers at once, on plain connections that stay open: each attempt has its own buyer, token and key. It judges
//! nothing; it counts what was answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use types::Role;

use crate::place::{PRODUCT, SALE};
use crate::town::Issuer;

/// What a browser calls itself.
pub const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0";

/// How many ask, and how.
#[derive(Clone)]
pub struct Crowd {
    pub issuer: Issuer,
    /// Ports of the edges, by turns.
    pub ports: Vec<u16>,
    pub attempts: u64,
    pub connections: u64,
    /// Whose name begins so; each attempt is another buyer's.
    pub names: &'static str,
    /// All attempts are this buyer's.
    pub buyer: Option<&'static str>,
    /// Ends it before all have asked.
    pub stop: Option<Arc<AtomicBool>>,
}

/// What was answered: status and problem's name, and buyers that were told that they have bought.
#[derive(Debug, Default)]
pub struct Answers {
    pub counts: BTreeMap<(u16, String), u64>,
    pub bought: Vec<(String, String)>,
    /// Connections that ended before an answer came.
    pub cut: u64,
}

impl Answers {
    pub fn of(&self, status: u16) -> u64 {
        self.counts.iter().filter(|((s, _), _)| *s == status).map(|(_, n)| n).sum()
    }
    pub fn all(&self) -> u64 {
        self.counts.values().sum()
    }
}

/// The bytes of a purchase call.
pub fn purchase(token: &str, key: &str) -> String {
    let body = r#"{"quantity":1}"#;
    format!(
        "POST /v1/sales/{SALE}/products/{PRODUCT}/purchases HTTP/1.1\r\nHost: shop\r\nUser-Agent: {AGENT}\r\n\
         Authorization: Bearer {token}\r\nIdempotency-Key: {key}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// One answer from a connection: status and body. `None` if the connection ended first.
pub async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(u16, String)> {
    loop {
        if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let status = head.split(' ').nth(1)?.parse().ok()?;
            let length =
                head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let whole = end + 4 + length.unwrap_or(0usize);
            if buffer.len() >= whole {
                let body = String::from_utf8_lossy(&buffer[end + 4..whole]).into_owned();
                buffer.drain(..whole);
                return Some((status, body));
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

fn problem_of(body: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    value["type"].as_str().and_then(|t| t.rsplit('/').next()).unwrap_or_default().to_owned()
}

impl Crowd {
    /// Sends everything; an attempt whose connection ends is asked again with its key on a new one.
    pub async fn run(self) -> Answers {
        let answers = Arc::new(Mutex::new(Answers::default()));
        let next = Arc::new(AtomicU64::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for connection in 0..self.connections {
            let (crowd, answers, next) = (self.clone(), answers.clone(), next.clone());
            tasks.spawn(async move { crowd.stand(connection, &answers, &next).await });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        Arc::try_unwrap(answers).unwrap().into_inner()
    }

    async fn stand(&self, connection: u64, answers: &Mutex<Answers>, next: &AtomicU64) {
        let port = self.ports[connection as usize % self.ports.len()];
        let mut stream = None;
        let mut buffer = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let stopped = || self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed));
            if number >= self.attempts || stopped() {
                return;
            }
            let buyer = self.buyer.map_or_else(|| format!("{}-{number}", self.names), str::to_owned);
            let key = format!("{}-{number}", self.names);
            let call = purchase(&self.issuer.token(&buyer, &[Role::Shopper]), &key);
            // Edges are killed and started again under it: it comes back, as shoppers do.
            for _ in 0..200 {
                if stream.is_none() {
                    buffer.clear();
                    stream = TcpStream::connect(("127.0.0.1", port)).await.ok();
                }
                let Some(open) = &mut stream else {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                };
                let sent = open.write_all(call.as_bytes()).await.is_ok();
                let Some((status, body)) = (if sent { answer(open, &mut buffer).await } else { None }) else {
                    answers.lock().cut += 1;
                    stream = None;
                    continue;
                };
                let mut all = answers.lock();
                *all.counts.entry((status, problem_of(&body))).or_insert(0) += 1;
                if status == 201 {
                    all.bought.push((buyer.clone(), key.clone()));
                }
                break;
            }
        }
    }
}
