//! The plan that the control plane pushed: the newest generation, kept on disk so that a restart without a control
//! plane goes on with the last good one. It moves nothing; the mover reads the wishes here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use types::plan::{CoreState, NackReason, Pauses, PlanAnswer, PlanEntry, PlanPush, Reason};
use types::{CoreId, Generation, Sku, Term, Timestamp};

use crate::handover::Wish;
use crate::metrics;
use crate::shared::Shared;

const FILE: &str = "plan.json";

/// The plan as it is held and written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeldPlan {
    /// The newest leader that gave us a plan.
    #[serde(default)]
    term: Term,
    generation: Generation,
    entries: BTreeMap<Sku, PlanEntry>,
    /// When each entry was taken. A plan that an older build has kept does not say: its entries are of old.
    #[serde(default)]
    taken: BTreeMap<Sku, Timestamp>,
    /// What takes no new purchases.
    #[serde(default)]
    pauses: Pauses,
}

/// What a plan wishes, by product.
pub(crate) type Wishes = HashMap<Sku, Wish, FxBuildHasher>;

impl HeldPlan {
    /// What it wishes: made once for each plan, as the mover asks for every product ten times a second.
    fn wishes(&self) -> Arc<Wishes> {
        let wish = |(product, entry): (&Sku, &PlanEntry)| {
            let ordered_until = match &entry.reason {
                Reason::Override { until, .. } => Some(*until),
                _ => None,
            };
            let taken = self.taken.get(product).copied().unwrap_or_default();
            (product.clone(), Wish { tier: entry.tier, taken, ordered_until })
        };
        Arc::new(self.entries.iter().map(wish).collect())
    }
}

/// What a push does to the plan that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The new plan.
    New(HeldPlan),
    /// It is the plan that is held already.
    Same,
    /// Not taken.
    Refused(NackReason),
}

/// Decides about a push that comes to core `me` at `now`. `sells` says whether this core sells a product.
pub(crate) fn take(
    held: &HeldPlan,
    push: &PlanPush,
    me: &CoreId,
    now: Timestamp,
    sells: impl Fn(&Sku) -> bool,
) -> Taken {
    if let Some(other) = push.core.as_ref().filter(|core| *core != me) {
        tracing::warn!(%me, meant_for = %other, "a plan for another core came here: two cores share one address");
        return Taken::Refused(NackReason::WrongCore { core: me.clone() });
    }
    if push.term < held.term {
        return Taken::Refused(NackReason::OldLeader { term: held.term });
    }
    if push.generation < held.generation {
        return Taken::Refused(NackReason::StaleGeneration);
    }
    if push.generation == held.generation {
        // A new leader that begins with the plan of the old one: from now on the old one is refused.
        return if push.term > held.term {
            Taken::New(HeldPlan { term: push.term, ..held.clone() })
        } else {
            Taken::Same
        };
    }
    let (mut entries, mut taken) = match push.base {
        None => (BTreeMap::new(), BTreeMap::new()),
        Some(base) if base == held.generation => (held.entries.clone(), held.taken.clone()),
        Some(_) => return Taken::Refused(NackReason::UnknownBase),
    };
    for entry in &push.entries {
        if !sells(&entry.product) {
            return Taken::Refused(NackReason::UnknownProduct { product: entry.product.clone() });
        }
        entries.insert(entry.product.clone(), entry.clone());
        taken.insert(entry.product.clone(), now);
    }
    let pauses = push.pauses.clone();
    Taken::New(HeldPlan { term: push.term, generation: push.generation, entries, taken, pauses })
}

/// Why a plan could not be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// The disk failed: the push is not acknowledged.
    #[error("the plan was not written to {path}: {source}")]
    Disk {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The products could not be read.
    #[error(transparent)]
    Store(#[from] crate::stock::store::StoreError),
}

/// The held plan.
pub(crate) struct PlanClient {
    held: ArcSwap<HeldPlan>,
    wishes: ArcSwap<Wishes>,
    path: PathBuf,
    // One push at a time: the newest is on disk before it is acknowledged.
    taking: Mutex<()>,
}

impl PlanClient {
    /// Opens the last good plan in `data_dir`. A file that does not parse is put aside: without a plan every
    /// product stays where it is, which is safe.
    pub(crate) fn open(data_dir: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(data_dir)?;
        let path = data_dir.join(FILE);
        let held = match std::fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(held) => held,
                Err(error) => {
                    let aside = path.with_extension("damaged");
                    tracing::error!(%error, aside = %aside.display(), "the last plan is damaged; it is put aside");
                    std::fs::rename(&path, aside)?;
                    HeldPlan::default()
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => HeldPlan::default(),
            Err(error) => return Err(error),
        };
        let wishes = ArcSwap::new(held.wishes());
        Ok(Self { held: ArcSwap::from_pointee(held), wishes, path, taking: Mutex::new(()) })
    }

    /// Holds a plan that nobody pushed.
    #[cfg(test)]
    pub(crate) fn hold(&self, generation: Generation, entries: Vec<PlanEntry>, now: Timestamp) {
        let taken = entries.iter().map(|entry| (entry.product.clone(), now)).collect();
        let entries = entries.into_iter().map(|entry| (entry.product.clone(), entry)).collect();
        let held = HeldPlan { generation, entries, taken, ..HeldPlan::default() };
        self.wishes.store(held.wishes());
        self.held.store(Arc::new(held));
    }

    /// The generation that is held; 0 for none.
    pub(crate) fn generation(&self) -> Generation {
        self.held.load().generation
    }

    /// What the plan that is held pauses.
    pub(crate) fn pauses(&self) -> Pauses {
        self.held.load().pauses.clone()
    }

    /// What the plan that is held wishes.
    pub(crate) fn wishes(&self) -> Arc<Wishes> {
        self.wishes.load_full()
    }

    /// Answers a push. It is acknowledged only when it is on disk.
    pub(crate) async fn push(&self, shared: &Shared, push: PlanPush) -> Result<PlanAnswer, PlanError> {
        let _one = self.taking.lock().await;
        let held = self.held.load_full();
        let decide = || take(&held, &push, &shared.core, shared.now(), |product| shared.table.get(product).is_some());
        let mut taken = decide();
        if matches!(taken, Taken::Refused(NackReason::UnknownProduct { .. })) {
            // A sale may have been applied through another core a moment ago.
            shared.table.refresh().await?;
            taken = decide();
        }
        let label = match taken {
            Taken::Refused(why) => {
                metrics::plan_push("nack");
                tracing::info!(
                    generation = push.generation.get(),
                    held = held.generation.get(),
                    ?why,
                    "plan not taken"
                );
                return Ok(PlanAnswer::Nack { generation: held.generation, nonce: push.nonce, why });
            }
            Taken::Same => "same",
            Taken::New(plan) => {
                let pauses = plan.pauses.clone();
                self.keep(plan).await?;
                if **shared.pauses.load() != pauses {
                    tracing::warn!(sales = pauses.sales.len(), products = pauses.products.len(), "paused by the plan");
                    shared.pauses.store(Arc::new(pauses));
                }
                shared.wake_mover.all();
                "new"
            }
        };
        metrics::plan_push(label);
        Ok(PlanAnswer::Ack { generation: self.generation(), nonce: push.nonce, state: self.state(shared) })
    }

    async fn keep(&self, plan: HeldPlan) -> Result<(), PlanError> {
        let plan = Arc::new(plan);
        let (path, writing) = (self.path.clone(), plan.clone());
        let written = tokio::task::spawn_blocking(move || write(&path, &writing)).await;
        let written = written.unwrap_or_else(|e| Err(std::io::Error::other(e.to_string())));
        written.map_err(|source| PlanError::Disk { path: self.path.clone(), source })?;
        self.wishes.store(plan.wishes());
        self.held.store(plan);
        Ok(())
    }

    /// What the planner needs from this core.
    pub(crate) fn state(&self, shared: &Shared) -> CoreState {
        CoreState {
            core: shared.core.clone(),
            incarnation: shared.incarnation,
            generation: self.generation(),
            term: self.held.load().term,
            redis_capacity: shared.grants_rate.get(),
            products: shared.table.rows().iter().map(|row| row.state.clone()).collect(),
        }
    }
}

/// Writes beside the file, then puts it in its place: a crash leaves the old plan or the new one.
fn write(path: &Path, plan: &HeldPlan) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(&serde_json::to_vec(plan)?)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use types::{Nonce, Tier};

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(9);

    fn push(generation: u64, base: Option<u64>, entries: &[(&str, Tier)]) -> PlanPush {
        PlanPush {
            term: Term::new(1),
            core: None,
            pauses: Pauses::default(),
            generation: Generation::new(generation),
            nonce: Nonce::new(1),
            base: base.map(Generation::new),
            entries: entries
                .iter()
                .map(|(p, tier)| PlanEntry { product: Sku::new(p).expect("sku"), tier: *tier, reason: Reason::Hot })
                .collect(),
        }
    }
    fn me() -> CoreId {
        CoreId::new("core-1").expect("a core")
    }
    fn new(held: &HeldPlan, p: &PlanPush) -> HeldPlan {
        match take(held, p, &me(), NOW, |sku| sku.as_str() != "unknown") {
            Taken::New(plan) => plan,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_newest_generation_wins_and_older_ones_are_answered() {
        let empty = HeldPlan::default();
        let one = new(&empty, &push(5, None, &[("a", Tier::Redis), ("b", Tier::Db)]));
        let two = new(&one, &push(7, Some(5), &[("a", Tier::Queue)]));
        assert_eq!(two.entries.len(), 2);
        assert_eq!(two.entries[&Sku::new("a").expect("sku")].tier, Tier::Queue);
        let whole = new(&two, &push(8, None, &[("b", Tier::Queue)]));
        assert_eq!(whole.entries.len(), 1);
        let all = |_: &Sku| true;
        assert_eq!(take(&two, &push(7, None, &[]), &me(), NOW, all), Taken::Same);
        assert_eq!(take(&two, &push(6, None, &[]), &me(), NOW, all), Taken::Refused(NackReason::StaleGeneration));
        assert_eq!(take(&two, &push(9, Some(8), &[]), &me(), NOW, all), Taken::Refused(NackReason::UnknownBase));
        let unknown = take(&two, &push(9, Some(7), &[("unknown", Tier::Db)]), &me(), NOW, |_| false);
        assert!(matches!(unknown, Taken::Refused(NackReason::UnknownProduct { .. })));
    }

    #[test]
    fn an_old_leader_and_a_plan_for_another_core_are_refused() {
        let all = |_: &Sku| true;
        let of = |term, p: PlanPush| PlanPush { term: Term::new(term), ..p };
        let held = new(&HeldPlan::default(), &of(4, push(5, None, &[("a", Tier::Redis)])));
        let late = of(3, push(9, None, &[("a", Tier::Db)]));
        let old = NackReason::OldLeader { term: Term::new(4) };
        assert_eq!(take(&held, &late, &me(), NOW, all), Taken::Refused(old.clone()), "however new its number");
        let led = new(&held, &of(7, push(5, None, &[])));
        assert_eq!((led.term, led.generation, led.entries.len()), (Term::new(7), Generation::new(5), 1));
        assert!(matches!(take(&led, &of(4, push(6, None, &[])), &me(), NOW, all), Taken::Refused(_)));
        let other = PlanPush { core: CoreId::new("core-2").ok(), ..of(7, push(6, None, &[])) };
        assert_eq!(take(&led, &other, &me(), NOW, all), Taken::Refused(NackReason::WrongCore { core: me() }));
    }

    #[test]
    fn the_last_good_plan_survives_a_restart_and_damage_is_put_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        let plan = new(&HeldPlan::default(), &push(5, None, &[("a", Tier::Redis)]));
        let path = folder.path().join(FILE);
        write(&path, &plan).expect("written");
        // A crash in the middle of the next write leaves this beside it.
        std::fs::write(path.with_extension("new"), b"{").expect("written");
        let opened = PlanClient::open(folder.path()).expect("opened");
        let wish = opened.wishes().get(&Sku::new("a").expect("sku")).copied();
        assert_eq!(wish, Some(Wish { tier: Tier::Redis, taken: NOW, ordered_until: None }));
        // As an older build has written it.
        std::fs::write(
            &path,
            serde_json::to_string(&plan).expect("text").replace(",\"taken\":{\"a\":\"1970-01-01T00:00:09.000Z\"}", ""),
        )
        .expect("written");
        let opened = PlanClient::open(folder.path()).expect("opened");
        let wish = opened.wishes().get(&Sku::new("a").expect("sku")).copied();
        assert_eq!(wish, Some(Wish { tier: Tier::Redis, taken: Timestamp::default(), ordered_until: None }));
        std::fs::write(&path, b"{\"generation\":").expect("written");
        assert_eq!(PlanClient::open(folder.path()).expect("opened").generation(), Generation::default());
        assert!(path.with_extension("damaged").exists());
    }
}
