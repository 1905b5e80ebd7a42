//! A shopper sees each step of his orders, once, wherever it was made and wherever he is connected.

use std::time::Duration;

use crate::house::House;

#[tokio::test(flavor = "multi_thread")]
async fn each_step_is_seen_at_the_other_core() {
    let house = House::open(2).await;
    house.sell(10).await;
    let mut anna = house.connect(1, "anna", None).await;
    let mut ben = house.connect(1, "ben", None).await;
    let hello = anna.expect("hello").await;
    assert_eq!((hello["begin"].as_str(), hello["heartbeat_ms"].as_u64()), (Some("new"), Some(15_000)));
    let snapshot = anna.expect("snapshot").await;
    assert_eq!((snapshot["orders"].as_array().map(Vec::len), snapshot["complete"].as_bool()), (Some(0), Some(true)));

    let order = house.buy(0, "anna").await;
    assert_eq!(anna.step().await, (order.clone(), "accepted".to_owned()));
    house.cancel(0, "anna", &order).await;
    assert_eq!(anna.step().await, (order, "cancelled".to_owned()));

    // Ben's next message after his own beginning is his own.
    let order = house.buy(0, "ben").await;
    assert_eq!(ben.expect("hello").await["begin"], "new");
    assert_eq!(ben.expect("snapshot").await["orders"].as_array().unwrap().len(), 0);
    assert_eq!(ben.step().await, (order, "accepted".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_with_a_cursor_is_told_exactly_what_he_missed() {
    let house = House::open(2).await;
    house.sell(10).await;
    let mut anna = house.connect(0, "anna", None).await;
    let first = house.buy(0, "anna").await;
    anna.expect("hello").await;
    // The snapshot may show the first already: either way it is known once.
    let shown = anna.expect("snapshot").await["orders"].as_array().unwrap().len();
    if shown == 0 {
        assert_eq!(anna.step().await.0, first);
    }
    let cursor = anna.cursor.unwrap();
    drop(anna);
    let second = house.buy(1, "anna").await;
    house.buy(0, "ben").await;
    house.cancel(0, "anna", &first).await;
    for core in [0, 1, 0] {
        let mut anna = house.connect(core, "anna", Some(cursor)).await;
        assert_eq!(anna.expect("hello").await["begin"], "resumed");
        assert_eq!(anna.step().await, (second.clone(), "accepted".to_owned()));
        assert_eq!(anna.step().await, (first.clone(), "cancelled".to_owned()));
    }
    // Nothing was missed by who has the newest cursor: the next thing is the next step.
    let mut anna = house.connect(1, "anna", Some(cursor)).await;
    anna.expect("hello").await;
    anna.step().await;
    anna.step().await;
    let mut again = house.connect(0, "anna", anna.cursor).await;
    assert_eq!(again.expect("hello").await["begin"], "resumed");
    let third = house.buy(1, "anna").await;
    assert_eq!(again.step().await, (third, "accepted".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beat_moves_the_cursor_of_who_buys_nothing() {
    let house = House::open_with(1, |live| live.heartbeat = Duration::from_millis(200)).await;
    house.sell(10).await;
    let mut anna = house.connect(0, "anna", None).await;
    anna.expect("hello").await;
    let before = anna.expect("snapshot").await["cursor"].as_u64().unwrap();
    house.buy(0, "ben").await;
    while anna.expect("beat").await["cursor"].as_u64().unwrap() == before {}
    assert_eq!(anna.cursor, Some(before + 1));
}
