//! The one owner of the plan: takes reports, operators' commands and reconcilers' wishes in, runs the planner, makes the
//! result durable, then shows it. Nothing is shown that is not in the store, and nothing is stored unless it leads.

mod journal;
mod orders;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use types::plan::{MAX_PUSH_ENTRIES, Reason};
use types::{Clock, Generation, Sku, Term, Tier, Timestamp};

use crate::desk::Desk;
use crate::elect::Leadership;
use crate::metrics as names;
use crate::observe::heat_reports::ShardReport;
use crate::observe::{CoreSeen, HeatView, ReportFate};
use crate::plan_store::{Action, Change, NewAuditRow, NewPolicy, PlanStore, Saved, StoreError, pauses_of};
use crate::planner::{Decision, Decisions, Due, Override, PlanInput, PlanOutput, plan};
use crate::policy::Policy;
use crate::reconcile::{CoreView, Renew};
use crate::record::Recorder;
use crate::view::{Changes, PlanView, TierMove};
use journal::Journal;
pub(crate) use orders::{Expects, MAX_BATCH, Order, Ordered, OverrideOrder, Refused};

/// Most overrides at once: every product of one full sale.
pub(crate) const MAX_OVERRIDES: usize = types::sale::MAX_PRODUCTS;
/// How long deltas and decisions are kept for `why`, and generations for a reader.
pub(crate) const KEPT: Duration = Duration::from_secs(3600);
/// Between two compactions of the store: a delta more or less does not matter.
const COMPACT_EVERY: Duration = Duration::from_secs(60);

/// A product's move under another policy.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WouldMove {
    pub product: Sku,
    pub from: Tier,
    pub to: Tier,
    pub reason: Reason,
}

/// An operator's command with the way back.
pub(crate) enum Command {
    Order(Order, oneshot::Sender<Result<Ordered, StoreError>>),
    /// Decisions about a product in the last hour, oldest first.
    Why(Sku, oneshot::Sender<Vec<Decision>>),
    /// What another policy would move now, at most this many.
    Try(Box<Policy>, usize, oneshot::Sender<Vec<WouldMove>>),
}

/// The ways in and out.
pub(crate) struct Ways {
    pub commands: mpsc::Receiver<Command>,
    pub reports: mpsc::Receiver<ShardReport>,
    pub renews: mpsc::Receiver<Renew>,
    pub leadership: watch::Receiver<Leadership>,
    pub raise: mpsc::Sender<Term>,
    pub cores: Vec<watch::Receiver<CoreView>>,
    pub view: watch::Sender<Arc<PlanView>>,
    pub moves: broadcast::Sender<TierMove>,
}

/// The owner.
pub(crate) struct Brain {
    clock: Arc<dyn Clock>,
    configured: Policy,
    tick: Duration,
    store: Arc<dyn PlanStore>,
    heat: HeatView,
    desk: Desk,
    plan: Arc<PlanView>,
    journal: Journal,
    /// Where sales are recorded, and the record of this time of leading.
    record: Option<PathBuf>,
    recorder: Option<Recorder>,
    ways: Ways,
    /// The store's revision that `plan` is of, while another one leads.
    revision: Option<u64>,
    /// The present tick's begin and how many automatic moves it has seen.
    budget: (Timestamp, usize),
    compacted: Timestamp,
}

impl Brain {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        configured: Policy,
        tick: Duration,
        store: Arc<dyn PlanStore>,
        record: Option<PathBuf>,
        ways: Ways,
    ) -> Self {
        let now = clock.now();
        let plan = ways.view.borrow().clone();
        Self {
            heat: HeatView::new(now),
            desk: Desk::new(now),
            plan,
            journal: Journal::default(),
            record,
            recorder: None,
            budget: (now, 0),
            compacted: now,
            revision: None,
            clock,
            configured,
            tick,
            store,
            ways,
        }
    }

    /// Plans while it leads, until `shutdown`; ends early only if the store can never work again.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), StoreError> {
        let period = self.clock.real(self.tick);
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut reports_open, mut elected) = (true, true);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                changed = self.ways.leadership.changed(), if elected => {
                    elected = changed.is_ok();
                    let worked = self.follow().await;
                    self.survive(worked)?;
                }
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
                        let worked = self.replan().await;
                        self.survive(worked)?;
                        ticks.reset();
                    }
                    None => reports_open = false,
                },
                _ = ticks.tick() => {
                    let worked = self.replan().await;
                    self.survive(worked)?;
                }
            }
        }
    }

    /// A store that fails for now costs a tick: the plan in force stays. One that is another's makes us a stand-by. One
    /// that can never work ends us.
    fn survive(&mut self, worked: Result<(), StoreError>) -> Result<(), StoreError> {
        match worked {
            Err(e) if e.retryable() => {
                metrics::counter!(names::STORE_ERRORS).increment(1);
                if matches!(e, StoreError::NotLeader { .. }) {
                    tracing::warn!(error = %e, "another control plane writes the plan; this one only watches");
                    self.stand_by(None);
                } else {
                    tracing::error!(error = %e, "the plan cannot be stored; the last one stays in force");
                }
                Ok(())
            }
            other => other,
        }
    }

    /// Does what the election says: leads on what is stored, or shows what the leader stores.
    async fn follow(&mut self) -> Result<(), StoreError> {
        let leadership = self.ways.leadership.borrow_and_update().clone();
        match leadership {
            Leadership::Unknown => Ok(()),
            Leadership::Leading(term) if self.plan.term == Some(term) => Ok(()),
            Leadership::Leading(term) => self.lead(term).await,
            Leadership::Standby(leader) => {
                let who = leader.holder.clone().map(|holder| (holder, leader.url.clone()));
                self.stand_by(who);
                if self.revision != Some(leader.revision) {
                    let saved = self.store.load().await?;
                    self.revision = Some(saved.revision);
                    self.adopt_saved(saved, None);
                }
                Ok(())
            }
        }
    }

    /// Shows that nothing is pushed from here.
    fn stand_by(&mut self, leader: Option<(String, String)>) {
        metrics::gauge!(names::LEADS).set(0.0);
        self.recorder = None;
        if self.plan.term.is_some() || self.plan.leader != leader {
            self.show(PlanView { term: None, leader, ..PlanView::clone(&self.plan) });
        }
    }

    fn adopt_saved(&mut self, saved: Saved, term: Option<Term>) {
        let (policy_version, policy) = saved.policy.unwrap_or_else(|| (0, self.configured.clone()));
        self.show(PlanView {
            term,
            leader: self.plan.leader.clone().filter(|_| term.is_none()),
            generation: saved.generation,
            decisions: saved.decisions.into_iter().collect(),
            pauses: Arc::new(pauses_of(&saved.paused)),
            overrides: Arc::new(saved.overrides),
            paused: Arc::new(saved.paused),
            frozen: saved.frozen,
            policy: Arc::new(policy),
            policy_version,
            changes: Changes::since(saved.generation),
            at: self.clock.now(),
        });
    }

    /// Takes the plan up as it is stored, under our own term.
    async fn lead(&mut self, term: Term) -> Result<(), StoreError> {
        let saved = self.store.load().await?;
        let now = self.clock.now();
        let base = saved.generation;
        // The configuration speaks once: a policy that operators set later stays until the file itself changes.
        let asked = saved.configured.as_ref() != Some(&self.configured);
        let row = |action, before, after, why: &str| NewAuditRow {
            at: now,
            actor: "config".to_owned(),
            action,
            product: None,
            before,
            after,
            why: why.to_owned(),
            generation: base,
        };
        let mut change = Change { at: now, base, generation: base, ..Change::default() };
        change.audit.push(row(Action::Led, None, Some(json!({ "term": term })), "a control plane leads"));
        let mut policy = saved.policy.clone();
        if asked || policy.is_none() {
            let new = self.configured.clone();
            change.configured = Some(new.clone());
            if policy.as_ref().map(|(_, p)| p) != Some(&new) {
                let before = policy.as_ref().map(|(_, p)| json!(p));
                change.audit.push(row(Action::Policy, before, Some(json!(new)), "the configuration at start"));
                change.policy = Some(NewPolicy {
                    at: now,
                    by: "config".to_owned(),
                    why: "the configuration at start".to_owned(),
                    policy: new.clone(),
                });
                policy = Some((policy.map_or(0, |(version, _)| version) + 1, new));
            }
        }
        let written = change.policy.is_some();
        self.store.commit(term, change).await?;
        let policy = if written { self.newest_policy().await?.or(policy) } else { policy };
        let history = self.store.history(None, now.minus(KEPT), journal::SEEDED).await?;
        self.journal.seed(history);
        self.adopt_saved(Saved { policy, ..saved }, Some(term));
        // What was known of the cores may be of before another leader's time; heat goes on as it is.
        self.desk = Desk::new(now);
        self.begin_record(now);
        metrics::gauge!(names::LEADS).set(1.0);
        tracing::info!(%term, generation = %base, products = self.plan.decisions.len(), "leading");
        Ok(())
    }

    /// A record that cannot be written is no reason not to plan.
    fn begin_record(&mut self, now: Timestamp) {
        let Some(folder) = &self.record else { return };
        let begun = Recorder::begin(folder, now, &self.plan.policy);
        self.recorder = begun
            .inspect_err(|error| tracing::error!(%error, folder = %folder.display(), "the sale is not recorded"))
            .ok();
        if let Some(recorder) = &self.recorder {
            for (product, order) in self.plan.overrides.iter() {
                recorder.override_set(now, product, order);
            }
        }
    }

    async fn newest_policy(&self) -> Result<Option<(u64, Policy)>, StoreError> {
        let newest = self.store.policies(1).await?.into_iter().next();
        Ok(newest.and_then(|row| Some((row.version, serde_json::from_value(row.policy).ok()?))))
    }

    fn take(&mut self, shard: ShardReport) {
        self.desk.reported(&shard.report);
        if let Some(recorder) = &self.recorder {
            recorder.report(self.clock.now(), &shard.report, &self.desk.products);
        }
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

    /// Automatic moves that this tick still has; none while the plan is frozen.
    fn moves_left(&mut self, now: Timestamp) -> usize {
        if now.since(self.budget.0) >= self.tick || now < self.budget.0 {
            self.budget = (now, 0);
        }
        if self.plan.frozen.is_some() { 0 } else { self.plan.policy.moves_per_tick.saturating_sub(self.budget.1) }
    }

    /// Plans on what is known now and lets overrides that are over end.
    async fn replan(&mut self) -> Result<(), StoreError> {
        let now = self.clock.now();
        if self.plan.term.is_none() {
            // A step was refused, and the election has not heard of another leader: what is stored is taken up again.
            if matches!(*self.ways.leadership.borrow(), Leadership::Leading(_)) {
                return self.follow().await;
            }
            return Ok(());
        }
        let policy = self.plan.policy.clone();
        let stale = now.since(self.heat.fresh_at()) >= policy.stale_after;
        let cores = self.cores();
        let started = std::time::Instant::now();
        let ended = self.plan.overrides.iter().filter(|(_, o)| !o.holds(now)).map(|(sku, _)| sku.clone());
        self.desk.touch(ended);
        let all = self.desk.prepare(&cores, now, policy.core_silence, stale);
        let moves_left = self.moves_left(now);
        let mut out = plan(&PlanInput {
            now,
            policy: &policy,
            last: &self.plan.decisions,
            heat: &self.heat,
            overrides: &self.plan.overrides,
            products: &self.desk.products,
            moves_left,
            due: if all { Due::All } else { Due::These(self.desk.due()) },
        });
        metrics::histogram!(names::PLAN_SECONDS).record(started.elapsed().as_secs_f64());
        metrics::gauge!(names::HEAT_AGE).set(now.since(self.heat.fresh_at()).as_secs_f64());
        metrics::gauge!(names::DUE).set(out.looks.len() as f64);
        let looks = std::mem::take(&mut out.looks);
        let step = self.step_of(now, &out);
        self.adopt(now, out, step).await?;
        self.desk.looked(looks, all);
        self.compact(now).await
    }

    async fn compact(&mut self, now: Timestamp) -> Result<(), StoreError> {
        if now.since(self.compacted) < COMPACT_EVERY && now >= self.compacted {
            return Ok(());
        }
        self.compacted = now;
        self.journal.forget(now.minus(KEPT));
        self.store.compact(now.minus(KEPT)).await.map(drop)
    }

    /// The step that a plan by itself is: overrides that are over.
    fn step_of(&self, now: Timestamp, out: &PlanOutput) -> Step {
        let mut step = Step::default();
        if out.ended.is_empty() {
            return step;
        }
        let mut overrides = BTreeMap::clone(&self.plan.overrides);
        for sku in &out.ended {
            let ended = overrides.remove(sku);
            step.audit.push(NewAuditRow {
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
        step.change.overrides_gone = out.ended.clone();
        step.overrides = Some(overrides);
        step.pushes = true;
        step
    }

    /// Makes a plan durable, then shows it. On an error nothing has changed.
    async fn adopt(&mut self, now: Timestamp, out: PlanOutput, step: Step) -> Result<(), StoreError> {
        let Some(term) = self.plan.term else { return Ok(()) };
        let base = self.plan.generation;
        let Step { mut change, overrides, paused, frozen, policy, pushes, mut audit } = step;
        let mut decisions = out.applied_to(&self.plan.decisions);
        let mut generation = stamp(&mut decisions, &out.changed, base);
        if generation == base && pushes {
            generation = base.next();
        }
        for m in &out.moves {
            let decision = &decisions[&m.product];
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
        let (orders_set, orders_gone) = match self.recorder {
            Some(_) => (change.overrides.clone(), change.overrides_gone.clone()),
            None => Default::default(),
        };
        let stored = generation != base || !out.dropped.is_empty() || !audit.is_empty();
        if stored {
            change.at = now;
            (change.base, change.generation) = (base, generation);
            change.decisions = out.changed.iter().map(|sku| (sku.clone(), decisions[sku].clone())).collect();
            change.dropped = out.dropped.clone();
            change.tiers = Tier::ALL.map(|tier| decisions.on(tier) as u64);
            change.audit = audit;
            self.store.commit(term, change).await?;
        }
        self.journal.note(&self.plan.decisions, &out.decisions, generation);
        self.budget.1 += out.automatic_moves();
        self.tell(&out, &decisions, generation, now);
        let last = &self.plan;
        let changes = if generation == base {
            last.changes.clone()
        } else {
            last.changes.with(generation, out.changed.clone().into())
        };
        if let Some(recorder) = &mut self.recorder {
            recorder.plan(now, &last.decisions, &out, &self.desk.products);
            for (product, order) in &orders_set {
                recorder.override_set(now, product, order);
            }
            for product in &orders_gone {
                recorder.override_over(now, product);
            }
            if let Some((_, policy)) = &policy {
                recorder.policy(now, policy);
            }
        }
        let paused = paused.map_or_else(|| last.paused.clone(), Arc::new);
        self.show(PlanView {
            generation,
            decisions,
            overrides: overrides.map_or_else(|| last.overrides.clone(), Arc::new),
            pauses: if Arc::ptr_eq(&paused, &last.paused) { last.pauses.clone() } else { Arc::new(pauses_of(&paused)) },
            paused,
            frozen: frozen.unwrap_or_else(|| last.frozen.clone()),
            policy: policy.as_ref().map_or_else(|| last.policy.clone(), |(_, p)| Arc::new(p.clone())),
            policy_version: policy.map_or(last.policy_version, |(version, _)| version),
            changes,
            at: now,
            term: Some(term),
            leader: None,
        });
        Ok(())
    }

    /// Tells of moves: to the log, the metrics and whoever listens.
    fn tell(&self, out: &PlanOutput, decisions: &Decisions, generation: Generation, at: Timestamp) {
        for m in &out.moves {
            let reason = decisions[&m.product].reason.clone();
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
                at,
            });
        }
    }

    fn show(&mut self, plan: PlanView) {
        metrics::gauge!(names::GENERATION).set(plan.generation.get() as f64);
        metrics::gauge!(names::PAUSED).set(plan.paused.len() as f64);
        for tier in Tier::ALL {
            metrics::gauge!(names::PRODUCTS, "tier" => tier.as_str()).set(plan.decisions.on(tier) as f64);
        }
        self.plan = Arc::new(plan);
        let next = self.plan.clone();
        // Those who push are woken by what is pushed; readers find the newest all the same.
        self.ways.view.send_if_modified(|view| {
            let news = (view.term, view.generation, view.policy_version)
                != (next.term, next.generation, next.policy_version)
                || view.frozen != next.frozen;
            *view = next;
            news
        });
    }

    /// Numbers the plan anew above what a core holds.
    async fn renew(&mut self, renew: Renew) -> Result<(), StoreError> {
        let Some(term) = self.plan.term else { return Ok(()) };
        if let Some(newer) = renew.term.filter(|newer| *newer >= term) {
            // The election raises it, or finds out that another one leads.
            let _ = self.ways.raise.try_send(newer);
            return Ok(());
        }
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
            at: now,
            base,
            generation,
            decisions: needed.iter().map(|sku| (sku.clone(), decisions[sku].clone())).collect(),
            tiers: Tier::ALL.map(|tier| decisions.on(tier) as u64),
            audit: vec![raised],
            ..Change::default()
        };
        self.store.commit(term, change).await?;
        tracing::info!(from = %base, to = %generation, products = needed.len(), "generation raised for a core");
        let changes = plan.changes.with(generation, needed.into());
        self.show(PlanView { generation, decisions, changes, at: now, ..PlanView::clone(&self.plan) });
        Ok(())
    }
}

/// What an order changes beside decisions.
#[derive(Default)]
struct Step {
    change: Change,
    overrides: Option<BTreeMap<Sku, Override>>,
    paused: Option<BTreeMap<crate::plan_store::Target, crate::plan_store::Freeze>>,
    frozen: Option<Option<crate::plan_store::Freeze>>,
    policy: Option<(u64, Policy)>,
    /// Cores must hear of it even if no decision changes.
    pushes: bool,
    audit: Vec<NewAuditRow>,
}

/// Gives the changed decisions new generations after `base`, as many as keep each within one push, and
/// answers the newest.
fn stamp(decisions: &mut Decisions, changed: &[Sku], base: Generation) -> Generation {
    let mut generation = base;
    for part in changed.chunks(MAX_PUSH_ENTRIES) {
        generation = generation.next();
        for sku in part {
            if let Some(decision) = decisions.get(sku).cloned() {
                decisions.insert(sku.clone(), Decision { generation, ..decision });
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
