//! Chooses the providers that the configuration names and builds each service on them. The only file that
//! names a concrete provider. It decides nothing about heat, tiers or stock.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use analyzer::Analyzer;
use anyhow::Context;
use axum::Router;
use collector::Collector;
use control_plane::{ControlPlane, CoreToken, PlanStore, SqlitePlans};
use eventlog::{EventLog, MemoryLog, SqliteLog};
use identity::{Login, LoginSecret, OutsideTokens};
use metrics_exporter_prometheus::PrometheusHandle;
use seckill_core::stock::db::sqlite::{SqliteStore, SqliteStoreOptions};
use seckill_core::stock::redis::LeaseStore;
use seckill_core::stock::sql_store::SqlStore;
use seckill_core::{
    CallbackKeys, ExternalProvider, InProcessLeases, PaymentProviderKind, Payments, SeckillCore, SimulatedProvider,
    TicketSecret,
};
use types::{Authenticator, Clock};

use crate::config::{Config, EventLogProvider, LeasesProvider, Mode, PlanStoreProvider, StockProvider};
use crate::identity::{Callers, DemoIssuer};
use crate::secrets::{self, Secrets};
use crate::telemetry;

#[cfg(feature = "mysql")]
pub use control_plane::MariaPlansOptions as PlanDbOptions;
#[cfg(feature = "kafka")]
pub use eventlog::kafka::KafkaLogOptions as KafkaOptions;
#[cfg(feature = "mysql")]
pub use seckill_core::stock::db::mariadb::MariaStoreOptions as MariaDbOptions;
#[cfg(feature = "redis")]
pub use seckill_core::stock::redis::server::{NodeAddress as RedisNode, RedisLeasesOptions as RedisOptions};

/// Where the embedded stock store of a data directory lies.
fn stock_file(data_dir: &Path) -> PathBuf {
    data_dir.join("core").join("stock.sqlite")
}

/// The stock store as the auditor reads it: with code of its own.
pub fn audited_store(config: &Config) -> anyhow::Result<audit::stock::Store> {
    Ok(match config.stock.provider {
        StockProvider::Sqlite => {
            let file = stock_file(&config.data_dir);
            anyhow::ensure!(
                file.is_file(),
                "there is no stock store at {}; name its directory with --data",
                file.display()
            );
            audit::stock::Store::File(file)
        }
        #[cfg(feature = "mysql")]
        StockProvider::Mariadb => {
            let at = &config.stock.mariadb;
            let composed = || format!("mysql://{}@{}:{}/{}", at.user, at.host, at.port, at.database);
            let url = at.url.clone().unwrap_or_else(composed);
            audit::stock::Store::Server(audit::stock::Server::new(url, at.password_file.clone()))
        }
        #[cfg(not(feature = "mysql"))]
        StockProvider::Mariadb => anyhow::bail!("this program was built without MariaDB (feature `mysql`)"),
    })
}

/// What every service of a process is built on.
pub struct Site {
    /// The configuration, with each service's folder and secrets in it.
    pub config: Config,
    /// The event log.
    pub log: Arc<dyn EventLog>,
    /// The process's clock.
    pub clock: Arc<dyn Clock>,
    /// Signs demo tokens; believed in a demo alone.
    pub issuer: Arc<DemoIssuer>,
    /// Tokens of the configured issuers; to be run beside the services.
    pub outside: Arc<OutsideTokens>,
    /// The process's metrics.
    pub metrics: PrometheusHandle,
    callers: Arc<Callers>,
    secrets: Secrets,
}

impl Site {
    /// Opens the data directory, the secrets and the event log.
    pub fn open(mut config: Config, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let data = config.data_dir.clone();
        fs::create_dir_all(&data).with_context(|| format!("cannot create the data directory {}", data.display()))?;
        let secrets = Secrets::load(&config.secrets, &data, config.mode.makes_secrets())?;
        let metrics = telemetry::metrics()?;
        let issuer = Arc::new(DemoIssuer::new(&secrets.issuer, secrets.control.clone(), clock.clone()));
        let session = secrets.session.as_ref().map(|secret| LoginSecret::new(secret.bytes())).transpose();
        let outside = OutsideTokens::new(&config.identity, session.context("secrets.session_file")?, &clock);
        let outside = Arc::new(outside.context("identity.issuers")?);
        let built_in = (config.mode == Mode::Demo).then(|| issuer.clone());
        let callers = Callers::new(secrets.control.clone(), built_in, outside.clone());
        let callers = Arc::new(callers.with_edges(secrets.edge.clone()));
        place_in(&data, &mut config, &secrets)?;
        let log = event_log(&config, clock.clone()).context("event_log")?;
        Ok(Self { config, log, clock, issuer, outside, metrics, callers, secrets })
    }

    fn authenticator(&self) -> Arc<dyn Authenticator> {
        self.callers.clone()
    }

    /// `/auth/…` for a listener that serves a dashboard; nothing where nobody can log in.
    pub fn login(&self) -> anyhow::Result<Router> {
        let options = &self.config.identity.login;
        let Some(name) = &options.issuer else { return Ok(Router::new()) };
        let issuer = self.outside.issuer(name).context("identity.login.issuer is none of identity.issuers")?;
        let sessions = self.outside.sessions().context("secrets.session_file is not set")?;
        let secret = options.client_secret_file.as_deref().map(secrets::read).transpose();
        let secret = secret.context("identity.login.client_secret_file")?.map(|secret| secret.text()).transpose()?;
        Ok(Arc::new(Login::new(options.clone(), secret, issuer, sessions)).router())
    }

    /// Purchases, on the stock and lease stores that are configured.
    pub async fn core(&self) -> anyhow::Result<SeckillCore> {
        let core = SeckillCore::new(
            self.config.core.clone(),
            stock_store(&self.config).await.context("stock")?,
            lease_store(&self.config, self.clock.clone()).await.context("leases")?,
            self.log.clone(),
            self.clock.clone(),
            self.authenticator(),
            TicketSecret::new(self.secrets.ticket.bytes())?,
            telemetry::router(self.metrics.clone()),
        );
        let core = core.await.context("seckill-core")?;
        Ok(core.with_payments(payments(&self.config.core, &self.secrets, self.clock.clone())?))
    }

    /// Plans, for the cores that are configured.
    pub async fn control_plane(&self) -> anyhow::Result<ControlPlane> {
        let control_plane = ControlPlane::new(
            self.config.control_plane.clone(),
            plan_store(&self.config).await.context("plan_store")?,
            self.log.clone(),
            self.clock.clone(),
            self.authenticator(),
            CoreToken::new(self.secrets.control.text()?)?,
            self.login()?,
        );
        control_plane.await.context("control-plane")
    }

    /// Heat, with `extra` routes on its listener.
    pub async fn analyzer(&self, extra: Router) -> anyhow::Result<Analyzer> {
        let options = self.config.analyzer.clone();
        let extra = extra.merge(self.login()?);
        let analyzer = Analyzer::new(options, self.log.clone(), self.clock.clone(), self.authenticator(), extra);
        analyzer.await.context("analyzer")
    }

    /// Lines in.
    pub async fn collector(&self) -> anyhow::Result<Collector> {
        let options = self.config.collector.clone();
        Collector::new(options, self.log.clone(), self.clock.clone()).await.context("collector")
    }
}

fn event_log(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Arc<dyn EventLog>> {
    Ok(match config.event_log.provider {
        EventLogProvider::Memory => Arc::new(MemoryLog::with_clock(clock)),
        EventLogProvider::Sqlite => {
            let dir = folder(&config.data_dir, "event-log")?;
            let options = eventlog::SqliteLogOptions::default();
            Arc::new(SqliteLog::open_with_clock(&dir.join("log.sqlite"), options, clock)?)
        }
        #[cfg(feature = "kafka")]
        EventLogProvider::Kafka => {
            let options = config.event_log.kafka.clone();
            Arc::new(eventlog::kafka::KafkaLog::connect(options, clock)?)
        }
        #[cfg(not(feature = "kafka"))]
        EventLogProvider::Kafka => anyhow::bail!("this program was built without Kafka (feature `kafka`)"),
    })
}

async fn stock_store(config: &Config) -> anyhow::Result<Arc<dyn SqlStore>> {
    Ok(match config.stock.provider {
        StockProvider::Sqlite => {
            folder(&config.data_dir, "core")?;
            Arc::new(SqliteStore::open(&stock_file(&config.data_dir), SqliteStoreOptions::default())?)
        }
        #[cfg(feature = "mysql")]
        StockProvider::Mariadb => {
            let options = config.stock.mariadb.clone();
            Arc::new(seckill_core::stock::db::mariadb::MariaStore::connect(options).await?)
        }
        #[cfg(not(feature = "mysql"))]
        StockProvider::Mariadb => anyhow::bail!("this program was built without MariaDB (feature `mysql`)"),
    })
}

async fn plan_store(config: &Config) -> anyhow::Result<Arc<dyn PlanStore>> {
    Ok(match config.plan_store.provider {
        PlanStoreProvider::Sqlite => {
            let dir = config.control_plane.data_dir.clone();
            Arc::new(tokio::task::spawn_blocking(move || SqlitePlans::open(&dir)).await??)
        }
        #[cfg(feature = "mysql")]
        PlanStoreProvider::Mariadb => Arc::new(control_plane::MariaPlans::connect(&config.plan_store.mariadb).await?),
        #[cfg(not(feature = "mysql"))]
        PlanStoreProvider::Mariadb => anyhow::bail!("this program was built without MariaDB (feature `mysql`)"),
    })
}

async fn lease_store(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Arc<dyn LeaseStore>> {
    Ok(match config.leases.provider {
        LeasesProvider::InProcess => Arc::new(InProcessLeases::new()),
        #[cfg(feature = "redis")]
        LeasesProvider::Redis => {
            let options = config.leases.redis.clone();
            Arc::new(seckill_core::stock::redis::server::RedisLeases::connect(options, clock).await?)
        }
        #[cfg(not(feature = "redis"))]
        LeasesProvider::Redis => anyhow::bail!("this program was built without Redis (feature `redis`)"),
    })
}

fn payments(core: &seckill_core::Options, secrets: &Secrets, clock: Arc<dyn Clock>) -> anyhow::Result<Payments> {
    let previous = secrets.previous_payment.as_ref().map(|secret| secret.bytes().to_vec());
    let keys = CallbackKeys::new(secrets.payment.bytes(), previous).context("secrets")?;
    Ok(match core.payment_provider {
        PaymentProviderKind::External => Payments::new(ExternalProvider, keys),
        PaymentProviderKind::Simulated => {
            Payments::new(SimulatedProvider::new(core.payment, core.seed, clock, keys.clone()), keys)
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
