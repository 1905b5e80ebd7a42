//! `seckill collect|analyze|control|core`: one service as a process of its own, on the servers that the
//! configuration names.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, ensure};
use axum::Router;
use axum::routing::get;
use http_kit::Limits;
use tokio_util::sync::CancellationToken;
use types::SystemClock;

use super::say;
use crate::config::{Config, EventLogProvider};
use crate::tasks::Tasks;
use crate::wire::Site;
use crate::{shutdown, telemetry};

/// The services that can run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Lines in.
    Collect,
    /// Heat.
    Analyze,
    /// Plans.
    Control,
    /// Purchases.
    Core,
}

impl Service {
    const fn name(self) -> &'static str {
        match self {
            Self::Collect => "collector",
            Self::Analyze => "analyzer",
            Self::Control => "control-plane",
            Self::Core => "seckill-core",
        }
    }

    /// Where health and metrics are served, unless the configuration says; collectors and cores have a private
    /// listener of their own.
    const fn telemetry_port(self) -> Option<u16> {
        match self {
            Self::Analyze => Some(8084),
            Self::Control => Some(8085),
            Self::Collect | Self::Core => None,
        }
    }
}

/// Runs until a signal.
pub async fn run(service: Service, config: Config) -> anyhow::Result<ExitCode> {
    ensure!(
        config.event_log.provider == EventLogProvider::Kafka,
        "event_log.provider: the embedded event log belongs to one process, so a service by itself needs \"kafka\"; \
         `seckill all-in-one` runs everything in one process"
    );
    let telemetry_at = config.telemetry.listen;
    let site = Site::open(config, Arc::new(SystemClock::new()))?;
    let stop = CancellationToken::new();
    shutdown::on_signal(stop.clone())?;
    let mut tasks = Tasks::new(stop.clone());
    match service {
        Service::Collect => {
            let mut collector = site.collector().await?;
            let routes = telemetry::router(site.metrics.clone());
            let address = collector.listen(site.config.collector.listen, routes).await?;
            say(format!("accounting      http://{address}/v1/accounting"));
            say(format!("metrics         http://{address}/metrics"));
            tasks.spawn(service.name(), collector.run(stop.clone()));
        }
        Service::Analyze => {
            let analyzer = site.analyzer(Router::new()).await?;
            say(format!("analytics       http://{}/v1/top", analyzer.handle().address()));
            tasks.spawn(service.name(), analyzer.run(stop.clone()));
        }
        Service::Control => {
            let control_plane = site.control_plane().await?;
            say(format!("operations      http://{}/v1/plan", control_plane.handle().address()));
            tasks.spawn(service.name(), control_plane.run(stop.clone()));
        }
        Service::Core => {
            let core = site.core().await?;
            let handle = core.handle();
            say(format!("shoppers        http://{}/v1/sales", handle.public()));
            say(format!("administration  http://{}/v1/sales", handle.admin()));
            say(format!("metrics         http://{}/metrics", handle.private()));
            tasks.spawn(service.name(), core.run(stop.clone()));
        }
    }
    if let Some(port) = service.telemetry_port() {
        let address = telemetry_at.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let listening = http_kit::bind(address).await.context("telemetry.listen")?;
        say(format!("metrics         http://{}/metrics", listening.address()));
        let routes = telemetry::router(site.metrics.clone()).route("/healthz", get(|| async { "alive" }));
        let ended = stop.clone();
        let listener = listening.serve(http_kit::harden(routes, Limits::default()), ended.cancelled_owned());
        tasks.spawn("telemetry listener", listener);
    }
    tasks.spawn_endless("identity", site.outside.clone().run(stop.clone()));
    tasks.spawn_endless("telemetry", telemetry::upkeep(site.metrics.clone(), stop.clone()));
    stop.cancelled().await;
    tasks.close().await?;
    Ok(ExitCode::SUCCESS)
}
