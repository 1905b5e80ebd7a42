//! The one owner of the plan: takes reports, operators' commands and reconcilers' wishes in, runs the
//! planner, makes the result durable, then shows it. Nothing is shown that is not on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use types::plan::{MAX_PUSH_ENTRIES, Reason};
use types::{Clock, Generation, Sku, Tier, Timestamp};

use crate::metrics as names;
use crate::observe::heat_reports::ShardReport;
use crate::observe::{CoreSeen, HeatView, ReportFate};
use crate::plan_store::{Action, Change, NewAuditRow, PlanStore, StoreError};
use crate::planner::{Decision, Override, PlanInput, PlanOutput, plan};
use crate::policy::Policy;
use crate::reconcile::{CoreView, Renew};
use crate::view::{PlanView, TierMove};

/// Most overrides at once: every product of one full sale.
pub(crate) const MAX_OVERRIDES: usize = types::sale::MAX_PRODUCTS;

/// What an operator asks for, checked.
#[derive(Debug)]
pub(crate) struct OverrideOrder {
    pub product: Sku,
    pub tier: Tier,
    pub ttl: Duration,
    pub why: String,
    pub by: String,
    pub expects: Expects,
}

/// What the caller believes about the override that he changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expects {
    /// Nothing.
    Anything,
    /// That there is none (`If-None-Match: *`).
    Absent,
    /// That there is one (`If-Match: *`).
    Present,
    /// That it is one of these versions (`If-Match`).
    OneOf(Vec<Generation>),
}

impl Expects {
    fn holds(&self, current: Option<&Override>) -> bool {
        match self {
            Self::Anything => true,
            Self::Absent => current.is_none(),
            Self::Present => current.is_some(),
            Self::OneOf(versions) => current.is_some_and(|o| versions.contains(&o.generation)),
        }
    }
}

/// What came of an operator's command.
#[derive(Debug)]
pub(crate) enum Ordered {
    /// Durable, in this generation; for a set order with the override and whether it is new.
    Done { generation: Generation, order: Option<Override>, created: bool },
    /// No core sells such a product.
    UnknownProduct,
    /// There is no override to take back.
    NoOverride,
    /// The caller's belief is wrong; the version that is there.
    Conflict(Option<Generation>),
    /// [`MAX_OVERRIDES`] are in force.
    TooMany,
}

/// An operator's command with the way back.
pub(crate) enum Command {
    Set(OverrideOrder, oneshot::Sender<Result<Ordered, StoreError>>),
    Remove { product: Sku, by: String, expects: Expects, answer: oneshot::Sender<Result<Ordered, StoreError>> },
}

/// The ways in and out.
pub(crate) struct Ways {
    pub commands: mpsc::Receiver<Command>,
    pub reports: mpsc::Receiver<ShardReport>,
    pub renews: mpsc::Receiver<Renew>,
    pub cores: Vec<watch::Receiver<CoreView>>,
    pub view: watch::Sender<Arc<PlanView>>,
    pub moves: broadcast::Sender<TierMove>,
}

/// The owner.
pub(crate) struct Brain {
    clock: Arc<dyn Clock>,
    policy: Policy,
    tick: Duration,
    store: PlanStore,
    heat: HeatView,
    plan: Arc<PlanView>,
    ways: Ways,
    /// The present tick's begin and how many automatic moves it has seen.
    budget: (Timestamp, usize),
}

impl Brain {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        policy: Policy,
        tick: Duration,
        store: PlanStore,
        plan: Arc<PlanView>,
        ways: Ways,
    ) -> Self {
        let now = clock.now();
        Self { heat: HeatView::new(now), budget: (now, 0), clock, policy, tick, store, plan, ways }
    }

    /// Plans until `shutdown`; ends early only if the store can never work again.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), StoreError> {
        let period = self.clock.real(self.tick);
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut reports_open = true;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                Some(command) = self.ways.commands.recv() => self.command(command).await?,
                Some(renew) = self.ways.renews.recv() => {
                    let worked = self.renew(renew).await;
                    self.survive(worked)?;
                }
                report = self.ways.reports.recv(), if reports_open => match report {
                    Some(report) => {
                        self.take(report);
                        while let Ok(more) = self.ways.reports.try_recv() {
                            self.take(more);
                        }
                        // A report is planned on at once; the next tick is then a whole period away.
                        let worked = self.replan(None).await;
                        self.survive(worked)?;
                        ticks.reset();
                    }
                    None => reports_open = false,
                },
                _ = ticks.tick() => {
                    let worked = self.replan(None).await;
                    self.survive(worked)?;
                }
            }
        }
    }

    /// A store that fails for now costs a tick: the plan in force stays. One that can never work ends us.
    fn survive(&self, worked: Result<(), StoreError>) -> Result<(), StoreError> {
        match worked {
            Err(e) if e.retryable() => {
                metrics::counter!(names::STORE_ERRORS).increment(1);
                tracing::error!(error = %e, "the plan cannot be stored; the last one stays in force");
                Ok(())
            }
            other => other,
        }
    }

    fn take(&mut self, shard: ShardReport) {
        let fate = match self.heat.apply(&shard.shard, shard.report, self.clock.now()) {
            ReportFate::Taken => "taken",
            ReportFate::TakenAfterGap => "gap",
            ReportFate::Old => "old",
            ReportFate::TooManyShards => "too_many_shards",
        };
        metrics::counter!(names::HEAT_REPORTS, "fate" => fate).increment(1);
    }

    fn cores(&self) -> Vec<CoreSeen> {
        self.ways.cores.iter().map(|core| core.borrow().seen.clone()).collect()
    }

    fn decide(
        &mut self,
        now: Timestamp,
        overrides: &BTreeMap<Sku, Override>,
        only: Option<&BTreeSet<Sku>>,
    ) -> PlanOutput {
        if now.since(self.budget.0) >= self.tick || now < self.budget.0 {
            self.budget = (now, 0);
        }
        let cores = self.cores();
        let started = std::time::Instant::now();
        let out = plan(&PlanInput {
            now,
            policy: &self.policy,
            last: &self.plan.decisions,
            heat: &self.heat,
            overrides,
            cores: &cores,
            moves_left: self.policy.moves_per_tick.saturating_sub(self.budget.1),
            only,
        });
        metrics::histogram!(names::PLAN_SECONDS).record(started.elapsed().as_secs_f64());
        metrics::gauge!(names::HEAT_AGE).set(now.since(self.heat.fresh_at()).as_secs_f64());
        out
    }

    /// Plans on what is known now and lets overrides that are over end.
    async fn replan(&mut self, only: Option<&BTreeSet<Sku>>) -> Result<(), StoreError> {
        let now = self.clock.now();
        let out = self.decide(now, &self.plan.overrides.clone(), only);
        let mut overrides = self.plan.overrides.clone();
        let mut audit = Vec::new();
        for sku in &out.ended {
            let ended = overrides.remove(sku);
            audit.push(NewAuditRow {
                at: now,
                actor: "planner".to_owned(),
                action: Action::OverrideEnded,
                product: Some(sku.clone()),
                before: ended.as_ref().map(|o| json!(o)),
                after: None,
                why: "its end has come".to_owned(),
                generation: Generation::default(),
            });
        }
        self.adopt(now, out, overrides, Vec::new(), audit).await
    }

    /// Makes a plan durable, then shows it. On an error nothing has changed.
    async fn adopt(
        &mut self,
        now: Timestamp,
        mut out: PlanOutput,
        overrides: BTreeMap<Sku, Override>,
        overrides_set: Vec<(Sku, Override)>,
        mut audit: Vec<NewAuditRow>,
    ) -> Result<(), StoreError> {
        let base = self.plan.generation;
        let overrides_gone: Vec<Sku> =
            self.plan.overrides.keys().filter(|sku| !overrides.contains_key(*sku)).cloned().collect();
        let touched = !overrides_set.is_empty() || !overrides_gone.is_empty();
        let mut generation = stamp(&mut out.decisions, &out.changed, base);
        if generation == base && touched {
            generation = base.next();
        }
        for m in &out.moves {
            let decision = &out.decisions[&m.product];
            audit.push(NewAuditRow {
                at: now,
                actor: actor(&decision.reason),
                action: Action::Move,
                product: Some(m.product.clone()),
                before: Some(json!({ "tier": m.from })),
                after: Some(json!({ "tier": m.to, "evidence": decision.evidence })),
                why: decision.reason.as_str().to_owned(),
                generation,
            });
        }
        for row in &mut audit {
            row.generation = generation;
        }
        let decisions: Vec<_> = out.changed.iter().map(|sku| (sku.clone(), out.decisions[sku].clone())).collect();
        if generation != base || !out.dropped.is_empty() {
            let change = Change {
                base,
                generation,
                decisions,
                dropped: out.dropped,
                overrides: overrides_set,
                overrides_gone,
                policy: None,
                audit,
            };
            self.store.commit(change).await?;
        }
        self.budget.1 += out.moves.iter().filter(|m| m.automatic).count();
        for m in &out.moves {
            let reason = out.decisions[&m.product].reason.clone();
            metrics::counter!(names::MOVES, "to" => m.to.as_str(), "reason" => reason.as_str()).increment(1);
            tracing::info!(product = %m.product, from = %m.from, to = %m.to, reason = reason.as_str(),
                generation = %generation, "tier planned");
            // Nobody may be listening.
            let _ = self.ways.moves.send(TierMove {
                product: m.product.clone(),
                from: m.from,
                to: m.to,
                reason,
                generation,
                at: now,
            });
        }
        self.show(PlanView { generation, decisions: out.decisions, overrides, at: now });
        Ok(())
    }

    fn show(&mut self, plan: PlanView) {
        metrics::gauge!(names::GENERATION).set(plan.generation.get() as f64);
        for tier in Tier::ALL {
            let count = plan.decisions.values().filter(|d| d.tier == tier).count();
            metrics::gauge!(names::PRODUCTS, "tier" => tier.as_str()).set(count as f64);
        }
        self.plan = Arc::new(plan);
        self.ways.view.send_replace(self.plan.clone());
    }

    /// Numbers the plan anew above what a core holds.
    async fn renew(&mut self, renew: Renew) -> Result<(), StoreError> {
        let plan = &self.plan;
        let needed: Vec<Sku> = renew
            .products
            .into_iter()
            .filter(|sku| plan.decisions.get(sku).is_some_and(|d| d.generation <= renew.above))
            .collect();
        if plan.generation > renew.above && needed.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let base = plan.generation;
        let floor = base.max(renew.above);
        let mut decisions = plan.decisions.clone();
        let generation = stamp(&mut decisions, &needed, floor).max(floor.next());
        let raised = NewAuditRow {
            at: now,
            actor: "reconciler".to_owned(),
            action: Action::GenerationRaised,
            product: None,
            before: Some(json!(base)),
            after: Some(json!(generation)),
            why: "a core holds a plan of this number or a newer one, or came to know products late".to_owned(),
            generation,
        };
        let change = Change {
            base,
            generation,
            decisions: needed.iter().map(|sku| (sku.clone(), decisions[sku].clone())).collect(),
            audit: vec![raised],
            ..Change::default()
        };
        self.store.commit(change).await?;
        tracing::info!(from = %base, to = %generation, products = needed.len(), "generation raised for a core");
        self.show(PlanView { generation, decisions, overrides: self.plan.overrides.clone(), at: now });
        Ok(())
    }

    async fn command(&mut self, command: Command) -> Result<(), StoreError> {
        let (worked, answer) = match command {
            Command::Set(order, answer) => (self.set(order).await, answer),
            Command::Remove { product, by, expects, answer } => (self.remove(product, by, &expects).await, answer),
        };
        let fatal = worked.as_ref().err().filter(|e| !e.retryable()).map(ToString::to_string);
        // The caller may have gone; what he ordered holds all the same.
        let _ = answer.send(worked);
        match fatal {
            Some(why) => {
                tracing::error!(error = %why, "the plan store can no longer be used");
                Err(StoreError::Closed)
            }
            None => Ok(()),
        }
    }

    async fn set(&mut self, order: OverrideOrder) -> Result<Ordered, StoreError> {
        let now = self.clock.now();
        let known = self
            .cores()
            .iter()
            .any(|core| core.state.as_ref().is_some_and(|s| s.products.iter().any(|p| p.product == order.product)));
        if !known {
            return Ok(Ordered::UnknownProduct);
        }
        let current = self.plan.overrides.get(&order.product).filter(|o| o.holds(now)).cloned();
        if !order.expects.holds(current.as_ref()) {
            return Ok(Ordered::Conflict(current.map(|o| o.generation)));
        }
        if current.is_none() && self.plan.overrides.len() >= MAX_OVERRIDES {
            return Ok(Ordered::TooMany);
        }
        let generation = self.plan.generation.next();
        let set = Override {
            tier: order.tier,
            by: order.by.clone(),
            why: order.why.clone(),
            at: now,
            until: now.plus(order.ttl),
            generation,
        };
        let mut overrides = self.plan.overrides.clone();
        overrides.insert(order.product.clone(), set.clone());
        let only = BTreeSet::from([order.product.clone()]);
        let out = self.decide(now, &overrides, Some(&only));
        let audit = vec![NewAuditRow {
            at: now,
            actor: order.by,
            action: Action::OverrideSet,
            product: Some(order.product.clone()),
            before: current.as_ref().map(|o| json!(o)),
            after: Some(json!(set)),
            why: order.why,
            generation,
        }];
        self.adopt(now, out, overrides, vec![(order.product, set.clone())], audit).await?;
        Ok(Ordered::Done { generation: self.plan.generation, created: current.is_none(), order: Some(set) })
    }

    async fn remove(&mut self, product: Sku, by: String, expects: &Expects) -> Result<Ordered, StoreError> {
        let now = self.clock.now();
        let Some(current) = self.plan.overrides.get(&product).filter(|o| o.holds(now)).cloned() else {
            return Ok(Ordered::NoOverride);
        };
        if !expects.holds(Some(&current)) {
            return Ok(Ordered::Conflict(Some(current.generation)));
        }
        let mut overrides = self.plan.overrides.clone();
        overrides.remove(&product);
        let only = BTreeSet::from([product.clone()]);
        let out = self.decide(now, &overrides, Some(&only));
        let audit = vec![NewAuditRow {
            at: now,
            actor: by,
            action: Action::OverrideRemoved,
            product: Some(product),
            before: Some(json!(current)),
            after: None,
            why: "taken back".to_owned(),
            generation: Generation::default(),
        }];
        self.adopt(now, out, overrides, Vec::new(), audit).await?;
        Ok(Ordered::Done { generation: self.plan.generation, order: None, created: false })
    }
}

/// Gives the changed decisions new generations after `base`, as many as keep each within one push, and
/// answers the newest.
fn stamp(decisions: &mut BTreeMap<Sku, Decision>, changed: &[Sku], base: Generation) -> Generation {
    let mut generation = base;
    for part in changed.chunks(MAX_PUSH_ENTRIES) {
        generation = generation.next();
        for sku in part {
            if let Some(decision) = decisions.get_mut(sku) {
                decision.generation = generation;
            }
        }
    }
    generation
}

fn actor(reason: &Reason) -> String {
    match reason {
        Reason::Override { by, .. } => by.clone(),
        _ => "planner".to_owned(),
    }
}
