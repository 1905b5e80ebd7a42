//! The auditor on MariaDB: a store that lived is found in order, and each way of breaking it is seen.

use audit::stock::{Options, Sampler, Server, Store, audit_store};
use seckill_core::stock::store::Attempt;
use types::Tier;

use crate::place::Database;
use crate::store_suite::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_auditor_judges_a_server_as_it_judges_a_file() {
    let place = Database::fresh();
    let shop = Shop::selling(place.clone(), 5, 2).await;
    let paid = shop.accept(attempt(1)).await;
    shop.pay(1, &paid).await;
    let lease = shop.lend(1).await;
    shop.accept(Attempt { quantity: 2, ..granted(2, lease, 0) }).await;
    let store = Store::Server(Server::new(&place.url, None));
    assert!(!format!("{store:?}").contains("root"), "{store:?}");
    let mut sampler = Sampler::on(&store).unwrap();
    sampler.sample(NOW.millis()).unwrap();
    sampler.sample(NOW.millis() + 100).unwrap();
    assert_eq!(sampler.least("a", NOW.millis(), NOW.millis() + 50), Some(2));

    let report = audit_store(&store, &[], &Options::running(NOW.millis()), Some(&sampler)).unwrap();
    assert!(report.holds() && report.orders == 2, "{report}");
    shop.fence(Tier::Db).await;
    let epoch = shop.product().await.state.epoch;
    shop.moved(seckill_core::stock::store::MoveStep::Settle { lease }).await;
    shop.moved(seckill_core::stock::store::MoveStep::Open { product: sku("a"), epoch }).await;
    let report = place.audit();
    assert!(report.holds(), "{report}");

    for (number, harm, mend) in [
        (1, "UPDATE stock SET free = free + 1", "UPDATE stock SET free = free - 1"),
        (3, "UPDATE lease SET consumed = consumed + 1", "UPDATE lease SET consumed = consumed - 1"),
        (3, "UPDATE buyer_limit SET held = held + 1", "UPDATE buyer_limit SET held = held - 1"),
        (4, "UPDATE decision SET buyer = CONCAT(buyer, 'x')", "UPDATE decision SET buyer = LEFT(buyer, 7)"),
        (5, "UPDATE move SET epoch = epoch + 50", "UPDATE move SET epoch = epoch - 50"),
        (8, "UPDATE outbox SET kind = 'refunded' WHERE id = 1", "UPDATE outbox SET kind = 'accepted' WHERE id = 1"),
        (10, "UPDATE payment SET amount = amount + 1", "UPDATE payment SET amount = amount - 1"),
    ] {
        place.sql("SET SESSION check_constraint_checks = 0").await.unwrap();
        place.sql(harm).await.unwrap();
        let report = place.audit();
        let broken: Vec<_> = report.invariants.iter().filter(|i| i.violated > 0).map(|i| i.number).collect();
        assert!(broken.contains(&number), "{harm}: {broken:?} {report}");
        place.sql(mend).await.unwrap();
    }
    let report = place.audit();
    assert!(report.holds(), "all was mended: {report}");
    let nowhere = Store::Server(Server::new("mysql://root@127.0.0.1:1/x", None));
    assert!(audit_store(&nowhere, &[], &Options::running(0), None).unwrap_err().retryable());
}
