//! `seckill config check|show`.

use std::process::ExitCode;

use super::say;
use crate::cli::ConfigCommand;
use crate::config::Layers;

/// Checks or shows; a wrong configuration ends with 1 and one line per fault.
pub fn run(layers: &Layers, command: &ConfigCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Check => match layers.config() {
            Ok(_) => say("the configuration is right"),
            Err(error) => {
                say(format!("{error:#}"));
                return Ok(ExitCode::FAILURE);
            }
        },
        ConfigCommand::Show { origin } => {
            for (path, value, from) in layers.origins()? {
                if *origin {
                    say(format!("{path} = {value}  # {from}"));
                } else {
                    say(format!("{path} = {value}"));
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
