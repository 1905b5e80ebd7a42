//! The one task that writes: it takes what waits in a bounded queue, runs it as one transaction, and answers only
//! after the commit. What fails is tried again where that is right; an answer is never given for a transaction whose
//! end is not known. It knows nothing of stock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::command::{Answer, Command};
use super::fault::{Fault, Remedy};
use super::options::MariaStoreOptions;
use super::work::Desk;
use crate::stock::db::metrics::{COMMIT_SECONDS, FAILED_GROUPS, GROUP_SIZE, OVERLOADED, RETRIES};
use crate::stock::store::StoreError;

/// First wait before another try; it doubles. A deadlock's winner is done within a few milliseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(4);
/// Longest wait between tries: a restarted server is noticed within this.
const LONGEST_PAUSE: Duration = Duration::from_millis(256);

/// A command and who waits for its answer.
#[derive(Debug)]
struct Job {
    command: Command,
    since: Instant,
    reply: oneshot::Sender<Result<Answer, StoreError>>,
}

impl Job {
    fn answer(self, answer: Result<Answer, StoreError>) {
        // A caller that has gone away reads the result back by its key.
        let _gone = self.reply.send(answer);
    }
}

/// The handle to the writer's task. When it is dropped the task finishes what was queued and ends.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
}

impl Writer {
    /// Starts the task on the current runtime. `desk` is connected already.
    pub(super) fn start(desk: Desk, options: Arc<MariaStoreOptions>) -> Self {
        let (jobs, waiting) = mpsc::channel(options.queue);
        tokio::spawn(Clerk { desk, options }.work(waiting));
        Self { jobs }
    }

    /// Runs a command in a transaction that it may share and returns after the commit. A full queue is `Overloaded`.
    pub(super) async fn run(&self, command: Command) -> Result<Answer, StoreError> {
        let stopped = || StoreError::Unavailable("the writer has stopped".into());
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job { command, since: Instant::now(), reply }).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => {
                metrics::counter!(OVERLOADED).increment(1);
                StoreError::Overloaded
            }
            mpsc::error::TrySendError::Closed(_) => stopped(),
        })?;
        answer.await.map_err(|_| stopped())?
    }
}

/// The task's own state.
struct Clerk {
    desk: Desk,
    options: Arc<MariaStoreOptions>,
}

impl Clerk {
    async fn work(mut self, mut waiting: mpsc::Receiver<Job>) {
        let mut expected = 1;
        while let Some(first) = waiting.recv().await {
            let group = self.gather(first, &mut waiting, expected).await;
            expected = group.len();
            let (alone, together): (Vec<_>, Vec<_>) =
                group.into_iter().filter_map(|job| self.still_wanted(job)).partition(|job| job.command.is_alone());
            self.commit(together).await;
            for job in alone {
                self.commit(vec![job]).await;
            }
        }
        self.desk.close().await;
    }

    /// The first command and what waits behind it. While the group is smaller than the last one, it lingers:
    /// the callers that were just answered are about to ask again, and would else wait for a whole commit.
    /// A lone caller never waits.
    async fn gather(&self, first: Job, waiting: &mut mpsc::Receiver<Job>, expected: usize) -> Vec<Job> {
        let mut weight = first.command.weight();
        let mut group = vec![first];
        let until = tokio::time::Instant::now() + self.options.linger;
        while weight < self.options.group {
            let next = match waiting.try_recv() {
                Err(mpsc::error::TryRecvError::Empty) if group.len() < expected => {
                    tokio::time::timeout_at(until, waiting.recv()).await.ok().flatten()
                }
                other => other.ok(),
            };
            let Some(next) = next else { break };
            weight = weight.saturating_add(next.command.weight());
            group.push(next);
        }
        group
    }

    /// Drops what nobody waits for any more, and answers what has waited for too long: neither was run.
    fn still_wanted(&self, job: Job) -> Option<Job> {
        if job.reply.is_closed() {
            return None;
        }
        if job.since.elapsed() > self.options.patience {
            job.answer(Err(StoreError::Unavailable("the database did not get to it in time; nothing was done".into())));
            return None;
        }
        Some(job)
    }

    /// One transaction for all; if one command's own fault breaks it, halves of it, until that one stands alone.
    async fn commit(&mut self, group: Vec<Job>) {
        let mut parts = vec![group];
        while let Some(mut part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            match self.settle(&part).await {
                Ok(answers) => {
                    for (job, answer) in part.into_iter().zip(answers) {
                        job.answer(Ok(answer));
                    }
                }
                Err(fault) if fault.remedy() == Remedy::LeaveOut && part.len() > 1 => {
                    metrics::counter!(FAILED_GROUPS, "why" => "isolated").increment(1);
                    let rest = part.split_off(part.len() / 2);
                    parts.push(rest);
                    parts.push(part);
                }
                Err(fault) => {
                    if fault.remedy() == Remedy::LeaveOut {
                        tracing::error!(error = %fault, "a stock command contradicts the data and was left out");
                    } else {
                        metrics::counter!(FAILED_GROUPS, "why" => "unavailable").increment(1);
                        tracing::error!(commands = part.len(), error = %fault, "a stock transaction failed");
                    }
                    let error = StoreError::from(fault);
                    for job in part {
                        job.answer(Err(error.clone()));
                    }
                }
            }
        }
    }

    /// Runs the commands until they are committed, or their own fault is found, or patience ends.
    async fn settle(&mut self, part: &[Job]) -> Result<Vec<Answer>, Fault> {
        let commands: Vec<&Command> = part.iter().map(|job| &job.command).collect();
        let until = Instant::now() + self.options.patience;
        let mut pause = FIRST_PAUSE;
        loop {
            let begun = Instant::now();
            let end = self.desk.transact(&commands).await;
            metrics::histogram!(COMMIT_SECONDS).record(begun.elapsed().as_secs_f64());
            let fault = match end {
                Ok(answers) => {
                    let weight: usize = commands.iter().map(|c| c.weight()).sum();
                    metrics::histogram!(GROUP_SIZE).record(f64::from(u32::try_from(weight).unwrap_or(u32::MAX)));
                    return Ok(answers);
                }
                Err(fault) => fault,
            };
            let Remedy::Retry(why) = fault.remedy() else { return Err(fault) };
            if Instant::now() + pause >= until {
                return Err(fault);
            }
            metrics::counter!(RETRIES, "why" => why).increment(1);
            tracing::warn!(commands = part.len(), why, error = %fault, "a stock transaction is tried again");
            tokio::time::sleep(self.desk.jitter(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
