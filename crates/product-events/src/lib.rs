//! The bytes of `product-events`: one record is one batch of events of one source and partition, as an Arrow IPC
//! stream behind a version byte, or one event as JSON for others. It must never trust a byte that it reads.
//!
//! Columns: `page` (dictionary of text), `kind` (0 view, 1 cart, 2 attempt), `visitor` (keyed hash), `status`, `at`
//! (milliseconds, UTC), `offset` (of the line in its source). The source is in the schema's metadata. Without its
//! first byte a record is a stream that any Arrow reader takes.

mod columns;
mod json;
mod read;
mod stream;

use arrow_schema::ArrowError;
use types::codec::CodecError;
use types::{EventBatch, EventKind, PageId, Timestamp, VisitorHash};

pub use columns::Columns;
pub use json::write_json;
pub use read::{Batch, Numbered, decode, decode_batch};

/// Version 2: an Arrow IPC stream. Version 1, [`EventBatch`] as JSON, is still read.
pub const VERSION: u8 = 2;
/// Largest value that is written or read, in bytes: what the event log takes at most.
pub const MAX_VALUE: usize = types::codec::MAX_VALUE;
/// Most events of a batch. At about 31 bytes each they stay below [`MAX_VALUE`]; a hostile record cannot ask for
/// more memory than that either.
pub const MAX_EVENTS: usize = 500_000;
/// Name of the schema's metadata that holds the source.
pub const SOURCE: &str = "source";
/// Highest HTTP status: three digits.
pub(crate) const MAX_STATUS: u16 = 999;
/// The last millisecond of the year 9999: no log writes later times.
pub(crate) const MAX_AT: i64 = 253_402_300_799_999;

/// One event whose page is borrowed, as it goes into a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// The page, which must be fit for a [`PageId`]: 1 to 128 bytes of printable ASCII without `/`, `?`, `#`.
    pub page: &'a str,
    /// What was done.
    pub kind: EventKind,
    /// By whom.
    pub visitor: VisitorHash,
    /// HTTP status, 0 to 999.
    pub status: u16,
    /// When, by the log.
    pub at: Timestamp,
    /// Byte offset of the line in its source.
    pub offset: u64,
}

impl<'a> From<&'a types::AccessEvent> for Event<'a> {
    fn from(event: &'a types::AccessEvent) -> Self {
        let types::AccessEvent { page, kind, visitor, status, at, offset } = event;
        Self { page: page.as_str(), kind: *kind, visitor: *visitor, status: *status, at: *at, offset: *offset }
    }
}

/// Why a batch was not written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// More than [`MAX_EVENTS`] events or [`MAX_VALUE`] bytes.
    #[error("the batch is too large: {events} events, {bytes} bytes")]
    TooLarge {
        /// Events in the batch.
        events: usize,
        /// Bytes, as far as they were written.
        bytes: usize,
    },
    /// Arrow refused.
    #[error("Arrow refused the batch: {0}")]
    Arrow(#[from] ArrowError),
}

impl EncodeError {
    /// Never: the same batch would be refused again.
    pub const fn retryable(&self) -> bool {
        false
    }
}

/// Why a record was refused. Never retryable: the same bytes would be refused again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No bytes at all, or a tombstone.
    #[error("the record is empty")]
    Empty,
    /// Larger than [`MAX_VALUE`].
    #[error("the record has {0} bytes; at most {MAX_VALUE} are read")]
    TooLarge(usize),
    /// Written by another version of this program, or not by this program.
    #[error("the record has version {0}; this program reads versions 1 and {VERSION}")]
    Version(u8),
    /// Version 1, and its JSON is wrong.
    #[error(transparent)]
    Json(CodecError),
    /// What follows the version is no Arrow stream.
    #[error("the record is no Arrow stream: {0}")]
    NotArrow(&'static str),
    /// The stream ends before what it announces.
    #[error("the Arrow stream is cut off")]
    Truncated,
    /// A length in the stream is negative or reaches beyond its end.
    #[error("the Arrow stream has an impossible length: {0}")]
    Length(&'static str),
    /// The columns are not those of product events.
    #[error("the Arrow stream has other columns: {0}")]
    Columns(String),
    /// The stream is compressed, which is never written here.
    #[error("the Arrow stream is compressed")]
    Compressed,
    /// More than [`MAX_EVENTS`] events.
    #[error("the record has {0} events; at most {MAX_EVENTS} are read")]
    TooMany(u64),
    /// An event points at a page that is not in the dictionary.
    #[error("event {0} has a page that is not in the dictionary")]
    PageIndex(usize),
    /// A value cannot be what its column says.
    #[error("column {column} has an impossible value at {at}")]
    Value {
        /// The column.
        column: &'static str,
        /// Which of its values, from 0.
        at: usize,
    },
}

/// The bytes of one batch. Many are written quicker by one [`Columns`] that is kept.
pub fn encode(batch: &EventBatch) -> Result<Vec<u8>, EncodeError> {
    let mut columns = Columns::default();
    for event in &batch.events {
        columns.push(&event.into());
    }
    columns.finish(&batch.source)
}

const fn kind_number(kind: EventKind) -> u8 {
    match kind {
        EventKind::View => 0,
        EventKind::Cart => 1,
        EventKind::Attempt => 2,
    }
}

fn numbered_kind(number: u8) -> Option<EventKind> {
    EventKind::ALL.into_iter().find(|kind| kind_number(*kind) == number)
}

fn page(bytes: &[u8]) -> Option<PageId> {
    PageId::new(std::str::from_utf8(bytes).ok()?).ok()
}
