//! Fresh random ids. They come from the machine's entropy alone and never from a configured seed: an order's
//! id must not be guessable, a lease's must not repeat after a restart.

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use types::{LeaseId, OrderId, PaymentId};

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
    pub(crate) fn order(&self) -> OrderId {
        OrderId::from_bits(self.bits())
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
