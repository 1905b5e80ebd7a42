//! Which process suffers what, when and for how long: drawn from a seed before anything runs. Pure; the same seed
//! and plan give the same schedule for ever.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What may be drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The processes, by name, in the order in which the runner has them. One that is named twice suffers twice as often.
    pub victims: Vec<&'static str>,
    /// Time between two acts.
    pub every: Duration,
    /// How long there are acts.
    pub length: Duration,
    /// How long a killed process stays away before it is started again, in milliseconds.
    pub away_ms: RangeInclusive<u64>,
    /// How long a paused process stands still, in milliseconds.
    pub pause_ms: RangeInclusive<u64>,
    /// Of 100 acts, how many are pauses; the others kill.
    pub pauses_percent: u32,
}

/// What is done to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// `kill -9`, and started again after this time.
    Kill {
        /// How long it is away.
        away: Duration,
    },
    /// SIGSTOP, and SIGCONT after this time.
    Pause {
        /// How long it stands still.
        lasts: Duration,
    },
}

/// One act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Act {
    /// When, counted from the beginning of the run.
    pub at: Duration,
    /// Whom.
    pub victim: &'static str,
    /// What.
    pub what: What,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, victim, what } = self;
        match what {
            What::Kill { away } => write!(f, "{:>7.2} s  kill -9 {victim}, away {away:?}", at.as_secs_f64()),
            What::Pause { lasts } => write!(f, "{:>7.2} s  pause {victim} for {lasts:?}", at.as_secs_f64()),
        }
    }
}

/// All acts of a run, by time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// What it was drawn from.
    pub seed: u64,
    /// The acts.
    pub acts: Vec<Act>,
}

impl Schedule {
    /// Draws a schedule. A longer plan begins with the acts of a shorter one. No victim, no act.
    pub fn draw(seed: u64, plan: &Plan) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut acts = Vec::new();
        let mut at = plan.every;
        while at < plan.length && !plan.victims.is_empty() && !plan.every.is_zero() {
            let victim = plan.victims[random.random_range(0..plan.victims.len())];
            // Each act draws alike, whatever it is: the ones behind it do not depend on the percentage.
            let (percent, away) = (random.random_range(0..100), random.random_range(plan.away_ms.clone()));
            let lasts = random.random_range(plan.pause_ms.clone());
            let what = if percent < plan.pauses_percent {
                What::Pause { lasts: Duration::from_millis(lasts) }
            } else {
                What::Kill { away: Duration::from_millis(away) }
            };
            acts.push(Act { at, victim, what });
            at += plan.every;
        }
        Self { seed, acts }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faults of seed {}:", self.seed)?;
        self.acts.iter().try_for_each(|act| write!(f, "\n  {act}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            victims: vec!["core-1", "core-2", "redis"],
            every: Duration::from_secs(5),
            length: Duration::from_secs(600),
            away_ms: 0..=500,
            pause_ms: 1_000..=3_000,
            pauses_percent: 30,
        }
    }

    #[test]
    fn a_seed_is_one_schedule_and_a_longer_run_begins_alike() {
        let (plan, seed) = (plan(), 7);
        let drawn = Schedule::draw(seed, &plan);
        assert_eq!(drawn, Schedule::draw(seed, &plan));
        assert_ne!(drawn.acts, Schedule::draw(seed + 1, &plan).acts);
        let short = Schedule::draw(seed, &Plan { length: Duration::from_secs(60), ..plan.clone() });
        assert_eq!(short.acts, drawn.acts[..short.acts.len()]);
        assert_eq!(drawn.acts.len(), 119, "one every 5 s, none at the beginning and none at the end");
    }

    #[test]
    fn all_that_may_be_drawn_is_drawn_within_its_bounds() {
        let plan = plan();
        let acts = Schedule::draw(11, &plan).acts;
        for name in &plan.victims {
            assert!(acts.iter().filter(|act| act.victim == *name).count() > 20, "{name}");
        }
        let pauses = acts.iter().filter(|act| matches!(act.what, What::Pause { .. })).count();
        assert!((20..60).contains(&pauses), "{pauses} of {}", acts.len());
        for act in &acts {
            match act.what {
                What::Kill { away } => assert!(away <= Duration::from_millis(500), "{act}"),
                What::Pause { lasts } => assert!((1_000..=3_000).contains(&lasts.as_millis()), "{act}"),
            }
        }
        let none = Schedule::draw(11, &Plan { victims: Vec::new(), ..plan });
        assert!(none.acts.is_empty());
    }

    #[test]
    fn it_says_what_will_be_done() {
        let acts = vec![
            Act { at: Duration::from_secs(5), victim: "core", what: What::Kill { away: Duration::from_millis(20) } },
            Act { at: Duration::from_secs(10), victim: "redis", what: What::Pause { lasts: Duration::from_secs(1) } },
        ];
        let said = Schedule { seed: 3, acts }.to_string();
        assert_eq!(said, "faults of seed 3:\n     5.00 s  kill -9 core, away 20ms\n    10.00 s  pause redis for 1s");
    }
}
