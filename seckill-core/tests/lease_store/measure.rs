//! How fast, and how much memory: prints, asserts nothing about time. Run with `--release -- --ignored --nocapture`.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seckill_core::InProcessLeases;
use seckill_core::stock::redis::server::RedisLeasesOptions;
use seckill_core::stock::redis::{GrantReply, LeaseStore};
use testkit::servers::Redis;
use types::BuyerId;

use crate::contract::{ask, load};
use crate::place::{Place, open};

/// How long each figure is taken for.
const SPAN: Duration = Duration::from_secs(4);

/// Processor time of this process so far, in µs: on a machine that others use too it says more than the clock.
fn processor_here() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // Behind the name, which stands in brackets; in hundredths of a second.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap() * 10_000.0).sum()
}

/// The same of Redis.
fn processor_there(redis: &Redis) -> f64 {
    let info = redis.ask("INFO cpu").unwrap();
    let of = |name: &str| -> f64 {
        info.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse::<f64>().unwrap() * 1e6
    };
    of("used_cpu_user:") + of("used_cpu_sys:")
}

async fn grants(name: &str, store: Arc<dyn LeaseStore>, callers: usize, redis: Option<&Redis>) {
    let lease = load(&format!("speed-{}", name.replace([' ', '(', ')', ',', '+'], "")), 1, 1 << 40, 5);
    assert!(store.load(lease.clone()).await.unwrap());
    let (here, there) = (processor_here(), redis.map(processor_there));
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
    let (here, there) = (processor_here() - here, redis.map(processor_there).zip(there).map_or(0.0, |(b, a)| b - a));
    took.sort_unstable();
    let at = |per_mille: usize| took[(took.len() - 1) * per_mille / 1000];
    let (grants, per) = (took.len() as f64 / span.as_secs_f64(), took.len() as f64);
    println!("{name:28} {grants:8.0} grants/s  p50 {:?}  p99 {:?}", at(500), at(990));
    println!("{:28} processor per grant: {:.1} µs here, {:.1} µs in Redis", "", here / per, there / per);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute; prints figures"]
async fn grants_per_second() {
    for callers in [64, 512] {
        grants(&format!("in-process {callers}"), Arc::new(InProcessLeases::new()), callers, None).await;
        for connections in [1, 2, 4] {
            let place = Place::start(&[]);
            let leases = open(RedisLeasesOptions { connections, ..place.options() }).await;
            grants(
                &format!("redis, {connections} connections {callers}"),
                Arc::new(leases),
                callers,
                Some(&place.redis),
            )
            .await;
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
        let there = processor_there(&place.redis);
        let said = Command::new("redis-benchmark")
            .args(["-p", &place.redis.port().to_string(), "-n", "400000", "-r", "1000000000", "-q"])
            .args(["-c", clients, "-P", pipeline, "EVALSHA", &sha, "1", "seckill:lease:{alone}", &owner])
            .args(["g____rand_int__", "h____rand_int__", "0123456789abcdef", "1", "1500000"])
            .output()
            .unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let last = said.rsplit(['\r', '\n']).find(|line| line.contains("per second")).unwrap_or("?");
        let (end, there) = (&last[last.len().saturating_sub(48)..], processor_there(&place.redis) - there);
        println!(
            "redis-benchmark, {clients} clients, {pipeline} to a round trip: {end}; {:.1} µs in Redis",
            there / 4e5
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
