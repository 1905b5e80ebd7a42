//! All resources of a process and the rules that hold for them. Rules change as a whole ([`FlowControl::apply`]); who is
//! inside stays, and what rules that stand on have learnt.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::adaptive::AdaptiveOptions;
use crate::authority::Authority;
use crate::breaker::Breaker;
use crate::cluster::Shares;
use crate::compiled::Compiled;
use crate::flow::Flow;
use crate::hot::HotParam;
use crate::live::{self, LiveResource};
use crate::resource::{Resource, State};
use crate::rules::{Checked, RuleSet};
use crate::system::{System, SystemSample};
use crate::time::Nanos;

/// Settings of a process.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The adaptive limiter over all inbound resources; none switches it off.
    pub adaptive: Option<AdaptiveOptions>,
    /// At most so many resources. Names come from code, not from requests; the bound stops a mistake.
    pub resources: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { adaptive: Some(AdaptiveOptions::default()), resources: 10_000 }
    }
}

/// No resource more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there are {0} resources already, the most that are kept; a resource's name must not hold what requests bring")]
pub struct NoRoom(pub usize);

/// What a change of rules did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Rules that hold now.
    pub rules: usize,
    /// Names of rules that are new or different: these begin anew.
    pub begun: Vec<Arc<str>>,
    /// Names of rules that are gone.
    pub ended: Vec<Arc<str>>,
}

/// All resources of a process.
#[derive(Debug)]
pub struct FlowControl {
    options: Options,
    system: Arc<System>,
    resources: RwLock<HashMap<Arc<str>, Arc<State>>>,
    ruled: Mutex<Ruled>,
}

/// The rules that hold and their state, by their names. One owner: whoever holds the lock writes, entries read snapshots.
#[derive(Debug, Default)]
struct Ruled {
    rules: RuleSet,
    flow: HashMap<Arc<str>, Arc<Flow>>,
    hot: HashMap<Arc<str>, Arc<HotParam>>,
    breakers: HashMap<Arc<str>, Arc<Breaker>>,
    shares: HashMap<Arc<str>, Arc<Shares>>,
    /// By resource.
    compiled: HashMap<Arc<str>, Arc<Compiled>>,
}

impl FlowControl {
    /// A process without rules.
    pub fn new(options: Options) -> Self {
        let system = Arc::new(System::new(options.adaptive));
        Self { options, system, resources: RwLock::default(), ruled: Mutex::default() }
    }

    /// The resource of that name, for calls that come to this process: system rules and the adaptive limiter hold for it.
    ///
    /// # Errors
    /// There are too many.
    pub fn inbound(&self, name: &str) -> Result<Resource, NoRoom> {
        self.resource(name, true)
    }

    /// The resource of that name, for calls that this process makes.
    ///
    /// # Errors
    /// There are too many.
    pub fn outbound(&self, name: &str) -> Result<Resource, NoRoom> {
        self.resource(name, false)
    }

    /// What the machine says of itself.
    pub fn observe(&self, sample: SystemSample) {
        self.system.observe(sample);
    }

    /// This process' share of a rule's cluster threshold, until then. False if no such rule has one.
    pub fn share(&self, rule: &str, threshold: f64, until: Nanos) -> bool {
        match self.ruled.lock().shares.get(rule) {
            Some(share) => {
                share.deal(threshold, until);
                true
            }
            None => false,
        }
    }

    /// Puts this set in the place of the one that held.
    pub fn apply(&self, rules: Checked) -> Applied {
        let mut ruled = self.ruled.lock();
        let new = rules.rules();
        let applied = difference(&ruled.rules, new);
        self.system.rule(new.system.clone());
        let old = std::mem::take(&mut *ruled);
        *ruled = self.carried(new, &old);
        for (name, state) in self.resources.read().iter() {
            state.rules.store(ruled.of(name));
        }
        applied
    }

    /// What happens now, resource by resource, in the order of their names.
    pub fn live(&self, now: Nanos) -> Vec<LiveResource> {
        let mut all: Vec<Arc<State>> = self.resources.read().values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all.iter().map(|state| live::resource(state, now)).collect()
    }

    /// The limit of the adaptive limiter and how many are inside; none if it is off.
    pub fn adaptive(&self, now: Nanos) -> Option<(f64, u64)> {
        self.system.limit().map(|limit| (limit, self.system.node.counts(now).inside))
    }

    fn resource(&self, name: &str, inbound: bool) -> Result<Resource, NoRoom> {
        if let Some(state) = self.resources.read().get(name) {
            return Ok(Resource { state: state.clone() });
        }
        // The rules' lock first, as in `apply`: a resource that is made while rules change gets the new ones.
        let ruled = self.ruled.lock();
        let mut resources = self.resources.write();
        if let Some(state) = resources.get(name) {
            return Ok(Resource { state: state.clone() });
        }
        if resources.len() >= self.options.resources {
            return Err(NoRoom(resources.len()));
        }
        let state = Arc::new(State::new(name.into(), inbound.then(|| self.system.clone()), ruled.of(name)));
        resources.insert(state.name.clone(), state.clone());
        Ok(Resource { state })
    }

    /// The state of a new set: of rules that are the same, what they had.
    fn carried(&self, new: &RuleSet, old: &Ruled) -> Ruled {
        let mut it = Ruled { rules: new.clone(), ..Ruled::default() };
        for rule in &new.flow {
            let kept = old.flow.get(&rule.id).filter(|kept| kept.rule == *rule).cloned();
            let share = old.shares.get(&rule.id).cloned().unwrap_or_default();
            let flow = kept.unwrap_or_else(|| {
                let related = Flow::related_to(rule).and_then(|name| self.inbound_node(name));
                Arc::new(Flow::new(rule, related, share.clone()))
            });
            if rule.cluster_fallback.is_some() {
                it.shares.insert(rule.id.clone(), share);
            }
            it.flow.insert(rule.id.clone(), flow);
        }
        for rule in &new.hot_param {
            let kept = old.hot.get(&rule.id).filter(|kept| kept.rule == *rule).cloned();
            it.hot.insert(rule.id.clone(), kept.unwrap_or_else(|| Arc::new(HotParam::new(rule))));
        }
        for rule in &new.breaker {
            let kept = old.breakers.get(&rule.id).filter(|kept| kept.rule == *rule).cloned();
            it.breakers.insert(rule.id.clone(), kept.unwrap_or_else(|| Arc::new(Breaker::new(rule))));
        }
        it.compile();
        it
    }

    /// The counts of a resource that a rule yields to; it is made if nobody entered it yet.
    fn inbound_node(&self, name: &Arc<str>) -> Option<Arc<crate::origins::Node>> {
        let mut resources = self.resources.write();
        if let Some(state) = resources.get(name) {
            return Some(state.node.clone());
        }
        if resources.len() >= self.options.resources {
            return None;
        }
        let state = Arc::new(State::new(name.clone(), Some(self.system.clone()), Arc::default()));
        resources.insert(name.clone(), state.clone());
        Some(state.node.clone())
    }
}

impl Ruled {
    /// The rules of one resource.
    fn of(&self, name: &str) -> Arc<Compiled> {
        self.compiled.get(name).cloned().unwrap_or_default()
    }

    /// Sorts the rules by resource, in the order of the set.
    fn compile(&mut self) {
        let mut parts: HashMap<&Arc<str>, Parts> = HashMap::new();
        for rule in &self.rules.authority {
            parts.entry(&rule.resource).or_default().0 = Some(Authority::new(rule));
        }
        for rule in &self.rules.flow {
            parts.entry(&rule.resource).or_default().1.extend(self.flow.get(&rule.id).cloned());
        }
        for rule in &self.rules.hot_param {
            parts.entry(&rule.resource).or_default().2.extend(self.hot.get(&rule.id).cloned());
        }
        for rule in &self.rules.breaker {
            parts.entry(&rule.resource).or_default().3.extend(self.breakers.get(&rule.id).cloned());
        }
        let compiled = parts.into_iter().map(|(name, (authority, flow, hot, breakers))| {
            (name.clone(), Arc::new(Compiled::new(authority, flow, hot, breakers)))
        });
        self.compiled = compiled.collect();
    }
}

/// What one resource's rules are made of.
type Parts = (Option<Authority>, Vec<Arc<Flow>>, Vec<Arc<HotParam>>, Vec<Arc<Breaker>>);

/// What differs between two sets, by the rules' names.
fn difference(old: &RuleSet, new: &RuleSet) -> Applied {
    let (old, new) = (by_name(old), by_name(new));
    let begun = new.iter().filter(|(id, rule)| old.get(*id) != Some(rule)).map(|(id, _)| id.clone()).collect();
    let ended = old.keys().filter(|id| !new.contains_key(*id)).cloned().collect();
    Applied { rules: new.len(), begun, ended }
}

#[derive(PartialEq)]
enum AnyRule<'a> {
    Flow(&'a crate::FlowRule),
    Hot(&'a crate::HotParamRule),
    Breaker(&'a crate::BreakerRule),
    System(&'a crate::SystemRule),
    Authority(&'a crate::AuthorityRule),
}

fn by_name(rules: &RuleSet) -> BTreeMap<Arc<str>, AnyRule<'_>> {
    let flow = rules.flow.iter().map(|rule| (rule.id.clone(), AnyRule::Flow(rule)));
    let hot = rules.hot_param.iter().map(|rule| (rule.id.clone(), AnyRule::Hot(rule)));
    let breaker = rules.breaker.iter().map(|rule| (rule.id.clone(), AnyRule::Breaker(rule)));
    let system = rules.system.iter().map(|rule| (rule.id.clone(), AnyRule::System(rule)));
    let authority = rules.authority.iter().map(|rule| (rule.id.clone(), AnyRule::Authority(rule)));
    flow.chain(hot).chain(breaker).chain(system).chain(authority).collect()
}
