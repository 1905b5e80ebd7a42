//! What each line of a log becomes, and why, without a collector. Holds a few thousand lines and bounded counts; it must
//! never show what dead letters are kept private for.
//!
//! It judges as a collector would that reads the log now and from its beginning. Lines that stand in a shipper's
//! records are taken for what topic `access-log` holds: what was sent again is told from what is new, and lists are
//! opened.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use types::{AccessEvent, EventKind, PageId, Timestamp};

use crate::Error;
use crate::account::Accounting;
use crate::batch::Timeline;
use crate::classify::{Classifier, ClassifierOptions, FilterReason, Hits, VisitorKey};
use crate::decode::DeadReason;
use crate::decode::envelope::{self, Envelope, Opener, Origin};
use crate::decoder::{Decoder, Fate, Reader};
use crate::redact::redact;
use crate::sanity::Verdict;
use crate::source::{FileKey, Files};
use crate::store::peek;

/// Pages counted for the list of the most viewed; events of others are counted together.
const MAX_PAGES: usize = 1_000_000;
/// Lines of which a pattern that matches none is worth a word.
const ENOUGH_LINES: u64 = 1_000;
/// Lines that wait for a word on the time of one before them: as many as a collector takes at once, which then asks no
/// further.
const MAX_WAITING: usize = 4_096;
/// Dead lines whose place is looked for: each costs as many attempts as it has bytes.
const MAX_PLACED: u64 = 1_000;
/// Longest line whose place is looked for.
const MAX_PLACED_LINE: usize = 2 * 1024;

/// What a line became.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// A product event.
    Event {
        /// What was done.
        kind: EventKind,
        /// On which page.
        page: PageId,
        /// When, by the log.
        at: Timestamp,
        /// HTTP status.
        status: u16,
        /// Whether the edge named the visitor; else address and user agent stand for him.
        visitor_known: bool,
        /// The pattern that matched.
        pattern: Option<Arc<str>>,
    },
    /// A good line that is no product event.
    Filtered {
        /// The filter.
        reason: FilterReason,
        /// The bot, if that is the reason.
        bot: Option<Arc<str>>,
        /// The pattern that knew the path, if one did.
        pattern: Option<Arc<str>>,
    },
    /// A dead letter.
    Dead {
        /// Why.
        reason: DeadReason,
        /// The byte of the line, from 0, at which it stopped being one; `None` if that was not looked for.
        place: Option<usize>,
        /// The line without addresses, tokens, query values.
        text: String,
    },
    /// A line that its shipper sent again.
    Repeat,
}

/// One line, explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Its number, from 1; lines of one list have the same.
    pub line: u64,
    /// Its byte offset.
    pub offset: u64,
    /// What it became.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What all lines together came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// How they ended; patterns and bots by name stand there too.
    #[serde(flatten)]
    pub books: Accounting,
    /// Events by kind.
    pub kinds: BTreeMap<EventKind, u64>,
    /// The pages with most events, most first.
    pub top: Vec<(PageId, u64)>,
    /// Events of pages that were too many to be counted each.
    pub uncounted: u64,
    /// Patterns that matched no line.
    pub never_matched: Vec<Arc<str>>,
    /// Time of the first event in the order of the log.
    pub first: Option<Timestamp>,
    /// Greatest time of an event.
    pub last: Option<Timestamp>,
}

/// The patterns of these options that matched nothing a collector has read so far, and how many lines that were; none
/// if it has read too few to say. `folder` is its state folder, which may be in use.
pub fn never_matched(options: &ClassifierOptions, folder: &Path) -> Result<(Vec<Arc<str>>, u64), Error> {
    let classifier = Classifier::new(options, &VisitorKey::public())?;
    let books = peek(folder)?.unwrap_or_default();
    if books.lines < ENOUGH_LINES {
        return Ok((Vec::new(), books.lines));
    }
    let never = classifier.patterns().iter().filter(|name| !books.patterns.contains_key(*name)).cloned();
    Ok((never.collect(), books.lines))
}

/// A line that is explained, or will be once its time is known to be right.
#[derive(Debug)]
enum Waiting {
    Ready(Explained),
    /// An event that becomes a dead letter of this reason if the next time of its file does not vouch for its own.
    Doubted(Explained, DeadReason, FileKey, String),
}

/// Explains a log line by line.
#[derive(Debug)]
pub struct Explainer {
    reader: Reader,
    /// Reads beginnings of dead lines, so that they do not count as lines.
    trial: Reader,
    opener: Opener,
    /// The files that the lines stood in, and what their times have been.
    files: Files,
    waiting: VecDeque<Waiting>,
    /// How many of them are in doubt.
    doubts: usize,
    now: Timestamp,
    books: Accounting,
    hits: Hits,
    kinds: BTreeMap<EventKind, u64>,
    pages: HashMap<PageId, u64>,
    uncounted: u64,
    placed: u64,
    line: u64,
    offset: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Explainer {
    /// Explains by this decoder, as if it were `now`.
    pub fn new(decoder: Arc<Decoder>, now: Timestamp) -> Self {
        Self {
            reader: Reader::new(Arc::clone(&decoder)),
            trial: Reader::new(decoder),
            opener: Opener::default(),
            files: Files::new(),
            waiting: VecDeque::new(),
            doubts: 0,
            now,
            books: Accounting::default(),
            hits: Hits::default(),
            kinds: BTreeMap::new(),
            pages: HashMap::new(),
            uncounted: 0,
            placed: 0,
            line: 0,
            offset: 0,
            first: None,
            last: None,
        }
    }

    /// Explains the next line, given without its end, of which `taken` bytes stand in the log; `each` gets every line
    /// that is explained by now, in their order. Of a line that may not be that long one byte more is enough.
    pub fn line(&mut self, bytes: &[u8], taken: u64, mut each: impl FnMut(Explained)) {
        let offset = self.offset;
        self.line += 1;
        self.offset += taken;
        match envelope::list(bytes) {
            Ok(Some(parts)) => parts.into_iter().for_each(|part| self.one(&bytes[part], offset)),
            // As a line of its own it says what is wrong with it.
            Ok(None) | Err(_) => self.one(bytes, offset),
        }
        if self.waiting.len() >= MAX_WAITING {
            self.settle_all();
        }
        self.hand_over(&mut each);
    }

    fn one(&mut self, bytes: &[u8], offset: u64) {
        self.books.line();
        let wrapped = self.reader.decoder().wrapped(bytes);
        let opened = if wrapped { self.opener.open(bytes).ok() } else { None };
        let bare = || Envelope { message: Cow::Borrowed(bytes), clean: false, offset: None, origin: Origin::default() };
        let record = opened.unwrap_or_else(bare);
        let (key, gone) = self.files.admit(&record);
        let share = self.files.share();
        let repeats = self.files.get(key).is_some_and(|file| file.repeats(&record, share));
        if gone.is_some() {
            // Who has just been forgotten is not known here: so many files at once are rare.
            self.settle_all();
        }
        if repeats {
            self.books.repeats += 1;
            return self.ready(offset, Outcome::Repeat);
        }
        let fate = self.reader.fate(bytes, offset);
        let trace = self.reader.trace();
        self.hits.count(trace);
        let classifier = self.reader.decoder().classifier();
        let pattern = trace.pattern.and_then(|number| classifier.patterns().get(usize::from(number)).cloned());
        match fate {
            Fate::Event(event) => {
                let AccessEvent { kind, page, at, status, .. } = event;
                let outcome = Outcome::Event { kind, page, at, status, visitor_known: trace.named, pattern };
                self.judge(bytes, offset, key, at, outcome);
            }
            Fate::Filtered(reason) => {
                let bot = trace.bot.and_then(|bot| classifier.bot(bot).cloned());
                self.books.filtered(reason);
                self.ready(offset, Outcome::Filtered { reason, bot, pattern });
            }
            Fate::Dead(reason) => {
                self.books.dead(reason);
                let place = self.place(bytes, reason);
                self.ready(offset, Outcome::Dead { reason, place, text: redact(bytes) });
            }
        }
    }

    fn ready(&mut self, offset: u64, outcome: Outcome) {
        let explained = Explained { line: self.line, offset, outcome };
        self.waiting.push_back(Waiting::Ready(explained));
    }

    /// Whether an event's time is believed, by the other times of its file; as `batch.rs` does it.
    fn judge(&mut self, bytes: &[u8], offset: u64, key: FileKey, at: Timestamp, outcome: Outcome) {
        let Some(file) = self.files.get(key) else { return self.ready(offset, outcome) };
        let mut pace = file.timeline.pace();
        let mut verdict = pace.judge(at, self.now);
        if self.doubts > 0 && !matches!(verdict, Verdict::Refuse(_)) && self.settle(key, Some(at)) {
            pace = self.files.get(key).map_or(pace, |file| file.timeline.pace());
            verdict = pace.judge(at, self.now);
        }
        let explained = Explained { line: self.line, offset, outcome };
        match verdict {
            Verdict::Pass => {
                pace.pass(at);
                if let Some(file) = self.files.get(key) {
                    file.timeline = Timeline::at(pace);
                }
                self.count(&explained.outcome);
                self.waiting.push_back(Waiting::Ready(explained));
            }
            Verdict::Doubt(reason) => {
                self.doubts += 1;
                self.waiting.push_back(Waiting::Doubted(explained, reason, key, redact(bytes)));
            }
            Verdict::Refuse(reason) => {
                self.books.dead(reason);
                self.ready(offset, Outcome::Dead { reason, place: None, text: redact(bytes) });
            }
        }
    }

    /// Ends the doubt about a file's line, if there is one; `next` is the time of the file's next event.
    fn settle(&mut self, key: FileKey, next: Option<Timestamp>) -> bool {
        let of_file = |waiting: &Waiting| matches!(waiting, Waiting::Doubted(_, _, of, _) if *of == key);
        let Some(at) = self.waiting.iter().position(of_file) else { return false };
        self.decide(at, next);
        true
    }

    /// There is nobody more to ask: every doubt ends.
    fn settle_all(&mut self) {
        while self.doubts > 0 {
            let Some(at) = self.waiting.iter().position(|w| matches!(w, Waiting::Doubted(..))) else { return };
            self.decide(at, None);
        }
    }

    /// Decides about the line in doubt at this place of those that wait.
    fn decide(&mut self, place: usize, next: Option<Timestamp>) {
        let Some(Waiting::Doubted(explained, reason, key, text)) = self.waiting.get(place) else { return };
        let Outcome::Event { at, .. } = explained.outcome else { return };
        let (reason, key) = (*reason, *key);
        let dead = Outcome::Dead { reason, place: None, text: text.clone() };
        let (line, offset) = (explained.line, explained.offset);
        let event = explained.outcome.clone();
        let mut pace = self.files.get(key).map(|file| file.timeline.pace()).unwrap_or_default();
        let outcome = if pace.settle(at, reason, next, self.now) {
            self.count(&event);
            event
        } else {
            self.books.dead(reason);
            dead
        };
        if let Some(file) = self.files.get(key) {
            file.timeline = Timeline::at(pace);
        }
        self.doubts -= 1;
        self.waiting[place] = Waiting::Ready(Explained { line, offset, outcome });
    }

    fn count(&mut self, outcome: &Outcome) {
        let Outcome::Event { kind, page, at, .. } = outcome else { return };
        self.books.events += 1;
        *self.kinds.entry(*kind).or_default() += 1;
        self.first = self.first.or(Some(*at));
        self.last = self.last.max(Some(*at));
        if self.pages.len() < MAX_PAGES || self.pages.contains_key(page) {
            *self.pages.entry(page.clone()).or_default() += 1;
        } else {
            self.uncounted += 1;
        }
    }

    fn hand_over(&mut self, each: &mut impl FnMut(Explained)) {
        while matches!(self.waiting.front(), Some(Waiting::Ready(_)))
            && let Some(Waiting::Ready(explained)) = self.waiting.pop_front()
        {
            each(explained);
        }
    }

    /// Where a dead line stopped being one: behind the longest beginning of it that ends in another way. What is
    /// cut off is so at its end.
    fn place(&mut self, bytes: &[u8], reason: DeadReason) -> Option<usize> {
        if self.placed >= MAX_PLACED || bytes.len() > MAX_PLACED_LINE {
            return None;
        }
        self.placed += 1;
        let mut same = |end: usize| self.trial.fate(&bytes[..end], 0) == Fate::Dead(reason);
        Some((0..bytes.len()).rev().find(|end| !same(*end)).unwrap_or(0))
    }

    /// What it all came to, with the `most` pages that have most events; `each` gets the lines that still waited.
    pub fn finish(mut self, most: usize, mut each: impl FnMut(Explained)) -> Summary {
        self.settle_all();
        self.hand_over(&mut each);
        let Self { reader, mut books, hits, kinds, pages, uncounted, first, last, .. } = self;
        let classifier = reader.decoder().classifier();
        (books.patterns, books.bots) = hits.named(classifier);
        let known = classifier.patterns().iter();
        let never_matched = known.filter(|name| !books.patterns.contains_key(*name)).cloned().collect();
        let mut top: Vec<_> = pages.into_iter().collect();
        top.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.as_str().cmp(b.0.as_str())));
        top.truncate(most);
        Summary { books, kinds, top, uncounted, never_matched, first, last }
    }
}
