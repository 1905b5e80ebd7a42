//! Shoppers' ends of live connections: opened with a pass each, read by a task each, pings answered. It measures
//! nothing but what it is told of.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, ensure};
use futures::StreamExt;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// A step of an order that was pushed: which, its state, and when it was here.
pub type Pushed = (String, String, Instant);

/// All ends.
pub struct Sockets {
    at: Vec<SocketAddr>,
    http: reqwest::Client,
    reading: JoinSet<()>,
    next: usize,
    beats: Arc<AtomicU64>,
    ended: Arc<AtomicU64>,
    tell: mpsc::UnboundedSender<Pushed>,
    /// What is pushed to any of them.
    pub pushed: mpsc::UnboundedReceiver<Pushed>,
}

type Socket = WebSocketStream<TcpStream>;

impl Sockets {
    /// None yet; they are spread over these cores.
    pub fn new(at: Vec<SocketAddr>) -> Self {
        // Bounded by what is paid: a step for each.
        let (tell, pushed) = mpsc::unbounded_channel();
        let (beats, ended) = (Arc::default(), Arc::default());
        Self { at, http: reqwest::Client::new(), reading: JoinSet::new(), next: 0, beats, ended, tell, pushed }
    }

    /// Beats that were heard.
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }
    /// Connections that have ended.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// Opens one of this buyer and reads its beginning.
    pub async fn open(&mut self, buyer: &str, token: &str) -> anyhow::Result<()> {
        self.open_all(vec![(buyer.to_owned(), token.to_owned())], 1).await
    }

    /// Opens one of each, so many at a time.
    pub async fn open_all(&mut self, buyers: Vec<(String, String)>, at_once: usize) -> anyhow::Result<()> {
        let first = self.next;
        self.next += buyers.len();
        let opening = buyers.into_iter().enumerate().map(|(n, (buyer, token))| {
            let (at, http) = (self.at[(first + n) % self.at.len()], self.http.clone());
            async move { connect(&http, at, &token).await.with_context(|| format!("a connection of {buyer}")) }
        });
        let mut opening = futures::stream::iter(opening).buffer_unordered(at_once);
        while let Some(socket) = opening.next().await {
            let (beats, ended, tell) = (self.beats.clone(), self.ended.clone(), self.tell.clone());
            self.reading.spawn(read(socket?, beats, ended, tell));
        }
        Ok(())
    }
}

async fn connect(http: &reqwest::Client, at: SocketAddr, token: &str) -> anyhow::Result<Socket> {
    let answer = http.post(format!("http://{at}/v1/live/passes")).bearer_auth(token).send().await?;
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status.is_success(), "no pass: {status} {text}");
    let pass: Value = serde_json::from_str(&text)?;
    let pass = pass["pass"].as_str().context("a pass")?.to_owned();
    let stream = TcpStream::connect(at).await?;
    // The library's default holds 128 KiB for each.
    let config = WebSocketConfig::default().read_buffer_size(4_096).write_buffer_size(0);
    let url = format!("ws://{at}/v1/live?pass={pass}");
    let (mut socket, _) = tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await?;
    for expected in ["hello", "snapshot"] {
        let frame = socket.next().await.context("it ended at once")??;
        let said: Value = serde_json::from_str(frame.to_text()?)?;
        ensure!(said["type"] == expected, "{said} in place of {expected}");
    }
    Ok(socket)
}

async fn read(mut socket: Socket, beats: Arc<AtomicU64>, ended: Arc<AtomicU64>, tell: mpsc::UnboundedSender<Pushed>) {
    // Pings are answered by the library while it reads.
    while let Some(Ok(frame)) = socket.next().await {
        let now = Instant::now();
        let Message::Text(text) = frame else { continue };
        let Ok(said) = serde_json::from_str::<Value>(&text) else { continue };
        match said["type"].as_str() {
            Some("beat") => {
                beats.fetch_add(1, Ordering::Relaxed);
            }
            Some("order") => {
                let field = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
                // Nobody listens any more at the end of a run.
                let _late = tell.send((field("order"), field("state"), now));
            }
            _ => {}
        }
    }
    ended.fetch_add(1, Ordering::Relaxed);
}
