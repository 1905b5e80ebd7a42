//! What the collector makes of a log line: one product event.

use serde::{Deserialize, Serialize};

use crate::{PageId, Timestamp};

/// What a shopper did on a product's page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// Looked at it.
    View,
    /// Put it into the cart.
    Cart,
    /// Tried to buy it, whatever the answer was: a refused attempt is demand like any other.
    Attempt,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::View, Self::Cart, Self::Attempt];
    /// `view`, `cart` or `attempt`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Cart => "cart",
            Self::Attempt => "attempt",
        }
    }
}

/// A keyed hash of the visitor's cookie, token or (address, user agent): no raw address passes the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VisitorHash(pub u64);

/// One counted event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessEvent {
    /// The page, as it stands in the path.
    pub page: PageId,
    /// What was done.
    pub kind: EventKind,
    /// By whom.
    pub visitor: VisitorHash,
    /// HTTP status of the answer.
    pub status: u16,
    /// When, by the log.
    pub at: Timestamp,
    /// Byte offset of the line in its source; rises within a source, so a repeat is recognised.
    pub offset: u64,
}

/// Events of one source and one partition, in order of their offsets: the payload of `product-events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventBatch {
    /// Identity of the log file (device, inode and fingerprint): with the offset it names a line for ever.
    pub source: String,
    /// The events.
    pub events: Vec<AccessEvent>,
}

/// Lines of one source that could not be decoded, in order of their offsets: the payload of `dead-letters`.
/// The bytes stay with the collector, as they may hold addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterBatch {
    /// Identity of the log file, as in [`EventBatch`].
    pub source: String,
    /// The lines.
    pub letters: Vec<DeadLetterNote>,
}

/// One line that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterNote {
    /// Byte offset of the line in its source.
    pub offset: u64,
    /// Why, in the collector's closed set of words: `truncated`, `bad_time`, ….
    pub reason: String,
}
