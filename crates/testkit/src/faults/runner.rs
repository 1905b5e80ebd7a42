//! Carries a schedule out on real processes and writes down what came of each act. Whatever it has killed or paused
//! serves again when it returns, or the record says why not.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use super::{Act, Schedule, Victim, What};

/// Starts of one process after one kill: it may lean on a server that is just coming back.
const STARTS: u32 = 3;

/// What came of an act.
#[derive(Debug, Clone)]
pub struct Done {
    /// What was to be done.
    pub act: Act,
    /// When it was done.
    pub began: SystemTime,
    /// From the blow until the process served again: its time away or standing still, and what it needed to come back.
    pub took: Duration,
    /// Why it does not serve again.
    pub failed: Option<String>,
}

/// What a runner did.
#[derive(Debug, Clone)]
pub struct Record {
    /// The seed of the schedule.
    pub seed: u64,
    /// Each act that was begun, by time.
    pub done: Vec<Done>,
}

impl Record {
    /// Acts after which a process did not come back.
    pub fn failures(&self) -> impl Iterator<Item = &Done> {
        self.done.iter().filter(|done| done.failed.is_some())
    }
    /// How often each process was killed and paused: `(kills, pauses)`.
    pub fn counts(&self) -> BTreeMap<&'static str, (u32, u32)> {
        let mut counts: BTreeMap<_, (u32, u32)> = BTreeMap::new();
        for done in &self.done {
            let (kills, pauses) = counts.entry(done.act.victim).or_default();
            match done.act.what {
                What::Kill { .. } => *kills += 1,
                What::Pause { .. } => *pauses += 1,
            }
        }
        counts
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faults of seed {}, done:", self.seed)?;
        for Done { act, took, failed, .. } in &self.done {
            write!(f, "\n  {act}: serves after {:.2} s", took.as_secs_f64())?;
            if let Some(why) = failed {
                write!(f, " NOT: {why}")?;
            }
        }
        Ok(())
    }
}

/// Ends a runner early when dropped: the act under way is carried to its end, no other begins.
pub struct Stop(#[expect(dead_code, reason = "its end is the signal")] Sender<()>);

/// A stop and what the runner listens to.
pub fn stopper() -> (Stop, Receiver<()>) {
    let (sender, receiver) = channel();
    (Stop(sender), receiver)
}

/// Does what the schedule says until it ends or the [`Stop`] is dropped. Acts do not overlap: one that is due while
/// another lasts begins behind it. Blocks its thread.
///
/// # Panics
/// If the schedule names a process that is not among `victims`.
pub fn run(schedule: &Schedule, victims: &mut BTreeMap<&'static str, &mut dyn Victim>, stop: &Receiver<()>) -> Record {
    let start = Instant::now();
    let mut record = Record { seed: schedule.seed, done: Vec::new() };
    for act in &schedule.acts {
        let left = act.at.saturating_sub(start.elapsed());
        if !matches!(stop.recv_timeout(left), Err(RecvTimeoutError::Timeout)) {
            break;
        }
        let victim = victims.get_mut(act.victim).expect("the plan was drawn for these victims");
        let (began, blow) = (SystemTime::now(), Instant::now());
        let failed = suffer(*victim, act.what);
        record.done.push(Done { act: *act, began, took: blow.elapsed(), failed });
    }
    record
}

fn suffer(victim: &mut dyn Victim, what: What) -> Option<String> {
    match what {
        What::Kill { away } => {
            victim.kill();
            // How long it is away is what the schedule says, no condition.
            std::thread::sleep(away);
            let mut last = None;
            for _ in 0..STARTS {
                match victim.restart() {
                    Ok(()) => return None,
                    Err(error) => last = Some(error.to_string()),
                }
            }
            last
        }
        What::Pause { lasts } => {
            victim.pause();
            std::thread::sleep(lasts);
            victim.resume();
            (!victim.is_running()).then(|| "it ended while it stood still".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use servers::ServerError;

    /// Remembers what was done to it; does not come back the first `lame` times.
    #[derive(Default)]
    struct Puppet {
        seen: Vec<&'static str>,
        lame: u32,
    }

    impl Victim for Puppet {
        fn kill(&mut self) {
            self.seen.push("kill");
        }
        fn pause(&mut self) {
            self.seen.push("pause");
        }
        fn resume(&mut self) {
            self.seen.push("resume");
        }
        fn restart(&mut self) -> Result<(), ServerError> {
            self.seen.push("restart");
            match self.lame {
                0 => Ok(()),
                _ => {
                    self.lame -= 1;
                    Err(ServerError::Missing("its leg".to_owned()))
                }
            }
        }
        fn is_running(&mut self) -> bool {
            true
        }
    }

    fn act(at: u64, victim: &'static str, what: What) -> Act {
        Act { at: Duration::from_millis(at), victim, what }
    }

    const KILL: What = What::Kill { away: Duration::ZERO };
    const PAUSE: What = What::Pause { lasts: Duration::from_millis(1) };

    fn run_on(acts: Vec<Act>, ann: &mut Puppet, ben: &mut Puppet, stop: &Receiver<()>) -> Record {
        let schedule = Schedule { seed: 1, acts };
        let mut victims: BTreeMap<&'static str, &mut dyn Victim> = BTreeMap::new();
        victims.insert("ann", ann);
        victims.insert("ben", ben);
        run(&schedule, &mut victims, stop)
    }

    #[test]
    fn each_act_falls_on_its_victim_and_is_written_down() {
        let (mut ann, mut ben) = (Puppet::default(), Puppet::default());
        let (_stop, stopped) = stopper();
        let acts = vec![act(0, "ann", KILL), act(1, "ben", PAUSE), act(2, "ann", KILL)];
        let record = run_on(acts, &mut ann, &mut ben, &stopped);
        assert_eq!(ann.seen, ["kill", "restart", "kill", "restart"]);
        assert_eq!(ben.seen, ["pause", "resume"]);
        assert_eq!(record.counts(), [("ann", (2, 0)), ("ben", (0, 1))].into());
        assert_eq!(record.failures().count(), 0, "{record}");
    }

    #[test]
    fn one_that_does_not_come_back_is_tried_again_and_then_named() {
        let (mut ann, mut ben) = (Puppet { lame: 2, ..Puppet::default() }, Puppet { lame: 3, ..Puppet::default() });
        let (_stop, stopped) = stopper();
        let record = run_on(vec![act(0, "ann", KILL), act(0, "ben", KILL)], &mut ann, &mut ben, &stopped);
        assert_eq!(record.failures().map(|done| done.act.victim).collect::<Vec<_>>(), ["ben"], "{record}");
        assert!(record.to_string().contains("NOT: its leg"), "{record}");
    }

    #[test]
    fn nothing_begins_after_the_stop() {
        let (mut ann, mut ben) = (Puppet::default(), Puppet::default());
        let (stop, stopped) = stopper();
        drop(stop);
        let record = run_on(vec![act(3_600_000, "ann", KILL)], &mut ann, &mut ben, &stopped);
        assert!(record.done.is_empty() && ann.seen.is_empty());
    }
}
