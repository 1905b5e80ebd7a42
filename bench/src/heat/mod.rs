//! Area `heat`: product events to exact rolling heat on one core, at three sizes of catalogue; the cost of the lines;
//! a line of a log until it is in a heat report; a whole log through `top`, beside DuckDB doing the same.

mod count;
mod reaction;
mod whole_file;

use crate::area::{Area, Settings};
use crate::figure::{Bar, Figure};
use count::Load;

/// Pages of the three catalogues.
const PAGES: [u32; 3] = [10_000, 1_000_000, 10_000_000];
/// Rounds, whole and quick.
const ROUNDS: usize = 3;
const QUICK_ROUNDS: usize = 1;

/// The area.
pub struct Heat;

impl Area for Heat {
    fn name(&self) -> &'static str {
        "heat"
    }
    fn about(&self) -> &'static str {
        "events to rolling heat on one core, a line to its report, a whole log beside DuckDB"
    }
    fn run(&self, settings: &Settings) -> anyhow::Result<Vec<Figure>> {
        let mut figures = Vec::new();
        counting(settings, &mut figures)?;
        figures.extend(reaction::run(settings)?);
        figures.extend(whole_file::run(settings)?);
        Ok(figures)
    }
}

fn counting(settings: &Settings, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let rounds = if settings.quick { QUICK_ROUNDS } else { ROUNDS };
    let mut ticks = Vec::new();
    for pages in PAGES {
        let of = |what: &str| format!("{what}, {} pages", short(pages));
        let mut figure = |load: Load, what: &str, bar: Option<Bar>| -> anyhow::Result<Vec<count::Done>> {
            let mut done = Vec::new();
            for round in 0..rounds {
                settings.say(&format!("{}: round {} of {rounds}", of(what), round + 1));
                done.push(count::run(settings, pages, load)?);
            }
            let rates = done.iter().map(|d| d.events / d.seconds).collect();
            let figure = Figure::new(of(what), "events/s", rates);
            figures.push(if let Some(bar) = bar { figure.bar(bar) } else { figure });
            Ok(done)
        };
        let bar = Some(Bar::AtLeast(7_000_000.0));
        let counted = figure(Load::Counts, "both windows and the final one, thresholds", bar)?;
        let whole = figure(Load::Records, "the same from records, with visitors and cap", None)?;
        let memory = |done: &[count::Done]| done.iter().map(|d| d.memory / 1048576.0).collect::<Vec<_>>();
        figures.push(Figure::new("  memory of the first", "MiB", memory(&counted)));
        figures.push(Figure::new("  memory of the second", "MiB", memory(&whole)));
        figures.push(Figure::new(
            format!("  active pages in the window, of {}", short(pages)),
            "pages",
            counted.iter().map(|d| d.active).collect(),
        ));
        ticks.push((pages, counted));
    }
    let (_, smallest) = &ticks[0];
    let worst = |done: &[count::Done], share: f64| -> Vec<f64> {
        done.iter().map(|d| crate::heat::count::quantile(&d.ticks, share)).collect()
    };
    let base = worst(smallest, 0.99);
    for (pages, done) in &ticks {
        let name = format!("thresholds of both windows per tick, p99, {} pages", short(*pages));
        let figure = Figure::new(name, "us", worst(done, 0.99)).against("10 k pages", base.clone());
        figures.push(figure.bar(Bar::AtMost(1000.0)));
    }
    Ok(())
}

fn short(pages: u32) -> String {
    match pages {
        n if n >= 1_000_000 => format!("{} M", n / 1_000_000),
        n => format!("{} k", n / 1000),
    }
}
