//! Operations: puts the product on a tier by override, once or again and again, through the control plane's REST.

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reqwest::Client;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::shopper::PRODUCT;

pub const TIERS: [&str; 3] = ["db", "redis", "queue"];
/// Longest wait for an answer of the control plane; it may be dead.
const ANSWER: Duration = Duration::from_secs(6);
/// Longest wait for an override to be in force.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who moves.
#[derive(Clone)]
pub struct Operator {
    pub http: Client,
    /// The control plane's listener.
    pub base: String,
    pub token: String,
}

/// What was ordered.
#[derive(Debug, Default)]
pub struct Ordered {
    pub accepted: u64,
    pub refused: u64,
}

impl Operator {
    async fn put(&self, tier: &str, query: &str) -> Result<serde_json::Value, String> {
        let url = format!("{}/v1/overrides/{PRODUCT}{query}", self.base);
        let body = json!({ "tier": tier, "ttl": "10h", "reason": "a soak moves it" });
        let call = self.http.put(url).bearer_auth(&self.token).timeout(ANSWER).json(&body);
        let answer = call.send().await.map_err(|e| e.to_string())?;
        let status = answer.status();
        let body: serde_json::Value = answer.json().await.unwrap_or_default();
        if status.is_success() { Ok(body) } else { Err(format!("{status} {body}")) }
    }

    /// Puts the product on this tier and waits until every core enforces it.
    pub async fn fix(&self, tier: &str) {
        let (began, mut last) = (Instant::now(), String::new());
        while began.elapsed() < PATIENCE {
            match self.put(tier, "?wait=applied").await {
                Ok(body) if body["applied"] == true => return,
                Ok(body) => last = body.to_string(),
                Err(why) => last = why,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the product could not be put on {tier}: {last}");
    }

    /// Moves it every `every` to one of the other tiers, as the seed draws them, until `stop`.
    pub async fn keep_moving(self, seed: u64, every: Duration, stop: CancellationToken) -> Ordered {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (mut ordered, mut present) = (Ordered::default(), 0);
        let mut beat = interval(every);
        beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = stop.cancelled() => return ordered,
                _ = beat.tick() => {}
            }
            present = (present + random.random_range(1..TIERS.len())) % TIERS.len();
            match self.put(TIERS[present], "").await {
                Ok(_) => ordered.accepted += 1,
                Err(_) => ordered.refused += 1,
            }
        }
    }
}
