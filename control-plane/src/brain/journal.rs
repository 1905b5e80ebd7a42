//! What was decided about each product in the last hour, with the numbers behind it: the answer to `why`. Bounded in
//! all and for each product; the oldest are forgotten first. It never decides.

use std::collections::VecDeque;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use types::{Generation, Sku, Timestamp};

use crate::planner::{Decision, Decisions};

/// Most decisions in all: 100 a second for half an hour, some 80 MB.
const MOST: usize = 200_000;
/// Most decisions about one product: one for each dwell of an hour.
const MOST_OF_ONE: usize = 360;
/// Decisions that a new leader takes up from the store.
pub(super) const SEEDED: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Journal {
    by_product: HashMap<Sku, VecDeque<Decision>, FxBuildHasher>,
    /// Products in the order in which something was decided about them.
    order: VecDeque<Sku>,
}

impl Journal {
    /// Takes up what a former leader stored, newest first as the store answers it.
    pub(super) fn seed(&mut self, stored: Vec<(Sku, Decision)>) {
        self.by_product.clear();
        self.order.clear();
        for (product, decision) in stored.into_iter().rev() {
            self.add(product, decision);
        }
    }

    /// Notes each decision whose tier or reason is another than before.
    pub(super) fn note(&mut self, last: &Decisions, made: &[(Sku, Decision)], generation: Generation) {
        for (product, decision) in made {
            let before = last.get(product);
            let same = before.is_some_and(|b| {
                b.tier == decision.tier && b.reason.as_str() == decision.reason.as_str() && b.since == decision.since
            });
            if !same {
                let moved = before.is_none_or(|b| b.tier != decision.tier);
                let generation = if moved { generation } else { decision.generation };
                self.add(product.clone(), Decision { generation, ..decision.clone() });
            }
        }
    }

    fn add(&mut self, product: Sku, decision: Decision) {
        if self.order.len() == MOST {
            self.drop_oldest();
        }
        let of_it = self.by_product.entry(product.clone()).or_default();
        if of_it.len() == MOST_OF_ONE {
            // Its place in `order` stays, and finds nothing to drop when its turn comes.
            of_it.pop_front();
        }
        of_it.push_back(decision);
        self.order.push_back(product);
    }

    fn drop_oldest(&mut self) {
        let Some(product) = self.order.pop_front() else { return };
        if let Some(of_it) = self.by_product.get_mut(&product) {
            of_it.pop_front();
            if of_it.is_empty() {
                self.by_product.remove(&product);
            }
        }
    }

    /// Forgets what was decided before this moment, but for the decision that held then.
    pub(super) fn forget(&mut self, before: Timestamp) {
        while let Some(product) = self.order.front() {
            let of_it = self.by_product.get(product);
            // The one that follows tells until when the first held.
            let over = of_it.is_none_or(|all| all.get(1).is_some_and(|next| next.since < before));
            if !over {
                return;
            }
            self.drop_oldest();
        }
    }

    /// Decisions about a product, oldest first.
    pub(super) fn of(&self, product: &Sku) -> Vec<Decision> {
        self.by_product.get(product).map(|all| all.iter().cloned().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{seconds, sku};
    use crate::planner::{Evidence, Memory};
    use types::Tier;
    use types::plan::Reason;

    fn decision(at: i64) -> Decision {
        Decision {
            tier: Tier::Redis,
            reason: Reason::Warm,
            since: seconds(at),
            generation: Generation::new(1),
            evidence: Evidence::default(),
            memory: Memory::default(),
        }
    }

    #[test]
    fn it_keeps_what_changed_and_forgets_the_oldest() {
        let mut journal = Journal::default();
        let mut last = Decisions::default();
        for at in [0, 0, 10, 20] {
            let made = vec![(sku("a"), decision(at))];
            journal.note(&last, &made, Generation::new(2));
            last.extend(made);
        }
        let since = |j: &Journal| j.of(&sku("a")).iter().map(|d| d.since).collect::<Vec<_>>();
        assert_eq!(since(&journal), [seconds(0), seconds(10), seconds(20)], "the same decision twice is one");
        journal.forget(seconds(15));
        assert_eq!(since(&journal), [seconds(10), seconds(20)], "at 15 s the decision of 10 s held");
        for at in 0..i64::try_from(MOST_OF_ONE).unwrap_or(0) + 5 {
            journal.add(sku("b"), decision(at));
        }
        assert_eq!(journal.of(&sku("b")).len(), MOST_OF_ONE);
        for n in 0..MOST {
            journal.add(sku(&format!("p{n}")), decision(99));
        }
        assert!(journal.of(&sku("a")).is_empty() && journal.of(&sku("b")).is_empty(), "bounded in all");
        assert_eq!(journal.order.len(), MOST);
    }
}
