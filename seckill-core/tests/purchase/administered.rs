//! A merchandiser's days: a sale made from a file, opened by the clocks of its own zone on the night on which they
//! change, restocked and reduced by files while it sells in every tier, closed, and cloned for the night on which they
//! change back. The clock is the story's own.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use types::{Clock, Tier, Timestamp};

use crate::client::Wish;
use crate::place::{Kind, Place};
use crate::shop::{SALE, Shop, problem, problem_with_wait, until};

const PRODUCTS: [(&str, Tier); 3] = [("lamp", Tier::Db), ("vase", Tier::Redis), ("rug", Tier::Queue)];
/// Units of each product in the file.
const STOCK: u64 = 40;
const FILE: &str = "\u{feff}sku,name,price,currency,stock,limit\r\nlamp,Lamp,1990,EUR,40,2\r\nvase,\"Vase, blue\",1990,EUR,40,2\r\n\
                    rug,Rug,1990,EUR,40,2\r\n";

async fn ok(call: RequestBuilder) -> (u16, Value) {
    let answer = call.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{status} {text}");
    (status.as_u16(), serde_json::from_str(&text).unwrap())
}

/// A refusal's words.
async fn refused(call: RequestBuilder) -> (u16, Value) {
    let answer = call.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn catalogue(shop: &Shop, query: &str) -> RequestBuilder {
    let call = shop.admin(Method::POST, &format!("/v1/sales/{SALE}/imports/catalogue?{query}"));
    call.header("content-type", "text/csv").body(FILE)
}

fn stock(shop: &Shop, sale: &str, key: &str, rows: &[(&str, i64)]) -> RequestBuilder {
    let rows: String = rows.iter().map(|(sku, delta)| format!("{sku},{delta},counted\n")).collect();
    let call = shop.admin(Method::POST, &format!("/v1/sales/{sale}/imports/stock"));
    call.header("Idempotency-Key", key).header("content-type", "text/csv").body(format!("sku,delta,reason\n{rows}"))
}

/// Turns the clock forward to this moment. It runs on meanwhile: what is done between two moments has minutes.
fn set(shop: &Shop, moment: &str) {
    let (now, moment) = (shop.place.clock.now(), moment.parse::<Timestamp>().unwrap());
    assert!(moment > now, "it is {now} already");
    shop.place.clock.push(moment.since(now));
}

fn wish(sale: &str, buyer: &str, product: &str) -> Wish {
    Wish { sale: sale.into(), key: format!("{sale}-{product}"), ..Wish::one(buyer, product).waiting(true) }
}

/// Each product is sold to somebody now; answers the orders.
async fn sells(shop: &Shop, sale: &str, buyer: &str) -> Vec<String> {
    let mut orders = Vec::new();
    for (product, _) in PRODUCTS {
        let now = shop.place.clock.now();
        let end = shop.clients.buy(wish(sale, buyer, product)).await;
        orders.push(end.unwrap_or_else(|why| panic!("{buyer}, {product} at {now}: {why}")));
    }
    orders
}

/// What nobody pays comes back.
async fn nothing_reserved(shop: &Shop) {
    for (product, _) in PRODUCTS {
        until("unpaid units are back", async || shop.row(product).await.state.reserved == 0).await;
    }
}

/// Buys nothing, at any product's door.
async fn door(shop: &Shop, sale: &str, buyer: &str) -> Vec<(u16, String)> {
    let mut all = Vec::new();
    for (product, _) in PRODUCTS {
        let path = format!("/v1/sales/{sale}/products/{product}/purchases");
        let call = shop.public(Method::POST, &path).bearer_auth(format!("shopper:{buyer}"));
        let call = call.header("Idempotency-Key", format!("door-{product}")).json(&json!({"quantity": 1}));
        let (status, why, _) = problem_with_wait(call).await;
        all.push((status, why));
    }
    all.dedup();
    all
}

async fn close(shop: &Shop, sale: &str) {
    until("it is closed", async || {
        let answer = shop.admin(Method::POST, &format!("/v1/sales/{sale}/close")).send().await.unwrap();
        answer.status() == StatusCode::OK
    })
    .await;
}

/// A crowd wants more than there is while files add and remove units; answers how many were sold to it.
async fn a_rush_over_moving_stock(shop: &Shop) {
    let wishes = PRODUCTS.iter().flat_map(|(p, _)| (0..60).map(move |n| wish(SALE, &format!("crowd-{n}"), p)));
    let files = async {
        let mut changed = 0;
        for n in 0..8 {
            let delta = if n % 2 == 0 { 5 } else { -3 };
            let rows = PRODUCTS.map(|(product, _)| (product, delta));
            let answer = stock(shop, SALE, &format!("rush-{n}"), &rows).send().await.unwrap();
            match answer.status() {
                StatusCode::OK => changed += delta,
                // Nothing was left of one of them: then none is reduced.
                StatusCode::UNPROCESSABLE_ENTITY if delta < 0 => {}
                other => panic!("{other}: {}", answer.text().await.unwrap()),
            }
        }
        changed
    };
    let (ends, changed) = tokio::join!(shop.clients.all(wishes.collect()), files);
    let total = STOCK.checked_add_signed(changed).unwrap();
    for (product, tier) in PRODUCTS {
        let sold = ends.iter().filter(|(wish, end)| wish.product == product && end.is_ok()).count() as u64;
        let row = shop.row(product).await;
        // Some were refused before the last file added units.
        assert!(sold >= STOCK.min(total) / 2 && sold <= total, "{tier}: {sold} of {total}");
        assert_eq!((row.state.total, row.state.reserved), (total, sold + 1), "{tier}");
    }
}

pub async fn a_sale_lives_from_its_file_to_its_close_across_both_clock_changes(kind: Kind) {
    let place = Place::fresh_at(kind, "2027-03-28T00:00:00Z".parse().unwrap()).await;
    let mut shop = Shop::open_at(place, 1, |o| o.reserve_for = Duration::from_secs(600)).await;

    // From a file, by the clocks of its zone. What they never show is refused, and said how to mend.
    let zone = "zone=Europe/Berlin&opens=2027-03-28T01:30:00&closes=2027-03-28T";
    let (status, body) = refused(catalogue(&shop, &format!("{zone}02:30:00"))).await;
    assert_eq!((status, &body["field"]), (422, &json!("closes")));
    let why = body["detail"].as_str().unwrap();
    assert!(why.contains("write 2027-03-28T01:30:00 or 2027-03-28T03:30:00"), "{why}");
    let (_, dry) = ok(catalogue(&shop, &format!("{zone}03:30:00&dry_run=true"))).await;
    assert_eq!((&dry["created"], &dry["added"]), (&json!(3), &json!(3 * STOCK)));
    assert_eq!(problem(shop.admin(Method::GET, &format!("/v1/sales/{SALE}"))).await.0, 404, "nothing was made");
    assert_eq!(ok(catalogue(&shop, &format!("{zone}03:30:00"))).await.0, 201);
    let (_, shown) = ok(shop.admin(Method::GET, &format!("/v1/sales/{SALE}"))).await;
    let window = (shown["opens"].as_str().unwrap(), shown["closes"].as_str().unwrap());
    assert_eq!(window, ("2027-03-28T00:30:00.000Z", "2027-03-28T01:30:00.000Z"), "one hour, not two");

    // Not a moment before its time, and then at once.
    shop.plan(&PRODUCTS).await;
    set(&shop, "2027-03-28T00:28:00Z");
    assert_eq!(door(&shop, SALE, "early").await, [(425, "not-open".to_owned())]);
    set(&shop, "2027-03-28T00:30:00Z");
    let first = sells(&shop, SALE, "first").await;
    a_rush_over_moving_stock(&shop).await;

    // A file with a row that takes too much does nothing, and says which.
    let before = shop.row("lamp").await.state.total;
    let (status, body) = refused(stock(&shop, SALE, "too-much", &[("lamp", 1), ("vase", -1000), ("rug", 1)])).await;
    assert_eq!((status, &body["errors"][0]["row"], &body["errors"][0]["column"]), (422, &json!(3), &json!("delta")));
    assert_eq!(shop.row("lamp").await.state.total, before);
    // Restocked: it sells again, the same file takes effect once.
    for repeated in [false, true] {
        let (_, done) = ok(stock(&shop, SALE, "delivery", &PRODUCTS.map(|(p, _)| (p, 10)))).await;
        assert_eq!((&done["repeated"], &done["added"]), (&json!(repeated), &json!(30)));
    }
    sells(&shop, SALE, "after-delivery").await;
    for order in &first {
        let pay = shop.post("first", &format!("/v1/orders/{order}/pay")).header("Prefer", "wait=5");
        assert_eq!(ok(pay).await.1["state"], "paid");
    }

    // Over the moment at which the clocks jump: what nobody paid is back, and it goes on selling.
    set(&shop, "2027-03-28T00:55:00Z");
    nothing_reserved(&shop).await;
    sells(&shop, SALE, "before-the-jump").await;
    set(&shop, "2027-03-28T01:00:01Z");
    sells(&shop, SALE, "after-the-jump").await;
    set(&shop, "2027-03-28T01:25:00Z");
    let last = sells(&shop, SALE, "last").await;
    set(&shop, "2027-03-28T01:30:00Z");
    assert_eq!(door(&shop, SALE, "late").await, [(410, "sale-ended".to_owned())]);
    close(&shop, SALE).await;
    // Orders of a closed sale are paid and expire as ever.
    let pay = shop.post("last", &format!("/v1/orders/{}/pay", last[0])).header("Prefer", "wait=5");
    assert_eq!(ok(pay).await.1["state"], "paid");

    // The same sale, on the night on which an hour comes twice.
    let clone = |closes: &str| {
        let body = json!({"name": "autumn", "opens": "2027-10-31T01:30:00", "closes": format!("2027-10-31T{closes}")});
        shop.admin(Method::POST, &format!("/v1/sales/{SALE}/clone")).json(&body)
    };
    let (status, body) = refused(clone("02:30:00")).await;
    assert_eq!((status, &body["field"]), (422, &json!("closes")));
    let why = body["detail"].as_str().unwrap();
    assert!(why.contains("comes twice") && why.contains("2027-10-31T00:30:00Z and at 2027-10-31T01:30:00Z"), "{why}");
    assert_eq!(ok(clone("03:30:00")).await.0, 201);
    set(&shop, "2027-10-30T23:28:00Z");
    nothing_reserved(&shop).await;
    assert_eq!(door(&shop, "autumn", "early").await, [(425, "not-open".to_owned())]);
    for (moment, buyer) in [
        ("2027-10-30T23:30:00Z", "at the opening"),
        ("2027-10-31T00:30:00Z", "half past two"),
        ("2027-10-31T01:30:00Z", "half past two again"),
        ("2027-10-31T02:25:00Z", "the last minutes"),
    ] {
        set(&shop, moment);
        sells(&shop, "autumn", &buyer.replace(' ', "-")).await;
    }
    ok(stock(&shop, "autumn", "autumn-count", &PRODUCTS.map(|(p, _)| (p, -7)))).await;
    set(&shop, "2027-10-31T02:30:00Z");
    assert_eq!(door(&shop, "autumn", "late").await, [(410, "sale-ended".to_owned())]);
    close(&shop, "autumn").await;
    set(&shop, "2027-10-31T03:00:00Z");
    nothing_reserved(&shop).await;
    shop.close().await;
}
