//! `seckill config check|show`.

use std::process::ExitCode;

use super::{collect, say};
use crate::cli::ConfigCommand;
use crate::config::Layers;

/// Checks or shows; a wrong configuration ends with 1 and one line per fault.
pub fn run(layers: &Layers, command: &ConfigCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Check { log } => match layers.config() {
            Ok(config) => {
                say("the configuration is right");
                let (never, lines) = match log {
                    Some(file) => {
                        let summary = collect::read(&config, file, |_| Ok(()))?;
                        (summary.never_matched, summary.books.lines)
                    }
                    None => {
                        let folder = config.data_dir.join("collector");
                        collector::never_matched(&config.collector.classifier, &folder)?
                    }
                };
                for pattern in never {
                    say(format!("warning: collector.classifier.{pattern} matched none of {lines} lines"));
                }
            }
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
