//! What clients saw, in the auditor's format, one file for each thread. Written in large pieces and synced at the
//! end: the generator is not what is killed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

/// Bytes held back: about 4,000 entries.
const HELD: usize = 1 << 20;

/// What a client understood, as the auditor names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Told {
    Accepted,
    Queued,
    SoldOut,
    AllReserved,
    Limit,
    Refused,
    Error,
}

/// One answer. Times are milliseconds since the epoch.
#[derive(Serialize)]
pub(super) struct Entry<'a> {
    pub(super) t: i64,
    pub(super) sent: i64,
    pub(super) buyer: &'a str,
    pub(super) key: &'a str,
    pub(super) product: &'a str,
    pub(super) quantity: u32,
    pub(super) status: u16,
    pub(super) outcome: Told,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) order: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ticket_deadline: Option<i64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) bound: bool,
}

/// A journal that is being written.
pub(super) struct Journal {
    file: File,
    held: Vec<u8>,
}

impl Journal {
    /// A new file; one that is there is another run's and is not continued.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create_new(true).append(true).open(path)?;
        Ok(Self { file, held: Vec::with_capacity(HELD + 1024) })
    }

    pub(super) fn note(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        serde_json::to_writer(&mut self.held, entry)?;
        self.held.push(b'\n');
        if self.held.len() >= HELD {
            self.write_out()?;
        }
        Ok(())
    }

    fn write_out(&mut self) -> io::Result<()> {
        self.file.write_all(&self.held)?;
        self.held.clear();
        Ok(())
    }

    pub(super) fn close(mut self) -> io::Result<()> {
        self.write_out()?;
        self.file.sync_data()
    }
}
