//! Lines in, typed product events out; every line ends as exactly one of event, filtered, dead letter.
//!
//! A chunk's way: `tail` cuts it from a file, `decode` and `classify` give each line its fate, `publish`
//! appends the events, `store` commits position and books. In that order, one chunk at a time: a crash
//! repeats at most the chunk in flight, under the same source and offsets, and no line is counted twice.

pub mod account;
pub mod classify;
pub mod decode;
mod decoder;
mod handle;
pub mod metrics;
mod options;
mod publish;
mod service;
mod store;
mod tail;

pub use account::Accounting;
pub use classify::{Class, Classifier, ClassifierOptions, FilterReason, VisitorKey};
pub use decode::envelope::{Envelope, Opener, Origin};
pub use decode::{DeadReason, Line};
pub use decoder::{Decoder, Fate};
pub use handle::Handle;
pub use options::Options;
pub use publish::{KEEP_DEAD_LETTERS, KEEP_EVENTS, SOURCE_HEADER};
pub use service::{Collector, Error};
pub use store::{DeadLetter, MAX_DEAD_BYTES, MAX_DEAD_LETTERS, StoreError};
pub use tail::{FileStatus, LINGER};
