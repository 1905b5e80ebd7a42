//! `bench core`: the process that is measured, a core on the providers that its parent names, wired as the binary
//! wires it, or bare axum doing the same parsing, logging and token check. It ends with its parent.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bench::child::{Addresses, SECRET};
use bench::tokens::Tokens;
use clap::Parser;
use eventlog::kafka::{KafkaLog, KafkaLogOptions};
use eventlog::{EventLog, SqliteLog, SqliteLogOptions};
use http_kit::{Problem, ProblemKind, SharedAuthenticator};
use metrics_exporter_prometheus::PrometheusBuilder;
use seckill_core::stock::db::mariadb::{MariaStore, MariaStoreOptions};
use seckill_core::stock::db::sqlite::{SqliteStore, SqliteStoreOptions};
use seckill_core::stock::redis::LeaseStore;
use seckill_core::stock::redis::server::{NodeAddress, RedisLeases, RedisLeasesOptions};
use seckill_core::stock::sql_store::SqlStore;
use seckill_core::{CallbackKeys, ExternalProvider, InProcessLeases, Options, Payments, SeckillCore, TicketSecret};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use types::{Clock, IdempotencyKey, SaleName, Sku, SystemClock};

/// Buckets as the binary has them.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

/// Told by the parent.
#[derive(Debug, Parser)]
pub struct Arguments {
    /// Folder for everything that is written.
    #[arg(long)]
    data: PathBuf,
    #[arg(long)]
    mariadb: Option<String>,
    #[arg(long)]
    redis: Option<u16>,
    #[arg(long)]
    kafka: Option<String>,
    #[arg(long)]
    bare: bool,
}

/// Runs until standard input ends.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SECKILL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let parent = stop.clone();
        std::thread::spawn(move || {
            // Whatever ends the reading, the parent is gone or wants us to go.
            let _end = std::io::stdin().read_to_end(&mut Vec::new());
            parent.cancel();
        });
        if arguments.bare { bare(stop).await } else { core(arguments, stop).await }
    })
}

fn say(at: Addresses) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{}", serde_json::to_string(&at)?)?;
    Ok(out.flush()?)
}

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

async fn core(arguments: Arguments, stop: CancellationToken) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let data = arguments.data;
    let metrics = PrometheusBuilder::new()
        .set_buckets_for_metric(metrics_exporter_prometheus::Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .install_recorder()?;
    let store: Arc<dyn SqlStore> = match arguments.mariadb {
        Some(url) => {
            let options = MariaStoreOptions { url: Some(url), ..MariaStoreOptions::default() };
            Arc::new(MariaStore::connect(options).await?)
        }
        None => Arc::new(SqliteStore::open(&data.join("stock.sqlite"), SqliteStoreOptions::default())?),
    };
    let leases: Arc<dyn LeaseStore> = match arguments.redis {
        Some(port) => {
            let nodes = vec![NodeAddress::new("127.0.0.1", port)];
            let options = RedisLeasesOptions { nodes, ..RedisLeasesOptions::default() };
            Arc::new(RedisLeases::connect(options, clock.clone()).await?)
        }
        None => Arc::new(InProcessLeases::new()),
    };
    let log: Arc<dyn EventLog> = match arguments.kafka {
        Some(bootstrap) => {
            let options = KafkaLogOptions { bootstrap: vec![bootstrap], ..KafkaLogOptions::default() };
            Arc::new(KafkaLog::connect(options, clock.clone())?)
        }
        None => {
            let file = data.join("log.sqlite");
            Arc::new(SqliteLog::open_with_clock(&file, SqliteLogOptions::default(), clock.clone())?)
        }
    };
    let options = Options {
        public: any_port(),
        private: any_port(),
        admin: any_port(),
        data_dir: data.join("core"),
        ..Options::default()
    };
    let shown = metrics.clone();
    let extra = Router::new().route("/metrics", get(move || std::future::ready(shown.render())));
    let tokens: SharedAuthenticator = Arc::new(Tokens::new(SECRET));
    let secret = TicketSecret::new(SECRET)?;
    // Many sockets, where the run is about them; otherwise it changes nothing.
    let _handles = crate::live::more_handles()?;
    let core = SeckillCore::new(options, store, leases, log, clock, tokens, secret, extra).await?;
    let core = core.with_payments(Payments::new(ExternalProvider, CallbackKeys::new(SECRET, None)?));
    let handle = core.handle();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(std::time::Duration::from_secs(5)).await;
            metrics.run_upkeep();
        }
    });
    say(Addresses { public: handle.public(), private: handle.private(), admin: handle.admin() })?;
    core.run(stop).await.context("the core")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    quantity: u32,
}

const SOLD_OUT: ProblemKind = ProblemKind::new("sold-out", "Sold out", StatusCode::GONE);

/// What any handler must do before it may decide: token, names, key, body, a span and a line of the log.
async fn refuse(
    State(tokens): State<SharedAuthenticator>,
    Path((sale, product)): Path<(String, String)>,
    headers: HeaderMap,
    axum::Json(body): axum::Json<Body>,
) -> Response {
    let Some(token) = http_kit::bearer(&headers) else { return StatusCode::UNAUTHORIZED.into_response() };
    let Ok(identity) = tokens.verify(token) else { return StatusCode::UNAUTHORIZED.into_response() };
    let key = headers.get("idempotency-key").and_then(|v| v.to_str().ok()).map(IdempotencyKey::new);
    let named = (SaleName::new(&sale), Sku::new(&product), key);
    let (Ok(_), Ok(product), Some(Ok(_))) = named else { return StatusCode::BAD_REQUEST.into_response() };
    let span = tracing::debug_span!("purchase", product = %product);
    let _entered = span.enter();
    tracing::debug!(quantity = body.quantity, roles = identity.roles.len(), "answered");
    Problem::new(SOLD_OUT, "every unit is sold").into_response()
}

async fn bare(stop: CancellationToken) -> anyhow::Result<()> {
    let tokens: SharedAuthenticator = Arc::new(Tokens::new(SECRET));
    let router = Router::new().route("/v1/sales/{sale}/products/{product}/purchases", post(refuse)).with_state(tokens);
    let listener = tokio::net::TcpListener::bind(any_port()).await?;
    let at = listener.local_addr()?;
    say(Addresses { public: at, private: at, admin: at })?;
    Ok(axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await?)
}
