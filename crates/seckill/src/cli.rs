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
    /// Imports a catalogue or adjustments of stock from a CSV file, all of it or nothing.
    #[command(subcommand)]
    Import(ImportCommand),
    /// Operates the control plane: plan, overrides, freeze, pause, policy, cores, audit log, why.
    Ctl(crate::ctl::args::CtlArgs),
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
    /// Puts a real Nginx in front (`edge/`): shoppers go through it, and the log is its own. Time runs at its own speed.
    #[arg(long)]
    pub edge: bool,
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
    /// Access logs, read in the order of their first lines; `-` is standard input; gzip'd ones are unpacked.
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
    /// One CSV row per hot page and final window instead of a table of the last one.
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// Only the window that ends at this time, such as 2026-11-11T00:01:00Z; reading stops there.
    #[arg(long, value_name = "TIME", value_parser = whole_second)]
    pub at: Option<types::Timestamp>,
    /// What the lines look like, as in `collector.log_format`: auto, combined, edge, or the text of Nginx's log_format.
    #[arg(long, default_value = "auto", value_name = "FORMAT")]
    pub format: String,
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

/// A call to the admin listener and how its answer is shown.
#[derive(Debug, Args)]
pub struct AdminCall {
    /// Where to and as whom.
    #[command(flatten)]
    pub at: AdminArgs,
    /// How the answer is shown: a table, or the JSON that the listener answered.
    #[arg(long, value_enum, default_value = "table")]
    pub output: Output,
}

/// How an answer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people; what is refused stands on standard error.
    Table,
    /// The listener's own answer, refusals too.
    Json,
}

/// `seckill sale`. Exit codes: 0 done, 1 refused, 2 not asked or not answered.
#[derive(Debug, Subcommand)]
pub enum SaleCommand {
    /// Creates a sale or changes it, from a TOML file.
    Apply {
        /// The sale.
        file: PathBuf,
        #[command(flatten)]
        call: AdminCall,
    },
    /// Lists the sales that are not closed.
    Ls {
        #[command(flatten)]
        call: AdminCall,
    },
    /// Shows one sale, closed or not, with its stock.
    Show {
        /// The sale's name.
        sale: String,
        #[command(flatten)]
        call: AdminCall,
    },
    /// Refuses new purchases until resumed; payments go on.
    Pause {
        /// The sale's name.
        sale: String,
        #[command(flatten)]
        call: AdminCall,
    },
    /// Takes purchases again.
    Resume {
        /// The sale's name.
        sale: String,
        #[command(flatten)]
        call: AdminCall,
    },
    /// Ends a sale for ever, once every unit that is lent has come home.
    Close {
        /// The sale's name.
        sale: String,
        #[command(flatten)]
        call: AdminCall,
    },
    /// Makes a new sale after the pattern of this one: its products, prices, limits and the stock they came with.
    Clone {
        /// The sale that is the pattern.
        sale: String,
        /// The new sale's name.
        name: String,
        /// When it opens: a local time such as 2026-11-27T09:00:00.
        #[arg(long, value_name = "LOCAL_TIME")]
        opens: String,
        /// When it closes.
        #[arg(long, value_name = "LOCAL_TIME")]
        closes: String,
        /// Whose local times these are [default: the pattern's zone].
        #[arg(long, value_name = "IANA_ZONE")]
        zone: Option<String>,
        /// Put behind every SKU; needed while the pattern is not closed.
        #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
        sku_suffix: Option<String>,
        #[command(flatten)]
        call: AdminCall,
    },
}

/// `seckill import`. Exit codes: 0 done, 1 refused (each wrong row is told), 2 not asked or not answered.
#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// Adds products to a sale, or changes those there; what the file does not name stays.
    Catalogue {
        /// `sku,name,price,currency,stock,limit` and optionally `initial_tier,pages`; `-` is standard input.
        file: PathBuf,
        /// Into which sale; with a window it is made if it is not there.
        #[arg(long, value_name = "SALE")]
        sale: String,
        /// IANA zone of a new sale's window.
        #[arg(long, value_name = "IANA_ZONE", requires = "opens")]
        zone: Option<String>,
        /// When a new sale opens: a local time such as 2026-11-27T09:00:00.
        #[arg(long, value_name = "LOCAL_TIME", requires = "closes")]
        opens: Option<String>,
        /// When it closes.
        #[arg(long, value_name = "LOCAL_TIME", requires = "zone")]
        closes: Option<String>,
        /// Says what would become of it and changes nothing.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        call: AdminCall,
    },
    /// Adds and removes units of a sale's products while it sells.
    Stock {
        /// `sku,delta,reason`; `-` is standard input.
        file: PathBuf,
        /// Of which sale.
        #[arg(long, value_name = "SALE")]
        sale: String,
        /// The import's name, at most 60 bytes: one name takes effect once [default: made from the file, so that the
        /// same file sent again changes nothing].
        #[arg(long)]
        key: Option<String>,
        /// Says what would become of it and changes nothing.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        call: AdminCall,
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

fn whole_second(text: &str) -> Result<types::Timestamp, String> {
    let at: types::Timestamp = text.parse().map_err(|e: types::Invalid| e.to_string())?;
    if at.millis() % 1000 != 0 {
        return Err(format!("{text:?} is within a second; windows end at whole seconds"));
    }
    Ok(at)
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(n) if (0.1..=20.0).contains(&n) => Ok(n),
        _ => Err(format!("{text:?} is not a number from 0.1 to 20")),
    }
}
