//! The example shop, joined on to the real program: it sells through a flash crowd, its order system is away in the
//! middle, and afterwards its book equals ours and the auditor has nothing to say.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../../../examples/shop/shop.rs"]
mod shop;
mod town;

use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use shop::catalogue::SALE;
use shop::{Options, Shop};
use town::{LOOK, PATIENCE, Town};

/// Shoppers at once.
const AT_ONCE: usize = 24;

/// What became of the shoppers.
#[derive(Debug, Default)]
struct Seen {
    accepted: AtomicUsize,
    paid: AtomicUsize,
    cancelled: AtomicUsize,
    sold_out: AtomicUsize,
}

/// One shopper: logs in at the shop, buys on the platform, then pays, leaves the order, or thinks better of it.
async fn shopper(shop: &Shop, n: usize, seed: u64, seen: &Seen) {
    let mut chance = StdRng::seed_from_u64(seed ^ n as u64);
    let (scarce, fate) = (chance.random_bool(0.6), chance.random_range(0..10));
    let product = if scarce { "console-p5" } else { "desk-lamp" };
    let token = shop.login.customer(&format!("customer-{n}")).unwrap();
    let url = format!("{}/v1/sales/{SALE}/products/{product}/purchases", shop.public);
    let began = Instant::now();
    let order = loop {
        assert!(began.elapsed() < PATIENCE, "no answer to a purchase");
        let call = shop.http.post(&url).bearer_auth(&token).header("Idempotency-Key", "one");
        let Ok(answer) = call.json(&json!({"quantity": 1})).send().await else { continue };
        let (status, place) = (answer.status().as_u16(), answer.headers().get("location").cloned());
        let body: Value = answer.json().await.unwrap_or_default();
        match status {
            201 => break body["order"].as_str().unwrap().to_owned(),
            202 => {
                let url = format!("{}{}", shop.public, place.unwrap().to_str().unwrap());
                match ticket(shop, &url, &token).await {
                    Some(order) => break order,
                    None => return,
                }
            }
            409 | 410 => {
                seen.sold_out.fetch_add(1, Ordering::Relaxed);
                return;
            }
            429 | 503 => tokio::time::sleep(LOOK).await,
            other => panic!("a purchase was answered {other}: {body}"),
        }
    };
    seen.accepted.fetch_add(1, Ordering::Relaxed);
    match fate {
        0 => {
            let url = format!("{}/v1/orders/{order}/cancel", shop.public);
            assert!(shop.http.post(url).bearer_auth(&token).send().await.unwrap().status().is_success());
            seen.cancelled.fetch_add(1, Ordering::Relaxed);
        }
        1 => {}
        _ => {
            let paid = shop::payment::pay(shop, &token, &order).await.unwrap();
            seen.paid.fetch_add(usize::from(paid), Ordering::Relaxed);
        }
    }
}

/// Follows a ticket to its end: the order, if there is one.
async fn ticket(shop: &Shop, url: &str, token: &str) -> Option<String> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Ok(answer) = shop.http.get(url).bearer_auth(token).send().await {
            let body: Value = answer.json().await.unwrap_or_default();
            match body["state"].as_str() {
                Some("accepted") => return Some(body["order"]["order"].as_str().unwrap().to_owned()),
                Some("refused") => return None,
                _ => {}
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    panic!("a ticket has no end");
}

/// What `seckill reconcile` says of the shop's book: whether it equals ours, and its words.
fn reconcile(town: &Town, shop: &Shop) -> (bool, String) {
    let book = town.data().join("book.csv");
    fs::write(&book, shop.book.as_csv(SALE).unwrap()).unwrap();
    let mut command = town.seckill();
    command.arg("reconcile").arg(&book).args(["--sale", SALE, "--admin", &town.base("admin")]);
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `services`: these as processes of their own on real Kafka, Redis and MariaDB; none: one process on embedded parts.
async fn rush(shoppers: usize, away: Duration, services: &[&'static str]) {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0x5ec1);
    println!("seed {seed}, {shoppers} shoppers, the order system away for {away:?}");
    let own = tempfile::tempdir().unwrap();
    let secret = own.path().join("webhook.secret");
    fs::write(&secret, "what the shop and the platform share").unwrap();
    let settings = format!(
        "payment_provider = \"external\"\nwebhooks.secret_files.shop = {secret:?}\nwebhooks.first_retry = \"100ms\"\nwebhooks.longest_probe = \"1s\"\n"
    );
    let town = if services.is_empty() { Town::embedded(&settings) } else { Town::real(services, &settings) };
    let shop = Shop::open(Options {
        public: town.base("public"),
        admin: town.base("admin"),
        listen: "127.0.0.1:0".parse().unwrap(),
        book: own.path().join("book.sqlite"),
        login_key: fs::read_to_string(town.data().join("secrets/issuer")).unwrap(),
        webhook_secret: fs::read_to_string(&secret).unwrap(),
    });
    let (shop, seen) = (Arc::new(shop.await.unwrap()), Arc::new(Seen::default()));

    // A third of the crowd, then nobody hears the orders of the second, then all is well for the rest.
    let crowd = async |part: usize| {
        let part = (part * shoppers / 3)..((part + 1) * shoppers / 3);
        let each = futures::stream::iter(part).for_each_concurrent(AT_ONCE, |n| shopper(&shop, n, seed, &seen));
        each.await;
    };
    crowd(0).await;
    let began = Instant::now();
    while shop.book.count().unwrap() == 0 {
        assert!(began.elapsed() < PATIENCE, "the order system hears nothing\n{}", town.said());
        tokio::time::sleep(LOOK).await;
    }
    shop.close_order_system().await;
    let gone = Instant::now();
    crowd(1).await;
    let heard = shop.book.count().unwrap();
    tokio::time::sleep(away.saturating_sub(gone.elapsed())).await;
    assert_eq!(shop.book.count().unwrap(), heard, "it is away");
    let was_away = gone.elapsed();
    shop.open_order_system().await.unwrap();
    let back = Instant::now();
    crowd(2).await;

    let caught_up = loop {
        let (equal, said) = reconcile(&town, &shop);
        if equal {
            break back.elapsed();
        }
        assert!(back.elapsed() < PATIENCE, "the books differ: {said}\n{}", town.said());
        tokio::time::sleep(LOOK * 4).await;
    };
    let orders = shop.book.count().unwrap();
    assert_eq!(orders, seen.accepted.load(Ordering::Relaxed) as u64, "each order that a customer saw is in the book");
    assert!(seen.sold_out.load(Ordering::Relaxed) > 0, "it was no rush");
    println!(
        "{seen:?}; away {was_away:?}, {heard} orders heard before; the books equal {caught_up:?} after it was back"
    );
    println!("{}", town.run(&["audit"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shop_sells_through_a_rush_with_its_order_system_away_in_the_middle() {
    rush(450, Duration::from_secs(3), &[]).await;
}

/// The same with more customers and a whole minute: `cargo test --workspace --test example_shop -- --ignored`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes two minutes"]
async fn a_whole_minute_away() {
    rush(3_000, Duration::from_secs(60), &[]).await;
}

/// And in four processes on real servers: `… --test example_shop -- --ignored`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes some minutes, and real servers"]
async fn a_whole_minute_away_on_real_servers() {
    rush(3_000, Duration::from_secs(60), &["collect", "analyze", "control", "core"]).await;
}
