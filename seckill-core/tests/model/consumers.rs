//! The two consumers, one that was paused, and attempts that are submitted again.

use super::books::{DEADLINE, lease_id, lease_index};
use super::mutant::Mutant;
use super::state::{Config, Kind, Log, Record, Steps, WAITING, World};
use crate::stock::queue::consumer::{Next, after_verdict};
use crate::stock::queue::resubmit::{Route, after_send, route};
use crate::stock::redis::path::{Sent, after_grant};
use crate::stock::store::{Claim, MoveStep, Verdict};
use types::Timestamp;

impl Config {
    pub(super) fn log<'a>(&self, w: &'a mut World, of_grants: bool) -> &'a mut Log {
        if of_grants { &mut w.grants } else { &mut w.queue }
    }

    pub(super) fn consumer(&self, w: &World, of_grants: bool, out: &mut Steps) {
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
    pub(super) fn handle(&self, w: &World, of_grants: bool, record: Record, out: &mut Steps) {
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
    pub(super) fn follow(
        &self,
        mut t: World,
        record: Record,
        verdict: Verdict,
        again: impl Fn(World) -> World,
        out: &mut Steps,
    ) {
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

    pub(super) fn keep(&self, mut t: World, record: Record) -> World {
        let kept = Record { kind: Kind::Queued, lease: 0, seq: 0, ..record };
        // Beyond the bound it is left to its deadline.
        if let Some(place) = t.waiting.iter_mut().find(|r| r.kind == Kind::None) {
            *place = kept;
        }
        t
    }

    pub(super) fn forget_memory(&self, t: &mut World) {
        t.waiting = [Record::default(); WAITING];
    }

    pub(super) fn waiting(&self, w: &World, out: &mut Steps) {
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
    pub(super) fn resubmit(&self, w: &World, record: Record, out: &mut Steps) {
        let renamed = record.renamed || self.is(Mutant::ResubmittedUnderANewKey);
        let record = Record { renamed, ..record };
        let row = w.b.row();
        for now in self.moments(w, record.key) {
            match route(Some(&row), DEADLINE, *now) {
                Route::Wait => out.push((("resubmission waits", record.key, 0), self.keep(*w, record))),
                Route::FromFree => self.rule_from_free(*w, record, *now, out),
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
                            Some(Route::FromFree) => self.rule_from_free(t, record, *now, out),
                            _ => out.push((("resubmission waits", record.key, 0), self.keep(t, record))),
                        },
                    }
                }
            }
        }
    }

    pub(super) fn rule_from_free(&self, w: World, record: Record, now: Timestamp, out: &mut Steps) {
        let mut t = w;
        let verdict = self.decide(&mut t, &self.ask(record, Claim::Queue, now), record.renamed);
        match after_verdict(Some(verdict)) {
            Next::SubmitAgain { .. } => out.push((("resubmission waits", record.key, 0), self.keep(w, record))),
            Next::End(_) | Next::LeaveToDeadline => out.push((("resubmitted from free", record.key, 0), t)),
        }
    }
}

fn claim(record: Record) -> Claim {
    match record.kind {
        Kind::Grant => Claim::Grant { lease: lease_id(record.lease as usize), seq: u64::from(record.seq) },
        _ => Claim::Queue,
    }
}
