//! What a shipper wraps around a line: the JSON record of Filebeat 7 to 9, and the plainer ones of rsyslog and
//! Vector. It takes out the message and where it stood; it must never accept what a JSON parser refuses.

mod memory;

use std::borrow::Cow;

use super::DeadReason;
use super::json::{Quoted, Scanner};
use memory::Memory;

/// Longest record that is opened, in bytes: the longest line, every byte of it escaped as `\u00XX`, and room
/// for the shipper's metadata.
pub const MAX_ENVELOPE: usize = 6 * super::MAX_LINE + 128 * 1024;
/// Major versions of Filebeat whose records are known: the members read here are the same in all of them.
pub const VERSIONS: std::ops::RangeInclusive<u32> = 7..=9;

/// A shipper's record, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The line, its escapes decoded.
    pub message: Cow<'a, str>,
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
    /// The same with nothing borrowed.
    pub fn into_owned(self) -> Envelope<'static> {
        Envelope {
            message: Cow::Owned(self.message.into_owned()),
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

/// Whether a text may be a shipper's record: some object that does not begin like the edge's line.
pub(crate) fn is_one(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    matches!(text.trim_ascii_start().first(), Some(b'{')) && looks(text) != Looks::Edge
}

/// The object that a member stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Top,
    Metadata,
    Log,
    File,
    Agent,
    Host,
    Event,
}

/// A text that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fact {
    Path,
    PlainPath,
    Inode,
    Device,
    Fingerprint,
    AgentId,
    AgentType,
    AgentVersion,
    Beat,
    BeatVersion,
    Host,
    Module,
    Dataset,
}

impl Fact {
    const COUNT: usize = Self::Dataset as usize + 1;
    const ALL: [Self; Self::COUNT] = [
        Self::Path,
        Self::PlainPath,
        Self::Inode,
        Self::Device,
        Self::Fingerprint,
        Self::AgentId,
        Self::AgentType,
        Self::AgentVersion,
        Self::Beat,
        Self::BeatVersion,
        Self::Host,
        Self::Module,
        Self::Dataset,
    ];
}

/// What is done with a member that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Message,
    Offset,
    Text(Fact),
    Enter(Place),
    /// Nothing; it only shows that this is a shipper's record.
    Sign,
}

/// What is known of a member: its bit among those seen, and what is done with it.
fn known(place: Place, key: &str) -> Option<(u32, Job)> {
    use Job::{Enter, Message, Offset, Sign, Text};
    let (bit, job) = match (place, key) {
        (Place::Top, "message") => (0, Message),
        (Place::Top, "@timestamp") => (1, Sign),
        (Place::Top, "@metadata") => (2, Enter(Place::Metadata)),
        (Place::Top, "log") => (3, Enter(Place::Log)),
        (Place::Top, "agent") => (4, Enter(Place::Agent)),
        (Place::Top, "host") => (5, Enter(Place::Host)),
        (Place::Top, "event") => (6, Enter(Place::Event)),
        (Place::Top, "file") => (7, Text(Fact::PlainPath)),
        (Place::Top, "offset") => (8, Offset),
        (Place::Top, "ecs") => (9, Sign),
        (Place::Metadata, "beat") => (10, Text(Fact::Beat)),
        (Place::Metadata, "version") => (11, Text(Fact::BeatVersion)),
        (Place::Log, "offset") => (12, Offset),
        (Place::Log, "file") => (13, Enter(Place::File)),
        (Place::File, "path") => (14, Text(Fact::Path)),
        (Place::File, "inode") => (15, Text(Fact::Inode)),
        (Place::File, "device_id") => (16, Text(Fact::Device)),
        (Place::File, "fingerprint") => (17, Text(Fact::Fingerprint)),
        (Place::Agent, "id") => (18, Text(Fact::AgentId)),
        (Place::Agent, "type") => (19, Text(Fact::AgentType)),
        (Place::Agent, "version") => (20, Text(Fact::AgentVersion)),
        (Place::Host, "name") => (21, Text(Fact::Host)),
        (Place::Event, "module") => (22, Text(Fact::Module)),
        (Place::Event, "dataset") => (23, Text(Fact::Dataset)),
        _ => return None,
    };
    Some((1 << bit, job))
}

/// Bits of what only a shipper writes.
const SIGNS: u32 = 0b10_0101_1111;

/// Where a text stands in the record, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
    escaped: bool,
}

/// What was found so far.
#[derive(Debug)]
struct Found {
    seen: u32,
    facts: [Option<Span>; Fact::COUNT],
    offset: Option<u64>,
    /// Bytes of the message in the scratch.
    message: Option<usize>,
}

/// Opens records one after the other, quicker than one by one: it keeps the buffer for messages and remembers
/// the members that all records of a source share.
#[derive(Debug, Default)]
pub struct Opener {
    memory: Memory,
    scratch: Vec<u8>,
}

impl Opener {
    /// Opens one record.
    pub fn open<'a>(&'a mut self, record: &'a [u8]) -> Result<Envelope<'a>, DeadReason> {
        if record.len() > MAX_ENVELOPE {
            return Err(DeadReason::TooLong);
        }
        let text = std::str::from_utf8(record).map_err(|_| DeadReason::NotUtf8)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut scanner = Scanner::new(text);
        scanner.blanks();
        match scanner.rest().first() {
            None => return Err(DeadReason::Empty),
            Some(b'{') => {}
            Some(b'[') => return Err(DeadReason::Array),
            Some(_) => return Err(DeadReason::BadJson),
        }
        let mut found = Found { seen: 0, facts: [None; Fact::COUNT], offset: None, message: None };
        self.object(Place::Top, 0, &mut scanner, &mut found)?;
        scanner.end()?;
        found.judge(text)?;
        // A line that is itself a record was shipped twice; which of its two offsets counts nobody knows.
        let message = &self.scratch[..found.message.ok_or(DeadReason::MissingMessage)?];
        if looks(message) == Looks::Envelope {
            return Err(DeadReason::NestedEnvelope);
        }
        Ok(Envelope {
            message: Cow::Borrowed(std::str::from_utf8(message).map_err(|_| DeadReason::NotUtf8)?),
            offset: found.offset,
            origin: found.origin(text),
        })
    }

    fn object(
        &mut self,
        place: Place,
        depth: u32,
        scanner: &mut Scanner<'_>,
        found: &mut Found,
    ) -> Result<(), DeadReason> {
        let remembers = matches!(place, Place::Top | Place::Log);
        let mut more = scanner.open(b'{', b'}')?;
        while more {
            match self.memory.find(place, scanner.rest()) {
                Some(member) if remembers => {
                    if found.seen & member.bits != 0 {
                        return Err(DeadReason::DuplicateKey);
                    }
                    found.seen |= member.bits;
                    let at = scanner.at() as u32;
                    for (fact, span) in &member.facts {
                        let span = Span { start: span.start + at, end: span.end + at, escaped: span.escaped };
                        found.facts[*fact as usize] = Some(span);
                    }
                    scanner.jump(member.length());
                }
                _ => self.member(place, depth, remembers, scanner, found)?,
            }
            more = scanner.another(b'}')?;
        }
        Ok(())
    }

    fn member(
        &mut self,
        place: Place,
        depth: u32,
        remembers: bool,
        scanner: &mut Scanner<'_>,
        found: &mut Found,
    ) -> Result<(), DeadReason> {
        let (start, head, seen) = (scanner.at(), scanner.rest(), found.seen);
        let key = scanner.key()?;
        let job = match known(place, &key.text()) {
            Some((bit, _)) if found.seen & bit != 0 => return Err(DeadReason::DuplicateKey),
            Some((bit, job)) => {
                found.seen |= bit;
                Some(job)
            }
            None => None,
        };
        let first = scanner.peek()?;
        match (job, first) {
            (None | Some(Job::Sign), _) => scanner.skip(depth + 1)?,
            (Some(_), b'n') => scanner.word("null")?,
            (Some(Job::Enter(inner)), b'{') => self.object(inner, depth + 1, scanner, found)?,
            // Vector and rsyslog name the host by a plain text.
            (Some(Job::Enter(Place::Host)), b'"') => found.fact(Fact::Host, scanner)?,
            (Some(Job::Text(fact)), b'"') => found.fact(fact, scanner)?,
            (Some(Job::Text(fact @ (Fact::Inode | Fact::Device))), b'0'..=b'9') => {
                let start = scanner.at() as u32;
                scanner.number()?;
                found.facts[fact as usize] = Some(Span { start, end: scanner.at() as u32, escaped: false });
            }
            (Some(Job::Message), b'"') => found.message = Some(scanner.string_into(&mut self.scratch)?),
            (Some(Job::Offset), b'0'..=b'9') => {
                let offset = scanner.number()?.parse().map_err(|_| DeadReason::WrongType)?;
                // Filebeat's own place for it comes before a field that somebody added.
                if place == Place::Log || found.offset.is_none() {
                    found.offset = Some(offset);
                }
            }
            (Some(_), _) => {
                scanner.skip(depth + 1)?;
                return Err(DeadReason::WrongType);
            }
        }
        let varies = matches!(job, Some(Job::Message | Job::Offset | Job::Enter(Place::Log)))
            || key.raw == "@timestamp"
            || !matches!(first, b'{' | b'[' | b'"');
        if remembers && !varies {
            let (from, to) = (start as u32, scanner.at() as u32);
            let facts = Fact::ALL.into_iter().filter_map(|fact| {
                let span = found.facts[fact as usize].filter(|span| span.start >= from)?;
                Some((fact, Span { start: span.start - from, end: span.end - from, escaped: span.escaped }))
            });
            self.memory.keep(place, head, (to - from) as usize, found.seen & !seen, facts);
        }
        Ok(())
    }
}

impl Found {
    fn fact(&mut self, fact: Fact, scanner: &mut Scanner<'_>) -> Result<(), DeadReason> {
        let start = scanner.at() as u32 + 1;
        let escaped = scanner.string()?.escaped;
        self.facts[fact as usize] = Some(Span { start, end: scanner.at() as u32 - 1, escaped });
        Ok(())
    }

    fn text<'a>(&self, fact: Fact, record: &'a str) -> Option<Cow<'a, str>> {
        let span = self.facts[fact as usize]?;
        let raw = record.get(span.start as usize..span.end as usize)?;
        Some(Quoted { raw, escaped: span.escaped }.text()).filter(|text| !text.is_empty())
    }

    /// Whether this is a record of Filebeat's, of a version that is known, about an access log.
    fn judge(&self, record: &str) -> Result<(), DeadReason> {
        let said = |fact| self.text(fact, record);
        if self.message.is_none() && self.seen & SIGNS == 0 {
            return Err(DeadReason::UnknownEnvelope);
        }
        for name in [said(Fact::Beat), said(Fact::AgentType)].into_iter().flatten() {
            if name != "filebeat" {
                return Err(DeadReason::OtherRecord);
            }
        }
        for version in [said(Fact::BeatVersion), said(Fact::AgentVersion)].into_iter().flatten() {
            let major = version.split('.').next().and_then(|major| major.parse().ok());
            if !major.is_some_and(|major: u32| VERSIONS.contains(&major)) {
                return Err(DeadReason::UnknownVersion);
            }
        }
        let dataset = said(Fact::Dataset);
        let access = dataset.as_deref().is_some_and(|dataset| dataset.ends_with(".access"));
        let error = dataset.as_deref().is_some_and(|dataset| dataset.ends_with(".error"));
        if error || (said(Fact::Module).is_some() && !access) {
            return Err(DeadReason::OtherRecord);
        }
        Ok(())
    }

    fn origin<'a>(&self, record: &'a str) -> Origin<'a> {
        let said = |fact| self.text(fact, record);
        Origin {
            path: said(Fact::Path).or_else(|| said(Fact::PlainPath)),
            inode: said(Fact::Inode),
            device: said(Fact::Device),
            fingerprint: said(Fact::Fingerprint),
            agent: said(Fact::AgentId),
            host: said(Fact::Host),
            dataset: said(Fact::Dataset),
        }
    }
}

#[cfg(test)]
mod tests;
