//! What to say next to one core, as pure steps: seen state and answers in, the next push out. The rules that
//! make lost, repeated and reordered messages harmless live here and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use types::plan::{CoreState, MAX_PUSH_ENTRIES, NackReason, PlanAnswer, PlanEntry, PlanPush};
use types::{CoreId, Generation, Nonce, Sku, Term};

use crate::planner::Decision;
use crate::view::PlanView;

/// A wish for newer generations, to be made durable by the plan's owner before anything is pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renew {
    /// The new generation must be above this one.
    pub above: Generation,
    /// These products must be carried by it; empty: the number alone rises.
    pub products: Vec<Sku>,
    /// The core has heard of this leader, which is newer than the one that pushes.
    pub term: Option<Term>,
}

impl Renew {
    fn above(above: Generation) -> Self {
        Self { above, products: Vec::new(), term: None }
    }
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// The core has everything that it can get.
    Nothing,
    /// Push this.
    Push(PlanPush),
    /// A push needs a newer generation first.
    Renew(Renew),
}

/// What came of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The core holds what was pushed.
    Acknowledged,
    /// The core refused for a reason that the next push takes into account.
    Refused(NackReason),
    /// Not an answer to this push; as good as none.
    Foreign,
}

/// What is known about one core's plan.
#[derive(Debug, Clone, Default)]
pub struct Link {
    incarnation: Option<u64>,
    /// Who answers there.
    core: Option<CoreId>,
    /// The newest leader that it has heard of.
    heard_of: Term,
    /// The leader for whom the rest was learnt.
    term: Term,
    /// What the core said it holds.
    holds: Generation,
    /// The newest generation of ours that this incarnation has acknowledged.
    acknowledged: Option<Generation>,
    /// Products that the core sells.
    sells: BTreeSet<Sku>,
    /// Of these, those whose decision it has acknowledged.
    has: BTreeSet<Sku>,
    /// Of these, those whose decision it has not: what it began to sell late, or has not been told yet.
    lacks: BTreeSet<Sku>,
    /// Products that it refused as unknown, until it reports without them or starts again.
    refused: BTreeSet<Sku>,
    /// A push without an answer: it may have arrived. Said again word for word while it is the newest, for a
    /// core that has taken it answers a repeat without reading it.
    offered: Option<PlanPush>,
}

impl Link {
    /// The newest generation of ours that the core's present incarnation has acknowledged.
    pub const fn acknowledged(&self) -> Option<Generation> {
        self.acknowledged
    }

    /// Whether what is known was learnt under this leader.
    pub fn is_led_by(&self, term: Option<Term>) -> bool {
        term == Some(self.term)
    }

    /// Takes up a core's state.
    #[must_use]
    pub fn observed(mut self, state: &CoreState) -> Self {
        if self.incarnation != Some(state.incarnation) {
            // A new process: it may have kept our plan, but which one is not certain. It gets the whole.
            self = Self { incarnation: Some(state.incarnation), ..Self::default() };
        }
        self.holds = state.generation;
        self.heard_of = state.term;
        if self.core.as_ref() != Some(&state.core) {
            self.core = Some(state.core.clone());
        }
        // Looked at each period, and other products come with a sale.
        let same =
            self.sells.len() == state.products.len() && self.sells.iter().eq(state.products.iter().map(|p| &p.product));
        if !same {
            self.sells = state.products.iter().map(|p| p.product.clone()).collect();
            self.has.retain(|sku| self.sells.contains(sku));
            self.refused.retain(|sku| self.sells.contains(sku));
            self.lacks = self.sells.difference(&self.has).cloned().collect();
        }
        let offered = self.offered.as_ref().map(|p| p.generation);
        if self.acknowledged.is_some_and(|a| a != self.holds) && offered != Some(self.holds) {
            // It holds what we have not given: another control plane, or a plan that it lost.
            self.forget();
        }
        self
    }

    /// What to do to bring the core to `plan`. A push must be written down with [`Link::offers`] before it is sent.
    pub fn next(&self, plan: &PlanView, nonce: Nonce) -> Next {
        // A stand-by only watches.
        let Some(term) = plan.term else { return Next::Nothing };
        if self.incarnation.is_none() || plan.generation == Generation::default() {
            return Next::Nothing;
        }
        if self.heard_of > term {
            return Next::Renew(Renew { term: Some(self.heard_of), ..Renew::above(plan.generation) });
        }
        let offered = self.offered.as_ref().filter(|p| p.generation == plan.generation && p.term == term);
        if let Some(offered) = offered {
            return Next::Push(PlanPush { nonce, ..offered.clone() });
        }
        // What was acknowledged to another leader was not acknowledged to this one.
        match self.acknowledged.filter(|_| self.term == term) {
            None => self.whole(plan, nonce),
            Some(base) => self.delta(plan, base, nonce),
        }
    }

    fn push(
        &self,
        plan: &PlanView,
        nonce: Nonce,
        base: Option<Generation>,
        (generation, entries): (Generation, Vec<PlanEntry>),
    ) -> Next {
        Next::Push(PlanPush {
            term: plan.term.unwrap_or_default(),
            core: self.core.clone(),
            generation,
            nonce,
            base,
            entries,
            pauses: (*plan.pauses).clone(),
        })
    }

    fn whole(&self, plan: &PlanView, nonce: Nonce) -> Next {
        // It must be newer than what the core holds, else it would be answered but not read.
        if plan.generation <= self.holds {
            return Next::Renew(Renew::above(self.holds));
        }
        let part = first_part(plan, self.wanted(plan).map(|sku| (sku, &plan.decisions[sku])).collect());
        if part.0 <= self.holds {
            // Too large for one push, and its first part is older than what the core holds: number it anew.
            let products = self.wanted(plan).cloned().collect();
            return Next::Renew(Renew { products, ..Renew::above(plan.generation) });
        }
        self.push(plan, nonce, None, part)
    }

    fn delta(&self, plan: &PlanView, base: Generation, nonce: Nonce) -> Next {
        // Products that the core began to sell after their decision was numbered need a newer number.
        let late: Vec<Sku> = self
            .lacks
            .iter()
            .filter(|sku| !self.refused.contains(*sku))
            .filter(|sku| plan.decisions.get(sku).is_some_and(|d| d.generation <= base))
            .cloned()
            .collect();
        if !late.is_empty() {
            return Next::Renew(Renew { products: late, ..Renew::above(plan.generation) });
        }
        if plan.generation <= base {
            return Next::Nothing;
        }
        // Hundreds of cores are told of a change that concerns a few of many products.
        let chosen: BTreeMap<&Sku, &Decision> = match plan.changes.after(base) {
            Some(changed) => changed
                .filter(|sku| self.sells.contains(*sku) && !self.refused.contains(*sku))
                .filter_map(|sku| plan.decisions.get_key_value(sku))
                .filter(|(_, d)| d.generation > base)
                .collect(),
            None => {
                let all = self.wanted(plan).map(|sku| (sku, &plan.decisions[sku]));
                all.filter(|(_, d)| d.generation > base).collect()
            }
        };
        self.push(plan, nonce, Some(base), first_part(plan, chosen.into_iter().collect()))
    }

    /// The planned products that this core can be told about.
    fn wanted<'a>(&'a self, plan: &'a PlanView) -> impl Iterator<Item = &'a Sku> {
        self.sells.iter().filter(|sku| plan.decisions.contains_key(sku) && !self.refused.contains(*sku))
    }

    /// Writes down that this push is about to be sent.
    #[must_use]
    pub fn offers(mut self, push: &PlanPush) -> Self {
        self.offered = Some(push.clone());
        self
    }

    /// Takes up the answer to `push`, and says whether generations must be raised.
    #[must_use]
    pub fn answered(mut self, push: &PlanPush, answer: &PlanAnswer) -> (Self, Outcome, Option<Renew>) {
        match answer {
            PlanAnswer::Ack { generation, nonce, state } => {
                if *nonce != push.nonce || *generation != push.generation {
                    return (self, Outcome::Foreign, None);
                }
                let same_process = self.incarnation == Some(state.incarnation);
                let mut link = self.observed(state);
                // A delta taken by another process than the one we knew rests on a base that is not certain.
                if same_process || push.base.is_none() {
                    link.offered = None;
                    link.holds = *generation;
                    link.term = push.term;
                    link.acknowledged = Some(*generation);
                    if push.base.is_none() {
                        link.has.clear();
                        link.lacks = link.sells.clone();
                    }
                    for entry in &push.entries {
                        link.lacks.remove(&entry.product);
                        link.has.insert(entry.product.clone());
                    }
                }
                (link, Outcome::Acknowledged, None)
            }
            PlanAnswer::Nack { generation, nonce, why } => {
                // A reason that cannot be true of this push is not an answer to it: believing it would push for ever.
                let absurd = match why {
                    NackReason::StaleGeneration => *generation < push.generation,
                    NackReason::UnknownBase => push.base.is_none(),
                    NackReason::UnknownProduct { product } => !push.entries.iter().any(|e| e.product == *product),
                    NackReason::OldLeader { term } => *term <= push.term,
                    NackReason::WrongCore { core } => push.core.as_ref().is_none_or(|meant| meant == core),
                };
                if *nonce != push.nonce || absurd {
                    return (self, Outcome::Foreign, None);
                }
                self.offered = None;
                self.holds = *generation;
                let mut renew = None;
                match why {
                    NackReason::StaleGeneration => {
                        self.forget();
                        renew = Some(Renew::above(*generation));
                    }
                    NackReason::UnknownBase => self.forget(),
                    NackReason::UnknownProduct { product } => {
                        self.refused.insert(product.clone());
                    }
                    NackReason::OldLeader { term } => {
                        self.forget();
                        self.heard_of = *term;
                        renew = Some(Renew { term: Some(*term), ..Renew::above(*generation) });
                    }
                    // Another one stands where this one stood: what is known is of no use.
                    NackReason::WrongCore { .. } => self = Self::default(),
                }
                (self, Outcome::Refused(why.clone()), renew)
            }
        }
    }

    fn forget(&mut self) {
        self.acknowledged = None;
        self.offered = None;
        self.has.clear();
        self.lacks = self.sells.clone();
    }
}

/// The oldest of these decisions, whole generations, as many as one push may carry.
fn first_part(plan: &PlanView, mut chosen: Vec<(&Sku, &Decision)>) -> (Generation, Vec<PlanEntry>) {
    let entry =
        |product: &Sku, d: &Decision| PlanEntry { product: product.clone(), tier: d.tier, reason: d.reason.clone() };
    if chosen.len() <= MAX_PUSH_ENTRIES {
        return (plan.generation, chosen.into_iter().map(|(sku, d)| entry(sku, d)).collect());
    }
    // No generation carries more than one push may (the plan's owner sees to it), so the cut is never empty.
    chosen.sort_by_key(|(_, d)| d.generation);
    let beyond = chosen[MAX_PUSH_ENTRIES].1.generation;
    let part: Vec<_> = chosen.into_iter().take_while(|(_, d)| d.generation < beyond).collect();
    let generation = part.last().map_or(beyond, |(_, d)| d.generation);
    (generation, part.into_iter().map(|(sku, d)| entry(sku, d)).collect())
}
