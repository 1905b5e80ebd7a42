//! Who wants what: every call of a soak, drawn from its seed. Pure; it neither sends nor waits.

use rand::seq::SliceRandom as _;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Units that one buyer may hold.
pub const LIMIT: u32 = 2;
/// Calls of one buyer: three with one key (at once, or one after the other), two with another.
pub const CALLS_OF_A_BUYER: usize = 5;
/// How far a call may come before or after its turn, in buyers: those who come together contend.
const SPREAD: u64 = 200;

/// How big a soak is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Units of the one product.
    pub units: u64,
    /// Buyers; each makes [`CALLS_OF_A_BUYER`] attempts.
    pub buyers: u32,
}

impl Size {
    /// As the purpose says: 100,000 units, 200,000 buyers, 1,000,000 attempts.
    pub const FULL: Self = Self { units: 100_000, buyers: 200_000 };

    /// Attempts.
    pub const fn attempts(self) -> u64 {
        self.buyers as u64 * CALLS_OF_A_BUYER as u64
    }
}

/// What becomes of an order that this attempt brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It is paid at once.
    Pay,
    /// It is cancelled: its units are sold again.
    Cancel,
    /// It stays unpaid; in a soak nothing expires.
    Keep,
}

/// One attempt. Two with the same buyer and key are the same purchase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub buyer: String,
    pub key: &'static str,
    pub quantity: u32,
    pub after: After,
    /// Seed of this attempt's own choices (which core, how long a pause).
    pub own: u64,
}

/// All attempts of a soak, in the order of their coming.
pub struct Crowd {
    seed: u64,
    /// `buyer * CALLS_OF_A_BUYER + call`.
    order: Vec<u32>,
}

impl Crowd {
    /// Draws it.
    pub fn draw(seed: u64, size: Size) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let spread = SPREAD * CALLS_OF_A_BUYER as u64;
        let calls = size.buyers * CALLS_OF_A_BUYER as u32;
        // Whoever has the next number comes next, give or take: buyers overlap, nobody comes an hour late.
        let mut turns: Vec<(u64, u32)> =
            (0..calls).map(|call| (u64::from(call) + random.random_range(0..spread), call)).collect();
        turns.sort_unstable();
        // Turns of equal time come in no order of their buyers.
        for same in turns.chunk_by_mut(|a, b| a.0 == b.0) {
            same.shuffle(&mut random);
        }
        Self { seed, order: turns.into_iter().map(|(_, call)| call).collect() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// The attempt at this place.
    pub fn at(&self, place: usize) -> Attempt {
        let call = self.order[place];
        let (buyer, call) = (call / CALLS_OF_A_BUYER as u32, call as usize % CALLS_OF_A_BUYER);
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(1 + u64::from(buyer));
        let first = if random.random_bool(0.15) { LIMIT } else { 1 };
        let fate = match random.random_range(0..100) {
            0..30 => After::Pay,
            30..32 => After::Cancel,
            _ => After::Keep,
        };
        // The second key asks for the whole limit: whoever has bought with the first meets it.
        let (key, quantity) = if call < 3 { ("first", first) } else { ("second", LIMIT) };
        let after = if call == 0 { fate } else { After::Keep };
        let own = random.random::<u64>().wrapping_add(place as u64);
        Attempt { buyer: format!("buyer-{buyer}"), key, quantity, after, own }
    }
}

#[test]
fn the_seed_draws_the_crowd() {
    let size = Size { units: 100, buyers: 2_000 };
    let (crowd, again) = (Crowd::draw(9, size), Crowd::draw(9, size));
    let all: Vec<_> = (0..crowd.len()).map(|place| crowd.at(place)).collect();
    assert_eq!(all, (0..again.len()).map(|place| again.at(place)).collect::<Vec<_>>());
    assert_eq!(all.len() as u64, size.attempts());
    let of_one: Vec<_> = all.iter().filter(|a| a.buyer == "buyer-77").collect();
    let firsts: Vec<_> = of_one.iter().filter(|a| a.key == "first").collect();
    assert_eq!((of_one.len(), firsts.len()), (CALLS_OF_A_BUYER, 3));
    assert!(firsts.windows(2).all(|pair| pair[0].quantity == pair[1].quantity), "one key, one body");
    let cancels = all.iter().filter(|a| a.after == After::Cancel).count();
    assert!((20..80).contains(&cancels), "{cancels} of 2000 buyers cancel");
}
