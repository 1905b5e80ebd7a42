//! Area `live`: what an idle connection of live updates costs a core, and how long after a provider's callback its
//! shopper sees it, at 500 payments a second on real servers, at the core that took the callback and at another one.
//! It never counts a push that did not come: what is missed is a figure of its own.

mod payments;
mod sockets;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use bench::child::{Core, Providers, SECRET, call};
use bench::tokens::Tokens;
use types::Role;

use crate::area::{Area, Settings};
use crate::figure::{Bar, Figure};
use crate::machine;
use crate::purchase::place::{Place, Real};
use sockets::Sockets;

/// Idle connections that are opened.
const IDLE: usize = 15_000;
/// How long they are held: longer than a heart-beat, so that each is asked and answers.
const HOLD: Duration = Duration::from_secs(20);

/// The area.
pub struct Live;

impl Area for Live {
    fn name(&self) -> &'static str {
        "live"
    }
    fn about(&self) -> &'static str {
        "bytes of an idle live connection, and time from a payment's callback to the pushed update"
    }
    fn run(&self, settings: &Settings) -> anyhow::Result<Vec<Figure>> {
        let handles = more_handles()?;
        let folder = tempfile::tempdir_in(&settings.cache)?;
        let program = std::env::current_exe()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let mut figures = Vec::new();
        let idle = if settings.quick { 2_000 } else { IDLE };
        ensure!(handles > idle as u64 + 500, "{handles} file handles are too few for {idle} connections: ulimit -n");
        figures.extend(runtime.block_on(idle_connections(settings, &program, folder.path().join("idle"), idle))?);

        let real = match Real::start(&folder.path().join("servers")) {
            Ok(real) => Some(real),
            Err(error) => {
                settings.say(&format!("no real servers ({error:#}): on embedded parts instead"));
                None
            }
        };
        let place = match &real {
            Some(real) => Place::Real(real, folder.path().join("core")),
            None => Place::Embedded(folder.path().join("core")),
        };
        let (providers, _) = place.open()?;
        let mut cores = vec![Core::start(&program, &folder.path().join("core-a"), &providers)?];
        if real.is_some() {
            cores.push(Core::start(&program, &folder.path().join("core-b"), &providers)?);
        }
        figures.extend(runtime.block_on(payments::measure(settings, &cores, place.name()))?);
        for core in cores {
            core.stop()?;
        }
        Ok(figures)
    }
}

/// As many file handles as this process may have.
pub fn more_handles() -> anyhow::Result<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

async fn idle_connections(
    settings: &Settings,
    program: &std::path::Path,
    folder: PathBuf,
    count: usize,
) -> anyhow::Result<Vec<Figure>> {
    settings.say(&format!("{count} idle connections"));
    let core = Core::start(program, &folder, &Providers::default())?;
    let tokens = Tokens::new(SECRET);
    let pid = core.pid().to_string();
    // What is allocated once, with the first call of each kind, belongs to no connection.
    let mut sockets = Sockets::new(vec![core.at.public]);
    sockets.open("warm", &tokens.issue("warm", Role::Shopper)?).await?;
    let before = machine::resident(&pid);
    let begun = std::time::Instant::now();
    let mut opening = Vec::new();
    for n in 0..count {
        let name = format!("idle-{n}");
        opening.push((name.clone(), tokens.issue(&name, Role::Shopper)?));
    }
    sockets.open_all(opening, 64).await?;
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    tokio::time::sleep(HOLD).await;
    let after = machine::resident(&pid);
    let metrics = call(core.at.private, "GET", "/metrics", "", None)?.1;
    let held = metrics
        .lines()
        .find_map(|line| line.strip_prefix("seckill_core_live_connections ")?.trim().parse::<f64>().ok())
        .context("the core counts its connections")?;
    settings.say(&format!("{held} held, {} beats heard, {} ended", sockets.beats(), sockets.ended()));
    let figures = vec![
        Figure::new("idle connections held", "connections", vec![held - 1.0]).bar(Bar::AtLeast(count as f64)),
        Figure::new("resident bytes of an idle connection", "B", vec![(after - before) / count as f64]),
        Figure::new("connections opened, with their passes", "1/s", vec![rate]),
    ];
    drop(sockets);
    core.stop()?;
    Ok(figures)
}
