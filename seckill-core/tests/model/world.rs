//! Everything around the books that can interleave. One successor per step; every decision in it is the production
//! code's. Here: how a world begins, what counts as the same, and the atomic steps that several parties take.

use super::books::{Ask, BUYERS, Books, DEADLINE, End, IN_TIME, KEYS, LATE, body, lease_id, sku};
use super::mutant::Mutant;
use super::state::{CALLS, Call, Config, Kind, Log, Record, Redis, Steps, WAITING, World};
use crate::stock::redis::rules::{self, Grant, GrantRuling, LeaseView};
use crate::stock::redis::{GrantReply, GrantRequest};
use crate::stock::store::{Claim, MoveStep, Verdict};
use std::sync::OnceLock;
use types::{BuyerId, Epoch, IdempotencyKey, LeaseId, Tier, Timestamp};

fn buyer_id(n: u8) -> BuyerId {
    static IDS: OnceLock<Vec<BuyerId>> = OnceLock::new();
    IDS.get_or_init(|| (0..BUYERS).map(|n| BuyerId::new(format!("b{n}")).expect("an id")).collect())[n as usize].clone()
}
fn key_name() -> IdempotencyKey {
    static KEY: OnceLock<IdempotencyKey> = OnceLock::new();
    KEY.get_or_init(|| IdempotencyKey::new("k").expect("a key")).clone()
}

impl Config {
    pub fn start(&self) -> World {
        let mut b = Books::new(self.total, self.limit);
        let mut redis = Redis::default();
        match self.start {
            Tier::Db => {}
            Tier::Queue => b.tier = Tier::Queue,
            Tier::Redis => {
                let lend = MoveStep::OpenLease { product: sku(), epoch: Epoch::new(0), lease: lease_id(0), keep: 0 };
                assert!(b.step(&lend, None, Mutant::None), "the first lease opens");
                assert!(b.step(&MoveStep::MarkLoaded { lease: lease_id(0) }, None, Mutant::None), "it is loaded");
                redis = Redis { on: true, epoch: b.epoch, cap: self.total, ..Redis::default() };
            }
        }
        let mut calls = [Call::Done; CALLS];
        calls[..self.calls.len()].fill(Call::Open);
        World {
            b,
            calls,
            tickets: 0,
            told: [0; KEYS],
            clock: [0; KEYS],
            redis,
            snapshot: Redis::default(),
            grants: Log::default(),
            queue: Log::default(),
            zombie: Record::default(),
            waiting: [Record::default(); WAITING],
            slow: None,
            load: None,
            top_up: None,
            condemned: None,
            expected: self.total,
            captured: [0; KEYS],
            applied: [0; KEYS],
            luck: self.luck,
            lied: false,
            wrong: None,
        }
    }

    /// Forgets what can no longer matter, so that equal futures are one state.
    pub fn canonical(&self, w: &mut World) {
        if !self.stale || w.luck.resets == 0 {
            w.snapshot = Redis::default();
        }
        if w.redis.closed {
            (w.redis.grants, w.redis.held) = ([(0, 0); KEYS], [0; BUYERS]);
        }
        for key in 0..KEYS {
            if w.b.keys[key].end != End::None {
                w.clock[key] = 0;
            }
        }
        w.waiting.sort_by_key(|r| (r.kind == Kind::None, r.key, r.quantity));
    }

    pub(super) fn is(&self, m: Mutant) -> bool {
        self.mutant == m
    }
    pub(super) fn buyer(&self, key: u8) -> u8 {
        self.buyers[key as usize]
    }

    /// The moments at which a store may believe that it decides this key: calls may have been under way for long.
    pub(super) fn moments(&self, w: &World, key: u8) -> &'static [Timestamp] {
        if self.deadlines && w.clock[key as usize] > 0 && w.b.keys[key as usize].end == End::None {
            &[IN_TIME, LATE]
        } else {
            &[IN_TIME]
        }
    }

    pub(super) fn ask(&self, record: Record, claim: Claim, now: Timestamp) -> Ask {
        let (key, quantity) = (record.key, record.quantity);
        Ask { key, buyer: self.buyer(key), quantity, claim, deadline: DEADLINE, now }
    }

    pub(super) fn decide(&self, w: &mut World, ask: &Ask, blind: bool) -> Verdict {
        if !blind {
            return w.b.decide(ask, self.mutant);
        }
        let before = std::mem::take(&mut w.b.keys[ask.key as usize].end);
        let verdict = w.b.decide(ask, self.mutant);
        if before != End::None && w.b.keys[ask.key as usize].end != End::Accepted {
            w.b.keys[ask.key as usize].end = before;
        }
        verdict
    }

    /// The lease store's atomic step.
    pub(super) fn grant(&self, w: &mut World, lease: LeaseId, epoch: Epoch, record: Record) -> GrantReply {
        let (key, buyer) = (record.key as usize, self.buyer(record.key) as usize);
        let request = GrantRequest {
            product: sku(),
            lease,
            epoch,
            buyer: buyer_id(buyer as u8),
            key: key_name(),
            body_hash: body(record.quantity),
            quantity: u32::from(record.quantity),
            now: IN_TIME,
        };
        let redis = &mut w.redis;
        let known = redis.grants[key].0 != 0 && !record.renamed && !self.is(Mutant::LeaseStoreForgetsRepeats);
        let view = LeaseView {
            lease: lease_id(redis.lease as usize),
            epoch: Epoch::new(u64::from(redis.epoch)),
            closed: redis.closed,
            opens: Timestamp::from_millis(0),
            closes: if w.b.over { Timestamp::from_millis(1) } else { Timestamp::from_millis(1_000_000) },
            limit: u32::from(self.limit),
            left: u64::from(redis.left()),
            held: u32::from(redis.held[buyer]),
            grant: known.then(|| Grant {
                body_hash: if self.is(Mutant::LeaseStoreIgnoresTheBody) {
                    body(record.quantity)
                } else {
                    body(redis.grants[key].1)
                },
                seq: u64::from(redis.grants[key].0 - 1),
                quantity: if self.is(Mutant::LeaseStoreIgnoresTheBody) {
                    u32::from(record.quantity)
                } else {
                    u32::from(redis.grants[key].1)
                },
            }),
        };
        match rules::rule(&request, redis.on.then_some(&view)) {
            GrantRuling::Say(reply) => reply,
            GrantRuling::Take => {
                let seq = redis.next;
                redis.taken += record.quantity;
                redis.next += 1;
                redis.held[buyer] += record.quantity;
                redis.grants[key] = (seq + 1, record.quantity);
                GrantReply::Granted {
                    seq: u64::from(seq),
                    quantity: u32::from(record.quantity),
                    left: u64::from(redis.left()),
                }
            }
        }
    }

    pub fn steps(&self, w: &World, out: &mut Steps) {
        for n in 0..self.calls.len() {
            self.client(w, n, out);
        }
        self.consumer(w, true, out);
        self.consumer(w, false, out);
        self.waiting(w, out);
        self.readers(w, out);
        self.orders(w, out);
        self.lease_store(w, out);
        self.movers(w, out);
        self.top_ups(w, out);
        self.adjustments(w, out);
        if !w.b.over && (w.calls.iter().all(|c| *c != Call::Open) || w.luck.moves == 0) {
            let mut t = *w;
            t.b.over = true;
            out.push((("the sale is over", 0, 0), t));
        }
    }
}
