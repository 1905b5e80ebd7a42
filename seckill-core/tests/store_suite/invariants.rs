//! The protocol's invariants as queries that must find nothing. Written from the document, not from the code.

use super::Place;

/// Name and a query for the rows that break it.
const RULES: [(&str, &str); 19] = [
    ("1 units are conserved", "SELECT product_id FROM stock WHERE free + leased + reserved + sold <> total"),
    (
        "2 every total is the one before it and its change",
        "SELECT product_id, seq FROM (SELECT product_id, seq, delta, total, COALESCE(LAG(total) OVER \
         (PARTITION BY product_id ORDER BY seq), 0) AS prev FROM stock_change) c WHERE prev + delta <> total",
    ),
    (
        "2 the last total is the product's",
        "SELECT k.product_id FROM stock k WHERE total <> COALESCE((SELECT c.total FROM stock_change c \
         WHERE c.product_id = k.product_id ORDER BY c.seq DESC LIMIT 1), -1)",
    ),
    (
        "1 leased is what the living leases have left",
        "SELECT product_id FROM stock k WHERE leased <> (SELECT COALESCE(SUM(granted - consumed), 0) FROM lease l \
         WHERE l.product_id = k.product_id AND l.state <> 'CLOSED')",
    ),
    (
        "2, 9 reserved is what accepted orders hold",
        "SELECT product_id FROM stock k WHERE reserved <> (SELECT COALESCE(SUM(quantity), 0) FROM orders o \
         WHERE o.product_id = k.product_id AND o.state = 'accepted')",
    ),
    (
        "2 sold is what paid orders hold",
        "SELECT product_id FROM stock k WHERE sold <> (SELECT COALESCE(SUM(quantity), 0) FROM orders o \
         WHERE o.product_id = k.product_id AND o.state = 'paid')",
    ),
    (
        "3 consumed is what became orders, at most granted",
        "SELECT lease_id FROM lease l WHERE consumed > granted OR consumed <> (SELECT COALESCE(SUM(quantity), 0) \
         FROM orders o WHERE o.lease_id = l.lease_id)",
    ),
    (
        "3 a grant is used once",
        "SELECT lease_id, seq FROM orders WHERE lease_id IS NOT NULL GROUP BY lease_id, seq HAVING COUNT(*) > 1",
    ),
    (
        "3 an accepted decision has its order",
        "SELECT d.buyer FROM decision d LEFT JOIN orders o ON o.order_id = d.order_id \
         WHERE d.outcome = 'accepted' AND (o.order_id IS NULL OR o.buyer <> d.buyer)",
    ),
    (
        "3 an order has its decision",
        "SELECT o.order_id FROM orders o LEFT JOIN decision d ON d.order_id = o.order_id WHERE d.order_id IS NULL",
    ),
    (
        "3 the limit row is what living orders hold",
        "SELECT b.buyer, b.product_id FROM buyer_limit b WHERE held <> (SELECT COALESCE(SUM(quantity), 0) FROM orders o \
         WHERE o.buyer = b.buyer AND o.sale = b.sale AND o.product_id = b.product_id AND o.state IN ('accepted', 'paid'))",
    ),
    (
        "3 living orders have a limit row, within the limit",
        "SELECT o.buyer, SUM(o.quantity), MAX(p.buyer_limit) FROM orders o JOIN product p ON p.product_id = o.product_id \
         LEFT JOIN buyer_limit b ON b.buyer = o.buyer AND b.sale = o.sale AND b.product_id = o.product_id \
         WHERE o.state IN ('accepted', 'paid') GROUP BY o.buyer, o.sale, o.product_id \
         HAVING SUM(o.quantity) > MAX(p.buyer_limit) OR MAX(b.held) IS NULL",
    ),
    (
        "5 every epoch has one fence",
        "SELECT k.product_id, k.epoch FROM stock k WHERE epoch <> (SELECT COUNT(*) FROM move m \
         WHERE m.product_id = k.product_id AND m.step = 'fence') OR epoch <> (SELECT COALESCE(MAX(m.epoch), 0) \
         FROM move m WHERE m.product_id = k.product_id)",
    ),
    (
        "5 every epoch but one that drains has one open",
        "SELECT k.product_id, k.epoch FROM stock k WHERE epoch - (phase = 'draining') <> (SELECT COUNT(*) FROM move m \
         WHERE m.product_id = k.product_id AND m.step = 'open')",
    ),
    (
        "6 one living lease",
        "SELECT product_id FROM lease WHERE state <> 'CLOSED' GROUP BY product_id HAVING COUNT(*) > 1",
    ),
    (
        "6 a lease is open exactly while redis sells, fenced only while it drains",
        "SELECT k.product_id, k.tier, k.phase, l.state FROM stock k LEFT JOIN lease l ON l.product_id = k.product_id \
         AND l.state <> 'CLOSED' WHERE (k.tier = 'redis' AND k.phase = 'active') <> (COALESCE(l.state, '') = 'OPEN') \
         OR (COALESCE(l.state, '') = 'FENCED' AND k.phase <> 'draining')",
    ),
    (
        "8 events of an order come in legal order",
        "SELECT order_id, prev, kind FROM (SELECT order_id, kind, COALESCE(LAG(kind) OVER (PARTITION BY order_id \
         ORDER BY id), 'none') AS prev FROM outbox) e WHERE NOT (prev = 'none' AND kind = 'accepted' \
         OR prev = 'accepted' AND kind IN ('paid', 'expired', 'cancelled') OR prev = 'paid' AND kind = 'refund_due' \
         OR prev = 'expired' AND kind IN ('paid', 'refund_due') OR prev = 'cancelled' AND kind = 'refund_due' \
         OR prev = 'refund_due' AND kind = 'refunded')",
    ),
    (
        "8 the last event of an order is its state",
        "SELECT o.order_id, o.state FROM orders o WHERE o.state <> COALESCE((SELECT b.kind FROM outbox b \
         WHERE b.order_id = o.order_id ORDER BY b.id DESC LIMIT 1), 'none')",
    ),
    (
        "10 an order that was paid has one payment that moved it, in its own state",
        "SELECT o.order_id, o.state FROM orders o LEFT JOIN payment p ON p.order_id = o.order_id AND p.moved_order = 1 \
         GROUP BY o.order_id, o.state, o.amount \
         HAVING (o.state IN ('paid', 'refund_due', 'refunded')) <> (COUNT(p.payment_id) = 1) OR COUNT(p.payment_id) > 1 \
         OR COALESCE(MAX(p.state), o.state) <> o.state OR COALESCE(MAX(p.amount), o.amount) <> o.amount",
    ),
];

/// Panics with every rule that is broken and the rows that break it.
pub fn check(place: &dyn Place) {
    let broken: Vec<_> =
        RULES.iter().map(|(name, sql)| (*name, place.rows(sql))).filter(|(_, rows)| !rows.is_empty()).collect();
    assert!(broken.is_empty(), "broken invariants: {broken:#?}");
}
