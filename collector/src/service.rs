//! The service: reads, publishes, commits, one load after the other, from files and from the event log in turn.
//! It must never commit what was not published, nor read on before it has committed: that is the back-pressure.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use eventlog::{EventLog, EventLogError};
use http_kit::Listening;
use tokio::sync::watch;
use tokio::task::{JoinError, spawn_blocking};
use tokio_util::sync::CancellationToken;
use types::codec::CodecError;
use types::{Clock, Invalid};

use crate::account::Accounting;
use crate::batch::{Batch, Recipe};
use crate::decode::log_format::Format;
use crate::decoder::Decoder;
use crate::handle::{Handle, Snapshot};
use crate::http;
use crate::metrics;
use crate::options::Options;
use crate::publish::Publisher;
use crate::source::{PartitionStatus, TopicSource};
use crate::store::{Progress, Store, StoreError};
use crate::tail::{Tail, TailOptions};

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
    /// The private listener.
    #[error(transparent)]
    Listen(#[from] std::io::Error),
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
            Self::Options(_) | Self::Encode(_) | Self::EncodeDead(_) | Self::Listen(_) | Self::Crashed(_) => false,
        }
    }
}

/// The collector, ready to run.
pub struct Collector {
    tail: Option<Tail>,
    topic: Option<TopicSource>,
    store: Arc<Store>,
    publisher: Publisher,
    clock: Arc<dyn Clock>,
    poll: Duration,
    snapshot: watch::Sender<Snapshot>,
    listener: Option<(Listening, Router)>,
}

/// How an effort that may be repeated ended.
enum Ended {
    Done,
    /// Shutdown came first; what was in flight will be read again.
    Stopped,
}

/// What a look at a source brought.
enum Turn {
    Worked,
    /// Nothing was there. `true` if the source itself has waited for it.
    Nothing(bool),
    Stopped,
}

impl Collector {
    /// Opens the state folder, makes sure of the topics and finds where to read on. Starts nothing.
    pub async fn new(options: Options, log: Arc<dyn EventLog>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        options.check()?;
        if options.visitor_key.is_empty() {
            return Err(Invalid::new("visitor_key", "is missing; visitors are only stored as keyed hashes").into());
        }
        let decoder =
            Arc::new(Decoder::of(Format::parse(&options.log_format)?, &options.classifier, &options.visitor_key)?);
        let publisher =
            Publisher::new(Arc::clone(&log), Arc::clone(&clock), options.partitions, options.encoding).await?;
        let (poll, kind, from_start) = (options.poll, options.source, options.from_start);
        let group = options.group.clone();
        let recipe = Recipe { decoder, partitions: options.partitions, encoding: options.encoding };
        let (worker_clock, worker_recipe) = (Arc::clone(&clock), recipe.clone());
        let (store, tail, books) = spawn_blocking(move || {
            let store = Arc::new(Store::open(&options.state_dir, worker_clock.now())?);
            let books = store.accounting()?;
            if !kind.files() {
                return Ok((store, None, books));
            }
            // Progress must be found again from whatever folder the program is started in.
            let absolute = |paths: &[PathBuf]| {
                let absolute = |path: &PathBuf| {
                    std::path::absolute(path)
                        .map_err(|e| Invalid::new("paths", format!("{} has no absolute form: {e}", path.display())))
                };
                paths.iter().map(absolute).collect::<Result<Vec<_>, _>>()
            };
            let tail = TailOptions {
                paths: absolute(&options.paths)?,
                exclude: absolute(&options.exclude)?,
                from_start: options.from_start,
                poll: options.poll,
                watch: options.watch,
            };
            let tail = Tail::open(tail, Arc::clone(&store), &worker_recipe, worker_clock)?;
            Ok::<_, Error>((store, Some(tail), books))
        })
        .await??;
        let topic = if kind.access_log() {
            let (store, clock) = (Arc::clone(&store), Arc::clone(&clock));
            Some(TopicSource::join(log, &group, from_start, recipe, store, clock).await?)
        } else {
            None
        };
        let files = tail.as_ref().map_or_else(Vec::new, Tail::status);
        let (snapshot, _) = watch::channel(Snapshot { books, files, partitions: Vec::new(), idle: false });
        Ok(Self { tail, topic, store, publisher, clock, poll, snapshot, listener: None })
    }

    /// Binds the private listener of a collector that is a process of its own: `/healthz`, `/readyz`,
    /// `/v1/accounting`, and what `telemetry` brings (`/metrics`). Answers the address really bound; it is served
    /// by [`Self::run`].
    pub async fn listen(&mut self, address: SocketAddr, telemetry: Router) -> Result<SocketAddr, Error> {
        let listening = http_kit::bind(address).await?;
        let address = listening.address();
        self.listener = Some((listening, http::router(self.handle(), telemetry)));
        Ok(address)
    }

    /// A view of this collector.
    pub fn handle(&self) -> Handle {
        Handle::new(self.snapshot.subscribe(), &self.store)
    }

    /// Follows the logs until `shutdown`; the batch in flight is finished first.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        let serving = self
            .listener
            .take()
            .map(|(listening, router)| tokio::spawn(listening.serve(router, shutdown.clone().cancelled_owned())));
        let logs = self.snapshot.borrow().files.len();
        tracing::info!(logs, access_log = self.topic.is_some(), "collector started");
        let ended = self.follow(&shutdown).await;
        tracing::info!("collector stopped");
        if let Some(serving) = serving {
            // Without this service there is nothing to be asked.
            if ended.is_err() {
                serving.abort();
            } else {
                serving.await??;
            }
        }
        ended
    }

    async fn follow(&mut self, shutdown: &CancellationToken) -> Result<(), Error> {
        let mut pause = FIRST_PAUSE;
        while !shutdown.is_cancelled() {
            let turn = match self.turn(shutdown).await {
                Ok(turn) => turn,
                Err(error) if error.retryable() => {
                    if matches!(rest(next_pause(&mut pause, &error), shutdown).await, Ended::Stopped) {
                        break;
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            pause = FIRST_PAUSE;
            match turn {
                Turn::Worked => {}
                Turn::Stopped => break,
                Turn::Nothing(waited) => {
                    self.show(None);
                    let (bell, wait) = self
                        .tail
                        .as_ref()
                        .map_or_else(|| (Arc::default(), self.poll), |tail| (tail.bell(), tail.patience()));
                    let rested = async {
                        tokio::select! {
                            ended = rest(wait, shutdown) => ended,
                            () = bell.notified() => Ended::Done,
                        }
                    };
                    if !waited && matches!(rested.await, Ended::Stopped) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// One load of batches from each source that has one.
    async fn turn(&mut self, shutdown: &CancellationToken) -> Result<Turn, Error> {
        let mut turn = Turn::Nothing(false);
        if let Some(mut tail) = self.tail.take() {
            let (back, next) = spawn_blocking(move || {
                let next = tail.next_load();
                (tail, next)
            })
            .await?;
            self.tail = Some(back);
            let load = next?;
            if !load.is_empty() {
                if matches!(self.deliver(load, shutdown).await?, Ended::Stopped) {
                    return Ok(Turn::Stopped);
                }
                turn = Turn::Worked;
            }
        }
        let Some(topic) = &mut self.topic else { return Ok(turn) };
        // With work in the files the event log is only asked for what is there already.
        let wait = if matches!(turn, Turn::Worked) { Duration::ZERO } else { self.poll };
        let next = tokio::select! {
            next = topic.next_batch(wait) => next?,
            () = shutdown.cancelled() => return Ok(Turn::Stopped),
        };
        let Some(batch) = next else {
            return Ok(if matches!(turn, Turn::Worked) { turn } else { Turn::Nothing(true) });
        };
        let Progress::Partition(progress) = batch.progress.clone() else { return Ok(Turn::Worked) };
        if matches!(self.deliver(vec![*batch], shutdown).await?, Ended::Stopped) {
            return Ok(Turn::Stopped);
        }
        if let Some(topic) = &mut self.topic {
            topic.commit(&progress).await;
        }
        Ok(Turn::Worked)
    }

    /// Publishes the batches, then commits them together.
    async fn deliver(&mut self, mut load: Vec<Batch>, shutdown: &CancellationToken) -> Result<Ended, Error> {
        let started = Instant::now();
        let mut parcel = self.publisher.pack(&mut load)?;
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
        let tally = load.iter().fold(Accounting::default(), |sum, batch| sum.plus(&batch.tally));
        let load = Arc::new(load);
        let books = loop {
            let (store, work, now) = (Arc::clone(&self.store), Arc::clone(&load), self.clock.now());
            let books = before.clone().plus(&tally);
            match spawn_blocking(move || store.commit(&work, books, now)).await? {
                Ok(books) => break books,
                Err(error) if error.retryable() => {
                    if matches!(rest(next_pause(&mut pause, &error), shutdown).await, Ended::Stopped) {
                        return Ok(Ended::Stopped);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        };
        metrics::committed(&tally, books.dead_letters_dropped - dropped_before, started.elapsed());
        self.show(Some(books));
        Ok(Ended::Done)
    }

    /// Shows new books, or that there was nothing to do.
    fn show(&self, books: Option<Accounting>) {
        let files = self.tail.as_ref().map_or_else(Vec::new, Tail::status);
        let partitions = self.topic.as_ref().map_or_else(Vec::new, TopicSource::status);
        metrics::behind(
            files.iter().map(|file| file.behind).sum(),
            partitions.iter().map(PartitionStatus::behind).sum(),
        );
        if let Some(books) = &books {
            metrics::balance(books);
        }
        self.snapshot.send_modify(|snapshot| {
            snapshot.idle = books.is_none();
            snapshot.files = files;
            snapshot.partitions = partitions;
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
