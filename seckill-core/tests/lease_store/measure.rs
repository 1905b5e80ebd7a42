//! How fast, and how much memory: prints, asserts nothing about time. Run with `--release -- --ignored --nocapture`.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seckill_core::InProcessLeases;
use seckill_core::stock::redis::server::RedisLeasesOptions;
use seckill_core::stock::redis::{GrantReply, LeaseStore};
use types::BuyerId;

use crate::contract::{ask, load};
use crate::place::{Place, open};

/// How long each figure is taken for.
const SPAN: Duration = Duration::from_secs(4);

async fn grants(name: &str, store: Arc<dyn LeaseStore>, callers: usize) {
    let lease = load(&format!("speed-{}", name.replace([' ', '(', ')', ',', '+'], "")), 1, 1 << 40, 5);
    assert!(store.load(lease.clone()).await.unwrap());
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let (store, model) = (store.clone(), ask(&lease, "b", "k", 1));
        tasks.spawn(async move {
            let mut took = Vec::with_capacity(1 << 18);
            for n in 0u64.. {
                if begin.elapsed() >= SPAN {
                    break;
                }
                let mut request = model.clone();
                request.buyer = BuyerId::new(format!("buyer-{caller}-{n}")).unwrap();
                let from = Instant::now();
                let reply = store.grant(request).await.unwrap();
                took.push(from.elapsed());
                assert!(matches!(reply, GrantReply::Granted { .. }), "{reply:?}");
            }
            took
        });
    }
    let mut took = Vec::new();
    while let Some(one) = tasks.join_next().await {
        took.extend(one.unwrap());
    }
    let span = begin.elapsed();
    took.sort_unstable();
    let at = |per_mille: usize| took[(took.len() - 1) * per_mille / 1000];
    println!(
        "{name:36} {callers:4} callers {:8.0} grants/s  p50 {:?}  p99 {:?}",
        took.len() as f64 / span.as_secs_f64(),
        at(500),
        at(990)
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute; prints figures"]
async fn grants_per_second() {
    for callers in [64, 512] {
        grants(&format!("in-process {callers}"), Arc::new(InProcessLeases::new()), callers).await;
        for connections in [1, 2, 4] {
            let place = Place::start(&[]);
            let leases = open(RedisLeasesOptions { connections, ..place.options() }).await;
            grants(&format!("redis, {connections} connections {callers}"), Arc::new(leases), callers).await;
        }
    }
    // The script alone, by Redis's own generator: new buyers (random names), one and sixteen to a round trip.
    let place = Place::start(&[]);
    let leases = place.leases().await;
    let lease = load("alone", 1, 1 << 40, 5);
    assert!(leases.load(lease.clone()).await.unwrap());
    let info = place.redis.ask("INFO server").unwrap();
    let run = info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap().trim();
    let text = include_str!("../../src/stock/redis/server/grant.lua");
    let sha = Command::new("redis-cli")
        .args(["-p", &place.redis.port().to_string(), "SCRIPT", "LOAD", text])
        .output()
        .unwrap();
    let sha = String::from_utf8(sha.stdout).unwrap().trim().to_owned();
    let owner = format!("{run}:{}:{}", lease.lease, lease.epoch.get());
    for (clients, pipeline) in [("64", "1"), ("512", "1"), ("64", "16")] {
        let said = Command::new("redis-benchmark")
            .args(["-p", &place.redis.port().to_string(), "-n", "400000", "-r", "1000000000", "-q"])
            .args(["-c", clients, "-P", pipeline, "EVALSHA", &sha, "1", "seckill:lease:{alone}", &owner])
            .args(["g____rand_int__", "h____rand_int__", "0123456789abcdef", "1", "1500000"])
            .output()
            .unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let last = said.rsplit(['\r', '\n']).find(|line| line.contains("per second")).unwrap_or("?");
        println!(
            "redis-benchmark, {clients} clients, {pipeline} to a round trip: {}",
            &last[last.len().saturating_sub(70)..]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints a figure"]
async fn bytes_of_a_live_grant() {
    const GRANTS: u64 = 100_000;
    let place = Place::start(&[]);
    let leases = Arc::new(place.leases().await);
    let used = || -> u64 {
        let info = place.redis.ask("INFO memory").unwrap();
        info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().trim().parse().unwrap()
    };
    let lease = load("memory", 1, GRANTS, 1);
    assert!(leases.load(lease.clone()).await.unwrap());
    let before = used();
    for from in (0..GRANTS).step_by(500) {
        let all =
            (from..from + 500).map(|n| leases.grant(ask(&lease, &format!("a-buyer-with-a-long-name-{n}"), "k", 1)));
        assert!(futures::future::join_all(all).await.iter().all(Result::is_ok));
    }
    println!("{} bytes per grant with its buyer", (used() - before) / GRANTS);
}
