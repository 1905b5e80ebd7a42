//! The shop's order system: takes order events from the platform, believes none that is not signed, and keeps each
//! order as the newest event has it. Events may come twice, or late; their numbers tell.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use rusqlite::{Connection, params};
use serde::Deserialize;
use sha2::Sha256;

/// How old an event's signature may be: what was recorded and is played again later is refused.
const TOLERANCE_SECONDS: u64 = 300;

/// The book.
pub struct Book {
    db: Mutex<Connection>,
    secret: Vec<u8>,
}

/// An order event, as far as this shop is concerned.
#[derive(Deserialize)]
struct Event {
    data: Order,
}

#[derive(Deserialize)]
struct Order {
    sequence: i64,
    order: String,
    state: String,
    sale: String,
    amount: Amount,
}

#[derive(Deserialize)]
struct Amount {
    amount: i64,
    currency: String,
}

impl Book {
    /// Opens the book, or begins one.
    pub fn open(path: &Path, secret: &[u8]) -> anyhow::Result<Self> {
        let db = Connection::open(path)?;
        db.execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, state TEXT NOT NULL,
                 sale TEXT NOT NULL, amount INTEGER NOT NULL, currency TEXT NOT NULL)",
        )?;
        Ok(Self { db: Mutex::new(db), secret: secret.to_vec() })
    }

    /// The signature stands over the event's id, its time and its body.
    fn is_signed(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        if timestamp.parse::<u64>().map_or(true, |then| now.abs_diff(then) > TOLERANCE_SECONDS) {
            return false;
        }
        header("webhook-signature").split(' ').filter_map(|one| one.strip_prefix("v1,")).any(|one| {
            let Ok(given) = STANDARD.decode(one) else { return false };
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.secret) else { return false };
            mac.update(format!("{id}.{timestamp}.").as_bytes());
            mac.update(body);
            // Compares in constant time.
            mac.verify_slice(&given).is_ok()
        })
    }

    /// Keeps what is newer than what there is.
    fn take(&self, order: &Order) -> rusqlite::Result<()> {
        let db = self.db.lock().expect("nobody panics with the book");
        db.execute(
            "INSERT INTO orders (id, sequence, state, sale, amount, currency) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (id) DO UPDATE SET sequence = ?2, state = ?3 WHERE sequence < ?2",
            params![order.order, order.sequence, order.state, order.sale, order.amount.amount, order.amount.currency],
        )?;
        Ok(())
    }

    /// How many orders there are.
    pub fn count(&self) -> rusqlite::Result<u64> {
        let db = self.db.lock().expect("nobody panics with the book");
        db.query_row("SELECT COUNT(*) FROM orders", [], |row| row.get::<_, i64>(0)).map(|n| n.unsigned_abs())
    }

    /// The book of one sale, for `seckill reconcile`.
    pub fn as_csv(&self, sale: &str) -> anyhow::Result<String> {
        let db = self.db.lock().expect("nobody panics with the book");
        let mut find = db.prepare("SELECT id, state, amount, currency FROM orders WHERE sale = ?1 ORDER BY id")?;
        let mut rows = find.query([sale])?;
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.write_record(["order", "state", "amount", "currency"])?;
        while let Some(row) = rows.next()? {
            let (id, state, amount, currency): (String, String, i64, String) =
                (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            csv.write_record([id, state, amount.to_string(), currency])?;
        }
        Ok(String::from_utf8(csv.into_inner()?)?)
    }
}

/// `POST /hooks/orders`, and `GET /orders.csv` for whoever keeps the accounts.
pub fn routes(book: Arc<Book>) -> Router {
    Router::new().route("/hooks/orders", post(hear)).route("/orders.csv", get(list)).with_state(book)
}

/// 204 only once the order is in the book: until then the platform tells it again.
async fn hear(State(book): State<Arc<Book>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if !book.is_signed(&headers, &body) {
        return StatusCode::UNAUTHORIZED;
    }
    let Ok(event) = serde_json::from_slice::<Event>(&body) else { return StatusCode::UNPROCESSABLE_ENTITY };
    match book.take(&event.data) {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn list(State(book): State<Arc<Book>>) -> Result<String, StatusCode> {
    book.as_csv(super::catalogue::SALE).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}
