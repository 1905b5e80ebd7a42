//! The reconciler against a core that loses, delays, repeats and reorders; seeded, the seed is printed.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use types::plan::{CoreState, MAX_PUSH_ENTRIES, NackReason, PlanAnswer, PlanEntry, PlanPush, Reason};
use types::{Clock, Generation, Nonce, Sku, SystemClock, Term, Tier};

use super::link::Outcome;
use super::*;
use crate::fixtures::{core_state, product, seconds, sku};
use crate::planner::{Evidence, Memory};
use crate::view::PlanView;

fn decision(tier: Tier, generation: u64) -> Decision {
    Decision {
        tier,
        reason: Reason::Warm,
        since: seconds(0),
        generation: Generation::new(generation),
        evidence: Evidence::default(),
        memory: Memory::default(),
    }
}

fn plan_of(generation: u64, decisions: &[(&str, Tier, u64)]) -> PlanView {
    PlanView {
        term: Some(Term::new(1)),
        generation: Generation::new(generation),
        decisions: decisions.iter().map(|(name, tier, g)| (sku(name), decision(*tier, *g))).collect(),
        // What came before is not known: a delta is found by a look at every product.
        changes: crate::view::Changes::since(Generation::new(u64::MAX)),
        ..PlanView::default()
    }
}

/// A core as the protocol describes it: it reads only what is newer than what it holds.
#[derive(Debug)]
struct TrueCore {
    state: CoreState,
    plan: BTreeMap<Sku, Tier>,
}

impl TrueCore {
    fn selling(names: &[&str]) -> Self {
        let products = names.iter().map(|n| product(n, Tier::Db)).collect();
        Self { state: core_state("core", products), plan: BTreeMap::new() }
    }
    fn take(&mut self, push: &PlanPush) -> PlanAnswer {
        let nonce = push.nonce;
        let holds = self.state.generation;
        let nack = |why| PlanAnswer::Nack { generation: holds, nonce, why };
        if push.generation < holds {
            return nack(NackReason::StaleGeneration);
        }
        if push.generation > holds {
            if push.base.is_some_and(|base| base != holds) {
                return nack(NackReason::UnknownBase);
            }
            let sells: BTreeSet<&Sku> = self.state.products.iter().map(|p| &p.product).collect();
            if let Some(entry) = push.entries.iter().find(|e| !sells.contains(&e.product)) {
                return nack(NackReason::UnknownProduct { product: entry.product.clone() });
            }
            if push.base.is_none() {
                self.plan.clear();
            }
            for PlanEntry { product, tier, .. } in &push.entries {
                self.plan.insert(product.clone(), *tier);
            }
            self.state.generation = push.generation;
        }
        PlanAnswer::Ack { generation: push.generation, nonce, state: self.state.clone() }
    }
    fn restart(&mut self, keeps_plan: bool) {
        self.state.incarnation += 1;
        if !keeps_plan {
            self.state.generation = Generation::new(0);
            self.plan.clear();
        }
    }
}

/// Between us and the core.
struct Network {
    core: Mutex<TrueCore>,
    rng: Mutex<StdRng>,
    /// Copies of old pushes that are still on their way.
    under_way: Mutex<VecDeque<PlanPush>>,
    hostile: std::sync::atomic::AtomicBool,
}

impl Network {
    fn new(core: TrueCore, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            core: Mutex::new(core),
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            under_way: Mutex::default(),
            hostile: true.into(),
        })
    }
    fn chance(&self, share: f64) -> bool {
        self.hostile.load(std::sync::atomic::Ordering::SeqCst) && self.rng.lock().random_bool(share)
    }
    /// Old copies arrive late, in any order.
    fn stragglers(&self) {
        while self.chance(0.4) {
            let late = {
                let mut waiting = self.under_way.lock();
                let n = waiting.len();
                if n == 0 {
                    return;
                }
                waiting.remove(self.rng.lock().random_range(0..n))
            };
            if let Some(push) = late {
                self.core.lock().take(&push);
            }
        }
    }
}

#[async_trait]
impl CoreClient for Network {
    async fn push(&self, push: PlanPush) -> Result<PlanAnswer, CoreError> {
        self.stragglers();
        let lost = || CoreError::Unreachable("lost".into());
        if self.chance(0.5) {
            let mut waiting = self.under_way.lock();
            waiting.push_back(push.clone());
            if waiting.len() > 20 {
                waiting.pop_front();
            }
        }
        if self.chance(0.25) {
            return Err(lost());
        }
        let answer = self.core.lock().take(&push);
        if self.chance(0.05) {
            let keeps = self.chance(0.5);
            self.core.lock().restart(keeps);
        }
        if self.chance(0.25) {
            return Err(lost());
        }
        Ok(answer)
    }
    async fn state(&self) -> Result<CoreState, CoreError> {
        self.stragglers();
        if self.chance(0.2) {
            return Err(CoreError::Unreachable("lost".into()));
        }
        Ok(self.core.lock().state.clone())
    }
}

/// The plan's owner, as far as a reconciler needs one.
fn raise(plan: &PlanView, renew: &Renew) -> PlanView {
    let mut next = plan.clone();
    if plan.generation > renew.above && renew.products.iter().all(|p| plan.decisions[p].generation > renew.above) {
        return next;
    }
    let mut generation = plan.generation.max(renew.above).next();
    for (n, sku) in renew.products.iter().enumerate() {
        if n > 0 && n % MAX_PUSH_ENTRIES == 0 {
            generation = generation.next();
        }
        let raised = Decision { generation, ..next.decisions[sku].clone() };
        next.decisions.insert(sku.clone(), raised);
    }
    next.generation = generation;
    next.changes = next.changes.with(generation, renew.products.clone().into());
    next
}

#[tokio::test]
async fn a_hostile_network_ends_in_the_newest_plan() {
    for seed in 0..24 {
        println!("seed {seed}");
        // A hundred times as fast, pauses included.
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::starting_at(seconds(0), 100.0));
        let names = ["a", "b", "c", "d"];
        let network = Network::new(TrueCore::selling(&names[..3]), seed);
        // Every second seed finds its deltas by the log of changes, the others by a look at every product.
        let floor = Generation::new(if seed % 2 == 0 { 0 } else { u64::MAX });
        let changes = crate::view::Changes::since(floor);
        let first = PlanView { term: Some(Term::new(1)), changes, ..PlanView::default() };
        let (plan, plan_out) = watch::channel(Arc::new(first));
        let (renew, mut renews) = mpsc::channel(64);
        let (view, view_out) = watch::channel(CoreView::default());
        let (changed, _) = watch::channel(0);
        let parts = LinkParts {
            client: network.clone(),
            clock: clock.clone(),
            plan: plan_out,
            renew,
            view,
            changed,
            period: Duration::from_millis(250),
            seed,
        };
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(run(parts, shutdown.clone()));
        let mut rng = StdRng::seed_from_u64(seed ^ 0xfeed);
        let mut generations = vec![Generation::new(0)];
        let mut settle = 0;
        for round in 0.. {
            while let Ok(wish) = renews.try_recv() {
                plan.send_modify(|p| *p = Arc::new(raise(p, &wish)));
            }
            if round < 60 {
                plan.send_modify(|p| {
                    let mut next = PlanView::clone(p);
                    next.generation = next.generation.next();
                    let tier = Tier::ALL[rng.random_range(0..3)];
                    let name = names[rng.random_range(0..4)];
                    next.decisions.insert(sku(name), decision(tier, next.generation.get()));
                    next.changes = next.changes.with(next.generation, Arc::new([sku(name)]));
                    *p = Arc::new(next);
                });
            } else if round == 60 {
                // A product that was planned before this core sold it; and the network heals.
                let mut core = network.core.lock();
                core.state.products.push(product("d", Tier::Db));
                network.hostile.store(false, std::sync::atomic::Ordering::SeqCst);
            } else {
                let newest = plan.borrow().clone();
                let core = network.core.lock();
                let same = newest.decisions.iter().all(|(s, d)| core.plan.get(s) == Some(&d.tier));
                if same
                    && core.plan.len() == newest.decisions.len()
                    && view_out.borrow().acknowledged == Some(newest.generation)
                {
                    settle += 1;
                }
                if settle == 3 {
                    break;
                }
                assert!(round < 20_000, "seed {seed}: {newest:?}\n{core:?}");
            }
            generations.push(network.core.lock().state.generation);
            tokio::time::sleep(clock.real(Duration::from_millis(rng.random_range(1..200)))).await;
        }
        assert_eq!(network.core.lock().state.generation, plan.borrow().generation, "seed {seed}");
        shutdown.cancel();
        running.await.unwrap();
    }
}

fn pushed(next: Next) -> PlanPush {
    match next {
        Next::Push(push) => push,
        other => panic!("a push was expected, not {other:?}"),
    }
}

#[test]
fn first_the_whole_plan_then_only_what_changed() {
    let mut core = TrueCore::selling(&["a", "b"]);
    let plan = plan_of(7, &[("a", Tier::Redis, 7), ("b", Tier::Db, 3), ("not-here", Tier::Queue, 2)]);
    let link = Link::default();
    assert_eq!(link.next(&plan, Nonce::new(1)), Next::Nothing, "first it must say what it sells");
    let link = link.observed(&core.state);
    let push = pushed(link.next(&plan, Nonce::new(1)));
    assert_eq!((push.base, push.entries.len()), (None, 2), "only what the core sells");
    let (link, outcome, _) = link.offers(&push).answered(&push, &core.take(&push));
    assert_eq!(outcome, Outcome::Acknowledged);
    assert_eq!(link.next(&plan, Nonce::new(2)), Next::Nothing);

    let plan = plan_of(8, &[("a", Tier::Redis, 7), ("b", Tier::Queue, 8)]);
    let push = pushed(link.next(&plan, Nonce::new(3)));
    assert_eq!((push.base, push.entries.len()), (Some(Generation::new(7)), 1));
    insta::assert_snapshot!(serde_json::to_string(&push).unwrap(), @r#"{"term":1,"core":"core","generation":8,"nonce":3,"base":7,"entries":[{"product":"b","tier":"queue","reason":"warm"}]}"#);
}

#[test]
fn each_refusal_has_its_remedy() {
    let mut core = TrueCore::selling(&["a", "b"]);
    let plan = plan_of(7, &[("a", Tier::Redis, 7), ("b", Tier::Db, 3)]);
    let link = Link::default().observed(&core.state);
    let push = pushed(link.next(&plan, Nonce::new(1)));
    let nack =
        |generation, why| PlanAnswer::Nack { generation: Generation::new(generation), nonce: Nonce::new(1), why };

    let (_, _, renew) = link.clone().offers(&push).answered(&push, &nack(90, NackReason::StaleGeneration));
    assert_eq!(renew, Some(Renew { above: Generation::new(90), products: vec![], term: None }));

    let unknown = nack(0, NackReason::UnknownProduct { product: sku("b") });
    let (dropped, _, _) = link.clone().offers(&push).answered(&push, &unknown);
    let rest = pushed(dropped.next(&plan, Nonce::new(2)));
    assert_eq!(rest.entries.len(), 1, "the unknown product is left out");

    let (link, _, _) = link.clone().offers(&push).answered(&push, &core.take(&push));
    let plan = plan_of(8, &[("a", Tier::Db, 8), ("b", Tier::Db, 3)]);
    let delta = pushed(link.next(&plan, Nonce::new(1)));
    let (link, _, _) = link.offers(&delta).answered(&delta, &nack(5, NackReason::UnknownBase));
    assert_eq!(pushed(link.next(&plan, Nonce::new(3))).base, None, "the whole plan");

    let whole = pushed(link.next(&plan, Nonce::new(1)));
    for absurd in [nack(3, NackReason::StaleGeneration), nack(3, NackReason::UnknownBase)] {
        assert_eq!(link.clone().answered(&whole, &absurd).1, Outcome::Foreign, "{absurd:?}");
    }
}

#[test]
fn an_answer_to_another_push_is_no_answer() {
    let mut core = TrueCore::selling(&["a"]);
    let plan = plan_of(7, &[("a", Tier::Redis, 7)]);
    let link = Link::default().observed(&core.state);
    let push = pushed(link.next(&plan, Nonce::new(1)));
    let stranger = PlanPush { nonce: Nonce::new(99), ..push.clone() };
    let (link, outcome, _) = link.offers(&push).answered(&push, &core.take(&stranger));
    assert_eq!(outcome, Outcome::Foreign);
    assert_eq!(link.acknowledged(), None);
}

#[test]
fn a_plan_too_large_for_one_push_goes_in_parts() {
    let names: Vec<String> = (0..=MAX_PUSH_ENTRIES).map(|n| format!("p{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut core = TrueCore::selling(&names);
    let (last, first) = names.split_last().unwrap();
    let mut plan = plan_of(2, &[(last, Tier::Queue, 2)]);
    plan.decisions.extend(first.iter().map(|n| (sku(n), decision(Tier::Redis, 1))));
    let mut link = Link::default().observed(&core.state);
    let mut pushes = 0;
    while let Next::Push(push) = link.next(&plan, Nonce::new(pushes)) {
        assert!(push.entries.len() <= MAX_PUSH_ENTRIES);
        (link, _, _) = link.offers(&push).answered(&push, &core.take(&push));
        pushes += 1;
    }
    assert_eq!((pushes, core.plan.len()), (2, names.len()));

    core.restart(true);
    let link = link.observed(&core.state);
    let Next::Renew(renew) = link.next(&plan, Nonce::new(9)) else { panic!("a newer number first") };
    let plan = raise(&plan, &renew);
    let link = link.observed(&core.state);
    let again = link.next(&plan, Nonce::new(9));
    let plan = match again {
        Next::Renew(renew) => raise(&plan, &renew),
        _ => plan,
    };
    assert_eq!(pushed(link.next(&plan, Nonce::new(10))).base, None);
}

#[test]
fn enforced_means_tier_and_phase_in_every_core_heard_lately() {
    let planned = decision(Tier::Redis, 3);
    let core = |tier, phase, generation| {
        let mut state = core_state("core", vec![types::plan::ProductState { phase, ..product("a", tier) }]);
        state.generation = Generation::new(generation);
        CoreView { seen: CoreSeen { state: Some(Arc::new(state)), at: seconds(0) }, ..CoreView::default() }
    };
    let says = |cores: &[CoreView], now| {
        Applied::new(cores, None, now, Duration::from_secs(3)).enforcement(&sku("a"), &planned)
    };
    let done = core(Tier::Redis, Phase::Active, 3);
    assert_eq!(says(std::slice::from_ref(&done), seconds(1)), Enforcement::Applied);
    assert_eq!(says(&[done.clone(), core(Tier::Redis, Phase::Draining, 3)], seconds(1)), Enforcement::Pending);
    assert_eq!(says(&[core(Tier::Db, Phase::Active, 3)], seconds(1)), Enforcement::Pending);
    assert_eq!(says(&[core(Tier::Redis, Phase::Active, 2)], seconds(1)), Enforcement::Pending);
    assert_eq!(says(&[done], seconds(10)), Enforcement::Unknown);
    assert_eq!(says(&[], seconds(1)), Enforcement::Unknown);
}

#[test]
fn a_stand_by_pushes_nothing_and_a_new_leader_tells_everything() {
    let mut core = TrueCore::selling(&["a", "b"]);
    let mut plan = plan_of(7, &[("a", Tier::Redis, 7), ("b", Tier::Db, 3)]);
    plan.term = None;
    let link = Link::default().observed(&core.state);
    assert_eq!(link.next(&plan, Nonce::new(1)), Next::Nothing, "it stands by");
    plan.term = Some(Term::new(4));
    let push = pushed(link.next(&plan, Nonce::new(1)));
    assert_eq!((push.term, push.core.as_ref().map(ToString::to_string)), (Term::new(4), Some("core".to_owned())));
    let (link, _, _) = link.offers(&push).answered(&push, &core.take(&push));
    assert_eq!(link.next(&plan, Nonce::new(2)), Next::Nothing);
    // It led, stood by, and leads again: what the core was told meanwhile is not known.
    plan.term = Some(Term::new(6));
    let Next::Renew(renew) = link.next(&plan, Nonce::new(3)) else { panic!("a number above what the core holds") };
    assert_eq!(renew, Renew { above: Generation::new(7), products: vec![], term: None });
    assert_eq!(pushed(link.next(&raise(&plan, &renew), Nonce::new(3))).base, None);
}

#[test]
fn a_core_that_heard_of_a_later_leader_raises_the_term_and_another_core_is_not_believed() {
    let mut core = TrueCore::selling(&["a"]);
    let plan = plan_of(7, &[("a", Tier::Redis, 7)]);
    core.state.term = Term::new(9);
    let link = Link::default().observed(&core.state);
    let Next::Renew(renew) = link.next(&plan, Nonce::new(1)) else { panic!("the term first") };
    assert_eq!(renew.term, Some(Term::new(9)));
    core.state.term = Term::new(1);
    let link = link.observed(&core.state);
    let push = pushed(link.next(&plan, Nonce::new(1)));
    let nack = |why| PlanAnswer::Nack { generation: Generation::new(3), nonce: Nonce::new(1), why };
    let old = nack(NackReason::OldLeader { term: Term::new(9) });
    let (_, outcome, renew) = link.clone().offers(&push).answered(&push, &old);
    assert!(matches!(outcome, Outcome::Refused(_)));
    assert_eq!(renew.and_then(|r| r.term), Some(Term::new(9)));
    let wrong = nack(NackReason::WrongCore { core: types::CoreId::new("other").unwrap() });
    let (link, outcome, _) = link.offers(&push).answered(&push, &wrong);
    assert!(matches!(outcome, Outcome::Refused(_)));
    assert_eq!(link.next(&plan, Nonce::new(2)), Next::Nothing, "who stands there must say so first");
}
