//! Lines in, typed product events out; every line ends as exactly one of event, filtered, dead letter.

pub mod classify;
pub mod decode;
mod decoder;

pub use classify::{Class, Classifier, ClassifierOptions, FilterReason, VisitorKey};
pub use decode::{DeadReason, Line};
pub use decoder::{Decoder, Fate};
