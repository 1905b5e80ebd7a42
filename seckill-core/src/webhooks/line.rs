//! The line of one subscription as pure decisions: what is sent next, and what becomes of an event by how its
//! delivery ended. Events of one order go one after the other; one that fails waits aside with those behind it, and
//! the others go on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hashbrown::HashSet;
use types::order_event::OrderEventKind;
use types::{OrderId, Timestamp};

use super::options::WebhookOptions;
use super::send::End;
use crate::stock::order_feed::OrderStep;
use crate::stock::webhook_store::{Dead, MAX_PARKED, Parked, Progress};

/// Deliveries in a row to which no receiver answered, after which it is held to be away for all.
const AWAY_AFTER: u32 = 5;

/// How far a subscription is, in memory as in SQL.
#[derive(Debug)]
pub(super) struct Line {
    /// Every event up to it is done with or parked.
    cursor: u64,
    /// Done with, above the cursor: some event below waits for its first try.
    ahead: BTreeSet<u64>,
    parked: BTreeMap<u64, Parked>,
    /// Deliveries in a row without an answer.
    silent: u32,
    /// When a receiver that is away is looked for again, and how long the wait before was.
    probe: Option<(Timestamp, Duration)>,
}

/// What is tried of one order, in its order.
pub(super) type Group = Vec<OrderStep>;

/// What came of a group's event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tried {
    /// It was sent.
    Ended(End),
    /// It stands behind one that failed.
    Behind,
    /// There was no time, or the receiver had gone away meanwhile.
    Not,
}

impl Line {
    pub(super) fn new(cursor: u64, parked: Vec<Parked>) -> Self {
        let parked = parked.into_iter().map(|p| (p.sequence, p)).collect();
        Self { cursor, ahead: BTreeSet::new(), parked, silent: 0, probe: None }
    }

    pub(super) const fn cursor(&self) -> u64 {
        self.cursor
    }

    #[cfg(test)]
    fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Whether the receiver is held to be away: then one event is tried at a time.
    pub(super) const fn is_away(&self) -> bool {
        self.silent >= AWAY_AFTER
    }

    /// Whether anything may be sent now: a receiver that is away is asked rarely.
    pub(super) fn may_send(&self, now: Timestamp) -> bool {
        self.probe.is_none_or(|(at, _)| now.millis() >= at.millis())
    }

    /// Whether new events may be read: not while too many wait aside.
    pub(super) fn takes_new(&self, batch: usize) -> bool {
        self.parked.len() + batch <= MAX_PARKED
    }

    /// Parked events that are the first of their order and due, the longest due first, at most `max`.
    pub(super) fn due(&self, now: Timestamp, max: usize) -> Vec<u64> {
        let mut orders: HashSet<OrderId> = HashSet::new();
        let heads = self.parked.values().filter(|p| orders.insert(p.order));
        let mut due: Vec<_> = heads.filter(|p| p.due.millis() <= now.millis()).map(|p| (p.due, p.sequence)).collect();
        due.sort_unstable();
        due.into_iter().take(max).map(|(_, sequence)| sequence).collect()
    }

    /// Sorts what was read behind the cursor: groups to send, and what must wait behind a parked one of its order.
    pub(super) fn sort(
        &self,
        batch: &[OrderStep],
        wanted: &[OrderEventKind],
        now: Timestamp,
    ) -> (Vec<Group>, Vec<Parked>) {
        let blocked: HashSet<OrderId> = self.parked.values().map(|p| p.order).collect();
        let (mut groups, mut behind) = (BTreeMap::<OrderId, Group>::new(), Vec::new());
        for step in batch {
            let done = self.ahead.contains(&step.sequence) || self.parked.contains_key(&step.sequence);
            if done || !wanted.contains(&step.state.into()) {
                continue;
            }
            if blocked.contains(&step.order.order) {
                behind.push(waiting(step, now));
            } else {
                groups.entry(step.order.order).or_default().push(step.clone());
            }
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_unstable_by_key(|group| group.first().map(|step| step.sequence));
        (groups, behind)
    }

    /// Takes note of a delivery's end as it comes.
    pub(super) fn note(&mut self, end: &End, now: Timestamp, options: &WebhookOptions) {
        match end {
            End::Delivered | End::Refused(_) => {
                // Whoever answers is there: those who waited for that wait no more.
                if self.is_away() {
                    for parked in self.parked.values_mut() {
                        parked.due = now;
                    }
                }
                (self.silent, self.probe) = (0, None);
            }
            End::Away(_) => {
                self.silent = self.silent.saturating_add(1);
                let waits = self.probe.is_some_and(|(at, _)| now.millis() < at.millis());
                if self.is_away() && !waits {
                    let wait = self.probe.map_or(options.first_retry, |(_, wait)| wait * 2).min(options.longest_probe);
                    self.probe = Some((now.plus(wait), wait));
                }
            }
        }
    }

    /// What a round came to: changes this line and says what to write. `batch_end` is the number of the last event
    /// that was read behind the cursor; `jitter` is in 0 to 1.
    pub(super) fn settle(
        &mut self,
        batch_end: Option<u64>,
        behind: Vec<Parked>,
        tried: Vec<(OrderStep, Tried)>,
        now: Timestamp,
        options: &WebhookOptions,
        mut jitter: impl FnMut() -> f64,
    ) -> Progress {
        let mut progress = Progress::default();
        let mut first_not = None::<u64>;
        for (step, end) in tried {
            let sequence = step.sequence;
            match end {
                Tried::Ended(End::Delivered) => self.done(sequence, &mut progress),
                Tried::Ended(End::Refused(reason)) => {
                    self.failed(&step, reason, true, now, options, jitter(), &mut progress);
                }
                Tried::Ended(End::Away(reason)) => {
                    let counts = !self.is_away();
                    self.failed(&step, reason, counts, now, options, jitter(), &mut progress);
                }
                Tried::Behind if !self.parked.contains_key(&sequence) => {
                    self.park(waiting(&step, now), &mut progress);
                }
                Tried::Not if !self.parked.contains_key(&sequence) => {
                    first_not = Some(first_not.map_or(sequence, |first| first.min(sequence)));
                }
                Tried::Behind | Tried::Not => {}
            }
        }
        for parked in behind {
            self.park(parked, &mut progress);
        }
        if let Some(end) = batch_end {
            self.cursor = first_not.map_or(end, |first| first - 1).max(self.cursor);
        }
        self.ahead = self.ahead.split_off(&(self.cursor + 1));
        progress.cursor = self.cursor;
        progress
    }

    /// An event that the outbox does not have.
    pub(super) fn gone(&mut self, sequence: u64) -> Progress {
        let mut progress = Progress { cursor: self.cursor, ..Progress::default() };
        self.done(sequence, &mut progress);
        progress
    }

    fn done(&mut self, sequence: u64, progress: &mut Progress) {
        if self.parked.remove(&sequence).is_some() {
            progress.unpark.push(sequence);
        }
        // It may have been parked above the cursor.
        if sequence > self.cursor {
            self.ahead.insert(sequence);
        }
    }

    fn park(&mut self, parked: Parked, progress: &mut Progress) {
        self.parked.insert(parked.sequence, parked.clone());
        progress.park.push(parked);
    }

    #[expect(clippy::too_many_arguments, reason = "what a failure is judged by")]
    fn failed(
        &mut self,
        step: &OrderStep,
        reason: String,
        counts: bool,
        now: Timestamp,
        options: &WebhookOptions,
        jitter: f64,
        progress: &mut Progress,
    ) {
        let mut parked = self.parked.get(&step.sequence).cloned().unwrap_or_else(|| waiting(step, now));
        parked.attempts += u32::from(counts);
        parked.reason = reason;
        let age = now.millis().saturating_sub(parked.since.millis());
        let too_old = u128::try_from(age).is_ok_and(|age| age > options.give_up_after.as_millis());
        if parked.attempts >= options.attempts || too_old {
            self.done(step.sequence, progress);
            let Parked { sequence, order, attempts, reason, .. } = parked;
            progress.dead.push(Dead { sequence, order, attempts, at: now, reason });
            return;
        }
        parked.due = now.plus(pause(parked.attempts, options, jitter));
        self.park(parked, progress);
    }
}

/// An event that was not tried yet.
fn waiting(step: &OrderStep, now: Timestamp) -> Parked {
    let OrderStep { sequence, order, .. } = step;
    Parked { sequence: *sequence, order: order.order, attempts: 0, since: now, due: now, reason: String::new() }
}

/// Doubles from try to try, up to the longest; half of it is chance, so that many do not come at once.
fn pause(attempts: u32, options: &WebhookOptions, jitter: f64) -> Duration {
    let doubled = options.first_retry.saturating_mul(1 << attempts.saturating_sub(1).min(20));
    doubled.min(options.longest_retry).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::{Money, Tier};

    use super::*;
    use crate::stock::store::{OrderRow, OrderState};

    const NOW: Timestamp = Timestamp::from_seconds(1_000);

    fn step(sequence: u64, order: u128) -> OrderStep {
        let row = OrderRow {
            order: OrderId::from_bits(order),
            buyer: "ann".parse().expect("a buyer"),
            sale: "friday".parse().expect("a sale"),
            product: "a".parse().expect("a product"),
            quantity: 1,
            amount: Money::new(100, "EUR".parse().expect("a currency")).expect("money"),
            tier: Tier::Db,
            state: OrderState::Paid,
            accepted_at: NOW,
            expires_at: NOW,
        };
        OrderStep { sequence, state: OrderState::Accepted, at: NOW, request: None, order: row }
    }

    fn numbers(groups: &[Group]) -> Vec<Vec<u64>> {
        groups.iter().map(|group| group.iter().map(|s| s.sequence).collect()).collect()
    }

    fn refused() -> Tried {
        Tried::Ended(End::Refused("answered 400".into()))
    }

    const ALL: [OrderEventKind; 1] = [OrderEventKind::Accepted];

    #[test]
    fn a_poisoned_order_waits_aside_and_the_others_go_on() {
        let options = WebhookOptions::default();
        let mut line = Line::new(0, Vec::new());
        let batch = [step(1, 7), step(2, 8), step(3, 7), step(4, 9)];
        let (groups, behind) = line.sort(&batch, &ALL, NOW);
        assert_eq!((numbers(&groups), behind.len()), (vec![vec![1, 3], vec![2], vec![4]], 0));
        let fine = || Tried::Ended(End::Delivered);
        let ends = [refused(), fine(), Tried::Behind, fine()];
        let tried = batch.iter().cloned().zip(ends).collect();
        let progress = line.settle(Some(4), behind, tried, NOW, &options, || 1.0);
        assert_eq!((progress.cursor, progress.park.len(), line.parked()), (4, 2, 2));
        // Only the first of its order is due, and not yet.
        assert!(line.due(NOW, 9).is_empty());
        let later = NOW.plus(options.first_retry);
        assert_eq!(line.due(later, 9), [1]);
        // A later step of it waits behind.
        let (groups, behind) = line.sort(&[step(5, 7), step(6, 10)], &ALL, NOW);
        assert_eq!((numbers(&groups), behind[0].sequence), (vec![vec![6]], 5));
    }

    #[test]
    fn what_is_refused_too_often_dies_alone_and_an_outage_kills_nothing() {
        let options = WebhookOptions { attempts: 3, ..WebhookOptions::default() };
        let mut line = Line::new(0, Vec::new());
        for n in 1..=3u64 {
            let batch_end = (n == 1).then_some(1);
            line.note(&End::Refused(String::new()), NOW, &options);
            let progress = line.settle(batch_end, vec![], vec![(step(1, 7), refused())], NOW, &options, || 0.0);
            assert_eq!(progress.dead.len(), usize::from(n == 3), "try {n}");
        }
        assert_eq!(line.parked(), 0);

        for _ in 0..50 {
            let away = End::Away("no connection".into());
            line.note(&away, NOW, &options);
            if line.is_away() {
                assert!(!line.may_send(NOW));
            }
            let counted = line.is_away();
            let progress = line.settle(Some(2), vec![], vec![(step(2, 8), Tried::Ended(away))], NOW, &options, || 0.0);
            assert!(progress.dead.is_empty() || !counted);
            if !counted && !progress.dead.is_empty() {
                return;
            }
        }
    }

    #[test]
    fn an_untried_event_holds_the_cursor_and_none_is_sent_twice() {
        let options = WebhookOptions::default();
        let mut line = Line::new(10, Vec::new());
        let batch = [step(11, 1), step(12, 2), step(13, 3)];
        let fine = || Tried::Ended(End::Delivered);
        let tried = batch.iter().cloned().zip([fine(), Tried::Not, fine()]).collect();
        assert_eq!(line.settle(Some(13), vec![], tried, NOW, &options, || 0.0).cursor, 11);
        assert_eq!(numbers(&line.sort(&batch[1..], &ALL, NOW).0), [[12]]);
        let tried = vec![(batch[1].clone(), fine())];
        assert_eq!(line.settle(Some(13), vec![], tried, NOW, &options, || 0.0).cursor, 13);
    }

    proptest! {
        #[test]
        fn a_pause_is_bounded_and_never_nothing(attempts in 0u32..200, jitter in 0.0f64..=1.0) {
            let options = WebhookOptions::default();
            let pause = pause(attempts, &options, jitter);
            prop_assert!(pause <= options.longest_retry && pause >= options.first_retry / 2);
        }

        /// Whatever comes of each delivery: every event ends delivered or dead, once, in order within its order.
        #[test]
        fn every_event_ends_once_and_in_its_orders_order(
            orders in prop::collection::vec(0u128..5, 1..40),
            fates in prop::collection::vec(0u8..4, 4_000),
        ) {
            let options = WebhookOptions { attempts: 4, ..WebhookOptions::default() };
            let events: Vec<_> = (1u64..).zip(&orders).map(|(n, order)| step(n, *order)).collect();
            let (mut line, mut now, mut fates) = (Line::new(0, Vec::new()), NOW, fates.into_iter());
            let mut ended: BTreeMap<u128, Vec<u64>> = BTreeMap::new();
            for _ in 0..2_000 {
                now = now.plus(Duration::from_secs(4_000));
                let mut groups: Vec<Group> =
                    line.due(now, 3).into_iter().map(|n| vec![events[n as usize - 1].clone()]).collect();
                let from = line.cursor() as usize;
                let batch = &events[from.min(events.len())..(from + 7).min(events.len())];
                let (new, behind) = line.sort(batch, &ALL, now);
                groups.extend(new);
                let mut tried = Vec::new();
                for group in groups {
                    let mut stop = None;
                    for step in group {
                        let end = match (&stop, fates.next().unwrap_or(0)) {
                            (Some(stop), _) => Clone::clone(stop),
                            (None, 0) => Tried::Ended(End::Delivered),
                            (None, 1) => refused(),
                            (None, 2) => Tried::Ended(End::Away(String::new())),
                            (None, _) => Tried::Not,
                        };
                        match &end {
                            Tried::Ended(e) => {
                                line.note(e, now, &options);
                                if *e == End::Delivered {
                                    ended.entry(step.order.order.bits()).or_default().push(step.sequence);
                                } else {
                                    stop = Some(Tried::Behind);
                                }
                            }
                            Tried::Not => stop = Some(Tried::Not),
                            Tried::Behind => {}
                        }
                        tried.push((step, end));
                    }
                }
                let end = batch.last().map(|s| s.sequence);
                for dead in line.settle(end, behind, tried, now, &options, || 0.5).dead {
                    ended.entry(dead.order.bits()).or_default().push(dead.sequence);
                }
            }
            for (order, mut expected) in events.iter().fold(BTreeMap::<u128, Vec<u64>>::new(), |mut all, s| {
                all.entry(s.order.order.bits()).or_default().push(s.sequence);
                all
            }) {
                expected.sort_unstable();
                prop_assert_eq!(ended.get(&order), Some(&expected), "order {}", order);
            }
        }
    }
}
