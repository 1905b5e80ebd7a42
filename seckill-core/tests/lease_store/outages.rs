//! A Redis that dies, comes back without its data or with yesterday's, falls silent, forgets its scripts or fills up:
//! never a grant that the lease does not cover, never two for one attempt, and no help needed afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use seckill_core::stock::redis::server::{RedisLeases, RedisLeasesOptions};
use seckill_core::stock::redis::{GrantReply, LeaseLoad, LeaseLook, LeaseStore, LeaseStoreError};
use tokio::task::JoinSet;

use crate::contract::{ask, load};
use crate::place::{Place, open, options, until, until_ready};

/// Buyers that go on asking, each with one key, until they have a grant; then the next buyer comes.
struct Crowd {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    errors: Arc<Mutex<BTreeSet<&'static str>>>,
    /// Who was told which number.
    granted: Arc<Mutex<BTreeMap<u64, BTreeSet<u64>>>>,
    tasks: JoinSet<()>,
}

impl Crowd {
    fn start(leases: &Arc<RedisLeases>, lease: &LeaseLoad) -> Self {
        let mut crowd = Self {
            stop: Arc::default(),
            asked: Arc::default(),
            errors: Arc::default(),
            granted: Arc::default(),
            tasks: JoinSet::new(),
        };
        let next = Arc::new(AtomicU64::new(0));
        for _ in 0..32 {
            let (leases, lease, next) = (leases.clone(), lease.clone(), next.clone());
            let (stop, asked) = (crowd.stop.clone(), crowd.asked.clone());
            let (errors, granted) = (crowd.errors.clone(), crowd.granted.clone());
            crowd.tasks.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let buyer = next.fetch_add(1, Ordering::SeqCst);
                    // Asks twice at least, as a client does that lost its answer.
                    for _ in 0..2 {
                        match leases.grant(ask(&lease, &format!("b{buyer}"), "k", 1)).await {
                            Ok(GrantReply::Granted { seq, quantity, .. }) => {
                                assert_eq!(quantity, 1);
                                granted.lock().entry(seq).or_default().insert(buyer);
                            }
                            Ok(_) => {}
                            Err(error) => {
                                assert!(error.retryable(), "{error}");
                                errors.lock().insert(error.label());
                                tokio::time::sleep(Duration::from_millis(1)).await;
                            }
                        }
                    }
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        crowd
    }
    async fn until_more(&self, calls: u64) {
        let before = self.asked.load(Ordering::SeqCst);
        until("the crowd goes on", || self.asked.load(Ordering::SeqCst) >= before + calls).await;
    }
    /// Ends it and checks what was granted; answers how many numbers.
    async fn end(mut self, lease: &LeaseLoad) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(task) = self.tasks.join_next().await {
            task.unwrap();
        }
        let granted = self.granted.lock();
        assert!(granted.values().all(|buyers| buyers.len() == 1), "one number, one buyer");
        assert!(granted.len() as u64 <= lease.granted, "never more than lent");
        assert!(granted.keys().all(|seq| *seq < lease.granted));
        let buyers: BTreeSet<_> = granted.values().flatten().collect();
        assert_eq!(buyers.len(), granted.len(), "one attempt, one number");
        granted.len() as u64
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_was_killed_and_came_back_is_not_the_owner() {
    for with_data in [false, true] {
        let mut place = Place::start(if with_data { &["appendonly yes"] } else { &[] });
        let leases = Arc::new(place.leases().await);
        let lease = load("killed", 7, 1_000_000, 1);
        assert!(leases.load(lease.clone()).await.unwrap());
        let crowd = Crowd::start(&leases, &lease);
        crowd.until_more(2_000).await;
        place.redis.kill();
        crowd.until_more(200).await;
        assert!(leases.ready().is_err(), "a dead server is not ready");
        let said = leases.grant(ask(&lease, "late", "k", 1)).await;
        assert!(matches!(said, Err(LeaseStoreError::Away(_))), "{said:?}");
        place.redis.restart().unwrap();
        assert_eq!(place.redis.ask("DBSIZE").unwrap(), if with_data { "1" } else { "0" });
        until_ready(&leases).await;
        crowd.until_more(200).await;

        // Nobody is granted anything of the old lease, with its data or without; nobody is told it is here.
        let granted = crowd.granted.lock().len();
        crowd.until_more(200).await;
        assert_eq!(crowd.granted.lock().len(), granted);
        assert_eq!(leases.grant(ask(&lease, "late", "k", 1)).await.unwrap(), GrantReply::NotOwner);
        assert_eq!(leases.left(&lease.product, lease.lease).await.unwrap(), None);
        assert_eq!(leases.close(&lease.product, lease.lease).await.unwrap(), with_data);
        assert!(crowd.end(&lease).await > 0);

        assert!(!leases.top_up(&lease.product, lease.lease, u64::from(u32::MAX)).await.unwrap());
        assert_eq!(leases.look(&lease.product, lease.lease).await.unwrap(), None, "a top-up brings nothing back");

        // What the mover does: a new lease, at a newer epoch.
        assert_eq!(leases.load(load("killed", 6, 5, 1)).await.unwrap(), !with_data, "an older epoch");
        let newer = load("killed", 8, 5, 1);
        assert!(leases.load(newer.clone()).await.unwrap());
        let reply = leases.grant(ask(&newer, "late", "k", 1)).await.unwrap();
        assert_eq!(reply, GrantReply::Granted { seq: 0, quantity: 1, left: 4 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_redis_costs_its_limit_once_and_repeats_get_the_same_grant() {
    let place = Place::start(&[]);
    let short = RedisLeasesOptions { answer_within: Duration::from_millis(200), ..place.options() };
    let leases = Arc::new(open(short).await);
    let lease = load("silent", 1, 50, 1);
    assert!(leases.load(lease.clone()).await.unwrap());
    place.redis.pause();
    let mut calls = JoinSet::new();
    let top_up = {
        let (leases, lease) = (leases.clone(), lease.clone());
        tokio::spawn(async move { leases.top_up(&lease.product, lease.lease, 51).await })
    };
    for n in 0..50 {
        let (leases, request) = (leases.clone(), ask(&lease, &format!("b{n}"), "k", 1));
        calls.spawn(async move { leases.grant(request).await });
    }
    while let Some(reply) = calls.join_next().await {
        let error = reply.unwrap().unwrap_err();
        assert!(matches!(error, LeaseStoreError::Late(_)), "{error}");
    }
    assert!(top_up.await.unwrap().is_err(), "nobody answered");
    until("it is known to be away", || leases.ready().is_err()).await;
    // A connection that has been away for longer than the limit is answered for without waiting.
    let mut waited = false;
    for _ in 0..100 {
        let error = leases.grant(ask(&lease, "late", "k", 1)).await.unwrap_err();
        waited |= matches!(error, LeaseStoreError::Away(_));
    }
    assert!(waited);
    place.redis.resume();
    until_ready(&leases).await;
    // What was written into the silence has been done by now, or is done by the repeat: each attempt once.
    let mut numbers = BTreeSet::new();
    for n in 0..50 {
        match leases.grant(ask(&lease, &format!("b{n}"), "k", 1)).await.unwrap() {
            GrantReply::Granted { seq, quantity: 1, .. } => numbers.insert(seq),
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(numbers.len(), 50);
    // The top-up too has been done by now, or is done by the repeat: once.
    assert!(leases.top_up(&lease.product, lease.lease, 51).await.unwrap());
    assert_eq!(leases.look(&lease.product, lease.lease).await.unwrap().map(|look| look.granted), Some(51));
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_are_forgotten_are_taught_again() {
    let place = Place::start(&[]);
    let leases = Arc::new(place.leases().await);
    let lease = load("flushed", 1, 1_000_000, 1);
    assert!(leases.load(lease.clone()).await.unwrap());
    let crowd = Crowd::start(&leases, &lease);
    for _ in 0..20 {
        crowd.until_more(100).await;
        place.redis.ask("SCRIPT FLUSH").unwrap();
    }
    crowd.until_more(100).await;
    let (errors, asked) = (crowd.errors.lock().clone(), crowd.asked.load(Ordering::SeqCst));
    let granted = crowd.end(&lease).await;
    assert!(errors.is_empty(), "{errors:?}");
    assert!(granted >= asked, "{granted} of {asked}");
    // Nobody asks for these before: they are unknown, too.
    place.redis.ask("SCRIPT FLUSH").unwrap();
    assert!(leases.top_up(&lease.product, lease.lease, 1_000_001).await.unwrap());
    place.redis.ask("SCRIPT FLUSH").unwrap();
    assert!(leases.close(&lease.product, lease.lease).await.unwrap());
    place.redis.ask("SCRIPT FLUSH").unwrap();
    assert!(leases.load(load("flushed", 2, 1, 1)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_grants_nothing_half() {
    let place = Place::start(&["maxmemory-policy noeviction"]);
    let leases = place.leases().await;
    let lease = load("full", 1, 5, 1);
    assert!(leases.load(lease.clone()).await.unwrap());
    let GrantReply::Granted { seq: 0, .. } = leases.grant(ask(&lease, "anna", "k", 1)).await.unwrap() else { panic!() };
    place.redis.ask("CONFIG SET maxmemory 1").unwrap();

    let error = leases.grant(ask(&lease, "ben", "k", 1)).await.unwrap_err();
    assert!(error.to_string().contains("OOM") && error.retryable(), "{error}");
    // A repeat takes no memory, nor does looking.
    let repeat = leases.grant(ask(&lease, "anna", "k", 1)).await.unwrap();
    assert_eq!(repeat, GrantReply::Granted { seq: 0, quantity: 1, left: 4 });
    assert_eq!(leases.left(&lease.product, lease.lease).await.unwrap(), Some(4));
    assert!(leases.load(load("another", 1, 5, 1)).await.is_err());
    assert!(leases.top_up(&lease.product, lease.lease, 9).await.is_err());
    let look = leases.look(&lease.product, lease.lease).await.unwrap();
    assert_eq!(look, Some(LeaseLook { granted: 5, left: 4 }), "not raised by half");

    place.redis.ask("CONFIG SET maxmemory 0").unwrap();
    let reply = leases.grant(ask(&lease, "ben", "k", 1)).await.unwrap();
    assert_eq!(reply, GrantReply::Granted { seq: 1, quantity: 1, left: 3 });
    place.redis.ask("CONFIG SET maxmemory 1").unwrap();
    assert!(leases.close(&lease.product, lease.lease).await.unwrap(), "closing works, and frees memory");
    assert_eq!(leases.grant(ask(&lease, "anna", "k", 1)).await.unwrap(), GrantReply::Closed);
    place.redis.ask("CONFIG SET maxmemory 0").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_not_the_owner_promoted_or_not() {
    let (master, replica) = (Place::start(&[]), Place::start(&[]));
    let leases = master.leases().await;
    let lease = load("copied", 1, 5, 1);
    assert!(leases.load(lease.clone()).await.unwrap());
    leases.grant(ask(&lease, "anna", "k", 1)).await.unwrap();
    replica.redis.ask(&format!("REPLICAOF 127.0.0.1 {}", master.redis.port())).unwrap();
    until("the copy is made", || replica.redis.ask("DBSIZE").is_ok_and(|n| n == "1")).await;
    let of_replica = replica.leases().await;
    for promoted in [false, true] {
        if promoted {
            replica.redis.ask("REPLICAOF NO ONE").unwrap();
        }
        for buyer in ["anna", "ben"] {
            let reply = of_replica.grant(ask(&lease, buyer, "k", 1)).await.unwrap();
            assert_eq!(reply, GrantReply::NotOwner, "promoted: {promoted}");
        }
        assert_eq!(of_replica.left(&lease.product, lease.lease).await.unwrap(), None);
        assert!(!of_replica.top_up(&lease.product, lease.lease, 9).await.unwrap(), "promoted: {promoted}");
        assert_eq!(of_replica.load(load("copied", 2, 3, 1)).await.is_ok(), promoted);
    }
    let newer = load("copied", 2, 3, 1);
    assert_eq!(of_replica.left(&newer.product, newer.lease).await.unwrap(), Some(3));
    assert_eq!(leases.left(&lease.product, lease.lease).await.unwrap(), Some(4), "the master goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_calls_than_may_be_under_way_are_refused_at_once() {
    let place = Place::start(&[]);
    let few = RedisLeasesOptions { in_flight: 4, answer_within: Duration::from_secs(10), ..place.options() };
    let leases = Arc::new(open(few).await);
    let lease = load("few", 1, 50, 1);
    assert!(leases.load(lease.clone()).await.unwrap());
    place.redis.pause();
    let mut calls = JoinSet::new();
    for n in 0..10 {
        let (leases, request) = (leases.clone(), ask(&lease, &format!("b{n}"), "k", 1));
        calls.spawn(async move { leases.grant(request).await });
    }
    for _ in 0..6 {
        let error = calls.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!(error, LeaseStoreError::Full(4));
    }
    place.redis.resume();
    while let Some(reply) = calls.join_next().await {
        assert!(matches!(reply.unwrap(), Ok(GrantReply::Granted { .. })));
    }
    assert_eq!(leases.left(&lease.product, lease.lease).await.unwrap(), Some(46));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_starts_without_redis_and_finds_it_later() {
    let mut place = Place::start(&[]);
    let options = options(place.options().nodes);
    place.redis.kill();
    let leases = open(options).await;
    assert!(matches!(leases.ready(), Err(LeaseStoreError::Away(_))));
    let lease = load("later", 1, 5, 1);
    let error = leases.load(lease.clone()).await.unwrap_err();
    assert!(matches!(error, LeaseStoreError::Away(_)), "{error}");
    place.redis.restart().unwrap();
    until_ready(&leases).await;
    assert!(leases.load(lease.clone()).await.unwrap());
    assert!(matches!(leases.grant(ask(&lease, "anna", "k", 1)).await, Ok(GrantReply::Granted { .. })));
}
