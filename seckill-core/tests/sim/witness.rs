//! What is looked at within every transaction of a simulation: the sums, and whether a refusal for want of units is
//! a lie at that very moment. Its queries are written from the document.

use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, params};

use super::ports::Redis;
use crate::stock::db::sqlite::inline::Witness;
use crate::stock::store::{Attempt, Outcome, Resubmit, Verdict};

/// What was found broken, in words.
pub type Broken = Arc<Mutex<Vec<String>>>;

pub struct Books {
    pub broken: Broken,
    redis: Arc<Redis>,
    sellable: Mutex<i64>,
}

impl Books {
    pub fn new(broken: Broken, redis: Arc<Redis>) -> Self {
        Self { broken, redis, sellable: Mutex::new(0) }
    }
    fn say(&self, what: String) {
        let mut broken = self.broken.lock();
        if broken.len() < 20 {
            broken.push(what);
        }
    }
}

const SELLABLE: &str = "SELECT free + (SELECT COALESCE(SUM(granted - consumed), 0) FROM lease \
    WHERE lease.product_id = stock.product_id AND state <> 'CLOSED') FROM stock WHERE product_id = ?1";

const SUMS: &str = "SELECT product_id, total FROM stock k WHERE free + leased + reserved + sold <> total \
    OR leased <> (SELECT COALESCE(SUM(granted - consumed), 0) FROM lease l \
        WHERE l.product_id = k.product_id AND l.state <> 'CLOSED') \
    OR reserved <> (SELECT COALESCE(SUM(quantity), 0) FROM orders o \
        WHERE o.product_id = k.product_id AND o.state = 'accepted') \
    OR sold <> (SELECT COALESCE(SUM(quantity), 0) FROM orders o \
        WHERE o.product_id = k.product_id AND o.state = 'paid') \
    OR total < (SELECT COALESCE(SUM(quantity), 0) FROM orders o \
        WHERE o.product_id = k.product_id AND o.state IN ('accepted', 'paid'))";

impl Witness for Books {
    fn before(&self, tx: &Connection, attempt: &Attempt) {
        let found = tx.prepare_cached(SELLABLE).and_then(|mut q| q.query_row([attempt.product.as_str()], |r| r.get(0)));
        *self.sellable.lock() = found.unwrap_or(0);
    }

    fn after(&self, tx: &Connection, attempt: &Attempt, verdict: &Verdict) {
        let contradicts = Verdict::Resubmit(Resubmit::SequenceUsed) == *verdict
            || Verdict::Resubmit(Resubmit::OverGranted) == *verdict;
        if contradicts && !self.redis.has_lied() {
            self.say(format!("{verdict:?} of {:?}, and the lease store never lied", attempt.claim));
        }
        let wanted = i64::from(attempt.quantity);
        let sellable = *self.sellable.lock();
        let (want_of_units, sold_out) = match verdict {
            Verdict::Decided { decision, fresh: true, .. } => (
                matches!(decision.outcome, Outcome::SoldOut | Outcome::AllReserved),
                decision.outcome == Outcome::SoldOut,
            ),
            Verdict::SoldOutAtDoor => (true, true),
            Verdict::AllReservedAtDoor => (true, false),
            _ => (false, false),
        };
        if want_of_units && sellable >= wanted {
            self.say(format!("12: {verdict:?} for {wanted} while {sellable} were sellable"));
        }
        if sold_out {
            let reserved: i64 = tx
                .prepare_cached("SELECT reserved FROM stock WHERE product_id = ?1")
                .and_then(|mut q| q.query_row(params![attempt.product.as_str()], |r| r.get(0)))
                .unwrap_or(0);
            if reserved > 0 {
                self.say(format!("12: sold out was said while {reserved} were reserved"));
            }
        }
    }

    fn commit(&self, tx: &Connection) {
        let wrong: Vec<String> = tx
            .prepare_cached(SUMS)
            .and_then(|mut q| q.query_map([], |r| r.get::<_, String>(0)).map(|rows| rows.flatten().collect()))
            .unwrap_or_else(|e| vec![e.to_string()]);
        for product in wrong {
            self.say(format!("1, 2: the sums of {product} do not hold"));
        }
    }
}
