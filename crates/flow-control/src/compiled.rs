//! The rules of one resource, ready to be asked. A change makes a new one; the state of rules that did not change goes
//! along, so that a change elsewhere neither refills a bucket nor closes a breaker.

use std::sync::Arc;

use crate::authority::Authority;
use crate::breaker::Breaker;
use crate::flow::{Flow, Whose};
use crate::hot::HotParam;
use crate::rules::Measure;

/// Everything that is ruled about one resource.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    pub(crate) authority: Option<Authority>,
    pub(crate) flow: Vec<Arc<Flow>>,
    pub(crate) hot: Vec<Arc<HotParam>>,
    pub(crate) breakers: Vec<Arc<Breaker>>,
    /// Whether a rule measures callers by themselves.
    pub(crate) by_caller: bool,
    /// Whether somebody wants to hear how entries end.
    pub(crate) hears_ends: bool,
}

impl Compiled {
    pub(crate) fn new(
        authority: Option<Authority>,
        flow: Vec<Arc<Flow>>,
        hot: Vec<Arc<HotParam>>,
        breakers: Vec<Arc<Breaker>>,
    ) -> Self {
        let by_caller = flow.iter().any(|flow| !matches!(flow.whose, Whose::All));
        let hears_ends = !breakers.is_empty() || hot.iter().any(|hot| hot.rule.measure == Measure::Concurrency);
        Self { authority, flow, hot, breakers, by_caller, hears_ends }
    }

    /// Whether some flow rule names this caller.
    pub(crate) fn names(&self, origin: &str) -> bool {
        self.flow.iter().any(|flow| matches!(&flow.whose, Whose::Caller(named) if **named == *origin))
    }
}
