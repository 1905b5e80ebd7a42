//! Faults by seed: a drawn schedule says which process is killed or paused, when and for how long; a runner carries it
//! out and writes down what came of it. A failing seed replays, as far as processes can.

mod runner;
mod schedule;
mod victim;

pub use runner::{Done, Record, Stop, run, stopper};
pub use schedule::{Act, Plan, Schedule, What};
pub use victim::Victim;
