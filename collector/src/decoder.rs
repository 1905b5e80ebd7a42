//! Decoding and classifying in one: a line's bytes to its fate. Usable without the service: `seckill top` does. There
//! is one way for a line, whoever asks; what a [`Reader`] remembers changes its speed and nothing else, but for the
//! visitors' rates, which are counted in the order of the lines.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use product_events::Event;
use types::{AccessEvent, Invalid, PageId};

use crate::classify::{AgentMemory, Classifier, ClassifierOptions, FilterReason, Rates, Trace, VisitorKey};
use crate::decode::envelope::{self, Envelope, Opener};
use crate::decode::log_format::Format;
use crate::decode::{DeadReason, Line, decode_as, decode_message};

/// How a line ended, to be kept: exactly one of three.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// A product event.
    Event(AccessEvent),
    /// A good line that is no product event.
    Filtered(FilterReason),
    /// No line of a known format.
    Dead(DeadReason),
}

/// How a line ended, its event having been handed over already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A product event.
    Event,
    /// A good line that is no product event.
    Filtered(FilterReason),
    /// No line of a known format.
    Dead(DeadReason),
}

/// What lines look like and what they mean; many [`Reader`]s share one.
#[derive(Debug)]
pub struct Decoder {
    format: Format,
    classifier: Classifier,
}

impl Decoder {
    /// A decoder whose visitor hashes are not secret: for results that hold none.
    pub fn new(options: ClassifierOptions) -> Result<Self, Invalid> {
        Self::keyed(&options, &VisitorKey::public())
    }
    /// A decoder that hashes visitors with `key`.
    pub fn keyed(options: &ClassifierOptions, key: &VisitorKey) -> Result<Self, Invalid> {
        Self::of(Format::Auto, options, key)
    }
    /// A decoder of lines of this format.
    pub fn of(format: Format, options: &ClassifierOptions, key: &VisitorKey) -> Result<Self, Invalid> {
        Ok(Self { format, classifier: Classifier::new(options, key)? })
    }

    /// What its lines look like.
    pub fn format(&self) -> &Format {
        &self.format
    }
    /// What tells product events from other lines.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// Whether a line stands in a shipper's envelope. Lines of JSON are first tried as what they should be.
    #[inline]
    pub(crate) fn wrapped(&self, bytes: &[u8]) -> bool {
        envelope::is_one(bytes) && !(self.format.is_json() && decode_as(&self.format, bytes).is_ok())
    }
}

/// What is remembered from line to line.
#[derive(Debug, Default)]
struct Memory {
    agents: AgentMemory,
    rates: Rates,
    /// Hash of the source whose lines are read.
    source: u64,
    /// By what the last line was judged.
    trace: Trace,
}

/// Turns lines into fates, one after the other, without allocating for each.
#[derive(Debug)]
pub struct Reader {
    decoder: Arc<Decoder>,
    opener: Opener,
    memory: Memory,
}

impl Reader {
    /// A reader that has seen nothing yet.
    pub fn new(decoder: Arc<Decoder>) -> Self {
        Self { decoder, opener: Opener::default(), memory: Memory::default() }
    }

    /// Lines are of this source from now on: visitors' rates are counted for each source by itself.
    pub fn begin(&mut self, source: &str) {
        let mut hasher = DefaultHasher::new();
        source.hash(&mut hasher);
        self.memory.source = hasher.finish();
    }

    /// How a line ends, with or without its line end, that begins at byte `offset` of its source; an event is handed
    /// to `take` before. A shipper's envelope around it is opened; what that says of file and offset does not matter
    /// here.
    #[inline]
    pub fn line(&mut self, bytes: &[u8], offset: u64, take: impl FnOnce(&Event<'_>)) -> Outcome {
        let Self { decoder, opener, memory } = self;
        if !decoder.wrapped(bytes) {
            return memory.judge(decoder, decode_as(&decoder.format, bytes), offset, take);
        }
        let line = match opener.open_message(bytes) {
            Ok((message, clean)) => decode_message(&decoder.format, message, clean),
            // Neither: the edge's decoder says what is wrong with it.
            Err(DeadReason::UnknownEnvelope) => decode_as(&decoder.format, bytes),
            Err(reason) => Err(reason),
        };
        memory.judge(decoder, line, offset, take)
    }

    /// How the message of an envelope ends that an [`Opener`] of the caller's opened.
    #[inline]
    pub fn message(&mut self, opened: &Envelope<'_>, offset: u64, take: impl FnOnce(&Event<'_>)) -> Outcome {
        self.memory.judge(&self.decoder, opened.line(&self.decoder.format), offset, take)
    }

    /// The fate of a line as [`Self::line`], to be kept.
    pub fn fate(&mut self, bytes: &[u8], offset: u64) -> Fate {
        let mut kept = None;
        match self.line(bytes, offset, |event| kept = owned(event)) {
            // Every page that is handed over is fit for an id.
            Outcome::Event => kept.map_or(Fate::Filtered(FilterReason::BadPage), Fate::Event),
            Outcome::Filtered(reason) => Fate::Filtered(reason),
            Outcome::Dead(reason) => Fate::Dead(reason),
        }
    }

    /// By what the last line was judged that was handed over.
    pub fn trace(&self) -> Trace {
        self.memory.trace
    }
    /// What its lines look like and mean.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }
    /// Visitors whose rates had to be forgotten while they still counted, since this was last asked.
    pub fn take_forgotten(&mut self) -> u64 {
        self.memory.rates.take_forgotten()
    }
}

/// The event with nothing borrowed; `None` if its page is none.
pub(crate) fn owned(event: &Event<'_>) -> Option<AccessEvent> {
    let Event { page, kind, visitor, status, at, offset } = *event;
    PageId::new(page).ok().map(|page| AccessEvent { page, kind, visitor, status, at, offset })
}

impl Memory {
    #[inline]
    fn judge(
        &mut self,
        decoder: &Decoder,
        line: Result<Line<'_>, DeadReason>,
        offset: u64,
        take: impl FnOnce(&Event<'_>),
    ) -> Outcome {
        self.trace = Trace::default();
        let line = match line {
            Ok(line) => line,
            Err(reason) => return Outcome::Dead(reason),
        };
        let classifier = &decoder.classifier;
        let (page, kind) = match classifier.judge(&line, Some(&mut self.agents), &mut self.trace) {
            Ok(meaning) => meaning,
            Err(reason) => return Outcome::Filtered(reason),
        };
        let visitor = classifier.visitor(&line);
        if let Some(most) = classifier.most_views(&line, kind)
            && self.rates.is_over(self.source, visitor, line.at, most)
        {
            return Outcome::Filtered(FilterReason::BotRate);
        }
        take(&Event { page, kind, visitor, status: line.status, at: line.at, offset });
        Outcome::Event
    }
}
