//! The one binary: reads the command line and the configuration, and hands over to a command.

mod cli;
mod commands;
mod config;
mod ctl;
mod demo;
mod house;
mod identity;
mod overview;
mod secrets;
mod shutdown;
mod tasks;
mod telemetry;
mod wire;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
