//! Client calls on the three paths, and the tickets' readers.

use super::books::{DEADLINE, DUE, IN_TIME, LATE, SKEW_MS, lease_id};
use super::mutant::Mutant;
use super::state::{Call, Config, Kind, Record, Steps, World};
use crate::purchase::{Way, is_due, way};
use crate::stock::queue::backlog::bound;
use crate::stock::redis::path::{Sent, after_grant};
use crate::stock::store::{Claim, Outcome, ProductRow, Verdict};
use std::time::Duration;
use types::{Epoch, Phase, Tier};

/// A ticket's time and the measured rate, for the backlog's bound.
const TICKET_TIME: Duration = Duration::from_secs(10);
const RATE: u64 = 2_000;

impl Config {
    pub(super) fn client(&self, w: &World, n: usize, out: &mut Steps) {
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
                    (seen.state.tier, seen.state.phase) = (*tier, Phase::Active);
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

    pub(super) fn ticket(&self, t: &mut World, key: u8) {
        t.tickets |= 1 << key;
        if self.is(Mutant::QueuedCountsAsAccepted) {
            t.told[key as usize] |= 1;
        }
    }

    pub(super) fn tell(&self, t: &mut World, key: u8, outcome: Outcome) {
        if self.told {
            t.told[key as usize] |= if matches!(outcome, Outcome::Accepted(_)) { 1 } else { 2 };
        }
    }

    pub(super) fn by_db(&self, w: &World, n: usize, record: Record, out: &mut Steps) {
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
            Verdict::Decided { decision, fresh, .. } => {
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

    pub(super) fn by_queue(&self, w: &World, n: usize, record: Record, row: &ProductRow, out: &mut Steps) {
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

    pub(super) fn by_redis(&self, w: &World, n: usize, record: Record, out: &mut Steps) {
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

    pub(super) fn readers(&self, w: &World, out: &mut Steps) {
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
}
