//! All four services in one process: built in the order in which they need each other, run and ended
//! together. It knows no provider.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use eventlog::EventLog;
use tokio_util::sync::CancellationToken;
use types::Clock;

use crate::config::Config;
use crate::identity::DemoIssuer;
use crate::overview::{Overview, Sources};
use crate::tasks::Tasks;
use crate::telemetry;
use crate::wire::Site;

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
    tasks: Tasks,
    /// Cancelled when the process shall end, also by a service that failed.
    pub shutdown: CancellationToken,
}

impl House {
    /// Builds everything (files opened, listeners bound), then starts it.
    pub async fn open(mut config: Config, clock: Arc<dyn Clock>, any_port: bool) -> anyhow::Result<Self> {
        if any_port {
            use_free_ports(&mut config);
        }
        let mut site = Site::open(config, clock.clone())?;
        let core = site.core().await?;
        let private = core.handle().private();
        site.config.control_plane.cores = vec![format!("http://{private}")];
        let control_plane = site.control_plane().await?;
        let overview = Overview::new();
        // The page asks nobody who he is, so it is only there where nobody else can reach it.
        let open = site.config.analyzer.listen.ip().is_loopback();
        let analyzer = site.analyzer(if open { overview.router() } else { Router::new() }).await?;
        let collector = site.collector().await?;
        let Site { log, issuer, outside, metrics, .. } = site;

        let stop = CancellationToken::new();
        let mut house = Self {
            collector: collector.handle(),
            analyzer: analyzer.handle(),
            control_plane: control_plane.handle(),
            core: core.handle(),
            issuer,
            log,
            tasks: Tasks::new(stop.clone()),
            shutdown: stop.clone(),
        };
        house.tasks.spawn("collector", collector.run(stop.clone()));
        house.tasks.spawn("analyzer", analyzer.run(stop.clone()));
        house.tasks.spawn("control-plane", control_plane.run(stop.clone()));
        house.tasks.spawn("seckill-core", core.run(stop.clone()));
        let sources = Sources {
            collector: house.collector.clone(),
            analyzer: house.analyzer.clone(),
            control_plane: house.control_plane.clone(),
            core: house.core.clone(),
            clock,
        };
        let fold = telemetry::upkeep(metrics, stop.clone());
        house.tasks.spawn_endless("telemetry", fold);
        house.tasks.spawn_endless("identity", outside.run(stop.clone()));
        house.tasks.spawn_endless("overview", overview.follow(sources, stop));
        Ok(house)
    }

    /// Asks all services to end and waits for them; the first failure is the result.
    pub async fn close(self) -> anyhow::Result<()> {
        self.tasks.close().await
    }
}

fn use_free_ports(config: &mut Config) {
    let free = |address: &mut SocketAddr| address.set_port(0);
    free(&mut config.core.public);
    free(&mut config.core.private);
    free(&mut config.core.admin);
    free(&mut config.control_plane.listen);
    free(&mut config.analyzer.listen);
}
