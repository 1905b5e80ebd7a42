//! Decoding and classifying in one: a line's bytes to its fate. Pure and usable without the service;
//! `seckill top` does. A [`Reader`] does the same with a memory, which changes its speed and nothing else.

use std::sync::Arc;

use product_events::Event;
use types::{AccessEvent, Invalid, PageId};

use crate::classify::{AgentMemory, Classifier, ClassifierOptions, FilterReason, Trace, VisitorKey};
use crate::decode::envelope::{self, Envelope, Opener};
use crate::decode::log_format::Format;
use crate::decode::{DeadReason, Line, decode_as, decode_text};

/// How a line ended: exactly one of three.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// A product event.
    Event(AccessEvent),
    /// A good line that is no product event.
    Filtered(FilterReason),
    /// No line of a known format.
    Dead(DeadReason),
}

/// Turns lines into fates.
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
    /// The fate of a line, with or without its line end, that begins at byte `offset` of its source. A shipper's
    /// envelope around it is opened; what the envelope says of file and offset does not matter here.
    pub fn line(&self, bytes: &[u8], offset: u64) -> Fate {
        self.judge(bytes, offset).0
    }

    /// The fate of a line as [`Self::line`], and by what it was judged.
    pub fn judge(&self, bytes: &[u8], offset: u64) -> (Fate, Trace) {
        if !self.wrapped(bytes) {
            return self.plain(bytes, offset);
        }
        match envelope::open(bytes) {
            Ok(envelope) => self.plain(envelope.message.as_bytes(), offset),
            // Neither: the edge's decoder says what is wrong with it.
            Err(DeadReason::UnknownEnvelope) => self.plain(bytes, offset),
            Err(reason) => (Fate::Dead(reason), Trace::default()),
        }
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
    fn wrapped(&self, bytes: &[u8]) -> bool {
        envelope::is_one(bytes) && !(self.format.is_json() && decode_as(&self.format, bytes).is_ok())
    }

    /// Opens a record that a shipper made; see [`Opener::open_any`].
    pub fn open(&self, record: &[u8]) -> Result<Envelope<'static>, DeadReason> {
        Opener::default().open_any(record).map(Envelope::into_owned)
    }

    fn plain(&self, bytes: &[u8], offset: u64) -> (Fate, Trace) {
        self.fate(decode_as(&self.format, bytes), offset, None)
    }

    fn fate(&self, line: Result<Line<'_>, DeadReason>, offset: u64, memory: Option<&mut AgentMemory>) -> (Fate, Trace) {
        let (mut fate, mut trace) = (None, Trace::default());
        let outcome = self.decide(line, offset, memory, &mut trace, |event| {
            let Event { page, kind, visitor, status, at, offset } = *event;
            fate = PageId::new(page).ok().map(|page| AccessEvent { page, kind, visitor, status, at, offset });
        });
        let fate = match (outcome, fate) {
            (Outcome::Event, Some(event)) => Fate::Event(event),
            (Outcome::Event, None) => Fate::Filtered(FilterReason::BadPage),
            (Outcome::Filtered(reason), _) => Fate::Filtered(reason),
            (Outcome::Dead(reason), _) => Fate::Dead(reason),
        };
        (fate, trace)
    }

    #[inline]
    fn decide(
        &self,
        line: Result<Line<'_>, DeadReason>,
        offset: u64,
        memory: Option<&mut AgentMemory>,
        trace: &mut Trace,
        take: impl FnOnce(&Event<'_>),
    ) -> Outcome {
        *trace = Trace::default();
        let line = match line {
            Ok(line) => line,
            Err(reason) => return Outcome::Dead(reason),
        };
        match self.classifier.judge(&line, memory, trace) {
            Ok((page, kind)) => {
                let visitor = self.classifier.visitor(&line);
                take(&Event { page, kind, visitor, status: line.status, at: line.at, offset });
                Outcome::Event
            }
            Err(reason) => Outcome::Filtered(reason),
        }
    }
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

/// Turns many lines of one source into fates: the same as a [`Decoder`]'s, without allocating for each line.
#[derive(Debug)]
pub struct Reader {
    decoder: Arc<Decoder>,
    opener: Opener,
    agents: AgentMemory,
    trace: Trace,
}

impl Reader {
    /// A reader that has seen nothing yet.
    pub fn new(decoder: Arc<Decoder>) -> Self {
        Self { decoder, opener: Opener::default(), agents: AgentMemory::default(), trace: Trace::default() }
    }

    /// How a line ends, as [`Decoder::line`] says; an event is handed to `take` before.
    #[inline]
    pub fn line(&mut self, bytes: &[u8], offset: u64, take: impl FnOnce(&Event<'_>)) -> Outcome {
        let Self { decoder, opener, agents, trace } = self;
        *trace = Trace::default();
        if !decoder.wrapped(bytes) {
            return decoder.decide(decode_as(&decoder.format, bytes), offset, Some(agents), trace, take);
        }
        match opener.open_message(bytes) {
            Ok(message) => decoder.decide(decode_as(&decoder.format, message), offset, Some(agents), trace, take),
            Err(DeadReason::UnknownEnvelope) => {
                decoder.decide(decode_as(&decoder.format, bytes), offset, Some(agents), trace, take)
            }
            Err(reason) => Outcome::Dead(reason),
        }
    }

    /// How the message of an envelope ends that an [`Opener`] of the caller's opened.
    pub fn message(&mut self, message: &str, offset: u64, take: impl FnOnce(&Event<'_>)) -> Outcome {
        self.decoder.decide(
            decode_text(&self.decoder.format, message),
            offset,
            Some(&mut self.agents),
            &mut self.trace,
            take,
        )
    }

    /// The fate of such a message, to be kept, and by what it was judged.
    pub fn message_fate(&mut self, message: &str, offset: u64) -> (Fate, Trace) {
        self.decoder.fate(decode_text(&self.decoder.format, message), offset, Some(&mut self.agents))
    }

    /// By what the last line was judged that was handed over.
    pub fn trace(&self) -> Trace {
        self.trace
    }
}
