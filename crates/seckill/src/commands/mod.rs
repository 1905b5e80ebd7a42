//! The commands: each reads what it needs from the layers and ends with an exit code.

mod admin;
mod all_in_one;
mod audit;
mod collect;
mod config;
mod demo;
mod import;
mod reconcile;
mod sale;
mod service;
mod table;
mod token;
mod top;

use std::process::ExitCode;

use anyhow::Context;
use figment::value::Value;

use crate::cli::{Cli, CollectCommand, Command};
use crate::config::Layers;
use crate::telemetry;
use service::Service;

/// Exit code when an invariant does not hold.
const VIOLATED: u8 = 1;

/// Runs the command.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    // The demo's own lines are its display; warnings still show between them.
    let quiet = match &cli.command {
        Command::Demo(_) | Command::Top(_) | Command::Ctl(_) => true,
        Command::Collect(args) => args.explain.is_some() || args.command.is_some(),
        _ => false,
    };
    telemetry::logs(cli.log_format, if quiet { "warn" } else { "info" });
    let mut flags = Vec::new();
    if let Some(dir) = &cli.data {
        flags.push(("data_dir", Value::from(dir.display().to_string())));
    }
    let layers = Layers::stack(cli.config.as_deref(), &flags)?;
    match cli.command {
        Command::Demo(args) => runtime()?.block_on(demo::run(layers.config()?, cli.data.is_some(), args)),
        Command::AllInOne(args) => runtime()?.block_on(all_in_one::run(layers.config()?, args)),
        Command::Collect(args) => match (&args.explain, &args.command) {
            (Some(file), None) => collect::explain(&layers.config()?, file, &args),
            (None, Some(CollectCommand::ReplayDeadLetters(args))) => {
                runtime()?.block_on(collect::replay(layers.config()?, args))
            }
            (None, None) => runtime()?.block_on(service::run(Service::Collect, layers.config()?)),
            (Some(_), Some(_)) => anyhow::bail!("say one thing to do: --explain FILE or replay-dead-letters"),
        },
        Command::Analyze => runtime()?.block_on(service::run(Service::Analyze, layers.config()?)),
        Command::Control => runtime()?.block_on(service::run(Service::Control, layers.config()?)),
        Command::Core => runtime()?.block_on(service::run(Service::Core, layers.config()?)),
        Command::Top(args) => top::run(&args),
        Command::Audit(args) => audit::run(&layers.config()?, &args),
        Command::Sale(command) => runtime()?.block_on(sale::run(&layers.config()?, command)),
        Command::Import(command) => runtime()?.block_on(import::run(&layers.config()?, command)),
        Command::Ctl(args) => runtime()?.block_on(crate::ctl::run(&layers.config()?, args)),
        Command::Reconcile(args) => runtime()?.block_on(reconcile::run(&layers.config()?, args)),
        Command::Token(args) => token::run(&layers.config()?, &args),
        Command::Config(command) => config::run(&layers, &command),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

/// Prints a line to standard output; a closed pipe ends the process quietly, as with any other filter.
pub fn say(line: impl std::fmt::Display) {
    use std::io::Write;
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}
