//! Stories of subscriptions: who holds one, what its holder writes, and what is sent again.

use seckill_core::stock::webhook_store::{
    ALL_KINDS, Dead, MAX_WEBHOOKS, Parked, Progress, WebhookName, WebhookPut, WebhookRow, WebhookSpec,
};

use super::*;

fn name(text: &str) -> WebhookName {
    text.parse().unwrap()
}

fn wish(text: &str) -> WebhookSpec {
    let url = "http://127.0.0.1:9/a?b=c".to_owned();
    WebhookSpec { name: name(text), url, kinds: ALL_KINDS.to_vec(), secret: "one".into() }
}

async fn row(shop: &Shop, text: &str) -> WebhookRow {
    shop.store.webhooks().await.unwrap().into_iter().find(|row| row.spec.name == name(text)).expect("it is there")
}

fn parked(sequence: u64, order: usize, due: Timestamp) -> Parked {
    let reason = "answered 400".to_owned();
    Parked { sequence, order: order_id(order), attempts: 2, since: NOW, due, reason }
}

fn dead(sequence: u64, order: usize) -> Dead {
    Dead { sequence, order: order_id(order), attempts: 9, at: later(5), reason: "answered 'no'; \"never\"".into() }
}

pub async fn one_core_holds_a_webhook_and_only_it_writes(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 10, 5).await;
    shop.accept(attempt(1)).await;
    let newest = shop.store.newest_step().await.unwrap();
    let hook = name("erp");
    assert_eq!(shop.store.put_webhook(wish("erp"), None, NOW).await.unwrap(), WebhookPut::Created);
    let made = row(&shop, "erp").await;
    assert_eq!((made.cursor, made.generation, made.held.clone()), (newest, 1, None), "from now on");
    assert_eq!(made.spec, wish("erp"));

    let claim = async |who: &str, at: u64| {
        shop.store.claim_webhook(&hook, who, later(at), later(at + 100)).await.unwrap().is_some()
    };
    assert!(claim("one", 0).await);
    assert!(!claim("two", 100).await, "it is held until the end of that moment");
    assert!(claim("one", 50).await, "its holder may hold on");
    let write = async |who: &str, generation: u64, cursor: u64, park: Vec<Parked>| {
        let progress = Progress { cursor, park, ..Progress::default() };
        shop.store.webhook_progress(&hook, who, generation, later(300), progress).await.unwrap()
    };
    assert!(!write("two", 1, 9, vec![parked(9, 9, NOW)]).await);
    assert!(!write("one", 2, 9, vec![parked(9, 9, NOW)]).await);
    assert!(write("one", 1, 7, vec![parked(5, 1, later(9)), parked(3, 2, NOW)]).await);
    assert!(write("one", 1, 8, vec![parked(5, 1, later(20))]).await);
    let waiting = shop.store.parked(&hook, 10).await.unwrap();
    assert_eq!(waiting, [parked(3, 2, NOW), parked(5, 1, later(20))]);
    assert_eq!((row(&shop, "erp").await.cursor, row(&shop, "erp").await.parked), (8, 2));

    // The holder died: another takes over with all that was written, and the old one writes no more.
    assert!(!claim("two", 300).await);
    assert!(claim("two", 301).await);
    assert!(!write("one", 1, 99, vec![]).await);
    let shop = shop.restart();
    let held = row(&shop, "erp").await;
    assert_eq!((held.cursor, held.parked, held.held), (8, 2, Some(("two".into(), later(401)))));
    shop.store.release_webhook(&hook, "one").await.unwrap();
    assert!(row(&shop, "erp").await.held.is_some(), "not his to let go");
    shop.store.release_webhook(&hook, "two").await.unwrap();
    assert_eq!(row(&shop, "erp").await.held, None);

    // A change keeps the progress and tells the holder to look again.
    let other = WebhookSpec { url: "http://127.0.0.1:10/".into(), ..wish("erp") };
    assert_eq!(shop.store.put_webhook(other.clone(), Some(0), later(9)).await.unwrap(), WebhookPut::Updated);
    let changed = row(&shop, "erp").await;
    assert_eq!((changed.spec, changed.generation, changed.cursor, changed.parked), (other, 2, 8, 2));
    assert!(shop.store.remove_webhook(&hook).await.unwrap());
    assert!(!shop.store.remove_webhook(&hook).await.unwrap());
    assert!(shop.store.webhooks().await.unwrap().is_empty());
    assert!(shop.store.parked(&hook, 10).await.unwrap().is_empty(), "it left nothing");
    assert!(shop.store.claim_webhook(&hook, "one", NOW, later(1)).await.unwrap().is_none());

    for n in 0..MAX_WEBHOOKS {
        let put = shop.store.put_webhook(wish(&format!("hook-{n}")), None, NOW).await.unwrap();
        assert_eq!(put, WebhookPut::Created);
    }
    assert_eq!(shop.store.put_webhook(wish("more"), None, NOW).await.unwrap(), WebhookPut::TooMany);
    assert_eq!(shop.store.put_webhook(wish("hook-0"), None, NOW).await.unwrap(), WebhookPut::Updated);
}

pub async fn what_is_given_up_can_be_replayed(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 10, 5).await;
    let hook = name("erp");
    shop.store.put_webhook(wish("erp"), Some(0), NOW).await.unwrap();
    shop.store.claim_webhook(&hook, "one", NOW, later(100)).await.unwrap().expect("it is free");
    let progress =
        Progress { cursor: 0, park: (1..=6).map(|n| parked(n, n as usize, NOW)).collect(), ..Progress::default() };
    assert!(shop.store.webhook_progress(&hook, "one", 1, later(100), progress).await.unwrap());
    let progress = Progress {
        cursor: 6,
        park: vec![],
        unpark: vec![1, 2, 4, 6],
        dead: [2, 4, 6].map(|n| dead(n, n as usize)).to_vec(),
    };
    assert!(shop.store.webhook_progress(&hook, "one", 1, later(100), progress).await.unwrap());
    let now = row(&shop, "erp").await;
    assert_eq!((now.parked, now.dead), (2, 3));
    assert_eq!(shop.store.dead_letters(&hook, 0, 2).await.unwrap(), [dead(2, 2), dead(4, 4)]);
    assert_eq!(shop.store.dead_letters(&hook, 4, 2).await.unwrap(), [dead(6, 6)]);

    assert_eq!(shop.store.replay_dead(&hook, 2, later(9)).await.unwrap(), Some(2));
    let now = row(&shop, "erp").await;
    assert_eq!((now.parked, now.dead, now.generation), (4, 1, 2));
    let revived = shop.store.parked(&hook, 10).await.unwrap().remove(0);
    assert_eq!((revived.sequence, revived.attempts, revived.due), (2, 0, later(9)), "a life of its own");
    assert_eq!(shop.store.replay_dead(&hook, 9, later(9)).await.unwrap(), Some(1));
    assert_eq!(shop.store.replay_dead(&hook, 9, later(9)).await.unwrap(), Some(0));
    assert_eq!(shop.store.replay_dead(&name("none"), 9, NOW).await.unwrap(), None);
}

pub async fn a_webhook_goes_back_to_any_step(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 10, 5).await;
    let hook = name("erp");
    for n in 1..=3 {
        shop.accept(attempt(n)).await;
    }
    shop.store.put_webhook(wish("erp"), Some(u64::MAX >> 1), NOW).await.unwrap();
    assert_eq!(row(&shop, "erp").await.cursor, shop.store.newest_step().await.unwrap(), "no further than there is");
    shop.store.claim_webhook(&hook, "one", NOW, later(100)).await.unwrap().expect("it is free");
    let progress = Progress { cursor: 3, park: vec![parked(1, 1, NOW), parked(2, 2, NOW)], ..Progress::default() };
    assert!(shop.store.webhook_progress(&hook, "one", 1, later(100), progress).await.unwrap());
    assert!(shop.store.replay_from(&hook, 1).await.unwrap());
    let now = row(&shop, "erp").await;
    assert_eq!((now.cursor, now.parked, now.generation), (1, 1, 2), "what lies above it comes again in its place");
    assert!(!shop.store.replay_from(&name("none"), 1).await.unwrap());
    assert!(!shop.store.webhook_progress(&hook, "one", 1, later(100), Progress::default()).await.unwrap());
}
