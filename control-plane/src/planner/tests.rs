//! The planner's story, tick by tick, and its properties on generated input (proptest prints its seed and
//! keeps failures in `proptest-regressions`).
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use types::plan::{ProductState, Reason};
use types::{Generation, HeatEntry, Sku, Tier, Timestamp};

use super::*;
use crate::fixtures::{THRESHOLDS, core_state, entry, product, report, seconds, sku};
use crate::observe::CoreSeen;

/// A planner with its surroundings, driven tick by tick (250 ms).
struct Desk {
    policy: Policy,
    products: Vec<ProductState>,
    heat: HeatView,
    overrides: BTreeMap<Sku, Override>,
    last: Decisions,
    now: Timestamp,
    sequence: u64,
    core_answers: bool,
    moves: Vec<(Timestamp, Move)>,
}

impl Desk {
    /// One minute into the sale.
    fn with(products: Vec<ProductState>) -> Self {
        let now = seconds(60);
        Self {
            policy: Policy::default(),
            products,
            heat: HeatView::new(now),
            overrides: BTreeMap::new(),
            last: Decisions::default(),
            now,
            sequence: 0,
            core_answers: true,
            moves: Vec::new(),
        }
    }
    fn plan(&self, only: Option<&BTreeSet<Sku>>) -> PlanOutput {
        let state = Some(Arc::new(core_state("core", self.products.clone())));
        let at = if self.core_answers { self.now } else { seconds(-1000) };
        let cores = [CoreSeen { state, at }];
        let products = Products::of(&cores, self.now, self.policy.core_silence);
        plan(&PlanInput {
            now: self.now,
            policy: &self.policy,
            last: &self.last,
            heat: &self.heat,
            overrides: &self.overrides,
            products: &products,
            moves_left: self.policy.moves_per_tick,
            due: only.map_or(Due::All, Due::These),
        })
    }
    /// A tick without a heat report.
    fn quiet(&mut self) -> PlanOutput {
        let out = self.plan(None);
        assert_eq!(out, self.plan(None), "the same input gives the same plan");
        self.check(&out);
        self.moves.extend(out.moves.iter().map(|m| (self.now, m.clone())));
        self.last = out.applied_to(&self.last);
        for product in &mut self.products {
            if let Some(decision) = self.last.get(&product.product) {
                product.tier = decision.tier;
            }
        }
        for sku in &out.ended {
            self.overrides.remove(sku);
        }
        self.now = self.now.plus(Duration::from_millis(250));
        out
    }
    /// A tick with a whole heat report.
    fn tick(&mut self, entries: Vec<HeatEntry>) -> PlanOutput {
        self.sequence += 1;
        let mut report = report(self.sequence, self.now, entries);
        report.snapshot = true;
        self.heat.apply(b"0", report, self.now);
        self.quiet()
    }
    /// Ticks with the same heat for this long.
    fn stay(&mut self, time: Duration, entries: &[HeatEntry]) {
        let end = self.now.plus(time);
        while self.now < end {
            self.tick(entries.to_vec());
        }
    }
    fn says(&self, name: &str) -> (Tier, &'static str) {
        let decision = &self.last[&sku(name)];
        (decision.tier, decision.reason.as_str())
    }
    fn order(&mut self, name: &str, tier: Tier, ttl: u64) {
        let until = self.now.plus(Duration::from_secs(ttl));
        let order = Override {
            tier,
            by: "ada".into(),
            why: "a test".into(),
            at: self.now,
            until,
            generation: Generation::new(1),
        };
        self.overrides.insert(sku(name), order);
    }
    /// What holds of every plan.
    fn check(&self, out: &PlanOutput) {
        for (sku, next) in &out.decisions {
            if let Some(last) = self.last.get(sku) {
                if last.tier != next.tier {
                    assert_ne!(last.reason, next.reason, "{sku}: a tier changed and the reason did not");
                    assert!(out.changed.contains(sku), "{sku} changed but is not named");
                    assert!(out.moves.iter().any(|m| m.product == *sku), "{sku} moved but is not named");
                }
                if (last.tier, last.reason.as_str()) == (next.tier, next.reason.as_str()) {
                    assert_eq!(last.since, next.since, "{sku}: nothing changed, so the time it holds since stays");
                }
            }
            if let Some(order) = self.overrides.get(sku).filter(|o| o.holds(self.now)) {
                assert_eq!(next.tier, order.tier, "{sku}: an override wins");
            }
        }
        assert!(out.automatic_moves() <= self.policy.moves_per_tick);
    }
}

const HOT: (u64, u64) = (150, 900);
const WARM: (u64, u64) = (30, 200);

fn hot(name: &str, attempts: f64) -> HeatEntry {
    entry(name, HOT.0, HOT.1, 80, attempts)
}
fn warm(name: &str) -> HeatEntry {
    entry(name, WARM.0, WARM.1, 20, 0.5)
}

#[test]
fn heat_moves_a_product_up_after_two_reports_and_down_after_thirty_seconds() {
    let mut desk = Desk::with(vec![product("a", Tier::Db)]);
    desk.tick(vec![]);
    assert_eq!(desk.says("a"), (Tier::Db, "Cold"));
    desk.tick(vec![warm("a")]);
    assert_eq!(desk.says("a"), (Tier::Db, "Cold"), "one report is not a trend");
    desk.quiet();
    assert_eq!(desk.says("a"), (Tier::Db, "Cold"), "the same report twice is not one either");
    desk.tick(vec![warm("a")]);
    assert_eq!(desk.says("a"), (Tier::Redis, "Warm"));
    desk.stay(Duration::from_secs(11), &[hot("a", 200.0)]);
    assert_eq!(desk.says("a"), (Tier::Queue, "Hot"));

    let cold_from = desk.now;
    while desk.says("a").0 == Tier::Queue {
        desk.tick(vec![warm("a")]);
    }
    assert_eq!(desk.says("a"), (Tier::Redis, "Cooled"));
    assert!(desk.now.since(cold_from) >= Duration::from_secs(30));
    desk.stay(Duration::from_secs(11), &[warm("a")]);
    assert_eq!(desk.says("a"), (Tier::Redis, "Warm"), "what it is now, after what happened");
    desk.stay(Duration::from_secs(31), &[]);
    assert_eq!(desk.says("a"), (Tier::Db, "Cooled"));
}

#[test]
fn four_times_the_threshold_moves_at_once() {
    let mut desk = Desk::with(vec![product("a", Tier::Db)]);
    desk.tick(vec![entry("a", 4 * THRESHOLDS.hot5, 400, 50, 500.0)]);
    assert_eq!(desk.says("a"), (Tier::Queue, "Hot"));
}

#[test]
fn a_hot_product_without_contention_stays_in_redis_and_a_contended_one_keeps_the_queue() {
    let mut desk = Desk::with(vec![product("a", Tier::Db), product("b", Tier::Db)]);
    let calm = |name| hot(name, 99.0);
    desk.stay(Duration::from_secs(1), &[calm("a"), calm("b")]);
    assert_eq!(desk.says("a"), (Tier::Redis, "HotUncontended"), "1,000 units last 10.1 s");
    desk.stay(Duration::from_secs(11), &[hot("a", 100.0), calm("b")]);
    assert_eq!(desk.says("a"), (Tier::Queue, "Hot"), "they would last 10 s");
    assert_eq!(desk.says("b"), (Tier::Redis, "HotUncontended"));
    desk.stay(Duration::from_secs(60), &[calm("a"), calm("b")]);
    assert_eq!(desk.says("a"), (Tier::Queue, "Hot"), "calmer, but still hot");

    let mut plenty = product("c", Tier::Db);
    plenty.sellable = 1_000_000;
    let mut desk = Desk::with(vec![plenty]);
    desk.stay(Duration::from_secs(1), &[hot("c", 10_000.0)]);
    assert_eq!(desk.says("c"), (Tier::Redis, "HotUncontended"), "half of the measured capacity is not exceeded");
    desk.stay(Duration::from_secs(11), &[hot("c", 10_001.0)]);
    assert_eq!(desk.says("c"), (Tier::Queue, "Hot"));
}

#[test]
fn a_flood_from_three_visitors_does_not_promote() {
    let mut desk = Desk::with(vec![product("a", Tier::Db)]);
    desk.stay(Duration::from_secs(20), &[entry("a", 100_000, 1_000_000, 3, 5_000.0)]);
    assert_eq!(desk.says("a"), (Tier::Db, "Cold"));
    desk.stay(Duration::from_secs(1), &[entry("a", 9, 100_000, 50, 0.0)]);
    assert_eq!(desk.says("a"), (Tier::Db, "Cold"), "nor do nine events");
}

#[test]
fn a_product_whose_every_request_is_refused_stays_hot() {
    let mut refused = product("a", Tier::Db);
    refused.sellable = 500;
    let mut desk = Desk::with(vec![refused]);
    // Nothing is sold for ten minutes: `sellable` stands still, the attempts go on.
    desk.stay(Duration::from_secs(600), &[hot("a", 5_000.0)]);
    assert_eq!(desk.says("a"), (Tier::Queue, "Hot"));
    assert_eq!(desk.moves.len(), 1);
}

#[test]
fn an_override_wins_until_its_end_and_ends_by_itself() {
    let mut desk = Desk::with(vec![product("a", Tier::Db)]);
    desk.tick(vec![]);
    desk.order("a", Tier::Queue, 60);
    let touched = BTreeSet::from([sku("a")]);
    let at_once = desk.plan(Some(&touched));
    assert_eq!(at_once.decision(&sku("a")).unwrap().tier, Tier::Queue, "without a tick, without dwell");
    assert!(!at_once.moves[0].automatic);
    let end = desk.now.plus(Duration::from_secs(60));
    while desk.now < end {
        desk.tick(vec![]);
        assert_eq!(desk.says("a"), (Tier::Queue, "Override"));
    }
    let out = desk.tick(vec![]);
    assert_eq!(out.ended, [sku("a")]);
    assert_eq!(desk.says("a"), (Tier::Db, "Cold"));
}

#[test]
fn an_override_ends_even_without_heat_and_leaves_what_was_known_before() {
    let mut desk = Desk::with(vec![product("a", Tier::Db)]);
    desk.stay(Duration::from_secs(2), &[warm("a")]);
    desk.order("a", Tier::Queue, 20);
    for _ in 0..81 {
        desk.quiet();
    }
    assert_eq!(desk.says("a"), (Tier::Redis, "Stale"));
}

#[test]
fn without_reports_the_plan_is_kept_and_called_stale() {
    let mut desk = Desk::with(vec![product("a", Tier::Db)]);
    desk.stay(Duration::from_secs(1), &[warm("a")]);
    for _ in 0..39 {
        desk.quiet();
    }
    assert_eq!(desk.says("a"), (Tier::Redis, "Warm"), "not yet 10 s");
    for _ in 0..1_000 {
        desk.quiet();
    }
    assert_eq!(desk.says("a"), (Tier::Redis, "Stale"));
    let Reason::Stale { age_ms } = desk.last[&sku("a")].reason else { panic!("stale") };
    assert_eq!(age_ms, 259_000);
    desk.tick(vec![]);
    assert_eq!(desk.says("a"), (Tier::Redis, "Warm"), "the silence before was no cold: cooling begins now");
}

#[test]
fn a_view_without_a_snapshot_cools_nothing() {
    let mut desk = Desk::with(vec![product("a", Tier::Redis)]);
    for _ in 0..200 {
        desk.sequence += 1;
        let delta = report(desk.sequence, desk.now, vec![]);
        desk.heat.apply(b"0", delta, desk.now);
        desk.quiet();
    }
    assert_eq!(desk.says("a"), (Tier::Redis, "Warm"));
}

#[test]
fn a_sale_starts_on_its_own_tier_and_heat_has_its_say_later() {
    let mut early = product("a", Tier::Db);
    early.initial_tier = Some(Tier::Queue);
    early.opens = seconds(200);
    let mut desk = Desk::with(vec![early]);
    desk.stay(Duration::from_secs(70), &[]);
    assert!(desk.last.is_empty(), "the sale is not soon");
    desk.stay(Duration::from_secs(20), &[]);
    assert_eq!(desk.says("a"), (Tier::Queue, "SaleStart"), "loaded before the opening second");
    while desk.now < seconds(239) {
        desk.tick(vec![]);
        assert_eq!(desk.says("a"), (Tier::Queue, "SaleStart"));
    }
    desk.stay(Duration::from_secs(3), &[]);
    assert_eq!(desk.says("a"), (Tier::Db, "Cooled"), "dwell and 30 s after the opening, nobody came");
    assert_eq!(desk.moves.len(), 2);

    let mut busy = product("b", Tier::Db);
    busy.initial_tier = Some(Tier::Redis);
    busy.opens = seconds(61);
    let mut desk = Desk::with(vec![busy]);
    desk.tick(vec![]);
    assert_eq!(desk.says("b"), (Tier::Redis, "SaleStart"));
    desk.stay(Duration::from_secs(2), &[hot("b", 900.0)]);
    assert_eq!(desk.says("b"), (Tier::Queue, "Hot"), "a sale start does not make heat wait for a dwell");
}

#[test]
fn many_sale_starts_are_not_bound_by_the_budget() {
    let many = (0..300).map(|n| ProductState {
        initial_tier: Some(Tier::Redis),
        opens: seconds(70),
        ..product(&format!("p{n}"), Tier::Db)
    });
    let mut desk = Desk::with(many.collect());
    let out = desk.tick(vec![]);
    assert_eq!(out.moves.len(), 300);
}

#[test]
fn what_is_sold_out_is_not_moved_and_what_is_reserved_may_cool() {
    let mut gone = product("a", Tier::Db);
    gone.sellable = 0;
    let mut reserved = product("b", Tier::Db);
    (reserved.sellable, reserved.reserved) = (0, 7);
    let mut desk = Desk::with(vec![gone, reserved]);
    desk.stay(Duration::from_secs(2), &[hot("a", 900.0), hot("b", 900.0)]);
    assert_eq!(desk.says("a"), (Tier::Db, "SoldOut"));
    assert_eq!(desk.says("b"), (Tier::Db, "SoldOut"), "no promotion while nothing can be sold");
    desk.products[1].sellable = 7;
    desk.stay(Duration::from_secs(1), &[hot("b", 900.0)]);
    assert_eq!(desk.says("b"), (Tier::Queue, "Hot"), "units came back");
    desk.products[1].sellable = 0;
    desk.stay(Duration::from_secs(40), &[]);
    assert_eq!(desk.says("b"), (Tier::Db, "Cooled"), "units that come back sell on the simple path");
}

#[test]
fn no_move_without_a_core_that_can_make_it() {
    let mut desk = Desk::with(vec![product("a", Tier::Db)]);
    desk.core_answers = false;
    desk.stay(Duration::from_secs(2), &[warm("a")]);
    assert_eq!(desk.says("a"), (Tier::Db, "CoreNotReady"));
    desk.core_answers = true;
    desk.tick(vec![warm("a")]);
    assert_eq!(desk.says("a"), (Tier::Redis, "Warm"));
}

#[test]
fn the_budget_goes_to_the_hottest_and_the_others_follow() {
    let names: Vec<String> = (0..50).map(|n| format!("p{n:02}")).collect();
    let mut desk = Desk::with(names.iter().map(|n| product(n, Tier::Db)).collect());
    let crowd: Vec<_> = (0..50).map(|n| entry(&names[n], 25 + n as u64, 200, 20, 0.0)).collect();
    desk.tick(crowd.clone());
    let out = desk.tick(crowd.clone());
    assert_eq!(out.moves.len(), 20);
    assert!(out.moves.iter().all(|m| m.product.as_str() >= "p30"), "the hottest twenty");
    assert_eq!(desk.says("p29"), (Tier::Db, "BudgetHeld"));
    desk.tick(crowd.clone());
    desk.tick(crowd);
    assert_eq!(desk.moves.len(), 50);
    assert_eq!(desk.says("p00"), (Tier::Redis, "Warm"));
}

#[test]
fn a_closed_sale_leaves_the_plan_but_a_silent_core_does_not_take_products_with_it() {
    let mut ending = product("a", Tier::Db);
    ending.closes = seconds(61);
    let mut desk = Desk::with(vec![ending, product("b", Tier::Db)]);
    desk.tick(vec![]);
    assert_eq!(desk.last.len(), 2);
    desk.now = seconds(61);
    assert_eq!(desk.tick(vec![]).dropped, [sku("a")]);

    let input_cores = [CoreSeen::default()];
    let out = plan(&PlanInput {
        now: desk.now,
        policy: &desk.policy,
        last: &desk.last,
        heat: &desk.heat,
        overrides: &desk.overrides,
        products: &Products::of(&input_cores, desk.now, desk.policy.core_silence),
        moves_left: 20,
        due: Due::All,
    });
    assert_eq!(out.applied_to(&desk.last), desk.last, "after a restart of ours, before the core has spoken");
    assert!(out.changed.is_empty());
}

#[test]
fn a_product_found_on_a_fast_path_is_taken_as_it_stands() {
    let mut desk = Desk::with(vec![product("a", Tier::Queue)]);
    desk.tick(vec![]);
    assert_eq!(desk.says("a"), (Tier::Queue, "Hot"));
    desk.stay(Duration::from_secs(31), &[]);
    assert_eq!(desk.says("a"), (Tier::Db, "Cooled"));
}

fn share(threshold: u64, low: f64, high: f64) -> impl Strategy<Value = u64> {
    let of = move |share: f64| (threshold as f64 * share) as u64;
    (of(low) + 1)..of(high)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn inside_the_band_nothing_ever_moves(
        start in prop::sample::select(Tier::ALL.to_vec()),
        heat in prop::collection::vec((0.61f64..0.99, 0.61f64..0.99, 0.0f64..300.0), 400),
    ) {
        // The band of the level that the product has: below promotion on 5 s, above demotion on 60 s.
        let (count5, count60) = match start {
            Tier::Queue => (THRESHOLDS.hot5, THRESHOLDS.hot60),
            Tier::Db | Tier::Redis => (THRESHOLDS.warm5, THRESHOLDS.warm60),
        };
        let mut desk = Desk::with(vec![product("a", start)]);
        for (five, sixty, attempts) in heat {
            let at = |count: u64, share: f64| (count as f64 * share).ceil() as u64;
            let five = at(count5, five).min(count5 - 1);
            desk.tick(vec![entry("a", five, at(count60, sixty), 50, attempts)]);
        }
        prop_assert!(desk.moves.is_empty(), "{:?}", desk.moves);
    }

    #[test]
    fn automatic_moves_keep_their_distance_on_any_input(
        heat in prop::collection::vec(
            (prop::option::weighted(0.9, (0u64..700, 0u64..1_500, 0u64..30, 0.0f64..500.0)), 1u32..40), 1..60),
        sellable in prop::sample::select(vec![0u64, 3, 1_000, 1_000_000]),
        order in prop::option::of((0usize..60, prop::sample::select(Tier::ALL.to_vec()), 10u64..60)),
    ) {
        let mut desk = Desk::with(vec![ProductState { sellable, ..product("a", Tier::Db) }]);
        for (n, (seen, ticks)) in heat.into_iter().enumerate() {
            if let Some((_, tier, ttl)) = order.filter(|(at, _, _)| *at == n) {
                desk.order("a", tier, ttl);
            }
            for _ in 0..ticks {
                // `check` looks at every plan on the way.
                match seen {
                    Some((five, sixty, visitors, attempts)) => {
                        desk.tick(vec![entry("a", five, sixty, visitors, attempts)])
                    }
                    None => desk.quiet(),
                };
            }
        }
        let automatic: Vec<_> = desk.moves.iter().filter(|(_, m)| m.automatic).map(|(at, _)| *at).collect();
        for pair in automatic.windows(2) {
            prop_assert!(pair[1].since(pair[0]) >= desk.policy.dwell, "{:?}", desk.moves);
        }
    }

    #[test]
    fn too_few_visitors_never_promote(
        heat in prop::collection::vec((0u64..1_000_000, 0u64..1_000_000, 0u64..5, 0.0f64..1e6), 100),
    ) {
        let mut desk = Desk::with(vec![product("a", Tier::Db)]);
        for (five, sixty, visitors, attempts) in heat {
            desk.tick(vec![entry("a", five, sixty, visitors, attempts)]);
        }
        prop_assert!(desk.moves.is_empty());
    }

    #[test]
    fn contention_is_a_comparison_without_surprises(
        attempts in share(1_000, 0.0, 1.0), sellable in 0u64..100_000, capacity in 0u64..10_000,
    ) {
        let mut seller = product("a", Tier::Db);
        seller.sellable = sellable;
        let mut state = core_state("core", vec![seller]);
        state.redis_capacity = capacity;
        let mut heat = HeatView::new(seconds(60));
        heat.apply(b"0", report(1, seconds(60), vec![entry("a", 1, 1, 1, attempts as f64)]), seconds(60));
        let cores = [CoreSeen { state: Some(Arc::new(state)), at: seconds(60) }];
        let policy = Policy::default();
        let all = Products::of(&cores, seconds(60), policy.core_silence);
        let evidence = Evidence::gather(&all.get(&sku("a")).unwrap(), &heat, &policy);
        let expected = attempts * 10 >= sellable || (capacity > 0 && attempts * 2 > capacity);
        prop_assert_eq!(evidence.contended, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What is due is enough: a desk that looks only at what is due makes the same plan as one that looks at
    /// everything, tick by tick.
    #[test]
    fn looking_only_at_what_is_due_makes_the_same_plan(
        ticks in prop::collection::vec(
            (prop::collection::vec((0usize..6, 0u64..700, 0u64..1_500, 0u64..30, 0.0f64..500.0), 0..4),
             prop::option::weighted(0.7, any::<bool>()), prop::option::weighted(0.05, (0usize..6, 0u64..3_000))),
            1..120),
        order in prop::option::of((0usize..60, 0usize..6, prop::sample::select(Tier::ALL.to_vec()))),
    ) {
        let names = ["a", "b", "c", "d", "e", "f"];
        let mut desk = Desk::with(names.iter().map(|n| product(n, Tier::Db)).collect());
        desk.products[4] = ProductState {
            initial_tier: Some(Tier::Queue), opens: seconds(130), ..product("e", Tier::Db)
        };
        desk.products[5].closes = seconds(75);
        let mut lazy = crate::desk::Desk::new(desk.now);
        let mut lazily = Decisions::default();
        let mut looked = 0;
        for (n, (entries, report_comes, sold)) in ticks.into_iter().enumerate() {
            if let Some((_, which, tier)) = order.filter(|(at, ..)| *at == n) {
                desk.order(names[which], tier, 10);
                lazy.touch([sku(names[which])]);
            }
            if let Some((which, sellable)) = sold {
                desk.products[which].sellable = sellable;
            }
            if let Some(snapshot) = report_comes {
                desk.sequence += 1;
                let entries = entries.iter().map(|(p, five, sixty, v, a)| entry(names[*p], *five, *sixty, *v, *a));
                let mut report = report(desk.sequence, desk.now, entries.collect());
                report.snapshot = snapshot;
                lazy.reported(&report);
                desk.heat.apply(b"0", report, desk.now);
            }
            let cores =
                [CoreSeen { state: Some(Arc::new(core_state("core", desk.products.clone()))), at: desk.now }];
            let stale = desk.now.since(desk.heat.fresh_at()) >= desk.policy.stale_after;
            let over = desk.overrides.iter().filter(|(_, o)| !o.holds(desk.now)).map(|(sku, _)| sku.clone());
            lazy.touch(over.collect::<Vec<_>>());
            let all = lazy.prepare(&cores, desk.now, desk.policy.core_silence, stale);
            let mut out = plan(&PlanInput {
                now: desk.now,
                policy: &desk.policy,
                last: &lazily,
                heat: &desk.heat,
                overrides: &desk.overrides,
                products: &lazy.products,
                moves_left: desk.policy.moves_per_tick,
                due: if all { Due::All } else { Due::These(lazy.due()) },
            });
            looked += out.looks.len();
            lazy.looked(std::mem::take(&mut out.looks), all);
            lazily = out.applied_to(&lazily);
            let whole = desk.quiet();
            prop_assert_eq!(&whole.moves, &out.moves, "tick {}", n);
            prop_assert_eq!(&whole.dropped, &out.dropped, "tick {}", n);
            prop_assert!(lazily.iter().map(|(s, _)| s).eq(desk.last.iter().map(|(s, _)| s)), "tick {}", n);
            for (sku, decision) in desk.last.iter() {
                let mine = &lazily[sku];
                prop_assert_eq!((decision.tier, decision.reason.as_str(), decision.since),
                    (mine.tier, mine.reason.as_str(), mine.since), "{} at tick {}", sku, n);
            }
        }
        prop_assert!(looked > 0);
    }
}

#[test]
#[ignore = "a measurement: prints how long a plan takes among ten million pages"]
fn measure_a_hundred_thousand_changes() {
    let names: Vec<String> = (0..100_000).map(|n| format!("p{n}")).collect();
    let products: Vec<_> = names.iter().map(|n| product(n, Tier::Db)).collect();
    let now = seconds(60);
    let cores = [CoreSeen { state: Some(Arc::new(core_state("core", products))), at: now }];
    let policy = Policy::default();
    // A report names only what is hot or warm: of ten million active pages at most 1,100,000 are remembered.
    let mut heat = HeatView::new(now);
    let others = (0..1_000_000).map(|n| entry(&format!("other-{n}"), 30, 200, 20, 0.5));
    let mut first = report(1, now, names.iter().map(|n| warm(n)).chain(others).collect());
    first.snapshot = true;
    let mut desk = crate::desk::Desk::new(now);
    heat.apply(b"0", first, now);
    let mut last = Decisions::default();
    let overrides = BTreeMap::new();
    for round in 0..8u64 {
        let entries = names.iter().map(|n| entry(n, 30 + round, 200 + round, 20, 0.5)).collect();
        let report = report(2 + round, now, entries);
        let t = std::time::Instant::now();
        desk.reported(&report);
        heat.apply(b"0", report, now);
        let read = t.elapsed();
        let t = std::time::Instant::now();
        let all = desk.prepare(&cores, now, policy.core_silence, false);
        let prepared = t.elapsed();
        let t = std::time::Instant::now();
        let out = plan(&PlanInput {
            now,
            policy: &policy,
            last: &last,
            heat: &heat,
            overrides: &overrides,
            products: &desk.products,
            moves_left: 20,
            due: if all { Due::All } else { Due::These(desk.due()) },
        });
        let planned = t.elapsed();
        let t = std::time::Instant::now();
        last = out.applied_to(&last);
        let applied = t.elapsed();
        let changes = out.decisions.len();
        let t = std::time::Instant::now();
        desk.looked(out.looks, all);
        println!(
            "{changes} changes among {} pages: report {read:?}, prepare {prepared:?}, plan {planned:?}, \
            apply {applied:?}, look {:?}",
            heat.pages(),
            t.elapsed()
        );
    }
    let quiet: Vec<_> = names.iter().map(|n| entry(n, 0, 0, 0, 0.0)).collect();
    let mut cold = Decisions::default();
    let mut desk = crate::desk::Desk::new(now);
    let mut heat = HeatView::new(now);
    let mut snapshot = report(1, now, quiet);
    snapshot.snapshot = true;
    heat.apply(b"0", snapshot, now);
    for _ in 0..3 {
        let t = std::time::Instant::now();
        let all = desk.prepare(&cores, now, policy.core_silence, false);
        let out = plan(&PlanInput {
            now,
            policy: &policy,
            last: &cold,
            heat: &heat,
            overrides: &overrides,
            products: &desk.products,
            moves_left: 20,
            due: if all { Due::All } else { Due::These(desk.due()) },
        });
        cold = out.applied_to(&cold);
        let looks = out.looks.len();
        desk.looked(out.looks, all);
        println!("{looks} looks of 100,000 cold products: {:?}", t.elapsed());
    }
}
