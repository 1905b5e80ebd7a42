//! Who may enter at all: a list of callers who may, or of those who may not.

use std::sync::Arc;

use crate::rules::AuthorityRule;

/// The rule of one resource.
#[derive(Debug)]
pub(crate) struct Authority {
    pub(crate) id: Arc<str>,
    allow: bool,
    callers: rustc_hash::FxHashSet<Arc<str>>,
}

impl Authority {
    pub(crate) fn new(rule: &AuthorityRule) -> Self {
        Self { id: rule.id.clone(), allow: rule.allow, callers: rule.callers.iter().cloned().collect() }
    }

    /// Whether this caller may enter. One without a name is on no list.
    pub(crate) fn admits(&self, origin: &str) -> bool {
        self.callers.contains(origin) == self.allow
    }
}
