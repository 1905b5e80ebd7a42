//! Port: what a purchase token costs whoever asks for it, so that one who wants thousands pays for thousands. Here
//! with proof of work as its provider; a captcha would be another.

use std::time::Duration;

use hmac::Mac;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use types::{BuyerId, Sku, Timestamp};

use crate::stock::store::ProductRow;
use crate::ticket::TicketSecret;

/// Longest answer that is looked at, in bytes.
pub const MAX_ANSWER: usize = 2_048;
/// How long a puzzle is the same for its buyer; it is good for as long again.
const SLOT: Duration = Duration::from_secs(60);

/// Poses and checks. It keeps nothing: a puzzle follows from who asks, for what and when, so that asking for
/// millions fills no memory.
pub trait Challenge: Send + Sync + 'static {
    /// What this buyer must solve for a token of this product now; `None`: nothing.
    fn pose(&self, row: &ProductRow, buyer: &BuyerId, now: Timestamp) -> Option<Value>;
    /// Whether `answer` solves what he was posed lately.
    fn solved(&self, row: &ProductRow, buyer: &BuyerId, answer: &str, now: Timestamp) -> bool;
}

/// SHA-256 over `<challenge>:<answer>` must begin with so many zero bits as the sale's policy asks. The answer is any
/// text of up to 64 bytes. One answer is good for several tokens of its buyer and product within two minutes; each
/// buys what the limit allows and no more.
pub struct ProofOfWork(TicketSecret);

impl ProofOfWork {
    /// Puzzles that nobody can know before their time.
    pub const fn new(secret: TicketSecret) -> Self {
        Self(secret)
    }

    fn puzzle(&self, product: &Sku, buyer: &BuyerId, slot: i64) -> String {
        let text = format!("{slot}\n{product}\n{}", buyer.as_str());
        let mac = self.0.keyed(b"seckill proof of work 1\0", text.as_bytes()).finalize().into_bytes();
        mac[..16].iter().map(|b| format!("{b:02x}")).collect()
    }
}

fn slot(now: Timestamp) -> i64 {
    now.second().div_euclid(i64::try_from(SLOT.as_secs()).unwrap_or(1))
}

/// Leading zero bits of a digest.
fn zeros(digest: &[u8]) -> u32 {
    let whole = digest.iter().take_while(|b| **b == 0).count();
    let rest = digest.get(whole).map_or(0, |b| b.leading_zeros());
    u32::try_from(whole).unwrap_or(0) * 8 + rest
}

impl Challenge for ProofOfWork {
    fn pose(&self, row: &ProductRow, buyer: &BuyerId, now: Timestamp) -> Option<Value> {
        let bits = row.policy.proof_of_work;
        let puzzle = || self.puzzle(&row.state.product, buyer, slot(now));
        (bits > 0).then(|| json!({"kind": "proof-of-work", "hash": "sha-256", "challenge": puzzle(), "bits": bits}))
    }

    fn solved(&self, row: &ProductRow, buyer: &BuyerId, answer: &str, now: Timestamp) -> bool {
        let (bits, slot) = (u32::from(row.policy.proof_of_work), slot(now));
        answer.len() <= 64
            && [slot, slot - 1].into_iter().any(|slot| {
                let puzzle = self.puzzle(&row.state.product, buyer, slot);
                zeros(&Sha256::digest(format!("{puzzle}:{answer}"))) >= bits
            })
    }
}

/// Finds an answer: what a client does.
#[cfg(test)]
pub(crate) fn solve(challenge: &str, bits: u32) -> String {
    (0u64..)
        .map(|n| n.to_string())
        .find(|answer| zeros(&Sha256::digest(format!("{challenge}:{answer}"))) >= bits)
        .expect("some number does")
}

#[cfg(test)]
mod tests {
    use types::{SalePolicy, Tier};

    use super::*;
    use crate::handover::tests::row;

    #[test]
    fn an_answer_is_found_by_work_and_is_good_for_who_worked() {
        let work = ProofOfWork::new(TicketSecret::new([7u8; 32]).expect("a secret"));
        let mut row = row(Tier::Db);
        let (anna, ben) = (BuyerId::new("anna").expect("a buyer"), BuyerId::new("ben").expect("a buyer"));
        let now = Timestamp::from_seconds(600);
        assert_eq!(work.pose(&row, &anna, now), None);
        row.policy = SalePolicy { token_required: true, proof_of_work: 12 };
        let posed = work.pose(&row, &anna, now).expect("a puzzle");
        let answer = solve(posed["challenge"].as_str().expect("a text"), 12);
        let solved = |buyer: &BuyerId, answer: &str, after: u64| {
            work.solved(&row, buyer, answer, now.plus(Duration::from_secs(after)))
        };
        assert!(solved(&anna, &answer, 0) && solved(&anna, &answer, 119));
        assert!(!solved(&anna, &answer, 120), "too late");
        assert!(!solved(&anna, &format!("{answer}{}", " ".repeat(64)), 0), "too long");
        // By chance one of these solves it too, once in two thousand.
        let luck = (0..20).filter(|n| solved(&ben, &format!("{answer}-{n}"), 0)).count();
        assert!(luck < 3, "{luck} of 20 were right without work");
        assert_eq!((zeros(&[0, 0x10, 0]), zeros(&[0, 0]), zeros(&[0x80])), (11, 16, 0));
    }
}
