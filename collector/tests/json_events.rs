//! With `encoding = "json"` each event stands in `product-events-json` too, as a flat object for Druid, and a
//! restart loses none.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use collector::Encoding;
use common::{Shop, expected, lines, until};
use serde_json::Value;
use types::topics;

#[tokio::test(flavor = "multi_thread")]
async fn each_event_is_written_as_json_too() {
    let mut shop = Shop::new();
    shop.options.encoding = Encoding::Json;
    // More than one append takes, in two lives.
    shop.append("access.log", &lines(0..6_000));
    let running = shop.start().await;
    until("the first lines are read", || running.handle.accounting().events == 6_000).await;
    running.stop().await;
    shop.append("access.log", &lines(6_000..12_000));
    let running = shop.start().await;
    until("all lines are read", || running.handle.accounting().events == 12_000).await;
    running.stop().await;

    let mut views: BTreeMap<String, u64> = BTreeMap::new();
    let mut lines_seen = BTreeSet::new();
    for record in shop.records(topics::PRODUCT_EVENTS_JSON).await {
        let event: Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
        let page = event["product"].as_str().unwrap().to_owned();
        assert_eq!(record.partition, eventlog::partition_for(page.as_bytes(), 4), "beside its Arrow twin");
        assert_eq!((&event["kind"], &event["events"], &event["status"]), (&"view".into(), &1.into(), &200.into()));
        assert!(event["__time"].as_str().unwrap().ends_with('Z'), "{event}");
        let line = (event["source"].as_str().unwrap().to_owned(), event["offset"].as_u64().unwrap());
        if lines_seen.insert(line) {
            *views.entry(page).or_default() += 1;
        }
    }
    assert_eq!(views, expected(0..12_000));
    assert_eq!(shop.counted().await.0, expected(0..12_000), "the columns are written as ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_it_nobody_makes_the_topic() {
    let shop = Shop::new();
    shop.append("access.log", &lines(0..10));
    let running = shop.start().await;
    until("the lines are read", || running.handle.accounting().events == 10).await;
    running.stop().await;
    let topic = eventlog::Topic::new(topics::PRODUCT_EVENTS_JSON).unwrap();
    use eventlog::EventLog as _;
    assert!(shop.log.partitions(&topic).await.is_err());
}
