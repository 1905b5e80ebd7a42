//! Calls for the mover: which products somebody wants looked at before the next walk over all of them. It only
//! remembers names; ten thousand calls for one product are one look.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;
use types::Sku;

/// Names remembered; beyond, a walk over all products is no dearer than looking them up.
const MOST_NAMES: usize = 1_024;

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Calls {
    /// Everything: a plan came, a sale closes.
    pub(crate) all: bool,
    /// These, in the order of their names.
    pub(crate) products: BTreeSet<Sku>,
}

/// Where calls are left and taken.
#[derive(Default)]
pub(crate) struct Wake {
    calls: Mutex<Calls>,
    left: Notify,
}

impl Wake {
    /// Look at everything.
    pub(crate) fn all(&self) {
        self.calls.lock().all = true;
        self.left.notify_one();
    }

    /// Look at this product.
    pub(crate) fn product(&self, product: &Sku) {
        let mut calls = self.calls.lock();
        if !calls.all && !calls.products.contains(product) {
            if calls.products.len() >= MOST_NAMES {
                (calls.all, calls.products) = (true, BTreeSet::new());
            } else {
                calls.products.insert(product.clone());
            }
        }
        drop(calls);
        self.left.notify_one();
    }

    /// Returns once something was left since the last [`Wake::take`].
    pub(crate) async fn left(&self) {
        self.left.notified().await;
    }

    /// Takes what was left.
    pub(crate) fn take(&self) -> Calls {
        std::mem::take(&mut self.calls.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_calls_are_one_look_and_too_many_names_are_a_walk() {
        let wake = Wake::default();
        let sku = |n: usize| Sku::new(format!("p{n}")).expect("sku");
        for _ in 0..10_000 {
            wake.product(&sku(7));
        }
        wake.left().await;
        assert_eq!(wake.take(), Calls { all: false, products: BTreeSet::from([sku(7)]) });
        assert_eq!(wake.take(), Calls::default());
        for n in 0..=MOST_NAMES {
            wake.product(&sku(n));
        }
        assert_eq!(wake.take(), Calls { all: true, products: BTreeSet::new() });
    }
}
