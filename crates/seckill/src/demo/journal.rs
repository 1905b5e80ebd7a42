//! The shoppers' own journal: what each was told, in the auditor's format, one file per run. Append-only;
//! written and synced batch by batch by one task, so that a killed demo still testifies.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use types::Timestamp;

/// Entries on their way to the file; a shopper waits when it is full, so none is lost.
const QUEUE: usize = 4_096;
/// Entries per sync.
const BATCH: usize = 1_024;
const PREFIX: &str = "shoppers-";
const SUFFIX: &str = ".jsonl";

/// What a shopper understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// An order was accepted.
    Accepted,
    /// A ticket.
    Queued,
    /// Nothing left.
    SoldOut,
    /// Nothing left but unpaid orders.
    AllReserved,
    /// The buyer's limit.
    Limit,
    /// Any other refusal.
    Refused,
    /// No sensible answer.
    Error,
}

impl Told {
    /// The snake_case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Queued => "queued",
            Self::SoldOut => "sold_out",
            Self::AllReserved => "all_reserved",
            Self::Limit => "limit",
            Self::Refused => "refused",
            Self::Error => "error",
        }
    }
    /// Whether the shopper need not ask again.
    pub const fn is_end(self) -> bool {
        !matches!(self, Self::Queued | Self::Error)
    }
}

/// One answer. Times are milliseconds of the demo's clock.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// When the answer was read.
    pub t: i64,
    /// When the request was sent.
    pub sent: i64,
    /// Who.
    pub buyer: String,
    /// The attempt's idempotency key.
    pub key: String,
    /// Of which product.
    pub product: String,
    /// How many.
    pub quantity: u32,
    /// HTTP status; 0 for no answer.
    pub status: u16,
    /// What it meant.
    pub outcome: Told,
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// Until when a ticket promises its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket_deadline: Option<i64>,
    /// The answer came from the ticket's own address.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bound: bool,
}

/// The sending half; the writer ends when the last one is gone.
#[derive(Clone)]
pub struct Journal(mpsc::Sender<Entry>);

impl Journal {
    /// Notes one answer; waits for room.
    pub async fn note(&self, entry: Entry) {
        let _ended = self.0.send(entry).await;
    }
}

/// The owner of the file.
pub struct JournalWriter {
    path: PathBuf,
    entries: mpsc::Receiver<Entry>,
}

/// A new journal at `path` and its writer, which must be run.
pub fn open(path: &Path) -> (Journal, JournalWriter) {
    let (sender, entries) = mpsc::channel(QUEUE);
    (Journal(sender), JournalWriter { path: path.to_owned(), entries })
}

/// The name of a run's journal in `folder`.
pub fn path_of_run(folder: &Path, started: Timestamp) -> PathBuf {
    folder.join(format!("{PREFIX}{}{SUFFIX}", started.millis()))
}

/// Every run's journal in `folder`, oldest first; none if the folder is not there.
pub fn all(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("cannot list {}", folder.display())),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

impl JournalWriter {
    /// Writes until the last sender is gone; what was sent is on disk when this returns.
    pub async fn run(mut self) -> Result<()> {
        let path = self.path.clone();
        let failed = || format!("cannot write the journal {}", path.display());
        // One file per run: an existing one may end in half a line, which must stay its end.
        let mut file =
            tokio::fs::OpenOptions::new().create_new(true).append(true).open(&self.path).await.with_context(failed)?;
        let mut batch = Vec::with_capacity(BATCH);
        let mut buffer = Vec::new();
        while self.entries.recv_many(&mut batch, BATCH).await > 0 {
            for entry in batch.drain(..) {
                serde_json::to_writer(&mut buffer, &entry)?;
                buffer.push(b'\n');
            }
            file.write_all(&buffer).await.with_context(failed)?;
            file.flush().await.with_context(failed)?;
            file.sync_data().await.with_context(failed)?;
            buffer.clear();
        }
        Ok(())
    }
}

/// Attempts of earlier runs that were given a ticket and never an end: the demo was killed meanwhile. Their
/// shoppers ask again, with the same keys.
pub fn unfinished(journals: &[PathBuf]) -> Result<Vec<Entry>> {
    let mut open: HashMap<(String, String), Entry> = HashMap::new();
    let mut ended: HashSet<(String, String)> = HashSet::new();
    for path in journals {
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        for line in text.split(|b| *b == b'\n') {
            // Half a line is what a killed run leaves; the auditor judges anything worse.
            let Ok(entry) = serde_json::from_slice::<Entry>(line) else { continue };
            let name = (entry.buyer.clone(), entry.key.clone());
            if entry.outcome == Told::Accepted || (entry.bound && entry.outcome.is_end()) {
                open.remove(&name);
                ended.insert(name);
            } else if entry.outcome == Told::Queued && !ended.contains(&name) {
                open.insert(name, entry);
            }
        }
    }
    let mut open: Vec<Entry> = open.into_values().collect();
    open.sort_by(|a, b| (a.t, &a.key).cmp(&(b.t, &b.key)));
    Ok(open)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn entry(key: &str, outcome: Told) -> Entry {
        Entry {
            t: 2,
            sent: 1,
            buyer: "b".to_owned(),
            key: key.to_owned(),
            product: "p".to_owned(),
            quantity: 1,
            status: 202,
            outcome,
            order: None,
            ticket_deadline: Some(9),
            bound: false,
        }
    }

    #[tokio::test]
    async fn the_auditor_reads_it_and_a_later_run_finds_what_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_of_run(folder.path(), Timestamp::from_seconds(1));
        let (journal, writer) = open(&path);
        for e in [entry("a", Told::Queued), entry("b", Told::Queued), entry("a", Told::Accepted)] {
            journal.note(e).await;
        }
        drop(journal);
        writer.run().await.unwrap();
        let paths = all(folder.path()).unwrap();
        assert_eq!(paths, std::slice::from_ref(&path));
        assert_eq!(audit::journal::read(&path).unwrap().entries.len(), 3);
        let open_ones = unfinished(&paths).unwrap();
        assert_eq!(open_ones.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["b"]);
        let (_journal, again) = open(&path);
        assert!(again.run().await.is_err(), "a journal is never continued by another run");
    }
}
