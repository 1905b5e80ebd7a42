//! `bench load`: sends load to a core that runs, and prints what it came to as JSON.
#![allow(clippy::print_stdout)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bench::load::{self, Arrivals, Mode, Plan, Shoppers};
use bench::tokens::Tokens;
use clap::Parser;
use tokio_util::sync::CancellationToken;

/// Sends purchase attempts to a running core at a rate that does not wait for answers.
#[derive(Debug, Parser)]
#[command(name = "bench load")]
pub struct Arguments {
    /// Addresses of cores' public listeners.
    #[arg(long, required = true, value_delimiter = ',')]
    target: Vec<SocketAddr>,
    /// The issuer's secret file (of a demo: DATA/secrets/issuer).
    #[arg(long)]
    issuer_file: PathBuf,
    /// The sale.
    #[arg(long)]
    sale: String,
    /// Its products.
    #[arg(long, required = true, value_delimiter = ',')]
    product: Vec<String>,
    /// Arrivals a second; without it each connection asks again as soon as it was answered.
    #[arg(long)]
    rate: Option<f64>,
    /// Spaces arrivals evenly instead of as independent shoppers come.
    #[arg(long)]
    constant: bool,
    /// Seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Different buyers.
    #[arg(long, default_value_t = 10_000)]
    buyers: usize,
    /// Units of one attempt.
    #[arg(long, default_value_t = 1)]
    quantity: u32,
    /// Share of arrivals that repeat an earlier key.
    #[arg(long, default_value_t = 0.0)]
    duplicates: f64,
    /// Tries after 429, 503 and lost answers, under the same key.
    #[arg(long, default_value_t = 0)]
    retries: u32,
    /// Reads each ticket until its end.
    #[arg(long)]
    follow: bool,
    /// Asks to wait for the decision so many seconds.
    #[arg(long)]
    wait: Option<u32>,
    /// Folder for the journals that the auditor reads.
    #[arg(long)]
    journal: Option<PathBuf>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs it.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let file = &arguments.issuer_file;
    let secret = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let tokens = Tokens::new(secret.trim_ascii());
    // Keys of an earlier run on the same store must not answer for this one.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let run = format!("{}-{}", arguments.seed, now.as_millis());
    let shoppers = Shoppers {
        sale: arguments.sale,
        products: arguments.product,
        buyers: load::buyers(&tokens, "load", arguments.buyers)?,
        quantity: arguments.quantity,
        duplicates: arguments.duplicates,
        retries: arguments.retries,
        follow: arguments.follow,
        follow_every: Duration::from_millis(500),
        wait: arguments.wait,
        run,
    };
    let arrivals = if arguments.constant { Arrivals::Constant } else { Arrivals::Poisson };
    let mode = arguments.rate.map_or(Mode::Closed, |rate| Mode::Open { rate, arrivals });
    let mut plan = Plan::new(arguments.target[0], mode, Duration::from_secs_f64(arguments.seconds), shoppers);
    plan.targets = arguments.target;
    plan.connections = arguments.connections;
    plan.threads = arguments.threads;
    plan.seed = arguments.seed;
    plan.journal = arguments.journal;
    if let Some(folder) = &plan.journal {
        std::fs::create_dir_all(folder)?;
    }
    let report = load::run(&plan, &CancellationToken::new())?;
    println!("{}", serde_json::to_string_pretty(&report.json())?);
    for journal in plan.journals() {
        eprintln!("journal: {}", journal.display());
    }
    Ok(())
}
