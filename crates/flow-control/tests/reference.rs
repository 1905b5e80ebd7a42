//! Each rule against the plainest model of it: lists and counters, no windows, no atomics. Seeds are printed by proptest
//! when a case fails.

use std::time::Duration;

use flow_control::{
    BreakerRule, Entry, FlowControl, FlowRule, HotParamRule, Nanos, Options, Param, Resource, RuleSet, Trip, Verdict,
};
use proptest::prelude::*;

fn one(rules: RuleSet) -> (FlowControl, Resource) {
    let control = FlowControl::new(Options { adaptive: None, ..Options::default() });
    control.apply(rules.check().expect("sound"));
    let resource = control.inbound("r").expect("room");
    (control, resource)
}

fn ms(millis: u64) -> Nanos {
    Nanos::from_millis(millis)
}

proptest! {
    /// QPS: an entry is let in exactly if, with it, the second that ends with this tenth holds at most the threshold.
    #[test]
    fn qps_is_a_list_of_times(
        threshold in 0_u64..20,
        steps in proptest::collection::vec((0_u64..150, 1_u32..4), 1..300),
    ) {
        let (_control, r) = one(RuleSet { flow: vec![FlowRule::qps("f", "r", threshold as f64)], ..RuleSet::default() });
        let (mut now, mut list) = (0, Vec::<u64>::new());
        for (gap, count) in steps {
            now += gap;
            let tenth = now / 100;
            let held = list.iter().filter(|t| **t + 10 > tenth).count() as u64;
            let entry = Entry { count, ..Entry::default() };
            match r.enter(&entry, ms(now)) {
                Verdict::Pass(pass) => {
                    prop_assert!(held + u64::from(count) <= threshold);
                    (0..count).for_each(|_| list.push(tenth));
                    pass.done(ms(now), true);
                }
                Verdict::Block(_) => prop_assert!(held + u64::from(count) > threshold),
                Verdict::Wait(..) => prop_assert!(false, "nobody waits"),
            }
        }
    }

    /// Concurrency: a counter.
    #[test]
    fn concurrency_is_a_counter(threshold in 0_u64..10, steps in proptest::collection::vec(any::<Option<u8>>(), 1..200)) {
        let rule = FlowRule::concurrency("f", "r", threshold as f64);
        let (control, r) = one(RuleSet { flow: vec![rule], ..RuleSet::default() });
        let mut inside = Vec::new();
        for (i, step) in steps.into_iter().enumerate() {
            let now = ms(i as u64);
            match step {
                Some(which) if !inside.is_empty() => {
                    let pass: flow_control::Pass = inside.swap_remove(usize::from(which) % inside.len());
                    if which % 2 == 0 { pass.done(now, true) } else { drop(pass) }
                }
                _ => match r.enter(&Entry::default(), now) {
                    Verdict::Pass(pass) => {
                        prop_assert!((inside.len() as u64) < threshold);
                        inside.push(pass);
                    }
                    _ => prop_assert_eq!(inside.len() as u64, threshold),
                },
            }
            prop_assert_eq!(control.live(now)[0].inside, inside.len() as u64);
        }
    }

    /// Hot parameters: no value gets more in its time than two thresholds and the burst (a bucket may be emptied on both
    /// sides of its filling), and one that never asks for more than its threshold in any such time is never refused.
    #[test]
    fn a_value_gets_its_threshold_and_not_much_more(
        threshold in 1_u64..8,
        burst in 0_u64..4,
        steps in proptest::collection::vec((0_u64..400, 0_i64..3), 1..300),
    ) {
        let rule = HotParamRule { burst, ..HotParamRule::qps("h", "r", 0, threshold) };
        let (_control, r) = one(RuleSet { hot_param: vec![rule], ..RuleSet::default() });
        let mut now = 0;
        let mut asked: Vec<(u64, i64)> = Vec::new();
        let mut let_in: Vec<(u64, i64)> = Vec::new();
        for (gap, value) in steps {
            now += gap;
            let params = [Param::Number(value)];
            let of = |list: &[(u64, i64)]| list.iter().filter(|(t, v)| *v == value && t + 1_000 >= now).count() as u64;
            match r.enter(&Entry { params: &params, ..Entry::default() }, ms(now)) {
                Verdict::Pass(pass) => {
                    let_in.push((now, value));
                    pass.done(ms(now), true);
                    prop_assert!(of(&let_in) <= 2 * threshold + burst);
                }
                _ => prop_assert!(of(&asked) >= threshold, "{value} asked {} times in a second", of(&asked)),
            }
            asked.push((now, value));
        }
    }

    /// A breaker: a state, a list of the interval's calls, and the time of the next probe.
    #[test]
    fn a_breaker_is_a_state_and_a_list(
        ratio in 0.0_f64..1.0,
        min_calls in 1_u64..6,
        steps in proptest::collection::vec((0_u64..700, any::<bool>()), 1..300),
    ) {
        let rule = BreakerRule {
            id: "b".into(),
            resource: "r".into(),
            trip: Trip::ErrorRatio { ratio },
            open_for: Duration::from_secs(2),
            min_calls,
            interval: Duration::from_secs(1),
        };
        let (_control, r) = one(RuleSet { breaker: vec![rule], ..RuleSet::default() });
        let (mut now, mut open_until, mut calls) = (0, None::<u64>, Vec::<(u64, bool)>::new());
        for (gap, ok) in steps {
            now += gap;
            let probe = open_until.is_some_and(|until| now >= until);
            match r.enter(&Entry::default(), ms(now)) {
                Verdict::Pass(pass) => {
                    prop_assert!(open_until.is_none() || probe);
                    pass.done(ms(now), ok);
                    if probe {
                        open_until = (!ok).then_some(now + 2_000);
                        calls.clear();
                    } else {
                        calls.push((now / 1_000, ok));
                        calls.retain(|(interval, _)| *interval == now / 1_000);
                        let bad = calls.iter().filter(|(_, ok)| !ok).count();
                        if calls.len() as u64 >= min_calls && bad > 0 && bad as f64 > ratio * calls.len() as f64 {
                            open_until = Some(now + 2_000);
                        }
                    }
                }
                Verdict::Block(block) => {
                    let until = open_until.expect("it is open");
                    prop_assert!(now < until);
                    prop_assert_eq!(block.retry_after, Duration::from_millis(until - now));
                }
                Verdict::Wait(..) => prop_assert!(false, "nobody waits"),
            }
        }
    }
}

/// However many values come, so many are remembered, and those asked for last keep their counts.
#[test]
fn values_are_bounded() {
    let rule = HotParamRule { values: 100, ..HotParamRule::qps("h", "r", 0, 1) };
    let (control, r) = one(RuleSet { hot_param: vec![rule], ..RuleSet::default() });
    for value in 0..10_000 {
        let params = [Param::Number(value)];
        assert!(matches!(r.enter(&Entry { params: &params, ..Entry::default() }, ms(1)), Verdict::Pass(_)));
    }
    assert_eq!(control.live(ms(1))[0].values["h"], 100);
    let enter = |value| r.enter(&Entry { params: &[Param::Number(value)], ..Entry::default() }, ms(2));
    assert!(matches!(enter(9_950), Verdict::Block(_)), "one of the last hundred is known");
    assert!(matches!(enter(17), Verdict::Pass(_)), "the first ones are forgotten");
}

/// Threads together get exactly the threshold.
#[test]
fn threads_do_not_pass_a_threshold_together() {
    let (_control, r) = one(RuleSet { flow: vec![FlowRule::qps("f", "r", 1_000.0)], ..RuleSet::default() });
    let let_in = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    if let Verdict::Pass(pass) = r.enter(&Entry::default(), ms(50)) {
                        let_in.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        pass.done(ms(51), true);
                    }
                }
            });
        }
    });
    let let_in = let_in.into_inner();
    // Two who meet at the last places may both be refused, never both let in.
    assert!((990..=1_000).contains(&let_in), "{let_in}");
}
