//! Joins providers to services, and services to one process. The only file that names a concrete provider.
//! It decides nothing about heat, tiers or stock.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use analyzer::Analyzer;
use anyhow::{Context, bail};
use axum::Router;
use collector::Collector;
use control_plane::{ControlPlane, CoreToken};
use eventlog::{EventLog, MemoryLog, SqliteLog};
use seckill_core::stock::db::sqlite::{SqliteStore, SqliteStoreOptions};
use seckill_core::{InProcessLeases, SeckillCore, TicketSecret};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use types::{Authenticator, Clock};

use crate::config::{Config, EventLogProvider, Mode};
use crate::identity::DemoIssuer;
use crate::overview::{Overview, Sources};
use crate::secrets::Secrets;
use crate::{shutdown, telemetry};

/// Where the stock store of a data directory lies.
pub fn stock_file(data_dir: &Path) -> PathBuf {
    data_dir.join("core").join("stock.sqlite")
}

/// All four services of one process, running.
pub struct House {
    /// Lines in.
    pub collector: collector::Handle,
    /// Heat.
    pub analyzer: analyzer::Handle,
    /// Plans.
    pub control_plane: control_plane::Handle,
    /// Purchases.
    pub core: seckill_core::CoreHandle,
    /// Signs demo tokens.
    pub issuer: Arc<DemoIssuer>,
    /// The event log, for readers such as the auditor.
    pub log: Arc<dyn EventLog>,
    tasks: JoinSet<(&'static str, anyhow::Result<()>)>,
    /// Cancelled when the process shall end, also by a service that failed.
    pub shutdown: CancellationToken,
}

impl House {
    /// Builds everything (files opened, listeners bound), then starts it.
    pub async fn open(mut config: Config, clock: Arc<dyn Clock>, any_port: bool) -> anyhow::Result<Self> {
        let data = config.data_dir.clone();
        fs::create_dir_all(&data).with_context(|| format!("cannot create the data directory {}", data.display()))?;
        let secrets = Secrets::load(&config.secrets, &data, config.mode.makes_secrets())?;
        let metrics = telemetry::metrics()?;
        let issuer = Arc::new(DemoIssuer::new(&secrets.issuer, secrets.control.clone(), clock.clone()));
        let authenticator: Arc<dyn Authenticator> = issuer.clone();
        if any_port {
            use_free_ports(&mut config);
        }
        place_in(&data, &mut config, &secrets)?;

        let log = event_log(&config, clock.clone())?;
        folder(&data, "core")?;
        let store = Arc::new(SqliteStore::open(&stock_file(&data), SqliteStoreOptions::default())?);
        let leases = Arc::new(InProcessLeases::new());

        let core = SeckillCore::new(
            config.core.clone(),
            store,
            leases,
            log.clone(),
            clock.clone(),
            authenticator.clone(),
            TicketSecret::new(secrets.ticket.bytes())?,
            telemetry::router(metrics.clone()),
        )
        .await
        .context("seckill-core")?;
        let private = core.handle().private();
        config.control_plane.cores = vec![format!("http://{private}")];
        let control_plane = ControlPlane::new(
            config.control_plane.clone(),
            log.clone(),
            clock.clone(),
            authenticator.clone(),
            CoreToken::new(secrets.control.text()?)?,
            Router::new(),
        )
        .await
        .context("control-plane")?;
        let overview = Overview::new();
        // The page asks nobody who he is, so it is only there where nobody else can reach it.
        let live_page = if config.analyzer.listen.ip().is_loopback() { overview.router() } else { Router::new() };
        let analyzer = Analyzer::new(config.analyzer.clone(), log.clone(), clock.clone(), authenticator, live_page)
            .await
            .context("analyzer")?;
        let collector =
            Collector::new(config.collector.clone(), log.clone(), clock.clone()).await.context("collector")?;

        let stop = CancellationToken::new();
        let mut house = Self {
            collector: collector.handle(),
            analyzer: analyzer.handle(),
            control_plane: control_plane.handle(),
            core: core.handle(),
            issuer,
            log,
            tasks: JoinSet::new(),
            shutdown: stop.clone(),
        };
        house.spawn("collector", collector.run(stop.clone()));
        house.spawn("analyzer", analyzer.run(stop.clone()));
        house.spawn("control-plane", control_plane.run(stop.clone()));
        house.spawn("seckill-core", core.run(stop.clone()));
        let sources = Sources {
            collector: house.collector.clone(),
            analyzer: house.analyzer.clone(),
            control_plane: house.control_plane.clone(),
            core: house.core.clone(),
            clock,
        };
        let fold = telemetry::upkeep(metrics, stop.clone());
        house.spawn("telemetry", async move {
            fold.await;
            Ok::<_, std::convert::Infallible>(())
        });
        house.spawn("overview", async move {
            overview.follow(sources, stop).await;
            Ok::<_, std::convert::Infallible>(())
        });
        Ok(house)
    }

    fn spawn<E: std::error::Error + Send + Sync + 'static>(
        &mut self,
        name: &'static str,
        service: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let stop = self.shutdown.clone();
        self.tasks.spawn(async move {
            let end = service.await;
            if let Err(error) = &end {
                tracing::error!(service = name, %error, "service failed; the process ends");
            }
            // No service may be missing while the others go on as if it were there.
            stop.cancel();
            (name, end.map_err(anyhow::Error::from))
        });
    }

    /// Asks all services to end and waits for them; the first failure is the result.
    pub async fn close(mut self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        let mut first = Ok(());
        let drained = tokio::time::timeout(shutdown::DRAIN, async {
            while let Some(joined) = self.tasks.join_next().await {
                let (name, end) = joined.context("a service panicked")?;
                if let (Err(error), Ok(())) = (end, &first) {
                    first = Err(error.context(name));
                }
            }
            Ok::<_, anyhow::Error>(())
        })
        .await;
        match drained {
            Err(_) => bail!("{} services did not end within {:?}", self.tasks.len(), shutdown::DRAIN),
            Ok(joined) => joined.and(first),
        }
    }
}

/// The collector's options, with its folder and secret in them, and the event log: for what is done beside it.
pub fn collector_parts(
    mut config: Config,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<(collector::Options, Arc<dyn EventLog>)> {
    let data = config.data_dir.clone();
    let secrets = Secrets::load(&config.secrets, &data, config.mode.makes_secrets())?;
    place_in(&data, &mut config, &secrets)?;
    let log = event_log(&config, clock)?;
    Ok((config.collector, log))
}

fn event_log(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Arc<dyn EventLog>> {
    Ok(match config.event_log.provider {
        EventLogProvider::Memory => Arc::new(MemoryLog::with_clock(clock)),
        EventLogProvider::Sqlite => {
            let dir = folder(&config.data_dir, "event-log")?;
            let options = eventlog::SqliteLogOptions::default();
            Arc::new(SqliteLog::open_with_clock(&dir.join("log.sqlite"), options, clock)?)
        }
    })
}

fn folder(data: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let dir = data.join(name);
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// Gives each service its folder and its secrets.
fn place_in(data: &Path, config: &mut Config, secrets: &Secrets) -> anyhow::Result<()> {
    config.collector.state_dir = folder(data, "collector")?;
    config.collector.visitor_key = secrets.visitor.text()?.into();
    config.analyzer.state_dir = folder(data, "analyzer")?;
    config.control_plane.data_dir = folder(data, "control-plane")?;
    config.core.data_dir = folder(data, "core")?;
    // Analytics without a login only where nobody else can reach them.
    config.analyzer.open &= config.mode == Mode::Demo && config.analyzer.listen.ip().is_loopback();
    Ok(())
}

fn use_free_ports(config: &mut Config) {
    let free = |address: &mut SocketAddr| address.set_port(0);
    free(&mut config.core.public);
    free(&mut config.core.private);
    free(&mut config.core.admin);
    free(&mut config.control_plane.listen);
    free(&mut config.analyzer.listen);
}
