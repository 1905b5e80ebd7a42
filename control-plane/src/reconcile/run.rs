//! The loop of one core: read its state each period, push when the plan asks for it, back off with jitter
//! when it does not answer.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use types::plan::{NackReason, PlanAnswer, PlanPush};
use types::{Clock, Nonce};

use super::link::{Next, Outcome, Renew};
use super::{CoreClient, CoreError, CoreView, Link, Trouble};
use crate::metrics as names;
use crate::observe::CoreSeen;
use crate::view::PlanView;

/// First pause after a failure.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest pause: a core that comes back is on the newest plan well within 3 s.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Most pushes without a look at the core's state between them: bounds a core that refuses for ever.
const PUSHES_IN_A_ROW: u32 = 64;

/// What one core's loop needs.
pub(crate) struct LinkParts {
    /// The core.
    pub client: Arc<dyn CoreClient>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The newest plan.
    pub plan: watch::Receiver<Arc<PlanView>>,
    /// Wishes for newer generations, to the plan's owner.
    pub renew: mpsc::Sender<Renew>,
    /// What is known of the core; this loop is its only writer.
    pub view: watch::Sender<CoreView>,
    /// Tells whoever waits that some core's view has changed.
    pub changed: watch::Sender<u64>,
    /// How often the state is read.
    pub period: Duration,
    /// Seeds jitter and nonces.
    pub seed: u64,
}

struct Loop {
    parts: LinkParts,
    link: Link,
    rng: StdRng,
    failures: u32,
}

/// Reconciles one core until `shutdown`.
pub(crate) async fn run(parts: LinkParts, shutdown: CancellationToken) {
    let rng = StdRng::seed_from_u64(parts.seed);
    let mut this = Loop { parts, link: Link::default(), rng, failures: 0 };
    loop {
        let worked = tokio::select! {
            () = shutdown.cancelled() => return,
            worked = this.round() => worked,
        };
        let pause = match worked {
            Ok(()) => {
                this.failures = 0;
                this.parts.clock.real(this.parts.period)
            }
            Err(e) => this.failed(&e),
        };
        let wait = tokio::time::sleep(pause);
        tokio::pin!(wait);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = &mut wait => break,
                // A failing core is left alone until its pause is over, whatever the plan does.
                changed = this.parts.plan.changed(), if this.failures == 0 => {
                    if changed.is_err() {
                        return;
                    }
                    let (term, generation) = {
                        let plan = this.parts.plan.borrow_and_update();
                        (plan.term, plan.generation)
                    };
                    if term.is_none() || this.link.acknowledged() == Some(generation) && this.link.is_led_by(term) {
                        continue;
                    }
                    let worked = tokio::select! {
                        () = shutdown.cancelled() => return,
                        worked = this.converge() => worked,
                    };
                    if let Err(e) = worked {
                        let pause = this.failed(&e);
                        wait.as_mut().reset(tokio::time::Instant::now() + pause);
                    }
                }
            }
        }
    }
}

impl Loop {
    /// One look at the core's state, and whatever pushes it takes.
    async fn round(&mut self) -> Result<(), CoreError> {
        let state = self.parts.client.state().await?;
        self.link = std::mem::take(&mut self.link).observed(&state);
        self.publish(Some(Arc::new(state)));
        self.converge().await
    }

    async fn converge(&mut self) -> Result<(), CoreError> {
        for _ in 0..PUSHES_IN_A_ROW {
            let plan = self.parts.plan.borrow_and_update().clone();
            match self.link.next(&plan, Nonce::new(self.rng.random())) {
                Next::Nothing => return Ok(()),
                Next::Renew(renew) => {
                    self.ask(renew).await;
                    return Ok(());
                }
                Next::Push(push) => {
                    self.link = std::mem::take(&mut self.link).offers(&push);
                    let answer = self.parts.client.push(push.clone()).await?;
                    self.take_answer(&push, answer).await?;
                }
            }
        }
        Ok(())
    }

    async fn take_answer(&mut self, push: &PlanPush, answer: PlanAnswer) -> Result<(), CoreError> {
        let (link, outcome, renew) = std::mem::take(&mut self.link).answered(push, &answer);
        self.link = link;
        let url = self.parts.view.borrow().base_url.clone();
        match outcome {
            Outcome::Acknowledged => {
                metrics::counter!(names::PUSHES, "answer" => "ack").increment(1);
                tracing::debug!(core = %url, generation = %push.generation, entries = push.entries.len(),
                    whole = push.base.is_none(), "plan acknowledged");
                if let PlanAnswer::Ack { state, .. } = answer {
                    self.publish(Some(Arc::new(state)));
                }
            }
            Outcome::Refused(why) => {
                let name = match &why {
                    NackReason::StaleGeneration => "stale_generation",
                    NackReason::UnknownBase => "unknown_base",
                    NackReason::UnknownProduct { .. } => "unknown_product",
                    NackReason::OldLeader { .. } => "old_leader",
                    NackReason::WrongCore { .. } => "wrong_core",
                };
                metrics::counter!(names::PUSHES, "answer" => name).increment(1);
                tracing::warn!(core = %url, generation = %push.generation, why = ?why, "plan refused by the core");
                self.publish(None);
                // Another push at once would be refused again: either another control plane leads, or another core
                // answers here.
                if matches!(why, NackReason::OldLeader { .. } | NackReason::WrongCore { .. }) {
                    if let Some(renew) = renew {
                        self.ask(renew).await;
                    }
                    return Err(CoreError::Refused(format!("{why:?}")));
                }
            }
            Outcome::Foreign => {
                metrics::counter!(names::PUSHES, "answer" => "foreign").increment(1);
                return Err(CoreError::Malformed("the answer is to another push".to_owned()));
            }
        }
        if let Some(renew) = renew {
            self.ask(renew).await;
        }
        Ok(())
    }

    async fn ask(&self, renew: Renew) {
        // The owner ends only at shutdown; then nothing more is pushed anyway.
        let _ = self.parts.renew.send(renew).await;
    }

    fn publish(&self, state: Option<Arc<types::plan::CoreState>>) {
        let at = self.parts.clock.now();
        self.parts.view.send_modify(|view| {
            if let Some(state) = state {
                view.seen = CoreSeen { state: Some(state), at };
            }
            view.acknowledged = self.link.acknowledged();
            view.trouble = None;
        });
        self.parts.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Notes a failure and says how long to leave the core alone: doubling, with half of it at random, so
    /// that many control planes or cores do not come back in step.
    fn failed(&mut self, error: &CoreError) -> Duration {
        self.failures = self.failures.saturating_add(1);
        metrics::counter!(names::PUSHES, "answer" => error.name()).increment(1);
        let at = self.parts.clock.now();
        let trouble = Trouble { error: error.to_string(), at, failures: self.failures };
        self.parts.view.send_modify(|view| view.trouble = Some(trouble));
        self.parts.changed.send_modify(|n| *n = n.wrapping_add(1));
        let url = self.parts.view.borrow().base_url.clone();
        // Once when it begins; then it stands in `GET /v1/cores` and in the metrics.
        if self.failures == 1 {
            tracing::warn!(core = %url, error = %error, "the core does not answer; trying on");
        }
        self.parts.clock.real(pause(self.failures, &mut self.rng))
    }
}

fn pause(failures: u32, rng: &mut StdRng) -> Duration {
    let longest = PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(LONGEST_PAUSE);
    longest.mul_f64(rng.random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_never_vanish() {
        let mut rng = StdRng::seed_from_u64(7);
        for failures in [1, 2, 5, 9, 1_000_000, u32::MAX] {
            let pause = pause(failures, &mut rng);
            assert!(pause >= PAUSE / 2 && pause <= LONGEST_PAUSE, "{failures}: {pause:?}");
        }
    }
}
