//! The command line: what there is to say, and in which words.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::telemetry::LogFormat;

/// Flash-sale platform: finds hot products in the access log and moves each to the purchase path that fits.
#[derive(Debug, Parser)]
#[command(name = "seckill", version, about, max_term_width = 110)]
pub struct Cli {
    /// Configuration file (TOML).
    #[arg(long, short, global = true, env = "SECKILL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where everything that must last is kept [default: data].
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Everything in one process, with simulated shoppers and a real trace behind them.
    Demo(DemoArgs),
    /// Everything in one process on embedded parts, reading your own access log.
    AllInOne(AllInOneArgs),
    /// The collector as a process of its own, on Kafka; or says what it makes of a log, or tries its dead letters again.
    Collect(CollectArgs),
    /// The analyzer as a process of its own, on Kafka.
    Analyze,
    /// The control plane as a process of its own, on Kafka.
    Control,
    /// The core as a process of its own, on Kafka and the configured stock and lease stores.
    Core,
    /// The rolling top 1 % of any access log, without servers.
    Top(TopArgs),
    /// Checks the invariants of stock and orders in a data directory.
    Audit(AuditArgs),
    /// Administers sales through a core's admin listener.
    #[command(subcommand)]
    Sale(SaleCommand),
    /// Compares the shop's own book of orders with ours and prints what differs.
    Reconcile(ReconcileArgs),
    /// Issues a token of the built-in issuer (demo and development only).
    Token(TokenArgs),
    /// Checks or shows the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// `seckill demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Ends after this much real time with a report and the auditor's verdict [default: until Ctrl-C].
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub run_for: Option<std::time::Duration>,
    /// Runs time this many times as fast, event time and waiting times alike.
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    pub speed: f64,
    /// Seed of shoppers, crowds and payments; the same seed gives the same shoppers.
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Background traffic from the real trace, in requests per second of event time.
    #[arg(long, default_value_t = 200, value_name = "PER_SECOND")]
    pub background: u32,
    /// The sale to sell [default: the built-in example sale].
    #[arg(long, value_name = "FILE")]
    pub sale: Option<PathBuf>,
    /// Runs on real Kafka, Redis, MariaDB and Filebeat, started for it (script/setup-servers installs them).
    #[arg(long)]
    pub real: bool,
    /// Listens on free ports instead of the usual ones.
    #[arg(long)]
    pub any_port: bool,
}

/// `seckill all-in-one`.
#[derive(Debug, Args)]
pub struct AllInOneArgs {
    /// The access log to follow (Nginx combined or the edge's JSON); may be given several times.
    #[arg(long = "log", required = true, value_name = "PATH")]
    pub logs: Vec<PathBuf>,
    /// Reads a log from its beginning instead of its end.
    #[arg(long)]
    pub from_start: bool,
    /// Applies this sale at start.
    #[arg(long, value_name = "FILE")]
    pub sale: Option<PathBuf>,
    /// Ends after this much time.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub run_for: Option<std::time::Duration>,
    /// Listens on free ports instead of the usual ones.
    #[arg(long)]
    pub any_port: bool,
}

/// `seckill collect`.
#[derive(Debug, Args)]
pub struct CollectArgs {
    /// Says of each line of this log what it becomes and why, and of all of them what they come to; `-` is standard
    /// input, a name ending in .gz is unpacked. Nothing is collected. Times are judged as if the log were read now; lines
    /// that stand in a shipper's records are taken for what topic access-log holds, so that repeats are told.
    #[arg(long, value_name = "FILE")]
    pub explain: Option<PathBuf>,
    /// Prints JSON, a line for each line and one for the summary.
    #[arg(long, requires = "explain")]
    pub json: bool,
    /// Leaves the lines out and prints the summary alone.
    #[arg(long, requires = "explain")]
    pub summary: bool,
    /// What else to do.
    #[command(subcommand)]
    pub command: Option<CollectCommand>,
}

/// `seckill collect …`.
#[derive(Debug, Subcommand)]
pub enum CollectCommand {
    /// Decodes dead letters again, after a format was put right, and publishes what are events now, once. The
    /// collector must not run meanwhile.
    ReplayDeadLetters(ReplayArgs),
}

/// `seckill collect replay-dead-letters`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Only those that died of this (`bad_time`, `truncated`, …); `future` and `ancient` are only tried by name.
    #[arg(long, value_parser = dead_reason)]
    pub reason: Option<collector::DeadReason>,
    /// Only those found at or after this moment (RFC 3339).
    #[arg(long)]
    pub since: Option<types::Timestamp>,
    /// Says what would happen; nothing is published and nothing changes.
    #[arg(long)]
    pub dry_run: bool,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

/// `seckill top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Access logs, read in the order of their first lines; `-` is standard input; names ending in .gz are unpacked.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Length of the window, whole seconds.
    #[arg(long, default_value = "60s", value_parser = whole_seconds)]
    pub window: std::time::Duration,
    /// Distance between window ends, whole seconds.
    #[arg(long, default_value = "1s", value_parser = whole_seconds)]
    pub slide: std::time::Duration,
    /// Counts every product view once: no weights, floor, bot filter or visitor cap.
    #[arg(long)]
    pub raw: bool,
    /// One JSON line per final window instead of a table of the last one.
    #[arg(long)]
    pub json: bool,
    /// How far out of order lines may stand: later ones are dropped and counted, and a window is final (and
    /// printed) this much after its end.
    #[arg(long, default_value = "10m", value_parser = whole_seconds)]
    pub lateness: std::time::Duration,
}

/// `seckill audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Also demands what holds only when nothing is under way: no open ticket, no stranded unit.
    #[arg(long)]
    pub at_rest: bool,
    /// Prints the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Where the admin listener is and who calls.
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// The core's admin listener.
    #[arg(long, default_value = "http://127.0.0.1:8082", value_name = "URL")]
    pub admin: String,
    /// Bearer token [default: one of the built-in issuer of the data directory].
    #[arg(long, env = "SECKILL_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

/// `seckill sale`.
#[derive(Debug, Subcommand)]
pub enum SaleCommand {
    /// Creates a sale or changes it, from a TOML file.
    Apply {
        /// The sale.
        file: PathBuf,
        /// Where to.
        #[command(flatten)]
        at: AdminArgs,
    },
    /// Lists the sales.
    Ls {
        /// Where from.
        #[command(flatten)]
        at: AdminArgs,
    },
    /// Refuses new purchases until resumed; payments go on.
    Pause {
        /// The sale's name.
        sale: String,
        /// Where to.
        #[command(flatten)]
        at: AdminArgs,
    },
    /// Takes purchases again.
    Resume {
        /// The sale's name.
        sale: String,
        /// Where to.
        #[command(flatten)]
        at: AdminArgs,
    },
    /// Ends a sale for ever.
    Close {
        /// The sale's name.
        sale: String,
        /// Where to.
        #[command(flatten)]
        at: AdminArgs,
    },
}

/// `seckill reconcile`.
#[derive(Debug, Args)]
pub struct ReconcileArgs {
    /// The shop's book: a CSV with the columns order, state, amount (minor units) and currency; `-` is standard input.
    #[arg(value_name = "FILE")]
    pub book: PathBuf,
    /// Whose orders are compared.
    #[arg(long, value_name = "SALE")]
    pub sale: String,
    /// Where to.
    #[command(flatten)]
    pub at: AdminArgs,
}

/// `seckill token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// A shopper's token for this buyer.
    #[arg(long, conflicts_with = "role", required_unless_present = "role")]
    pub buyer: Option<String>,
    /// A token with this role (viewer, merchandiser, operator, admin); may be given several times.
    #[arg(long)]
    pub role: Vec<types::Role>,
    /// Whom a role's token names [default: the role].
    #[arg(long, requires = "role")]
    pub subject: Option<String>,
    /// How long it is good, at most 30 days.
    #[arg(long, default_value = "8h", value_parser = duration)]
    pub ttl: std::time::Duration,
}

/// `seckill config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Says whether the configuration is right, and what is wrong with it where; warns of path patterns that
    /// matched nothing so far.
    Check {
        /// Looks for patterns that match nothing in this log instead of in what the collector has read.
        #[arg(long, value_name = "FILE")]
        log: Option<PathBuf>,
    },
    /// Prints the configuration.
    Show {
        /// Says for each value which layer it came from.
        #[arg(long)]
        origin: bool,
    },
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    types::time::duration_text::parse(text).map_err(|e| e.to_string())
}

fn dead_reason(text: &str) -> Result<collector::DeadReason, String> {
    collector::DeadReason::named(text).ok_or_else(|| {
        let all: Vec<_> = collector::DeadReason::ALL.iter().map(|reason| reason.as_str()).collect();
        format!("{text:?} is none of {}", all.join(", "))
    })
}

fn whole_seconds(text: &str) -> Result<std::time::Duration, String> {
    let d = duration(text)?;
    if d.is_zero() || d.subsec_millis() != 0 {
        return Err(format!("{text:?} is not a whole number of seconds above 0"));
    }
    Ok(d)
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(n) if (0.1..=20.0).contains(&n) => Ok(n),
        _ => Err(format!("{text:?} is not a number from 0.1 to 20")),
    }
}
