//! What operators order: overrides one by one or many at once, freeze, pause, policy. Each order is one step: all of it
//! is stored with its lines in the audit log, or nothing is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use types::plan::MAX_PAUSES;
use types::{Generation, Sku, Tier, Timestamp};

use super::{Brain, Command, MAX_OVERRIDES, Step, WouldMove};
use crate::plan_store::{Action, Freeze, NewAuditRow, NewPolicy, StoreError, Target};
use crate::planner::{Due, Override, PlanInput, PlanOutput, plan};
use crate::policy::Policy;

/// Most overrides in one order.
pub(crate) const MAX_BATCH: usize = 1_000;

/// One override, checked.
#[derive(Debug, Clone)]
pub(crate) struct OverrideOrder {
    pub product: Sku,
    pub tier: Tier,
    pub ttl: Duration,
    pub why: String,
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

/// An order, checked.
#[derive(Debug)]
pub(crate) enum Order {
    /// These overrides, all or none; no product twice.
    Set { orders: Vec<OverrideOrder>, by: String },
    /// No override of this product any more.
    Remove { product: Sku, by: String, expects: Expects },
    /// Automatic moves stop, or go on.
    Freeze { freeze: bool, by: String, why: String },
    /// New purchases stop, or go on.
    Pause { target: Target, pause: bool, by: String, why: String },
    /// Another policy; `versions`: what the caller believes the present one to be.
    SetPolicy { policy: Box<Policy>, by: String, why: String, versions: Option<Vec<u64>> },
}

/// What came of an order.
#[derive(Debug)]
pub(crate) enum Ordered {
    /// Overrides as they are now, each with whether it is new.
    Set { orders: Vec<(Sku, Override, bool)> },
    /// Durable, in this generation.
    Done { generation: Generation },
    /// The policy with its version.
    PolicySet { version: u64 },
    /// Nothing was changed.
    Refused(Refused),
}

/// Why nothing was changed.
#[derive(Debug)]
pub(crate) enum Refused {
    /// No core sells such a product.
    UnknownProduct(Sku),
    /// No core sells anything of such a sale.
    UnknownSale(String),
    /// There is no override to take back.
    NoOverride(Sku),
    /// The caller's belief is wrong; the version that is there.
    Conflict(Sku, Option<Generation>),
    /// The policy has this version.
    PolicyConflict(u64),
    /// The most are in force.
    TooMany(&'static str, usize),
    /// Another control plane leads; who and where, if that is known.
    Standby(Option<(String, String)>),
}

type Done = Result<Ordered, StoreError>;

fn refuse(why: Refused) -> Done {
    Ok(Ordered::Refused(why))
}

impl Brain {
    pub(super) async fn command(&mut self, command: Command) -> Result<(), StoreError> {
        match command {
            Command::Order(order, answer) => {
                let worked = if self.plan.term.is_none() {
                    refuse(Refused::Standby(self.plan.leader.clone()))
                } else {
                    self.order(order).await
                };
                let (worked, fate) = match worked {
                    Err(e @ StoreError::NotLeader { .. }) => (refuse(Refused::Standby(None)), Err(e)),
                    Err(e) if !e.retryable() => {
                        tracing::error!(error = %e, "the plan store can no longer be used");
                        (Err(e), Err(StoreError::Closed))
                    }
                    other => (other, Ok(())),
                };
                // The caller may have gone; what he ordered holds all the same.
                let _ = answer.send(worked);
                self.survive(fate)
            }
            Command::Why(product, answer) => {
                let _ = answer.send(self.journal.of(&product));
                Ok(())
            }
            Command::Try(policy, most, answer) => {
                let _ = answer.send(self.try_policy(&policy, most));
                Ok(())
            }
        }
    }

    async fn order(&mut self, order: Order) -> Done {
        match order {
            Order::Set { orders, by } => self.set(orders, by).await,
            Order::Remove { product, by, expects } => self.remove(product, by, &expects).await,
            Order::Freeze { freeze, by, why } => self.freeze(freeze, by, why).await,
            Order::Pause { target, pause, by, why } => self.pause(target, pause, by, why).await,
            Order::SetPolicy { policy, by, why, versions } => self.set_policy(*policy, by, why, versions).await,
        }
    }

    /// Decides these products at once, by what is known now and these overrides.
    fn decide(&mut self, now: Timestamp, overrides: &BTreeMap<Sku, Override>, only: &BTreeSet<Sku>) -> PlanOutput {
        // A core may have spoken since the last tick.
        let policy = self.plan.policy.clone();
        let stale = now.since(self.heat.fresh_at()) >= policy.stale_after;
        let cores = self.cores();
        self.desk.prepare(&cores, now, policy.core_silence, stale);
        let moves_left = self.moves_left(now);
        let mut out = plan(&PlanInput {
            now,
            policy: &policy,
            last: &self.plan.decisions,
            heat: &self.heat,
            overrides,
            products: &self.desk.products,
            moves_left,
            due: Due::These(only),
        });
        // Overrides of others that are over are the next tick's.
        out.ended.clear();
        let looks = std::mem::take(&mut out.looks);
        self.desk.looked(looks, false);
        out
    }

    fn current(&self, product: &Sku, now: Timestamp) -> Option<Override> {
        self.plan.overrides.get(product).filter(|o| o.holds(now)).cloned()
    }

    async fn set(&mut self, orders: Vec<OverrideOrder>, by: String) -> Done {
        let now = self.clock.now();
        let cores = self.cores();
        let sold = |sku: &Sku| {
            self.desk.products.contains(sku)
                || cores.iter().any(|c| c.state.as_ref().is_some_and(|s| s.products.iter().any(|p| p.product == *sku)))
        };
        let mut new = 0;
        for order in &orders {
            if !sold(&order.product) {
                return refuse(Refused::UnknownProduct(order.product.clone()));
            }
            let current = self.current(&order.product, now);
            if !order.expects.holds(current.as_ref()) {
                return refuse(Refused::Conflict(order.product.clone(), current.map(|o| o.generation)));
            }
            new += usize::from(!self.plan.overrides.contains_key(&order.product));
        }
        if self.plan.overrides.len() + new > MAX_OVERRIDES {
            return refuse(Refused::TooMany("overrides", MAX_OVERRIDES));
        }
        let generation = self.plan.generation.next();
        let mut overrides = BTreeMap::clone(&self.plan.overrides);
        let (mut step, mut set) = (Step { pushes: true, ..Step::default() }, Vec::with_capacity(orders.len()));
        for order in orders {
            let current = self.current(&order.product, now);
            let made = Override {
                tier: order.tier,
                by: by.clone(),
                why: order.why.clone(),
                at: now,
                until: now.plus(order.ttl),
                generation,
            };
            step.audit.push(NewAuditRow {
                at: now,
                actor: by.clone(),
                action: Action::OverrideSet,
                product: Some(order.product.clone()),
                before: current.as_ref().map(|o| json!(o)),
                after: Some(json!(made)),
                why: order.why,
                generation,
            });
            overrides.insert(order.product.clone(), made.clone());
            step.change.overrides.push((order.product.clone(), made.clone()));
            set.push((order.product, made, current.is_none()));
        }
        let only = set.iter().map(|(sku, ..)| sku.clone()).collect();
        let out = self.decide(now, &overrides, &only);
        step.overrides = Some(overrides);
        self.adopt(now, out, step).await?;
        Ok(Ordered::Set { orders: set })
    }

    async fn remove(&mut self, product: Sku, by: String, expects: &Expects) -> Done {
        let now = self.clock.now();
        let Some(current) = self.current(&product, now) else {
            return refuse(Refused::NoOverride(product));
        };
        if !expects.holds(Some(&current)) {
            return refuse(Refused::Conflict(product, Some(current.generation)));
        }
        let mut overrides = BTreeMap::clone(&self.plan.overrides);
        overrides.remove(&product);
        let out = self.decide(now, &overrides, &BTreeSet::from([product.clone()]));
        let mut step = Step { overrides: Some(overrides), pushes: true, ..Step::default() };
        step.change.overrides_gone.push(product.clone());
        step.audit.push(NewAuditRow {
            at: now,
            actor: by,
            action: Action::OverrideRemoved,
            product: Some(product),
            before: Some(json!(current)),
            after: None,
            why: "taken back".to_owned(),
            generation: Generation::default(),
        });
        self.adopt(now, out, step).await?;
        Ok(Ordered::Done { generation: self.plan.generation })
    }

    async fn freeze(&mut self, freeze: bool, by: String, why: String) -> Done {
        let now = self.clock.now();
        if freeze == self.plan.frozen.is_some() {
            return Ok(Ordered::Done { generation: self.plan.generation });
        }
        let frozen = freeze.then(|| Freeze { by: by.clone(), why: why.clone(), at: now });
        let row = NewAuditRow {
            at: now,
            actor: by,
            action: if freeze { Action::Frozen } else { Action::Thawed },
            product: None,
            before: self.plan.frozen.as_ref().map(|f| json!(f)),
            after: frozen.as_ref().map(|f| json!(f)),
            why,
            generation: Generation::default(),
        };
        let mut step = Step { frozen: Some(frozen.clone()), audit: vec![row], ..Step::default() };
        step.change.frozen = Some(frozen);
        self.adopt(now, PlanOutput::default(), step).await?;
        Ok(Ordered::Done { generation: self.plan.generation })
    }

    async fn pause(&mut self, target: Target, pause: bool, by: String, why: String) -> Done {
        let now = self.clock.now();
        if pause == self.plan.paused.contains_key(&target) {
            return Ok(Ordered::Done { generation: self.plan.generation });
        }
        let cores = self.cores();
        let mut sold = cores.iter().filter_map(|c| c.state.as_ref()).flat_map(|s| &s.products);
        let known = match &target {
            Target::Sale(sale) => sold.any(|p| p.sale == *sale),
            Target::Product(product) => sold.any(|p| p.product == *product),
        };
        // What is paused can be resumed although no core sells it any more.
        match &target {
            Target::Sale(sale) if pause && !known => return refuse(Refused::UnknownSale(sale.to_string())),
            Target::Product(product) if pause && !known => return refuse(Refused::UnknownProduct(product.clone())),
            _ => {}
        }
        if pause && self.plan.paused.len() >= MAX_PAUSES {
            return refuse(Refused::TooMany("pauses", MAX_PAUSES));
        }
        let mut paused = BTreeMap::clone(&self.plan.paused);
        let told = pause.then(|| Freeze { by: by.clone(), why: why.clone(), at: now });
        let before = match &told {
            Some(told) => paused.insert(target.clone(), told.clone()),
            None => paused.remove(&target),
        };
        let row = NewAuditRow {
            at: now,
            actor: by,
            action: if pause { Action::Paused } else { Action::Resumed },
            product: match &target {
                Target::Product(product) => Some(product.clone()),
                Target::Sale(_) => None,
            },
            before: before.map(|f| json!({ "kind": target.kind(), "name": target.name(), "paused": f })),
            after: told.as_ref().map(|f| json!({ "kind": target.kind(), "name": target.name(), "paused": f })),
            why,
            generation: Generation::default(),
        };
        let mut step = Step { paused: Some(paused), pushes: true, audit: vec![row], ..Step::default() };
        step.change.paused.push((target, told));
        self.adopt(now, PlanOutput::default(), step).await?;
        Ok(Ordered::Done { generation: self.plan.generation })
    }

    async fn set_policy(&mut self, policy: Policy, by: String, why: String, versions: Option<Vec<u64>>) -> Done {
        let now = self.clock.now();
        let version = self.plan.policy_version;
        if versions.is_some_and(|versions| !versions.contains(&version)) {
            return refuse(Refused::PolicyConflict(version));
        }
        if policy == *self.plan.policy {
            return Ok(Ordered::PolicySet { version });
        }
        let row = NewAuditRow {
            at: now,
            actor: by.clone(),
            action: Action::Policy,
            product: None,
            before: Some(json!(*self.plan.policy)),
            after: Some(json!(policy)),
            why: why.clone(),
            generation: Generation::default(),
        };
        let mut step = Step { audit: vec![row], ..Step::default() };
        step.change.policy = Some(NewPolicy { at: now, by, why, policy: policy.clone() });
        step.policy = Some((version + 1, policy));
        self.adopt(now, PlanOutput::default(), step).await?;
        // Databases may leave numbers out: what counts is the one that was given.
        if let Some((version, policy)) = self.newest_policy().await? {
            let plan = crate::view::PlanView::clone(&self.plan);
            self.show(crate::view::PlanView { policy_version: version, policy: policy.into(), ..plan });
        }
        self.desk.touch_all();
        Ok(Ordered::PolicySet { version: self.plan.policy_version })
    }

    /// What another policy would move, by what is known now.
    fn try_policy(&self, policy: &Policy, most: usize) -> Vec<WouldMove> {
        let out = plan(&PlanInput {
            now: self.clock.now(),
            policy,
            last: &self.plan.decisions,
            heat: &self.heat,
            overrides: &self.plan.overrides,
            products: &self.desk.products,
            moves_left: policy.moves_per_tick,
            due: Due::All,
        });
        let moves = out.moves.iter().take(most).filter_map(|m| {
            let reason = out.decision(&m.product)?.reason.clone();
            Some(WouldMove { product: m.product.clone(), from: m.from, to: m.to, reason })
        });
        moves.collect()
    }
}
