//! One log line, bytes to fields: Nginx combined or the edge's JSON, told apart by the first byte, in a shipper's
//! envelope or plain. Pure; it must never panic, whatever the bytes, nor judge what a line means: that is `classify`.

mod block;
mod combined;
mod edge_json;
pub mod envelope;
mod json;
pub mod log_format;
mod time;

use std::borrow::Cow;

use log_format::Format;
use serde::{Deserialize, Serialize};
use types::Timestamp;

/// Longest line that is decoded, in bytes without its end. Nginx itself refuses request lines and headers
/// above 8 KiB each by default, so an honest line stays far below.
pub const MAX_LINE: usize = 64 * 1024;

/// Longest method, in bytes; the longest registered one (`UPDATEREDIRECTREF`) has 17.
const MAX_METHOD: usize = 32;

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }
        impl $name {
            /// Every reason there is: a closed set, so that it can label a metric.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// The reason as it is stored, counted and published.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
            /// The reason of that name.
            pub fn named(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.as_str() == text)
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use reasons;

reasons!(
    /// Why a line could not be decoded: it becomes a dead letter.
    DeadReason {
        /// Nothing, or nothing but blanks.
        Empty = "empty",
        /// Longer than [`MAX_LINE`].
        TooLong = "too_long",
        /// Holds a NUL: a hole that a crash left in the file, or no text at all.
        Nul = "nul",
        /// Holds another raw control character; every log format escapes them.
        Binary = "binary",
        /// Is not UTF-8.
        NotUtf8 = "not_utf8",
        /// Ends inside a quoted field, bracket or object.
        Truncated = "truncated",
        /// A field that is needed is not there.
        MissingField = "missing_field",
        /// The fields do not stand as they should.
        Malformed = "malformed",
        /// The time is not one, or lies outside the years 1970 to 9999.
        BadTime = "bad_time",
        /// What stands for the method is no HTTP method.
        BadMethod = "bad_method",
        /// The request line is not `METHOD target HTTP/version`.
        BadRequest = "bad_request",
        /// The status is not three digits.
        BadStatus = "bad_status",
        /// The size is neither a number nor `-`.
        BadSize = "bad_size",
        /// Begins like JSON and is none, or is an edge's line that is not one flat object with each field once
        /// and of its type.
        BadJson = "bad_json",
        /// JSON nested deeper than [`json::MAX_DEPTH`].
        TooDeep = "too_deep",
        /// A JSON array where one record is wanted: in a line of a file, in another array, or with more than
        /// [`envelope::MAX_RECORDS`] records.
        Array = "array",
        /// A JSON object that is neither a shipper's record nor the edge's line.
        UnknownEnvelope = "unknown_envelope",
        /// A record of a Filebeat that is not known: see [`envelope::VERSIONS`].
        UnknownVersion = "unknown_version",
        /// A record of another beat or module: metrics, an error log.
        OtherRecord = "other_record",
        /// A shipper's record without a message.
        MissingMessage = "missing_message",
        /// A shipper's record in which a member that is read stands twice.
        DuplicateKey = "duplicate_key",
        /// A shipper's record in which a member that is read has another type.
        WrongType = "wrong_type",
        /// A shipper's record whose message is again a shipper's record.
        NestedEnvelope = "nested_envelope",
        /// Its time lies ahead of its log and of the clock, and no other line of the log lies there.
        Future = "future",
        /// Its time lies far behind its log, and no other line of the log lies there.
        Ancient = "ancient",
    }
);

/// The request's method, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// `POST`.
    Post,
    /// Another well-formed method; methods are case-sensitive, so `get` is one of these.
    Other,
    /// There was no request: the client connected and left (Nginx logs `-` or nothing with 400 or 408).
    Absent,
}

impl Method {
    fn parse(text: &str) -> Result<Self, DeadReason> {
        match text {
            "GET" => Ok(Self::Get),
            "HEAD" => Ok(Self::Head),
            "POST" => Ok(Self::Post),
            "" | "-" => Ok(Self::Absent),
            _ if text.len() <= MAX_METHOD && text.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-') => {
                Ok(Self::Other)
            }
            _ => Err(DeadReason::BadMethod),
        }
    }
}

/// One request as the log tells it. Borrows from the line wherever the line holds the text as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// When, by the log.
    pub at: Timestamp,
    /// The client's address as it stands; IPv4, IPv6, `unix:` or a name.
    pub remote_addr: Cow<'a, str>,
    /// The method.
    pub method: Method,
    /// Path and query as they stand, not percent-decoded; empty if there was no request.
    pub target: Cow<'a, str>,
    /// HTTP status, 0 to 999; Nginx logs 000 and 499 where the client left.
    pub status: u16,
    /// The user agent; empty or `-` if none was sent.
    pub user_agent: Cow<'a, str>,
    /// The edge's keyed hash of the visitor, if the line has one.
    pub visitor: Option<Cow<'a, str>>,
}

/// Decodes one line of any format that is told by its first byte, with or without its `\n` or `\r\n`.
pub fn decode(line: &[u8]) -> Result<Line<'_>, DeadReason> {
    decode_as(&Format::Auto, line)
}

/// Decodes one line of this format, with or without its `\n` or `\r\n`.
pub fn decode_as<'a>(format: &Format, line: &'a [u8]) -> Result<Line<'a>, DeadReason> {
    decode_message(format, line, false)
}

/// The same; with `clean` the line is known to hold no control character, which then is not looked for.
pub(crate) fn decode_message<'a>(format: &Format, line: &'a [u8], clean: bool) -> Result<Line<'a>, DeadReason> {
    let line = &line[bounds(line, clean)?];
    by_format(format, std::str::from_utf8(line).map_err(|_| DeadReason::NotUtf8)?)
}

#[inline]
fn by_format<'a>(format: &Format, text: &'a str) -> Result<Line<'a>, DeadReason> {
    match text.as_bytes().first() {
        Some(b' ' | b'\t') | None if text.trim_ascii().is_empty() => Err(DeadReason::Empty),
        _ => format.decode(text),
    }
}

/// What every format has in common: not too much, without control characters. Answers where the line stands in
/// the bytes without its end.
fn bounds(line: &[u8], clean: bool) -> Result<std::ops::Range<usize>, DeadReason> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let end = line.len();
    // An editor's byte order mark before the first line is not part of it.
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    if line.len() > MAX_LINE {
        return Err(DeadReason::TooLong);
    }
    if !clean && block::holds_control(line) {
        return Err(if memchr::memchr(0, line).is_some() { DeadReason::Nul } else { DeadReason::Binary });
    }
    Ok(end - line.len()..end)
}

/// A status is exactly three digits.
fn status(text: &str) -> Result<u16, DeadReason> {
    match *text.as_bytes() {
        [a, b, c] if [a, b, c].iter().all(u8::is_ascii_digit) => {
            Ok(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
        }
        _ => Err(DeadReason::BadStatus),
    }
}
