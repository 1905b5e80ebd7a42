//! Several control planes on one plan store: one leads, its death is noticed, no generation goes back and no override is
//! lost, and an old leader that comes back does no harm. The election's clock runs ten times as fast as the real one.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use control_plane::{ControlPlane, CoreToken, Handle, Options, PlanStore, SqlitePlans};
use eventlog::MemoryLog;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use support::{CORE_TOKEN, SmallCore, Tokens, product, serve, start, until};
use types::{Generation, Sku, SystemClock, Tier};

const SPEED: f64 = 10.0;

/// One control plane on a runtime of its own, so that its death is as sudden as a process's.
struct Life {
    handle: Handle,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Life {
    fn begin(name: &str, dir: &std::path::Path, core: &str, clock: Arc<SystemClock>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let options = Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            instance: name.to_owned(),
            cores: vec![core.to_owned()],
            ..Options::default()
        };
        let store: Arc<dyn PlanStore> = Arc::new(SqlitePlans::open(dir).unwrap());
        let handle = runtime.block_on(async {
            let service = ControlPlane::new(
                options,
                store,
                Arc::new(MemoryLog::new()),
                clock,
                Arc::new(Tokens),
                CoreToken::new(CORE_TOKEN).unwrap(),
                Router::new(),
            )
            .await
            .unwrap();
            let handle = service.handle();
            tokio::spawn(service.run(tokio_util::sync::CancellationToken::new()));
            handle
        });
        Self { handle, runtime: Some(runtime) }
    }
    /// Everything of it ends where it is; nothing is given back.
    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
    fn leads(&self) -> bool {
        self.runtime.is_some() && self.handle.leads()
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.kill();
    }
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "did not happen within 60 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_active_one_of_three_is_killed_again_and_again() {
    let rounds: u32 = std::env::var("KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let seed: u64 = std::env::var("SEED").ok().and_then(|n| n.parse().ok()).unwrap_or_else(rand::random);
    println!("seed {seed}, {rounds} kills");
    let mut rng = StdRng::seed_from_u64(seed);
    let outside = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let names: Vec<String> = (0..8).map(|n| format!("p{n}")).collect();
    let core = SmallCore::selling(names.iter().map(|n| product(n)).collect());
    let address = outside.block_on(serve(core.clone()));
    let url = format!("http://{address}");
    let clock = Arc::new(SystemClock::starting_at(start().plus(Duration::from_secs(60)), SPEED));
    let dir = tempfile::tempdir().unwrap();
    let begin = |n: usize| Life::begin(&format!("control-{n}"), dir.path(), &url, clock.clone());
    let mut lives: Vec<Life> = (0..3).map(begin).collect();
    let http = reqwest::Client::new();
    let mut promised: std::collections::BTreeMap<String, (Tier, u64)> = std::collections::BTreeMap::new();
    let (mut newest, mut longest) = (Generation::new(0), Duration::ZERO);
    for round in 0..rounds {
        let died = Instant::now();
        wait("one leads", || lives.iter().any(Life::leads));
        longest = longest.max(died.elapsed());
        let leader = lives.iter().position(Life::leads).unwrap();
        wait("its core follows", || lives[leader].handle.is_ready());
        assert_eq!(lives.iter().filter(|l| l.leads()).count(), 1, "seed {seed}, round {round}: one leads");
        // What was promised before is kept by whoever leads now.
        let plan = lives[leader].handle.plan().borrow().clone();
        assert!(plan.generation >= newest, "seed {seed}, round {round}: {} after {newest}", plan.generation);
        for (name, (tier, generation)) in &promised {
            let kept = plan.overrides.get(&Sku::new(name).unwrap());
            assert_eq!(kept.map(|o| (o.tier, o.generation.get())), Some((*tier, *generation)), "seed {seed}: {name}");
        }
        for _ in 0..rng.random_range(1..4) {
            let name = &names[rng.random_range(0..names.len())];
            let tier = Tier::ALL[rng.random_range(0..3)];
            let order = json!({"tier": tier, "ttl": "24h", "reason": format!("round {round}")});
            let put = http.put(format!("http://{}/v1/overrides/{name}", lives[leader].handle.address()));
            let answer = outside.block_on(put.bearer_auth("operator-token").json(&order).send()).unwrap();
            assert!(answer.status().is_success(), "seed {seed}: {answer:?}");
            let told: Value = outside.block_on(answer.json()).unwrap();
            promised.insert(name.clone(), (tier, told["generation"].as_u64().unwrap()));
            newest = Generation::new(told["generation"].as_u64().unwrap());
        }
        // A stand-by orders nothing and says who leads.
        let other = (leader + 1) % 3;
        let put = http.put(format!("http://{}/v1/overrides/p0", lives[other].handle.address()));
        let order = json!({"tier": "db", "ttl": "24h", "reason": "to the wrong one"});
        let answer = outside.block_on(put.bearer_auth("operator-token").json(&order).send()).unwrap();
        assert_eq!(answer.status(), 503);
        let body: Value = outside.block_on(answer.json()).unwrap();
        assert_eq!(body["type"], "/problems/standby", "{body}");
        if rng.random_bool(0.5) {
            wait("the core has it", || core.lock().state.generation >= newest);
        }
        lives[leader].kill();
        lives[leader] = begin(leader + 3 * (round as usize + 1));
    }
    wait("one leads", || lives.iter().any(Life::leads));
    wait("the core is on the newest plan", || promised.iter().all(|(name, (tier, _))| core.lock().tier(name) == *tier));
    let pushed: Vec<_> = core.lock().pushes.iter().map(|p| (p.term, p.generation)).collect();
    let taken = core.lock().taken.clone();
    assert!(taken.is_sorted(), "seed {seed}: the core's generation went back: {taken:?}");
    println!(
        "{rounds} kills, {} pushes, longest fail-over {:?} of the election's time",
        pushed.len(),
        longest.mul_f64(SPEED)
    );
}

#[tokio::test]
async fn a_stand_by_shows_what_the_leader_stores_and_an_orderly_end_hands_over() {
    let dir = tempfile::tempdir().unwrap();
    let core = SmallCore::selling(vec![product("a")]);
    let url = format!("http://{}", serve(core.clone()).await);
    let clock = Arc::new(SystemClock::starting_at(start().plus(Duration::from_secs(60)), SPEED));
    let build = async |name: &str| {
        let options = Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            instance: name.to_owned(),
            cores: vec![url.clone()],
            ..Options::default()
        };
        let store: Arc<dyn PlanStore> = Arc::new(SqlitePlans::open(dir.path()).unwrap());
        let token = CoreToken::new(CORE_TOKEN).unwrap();
        let log = Arc::new(MemoryLog::new());
        let tokens = Arc::new(Tokens);
        let service =
            ControlPlane::new(options, store, log, clock.clone(), tokens, token, Router::new()).await.unwrap();
        let (handle, stop) = (service.handle(), tokio_util::sync::CancellationToken::new());
        (handle, stop.clone(), tokio::spawn(service.run(stop)))
    };
    let (first, stop, running) = build("first").await;
    until("the first leads", || first.leads() && first.is_ready()).await;
    let (second, stop_second, running_second) = build("second").await;
    until("the second stands by", || !second.leads() && second.is_ready()).await;
    let http = reqwest::Client::new();
    let order = json!({"tier": "queue", "ttl": "1h", "reason": "seen by both"});
    let put = http.put(format!("http://{}/v1/overrides/a", first.address())).bearer_auth("admin-token").json(&order);
    assert_eq!(put.send().await.unwrap().status(), 201);
    until("the second shows it", || second.plan().borrow().overrides.len() == 1).await;
    let url = format!("http://{}/v1/why/a", second.address());
    let why: Value = http.get(url).bearer_auth("viewer-token").send().await.unwrap().json().await.unwrap();
    assert!(why["decisions"].as_array().unwrap().iter().any(|d| d["reason"] == "override"), "{why}");
    stop.cancel();
    running.await.unwrap().unwrap();
    until("the second leads", || second.leads() && second.is_ready()).await;
    assert_eq!(second.plan().borrow().overrides.len(), 1);
    stop_second.cancel();
    running_second.await.unwrap().unwrap();
}
