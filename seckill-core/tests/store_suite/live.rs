//! What live updates ask of the store: events behind a sequence, a buyer's standing, passes.

use std::sync::Arc;
use std::time::Duration;

use seckill_core::stock::live_store::PassDigest;

use super::*;

pub async fn events_are_read_back_from_any_place(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 10, 9).await;
    let empty = shop.store.told(0, 10).await.unwrap();
    assert_eq!((empty.through, empty.events.len()), (0, 0));
    for n in 1..=4 {
        shop.accept(attempt(n)).await;
    }
    let of = |told: seckill_core::stock::live_store::Told| {
        (told.through, told.events.iter().map(|e| e.sequence).collect::<Vec<_>>())
    };
    assert_eq!(of(shop.store.told(0, 10).await.unwrap()), (4, vec![1, 2, 3, 4]));
    assert_eq!(of(shop.store.told(2, 10).await.unwrap()), (4, vec![3, 4]));
    assert_eq!(of(shop.store.told(1, 2).await.unwrap()), (3, vec![2, 3]), "a full answer reaches to its last event");
    assert_eq!(of(shop.store.told(4, 10).await.unwrap()), (4, vec![]));
    assert_eq!(of(shop.store.told(u64::MAX, 1).await.unwrap()), (4, vec![]), "the end");
    let relayed = shop.store.outbox(10).await.unwrap();
    shop.store.outbox_relayed(4).await.unwrap();
    let told = shop.store.told(0, 10).await.unwrap();
    assert_eq!(told.events, relayed, "they are what the relay sends, and stay when it has");
}

pub async fn a_standing_is_of_one_moment(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 200, 99).await;
    let nobody = shop.store.standing(&buyer(99), 10).await.unwrap();
    assert_eq!((nobody.through, nobody.orders.len()), (0, 0));
    shop.accept(attempt(1)).await;
    let standing = shop.store.standing(&buyer(1), 10).await.unwrap();
    assert_eq!((standing.through, standing.orders.len()), (1, 1));
    assert_eq!(standing.orders, shop.store.orders(&buyer(1), 10).await.unwrap());
    assert_eq!(shop.store.standing(&buyer(1), 0).await.unwrap().orders.len(), 0);

    // While others buy and cancel, what is shown is always what the events up to `through` say.
    let store = shop.store.clone();
    let busy = tokio::spawn(async move {
        for n in 0..60usize {
            let mine = Attempt { buyer: buyer(7), key: key(1_000 + n), order: order_id(1_000 + n), ..attempt(7) };
            store.decide(vec![mine], RESERVE, NOW).await.unwrap();
            if n % 2 == 0 {
                store.cancel(order_id(1_000 + n), &buyer(7), NOW).await.unwrap();
            }
        }
    });
    let mut seen = Vec::new();
    while !busy.is_finished() {
        seen.push(shop.store.standing(&buyer(7), 1_000).await.unwrap());
    }
    busy.await.unwrap();
    let events = shop.store.told(0, 1_000).await.unwrap().events;
    for standing in &seen {
        let mut told = std::collections::BTreeMap::new();
        for event in events.iter().filter(|e| e.sequence <= standing.through && e.buyer == buyer(7)) {
            told.insert(event.order, event.kind);
        }
        let shown: std::collections::BTreeMap<_, types::order_event::OrderEventKind> =
            standing.orders.iter().map(|row| (row.order, row.state.into())).collect();
        assert_eq!(shown, told);
    }
    println!("{} standings", seen.len());
}

pub async fn a_pass_is_good_once(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 1, 1).await;
    let pass = |n: u8| PassDigest::new([n; 32]);
    let until = later(30_000);
    for n in 1..=4 {
        shop.store.issue_pass(&pass(n), &buyer(usize::from(n)), until).await.unwrap();
    }
    shop.store.issue_pass(&pass(1), &buyer(9), until).await.unwrap();
    assert_eq!(shop.store.use_pass(&pass(1), NOW).await.unwrap(), Some(buyer(1)), "the first issue counts");
    assert_eq!(shop.store.use_pass(&pass(1), NOW).await.unwrap(), None, "used");
    assert_eq!(shop.store.use_pass(&pass(8), NOW).await.unwrap(), None, "never issued");
    assert_eq!(shop.store.use_pass(&pass(2), until).await.unwrap(), None, "its time is over");

    let all = futures::future::join_all((0..20).map(|_| {
        let (store, pass) = (shop.store.clone(), pass(3));
        tokio::spawn(async move { store.use_pass(&pass, NOW).await.unwrap() })
    }))
    .await;
    let told: Vec<_> = all.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(told, [buyer(3)], "of many at once, one");

    assert_eq!(shop.store.forget_passes(NOW, 10).await.unwrap(), 0);
    assert_eq!(shop.store.forget_passes(later(3_600_000), 10).await.unwrap(), 1, "what nobody used");
    assert_eq!(shop.store.use_pass(&pass(4), NOW.plus(Duration::ZERO)).await.unwrap(), None);
}
