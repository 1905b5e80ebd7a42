//! Everything around the books that can interleave: clients, cores, the lease store, two topics, consumers, movers,
//! clocks, and what can befall each. One successor per step; every decision in it is the production code's.

use std::time::Duration;

use types::{BuyerId, Epoch, IdempotencyKey, LeaseId, Tier, Timestamp};

use super::books::{
    Ask, BUYERS, Books, DEADLINE, DUE, End, IN_TIME, KEYS, LATE, LEASES, LeaseState, Money3, Order, PAYMENTS, SKEW_MS,
    body, lease_id, lease_index, sku,
};
use super::mutant::Mutant;
use crate::handover::{LeaseHealth, LeaseWatch, NextStep, STUCK_AFTER, next_step, wanted};
use crate::purchase::{Way, is_due, way};
use crate::stock::queue::backlog::bound;
use crate::stock::queue::consumer::{Next, after_verdict};
use crate::stock::queue::resubmit::{Route, after_send, route};
use crate::stock::redis::path::{Sent, after_grant};
use crate::stock::redis::rules::{self, Grant, GrantRuling, LeaseView};
use crate::stock::redis::{GrantReply, GrantRequest};
use crate::stock::store::{Claim, MoveStep, Outcome, ProductRow, Verdict};

/// Most client calls, records per topic and attempts in a core's memory.
pub const CALLS: usize = 4;
pub const LOG: usize = 5;
pub const WAITING: usize = 2;

/// A ticket's time and the measured rate, for the backlog's bound.
const TICKET_TIME: Duration = Duration::from_secs(10);
const RATE: u64 = 2_000;

/// What lies in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Kind {
    #[default]
    None,
    Grant,
    Barrier,
    Queued,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Record {
    pub kind: Kind,
    pub key: u8,
    pub lease: u8,
    pub seq: u8,
    pub quantity: u8,
    /// Under a new key: a mutant's doing.
    pub renamed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Log {
    records: [Record; LOG],
    pub len: u8,
    /// The front record is decided and waits to be submitted again.
    pub again: bool,
}

impl Log {
    pub fn front(&self) -> Option<Record> {
        (self.len > 0).then(|| self.records[0])
    }
    fn pop(&mut self) {
        self.records.copy_within(1.., 0);
        self.len -= 1;
        self.records[self.len as usize..].fill(Record::default());
        self.again = false;
    }
    /// Whether it fitted.
    fn push(&mut self, record: Record) -> bool {
        let fits = (self.len as usize) < LOG;
        if fits {
            self.records[self.len as usize] = record;
            self.len += 1;
        }
        fits
    }
    fn put_back(&mut self, record: Record) -> bool {
        let fits = (self.len as usize) < LOG;
        if fits {
            self.records.copy_within(..LOG - 1, 1);
            self.records[0] = record;
            self.len += 1;
        }
        fits
    }
    fn lose_tail(&mut self) {
        self.len -= 1;
        self.records[self.len as usize] = Record::default();
        self.again &= self.len > 0;
    }
    fn holds(&self, kind: Kind) -> bool {
        self.records.iter().any(|r| r.kind == kind)
    }
    fn units(&self) -> u8 {
        self.records.iter().map(|r| r.quantity).sum()
    }
}

/// What the lease store has of the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Redis {
    pub on: bool,
    pub lease: u8,
    pub epoch: u8,
    pub cap: u8,
    pub taken: u8,
    pub next: u8,
    pub closed: bool,
    /// Grant number plus one, and quantity.
    pub grants: [(u8, u8); KEYS],
    pub held: [u8; BUYERS],
}

impl Redis {
    pub fn left(&self) -> u8 {
        self.cap.saturating_sub(self.taken)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Call {
    /// Not made yet, or its answer was lost: the client makes it (again) under the same key.
    #[default]
    Open,
    /// Granted; the record is not appended yet.
    Granted { lease: u8, seq: u8 },
    /// A mutant has read what it needs and writes later: free, leased, reserved, held.
    Read([u8; 4]),
    /// Answered.
    Done,
}

/// How often what may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Luck {
    pub moves: u8,
    pub replaces: u8,
    pub resets: u8,
    pub crashes: u8,
    pub zombies: u8,
    pub losses: u8,
    pub top_ups: u8,
    pub slow_steps: u8,
    /// A mutant's own trick, once.
    pub trick: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct World {
    pub b: Books,
    pub calls: [Call; CALLS],
    /// One bit per key: somebody holds a ticket.
    pub tickets: u8,
    /// What owners of the key were told as final: 1 accepted, 2 refused.
    pub told: [u8; KEYS],
    /// 0 before the deadline, 1 past it, 2 past deadline and skew.
    pub clock: [u8; KEYS],
    pub redis: Redis,
    pub snapshot: Redis,
    pub grants: Log,
    pub queue: Log,
    /// Polled by a consumer that is paused meanwhile.
    pub zombie: Record,
    pub waiting: [Record; WAITING],
    /// A step that a slow core has decided and not taken yet.
    pub slow: Option<Slow>,
    /// A load whose mover has won `MarkLoaded`: lease and units.
    pub load: Option<(u8, u8)>,
    /// Lease and units of a top-up that SQL has and Redis has not.
    pub top_up: Option<(u8, u8)>,
    pub condemned: Option<u8>,
    pub captured: [u8; KEYS],
    pub applied: [u8; KEYS],
    pub luck: Luck,
    /// The lease store has come back with old data.
    pub lied: bool,
    pub wrong: Option<&'static str>,
}

/// A move's step, small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slow {
    Switch { epoch: u8, target: Tier },
    Lend { epoch: u8, keep: u8 },
    Mark { lease: u8 },
    Fence { epoch: u8, target: Tier },
    Settle { lease: u8 },
    Open { epoch: u8 },
}

/// What may happen in a run, and how much of it.
#[derive(Debug, Clone)]
pub struct Config {
    pub name: &'static str,
    pub total: u8,
    pub limit: u8,
    /// Key and quantity of each client call; calls under one key are retries.
    pub calls: Vec<(u8, u8)>,
    /// Whose each key is.
    pub buyers: Vec<u8>,
    pub start: Tier,
    pub tiers: Vec<Tier>,
    pub luck: Luck,
    /// The lease store may come back with old data.
    pub stale: bool,
    pub deadlines: bool,
    /// Clocks differ by up to the skew.
    pub skew: bool,
    pub told: bool,
    pub barrier: bool,
    pub expiry: bool,
    pub cancel: bool,
    pub payments: u8,
    pub refunds: bool,
    pub mutant: Mutant,
}

/// A step's name and its two most telling numbers.
pub type Label = (&'static str, u8, u8);
pub type Steps = Vec<(Label, World)>;

fn buyer_id(n: u8) -> BuyerId {
    use std::sync::OnceLock;
    static IDS: OnceLock<Vec<BuyerId>> = OnceLock::new();
    IDS.get_or_init(|| (0..BUYERS).map(|n| BuyerId::new(format!("b{n}")).expect("an id")).collect())[n as usize].clone()
}
fn key_name() -> IdempotencyKey {
    use std::sync::OnceLock;
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

    fn is(&self, m: Mutant) -> bool {
        self.mutant == m
    }
    fn buyer(&self, key: u8) -> u8 {
        self.buyers[key as usize]
    }

    /// The moments at which a store may believe that it decides this key: calls may have been under way for long.
    fn moments(&self, w: &World, key: u8) -> &'static [Timestamp] {
        if self.deadlines && w.clock[key as usize] > 0 && w.b.keys[key as usize].end == End::None {
            &[IN_TIME, LATE]
        } else {
            &[IN_TIME]
        }
    }

    fn ask(&self, record: Record, claim: Claim, now: Timestamp) -> Ask {
        let (key, quantity) = (record.key, record.quantity);
        Ask { key, buyer: self.buyer(key), quantity, claim, deadline: DEADLINE, now }
    }

    fn decide(&self, w: &mut World, ask: &Ask, blind: bool) -> Verdict {
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
    fn grant(&self, w: &mut World, lease: LeaseId, epoch: Epoch, record: Record) -> GrantReply {
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
        if !w.b.over && (w.calls.iter().all(|c| *c != Call::Open) || w.luck.moves == 0) {
            let mut t = *w;
            t.b.over = true;
            out.push((("the sale is over", 0, 0), t));
        }
    }

    // ---------------------------------------------------------------- clients

    fn client(&self, w: &World, n: usize, out: &mut Steps) {
        let (key, quantity) = self.calls[n];
        let record = Record { kind: Kind::None, key, quantity, ..Record::default() };
        let id = n as u8;
        match w.calls[n] {
            Call::Done => {}
            Call::Open if w.b.over => {}
            Call::Open => {
                // Calls that differ in nothing are made in their order.
                if (0..n).any(|i| self.calls[i] == self.calls[n] && w.calls[i] == Call::Open) {
                    return;
                }
                // A core may see any tier that the product had.
                for tier in &self.tiers {
                    let mut seen = w.b.row();
                    (seen.state.tier, seen.state.phase) = (*tier, types::Phase::Active);
                    match way(&seen, IN_TIME) {
                        Way::By(Tier::Db) => self.by_db(w, n, record, out),
                        Way::By(Tier::Queue) => self.by_queue(w, n, record, &seen, out),
                        Way::By(Tier::Redis) => self.by_redis(w, n, record, out),
                        Way::Refuse(_) | Way::Wait => {}
                    }
                }
            }
            Call::Granted { lease, seq } => {
                let mut t = *w;
                t.calls[n] = Call::Done;
                if w.luck.crashes > 0 {
                    t.luck.crashes -= 1;
                    out.push((("core dies between grant and append", id, lease), t));
                    t.luck.crashes += 1;
                }
                if !t.grants.push(Record { kind: Kind::Grant, lease, seq, ..record }) {
                    return;
                }
                if w.luck.crashes > 0 {
                    let mut u = t;
                    u.luck.crashes -= 1;
                    out.push((("grant appended, core dies before the answer", id, lease), u));
                }
                self.ticket(&mut t, key);
                out.push((("grant appended, 202", id, lease), t));
            }
            Call::Read([free, leased, reserved, held]) => {
                let mut t = *w;
                t.calls[n] = Call::Done;
                if t.b.decision(key).is_none() {
                    let ask = self.ask(record, Claim::Door, IN_TIME);
                    let mut view = t.b.view(&ask, self.mutant);
                    view.held = u64::from(held);
                    if self.is(Mutant::SnapshotReads) {
                        (view.free, view.leased, view.reserved) = (free.into(), leased.into(), reserved.into());
                    }
                    let _verdict = t.b.act(&ask, &view, self.mutant);
                }
                out.push((("db: writes by what it read before", id, 0), t));
            }
        }
    }

    fn ticket(&self, t: &mut World, key: u8) {
        t.tickets |= 1 << key;
        if self.is(Mutant::QueuedCountsAsAccepted) {
            t.told[key as usize] |= 1;
        }
    }

    fn tell(&self, t: &mut World, key: u8, outcome: Outcome) {
        if self.told {
            t.told[key as usize] |= if matches!(outcome, Outcome::Accepted(_)) { 1 } else { 2 };
        }
    }

    fn by_db(&self, w: &World, n: usize, record: Record, out: &mut Steps) {
        let id = n as u8;
        let ask = self.ask(record, Claim::Door, IN_TIME);
        let late = matches!(self.mutant, Mutant::SnapshotReads | Mutant::LimitInItsOwnTransaction);
        if late && w.b.decision(record.key).is_none() {
            let mut t = *w;
            let held = w.b.held[ask.buyer as usize];
            t.calls[n] = Call::Read([w.b.free, w.b.lent(), w.b.reserved, held]);
            out.push((("db: has read, writes later", id, 0), t));
            return;
        }
        let mut t = *w;
        // Only a broken core decides a retry without looking for the first decision.
        let blind = self.is(Mutant::RetryIsDecidedBlind) && w.luck.trick == 0;
        match self.decide(&mut t, &ask, blind) {
            Verdict::Decided { decision, fresh } => {
                if w.luck.crashes > 0 && fresh {
                    let mut u = t;
                    u.luck.crashes -= 1;
                    u.luck.trick = 0;
                    out.push((("db: committed, the answer is lost", id, 0), u));
                }
                if self.is(Mutant::AnswerBeforeCommit) && matches!(decision.outcome, Outcome::Accepted(_)) {
                    let mut u = *w;
                    u.calls[n] = Call::Done;
                    u.told[record.key as usize] |= 1;
                    out.push((("db: answered, then its group is rolled back", id, 0), u));
                }
                t.calls[n] = Call::Done;
                self.tell(&mut t, record.key, decision.outcome);
                out.push((("db: decided", id, u8::from(fresh)), t));
            }
            // Bind nothing; the client may give up. Undecided ones wait for the move.
            Verdict::OtherBody | Verdict::SoldOutAtDoor | Verdict::AllReservedAtDoor => {
                t.calls[n] = Call::Done;
                out.push((("db: refused at the door", id, 0), t));
            }
            Verdict::Resubmit(_) | Verdict::NotOnSale | Verdict::TokenUsed => {}
        }
    }

    fn by_queue(&self, w: &World, n: usize, record: Record, row: &ProductRow, out: &mut Steps) {
        let most = bound(row.state.sellable, TICKET_TIME, RATE);
        let full = row.state.sellable == 0 || u64::from(w.queue.len) >= most;
        let mut t = *w;
        t.calls[n] = Call::Done;
        if full && !self.is(Mutant::NoBacklogBound) {
            out.push((("queue: refused at the door", n as u8, w.queue.len), t));
            return;
        }
        if !t.queue.push(Record { kind: Kind::Queued, ..record }) {
            return;
        }
        // Written anew, so that it holds the rule to the document.
        if w.queue.len >= 2 * (w.b.free + w.b.lent()) {
            t.wrong = Some("the backlog goes beyond twice what is sellable");
        }
        if w.luck.crashes > 0 {
            let mut u = t;
            u.luck.crashes -= 1;
            out.push((("queued, core dies before the answer", n as u8, 0), u));
        }
        self.ticket(&mut t, record.key);
        out.push((("queued, 202", n as u8, 0), t));
    }

    fn by_redis(&self, w: &World, n: usize, record: Record, out: &mut Steps) {
        if !w.redis.on || !w.b.leases[w.redis.lease as usize].loaded {
            return;
        }
        // A core whose row is old asks for the lease that it knows; any other is not loaded and fails closed.
        let (lease, epoch) = (lease_id(w.redis.lease as usize), Epoch::new(u64::from(w.redis.epoch)));
        let mut t = *w;
        let reply = self.grant(&mut t, lease, epoch, record);
        match after_grant(reply, u32::from(record.quantity)) {
            Ok(seq) => {
                t.calls[n] = Call::Granted { lease: w.redis.lease, seq: seq as u8 };
                out.push((("lease store: granted", n as u8, seq as u8), t));
            }
            Err(Sent::OtherBody | Sent::Short | Sent::Limit) => {
                t.calls[n] = Call::Done;
                out.push((("lease store: refused", n as u8, 0), t));
            }
            Err(_) => {}
        }
    }

    // ---------------------------------------------------------------- consumers

    fn log<'a>(&self, w: &'a mut World, of_grants: bool) -> &'a mut Log {
        if of_grants { &mut w.grants } else { &mut w.queue }
    }

    fn consumer(&self, w: &World, of_grants: bool, out: &mut Steps) {
        let log = if of_grants { &w.grants } else { &w.queue };
        if let Some(record) = log.front() {
            if log.again {
                let mut t = *w;
                self.log(&mut t, of_grants).pop();
                let mut ends = Vec::new();
                self.resubmit(&t, record, &mut ends);
                for (label, end) in ends {
                    if end.luck.crashes > 0 {
                        let mut u = end;
                        u.luck.crashes -= 1;
                        if self.log(&mut u, of_grants).put_back(record) {
                            self.forget_memory(&mut u);
                            out.push((("… and dies before its offset is committed", record.key, 0), u));
                        }
                    }
                    out.push((label, end));
                }
            } else {
                self.handle(w, of_grants, record, out);
            }
            if w.luck.zombies > 0 && w.zombie.kind == Kind::None && record.kind != Kind::Barrier {
                let mut t = *w;
                t.zombie = record;
                t.luck.zombies -= 1;
                out.push((("a consumer polls and is paused; another takes over", record.key, 0), t));
            }
            if w.luck.losses > 0 && !(log.again && log.len == 1) {
                let mut t = *w;
                self.log(&mut t, of_grants).lose_tail();
                t.luck.losses -= 1;
                out.push((("the log loses its tail", 0, 0), t));
            }
        }
        if of_grants && w.zombie.kind != Kind::None {
            let (mut t, record) = (*w, w.zombie);
            t.zombie = Record::default();
            out.push((("the paused consumer dies", record.key, 0), t));
            let blind = self.is(Mutant::DecisionIsNotInsertedFirst);
            for now in self.moments(w, record.key) {
                let mut u = t;
                let verdict = self.decide(&mut u, &self.ask(record, claim(record), *now), blind);
                self.follow(u, record, verdict, |u| self.keep(u, record), out);
            }
        }
    }

    /// The front record is decided.
    fn handle(&self, w: &World, of_grants: bool, record: Record, out: &mut Steps) {
        if record.kind == Kind::Barrier {
            let mut t = *w;
            self.log(&mut t, of_grants).pop();
            let settle = MoveStep::Settle { lease: lease_id(record.lease as usize) };
            let left = self.left(&t, record.lease);
            t.b.step(&settle, left, self.mutant);
            out.push((("H4 at the barrier", record.lease, 0), t));
            return;
        }
        if self.is(Mutant::ConsumerDropsByTheClock) && w.clock[record.key as usize] > 0 {
            let mut t = *w;
            self.log(&mut t, of_grants).pop();
            out.push((("consumer: late by the clock, dropped", record.key, 0), t));
            return;
        }
        for now in self.moments(w, record.key) {
            let mut t = *w;
            let verdict = self.decide(&mut t, &self.ask(record, claim(record), *now), record.renamed);
            let before = out.len();
            self.follow(
                t,
                record,
                verdict,
                |mut t| {
                    self.log(&mut t, of_grants).again = true;
                    t
                },
                out,
            );
            // Not submitted again: the offset is committed, or the consumer dies before that.
            for i in before..out.len() {
                let mut end = out[i].1;
                if self.log(&mut end, of_grants).again {
                    continue;
                }
                if w.luck.crashes > 0 && end.b != w.b {
                    let mut u = end;
                    u.luck.crashes -= 1;
                    self.forget_memory(&mut u);
                    out.push((("consumer: committed, dies before its offset is", record.key, 0), u));
                }
                self.log(&mut end, of_grants).pop();
                out[i].1 = end;
            }
        }
    }

    /// What follows from a verdict; `again` puts the record where it is submitted again from.
    fn follow(&self, mut t: World, record: Record, verdict: Verdict, again: impl Fn(World) -> World, out: &mut Steps) {
        match after_verdict(Some(verdict)) {
            Next::End(_) => {
                out.push((("consumer: it has ended", record.key, t.b.keys[record.key as usize].end as u8), t))
            }
            Next::LeaveToDeadline => out.push((("consumer: left to its deadline", record.key, 0), t)),
            Next::SubmitAgain { condemn } => {
                if condemn && record.kind == Kind::Grant {
                    t.condemned = Some(record.lease);
                    if !t.lied && !record.renamed {
                        t.wrong = Some("a grant contradicts the books though the lease store never lied");
                    }
                }
                out.push((("consumer: to be submitted again", record.key, record.lease), again(t)));
            }
        }
    }

    // ---------------------------------------------------------------- resubmission

    fn keep(&self, mut t: World, record: Record) -> World {
        let kept = Record { kind: Kind::Queued, lease: 0, seq: 0, ..record };
        // Beyond the bound it is left to its deadline.
        if let Some(place) = t.waiting.iter_mut().find(|r| r.kind == Kind::None) {
            *place = kept;
        }
        t
    }

    fn forget_memory(&self, t: &mut World) {
        t.waiting = [Record::default(); WAITING];
    }

    fn waiting(&self, w: &World, out: &mut Steps) {
        for i in 0..WAITING {
            let record = w.waiting[i];
            if record.kind == Kind::None {
                continue;
            }
            let mut t = *w;
            t.waiting[i] = Record::default();
            self.resubmit(&t, record, out);
        }
        if w.waiting.iter().any(|r| r.kind != Kind::None) && w.luck.crashes > 0 {
            let mut t = *w;
            t.luck.crashes -= 1;
            self.forget_memory(&mut t);
            out.push((("core dies with attempts in memory", 0, 0), t));
        }
    }

    /// One try to submit an attempt again, from a world that no longer holds it.
    fn resubmit(&self, w: &World, record: Record, out: &mut Steps) {
        let renamed = record.renamed || self.is(Mutant::ResubmittedUnderANewKey);
        let record = Record { renamed, ..record };
        let row = w.b.row();
        for now in self.moments(w, record.key) {
            match route(Some(&row), DEADLINE, *now) {
                Route::Wait => out.push((("resubmission waits", record.key, 0), self.keep(*w, record))),
                Route::FromFree => self.from_free(*w, record, *now, out),
                Route::Queue => {
                    let mut t = *w;
                    if t.queue.push(Record { kind: Kind::Queued, lease: 0, seq: 0, ..record }) {
                        out.push((("resubmitted to the queue", record.key, 0), t));
                    }
                }
                Route::Lease => {
                    let mut t = *w;
                    let sent = match row.lease.filter(|l| l.loaded && !l.fenced) {
                        None => Err(Sent::Stale),
                        Some(lease) => {
                            let reply = self.grant(&mut t, lease.lease, lease.epoch, record);
                            after_grant(reply, u32::from(record.quantity)).map(|seq| (lease.lease, seq))
                        }
                    };
                    match sent {
                        Ok((lease, seq)) => {
                            if w.luck.crashes > 0 {
                                let mut u = t;
                                u.luck.crashes -= 1;
                                self.forget_memory(&mut u);
                                out.push((("resubmission: core dies between grant and append", record.key, 0), u));
                            }
                            let lease = lease_index(lease) as u8;
                            if t.grants.push(Record { kind: Kind::Grant, lease, seq: seq as u8, ..record }) {
                                out.push((("resubmitted with a new grant", record.key, lease), t));
                            }
                        }
                        Err(sent) => match after_send(sent) {
                            Some(Route::FromFree) => self.from_free(t, record, *now, out),
                            _ => out.push((("resubmission waits", record.key, 0), self.keep(t, record))),
                        },
                    }
                }
            }
        }
    }

    fn from_free(&self, w: World, record: Record, now: Timestamp, out: &mut Steps) {
        let mut t = w;
        let verdict = self.decide(&mut t, &self.ask(record, Claim::Queue, now), record.renamed);
        match after_verdict(Some(verdict)) {
            Next::SubmitAgain { .. } => out.push((("resubmission waits", record.key, 0), self.keep(w, record))),
            Next::End(_) | Next::LeaveToDeadline => out.push((("resubmitted from free", record.key, 0), t)),
        }
    }

    // ---------------------------------------------------------------- tickets

    fn readers(&self, w: &World, out: &mut Steps) {
        for key in 0..self.buyers.len() as u8 {
            let k = key as usize;
            if w.tickets & (1 << key) == 0 {
                continue;
            }
            if let Some(decision) = w.b.decision(key) {
                let mut t = *w;
                self.tell(&mut t, key, decision.outcome);
                if t != *w {
                    out.push((("reader: told the decision", key, w.b.keys[k].end as u8), t));
                }
                continue;
            }
            if !self.deadlines {
                continue;
            }
            if w.clock[k] < 2 {
                let mut t = *w;
                t.clock[k] = if self.skew { w.clock[k] + 1 } else { 2 };
                out.push((("time passes", key, t.clock[k]), t));
            }
            let now = [IN_TIME, LATE, DUE][w.clock[k] as usize];
            let skew = Duration::from_millis(if self.is(Mutant::NoSkew) { 0 } else { SKEW_MS as u64 });
            if is_due(DEADLINE, skew, now) && !self.is(Mutant::NobodyDecidesAtTheDeadline) {
                let mut t = *w;
                if matches!(self.mutant, Mutant::ReaderConcludesFromAbsence | Mutant::ConsumerDropsByTheClock) {
                    t.told[k] |= 2;
                } else {
                    let quantity = self.calls.iter().find(|(k, _)| *k == key).map_or(1, |(_, q)| *q);
                    t.b.conclude(key, quantity);
                    self.tell(&mut t, key, Outcome::Deadline);
                }
                if t != *w {
                    out.push((("reader: concludes", key, 0), t));
                }
            }
        }
    }

    // ---------------------------------------------------------------- orders

    fn orders(&self, w: &World, out: &mut Steps) {
        for key in 0..self.buyers.len() as u8 {
            let (k, buyer, row) = (key as usize, self.buyer(key), &w.b.keys[key as usize]);
            if row.order == Order::None {
                continue;
            }
            if self.expiry {
                let mut t = *w;
                if t.b.expire(key, buyer, self.mutant) {
                    if self.is(Mutant::ReleaseByRedisIncrement) && w.redis.on && w.redis.taken >= row.quantity {
                        t.b.free -= row.quantity;
                        t.redis.taken -= row.quantity;
                    }
                    out.push((("expired", key, 0), t));
                }
            }
            if (self.cancel && row.order == Order::Accepted) || (self.refunds && row.order == Order::Paid) {
                let mut t = *w;
                if t.b.cancel(key, buyer, self.mutant) {
                    out.push((("cancelled", key, 0), t));
                }
            }
            if w.captured[k] < self.payments {
                let mut t = *w;
                t.captured[k] += 1;
                out.push((("the provider takes money", key, t.captured[k]), t));
            }
            if w.applied[k] < w.captured[k] {
                let mut t = *w;
                t.applied[k] += 1;
                t.b.pay(key, buyer, w.applied[k] as usize, self.mutant);
                out.push((("payment applied", key, t.applied[k]), t));
            }
            for payment in 0..PAYMENTS {
                if row.payments[payment] == Money3::RefundDue {
                    let mut t = *w;
                    t.b.refunded(key, buyer, payment, self.mutant);
                    out.push((("money went back", key, payment as u8), t));
                }
            }
        }
    }

    // ---------------------------------------------------------------- the lease store and its loads

    fn left(&self, w: &World, lease: u8) -> Option<u8> {
        (w.redis.on && w.redis.lease == lease && !w.redis.closed).then(|| w.redis.left())
    }

    fn lease_store(&self, w: &World, out: &mut Steps) {
        if w.luck.resets > 0 && w.redis.on {
            let mut t = *w;
            t.redis = Redis::default();
            t.luck.resets -= 1;
            out.push((("the lease store is empty after a restart", 0, 0), t));
            if self.stale && w.snapshot.on && w.snapshot != w.redis {
                let mut t = *w;
                t.redis = w.snapshot;
                t.lied = true;
                t.luck.resets -= 1;
                out.push((("the lease store comes back with old data", 0, 0), t));
            }
            if self.stale && w.snapshot != w.redis {
                let mut t = *w;
                t.snapshot = w.redis;
                out.push((("the lease store's replica takes a copy", 0, 0), t));
            }
        }
        let Some((lease, units)) = w.load else { return };
        let mut t = *w;
        t.load = None;
        out.push((("the loader dies", lease, 0), t));
        t.condemned = Some(lease);
        out.push((("the load fails", lease, 0), t));
        t.condemned = w.condemned;
        let new = w.b.leases[lease as usize].epoch;
        let here = w.redis.on.then(|| Epoch::new(u64::from(w.redis.epoch)));
        if rules::may_load(here, Epoch::new(u64::from(new))) || self.is(Mutant::OlderLeaseMayBeLoaded) {
            t.redis = Redis { on: true, lease, epoch: new, cap: units, ..Redis::default() };
            out.push((("lease loaded", lease, units), t));
        } else {
            t.condemned = Some(lease);
            out.push((("the lease store holds a newer lease", lease, 0), t));
        }
    }

    // ---------------------------------------------------------------- movers

    fn health(&self, w: &World, row: &ProductRow) -> LeaseHealth {
        let Some(lease) = row.lease.filter(|l| l.loaded && !l.fenced && !w.b.draining) else {
            return LeaseHealth::Sound;
        };
        let index = lease_index(lease.lease) as u8;
        if w.condemned == Some(index) {
            return LeaseHealth::Replace;
        }
        let left = self.left(w, index).map(u64::from);
        // Two seconds pass without an order: records may lie in the topic for that long.
        let mut watch = LeaseWatch::new(row, &lease, IN_TIME);
        let _first = watch.look(row, &lease, left, IN_TIME);
        watch.look(row, &lease, left, IN_TIME.plus(STUCK_AFTER))
    }

    fn movers(&self, w: &World, out: &mut Steps) {
        if let Some(slow) = w.slow {
            let mut t = *w;
            t.slow = None;
            out.push((("the slow core dies", 0, 0), t));
            self.take(t, slow, out);
        }
        let row = w.b.row();
        let leak_over = w.b.over && w.b.tier == Tier::Redis && !w.b.draining;
        if leak_over
            && (self.is(Mutant::NoLeakRecovery)
                || (self.is(Mutant::LeakRecoveryOfDrainedLeasesOnly)
                    && row.lease.is_none_or(|l| self.left(w, lease_index(l.lease) as u8) != Some(0))))
        {
            return;
        }
        let mut seen: Vec<NextStep> = Vec::new();
        for plan in &self.tiers {
            let moves = !w.b.over && *plan != w.b.tier && !w.b.draining;
            if moves && w.luck.moves == 0 {
                continue;
            }
            let wish = wanted(&row, Some(*plan), false, IN_TIME);
            for health in [LeaseHealth::Sound, self.health(w, &row)] {
                let Some(step) = next_step(&row, wish, health) else { continue };
                let replaces = health == LeaseHealth::Replace && step == (NextStep::Fence { target: Tier::Redis });
                if (replaces && w.luck.replaces == 0) || seen.contains(&step) {
                    continue;
                }
                seen.push(step);
                let mut t = *w;
                if replaces {
                    t.luck.replaces -= 1;
                } else if moves {
                    t.luck.moves -= 1;
                }
                for slow in self.as_taken(w, &row, step) {
                    if w.luck.slow_steps > 0 && w.slow.is_none() {
                        let mut u = t;
                        u.luck.slow_steps -= 1;
                        u.slow = Some(slow);
                        out.push((("a core decides a step and is slow to take it", 0, 0), u));
                    }
                    self.take(t, slow, out);
                }
                self.on_the_way(w, step, out);
            }
        }
        self.broken_moves(w, out);
    }

    /// The step as the mover takes it.
    fn as_taken(&self, w: &World, row: &ProductRow, step: NextStep) -> Vec<Slow> {
        let epoch = row.state.epoch.get() as u8;
        match step {
            NextStep::Switch { target } => vec![Slow::Switch { epoch, target }],
            NextStep::OpenLease => {
                // What this core knows to be queued; another core may know of nothing.
                let queued = w.queue.units();
                let mut ways = vec![Slow::Lend { epoch, keep: 0 }];
                if queued > 0 {
                    ways.push(Slow::Lend { epoch, keep: queued });
                }
                ways
            }
            NextStep::Load { lease } => vec![Slow::Mark { lease: lease_index(lease.lease) as u8 }],
            NextStep::Fence { target } => vec![Slow::Fence { epoch, target }],
            NextStep::Settle { .. } if self.is(Mutant::OnlyTheConsumerSettles) => Vec::new(),
            NextStep::Settle { lease } => vec![Slow::Settle { lease: lease_index(lease) as u8 }],
            NextStep::Open => vec![Slow::Open { epoch }],
        }
    }

    /// H2 and H3: they may or may not happen before H4.
    fn on_the_way(&self, w: &World, step: NextStep, out: &mut Steps) {
        let NextStep::Settle { lease } = step else { return };
        let lease = lease_index(lease) as u8;
        if w.redis.on && w.redis.lease == lease && !w.redis.closed {
            let mut t = *w;
            t.redis.closed = true;
            out.push((("H2 the lease is closed in its store", lease, 0), t));
        }
        if self.barrier && !w.grants.holds(Kind::Barrier) {
            let mut t = *w;
            if t.grants.push(Record { kind: Kind::Barrier, lease, ..Record::default() }) {
                out.push((("H3 barrier", lease, 0), t));
            }
        }
    }

    fn take(&self, w: World, slow: Slow, out: &mut Steps) {
        let mut t = w;
        let epoch_of = |epoch: u8| Epoch::new(u64::from(epoch));
        let product = sku();
        let (name, step, lease) = match slow {
            Slow::Switch { epoch, target } => {
                ("switch", MoveStep::Switch { product, epoch: epoch_of(epoch), target }, 0)
            }
            Slow::Lend { epoch, keep } => {
                if w.b.opened as usize >= LEASES {
                    return;
                }
                let (lease, keep) = (w.b.opened, u64::from(keep));
                let step =
                    MoveStep::OpenLease { product, epoch: epoch_of(epoch), lease: lease_id(lease as usize), keep };
                ("a new lease", step, lease)
            }
            Slow::Mark { lease } => ("loaded = 1", MoveStep::MarkLoaded { lease: lease_id(lease as usize) }, lease),
            Slow::Fence { epoch, target } => {
                ("H1 fence", MoveStep::Fence { product, epoch: epoch_of(epoch), target }, 0)
            }
            Slow::Settle { lease } => ("H4 by the mover", MoveStep::Settle { lease: lease_id(lease as usize) }, lease),
            Slow::Open { epoch } => ("H5 open", MoveStep::Open { product, epoch: epoch_of(epoch) }, 0),
        };
        let left = self.left(&t, lease);
        if !t.b.step(&step, left, self.mutant) {
            if w.slow.is_none() {
                out.push((("a step that comes too late", lease, 0), t));
            }
            return;
        }
        match slow {
            Slow::Mark { lease } => t.load = Some((lease, t.b.leases[lease as usize].granted)),
            Slow::Fence { .. } => t.condemned = None,
            _ => {}
        }
        out.push(((name, lease, t.b.epoch), t));
    }

    /// Moves that only a broken mover makes.
    fn broken_moves(&self, w: &World, out: &mut Steps) {
        let mut t = *w;
        match self.mutant {
            Mutant::OpenBeforeSettle if w.b.draining && w.b.alive().is_some() => {
                let Some(target) = w.b.target else { return };
                (t.b.draining, t.b.target) = (false, None);
                if target == Tier::Redis && !w.b.over && (w.b.opened as usize) < LEASES {
                    let l = w.b.opened as usize;
                    t.b.leases[l].granted = w.b.free;
                    t.b.leases[l].state = LeaseState::Open;
                    (t.b.leases[l].epoch, t.b.opened, t.b.free) = (w.b.epoch, w.b.opened + 1, 0);
                    t.b.leased += w.b.free;
                } else {
                    t.b.tier = if target == Tier::Redis { Tier::Db } else { target };
                }
                out.push((("opened before it was settled", 0, 0), t));
            }
            Mutant::SettleTwice if w.luck.trick > 0 => {
                for l in 0..w.b.opened {
                    if w.b.leases[l as usize].state == LeaseState::Closed {
                        t.luck.trick -= 1;
                        self.take(t, Slow::Settle { lease: l }, out);
                    }
                }
            }
            Mutant::LeakReturnsUnitsOfAnOpenLease if w.luck.trick > 0 && !w.b.draining => {
                let Some(l) = w.b.alive() else { return };
                if self.left(w, l as u8) == Some(0) && w.b.leases[l].rest() > 0 {
                    t.luck.trick -= 1;
                    t.b.free += w.b.leases[l].rest();
                    out.push((("leak: units come back, the lease stays open", l as u8, 0), t));
                }
            }
            Mutant::LeaseIsLoadedAgain if w.luck.trick > 0 && !w.redis.on && w.load.is_none() => {
                let Some(l) = w.b.alive().filter(|l| w.b.leases[*l].loaded) else { return };
                t.luck.trick -= 1;
                t.load = Some((l as u8, w.b.leases[l].granted));
                out.push((("the same lease is loaded again", l as u8, 0), t));
            }
            _ => {}
        }
    }

    // ---------------------------------------------------------------- top-up: the protocol's text, not yet the port's

    fn top_ups(&self, w: &World, out: &mut Steps) {
        let m = self.mutant;
        if w.luck.top_ups > 0 && w.b.tier == Tier::Redis && !w.b.draining && w.top_up.is_none() && w.b.free > 0 {
            if let Some(l) = w.b.alive().filter(|l| w.b.leases[*l].state == LeaseState::Open) {
                let mut t = *w;
                t.luck.top_ups -= 1;
                if m == Mutant::TopUpInRedisFirst {
                    if self.left(w, l as u8).is_some() {
                        t.redis.cap += 1;
                        t.top_up = Some((l as u8, 1));
                        out.push((("top-up in Redis first", l as u8, 1), t));
                    }
                } else {
                    t.b.free -= 1;
                    t.b.leased += 1;
                    t.b.leases[l].granted += 1;
                    t.top_up = Some((l as u8, t.b.leases[l].granted));
                    out.push((("top-up in SQL", l as u8, 1), t));
                }
            }
        }
        if m == Mutant::TopUpOfAClosedLease && w.luck.top_ups > 0 && w.b.free > 0 {
            for l in 0..w.b.opened as usize {
                if w.b.leases[l].state != LeaseState::Open {
                    let mut t = *w;
                    t.luck.top_ups -= 1;
                    t.b.free -= 1;
                    t.b.leases[l].granted += 1;
                    out.push((("top-up of a lease that is not open", l as u8, 1), t));
                }
            }
        }
        let Some((lease, units)) = w.top_up else { return };
        let mut t = *w;
        t.top_up = None;
        out.push((("the core dies in a top-up", lease, 0), t));
        if m == Mutant::TopUpInRedisFirst {
            if w.b.free >= 1 && w.b.leases[lease as usize].state == LeaseState::Open {
                t.b.free -= 1;
                t.b.leased += 1;
                t.b.leases[lease as usize].granted += 1;
            }
            out.push((("top-up in SQL second", lease, 1), t));
            return;
        }
        let named = w.redis.lease == lease || m == Mutant::TopUpOfAnyLease;
        if w.redis.on && named && !w.redis.closed {
            if m == Mutant::TopUpByIncrement {
                t.redis.cap += 1;
                if w.luck.trick > 0 {
                    let mut u = t;
                    u.luck.trick -= 1;
                    u.top_up = w.top_up;
                    out.push((("top-up by INCR, the reply is lost", lease, 1), u));
                }
            } else {
                t.redis.cap = t.redis.cap.max(units);
            }
            out.push((("top-up in Redis", lease, units), t));
        } else if !w.redis.on && m == Mutant::TopUpCreatesTheKey {
            let epoch = w.b.leases[lease as usize].epoch;
            t.redis = Redis { on: true, lease, epoch, cap: units, ..Redis::default() };
            out.push((("top-up creates the key", lease, units), t));
        }
    }
}

fn claim(record: Record) -> Claim {
    match record.kind {
        Kind::Grant => Claim::Grant { lease: lease_id(record.lease as usize), seq: u64::from(record.seq) },
        _ => Claim::Queue,
    }
}
