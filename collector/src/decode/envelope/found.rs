//! What one record said, gathered member by member, and whether that makes it a record of ours. It must never borrow
//! from the record: it holds places in it.

use super::super::DeadReason;
use super::super::json::{Copied, Quoted, Scanner};
use super::members::{ACCESS, Fact, MODULE, SIGNS};
use super::{Origin, VERSIONS};

/// Where a text stands in the record, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub start: u32,
    pub end: u32,
    pub escaped: bool,
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub seen: u32,
    pub facts: [Option<Span>; Fact::COUNT],
    pub offset: Option<u64>,
    /// The message in the scratch.
    pub message: Option<Copied>,
    /// Why this is no record of ours, if it is none.
    pub refused: Option<DeadReason>,
}

impl Found {
    #[inline]
    pub fn see(&mut self, bits: u32) -> Result<(), DeadReason> {
        if self.seen & bits != 0 {
            return Err(DeadReason::DuplicateKey);
        }
        self.seen |= bits;
        Ok(())
    }

    /// A text that is kept; whether it makes the record another's is judged here, once for each that is new.
    pub fn text(&mut self, fact: Fact, scanner: &mut Scanner<'_>) -> Result<(), DeadReason> {
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
    pub fn judge(&self) -> Result<(), DeadReason> {
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

    pub fn origin<'a>(&self, record: &'a [u8]) -> Origin<'a> {
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
