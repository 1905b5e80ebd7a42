//! Writes the access log as the edge would: one JSON object a line, in the order of their times. One task owns
//! the file; everybody else sends lines. It never rewrites what stands in the file.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use types::{Clock, Timestamp};

/// Lines on their way to the file; a sender waits when it is full, as a server waits for its log.
const QUEUE: usize = 8_192;
/// Longest time, in real milliseconds, that a line stays in memory.
const FLUSH_EVERY: Duration = Duration::from_millis(20);
/// Lines taken from the queue at once.
const BATCH: usize = 1_024;
/// How far back from its end a log is searched for its last whole line.
const TAIL: u64 = 64 * 1024;

/// One request as the edge saw it; the time is added when the line is written.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Request {
    /// Client address.
    pub remote_addr: String,
    /// HTTP method.
    pub method: &'static str,
    /// Path and query. Never a ticket or a token.
    pub uri: String,
    /// Status of the answer.
    pub status: u16,
    /// Bytes of the answer.
    pub bytes: u64,
    /// Seconds the whole request took.
    pub request_time: f64,
    /// Status of the server behind the edge, if it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_status: Option<u16>,
    /// Seconds the server behind the edge took, if it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_time: Option<f64>,
    /// The request's id.
    pub request_id: String,
    /// Keyed hash of the visitor.
    pub visitor: String,
    /// Keyed hash of the buyer, empty if not logged in.
    pub buyer: String,
    /// Where from.
    pub referer: &'static str,
    /// What the client calls itself.
    pub user_agent: &'static str,
    /// The product asked for, empty if none.
    pub product: String,
}

#[derive(Serialize)]
struct Line<'a> {
    time: Timestamp,
    #[serde(flatten)]
    request: &'a Request,
}

pub(super) enum Item {
    Request(Box<Request>),
    Garbage(Vec<u8>),
}

/// The sending half; cheap to clone. The writer ends when the last one is gone.
#[derive(Clone)]
pub struct AccessLog {
    sender: mpsc::Sender<Item>,
    lines: Arc<AtomicU64>,
    behind_edge: bool,
}

impl AccessLog {
    /// A log that a real edge writes by itself: what is sent here are visits to be made.
    pub(super) fn of_edge() -> (Self, mpsc::Receiver<Item>, Arc<AtomicU64>) {
        let (sender, items) = mpsc::channel(QUEUE);
        let lines = Arc::new(AtomicU64::new(0));
        (Self { sender, lines: lines.clone(), behind_edge: true }, items, lines)
    }
    /// Whether a real edge writes the log.
    pub const fn behind_edge(&self) -> bool {
        self.behind_edge
    }
    /// A call that was made: written, unless the edge has done so already.
    pub async fn call_made(&self, request: Request) {
        if self.behind_edge {
            self.lines.fetch_add(1, Ordering::Relaxed);
        } else {
            self.request(request).await;
        }
    }
    /// Writes one request; waits for room. Lines after the writer's end are lost, as the requests' log would be.
    pub async fn request(&self, request: Request) {
        let _ended = self.sender.send(Item::Request(Box::new(request))).await;
    }
    /// Writes bytes that are no log line, as a torn write or a foreign program leaves them. No line end inside.
    pub async fn garbage(&self, bytes: Vec<u8>) {
        let _ended = self.sender.send(Item::Garbage(bytes)).await;
    }
    /// Lines written so far; does not keep the writer running.
    pub fn count(&self) -> LineCount {
        LineCount(self.lines.clone())
    }
}

/// Counts the lines that one run has put into the file, garbage included.
#[derive(Debug, Clone)]
pub struct LineCount(Arc<AtomicU64>);

impl LineCount {
    /// Lines so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The owner of the file.
pub struct AccessLogWriter {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    items: mpsc::Receiver<Item>,
    lines: Arc<AtomicU64>,
}

/// A log at `path` (made if absent, appended to if there) and its writer, which must be run.
pub fn open(path: &Path, clock: Arc<dyn Clock>) -> (AccessLog, AccessLogWriter) {
    let (sender, items) = mpsc::channel(QUEUE);
    let lines = Arc::new(AtomicU64::new(0));
    let writer = AccessLogWriter { path: path.to_owned(), clock, items, lines: lines.clone() };
    (AccessLog { sender, lines, behind_edge: false }, writer)
}

/// The time of the last whole line in a log; `None` if there is no log or no such line. A clock for another run
/// on the same log must not start before it.
pub fn last_time(path: &Path) -> Result<Option<Timestamp>> {
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("cannot open {}", path.display())),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;

    #[derive(Deserialize)]
    struct Timed {
        time: Timestamp,
    }
    Ok(tail.split(|b| *b == b'\n').rev().find_map(|line| serde_json::from_slice::<Timed>(line).ok()).map(|l| l.time))
}

impl AccessLogWriter {
    /// Writes until the last sender is gone; what was sent is in the file when this returns.
    pub async fn run(mut self) -> Result<()> {
        let path = self.path.clone();
        let failed = || format!("cannot write the access log {}", path.display());
        // Times in the file never go back, not even behind an earlier run's.
        let mut newest = last_time(&self.path)?.unwrap_or_default();
        let mut file =
            tokio::fs::OpenOptions::new().create(true).append(true).open(&self.path).await.with_context(failed)?;
        let mut buffer = Vec::with_capacity(BATCH * 512);
        if ends_in_half_a_line(&self.path)? {
            // A killed run left half a line: it ends here, and the next one is whole.
            buffer.push(b'\n');
        }
        let mut batch = Vec::with_capacity(BATCH);
        while self.items.recv_many(&mut batch, BATCH).await > 0 {
            let count = batch.len() as u64;
            newest = newest.max(self.clock.now());
            for item in batch.drain(..) {
                match item {
                    Item::Request(request) => {
                        serde_json::to_writer(&mut buffer, &Line { time: newest, request: &request })?;
                    }
                    Item::Garbage(bytes) => buffer.extend(bytes.into_iter().filter(|b| *b != b'\n')),
                }
                buffer.push(b'\n');
            }
            // Whole lines in one call: a reader sees half a line only when the system tears a write.
            file.write_all(&buffer).await.with_context(failed)?;
            file.flush().await.with_context(failed)?;
            buffer.clear();
            self.lines.fetch_add(count, Ordering::Relaxed);
            if count < BATCH as u64 && !self.items.is_closed() {
                // Let lines gather, so that a write carries many of them.
                tokio::time::sleep(FLUSH_EVERY / 4).await;
            }
        }
        Ok(())
    }
}

fn ends_in_half_a_line(path: &Path) -> Result<bool> {
    let mut file = std::fs::File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last[0] != b'\n')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use types::ManualClock;

    use super::*;

    fn view(page: &str) -> Request {
        Request { method: "GET", uri: format!("/product/{page}"), status: 200, ..Request::default() }
    }

    #[tokio::test]
    async fn times_never_go_back_and_a_torn_line_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_800_000_000)));
        let (log, writer) = open(&path, clock.clone());
        let running = tokio::spawn(writer.run());
        log.request(view("a")).await;
        log.garbage(b"half \n of it".to_vec()).await;
        while log.count().get() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(log);
        running.await.unwrap().unwrap();
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str(r#"{"time":"2027-"#);
        std::fs::write(&path, &text).unwrap();

        // The clock was set back by a year; the log goes on from where it was.
        clock.set(Timestamp::from_seconds(1_770_000_000));
        let (log, writer) = open(&path, clock);
        log.request(view("b")).await;
        drop(log);
        writer.run().await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[1], "half  of it");
        assert_eq!(lines[2], r#"{"time":"2027-"#);
        assert!(lines[3].starts_with(r#"{"time":"2027-01-15T08:00:00.000Z","#), "{}", lines[3]);
        assert!(lines[3].contains(r#""uri":"/product/b""#));
        assert_eq!(last_time(&path).unwrap(), Some(Timestamp::from_seconds(1_800_000_000)));
    }
}
