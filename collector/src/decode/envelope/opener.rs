//! Opens records: walks over a record's members, those that all records of a source share by comparing, the others by
//! reading. It must never keep anything of a record that it refuses.

use std::borrow::Cow;

use super::super::DeadReason;
use super::super::json::{Copied, Scanner};
use super::found::{Found, Span};
use super::members::{Fact, Job, Place, known, varying};
use super::memory::Memory;
use super::{Envelope, Looks, MAX_ENVELOPE, Origin, is_one, looks};

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
            match self.read(record) {
                Ok((text, found)) => return self.envelope(text, &found),
                Err(DeadReason::UnknownEnvelope) => {}
                Err(reason) => return Err(reason),
            }
        }
        if record.len() > MAX_ENVELOPE {
            return Err(DeadReason::TooLong);
        }
        Ok(Envelope { message: Cow::Borrowed(record), clean: false, offset: None, origin: Origin::default() })
    }

    /// Opens one record.
    pub fn open<'a>(&'a mut self, record: &'a [u8]) -> Result<Envelope<'a>, DeadReason> {
        let (text, found) = self.read(record)?;
        self.envelope(text, &found)
    }

    /// Opens one record for its message alone, and whether that is known to hold no control character.
    pub(crate) fn open_message(&mut self, record: &[u8]) -> Result<(&[u8], bool), DeadReason> {
        let (_, found) = self.read(record)?;
        self.message(&found)
    }

    fn envelope<'a>(&'a self, text: &'a [u8], found: &Found) -> Result<Envelope<'a>, DeadReason> {
        let (message, clean) = self.message(found)?;
        Ok(Envelope { message: Cow::Borrowed(message), clean, offset: found.offset, origin: found.origin(text) })
    }

    fn message(&self, found: &Found) -> Result<(&[u8], bool), DeadReason> {
        let Copied { length, clean } = found.message.ok_or(DeadReason::MissingMessage)?;
        let message = &self.scratch[..length];
        // A line that is itself a record was shipped twice; which of its two offsets counts nobody knows.
        if message.first() == Some(&b'{') && looks(message) == Looks::Envelope {
            return Err(DeadReason::NestedEnvelope);
        }
        Ok((message, clean))
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
        let mut found = Found::default();
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
            (Some(Job::Sign), b'"') => scanner.skip_string()?,
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
                let offset = scanner.whole()?.ok_or(DeadReason::WrongType)?;
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
