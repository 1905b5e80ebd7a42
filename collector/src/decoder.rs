//! Decoding and classifying in one: a line's bytes to its fate. Pure and usable without the service;
//! `seckill top` does.

use types::{AccessEvent, Invalid};

use crate::classify::{Class, Classifier, ClassifierOptions, FilterReason, VisitorKey};
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
    /// The fate of a line, with or without its line end, that begins at byte `offset` of its source.
    pub fn line(&self, bytes: &[u8], offset: u64) -> Fate {
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
