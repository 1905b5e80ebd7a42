//! What a shipper wraps around a line: the JSON record of Filebeat 7 to 9, and the plainer ones of rsyslog and
//! Vector. It takes out the message and where it stood; it must never accept what a JSON parser refuses.

mod found;
mod list;
mod members;
mod memory;
mod opener;

use std::borrow::Cow;

use super::log_format::Format;
use super::{DeadReason, Line, decode_message};
pub(crate) use list::lines_about;
pub use list::{MAX_LIST, MAX_RECORDS, list};
pub use opener::Opener;

/// Longest record that is opened, in bytes: the longest line, every byte of it escaped as `\u00XX`, and room
/// for the shipper's metadata.
pub const MAX_ENVELOPE: usize = 6 * super::MAX_LINE + 128 * 1024;
/// Major versions of Filebeat whose records are known: the members read here are the same in all of them.
pub const VERSIONS: std::ops::RangeInclusive<u32> = 7..=9;

/// A shipper's record, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The line, its escapes decoded. Whether it is UTF-8 is not looked at: whoever decodes the line does.
    pub message: Cow<'a, [u8]>,
    /// Whether it is known that no control character stands in the message, not even escaped.
    pub(crate) clean: bool,
    /// Byte offset of the line in its file, if the shipper says so.
    pub offset: Option<u64>,
    /// Where the line stood.
    pub origin: Origin<'a>,
}

/// The file that a line stood in, as far as its shipper names it: the parts of the file's identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin<'a> {
    /// The file's path on its host.
    pub path: Option<Cow<'a, str>>,
    /// Inode, from Filebeat 8.9 on.
    pub inode: Option<Cow<'a, str>>,
    /// Device, from Filebeat 8.9 on.
    pub device: Option<Cow<'a, str>>,
    /// Hash of the file's first bytes, where Filebeat identifies files by it.
    pub fingerprint: Option<Cow<'a, str>>,
    /// The shipper's own id, which lasts as long as its registry.
    pub agent: Option<Cow<'a, str>>,
    /// The host's name.
    pub host: Option<Cow<'a, str>>,
    /// `event.dataset`, for example `nginx.access`.
    pub dataset: Option<Cow<'a, str>>,
}

impl Origin<'_> {
    /// The same with nothing borrowed.
    pub fn into_owned(self) -> Origin<'static> {
        let own = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        Origin {
            path: own(self.path),
            inode: own(self.inode),
            device: own(self.device),
            fingerprint: own(self.fingerprint),
            agent: own(self.agent),
            host: own(self.host),
            dataset: own(self.dataset),
        }
    }
}

impl Envelope<'_> {
    /// Its line, decoded.
    #[inline]
    pub fn line(&self, format: &Format) -> Result<Line<'_>, DeadReason> {
        decode_message(format, &self.message, self.clean)
    }
    /// The same with nothing borrowed.
    pub fn into_owned(self) -> Envelope<'static> {
        Envelope {
            message: Cow::Owned(self.message.into_owned()),
            clean: self.clean,
            offset: self.offset,
            origin: self.origin.into_owned(),
        }
    }
}

/// Opens one record. For many use an [`Opener`], which remembers what they have in common.
pub fn open(record: &[u8]) -> Result<Envelope<'static>, DeadReason> {
    Opener::default().open(record).map(Envelope::into_owned)
}

/// What a text of JSON is by its first key, which costs next to nothing to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looks {
    /// Like a shipper's record.
    Envelope,
    /// Like the edge's line.
    Edge,
    /// Like neither.
    Unknown,
}

/// What `text` looks like. A shipper's record that begins otherwise is `Unknown` and shows itself when opened.
pub(super) fn looks(text: &[u8]) -> Looks {
    let text = text.trim_ascii_start();
    if text.starts_with(b"{\"@timestamp\":") {
        return Looks::Envelope;
    }
    let Some(rest) = text.strip_prefix(b"{") else { return Looks::Unknown };
    let Some(rest) = rest.trim_ascii_start().strip_prefix(b"\"") else { return Looks::Unknown };
    match rest.iter().position(|b| *b == b'"').map(|end| &rest[..end]) {
        Some(b"@timestamp" | b"@metadata" | b"agent" | b"message" | b"log" | b"ecs" | b"input" | b"event") => {
            Looks::Envelope
        }
        Some(b"time" | b"remote_addr" | b"method" | b"uri" | b"status" | b"visitor" | b"request_id") => Looks::Edge,
        _ => Looks::Unknown,
    }
}

/// Whether a text may be a shipper's record: some object that does not begin like the edge's line, or a list of them.
pub(crate) fn is_one(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let text = text.trim_ascii_start();
    text.starts_with(b"[{") || (text.first() == Some(&b'{') && looks(text) != Looks::Edge)
}

#[cfg(test)]
mod tests;
