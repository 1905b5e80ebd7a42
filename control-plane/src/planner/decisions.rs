//! Every planned product's decision, as a map that is copied in parts: a reader's snapshot costs nothing, and a
//! change copies only the part that it touches. It must never decide anything.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, btree_map};
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault};
use std::ops::{Bound, Index};
use std::sync::Arc;

use rustc_hash::FxHasher;
use types::{Sku, Tier};

use super::Decision;

/// Parts of the map: with the 100,000 products of the largest sale each has some 400, so that one change copies
/// 400 decisions and not 100,000, and a snapshot counts 256 references.
const PARTS: usize = 256;

type Part = BTreeMap<Sku, Decision>;

/// Decisions by product, in the order of their SKUs. Cloning it is cheap; clones share what did not change.
#[derive(Clone)]
pub struct Decisions {
    parts: Arc<[Arc<Part>]>,
    /// Products on each tier.
    on: [usize; Tier::ALL.len()],
}

impl Default for Decisions {
    fn default() -> Self {
        let empty = Arc::new(Part::new());
        Self { parts: std::iter::repeat_n(empty, PARTS).collect(), on: [0; 3] }
    }
}

fn place(product: &Sku) -> usize {
    let hash = BuildHasherDefault::<FxHasher>::default().hash_one(product.as_str());
    // The upper bits are the well mixed ones.
    (hash >> 56) as usize % PARTS
}

impl Decisions {
    /// One product's decision.
    pub fn get(&self, product: &Sku) -> Option<&Decision> {
        self.parts[place(product)].get(product)
    }
    /// One product as it is held, with its decision.
    pub fn get_key_value(&self, product: &Sku) -> Option<(&Sku, &Decision)> {
        self.parts[place(product)].get_key_value(product)
    }
    /// Whether it is planned.
    pub fn contains_key(&self, product: &Sku) -> bool {
        self.get(product).is_some()
    }
    /// How many are planned.
    pub fn len(&self) -> usize {
        self.on.iter().sum()
    }
    /// None is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// How many have this tier.
    pub fn on(&self, tier: Tier) -> usize {
        self.on[tier as usize]
    }
    /// Sets one.
    pub fn insert(&mut self, product: Sku, decision: Decision) {
        let at = place(&product);
        self.on[decision.tier as usize] += 1;
        let parts = Arc::make_mut(&mut self.parts);
        if let Some(old) = Arc::make_mut(&mut parts[at]).insert(product, decision) {
            self.on[old.tier as usize] -= 1;
        }
    }
    /// Takes one out.
    pub fn remove(&mut self, product: &Sku) -> Option<Decision> {
        let at = place(product);
        if !self.parts[at].contains_key(product) {
            return None;
        }
        let gone = Arc::make_mut(&mut Arc::make_mut(&mut self.parts)[at]).remove(product)?;
        self.on[gone.tier as usize] -= 1;
        Some(gone)
    }
    /// All, in the order of their SKUs.
    pub fn iter(&self) -> Iter<'_> {
        self.after(None)
    }
    /// Those behind this SKU, in order.
    pub fn after(&self, product: Option<&Sku>) -> Iter<'_> {
        let from = product.map_or(Bound::Unbounded, Bound::Excluded);
        let mut heads = BinaryHeap::new();
        let mut rest = Vec::with_capacity(PARTS);
        for part in self.parts.iter() {
            let mut range = part.range::<Sku, _>((from, Bound::Unbounded));
            if let Some((sku, decision)) = range.next() {
                heads.push(Reverse((sku, Head(decision, rest.len()))));
                rest.push(range);
            }
        }
        Iter { heads, rest }
    }
}

/// The next decision of one part, and which part; ordered by neither.
struct Head<'a>(&'a Decision, usize);
impl PartialEq for Head<'_> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Head<'_> {}
impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Head<'_> {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

/// Decisions in the order of their SKUs.
pub struct Iter<'a> {
    heads: BinaryHeap<Reverse<(&'a Sku, Head<'a>)>>,
    rest: Vec<btree_map::Range<'a, Sku, Decision>>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a Sku, &'a Decision);
    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((sku, Head(decision, part))) = self.heads.pop()?;
        if let Some((next, its)) = self.rest[part].next() {
            self.heads.push(Reverse((next, Head(its, part))));
        }
        Some((sku, decision))
    }
}

impl Index<&Sku> for Decisions {
    type Output = Decision;
    fn index(&self, product: &Sku) -> &Decision {
        &self.parts[place(product)][product]
    }
}
impl Extend<(Sku, Decision)> for Decisions {
    fn extend<T: IntoIterator<Item = (Sku, Decision)>>(&mut self, decisions: T) {
        for (product, decision) in decisions {
            self.insert(product, decision);
        }
    }
}
impl FromIterator<(Sku, Decision)> for Decisions {
    fn from_iter<T: IntoIterator<Item = (Sku, Decision)>>(decisions: T) -> Self {
        let mut all = Self::default();
        all.extend(decisions);
        all
    }
}
impl PartialEq for Decisions {
    fn eq(&self, other: &Self) -> bool {
        self.parts.iter().zip(other.parts.iter()).all(|(a, b)| Arc::ptr_eq(a, b) || a == b)
    }
}
impl fmt::Debug for Decisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use types::plan::Reason;
    use types::{Generation, Timestamp};

    use super::*;
    use crate::planner::{Evidence, Memory};

    fn decision(n: u64) -> Decision {
        Decision {
            tier: Tier::ALL[n as usize % 3],
            reason: Reason::Cold,
            since: Timestamp::default(),
            generation: Generation::new(n),
            evidence: Evidence::default(),
            memory: Memory::default(),
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map_and_a_snapshot_stays_as_it_was(
            steps in prop::collection::vec((0u32..300, prop::option::of(0u64..50)), 0..600), after in 0u32..300,
        ) {
            let sku = |n: u32| Sku::new(format!("p{n}")).unwrap();
            let (mut ours, mut model) = (Decisions::default(), BTreeMap::new());
            let mut snapshots = Vec::new();
            for (n, (product, value)) in steps.into_iter().enumerate() {
                match value {
                    Some(value) => {
                        ours.insert(sku(product), decision(value));
                        model.insert(sku(product), decision(value));
                    }
                    None => prop_assert_eq!(ours.remove(&sku(product)), model.remove(&sku(product))),
                }
                if n % 100 == 0 {
                    snapshots.push((ours.clone(), model.clone()));
                }
            }
            snapshots.push((ours, model));
            for (ours, model) in snapshots {
                prop_assert!(ours.iter().eq(model.iter()));
                let from = sku(after);
                prop_assert!(ours.after(Some(&from)).eq(model.iter().filter(|(s, _)| **s > from)));
                prop_assert_eq!(ours.len(), model.len());
                for tier in Tier::ALL {
                    prop_assert_eq!(ours.on(tier), model.values().filter(|d| d.tier == tier).count());
                }
            }
        }
    }
}
