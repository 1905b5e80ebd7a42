//! Which products are due: those about which something was said, those with heat, and those whose time has come. It
//! keeps a plan's cost to what changes, however many products and pages there are; it decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use types::{HeatReport, Sku, Timestamp};

use crate::observe::{CoreSeen, Products};
use crate::planner::Look;

/// Between two looks at everything while there is no heat: the age that decisions tell stays about right.
const STALE_WALK: Duration = Duration::from_secs(10);

/// The planner's desk.
#[derive(Debug)]
pub(crate) struct Desk {
    /// What the cores say.
    pub products: Products,
    pending: BTreeSet<Sku>,
    timers: BTreeMap<Timestamp, BTreeSet<Sku>>,
    timer_of: HashMap<Sku, Timestamp, FxBuildHasher>,
    /// Every product must be looked at: at a start, after a new policy, when heat stops or comes back.
    everything: bool,
    all_known: bool,
    stale: bool,
    walked_at: Timestamp,
    last: Timestamp,
}

impl Desk {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            products: Products::default(),
            pending: BTreeSet::new(),
            timers: BTreeMap::new(),
            timer_of: HashMap::default(),
            everything: true,
            all_known: false,
            stale: false,
            walked_at: now,
            last: now,
        }
    }

    /// Something was said about these.
    pub(crate) fn touch(&mut self, products: impl IntoIterator<Item = Sku>) {
        self.pending.extend(products);
    }

    /// Everything must be looked at.
    pub(crate) fn touch_all(&mut self) {
        self.everything = true;
    }

    /// A report came: the products of its pages are due.
    pub(crate) fn reported(&mut self, report: &HeatReport) {
        for entry in &report.entries {
            for product in self.products.of_page(&entry.page) {
                if !self.pending.contains(product) {
                    self.pending.insert(product.clone());
                }
            }
        }
    }

    /// Takes up the cores' words and what time has brought. Whether everything is due.
    pub(crate) fn prepare(&mut self, cores: &[CoreSeen], now: Timestamp, silence: Duration, stale: bool) -> bool {
        self.products.observe(cores, now, silence, &mut self.pending);
        let all_known = self.products.all_cores_known();
        let stale_walk = stale && now.since(self.walked_at) >= STALE_WALK;
        let news = self.all_known != all_known || self.stale != stale;
        // A clock that was set back makes every timer wrong.
        if news || stale_walk || now < self.last {
            self.everything = true;
        }
        (self.all_known, self.stale, self.last) = (all_known, stale, now);
        while let Some(first) = self.timers.first_entry().filter(|first| *first.key() <= now) {
            for product in first.remove() {
                self.timer_of.remove(&product);
                self.pending.insert(product);
            }
        }
        if self.everything {
            self.walked_at = now;
        }
        self.everything
    }

    /// The products that are due, unless everything is.
    pub(crate) const fn due(&self) -> &BTreeSet<Sku> {
        &self.pending
    }

    /// A plan was made: when each product that it looked at is due again. `all`: it looked at everything.
    pub(crate) fn looked(&mut self, looks: Vec<(Sku, Look)>, all: bool) {
        if all {
            self.everything = false;
            self.pending.clear();
        }
        for (product, look) in looks {
            let before = self.timer_of.get(&product).copied();
            let next = match look {
                Look::At(at) => Some(at),
                Look::EveryTick | Look::OnChange => None,
            };
            if before != next {
                self.set_timer(&product, before, next);
            }
            if look == Look::EveryTick {
                if !self.pending.contains(&product) {
                    self.pending.insert(product);
                }
            } else {
                self.pending.remove(&product);
            }
        }
    }

    fn set_timer(&mut self, product: &Sku, before: Option<Timestamp>, next: Option<Timestamp>) {
        if let Some(at) = before {
            self.timer_of.remove(product);
            if let Some(others) = self.timers.get_mut(&at) {
                others.remove(product);
                if others.is_empty() {
                    self.timers.remove(&at);
                }
            }
        }
        if let Some(at) = next {
            self.timer_of.insert(product.clone(), at);
            self.timers.entry(at).or_default().insert(product.clone());
        }
    }
}
