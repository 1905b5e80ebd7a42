//! `script/bench AREA`: runs one area's contestants by turns and prints each figure beside what it is compared to.
//! It must never assert a time, nor leave out a round.
#![allow(clippy::print_stdout)]

mod area;
mod commands;
mod edge;
mod expiry;
mod figure;
mod heat;
mod ingest;
mod live;
mod machine;
mod purchase;

use std::path::PathBuf;

use anyhow::bail;
use clap::Parser;

use area::{AREAS, Settings};

/// Benchmarks beside peers; one table, or JSON lines.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    /// What is measured; without it the areas are listed.
    area: Option<String>,
    /// Less input and fewer rounds: under two minutes.
    #[arg(long)]
    quick: bool,
    /// One JSON line per figure instead of the table.
    #[arg(long)]
    json: bool,
    /// Seed of everything that is made up.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Instead of the comparison: so many lines through the whole way, memory at start, middle and end.
    #[arg(long)]
    lines: Option<u64>,
    /// Folder for made inputs, outside the checkout.
    #[arg(long, env = "BENCH_CACHE")]
    cache: PathBuf,
    /// A Python that has the peers; without it they are left out, and the figures say so.
    #[arg(long, env = "BENCH_PYTHON")]
    python: Option<PathBuf>,
    /// Real logs for input; without them the examples are used.
    #[arg(long, env = "BENCH_DATA", default_value = "../shared/data")]
    data: PathBuf,
    /// Folder that raw results are written to.
    #[arg(long, env = "BENCH_RESULTS")]
    results: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    // Two commands stand beside the areas: one sends load to a running core, the other is the process measured.
    let words: Vec<_> = std::env::args_os().collect();
    match words.get(1).and_then(|word| word.to_str()) {
        Some("load") => return commands::load::run(Parser::parse_from(&words[1..])),
        Some("core") => return commands::core::run(Parser::parse_from(&words[1..])),
        _ => {}
    }
    let arguments = Arguments::parse();
    let Some(name) = &arguments.area else {
        for area in AREAS {
            println!("{:<12} {}", area.name(), area.about());
        }
        return Ok(());
    };
    let Some(area) = AREAS.iter().find(|area| area.name() == name) else {
        let names: Vec<_> = AREAS.iter().map(|area| area.name()).collect();
        bail!("there is no area {name}; there are: {}", names.join(", "));
    };
    std::fs::create_dir_all(&arguments.cache)?;
    let settings = Settings {
        quick: arguments.quick,
        seed: arguments.seed,
        cache: arguments.cache,
        python: arguments.python,
        data: arguments.data,
        lines: arguments.lines,
        quiet: arguments.json,
    };
    let machine = machine::describe();
    settings.say(&format!("machine: {machine}"));
    let figures = area.run(&settings)?;
    if arguments.json {
        for figure in &figures {
            println!("{}", serde_json::to_string(&figure.line(area.name()))?);
        }
    } else {
        print!("{}", figure::table(&figures));
    }
    if let Some(folder) = arguments.results {
        std::fs::create_dir_all(&folder)?;
        let raw: Vec<_> = figures.iter().map(|figure| figure.raw(area.name())).collect();
        let all = serde_json::json!({
            "area": area.name(), "machine": machine, "quick": settings.quick, "seed": settings.seed, "figures": raw,
        });
        let file = folder.join(format!("{}.json", area.name()));
        std::fs::write(&file, serde_json::to_vec_pretty(&all)?)?;
        settings.say(&format!("raw results: {}", file.display()));
    }
    Ok(())
}
