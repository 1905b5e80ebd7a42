//! What is said over a connection, as JSON texts of at most [`MAX_FRAME`] bytes. A message with a cursor moves the
//! client's: with it he comes back, here or at another core, and is told what came after.

use serde::{Deserialize, Serialize};
use types::order_event::OrderEventKind;
use types::{Money, OrderEvent, OrderId, RequestId, SaleName, Sku, Timestamp};

use crate::stock::store::OrderRow;

/// Largest frame in either direction.
pub(crate) const MAX_FRAME: usize = 4 * 1024;
/// Orders in one message of a snapshot: each is below 450 bytes with the longest names.
pub(crate) const ORDERS_IN_FRAME: usize = 8;

/// How a connection begins. A closed set: it is also a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Begin {
    /// Exactly behind the client's cursor.
    Resumed,
    /// With a snapshot: he came without a cursor.
    New,
    /// With a snapshot: his cursor is older than what is kept.
    TooOld,
    /// With a snapshot: his cursor is of no event that there ever was.
    Future,
}

impl Begin {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Resumed => "resumed",
            Self::New => "new",
            Self::TooOld => "too_old",
            Self::Future => "future",
        }
    }
}

/// From the core to the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Said<'a> {
    /// First of all. Without a cursor a snapshot follows.
    Hello {
        time: Timestamp,
        begin: Begin,
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<u64>,
        heartbeat_ms: u64,
    },
    /// Where his orders stand; the last message of it has the cursor. `complete` is false if older ones were left
    /// out: `GET /v1/orders` has them.
    Snapshot {
        orders: Vec<Standing<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<u64>,
        complete: bool,
    },
    /// A step of one of his orders.
    Order {
        cursor: u64,
        order: OrderId,
        state: OrderEventKind,
        at: Timestamp,
        product: &'a Sku,
        sale: &'a SaleName,
        quantity: u32,
        amount: Money,
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<&'a RequestId>,
    },
    /// The core lives, and nothing of his happened up to the cursor.
    Beat { time: Timestamp, cursor: u64 },
    /// To a client's `ping`.
    Pong { time: Timestamp },
}

/// An order in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Standing<'a> {
    order: OrderId,
    state: OrderEventKind,
    product: &'a Sku,
    sale: &'a SaleName,
    quantity: u32,
    amount: Money,
    accepted_at: Timestamp,
    expires_at: Timestamp,
}

impl<'a> From<&'a OrderRow> for Standing<'a> {
    fn from(row: &'a OrderRow) -> Self {
        Self {
            order: row.order,
            state: row.state.into(),
            product: &row.product,
            sale: &row.sale,
            quantity: row.quantity,
            amount: row.amount,
            accepted_at: row.accepted_at,
            expires_at: row.expires_at,
        }
    }
}

impl<'a> Said<'a> {
    /// The message of an event.
    pub(crate) fn order(event: &'a OrderEvent) -> Self {
        Self::Order {
            cursor: event.sequence,
            order: event.order,
            state: event.kind,
            at: event.at,
            product: &event.product,
            sale: &event.sale,
            quantity: event.quantity,
            amount: event.amount,
            request: event.request.as_ref(),
        }
    }

    /// The messages of a snapshot; at least one, the last with the cursor.
    pub(crate) fn snapshot(rows: &'a [OrderRow], cursor: u64, complete: bool) -> Vec<Self> {
        let mut parts: Vec<&[OrderRow]> = rows.chunks(ORDERS_IN_FRAME).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        let last = parts.len() - 1;
        let part = |(n, rows): (usize, &'a [OrderRow])| Self::Snapshot {
            orders: rows.iter().map(Standing::from).collect(),
            cursor: (n == last).then_some(cursor),
            complete,
        };
        parts.into_iter().enumerate().map(part).collect()
    }

    /// As text. It cannot fail: every key is a text and every number is whole.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// From a client. Pages cannot send a ping of the protocol, so there is one in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Heard {
    /// Wants a `pong`.
    Ping,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    r#type: Heard,
}

impl Heard {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(|words: Words| words.r#type)
    }
}

#[cfg(test)]
mod tests {
    use types::Tier;

    use super::*;
    use crate::stock::store::OrderState;

    fn row(name: &str) -> OrderRow {
        OrderRow {
            order: OrderId::from_bits(7),
            buyer: "anna".parse().expect("a buyer"),
            sale: name.parse().expect("a sale"),
            product: name.parse().expect("a sku"),
            quantity: 2,
            amount: Money::new(u64::from(u32::MAX), "EUR".parse().expect("a currency")).expect("money"),
            tier: Tier::Redis,
            state: OrderState::RefundDue,
            accepted_at: Timestamp::from_millis(1_794_355_260_123),
            expires_at: Timestamp::from_millis(1_794_356_160_123),
        }
    }

    #[test]
    fn the_words_are_these() {
        let time = Timestamp::from_millis(1_794_355_260_123);
        let hello = Said::Hello { time, begin: Begin::Resumed, cursor: Some(17), heartbeat_ms: 15_000 };
        insta::assert_snapshot!(hello.text(), @r#"{"type":"hello","time":"2026-11-11T00:01:00.123Z","begin":"resumed","cursor":17,"heartbeat_ms":15000}"#);
        let event = OrderEvent {
            sequence: 18,
            order: OrderId::from_bits(7),
            kind: OrderEventKind::Paid,
            product: "lamp".parse().expect("a sku"),
            sale: "friday".parse().expect("a sale"),
            quantity: 2,
            amount: Money::new(3980, "EUR".parse().expect("a currency")).expect("money"),
            buyer: "anna".parse().expect("a buyer"),
            tier: Tier::Db,
            key: None,
            at: time,
            request: Some("r-1".parse().expect("a request")),
        };
        insta::assert_snapshot!(Said::order(&event).text(), @r#"{"type":"order","cursor":18,"order":"00000000000000000000000000000007","state":"paid","at":"2026-11-11T00:01:00.123Z","product":"lamp","sale":"friday","quantity":2,"amount":{"amount":3980,"currency":"EUR"},"request":"r-1"}"#);
        insta::assert_snapshot!(Said::snapshot(&[row("lamp")], 19, true)[0].text(), @r#"{"type":"snapshot","orders":[{"order":"00000000000000000000000000000007","state":"refund_due","product":"lamp","sale":"lamp","quantity":2,"amount":{"amount":4294967295,"currency":"EUR"},"accepted_at":"2026-11-11T00:01:00.123Z","expires_at":"2026-11-11T00:16:00.123Z"}],"cursor":19,"complete":true}"#);
        insta::assert_snapshot!(Said::snapshot(&[], 19, true)[0].text(), @r#"{"type":"snapshot","orders":[],"cursor":19,"complete":true}"#);
        insta::assert_snapshot!(Said::Beat { time, cursor: 20 }.text(), @r#"{"type":"beat","time":"2026-11-11T00:01:00.123Z","cursor":20}"#);
        insta::assert_snapshot!(Said::Pong { time }.text(), @r#"{"type":"pong","time":"2026-11-11T00:01:00.123Z"}"#);
    }

    #[test]
    fn a_snapshot_fits_its_frames_and_only_the_last_moves_the_cursor() {
        let rows = vec![row(&"x".repeat(types::ids::MAX_NAME)); 3 * ORDERS_IN_FRAME + 1];
        let parts = Said::snapshot(&rows, 5, false);
        assert_eq!(parts.len(), 4);
        assert!(parts.iter().all(|part| part.text().len() <= MAX_FRAME));
        let cursors = parts.iter().map(|part| matches!(part, Said::Snapshot { cursor: Some(5), .. }));
        assert_eq!(cursors.collect::<Vec<_>>(), [false, false, false, true]);
    }

    #[test]
    fn only_a_ping_is_heard() {
        assert_eq!(Heard::parse(r#"{"type": "ping"}"#), Some(Heard::Ping));
        for odd in ["", "{}", "ping", r#"{"type": "pay"}"#, r#"{"type": "ping", "x": 1}"#, "[]", "\"ping\""] {
            assert_eq!(Heard::parse(odd), None, "{odd}");
        }
    }
}
