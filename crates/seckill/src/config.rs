//! Layered configuration: defaults, one TOML file, `SECKILL_*` environment, flags; later layers win.
//! Unknown keys are errors, and for every value it can say where it came from.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::{Dict, Value};
use serde::{Deserialize, Serialize};

use crate::secrets::SecretFiles;
#[cfg(feature = "kafka")]
use crate::wire::KafkaOptions;
#[cfg(feature = "redis")]
use crate::wire::RedisOptions;
#[cfg(feature = "mysql")]
use crate::wire::{MariaDbOptions, PlanDbOptions};

/// Prefix of environment variables; `__` separates levels: `SECKILL_CORE__PUBLIC=0.0.0.0:8080`.
pub const ENV_PREFIX: &str = "SECKILL_";
/// Variables of the command line itself: `SECKILL_CONFIG` names the file, `SECKILL_TOKEN` a token, `SECKILL_CONTROL` a
/// control plane, `SECKILL_LOG` filters the log.
const NOT_SETTINGS: [&str; 4] = ["config", "token", "control", "log"];
/// Keys whose values are never shown.
const HIDDEN: [&str; 2] = ["visitor_key", "secret"];

/// How strict the installation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// On a laptop: secrets are made, the built-in issuer signs tokens, analytics are open on loopback.
    Demo,
    /// Refuses made secrets and the built-in issuer.
    Production,
}

impl Mode {
    /// Whether secrets that no file holds may be made.
    pub const fn makes_secrets(self) -> bool {
        matches!(self, Self::Demo)
    }
}

/// Which provider carries the event log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventLogProvider {
    /// Embedded, durable, one process.
    #[default]
    Sqlite,
    /// Nothing survives the process; for trying things out.
    Memory,
    /// Kafka: several processes, several machines.
    Kafka,
}

/// The event log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventLogConfig {
    /// Its provider.
    pub provider: EventLogProvider,
    /// Where Kafka is, if it is the provider.
    #[cfg(feature = "kafka")]
    pub kafka: KafkaOptions,
}

/// Which provider keeps stock and orders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StockProvider {
    /// Embedded, durable, one process.
    #[default]
    Sqlite,
    /// MariaDB or MySQL: several cores.
    Mariadb,
}

/// Stock and orders.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StockConfig {
    /// Their provider.
    pub provider: StockProvider,
    /// Where MariaDB is, if it is the provider.
    #[cfg(feature = "mysql")]
    pub mariadb: MariaDbOptions,
}

/// Which provider keeps the plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlanStoreProvider {
    /// Embedded, durable: control planes of one machine.
    #[default]
    Sqlite,
    /// MariaDB or MySQL: control planes on several machines, of which one leads.
    Mariadb,
}

/// The plan, its generations, overrides, policy and audit log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanStoreConfig {
    /// Their provider.
    pub provider: PlanStoreProvider,
    /// Where MariaDB is, if it is the provider; another database than the stock's.
    #[cfg(feature = "mysql")]
    pub mariadb: PlanDbOptions,
}

/// Which provider grants lent units at memory speed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeasesProvider {
    /// In this process's memory: one core.
    #[default]
    InProcess,
    /// Redis or Redis Cluster: several cores.
    Redis,
}

/// The lease store.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LeasesConfig {
    /// Its provider.
    pub provider: LeasesProvider,
    /// Where Redis is, if it is the provider.
    #[cfg(feature = "redis")]
    pub redis: RedisOptions,
}

/// The private listener (health, metrics) of a process that runs one service which has none of its own.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Where it listens. Unset: on loopback, port 8084 for `analyze`, 8085 for `control`.
    pub listen: Option<SocketAddr>,
}

/// The whole configuration of one process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How strict.
    pub mode: Mode,
    /// Where everything that must last is kept; services have folders of their own in it.
    pub data_dir: PathBuf,
    /// Secret files.
    pub secrets: SecretFiles,
    /// Who is believed, and how dashboards log in.
    pub identity: identity::IdentityOptions,
    /// The event log.
    pub event_log: EventLogConfig,
    /// Stock and orders.
    pub stock: StockConfig,
    /// The plan.
    pub plan_store: PlanStoreConfig,
    /// The lease store.
    pub leases: LeasesConfig,
    /// Health and metrics.
    pub telemetry: TelemetryConfig,
    /// Lines in.
    pub collector: collector::Options,
    /// Heat.
    pub analyzer: analyzer::Options,
    /// Plans.
    pub control_plane: control_plane::Options,
    /// Purchases.
    pub core: seckill_core::Options,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Demo,
            data_dir: PathBuf::from("data"),
            secrets: SecretFiles::default(),
            identity: identity::IdentityOptions::default(),
            event_log: EventLogConfig::default(),
            stock: StockConfig::default(),
            plan_store: PlanStoreConfig::default(),
            leases: LeasesConfig::default(),
            telemetry: TelemetryConfig::default(),
            collector: collector::Options::default(),
            analyzer: analyzer::Options::default(),
            control_plane: control_plane::Options::default(),
            core: seckill_core::Options::default(),
        }
    }
}

/// The layers, ready to be read as a [`Config`] or to be explained.
pub struct Layers(Figment);

impl Layers {
    /// Stacks defaults, the file (which must exist if named), the environment and `flags` (dotted path, value).
    pub fn stack(file: Option<&Path>, flags: &[(&str, Value)]) -> anyhow::Result<Self> {
        let mut figment = Figment::from(Serialized::defaults(Config::default()));
        if let Some(path) = file {
            if !path.is_file() {
                return Err(anyhow!("configuration file {} does not exist or is no file", path.display()));
            }
            figment = figment.merge(Toml::file_exact(path));
        }
        figment = figment.merge(Env::prefixed(ENV_PREFIX).split("__").ignore(&NOT_SETTINGS));
        for (path, value) in flags {
            figment = figment.merge(Serialized::global(path, value).profile("default"));
        }
        Ok(Self(figment))
    }

    /// The configuration; the error says which key is wrong, why, and in which layer.
    pub fn config(&self) -> anyhow::Result<Config> {
        let config: Config = self.0.extract().map_err(|errors| {
            let lines: Vec<_> = errors.into_iter().map(|e| explain(&e)).collect();
            anyhow!("{}", lines.join("\n"))
        })?;
        config.check()?;
        Ok(config)
    }

    /// Each leaf as `path = value`, with the layer it came from; secrets hidden.
    pub fn origins(&self) -> anyhow::Result<Vec<(String, String, String)>> {
        let whole: Dict = self.0.extract()?;
        let mut leaves = Vec::new();
        for (key, value) in whole {
            flatten(&key, &value, &mut leaves);
        }
        Ok(leaves
            .into_iter()
            .map(|(path, text)| {
                let origin = self.0.find_metadata(&path).map_or_else(
                    || "default".to_owned(),
                    |m| match &m.source {
                        Some(figment::Source::File(file)) => file.display().to_string(),
                        _ if m.name.contains("environment") => format!("environment {}", env_name(&path)),
                        _ if m.name.contains("::") && m.name.contains("Config") => "default".to_owned(),
                        // Flags are the only other layer; figment calls it by the type of its values.
                        _ if m.name.contains("figment::value") => "command line".to_owned(),
                        _ => m.name.to_string(),
                    },
                );
                let hidden = path.rsplit('.').next().is_some_and(|leaf| HIDDEN.contains(&leaf));
                (path, if hidden { "(hidden)".to_owned() } else { text }, origin)
            })
            .collect())
    }
}

fn env_name(path: &str) -> String {
    format!("{ENV_PREFIX}{}", path.replace('.', "__").to_uppercase())
}

fn explain(e: &figment::Error) -> String {
    let path = if e.path.is_empty() { "(top level)".to_owned() } else { e.path.join(".") };
    let layer = e.metadata.as_ref().map_or_else(String::new, |m| {
        let source = m.source.as_ref().map_or_else(String::new, |s| format!(" {s}"));
        format!(" (in {}{source})", m.name)
    });
    format!("{path}: {}{layer}", e.kind)
}

fn flatten(path: &str, value: &Value, into: &mut Vec<(String, String)>) {
    match value {
        Value::Dict(_, dict) if !dict.is_empty() => {
            for (key, value) in dict {
                flatten(&format!("{path}.{key}"), value, into);
            }
        }
        other => {
            let text = serde_json::to_string(other).unwrap_or_else(|_| "?".to_owned());
            into.push((path.to_owned(), text));
        }
    }
}

impl Config {
    /// What no single field can know: each service's own check, and what the mode forbids.
    fn check(&self) -> anyhow::Result<()> {
        let mut wrong = Vec::new();
        let mut note = |room: &str, result: Result<(), types::Invalid>| {
            if let Err(e) = result {
                wrong.push(format!("{room}.{}: {}", e.what, e.why));
            }
        };
        note("collector", self.collector.check());
        note("analyzer", self.analyzer.check());
        note("control_plane", self.control_plane.check());
        note("core", self.core.check());
        note("identity", self.identity.check());
        if self.mode == Mode::Production && self.identity.issuers.is_empty() {
            wrong.push(
                "identity.issuers: production needs an external token issuer ([[identity.issuers]]); the built-in one \
                 is for demos"
                    .to_owned(),
            );
        }
        if self.mode == Mode::Production && self.identity.login.issuer.is_some() && self.secrets.session_file.is_none()
        {
            wrong.push(
                "secrets.session_file: dashboards log in, so their sessions need a secret of their own".to_owned(),
            );
        }
        if wrong.is_empty() { Ok(()) } else { Err(anyhow!("{}", wrong.join("\n"))) }
    }
}

#[cfg(test)]
#[expect(clippy::result_large_err, reason = "figment's own jail returns its error by value")]
mod tests {
    use super::*;
    use figment::Jail;

    #[test]
    fn later_layers_win_and_each_value_says_its_origin() {
        Jail::expect_with(|jail| {
            jail.create_file("s.toml", "data_dir = \"/srv/a\"\n[collector]\nfrom_start = true\n")?;
            jail.set_env("SECKILL_COLLECTOR__PARTITIONS", "4");
            jail.set_env("SECKILL_CONFIG", "s.toml");
            jail.set_env("SECKILL_LOG", "info");
            jail.set_env("SECKILL_CONTROL", "http://127.0.0.1:8090");
            let flag = [("data_dir", Value::from("/srv/b"))];
            let layers = Layers::stack(Some(Path::new("s.toml")), &flag).expect("they stack");
            let config = layers.config().expect("a good configuration");
            assert_eq!(config.data_dir, PathBuf::from("/srv/b"));
            assert!(config.collector.from_start);
            assert_eq!(config.collector.partitions, 4);
            let origins = layers.origins().expect("explained");
            let of = |path: &str| origins.iter().find(|o| o.0 == path).map(|o| o.2.clone()).unwrap_or_default();
            assert!(of("collector.from_start").ends_with("s.toml"), "{}", of("collector.from_start"));
            assert_eq!(of("collector.partitions"), "environment SECKILL_COLLECTOR__PARTITIONS");
            assert_eq!(of("mode"), "default");
            assert_eq!(of("data_dir"), "command line");
            Ok(())
        });
    }

    #[test]
    fn unknown_keys_and_wrong_units_name_their_path() {
        Jail::expect_with(|jail| {
            jail.create_file("s.toml", "[collector]\nfrm_start = true\n")?;
            let error = Layers::stack(Some(Path::new("s.toml")), &[]).expect("stacks").config().expect_err("refused");
            assert!(error.to_string().contains("collector") && error.to_string().contains("frm_start"), "{error}");
            jail.create_file("s.toml", "[collector]\npoll = 50\n")?;
            let error = Layers::stack(Some(Path::new("s.toml")), &[]).expect("stacks").config().expect_err("refused");
            assert!(error.to_string().contains("collector.poll"), "{error}");
            Ok(())
        });
    }

    #[test]
    fn the_example_of_production_is_right() {
        Jail::expect_with(|_| {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/identity.toml");
            let config = Layers::stack(Some(&file), &[]).expect("stacks").config().expect("it starts");
            assert_eq!((config.mode, config.identity.issuers.len()), (Mode::Production, 2));
            Ok(())
        });
    }

    #[test]
    fn production_refuses_what_a_demo_makes() {
        Jail::expect_with(|jail| {
            jail.set_env("SECKILL_MODE", "production");
            let error = Layers::stack(None, &[]).expect("stacks").config().expect_err("refused");
            assert!(error.to_string().contains("identity.issuers"), "{error}");
            jail.create_file(
                "s.toml",
                "[[identity.issuers]]\nissuer = \"https://login.shop.example\"\naudience = \"seckill\"\n\
                 everybody = [\"shopper\"]\nroles = { shop-ops = \"operator\" }\n",
            )?;
            let config = Layers::stack(Some(Path::new("s.toml")), &[]).expect("stacks").config().expect("it starts");
            assert_eq!(config.identity.issuers[0].roles["shop-ops"], types::Role::Operator);
            jail.set_env("SECKILL_IDENTITY__LOGIN__ISSUER", "https://login.shop.example");
            let error = Layers::stack(Some(Path::new("s.toml")), &[]).expect("stacks").config().expect_err("refused");
            let text = error.to_string();
            assert!(text.contains("identity.login.client_id") && text.contains("secrets.session_file"), "{text}");
            Ok(())
        });
    }
}
