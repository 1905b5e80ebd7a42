//! By what a line was judged: which pattern knew its path, which token its bot. Small numbers, so that noting them
//! costs nothing per line; names are looked up when they are shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Classifier;

/// By what one line was judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trace {
    /// The pattern that matched the path, whether or not the request then counted.
    pub pattern: Option<u16>,
    /// The token of the bot.
    pub bot: Option<u16>,
    /// Whether the edge named the visitor; else address and user agent stand for him.
    pub named: bool,
}

impl Classifier {
    /// The patterns in the order of their numbers, each with its option: `views /product/{id}`.
    pub fn patterns(&self) -> &[Arc<str>] {
        &self.names
    }
    /// The name of a bot's token.
    pub fn bot(&self, number: u16) -> Option<&Arc<str>> {
        self.bots.as_ref()?.name(number)
    }
}

/// How often patterns and bots were met.
#[derive(Debug, Default)]
pub struct Hits {
    patterns: Vec<u64>,
    bots: Vec<u64>,
}

impl Hits {
    /// Counts one line.
    pub fn count(&mut self, trace: Trace) {
        for (counts, number) in [(&mut self.patterns, trace.pattern), (&mut self.bots, trace.bot)] {
            if let Some(number) = number {
                let number = usize::from(number);
                if counts.len() <= number {
                    counts.resize(number + 1, 0);
                }
                counts[number] += 1;
            }
        }
    }

    /// The patterns and the bots that were met, by name.
    pub fn named(&self, by: &Classifier) -> (BTreeMap<Arc<str>, u64>, BTreeMap<Arc<str>, u64>) {
        let met = |(number, count): (usize, &u64)| (*count > 0).then_some((number, *count));
        let patterns = self.patterns.iter().enumerate().filter_map(met);
        let bots = self.bots.iter().enumerate().filter_map(met);
        (
            patterns.filter_map(|(number, count)| Some((by.names.get(number)?.clone(), count))).collect(),
            bots.filter_map(|(number, count)| Some((by.bot(number as u16)?.clone(), count))).collect(),
        )
    }
}
