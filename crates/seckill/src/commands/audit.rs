//! `seckill audit`: the auditor on a data directory, with the shoppers' journals if there are any.

use std::process::ExitCode;

use types::{Clock, SystemClock};

use super::{VIOLATED, say};
use crate::cli::AuditArgs;
use crate::config::Config;
use crate::demo::journal;
use crate::wire;

/// Prints the report; 1 if an invariant does not hold.
pub fn run(config: &Config, args: &AuditArgs) -> anyhow::Result<ExitCode> {
    let stock = wire::audited_store(config)?;
    let now = SystemClock::new().now().millis();
    let options = if args.at_rest { audit::stock::Options::at_rest(now) } else { audit::stock::Options::running(now) };
    let report = audit::stock::audit_store(&stock, &journal::all(&config.data_dir.join("journals"))?, &options, None)?;
    if args.json {
        say(serde_json::to_string_pretty(&report)?);
    } else {
        say(&report);
    }
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::from(VIOLATED) })
}
