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

/// Whether a text may be a shipper's record: some object that does not begin like the edge's line, or a list of them.
pub(crate) fn is_one(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let text = text.trim_ascii_start();
    text.starts_with(b"[{") || (text.first() == Some(&b'{') && looks(text) != Looks::Edge)
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
/// Bits that say more of a member than that it was there: a module's record; a dataset of an access log.
const MODULE: u32 = 1 << 30;
const ACCESS: u32 = 1 << 31;

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
    /// Why this is no record of ours, if it is none.
    refused: Option<DeadReason>,
}

/// Opens records one after the other, quicker than one by one: it keeps the buffer for messages and remembers
/// the members that all records of a source share.
#[derive(Debug, Default)]
pub struct Opener {
    memory: Memory,
    scratch: Vec<u8>,
}

impl Opener {
    /// Opens a record of which nothing is known: an envelope, or else the line itself, which then has no offset
    /// and no origin.
    pub fn open_any<'a>(&'a mut self, record: &'a [u8]) -> Result<Envelope<'a>, DeadReason> {
        if is_one(record) {
            match self.open(record) {
                Err(DeadReason::UnknownEnvelope) => {}
                other => return other,
            }
        }
        if record.len() > MAX_ENVELOPE {
            return Err(DeadReason::TooLong);
        }
        let message = std::str::from_utf8(record).map_err(|_| DeadReason::NotUtf8)?;
        Ok(Envelope { message: Cow::Borrowed(message), offset: None, origin: Origin::default() })
    }

    /// Opens one record.
    pub fn open<'a>(&'a mut self, record: &'a [u8]) -> Result<Envelope<'a>, DeadReason> {
        let (text, found) = self.read(record)?;
        let message = std::str::from_utf8(self.message(&found)?).map_err(|_| DeadReason::NotUtf8)?;
        let message = Cow::Borrowed(message);
        Ok(Envelope { message, offset: found.offset, origin: found.origin(text) })
    }

    /// Opens one record for its message alone, whose UTF-8 is not looked at yet.
    pub(crate) fn open_message(&mut self, record: &[u8]) -> Result<&[u8], DeadReason> {
        let (_, found) = self.read(record)?;
        self.message(&found)
    }

    fn message(&self, found: &Found) -> Result<&[u8], DeadReason> {
        let message = &self.scratch[..found.message.ok_or(DeadReason::MissingMessage)?];
        // A line that is itself a record was shipped twice; which of its two offsets counts nobody knows.
        if message.first() == Some(&b'{') && looks(message) == Looks::Envelope {
            return Err(DeadReason::NestedEnvelope);
        }
        Ok(message)
    }

    fn read<'a>(&mut self, record: &'a [u8]) -> Result<(&'a [u8], Found), DeadReason> {
        if record.len() > MAX_ENVELOPE {
            return Err(DeadReason::TooLong);
        }
        let text = record.strip_prefix(b"\xef\xbb\xbf").unwrap_or(record);
        let mut scanner = Scanner::new(text);
        scanner.blanks();
        match scanner.rest().first() {
            None => return Err(DeadReason::Empty),
            Some(b'{') => {}
            Some(b'[') => return Err(DeadReason::Array),
            Some(_) => return Err(DeadReason::BadJson),
        }
        let mut found = Found { seen: 0, facts: [None; Fact::COUNT], offset: None, message: None, refused: None };
        self.object(Place::Top, 0, &mut scanner, &mut found)?;
        scanner.end()?;
        found.judge()?;
        Ok((text, found))
    }

    fn object(
        &mut self,
        place: Place,
        depth: u32,
        scanner: &mut Scanner<'_>,
        found: &mut Found,
    ) -> Result<(), DeadReason> {
        let mut more = scanner.open(b'{', b'}')?;
        while more {
            let rest = scanner.rest();
            if let Some((length, bit, job)) = varying(place, rest) {
                found.see(bit)?;
                scanner.jump(length);
                self.value(place, depth, Some(job), scanner, found)?;
            } else if let Some(member) = self.memory.find(place, rest) {
                found.see(member.bits)?;
                let at = scanner.at() as u32;
                for (fact, span) in &member.facts {
                    let span = Span { start: span.start + at, end: span.end + at, escaped: span.escaped };
                    found.facts[*fact as usize] = Some(span);
                }
                scanner.jump(member.length());
            } else {
                self.member(place, depth, scanner, found)?;
            }
            more = scanner.another(b'}')?;
        }
        Ok(())
    }

    /// A member that is not remembered; afterwards it is, if it can be.
    #[inline(never)]
    fn member(
        &mut self,
        place: Place,
        depth: u32,
        scanner: &mut Scanner<'_>,
        found: &mut Found,
    ) -> Result<(), DeadReason> {
        let (start, head, seen) = (scanner.at(), scanner.rest(), found.seen);
        let key = scanner.key()?;
        let job = match known(place, &key.text()) {
            Some((bit, job)) => {
                found.see(bit)?;
                Some(job)
            }
            None => None,
        };
        let first = scanner.peek()?;
        self.value(place, depth, job, scanner, found)?;
        let varies = matches!(job, Some(Job::Message | Job::Offset | Job::Enter(Place::Log)))
            || key.raw == "@timestamp"
            || !matches!(first, b'{' | b'[' | b'"');
        // Of a record that is refused nothing is kept: a second reason for it would not show in `refused`.
        if !varies && found.refused.is_none() {
            let (from, to) = (start as u32, scanner.at() as u32);
            let facts = Fact::ALL.into_iter().filter_map(|fact| {
                let span = found.facts[fact as usize].filter(|span| span.start >= from)?;
                Some((fact, Span { start: span.start - from, end: span.end - from, escaped: span.escaped }))
            });
            self.memory.keep(place, head, (to - from) as usize, found.seen & !seen, facts);
        }
        Ok(())
    }

    fn value(
        &mut self,
        place: Place,
        depth: u32,
        job: Option<Job>,
        scanner: &mut Scanner<'_>,
        found: &mut Found,
    ) -> Result<(), DeadReason> {
        match (job, scanner.peek()?) {
            (Some(Job::Message), b'"') => found.message = Some(scanner.string_into(&mut self.scratch)?),
            (Some(Job::Sign), b'"') => drop(scanner.string()?),
            (None | Some(Job::Sign), _) => scanner.skip(depth + 1)?,
            (Some(_), b'n') => scanner.word("null")?,
            (Some(Job::Enter(inner)), b'{') => self.object(inner, depth + 1, scanner, found)?,
            // Vector and rsyslog name the host by a plain text.
            (Some(Job::Enter(Place::Host)), b'"') => found.text(Fact::Host, scanner)?,
            (Some(Job::Text(fact)), b'"') => found.text(fact, scanner)?,
            (Some(Job::Text(fact @ (Fact::Inode | Fact::Device))), b'0'..=b'9') => {
                let start = scanner.at() as u32;
                scanner.number()?;
                found.facts[fact as usize] = Some(Span { start, end: scanner.at() as u32, escaped: false });
            }
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
        Ok(())
    }
}

/// The members that differ from record to record, by their first bytes as Filebeat writes them: how many bytes
/// stand before the value, and what [`known`] says. Written in another way they are found there.
#[inline]
fn varying(place: Place, rest: &[u8]) -> Option<(usize, u32, Job)> {
    match place {
        Place::Top if rest.starts_with(b"\"message\":\"") => Some((10, 1, Job::Message)),
        Place::Top if rest.starts_with(b"\"log\":{") => Some((6, 1 << 3, Job::Enter(Place::Log))),
        Place::Top if rest.starts_with(b"\"@timestamp\":\"") => Some((13, 1 << 1, Job::Sign)),
        Place::Log if rest.starts_with(b"\"offset\":") => Some((9, 1 << 12, Job::Offset)),
        _ => None,
    }
}

impl Found {
    #[inline]
    fn see(&mut self, bits: u32) -> Result<(), DeadReason> {
        if self.seen & bits != 0 {
            return Err(DeadReason::DuplicateKey);
        }
        self.seen |= bits;
        Ok(())
    }

    /// A text that is kept; whether it makes the record another's is judged here, once for each that is new.
    fn text(&mut self, fact: Fact, scanner: &mut Scanner<'_>) -> Result<(), DeadReason> {
        let start = scanner.at() as u32 + 1;
        let said = scanner.string()?;
        let text = said.text();
        match fact {
            Fact::Beat | Fact::AgentType if text != "filebeat" => self.refused = Some(DeadReason::OtherRecord),
            Fact::BeatVersion | Fact::AgentVersion => {
                let major = text.split('.').next().and_then(|major| major.parse().ok());
                if !major.is_some_and(|major: u32| VERSIONS.contains(&major)) {
                    self.refused = self.refused.or(Some(DeadReason::UnknownVersion));
                }
            }
            Fact::Dataset if text.ends_with(".error") => self.refused = Some(DeadReason::OtherRecord),
            Fact::Dataset if text.ends_with(".access") => self.seen |= ACCESS,
            Fact::Module if !text.is_empty() => self.seen |= MODULE,
            _ => {}
        }
        if !text.is_empty() {
            self.facts[fact as usize] = Some(Span { start, end: scanner.at() as u32 - 1, escaped: said.escaped });
        }
        Ok(())
    }

    /// Whether this is a record of Filebeat's, of a version that is known, about an access log.
    fn judge(&self) -> Result<(), DeadReason> {
        if self.seen & SIGNS == 0 {
            return Err(DeadReason::UnknownEnvelope);
        }
        let other = self.seen & (MODULE | ACCESS) == MODULE;
        match self.refused {
            _ if other => Err(DeadReason::OtherRecord),
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }

    fn origin<'a>(&self, record: &'a [u8]) -> Origin<'a> {
        let said = |fact: Fact| {
            let span = self.facts[fact as usize]?;
            // It was validated when it was stepped over.
            let raw = std::str::from_utf8(record.get(span.start as usize..span.end as usize)?).ok()?;
            Some(Quoted { raw, escaped: span.escaped }.text())
        };
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
