//! How far event time has come: per partition, and for all together. Wall-clock time only measures how
//! long nothing has arrived; it is never compared with event time, so an old log replays as live.

use std::collections::BTreeMap;
use std::time::Duration;

use types::Timestamp;

/// How lateness and silence are judged.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How far behind the newest event of its partition an event may be.
    pub lateness: Duration,
    /// A partition from which nothing has come for this long (by the clock) holds nobody back.
    pub idle: Duration,
    /// When all are silent, event time runs on with the clock, but windows become final this much later
    /// still: a writer that flushes its buffer every few seconds must not find its events late.
    pub quiet: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Track {
    newest: Option<Timestamp>,
    heard: Timestamp,
    idle: bool,
}

/// What is known of the partitions' event time.
#[derive(Debug, Clone)]
pub struct Watermarks {
    patience: Patience,
    partitions: BTreeMap<u32, Track>,
    // Newest event time, and when by the clock it was known.
    anchor: Option<(Timestamp, Timestamp)>,
    // The latest event time ever answered; it never goes back.
    reached: Option<Timestamp>,
}

/// Whether an event is still wanted, by its own partition. The same on every replay, because it does
/// not depend on how far other partitions have been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Its pane is open as far as its partition is concerned.
    OnTime,
    /// Its pane ended more than the lateness before the partition's newest event.
    Late,
}

impl Watermarks {
    /// No partitions yet.
    pub const fn new(patience: Patience) -> Self {
        Self { patience, partitions: BTreeMap::new(), anchor: None, reached: None }
    }

    /// How far behind the newest event of its partition an event may be.
    pub const fn lateness(&self) -> Duration {
        self.patience.lateness
    }

    /// A partition is ours from `now` on; `newest` is its newest event time if a checkpoint knows it.
    pub fn assign(&mut self, partition: u32, newest: Option<Timestamp>, now: Timestamp) {
        self.partitions.insert(partition, Track { newest, heard: now, idle: false });
        if let Some(newest) = newest {
            self.anchor_at(newest, now);
        }
    }

    /// A partition is no longer ours.
    pub fn revoke(&mut self, partition: u32) {
        self.partitions.remove(&partition);
    }

    /// Takes up event time where a checkpoint left it.
    pub fn resume(&mut self, reached: Timestamp, now: Timestamp) {
        self.anchor_at(reached, now);
        self.reached = self.reached.max(Some(reached));
    }

    fn anchor_at(&mut self, event: Timestamp, now: Timestamp) {
        let newest = self.anchor.map_or(event, |(newest, _)| newest.max(event));
        self.anchor = Some((newest, now));
    }

    /// Something arrived from a partition, at `now` by the clock.
    pub fn heard(&mut self, partition: u32, now: Timestamp) {
        if let Some(track) = self.partitions.get_mut(&partition) {
            track.heard = now;
            track.idle = false;
        }
    }

    /// An event of `partition` at event time `at`.
    #[inline]
    pub fn observe(&mut self, partition: u32, at: Timestamp, now: Timestamp) -> Arrival {
        let Some(track) = self.partitions.get_mut(&partition) else { return Arrival::OnTime };
        let newest = match track.newest {
            Some(newest) if at <= newest => newest,
            _ => {
                track.newest = Some(at);
                self.anchor_at(at, now);
                return Arrival::OnTime;
            }
        };
        let ends = Timestamp::from_seconds(at.second().saturating_add(1));
        if ends <= newest.minus(self.patience.lateness) { Arrival::Late } else { Arrival::OnTime }
    }

    /// Partitions that have been silent long enough to be called idle, if nothing waits to be read there.
    pub fn silent(&self, now: Timestamp) -> Vec<u32> {
        self.partitions
            .iter()
            .filter(|(_, track)| !track.idle && now.since(track.heard) >= self.patience.idle)
            .map(|(partition, _)| *partition)
            .collect()
    }

    /// Partitions that are called idle.
    pub fn idle(&self) -> Vec<u32> {
        self.partitions.iter().filter(|(_, track)| track.idle).map(|(partition, _)| *partition).collect()
    }

    /// Nothing waits to be read from this silent partition.
    pub fn mark_idle(&mut self, partition: u32) {
        if let Some(track) = self.partitions.get_mut(&partition) {
            track.idle = true;
        }
    }

    /// Whether there are partitions and all of them are idle.
    pub fn all_idle(&self) -> bool {
        !self.partitions.is_empty() && self.partitions.values().all(|track| track.idle)
    }

    /// The newest event time of a partition.
    pub fn newest(&self, partition: u32) -> Option<Timestamp> {
        self.partitions.get(&partition).and_then(|track| track.newest)
    }

    /// The present in event time; `None` before the first event. It never goes back.
    pub fn event_now(&mut self, now: Timestamp) -> Option<Timestamp> {
        let (newest, known) = self.anchor?;
        let ran = if self.all_idle() { newest.plus(now.since(known)) } else { newest };
        self.reached = self.reached.max(Some(ran));
        self.reached
    }

    /// Everything that ends at or before this is final; `None` while a partition that is not idle has not
    /// spoken yet.
    pub fn watermark(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.all_idle() {
            let ran = self.event_now(now)?;
            return Some(ran.minus(self.patience.lateness).minus(self.patience.quiet));
        }
        let mut least = None;
        for track in self.partitions.values().filter(|track| !track.idle) {
            let newest = track.newest?;
            least = Some(least.map_or(newest, |l: Timestamp| l.min(newest)));
        }
        Some(least?.minus(self.patience.lateness))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const fn s(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }
    fn patience() -> Patience {
        let (lateness, idle) = (Duration::from_secs(2), Duration::from_secs(2));
        Patience { lateness, idle, quiet: Duration::from_secs(10) }
    }

    #[test]
    fn the_slowest_partition_that_speaks_holds_the_watermark() {
        let mut marks = Watermarks::new(patience());
        marks.assign(0, None, s(0));
        marks.assign(1, None, s(0));
        assert_eq!(marks.observe(0, s(1000), s(0)), Arrival::OnTime);
        assert_eq!(marks.watermark(s(0)), None, "partition 1 has not spoken and is not idle");
        marks.observe(1, s(900), s(0));
        assert_eq!(marks.watermark(s(1)), Some(s(898)));
        assert_eq!(marks.event_now(s(1)), Some(s(1000)));
        // A second later partition 0 speaks again, partition 1 stays silent and has nothing to read.
        marks.heard(0, s(2));
        marks.observe(0, s(1001), s(2));
        assert_eq!(marks.silent(s(2)), vec![1]);
        marks.mark_idle(1);
        assert_eq!(marks.watermark(s(2)), Some(s(999)));
        // It wakes and holds again.
        marks.heard(1, s(3));
        marks.observe(1, s(990), s(3));
        assert_eq!(marks.watermark(s(3)), Some(s(988)));
    }

    #[test]
    fn lateness_is_judged_by_the_events_own_partition_and_whole_panes() {
        let mut marks = Watermarks::new(patience());
        marks.assign(0, None, s(0));
        marks.observe(0, Timestamp::from_millis(10_000), s(0));
        assert_eq!(marks.observe(0, Timestamp::from_millis(7_999), s(0)), Arrival::Late);
        assert_eq!(marks.observe(0, Timestamp::from_millis(8_000), s(0)), Arrival::OnTime);
        marks.observe(0, Timestamp::from_millis(10_999), s(0));
        assert_eq!(
            marks.observe(0, Timestamp::from_millis(8_000), s(0)),
            Arrival::OnTime,
            "pane 8 ends at 9.000 > 8.999"
        );
    }

    #[test]
    fn when_all_are_silent_event_time_runs_on_with_the_clock_and_never_back() {
        let mut marks = Watermarks::new(patience());
        marks.assign(0, None, s(5_000_000));
        marks.observe(0, s(100), s(5_000_000));
        assert_eq!(marks.event_now(s(5_000_009)), Some(s(100)), "not idle yet: time stands at the newest event");
        marks.mark_idle(0);
        assert_eq!(marks.event_now(s(5_000_009)), Some(s(109)));
        assert_eq!(marks.watermark(s(5_000_030)), Some(s(118)), "lateness and quiet are subtracted");
        marks.heard(0, s(5_000_031));
        marks.observe(0, s(105), s(5_000_031));
        assert_eq!(marks.event_now(s(5_000_031)), Some(s(130)));
    }
}
