//! Fresh ids. Their random bits come from the machine's entropy alone and never from a configured seed: an order's
//! id must not be guessable, a lease's must not repeat after a restart.

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use types::{LeaseId, OrderId, PaymentId, Timestamp};

/// Random bits of an order's id: at a billion guesses a second some 19 million years for an even chance at one.
const ORDER_BITS: u32 = 80;

/// Makes ids.
pub(crate) struct Ids(Mutex<StdRng>);

impl Ids {
    pub(crate) fn from_entropy() -> Self {
        Self(Mutex::new(StdRng::from_os_rng()))
    }
    /// For a simulation that must replay.
    #[cfg(test)]
    pub(crate) fn from_seed(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
    fn bits(&self) -> u128 {
        self.0.lock().random()
    }
    /// An order's id: the moment, then random bits. Orders of one second lie beside each other in the database's
    /// index, so a group of them writes one page of it and not one for each (ADR 0020).
    pub(crate) fn order(&self, now: Timestamp) -> OrderId {
        let moment = u128::from(now.millis().max(0).unsigned_abs());
        OrderId::from_bits((moment << ORDER_BITS) | (self.bits() >> (u128::BITS - ORDER_BITS)))
    }
    pub(crate) fn lease(&self) -> LeaseId {
        LeaseId::from_bits(self.bits())
    }
    pub(crate) fn payment(&self) -> PaymentId {
        PaymentId::from_bits(self.bits())
    }
    /// A secret that nobody finds by trying.
    pub(crate) fn secret(&self) -> [u8; 32] {
        self.0.lock().random()
    }
    /// Random bytes that name something once.
    pub(crate) fn bytes(&self) -> [u8; 16] {
        self.0.lock().random()
    }
    /// Tells two starts of one core apart; fits a JSON number exactly.
    pub(crate) fn incarnation(&self) -> u64 {
        self.0.lock().random::<u64>() >> 11
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_sort_by_their_moment_and_differ_within_it() {
        let ids = Ids::from_seed(1);
        let at = |ms| ids.order(Timestamp::from_millis(ms));
        let (a, b, c) = (at(1_794_355_260_123), at(1_794_355_260_123), at(1_794_355_260_124));
        assert!(a != b && a.max(b) < c);
        assert!(a.to_string().starts_with("01a1c7e86adb"), "{a}");
        // Whatever a clock says, there is an id.
        assert_ne!(at(i64::MIN), at(i64::MIN));
        assert_ne!(at(i64::MAX), at(i64::MAX));
    }
}
