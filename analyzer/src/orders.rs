//! Orders as SQL shows them beside heat: how many of which product took which step in which second, from topic
//! `order-events`. It counts and forgets: no order and no buyer is kept, and nothing of it decides anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use eventlog::{Consumer, EventLog, EventLogError, Group, Polled, Record, Start, Subscription, Topic};
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;
use types::{OrderEvent, Timestamp, codec, topics};

use crate::tables::{HeatRow, LiveTables, OrderRow, TopRow};

/// Most rows that are kept (about 200 MB); beyond it the oldest seconds go first.
const KEPT_ROWS: usize = 1_000_000;
/// Sequence numbers that are remembered, to know a repeat: more than a relay sends again after a crash.
const KNOWN: usize = 1_000_000;
/// Records of one poll.
const POLL_RECORDS: usize = 500;
/// Longest wait in one poll: shutdown is noticed within this.
const POLL_WAIT: Duration = Duration::from_millis(250);
/// Wait after a failed step, and for a topic that the core makes.
const RETRY_WAIT: Duration = Duration::from_secs(1);

type Key = (i64, Arc<str>, Arc<str>, &'static str, &'static str, String);

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    orders: u64,
    units: u64,
    minor: u64,
}

#[derive(Debug, Default)]
struct Book {
    rows: BTreeMap<Key, Sums>,
    known: BTreeSet<u64>,
    /// Numbers up to this were forgotten: whatever comes with one is a repeat.
    forgotten: Option<u64>,
}

/// The counts.
#[derive(Debug, Default)]
pub struct Orders(RwLock<Book>);

impl Orders {
    /// Counts a step, once.
    pub fn take(&self, event: &OrderEvent) {
        let mut book = self.0.write();
        if book.forgotten.is_some_and(|f| event.sequence <= f) || !book.known.insert(event.sequence) {
            return;
        }
        if book.known.len() > KNOWN {
            book.forgotten = book.known.pop_first();
        }
        let key = (
            event.at.second(),
            event.product.shared(),
            event.sale.shared(),
            event.tier.as_str(),
            event.kind.as_str(),
            event.amount.currency().as_str().to_owned(),
        );
        let sums = book.rows.entry(key).or_default();
        sums.orders += 1;
        sums.units += u64::from(event.quantity);
        sums.minor = sums.minor.saturating_add(event.amount.minor());
        while book.rows.len() > KEPT_ROWS {
            book.rows.pop_first();
        }
    }

    /// Rows of seconds in `[from, to)`, by time, then product.
    pub fn rows(&self, from: Option<Timestamp>, to: Option<Timestamp>) -> Vec<OrderRow> {
        let book = self.0.read();
        let row = |((second, product, sale, tier, step, currency), sums): (&Key, &Sums)| OrderRow {
            time: Timestamp::from_seconds(*second),
            product: Arc::clone(product),
            sale: Arc::clone(sale),
            tier,
            step,
            orders: sums.orders,
            units: sums.units,
            amount_minor: sums.minor,
            currency: currency.as_str().into(),
        };
        let within = |r: &OrderRow| from.is_none_or(|f| f <= r.time) && to.is_none_or(|t| r.time < t);
        book.rows.iter().map(row).filter(within).collect()
    }

    fn record(&self, record: &Record) {
        let Some(value) = &record.value else { return };
        match codec::decode::<OrderEvent>(value) {
            Ok(event) => self.take(&event),
            Err(error) => {
                crate::metrics::failed("order");
                tracing::warn!(partition = record.partition, offset = record.offset, %error, "an order event is left out of SQL");
            }
        }
    }
}

/// Reads all that the topic keeps and then what comes, until `stop`. Nothing is committed: whoever starts again counts
/// again from the oldest record. A log that is away, or a topic that nobody made, only leaves the table empty.
pub async fn follow(orders: Arc<Orders>, log: Arc<dyn EventLog>, group: Group, stop: CancellationToken) {
    let Ok(topic) = Topic::new(topics::ORDER_EVENTS) else { return };
    let subscription = Subscription { group, topics: vec![topic], start: Start::Earliest };
    let mut consumer: Option<Box<dyn Consumer>> = None;
    while !stop.is_cancelled() {
        let step = match &mut consumer {
            None => match log.subscribe(subscription.clone()).await {
                Ok(new) => {
                    consumer = Some(new);
                    Ok(())
                }
                Err(error) => Err(error),
            },
            Some(reader) => match reader.poll(POLL_RECORDS, POLL_WAIT).await {
                Ok(Polled::Records(records)) => {
                    records.iter().for_each(|r| orders.record(r));
                    Ok(())
                }
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            },
        };
        if let Err(error) = step {
            let expected = matches!(error, EventLogError::NoSuchTopic(_));
            if !expected {
                crate::metrics::failed("orders");
                tracing::warn!(%error, "orders are not read for SQL; will be tried again");
            }
            if !error.retryable() && !expected {
                consumer = None;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(RETRY_WAIT) => {}
            }
        }
    }
}

/// Heat and orders as one set of tables.
#[derive(Debug)]
pub struct Tables<H> {
    /// Heat.
    pub heat: Arc<H>,
    /// Orders.
    pub orders: Arc<Orders>,
}

impl<H: LiveTables> LiveTables for Tables<H> {
    fn product_heat(&self, from: Option<Timestamp>, to: Option<Timestamp>) -> Vec<HeatRow> {
        self.heat.product_heat(from, to)
    }
    fn top_products(&self) -> Vec<TopRow> {
        self.heat.top_products()
    }
    fn newest_second(&self) -> Option<i64> {
        self.heat.newest_second()
    }
    fn orders(&self, from: Option<Timestamp>, to: Option<Timestamp>) -> Vec<OrderRow> {
        self.orders.rows(from, to)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use types::{OrderEventKind, Tier};

    use super::*;

    fn event(sequence: u64, ms: i64, kind: OrderEventKind) -> OrderEvent {
        serde_json::from_value(serde_json::json!({
            "sequence": sequence, "order": "0123456789abcdef0123456789abcdef", "kind": kind, "product": "sku-1",
            "sale": "eleven", "quantity": 2, "amount": { "amount": 1990, "currency": "EUR" }, "buyer": "b", "tier": Tier::Redis,
            "at": Timestamp::from_millis(ms),
        }))
        .unwrap()
    }

    #[test]
    fn steps_are_counted_once_by_second() {
        let orders = Orders::default();
        for (sequence, ms) in [(7, 1000), (8, 1999), (7, 1000), (9, 2000)] {
            orders.take(&event(sequence, ms, OrderEventKind::Accepted));
        }
        orders.take(&event(10, 2500, OrderEventKind::Paid));
        let shown: Vec<_> = orders
            .rows(None, None)
            .iter()
            .map(|r| (r.time.millis(), r.step, r.orders, r.units, r.amount_minor))
            .collect();
        assert_eq!(shown, [(1000, "accepted", 2, 4, 3980), (2000, "accepted", 1, 2, 1990), (2000, "paid", 1, 2, 1990)]);
        assert_eq!(orders.rows(Some(Timestamp::from_millis(1001)), Some(Timestamp::from_millis(2000))).len(), 0);
    }
}
