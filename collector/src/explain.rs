//! What each line of a log becomes, and why, without a collector. Holds one line and bounded counts; it must never
//! show what dead letters are kept private for.
//!
//! It says what the line itself says. Whether its time is believed depends on the log around it, and whether it
//! came before on the shipper: those two only a running collector knows.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use types::{EventKind, PageId, Timestamp};

use crate::Error;
use crate::account::Accounting;
use crate::classify::{Classifier, ClassifierOptions, FilterReason, Hits, VisitorKey};
use crate::decode::DeadReason;
use crate::decoder::{Decoder, Fate, Reader};
use crate::redact::redact;
use crate::store::peek;

/// Pages counted for the list of the most viewed; events of others are counted together.
const MAX_PAGES: usize = 1_000_000;
/// Lines of which a pattern that matches none is worth a word.
const ENOUGH_LINES: u64 = 1_000;
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
}

/// One line, explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Its number, from 1.
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

/// Explains a log line by line.
#[derive(Debug)]
pub struct Explainer {
    reader: Reader,
    /// Reads beginnings of dead lines, so that they do not count as lines.
    trial: Reader,
    books: Accounting,
    hits: Hits,
    kinds: BTreeMap<EventKind, u64>,
    pages: HashMap<PageId, u64>,
    uncounted: u64,
    placed: u64,
    offset: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Explainer {
    /// Explains by this decoder.
    pub fn new(decoder: Arc<Decoder>) -> Self {
        Self {
            reader: Reader::new(Arc::clone(&decoder)),
            trial: Reader::new(decoder),
            books: Accounting::default(),
            hits: Hits::default(),
            kinds: BTreeMap::new(),
            pages: HashMap::new(),
            uncounted: 0,
            placed: 0,
            offset: 0,
            first: None,
            last: None,
        }
    }

    /// Explains the next line, given without its end, of which `taken` bytes stand in the log. Of a line longer
    /// than [`crate::decode::MAX_LINE`] one byte more than that is enough.
    pub fn line(&mut self, bytes: &[u8], taken: u64) -> Explained {
        self.books.line();
        let offset = self.offset;
        self.offset += taken;
        let fate = self.reader.fate(bytes, offset);
        let trace = self.reader.trace();
        self.hits.count(trace);
        let classifier = self.reader.decoder().classifier();
        let pattern = trace.pattern.and_then(|number| classifier.patterns().get(usize::from(number)).cloned());
        let outcome = match fate {
            Fate::Event(event) => {
                self.books.events += 1;
                *self.kinds.entry(event.kind).or_default() += 1;
                self.first = self.first.or(Some(event.at));
                self.last = self.last.max(Some(event.at));
                if self.pages.len() < MAX_PAGES || self.pages.contains_key(&event.page) {
                    *self.pages.entry(event.page.clone()).or_default() += 1;
                } else {
                    self.uncounted += 1;
                }
                Outcome::Event {
                    kind: event.kind,
                    page: event.page,
                    at: event.at,
                    status: event.status,
                    visitor_known: trace.named,
                    pattern,
                }
            }
            Fate::Filtered(reason) => {
                self.books.filtered(reason);
                Outcome::Filtered { reason, bot: trace.bot.and_then(|bot| classifier.bot(bot).cloned()), pattern }
            }
            Fate::Dead(reason) => {
                self.books.dead(reason);
                Outcome::Dead { reason, place: self.place(bytes, reason), text: redact(bytes) }
            }
        };
        Explained { line: self.books.lines, offset, outcome }
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

    /// What it all came to, with the `most` pages that have most events.
    pub fn finish(self, most: usize) -> Summary {
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
