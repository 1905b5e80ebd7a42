//! Lines on their way to becoming a published batch: each is decoded, its time is judged, and it is counted. It
//! must never let a line end twice, or not at all.

use std::sync::Arc;

use types::{AccessEvent, Timestamp};

use crate::account::Accounting;
use crate::classify::{Hits, Trace};
use crate::decode::DeadReason;
use crate::decoder::{Decoder, Fate};
use crate::sanity::{Pace, Verdict};
use crate::store::{Dead, Progress};

/// Lines of one source that go through publishing and checkpoint together.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Under which name they are published.
    pub source: Arc<str>,
    /// In order of their offsets.
    pub events: Vec<AccessEvent>,
    pub dead: Vec<Dead>,
    pub tally: Accounting,
    /// What is true once they are published.
    pub progress: Progress,
}

/// Where a line was read, for whoever looks at a dead letter later. The source and offset under which it is
/// published are not always that: Filebeat's records have a place in the log and one in their file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The file it stood in, with its host if that is another.
    pub file: Option<Arc<str>>,
    /// Its byte offset there.
    pub offset: Option<u64>,
}

/// The lines of one batch so far.
#[derive(Debug)]
pub(crate) struct Builder<'a> {
    decoder: &'a Decoder,
    now: Timestamp,
    events: Vec<AccessEvent>,
    dead: Vec<Dead>,
    tally: Accounting,
    hits: Hits,
}

/// A line whose time is in doubt until the next one of its log is known.
#[derive(Debug)]
struct Held {
    event: AccessEvent,
    bytes: Vec<u8>,
    place: Place,
    reason: DeadReason,
}

/// One log's times and the line of it that is in doubt. Between batches no line is.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    pace: Pace,
    held: Option<Box<Held>>,
}

impl Timeline {
    pub fn at(pace: Pace) -> Self {
        Self { pace, held: None }
    }
    /// What to go on from after this batch.
    pub fn pace(&self) -> Pace {
        self.pace
    }
    pub fn in_doubt(&self) -> bool {
        self.held.is_some()
    }
}

impl<'a> Builder<'a> {
    pub fn new(decoder: &'a Decoder, now: Timestamp) -> Self {
        Self { decoder, now, events: Vec::new(), dead: Vec::new(), tally: Accounting::default(), hits: Hits::default() }
    }

    /// Takes a line that begins at `offset` of the source; offsets rise.
    pub fn line(&mut self, timeline: &mut Timeline, offset: u64, bytes: &[u8], place: impl FnOnce() -> Place) {
        let judged = self.decoder.judge(bytes, offset);
        self.judged(timeline, offset, bytes, judged, place);
    }

    /// Takes a line that was judged already.
    pub fn judged(
        &mut self,
        timeline: &mut Timeline,
        offset: u64,
        bytes: &[u8],
        (fate, trace): (Fate, Trace),
        place: impl FnOnce() -> Place,
    ) {
        self.tally.line();
        self.hits.count(trace);
        match fate {
            Fate::Event(event) => self.event(timeline, event, bytes, place),
            Fate::Filtered(reason) => self.tally.filtered(reason),
            Fate::Dead(reason) => self.bury(offset, reason, bytes, place()),
        }
    }

    /// Takes a line that could not even be looked at as one: a file's line that is too long to be held, or, with
    /// `wrapped`, a shipper's whole record.
    pub fn unreadable(&mut self, offset: u64, reason: DeadReason, bytes: &[u8], wrapped: bool) {
        self.tally.line();
        self.bury(offset, reason, bytes, Place::default());
        if let Some(letter) = self.dead.last_mut() {
            letter.wrapped = wrapped;
        }
    }

    /// Takes a line that had its effect before.
    pub fn repeat(&mut self) {
        self.tally.line();
        self.tally.repeats += 1;
    }

    /// Ends the doubt about a log's last line: there is no other in this batch to ask.
    pub fn settle(&mut self, timeline: &mut Timeline) {
        self.settle_with(timeline, None);
    }

    /// The events in order, the dead letters, and the books of these lines. Nothing may be in doubt any more.
    pub fn finish(mut self) -> (Vec<AccessEvent>, Vec<Dead>, Accounting) {
        (self.tally.patterns, self.tally.bots) = self.hits.named(self.decoder.classifier());
        (self.events, self.dead, self.tally)
    }

    fn event(&mut self, timeline: &mut Timeline, event: AccessEvent, bytes: &[u8], place: impl FnOnce() -> Place) {
        let mut verdict = timeline.pace.judge(event.at, self.now);
        if timeline.held.is_some() && !matches!(verdict, Verdict::Refuse(_)) {
            self.settle_with(timeline, Some(event.at));
            verdict = timeline.pace.judge(event.at, self.now);
        }
        match verdict {
            Verdict::Pass => {
                timeline.pace.pass(event.at);
                self.publish(event);
            }
            Verdict::Doubt(reason) => {
                timeline.held = Some(Box::new(Held { event, bytes: Dead::head(bytes), place: place(), reason }));
            }
            Verdict::Refuse(reason) => self.bury(event.offset, reason, bytes, place()),
        }
    }

    fn settle_with(&mut self, timeline: &mut Timeline, next: Option<Timestamp>) {
        let Some(held) = timeline.held.take() else { return };
        if timeline.pace.settle(held.event.at, held.reason, next, self.now) {
            self.publish(held.event);
        } else {
            self.bury(held.event.offset, held.reason, &held.bytes, held.place);
        }
    }

    fn publish(&mut self, event: AccessEvent) {
        self.tally.events += 1;
        // Only a line that was in doubt has later ones of other logs before it.
        let at = match self.events.last() {
            Some(last) if last.offset > event.offset => self.events.partition_point(|e| e.offset < event.offset),
            _ => self.events.len(),
        };
        self.events.insert(at, event);
    }

    fn bury(&mut self, offset: u64, reason: DeadReason, bytes: &[u8], place: Place) {
        self.tally.dead(reason);
        self.dead.push(Dead { offset, reason, bytes: Dead::head(bytes), place, wrapped: false });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::classify::ClassifierOptions;

    fn view(at: &str) -> String {
        format!(
            r#"{{"time":"{at}","remote_addr":"10.0.0.1","method":"GET","uri":"/product/7","status":200,"user_agent":"F"}}"#
        )
    }

    #[test]
    fn a_line_in_doubt_keeps_its_place_and_every_line_ends_once() {
        let decoder = Decoder::new(ClassifierOptions::default()).unwrap();
        let now = "2026-11-11T12:00:00Z".parse().unwrap();
        let mut builder = Builder::new(&decoder, now);
        let (mut a, mut b) = (Timeline::default(), Timeline::default());
        let nowhere = Place::default;
        builder.line(&mut a, 1, view("2026-11-11T00:00:00Z").as_bytes(), nowhere);
        // After a night; the other log's lines come before the one that vouches for it.
        builder.line(&mut a, 2, view("2026-11-11T08:00:00Z").as_bytes(), nowhere);
        builder.line(&mut b, 3, view("2026-11-11T00:00:01Z").as_bytes(), nowhere);
        builder.line(&mut b, 4, view("2027-11-11T00:00:01Z").as_bytes(), nowhere);
        builder.line(&mut b, 5, view("2026-11-11T00:00:02Z").as_bytes(), nowhere);
        builder.line(&mut a, 6, view("2026-11-11T08:00:01Z").as_bytes(), nowhere);
        // Wild, and nothing of its log behind it.
        builder.line(&mut b, 7, view("2026-11-11T18:00:00Z").as_bytes(), nowhere);
        builder.line(&mut a, 8, b"no line at all", nowhere);
        builder.repeat();
        assert!(b.in_doubt());
        for timeline in [&mut a, &mut b] {
            builder.settle(timeline);
        }
        assert_eq!(builder.events.iter().map(|e| e.offset).collect::<Vec<_>>(), [1, 2, 3, 5, 6]);
        let dead: Vec<_> = builder.dead.iter().map(|d| (d.offset, d.reason)).collect();
        assert_eq!(dead[..1], [(4, DeadReason::Future)]);
        assert!(dead.contains(&(7, DeadReason::Future)));
        assert_eq!((builder.tally.lines, builder.tally.events, builder.tally.repeats), (9, 5, 1));
        assert!(builder.tally.adds_up());
    }
}
