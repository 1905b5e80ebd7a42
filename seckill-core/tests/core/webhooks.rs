//! Order events on their way to a shop's own system, which is slow, away, or does not want one of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::shop::{Shop, problem, until};

const SECRET: &str = "a secret of the shop and us";

/// What the receiver says to an event.
type Mood = Box<dyn Fn(&Value) -> StatusCode + Send + Sync>;

struct Receiver {
    address: SocketAddr,
    heard: Mutex<Vec<Value>>,
    mood: Mutex<Mood>,
}

impl Receiver {
    async fn start() -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            heard: Mutex::default(),
            mood: Mutex::new(Box::new(|_| StatusCode::NO_CONTENT)),
        });
        let router = axum::Router::new().route("/orders", post(hear)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }
    fn feels(&self, mood: impl Fn(&Value) -> StatusCode + Send + Sync + 'static) {
        *self.mood.lock() = Box::new(mood);
    }
    /// Numbers of the events it took, by order.
    fn taken(&self) -> BTreeMap<String, Vec<u64>> {
        let mut taken: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for event in &*self.heard.lock() {
            let data = &event["data"];
            taken
                .entry(data["order"].as_str().unwrap().to_owned())
                .or_default()
                .push(data["sequence"].as_u64().unwrap());
        }
        taken
    }
    fn count(&self) -> usize {
        self.heard.lock().len()
    }
}

async fn hear(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers.get(name).unwrap().to_str().unwrap().to_owned();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{}.{}.", header("webhook-id"), header("webhook-timestamp")).as_bytes());
    mac.update(&body);
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(header("webhook-signature"), signature, "anybody could have sent it");
    let event: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(header("webhook-id"), format!("evt_{}", event["data"]["sequence"]));
    let said = (receiver.mood.lock())(&event);
    if said.is_success() {
        receiver.heard.lock().push(event);
    }
    said
}

async fn open() -> Shop {
    let secret = tempfile::NamedTempFile::new().unwrap().keep().unwrap().1;
    std::fs::write(&secret, SECRET).unwrap();
    let shop = Shop::open_with(|options| {
        let hooks = &mut options.webhooks;
        hooks.secret_files.insert("erp".into(), secret);
        hooks.first_retry = Duration::from_millis(20);
        hooks.longest_retry = Duration::from_millis(100);
        hooks.longest_probe = Duration::from_millis(200);
        hooks.attempts = 4;
    })
    .await;
    shop.sell(&[("a", 1_000, 100)]).await;
    shop
}

fn admin(shop: &Shop, method: Method, path: &str) -> RequestBuilder {
    shop.http.request(method, format!("http://{}/v1/webhooks{path}", shop.handle.admin())).bearer_auth("admin:ada")
}

async fn hook(shop: &Shop) -> Value {
    admin(shop, Method::GET, "/erp").send().await.unwrap().json().await.unwrap()
}

async fn subscribe(shop: &Shop, receiver: &Receiver, wish: Value) {
    let mut body = json!({"url": format!("http://{}/orders", receiver.address), "secret": "erp"});
    body.as_object_mut().unwrap().extend(wish.as_object().unwrap().clone());
    let answer = admin(shop, Method::PUT, "/erp").json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

async fn bought(shop: &Shop, n: usize) -> String {
    let answer = shop.buy(&format!("buyer{n}"), "a", "k", 1).send().await.unwrap();
    answer.json::<Value>().await.unwrap()["order"].as_str().unwrap().to_owned()
}

async fn cancelled(shop: &Shop, n: usize, order: &str) {
    let answer = shop.post(&format!("buyer{n}"), &format!("/v1/orders/{order}/cancel")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

/// Each order's numbers rise: no step came before one that was made before it.
fn in_order(taken: &BTreeMap<String, Vec<u64>>) {
    for (order, numbers) in taken {
        assert!(numbers.is_sorted(), "{order}: {numbers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_of_every_order_is_told_signed_and_in_order() {
    let (mut shop, receiver) = (open().await, Receiver::start().await);
    bought(&shop, 0).await;
    subscribe(&shop, &receiver, json!({})).await;
    let mut orders = Vec::new();
    for n in 1..=20 {
        orders.push(bought(&shop, n).await);
    }
    cancelled(&shop, 3, &orders[2]).await;
    until("all is told", async || receiver.count() == 21).await;
    in_order(&receiver.taken());
    let told = receiver.heard.lock().iter().find(|e| e["type"] == "order.cancelled").cloned().unwrap();
    assert_eq!(told["data"]["order"], orders[2].as_str());
    assert_eq!(told["data"]["buyer"], "buyer3");
    until("its progress is written", async || hook(&shop).await["behind"] == 0).await;

    // A core that ends lets go of it, and one that starts again goes on where it was.
    shop.stop().await.unwrap();
    shop.restart().await;
    bought(&shop, 21).await;
    until("the next is told", async || receiver.count() == 22).await;

    // From the beginning: also what came before it was subscribed.
    let answer = admin(&shop, Method::POST, "/erp/replay").json(&json!({"from": 0})).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    until("all is told again", async || receiver.count() == 22 + 23).await;

    until("its progress is written", async || hook(&shop).await["behind"] == 0).await;

    // Other kinds, from now on.
    subscribe(&shop, &receiver, json!({"kinds": ["cancelled"]})).await;
    let order = bought(&shop, 22).await;
    cancelled(&shop, 22, &order).await;
    until("the cancelled one is told", async || receiver.taken().get(&order).is_some_and(|n| n.len() == 1)).await;
    assert_eq!(admin(&shop, Method::DELETE, "/erp").send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(problem(admin(&shop, Method::GET, "/erp")).await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_is_refused_holds_up_no_other_and_can_be_replayed() {
    let (shop, receiver) = (open().await, Receiver::start().await);
    let poison = bought(&shop, 0).await;
    let name = poison.clone();
    receiver.feels(move |event| {
        if event["data"]["order"] == name.as_str() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK }
    });
    subscribe(&shop, &receiver, json!({"from": 0})).await;
    for n in 1..=30 {
        bought(&shop, n).await;
    }
    cancelled(&shop, 0, &poison).await;
    until("the others are told", async || receiver.count() == 30).await;
    until("it is given up, and then its next step", async || hook(&shop).await["dead"] == 2).await;
    assert_eq!(hook(&shop).await["waiting"], 0);
    let page: Value =
        admin(&shop, Method::GET, "/erp/dead-letters?limit=1").send().await.unwrap().json().await.unwrap();
    let letter = &page["dead_letters"][0];
    assert_eq!((&letter["order"], &letter["reason"]), (&json!(poison), &json!("answered 422")));

    receiver.feels(|_| StatusCode::OK);
    let again = json!({"dead_letters": true});
    let answer: Value =
        admin(&shop, Method::POST, "/erp/replay").json(&again).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["dead_letters"], 2);
    until("it is told after all", async || receiver.taken().get(&poison).is_some_and(|n| n.len() == 2)).await;
    in_order(&receiver.taken());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_was_away_misses_nothing_and_no_event_dies_of_it() {
    let (mut shop, receiver) = (open().await, Receiver::start().await);
    subscribe(&shop, &receiver, json!({})).await;
    receiver.feels(|_| StatusCode::SERVICE_UNAVAILABLE);
    let mut orders = Vec::new();
    for n in 0..60 {
        orders.push(bought(&shop, n).await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The core dies meanwhile; what it knew is in the database.
    shop.kill_and_restart().await;
    for (n, order) in orders.iter().enumerate().take(20) {
        cancelled(&shop, n, order).await;
    }
    receiver.feels(|_| StatusCode::OK);
    let told =
        || receiver.taken().values().map(|n| n.iter().collect::<std::collections::BTreeSet<_>>().len()).sum::<usize>();
    // The dead core's hold must end first.
    until("everything is told", async || told() == 80).await;
    assert_eq!(hook(&shop).await["dead"], 0);
    in_order(&receiver.taken());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_an_admin_makes_webhooks_and_only_to_where_they_may_go() {
    let shop = open().await;
    let good = json!({"url": "http://127.0.0.1:9/x", "secret": "erp"});
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    for (body, status) in [
        (with("url", json!("https://127.0.0.1/x")), 422),
        (with("url", json!("http://169.254.169.254/latest")), 422),
        (with("url", json!("http://8.8.8.8/")), 422),
        (with("url", json!("x")), 422),
        (with("secret", json!("none")), 422),
        (with("kinds", json!(["lost"])), 422),
        (with("colour", json!("red")), 422),
        (with("from", json!(-1)), 422),
        (json!({"url": "http://127.0.0.1:9/x"}), 422),
        (json!([]), 422),
    ] {
        assert_eq!(problem(admin(&shop, Method::PUT, "/erp").json(&body)).await.0, status, "{body}");
    }
    assert_eq!(problem(admin(&shop, Method::PUT, "/Erp").json(&good)).await.0, 404);
    for (again, status) in
        [(json!({}), 422), (json!({"from": 1, "dead_letters": true}), 422), (json!({"from": 9}), 422)]
    {
        assert_eq!(problem(admin(&shop, Method::POST, "/erp/replay").json(&again)).await.0, status, "{again}");
    }
    assert_eq!(problem(admin(&shop, Method::POST, "/erp/replay").json(&json!({"from": 0}))).await.0, 404);
    let url = format!("http://{}/v1/webhooks/erp", shop.handle.admin());
    for who in ["operator:olga", "merchandiser:mia", "viewer:vic", "shopper:ann"] {
        assert_eq!(problem(shop.http.put(&url).bearer_auth(who).json(&good)).await.0, 403, "{who}");
    }
    let answer = admin(&shop, Method::PUT, "/erp").json(&good).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    let text = admin(&shop, Method::GET, "").send().await.unwrap().text().await.unwrap();
    assert!(text.contains("\"erp\"") && !text.contains(SECRET), "{text}");
}
