//! Canaries: a healthy store passes, and each way of breaking an invariant is seen. An auditor that overlooks
//! one of these would prove nothing.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::{Value, json};

use super::*;

/// The writers' own tables: if they change, this auditor must be looked at again.
const SCHEMA: &str = include_str!("../../../../seckill-core/src/stock/db/schema.sql");
const TABLES: [&str; 13] = [
    "sale_policy",
    "sale",
    "product",
    "stock",
    "lease",
    "decision",
    "orders",
    "buyer_limit",
    "outbox",
    "payment",
    "used_token",
    "move",
    "stock_change",
];
const NOW: i64 = 1_000_000;

/// Two products. `p` (8 units, 2 and later 5 more, then 5 fewer: 10, on its second lease): one order paid, one reserved by a grant of the first
/// lease, one expired, one refunded. `z` (one unit): sold, and an attempt decided sold out.
const HEALTHY: &str = "
    INSERT INTO sale VALUES ('s', 'UTC', 0, 9000000, 'active', 0);
    INSERT INTO product (product_id, sale, name, price, currency, buyer_limit, initial_tier, pages)
        VALUES ('p', 's', 'P', 100, 'EUR', 2, NULL, '[]'), ('z', 's', 'Z', 50, 'EUR', 1, NULL, '[]');
    INSERT INTO stock VALUES ('p', 10, 2, 5, 2, 1, 'redis', 'active', 3, NULL), ('z', 1, 0, 0, 0, 1, 'db', 'active', 0, NULL);
    INSERT INTO stock_change (product_id, cause, delta, total, after_event, at, adjustment_id, reason, made_by) VALUES
        ('z', 'sale', 1, 1, 0, 0, NULL, NULL, NULL), ('p', 'sale', 8, 8, 0, 0, NULL, NULL, NULL),
        ('p', 'adjustment', 7, 15, 3, 720, 'a1', 'a pallet', 'm'), ('p', 'adjustment', -5, 10, 8, 960, 'a2', 'broken', 'm');
    INSERT INTO lease VALUES ('l0', 'p', 1, 4, 2, 'CLOSED', 1, 1000), ('l1', 'p', 3, 5, 0, 'OPEN', 1, 3000);
    INSERT INTO move VALUES
        ('p', 1, 'fence', 'db', 'redis', 1000), ('p', 1, 'open', 'db', 'redis', 1000),
        ('p', 2, 'fence', 'redis', 'db', 2000), ('p', 2, 'settle', 'redis', 'db', 2100), ('p', 2, 'open', 'redis', 'db', 2200),
        ('p', 3, 'fence', 'db', 'redis', 3000), ('p', 3, 'open', 'db', 'redis', 3000);
    INSERT INTO orders VALUES
        ('o1', 'b1', 'k1', 's', 'p', 1, 100, 'EUR', 'db', 'paid', NULL, NULL, NULL, 500, 2000000, 600),
        ('o2', 'b2', 'k2', 's', 'p', 2, 200, 'EUR', 'redis', 'accepted', 'l0', 1, NULL, 1500, 2000000, 1500),
        ('o3', 'b3', 'k3', 's', 'p', 1, 100, 'EUR', 'db', 'expired', NULL, NULL, NULL, 700, 800, 900),
        ('o4', 'b4', 'k4', 's', 'p', 1, 100, 'EUR', 'queue', 'refunded', NULL, NULL, NULL, 700, 2000000, 950),
        ('o7', 'b7', 'k7', 's', 'z', 1, 50, 'EUR', 'db', 'paid', NULL, NULL, NULL, 1000, 2000000, 1100);
    INSERT INTO decision VALUES
        ('b1', 'k1', 'h', 'p', 'accepted', 'o1', 500), ('b2', 'k2', 'h', 'p', 'accepted', 'o2', 1500),
        ('b3', 'k3', 'h', 'p', 'accepted', 'o3', 700), ('b4', 'k4', 'h', 'p', 'accepted', 'o4', 700),
        ('b5', 'k5', 'h', 'p', 'limit', NULL, 800), ('b6', 'k6', 'h', 'p', 'deadline', NULL, 20000),
        ('b7', 'k7', 'h', 'z', 'accepted', 'o7', 1000), ('b8', 'k8', 'h', 'z', 'sold_out', NULL, 60000);
    INSERT INTO buyer_limit VALUES
        ('b1', 's', 'p', 1), ('b2', 's', 'p', 2), ('b3', 's', 'p', 0), ('b4', 's', 'p', 0), ('b7', 's', 'z', 1);
    INSERT INTO outbox (order_id, kind, at) VALUES
        ('o1', 'accepted', 500), ('o1', 'paid', 600), ('o3', 'accepted', 700), ('o4', 'accepted', 700),
        ('o4', 'paid', 750), ('o3', 'expired', 900), ('o4', 'refund_due', 920), ('o4', 'refunded', 950),
        ('o7', 'accepted', 1000), ('o7', 'paid', 1100), ('o2', 'accepted', 1500);
    INSERT INTO payment VALUES
        ('m1', 'o1', 100, 'EUR', 'paid', 1, 600), ('m2', 'o1', 100, 'EUR', 'refund_due', 0, 650),
        ('m4', 'o4', 100, 'EUR', 'refunded', 1, 750), ('m7', 'o7', 50, 'EUR', 'paid', 1, 1100);
";

/// What the clients saw of it.
fn journal() -> Vec<Value> {
    let entry = |t: i64, buyer: &str, key: &str, product: &str, quantity: u64, outcome: &str| {
        json!({"t": t, "sent": t - 5,
        "buyer": buyer, "key": key, "product": product, "quantity": quantity, "status": 200, "outcome": outcome})
    };
    let with = |mut entry: Value, more: Value| {
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        entry
    };
    vec![
        with(entry(510, "b1", "k1", "p", 1, "accepted"), json!({"order": "o1"})),
        with(entry(1_400, "b2", "k2", "p", 2, "queued"), json!({"ticket_deadline": 11_400})),
        with(entry(1_600, "b2", "k2", "p", 2, "accepted"), json!({"order": "o2", "bound": true})),
        with(entry(9_000, "b6", "k6", "p", 1, "queued"), json!({"ticket_deadline": 19_000})),
        with(entry(20_010, "b6", "k6", "p", 1, "refused"), json!({"bound": true})),
        with(entry(60_010, "b8", "k8", "z", 1, "sold_out"), json!({"bound": true})),
        entry(61_000, "b9", "k9", "z", 1, "sold_out"),
    ]
}

struct World {
    _folder: tempfile::TempDir,
    store: PathBuf,
    journal: PathBuf,
}

impl World {
    /// A healthy store with the writers' own constraints.
    fn healthy() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, journal_path) = (folder.path().join("stock.sqlite"), folder.path().join("journal.jsonl"));
        let db = Connection::open(&store).unwrap();
        db.execute_batch(&format!("PRAGMA journal_mode = WAL; {SCHEMA} {HEALTHY}")).unwrap();
        let world = Self { _folder: folder, store, journal: journal_path };
        world.write(&journal());
        world
    }
    /// The same rows without any constraint, so that they can be broken at will.
    fn loose() -> Self {
        let world = Self::healthy();
        let copies: String = TABLES
            .iter()
            .map(|t| {
                format!("CREATE TABLE loose AS SELECT * FROM {t}; DROP TABLE {t}; ALTER TABLE loose RENAME TO {t};")
            })
            .collect();
        world.sql(&format!("PRAGMA foreign_keys = OFF; {copies}"));
        world
    }
    fn sql(&self, sql: &str) {
        Connection::open(&self.store).unwrap().execute_batch(sql).unwrap();
    }
    fn write(&self, entries: &[Value]) {
        let text: String = entries.iter().map(|e| format!("{e}\n")).collect();
        std::fs::write(&self.journal, text).unwrap();
    }
    fn audit(&self, samples: Option<&Sampler>) -> Report {
        audit(&self.store, std::slice::from_ref(&self.journal), &Options::at_rest(NOW), samples).unwrap()
    }
}

fn broken(report: &Report) -> Vec<u8> {
    report.invariants.iter().filter(|i| i.violated > 0).map(|i| i.number).collect()
}

#[test]
fn a_healthy_store_holds_and_everything_is_examined() {
    let world = World::healthy();
    let report = world.audit(None);
    assert!(report.holds(), "{report}");
    assert_eq!((report.oversold, report.orders, report.journal_entries), (0, 5, 7));
    for i in &report.invariants {
        assert!(i.examined > 0 && i.not_examined.is_none(), "{} was not examined", i.number);
    }
    assert!(World::loose().audit(None).holds(), "the canaries start from a healthy store");
}

#[test]
fn an_empty_store_is_not_called_proved() {
    let world = World::loose();
    world.sql(&TABLES.map(|t| format!("DELETE FROM {t};")).concat());
    let report = audit(&world.store, &[], &Options::at_rest(NOW), None).unwrap();
    assert!(report.holds());
    for i in report.invariants.iter().filter(|i| i.examined == 0) {
        assert!(i.not_examined.is_some(), "{} claims to hold of nothing", i.number);
    }
    assert!(report.to_string().contains("not examined: there was nothing"), "{report}");
}

#[test]
fn a_forgotten_buyer_is_no_lost_order_and_a_lost_order_is_no_forgotten_buyer() {
    let nobody = format!("erased-{:032x}", 7);
    let rename = |order: &str, buyer: &str, name: &str| {
        ["orders", "decision"]
            .map(|t| format!("UPDATE {t} SET buyer = '{name}', key = '{order}' WHERE order_id = '{order}';"))
            .concat()
            + &format!("UPDATE buyer_limit SET buyer = '{name}' WHERE buyer = '{buyer}';")
    };
    let gone = rename("o1", "b1", &nobody) + "DELETE FROM decision WHERE buyer IN ('b6', 'b8');";
    let world = World::healthy();
    world.sql(&gone);
    assert_eq!(broken(&world.audit(None)), [7], "decisions are gone, and nobody said that any were forgotten");
    world.sql("INSERT INTO meta VALUES ('forgotten', '1')");
    let report = world.audit(None);
    assert!(report.holds(), "{report}");

    // What a client saw accepted must be there all the same, and be what he saw.
    world.sql("UPDATE orders SET quantity = 2, amount = 200 WHERE order_id = 'o1'");
    assert!(broken(&world.audit(None)).contains(&4));
    let world = World::healthy();
    world.sql(&rename("o1", "b1", "somebody-else"));
    world.sql("INSERT INTO meta VALUES ('forgotten', '1')");
    assert!(broken(&world.audit(None)).contains(&4), "another buyer is not nobody");
}

#[test]
fn each_tampered_row_is_seen() {
    let canaries: [(&str, u8, &str); 51] = [
        ("a unit appears", 1, "UPDATE stock SET free = free + 1 WHERE product_id = 'p'"),
        ("leased is not what leases hold", 1, "UPDATE stock SET leased = 4, free = 3 WHERE product_id = 'p'"),
        ("a count below zero", 1, "UPDATE stock SET free = -1, leased = 8 WHERE product_id = 'p'"),
        ("oversold now", 2, "UPDATE stock SET total = 2, free = -6 WHERE product_id = 'p'"),
        ("oversold for a moment", 2,
            "INSERT INTO orders SELECT 'o9', 'b9', 'k9', sale, product_id, 9, 900, currency, tier, 'cancelled', NULL, NULL, NULL, 1600, 9, 9 FROM orders WHERE order_id = 'o1';
             INSERT INTO outbox VALUES (20, 'o9', 'accepted', 1600, NULL), (21, 'o9', 'cancelled', 1700, NULL)"),
        ("the total is not what its history says", 2, "UPDATE stock SET total = 11, free = 3 WHERE product_id = 'p'"),
        ("a product without a history", 2, "DELETE FROM stock_change WHERE product_id = 'z'"),
        ("an adjustment left out", 2, "DELETE FROM stock_change WHERE adjustment_id = 'a1'"),
        ("an adjustment made larger", 2, "UPDATE stock_change SET delta = 8 WHERE adjustment_id = 'a1'"),
        ("a pair of adjustments that cancel each other, below what is sold", 2,
            "UPDATE stock_change SET delta = -5, total = 3 WHERE adjustment_id = 'a1';
             UPDATE stock_change SET delta = 7 WHERE adjustment_id = 'a2';
             INSERT INTO orders SELECT 'o9', 'b9', 'k9', sale, product_id, 2, 200, currency, tier, 'cancelled', NULL, NULL, NULL, 720, 9, 9 FROM orders WHERE order_id = 'o1';
             UPDATE outbox SET id = id + 10 WHERE id > 3;
             INSERT INTO outbox VALUES (4, 'o9', 'accepted', 720, NULL), (5, 'o9', 'cancelled', 730, NULL)"),
        ("stock that was only brought after it was ordered", 2,
            "UPDATE stock_change SET after_event = 10 WHERE product_id = 'z'"),
        ("a removal that was moved to before the sale", 2,
            "UPDATE stock_change SET delta = -6, total = 2 WHERE adjustment_id = 'a1'; UPDATE stock_change SET delta = 8 WHERE adjustment_id = 'a2'"),
        ("changes out of order", 2, "UPDATE stock_change SET after_event = 9 WHERE adjustment_id = 'a1'"),
        ("a change beyond the last event", 2, "UPDATE stock_change SET after_event = 99 WHERE adjustment_id = 'a2'"),
        ("one adjustment, two effects", 2, "UPDATE stock_change SET adjustment_id = 'a1' WHERE adjustment_id = 'a2'"),
        ("an adjustment by nobody", 2, "UPDATE stock_change SET made_by = NULL WHERE adjustment_id = 'a1'"),
        ("an adjustment passed off as a sale's", 2, "UPDATE stock_change SET cause = 'sale' WHERE adjustment_id = 'a1'"),
        ("a history begun anew", 2, "UPDATE stock_change SET cause = 'older' WHERE adjustment_id = 'a2'"),
        ("an adjustment of what nobody brought", 2,
            "DELETE FROM stock_change WHERE product_id = 'p' AND cause = 'sale';
             UPDATE stock_change SET delta = 15 WHERE adjustment_id = 'a1'"),
        ("an order of a product without stock", 2, "UPDATE orders SET product_id = 'ghost' WHERE order_id = 'o3'"),
        ("more consumed than granted", 3, "UPDATE lease SET consumed = 9 WHERE lease_id = 'l0'"),
        ("consumed without orders", 3, "UPDATE lease SET consumed = 3 WHERE lease_id = 'l0'"),
        ("an order from a lease that is not there", 3, "UPDATE orders SET lease_id = 'ghost' WHERE order_id = 'o2'"),
        ("one grant, two orders", 3, "UPDATE orders SET lease_id = 'l0', seq = 1 WHERE order_id = 'o1'"),
        ("one key, two orders", 3, "UPDATE orders SET buyer = 'b1', key = 'k1' WHERE order_id = 'o3'"),
        ("one key, two decisions", 3, "INSERT INTO decision SELECT * FROM decision WHERE key = 'k5'"),
        ("over the limit", 3, "UPDATE product SET buyer_limit = 1 WHERE product_id = 'p'"),
        ("a limit not given back", 3, "UPDATE buyer_limit SET held = 1 WHERE buyer = 'b3'"),
        ("a limit never taken", 3, "DELETE FROM buyer_limit WHERE buyer = 'b2'"),
        ("an accepted order is gone", 4, "DELETE FROM orders WHERE order_id = 'o1'"),
        ("an order in no legal state", 4, "UPDATE orders SET state = 'lost' WHERE order_id = 'o1'"),
        ("an order nobody decided", 4, "DELETE FROM decision WHERE key = 'k3'"),
        ("an order changed under its client", 4, "UPDATE orders SET quantity = 1 WHERE order_id = 'o2'"),
        ("the decision names another order", 4, "UPDATE decision SET order_id = 'o3' WHERE key = 'k1'"),
        ("the epoch fell", 5, "UPDATE stock SET epoch = 2 WHERE product_id = 'p'"),
        ("two fences in one epoch", 5, "INSERT INTO move VALUES ('p', 2, 'fence', 'redis', 'queue', 2050)"),
        ("opened twice", 5, "INSERT INTO move VALUES ('p', 2, 'open', 'redis', 'queue', 2250)"),
        ("fenced and left behind", 5, "DELETE FROM move WHERE epoch = 2 AND step = 'open'"),
        ("sells where it was not opened", 5, "UPDATE stock SET tier = 'queue' WHERE product_id = 'p'"),
        ("two living leases", 6, "UPDATE lease SET state = 'FENCED' WHERE lease_id = 'l0'"),
        ("a ticket's end was taken back", 7, "UPDATE decision SET outcome = 'limit' WHERE key = 'k6'"),
        ("an event out of order", 8, "UPDATE outbox SET id = 100 WHERE order_id = 'o1' AND kind = 'accepted'"),
        ("an event twice", 8, "INSERT INTO outbox VALUES (50, 'o1', 'paid', 650, NULL)"),
        ("an event without its order", 8, "INSERT INTO outbox VALUES (50, 'ghost', 'accepted', 650, NULL)"),
        ("a step without its event", 8, "DELETE FROM outbox WHERE order_id = 'o7' AND kind = 'paid'"),
        ("reserved without an order", 9, "UPDATE stock SET reserved = 3, free = 1 WHERE product_id = 'p'"),
        ("half moved at rest", 9, "UPDATE stock SET phase = 'draining', target = 'db' WHERE product_id = 'p'"),
        ("an unpaid order that never expires", 9, "UPDATE orders SET expires_at = 5000 WHERE order_id = 'o2'"),
        ("a payment dropped", 10, "DELETE FROM payment WHERE payment_id = 'm7'"),
        ("decided sold out while units were there", 12,
            "UPDATE stock SET total = 3, free = 2 WHERE product_id = 'z'; UPDATE stock_change SET delta = 3, total = 3 WHERE product_id = 'z'"),
        ("decided sold out after more had come", 12,
            "UPDATE stock SET total = 2, free = 1 WHERE product_id = 'z';
             INSERT INTO stock_change VALUES (9, 'z', 'adjustment', 1, 2, 11, 50000, 'a9', 'found', 'm')"),
    ];
    for (name, number, sql) in canaries {
        let world = World::loose();
        world.sql(sql);
        let report = world.audit(None);
        assert!(broken(&report).contains(&number), "{name}: invariant {number} should be broken\n{report}");
    }
}

#[test]
fn money_that_does_not_add_up_is_seen() {
    for sql in [
        "UPDATE payment SET amount = 99 WHERE payment_id = 'm1'",
        "UPDATE payment SET currency = 'USD' WHERE payment_id = 'm1'",
        "UPDATE payment SET moved_order = 1 WHERE payment_id = 'm2'",
        "UPDATE payment SET state = 'paid' WHERE payment_id = 'm2'",
        "INSERT INTO payment VALUES ('m9', 'ghost', 1, 'EUR', 'paid', 1, 0)",
        "INSERT INTO payment VALUES ('m9', 'o2', 200, 'EUR', 'paid', 1, 0)",
    ] {
        let world = World::loose();
        world.sql(sql);
        assert_eq!(broken(&world.audit(None)), [10], "{sql}");
    }
}

#[test]
fn units_left_in_a_lease_of_a_closed_sale_are_stranded() {
    let world = World::loose();
    world.sql("UPDATE sale SET state = 'closed'");
    assert_eq!(broken(&world.audit(None)), [9]);
    let report = audit(&world.store, &[], &Options::running(NOW), None).unwrap();
    assert!(report.holds(), "while it runs, a lease may still be on its way home: {report}");
}

#[test]
fn each_false_word_to_a_client_is_seen() {
    let entry = |change: Value| {
        let mut entry = json!({"t": 61_000, "sent": 60_990, "buyer": "x", "key": "x", "product": "p", "quantity": 1,
            "status": 200, "outcome": "accepted"});
        entry.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        entry
    };
    let canaries = [
        ("an order that never was", 4, entry(json!({"order": "ghost"}))),
        ("accepted without a name", 4, entry(json!({}))),
        ("another's order", 4, entry(json!({"order": "o1"}))),
        ("a ticket without end", 7, entry(json!({"outcome": "queued", "ticket_deadline": 70_000}))),
        ("a ticket without deadline", 7, entry(json!({"outcome": "queued"}))),
        (
            "asked after the deadline, no end",
            7,
            entry(json!({"outcome": "queued", "ticket_deadline": 50_000, "bound": true, "buyer": "b1", "key": "k1"})),
        ),
        (
            "another end for the same ticket",
            7,
            entry(json!({"outcome": "sold_out", "bound": true, "buyer": "b6", "key": "k6"})),
        ),
        ("sold out with units there", 11, entry(json!({"outcome": "sold_out"}))),
        ("all reserved with units there", 11, entry(json!({"outcome": "all_reserved"}))),
    ];
    for (name, number, lie) in canaries {
        let world = World::healthy();
        let mut entries = journal();
        entries.push(lie);
        world.write(&entries);
        let report = world.audit(None);
        assert!(broken(&report).contains(&number), "{name}: invariant {number} should be broken\n{report}");
    }
}

#[test]
fn a_fresh_hint_and_a_large_wish_are_no_lies() {
    let world = World::healthy();
    let mut entries = journal();
    // `p` has 7 sellable; who wants 8 is rightly refused. `z` was sold at 1000: 300 ms later a hint may be old or new.
    entries.push(json!({"t": 61_000, "buyer": "x", "key": "x1", "product": "p", "quantity": 8, "status": 409, "outcome": "all_reserved"}));
    entries.push(json!({"t": 1_300, "buyer": "x", "key": "x2", "product": "z", "quantity": 1, "status": 410, "outcome": "sold_out"}));
    world.write(&entries);
    let report = world.audit(None);
    assert!(report.holds(), "{report}");
}

#[test]
fn who_asked_early_and_was_committed_late_gives_no_unit_back() {
    let world = World::loose();
    // A second unit of `z`, sold to one who asked at 400 and waited: his order was committed after that of 1000.
    world.sql(
        "UPDATE stock SET total = 2, sold = 2 WHERE product_id = 'z';
         UPDATE stock_change SET delta = 2, total = 2 WHERE product_id = 'z';
         INSERT INTO orders VALUES
            ('o8', 'b10', 'k10', 's', 'z', 1, 50, 'EUR', 'db', 'paid', NULL, NULL, NULL, 400, 2000000, 450);
         INSERT INTO decision VALUES ('b10', 'k10', 'h', 'z', 'accepted', 'o8', 400);
         INSERT INTO buyer_limit VALUES ('b10', 's', 'z', 1);
         INSERT INTO outbox (id, order_id, kind, at) VALUES (1001, 'o8', 'accepted', 400), (1002, 'o8', 'paid', 450);
         INSERT INTO payment VALUES ('m8', 'o8', 50, 'EUR', 'paid', 1, 450)",
    );
    let report = world.audit(None);
    assert!(report.holds(), "{report}");
}

#[test]
fn samples_speak_for_the_store_and_see_an_epoch_fall() {
    let world = World::loose();
    let mut sampler = Sampler::open(&world.store).unwrap();
    // The samples saw nothing sellable, whatever the events say later (an adjustment leaves no event).
    world.sql(
        "UPDATE stock SET free = 0, leased = 0, total = 3 WHERE product_id = 'p'; UPDATE lease SET consumed = granted",
    );
    for t in (50_000..62_000).step_by(100) {
        sampler.sample(t).unwrap();
    }
    assert_eq!(sampler.least("p", 59_000, 61_500), Some(0));
    assert_eq!(sampler.least("p", 49_000, 61_500), None, "not covered");
    assert_eq!(sampler.least("z", 59_000, 70_000), None, "not covered yet");

    let fresh = World::loose();
    let mut entries = journal();
    entries.push(json!({"t": 61_000, "buyer": "x", "key": "x", "product": "p", "quantity": 1, "status": 410, "outcome": "sold_out"}));
    fresh.write(&entries);
    assert_eq!(broken(&fresh.audit(None)), [11]);
    assert_eq!(broken(&fresh.audit(Some(&sampler))), [] as [u8; 0]);

    let mut sampler = Sampler::open(&fresh.store).unwrap();
    sampler.sample(1).unwrap();
    fresh.sql("UPDATE stock SET epoch = 2 WHERE product_id = 'p'");
    sampler.sample(2).unwrap();
    fresh.sql("UPDATE stock SET epoch = 3 WHERE product_id = 'p'");
    assert!(broken(&fresh.audit(Some(&sampler))).contains(&5), "it rose again, but it had fallen");
}

#[test]
fn what_cannot_be_read_is_an_error_and_not_a_verdict() {
    let world = World::healthy();
    let options = Options::running(NOW);
    assert!(matches!(audit(Path::new("/nowhere/stock.sqlite"), &[], &options, None), Err(AuditError::Store(_))));
    let gone = [world.store.with_file_name("absent.jsonl")];
    assert!(matches!(audit(&world.store, &gone, &options, None), Err(AuditError::File { .. })));
    world.sql("DROP TABLE outbox");
    assert!(matches!(audit(&world.store, &[], &options, None), Err(AuditError::Store(_))));
}
