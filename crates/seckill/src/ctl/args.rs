//! What can be said to `seckill ctl`: ops' command line. It parses; nothing is sent from here.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Where the control plane is, who calls, and how the answer looks.
#[derive(Debug, Args)]
pub struct CtlArgs {
    /// The control plane's listener; of several any one: a stand-by says who leads, and the order goes there.
    #[arg(long, global = true, default_value = "http://127.0.0.1:8090", env = "SECKILL_CONTROL", value_name = "URL")]
    pub control: String,
    /// Bearer token [default: an operator's, of the built-in issuer of the data directory].
    #[arg(long, global = true, env = "SECKILL_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// How answers look.
    #[arg(long, short, global = true, value_enum, default_value = "table")]
    pub output: Output,
    /// What to do.
    #[command(subcommand)]
    pub command: CtlCommand,
}

/// How an answer looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// The answer of the REST as it is.
    Json,
    /// For people.
    Table,
}

/// `seckill ctl …`.
#[derive(Debug, Subcommand)]
pub enum CtlCommand {
    /// The plan: every product's tier with its reason, or one product.
    Plan {
        /// Only this product.
        product: Option<String>,
    },
    /// Generations of the last hour, newest first.
    Generations {
        /// At most so many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Why a product is where it is: each decision of the last hour with the numbers behind it.
    Why {
        /// The product.
        product: String,
    },
    /// Overrides: an operator's tier with an end and a reason.
    #[command(subcommand)]
    Override(OverrideCommand),
    /// Stops automatic moves until thawed; overrides and sale starts still work.
    Freeze {
        /// Why, for the audit log.
        #[arg(long, required_unless_present = "off")]
        reason: Option<String>,
        /// Lets them go on.
        #[arg(long)]
        off: bool,
    },
    /// Refuses new purchases of a sale or a product at every core; payments go on. Without a name it lists what is
    /// paused.
    Pause(PauseArgs),
    /// The planner's numbers.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Plans a recorded sale again under a changed policy and shows what would differ. Nothing is called.
    Replay {
        /// The record (`control_plane.record` names the folder).
        file: PathBuf,
        /// The changed policy (TOML).
        #[arg(long, value_name = "FILE")]
        policy: PathBuf,
    },
    /// The cores: what each holds, and its last trouble.
    Cores,
    /// Which control plane leads.
    Leader,
    /// The audit log: who did what, when and why.
    Audit {
        /// After this row, or from this time on (RFC 3339) [default: the beginning].
        #[arg(long)]
        since: Option<String>,
        /// At most so many rows.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Prints a script that completes these commands in a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// `seckill ctl override …`.
#[derive(Debug, Subcommand)]
pub enum OverrideCommand {
    /// Sets a product's tier.
    Set {
        /// The product.
        product: String,
        /// db, redis or queue.
        tier: types::Tier,
        /// For how long, 10s to 24h.
        #[arg(long = "for", value_name = "DURATION")]
        ttl: String,
        /// Why, for the audit log.
        #[arg(long)]
        reason: String,
        /// Waits until every core has moved.
        #[arg(long)]
        wait: bool,
    },
    /// Takes a product's override back.
    Rm {
        /// The product.
        product: String,
    },
    /// Lists overrides in force.
    Ls,
}

/// `seckill ctl pause`.
#[derive(Debug, Args)]
pub struct PauseArgs {
    /// A sale.
    #[arg(long, conflicts_with = "product")]
    pub sale: Option<String>,
    /// A product.
    #[arg(long)]
    pub product: Option<String>,
    /// Why, for the audit log.
    #[arg(long)]
    pub reason: Option<String>,
    /// Takes purchases again.
    #[arg(long)]
    pub off: bool,
}

/// `seckill ctl policy …`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Prints the policy in force as TOML, to be changed and applied.
    Show,
    /// What a changed policy would change: numbers, and the moves of the next tick.
    Diff {
        /// The policy (TOML).
        file: PathBuf,
    },
    /// Sets a changed policy.
    Apply {
        /// The policy (TOML).
        file: PathBuf,
        /// Why, for the audit log.
        #[arg(long)]
        reason: String,
    },
    /// Versions, newest first.
    Versions,
}
