//! One attempt to enter: what is asked ([`Entry`]), what is answered ([`Verdict`]), and the leave to be inside
//! ([`Pass`]), which ends once: by [`Pass::done`], or, if it is dropped, as abandoned.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::compiled::Compiled;
use crate::origins::Node;
use crate::resource::State;
use crate::time::Nanos;

/// What matters more when not all can enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Priority {
    /// New work.
    #[default]
    Normal,
    /// What finishes work that was begun: payments, order states. Has room that new work does not get.
    High,
}

/// A value that hot-parameter rules look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Param<'a> {
    /// A name.
    Text(&'a str),
    /// A number. An exception named by the same digits is meant too.
    Number(i64),
}

/// Who asks for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The caller's name; empty if he has none.
    pub origin: &'a str,
    /// Values for hot-parameter rules, by their position.
    pub params: &'a [Param<'a>],
    /// As how many entries it counts.
    pub count: u32,
    /// How much it matters.
    pub priority: Priority,
}

impl Default for Entry<'_> {
    fn default() -> Self {
        Self { origin: "", params: &[], count: 1, priority: Priority::Normal }
    }
}

/// The kind of rule that refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The caller may not enter.
    Authority,
    /// The process as a whole bears no more.
    System,
    /// The adaptive limiter: answers became slow.
    Adaptive,
    /// A flow rule.
    Flow,
    /// A hot-parameter rule.
    HotParam,
    /// A breaker is open.
    Breaker,
}

impl Kind {
    /// All kinds, in the order in which they are asked.
    pub const ALL: [Self; 6] =
        [Self::Authority, Self::System, Self::Adaptive, Self::Flow, Self::HotParam, Self::Breaker];

    /// The word for labels and logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Authority => "authority",
            Self::System => "system",
            Self::Adaptive => "adaptive",
            Self::Flow => "flow",
            Self::HotParam => "hot_param",
            Self::Breaker => "breaker",
        }
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What kind of rule refused.
    pub kind: Kind,
    /// Its name.
    pub rule: Arc<str>,
    /// When asking again has a chance; for `Retry-After`. Nothing that is promised.
    pub retry_after: Duration,
}

/// The answer.
#[derive(Debug)]
#[must_use = "an entry that is neither waited for nor ended counts as abandoned"]
pub enum Verdict {
    /// Enter now.
    Pass(Pass),
    /// Enter after this long: the place in the line is taken.
    Wait(Duration, Pass),
    /// Don't.
    Block(Block),
}

/// The leave to be inside.
#[derive(Debug)]
pub struct Pass {
    pub(crate) state: Arc<State>,
    pub(crate) origin: Option<Arc<Node>>,
    /// Kept where rules want to hear of the end: breakers, and hot parameters by concurrency.
    pub(crate) rules: Option<Arc<Compiled>>,
    /// Hot-parameter rules by concurrency that hold a place: index of the rule, hash of the value.
    pub(crate) held: Vec<(usize, u64)>,
    /// Breakers for which this is the probe, by their index.
    pub(crate) probes: u64,
    pub(crate) since: Nanos,
    pub(crate) count: u64,
    pub(crate) ended: bool,
}

impl Pass {
    /// The work is over. `ok` is false for what counts as a failure of the resource (not of the caller).
    pub fn done(mut self, now: Nanos, ok: bool) {
        self.ended = true;
        State::leave(&self, Some((now, ok)));
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.ended {
            State::leave(self, None);
        }
    }
}
