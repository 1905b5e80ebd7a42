//! Redis and Redis Cluster as children: what they answered is there again, and a failed start says why.
#![allow(clippy::unwrap_used)]

use std::net::TcpStream;
use std::time::{Duration, Instant};

use servers::{Redis, RedisCluster, ServerError};

#[test]
fn it_answers_is_killed_and_comes_back_with_its_data_on_the_same_port() {
    let dir = tempfile::tempdir().unwrap();
    let mut redis = Redis::start(dir.path()).unwrap();
    let port = redis.port();
    assert_eq!(redis.ask("SET stock 5").unwrap(), "OK");
    redis.kill();
    assert!(!redis.is_running());
    assert!(redis.ask("PING").is_err());
    redis.restart().unwrap();
    assert_eq!((redis.port(), redis.ask("GET stock").unwrap().as_str()), (port, "5"));
    redis.stop();
    assert!(!redis.is_running());
    drop(redis);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "gone with its value");
}

#[test]
fn paused_it_answers_nothing_and_resumed_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut redis = Redis::start(dir.path()).unwrap();
    redis.ask("SET stock 5").unwrap();
    redis.pause();
    assert!(redis.ask("GET stock").is_err(), "no answer within the asking's own bound");
    assert!(redis.is_running());
    redis.resume();
    assert_eq!(redis.ask("GET stock").unwrap(), "5");
}

#[test]
fn a_failed_start_shows_the_end_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let error = Redis::start_with(dir.path(), &["no-such-setting yes"]).err().unwrap();
    assert!(matches!(error, ServerError::Died { .. }), "{error}");
    assert!(error.to_string().contains("no-such-setting"), "{error}");
}

#[test]
fn two_have_ports_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let a = Redis::start(&dir.path().join("a")).unwrap();
    let b = Redis::start(&dir.path().join("b")).unwrap();
    a.ask("SET who a").unwrap();
    assert_eq!(b.ask("GET who").unwrap(), "");
}

#[test]
fn a_cluster_shares_the_slots_and_takes_a_killed_node_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = RedisCluster::start(dir.path()).unwrap();
    let keys: Vec<String> = (0..50).map(|i| format!("stock:{{{i}}}")).collect();
    let home = |cluster: &RedisCluster, key: &str| cluster.node_of(key).unwrap();
    let mut seen = [false; 3];
    for key in &keys {
        let node = home(&cluster, key);
        seen[node] = true;
        cluster.nodes()[node].ask(&format!("SET {key} 1")).unwrap();
        assert!(cluster.nodes()[(node + 1) % 3].ask(&format!("GET {key}")).is_err(), "MOVED");
    }
    assert_eq!(seen, [true; 3]);
    cluster.kill_node(1);
    let survivor = keys.iter().find(|key| home(&cluster, key) != 1).unwrap();
    let lost = keys.iter().find(|key| home(&cluster, key) == 1).unwrap();
    let at = |cluster: &RedisCluster, key: &str| cluster.nodes()[home(cluster, key)].ask(&format!("GET {key}"));
    let waited = Instant::now();
    while at(&cluster, survivor).is_err() {
        assert!(waited.elapsed() < Duration::from_secs(60), "the others go on");
    }
    assert!(at(&cluster, lost).is_err());
    cluster.restart_node(1).unwrap();
    assert_eq!(at(&cluster, lost).unwrap(), "1");
}
