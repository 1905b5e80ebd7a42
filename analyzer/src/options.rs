//! What the analyzer can be told. Every number has the default of `analytics.md`; nothing here acts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::Invalid;

use crate::engine::{MAX_WEIGHT, Rules};
use crate::history::HistoryOptions;
use crate::sql::SqlLimits;

/// The window of heat, in seconds. A word of the house, not a setting: reports call it `count60`.
pub const WINDOW_SECONDS: u32 = 60;
/// How far one partition may be read ahead of the slowest, in seconds of event time. Beyond it the fast
/// one waits, so that a replay keeps five minutes of open panes and not the whole log.
pub const MAX_SKEW_SECONDS: u32 = 300;
/// Empty windows in a row that are still published one by one; in longer gaps nothing more is learnt.
pub const MAX_EMPTY_WINDOWS: u64 = 3600;
/// Greatest lateness and quiet time: open panes hold every visitor.
const MAX_PATIENCE: Duration = Duration::from_secs(300);
/// Greatest floor, in weighted events per second.
const MAX_FLOOR: f64 = 1_000_000.0;

/// How lateness and silence are judged. Wall-clock time only measures how long nothing has arrived; it is never compared
/// with event time, so an old log replays as live.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How far behind the newest event of its partition an event may be.
    pub lateness: Duration,
    /// A partition from which nothing has come for this long (by the clock) holds nobody back.
    pub idle: Duration,
    /// When all are silent, event time runs on with the clock, but windows become final this much later
    /// still: a writer that flushes its buffer every few seconds must not find its events late.
    pub quiet: Duration,
}

/// How much each kind of event counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    /// A view.
    pub view: u32,
    /// An addition to the cart.
    pub cart: u32,
    /// A purchase attempt.
    pub attempt: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Self { view: 1, cart: 3, attempt: 5 }
    }
}

/// The analyzer's options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Where REST and SQL listen.
    pub listen: SocketAddr,
    /// Serve reads without a token; allowed on loopback only (the demo).
    pub open: bool,
    /// Directory of the history; made if it is not there. One analyzer per directory.
    pub state_dir: PathBuf,
    /// The consumer group's name.
    pub group: String,
    /// How much each kind of event counts; 0 = not at all.
    pub weights: Weights,
    /// Most events of one visitor on one page in one second; 0 = no cap.
    pub visitor_cap: u8,
    /// Least weighted events per second of a hot page; three decimals.
    pub hot_floor: f64,
    /// Least weighted events per second of a warm page; three decimals.
    pub warm_floor: f64,
    /// How far behind its partition's newest event an event may be.
    #[serde(with = "types::time::duration_text")]
    pub lateness: Duration,
    /// A partition without records for this long holds nobody back.
    #[serde(with = "types::time::duration_text")]
    pub idle: Duration,
    /// When no partition has records, windows become final this much later still, so that a writer
    /// that flushes seldom does not find its events late.
    #[serde(with = "types::time::duration_text")]
    pub quiet: Duration,
    /// From one provisional report to the next.
    #[serde(with = "types::time::duration_text")]
    pub tick: Duration,
    /// From one full snapshot to the next.
    #[serde(with = "types::time::duration_text")]
    pub snapshot: Duration,
    /// From one checkpoint to the next.
    #[serde(with = "types::time::duration_text")]
    pub checkpoint: Duration,
    /// Most pages known at once, shared evenly by the partitions; beyond it the coldest are evicted (and counted).
    pub max_pages: usize,
    /// What one query may use.
    pub sql: SqlLimits,
    /// What is kept on disk of the seconds that are over.
    pub history: HistoryOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8888)),
            open: false,
            state_dir: PathBuf::from("data/analyzer"),
            group: "analyzer".to_owned(),
            weights: Weights::default(),
            visitor_cap: 2,
            hot_floor: 0.2,
            warm_floor: 0.05,
            lateness: Duration::from_secs(2),
            idle: Duration::from_secs(2),
            quiet: Duration::from_secs(10),
            tick: Duration::from_millis(250),
            snapshot: Duration::from_secs(10),
            checkpoint: Duration::from_secs(5),
            max_pages: 10_000_000,
            sql: SqlLimits::default(),
            history: HistoryOptions::default(),
        }
    }
}

fn milli(what: &'static str, floor: f64) -> Result<u32, Invalid> {
    let thousandths = floor * 1000.0;
    if !(0.0..=MAX_FLOOR).contains(&floor) || (thousandths - thousandths.round()).abs() > 1e-6 {
        return Err(Invalid::new(
            what,
            format!("{floor} is not 0 to {MAX_FLOOR} events/s with at most three decimals"),
        ));
    }
    Ok(thousandths.round() as u32)
}

impl Options {
    /// Refuses what cannot work, naming the field.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.open && !self.listen.ip().is_loopback() {
            return Err(Invalid::new("open", format!("is only for loopback, and listen is {}", self.listen)));
        }
        if self.state_dir.as_os_str().is_empty() {
            return Err(Invalid::new("state_dir", "is empty; name a directory for the history"));
        }
        eventlog::Group::new(&self.group)?;
        let weights = [self.weights.view, self.weights.cart, self.weights.attempt];
        if weights.iter().any(|w| *w > MAX_WEIGHT) || weights == [0; 3] {
            return Err(Invalid::new("weights", format!("each is 0 to {MAX_WEIGHT}, and not all 0")));
        }
        let (hot, warm) = (milli("hot_floor", self.hot_floor)?, milli("warm_floor", self.warm_floor)?);
        if warm > hot {
            return Err(Invalid::new("warm_floor", "is above hot_floor"));
        }
        for (what, d, least) in [
            ("lateness", self.lateness, Duration::ZERO),
            ("idle", self.idle, Duration::from_millis(100)),
            ("quiet", self.quiet, Duration::ZERO),
            ("tick", self.tick, Duration::from_millis(10)),
            ("snapshot", self.snapshot, Duration::from_millis(100)),
            ("checkpoint", self.checkpoint, Duration::from_millis(100)),
        ] {
            if d < least || d > MAX_PATIENCE {
                return Err(Invalid::new(what, format!("{d:?} is not {least:?} to {MAX_PATIENCE:?}")));
            }
        }
        if !(1..=100_000_000).contains(&self.max_pages) {
            return Err(Invalid::new("max_pages", "is not 1 to 100000000"));
        }
        self.history.check()?;
        self.sql.check()
    }

    /// The engine's rules.
    pub fn rules(&self) -> Result<Rules, Invalid> {
        self.check()?;
        let lateness = u32::try_from(self.lateness.as_secs()).unwrap_or(u32::MAX);
        Ok(Rules {
            window: WINDOW_SECONDS,
            slide: 1,
            weights: [self.weights.view, self.weights.cart, self.weights.attempt],
            cap: self.visitor_cap,
            hot_floor_milli: milli("hot_floor", self.hot_floor)?,
            warm_floor_milli: milli("warm_floor", self.warm_floor)?,
            max_pages: self.max_pages,
            spread: lateness + 2 + MAX_SKEW_SECONDS,
            live: true,
        })
    }

    /// How lateness and silence are judged.
    pub const fn patience(&self) -> Patience {
        Patience { lateness: self.lateness, idle: self.idle, quiet: self.quiet }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        assert_eq!(Options::default().check(), Ok(()));
        type Spoil = fn(&mut Options);
        let cases: [(&str, Spoil); 9] = [
            ("open", |o| (o.open, o.listen) = (true, SocketAddr::from(([0, 0, 0, 0], 1)))),
            ("hot_floor", |o| o.hot_floor = 0.0001),
            ("hot_floor", |o| o.hot_floor = f64::NAN),
            ("warm_floor", |o| o.warm_floor = 5.0),
            ("weights", |o| o.weights = Weights { view: 0, cart: 0, attempt: 0 }),
            ("lateness", |o| o.lateness = Duration::from_secs(3600)),
            ("tick", |o| o.tick = Duration::ZERO),
            ("max_pages", |o| o.max_pages = 0),
            ("group", |o| o.group = "a b".to_owned()),
        ];
        for (field, spoil) in cases {
            let mut options = Options::default();
            spoil(&mut options);
            assert_eq!(options.check().map_err(|e| e.what), Err(field));
        }
        let rules = Options::default().rules().map(|r| (r.hot_floor_milli, r.warm_floor_milli));
        assert_eq!(rules, Ok((200, 50)));
    }
}
