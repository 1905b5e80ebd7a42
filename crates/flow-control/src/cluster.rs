//! One threshold over several processes: a dealer ([`deal`], run by whoever sees all of them) divides it by what each was
//! asked for; each process keeps to its share until the share runs out, then to the rule's fallback. So the sum is never
//! above the threshold while shares are dealt, and a silent dealer leaves everybody with something safe.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::time::Nanos;

/// The share that a process has been dealt of one rule.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    threshold: AtomicU64,
    until: AtomicU64,
}

impl Shares {
    /// A share that holds until then.
    pub(crate) fn deal(&self, threshold: f64, until: Nanos) {
        self.threshold.store(threshold.to_bits(), Ordering::Release);
        self.until.store(until.get(), Ordering::Release);
    }

    /// The share, while it holds.
    pub(crate) fn of(&self, now: Nanos) -> Option<f64> {
        let held = now.get() < self.until.load(Ordering::Acquire);
        held.then(|| f64::from_bits(self.threshold.load(Ordering::Acquire)))
    }
}

/// Divides `total` among processes that were asked for `demands` entries a second: who needs less than an equal part gets
/// what he needs and some, the others divide the rest equally (max–min fairness). The sum is `total`, but for rounding
/// errors of a floating point number; what nobody needs is spread over all, so that a burst finds room at once.
pub fn deal(total: f64, demands: &[f64]) -> Vec<f64> {
    let mut shares = vec![0.0; demands.len()];
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by(|a, b| demands[*a].total_cmp(&demands[*b]));
    let mut left = total;
    for (i, who) in order.iter().enumerate() {
        let equal = left / (demands.len() - i) as f64;
        shares[*who] = demands[*who].clamp(0.0, equal);
        left -= shares[*who];
    }
    let spare = left / demands.len().max(1) as f64;
    shares.iter_mut().for_each(|share| *share += spare);
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_needs_little_leaves_the_rest_to_the_others() {
        assert_eq!(deal(90.0, &[10.0, 100.0, 100.0]), vec![10.0, 40.0, 40.0]);
        assert_eq!(deal(90.0, &[0.0, 0.0, 30.0]), vec![20.0, 20.0, 50.0]);
        assert!(deal(90.0, &[]).is_empty());
    }

    proptest! {
        #[test]
        fn the_sum_is_the_total_and_nobody_envies(total in 0.0_f64..1e6, demands in proptest::collection::vec(0.0_f64..1e6, 1..20)) {
            let shares = deal(total, &demands);
            let sum: f64 = shares.iter().sum();
            prop_assert!((sum - total).abs() <= total * 1e-9 + 1e-9);
            for (share, demand) in shares.iter().zip(&demands) {
                prop_assert!(*share >= 0.0);
                // Whoever did not get what he asked for got at least an equal part.
                prop_assert!(*share >= demand.min(total / demands.len() as f64) - 1e-6);
            }
        }
    }
}
