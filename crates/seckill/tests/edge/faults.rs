//! What happens around the edge while shoppers ask: the core dies and comes back, Nginx is reloaded and killed, two edges
//! divide, unpaid units come back, one buyer will not stop, the sale is paused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use types::Role;

use crate::crowd::{AGENT, Crowd, purchase};
use crate::place::{PRODUCT, SALE, ask, books_until, calls, has_credits, lines, metric, options, sell, start};
use crate::town::{PATIENCE, Town};

#[tokio::test(flavor = "multi_thread")]
async fn through_deaths_reloads_and_expiry_two_edges_let_through_what_there_is() {
    let units = 60;
    // Nobody pays: what is sold comes back after three seconds, and is sold again.
    let mut town = Town::embedded("reserve_for = \"3s\"");
    sell(&town, &[(PRODUCT, units)]).await;
    let mut edges = [start(&town, &options(&town, "edge-1")), start(&town, &options(&town, "edge-2"))];
    for edge in &edges {
        has_credits(&town, edge, PRODUCT).await;
    }
    // Both know of each other: together they have what there is for one, and at most one more each by rounding.
    let mut sum = 0;
    for edge in &edges {
        let half = |books: &serde_json::Value| books["balance"].as_u64().is_some_and(|n| n <= units + 1);
        sum += books_until(&town, edge, PRODUCT, "the edges divide", half).await["balance"].as_u64().unwrap();
    }
    assert!(sum <= 2 * units + 2, "{sum} credits for {units} units");

    let stop = Arc::new(AtomicBool::new(false));
    let crowd = Crowd {
        issuer: town.issuer(),
        ports: edges.iter().map(testkit::servers::Edge::port).collect(),
        attempts: u64::MAX,
        connections: 64,
        names: "ann",
        buyer: None,
        stop: Some(stop.clone()),
    };
    let crowd = tokio::spawn(crowd.run());
    for round in 0..3 {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        edges[0].reload();
        tokio::time::sleep(Duration::from_millis(500)).await;
        town.kill("house");
        // Its credits end: within a second, by the edge's own clock.
        for edge in &edges {
            let answer = ready(&town, edge, 503).await;
            assert_eq!(answer, 503, "round {round}");
        }
        town.restart("house");
        for edge in &edges {
            assert_eq!(ready(&town, edge, 200).await, 200, "round {round}");
        }
        edges[1].reload();
        if round == 1 {
            edges[1].kill();
            edges[1].restart().unwrap();
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.store(true, Ordering::Relaxed);
    let answers = crowd.await.unwrap();
    eprintln!("answers: {:?}, {} connections cut", answers.counts, answers.cut);

    let mut reached = 0;
    for edge in &edges {
        let calls = calls(edge.access_log());
        eprintln!("calls: {calls:?}");
        reached += calls.iter().filter(|((_, asked), _)| *asked).map(|(_, n)| n).sum::<u64>();
        let rest = |books: &serde_json::Value| books["under_way"] == 0;
        // Killed in the middle, an edge forgets; what it remembers balances.
        let books = books_until(&town, edge, PRODUCT, "no call is under way", rest).await;
        let of = |name: &str| books[name].as_i64().unwrap();
        assert_eq!(of("balance"), of("issued") - of("admitted") + of("returned"), "{books}");
        assert_eq!(of("admitted"), of("returned") + of("spent"), "{books}");
    }
    let orders = orders(&town);
    eprintln!("{reached} calls reached the core for {orders} orders of {units} units");
    assert!(orders > units, "units that came back were sold again");
    assert!(answers.bought.len() as u64 <= orders, "nobody was told of an order that is not there");
    assert!(reached <= 3 * orders, "{reached} calls for {orders} orders");
    eprintln!("{}", town.run(&["audit"]));
}

async fn ready(town: &Town, edge: &testkit::servers::Edge, wanted: u16) -> u16 {
    let url = format!("http://127.0.0.1:{}/readyz", edge.private_port());
    let began = Instant::now();
    let mut last = 0;
    while began.elapsed() < PATIENCE && last != wanted {
        if let Ok(answer) = town.http.get(&url).send().await {
            last = answer.status().as_u16();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    last
}

/// Orders in the store.
fn orders(town: &Town) -> u64 {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let store = rusqlite::Connection::open_with_flags(town.data().join("core/stock.sqlite"), flags).unwrap();
    store.query_row("SELECT count(*) FROM orders", [], |row| row.get::<_, i64>(0)).unwrap() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn one_buyer_who_is_refused_again_and_again_takes_nothing_from_others() {
    let units = 10;
    let town = Town::embedded("");
    sell(&town, &[(PRODUCT, units)]).await;
    let edge = start(&town, &options(&town, "edge-1"));
    has_credits(&town, &edge, PRODUCT).await;
    let began = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let spam = Crowd {
        issuer: town.issuer(),
        ports: vec![edge.port()],
        attempts: u64::MAX,
        connections: 16,
        names: "spam",
        buyer: Some("sam"),
        stop: Some(stop.clone()),
    };
    let spam = tokio::spawn(spam.run());
    tokio::time::sleep(Duration::from_secs(2)).await;
    // The others come one after another and are served at their first or second call.
    let mut bought = 0;
    for n in 0..units - 1 {
        let token = town.token(&format!("ben-{n}"), &[Role::Shopper]);
        let began = Instant::now();
        loop {
            let (status, body) = ask(&edge, &purchase(&token, "k")).await.unwrap();
            if status == 201 {
                bought += 1;
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{status} {body}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let answers = spam.await.unwrap();
    let seconds = began.elapsed().as_secs() + 2;
    eprintln!("the spammer's answers in {seconds} s: {:?}", answers.counts);
    assert_eq!((bought, answers.of(201)), (units - 1, 1));
    assert!(answers.of(409) > 0, "he met his limit");
    let calls = calls(edge.access_log());
    let reached: u64 = calls.iter().filter(|((_, asked), _)| *asked).map(|(_, n)| n).sum();
    eprintln!("{} calls, {reached} reached the core", calls.values().sum::<u64>());
    // Five a second are his; all else is refused before it costs a credit.
    assert!(reached <= 3 * units + 5 * seconds, "{reached} in {seconds} s");
    assert_eq!(orders(&town), units);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_reaches_every_edge_and_nothing_passes_until_it_ends() {
    let town = Town::embedded("");
    sell(&town, &[(PRODUCT, 10_000)]).await;
    let edges = [start(&town, &options(&town, "edge-1")), start(&town, &options(&town, "edge-2"))];
    for edge in &edges {
        has_credits(&town, edge, PRODUCT).await;
    }
    let mut buyer = 0;
    let mut next = || {
        buyer += 1;
        purchase(&town.token(&format!("ann-{buyer}"), &[Role::Shopper]), "k")
    };
    for edge in &edges {
        assert_eq!(ask(edge, &next()).await.unwrap().0, 201);
    }
    let operator = town.token("olga", &[Role::Operator]);
    let mut slowest = Duration::ZERO;
    for round in 0..5 {
        let call = |what: &str| {
            town.http.post(town.url("admin", &format!("/v1/sales/{SALE}/{what}"))).bearer_auth(&operator).send()
        };
        let began = Instant::now();
        let answer = call("pause").await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        for edge in &edges {
            let closed = |books: &serde_json::Value| books["described"].as_str().unwrap().starts_with("paused|");
            books_until(&town, edge, PRODUCT, "the edge knows of the pause", closed).await;
            let took = began.elapsed();
            slowest = slowest.max(took);
            let (status, body) = ask(edge, &next()).await.unwrap();
            assert_eq!((status, body.contains("/problems/paused")), (503, true), "round {round}: {body}");
        }
        let answer = call("resume").await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        for edge in &edges {
            let open = |books: &serde_json::Value| {
                books["described"].as_str().unwrap().starts_with("open|") && books["balance"].as_i64().unwrap() > 0
            };
            books_until(&town, edge, PRODUCT, "the edge knows of the end", open).await;
            assert_eq!(ask(edge, &next()).await.unwrap().0, 201, "round {round}");
        }
    }
    eprintln!("slowest of five pauses at both edges: {slowest:?}");
    // Paused calls were refused at the edge and reached no core.
    for edge in &edges {
        assert_eq!(metric(&town, edge, "seckill_edge_refusals_total{reason=\"paused\"}", 5).await, 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_loses_no_request() {
    let town = Town::embedded("");
    sell(&town, &[(PRODUCT, 5)]).await;
    let edge = start(&town, &options(&town, "edge-1"));
    has_credits(&town, &edge, PRODUCT).await;
    let done = Arc::new(AtomicBool::new(false));
    let mut askers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (done, port) = (done.clone(), edge.port());
        askers.spawn(async move {
            let call = format!(
                "GET /v1/products/{PRODUCT} HTTP/1.1\r\nHost: shop\r\nUser-Agent: {AGENT}\r\nConnection: close\r\n\r\n"
            );
            let mut answered = 0u64;
            while !done.load(Ordering::Relaxed) {
                let answer = crate::place::ask_port(port, &call).await;
                assert!(matches!(answer, Some((200, _))), "after {answered}: {answer:?}");
                answered += 1;
            }
            answered
        });
    }
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        edge.reload();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    done.store(true, Ordering::Relaxed);
    let mut answered = 0;
    while let Some(one) = askers.join_next().await {
        answered += one.unwrap();
    }
    eprintln!("{answered} requests, ten reloads");
    assert!(edge.said().contains("exiting") || edge.said().contains("gracefully"), "it was reloaded");
    let logged = lines(edge.access_log()).iter().filter(|l| l["uri"] == format!("/v1/products/{PRODUCT}")).count();
    assert_eq!(logged as u64, answered, "each has its line");
}
