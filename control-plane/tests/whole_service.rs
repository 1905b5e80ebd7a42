//! The whole control plane in one process: heat in by the event log, plans out over real HTTP, overrides by
//! REST, restarts on the same directory.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use support::{House, SmallCore, entry, product, start, until};
use types::{ManualClock, Sku, Tier};

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(start().plus(Duration::from_secs(60))))
}

fn reason(house: &House, name: &str) -> Option<&'static str> {
    house.handle.plan().borrow().decisions.get(&Sku::new(name).unwrap()).map(|d| d.reason.as_str())
}

/// Reports the same heat until the core sells on `tier`.
async fn heat_until(house: &mut House, name: &str, (count5, count60, attempts): (u64, u64, f64), tier: Tier) {
    for _ in 0..3_000 {
        if house.core.lock().tier(name) == tier {
            return;
        }
        house.report(vec![entry(name, count5, count60, attempts)]).await;
        house.clock.advance(Duration::from_millis(250));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{name} never came to {tier}: {:?}", reason(house, name));
}

#[tokio::test]
async fn a_hot_product_is_moved_and_cools_again() {
    let dir = tempfile::tempdir().unwrap();
    let core = SmallCore::selling(vec![product("a"), product("b")]);
    let mut house = House::build(dir.path(), core, clock()).await;
    let mut moves = house.handle.moves();

    heat_until(&mut house, "a", (30, 200, 0.0), Tier::Redis).await;
    assert_eq!(reason(&house, "a"), Some("Warm"));
    heat_until(&mut house, "a", (400, 2_000, 50.0), Tier::Queue).await;
    assert_eq!(reason(&house, "a"), Some("Hot"));
    assert_eq!(house.core.lock().tier("b"), Tier::Db);
    heat_until(&mut house, "a", (0, 0, 0.0), Tier::Db).await;
    assert_eq!(reason(&house, "a"), Some("Cooled"));

    let mut seen = Vec::new();
    while let Ok(m) = moves.try_recv() {
        seen.push((m.from, m.to, m.reason.as_str()));
    }
    assert_eq!(seen[..2], [(Tier::Db, Tier::Redis, "Warm"), (Tier::Redis, Tier::Queue, "Hot")]);
    assert_eq!(seen.last().map(|m| (m.1, m.2)), Some((Tier::Db, "Cooled")));
    assert!(house.handle.is_ready());
    house.stop().await;
}

#[tokio::test]
async fn an_override_is_enforced_told_and_ends_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let core = SmallCore::selling(vec![product("a")]);
    let house = House::build(dir.path(), core, clock()).await;
    until("the core has a plan", || house.handle.is_ready()).await;
    let http = reqwest::Client::new();

    let answer = http
        .put(house.url("/v1/overrides/a?wait=applied"))
        .bearer_auth("operator-token")
        .json(&json!({"tier": "queue", "ttl": "60s", "reason": "influencer at noon"}))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
    let tag = answer.headers()["etag"].to_str().unwrap().to_owned();
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["applied"], true, "{body}");
    assert_eq!(body["by"], "ada-the-operator");
    assert_eq!(tag, format!("\"g{}\"", body["generation"]));
    assert_eq!(house.core.lock().tier("a"), Tier::Queue);

    let shown: Value = http
        .get(house.url("/v1/plan?product=a"))
        .bearer_auth("viewer-token")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(shown["products"][0]["reason"], "override");
    assert_eq!(shown["products"][0]["enforced"], "applied");

    house.clock.advance(Duration::from_secs(60));
    until("the override ends", || house.core.lock().tier("a") == Tier::Db).await;
    let audit: Value =
        http.get(house.url("/v1/audit")).bearer_auth("viewer-token").send().await.unwrap().json().await.unwrap();
    let told: Vec<_> = audit["rows"].as_array().unwrap().iter().map(|r| (&r["actor"], &r["action"])).collect();
    assert_eq!(
        told,
        [
            (&json!("config"), &json!("led")),
            (&json!("config"), &json!("policy")),
            (&json!("ada-the-operator"), &json!("override_set")),
            (&json!("ada-the-operator"), &json!("move")),
            (&json!("planner"), &json!("override_ended")),
            (&json!("planner"), &json!("move")),
        ]
    );
    house.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_overrides_and_generations_never_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let (core, clock) = (SmallCore::selling(vec![product("a"), product("b")]), clock());
    let mut last = 0;
    let http = reqwest::Client::new();
    for round in 0..3 {
        let house = House::build(dir.path(), core.clone(), clock.clone()).await;
        until("the core has a plan", || house.handle.is_ready()).await;
        let generation = house.handle.plan().borrow().generation.get();
        assert!(generation >= last, "round {round}: {generation} after {last}");
        if round > 0 {
            assert_eq!(reason(&house, "a"), Some("Override"), "it has its own end, not the process's");
            assert_eq!(core.lock().tier("a"), Tier::Redis);
        }
        let order = json!({"tier": "redis", "ttl": 3600, "reason": "kept over restarts"});
        let put = http.put(house.url("/v1/overrides/a")).bearer_auth("admin-token").json(&order).send().await.unwrap();
        assert_eq!(put.status(), if round == 0 { 201 } else { 200 });
        last = put.json::<Value>().await.unwrap()["generation"].as_u64().unwrap();
        until("enforced", || core.lock().tier("a") == Tier::Redis).await;
        house.stop().await;
    }
    let generations: Vec<_> = core.lock().pushes.iter().map(|p| p.generation).collect();
    assert!(generations.is_sorted(), "{generations:?}");

    // The override ended while nobody was there.
    clock.advance(Duration::from_secs(3600));
    let house = House::build(dir.path(), core.clone(), clock.clone()).await;
    until("back to heat", || core.lock().tier("a") == Tier::Db).await;
    assert!(house.handle.plan().borrow().overrides.is_empty());
    house.stop().await;
}

#[tokio::test]
async fn a_lost_data_directory_does_not_stop_the_plan() {
    let core = SmallCore::selling(vec![product("a")]);
    core.lock().state.generation = types::Generation::new(500);
    let dir = tempfile::tempdir().unwrap();
    let house = House::build(dir.path(), core.clone(), clock()).await;
    until("the core takes a plan above its own", || core.lock().state.generation.get() > 500).await;
    until("and it is acknowledged", || house.handle.is_ready()).await;
    house.stop().await;
}

#[tokio::test]
async fn a_core_that_starts_again_gets_the_whole_plan() {
    let dir = tempfile::tempdir().unwrap();
    let core = SmallCore::selling(vec![product("a"), product("b")]);
    let house = House::build(dir.path(), core.clone(), clock()).await;
    until("the core has a plan", || house.handle.is_ready()).await;
    {
        let mut core = core.lock();
        core.state.incarnation = 2;
        core.pushes.clear();
    }
    until("a whole plan", || core.lock().pushes.first().is_some_and(|p| p.base.is_none() && p.entries.len() == 2))
        .await;
    house.stop().await;
}

#[tokio::test]
async fn two_control_planes_of_one_name_end_in_one_that_leads() {
    let dir = tempfile::tempdir().unwrap();
    let first = House::build(dir.path(), SmallCore::selling(vec![product("a")]), clock()).await;
    until("the first has a plan", || first.handle.is_ready()).await;
    let second = House::build(dir.path(), SmallCore::selling(vec![product("a"), product("b")]), clock()).await;
    until("the second has written", || second.handle.plan().borrow().decisions.len() == 2).await;
    let http = reqwest::Client::new();
    let order = json!({"tier": "redis", "ttl": "1m", "reason": "from the first"});
    let put = http.put(first.url("/v1/overrides/a")).bearer_auth("admin-token").json(&order).send().await.unwrap();
    assert_eq!(put.status(), 503, "the first no longer owns the plan and says so");
    second.stop().await;
    first.stop().await;
}
