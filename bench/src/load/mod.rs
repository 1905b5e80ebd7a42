//! An open-loop load generator for the purchase call: arrivals come at their rate whether or not answers do, and
//! each latency counts from the moment at which its request was meant to be sent. It judges nothing; what clients
//! saw goes to journals for the auditor.
//!
//! Written here and not taken from k6, oha, goose, wrk2 or rlt: none follows tickets under the same key and writes a
//! journal, and each costs several times more processor per request, which on two cores would be taken from the
//! server. Everything of one thread (connections, queue, figures, journal) is owned by that thread alone.

mod answer;
mod desk;
mod identity;
mod journal;
mod report;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio_util::sync::CancellationToken;
use types::Role;

pub use report::{Latency, Report};

use crate::tokens::Tokens;

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// At this many a second, whatever the answers do.
    Open {
        /// Arrivals a second.
        rate: f64,
        /// How they are spaced.
        arrivals: Arrivals,
    },
    /// Each connection asks again as soon as it was answered: for the peak, never for latencies.
    Closed,
}

/// How arrivals are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrivals {
    /// Evenly.
    Constant,
    /// As independent shoppers come.
    Poisson,
}

/// Who buys, and how he behaves.
#[derive(Debug, Clone)]
pub struct Shoppers {
    /// Name of the sale.
    pub sale: String,
    /// Its products; each attempt draws one, all alike.
    pub products: Vec<String>,
    /// The buyers with their tokens; see [`buyers`].
    pub buyers: Arc<[Buyer]>,
    /// Units that each attempt asks for.
    pub quantity: u32,
    /// Share of arrivals that repeat a recent attempt under its key, 0 to 1.
    pub duplicates: f64,
    /// How often one attempt is tried again, with its key, after 429, 503, 408, a timeout or a lost connection.
    pub retries: u32,
    /// Whether a ticket is read until its end.
    pub follow: bool,
    /// How long after a ticket, and after each answer `pending`, it is read.
    pub follow_every: Duration,
    /// Asks to wait for the decision so many seconds (`Prefer: wait`).
    pub wait: Option<u32>,
    /// Begins every idempotency key: two runs on one store need two.
    pub run: String,
}

/// A buyer and the token that proves him.
#[derive(Debug, Clone)]
pub struct Buyer {
    /// The token's subject.
    pub name: String,
    /// The bearer token.
    pub token: String,
}

/// Makes `count` buyers, `PREFIX-0` and so on; about 10 µs each.
pub fn buyers(tokens: &Tokens, prefix: &str, count: usize) -> anyhow::Result<Arc<[Buyer]>> {
    (0..count)
        .map(|n| {
            let name = format!("{prefix}-{n}");
            Ok(Buyer { token: tokens.issue(&name, Role::Shopper)?, name })
        })
        .collect()
}

/// One run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where the cores listen; connections are spread over them, and go to the next one where one is gone.
    pub targets: Vec<SocketAddr>,
    /// When requests are sent.
    pub mode: Mode,
    /// How long new attempts are made.
    pub duration: Duration,
    /// The first part of it, whose latencies do not count.
    pub warm_up: Duration,
    /// How long after it open tickets and retries are waited for.
    pub drain: Duration,
    /// Connections in all.
    pub connections: usize,
    /// Threads; each has its share of the rate and of the connections.
    pub threads: usize,
    /// Arrivals that may wait for a free connection; one more is counted as not offered.
    pub waiting: usize,
    /// After this a request counts as unanswered.
    pub timeout: Duration,
    /// Draws buyers, products, gaps and duplicates.
    pub seed: u64,
    /// Who buys.
    pub shoppers: Shoppers,
    /// Folder for the journals, one file for each thread; each run needs an own `run`.
    pub journal: Option<PathBuf>,
}

impl Plan {
    /// A plan with one second of warm-up, 64 connections on one thread, 10,000 waiting arrivals, 10 s of patience.
    pub fn new(target: SocketAddr, mode: Mode, duration: Duration, shoppers: Shoppers) -> Self {
        Self {
            targets: vec![target],
            mode,
            duration,
            warm_up: Duration::from_secs(1).min(duration / 4),
            drain: Duration::from_secs(15),
            connections: 64,
            threads: 1,
            waiting: 10_000,
            timeout: Duration::from_secs(10),
            seed: 1,
            shoppers,
            journal: None,
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.targets.is_empty(), "a plan needs a target");
        ensure!(self.threads >= 1 && self.connections >= self.threads, "a plan needs a connection for each thread");
        ensure!(!self.shoppers.products.is_empty() && !self.shoppers.buyers.is_empty(), "nobody buys, or nothing");
        ensure!((0.0..1.0).contains(&self.shoppers.duplicates), "a share of duplicates lies in 0 to 1");
        if let Mode::Open { rate, .. } = self.mode {
            ensure!(rate > 0.0 && rate <= 1e6, "a rate lies in 1 to 1,000,000 a second");
        }
        Ok(())
    }

    /// Where the journals of this plan are written.
    pub fn journals(&self) -> Vec<PathBuf> {
        let name = |thread| format!("load-{}-{thread}.jsonl", self.shoppers.run);
        self.journal.iter().flat_map(|folder| (0..self.threads).map(move |t| folder.join(name(t)))).collect()
    }
}

/// Runs a plan on threads of its own; blocks until it has ended and its journals are on disk. `stop` ends the
/// arrivals early; tickets are still followed.
pub fn run(plan: &Plan, stop: &CancellationToken) -> anyhow::Result<Report> {
    plan.check()?;
    let journals = plan.journals();
    let began = Instant::now();
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for thread in 0..plan.threads {
            let journal = journals.get(thread).map(PathBuf::as_path);
            let work = move || desk::run(plan, thread, journal, began, stop);
            running.push(std::thread::Builder::new().name(format!("load-{thread}")).spawn_scoped(scope, work)?);
        }
        let mut whole = Report::default();
        for thread in running {
            whole.add(thread.join().map_err(|_| anyhow::anyhow!("a load thread panicked"))?.context("load")?);
        }
        Ok(whole)
    })
}
