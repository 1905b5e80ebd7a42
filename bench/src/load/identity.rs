//! Who asks for what under which key: drawn from the seed and the attempt's number alone, so that nothing has to be
//! remembered for a repeat, and a seed means the same attempts on any machine.

use std::fmt::Write;

use super::Shoppers;

/// A duplicate repeats one of so many attempts before it.
const WINDOW: u64 = 1_024;

/// SplitMix64's finaliser.
pub(super) fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A share of 1 drawn from bits.
pub(super) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// One attempt's buyer, product and key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) buyer: usize,
    pub(super) product: usize,
    key: u64,
}

impl Identity {
    /// The attempt of this number; `(identity, whether it repeats an earlier one)`.
    pub(super) fn of(shoppers: &Shoppers, seed: u64, number: u64) -> (Self, bool) {
        let dice = mix(seed ^ mix(number ^ 0x6475_706c));
        let earlier = number.min(WINDOW);
        let repeats = earlier > 0 && unit(dice) < shoppers.duplicates;
        let number = if repeats { number - 1 - mix(dice) % earlier } else { number };
        let bits = mix(seed ^ mix(number));
        let identity = Self {
            buyer: (bits % shoppers.buyers.len() as u64) as usize,
            product: (mix(bits) % shoppers.products.len() as u64) as usize,
            key: number,
        };
        (identity, repeats)
    }

    /// Its idempotency key; unique within the run as each thread counts its own numbers.
    pub(super) fn write_key(self, run: &str, thread: usize, to: &mut String) {
        to.clear();
        let _infallible = write!(to, "{run}-{thread}-{:x}", self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Buyer, Shoppers};
    use super::*;

    fn shoppers(duplicates: f64) -> Shoppers {
        let buyer = |n| Buyer { name: format!("b{n}"), token: String::new() };
        Shoppers {
            sale: "s".into(),
            products: vec!["p".into(), "q".into()],
            buyers: (0..100).map(buyer).collect(),
            quantity: 1,
            duplicates,
            retries: 0,
            follow: false,
            follow_every: std::time::Duration::from_secs(1),
            wait: None,
            run: "r".into(),
        }
    }

    #[test]
    fn a_duplicate_is_an_earlier_attempt_and_comes_as_often_as_asked() {
        let shoppers = shoppers(0.1);
        let mut repeats = 0;
        for n in 0..20_000 {
            let (identity, repeated) = Identity::of(&shoppers, 7, n);
            assert_eq!(Identity::of(&shoppers, 7, n), (identity, repeated), "seed 7");
            assert_eq!(repeated, identity.key != n);
            assert!(identity.key <= n && n - identity.key <= WINDOW);
            repeats += u32::from(repeated);
        }
        assert!((1_800..2_200).contains(&repeats), "{repeats} of 20,000 (seed 7)");
    }
}
