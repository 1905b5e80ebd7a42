//! Lines on their way to becoming a published batch: each is decoded, its time is judged, and it is counted. It
//! must never let a line end twice, or not at all.

use std::sync::Arc;

use product_events::{Columns, EncodeError, Event};
use types::{AccessEvent, Timestamp};

use crate::account::Accounting;
use crate::classify::{Hits, Trace};
use crate::decode::DeadReason;
use crate::decode::envelope::Envelope;
use crate::decoder::{Decoder, Outcome, Reader, owned};
use crate::metrics;
use crate::options::Encoding;
use crate::sanity::{Pace, Verdict};
use crate::store::{Dead, Progress};

/// What one event takes as JSON, about; the text grows where it is more.
const JSON_BYTES: usize = 256;

/// Lines of one source that go through publishing and checkpoint together.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Under which name they are published.
    pub source: Arc<str>,
    /// The events, each partition's as one value, in order of their offsets.
    pub events: Vec<Sheet>,
    /// Each event as a value of its own, if that is wanted.
    pub json: Vec<Sheet>,
    pub dead: Vec<Dead>,
    pub tally: Accounting,
    /// What is true once they are published.
    pub progress: Progress,
}

/// The value of a record to be, and its partition.
#[derive(Debug)]
pub(crate) struct Sheet {
    pub partition: u32,
    pub value: Vec<u8>,
}

/// How lines are made into records.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub decoder: Arc<Decoder>,
    /// Partitions of `product-events`.
    pub partitions: u32,
    pub encoding: Encoding,
}

/// What turns lines into records, kept from batch to batch: what the reader remembers, the columns' buffers.
#[derive(Debug)]
pub(crate) struct Press {
    reader: Reader,
    /// Of each partition.
    columns: Vec<Columns>,
    encoding: Encoding,
}

impl Press {
    pub fn new(recipe: &Recipe) -> Self {
        let columns = (0..recipe.partitions).map(|_| Columns::default()).collect();
        Self { reader: Reader::new(Arc::clone(&recipe.decoder)), columns, encoding: recipe.encoding }
    }
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
    reader: &'a mut Reader,
    out: Out<'a>,
}

/// What became of them.
#[derive(Debug)]
struct Out<'a> {
    columns: &'a mut [Columns],
    encoding: Encoding,
    now: Timestamp,
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
    /// Lines of this source, which is the same for a log as long as it is followed.
    pub fn new(press: &'a mut Press, source: &str, now: Timestamp) -> Self {
        let Press { reader, columns, encoding } = press;
        reader.begin(source);
        // Of a batch that was not finished.
        columns.iter_mut().filter(|columns| !columns.is_empty()).for_each(Columns::clear);
        let (dead, tally, hits) = (Vec::new(), Accounting::default(), Hits::default());
        Self { reader, out: Out { columns, encoding: *encoding, now, dead, tally, hits } }
    }

    /// Takes a line that begins at `offset` of the source; offsets rise.
    pub fn line(&mut self, timeline: &mut Timeline, offset: u64, bytes: &[u8], place: impl Fn() -> Place) {
        let Self { reader, out } = self;
        out.tally.line();
        let outcome = reader.line(bytes, offset, |event| out.event(timeline, event, bytes, &place));
        out.ended(outcome, reader.trace(), offset, bytes, &place);
    }

    /// Takes the line in a shipper's record, which was opened already.
    pub fn message(&mut self, timeline: &mut Timeline, offset: u64, opened: &Envelope<'_>, place: impl Fn() -> Place) {
        let Self { reader, out } = self;
        out.tally.line();
        let bytes = &*opened.message;
        let outcome = reader.message(opened, offset, |event| out.event(timeline, event, bytes, &place));
        out.ended(outcome, reader.trace(), offset, bytes, &place);
    }

    /// Takes a line that could not even be looked at as one: a file's line that is too long to be held, or, with
    /// `wrapped`, a shipper's whole record.
    pub fn unreadable(&mut self, offset: u64, reason: DeadReason, bytes: &[u8], wrapped: bool) {
        self.out.tally.line();
        self.out.bury(offset, reason, bytes, Place::default());
        if let Some(letter) = self.out.dead.last_mut() {
            letter.wrapped = wrapped;
        }
    }

    /// Takes a line that is in the books already, whatever its time: an event of it joins the batch, nothing is
    /// counted.
    pub fn again(&mut self, offset: u64, bytes: &[u8]) -> Outcome {
        let Self { reader, out } = self;
        reader.line(bytes, offset, |event| out.put(event))
    }

    /// Takes a line that had its effect before.
    pub fn repeat(&mut self) {
        self.out.tally.line();
        self.out.tally.repeats += 1;
    }

    /// Ends the doubt about a log's last line: there is no other in this batch to ask.
    pub fn settle(&mut self, timeline: &mut Timeline) {
        self.out.settle_with(timeline, None);
    }

    /// Lines taken so far.
    pub fn lines(&self) -> u64 {
        self.out.tally.lines
    }

    /// The batch. Nothing may be in doubt any more.
    pub fn finish(self, source: Arc<str>, progress: Progress) -> Result<Box<Batch>, EncodeError> {
        let Self { reader, out: Out { columns, encoding, dead, mut tally, hits, .. } } = self;
        (tally.patterns, tally.bots) = hits.named(reader.decoder().classifier());
        metrics::forgotten_visitors(reader.take_forgotten());
        let (mut events, mut json) = (Vec::new(), Vec::new());
        for (partition, columns) in (0..).zip(columns) {
            if columns.is_empty() {
                continue;
            }
            columns.sort();
            if encoding == Encoding::Json {
                json.extend(columns.events().map(|event| {
                    let mut value = Vec::with_capacity(JSON_BYTES);
                    product_events::write_json(&mut value, &source, &event);
                    Sheet { partition, value }
                }));
            }
            events.push(Sheet { partition, value: columns.finish(&source)? });
        }
        Ok(Box::new(Batch { source, events, json, dead, tally, progress }))
    }
}

impl Out<'_> {
    fn ended(&mut self, outcome: Outcome, trace: Trace, offset: u64, bytes: &[u8], place: &impl Fn() -> Place) {
        self.hits.count(trace);
        match outcome {
            // Published, held or refused when it was handed over.
            Outcome::Event => {}
            Outcome::Filtered(reason) => self.tally.filtered(reason),
            Outcome::Dead(reason) => self.bury(offset, reason, bytes, place()),
        }
    }

    #[inline]
    fn event(&mut self, timeline: &mut Timeline, event: &Event<'_>, bytes: &[u8], place: &impl Fn() -> Place) {
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
            Verdict::Doubt(reason) => match owned(event) {
                Some(event) => {
                    timeline.held = Some(Box::new(Held { event, bytes: Dead::head(bytes), place: place(), reason }));
                }
                // Cannot be: the classifier hands over no other pages.
                None => self.bury(event.offset, reason, bytes, place()),
            },
            Verdict::Refuse(reason) => self.bury(event.offset, reason, bytes, place()),
        }
    }

    fn settle_with(&mut self, timeline: &mut Timeline, next: Option<Timestamp>) {
        let Some(held) = timeline.held.take() else { return };
        if timeline.pace.settle(held.event.at, held.reason, next, self.now) {
            self.publish(&Event::from(&held.event));
        } else {
            self.bury(held.event.offset, held.reason, &held.bytes, held.place);
        }
    }

    /// A line that was in doubt may come after later ones of other logs; it is put in its place at the end.
    #[inline]
    fn publish(&mut self, event: &Event<'_>) {
        self.tally.events += 1;
        self.put(event);
    }

    #[inline]
    fn put(&mut self, event: &Event<'_>) {
        let partition = eventlog::partition_for(event.page.as_bytes(), self.columns.len() as u32);
        self.columns[partition as usize].push(event);
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
    use crate::store::Revived;

    fn view(at: &str) -> String {
        format!(
            r#"{{"time":"{at}","remote_addr":"10.0.0.1","method":"GET","uri":"/product/7","status":200,"user_agent":"F"}}"#
        )
    }

    #[test]
    fn a_line_in_doubt_keeps_its_place_and_every_line_ends_once() {
        let decoder = Arc::new(Decoder::new(ClassifierOptions::default()).unwrap());
        let mut press = Press::new(&Recipe { decoder, partitions: 1, encoding: Encoding::Json });
        let now = "2026-11-11T12:00:00Z".parse().unwrap();
        let mut builder = Builder::new(&mut press, "a log", now);
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
        let progress = Progress::Replay(Revived { id: 0, rows: Vec::new() });
        let batch = builder.finish("a log".into(), progress).unwrap();
        let events = product_events::decode(&batch.events[0].value).unwrap().events;
        assert_eq!(events.iter().map(|e| e.offset).collect::<Vec<_>>(), [1, 2, 3, 5, 6]);
        assert_eq!((batch.events.len(), batch.json.len()), (1, 5));
        let dead: Vec<_> = batch.dead.iter().map(|d| (d.offset, d.reason)).collect();
        assert_eq!(dead[..1], [(4, DeadReason::Future)]);
        assert!(dead.contains(&(7, DeadReason::Future)));
        assert_eq!((batch.tally.lines, batch.tally.events, batch.tally.repeats), (9, 5, 1));
        assert!(batch.tally.adds_up());
    }
}
