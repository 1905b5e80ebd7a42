//! Delivers one subscription's events as long as this core holds it: reads behind the cursor, sends, writes how far
//! it got. An event may be sent again after a death between sending and writing; none is left out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::Url;
use tokio_util::sync::CancellationToken;
use types::{Clock, Timestamp};

use super::line::{Group, Line, Tried};
use super::options::WebhookOptions;
use super::send::{End, Secrets, Sender, check_url};
use super::{HELD_FOR, metrics};
use crate::stock::order_feed::OrderStep;
use crate::stock::sql_store::SqlStore;
use crate::stock::store::StoreError;
use crate::stock::webhook_store::{MAX_PARKED, WebhookRow};

/// Events that are read at once: they are in memory, and at most so many are sent again after a death.
const BATCH: usize = 200;
/// How often new events are looked for when there were none.
const EVERY: Duration = Duration::from_millis(200);
/// How often a webhook is looked at that may not be sent to.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long a secret that was read is used before its file is read again.
const SECRET_AGE: Duration = Duration::from_secs(10);

/// Why a worker ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Another core holds the subscription, or it was changed: claim it again.
    Lost,
    /// The core stops.
    Stopped,
}

pub(super) struct Worker {
    pub(super) sql: Arc<dyn SqlStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) options: WebhookOptions,
    pub(super) sender: Sender,
    pub(super) holder: String,
    pub(super) row: WebhookRow,
    pub(super) until: Timestamp,
}

/// A worker under way.
struct Running {
    worker: Worker,
    line: Mutex<Line>,
    url: Url,
    secrets: Option<(Secrets, Instant)>,
    chance: StdRng,
}

impl Worker {
    pub(super) async fn run(self, stop: CancellationToken) -> Ended {
        let name = self.row.spec.name.clone();
        match self.work(stop).await {
            Ok(ended) => ended,
            Err(error) => {
                tracing::warn!(webhook = %name, %error, "a webhook waits for the database");
                tokio::time::sleep(EVERY * 5).await;
                Ended::Lost
            }
        }
    }

    async fn work(self, stop: CancellationToken) -> Result<Ended, StoreError> {
        let name = self.row.spec.name.clone();
        let url = match check_url(&self.row.spec.url, self.options.networks) {
            Ok(url) => url,
            Err(why) => {
                // Taken under other options: nothing is sent until it is changed, and nothing is lost.
                tracing::warn!(webhook = %name, why, "a webhook's address may not be sent to");
                return Ok(tokio::select! {
                    biased;
                    () = stop.cancelled() => Ended::Stopped,
                    () = tokio::time::sleep(LOOK_AGAIN) => Ended::Lost,
                });
            }
        };
        let parked = self.sql.parked(&name, MAX_PARKED).await?;
        let line = Mutex::new(Line::new(self.row.cursor, parked));
        let mut running = Running { line, url, secrets: None, chance: StdRng::from_os_rng(), worker: self };
        loop {
            let more = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(Ended::Stopped),
                round = running.round() => match round? {
                    Some(more) => more,
                    None => return Ok(Ended::Lost),
                },
            };
            if !more {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(Ended::Stopped),
                    () = tokio::time::sleep(EVERY) => {}
                }
            }
        }
    }
}

impl Running {
    fn now(&self) -> Timestamp {
        self.worker.clock.now()
    }

    /// One round: whether there may be more at once; `None` if the subscription is held no more.
    async fn round(&mut self) -> Result<Option<bool>, StoreError> {
        if !self.keep().await? {
            return Ok(None);
        }
        let now = self.now();
        let (away, may_send, takes_new, cursor) = {
            let line = self.line.lock();
            (line.is_away(), line.may_send(now), line.takes_new(BATCH), line.cursor())
        };
        if !may_send || !self.has_secrets() {
            return Ok(Some(false));
        }
        // One of each kind while the receiver is away: what once failed, and what is new.
        let most = if away { 1 } else { self.worker.options.parallel };
        let mut groups = self.due(now, most).await?;
        let batch = if takes_new { self.worker.sql.steps(cursor, BATCH).await? } else { Vec::new() };
        let (mut new, behind) = self.line.lock().sort(&batch, &self.worker.row.spec.kinds, now);
        let left_out: Vec<_> = if away { new.split_off(new.len().min(1)) } else { Vec::new() };
        groups.append(&mut new);
        if groups.is_empty() && batch.is_empty() {
            return Ok(Some(false));
        }
        if !groups.is_empty() && !self.is_as_believed().await? {
            return Ok(None);
        }
        let mut tried = self.send(groups).await;
        tried.extend(left_out.into_iter().flatten().map(|step| (step, Tried::Not)));
        let now = self.now();
        let progress = {
            let chance = &mut self.chance;
            let mut line = self.line.lock();
            line.settle(batch.last().map(|s| s.sequence), behind, tried, now, &self.worker.options, || chance.random())
        };
        metrics::webhook_dead(progress.dead.len() as u64);
        for dead in &progress.dead {
            let name = &self.worker.row.spec.name;
            tracing::warn!(webhook = %name, sequence = dead.sequence, order = %dead.order, attempts = dead.attempts,
                reason = dead.reason, "an event was given up");
        }
        let held = self.write(progress).await?;
        let away = self.line.lock().is_away();
        Ok(held.then_some(batch.len() == BATCH && !away))
    }

    /// Holds on to the subscription before it is due to be let go.
    async fn keep(&mut self) -> Result<bool, StoreError> {
        let left = self.worker.until.millis() - self.now().millis();
        if left > HELD_FOR.as_millis() as i64 / 2 {
            return Ok(true);
        }
        let cursor = self.line.lock().cursor();
        self.write(crate::stock::webhook_store::Progress { cursor, ..Default::default() }).await
    }

    /// Whether the subscription is still this one: what was changed or removed gets nothing more of the old kind.
    async fn is_as_believed(&self) -> Result<bool, StoreError> {
        let Worker { sql, holder, row, .. } = &self.worker;
        let now = sql.webhooks().await?.into_iter().find(|now| now.spec.name == row.spec.name);
        Ok(now
            .is_some_and(|now| now.generation == row.generation && now.held.is_some_and(|(other, _)| other == *holder)))
    }

    async fn write(&mut self, progress: crate::stock::webhook_store::Progress) -> Result<bool, StoreError> {
        let until = self.now().plus(HELD_FOR);
        let Worker { sql, holder, row, .. } = &self.worker;
        let held = sql.webhook_progress(&row.spec.name, holder, row.generation, until, progress).await?;
        if held {
            self.worker.until = until;
        }
        Ok(held)
    }

    fn has_secrets(&mut self) -> bool {
        if self.secrets.as_ref().is_some_and(|(_, read)| read.elapsed() < SECRET_AGE) {
            return true;
        }
        let name = &self.worker.row.spec.secret;
        let read = match self.worker.options.secret_files.get(name) {
            Some(file) => Secrets::read(file),
            None => Err("core.webhooks.secret_files of this core has no such name".to_owned()),
        };
        match read {
            Ok(secrets) => {
                self.secrets = Some((secrets, Instant::now()));
                true
            }
            // The ones that were read stay good: a file may be half written.
            Err(why) if self.secrets.is_some() => {
                tracing::warn!(webhook = %self.worker.row.spec.name, why, "a webhook's secret was not read again");
                true
            }
            Err(why) => {
                tracing::warn!(webhook = %self.worker.row.spec.name, secret = name, why, "a webhook has no secret");
                metrics::retry("webhook_secret");
                false
            }
        }
    }

    /// Parked events that are due, each a group of its own.
    async fn due(&mut self, now: Timestamp, most: usize) -> Result<Vec<Group>, StoreError> {
        let due = self.line.lock().due(now, most);
        let mut groups = Vec::with_capacity(due.len());
        for sequence in due {
            let found = self.worker.sql.steps(sequence - 1, 1).await?;
            match found.into_iter().find(|step| step.sequence == sequence) {
                Some(step) => groups.push(vec![step]),
                None => {
                    let progress = self.line.lock().gone(sequence);
                    self.write(progress).await?;
                }
            }
        }
        Ok(groups)
    }

    /// Sends the groups side by side, each in its order up to its first failure.
    async fn send(&self, groups: Vec<Group>) -> Vec<(OrderStep, Tried)> {
        let sending = groups.into_iter().map(|group| self.send_group(group));
        let tried: Vec<Vec<_>> =
            futures::stream::iter(sending).buffer_unordered(self.worker.options.parallel).collect().await;
        tried.into_iter().flatten().collect()
    }

    async fn send_group(&self, group: Group) -> Vec<(OrderStep, Tried)> {
        let alone = self.line.lock().is_away();
        let mut tried = Vec::with_capacity(group.len());
        let mut rest = None;
        for step in group {
            let end = match &rest {
                Some(rest) => Clone::clone(rest),
                // It went away while this group waited for its turn.
                None if !alone && self.line.lock().is_away() => Tried::Not,
                None => self.send_one(&step).await,
            };
            rest = match &end {
                Tried::Ended(End::Delivered) => None,
                Tried::Ended(_) | Tried::Behind => Some(Tried::Behind),
                Tried::Not => Some(Tried::Not),
            };
            tried.push((step, end));
        }
        tried
    }

    async fn send_one(&self, step: &OrderStep) -> Tried {
        let now = self.now();
        let Worker { options, sender, until, .. } = &self.worker;
        // Nobody else may hold the subscription when this delivery ends.
        if now.plus(options.timeout).millis() >= until.millis() {
            return Tried::Not;
        }
        let Some((secrets, _)) = &self.secrets else { return Tried::Not };
        let begun = Instant::now();
        let end = sender.deliver(&self.url, secrets, step, now).await;
        metrics::webhook_delivery(&end, begun.elapsed());
        self.line.lock().note(&end, self.now(), options);
        Tried::Ended(end)
    }
}
