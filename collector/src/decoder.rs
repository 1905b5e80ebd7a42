//! Decoding and classifying in one: a line's bytes to its fate. Pure and usable without the service;
//! `seckill top` does.

use types::{AccessEvent, Invalid};

use crate::classify::{Class, Classifier, ClassifierOptions, FilterReason, VisitorKey};
use crate::decode::envelope::{self, Envelope};
use crate::decode::{DeadReason, decode};

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
pub struct Decoder(Classifier);

impl Decoder {
    /// A decoder whose visitor hashes are not secret: for results that hold none.
    pub fn new(options: ClassifierOptions) -> Result<Self, Invalid> {
        Self::keyed(&options, &VisitorKey::public())
    }
    /// A decoder that hashes visitors with `key`.
    pub fn keyed(options: &ClassifierOptions, key: &VisitorKey) -> Result<Self, Invalid> {
        Classifier::new(options, key).map(Self)
    }
    /// The fate of a line, with or without its line end, that begins at byte `offset` of its source. A shipper's
    /// envelope around it is opened; what the envelope says of file and offset does not matter here.
    pub fn line(&self, bytes: &[u8], offset: u64) -> Fate {
        if !envelope::is_one(bytes) {
            return self.plain(bytes, offset);
        }
        match envelope::open(bytes) {
            Ok(envelope) => self.plain(envelope.message.as_bytes(), offset),
            // Neither: the edge's decoder says what is wrong with it.
            Err(DeadReason::UnknownEnvelope) => self.plain(bytes, offset),
            Err(reason) => Fate::Dead(reason),
        }
    }

    /// Opens a record that a shipper made: the line is its message, the offset its own if it names one. A record
    /// that is no envelope is the line itself.
    pub fn open<'a>(&self, record: &'a [u8]) -> Result<Envelope<'a>, DeadReason> {
        let bare = |record: &'a [u8]| {
            let message = std::str::from_utf8(record).map_err(|_| DeadReason::NotUtf8)?;
            Ok(Envelope { message: message.into(), offset: None, origin: envelope::Origin::default() })
        };
        if !envelope::is_one(record) {
            return bare(record);
        }
        match envelope::open(record) {
            Err(DeadReason::UnknownEnvelope) => bare(record),
            other => other,
        }
    }

    fn plain(&self, bytes: &[u8], offset: u64) -> Fate {
        let line = match decode(bytes) {
            Ok(line) => line,
            Err(reason) => return Fate::Dead(reason),
        };
        match self.0.classify(&line) {
            Class::Event { page, kind, visitor } => {
                Fate::Event(AccessEvent { page, kind, visitor, status: line.status, at: line.at, offset })
            }
            Class::Filtered(reason) => Fate::Filtered(reason),
        }
    }
}
