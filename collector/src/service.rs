//! The service: reads, publishes, commits, one chunk after the other. It must never commit what was not
//! published, nor read on before it has committed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventlog::{EventLog, EventLogError};
use tokio::sync::watch;
use tokio::task::{JoinError, spawn_blocking};
use tokio_util::sync::CancellationToken;
use types::codec::CodecError;
use types::{Clock, Invalid};

use crate::account::Accounting;
use crate::decoder::Decoder;
use crate::handle::{Handle, Snapshot};
use crate::metrics;
use crate::options::Options;
use crate::publish::Publisher;
use crate::store::{Store, StoreError};
use crate::tail::{Chunk, Tail};

/// First and longest real pause between attempts. There is no last attempt: meanwhile the lines wait in
/// their files, and the lag is seen.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why the collector could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option is wrong.
    #[error(transparent)]
    Options(#[from] Invalid),
    /// Its own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The event log refused.
    #[error(transparent)]
    Log(#[from] EventLogError),
    /// A batch could not be encoded.
    #[error("events cannot be encoded: {0}")]
    Encode(#[from] product_events::EncodeError),
    /// Notes of dead letters could not be encoded.
    #[error("dead letters cannot be encoded: {0}")]
    EncodeDead(#[from] CodecError),
    /// A worker thread crashed.
    #[error("the collector's worker crashed: {0}")]
    Crashed(#[from] JoinError),
}

impl Error {
    /// Whether the same call may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.retryable(),
            Self::Log(error) => error.retryable(),
            Self::Options(_) | Self::Encode(_) | Self::EncodeDead(_) | Self::Crashed(_) => false,
        }
    }
}

/// The collector, ready to run.
pub struct Collector {
    tail: Tail,
    store: Arc<Store>,
    publisher: Publisher,
    clock: Arc<dyn Clock>,
    poll: Duration,
    snapshot: watch::Sender<Snapshot>,
}

/// How an effort that may be repeated ended.
enum Ended {
    Done,
    /// Shutdown came first; what was in flight will be read again.
    Stopped,
}

impl Collector {
    /// Opens the state folder, makes sure of the topics and finds where to read on. Starts nothing.
    pub async fn new(options: Options, log: Arc<dyn EventLog>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        options.check()?;
        if options.visitor_key.is_empty() {
            return Err(Invalid::new("visitor_key", "is missing; visitors are only stored as keyed hashes").into());
        }
        let decoder = Arc::new(Decoder::keyed(&options.classifier, &options.visitor_key)?);
        let publisher = Publisher::new(log, Arc::clone(&clock), options.partitions).await?;
        let poll = options.poll;
        let worker_clock = Arc::clone(&clock);
        let (store, tail, books) = spawn_blocking(move || {
            let store = Arc::new(Store::open(&options.state_dir)?);
            let mut paths = Vec::with_capacity(options.paths.len());
            for path in &options.paths {
                // Progress must be found again from whatever folder the program is started in.
                let absolute = std::path::absolute(path)
                    .map_err(|e| Invalid::new("paths", format!("{} has no absolute form: {e}", path.display())))?;
                paths.push(absolute);
            }
            let tail = Tail::open(paths, options.from_start, Arc::clone(&store), decoder, worker_clock)?;
            let books = store.accounting()?;
            Ok::<_, Error>((store, tail, books))
        })
        .await??;
        let (snapshot, _) = watch::channel(Snapshot { books, files: tail.status(), idle: false });
        Ok(Self { tail, store, publisher, clock, poll, snapshot })
    }

    /// A view of this collector.
    pub fn handle(&self) -> Handle {
        Handle::new(self.snapshot.subscribe(), &self.store)
    }

    /// Follows the logs until `shutdown`; the chunk in flight is finished first.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        tracing::info!(logs = self.snapshot.borrow().files.len(), "collector started");
        let mut pause = FIRST_PAUSE;
        while !shutdown.is_cancelled() {
            let mut tail = self.tail;
            let (back, next) = spawn_blocking(move || {
                let next = tail.next_chunk();
                (tail, next)
            })
            .await?;
            self.tail = back;
            let wait = match next {
                Ok(Some(chunk)) => match self.deliver(chunk, &shutdown).await? {
                    Ended::Done => {
                        pause = FIRST_PAUSE;
                        continue;
                    }
                    Ended::Stopped => break,
                },
                Ok(None) => {
                    pause = FIRST_PAUSE;
                    self.show(None);
                    self.poll
                }
                Err(error) if error.retryable() => next_pause(&mut pause, &error),
                Err(error) => return Err(error.into()),
            };
            if matches!(rest(wait, &shutdown).await, Ended::Stopped) {
                break;
            }
        }
        tracing::info!("collector stopped");
        Ok(())
    }

    /// Publishes a chunk, then commits it.
    async fn deliver(&self, chunk: Box<Chunk>, shutdown: &CancellationToken) -> Result<Ended, Error> {
        let started = Instant::now();
        let mut parcel = self.publisher.pack(&chunk)?;
        let mut pause = FIRST_PAUSE;
        while let Err(error) = self.publisher.send(&mut parcel).await {
            if !error.retryable() {
                return Err(error.into());
            }
            if matches!(rest(next_pause(&mut pause, &error), shutdown).await, Ended::Stopped) {
                return Ok(Ended::Stopped);
            }
        }
        let before = self.snapshot.borrow().books.clone();
        let dropped_before = before.dead_letters_dropped;
        let chunk: Arc<Chunk> = Arc::from(chunk);
        let books = loop {
            let (store, work, now) = (Arc::clone(&self.store), Arc::clone(&chunk), self.clock.now());
            let books = before.clone().plus(&chunk.tally);
            match spawn_blocking(move || store.commit(&work.checkpoint, &work.source, &work.dead, books, now)).await? {
                Ok(books) => break books,
                Err(error) if error.retryable() => {
                    if matches!(rest(next_pause(&mut pause, &error), shutdown).await, Ended::Stopped) {
                        return Ok(Ended::Stopped);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        };
        metrics::committed(&chunk.tally, books.dead_letters_dropped - dropped_before, started.elapsed());
        self.show(Some(books));
        Ok(Ended::Done)
    }

    /// Shows new books, or that there was nothing to do.
    fn show(&self, books: Option<Accounting>) {
        let files = self.tail.status();
        metrics::behind(files.iter().map(|file| file.behind).sum());
        self.snapshot.send_modify(|snapshot| {
            snapshot.idle = books.is_none();
            snapshot.files = files;
            if let Some(books) = books {
                snapshot.books = books;
            }
        });
    }
}

/// The pause before the next attempt, twice the last one; says once, at the first, what is wrong.
fn next_pause(pause: &mut Duration, error: &dyn std::error::Error) -> Duration {
    metrics::retry();
    if *pause == FIRST_PAUSE {
        tracing::warn!(%error, "trying again until it succeeds");
    }
    std::mem::replace(pause, (*pause * 2).min(LONGEST_PAUSE))
}

/// Waits in real time, or until shutdown.
async fn rest(wait: Duration, shutdown: &CancellationToken) -> Ended {
    tokio::select! {
        () = shutdown.cancelled() => Ended::Stopped,
        () = tokio::time::sleep(wait) => Ended::Done,
    }
}
