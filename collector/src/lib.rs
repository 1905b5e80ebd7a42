//! Lines in, typed product events out; every line ends as exactly one of event, filtered, dead letter.
//!
//! A batch's way: `tail` cuts it from a file, or `source` takes it from topic `access-log`; `decode` and
//! `classify` give each line its fate, `sanity` judges its time, `publish` appends the events, `store` commits
//! position and books. In that order, one batch at a time: a crash repeats at most the batch in flight, under the
//! same source and offsets, and no line is counted twice.

pub mod account;
mod batch;
pub mod classify;
pub mod decode;
mod decoder;
pub mod explain;
mod handle;
mod http;
pub mod metrics;
mod options;
mod publish;
pub mod redact;
mod replay;
mod sanity;
mod service;
mod source;
mod store;
mod tail;

pub use account::{Accounting, Replayed};
pub use classify::{Class, Classifier, ClassifierOptions, FilterReason, Hits, Trace, VisitorKey};
pub use decode::envelope::{Envelope, Opener, Origin};
pub use decode::log_format::Format;
pub use decode::{DeadReason, Line};
pub use decoder::{Decoder, Fate, Outcome, Reader};
pub use explain::never_matched;
pub use handle::Handle;
pub use options::{Encoding, Options, Source};
pub use publish::{KEEP_DEAD_LETTERS, KEEP_EVENTS, SOURCE_HEADER};
pub use replay::{ReplayReport, replay_dead_letters};
pub use sanity::{ANCIENT, FAR, JUMP, SKEW};
pub use service::{Collector, Error};
pub use source::{LINES_PER_RECORD, PartitionStatus};
pub use store::{DeadLetter, MAX_DEAD_BYTES, MAX_DEAD_LETTERS, ReplayFilter, StoreError};
pub use tail::{FileStatus, LINGER};
