//! What Sentinel's documentation says of each kind of rule, with its numbers, as a table of stories.

use std::sync::Arc;
use std::time::Duration;

use flow_control::{
    Entry, FlowControl, Kind, LiveResource, Nanos, Options, Param, Pass, Resource, RuleSet, SystemSample, Verdict,
    sentinel,
};

/// A process with the rules of a Sentinel document, without the adaptive limiter (which Sentinel has not on by itself).
fn process(document: &str) -> FlowControl {
    let control = FlowControl::new(Options { adaptive: None, ..Options::default() });
    let rules = sentinel::read(document).expect("a document").check().expect("sound");
    control.apply(rules);
    control
}

fn ms(millis: u64) -> Nanos {
    Nanos::from_millis(millis)
}

fn passes(verdict: Verdict) -> Option<Pass> {
    match verdict {
        Verdict::Pass(pass) => Some(pass),
        Verdict::Wait(..) | Verdict::Block(_) => None,
    }
}

/// How many of `n` who ask at once are let in at once; each ends right away.
fn admitted(resource: &Resource, entry: &Entry<'_>, n: usize, now: Nanos) -> usize {
    let let_in = (0..n).filter_map(|_| passes(resource.enter(entry, now)));
    let_in.map(|pass| pass.done(now, true)).count()
}

fn kind(verdict: Verdict) -> Kind {
    match verdict {
        Verdict::Block(block) => block.kind,
        other => panic!("refused was expected, not {other:?}"),
    }
}

fn live(control: &FlowControl, name: &str, now: Nanos) -> LiveResource {
    control.live(now).into_iter().find(|it| &*it.resource == name).expect("it is there")
}

/// "QPS: when the QPS exceeds the threshold, new requests are refused" (FlowQpsDemo: count 20).
#[test]
fn flow_by_qps_refuses_above_twenty_a_second() {
    let control = process(r#"{"flow": [{"resource": "r", "count": 20, "grade": 1, "limitApp": "default"}]}"#);
    let r = control.inbound("r").expect("room");
    for second in 0..5_u64 {
        // All at the second's start, so that each second has its own twenty.
        assert_eq!(admitted(&r, &Entry::default(), 100, ms(1000 * second + 10)), 20, "second {second}");
    }
    let seen = live(&control, "r", ms(4_010));
    assert_eq!((seen.totals.passed, seen.totals.blocked["flow"]), (100, 400));
}

/// No second, wherever it begins, sees more than the threshold (to a tenth).
#[test]
fn flow_by_qps_holds_over_every_second() {
    let control = process(r#"{"flow": [{"resource": "r", "count": 20}]}"#);
    let r = control.inbound("r").expect("room");
    let mut times = Vec::new();
    for t in 0..5_000 {
        (0..admitted(&r, &Entry::default(), 3, ms(t))).for_each(|_| times.push(t));
    }
    for t in &times {
        let tenth = t / 100;
        assert!(times.iter().filter(|o| (tenth..tenth + 10).contains(&(**o / 100))).count() <= 20);
    }
    assert!(times.len() >= 95, "and a steady crowd gets it all: {}", times.len());
}

/// "Concurrency: threads beyond the count are refused" (FlowThreadDemo: count 20).
#[test]
fn flow_by_concurrency_refuses_the_twenty_first() {
    let control = process(r#"{"flow": [{"resource": "r", "count": 20, "grade": 0}]}"#);
    let r = control.inbound("r").expect("room");
    let mut inside: Vec<Pass> = (0..20).map(|_| passes(r.enter(&Entry::default(), ms(1))).expect("room")).collect();
    assert_eq!(kind(r.enter(&Entry::default(), ms(1))), Kind::Flow);
    inside.pop().expect("twenty").done(ms(5), true);
    assert!(passes(r.enter(&Entry::default(), ms(5))).is_some());
    drop(inside);
    assert_eq!(live(&control, "r", ms(6)).inside, 0, "who is dropped has left");
}

/// "Warm up: count 20, warmUpPeriodSec 10: from count / 3 to count" (WarmUpFlowDemo).
#[test]
fn warm_up_rises_from_a_third_in_ten_seconds() {
    let control = process(r#"{"flow": [{"resource": "r", "count": 20, "controlBehavior": 1, "warmUpPeriodSec": 10}]}"#);
    let r = control.inbound("r").expect("room");
    let let_in: Vec<usize> = (1..20).map(|s| admitted(&r, &Entry::default(), 100, ms(1000 * s + 10))).collect();
    assert!((6..=7).contains(&let_in[0]), "cold: 20 / 3: {let_in:?}");
    assert!(let_in.windows(2).all(|two| two[0] <= two[1]), "it only rises: {let_in:?}");
    assert!(let_in[5] < 20, "not before its time: {let_in:?}");
    assert_eq!(let_in[14], 20, "all of it after ten seconds and some: {let_in:?}");
}

/// "Pacing: count 10 is one each 100 ms; who would wait longer than maxQueueingTimeMs is refused" (PaceFlowDemo:
/// 100 requests at once, 20 s).
#[test]
fn pacing_lets_one_in_each_hundred_milliseconds() {
    let control =
        process(r#"{"flow": [{"resource": "r", "count": 10, "controlBehavior": 2, "maxQueueingTimeMs": 20000}]}"#);
    let r = control.inbound("r").expect("room");
    let mut waits = Vec::new();
    for _ in 0..100 {
        match r.enter(&Entry::default(), ms(1)) {
            Verdict::Pass(pass) => {
                waits.push(0);
                pass.done(ms(1), true);
            }
            Verdict::Wait(wait, pass) => {
                waits.push(wait.as_millis());
                pass.done(ms(1).after(wait), true);
            }
            Verdict::Block(block) => panic!("{block:?}"),
        }
    }
    assert_eq!(waits, (0..100).map(|i| i * 100).collect::<Vec<u128>>());
    // With the default of 500 ms only the first six of a crowd get a place.
    let control = process(r#"{"flow": [{"resource": "r", "count": 10, "controlBehavior": 2}]}"#);
    let r = control.inbound("r").expect("room");
    let placed = (0..100).filter(|_| !matches!(r.enter(&Entry::default(), ms(1)), Verdict::Block(_))).count();
    assert_eq!(placed, 6);
}

/// Warm up and pacing together (`controlBehavior` 3): a cold resource is spaced three times as far.
#[test]
fn warm_up_pacing_spaces_a_cold_resource_further() {
    let control = process(
        r#"{"flow": [{"resource": "r", "count": 100, "controlBehavior": 3, "warmUpPeriodSec": 10, "maxQueueingTimeMs": 500}]}"#,
    );
    let r = control.inbound("r").expect("room");
    let waits: Vec<Duration> = (0..3)
        .map(|_| match r.enter(&Entry::default(), ms(1500)) {
            Verdict::Pass(_) => Duration::ZERO,
            Verdict::Wait(wait, _) => wait,
            Verdict::Block(block) => panic!("{block:?}"),
        })
        .collect();
    assert_eq!(waits[0], Duration::ZERO);
    assert!((29..=31).contains(&waits[1].as_millis()), "1000 / 33.3 ms: {waits:?}");
}

/// "Relate: `read_db` yields when `write_db` is busy".
#[test]
fn a_related_rule_yields_to_the_other_resource() {
    let control =
        process(r#"{"flow": [{"resource": "read_db", "count": 10, "strategy": 1, "refResource": "write_db"}]}"#);
    let (read, write) = (control.inbound("read_db").expect("room"), control.inbound("write_db").expect("room"));
    assert_eq!(admitted(&read, &Entry::default(), 50, ms(1)), 50, "nobody writes");
    assert_eq!(admitted(&write, &Entry::default(), 10, ms(2)), 10);
    assert_eq!(kind(read.enter(&Entry::default(), ms(3))), Kind::Flow);
    assert_eq!(admitted(&read, &Entry::default(), 5, ms(1_200)), 5, "a second later nobody does");
}

/// "limitApp: default, a caller's name, other".
#[test]
fn callers_are_ruled_apart() {
    let control = process(
        r#"{"flow": [{"resource": "r", "count": 5, "limitApp": "shop"}, {"resource": "r", "count": 2, "limitApp": "other"}]}"#,
    );
    let r = control.inbound("r").expect("room");
    let by = |origin| Entry { origin, ..Entry::default() };
    assert_eq!(admitted(&r, &by("shop"), 20, ms(1)), 5);
    assert_eq!(admitted(&r, &by("ann"), 20, ms(1)), 2, "each other caller by himself");
    assert_eq!(admitted(&r, &by("ben"), 20, ms(1)), 2);
}

/// "Hot parameters: count 5 a second for each value, value `3` has 10" (ParamFlowQpsDemo).
#[test]
fn hot_parameters_have_a_threshold_each_and_exceptions() {
    let control = process(
        r#"{"paramFlow": [{"resource": "r", "paramIdx": 0, "grade": 1, "count": 5, "durationInSec": 1,
            "paramFlowItemList": [{"object": "3", "classType": "int", "count": 10}]}]}"#,
    );
    let r = control.inbound("r").expect("room");
    for (value, expected) in [(1, 5), (2, 5), (3, 10)] {
        let params = [Param::Number(value)];
        let entry = Entry { params: &params, ..Entry::default() };
        assert_eq!(admitted(&r, &entry, 30, ms(10)), expected, "value {value}");
        assert_eq!(admitted(&r, &entry, 30, ms(900)), 0, "value {value}, the same second");
        assert_eq!(admitted(&r, &entry, 30, ms(1_100)), expected, "value {value}, the next");
    }
    let none = Entry::default();
    assert_eq!(admitted(&r, &none, 30, ms(10)), 30, "an entry without the parameter is not ruled");
}

/// "burstCount": what a quiet value may take beyond its threshold.
#[test]
fn hot_parameters_may_burst() {
    let control = process(r#"{"paramFlow": [{"resource": "r", "paramIdx": 0, "count": 5, "burstCount": 3}]}"#);
    let r = control.inbound("r").expect("room");
    let params = [Param::Text("lamp")];
    let entry = Entry { params: &params, ..Entry::default() };
    assert_eq!(admitted(&r, &entry, 30, ms(10)), 8);
    assert_eq!(admitted(&r, &entry, 30, ms(1_020)), 5, "a second refills the threshold, not the burst");
    assert_eq!(admitted(&r, &entry, 30, ms(9_000)), 8, "quiet time refills both");
}

/// Hot parameters by threads, and spaced evenly.
#[test]
fn hot_parameters_by_concurrency_and_paced() {
    let control = process(r#"{"paramFlow": [{"resource": "r", "paramIdx": 0, "grade": 0, "count": 2}]}"#);
    let r = control.inbound("r").expect("room");
    let params = [Param::Text("ann")];
    let entry = Entry { params: &params, ..Entry::default() };
    let first = passes(r.enter(&entry, ms(1))).expect("room");
    let _second = passes(r.enter(&entry, ms(1))).expect("room");
    assert_eq!(kind(r.enter(&entry, ms(1))), Kind::HotParam);
    first.done(ms(9), true);
    assert!(passes(r.enter(&entry, ms(9))).is_some());

    let control = process(
        r#"{"paramFlow": [{"resource": "r", "paramIdx": 0, "count": 10, "controlBehavior": 2, "maxQueueingTimeMs": 250}]}"#,
    );
    let r = control.inbound("r").expect("room");
    let waits: Vec<Option<u128>> = (0..5)
        .map(|_| match r.enter(&entry, ms(1)) {
            Verdict::Pass(_) => Some(0),
            Verdict::Wait(wait, _) => Some(wait.as_millis()),
            Verdict::Block(_) => None,
        })
        .collect();
    assert_eq!(waits, vec![Some(0), Some(100), Some(200), None, None]);
}

fn call(resource: &Resource, at: u64, took: u64, ok: bool) -> bool {
    match resource.enter(&Entry::default(), ms(at)) {
        Verdict::Pass(pass) => {
            pass.done(ms(at + took), ok);
            true
        }
        Verdict::Wait(..) => panic!("nobody waits here"),
        Verdict::Block(block) => {
            assert_eq!(block.kind, Kind::Breaker);
            false
        }
    }
}

/// "Slow call ratio: RT above 50 ms, ratio 0.6, at least 100 calls in 20 s, open for 10 s" (SlowRatioCircuitBreakerDemo).
#[test]
fn a_breaker_opens_on_slow_calls_and_probes_after_its_time() {
    let control = process(
        r#"{"degrade": [{"resource": "r", "grade": 0, "count": 50, "timeWindow": 10, "minRequestAmount": 100,
            "slowRatioThreshold": 0.6, "statIntervalMs": 20000}]}"#,
    );
    let r = control.inbound("r").expect("room");
    for i in 0..99 {
        assert!(call(&r, i, 100, true), "99 slow calls are too few to judge");
    }
    assert!(call(&r, 100, 100, true));
    assert!(!call(&r, 300, 1, true), "open");
    assert!(!call(&r, 10_150, 1, true), "ten seconds after the hundredth ended (at 200 ms) and not before");
    // The probe is slow: open for ten seconds more.
    assert!(call(&r, 10_201, 70, true));
    assert!(!call(&r, 20_200, 1, true));
    assert!(call(&r, 20_280, 10, true), "the next probe is quick");
    assert!(call(&r, 20_300, 100, true), "closed, and counting anew");
}

/// "Error ratio 0.5, at least 10 calls" and "error count".
#[test]
fn a_breaker_opens_on_errors_by_ratio_and_by_count() {
    let control = process(
        r#"{"degrade": [{"resource": "ratio", "grade": 1, "count": 0.5, "timeWindow": 5, "minRequestAmount": 10, "statIntervalMs": 1000},
                        {"resource": "count", "grade": 2, "count": 3, "timeWindow": 5, "minRequestAmount": 1, "statIntervalMs": 60000}]}"#,
    );
    let ratio = control.inbound("ratio").expect("room");
    for i in 0..10 {
        assert!(call(&ratio, i, 0, i % 2 == 0), "half of them fail: that is not more than half");
    }
    assert!(call(&ratio, 20, 0, false));
    assert!(!call(&ratio, 21, 0, true));
    let count = control.inbound("count").expect("room");
    for i in 0..4 {
        assert!(call(&count, i * 10_000, 0, false), "three errors in a minute are borne, the fourth opens");
    }
    assert!(!call(&count, 30_001, 0, true));
    assert!(call(&count, 35_001, 0, true));
}

/// While a probe is on its way all others are refused; one that is given up lets the next try.
#[test]
fn one_probe_at_a_time() {
    let control =
        process(r#"{"degrade": [{"resource": "r", "grade": 2, "count": 0, "timeWindow": 5, "minRequestAmount": 1}]}"#);
    let r = control.inbound("r").expect("room");
    assert!(call(&r, 0, 0, false));
    let probe = passes(r.enter(&Entry::default(), ms(5_001))).expect("the probe");
    assert_eq!(kind(r.enter(&Entry::default(), ms(5_002))), Kind::Breaker);
    drop(probe);
    assert!(call(&r, 5_003, 0, true));
    assert!(call(&r, 5_004, 0, true));
}

/// "System rules: qps 20, avgRt 10, maxThread 10, highestSystemLoad 3.0, highestCpuUsage 0.6" (SystemGuardDemo), each alone.
#[test]
fn system_rules_hold_over_all_inbound_resources() {
    let control = process(r#"{"system": [{"qps": 20}]}"#);
    let (a, b) = (control.inbound("a").expect("room"), control.inbound("b").expect("room"));
    assert_eq!(admitted(&a, &Entry::default(), 15, ms(1)) + admitted(&b, &Entry::default(), 15, ms(1)), 20);
    let out = control.outbound("db").expect("room");
    assert_eq!(admitted(&out, &Entry::default(), 15, ms(1)), 15, "what we call ourselves is not inbound");

    let control = process(r#"{"system": [{"maxThread": 10}]}"#);
    let a = control.inbound("a").expect("room");
    let inside: Vec<_> = (0..20).filter_map(|_| passes(a.enter(&Entry::default(), ms(1)))).collect();
    assert_eq!(inside.len(), 10);

    let control = process(r#"{"system": [{"avgRt": 10}]}"#);
    let a = control.inbound("a").expect("room");
    passes(a.enter(&Entry::default(), ms(1))).expect("room").done(ms(60), true);
    assert_eq!(kind(a.enter(&Entry::default(), ms(70))), Kind::System);
    assert!(passes(a.enter(&Entry::default(), ms(1_200))).is_some(), "a second later that answer is no more");

    let control = process(r#"{"system": [{"highestCpuUsage": 0.6}]}"#);
    let a = control.inbound("a").expect("room");
    control.observe(SystemSample { load: 0.0, cpu: 0.61 });
    assert_eq!(kind(a.enter(&Entry::default(), ms(1))), Kind::System);
    control.observe(SystemSample { load: 0.0, cpu: 0.5 });
    assert!(passes(a.enter(&Entry::default(), ms(1))).is_some());
}

/// Above the load only as many may be inside as the quickest answers and the best rate sustain.
#[test]
fn a_high_load_lets_in_what_flows() {
    let control = process(r#"{"system": [{"highestSystemLoad": 3.0}]}"#);
    let a = control.inbound("a").expect("room");
    for i in 0..10 {
        passes(a.enter(&Entry::default(), ms(i))).expect("room").done(ms(i + 40), true);
    }
    control.observe(SystemSample { load: 3.5, cpu: 0.0 });
    // At best 10 a tenth ended, so 100 a second, at 40 ms each: four inside.
    let inside: Vec<_> = (0..20).filter_map(|_| passes(a.enter(&Entry::default(), ms(60)))).collect();
    assert_eq!(inside.len(), 4);
}

/// "White list: appA, appE; black list" (AuthorityDemo).
#[test]
fn authority_by_list() {
    let control = process(
        r#"{"authority": [{"resource": "white", "limitApp": "appA,appE", "strategy": 0}, {"resource": "black", "limitApp": "appA,appB", "strategy": 1}]}"#,
    );
    let table =
        [("appA", true, false), ("appB", false, false), ("appC", false, true), ("appE", true, true), ("", false, true)];
    for (origin, white, black) in table {
        let entry = Entry { origin, ..Entry::default() };
        for (name, expected) in [("white", white), ("black", black)] {
            let resource = control.inbound(name).expect("room");
            assert_eq!(admitted(&resource, &entry, 1, ms(1)) == 1, expected, "{origin} at {name}");
        }
    }
}

/// Whoever is refused by a later rule has not used up an earlier one.
#[test]
fn a_refusal_takes_nothing() {
    let control = process(
        r#"{"flow": [{"resource": "r", "count": 10}, {"resource": "r", "count": 10, "controlBehavior": 2, "maxQueueingTimeMs": 10000}],
            "paramFlow": [{"resource": "r", "paramIdx": 0, "count": 1}]}"#,
    );
    let r = control.inbound("r").expect("room");
    let [ann, ben] = [[Param::Text("ann")], [Param::Text("ben")]];
    let by = |params| Entry { params, ..Entry::default() };
    assert!(matches!(r.enter(&by(&ann), ms(1)), Verdict::Pass(_)));
    for _ in 0..50 {
        assert_eq!(kind(r.enter(&by(&ann), ms(1))), Kind::HotParam);
    }
    let Verdict::Wait(wait, _pass) = r.enter(&by(&ben), ms(1)) else { panic!("the second place is free") };
    assert_eq!(wait, Duration::from_millis(100));
    assert_eq!(live(&control, "r", ms(1)).qps, 2);
}

/// What Sentinel can and we cannot is refused by its place, never dropped.
#[test]
fn what_is_absent_is_said() {
    for (document, place) in [
        (r#"{"flow": [{"resource": "r", "count": 1, "strategy": 2, "refResource": "e"}]}"#, "flow[0].strategy"),
        (r#"{"flow": [{"resource": "r", "count": 1, "strategy": 1}]}"#, "flow[0].refResource"),
        (r#"{"flow": [{"resource": "r", "count": 1, "clusterMode": true}]}"#, "flow[0].clusterMode"),
        (r#"{"flow": [{"resource": "r", "count": 1, "grade": 7}]}"#, "flow[0].grade"),
        (r#"{"paramFlow": [{"resource": "r", "count": 1, "paramIdx": -1}]}"#, "paramFlow[0].paramIdx"),
        (r#"{"degrade": [{"resource": "r", "count": 1, "timeWindow": 1, "grade": 9}]}"#, "degrade[0].grade"),
        (r#"{"flows": []}"#, "unknown field `flows`"),
        ("[", "not a document"),
    ] {
        let said = sentinel::read(document).expect_err(document).to_string();
        assert!(said.contains(place), "{document}: {said}");
    }
}

/// A changed set keeps what rules that stand have counted, and begins the others anew.
#[test]
fn a_change_keeps_the_state_of_what_stands() {
    let rules = |hot: u64, breaker: u64| {
        let json = format!(
            r#"{{"hot_param": [{{"id": "h", "resource": "r", "param": 0, "threshold": {hot}}}],
                "breaker": [{{"id": "b", "resource": "r", "trip": {{"error_count": {{"count": {breaker}}}}}, "open_for": 60, "min_calls": 1}}]}}"#
        );
        serde_json::from_str::<RuleSet>(&json).expect("rules").check().expect("sound")
    };
    let control = FlowControl::new(Options { adaptive: None, ..Options::default() });
    control.apply(rules(2, 0));
    let r = control.inbound("r").expect("room");
    let ann = [Param::Text("ann")];
    let entry = Entry { params: &ann, ..Entry::default() };
    assert_eq!(admitted(&r, &entry, 9, ms(1)), 2);
    let applied = control.apply(rules(2, 5));
    assert_eq!((applied.rules, applied.begun, applied.ended), (2, vec![Arc::from("b")], vec![]));
    assert_eq!(admitted(&r, &entry, 9, ms(2)), 0, "the bucket is still empty");
    control.apply(rules(3, 5));
    assert_eq!(admitted(&r, &entry, 9, ms(3)), 3, "a changed rule begins anew");
    let gone = control.apply(RuleSet::default().check().expect("sound"));
    assert_eq!(gone.ended, vec![Arc::from("b"), Arc::from("h")]);
    assert_eq!(admitted(&r, &entry, 9, ms(4)), 9);
}

/// A cluster threshold: the share while it lasts, then the fallback.
#[test]
fn a_share_of_the_cluster_runs_out() {
    let json = r#"{"flow": [{"id": "f", "resource": "r", "threshold": 100, "cluster_fallback": 5}]}"#;
    let control = FlowControl::new(Options { adaptive: None, ..Options::default() });
    control.apply(serde_json::from_str::<RuleSet>(json).expect("rules").check().expect("sound"));
    let r = control.inbound("r").expect("room");
    assert_eq!(admitted(&r, &Entry::default(), 200, ms(1)), 5, "nothing was dealt");
    assert!(control.share("f", 40.0, ms(5_000)));
    assert!(!control.share("unknown", 40.0, ms(5_000)));
    assert_eq!(admitted(&r, &Entry::default(), 200, ms(2_000)), 40);
    assert_eq!(admitted(&r, &Entry::default(), 200, ms(5_001)), 5);
}

/// Each fault of a set has its place, and all are said at once.
#[test]
fn an_unsound_set_is_refused_with_every_fault() {
    let json = r#"{
        "flow": [{"id": "a", "resource": "", "threshold": -1},
                 {"id": "a", "resource": "r", "threshold": 1, "measure": "concurrency", "effect": {"pace": {"max_wait": 1}}},
                 {"id": "c", "resource": "r", "threshold": 1, "basis": {"related": "r"}, "effect": {"warm_up": {"over": 0.5}}},
                 {"id": "d", "resource": "r", "threshold": 1, "cluster_fallback": 2}],
        "hot_param": [{"id": "h", "resource": "r", "param": 8, "threshold": 1, "values": 0}],
        "breaker": [{"id": "b", "resource": "r", "trip": {"error_ratio": {"ratio": 1.5}}, "open_for": 0, "min_calls": 0}],
        "system": [{"id": "s"}],
        "authority": [{"id": "x", "resource": "r", "callers": [], "allow": true}, {"id": "y", "resource": "r", "callers": ["a"], "allow": true}]
    }"#;
    let faults = serde_json::from_str::<RuleSet>(json).expect("its shape").check().expect_err("unsound");
    let places: Vec<&str> = faults.0.iter().map(|(place, _)| place.as_str()).collect();
    for place in [
        "flow[0].resource",
        "flow[0].threshold",
        "flow[1].id",
        "flow[1].effect",
        "flow[2].basis.related",
        "flow[2].effect.over",
        "flow[3].cluster_fallback",
        "hot_param[0].param",
        "hot_param[0].values",
        "breaker[0].trip.ratio",
        "breaker[0].open_for",
        "breaker[0].min_calls",
        "system[0]",
        "authority[0].callers",
        "authority[1]",
    ] {
        assert!(places.contains(&place), "{place} is not among {places:?}");
    }
    assert_eq!(places.len(), 15, "{places:?}");
}
