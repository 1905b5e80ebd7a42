//! Signed webhooks: every order event to every subscription that wants it, at least once, in order for each order.
//! Of several cores one delivers a subscription, by a row that it holds for a while; another takes it up when that
//! one has died. Why it is built so: `docs/adr/0017`.

mod line;
pub mod options;
pub(crate) mod send;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use types::Clock;

use self::options::WebhookOptions;
use self::send::Sender;
use self::worker::{Ended, Worker};
use crate::metrics;
use crate::stock::sql_store::SqlStore;
use crate::stock::webhook_store::WebhookName;

/// How long a core holds a subscription without a sign of life. Above the longest delivery; a death delays events by
/// no more than this and the clocks' difference.
const HELD_FOR: Duration = Duration::from_secs(15);
/// How often subscriptions are looked for that nobody holds.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Longest wait for deliveries under way at shutdown.
const LAST: Duration = Duration::from_secs(3);

/// Which task delivers which subscription.
type Mine = HashMap<Id, WebhookName>;

/// What delivers.
pub(crate) struct Webhooks {
    sql: Arc<dyn SqlStore>,
    clock: Arc<dyn Clock>,
    options: WebhookOptions,
    /// By how much the cores' clocks may differ.
    skew: Duration,
    /// This core's name in the rows that it holds; a restarted core is another holder.
    holder: String,
    sender: Sender,
}

impl Webhooks {
    pub(crate) fn new(
        sql: Arc<dyn SqlStore>,
        clock: Arc<dyn Clock>,
        options: WebhookOptions,
        skew: Duration,
        holder: String,
    ) -> reqwest::Result<Self> {
        let sender = Sender::new(&options)?;
        Ok(Self { sql, clock, options, skew, holder, sender })
    }

    /// Runs until `stop`: takes up what nobody delivers.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut workers = JoinSet::new();
        let mut mine = Mine::new();
        while !stop.is_cancelled() {
            if let Err(error) = self.look(&mut workers, &mut mine, &stop).await {
                tracing::warn!(%error, "webhooks were not looked for");
                metrics::retry("webhooks");
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(ended) = workers.join_next_with_id() => Self::ended(ended, &mut mine),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        let ending = async { while workers.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST, ending).await.is_err() {
            tracing::warn!("webhook deliveries in flight were cut off");
        }
        workers.shutdown().await;
        for name in mine.into_values() {
            if let Err(error) = self.sql.release_webhook(&name, &self.holder).await {
                tracing::warn!(webhook = %name, %error, "a webhook stays held until its time is over");
            }
        }
    }

    fn ended(ended: Result<(Id, Ended), tokio::task::JoinError>, mine: &mut Mine) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some(name) = mine.remove(&id) else { return };
        match ended {
            Ok((_, ended)) => tracing::debug!(webhook = %name, ?ended, "a webhook's deliveries ended here"),
            Err(error) => tracing::error!(webhook = %name, %error, "a webhook's worker stopped"),
        }
    }

    async fn look(
        &self,
        workers: &mut JoinSet<Ended>,
        mine: &mut Mine,
        stop: &CancellationToken,
    ) -> Result<(), crate::stock::store::StoreError> {
        let now = self.clock.now();
        let free_at = now.minus(self.skew);
        let rows = self.sql.webhooks().await?;
        if rows.is_empty() {
            return Ok(());
        }
        let newest = self.sql.newest_step().await?;
        let behind = rows.iter().map(|row| newest.saturating_sub(row.cursor)).max().unwrap_or(0);
        metrics::webhooks(rows.iter().map(|row| row.parked).sum(), behind);
        for row in rows {
            let name = row.spec.name;
            let taken = row.held.as_ref().is_some_and(|(holder, until)| *holder != self.holder && *until >= free_at);
            if taken || mine.values().any(|held| *held == name) {
                continue;
            }
            let until = now.plus(HELD_FOR);
            let Some(row) = self.sql.claim_webhook(&name, &self.holder, free_at, until).await? else { continue };
            tracing::info!(webhook = %name, cursor = row.cursor, "this core delivers a webhook");
            metrics::webhook_taken();
            let worker = Worker {
                sql: self.sql.clone(),
                clock: self.clock.clone(),
                options: self.options.clone(),
                sender: self.sender.clone(),
                holder: self.holder.clone(),
                row,
                until,
            };
            let stop = stop.clone();
            mine.insert(workers.spawn(worker.run(stop)).id(), name);
        }
        Ok(())
    }
}
