//! A core in a process of its own, made for one measurement: started on a folder, told what to sell and on which
//! tier, and gone with its value. It measures nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use types::{Clock, Role, SystemClock, Tier};

use crate::tokens::Tokens;

/// Secret of the tokens and tickets of measured cores, which listen on loopback and sell nothing.
pub const SECRET: &[u8] = b"a secret only for measuring, 32+ bytes";
/// The sale that is sold.
pub const SALE: &str = "bench";
/// Longest wait for a condition; a busy machine is no failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the core stands on.
#[derive(Debug, Clone, Default)]
pub struct Providers {
    /// MariaDB's URL; else the embedded store.
    pub mariadb: Option<String>,
    /// Redis's port; else leases in the process.
    pub redis: Option<u16>,
    /// Kafka's bootstrap; else the embedded log.
    pub kafka: Option<String>,
    /// No core at all: bare axum doing the same parsing, logging and token check.
    pub bare: bool,
}

/// Where a child listens, as it says in its first line.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Addresses {
    /// Shoppers.
    pub public: SocketAddr,
    /// Plans, health, metrics.
    pub private: SocketAddr,
    /// Sales.
    pub admin: SocketAddr,
}

/// A running core.
#[derive(Debug)]
pub struct Core {
    child: Child,
    /// Where it listens.
    pub at: Addresses,
    tokens: (String, String),
    generation: u64,
}

impl Core {
    /// Starts `program core …` on a folder and waits until it is ready.
    pub fn start(program: &Path, data: &Path, providers: &Providers) -> anyhow::Result<Self> {
        std::fs::create_dir_all(data)?;
        let mut command = Command::new(program);
        command.arg("core").arg("--data").arg(data);
        if let Some(url) = &providers.mariadb {
            command.args(["--mariadb", url]);
        }
        if let Some(port) = providers.redis {
            command.args(["--redis", &port.to_string()]);
        }
        if let Some(bootstrap) = &providers.kafka {
            command.args(["--kafka", bootstrap]);
        }
        if providers.bare {
            command.arg("--bare");
        }
        // It ends when its standard input does: with us, however we end.
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("the child has no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let at: Addresses = match serde_json::from_str(&line) {
            Ok(at) => at,
            Err(_) => {
                let end = child.wait()?;
                bail!("the core did not start ({end}); its errors are above");
            }
        };
        let tokens = Tokens::new(SECRET);
        let tokens = (tokens.issue("bench-seller", Role::Merchandiser)?, tokens.issue("bench-control", Role::Control)?);
        let core = Self { child, at, tokens, generation: 0 };
        if !providers.bare {
            core.until("the core is ready", || Ok(call(core.at.private, "GET", "/readyz", "", None)?.0 == 200))?;
        }
        Ok(core)
    }

    fn until(&self, what: &str, mut holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let begun = Instant::now();
        while !holds()? {
            ensure!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Opens the sale, from an hour ago to tomorrow, with these products and stocks.
    pub fn sell(&self, products: &[(String, u64)]) -> anyhow::Result<()> {
        let hour = Duration::from_secs(3600);
        let now = SystemClock::new().now();
        let local = |t: types::Timestamp| t.to_second_string().trim_end_matches('Z').to_owned();
        let products: Vec<_> = products
            .iter()
            .map(|(sku, stock)| json!({"sku": sku, "name": sku, "price": 1990, "stock": stock, "limit": 1000}))
            .collect();
        let sale = json!({"name": SALE, "zone": "UTC", "opens": local(now.minus(hour)),
            "closes": local(now.plus(hour * 24)), "currency": "EUR", "product": products});
        let answer = call(self.at.admin, "PUT", &format!("/v1/sales/{SALE}"), &self.tokens.0, Some(&sale))?;
        ensure!((200..300).contains(&answer.0), "the sale was refused: {} {}", answer.0, answer.1);
        Ok(())
    }

    /// Pushes a plan and waits until every product named sells on that tier.
    pub fn put_on(&mut self, tier: Tier, products: &[(String, u64)]) -> anyhow::Result<()> {
        self.generation += 1;
        let entries: Vec<_> =
            products.iter().map(|(sku, _)| json!({"product": sku, "tier": tier, "reason": "hot"})).collect();
        let plan = json!({"generation": self.generation, "nonce": 1, "base": null, "entries": entries});
        let answer = call(self.at.private, "POST", "/internal/plan", &self.tokens.1, Some(&plan))?;
        ensure!(answer.0 == 200, "the plan was refused: {} {}", answer.0, answer.1);
        self.until(&format!("the products sell on {tier}"), || {
            let state = call(self.at.private, "GET", "/internal/state", &self.tokens.1, None)?.1;
            let state: Value = serde_json::from_str(&state)?;
            let rows = state["products"].as_array().context("the state has products")?;
            let there = |row: &&Value| {
                let named = products.iter().any(|(sku, _)| row["product"] == sku.as_str());
                named && row["tier"] == tier.as_str() && row["phase"] == "active"
            };
            Ok(rows.iter().filter(there).count() == products.len())
        })?;
        // A lease is loaded a moment after it is opened.
        std::thread::sleep(Duration::from_millis(300));
        Ok(())
    }

    /// Ends it in good order.
    pub fn stop(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the core does not end")
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Ended already, or to be ended: both are fine here.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// One HTTP call, for what is asked once; status and body.
pub fn call(
    at: SocketAddr,
    method: &str,
    path: &str,
    token: &str,
    body: Option<&Value>,
) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let bearer = if token.is_empty() { String::new() } else { format!("authorization: Bearer {token}\r\n") };
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: core\r\nconnection: close\r\n{bearer}content-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).context("not an HTTP answer")?;
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((status, body))
}
