//! When crowds come, for what, and how hard: a pure function of event time and a seed. It sends nothing.

use std::time::Duration;

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Nothing but background and steady sellers until then, so that a product is seen cold first.
const FIRST: Duration = Duration::from_secs(12);
/// A crowd gathers this long: long enough that its product is hot before it is contended.
const RAMP: Duration = Duration::from_secs(10);
/// From here on crowds repeat.
const REPEAT_FROM: Duration = Duration::from_secs(112);
/// Time from one repeated crowd to the next.
const REPEAT_EVERY: Duration = Duration::from_secs(60);
/// How long a repeated crowd lasts.
const REPEAT_FOR: Duration = Duration::from_secs(26);
/// Views a second of all products together when no crowd is there.
const STEADY_VIEWS: f64 = 2.4;
/// What is left of its rank's popularity for a product that waits for its crowd: so little that it cools to the
/// db tier once the crowd has gone.
const UNKNOWN: f64 = 0.2;
/// How fast popularity falls with rank (Zipf).
const ZIPF: f64 = 1.1;

/// What a product is for in the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Few units: a crowd on it fights for them.
    Scarce,
    /// Many units: a crowd on it makes it hot, and everybody gets some.
    Plenty,
    /// Sells steadily; no crowd.
    Steady,
}

/// What is wanted of one product at one moment, per second of event time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Demand {
    /// Shoppers that open its page.
    pub views: f64,
    /// Of these shoppers, the share that tries to buy.
    pub buy: f64,
    /// Of those who buy, the share that are fans: few, who come again and again beyond their limit.
    pub fans: f64,
}

/// One crowd on one product.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crowd {
    /// Index of the product.
    pub product: usize,
    /// First moment.
    pub starts: Duration,
    /// First moment after it.
    pub ends: Duration,
    peak: Demand,
}

impl Crowd {
    fn at(&self, now: Duration) -> Option<Demand> {
        if now < self.starts || now >= self.ends {
            return None;
        }
        let gathered = ((now - self.starts).as_secs_f64() / RAMP.as_secs_f64()).clamp(0.15, 1.0);
        Some(Demand { views: self.peak.views * gathered, ..self.peak })
    }
}

/// Attempts would sell the rest out within 10 s, yet most come from fans who have had theirs.
const SCARCE: Demand = Demand { views: 62.0, buy: 0.75, fans: 0.8 };
/// Hot by its views; six attempts a second are nothing to many thousand units.
const PLENTY: Demand = Demand { views: 26.0, buy: 0.25, fans: 0.1 };

/// The whole schedule.
#[derive(Debug, Clone)]
pub struct Schedule {
    seed: u64,
    steady: Vec<Demand>,
    scarce: Vec<usize>,
    plenty: Vec<usize>,
}

impl Schedule {
    /// A schedule for products with these roles, in the order of the sale.
    pub fn new(seed: u64, roles: &[Role]) -> Self {
        let of = |role| roles.iter().enumerate().filter(|(_, r)| **r == role).map(|(i, _)| i).collect::<Vec<_>>();
        let (scarce, plenty, steady_sellers) = (of(Role::Scarce), of(Role::Plenty), of(Role::Steady));
        // Popularity by rank: steady sellers lead, the crowds' products are the least known before they come.
        let ranked: Vec<usize> = steady_sellers.iter().chain(&plenty).chain(&scarce).copied().collect();
        let weight = |rank: usize| 1.0 / (rank as f64 + 1.0).powf(ZIPF);
        let sum: f64 = (0..ranked.len()).map(weight).sum();
        let mut steady = vec![Demand::default(); roles.len()];
        for (rank, product) in ranked.into_iter().enumerate() {
            let known = if roles[product] == Role::Steady { 1.0 } else { UNKNOWN };
            steady[product] = Demand { views: known * STEADY_VIEWS * weight(rank) / sum, buy: 0.3, fans: 0.0 };
        }
        Self { seed, steady, scarce, plenty }
    }

    /// The crowds that are there at `now`, or were or will be in the same part of the schedule.
    pub fn crowds_near(&self, now: Duration) -> Vec<Crowd> {
        let mut crowds = Vec::new();
        let at = |s| Duration::from_secs(s);
        if now < REPEAT_FROM {
            self.pair(&mut crowds, 0, 0, FIRST, at(42));
            self.pair(&mut crowds, 1, 1, at(54), at(76));
            return crowds;
        }
        let round = (now - REPEAT_FROM).as_secs() / REPEAT_EVERY.as_secs();
        let starts = REPEAT_FROM + REPEAT_EVERY * u32::try_from(round).unwrap_or(u32::MAX);
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(round);
        // The first repeats go where no crowd has been yet, as far as there are such products.
        let scarce = if round + 2 < self.scarce.len() as u64 {
            round as usize + 2
        } else {
            random.random_range(0..self.scarce.len().max(1))
        };
        let plenty = random.random_range(0..self.plenty.len().max(1));
        self.pair(&mut crowds, scarce, plenty, starts, starts + REPEAT_FOR);
        crowds
    }

    fn pair(&self, crowds: &mut Vec<Crowd>, scarce: usize, plenty: usize, starts: Duration, ends: Duration) {
        let mut add = |products: &[usize], n: usize, peak| {
            if !products.is_empty() {
                crowds.push(Crowd { product: products[n % products.len()], starts, ends, peak });
            }
        };
        add(&self.scarce, scarce, SCARCE);
        add(&self.plenty, plenty, PLENTY);
    }

    /// What is wanted of each product at `now` (time since the start, event time).
    pub fn demand(&self, now: Duration) -> Vec<Demand> {
        let mut demand = self.steady.clone();
        for crowd in self.crowds_near(now) {
            if let Some(there) = crowd.at(now) {
                demand[crowd.product] = there;
            }
        }
        demand
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 6] = [Role::Scarce, Role::Scarce, Role::Plenty, Role::Plenty, Role::Steady, Role::Steady];

    fn hot(schedule: &Schedule, second: u64) -> Vec<usize> {
        let demand = schedule.demand(Duration::from_secs(second));
        (0..demand.len()).filter(|i| demand[*i].views > 3.0).collect()
    }

    #[test]
    fn a_crowd_comes_goes_and_comes_elsewhere() {
        let schedule = Schedule::new(7, &ROLES);
        assert_eq!(hot(&schedule, 5), [] as [usize; 0]);
        assert_eq!(hot(&schedule, 30), [0, 2]);
        assert_eq!(hot(&schedule, 48), [] as [usize; 0]);
        assert_eq!(hot(&schedule, 65), [1, 3]);
        assert_eq!(hot(&schedule, 100), [] as [usize; 0]);
        assert_eq!(hot(&schedule, 125).len(), 2);
        assert_eq!(hot(&schedule, 165), [] as [usize; 0]);
        assert_eq!(hot(&schedule, 3600 + 112 + 10).len(), 2, "and so on for ever");
    }

    #[test]
    fn the_same_seed_gives_the_same_crowds() {
        let (a, b) = (Schedule::new(7, &ROLES), Schedule::new(7, &ROLES));
        for second in (0..4_000).step_by(13) {
            assert_eq!(a.demand(Duration::from_secs(second)), b.demand(Duration::from_secs(second)), "seed 7");
        }
    }

    #[test]
    fn a_scarce_crowd_is_contended_and_a_plenty_one_is_not() {
        let rest_s = |stock: f64, d: Demand| stock / (d.views * d.buy);
        assert!(rest_s(420.0, SCARCE) < 10.0);
        assert!(rest_s(30_000.0, PLENTY) > 1_000.0);
        // What fans leave over is less than the stock: it is still sellable when the product moves back.
        let bought = SCARCE.views * SCARCE.buy * (1.0 - SCARCE.fans) * 25.0 + 60.0;
        assert!(bought < 0.8 * 420.0, "{bought}");
    }

    #[test]
    fn a_sale_of_one_product_or_none_makes_no_trouble() {
        assert!(Schedule::new(1, &[]).demand(Duration::from_secs(30)).is_empty());
        assert_eq!(Schedule::new(1, &[Role::Plenty]).demand(Duration::from_secs(500)).len(), 1);
    }
}
