//! What a core says to an edge, always the same: one product is sold out, another has something left and no credit. It
//! stands in for a core only where none must be reached, and counts whoever gets through.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use types::{Clock, SystemClock};

/// A listener that answers until the process ends.
pub struct CreditIssuer {
    address: String,
    purchases: Arc<AtomicU64>,
}

impl CreditIssuer {
    /// Listens on a free port.
    pub fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?.to_string();
        let purchases = Arc::new(AtomicU64::new(0));
        let counted = purchases.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = counted.clone();
                std::thread::spawn(move || serve(&stream, &counted));
            }
        });
        Ok(Self { address, purchases })
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// Purchase calls that came.
    pub fn purchases(&self) -> u64 {
        self.purchases.load(Ordering::Relaxed)
    }
}

/// Answers calls on one connection until it ends.
fn serve(stream: &TcpStream, purchases: &AtomicU64) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap_or(0) > 2 {
            line.clear();
        }
        if !first.starts_with("GET /internal/edge/credits") {
            purchases.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let product = |sku: &str, left: &str| {
            json!({"product": sku, "sale": "bench", "door": "open", "opens_ms": 0, "closes_ms": 9_000_000_000_000u64,
                "left": left, "credits": 0})
        };
        let body = json!({"core": "bench", "now_ms": SystemClock::new().now().millis(), "age_ms": 0, "edges": 1,
            "version": "0-1", "whole": true, "gone": [],
            "products": [product("gone", "sold_out"), product("busy", "some")]})
        .to_string();
        let mut out = stream;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        if out.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}
