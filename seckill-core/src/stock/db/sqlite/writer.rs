//! The one thread that writes: it takes what waits in a bounded queue, runs it as one transaction, and
//! answers only after the commit. Of stock it knows that a transaction's decisions share a ledger, to be settled
//! before anything else looks.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::SqliteStoreOptions;
use super::connect;
use super::fault::Fault;
use super::ledger::Ledger;
use crate::stock::db::metrics::{COMMIT_SECONDS, FAILED_GROUPS, GROUP_SIZE, OVERLOADED};
use crate::stock::store::StoreError;

/// A command on its way through the writer. It may run twice: if a neighbour's fault rolls the first
/// transaction back, every command runs again in a second one, each behind its own savepoint.
trait Job: Send {
    /// How much of a group it fills.
    fn weight(&self) -> usize;
    /// Runs it and keeps its answer for after the commit.
    fn run(&mut self, tx: &Connection, ledger: &mut Ledger) -> Result<(), Fault>;
    /// Its own fault: this is its answer whatever becomes of the group.
    fn fail(&mut self, fault: Fault);
    /// Sends the answer: what it kept if the group was committed, else the group's error.
    fn answer(self: Box<Self>, group: Result<(), StoreError>);
}

struct Task<T, F> {
    work: F,
    weight: usize,
    outcome: Option<Result<T, StoreError>>,
    committed: fn(&T),
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, F: FnMut(&Connection, &mut Ledger) -> Result<T, Fault> + Send> Job for Task<T, F> {
    fn weight(&self) -> usize {
        self.weight
    }
    fn run(&mut self, tx: &Connection, ledger: &mut Ledger) -> Result<(), Fault> {
        self.outcome = Some(Ok((self.work)(tx, ledger)?));
        Ok(())
    }
    fn fail(&mut self, fault: Fault) {
        self.outcome = Some(Err(fault.into()));
    }
    fn answer(self: Box<Self>, group: Result<(), StoreError>) {
        let task = *self;
        let answer = match (group, task.outcome) {
            (Ok(()), Some(outcome)) => outcome,
            (Ok(()), None) => Err(StoreError::Unavailable("the command was not run".into())),
            (Err(e), _) => Err(e),
        };
        if let Ok(value) = &answer {
            (task.committed)(value);
        }
        // A caller that has gone away reads the result back by its key.
        let _gone = task.reply.send(answer);
    }
}

/// The handle to the writer thread.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Option<mpsc::SyncSender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Opens the write connection and starts the thread.
    pub(super) fn start(path: &Path, options: &SqliteStoreOptions) -> Result<Self, StoreError> {
        let db = connect::writer(path, options)?;
        let (jobs, waiting) = mpsc::sync_channel(options.queue);
        let desk = Desk { path: path.to_owned(), options: options.clone(), db: Some(db) };
        let thread = std::thread::Builder::new()
            .name("stock-writer".into())
            .spawn(move || desk.work(waiting))
            .map_err(|e| StoreError::Unavailable(format!("cannot start the writer thread: {e}")))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs a command that counts as one.
    pub(super) async fn call<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        self.run(1, |_| (), work).await
    }

    /// Runs a command in a transaction that it may share and returns after the commit. `work` may be run
    /// twice; `committed` sees the answer once. A full queue is `Overloaded`.
    pub(super) async fn run<T, F>(&self, weight: usize, committed: fn(&T), mut work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        // It looks at the rows themselves, so what its neighbours have counted is written first.
        let settled = move |tx: &Connection, ledger: &mut Ledger| {
            ledger.settle(tx)?;
            work(tx)
        };
        self.run_with_ledger(weight, committed, settled).await
    }

    /// As [`Writer::run`], for a command that counts in the transaction's ledger.
    pub(super) async fn run_with_ledger<T, F>(&self, weight: usize, committed: fn(&T), work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&Connection, &mut Ledger) -> Result<T, Fault> + Send + 'static,
    {
        let stopped = || StoreError::Unavailable("the writer has stopped".into());
        let (reply, answer) = oneshot::channel();
        let task = Task { work, weight: weight.max(1), outcome: None, committed, reply };
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        jobs.try_send(Box::new(task)).map_err(|e| match e {
            mpsc::TrySendError::Full(_) => {
                metrics::counter!(OVERLOADED).increment(1);
                StoreError::Overloaded
            }
            mpsc::TrySendError::Disconnected(_) => stopped(),
        })?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Drop for Writer {
    /// Lets the thread finish what was queued: short, since the queue is bounded.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the stock writer had panicked");
        }
    }
}

/// The thread's own state.
struct Desk {
    path: PathBuf,
    options: SqliteStoreOptions,
    /// `None` after a failure that left the connection in doubt; opened again for the next group.
    db: Option<Connection>,
}

impl Desk {
    fn work(mut self, waiting: mpsc::Receiver<Box<dyn Job>>) {
        let mut expected = 1;
        while let Ok(first) = waiting.recv() {
            let (mut group, weight) = self.gather(first, &waiting, expected);
            expected = group.len();
            let begun = Instant::now();
            let end = self.commit(&mut group);
            metrics::histogram!(COMMIT_SECONDS).record(begun.elapsed().as_secs_f64());
            metrics::histogram!(GROUP_SIZE).record(f64::from(u32::try_from(weight).unwrap_or(u32::MAX)));
            for job in group {
                job.answer(end.clone());
            }
        }
    }

    /// The first command and what waits behind it. While the group is smaller than the last one, it lingers:
    /// the callers that were just answered are about to ask again, and would else wait for a whole commit.
    /// A lone caller never waits.
    fn gather(
        &self,
        first: Box<dyn Job>,
        waiting: &mpsc::Receiver<Box<dyn Job>>,
        expected: usize,
    ) -> (Vec<Box<dyn Job>>, usize) {
        let mut weight = first.weight();
        let mut group = vec![first];
        let until = Instant::now() + self.options.linger;
        while weight < self.options.group {
            let left = until.saturating_duration_since(Instant::now());
            let next = match waiting.try_recv() {
                Err(mpsc::TryRecvError::Empty) if group.len() < expected && !left.is_zero() => {
                    waiting.recv_timeout(left).ok()
                }
                other => other.ok(),
            };
            let Some(next) = next else { break };
            weight = weight.saturating_add(next.weight());
            group.push(next);
        }
        (group, weight)
    }

    /// One transaction for all; a second one with savepoints if one command's own fault broke the first.
    fn commit(&mut self, group: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        let Err(fault) = self.transact(group, false) else { return Ok(()) };
        let fault = if fault.is_own() {
            metrics::counter!(FAILED_GROUPS, "why" => "isolated").increment(1);
            match self.transact(group, true) {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            }
        } else {
            fault
        };
        metrics::counter!(FAILED_GROUPS, "why" => "unavailable").increment(1);
        tracing::error!(commands = group.len(), error = %fault, "a stock transaction failed");
        if self.db.as_ref().is_some_and(|db| !db.is_autocommit()) {
            self.db = None;
        }
        Err(StoreError::Unavailable(fault.to_string()))
    }

    fn transact(&mut self, group: &mut [Box<dyn Job>], isolated: bool) -> Result<(), Fault> {
        let db = match &mut self.db {
            Some(db) => db,
            none => none.insert(connect::writer(&self.path, &self.options)?),
        };
        // IMMEDIATE: the lock comes first, so that nothing read here can change before the commit.
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut ledger = Ledger::default();
        for job in group {
            if isolated {
                run_alone(&tx, job.as_mut())?;
            } else {
                job.run(&tx, &mut ledger)?;
            }
        }
        ledger.settle(&tx)?;
        Ok(tx.commit()?)
    }
}

fn run_alone(tx: &Connection, job: &mut dyn Job) -> Result<(), Fault> {
    tx.execute_batch("SAVEPOINT one")?;
    let mut ledger = Ledger::default();
    match job.run(tx, &mut ledger).and_then(|()| ledger.settle(tx)) {
        Ok(()) => Ok(tx.execute_batch("RELEASE one")?),
        Err(fault) if fault.is_own() => {
            tx.execute_batch("ROLLBACK TO one; RELEASE one")?;
            tracing::error!(error = %fault, "a stock command contradicts the data and was left out");
            job.fail(fault);
            Ok(())
        }
        Err(fault) => Err(fault),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn open(group: usize) -> (tempfile::TempDir, Writer) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("t.db");
        let options = SqliteStoreOptions { group, queue: 4, ..SqliteStoreOptions::default() };
        connect::prepare(&path, &options).unwrap();
        let writer = Writer::start(&path, &options).unwrap();
        (place, writer)
    }

    /// Holds the writer until told to go on, so that what follows forms one group.
    async fn gate(writer: &Writer) -> (std::sync::mpsc::Sender<()>, impl Future<Output = Result<(), StoreError>>) {
        let (go, held) = std::sync::mpsc::channel::<()>();
        let (started, has_started) = oneshot::channel();
        let mut started = Some(started);
        let call = writer.call(move |_| {
            if let Some(started) = started.take() {
                let _ = started.send(());
            }
            let _ = held.recv();
            Ok(())
        });
        let mut call = Box::pin(call);
        tokio::select! { _ = &mut call => unreachable!("it is held"), r = has_started => r.unwrap() }
        (go, call)
    }

    #[tokio::test]
    async fn one_bad_command_never_fails_its_neighbours() {
        let (_place, writer) = open(100);
        let (go, first) = gate(&writer).await;
        let put = |key: &'static str| {
            writer.call(move |tx| Ok(tx.execute("INSERT INTO meta (key, value) VALUES (?1, 'x')", [key])?))
        };
        let (a, b, c) = (put("a"), put("a"), put("c"));
        let all = async { tokio::join!(a, b, c) };
        let release = async move {
            tokio::task::yield_now().await;
            go.send(()).unwrap();
        };
        let (gate_end, (a, b, c), ()) = tokio::join!(first, all, release);
        gate_end.unwrap();
        assert_eq!(a.unwrap(), 1);
        assert!(matches!(b, Err(StoreError::Corrupt(_))), "{b:?}");
        assert_eq!(c.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_full_queue_is_said_at_once() {
        let (_place, writer) = open(1);
        let (go, first) = gate(&writer).await;
        let calls: Vec<_> = (0..4).map(|_| Box::pin(writer.call(|_| Ok(())))).collect();
        let mut waiting = futures::future::join_all(calls);
        assert!(futures::poll!(&mut waiting).is_pending());
        assert!(matches!(writer.call(|_| Ok(())).await, Err(StoreError::Overloaded)));
        go.send(()).unwrap();
        first.await.unwrap();
        assert!(waiting.await.iter().all(Result::is_ok), "what was queued is still done");
    }

    #[tokio::test]
    async fn a_full_disk_fails_the_group_and_nothing_of_it_stays() {
        let (_place, writer) = open(100);
        writer
            .call(|tx| {
                let pages: i64 = tx.query_row("PRAGMA page_count", [], |row| row.get(0))?;
                Ok(tx.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?)
            })
            .await
            .unwrap();
        let (go, first) = gate(&writer).await;
        let small = writer.call(|tx| Ok(tx.execute("INSERT INTO meta VALUES ('small', 'x')", [])?));
        let big = writer.call(|tx| Ok(tx.execute("INSERT INTO meta VALUES ('big', zeroblob(1000000))", [])?));
        let release = async move {
            tokio::task::yield_now().await;
            go.send(()).unwrap();
        };
        let (_, small, big, ()) = tokio::join!(first, small, big, release);
        for end in [small, big] {
            assert!(matches!(end, Err(StoreError::Unavailable(_))), "{end:?}");
        }
        let rows: i64 = writer
            .call(|tx| {
                tx.query_row("PRAGMA max_page_count = 1000000", [], |_| Ok(()))?;
                Ok(tx.query_row("SELECT COUNT(*) FROM meta WHERE key IN ('small', 'big')", [], |row| row.get(0))?)
            })
            .await
            .unwrap();
        assert_eq!(rows, 0);
        let again = writer.call(|tx| Ok(tx.execute("INSERT INTO meta VALUES ('big', zeroblob(1000000))", [])?));
        assert_eq!(again.await.unwrap(), 1, "and with room it goes on");
    }

    #[tokio::test]
    async fn a_locked_file_makes_the_group_unavailable_and_the_next_one_works() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("t.db");
        let options = SqliteStoreOptions { busy_timeout: std::time::Duration::ZERO, ..SqliteStoreOptions::default() };
        connect::prepare(&path, &options).unwrap();
        let writer = Writer::start(&path, &options).unwrap();
        let thief = Connection::open(&path).unwrap();
        thief.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(matches!(writer.call(|_| Ok(())).await, Err(StoreError::Unavailable(_))));
        thief.execute_batch("ROLLBACK").unwrap();
        assert!(writer.call(|_| Ok(())).await.is_ok());
    }
}
