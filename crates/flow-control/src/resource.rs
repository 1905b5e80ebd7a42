//! One resource: the way of an entry through its rules. Each kind is asked in turn; whoever is refused by one gets back
//! what the earlier ones took, so that a refusal costs nobody else his turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::breaker::Way;
use crate::compiled::Compiled;
use crate::entry::{Block, Entry, Kind, Pass, Verdict};
use crate::flow::{Said, Whose};
use crate::hot;
use crate::origins::{Node, Origins};
use crate::pacing::Place;
use crate::system::System;
use crate::time::Nanos;

/// A thing that is entered: a route, a product's purchase, a database.
#[derive(Debug, Clone)]
pub struct Resource {
    pub(crate) state: Arc<State>,
}

/// What is known of a resource.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) name: Arc<str>,
    /// All inbound resources together; none for what we call ourselves.
    pub(crate) system: Option<Arc<System>>,
    pub(crate) node: Arc<Node>,
    pub(crate) origins: Origins,
    pub(crate) rules: ArcSwap<Compiled>,
    pub(crate) blocked: [AtomicU64; Kind::ALL.len()],
}

/// What an entry has taken so far.
struct Taken<'a> {
    state: &'a Arc<State>,
    rules: &'a Arc<Compiled>,
    n: u64,
    now: Nanos,
    origin: Option<Arc<Node>>,
    places: Vec<(usize, Place)>,
    values: Vec<(usize, u64)>,
    probes: u64,
    wait: Duration,
}

impl Resource {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Asks to enter.
    pub fn enter(&self, entry: &Entry<'_>, now: Nanos) -> Verdict {
        let state = &self.state;
        let rules = state.rules.load();
        if let Some(authority) = &rules.authority
            && !authority.admits(entry.origin)
        {
            let block = Block { kind: Kind::Authority, rule: authority.id.clone(), retry_after: Duration::ZERO };
            return state.refused(block);
        }
        let n = u64::from(entry.count.max(1));
        if let Some(system) = &state.system {
            let counts = system.node.reserve(n, now);
            if let Err(block) = system.check(counts, entry.priority, now) {
                system.node.undo(n, now);
                return state.refused(block);
            }
        }
        let mut taken = Taken {
            state,
            rules: &rules,
            n,
            now,
            origin: rules.by_caller.then(|| state.origins.of(entry.origin)),
            places: Vec::new(),
            values: Vec::new(),
            probes: 0,
            wait: Duration::ZERO,
        };
        let asked = taken.flow(entry).and_then(|()| taken.hot(entry)).and_then(|()| taken.breakers());
        match asked {
            Ok(()) => taken.enter(),
            Err(block) => {
                taken.undo();
                state.refused(block)
            }
        }
    }
}

impl Taken<'_> {
    fn flow(&mut self, entry: &Entry<'_>) -> Result<(), Block> {
        let counts = self.state.node.reserve(self.n, self.now);
        let of_caller = self.origin.as_ref().map(|node| node.reserve(self.n, self.now));
        for (i, flow) in self.rules.flow.iter().enumerate() {
            let (own, node) = match (&flow.whose, of_caller, &self.origin) {
                (Whose::All, ..) => (counts, &*self.state.node),
                (Whose::Caller(named), Some(of_caller), Some(node)) if **named == *entry.origin => (of_caller, &**node),
                (Whose::Other, Some(of_caller), Some(node)) if !self.rules.names(entry.origin) => (of_caller, &**node),
                _ => continue,
            };
            match flow.check(self.n, own, node, self.now) {
                Said::Pass => {}
                Said::Wait(place) => {
                    self.wait = self.wait.max(place.wait);
                    self.places.push((i, place));
                }
                Said::Block(retry_after) => {
                    return Err(Block { kind: Kind::Flow, rule: flow.rule.id.clone(), retry_after });
                }
            }
        }
        Ok(())
    }

    fn hot(&mut self, entry: &Entry<'_>) -> Result<(), Block> {
        for (i, hot) in self.rules.hot.iter().enumerate() {
            let Some(value) = entry.params.get(hot.rule.param) else { continue };
            let key = hot.key(*value);
            match hot.check(key, self.n, self.now) {
                hot::Said::Pass => {}
                hot::Said::Wait(wait) => self.wait = self.wait.max(wait),
                hot::Said::Block(retry_after) => {
                    return Err(Block { kind: Kind::HotParam, rule: hot.rule.id.clone(), retry_after });
                }
            }
            self.values.push((i, key));
        }
        Ok(())
    }

    fn breakers(&mut self) -> Result<(), Block> {
        for (i, breaker) in self.rules.breakers.iter().enumerate() {
            match breaker.way(self.now) {
                Way::Closed => {}
                Way::Probe => self.probes |= 1 << i,
                Way::Refused(retry_after) => {
                    return Err(Block { kind: Kind::Breaker, rule: breaker.rule.id.clone(), retry_after });
                }
            }
        }
        Ok(())
    }

    fn enter(self) -> Verdict {
        let rules = self.rules.hears_ends.then(|| self.rules.clone());
        let pass = Pass {
            state: self.state.clone(),
            origin: self.origin,
            held: if rules.is_some() { self.values } else { Vec::new() },
            rules,
            probes: self.probes,
            since: self.now.after(self.wait),
            count: self.n,
            ended: false,
        };
        if self.wait.is_zero() { Verdict::Pass(pass) } else { Verdict::Wait(self.wait, pass) }
    }

    fn undo(self) {
        for (i, place) in self.places.into_iter().rev() {
            self.rules.flow[i].give_back(place);
        }
        for (i, key) in self.values {
            self.rules.hot[i].give_back(key, self.n);
        }
        abandon_probes(self.rules, self.probes);
        self.state.node.undo(self.n, self.now);
        if let Some(node) = &self.origin {
            node.undo(self.n, self.now);
        }
        if let Some(system) = &self.state.system {
            system.node.undo(self.n, self.now);
        }
    }
}

fn abandon_probes(rules: &Compiled, probes: u64) {
    for (i, breaker) in rules.breakers.iter().enumerate() {
        if probes & (1 << i) != 0 {
            breaker.probe_abandoned();
        }
    }
}

impl State {
    /// A resource that nobody has entered yet.
    pub(crate) fn new(name: Arc<str>, system: Option<Arc<System>>, rules: Arc<Compiled>) -> Self {
        Self {
            name,
            system,
            node: Arc::default(),
            origins: Origins::default(),
            rules: ArcSwap::new(rules),
            blocked: Default::default(),
        }
    }

    fn refused(&self, block: Block) -> Verdict {
        if let Some(i) = Kind::ALL.iter().position(|kind| *kind == block.kind) {
            self.blocked[i].fetch_add(1, Ordering::Relaxed);
        }
        Verdict::Block(block)
    }

    /// The end of an entry; without a time it was abandoned.
    pub(crate) fn leave(pass: &Pass, end: Option<(Nanos, bool)>) {
        let state = &pass.state;
        let end = end.map(|(now, ok)| (now, now.since(pass.since), ok));
        state.node.leave(pass.count, end);
        if let Some(origin) = &pass.origin {
            origin.leave(pass.count, end);
        }
        if let Some(system) = &state.system {
            system.leave(pass.count, end);
        }
        let Some(rules) = &pass.rules else { return };
        for (i, key) in &pass.held {
            if rules.hot[*i].rule.measure == crate::rules::Measure::Concurrency {
                rules.hot[*i].give_back(*key, pass.count);
            }
        }
        match end {
            None => abandon_probes(rules, pass.probes),
            Some((now, took, ok)) => {
                for (i, breaker) in rules.breakers.iter().enumerate() {
                    breaker.ended(took, ok, pass.probes & (1 << i) != 0, now);
                }
            }
        }
    }
}
