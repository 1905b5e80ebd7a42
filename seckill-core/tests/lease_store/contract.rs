//! What every lease store must do, told in stories; each uses products of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use seckill_core::stock::redis::{GrantReply, GrantRequest, LeaseLoad, LeaseLook, LeaseStore};
use seckill_core::stock::store::BodyHash;
use types::{BuyerId, Epoch, IdempotencyKey, LeaseId, Sku, Timestamp};

pub const OPENS: Timestamp = Timestamp::from_seconds(1_000);
pub const CLOSES: Timestamp = Timestamp::from_seconds(2_000);
pub const NOW: Timestamp = Timestamp::from_seconds(1_500);

pub fn load(product: &str, n: u64, granted: u64, limit: u32) -> LeaseLoad {
    LeaseLoad {
        product: Sku::new(product).unwrap(),
        lease: LeaseId::from_bits(n.into()),
        epoch: Epoch::new(n),
        granted,
        limit,
        opens: OPENS,
        closes: CLOSES,
    }
}
pub fn ask(lease: &LeaseLoad, buyer: &str, key: &str, quantity: u32) -> GrantRequest {
    GrantRequest {
        product: lease.product.clone(),
        lease: lease.lease,
        epoch: lease.epoch,
        buyer: BuyerId::new(buyer).unwrap(),
        key: IdempotencyKey::new(key).unwrap(),
        body_hash: BodyHash([quantity as u8; 32]),
        quantity,
        now: NOW,
    }
}

/// All stories. The store must be empty.
pub async fn contract(store: Arc<dyn LeaseStore>) {
    a_repeat_gets_the_same_grant(&*store).await;
    what_is_not_here_fails_closed(&*store).await;
    a_closed_lease_grants_nothing_more(&*store).await;
    an_older_or_equal_epoch_is_refused(&*store).await;
    limit_window_and_units_bind(&*store).await;
    a_top_up_raises_by_max_and_only_its_own_lease(&*store).await;
    a_crowd_gets_what_a_top_up_adds_and_no_more(store.clone()).await;
    a_crowd_gets_exactly_the_units(store.clone()).await;
    random_walks_agree_with_the_model(&*store).await;
}

async fn a_repeat_gets_the_same_grant(store: &dyn LeaseStore) {
    let lease = load("repeat", 1, 5, 3);
    assert!(store.load(lease.clone()).await.unwrap());
    let first = store.grant(ask(&lease, "anna", "k", 2)).await.unwrap();
    let GrantReply::Granted { seq, quantity: 2, left: 3 } = first else { panic!("{first:?}") };
    let again = store.grant(ask(&lease, "anna", "k", 2)).await.unwrap();
    assert_eq!(again, GrantReply::Granted { seq, quantity: 2, left: 3 });
    // Also when it is late, and when nothing is left.
    let late = GrantRequest { now: CLOSES, ..ask(&lease, "anna", "k", 2) };
    assert_eq!(store.grant(late).await.unwrap(), GrantReply::Granted { seq, quantity: 2, left: 3 });
    assert_eq!(store.grant(ask(&lease, "anna", "k", 1)).await.unwrap(), GrantReply::OtherBody);
    let other = store.grant(ask(&lease, "ben", "k", 3)).await.unwrap();
    assert!(
        matches!(other, GrantReply::Granted { seq: s, left: 0, .. } if s != seq),
        "the last unit is granted: {other:?}"
    );
    assert_eq!(
        store.grant(ask(&lease, "anna", "k", 2)).await.unwrap(),
        GrantReply::Granted { seq, quantity: 2, left: 0 }
    );
    assert_eq!(store.left(&lease.product, lease.lease).await.unwrap(), Some(0));
}

async fn what_is_not_here_fails_closed(store: &dyn LeaseStore) {
    let lease = load("absent", 1, 5, 3);
    assert_eq!(store.grant(ask(&lease, "anna", "k", 1)).await.unwrap(), GrantReply::NotOwner);
    assert_eq!(store.left(&lease.product, lease.lease).await.unwrap(), None);
    assert!(!store.close(&lease.product, lease.lease).await.unwrap());
    assert!(store.load(lease.clone()).await.unwrap());
    let other_lease = GrantRequest { lease: LeaseId::from_bits(9), ..ask(&lease, "anna", "k", 1) };
    assert_eq!(store.grant(other_lease).await.unwrap(), GrantReply::NotOwner);
    let other_epoch = GrantRequest { epoch: Epoch::new(2), ..ask(&lease, "anna", "k", 1) };
    assert_eq!(store.grant(other_epoch).await.unwrap(), GrantReply::NotOwner);
    assert_eq!(store.left(&lease.product, LeaseId::from_bits(9)).await.unwrap(), None);
    assert!(!store.close(&lease.product, LeaseId::from_bits(9)).await.unwrap(), "another lease is not closed");
    assert_eq!(store.left(&lease.product, lease.lease).await.unwrap(), Some(5));
}

async fn a_closed_lease_grants_nothing_more(store: &dyn LeaseStore) {
    let lease = load("closed", 1, 5, 3);
    assert!(store.load(lease.clone()).await.unwrap());
    store.grant(ask(&lease, "anna", "k", 1)).await.unwrap();
    assert!(store.close(&lease.product, lease.lease).await.unwrap());
    assert!(store.close(&lease.product, lease.lease).await.unwrap(), "closing twice is closing");
    assert_eq!(store.grant(ask(&lease, "ben", "k", 1)).await.unwrap(), GrantReply::Closed);
    assert_eq!(store.grant(ask(&lease, "anna", "k", 1)).await.unwrap(), GrantReply::Closed);
    assert_eq!(store.left(&lease.product, lease.lease).await.unwrap(), None);
    assert!(!store.load(lease.clone()).await.unwrap(), "it does not rise again");
}

async fn an_older_or_equal_epoch_is_refused(store: &dyn LeaseStore) {
    let (old, new) = (load("epochs", 4, 5, 3), load("epochs", 5, 2, 3));
    assert!(store.load(new.clone()).await.unwrap());
    assert!(!store.load(old.clone()).await.unwrap());
    assert!(!store.load(LeaseLoad { lease: LeaseId::from_bits(77), ..new.clone() }).await.unwrap());
    assert_eq!(store.left(&new.product, new.lease).await.unwrap(), Some(2));
    store.grant(ask(&new, "anna", "k", 1)).await.unwrap();
    let newer = load("epochs", 6, 1, 3);
    assert!(store.load(newer.clone()).await.unwrap());
    assert_eq!(store.grant(ask(&new, "anna", "k", 1)).await.unwrap(), GrantReply::NotOwner);
    let reply = store.grant(ask(&newer, "anna", "k", 1)).await.unwrap();
    assert_eq!(reply, GrantReply::Granted { seq: 0, quantity: 1, left: 0 }, "a new lease starts anew");
}

async fn limit_window_and_units_bind(store: &dyn LeaseStore) {
    let lease = load("bounds", 1, 4, 2);
    assert!(store.load(lease.clone()).await.unwrap());
    for (now, open) in [(OPENS.millis() - 1, false), (CLOSES.millis(), false), (OPENS.millis(), true)] {
        let asked = GrantRequest { now: Timestamp::from_millis(now), ..ask(&lease, "anna", "k", 1) };
        let reply = store.grant(asked).await.unwrap();
        assert_eq!(matches!(reply, GrantReply::Granted { .. }), open, "at {now}: {reply:?}");
        assert_eq!(reply == GrantReply::OutsideWindow, !open);
    }
    assert_eq!(store.grant(ask(&lease, "anna", "k2", 2)).await.unwrap(), GrantReply::Limit);
    assert!(matches!(store.grant(ask(&lease, "anna", "k3", 1)).await.unwrap(), GrantReply::Granted { left: 2, .. }));
    assert_eq!(store.grant(ask(&lease, "anna", "k4", 1)).await.unwrap(), GrantReply::Limit);
    assert!(matches!(store.grant(ask(&lease, "ben", "k", 1)).await.unwrap(), GrantReply::Granted { left: 1, .. }));
    assert_eq!(store.grant(ask(&lease, "cleo", "k", 2)).await.unwrap(), GrantReply::Short { left: 1 });
    assert_eq!(store.left(&lease.product, lease.lease).await.unwrap(), Some(1), "a refusal takes nothing");
}

async fn a_top_up_raises_by_max_and_only_its_own_lease(store: &dyn LeaseStore) {
    let lease = load("raised", 3, 2, 9);
    let raise = async |id: LeaseId, granted| store.top_up(&lease.product, id, granted).await.unwrap();
    let look = async || store.look(&lease.product, lease.lease).await.unwrap();
    assert!(!raise(lease.lease, 5).await, "there is nothing to raise");
    assert_eq!(look().await, None, "and nothing was made");
    assert!(store.load(lease.clone()).await.unwrap());
    assert_eq!(look().await, Some(LeaseLook { granted: 2, left: 2 }));
    store.grant(ask(&lease, "anna", "k", 2)).await.unwrap();
    assert_eq!(store.grant(ask(&lease, "ben", "k", 1)).await.unwrap(), GrantReply::Short { left: 0 });
    // Said twice, and an older word late: once.
    for granted in [5, 5, 3, 0] {
        assert!(raise(lease.lease, granted).await);
        assert_eq!(look().await, Some(LeaseLook { granted: 5, left: 3 }), "to {granted}");
    }
    let more = store.grant(ask(&lease, "ben", "k", 1)).await.unwrap();
    assert_eq!(more, GrantReply::Granted { seq: 1, quantity: 1, left: 2 }, "the numbers go on");
    assert!(!raise(LeaseId::from_bits(99), 50).await, "another lease");
    assert_eq!(look().await, Some(LeaseLook { granted: 5, left: 2 }));
    assert!(store.close(&lease.product, lease.lease).await.unwrap());
    assert!(!raise(lease.lease, 50).await, "it is closed");
    assert_eq!(look().await, None);
    assert_eq!(store.grant(ask(&lease, "cleo", "k", 1)).await.unwrap(), GrantReply::Closed);
    let newer = load("raised", 4, 1, 9);
    assert!(store.load(newer.clone()).await.unwrap());
    assert!(!raise(lease.lease, 50).await, "it was replaced");
    assert_eq!(store.left(&newer.product, newer.lease).await.unwrap(), Some(1));
}

async fn a_crowd_gets_what_a_top_up_adds_and_no_more(store: Arc<dyn LeaseStore>) {
    let lease = load("refilled", 1, 10, 1);
    assert!(store.load(lease.clone()).await.unwrap());
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..300u32 {
        let (store, request) = (store.clone(), ask(&lease, &format!("b{n}"), "k", 1));
        calls.spawn(async move { matches!(store.grant(request).await.unwrap(), GrantReply::Granted { .. }) });
    }
    // Two cores at once, each with what it read.
    for n in 0..90u64 {
        let (store, lease) = (store.clone(), lease.clone());
        let granted = 10 + n;
        calls.spawn(async move { !store.top_up(&lease.product, lease.lease, granted).await.unwrap() });
    }
    let mut granted = 0;
    while let Some(one) = calls.join_next().await {
        granted += u64::from(one.unwrap());
    }
    let look = store.look(&lease.product, lease.lease).await.unwrap().unwrap();
    assert_eq!(look.granted, 99);
    assert_eq!(look.left + granted, 99, "{granted} were granted");
}

async fn a_crowd_gets_exactly_the_units(store: Arc<dyn LeaseStore>) {
    let lease = load("crowd", 1, 100, 1);
    assert!(store.load(lease.clone()).await.unwrap());
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..900u32 {
        let (store, request) = (store.clone(), ask(&lease, &format!("b{}", n % 300), "k", 1));
        calls.spawn(async move { (n % 300, store.grant(request).await.unwrap()) });
    }
    let mut granted: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
    while let Some(one) = calls.join_next().await {
        let (buyer, reply) = one.unwrap();
        if let GrantReply::Granted { seq, .. } = reply {
            granted.entry(seq).or_default().insert(buyer);
        }
    }
    assert_eq!(granted.len(), 100);
    assert!(granted.values().all(|buyers| buyers.len() == 1), "one number, one buyer");
}

/// Whatever is asked in whatever order: never more than granted, one number for one name, limits kept.
async fn random_walks_agree_with_the_model(store: &dyn LeaseStore) {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    for walk in 0..50 {
        let lease = load(&format!("walk{walk}"), 1, rng.random_range(0..20), rng.random_range(1..5));
        assert!(store.load(lease.clone()).await.unwrap());
        let (mut taken, mut given) = (0u64, BTreeMap::<(u32, u32), (u64, u32)>::new());
        let mut held = BTreeMap::<u32, u32>::new();
        for _ in 0..100 {
            let (buyer, key, quantity) = (rng.random_range(0..6), rng.random_range(0..4), rng.random_range(1..4));
            let reply = store.grant(ask(&lease, &format!("b{buyer}"), &format!("k{key}"), quantity)).await.unwrap();
            let holds = held.get(&buyer).copied().unwrap_or(0);
            let left = lease.granted - taken;
            let expected = match given.get(&(buyer, key)) {
                Some((seq, q)) if *q == quantity => GrantReply::Granted { seq: *seq, quantity, left },
                Some(_) => GrantReply::OtherBody,
                None if holds + quantity > lease.limit => GrantReply::Limit,
                None if u64::from(quantity) > left => GrantReply::Short { left },
                None => {
                    let seq = given.len() as u64;
                    taken += u64::from(quantity);
                    given.insert((buyer, key), (seq, quantity));
                    held.insert(buyer, holds + quantity);
                    GrantReply::Granted { seq, quantity, left: left - u64::from(quantity) }
                }
            };
            assert_eq!(reply, expected);
        }
    }
}
