//! What simulated shoppers wrote down about the answers they got: JSON lines, append-only, one file per run.
//! Reads only; a torn last line (the writer was killed) is counted and skipped, any other defect is an error.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::AuditError;

/// What a shopper understood from one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// An order was accepted.
    Accepted,
    /// A ticket: a definite answer follows before its deadline.
    Queued,
    /// Nothing left.
    SoldOut,
    /// Nothing left, but unpaid orders may give units back.
    AllReserved,
    /// The buyer's limit.
    Limit,
    /// Any other refusal (425, 429, 503, a ticket that ended at its deadline, a closed sale).
    Refused,
    /// No answer, or one that makes no sense.
    Error,
}

/// One answer as one shopper saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When the answer was read, in milliseconds since the Unix epoch.
    pub t: i64,
    /// When the request was sent, if noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<i64>,
    /// Who.
    pub buyer: String,
    /// His name for the attempt.
    pub key: String,
    /// Of which product.
    pub product: String,
    /// How many units he asked for.
    pub quantity: u64,
    /// HTTP status; 0 for no answer.
    pub status: u16,
    /// What it meant.
    pub outcome: Told,
    /// The order he was told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// Until when a ticket promises its end, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket_deadline: Option<i64>,
    /// The answer came from the ticket's own address: it is a decision, which binds for ever.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bound: bool,
}

impl Entry {
    /// Whether this answer ends the attempt (a refusal at the door does not bind the key, but it ends a try).
    pub fn is_end(&self) -> bool {
        !matches!(self.outcome, Told::Queued | Told::Error)
    }
}

/// The entries of a journal.
#[derive(Debug, Default)]
pub struct Journal {
    /// In the order in which they were written.
    pub entries: Vec<Entry>,
    /// 1 if the last line was torn.
    pub torn: u64,
}

/// Reads one journal whole.
pub fn read(path: &Path) -> Result<Journal, AuditError> {
    let io = |source| AuditError::File { path: path.to_owned(), source };
    let mut reader = BufReader::new(File::open(path).map_err(io)?);
    let mut journal = Journal::default();
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes).map_err(io)? == 0 {
            break;
        }
        if bytes.last() != Some(&b'\n') {
            // Only the end of a file can lack its line end: whoever wrote it was killed, or is writing now.
            journal.torn += 1;
            break;
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let entry = serde_json::from_slice(&bytes).map_err(|e| AuditError::Journal {
            path: path.to_owned(),
            line,
            why: e.to_string(),
        })?;
        journal.entries.push(entry);
    }
    Ok(journal)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GOOD: &str =
        r#"{"t":5,"buyer":"b","key":"k","product":"p","quantity":1,"status":201,"outcome":"accepted","order":"o"}"#;

    #[test]
    fn a_torn_end_is_counted_and_a_broken_middle_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        std::fs::write(&path, format!("{GOOD}\n{}", &GOOD[..30])).unwrap();
        let journal = read(&path).unwrap();
        assert_eq!((journal.entries.len(), journal.torn), (1, 1));
        assert_eq!(journal.entries[0].outcome, Told::Accepted);

        std::fs::write(&path, format!("{}\n{GOOD}\n", &GOOD[..30])).unwrap();
        assert!(matches!(read(&path), Err(AuditError::Journal { line: 1, .. })));
        assert!(matches!(read(&folder.path().join("absent")), Err(AuditError::File { .. })));
    }
}
