//! How far this core has heard of the orders of all cores: a number of the outbox up to which each accepted key is
//! known here. It says what is known, never what is not: who needs more asks SQL.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// The number. 0 until the feed of order events has begun.
#[derive(Default)]
pub(crate) struct Heard {
    through: AtomicU64,
    on: Notify,
}

impl Heard {
    /// Everything up to here is known.
    pub(crate) fn through(&self) -> u64 {
        self.through.load(Ordering::Acquire)
    }

    /// The decisions of everything up to `through` have been taken note of. Less than before is another history.
    pub(crate) fn set(&self, through: u64) {
        if self.through.swap(through, Ordering::AcqRel) != through {
            self.on.notify_waiters();
        }
    }

    /// Waits until everything up to `wanted` is known, at most for `limit`; not at all before the feed has begun.
    pub(crate) async fn reached(&self, wanted: u64, limit: Duration) -> bool {
        let heard = async {
            loop {
                // Made before the look: a change between the two is not missed.
                let on = self.on.notified();
                let through = self.through();
                if through >= wanted || through == 0 {
                    return through >= wanted;
                }
                on.await;
            }
        };
        tokio::time::timeout(limit, heard).await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn one_waits_for_what_is_on_its_way_and_not_for_what_is_not() {
        let heard = Arc::new(Heard::default());
        assert!(heard.reached(0, SECOND).await, "where nobody has bought, all is known");
        assert!(!heard.reached(1, SECOND).await, "nothing comes before the feed has begun");
        heard.set(5);
        assert!(heard.reached(5, SECOND).await);
        let waiting = tokio::spawn({
            let heard = heard.clone();
            async move { heard.reached(7, SECOND).await }
        });
        tokio::task::yield_now().await;
        heard.set(6);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        heard.set(7);
        assert!(waiting.await.expect("no panic"));
        assert!(!heard.reached(8, SECOND).await, "it has an end");
    }
}
