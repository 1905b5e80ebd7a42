//! What befalls a run, drawn from its seed: delays, refusals, lost replies, deaths. The same seed gives the same fate.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio_util::sync::CancellationToken;

/// How bad the weather is, per thousand calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// Calls that are refused before they have any effect.
    pub refused: u32,
    /// Calls that have their effect and whose reply is lost.
    pub reply_lost: u32,
    /// Calls that take 1 to 30 ms.
    pub slow: u32,
    /// Calls that take 100 ms to 4 s: longer than a ticket's deadline and the skew together.
    pub very_slow: u32,
    /// Appends that are made twice.
    pub doubled: u32,
    /// Appends that are confirmed and lost.
    pub tail_lost: u32,
    /// Polls after which the consumer loses its place in the group.
    pub rebalanced: u32,
    /// Deaths of cores, per thousand chances.
    pub deaths: u32,
    /// Whether the lease store is reset, or comes back with old data.
    pub redis_resets: bool,
    pub redis_stale: bool,
    /// Whether the lease store is out of reach now and then, for up to three seconds.
    pub redis_away: bool,
    /// Whether stock is adjusted while it sells.
    pub adjusted: bool,
    /// Largest difference of a core's clock from true time, in milliseconds.
    pub clock_off: i64,
    /// Milliseconds between two wishes for another tier.
    pub restless: u64,
    /// Products mostly stay with redis, and many orders are cancelled: units come back to an open lease.
    pub steady: bool,
}

/// Draws from one stream of chance.
pub struct Fate {
    chance: Mutex<ChaCha8Rng>,
    calm: std::sync::Arc<AtomicBool>,
}

impl Fate {
    /// Stream `stream` of a seed. `calm` ends all faults.
    pub fn new(seed: u64, stream: u64, calm: std::sync::Arc<AtomicBool>) -> Self {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        chance.set_stream(stream);
        Self { chance: Mutex::new(chance), calm }
    }
    /// Whether something of this probability happens.
    pub fn strikes(&self, per_mille: u32) -> bool {
        let n = self.chance.lock().random_range(0..1000);
        n < per_mille && !self.calm.load(Ordering::Relaxed)
    }
    /// A number of the range.
    pub fn within(&self, range: std::ops::Range<u64>) -> u64 {
        self.chance.lock().random_range(range)
    }
    /// A coin, also in calm weather.
    pub fn coin(&self, per_mille: u32) -> bool {
        self.chance.lock().random_range(0..1000) < per_mille
    }
    pub async fn delay(&self, weather: &Weather) {
        if self.strikes(weather.slow) {
            tokio::time::sleep(Duration::from_millis(self.within(1..31))).await;
        } else if self.strikes(weather.very_slow) {
            tokio::time::sleep(Duration::from_millis(self.within(100..4_000))).await;
        }
    }
}

/// One life of a core: it may die before or after the effect of its n-th call.
pub struct Life {
    /// Cancelled at its death.
    pub dead: CancellationToken,
    calls: AtomicU64,
    dies_at: u64,
    died: Mutex<Option<Place>>,
}

/// Where a core died: in which call, and whether after its effect.
pub type Place = (&'static str, bool);

impl Life {
    /// Dies at that step, counted from 0; never at `u64::MAX`.
    pub fn until(step: u64) -> Self {
        Self { dead: CancellationToken::new(), calls: AtomicU64::new(0), dies_at: step, died: Mutex::default() }
    }
    /// Where it ended, if it has.
    pub fn died(&self) -> Option<Place> {
        *self.died.lock()
    }
    /// One more step of the protocol; does not return if the core is dead.
    async fn step(&self, call: &'static str, done: bool) {
        if self.calls.fetch_add(1, Ordering::Relaxed) == self.dies_at {
            *self.died.lock() = Some((call, done));
            self.dead.cancel();
        }
        if self.dead.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }
}

/// Passes the calls of one core to a port, as badly as the weather is.
pub struct Line {
    pub fate: Fate,
    pub life: std::sync::Arc<Life>,
    pub weather: Weather,
}

impl Line {
    /// A call that changes something: each side of its effect is a place to die.
    pub async fn call<T, E>(
        &self,
        call: &'static str,
        failed: impl Fn() -> E,
        effect: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.life.step(call, false).await;
        self.fate.delay(&self.weather).await;
        if self.fate.strikes(self.weather.refused) {
            return Err(failed());
        }
        let done = effect.await;
        self.life.step(call, true).await;
        self.fate.delay(&self.weather).await;
        if self.fate.strikes(self.weather.reply_lost) {
            return Err(failed());
        }
        done
    }

    /// A call that only reads.
    pub async fn read<T, E>(&self, failed: impl Fn() -> E, effect: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        if self.life.dead.is_cancelled() {
            std::future::pending::<()>().await;
        }
        self.fate.delay(&self.weather).await;
        if self.fate.strikes(self.weather.refused) { Err(failed()) } else { effect.await }
    }
}
