//! Redis against the in-process leases: the same random calls, the same answers, every one.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use seckill_core::InProcessLeases;
use seckill_core::stock::redis::{GrantRequest, LeaseLoad, LeaseStore};
use seckill_core::stock::store::BodyHash;
use types::{BuyerId, Epoch, IdempotencyKey, LeaseId, Sku, Timestamp};

use crate::contract::{CLOSES, NOW, OPENS};
use crate::place::{Cluster, Place};

/// Calls of one walk.
const CALLS: usize = 6_000;
/// Numbers that are special to somebody: to SQL, to Lua, to Redis, to 32 bits.
const GRANTED: [u64; 9] = [0, 1, 2, 5, 9, 40, 1_000, u32::MAX as u64 + 7, 1 << 53];

struct Walk {
    rng: StdRng,
    /// The newest lease of each product, as somebody may believe it.
    leases: Vec<(LeaseId, Epoch)>,
}

impl Walk {
    fn product(n: usize) -> Sku {
        Sku::new(format!("P.{n}~x_")).unwrap()
    }
    fn time(&mut self) -> Timestamp {
        let around = [OPENS, CLOSES, NOW, NOW, NOW, NOW];
        let at = around.choose(&mut self.rng).unwrap().millis();
        Timestamp::from_millis(at + self.rng.random_range(-1..=1))
    }
    fn load(&mut self) -> (usize, LeaseLoad) {
        let n = self.rng.random_range(0..self.leases.len());
        let rise = *[0u64, 1, 1, 1, 3, 1 << 33].choose(&mut self.rng).unwrap();
        let epoch = Epoch::new(self.leases[n].1.get() + rise);
        let lease = LeaseId::from_bits(self.rng.random());
        let granted = *GRANTED.choose(&mut self.rng).unwrap();
        let limit = *[0, 1, 3, 10, 4_000_000].choose(&mut self.rng).unwrap();
        (n, LeaseLoad { product: Self::product(n), lease, epoch, granted, limit, opens: OPENS, closes: CLOSES })
    }
    fn top_up(&mut self) -> (Sku, LeaseId, u64) {
        let n = self.rng.random_range(0..self.leases.len());
        let mut lease = self.leases[n].0;
        if self.rng.random_bool(0.1) {
            lease = LeaseId::from_bits(lease.bits() ^ 1);
        }
        (Self::product(n), lease, *GRANTED.choose(&mut self.rng).unwrap() / self.rng.random_range(1..=3))
    }
    fn grant(&mut self) -> GrantRequest {
        let n = self.rng.random_range(0..self.leases.len());
        let (mut lease, mut epoch) = self.leases[n];
        match self.rng.random_range(0..40) {
            0 => lease = LeaseId::from_bits(lease.bits() ^ 1),
            1 => epoch = Epoch::new(epoch.get() + 1),
            _ => {}
        }
        let quantity = *[0, 1, 1, 1, 2, 3, 11, u32::MAX / 2].choose(&mut self.rng).unwrap();
        // Names that only differ late, and names with every allowed kind of byte.
        let long = "x".repeat(self.rng.random_range(0..3) * 60);
        let buyer = BuyerId::new(format!("{long}b|{}\"{{}}", self.rng.random_range(0..12))).unwrap();
        let key = IdempotencyKey::new(format!("{long}k:{}", self.rng.random_range(0..6))).unwrap();
        let mut body = [quantity as u8; 32];
        body[0] = u8::from(self.rng.random_bool(0.05));
        let (product, now) = (Self::product(n), self.time());
        GrantRequest { product, lease, epoch, buyer, key, body_hash: BodyHash(body), quantity, now }
    }
}

async fn compare(redis: &dyn LeaseStore, walks: u32) {
    for walk in 0..walks {
        let seed: u64 = rand::random();
        println!("walk {walk}: seed {seed}");
        walk_along(redis, seed, walk).await;
    }
}

async fn walk_along(redis: &dyn LeaseStore, seed: u64, walk: u32) {
    let model = InProcessLeases::new();
    // Epochs above those of the walk before, so that its remains are replaced like any older lease.
    let first = Epoch::new(u64::from(walk + 1) << 48);
    let mut walk = Walk { rng: StdRng::seed_from_u64(seed), leases: vec![(LeaseId::from_bits(0), first); 5] };
    let mut granted = 0;
    for call in 0..CALLS {
        let case = walk.rng.random_range(0..100);
        if case < 2 || call < 5 {
            let (n, load) = walk.load();
            let expected = model.load(load.clone()).await.unwrap();
            assert_eq!(redis.load(load.clone()).await.unwrap(), expected, "call {call}: {load:?}");
            if expected {
                walk.leases[n] = (load.lease, load.epoch);
            }
        } else if case < 3 {
            let n = walk.rng.random_range(0..walk.leases.len());
            let (product, lease) = (Walk::product(n), walk.leases[n].0);
            let expected = model.close(&product, lease).await.unwrap();
            // Of the walk before there may be one that the model has never seen.
            if lease.bits() != 0 {
                assert_eq!(redis.close(&product, lease).await.unwrap(), expected, "call {call}: close {product}");
            }
        } else if case < 13 {
            let n = walk.rng.random_range(0..walk.leases.len());
            let (product, lease) = (Walk::product(n), walk.leases[n].0);
            let expected = model.look(&product, lease).await.unwrap();
            assert_eq!(redis.look(&product, lease).await.unwrap(), expected, "call {call}: look {product}");
        } else if case < 18 {
            let (product, lease, granted) = walk.top_up();
            let expected = model.top_up(&product, lease, granted).await.unwrap();
            let said = redis.top_up(&product, lease, granted).await.unwrap();
            assert_eq!(said, expected, "call {call}: top-up {product} {granted}");
        } else {
            let request = walk.grant();
            let expected = model.grant(request.clone()).await.unwrap();
            granted += u32::from(matches!(expected, seckill_core::stock::redis::GrantReply::Granted { .. }));
            assert_eq!(redis.grant(request.clone()).await.unwrap(), expected, "call {call}: {request:?}");
        }
    }
    assert!(granted > 0, "a walk without a grant compares nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_answers_as_the_in_process_leases_do() {
    let place = Place::start(&[]);
    compare(&place.leases().await, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_answers_as_the_in_process_leases_do() {
    let place = Cluster::start();
    compare(&place.leases().await, 3).await;
}
